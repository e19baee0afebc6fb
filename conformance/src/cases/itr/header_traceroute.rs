//! Traceroute through the tunnel (RFC 6830 9): the ITR as a hop of the site, the core's routers named to the host that
//! traces, and no trace of a core of the other address family.

use std::net::IpAddr;

use harness::inline::{PacketFate, Way};
use lisp::ip::IpHeader;
use lisp::wire::Locator;

use super::flows_net::*;
use super::mtu_stateful::icmp_packet;
use crate::case::Case;
use crate::cases::common::{ip, locator};
use crate::catalogue::Req;
use crate::decode::{Icmp, Ip};
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};
use crate::words;

const BEFORE: Req = Req::new("rfc6830-9-ttl-before-encap");
const RELAY_V4: Req = Req::new("rfc6830-9-relay-exceeded-v4");
const RELAY_V6: Req = Req::new("rfc6830-9-relay-exceeded-v6");
const MIXED: Req = Req::new("rfc6830-9.3-mixed-af-ttl");

const OVER_V4: u8 = 70;
const OVER_V6: u8 = 71;
/// The router of the core next to the ITR, and one further in that is scripted.
const CORE_ROUTER: [&str; 2] = ["192.0.2.1", "2001:db8:0:2::1"];
const FAR_ROUTER: [&str; 2] = ["203.0.113.1", "2001:db8:113::1"];
/// The ITR's addresses in the site.
const SITE_SIDE: [&str; 2] = ["10.1.0.1", "2001:db8:a::1"];

/// A probe of a traceroute: destination port, TTL as the host sends it, who says that it is exceeded.
struct Probe {
    to: IpAddr,
    port: u16,
    ttl: u8,
    requirement: Req,
    router: &'static str,
}

const fn probe(to: IpAddr, port: u16, ttl: u8, requirement: Req, router: &'static str) -> Probe {
    Probe {
        to,
        port,
        ttl,
        requirement,
        router,
    }
}

const TO4: IpAddr = eid(OVER_V4, 10);
const TO6: IpAddr = eid6(OVER_V6, 10);

/// Whose TTL is used up at the ITR, and at the core's router.
const SHORT: [Probe; 4] = [
    probe(TO4, 33_434, 1, BEFORE, SITE_SIDE[0]),
    probe(TO6, 33_434, 1, BEFORE, SITE_SIDE[1]),
    probe(TO4, 33_437, 2, RELAY_V4, CORE_ROUTER[0]),
    probe(TO6, 33_437, 2, RELAY_V6, CORE_ROUTER[1]),
];
/// Those that a router further in complains about: all are on their way before the first complaint, and the complaints
/// come in the opposite order.
const FAR: [Probe; 5] = [
    probe(TO4, 33_440, 3, RELAY_V4, FAR_ROUTER[0]),
    probe(TO4, 33_441, 3, RELAY_V4, FAR_ROUTER[0]),
    probe(TO4, 33_442, 3, RELAY_V4, FAR_ROUTER[0]),
    probe(TO6, 33_440, 3, RELAY_V6, FAR_ROUTER[1]),
    probe(TO6, 33_441, 3, RELAY_V6, FAR_ROUTER[1]),
];
/// Over the other family.
const ACROSS: [(IpAddr, u8); 2] = [(eid6(OVER_V4, 10), 2), (eid(OVER_V6, 10), 2)];
const DEFAULT_TTL: u8 = 64;

