//! System calls that move many packets at once. All of the packet path's `unsafe` socket work is in this file.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::ptr::null_mut;

use socket2::{Domain, SockAddr, SockFilter, Socket, Type};

/// Ancillary data of one message.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control {
    bytes: [u8; 128],
    len: usize,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            bytes: [0; 128],
            len: 0,
        }
    }
}

impl Control {
    fn push<T: Copy>(&mut self, level: i32, kind: i32, value: T) {
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
        let (space, length) = unsafe {
            (
                libc::CMSG_SPACE(size_of::<T>() as u32) as usize,
                libc::CMSG_LEN(size_of::<T>() as u32) as usize,
            )
        };
        assert!(
            self.len + space <= self.bytes.len(),
            "control data of one packet fits into 128 octets"
        );
        let header = libc::cmsghdr {
            cmsg_len: length as _,
            cmsg_level: level,
            cmsg_type: kind,
        };
        let at = self.bytes[self.len..].as_mut_ptr();
        // SAFETY: `space` octets are free behind `at` (checked above); `write_unaligned` needs no alignment, and the
        // value starts CMSG_LEN(0) octets behind the header.
        unsafe {
            at.cast::<libc::cmsghdr>().write_unaligned(header);
            at.add(libc::CMSG_LEN(0) as usize)
                .cast::<T>()
                .write_unaligned(value);
        }
        self.len += space;
    }

    /// Source address, TTL and TOS of an outgoing datagram; with `segment`, it is cut into datagrams of that size.
    pub(crate) fn outgoing(source: IpAddr, ttl: u8, tos: u8, segment: Option<u16>) -> Self {
        let mut control = Self::default();
        match source {
            IpAddr::V4(a) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(a.octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
                control.push(libc::IPPROTO_IP, libc::IP_TTL, i32::from(ttl));
                control.push(libc::IPPROTO_IP, libc::IP_TOS, i32::from(tos));
            }
            IpAddr::V6(a) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: a.octets(),
                    },
                    ipi6_ifindex: 0,
                };
                control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
                control.push(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, i32::from(ttl));
                control.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, i32::from(tos));
            }
        }
        if let Some(segment) = segment {
            control.push(libc::SOL_UDP, libc::UDP_SEGMENT, segment);
        }
        control
    }
}

/// One message to send: pieces of the arena, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) to: SocketAddr,
    pub(crate) control: Option<Control>,
    /// Range of [`SendBuffers::pieces`].
    pub(crate) first_piece: usize,
    pub(crate) piece_count: usize,
}

/// Room for a `sendmmsg`, kept so that sending allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct SendBuffers {
    pub(crate) messages: Vec<Outgoing>,
    /// Start and end of pieces of the arena.
    pub(crate) pieces: Vec<(u32, u32)>,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    addresses: Vec<SockAddr>,
}

// SAFETY: the raw pointers in `headers` and `vectors` are written and read within one call of `send` only.
unsafe impl Send for SendBuffers {}

impl SendBuffers {
    /// Sends all messages on one socket and empties the lists. `failed` hears of each message that the kernel refused;
    /// the ones behind it are tried all the same.
    pub(crate) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        arena: &[u8],
        mut failed: impl FnMut(&Outgoing, io::Error),
    ) {
        self.headers.clear();
        self.vectors.clear();
        self.addresses.clear();
        for &(start, end) in &self.pieces {
            let piece = &arena[start as usize..end as usize];
            self.vectors.push(libc::iovec {
                iov_base: piece.as_ptr().cast_mut().cast(),
                iov_len: piece.len(),
            });
        }
        self.addresses
            .extend(self.messages.iter().map(|m| SockAddr::from(m.to)));
        for (message, address) in self.messages.iter_mut().zip(&self.addresses) {
            // SAFETY: mmsghdr is plain data; all zero is a valid value.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            header.msg_hdr.msg_name = address.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = address.len();
            let pieces =
                &mut self.vectors[message.first_piece..message.first_piece + message.piece_count];
            header.msg_hdr.msg_iov = pieces.as_mut_ptr();
            header.msg_hdr.msg_iovlen = pieces.len() as _;
            if let Some(control) = &mut message.control {
                header.msg_hdr.msg_control = control.bytes.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = control.len as _;
            }
            self.headers.push(header);
        }
        let mut done = 0;
        let mut retried = false;
        while done < self.headers.len() {
            let rest = &mut self.headers[done..];
            // SAFETY: every header points at an address, vectors and control data that live in `self` until the call
            // returns, and the vectors at `arena`, which outlives it; the kernel only reads them.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_NOSIGNAL as _,
                )
            };
            if sent > 0 {
                done += sent as usize;
                retried = false;
                continue;
            }
            let error = io::Error::last_os_error();
            // An ICMP error for an earlier packet is reported once by the next call, whatever it sends.
            let stale = matches!(
                error.raw_os_error(),
                Some(
                    libc::ECONNREFUSED
                        | libc::EHOSTUNREACH
                        | libc::ENETUNREACH
                        | libc::EMSGSIZE
                        | libc::EPROTO
                        | libc::EINTR
                )
            );
            if stale && !retried {
                retried = true;
                continue;
            }
            retried = false;
            failed(&self.messages[done], error);
            done += 1;
        }
        self.messages.clear();
        self.pieces.clear();
        self.headers.clear();
        self.vectors.clear();
    }
}

