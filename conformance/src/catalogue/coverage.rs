//! How much of the catalogue the suite judges.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Catalogue, Document};

/// What a row is covered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Covered {
    /// At least one case judges it.
    Case,
    /// An invariant judges it on every trace.
    Invariant,
    /// Left out, with a reason.
    Excluded,
    /// Not yet.
    No,
    /// Not judgeable: recorded only, or not to be seen from outside.
    NotJudgeable,
}

/// Sums over a group of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Testable rows whose observation decides.
    pub judgeable: usize,
    /// Of these: judged by a case or an invariant.
    pub covered: usize,
    /// Of the covered ones: judged by a case.
    pub by_case: usize,
    /// Of the covered ones: judged only by an invariant.
    pub by_invariant: usize,
    /// Of the judgeable ones: left out with a reason.
    pub excluded: usize,
}

impl Figures {
    fn add(&mut self, covered: Covered) {
        match covered {
            Covered::Case => (self.covered, self.by_case) = (self.covered + 1, self.by_case + 1),
            Covered::Invariant => {
                (self.covered, self.by_invariant) = (self.covered + 1, self.by_invariant + 1);
            }
            Covered::Excluded => self.excluded += 1,
            Covered::No => {}
            Covered::NotJudgeable => return,
        }
        self.judgeable += 1;
    }
}

/// One row's state.
#[derive(Debug, Clone, Serialize)]
pub struct RequirementCoverage {
    /// The row.
    pub id: String,
    /// Its document.
    pub rfc: Document,
    /// Its section.
    pub section: String,
    /// How it is covered.
    pub covered: Covered,
    /// Names of the cases that judge it.
    pub cases: Vec<String>,
    /// Why it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The whole picture.
#[derive(Debug, Clone, Serialize)]
pub struct Coverage {
    /// By tier.
    pub tiers: BTreeMap<u8, Figures>,
    /// By document.
    pub rfcs: BTreeMap<String, Figures>,
    /// By role; a row counts for each of its roles.
    pub roles: BTreeMap<String, Figures>,
    /// By level.
    pub levels: BTreeMap<String, Figures>,
    /// All rows.
    pub requirements: Vec<RequirementCoverage>,
}

/// Counts the catalogue against `(requirement, case)` pairs and the ids that the invariants judge.
pub fn coverage<'a>(
    catalogue: &Catalogue,
    by_case: impl IntoIterator<Item = (&'a str, &'a str)>,
    by_invariant: impl IntoIterator<Item = &'a str>,
) -> Coverage {
    let mut cases: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (requirement, case) in by_case {
        cases.entry(requirement).or_default().insert(case);
    }
    let invariants: BTreeSet<&str> = by_invariant.into_iter().collect();
    let mut whole = Coverage {
        tiers: BTreeMap::new(),
        rfcs: BTreeMap::new(),
        roles: BTreeMap::new(),
        levels: BTreeMap::new(),
        requirements: Vec::new(),
    };
    for row in catalogue.iter() {
        let id = row.id.as_str();
        let covered = if !row.is_judgeable() {
            Covered::NotJudgeable
        } else if cases.contains_key(id) {
            Covered::Case
        } else if invariants.contains(id) {
            Covered::Invariant
        } else if catalogue.exclusion(id).is_some() {
            Covered::Excluded
        } else {
            Covered::No
        };
        whole.tiers.entry(row.tier).or_default().add(covered);
        whole
            .rfcs
            .entry(row.rfc.to_string())
            .or_default()
            .add(covered);
        whole
            .levels
            .entry(row.level.to_string())
            .or_default()
            .add(covered);
        for role in &row.role {
            whole.roles.entry(role.clone()).or_default().add(covered);
        }
        whole.requirements.push(RequirementCoverage {
            id: row.id.clone(),
            rfc: row.rfc.clone(),
            section: row.section.clone(),
            covered,
            cases: cases
                .get(id)
                .into_iter()
                .flatten()
                .map(|case| (*case).to_owned())
                .collect(),
            reason: catalogue
                .exclusion(id)
                .or(row.reason.as_deref())
                .map(str::to_owned),
        });
    }
    whole
}
