//! What an interrupt does: the first one ends a command that runs cases in order, the second one at once.
//!
//! Nothing has to be taken down: labs vanish with the process that holds them, whatever ends it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use conformance::baseline::Baseline;
use conformance::results::Results;
use conformance::runner::{self, Options, Run};
use conformance::suite;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::lab::Problem;
use super::progress::Lines;
use super::{Exit, say};

/// The signals that ask a command to end: Ctrl-C, `kill`, a terminal that goes away (but not under `nohup`).
fn asking() -> SigSet {
    let mut asking: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    if !is_ignored(Signal::SIGHUP) {
        asking.add(Signal::SIGHUP);
    }
    asking
}

/// Whether whoever started this process has made it deaf to a signal (proc_pid_status(5), `SigIgn`).
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal as i32 - 1)) != 0)
}

/// A descriptor to which those signals come from now on, instead of ending the process. Threads inherit this: call it
/// before there are any.
pub(crate) fn signals() -> Result<SignalFd, Problem> {
    let asking = asking();
    let signals = asking
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&asking, SfdFlags::SFD_CLOEXEC));
    signals.map_err(|errno| failed(errno.into()))
}

fn failed(error: std::io::Error) -> Problem {
    let problem = format!("waiting for an interrupt: {error}");
    (problem, Exit::Host)
}

/// Runs cases until they have run, or until an interrupt comes: then the results that there are have been written where
/// `options` say, `last_words` gets them (none if no case was judged), and this does not return.
pub(crate) fn run_cases(
    runs: &[Run<'_>],
    options: &Options,
    baseline: &Arc<Baseline>,
    last_words: impl FnOnce(Option<Results>) + Send + 'static,
) -> Result<Results, Problem> {
    let progress = Arc::new(Lines::new(runs.len()));
    let interrupt = Interrupt::watch(signals()?, {
        let (progress, baseline) = (Arc::clone(&progress), Arc::clone(baseline));
        let (head, out) = (suite::results(options), options.out.clone());
        move || last_words(keep_results(&progress, head, &baseline, &out))
    })?;
    let results = suite::run(runs, options, baseline, &*progress);
    interrupt.over();
    progress.finish();
    Ok(results)
}

/// Waits for an interrupt while cases run.
struct Interrupt(Arc<Mutex<()>>);

impl Interrupt {
    /// From now on the first interrupt says `last_words` and ends the process with 128 and the number of the signal, as
    /// shells count: evidence that is being written is written to its end, and cases that run are dropped.
    fn watch(
        signals: SignalFd,
        last_words: impl FnOnce() + Send + 'static,
    ) -> Result<Interrupt, Problem> {
        let end = Arc::new(Mutex::new(()));
        let interrupt = Interrupt(Arc::clone(&end));
        std::thread::Builder::new()
            .name("interrupt".to_owned())
            .spawn(move || {
                let Ok(Some(came)) = signals.read_signal() else {
                    return;
                };
                // The next one does what it always does: it ends the process at once.
                let _ = asking().thread_unblock();
                let _end = end.lock().unwrap_or_else(PoisonError::into_inner);
                let _evidence = runner::hold_evidence();
                last_words();
                let number = i32::try_from(came.ssi_signo).unwrap_or(Signal::SIGINT as i32);
                std::process::exit(128 + number)
            })
            .map_err(failed)?;
        Ok(interrupt)
    }

    /// All cases have run: what is left is quick, and an interrupt no longer stops it. Where one came before, it has the
    /// last word, and this does not return.
    fn over(self) {
        let end = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::forget(end);
    }
}

/// Writes the results that there are, and says so. None if no case was judged.
fn keep_results(
    progress: &Lines,
    head: Results,
    baseline: &Baseline,
    out: &Path,
) -> Option<Results> {
    progress.finish();
    let judged = progress.so_far();
    let (count, total) = (judged.len(), progress.total());
    if judged.is_empty() {
        say("interrupted: no case was judged, and no results are written\n");
        return None;
    }
    let mut results = suite::gather(head, judged, baseline);
    results.interrupted = true;
    results.cases.sort_by(|a, b| a.id.cmp(&b.id));
    match results.write(out) {
        Ok(()) => say(&format!(
            "interrupted: {count} of {total} cases were judged and are in {}; nothing is said about the others\n",
            out.join("results.json").display()
        )),
        Err(error) => say(&format!(
            "interrupted: {count} of {total} cases were judged; their results are not written: {}: {error}\n",
            out.display()
        )),
    }
    Some(results)
}
