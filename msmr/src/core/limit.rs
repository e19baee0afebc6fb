//! Brakes: requests of one source, and the same answer to the same requester. Both hold bounded memory whatever arrives.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use daemon::Time;

/// Entries of one generation; two generations are held.
const GENERATION: usize = 65_536;

/// A map that forgets what was not used for one to two periods, and holds at most two generations.
#[derive(Debug)]
struct Recent<K, V> {
    period: Duration,
    turned: Time,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash + Clone, V> Recent<K, V> {
    fn new(period: Duration) -> Self {
        Self {
            period,
            turned: Time::ZERO,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// The entry of `key`, made by `fresh` when it is not there; `None` when there is no room for a new one.
    fn entry(&mut self, now: Time, key: K, fresh: impl FnOnce() -> V) -> Option<&mut V> {
        if now.since(self.turned) >= self.period {
            self.old = std::mem::take(&mut self.young);
            self.turned = now;
        }
        if !self.young.contains_key(&key) {
            let value = match self.old.remove(&key) {
                Some(value) => value,
                None if self.young.len() >= GENERATION => return None,
                None => fresh(),
            };
            self.young.insert(key.clone(), value);
        }
        self.young.get_mut(&key)
    }
}

/// A token bucket: `rate` a second, and as much at once.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Time,
}

impl Bucket {
    fn full(rate: u32, now: Time) -> Self {
        Self {
            tokens: f64::from(rate),
            at: now,
        }
    }

    fn take(&mut self, rate: u32, now: Time) -> bool {
        let rate = f64::from(rate);
        let earned = now.since(self.at).as_secs_f64() * rate;
        self.tokens = (self.tokens + earned).min(rate);
        self.at = now;
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }
}

/// How many requests each source may send.
#[derive(Debug)]
pub(crate) struct SourceLimit {
    rate: u32,
    sources: Recent<IpAddr, Bucket>,
    /// Shared by the sources that found no room: a flood from invented sources starves only newcomers.
    others: Bucket,
}

impl SourceLimit {
    /// `rate` requests a second for each source; 0 for no limit.
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            rate,
            // A bucket is full again after one second, so a source that is forgotten after that loses nothing.
            sources: Recent::new(Duration::from_secs(2)),
            others: Bucket::full(rate, Time::ZERO),
        }
    }

    /// Whether a request of `source` is within its rate.
    pub(crate) fn allow(&mut self, now: Time, source: IpAddr) -> bool {
        let rate = self.rate;
        if rate == 0 {
            return true;
        }
        match self.sources.entry(now, source, || Bucket::full(rate, now)) {
            Some(bucket) => bucket.take(rate, now),
            None => self.others.take(rate, now),
        }
    }
}

/// Holds back the same answer to the same requester (RFC 6830 6.1.5: once a second; RFC 9301 5.4).
#[derive(Debug)]
pub(crate) struct ReplyLimit<K> {
    interval: Duration,
    sent: Recent<K, (Time, u64)>,
}

impl<K: Eq + Hash + Clone> ReplyLimit<K> {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            sent: Recent::new(interval.max(Duration::from_millis(1))),
        }
    }

    /// Whether an answer with this content may go out now. A changed answer always may: it is news.
    pub(crate) fn allow(&mut self, now: Time, key: K, content: u64) -> bool {
        if self.interval.is_zero() {
            return true;
        }
        let mut fresh = false;
        let entry = self.sent.entry(now, key, || {
            fresh = true;
            (now, content)
        });
        match entry {
            Some((at, what)) if !fresh => {
                let allowed = *what != content || now.since(*at) >= self.interval;
                if allowed {
                    (*at, *what) = (now, content);
                }
                allowed
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn a_flood_of_one_source_starves_no_other() {
        let mut limit = SourceLimit::new(10);
        let now = Time::from_secs(100);
        let passed = (0..1000).filter(|_| limit.allow(now, source(1))).count();
        assert_eq!(passed, 10);
        assert!(limit.allow(now, source(2)));
        let later = now + Duration::from_millis(500);
        let passed = (0..1000).filter(|_| limit.allow(later, source(1))).count();
        assert_eq!(passed, 5);
    }

    #[test]
    fn invented_sources_starve_only_newcomers() {
        let mut limit = SourceLimit::new(10);
        let now = Time::from_secs(100);
        assert!(limit.allow(now, source(0)));
        for number in 1..200_000 {
            limit.allow(now, source(number));
        }
        assert!(limit.sources.young.len() <= GENERATION);
        assert!(
            limit.allow(now, source(0)),
            "an established source has its own bucket"
        );
    }

    #[test]
    fn the_same_answer_once_in_an_interval_and_news_at_once() {
        let mut limit = ReplyLimit::new(Duration::from_secs(1));
        let at = |millis| Time::from_secs(100) + Duration::from_millis(millis);
        assert!(limit.allow(at(0), "itr", 1));
        assert!(!limit.allow(at(100), "itr", 1));
        assert!(limit.allow(at(200), "other", 1));
        assert!(limit.allow(at(300), "itr", 2));
        assert!(!limit.allow(at(1200), "itr", 2));
        assert!(limit.allow(at(1300), "itr", 2));
    }
}
