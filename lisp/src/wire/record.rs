//! EID records and their locators, shared by Map-Reply, Map-Register, Map-Notify and Map-Referral
//! (RFC 6830 6.1.4; RFC 9301 5.4), and the authentication block.

use super::bits::{Bits, view};
use super::cursor::{Reader, Writer};
use crate::addr::{Address, EidPrefix};
use crate::error::DecodeError;

/// ACT of an EID record without locators (RFC 6830 6.1.4; 4 and 5 are RFC 9301 5.4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Action {
    /// 0.
    #[default]
    NoAction,
    /// 1.
    NativelyForward,
    /// 2.
    SendMapRequest,
    /// 3: drop (RFC 9301: drop/no-reason).
    Drop,
    /// 4 to 7: drop/policy-denied and drop/auth-failure in RFC 9301, otherwise unassigned. In a Map-Referral all values have other meanings.
    Other(u8),
}

/// One EID-to-RLOC mapping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapRecord {
    /// Record TTL in minutes; 0 removes, 0xffffffff never expires.
    pub ttl: u32,
    /// EID mask-len in bits.
    pub eid_mask_len: u8,
    /// What an ITR does when there are no locators.
    pub action: Action,
    /// A bit: the record comes from an ETR of the site.
    pub authoritative: bool,
    /// The 12 bits after A (bit 20 of the word first). RFC 8111 calls the first of them I (incomplete).
    pub reserved: u16,
    /// The 4 bits before the map-version (RFC 8111: SigCnt).
    pub reserved_version: u8,
    /// Map-version number, 12 bits (RFC 6834); 0 when none.
    pub map_version: u16,
    /// The EID; with an Instance ID it is an `Address::Lcaf`.
    pub eid: Address,
    /// The locator-set, at most 255.
    pub locators: Vec<Locator>,
    /// Map-Referral only: signature sections that follow the locators, verbatim; empty elsewhere.
    pub signatures: Vec<u8>,
}

/// One locator of a locator-set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locator {
    /// Unicast priority: lower is preferred, 255 must not be used.
    pub priority: u8,
    /// Unicast weight among equals of priority.
    pub weight: u8,
    /// Multicast priority.
    pub mpriority: u8,
    /// Multicast weight.
    pub mweight: u8,
    /// The 13 unused flag bits before L.
    pub reserved: u16,
    /// L bit: the locator is one of the replying ETR itself.
    pub local: bool,
    /// p bit: this locator was probed.
    pub probed: bool,
    /// R bit: reachable from the replier's point of view.
    pub reachable: bool,
    /// The RLOC.
    pub rloc: Address,
}

/// Key ID, Algorithm ID and authentication data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authentication {
    /// High octet of the key word (RFC 9301 Key ID; zero in RFC 6830).
    pub key_id: u8,
    /// Low octet of the key word (RFC 6830 Key ID, RFC 9301 Algorithm ID).
    pub algorithm: u8,
    /// The code itself; its length is the length field.
    pub data: Vec<u8>,
}

/// The 24 trailing octets of a register or notify with the I bit (RFC 9301 5.6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct XtrSiteId {
    /// 128-bit xTR-ID.
    pub xtr_id: [u8; 16],
    /// 64-bit Site-ID.
    pub site_id: u64,
}

/// The EID record's fixed part (RFC 6830 6.1.4).
pub(crate) mod record_field {
    use super::Bits;
    pub(crate) const LEN: usize = 12;
    pub(crate) const TTL: Bits = Bits::new("Record TTL", 0, 32);
    pub(crate) const LOCATOR_COUNT: Bits = Bits::new("Locator Count", 32, 8);
    pub(crate) const MASK_LEN: Bits = Bits::new("EID mask-len", 40, 8);
    pub(crate) const ACT: Bits = Bits::new("ACT", 48, 3);
    pub(crate) const A: Bits = Bits::new("A (authoritative)", 51, 1);
    pub(crate) const RESERVED: Bits = Bits::new("Reserved", 52, 12);
    pub(crate) const RSVD: Bits = Bits::new("Rsvd", 64, 4);
    pub(crate) const MAP_VERSION: Bits = Bits::new("Map-Version Number", 68, 12);
    pub(crate) const EID_AFI: Bits = Bits::new("EID-Prefix-AFI", 80, 16);
}

/// The locator's fixed part (RFC 6830 6.1.4).
pub(crate) mod locator_field {
    use super::Bits;
    pub(crate) const LEN: usize = 8;
    pub(crate) const PRIORITY: Bits = Bits::new("Priority", 0, 8);
    pub(crate) const WEIGHT: Bits = Bits::new("Weight", 8, 8);
    pub(crate) const M_PRIORITY: Bits = Bits::new("M Priority", 16, 8);
    pub(crate) const M_WEIGHT: Bits = Bits::new("M Weight", 24, 8);
    pub(crate) const UNUSED: Bits = Bits::new("Unused Flags", 32, 13);
    pub(crate) const L: Bits = Bits::new("L (local)", 45, 1);
    pub(crate) const PROBED: Bits = Bits::new("p (probed)", 46, 1);
    pub(crate) const R: Bits = Bits::new("R (reachable)", 47, 1);
    pub(crate) const AFI: Bits = Bits::new("Loc-AFI", 48, 16);
}

