//! Rate limits. RFC 6830 wants Map-Requests, Map-Replies and SMRs limited (6.1.3, 6.1.5, 6.6.2).

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use daemon::Time;

/// At most one event per key and interval. Keys are remembered for one interval and their number is bounded, so that
/// spoofed sources cannot fill the memory: beyond the bound, new keys are refused.
#[derive(Debug)]
pub struct PerKey<K> {
    interval: Duration,
    capacity: usize,
    last: HashMap<K, Time>,
    order: VecDeque<(Time, K)>,
}

impl<K: Clone + Eq + Hash> PerKey<K> {
    /// One event per `interval` and key, for at most `capacity` keys at a time.
    pub fn new(interval: Duration, capacity: usize) -> Self {
        Self {
            interval,
            capacity,
            last: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Whether the event may happen now; if so, it is counted as having happened.
    pub fn allow(&mut self, now: Time, key: K) -> bool {
        while let Some((at, old)) = self.order.front() {
            if *at + self.interval > now {
                break;
            }
            self.last.remove(old);
            self.order.pop_front();
        }
        if self.last.contains_key(&key) || self.last.len() >= self.capacity {
            return false;
        }
        self.last.insert(key.clone(), now);
        self.order.push_back((now, key));
        true
    }

    /// When the key is free again, if it is not now.
    pub fn free_at(&self, now: Time, key: &K) -> Option<Time> {
        self.last
            .get(key)
            .map(|at| *at + self.interval)
            .filter(|at| *at > now)
    }
}

/// A token bucket over everything of one kind.
#[derive(Debug)]
pub struct Bucket {
    per_second: u32,
    burst: u32,
    tokens: u64,
    filled: Time,
}

const TOKEN: u64 = 1_000_000_000;

impl Bucket {
    /// `per_second` events in the long run, `burst` at once.
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second,
            burst,
            tokens: u64::from(burst) * TOKEN,
            filled: Time::ZERO,
        }
    }

    /// Whether one more may happen now; if so, it is counted.
    pub fn allow(&mut self, now: Time) -> bool {
        let passed = now.since(self.filled);
        self.filled = self.filled.max(now);
        let gained = u64::try_from(passed.as_nanos())
            .unwrap_or(u64::MAX)
            .saturating_mul(u64::from(self.per_second));
        self.tokens = self
            .tokens
            .saturating_add(gained)
            .min(u64::from(self.burst) * TOKEN);
        if self.tokens < TOKEN {
            return false;
        }
        self.tokens -= TOKEN;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Time {
        Time::from_millis(milliseconds)
    }

    #[test]
    fn one_per_key_and_interval() {
        let mut limit = PerKey::new(Duration::from_secs(1), 2);
        assert!(limit.allow(ms(0), 'a'));
        assert!(!limit.allow(ms(500), 'a'));
        assert!(limit.allow(ms(500), 'b'));
        assert!(!limit.allow(ms(500), 'c'), "no room for a third key");
        assert_eq!(limit.free_at(ms(500), &'b'), Some(ms(1500)));
        assert!(limit.allow(ms(1000), 'a'));
        assert!(!limit.allow(ms(1000), 'c'));
        assert!(limit.allow(ms(2000), 'c'));
    }

    #[test]
    fn bucket_refills_at_its_rate() {
        let mut bucket = Bucket::new(10, 2);
        assert!(bucket.allow(ms(1000)));
        assert!(bucket.allow(ms(1000)));
        assert!(!bucket.allow(ms(1000)));
        assert!(bucket.allow(ms(1100)));
        assert!(!bucket.allow(ms(1100)));
    }
}
