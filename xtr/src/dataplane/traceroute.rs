//! Traceroute through the tunnel (RFC 6830 9): "time exceeded" of the core goes on to the host that traces.
//!
//! Where the ICMP message quotes enough of the data packet, the host's own header is in it. Routers that quote only 8
//! octets behind the outer IPv4 header (RFC 792) return nothing but the outer source port: it is the key to the headers
//! of traceroute packets that are kept here (RFC 6830 9.2).

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use lisp::wire::data::DATA_HEADER_LEN;

use super::checksum::{finish, sum};
use super::inner::{Inner, UDP};
use super::sys::QueuedError;
use crate::forwarding::{Decision, LocatorSet, Tables};

/// Destination ports of traceroute packets: 33434 for the first probe and one more for each, 3 probes for each of 30 hops
/// and some to spare.
pub(crate) const PORTS: std::ops::RangeInclusive<u16> = 33_434..=33_534;
/// Outer TTL of a traceroute packet whose hops in the core its source could not read (RFC 6830 9.3).
pub(crate) const UNTRACED_TTL: u8 = 64;
/// TTL of a message that is passed on.
const TTL: u8 = 64;
/// As much as an ICMPv4 error (RFC 1812 4.3.2.3) and an ICMPv6 error (RFC 4443 2.4) may quote.
const QUOTE4: usize = 576 - 28;
const QUOTE6: usize = 1280 - 48;

/// Whether a packet has the signature of a traceroute (RFC 6830 9.2): UDP to one of its ports.
pub(crate) fn is_traceroute(packet: &[u8], inner: &Inner) -> bool {
    let at = inner.header_len + 2;
    inner.protocol == UDP
        && !inner.fragment
        && inner.len >= at + 2
        && PORTS.contains(&u16::from_be_bytes([packet[at], packet[at + 1]]))
}

/// The last traceroute packets over IPv4, by outer source port: a circular buffer.
#[derive(Debug)]
pub(crate) struct Traceroutes(Mutex<Ring>);

#[derive(Debug)]
struct Ring {
    next: u16,
    slots: Vec<Option<Kept>>,
}

#[derive(Debug, Clone)]
struct Kept {
    rloc: IpAddr,
    /// IP header and the 8 octets behind it, as every host needs them.
    header: Vec<u8>,
}

impl Traceroutes {
    /// With as many entries as there are source ports.
    pub(crate) fn new(source_ports: u16) -> Self {
        Self(Mutex::new(Ring {
            next: 0,
            slots: vec![None; usize::from(source_ports.max(1))],
        }))
    }

    /// Keeps the headers of a packet to a locator; the index of the source port that is the key to them.
    pub(crate) fn keep(&self, rloc: IpAddr, packet: &[u8], inner: &Inner) -> u16 {
        let header = packet[..inner.len.min(inner.header_len + 8)].to_vec();
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = ring.next;
        ring.next = (index + 1) % ring.slots.len() as u16;
        ring.slots[usize::from(index)] = Some(Kept { rloc, header });
        index
    }

    fn find(&self, port_index: usize, rloc: IpAddr) -> Option<Vec<u8>> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = ring.slots.get(port_index)?.as_ref()?;
        (kept.rloc == rloc).then(|| kept.header.clone())
    }

    /// The message for the tracing host that a "time exceeded" of the core becomes: from the router that sent it, with the
    /// host's own packet quoted. `port_index` says on which IPv4 source port it arrived. None: it is for nobody here, or
    /// its source would not understand the router's address (RFC 6830 9.3).
    pub(crate) fn pass_on(
        &self,
        error: &QueuedError,
        port_index: Option<usize>,
        tables: &Tables,
    ) -> Option<Vec<u8>> {
        let (rloc, router) = (error.destination?.ip(), error.reporter?);
        let quoted = error.quoted.get(DATA_HEADER_LEN..).unwrap_or_default();
        let kept;
        let quoted = match addresses(quoted) {
            Some(_) => quoted,
            None => {
                kept = self.find(port_index?, rloc)?;
                &kept
            }
        };
        let (host, destination) = addresses(quoted)?;
        if host.is_ipv4() != router.is_ipv4() || !sends_to(tables, host, destination, rloc) {
            return None;
        }
        Some(time_exceeded(router, host, quoted))
    }
}

/// Source and destination of a quoted packet that has at least its IP header and the 8 octets behind it.
fn addresses(quoted: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match quoted.first()? >> 4 {
        4 => {
            let header = usize::from(quoted[0] & 0x0f) * 4;
            if header < 20 || quoted.len() < header + 8 {
                return None;
            }
            let at = |at: usize| <[u8; 4]>::try_from(&quoted[at..at + 4]).ok();
            Some((at(12)?.into(), at(16)?.into()))
        }
        6 if quoted.len() >= 48 => {
            let at = |at: usize| <[u8; 16]>::try_from(&quoted[at..at + 16]).ok();
            Some((at(8)?.into(), at(24)?.into()))
        }
        _ => None,
    }
}

/// Whether we encapsulate packets of this host to this destination to the locator: nobody else's traceroute is answered.
fn sends_to(tables: &Tables, host: IpAddr, destination: IpAddr, rloc: IpAddr) -> bool {
    let local = tables.local_source(host);
    if local.is_none() && !tables.policy.role.encapsulates_foreign_sources() {
        return false;
    }
    let names = |set: &LocatorSet| set.destinations().iter().any(|d| d.rloc == rloc);
    let iid = local.map_or(0, |local| local.prefix.iid);
    let mapped = tables
        .longest_match(iid, destination)
        .is_some_and(|entry| matches!(&entry.decision, Decision::Encapsulate(set) if names(set)));
    mapped || tables.policy.petr.as_deref().is_some_and(names)
}

/// "Time exceeded in transit" as a whole IP packet (RFC 792, RFC 4443 3.3).
fn time_exceeded(router: IpAddr, host: IpAddr, quoted: &[u8]) -> Vec<u8> {
    let (kind, protocol, room) = if host.is_ipv4() {
        (11, 1, QUOTE4)
    } else {
        (3, 58, QUOTE6)
    };
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&quoted[..quoted.len().min(room)]);
    let checksum = match (router, host) {
        (IpAddr::V6(router), IpAddr::V6(host)) => {
            // RFC 4443 2.3: the pseudo-header counts.
            let mut covered = [router.octets(), host.octets()].concat();
            covered.extend_from_slice(&(message.len() as u32).to_be_bytes());
            covered.extend_from_slice(&[0, 0, 0, protocol]);
            covered.extend_from_slice(&message);
            finish(sum(&covered))
        }
        _ => finish(sum(&message)),
    };
    message[2..4].copy_from_slice(&checksum);
    lisp::ip::IpHeader::new(router, host, TTL, protocol).emit(&message)
}
