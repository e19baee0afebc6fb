//! What the kernel does to packets on the way that the programs avoid: filters and translation (nftables, iptables) and
//! the rules of IPsec. Whether there is any, and when that changes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::{
    Socket, SocketAddr,
    protocols::{NETLINK_NETFILTER, NETLINK_XFRM},
};

/// One kind of such things, and how the kernel is asked about them.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    protocol: isize,
    /// Group that announces changes.
    group: u32,
    /// Type and content of the message that asks for all of them, and type of those that hold one.
    question: u16,
    content: &'static [u8],
    one: u16,
}

/// `NFNL_SUBSYS_NFTABLES`, and of its messages `NFT_MSG_NEWTABLE` and `NFT_MSG_GETTABLE`; `NFNLGRP_NFTABLES`; `struct
/// nfgenmsg` with all families.
const TABLES: Kind = Kind {
    name: "tables of netfilter",
    protocol: NETLINK_NETFILTER,
    group: 7,
    question: 10 << 8 | 1,
    content: &[0; 4],
    one: 10 << 8,
};

/// `XFRM_MSG_GETPOLICY`, `XFRM_MSG_NEWPOLICY`, `XFRMNLGRP_POLICY`; `struct xfrm_userpolicy_id` is not looked at.
const POLICIES: Kind = Kind {
    name: "policies of IPsec",
    protocol: NETLINK_XFRM,
    group: 4,
    question: 0x15,
    content: &[0; 64],
    one: 0x13,
};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// A listener for changes of one kind.
#[derive(Debug)]
struct Listener {
    kind: Kind,
    announcements: Socket,
    requests: Socket,
}

impl Listener {
    /// Listens from now on.
    ///
    /// # Errors
    /// The kernel has nothing of that kind, or no descriptor is left.
    fn new(kind: Kind) -> io::Result<Self> {
        let mut announcements = Socket::new(kind.protocol)?;
        announcements.bind_auto()?;
        announcements.add_membership(kind.group)?;
        announcements.set_non_blocking(true)?;
        let mut requests = Socket::new(kind.protocol)?;
        requests.bind_auto()?;
        requests.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            kind,
            announcements,
            requests,
        })
    }

    fn drain(&self) {
        loop {
            match self.announcements.recv_from_full() {
                // Overrun: more was said than fitted.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    fn is_any(&self) -> io::Result<bool> {
        let length = HEADER + self.kind.content.len();
        let mut question = Vec::with_capacity(length);
        question.extend((length as u32).to_ne_bytes());
        question.extend(self.kind.question.to_ne_bytes());
        question.extend(((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
        question.resize(HEADER, 0);
        question.extend(self.kind.content);
        self.requests.send(&question, 0)?;
        let mut found = false;
        loop {
            let (answer, _) = self.requests.recv_from_full()?;
            let mut rest = answer.as_slice();
            while rest.len() >= HEADER {
                let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
                let kind = u16::from_ne_bytes([rest[4], rest[5]]);
                found |= kind == self.kind.one;
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

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to `self.announcements` and lives as long as the borrow of `self`.
        unsafe { BorrowedFd::borrow_raw(self.announcements.as_raw_fd()) }
    }
}

/// A listener for changes of the calling thread's network namespace.
#[derive(Debug)]
pub struct Bypassed(Vec<Listener>);

impl Bypassed {
    /// Listens from now on; what the kernel has not, is never there.
    pub fn listen() -> Self {
        let kinds = [TABLES, POLICIES];
        Self(kinds.into_iter().flat_map(Listener::new).collect())
    }

    /// What becomes readable with a change: [`drain`](Bypassed::drain) it then.
    pub fn announcements(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd)
    }

    /// Throws away what was heard. Ask [`Bypassed::found`] afterwards.
    pub fn drain(&self) {
        self.0.iter().for_each(Listener::drain);
    }

    /// What there is, in words.
    pub fn found(&self) -> Option<&'static str> {
        if has_legacy_tables() {
            return Some(TABLES.name);
        }
        let found = |listener: &&Listener| listener.is_any().unwrap_or(false);
        self.0.iter().find(found).map(|listener| listener.kind.name)
    }
}
