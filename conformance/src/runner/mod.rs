//! Runs cases: a lab each, several at a time.

mod evidence;
mod one;
mod parallel;
mod select;

use std::path::PathBuf;

use crate::edition::Edition;
use crate::implementation::Implementation;

pub use evidence::write_results;
pub use one::{Run, run_case};
pub use parallel::{Progress, run_all};
pub use select::{Selection, glob_matches};

/// How cases are run.
#[derive(Debug)]
pub struct Options {
    /// What is tested.
    pub implementation: Implementation,
    /// Which texts decide.
    pub edition: Edition,
    /// Whether a broken SHOULD fails.
    pub strict: bool,
    /// The seed of everything random.
    pub seed: u64,
    /// Where evidence goes: one folder a case.
    pub out: PathBuf,
    /// Cases at a time.
    pub jobs: usize,
    /// After a failure leave the lab standing until a line comes on standard input.
    pub keep: bool,
    /// Let tshark look at every capture; an absent tshark then fails the case instead of being passed over.
    pub require_tshark: bool,
    /// Run cases that wait for long timers, and timers that cannot be shortened.
    pub slow: bool,
}

/// Cases at a time where nobody says otherwise: most of a case's time is waiting.
pub fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(4, |cores| (2 * cores.get()).max(4))
}
