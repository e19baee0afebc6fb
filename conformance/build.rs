//! Makes two tables of the requirement catalogue: the file texts, so that the program needs no checkout to know them,
//! and the sorted ids, so that a case that names an unknown id does not compile. And one of the files that the suite reads at
//! run time (topologies, adapters, baselines), for where there is no checkout.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    let root =
        PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let folder = root.join("requirements");
    println!("cargo::rerun-if-changed={}", folder.display());

    let files = yaml_files(&folder);
    let mut ids = Vec::new();
    let mut sources = String::from("&[\n");
    for file in &files {
        let text = std::fs::read_to_string(file).expect("a catalogue file is readable");
        let name = file
            .file_name()
            .expect("a file has a name")
            .to_string_lossy();
        ids.extend(
            text.lines()
                .filter_map(|line| line.strip_prefix("- id: "))
                .map(|id| id.trim().to_owned()),
        );
        writeln!(sources, "({name:?}, include_str!({:?})),", file.display())
            .expect("a String takes all");
    }
    sources.push(']');
    ids.sort();

    let mut table = String::from("&[\n");
    for id in &ids {
        writeln!(table, "{id:?},").expect("a String takes all");
    }
    table.push(']');
    std::fs::write(out.join("catalogue_sources.rs"), sources).expect("OUT_DIR is writable");
    std::fs::write(out.join("catalogue_ids.rs"), table).expect("OUT_DIR is writable");
    std::fs::write(out.join("carried_files.rs"), carried(&root)).expect("OUT_DIR is writable");
}

/// `(path in the checkout, text)` of every file that is read at run time.
fn carried(root: &Path) -> String {
    let checkout = root.parent().expect("the crate is in the checkout");
    let mut table = String::from("&[\n");
    for folder in [
        "topologies",
        "scenarios",
        "conformance/implementations",
        "conformance/baselines",
    ] {
        let folder = checkout.join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        for file in all_files(&folder) {
            let inside = file.strip_prefix(checkout).expect("it was found there");
            writeln!(
                table,
                "({:?}, include_str!({:?})),",
                inside.display().to_string(),
                file.display().to_string()
            )
            .expect("a String takes all");
        }
    }
    table.push(']');
    table
}

/// All files below a folder, sorted; none if there is no such folder.
fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("the folder is readable").path();
        if path.is_dir() {
            files.extend(all_files(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("conformance/requirements exists")
        .map(|entry| entry.expect("the folder is readable").path())
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    files.sort();
    files
}
