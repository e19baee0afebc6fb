//! Bundles: a failing case or scenario as one file that others can read and replay (docs/formats.md).
//!
//! A bundle is a gzipped tar archive, `NAME.lisplab.tgz`: every system opens it, issue trackers take it as an attachment, and
//! it is read as a stream, so that limits hold before anything is kept. It holds one flat folder: `manifest.json` first, then
//! the files of the evidence folder.

mod make;
mod open;
mod scrub;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::edition::Edition;
use crate::verdict::Verdict;

pub use make::{make, name_of};
pub use open::{Bundle, open};
pub use scrub::Scrubber;

/// Version of the bundle.
pub const BUNDLE_FORMAT: u32 = 1;

/// The end of a bundle's name.
pub const ENDING: &str = ".lisplab.tgz";

/// The first file of a bundle.
const MANIFEST: &str = "manifest.json";

/// Limits of what is read: files, octets of one archive, octets of all files. A capture is limited to 512 MiB; of larger ones no
/// bundle is made.
const MOST_FILES: usize = 4096;
const LARGEST: u64 = 600 << 20;

/// What a bundle says of itself: the content of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`BUNDLE_FORMAT`].
    pub format: u32,
    /// The case, or `scenario::NAME`.
    pub case: String,
    /// What it expects.
    pub title: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// What was run: an adapter's name, or `xtr=ours,msmr=theirs`.
    pub implementation: String,
    /// What the implementation says of its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Version of the suite.
    pub lisplab: String,
    /// Kernel and processor: `Linux 6.18.0 x86_64`.
    pub kernel: String,
    /// Which texts decide.
    pub edition: Edition,
    /// Whether a broken SHOULD fails.
    pub strict: bool,
    /// The seed of everything random.
    pub seed: u64,
    /// Packets in which something of the machine was overwritten, by number: their checksums are wrong since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked_packets: Vec<u64>,
    /// The other files: SHA-256 in hex, by name.
    pub files: BTreeMap<String, String>,
}

/// What is wrong with a bundle, or with making one.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {problem}\n  hint: {hint}")]
pub struct BundleError {
    /// The bundle or the folder.
    pub file: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub hint: String,
}

impl BundleError {
    fn new(file: &std::path::Path, problem: impl std::fmt::Display, hint: &str) -> BundleError {
        BundleError {
            file: file.display().to_string(),
            problem: problem.to_string(),
            hint: hint.to_owned(),
        }
    }
}

fn digest(octets: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(octets)
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

/// Whether a name is that of a file in the bundle's folder: no path, no way out.
fn is_plain(name: &str) -> bool {
    (1..=200).contains(&name.len())
        && !name.starts_with('.')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.@+".contains(c))
}
