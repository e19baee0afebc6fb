//! Many datagrams in one system call, with the address that each was sent to and is sent from (IP_PKTINFO).

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use socket2::Socket;

/// Datagrams of one call.
const BATCH: usize = 64;
/// Largest datagram that is taken; a longer one is cut, and then refused by the decoder.
const DATAGRAM: usize = 9216;
/// Room for a control header with an `in6_pktinfo`, the larger of the two: 40 octets.
const CONTROL: usize = 64;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct ControlBuffer([u8; CONTROL]);

/// Buffers for one batch, used again and again.
pub(crate) struct Received {
    payloads: Vec<[u8; DATAGRAM]>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<ControlBuffer>,
    datagrams: Vec<(SocketAddr, Option<IpAddr>, usize, usize)>,
}

impl Received {
    pub(crate) fn new() -> Self {
        Self {
            payloads: vec![[0; DATAGRAM]; BATCH],
            // SAFETY: sockaddr_storage is plain data for which all zeros is a value (AF_UNSPEC).
            names: vec![unsafe { zeroed() }; BATCH],
            controls: vec![ControlBuffer([0; CONTROL]); BATCH],
            datagrams: Vec::with_capacity(BATCH),
        }
    }

    /// Sender, receiver's address where the system told it, and payload of each datagram.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketAddr, Option<IpAddr>, &[u8])> {
        self.datagrams
            .iter()
            .map(|&(source, destination, index, length)| {
                (source, destination, &self.payloads[index][..length])
            })
    }

    /// Takes up to [`BATCH`] datagrams without waiting; returns how many.
    pub(crate) fn fill(&mut self, socket: &Socket) -> io::Result<usize> {
        self.datagrams.clear();
        let mut vectors: [libc::iovec; BATCH] = std::array::from_fn(|index| libc::iovec {
            iov_base: self.payloads[index].as_mut_ptr().cast(),
            iov_len: DATAGRAM,
        });
        let mut headers: [libc::mmsghdr; BATCH] = std::array::from_fn(|index| {
            // SAFETY: mmsghdr is plain data for which all zeros is a value.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            header.msg_hdr.msg_name = (&raw mut self.names[index]).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = &raw mut vectors[index];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = self.controls[index].0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL as _;
            header
        });
        // SAFETY: every header points at a name, a vector and a control buffer, which live until after the call and have
        // the lengths given.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        };
        for (index, header) in headers[..count].iter().enumerate() {
            if let Some(source) = socket_addr(&self.names[index]) {
                let destination = destination(&header.msg_hdr);
                let length = (header.msg_len as usize).min(DATAGRAM);
                self.datagrams.push((source, destination, index, length));
            }
        }
        Ok(count)
    }
}

/// Asks the system to tell each datagram's destination address.
pub(crate) fn ask_for_destination(socket: &Socket, ipv4: bool) -> io::Result<()> {
    let (level, option) = if ipv4 {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    };
    let on: libc::c_int = 1;
    // SAFETY: the pointer and length describe `on`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    // SAFETY: ifreq is plain data for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn socket_addr(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the system wrote a sockaddr_in, which is smaller than the storage.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let address = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(address, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the system wrote a sockaddr_in6, which is smaller than the storage.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(SocketAddrV6::new(address, port, 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// The address that a datagram was sent to. `header` is as recvmmsg left it, its control buffer still there.
fn destination(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the header's control pointer and length describe a living buffer.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !control.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR only return pointers to whole control headers inside the buffer.
        let (level, kind, data) = unsafe {
            (
                (*control).cmsg_level,
                (*control).cmsg_type,
                libc::CMSG_DATA(control),
            )
        };
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: the system wrote an in_pktinfo here; CMSG_DATA need not be aligned for it.
                let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                return Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: the system wrote an in6_pktinfo here; CMSG_DATA need not be aligned for it.
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            }
            _ => {}
        }
        // SAFETY: `control` is a control header of `header`.
        control = unsafe { libc::CMSG_NXTHDR(header, control) };
    }
    None
}

/// A datagram to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    /// From this address of ours; the system's choice when `None`.
    pub(crate) from: Option<IpAddr>,
    pub(crate) to: SocketAddr,
    pub(crate) payload: &'a [u8],
}

/// Sends all, in as few calls as it takes. A datagram that the system refuses is skipped and said.
pub(crate) fn send(socket: &Socket, datagrams: &[Outgoing<'_>]) {
    for chunk in datagrams.chunks(BATCH) {
        let mut rest = chunk;
        while !rest.is_empty() {
            match send_once(socket, rest) {
                Ok(sent) => rest = &rest[sent.max(1)..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!(to = %rest[0].to, "not sent: {error}");
                    rest = &rest[1..];
                }
            }
        }
    }
}

/// Sends up to [`BATCH`] datagrams; returns how many the system took.
fn send_once(socket: &Socket, datagrams: &[Outgoing<'_>]) -> io::Result<usize> {
    let names: Vec<socket2::SockAddr> = datagrams.iter().map(|d| d.to.into()).collect();
    let mut controls = [ControlBuffer([0; CONTROL]); BATCH];
    let mut vectors: Vec<libc::iovec> = datagrams
        .iter()
        .map(|datagram| libc::iovec {
            iov_base: datagram.payload.as_ptr().cast_mut().cast(),
            iov_len: datagram.payload.len(),
        })
        .collect();
    let mut headers: Vec<libc::mmsghdr> = Vec::with_capacity(datagrams.len());
    for (index, datagram) in datagrams.iter().enumerate() {
        // SAFETY: mmsghdr is plain data for which all zeros is a value.
        let mut header: libc::mmsghdr = unsafe { zeroed() };
        header.msg_hdr.msg_name = names[index].as_ptr().cast_mut().cast();
        header.msg_hdr.msg_namelen = names[index].len();
        header.msg_hdr.msg_iov = &raw mut vectors[index];
        header.msg_hdr.msg_iovlen = 1;
        if let Some(from) = datagram.from {
            put_source(&mut header.msg_hdr, &mut controls[index], from);
        }
        headers.push(header);
    }
    // SAFETY: every header points at a name, a vector with its payload and perhaps a control buffer, which all live until
    // after the call and have the lengths given. The system does not write to payloads.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            headers.len() as libc::c_uint,
            0,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Says which of our addresses a datagram leaves from.
fn put_source(header: &mut libc::msghdr, buffer: &mut ControlBuffer, from: IpAddr) {
    match from {
        IpAddr::V4(from) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from(from).to_be(),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            put_control(header, buffer, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        IpAddr::V6(from) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: from.octets(),
                },
                ipi6_ifindex: 0,
            };
            put_control(header, buffer, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
}

fn put_control<T>(
    header: &mut libc::msghdr,
    buffer: &mut ControlBuffer,
    level: libc::c_int,
    kind: libc::c_int,
    info: T,
) {
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
    let (space, length) = unsafe {
        (
            libc::CMSG_SPACE(size_of::<T>() as u32),
            libc::CMSG_LEN(size_of::<T>() as u32),
        )
    };
    assert!(space as usize <= CONTROL, "a pktinfo fits");
    header.msg_control = buffer.0.as_mut_ptr().cast();
    header.msg_controllen = space as _;
    // SAFETY: the buffer is aligned for a control header and, as asserted, has room for one with a T behind it.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(header);
        (*control).cmsg_level = level;
        (*control).cmsg_type = kind;
        (*control).cmsg_len = length as _;
        libc::CMSG_DATA(control).cast::<T>().write_unaligned(info);
    }
}
