//! Several cases at a time, and what is going on meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::longest_first;
use super::one::{Run, run_case};
use crate::results::CaseResult;

/// Is told what goes on. Calls come from several threads.
pub trait Progress: Sync {
    /// A case begins, or waits for something else.
    fn waits(&self, case: &str, what: &str);
    /// A case is over.
    fn done(&self, result: &CaseResult);
}

/// Runs all, `jobs` at a time, the longest first. Results come in the order of `runs`.
pub fn run_all(runs: &[Run<'_>], jobs: usize, progress: &dyn Progress) -> Vec<CaseResult> {
    let order = longest_first(runs.iter().map(|run| run.case));
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, CaseResult>> = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, runs.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&at) = order.get(turn) else { break };
                    let run = &runs[at];
                    let result = run_case(run, &|what| progress.waits(run.case.id, what));
                    progress.done(&result);
                    results
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(at, result);
                }
            });
        }
    });
    results
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .into_values()
        .collect()
}
