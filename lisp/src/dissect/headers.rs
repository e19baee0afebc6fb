//! Ethernet, IP, UDP and LISP data headers, and which of them holds what.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::messages;
use super::walk::{Leaf, Show, Walk, Walked, hex};
use super::{Kind, Note};
use crate::error::DecodeError;
use crate::ip::field::{udp, v4, v6};
use crate::ip::{
    IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpHeader, IpPacket, PROTOCOL_UDP, UDP_HEADER_LEN, UdpDatagram,
};
use crate::packet::{self, Carried};
use crate::wire::DataHeader;
use crate::wire::bits::Bits;
use crate::wire::data::{DATA_HEADER_LEN, field as data_field};

pub(super) const ETHERNET: &str = "IEEE 802.3";
pub(super) const IP: &str = "RFC 791, RFC 8200";
const IPV4: &str = "RFC 791 3.1";
const IPV6: &str = "RFC 8200 3";
const UDP: &str = "RFC 768";
pub(super) const DATA: &str = "RFC 6830 5.3";

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
/// A frame is padded up to this, its check sequence not counted (IEEE 802.3).
const SHORTEST_FRAME: usize = 60;

/// An Ethernet frame with an IP packet.
pub(super) fn ethernet(walk: &mut Walk<'_>) -> String {
    let kind = walk.group("Ethernet header", ETHERNET, ethernet_header, |kind| {
        format!("type {kind:#06x}")
    });
    let Ok(kind) = kind else {
        walk.errors.push(DecodeError {
            message: "Ethernet header",
            field: "fixed part",
            offset: walk.at,
            expected: "14 octets, 18 with a VLAN tag".into(),
            found: format!("{} octets", walk.buffer.len()),
        });
        return "Ethernet".into();
    };
    if kind != ETHERTYPE_IPV4 && kind != ETHERTYPE_IPV6 {
        walk.errors.push(DecodeError {
            message: "Ethernet header",
            field: "EtherType",
            offset: walk.at - 2,
            expected: "0x0800 (IPv4) or 0x86dd (IPv6)".into(),
            found: format!("{kind:#06x}"),
        });
        walk.leftover("payload");
        return format!("Ethernet, type {kind:#06x}");
    }
    let len = crate::ip::total_len(walk.rest()).filter(|_| walk.end <= SHORTEST_FRAME);
    let summary = match len {
        Some(len) => walk.within(len, ip_packet),
        None => ip_packet(walk),
    };
    walk.leftover("padding");
    summary
}

fn ethernet_header(walk: &mut Walk<'_>) -> Walked<u16> {
    walk.octets("Destination", 6, hex)?;
    walk.octets("Source", 6, hex)?;
    let kind: Leaf = (Bits::new("EtherType", 0, 16), Show::Hex);
    let octets = walk.fixed(2, &[kind])?;
    let mut found = u16::from_be_bytes([octets[0], octets[1]]);
    if found == ETHERTYPE_VLAN {
        let tag: Leaf = (Bits::new("VLAN tag", 0, 16), Show::Hex);
        let octets = walk.fixed(4, &[tag, (Bits::new("EtherType", 16, 16), Show::Hex)])?;
        found = u16::from_be_bytes([octets[2], octets[3]]);
    }
    Ok(found)
}

/// A packet that should be LISP, up to the end of the current structure.
pub(super) fn ip_packet(walk: &mut Walk<'_>) -> String {
    packet(walk, 0)
}

/// The packet inside an Encapsulated Control Message.
pub(super) fn encapsulated_packet(walk: &mut Walk<'_>, depth: usize) -> String {
    packet(walk, depth)
}

