//! The two editions of the texts, and which rows bind under each.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalogue::{Document, Requirement};

/// Which texts decide.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Deserialize,
    Serialize,
    clap::ValueEnum,
)]
pub enum Edition {
    /// RFC 6830, 6832 and 6833.
    #[default]
    #[serde(rename = "6830")]
    #[value(name = "6830")]
    Rfc6830,
    /// RFC 9300 and 9301, and of RFC 6832 and 6833 what they leave standing.
    #[serde(rename = "9300")]
    #[value(name = "9300")]
    Rfc9300,
}

impl Edition {
    /// Both.
    pub const ALL: &'static [Edition] = &[Edition::Rfc6830, Edition::Rfc9300];

    /// Whether a row decides under this edition.
    pub fn binds(self, row: &Requirement) -> bool {
        let newer = matches!(row.rfc, Document::Rfc(9300..=9302));
        match self {
            Edition::Rfc6830 => !newer,
            // Answers that the newer texts turned around or dropped are not asked for under them.
            Edition::Rfc9300 => !matches!(
                row.successor.change.as_str(),
                "changed" | "removed" | "conflict"
            ),
        }
    }
}

impl fmt::Display for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Edition::Rfc6830 => "6830",
            Edition::Rfc9300 => "9300",
        })
    }
}
