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
            // Answers that the newer texts turned around or dropped are not asked for under them. A row of a newer text
            // says by this word what it did to its predecessor.
            Edition::Rfc9300 => {
                newer
                    || !matches!(
                        row.successor.change.as_str(),
                        "changed" | "removed" | "conflict"
                    )
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::catalogue;

    #[test]
    fn a_row_of_a_newer_text_binds_under_it_whatever_it_changed() {
        let row = |id: &str| catalogue().get(id).expect("in the catalogue");
        let newer = row("rfc9302-6.1-null-record");
        assert_eq!(newer.successor.change, "changed");
        assert!(Edition::Rfc9300.binds(newer) && !Edition::Rfc6830.binds(newer));
        let older = row("rfc6834-5.1-null-dst-ignore");
        assert!(Edition::Rfc6830.binds(older) && !Edition::Rfc9300.binds(older));
        for row in catalogue().iter() {
            let bound = Edition::ALL.iter().any(|edition| edition.binds(row));
            assert!(bound, "{} binds under no edition", row.id);
        }
    }
}
