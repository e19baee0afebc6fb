//! Makes two tables of the requirement catalogue: the file texts, so that the program needs no checkout to know them,
//! and the sorted ids, so that a case that names an unknown id does not compile. And one of the files that the suite reads at
//! run time (topologies, adapters, baselines), for where there is no checkout.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    let root =
        PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    // Paths in what cargo is told are relative, and those in what is compiled hang on a variable that cargo watches: a target
    // folder that is moved or copied with its checkout stays of use.
    println!("cargo::rerun-if-changed=requirements");

    let files = yaml_files(&root.join("requirements"));
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
        let from_here = format!("/requirements/{name}");
        writeln!(sources, "({name:?}, {}),", include(&from_here)).expect("a String takes all");
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
        // A folder that is not there would be changed for ever, and all that is made from it built each time.
        let path = checkout.join(folder);
        assert!(path.is_dir(), "there is no folder {}", path.display());
        println!("cargo::rerun-if-changed=../{folder}");
        for file in all_files(&path) {
            let inside = file.strip_prefix(checkout).expect("it was found there");
            let inside = inside.display().to_string();
            let from_here = format!("/../{inside}");
            writeln!(table, "({inside:?}, {}),", include(&from_here)).expect("a String takes all");
        }
    }
    table.push(']');
    table
}

/// The expression that is the text of a file, given by its path from the crate's folder.
fn include(from_here: &str) -> String {
    format!("include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {from_here:?}))")
}

/// All files below a folder, sorted.
fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is readable") {
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
