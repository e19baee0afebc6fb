//! Sites and networks without LISP: proxies (RFC 6832), and re-encapsulation.

mod petr;
mod pitr;
mod pitr_actions;
mod rtr;

use crate::decode::Ip;
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
