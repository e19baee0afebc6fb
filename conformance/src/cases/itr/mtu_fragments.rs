//! Fragments on their way into a site: inner ones, outer ones, and too many outer ones (RFC 6830 5.4.1; RFC 9300 16).

use std::net::IpAddr;

use harness::inline::{PacketFate, Way};
use lisp::ip::{IpHeader, Ipv4Header};
use lisp::wire::DataHeader;

use super::flows_net::*;
use super::mtu::{OVER_V4, locators};
use crate::case::Case;
use crate::cases::fences::{special, with_checksum};
use crate::catalogue::Req;
use crate::decode::Ip;
use crate::drive::{Drive, Stop, data_packet};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};

const INNER: Req = Req::new("rfc6830-5.4.1-frag-decap");
const OUTER: Req = Req::new("rfc6830-5.4.1-outer-reasm");
const LIMIT: Req = Req::new("rfc9300-16-frag-limit");

const FROM: IpAddr = eid(OVER_V4, 10);
/// Source ports of the inner packets, by which they are known, also in their identifications.
const HALVES: u16 = FIRST_PORT + 1;
const WHOLE: u16 = FIRST_PORT + 2;
const BROKEN: u16 = FIRST_PORT + 3;
const FENCE: u16 = FIRST_PORT + 4;
const AFTER_FLOOD: u16 = FIRST_PORT + 5;
const OUTER_PORT: u16 = 61_001;
/// First fragments without a second: more than the kernels of hosts keep (4 MB).
const FLOOD: u16 = 4_000;

const fn at_site(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: ITR,
        links: &["site"],
        kills,
        tamper,
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s5_4_1::fragments_are_for_the_host_to_join",
        title: "Inner fragments come out as fragments; an outer packet in fragments is joined and delivered, or dropped, never delivered in part.",
        topology: TOPOLOGY,
        start: false,
        roles: &["etr"],
        features: &["mtu", "mtu-stateless"],
        requirements: &[INNER, OUTER],
        drive: |drive| {
            let net = up(drive)?;
            for half in inner_halves() {
                net.remotes[0].send(&tunnelled(&half))?;
            }
            for piece in outer_pieces(&tunnelled(&packet(WHOLE, 1_000)), WHOLE) {
                net.remotes[0].send(&piece)?;
            }
            // The first one of its pieces never comes.
            for piece in outer_pieces(&tunnelled(&packet(BROKEN, 1_000)), BROKEN).iter().skip(1) {
                net.remotes[0].send(piece)?;
            }
            deliver(drive, &net, FENCE)
        },
        judges: &[inner_fragments, outer_fragments],
        sabotages: &[
            at_site("joins inner fragments itself", &[INNER], || out(|ip| {
                if ip.fragment && ip.bytes[6] & 0x20 == 0 { Fate::Lose } else { Fate::Pass }
            })),
            at_site("loses what was sent in two", &[INNER], || out(|ip| if ip.fragment { Fate::Lose } else { Fate::Pass })),
            at_site("delivers a part of an outer packet", &[OUTER], || out(|ip| {
                if ip.udp().is_some_and(|udp| udp.source_port == WHOLE) { Fate::Cut } else { Fate::Pass }
            })),
        ],
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc9300::s16::a_flood_of_first_fragments_stops_nothing",
        title: "While 4000 outer fragments wait for what never comes, whole packets are decapsulated.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc9300],
        start: false,
        roles: &["etr"],
        features: &["mtu"],
        requirements: &[LIMIT],
        drive: |drive| {
            let net = up(drive)?;
            deliver(drive, &net, FENCE)?;
            drive.mark("flood");
            let whole = tunnelled(&packet(BROKEN, 1_400));
            for number in 0..FLOOD {
                if let Some(first) = outer_pieces(&whole, number).first() {
                    net.remotes[0].send(first)?;
                }
            }
            drive.mark("after the flood");
            deliver(drive, &net, AFTER_FLOOD)
        },
        judges: &[flood],
        sabotages: &[at_site("is choked by the flood", &[LIMIT], || out(|ip| {
            if ip.udp().is_some_and(|udp| udp.source_port == AFTER_FLOOD) { Fate::Lose } else { Fate::Pass }
        }))],
        ..Case::BASE
    }
}

