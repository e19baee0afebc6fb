//! The virtio-net header in front of every packet of the TUN device (VIRTIO 1.2, 5.1.6), native byte order.

pub(crate) const VNET_LEN: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What kind of super-packet follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Super {
    /// One TCP stream's segments.
    Tcp,
    /// Datagrams of one flow.
    Udp,
}

/// The header, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct VnetHeader {
    /// Where a checksum has to be completed: start of the summed octets, and of the field after that.
    pub(crate) checksum: Option<(usize, usize)>,
    /// A super-packet, and its payload octets per segment.
    pub(crate) segments: Option<(Super, usize)>,
}

impl VnetHeader {
    /// Reads a header; none: a kind that was never asked for.
    pub(crate) fn parse(bytes: [u8; VNET_LEN]) -> Option<Self> {
        let word = |at: usize| usize::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
        let segments = match bytes[1] & !GSO_ECN {
            GSO_NONE => None,
            GSO_TCP4 | GSO_TCP6 => Some((Super::Tcp, word(4))),
            GSO_UDP_L4 => Some((Super::Udp, word(4))),
            _ => return None,
        };
        if segments.is_some_and(|(_, size)| size == 0) {
            return None;
        }
        Some(Self {
            checksum: (bytes[0] & NEEDS_CHECKSUM != 0).then(|| (word(6), word(8))),
            segments,
        })
    }

    /// The same for a packet without its first octets, such as an Ethernet header.
    pub(crate) fn behind(self, octets: usize) -> Self {
        Self {
            checksum: self
                .checksum
                .map(|(start, field)| (start.saturating_sub(octets), field)),
            ..self
        }
    }

    /// The header of a packet that is complete as it stands.
    pub(crate) const PLAIN: [u8; VNET_LEN] = [0; VNET_LEN];

    /// The header of a super-packet: `l4` is where the TCP or UDP header starts, `header_len` where the payload does.
    pub(crate) fn super_packet(
        kind: Super,
        v6: bool,
        l4: usize,
        header_len: usize,
        segment: usize,
    ) -> [u8; VNET_LEN] {
        let mut bytes = [0; VNET_LEN];
        let (gso, field) = match (kind, v6) {
            (Super::Tcp, false) => (GSO_TCP4, 16),
            (Super::Tcp, true) => (GSO_TCP6, 16),
            (Super::Udp, _) => (GSO_UDP_L4, 6),
        };
        bytes[0] = NEEDS_CHECKSUM;
        bytes[1] = gso;
        for (at, value) in [(2, header_len), (4, segment), (6, l4), (8, field)] {
            bytes[at..at + 2].copy_from_slice(&(value as u16).to_ne_bytes());
        }
        bytes
    }
}
