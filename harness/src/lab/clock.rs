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

    /// Wall clock minus monotonic clock now: the tightest of several readings, because a thread that is held up between
    /// the two clocks would date packets before the test that sent them.
    pub(crate) fn wall_offset() -> i64 {
        let reading = || {
            let before = read(ClockId::CLOCK_MONOTONIC);
            let wall = read(ClockId::CLOCK_REALTIME);
            let after = read(ClockId::CLOCK_MONOTONIC);
            (after - before, wall - (before + (after - before) / 2))
        };
        let mut tightest = reading();
        for _ in 0..8 {
            tightest = tightest.min(reading());
        }
        tightest.1
    }

    /// Now, in lab time.
    pub(crate) fn now(self) -> u64 {
        (read(ClockId::CLOCK_MONOTONIC) + self.offset) as u64
    }

    /// The lab time of a packet that the kernel stamped with the wall clock. The wall clock may have been stepped while the
    /// packet waited to be read: it stood `before` or `offset` from the monotonic one. The packet was read at lab time
    /// `now`, a moment after it was stamped, which tells the two apart.
    pub(crate) fn of_packet(self, wall_ns: u64, before: i64, offset: i64, now: u64) -> u64 {
        let by = |offset: i64| (wall_ns as i64 - offset + self.offset) as u64;
        let (early, late) = (by(before), by(offset));
        if early.abs_diff(now) < late.abs_diff(now) {
            early
        } else {
            late
        }
    }

    /// The offset at the start.
    pub(crate) fn offset(self) -> i64 {
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_moves_no_packet() {
        const HOUR: i64 = 3_600_000_000_000;
        let clock = Clock::start();
        let offset = clock.offset();
        let now = clock.now();
        let stamped = now - 3_000_000;
        for step in [HOUR, -HOUR] {
            let stepped = (stamped as i64 + step) as u64;
            // Stamped before the step, read after it; stamped and read after it; long after it.
            assert_eq!(
                clock.of_packet(stamped, offset, offset + step, now),
                stamped
            );
            assert_eq!(
                clock.of_packet(stepped, offset, offset + step, now),
                stamped
            );
            assert_eq!(
                clock.of_packet(stepped, offset + step, offset + step, now),
                stamped
            );
        }
        assert!(clock.now() >= now, "lab time is monotonic");
    }
}
