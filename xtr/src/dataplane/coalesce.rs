//! Decapsulated packets of one flow joined to super-packets before they enter the TUN device.
//!
//! Only packets that could have come out of one super-packet are joined: same headers but for lengths, TCP sequence
//! and IPv4 identification, full-sized but for the last. Their checksums are verified first: the joined packet's is
//! left to the kernel, which would otherwise vouch for damaged data.

use std::io::{self, IoSlice, Write};
use std::ops::Range;

use super::checksum::{finish, fold, pseudo, sum};
use super::inner::{Inner, TCP, UDP};
use super::segment::transport_checksum_holds;
use super::vnet::{Super, VNET_LEN, VnetHeader};

/// Flows that are gathered at the same time.
const FLOWS: usize = 64;
const MAX_SEGMENTS: usize = 64;
/// Octets of a super-packet, by the length field of IPv4; the same is taken for IPv6.
const MAX_LENGTH: usize = 65_535;
/// The largest headers that are joined: IPv4 or IPv6 without options, TCP with all options.
const MAX_HEADER: usize = 40 + 60;

#[derive(Debug, Clone)]
struct Flow {
    inner: Inner,
    kind: Super,
    /// IP, TCP and UDP headers together.
    header_len: usize,
    /// Payload of every packet but the last.
    size: usize,
    last_size: usize,
    total: usize,
    next_sequence: u32,
    closed: bool,
    verified: bool,
    packets: Vec<Range<usize>>,
}

/// Gathers the packets of one batch.
#[derive(Debug)]
pub(crate) struct Coalescer {
    flows: Vec<Option<Flow>>,
    used: Vec<usize>,
    /// What the kernel's TUN device takes in one piece.
    tcp: bool,
    udp: bool,
    spare: Vec<Vec<Range<usize>>>,
}

impl Coalescer {
    pub(crate) fn new(tcp: bool, udp: bool) -> Self {
        Self {
            flows: vec![None; FLOWS],
            used: Vec::with_capacity(FLOWS),
            tcp,
            udp,
            spare: Vec::new(),
        }
    }

    /// Takes the packet in `range` of the arena, which stays untouched until [`Coalescer::flush`].
    pub(crate) fn add(
        &mut self,
        arena: &[u8],
        range: Range<usize>,
        inner: Inner,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let packet = &arena[range.clone()];
        let slot = inner.flow_hash(packet) as usize % FLOWS;
        let candidate = self.candidate(packet, &inner);
        let Some(candidate) = candidate else {
            // What belongs to the same flow must not be overtaken.
            self.flush_slot(arena, slot, out)?;
            return write_plain(out, packet);
        };
        if let Some(flow) = &mut self.flows[slot] {
            if joins(flow, arena, &candidate, packet) {
                flow.packets.push(range);
                flow.total += candidate.size;
                flow.last_size = candidate.size;
                flow.next_sequence = candidate.next_sequence;
                flow.closed = candidate.closed || candidate.size < flow.size;
                return Ok(());
            }
            self.flush_slot(arena, slot, out)?;
        }
        let mut packets = self.spare.pop().unwrap_or_default();
        packets.clear();
        packets.push(range);
        self.used.push(slot);
        self.flows[slot] = Some(Flow {
            packets,
            ..candidate
        });
        Ok(())
    }

    /// Writes out everything that was gathered.
    pub(crate) fn flush(&mut self, arena: &[u8], out: &mut impl Write) -> io::Result<()> {
        let mut result = Ok(());
        while let Some(slot) = self.used.pop() {
            let written = self.flush_slot(arena, slot, out);
            result = result.and(written);
        }
        result
    }

    fn flush_slot(&mut self, arena: &[u8], slot: usize, out: &mut impl Write) -> io::Result<()> {
        let Some(flow) = self.flows[slot].take() else {
            return Ok(());
        };
        let result = write_flow(&flow, arena, out);
        self.spare.push(flow.packets);
        result
    }

