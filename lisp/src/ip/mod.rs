//! IPv4, IPv6 and UDP headers around LISP messages: decoding, checksums, and building.
//!
//! What the codec does not interpret (IPv4 options, IPv6 extension headers) is kept verbatim, so that a packet is emitted
//! again exactly.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::DecodeError;
use crate::wire::cursor::Reader;

pub(crate) mod field;
mod udp;

use field::{v4 as v4_field, v6 as v6_field};
pub use udp::{PROTOCOL_UDP, UDP_HEADER_LEN, UdpDatagram, checksum, udp_checksum, udp_packet};

/// Length of an IPv4 header without options in octets.
pub const IPV4_HEADER_LEN: usize = 20;
/// Length of an IPv6 header without extension headers in octets.
pub const IPV6_HEADER_LEN: usize = 40;

/// DF of the IPv4 flags and fragment offset word.
pub const DONT_FRAGMENT: u16 = 0x4000;

/// Extension headers of the common form: next header, length in 8-octet units without the first.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// An IPv4 header; total length and checksum are computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv4Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Identification.
    pub identification: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Options, padded to a multiple of four octets, at most 40.
    pub options: Vec<u8>,
}

/// An IPv6 header; the payload length is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv6Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Next header of the fixed header: the first extension header's number, or the protocol.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// The chain of extension headers, verbatim.
    pub extensions: Vec<u8>,
    /// Protocol number behind the extension headers.
    pub protocol: u8,
}

/// An IP header of either version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IpHeader {
    /// IPv4.
    V4(Ipv4Header),
    /// IPv6, with its extension headers.
    V6(Ipv6Header),
}

/// A decoded IP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpPacket<'a> {
    /// The header, IPv6 extension headers included.
    pub header: IpHeader,
    /// What follows.
    pub payload: &'a [u8],
}

/// The length that an IP header claims for its packet, without checking anything else.
pub fn total_len(packet: &[u8]) -> Option<usize> {
    match packet.first()? >> 4 {
        4 if packet.len() >= IPV4_HEADER_LEN => Some(v4_field::TOTAL_LENGTH.get(packet) as usize),
        6 if packet.len() >= IPV6_HEADER_LEN => {
            Some(IPV6_HEADER_LEN + v6_field::PAYLOAD_LENGTH.get(packet) as usize)
        }
        _ => None,
    }
}

impl IpHeader {
    /// A plain header without options; over IPv4 with DF set and identification 0. A source of another family than the
    /// destination's is replaced by the unspecified address.
    pub fn new(source: IpAddr, destination: IpAddr, ttl: u8, protocol: u8) -> Self {
        match destination {
            IpAddr::V4(destination) => IpHeader::V4(Ipv4Header {
                traffic_class: 0,
                identification: 0,
                fragment: DONT_FRAGMENT,
                ttl,
                protocol,
                source: match source {
                    IpAddr::V4(source) => source,
                    IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
                },
                destination,
                options: Vec::new(),
            }),
            IpAddr::V6(destination) => IpHeader::V6(Ipv6Header {
                traffic_class: 0,
                flow_label: 0,
                next_header: protocol,
                hop_limit: ttl,
                source: match source {
                    IpAddr::V6(source) => source,
                    IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED,
                },
                destination,
                extensions: Vec::new(),
                protocol,
            }),
        }
    }

    /// Source address.
    pub fn source(&self) -> IpAddr {
        match self {
            IpHeader::V4(header) => header.source.into(),
            IpHeader::V6(header) => header.source.into(),
        }
    }

    /// Destination address.
    pub fn destination(&self) -> IpAddr {
        match self {
            IpHeader::V4(header) => header.destination.into(),
            IpHeader::V6(header) => header.destination.into(),
        }
    }

    /// TTL or hop limit.
    pub fn ttl(&self) -> u8 {
        match self {
            IpHeader::V4(header) => header.ttl,
            IpHeader::V6(header) => header.hop_limit,
        }
    }

    /// DSCP and ECN.
    pub fn traffic_class(&self) -> u8 {
        match self {
            IpHeader::V4(header) => header.traffic_class,
            IpHeader::V6(header) => header.traffic_class,
        }
    }

    /// Protocol number of the payload, behind any IPv6 extension headers.
    pub fn protocol(&self) -> u8 {
        match self {
            IpHeader::V4(header) => header.protocol,
            IpHeader::V6(header) => header.protocol,
        }
    }

