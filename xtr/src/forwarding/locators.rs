//! Locator-sets as the packet path uses them: one locator per flow (RFC 6830 6.5), and what is known per RLOC.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Slots among which flows are spread; shares are exact to 1/256.
const SLOTS: usize = 256;

/// One locator of a map-cache entry.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The remote locator: outer destination.
    pub rloc: IpAddr,
    /// Our own locator of the same family: outer source. None: there is none, the locator is not usable.
    pub source: Option<IpAddr>,
    /// Lower is preferred; 255 is never used (RFC 6830 6.1.4).
    pub priority: u8,
    /// Share among locators of the same priority; all zero means equal shares.
    pub weight: u8,
    /// R bit set, not declared unreachable, of a usable family.
    pub usable: bool,
    /// Place in the locator-set as received: the ordinal of its locator-status bit (RFC 6830 6.3).
    pub ordinal: u8,
    /// What is known about the RLOC whatever the entry; from [`RlocTable::get`].
    pub state: Arc<RlocState>,
}

impl PartialEq for Destination {
    fn eq(&self, other: &Self) -> bool {
        (
            self.rloc,
            self.source,
            self.priority,
            self.weight,
            self.usable,
            self.ordinal,
        ) == (
            other.rloc,
            other.source,
            other.priority,
            other.weight,
            other.usable,
            other.ordinal,
        )
    }
}

impl Eq for Destination {}

/// Locators with the choice among them worked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatorSet {
    destinations: Box<[Destination]>,
    choice: Choice,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    Nobody,
    Always(u8),
    Slots(Box<[u8; SLOTS]>),
}

impl LocatorSet {
    /// Works out which flows go to which locator: the best priority that has a usable locator, shares by weight.
    /// At most 255 locators count (RFC 6830 6.1.4).
    pub fn new(destinations: Vec<Destination>) -> Self {
        let choice = choose(&destinations);
        Self {
            destinations: destinations.into_boxed_slice(),
            choice,
        }
    }

    /// The locator of a flow; none when no locator is usable.
    pub fn pick(&self, flow_hash: u32) -> Option<&Destination> {
        match &self.choice {
            Choice::Nobody => None,
            Choice::Always(index) => self.destinations.get(usize::from(*index)),
            // The low bits choose the source port: take the high ones.
            Choice::Slots(slots) => {
                let slot = (flow_hash >> 24) as usize;
                self.destinations.get(usize::from(slots[slot]))
            }
        }
    }

    /// The index of the locator for each value of a flow hash's highest octet; none when no locator is usable.
    pub(crate) fn choices(&self) -> Option<Box<[u8; SLOTS]>> {
        match &self.choice {
            Choice::Nobody => None,
            Choice::Always(index) => Some(Box::new([*index; SLOTS])),
            Choice::Slots(slots) => Some(slots.clone()),
        }
    }

    /// All locators, in the order given.
    pub fn destinations(&self) -> &[Destination] {
        &self.destinations
    }
}

fn choose(destinations: &[Destination]) -> Choice {
    let candidate = |d: &Destination| d.usable && d.priority != 255 && d.source.is_some();
    let Some(best) = destinations
        .iter()
        .filter(|d| candidate(d))
        .map(|d| d.priority)
        .min()
    else {
        return Choice::Nobody;
    };
    let members: Vec<(u8, &Destination)> = (0u8..=254)
        .zip(destinations)
        .filter(|(_, d)| candidate(d) && d.priority == best)
        .collect();
    let all_zero = members.iter().all(|(_, d)| d.weight == 0);
    let mut shares: Vec<(u8, IpAddr, u32)> = members
        .iter()
        .map(|&(index, d)| {
            (
                index,
                d.rloc,
                if all_zero { 1 } else { u32::from(d.weight) },
            )
        })
        .filter(|&(_, _, weight)| weight > 0)
        .collect();
    match shares.as_slice() {
        [] => Choice::Nobody,
        [(index, _, _)] => Choice::Always(*index),
        _ => {
            quotas(&mut shares);
            Choice::Slots(fill(shares))
        }
    }
}

/// Turns weights into numbers of slots that add up to [`SLOTS`] (largest remainder).
fn quotas(shares: &mut [(u8, IpAddr, u32)]) {
    let total: u32 = shares.iter().map(|s| s.2).sum();
    let slots = SLOTS as u32;
    let mut given = 0;
    let mut remainders: Vec<(u32, usize)> = Vec::with_capacity(shares.len());
    for (at, share) in shares.iter_mut().enumerate() {
        remainders.push((share.2 * slots % total, at));
        share.2 = share.2 * slots / total;
        given += share.2;
    }
    remainders.sort_by_key(|&(remainder, at)| (std::cmp::Reverse(remainder), at));
    for &(_, at) in remainders.iter().take((slots - given) as usize) {
        shares[at].2 += 1;
    }
}

