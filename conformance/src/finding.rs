//! What a judge says: findings per requirement, each with the packets that show it.

use serde::{Deserialize, Serialize};

use crate::catalogue::Req;

/// What was found about one requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Seen as expected.
    Met,
    /// Seen otherwise, or not seen where it must be.
    Broken,
    /// Seen, and the text does not decide.
    Recorded,
    /// What would show it did not happen: a prerequisite of the case is missing.
    Unseen,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Of which requirement.
    pub requirement: Req,
    /// What was found.
    pub outcome: Outcome,
    /// What the requirement makes one expect here.
    pub expected: String,
    /// What the packets show, with field values.
    pub seen: String,
    /// Numbers of the packets that show it, counted from 1 in the capture.
    pub packets: Vec<usize>,
}

/// What a judge returns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// No finding yet.
    pub fn new() -> Findings {
        Findings::default()
    }

    /// The requirement is met, as `packets` show.
    pub fn met(&mut self, requirement: Req, packets: impl Into<Packets>, seen: impl Into<String>) {
        self.add(
            requirement,
            Outcome::Met,
            String::new(),
            seen.into(),
            packets.into(),
        );
    }

    /// The requirement is broken: `expected` this, `seen` that.
    pub fn broken(
        &mut self,
        requirement: Req,
        packets: impl Into<Packets>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) {
        self.add(
            requirement,
            Outcome::Broken,
            expected.into(),
            seen.into(),
            packets.into(),
        );
    }

    /// What an implementation does where the text does not decide.
    pub fn recorded(
        &mut self,
        requirement: Req,
        packets: impl Into<Packets>,
        seen: impl Into<String>,
    ) {
        self.add(
            requirement,
            Outcome::Recorded,
            String::new(),
            seen.into(),
            packets.into(),
        );
    }

    /// The trace does not hold what would decide; `needed` says what was missing.
    pub fn unseen(&mut self, requirement: Req, needed: impl Into<String>) {
        self.add(
            requirement,
            Outcome::Unseen,
            needed.into(),
            "nothing of the kind".to_owned(),
            Packets::default(),
        );
    }

    /// Met or broken, by a condition.
    pub fn check(
        &mut self,
        requirement: Req,
        holds: bool,
        packets: impl Into<Packets>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) {
        let outcome = if holds { Outcome::Met } else { Outcome::Broken };
        self.add(
            requirement,
            outcome,
            expected.into(),
            seen.into(),
            packets.into(),
        );
    }

    /// Takes over one finding.
    pub(crate) fn push(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// Takes over the findings of another judge.
    pub fn extend(&mut self, other: Findings) {
        self.0.extend(other.0);
    }

    /// All findings in the order in which they were made.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }

    fn add(
        &mut self,
        requirement: Req,
        outcome: Outcome,
        expected: String,
        seen: String,
        packets: Packets,
    ) {
        self.0.push(Finding {
            requirement,
            outcome,
            expected,
            seen,
            packets: packets.0,
        });
    }
}

impl IntoIterator for Findings {
    type Item = Finding;
    type IntoIter = std::vec::IntoIter<Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Packet numbers as evidence: from a number, a list, a packet or packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packets(Vec<usize>);

impl From<usize> for Packets {
    fn from(number: usize) -> Packets {
        Packets(vec![number])
    }
}

impl From<Vec<usize>> for Packets {
    fn from(numbers: Vec<usize>) -> Packets {
        Packets(numbers)
    }
}

impl<const N: usize> From<[usize; N]> for Packets {
    fn from(numbers: [usize; N]) -> Packets {
        Packets(numbers.to_vec())
    }
}
