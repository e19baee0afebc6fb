//! Between real hosts: packets that do not fit, and a smaller link in the core (RFC 6830 5.4); every box is a program.

use std::net::IpAddr;
use std::time::Duration;

use harness::inline::{PacketFate, Way};

use crate::case::Case;
use crate::cases::common::{ip, lose_incoming, lose_outgoing, seconds};
use crate::catalogue::Req;
use crate::decode::{Icmp, Ip, Lisp};
use crate::drive::{Drive, Echo, Peer, Stop};
use crate::finding::Findings;
use crate::sabotage::{Frame, Sabotage, Tamper};
use crate::trace::{Seen, Trace};
use crate::words;

const NO_FRAGMENT: Req = Req::new("rfc6830-5-no-frag-drop-icmp");
const DROP_AND_TELL: Req = Req::new("rfc6830-5.4.1-df-drop-icmp");
const SPLIT: Req = Req::new("rfc6830-5.4.1-split-two");
const FRAGMENTS: Req = Req::new("rfc6830-5.4.1-frag-decap");

pub(super) const HOST: &str = "host-a";
const HOST_EIDS: [&str; 2] = ["10.1.0.10", "2001:db8:a::10"];
pub(super) const ITR: &str = "xtr-a";
pub(super) const TOPOLOGY: &str = "dual-stack";
/// Router, host, EIDs, and what an inner packet may have for a core of 1500 octets.
pub(super) const FAR: [(&str, &str, [&str; 2], usize); 2] = [
    ("xtr-4", "host-4", ["10.4.0.10", "2001:db8:4::10"], 1464),
    ("xtr-6", "host-6", ["10.6.0.10", "2001:db8:6::10"], 1444),
];
const FULL: usize = 1500;
/// Ports of packets that are too large, and of those that just fit.
const LARGE: u16 = 40_001;
const FITTING: u16 = 40_002;
const PORT: u16 = 61_007;
/// Sequence number of the echo request of 1500 octets without DF.
const IN_TWO: u16 = 600;

pub(super) const fn at(
    node: &'static str,
    links: &'static [&'static str],
    name: &'static str,
    kills: &'static [Req],
    tamper: fn() -> Tamper,
) -> Sabotage {
    Sabotage {
        name,
        node,
        links,
        kills,
        tamper,
    }
}

pub(super) fn from(to: IpAddr) -> IpAddr {
    ip(HOST_EIDS[usize::from(to.is_ipv6())])
}

/// A UDP packet of the host of so many octets, with DF.
fn sized(to: IpAddr, port: u16, octets: usize) -> Vec<u8> {
    let headers = if to.is_ipv4() { 28 } else { 48 };
    lisp::ip::udp_packet(from(to), to, port, PORT, 64, &vec![0x5a; octets - headers])
}

fn is_sized(ip: &Ip, to: IpAddr, port: u16) -> bool {
    ip.destination == to && ip.udp().is_some_and(|udp| udp.source_port == port)
}

/// What the host is told about packets from a port: the number, and the packet that says so.
fn told(trace: &Trace, to: IpAddr, port: u16) -> Option<(&Seen, u32)> {
    trace
        .received_by(HOST)
        .find_map(|packet| Some((packet, told_by(packet, to, port)?)))
}

fn told_by(packet: &Seen, to: IpAddr, port: u16) -> Option<u32> {
    let icmp = packet.ip()?.icmp().filter(|icmp| icmp.is_too_big())?;
    let header = if icmp.v6 { 40 } else { 20 };
    let about = crate::decode::ip(&icmp.payload)?;
    let same = icmp.payload.get(header..header + 2) == Some(&port.to_be_bytes()[..]);
    (about.destination == to && same).then(|| icmp.mtu())
}

