//! The first process of a lab's PID namespace. When it dies, the kernel kills every other process in the namespace,
//! whatever sessions they started. It dies when the lab ends or when the process that holds the lab dies, however that
//! happens.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, Pid, fork};

/// The init process of a PID namespace, seen from outside.
pub(crate) struct Init {
    pid: Pid,
    /// Held open as long as the namespace shall live: init reads the other end, and ends when the kernel closes this one.
    _lifeline: OwnedFd,
}

impl Init {
    /// Makes a PID namespace for the future children of the calling thread and starts its first process.
    ///
    /// From then on the thread cannot start threads: call it on a thread made for the purpose.
    pub(crate) fn start() -> io::Result<Init> {
        unshare(CloneFlags::CLONE_NEWPID)?;
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        // SAFETY: the child of a process with threads may only make async-signal-safe calls; `init` makes system calls
        // and nothing else, and never returns.
        match unsafe { fork() }? {
            ForkResult::Child => init(reader.as_raw_fd()),
            ForkResult::Parent { child } => Ok(Init {
                pid: child,
                _lifeline: writer,
            }),
        }
    }

    /// Its process id, as the host sees it.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Kills everything in the namespace. Reap the processes that were started in it, then call [`Init::reap`].
    pub(crate) fn kill(&self) {
        // It cannot be gone: nobody else reaps it. So the number is still its own.
        let _ = nix::sys::signal::kill(self.pid, nix::sys::signal::Signal::SIGKILL);
    }

    /// Waits for the end of the namespace.
    pub(crate) fn reap(&self) {
        while nix::sys::wait::waitpid(self.pid, None) == Err(nix::errno::Errno::EINTR) {}
    }
}

/// The life of PID 1: hold no descriptor but the lifeline, reap whatever is left behind by others, end with the lab.
fn init(lifeline: RawFd) -> ! {
    // SAFETY: only system calls with integers and local buffers, as required after fork in a process with threads. All
    // descriptors but the lifeline are closed, so no object of the parent is used afterwards.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_NAME, c"lab-init".as_ptr());
        libc::setsid();
        // With SIGCHLD ignored, the kernel reaps the orphans that are handed to PID 1.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        libc::dup2(lifeline, 0);
        libc::syscall(libc::SYS_close_range, 1u32, u32::MAX, 0u32);
        let mut octet = 0u8;
        loop {
            let got = libc::read(0, (&raw mut octet).cast(), 1);
            if got == 0 || (got < 0 && *libc::__errno_location() != libc::EINTR) {
                libc::_exit(0);
            }
        }
    }
}
