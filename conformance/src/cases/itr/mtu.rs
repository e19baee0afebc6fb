//! Packets that the locator's path does not carry whole, without any state: drop and tell, or split (RFC 6830 5, 5.4.1).

use std::net::IpAddr;

use harness::inline::{PacketFate, Way};
use lisp::ip::IpHeader;
use lisp::wire::Locator;

use super::flows_net::*;
use crate::case::Case;
use crate::cases::common::locator;
use crate::catalogue::Req;
use crate::decode::Ip;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};

const NO_FRAGMENT: Req = Req::new("rfc6830-5-no-frag-drop-icmp");
const A_SCHEME: Req = Req::new("rfc6830-5-support-mtu-scheme");
const DROP_AND_TELL: Req = Req::new("rfc6830-5.4.1-df-drop-icmp");
const OUTER_DF: Req = Req::new("rfc6830-5.4.1-outer-df");
const BETWEEN: Req = Req::new("rfc6830-5.4.1-s-versus-l");
const L_1500: Req = Req::new("rfc6830-5.4.1-l-1500");

pub(super) const OVER_V4: u8 = 60;
pub(super) const OVER_V6: u8 = 61;
/// L: what the path carries (RFC 6830 5.4.1).
const L: usize = 1500;
/// One router hop between the host and the encapsulation changes nothing but the TTL, so sizes are those of the host.
const SIZES: [Size; 4] = [Size::JustFits, Size::OneMore, Size::Between, Size::Full];

#[derive(Clone, Copy, PartialEq)]
enum Size {
    JustFits,
    OneMore,
    Between,
    Full,
}

impl Size {
    fn octets(self, limit: usize) -> usize {
        match self {
            Size::JustFits => limit,
            Size::OneMore => limit + 1,
            Size::Between => L - 20,
            Size::Full => L,
        }
    }
}

/// S of RFC 6830 5.4.1 by the locator's family: L less outer IP, UDP and LISP header.
const fn limit(subnet: u8) -> usize {
    L - if subnet == OVER_V4 { 36 } else { 56 }
}

/// Destination, number of the subnet and size of every packet of the case: each has a destination of its own, so that no
/// rate limit of ICMP errors explains silence.
fn packets() -> Vec<(IpAddr, u8, Size)> {
    let mut packets = Vec::new();
    for subnet in [OVER_V4, OVER_V6] {
        for (host, size) in (100..).zip(SIZES) {
            packets.push((eid(subnet, host), subnet, size));
            packets.push((eid6(subnet, host), subnet, size));
        }
    }
    packets
}

inventory::submit! {
    Case {
        id: "rfc6830::s5_4_1::what_does_not_fit_is_dropped_and_told",
        title: "With a core of 1500 octets, inner packets of 1464 (IPv4 locator) or 1444 (IPv6 locator) pass; larger ones with DF, or of IPv6, are dropped and the source is told that number.",
        topology: TOPOLOGY,
        settings: ONE_BY_ONE,
        start: false,
        roles: &["itr"],
        features: &["mtu"],
        requirements: &[NO_FRAGMENT, A_SCHEME, DROP_AND_TELL, OUTER_DF, BETWEEN, L_1500],
        drive,
        judges: &[told, outer_df],
        sabotages: &[
            Sabotage {
                name: "tells the size of the link",
                node: ITR,
                links: &["site"],
                kills: &[DROP_AND_TELL, BETWEEN],
                tamper: || too_big_out(|message| {
                    let at = if message[0] == 2 { 4..8 } else { 6..8 };
                    let mtu = &1500u32.to_be_bytes()[4 - at.len()..];
                    message[at].copy_from_slice(mtu);
                    PacketFate::Forward
                }),
            },
            Sabotage {
                name: "drops in silence",
                node: ITR,
                links: &["site"],
                kills: &[NO_FRAGMENT, A_SCHEME, DROP_AND_TELL],
                tamper: || too_big_out(|_| PacketFate::Drop),
            },
            sabotage("refuses what fits", &[L_1500], || Box::new(|way, frame| {
                let long = frame.ip().is_some_and(|ip| ip.bytes.len() >= L);
                if way == Way::FromVictim && long && is_data(frame) {
                    PacketFate::Drop
                } else {
                    PacketFate::Forward
                }
            })),
            sabotage("outer DF 0", &[OUTER_DF], || data_out(|_, header, _| {
                if let IpHeader::V4(header) = header {
                    header.fragment = 0;
                }
            })),
        ],
        ..Case::BASE
    }
}

/// Changes or swallows "fragmentation needed" and "packet too big" on their way to the site, given from the ICMP type on.
pub(super) fn too_big_out(change: fn(&mut [u8]) -> PacketFate) -> Tamper {
    Box::new(move |way, frame| {
        let ours = frame
            .ip()
            .is_some_and(|ip| ip.icmp().is_some_and(crate::decode::Icmp::is_too_big));
        if way != Way::FromVictim || !ours {
            return PacketFate::Forward;
        }
        let mut fate = PacketFate::Forward;
        frame.edit_ip(|header, message| {
            fate = change(message);
            message[2..4].fill(0);
            let sum = match (header.source(), header.destination()) {
                (IpAddr::V6(source), IpAddr::V6(destination)) => {
                    let mut covered = [source.octets(), destination.octets()].concat();
                    covered.extend((message.len() as u32).to_be_bytes());
                    covered.extend([0, 0, 0, 58]);
                    covered.extend(&*message);
                    lisp::ip::checksum(&covered)
                }
                _ => lisp::ip::checksum(message),
            };
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            true
        });
        fate
    })
}

