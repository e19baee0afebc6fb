//! The Map-Server and Map-Resolver as a state machine: datagrams, timers and configuration in, with the time given;
//! datagrams to send and state to keep out. It opens no socket, reads no clock and draws no randomness of its own.

mod configure;
mod expiry;
mod index;
mod limit;
mod locators;
mod nonces;
mod notify;
mod register;
pub mod registration;
mod request;
pub mod show;
pub mod site;
mod stored;
mod table;
mod warm;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use daemon::log::Limiter;
use daemon::{Counters, Time};
use lisp::EidPrefix;
use serde::Serialize;

use expiry::Expiries;
use limit::{ReplyLimit, SourceLimit};
pub use locators::LocatorSet;
use nonces::Nonces;
use notify::Pendings;
use registration::Registration;
use site::{Config, Sites};
pub use stored::{HEADER as STATE_HEADER, StateError};
use table::EidTable;

/// A datagram that arrived on the control port.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Its sender.
    pub source: SocketAddr,
    /// The address of ours that it was sent to.
    pub destination: IpAddr,
    /// The UDP payload.
    pub payload: &'a [u8],
}

/// Which of our ports a datagram leaves from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourcePort {
    /// 4342: Map-Replies and Map-Notifies (RFC 6830 6.1).
    Control,
    /// A random one: Encapsulated Control Messages (RFC 6830 6.1.8).
    Random,
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// From this address of ours; the system chooses when there is none of the receiver's family.
    pub from: Option<IpAddr>,
    /// From this port.
    pub port: SourcePort,
    /// To whom.
    pub to: SocketAddr,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

/// Address families that the host has sockets of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
}

impl Families {
    /// Both.
    pub const BOTH: Families = Families {
        ipv4: true,
        ipv6: true,
    };

    fn has(self, address: &IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.ipv4,
            IpAddr::V6(_) => self.ipv6,
        }
    }
}

/// What happened to messages, counted for the whole server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Map-Registers that came.
    MapRegisters,
    /// Map-Registers of no configured prefix.
    UnknownSite,
    /// Map-Registers whose authentication failed.
    AuthenticationFailure,
    /// Map-Registers with a nonce that is not greater than the last (RFC 9301 5.6).
    Replay,
    /// Map-Registers with an older map-version than the registered one (RFC 9302 5).
    OldVersion,
    /// Map-Registers without an acceptable record.
    NothingRegistered,
    /// Map-Notifies sent.
    MapNotifies,
    /// Map-Notify-Acks taken.
    MapNotifyAcks,
    /// Map-Notify-Acks that acknowledge nothing or are not authentic.
    UnexpectedAck,
    /// Encapsulated Map-Requests that came.
    EncapsulatedMapRequests,
    /// Map-Requests that came without encapsulation.
    BareMapRequests,
    /// Map-Requests forwarded to an ETR.
    ForwardedToEtr,
    /// Map-Requests forwarded to another Map-Server.
    ForwardedToMapServer,
    /// Map-Replies sent from registrations.
    ProxyReplies,
    /// Negative Map-Replies sent.
    NegativeReplies,
    /// Map-Requests over their source's rate.
    RateLimited,
    /// The same answer to the same requester, held back.
    RepliesHeldBack,
    /// Map-Requests without a usable ITR-RLOC (RFC 6830 6.1.3).
    NoItrRloc,
    /// RLOC-probes, which only an ETR answers (RFC 9301 5.2).
    ProbeDropped,
    /// Map-Requests that ask for nothing.
    NoRecords,
    /// Map-Requests for something that is no IP prefix.
    UnknownEid,
    /// Map-Requests whose sender wants no reply (RFC 9301 5.2, D bit).
    ReplySuppressed,
    /// Map-Requests whose ETR has no address that this host can reach.
    NoUsableEtr,
    /// Map-Requests that would go back where they came from.
    Loop,
    /// Encapsulated messages that are no Map-Request (RFC 6830 6.1.8).
    EncapsulatedOther,
    /// Map-Replies, which a Map-Server discards (RFC 6833 4.3).
    MapReplyDropped,
    /// Map-Notifies, Map-Referrals and messages of a role that does not run here.
    Unexpected,
    /// Messages of an unassigned type.
    UnknownType,
    /// Messages that end early, have impossible counts, or a wrong inner checksum.
    Malformed,
}

