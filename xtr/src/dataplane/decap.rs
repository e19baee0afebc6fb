//! From the locators to the site: the ETR half.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use lisp::wire::DataHeader;
use lisp::wire::data::DATA_HEADER_LEN;
use socket2::Socket;

use super::coalesce::Coalescer;
use super::encap::{Encapsulator, Shared};
use super::inner::{self, Inner};
use super::limiter::Limiter;
use super::sys::{Arrival, RECEIVE_SLOT, ReceiveBuffers};
use crate::core::is_newer_version as is_newer;
use crate::forwarding::{Counter, DataEvent, Edition, LocalEid, Role, Tables};
use crate::kernel::site::{SiteRoutes, SiteView};
use crate::kernel::tun::TunOffload;

/// Datagrams, or joined ones, taken in one call.
const SLOTS: usize = 16;

/// Decapsulates what arrives on one socket.
pub(crate) struct Decapsulator {
    shared: Arc<Shared>,
    socket: Arc<Socket>,
    tun: File,
    site: SiteView,
    buffers: ReceiveBuffers,
    coalescer: Coalescer,
    limiter: Limiter,
    /// An RTR sends on from here.
    encapsulator: Encapsulator,
    now_ms: u64,
    /// Instance ID, destination and fate of the last packet of this batch whose header claimed nothing else.
    admitted: Option<(u32, IpAddr, Onward)>,
}

/// What to do with a decapsulated packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Onward {
    Deliver,
    /// Into a tunnel of the same instance.
    Reencapsulate {
        iid: u32,
    },
}

/// A LISP data packet, read and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) header: DataHeader,
    /// As it stands in the packet.
    pub(super) inner: Inner,
    /// TOS and TTL with which it leaves.
    pub(super) tos: u8,
    pub(super) ttl: u8,
}

/// Reads the payload of a datagram to port 4341 that came with this outer TTL and TOS.
///
/// # Errors
/// Why it has to be dropped.
pub(super) fn open(
    datagram: &[u8],
    outer_ttl: u8,
    outer_tos: u8,
    edition: Edition,
) -> Result<Opened, Counter> {
    let header = DataHeader::parse(datagram).map_err(|_| Counter::Truncated)?;
    // RFC 6830 5.3: the low flag bits are ignored; RFC 9300 made two of them "encrypted" (RFC 8061).
    if edition == Edition::Rfc9300 && header.flags & 0x03 != 0 {
        return Err(Counter::Encrypted);
    }
    let packet = &datagram[DATA_HEADER_LEN..];
    let inner = Inner::parse(packet)?;
    if !inner::header_checksum_holds(packet, &inner) {
        return Err(Counter::InnerChecksum);
    }
    if !inner.addresses_are_plausible() {
        return Err(Counter::InnerAddress);
    }
    Ok(Opened {
        header,
        inner,
        tos: inner::decapsulated_tos(edition, outer_tos, inner.tos).ok_or(Counter::EcnDrop)?,
        ttl: inner::decapsulated_ttl(outer_ttl, inner.ttl),
    })
}

/// Who sent a packet, and its LISP header.
struct Outside {
    encapsulator: IpAddr,
    header: DataHeader,
}

impl Decapsulator {
    pub(crate) fn new(
        shared: Arc<Shared>,
        socket: Arc<Socket>,
        tun: File,
        site: SiteView,
        offload: TunOffload,
        encapsulator: Encapsulator,
    ) -> Self {
        Self {
            shared,
            socket,
            tun,
            site,
            buffers: ReceiveBuffers::new(SLOTS),
            coalescer: Coalescer::new(offload.tcp, offload.udp),
            limiter: Limiter::default(),
            encapsulator,
            now_ms: 0,
            admitted: None,
        }
    }

