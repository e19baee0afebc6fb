//! Data-Probes: data packets that ask an ETR for a Map-Reply (RFC 6830 3, 6.1.4, 12).
//!
//! They are addressed to EIDs outside as well as inside, so the core has a route to the site here, and only here.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::CONTROL_PORT;
use lisp::ip::IpHeader;
use lisp::wire::{ControlMessage, DataHeader};

use super::common::*;
use super::headers::spoils;
use super::packets::{
    Outer, came_out, delivered, echo, fence, fenced, inner_of, tunnelled, wait_delivered,
};
use crate::case::Case;
use crate::catalogue::Req;
use crate::drive::{Drive, Peer, Stop, data_packet};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};

const PROBE: Req = Req::new("rfc6830-3-data-probe");
const RATE: Req = Req::new("rfc6830-12-rate-data-mrep");

/// 24 bits, as a data packet carries them.
const NONCE: u32 = 0x00ab_cdef;
const NONCE_6: u32 = 0x0012_3456;
const NO_PROBE: u32 = 0x0065_4321;
const OF_ETR: u32 = 0x0077_7777;

/// Sequence numbers of the inner packets.
const ORDINARY: u16 = 701;
const TO_HOST: u16 = 702;
const TO_HOST_6: u16 = 703;
const TO_ETR: u16 = 704;
const FENCE: u16 = 705;

inventory::submit! {
    Case {
        id: "rfc6830::s3::data_probes_are_answered_and_delivered",
        title: "A data packet whose inner and outer destinations are one EID brings a Map-Reply to its source and port with its nonce, and its inner packet reaches the host; one for the ETR itself is discarded.",
        topology: TOPOLOGY,
        settings: &[(ETR, "data-probes: true")],
        start: false,
        roles: &["etr"],
        features: &["data-probe"],
        requirements: &[PROBE],
        drive: probes,
        judges: &[answered, discarded],
        sabotages: &[
            answers("does not answer", || swallow(|frame| matches!(frame.control(), Some(ControlMessage::MapReply(_))))),
            answers("answers with another nonce", || spoil_replies(|reply| {
                reply.nonce ^= 1;
                true
            })),
            answers("answers with no record", || spoil_replies(|reply| {
                reply.records.clear();
                true
            })),
            answers("answers to port 4342", || Box::new(|way, frame| {
                if way == Way::FromVictim && matches!(frame.control(), Some(ControlMessage::MapReply(_))) {
                    frame.edit_udp_ports(|ports, _| {
                        ports.1 = CONTROL_PORT;
                        true
                    });
                }
                PacketFate::Forward
            })),
            answers("answers every data packet", every_packet),
            spoils("keeps the inner packet", &[PROBE], || swallow(|frame| {
                frame.ip().and_then(|ip| Some(ip.icmp()?.echo().1)) == Some(TO_HOST)
            })),
            spoils("delivers what is for the ETR", &[PROBE], || super::headers::on_host(FENCE, |ip| {
                // Sequence number behind 20 octets of IPv4 and 6 of ICMP.
                ip[26..28].copy_from_slice(&TO_ETR.to_be_bytes());
            })),
        ],
        ..Case::BASE
    }
}

const fn answers(name: &'static str, tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: ETR,
        links: &["rloc"],
        kills: &[PROBE],
        tamper,
    }
}

