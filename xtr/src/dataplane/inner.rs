//! The inner packet: what has to be read from it, and the little that is changed in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lisp::wire::data::DATA_HEADER_LEN;

use super::checksum;
use crate::forwarding::{Counter, Edition};

/// LISP headers that one packet may have (RFC 6830 4; recommended in RFC 9300 4).
pub(crate) const MOST_HEADERS: usize = 2;

/// ECN field of the TOS octet or traffic class (RFC 3168 5).
pub(crate) const ECN_MASK: u8 = 0x03;
const CONGESTION_EXPERIENCED: u8 = 0x03;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
const UDP_LEN: usize = 8;

/// The fields of an inner packet that decide about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inner {
    pub(crate) v6: bool,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// TOS octet or traffic class.
    pub(crate) tos: u8,
    /// TTL or hop limit.
    pub(crate) ttl: u8,
    /// Protocol, or next header of the fixed IPv6 header.
    pub(crate) protocol: u8,
    /// Offset of what follows the (first) IP header.
    pub(crate) header_len: usize,
    /// Total length by the IP header; never more than the octets given.
    pub(crate) len: usize,
    /// IPv4 with DF=0: may be fragmented on the way.
    pub(crate) fragmentable: bool,
    /// Is an IPv4 fragment.
    pub(crate) fragment: bool,
}

impl Inner {
    /// Reads a packet that starts at its IP header. Octets behind its own length are ignored.
    ///
    /// # Errors
    /// The counter of what is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Counter> {
        match bytes.first().map(|b| b >> 4) {
            Some(4) => Self::parse_v4(bytes),
            Some(6) => Self::parse_v6(bytes),
            Some(_) => Err(Counter::InnerVersion),
            None => Err(Counter::Truncated),
        }
    }

    fn parse_v4(bytes: &[u8]) -> Result<Self, Counter> {
        if bytes.len() < 20 {
            return Err(Counter::Truncated);
        }
        let header_len = usize::from(bytes[0] & 0x0f) * 4;
        let len = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        if header_len < 20 || len < header_len || len > bytes.len() {
            return Err(Counter::InnerLength);
        }
        let fragment_word = u16::from_be_bytes([bytes[6], bytes[7]]);
        Ok(Self {
            v6: false,
            source: v4_at(bytes, 12).into(),
            destination: v4_at(bytes, 16).into(),
            tos: bytes[1],
            ttl: bytes[8],
            protocol: bytes[9],
            header_len,
            len,
            fragmentable: fragment_word & 0x4000 == 0,
            fragment: fragment_word & 0x3fff != 0,
        })
    }

    fn parse_v6(bytes: &[u8]) -> Result<Self, Counter> {
        if bytes.len() < 40 {
            return Err(Counter::Truncated);
        }
        let len = 40 + usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
        if len > bytes.len() {
            return Err(Counter::InnerLength);
        }
        Ok(Self {
            v6: true,
            source: v6_at(bytes, 8).into(),
            destination: v6_at(bytes, 24).into(),
            tos: bytes[0] << 4 | bytes[1] >> 4,
            ttl: bytes[7],
            protocol: bytes[6],
            header_len: 40,
            len,
            fragmentable: false,
            fragment: bytes[6] == 44,
        })
    }

    /// A number that is the same for all packets of a flow (RFC 6830 6.5): the 5-tuple; for fragments, whose ports
    /// not every one has, and for other protocols the addresses alone; the flow label where an IPv6 source set one
    /// (RFC 6438).
    pub(crate) fn flow_hash(&self, bytes: &[u8]) -> u32 {
        let mut hash = 0x9e37_79b9_7f4a_7c15;
        let mut mix = |word: u64| {
            hash = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
            hash ^= hash >> 29;
        };
        let addresses = if self.v6 {
            &bytes[8..40]
        } else {
            &bytes[12..20]
        };
        for word in addresses.chunks_exact(8) {
            mix(u64::from_ne_bytes([
                word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7],
            ]));
        }
        let label = if self.v6 {
            u32::from_be_bytes([0, bytes[1] & 0x0f, bytes[2], bytes[3]])
        } else {
            0
        };
        if label != 0 {
            mix(u64::from(label));
        } else if matches!(self.protocol, TCP | UDP | 132)
            && !self.fragment
            && self.len >= self.header_len + 4
        {
            let at = self.header_len;
            let ports = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            mix(u64::from(u32::from_ne_bytes(ports)) | u64::from(self.protocol) << 32);
        }
        mix(0);
        (hash >> 32) as u32
    }

    /// Whether the addresses may appear in a packet between sites (RFC 1122 3.2.1.3, RFC 4291 2.5, 2.7).
    pub(crate) fn addresses_are_plausible(&self) -> bool {
        let local = |a: &IpAddr| match a {
            IpAddr::V4(a) => {
                a.is_loopback() || a.is_link_local() || a.octets()[0] == 0 || a.is_broadcast()
            }
            IpAddr::V6(a) => {
                a.is_loopback() || a.is_unspecified() || a.segments()[0] & 0xffc0 == 0xfe80
            }
        };
        !local(&self.source)
            && !local(&self.destination)
            && !self.source.is_multicast()
            && !self.destination.is_multicast()
    }
}

