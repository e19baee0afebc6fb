//! Map-Referral (RFC 8111 6.4).

use super::bits::{Bits, view};
use super::cursor::Writer;
use super::message_reader;
use super::record::{MapRecord, RecordKind, count_of};
use crate::error::DecodeError;

/// A Map-Referral (type 6).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapReferral {
    /// Bits 4 to 23 of the first word.
    pub reserved: u32,
    /// The nonce of the request.
    pub nonce: u64,
    /// Referrals: `action` is the action code of RFC 8111, the first reserved bit is I (incomplete).
    pub records: Vec<MapRecord>,
}

/// Figure of RFC 8111 6.4.
pub(crate) mod field {
    use super::Bits;
    pub(crate) const LEN: usize = 12;
    pub(crate) const TYPE: Bits = Bits::new("Type", 0, 4);
    pub(crate) const RESERVED: Bits = Bits::new("Reserved", 4, 20);
    pub(crate) const RECORD_COUNT: Bits = Bits::new("Record Count", 24, 8);
    pub(crate) const NONCE: Bits = Bits::new("Nonce", 32, 64);
}

view! {
    /// The fixed part of a Map-Referral; the records are its payload (RFC 8111 6.4).
    MapReferralPacket, "Map-Referral", field::LEN, &[6];
    /// Type, 6.
    kind, set_kind: u8 = field::TYPE;
    /// Bits 4 to 23.
    reserved, set_reserved: u32 = field::RESERVED;
    /// Number of records.
    record_count, set_record_count: u8 = field::RECORD_COUNT;
    /// 64-bit nonce.
    nonce, set_nonce: u64 = field::NONCE;
}

impl MapReferral {
    /// Decodes a whole UDP payload.
    ///
    /// # Errors
    /// When it is cut short, has octets left over, an unknown AFI or a mask-len longer than its EID.
    pub fn parse(buffer: &[u8]) -> Result<Self, DecodeError> {
        let fixed = MapReferralPacket::new_checked(buffer)?;
        let mut reader = message_reader("Map-Referral", buffer, field::LEN)?;
        let records = MapRecord::read_all(&mut reader, fixed.record_count(), RecordKind::Referral)?;
        reader.finish("the last record")?;
        Ok(MapReferral {
            reserved: fixed.reserved(),
            nonce: fixed.nonce(),
            records,
        })
    }

    /// Octets on the wire.
    pub fn buffer_len(&self) -> usize {
        field::LEN
            + self
                .records
                .iter()
                .map(MapRecord::buffer_len)
                .sum::<usize>()
    }

    /// Writes the message into a buffer of exactly `buffer_len()` octets, whatever it held before.
    ///
    /// # Panics
    /// When the buffer has another length, or a count does not fit its octet.
    pub fn emit(&self, buffer: &mut [u8]) {
        let mut writer = Writer::new(buffer);
        let mut fixed = MapReferralPacket(writer.fixed(field::LEN));
        fixed.set_kind(6);
        fixed.set_reserved(self.reserved);
        fixed.set_record_count(count_of(&self.records));
        fixed.set_nonce(self.nonce);
        self.records
            .iter()
            .for_each(|record| record.write(&mut writer));
        writer.finish();
    }

    impl_to_vec!();
}