inventory::submit! {
    Case {
        id: "rfc6830::s5_4_1::hosts_hear_what_fits_or_get_halves",
        title: "Between real hosts: 1500 octets with DF, or of IPv6, are answered with 1464 or 1444, and that fits; an echo of 1500 without DF arrives in two fragments (744 + 736) and is answered.",
        topology: TOPOLOGY,
        roles: &["itr", "etr"],
        features: &["mtu", "mtu-stateless"],
        requirements: &[NO_FRAGMENT, DROP_AND_TELL, SPLIT, FRAGMENTS],
        timeout: seconds(40),
        drive: sizes_drive,
        judges: &[sizes, halves],
        sabotages: &[
            at(ITR, &["site-a"], "tells 1500", &[DROP_AND_TELL], || Box::new(|way, frame| {
                let v4 = frame.ip().is_some_and(|ip| ip.source.is_ipv4() && ip.icmp().is_some_and(Icmp::is_too_big));
                if way == Way::FromVictim && v4 {
                    frame.edit_ip(|_, message| {
                        message[6..8].copy_from_slice(&1500u16.to_be_bytes());
                        message[2..4].fill(0);
                        let sum = lisp::ip::checksum(message);
                        message[2..4].copy_from_slice(&sum.to_be_bytes());
                        true
                    });
                }
                PacketFate::Forward
            })),
            at(ITR, &["site-a"], "drops in silence", &[NO_FRAGMENT, DROP_AND_TELL], || lose_outgoing(|frame| {
                frame.ip().is_some_and(|ip| ip.icmp().is_some_and(Icmp::is_too_big))
            })),
            at(ITR, &["core-a"], "loses the second half", &[SPLIT], || lose_outgoing(|frame| {
                inner_of(frame).is_some_and(|inner| inner.fragment && inner.bytes[6] & 0x20 == 0)
            })),
            at("xtr-4", &["site-4"], "delivers no fragments", &[FRAGMENTS], || lose_outgoing(|frame| {
                frame.ip().is_some_and(|ip| ip.fragment)
            })),
        ],
        ..Case::BASE
    }
}

pub(super) fn inner_of(frame: &Frame<'_>) -> Option<Ip> {
    match crate::decode::lisp(&frame.ip()?) {
        Lisp::Data { inner, .. } => inner.map(|inner| *inner),
        _ => None,
    }
}

/// Lets every mapping in both directions be known.
pub(super) fn resolved(drive: &Drive<'_>, eids: &[&str]) -> Result<(), Stop> {
    for (number, eid) in eids.iter().enumerate() {
        drive.ping(HOST, ip(eid), 10 + number as u16, seconds(2))?;
    }
    Ok(())
}

pub(super) fn awaited(
    drive: &Drive<'_>,
    since: u64,
    what: &str,
    matches: impl Fn(&Seen) -> bool,
) -> Result<(), Stop> {
    drive.wait_for(since, what, seconds(3), matches)?;
    Ok(())
}

fn sizes_drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-a", "xtr-4", "xtr-6"], seconds(10))?;
    let eids: Vec<&str> = FAR.iter().flat_map(|(_, _, eids, _)| *eids).collect();
    resolved(drive, &eids)?;
    let host = drive.peer(HOST)?;
    let begin = drive.mark("sizes");
    for (_, far, eids, limit) in FAR {
        for eid in eids.map(ip) {
            host.send(&sized(eid, LARGE, FULL))?;
            awaited(drive, begin, "the host hears of the size", |packet| {
                packet.receiver() == Some(HOST) && told_by(packet, eid, LARGE).is_some()
            })?;
            host.send(&sized(eid, FITTING, limit))?;
            awaited(
                drive,
                begin,
                "the packet that fits, at the other host",
                |packet| {
                    packet.receiver() == Some(far)
                        && packet.ip().is_some_and(|ip| is_sized(ip, eid, FITTING))
                },
            )?;
        }
        let to = ip(eids[0]);
        let mut echo = Echo {
            payload: FULL - 28,
            ..Echo::new(from(to), to, IN_TWO)
        }
        .request();
        echo[4..8].copy_from_slice(&[0x47, 0x11, 0, 0]);
        let begin = drive.now_ns();
        host.send(&echo)?;
        awaited(drive, begin, "the end of the echo reply", |packet| {
            packet.receiver() == Some(HOST)
                && packet
                    .ip()
                    .is_some_and(|ip| ip.source == to && ip.fragment && ip.bytes[6] & 0x20 == 0)
        })?;
    }
    Ok(())
}

