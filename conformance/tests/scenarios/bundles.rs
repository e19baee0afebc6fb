//! Bundles as their users meet them: made by a failing run, shown, replayed, refused.

#![allow(
    clippy::unwrap_used,
    reason = "tests, though in a test binary with a main of its own"
)]

use std::path::Path;
use std::process::{Command, Output};

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "bundles::a_failing_scenario_is_replayed",
        a_failing_scenario_is_replayed,
    ),
    (
        "bundles::what_names_the_machine_stays_here",
        what_names_the_machine_stays_here,
    ),
    (
        "bundles::bad_input_ends_with_2_and_leaves_nothing",
        bad_input_ends_with_2_and_leaves_nothing,
    ),
];

const FAILS: &str = "format: 1
name: fails
title: The legacy host answers, which it does not.
topology: two-sites
steps:
  - ping: {from: host-a, to: host-b, answered: true}
  - exec: {node: host-a, command: [sh, -c, 'echo $HOME $USER']}
  # /tmp/secret-home in a packet.
  - send: {from: legacy, destination: 192.0.2.2, payload: 2f746d702f7365637265742d686f6d65}
expectations:
  - name: it answers
    eventually: {within: 200ms, packet: {type: echo-reply, from: legacy}}
";

/// Runs lisplab in a folder, as a user whose name and home are known.
fn lisplab(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lisplab"))
        .args(arguments)
        .current_dir(folder)
        .env("HOME", "/tmp/secret-home")
        .env("USER", "secret-user")
        .env("LOGNAME", "secret-user")
        .env_remove("LISPLAB_REQUIRE_TSHARK")
        .output()
        .unwrap()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A folder with a bundle of a failed run in it.
fn failed() -> (tempfile::TempDir, &'static str) {
    let folder = tempfile::Builder::new()
        .prefix("secret-cwd")
        .tempdir()
        .unwrap();
    std::fs::write(folder.path().join("fails.yaml"), FAILS).unwrap();
    let run = lisplab(folder.path(), &["run", "fails.yaml", "--out", "out"]);
    assert_eq!(code(&run), Some(1), "{}", said(&run));
    (folder, "out/scenario.fails.lisplab.tgz")
}

fn a_failing_scenario_is_replayed() {
    let (folder, bundle) = failed();
    let folder = folder.path();
    let shown = lisplab(folder, &["bundle", "show", bundle, "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["manifest"]["case"], "scenario::fails");
    assert_eq!(shown["result"]["verdict"], "fail");
    assert_eq!(
        shown["manifest"]["masked_packets"]
            .as_array()
            .unwrap()
            .len(),
        4
    );

    // It would run a command: only when told so.
    let refused = lisplab(folder, &["replay", bundle, "--out", "again"]);
    assert_eq!(code(&refused), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("echo $HOME") && !folder.join("again").exists());
    let replayed = lisplab(
        folder,
        &["replay", bundle, "--out", "again", "--allow-exec", "--json"],
    );
    assert_eq!(code(&replayed), Some(0), "{}", said(&replayed));
    let replayed: serde_json::Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert_eq!(replayed["same"], true);
    assert_eq!(replayed["after"]["verdict"], "fail");

    // What passes here was something else there.
    let unpacked = folder.join("unpacked");
    let done = lisplab(folder, &["bundle", "unpack", bundle, "unpacked", "--json"]);
    assert_eq!(code(&done), Some(0), "{}", said(&done));
    let done: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(done["folder"], "unpacked");
    assert!(
        done["files"]
            .as_array()
            .unwrap()
            .contains(&"result.json".into())
    );
    let result = unpacked.join("result.json");
    let text = std::fs::read_to_string(&result).unwrap();
    std::fs::write(&result, text.replace("\"fail\"", "\"pass\"")).unwrap();
    let made = lisplab(
        folder,
        &["bundle", "make", "unpacked", "-o", "other.tgz", "--json"],
    );
    assert_eq!(code(&made), Some(0), "{}", said(&made));
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(made["file"], "other.tgz");
    let differs = lisplab(
        folder,
        &["replay", "other.tgz", "--out", "again", "--allow-exec"],
    );
    assert_eq!(code(&differs), Some(1), "{}", said(&differs));
    assert!(
        said(&differs).contains("the whole: pass then, fail now"),
        "{}",
        said(&differs)
    );

    // The evidence in a bundle is judged like any other.
    let judged = lisplab(folder, &["judge", "--run", "unpacked"]);
    assert_eq!(code(&judged), Some(1), "{}", said(&judged));
}

fn what_names_the_machine_stays_here() {
    let (folder, bundle) = failed();
    let done = lisplab(folder.path(), &["bundle", "unpack", bundle, "unpacked"]);
    assert_eq!(code(&done), Some(0), "{}", said(&done));
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let checkout = conformance::home::checkout().map(|path| path.display().to_string());
    let own = folder.path().display().to_string();
    let mut names = vec!["secret-home", "secret-user", "secret-cwd", own.as_str()];
    names.extend(checkout.as_deref());
    // A short one is in any octets by chance.
    names.extend(Some(host.as_str()).filter(|host| host.len() > 5));
    // They were there.
    let evidence = folder.path().join("out/scenario.fails");
    let trace = std::fs::read_to_string(evidence.join("trace.json")).unwrap();
    assert!(trace.contains("/tmp/secret-home") && trace.contains("secret-user"));
    let capture = std::fs::read(evidence.join("capture.pcapng")).unwrap();
    let holds = |octets: &[u8], name: &str| {
        octets
            .windows(name.len())
            .any(|part| part == name.as_bytes())
    };
    assert!(holds(&capture, "secret-home"));
    for entry in std::fs::read_dir(folder.path().join("unpacked")).unwrap() {
        let path = entry.unwrap().path();
        let octets = std::fs::read(&path).unwrap();
        for name in &names {
            assert!(!holds(&octets, name), "{} holds {name}", path.display());
        }
    }
}

fn bad_input_ends_with_2_and_leaves_nothing() {
    let (folder, bundle) = failed();
    let folder = folder.path();
    let whole = std::fs::read(folder.join(bundle)).unwrap();
    std::fs::write(folder.join("cut.tgz"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(folder.join("no.tgz"), "no archive").unwrap();
    let names = |folder: &Path| -> Vec<_> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let before = names(folder);
    for bad in ["cut.tgz", "no.tgz", "not-there.tgz"] {
        for arguments in [
            vec!["bundle", "show", bad],
            vec!["replay", bad, "--out", "again", "--allow-exec"],
            vec!["bundle", "unpack", bad, "unpacked"],
        ] {
            let output = lisplab(folder, &arguments);
            assert_eq!(code(&output), Some(2), "{arguments:?}: {}", said(&output));
            assert!(said(&output).contains("hint:"), "{}", said(&output));
        }
    }
    for arguments in [
        vec!["bundle", "make", "."],
        vec!["run", "not-there.yaml", "--out", "again"],
    ] {
        let output = lisplab(folder, &arguments);
        assert_eq!(code(&output), Some(2), "{arguments:?}: {}", said(&output));
    }
    assert_eq!(names(folder), before);
}