/// The mappings of these cases.
pub(super) fn locators(_: lisp::EidPrefix, subnet: u8) -> Vec<Locator> {
    match subnet {
        OVER_V4 => vec![locator(&R[0].to_string(), 1, 100)],
        OVER_V6 => vec![locator(&R6[0].to_string(), 1, 100)],
        _ => Vec::new(),
    }
}

/// A packet of the site's host of so many octets in all; DF set in IPv4.
pub(super) fn sized(to: IpAddr, octets: usize) -> Vec<u8> {
    let headers = if to.is_ipv4() { 28 } else { 48 };
    let mut packet = udp_from_host(to, FIRST_PORT, FLOW_PORT, 64, octets - headers);
    if to.is_ipv4() {
        packet[6] = 0x40;
    }
    packet
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, locators)?;
    let mut eids = Vec::new();
    for subnet in [OVER_V4, OVER_V6] {
        eids.extend([eid(subnet, 9), eid6(subnet, 9)]);
    }
    net.resolve(drive, &eids)?;
    drive.mark("sizes");
    for (to, subnet, size) in packets() {
        net.send(&sized(to, size.octets(limit(subnet))))?;
    }
    net.fence(drive)
}

/// The too-big message that the site's host got about a packet to `to`.
pub(super) fn told_about(trace: &Trace, to: IpAddr) -> Option<(&Seen, u32)> {
    trace.received_by("site").find_map(|packet| {
        let icmp = packet.ip()?.icmp().filter(|icmp| icmp.is_too_big())?;
        let about = crate::decode::ip(&icmp.payload)?;
        (about.destination == to).then_some((packet, icmp.mtu()))
    })
}

fn told(trace: &Trace, findings: &mut Findings) {
    let mut schemes = true;
    for (to, subnet, size) in packets() {
        let octets = size.octets(limit(subnet));
        let what = format!("{octets} octets to {to}");
        let sent = trace
            .since("sizes")
            .find(|packet| packet.receiver() == Some(ITR) && packet.destination() == Some(to));
        let Some(sent) = sent else {
            findings.unseen(DROP_AND_TELL, what);
            continue;
        };
        let carried: Vec<&Seen> = trace
            .since("sizes")
            .filter(|packet| {
                packet.sender() == Some(ITR)
                    && packet
                        .data()
                        .is_some_and(|(_, inner)| inner.destination == to)
            })
            .collect();
        let told = told_about(trace, to);
        let evidence: Vec<&Seen> = [Some(sent), told.map(|(packet, _)| packet)]
            .into_iter()
            .flatten()
            .chain(carried.iter().copied())
            .collect();
        let said = match told {
            Some((_, mtu)) => format!("{what}: {} encapsulated, told {mtu}", carried.len()),
            None => format!("{what}: {} encapsulated, nothing told", carried.len()),
        };
        if size == Size::JustFits {
            let whole = carried.len() == 1 && carried.iter().all(|packet| is_whole(packet));
            let expected = format!("{what}: encapsulated in one packet of {L} octets");
            findings.check(L_1500, whole, &evidence, expected, said);
            continue;
        }
        let right =
            told.is_some_and(|(_, mtu)| mtu as usize == limit(subnet)) && carried.is_empty();
        let expected = format!("{what}: dropped, and the source told {}", limit(subnet));
        findings.check(DROP_AND_TELL, right, &evidence, &expected, &said);
        if size == Size::Between {
            findings.check(BETWEEN, right, &evidence, &expected, &said);
        }
        if size == Size::OneMore {
            let dropped = carried.is_empty();
            findings.check(
                L_1500,
                dropped,
                &evidence,
                format!("{what}: not carried"),
                &said,
            );
        }
        if size == Size::Full {
            // Either scheme of RFC 6830 5.4 ends here: a size that fits is told.
            schemes &= told.is_some_and(|(_, mtu)| mtu as usize <= limit(subnet));
        }
        if size == Size::Full && to.is_ipv4() {
            let holds = carried.is_empty() && told.is_some();
            findings.check(NO_FRAGMENT, holds, &evidence, &expected, &said);
        }
    }
    // RFC 6830 5: one of the two schemes of 5.4; this is the stateless one, which needs nothing from the core.
    let seen = if schemes {
        "as 5.4.1 says"
    } else {
        "not all as 5.4.1 says"
    };
    findings.check(
        A_SCHEME,
        schemes,
        Vec::new(),
        "the scheme of 5.4.1 or of 5.4.2",
        seen,
    );
}

fn is_whole(packet: &Seen) -> bool {
    packet
        .ip()
        .is_some_and(|ip| ip.bytes.len() == L && !ip.fragment)
}

fn outer_df(trace: &Trace, findings: &mut Findings) {
    let over_v4 = |ip: &Ip| ip.source.is_ipv4();
    let data: Vec<&Seen> = trace
        .originated(ITR)
        .filter(|packet| packet.data().is_some() && packet.ip().is_some_and(over_v4))
        .collect();
    let show: Vec<&Seen> = data.iter().copied().take(4).collect();
    match data
        .iter()
        .find(|packet| packet.ip().is_some_and(|ip| !ip.dont_fragment))
    {
        Some(packet) => findings.broken(OUTER_DF, *packet, "outer DF 1", "DF 0"),
        None if data.is_empty() => findings.unseen(OUTER_DF, "data over IPv4"),
        None => findings.met(OUTER_DF, &show, format!("DF 1 in {} packets", data.len())),
    }
}
