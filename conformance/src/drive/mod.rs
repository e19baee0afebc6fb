//! What a case can do in its lab: programs, scripted peers, pings, waiting for packets.

mod peer;
mod programs;
mod ready;

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use harness::Lab;
use harness::capture::Mark;
use harness::process::NotSeen;

use crate::case::Case;
use crate::scenario::Observation;
use crate::trace::Seen;

pub use peer::{Echo, Peer, PeerError, data_packet};
pub(crate) use programs::{Programs, merge_settings};

/// Why a drive ends early.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Something that was awaited did not come. The judges say what that means.
    #[error("{0}")]
    NotSeen(String),
    /// A prerequisite is missing: a program that does not start, say.
    #[error("{0}")]
    Untestable(String),
    /// The time for the whole case is over.
    #[error("{0}")]
    OutOfTime(String),
}

impl From<NotSeen> for Stop {
    fn from(error: NotSeen) -> Stop {
        Stop::NotSeen(error.to_string())
    }
}

impl From<harness::LabError> for Stop {
    fn from(error: harness::LabError) -> Stop {
        Stop::Untestable(error.to_string())
    }
}

impl From<PeerError> for Stop {
    fn from(error: PeerError) -> Stop {
        Stop::Untestable(error.to_string())
    }
}

/// The lab of a case, while it is driven.
pub struct Drive<'a> {
    lab: &'a Lab,
    case: &'a Case,
    programs: Programs<'a>,
    deadline: Instant,
    random: Cell<u64>,
    marks: RefCell<Vec<Mark>>,
    observations: Vec<Observation>,
    progress: &'a (dyn Fn(&str) + Sync),
}

