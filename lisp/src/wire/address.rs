//! AFI-encoded addresses and LCAFs on the wire (RFC 6830 6.1.4; RFC 8060 3, 4.1, 4.16).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::bits::Bits;
use super::cursor::{Reader, Writer};
use crate::addr::{Address, Lcaf};
use crate::error::DecodeError;

/// AFI 0: no address.
pub const AFI_NONE: u16 = 0;
/// AFI 1.
pub const AFI_IPV4: u16 = 1;
/// AFI 2.
pub const AFI_IPV6: u16 = 2;
/// AFI 6: six octets of MAC address as RFC 8060 4.8 uses it.
pub const AFI_MAC: u16 = 6;
/// AFI 16387: LISP Canonical Address Format.
pub const AFI_LCAF: u16 = 16387;

/// LCAF type 1.
pub const LCAF_AFI_LIST: u8 = 1;
/// LCAF type 2.
pub const LCAF_INSTANCE_ID: u8 = 2;

/// How many LCAFs may stand inside each other. RFC 8060 needs two (a list of Instance-ID addresses); the bound keeps
/// the decoder's stack use independent of what it is fed.
pub const MAX_LCAF_DEPTH: usize = 4;

/// The LCAF header after its AFI.
pub(crate) mod field {
    use super::Bits;
    pub(crate) const LEN: usize = 6;
    pub(crate) const RSVD1: Bits = Bits::new("Rsvd1", 0, 8);
    pub(crate) const FLAGS: Bits = Bits::new("Flags", 8, 8);
    pub(crate) const TYPE: Bits = Bits::new("Type", 16, 8);
    pub(crate) const RSVD2: Bits = Bits::new("Rsvd2", 24, 8);
    pub(crate) const LENGTH: Bits = Bits::new("Length", 32, 16);
}

impl Address {
    /// Octets on the wire, the AFI included.
    pub fn buffer_len(&self) -> usize {
        2 + match self {
            Address::None => 0,
            Address::Ipv4(_) => 4,
            Address::Ipv6(_) => 16,
            Address::Mac(_) => 6,
            Address::Lcaf(lcaf) => field::LEN + lcaf.data_len(),
        }
    }

    /// The Address Family Identifier.
    pub fn afi(&self) -> u16 {
        match self {
            Address::None => AFI_NONE,
            Address::Ipv4(_) => AFI_IPV4,
            Address::Ipv6(_) => AFI_IPV6,
            Address::Mac(_) => AFI_MAC,
            Address::Lcaf(_) => AFI_LCAF,
        }
    }

    pub(crate) fn read(
        reader: &mut Reader<'_>,
        afi_field: &'static str,
        field: &'static str,
    ) -> Result<Self, DecodeError> {
        let offset = reader.offset();
        let afi = reader.u16(afi_field)?;
        Self::read_after_afi(reader, afi, offset, afi_field, field, 0)
    }

