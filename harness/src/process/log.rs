//! The output of programs: read by one thread per lab, kept bounded, and waited on without polling.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// The beginning of an output is kept up to this many octets, and of the rest the last as many.
const KEEP: usize = 512 << 10;

/// The output of one program.
#[derive(Default)]
pub(crate) struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
    closed: bool,
    file: Option<File>,
    file_left: u64,
    file_error: Option<io::Error>,
}

impl Log {
    /// A log that is also written to a file, up to `limit` octets: a program that fills its log must not fill the disk.
    pub(crate) fn to_file(path: Option<&Path>, limit: u64) -> io::Result<Log> {
        let state = State {
            file: path.map(File::create).transpose()?,
            file_left: limit,
            ..State::default()
        };
        Ok(Log {
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, octets: &[u8]) {
        let mut state = self.lock();
        state.total += octets.len() as u64;
        let room = KEEP.saturating_sub(state.head.len()).min(octets.len());
        state.head.extend_from_slice(&octets[..room]);
        state.tail.extend(&octets[room..]);
        let over = state.tail.len().saturating_sub(KEEP);
        state.tail.drain(..over);
        let part = octets.len().min(state.file_left as usize);
        state.file_left -= part as u64;
        let full = part < octets.len();
        if let Some(mut file) = state.file.as_ref() {
            let note: &[u8] = if full {
                b"\n[log limit reached: the rest is not kept]\n"
            } else {
                b""
            };
            if let Err(error) = file
                .write_all(&octets[..part])
                .and_then(|()| file.write_all(note))
            {
                state.file_error = Some(error);
                state.file = None;
            } else if full {
                state.file = None;
            }
        }
        self.changed.notify_all();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// What is kept, and how many octets in the middle are not.
    pub(crate) fn text(&self) -> (String, u64) {
        let state = self.lock();
        let (octets, dropped) = state.from(0);
        (String::from_utf8_lossy(&octets).into_owned(), dropped)
    }

    /// All octets that are kept.
    pub(crate) fn octets(&self) -> Vec<u8> {
        self.lock().from(0).0
    }

    /// The last lines, for messages.
    pub(crate) fn tail(&self, lines: usize) -> String {
        let (text, _) = self.text();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Waits until a whole line matches, the output ends (`Err(true)`), or the deadline passes (`Err(false)`).
    pub(crate) fn wait_line(
        &self,
        deadline: Instant,
        mut matches: impl FnMut(&str) -> bool,
    ) -> Result<String, bool> {
        let mut scanned = 0u64;
        let mut state = self.lock();
        loop {
            let (octets, skipped) = state.from(scanned);
            scanned += skipped;
            let whole = if state.closed {
                octets.len()
            } else {
                octets
                    .iter()
                    .rposition(|&o| o == b'\n')
                    .map_or(0, |n| n + 1)
            };
            let text = String::from_utf8_lossy(&octets[..whole]);
            if let Some(line) = text.lines().find(|line| matches(line)) {
                return Ok(line.to_owned());
            }
            scanned += whole as u64;
            if state.closed {
                return Err(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(false);
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until the output has ended, or the deadline.
    pub(crate) fn wait_closed(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        while !state.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }
}

impl State {
    /// What is kept of the output from offset `start` on, and how many octets from there on are not kept.
    fn from(&self, start: u64) -> (Vec<u8>, u64) {
        let head = self.head.len() as u64;
        let tail_start = self.total - self.tail.len() as u64;
        let mut octets = Vec::new();
        if start < head {
            octets.extend_from_slice(&self.head[start as usize..]);
        }
        let skipped = tail_start.saturating_sub(start.max(head));
        let from = start.max(tail_start) - tail_start;
        octets.extend(self.tail.iter().skip(from as usize));
        (octets, skipped)
    }
}

/// Pipes that the thread has not seen yet, and the logs that they go to.
type Added = Mutex<Vec<(File, Arc<Log>)>>;

/// The thread that reads all outputs of a lab.
pub(crate) struct LogPump {
    added: Arc<Added>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl LogPump {
    pub(crate) fn start() -> io::Result<LogPump> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let added = Arc::new(Mutex::new(Vec::new()));
        let thread = std::thread::Builder::new()
            .name("lab-logs".to_owned())
            .spawn({
                let (wake, added) = (Arc::clone(&wake), Arc::clone(&added));
                move || pump(&wake, &added)
            })?;
        Ok(LogPump {
            added,
            wake,
            thread: Some(thread),
        })
    }

    /// Reads a pipe into a log until it ends.
    pub(crate) fn add(&self, pipe: OwnedFd, log: Arc<Log>) {
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        added.push((File::from(pipe), log));
        drop(added);
        let _ = self.wake.write(1);
    }
}

impl Drop for LogPump {
    /// Waits for the end of all outputs: the programs must be gone.
    fn drop(&mut self) {
        // Half of the counter's range says "end when nothing is left".
        let _ = self.wake.write(1 << 32);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn pump(wake: &EventFd, added: &Added) {
    let mut pipes: Vec<(File, Arc<Log>)> = Vec::new();
    let mut ending = false;
    let mut buffer = vec![0u8; 64 << 10];
    while !ending || !pipes.is_empty() {
        let mut fds: Vec<PollFd<'_>> = pipes
            .iter()
            .map(|(pipe, _)| PollFd::new(pipe.as_fd(), PollFlags::POLLIN))
            .collect();
        fds.push(PollFd::new(wake.as_fd(), PollFlags::POLLIN));
        if let Err(errno) = poll(&mut fds, PollTimeout::NONE)
            && errno != nix::errno::Errno::EINTR
        {
            break;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        drop(fds);
        let mut number = 0;
        pipes.retain_mut(|(pipe, log)| {
            number += 1;
            if !ready[number - 1] {
                return true;
            }
            match pipe.read(&mut buffer) {
                Ok(0) => {
                    log.close();
                    false
                }
                Ok(count) => {
                    log.append(&buffer[..count]);
                    true
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
                Err(_) => {
                    log.close();
                    false
                }
            }
        });
        if ready[number] {
            ending |= wake.read().unwrap_or(0) >= 1 << 32;
            pipes.append(&mut added.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
    for (_, log) in pipes {
        log.close();
    }
}
