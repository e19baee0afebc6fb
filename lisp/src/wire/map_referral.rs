//! Map-Referral (RFC 8111 6.4).

use super::record::MapRecord;

/// A Map-Referral (type 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapReferral {
    /// Bits 4 to 23 of the first word.
    pub reserved: u32,
    /// The nonce of the request.
    pub nonce: u64,
    /// Referrals: `action` is the action code of RFC 8111, the first reserved bit is I (incomplete).
    pub records: Vec<MapRecord>,
}
