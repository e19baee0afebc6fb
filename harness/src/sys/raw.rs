//! Packet sockets through which whole frames come and go.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt::RcvBuf, sockopt::RcvBufForce,
};

use super::ring::set_option;

/// Room for bursts while the relay waits for the processor.
const RECEIVE_BUFFER: usize = 16 << 20;

/// Opens a non-blocking packet socket on an interface of the calling thread's namespace. It receives what arrives there,
/// not what it sends.
pub(crate) fn open(index: u32) -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    let on: libc::c_int = 1;
    set_option(&socket, libc::PACKET_IGNORE_OUTGOING, &on)?;
    set_option(&socket, libc::PACKET_QDISC_BYPASS, &on)?;
    // Without privilege in the initial namespace the host's net.core.rmem_max bounds it.
    if setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).is_err() {
        setsockopt(&socket, RcvBuf, &RECEIVE_BUFFER)?;
    }
    bind(&socket, index)?;
    Ok(socket)
}

/// Binds a packet socket to an interface, for all protocols.
pub(crate) fn bind(socket: &OwnedFd, index: u32) -> io::Result<()> {
    // SAFETY: the structure is plain integers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index as i32;
    // SAFETY: the address is of the given length and lives through the call.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as u32,
        )
    };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
