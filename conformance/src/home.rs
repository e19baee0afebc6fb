//! Where the suite's files are: topologies, adapters, baselines.

use std::path::{Path, PathBuf};

/// The folder of this crate in the checkout: read at run time, so that a test archive works in another checkout.
pub fn crate_folder() -> PathBuf {
    let at_run_time = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    at_run_time
        .filter(|folder| folder.join("implementations").is_dir())
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")))
}

/// The checkout.
pub fn checkout() -> PathBuf {
    let folder = crate_folder();
    folder
        .parent()
        .map_or_else(|| folder.clone(), Path::to_path_buf)
}

/// The file of a topology of `topologies/`, named without its ending.
pub fn topology_file(name: &str) -> PathBuf {
    checkout().join("topologies").join(format!("{name}.yaml"))
}
