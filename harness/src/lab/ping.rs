//! Echo requests from a node, without a program: what `ping` does, for hosts that have none.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Lab, LabError};

/// An echo request that is to be sent.
#[derive(Clone, Debug)]
pub struct Ping {
    /// The identifier, by which replies are known.
    pub identifier: u16,
    /// The sequence number.
    pub sequence: u16,
    /// Octets of payload behind the ICMP header.
    pub payload: usize,
    /// The source address; by default the kernel's choice.
    pub source: Option<IpAddr>,
    /// TTL or hop limit; by default the kernel's (64).
    pub ttl: Option<u8>,
    /// The DSCP and ECN octet.
    pub traffic_class: u8,
    /// How long to wait for the reply.
    pub timeout: Duration,
}

impl Default for Ping {
    fn default() -> Ping {
        Ping {
            identifier: 0x4c42,
            sequence: 1,
            payload: 56,
            source: None,
            ttl: None,
            traffic_class: 0,
            timeout: Duration::from_secs(2),
        }
    }
}

/// An echo request had no echo reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PingError {
    /// The lab could not send it.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The kernel of the node could not send it, or an ICMP error told that it did not arrive.
    #[error("{to} is unreachable from node `{node}`: {reason}")]
    Unreachable {
        /// The node that sent it.
        node: String,
        /// The destination.
        to: IpAddr,
        /// Why.
        reason: String,
    },
    /// Nothing came back in time.
    #[error("no echo reply from {to} to node `{node}` within {waited:?}")]
    Timeout {
        /// The node that sent it.
        node: String,
        /// The destination.
        to: IpAddr,
        /// How long it waited.
        waited: Duration,
    },
}

impl Lab {
    /// Sends an echo request from a node and waits for the reply; returns the round trip time.
    ///
    /// # Errors
    /// No such node, no route, or no reply in time.
    pub fn ping(&self, node: &str, to: IpAddr, ping: &Ping) -> Result<Duration, PingError> {
        let unreachable = |error: io::Error| PingError::Unreachable {
            node: node.to_owned(),
            to,
            reason: error.to_string(),
        };
        let socket = self.run_in(node, || open(to, ping))?.map_err(unreachable)?;
        let began = Instant::now();
        socket
            .send_to(&request(to, ping), &SocketAddr::new(to, 0).into())
            .map_err(unreachable)?;
        let mut buffer = [MaybeUninit::<u8>::uninit(); 65_536];
        loop {
            let left = ping.timeout.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(PingError::Timeout {
                    node: node.to_owned(),
                    to,
                    waited: ping.timeout,
                });
            }
            socket.set_read_timeout(Some(left)).map_err(unreachable)?;
            let (length, from) = match socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(unreachable(error)),
            };
            let octets: Vec<u8> = buffer[..length]
                .iter()
                // SAFETY: recv_from has written the first `length` octets.
                .map(|octet| unsafe { octet.assume_init() })
                .collect();
            let from = from.as_socket().map(|address| address.ip());
            match answer(&octets, to, ping) {
                Some(Answer::Reply) if from == Some(to) => return Ok(began.elapsed()),
                Some(Answer::Error(what)) => {
                    return Err(PingError::Unreachable {
                        node: node.to_owned(),
                        to,
                        reason: match from {
                            Some(from) => format!("{what}, says {from}"),
                            None => what.to_owned(),
                        },
                    });
                }
                _ => {}
            }
        }
    }
}

fn open(to: IpAddr, ping: &Ping) -> io::Result<Socket> {
    let socket = match to {
        IpAddr::V4(_) => Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?,
        IpAddr::V6(_) => Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?,
    };
    if let Some(source) = ping.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    if to.is_ipv4() {
        if let Some(ttl) = ping.ttl {
            socket.set_ttl_v4(u32::from(ttl))?;
        }
        socket.set_tos_v4(u32::from(ping.traffic_class))?;
    } else {
        if let Some(ttl) = ping.ttl {
            socket.set_unicast_hops_v6(u32::from(ttl))?;
        }
        socket.set_tclass_v6(u32::from(ping.traffic_class))?;
    }
    Ok(socket)
}

/// An echo request (RFC 792, RFC 4443). The kernel fills in ICMPv6 checksums.
fn request(to: IpAddr, ping: &Ping) -> Vec<u8> {
    let mut octets = vec![if to.is_ipv4() { 8 } else { 128 }, 0, 0, 0];
    octets.extend(ping.identifier.to_be_bytes());
    octets.extend(ping.sequence.to_be_bytes());
    octets.extend((0..ping.payload).map(|n| n as u8));
    if to.is_ipv4() {
        let sum: u32 = octets
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
            .sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        octets[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    octets
}

enum Answer {
    Reply,
    Error(&'static str),
}

/// What a received packet says about our request; `None` if it is about something else.
fn answer(octets: &[u8], to: IpAddr, ping: &Ping) -> Option<Answer> {
    // Raw IPv4 sockets deliver the IP header too.
    let icmp = match to {
        IpAddr::V4(_) => octets.get(usize::from(octets.first()? & 0x0f) * 4..)?,
        IpAddr::V6(_) => octets,
    };
    let ours = |echo: &[u8]| {
        echo.get(4..6) == Some(&ping.identifier.to_be_bytes())
            && echo.get(6..8) == Some(&ping.sequence.to_be_bytes())
    };
    let (v4, kind) = (to.is_ipv4(), *icmp.first()?);
    match (v4, kind) {
        (true, 0) | (false, 129) => ours(icmp).then_some(Answer::Reply),
        (true, 3 | 11) | (false, 1..=3) => {
            // An error quotes the packet that it is about.
            let quoted = icmp.get(8..)?;
            let header = if v4 {
                usize::from(quoted.first()? & 0x0f) * 4
            } else {
                40
            };
            let about = quoted.get(header..)?;
            if !matches!(about.first(), Some(8 | 128)) || !ours(about) {
                return None;
            }
            let code = *icmp.get(1)?;
            Some(Answer::Error(match (v4, kind, code) {
                (true, 3, 0) => "network unreachable",
                (true, 3, 1) => "host unreachable",
                (true, 3, 4) | (false, 2, _) => "the packet is too big",
                (true, 3, 9 | 10 | 13) | (false, 1, 1) => "administratively prohibited",
                (false, 1, 0) => "no route",
                (true, 11, _) | (false, 3, _) => "the time to live is over",
                _ => "destination unreachable",
            }))
        }
        _ => None,
    }
}
