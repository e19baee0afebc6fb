//! Scenarios: a bug report as one file. A network, what is done in it, and what is expected, in YAML (docs/scenarios.md).
//!
//! A scenario becomes a [`Case`](crate::case::Case): it runs with the same evidence, is judged from the same trace by a pure
//! function, and ends with the same verdicts.

mod case;
mod drive;
mod judge;
mod matcher;
mod message;
mod output;
mod read;
mod read_expectations;
mod read_message;
mod read_packet;
mod read_steps;
mod schema;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::topology::yaml::{FileError, Position};
use harness::topology::{Impairment, Topology};

use crate::catalogue::Req;

pub(crate) use judge::Judged;
pub use matcher::{Matcher, ping_number};
pub use message::Message;
pub use output::{Observation, Output, Question};
pub use schema::schema;

/// The version of the form that is read here (`format: 1`).
pub const SCENARIO_FORMAT: u64 = 1;

/// A scenario, read and checked.
#[derive(Debug)]
pub struct Scenario {
    /// Its name, a word; the case's id is `scenario::NAME`.
    pub name: String,
    /// One sentence: what is expected.
    pub title: String,
    /// The network.
    pub topology: Topology,
    /// The network as a file that needs no other.
    pub topology_text: String,
    /// The scenario's own text.
    pub text: String,
    /// The file that it was read from.
    pub source: Option<PathBuf>,
    /// What is tested, where the command line does not say it: an adapter, or `PROGRAM=ADAPTER,...`.
    pub implementation: Option<String>,
    /// Settings of nodes that replace those of the topology, each a JSON mapping.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// Whether all programs are started, and ready, before the first step.
    pub start: bool,
    /// All steps must be over by then.
    pub timeout: Duration,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// What is expected.
    pub expectations: Vec<Expectation>,
}

/// Something that is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// By which expectations name its moment.
    pub name: String,
    /// Where it stands in the file.
    pub at: Position,
    /// What.
    pub action: Action,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a scenario has few of them")]
pub enum Action {
    /// Sends echo requests, one after the other, and waits for each reply.
    Ping(Ping),
    /// Sends a packet from a node.
    Send(Send),
    /// Starts the program of a node and waits until it is ready.
    Start(String),
    /// Stops it as its adapter says.
    Stop(String),
    /// Kills it without warning.
    Kill(String),
    /// Gives it other settings and makes it read them.
    Reload {
        /// The node.
        node: String,
        /// Keys that replace those of the topology.
        settings: serde_json::Value,
    },
    /// Changes a cable.
    Link {
        /// The link.
        link: String,
        /// How.
        change: LinkChange,
    },
    /// Moves a host to another LAN.
    MoveHost {
        /// The host.
        host: String,
        /// Its link.
        link: String,
        /// The bridge that it moves to.
        to: String,
    },
    /// Runs a command in a node and waits for its end.
    Exec(Question),
    /// Waits.
    WaitFor(WaitFor),
    /// Does nothing for a while.
    Sleep(Duration),
}

/// Echo requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Ping {
    /// Who sends them.
    pub from: String,
    /// To whom.
    pub to: IpAddr,
    /// How many.
    pub count: u16,
    /// The sequence number of the first: no two pings of a scenario share one.
    pub first: u16,
    /// How long each waits for its reply.
    pub within: Duration,
    /// Octets of payload.
    pub payload: usize,
    /// TTL or hop limit; the kernel's if not given.
    pub ttl: Option<u8>,
}

/// A packet to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Send {
    /// From which node.
    pub from: String,
    /// How many times.
    pub times: u16,
    /// What.
    pub message: Message,
}

/// How a cable is changed.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkChange {
    /// Plugged in.
    Up,
    /// Pulled out.
    Down,
    /// Damaged from now on; the default heals it.
    Set(Impairment),
}

/// What a step waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitFor {
    /// What.
    pub what: Awaited,
    /// At most so long.
    pub within: Duration,
}

/// Something to wait for.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a scenario has few of them")]
pub enum Awaited {
    /// A packet since a moment.
    Packet(Since, Matcher),
    /// What a command prints.
    Output(Question),
    /// The registration of each of these nodes.
    Registered(Vec<String>),
}

/// A moment from which on packets count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// The start of the lab.
    Beginning,
    /// The beginning of the step of this number.
    Step(usize),
    /// The packet that met the expectation of this number.
    Expectation(usize),
}

/// Something that is expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// Its name.
    pub name: String,
    /// Where it stands in the file.
    pub at: Position,
    /// What it shows about the catalogue's rows.
    pub requirements: Vec<Req>,
    /// From when on.
    pub since: Since,
    /// What.
    pub what: Expected,
}

