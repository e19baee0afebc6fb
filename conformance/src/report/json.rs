//! The merged record, for programs (docs/formats.md).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::model::{Conflict, Report};
use crate::catalogue::Coverage;
use crate::kill::Kill;
use crate::results::CaseResult;

/// Version of the merged record.
pub const REPORT_FORMAT: u32 = 1;

#[derive(Serialize)]
struct Record<'a> {
    format: u32,
    runs: Vec<Run<'a>>,
    conflicts: &'a [Conflict],
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<&'a Coverage>,
    sabotages: &'a [Kill],
}

#[derive(Serialize)]
struct Run<'a> {
    implementation: &'a str,
    edition: &'a str,
    about: &'a BTreeMap<String, BTreeSet<String>>,
    cases: Vec<Case<'a>>,
}

#[derive(Serialize)]
struct Case<'a> {
    #[serde(flatten)]
    result: CaseResult,
    as_expected: bool,
    command: &'a str,
}

/// Writes the report as JSON.
pub fn json(report: &Report) -> String {
    let runs = report.runs.iter().map(|run| Run {
        implementation: &run.implementation,
        edition: &run.edition,
        about: &run.header.lines,
        cases: run
            .cases
            .iter()
            .map(|case| Case {
                // Runs of several folders stand in one record: evidence is found from where the report is.
                result: CaseResult {
                    evidence: (!case.folder.is_empty()).then(|| case.folder.clone()),
                    ..case.result.clone()
                },
                as_expected: case.expected,
                command: &case.command,
            })
            .collect(),
    });
    let record = Record {
        format: REPORT_FORMAT,
        runs: runs.collect(),
        conflicts: &report.conflicts,
        coverage: report.coverage.as_ref(),
        sabotages: &report.kills,
    };
    let mut text = serde_json::to_string_pretty(&record).expect("strings and numbers serialize");
    text.push('\n');
    text
}
