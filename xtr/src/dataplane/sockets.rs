//! The sockets of the locator side.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::sys::set_option;

/// Room for bursts; the kernel allows it with CAP_NET_ADMIN, else as much as `rmem_max` and `wmem_max` say.
const BUFFER: usize = 16 << 20;

fn domain(v6: bool) -> Domain {
    if v6 { Domain::IPV6 } else { Domain::IPV4 }
}

fn any(v6: bool, port: u16) -> SocketAddr {
    if v6 {
        (Ipv6Addr::UNSPECIFIED, port).into()
    } else {
        (Ipv4Addr::UNSPECIFIED, port).into()
    }
}

fn enlarge(socket: &Socket, forced: i32, plain: impl Fn(&Socket) -> io::Result<()>) {
    if set_option(socket.as_fd(), libc::SOL_SOCKET, forced, BUFFER as i32).is_err() {
        // As much as there is; bursts are lost a little earlier then.
        let _ = plain(socket);
    }
}

/// One UDP socket per source port and family: the segmented sends, and the ears for ICMP errors.
#[derive(Debug)]
pub(crate) struct PortPool {
    v4: Vec<(u16, Socket)>,
    v6: Vec<(u16, Socket)>,
    raw: RwLock<Vec<(IpAddr, Arc<Socket>)>>,
}

impl PortPool {
    /// Binds `size` ports of the kernel's choice in each family that the kernel has.
    ///
    /// # Errors
    /// No descriptors or ports left.
    pub(crate) fn new(size: u16) -> io::Result<Self> {
        let ports = |v6: bool| (0..size).map(|_| port(v6)).collect::<io::Result<Vec<_>>>();
        Ok(Self {
            v4: ports(false)?,
            v6: match ports(true) {
                Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => Vec::new(),
                ports => ports?,
            },
            raw: RwLock::default(),
        })
    }

    /// The source port and socket of a flow; none: the kernel lacks the family.
    pub(crate) fn of_flow(&self, v6: bool, flow_hash: u32) -> Option<(u16, u16, BorrowedFd<'_>)> {
        let pool = if v6 { &self.v6 } else { &self.v4 };
        let index = (flow_hash & 0x00ff_ffff) as usize % pool.len().max(1);
        let (port, socket) = pool.get(index)?;
        Some((index as u16, *port, socket.as_fd()))
    }

    /// A source port by its index; none: the kernel lacks the family.
    pub(crate) fn at(&self, v6: bool, index: u16) -> Option<u16> {
        let pool = if v6 { &self.v6 } else { &self.v4 };
        pool.get(usize::from(index)).map(|(port, _)| *port)
    }

    /// The ports of IPv4 and of IPv6, in the order of their indexes.
    pub(crate) fn ports(&self) -> [Vec<u16>; 2] {
        [&self.v4, &self.v6].map(|pool| pool.iter().map(|(port, _)| *port).collect())
    }

    /// How many of the sockets that [`PortPool::all`] gives are of IPv4: the first ones.
    pub(crate) fn v4_count(&self) -> usize {
        self.v4.len()
    }

    /// The socket of a port by its index.
    pub(crate) fn socket(&self, v6: bool, index: u16) -> Option<BorrowedFd<'_>> {
        let pool = if v6 { &self.v6 } else { &self.v4 };
        pool.get(usize::from(index))
            .map(|(_, socket)| socket.as_fd())
    }

    /// Every socket: where ICMP errors arrive.
    pub(crate) fn all(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.v4
            .iter()
            .chain(&self.v6)
            .map(|(_, socket)| socket.as_fd())
    }

    /// The socket for packets with our own IP header, from one of our locators.
    ///
    /// # Errors
    /// Not allowed, or the locator is no address of this box.
    pub(crate) fn raw(&self, source: IpAddr) -> io::Result<Arc<Socket>> {
        let known = self.raw.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, socket)) = known.iter().find(|(a, _)| *a == source) {
            return Ok(Arc::clone(socket));
        }
        drop(known);
        let v6 = source.is_ipv6();
        let raw = Protocol::from(libc::IPPROTO_RAW);
        let socket = Socket::new(domain(v6), Type::RAW, Some(raw))?;
        enlarge(&socket, libc::SO_SNDBUFFORCE, |s| {
            s.set_send_buffer_size(BUFFER)
        });
        // Bound, so that the kernel routes by our locator (several providers) although the header is ours.
        socket.bind(&SocketAddr::new(source, 0).into())?;
        size_ourselves(&socket, v6)?;
        if let Some(interface) = v6.then(|| interface_of(source)).flatten() {
            // Over IPv4 the kernel takes the interface of the source by itself.
            socket.set_multicast_if_v6(interface)?;
        }
        let socket = Arc::new(socket);
        let mut known = self.raw.write().unwrap_or_else(PoisonError::into_inner);
        known.push((source, Arc::clone(&socket)));
        Ok(socket)
    }
}

