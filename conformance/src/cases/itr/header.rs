//! The LISP header that an ITR writes: unused bits, Instance ID, nonces (RFC 6830 5.3, 5.5; RFC 9300 5.3).

use std::net::IpAddr;
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::wire::DataHeader;

use super::flows_net::*;
use super::locators::remote;
use crate::case::Case;
use crate::cases::common::seconds;
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Tamper;
use crate::trace::{Seen, Trace};
use crate::words;

const NV0: Req = Req::new("rfc9300-5.3-nv0-zero");
const KK: Req = Req::new("rfc9300-5.3-kk-zero");
const IID_FORMAT: Req = Req::new("rfc6830-5.3-i-bit-format");
const IID_STATUS: Req = Req::new("rfc6830-5.3-i-lsb-zero");
const IID_ENCAP: Req = Req::new("rfc6830-5.5-iid-encap");
const PER_RLOC: Req = Req::new("rfc6830-5.3-nonce-per-dst");

const SUBNET: u8 = 50;
const OTHER_SUBNET: u8 = 51;
const SEQUENCE: u16 = 501;

inventory::submit! {
    Case {
        id: "rfc9300::s5_3::unused_bits_are_zero_and_passed_over",
        title: "Without N and V the nonce field is sent as zero and ignored on receipt; KK is 00.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc9300],
        settings: ONE_BY_ONE,
        start: false,
        roles: &["itr", "etr"],
        requirements: &[NV0, KK],
        drive: |drive| {
            let net = Net::up(drive, locators)?;
            net.resolve(drive, &[eid(SUBNET, 10)])?;
            let packets: Vec<_> = (0..10).map(|number| flow(eid(SUBNET, 10), FIRST_PORT + number)).collect();
            net.bursts(drive, &packets)?;
            let header = DataHeader { raw_nonce: 0xabcdef, ..DataHeader::default() };
            let echo = Echo::new(eid(SUBNET, 10), HOST, SEQUENCE).reply();
            let begin = drive.mark("a nonce field without N and V");
            net.remotes[0].data((R[0], 61_001), RLOC, &header, &echo)?;
            drive.wait_for(begin, "the inner packet at the host", SOON, is_delivered)?;
            Ok(())
        },
        judges: &[unused_bits],
        sabotages: &[
            sabotage("old octets in the nonce field", &[NV0], || lisp_header(|header| header.raw_nonce = 0x00beef)),
            sabotage("KK 01", &[KK], || lisp_header(|header| header.flags = 1)),
            sabotage("drops what has a nonce field without N and V", &[NV0], || Box::new(|way, frame| {
                let lost = way == Way::ToVictim
                    && frame.ip().is_some_and(|ip| matches!(
                        crate::decode::lisp(&ip),
                        crate::decode::Lisp::Data { header, .. } if header.raw_nonce != 0
                    ));
                if lost { PacketFate::Drop } else { PacketFate::Forward }
            })),
        ],
        ..Case::BASE
    }
}

fn locators(_: lisp::EidPrefix, subnet: u8) -> Vec<lisp::wire::Locator> {
    match subnet {
        SUBNET => vec![remote(0, 1, 100)],
        OTHER_SUBNET => vec![remote(1, 1, 100)],
        _ => Vec::new(),
    }
}

fn is_delivered(packet: &Seen) -> bool {
    let echo = |ip: &crate::decode::Ip| {
        ip.icmp()
            .is_some_and(|icmp| icmp.is_echo_reply() && icmp.echo().1 == SEQUENCE)
    };
    packet.sender() == Some(ITR)
        && packet.receiver() == Some("site")
        && packet.ip().is_some_and(echo)
}

/// Changes the LISP header of data packets on their way out.
fn lisp_header(change: fn(&mut DataHeader)) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim {
            frame.edit_data(|header, _| {
                change(header);
                true
            });
        }
        PacketFate::Forward
    })
}

fn unused_bits(trace: &Trace, findings: &mut Findings) {
    let data: Vec<&Seen> = flows(trace).collect();
    let show: Vec<&Seen> = data.iter().copied().take(4).collect();
    if data.is_empty() {
        findings.broken(KK, Vec::new(), "data packets", "none");
        findings.broken(NV0, Vec::new(), "data packets", "none");
        return;
    }
    let header = |packet: &Seen| packet.data().map(|(header, _)| *header).unwrap_or_default();
    let keyed = data
        .iter()
        .copied()
        .find(|packet| header(packet).flags & 3 != 0);
    findings.check(
        KK,
        keyed.is_none(),
        &keyed.map_or(show.clone(), |packet| vec![packet]),
        "KK 00",
        keyed.map_or("KK 00".to_owned(), |packet| {
            format!("KK {:02b}", header(packet).flags & 3)
        }),
    );
    let dirty = data
        .iter()
        .copied()
        .find(|packet| header(packet).raw_nonce != 0);
    findings.check(
        NV0,
        dirty.is_none(),
        &dirty.map_or(show, |packet| vec![packet]),
        "nonce field 0 without N and V",
        dirty.map_or("0".to_owned(), |packet| {
            format!("{:#08x}", header(packet).raw_nonce)
        }),
    );
    let sent = trace
        .since("a nonce field without N and V")
        .find(|packet| packet.receiver() == Some(ITR) && packet.data().is_some());
    let out = trace
        .since("a nonce field without N and V")
        .find(|packet| is_delivered(packet));
    match (sent, out) {
        (None, _) => findings.unseen(NV0, "a packet with a nonce field without N and V"),
        (Some(sent), Some(out)) => findings.met(NV0, [sent, out], "delivered"),
        (Some(sent), None) => {
            findings.broken(NV0, sent, "delivery to the host", "nothing came out")
        }
    }
}