/// Gives the Map-Reply to the first Data-Probe the nonce of the ordinary packet before it, as a second answer.
fn every_packet() -> Tamper {
    Box::new(|way, frame| {
        if way == Way::FromVictim {
            frame.edit_control(|message| match message {
                ControlMessage::MapReply(reply)
                    if reply.nonce & 0x00ff_ffff == u64::from(NONCE) =>
                {
                    reply.nonce = NO_PROBE.into();
                    true
                }
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

/// A LISP header with a nonce.
fn with_nonce(nonce: u32) -> DataHeader {
    DataHeader {
        nonce: Some(nonce),
        ..DataHeader::default()
    }
}

/// The core learns where the site's EIDs are.
fn announce(drive: &Drive) -> Result<(), Stop> {
    for (prefix, via) in [
        ("10.1.0.0/24", "192.0.2.10"),
        ("2001:db8:a::/48", "2001:db8:0:2::2"),
    ] {
        let command = ["ip", "route", "add", prefix, "via", via];
        let output = drive.lab().exec("core", command, Duration::from_secs(5))?;
        if !output.exit.success() {
            let why = output.stderr_text();
            return Err(Stop::Untestable(format!("no route for the core: {why}")));
        }
    }
    Ok(())
}

fn probe(peer: &Peer, to: IpAddr, nonce: u32, sequence: u16) -> Result<(), Stop> {
    peer.send(&tunnelled(
        Outer::to(to),
        &with_nonce(nonce),
        &echo(to, sequence),
    ))?;
    Ok(())
}

fn probes(drive: &mut Drive) -> Result<(), Stop> {
    let net = Net::registered(drive)?;
    announce(drive)?;
    // An ordinary packet with a nonce asks nothing.
    let ordinary = tunnelled(
        Outer::to(RLOC),
        &with_nonce(NO_PROBE),
        &echo(HOST, ORDINARY),
    );
    net.itr.send(&ordinary)?;
    probe(&net.itr, RLOC, OF_ETR, TO_ETR)?;
    for (to, nonce, sequence) in [(HOST, NONCE, TO_HOST), (HOST6, NONCE_6, TO_HOST_6)] {
        probe(&net.itr, to, nonce, sequence)?;
        let what = format!("the Map-Reply to the Data-Probe of {to}");
        drive.wait_for(0, &what, SOON, |packet| {
            packet.sender() == Some(ETR) && is_reply(packet, nonce)
        })?;
    }
    fence(drive, &net, (RLOC, HOST), &DataHeader::default(), FENCE)?;
    // What came to an EID may take a way of its own.
    wait_delivered(drive, TO_HOST)?;
    wait_delivered(drive, TO_HOST_6)
}

/// A Map-Reply with these low 24 bits of its nonce (ambiguities B6).
fn is_reply(packet: &Seen, nonce: u32) -> bool {
    packet
        .map_reply()
        .is_some_and(|reply| reply.nonce & 0x00ff_ffff == u64::from(nonce))
}

fn answered(trace: &Trace, findings: &mut Findings) {
    for (to, nonce, sequence) in [(HOST, NONCE, TO_HOST), (HOST6, NONCE_6, TO_HOST_6)] {
        let Some(question) = inner_of(trace, sequence) else {
            findings.unseen(PROBE, format!("the Data-Probe of {to}"));
            continue;
        };
        let answer = trace
            .originated(ETR)
            .find(|packet| is_reply(packet, nonce) && packet.time_ns() >= question.time_ns());
        match answer {
            Some(answer) => well_answered(question, answer, to, findings),
            None => findings.broken(
                PROBE,
                question,
                format!("a Map-Reply with nonce {nonce:#08x}"),
                "none",
            ),
        }
        if delivered(trace, sequence).is_none() {
            findings.broken(
                PROBE,
                question,
                format!("its inner packet at {to}"),
                "it did not come out",
            );
        }
    }
}

fn well_answered(question: &Seen, answer: &Seen, to: IpAddr, findings: &mut Findings) {
    let port_of = |packet: &Seen| {
        let udp = packet.udp()?;
        Some((udp.source_port, udp.destination_port))
    };
    let wanted = (
        question.source(),
        Some((
            CONTROL_PORT,
            port_of(question).map_or(0, |(source, _)| source),
        )),
    );
    let seen = (answer.destination(), port_of(answer));
    findings.check(
        PROBE,
        wanted == seen,
        [question, answer],
        "a Map-Reply from port 4342 to the Data-Probe's source and port",
        answer.summary(),
    );
    let covering = prefixes(answer)
        .iter()
        .any(|prefix| prefix.prefix.contains(&to));
    findings.check(
        PROBE,
        covering,
        [question, answer],
        format!("a record that covers {to}"),
        "none",
    );
}

/// What is no Data-Probe, or has no EID, brings nothing.
fn discarded(trace: &Trace, findings: &mut Findings) {
    match (
        inner_of(trace, ORDINARY),
        trace
            .originated(ETR)
            .find(|packet| is_reply(packet, NO_PROBE)),
    ) {
        (None, _) => findings.unseen(PROBE, "an ordinary data packet with a nonce"),
        (Some(ordinary), Some(reply)) => findings.broken(
            PROBE,
            [ordinary, reply],
            "no Map-Reply to a data packet whose destinations differ",
            "a Map-Reply with its nonce",
        ),
        (Some(_), None) => {}
    }
    match (inner_of(trace, TO_ETR), came_out(trace, TO_ETR)) {
        (None, _) => findings.unseen(PROBE, "a data packet from the ETR's locator to itself"),
        (Some(sent), Some(out)) => findings.broken(
            PROBE,
            [sent, out],
            "an inner packet for no EID of the site discarded",
            out.summary(),
        ),
        (Some(_), None) => {}
    }
    if fenced(trace, FENCE).is_none() {
        findings.unseen(PROBE, "the last packets at the host");
    }
}

/// Data-Probes in a burst, which takes some milliseconds.
const BURST: u16 = 500;
const BURST_NONCE: u32 = 0x0050_0000;
/// Map-Replies in and right after the burst that still count as a limited rate.
const ALLOWED: usize = 50;

inventory::submit! {
    Case {
        id: "rfc6830::s12::data_triggered_map_replies_are_rate_limited",
        title: "Of 500 Data-Probes at once only a few are answered; Map-Requests are answered meanwhile.",
        topology: TOPOLOGY,
        settings: &[(ETR, "data-probes: true")],
        start: false,
        roles: &["etr"],
        features: &["data-probe"],
        requirements: &[RATE],
        drive: |drive| {
            let net = Net::registered(drive)?;
            announce(drive)?;
            for number in 0..BURST {
                let header = with_nonce(BURST_NONCE + u32::from(number));
                let inner = echo(HOST, 1000 + number);
                net.itr.send(&data_packet((ITR, 61_001), HOST, &header, &inner, 64))?;
            }
            wait_delivered(drive, 1000 + BURST - 1)?;
            // The fence: what the burst asks for has been answered or not.
            net.question(drive, &request(0x9e7a_0000_000a_0001, itr_rloc(4), "10.1.0.10/32"))
        },
        judges: &[few],
        sabotages: &[
            Sabotage {
                name: "answers each",
                node: ETR,
                links: &["rloc"],
                kills: &[RATE],
                // Each seems to come from a place of its own, which the limit for one requester does not stop.
                tamper: || {
                    let mut number = 0_u8;
                    Box::new(move |way, frame| {
                        let data = frame.ip().is_some_and(|ip| ip.destination == HOST && ip.source == ITR);
                        if way == Way::ToVictim && data {
                            number = number % 250 + 1;
                            frame.edit_addresses(|header| match header {
                                IpHeader::V4(header) => {
                                    header.source = Ipv4Addr::new(203, 0, 113, number);
                                    true
                                }
                                IpHeader::V6(_) => false,
                            });
                        }
                        PacketFate::Forward
                    })
                },
            },
            Sabotage {
                name: "answers none",
                node: ETR,
                links: &["rloc"],
                kills: &[RATE],
                tamper: || swallow(|frame| matches!(
                    frame.control(),
                    Some(ControlMessage::MapReply(reply)) if of_burst(reply.nonce)
                )),
            },
        ],
        ..Case::BASE
    }
}

fn of_burst(nonce: u64) -> bool {
    let first = u64::from(BURST_NONCE);
    (first..first + u64::from(BURST)).contains(&(nonce & 0x00ff_ffff))
}

fn few(trace: &Trace, findings: &mut Findings) {
    let asked = trace
        .received_by(ETR)
        .filter(|packet| {
            packet
                .data()
                .is_some_and(|(header, _)| header.nonce.is_some_and(|nonce| of_burst(nonce.into())))
        })
        .count();
    if asked < usize::from(BURST) {
        findings.unseen(
            RATE,
            format!("all {BURST} Data-Probes: {asked} reached the ETR"),
        );
    }
    let sent = replies_among(trace, of_burst);
    findings.check(
        RATE,
        (1..=ALLOWED).contains(&sent.len()),
        &sent,
        format!("1 to {ALLOWED} Map-Replies to {BURST} Data-Probes"),
        format!("{} Map-Replies", sent.len()),
    );
}
