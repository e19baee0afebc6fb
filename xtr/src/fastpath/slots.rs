//! Places in the arrays that programs read: given out, and taken back only when no program can still look at them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Programs run for microseconds; one that was started before a place became free has ended after this time.
const COOLING: Duration = Duration::from_millis(20);

/// Places 0 to a limit.
#[derive(Debug)]
pub(super) struct Slots {
    next: u32,
    limit: u32,
    cooling: VecDeque<(Instant, u32)>,
}

impl Slots {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            next: 0,
            limit,
            cooling: VecDeque::new(),
        }
    }

    /// A free place; none: all are taken, or were a moment ago.
    pub(super) fn take(&mut self, now: Instant) -> Option<u32> {
        if let Some(&(since, slot)) = self.cooling.front()
            && now.saturating_duration_since(since) >= COOLING
        {
            self.cooling.pop_front();
            return Some(slot);
        }
        if self.next < self.limit {
            self.next += 1;
            return Some(self.next - 1);
        }
        None
    }

    /// Nothing leads to this place any more.
    pub(super) fn free(&mut self, slot: u32, now: Instant) {
        self.cooling.push_back((now, slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_out_again_only_after_it_cooled() {
        let start = Instant::now();
        let mut slots = Slots::new(2);
        assert_eq!((slots.take(start), slots.take(start)), (Some(0), Some(1)));
        assert_eq!(slots.take(start), None);
        slots.free(0, start);
        assert_eq!(slots.take(start + COOLING / 2), None);
        assert_eq!(slots.take(start + COOLING), Some(0));
        assert_eq!(slots.take(start + COOLING), None);
    }
}