/// Room for one datagram, or for as many of one flow as the kernel joins.
pub(crate) const RECEIVE_SLOT: usize = 65_536;

/// What arrived in one slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) len: usize,
    /// Length of each datagram in it but the last.
    pub(crate) segment: usize,
    pub(crate) source: Option<SocketAddr>,
    /// Known where the socket was told to say it ([`say_destinations`]).
    pub(crate) destination: Option<IpAddr>,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
}

/// Room for a `recvmmsg`.
pub(crate) struct ReceiveBuffers {
    pub(crate) arena: Vec<u8>,
    slots: usize,
    controls: Vec<Control>,
    addresses: Vec<libc::sockaddr_storage>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the raw pointers in `headers` and `vectors` are written and read within one call of `receive` only.
unsafe impl Send for ReceiveBuffers {}

impl ReceiveBuffers {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            arena: vec![0; slots * RECEIVE_SLOT],
            slots,
            controls: vec![Control::default(); slots],
            // SAFETY: sockaddr_storage is plain data; all zero is a valid value.
            addresses: vec![unsafe { zeroed() }; slots],
            vectors: Vec::with_capacity(slots),
            headers: Vec::with_capacity(slots),
        }
    }

    /// Takes what waits at a socket into slots 0, 1, ...; with `wait`, waits for the first.
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits, or nothing came within the socket's time limit.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        wait: bool,
        out: &mut Vec<Arrival>,
    ) -> io::Result<()> {
        let flags = if wait {
            libc::MSG_WAITFORONE
        } else {
            libc::MSG_DONTWAIT
        };
        out.clear();
        self.vectors.clear();
        self.headers.clear();
        for slot in self.arena.chunks_exact_mut(RECEIVE_SLOT) {
            self.vectors.push(libc::iovec {
                iov_base: slot.as_mut_ptr().cast(),
                iov_len: slot.len(),
            });
        }
        for at in 0..self.slots {
            // SAFETY: mmsghdr is plain data; all zero is a valid value.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            header.msg_hdr.msg_name = (&raw mut self.addresses[at]).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as _;
            header.msg_hdr.msg_iov = &raw mut self.vectors[at];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = self.controls[at].bytes.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = self.controls[at].bytes.len() as _;
            self.headers.push(header);
        }
        // SAFETY: every header points into buffers of `self` that nobody else touches during the call, with their
        // true lengths.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.slots as libc::c_uint,
                flags as _,
                null_mut(),
            )
        };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        for (header, address) in self
            .headers
            .iter()
            .zip(&self.addresses)
            .take(count as usize)
        {
            out.push(arrival(header, address));
        }
        Ok(())
    }
}

