//! What goes into the core and what comes out.

use std::net::{IpAddr, SocketAddr};

use daemon::Time;
use lisp::EidPrefix;

use super::settings::{LocalMapping, Settings};
use crate::forwarding::{DataEvent, HeldPacket, LocalEid};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The daemon starts: sockets and devices are in place.
    Start,
    /// A control message arrived.
    Received(Datagram),
    /// The packet path reports something.
    Data(DataEvent),
    /// Time has passed: timers may be due.
    Tick,
    /// A new configuration. The map-cache stays.
    Reload(Box<Settings>),
    /// An operator changes the database.
    Change(Change),
    /// The kernel's routes into the site changed: whether there is one for a local EID-Prefix.
    SiteRoute {
        /// The local EID-Prefix.
        prefix: EidPrefix,
        /// Whether packets to it have a way.
        present: bool,
    },
    /// The interface of an own locator went down or came up.
    OwnLink {
        /// The locator.
        address: IpAddr,
        /// Whether the interface works.
        up: bool,
    },
    /// The daemon stops: everything is deregistered.
    Stop,
}

/// A live change of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds an EID-Prefix, or replaces its mapping.
    Add(LocalMapping),
    /// Takes an EID-Prefix out.
    Remove(EidPrefix),
    /// Gives an EID-Prefix another name: the locator-set moves with it.
    Move {
        /// The EID-Prefix that goes.
        from: EidPrefix,
        /// The one that comes.
        to: EidPrefix,
    },
    /// Holds one of the site's locators up or down, in every mapping that has it.
    Locator {
        /// The RLOC.
        address: IpAddr,
        /// Down: R=0 for others.
        up: bool,
    },
    /// Forgets what was learned about other sites, or one entry of it; static entries stay.
    ClearMapCache(Option<EidPrefix>),
}

/// A control message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub source: SocketAddr,
    /// To which of our addresses and ports.
    pub destination: SocketAddr,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

/// Which of our ports a message leaves from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// 4342: Map-Replies, Map-Notify-Acks (RFC 6830 6.1).
    Control,
    /// The port that the system chose for us: Map-Requests and Map-Registers; answers come back to it.
    Client,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a control message.
    Send {
        /// From which port.
        from: Port,
        /// From which address; none: the one that the route to the destination has.
        source: Option<IpAddr>,
        /// To whom.
        to: SocketAddr,
        /// The UDP payload.
        payload: Vec<u8>,
    },
    /// Put a map-cache entry into the packet path, or replace it.
    Install {
        /// Its EID-Prefix.
        prefix: EidPrefix,
        /// What is done with packets to it.
        forward: Forward,
        /// Map-version for data packets to it (RFC 6834).
        map_version: Option<u16>,
    },
    /// Take a map-cache entry out of the packet path.
    Remove(EidPrefix),
    /// Send the packets that were held: their mapping is there.
    Release(Vec<HeldPacket>),
    /// Tell the packet path about a local EID-Prefix, or change it.
    SetLocal(LocalEid),
    /// Take a local EID-Prefix out of the packet path.
    RemoveLocal(EidPrefix),
    /// Use these proxy ETRs for what would be forwarded natively; none of them usable: natively.
    SetPetrs(Vec<ForwardLocator>),
    /// Ask for nonce echoes from a locator, or stop it (RFC 6830 6.3.1).
    RequestEcho {
        /// The locator.
        rloc: IpAddr,
        /// 24 bits; none: stop.
        nonce: Option<u32>,
    },
    /// Tell the operator that the state changed.
    Log(String),
    /// Tell the operator of something wrong that a peer causes; at most once a second for each reason.
    Complain {
        /// The counter that was raised.
        reason: &'static str,
        /// What was wrong.
        text: String,
    },
}

/// What is done with packets to an EID-Prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forward {
    /// Encapsulate to one of these.
    Encapsulate(Vec<ForwardLocator>),
    /// Forward natively, or to the PETR where there is one.
    Natively,
    /// Drop.
    Drop,
    /// Drop, and report each packet as a miss.
    SendMapRequest,
}

/// A locator for the packet path. Its place in the list is the ordinal of its locator-status bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardLocator {
    /// The RLOC; none: a placeholder that keeps the ordinals (AFI 0, RFC 6830 6.1.4).
    pub rloc: Option<IpAddr>,
    /// Lower is preferred; 255 is never used.
    pub priority: u8,
    /// Share among equal priorities.
    pub weight: u8,
    /// Whether it may be used now.
    pub usable: bool,
}

/// What the packet path knows about the use of entries.
pub trait Traffic: Send {
    /// When the last packet used the map-cache entry of exactly this prefix.
    fn last_used(&self, prefix: &EidPrefix) -> Option<Time>;
}

/// A packet path that nobody uses.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTraffic;

impl Traffic for NoTraffic {
    fn last_used(&self, _prefix: &EidPrefix) -> Option<Time> {
        None
    }
}
