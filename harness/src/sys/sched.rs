//! Which threads the scheduler prefers.

/// Asks that the calling thread runs before others: it keeps up with the kernel, and what it misses is lost. Ordinary users
/// may not ask; then everything works as long as the host is not overloaded.
pub(crate) fn hurry() {
    // SAFETY: setpriority takes integers; 0 is the calling thread (Linux counts threads, not processes, here).
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -10) };
}
