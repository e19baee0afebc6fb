//! What an ETR decapsulates, and what it does not (RFC 6830 5, 5.3, 5.5, 12).

use std::net::IpAddr;

use harness::inline::{PacketFate, Way};
use lisp::wire::DataHeader;

use super::common::*;
use super::packets::{
    Outer, came_out, delivered, echo, fence, fenced, inner_of, tunnelled, wait_delivered,
};
use crate::case::Case;
use crate::cases::common::ip;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::Trace;

const FOUR_MIXES: Req = Req::new("rfc6830-5-decap-4-combos");
const ZERO_4: Req = Req::new("rfc6830-5.3-cksum-zero-rx4");
const ZERO_6: Req = Req::new("rfc6830-5.3-cksum-zero-rx6");
const GOOD: Req = Req::new("rfc6830-5.3-cksum-good-rx");
const BAD: Req = Req::new("rfc6830-5.3-cksum-bad-rx");
const PADDING: Req = Req::new("rfc6830-5.3-padding-rx");
const STRIPS: Req = Req::new("rfc6830-3-etr-decap");

/// What each packet shows, its sequence number, what it is, and the destinations of the outer and inner headers.
const MIXES: [(&[Req], u16, &str, IpAddr, IpAddr); 7] = [
    (
        &[FOUR_MIXES, ZERO_4, STRIPS],
        101,
        "IPv4 in IPv4, zero UDP checksum",
        RLOC,
        HOST,
    ),
    (
        &[FOUR_MIXES, ZERO_4],
        102,
        "IPv6 in IPv4, zero UDP checksum",
        RLOC,
        HOST6,
    ),
    (
        &[FOUR_MIXES, ZERO_6],
        103,
        "IPv4 in IPv6, zero UDP checksum",
        RLOC6,
        HOST,
    ),
    (
        &[FOUR_MIXES, ZERO_6],
        104,
        "IPv6 in IPv6, zero UDP checksum",
        RLOC6,
        HOST6,
    ),
    (&[GOOD], 105, "IPv4 in IPv4, right UDP checksum", RLOC, HOST),
    (
        &[GOOD],
        106,
        "IPv6 in IPv6, right UDP checksum",
        RLOC6,
        HOST6,
    ),
    (
        &[PADDING],
        107,
        "ten octets behind the inner packet",
        RLOC,
        HOST,
    ),
];
const BAD_CHECKSUM: u16 = 108;
const FENCE: u16 = 109;

inventory::submit! {
    Case {
        id: "rfc6830::s5_3::all_families_and_checksums_are_decapsulated",
        title: "All four mixes of IPv4 and IPv6 come out at the host, with zero or right UDP checksums, each with its own length.",
        topology: TOPOLOGY,
        start: false,
        roles: &["etr"],
        requirements: &[FOUR_MIXES, ZERO_4, ZERO_6, GOOD, BAD, PADDING, STRIPS],
        drive: send_mixes,
        judges: &[mixes_come_out],
        sabotages: &[
            loses("drops IPv4 in IPv4", &[ZERO_4], 101),
            loses("drops IPv6 in IPv4", &[FOUR_MIXES], 102),
            loses("drops zero checksums over IPv6", &[ZERO_6], 103),
            loses("drops right checksums", &[GOOD], 105),
            Sabotage {
                name: "hands on what stands behind the inner packet",
                node: ETR,
                links: &["site"],
                kills: &[PADDING],
                tamper: || Box::new(|way, frame| {
                    if way == Way::FromVictim && sequence(frame) == Some(107) {
                        frame.edit_ip(|_, payload| {
                            payload.extend([0xee; 10]);
                            true
                        });
                    }
                    PacketFate::Forward
                }),
            },
            Sabotage {
                name: "answers a wrong checksum with ICMP",
                node: ETR,
                links: &["rloc"],
                kills: &[BAD],
                // The kernel of the box itself answers for a port that nobody has.
                tamper: || Box::new(|way, frame| {
                    if way == Way::ToVictim && frame.ip().is_some_and(|ip| ip.udp().is_some_and(|udp| !udp.checksum_ok)) {
                        frame.edit_ip(|header, payload| {
                            let datagram = lisp::ip::UdpDatagram {
                                source_port: 61_001,
                                destination_port: 9,
                                zero_checksum: false,
                                payload: &payload[8..],
                            };
                            *payload = datagram.emit(header.source(), header.destination());
                            true
                        });
                    }
                    PacketFate::Forward
                }),
            },
        ],
        ..Case::BASE
    }
}

