//! Two sites that talk: registration, resolution, data, negative replies, native forwarding.

use std::net::IpAddr;
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::EidPrefix;
use lisp::auth::{AuthKey, MacAlgorithm};

use crate::case::Case;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};
use crate::words;

use super::two_sites_sabotages as sabotages;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
const HOST_B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 2, 0, 10));
const LEGACY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 10));
pub(super) const MS: &str = "msmr";

pub(super) const WANT_NOTIFY: Req = Req::new("rfc6833-4.2-want-notify");
pub(super) const NOTIFY_DST: Req = Req::new("rfc6833-4.2-notify-dst");
pub(super) const NOTIFY_PORT: Req = Req::new("rfc6833-4.2-notify-port");
pub(super) const NOTIFY_CONTENT: Req = Req::new("rfc6830-6.1.7-content");
pub(super) const NOTIFY_MAC: Req = Req::new("rfc6830-6.1.7-mac");
pub(super) const REGISTER_PORTS: Req = Req::new("rfc6830-6.1.6-ports");
pub(super) const REGISTER_MAC: Req = Req::new("rfc6830-6.1.6-mac-coverage");

fn key(node: &str) -> AuthKey {
    let secret = format!("key-of-{}", node.replace("xtr-", "site-"));
    AuthKey::new(0, MacAlgorithm::HmacSha256_128, secret.as_bytes())
}

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::registration_is_notified",
        title: "An ETR registers with a right MAC, and the Map-Server confirms with a Map-Notify of its own MAC.",
        roles: &["etr", "ms"],
        requirements: &[
            WANT_NOTIFY, NOTIFY_DST, NOTIFY_PORT, NOTIFY_CONTENT, NOTIFY_MAC, REGISTER_PORTS, REGISTER_MAC,
        ],
        drive: |drive| drive.registered(&["xtr-a", "xtr-b"], SECONDS(10)),
        judges: &[registration],
        sabotages: sabotages::REGISTRATION,
        ..Case::BASE
    }
}

fn registration(trace: &Trace, findings: &mut Findings) {
    for node in ["xtr-a", "xtr-b"] {
        let Some(register) = trace
            .originated(node)
            .find(|packet| packet.map_register().is_some())
        else {
            findings.broken(
                REGISTER_PORTS,
                Vec::new(),
                format!("a Map-Register of {node}"),
                "none",
            );
            continue;
        };
        let port = register.udp().map_or(0, |udp| udp.destination_port);
        findings.check(
            REGISTER_PORTS,
            port == 4342,
            register,
            "destination port 4342",
            format!("{port}"),
        );
        let right = verified(register, &key(node));
        findings.check(
            REGISTER_MAC,
            right.is_ok(),
            register,
            "a MAC over the whole message",
            said(right),
        );
        let wanted = register
            .map_register()
            .is_some_and(|register| register.want_map_notify);
        let notify = trace.originated(MS).find(|packet| {
            packet.time_ns() >= register.time_ns()
                && packet.map_notify().is_some()
                && is_for(packet, node, trace)
        });
        let Some(notify) = notify else {
            findings.check(
                WANT_NOTIFY,
                !wanted,
                register,
                format!("a Map-Notify for {node}"),
                "none",
            );
            continue;
        };
        findings.met(
            WANT_NOTIFY,
            [register, notify],
            format!("{node} was notified"),
        );
        findings.check(
            NOTIFY_DST,
            notify.destination() == register.source(),
            [register, notify],
            format!(
                "destination {}, the source of the Map-Register",
                words::or_none(register.source())
            ),
            words::to(notify),
        );
        let port = notify.udp().map_or(0, |udp| udp.destination_port);
        findings.check(
            NOTIFY_PORT,
            port == 4342,
            notify,
            "destination port 4342",
            format!("{port}"),
        );
        let right = verified(notify, &key(node));
        findings.check(
            NOTIFY_MAC,
            right.is_ok(),
            notify,
            "a MAC over the Map-Notify with the site's key",
            said(right),
        );
        let (sent, told) = (
            register.map_register().map(|m| &m.records),
            notify.map_notify().map(|m| &m.records),
        );
        findings.check(
            NOTIFY_CONTENT,
            sent == told,
            [register, notify],
            "the records of the Map-Register",
            words::records(told.into_iter().flatten()),
        );
    }
}

