//! Which adapter serves which node: one for all, or a mix.

use std::collections::{BTreeMap, BTreeSet};

use super::adapter::{Adapter, AdapterError, Program};

/// What is tested.
#[derive(Debug, Clone)]
pub struct Implementation {
    /// What the adapters call themselves: `lisplab`, or `xtr=lisplab,msmr=theirs`. Results and bundles show it: it has no
    /// paths.
    pub name: String,
    /// As it was asked for, with paths: `xtr=ours,msmr=/home/me/theirs.yaml`.
    pub asked: String,
    adapters: Vec<Adapter>,
    /// Index into `adapters` by program; programs that are not here are the first adapter's.
    by_program: BTreeMap<String, usize>,
}

impl Implementation {
    /// Loads what `--implementation` names: an adapter, or `PROGRAM=ADAPTER` pairs separated by commas. In a mix, programs
    /// that no pair names are ours.
    ///
    /// # Errors
    /// An adapter cannot be loaded or has no such program.
    pub fn load(name: &str) -> Result<Implementation, AdapterError> {
        if !name.contains('=') {
            let adapter = Adapter::load(name)?;
            return Ok(Implementation {
                name: adapter.name.clone(),
                asked: name.to_owned(),
                adapters: vec![adapter],
                by_program: BTreeMap::new(),
            });
        }
        let mut mix = Implementation {
            name: String::new(),
            asked: name.to_owned(),
            adapters: vec![Adapter::load("lisplab")?],
            by_program: BTreeMap::new(),
        };
        for pair in name.split(',') {
            let wrong =
                |problem: String| AdapterError(format!("--implementation {name}: {problem}"));
            let Some((program, adapter)) = pair.split_once('=') else {
                return Err(wrong(format!("expected PROGRAM=ADAPTER, found {pair:?}")));
            };
            let adapter = Adapter::load(if adapter == "ours" {
                "lisplab"
            } else {
                adapter
            })?;
            if !adapter.programs.contains_key(program) {
                let known: Vec<&str> = adapter.programs.keys().map(String::as_str).collect();
                return Err(wrong(format!(
                    "{} has no program {program}, only {}",
                    adapter.name,
                    known.join(", ")
                )));
            }
            let comma = if mix.name.is_empty() { "" } else { "," };
            mix.name
                .push_str(&format!("{comma}{program}={}", adapter.name));
            mix.by_program
                .insert(program.to_owned(), mix.adapters.len());
            mix.adapters.push(adapter);
        }
        Ok(mix)
    }

    /// The adapter and program for the `role` of a node; `None` for a role that is no program.
    pub fn program(&self, role: &str) -> Option<(&Adapter, &Program)> {
        let adapter = &self.adapters[self.by_program.get(role).copied().unwrap_or(0)];
        adapter.programs.get(role).map(|program| (adapter, program))
    }

    /// All programs.
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        self.adapters
            .iter()
            .flat_map(|adapter| adapter.programs.values())
    }

    /// Features that every one of the given programs claims.
    pub fn features<'a>(&self, programs: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
        let mut common: Option<BTreeSet<String>> = None;
        for program in programs {
            let Some((adapter, _)) = self.program(program) else {
                continue;
            };
            common = Some(match common {
                None => adapter.features.clone(),
                Some(features) => features.intersection(&adapter.features).cloned().collect(),
            });
        }
        common.unwrap_or_default()
    }

    /// What the programs say of their versions, each in one line: the first adapter's, and in a mix those of the others.
    pub fn version(&self) -> Option<String> {
        let mut lines: Vec<String> = Vec::new();
        for adapter in &self.adapters {
            let line = super::version::of(adapter);
            lines.extend(line.filter(|line| !lines.contains(line)));
        }
        (!lines.is_empty()).then(|| lines.join(", "))
    }
}
