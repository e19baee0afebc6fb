//! The program as its users meet it on the command line: what it prints, and its exit codes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::Path;
use std::process::{Command, Output};

const GOOD: &str = "roles: [pitr, petr]\nrlocs: [192.0.2.40]\naggregates: [203.0.113.0/24]\n\
                    petr-sources: [{prefix: 203.0.113.0/24}]\nmap-resolvers: [198.51.100.10]\n";

fn pxtr(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pxtr"))
        .args(arguments)
        .output()
        .unwrap()
}

/// `pxtr check` of a file with this text.
fn check(text: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pxtr.yaml");
    std::fs::write(&file, text).unwrap();
    let output = pxtr(&["--config", &file.display().to_string(), "check"]);
    (output.status.code(), said(&output, folder.path()))
}

/// Both outputs, with the folder's name cut out.
fn said(output: &Output, folder: &Path) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(text)
        .unwrap()
        .replace(&format!("{}/", folder.display()), "")
}

#[test]
fn a_good_configuration_is_good() {
    let (code, said) = check(GOOD);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_broken_one_is_told_with_its_place_and_code_2() {
    for (text, place) in [
        ("", "pxtr.yaml"),
        ("roles: [pitr]\n", "pxtr.yaml:1:1"),
        (&GOOD.replace("petr]", "pter]"), "pxtr.yaml:1:15"),
        (&GOOD.replace("rlocs", "rloks"), "pxtr.yaml:2:1"),
        (&GOOD.replace("192.0.2.40", "192.0.2.400"), "pxtr.yaml:2:9"),
        // A locator inside an aggregate: encapsulated packets would be attracted again.
        (
            &GOOD.replace("192.0.2.40", "203.0.113.40"),
            "pxtr.yaml:3:14",
        ),
        (&GOOD.replace("113.0/24]", "113.0/33]"), "pxtr.yaml:3:14"),
    ] {
        let (code, said) = check(text);
        assert_eq!(code, Some(2), "{text}: {said}");
        assert!(said.contains(place), "{place} in {said} of {text}");
    }
}

#[test]
fn the_schema_needs_no_configuration() {
    let output = pxtr(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["required"], serde_json::json!(["roles", "rlocs"]));
}

#[test]
fn a_daemon_that_does_not_run_and_wrong_usage_are_told_apart_from_findings() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("none.sock").display().to_string();
    for (arguments, code) in [
        (&["--socket", &socket, "show", "petr"][..], 3),
        (&["--socket", &socket, "show", "nothing"], 2),
        (&["--config", &socket], 2),
        (&["show", "--json"], 2),
        (&[], 2),
    ] {
        let output = pxtr(arguments);
        let said = said(&output, folder.path());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(!said.is_empty(), "{arguments:?}");
    }
}
