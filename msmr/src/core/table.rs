//! Prefixes of all Instance IDs and both families, with longest match and the holes between them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Bound;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lisp::EidPrefix;

use super::index::{Hash, Index};
use crate::memory::fetch;

/// Slots that are allocated together. They never move, so that a table grows without pauses.
const CHUNK: usize = 8192;

/// A map from EID-Prefixes to values.
///
/// A value is found by the hash of its prefix, in two places of memory whatever the table's size: the index and its slot.
/// A longest match tries the lengths that there are, longest first. What needs neighbours asks `order`.
#[derive(Debug, Clone)]
pub(crate) struct EidTable<V> {
    index: Index,
    /// Full ones, and one that grows.
    chunks: Vec<Vec<Slot<V>>>,
    free: Vec<u32>,
    order: BTreeMap<EidPrefix, u32>,
    ipv4: Lengths,
    ipv6: Lengths,
}

/// A slot begins with a cache line.
#[derive(Debug, Clone)]
#[repr(align(64))]
struct Slot<V>(Option<(EidPrefix, V)>);

/// How many prefixes of each length there are, and which lengths that is, longest first.
#[derive(Debug, Clone, Default)]
struct Lengths {
    counts: BTreeMap<u8, usize>,
    present: Vec<u8>,
    /// The length that most of them have, or had when there were more.
    usual: Option<u8>,
}

impl Lengths {
    fn add(&mut self, length: u8) {
        let count = self.counts.entry(length).or_default();
        *count += 1;
        let count = *count;
        let most = self.usual.and_then(|usual| self.counts.get(&usual));
        if most.is_none_or(|most| count > *most) {
            self.usual = Some(length);
        }
        self.note();
    }

    fn remove(&mut self, length: u8) {
        if let Some(count) = self.counts.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&length);
            }
        }
        self.note();
    }

    fn note(&mut self) {
        if self.present.len() != self.counts.len() {
            self.present = self.counts.keys().rev().copied().collect();
        }
    }
}

impl<V> Default for EidTable<V> {
    fn default() -> Self {
        Self {
            index: Index::default(),
            chunks: vec![Vec::new()],
            free: Vec::new(),
            order: BTreeMap::new(),
            ipv4: Lengths::default(),
            ipv6: Lengths::default(),
        }
    }
}

impl<V> EidTable<V> {
    /// The value of exactly this prefix.
    pub(crate) fn get(&self, prefix: &EidPrefix) -> Option<&V> {
        let number = self.find(self.index.hash(prefix), prefix)?;
        self.value(number)
    }

    /// The value of exactly this prefix.
    pub(crate) fn get_mut(&mut self, prefix: &EidPrefix) -> Option<&mut V> {
        let number = self.find(self.index.hash(prefix), prefix)?;
        self.value_mut(number)
    }

    /// The value of exactly this prefix, made if it is not there.
    pub(crate) fn get_or_default(&mut self, prefix: &EidPrefix) -> &mut V
    where
        V: Default,
    {
        let hash = self.index.hash(prefix);
        let number = match self.find(hash, prefix) {
            Some(number) => number,
            None => self.put(hash, prefix, V::default()),
        };
        self.value_mut(number)
            .expect("a slot that was found or filled just now holds a value")
    }

    /// Sets the value of a prefix.
    pub(crate) fn insert(&mut self, prefix: &EidPrefix, value: V) -> Option<V> {
        let hash = self.index.hash(prefix);
        match self.find(hash, prefix).and_then(|n| self.value_mut(n)) {
            Some(old) => Some(std::mem::replace(old, value)),
            None => {
                self.put(hash, prefix, value);
                None
            }
        }
    }

    /// Takes a prefix out.
    pub(crate) fn remove(&mut self, prefix: &EidPrefix) -> Option<V> {
        let hash = self.index.hash(prefix);
        let number = self.find(hash, prefix)?;
        let (_, value) = self.slot_mut(number)?.0.take()?;
        self.index.remove(hash, number);
        self.free.push(number);
        self.order.remove(prefix);
        self.lengths_mut(prefix).remove(prefix.prefix.prefix_len());
        Some(value)
    }

