//! What the packet path asks of the kernel: the TUN device, policy routing, routes of the site.
//!
//! Nothing here belongs to somebody else: rules carry our priority and our protocol number, routes our protocol
//! number in our tables, the device our name. What a killed run left behind is found by these marks.

pub mod aggregates;
pub mod bypassed;
pub mod data_probes;
pub mod nat;
pub mod netlink;
pub mod offload;
pub mod policy;
pub mod site;
pub mod tun;

use std::io;

/// Routing protocol number of our rules and routes (`ip route show table all proto 76`).
pub const PROTOCOL: u8 = 76;

/// Routing protocol number of a PITR's aggregates in the main table (`ip route show proto 77`): routing daemons pick
/// them up by it, and leave everything else alone.
pub const AGGREGATE_PROTOCOL: u8 = 77;

/// The kernel refused something that the packet path cannot do without.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}. {hint}")]
pub struct KernelError {
    /// What was tried.
    pub what: String,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
    /// What to do about it.
    pub hint: &'static str,
}

impl KernelError {
    /// An error with its circumstances; the hint follows the kind of refusal.
    pub fn new(what: impl Into<String>, source: io::Error) -> Self {
        let hint = match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                "Run as root, or inside a user namespace that owns the network namespace (CAP_NET_ADMIN and CAP_NET_RAW)"
            }
            Some(libc::EBUSY) => {
                "Another program uses that device: stop it, or choose another name with `tun-device`"
            }
            Some(libc::ENOENT) => {
                "Load the kernel's tun module (`modprobe tun`) or point `tun-node` at the device node"
            }
            Some(libc::EADDRINUSE) => {
                "Another program listens on that port: stop it, one LISP router a network namespace"
            }
            _ => "See `ip rule`, `ip route show table all` and the kernel log",
        };
        Self {
            what: what.into(),
            source,
            hint,
        }
    }
}

/// Writes a sysctl of the calling thread's network namespace, such as `net/ipv4/conf/lisp0/rp_filter`.
///
/// # Errors
/// The file cannot be written: no such setting, or read-only.
pub fn write_sysctl(path: &str, value: &str) -> Result<(), KernelError> {
    let file = format!("/proc/sys/{path}");
    std::fs::write(&file, value)
        .map_err(|e| KernelError::new(format!("writing {value} to {file}"), e))
}

/// Reads a number from a sysctl of the calling thread's network namespace.
pub fn read_sysctl(path: &str) -> Option<i64> {
    let text = std::fs::read_to_string(format!("/proc/sys/{path}")).ok()?;
    text.trim().parse().ok()
}
