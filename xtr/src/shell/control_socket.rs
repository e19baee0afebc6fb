//! UDP sockets of control messages: port 4342, and one port that the system chose, for IPv4 and IPv6.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use daemon::Failure;
use lisp::CONTROL_PORT;
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage,
    recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::core::{Datagram, Port};

/// Largest datagram: UDP has no larger one.
const LARGEST: usize = 65_535;
/// Receive buffer that is asked for: bursts of Map-Replies after a change.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Times that a port free in both families is looked for.
const PORT_TRIES: u32 = 16;

struct Open {
    port: Port,
    v6: bool,
    socket: Socket,
}

/// The sockets of a daemon. IPv6 ones are missing where the kernel has no IPv6.
pub(super) struct ControlSockets {
    sockets: Vec<Open>,
    client_port: u16,
    buffer: Vec<u8>,
    next: usize,
}

impl ControlSockets {
    /// Opens port 4342 and the client port.
    ///
    /// # Errors
    /// Another program has port 4342, or the host gives no sockets.
    pub(super) fn open() -> Result<Self, Failure> {
        let mut sockets = open_pair(CONTROL_PORT, Port::Control).map_err(|error| {
            let hint = if error.kind() == io::ErrorKind::AddrInUse {
                "; another LISP program runs in this network namespace, stop it first"
            } else {
                ""
            };
            Failure::Host(format!("binding UDP port {CONTROL_PORT}: {error}{hint}"))
        })?;
        let (client, client_port) =
            open_client().map_err(|e| Failure::host("binding a UDP port for requests", e))?;
        sockets.extend(client);
        Ok(Self {
            sockets,
            client_port,
            buffer: vec![0; LARGEST],
            next: 0,
        })
    }

    /// The UDP port that the system chose for [`Port::Client`].
    pub(super) fn client_port(&self) -> u16 {
        self.client_port
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|open| open.socket.as_fd())
    }

    /// The next datagram of any socket, each in its turn; none: no socket has one.
    pub(super) fn receive(&mut self) -> io::Result<Option<Datagram>> {
        for _ in 0..self.sockets.len() {
            let index = self.next % self.sockets.len();
            self.next = index + 1;
            let Open { port, socket, .. } = &self.sockets[index];
            let local_port = match port {
                Port::Control => CONTROL_PORT,
                Port::Client => self.client_port,
            };
            match receive_from(socket, local_port, &mut self.buffer) {
                Ok(datagram) => return Ok(Some(datagram)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // ICMP errors for earlier messages are reported here: the retransmissions deal with silence.
                Err(error) if is_delayed(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Sends a message, from a certain address of ours if one is given.
    pub(super) fn send(
        &self,
        from: Port,
        source: Option<IpAddr>,
        to: SocketAddr,
        payload: &[u8],
    ) -> io::Result<()> {
        let socket = self
            .sockets
            .iter()
            .find(|open| open.port == from && open.v6 == to.is_ipv6())
            .map(|open| &open.socket)
            .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
        let data = [IoSlice::new(payload)];
        let send = |control: &[ControlMessage<'_>]| match to {
            SocketAddr::V4(to) => {
                let to = SockaddrIn::from(to);
                sendmsg(
                    socket.as_raw_fd(),
                    &data,
                    control,
                    MsgFlags::empty(),
                    Some(&to),
                )
            }
            SocketAddr::V6(to) => {
                let to = SockaddrIn6::from(to);
                sendmsg(
                    socket.as_raw_fd(),
                    &data,
                    control,
                    MsgFlags::empty(),
                    Some(&to),
                )
            }
        };
        let sent = match source {
            Some(IpAddr::V4(source)) => send(&[ControlMessage::Ipv4PacketInfo(&v4_info(source))]),
            Some(IpAddr::V6(source)) => send(&[ControlMessage::Ipv6PacketInfo(&v6_info(source))]),
            None => send(&[]),
        };
        sent.map(drop).map_err(io::Error::from)
    }
}

fn v4_info(source: Ipv4Addr) -> libc::in_pktinfo {
    let address = libc::in_addr {
        s_addr: u32::from(source).to_be(),
    };
    libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: address,
        ipi_addr: address,
    }
}

fn v6_info(source: Ipv6Addr) -> libc::in6_pktinfo {
    libc::in6_pktinfo {
        ipi6_addr: libc::in6_addr {
            s6_addr: source.octets(),
        },
        ipi6_ifindex: 0,
    }
}

fn is_delayed(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, Interrupted, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionRefused | HostUnreachable | NetworkUnreachable | Interrupted
    )
}

fn open_as(port: Port, v6: bool, socket: Socket) -> Open {
    Open { port, v6, socket }
}

fn open_client() -> io::Result<(Vec<Open>, u16)> {
    for _ in 0..PORT_TRIES {
        let v4 = open_socket(Domain::IPV4, Ipv4Addr::UNSPECIFIED.into(), 0)?;
        let port = v4
            .local_addr()?
            .as_socket()
            .map_or(0, |address| address.port());
        match open_socket(Domain::IPV6, Ipv6Addr::UNSPECIFIED.into(), port) {
            Ok(v6) => {
                let pair = vec![
                    open_as(Port::Client, false, v4),
                    open_as(Port::Client, true, v6),
                ];
                return Ok((pair, port));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) if has_no_ipv6(&error) => {
                return Ok((vec![open_as(Port::Client, false, v4)], port));
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn open_pair(port: u16, kind: Port) -> io::Result<Vec<Open>> {
    let v4 = open_socket(Domain::IPV4, Ipv4Addr::UNSPECIFIED.into(), port)?;
    let mut sockets = vec![open_as(kind, false, v4)];
    match open_socket(Domain::IPV6, Ipv6Addr::UNSPECIFIED.into(), port) {
        Ok(v6) => sockets.push(open_as(kind, true, v6)),
        Err(error) if has_no_ipv6(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(sockets)
}

fn has_no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

fn open_socket(domain: Domain, address: IpAddr, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    }
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&SocketAddr::new(address, port).into())?;
    Ok(socket)
}

fn receive_from(socket: &Socket, local_port: u16, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut control = cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
    let mut data = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut data,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let unknown = || io::Error::from(io::ErrorKind::InvalidData);
    let source = message
        .address
        .and_then(socket_address)
        .ok_or_else(unknown)?;
    let destination = message
        .cmsgs()?
        .find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(IpAddr::from(Ipv4Addr::from(
                u32::from_be(info.ipi_addr.s_addr),
            ))),
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                Some(IpAddr::from(Ipv6Addr::from(info.ipi6_addr.s6_addr)))
            }
            _ => None,
        })
        .ok_or_else(unknown)?;
    let length = message.bytes;
    Ok(Datagram {
        source,
        destination: SocketAddr::new(destination, local_port),
        payload: buffer[..length].to_vec(),
    })
}

fn socket_address(address: SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::new(v4.ip().into(), v4.port()));
    }
    let v6 = address.as_sockaddr_in6()?;
    Some(SocketAddr::new(v6.ip().into(), v6.port()))
}
