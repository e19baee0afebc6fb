//! What the core says about the size of a path is kept with the locator (RFC 6830 5.4.2).

use std::net::IpAddr;
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::ip::IpHeader;

use super::flows_net::*;
use super::mtu::{OVER_V4, OVER_V6, locators, sized, told_about, too_big_out};
use crate::case::Case;
use crate::cases::common::{ip, locator};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const LEARNS: Req = Req::new("rfc6830-5.4.2-learn-mtu");
const REPORTS: Req = Req::new("rfc6830-5.4.2-report-mtu");

/// Another locator, of r2: nobody complains about its path.
const OTHER: u8 = 62;
/// What the core says that its path carries.
const PATH: u32 = 1400;
/// The host of each remote subnet that gets large packets.
const LARGE: u8 = 100;
/// Family of the locator, EID, and octets that fit into 1500 and not into [`PATH`].
const LEARNED: [(IpAddr, u8, usize, u32); 2] = [
    (eid(OVER_V4, LARGE), OVER_V4, 1450, PATH - 36),
    (eid(OVER_V6, LARGE), OVER_V6, 1400, PATH - 56),
];

inventory::submit! {
    Case {
        id: "rfc6830::s5_4_2::a_smaller_path_is_learned_and_told",
        title: "After the core says 1400 for a locator's path, sources hear 1364 (IPv4 locator) or 1344 (IPv6 locator); other locators are not concerned.",
        topology: TOPOLOGY,
        start: false,
        roles: &["itr"],
        features: &["mtu-stateful"],
        requirements: &[LEARNS, REPORTS],
        drive,
        judges: &[judge],
        sabotages: &[
            sabotage("does not hear the core", &[LEARNS, REPORTS], || Box::new(|way, frame| {
                let told = frame.ip().is_some_and(|ip| ip.icmp().is_some_and(crate::decode::Icmp::is_too_big));
                if way == Way::ToVictim && told { PacketFate::Drop } else { PacketFate::Forward }
            })),
            sabotage("takes it for all locators", &[LEARNS], || Box::new(|way, frame| {
                let to_other = frame.ip().is_some_and(|ip| ip.destination == R[1] && ip.bytes.len() > PATH as usize);
                if way == Way::FromVictim && to_other { PacketFate::Drop } else { PacketFate::Forward }
            })),
            Sabotage {
                name: "forgets its own headers",
                node: ITR,
                links: &["site"],
                kills: &[REPORTS],
                tamper: || too_big_out(|message| {
                    let at = if message[0] == 2 { 4..8 } else { 6..8 };
                    let mtu = &PATH.to_be_bytes()[4 - at.len()..];
                    message[at].copy_from_slice(mtu);
                    PacketFate::Forward
                }),
            },
        ],
        ..Case::BASE
    }
}

/// "Fragmentation needed" or "packet too big" of a router further in about a packet of the ITR.
fn complaint(about: &[u8], mtu: u32) -> Vec<u8> {
    let v4 = about[0] >> 4 == 4;
    // As much as RFC 792 asks for; as much as fits into 1280 octets (RFC 4443 2.4).
    let quoted = if v4 {
        &about[..28]
    } else {
        &about[..about.len().min(1280 - 48)]
    };
    let mut message = if v4 {
        vec![3, 4, 0, 0]
    } else {
        vec![2, 0, 0, 0]
    };
    message.extend(mtu.to_be_bytes());
    message.extend(quoted);
    let (from, to, protocol) = if v4 {
        (ip("203.0.113.1"), RLOC, 1)
    } else {
        (ip("2001:db8:113::1"), RLOC6, 58)
    };
    icmp_packet(from, to, protocol, message)
}

