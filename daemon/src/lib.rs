//! What every daemon needs around its protocol: a strict YAML configuration with errors that point at the line, logs,
//! an admin socket with its client, signals, the ready notice, counters, a clock and text tables. Nothing of LISP's
//! behaviour lives here; the shared words (keys, prefixes) are the codec's.
//!
//! Cores are sans-I/O and take the time as [`clock::Time`]; their shells are plain threads that block in system calls.

pub mod admin;
pub mod clock;
pub mod config;
pub mod counters;
pub mod exit;
pub mod log;
pub mod ready;
pub mod signals;
pub mod table;

pub use clock::{Clock, Time};
pub use config::ConfigError;
pub use counters::Counters;
pub use exit::Failure;
