//! A trace: all packets of all links of one run, and what else a judge may look at. Judges are pure functions of it.

mod evidence;
mod packet;
mod summary;

use std::collections::BTreeSet;
use std::net::IpAddr;

use harness::capture::{Drops, Mark, Noise, Recording};
use harness::process::ProcessReport;
use harness::topology::{Node, Topology};
use lisp::EidPrefix;

use crate::edition::Edition;

pub use evidence::{EvidenceError, Facts, Stopped, TRACE_FORMAT};
pub use packet::Seen;
pub use summary::label;

/// Everything that verdicts are made from.
#[derive(Debug, Clone)]
pub struct Trace {
    /// All packets in the order of time.
    pub packets: Vec<Seen>,
    /// Named moments in the order of time.
    pub marks: Vec<Mark>,
    /// Every process that ran, and how it ended.
    pub processes: Vec<ProcessReport>,
    /// Packets that the capture lost.
    pub drops: Vec<Drops>,
    /// How noisy the host was.
    pub noise: Noise,
    /// The network; `None` for a capture from elsewhere.
    pub topology: Option<Topology>,
    /// Nodes whose behaviour is judged; empty for a capture from elsewhere, where everybody's is.
    pub under_test: BTreeSet<String>,
    /// Which texts decide.
    pub edition: Edition,
}

impl Trace {
    /// The trace of a lab.
    pub fn from_recording(
        recording: Recording,
        topology: Topology,
        under_test: BTreeSet<String>,
        edition: Edition,
    ) -> Trace {
        Trace {
            packets: recording.packets.into_iter().map(Seen::from).collect(),
            marks: recording.marks,
            processes: recording.processes,
            drops: recording.drops,
            noise: recording.noise,
            topology: Some(topology),
            under_test,
            edition,
        }
    }

    /// A capture from elsewhere: packets, and nothing known about who is who.
    pub fn from_packets(packets: Vec<harness::capture::Packet>, edition: Edition) -> Trace {
        Trace {
            packets: packets.into_iter().map(Seen::from).collect(),
            marks: Vec::new(),
            processes: Vec::new(),
            drops: Vec::new(),
            noise: Noise::default(),
            topology: None,
            under_test: BTreeSet::new(),
            edition,
        }
    }

    /// All packets.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Seen> + Clone {
        self.packets.iter()
    }

    /// Packets that `node` put onto a link, forwarded ones included.
    pub fn sent_by<'a>(
        &'a self,
        node: &'a str,
    ) -> impl DoubleEndedIterator<Item = &'a Seen> + Clone {
        self.iter()
            .filter(move |packet| packet.sender() == Some(node))
    }

    /// Packets that a link delivered to `node`.
    pub fn received_by<'a>(
        &'a self,
        node: &'a str,
    ) -> impl DoubleEndedIterator<Item = &'a Seen> + Clone {
        self.iter()
            .filter(move |packet| packet.receiver() == Some(node))
    }

    /// Packets that `node` made itself: sent by it, from one of its own addresses.
    pub fn originated<'a>(
        &'a self,
        node: &'a str,
    ) -> impl DoubleEndedIterator<Item = &'a Seen> + Clone {
        self.sent_by(node).filter(move |packet| {
            packet
                .source()
                .is_some_and(|source| self.has_address(node, source))
        })
    }

    /// Packets whose sender is judged, once each: as the sender put them onto its first link. In a capture from
    /// elsewhere these are all packets.
    pub fn judged(&self) -> impl DoubleEndedIterator<Item = &Seen> + Clone {
        self.iter().filter(
            |packet| match (&self.topology, packet.sender(), packet.source()) {
                (Some(_), Some(node), Some(source)) => {
                    self.under_test.contains(node) && self.has_address(node, source)
                }
                (Some(_), _, _) => false,
                (None, _, _) => true,
            },
        )
    }

    /// When a moment was marked; the first of that name.
    pub fn mark(&self, text: &str) -> Option<u64> {
        self.marks
            .iter()
            .find(|mark| mark.text == text)
            .map(|mark| mark.time_ns)
    }

    /// Packets from a marked moment on; none if it was never marked.
    pub fn since<'a>(&'a self, text: &str) -> impl DoubleEndedIterator<Item = &'a Seen> + Clone {
        let start = self.mark(text).unwrap_or(u64::MAX);
        self.iter().filter(move |packet| packet.time_ns() >= start)
    }

    /// Packets between two marked moments; to the end if the second was never marked.
    pub fn between<'a>(
        &'a self,
        from: &str,
        to: &str,
    ) -> impl DoubleEndedIterator<Item = &'a Seen> + Clone {
        let end = self.mark(to).unwrap_or(u64::MAX);
        self.since(from)
            .filter(move |packet| packet.time_ns() < end)
    }

    /// Whether an address is one of a node's interfaces.
    pub fn has_address(&self, node: &str, address: IpAddr) -> bool {
        self.topology
            .as_ref()
            .is_some_and(|topology| topology.addresses(node).any(|net| net.addr() == address))
    }

    /// The node that has an address.
    pub fn node_of(&self, address: IpAddr) -> Option<&str> {
        let topology = self.topology.as_ref()?;
        topology
            .nodes
            .iter()
            .find(|node| {
                topology
                    .addresses(&node.name)
                    .any(|net| net.addr() == address)
            })
            .map(|node| node.name.as_str())
    }

    /// All EID-Prefixes of all sites, from the `eid-prefixes` of the nodes' settings.
    pub fn eid_prefixes(&self) -> Vec<EidPrefix> {
        let nodes = self
            .topology
            .iter()
            .flat_map(|topology| topology.nodes.iter());
        let mut prefixes: Vec<EidPrefix> = nodes.flat_map(eid_prefixes).collect();
        prefixes.sort();
        prefixes.dedup();
        prefixes
    }

    /// The EID-Prefixes of one node's site.
    pub fn eid_prefixes_of(&self, node: &str) -> Vec<EidPrefix> {
        self.topology
            .as_ref()
            .and_then(|topology| topology.node(node))
            .map(eid_prefixes)
            .unwrap_or_default()
    }

    /// Whether an address of Instance ID 0 is an EID of some site.
    pub fn is_eid(&self, address: IpAddr) -> bool {
        self.eid_prefixes()
            .iter()
            .any(|prefix| prefix.contains(0, address))
    }
}

fn eid_prefixes(node: &Node) -> Vec<EidPrefix> {
    let list = node
        .settings
        .get("eid-prefixes")
        .and_then(|list| list.as_array());
    list.into_iter()
        .flatten()
        .filter_map(|entry| {
            let prefix = entry.get("prefix")?.as_str()?.parse().ok()?;
            let iid = entry
                .get("instance-id")
                .and_then(|iid| iid.as_u64())
                .unwrap_or(0);
            Some(EidPrefix::new(u32::try_from(iid).ok()?, prefix))
        })
        .collect()
}