const fn lost(number: u16) -> fn() -> Tamper {
    match number {
        101 => || swallow(|frame| sequence(frame) == Some(101)),
        102 => || swallow(|frame| sequence(frame) == Some(102)),
        103 => || swallow(|frame| sequence(frame) == Some(103)),
        _ => || swallow(|frame| sequence(frame) == Some(105)),
    }
}

const fn loses(name: &'static str, kills: &'static [Req], number: u16) -> Sabotage {
    Sabotage {
        name,
        node: ETR,
        links: &["site"],
        kills,
        tamper: lost(number),
    }
}

/// The sequence number of a decapsulated packet.
fn sequence(frame: &crate::sabotage::Frame<'_>) -> Option<u16> {
    Some(frame.ip()?.icmp()?.echo().1)
}

fn send_mixes(drive: &mut Drive) -> Result<(), Stop> {
    let net = Net::registered(drive)?;
    for (_, sequence, _, outer, inner) in MIXES {
        let packet = match sequence {
            105 | 106 => with_checksum(outer, inner, sequence, &[]),
            107 => with_checksum(outer, inner, sequence, &[0xdd; 10]),
            _ => tunnelled(
                Outer::to(outer),
                &DataHeader::default(),
                &echo(inner, sequence),
            ),
        };
        net.itr.send(&packet)?;
        wait_delivered(drive, sequence)?;
    }
    let mut bad = with_checksum(RLOC, HOST, BAD_CHECKSUM, &[]);
    bad[26] ^= 0x55;
    net.itr.send(&bad)?;
    fence(drive, &net, (RLOC, HOST), &DataHeader::default(), FENCE)
}

/// A data packet with a computed UDP checksum, and octets behind the inner packet.
fn with_checksum(outer: IpAddr, inner: IpAddr, sequence: u16, behind: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; 8];
    payload.extend(echo(inner, sequence));
    payload.extend(behind);
    let from = if outer.is_ipv4() { ITR } else { ITR6 };
    lisp::ip::udp_packet(from, outer, 61_001, lisp::DATA_PORT, 64, &payload)
}

fn mixes_come_out(trace: &Trace, findings: &mut Findings) {
    for (requirements, sequence, what, _, _) in MIXES {
        let sent = inner_of(trace, sequence);
        let out = delivered(trace, sequence);
        for requirement in requirements {
            let (Some(sent), expected) = (sent, format!("{what}: the inner packet at the host"))
            else {
                findings.unseen(*requirement, what);
                continue;
            };
            let Some(out) = out else {
                findings.broken(*requirement, sent, expected, "it did not come out");
                continue;
            };
            // All but TTL, traffic class and header checksum is as it was.
            let as_sent = sent
                .data()
                .map(|(_, inner)| (inner.bytes.len(), inner.transport.clone()));
            let as_out = out.ip().map(|ip| (ip.bytes.len(), ip.transport.clone()));
            findings.check(
                *requirement,
                as_sent == as_out,
                [sent, out],
                expected,
                format!("{} octets came out", as_out.map_or(0, |(length, _)| length)),
            );
        }
    }
    let bad = inner_of(trace, BAD_CHECKSUM);
    let error = trace.originated(ETR).find(|packet| {
        packet.link() == "rloc"
            && packet
                .ip()
                .and_then(|ip| ip.icmp())
                .is_some_and(|icmp| !icmp.is_echo_reply() && (icmp.kind < 128 || !icmp.v6))
    });
    match (bad, error) {
        (None, _) => findings.unseen(BAD, "a data packet with a wrong UDP checksum"),
        (Some(bad), Some(error)) => {
            findings.broken(BAD, [bad, error], "no ICMP error", error.summary())
        }
        (Some(bad), None) => {
            let out = delivered(trace, BAD_CHECKSUM);
            let said = if out.is_some() {
                "decapsulated"
            } else {
                "dropped silently"
            };
            findings.met(BAD, bad, said);
        }
    }
}