/// LISP headers that a packet carries already, as far as [`MOST_HEADERS`] asks. In a fragment none is looked for.
pub(crate) fn lisp_headers(packet: &[u8], inner: &Inner) -> usize {
    let (mut packet, mut inner) = (packet, *inner);
    let mut count = 0;
    while count < MOST_HEADERS && inner.protocol == UDP && !inner.fragment {
        let datagram = &packet[inner.header_len..inner.len];
        let is_data = datagram.len() >= UDP_LEN + DATA_HEADER_LEN
            && datagram[2..4] == lisp::DATA_PORT.to_be_bytes();
        if !is_data {
            break;
        }
        count += 1;
        packet = &datagram[UDP_LEN + DATA_HEADER_LEN..];
        match Inner::parse(packet) {
            Ok(next) => inner = next,
            Err(_) => break,
        }
    }
    count
}

fn v4_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

fn v6_at(bytes: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[at..at + 16]);
    octets.into()
}

/// Whether an IPv4 header's checksum is right; IPv6 has none.
pub(crate) fn header_checksum_holds(packet: &[u8], inner: &Inner) -> bool {
    inner.v6 || checksum::fold(checksum::sum(&packet[..inner.header_len])) == 0xffff
}

/// The TOS octet with which a packet leaves the ETR; none: it must be dropped.
///
/// DSCP comes from outside (RFC 6830 5.3). ECN: RFC 6830 5.3 only lets the congestion mark pass inward; RFC 9300 5.3
/// follows RFC 6040 4.2, figure 4.
pub(crate) fn decapsulated_tos(edition: Edition, outer: u8, inner: u8) -> Option<u8> {
    let ecn = match (edition, inner & ECN_MASK, outer & ECN_MASK) {
        (Edition::Rfc6830, _, CONGESTION_EXPERIENCED) => CONGESTION_EXPERIENCED,
        (Edition::Rfc6830, inner, _) => inner,
        (Edition::Rfc9300, 0b00, CONGESTION_EXPERIENCED) => return None,
        (Edition::Rfc9300, 0b00, _) => 0b00,
        (Edition::Rfc9300, 0b11, _) | (Edition::Rfc9300, _, CONGESTION_EXPERIENCED) => {
            CONGESTION_EXPERIENCED
        }
        (Edition::Rfc9300, 0b10, 0b01) => 0b01,
        (Edition::Rfc9300, inner, _) => inner,
    };
    Some(outer & !ECN_MASK | ecn)
}

/// The TTL with which a packet leaves the ETR: never more than it had inside (RFC 6830 5.3).
pub(crate) fn decapsulated_ttl(outer: u8, inner: u8) -> u8 {
    outer.min(inner)
}

/// Writes TOS and TTL into a packet, keeping an IPv4 checksum as right (or wrong) as it was.
pub(crate) fn rewrite(packet: &mut [u8], v6: bool, tos: u8, ttl: u8) {
    if v6 {
        packet[0] = packet[0] & 0xf0 | tos >> 4;
        packet[1] = packet[1] & 0x0f | tos << 4;
        packet[7] = ttl;
        return;
    }
    if packet[1] != tos {
        let word = [packet[0], tos];
        checksum::replace_word(packet, 0, word, 10);
    }
    if packet[8] != ttl {
        let word = [ttl, packet[9]];
        checksum::replace_word(packet, 8, word, 10);
    }
}
