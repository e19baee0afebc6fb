//! What an ETR takes over from the outer header, and which bits of the LISP header it passes over (RFC 6830 5.3,
//! RFC 9300 5.3, RFC 6040).

use std::net::IpAddr;

use harness::inline::{PacketFate, Way};
use lisp::wire::DataHeader;

use super::common::*;
use super::packets::{
    Outer, delivered, echo_with, fence, fenced, inner_of, tunnelled, wait_delivered,
};
use crate::case::Case;
use crate::catalogue::Req;
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};

const MINIMUM: Req = Req::new("rfc6830-5.3-ttl-decap-min");
const MINIMUM_9300: Req = Req::new("rfc9300-5.3-ttl-must");
const NEVER_MORE: Req = Req::new("rfc6830-5.3-ttl-decap-no-increase");
const DSCP: Req = Req::new("rfc6830-5.3-tos-decap");

/// Sequence number, locator, host, outer and inner TTL.
const TTLS: [(u16, IpAddr, IpAddr, u8, u8); 6] = [
    (401, RLOC, HOST, 61, 63),
    (402, RLOC, HOST, 255, 10),
    (403, RLOC6, HOST6, 41, 200),
    (404, RLOC6, HOST6, 255, 33),
    (405, RLOC, HOST6, 30, 64),
    (406, RLOC6, HOST, 255, 2),
];
/// Sequence number, locator, host, outer and inner DSCP.
const DSCPS: [(u16, IpAddr, IpAddr, u8, u8); 2] =
    [(411, RLOC, HOST, 10, 46), (412, RLOC6, HOST6, 26, 0)];

inventory::submit! {
    Case {
        id: "rfc6830::s5_3::ttl_and_dscp_come_from_the_outer_header",
        title: "The inner TTL takes the outer value where that is smaller and never rises; the DSCP is the outer one; the IPv4 checksum is right.",
        topology: TOPOLOGY,
        start: false,
        roles: &["etr"],
        requirements: &[MINIMUM, MINIMUM_9300, NEVER_MORE, DSCP],
        drive: |drive| {
            let net = Net::registered(drive)?;
            for (sequence, outer, host, outer_ttl, inner_ttl) in TTLS {
                let outer = Outer { ttl: outer_ttl, ..Outer::to(outer) };
                net.itr.send(&tunnelled(outer, &DataHeader::default(), &echo_with(host, sequence, inner_ttl, 0)))?;
                wait_delivered(drive, sequence)?;
            }
            for (sequence, outer, host, outer_dscp, inner_dscp) in DSCPS {
                let outer = Outer { traffic_class: outer_dscp << 2, ..Outer::to(outer) };
                net.itr.send(&tunnelled(outer, &DataHeader::default(), &echo_with(host, sequence, 64, inner_dscp << 2)))?;
                wait_delivered(drive, sequence)?;
            }
            Ok(())
        },
        judges: &[taken_over],
        sabotages: &[
            spoils("copies the outer TTL always", &[NEVER_MORE], || on_host(402, |ip| ip[8] = 254)),
            spoils("keeps the inner TTL", &[MINIMUM], || on_host(401, |ip| ip[8] = 63)),
            spoils("keeps the inner hop limit", &[MINIMUM], || on_host(403, |ip| ip[7] = 200)),
            spoils("keeps the inner DSCP", &[DSCP], || on_host(411, |ip| ip[1] = 46 << 2)),
        ],
        ..Case::BASE
    }
}

pub(super) const fn spoils(
    name: &'static str,
    kills: &'static [Req],
    tamper: fn() -> Tamper,
) -> Sabotage {
    Sabotage {
        name,
        node: ETR,
        links: &["site"],
        kills,
        tamper,
    }
}

const ETHERNET: usize = 14;

/// Changes the decapsulated packet with a sequence number; its IPv4 header checksum follows.
pub(super) fn on_host(number: u16, change: fn(&mut [u8])) -> Tamper {
    Box::new(move |way, frame| {
        let hit = frame
            .ip()
            .is_some_and(|ip| ip.icmp().is_some_and(|icmp| icmp.echo().1 == number));
        if way == Way::FromVictim && hit {
            let ip = &mut frame.octets()[ETHERNET..];
            change(ip);
            if ip[0] >> 4 == 4 {
                ip[10..12].fill(0);
                let sum = lisp::ip::checksum(&ip[..20]);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
            }
        }
        PacketFate::Forward
    })
}

/// The IP headers of a data packet at the ETR, outer and inner, and of what came out at the host.
struct Journey<'a> {
    packets: [&'a Seen; 2],
    outer: &'a crate::decode::Ip,
    inner: &'a crate::decode::Ip,
    out: &'a crate::decode::Ip,
}

fn journey<'a>(trace: &'a Trace, sequence: u16) -> Option<Journey<'a>> {
    let sent = inner_of(trace, sequence)?;
    let came = delivered(trace, sequence)?;
    Some(Journey {
        packets: [sent, came],
        outer: sent.ip()?,
        inner: sent.data()?.1,
        out: came.ip()?,
    })
}

