//! A trace on disk: `capture.pcapng`, `topology.yaml` and `trace.json` of an evidence folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use harness::capture::{Drops, Mark, Noise};
use harness::process::ProcessReport;
use harness::topology::Topology;
use serde::{Deserialize, Serialize};

use super::{Seen, Trace};
use crate::edition::Edition;
use crate::scenario::Observation;

/// Version of `trace.json`.
pub const TRACE_FORMAT: u32 = 1;

/// What a trace knows besides its packets and its topology: the content of `trace.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// [`TRACE_FORMAT`].
    pub format: u32,
    /// The case that was run.
    pub case: String,
    /// What was run, as in `results.json`.
    pub implementation: String,
    /// Which texts decide.
    pub edition: Edition,
    /// Whether a broken SHOULD fails.
    pub strict: bool,
    /// The seed of everything random.
    #[serde(default)]
    pub seed: u64,
    /// Features that the implementation claims.
    pub features: BTreeSet<String>,
    /// Nodes whose behaviour is judged.
    pub under_test: BTreeSet<String>,
    /// The sabotage that was in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sabotage: Option<String>,
    /// Why the drive of the case ended early, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// How long the case took, in ms.
    pub duration_ms: u64,
    /// The settings of the nodes whose settings the case changed, as they were.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, serde_json::Value>,
    /// What commands printed that a scenario asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observations: Vec<Observation>,
    /// Named moments.
    pub marks: Vec<Mark>,
    /// What ran, and how it ended. Logs are files of their own.
    pub processes: Vec<ProcessReport>,
    /// Packets that the capture lost.
    pub drops: Vec<Drops>,
    /// How noisy the host was.
    pub noise: Noise,
}

/// Why the drive of a case ended early.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Stopped {
    /// Something that was awaited did not come: the judges say what that means.
    NotSeen(String),
    /// A prerequisite is missing.
    Untestable(String),
    /// The host was too slow to tell.
    Inconclusive(String),
}

impl Stopped {
    /// What happened.
    pub fn text(&self) -> &str {
        match self {
            Stopped::NotSeen(text) | Stopped::Untestable(text) | Stopped::Inconclusive(text) => {
                text
            }
        }
    }
}

/// An evidence folder that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "{file}: {problem}\n  hint: give the folder that `lisplab test --out DIR` wrote for a case, or DIR itself"
)]
pub struct EvidenceError {
    /// Which file.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Trace {
    /// Reads the trace of an evidence folder.
    ///
    /// # Errors
    /// Which of its files cannot be read, and why.
    pub fn read(folder: &Path) -> Result<(Trace, Facts), EvidenceError> {
        let facts: Facts = {
            let path = folder.join("trace.json");
            let text = read(&path)?;
            serde_json::from_slice(&text).map_err(|error| wrong(&path, error))?
        };
        if facts.format != TRACE_FORMAT {
            let found = facts.format;
            return Err(wrong(
                &folder.join("trace.json"),
                format!("expected format {TRACE_FORMAT}, found {found}"),
            ));
        }
        let path = folder.join("topology.yaml");
        let text = String::from_utf8(read(&path)?).map_err(|error| wrong(&path, error))?;
        let mut topology = Topology::parse(&path.display().to_string(), &text)
            .map_err(|error| wrong(&path, error))?;
        for node in &mut topology.nodes {
            if let Some(settings) = facts.settings.get(&node.name) {
                node.settings = settings.clone();
            }
        }
        let path = folder.join("capture.pcapng");
        let capture = harness::pcapng::read(&read(&path)?).map_err(|error| wrong(&path, error))?;
        let trace = Trace {
            packets: capture
                .packets
                .into_iter()
                .map(|packet| Seen::from(named(packet, &topology)))
                .collect(),
            marks: facts.marks.clone(),
            processes: facts.processes.clone(),
            drops: facts.drops.clone(),
            noise: facts.noise,
            topology: Some(topology),
            under_test: facts.under_test.clone(),
            edition: facts.edition,
        };
        Ok((trace, facts))
    }
}

/// Gives a packet of a file the link and the nodes that its interface name (`LINK@NEAR`) stands for.
fn named(mut packet: harness::capture::Packet, topology: &Topology) -> harness::capture::Packet {
    let Some((link, near)) = packet.interface.name.rsplit_once('@') else {
        return packet;
    };
    // A link that was moved: LINK@NEAR:FAR.
    let (near, moved) = match near.split_once(':') {
        Some((near, far)) => (near, Some(far)),
        None => (near, None),
    };
    let Some(far) = topology
        .link(link)
        .and_then(|link| link.ends.iter().find(|end| end.node != near))
        .map(|end| moved.unwrap_or(&end.node).to_owned())
    else {
        return packet;
    };
    let mut interface = (*packet.interface).clone();
    (interface.link, interface.near, interface.far) = (link.to_owned(), near.to_owned(), far);
    packet.interface = std::sync::Arc::new(interface);
    packet
}

fn read(path: &Path) -> Result<Vec<u8>, EvidenceError> {
    std::fs::read(path).map_err(|error| wrong(path, error))
}

fn wrong(path: &Path, problem: impl std::fmt::Display) -> EvidenceError {
    EvidenceError {
        file: PathBuf::from(path).display().to_string(),
        problem: problem.to_string(),
    }
}
