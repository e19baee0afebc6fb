//! Sites and networks without LISP: proxies (RFC 6832), and re-encapsulation.

mod bgp;
mod nat;
mod nat_proxy;
mod petr;
mod petr_locators;
mod petrs;
mod pitr;
mod pitr_actions;
mod pitr_pause;
mod pitr_probes;
mod pitr_questions;
mod pitr_smr;
mod pitr_version;
mod probed;
mod rtr;
pub(super) mod smr_lab;
mod urpf;

use crate::decode::Ip;
use crate::sabotage::Frame;
use crate::trace::{Seen, Trace};

/// An echo by its direction and sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ping {
    Request(u16),
    Reply(u16),
}

impl Ping {
    fn of(ip: &Ip) -> Option<Ping> {
        let icmp = ip.icmp()?;
        let sequence = icmp.echo().1;
        if icmp.is_echo_request() {
            return Some(Ping::Request(sequence));
        }
        icmp.is_echo_reply().then_some(Ping::Reply(sequence))
    }

    /// Whether a packet carries it, in a tunnel or not.
    fn is_in(self, packet: &Seen) -> bool {
        self.is_plain(packet) || self.is_tunnelled(packet)
    }

    /// Whether a packet is it, outside of any tunnel.
    fn is_plain(self, packet: &Seen) -> bool {
        packet.ip().and_then(Ping::of) == Some(self)
    }

    /// Whether a data packet carries it.
    fn is_tunnelled(self, packet: &Seen) -> bool {
        packet.data().and_then(|(_, inner)| Ping::of(inner)) == Some(self)
    }

    /// The nodes that put it onto a link, in the order of time.
    fn way(self, trace: &Trace) -> Vec<&Seen> {
        trace.iter().filter(|packet| self.is_in(packet)).collect()
    }
}

/// The way of a packet, for people: `legacy > internet > [pxtr > core > edge] > host-a`, with tunnels in brackets.
fn way_text(way: &[&Seen]) -> String {
    let mut text = String::new();
    let mut inside = false;
    for packet in way {
        let tunnelled = packet.is_data();
        if !text.is_empty() {
            text += if inside && !tunnelled { "] > " } else { " > " };
        }
        if tunnelled && !inside {
            text += "[";
        }
        inside = tunnelled;
        text += packet.sender().unwrap_or("?");
    }
    text + if inside { "]" } else { "" }
}

pub(super) fn is_data(frame: &Frame<'_>) -> bool {
    frame.ip().is_some_and(|ip| {
        ip.udp()
            .is_some_and(|udp| udp.destination_port == lisp::DATA_PORT)
    })
}

/// The inner packet of a data packet.
fn inner(frame: &Frame<'_>) -> Option<Vec<u8>> {
    let ip = frame.ip()?;
    ip.udp()?.payload.get(8..).map(<[u8]>::to_vec)
}

/// Gives the IPv4 packet inside a data packet another source.
fn edit_inner_source(frame: &mut Frame<'_>, source: [u8; 4]) {
    frame.edit_data(|_, inner| {
        let Ok(packet) = lisp::ip::IpPacket::parse(inner) else {
            return false;
        };
        let (mut header, payload) = (packet.header, packet.payload.to_vec());
        let lisp::ip::IpHeader::V4(v4) = &mut header else {
            return false;
        };
        v4.source = source.into();
        *inner = header.emit(&payload);
        true
    });
}

/// A data packet becomes the packet that it carries: as if there were no tunnel.
pub(super) fn untunnel(frame: &mut Frame<'_>) {
    if is_data(frame)
        && let Some(inner) = inner(frame)
    {
        let ether_type: [u8; 2] = if inner.first().is_some_and(|b| b >> 4 == 6) {
            [0x86, 0xdd]
        } else {
            [0x08, 0x00]
        };
        let octets = frame.octets();
        octets.truncate(12);
        octets.extend(ether_type);
        octets.extend(inner);
    }
}