impl Event {
    /// Every one, in the order above.
    pub const ALL: [Event; 29] = [
        Event::MapRegisters,
        Event::UnknownSite,
        Event::AuthenticationFailure,
        Event::Replay,
        Event::OldVersion,
        Event::NothingRegistered,
        Event::MapNotifies,
        Event::MapNotifyAcks,
        Event::UnexpectedAck,
        Event::EncapsulatedMapRequests,
        Event::BareMapRequests,
        Event::ForwardedToEtr,
        Event::ForwardedToMapServer,
        Event::ProxyReplies,
        Event::NegativeReplies,
        Event::RateLimited,
        Event::RepliesHeldBack,
        Event::NoItrRloc,
        Event::ProbeDropped,
        Event::NoRecords,
        Event::UnknownEid,
        Event::ReplySuppressed,
        Event::NoUsableEtr,
        Event::Loop,
        Event::EncapsulatedOther,
        Event::MapReplyDropped,
        Event::Unexpected,
        Event::UnknownType,
        Event::Malformed,
    ];

    /// Whether it tells of an attack or a misconfiguration rather than of everyday traffic.
    fn is_suspicious(self) -> bool {
        matches!(
            self,
            Self::UnknownSite
                | Self::AuthenticationFailure
                | Self::Replay
                | Self::OldVersion
                | Self::UnexpectedAck
                | Self::RateLimited
                | Self::Loop
                | Self::MapReplyDropped
                | Self::Malformed
        )
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What the core knows of a prefix.
#[derive(Debug, Default)]
struct Known {
    configured: Option<Configured>,
    /// Here and not in a box: one access to memory less for each message.
    registration: Option<Registration>,
}

impl Known {
    fn is_empty(&self) -> bool {
        self.configured.is_none() && self.registration.is_none()
    }
}

#[derive(Debug)]
enum Configured {
    Site {
        site: u32,
        deny: bool,
    },
    /// Of other Map-Servers: `remotes` has them.
    Remote,
}

/// What may be registered in a configured prefix.
#[derive(Debug, Clone, Copy)]
struct Permitted {
    site: u32,
    accept_more_specifics: bool,
    deny: bool,
}

/// Map-Servers that serve a prefix, taking turns.
#[derive(Debug, Default)]
struct Remote {
    servers: Vec<IpAddr>,
    turn: usize,
}

/// The state machine.
pub struct Core {
    /// Without its sites, which live in `sites`.
    config: Config,
    families: Families,
    sites: Sites,
    known: EidTable<Known>,
    /// The sites' configured prefixes alone: often few beside what is registered in them, so that a Map-Register finds its
    /// site in memory that is near.
    permitted: EidTable<Permitted>,
    remotes: EidTable<Remote>,
    aggregates: EidTable<()>,
    registrations: usize,
    /// Whether policy denies any prefix; else nobody has to look.
    any_denied: bool,
    expiries: Expiries,
    sources: SourceLimit,
    replies: ReplyLimit<(IpAddr, EidPrefix)>,
    nonces: Nonces,
    pending: Pendings,
    counters: Counters<Event>,
    logged: Limiter<Event>,
    told: Limiter<&'static str>,
    random: u64,
    started: Time,
    journal: Option<stored::Journal>,
}

impl Core {
    /// A core without state. `seed` makes the nonces of unsolicited Map-Notifies.
    pub fn new(config: Config, families: Families, now: Time, seed: u64) -> Self {
        let mut core = Self {
            sources: SourceLimit::new(config.limits.map_requests_per_source),
            replies: ReplyLimit::new(config.limits.map_reply_interval),
            config: Config::default(),
            families,
            sites: Sites::default(),
            known: EidTable::default(),
            permitted: EidTable::default(),
            remotes: EidTable::default(),
            aggregates: EidTable::default(),
            registrations: 0,
            any_denied: false,
            expiries: Expiries::default(),
            nonces: Nonces::default(),
            pending: Pendings::default(),
            counters: Counters::default(),
            logged: Limiter::default(),
            told: Limiter::default(),
            random: seed,
            started: now,
            journal: None,
        };
        core.configure(now, config);
        core
    }

    /// How many sites are configured.
    pub fn site_count(&self) -> usize {
        self.sites.len()
    }

    /// Whether a site of this name is configured.
    pub fn has_site(&self, name: &str) -> bool {
        self.sites.number(name).is_some()
    }

    /// How many prefixes are registered.
    pub fn registration_count(&self) -> usize {
        self.registrations
    }

    /// How often `event` happened.
    pub fn count_of(&self, event: Event) -> u64 {
        self.counters.get(event)
    }

    /// Takes a datagram in; what follows from it is appended to `out`.
    ///
    /// State that must survive before anything of `out` is sent is in [`Core::journal`].
    pub fn datagram(&mut self, now: Time, datagram: Datagram<'_>, out: &mut Vec<Transmit>) {
        match datagram.payload.first().map(|octet| octet >> 4) {
            Some(1) => self.bare_map_request(now, datagram, out),
            Some(2) => self.refuse(now, Event::MapReplyDropped, datagram.source),
            Some(3) if self.config.roles.map_server => self.map_register(now, datagram, out),
            Some(5) if self.config.roles.map_server => self.map_notify_ack(now, datagram),
            Some(8) => self.encapsulated(now, datagram, out),
            Some(3..=6) => self.refuse(now, Event::Unexpected, datagram.source),
            Some(_) => self.refuse(now, Event::UnknownType, datagram.source),
            None => self.refuse(now, Event::Malformed, datagram.source),
        }
    }

    /// When [`Core::timer`] wants to be called, if at all.
    pub fn next_timer(&self) -> Option<Time> {
        let expiry = self.expiries.next();
        let retry = self.pending.next();
        expiry.into_iter().chain(retry).min()
    }

    /// Does what is due.
    pub fn timer(&mut self, now: Time, out: &mut Vec<Transmit>) {
        self.expire(now);
        self.retransmit_notifies(now, out);
    }

    /// Counts a message that goes no further, and says so at most once a second and reason.
    fn refuse(&mut self, now: Time, event: Event, source: SocketAddr) {
        self.counters.count(event);
        let Some(held_back) = self.logged.allow(now, event) else {
            return;
        };
        if event.is_suspicious() {
            tracing::warn!(%source, held_back, "dropped: {event}");
        } else {
            tracing::debug!(%source, held_back, "dropped: {event}");
        }
    }

    /// Says what became of a registration, at most once a second and kind.
    fn tell(&mut self, now: Time, what: &'static str, prefix: &EidPrefix, etr: IpAddr) {
        if let Some(held_back) = self.told.allow(now, what) {
            tracing::info!(%prefix, %etr, held_back, "{what}");
        }
    }

    /// The next of a sequence of numbers that `seed` determines (splitmix64).
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What a request wants to know of where it may send: shared by the modules of the core.
fn same_family(one: &IpAddr, other: &IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
}

/// `from` for an answer to `to`: our address that was asked, when it is of the same family.
fn answer_from(asked: IpAddr, to: &IpAddr) -> Option<IpAddr> {
    (same_family(&asked, to) && !asked.is_unspecified()).then_some(asked)
}

/// Whether a message must be dropped for an address in it: a vendor LCAF (type 255) whose vendor is not known here
/// (RFC 9306 4). None is.
fn is_foreign_vendor(address: &lisp::Address) -> bool {
    const VENDOR: u8 = 255;
    match address {
        lisp::Address::Lcaf(lcaf) => match &**lcaf {
            lisp::Lcaf::Opaque { kind, .. } => *kind == VENDOR,
            lisp::Lcaf::InstanceId { address, .. } => is_foreign_vendor(address),
            lisp::Lcaf::AfiList { addresses, .. } => addresses.iter().any(is_foreign_vendor),
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests;