enum Fate {
    Pass,
    Lose,
    Cut,
}

/// Decides about packets that leave the box for the site.
fn out(fate: fn(&Ip) -> Fate) -> Tamper {
    Box::new(move |way, frame| {
        let decided = match frame.ip() {
            Some(ip) if way == Way::FromVictim && ip.source == FROM => fate(&ip),
            _ => Fate::Pass,
        };
        match decided {
            Fate::Pass => PacketFate::Forward,
            Fate::Lose => PacketFate::Drop,
            Fate::Cut => {
                frame.edit_udp(|_, payload| {
                    payload.truncate(100);
                    true
                });
                PacketFate::Forward
            }
        }
    })
}

fn up(drive: &mut Drive<'_>) -> Result<Net, Stop> {
    let net = Net::up(drive, locators)?;
    net.resolve(drive, &[FROM])?;
    Ok(net)
}

/// A packet of a remote host to the site's, of so many octets; its source port is also its identification.
fn packet(port: u16, octets: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..octets - 28).map(|at| at as u8).collect();
    let mut packet = lisp::ip::udp_packet(FROM, HOST, port, FLOW_PORT, 64, &payload);
    packet[4..6].copy_from_slice(&port.to_be_bytes());
    packet[6..8].fill(0);
    mend(&mut packet);
    packet
}

