//! What the control plane tells the packet path, and what the packet path tells back.
//!
//! [`Forwarding`] holds the local EID-Prefixes and the map-cache in the form in which packets need them. The
//! control plane changes single entries; the packet threads read through [`Forwarding::snapshot`], once a batch.
//! Both work at the same time without waiting for each other's long work: every table exists twice, readers use
//! the published copy, a change is applied to the other one, published, and then repeated on the first. A change
//! costs two trie updates whatever the size of the map-cache, and no reader ever waits for a writer.

mod counters;
mod events;
mod locators;
mod tables;

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use lisp::EidPrefix;

pub use counters::{Counter, Counters};
pub use events::{DataEvent, EventReceiver, EventSender, HeldPacket, event_channel};
pub use locators::{Destination, LocatorSet, RlocState, RlocTable};
pub(crate) use tables::Prefixes;
pub use tables::{LocalEid, Tables};

/// Which edition of the specification rules where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Edition {
    /// RFC 6830.
    #[default]
    Rfc6830,
    /// RFC 9300.
    Rfc9300,
}

/// What the box is to the packets that reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// ITR and ETR of a site: source-EID and destination-EID checks (RFC 6830 12).
    #[default]
    Xtr,
    /// PITR (RFC 6832 5.2): encapsulates for sources that are no EID; decapsulates nothing that is not local.
    Pitr,
    /// PETR (RFC 6832 6): decapsulates toward destinations that are no EID of its own.
    Petr,
    /// PITR and PETR in one box.
    Pxtr,
    /// Re-encapsulating tunnel router: what it decapsulates, it encapsulates again (RFC 6830 3, 5.3).
    Rtr,
}

impl Role {
    /// As in configurations: the roles of one box.
    pub fn name(self) -> &'static str {
        match self {
            Role::Xtr => "xtr",
            Role::Pitr => "pitr",
            Role::Petr => "petr",
            Role::Pxtr => "pitr, petr",
            Role::Rtr => "rtr",
        }
    }

    /// Whether a packet may be encapsulated although its source is no local EID.
    pub fn encapsulates_foreign_sources(self) -> bool {
        matches!(self, Role::Pitr | Role::Pxtr | Role::Rtr)
    }

    /// Whether a packet may be decapsulated although its destination is no local EID.
    pub fn decapsulates_foreign_destinations(self) -> bool {
        matches!(self, Role::Petr | Role::Pxtr)
    }
}

/// Rules that hold for every packet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Edition of the header rules.
    pub edition: Edition,
    /// The box's role.
    pub role: Role,
    /// Proxy ETRs: where packets go whose destination is no EID (RFC 6832 6.1). None: natively.
    pub petr: Option<Arc<LocatorSet>>,
    /// Inner sources that a PETR accepts; empty means all (RFC 6832 6.1).
    pub petr_sources: Vec<EidPrefix>,
    /// Outer sources that a PETR accepts; empty means all.
    pub petr_locators: Vec<IpNet>,
    /// RFC 9300 4.1: nothing in a LISP header but the Instance ID is acted on.
    pub public_internet: bool,
    /// Send misses to the PETR as well: a site without a mapping system (RFC 6832 6.1).
    pub misses_to_petr: bool,
    /// EIDs behind the kernel's address translation (RFC 6832 7): their way into the site shows only after it.
    pub translated: Vec<EidPrefix>,
    /// Heed map-versions of data packets (RFC 6834).
    pub map_versioning: bool,
    /// Set and report locator-status bits (RFC 6830 6.3).
    pub locator_status_bits: bool,
    /// Report packets whose inner and outer destinations are equal (Data-Probes, RFC 6830 3).
    pub data_probes: bool,
    /// Report every source EID that sends ([`DataEvent::SourceSeen`]): host mobility.
    pub report_sources: bool,
}

/// What the map-cache says about a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Encapsulate to one of these locators; nothing usable in it: drop.
    Encapsulate(Arc<LocatorSet>),
    /// The destination is no EID (ACT 1): natively, or to the PETR where there is one.
    NativelyForward,
    /// ACT 3, ACT 0 without locators, unassigned actions, static `drop`.
    Drop,
    /// ACT 2, and static `send-map-request`: every packet is reported as a miss (rate-limited), none is sent.
    SendMapRequest,
}

