//! Authentication of Map-Register, Map-Notify and Map-Notify-Ack (RFC 6830 6.1.6, 14.4; RFC 9301 5.6).

/// How a message authentication code is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MacAlgorithm {
    /// Algorithm ID 1, 12 octets (RFC 2404).
    HmacSha1_96,
    /// Algorithm ID 2, 16 octets (RFC 4868).
    HmacSha256_128,
    /// Algorithm ID 1 with the untruncated 20 octets that some deployed implementations send (ambiguities A2).
    HmacSha1Full,
    /// Algorithm ID 2 with the untruncated 32 octets that some deployed implementations send (ambiguities A2).
    HmacSha256Full,
}

/// A shared key, prepared for repeated use.
#[derive(Clone)]
pub struct AuthKey {
    /// Key ID as carried on the wire (high octet of the key word in RFC 9301; 0 in RFC 6830 terms).
    pub key_id: u8,
    /// Which code this key makes.
    pub algorithm: MacAlgorithm,
    secret: Vec<u8>,
}

/// Why a message was not authentic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The message carries no authentication field or is cut inside it.
    #[error("the message ends inside its authentication field: {0}")]
    Truncated(String),
    /// Algorithm ID and data length are not of a form that is accepted here.
    #[error("algorithm {algorithm} with {length} octets of authentication data is not accepted")]
    Form {
        /// Algorithm ID found.
        algorithm: u8,
        /// Authentication data length found.
        length: u16,
    },
    /// The code does not match: wrong key or altered message.
    #[error("the authentication data does not match the key")]
    Mismatch,
}
