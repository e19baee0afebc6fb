//! Complaints to the source of a packet that is not forwarded: too big (RFC 6830 5.4; RFC 792, 1191, 4443), prohibited by
//! its mapping (RFC 6830 6.1.4; RFC 1812 5.2.7.1).

use super::checksum::{finish, sum};
use super::inner::Inner;

/// As much of an ICMPv4 error as RFC 1812 4.3.2.3 allows, without its IP header.
const ICMP4_LIMIT: usize = 576 - 20;
/// As much of an ICMPv6 error as RFC 4443 2.4 allows, without its IP header.
const ICMP6_LIMIT: usize = 1280 - 40;

/// What a source is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// Send at most so many octets.
    TooBig(u16),
    /// No locator of the mapping can be used (RFC 6830 6.3): host unreachable.
    Unreachable,
    /// The mapping says drop (RFC 6830 6.1.4, ACT 3): administratively prohibited.
    Prohibited,
}

/// The ICMP message (from its type octet on) for the source of `packet`. The kernel adds the IP header, and the ICMPv6
/// checksum. None: nobody may be answered (RFC 1122 3.2.2).
pub(crate) fn message(packet: &[u8], inner: &Inner, complaint: Complaint) -> Option<Vec<u8>> {
    if !inner.addresses_are_plausible() || is_icmp_error(packet, inner) {
        return None;
    }
    let mut icmp = vec![0; 8];
    let limit = if inner.v6 {
        match complaint {
            Complaint::TooBig(mtu) => {
                icmp[0] = 2;
                icmp[4..8].copy_from_slice(&u32::from(mtu).to_be_bytes());
            }
            Complaint::Unreachable => icmp[..2].copy_from_slice(&[1, 3]),
            Complaint::Prohibited => icmp[..2].copy_from_slice(&[1, 1]),
        }
        ICMP6_LIMIT
    } else {
        // A fragment that is not the first is not answered.
        if u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff != 0 {
            return None;
        }
        match complaint {
            Complaint::TooBig(mtu) => {
                icmp[..2].copy_from_slice(&[3, 4]);
                icmp[6..8].copy_from_slice(&mtu.to_be_bytes());
            }
            Complaint::Unreachable => icmp[..2].copy_from_slice(&[3, 1]),
            Complaint::Prohibited => icmp[..2].copy_from_slice(&[3, 13]),
        }
        ICMP4_LIMIT
    };
    icmp.extend_from_slice(&packet[..inner.len.min(limit - 8)]);
    if !inner.v6 {
        let checksum = finish(sum(&icmp));
        icmp[2..4].copy_from_slice(&checksum);
    }
    Some(icmp)
}

fn is_icmp_error(packet: &[u8], inner: &Inner) -> bool {
    let kind = packet.get(inner.header_len).copied();
    match (inner.v6, inner.protocol, kind) {
        (false, 1, Some(kind)) => !matches!(kind, 0 | 8 | 13 | 14 | 17 | 18),
        (true, 58, Some(kind)) => kind < 128,
        (_, 1 | 58, None) => true,
        _ => false,
    }
}