/// An ICMP or ICMPv6 message (from its type on) with its checksum, in an IP packet.
pub(super) fn icmp_packet(from: IpAddr, to: IpAddr, protocol: u8, mut message: Vec<u8>) -> Vec<u8> {
    let sum = match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut covered = [from.octets(), to.octets()].concat();
            covered.extend((message.len() as u32).to_be_bytes());
            covered.extend([0, 0, 0, protocol]);
            covered.extend(&message);
            lisp::ip::checksum(&covered)
        }
        _ => lisp::ip::checksum(&message),
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    IpHeader::new(from, to, 64, protocol).emit(&message)
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, |asked, subnet| match subnet {
        OTHER => vec![locator(&R[1].to_string(), 1, 100)],
        subnet => locators(asked, subnet),
    })?;
    net.resolve(drive, &[eid(OVER_V4, 9), eid(OVER_V6, 9), eid(OTHER, 9)])?;
    for (to, subnet, octets, _) in LEARNED {
        let begin = drive.mark(&format!("large packets to {to}"));
        net.send(&sized(to, octets))?;
        let large = drive.wait_for(begin, "a large packet on the core", SOON, |packet| {
            packet.sender() == Some(ITR)
                && packet
                    .data()
                    .is_some_and(|(_, inner)| inner.destination == to)
        })?;
        drive.mark(&format!("the core complains about {to}"));
        let about = large.ip().map(|ip| ip.bytes.clone()).unwrap_or_default();
        net.remotes[usize::from(subnet == OVER_V6)].send(&complaint(&about, PATH))?;
        // The ITR's packets and the core's errors take two ways into it: large packets go on until one is refused.
        for attempt in 0..40 {
            net.send(&sized(to, octets))?;
            let heard = drive.wait_for(
                begin,
                "the host hears of the size",
                Duration::from_millis(100),
                |packet| {
                    packet.receiver() == Some("site")
                        && packet.ip().is_some_and(|ip| {
                            ip.icmp().is_some_and(crate::decode::Icmp::is_too_big)
                        })
                },
            );
            match heard {
                Ok(_) => break,
                Err(stop) if attempt == 39 => return Err(stop),
                Err(_) => {}
            }
        }
    }
    drive.mark("another locator");
    net.send(&sized(eid(OTHER, LARGE), 1450))?;
    net.fence(drive)
}

fn judge(trace: &Trace, findings: &mut Findings) {
    for (to, _, octets, expected) in LEARNED {
        let complained = format!("the core complains about {to}");
        let heard = trace.since(&complained).find(|packet| {
            packet.receiver() == Some(ITR)
                && packet
                    .ip()
                    .is_some_and(|ip| ip.icmp().is_some_and(crate::decode::Icmp::is_too_big))
        });
        let Some(heard) = heard else {
            findings.unseen(
                LEARNS,
                format!("the core's complaint about a packet to {to}"),
            );
            continue;
        };
        let Some((told, mtu)) = told_about(trace, to) else {
            let seen = "the host heard nothing".to_owned();
            findings.broken(
                LEARNS,
                heard,
                format!("{octets} octets to {to} refused"),
                &seen,
            );
            findings.broken(REPORTS, heard, format!("{expected} told to the host"), seen);
            continue;
        };
        findings.check(
            REPORTS,
            mtu == expected,
            [heard, told],
            format!("{expected}: {PATH} less the headers"),
            mtu.to_string(),
        );
        let after = trace.iter().find(|packet| {
            packet.time_ns() > told.time_ns()
                && packet.sender() == Some(ITR)
                && packet
                    .data()
                    .is_some_and(|(_, inner)| inner.destination == to)
        });
        match after {
            Some(packet) => findings.broken(
                LEARNS,
                [heard, packet],
                format!("{octets} octets refused"),
                packet.summary(),
            ),
            None => findings.met(
                LEARNS,
                [heard, told],
                format!("{octets} octets to {to} refused"),
            ),
        }
    }
    let to = eid(OTHER, LARGE);
    let carried: Vec<&Seen> = trace
        .since("another locator")
        .filter(|packet| {
            packet.sender() == Some(ITR)
                && packet
                    .data()
                    .is_some_and(|(_, inner)| inner.destination == to)
        })
        .collect();
    let expected = format!("1450 octets carried to {}", R[1]);
    findings.check(
        LEARNS,
        carried.len() == 1,
        &carried,
        expected,
        format!("{} packets", carried.len()),
    );
}