/// Whether a packet of the Map-Server goes to a node, or would if its destination were right.
fn is_for(packet: &Seen, node: &str, trace: &Trace) -> bool {
    let prefixes = trace.eid_prefixes_of(node);
    packet.map_notify().is_some_and(|notify| {
        notify
            .records
            .iter()
            .filter_map(|record| record.eid_prefix())
            .any(|prefix| prefixes.contains(&prefix))
    })
}

fn verified(packet: &Seen, key: &AuthKey) -> Result<(), lisp::auth::AuthError> {
    let payload = packet
        .udp()
        .map(|udp| udp.payload.as_slice())
        .unwrap_or_default();
    lisp::auth::verify(
        payload,
        key,
        &[MacAlgorithm::HmacSha256_128, MacAlgorithm::HmacSha1_96],
    )
}

fn said(result: Result<(), lisp::auth::AuthError>) -> String {
    result.map_or_else(|error| error.to_string(), |()| "a right MAC".to_owned())
}

pub(super) const ECM_TO_MR: Req = Req::new("rfc6830-6.1.3-ecm-itr-mr");
pub(super) const USES_MR: Req = Req::new("rfc6833-4.1-itr-uses-mr");
pub(super) const HOST_MASK: Req = Req::new("rfc6830-6.1.2-eid-hostmask");
pub(super) const SOURCE_EID: Req = Req::new("rfc6830-6.1.2-source-eid");
pub(super) const INNER_DST: Req = Req::new("rfc6830-6.1.8-inner-dst-eid");
pub(super) const MS_FORWARDS: Req = Req::new("rfc6833-4.3-ms-forward");
pub(super) const MS_ONCE: Req = Req::new("rfc6833-4.3-ms-forward-once");
pub(super) const MS_UNALTERED: Req = Req::new("rfc6833-4.3-ms-forward-unaltered");
pub(super) const ETR_DIRECT: Req = Req::new("rfc6833-4.3-etr-replies-direct");
pub(super) const A_BIT: Req = Req::new("rfc6830-6.1.4-a-bit-etr");
const ENCAPSULATES: Req = Req::new("rfc6830-3-itr-encap");
const DECAPSULATES: Req = Req::new("rfc6830-3-etr-decap");
const DATA_PORT: Req = Req::new("rfc6830-5.3-dport");
pub(super) const NONCE_ECHO: Req = Req::new("rfc6830-6.1.4-nonce-echo");
pub(super) const ONE_MISS: Req = Req::new("rfc6830-6.1.3-rate-1s");

const RESOLUTION: &[Req] = &[
    ECM_TO_MR,
    USES_MR,
    HOST_MASK,
    SOURCE_EID,
    INNER_DST,
    MS_FORWARDS,
    MS_ONCE,
    MS_UNALTERED,
    ETR_DIRECT,
    A_BIT,
    NONCE_ECHO,
    ONE_MISS,
];

inventory::submit! {
    Case {
        id: "rfc6833::s4_3::request_goes_to_the_etr_and_the_reply_comes_directly",
        title: "A miss makes one Encapsulated Map-Request; the Map-Server hands it to the ETR unaltered, which answers the ITR itself.",
        roles: &["itr", "etr", "ms", "mr"],
        requirements: RESOLUTION,
        drive: |drive| {
            drive.registered(&["xtr-a", "xtr-b"], SECONDS(10))?;
            drive.mark("the first ping");
            drive.ping("host-a", HOST_B, 1, SECONDS(2))?;
            drive.wait_for(0, "the Map-Reply at xtr-a", SECONDS(5), |packet| {
                packet.map_reply().is_some() && packet.receiver() == Some("xtr-a")
            })?;
            Ok(())
        },
        judges: &[resolution],
        sabotages: sabotages::RESOLUTION,
        ..Case::BASE
    }
}