fn taken_over(trace: &Trace, findings: &mut Findings) {
    for (sequence, ..) in TTLS {
        let Some(seen) = journey(trace, sequence) else {
            findings.broken(
                NEVER_MORE,
                inner_of(trace, sequence),
                "the inner packet at the host",
                "it did not come out",
            );
            continue;
        };
        let (outer, inner, out) = (seen.outer.ttl, seen.inner.ttl, seen.out.ttl);
        let said = format!("outer {outer}, inner {inner}, delivered {out}");
        findings.check(
            NEVER_MORE,
            out <= inner,
            seen.packets,
            format!("at most {inner}"),
            said.clone(),
        );
        if outer < inner {
            // Whether the ETR itself counts as a hop is open (ambiguities C2).
            let right = out == outer || out == outer - 1;
            for requirement in [MINIMUM, MINIMUM_9300] {
                findings.check(
                    requirement,
                    right,
                    seen.packets,
                    format!("{outer} or one less"),
                    said.clone(),
                );
            }
        }
        if !seen.out.header_checksum_ok {
            findings.broken(
                NEVER_MORE,
                seen.packets,
                "a right IPv4 header checksum",
                "a wrong one",
            );
        }
    }
    for (sequence, ..) in DSCPS {
        let Some(seen) = journey(trace, sequence) else {
            findings.broken(
                DSCP,
                inner_of(trace, sequence),
                "the inner packet at the host",
                "it did not come out",
            );
            continue;
        };
        findings.check(
            DSCP,
            seen.out.dscp() == seen.outer.dscp(),
            seen.packets,
            format!("DSCP {}", seen.outer.dscp()),
            format!("DSCP {}", seen.out.dscp()),
        );
    }
}

const CE: Req = Req::new("rfc6830-5.3-ecn-decap-ce");
const NOT_CE: Req = Req::new("rfc6830-5.3-ecn-decap-nonce");
const RFC_6040: Req = Req::new("rfc9300-5.3-ecn-6040");

/// All combinations of outer and inner ECN, over both families.
fn ecn_table() -> impl Iterator<Item = (u16, IpAddr, IpAddr, u8, u8)> {
    [(500, RLOC, HOST), (520, RLOC6, HOST6)]
        .into_iter()
        .flat_map(|(first, outer, host)| {
            (0..16).map(move |at: u8| (first + u16::from(at), outer, host, at >> 2, at & 3))
        })
}

const AFTER_ECN: u16 = 540;
const AFTER_ECN_6: u16 = 541;

/// What the inner ECN field becomes; `None` where the packet is dropped.
fn expected_ecn(edition: Edition, outer: u8, inner: u8) -> Option<u8> {
    match (edition, outer, inner) {
        (Edition::Rfc6830, 3, _) => Some(3),
        (Edition::Rfc6830, _, inner) => Some(inner),
        // RFC 6040, figure 4.
        (Edition::Rfc9300, 3, 0) => None,
        (Edition::Rfc9300, _, 0) => Some(0),
        (Edition::Rfc9300, 3, _) | (Edition::Rfc9300, _, 3) => Some(3),
        (Edition::Rfc9300, 1, 2) => Some(1),
        (Edition::Rfc9300, _, inner) => Some(inner),
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s5_3::congestion_marks_survive_decapsulation",
        title: "All sixteen combinations of outer and inner ECN over both families come out as the edition says, with a right IPv4 checksum.",
        topology: TOPOLOGY,
        start: false,
        roles: &["etr"],
        requirements: &[CE, NOT_CE, RFC_6040],
        drive: |drive| {
            let net = Net::registered(drive)?;
            for (sequence, outer, host, outer_ecn, inner_ecn) in ecn_table() {
                let outer = Outer { traffic_class: outer_ecn, ..Outer::to(outer) };
                net.itr.send(&tunnelled(outer, &DataHeader::default(), &echo_with(host, sequence, 64, inner_ecn)))?;
            }
            for (sequence, outer, host) in [(AFTER_ECN, RLOC, HOST), (AFTER_ECN_6, RLOC6, HOST6)] {
                fence(drive, &net, (outer, host), &DataHeader::default(), sequence)?;
            }
            Ok(())
        },
        judges: &[marks],
        sabotages: &[
            spoils("loses the mark over ECT(0)", &[CE], || on_host(514, |ip| ip[1] &= !1)),
            spoils("clears ECT(1) under an outer without ECN", &[NOT_CE], || on_host(501, |ip| ip[1] &= !3)),
        ],
        ..Case::BASE
    }
}

fn marks(trace: &Trace, findings: &mut Findings) {
    let fenced = fenced(trace, AFTER_ECN).is_some() && fenced(trace, AFTER_ECN_6).is_some();
    for (sequence, _, _, outer, inner) in ecn_table() {
        let requirements: &[Req] = match (trace.edition, outer) {
            (Edition::Rfc9300, _) => &[RFC_6040, CE, NOT_CE],
            (Edition::Rfc6830, 3) => &[CE],
            (Edition::Rfc6830, _) => &[NOT_CE],
        };
        let expected = expected_ecn(trace.edition, outer, inner);
        let sent = inner_of(trace, sequence);
        let out = delivered(trace, sequence);
        let found = out.and_then(Seen::ip);
        let said = match found {
            Some(ip) if !ip.header_checksum_ok => "a wrong IPv4 header checksum".to_owned(),
            Some(ip) => format!("{:02b} came out", ip.ecn()),
            None => "nothing came out".to_owned(),
        };
        let right = match (found, expected) {
            (Some(ip), Some(expected)) => ip.ecn() == expected && ip.header_checksum_ok,
            (None, None) => fenced,
            _ => false,
        };
        let expected = expected.map_or_else(|| "dropped".to_owned(), |ecn| format!("{ecn:02b}"));
        let evidence: Vec<&Seen> = sent.into_iter().chain(out).collect();
        for requirement in requirements {
            match sent {
                Some(_) => findings.check(
                    *requirement,
                    right,
                    &evidence,
                    format!("outer {outer:02b} over inner {inner:02b}: {expected}"),
                    format!("outer {outer:02b} over inner {inner:02b}: {said}"),
                ),
                None => findings.unseen(
                    *requirement,
                    format!("outer {outer:02b} over inner {inner:02b}"),
                ),
            }
        }
    }
}
