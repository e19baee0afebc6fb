//! Map-Register (RFC 6830 6.1.6; RFC 9301 5.6).

use super::bits::{Bits, view};
use super::record::{Authentication, MapRecord, XtrSiteId, count_of};
use super::signed;
use crate::auth::{self, AuthKey};
use crate::error::DecodeError;

/// A Map-Register.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapRegister {
    /// P bit: the Map-Server shall answer Map-Requests itself.
    pub proxy_reply: bool,
    /// S bit (RFC 9301): LISP-SEC capable.
    pub security: bool,
    /// E bit (RFC 9301): the registration asks that a first-hop router be notified of the EID.
    pub eid_notify: bool,
    /// T bit (RFC 9301): the record TTL is to be used for the registration.
    pub use_ttl: bool,
    /// a bit (RFC 9301): merge of locator-sets asked for.
    pub merge: bool,
    /// R bit (RFC 9301): reserved.
    pub rtr: bool,
    /// M bit: want-map-notify.
    pub want_map_notify: bool,
    /// Bits 7 to 18 of the first word (bit 7 is the most significant of twelve).
    pub reserved: u16,
    /// Nonce: 0 in RFC 6830, increasing in RFC 9301.
    pub nonce: u64,
    /// Key and code.
    pub auth: Authentication,
    /// What is registered.
    pub records: Vec<MapRecord>,
    /// xTR-ID and Site-ID; present exactly with the I bit.
    pub xtr_site_id: Option<XtrSiteId>,
}

/// Figure of RFC 9301 5.6; in RFC 6830 6.1.6 only P and M have a meaning.
pub(crate) mod field {
    use super::Bits;
    pub(crate) const LEN: usize = super::signed::FIXED;
    pub(crate) const TYPE: Bits = Bits::new("Type", 0, 4);
    pub(crate) const PROXY_REPLY: Bits = Bits::new("P (proxy Map-Reply)", 4, 1);
    pub(crate) const SECURITY: Bits = Bits::new("S (security)", 5, 1);
    pub(crate) const IDS: Bits = Bits::new("I (xTR-ID present)", 6, 1);
    pub(crate) const RESERVED: Bits = Bits::new("Reserved", 7, 12);
    pub(crate) const EID_NOTIFY: Bits = Bits::new("E (EID-notify)", 19, 1);
    pub(crate) const USE_TTL: Bits = Bits::new("T (use TTL)", 20, 1);
    pub(crate) const MERGE: Bits = Bits::new("a (merge)", 21, 1);
    pub(crate) const RTR: Bits = Bits::new("R (reserved)", 22, 1);
    pub(crate) const WANT_NOTIFY: Bits = Bits::new("M (want-map-notify)", 23, 1);
    pub(crate) const RECORD_COUNT: Bits = Bits::new("Record Count", 24, 8);
    pub(crate) const NONCE: Bits = Bits::new("Nonce", 32, 64);
    pub(crate) const KEY_ID: Bits = Bits::new("Key ID", 96, 8);
    pub(crate) const ALGORITHM_ID: Bits = Bits::new("Algorithm ID", 104, 8);
    pub(crate) const AUTH_LENGTH: Bits = Bits::new("Authentication Data Length", 112, 16);
}

view! {
    /// The fixed part of a Map-Register; the payload starts with the authentication data (RFC 6830 6.1.6).
    MapRegisterPacket, "Map-Register", field::LEN, &[3];
    /// Type, 3.
    kind, set_kind: u8 = field::TYPE;
    /// P bit.
    proxy_reply, set_proxy_reply: bool = field::PROXY_REPLY;
    /// S bit (RFC 9301).
    security, set_security: bool = field::SECURITY;
    /// I bit (RFC 9301): xTR-ID and Site-ID at the end.
    has_ids, set_has_ids: bool = field::IDS;
    /// Bits 7 to 18.
    reserved, set_reserved: u16 = field::RESERVED;
    /// E bit (RFC 9301).
    eid_notify, set_eid_notify: bool = field::EID_NOTIFY;
    /// T bit (RFC 9301).
    use_ttl, set_use_ttl: bool = field::USE_TTL;
    /// a bit (RFC 9301).
    merge, set_merge: bool = field::MERGE;
    /// R bit (RFC 9301: reserved).
    rtr, set_rtr: bool = field::RTR;
    /// M bit.
    want_map_notify, set_want_map_notify: bool = field::WANT_NOTIFY;
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

impl MapRegister {
    /// Decodes a whole UDP payload. The authentication data is not verified: see [`auth::verify`].
    ///
    /// # Errors
    /// When it is cut short, has octets left over, an unknown AFI or a mask-len longer than its EID.
    pub fn parse(buffer: &[u8]) -> Result<Self, DecodeError> {
        let fixed = MapRegisterPacket::new_checked(buffer)?;
        let (auth, records, xtr_site_id) =
            signed::read("Map-Register", buffer, fixed.record_count(), |_| {
                fixed.has_ids()
            })?;
        Ok(MapRegister {
            proxy_reply: fixed.proxy_reply(),
            security: fixed.security(),
            eid_notify: fixed.eid_notify(),
            use_ttl: fixed.use_ttl(),
            merge: fixed.merge(),
            rtr: fixed.rtr(),
            want_map_notify: fixed.want_map_notify(),
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
        let mut header = [0; field::LEN];
        let mut fixed = MapRegisterPacket(&mut header);
        fixed.set_kind(3);
        fixed.set_proxy_reply(self.proxy_reply);
        fixed.set_security(self.security);
        fixed.set_has_ids(self.xtr_site_id.is_some());
        fixed.set_reserved(self.reserved);
        fixed.set_eid_notify(self.eid_notify);
        fixed.set_use_ttl(self.use_ttl);
        fixed.set_merge(self.merge);
        fixed.set_rtr(self.rtr);
        fixed.set_want_map_notify(self.want_map_notify);
        fixed.set_record_count(count_of(&self.records));
        fixed.set_nonce(self.nonce);
        let ids = self.xtr_site_id.as_ref();
        signed::write(buffer, &header, &self.auth, &self.records, ids);
    }

    impl_to_vec!();

    /// The message with the key's ids and code in place of `self.auth`.
    pub fn to_signed_vec(&self, key: &AuthKey) -> Vec<u8> {
        auth::emit_signed(
            MapRegister {
                auth: key.blank(),
                ..self.clone()
            }
            .to_vec(),
            key,
        )
    }
}
