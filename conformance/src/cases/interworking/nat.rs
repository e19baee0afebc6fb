//! LISP-NAT: addresses that the Internet cannot route back (RFC 6832 7).

use std::net::IpAddr;

use super::{Ping, edit_inner_source, way_text};
use crate::case::Case;
use crate::cases::common::{edit_outgoing, ip, lose_incoming, prefix, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};
use crate::words;

const TO_LEGACY: Req = Req::new("rfc6832-7.1-nat-nonlisp");
const REVERSE: Req = Req::new("rfc6832-7.1-nat-reverse");
const STABLE: Req = Req::new("rfc6832-7.1-nat-stable");
const PRIVATE: Req = Req::new("rfc6832-7.2-nat-1918-pool");
const PRIVATE_TO_SITE: Req = Req::new("rfc6832-7.3-nat-1918-lisp");
const ORDER: Req = Req::new("rfc6832-7.3-nat-order");
const NOT_ROUTABLE_ONES: Req = Req::new("rfc6832-7.1-nat-not-for-r");

const LEGACY: &str = "203.0.113.10";
const HOST_B: &str = "10.2.0.10";
const HOST_A: &str = "10.1.0.10";
const ROUTABLE_EIDS: &str = "198.18.1.0/24";
const ROUTABLE_PRIVATE: &str = "198.18.2.0/24";
/// A host whose EID is routable as it is.
const HOST_R: &str = "198.18.3.10";
const SITE: &str = "192.0.2.2";

inventory::submit! {
    Case {
        id: "rfc6832::s7::addresses_are_translated_where_the_internet_could_not_route_back",
        title: "Toward hosts without LISP, unroutable EIDs and private addresses become routable ones, one for one; inside tunnels EIDs stay.",
        topology: "lisp-nat",
        roles: &["itr", "etr"],
        requirements: &[TO_LEGACY, REVERSE, STABLE, PRIVATE, PRIVATE_TO_SITE, ORDER, NOT_ROUTABLE_ONES],
        drive,
        judges: &[natively, into_tunnels, routable_as_they_are],
        sabotages: &[
            Sabotage {
                name: "translates nothing",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[TO_LEGACY],
                tamper: || edit_outgoing(|frame| source(frame, |_| Some([10, 1, 0, 10]))),
            },
            Sabotage {
                name: "translates routable EIDs too",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[NOT_ROUTABLE_ONES],
                tamper: || edit_outgoing(|frame| source(frame, |octets| {
                    (octets == [198, 18, 3, 10]).then_some([198, 18, 1, 99])
                })),
            },
            Sabotage {
                name: "gives every packet another address",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[STABLE],
                tamper: || {
                    let mut next = 100;
                    Box::new(move |way, frame| {
                        if way == harness::inline::Way::FromVictim {
                            source(frame, |[a, b, c, _]| {
                                next += 1;
                                Some([a, b, c, next])
                            });
                        }
                        harness::inline::PacketFate::Forward
                    })
                },
            },
            Sabotage {
                name: "knows no way back",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[REVERSE],
                tamper: || lose_incoming(|frame| frame.ip().is_some_and(|ip| ip.icmp().is_some())),
            },
            Sabotage {
                name: "encapsulates private addresses as they are",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[PRIVATE_TO_SITE, ORDER],
                tamper: || edit_outgoing(|frame| {
                    edit_inner_source(frame, [192, 168, 1, 2]);
                }),
            },
        ],
        ..Case::BASE
    }
}

