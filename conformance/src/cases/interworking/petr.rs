//! Out of a site to the Internet through a PETR (RFC 6832 6).

use lisp::wire::DataHeader;

use super::{Ping, edit_inner_source, inner, is_data, untunnel, way_text};
use crate::case::Case;
use crate::cases::common::{edit_outgoing, ip, lose_incoming, lose_outgoing, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Stop};
use crate::finding::Findings;
use crate::sabotage::{Frame, Sabotage};
use crate::trace::{Seen, Trace};

const USES_PETR: Req = Req::new("rfc6832-6.1-itr-use-petr");
const OUTER_SOURCE: Req = Req::new("rfc6832-6.1-itr-petr-src");
const DECAP: Req = Req::new("rfc6832-6-petr-decap");
const MIXED: Req = Req::new("rfc6832-6-petr-mixed-af");
const ASYMMETRIC: Req = Req::new("rfc6832-6.1-petr-asymmetric");
const SOURCES: Req = Req::new("rfc6832-6.1-petr-src-check");
const MISSES: Req = Req::new("rfc6832-6.1-itr-petr-miss");

const LEGACY: &str = "203.0.113.10";
const LEGACY6: &str = "2001:db8:f::10";
const HOST_A: &str = "10.1.0.10";
const SITE: &str = "192.0.2.2";
const PROXY: &str = "192.0.2.14";
const USE_PETR: (&str, &str) = ("xtr-a", "{use-petr: [{address: 192.0.2.14}]}");

fn is_echo(frame: &Frame<'_>) -> bool {
    frame.ip().is_some_and(|ip| ip.icmp().is_some())
}

const OTHER_SOURCE: Sabotage = Sabotage {
    name: "uses another address as outer source",
    node: "xtr-a",
    links: &["access"],
    kills: &[OUTER_SOURCE],
    tamper: || {
        edit_outgoing(|frame| {
            if is_data(frame) {
                frame.edit_addresses(|header| {
                    if let lisp::ip::IpHeader::V4(v4) = header {
                        v4.source = std::net::Ipv4Addr::new(192, 0, 2, 3);
                    }
                    true
                });
            }
        })
    },
};

inventory::submit! {
    Case {
        id: "rfc6832::s6_1::what_is_no_eid_goes_through_the_petr",
        title: "With a PETR, packets to a natively-forward destination go to it encapsulated, and it delivers them as they were.",
        topology: "interworking",
        settings: &[USE_PETR],
        roles: &["itr", "petr"],
        requirements: &[USES_PETR, OUTER_SOURCE, DECAP],
        drive: |drive| outward(drive, LEGACY),
        judges: &[through_petr, outer_source],
        sabotages: &[
            Sabotage {
                name: "forgets the PETR",
                node: "xtr-a",
                links: &["access"],
                kills: &[USES_PETR],
                tamper: || edit_outgoing(untunnel),
            },
            OTHER_SOURCE,
            Sabotage {
                name: "decapsulates for its own EIDs only",
                node: "pxtr",
                links: &["pxtr-internet"],
                kills: &[DECAP],
                tamper: || lose_outgoing(is_echo),
            },
        ],
        ..Case::BASE
    }
}

fn outward(drive: &mut Drive<'_>, to: &str) -> Result<(), Stop> {
    drive.registered(&["xtr-a"], seconds(10))?;
    drive.mark("the first ping");
    drive.ping("host-a", ip(to), 1, seconds(2))?;
    drive.mark("the second ping");
    drive.ping("host-a", ip(to), 2, seconds(2))?;
    Ok(())
}

/// Both echo requests of host-a: in a tunnel to the PETR, and out of it as they were.
fn through_petr(trace: &Trace, findings: &mut Findings) {
    for sequence in [1, 2] {
        let way = Ping::Request(sequence).way(trace);
        let Some(sent) = way.first().filter(|p| p.sender() == Some("host-a")) else {
            findings.unseen(USES_PETR, format!("echo request {sequence} of host-a"));
            continue;
        };
        let tunnel = way
            .iter()
            .find(|packet| packet.sender() == Some("xtr-a") && packet.is_data());
        let to_petr = tunnel.is_some_and(|packet| packet.destination() == Some(ip(PROXY)));
        findings.check(
            USES_PETR,
            to_petr,
            tunnel.copied().unwrap_or(sent),
            format!("encapsulated to the PETR {PROXY}"),
            way_text(&way),
        );
        decapsulates(sequence, &way, findings, DECAP);
    }
}

