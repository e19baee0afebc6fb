//! Logs: one line per event on stderr, and a brake for events that packets cause.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::IsTerminal;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tracing_subscriber::filter::LevelFilter;

use crate::clock::Time;

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Nothing works as it should.
    Error,
    /// And what is suspicious.
    Warn,
    /// And what changes state.
    #[default]
    Info,
    /// And single messages.
    Debug,
    /// And everything.
    Trace,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// Starts logging to stderr. A line is `2026-01-31T12:00:00.000000Z  INFO text`.
///
/// A second call changes nothing (tests share one process).
pub fn init(level: Level) {
    let started = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::from(level))
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
    if started.is_err() {
        tracing::debug!("logging was already started");
    }
}

/// Lets at most one event per reason through in each second, and says how many were held back in between.
#[derive(Debug)]
pub struct Limiter<R> {
    interval: Duration,
    seen: HashMap<R, (Time, u64)>,
}

impl<R> Default for Limiter<R> {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            seen: HashMap::new(),
        }
    }
}

impl<R: Eq + Hash> Limiter<R> {
    /// `Some(held back since the last one)` when an event with this reason may be logged now.
    ///
    /// Reasons must be few (an enum, a site), never something that a packet's sender chooses.
    pub fn allow(&mut self, now: Time, reason: R) -> Option<u64> {
        match self.seen.entry(reason) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert((now, 0));
                Some(0)
            }
            std::collections::hash_map::Entry::Occupied(mut entry) => {
                let (last, held) = *entry.get();
                if now.since(last) >= self.interval {
                    entry.insert((now, 0));
                    Some(held)
                } else {
                    entry.insert((last, held + 1));
                    None
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_per_second_and_reason() {
        let mut limiter = Limiter::default();
        let at = Time::from_millis;
        assert_eq!(limiter.allow(at(0), "a"), Some(0));
        assert_eq!(limiter.allow(at(1), "b"), Some(0));
        assert_eq!(limiter.allow(at(500), "a"), None);
        assert_eq!(limiter.allow(at(999), "a"), None);
        assert_eq!(limiter.allow(at(1000), "a"), Some(2));
        assert_eq!(limiter.allow(at(1001), "a"), None);
    }
}
