//! Data packets for an ETR: echo replies inside LISP, which a host takes without answering.

use std::net::IpAddr;

use lisp::wire::DataHeader;

use super::common::*;
use crate::cases::fences::{special, with_checksum};
use crate::drive::{Drive, Echo, Stop, data_packet};
use crate::trace::{Seen, Trace};

/// Source port of data packets.
const DATA_FROM: u16 = 61_001;

/// The outer header of a data packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outer {
    /// The locator that it goes to.
    pub(super) to: IpAddr,
    /// TTL or hop limit as it is sent; the core takes one off.
    pub(super) ttl: u8,
    /// DSCP and ECN.
    pub(super) traffic_class: u8,
}

impl Outer {
    /// To a locator, TTL 64, traffic class 0.
    pub(super) fn to(to: IpAddr) -> Outer {
        Outer {
            to,
            ttl: 64,
            traffic_class: 0,
        }
    }
}

/// A data packet with a zero UDP checksum around an inner packet.
pub(super) fn tunnelled(outer: Outer, header: &DataHeader, inner: &[u8]) -> Vec<u8> {
    let from = if outer.to.is_ipv4() { ITR } else { ITR6 };
    let mut packet = data_packet((from, DATA_FROM), outer.to, header, inner, outer.ttl);
    set_traffic_class(&mut packet, outer.traffic_class);
    packet
}

/// Writes the traffic class of an IP packet; the IPv4 header checksum follows.
pub(super) fn set_traffic_class(packet: &mut [u8], class: u8) {
    if packet[0] >> 4 == 4 {
        packet[1] = class;
        packet[10..12].fill(0);
        let sum = lisp::ip::checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet[0] = 0x60 | class >> 4;
        packet[1] = packet[1] & 0x0f | class << 4;
    }
}

/// An inner packet for an EID: an echo reply of a remote host, which nobody answers.
pub(super) fn echo(to: IpAddr, sequence: u16) -> Vec<u8> {
    echo_with(to, sequence, 64, 0)
}

/// As [`echo`], with TTL and traffic class.
pub(super) fn echo_with(to: IpAddr, sequence: u16, ttl: u8, traffic_class: u8) -> Vec<u8> {
    let from = if to.is_ipv4() { REMOTE } else { REMOTE6 };
    let echo = Echo {
        ttl,
        traffic_class,
        ..Echo::new(from, to, sequence)
    };
    echo.reply()
}

fn has_sequence(ip: &crate::decode::Ip, sequence: u16) -> bool {
    ip.icmp()
        .is_some_and(|icmp| icmp.echo() == (0x4c53, sequence))
        && [REMOTE, REMOTE6].contains(&ip.source)
}

/// The data packet with a sequence number as it reached the ETR.
pub(super) fn inner_of(trace: &Trace, sequence: u16) -> Option<&Seen> {
    trace.received_by(ETR).find(|packet| {
        packet
            .data()
            .is_some_and(|(_, inner)| has_sequence(inner, sequence))
    })
}

/// The decapsulated packet with a sequence number on any link of the ETR.
pub(super) fn came_out(trace: &Trace, sequence: u16) -> Option<&Seen> {
    trace
        .sent_by(ETR)
        .find(|packet| packet.ip().is_some_and(|ip| has_sequence(ip, sequence)))
}

/// The decapsulated packet with a sequence number on its way to the host.
pub(super) fn delivered(trace: &Trace, sequence: u16) -> Option<&Seen> {
    came_out(trace, sequence).filter(|packet| packet.receiver() == Some("host"))
}

/// A fence: data packets to a locator of the ETR for the host's EID of one family, a plain one and a special one
/// ([`fences`](crate::cases::fences)); waits until both inner packets are at the host.
pub(super) fn fence(
    drive: &Drive,
    net: &Net,
    (outer, host): (IpAddr, IpAddr),
    header: &DataHeader,
    sequence: u16,
) -> Result<(), Stop> {
    let begin = drive.now_ns();
    let packet = |sequence| tunnelled(Outer::to(outer), header, &echo(host, sequence));
    net.itr.send(&packet(sequence))?;
    net.itr.send(&with_checksum(&packet(special(sequence))))?;
    for sequence in [sequence, special(sequence)] {
        let what = format!("the inner packet {sequence} at {host}");
        drive.wait_for(begin, &what, SOON, |packet| {
            packet.receiver() == Some("host")
                && packet
                    .ip()
                    .is_some_and(|ip| ip.destination == host && has_sequence(ip, sequence))
        })?;
    }
    Ok(())
}

/// The last packet of a [`fence`], if both came out.
pub(super) fn fenced(trace: &Trace, sequence: u16) -> Option<&Seen> {
    let both = [sequence, special(sequence)].map(|sequence| delivered(trace, sequence));
    let [Some(plain), Some(special)] = both else {
        return None;
    };
    Some(if plain.time_ns() > special.time_ns() {
        plain
    } else {
        special
    })
}

/// Waits for a decapsulated packet on its way to the host.
pub(super) fn wait_delivered(drive: &Drive, sequence: u16) -> Result<(), Stop> {
    let what = format!("the inner packet {sequence} at the host");
    drive.wait_for(0, &what, SOON, |packet| {
        packet.receiver() == Some("host")
            && packet.ip().is_some_and(|ip| has_sequence(ip, sequence))
    })?;
    Ok(())
}