/// What comes out of the PETR is what went into the tunnel: addresses, payload, and a TTL that shows the way.
fn decapsulates(sequence: u16, way: &[&Seen], findings: &mut Findings, requirement: Req) {
    let arrived = way
        .iter()
        .find(|packet| packet.receiver() == Some("pxtr") && packet.is_data());
    let Some((arrived, (_, inside))) = arrived.and_then(|p| Some((p, p.data()?))) else {
        findings.unseen(requirement, format!("echo {sequence} at the PETR"));
        return;
    };
    let out = way
        .iter()
        .find(|packet| packet.sender() == Some("pxtr") && !packet.is_data());
    let Some((out, plain)) = out.and_then(|packet| Some((packet, packet.ip()?))) else {
        findings.broken(
            requirement,
            *arrived,
            "forwarded natively after decapsulation",
            way_text(way),
        );
        return;
    };
    let outer = arrived.ip().map_or(0, |ip| ip.ttl);
    let ttl = inside.ttl.min(outer).saturating_sub(1);
    let same = plain.source == inside.source
        && plain.destination == inside.destination
        && plain.transport == inside.transport;
    findings.check(
        requirement,
        same && plain.ttl == ttl,
        [*arrived, *out],
        format!(
            "{} > {} as inside the tunnel, TTL {ttl}",
            inside.source, inside.destination
        ),
        format!(
            "{} > {}, TTL {}",
            plain.source, plain.destination, plain.ttl
        ),
    );
}

fn outer_source(trace: &Trace, findings: &mut Findings) {
    let data: Vec<&Seen> = trace
        .sent_by("xtr-a")
        .filter(|packet| packet.is_data())
        .collect();
    if data.is_empty() {
        findings.unseen(OUTER_SOURCE, "a data packet of xtr-a");
    }
    for packet in data {
        findings.check(
            OUTER_SOURCE,
            packet.source() == Some(ip(SITE)),
            packet,
            format!("outer source {SITE}, the ITR's locator"),
            packet.summary(),
        );
    }
}

inventory::submit! {
    Case {
        id: "rfc6832::s6_1::with_a_petr_the_answer_to_a_legacy_host_returns_through_it",
        title: "A legacy host reaches the site through the PITR; with `use-petr` the answer returns through the PETR, not by the direct path.",
        topology: "interworking",
        settings: &[USE_PETR],
        roles: &["itr", "petr"],
        requirements: &[USES_PETR, DECAP],
        drive: |drive| {
            drive.registered(&["xtr-a"], seconds(10))?;
            for sequence in [1, 2] {
                drive.mark(&format!("ping {sequence} of the legacy host"));
                drive.ping("legacy", ip(HOST_A), sequence, seconds(2))?;
            }
            Ok(())
        },
        judges: &[answers_through_petr],
        sabotages: &[
            Sabotage {
                name: "answers natively",
                node: "xtr-a",
                links: &["access"],
                kills: &[USES_PETR],
                tamper: || edit_outgoing(untunnel),
            },
            Sabotage {
                name: "decapsulates for its own EIDs only",
                node: "pxtr",
                links: &["pxtr-internet"],
                kills: &[DECAP],
                tamper: || lose_outgoing(is_echo),
            },
        ],
        ..Case::BASE
    }
}

fn answers_through_petr(trace: &Trace, findings: &mut Findings) {
    let mut answered = false;
    for sequence in [1, 2] {
        let asked = Ping::Request(sequence).way(trace);
        let way = Ping::Reply(sequence).way(trace);
        let by_pitr = asked
            .iter()
            .find(|p| p.sender() == Some("pxtr") && p.is_data());
        let sent = way.first().filter(|p| p.sender() == Some("host-a"));
        let (Some(by_pitr), Some(sent)) = (by_pitr, sent) else {
            continue;
        };
        answered = true;
        let tunnel = way.iter().find(|p| p.sender() == Some("xtr-a"));
        let to_petr = tunnel.is_some_and(|p| p.is_data() && p.destination() == Some(ip(PROXY)));
        findings.check(
            USES_PETR,
            to_petr,
            [*by_pitr, tunnel.copied().unwrap_or(sent)],
            format!("the answer encapsulated to the PETR {PROXY}"),
            format!("{}, back {}", way_text(&asked), way_text(&way)),
        );
        decapsulates(sequence, &way, findings, DECAP);
    }
    if !answered {
        for requirement in [USES_PETR, DECAP] {
            findings.unseen(
                requirement,
                "an answer of host-a to what came through the PITR",
            );
        }
    }
}

