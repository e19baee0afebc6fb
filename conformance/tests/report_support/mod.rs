#![allow(dead_code)] // Each test binary uses its part.
//! The sample runs: results and logs as files, captures made on the spot.

mod conversation;
pub(crate) mod webdriver;

use conformance::report::{Report, load, merge};
use conversation::Conversation;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The sample runs in a folder of their own.
pub(crate) struct Samples(TempDir);

impl Samples {
    pub(crate) fn new() -> Samples {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        copy(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report_samples"),
            folder.path(),
        );
        Samples(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Both runs, merged.
    pub(crate) fn report(&self) -> Report {
        let runs = ["lisplab", "other"].map(|name| {
            load(&self.path(name), self.0.path()).expect("the samples are well formed")
        });
        let mut report = merge(runs.into_iter().flatten());
        report.date = "20 November 2026".to_owned();
        report
    }
}

/// Copies a folder; what has a topology becomes an evidence folder with a trace.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("the samples are there") {
        let entry = entry.expect("the samples can be listed").path();
        let target = to.join(entry.file_name().expect("an entry has a name"));
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            std::fs::copy(&entry, &target).expect("a file can be copied");
        }
    }
    if to.join("topology.yaml").exists() {
        let write = |name: &str, octets: &[u8]| {
            std::fs::write(to.join(name), octets).expect("a file can be written")
        };
        write("capture.pcapng", &Conversation::first_ping().pcapng());
        write("trace.json", trace_json().as_bytes());
    }
}

fn trace_json() -> String {
    serde_json::json!({
        "format": 1,
        "case": "rfc6830::s5_3::outer_header",
        "implementation": "lisplab",
        "edition": "6830",
        "strict": false,
        "features": ["core"],
        "under_test": ["xtr-a"],
        "duration_ms": 412,
        "marks": [{"time_ns": Conversation::ping_ns(), "text": "host-a: ping -c 2 10.2.0.10"}],
        "processes": [],
        "drops": [],
        "noise": {"longest_stall": {"secs": 0, "nanos": 1_200_000}, "at_ns": 0, "stalls_over_20ms": 0},
    })
    .to_string()
}

/// Leaves a report where a person can look at it.
pub(crate) fn keep(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("the scratch folder of the tests is writable");
    path
}