fn sizes(trace: &Trace, findings: &mut Findings) {
    for (_, far, eids, limit) in FAR {
        for eid in eids.map(ip) {
            let sent = trace
                .received_by(ITR)
                .find(|packet| packet.ip().is_some_and(|ip| is_sized(ip, eid, LARGE)));
            let Some(sent) = sent else {
                findings.unseen(DROP_AND_TELL, format!("{FULL} octets to {eid}"));
                continue;
            };
            let carried = trace.originated(ITR).find(|packet| {
                packet
                    .data()
                    .is_some_and(|(_, inner)| is_sized(inner, eid, LARGE))
            });
            let told = told(trace, eid, LARGE);
            let evidence: Vec<&Seen> = [Some(sent), carried, told.map(|(packet, _)| packet)]
                .into_iter()
                .flatten()
                .collect();
            let fits = trace.received_by(far).find(|packet| {
                packet
                    .ip()
                    .is_some_and(|ip| is_sized(ip, eid, FITTING) && ip.bytes.len() == limit)
            });
            let number = told.map(|(_, mtu)| mtu);
            let seen = format!(
                "told {}, {limit} octets {}",
                words::or_none(number),
                if fits.is_some() {
                    "arrived"
                } else {
                    "did not arrive"
                }
            );
            let expected =
                format!("{FULL} octets to {eid}: dropped, {limit} told, and {limit} octets arrive");
            let right = carried.is_none() && number == Some(limit as u32) && fits.is_some();
            findings.check(DROP_AND_TELL, right, &evidence, &expected, &seen);
            if eid.is_ipv4() {
                let holds = carried.is_none() && told.is_some();
                findings.check(NO_FRAGMENT, holds, &evidence, expected, seen);
            }
        }
    }
}

fn halves(trace: &Trace, findings: &mut Findings) {
    for (router, far, eids, _) in FAR {
        let to = ip(eids[0]);
        let halves = |ip: &Ip| ip.destination == to && [ip.bytes[4], ip.bytes[5]] == [0x47, 0x11];
        let tunnelled: Vec<&Seen> = trace
            .originated(ITR)
            .filter(|packet| packet.data().is_some_and(|(_, inner)| halves(inner)))
            .collect();
        let sizes: Vec<usize> = tunnelled
            .iter()
            .filter_map(|packet| Some(packet.data()?.1.bytes.len() - 20))
            .collect();
        let right = matches!(sizes[..], [744, 736] | [736, 744]);
        let whole = tunnelled.iter().all(|packet| {
            packet
                .ip()
                .is_some_and(|ip| !ip.fragment && ip.bytes.len() <= FULL)
        });
        findings.check(
            SPLIT,
            right && whole,
            &tunnelled,
            format!(
                "{FULL} octets to {to} without DF: two packets with fragments of 744 and 736 octets"
            ),
            format!("fragments of {} octets", words::listed(sizes)),
        );
        let delivered: Vec<&Seen> = trace
            .received_by(far)
            .filter(|packet| packet.ip().is_some_and(|ip| ip.fragment && halves(ip)))
            .collect();
        let arrived = trace
            .received_by(router)
            .filter(|packet| packet.data().is_some_and(|(_, inner)| halves(inner)))
            .count();
        if arrived == 0 {
            findings.unseen(FRAGMENTS, format!("fragments for {to} at {router}"));
            continue;
        }
        findings.check(
            FRAGMENTS,
            delivered.len() == arrived,
            &delivered,
            format!("{router} delivers the fragments as they are, for the host to join"),
            format!("{} of {arrived}", delivered.len()),
        );
    }
}

const LEARNS: Req = Req::new("rfc6830-5.4.2-learn-mtu");
const REPORTS: Req = Req::new("rfc6830-5.4.2-report-mtu");
const SMALL: (&str, [&str; 2]) = ("host-s", ["10.8.0.10", "2001:db8:8::10"]);
/// Octets that fit into the core and not into the link of 1400, and what fits there: by family of EID and locator.
const SMALLER: [(usize, usize); 2] = [(1450, 1400 - 36), (1440, 1400 - 56)];

