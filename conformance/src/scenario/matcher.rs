//! Which packets are meant. All keys that are given must hold.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use lisp::EidPrefix;
use lisp::wire::{ControlMessage, Locator, MapRecord};

use super::{Ping, Since};
use crate::decode::{Ip, Lisp, Transport};
use crate::trace::Seen;

/// The identifier of all echo requests of a scenario's pings.
pub(super) const IDENTIFIER: u16 = 0x4c42;

/// Which packets are meant.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matcher {
    /// The matcher as it stands in the file, for messages.
    pub text: String,
    pub(super) kind: Option<&'static str>,
    pub(super) from: Option<Place>,
    pub(super) to: Option<Place>,
    pub(super) sent_by: Option<String>,
    pub(super) received_by: Option<String>,
    pub(super) link: Option<String>,
    pub(super) eid: Option<Eid>,
    /// Flags, and whether each is to be set.
    pub(super) flags: Vec<(&'static str, bool)>,
    pub(super) nonce: Option<Nonce>,
    pub(super) source_port: Option<u16>,
    pub(super) destination_port: Option<u16>,
    pub(super) ttl: Option<RangeInclusive<u64>>,
    pub(super) encapsulated: Option<bool>,
    pub(super) instance_id: Option<u32>,
    pub(super) records: Option<RangeInclusive<u64>>,
    pub(super) record: Option<Record>,
    pub(super) inner: Option<Box<Matcher>>,
    /// Sequence numbers of the echo requests of a ping, and of their replies.
    pub(super) of_ping: Option<RangeInclusive<u16>>,
}

/// An end of a packet.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    /// Any address of a node.
    Addresses(Vec<IpAddr>),
    /// Any address of a prefix.
    Net(IpNet),
}

/// An EID in a packet.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Eid {
    /// The prefix in the packet contains it.
    Address(IpAddr),
    /// The prefix in the packet is this one.
    Prefix(EidPrefix),
}

/// The nonce of a packet.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Nonce {
    /// This one.
    Is(u64),
    /// That of the packet which a step waited for, or which met an expectation.
    Of(Since),
}

/// Some record of the message.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Record {
    pub(super) eid: Option<Eid>,
    pub(super) ttl: Option<RangeInclusive<u64>>,
    pub(super) action: Option<u8>,
    pub(super) authoritative: Option<bool>,
    pub(super) map_version: Option<u16>,
    /// Exactly these locators, in any order.
    pub(super) locators: Option<Vec<IpAddr>>,
    /// One of the locators.
    pub(super) locator: Option<LocatorMatch>,
}

/// Some locator of the record.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct LocatorMatch {
    pub(super) address: Option<IpAddr>,
    pub(super) priority: Option<u8>,
    pub(super) weight: Option<u8>,
    pub(super) local: Option<bool>,
    pub(super) probed: Option<bool>,
    pub(super) reachable: Option<bool>,
}

/// Whether all that is asked holds: what is not asked for holds.
fn holds<T>(asked: &Option<T>, test: impl FnOnce(&T) -> bool) -> bool {
    asked.as_ref().is_none_or(test)
}

impl Place {
    fn is(&self, address: IpAddr) -> bool {
        match self {
            Place::Addresses(addresses) => addresses.contains(&address),
            Place::Net(net) => net.contains(&address),
        }
    }
}

impl Eid {
    fn is(&self, prefix: Option<EidPrefix>) -> bool {
        prefix.is_some_and(|prefix| match self {
            Eid::Address(address) => prefix.contains(prefix.iid, *address),
            Eid::Prefix(asked) => prefix == *asked,
        })
    }
}

