//! Results of several shards, machines and implementations become one report.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{CaseReport, Conflict, Report, Run, sentence};

/// Merges runs. The order in which they are given changes nothing: runs are sorted by implementation and edition, cases
/// by id. Where the same case was run more than once, the worse result is kept, and if the verdicts differ this is
/// named as a conflict. A run without cases (one of sabotages) gives its kill matrix and nothing else.
pub fn merge(runs: impl IntoIterator<Item = Run>) -> Report {
    let mut merged: BTreeMap<(String, String), BTreeMap<String, Vec<CaseReport>>> = BTreeMap::new();
    let mut headers = BTreeMap::new();
    let mut kills = BTreeSet::new();
    for run in runs {
        kills.extend(run.kills);
        if run.cases.is_empty() {
            continue;
        }
        let key = (run.implementation, run.edition);
        let header: &mut super::model::Header = headers.entry(key.clone()).or_default();
        for (name, values) in run.header.lines {
            header.lines.entry(name).or_default().extend(values);
        }
        let cases = merged.entry(key).or_default();
        for case in run.cases {
            cases.entry(case.id.clone()).or_default().push(case);
        }
    }
    let mut report = Report {
        kills: kills.into_iter().collect(),
        ..Report::default()
    };
    for ((implementation, edition), cases) in merged {
        let header = headers
            .remove(&(implementation.clone(), edition.clone()))
            .unwrap_or_default();
        let mut run = Run {
            implementation,
            edition,
            header,
            cases: Vec::new(),
            kills: Vec::new(),
        };
        for (id, mut results) in cases {
            results.sort_by(|a, b| rank(a).cmp(&rank(b)));
            let mut verdicts: Vec<_> = results.iter().map(|case| case.verdict).collect();
            verdicts.dedup();
            if verdicts.len() > 1 {
                report.conflicts.push(Conflict {
                    run: run.title(),
                    case: id,
                    verdicts,
                });
            }
            run.cases.extend(results.pop());
        }
        report.runs.push(run);
    }
    report
}

/// Best first; among equals of verdict, any total order on the content makes the choice independent of the input order.
fn rank(case: &CaseReport) -> impl Ord {
    let requirements: Vec<_> = case
        .requirements
        .iter()
        .map(|row| {
            (
                row.verdict,
                row.id.clone(),
                sentence(row),
                row.packets.clone(),
            )
        })
        .collect();
    (
        case.verdict,
        !case.expected,
        requirements,
        case.folder.clone(),
        case.duration_ms,
        case.reason.clone(),
        case.command.clone(),
    )
}