const LOCAL_ONLY: Req = Req::new("rfc6830-12-dst-eid-check");
const TO_CORE: u16 = 201;
const BESIDE: u16 = 202;
const TO_CORE_6: u16 = 203;
const AFTER: u16 = 204;
const AFTER_6: u16 = 205;

/// Sequence number, outer and inner destination: a core address, an address that the site routes and that is no EID, an
/// IPv6 one.
fn foreign() -> [(u16, IpAddr, IpAddr); 3] {
    [
        (TO_CORE, RLOC, ip("198.51.100.10")),
        (BESIDE, RLOC, ip("10.3.0.1")),
        (TO_CORE_6, RLOC6, ip("2001:db8:0:51::10")),
    ]
}

inventory::submit! {
    Case {
        id: "rfc6830::s12::inner_destination_is_a_local_eid",
        title: "What is addressed to no EID of the site is dropped after decapsulation, even where there is a route for it.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc6830],
        start: false,
        roles: &["etr"],
        requirements: &[LOCAL_ONLY],
        drive: |drive| {
            let net = Net::registered(drive)?;
            for (sequence, outer, inner) in foreign() {
                net.itr.send(&tunnelled(Outer::to(outer), &DataHeader::default(), &echo(inner, sequence)))?;
            }
            for (sequence, outer, inner) in [(AFTER, RLOC, HOST), (AFTER_6, RLOC6, HOST6)] {
                fence(drive, &net, (outer, inner), &DataHeader::default(), sequence)?;
            }
            Ok(())
        },
        judges: &[nothing_foreign],
        sabotages: &[
            readdressed("forwards into the core", || to_host(TO_CORE)),
            readdressed("forwards beside the EID-Prefix", || to_host(BESIDE)),
            readdressed("forwards IPv6 into the core", || to_host(TO_CORE_6)),
        ],
        ..Case::BASE
    }
}

const fn readdressed(name: &'static str, tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: ETR,
        links: &["rloc"],
        kills: &[LOCAL_ONLY],
        tamper,
    }
}

/// Gives an inner packet a local destination on its way in, so that it comes out.
fn to_host(number: u16) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::ToVictim {
            frame.edit_data(|_, inner| {
                let hit = crate::decode::ip(inner)
                    .and_then(|ip| Some((ip.icmp()?.echo().1, ip.destination.is_ipv4())));
                let Some((_, v4)) = hit.filter(|(sequence, _)| *sequence == number) else {
                    return false;
                };
                *inner = echo(if v4 { HOST } else { HOST6 }, number);
                true
            });
        }
        PacketFate::Forward
    })
}

fn nothing_foreign(trace: &Trace, findings: &mut Findings) {
    for (sequence, outer, inner) in foreign() {
        let Some(sent) = inner_of(trace, sequence) else {
            findings.unseen(LOCAL_ONLY, format!("a data packet for {inner}"));
            continue;
        };
        let fence = fenced(trace, if outer.is_ipv4() { AFTER } else { AFTER_6 });
        match (came_out(trace, sequence), fence) {
            (Some(out), _) => {
                findings.broken(LOCAL_ONLY, [sent, out], "nothing forwarded", out.summary())
            }
            (None, Some(fence)) => findings.met(
                LOCAL_ONLY,
                [sent, fence],
                format!("nothing came out for {inner}; the packet after it did"),
            ),
            (None, None) => findings.broken(
                LOCAL_ONLY,
                sent,
                "the packet after it at the host",
                "it did not come out",
            ),
        }
    }
}

