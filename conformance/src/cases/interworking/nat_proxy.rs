//! LISP-NAT at a proxy: EIDs that the Internet cannot route back become routable where the PETR lets them out
//! (RFC 6832 7.1).

use std::net::IpAddr;

use super::{Ping, is_data, way_text};
use crate::case::Case;
use crate::cases::common::{edit_outgoing, ip, lose_incoming, prefix, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::{Frame, Sabotage};
use crate::trace::{Seen, Trace};

const TO_LEGACY: Req = Req::new("rfc6832-7.1-nat-nonlisp");
const REVERSE: Req = Req::new("rfc6832-7.1-nat-reverse");
const STABLE: Req = Req::new("rfc6832-7.1-nat-stable");

const LEGACY: &str = "203.0.113.10";
const HOST_A: &str = "10.1.0.10";
const ROUTABLE: &str = "198.18.1.0/24";

inventory::submit! {
    Case {
        id: "rfc6832::s7_1::a_proxy_translates_what_it_lets_out",
        title: "A PETR with LISP-NAT gives packets of a site's EIDs a routable source; the answers come back to it, are translated, and reach the site in a tunnel.",
        topology: "interworking",
        settings: &[
            ("xtr-a", "{use-petr: [{address: 192.0.2.14}]}"),
            ("pxtr", "{lisp-nat: [{inside: 10.1.0.0/24, routable: 198.18.1.0/24}]}"),
        ],
        roles: &["petr", "pitr"],
        features: &["petr", "pitr"],
        requirements: &[TO_LEGACY, REVERSE, STABLE],
        drive,
        judges: &[out, back],
        sabotages: &[
            Sabotage {
                name: "translates nothing",
                node: "pxtr",
                links: &["pxtr-internet"],
                kills: &[TO_LEGACY],
                tamper: || edit_outgoing(|frame| source(frame, |_| [10, 1, 0, 10])),
            },
            Sabotage {
                name: "gives every packet another address",
                node: "pxtr",
                links: &["pxtr-internet"],
                kills: &[STABLE],
                tamper: || {
                    let mut next = 100;
                    Box::new(move |way, frame| {
                        if way == harness::inline::Way::FromVictim {
                            source(frame, |[a, b, c, _]| {
                                next += 1;
                                [a, b, c, next]
                            });
                        }
                        harness::inline::PacketFate::Forward
                    })
                },
            },
            Sabotage {
                name: "knows no way back",
                node: "pxtr",
                links: &["pxtr-internet"],
                kills: &[REVERSE],
                tamper: || lose_incoming(|frame| frame.ip().is_some_and(|ip| ip.icmp().is_some())),
            },
        ],
        ..Case::BASE
    }
}

/// Changes the source of a plain echo, whose checksum does not cover it.
fn source(frame: &mut Frame<'_>, change: impl FnOnce([u8; 4]) -> [u8; 4]) {
    if !is_data(frame) && frame.ip().is_some_and(|ip| ip.icmp().is_some()) {
        frame.edit_ip(|header, _| {
            let lisp::ip::IpHeader::V4(v4) = header else {
                return false;
            };
            v4.source = change(v4.source.octets()).into();
            true
        });
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-a"], seconds(10))?;
    for sequence in [1, 2] {
        drive.ping("host-a", ip(LEGACY), sequence, seconds(2))?;
    }
    Ok(())
}

/// Out of the proxy: plain, with a routable source, the same each time.
fn out(trace: &Trace, findings: &mut Findings) {
    let mut seen: Vec<(&Seen, IpAddr)> = Vec::new();
    for sequence in [1, 2] {
        let way = Ping::Request(sequence).way(trace);
        let arrived = way
            .iter()
            .find(|packet| packet.receiver() == Some("pxtr") && packet.is_data());
        let Some(arrived) = arrived else {
            findings.unseen(TO_LEGACY, format!("echo request {sequence} at the PETR"));
            continue;
        };
        let out = way.iter().find(|packet| packet.sender() == Some("pxtr"));
        let address = out.and_then(|packet| packet.source());
        findings.check(
            TO_LEGACY,
            address.is_some_and(|address| prefix(ROUTABLE).contains(0, address)),
            out.map_or(vec![*arrived], |out| vec![*arrived, *out])
                .as_slice(),
            format!("out of the proxy with a source of {ROUTABLE}"),
            way_text(&way),
        );
        if let (Some(out), Some(address)) = (out, address) {
            seen.push((*out, address));
        }
    }
    match seen.as_slice() {
        [(one, a), (two, b)] => findings.check(
            STABLE,
            a == b,
            [*one, *two],
            "the same address for the same host",
            format!("{a}, then {b}"),
        ),
        _ => findings.unseen(STABLE, "two packets out of the proxy"),
    }
}

/// Back to the proxy at the routable address, and from there in a tunnel to the EID.
fn back(trace: &Trace, findings: &mut Findings) {
    for sequence in [1, 2] {
        let way = Ping::Reply(sequence).way(trace);
        let Some(first) = way.first() else {
            findings.unseen(REVERSE, format!("echo reply {sequence}"));
            continue;
        };
        let tunnel = way
            .iter()
            .find(|packet| packet.sender() == Some("pxtr") && packet.is_data());
        let to_host = tunnel
            .and_then(|packet| packet.data())
            .is_some_and(|(_, inner)| inner.destination == ip(HOST_A));
        let arrived = way.iter().any(|p| p.receiver() == Some("host-a"));
        findings.check(
            REVERSE,
            to_host && arrived,
            *tunnel.unwrap_or(first),
            format!("in a tunnel to {HOST_A}, and delivered"),
            way_text(&way),
        );
    }
}
