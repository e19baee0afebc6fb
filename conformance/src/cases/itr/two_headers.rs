//! LISP packets as inner packets: traffic engineering adds a second header, and nobody a third (RFC 6830 3, 4).

use std::net::{IpAddr, Ipv4Addr};

use harness::inline::{PacketFate, Way};
use lisp::DATA_PORT;
use lisp::wire::DataHeader;
use lisp::wire::data::DATA_HEADER_LEN;

use crate::case::Case;
use crate::cases::one_xtr::*;
use crate::catalogue::Req;
use crate::decode::{Ip, Lisp};
use crate::drive::{Drive, Echo, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};
use crate::words;

const RECURSIVE: Req = Req::new("rfc6830-3-recursive-allowed");
const AT_MOST_TWO: Req = Req::new("rfc6830-4-max-two-headers");

const BEGIN: &str = "packets with LISP headers arrive from the site";

/// Hosts behind tunnel routers of whose locators this one makes EIDs.
const INNERMOST: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(172, 16, 0, 9)),
    IpAddr::V4(Ipv4Addr::new(172, 16, 1, 9)),
];
/// Locators of the tunnel routers in between.
const MIDDLE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(172, 17, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(172, 17, 1, 1)),
];
/// Source port of the site's tunnel router.
const INNER_FROM: u16 = 61_021;
/// Echo numbers: with one header, with two, and the fence with one.
const ONE: u16 = 1;
const TWO: u16 = 2;
const FENCE: u16 = 3;
/// Where a sabotage hides the innermost LISP header.
const HIDDEN: u16 = 4340;

inventory::submit! {
    Case {
        id: "rfc6830::s4::no_third_lisp_header_is_added",
        title: "A LISP packet from the site gets another LISP header or none, and is not altered inside; one that has two already gets no third.",
        topology: TOPOLOGY,
        roles: &["itr"],
        features: &["te"],
        requirements: &[RECURSIVE, AT_MOST_TWO],
        drive,
        judges: &[unaltered, two_at_most],
        sabotages: &[
            spoils("alters what is inside", &[RECURSIVE], || crate::cases::common::edit_outgoing(|frame| {
                frame.edit_data(|_, inner| {
                    let hit = inner.get(20 + 2..20 + 4) == Some(&DATA_PORT.to_be_bytes());
                    if hit {
                        // The nonce of the site's own LISP header.
                        inner[20 + 8 + 3] ^= 1;
                    }
                    hit
                });
            })),
            Sabotage {
                name: "adds a third header",
                node: XTR,
                links: &["site", "rloc"],
                kills: &[AT_MOST_TWO],
                tamper: hides_a_header,
            },
        ],
        ..Case::BASE
    }
}

/// What has two headers comes in as if it had one, and leaves as it was.
fn hides_a_header() -> Tamper {
    /// Octets from the first of an IPv4 packet to the UDP destination port of the one in its LISP data packet.
    const PORT: usize = 20 + 8 + DATA_HEADER_LEN + 20 + 2;
    let swap = |inner: &mut Vec<u8>, from: u16, to: u16, at: usize| {
        let hit = inner.get(at..at + 2) == Some(&from.to_be_bytes());
        if hit {
            inner[at..at + 2].copy_from_slice(&to.to_be_bytes());
        }
        hit
    };
    Box::new(move |way, frame| {
        frame.edit_data(|_, inner| match way {
            Way::ToVictim => swap(inner, DATA_PORT, HIDDEN, 20 + 2),
            Way::FromVictim => swap(inner, HIDDEN, DATA_PORT, PORT),
        });
        PacketFate::Forward
    })
}

fn lisp_packet(between: [IpAddr; 2], inner: &[u8]) -> Vec<u8> {
    let header = DataHeader {
        nonce: Some(0x00c0_ffee),
        ..DataHeader::default()
    };
    let [from, to] = between;
    crate::drive::data_packet((from, INNER_FROM), to, &header, inner, 64)
}