const INSTANCE: Req = Req::new("rfc6830-5.5-iid-decap");
const LOW_OCTET: Req = Req::new("rfc6830-5.3-i-lsb-ignore");
const IN_7: u16 = 301;
const IN_7_LOW: u16 = 302;
const IN_99: u16 = 303;
const IN_NONE: u16 = 304;
const IN_7_AGAIN: u16 = 305;

inventory::submit! {
    Case {
        id: "rfc6830::s5_5::instance_id_selects_the_eid_space",
        title: "A data packet with another Instance ID than the site's, or with none, is dropped; with the right one it is delivered, whatever the low octet holds.",
        topology: TOPOLOGY,
        settings: &[(ETR, "eid-prefixes: [{prefix: 10.1.0.0/24, instance-id: 7, locators: [{address: 192.0.2.10}]}]")],
        start: false,
        roles: &["etr"],
        features: &["instance-id"],
        requirements: &[INSTANCE, LOW_OCTET],
        drive: |drive| {
            let net = Net::registered(drive)?;
            for (sequence, header) in instances() {
                if sequence == IN_7_AGAIN {
                    return fence(drive, &net, (RLOC, HOST), &header, sequence);
                }
                net.itr.send(&tunnelled(Outer::to(RLOC), &header, &echo(HOST, sequence)))?;
            }
            Ok(())
        },
        judges: &[instances_are_apart],
        sabotages: &[
            Sabotage {
                name: "ignores the Instance ID",
                node: ETR,
                links: &["rloc"],
                kills: &[INSTANCE],
                tamper: || Box::new(|way, frame| {
                    if way == Way::ToVictim {
                        frame.edit_data(|header, _| {
                            header.instance_id = Some(7);
                            true
                        });
                    }
                    PacketFate::Forward
                }),
            },
            Sabotage {
                name: "takes the low octet for a part of the Instance ID",
                node: ETR,
                links: &["site"],
                kills: &[LOW_OCTET],
                tamper: || swallow(|frame| sequence(frame) == Some(IN_7_LOW)),
            },
        ],
        ..Case::BASE
    }
}

fn instances() -> [(u16, DataHeader); 5] {
    let of = |iid: Option<u32>, low: u32| DataHeader {
        instance_id: iid,
        raw_lsb: low,
        ..DataHeader::default()
    };
    [
        (IN_7, of(Some(7), 0)),
        (IN_7_LOW, of(Some(7), 0xff)),
        (IN_99, of(Some(99), 0)),
        (IN_NONE, of(None, 0)),
        (IN_7_AGAIN, of(Some(7), 0)),
    ]
}

fn instances_are_apart(trace: &Trace, findings: &mut Findings) {
    for (requirement, sequence, comes_out, what) in [
        (INSTANCE, IN_7, true, "Instance ID 7"),
        (
            LOW_OCTET,
            IN_7_LOW,
            true,
            "Instance ID 7 with a low octet of 0xff",
        ),
        (INSTANCE, IN_99, false, "Instance ID 99"),
        (INSTANCE, IN_NONE, false, "no Instance ID"),
        (INSTANCE, IN_7_AGAIN, true, "Instance ID 7 after them"),
    ] {
        let Some(sent) = inner_of(trace, sequence) else {
            findings.unseen(requirement, what);
            continue;
        };
        let out = came_out(trace, sequence);
        let evidence: Vec<_> = std::iter::once(sent).chain(out).collect();
        let (expected, seen) = if comes_out {
            ("delivered", "not delivered")
        } else {
            ("dropped", "forwarded")
        };
        findings.check(
            requirement,
            out.is_some() == comes_out,
            &evidence,
            format!("{what}: {expected}"),
            if out.is_some() == comes_out {
                expected
            } else {
                seen
            },
        );
    }
}
