//! What the core is told to do: the configuration after reading, with every default filled in.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use lisp::EidPrefix;
use lisp::auth::AuthKey;

use crate::forwarding::{Edition, Role};
use crate::kernel::nat::Translation;

/// The whole configuration of an xTR's core.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which edition rules where they differ.
    pub edition: Edition,
    /// What the box is. A PITR's Map-Requests carry the PITR bit and no Source-EID (RFC 6832 5.2).
    pub role: Role,
    /// Own locators: sources of control messages and data, ITR-RLOCs of Map-Requests.
    pub rlocs: Vec<IpAddr>,
    /// Those of them that an operator holds down: not used as source or ITR-RLOC as long as there is another.
    pub held_down: BTreeSet<IpAddr>,
    /// The database: local EID-Prefixes and their locator-sets.
    pub database: Vec<LocalMapping>,
    /// Where the database is registered.
    pub map_servers: Vec<MapServer>,
    /// Where misses are asked, in order of preference.
    pub map_resolvers: Vec<IpAddr>,
    /// Time between periodic Map-Registers (60 s in RFC 6833 4.2).
    pub register_interval: Duration,
    /// Faster registration after a start or a change: (interval, for how long). RFC 6833 4.2: 20 s, 5 minutes.
    pub quick_registration: Option<(Duration, Duration)>,
    /// Nonces of Map-Registers in RFC 9301 start above this: they never go back, across restarts too (5.6).
    pub register_nonce: u64,
    /// Map-cache entries that never expire.
    pub static_entries: Vec<StaticEntry>,
    /// Mean time between RLOC-probes of one locator; none: no probing (RFC 6830 6.3.2).
    pub probe_interval: Option<Duration>,
    /// Map-Requests per second over all destinations, beyond the limit of one per second and EID-Prefix.
    pub map_request_rate: u32,
    /// Learned map-cache entries at most (RFC 6830 12).
    pub map_cache_limit: usize,
    /// Shortest prefix that a Map-Reply may bring (RFC 6830 6.1.5.1): (IPv4, IPv6).
    pub minimum_prefix_length: (u8, u8),
    /// Packets kept while a mapping is asked for; none: they are dropped.
    pub hold: Option<HoldLimits>,
    /// Whether locator-status bits of data packets are heeded (RFC 6830 6.3).
    pub locator_status_bits: bool,
    /// Whether map-versions are used (RFC 6834).
    pub map_versioning: bool,
    /// How long locator-status bits are left out after the set that they number changed (RFC 9300 13.1: 5 minutes).
    pub use_lsb_timer: Duration,
    /// Whether echo-nonce is offered and used (RFC 6830 6.3.1).
    pub echo_nonce: bool,
    /// Time between two requests for an echo from one locator.
    pub echo_nonce_interval: Duration,
    /// Whether a mapping that a Map-Request brings along is verified and used (RFC 6830 6.1.3); without, it is ignored.
    pub piggyback: bool,
    /// Whether Map-Requests bring along the mapping of their Source-EID (M bit, RFC 6830 6.1.3).
    pub piggyback_own: bool,
    /// Whether Data-Probes are answered (RFC 6830 3).
    pub data_probes: bool,
    /// Time between two Map-Replies to one requester in RFC 9301 (5.4 recommends 3 s).
    pub map_reply_interval: Duration,
    /// After so much silence a host of a dynamic EID-Prefix counts as gone.
    pub dynamic_eid_timeout: Duration,
    /// Whether mappings are gleaned from data packets and Map-Requests (RFC 6830 6.2).
    pub glean: bool,
    /// The public-Internet profile of RFC 9300 4.1: nothing in the LISP header of data packets is acted on.
    pub public_internet: bool,
    /// Proxy ETRs (RFC 6832 6.1): their priorities and weights choose among them.
    pub petrs: Vec<RemoteLocator>,
    /// Inner sources that a PETR accepts; empty means all (RFC 6832 6.1).
    pub petr_sources: Vec<EidPrefix>,
    /// Outer sources that a PETR accepts; empty means all.
    pub petr_locators: Vec<IpNet>,
    /// EID aggregates whose traffic a PITR attracts (RFC 6832 5.2).
    pub aggregates: Vec<IpNet>,
    /// Whether misses go to the PETR too: a site without a mapping system (RFC 6832 6.1).
    pub misses_to_petr: bool,
    /// Addresses that the kernel translates (RFC 6832 7).
    pub translations: Vec<Translation>,
    /// xTR-ID and Site-ID for Map-Registers (RFC 9301 5.6).
    pub xtr_site_id: Option<lisp::wire::XtrSiteId>,
}