    /// The address behind an AFI that was already read at `afi_offset`, inside `depth` LCAFs.
    pub(crate) fn read_after_afi(
        reader: &mut Reader<'_>,
        afi: u16,
        afi_offset: usize,
        afi_field: &'static str,
        field: &'static str,
        depth: usize,
    ) -> Result<Self, DecodeError> {
        Ok(match afi {
            AFI_NONE => Address::None,
            AFI_IPV4 => Address::Ipv4(Ipv4Addr::from(reader.array::<4>(field)?)),
            AFI_IPV6 => Address::Ipv6(Ipv6Addr::from(reader.array::<16>(field)?)),
            AFI_MAC => Address::Mac(reader.array(field)?),
            AFI_LCAF if depth == MAX_LCAF_DEPTH => {
                return Err(reader.error_at(
                    afi_offset,
                    afi_field,
                    format!("at most {MAX_LCAF_DEPTH} LCAFs inside each other"),
                    "another one",
                ));
            }
            AFI_LCAF => Address::Lcaf(Box::new(Lcaf::read(reader, depth + 1)?)),
            other => {
                return Err(reader.error_at(
                    afi_offset,
                    afi_field,
                    "AFI 0, 1 (IPv4), 2 (IPv6), 6 (MAC) or 16387 (LCAF)",
                    format!("AFI {other}"),
                ));
            }
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.put(&self.afi().to_be_bytes());
        self.write_after_afi(writer);
    }

    pub(crate) fn write_after_afi(&self, writer: &mut Writer<'_>) {
        match self {
            Address::None => {}
            Address::Ipv4(address) => writer.put(&address.octets()),
            Address::Ipv6(address) => writer.put(&address.octets()),
            Address::Mac(address) => writer.put(address),
            Address::Lcaf(lcaf) => lcaf.write(writer),
        }
    }

    /// How many bits a mask-len of this address may count; `None` where that is not ours to know (an opaque LCAF, an
    /// Instance-ID range).
    pub(crate) fn mask_limit(&self) -> Option<u8> {
        match self {
            Address::None => Some(0),
            Address::Ipv4(_) => Some(32),
            Address::Ipv6(_) => Some(128),
            Address::Mac(_) => Some(48),
            Address::Lcaf(lcaf) => match &**lcaf {
                // The mask-len of an Instance-ID LCAF belongs to the address inside (RFC 8060 4.1).
                Lcaf::InstanceId {
                    address: Address::None,
                    ..
                } => None,
                Lcaf::InstanceId { address, .. } => address.mask_limit(),
                Lcaf::AfiList { .. } | Lcaf::Opaque { .. } => None,
            },
        }
    }

    /// The error of a mask-len that is longer than its address.
    pub(crate) fn check_mask(
        &self,
        reader: &Reader<'_>,
        offset: usize,
        mask_len: u8,
    ) -> Result<(), DecodeError> {
        match self.mask_limit() {
            Some(limit) if mask_len > limit => Err(reader.error_at(
                offset,
                "EID mask-len",
                format!("0 to {limit} for AFI {}", self.afi()),
                mask_len,
            )),
            _ => Ok(()),
        }
    }
}

impl Lcaf {
    /// The LCAF type octet.
    pub fn kind(&self) -> u8 {
        match self {
            Lcaf::InstanceId { .. } => LCAF_INSTANCE_ID,
            Lcaf::AfiList { .. } => LCAF_AFI_LIST,
            Lcaf::Opaque { kind, .. } => *kind,
        }
    }

    fn data_len(&self) -> usize {
        match self {
            Lcaf::InstanceId { address, .. } => 4 + address.buffer_len(),
            Lcaf::AfiList { addresses, .. } => addresses.iter().map(Address::buffer_len).sum(),
            Lcaf::Opaque { data, .. } => data.len(),
        }
    }

    fn read(reader: &mut Reader<'_>, depth: usize) -> Result<Self, DecodeError> {
        let outer = reader.enter("LCAF");
        let header = reader.take("LCAF header", field::LEN)?;
        let len = field::LENGTH.get(header) as usize;
        let kind = field::TYPE.get(header) as u8;
        let rsvd2 = field::RSVD2.get(header) as u8;
        let octets = [
            field::RSVD1.get(header) as u8,
            field::FLAGS.get(header) as u8,
        ];
        let mut data = reader.limited("LCAF", "LCAF data", len)?;
        reader.enter(outer);
        Ok(match kind {
            LCAF_INSTANCE_ID => {
                let iid = data.u32("Instance ID")?;
                let address = Self::read_inner(&mut data, depth)?;
                data.finish("the address of the Instance ID")?;
                Lcaf::InstanceId {
                    iid,
                    mask_len: rsvd2,
                    address,
                    reserved: octets,
                }
            }
            LCAF_AFI_LIST => {
                let mut addresses = Vec::new();
                while data.remaining() > 0 {
                    addresses.push(Self::read_inner(&mut data, depth)?);
                }
                Lcaf::AfiList {
                    addresses,
                    reserved: [octets[0], octets[1], rsvd2],
                }
            }
            kind => Lcaf::Opaque {
                kind,
                reserved: [octets[0], octets[1], rsvd2],
                data: data.rest().to_vec(),
            },
        })
    }

    fn read_inner(data: &mut Reader<'_>, depth: usize) -> Result<Address, DecodeError> {
        let offset = data.offset();
        let afi = data.u16("AFI")?;
        Address::read_after_afi(data, afi, offset, "AFI", "address", depth)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let len = u16::try_from(self.data_len()).expect("an LCAF holds at most 65535 octets");
        let header = writer.fixed(field::LEN);
        field::TYPE.set(header, self.kind().into());
        field::LENGTH.set(header, len.into());
        let (reserved, rsvd2) = match self {
            Lcaf::InstanceId {
                reserved, mask_len, ..
            } => (*reserved, *mask_len),
            Lcaf::AfiList { reserved, .. } | Lcaf::Opaque { reserved, .. } => {
                ([reserved[0], reserved[1]], reserved[2])
            }
        };
        field::RSVD1.set(header, reserved[0].into());
        field::FLAGS.set(header, reserved[1].into());
        field::RSVD2.set(header, rsvd2.into());
        match self {
            Lcaf::InstanceId { iid, address, .. } => {
                writer.put(&iid.to_be_bytes());
                address.write(writer);
            }
            Lcaf::AfiList { addresses, .. } => {
                addresses.iter().for_each(|address| address.write(writer));
            }
            Lcaf::Opaque { data, .. } => writer.put(data),
        }
    }
}