fn echo(sequence: u16) -> Vec<u8> {
    let [from, to] = INNERMOST;
    Echo::new(from, to, sequence).reply()
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, vec![mapping(REMOTE_SITE, &[REMOTE])])?;
    let since = drive.mark(BEGIN);
    let site = [HOST, REMOTE_HOST];
    net.site.send(&lisp_packet(site, &echo(ONE)))?;
    wait_out(drive, since, ONE)?;
    net.site
        .send(&lisp_packet(site, &lisp_packet(MIDDLE, &echo(TWO))))?;
    net.site.send(&lisp_packet(site, &echo(FENCE)))?;
    wait_out(drive, since, FENCE)
}

fn wait_out(drive: &Drive<'_>, since: u64, sequence: u16) -> Result<(), Stop> {
    let what = format!("LISP packet {sequence} of the site on its way into the core");
    drive.wait_for(since, &what, SOON, |packet| {
        is_out(packet) && nested(packet).1 == Some(sequence)
    })?;
    Ok(())
}

fn is_out(packet: &Seen) -> bool {
    packet.sender() == Some(XTR) && packet.link() == "rloc"
}

/// LISP headers of a packet, and the number of the echo inside.
fn nested(packet: &Seen) -> (usize, Option<u16>) {
    let mut headers = 0;
    let mut at: Option<Ip> = packet.ip().cloned();
    while let Some(ip) = at {
        match crate::decode::lisp(&ip) {
            Lisp::Data { inner, .. } => {
                headers += 1;
                at = inner.map(|inner| *inner);
            }
            _ => return (headers, ip.icmp().map(|icmp| icmp.echo().1)),
        }
    }
    (headers, None)
}

/// The site's own packet with an echo's number, as it arrived and as it left.
fn ways(trace: &Trace, sequence: u16) -> (Option<&Seen>, Option<&Seen>) {
    let mut all = trace
        .since(BEGIN)
        .filter(|packet| nested(packet).1 == Some(sequence));
    let arrived = all
        .clone()
        .find(|packet| packet.receiver() == Some(XTR) && packet.link() == "site");
    (arrived, all.find(|packet| is_out(packet)))
}

fn unaltered(trace: &Trace, findings: &mut Findings) {
    for sequence in [ONE, FENCE] {
        let (Some(arrived), out) = ways(trace, sequence) else {
            findings.unseen(RECURSIVE, "a LISP packet of the site");
            continue;
        };
        let Some(out) = out else {
            findings.broken(
                RECURSIVE,
                arrived,
                "forwarded, or encapsulated once more",
                "neither",
            );
            continue;
        };
        let (headers, _) = nested(out);
        let kept = match headers {
            1 => out.ip(),
            _ => out.data().map(|(_, inner)| inner),
        };
        let before = arrived.ip().map(Ip::without_ttl);
        let same = before.is_some() && kept.map(Ip::without_ttl) == before;
        findings.check(
            RECURSIVE,
            same && headers <= 2,
            [arrived, out],
            "the same packet but for its TTL, with no or one more LISP header",
            format!(
                "{headers} LISP headers, inside the same: {}",
                words::yes(same)
            ),
        );
    }
}

fn two_at_most(trace: &Trace, findings: &mut Findings) {
    let (Some(arrived), out) = ways(trace, TWO) else {
        return findings.unseen(AT_MOST_TWO, "a packet of the site with two LISP headers");
    };
    let (_, Some(fence)) = ways(trace, FENCE) else {
        return findings.unseen(AT_MOST_TWO, "the packet after it in the core");
    };
    match out.map(|out| (out, nested(out).0)) {
        Some((out, headers)) => findings.check(
            AT_MOST_TWO,
            headers <= 2,
            [arrived, out],
            "two LISP headers at most",
            format!("{headers}"),
        ),
        None => findings.met(
            AT_MOST_TWO,
            [arrived, fence],
            "it is not sent on, and the packet after it is",
        ),
    }
}
