//! Packets on their way to the locator side, gathered until the site side has nothing more to give.
//!
//! Packets of one flow (same locator pair, source port, TTL, TOS) are joined to one message as long as their lengths
//! allow, also when other flows' packets came between them: the kernel then cuts the message into datagrams
//! (UDP_SEGMENT), which costs one trip through the stack instead of one per packet. A packet that stays alone is sent
//! with our own IP and UDP header and a UDP checksum of zero (RFC 6830 5.3); all of those share system calls
//! whatever their flows. UDP_SEGMENT sockets cannot send a zero checksum, theirs is filled in, correctly.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::checksum::{finish, sum};
use super::sockets::PortPool;
use super::sys::{Control, Outgoing, SendBuffers};
use crate::forwarding::{Counter, Counters};

/// Free octets that must lie before a LISP header in the arena: an IPv6 and a UDP header.
pub(crate) const OUTER_ROOM: usize = 48;

/// Datagrams that the kernel takes in one message (UDP_MAX_SEGMENTS of older kernels).
const MAX_SEGMENTS: usize = 64;
/// Octets of one message: what fits into an IPv4 packet behind IP and UDP header.
const MAX_MESSAGE: usize = 65_535 - 28;
/// Fewer packets than this are not worth a message of their own, unless they continue a flow's earlier message.
const WORTH_JOINING: usize = 3;

/// The outer header of a packet, as far as it differs between packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outer {
    pub(crate) source: IpAddr,
    pub(crate) rloc: IpAddr,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    /// Index of the source port in the pool.
    pub(crate) port_index: u16,
    pub(crate) port: u16,
}

#[derive(Debug)]
struct Message {
    outer: Outer,
    /// Length of every packet but the last.
    segment: usize,
    last: usize,
    total: usize,
    packets: u32,
    /// What did not fit into the flow's message before: bulk, which arrives joined only if it leaves joined.
    continues: bool,
    /// First packet; the others follow through `Packet::next`.
    head: u32,
    tail: u32,
}

/// LISP header and inner packet in two pieces of the arena (the second may be empty).
#[derive(Debug)]
struct Packet {
    head: Range<u32>,
    payload: Range<u32>,
    next: u32,
}

const END: u32 = u32::MAX;

/// Packets to be sent together.
#[derive(Debug)]
pub(crate) struct Batch {
    messages: Vec<Message>,
    packets: Vec<Packet>,
    /// Last message of each source port and family, plus one.
    open: [Vec<u32>; 2],
    join: bool,
    plain: SendBuffers,
    joined: SendBuffers,
}