inventory::submit! {
    Case {
        id: "rfc6830::s5_4_2::a_smaller_link_in_the_core_is_found_out",
        title: "Where a link of the core carries 1400 octets, its router says so, and hosts hear 1364 or 1344 from the ITR; packets of that size arrive.",
        topology: TOPOLOGY,
        roles: &["itr"],
        features: &["mtu-stateful"],
        requirements: &[LEARNS, REPORTS],
        timeout: seconds(40),
        drive: smaller_drive,
        judges: &[smaller],
        sabotages: &[
            at(ITR, &["core-a"], "does not hear the core", &[LEARNS, REPORTS], || lose_incoming(|frame| {
                frame.ip().is_some_and(|ip| ip.icmp().is_some_and(Icmp::is_too_big))
            })),
            at(ITR, &["site-a"], "keeps it to itself", &[REPORTS], || lose_outgoing(|frame| {
                frame.ip().is_some_and(|ip| ip.icmp().is_some_and(Icmp::is_too_big))
            })),
        ],
        ..Case::BASE
    }
}

fn smaller_drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-a", "xtr-s"], seconds(10))?;
    resolved(drive, &SMALL.1)?;
    let host = drive.peer(HOST)?;
    for (eid, (large, fits)) in SMALL.1.map(ip).into_iter().zip(SMALLER) {
        heard(drive, &host, eid, large)?;
        let begin = drive.now_ns();
        host.send(&sized(eid, FITTING, fits))?;
        awaited(
            drive,
            begin,
            "the packet that fits, at the other host",
            |packet| {
                packet.receiver() == Some(SMALL.0)
                    && packet.ip().is_some_and(|ip| is_sized(ip, eid, FITTING))
            },
        )?;
    }
    Ok(())
}

/// Sends large packets until the host hears of the size: the first ones reach the router that cannot forward them.
fn heard(drive: &Drive<'_>, host: &Peer, eid: IpAddr, octets: usize) -> Result<(), Stop> {
    let begin = drive.mark(&format!("large packets to {eid}"));
    let mut heard = Ok(());
    for _ in 0..40 {
        host.send(&sized(eid, LARGE, octets))?;
        let seen = drive.wait_for(
            begin,
            "the host hears of the size",
            Duration::from_millis(100),
            |packet| packet.receiver() == Some(HOST) && told_by(packet, eid, LARGE).is_some(),
        );
        heard = seen.map(|_| ());
        if heard.is_ok() {
            break;
        }
    }
    heard
}

fn smaller(trace: &Trace, findings: &mut Findings) {
    for (eid, (large, fits)) in SMALL.1.map(ip).into_iter().zip(SMALLER) {
        let complaint = trace.sent_by("core").find(|packet| {
            packet.receiver() == Some(ITR)
                && packet.ip().is_some_and(|ip| {
                    ip.source.is_ipv4() == eid.is_ipv4() && ip.icmp().is_some_and(Icmp::is_too_big)
                })
        });
        let Some(complaint) = complaint else {
            findings.unseen(
                LEARNS,
                format!("the core's complaint about {large} octets to {eid}"),
            );
            findings.unseen(
                REPORTS,
                format!("the core's complaint about {large} octets to {eid}"),
            );
            continue;
        };
        let told = told(trace, eid, LARGE);
        let number = told.map(|(_, mtu)| mtu);
        let arrived = trace.received_by(SMALL.0).find(|packet| {
            packet
                .ip()
                .is_some_and(|ip| is_sized(ip, eid, FITTING) && ip.bytes.len() == fits)
        });
        let evidence: Vec<&Seen> = [Some(complaint), told.map(|(packet, _)| packet), arrived]
            .into_iter()
            .flatten()
            .collect();
        findings.check(
            REPORTS,
            number == Some(fits as u32),
            &evidence,
            format!("{large} octets to {eid}: {fits} told, 1400 less the headers"),
            format!("told {}", words::or_none(number)),
        );
        // Once it is known, nothing larger goes there.
        let after = told.and_then(|(told, _)| {
            trace.originated(ITR).find(|packet| {
                packet.time_ns() > told.time_ns()
                    && packet
                        .data()
                        .is_some_and(|(_, inner)| is_sized(inner, eid, LARGE))
            })
        });
        findings.check(
            LEARNS,
            told.is_some() && after.is_none() && arrived.is_some(),
            &evidence,
            format!("{large} octets to {eid} refused from then on, {fits} arrive"),
            format!(
                "told: {}, nothing larger sent: {}, arrived: {}",
                words::yes(told.is_some()),
                words::yes(after.is_none()),
                words::yes(arrived.is_some())
            ),
        );
    }
}
