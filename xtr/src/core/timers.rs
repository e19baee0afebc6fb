//! The core's timers: a queue ordered by time, in which a timer is named by what it is for.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use daemon::Time;

/// Timers by name. Setting a timer again moves it; timers due at the same time fire in the order in which they were set.
#[derive(Debug)]
pub struct Timers<T> {
    queue: BTreeMap<(Time, u64), T>,
    set: HashMap<T, (Time, u64)>,
    next_order: u64,
}

impl<T: Clone + Eq + Hash> Default for Timers<T> {
    fn default() -> Self {
        Self {
            queue: BTreeMap::new(),
            set: HashMap::new(),
            next_order: 0,
        }
    }
}

impl<T: Clone + Eq + Hash> Timers<T> {
    /// Sets or moves a timer.
    pub fn set(&mut self, timer: T, at: Time) {
        self.cancel(&timer);
        let key = (at, self.next_order);
        self.next_order += 1;
        self.queue.insert(key, timer.clone());
        self.set.insert(timer, key);
    }

    /// Sets a timer unless it already fires earlier.
    pub fn set_earlier(&mut self, timer: T, at: Time) {
        if self.set.get(&timer).is_none_or(|(due, _)| *due > at) {
            self.set(timer, at);
        }
    }

    /// Forgets a timer; nothing happens if it is not set.
    pub fn cancel(&mut self, timer: &T) {
        if let Some(key) = self.set.remove(timer) {
            self.queue.remove(&key);
        }
    }

    /// When the next timer fires.
    pub fn next(&self) -> Option<Time> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    /// When this timer fires, if it is set.
    pub fn due(&self, timer: &T) -> Option<Time> {
        self.set.get(timer).map(|(at, _)| *at)
    }

    /// Takes the first timer that is due at `now`.
    pub fn pop_due(&mut self, now: Time) -> Option<T> {
        let (key, _) = self.queue.first_key_value()?;
        if key.0 > now {
            return None;
        }
        let (_, timer) = self.queue.pop_first()?;
        self.set.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Time {
        Time::from_secs(seconds)
    }

    #[test]
    fn fires_in_order_and_moves() {
        let mut timers = Timers::default();
        timers.set("b", s(2));
        timers.set("a", s(1));
        timers.set("c", s(3));
        timers.set("a", s(4));
        assert_eq!(timers.next(), Some(s(2)));
        timers.cancel(&"c");
        assert_eq!(timers.pop_due(s(1)), None);
        assert_eq!(timers.pop_due(s(5)), Some("b"));
        assert_eq!(timers.pop_due(s(5)), Some("a"));
        assert_eq!(timers.pop_due(s(5)), None);
    }

    #[test]
    fn set_earlier_never_delays() {
        let mut timers = Timers::default();
        timers.set_earlier("a", s(2));
        timers.set_earlier("a", s(3));
        assert_eq!(timers.due(&"a"), Some(s(2)));
        timers.set_earlier("a", s(1));
        assert_eq!(timers.due(&"a"), Some(s(1)));
    }
}
