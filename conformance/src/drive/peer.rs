//! A scripted peer: a neighbour of the box under test that speaks real packets, right or wrong.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use harness::{Lab, LabError};
use lisp::wire::{ControlMessage, Ecm};
use lisp::{CONTROL_PORT, DATA_PORT};
use socket2::{Domain, Protocol, Socket, Type};

use crate::decode::{Ip, Lisp};

/// TTL of what a peer sends unless the case says otherwise.
const TTL: u8 = 64;

/// A scripted peer could not be made or could not send.
#[derive(Debug, thiserror::Error)]
#[error("scripted peer at {node}: {what}")]
pub struct PeerError {
    node: String,
    what: String,
}

/// A scripted peer at a node. Its kernel answers echo requests and forwards as the topology says; UDP 4341 and 4342 are
/// the peer's, so that nothing answers there with an ICMP error. Dropping it ends its responders.
pub struct Peer {
    node: String,
    addresses: Vec<IpAddr>,
    raw_v4: Arc<Socket>,
    /// None on a kernel without IPv6.
    raw_v6: Option<Arc<Socket>>,
    /// Bound so that the kernel does not answer with "port unreachable"; never read.
    _ports: Vec<UdpSocket>,
    open: Box<dyn Fn() -> Result<Socket, PeerError> + Send + Sync>,
    stop: Arc<AtomicBool>,
    responders: Vec<JoinHandle<()>>,
}

/// An echo request or reply to build.
#[derive(Debug, Clone, Copy)]
pub struct Echo {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Identifier.
    pub identifier: u16,
    /// Sequence number.
    pub sequence: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Octets of payload.
    pub payload: usize,
}

impl Echo {
    /// With TTL 64, traffic class 0 and 32 octets of payload.
    pub fn new(source: IpAddr, destination: IpAddr, sequence: u16) -> Echo {
        Echo {
            source,
            destination,
            identifier: 0x4c53,
            sequence,
            ttl: TTL,
            traffic_class: 0,
            payload: 32,
        }
    }

    /// The echo request as an IP packet.
    pub fn request(&self) -> Vec<u8> {
        self.build(8, 128)
    }

    /// The echo reply as an IP packet.
    pub fn reply(&self) -> Vec<u8> {
        self.build(0, 129)
    }

    fn build(&self, v4: u8, v6: u8) -> Vec<u8> {
        let protocol = if self.destination.is_ipv4() { 1 } else { 58 };
        let mut header = lisp::ip::IpHeader::new(self.source, self.destination, self.ttl, protocol);
        match &mut header {
            lisp::ip::IpHeader::V4(header) => header.traffic_class = self.traffic_class,
            lisp::ip::IpHeader::V6(header) => header.traffic_class = self.traffic_class,
        }
        let mut message = vec![if self.destination.is_ipv4() { v4 } else { v6 }, 0, 0, 0];
        message.extend(self.identifier.to_be_bytes());
        message.extend(self.sequence.to_be_bytes());
        message.extend((0..self.payload).map(|at| at as u8));
        let sum = match (self.source, self.destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                // RFC 4443 2.3: the pseudo-header counts.
                let mut covered = [source.octets(), destination.octets()].concat();
                covered.extend((message.len() as u32).to_be_bytes());
                covered.extend([0, 0, 0, protocol]);
                covered.extend(&message);
                lisp::ip::checksum(&covered)
            }
            _ => lisp::ip::checksum(&message),
        };
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        header.emit(&message)
    }
}

impl Peer {
    pub(crate) fn new(lab: &Lab, node: &str) -> Result<Peer, PeerError> {
        Peer::make(lab, node, &[DATA_PORT, CONTROL_PORT])
    }

    /// A peer beside a program that has the LISP ports: it only sends.
    pub(crate) fn bare(lab: &Lab, node: &str) -> Result<Peer, PeerError> {
        Peer::make(lab, node, &[])
    }

