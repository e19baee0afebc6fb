//! What goes on while cases run: one changing line on a terminal, a plain line for each finished case elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use conformance::results::CaseResult;
use conformance::runner::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::say;

pub(crate) struct Lines {
    bar: Option<ProgressBar>,
    state: Mutex<State>,
    total: usize,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<String, String>,
    done: usize,
    failed: usize,
    results: Vec<CaseResult>,
}

impl Lines {
    pub(crate) fn new(total: usize) -> Lines {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar =
                ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {pos}/{len} {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        Lines {
            bar,
            state: Mutex::default(),
            total,
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// How many cases there are.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// The results of the cases that are over, in the order in which they ended.
    pub(crate) fn so_far(&self) -> Vec<CaseResult> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.results.clone()
    }

    fn draw(&self, state: &State) {
        let Some(bar) = &self.bar else { return };
        let first = state.waiting.iter().next();
        let waits = first.map_or_else(String::new, |(case, what)| {
            format!("; {case} waits for {what}")
        });
        bar.set_position(state.done as u64);
        bar.set_message(format!(
            "{} running, {} not as expected{waits}",
            state.waiting.len(),
            state.failed
        ));
    }
}

impl Progress for Lines {
    fn waits(&self, case: &str, what: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.insert(case.to_owned(), what.to_owned());
        self.draw(&state);
    }

    fn done(&self, result: &CaseResult) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.remove(&result.id);
        state.done += 1;
        state.failed += usize::from(result.verdict.is_failure());
        state.results.push(result.clone());
        self.draw(&state);
        if self.bar.is_none() {
            let sabotage = result
                .sabotage
                .as_ref()
                .map_or_else(String::new, |name| format!(" [{name}]"));
            say(&format!(
                "[{}/{}] {:<12} {}{sabotage} ({:.1} s)\n",
                state.done,
                self.total,
                result.verdict,
                result.id,
                result.duration_ms as f64 / 1000.0
            ));
        }
    }
}