/// One map-cache entry as the packet path sees it.
#[derive(Debug)]
pub struct Entry {
    /// Its EID-Prefix.
    pub prefix: EidPrefix,
    /// What to do with packets to it.
    pub decision: Decision,
    /// Destination map-version to put into data packets, when versions are in use (RFC 6834).
    pub map_version: Option<u16>,
    /// Milliseconds since [`Forwarding::epoch`] plus one; 0 means never.
    last_used: AtomicU64,
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Entry {
    fn new(prefix: EidPrefix, decision: Decision, map_version: Option<u16>) -> Self {
        Self {
            prefix,
            decision,
            map_version,
            last_used: AtomicU64::new(0),
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Counts packets that used the entry. `now_ms` counts from [`Forwarding::epoch`].
    pub fn used(&self, packets: u64, bytes: u64, now_ms: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // One store a millisecond, not one a packet: the line is shared between threads.
        if self.last_used.load(Ordering::Relaxed) != now_ms + 1 {
            self.last_used.store(now_ms + 1, Ordering::Relaxed);
        }
    }

    /// As [`Entry::used`], for packets that somebody else counted: the last of them at `last_ms`.
    pub(crate) fn was_used(&self, packets: u64, bytes: u64, last_ms: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last_used.fetch_max(last_ms + 1, Ordering::Relaxed);
    }

    /// Milliseconds from [`Forwarding::epoch`] to the last packet that used the entry; none: never used.
    pub fn last_used_ms(&self) -> Option<u64> {
        self.last_used.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Packets that used the entry.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Octets of the inner packets that used the entry.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn inherit_use(&self, old: &Entry) {
        self.last_used
            .store(old.last_used.load(Ordering::Relaxed), Ordering::Relaxed);
        self.packets.store(old.packets(), Ordering::Relaxed);
        self.bytes.store(old.bytes(), Ordering::Relaxed);
    }
}

/// The state shared by the control plane and the packet threads.
#[derive(Debug)]
pub struct Forwarding {
    replicas: [RwLock<Tables>; 2],
    published: AtomicUsize,
    writer: Mutex<()>,
    rlocs: RlocTable,
    counters: Counters,
    epoch: Instant,
}

/// A consistent view of the tables. Hold it for a batch of packets, never while waiting for one: a writer
/// that comes a second time waits for it.
#[derive(Debug)]
pub struct Snapshot<'a>(RwLockReadGuard<'a, Tables>);

impl Deref for Snapshot<'_> {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.0
    }
}

impl Default for Forwarding {
    fn default() -> Self {
        Self::new(Policy::default())
    }
}

impl Forwarding {
    /// Empty tables under `policy`.
    pub fn new(policy: Policy) -> Self {
        let tables = Tables::new(policy);
        Self {
            replicas: [RwLock::new(tables.clone()), RwLock::new(tables)],
            published: AtomicUsize::new(0),
            writer: Mutex::new(()),
            rlocs: RlocTable::default(),
            counters: Counters::default(),
            epoch: Instant::now(),
        }
    }

    /// The tables as they stand now.
    pub fn snapshot(&self) -> Snapshot<'_> {
        loop {
            let replica = &self.replicas[self.published.load(Ordering::Acquire)];
            match replica.try_read() {
                Ok(guard) => return Snapshot(guard),
                Err(std::sync::TryLockError::Poisoned(poisoned)) => {
                    return Snapshot(poisoned.into_inner());
                }
                // The writer took this copy between the two loads: the other one is published by now.
                Err(std::sync::TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
    }

    /// Applies `change` to both copies; packets see all of it or nothing.
    fn update<R>(&self, mut change: impl FnMut(&mut Tables) -> R) -> R {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let published = self.published.load(Ordering::Relaxed);
        let hidden = 1 - published;
        change(&mut write(&self.replicas[hidden]));
        self.published.store(hidden, Ordering::Release);
        change(&mut write(&self.replicas[published]))
    }

    /// Adds or replaces an entry; a replaced one hands its use counters on.
    pub fn insert(
        &self,
        prefix: EidPrefix,
        decision: Decision,
        map_version: Option<u16>,
    ) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(prefix, decision, map_version));
        if let Some(old) = self.get(&prefix) {
            entry.inherit_use(&old);
        }
        self.update(|tables| tables.insert(Arc::clone(&entry)));
        entry
    }

    /// Removes exactly this entry.
    pub fn remove(&self, prefix: &EidPrefix) -> Option<Arc<Entry>> {
        self.update(|tables| tables.remove(prefix))
    }

    /// Removes every map-cache entry.
    pub fn clear(&self) {
        self.update(Tables::clear);
    }

    /// The entry of exactly this prefix.
    pub fn get(&self, prefix: &EidPrefix) -> Option<Arc<Entry>> {
        self.snapshot().get(prefix).cloned()
    }

    /// The entry that a packet to `eid` would use.
    pub fn longest_match(&self, iid: u32, eid: IpAddr) -> Option<Arc<Entry>> {
        self.snapshot().longest_match(iid, eid).cloned()
    }

    /// Every entry, ordered by Instance ID, family, address.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.snapshot().entries()
    }

    /// Number of map-cache entries.
    pub fn len(&self) -> usize {
        self.snapshot().len()
    }

    /// Whether the map-cache is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds or replaces a local EID-Prefix.
    pub fn add_local(&self, local: LocalEid) {
        let local = Arc::new(local);
        self.update(|tables| tables.add_local(Arc::clone(&local)));
    }

    /// Removes a local EID-Prefix; whether it was there.
    pub fn remove_local(&self, prefix: &EidPrefix) -> bool {
        self.update(|tables| tables.remove_local(prefix))
    }

    /// Every local EID-Prefix.
    pub fn locals(&self) -> Vec<Arc<LocalEid>> {
        self.snapshot().locals()
    }

    /// Whether this very prefix is a local EID-Prefix.
    pub fn is_local(&self, prefix: &EidPrefix) -> bool {
        self.snapshot().local(prefix).is_some()
    }

    /// Replaces the rules that hold for every packet.
    pub fn set_policy(&self, policy: Policy) {
        self.update(|tables| tables.policy = policy.clone());
    }

    /// The rules that hold for every packet.
    pub fn policy(&self) -> Policy {
        self.snapshot().policy.clone()
    }

    /// What is known about remote locators: MTU, nonces, traffic.
    pub fn rlocs(&self) -> &RlocTable {
        &self.rlocs
    }

    /// Packets by what became of them.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The instant from which [`Entry::last_used_ms`] counts.
    pub fn epoch(&self) -> Instant {
        self.epoch
    }

    /// Milliseconds since [`Forwarding::epoch`].
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long no packet has used `entry`; none: no packet ever did.
    pub fn idle(&self, entry: &Entry) -> Option<Duration> {
        let used = entry.last_used_ms()?;
        Some(Duration::from_millis(self.now_ms().saturating_sub(used)))
    }
}

fn write(replica: &RwLock<Tables>) -> std::sync::RwLockWriteGuard<'_, Tables> {
    replica.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