/// The interface that has one of our locators.
fn interface_of(address: IpAddr) -> Option<u32> {
    let name = nix::ifaddrs::getifaddrs().ok()?.find_map(|interface| {
        let own = interface.address?;
        let own = own.as_sockaddr_in6().map(|own| IpAddr::V6(own.ip()));
        (own == Some(address)).then_some(interface.interface_name)
    })?;
    nix::net::if_::if_nametoindex(name.as_str()).ok()
}

/// We size packets ourselves and learn from ICMP through the error queue: the kernel's path MTU must neither fragment
/// nor refuse behind our back, and DF is set (RFC 6830 5.4.1).
fn size_ourselves(socket: &Socket, v6: bool) -> io::Result<()> {
    let (level, option, probe) = if v6 {
        (
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_PROBE,
        )
    } else {
        (
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_PROBE,
        )
    };
    set_option(socket.as_fd(), level, option, probe)
}

/// Has the kernel drop whatever is sent to a socket that only sends. Nobody reads there, and a queue that somebody
/// fills would leave no room for the ICMP errors that are read.
fn hear_nothing(socket: &Socket) -> io::Result<()> {
    const RETURN: u16 = 0x06;
    socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])
}

fn port(v6: bool) -> io::Result<(u16, Socket)> {
    let socket = Socket::new(domain(v6), Type::DGRAM, Some(Protocol::UDP))?;
    if v6 {
        socket.set_only_v6(true)?;
        set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)?;
    } else {
        set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, 1)?;
    }
    size_ourselves(&socket, v6)?;
    hear_nothing(&socket)?;
    enlarge(&socket, libc::SO_SNDBUFFORCE, |s| {
        s.set_send_buffer_size(BUFFER)
    });
    socket.bind(&any(v6, 0).into())?;
    let bound = socket.local_addr()?.as_socket();
    let port = bound.map_or(0, |a| a.port());
    Ok((port, socket))
}

/// The socket on which data packets arrive.
///
/// # Errors
/// The port is taken, or the kernel lacks the family.
pub(crate) fn data_socket(v6: bool, shared: bool, join: bool) -> io::Result<Socket> {
    let socket = Socket::new(domain(v6), Type::DGRAM, Some(Protocol::UDP))?;
    let fd = socket.as_fd();
    if v6 {
        socket.set_only_v6(true)?;
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, 1)?;
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        // RFC 6830 5.3: a zero checksum must be accepted; without this the kernel drops it over IPv6.
        const UDP_NO_CHECK6_RX: i32 = 102;
        set_option(fd, libc::SOL_UDP, UDP_NO_CHECK6_RX, 1)?;
    } else {
        set_option(fd, libc::IPPROTO_IP, libc::IP_RECVTTL, 1)?;
        set_option(fd, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    if join && set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1).is_err() {
        tracing::info!("the kernel does not join received datagrams (UDP_GRO): slower");
    }
    enlarge(&socket, libc::SO_RCVBUFFORCE, |s| {
        s.set_recv_buffer_size(BUFFER)
    });
    // Shutting the socket down ends the wait at once; this is for the case that it does not.
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.bind(&any(v6, lisp::DATA_PORT).into())?;
    Ok(socket)
}

/// Sockets that tell sources to send smaller packets.
#[derive(Debug)]
pub(crate) struct IcmpSockets {
    v4: Socket,
    v6: Option<Socket>,
}

impl IcmpSockets {
    /// # Errors
    /// Raw sockets are not allowed.
    pub(crate) fn new() -> io::Result<Self> {
        let v4 = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        hear_nothing(&v4)?;
        let v6 = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).ok();
        if let Some(v6) = &v6 {
            hear_nothing(v6)?;
        }
        Ok(Self { v4, v6 })
    }

    pub(crate) fn send(&self, to: IpAddr, message: &[u8]) -> io::Result<()> {
        let socket = match to {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => self.v6.as_ref().ok_or(io::ErrorKind::Unsupported)?,
        };
        socket.send_to(message, &SocketAddr::new(to, 0).into())?;
        Ok(())
    }
}
