//! SIGTERM, SIGINT and SIGHUP as events of a poll loop instead of handlers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What the outside wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT: end cleanly.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The signals of this process as a descriptor that becomes readable.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the three signals in the calling thread and opens the descriptor.
    ///
    /// Call it in `main` before the first other thread starts, so that every thread inherits the mask. A program that is
    /// executed by the daemon inherits it too and must unblock them.
    pub fn install() -> io::Result<Self> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self(fd))
    }

    /// The next request, if there is one.
    pub fn try_next(&self) -> io::Result<Option<Request>> {
        while let Some(info) = self.0.read_signal()? {
            match i32::try_from(info.ssi_signo) {
                Ok(libc::SIGHUP) => return Ok(Some(Request::Reload)),
                Ok(libc::SIGTERM | libc::SIGINT) => return Ok(Some(Request::Stop)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Waits for the next request, at most `timeout` (for ever with `None`).
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Option<Request>> {
        let timeout = match timeout {
            None => PollTimeout::NONE,
            Some(time) => PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX),
        };
        loop {
            if let Some(request) = self.try_next()? {
                return Ok(Some(request));
            }
            let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) => return Ok(None),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::raise;

    #[test]
    fn a_signal_is_an_event() {
        let signals = Signals::install().unwrap();
        assert_eq!(signals.try_next().unwrap(), None);
        raise(Signal::SIGHUP).unwrap();
        assert_eq!(signals.wait(None).unwrap(), Some(Request::Reload));
        raise(Signal::SIGTERM).unwrap();
        assert_eq!(signals.wait(None).unwrap(), Some(Request::Stop));
    }
}
