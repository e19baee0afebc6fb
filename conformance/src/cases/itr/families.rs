//! All four mixes of inner and outer address family, and what stands in the outer headers (RFC 6830 5, 5.1, 5.2, 4).

use std::net::IpAddr;

use harness::inline::{PacketFate, Way};
use lisp::ip::IpHeader;
use lisp::wire::{ControlMessage, DataHeader};
use lisp::{Address, DATA_PORT};

use super::flows_net::*;
use crate::case::Case;
use crate::cases::common::{ip, locator, outgoing, request};
use crate::catalogue::Req;
use crate::decode::Ip;
use crate::drive::{Drive, Echo, Stop};
use crate::finding::Findings;
use crate::trace::{Seen, Trace};

const FOUR_MIXES: Req = Req::new("rfc6830-5-encap-4-combos");
const PROTOCOL: Req = Req::new("rfc6830-5.3-outer-proto");
const NO_RLOC: Req = Req::new("rfc6830-4-host-eid-not-rloc");

const OVER_V4: u8 = 40;
const OVER_V6: u8 = 41;
const EACH: u16 = 3;
/// The EIDs of the router itself.
const ROUTER: [&str; 2] = ["10.1.0.1", "2001:db8:a::1"];
/// The EIDs that ask the router.
const ASKING: [IpAddr; 2] = [eid(OVER_V4, 9), eid6(OVER_V6, 9)];

inventory::submit! {
    Case {
        id: "rfc6830::s5::all_four_mixes_are_encapsulated",
        title: "IPv4 and IPv6 packets are encapsulated over IPv4 and over IPv6, as UDP, from locators that are never an EID of the router itself.",
        topology: TOPOLOGY,
        settings: ONE_BY_ONE,
        start: false,
        roles: &["itr"],
        requirements: &[FOUR_MIXES, PROTOCOL, NO_RLOC],
        drive,
        judges: &[mixes_judge, protocol, no_eid_as_locator],
        sabotages: &[
            sabotage("cannot do IPv6 over IPv4", &[FOUR_MIXES], || lose(|outer, inner| outer.is_ipv4() && inner.is_ipv6())),
            sabotage("cannot do IPv4 over IPv6", &[FOUR_MIXES], || lose(|outer, inner| outer.is_ipv6() && inner.is_ipv4())),
            sabotage("spoils the inner packet", &[FOUR_MIXES], || data_out(|_, _, datagram| {
                let last = datagram.len() - 1;
                datagram[last] ^= 1;
            })),
            sabotage("UDP-Lite", &[PROTOCOL], || data_out(|_, header, _| match header {
                IpHeader::V4(header) => header.protocol = 136,
                IpHeader::V6(header) => header.next_header = 136,
            })),
            sabotage("an EID of its own as outer source", &[NO_RLOC], || data_out(|_, header, _| {
                if let (IpHeader::V4(header), IpAddr::V4(eid)) = (header, ip(ROUTER[0])) {
                    header.source = eid;
                }
            })),
            sabotage("an EID of its own as ITR-RLOC", &[NO_RLOC], || outgoing(|message| match message {
                ControlMessage::MapRequest(request) => {
                    request.itr_rlocs = vec![Address::from_eid(0, ip(ROUTER[0]))];
                    true
                }
                _ => false,
            })),
            sabotage("an EID of its own as locator", &[NO_RLOC], || outgoing(|message| match message {
                ControlMessage::MapReply(reply) => {
                    reply.records[0].locators[0].rloc = Address::from_eid(0, ip(ROUTER[1]));
                    true
                }
                _ => false,
            })),
        ],
        ..Case::BASE
    }
}

fn lose(which: fn(&IpAddr, &IpAddr) -> bool) -> crate::sabotage::Tamper {
    Box::new(move |way, frame| {
        let inner = frame.ip().and_then(|ip| match crate::decode::lisp(&ip) {
            crate::decode::Lisp::Data { inner, .. } => Some((ip.destination, inner?.destination)),
            _ => None,
        });
        match inner {
            Some((outer, inner)) if way == Way::FromVictim && which(&outer, &inner) => {
                PacketFate::Drop
            }
            _ => PacketFate::Forward,
        }
    })
}

