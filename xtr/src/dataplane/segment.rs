//! Super-packets of the site taken apart into the packets that go on the wire, checksums complete.

use super::checksum::{self, finish, pseudo, sum};
use super::vnet::Super;

/// How the segments of one super-packet are made. All offsets are from its IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    kind: Super,
    v6: bool,
    l4: usize,
    /// IP and TCP or UDP header together: what every segment repeats.
    pub(crate) header_len: usize,
    /// Payload octets of every segment but the last.
    pub(crate) size: usize,
    payload: usize,
}

impl Plan {
    /// Reads the headers of a super-packet; none: they contradict each other.
    pub(crate) fn new(
        packet: &[u8],
        v6: bool,
        l4: usize,
        kind: Super,
        size: usize,
    ) -> Option<Self> {
        let header_len = match kind {
            Super::Tcp => l4 + usize::from(packet.get(l4 + 12)? >> 4) * 4,
            Super::Udp => l4 + 8,
        };
        let least = l4 + if kind == Super::Tcp { 20 } else { 8 };
        let ip_len = if v6 { 40 } else { 20 };
        if l4 < ip_len || header_len < least || header_len > packet.len() || size == 0 {
            return None;
        }
        Some(Self {
            kind,
            v6,
            l4,
            header_len,
            size,
            payload: packet.len() - header_len,
        })
    }

    /// How many segments there are, at least one.
    pub(crate) fn count(&self) -> usize {
        self.payload.div_ceil(self.size).max(1)
    }

    /// Payload range of segment `index`.
    pub(crate) fn payload(&self, index: usize) -> std::ops::Range<usize> {
        let start = index * self.size;
        let end = (start + self.size).min(self.payload);
        self.header_len + start..self.header_len + end
    }

    /// Writes the headers of segment `index` into `header`, `header_len` octets (RFC 9293 3.1; every field that
    /// differs between the segments of one stream).
    pub(crate) fn write_header(&self, packet: &[u8], index: usize, header: &mut [u8]) {
        let payload = &packet[self.payload(index)];
        let last = index + 1 == self.count();
        let total = self.header_len + payload.len();
        header.copy_from_slice(&packet[..self.header_len]);
        if self.v6 {
            header[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
        } else {
            header[2..4].copy_from_slice(&(total as u16).to_be_bytes());
            let id = u16::from_be_bytes([packet[4], packet[5]]).wrapping_add(index as u16);
            header[4..6].copy_from_slice(&id.to_be_bytes());
            header[10..12].fill(0);
            let checksum = finish(sum(&header[..self.l4]));
            header[10..12].copy_from_slice(&checksum);
        }
        let upper = total - self.l4;
        match self.kind {
            Super::Tcp => self.write_tcp(packet, index, last, header, payload, upper),
            Super::Udp => {
                let udp = self.l4;
                header[udp + 4..udp + 6].copy_from_slice(&(upper as u16).to_be_bytes());
                header[udp + 6..udp + 8].fill(0);
                let checksum = finish(
                    pseudo(header, self.v6, super::inner::UDP, upper)
                        + sum(&header[udp..])
                        + sum(payload),
                );
                // Zero would say "no checksum" (RFC 768).
                let checksum = if checksum == [0, 0] {
                    [0xff; 2]
                } else {
                    checksum
                };
                header[udp + 6..udp + 8].copy_from_slice(&checksum);
            }
        }
    }

    fn write_tcp(
        &self,
        packet: &[u8],
        index: usize,
        last: bool,
        header: &mut [u8],
        payload: &[u8],
        upper: usize,
    ) {
        const FIN_PSH: u8 = 0x09;
        const CWR: u8 = 0x80;
        let tcp = self.l4;
        let first = u32::from_be_bytes([
            packet[tcp + 4],
            packet[tcp + 5],
            packet[tcp + 6],
            packet[tcp + 7],
        ]);
        let sequence = first.wrapping_add((index * self.size) as u32);
        header[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
        if !last {
            header[tcp + 13] &= !FIN_PSH;
        }
        if index > 0 {
            header[tcp + 13] &= !CWR;
        }
        header[tcp + 16..tcp + 18].fill(0);
        let checksum = finish(
            pseudo(header, self.v6, super::inner::TCP, upper) + sum(&header[tcp..]) + sum(payload),
        );
        header[tcp + 16..tcp + 18].copy_from_slice(&checksum);
    }
}

/// Completes a checksum that the kernel left to us: the field holds the pseudo-header's sum already.
/// False: the offsets lie outside the packet.
pub(crate) fn complete_checksum(packet: &mut [u8], start: usize, field: usize, udp: bool) -> bool {
    let at = start + field;
    if at + 2 > packet.len() {
        return false;
    }
    let checksum = finish(sum(&packet[start..]));
    let checksum = if udp && checksum == [0, 0] {
        [0xff; 2]
    } else {
        checksum
    };
    packet[at..at + 2].copy_from_slice(&checksum);
    true
}

/// Whether the TCP or UDP checksum of a whole packet is right; a UDP checksum of zero over IPv4 is none.
pub(crate) fn transport_checksum_holds(packet: &[u8], v6: bool, protocol: u8, l4: usize) -> bool {
    let upper = packet.len() - l4;
    checksum::fold(pseudo(packet, v6, protocol, upper) + sum(&packet[l4..])) == 0xffff
}
