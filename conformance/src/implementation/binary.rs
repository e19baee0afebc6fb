//! Finding the programs: beside our executable, in PATH, or built by cargo where we run from a checkout.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::adapter::Program;

/// A program that cannot be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BinaryError(pub String);

/// A program that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its absolute path.
    pub path: PathBuf,
}

/// What became of building our own programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Build {
    /// cargo brought them up to date.
    Done,
    /// There is no cargo or no checkout here: what is there is used as it is.
    NotHere,
    /// cargo failed.
    Failed(String),
}

impl Found {
    /// Looks a program up.
    ///
    /// # Errors
    /// Where it was looked for.
    pub fn of(program: &Program) -> Result<Found, BinaryError> {
        Found::named(&program.binary)
    }

    /// Looks up a program by its path, or by its name.
    ///
    /// # Errors
    /// Where it was looked for.
    pub fn named(binary: &str) -> Result<Found, BinaryError> {
        let name = Path::new(binary);
        if name.components().count() > 1 {
            let path = std::path::absolute(name).map_err(|error| BinaryError(error.to_string()))?;
            if path.is_file() {
                return Ok(Found { path });
            }
            return Err(BinaryError(format!(
                "there is no program {}",
                path.display()
            )));
        }
        let mut folders: Vec<PathBuf> = Vec::new();
        if let Some(folder) = target_folder() {
            folders.push(folder);
        }
        folders.extend(
            std::env::var_os("PATH")
                .iter()
                .flat_map(std::env::split_paths),
        );
        for folder in &folders {
            let path = folder.join(name);
            if path.is_file() {
                return Ok(Found { path });
            }
        }
        let beside = target_folder().map_or_else(String::new, |folder| {
            format!("neither in {} nor ", folder.display())
        });
        Err(BinaryError(format!(
            "the program {binary} is {beside}in PATH; build it (cargo build --workspace --bins) or give its path in the adapter"
        )))
    }
}

/// Brings those programs up to date that are binary targets of this checkout, once per process (and once per run of
/// `cargo nextest`, which starts a process for each case).
pub fn build_from_checkout<'a>(programs: impl IntoIterator<Item = &'a Program>) -> &'static Build {
    static BUILD: OnceLock<Build> = OnceLock::new();
    BUILD.get_or_init(|| {
        let wanted: Vec<&str> = programs
            .into_iter()
            .filter(|program| program.cargo_package.is_some())
            .map(|program| program.binary.as_str())
            .collect();
        if wanted.is_empty() {
            Build::NotHere
        } else {
            build(&wanted)
        }
    })
}

fn build(programs: &[&str]) -> Build {
    let (Some(folder), Some(checkout)) = (target_folder(), crate::home::checkout()) else {
        return Build::NotHere;
    };
    let (Some(profile), Some(target)) = (folder.file_name(), folder.parent()) else {
        return Build::NotHere;
    };
    // Cargo puts this mark into its target folders. What a test archive was unpacked into has none, and is complete.
    if !target.join("CACHEDIR.TAG").is_file() {
        return Build::NotHere;
    }
    // The crate's folder has its name.
    let own = env!("CARGO_PKG_NAME");
    if super::fresh::up_to_date(&folder, checkout, own, programs.iter().copied()) {
        return Build::Done;
    }
    let stamp = std::env::var_os("NEXTEST_RUN_ID").map(|run| {
        let mut name = std::ffi::OsString::from(STAMP);
        name.push(run);
        folder.join(name)
    });
    let _turn = stamp
        .as_ref()
        .and_then(|stamp| wait_for_turn(&stamp.with_extension("lock")));
    if stamp.as_ref().is_some_and(|stamp| stamp.exists()) {
        return Build::Done;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // The whole workspace, not only the packages that are wanted: which packages are chosen decides which features their
    // dependencies have, and another choice than the user's own command made would compile everything once more.
    command
        .args(["build", "--quiet", "--workspace", "--bins"])
        .arg("--manifest-path")
        .arg(checkout.join("Cargo.toml"));
    command.arg("--target-dir").arg(target);
    if profile == "release" {
        command.arg("--release");
    }
    match command.output() {
        Err(_) => Build::NotHere,
        Ok(output) if output.status.success() => {
            if let Some(stamp) = stamp {
                remove_old_stamps(&folder);
                // Without the stamp the next process only asks cargo again.
                let _ = std::fs::write(stamp, []);
            }
            Build::Done
        }
        Ok(output) => Build::Failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// The programs are up to date for the run of nextest whose id follows.
const STAMP: &str = ".lisplab-built-";

/// Stamps of earlier runs. One that still goes on asks cargo once more.
fn remove_old_stamps(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let old = entry
            .metadata()
            .and_then(|found| found.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() > 3600));
        if old && entry.file_name().to_string_lossy().starts_with(STAMP) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn wait_for_turn(lock: &Path) -> Option<nix::fcntl::Flock<std::fs::File>> {
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(lock)
        .ok()?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).ok()
}

/// The folder of our executable, or, for a test executable, the one above `deps`.
fn target_folder() -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    let folder = executable.parent()?;
    if folder.file_name().is_some_and(|name| name == "deps") {
        return folder.parent().map(Path::to_path_buf);
    }
    Some(folder.to_path_buf())
}