    /// Octets of the header, options and extension headers included.
    #[expect(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub fn len(&self) -> usize {
        match self {
            IpHeader::V4(header) => IPV4_HEADER_LEN + header.options.len(),
            IpHeader::V6(header) => IPV6_HEADER_LEN + header.extensions.len(),
        }
    }

    /// The packet of this header and `payload`, lengths and header checksum computed.
    ///
    /// # Panics
    /// When it does not fit an IP packet, or the IPv4 options are no multiple of four octets, at most 40.
    pub fn emit(&self, payload: &[u8]) -> Vec<u8> {
        let fits =
            |len: usize| u64::from(u16::try_from(len).expect("an IP packet fits 65535 octets"));
        let mut packet = match self {
            IpHeader::V4(header) => {
                use v4_field as field;
                let options = header.options.len();
                assert!(
                    options.is_multiple_of(4) && options <= 40,
                    "{options} octets of IPv4 options"
                );
                let mut octets = vec![0; IPV4_HEADER_LEN];
                field::VERSION.set(&mut octets, 4);
                field::IHL.set(&mut octets, (self.len() / 4) as u64);
                octets[1] = header.traffic_class;
                field::TOTAL_LENGTH.set(&mut octets, fits(self.len() + payload.len()));
                field::IDENTIFICATION.set(&mut octets, header.identification.into());
                octets[6..8].copy_from_slice(&header.fragment.to_be_bytes());
                field::TTL.set(&mut octets, header.ttl.into());
                field::PROTOCOL.set(&mut octets, header.protocol.into());
                octets[12..16].copy_from_slice(&header.source.octets());
                octets[16..20].copy_from_slice(&header.destination.octets());
                octets.extend_from_slice(&header.options);
                let sum = checksum(&octets);
                field::CHECKSUM.set(&mut octets, sum.into());
                octets
            }
            IpHeader::V6(header) => {
                use v6_field as field;
                let mut octets = vec![0; IPV6_HEADER_LEN];
                field::VERSION.set(&mut octets, 6);
                field::DSCP.set(&mut octets, (header.traffic_class >> 2).into());
                field::ECN.set(&mut octets, header.traffic_class.into());
                field::FLOW_LABEL.set(&mut octets, header.flow_label.into());
                field::PAYLOAD_LENGTH
                    .set(&mut octets, fits(header.extensions.len() + payload.len()));
                field::NEXT_HEADER.set(&mut octets, header.next_header.into());
                field::HOP_LIMIT.set(&mut octets, header.hop_limit.into());
                octets[8..24].copy_from_slice(&header.source.octets());
                octets[24..40].copy_from_slice(&header.destination.octets());
                octets.extend_from_slice(&header.extensions);
                octets
            }
        };
        packet.extend_from_slice(payload);
        packet
    }
}

impl<'a> IpPacket<'a> {
    /// Decodes a packet that fills `buffer` exactly; the IPv4 header checksum is verified.
    ///
    /// # Errors
    /// When it is cut short or has octets left over, or the version, header length or checksum is wrong.
    pub fn parse(buffer: &'a [u8]) -> Result<Self, DecodeError> {
        let mut errors = Vec::new();
        let packet = Self::inspect(buffer, &mut errors);
        first_error(packet, errors)
    }

    /// Decodes as far as possible and collects every error; `None` when no payload can be told.
    pub(crate) fn inspect(buffer: &'a [u8], errors: &mut Vec<DecodeError>) -> Option<Self> {
        let result = match buffer.first().map(|octet| octet >> 4) {
            Some(4) => Self::inspect_v4(buffer, errors),
            Some(6) => Self::inspect_v6(buffer, errors),
            other => {
                let found = other.map_or("the end".to_owned(), |version| version.to_string());
                Err(Reader::new("IP header", buffer).error_here("Version", "4 or 6", found))
            }
        };
        result.map_err(|error| errors.push(error)).ok()
    }