impl Matcher {
    /// Whether a packet is meant. `nonce_of` knows the nonces of packets that were found before.
    pub fn matches(&self, packet: &Seen, nonce_of: &dyn Fn(&Since) -> Option<u64>) -> bool {
        let Some(ip) = packet.ip() else { return false };
        holds(&self.link, |link| packet.link() == link)
            && holds(&self.sent_by, |node| packet.sender() == Some(node))
            && holds(&self.received_by, |node| packet.receiver() == Some(node))
            && self.fits(ip)
            && self.fits_lisp(packet, ip)
            && holds(&self.nonce, |asked| {
                let wanted = match asked {
                    Nonce::Is(nonce) => Some(*nonce),
                    Nonce::Of(since) => nonce_of(since),
                };
                wanted.is_some() && wanted == nonce(packet)
            })
    }

    /// What can be said of any IP packet.
    fn fits(&self, ip: &Ip) -> bool {
        let ports = match &ip.transport {
            Transport::Udp(udp) => Some((udp.source_port, udp.destination_port)),
            Transport::Tcp {
                source_port,
                destination_port,
            } => Some((*source_port, *destination_port)),
            _ => None,
        };
        holds(&self.from, |place| place.is(ip.source))
            && holds(&self.to, |place| place.is(ip.destination))
            && holds(&self.ttl, |range| range.contains(&u64::from(ip.ttl)))
            && holds(&self.source_port, |port| {
                ports.is_some_and(|(source, _)| source == *port)
            })
            && holds(&self.destination_port, |port| {
                ports.is_some_and(|(_, destination)| destination == *port)
            })
    }

    fn fits_lisp(&self, packet: &Seen, ip: &Ip) -> bool {
        let inside = packet.data().map(|(_, inner)| inner);
        holds(&self.kind, |kind| is_kind(kind, ip, packet.lisp()))
            && self
                .flags
                .iter()
                .all(|(flag, set)| is_set(flag, packet) == Some(*set))
            && holds(&self.encapsulated, |asked| packet.ecm().is_some() == *asked)
            && holds(&self.eid, |eid| is_about(eid, packet))
            && holds(&self.instance_id, |asked| {
                instance_ids(packet).contains(asked)
            })
            && holds(&self.records, |range| {
                let count = match packet.message() {
                    Some(ControlMessage::MapRequest(request)) => Some(request.records.len()),
                    _ => records(packet).map(<[MapRecord]>::len),
                };
                count.is_some_and(|count| range.contains(&(count as u64)))
            })
            && holds(&self.record, |asked| {
                records(packet).is_some_and(|all| all.iter().any(|record| asked.is(record)))
            })
            && holds(&self.inner, |asked| {
                inside.is_some_and(|inner| {
                    asked.fits(inner)
                        && holds(&asked.kind, |kind| is_kind(kind, inner, &Lisp::None))
                        && holds(&asked.of_ping, |range| is_of_ping(range, inner))
                })
            })
            && holds(&self.of_ping, |range| {
                is_of_ping(range, ip) || inside.is_some_and(|inner| is_of_ping(range, inner))
            })
    }
}

/// The ping of a packet, bare or in a LISP data packet.
pub fn ping_number(packet: &Seen) -> Option<u16> {
    let of = |ip: &Ip| {
        let icmp = ip.icmp()?;
        let (identifier, sequence) = icmp.echo();
        let echo = icmp.is_echo_request() || icmp.is_echo_reply();
        (echo && identifier == IDENTIFIER).then_some(sequence)
    };
    packet
        .ip()
        .and_then(of)
        .or_else(|| packet.data().and_then(|(_, inner)| of(inner)))
}

impl Ping {
    /// The sequence numbers of its echo requests.
    pub(super) fn numbers(&self) -> RangeInclusive<u16> {
        self.first..=self.first + (self.count - 1)
    }
}

fn is_of_ping(range: &RangeInclusive<u16>, ip: &Ip) -> bool {
    ip.icmp().is_some_and(|icmp| {
        let (identifier, sequence) = icmp.echo();
        (icmp.is_echo_request() || icmp.is_echo_reply())
            && identifier == IDENTIFIER
            && range.contains(&sequence)
    })
}

