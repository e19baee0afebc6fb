//! One packet of a trace, decoded when it is looked at.

use std::cell::OnceCell;
use std::net::IpAddr;

use harness::capture::Packet;
use lisp::wire::ecm::EcmInner;
use lisp::wire::{ControlMessage, DataHeader, MapNotify, MapRegister, MapReply, MapRequest};

use crate::decode::{self, Ip, Lisp, Udp};
use crate::finding::Packets;

/// A captured packet and what it says.
#[derive(Debug, Clone)]
pub struct Seen {
    raw: Packet,
    decoded: OnceCell<Decoded>,
}

#[derive(Debug, Clone)]
struct Decoded {
    ip: Option<Ip>,
    lisp: Lisp,
}

impl From<Packet> for Seen {
    fn from(raw: Packet) -> Seen {
        Seen {
            raw,
            decoded: OnceCell::new(),
        }
    }
}

impl Seen {
    /// As it was captured.
    pub fn raw(&self) -> &Packet {
        &self.raw
    }

    /// Its number in the capture, from 1.
    pub fn number(&self) -> usize {
        usize::try_from(self.raw.number).unwrap_or(usize::MAX)
    }

    /// When it passed, in ns since 1970.
    pub fn time_ns(&self) -> u64 {
        self.raw.time_ns
    }

    /// The link that it passed.
    pub fn link(&self) -> &str {
        self.raw.link()
    }

    /// The node that put it onto the link, if known.
    pub fn sender(&self) -> Option<&str> {
        self.raw.from_node()
    }

    /// The node at the other end, if known.
    pub fn receiver(&self) -> Option<&str> {
        self.raw.to_node()
    }

    /// The IP packet.
    pub fn ip(&self) -> Option<&Ip> {
        self.decoded().ip.as_ref()
    }

    /// The UDP datagram.
    pub fn udp(&self) -> Option<&Udp> {
        self.ip()?.udp()
    }

    /// What it is in LISP's terms.
    pub fn lisp(&self) -> &Lisp {
        &self.decoded().lisp
    }

    /// Outer source address.
    pub fn source(&self) -> Option<IpAddr> {
        self.ip().map(|ip| ip.source)
    }

    /// Outer destination address.
    pub fn destination(&self) -> Option<IpAddr> {
        self.ip().map(|ip| ip.destination)
    }

    /// The LISP header and inner packet of a data packet.
    pub fn data(&self) -> Option<(&DataHeader, &Ip)> {
        match self.lisp() {
            Lisp::Data {
                header,
                inner: Some(inner),
            } => Some((header, inner)),
            _ => None,
        }
    }

    /// Whether it goes to the data port, well formed or not.
    pub fn is_data(&self) -> bool {
        self.udp()
            .is_some_and(|udp| udp.destination_port == lisp::DATA_PORT)
    }

    /// The control message as it was sent: an Encapsulated Control Message is one itself.
    pub fn control(&self) -> Option<&ControlMessage> {
        match self.lisp() {
            Lisp::Control { message, .. } => Some(message),
            _ => None,
        }
    }

    /// What an Encapsulated Control Message carries.
    pub fn ecm(&self) -> Option<&EcmInner> {
        match self.lisp() {
            Lisp::Control { inner, .. } => inner.as_deref(),
            _ => None,
        }
    }

    /// The control message, taken out of an Encapsulated Control Message where it is in one.
    pub fn message(&self) -> Option<&ControlMessage> {
        self.ecm()
            .map(|inner| &*inner.message)
            .or_else(|| self.control())
    }

    /// A Map-Request, encapsulated or not.
    pub fn map_request(&self) -> Option<&MapRequest> {
        match self.message()? {
            ControlMessage::MapRequest(message) => Some(message),
            _ => None,
        }
    }

    /// A Map-Reply.
    pub fn map_reply(&self) -> Option<&MapReply> {
        match self.message()? {
            ControlMessage::MapReply(message) => Some(message),
            _ => None,
        }
    }

    /// A Map-Register.
    pub fn map_register(&self) -> Option<&MapRegister> {
        match self.message()? {
            ControlMessage::MapRegister(message) => Some(message),
            _ => None,
        }
    }

    /// A Map-Notify.
    pub fn map_notify(&self) -> Option<&MapNotify> {
        match self.message()? {
            ControlMessage::MapNotify(message) => Some(message),
            _ => None,
        }
    }

    /// One line: who to whom, and what.
    pub fn summary(&self) -> String {
        super::summary::of(self)
    }

    fn decoded(&self) -> &Decoded {
        self.decoded.get_or_init(|| {
            let ip = decode::by_link_type(self.raw.interface.link_type, &self.raw.data);
            let lisp = ip.as_ref().map_or(Lisp::None, decode::lisp);
            Decoded { ip, lisp }
        })
    }
}

impl From<&Seen> for Packets {
    fn from(packet: &Seen) -> Packets {
        Packets::from(packet.number())
    }
}

impl<const N: usize> From<[&Seen; N]> for Packets {
    fn from(packets: [&Seen; N]) -> Packets {
        Packets::from(packets.map(Seen::number))
    }
}

impl From<&[&Seen]> for Packets {
    fn from(packets: &[&Seen]) -> Packets {
        Packets::from(
            packets
                .iter()
                .map(|packet| packet.number())
                .collect::<Vec<_>>(),
        )
    }
}

impl From<&Vec<&Seen>> for Packets {
    fn from(packets: &Vec<&Seen>) -> Packets {
        Packets::from(packets.as_slice())
    }
}

impl From<Option<&Seen>> for Packets {
    fn from(packet: Option<&Seen>) -> Packets {
        packet.map(Packets::from).unwrap_or_default()
    }
}
