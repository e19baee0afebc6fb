//! The UDP sockets: the control port, where everything arrives, and random ports, from which encapsulated messages leave.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use daemon::Failure;
use socket2::{Domain, Protocol, Socket, Type};

use super::batch::{self, Outgoing, Received};
use super::families_of;
use crate::core::{Families, SourcePort, Transmit};

/// Sockets with a random port in each family; they take turns from batch to batch.
const RANDOM_PORTS: usize = 8;
/// Wanted socket buffer in octets: a burst of some ten thousand control messages.
const BUFFER: usize = 8 << 20;

/// All sockets of the daemon.
#[derive(Debug)]
pub(crate) struct Sockets {
    control: Vec<(SocketAddr, Socket)>,
    random_ipv4: Vec<Socket>,
    random_ipv6: Vec<Socket>,
    turn: usize,
    families: Families,
}

impl Sockets {
    /// Opens the control port on each address, or on every address of the host when there is none.
    pub(crate) fn open(addresses: &[IpAddr], port: u16) -> Result<Self, Failure> {
        let mut families = families_of(addresses);
        let any = [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ];
        let mut control = Vec::new();
        for &address in if addresses.is_empty() {
            &any
        } else {
            addresses
        } {
            let at = SocketAddr::new(address, port);
            match open(at) {
                Ok(socket) => control.push((at, socket)),
                Err(error) if addresses.is_empty() && at.is_ipv6() && lacks_ipv6(&error) => {
                    families.ipv6 = false;
                }
                Err(error) => {
                    return Err(Failure::Host(format!(
                        "UDP {at}: {error}; expected an address of this host, with that port free"
                    )));
                }
            }
        }
        let random = |wanted: bool, address: IpAddr| -> Result<Vec<Socket>, Failure> {
            let count = if wanted { RANDOM_PORTS } else { 0 };
            (0..count)
                .map(|_| open(SocketAddr::new(address, 0)))
                .collect::<Result<_, _>>()
                .map_err(|error| Failure::host("UDP with a random port", error))
        };
        Ok(Self {
            control,
            random_ipv4: random(families.ipv4, any[0])?,
            random_ipv6: random(families.ipv6, any[1])?,
            turn: 0,
            families,
        })
    }

    pub(crate) fn families(&self) -> Families {
        self.families
    }

    pub(crate) fn len(&self) -> usize {
        self.control.len()
    }

    /// The address that a control socket is bound to.
    pub(crate) fn address(&self, index: usize) -> IpAddr {
        self.control[index].0.ip()
    }

    /// Descriptors that become readable when something arrives.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.control.iter().map(|(_, socket)| socket.as_fd())
    }

    /// Takes what is there, up to one batch; returns how many.
    pub(crate) fn receive(&self, index: usize, into: &mut Received) -> usize {
        into.fill(&self.control[index].1).unwrap_or_else(|error| {
            // ICMP errors of earlier sends come back here too; they say nothing about what arrives.
            tracing::debug!("receiving: {error}");
            0
        })
    }

    /// Sends everything; what the system refuses is lost like any datagram, and said.
    pub(crate) fn send(&mut self, transmits: &[Transmit]) {
        self.turn = self.turn.wrapping_add(1);
        let mut by_socket: Vec<(&Socket, Vec<Outgoing<'_>>)> = Vec::new();
        for transmit in transmits {
            let Some(socket) = self.socket_for(transmit) else {
                continue;
            };
            let outgoing = Outgoing {
                from: transmit.from,
                to: transmit.to,
                payload: &transmit.payload,
            };
            let same = |(known, _): &&mut (&Socket, _)| std::ptr::eq(*known, socket);
            match by_socket.iter_mut().find(same) {
                Some((_, list)) => list.push(outgoing),
                None => by_socket.push((socket, vec![outgoing])),
            }
        }
        for (socket, list) in by_socket {
            batch::send(socket, &list);
        }
    }

    /// Sends a batch back as it came: what a server costs that does nothing else.
    pub(crate) fn echo(&self, index: usize, received: &Received) {
        let answers: Vec<Outgoing<'_>> = received
            .iter()
            .map(|(to, from, payload)| Outgoing { from, to, payload })
            .collect();
        batch::send(&self.control[index].1, &answers);
    }

    fn socket_for(&self, transmit: &Transmit) -> Option<&Socket> {
        let ipv4 = transmit.to.is_ipv4();
        match transmit.port {
            SourcePort::Random => {
                let pool = if ipv4 {
                    &self.random_ipv4
                } else {
                    &self.random_ipv6
                };
                pool.get(self.turn % pool.len().max(1))
            }
            SourcePort::Control => {
                let mut of_family = self.control.iter().filter(|(at, _)| at.is_ipv4() == ipv4);
                of_family
                    .clone()
                    .find(|(at, _)| Some(at.ip()) == transmit.from)
                    .or_else(|| of_family.next())
                    .map(|(_, socket)| socket)
            }
        }
    }
}

/// A host without IPv6 still serves IPv4.
fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

fn open(at: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    // The system may grant less; then bursts are shorter.
    let granted = socket
        .set_recv_buffer_size(BUFFER)
        .and_then(|()| socket.set_send_buffer_size(BUFFER));
    if let Err(error) = granted {
        tracing::debug!("socket buffers stay as they are: {error}");
    }
    socket.bind(&at.into())?;
    batch::ask_for_destination(&socket, at.is_ipv4())?;
    Ok(socket)
}
