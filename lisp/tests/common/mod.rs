//! What several test files share: the vectors and hex.

#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod arbitrary;
pub(crate) mod fields;

use std::collections::BTreeMap;

use serde::Deserialize;

/// A packet that was typed by hand and dissected by tshark, independently of this codec.
#[derive(Deserialize)]
pub(crate) struct Vector {
    /// What it is.
    pub(crate) title: String,
    /// From the outer IP header on.
    pub(crate) hex: String,
    /// tshark field name to its value; several occurrences are joined by commas.
    pub(crate) expect: BTreeMap<String, String>,
    /// Authentication data in other readings of the text.
    pub(crate) alt: BTreeMap<String, String>,
}

/// All vectors, by id.
pub(crate) fn vectors() -> BTreeMap<String, Vector> {
    serde_json::from_str(include_str!("../vectors/vectors.json")).expect("the vectors are JSON")
}

/// Hex to octets.
pub(crate) fn octets(hex: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("the vectors are hex");
    (0..hex.len()).step_by(2).map(pair).collect()
}

/// Octets to hex.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
