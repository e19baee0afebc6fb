//! Coverage of the catalogue and the kill matrix.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use serde::Serialize;

use crate::catalogue::Figures;
use crate::kill::Kill;
use crate::report::model::Report;

#[derive(Serialize)]
pub(super) struct CoverageTable {
    name: &'static str,
    rows: Vec<CoverageRow>,
}

#[derive(Serialize)]
struct CoverageRow {
    name: String,
    figures: Figures,
    open: usize,
    /// Parts of a bar that is 1000 wide: by case, by invariant, excluded.
    parts: [usize; 3],
}

pub(super) fn coverage(report: &Report) -> Vec<CoverageTable> {
    let Some(coverage) = &report.coverage else {
        return Vec::new();
    };
    vec![
        CoverageTable {
            name: "Tier",
            rows: rows(&coverage.tiers),
        },
        CoverageTable {
            name: "Document",
            rows: rows(&coverage.rfcs),
        },
        CoverageTable {
            name: "Role",
            rows: rows(&coverage.roles),
        },
        CoverageTable {
            name: "Level",
            rows: rows(&coverage.levels),
        },
    ]
}

fn rows<K: Display>(groups: &BTreeMap<K, Figures>) -> Vec<CoverageRow> {
    let judgeable = groups.iter().filter(|(_, figures)| figures.judgeable > 0);
    judgeable
        .map(|(name, figures)| {
            let part = |count: usize| count * 1000 / figures.judgeable;
            CoverageRow {
                name: name.to_string(),
                figures: *figures,
                open: figures
                    .judgeable
                    .saturating_sub(figures.covered + figures.excluded),
                parts: [
                    part(figures.by_case),
                    part(figures.by_invariant),
                    part(figures.excluded),
                ],
            }
        })
        .collect()
}

#[derive(Serialize)]
pub(super) struct Kills {
    total: usize,
    killed: usize,
    cases: Vec<KilledCase>,
}

#[derive(Serialize)]
struct KilledCase {
    case: String,
    kills: Vec<KillRow>,
}

#[derive(Serialize)]
struct KillRow {
    sabotage: String,
    edition: String,
    killed: bool,
    by: Vec<String>,
    missed: Vec<String>,
}

pub(super) fn kills(report: &Report) -> Kills {
    let mut cases: BTreeMap<&str, BTreeSet<&Kill>> = BTreeMap::new();
    for kill in &report.kills {
        cases.entry(&kill.case).or_default().insert(kill);
    }
    let all = || cases.values().flatten();
    Kills {
        total: all().count(),
        killed: all().filter(|kill| kill.killed).count(),
        cases: cases
            .iter()
            .map(|(case, kills)| KilledCase {
                case: (*case).to_owned(),
                kills: kills
                    .iter()
                    .map(|kill| KillRow {
                        sabotage: kill.sabotage.clone(),
                        edition: kill.edition.to_string(),
                        killed: kill.killed,
                        by: kill.by.clone(),
                        missed: kill.missed.clone(),
                    })
                    .collect(),
            })
            .collect(),
    }
}
