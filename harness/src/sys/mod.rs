//! The corners that talk to the kernel.

pub(crate) mod bpf;
pub(crate) mod ethtool;
pub(crate) mod netlink;
pub(crate) mod netns;
pub(crate) mod pidfd;
pub(crate) mod raw;
pub(crate) mod ring;
pub(crate) mod sched;
