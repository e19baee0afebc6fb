//! EID records and their locators, shared by Map-Reply, Map-Register, Map-Notify and Map-Referral
//! (RFC 6830 6.1.4; RFC 9301 5.4), and the authentication block.

use crate::addr::Address;

/// ACT of an EID record without locators (RFC 6830 6.1.4; 4 and 5 are RFC 9301 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// 0.
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authentication {
    /// High octet of the key word (RFC 9301 Key ID; zero in RFC 6830).
    pub key_id: u8,
    /// Low octet of the key word (RFC 6830 Key ID, RFC 9301 Algorithm ID).
    pub algorithm: u8,
    /// The code itself; its length is the length field.
    pub data: Vec<u8>,
}

/// The 24 trailing octets of a register or notify with the I bit (RFC 9301 5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XtrSiteId {
    /// 128-bit xTR-ID.
    pub xtr_id: [u8; 16],
    /// 64-bit Site-ID.
    pub site_id: u64,
}
