//! Requirements x implementations.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::cases::Anchors;
use super::{Chip, slug};
use crate::catalogue::{Catalogue, Requirement};
use crate::report::model::Report;
use crate::verdict::Verdict;

/// Cases that a cell shows besides its worst one.
const SYMBOLS: usize = 6;

#[derive(Serialize)]
pub(super) struct Matrix {
    columns: Vec<String>,
    groups: Vec<Group>,
    documents: Vec<String>,
    roles: Vec<String>,
    levels: Vec<String>,
    rows: usize,
    /// Requirement ids that cases name and the catalogue does not know.
    unknown: Vec<String>,
}

#[derive(Serialize)]
struct Group {
    document: String,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    id: String,
    anchor: String,
    section: String,
    level: String,
    roles: String,
    feature: String,
    statement: String,
    judged: bool,
    /// All verdicts of the row, for the filter.
    verdicts: String,
    cells: Vec<Cell>,
}

#[derive(Serialize, Default)]
struct Cell {
    chip: Option<Chip>,
    anchor: String,
    title: String,
    more: Vec<More>,
    /// Cases beyond these.
    others: usize,
}

#[derive(Serialize)]
struct More {
    chip: Chip,
    anchor: String,
    title: String,
}

pub(super) fn matrix(report: &Report, catalogue: &Catalogue, anchors: &Anchors) -> Matrix {
    let results = results(report);
    let mut groups: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let (mut roles, mut levels) = (BTreeSet::new(), BTreeSet::new());
    let mut rows: Vec<&Requirement> = catalogue.iter().collect();
    rows.sort_by_key(|row| {
        (
            row.rfc.to_string(),
            section_key(&row.section),
            row.id.clone(),
        )
    });
    for row in rows {
        let found = results.get(row.id.as_str());
        if found.is_none() && !row.is_judgeable() {
            continue;
        }
        roles.extend(row.role.iter().cloned());
        levels.insert((row.level, row.level.to_string()));
        let cells: Vec<Cell> = (0..report.runs.len())
            .map(|run| {
                let cases = found
                    .and_then(|found| found.get(&run))
                    .map_or(&[][..], Vec::as_slice);
                cell(report, run, cases, anchors)
            })
            .collect();
        let verdicts: BTreeSet<&str> = found
            .into_iter()
            .flat_map(BTreeMap::values)
            .flatten()
            .map(|said| said.verdict.word())
            .collect();
        groups.entry(row.rfc.to_string()).or_default().push(Row {
            id: row.id.clone(),
            anchor: format!("req-{}", slug(&row.id)),
            section: row.section.clone(),
            level: row.level.to_string(),
            roles: row.role.join(" "),
            feature: row.feature.clone(),
            statement: row.statement.clone(),
            judged: found.is_some(),
            verdicts: verdicts.into_iter().collect::<Vec<_>>().join(" "),
            cells,
        });
    }
    let unknown = results
        .keys()
        .filter(|id| catalogue.get(id).is_none())
        .map(|id| (*id).to_owned())
        .collect();
    Matrix {
        columns: report.runs.iter().map(|run| run.title()).collect(),
        rows: groups.values().map(Vec::len).sum(),
        documents: groups.keys().cloned().collect(),
        groups: groups
            .into_iter()
            .map(|(document, rows)| Group { document, rows })
            .collect(),
        roles: roles.into_iter().collect(),
        levels: levels.into_iter().map(|(_, name)| name).collect(),
        unknown,
    }
}

/// What one case says about a requirement.
#[derive(Debug, Clone, Copy)]
struct Said {
    verdict: Verdict,
    invariant: bool,
    case: usize,
}

type Results<'a> = BTreeMap<&'a str, BTreeMap<usize, Vec<Said>>>;

/// Per requirement and run: what its cases said, the worst first. A case may say several things about a requirement;
/// its worst counts. Of equals, cases that are about the requirement come before those whose invariants saw it.
fn results(report: &Report) -> Results<'_> {
    let mut results: Results<'_> = BTreeMap::new();
    for (run, cases) in report.runs.iter().map(|run| &run.cases).enumerate() {
        for (index, case) in cases.iter().enumerate() {
            for row in &case.requirements {
                let list = results.entry(&row.id).or_default().entry(run).or_default();
                match list.iter_mut().find(|said: &&mut Said| said.case == index) {
                    Some(said) => said.verdict = said.verdict.max(row.verdict),
                    None => list.push(Said {
                        verdict: row.verdict,
                        invariant: row.invariant,
                        case: index,
                    }),
                }
            }
        }
    }
    for list in results.values_mut().flat_map(BTreeMap::values_mut) {
        list.sort_by(|a, b| {
            b.verdict
                .cmp(&a.verdict)
                .then_with(|| (a.invariant, a.case).cmp(&(b.invariant, b.case)))
        });
    }
    results
}

/// The worst case gets the chip, up to six more get a symbol each, the rest are counted.
fn cell(report: &Report, run: usize, cases: &[Said], anchors: &Anchors) -> Cell {
    let Some((worst, rest)) = cases.split_first() else {
        return Cell::default();
    };
    let id = |said: &Said| report.runs[run].cases[said.case].id.clone();
    Cell {
        chip: Some(worst.verdict.into()),
        anchor: anchors.of(run, worst.case),
        title: id(worst),
        more: rest
            .iter()
            .take(SYMBOLS)
            .map(|said| More {
                chip: said.verdict.into(),
                anchor: anchors.of(run, said.case),
                title: id(said),
            })
            .collect(),
        others: rest.len().saturating_sub(SYMBOLS),
    }
}

fn section_key(section: &str) -> Vec<u64> {
    section
        .split('.')
        .map(|part| part.parse().unwrap_or(u64::MAX))
        .collect()
}
