//! From the site to the locators: the ITR half.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lisp::wire::DataHeader;
use lisp::wire::data::DATA_HEADER_LEN;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::batch::{Batch, OUTER_ROOM, Outer};
use super::fragment::fragment;
use super::icmp::{self, Complaint};
use super::inner::{self, Inner, MOST_HEADERS, UDP};
use super::limiter::Limiter;
use super::route::{Fate, fate, header};
use super::segment::{Plan, complete_checksum};
use super::sockets::{IcmpSockets, PortPool};
use super::traceroute::{Traceroutes, UNTRACED_TTL, is_traceroute};
use super::vnet::{Super, VNET_LEN, VnetHeader};
use crate::fastpath::FastPath;
use crate::forwarding::{
    Counter, DataEvent, Destination, Edition, EventSender, Forwarding, HeldPacket, Tables,
};

/// Largest read: an IP packet and its virtio-net header.
const READ: usize = 65_535 + VNET_LEN;
/// Octets before each packet: outer and LISP header, aligned.
const HEADROOM: usize = 64;
/// Room for a headers-only piece of a segment: outer, LISP, the largest inner headers.
const HEADER_SLOT: usize = 64 + 40 + 60 + 64;
/// Packets wait here until they are sent: three super-packets, so that they are still in the cache then.
const PACKET_AREA: usize = 128 * 1024;
const HEADER_AREA: usize = 1024 * HEADER_SLOT;
/// Packets read before those already read are sent.
const BATCH: usize = 512;

/// What all packet threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) forwarding: Arc<Forwarding>,
    pub(crate) events: EventSender,
    pub(crate) pool: PortPool,
    pub(crate) icmp: IcmpSockets,
    pub(crate) traceroutes: Traceroutes,
    /// L of RFC 6830 5.4, octets.
    pub(crate) locator_mtu: usize,
    pub(crate) source_ports: u16,
    pub(crate) join: bool,
    pub(crate) spin: Duration,
    /// Who takes plain packets before they come here.
    pub(crate) fast: Option<FastPath>,
}

impl Shared {
    pub(crate) fn count(&self, counter: Counter) {
        self.forwarding.counters().add(counter, 1);
    }

    /// Tells the kernel path, where there is one.
    pub(crate) fn tell(&self, what: impl FnOnce(&FastPath)) {
        if let Some(fast) = &self.fast {
            what(fast);
        }
    }

    pub(crate) fn report(&self, event: DataEvent) {
        if !self.events.send(event) {
            self.count(Counter::EventsSuppressed);
        }
    }
}

/// Largest inner packet that a locator's path carries whole (S of RFC 6830 5.4.1), where every path carries at most
/// `locator_mtu` octets.
pub(crate) fn inner_limit(locator_mtu: usize, destination: &Destination) -> usize {
    let learned = destination.state.mtu().map_or(usize::MAX, usize::from);
    let outer = if destination.rloc.is_ipv6() { 40 } else { 20 };
    locator_mtu.min(learned) - outer - 8 - DATA_HEADER_LEN
}

/// Encapsulates packets and sends them in batches.
pub(crate) struct Encapsulator {
    shared: Arc<Shared>,
    tun: File,
    arena: Vec<u8>,
    packets_end: usize,
    headers_end: usize,
    batch: Batch,
    limiter: Limiter,
    /// Misses are dropped, not reported: the packets were held before.
    released: bool,
    now_ms: u64,
}

impl std::fmt::Debug for Encapsulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encapsulator")
            .field("tun", &self.tun)
            .field("released", &self.released)
            .finish_non_exhaustive()
    }
}

impl Encapsulator {
    pub(crate) fn new(shared: Arc<Shared>, tun: File) -> Self {
        let batch = Batch::new(shared.source_ports, shared.join);
        Self {
            shared,
            tun,
            arena: vec![0; PACKET_AREA + READ + HEADROOM + HEADER_AREA],
            packets_end: 0,
            headers_end: PACKET_AREA + READ + HEADROOM,
            batch,
            limiter: Limiter::default(),
            released: false,
            now_ms: 0,
        }
    }

    /// Forwards until `stop` becomes readable.
    pub(crate) fn run(mut self, stop: &impl AsFd) {
        loop {
            let read = self.read_batch();
            if read == 0 && !self.wait(stop) {
                return;
            }
        }
    }

