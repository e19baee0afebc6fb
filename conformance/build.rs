//! Makes two tables of the requirement catalogue: the file texts, so that the program needs no checkout to know them,
//! and the sorted ids, so that a case that names an unknown id does not compile.

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