/// Changes the source of a plain IPv4 packet with an ICMP message (whose checksum does not cover it).
fn source(frame: &mut crate::sabotage::Frame<'_>, change: impl FnOnce([u8; 4]) -> Option<[u8; 4]>) {
    if frame.ip().is_some_and(|ip| ip.icmp().is_some()) {
        frame.edit_ip(|header, _| {
            let lisp::ip::IpHeader::V4(v4) = header else {
                return false;
            };
            match change(v4.source.octets()) {
                Some(octets) => {
                    v4.source = octets.into();
                    true
                }
                None => false,
            }
        });
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-a", "xtr-b"], seconds(10))?;
    for (node, first) in [("host-a", 1), ("host-p", 11), ("host-r", 21)] {
        for sequence in [first, first + 1] {
            drive.ping(node, ip(LEGACY), sequence, seconds(2))?;
            drive.ping(node, ip(HOST_B), sequence + 4, seconds(2))?;
        }
    }
    Ok(())
}

/// To the legacy host: out of xtr-a as plain packets with a routable source, the same each time, and answered.
fn natively(trace: &Trace, findings: &mut Findings) {
    for (first, requirement, pool) in [
        (1, TO_LEGACY, ROUTABLE_EIDS),
        (11, PRIVATE, ROUTABLE_PRIVATE),
    ] {
        let mut seen: Vec<(&Seen, IpAddr)> = Vec::new();
        for sequence in [first, first + 1] {
            let way = Ping::Request(sequence).way(trace);
            let out = way
                .iter()
                .find(|p| p.sender() == Some("xtr-a") && p.link() == "core-a");
            let Some((out, source)) = out.and_then(|p| Some((*p, p.source()?))) else {
                findings.unseen(requirement, format!("echo request {sequence} out of xtr-a"));
                continue;
            };
            findings.check(
                requirement,
                !out.is_data() && prefix(pool).contains(0, source),
                out,
                format!("unencapsulated, with a source of {pool}"),
                out.summary(),
            );
            seen.push((out, source));
            let back = Ping::Reply(sequence).way(trace);
            findings.check(
                REVERSE,
                back.last()
                    .is_some_and(|p| p.link() != "core-a" && p.sender() == Some("xtr-a")),
                back.first().copied().unwrap_or(out),
                "the answer to the routable address, delivered to the host inside",
                way_text(&back),
            );
        }
        if let [(one, a), (two, b)] = seen.as_slice() {
            findings.check(
                STABLE,
                a == b,
                [*one, *two],
                "the same address for the same host",
                format!("{a}, then {b}"),
            );
        }
    }
}

/// To the other site: in a tunnel, EIDs as they are, private addresses translated first.
fn into_tunnels(trace: &Trace, findings: &mut Findings) {
    for (first, requirement, expected) in [
        (5, ORDER, format!("{HOST_A}/32")),
        (15, PRIVATE_TO_SITE, ROUTABLE_PRIVATE.to_owned()),
    ] {
        for sequence in [first, first + 1] {
            let way = Ping::Request(sequence).way(trace);
            let tunnel = way
                .iter()
                .find(|p| p.sender() == Some("xtr-a") && p.is_data());
            let Some((tunnel, (_, inner))) = tunnel.and_then(|p| Some((*p, p.data()?))) else {
                findings.broken(
                    requirement,
                    &way,
                    format!("echo request {sequence} in a tunnel to the other site"),
                    way_text(&way),
                );
                continue;
            };
            let answered = Ping::Reply(sequence)
                .way(trace)
                .last()
                .is_some_and(|p| p.sender() == Some("xtr-a"));
            findings.check(
                requirement,
                prefix(&expected).contains(0, inner.source)
                    && tunnel.source() == Some(ip(SITE))
                    && answered,
                tunnel,
                format!("inner source of {expected}, outer source {SITE}, and an answer inside"),
                format!("{}; answered: {}", tunnel.summary(), words::yes(answered)),
            );
        }
    }
}

/// Routable EIDs (LISP-R) leave as they are, in tunnels and outside of them.
fn routable_as_they_are(trace: &Trace, findings: &mut Findings) {
    for sequence in [21, 22, 25, 26] {
        let way = Ping::Request(sequence).way(trace);
        let out = way
            .iter()
            .find(|p| p.sender() == Some("xtr-a") && p.link() == "core-a");
        let Some(out) = out else {
            findings.unseen(
                NOT_ROUTABLE_ONES,
                format!("echo request {sequence} out of xtr-a"),
            );
            continue;
        };
        let inner = out.data().map(|(_, inner)| inner).or(out.ip());
        let source = inner.map(|ip| ip.source);
        let answered = Ping::Reply(sequence)
            .way(trace)
            .last()
            .is_some_and(|p| p.receiver() == Some("host-r"));
        findings.check(
            NOT_ROUTABLE_ONES,
            source == Some(ip(HOST_R)) && answered,
            *out,
            format!("source {HOST_R} as it was, and an answer"),
            format!("{}; answered: {}", out.summary(), words::yes(answered)),
        );
    }
}
