//! Where the suite's files are: topologies, adapters, baselines.
//!
//! In a checkout they are read from it, so that a change of a file needs no new build. Elsewhere (a test archive on a machine
//! without sources, an installed program) the program unpacks those that it was built with.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

/// Path in the checkout, and text.
const CARRIED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/carried_files.rs"));

/// The folder of this crate in the checkout, or what stands in for it where there is none.
pub fn crate_folder() -> PathBuf {
    root().join("conformance")
}

/// The checkout, where there is one: the one that cargo or nextest names at run time, so that a test archive works in another
/// checkout, or else the one that the program was built from.
pub fn checkout() -> Option<&'static Path> {
    static CHECKOUT: OnceLock<Option<PathBuf>> = OnceLock::new();
    CHECKOUT
        .get_or_init(|| {
            let at_run_time = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
            at_run_time
                .into_iter()
                .chain([PathBuf::from(env!("CARGO_MANIFEST_DIR"))])
                .filter(|folder| folder.join("implementations").is_dir())
                .find_map(|folder| Some(folder.parent()?.to_owned()))
        })
        .as_deref()
}

/// The folder of the shipped scenarios.
pub fn scenarios() -> PathBuf {
    root().join("scenarios")
}

/// The folder of the topologies.
pub fn topologies() -> PathBuf {
    root().join("topologies")
}

/// The file of a topology of `topologies/`, named without its ending.
pub fn topology_file(name: &str) -> PathBuf {
    root().join("topologies").join(format!("{name}.yaml"))
}

fn root() -> PathBuf {
    static UNPACKED: OnceLock<PathBuf> = OnceLock::new();
    if let Some(checkout) = checkout() {
        return checkout.to_owned();
    }
    let unpacked = UNPACKED.get_or_init(|| {
        // Where it cannot be written, opening the file that is wanted says so.
        let folder = std::env::temp_dir().join(name());
        unpack(&folder).unwrap_or(folder)
    });
    unpacked.clone()
}

/// One folder for each user and for each content.
fn name() -> String {
    let mut hash = Sha256::new();
    for (path, text) in CARRIED {
        hash.update(format!("{path}\n{}\n{text}", text.len()));
    }
    let digest = hash.finalize();
    let digest: String = digest[..8]
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    format!("lisplab-data-{}-{digest}", nix::unistd::geteuid())
}

/// Unpacks into `wanted`, whole or not at all: other processes may do the same at the same time, and what one leaves that is
/// killed, the next one completes. If `wanted` is somebody else's, it stays in the folder beside it.
fn unpack(wanted: &Path) -> io::Result<PathBuf> {
    let is_ours =
        |found: &fs::Metadata| found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw();
    let ours = |folder: &Path| fs::symlink_metadata(folder).is_ok_and(|found| is_ours(&found));
    let new = wanted.with_extension("new");
    let folder = loop {
        if ours(wanted) {
            return Ok(wanted.to_owned());
        }
        match fs::DirBuilder::new().mode(0o700).create(&new) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        match fs::symlink_metadata(&new) {
            Ok(found) if !is_ours(&found) => return Err(io::ErrorKind::PermissionDenied.into()),
            _ => {}
        }
        match fs::File::open(&new) {
            // It has got its name just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            folder => break folder?,
        }
    };
    let _lock = Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    if ours(wanted) {
        // Whoever had the lock has done it. If this folder came after that, it is empty.
        let _ = fs::remove_dir(&new);
        return Ok(wanted.to_owned());
    }
    for (path, text) in CARRIED {
        let path = new.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // Where the folder stays here, others may be reading.
        if fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
            continue;
        }
        fs::write(path, text)?;
    }
    if fs::rename(&new, wanted).is_ok() {
        return Ok(wanted.to_owned());
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_what_the_checkout_holds() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = folder.path().join("data");
        let unpacked = unpack(&wanted).unwrap();
        assert_eq!(
            (&unpacked, unpack(&wanted).unwrap()),
            (&wanted, wanted.clone())
        );
        for name in [
            "topologies/two-sites.yaml",
            "conformance/implementations/lisplab.yaml",
            "conformance/implementations/lisplab/xtr.yaml.j2",
        ] {
            assert_eq!(
                fs::read(unpacked.join(name)).unwrap(),
                fs::read(checkout().unwrap().join(name)).unwrap()
            );
        }
    }

    #[test]
    fn what_a_killed_process_left_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = folder.path().join("data");
        let half = folder.path().join("data.new/topologies");
        fs::create_dir_all(&half).unwrap();
        fs::write(half.join("two-sites.yaml"), "format").unwrap();
        let unpacked: Vec<PathBuf> = std::thread::scope(|scope| {
            let wanted = &wanted;
            let all = [(); 4].map(|()| scope.spawn(move || unpack(wanted).unwrap()));
            all.map(|one| one.join().unwrap()).to_vec()
        });
        assert!(
            unpacked.iter().all(|folder| *folder == wanted),
            "{unpacked:?}"
        );
        assert_eq!(
            fs::read(wanted.join("topologies/two-sites.yaml")).unwrap(),
            fs::read(checkout().unwrap().join("topologies/two-sites.yaml")).unwrap()
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_of_somebody_else_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let (wanted, theirs) = (folder.path().join("data"), folder.path().join("theirs"));
        fs::create_dir(&theirs).unwrap();
        std::os::unix::fs::symlink(&theirs, &wanted).unwrap();
        let unpacked = unpack(&wanted).unwrap();
        assert!(unpacked != wanted && unpacked.join("topologies").is_dir());
        assert_eq!(fs::read_dir(&theirs).unwrap().count(), 0);
    }
}
