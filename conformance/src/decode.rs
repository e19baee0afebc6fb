//! What a captured packet says, read leniently: a judge must be able to look at a packet that is wrong.

use std::net::IpAddr;

use etherparse::{LaxNetSlice, LaxSlicedPacket};
use lisp::wire::data::DATA_HEADER_LEN;
use lisp::wire::ecm::EcmInner;
use lisp::wire::{ControlMessage, DataHeader};
use lisp::{CONTROL_PORT, DATA_PORT, DecodeError};

/// An IP packet as it was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Ip {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP (high six bits) and ECN (low two).
    pub traffic_class: u8,
    /// DF of IPv4; true for IPv6, which nobody fragments on the way.
    pub dont_fragment: bool,
    /// It is one fragment of a larger packet.
    pub fragment: bool,
    /// Protocol number of the payload, behind any extension headers.
    pub protocol: u8,
    /// The IPv4 header checksum is right; true for IPv6.
    pub header_checksum_ok: bool,
    /// What it carries.
    pub transport: Transport,
    /// The whole packet from the IP header on, without link layer padding.
    pub bytes: Vec<u8>,
}

impl Ip {
    /// ECN bits (RFC 3168).
    pub fn ecn(&self) -> u8 {
        self.traffic_class & 3
    }

    /// DSCP (RFC 2474).
    pub fn dscp(&self) -> u8 {
        self.traffic_class >> 2
    }

    /// The packet without what a router changes: TTL or hop limit, and the header checksum of IPv4.
    pub fn without_ttl(&self) -> Vec<u8> {
        let mut octets = self.bytes.clone();
        let changed: &[usize] = if self.source.is_ipv4() {
            &[8, 10, 11]
        } else {
            &[7]
        };
        for at in changed {
            if let Some(octet) = octets.get_mut(*at) {
                *octet = 0;
            }
        }
        octets
    }

    /// The UDP datagram, where there is one.
    pub fn udp(&self) -> Option<&Udp> {
        match &self.transport {
            Transport::Udp(udp) => Some(udp),
            _ => None,
        }
    }

    /// The ICMP message, where there is one.
    pub fn icmp(&self) -> Option<&Icmp> {
        match &self.transport {
            Transport::Icmp(icmp) => Some(icmp),
            _ => None,
        }
    }
}

/// What an IP packet carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Transport {
    /// UDP.
    Udp(Udp),
    /// ICMP or ICMPv6.
    Icmp(Icmp),
    /// TCP: ports.
    Tcp {
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
    },
    /// Anything else, a later fragment, or cut off.
    Other,
}

/// A UDP datagram.
#[derive(Debug, Clone, PartialEq)]
pub struct Udp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// The length field.
    pub length: u16,
    /// The checksum field.
    pub checksum: u16,
    /// The checksum is right, or zero.
    pub checksum_ok: bool,
    /// What follows the header.
    pub payload: Vec<u8>,
}

/// An ICMP or ICMPv6 message.
#[derive(Debug, Clone, PartialEq)]
pub struct Icmp {
    /// ICMPv6 rather than ICMP.
    pub v6: bool,
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The second word of the header: identifier and sequence number, or MTU.
    pub rest: [u8; 4],
    /// What follows the header's 8 octets: the data of an echo, or the packet that an error is about.
    pub payload: Vec<u8>,
}

impl Icmp {
    /// An echo request.
    pub fn is_echo_request(&self) -> bool {
        self.kind == if self.v6 { 128 } else { 8 }
    }

    /// An echo reply.
    pub fn is_echo_reply(&self) -> bool {
        self.kind == if self.v6 { 129 } else { 0 }
    }

    /// Identifier and sequence number of an echo.
    pub fn echo(&self) -> (u16, u16) {
        let [a, b, c, d] = self.rest;
        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
    }

    /// The MTU of "fragmentation needed" or "packet too big".
    pub fn mtu(&self) -> u32 {
        let [_, _, c, d] = self.rest;
        if self.v6 {
            u32::from_be_bytes(self.rest)
        } else {
            u32::from(u16::from_be_bytes([c, d]))
        }
    }

    /// "Fragmentation needed" of ICMP or "packet too big" of ICMPv6.
    pub fn is_too_big(&self) -> bool {
        if self.v6 {
            self.kind == 2
        } else {
            (self.kind, self.code) == (3, 4)
        }
    }
}

/// The LISP in a UDP datagram.
#[derive(Debug, Clone, PartialEq)]
pub enum Lisp {
    /// None: other ports.
    None,
    /// A data packet (destination port 4341).
    Data {
        /// The LISP header.
        header: DataHeader,
        /// The inner packet, if it is one of IP.
        inner: Option<Box<Ip>>,
    },
    /// A control message (port 4342 on either side).
    Control {
        /// The message.
        message: Box<ControlMessage>,
        /// What an Encapsulated Control Message carries, if it can be decoded.
        inner: Option<Box<EcmInner>>,
    },
    /// LISP by its ports, and not decodable.
    Malformed(DecodeError),
}

/// Reads an Ethernet frame; `None` if it does not carry IP.
pub fn ethernet(frame: &[u8]) -> Option<Ip> {
    LaxSlicedPacket::from_ethernet(frame)
        .ok()
        .and_then(|sliced| ip_of(&sliced))
}

/// Reads a packet from its IP header on.
pub fn ip(packet: &[u8]) -> Option<Ip> {
    LaxSlicedPacket::from_ip(packet)
        .ok()
        .and_then(|sliced| ip_of(&sliced))
}

/// Reads a captured packet by pcap's link type (1 Ethernet, 101 raw IP).
pub fn by_link_type(link_type: u16, data: &[u8]) -> Option<Ip> {
    match link_type {
        1 => ethernet(data),
        101 | 228 | 229 => ip(data),
        _ => None,
    }
}