/// Destination EID, own and remote locator.
fn mixes() -> [(IpAddr, IpAddr, IpAddr); 4] {
    [
        (eid(OVER_V4, 10), RLOC, R[0]),
        (eid(OVER_V6, 10), RLOC6, R6[0]),
        (eid6(OVER_V4, 10), RLOC, R[0]),
        (eid6(OVER_V6, 10), RLOC6, R6[0]),
    ]
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, |_, subnet| match subnet {
        OVER_V4 => vec![locator(&R[0].to_string(), 1, 100)],
        OVER_V6 => vec![locator(&R6[0].to_string(), 1, 100)],
        _ => Vec::new(),
    })?;
    let eids: Vec<IpAddr> = mixes().iter().map(|(eid, ..)| *eid).collect();
    net.resolve(drive, &eids)?;
    drive.mark("flows");
    let packets: Vec<Vec<u8>> = mixes()
        .iter()
        .flat_map(|(eid, ..)| (0..EACH).map(|number| flow(*eid, FIRST_PORT + number)))
        .collect();
    net.bursts(drive, &packets)?;
    // What the router itself says under its EIDs goes through the tunnel as well.
    for (at, (own, asking)) in ROUTER.into_iter().zip(ASKING).enumerate() {
        let echo = Echo::new(asking, ip(own), 7).request();
        let (from, to) = [(R[0], RLOC), (R6[0], RLOC6)][at];
        let begin = drive.now_ns();
        net.remotes[0].data((from, 61_001), to, &DataHeader::default(), &echo)?;
        drive.wait_for(
            begin,
            "the router's own answer on the core",
            SOON,
            |packet| {
                packet
                    .data()
                    .is_some_and(|(_, inner)| inner.destination == asking)
            },
        )?;
    }
    let question =
        ControlMessage::MapRequest(request(0xe1d, Some(ASKING[0]), &[R[1]], "10.1.0.1/32"));
    let begin = drive.now_ns();
    net.remotes[1].control((R[1], 50_123), RLOC, &question)?;
    drive.wait_for(begin, "the Map-Reply", SOON, |packet| {
        packet.sender() == Some(ITR) && packet.map_reply().is_some_and(|reply| reply.nonce == 0xe1d)
    })?;
    Ok(())
}

fn mixes_judge(trace: &Trace, findings: &mut Findings) {
    for (to, from_locator, to_locator) in mixes() {
        let into = |ip: &Ip| {
            ip.destination == to
                && ip
                    .udp()
                    .is_some_and(|udp| udp.destination_port == FLOW_PORT)
        };
        let sent: Vec<&Seen> = trace
            .since("flows")
            .filter(|packet| packet.receiver() == Some(ITR) && packet.ip().is_some_and(into))
            .collect();
        if sent.len() < usize::from(EACH) {
            findings.unseen(FOUR_MIXES, format!("{EACH} packets to {to}"));
            continue;
        }
        let out: Vec<&Seen> = flows(trace)
            .filter(|packet| packet.data().is_some_and(|(_, inner)| into(inner)))
            .collect();
        let expected = format!(
            "{EACH} packets to {to} inside UDP from {from_locator} to port 4341 of {to_locator}, unchanged but for the TTL"
        );
        let wrong = out.iter().copied().find(|packet| {
            let ways = (packet.source(), packet.destination());
            ways != (Some(from_locator), Some(to_locator))
                || !sent.iter().any(|before| is_same(before, packet))
        });
        let (holds, evidence, seen) = match wrong {
            Some(packet) => (false, vec![packet], packet.summary()),
            None => (
                out.len() == sent.len(),
                sent.iter().chain(&out).copied().collect(),
                format!("{} packets", out.len()),
            ),
        };
        findings.check(FOUR_MIXES, holds, &evidence, expected, seen);
    }
}

