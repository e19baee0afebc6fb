//! Time as cores see it: a distance from an origin, handed in with every event.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment, as the time since the origin of a [`Clock`] (or of a simulation). Monotonic; never a wall clock.
///
/// It counts nanoseconds in 64 bits, which last for 584 years: tables hold many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The origin.
    pub const ZERO: Time = Time(0);
    /// Later than every moment that happens.
    pub const NEVER: Time = Time(u64::MAX);

    /// The moment `since_origin` after the origin; [`Time::NEVER`] from 584 years on.
    pub const fn from_origin(since_origin: Duration) -> Self {
        Self(nanos(since_origin))
    }

    /// The moment `seconds` after the origin.
    pub const fn from_secs(seconds: u64) -> Self {
        Self::from_origin(Duration::from_secs(seconds))
    }

    /// The moment `milliseconds` after the origin.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self::from_origin(Duration::from_millis(milliseconds))
    }

    /// Distance from the origin.
    pub const fn since_origin(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Nanoseconds of a duration, at most as many as fit.
const fn nanos(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    if nanos > u64::MAX as u128 {
        u64::MAX
    } else {
        nanos as u64
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates at [`Time::NEVER`].
    fn add(self, distance: Duration) -> Time {
        Time(self.0.saturating_add(nanos(distance)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, distance: Duration) {
        *self = *self + distance;
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    /// Saturates at [`Time::ZERO`].
    fn sub(self, distance: Duration) -> Time {
        Time(self.0.saturating_sub(nanos(distance)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.since_origin().as_secs_f64())
    }
}

/// The clock of a running daemon. Only shells own one.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    offset: Duration,
    origin_wall: SystemTime,
}

impl Clock {
    /// A clock whose origin is now.
    #[allow(
        clippy::disallowed_methods,
        reason = "read once: what follows is monotonic"
    )]
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
            offset: Duration::ZERO,
            origin_wall: SystemTime::now(),
        }
    }

    /// A clock whose origin is the Unix epoch as the wall clock has it now; from here on it is monotonic. Moments of it
    /// can be stored and compared by a later process.
    #[allow(
        clippy::disallowed_methods,
        reason = "read once: what follows is monotonic"
    )]
    pub fn since_epoch() -> Self {
        let wall = SystemTime::now();
        Self {
            origin: Instant::now(),
            offset: wall.duration_since(UNIX_EPOCH).unwrap_or_default(),
            origin_wall: UNIX_EPOCH,
        }
    }

    /// The monotonic time since the origin.
    pub fn now(&self) -> Time {
        Time::from_origin(self.origin.elapsed() + self.offset)
    }

    /// The wall-clock time of a moment, for people and for state that outlives the process. It does not follow later
    /// steps of the wall clock.
    pub fn wall(&self, time: Time) -> SystemTime {
        self.origin_wall
            .checked_add(time.since_origin())
            .unwrap_or(self.origin_wall)
    }

    /// Nanoseconds since the Unix epoch at `time`.
    pub fn unix_nanos(&self, time: Time) -> u128 {
        self.wall(time)
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos()
    }
}

/// A duration as routers print it: `00:02:11` below a day, `3d04h` above, `never` for `None`.
pub fn age(duration: Option<Duration>) -> String {
    let Some(duration) = duration else {
        return "never".into();
    };
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    if days > 0 {
        format!("{days}d{hours:02}h")
    } else {
        format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_instead_of_overflowing() {
        assert_eq!(Time::NEVER + Duration::from_secs(1), Time::NEVER);
        assert_eq!(Time::from_secs(u64::MAX), Time::NEVER);
        assert_eq!(Time::from_secs(1).since(Time::from_secs(2)), Duration::ZERO);
        assert_eq!(Time::from_secs(1) - Duration::from_secs(2), Time::ZERO);
    }

    #[test]
    fn a_clock_goes_on_whatever_the_wall_clock_does() {
        for clock in [Clock::start(), Clock::since_epoch()] {
            let before = clock.now();
            // Where the wall clock stood at the start is all that a clock knows of it: stepping it by an hour afterwards
            // changes no moment, and no date of one.
            let stepped = Clock {
                origin_wall: clock.origin_wall + Duration::from_secs(3600),
                ..clock
            };
            let now = stepped.now();
            assert!(now >= before && now.since(before) < Duration::from_secs(60));
            let shown = stepped.wall(now).duration_since(clock.wall(now)).unwrap();
            assert_eq!(
                shown,
                Duration::from_secs(3600),
                "a date is all that shows it"
            );
        }
    }

    #[test]
    fn ages_read_like_a_router() {
        assert_eq!(age(Some(Duration::from_secs(131))), "00:02:11");
        assert_eq!(
            age(Some(Duration::from_secs(3 * 86400 + 4 * 3600))),
            "3d04h"
        );
        assert_eq!(age(None), "never");
    }
}