/// Bounds of what is held while a mapping is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldLimits {
    /// Packets to one EID.
    pub per_eid: usize,
    /// Packets to all.
    pub total: usize,
}

/// One EID-Prefix of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalMapping {
    /// The EID-Prefix.
    pub prefix: EidPrefix,
    /// Minutes that others may keep the mapping (1440 in RFC 6830 6.6.1).
    pub ttl: u32,
    /// The locator-set.
    pub locators: Vec<LocalLocator>,
    /// Hosts of this prefix may live behind other xTRs: each seen one is registered by itself (host mobility).
    pub dynamic: bool,
    /// Map-version with which the mapping begins (RFC 9302 6), 1 to 4095.
    pub first_version: u16,
    /// Other priorities and weights for some requesters; the first that matches counts.
    pub policies: Vec<RequesterPolicy>,
}

/// One locator of a [`LocalMapping`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalLocator {
    /// The RLOC: own, or of another xTR of the site.
    pub address: IpAddr,
    /// Lower is preferred; 255 must not be used.
    pub priority: u8,
    /// Share among equal priorities.
    pub weight: u8,
    /// Multicast priority.
    pub mpriority: u8,
    /// Multicast weight.
    pub mweight: u8,
    /// Whether the operator holds it up. Down: R=0.
    pub up: bool,
}

/// What some requesters are told instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequesterPolicy {
    /// Which requesters, by ITR-RLOC.
    pub requesters: Vec<IpNet>,
    /// Priority and weight by locator; locators that are not named keep theirs.
    pub locators: Vec<(IpAddr, u8, u8)>,
}

/// A Map-Server.
#[derive(Clone)]
pub struct MapServer {
    /// Its address.
    pub address: IpAddr,
    /// The shared key.
    pub key: AuthKey,
    /// M bit.
    pub want_map_notify: bool,
    /// P bit.
    pub proxy_reply: bool,
}

impl std::fmt::Debug for MapServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MapServer")
            .field("address", &self.address)
            .field("want_map_notify", &self.want_map_notify)
            .field("proxy_reply", &self.proxy_reply)
            .finish_non_exhaustive()
    }
}

/// A map-cache entry from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticEntry {
    /// The EID-Prefix.
    pub prefix: EidPrefix,
    /// What is done with packets to it.
    pub path: StaticPath,
}

/// What a static entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StaticPath {
    /// Ask the mapping system for each destination.
    SendMapRequest,
    /// Forward natively.
    ForwardNative,
    /// Drop.
    Drop,
    /// Encapsulate.
    Locators(Vec<RemoteLocator>),
}

/// A locator of another site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteLocator {
    /// The RLOC.
    pub address: IpAddr,
    /// Lower is preferred; 255 must not be used.
    pub priority: u8,
    /// Share among equal priorities.
    pub weight: u8,
}

impl Settings {
    /// Whether Map-Requests carry the PITR bit and no Source-EID.
    pub fn is_pitr(&self) -> bool {
        matches!(self.role, Role::Pitr | Role::Pxtr)
    }

    /// Whether packets of foreign sources are encapsulated: a Map-Request then has no Source-EID of ours to name.
    pub fn has_foreign_sources(&self) -> bool {
        self.role.encapsulates_foreign_sources()
    }

    /// Whether an address is one of our own locators.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.rlocs.contains(&address)
    }

    /// Own locators that are not held down.
    pub fn rlocs_up(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.rlocs
            .iter()
            .copied()
            .filter(|own| !self.held_down.contains(own))
    }

    /// Our own locator of the family of `peer`; one that is held down only where there is no other.
    pub fn source_for(&self, peer: IpAddr) -> Option<IpAddr> {
        let of_family = |own: &IpAddr| own.is_ipv4() == peer.is_ipv4();
        self.rlocs_up()
            .find(of_family)
            .or_else(|| self.rlocs.iter().copied().find(of_family))
    }
}