fn is_kind(kind: &str, ip: &Ip, lisp: &Lisp) -> bool {
    let message = match lisp {
        Lisp::Control {
            inner: Some(inner), ..
        } => Some(&*inner.message),
        Lisp::Control { message, .. } => Some(&**message),
        _ => None,
    };
    let request = match message {
        Some(ControlMessage::MapRequest(request)) => Some(request),
        _ => None,
    };
    let reply = match message {
        Some(ControlMessage::MapReply(reply)) => Some(reply),
        _ => None,
    };
    match kind {
        "any" => true,
        "data" => matches!(lisp, Lisp::Data { .. }),
        "map-request" => request.is_some(),
        "smr" => request.is_some_and(|request| request.smr),
        "smr-invoked" => request.is_some_and(|request| request.smr_invoked),
        "rloc-probe" => request.is_some_and(|request| request.probe),
        "map-reply" => reply.is_some(),
        "negative-map-reply" => reply.is_some_and(|reply| {
            !reply.records.is_empty() && reply.records.iter().all(|r| r.locators.is_empty())
        }),
        "probe-reply" => reply.is_some_and(|reply| reply.probe),
        "map-register" => matches!(message, Some(ControlMessage::MapRegister(_))),
        "map-notify" => matches!(message, Some(ControlMessage::MapNotify(_))),
        "map-notify-ack" => matches!(message, Some(ControlMessage::MapNotifyAck(_))),
        "map-referral" => matches!(message, Some(ControlMessage::MapReferral(_))),
        "malformed" => matches!(lisp, Lisp::Malformed(_)),
        "echo-request" => ip.icmp().is_some_and(crate::decode::Icmp::is_echo_request),
        "echo-reply" => ip.icmp().is_some_and(crate::decode::Icmp::is_echo_reply),
        // ICMPv6 errors have types below 128 (RFC 4443 2.1); the rest is echoes and neighbour discovery.
        "icmp-error" => ip.icmp().is_some_and(|icmp| {
            if icmp.v6 {
                icmp.kind < 128
            } else {
                !icmp.is_echo_request() && !icmp.is_echo_reply()
            }
        }),
        "udp" => ip.udp().is_some() && matches!(lisp, Lisp::None),
        "tcp" => matches!(ip.transport, Transport::Tcp { .. }),
        _ => false,
    }
}

/// Whether a flag is set; `None` where the message has no such flag.
fn is_set(flag: &str, packet: &Seen) -> Option<bool> {
    if let Some((header, _)) = packet.data() {
        return Some(match flag {
            "nonce-present" => header.nonce.is_some(),
            "locator-status" => header.locator_status.is_some(),
            "echo-nonce" => header.echo_request,
            "map-version" => header.map_version.is_some(),
            "instance-id" => header.instance_id.is_some(),
            _ => return None,
        });
    }
    match (packet.message()?, flag) {
        (ControlMessage::MapRequest(m), "authoritative") => Some(m.authoritative),
        (ControlMessage::MapRequest(m), "probe") => Some(m.probe),
        (ControlMessage::MapRequest(m), "smr") => Some(m.smr),
        (ControlMessage::MapRequest(m), "pitr") => Some(m.pitr),
        (ControlMessage::MapRequest(m), "smr-invoked") => Some(m.smr_invoked),
        (ControlMessage::MapReply(m), "probe") => Some(m.probe),
        (ControlMessage::MapReply(m), "echo-nonce") => Some(m.echo_nonce),
        (ControlMessage::MapReply(m), "security") => Some(m.security),
        (ControlMessage::MapRegister(m), "proxy-reply") => Some(m.proxy_reply),
        (ControlMessage::MapRegister(m), "security") => Some(m.security),
        (ControlMessage::MapRegister(m), "want-map-notify") => Some(m.want_map_notify),
        (ControlMessage::MapRegister(m), "merge") => Some(m.merge),
        (ControlMessage::MapRegister(m), "use-ttl") => Some(m.use_ttl),
        _ => None,
    }
}