fn mend(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = lisp::ip::checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn tunnelled(inner: &[u8]) -> Vec<u8> {
    data_packet((R[0], OUTER_PORT), RLOC, &DataHeader::default(), inner, 64)
}

/// The pieces of an IPv4 packet behind its header, in fragments of at most so many octets of payload (a multiple of 8).
fn pieces(packet: &[u8], identification: u16, size: usize) -> Vec<Vec<u8>> {
    let payload = &packet[20..];
    let count = payload.len().div_ceil(size);
    payload
        .chunks(size)
        .enumerate()
        .map(|(at, piece)| {
            let more = if at + 1 < count { 0x2000 } else { 0 };
            let header = Ipv4Header {
                identification,
                fragment: more | (at * size / 8) as u16,
                ..v4_header(packet)
            };
            IpHeader::V4(header).emit(piece)
        })
        .collect()
}

fn v4_header(packet: &[u8]) -> Ipv4Header {
    let octets = |at: usize| [packet[at], packet[at + 1], packet[at + 2], packet[at + 3]];
    Ipv4Header {
        traffic_class: packet[1],
        identification: 0,
        fragment: 0,
        ttl: packet[8],
        protocol: packet[9],
        source: octets(12).into(),
        destination: octets(16).into(),
        options: Vec::new(),
    }
}

/// The two halves that an ITR makes of a packet of 1500 octets.
fn inner_halves() -> Vec<Vec<u8>> {
    pieces(&packet(HALVES, 1_500), HALVES, 744)
}

fn outer_pieces(outer: &[u8], identification: u16) -> Vec<Vec<u8>> {
    pieces(outer, identification, 400)
}

/// Sends whole packets, a plain and a special one ([`fences`](crate::cases::fences)), and waits until they are at the host:
/// what came before is decided by then.
fn deliver(drive: &Drive<'_>, net: &Net, port: u16) -> Result<(), Stop> {
    let begin = drive.now_ns();
    let special = special(port);
    net.remotes[0].send(&tunnelled(&packet(port, 100)))?;
    net.remotes[0].send(&with_checksum(&tunnelled(&packet(special, 100))))?;
    for port in [port, special] {
        drive.wait_for(begin, "the whole packet at the host", SOON, |packet| {
            is_delivered(packet, port)
        })?;
    }
    Ok(())
}

fn is_delivered(packet: &Seen, port: u16) -> bool {
    packet.receiver() == Some("site")
        && packet.ip().is_some_and(|ip| {
            ip.source == FROM && ip.udp().is_some_and(|udp| udp.source_port == port)
        })
}

fn inner_fragments(trace: &Trace, findings: &mut Findings) {
    let arrived: Vec<&Seen> = trace
        .received_by(ITR)
        .filter(|packet| packet.data().is_some_and(|(_, inner)| inner.fragment))
        .collect();
    if arrived.len() < 2 {
        findings.unseen(INNER, "two inner fragments");
        return;
    }
    let id = |ip: &Ip| [ip.bytes[4], ip.bytes[5]] == HALVES.to_be_bytes();
    let out: Vec<&Seen> = trace
        .received_by("site")
        .filter(|packet| packet.ip().is_some_and(|ip| ip.source == FROM && id(ip)))
        .collect();
    let same = inner_halves().iter().all(|half| {
        out.iter().any(|packet| {
            packet.ip().is_some_and(|ip| {
                ip.fragment && ip.bytes[6..8] == half[6..8] && ip.bytes[20..] == half[20..]
            })
        })
    });
    let evidence: Vec<&Seen> = arrived.iter().chain(&out).copied().collect();
    let seen = format!(
        "{} packets came out, {}",
        out.len(),
        if same {
            "both halves"
        } else {
            "not both halves"
        }
    );
    findings.check(
        INNER,
        same && out.len() == 2,
        &evidence,
        "both fragments delivered as they are",
        seen,
    );
}

fn outer_fragments(trace: &Trace, findings: &mut Findings) {
    let came = |port| trace.iter().any(|packet| is_delivered(packet, port));
    if !came(FENCE) || !came(special(FENCE)) {
        findings.unseen(OUTER, "the whole packets behind the fragments");
        return;
    }
    let pieces: Vec<&Seen> = trace
        .received_by(ITR)
        .filter(|packet| {
            packet
                .ip()
                .is_some_and(|ip| ip.fragment && ip.source == R[0])
        })
        .collect();
    let expected = packet(WHOLE, 1_000);
    let partial = trace.received_by("site").find(|packet| {
        packet.ip().is_some_and(|ip| {
            let id = [ip.bytes[4], ip.bytes[5]];
            let ours =
                ip.source == FROM && (id == WHOLE.to_be_bytes() || id == BROKEN.to_be_bytes());
            ours && ip.bytes[20..] != expected[20..]
        })
    });
    let joined = trace
        .received_by("site")
        .find(|packet| is_delivered(packet, WHOLE));
    match (partial, joined) {
        (Some(partial), _) => findings.broken(
            OUTER,
            partial,
            "the whole inner packet or nothing",
            partial.summary(),
        ),
        (None, Some(joined)) => {
            let evidence: Vec<&Seen> = pieces.into_iter().chain([joined]).collect();
            findings.met(
                OUTER,
                &evidence,
                "joined and delivered; nothing of what was not complete",
            );
        }
        (None, None) => findings.met(OUTER, &pieces, "dropped"),
    }
}

fn flood(trace: &Trace, findings: &mut Findings) {
    let fragments = trace
        .since("flood")
        .filter(|packet| {
            packet.receiver() == Some(ITR) && packet.ip().is_some_and(|ip| ip.fragment)
        })
        .count();
    if fragments < usize::from(FLOOD) / 2 {
        findings.unseen(LIMIT, format!("a flood of fragments; {fragments} arrived"));
        return;
    }
    let out = trace
        .since("after the flood")
        .find(|packet| is_delivered(packet, AFTER_FLOOD));
    match out {
        Some(out) => findings.met(
            LIMIT,
            out,
            format!("delivered behind {fragments} fragments"),
        ),
        None => findings.broken(
            LIMIT,
            Vec::new(),
            "whole packets are decapsulated",
            "nothing came out",
        ),
    }
}
