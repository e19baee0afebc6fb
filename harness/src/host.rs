//! What the host lets us do, and how to get it.

use std::fmt;
use std::io;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// The host does not allow something that every lab needs. `Display` says what and three ways to get it.
#[derive(Debug, Clone)]
pub struct HostError {
    /// What was refused, and with which words.
    pub what: String,
    /// Ways to get it, the easiest first.
    pub remedies: Vec<String>,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this host does not let us make a lab: {}", self.what)?;
        for (n, remedy) in self.remedies.iter().enumerate() {
            write!(f, "\n  {}. {remedy}", n + 1)?;
        }
        Ok(())
    }
}

impl std::error::Error for HostError {}

impl HostError {
    /// The exit code of a command that ends with this error.
    pub const EXIT_CODE: u8 = 3;

    pub(crate) fn forbidden(what: String, error: &io::Error) -> HostError {
        HostError {
            what: format!("{what}: {error}"),
            remedies: remedies(),
        }
    }
}

/// The three ways to be allowed to make namespaces, in the words of what this host has.
fn remedies() -> Vec<String> {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let mut sysctls = Vec::new();
    if read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        sysctls.push(
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (AppArmor forbids it, as Ubuntu does since 24.04)",
        );
    }
    if read("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        sysctls.push("sysctl -w kernel.unprivileged_userns_clone=1");
    }
    if read("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
        sysctls.push("sysctl -w user.max_user_namespaces=15000");
    }
    if read("/proc/sys/user/max_net_namespaces").as_deref() == Some("0") {
        sysctls.push("sysctl -w user.max_net_namespaces=15000");
    }
    let allow = if sysctls.is_empty() {
        "let ordinary users make user namespaces: sysctl -w user.max_user_namespaces=15000, on Ubuntu 24.04 and later also \
         sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
            .to_owned()
    } else {
        format!(
            "let ordinary users make user namespaces: as root, {}",
            sysctls.join("; ")
        )
    };
    let container = "in a container: start it with --privileged, or with --cap-add SYS_ADMIN --cap-add NET_ADMIN \
         --security-opt seccomp=unconfined --security-opt apparmor=unconfined --device /dev/net/tun"
        .to_owned();
    if geteuid().is_root() {
        // Root without the capabilities of root: who else but a container has that?
        let missing = missing_capabilities();
        let outside = if missing.is_empty() {
            "outside of a container or sandbox: run it there".to_owned()
        } else {
            format!(
                "it runs as root without {}: run it outside of the container or service that took that away, as root",
                missing.join(" and ")
            )
        };
        return vec![container, outside, allow];
    }
    vec!["run it as root (sudo)".to_owned(), allow, container]
}

/// What root usually has and this process does not (capabilities(7)).
fn missing_capabilities() -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    [("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21)]
        .into_iter()
        .filter(|(_, number)| effective & (1 << number) == 0)
        .map(|(name, _)| name)
        .collect()
}

/// How the process came to be allowed to make namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// It runs as root (or with the capabilities of root).
    Root,
    /// It runs as an ordinary user, in a user namespace of its own.
    UserNamespace,
}

/// Prepares the process for labs. Call it first in `main`, **before any thread exists**.
///
/// As root it makes a private mount namespace. As an ordinary user it enters a user namespace, in which the user is root,
/// and a mount namespace of that. Files stay owned by the user.
///
/// # Errors
/// The host forbids it: what was refused, and three ways to get it. A process with threads cannot enter a user namespace;
/// the message says so.
pub fn enter() -> Result<Privilege, HostError> {
    let (uid, gid) = (geteuid(), getegid());
    let refused = |what: &str, error: io::Error| HostError::forbidden(what.to_owned(), &error);
    // Root without CAP_SYS_ADMIN (a plain container) is tried first as root, then like an ordinary user.
    let privilege = if uid.is_root() && unshare(CloneFlags::CLONE_NEWNS).is_ok() {
        Privilege::Root
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|errno| {
            let mut error = refused("making a user namespace", errno.into());
            if errno == nix::errno::Errno::EINVAL {
                error.what.push_str(
                    " (a process that has threads cannot: harness::host::enter() must come first in main)",
                );
            }
            error
        })?;
        let map = |file: &str, text: String| {
            std::fs::write(format!("/proc/self/{file}"), text)
                .map_err(|error| refused(&format!("writing /proc/self/{file}"), error))
        };
        map("setgroups", "deny".to_owned())?;
        map("uid_map", format!("0 {uid} 1"))?;
        map("gid_map", format!("0 {gid} 1"))?;
        Privilege::UserNamespace
    };
    // Nothing that is mounted here may be seen outside.
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .map_err(|errno| refused("making the mounts private", errno.into()))?;
    Ok(privilege)
}

/// Whether the kernel has IPv6 (it may be booted without: `ipv6.disable=1`).
pub fn has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6/conf").is_dir()
}

fn tun_remedies() -> Vec<String> {
    let mut remedies = vec![
        "as root: modprobe tun; chmod 0666 /dev/net/tun (the mode that distributions ship)"
            .to_owned(),
        "in a container: start it with --device /dev/net/tun".to_owned(),
    ];
    if geteuid().is_root() {
        remedies.reverse();
    } else {
        remedies.insert(0, "run it as root (sudo)".to_owned());
    }
    remedies
}

/// Whether programs in a lab can open `/dev/net/tun`; the error says why not and what to do.
///
/// # Errors
/// The device is missing, or this user may not open it.
pub fn check_tun() -> Result<(), HostError> {
    match std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
    {
        Ok(_) => Ok(()),
        Err(error) => {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata("/dev/net/tun")
                .map(|meta| {
                    format!(
                        " (its mode is {:04o}, expected 0666)",
                        meta.permissions().mode() & 0o7777
                    )
                })
                .unwrap_or_default();
            Err(HostError {
                what: format!("/dev/net/tun cannot be opened for TUN devices: {error}{mode}"),
                remedies: tun_remedies(),
            })
        }
    }
}
