//! Whether somebody filters or translates packets of this box (nftables, iptables), and when that changes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// Group that announces changes of nftables.
const NFNLGRP_NFTABLES: u32 = 7;
/// `NFNL_SUBSYS_NFTABLES`, and of its messages `NFT_MSG_NEWTABLE` and `NFT_MSG_GETTABLE`.
const NFTABLES: u16 = 10 << 8;
const NEW_TABLE: u16 = NFTABLES;
const GET_TABLE: u16 = NFTABLES | 1;
const HEADER: usize = 16;

/// A listener for changes of the calling thread's network namespace.
#[derive(Debug)]
pub struct Netfilter {
    announcements: Socket,
    requests: Socket,
}

impl Netfilter {
    /// Listens from now on.
    ///
    /// # Errors
    /// The kernel has no netfilter, or no descriptor is left.
    pub fn listen() -> io::Result<Self> {
        let mut announcements = Socket::new(NETLINK_NETFILTER)?;
        announcements.bind_auto()?;
        announcements.add_membership(NFNLGRP_NFTABLES)?;
        announcements.set_non_blocking(true)?;
        let mut requests = Socket::new(NETLINK_NETFILTER)?;
        requests.bind_auto()?;
        requests.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            announcements,
            requests,
        })
    }

    /// Throws away what was heard. Ask [`Netfilter::is_used`] afterwards.
    pub fn drain(&self) {
        loop {
            match self.announcements.recv_from_full() {
                // Overrun: more was said than fitted.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// Whether there is any table. Where nftables is not in the kernel, there is none of it.
    pub fn is_used(&self) -> bool {
        has_legacy_tables() || self.has_tables().unwrap_or(false)
    }

    fn has_tables(&self) -> io::Result<bool> {
        // `struct nlmsghdr`, and `struct nfgenmsg` with all families.
        let mut question = Vec::with_capacity(HEADER + 4);
        question.extend((HEADER as u32 + 4).to_ne_bytes());
        question.extend(GET_TABLE.to_ne_bytes());
        question.extend(((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
        question.extend([0; 12]);
        self.requests.send(&question, 0)?;
        let mut found = false;
        loop {
            let (answer, _) = self.requests.recv_from_full()?;
            let mut rest = answer.as_slice();
            while rest.len() >= HEADER {
                let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
                let kind = u16::from_ne_bytes([rest[4], rest[5]]);
                found |= kind == NEW_TABLE;
                if i32::from(kind) == libc::NLMSG_DONE || i32::from(kind) == libc::NLMSG_ERROR {
                    return Ok(found);
                }
                rest = &rest[length.next_multiple_of(4).clamp(HEADER, rest.len())..];
            }
        }
    }
}

/// Tables of iptables before nftables; nobody announces them.
fn has_legacy_tables() -> bool {
    ["ip_tables_names", "ip6_tables_names"]
        .iter()
        .filter_map(|name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).ok())
        .any(|names| !names.trim().is_empty())
}

impl AsFd for Netfilter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to `self.announcements` and lives as long as the borrow of `self`.
        unsafe { BorrowedFd::borrow_raw(self.announcements.as_raw_fd()) }
    }
}