    /// Waits for the next packet; false: to be stopped.
    fn wait(&self, stop: &impl AsFd) -> bool {
        let started = Instant::now();
        loop {
            let spinning = started.elapsed() < self.shared.spin;
            let timeout = if spinning {
                PollTimeout::ZERO
            } else {
                PollTimeout::NONE
            };
            let mut fds = [
                PollFd::new(self.tun.as_fd(), PollFlags::POLLIN),
                PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, timeout) {
                Ok(0) => std::thread::yield_now(),
                Ok(_) => {
                    let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|r| !r.is_empty());
                    return !ready(&fds[1]);
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "waiting for packets failed: the packet thread ends");
                    return false;
                }
            }
        }
    }

    fn read_batch(&mut self) -> usize {
        let shared = Arc::clone(&self.shared);
        let tables = shared.forwarding.snapshot();
        self.now_ms = shared.forwarding.now_ms();
        let mut read = 0;
        while read < BATCH && self.has_room() {
            let at = self.packets_end + HEADROOM;
            let length = match self.read_packet(at - VNET_LEN) {
                Ok(length) if length > VNET_LEN => length - VNET_LEN,
                Ok(_) => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            read += 1;
            self.packets_end = (at + length).next_multiple_of(16);
            self.site_packet(&tables, at, length, None);
        }
        drop(tables);
        self.flush();
        read
    }

    fn has_room(&self) -> bool {
        self.packets_end <= PACKET_AREA && self.headers_end + 64 * HEADER_SLOT <= self.arena.len()
    }

    fn read_packet(&mut self, at: usize) -> io::Result<usize> {
        use std::io::Read;
        (&self.tun).read(&mut self.arena[at..at + READ])
    }

    fn flush(&mut self) {
        if !self.batch.is_empty() {
            let counters = self.shared.forwarding.counters();
            self.batch
                .flush(&mut self.arena, &self.shared.pool, counters);
        }
        self.packets_end = 0;
        self.headers_end = PACKET_AREA + READ + HEADROOM;
    }

    /// A packet of the TUN device, its virtio-net header right before it.
    fn site_packet(&mut self, tables: &Tables, at: usize, length: usize, instance: Option<u32>) {
        let mut vnet = [0; VNET_LEN];
        vnet.copy_from_slice(&self.arena[at - VNET_LEN..at]);
        let packet = &self.arena[at..at + length];
        let (Some(vnet), Ok(inner)) = (VnetHeader::parse(vnet), Inner::parse(packet)) else {
            self.shared.count(Counter::SiteMalformed);
            return;
        };
        self.forward(tables, at, inner, vnet, instance);
    }

    /// Held packets, after their mapping arrived.
    pub(crate) fn release(&mut self, packets: &[HeldPacket]) {
        self.released = true;
        let shared = Arc::clone(&self.shared);
        for chunk in packets.chunks(64) {
            let tables = shared.forwarding.snapshot();
            self.now_ms = shared.forwarding.now_ms();
            for packet in chunk {
                self.shared.count(Counter::Released);
                self.owned_packet(&tables, &packet.bytes, Some(packet.iid));
            }
            drop(tables);
            self.flush();
        }
    }

    /// A complete packet from elsewhere than the TUN device.
    pub(crate) fn owned_packet(&mut self, tables: &Tables, bytes: &[u8], instance: Option<u32>) {
        if !self.has_room() {
            self.flush();
        }
        let at = self.packets_end + HEADROOM;
        if bytes.len() > READ {
            return;
        }
        self.arena[at - VNET_LEN..at].fill(0);
        self.arena[at..at + bytes.len()].copy_from_slice(bytes);
        self.packets_end = (at + bytes.len()).next_multiple_of(16);
        self.site_packet(tables, at, bytes.len(), instance);
    }

    /// A multicast packet of the site: `source_to` says from which locator to its group, if at all (RFC 6830 11).
    pub(crate) fn group_packet(
        &mut self,
        tables: &Tables,
        bytes: &[u8],
        vnet: VnetHeader,
        source_to: impl FnOnce(IpAddr) -> Option<IpAddr>,
    ) {
        let Ok(inner) = Inner::parse(bytes) else {
            return self.shared.count(Counter::SiteMalformed);
        };
        if !inner::header_checksum_holds(bytes, &inner) {
            return self.shared.count(Counter::SiteMalformed);
        }
        let Some(source) = source_to(inner.destination) else {
            return;
        };
        let Some(local) = tables.local_source(inner.source) else {
            return self.shared.count(Counter::SourceNotEid);
        };
        // No kernel lies between to count the hop.
        let Some(ttl) = inner.ttl.checked_sub(1).filter(|&ttl| ttl > 0) else {
            return self.shared.count(Counter::TtlExpired);
        };
        if !self.has_room() {
            self.flush();
        }
        let at = self.packets_end + HEADROOM;
        let packet = &mut self.arena[at..at + inner.len];
        packet.copy_from_slice(&bytes[..inner.len]);
        inner::rewrite(packet, inner.v6, inner.tos, ttl);
        self.packets_end = (at + inner.len).next_multiple_of(16);
        let headers = if inner.v6 { 40 } else { 20 } + 8 + DATA_HEADER_LEN;
        if self.wire_length(at, &inner, &vnet) > self.shared.locator_mtu - headers {
            return self.shared.count(Counter::TooBig);
        }
        let hash = inner.flow_hash(&self.arena[at..at + inner.len]);
        let Some((port_index, port, _)) = self.shared.pool.of_flow(inner.v6, hash) else {
            return self.shared.count(Counter::SendErrors);
        };
        let iid = local.prefix.iid;
        let header = DataHeader {
            instance_id: (iid != 0).then_some(iid),
            ..DataHeader::default()
        };
        let mut lisp = [0; DATA_HEADER_LEN];
        header.emit(&mut lisp);
        let outer = Outer {
            source,
            rloc: inner.destination,
            tos: inner.tos,
            ttl,
            port_index,
            port,
        };
        match self.encapsulate(at, &inner, &vnet, outer, lisp) {
            Some(packets) => {
                let counters = self.shared.forwarding.counters();
                counters.add(Counter::Encapsulated, packets);
            }
            None => self.shared.count(Counter::SiteMalformed),
        }
    }

    /// Sends what [`Encapsulator::owned_packet`] and [`Encapsulator::group_packet`] gathered.
    pub(crate) fn finish(&mut self) {
        self.flush();
    }

    fn forward(
        &mut self,
        tables: &Tables,
        at: usize,
        inner: Inner,
        vnet: VnetHeader,
        instance: Option<u32>,
    ) {
        let packet = &self.arena[at..at + inner.len];
        let hash = inner.flow_hash(packet);
        if tables.policy.report_sources {
            self.report_source(tables, &inner);
        }
        match fate(tables, &inner, instance, hash) {
            Fate::Encapsulate {
                iid,
                local,
                entry,
                destination,
            } => {
                let limit = inner_limit(self.shared.locator_mtu, destination);
                if self.too_big(tables, iid, at, &inner, &vnet, limit) {
                    return;
                }
                let Some(source) = destination.source else {
                    self.shared.count(Counter::DroppedByMapping);
                    return;
                };
                let v6 = destination.rloc.is_ipv6();
                let packet = &self.arena[at..at + inner.len];
                if inner::lisp_headers(packet, &inner) >= MOST_HEADERS {
                    return self.shared.count(Counter::TooManyHeaders);
                }
                // RFC 9300 has no section on it: there a flow keeps its source port, and the TTL is copied always.
                let traced =
                    tables.policy.edition == Edition::Rfc6830 && is_traceroute(packet, &inner);
                let pool = &self.shared.pool;
                let port = if traced && !v6 && !inner.v6 {
                    let key = self
                        .shared
                        .traceroutes
                        .keep(destination.rloc, packet, &inner);
                    pool.at(v6, key).map(|port| (key, port))
                } else {
                    pool.of_flow(v6, hash).map(|(index, port, _)| (index, port))
                };
                let Some((port_index, port)) = port else {
                    self.shared.count(Counter::SendErrors);
                    return;
                };
                let lisp = header(
                    tables,
                    iid,
                    local.map(AsRef::as_ref),
                    entry.map(AsRef::as_ref),
                    destination,
                );
                let mut lisp_header = [0; DATA_HEADER_LEN];
                // Nothing claimed: all bits are zero.
                if lisp != DataHeader::default() {
                    lisp.emit(&mut lisp_header);
                }
                let outer = Outer {
                    source,
                    rloc: destination.rloc,
                    tos: inner.tos,
                    ttl: if traced && v6 != inner.v6 {
                        UNTRACED_TTL
                    } else {
                        inner.ttl
                    },
                    port_index,
                    port,
                };
                let Some(packets) = self.encapsulate(at, &inner, &vnet, outer, lisp_header) else {
                    self.shared.count(Counter::SiteMalformed);
                    return;
                };
                let bytes = inner.len as u64;
                if let Some(entry) = entry {
                    entry.used(packets, bytes, self.now_ms);
                }
                destination.state.sent(packets, bytes);
                let counters = self.shared.forwarding.counters();
                counters.add(Counter::Encapsulated, packets);
            }
            Fate::Native => self.return_to_kernel(at, inner.len),
            Fate::Miss { iid } => {
                self.shared.count(Counter::Misses);
                if !self.released {
                    self.miss(iid, at, &inner, &vnet);
                }
            }
            Fate::Drop(counter) => {
                self.shared.count(counter);
                match counter {
                    Counter::DroppedByAction => self.complain(at, &inner, Complaint::Prohibited),
                    Counter::DroppedByMapping => self.complain(at, &inner, Complaint::Unreachable),
                    _ => {}
                }
            }
        }
    }

    /// Adds a packet or the segments of a super-packet to the batch; how many. None: its headers make no sense.
    fn encapsulate(
        &mut self,
        at: usize,
        inner: &Inner,
        vnet: &VnetHeader,
        outer: Outer,
        lisp: [u8; DATA_HEADER_LEN],
    ) -> Option<u64> {
        let Some((kind, size)) = vnet.segments else {
            let packet = &mut self.arena[at..at + inner.len];
            if let Some((start, field)) = vnet.checksum
                && !complete_checksum(packet, start, field, inner.protocol == UDP)
            {
                return None;
            }
            let start = at - DATA_HEADER_LEN;
            self.arena[start..at].copy_from_slice(&lisp);
            self.batch.push(outer, start..at + inner.len, 0..0);
            return Some(1);
        };
        let plan = self.plan(at, inner, vnet, kind, size)?;
        if plan.header_len > HEADER_SLOT - HEADROOM {
            return None;
        }
        let count = plan.count();
        for index in 0..count {
            if self.headers_end + HEADER_SLOT > self.arena.len() {
                // More segments than header room: what is ready leaves first; the packet stays where it is.
                let counters = self.shared.forwarding.counters();
                self.batch
                    .flush(&mut self.arena, &self.shared.pool, counters);
                self.headers_end = PACKET_AREA + READ + HEADROOM;
            }
            let head = self.headers_end + OUTER_ROOM;
            let (packets, headers) = self.arena.split_at_mut(PACKET_AREA + READ + HEADROOM);
            let packet = &packets[at..at + inner.len];
            let local = head - packets.len();
            headers[local..local + DATA_HEADER_LEN].copy_from_slice(&lisp);
            let end = local + DATA_HEADER_LEN + plan.header_len;
            plan.write_header(packet, index, &mut headers[local + DATA_HEADER_LEN..end]);
            let payload = plan.payload(index);
            self.batch.push(
                outer,
                head..head + DATA_HEADER_LEN + plan.header_len,
                at + payload.start..at + payload.end,
            );
            self.headers_end += HEADER_SLOT;
        }
        Some(count as u64)
    }

    fn plan(
        &self,
        at: usize,
        inner: &Inner,
        vnet: &VnetHeader,
        kind: Super,
        size: usize,
    ) -> Option<Plan> {
        // Where the checksum starts, there starts TCP or UDP, also behind extension headers.
        let l4 = vnet.checksum.map_or(inner.header_len, |(start, _)| start);
        Plan::new(&self.arena[at..at + inner.len], inner.v6, l4, kind, size)
    }

    /// Octets of a packet, or of the largest segment of a super-packet. 0: its headers make no sense.
    fn wire_length(&self, at: usize, inner: &Inner, vnet: &VnetHeader) -> usize {
        match vnet.segments {
            None => inner.len,
            Some((kind, size)) => self
                .plan(at, inner, vnet, kind, size)
                .map_or(0, |plan| (plan.header_len + plan.size).min(inner.len)),
        }
    }

    /// Deals with a packet that the locator's path does not carry whole; false: it does.
    fn too_big(
        &mut self,
        tables: &Tables,
        iid: u32,
        at: usize,
        inner: &Inner,
        vnet: &VnetHeader,
        limit: usize,
    ) -> bool {
        if self.wire_length(at, inner, vnet) <= limit {
            return false;
        }
        if inner.fragmentable {
            self.split(tables, iid, at, inner, vnet, limit);
            return true;
        }
        self.shared.count(Counter::TooBig);
        self.complain(at, inner, Complaint::TooBig(limit as u16));
        true
    }

    /// Tells the source, rate-limited.
    fn complain(&mut self, at: usize, inner: &Inner, complaint: Complaint) {
        let kind = std::mem::discriminant(&complaint);
        let key = ("complaint", kind, inner.source, inner.destination);
        if self.limiter.allow(key, 4, 100, self.now_ms)
            && let Some(message) = icmp::message(&self.arena[at..at + inner.len], inner, complaint)
            && let Err(error) = self.shared.icmp.send(inner.source, &message)
        {
            tracing::debug!(source = %inner.source, %error, "could not complain to a source");
        }
    }

    /// Splits a DF=0 packet and sends the fragments each on its own (RFC 6830 5.4.1).
    fn split(
        &mut self,
        tables: &Tables,
        iid: u32,
        at: usize,
        inner: &Inner,
        vnet: &VnetHeader,
        limit: usize,
    ) {
        for packet in self.whole_packets(at, inner, vnet) {
            let Ok(inner) = Inner::parse(&packet) else {
                continue;
            };
            let Some(fragments) = fragment(&packet, &inner, limit) else {
                self.shared.count(Counter::TooBig);
                continue;
            };
            self.shared.count(Counter::Fragmented);
            for piece in &fragments {
                self.owned_packet(tables, piece, Some(iid));
            }
        }
    }

    /// The packets that a TUN read stands for, complete: checksums, and segments as packets of their own.
    fn whole_packets(&mut self, at: usize, inner: &Inner, vnet: &VnetHeader) -> Vec<Vec<u8>> {
        match vnet.segments {
            None => {
                let mut packet = self.arena[at..at + inner.len].to_vec();
                if let Some((start, field)) = vnet.checksum {
                    complete_checksum(&mut packet, start, field, inner.protocol == UDP);
                }
                vec![packet]
            }
            Some((kind, size)) => {
                let Some(plan) = self.plan(at, inner, vnet, kind, size) else {
                    return Vec::new();
                };
                let packet = &self.arena[at..at + inner.len];
                (0..plan.count())
                    .map(|index| {
                        let mut whole = vec![0; plan.header_len];
                        plan.write_header(packet, index, &mut whole);
                        whole.extend_from_slice(&packet[plan.payload(index)]);
                        whole
                    })
                    .collect()
            }
        }
    }

    fn miss(&mut self, iid: u32, at: usize, inner: &Inner, vnet: &VnetHeader) {
        // A few packets per destination are enough for the control plane to hold; the question is the same.
        let key = ("miss", iid, inner.destination);
        for bytes in self.whole_packets(at, inner, vnet) {
            if !self.limiter.allow(key, 16, 100, self.now_ms) {
                self.shared.count(Counter::MissesUnreported);
                continue;
            }
            self.shared.report(DataEvent::Miss {
                iid,
                source: inner.source,
                destination: inner.destination,
                packet: HeldPacket { iid, bytes },
            });
        }
    }

    fn report_source(&mut self, tables: &Tables, inner: &Inner) {
        if let Some(local) = tables.local_source(inner.source)
            && self.limiter.allow(
                ("source", local.prefix.iid, inner.source),
                1,
                1_000,
                self.now_ms,
            )
        {
            self.shared.report(DataEvent::SourceSeen {
                iid: local.prefix.iid,
                source: inner.source,
            });
        }
    }

    /// Gives a packet back to the kernel, which has a `throw` for its destination by now.
    fn return_to_kernel(&mut self, at: usize, length: usize) {
        self.shared.count(Counter::NativeInPath);
        let with_header = &self.arena[at - VNET_LEN..at + length];
        if let Err(error) = nix::unistd::write(self.tun.as_fd(), with_header) {
            self.shared.count(Counter::DeliveryErrors);
            tracing::debug!(%error, fd = self.tun.as_raw_fd(), "the kernel did not take a packet back");
        }
    }
}
