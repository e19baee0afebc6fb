//! From findings to verdicts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalogue::{Judging, Level, Requirement};
use crate::finding::{Finding, Outcome};

/// The answer of a case, or of a requirement in a case.
///
/// Ordered from best to worst, so that the verdict of a case is the maximum of its requirements'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The implementation does not claim the feature, or the edition does not ask.
    Skipped,
    /// Met, or only recorded.
    Pass,
    /// A SHOULD or an optional rule is broken; `fail` under `--strict`.
    Warn,
    /// The host was too slow or too noisy to tell, by measurement.
    Inconclusive,
    /// A prerequisite is missing: counts as a failure.
    Untestable,
    /// Broken.
    Fail,
}

impl Verdict {
    /// All, from best to worst.
    pub const ALL: [Verdict; 6] = [
        Verdict::Skipped,
        Verdict::Pass,
        Verdict::Warn,
        Verdict::Inconclusive,
        Verdict::Untestable,
        Verdict::Fail,
    ];

    /// Whether a run that has it ends with exit code 1, unless a baseline lists it.
    pub fn is_failure(self) -> bool {
        matches!(
            self,
            Verdict::Fail | Verdict::Untestable | Verdict::Inconclusive
        )
    }

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Skipped => "skipped",
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Untestable => "untestable",
            Verdict::Fail => "fail",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What one finding means for its requirement.
///
/// `strict` makes a broken SHOULD or optional rule a failure. A row that is only recorded never fails.
pub fn of_finding(row: &Requirement, finding: &Finding, strict: bool) -> Verdict {
    match finding.outcome {
        Outcome::Met | Outcome::Recorded => Verdict::Pass,
        Outcome::Unseen => Verdict::Untestable,
        Outcome::Broken if matches!(row.verdict, Judging::Record | Judging::NotApplicable) => {
            Verdict::Pass
        }
        Outcome::Broken => match row.level {
            Level::Must | Level::Behaviour => Verdict::Fail,
            Level::Should | Level::May if strict => Verdict::Fail,
            Level::Should | Level::May => Verdict::Warn,
        },
    }
}