fn resolution(trace: &Trace, findings: &mut Findings) {
    let asked = EidPrefix::host(0, HOST_B);
    let requests: Vec<&Seen> = trace
        .originated("xtr-a")
        .filter(|packet| packet.map_request().is_some_and(|request| !request.probe))
        .collect();
    let Some(first) = requests.first().copied() else {
        findings.broken(
            ECM_TO_MR,
            Vec::new(),
            "an Encapsulated Map-Request of xtr-a",
            "none",
        );
        return;
    };
    let to_mr = first
        .destination()
        .is_some_and(|to| trace.has_address(MS, to));
    findings.check(
        ECM_TO_MR,
        first.ecm().is_some(),
        first,
        "a Map-Request inside an Encapsulated Control Message",
        first.summary(),
    );
    findings.check(
        USES_MR,
        to_mr,
        first,
        "destination: the Map-Resolver",
        first.summary(),
    );
    if let (Some(request), Some(inner)) = (first.map_request(), first.ecm()) {
        let prefix = request.records.first().and_then(|query| query.prefix());
        findings.check(
            HOST_MASK,
            prefix == Some(asked),
            first,
            asked.to_string(),
            words::or_none(prefix),
        );
        findings.check(
            INNER_DST,
            inner.destination == HOST_B,
            first,
            format!("inner destination {HOST_B}"),
            inner.destination.to_string(),
        );
        let source = request.source_eid.ip();
        let host_a = trace.node_of(source.unwrap_or(LEGACY));
        findings.check(
            SOURCE_EID,
            host_a == Some("host-a"),
            first,
            "the source EID of the packet: host-a's",
            format!("source EID {}", request.source_eid),
        );
    }
    let close = requests.windows(2).find(|pair| {
        pair[1].time_ns() - pair[0].time_ns() < 900_000_000
            && pair[0].map_request().map(|r| &r.records)
                == pair[1].map_request().map(|r| &r.records)
    });
    match close {
        Some(pair) => findings.broken(
            ONE_MISS,
            [pair[0], pair[1]],
            "at most one Map-Request a second for one EID",
            "two",
        ),
        None => findings.met(ONE_MISS, first, format!("{} Map-Requests", requests.len())),
    }
    let forwarded: Vec<&Seen> = trace
        .originated(MS)
        .filter(|packet| {
            packet.map_request().is_some_and(|request| {
                request
                    .records
                    .iter()
                    .any(|query| query.prefix() == Some(asked))
            })
        })
        .collect();
    let Some(handed) = forwarded.first().copied() else {
        findings.broken(
            MS_FORWARDS,
            first,
            "the Map-Server hands the Map-Request to xtr-b",
            "it did not",
        );
        return;
    };
    let to_etr = handed
        .destination()
        .is_some_and(|to| trace.has_address("xtr-b", to));
    findings.check(
        MS_FORWARDS,
        to_etr && handed.ecm().is_some(),
        handed,
        "an Encapsulated Map-Request to xtr-b",
        handed.summary(),
    );
    let copies = forwarded
        .iter()
        .filter(|packet| {
            packet.map_request().map(|r| r.nonce) == handed.map_request().map(|r| r.nonce)
        })
        .count();
    findings.check(
        MS_ONCE,
        copies == 1,
        &forwarded,
        "one copy",
        format!("{copies} copies"),
    );
    let (sent, got) = (first.map_request(), handed.map_request());
    let same_port =
        first.ecm().map(|inner| inner.source_port) == handed.ecm().map(|inner| inner.source_port);
    findings.check(
        MS_UNALTERED,
        sent == got && same_port,
        [first, handed],
        "the Map-Request as xtr-a sent it, with its inner source port",
        handed.summary(),
    );
    let nonce = first.map_request().map(|request| request.nonce);
    let reply = trace
        .originated("xtr-b")
        .find(|packet| packet.map_reply().is_some_and(|reply| !reply.probe));
    let Some(reply) = reply else {
        findings.broken(ETR_DIRECT, handed, "a Map-Reply of xtr-b", "none");
        return;
    };
    let to_itr = reply
        .destination()
        .is_some_and(|to| trace.has_address("xtr-a", to));
    findings.check(
        ETR_DIRECT,
        to_itr,
        reply,
        "to an ITR-RLOC of xtr-a",
        reply.summary(),
    );
    let echoed = reply.map_reply().map(|reply| reply.nonce);
    findings.check(
        NONCE_ECHO,
        echoed == nonce,
        [first, reply],
        format!("nonce {}", words::nonce(nonce)),
        format!("nonce {}", words::nonce(echoed)),
    );
    let all = reply
        .map_reply()
        .is_some_and(|reply| reply.records.iter().all(|record| record.authoritative));
    findings.check(A_BIT, all, reply, "A = 1 in each record of an ETR", "A = 0");
}

