//! Kernel settings of nodes, under /proc/sys.

use std::io;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::LabError;
use crate::topology::{Node, NodeKind};

/// Lets the calling thread write settings where a container shows them read-only: in a mount namespace of its own. Call it on
/// a thread made for the purpose.
pub(super) fn make_writable() -> Result<(), LabError> {
    let read_only =
        statvfs("/proc/sys").is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY));
    if !read_only {
        return Ok(());
    }
    let none = None::<&str>;
    let hardened = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, private, none))
        .map_err(|errno| LabError::kernel("making a mount namespace", errno.into()))?;
    let again = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | hardened;
    mount(none, "/proc/sys", none, again, none).map_err(|errno| LabError::Unsupported {
            what: format!(
                "/proc/sys is read-only here, and opening it for the lab's own namespaces is refused: {}",
                io::Error::from(errno)
            ),
            remedy: "start the container with --security-opt systempaths=unconfined (Podman: unmask=ALL) or --privileged; \
                     where AppArmor forbids mounts, also with --security-opt apparmor=unconfined"
                .to_owned(),
    })
}

/// What every namespace gets, whatever the host's own settings are: IPv4 settings of a new namespace are copies of the
/// initial namespace's. Duplicate address detection must be off before the links exist, or addresses wait for 1.6 s.
pub(super) fn default_sysctls(
    kind: NodeKind,
    ipv6: bool,
    ipv6_kernel: bool,
) -> Vec<(&'static str, &'static str)> {
    let forward = if kind == NodeKind::Router { "1" } else { "0" };
    let mut sysctls = vec![
        ("net/ipv4/ip_forward", forward),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
    ];
    if ipv6 {
        sysctls.extend([
            ("net/ipv6/conf/all/disable_ipv6", "0"),
            ("net/ipv6/conf/default/disable_ipv6", "0"),
            ("net/ipv6/conf/all/forwarding", forward),
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_ra", "0"),
            ("net/ipv6/conf/default/router_solicitations", "0"),
        ]);
    } else if ipv6_kernel {
        // Without IPv6 addresses there is no reason for neighbour discovery chatter in every capture.
        sysctls.push(("net/ipv6/conf/default/disable_ipv6", "1"));
    }
    sysctls
}

pub(super) fn write_sysctl(node: &Node, path: &str, value: &str) -> Result<(), LabError> {
    std::fs::write(format!("/proc/sys/{path}"), value).map_err(|error| {
        LabError::kernel(
            format!("node `{}`: setting {path} to {value}", node.name),
            error,
        )
    })
}

/// Writes the node's own settings. Before the links exist (`late` false) those of interfaces are not there yet: the answer
/// is then false, and they are written again `late`.
pub(super) fn set_sysctls(node: &Node, late: bool) -> Result<bool, LabError> {
    let mut complete = true;
    for (name, value) in &node.sysctls {
        // As sysctl(8) does: with a slash in the name, the dots are part of interface names.
        let path: String = if name.contains('/') {
            name.clone()
        } else {
            name.replace('.', "/")
        };
        match std::fs::write(format!("/proc/sys/{path}"), value) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && !late => complete = false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LabError::Unsupported {
                    what: format!("node `{}`: this kernel has no setting {name}", node.name),
                    remedy: "correct its name (`sysctl -a` lists those there are; an interface of the node must be \
                             spelled as in the topology), or load the kernel module that brings it"
                        .to_owned(),
                });
            }
            Err(error) => {
                let what = format!("node `{}`: setting {name} to {value:?}", node.name);
                return Err(LabError::kernel(what, error));
            }
        }
    }
    Ok(complete)
}