/// A signature section of a Map-Referral record (RFC 8111 6.4.1), without the signature.
pub(crate) mod signature_field {
    use super::Bits;
    pub(crate) const LEN: usize = 20;
    pub(crate) const ORIGINAL_TTL: Bits = Bits::new("Original Record TTL", 0, 32);
    pub(crate) const EXPIRATION: Bits = Bits::new("Signature Expiration", 32, 32);
    pub(crate) const INCEPTION: Bits = Bits::new("Signature Inception", 64, 32);
    pub(crate) const KEY_TAG: Bits = Bits::new("Key Tag", 96, 16);
    pub(crate) const SIG_LENGTH: Bits = Bits::new("Sig Length", 112, 16);
    pub(crate) const ALGORITHM: Bits = Bits::new("Sig-Algorithm", 128, 8);
    pub(crate) const RESERVED: Bits = Bits::new("Reserved", 136, 24);
}

view! {
    /// The fixed part of an EID record; the EID-Prefix and the locators are its payload (RFC 6830 6.1.4).
    RecordPacket, "EID record", record_field::LEN, &[];
    /// Record TTL in minutes.
    ttl, set_ttl: u32 = record_field::TTL;
    /// Locator count (RFC 8111: referral count).
    locator_count, set_locator_count: u8 = record_field::LOCATOR_COUNT;
    /// EID mask-len in bits.
    eid_mask_len, set_eid_mask_len: u8 = record_field::MASK_LEN;
    /// ACT, 3 bits.
    action, set_action: u8 = record_field::ACT;
    /// A bit.
    authoritative, set_authoritative: bool = record_field::A;
    /// The 12 bits after A.
    reserved, set_reserved: u16 = record_field::RESERVED;
    /// The 4 bits before the map-version.
    reserved_version, set_reserved_version: u8 = record_field::RSVD;
    /// Map-version number, 12 bits.
    map_version, set_map_version: u16 = record_field::MAP_VERSION;
    /// AFI of the EID-Prefix.
    eid_afi, set_eid_afi: u16 = record_field::EID_AFI;
}

view! {
    /// The fixed part of a locator; the RLOC is its payload (RFC 6830 6.1.4).
    LocatorPacket, "locator", locator_field::LEN, &[];
    /// Unicast priority.
    priority, set_priority: u8 = locator_field::PRIORITY;
    /// Unicast weight.
    weight, set_weight: u8 = locator_field::WEIGHT;
    /// Multicast priority.
    mpriority, set_mpriority: u8 = locator_field::M_PRIORITY;
    /// Multicast weight.
    mweight, set_mweight: u8 = locator_field::M_WEIGHT;
    /// The 13 unused flags.
    reserved, set_reserved: u16 = locator_field::UNUSED;
    /// L bit.
    local, set_local: bool = locator_field::L;
    /// p bit.
    probed, set_probed: bool = locator_field::PROBED;
    /// R bit.
    reachable, set_reachable: bool = locator_field::R;
    /// AFI of the RLOC.
    afi, set_afi: u16 = locator_field::AFI;
}

/// In which message a record stands: only a Map-Referral's has signature sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Mapping,
    Referral,
}

impl Action {
    /// From the 3-bit code.
    pub fn from_code(code: u8) -> Self {
        match code {
            0 => Action::NoAction,
            1 => Action::NativelyForward,
            2 => Action::SendMapRequest,
            3 => Action::Drop,
            other => Action::Other(other),
        }
    }

    /// The 3-bit code.
    pub fn code(self) -> u8 {
        match self {
            Action::NoAction => 0,
            Action::NativelyForward => 1,
            Action::SendMapRequest => 2,
            Action::Drop => 3,
            Action::Other(code) => code,
        }
    }
}

impl MapRecord {
    /// A negative record: no locators, and what an ITR shall do (RFC 6830 6.1.5). `ttl` in minutes.
    pub fn negative(prefix: EidPrefix, ttl: u32, action: Action) -> Self {
        MapRecord {
            ttl,
            eid_mask_len: prefix.prefix.prefix_len(),
            action,
            eid: prefix.to_address(),
            ..MapRecord::default()
        }
    }

    /// The EID-Prefix, where the EID is an IP prefix.
    pub fn eid_prefix(&self) -> Option<EidPrefix> {
        EidPrefix::from_address(&self.eid, self.eid_mask_len)
    }

    /// Octets on the wire.
    pub fn buffer_len(&self) -> usize {
        record_field::LEN - 2
            + self.eid.buffer_len()
            + self.locators.iter().map(Locator::buffer_len).sum::<usize>()
            + self.signatures.len()
    }