/// Gives every slot to the locator that ranks highest for it and still has a share left, so that most flows
/// stay where they are when another locator leaves or rejoins.
fn fill(mut shares: Vec<(u8, IpAddr, u32)>) -> Box<[u8; SLOTS]> {
    let mut slots = Box::new([0u8; SLOTS]);
    for (slot, owner) in slots.iter_mut().enumerate() {
        let winner = shares
            .iter_mut()
            .filter(|share| share.2 > 0)
            .max_by_key(|share| rank(slot as u64, share.1));
        if let Some(share) = winner {
            share.2 -= 1;
            *owner = share.0;
        }
    }
    slots
}

fn rank(slot: u64, rloc: IpAddr) -> u64 {
    let octets = match rloc {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    };
    let mut h = slot ^ 0x9e37_79b9_7f4a_7c15;
    for word in [octets as u64, (octets >> 64) as u64] {
        h = (h ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h ^= h >> 32;
    }
    h
}

/// What is known about a remote locator, whichever map-cache entries name it.
#[derive(Debug, Default)]
pub struct RlocState {
    /// Effective MTU toward the locator learned from the core, octets; 0: nothing learned (RFC 6830 5.4.2).
    mtu: AtomicU16,
    /// Nonce that we ask to be echoed, bit 31 set when present (RFC 6830 6.3.1).
    request: AtomicU32,
    /// Nonce that the next packet has to echo, bit 31 set when present.
    echo: AtomicU32,
    packets: AtomicU64,
    bytes: AtomicU64,
}

const NONCE_PRESENT: u32 = 1 << 31;
const NONCE_MASK: u32 = 0x00ff_ffff;

impl RlocState {
    /// Effective MTU learned from the core, in octets of the outer packet.
    pub fn mtu(&self) -> Option<u16> {
        Some(self.mtu.load(Ordering::Relaxed)).filter(|&mtu| mtu != 0)
    }

    /// Sets or forgets the effective MTU.
    pub fn set_mtu(&self, mtu: Option<u16>) {
        self.mtu.store(mtu.unwrap_or(0), Ordering::Relaxed);
    }

    /// Starts (24-bit nonce) or ends the state in which every packet asks for an echo (RFC 6830 6.3.1).
    pub fn request_echo(&self, nonce: Option<u32>) {
        let word = nonce.map_or(0, |n| n & NONCE_MASK | NONCE_PRESENT);
        self.request.store(word, Ordering::Relaxed);
    }

    /// The nonce that packets to the locator ask to be echoed.
    pub fn requested_echo(&self) -> Option<u32> {
        let word = self.request.load(Ordering::Relaxed);
        (word & NONCE_PRESENT != 0).then_some(word & NONCE_MASK)
    }

    /// Makes the next packet to the locator carry this nonce with N=1 and E=0.
    pub fn owe_echo(&self, nonce: u32) {
        self.echo
            .store(nonce & NONCE_MASK | NONCE_PRESENT, Ordering::Relaxed);
    }

    /// Takes the nonce that is owed, if any.
    pub fn take_owed_echo(&self) -> Option<u32> {
        // The plain load keeps the common case free of a locked instruction.
        if self.echo.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let word = self.echo.swap(0, Ordering::Relaxed);
        (word & NONCE_PRESENT != 0).then_some(word & NONCE_MASK)
    }

    /// Counts encapsulated packets.
    pub fn sent(&self, packets: u64, bytes: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Packets encapsulated to the locator.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Octets of the inner packets encapsulated to the locator.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Remote locators by address. States are kept as long as somebody holds them.
#[derive(Debug, Default)]
pub struct RlocTable(RwLock<HashMap<IpAddr, Arc<RlocState>>>);

impl RlocTable {
    /// The state of a locator, made on first use.
    pub fn get(&self, rloc: IpAddr) -> Arc<RlocState> {
        if let Some(state) = self.find(rloc) {
            return state;
        }
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(table.entry(rloc).or_default())
    }

    /// The state of a locator that some entry names.
    pub fn find(&self, rloc: IpAddr) -> Option<Arc<RlocState>> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.get(&rloc).cloned()
    }

    /// Forgets the locators that no map-cache entry names any more.
    pub fn forget_unused(&self) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, state| Arc::strong_count(state) > 1);
    }

    /// Every known locator.
    pub fn all(&self) -> Vec<(IpAddr, Arc<RlocState>)> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = table.iter().map(|(a, s)| (*a, Arc::clone(s))).collect();
        all.sort_by_key(|(address, _)| *address);
        all
    }
}
