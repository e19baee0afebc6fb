//! Map-Request (RFC 6830 6.1.2; RFC 9301 5.2).

use super::bits::{Bits, view};
use super::cursor::{Reader, Writer};
use super::message_reader;
use super::record::{MapRecord, RecordKind, XtrSiteId, count_of};
use crate::addr::{Address, EidPrefix};
use crate::error::DecodeError;

/// A Map-Request, a Solicit-Map-Request or an RLOC-probe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapRequest {
    /// A bit: only an ETR of the site may answer.
    pub authoritative: bool,
    /// P bit: this is an RLOC-probe.
    pub probe: bool,
    /// S bit: Solicit-Map-Request.
    pub smr: bool,
    /// p bit: sent by a PITR.
    pub pitr: bool,
    /// s bit: SMR-invoked.
    pub smr_invoked: bool,
    /// L bit (RFC 9301): sent by a local xTR.
    pub local_xtr: bool,
    /// D bit (RFC 9301): dont-map-reply.
    pub dont_reply: bool,
    /// Bits 10 to 16 of the first word as they stood (bit 10 is the most significant of seven). Bit 11 is the I bit of
    /// RFC 9437, which a 6830 receiver ignores.
    pub reserved: u8,
    /// 64-bit nonce.
    pub nonce: u64,
    /// Source-EID; `Address::None` when there is none.
    pub source_eid: Address,
    /// 1 to 32 ITR-RLOCs (the count field holds the count minus one).
    pub itr_rlocs: Vec<Address>,
    /// The questions; more than one is accepted and never sent (RFC 6830 6.1.2).
    pub records: Vec<EidQuery>,
    /// M bit: the sender's own mapping, appended.
    pub map_reply: Option<MapRecord>,
    /// xTR-ID and Site-ID at the end (RFC 9437 4); emitting them sets the I bit.
    pub xtr_site_id: Option<XtrSiteId>,
}

/// One EID that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EidQuery {
    /// The reserved octet before the mask-len (RFC 9437: its first bit is N).
    pub reserved: u8,
    /// Mask length of the question in bits.
    pub mask_len: u8,
    /// The EID asked for.
    pub eid: Address,
}

/// Figure of RFC 6830 6.1.2; L and D are RFC 9301 5.2.
pub(crate) mod field {
    use super::Bits;
    pub(crate) const LEN: usize = 12;
    pub(crate) const TYPE: Bits = Bits::new("Type", 0, 4);
    pub(crate) const A: Bits = Bits::new("A (authoritative)", 4, 1);
    pub(crate) const M: Bits = Bits::new("M (map-data-present)", 5, 1);
    pub(crate) const PROBE: Bits = Bits::new("P (probe)", 6, 1);
    pub(crate) const SMR: Bits = Bits::new("S (Solicit-Map-Request)", 7, 1);
    pub(crate) const PITR: Bits = Bits::new("p (PITR)", 8, 1);
    pub(crate) const SMR_INVOKED: Bits = Bits::new("s (SMR-invoked)", 9, 1);
    pub(crate) const RESERVED: Bits = Bits::new("Reserved", 10, 7);
    pub(crate) const LOCAL_XTR: Bits = Bits::new("L (local-xtr)", 17, 1);
    pub(crate) const DONT_REPLY: Bits = Bits::new("D (dont-map-reply)", 18, 1);
    pub(crate) const IRC: Bits = Bits::new("IRC (ITR-RLOC Count)", 19, 5);
    pub(crate) const RECORD_COUNT: Bits = Bits::new("Record Count", 24, 8);
    pub(crate) const NONCE: Bits = Bits::new("Nonce", 32, 64);
}

/// The I bit of RFC 9437 within `MapRequest::reserved`: bit 11 of the first word.
const I_BIT: u8 = 0b010_0000;

view! {
    /// The fixed part of a Map-Request; the payload starts with the Source-EID-AFI (RFC 6830 6.1.2).
    MapRequestPacket, "Map-Request", field::LEN, &[1];
    /// Type, 1.
    kind, set_kind: u8 = field::TYPE;
    /// A bit.
    authoritative, set_authoritative: bool = field::A;
    /// M bit: a record of the sender is appended.
    map_data, set_map_data: bool = field::M;
    /// P bit.
    probe, set_probe: bool = field::PROBE;
    /// S bit.
    smr, set_smr: bool = field::SMR;
    /// p bit.
    pitr, set_pitr: bool = field::PITR;
    /// s bit.
    smr_invoked, set_smr_invoked: bool = field::SMR_INVOKED;
    /// Bits 10 to 16.
    reserved, set_reserved: u8 = field::RESERVED;
    /// L bit (RFC 9301).
    local_xtr, set_local_xtr: bool = field::LOCAL_XTR;
    /// D bit (RFC 9301).
    dont_reply, set_dont_reply: bool = field::DONT_REPLY;
    /// ITR-RLOC count minus one, 5 bits.
    irc, set_irc: u8 = field::IRC;
    /// Number of EID records asked for.
    record_count, set_record_count: u8 = field::RECORD_COUNT;
    /// 64-bit nonce.
    nonce, set_nonce: u64 = field::NONCE;
}

