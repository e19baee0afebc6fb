//! Where a prefix's slot is: a hash table of one word an entry, so that a look-up meets one cache line before the slot itself.

use std::hash::{BuildHasher, RandomState};

use ipnet::IpNet;
use lisp::EidPrefix;

use crate::memory::fetch;

/// Words at the start; always a power of two.
const SMALLEST: usize = 16;

/// Hashes of prefixes to numbers of slots, by open addressing with linear probing.
///
/// A word is 0 when it is free, otherwise the hash in its upper half and the slot's number plus one in its lower half.
#[derive(Debug, Clone)]
pub(super) struct Index {
    words: Vec<u64>,
    used: usize,
    /// Secret, so that nobody can choose prefixes that collide. It decides where words stand, never what is answered.
    keys: [u64; 3],
}

/// The hash of a prefix in one index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hash(u32);

impl Default for Index {
    fn default() -> Self {
        let state = RandomState::new();
        Self {
            words: vec![0; SMALLEST],
            used: 0,
            keys: [0u8, 1, 2].map(|number| state.hash_one(number)),
        }
    }
}

impl Index {
    pub(super) fn hash(&self, prefix: &EidPrefix) -> Hash {
        let (family, high, low) = match prefix.prefix {
            IpNet::V4(net) => (4, 0, u64::from(u32::from(net.addr()))),
            IpNet::V6(net) => {
                let bits = u128::from(net.addr());
                (6, (bits >> 64) as u64, bits as u64)
            }
        };
        let rest =
            u64::from(prefix.iid) << 16 | u64::from(prefix.prefix.prefix_len()) << 8 | family;
        let [a, b, c] = self.keys;
        let mixed = folded(folded(high ^ a, low ^ b) ^ rest, c);
        Hash((mixed >> 32) as u32)
    }

    /// The slot of a hash for which `is_it` holds.
    pub(super) fn find(&self, hash: Hash, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.with_hash(hash).find(|&slot| is_it(slot))
    }

    /// A slot that most likely is the one of a hash: nothing but this index is looked at.
    pub(super) fn guess(&self, hash: Hash) -> Option<u32> {
        self.with_hash(hash).next()
    }

    /// Fetches the word at which a search starts.
    pub(super) fn fetch(&self, hash: Hash) {
        fetch(&self.words[self.home(hash)]);
    }

    /// Puts in a slot that is not there yet.
    pub(super) fn insert(&mut self, hash: Hash, slot: u32) {
        // With a quarter free, a search meets few words.
        if (self.used + 1) * 4 > self.words.len() * 3 {
            let words = std::mem::take(&mut self.words);
            self.words = vec![0; words.len() * 2];
            for word in words.into_iter().filter(|word| *word != 0) {
                self.place(word);
            }
        }
        self.used += 1;
        self.place(u64::from(hash.0) << 32 | u64::from(slot + 1));
    }

    /// Takes a slot out; nothing happens when it is not there.
    pub(super) fn remove(&mut self, hash: Hash, slot: u32) {
        let wanted = u64::from(hash.0) << 32 | u64::from(slot + 1);
        let mut hole = self.home(hash);
        while self.words[hole] != wanted {
            if self.words[hole] == 0 {
                return;
            }
            hole = self.after(hole);
        }
        self.used -= 1;
        // What follows moves up, unless it would stand before where its search starts.
        let mut at = self.after(hole);
        while self.words[at] != 0 {
            let home = self.home(hash_of(self.words[at]));
            let mask = self.words.len() - 1;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.words[hole] = self.words[at];
                hole = at;
            }
            at = self.after(at);
        }
        self.words[hole] = 0;
    }

    fn with_hash(&self, hash: Hash) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.home(hash);
        std::iter::from_fn(move || {
            loop {
                let word = self.words[at];
                if word == 0 {
                    return None;
                }
                at = self.after(at);
                if hash_of(word).0 == hash.0 {
                    return Some(word as u32 - 1);
                }
            }
        })
    }

    fn place(&mut self, word: u64) {
        let mut at = self.home(hash_of(word));
        while self.words[at] != 0 {
            at = self.after(at);
        }
        self.words[at] = word;
    }

    /// Where the search for a hash starts: its upper bits.
    fn home(&self, hash: Hash) -> usize {
        let bits = self.words.len().trailing_zeros();
        (u64::from(hash.0) << bits >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.words.len() - 1)
    }
}

fn hash_of(word: u64) -> Hash {
    Hash((word >> 32) as u32)
}

/// Both halves of the long product: each bit of it depends on many of both factors.
fn folded(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Few different hashes, so that runs of words form, wrap around the end and are torn apart.
        #[test]
        fn equals_a_map(changes in proptest::collection::vec((0u32..40, any::<bool>()), 0..200)) {
            let mut index = Index::default();
            let mut model = BTreeMap::new();
            let hash = |slot: u32| Hash((slot % 7).wrapping_mul(0x1fff_ffff).wrapping_sub(slot % 3));
            for (slot, put) in changes {
                if put && model.insert(slot, ()).is_none() {
                    index.insert(hash(slot), slot);
                } else if !put {
                    model.remove(&slot);
                    index.remove(hash(slot), slot);
                }
                for slot in 0..40 {
                    let found = index.find(hash(slot), |found| found == slot);
                    prop_assert_eq!(found.is_some(), model.contains_key(&slot));
                }
                prop_assert_eq!(index.used, model.len());
            }
        }
    }

    #[test]
    fn hashes_of_neighbours_differ() {
        let index = Index::default();
        let mut hashes: Vec<u32> = (0..10_000u32)
            .map(|number| EidPrefix::host(0, std::net::Ipv4Addr::from(number).into()))
            .map(|prefix| index.hash(&prefix).0)
            .collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert!(hashes.len() > 9_990, "{} different hashes", hashes.len());
    }
}
