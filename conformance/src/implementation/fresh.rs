//! Whether the programs of a checkout are up to date.
//!
//! Asking cargo instead would take its lock, and, where `cargo test` chose other features for dependencies than `cargo build`
//! does, would put other builds of the programs in place while tests are running them. Cargo's own lists of what a program
//! was made from cannot be relied on: `cargo test` does not write those of the programs that it builds for tests.

use std::path::Path;
use std::time::SystemTime;

/// Whether each of these programs is in `folder` (a cargo profile's folder) and is newer than the lock file, the manifests and
/// the sources of every crate of `checkout`, but for `own`, the folder of the crate that asks: no program of another is made
/// from it.
///
/// What cannot be told is not up to date: then cargo decides.
pub(super) fn up_to_date<'a>(
    folder: &Path,
    checkout: &Path,
    own: &str,
    programs: impl IntoIterator<Item = &'a str>,
) -> bool {
    let Some(newest) = newest_source(checkout, own) else {
        return false;
    };
    programs
        .into_iter()
        .all(|name| modified(&folder.join(name)).is_some_and(|built| newest <= built))
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

/// When what programs are made from changed last.
fn newest_source(checkout: &Path, own: &str) -> Option<SystemTime> {
    let mut newest =
        modified(&checkout.join("Cargo.lock"))?.max(modified(&checkout.join("Cargo.toml"))?);
    for entry in std::fs::read_dir(checkout).ok()? {
        let entry = entry.ok()?;
        let member = entry.path();
        let Some(manifest) = modified(&member.join("Cargo.toml")) else {
            continue;
        };
        if entry.file_name() == own {
            continue;
        }
        newest = newest.max(manifest).max(newest_below(&member.join("src"))?);
        if let Some(script) = modified(&member.join("build.rs")) {
            newest = newest.max(script);
        }
    }
    Some(newest)
}

/// When a file below a folder changed last. Folders themselves do not count: a copy of a checkout makes them anew.
fn newest_below(folder: &Path) -> Option<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in std::fs::read_dir(folder).ok()? {
        let entry = entry.ok()?;
        let path = entry.path();
        let changed = if entry.file_type().ok()?.is_dir() {
            newest_below(&path)?
        } else {
            modified(&path)?
        };
        newest = newest.max(changed);
    }
    Some(newest)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    const SOURCES: [&str; 4] = [
        "Cargo.toml",
        "Cargo.lock",
        "a b/Cargo.toml",
        "a b/src/part/deep.rs",
    ];

    /// A checkout with the crates `a b` and `own`, and the program `router` built from it an hour after.
    fn checkout() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in ["a b/src/part", "own/src", "docs", "target/debug"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for path in ["own/Cargo.toml", "own/src/lib.rs", "target/debug/router"] {
            fs::write(at(path), "").unwrap();
        }
        for path in SOURCES {
            fs::write(at(path), "").unwrap();
            set(&at(path), 1000);
        }
        set(&at("target/debug/router"), 4600);
        let folder = at("target/debug");
        (root, folder)
    }

    fn set(path: &Path, seconds: u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn newer_than_all_that_it_was_made_from() {
        let (root, folder) = checkout();
        assert!(up_to_date(&folder, root.path(), "own", ["router"]));
        for path in SOURCES {
            set(&root.path().join(path), 5000);
            assert!(
                !up_to_date(&folder, root.path(), "own", ["router"]),
                "{path}"
            );
            set(&root.path().join(path), 1000);
        }
        assert!(up_to_date(&folder, root.path(), "own", ["router"]));
        // The crate that asks was written just now.
        assert!(!up_to_date(&folder, root.path(), "another", ["router"]));
    }

    #[test]
    fn what_cannot_be_told_is_cargos_to_decide() {
        let (root, folder) = checkout();
        assert!(!up_to_date(
            &folder,
            root.path(),
            "own",
            ["router", "another"]
        ));
        assert!(!up_to_date(
            &folder,
            Path::new("/elsewhere"),
            "own",
            ["router"]
        ));
        fs::remove_dir_all(root.path().join("a b/src")).unwrap();
        assert!(!up_to_date(&folder, root.path(), "own", ["router"]));
    }
}
