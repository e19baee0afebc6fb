//! Rate limits where events arise: a table of fixed size, so that a flood of new keys costs no memory.

use std::hash::{Hash, Hasher};

const SLOTS: usize = 1024;

/// Lets a few events per key through in each window, and a bounded number in all.
#[derive(Debug)]
pub(crate) struct Limiter {
    slots: Box<[Slot; SLOTS]>,
    window_start: u64,
    in_window: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: u64,
    started_ms: u64,
    count: u32,
}

/// All events of one thread in 100 ms, whatever their keys.
const TOTAL_PER_WINDOW: u32 = 2_000;

impl Default for Limiter {
    fn default() -> Self {
        Self {
            slots: Box::new([Slot::default(); SLOTS]),
            window_start: 0,
            in_window: 0,
        }
    }
}

impl Limiter {
    /// Whether another event of `key` may pass: at most `count` within `window_ms`. Two keys that fall on one slot
    /// displace each other, which lets more pass, never less.
    pub(crate) fn allow(
        &mut self,
        key: impl Hash,
        count: u32,
        window_ms: u64,
        now_ms: u64,
    ) -> bool {
        if now_ms >= self.window_start + 100 {
            self.window_start = now_ms;
            self.in_window = 0;
        }
        let mut hasher = std::hash::DefaultHasher::new();
        key.hash(&mut hasher);
        let key = hasher.finish() | 1;
        let slot = &mut self.slots[(key >> 32) as usize % SLOTS];
        if slot.key != key || now_ms >= slot.started_ms + window_ms {
            *slot = Slot {
                key,
                started_ms: now_ms,
                count: 0,
            };
        }
        if slot.count >= count || self.in_window >= TOTAL_PER_WINDOW {
            return false;
        }
        slot.count += 1;
        self.in_window += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_passes_as_often_as_allowed_in_each_window() {
        let mut limiter = Limiter::default();
        let passed = (0..10).filter(|_| limiter.allow("a", 3, 100, 5)).count();
        assert_eq!(passed, 3);
        assert!(limiter.allow("b", 3, 100, 5));
        assert!(!limiter.allow("a", 3, 100, 104));
        assert!(limiter.allow("a", 3, 100, 105));
    }

    #[test]
    fn a_flood_of_keys_is_bounded() {
        let mut limiter = Limiter::default();
        let passed = (0..100_000u32)
            .filter(|k| limiter.allow(k, 1, 100, 1))
            .count();
        assert_eq!(passed, TOTAL_PER_WINDOW as usize);
        assert!(limiter.allow(1u32, 1, 100, 101));
    }
}