inventory::submit! {
    Case {
        id: "rfc6832::s6::ipv6_reaches_the_ipv6_world_over_ipv4_locators",
        title: "A site with IPv4 locators only reaches IPv6 hosts through a PETR, and is reached by them through the PITR.",
        topology: "interworking",
        settings: &[USE_PETR],
        roles: &["itr", "petr"],
        requirements: &[MIXED, DECAP],
        drive: |drive| outward(drive, LEGACY6),
        judges: &[mixed],
        sabotages: &[Sabotage {
            name: "decapsulates IPv4 only",
            node: "pxtr",
            links: &["core-pxtr"],
            kills: &[MIXED],
            tamper: || lose_incoming(|frame| {
                is_data(frame) && inner(frame).is_some_and(|inner| inner.first().is_some_and(|b| b >> 4 == 6))
            }),
        }],
        ..Case::BASE
    }
}

fn mixed(trace: &Trace, findings: &mut Findings) {
    for sequence in [1, 2] {
        let way = Ping::Request(sequence).way(trace);
        let tunnel = way
            .iter()
            .find(|packet| packet.sender() == Some("xtr-a") && packet.is_data());
        let shape = tunnel.and_then(|packet| {
            let (_, inside) = packet.data()?;
            Some(packet.source()?.is_ipv4() && inside.source.is_ipv6())
        });
        let arrived = way.iter().any(|p| p.receiver() == Some("legacy"));
        let answer = Ping::Reply(sequence).way(trace);
        let back = answer.iter().any(|p| p.receiver() == Some("host-a"));
        let evidence: Vec<&Seen> = way.iter().chain(&answer).copied().collect();
        findings.check(
            MIXED,
            shape == Some(true) && arrived && back,
            &evidence,
            "IPv6 inside IPv4 to the PETR, IPv6 from there on, and the answer back through the PITR",
            format!("{}, back {}", way_text(&way), way_text(&answer)),
        );
        decapsulates(sequence, &way, findings, DECAP);
    }
}

inventory::submit! {
    Case {
        id: "rfc6832::s6_1::a_petr_is_no_way_back",
        title: "Native packets to an EID that pass a box that is only PETR are not encapsulated by it.",
        topology: "interworking",
        settings: &[USE_PETR, ("pxtr", "{roles: [petr], aggregates: []}")],
        roles: &["petr"],
        requirements: &[ASYMMETRIC, DECAP],
        timeout: seconds(40),
        drive: |drive| outward(drive, LEGACY),
        judges: &[no_way_back],
        sabotages: &[Sabotage {
            name: "decapsulates for its own EIDs only",
            node: "pxtr",
            links: &["pxtr-internet"],
            kills: &[DECAP],
            tamper: || lose_outgoing(is_echo),
        },
        Sabotage {
            name: "encapsulates the answers too",
            node: "pxtr",
            links: &["core-pxtr"],
            kills: &[ASYMMETRIC],
            tamper: || edit_outgoing(|frame| {
                let Some(ip) = frame.ip().filter(|ip| ip.icmp().is_some_and(|icmp| icmp.is_echo_reply())) else {
                    return;
                };
                let own = std::net::IpAddr::from(std::net::Ipv4Addr::new(192, 0, 2, 14));
                let site = std::net::IpAddr::from(std::net::Ipv4Addr::new(192, 0, 2, 2));
                let packet = crate::drive::data_packet((own, 61_000), site, &DataHeader::default(), &ip.bytes, 60);
                frame.octets().truncate(14);
                frame.octets().extend(packet);
            }),
        }],
        ..Case::BASE
    }
}

fn no_way_back(trace: &Trace, findings: &mut Findings) {
    for sequence in [1, 2] {
        let way = Ping::Request(sequence).way(trace);
        decapsulates(sequence, &way, findings, DECAP);
        let back = Ping::Reply(sequence).way(trace);
        let at_petr = back
            .iter()
            .find(|packet| packet.receiver() == Some("pxtr") && !packet.is_data());
        let Some(at_petr) = at_petr else {
            findings.unseen(ASYMMETRIC, format!("echo reply {sequence} at the PETR"));
            continue;
        };
        let tunnel = back
            .iter()
            .find(|p| p.sender() == Some("pxtr") && p.is_data());
        findings.check(
            ASYMMETRIC,
            tunnel.is_none(),
            tunnel.unwrap_or(at_petr).to_owned(),
            "not encapsulated by the PETR",
            way_text(&back),
        );
    }
}