    /// Forwards until `stop` is set and the socket shut down.
    pub(crate) fn run(mut self, stop: &AtomicBool) {
        let mut arrivals = Vec::with_capacity(SLOTS);
        let mut idle_since: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            let wait = idle_since.is_some_and(|since| since.elapsed() >= self.shared.spin)
                || self.shared.spin.is_zero();
            match self
                .buffers
                .receive(self.socket.as_fd(), wait, &mut arrivals)
            {
                Ok(()) => {
                    idle_since = None;
                    self.batch(&arrivals);
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    idle_since.get_or_insert_with(Instant::now);
                    if !wait {
                        std::thread::yield_now();
                    }
                }
                // Interrupted, or an ICMP error of an earlier answer: nothing is lost.
                Err(_) => {}
            }
        }
    }

    fn batch(&mut self, arrivals: &[Arrival]) {
        let shared = Arc::clone(&self.shared);
        let tables = shared.forwarding.snapshot();
        let site = self.site.current();
        self.now_ms = shared.forwarding.now_ms();
        self.admitted = None;
        let mut delivered = 0;
        let mut failed = 0;
        for (slot, arrival) in arrivals.iter().enumerate() {
            let base = slot * RECEIVE_SLOT;
            let mut at = 0;
            while at < arrival.len {
                let end = (at + arrival.segment).min(arrival.len);
                match self.datagram(&tables, &site, arrival, base + at, base + end) {
                    Ok((Onward::Deliver, packet, inner)) => {
                        let written =
                            self.coalescer
                                .add(&self.buffers.arena, packet, inner, &mut &self.tun);
                        delivered += 1;
                        failed += u64::from(written.is_err());
                    }
                    Ok((Onward::Reencapsulate { iid }, packet, _)) => {
                        let bytes = &self.buffers.arena[packet];
                        self.encapsulator.owned_packet(&tables, bytes, Some(iid));
                        shared.count(Counter::Reencapsulated);
                    }
                    Err(counter) => shared.count(counter),
                }
                at = end;
            }
        }
        drop(tables);
        self.encapsulator.finish();
        // Counted before they are seen.
        let counters = shared.forwarding.counters();
        counters.add(Counter::Decapsulated, delivered);
        let flushed = self.coalescer.flush(&self.buffers.arena, &mut &self.tun);
        failed += u64::from(flushed.is_err());
        if failed > 0 {
            counters.add(Counter::DeliveryErrors, failed);
        }
    }

    /// One LISP data packet: where its inner packet lies, changed as it has to leave.
    fn datagram(
        &mut self,
        tables: &Tables,
        site: &SiteRoutes,
        arrival: &Arrival,
        start: usize,
        end: usize,
    ) -> Result<(Onward, std::ops::Range<usize>, Inner), Counter> {
        let datagram = &self.buffers.arena[start..end];
        let Opened {
            header,
            inner,
            tos,
            ttl,
        } = open(datagram, arrival.ttl, arrival.tos, tables.policy.edition)?;
        let outside = Outside {
            encapsulator: arrival.source.map_or(inner.source, |a| a.ip()),
            header,
        };
        let onward = self.admit_again(tables, site, &inner, &outside);
        if tables.policy.data_probes && arrival.destination == Some(inner.destination) {
            self.report_probe(&inner, &outside, arrival);
        }
        let onward = onward?;
        let ttl = match onward {
            Onward::Deliver => ttl,
            // No kernel lies between to count the hop (RFC 6830 5.3: new outer TTL = old outer TTL - 1).
            Onward::Reencapsulate { .. } => ttl
                .checked_sub(1)
                .filter(|&t| t > 0)
                .ok_or(Counter::TtlExpired)?,
        };
        let datagram = &mut self.buffers.arena[start..end];
        let packet = &mut datagram[DATA_HEADER_LEN..DATA_HEADER_LEN + inner.len];
        inner::rewrite(packet, inner.v6, tos, ttl);
        let first = start + DATA_HEADER_LEN;
        Ok((
            onward,
            first..first + inner.len,
            Inner { tos, ttl, ..inner },
        ))
    }

    /// As [`Decapsulator::admit`], which packets that follow each other to one destination need only once a batch.
    fn admit_again(
        &mut self,
        tables: &Tables,
        site: &SiteRoutes,
        inner: &Inner,
        outside: &Outside,
    ) -> Result<Onward, Counter> {
        let header = &outside.header;
        let iid = header.instance_id.unwrap_or(0);
        let plain = header.nonce.is_none()
            && header.map_version.is_none()
            && header.locator_status.is_none()
            && tables.policy.petr_sources.is_empty()
            && tables.policy.petr_locators.is_empty();
        let key = (iid, inner.destination);
        match self.admitted {
            Some((i, destination, onward)) if plain && (i, destination) == key => Ok(onward),
            _ => {
                let onward = self.admit(tables, site, inner, outside)?;
                let reported = tables
                    .local_destination(iid, inner.destination)
                    .is_some_and(|l| l.report_senders);
                if plain && !reported {
                    self.admitted = Some((iid, inner.destination, onward));
                }
                Ok(onward)
            }
        }
    }

    /// Whether the inner destination may be reached through here (RFC 6830 12), and what the header has to say.
    fn admit(
        &mut self,
        tables: &Tables,
        site: &SiteRoutes,
        inner: &Inner,
        outside: &Outside,
    ) -> Result<Onward, Counter> {
        let iid = outside.header.instance_id.unwrap_or(0);
        let role = tables.policy.role;
        let Some(local) = tables.local_destination(iid, inner.destination) else {
            if role.decapsulates_foreign_destinations() {
                let locators = &tables.policy.petr_locators;
                let sender = &outside.encapsulator;
                if !locators.is_empty() && !locators.iter().any(|net| net.contains(sender)) {
                    return Err(Counter::PetrLocator);
                }
                let sources = &tables.policy.petr_sources;
                let known =
                    sources.is_empty() || sources.iter().any(|p| p.contains(iid, inner.source));
                return if known {
                    Ok(Onward::Deliver)
                } else {
                    Err(Counter::PetrSource)
                };
            }
            if role == Role::Rtr {
                return Ok(Onward::Reencapsulate { iid });
            }
            self.report_away(iid, inner, outside, false);
            return Err(Counter::DestinationNotEid);
        };
        if local.away {
            self.report_away(iid, inner, outside, true);
            return Err(Counter::DestinationAway);
        }
        let versions = outside.header.map_version;
        if let Some(versions) = versions.filter(|_| outside.header.nonce.is_none()) {
            self.note_versions(tables, iid, inner, outside, local, versions)?;
        }
        if !tables.policy.public_internet {
            self.note_header(tables, iid, inner, outside);
        }
        if local.report_senders
            && self.allow(("sender", iid, outside.encapsulator, local.prefix), 1_000)
        {
            self.shared.report(DataEvent::Sender {
                iid,
                source: inner.source,
                eid: inner.destination,
                encapsulator: outside.encapsulator,
            });
        }
        let translated = &tables.policy.translated;
        if !site.has_route(inner.destination)
            && !translated
                .iter()
                .any(|p| p.contains(iid, inner.destination))
        {
            if self.allow(("no route", outside.encapsulator, inner.destination), 500) {
                self.shared.report(DataEvent::NoRoute {
                    iid,
                    source: inner.source,
                    eid: inner.destination,
                    encapsulator: outside.encapsulator,
                });
            }
            return Err(Counter::NoSiteRoute);
        }
        Ok(Onward::Deliver)
    }

    fn allow(&mut self, key: impl std::hash::Hash, window_ms: u64) -> bool {
        self.limiter.allow(key, 1, window_ms, self.now_ms)
    }

    /// A Data-Probe (RFC 6830 3). What is done with its inner packet is another matter.
    fn report_probe(&mut self, inner: &Inner, outside: &Outside, arrival: &Arrival) {
        let Some(prober) = arrival.source else { return };
        if self.allow(("data probe", prober, inner.destination), 100) {
            self.shared.report(DataEvent::DataProbe {
                iid: outside.header.instance_id.unwrap_or(0),
                eid: inner.destination,
                prober,
                nonce: outside.header.nonce.unwrap_or(0),
            });
        }
    }

    fn report_away(&mut self, iid: u32, inner: &Inner, outside: &Outside, known: bool) {
        if self.allow(("away", outside.encapsulator, inner.destination), 200) {
            self.shared.report(DataEvent::AwayEid {
                iid,
                source: inner.source,
                eid: inner.destination,
                encapsulator: outside.encapsulator,
                known,
            });
        }
    }

    /// Acts on, or reports, what the LISP header of an accepted packet says.
    fn note_header(&mut self, tables: &Tables, iid: u32, inner: &Inner, outside: &Outside) {
        let header = &outside.header;
        let encapsulator = outside.encapsulator;
        match (header.nonce, header.echo_request) {
            // RFC 6830 6.3.1: the next packet to it carries the nonce back. Only for locators that we send to.
            (Some(nonce), true) => {
                if let Some(state) = self.shared.forwarding.rlocs().find(encapsulator) {
                    state.owe_echo(nonce);
                    self.shared.tell(|fast| fast.keep_in_daemon(encapsulator));
                }
            }
            (Some(nonce), false) => {
                if self.allow(("echo", encapsulator, nonce), 1_000) {
                    self.shared.report(DataEvent::EchoNonce {
                        encapsulator,
                        nonce,
                    });
                }
            }
            (None, _) => {}
        }
        if let Some(bits) = header.locator_status
            && tables.policy.locator_status_bits
            && self.allow(("status", encapsulator, inner.source, bits), 1_000)
        {
            self.shared.report(DataEvent::LocatorStatus {
                iid,
                source: inner.source,
                encapsulator,
                bits,
                width: if header.instance_id.is_some() { 8 } else { 32 },
            });
        }
    }

    /// Compares map-versions: who has an old mapping is reported; what the texts forbid is dropped.
    fn note_versions(
        &mut self,
        tables: &Tables,
        iid: u32,
        inner: &Inner,
        outside: &Outside,
        local: &LocalEid,
        (source_version, destination_version): (u16, u16),
    ) -> Result<(), Counter> {
        let newer_edition = tables.policy.edition == Edition::Rfc9300;
        let Some(ours) = local.map_version.filter(|_| tables.policy.map_versioning) else {
            // RFC 9302 6.1: a mapping without a version allows no V bit. RFC 6834 5.1 leaves it open.
            return if newer_edition {
                Err(Counter::MapVersion)
            } else {
                Ok(())
            };
        };
        // Version 0 says nothing (RFC 6834 5.1, 5.2).
        let theirs = tables
            .longest_match(iid, inner.source)
            .and_then(|e| e.map_version)
            .filter(|_| source_version != 0)
            .unwrap_or(source_version);
        let stale = destination_version != 0 && is_newer(ours, destination_version);
        let impossible = destination_version != 0 && is_newer(destination_version, ours);
        let key = (
            outside.encapsulator,
            inner.source,
            source_version,
            destination_version,
        );
        if (stale || impossible || theirs != source_version) && self.allow(("version", key), 1_000)
        {
            self.shared.report(DataEvent::MapVersion {
                iid,
                source: inner.source,
                destination: inner.destination,
                encapsulator: outside.encapsulator,
                source_version,
                destination_version,
            });
        }
        let ignorant = stale && local.stale_senders.contains(&outside.encapsulator);
        let outdated = newer_edition && is_newer(theirs, source_version);
        if impossible || ignorant || outdated {
            return Err(Counter::MapVersion);
        }
        Ok(())
    }
}
