//! A case: a network, what is done in it, and who judges what was seen.

use std::time::Duration;

use harness::topology::{Topology, TopologyError};

use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::scenario::Scenario;
use crate::trace::Trace;

/// A judge: a pure function from a trace to findings.
pub type Judge = fn(&Trace, &mut Findings);

/// One case. Write it with `..Case::BASE` and hand it in with `inventory::submit!`.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Stable and readable: `rfc6830::s6_1_5::overlapping_prefixes_answered_together`.
    pub id: &'static str,
    /// One sentence: what is expected.
    pub title: &'static str,
    /// A file of `topologies/`, without its ending.
    pub topology: &'static str,
    /// Changes to the settings of nodes: `(node, YAML mapping)`. The mapping's keys replace those of the topology.
    pub settings: &'static [(&'static str, &'static str)],
    /// Timers that the case waits for; see [`Timer`].
    pub timers: &'static [Timer],
    /// Which texts it can judge.
    pub editions: &'static [Edition],
    /// Whom it judges, in the catalogue's words (`itr`, `etr`, `ms`, `mr`, ...).
    pub roles: &'static [&'static str],
    /// Features that an implementation must claim, besides those of the requirements.
    pub features: &'static [&'static str],
    /// What it judges. A requirement without a finding makes the case untestable.
    pub requirements: &'static [Req],
    /// The whole case must be over by then.
    pub timeout: Duration,
    /// Runs only with `--slow`.
    pub slow: bool,
    /// Whether the programs are started, and ready, before `drive` runs; otherwise it starts them itself.
    pub start: bool,
    /// Makes things happen.
    pub drive: fn(&mut Drive) -> Result<(), Stop>,
    /// Decide, in this order. The invariants judge every case and are not named here.
    pub judges: &'static [Judge],
    /// Each must turn the case red.
    pub sabotages: &'static [Sabotage],
    /// The scenario that it was made from: that drives and judges it, and brings its topology.
    pub scenario: Option<&'static Scenario>,
}

/// A protocol timer that a case waits for.
///
/// Where the implementation's adapter says that the timer can be set, the short form runs; elsewhere the case runs with the
/// value of the text, and only with `--slow`.
#[derive(Debug, Clone, Copy)]
pub struct Timer {
    /// The node.
    pub node: &'static str,
    /// The setting's name (`registration-timeout`).
    pub name: &'static str,
    /// The value of the text.
    pub text: Duration,
    /// The value of the short form.
    pub short: Duration,
}

impl Case {
    /// What most cases have in common.
    pub const BASE: Case = Case {
        id: "",
        title: "",
        topology: "two-sites",
        settings: &[],
        timers: &[],
        editions: Edition::ALL,
        roles: &[],
        features: &[],
        requirements: &[],
        timeout: Duration::from_secs(30),
        slow: false,
        start: true,
        drive: |_| Ok(()),
        judges: &[],
        sabotages: &[],
        scenario: None,
    };

    /// The name under which `cargo test` and `cargo nextest` list it.
    pub fn name(&self) -> &'static str {
        self.id
    }

    /// Its network, before settings are changed.
    ///
    /// # Errors
    /// What is wrong with the topology's file.
    pub fn network(&self) -> Result<Topology, TopologyError> {
        match self.scenario {
            Some(scenario) => Ok(scenario.network()),
            None => Topology::load(crate::home::topology_file(self.topology)),
        }
    }
}

inventory::collect!(Case);

/// All cases, by id.
///
/// # Panics
/// When two cases have one id or a case breaks a rule of its form, which the crate's tests rule out.
pub fn all() -> &'static [&'static Case] {
    static ALL: std::sync::OnceLock<Vec<&'static Case>> = std::sync::OnceLock::new();
    ALL.get_or_init(|| {
        let mut cases: Vec<&Case> = inventory::iter::<Case>().collect();
        cases.sort_by_key(|case| case.id);
        for pair in cases.windows(2) {
            assert_ne!(pair[0].id, pair[1].id, "two cases have one id");
        }
        cases
    })
}

/// The case of an id.
pub fn find(id: &str) -> Option<&'static Case> {
    let cases = all();
    cases
        .binary_search_by_key(&id, |case| case.id)
        .ok()
        .map(|at| cases[at])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_case_has_a_sound_form() {
        let catalogue = crate::catalogue::catalogue();
        for case in all() {
            let id = case.id;
            assert!(
                id.split("::").count() >= 3,
                "{id}: expected rfcNNNN::sN_N::what"
            );
            assert!(
                id.chars().all(|letter| letter.is_ascii_lowercase()
                    || letter.is_ascii_digit()
                    || "_:".contains(letter)),
                "{id}: lower case letters, digits, _ and :: only"
            );
            assert!(
                !case.title.is_empty() && !case.requirements.is_empty() && !case.judges.is_empty(),
                "{id}: is empty"
            );
            assert!(
                !case.sabotages.is_empty(),
                "{id}: needs a sabotage that turns it red"
            );
            for role in case.roles {
                assert!(
                    catalogue.roles().contains_key(*role),
                    "{id}: the catalogue has no role {role}"
                );
            }
            assert!(!case.roles.is_empty(), "{id}: judges nobody");
            for feature in case.features {
                assert!(
                    catalogue.features().contains_key(*feature),
                    "{id}: the catalogue has no feature {feature}"
                );
            }
            for sabotage in case.sabotages {
                for requirement in sabotage.kills {
                    assert!(
                        case.requirements.contains(requirement)
                            || crate::invariants::ids().any(|id| id == *requirement),
                        "{id}: {} kills {requirement}, which the case does not judge",
                        sabotage.name
                    );
                }
            }
            let topology = crate::home::topology_file(case.topology);
            assert!(
                topology.is_file(),
                "{id}: {} is missing",
                topology.display()
            );
        }
    }

    /// A file of cases that no `mod` line names would silently be no case at all.
    #[test]
    fn every_file_of_cases_is_compiled() {
        fn walk(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, files);
                } else {
                    files.push(path);
                }
            }
        }
        let mut files = Vec::new();
        walk(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cases"),
            &mut files,
        );
        for file in files {
            if file.file_name().unwrap() == "mod.rs" {
                continue;
            }
            let module = file.file_stem().unwrap().to_str().unwrap().to_owned();
            let parent = std::fs::read_to_string(file.parent().unwrap().join("mod.rs")).unwrap();
            assert!(
                parent
                    .lines()
                    .filter_map(|line| line.trim().strip_suffix(&format!("mod {module};")))
                    .any(|visible| ["", "pub ", "pub(super) ", "pub(crate) "].contains(&visible)),
                "{}: its mod.rs has no line `mod {module};`",
                file.display()
            );
        }
    }
}