fn arrival(header: &libc::mmsghdr, address: &libc::sockaddr_storage) -> Arrival {
    let len = header.msg_len as usize;
    let mut arrival = Arrival {
        len,
        segment: len,
        source: socket_address(address),
        destination: None,
        ttl: 255,
        tos: 0,
    };
    each_control(&header.msg_hdr, |level, kind, value| match (level, kind) {
        (libc::SOL_UDP, libc::UDP_GRO) => {
            if let Some(size) = read_int(value).filter(|&s| s > 0) {
                arrival.segment = size as usize;
            }
        }
        (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
            arrival.ttl = read_int(value).unwrap_or(255) as u8;
        }
        (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
            arrival.tos = value.first().copied().unwrap_or(0);
        }
        // struct in_pktinfo: index, local address, address of the header; struct in6_pktinfo: address, index.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            arrival.destination = value
                .get(8..12)
                .and_then(|octets| <[u8; 4]>::try_from(octets).ok())
                .map(IpAddr::from);
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            arrival.destination = value
                .get(..16)
                .and_then(|octets| <[u8; 16]>::try_from(octets).ok())
                .map(IpAddr::from);
        }
        _ => {}
    });
    arrival
}

/// Whether arrivals at a data socket say to which address they were sent.
///
/// # Errors
/// The kernel lacks the option.
pub(crate) fn say_destinations(socket: BorrowedFd<'_>, v6: bool, on: bool) -> io::Result<()> {
    let (level, option) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    };
    set_option(socket, level, option, i32::from(on))
}

/// Calls `f` with level, type and data of every control message.
fn each_control(header: &libc::msghdr, mut f: impl FnMut(i32, i32, &[u8])) {
    // SAFETY: the kernel filled the control buffer of `header` and set its length; the CMSG macros stay inside it, and
    // the data of a message is `cmsg_len` minus its header long.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(header);
        while !at.is_null() {
            let message = at.read_unaligned();
            let length = (message.cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            let data = std::slice::from_raw_parts(libc::CMSG_DATA(at), length);
            f(message.cmsg_level, message.cmsg_type, data);
            at = libc::CMSG_NXTHDR(header, at);
        }
    }
}

fn read_int(value: &[u8]) -> Option<i32> {
    match *value {
        [a, b, c, d, ..] => Some(i32::from_ne_bytes([a, b, c, d])),
        [a, b] => Some(i32::from(u16::from_ne_bytes([a, b]))),
        [a] => Some(i32::from(a)),
        _ => None,
    }
}

fn socket_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage, which is large enough for every family, holds a sockaddr_in.
            let a = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = a.sin_addr.s_addr.to_ne_bytes();
            Some((ip, u16::from_be(a.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, with sockaddr_in6.
            let a = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            Some((a.sin6_addr.s6_addr, u16::from_be(a.sin6_port)).into())
        }
        _ => None,
    }
}

/// An entry of a socket's error queue.
#[derive(Debug, Clone)]
pub(crate) struct QueuedError {
    /// Where the packet in question was sent to.
    pub(crate) destination: Option<SocketAddr>,
    pub(crate) errno: i32,
    /// 2: ICMP, 3: ICMPv6, 1: local.
    pub(crate) origin: u8,
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// The MTU, when `errno` is EMSGSIZE.
    pub(crate) info: u32,
    /// Who sent the ICMP message.
    pub(crate) reporter: Option<IpAddr>,
    /// What it quotes of the packet in question, from behind the UDP header on.
    pub(crate) quoted: Vec<u8>,
}

impl QueuedError {
    /// "Time exceeded in transit" (RFC 792, RFC 4443 3.3).
    pub(crate) fn is_time_exceeded(&self) -> bool {
        matches!((self.origin, self.kind, self.code), (2, 11, 0) | (3, 3, 0))
    }
}

/// Takes one entry from a socket's error queue; none: it is empty.
pub(crate) fn take_error(socket: BorrowedFd<'_>) -> Option<QueuedError> {
    let mut payload = [0u8; 1500];
    let mut control = [0u64; 64];
    // SAFETY: plain data; all zero is a valid value.
    let mut address: libc::sockaddr_storage = unsafe { zeroed() };
    let mut vector = libc::iovec {
        iov_base: payload.as_mut_ptr().cast(),
        iov_len: payload.len(),
    };
    // SAFETY: plain data; all zero is a valid value.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_name = (&raw mut address).cast();
    header.msg_namelen = size_of::<libc::sockaddr_storage>() as _;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: `header` points at the buffers above, with their true lengths.
    let length = unsafe {
        libc::recvmsg(
            socket.as_raw_fd(),
            &raw mut header,
            libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT,
        )
    };
    if length < 0 {
        return None;
    }
    let mut error = QueuedError {
        destination: socket_address(&address),
        errno: 0,
        origin: 0,
        kind: 0,
        code: 0,
        info: 0,
        reporter: None,
        quoted: payload[..length as usize].to_vec(),
    };
    each_control(&header, |level, kind, value| {
        let extended = matches!(
            (level, kind),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        );
        if !extended || value.len() < 16 {
            return;
        }
        let word = |at: usize| {
            u32::from_ne_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]])
        };
        error.errno = word(0) as i32;
        (error.origin, error.kind, error.code) = (value[4], value[5], value[6]);
        error.info = word(8);
        error.reporter = offender(&value[16..]);
    });
    Some(error)
}

