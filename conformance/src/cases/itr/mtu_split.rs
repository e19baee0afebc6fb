//! Packets without DF that do not fit: two halves, each encapsulated by itself (RFC 6830 5.4.1).

use std::net::IpAddr;

use harness::inline::{PacketFate, Way};

use super::flows_net::*;
use super::mtu::{OVER_V4, OVER_V6, locators};
use crate::case::Case;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Tamper;
use crate::trace::{Seen, Trace};
use crate::words;

const SPLIT: Req = Req::new("rfc6830-5.4.1-split-two");

const L: usize = 1500;
/// Size and identification of the packets that are sent without DF, by the remote subnet; 1500 octets give halves of 744
/// and 736 octets behind their headers.
const PACKETS: [(u8, usize, u16); 4] = [
    (OVER_V4, 1500, 0x4711),
    (OVER_V4, 1466, 0x4712),
    (OVER_V6, 1500, 0x4713),
    (OVER_V6, 1446, 0x4714),
];

inventory::submit! {
    Case {
        id: "rfc6830::s5_4_1::without_df_a_packet_is_split_in_two",
        title: "An IPv4 packet without DF that does not fit leaves as two fragments of equal size (744 + 736 for 1500), each in an outer packet of its own that is no fragment.",
        topology: TOPOLOGY,
        settings: ONE_BY_ONE,
        start: false,
        roles: &["itr"],
        features: &["mtu-stateless"],
        requirements: &[SPLIT],
        drive: |drive| {
            let net = Net::up(drive, locators)?;
            net.resolve(drive, &[eid(OVER_V4, 9), eid(OVER_V6, 9)])?;
            send(drive, &net)
        },
        judges: &[judge],
        sabotages: &[
            sabotage("loses the second half", &[SPLIT], || halves(|inner| {
                if inner[6] & 0x20 == 0 { PacketFate::Drop } else { PacketFate::Forward }
            })),
            sabotage("forgets that more follows", &[SPLIT], || halves(|inner| {
                inner[6] &= !0x20;
                PacketFate::Forward
            })),
            sabotage("gives the halves other identifications", &[SPLIT], || halves(|inner| {
                inner[5] ^= inner[7];
                PacketFate::Forward
            })),
            sabotage("a gap between the halves", &[SPLIT], || halves(|inner| {
                if inner[7] != 0 { inner[7] += 1 }
                PacketFate::Forward
            })),
        ],
        ..Case::BASE
    }
}

/// Changes or swallows inner fragments on their way out; their header checksums follow.
fn halves(change: fn(&mut [u8]) -> PacketFate) -> Tamper {
    Box::new(move |way, frame| {
        let mut fate = PacketFate::Forward;
        if way == Way::FromVictim {
            frame.edit_data(|_, inner| {
                let fragment = inner[0] >> 4 == 4 && (inner[6] & 0x3f, inner[7]) != (0, 0);
                if fragment {
                    fate = change(inner);
                    inner[10..12].fill(0);
                    let sum = lisp::ip::checksum(&inner[..20]);
                    inner[10..12].copy_from_slice(&sum.to_be_bytes());
                }
                fragment
            });
        }
        fate
    })
}

fn send(drive: &Drive<'_>, net: &Net) -> Result<(), Stop> {
    drive.mark("sizes");
    for (host, (subnet, octets, identification)) in (100..).zip(PACKETS) {
        let mut packet = udp_from_host(eid(subnet, host), FIRST_PORT, FLOW_PORT, 64, octets - 28);
        packet[4..6].copy_from_slice(&identification.to_be_bytes());
        packet[6..8].fill(0);
        net.send(&packet)?;
    }
    net.fence(drive)
}

/// Place and content of a fragment.
struct Half<'t> {
    packet: &'t Seen,
    offset: usize,
    more: bool,
    content: &'t [u8],
}

fn judge(trace: &Trace, findings: &mut Findings) {
    for (host, (subnet, octets, identification)) in (100..).zip(PACKETS) {
        let to: IpAddr = eid(subnet, host);
        let sent = trace
            .since("sizes")
            .find(|packet| packet.receiver() == Some(ITR) && packet.destination() == Some(to));
        let Some((sent, whole)) = sent.and_then(|packet| Some((packet, packet.ip()?))) else {
            findings.unseen(SPLIT, format!("{octets} octets to {to} without DF"));
            continue;
        };
        let halves: Vec<Half<'_>> = trace
            .since("sizes")
            .filter(|packet| packet.sender() == Some(ITR))
            .filter_map(|packet| {
                let (_, inner) = packet.data()?;
                let word = u16::from_be_bytes([inner.bytes[6], inner.bytes[7]]);
                (inner.destination == to).then_some(Half {
                    packet,
                    offset: usize::from(word & 0x1fff) * 8,
                    more: word & 0x2000 != 0,
                    content: &inner.bytes[20..],
                })
            })
            .collect();
        let problem = problem(&whole.bytes[20..], identification, &halves);
        let evidence: Vec<&Seen> = [sent]
            .into_iter()
            .chain(halves.iter().map(|h| h.packet))
            .collect();
        let sizes: Vec<usize> = halves.iter().map(|half| half.content.len()).collect();
        findings.check(
            SPLIT,
            problem.is_none(),
            &evidence,
            format!("{octets} octets to {to} in two equal fragments (to 8 octets), each outer packet whole and at most {L} octets"),
            match problem {
                None => format!("fragments of {} octets", words::listed(sizes)),
                Some(problem) => format!("fragments of {} octets: {problem}", words::listed(sizes)),
            },
        );
    }
}

fn problem(whole: &[u8], identification: u16, halves: &[Half<'_>]) -> Option<String> {
    let [first, second] = halves else {
        return Some(format!("{} data packets", halves.len()));
    };
    for half in halves {
        let (outer, (_, inner)) = (half.packet.ip()?, half.packet.data()?);
        if outer.fragment || outer.bytes.len() > L {
            return Some(format!("an outer packet of {} octets", outer.bytes.len()));
        }
        if inner.bytes[4..6] != identification.to_be_bytes() || !inner.header_checksum_ok {
            return Some("another identification or a wrong checksum".to_owned());
        }
    }
    if first.offset != 0 || !first.more || second.more || second.offset != first.content.len() {
        return Some(format!(
            "the second begins at {}, MF = {} in the first and {} in the second",
            second.offset,
            u8::from(first.more),
            u8::from(second.more)
        ));
    }
    // Offsets count in units of 8 octets.
    if first.content.len().abs_diff(second.content.len()) > 8 {
        return Some("not equal".to_owned());
    }
    (whole != [first.content, second.content].concat())
        .then(|| "not the octets that were sent".to_owned())
}