    fn inspect_v4(buffer: &'a [u8], errors: &mut Vec<DecodeError>) -> Result<Self, DecodeError> {
        use v4_field as field;
        let mut reader = Reader::new("IPv4 header", buffer);
        let fixed = reader.take("fixed part", IPV4_HEADER_LEN)?;
        let header_len = field::IHL.get(fixed) as usize * 4;
        if header_len < IPV4_HEADER_LEN {
            return Err(reader.error_at(0, "IHL", "at least 5", header_len / 4));
        }
        let options = reader.take("options", header_len - IPV4_HEADER_LEN)?;
        let total = field::TOTAL_LENGTH.get(fixed) as usize;
        if total != buffer.len() {
            let expected = format!("{}, the octets there are", buffer.len());
            errors.push(reader.error_at(2, "Total Length", expected, total));
        }
        if total < header_len {
            let expected = format!("at least {header_len}, the header");
            return Err(reader.error_at(2, "Total Length", expected, total));
        }
        let found = field::CHECKSUM.get(fixed) as u16;
        let mut zeroed = buffer[..header_len].to_vec();
        field::CHECKSUM.set(&mut zeroed, 0);
        let expected = checksum(&zeroed);
        if found != expected {
            errors.push(reader.error_at(
                10,
                "Header Checksum",
                format!("{expected:#06x}"),
                format!("{found:#06x}"),
            ));
        }
        let address =
            |at: usize| Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]);
        let header = Ipv4Header {
            traffic_class: fixed[1],
            identification: field::IDENTIFICATION.get(fixed) as u16,
            fragment: u16::from_be_bytes([fixed[6], fixed[7]]),
            ttl: fixed[8],
            protocol: fixed[9],
            source: address(12),
            destination: address(16),
            options: options.to_vec(),
        };
        let payload = &buffer[header_len..total.min(buffer.len())];
        Ok(IpPacket {
            header: IpHeader::V4(header),
            payload,
        })
    }

    fn inspect_v6(buffer: &'a [u8], errors: &mut Vec<DecodeError>) -> Result<Self, DecodeError> {
        use v6_field as field;
        let mut reader = Reader::new("IPv6 header", buffer);
        let fixed = reader.take("fixed part", IPV6_HEADER_LEN)?;
        let payload_len = field::PAYLOAD_LENGTH.get(fixed) as usize;
        if payload_len != reader.remaining() {
            let expected = format!("{}, the octets there are", reader.remaining());
            errors.push(reader.error_at(4, "Payload Length", expected, payload_len));
        }
        let mut reader = reader.limited(
            "IPv6 extension header",
            "payload",
            payload_len.min(reader.remaining()),
        )?;
        let next_header = field::NEXT_HEADER.get(fixed) as u8;
        let (extensions, protocol) = read_extensions(&mut reader, next_header)?;
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&fixed[at..at + 16]);
            Ipv6Addr::from(octets)
        };
        let header = Ipv6Header {
            traffic_class: (field::DSCP.get(fixed) << 2 | field::ECN.get(fixed)) as u8,
            flow_label: field::FLOW_LABEL.get(fixed) as u32,
            next_header,
            hop_limit: field::HOP_LIMIT.get(fixed) as u8,
            source: address(8),
            destination: address(24),
            extensions: extensions.to_vec(),
            protocol,
        };
        Ok(IpPacket {
            header: IpHeader::V6(header),
            payload: reader.rest(),
        })
    }

    /// Whether this is one fragment of a larger packet.
    pub fn is_fragment(&self) -> bool {
        match &self.header {
            IpHeader::V4(header) => header.fragment & !(DONT_FRAGMENT | 0x8000) != 0,
            IpHeader::V6(header) => fragment_of(header),
        }
    }
}

/// The chain of extension headers that a router or host steps over, and the protocol behind it.
fn read_extensions<'a>(reader: &mut Reader<'a>, first: u8) -> Result<(&'a [u8], u8), DecodeError> {
    let mut ahead = reader.clone();
    let mut len = 0;
    let mut next = first;
    while let HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS = next {
        let head = ahead.array::<2>("extension header")?;
        let octets = extension_len(next, head[1]);
        ahead.take("extension header", octets - 2)?;
        len += octets;
        // A fragment that is not the first holds no header behind this one.
        let fragment = next == FRAGMENT;
        next = head[0];
        if fragment {
            break;
        }
    }
    Ok((reader.take("extension header", len)?, next))
}

/// Octets of an extension header by its length octet (RFC 8200 4.3, 4.5; RFC 4302 2.2).
fn extension_len(kind: u8, len: u8) -> usize {
    match kind {
        FRAGMENT => 8,
        AUTHENTICATION => (usize::from(len) + 2) * 4,
        _ => (usize::from(len) + 1) * 8,
    }
}

fn fragment_of(header: &Ipv6Header) -> bool {
    let mut chain = &header.extensions[..];
    let mut next = header.next_header;
    while chain.len() >= 8 {
        if next == FRAGMENT {
            // Offset and M flag; both zero is an atomic fragment (RFC 6946).
            return u16::from_be_bytes([chain[2], chain[3]]) & 0xfff9 != 0;
        }
        let len = extension_len(next, chain[1]);
        next = chain[0];
        chain = chain.get(len..).unwrap_or_default();
    }
    false
}

/// What a strict `parse` makes of an `inspect`.
fn first_error<T>(value: Option<T>, errors: Vec<DecodeError>) -> Result<T, DecodeError> {
    match (errors.into_iter().next(), value) {
        (None, Some(value)) => Ok(value),
        (Some(error), _) => Err(error),
        (None, None) => unreachable!("inspect gives a value or an error"),
    }
}
