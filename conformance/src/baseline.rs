//! Expected failures, with reasons: a listed failure is fine, an unlisted one is not, and a listed case that passes makes
//! the list stale.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use crate::results::CaseResult;
use crate::verdict::Verdict;
use crate::yaml;

/// Version of the baseline file.
const FORMAT: u32 = 1;

/// A baseline file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baseline {
    expected: BTreeMap<String, Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: Spanned<u32>,
    expected: Vec<Spanned<Entry>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    case: String,
    verdict: Verdict,
    reason: String,
}

impl Baseline {
    /// Reads a baseline file.
    ///
    /// # Errors
    /// What is wrong with it, with line and column.
    pub fn load(path: &Path) -> Result<Baseline, String> {
        let wrong = |problem: String| format!("{}: {problem}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| {
            wrong(format!(
                "{error}\n  hint: a baseline is a YAML text file; --write-baseline FILE makes one"
            ))
        })?;
        Baseline::parse(path, &text)
    }

    /// The baseline of `conformance/baselines/` for an implementation; empty if there is none.
    ///
    /// # Errors
    /// As [`Baseline::load`].
    pub fn of(implementation: &str) -> Result<Baseline, String> {
        let path = crate::home::crate_folder()
            .join("baselines")
            .join(format!("{implementation}.yaml"));
        if path.is_file() {
            Baseline::load(&path)
        } else {
            Ok(Baseline::default())
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Baseline, String> {
        let file: File = yaml::read(path, text)?;
        let wrong = |at: Location, problem: String| {
            yaml::at(
                path,
                text,
                at.line() as usize,
                at.column() as usize,
                &problem,
            )
        };
        if file.format.value != FORMAT {
            let problem = format!("expected format: {FORMAT}, found {}", file.format.value);
            return Err(wrong(file.format.referenced, problem));
        }
        let mut expected = BTreeMap::new();
        for Spanned {
            value: entry,
            referenced,
            ..
        } in file.expected
        {
            let problem = if crate::case::find(&entry.case).is_none() {
                format!(
                    "there is no case {}: lisplab test --list shows all",
                    entry.case
                )
            } else if entry.verdict == Verdict::Pass || entry.reason.trim().is_empty() {
                format!(
                    "{}: list a verdict other than pass, with its reason",
                    entry.case
                )
            } else if expected.contains_key(&entry.case) {
                format!("{} is listed twice", entry.case)
            } else {
                expected.insert(entry.case.clone(), entry);
                continue;
            };
            return Err(wrong(referenced, problem));
        }
        Ok(Baseline { expected })
    }

    /// Writes down what is expected of a case.
    pub fn apply(&self, result: &mut CaseResult) {
        // A skip is the answer to a feature that is not claimed or a timer that is too long, not to what was expected.
        if let Some(entry) = self.expected.get(&result.id)
            && result.verdict != Verdict::Skipped
        {
            result.expected = entry.verdict;
            result.expected_because = Some(entry.reason.clone());
        }
    }

    /// The baseline that makes these results as expected, as YAML. Reasons of the present one are kept; new ones say what
    /// was found.
    pub fn written(&self, results: &[CaseResult]) -> String {
        // A case that was repeated is listed once, with its worst verdict.
        let mut worst: BTreeMap<&str, &CaseResult> = BTreeMap::new();
        for result in results.iter().filter(|result| result.verdict.is_failure()) {
            let listed = worst.entry(&result.id).or_insert(result);
            if result.verdict > listed.verdict {
                *listed = result;
            }
        }
        let expected = worst.into_values().map(|result| {
            let known = self
                .expected
                .get(&result.id)
                .filter(|entry| entry.verdict == result.verdict);
            known.cloned().unwrap_or_else(|| Entry {
                case: result.id.clone(),
                verdict: result.verdict,
                reason: result.requirements.first().map_or_else(
                    || {
                        let reason = result.reason.clone();
                        reason.unwrap_or_else(|| format!("was {} when written", result.verdict))
                    },
                    |worst| format!("{}: {}", worst.id, worst.finding),
                ),
            })
        });
        let mut text = format!(
            "# Failures that are expected, each with its reason. A listed case that passes makes this file stale.\nformat: {FORMAT}\n"
        );
        // A string of JSON is one of YAML.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut entries = expected.peekable();
        text.push_str(if entries.peek().is_some() {
            "expected:\n"
        } else {
            "expected: []\n"
        });
        for entry in entries {
            text.push_str(&format!(
                "  - case: {}\n    verdict: {}\n    reason: {}\n",
                quoted(&entry.case),
                entry.verdict.word(),
                quoted(&entry.reason)
            ));
        }
        text
    }
}

/// Where a baseline will be written. The place is tried before a run, so that nobody waits for a run whose baseline cannot
/// be written; what was there stays until the new one is whole.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    part: PathBuf,
}

