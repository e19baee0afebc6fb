//! TTL, DSCP and ECN between real hosts, through a core that counts and marks (RFC 6830 5.3); every box is a program.

use std::net::IpAddr;

use lisp::ip::IpHeader;

use super::mtu_tables::{FAR, HOST, ITR, TOPOLOGY, at, awaited, from, inner_of, resolved};
use crate::case::Case;
use crate::cases::common::{edit_outgoing, ip, seconds};
use crate::catalogue::Req;
use crate::decode::Ip;
use crate::drive::{Drive, Echo, Stop};
use crate::finding::Findings;
use crate::sabotage::Frame;
use crate::trace::{Seen, Trace};

const TTL_COPY: Req = Req::new("rfc6830-5.3-ttl-copy-encap");
const TOS_COPY: Req = Req::new("rfc6830-5.3-tos-copy-encap");
const ECN_COPY: Req = Req::new("rfc6830-5.3-ecn-encap");
const TTL_MIN: Req = Req::new("rfc6830-5.3-ttl-decap-min");
const TTL_RISES: Req = Req::new("rfc6830-5.3-ttl-decap-no-increase");
const CONGESTION: Req = Req::new("rfc6830-5.3-ecn-decap-ce");

/// TTL, DSCP and ECN of the echo requests to each EID.
const ROWS: [(u8, u8, u8); 8] = [
    (64, 0, 0),
    (255, 46, 1),
    (33, 10, 2),
    (5, 0, 3),
    (128, 63, 0),
    (17, 8, 1),
    (4, 34, 2),
    (200, 0, 3),
];

inventory::submit! {
    Case {
        id: "rfc6830::s5_3::ttl_and_congestion_through_the_tunnel",
        title: "TTL, DSCP and ECN go out and come back as 5.3 says over all mixes, while the core takes one off the outer TTL and marks congestion.",
        topology: TOPOLOGY,
        roles: &["itr", "etr"],
        requirements: &[TTL_COPY, TOS_COPY, ECN_COPY, TTL_MIN, TTL_RISES, CONGESTION],
        timeout: seconds(40),
        drive: table_drive,
        judges: &[table],
        sabotages: &[
            at(ITR, &["core-a"], "outer TTL 64", &[TTL_COPY], || edit_outgoing(|frame| outer(frame, |header| match header {
                IpHeader::V4(header) => header.ttl = 64,
                IpHeader::V6(header) => header.hop_limit = 64,
            }))),
            at(ITR, &["core-a"], "outer DSCP and ECN 0", &[TOS_COPY, ECN_COPY], || edit_outgoing(|frame| outer(frame, |header| match header {
                IpHeader::V4(header) => header.traffic_class = 0,
                IpHeader::V6(header) => header.traffic_class = 0,
            }))),
            at("xtr-4", &["site-4"], "forgets the congestion", &[CONGESTION], || edit_outgoing(|frame| {
                frame.edit_ip(|header, _| match header {
                    IpHeader::V4(header) if header.traffic_class & 3 == 3 => {
                        header.traffic_class &= !1;
                        true
                    }
                    _ => false,
                });
            })),
            at("xtr-6", &["site-6"], "gives the TTL back", &[TTL_RISES, TTL_MIN], || edit_outgoing(|frame| {
                frame.edit_ip(|header, _| match header {
                    IpHeader::V6(header) => {
                        header.hop_limit = 255;
                        true
                    }
                    IpHeader::V4(_) => false,
                });
            })),
        ],
        ..Case::BASE
    }
}

fn outer(frame: &mut Frame<'_>, change: fn(&mut IpHeader)) {
    if inner_of(frame).is_some() {
        frame.edit_ip(|header, _| {
            change(header);
            true
        });
    }
}

fn sequence(row: usize) -> u16 {
    700 + row as u16
}