impl<'a> Drive<'a> {
    pub(crate) fn new(
        lab: &'a Lab,
        case: &'a Case,
        programs: Programs<'a>,
        seed: u64,
        progress: &'a (dyn Fn(&str) + Sync),
    ) -> Drive<'a> {
        Drive {
            lab,
            case,
            programs,
            deadline: Instant::now() + case.timeout,
            random: Cell::new(seed),
            marks: RefCell::default(),
            observations: Vec::new(),
            progress,
        }
    }

    pub(crate) fn end(self) -> (Programs<'a>, Vec<Mark>, Vec<Observation>) {
        (self.programs, self.marks.into_inner(), self.observations)
    }

    /// Keeps what a command printed, for the judges.
    pub(crate) fn observe(&mut self, observation: Observation) {
        self.observations.push(observation);
    }

    /// Says what is being waited for.
    pub(crate) fn waits(&self, what: &str) {
        (self.progress)(what);
    }

    /// The command that shows something of a node's program; `None` where its adapter knows none.
    pub(crate) fn show_command(&self, node: &str, what: &str) -> Result<Option<Vec<String>>, Stop> {
        self.programs.show_command(node, what)
    }

    /// The lab itself.
    pub fn lab(&self) -> &'a Lab {
        self.lab
    }

    /// Now, in ns on the clock of the packets.
    pub fn now_ns(&self) -> u64 {
        self.lab.now_ns()
    }

    /// Names this moment for the judges ([`Trace::since`](crate::trace::Trace::since)), and returns it.
    pub fn mark(&self, text: &str) -> u64 {
        let time_ns = self.lab.mark(text);
        self.marks.borrow_mut().push(Mark {
            time_ns,
            text: text.to_owned(),
        });
        time_ns
    }

    /// The first address of a node.
    ///
    /// # Errors
    /// The topology gives it none.
    pub fn address(&self, node: &str) -> Result<IpAddr, Stop> {
        let address = self.lab.topology().addresses(node).next();
        address.map(|net| net.addr()).ok_or_else(|| {
            Stop::Untestable(format!("the topology gives the node {node} no address"))
        })
    }

    /// Waits for a packet that passed at or after `since` (0: the start of the lab; else what [`Drive::mark`] returned).
    ///
    /// # Errors
    /// It did not come within `within`; `what` names it in the message.
    pub fn wait_for(
        &self,
        since: u64,
        what: &str,
        within: Duration,
        matches: impl Fn(&Seen) -> bool,
    ) -> Result<Seen, Stop> {
        (self.progress)(what);
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Stop::OutOfTime(format!(
                "the {:?} of the whole case were over before {what}",
                self.case.timeout
            )));
        }
        let mut found = None;
        self.lab.wait_for(what, within.min(left), |packet| {
            if packet.time_ns < since {
                return false;
            }
            let seen = Seen::from(packet.clone());
            let hit = matches(&seen);
            if hit {
                found = Some(seen);
            }
            hit
        })?;
        found.ok_or_else(|| Stop::NotSeen(format!("not seen: {what}")))
    }

    /// Packets that passed at or after `since`, up to now: everything that passed before the call is among them.
    pub fn packets(&self, since: u64) -> Vec<Seen> {
        self.lab.catch_up();
        self.lab
            .packets()
            .into_iter()
            .filter(|packet| packet.time_ns >= since)
            .map(Seen::from)
            .collect()
    }

    /// Sends one echo request and waits for its reply; whether it came. The reply is awaited by the sending node's kernel.
    ///
    /// # Errors
    /// The node cannot send.
    pub fn ping(
        &self,
        node: &str,
        to: IpAddr,
        sequence: u16,
        within: Duration,
    ) -> Result<bool, Stop> {
        (self.progress)(&format!("echo reply {sequence} from {to} to {node}"));
        let ping = harness::Ping {
            sequence,
            timeout: within,
            ..harness::Ping::default()
        };
        match self.lab.ping(node, to, &ping) {
            Ok(_) => Ok(true),
            Err(harness::PingError::Lab(error)) => Err(error.into()),
            Err(_) => Ok(false),
        }
    }

    /// Waits until each of these nodes has registered: its Map-Register was delivered to a Map-Server, and where it asks
    /// for a Map-Notify, that came back.
    ///
    /// # Errors
    /// One did not within `within`.
    pub fn registered(&self, nodes: &[&str], within: Duration) -> Result<(), Stop> {
        for node in nodes {
            let what = format!("the Map-Register of {node} at the Map-Server");
            let register = self.wait_for(0, &what, within, |packet| {
                let from = packet.source().and_then(|source| self.node_of(source));
                from.as_deref() == Some(*node)
                    && packet.map_register().is_some()
                    && packet
                        .destination()
                        .and_then(|to| self.node_of(to))
                        .as_deref()
                        == packet.receiver()
            })?;
            if register
                .map_register()
                .is_some_and(|register| register.want_map_notify)
            {
                let what = format!("the Map-Notify for {node}");
                self.wait_for(register.time_ns(), &what, within, |packet| {
                    packet.map_notify().is_some() && packet.receiver() == Some(*node)
                })?;
            }
        }
        Ok(())
    }

    /// The node that has an address.
    pub fn node_of(&self, address: IpAddr) -> Option<String> {
        let topology = self.lab.topology();
        let node = topology.nodes.iter().find(|node| {
            topology
                .addresses(&node.name)
                .any(|net| net.addr() == address)
        });
        node.map(|node| node.name.clone())
    }

    /// A scripted peer at a node: it sends any packet and answers what the case lets it answer.
    ///
    /// # Errors
    /// The node does not exist or its sockets cannot be opened.
    pub fn peer(&self, node: &str) -> Result<Peer, Stop> {
        Ok(Peer::new(self.lab, node)?)
    }

    /// How long the timer `name` of a node runs: the short form where the adapter can set it, else the text's value.
    pub fn timer(&self, node: &str, name: &str) -> Duration {
        self.programs.timer(node, name)
    }

    /// Starts the program of a node and waits until it is ready.
    ///
    /// # Errors
    /// It is missing, dies, or does not get ready; with the last lines of its log.
    pub fn start(&mut self, node: &str) -> Result<(), Stop> {
        (self.progress)(&format!("{node} to be ready"));
        self.programs.start(self.lab, node)
    }

    /// Starts all programs of the topology, in its order, and waits until all are ready.
    ///
    /// # Errors
    /// As [`Drive::start`].
    pub fn start_all(&mut self) -> Result<(), Stop> {
        (self.progress)("all programs to be ready");
        self.programs.start_all(self.lab)
    }

    /// Stops the program of a node as its adapter says, and kills it after the adapter's deadline.
    ///
    /// # Errors
    /// It does not run.
    pub fn stop(&mut self, node: &str) -> Result<(), Stop> {
        (self.progress)(&format!("{node} to stop"));
        self.programs.stop(node)
    }

    /// Kills the program of a node without warning.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, node: &str) -> Result<(), Stop> {
        self.programs.kill(node)
    }

    /// Gives the program of a node new settings (a YAML mapping whose keys replace those of the topology) and makes it read
    /// them again as its adapter says.
    ///
    /// # Errors
    /// It does not run, or its adapter knows no reload.
    pub fn reload(&mut self, node: &str, settings: &str) -> Result<(), Stop> {
        self.programs.reload(self.lab, node, settings)
    }

    /// Lets a node's program ask the mapping system by hand (RFC 6835), for an EID or for the site's own first EID-Prefix, and
    /// waits until it has ended. What it prints and how it ends is its own matter.
    ///
    /// # Errors
    /// Its adapter does not know how, or it did not end within `within`.
    pub fn lig(&self, node: &str, eid: Option<IpAddr>, within: Duration) -> Result<(), Stop> {
        let what = eid.map_or_else(|| "itself".to_owned(), |eid| eid.to_string());
        (self.progress)(&format!("{node} to ask the mapping system for {what}"));
        let command = self.programs.lig_command(node, eid)?;
        self.lab.exec(node, command, within)?;
        Ok(())
    }

    /// Whether the program of a node still runs.
    pub fn runs(&self, node: &str) -> bool {
        self.programs.runs(node)
    }

    /// A random 64-bit number from the seed of the run.
    pub fn random(&self) -> u64 {
        // SplitMix64: every seed gives a full period.
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
