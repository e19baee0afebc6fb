//! From the Internet into a site, and back without a detour (RFC 6832 5.2).

use lisp::wire::ControlMessage;
use lisp::{Address, EidPrefix};

use super::{Ping, edit_inner_source, way_text};
use crate::case::Case;
use crate::cases::common::{edit_outgoing, ip, lose_outgoing, outgoing, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;

const ENCAP: Req = Req::new("rfc6832-5.2-pitr-encap");
const ANY_SOURCE: Req = Req::new("rfc6832-5.2-pitr-no-src-check");
const LOOKUP: Req = Req::new("rfc6832-5.2-pitr-lookup");
const PITR_BIT: Req = Req::new("rfc6830-6.1.2-pitr-bit");
const RETURN_NATIVE: Req = Req::new("rfc6832-5.2-return-native");
const ON_NEGATIVE: Req = Req::new("rfc6832-3-native-on-negative");

const LEGACY: &str = "203.0.113.10";
const HOST_A: &str = "10.1.0.10";

inventory::submit! {
    Case {
        id: "rfc6832::s5_2::a_legacy_host_reaches_a_site_and_the_answer_takes_the_direct_path",
        title: "The proxy encapsulates for a host without LISP after asking with the PITR bit; the answer leaves the site natively.",
        topology: "interworking",
        roles: &["pitr", "itr"],
        requirements: &[ENCAP, ANY_SOURCE, LOOKUP, PITR_BIT, RETURN_NATIVE, ON_NEGATIVE],
        drive,
        judges: &[asks, encapsulates, answers],
        sabotages: &[
            Sabotage {
                name: "asks without the PITR bit",
                node: "pxtr",
                links: &["core-pxtr"],
                kills: &[PITR_BIT],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapRequest(request) => {
                        request.pitr = false;
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "names an EID of the site as its own",
                node: "pxtr",
                links: &["core-pxtr"],
                kills: &[LOOKUP],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapRequest(request) => {
                        request.source_eid = Address::from_eid(0, ip("10.1.0.99"));
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "puts its own address into the inner packet",
                node: "pxtr",
                links: &["core-pxtr"],
                kills: &[ENCAP],
                tamper: || edit_outgoing(|frame| {
                    edit_inner_source(frame, [192, 0, 2, 14]);
                }),
            },
            Sabotage {
                name: "drops packets of sources that are no EIDs",
                node: "pxtr",
                links: &["core-pxtr"],
                kills: &[ANY_SOURCE],
                tamper: || lose_outgoing(|frame| frame.ip().is_some_and(|ip| {
                    ip.udp().is_some_and(|udp| udp.destination_port == 4341)
                })),
            },
            Sabotage {
                name: "drops the natively forwarded answer",
                node: "xtr-a",
                links: &["access"],
                kills: &[RETURN_NATIVE, ON_NEGATIVE],
                tamper: || lose_outgoing(|frame| frame.ip().is_some_and(|ip| ip.icmp().is_some())),
            },
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-a"], seconds(10))?;
    drive.mark("the first ping");
    drive.ping("legacy", ip(HOST_A), 1, seconds(2))?;
    drive.mark("the second ping");
    drive.ping("legacy", ip(HOST_A), 2, seconds(2))?;
    Ok(())
}

fn asks(trace: &Trace, findings: &mut Findings) {
    let asked = EidPrefix::host(0, ip(HOST_A));
    let request = trace.originated("pxtr").find(|packet| {
        packet.map_request().is_some_and(|request| {
            !request.probe && request.records.iter().any(|q| q.prefix() == Some(asked))
        })
    });
    let Some(packet) = request else {
        for requirement in [LOOKUP, PITR_BIT] {
            findings.broken(
                requirement,
                Vec::new(),
                format!("a Map-Request of the PITR for {asked}"),
                "none",
            );
        }
        return;
    };
    let Some(request) = packet.map_request() else {
        return;
    };
    findings.check(PITR_BIT, request.pitr, packet, "p = 1", "p = 0");
    let source = request.source_eid.ip();
    let foreign = source.is_none_or(|source| !trace.is_eid(source));
    findings.check(
        LOOKUP,
        packet.ecm().is_some() && foreign,
        packet,
        "an Encapsulated Map-Request whose source EID is absent (AFI 0), or no EID of a site",
        format!("{}, source EID {}", packet.summary(), request.source_eid),
    );
}

fn encapsulates(trace: &Trace, findings: &mut Findings) {
    for sequence in [1, 2] {
        let ping = Ping::Request(sequence);
        let at_proxy = trace
            .received_by("pxtr")
            .find(|packet| ping.is_plain(packet));
        let Some(at_proxy) = at_proxy else {
            findings.unseen(ENCAP, format!("echo request {sequence} at the proxy"));
            findings.unseen(ANY_SOURCE, format!("echo request {sequence} at the proxy"));
            continue;
        };
        let tunnel = trace
            .originated("pxtr")
            .find(|packet| ping.is_tunnelled(packet));
        let Some((tunnel, (_, inner))) = tunnel.and_then(|t| Some((t, t.data()?))) else {
            for requirement in [ENCAP, ANY_SOURCE] {
                findings.broken(
                    requirement,
                    at_proxy,
                    "encapsulated to the site, although its source is no EID",
                    "no data packet of the proxy carries it",
                );
            }
            continue;
        };
        findings.met(ANY_SOURCE, [at_proxy, tunnel], tunnel.summary());
        let to_site = tunnel
            .destination()
            .is_some_and(|to| trace.has_address("xtr-a", to));
        findings.check(
            ENCAP,
            to_site && inner.source == ip(LEGACY) && inner.destination == ip(HOST_A),
            [at_proxy, tunnel],
            format!("to a locator of xtr-a, inside {LEGACY} > {HOST_A} unchanged"),
            format!(
                "{}, inside {} > {}",
                tunnel.summary(),
                inner.source,
                inner.destination
            ),
        );
    }
}

fn answers(trace: &Trace, findings: &mut Findings) {
    let mut told = false;
    for sequence in [1, 2] {
        let way = Ping::Reply(sequence).way(trace);
        let Some(sent) = way.iter().find(|packet| packet.sender() == Some("host-a")) else {
            continue;
        };
        told = true;
        let native = way.iter().find(|packet| {
            packet.sender() == Some("xtr-a") && Ping::Reply(sequence).is_plain(packet)
        });
        let direct = native.is_some() && !way.iter().any(|p| p.sender() == Some("pxtr"));
        for requirement in [RETURN_NATIVE, ON_NEGATIVE] {
            findings.check(
                requirement,
                direct,
                native.copied().unwrap_or(sent),
                "the echo reply out of xtr-a as it is, past the proxy",
                way_text(&way),
            );
        }
    }
    if !told {
        findings.unseen(RETURN_NATIVE, "an echo reply of host-a");
        findings.unseen(ON_NEGATIVE, "an echo reply of host-a");
    }
}