fn packet(walk: &mut Walk<'_>, depth: usize) -> String {
    let prefix = if depth == 0 { "" } else { "Inner " };
    let Some(packet) = ip_header(walk, prefix) else {
        walk.leftover("undecoded octets");
        return "no IP packet".into();
    };
    let header_len = packet.header.len();
    let at = walk.at - header_len;
    let addresses = format!(
        "{} > {}",
        packet.header.source(),
        packet.header.destination()
    );
    let summary = walk.within(packet.payload.len(), |walk| {
        let mut errors = Vec::new();
        let datagram = UdpDatagram::inspect(&packet, &mut errors);
        if packet.header.protocol() == PROTOCOL_UDP && !packet.is_fragment() {
            udp_header(walk, prefix, &errors);
        }
        walk.errors
            .extend(errors.into_iter().map(|error| error.shifted(at)));
        match datagram {
            Some(datagram) => walk.within(datagram.payload.len(), |walk| {
                payload(walk, &packet, &datagram, depth)
            }),
            None => {
                walk.leftover("payload");
                format!("protocol {}", packet.header.protocol())
            }
        }
    });
    walk.leftover("trailing octets");
    format!("{addresses} {summary}")
}

fn payload(
    walk: &mut Walk<'_>,
    ip: &IpPacket<'_>,
    datagram: &UdpDatagram<'_>,
    depth: usize,
) -> String {
    let udp_at = walk.at - UDP_HEADER_LEN;
    let carried = packet::carried(datagram, depth);
    let control = |walk: &mut Walk<'_>| {
        if datagram.zero_checksum {
            walk.notes.push(Note {
                offset: udp_at + 6,
                text: "the UDP checksum is zero; a control message has one".into(),
                section: if depth == 0 {
                    "RFC 6830 6.1"
                } else {
                    "RFC 6830 6.1.8"
                },
            });
        }
        messages::control(walk, depth)
    };
    match carried {
        Ok(Carried::Data) => {
            walk.kind = Kind::Data;
            if datagram.zero_checksum && matches!(ip.header, IpHeader::V6(_)) {
                walk.notes.push(Note {
                    offset: udp_at + 6,
                    text: "the UDP checksum over IPv6 is zero, which a tunnel may send".into(),
                    section: "RFC 6935 5",
                });
            }
            data(walk)
        }
        Ok(Carried::Control) => {
            if depth == 0 {
                walk.kind = Kind::Control;
            }
            control(walk)
        }
        Err(error) => {
            walk.errors.push(error.shifted(udp_at));
            walk.leftover("payload");
            format!(
                "UDP {} > {}",
                datagram.source_port, datagram.destination_port
            )
        }
    }
}

fn dscp(value: u64) -> String {
    match value {
        46 => "46 (EF)".into(),
        value => value.to_string(),
    }
}

fn ecn(value: u64) -> String {
    let name = ["Not-ECT", "ECT(1)", "ECT(0)", "CE"][(value & 3) as usize];
    format!("{value} ({name})")
}

fn protocol(value: u64) -> String {
    let name = match value {
        0 => "hop-by-hop options",
        1 => "ICMP",
        4 => "IPv4",
        6 => "TCP",
        17 => "UDP",
        41 => "IPv6",
        43 => "routing header",
        44 => "fragment header",
        51 => "authentication header",
        58 => "ICMPv6",
        60 => "destination options",
        103 => "PIM",
        _ => return value.to_string(),
    };
    format!("{value} ({name})")
}

fn ipv4_address(value: u64) -> String {
    Ipv4Addr::from(value as u32).to_string()
}

/// Shows an IP header and what is wrong with it; `None` when no payload can be told.
fn ip_header<'a>(walk: &mut Walk<'a>, prefix: &str) -> Option<IpPacket<'a>> {
    let at = walk.at;
    let octets = walk.rest();
    let mut errors = Vec::new();
    let packet = IpPacket::inspect(octets, &mut errors);
    let header_len = packet.as_ref().map_or(0, |packet| packet.header.len());
    let version = octets.first().map(|octet| octet >> 4);
    let shown = match version {
        Some(4) => walk.group(
            format!("{prefix}IPv4 header"),
            IPV4,
            |walk| ipv4_header(walk, header_len, &errors),
            String::clone,
        ),
        Some(6) => walk.group(
            format!("{prefix}IPv6 header"),
            IPV6,
            |walk| ipv6_header(walk, header_len),
            String::clone,
        ),
        _ => Ok(String::new()),
    };
    walk.errors
        .extend(errors.into_iter().map(|error| error.shifted(at)));
    shown.ok().and(packet)
}

