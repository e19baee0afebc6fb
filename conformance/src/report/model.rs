//! What is reported.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::catalogue::Coverage;
use crate::draw::{Graph, Ladder};
use crate::kill::Kill;
use crate::results::{CaseResult, RequirementResult};
use crate::verdict::Verdict;

/// Everything that a report shows.
#[derive(Debug, Default)]
pub struct Report {
    /// One per implementation and edition, in the order of their names.
    pub runs: Vec<Run>,
    /// Cases whose results disagreed when runs were merged.
    pub conflicts: Vec<Conflict>,
    /// What the suite covers of the catalogue, if the caller counted it.
    pub coverage: Option<Coverage>,
    /// Sabotages and whether they were found, if they were run.
    pub kills: Vec<Kill>,
    /// Date of the report as the caller wants it to be written; empty for none.
    pub date: String,
}

/// The results of one implementation under one edition, of one or many shards.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Name, or a mix such as `xtr=ours,msmr=theirs`.
    pub implementation: String,
    /// `6830` or `9300`.
    pub edition: String,
    /// What is known about where and how it ran.
    pub header: Header,
    /// In the order of their ids; none that was sabotaged.
    pub cases: Vec<CaseReport>,
    /// The sabotages of `lisplab sabotage`.
    pub kills: Vec<Kill>,
}

/// About a run. Shards may differ, so each line holds all the different values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// Name and value of each line, such as `kernel` and `6.18.0`.
    pub lines: BTreeMap<String, BTreeSet<String>>,
}

/// One case of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseReport {
    /// What `results.json` says.
    pub result: CaseResult,
    /// Whether the verdict is no surprise.
    pub expected: bool,
    /// The command that repeats it; may be empty.
    pub command: String,
    /// The folder of its evidence as a relative link; may be empty.
    pub folder: String,
    /// The same folder as a path for a shell, from the working directory; may be empty.
    pub path: std::path::PathBuf,
    /// What the evidence folder holds.
    pub evidence: Evidence,
}

impl std::ops::Deref for CaseReport {
    type Target = CaseResult;

    fn deref(&self) -> &CaseResult {
        &self.result
    }
}

/// What was seen and, where it differs, what was expected, in one line.
pub fn sentence(found: &RequirementResult) -> String {
    match found.expected.as_str() {
        "" => found.finding.clone(),
        expected => format!("expected {expected}; seen: {}", found.finding),
    }
}

/// What is shown of an evidence folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Who sent what to whom when.
    pub ladder: Option<Ladder>,
    /// The network.
    pub network: Option<Graph>,
    /// Packets that findings name, each in one line.
    pub packets: BTreeMap<usize, String>,
    /// What the processes wrote.
    pub logs: Vec<Log>,
    /// The configurations that they ran with.
    pub configurations: Vec<Log>,
    /// The capture, if it is small enough to be carried along.
    pub capture: Option<Capture>,
    /// What could not be read.
    pub problems: Vec<String>,
}

/// One log or configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// File name.
    pub name: String,
    /// Its end.
    pub text: String,
    /// Octets before it that are left out.
    pub left_out: u64,
}

/// The capture of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// Relative link to the file.
    pub link: String,
    /// Its size in octets.
    pub size: u64,
    /// The file itself, unless it is too big.
    pub bytes: Option<Vec<u8>>,
}

/// Two results for the same case that do not agree. The worse one is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Conflict {
    /// Implementation and edition.
    pub run: String,
    /// The case.
    pub case: String,
    /// The verdicts that were found, best first.
    pub verdicts: Vec<Verdict>,
}

impl Report {
    /// The tallies of all runs.
    pub fn unexpected(&self) -> usize {
        self.runs
            .iter()
            .flat_map(|run| &run.cases)
            .filter(|case| !case.expected)
            .count()
    }
}

impl Run {
    /// `NAME` or, where the edition is not the usual one, `NAME (9300)`.
    pub fn title(&self) -> String {
        if self.edition == "6830" || self.edition.is_empty() {
            self.implementation.clone()
        } else {
            format!("{} ({})", self.implementation, self.edition)
        }
    }

    /// How many cases have each verdict, in the order of [`Verdict::ALL`].
    pub fn tally(&self) -> Vec<(Verdict, usize)> {
        Verdict::ALL
            .into_iter()
            .map(|verdict| {
                (
                    verdict,
                    self.cases
                        .iter()
                        .filter(|case| case.verdict == verdict)
                        .count(),
                )
            })
            .collect()
    }
}

/// One character that says a verdict without colour.
pub fn symbol(verdict: Verdict) -> char {
    match verdict {
        Verdict::Pass => '✓',
        Verdict::Fail => '✗',
        Verdict::Warn => '!',
        Verdict::Skipped => '–',
        Verdict::Untestable => '∅',
        Verdict::Inconclusive => '?',
    }
}
