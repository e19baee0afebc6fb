//! The nonces of Map-Registers, which must increase (RFC 9301 5.6).

use std::collections::HashMap;

use super::registration::EtrId;

/// Whose nonces increase together: a key, by its fingerprint, an xTR and its Site-ID. Without xTR-ID the source address
/// stands for the xTR.
pub(super) type NonceKey = (u64, EtrId, u64);

/// The highest nonce seen of each xTR under each key.
///
/// Whoever has a key can invent xTR-IDs, so each key has a number of xTRs that are remembered. Beyond it those that were
/// silent for longest are forgotten: a site that really has more xTRs still registers, but old messages of a forgotten one
/// could be replayed. No key takes anything from another.
#[derive(Debug, Default)]
pub(super) struct Nonces {
    keys: HashMap<u64, HashMap<(EtrId, u64), Last>>,
    /// Counts what is taken in: the order of use.
    moment: u64,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    nonce: u64,
    used: u64,
}

impl Nonces {
    /// Whether `nonce` is greater than the last; then it is the last. At most `limit` xTRs of the key are remembered.
    pub(super) fn accept(&mut self, key: NonceKey, nonce: u64, limit: usize) -> bool {
        let (fingerprint, etr, site_id) = key;
        self.moment += 1;
        let now = Last {
            nonce,
            used: self.moment,
        };
        let of_key = self.keys.entry(fingerprint).or_default();
        if let Some(last) = of_key.get_mut(&(etr, site_id)) {
            let greater = nonce > last.nonce;
            if greater {
                *last = now;
            }
            return greater;
        }
        if of_key.len() >= limit.max(1) {
            make_room(of_key, limit.max(1));
        }
        of_key.insert((etr, site_id), now);
        true
    }

    /// How many xTRs are remembered, of all keys.
    pub(super) fn len(&self) -> usize {
        self.keys.values().map(HashMap::len).sum()
    }

    /// All, those that were silent for longest first.
    pub(super) fn oldest_first(&self) -> Vec<(NonceKey, u64)> {
        let mut all: Vec<(u64, NonceKey, u64)> = self
            .keys
            .iter()
            .flat_map(|(&key, of_key)| {
                let entry = move |(&(etr, site_id), last): (&(EtrId, u64), &Last)| {
                    (last.used, (key, etr, site_id), last.nonce)
                };
                of_key.iter().map(entry)
            })
            .collect();
        all.sort_unstable();
        all.into_iter()
            .map(|(_, key, nonce)| (key, nonce))
            .collect()
    }
}

/// Forgets an eighth at once, so that looking for the oldest is rare.
fn make_room(of_key: &mut HashMap<(EtrId, u64), Last>, limit: usize) {
    let keep = limit - limit.div_ceil(8);
    let mut used: Vec<u64> = of_key.values().map(|last| last.used).collect();
    let forgotten = used.len() - keep;
    // No two have the same moment.
    let (_, &mut youngest, _) = used.select_nth_unstable(forgotten - 1);
    of_key.retain(|_, last| last.used > youngest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xtr(key: u64, number: u32) -> NonceKey {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        (key, EtrId::Xtr(id), 0)
    }

    #[test]
    fn nonces_increase_for_each_xtr_and_key() {
        let mut nonces = Nonces::default();
        assert!(nonces.accept(xtr(1, 1), 42, 10));
        assert!(!nonces.accept(xtr(1, 1), 42, 10));
        assert!(!nonces.accept(xtr(1, 1), 41, 10));
        assert!(nonces.accept(xtr(1, 2), 1, 10));
        assert!(nonces.accept(xtr(2, 1), 1, 10));
        assert!(nonces.accept(xtr(1, 1), 43, 10));
    }

    #[test]
    fn a_key_that_invents_xtrs_fills_its_own_room_alone() {
        let mut nonces = Nonces::default();
        nonces.accept(xtr(1, 0), 100, 1000);
        for number in 1..100_000 {
            assert!(nonces.accept(xtr(2, number), 1, 1000));
            // One xTR of that key goes on registering, and is not forgotten.
            assert!(nonces.accept(xtr(2, 0), u64::from(number), 1000));
            assert!(nonces.len() <= 1001);
        }
        assert!(!nonces.accept(xtr(2, 0), 1, 1000));
        assert!(
            !nonces.accept(xtr(1, 0), 100, 1000),
            "another key's xTR is remembered"
        );
        assert!(
            !nonces.accept(xtr(2, 99_999), 1, 1000),
            "the latest are remembered"
        );
        assert!(nonces.accept(xtr(2, 1), 1, 1000), "the oldest is forgotten");
        for limit in [0, 1, 2] {
            let mut small = Nonces::default();
            for number in 0..10 {
                assert!(small.accept(xtr(1, number), 1, limit));
                assert!(!small.accept(xtr(1, number), 1, limit));
            }
        }
    }
}