    /// The longest prefix here that is the question or covers it.
    pub(crate) fn longest_match(&self, question: &EidPrefix) -> Option<(EidPrefix, &V)> {
        let longest = question.prefix.prefix_len();
        let lengths = self.lengths(question).present.iter();
        lengths
            .skip_while(|&&length| length > longest)
            .find_map(|&length| {
                let prefix = shortened(question, length);
                Some((prefix, self.get(&prefix)?))
            })
    }

    /// Everything inside `prefix` (it included), in order.
    pub(crate) fn inside(&self, prefix: &EidPrefix) -> impl Iterator<Item = (EidPrefix, &V)> + '_ {
        let prefix = *prefix;
        // Where nothing is longer there is nothing inside, and whoever asks has just looked at the prefix itself.
        let longest = self.lengths(&prefix).present.first();
        let single = longest.is_none_or(|longest| *longest <= prefix.prefix.prefix_len());
        let alone = single.then(|| self.get(&prefix)).flatten();
        let several = (!single).then(|| {
            self.order
                .range(prefix..)
                .take_while(move |(found, _)| prefix.covers(found))
        });
        let several = several.into_iter().flatten();
        alone
            .map(|value| (prefix, value))
            .into_iter()
            .chain(several.filter_map(|(found, &number)| Some((*found, self.value(number)?))))
    }

    /// Everything, in order: by Instance ID, IPv4 first, by address, shorter first.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (EidPrefix, &V)> + '_ {
        self.iter_after(None)
    }

    /// What follows `cursor` in order (by Instance ID, IPv4 first, by address, shorter first); from the start without one.
    pub(crate) fn iter_after(
        &self,
        cursor: Option<EidPrefix>,
    ) -> impl Iterator<Item = (EidPrefix, &V)> + '_ {
        let from = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        self.order
            .range((from, Bound::Unbounded))
            .filter_map(|(prefix, &number)| Some((*prefix, self.value(number)?)))
    }

    /// The least-specific prefix that holds the question's address, is at least `floor` long and has nothing of this
    /// table inside (RFC 6833 4.4); what covers the address does not count.
    ///
    /// `floor` must be at least the length of the longest prefix here that covers the address. The question's own length
    /// plays no part: a question that holds known prefixes is answered for its address.
    pub(crate) fn hole(&self, question: &EidPrefix, floor: u8) -> EidPrefix {
        let host = EidPrefix::host(question.iid, question.prefix.addr());
        let width = host.prefix.max_prefix_len();
        let (mut low, mut high) = (floor.min(width), width);
        // The shorter the prefix, the more it holds: the border is found by halving.
        while low < high {
            let middle = low + (high - low) / 2;
            if self.holds_longer(&shortened(&host, middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        shortened(&host, low)
    }

    /// Fetches what handling questions for these EIDs will read into the processor's caches, and calls `visit` with each
    /// value that was found. It changes nothing but time.
    ///
    /// A large table is in no cache, and one question after the other would wait for each place in turn. Here no question
    /// waits for another: all places of one kind are fetched before any of the next kind is needed.
    pub(crate) fn warm<'a>(&'a self, hosts: &[EidPrefix], mut visit: impl FnMut(&'a V)) {
        let mut hashes: [Option<Hash>; WARM] = [None; WARM];
        for (hash, host) in hashes.iter_mut().zip(hosts) {
            // Most tables have one length that most of their prefixes are of: that is the guess.
            let usual = self.lengths(host).usual;
            *hash = usual.map(|length| self.index.hash(&shortened(host, length)));
            if let Some(hash) = hash {
                self.index.fetch(*hash);
            }
        }
        let mut slots = [None; WARM];
        for (slot, hash) in slots.iter_mut().zip(hashes) {
            let number = hash.and_then(|hash| self.index.guess(hash));
            *slot = number.and_then(|number| self.slot(number));
            if let Some(slot) = slot {
                fetch(*slot);
            }
        }
        for Slot(held) in slots.into_iter().flatten() {
            if let Some((_, value)) = held {
                visit(value);
            }
        }
    }

    /// Whether a prefix longer than `prefix` lies inside it.
    fn holds_longer(&self, prefix: &EidPrefix) -> bool {
        let after = (Bound::Excluded(*prefix), Bound::Unbounded);
        let next = self.order.range(after).next();
        next.is_some_and(|(found, _)| prefix.covers(found))
    }

    fn find(&self, hash: Hash, prefix: &EidPrefix) -> Option<u32> {
        self.index.find(hash, |number| {
            let held = self.slot(number).and_then(|slot| slot.0.as_ref());
            held.is_some_and(|(held, _)| held == prefix)
        })
    }

    fn put(&mut self, hash: Hash, prefix: &EidPrefix, value: V) -> u32 {
        let slot = Slot(Some((*prefix, value)));
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(free) = self.slot_mut(number) {
                    *free = slot;
                }
                number
            }
            None => self.append(slot),
        };
        self.index.insert(hash, number);
        self.order.insert(*prefix, number);
        self.lengths_mut(prefix).add(prefix.prefix.prefix_len());
        number
    }

    fn append(&mut self, slot: Slot<V>) -> u32 {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let full = self.chunks.len() - 1;
        let chunk = &mut self.chunks[full];
        chunk.push(slot);
        u32::try_from(full * CHUNK + chunk.len() - 1)
            .expect("fewer prefixes than numbers: registrations and sites are limited")
    }

    fn slot(&self, number: u32) -> Option<&Slot<V>> {
        let number = number as usize;
        self.chunks.get(number / CHUNK)?.get(number % CHUNK)
    }

    fn slot_mut(&mut self, number: u32) -> Option<&mut Slot<V>> {
        let number = number as usize;
        self.chunks.get_mut(number / CHUNK)?.get_mut(number % CHUNK)
    }

    fn value(&self, number: u32) -> Option<&V> {
        self.slot(number)?.0.as_ref().map(|(_, value)| value)
    }

    fn value_mut(&mut self, number: u32) -> Option<&mut V> {
        self.slot_mut(number)?.0.as_mut().map(|(_, value)| value)
    }

    fn lengths(&self, prefix: &EidPrefix) -> &Lengths {
        match prefix.prefix {
            IpNet::V4(_) => &self.ipv4,
            IpNet::V6(_) => &self.ipv6,
        }
    }

    fn lengths_mut(&mut self, prefix: &EidPrefix) -> &mut Lengths {
        match prefix.prefix {
            IpNet::V4(_) => &mut self.ipv4,
            IpNet::V6(_) => &mut self.ipv6,
        }
    }
}

