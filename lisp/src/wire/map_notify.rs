//! Map-Notify and Map-Notify-Ack (RFC 6830 6.1.7; RFC 9301 5.7).

use super::record::{Authentication, MapRecord, XtrSiteId};

/// A Map-Notify (type 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapNotify {
    /// Bits 4 to 23 of the first word, except the I bit (bit 5), which is `xtr_site_id`.
    pub reserved: u32,
    /// The nonce of the Map-Register that it answers.
    pub nonce: u64,
    /// Key and code.
    pub auth: Authentication,
    /// What was registered.
    pub records: Vec<MapRecord>,
    /// xTR-ID and Site-ID, where the sender repeats them (ambiguities A9).
    pub xtr_site_id: Option<XtrSiteId>,
}

/// A Map-Notify-Ack (type 5, RFC 9301): the same layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapNotifyAck(pub MapNotify);