/// The nonce of a control message or of a data packet.
pub(super) fn nonce(packet: &Seen) -> Option<u64> {
    match packet.message() {
        Some(ControlMessage::MapRequest(m)) => Some(m.nonce),
        Some(ControlMessage::MapReply(m)) => Some(m.nonce),
        Some(ControlMessage::MapRegister(m)) => Some(m.nonce),
        Some(ControlMessage::MapNotify(m)) => Some(m.nonce),
        Some(ControlMessage::MapNotifyAck(m)) => Some(m.0.nonce),
        Some(ControlMessage::MapReferral(m)) => Some(m.nonce),
        _ => packet.data()?.0.nonce.map(u64::from),
    }
}

fn records(packet: &Seen) -> Option<&[MapRecord]> {
    match packet.message()? {
        ControlMessage::MapReply(m) => Some(&m.records),
        ControlMessage::MapRegister(m) => Some(&m.records),
        ControlMessage::MapNotify(m) => Some(&m.records),
        ControlMessage::MapNotifyAck(m) => Some(&m.0.records),
        _ => None,
    }
}

fn is_about(eid: &Eid, packet: &Seen) -> bool {
    if let Some((_, inner)) = packet.data() {
        return match eid {
            Eid::Address(address) => inner.destination == *address,
            Eid::Prefix(prefix) => prefix.contains(prefix.iid, inner.destination),
        };
    }
    match packet.message() {
        Some(ControlMessage::MapRequest(request)) => {
            request.records.iter().any(|query| eid.is(query.prefix()))
        }
        _ => {
            records(packet).is_some_and(|all| all.iter().any(|record| eid.is(record.eid_prefix())))
        }
    }
}

fn instance_ids(packet: &Seen) -> Vec<u32> {
    if let Some((header, _)) = packet.data() {
        return vec![header.instance_id.unwrap_or(0)];
    }
    let prefixes: Vec<Option<EidPrefix>> = match packet.message() {
        Some(ControlMessage::MapRequest(request)) => {
            request.records.iter().map(|query| query.prefix()).collect()
        }
        _ => records(packet)
            .unwrap_or_default()
            .iter()
            .map(MapRecord::eid_prefix)
            .collect(),
    };
    prefixes.into_iter().flatten().map(|p| p.iid).collect()
}

impl Record {
    fn is(&self, record: &MapRecord) -> bool {
        holds(&self.eid, |eid| eid.is(record.eid_prefix()))
            && holds(&self.ttl, |range| range.contains(&u64::from(record.ttl)))
            // A record with locators has no action (RFC 6830 6.1.4).
            && holds(&self.action, |code| {
                record.locators.is_empty() && record.action.code() == *code
            })
            && holds(&self.authoritative, |asked| record.authoritative == *asked)
            && holds(&self.map_version, |asked| record.map_version == *asked)
            && holds(&self.locators, |asked| {
                let mut found: Vec<Option<IpAddr>> =
                    record.locators.iter().map(|l| l.rloc.ip()).collect();
                let mut asked: Vec<Option<IpAddr>> = asked.iter().copied().map(Some).collect();
                found.sort();
                asked.sort();
                found == asked
            })
            && holds(&self.locator, |asked| {
                record.locators.iter().any(|locator| asked.is(locator))
            })
    }
}

impl LocatorMatch {
    fn is(&self, locator: &Locator) -> bool {
        holds(&self.address, |asked| locator.rloc.ip() == Some(*asked))
            && holds(&self.priority, |asked| locator.priority == *asked)
            && holds(&self.weight, |asked| locator.weight == *asked)
            && holds(&self.local, |asked| locator.local == *asked)
            && holds(&self.probed, |asked| locator.probed == *asked)
            && holds(&self.reachable, |asked| locator.reachable == *asked)
    }
}