/// EIDs that [`EidTable::warm`] takes at once.
pub(crate) const WARM: usize = 64;

/// `prefix` cut to `length` bits, or as it is when it is no longer than that.
fn shortened(prefix: &EidPrefix, length: u8) -> EidPrefix {
    let cut = prefix.prefix.prefix_len().saturating_sub(length);
    let length = prefix.prefix.prefix_len() - cut;
    let short = match prefix.prefix {
        IpNet::V4(net) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            let address = Ipv4Addr::from(u32::from(net.addr()) & mask);
            Ipv4Net::new_assert(address, length).into()
        }
        IpNet::V6(net) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            let address = Ipv6Addr::from(u128::from(net.addr()) & mask);
            Ipv6Net::new_assert(address, length).into()
        }
    };
    EidPrefix {
        iid: prefix.iid,
        prefix: short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(text: &str) -> EidPrefix {
        text.parse().unwrap()
    }

    fn table(prefixes: &[&str]) -> EidTable<()> {
        let mut table = EidTable::default();
        for text in prefixes {
            table.insert(&prefix(text), ());
        }
        table
    }

    fn floor(table: &EidTable<()>, question: &EidPrefix) -> u8 {
        let host = EidPrefix::host(question.iid, question.prefix.addr());
        table
            .longest_match(&host)
            .map_or(0, |(cover, ())| cover.prefix.prefix_len())
    }

    #[test]
    fn holes_of_the_catalogue() {
        let known = table(&["198.51.100.0/24", "203.0.113.0/24"]);
        for (question, hole) in [
            ("8.8.8.8/32", "0.0.0.0/1"),
            ("198.51.98.1/32", "198.51.96.0/22"),
            ("198.51.101.1/32", "198.51.101.0/24"),
            ("203.0.112.1/32", "203.0.112.0/24"),
            ("2001:db8::1/128", "::/0"),
            ("[7]8.8.8.8/32", "[7]0.0.0.0/0"),
            ("0.0.0.0/0", "0.0.0.0/1"),
        ] {
            assert_eq!(known.hole(&prefix(question), 0), prefix(hole), "{question}");
        }
        assert_eq!(
            table(&[]).hole(&prefix("1.2.3.4/32"), 0),
            prefix("0.0.0.0/0")
        );
    }

    #[test]
    fn a_hole_inside_what_covers_it_is_no_larger_than_that() {
        let known = table(&["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24"]);
        for (question, hole) in [
            ("10.128.0.1/32", "10.128.0.0/9"),
            ("10.1.3.1/32", "10.1.3.0/24"),
            ("10.1.2.9/32", "10.1.2.0/24"),
        ] {
            let question = prefix(question);
            assert_eq!(
                known.hole(&question, floor(&known, &question)),
                prefix(hole)
            );
        }
    }

    #[test]
    fn what_is_warmed_is_what_most_prefixes_look_like() {
        let mut some = table(&["10.0.0.0/8", "10.1.2.0/24", "10.1.3.0/24", "10.1.2.7/32"]);
        let warmed = |table: &EidTable<()>| {
            let mut count = 0;
            table.warm(&[prefix("10.1.2.9/32"), prefix("10.9.9.9/32")], |()| {
                count += 1
            });
            count
        };
        assert_eq!(warmed(&some), 1);
        for gone in ["10.1.2.0/24", "10.1.3.0/24"] {
            some.remove(&prefix(gone));
        }
        assert_eq!(warmed(&some), 0);
        some.insert(&prefix("10.9.9.9/32"), ());
        assert_eq!(warmed(&some), 1);
        assert_eq!(warmed(&EidTable::default()), 0);
    }

    #[test]
    fn a_prefix_takes_three_cache_lines() {
        use crate::core::Known;
        // With a million prefixes each line more is a wait for memory in each message.
        assert_eq!(size_of::<Slot<Known>>(), 3 * 64);
    }

    #[test]
    fn pages_continue_where_they_ended() {
        let texts = [
            "10.0.0.0/8",
            "10.1.0.0/16",
            "::/0",
            "[5]1.0.0.0/8",
            "[5]2001:db8::/32",
        ];
        let table = table(&texts);
        let mut cursor = None;
        for text in texts {
            let (next, ()) = table.iter_after(cursor).next().unwrap();
            assert_eq!(next, prefix(text));
            cursor = Some(next);
        }
        assert!(table.iter_after(cursor).next().is_none());
        // A cursor need not be there any more.
        let (next, ()) = table
            .iter_after(Some(prefix("[4]0.0.0.0/0")))
            .next()
            .unwrap();
        assert_eq!(next, prefix("[5]1.0.0.0/8"));
    }

    /// Prefixes of few leading bits, so that nesting and neighbourhood happen often; the tail makes long ones too.
    fn any_prefix() -> impl Strategy<Value = EidPrefix> {
        (
            0u32..2,
            any::<bool>(),
            any::<u8>(),
            0u8..=8,
            prop_oneof![Just(0u8), 0u8..=24],
        )
            .prop_map(|(iid, ipv6, bits, short, more)| {
                let length = if short == 8 { 8 + more } else { short };
                let prefix = if ipv6 {
                    let address = std::net::Ipv6Addr::from(u128::from(bits) << 120 | 1 << 97);
                    IpNet::new(address.into(), length)
                } else {
                    let address = std::net::Ipv4Addr::from(u32::from(bits) << 24 | 0x1234);
                    IpNet::new(address.into(), length)
                };
                EidPrefix::new(iid, prefix.unwrap())
            })
    }

    proptest! {
        /// The model: try every length from the shortest on, against every known prefix.
        #[test]
        fn holes_equal_the_brute_force_model(
            known in proptest::collection::btree_set(any_prefix(), 0..20),
            question in any_prefix(),
        ) {
            let mut table = EidTable::default();
            for prefix in &known {
                table.insert(prefix, ());
            }
            let host = EidPrefix::host(question.iid, question.prefix.addr());
            let covers = |prefix: &&EidPrefix| prefix.covers(&host);
            let longest = known.iter().filter(covers).map(|p| p.prefix.prefix_len()).max();
            let candidate = |length| shortened(&host, length);
            let expected = (longest.unwrap_or(0)..=host.prefix.max_prefix_len())
                .map(candidate)
                .find(|hole| known.iter().all(|p| p.covers(&host) || !hole.covers(p)))
                .unwrap();
            prop_assert_eq!(table.hole(&question, longest.unwrap_or(0)), expected);
            prop_assert_eq!(
                table.longest_match(&host).map(|(found, _)| found.prefix.prefix_len()),
                longest
            );
        }
    }
}