fn table_drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-a", "xtr-4", "xtr-6"], seconds(10))?;
    let eids: Vec<&str> = FAR.iter().flat_map(|(_, _, eids, _)| *eids).collect();
    resolved(drive, &eids)?;
    let host = drive.peer(HOST)?;
    let begin = drive.mark("table");
    for (_, far, eids, _) in FAR {
        for eid in eids.map(ip) {
            for (row, (ttl, dscp, ecn)) in ROWS.into_iter().enumerate() {
                let echo = Echo {
                    ttl,
                    traffic_class: dscp << 2 | ecn,
                    ..Echo::new(from(eid), eid, sequence(row))
                };
                host.send(&echo.request())?;
                awaited(
                    drive,
                    begin,
                    "the echo request at the other host",
                    |packet| {
                        packet.receiver() == Some(far)
                            && packet.ip().is_some_and(|ip| is_echo(ip, eid, row))
                    },
                )?;
            }
        }
    }
    Ok(())
}

fn is_echo(ip: &Ip, to: IpAddr, row: usize) -> bool {
    ip.destination == to
        && ip
            .icmp()
            .is_some_and(|icmp| icmp.is_echo_request() && icmp.echo().1 == sequence(row))
}

fn table(trace: &Trace, findings: &mut Findings) {
    for (router, far, eids, _) in FAR {
        for eid in eids.map(ip) {
            for (row, sent) in ROWS.into_iter().enumerate() {
                let inside = |packet: &&Seen| {
                    packet
                        .data()
                        .is_some_and(|(_, inner)| is_echo(inner, eid, row))
                };
                let left = trace.originated(ITR).find(inside);
                let arrived = trace.received_by(router).find(inside);
                let came = trace
                    .received_by(far)
                    .find(|packet| packet.ip().is_some_and(|ip| is_echo(ip, eid, row)));
                let what = format!(
                    "TTL {}, DSCP {}, ECN {:02b} to {eid}",
                    sent.0, sent.1, sent.2
                );
                let Some((left, arrived, came)) =
                    left.zip(arrived).zip(came).map(|((a, b), c)| (a, b, c))
                else {
                    for requirement in [TTL_COPY, TTL_MIN] {
                        findings.broken(
                            requirement,
                            Vec::new(),
                            format!("{what}: arrives"),
                            "it did not",
                        );
                    }
                    continue;
                };
                copied(findings, &what, left);
                taken_over(findings, &what, arrived, came);
            }
        }
    }
}

fn copied(findings: &mut Findings, what: &str, left: &Seen) {
    let (Some(outer), Some((_, inner))) = (left.ip(), left.data()) else {
        return;
    };
    for (requirement, name, out, within) in [
        (TTL_COPY, "TTL", outer.ttl, inner.ttl),
        (TOS_COPY, "DSCP", outer.dscp(), inner.dscp()),
        (ECN_COPY, "ECN", outer.ecn(), inner.ecn()),
    ] {
        let expected = format!("{what}: outer {name} {within} as inside");
        findings.check(requirement, out == within, left, expected, out.to_string());
    }
}

fn taken_over(findings: &mut Findings, what: &str, arrived: &Seen, came: &Seen) {
    let (Some(outer), Some((_, inner)), Some(out)) = (arrived.ip(), arrived.data(), came.ip())
    else {
        return;
    };
    // Whether the ETR also counts itself as a hop is not clear from the text (ambiguities C2).
    let low = outer.ttl.min(inner.ttl);
    let seen = format!(
        "outer {}, inner {}, {} came out",
        outer.ttl, inner.ttl, out.ttl
    );
    let expected = format!("{what}: TTL {low}, or one less");
    findings.check(
        TTL_MIN,
        out.ttl == low || out.ttl.checked_add(1) == Some(low),
        [arrived, came],
        expected,
        &seen,
    );
    let expected = format!("{what}: TTL at most {}", inner.ttl);
    findings.check(
        TTL_RISES,
        out.ttl <= inner.ttl,
        [arrived, came],
        expected,
        seen,
    );
    if outer.ecn() == 3 && inner.ecn() != 0 {
        let right = out.ecn() == 3 && out.header_checksum_ok;
        let seen = format!("ECN {:02b}", out.ecn());
        findings.check(
            CONGESTION,
            right,
            [arrived, came],
            format!("{what}: the mark survives"),
            seen,
        );
    }
}
