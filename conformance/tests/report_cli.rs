//! `lisplab report` and `lisplab graph` as programs: what they write and how they end.

mod report_support;

use report_support::Samples;
use std::path::Path;
use std::process::{Command, Output};

fn lisplab(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lisplab"))
        .args(arguments)
        .output()
        .expect("lisplab can be started")
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

#[test]
fn report_writes_what_is_asked_for_and_ends_with_1_on_a_surprise() {
    let samples = Samples::new();
    let (page, xml) = (samples.path("r.html"), samples.path("j.xml"));
    let (ours, theirs) = (samples.path("lisplab"), samples.path("other"));
    let arguments = [
        "report".as_ref(),
        &*ours,
        &*theirs,
        "--html".as_ref(),
        &*page,
        "--junit".as_ref(),
        &*xml,
    ];
    let output = lisplab(&arguments);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "", "no table is asked for");
    let first = std::fs::read_to_string(&page).unwrap();
    assert!(
        first.contains("href=\"lisplab/rfc6830--s5_3--outer_header/\""),
        "links are relative to the page"
    );
    assert!(
        std::fs::read_to_string(&xml)
            .unwrap()
            .contains("<testsuite name=\"other edition 6830\"")
    );

    let turned = [
        "report".as_ref(),
        &*theirs,
        &*ours,
        "--html".as_ref(),
        &*page,
    ];
    lisplab(&turned);
    assert_eq!(
        first,
        std::fs::read_to_string(&page).unwrap(),
        "the order of the runs changes nothing"
    );
}

#[test]
fn report_of_no_run_is_an_input_error() {
    let output = lisplab(&["report".as_ref(), "/no/such/run".as_ref()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("hint:"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn graph_draws_every_topology_that_is_shipped() {
    let topologies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../topologies");
    let mut drawn = 0;
    for entry in std::fs::read_dir(topologies).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let picture = lisplab(&["graph".as_ref(), &file]);
        assert_eq!(
            picture.status.code(),
            Some(0),
            "{}: {}",
            file.display(),
            text(&picture.stderr)
        );
        assert!(text(&picture.stdout).starts_with("<svg "));
        let words = lisplab(&["graph".as_ref(), &file, "--mermaid".as_ref()]);
        assert!(text(&words.stdout).contains("flowchart LR"));
        drawn += 1;
    }
    assert!(drawn > 0);
}

#[test]
fn graph_of_a_broken_topology_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.yaml");
    std::fs::write(
        &file,
        "format: 1\nname: x\nnodes: {a: {kind: cloud}}\nlinks: {}\n",
    )
    .unwrap();
    let output = lisplab(&["graph".as_ref(), &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("broken.yaml:3:"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(text(&output.stdout), "");
}
