//! What the fences of data packets share. Routers carry plain packets on a fast path and leave the others to a slower one, so
//! a plain packet may overtake a special one that came before it. A fence is therefore one packet of each kind: when both
//! are out, whatever came before them has been dealt with, whichever way it took.

use std::net::IpAddr;

use lisp::ip::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpHeader, UdpDatagram};

use crate::cases::common::seconds;
use crate::decode::Ip;
use crate::drive::{Drive, Peer, Stop};
use crate::trace::Seen;

/// A number for experiments (RFC 3692).
const EXPERIMENTAL: u8 = 253;

/// A packet of a site that no fast path is made for: whole, of an ordinary size and without options, so that every router
/// has to carry it and none has a reason to answer it with an error, but of a protocol that has no ports to tell flows by and
/// that nobody knows. (IPv4 options would do as well, but many routers drop them.)
#[derive(Debug, Clone, Copy)]
pub(crate) struct Special(u64);

impl Special {
    /// One that no other packet is taken for.
    pub(crate) fn new(drive: &Drive<'_>) -> Special {
        Special(drive.random())
    }

    /// The packet between two addresses of one family.
    pub(crate) fn packet(self, from: IpAddr, to: IpAddr) -> Vec<u8> {
        // Behind the mark, octets that a sabotage may change.
        let payload = [self.0.to_be_bytes(), [0; 8]].concat();
        IpHeader::new(from, to, 64, EXPERIMENTAL).emit(&payload)
    }

    fn is(self, ip: &Ip) -> bool {
        let header = if ip.source.is_ipv4() {
            IPV4_HEADER_LEN
        } else {
            IPV6_HEADER_LEN
        };
        let mark = ip.bytes.get(header..header + 8);
        ip.protocol == EXPERIMENTAL && mark == Some(&self.0.to_be_bytes())
    }

    /// Whether a packet is it, outside of any tunnel.
    pub(crate) fn is_plain(self, packet: &Seen) -> bool {
        packet.ip().is_some_and(|ip| self.is(ip))
    }

    /// Whether a data packet carries it.
    pub(crate) fn is_tunnelled(self, packet: &Seen) -> bool {
        packet.data().is_some_and(|(_, inner)| self.is(inner))
    }
}

/// The second half of a fence at a router that encapsulates, behind a plain packet: a host sends a special one to an EID
/// whose mapping is known; waits until the router has put it into a tunnel.
pub(crate) fn special_leaves(
    drive: &Drive<'_>,
    host: &Peer,
    (from, to): (IpAddr, IpAddr),
    router: &str,
) -> Result<(), Stop> {
    let special = Special::new(drive);
    let begin = drive.now_ns();
    host.send(&special.packet(from, to))?;
    let what = format!("a packet of protocol {EXPERIMENTAL} to {to}, in a tunnel of {router}");
    drive.wait_for(begin, &what, seconds(5), |packet| {
        packet.sender() == Some(router) && special.is_tunnelled(packet)
    })?;
    Ok(())
}

/// The number of a fence's special packet, where the plain one has this number.
pub(crate) const fn special(number: u16) -> u16 {
    number + 20_000
}

/// Makes a data packet with a zero UDP checksum one that is special to the router that decapsulates it: with a right
/// checksum, which it has to accept (RFC 6830 5.3) and which somebody has to verify.
pub(crate) fn with_checksum(packet: &[u8]) -> Vec<u8> {
    let Ok(parsed) = lisp::ip::IpPacket::parse(packet) else {
        return packet.to_vec();
    };
    let Ok(datagram) = UdpDatagram::parse(&parsed) else {
        return packet.to_vec();
    };
    let (from, to) = (parsed.header.source(), parsed.header.destination());
    let datagram = UdpDatagram {
        zero_checksum: false,
        ..datagram
    };
    parsed.header.emit(&datagram.emit(from, to))
}

#[cfg(test)]
mod tests {
    use lisp::wire::DataHeader;

    use super::*;
    use crate::cases::common::ip;
    use crate::drive::{Echo, data_packet};

    #[test]
    fn both_kinds_differ_in_nothing_but_the_checksum() {
        for (from, to) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let (from, to) = (ip(from), ip(to));
            let inner = Echo::new(from, to, 1).reply();
            let plain = data_packet((from, 61_001), to, &DataHeader::default(), &inner, 64);
            let special = with_checksum(&plain);
            let at = if from.is_ipv4() { 26 } else { 46 };
            let udp = crate::decode::ip(&special).and_then(|ip| ip.udp().cloned());
            assert!(udp.is_some_and(|udp| udp.checksum != 0 && udp.checksum_ok));
            let mut unsummed = special;
            unsummed[at..at + 2].fill(0);
            assert_eq!(unsummed, plain);
        }
    }
}