    fn make(lab: &Lab, node: &str, ports: &[u16]) -> Result<Peer, PeerError> {
        let name = node.to_owned();
        let fail = |what: &str, error: &dyn std::fmt::Display| PeerError {
            node: node.to_owned(),
            what: format!("{what}: {error}"),
        };
        let raw = |domain| {
            lab.run_in(node, || {
                Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))
            })
            .map_err(|error: LabError| fail("entering the node", &error))?
            .map_err(|error| fail("opening a raw socket", &error))
        };
        let has_ipv6 = harness::host::has_ipv6();
        let raw_v4 = Arc::new(raw(Domain::IPV4)?);
        let raw_v6 = has_ipv6.then(|| raw(Domain::IPV6)).transpose()?;
        let raw_v6 = raw_v6.map(Arc::new);
        let bound = lab
            .run_in(node, || -> std::io::Result<Vec<UdpSocket>> {
                let mut sockets = Vec::new();
                for &port in ports {
                    // A program that another case starts just now holds copies of an earlier peer's sockets until it
                    // runs: they must not stand in the way.
                    let v4 = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
                    v4.set_reuse_address(true)?;
                    v4.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
                    sockets.push(v4.into());
                    if !has_ipv6 {
                        continue;
                    }
                    let v6 = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
                    v6.set_only_v6(true)?;
                    v6.set_reuse_address(true)?;
                    v6.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
                    sockets.push(v6.into());
                }
                Ok(sockets)
            })
            .map_err(|error| fail("entering the node", &error))?
            .map_err(|error| {
                fail(
                    "binding UDP 4341 and 4342 (is a program running there?)",
                    &error,
                )
            })?;
        let namespace = lab
            .namespace(node)
            .map_err(|error| fail("entering the node", &error))?
            .clone();
        let open = Box::new(move || {
            let opened = namespace.run(|| -> std::io::Result<Socket> {
                let socket =
                    Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(ETH_P_ALL)))?;
                socket.set_read_timeout(Some(Duration::from_millis(20)))?;
                Ok(socket)
            });
            opened.and_then(|socket| socket).map_err(|error| PeerError {
                node: name.clone(),
                what: format!("opening a packet socket: {error}"),
            })
        });
        Ok(Peer {
            node: node.to_owned(),
            addresses: lab
                .topology()
                .addresses(node)
                .map(|net| net.addr())
                .collect(),
            raw_v4,
            raw_v6,
            _ports: bound,
            open,
            stop: Arc::new(AtomicBool::new(false)),
            responders: Vec::new(),
        })
    }

    /// Its first address.
    ///
    /// # Panics
    /// When the topology gives the node no address.
    pub fn address(&self) -> IpAddr {
        *self
            .addresses
            .first()
            .expect("a scripted peer is at a node with an address")
    }

    /// All its addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Sends an IP packet as it is, whatever its source. Only the IPv4 header checksum and total length are the kernel's.
    ///
    /// # Errors
    /// The kernel has no route for it or refuses it.
    pub fn send(&self, packet: &[u8]) -> Result<(), PeerError> {
        send(&self.raw_v4, self.raw_v6.as_deref(), packet).map_err(|error| PeerError {
            node: self.node.clone(),
            what: format!("sending: {error}"),
        })
    }

    /// Sends a UDP datagram from any address and port, with TTL 64 and a right checksum.
    ///
    /// # Errors
    /// As [`Peer::send`].
    pub fn udp(
        &self,
        from: (IpAddr, u16),
        to: (IpAddr, u16),
        payload: &[u8],
    ) -> Result<(), PeerError> {
        self.send(&lisp::ip::udp_packet(
            from.0, to.0, from.1, to.1, TTL, payload,
        ))
    }

    /// Sends a control message to port 4342.
    ///
    /// # Errors
    /// As [`Peer::send`].
    pub fn control(
        &self,
        from: (IpAddr, u16),
        to: IpAddr,
        message: &ControlMessage,
    ) -> Result<(), PeerError> {
        self.udp(from, (to, CONTROL_PORT), &message.to_vec())
    }

    /// Sends a control message inside an Encapsulated Control Message. `outer` is source address and port of the outer
    /// headers, `inner` those of the inner ones: give both ports values of their own.
    ///
    /// # Errors
    /// As [`Peer::send`].
    pub fn encapsulated(
        &self,
        outer: (IpAddr, u16),
        to: IpAddr,
        inner: (IpAddr, u16),
        inner_to: IpAddr,
        message: &ControlMessage,
    ) -> Result<(), PeerError> {
        let ecm = Ecm::wrap(inner.0, inner_to, inner.1, CONTROL_PORT, TTL, message);
        self.control(outer, to, &ControlMessage::Encapsulated(ecm))
    }

    /// Sends an IP packet inside a LISP data packet with a zero UDP checksum.
    ///
    /// # Errors
    /// As [`Peer::send`].
    pub fn data(
        &self,
        from: (IpAddr, u16),
        to: IpAddr,
        header: &lisp::wire::DataHeader,
        inner: &[u8],
    ) -> Result<(), PeerError> {
        self.send(&data_packet(from, to, header, inner, TTL))
    }

    /// Answers packets that are addressed to this node, until the peer is dropped: `answer` is called with each, and the IP
    /// packets that it returns are sent.
    ///
    /// # Errors
    /// The node's packet socket cannot be opened.
    pub fn respond(
        &mut self,
        mut answer: impl FnMut(&Ip, &Lisp) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Result<(), PeerError> {
        let socket = (self.open)()?;
        let (stop, addresses) = (Arc::clone(&self.stop), self.addresses.clone());
        let (raw_v4, raw_v6) = (Arc::clone(&self.raw_v4), self.raw_v6.clone());
        let node = self.node.clone();
        let thread = std::thread::Builder::new()
            .name(format!("peer-{node}"))
            .spawn(move || {
                let mut buffer = vec![0; 65_536];
                while !stop.load(Ordering::Relaxed) {
                    let Ok(length) = (&socket).read(&mut buffer) else {
                        continue;
                    };
                    let Some(ip) = crate::decode::ip(&buffer[..length]) else {
                        continue;
                    };
                    // The socket also sees what the node itself sends.
                    if !addresses.contains(&ip.destination) || addresses.contains(&ip.source) {
                        continue;
                    }
                    for packet in answer(&ip, &crate::decode::lisp(&ip)) {
                        // An answer that cannot be sent is an answer that nobody sees; the judges look at the capture.
                        let _ = send(&raw_v4, raw_v6.as_deref(), &packet);
                    }
                }
            })
            .map_err(|error| PeerError {
                node: self.node.clone(),
                what: format!("starting a thread: {error}"),
            })?;
        self.responders.push(thread);
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.responders.drain(..) {
            let _ = thread.join();
        }
    }
}