inventory::submit! {
    Case {
        id: "rfc6832::s6_1::a_petr_serves_the_sites_it_is_configured_for",
        title: "A PETR decapsulates what comes from an EID of its sites, and drops what claims another source.",
        topology: "interworking",
        roles: &["petr"],
        requirements: &[SOURCES, DECAP],
        start: false,
        drive: drive_sources,
        judges: &[sources],
        sabotages: &[
            Sabotage {
                name: "believes every source",
                node: "pxtr",
                links: &["core-pxtr"],
                kills: &[SOURCES],
                tamper: || crate::cases::common::edit_incoming(|frame| {
                    edit_inner_source(frame, [10, 1, 0, 10]);
                }),
            },
            Sabotage {
                name: "decapsulates nothing",
                node: "pxtr",
                links: &[],
                kills: &[DECAP],
                tamper: || lose_outgoing(|frame| frame.ip().as_ref().and_then(Ping::of).is_some()),
            },
        ],
        ..Case::BASE
    }
}

const STRANGER: &str = "192.0.2.200";

fn drive_sources(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.start("pxtr")?;
    let site = drive.peer("xtr-a")?;
    for (sequence, source) in [(1, HOST_A), (2, STRANGER), (3, HOST_A)] {
        let packet = Echo::new(ip(source), ip(LEGACY), sequence).request();
        site.data(
            (ip(SITE), 61_000),
            ip(PROXY),
            &DataHeader::default(),
            &packet,
        )?;
    }
    drive.wait_for(0, "the fence at the legacy host", seconds(5), |packet| {
        packet.receiver() == Some("legacy") && Ping::Request(3).is_plain(packet)
    })?;
    Ok(())
}

fn sources(trace: &Trace, findings: &mut Findings) {
    for sequence in [1, 3] {
        decapsulates(
            sequence,
            &Ping::Request(sequence).way(trace),
            findings,
            DECAP,
        );
    }
    let way = Ping::Request(2).way(trace);
    let Some(arrived) = way.iter().find(|p| p.receiver() == Some("pxtr")) else {
        return findings.unseen(SOURCES, "a packet of a stranger at the PETR");
    };
    let out = way.iter().find(|packet| packet.sender() == Some("pxtr"));
    findings.check(
        SOURCES,
        out.is_none(),
        out.unwrap_or(arrived).to_owned(),
        format!("dropped: {STRANGER} is no EID of a site of this PETR"),
        way_text(&way),
    );
}

inventory::submit! {
    Case {
        id: "rfc6832::s6_1::a_site_without_a_mapping_system_sends_all_misses_to_the_petr",
        title: "An ITR without Map-Resolver sends every packet out of the site through the PETR, and asks nobody.",
        topology: "interworking",
        settings: &[("xtr-a", "{use-petr: [{address: 192.0.2.14}], misses-to-petr: true, map-resolvers: []}")],
        roles: &["itr"],
        requirements: &[MISSES, OUTER_SOURCE],
        drive: |drive| outward(drive, LEGACY),
        judges: &[misses, outer_source],
        sabotages: &[
            Sabotage {
                name: "holds what it knows nothing about",
                node: "xtr-a",
                links: &["access"],
                kills: &[MISSES],
                tamper: || lose_outgoing(is_data),
            },
            OTHER_SOURCE,
        ],
        ..Case::BASE
    }
}

fn misses(trace: &Trace, findings: &mut Findings) {
    for sequence in [1, 2] {
        let way = Ping::Request(sequence).way(trace);
        let Some(sent) = way.first().filter(|p| p.sender() == Some("host-a")) else {
            findings.unseen(MISSES, format!("echo request {sequence} of host-a"));
            continue;
        };
        let tunnel = way
            .iter()
            .find(|packet| packet.sender() == Some("xtr-a") && packet.is_data());
        findings.check(
            MISSES,
            tunnel.is_some_and(|packet| packet.destination() == Some(ip(PROXY))),
            tunnel.unwrap_or(sent).to_owned(),
            format!("encapsulated to the PETR {PROXY}"),
            way_text(&way),
        );
    }
}