/// An Instance ID with a value of its own in each of its three octets.
const INSTANCE: u32 = 0x01_23_45;

inventory::submit! {
    Case {
        id: "rfc6830::s5_3::instance_id_fills_24_bits",
        title: "Data of a site in an Instance ID carries the I bit, the ID in the high 24 bits, and zero in the low octet while there are no status bits.",
        topology: TOPOLOGY,
        settings: &[(ITR, "{data-plane: {offload: false}, eid-prefixes: [{prefix: 10.1.0.0/24, instance-id: 74565, locators: [{address: 192.0.2.2, priority: 1, weight: 100}]}]}")],
        start: false,
        roles: &["itr"],
        features: &["instance-id"],
        requirements: &[IID_FORMAT, IID_STATUS, IID_ENCAP],
        drive: |drive| {
            let net = Net::up(drive, locators)?;
            net.resolve(drive, &[eid(SUBNET, 10)])?;
            let packets: Vec<_> = (0..10).map(|number| flow(eid(SUBNET, 10), FIRST_PORT + number)).collect();
            net.bursts(drive, &packets)
        },
        judges: &[instance],
        sabotages: &[
            sabotage("the Instance ID in the low octets", &[IID_FORMAT], || lisp_header(|header| {
                header.raw_lsb = INSTANCE & 0xff;
                header.instance_id = Some(INSTANCE >> 8);
            })),
            sabotage("something in the low octet", &[IID_STATUS], || lisp_header(|header| header.raw_lsb = 1)),
            sabotage("no Instance ID", &[IID_FORMAT, IID_ENCAP], || lisp_header(|header| header.instance_id = None)),
        ],
        ..Case::BASE
    }
}

fn instance(trace: &Trace, findings: &mut Findings) {
    let data: Vec<&Seen> = flows(trace).collect();
    if data.is_empty() {
        for requirement in [IID_FORMAT, IID_STATUS, IID_ENCAP] {
            findings.broken(requirement, Vec::new(), "data packets", "none");
        }
        return;
    }
    for packet in data {
        let octets = packet
            .udp()
            .and_then(|udp| udp.payload.first_chunk::<8>())
            .copied()
            .unwrap_or_default();
        let [flags, _, _, _, a, b, c, low] = octets;
        let found = u32::from_be_bytes([0, a, b, c]);
        let has_bit = flags & 0x08 != 0;
        findings.check(
            IID_ENCAP,
            has_bit,
            packet,
            "the I bit",
            format!("flags {flags:#010b}"),
        );
        findings.check(
            IID_FORMAT,
            has_bit && found == INSTANCE,
            packet,
            format!("I bit and Instance ID {INSTANCE:#08x} in the high 24 bits"),
            format!("flags {flags:#010b}, high 24 bits {found:#08x}"),
        );
        if flags & 0x40 == 0 {
            findings.check(
                IID_STATUS,
                low == 0,
                packet,
                "low octet 0",
                format!("{low:#04x}"),
            );
        }
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s5_3::nonces_differ_by_locator",
        title: "Packets to two locators that ask for an echo carry two nonces.",
        topology: TOPOLOGY,
        settings: &[(ITR, "echo-nonce: true")],
        start: false,
        timeout: seconds(60),
        roles: &["itr"],
        features: &["echo-nonce"],
        requirements: &[PER_RLOC],
        drive: nonces_drive,
        judges: &[nonces],
        sabotages: &[
            sabotage("one nonce for all", &[PER_RLOC], || lisp_header(|header| {
                if header.nonce.is_some() {
                    header.nonce = Some(0x00_5a_5a);
                }
            })),
            sabotage("no nonces", &[PER_RLOC], || lisp_header(|header| {
                header.nonce = None;
                header.echo_request = false;
            })),
        ],
        ..Case::BASE
    }
}

fn nonces_drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up_with(drive, locators, |reply| reply.echo_nonce = true)?;
    net.resolve(drive, &[eid(SUBNET, 10), eid(OTHER_SUBNET, 10)])?;
    let mut awaited = vec![(SUBNET, R[0]), (OTHER_SUBNET, R[1])];
    // How often an ITR asks is its own business: it is given something to send until it does, for half a minute.
    for _ in 0..150 {
        for subnet in [SUBNET, OTHER_SUBNET] {
            net.send(&flow(eid(subnet, 10), FIRST_PORT))?;
        }
        awaited.retain(|(_, to)| {
            let asks = |packet: &Seen| asks_for_echo(packet, *to).is_some();
            drive
                .wait_for(
                    0,
                    "a data packet that asks for an echo",
                    Duration::from_millis(200),
                    asks,
                )
                .is_err()
        });
        if awaited.is_empty() {
            return Ok(());
        }
    }
    Err(Stop::NotSeen(format!(
        "requests for an echo to {}",
        words::listed(awaited.iter().map(|(_, to)| to))
    )))
}

fn asks_for_echo(packet: &Seen, to: IpAddr) -> Option<u32> {
    let (header, _) = packet.data()?;
    let own = packet.sender() == Some(ITR) && packet.destination() == Some(to);
    header.nonce.filter(|_| own && header.echo_request)
}

fn nonces(trace: &Trace, findings: &mut Findings) {
    let first = |to| {
        trace
            .iter()
            .find_map(|packet| Some((packet, asks_for_echo(packet, to)?)))
    };
    match (first(R[0]), first(R[1])) {
        (Some((one, a)), Some((other, b))) => findings.check(
            PER_RLOC,
            a != b,
            [one, other],
            "two nonces (equal by chance once in 16 million)",
            format!("{a:#08x} to {}, {b:#08x} to {}", R[0], R[1]),
        ),
        _ => findings.broken(
            PER_RLOC,
            Vec::new(),
            "data with N and E to both locators",
            "none",
        ),
    }
}