/// The address behind a `sock_extended_err` (`SO_EE_OFFENDER`).
fn offender(bytes: &[u8]) -> Option<IpAddr> {
    let family = i32::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
    match family {
        libc::AF_INET => {
            let octets: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(octets.into())
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            Some(octets.into())
        }
        _ => None,
    }
}

/// A socket that reads the multicast packets arriving at an interface, as Ethernet frames with a virtio-net header each.
/// It does not block.
///
/// # Errors
/// Packet sockets are not allowed, or the interface is gone.
pub(crate) fn multicast_socket(interface: u32) -> io::Result<Socket> {
    /// `PACKET_VNET_HDR` (linux/if_packet.h): what the sender's offloads left undone is said, as on a TUN device.
    const PACKET_VNET_HDR: i32 = 15;
    let every = (libc::ETH_P_ALL as u16).to_be();
    // Without a protocol nothing arrives before the filter is in place.
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
    socket.attach_filter(&MULTICAST_FILTER)?;
    set_option(socket.as_fd(), libc::SOL_PACKET, PACKET_VNET_HDR, 1)?;
    // SAFETY: plain data; all zero is a valid value.
    let mut membership: libc::packet_mreq = unsafe { zeroed() };
    membership.mr_ifindex = interface as _;
    membership.mr_type = libc::PACKET_MR_ALLMULTI as _;
    // SAFETY: `membership` outlives the call, and its true length is given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const membership).cast(),
            size_of::<libc::packet_mreq>() as _,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the storage is large enough for every address; a sockaddr_ll is written into it, and its length given.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = libc::AF_PACKET as _;
            (*link).sll_protocol = every;
            (*link).sll_ifindex = interface as _;
            *length = size_of::<libc::sockaddr_ll>() as _;
            Ok(())
        })?
    };
    socket.bind(&address)?;
    Ok(socket)
}

/// Frames that arrive (not those that this box sends) with an IPv4 or IPv6 multicast destination, whole.
const MULTICAST_FILTER: [SockFilter; 12] = {
    const LOAD_WORD: u16 = 0x20;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const EQUAL: u16 = 0x15;
    const AND: u16 = 0x54;
    const RETURN: u16 = 0x06;
    /// `SKF_AD_OFF + SKF_AD_PKTTYPE` (linux/filter.h): how the frame came here.
    const KIND: u32 = 0xffff_f000 + 4;
    const OUTGOING: u32 = 4;
    [
        SockFilter::new(LOAD_WORD, 0, 0, KIND),
        SockFilter::new(EQUAL, 9, 0, OUTGOING),
        SockFilter::new(LOAD_HALF, 0, 0, 12),
        SockFilter::new(EQUAL, 0, 3, 0x0800),
        SockFilter::new(LOAD_BYTE, 0, 0, 14 + 16),
        SockFilter::new(AND, 0, 0, 0xf0),
        SockFilter::new(EQUAL, 3, 4, 0xe0),
        SockFilter::new(EQUAL, 0, 3, 0x86dd),
        SockFilter::new(LOAD_BYTE, 0, 0, 14 + 24),
        SockFilter::new(EQUAL, 0, 1, 0xff),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
};

/// Sets an integer socket option.
///
/// # Errors
/// The kernel's own.
pub(crate) fn set_option(
    socket: BorrowedFd<'_>,
    level: i32,
    option: i32,
    value: i32,
) -> io::Result<()> {
    set_raw(socket.as_raw_fd(), level, option, value)
}

fn set_raw(socket: RawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: `value` is an int that outlives the call, and its true length is given.
    let done = unsafe {
        libc::setsockopt(
            socket,
            level,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
