//! The PITR's aggregates in the routing of the Internet: a real routing daemon takes them from the kernel and announces
//! them by BGP (RFC 6832 5).

use harness::Program;

use super::{Ping, way_text};
use crate::case::Case;
use crate::cases::common::{ip, lose_outgoing, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const ADVERTISE: Req = Req::new("rfc6832-5-pitr-advertise");
const ENCAP: Req = Req::new("rfc6832-5.2-pitr-encap");

const HOST_A: &str = "10.1.0.10";
/// 10.1.0.0/16 and 2001:db8:a::/48 as a BGP UPDATE has them (RFC 4271 4.3): length in bits, then the octets of the prefix.
const AGGREGATES: [&[u8]; 2] = [&[16, 10, 1], &[48, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x0a]];
const BGP: u16 = 179;

inventory::submit! {
    Case {
        id: "rfc6832::s5::the_aggregates_are_announced_by_bgp",
        title: "A routing daemon beside the PITR finds its aggregates in the kernel and announces them; the Internet's traffic to sites follows.",
        topology: "interworking-bgp",
        roles: &["pitr"],
        requirements: &[ADVERTISE, ENCAP],
        drive,
        judges: &[announced, followed],
        sabotages: &[
            Sabotage {
                name: "announces nothing",
                node: "pxtr",
                links: &["pxtr-internet"],
                kills: &[ADVERTISE],
                tamper: || lose_outgoing(|frame| {
                    frame.ip().is_some_and(|ip| bgp_messages(&ip.bytes).iter().any(|m| m[18] == UPDATE))
                }),
            },
            Sabotage {
                name: "attracts traffic and drops it",
                node: "pxtr",
                links: &["core-pxtr"],
                kills: &[ENCAP],
                tamper: || lose_outgoing(super::is_data),
            },
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    for node in ["pxtr", "internet"] {
        let program = Program::new(["bird", "-f", "-c", "/run/bird.conf", "-s", "/run/bird.ctl"]);
        drive.lab().spawn(node, program.named("bird"))?;
    }
    drive.registered(&["xtr-a"], seconds(10))?;
    for aggregate in AGGREGATES {
        drive.wait_for(0, "the aggregate in a BGP UPDATE", seconds(15), |packet| {
            announces(packet, aggregate)
        })?;
    }
    // What a routing daemon has learned it puts into the kernel a moment later: until the first answer.
    for sequence in 1..=20 {
        if drive.ping(
            "legacy",
            ip(HOST_A),
            sequence,
            std::time::Duration::from_millis(500),
        )? {
            break;
        }
    }
    Ok(())
}

const UPDATE: u8 = 2;

/// The BGP messages that begin in a TCP segment (RFC 4271 4.1).
fn bgp_messages(packet: &[u8]) -> Vec<&[u8]> {
    let Ok(lisp) = lisp::ip::IpPacket::parse(packet) else {
        return Vec::new();
    };
    let tcp = lisp.payload;
    let port = |at: usize| {
        tcp.get(at..at + 2)
            .map(|p| u16::from_be_bytes([p[0], p[1]]))
    };
    let is_bgp = port(0) == Some(BGP) || port(2) == Some(BGP);
    let start = tcp
        .get(12)
        .map_or(usize::MAX, |word| usize::from(word >> 4) * 4);
    let mut rest = tcp.get(start..).filter(|_| is_bgp).unwrap_or_default();
    let mut messages = Vec::new();
    while rest.len() >= 19 && rest[..16] == [0xff; 16] {
        let length = usize::from(u16::from_be_bytes([rest[16], rest[17]]));
        let end = length.clamp(19, rest.len());
        messages.push(&rest[..end]);
        rest = &rest[end..];
    }
    messages
}

fn announces(packet: &Seen, aggregate: &[u8]) -> bool {
    packet.sender() == Some("pxtr")
        && packet.ip().is_some_and(|ip| {
            bgp_messages(&ip.bytes)
                .iter()
                .any(|message| message[18] == UPDATE && contains(&message[19..], aggregate))
        })
}

fn contains(octets: &[u8], part: &[u8]) -> bool {
    octets.windows(part.len()).any(|window| window == part)
}

fn announced(trace: &Trace, findings: &mut Findings) {
    for (aggregate, name) in AGGREGATES.iter().zip(["10.1.0.0/16", "2001:db8:a::/48"]) {
        match trace.iter().find(|packet| announces(packet, aggregate)) {
            Some(update) => findings.met(ADVERTISE, update, format!("BGP UPDATE with {name}")),
            None => findings.broken(
                ADVERTISE,
                Vec::new(),
                format!("a BGP UPDATE from the proxy with {name}"),
                "none",
            ),
        }
    }
}

fn followed(trace: &Trace, findings: &mut Findings) {
    let tunnel = trace.originated("pxtr").find(|packet| {
        packet
            .data()
            .is_some_and(|(_, inner)| inner.destination == ip(HOST_A))
    });
    let Some(tunnel) = tunnel else {
        findings.broken(
            ENCAP,
            Vec::new(),
            "what the announcement attracted, encapsulated to the site",
            "no data packet of the proxy",
        );
        return;
    };
    let sequence = tunnel
        .data()
        .and_then(|(_, inner)| Ping::of(inner))
        .map_or(Vec::new(), |ping| ping.way(trace));
    findings.check(
        ENCAP,
        sequence.iter().any(|p| p.receiver() == Some("host-a")),
        tunnel,
        "out of the Internet by the announced route, and to the site in a tunnel",
        way_text(&sequence),
    );
}
