//! Network namespaces without names: held by a descriptor, gone with the last one, whatever ends the process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace, held open.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<OwnedFd>);

impl Namespace {
    /// Makes a new namespace and **leaves the calling thread in it**: call it on a thread made for the purpose.
    pub(crate) fn unshare() -> io::Result<Namespace> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Namespace::current()
    }

    /// The namespace of the calling thread.
    pub(crate) fn current() -> io::Result<Namespace> {
        let file = File::open("/proc/thread-self/ns/net")?;
        Ok(Namespace(Arc::new(file.into())))
    }

    /// Moves the calling thread into the namespace: call it on a thread made for the purpose.
    pub(crate) fn enter(&self) -> io::Result<()> {
        setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET)?;
        Ok(())
    }

    /// Runs a closure on a helper thread inside the namespace and waits for it. Sockets that it opens stay in the
    /// namespace for good. A panic of the closure is passed on.
    ///
    /// # Errors
    /// The helper thread could not be started or could not enter.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let helper = std::thread::Builder::new()
                .name("in-namespace".to_owned())
                .spawn_scoped(scope, || self.enter().map(|()| work()))?;
            match helper.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl From<OwnedFd> for Namespace {
    fn from(descriptor: OwnedFd) -> Namespace {
        Namespace(Arc::new(descriptor))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
