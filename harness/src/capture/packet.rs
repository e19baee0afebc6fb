//! Captured packets and what a finished lab leaves.

use std::sync::Arc;
use std::time::Duration;

/// Where packets were captured: one link, seen from one of its ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Interface {
    /// Its name in the capture file: `LINK@NEAR`.
    pub name: String,
    /// The link; in a foreign capture file the interface's name.
    pub link: String,
    /// The node at whose end the capture sits; empty in a foreign capture file.
    pub near: String,
    /// The node at the other end; empty in a foreign capture file.
    pub far: String,
    /// The link type of pcap (1 is Ethernet).
    pub link_type: u16,
}

/// Which way a packet went, seen from the near end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the near end to the far end.
    Out,
    /// From the far end to the near end.
    In,
    /// The capture file does not say.
    Unknown,
}

/// One captured packet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Its number in the finished recording or file, from 1; 0 while the lab is still running.
    pub number: u64,
    /// When it passed, in nanoseconds since 1970 by the kernel's clock at the start of the lab: never stepped meanwhile.
    pub time_ns: u64,
    /// Where it was captured.
    pub interface: Arc<Interface>,
    /// Which way it went.
    pub direction: Direction,
    /// Its octets, from the link layer header on.
    pub data: Arc<[u8]>,
    /// Its length on the wire; more than `data` if the capture cut it.
    pub original_len: u32,
    /// Comments of the capture file.
    pub comments: Vec<String>,
}

impl Packet {
    /// The link that it passed.
    pub fn link(&self) -> &str {
        &self.interface.link
    }

    /// The node that sent it onto the link, if that is known.
    pub fn from_node(&self) -> Option<&str> {
        let node = match self.direction {
            Direction::Out => &self.interface.near,
            Direction::In => &self.interface.far,
            Direction::Unknown => return None,
        };
        (!node.is_empty()).then_some(node)
    }

    /// The node that it was sent to over the link, if that is known.
    pub fn to_node(&self) -> Option<&str> {
        let node = match self.direction {
            Direction::Out => &self.interface.far,
            Direction::In => &self.interface.near,
            Direction::Unknown => return None,
        };
        (!node.is_empty()).then_some(node)
    }
}

/// A moment that the test named.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// When, on the clock of the packets.
    pub time_ns: u64,
    /// What.
    pub text: String,
}

/// Packets that a capture could not keep.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Drops {
    /// The interface's name in the capture file.
    pub interface: String,
    /// How many.
    pub packets: u64,
    /// Why.
    pub reason: String,
}

/// How much the host held the lab up: the longest time that a thread which wanted to run every millisecond did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Noise {
    /// The longest stall.
    pub longest_stall: Duration,
    /// When it ended, on the clock of the packets.
    pub at_ns: u64,
    /// Stalls of more than 20 ms.
    pub stalls_over_20ms: u64,
}

/// What a finished lab leaves: everything that verdicts are made from.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// Where packets were captured.
    pub interfaces: Vec<Arc<Interface>>,
    /// All packets in the order of time, numbered from 1.
    pub packets: Vec<Packet>,
    /// The moments that the test named, in the order of time.
    pub marks: Vec<Mark>,
    /// All processes that were started, in that order.
    pub processes: Vec<crate::process::ProcessReport>,
    /// Packets that the capture lost; empty is the normal case.
    pub drops: Vec<Drops>,
    /// How noisy the host was.
    pub noise: Noise,
}

impl Recording {
    /// Writes all packets as pcapng, with interface names and nanoseconds.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_pcapng(&self, to: impl std::io::Write) -> std::io::Result<()> {
        crate::pcapng::write(to, &self.interfaces, &self.packets)
    }
}