/// Reads the LISP of an IP packet by its UDP ports.
///
/// A control message counts as one by either port, as replies go to a port that the asker chose
/// (RFC 6830 6.1.2); data goes by its destination port only (RFC 6830 5.3).
pub fn lisp(ip: &Ip) -> Lisp {
    let Some(udp) = ip.udp() else {
        return Lisp::None;
    };
    if udp.destination_port == DATA_PORT {
        return match DataHeader::parse(&udp.payload) {
            Ok(header) => Lisp::Data {
                header,
                inner: self::ip(udp.payload.get(DATA_HEADER_LEN..).unwrap_or_default())
                    .map(Box::new),
            },
            Err(error) => Lisp::Malformed(error),
        };
    }
    if udp.destination_port != CONTROL_PORT && udp.source_port != CONTROL_PORT {
        return Lisp::None;
    }
    match ControlMessage::parse(&udp.payload) {
        Ok(message) => {
            let inner = match &message {
                ControlMessage::Encapsulated(ecm) => ecm.decode_inner().ok().map(Box::new),
                _ => None,
            };
            Lisp::Control {
                message: Box::new(message),
                inner,
            }
        }
        Err(error) => Lisp::Malformed(error),
    }
}

fn ip_of(sliced: &LaxSlicedPacket<'_>) -> Option<Ip> {
    match sliced.net.as_ref()? {
        LaxNetSlice::Ipv4(slice) => {
            let header = slice.header();
            let payload = slice.payload();
            let mut bytes = header.slice().to_vec();
            bytes.extend_from_slice(payload.payload);
            let (source, destination) = (
                IpAddr::V4(header.source_addr()),
                IpAddr::V4(header.destination_addr()),
            );
            let protocol = slice.payload_ip_number().0;
            let fragment = slice.is_payload_fragmented();
            Some(Ip {
                source,
                destination,
                ttl: header.ttl(),
                traffic_class: bytes[1],
                dont_fragment: header.dont_fragment(),
                fragment,
                protocol,
                header_checksum_ok: lisp::ip::checksum(header.slice()) == 0,
                transport: transport(source, destination, protocol, fragment, payload.payload),
                bytes,
            })
        }
        LaxNetSlice::Ipv6(slice) => {
            let header = slice.header();
            let payload = slice.payload();
            let mut bytes = header.slice().to_vec();
            bytes.extend_from_slice(slice.extensions().slice());
            bytes.extend_from_slice(payload.payload);
            let (source, destination) = (
                IpAddr::V6(header.source_addr()),
                IpAddr::V6(header.destination_addr()),
            );
            let protocol = payload.ip_number.0;
            Some(Ip {
                source,
                destination,
                ttl: header.hop_limit(),
                traffic_class: header.traffic_class(),
                dont_fragment: true,
                fragment: payload.fragmented,
                protocol,
                header_checksum_ok: true,
                transport: transport(
                    source,
                    destination,
                    protocol,
                    payload.fragmented,
                    payload.payload,
                ),
                bytes,
            })
        }
        _ => None,
    }
}

fn transport(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    fragment: bool,
    octets: &[u8],
) -> Transport {
    if fragment {
        return Transport::Other;
    }
    let u16_at = |at: usize| Some(u16::from_be_bytes([*octets.get(at)?, *octets.get(at + 1)?]));
    match protocol {
        17 if octets.len() >= 8 => {
            let field = |at| u16_at(at).unwrap_or_default();
            let (length, checksum) = (field(4), field(6));
            let covered = octets
                .get(..usize::from(length))
                .filter(|covered| covered.len() >= 8);
            Transport::Udp(Udp {
                source_port: field(0),
                destination_port: field(2),
                length,
                checksum,
                checksum_ok: checksum == 0
                    || covered.is_some_and(|datagram| {
                        lisp::ip::udp_checksum(source, destination, datagram) == 0
                    }),
                payload: covered.unwrap_or(octets)[8..].to_vec(),
            })
        }
        1 | 58 if octets.len() >= 8 => Transport::Icmp(Icmp {
            v6: protocol == 58,
            kind: octets[0],
            code: octets[1],
            rest: [octets[4], octets[5], octets[6], octets[7]],
            payload: octets[8..].to_vec(),
        }),
        6 if octets.len() >= 4 => Transport::Tcp {
            source_port: u16_at(0).unwrap_or_default(),
            destination_port: u16_at(2).unwrap_or_default(),
        },
        _ => Transport::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn a_data_packet_shows_both_headers() {
        let bytes = vector(
            "45000048123440003f11a56dc0000201c0000202f0b110f500340000000000000000000045000024000140003f01d585c633640acb00711408001a164c5300016162636465666768",
        );
        let ip = super::ip(&bytes).unwrap();
        assert_eq!(
            (ip.ttl, ip.bytes.len(), ip.header_checksum_ok),
            (63, 72, true)
        );
        let Lisp::Data {
            header,
            inner: Some(inner),
        } = lisp(&ip)
        else {
            panic!("port 4341 is data")
        };
        assert_eq!(header, DataHeader::default());
        assert_eq!(inner.icmp().unwrap().echo(), (0x4c53, 1));
        assert!(inner.icmp().unwrap().is_echo_request());
    }

    #[test]
    fn a_cut_packet_is_read_as_far_as_it_goes() {
        let bytes = vector("45000048123440003f11a56dc0000201c0000202f0b110f5003400000000");
        assert!(matches!(
            lisp(&super::ip(&bytes).unwrap()),
            Lisp::Malformed(_)
        ));
        assert_eq!(super::ip(&bytes[..10]), None);
    }
}
