//! Locator-sets: ours in the records that we send, others' in the records that we get.

use std::net::IpAddr;

use lisp::EidPrefix;
use lisp::wire::{Action, Locator, MapRecord};

use super::settings::{LocalMapping, RemoteLocator, Settings};

/// A locator of another site, as its mapping says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedLocator {
    /// The RLOC; none: a placeholder (AFI 0) or an address that cannot be a locator. It keeps its ordinal.
    pub rloc: Option<IpAddr>,
    /// Lower is preferred; 255 must not be used.
    pub priority: u8,
    /// Share among equal priorities.
    pub weight: u8,
    /// R bit.
    pub reachable: bool,
}

impl CachedLocator {
    /// Reads a locator of a record. Addresses that cannot be locators of a unicast EID become placeholders
    /// (RFC 6830 6.1.4).
    pub fn from_wire(locator: &Locator) -> Self {
        Self {
            rloc: locator.rloc.ip().filter(|rloc| is_locator(*rloc)),
            priority: locator.priority,
            weight: locator.weight,
            reachable: locator.reachable,
        }
    }
}

impl From<RemoteLocator> for CachedLocator {
    fn from(locator: RemoteLocator) -> Self {
        Self {
            rloc: Some(locator.address),
            priority: locator.priority,
            weight: locator.weight,
            reachable: true,
        }
    }
}

/// Whether an address can be a locator that unicast packets are encapsulated to.
pub fn is_locator(address: IpAddr) -> bool {
    let special = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(special || address.is_multicast() || address.is_unspecified() || address.is_loopback())
}

/// A local mapping as a record of Map-Reply or Map-Register: locators ascending by address, IPv4 before IPv6
/// (RFC 6830 6.1.5), A=1, ACT 0.
pub fn record(mapping: &LocalMapping, settings: &Settings, map_version: u16) -> MapRecord {
    let mut sorted = mapping.locators.clone();
    sorted.sort_by_key(|locator| locator.address);
    MapRecord {
        ttl: mapping.ttl,
        action: Action::NoAction,
        authoritative: true,
        map_version,
        locators: sorted
            .iter()
            .map(|locator| Locator {
                priority: locator.priority,
                weight: locator.weight,
                mpriority: locator.mpriority,
                mweight: locator.mweight,
                reserved: 0,
                local: settings.is_own(locator.address),
                probed: false,
                reachable: locator.up,
                rloc: locator.address.into(),
            })
            .collect(),
        ..negative(mapping.prefix, mapping.ttl)
    }
}

/// A record without locators: withdraws a registration when its TTL is 0.
pub fn negative(prefix: EidPrefix, ttl: u32) -> MapRecord {
    let mut record = MapRecord::negative(prefix, ttl, Action::NoAction);
    record.authoritative = true;
    record
}
