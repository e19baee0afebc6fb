//! Whether programs of a checkout are up to date, read from what cargo wrote beside them.
//!
//! Asking cargo instead would take its lock, and, where `cargo test` chose other features for dependencies than `cargo build`
//! does, would put other builds of the programs in place while tests are running them.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Whether each of these programs is in `folder` (a cargo profile's folder) and is newer than all that it was made from: the
/// files of its dependency list (`NAME.d`), the manifests and the lock file of `checkout`.
///
/// What cannot be told is not up to date: then cargo decides.
pub(super) fn up_to_date<'a>(
    folder: &Path,
    checkout: &Path,
    programs: impl IntoIterator<Item = &'a str>,
) -> bool {
    let Some(manifests) = newest_manifest(checkout) else {
        return false;
    };
    programs.into_iter().all(|name| {
        let Some(built) = modified(&folder.join(name)) else {
            return false;
        };
        let Ok(list) = std::fs::read_to_string(folder.join(format!("{name}.d"))) else {
            return false;
        };
        let sources = sources(&list);
        manifests <= built
            && !sources.is_empty()
            && sources.iter().all(|source| {
                source.starts_with(checkout) && modified(source).is_some_and(|at| at <= built)
            })
    })
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

/// When the lock file or a manifest of the workspace changed last.
fn newest_manifest(checkout: &Path) -> Option<SystemTime> {
    let mut newest =
        modified(&checkout.join("Cargo.lock"))?.max(modified(&checkout.join("Cargo.toml"))?);
    for entry in std::fs::read_dir(checkout).ok()?.flatten() {
        if let Some(at) = modified(&entry.path().join("Cargo.toml")) {
            newest = newest.max(at);
        }
    }
    Some(newest)
}

/// The files on the right of the first rule of a dependency list, in which a space within a name is written `\ `.
fn sources(list: &str) -> Vec<PathBuf> {
    let rule = list.lines().next().unwrap_or_default();
    let Some((_, files)) = rule.split_once(": ") else {
        return Vec::new();
    };
    let mut names = vec![String::new()];
    let mut letters = files.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if letters.peek() == Some(&' ') => {
                letters.next();
                if let Some(name) = names.last_mut() {
                    name.push(' ');
                }
            }
            ' ' => names.push(String::new()),
            _ => {
                if let Some(name) = names.last_mut() {
                    name.push(letter);
                }
            }
        }
    }
    names
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::Duration;

    use super::*;

    /// A checkout with one crate `a b` and the program `router` built from it an hour after.
    fn checkout() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("a b/src")).unwrap();
        fs::create_dir_all(at("target/debug")).unwrap();
        for path in [
            "Cargo.toml",
            "Cargo.lock",
            "a b/Cargo.toml",
            "a b/src/main.rs",
        ] {
            fs::write(at(path), "").unwrap();
            set(&at(path), 1000);
        }
        fs::write(at("target/debug/router"), "").unwrap();
        set(&at("target/debug/router"), 4600);
        let list = format!(
            "{}: {}\n",
            at("target/debug/router").display(),
            at("a b/src/main.rs")
                .display()
                .to_string()
                .replace(' ', "\\ ")
        );
        fs::write(at("target/debug/router.d"), list).unwrap();
        let folder = at("target/debug");
        (root, folder)
    }

    fn set(path: &Path, seconds: u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }

    #[test]
    fn newer_than_all_that_it_was_made_from() {
        let (root, folder) = checkout();
        assert!(up_to_date(&folder, root.path(), ["router"]));
        for path in [
            "a b/src/main.rs",
            "a b/Cargo.toml",
            "Cargo.toml",
            "Cargo.lock",
        ] {
            set(&root.path().join(path), 5000);
            assert!(!up_to_date(&folder, root.path(), ["router"]), "{path}");
            set(&root.path().join(path), 1000);
        }
        assert!(up_to_date(&folder, root.path(), ["router"]));
    }

    #[test]
    fn what_cannot_be_told_is_cargos_to_decide() {
        let (root, folder) = checkout();
        assert!(!up_to_date(&folder, root.path(), ["router", "another"]));
        assert!(!up_to_date(&folder, Path::new("/elsewhere"), ["router"]));
        fs::remove_file(root.path().join("a b/src/main.rs")).unwrap();
        assert!(!up_to_date(&folder, root.path(), ["router"]));
        fs::write(folder.join("router.d"), "no rule").unwrap();
        assert!(!up_to_date(&folder, root.path(), ["router"]));
    }
}
