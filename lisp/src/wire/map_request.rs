//! Map-Request (RFC 6830 6.1.2; RFC 9301 5.2).

use super::record::MapRecord;
use crate::addr::Address;

/// A Map-Request, a Solicit-Map-Request or an RLOC-probe.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Bits 10 to 16 of the first word as they stood (bit 10 is the most significant of seven).
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
}

/// One EID that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EidQuery {
    /// The reserved octet before the mask-len.
    pub reserved: u8,
    /// Mask length of the question in bits.
    pub mask_len: u8,
    /// The EID asked for.
    pub eid: Address,
}
