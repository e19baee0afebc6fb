//! Inline links: every packet passes through a function that may drop, delay, duplicate or rewrite it.

mod damage;
mod relay;

use std::fmt;
use std::time::Duration;

pub(crate) use relay::{Cable, Relay};

/// Which way a packet goes through an inline link, seen from the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the victim.
    FromVictim,
    /// To the victim.
    ToVictim,
}

/// What becomes of a packet on an inline link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketFate {
    /// It goes on, as the function left it.
    Forward,
    /// It is gone.
    Drop,
    /// It goes on later.
    Delay(Duration),
    /// It goes on twice, the second time after this time.
    Duplicate(Duration),
}

/// Decides about each packet: the way it goes, its octets from the Ethernet header on (which it may change, also in
/// length), and the time in nanoseconds on the lab's clock.
pub type PacketFunction = Box<dyn FnMut(Way, &mut Vec<u8>, u64) -> PacketFate + Send>;

/// A packet function to be put into a link.
///
/// The capture of the link then sits at the end away from the victim: it shows what the victim sends after the function,
/// and what is sent to the victim before it. So the victim looks from outside as if it did itself what the function does.
pub struct Inline {
    /// The link.
    pub link: String,
    /// The node at one of its ends whose packets are tampered with.
    pub victim: String,
    /// The function.
    pub function: PacketFunction,
}

impl Inline {
    /// Puts a function into a link.
    pub fn new(
        link: impl Into<String>,
        victim: impl Into<String>,
        function: impl FnMut(Way, &mut Vec<u8>, u64) -> PacketFate + Send + 'static,
    ) -> Inline {
        Inline {
            link: link.into(),
            victim: victim.into(),
            function: Box::new(function),
        }
    }
}

impl fmt::Debug for Inline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inline({} at {})", self.victim, self.link)
    }
}

/// What happened to the packets of an inline link, both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LinkStatistics {
    /// Packets that came in.
    pub received: u64,
    /// Packets of address resolution (ARP, IPv6 neighbour discovery) that the impairment left alone.
    pub spared: u64,
    /// Packets that went out, duplicates included.
    pub sent: u64,
    /// Packets that the packet function dropped.
    pub dropped_by_function: u64,
    /// Packets that the impairment lost.
    pub lost: u64,
    /// Packets that found the queue of a link with a rate full.
    pub overflowed: u64,
    /// Packets that were doubled.
    pub duplicated: u64,
    /// Packets that overtook.
    pub reordered: u64,
    /// Packets with a flipped bit.
    pub corrupted: u64,
    /// Packets that could not be sent: the link was down, or a function made them longer than the MTU.
    pub unsendable: u64,
}