impl MapRequest {
    /// Decodes a whole UDP payload.
    ///
    /// # Errors
    /// When it is cut short, has octets left over, an unknown AFI or a mask-len longer than its EID.
    pub fn parse(buffer: &[u8]) -> Result<Self, DecodeError> {
        let fixed = MapRequestPacket::new_checked(buffer)?;
        let mut reader = message_reader("Map-Request", buffer, field::LEN)?;
        let reader = &mut reader;
        let source_eid = Address::read(reader, "Source-EID-AFI", "Source EID Address")?;
        let mut itr_rlocs = Vec::new();
        for _ in 0..=fixed.irc() {
            itr_rlocs.push(Address::read(reader, "ITR-RLOC-AFI", "ITR-RLOC Address")?);
        }
        let mut records = Vec::new();
        for _ in 0..fixed.record_count() {
            records.push(EidQuery::read(reader)?);
        }
        let map_reply = match fixed.map_data() {
            true => Some(MapRecord::read(reader, RecordKind::Mapping)?),
            false => None,
        };
        // A 6830 sender may have bit 11 set without a meaning: the ids are there or they are not.
        let xtr_site_id = match fixed.reserved() & I_BIT != 0 && reader.remaining() > 0 {
            true => Some(XtrSiteId::read(reader)?),
            false => None,
        };
        reader.finish("the last record")?;
        Ok(MapRequest {
            authoritative: fixed.authoritative(),
            probe: fixed.probe(),
            smr: fixed.smr(),
            pitr: fixed.pitr(),
            smr_invoked: fixed.smr_invoked(),
            local_xtr: fixed.local_xtr(),
            dont_reply: fixed.dont_reply(),
            reserved: fixed.reserved(),
            nonce: fixed.nonce(),
            source_eid,
            itr_rlocs,
            records,
            map_reply,
            xtr_site_id,
        })
    }

    /// Octets on the wire.
    pub fn buffer_len(&self) -> usize {
        field::LEN
            + self.source_eid.buffer_len()
            + self
                .itr_rlocs
                .iter()
                .map(Address::buffer_len)
                .sum::<usize>()
            + self.records.iter().map(EidQuery::buffer_len).sum::<usize>()
            + self.map_reply.as_ref().map_or(0, MapRecord::buffer_len)
            + self.xtr_site_id.map_or(0, |_| XtrSiteId::LEN)
    }

    /// Writes the message into a buffer of exactly `buffer_len()` octets, whatever it held before.
    ///
    /// # Panics
    /// When the buffer has another length, or there are not 1 to 32 ITR-RLOCs (more cannot be expressed), or more than
    /// 255 records.
    pub fn emit(&self, buffer: &mut [u8]) {
        let mut writer = Writer::new(buffer);
        let writer_ref = &mut writer;
        let irc = self.itr_rlocs.len().wrapping_sub(1);
        assert!(
            irc < 32,
            "a Map-Request has 1 to 32 ITR-RLOCs, not {}",
            self.itr_rlocs.len()
        );
        let mut fixed = MapRequestPacket(writer_ref.fixed(field::LEN));
        fixed.set_kind(1);
        fixed.set_authoritative(self.authoritative);
        fixed.set_map_data(self.map_reply.is_some());
        fixed.set_probe(self.probe);
        fixed.set_smr(self.smr);
        fixed.set_pitr(self.pitr);
        fixed.set_smr_invoked(self.smr_invoked);
        fixed.set_reserved(self.reserved | self.xtr_site_id.map_or(0, |_| I_BIT));
        fixed.set_local_xtr(self.local_xtr);
        fixed.set_dont_reply(self.dont_reply);
        fixed.set_irc(irc as u8);
        fixed.set_record_count(count_of(&self.records));
        fixed.set_nonce(self.nonce);
        self.source_eid.write(writer_ref);
        self.itr_rlocs
            .iter()
            .for_each(|rloc| rloc.write(writer_ref));
        self.records
            .iter()
            .for_each(|query| query.write(writer_ref));
        if let Some(record) = &self.map_reply {
            record.write(writer_ref);
        }
        if let Some(ids) = &self.xtr_site_id {
            ids.write(writer_ref);
        }
        writer.finish();
    }

    impl_to_vec!();
}

/// The question's fixed part (RFC 6830 6.1.2, "Rec").
pub(crate) mod query_field {
    use super::Bits;
    pub(crate) const LEN: usize = 4;
    pub(crate) const RESERVED: Bits = Bits::new("Reserved", 0, 8);
    pub(crate) const MASK_LEN: Bits = Bits::new("EID mask-len", 8, 8);
    pub(crate) const AFI: Bits = Bits::new("EID-Prefix-AFI", 16, 16);
}

impl EidQuery {
    /// The question for a prefix.
    pub fn new(prefix: EidPrefix) -> Self {
        EidQuery {
            reserved: 0,
            mask_len: prefix.prefix.prefix_len(),
            eid: prefix.to_address(),
        }
    }

    /// The prefix asked for, where it is an IP prefix.
    pub fn prefix(&self) -> Option<EidPrefix> {
        EidPrefix::from_address(&self.eid, self.mask_len)
    }

    fn buffer_len(&self) -> usize {
        query_field::LEN - 2 + self.eid.buffer_len()
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.offset();
        let [reserved, mask_len] = reader.array("EID mask-len")?;
        let eid = Address::read(reader, "EID-Prefix-AFI", "EID-Prefix")?;
        eid.check_mask(reader, start + 1, mask_len)?;
        Ok(EidQuery {
            reserved,
            mask_len,
            eid,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.put(&[self.reserved, self.mask_len]);
        self.eid.write(writer);
    }
}
