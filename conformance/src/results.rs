//! The record of a run: `results.json`, or one file a case in `results.d`, and `result.json` of each evidence folder
//! (docs/formats.md).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
    /// The kernel that it ran on: name and release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
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
    /// Whether the run was interrupted: then only what was judged before is here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// By id.
    pub cases: Vec<CaseResult>,
}

/// Where runs that have a process for each case leave their results: one file a case, of the same format.
const PARTS: &str = "results.d";
/// A file beyond this size is refused rather than read.
const SIZE_LIMIT: u64 = 256 * 1024 * 1024;

/// Results that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {problem}\n  hint: give the folder that `lisplab test --out DIR` wrote")]
pub struct ReadError {
    /// The file.
    pub file: String,
    /// What was expected and what was found.
    pub problem: String,
}

impl Results {
    /// Writes `results.json`.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        write_json(&folder.join("results.json"), self)
    }

    /// Writes the results of one case beside those that other processes write.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn write_part(&self, folder: &Path, name: &str) -> io::Result<()> {
        let parts = folder.join(PARTS);
        fs::create_dir_all(&parts)?;
        write_json(&parts.join(format!("{name}.json")), self)
    }

    /// Reads everything that a run left in a folder: `results.json`, and what is in `results.d`. A file can be given as well.
    ///
    /// # Errors
    /// There is neither, or a file is not what was expected.
    pub fn read(folder: &Path) -> Result<Vec<Results>, ReadError> {
        if !folder.is_dir() {
            return Ok(vec![Results::read_file(folder)?]);
        }
        let mut files: Vec<PathBuf> = fs::read_dir(folder.join(PARTS))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "json"))
            .collect();
        files.sort();
        let whole = folder.join("results.json");
        if whole.exists() || files.is_empty() {
            files.insert(0, whole);
        }
        let mut all: Vec<Results> = Vec::new();
        for file in &files {
            let next = Results::read_file(file)?;
            match all.iter_mut().find(|first| first.is_of_one_run_with(&next)) {
                Some(first) => {
                    first.started = first.started.min(next.started);
                    first.interrupted |= next.interrupted;
                    first.cases.extend(next.cases);
                }
                None => all.push(next),
            }
        }
        Ok(all)
    }

    /// Whether both were run in the same way: then they are parts of one.
    fn is_of_one_run_with(&self, other: &Results) -> bool {
        let head = |results: &Results| Results {
            started: 0,
            interrupted: false,
            cases: Vec::new(),
            ..results.clone()
        };
        head(self) == head(other)
    }

    fn read_file(file: &Path) -> Result<Results, ReadError> {
        let wrong = |problem: String| ReadError {
            file: file.display().to_string(),
            problem,
        };
        let unreadable = |error: io::Error| wrong(format!("cannot be read: {error}"));
        let size = fs::metadata(file).map_err(unreadable)?.len();
        if size > SIZE_LIMIT {
            return Err(wrong(format!(
                "expected at most {SIZE_LIMIT} octets, found {size}"
            )));
        }
        let text = fs::read(file).map_err(unreadable)?;
        let results: Results = serde_json::from_slice(&text)
            .map_err(|error| wrong(format!("not a results file: {error}")))?;
        if results.format != RESULTS_FORMAT {
            return Err(wrong(format!(
                "expected format {RESULTS_FORMAT}, found {}",
                results.format
            )));
        }
        Ok(results)
    }
}

/// Writes a record whole or not at all: a reader may look at any time.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    text.push('\n');
    let new = path.with_extension("json.new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .inspect_err(|_| drop(fs::remove_file(&new)))
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
    /// What was found about each expectation of a scenario, in the order of its file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expectations: Vec<ExpectationResult>,
    /// How long it took, in ms.
    pub duration_ms: u64,
    /// Its evidence folder, relative to the file that this stands in.
    pub evidence: Option<String>,
    /// The bundle of a failure, relative to the file that this stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// Whom it judges.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The sabotage that was in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sabotage: Option<String>,
}

impl CaseResult {
    /// All that was found with packets to show it: the requirements, and the expectations by their names.
    pub fn rows(&self) -> Vec<RequirementResult> {
        let of_expectation = |found: &ExpectationResult| RequirementResult {
            id: found.name.clone(),
            verdict: found.verdict,
            finding: found.finding.clone(),
            expected: found.expected.clone(),
            packets: found.packets.clone(),
            invariant: false,
        };
        let expectations = self.expectations.iter().map(of_expectation);
        self.requirements
            .iter()
            .cloned()
            .chain(expectations)
            .collect()
    }

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

/// One expectation of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpectationResult {
    /// Its name.
    pub name: String,
    /// The line of the scenario's file where it begins.
    pub line: u64,
    /// The answer.
    pub verdict: Verdict,
    /// What the packets or the programs show.
    pub finding: String,
    /// What was expected; empty where it was met.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub expected: String,
    /// Numbers of the packets that show it.
    pub packets: Vec<usize>,
    /// The rows of the catalogue that it cites.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<String>,
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
