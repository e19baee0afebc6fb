//! A running program, as a test sees it.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::log::Log;
use super::program::{Exit, NotSeen, ProcessReport};
use crate::sys::pidfd::PidFd;

/// A program that was started in a node. Dropping the handle does not stop it; the end of the lab does.
#[derive(Clone)]
pub struct ProcessHandle(Arc<Process>);

struct Process {
    node: String,
    name: String,
    argv: Vec<String>,
    started_ns: u64,
    pid: u32,
    pidfd: PidFd,
    child: Mutex<(Child, Option<Exit>)>,
    log: Arc<Log>,
}

/// How a program was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// How it ended.
    pub exit: Exit,
    /// Whether it did not end by itself in time and was killed.
    pub forced: bool,
}

impl ProcessHandle {
    pub(crate) fn new(
        node: &str,
        name: String,
        argv: Vec<String>,
        started_ns: u64,
        mut child: Child,
        log: Arc<Log>,
    ) -> io::Result<ProcessHandle> {
        let pid = child.id();
        let pidfd = PidFd::open(pid).inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        Ok(ProcessHandle(Arc::new(Process {
            node: node.to_owned(),
            name,
            argv,
            started_ns,
            pid,
            pidfd,
            child: Mutex::new((child, None)),
            log,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, (Child, Option<Exit>)> {
        self.0.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node it runs in.
    pub fn node(&self) -> &str {
        &self.0.node
    }

    /// Its name in reports.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its process id, as the host sees it.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// How it ended, or `None` while it runs.
    pub fn exit(&self) -> Option<Exit> {
        let mut guard = self.lock();
        let (child, exit) = &mut *guard;
        if exit.is_none()
            && let Ok(Some(status)) = child.try_wait()
        {
            *exit = Some(match (status.code(), status.signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, signal) => Exit::Signal(signal.unwrap_or_default()),
            });
        }
        *exit
    }

    /// Sends it a signal. Nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) {
        // Under the lock, and not reaped yet: the number is still its own.
        let guard = self.lock();
        if guard.1.is_none() {
            let _ = kill(Pid::from_raw(self.0.pid as i32), signal);
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It still runs when the time is over; the message has the end of its output.
    pub fn wait(&self, timeout: Duration) -> Result<Exit, NotSeen> {
        let deadline = Instant::now() + timeout;
        let ended = self.0.pidfd.wait(deadline).unwrap_or(false);
        match self.exit() {
            Some(exit) if ended => Ok(exit),
            exit => exit.ok_or_else(|| self.not_seen("its end", timeout)),
        }
    }

    /// Sends a signal, waits for the end, and kills it if it does not come in time.
    pub fn stop(&self, signal: Signal, timeout: Duration) -> Stopped {
        self.signal(signal);
        if let Ok(exit) = self.wait(timeout) {
            return Stopped {
                exit,
                forced: false,
            };
        }
        self.signal(Signal::SIGKILL);
        // Nothing can refuse SIGKILL; a process in uninterruptible sleep may take its time.
        loop {
            if let Ok(exit) = self.wait(Duration::from_secs(60)) {
                return Stopped { exit, forced: true };
            }
        }
    }

    /// What it has printed so far, both streams together.
    pub fn log(&self) -> String {
        self.0.log.text().0
    }

    /// The last lines that it has printed.
    pub fn log_tail(&self, lines: usize) -> String {
        self.0.log.tail(lines)
    }

    /// Waits for a line of output that contains `text`, and returns the line. Lines printed before the call count.
    ///
    /// # Errors
    /// No such line in time, or the program ended before; the message has the end of its output.
    pub fn wait_log(&self, text: &str, timeout: Duration) -> Result<String, NotSeen> {
        self.wait_log_where(&format!("a line with {text:?}"), timeout, |line| {
            line.contains(text)
        })
    }

    /// Waits for a line of output for which `matches` is true; `what` names it in the error.
    ///
    /// # Errors
    /// As [`ProcessHandle::wait_log`].
    pub fn wait_log_where(
        &self,
        what: &str,
        timeout: Duration,
        matches: impl FnMut(&str) -> bool,
    ) -> Result<String, NotSeen> {
        self.0
            .log
            .wait_line(Instant::now() + timeout, matches)
            .map_err(|ended| {
                // A process that ends closes its output first, and can be waited for a moment later. One that has only
                // closed its output lives on.
                if ended {
                    let _ = self.0.pidfd.wait(Instant::now() + Duration::from_secs(1));
                }
                self.not_seen(what, timeout)
            })
    }

    fn not_seen(&self, what: &str, waited: Duration) -> NotSeen {
        let state = match self.exit() {
            Some(exit) => format!("it has ended: {exit}"),
            None => "it is running".to_owned(),
        };
        let tail = self.log_tail(20);
        let tail = if tail.is_empty() {
            "it has printed nothing".to_owned()
        } else {
            format!("the end of its output:\n{tail}")
        };
        NotSeen {
            what: format!("{what} of `{}` in node `{}`", self.0.name, self.0.node),
            waited,
            context: format!("; {state}; {tail}"),
        }
    }

    /// Waits for a process that has been killed.
    pub(crate) fn reap(&self) {
        let mut guard = self.lock();
        if guard.1.is_none() {
            let _ = guard.0.wait();
        }
    }

    pub(crate) fn report(&self, exit: Option<Exit>) -> ProcessReport {
        let (log, log_dropped) = self.0.log.text();
        ProcessReport {
            node: self.0.node.clone(),
            name: self.0.name.clone(),
            argv: self.0.argv.clone(),
            started_ns: self.0.started_ns,
            exit,
            log,
            log_dropped,
        }
    }
}
