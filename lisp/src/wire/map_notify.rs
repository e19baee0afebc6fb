//! Map-Notify and Map-Notify-Ack (RFC 6830 6.1.7; RFC 9301 5.7).

use super::bits::{Bits, view};
use super::record::{Authentication, MapRecord, XtrSiteId, count_of};
use super::signed;
use crate::auth::{self, AuthKey};
use crate::error::DecodeError;

/// A Map-Notify (type 4).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapNotify {
    /// Bits 4 to 23 of the first word as they stood: a receiver ignores them, except that bit 4 may announce the ids
    /// (see `xtr_site_id`). Zero in our own.
    pub reserved: u32,
    /// The nonce of the Map-Register that it answers.
    pub nonce: u64,
    /// Key and code.
    pub auth: Authentication,
    /// What was registered.
    pub records: Vec<MapRecord>,
    /// xTR-ID and Site-ID, where the sender repeats them (ambiguities A9). Decoded when octets follow the last record
    /// and bit 4 (the drafts before RFC 9301) or bit 6 (where a Map-Register has its I bit) is set; emitting them
    /// sets bit 4 unless `reserved` has one of the two.
    pub xtr_site_id: Option<XtrSiteId>,
}

/// A Map-Notify-Ack (type 5, RFC 9301): the same layout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapNotifyAck(pub MapNotify);

/// Figure of RFC 9301 5.7; RFC 6830 6.1.7 has the same with a 16-bit Key ID.
pub(crate) mod field {
    use super::Bits;
    pub(crate) const LEN: usize = super::signed::FIXED;
    pub(crate) const TYPE: Bits = Bits::new("Type", 0, 4);
    pub(crate) const RESERVED: Bits = Bits::new("Reserved", 4, 20);
    pub(crate) const RECORD_COUNT: Bits = Bits::new("Record Count", 24, 8);
    pub(crate) const NONCE: Bits = Bits::new("Nonce", 32, 64);
    pub(crate) const KEY_ID: Bits = Bits::new("Key ID", 96, 8);
    pub(crate) const ALGORITHM_ID: Bits = Bits::new("Algorithm ID", 104, 8);
    pub(crate) const AUTH_LENGTH: Bits = Bits::new("Authentication Data Length", 112, 16);
}

/// Bit 4 of the first word, within `reserved`.
const I_BIT: u32 = 1 << 19;
/// Bits 4 and 6 of the first word, within `reserved`.
pub(crate) const I_BITS: u32 = I_BIT | 1 << 17;

view! {
    /// The fixed part of a Map-Notify or Map-Notify-Ack; the payload starts with the authentication data.
    MapNotifyPacket, "Map-Notify", field::LEN, &[4, 5];
    /// Type, 4 or 5.
    kind, set_kind: u8 = field::TYPE;
    /// Bits 4 to 23.
    reserved, set_reserved: u32 = field::RESERVED;
    /// Number of records.
    record_count, set_record_count: u8 = field::RECORD_COUNT;
    /// 64-bit nonce.
    nonce, set_nonce: u64 = field::NONCE;
    /// High octet of the key word.
    key_id, set_key_id: u8 = field::KEY_ID;
    /// Low octet of the key word.
    algorithm_id, set_algorithm_id: u8 = field::ALGORITHM_ID;
    /// Authentication data length in octets.
    auth_length, set_auth_length: u16 = field::AUTH_LENGTH;
}

impl MapNotify {
    /// Decodes a whole UDP payload. The authentication data is not verified: see [`auth::verify`].
    ///
    /// # Errors
    /// When it is cut short, has octets left over, an unknown AFI or a mask-len longer than its EID.
    pub fn parse(buffer: &[u8]) -> Result<Self, DecodeError> {
        Self::parse_kind(buffer, 4, "Map-Notify")
    }

    fn parse_kind(buffer: &[u8], kind: u8, name: &'static str) -> Result<Self, DecodeError> {
        super::bits::check_view(name, buffer, field::LEN, &[kind])?;
        let fixed = MapNotifyPacket(buffer);
        let announced = fixed.reserved() & I_BITS != 0;
        let (auth, records, xtr_site_id) =
            signed::read(name, buffer, fixed.record_count(), |left| {
                announced && left > 0
            })?;
        Ok(MapNotify {
            reserved: fixed.reserved(),
            nonce: fixed.nonce(),
            auth,
            records,
            xtr_site_id,
        })
    }

    /// Octets on the wire.
    pub fn buffer_len(&self) -> usize {
        signed::length(&self.auth, &self.records, self.xtr_site_id.as_ref())
    }

    /// Writes the message into a buffer of exactly `buffer_len()` octets, whatever it held before.
    ///
    /// # Panics
    /// When the buffer has another length, or a count does not fit its field.
    pub fn emit(&self, buffer: &mut [u8]) {
        self.emit_kind(buffer, 4);
    }

    fn emit_kind(&self, buffer: &mut [u8], kind: u8) {
        let mut reserved = self.reserved;
        if self.xtr_site_id.is_some() && reserved & I_BITS == 0 {
            reserved |= I_BIT;
        }
        let mut header = [0; field::LEN];
        let mut fixed = MapNotifyPacket(&mut header);
        fixed.set_kind(kind);
        fixed.set_reserved(reserved);
        fixed.set_record_count(count_of(&self.records));
        fixed.set_nonce(self.nonce);
        let ids = self.xtr_site_id.as_ref();
        signed::write(buffer, &header, &self.auth, &self.records, ids);
    }

    impl_to_vec!();

    /// The message with the key's ids and code in place of `self.auth`.
    pub fn to_signed_vec(&self, key: &AuthKey) -> Vec<u8> {
        auth::emit_signed(
            MapNotify {
                auth: key.blank(),
                ..self.clone()
            }
            .to_vec(),
            key,
        )
    }
}

impl MapNotifyAck {
    /// Decodes a whole UDP payload. The authentication data is not verified: see [`auth::verify`].
    ///
    /// # Errors
    /// As [`MapNotify::parse`].
    pub fn parse(buffer: &[u8]) -> Result<Self, DecodeError> {
        MapNotify::parse_kind(buffer, 5, "Map-Notify-Ack").map(MapNotifyAck)
    }

    /// Octets on the wire.
    pub fn buffer_len(&self) -> usize {
        self.0.buffer_len()
    }

    /// Writes the message into a buffer of exactly `buffer_len()` octets, whatever it held before.
    ///
    /// # Panics
    /// As [`MapNotify::emit`].
    pub fn emit(&self, buffer: &mut [u8]) {
        self.0.emit_kind(buffer, 5);
    }

    impl_to_vec!();

    /// The message with the key's ids and code in place of its own.
    pub fn to_signed_vec(&self, key: &AuthKey) -> Vec<u8> {
        let blank = MapNotifyAck(MapNotify {
            auth: key.blank(),
            ..self.0.clone()
        });
        auth::emit_signed(blank.to_vec(), key)
    }
}