    pub(crate) fn read(reader: &mut Reader<'_>, kind: RecordKind) -> Result<Self, DecodeError> {
        let outer = reader.enter("EID record");
        let start = reader.offset();
        let fixed = RecordPacket(reader.take("fixed part", record_field::LEN)?);
        let eid = Address::read_after_afi(
            reader,
            fixed.eid_afi(),
            start + record_field::LEN - 2,
            "EID-Prefix-AFI",
            "EID-Prefix",
            0,
        )?;
        eid.check_mask(reader, start + 5, fixed.eid_mask_len())?;
        let mut locators = Vec::new();
        for _ in 0..fixed.locator_count() {
            locators.push(Locator::read(reader)?);
        }
        let signatures = match kind {
            RecordKind::Mapping => Vec::new(),
            RecordKind::Referral => read_signatures(reader, fixed.reserved_version())?,
        };
        reader.enter(outer);
        Ok(MapRecord {
            ttl: fixed.ttl(),
            eid_mask_len: fixed.eid_mask_len(),
            action: Action::from_code(fixed.action()),
            authoritative: fixed.authoritative(),
            reserved: fixed.reserved(),
            reserved_version: fixed.reserved_version(),
            map_version: fixed.map_version(),
            eid,
            locators,
            signatures,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        let count = u8::try_from(self.locators.len()).expect("a record has at most 255 locators");
        let mut fixed = RecordPacket(writer.fixed(record_field::LEN));
        fixed.set_ttl(self.ttl);
        fixed.set_locator_count(count);
        fixed.set_eid_mask_len(self.eid_mask_len);
        fixed.set_action(self.action.code());
        fixed.set_authoritative(self.authoritative);
        fixed.set_reserved(self.reserved);
        fixed.set_reserved_version(self.reserved_version);
        fixed.set_map_version(self.map_version);
        fixed.set_eid_afi(self.eid.afi());
        self.eid.write_after_afi(writer);
        self.locators
            .iter()
            .for_each(|locator| locator.write(writer));
        writer.put(&self.signatures);
    }

    pub(crate) fn read_all(
        reader: &mut Reader<'_>,
        count: u8,
        kind: RecordKind,
    ) -> Result<Vec<Self>, DecodeError> {
        // Grown record by record: the count is the sender's claim, and each record has to be there.
        let mut records = Vec::new();
        for _ in 0..count {
            records.push(Self::read(reader, kind)?);
        }
        Ok(records)
    }
}

/// The record count octet of a message.
pub(crate) fn count_of<T>(records: &[T]) -> u8 {
    u8::try_from(records.len()).expect("a message has at most 255 records")
}

fn read_signatures(reader: &mut Reader<'_>, count: u8) -> Result<Vec<u8>, DecodeError> {
    let outer = reader.enter("signature section");
    let mut signatures = Vec::new();
    for _ in 0..count {
        let fixed = reader.take("fixed part", signature_field::LEN)?;
        let len = signature_field::SIG_LENGTH.get(fixed) as usize;
        signatures.extend_from_slice(fixed);
        signatures.extend_from_slice(reader.take("Signature", len)?);
    }
    reader.enter(outer);
    Ok(signatures)
}

impl Locator {
    /// Octets on the wire.
    pub fn buffer_len(&self) -> usize {
        locator_field::LEN - 2 + self.rloc.buffer_len()
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let outer = reader.enter("locator");
        let start = reader.offset();
        let fixed = LocatorPacket(reader.take("fixed part", locator_field::LEN)?);
        let afi_offset = start + locator_field::LEN - 2;
        let rloc =
            Address::read_after_afi(reader, fixed.afi(), afi_offset, "Loc-AFI", "Locator", 0)?;
        reader.enter(outer);
        Ok(Locator {
            priority: fixed.priority(),
            weight: fixed.weight(),
            mpriority: fixed.mpriority(),
            mweight: fixed.mweight(),
            reserved: fixed.reserved(),
            local: fixed.local(),
            probed: fixed.probed(),
            reachable: fixed.reachable(),
            rloc,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut fixed = LocatorPacket(writer.fixed(locator_field::LEN));
        fixed.set_priority(self.priority);
        fixed.set_weight(self.weight);
        fixed.set_mpriority(self.mpriority);
        fixed.set_mweight(self.mweight);
        fixed.set_reserved(self.reserved);
        fixed.set_local(self.local);
        fixed.set_probed(self.probed);
        fixed.set_reachable(self.reachable);
        fixed.set_afi(self.rloc.afi());
        self.rloc.write_after_afi(writer);
    }
}

impl Authentication {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [key_id, algorithm] = reader.array("Key ID")?;
        let len = reader.u16("Authentication Data Length")?;
        let data = reader.take("Authentication Data", len.into())?.to_vec();
        Ok(Authentication {
            key_id,
            algorithm,
            data,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        let len =
            u16::try_from(self.data.len()).expect("authentication data has at most 65535 octets");
        writer.put(&[self.key_id, self.algorithm]);
        writer.put(&len.to_be_bytes());
        writer.put(&self.data);
    }

    pub(crate) fn buffer_len(&self) -> usize {
        4 + self.data.len()
    }
}

impl XtrSiteId {
    /// Octets on the wire.
    pub const LEN: usize = 24;

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(XtrSiteId {
            xtr_id: reader.array("xTR-ID")?,
            site_id: reader.u64("Site-ID")?,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.put(&self.xtr_id);
        writer.put(&self.site_id.to_be_bytes());
    }
}