inventory::submit! {
    Case {
        id: "rfc6830::s9::traceroute_shows_the_core_of_its_own_family",
        title: "The ITR answers TTL 1 from its side of the site; time exceeded of the core reaches the tracing host from the core's routers with its own packet quoted, also after a quote of 28 octets; over the other family the TTL is not copied.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc6830],
        start: false,
        roles: &["itr"],
        features: &["traceroute"],
        requirements: &[BEFORE, RELAY_V4, RELAY_V6, MIXED],
        drive,
        judges: &[named, untraced],
        sabotages: &[
            at_site("does not answer TTL 1", &[BEFORE], || exceeded_out(|ip, _| {
                if SITE_SIDE.contains(&ip.source().to_string().as_str()) { PacketFate::Drop } else { PacketFate::Forward }
            })),
            at_site("keeps the core's IPv4 routers secret", &[RELAY_V4], || exceeded_out(|header, _| {
                match header {
                    IpHeader::V4(header) if IpAddr::from(header.source) != ip(SITE_SIDE[0]) => PacketFate::Drop,
                    _ => PacketFate::Forward,
                }
            })),
            at_site("keeps the core's IPv6 routers secret", &[RELAY_V6], || exceeded_out(|header, _| {
                match header {
                    IpHeader::V6(header) if IpAddr::from(header.source) != ip(SITE_SIDE[1]) => PacketFate::Drop,
                    _ => PacketFate::Forward,
                }
            })),
            at_site("names itself instead of the core's router", &[RELAY_V4], || exceeded_out(|header, _| {
                if let (IpHeader::V4(header), IpAddr::V4(own)) = (header, ip(SITE_SIDE[0])) {
                    header.source = own;
                }
                PacketFate::Forward
            })),
            at_site("quotes another probe", &[RELAY_V4], || exceeded_out(|header, message| {
                // Behind 8 octets of ICMP and 20 of IP: the low octet of the quoted destination port.
                if header.source() == ip(FAR_ROUTER[0]) {
                    message[31] ^= 1;
                    message[2..4].fill(0);
                    let sum = lisp::ip::checksum(message);
                    message[2..4].copy_from_slice(&sum.to_be_bytes());
                }
                PacketFate::Forward
            })),
            sabotage("copies the TTL across families", &[MIXED], || Box::new(|way, frame| {
                let across = frame.ip().is_some_and(|ip| matches!(
                    crate::decode::lisp(&ip),
                    crate::decode::Lisp::Data { inner: Some(inner), .. } if inner.source.is_ipv4() != ip.source.is_ipv4()
                ));
                if way == Way::FromVictim && across {
                    frame.edit_ip(|header, _| {
                        match header {
                            IpHeader::V4(header) => header.ttl = 1,
                            IpHeader::V6(header) => header.hop_limit = 1,
                        }
                        true
                    });
                }
                PacketFate::Forward
            })),
        ],
        ..Case::BASE
    }
}

const fn at_site(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: ITR,
        links: &["site"],
        kills,
        tamper,
    }
}

/// Changes or swallows "time exceeded" on its way to the site.
fn exceeded_out(change: fn(&mut IpHeader, &mut Vec<u8>) -> PacketFate) -> Tamper {
    Box::new(move |way, frame| {
        let ours = frame
            .ip()
            .is_some_and(|ip| ip.icmp().is_some_and(is_exceeded));
        let mut fate = PacketFate::Forward;
        if way == Way::FromVictim && ours {
            frame.edit_ip(|header, message| {
                fate = change(header, message);
                true
            });
        }
        fate
    })
}

fn is_exceeded(icmp: &Icmp) -> bool {
    (icmp.kind, icmp.code) == if icmp.v6 { (3, 0) } else { (11, 0) }
}

fn locators(_: lisp::EidPrefix, subnet: u8) -> Vec<Locator> {
    match subnet {
        OVER_V4 => vec![locator(&R[0].to_string(), 1, 100)],
        OVER_V6 => vec![locator(&R6[0].to_string(), 1, 100)],
        _ => Vec::new(),
    }
}

/// "Time exceeded" of the router further in, about a data packet; over IPv4 with the 28 octets of RFC 792.
fn exceeded(about: &Ip) -> Vec<u8> {
    let v4 = about.source.is_ipv4();
    let mut message = if v4 {
        vec![11, 0, 0, 0]
    } else {
        vec![3, 0, 0, 0]
    };
    message.extend([0; 4]);
    message.extend(if v4 {
        &about.bytes[..28]
    } else {
        &about.bytes[..]
    });
    let router = ip(FAR_ROUTER[usize::from(!v4)]);
    icmp_packet(router, about.source, if v4 { 1 } else { 58 }, message)
}

