//! A packet as a tree of fields: what stands where, in which bits, and which section of which RFC says so.
//!
//! The tree is for people and for programs that print it. It covers what it is given without gap or overlap: every bit
//! belongs to exactly one leaf, also where octets could not be decoded. What is wrong comes from the codec itself
//! ([`crate::wire`], [`crate::ip`]), so that `errors` is empty exactly when [`crate::packet::reencode`] succeeds.

use crate::error::DecodeError;
use crate::wire::DataHeader;

mod headers;
mod messages;
mod records;
mod walk;

use walk::Walk;

/// What the first octet given belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// An Ethernet header.
    Ethernet,
    /// An IPv4 or IPv6 header.
    Ip,
    /// A LISP data header: the payload of a UDP datagram to port 4341.
    Data,
    /// A LISP control message: the payload of a UDP datagram from or to port 4342.
    Control,
}

/// What the packet turned out to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// A LISP data packet.
    Data,
    /// A LISP control message.
    Control,
    /// No LISP, or too broken to tell; then `errors` says what was expected.
    #[default]
    Other,
}

/// A dissected packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dissection {
    /// Whether it is LISP.
    pub kind: Kind,
    /// One line for a list of packets.
    pub summary: String,
    /// The tree, front to back.
    pub fields: Vec<Field>,
    /// What is wrong: the packet is not valid. Offsets count from the first octet given.
    pub errors: Vec<DecodeError>,
    /// What is odd, though it can be decoded and emitted again.
    pub notes: Vec<Note>,
}

/// A run of bits with a meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Name as the RFC spells it.
    pub name: String,
    /// Octet of its first bit, from the first octet given.
    pub offset: usize,
    /// First bit within that octet; 0 is the most significant.
    pub bit: usize,
    /// Number of bits.
    pub width: usize,
    /// The value in hex: the octets, or the right-aligned value of a field that does not fill octets. Empty for a field
    /// with children.
    pub raw: String,
    /// The value for people.
    pub value: String,
    /// Where it is defined ("RFC 6830 6.1.4").
    pub section: &'static str,
    /// Its parts; a field without any is a leaf.
    pub children: Vec<Field>,
}

/// Something odd that is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Octet it is about, from the first octet given.
    pub offset: usize,
    /// What is odd.
    pub text: String,
    /// Which section speaks of it.
    pub section: &'static str,
}

/// Dissects one packet. Never panics, whatever the octets are.
pub fn dissect(start: Start, octets: &[u8]) -> Dissection {
    // Where octets that belong to nothing else belong.
    let section = match start {
        Start::Ethernet => headers::ETHERNET,
        Start::Ip => headers::IP,
        Start::Data => headers::DATA,
        Start::Control => "RFC 6830 6.1",
    };
    let mut walk = Walk::new(octets, section);
    let summary = match start {
        Start::Ethernet => headers::ethernet(&mut walk),
        Start::Ip => headers::ip_packet(&mut walk),
        Start::Data => {
            walk.kind = Kind::Data;
            headers::data(&mut walk);
            DataHeader::parse(octets)
                .map_or("LISP data".into(), |header| headers::data_summary(&header))
        }
        Start::Control => {
            walk.kind = Kind::Control;
            messages::control(&mut walk, 0)
        }
    };
    walk.leftover("undecoded octets");
    Dissection {
        kind: walk.kind,
        summary,
        fields: walk.fields,
        errors: walk.errors,
        notes: walk.notes,
    }
}

impl Dissection {
    /// Every leaf, front to back.
    pub fn leaves(&self) -> Vec<&Field> {
        let mut leaves = Vec::new();
        self.fields
            .iter()
            .for_each(|field| field.collect_leaves(&mut leaves));
        leaves
    }
}

impl Field {
    fn collect_leaves<'a>(&'a self, leaves: &mut Vec<&'a Field>) {
        match self.children.is_empty() {
            true => leaves.push(self),
            false => self
                .children
                .iter()
                .for_each(|child| child.collect_leaves(leaves)),
        }
    }

    /// First bit, from the first octet given.
    pub fn first_bit(&self) -> usize {
        self.offset * 8 + self.bit
    }
}
