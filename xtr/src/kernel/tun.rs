//! The TUN device: created with a virtio-net header when the kernel offers one, so that super-packets and
//! unfinished checksums come and go in one piece.

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkFlags, LinkMessage},
};

use super::netlink::Netlink;
use super::{KernelError, read_sysctl, write_sysctl};

/// Queue of the TUN device. Below this, bursts of one flow are lost while the thread sends.
const TRANSMIT_QUEUE: u32 = 10_000;

/// Large enough for every site; what a locator can carry is decided per packet.
const DEVICE_MTU: u32 = 9216;

const TUN_F_CSUM: libc::c_uint = 0x01;
const TUN_F_TSO4: libc::c_uint = 0x02;
const TUN_F_TSO6: libc::c_uint = 0x04;
const TUN_F_USO4: libc::c_uint = 0x20;
const TUN_F_USO6: libc::c_uint = 0x40;

mod request {
    nix::ioctl_write_ptr_bad!(
        set_interface,
        nix::request_code_write!(b'T', 202, 4),
        [u8; 40]
    );
    nix::ioctl_write_int_bad!(set_offload, nix::request_code_write!(b'T', 208, 4));
}

/// What a TUN queue hands over in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TunOffload {
    /// TCP super-packets and unfinished checksums.
    pub tcp: bool,
    /// UDP super-packets (kernel 6.2 and later).
    pub udp: bool,
}

/// A TUN device with its queues. It vanishes when the last queue is closed.
#[derive(Debug)]
pub struct Tun {
    /// One non-blocking descriptor per queue; every packet has a 10-octet virtio-net header before it.
    pub queues: Vec<File>,
    /// Interface index.
    pub index: u32,
    /// What the kernel hands over in one piece.
    pub offload: TunOffload,
}

impl Tun {
    /// Creates the device in the calling thread's network namespace, and brings it up.
    ///
    /// # Errors
    /// No device node, not allowed, or the name is taken.
    pub fn create(name: &str, node: &Path, queues: u8) -> Result<Self, KernelError> {
        let mut files = Vec::new();
        let mut offload = TunOffload::default();
        for _ in 0..queues.max(1) {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
                .open(node)
                .map_err(|e| KernelError::new(format!("opening {}", node.display()), e))?;
            attach(&file, name, queues > 1)
                .map_err(|e| KernelError::new(format!("creating the TUN device {name}"), e))?;
            offload = negotiate(&file);
            files.push(file);
        }
        let index = nix::net::if_::if_nametoindex(name).map_err(|e| {
            KernelError::new(format!("finding the TUN device {name}"), io::Error::from(e))
        })?;
        settle(name);
        bring_up(index).map_err(|e| KernelError::new(format!("bringing {name} up"), e))?;
        Ok(Self {
            queues: files,
            index,
            offload,
        })
    }
}

fn attach(file: &File, name: &str, multi: bool) -> io::Result<()> {
    let mut flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if multi {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    let mut request = [0u8; 40];
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > 15 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    request[..bytes.len()].copy_from_slice(bytes);
    request[16..18].copy_from_slice(&(flags as u16).to_ne_bytes());
    // SAFETY: `request` is a whole `struct ifreq` (40 octets) that outlives the call.
    unsafe { request::set_interface(file.as_raw_fd(), &request) }?;
    Ok(())
}

/// Asks for as much as the kernel gives.
fn negotiate(file: &File) -> TunOffload {
    let tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
    let ask = |bits: libc::c_uint| {
        // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory of ours.
        unsafe { request::set_offload(file.as_raw_fd(), bits as c_int) }.is_ok()
    };
    if ask(tcp | TUN_F_USO4 | TUN_F_USO6) {
        TunOffload {
            tcp: true,
            udp: true,
        }
    } else {
        TunOffload {
            tcp: ask(tcp),
            udp: false,
        }
    }
}

/// Settings that make the device a plain pipe: no link-local address of its own, and a reverse-path filter that
/// does not take decapsulated packets for forgeries (the effective filter is the larger of `all` and the device's).
fn settle(name: &str) {
    let strict = read_sysctl("net/ipv4/conf/all/rp_filter") == Some(1);
    let settings = [
        (
            format!("net/ipv4/conf/{name}/rp_filter"),
            if strict { "2" } else { "0" },
        ),
        (format!("net/ipv6/conf/{name}/addr_gen_mode"), "1"),
        (format!("net/ipv6/conf/{name}/accept_ra"), "0"),
        (format!("net/ipv6/conf/{name}/disable_ipv6"), "0"),
    ];
    for (path, value) in settings {
        // Without IPv6 in the kernel half of them do not exist; nothing depends on those then.
        if let Err(error) = write_sysctl(&path, value) {
            tracing::debug!(%error, "left a device setting as it was");
        }
    }
}

fn bring_up(index: u32) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    // Without multicast the kernel sends no listener reports into the tunnel.
    message.header.change_mask = LinkFlags::Up | LinkFlags::Multicast;
    message.attributes = vec![
        LinkAttribute::Mtu(DEVICE_MTU),
        LinkAttribute::TxQueueLen(TRANSMIT_QUEUE),
    ];
    netlink.request(RouteNetlinkMessage::SetLink(message), 0)?;
    Ok(())
}