/// What is expected.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// A packet of the kind passes within a time.
    Packet(Matcher, Duration),
    /// A command prints it within a time; asked right after the step that `since` names, otherwise after the last.
    Output(Question, Duration),
    /// No such packet passes before the fence.
    Never(Matcher, Fence),
    /// So many such packets pass: at least, at most; before the fence, or within a time.
    Count(Matcher, u64, Option<u64>, Fence),
    /// The pings of the step of this number are answered, or none of them is.
    Answered(usize, bool),
}

/// When one may say that something did not happen: a later stimulus whose answer is known.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a scenario has few of them")]
pub enum Fence {
    /// The end of a step that waits for something: a ping that is answered, a wait.
    Step(usize),
    /// A packet after `since`, within a time.
    Packet(Matcher, Duration),
    /// Only for lower bounds: a time after `since`.
    Within(Duration),
}

impl Scenario {
    /// Reads and checks a scenario file.
    ///
    /// # Errors
    /// All problems of the file, or of the topology that it names.
    pub fn load(path: impl AsRef<Path>) -> Result<Scenario, FileError> {
        let path = path.as_ref();
        let text = read_text(path)?;
        let mut scenario = read::read(&path.display().to_string(), &text, None)?;
        scenario.source = Some(path.to_owned());
        Ok(scenario)
    }

    /// Reads a scenario out of an evidence folder or a bundle: its topology is the file beside it, whatever it names.
    ///
    /// # Errors
    /// As [`Scenario::load`].
    pub fn load_beside(folder: &Path) -> Result<Scenario, FileError> {
        let (path, network) = (folder.join("scenario.yaml"), folder.join("topology.yaml"));
        let text = read_text(&path)?;
        let topology = read_text(&network)?;
        let mut scenario = Scenario::parse_with(
            &path.display().to_string(),
            &text,
            &network.display().to_string(),
            &topology,
        )?;
        scenario.source = Some(path);
        Ok(scenario)
    }

    /// Reads and checks a scenario; `file` is the name that errors carry, and topologies are looked up beside it.
    ///
    /// # Errors
    /// As [`Scenario::load`].
    pub fn parse(file: &str, text: &str) -> Result<Scenario, FileError> {
        read::read(file, text, None)
    }

    /// Its file, for commands that repeat it.
    pub(crate) fn file(&self) -> String {
        let source = self.source.as_ref();
        source.map_or_else(
            || "scenario.yaml".to_owned(),
            |path| path.display().to_string(),
        )
    }

    /// Reads and checks a scenario and the topology that comes with it, each with the name that errors carry.
    ///
    /// # Errors
    /// As [`Scenario::load`].
    pub fn parse_with(
        file: &str,
        text: &str,
        topology_file: &str,
        topology: &str,
    ) -> Result<Scenario, FileError> {
        let network = Topology::parse(topology_file, topology)?;
        read::read(file, text, Some((network, topology.to_owned())))
    }

    /// Commands of the scenario and environments of its topology: what a stranger's file would make this machine run.
    pub fn foreign_code(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut ask = |question: &Question| {
            if let Question::Exec { node, argv, .. } = question {
                found.push(format!("{node}: {}", argv.join(" ")));
            }
        };
        for step in &self.steps {
            match &step.action {
                Action::Exec(question)
                | Action::WaitFor(WaitFor {
                    what: Awaited::Output(question),
                    ..
                }) => ask(question),
                _ => {}
            }
        }
        for expectation in &self.expectations {
            if let Expected::Output(question, _) = &expectation.what {
                ask(question);
            }
        }
        for node in &self.topology.nodes {
            if !node.env.is_empty() {
                let names: Vec<&str> = node.env.keys().map(String::as_str).collect();
                found.push(format!(
                    "{}: the environment {}",
                    node.name,
                    names.join(", ")
                ));
            }
        }
        found
    }
}

fn read_text(path: &Path) -> Result<String, FileError> {
    /// No scenario that somebody wrote is larger.
    const LARGEST: u64 = 8 << 20;
    let file = path.display().to_string();
    let wrong = |what: String| {
        FileError::of_file(
            &file,
            what,
            "give the path of a scenario YAML file; scenarios/ has some",
        )
    };
    let length = std::fs::metadata(path)
        .map_err(|error| wrong(format!("cannot be read: {error}")))?
        .len();
    if length > LARGEST {
        return Err(wrong(format!("{length} octets, more than {LARGEST}")));
    }
    std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))
}

/// The shipped scenarios, as cases, by name.
///
/// # Errors
/// What is wrong with one of them.
pub fn shipped() -> Result<Vec<&'static crate::case::Case>, FileError> {
    let folder = crate::home::scenarios();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|file| Scenario::load(file).map(Scenario::into_case))
        .collect()
}