fn ipv4_header(walk: &mut Walk<'_>, len: usize, errors: &[DecodeError]) -> Walked<String> {
    let fixed = walk.fixed(
        IPV4_HEADER_LEN,
        &[
            (v4::VERSION, Show::Number),
            (v4::IHL, Show::Number),
            (v4::DSCP, Show::With(dscp)),
            (v4::ECN, Show::With(ecn)),
            (v4::TOTAL_LENGTH, Show::Number),
            (v4::IDENTIFICATION, Show::Hex),
            (v4::RESERVED, Show::Flag),
            (v4::DF, Show::Flag),
            (v4::MF, Show::Flag),
            (v4::FRAGMENT_OFFSET, Show::Number),
            (v4::TTL, Show::Number),
            (v4::PROTOCOL, Show::With(protocol)),
            (v4::CHECKSUM, Show::Hex),
            (v4::SOURCE, Show::With(ipv4_address)),
            (v4::DESTINATION, Show::With(ipv4_address)),
        ],
    )?;
    show_checksum(walk, v4::CHECKSUM, errors, false);
    let options = len.saturating_sub(IPV4_HEADER_LEN);
    walk.octets("Options", options, hex)?;
    Ok(format!(
        "{} > {}",
        ipv4_address(v4::SOURCE.get(fixed)),
        ipv4_address(v4::DESTINATION.get(fixed))
    ))
}

fn ipv6_header(walk: &mut Walk<'_>, len: usize) -> Walked<String> {
    walk.fixed(
        8,
        &[
            (v6::VERSION, Show::Number),
            (v6::DSCP, Show::With(dscp)),
            (v6::ECN, Show::With(ecn)),
            (v6::FLOW_LABEL, Show::Hex),
            (v6::PAYLOAD_LENGTH, Show::Number),
            (v6::NEXT_HEADER, Show::With(protocol)),
            (v6::HOP_LIMIT, Show::Number),
        ],
    )?;
    let address = |octets: &[u8]| {
        <[u8; 16]>::try_from(octets)
            .map_or_else(|_| hex(octets), |octets| Ipv6Addr::from(octets).to_string())
    };
    let source = walk.octets(v6::SOURCE.name, 16, address)?;
    let destination = walk.octets(v6::DESTINATION.name, 16, address)?;
    walk.octets(
        "Extension headers",
        len.saturating_sub(IPV6_HEADER_LEN),
        hex,
    )?;
    Ok(format!("{} > {}", address(source), address(destination)))
}

fn udp_header(walk: &mut Walk<'_>, prefix: &str, errors: &[DecodeError]) {
    let zero = walk.rest().get(6..8) == Some(&[0, 0]);
    let body = |walk: &mut Walk<'_>| {
        let fixed = walk.fixed(
            UDP_HEADER_LEN,
            &[
                (udp::SOURCE_PORT, Show::Number),
                (udp::DESTINATION_PORT, Show::Number),
                (udp::LENGTH, Show::Number),
                (udp::CHECKSUM, Show::Hex),
            ],
        )?;
        show_checksum(walk, udp::CHECKSUM, errors, zero);
        Ok((
            udp::SOURCE_PORT.get(fixed),
            udp::DESTINATION_PORT.get(fixed),
        ))
    };
    let name = format!("{prefix}UDP header");
    // The codec's error says what a cut header lacks.
    let _walked = walk.group(name, UDP, body, |(source, destination)| {
        format!("{source} > {destination}")
    });
}

/// Adds the outcome of the check to the checksum that was just shown.
fn show_checksum(walk: &mut Walk<'_>, checksum: Bits, errors: &[DecodeError], zero: bool) {
    let wrong = errors.iter().find(|error| error.field == checksum.name);
    let verdict = match (zero, wrong, errors.is_empty()) {
        (true, ..) => "none computed".to_owned(),
        (_, Some(error), _) => format!("wrong, expected {}", error.expected),
        (_, None, true) => "correct".to_owned(),
        (_, None, false) => "not checked".to_owned(),
    };
    if let Some(field) = walk
        .fields
        .iter_mut()
        .rev()
        .find(|field| field.name == checksum.name)
    {
        field.value = format!("{} ({verdict})", field.value);
    }
}

