//! LISP data header (RFC 6830 5.1, 5.3; RFC 9300 5).

/// The 8 octets between the outer UDP header and the inner packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DataHeader {
    /// N bit: a nonce is present (24 bits).
    pub nonce: Option<u32>,
    /// L bit: locator-status bits are in use; ordinal 0 is the least significant bit.
    /// 32 bits, or 8 when an Instance ID is present.
    pub locator_status: Option<u32>,
    /// E bit: echo the nonce.
    pub echo_request: bool,
    /// V bit: (source, destination) map-version, 12 bits each.
    pub map_version: Option<(u16, u16)>,
    /// I bit: Instance ID, 24 bits.
    pub instance_id: Option<u32>,
    /// The three low flag bits (reserved in RFC 6830; R and KK in RFC 9300).
    pub flags: u8,
    /// Nonce/map-version field as it stood when neither N nor V is set (24 bits), or when both are.
    pub raw_nonce: u32,
    /// Second word as it stood where no flag claims its bits.
    pub raw_lsb: u32,
}

/// Length of the LISP data header in octets.
pub const DATA_HEADER_LEN: usize = 8;
