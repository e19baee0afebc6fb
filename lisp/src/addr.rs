//! Addresses and prefixes as LISP carries them: an AFI and its bytes (RFC 6830 6.1.4, RFC 8060).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// An address behind an Address Family Identifier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// AFI 0: no address, zero octets.
    #[default]
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
        /// Rsvd1 and Flags octets, kept so that re-emission is exact; zero in our own.
        reserved: [u8; 2],
    },
    /// Type 1: a list of addresses (RFC 8060 4.16).
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

impl Address {
    /// An EID of an Instance ID: the plain address in Instance ID 0, otherwise an Instance-ID LCAF around it.
    pub fn from_eid(iid: u32, eid: IpAddr) -> Self {
        let address = Address::from(eid);
        if iid == 0 {
            return address;
        }
        Address::Lcaf(Box::new(Lcaf::InstanceId {
            iid,
            mask_len: 0,
            address,
            reserved: [0; 2],
        }))
    }

    /// The IP address, where this is a plain one (an RLOC, an EID of Instance ID 0).
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Address::Ipv4(address) => Some(IpAddr::V4(*address)),
            Address::Ipv6(address) => Some(IpAddr::V6(*address)),
            Address::None | Address::Mac(_) | Address::Lcaf(_) => None,
        }
    }

    /// The EID with its Instance ID, where this is an IP address, plain or inside one Instance-ID LCAF.
    pub fn eid(&self) -> Option<(u32, IpAddr)> {
        match self {
            Address::Lcaf(lcaf) => match &**lcaf {
                Lcaf::InstanceId { iid, address, .. } => Some((*iid, address.ip()?)),
                Lcaf::AfiList { .. } | Lcaf::Opaque { .. } => None,
            },
            plain => Some((0, plain.ip()?)),
        }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Address::Ipv4(address),
            IpAddr::V6(address) => Address::Ipv6(address),
        }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Address::Ipv4(address)
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        Address::Ipv6(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::None => f.write_str("none"),
            Address::Ipv4(address) => address.fmt(f),
            Address::Ipv6(address) => address.fmt(f),
            Address::Mac([a, b, c, d, e, g]) => {
                write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
            }
            Address::Lcaf(lcaf) => lcaf.fmt(f),
        }
    }
}

impl fmt::Display for Lcaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lcaf::InstanceId {
                iid,
                mask_len,
                address: Address::None,
                ..
            } => {
                write!(f, "[{iid}/{mask_len}]")
            }
            Lcaf::InstanceId { iid, address, .. } => write!(f, "[{iid}]{address}"),
            Lcaf::AfiList { addresses, .. } => {
                f.write_str("{")?;
                for (position, address) in addresses.iter().enumerate() {
                    let comma = if position == 0 { "" } else { ", " };
                    write!(f, "{comma}{address}")?;
                }
                f.write_str("}")
            }
            Lcaf::Opaque { kind, data, .. } => write!(f, "LCAF type {kind}, {} octets", data.len()),
        }
    }
}

impl EidPrefix {
    /// The prefix of one EID: /32 or /128.
    pub fn host(iid: u32, eid: IpAddr) -> Self {
        Self {
            iid,
            prefix: IpNet::from(eid),
        }
    }

    /// The prefix's address as an EID field carries it.
    pub fn to_address(&self) -> Address {
        Address::from_eid(self.iid, self.prefix.addr())
    }

    /// Reads an EID field and its mask-len; `None` if it is no IP prefix or the mask-len is too long for it. Host bits
    /// are cleared.
    pub fn from_address(eid: &Address, mask_len: u8) -> Option<Self> {
        let (iid, address) = eid.eid()?;
        Some(Self::new(iid, IpNet::new(address, mask_len).ok()?))
    }
}

/// `10.0.0.0/8`, or `[7]10.0.0.0/8` in Instance ID 7.
impl fmt::Display for EidPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.iid != 0 {
            write!(f, "[{}]", self.iid)?;
        }
        self.prefix.fmt(f)
    }
}

/// Why a text is no EID-Prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an EID-Prefix such as 10.0.0.0/8, 2001:db8::/32 or [7]10.0.0.0/8, found {found:?}: {reason}"
)]
pub struct ParseEidPrefixError {
    found: String,
    reason: String,
}

impl FromStr for EidPrefix {
    type Err = ParseEidPrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason: &str| ParseEidPrefixError {
            found: text.to_owned(),
            reason: reason.to_owned(),
        };
        let (iid, prefix) = match text.strip_prefix('[') {
            None => (0, text),
            Some(rest) => {
                let (iid, prefix) = rest
                    .split_once(']')
                    .ok_or_else(|| error("no ] after the Instance ID"))?;
                let iid = iid
                    .parse()
                    .map_err(|_| error("the Instance ID is not a number of 0 to 16777215"))?;
                (iid, prefix)
            }
        };
        if iid > MAX_IID {
            return Err(error("the Instance ID is larger than 16777215 (24 bits)"));
        }
        let prefix: IpNet = prefix
            .parse()
            .map_err(|_| error("not an address, a slash and a length"))?;
        if prefix.trunc() != prefix {
            return Err(error(&format!(
                "bits are set behind the length; {} would be right",
                prefix.trunc()
            )));
        }
        Ok(Self { iid, prefix })
    }
}

/// Largest Instance ID that fits the data header (RFC 8060 4.1).
pub const MAX_IID: u32 = 0x00ff_ffff;
