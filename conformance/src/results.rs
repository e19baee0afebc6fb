//! The record of a run: `results.json`, and `result.json` of each evidence folder (docs/formats.md).

use serde::{Deserialize, Serialize};

use crate::edition::Edition;
use crate::verdict::Verdict;

/// Version of `results.json` and `result.json`.
pub const RESULTS_FORMAT: u32 = 1;

/// All cases of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`RESULTS_FORMAT`].
    pub format: u32,
    /// What was run: an adapter's name, or `xtr=ours,msmr=theirs`.
    pub implementation: String,
    /// What the implementation says of its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Which texts decide.
    pub edition: Edition,
    /// Whether a broken SHOULD fails.
    #[serde(default)]
    pub strict: bool,
    /// The seed of everything random.
    #[serde(default)]
    pub seed: u64,
    /// When the run began, in seconds since 1970.
    #[serde(default)]
    pub started: u64,
    /// By id.
    pub cases: Vec<CaseResult>,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// Of the case.
    pub id: String,
    /// What the case expects, in a sentence.
    #[serde(default)]
    pub title: String,
    /// The answer.
    pub verdict: Verdict,
    /// The answer that is expected: `pass`, or what a baseline lists.
    pub expected: Verdict,
    /// Why the baseline expects something else than `pass`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_because: Option<String>,
    /// Why the case as a whole has its verdict, where that is not said by its requirements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was found about each requirement, worst first.
    pub requirements: Vec<RequirementResult>,
    /// How long it took, in ms.
    pub duration_ms: u64,
    /// Its evidence folder, relative to the file that this stands in.
    pub evidence: Option<String>,
    /// Whom it judges.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The sabotage that was in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sabotage: Option<String>,
}

impl CaseResult {
    /// Whether the answer is as expected: a pass where a pass is expected, exactly what the baseline lists elsewhere.
    /// A warning or a skip never surprises.
    pub fn is_expected(&self) -> bool {
        if self.expected == Verdict::Pass {
            !self.verdict.is_failure()
        } else {
            self.verdict == self.expected
        }
    }
}

/// One requirement in one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequirementResult {
    /// The id in the catalogue.
    pub id: String,
    /// The answer.
    pub verdict: Verdict,
    /// What the packets show, or why there is nothing to show.
    pub finding: String,
    /// What was expected; empty where it was met.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub expected: String,
    /// Numbers of the packets that show it, from 1 in `capture.pcapng`.
    pub packets: Vec<usize>,
    /// An invariant found it, rather than a judge of the case.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub invariant: bool,
}
