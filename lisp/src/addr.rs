//! Addresses and prefixes as LISP carries them: an AFI and its bytes (RFC 6830 6.1.4, RFC 8060).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// An address behind an Address Family Identifier.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// AFI 0: no address, zero octets.
    None,
    /// AFI 1.
    Ipv4(Ipv4Addr),
    /// AFI 2.
    Ipv6(Ipv6Addr),
    /// AFI 6: a 48-bit MAC address.
    Mac([u8; 6]),
    /// AFI 16387: LISP Canonical Address Format.
    Lcaf(Box<Lcaf>),
}

/// A LISP Canonical Address (RFC 8060).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lcaf {
    /// Type 2: an address inside an Instance ID (RFC 8060 4.1).
    InstanceId {
        /// 32 bits on the wire, of which 24 are an Instance ID.
        iid: u32,
        /// IID mask-len as it stands on the wire; meaningful only with an inner AFI of 0.
        mask_len: u8,
        /// The address that the Instance ID qualifies.
        address: Address,
        /// Rsvd1, Flags and Rsvd2 octets, kept so that re-emission is exact; zero in our own.
        reserved: [u8; 3],
    },
    /// Type 1: a list of addresses (RFC 8060 4.2).
    AfiList {
        /// In the order of the wire.
        addresses: Vec<Address>,
        /// Rsvd1, Flags and Rsvd2 octets.
        reserved: [u8; 3],
    },
    /// Any other type, kept as it came.
    Opaque {
        /// LCAF type.
        kind: u8,
        /// Rsvd1, Flags and Rsvd2 octets.
        reserved: [u8; 3],
        /// The `Length` octets that follow the length field.
        data: Vec<u8>,
    },
}

/// An EID-Prefix: an IP prefix inside an Instance ID (0 is the default, global one).
///
/// Ordered by Instance ID, then family, then address, then length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EidPrefix {
    /// 24-bit Instance ID (RFC 8060 4.1); 0 when none.
    pub iid: u32,
    /// The prefix, host bits zero.
    pub prefix: IpNet,
}

impl EidPrefix {
    /// A prefix of an Instance ID; host bits are cleared.
    pub fn new(iid: u32, prefix: IpNet) -> Self {
        Self {
            iid,
            prefix: prefix.trunc(),
        }
    }

    /// Whether `eid` of Instance ID `iid` lies inside.
    pub fn contains(&self, iid: u32, eid: IpAddr) -> bool {
        self.iid == iid && self.prefix.contains(&eid)
    }

    /// Whether `other` is this prefix or a more specific one of it.
    pub fn covers(&self, other: &EidPrefix) -> bool {
        self.iid == other.iid && self.prefix.contains(&other.prefix)
    }
}
