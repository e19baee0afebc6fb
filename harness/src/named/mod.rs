//! Named labs: they survive the command that made them, and other commands find them by name.
//!
//! A lab is held by a process of its own, the holder. The network namespaces of its nodes have names under `/run/netns`
//! (`LAB-NODE`), so that `ip netns exec` and everybody's habits work; an ordinary user's names are in the holder's own mount
//! namespace. Commands talk to the holder over a Unix socket, and enter nodes through descriptors that it hands out. When
//! the holder ends, however that happens, all programs and namespaces of the lab end; what is left then (names, a state
//! file) is written down exactly and removed by the next [`Registry::clean`].

mod client;
mod holder;
mod names;
mod protocol;
mod state;
mod words;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::inline::LinkStatistics;
use crate::lab::LabError;
use crate::process::{Exit, Program};
use crate::topology::Topology;

pub use client::{NamedCapture, NamedLab};
pub use holder::up;
pub use protocol::LinkChange;
pub use state::Registry;

/// A program that belongs to a node of a named lab: started with the lab, restarted and killed by command.
#[derive(Clone, Debug)]
pub struct Service {
    /// The node.
    pub node: String,
    /// The program.
    pub program: Program,
    /// A text in its output that says that it is ready; `up` and `restart` wait for it.
    pub ready: Option<String>,
}

/// How a named lab is made.
#[derive(Clone, Debug)]
pub struct NamedOptions {
    /// Its name: a word of letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Programs to start in it, in this order.
    pub services: Vec<Service>,
    /// How long to wait for each to be ready.
    pub ready_timeout: Duration,
    /// Make all links plain cables, which are faster but cannot be changed at run time.
    pub plain_cables: bool,
}

impl NamedOptions {
    /// A lab with the topology's name and without programs.
    pub fn new(topology: &Topology) -> NamedOptions {
        NamedOptions {
            name: topology.name.clone(),
            services: Vec::new(),
            ready_timeout: Duration::from_secs(10),
            plain_cables: false,
        }
    }
}

/// How a named lab is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// Its name.
    pub name: String,
    /// The name of its topology.
    pub topology: String,
    /// The process that holds it.
    pub holder: u32,
    /// Seconds that it has been up.
    pub uptime: u64,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
    /// Its links.
    pub links: Vec<LinkStatus>,
}

/// How a node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its role in the topology.
    pub role: Option<String>,
    /// The name of its namespace for `ip netns`, if it has one that the host sees.
    pub netns: Option<String>,
    /// Its programs.
    pub services: Vec<ServiceStatus>,
}

/// How a program of a node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Its process id, as the host sees it.
    pub pid: u32,
    /// How it ended, if it has.
    pub exit: Option<Exit>,
    /// Whether a signal has stopped it.
    #[serde(default)]
    pub stopped: bool,
}

/// How a link is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LinkStatus {
    /// Its name.
    pub name: String,
    /// The nodes at its ends.
    pub ends: [String; 2],
    /// Whether the cable is plugged in.
    pub up: bool,
    /// The damage set on it, in the words of the topology's `impair`.
    pub impair: Vec<(String, String)>,
    /// What happened on it; `None` for a plain cable.
    pub statistics: Option<LinkStatistics>,
}

fn wrong(what: impl Into<String>, hint: impl Into<String>) -> LabError {
    LabError::usage(what, hint)
}
