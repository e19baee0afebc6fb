//! Encapsulated Control Message (RFC 6830 6.1.8; RFC 9301 5.8).

use super::ControlMessage;
use std::net::IpAddr;

/// An Encapsulated Control Message: LISP header, inner IP and UDP headers, and a control message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ecm {
    /// S bit: LISP-SEC authentication data follows the header.
    pub security: bool,
    /// D bit (RFC 8111): DDT-originated.
    pub ddt: bool,
    /// Bits 6 to 31 of the first word.
    pub reserved: u32,
    /// The inner IP packet (header, UDP, control message), verbatim. A Map-Server forwards it unaltered (RFC 6833 4.3).
    pub inner: Vec<u8>,
}

/// What stands inside an ECM, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcmInner {
    /// Inner source address.
    pub source: IpAddr,
    /// Inner destination address: the EID asked for.
    pub destination: IpAddr,
    /// Inner UDP source port: the Map-Reply goes there (RFC 6830 6.1.5, ambiguities B4).
    pub source_port: u16,
    /// Inner UDP destination port, 4342.
    pub destination_port: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The control message.
    pub message: Box<ControlMessage>,
}
