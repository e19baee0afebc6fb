//! The sample runs.

use conformance::report::{Report, load, merge};
use std::path::{Path, PathBuf};

/// A folder of the samples.
pub(crate) fn samples(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/report_samples")
        .join(name)
}

/// Both sample runs.
pub(crate) fn sample() -> Report {
    let runs = ["lisplab", "other"]
        .map(|name| load(&samples(name), &samples("")).expect("the samples are well formed"));
    let mut report = merge(runs);
    report.date = "20 November 2026".to_owned();
    report
}

/// Leaves a report where a person can look at it.
pub(crate) fn keep(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("the scratch folder of the tests is writable");
    path
}