/// Whether a data packet carries a packet of the site: only TTL and header checksum differ.
fn is_same(before: &Seen, data: &Seen) -> bool {
    let (Some(before), Some((_, inner))) = (before.ip(), data.data()) else {
        return false;
    };
    let header = if before.source.is_ipv4() { 20 } else { 40 };
    let addresses = if before.source.is_ipv4() {
        12..20
    } else {
        8..40
    };
    before.bytes.len() == inner.bytes.len()
        && before.bytes[addresses.clone()] == inner.bytes[addresses]
        && before.bytes[header..] == inner.bytes[header..]
        && inner.ttl.checked_add(1) == Some(before.ttl)
        && inner.header_checksum_ok
}

/// Whatever the header says: packets to a remote locator that hold a packet of the site.
fn protocol(trace: &Trace, findings: &mut Findings) {
    let marker = [0x5a; 32];
    let tunnelled: Vec<&Seen> = trace
        .since("flows")
        .filter(|packet| packet.sender() == Some(ITR))
        .filter(|packet| {
            packet.ip().is_some_and(|ip| {
                (ip.destination == R[0] || ip.destination == R6[0])
                    && ip
                        .bytes
                        .windows(marker.len())
                        .any(|octets| octets == marker)
            })
        })
        .collect();
    let expected = mixes().len() * usize::from(EACH);
    if tunnelled.len() < expected {
        findings.broken(
            PROTOCOL,
            &tunnelled,
            format!("{expected} packets with a packet of the site inside"),
            format!("{}", tunnelled.len()),
        );
        return;
    }
    let other = tunnelled.iter().find(|packet| {
        packet.ip().is_none_or(|ip| {
            let at = if ip.source.is_ipv4() { 9 } else { 6 };
            ip.bytes[at] != lisp::ip::PROTOCOL_UDP
        })
    });
    match other {
        Some(packet) => findings.broken(
            PROTOCOL,
            *packet,
            "protocol or next header 17",
            packet.summary(),
        ),
        None => findings.met(
            PROTOCOL,
            &tunnelled,
            format!("17 in {} packets", tunnelled.len()),
        ),
    }
}

/// RFC 6830 4: an EID that names the router as a host is not used as a locator.
fn no_eid_as_locator(trace: &Trace, findings: &mut Findings) {
    let own: Vec<IpAddr> = ROUTER.into_iter().map(ip).collect();
    let is_own = |address: &Address| address.ip().is_some_and(|address| own.contains(&address));
    let mut kinds = [false; 4];
    for packet in trace.sent_by(ITR) {
        let is_data = packet
            .udp()
            .is_some_and(|udp| udp.destination_port == DATA_PORT);
        let records = packet
            .map_register()
            .map(|register| &register.records)
            .or_else(|| packet.map_reply().map(|reply| &reply.records));
        let locators = || {
            records
                .into_iter()
                .flatten()
                .flat_map(|record| &record.locators)
        };
        let request = packet.map_request();
        kinds[0] |= packet
            .data()
            .is_some_and(|(_, inner)| own.contains(&inner.source));
        kinds[1] |= request.is_some();
        kinds[2] |= packet.map_register().is_some();
        kinds[3] |= packet.map_reply().is_some();
        let found = if is_data && packet.source().is_some_and(|source| own.contains(&source)) {
            Some("outer source")
        } else if request.is_some_and(|request| request.itr_rlocs.iter().any(is_own)) {
            Some("ITR-RLOC")
        } else if locators().any(|locator| is_own(&locator.rloc)) {
            Some("locator")
        } else {
            None
        };
        if let Some(place) = found {
            let seen = format!("an EID of the router as {place}: {}", packet.summary());
            findings.broken(NO_RLOC, packet, "no EID of the router as locator", seen);
            return;
        }
    }
    let needed = [
        "data of its own",
        "a Map-Request",
        "a Map-Register",
        "a Map-Reply",
    ];
    match needed.into_iter().zip(kinds).find(|(_, seen)| !seen) {
        Some((what, _)) => findings.unseen(NO_RLOC, format!("{what} of the router")),
        None => findings.met(
            NO_RLOC,
            Vec::new(),
            "only locators in data, requests, registers and replies",
        ),
    }
}