inventory::submit! {
    Case {
        id: "rfc6830::s5_3::pings_cross_the_tunnel",
        title: "Pings between sites travel encapsulated between the locators, and arrive.",
        roles: &["itr", "etr"],
        requirements: &[ENCAPSULATES, DECAPSULATES, DATA_PORT],
        drive: warm_pings,
        judges: &[crosses],
        sabotages: &[
            Sabotage {
                name: "encapsulates to port 4343",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[DATA_PORT],
                tamper: || Box::new(|way, frame| {
                    if way == Way::FromVictim {
                        frame.edit_udp_ports(|ports, _| {
                            let data = ports.1 == 4341;
                            ports.1 = if data { 4343 } else { ports.1 };
                            data
                        });
                    }
                    PacketFate::Forward
                }),
            },
            Sabotage {
                name: "swallows what it should encapsulate",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[ENCAPSULATES],
                tamper: || Box::new(|way, frame| match frame.ip().map(|ip| crate::decode::lisp(&ip)) {
                    Some(crate::decode::Lisp::Data { .. }) if way == Way::FromVictim => PacketFate::Drop,
                    _ => PacketFate::Forward,
                }),
            },
            Sabotage {
                name: "swallows what it decapsulates",
                node: "xtr-b",
                links: &["site-b"],
                kills: &[DECAPSULATES],
                tamper: || Box::new(|way, frame| match frame.ip() {
                    Some(ip) if way == Way::FromVictim && ip.icmp().is_some() => PacketFate::Drop,
                    _ => PacketFate::Forward,
                }),
            },
        ],
        ..Case::BASE
    }
}

fn warm_pings(drive: &mut Drive) -> Result<(), Stop> {
    drive.registered(&["xtr-a", "xtr-b"], SECONDS(10))?;
    drive.mark("the first ping");
    drive.ping("host-a", HOST_B, 1, SECONDS(2))?;
    drive.mark("the warm pings");
    for sequence in 2..=6 {
        drive.ping("host-a", HOST_B, sequence, SECONDS(2))?;
    }
    Ok(())
}

fn crosses(trace: &Trace, findings: &mut Findings) {
    let sent: Vec<&Seen> = trace
        .since("the warm pings")
        .filter(|packet| packet.sender() == Some("host-a") && is_echo_request(packet))
        .collect();
    if sent.is_empty() {
        findings.unseen(ENCAPSULATES, "an echo request of host-a");
    }
    for ping in sent {
        let ip_of = |packet: &Seen| packet.ip().map(|ip| ip.transport.clone());
        let tunnel = trace.originated("xtr-a").find(|packet| {
            packet.time_ns() >= ping.time_ns()
                && packet.udp().is_some()
                && packet
                    .destination()
                    .is_some_and(|to| trace.has_address("xtr-b", to))
                && inner(packet).is_some_and(|inner| Some(inner.transport) == ip_of(ping))
        });
        let Some(tunnel) = tunnel else {
            findings.broken(
                ENCAPSULATES,
                ping,
                "the ping inside a UDP packet from xtr-a to xtr-b",
                "no such packet",
            );
            continue;
        };
        findings.met(ENCAPSULATES, [ping, tunnel], tunnel.summary());
        let port = tunnel.udp().map_or(0, |udp| udp.destination_port);
        findings.check(
            DATA_PORT,
            port == 4341,
            tunnel,
            "destination port 4341",
            port.to_string(),
        );
        let out = trace.sent_by("xtr-b").find(|packet| {
            packet.time_ns() >= tunnel.time_ns()
                && packet.receiver() == Some("host-b")
                && ip_of(packet) == ip_of(ping)
        });
        match out {
            Some(out) => findings.met(DECAPSULATES, [tunnel, out], out.summary()),
            None => findings.broken(
                DECAPSULATES,
                tunnel,
                "the ping at host-b",
                "it did not come out of xtr-b",
            ),
        }
    }
}

/// The inner packet, whatever the UDP port.
fn inner(packet: &Seen) -> Option<crate::decode::Ip> {
    crate::decode::ip(packet.udp()?.payload.get(8..)?)
}

fn is_echo_request(packet: &Seen) -> bool {
    packet
        .ip()
        .and_then(|ip| ip.icmp())
        .is_some_and(|icmp| icmp.is_echo_request())
}
