//! Runs cases: a lab each, several at a time.

mod evidence;
mod one;
mod parallel;
mod prepare;
mod select;
mod tamper;

use std::path::PathBuf;

use crate::case::Case;
use crate::edition::Edition;
use crate::implementation::Implementation;

pub use evidence::hold as hold_evidence;
pub use one::{Run, run_case};
pub use parallel::{Progress, run_all};
pub use select::{Selection, glob_matches};

/// How cases are run.
#[derive(Debug, Clone)]
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
    /// Leave a bundle of each failure.
    pub bundles: bool,
    /// Run cases that wait for long timers, and timers that cannot be shortened.
    pub slow: bool,
}

/// The order in which cases begin, as positions: those that may take longest first, so that no long one is left over at the end.
/// A case's timeout is what is known of that before it runs.
pub fn longest_first<'a>(cases: impl Iterator<Item = &'a Case>) -> Vec<usize> {
    let mut order: Vec<(std::time::Duration, usize)> = cases
        .enumerate()
        .map(|(at, case)| (case.timeout, at))
        .collect();
    // Stable: equal ones keep their order.
    order.sort_by_key(|(timeout, _)| std::cmp::Reverse(*timeout));
    order.into_iter().map(|(_, at)| at).collect()
}

/// Cases at a time where nobody says otherwise: most of a case's time is waiting.
pub fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(8, |cores| (4 * cores.get()).max(8))
}