    /// What a packet would be as the first of a super-packet; none: it cannot be joined.
    fn candidate(&self, packet: &[u8], inner: &Inner) -> Option<Flow> {
        let plain_header = if inner.v6 { 40 } else { 20 };
        if inner.fragment || inner.header_len != plain_header {
            return None;
        }
        let l4 = inner.header_len;
        let (kind, header_len, closed) = match inner.protocol {
            TCP if self.tcp && packet.len() >= l4 + 20 => {
                let header_len = l4 + usize::from(packet[l4 + 12] >> 4) * 4;
                let flags = packet[l4 + 13];
                // Only plain data segments: ACK, and PSH, which ends a super-packet.
                if header_len < l4 + 20 || flags & !0x08 != 0x10 {
                    return None;
                }
                (Super::Tcp, header_len, flags & 0x08 != 0)
            }
            UDP if self.udp && packet.len() > l4 + 8 => {
                let length = usize::from(u16::from_be_bytes([packet[l4 + 4], packet[l4 + 5]]));
                // Without a checksum nobody could verify it.
                if packet[l4 + 6..l4 + 8] == [0, 0] || length != packet.len() - l4 {
                    return None;
                }
                (Super::Udp, l4 + 8, false)
            }
            _ => return None,
        };
        let size = packet.len().checked_sub(header_len).filter(|&s| s > 0)?;
        let next_sequence = match kind {
            Super::Tcp => read_u32(packet, l4 + 4).wrapping_add(size as u32),
            Super::Udp => 0,
        };
        Some(Flow {
            inner: *inner,
            kind,
            header_len,
            size,
            last_size: size,
            total: header_len + size,
            next_sequence,
            closed,
            verified: false,
            packets: Vec::new(),
        })
    }
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn joins(flow: &mut Flow, arena: &[u8], candidate: &Flow, packet: &[u8]) -> bool {
    let fits = !flow.closed
        && flow.kind == candidate.kind
        && flow.header_len == candidate.header_len
        && candidate.size <= flow.size
        && flow.packets.len() < MAX_SEGMENTS
        && flow.total + candidate.size <= MAX_LENGTH;
    if !fits {
        return false;
    }
    let first = &arena[flow.packets[0].clone()];
    if !same_headers(flow, first, packet, candidate) {
        return false;
    }
    let l4 = flow.inner.header_len;
    let holds = |p: &[u8]| transport_checksum_holds(p, flow.inner.v6, flow.inner.protocol, l4);
    if !flow.verified && !holds(first) {
        return false;
    }
    flow.verified = true;
    holds(packet)
}

fn same_headers(flow: &Flow, first: &[u8], packet: &[u8], candidate: &Flow) -> bool {
    let l4 = flow.inner.header_len;
    let ip = if flow.inner.v6 {
        // All but the payload length.
        first[..4] == packet[..4] && first[6..40] == packet[6..40]
    } else {
        // All but total length, identification, checksum.
        first[..2] == packet[..2]
            && first[6..10] == packet[6..10]
            && first[12..20] == packet[12..20]
    };
    if !ip || first[l4..l4 + 4] != packet[l4..l4 + 4] {
        return false;
    }
    match flow.kind {
        Super::Udp => true,
        Super::Tcp => {
            let sequence = candidate.next_sequence.wrapping_sub(candidate.size as u32);
            sequence == flow.next_sequence
                && first[l4 + 8..l4 + 13] == packet[l4 + 8..l4 + 13]
                && first[l4 + 14..l4 + 16] == packet[l4 + 14..l4 + 16]
                && first[l4 + 20..flow.header_len] == packet[l4 + 20..flow.header_len]
        }
    }
}

fn write_plain(out: &mut impl Write, packet: &[u8]) -> io::Result<()> {
    write_whole(
        out,
        &[IoSlice::new(&VnetHeader::PLAIN), IoSlice::new(packet)],
    )
}

/// The device takes a packet whole or not at all.
fn write_whole(out: &mut impl Write, slices: &[IoSlice<'_>]) -> io::Result<()> {
    let expected: usize = slices.iter().map(|s| s.len()).sum();
    if out.write_vectored(slices)? == expected {
        return Ok(());
    }
    Err(io::ErrorKind::WriteZero.into())
}

fn write_flow(flow: &Flow, arena: &[u8], out: &mut impl Write) -> io::Result<()> {
    let first = &arena[flow.packets[0].clone()];
    let [.., last] = flow.packets.as_slice() else {
        return Ok(());
    };
    if flow.packets.len() == 1 {
        return write_plain(out, first);
    }
    let (v6, l4) = (flow.inner.v6, flow.inner.header_len);
    let mut header = [0u8; MAX_HEADER];
    let header = &mut header[..flow.header_len];
    header.copy_from_slice(&first[..flow.header_len]);
    let upper = flow.total - l4;
    if v6 {
        header[4..6].copy_from_slice(&(upper as u16).to_be_bytes());
    } else {
        header[2..4].copy_from_slice(&(flow.total as u16).to_be_bytes());
        header[10..12].fill(0);
        let checksum = finish(sum(&header[..l4]));
        header[10..12].copy_from_slice(&checksum);
    }
    let field = match flow.kind {
        Super::Tcp => {
            // PSH of the last packet.
            header[l4 + 13] |= arena[last.start + l4 + 13] & 0x08;
            l4 + 16
        }
        Super::Udp => {
            header[l4 + 4..l4 + 6].copy_from_slice(&(upper as u16).to_be_bytes());
            l4 + 6
        }
    };
    let partial = fold(pseudo(header, v6, flow.inner.protocol, upper));
    header[field..field + 2].copy_from_slice(&partial.to_ne_bytes());
    let vnet: [u8; VNET_LEN] =
        VnetHeader::super_packet(flow.kind, v6, l4, flow.header_len, flow.size);
    let mut slices = [IoSlice::new(&[]); 2 + MAX_SEGMENTS];
    slices[0] = IoSlice::new(&vnet);
    slices[1] = IoSlice::new(header);
    for (slice, packet) in slices[2..].iter_mut().zip(&flow.packets) {
        *slice = IoSlice::new(&arena[packet.start + flow.header_len..packet.end]);
    }
    write_whole(out, &slices[..2 + flow.packets.len()])
}