impl Place {
    /// Tries the place; leaves nothing there.
    ///
    /// # Errors
    /// Why no file can be written there.
    pub fn at(path: &Path) -> Result<Place, String> {
        let wrong = |problem: String| {
            format!(
                "{}: {problem}\n  hint: give --write-baseline a file in a folder that exists and can be written",
                path.display()
            )
        };
        let name = path
            .file_name()
            .filter(|_| !path.is_dir())
            .ok_or_else(|| wrong("expected a file, found a folder".to_owned()))?;
        let mut part = name.to_owned();
        part.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(part);
        std::fs::write(&part, "")
            .and_then(|()| std::fs::remove_file(&part))
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Place {
            path: path.to_owned(),
            part,
        })
    }

    /// Writes the text and puts it in place.
    ///
    /// # Errors
    /// Why it could not be written; what was there is there still.
    pub fn write(self, text: &str) -> Result<(), String> {
        let written = std::fs::write(&self.part, text)
            .and_then(|()| std::fs::rename(&self.part, &self.path))
            .inspect_err(|_| {
                let _ = std::fs::remove_file(&self.part);
            });
        written.map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Baseline, String> {
        Baseline::parse(Path::new("b.yaml"), text)
    }

    /// Of the first case.
    fn result(verdict: Verdict) -> CaseResult {
        CaseResult {
            id: crate::case::all()[0].id.to_owned(),
            title: String::new(),
            verdict,
            expected: Verdict::Pass,
            expected_because: None,
            reason: None,
            requirements: Vec::new(),
            expectations: Vec::new(),
            duration_ms: 0,
            evidence: None,
            bundle: None,
            roles: Vec::new(),
            sabotage: None,
        }
    }

    #[test]
    fn a_listed_failure_is_expected_and_a_listed_pass_is_not() {
        let case = crate::case::all()[0].id;
        let text = format!("format: 1\nexpected: [{{case: '{case}', verdict: fail, reason: r}}]\n");
        let baseline = parsed(&text).unwrap();
        let expected = |verdict| {
            let mut result = result(verdict);
            baseline.apply(&mut result);
            result.is_expected()
        };
        assert!(expected(Verdict::Fail) && expected(Verdict::Skipped));
        assert!(!expected(Verdict::Pass) && !expected(Verdict::Untestable));
        let unknown = parsed("format: 1\nexpected:\n  - {case: x, verdict: fail, reason: r}\n");
        assert!(
            unknown
                .unwrap_err()
                .starts_with("b.yaml:3:5: there is no case x")
        );
    }

    #[test]
    fn what_is_written_of_a_repeated_case_can_be_read() {
        let result = result(Verdict::Fail);
        let mut again = result.clone();
        let reason = "a: \"b\" #c\nd";
        let result = CaseResult {
            reason: Some(reason.to_owned()),
            ..result
        };
        let written = Baseline::default().written(&[result.clone(), result]);
        parsed(&written).unwrap().apply(&mut again);
        assert!(again.is_expected());
        assert_eq!(again.expected_because.as_deref(), Some(reason));
        let empty = Baseline::default().written(&[]);
        assert_eq!(parsed(&empty).unwrap(), Baseline::default());
    }

    #[test]
    fn a_place_keeps_what_was_there_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.yaml");
        std::fs::write(&path, "old").unwrap();
        Place::at(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        Place::at(&path).unwrap().write("new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        for bad in [folder.path().to_owned(), folder.path().join("no/b.yaml")] {
            assert!(Place::at(&bad).unwrap_err().contains("hint"));
        }
    }

    #[test]
    fn ours_names_cases_that_exist() {
        Baseline::of("lisplab").unwrap();
    }
}