impl Batch {
    /// `join`: whether to let the kernel cut messages.
    pub(crate) fn new(source_ports: u16, join: bool) -> Self {
        let open = || vec![0; usize::from(source_ports)];
        Self {
            messages: Vec::with_capacity(512),
            packets: Vec::with_capacity(1024),
            open: [open(), open()],
            join,
            plain: SendBuffers::default(),
            joined: SendBuffers::default(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Adds a packet. `head` starts with the LISP header and has [`OUTER_ROOM`] octets before it.
    pub(crate) fn push(&mut self, outer: Outer, head: Range<usize>, payload: Range<usize>) {
        let length = head.len() + payload.len();
        let at = self.packets.len() as u32;
        self.packets.push(Packet {
            head: head.start as u32..head.end as u32,
            payload: payload.start as u32..payload.end as u32,
            next: END,
        });
        let family = usize::from(outer.rloc.is_ipv6());
        let open = &mut self.open[family][usize::from(outer.port_index)];
        let mut continues = false;
        if *open != 0 {
            let message = &mut self.messages[*open as usize - 1];
            continues = message.outer == outer && message.packets as usize >= WORTH_JOINING;
            let fits = message.outer == outer
                && message.last == message.segment
                && length <= message.segment
                && (message.packets as usize) < MAX_SEGMENTS
                && message.total + length <= MAX_MESSAGE;
            if fits {
                self.packets[message.tail as usize].next = at;
                message.tail = at;
                message.last = length;
                message.total += length;
                message.packets += 1;
                return;
            }
        }
        self.messages.push(Message {
            outer,
            segment: length,
            last: length,
            total: length,
            packets: 1,
            continues,
            head: at,
            tail: at,
        });
        *open = self.messages.len() as u32;
    }

    /// Sends everything, in order within each flow.
    pub(crate) fn flush(&mut self, arena: &mut [u8], pool: &PortPool, counters: &Counters) {
        let messages = std::mem::take(&mut self.messages);
        let mut plain_source = None;
        let mut joined_socket = None;
        for message in &messages {
            let family = usize::from(message.outer.rloc.is_ipv6());
            self.open[family][usize::from(message.outer.port_index)] = 0;
            let lonely = (message.packets as usize) < WORTH_JOINING && !message.continues;
            if !self.join || lonely {
                let source = message.outer.source;
                if plain_source.is_some_and(|s| s != source) {
                    self.send_plain(plain_source.take(), arena, pool, counters);
                }
                // Order within a flow: what was joined before must leave before.
                self.send_joined(joined_socket.take(), arena, pool, counters);
                plain_source = Some(source);
                self.add_plain(message, arena);
            } else {
                self.send_plain(plain_source.take(), arena, pool, counters);
                let socket = (family == 1, message.outer.port_index);
                if joined_socket.is_some_and(|s| s != socket) {
                    self.send_joined(joined_socket.take(), arena, pool, counters);
                }
                joined_socket = Some(socket);
                self.add_joined(message);
            }
        }
        self.send_plain(plain_source, arena, pool, counters);
        self.send_joined(joined_socket, arena, pool, counters);
        self.messages = messages;
        self.messages.clear();
        self.packets.clear();
    }

    fn add_plain(&mut self, message: &Message, arena: &mut [u8]) {
        let outer = &message.outer;
        let to = SocketAddr::new(outer.rloc, 0);
        let mut at = message.head;
        while at != END {
            let packet = &self.packets[at as usize];
            at = packet.next;
            let start = write_outer(arena, packet, outer);
            let first_piece = self.plain.pieces.len();
            self.plain.pieces.push((start, packet.head.end));
            if !packet.payload.is_empty() {
                self.plain
                    .pieces
                    .push((packet.payload.start, packet.payload.end));
            }
            self.plain.messages.push(Outgoing {
                to,
                control: None,
                first_piece,
                piece_count: self.plain.pieces.len() - first_piece,
            });
        }
    }

    fn add_joined(&mut self, message: &Message) {
        let outer = &message.outer;
        let first_piece = self.joined.pieces.len();
        let mut at = message.head;
        while at != END {
            let packet = &self.packets[at as usize];
            at = packet.next;
            self.joined
                .pieces
                .push((packet.head.start, packet.head.end));
            if !packet.payload.is_empty() {
                self.joined
                    .pieces
                    .push((packet.payload.start, packet.payload.end));
            }
        }
        let segment = Some(message.segment as u16);
        self.joined.messages.push(Outgoing {
            to: SocketAddr::new(outer.rloc, lisp::DATA_PORT),
            control: Some(Control::outgoing(
                outer.source,
                outer.ttl,
                outer.tos,
                segment,
            )),
            first_piece,
            piece_count: self.joined.pieces.len() - first_piece,
        });
    }

    fn send_plain(
        &mut self,
        source: Option<IpAddr>,
        arena: &[u8],
        pool: &PortPool,
        counters: &Counters,
    ) {
        let Some(source) = source else { return };
        match pool.raw(source) {
            Ok(socket) => {
                use std::os::fd::AsFd;
                self.plain.send(socket.as_fd(), arena, |message, error| {
                    counters.add(Counter::SendErrors, 1);
                    tracing::debug!(to = %message.to.ip(), %error, "could not send a packet");
                });
            }
            Err(error) => {
                counters.add(Counter::SendErrors, self.plain.messages.len() as u64);
                tracing::debug!(%source, %error, "no socket for a locator of ours");
                self.plain.messages.clear();
                self.plain.pieces.clear();
            }
        }
    }

    fn send_joined(
        &mut self,
        socket: Option<(bool, u16)>,
        arena: &[u8],
        pool: &PortPool,
        counters: &Counters,
    ) {
        let Some((v6, index)) = socket else { return };
        let Some(socket) = pool.socket(v6, index) else {
            return;
        };
        let mut refused = false;
        self.joined.send(socket, arena, |message, error| {
            counters.add(Counter::SendErrors, message.piece_count as u64);
            refused |= matches!(
                error.raw_os_error(),
                Some(libc::EIO | libc::EINVAL | libc::EOPNOTSUPP)
            );
            tracing::debug!(to = %message.to.ip(), %error, "could not send a joined message");
        });
        if refused && self.join {
            self.join = false;
            tracing::warn!(
                "the kernel refuses UDP_SEGMENT here: packets are sent one by one from now on, slower"
            );
        }
    }
}

/// Writes IP and UDP header before a packet's LISP header (RFC 6830 5.1, 5.2): DF set, UDP checksum zero. Returns
/// where the packet starts now.
fn write_outer(arena: &mut [u8], packet: &Packet, outer: &Outer) -> u32 {
    let payload = packet.head.len() + packet.payload.len();
    let udp_length = (8 + payload) as u16;
    let lisp = packet.head.start as usize;
    let udp = &mut arena[lisp - 8..lisp];
    udp[0..2].copy_from_slice(&outer.port.to_be_bytes());
    udp[2..4].copy_from_slice(&lisp::DATA_PORT.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_length.to_be_bytes());
    udp[6..8].fill(0);
    match (outer.source, outer.rloc) {
        (IpAddr::V4(source), IpAddr::V4(rloc)) => {
            let ip = &mut arena[lisp - 28..lisp - 8];
            ip[0] = 0x45;
            ip[1] = outer.tos;
            ip[2..4].copy_from_slice(&(20 + udp_length).to_be_bytes());
            // The kernel chooses the identification where it is zero.
            ip[4..6].fill(0);
            ip[6..8].copy_from_slice(&[0x40, 0]);
            ip[8] = outer.ttl;
            ip[9] = super::inner::UDP;
            ip[10..12].fill(0);
            ip[12..16].copy_from_slice(&source.octets());
            ip[16..20].copy_from_slice(&rloc.octets());
            let checksum = finish(sum(ip));
            ip[10..12].copy_from_slice(&checksum);
            lisp as u32 - 28
        }
        (source, rloc) => {
            let octets = |a: IpAddr| match a {
                IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
                IpAddr::V6(a) => a.octets(),
            };
            let ip = &mut arena[lisp - 48..lisp - 8];
            ip[0] = 0x60 | outer.tos >> 4;
            ip[1] = outer.tos << 4;
            ip[2..4].fill(0);
            ip[4..6].copy_from_slice(&udp_length.to_be_bytes());
            ip[6] = super::inner::UDP;
            ip[7] = outer.ttl;
            ip[8..24].copy_from_slice(&octets(source));
            ip[24..40].copy_from_slice(&octets(rloc));
            lisp as u32 - 48
        }
    }
}

/// One packet as it is sent alone, for comparisons: `payload` starts with the LISP header.
#[cfg(test)]
pub(crate) fn whole_packet(outer: &Outer, payload: &[u8]) -> Vec<u8> {
    let mut arena = vec![0; OUTER_ROOM];
    arena.extend_from_slice(payload);
    let packet = Packet {
        head: OUTER_ROOM as u32..arena.len() as u32,
        payload: 0..0,
        next: END,
    };
    let start = write_outer(&mut arena, &packet, outer) as usize;
    arena.split_off(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_super_packet_leaves_joined_and_in_order() {
        let outer = Outer {
            source: IpAddr::from([192, 0, 2, 1]),
            rloc: IpAddr::from([192, 0, 2, 2]),
            tos: 0,
            ttl: 63,
            port_index: 0,
            port: 50_000,
        };
        let mut batch = Batch::new(1, true);
        for _ in 0..46 {
            batch.push(outer, 64..124, 1_000..2_412);
        }
        let shape: Vec<(u32, bool)> = batch
            .messages
            .iter()
            .map(|m| (m.packets, m.continues))
            .collect();
        assert_eq!(shape, [(44, false), (2, true)]);
        assert!(batch.messages.iter().all(|m| m.total <= MAX_MESSAGE));
    }
}