fn is_probe(ip: &Ip, to: IpAddr, port: u16) -> bool {
    ip.destination == to && ip.udp().is_some_and(|udp| udp.destination_port == port)
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, locators)?;
    let mut eids = vec![TO4, TO6];
    eids.extend(ACROSS.map(|(to, _)| to));
    net.resolve(drive, &eids)?;
    drive.mark("traceroutes");
    for probe in SHORT {
        let begin = drive.now_ns();
        net.send(&udp_from_host(
            probe.to, FIRST_PORT, probe.port, probe.ttl, 32,
        ))?;
        let what = format!("the host hears of TTL {} to {}", probe.ttl, probe.to);
        drive.wait_for(begin, &what, SOON, |packet| hears(packet, &probe))?;
    }
    for (to, ttl) in ACROSS {
        net.send(&udp_from_host(to, FIRST_PORT, 33_450, ttl, 32))?;
    }
    let mut complaints = Vec::new();
    for probe in FAR {
        let begin = drive.now_ns();
        net.send(&udp_from_host(
            probe.to, FIRST_PORT, probe.port, probe.ttl, 32,
        ))?;
        let sent = drive.wait_for(begin, "the probe on the core", SOON, |packet| {
            packet.sender() == Some(ITR)
                && packet
                    .data()
                    .is_some_and(|(_, inner)| is_probe(inner, probe.to, probe.port))
        })?;
        complaints.extend(sent.ip().map(exceeded));
    }
    let begin = drive.now_ns();
    for complaint in complaints.iter().rev() {
        net.remotes[0].send(complaint)?;
    }
    for probe in FAR {
        let what = format!("the host hears of the probe {} to {}", probe.port, probe.to);
        drive.wait_for(begin, &what, SOON, |packet| hears(packet, &probe))?;
    }
    net.fence(drive)
}

/// Whether a packet tells the host that a probe's TTL is exceeded.
fn hears(packet: &Seen, probe: &Probe) -> bool {
    let about = |icmp: &Icmp| {
        let header = if icmp.v6 { 40 } else { 20 };
        let port = icmp.payload.get(header + 2..header + 4);
        is_exceeded(icmp)
            && port == Some(&probe.port.to_be_bytes()[..])
            && crate::decode::ip(&icmp.payload).is_some_and(|ip| ip.destination == probe.to)
    };
    packet.receiver() == Some("site") && packet.ip().is_some_and(|ip| ip.icmp().is_some_and(about))
}

fn named(trace: &Trace, findings: &mut Findings) {
    for probe in SHORT.into_iter().chain(FAR) {
        let what = format!("port {} with TTL {} to {}", probe.port, probe.ttl, probe.to);
        let sent = trace.since("traceroutes").find(|packet| {
            packet.receiver() == Some(ITR)
                && packet
                    .ip()
                    .is_some_and(|ip| is_probe(ip, probe.to, probe.port))
        });
        let Some(sent) = sent else {
            findings.unseen(probe.requirement, what);
            continue;
        };
        let heard = trace
            .since("traceroutes")
            .find(|packet| hears(packet, &probe));
        let carried = trace.since("traceroutes").find(|packet| {
            packet.sender() == Some(ITR)
                && packet
                    .data()
                    .is_some_and(|(_, inner)| is_probe(inner, probe.to, probe.port))
        });
        let expected = format!("{what}: time exceeded of {} at the host", probe.router);
        let evidence: Vec<&Seen> = [Some(sent), carried, heard].into_iter().flatten().collect();
        let (right, seen) = match heard {
            Some(packet) => (
                packet.source() == Some(ip(probe.router)),
                format!("{what}: of {}", words::or_none(packet.source())),
            ),
            None => (false, format!("{what}: the host heard nothing")),
        };
        let in_tunnel = probe.requirement == BEFORE && carried.is_some();
        let seen = if in_tunnel {
            format!("{seen}, and it was encapsulated")
        } else {
            seen
        };
        findings.check(
            probe.requirement,
            right && !in_tunnel,
            &evidence,
            expected,
            seen,
        );
    }
}

fn untraced(trace: &Trace, findings: &mut Findings) {
    for (to, ttl) in ACROSS {
        let carried = trace.since("traceroutes").find(|packet| {
            packet.sender() == Some(ITR)
                && packet
                    .data()
                    .is_some_and(|(_, inner)| is_probe(inner, to, 33_450))
        });
        let outer = carried.and_then(Seen::ip).map(|ip| ip.ttl);
        let expected =
            format!("TTL {ttl} to {to} over the other family: outer TTL at least {DEFAULT_TTL}");
        match (carried, outer) {
            (Some(packet), Some(outer)) => {
                findings.check(
                    MIXED,
                    outer >= DEFAULT_TTL,
                    packet,
                    expected,
                    format!("outer TTL {outer}"),
                );
            }
            _ => findings.broken(MIXED, Vec::new(), expected, "not encapsulated"),
        }
    }
}