/// `IPPROTO_RAW`: the packet brings its own IP header.
const IPPROTO_RAW: i32 = 255;
/// `ETH_P_ALL` in network byte order.
const ETH_P_ALL: i32 = 0x0300;

fn send(raw_v4: &Socket, raw_v6: Option<&Socket>, packet: &[u8]) -> std::io::Result<()> {
    let wrong = || {
        std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "not an IP packet: no version 4 or 6 in it",
        )
    };
    let ip = crate::decode::ip(packet).ok_or_else(wrong)?;
    let socket = if ip.destination.is_ipv4() {
        raw_v4
    } else {
        raw_v6.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::Unsupported))?
    };
    socket
        .send_to(packet, &SocketAddr::new(ip.destination, 0).into())
        .map(|_| ())
}

/// A LISP data packet with a zero UDP checksum.
pub fn data_packet(
    from: (IpAddr, u16),
    to: IpAddr,
    header: &lisp::wire::DataHeader,
    inner: &[u8],
    ttl: u8,
) -> Vec<u8> {
    let mut octets = [0; 8];
    header.emit(&mut octets);
    let payload = [&octets[..], inner].concat();
    let length = u16::try_from(payload.len() + lisp::ip::UDP_HEADER_LEN).unwrap_or(u16::MAX);
    let mut datagram = Vec::with_capacity(usize::from(length));
    datagram.extend(from.1.to_be_bytes());
    datagram.extend(DATA_PORT.to_be_bytes());
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    lisp::ip::IpHeader::new(from.0, to, ttl, lisp::ip::PROTOCOL_UDP).emit(&datagram)
}