/// A LISP data header and the packet behind it.
pub(super) fn data(walk: &mut Walk<'_>) -> String {
    let at = walk.at;
    let header = match DataHeader::parse(walk.rest()) {
        Ok(header) => header,
        Err(error) => {
            walk.errors.push(error.shifted(at));
            walk.leftover("cut off");
            return "LISP data".into();
        }
    };
    let leaves = data_leaves(&header);
    note_data(walk, &header);
    let summary = data_summary(&header);
    let shown = summary.clone();
    let _whole = walk.group(
        "LISP data header",
        DATA,
        |walk| walk.fixed(DATA_HEADER_LEN, &leaves),
        |_| shown,
    );
    let inner = walk.group(
        "Inner packet",
        "RFC 6830 5.1",
        |walk| {
            let packet = ip_header(walk, "Inner ");
            let Some(packet) = packet else {
                walk.leftover("undecoded octets");
                return Ok("undecodable".to_owned());
            };
            let name = protocol(packet.header.protocol().into());
            let len = packet.payload.len();
            walk.octets("Payload", len, |_| format!("{name}, {len} octets"))?;
            walk.leftover("trailing octets");
            Ok(format!(
                "{} > {}, {name}",
                packet.header.source(),
                packet.header.destination()
            ))
        },
        String::clone,
    );
    match inner {
        Ok(inner) => format!("{summary}: {inner}"),
        Err(_) => summary,
    }
}

/// Which flags of a data header are set, and their fields.
pub(super) fn data_summary(header: &DataHeader) -> String {
    let mut parts = vec!["LISP data".to_owned()];
    parts.extend(header.nonce.map(|nonce| format!("nonce {nonce:#08x}")));
    parts.extend(header.echo_request.then(|| "echo request".to_owned()));
    parts.extend(
        header
            .locator_status
            .map(|status| format!("LSBs {status:#x}")),
    );
    parts.extend(
        header
            .map_version
            .map(|(source, destination)| format!("map-versions {source}, {destination}")),
    );
    parts.extend(header.instance_id.map(|iid| format!("Instance ID {iid}")));
    parts.join(", ")
}

fn data_leaves(header: &DataHeader) -> Vec<Leaf> {
    use data_field as field;
    let mut leaves = vec![
        (field::N, Show::Flag),
        (field::L, Show::Flag),
        (field::E, Show::Flag),
        (field::V, Show::Flag),
        (field::I, Show::Flag),
        (field::FLAGS, Show::Hex),
    ];
    match (header.nonce, header.map_version) {
        (Some(_), _) => leaves.push((field::NONCE, Show::Hex)),
        (None, Some(_)) => {
            leaves.extend([
                (field::SOURCE_VERSION, Show::Number),
                (field::DEST_VERSION, Show::Number),
            ]);
        }
        (None, None) => leaves.push((field::UNUSED_NONCE, Show::Hex)),
    }
    match (header.instance_id, header.locator_status) {
        (Some(_), Some(_)) => leaves.extend([
            (field::INSTANCE_ID, Show::Number),
            (field::LSBS_8, Show::Hex),
        ]),
        (Some(_), None) => leaves.extend([
            (field::INSTANCE_ID, Show::Number),
            (field::UNUSED_LSBS_8, Show::Hex),
        ]),
        (None, Some(_)) => leaves.push((field::LSBS, Show::Hex)),
        (None, None) => leaves.push((field::UNUSED_LSBS, Show::Hex)),
    }
    leaves
}

fn note_data(walk: &mut Walk<'_>, header: &DataHeader) {
    if header.nonce.is_some() && header.map_version.is_some() {
        walk.note(
            0,
            DATA,
            "N and V are both set, which is illegal to send; a receiver takes the field as a nonce",
        );
    }
    if header.echo_request && header.nonce.is_none() {
        walk.note(0, DATA, "E is set without N, and is ignored");
    }
    if header.flags != 0 {
        walk.note(
            0,
            "RFC 6830 5.3, RFC 9300 5.3",
            "the low three flags are set: reserved in RFC 6830, R and KK (encryption) in RFC 9300",
        );
    }
}
