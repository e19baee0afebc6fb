//! The clock of a lab: nanoseconds since 1970, read once from the wall clock and then carried on by the monotonic one, so
//! that stepping the wall clock during a lab moves nothing.

use nix::time::{ClockId, clock_gettime};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Wall clock minus monotonic clock at the start of the lab, in ns.
    offset: i64,
}

pub(crate) fn read(clock: ClockId) -> i64 {
    // Both clocks exist on every Linux; a failure would mean a wrong constant.
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock {
            offset: Clock::wall_offset(),
        }
    }

    /// Wall clock minus monotonic clock now.
    pub(crate) fn wall_offset() -> i64 {
        let before = read(ClockId::CLOCK_MONOTONIC);
        let wall = read(ClockId::CLOCK_REALTIME);
        let after = read(ClockId::CLOCK_MONOTONIC);
        wall - (before + (after - before) / 2)
    }

    /// Now, in lab time.
    pub(crate) fn now(self) -> u64 {
        (read(ClockId::CLOCK_MONOTONIC) + self.offset) as u64
    }

    /// A wall clock time that was read while the wall clock stood at `offset` from the monotonic one, in lab time.
    pub(crate) fn of_wall(self, wall: u64, offset: i64) -> u64 {
        (wall as i64 - offset + self.offset) as u64
    }

    /// The offset at the start.
    pub(crate) fn offset(self) -> i64 {
        self.offset
    }
}
