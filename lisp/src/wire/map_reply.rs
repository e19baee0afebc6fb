//! Map-Reply (RFC 6830 6.1.4; RFC 9301 5.4).

use super::record::MapRecord;

/// A Map-Reply, positive or negative, or the answer to an RLOC-probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapReply {
    /// P bit: answers an RLOC-probe.
    pub probe: bool,
    /// E bit: the sender is echo-nonce capable.
    pub echo_nonce: bool,
    /// S bit: LISP-SEC data follows.
    pub security: bool,
    /// Bits 7 to 23 of the first word.
    pub reserved: u32,
    /// The nonce of the request.
    pub nonce: u64,
    /// The answers.
    pub records: Vec<MapRecord>,
    /// Octets after the records (LISP-SEC authentication data when S is set), verbatim.
    pub trailer: Vec<u8>,
}
