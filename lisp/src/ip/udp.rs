//! UDP (RFC 768) and the internet checksum (RFC 1071).

use std::net::IpAddr;

use super::field::udp as field;
use super::{IpHeader, IpPacket, first_error};
use crate::error::DecodeError;
use crate::wire::cursor::Reader;

/// Length of a UDP header in octets.
pub const UDP_HEADER_LEN: usize = 8;
/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;

/// A decoded UDP datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpDatagram<'a> {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// The checksum field is zero: no checksum was computed.
    pub zero_checksum: bool,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> UdpDatagram<'a> {
    /// Decodes the UDP datagram that fills an IP packet; a non-zero checksum is verified. Offsets in errors count from
    /// the IP header.
    ///
    /// # Errors
    /// When the packet is a fragment, not UDP, or a length or checksum is wrong.
    pub fn parse(packet: &IpPacket<'a>) -> Result<Self, DecodeError> {
        let mut errors = Vec::new();
        let datagram = Self::inspect(packet, &mut errors);
        first_error(datagram, errors)
    }

    /// Decodes as far as possible and collects every error; `None` when no payload can be told.
    pub(crate) fn inspect(packet: &IpPacket<'a>, errors: &mut Vec<DecodeError>) -> Option<Self> {
        let mut found = Vec::new();
        let datagram = match Self::inspect_kind(packet) {
            Ok(()) => Self::inspect_payload(packet, &mut found),
            Err(error) => Err(error),
        };
        let datagram = datagram.map_err(|error| found.push(error)).ok();
        let at = packet.header.len();
        errors.extend(found.into_iter().map(|error| error.shifted(at)));
        datagram
    }

    fn inspect_kind(packet: &IpPacket<'a>) -> Result<(), DecodeError> {
        let reader = Reader::new("UDP header", packet.payload);
        if packet.is_fragment() {
            return Err(reader.error_here("fragment", "a whole packet", "a fragment"));
        }
        match packet.header.protocol() {
            PROTOCOL_UDP => Ok(()),
            other => Err(reader.error_here("protocol", "17 (UDP)", format!("protocol {other}"))),
        }
    }

    /// As [`Self::parse`], going on where a length or the checksum is wrong.
    fn inspect_payload(
        packet: &IpPacket<'a>,
        errors: &mut Vec<DecodeError>,
    ) -> Result<Self, DecodeError> {
        let (header, datagram) = (&packet.header, packet.payload);
        let mut reader = Reader::new("UDP header", datagram);
        let fixed = reader.take("fixed part", UDP_HEADER_LEN)?;
        let length = field::LENGTH.get(fixed) as usize;
        if length != datagram.len() {
            let expected = format!("{}, the octets of the IP payload", datagram.len());
            errors.push(reader.error_at(4, "Length", expected, length));
        }
        if length < UDP_HEADER_LEN {
            return Err(reader.error_at(4, "Length", "at least 8", length));
        }
        let datagram = &datagram[..length.min(datagram.len())];
        let found = field::CHECKSUM.get(fixed) as u16;
        // Over a datagram of the wrong length a checksum says nothing more.
        if found != 0 && errors.is_empty() {
            let mut zeroed = datagram.to_vec();
            field::CHECKSUM.set(&mut zeroed, 0);
            let expected = emitted_checksum(header.source(), header.destination(), &zeroed);
            if found != expected {
                errors.push(reader.error_at(
                    6,
                    "Checksum",
                    format!("{expected:#06x}"),
                    format!("{found:#06x}"),
                ));
            }
        }
        Ok(UdpDatagram {
            source_port: field::SOURCE_PORT.get(fixed) as u16,
            destination_port: field::DESTINATION_PORT.get(fixed) as u16,
            zero_checksum: found == 0,
            payload: &datagram[UDP_HEADER_LEN..],
        })
    }

    /// The datagram between these addresses, length and (unless `zero_checksum`) checksum computed.
    ///
    /// # Panics
    /// When the payload is longer than 65527 octets.
    pub fn emit(&self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let len = UDP_HEADER_LEN + self.payload.len();
        let len = u16::try_from(len).expect("a UDP datagram fits 65535 octets");
        let mut datagram = vec![0; UDP_HEADER_LEN];
        field::SOURCE_PORT.set(&mut datagram, self.source_port.into());
        field::DESTINATION_PORT.set(&mut datagram, self.destination_port.into());
        field::LENGTH.set(&mut datagram, len.into());
        datagram.extend_from_slice(self.payload);
        if !self.zero_checksum {
            let sum = emitted_checksum(source, destination, &datagram);
            field::CHECKSUM.set(&mut datagram, sum.into());
        }
        datagram
    }
}

/// The checksum field of a datagram whose field is zero: a computed zero is sent as all ones (RFC 768).
fn emitted_checksum(source: IpAddr, destination: IpAddr, datagram: &[u8]) -> u16 {
    match udp_checksum(source, destination, datagram) {
        0 => 0xffff,
        sum => sum,
    }
}

/// The one's complement sum of `octets`, padded to 16 bits with a zero, added to `sum`.
fn add(sum: u64, octets: &[u8]) -> u64 {
    octets.chunks(2).fold(sum, |sum, pair| {
        sum + (u64::from(pair[0]) << 8) + pair.get(1).map_or(0, |low| u64::from(*low))
    })
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The internet checksum (RFC 1071) of `octets`: 0 if a correct checksum is among them.
pub fn checksum(octets: &[u8]) -> u16 {
    !fold(add(0, octets))
}

/// The UDP checksum of a datagram (header and payload): 0 if a correct checksum is in place. `source` and `destination`
/// are of one family.
pub fn udp_checksum(source: IpAddr, destination: IpAddr, datagram: &[u8]) -> u16 {
    let mut sum = datagram.len() as u64 + u64::from(PROTOCOL_UDP);
    for address in [source, destination] {
        sum = match address {
            IpAddr::V4(address) => add(sum, &address.octets()),
            IpAddr::V6(address) => add(sum, &address.octets()),
        };
    }
    !fold(add(sum, datagram))
}

/// A whole IP packet with one UDP datagram, checksums computed; over IPv4 with DF set and identification 0.
///
/// `source` and `destination` should be of one family; a source of the other is replaced by the unspecified address.
///
/// # Panics
/// When the payload does not fit an IP packet.
pub fn udp_packet(
    source: IpAddr,
    destination: IpAddr,
    source_port: u16,
    destination_port: u16,
    ttl: u8,
    payload: &[u8],
) -> Vec<u8> {
    let header = IpHeader::new(source, destination, ttl, PROTOCOL_UDP);
    let datagram = UdpDatagram {
        source_port,
        destination_port,
        zero_checksum: false,
        payload,
    };
    header.emit(&datagram.emit(header.source(), header.destination()))
}
