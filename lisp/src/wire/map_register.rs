//! Map-Register (RFC 6830 6.1.6; RFC 9301 5.6).

use super::record::{Authentication, MapRecord, XtrSiteId};

/// A Map-Register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapRegister {
    /// P bit: the Map-Server shall answer Map-Requests itself.
    pub proxy_reply: bool,
    /// S bit (RFC 9301): LISP-SEC capable.
    pub security: bool,
    /// E bit (RFC 9301): explicit EID registration interest.
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
