//! Authentication of Map-Register, Map-Notify and Map-Notify-Ack (RFC 6830 6.1.6, 14.4; RFC 9301 5.6).

use std::fmt;
use std::str::FromStr;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

use crate::wire::Authentication;
use crate::wire::cursor::Reader;
use crate::wire::record::{MapRecord, RecordKind};

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
    /// Algorithm ID 3, 16 octets under a key derived for each message (RFC 9301 5.6), in one of the readings that the
    /// text allows (ambiguities A3).
    HkdfSha256(HkdfReading),
}

/// How the per-message key of algorithm 3 is derived. RFC 9301 5.6 gives KDF(nonce + PSK, s) and calls s the salt, but
/// neither the HKDF's info nor its output length (ambiguities A3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HkdfReading {
    /// Input key nonce + PSK, salt s, no info, 32 octets. What we send.
    Salt32,
    /// The same with 16 octets.
    Salt16,
    /// Input key nonce + PSK, no salt, info s, 32 octets.
    Info32,
    /// Extract only: the pseudorandom key of nonce + PSK under salt s.
    ExtractOnly,
}

impl HkdfReading {
    /// Every reading.
    pub const ALL: [HkdfReading; 4] = [
        HkdfReading::Salt32,
        HkdfReading::Salt16,
        HkdfReading::Info32,
        HkdfReading::ExtractOnly,
    ];
}

impl fmt::Display for HkdfReading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HkdfReading::Salt32 => "salt s, 32 octets",
            HkdfReading::Salt16 => "salt s, 16 octets",
            HkdfReading::Info32 => "info s, 32 octets",
            HkdfReading::ExtractOnly => "extract only, salt s",
        })
    }
}

/// How far a code reaches in a message with xTR-ID and Site-ID (ambiguities A4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coverage {
    /// The whole UDP payload.
    WholePayload,
    /// Through the end of the last RLOC record: without xTR-ID and Site-ID.
    ThroughLastRecord,
}

/// A shared key, prepared for repeated use: the hash of the padded key is computed once.
#[derive(Clone)]
pub struct AuthKey {
    /// Key ID as carried on the wire (high octet of the key word in RFC 9301; 0 in RFC 6830 terms).
    pub key_id: u8,
    /// Which code this key makes.
    pub algorithm: MacAlgorithm,
    secret: Vec<u8>,
    sha1: Hmac<Sha1>,
    sha256: Hmac<Sha256>,
}

/// Why a message was not authentic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The message carries no authentication field or is cut inside it.
    #[error("the message ends inside its authentication field: {0}")]
    Truncated(String),
    /// A message of a type that has no authentication field.
    #[error(
        "expected a Map-Register, Map-Notify or Map-Notify-Ack (type 3, 4 or 5), found type {0}"
    )]
    Kind(u8),
    /// The message names another key.
    #[error("the message is authenticated with key ID {found}, expected {expected}")]
    KeyId {
        /// Key ID of the key at hand.
        expected: u8,
        /// Key ID found.
        found: u8,
    },
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

impl MacAlgorithm {
    /// Algorithm ID (RFC 9301 12.5; in RFC 6830 14.4 this is the Key ID).
    pub fn id(self) -> u8 {
        match self {
            MacAlgorithm::HmacSha1_96 | MacAlgorithm::HmacSha1Full => 1,
            MacAlgorithm::HmacSha256_128 | MacAlgorithm::HmacSha256Full => 2,
            MacAlgorithm::HkdfSha256(_) => 3,
        }
    }

    /// Authentication data length in octets.
    pub fn data_len(self) -> usize {
        match self {
            MacAlgorithm::HmacSha1_96 => 12,
            MacAlgorithm::HmacSha256_128 | MacAlgorithm::HkdfSha256(_) => 16,
            MacAlgorithm::HmacSha1Full => 20,
            MacAlgorithm::HmacSha256Full => 32,
        }
    }

    /// The algorithm of a received Algorithm ID and data length; algorithm 3 in the reading that we send.
    pub fn from_wire(id: u8, data_len: usize) -> Option<Self> {
        Self::NAMED
            .iter()
            .map(|(_, algorithm)| *algorithm)
            .find(|algorithm| algorithm.id() == id && algorithm.data_len() == data_len)
    }

    /// The names that configurations use.
    pub fn names() -> [&'static str; 5] {
        Self::NAMED.map(|(name, _)| name)
    }

    const NAMED: [(&'static str, MacAlgorithm); 5] = [
        ("hmac-sha-1-96", MacAlgorithm::HmacSha1_96),
        ("hmac-sha-256-128", MacAlgorithm::HmacSha256_128),
        ("hmac-sha-1-full", MacAlgorithm::HmacSha1Full),
        ("hmac-sha-256-full", MacAlgorithm::HmacSha256Full),
        (
            "hmac-sha-256-128+hkdf-sha-256",
            MacAlgorithm::HkdfSha256(HkdfReading::Salt32),
        ),
    ];
}

impl fmt::Display for MacAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::NAMED.iter().find(|(_, algorithm)| algorithm == self);
        match (known, self) {
            (Some((name, _)), _) => f.write_str(name),
            (None, MacAlgorithm::HkdfSha256(reading)) => {
                write!(f, "hmac-sha-256-128+hkdf-sha-256 ({reading})")
            }
            (None, other) => write!(f, "{other:?}"),
        }
    }
}

/// A text that names no algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct ParseAlgorithmError {
    expected: String,
    found: String,
}

impl FromStr for MacAlgorithm {
    type Err = ParseAlgorithmError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::NAMED.iter().find(|(name, _)| *name == text);
        known
            .map(|(_, algorithm)| *algorithm)
            .ok_or_else(|| ParseAlgorithmError {
                expected: Self::names().join(", "),
                found: text.to_owned(),
            })
    }
}

/// Never shows the secret.
impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthKey")
            .field("key_id", &self.key_id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// HMAC takes keys of any length.
const ANY_LENGTH: &str = "HMAC takes a key of any length";

impl AuthKey {
    /// Prepares a key.
    pub fn new(key_id: u8, algorithm: MacAlgorithm, secret: &[u8]) -> Self {
        AuthKey {
            key_id,
            algorithm,
            secret: secret.to_vec(),
            sha1: Hmac::new_from_slice(secret).expect(ANY_LENGTH),
            sha256: Hmac::new_from_slice(secret).expect(ANY_LENGTH),
        }
    }

    /// An authentication field with this key's ids and zeros for the code.
    pub fn blank(&self) -> Authentication {
        Authentication {
            key_id: self.key_id,
            algorithm: self.algorithm.id(),
            data: vec![0; self.algorithm.data_len()],
        }
    }
}

/// Where the authentication field of types 3, 4 and 5 stands.
const KEY_ID: usize = 12;
const ALGORITHM_ID: usize = 13;
const LENGTH: usize = 14;
const DATA: usize = 16;
/// Longer than any code: what stands in for the authentication data while the code is computed.
const ZEROS: [u8; 32] = [0; 32];

/// Writes the key's ids and code into an emitted Map-Register, Map-Notify or Map-Notify-Ack whose authentication data has
/// the right length and any content. The code covers the whole payload.
///
/// # Errors
/// When the message is none of these, is cut inside the authentication field, or its data length is not the algorithm's.
pub fn sign(message: &mut [u8], key: &AuthKey) -> Result<(), AuthError> {
    sign_covering(message, key, Coverage::WholePayload)
}

/// As [`sign`], with a choice of how far the code reaches.
///
/// # Errors
/// As [`sign`].
pub fn sign_covering(
    message: &mut [u8],
    key: &AuthKey,
    coverage: Coverage,
) -> Result<(), AuthError> {
    let len = authentication_len(message)?;
    if len != key.algorithm.data_len() {
        return Err(AuthError::Form {
            algorithm: key.algorithm.id(),
            length: len as u16,
        });
    }
    message[KEY_ID] = key.key_id;
    message[ALGORITHM_ID] = key.algorithm.id();
    let covered = covered_len(message, coverage)?;
    let code = compute(&message[..covered], len, key, key.algorithm);
    message[DATA..DATA + len].copy_from_slice(&code[..len]);
    Ok(())
}

/// Verifies the code of an emitted Map-Register, Map-Notify or Map-Notify-Ack, over the whole payload.
///
/// `accept` lists the forms that are taken; empty means the key's own algorithm alone.
///
/// # Errors
/// When the message is none of these or cut short, names another key, has a form that is not accepted, or does not match.
pub fn verify(message: &[u8], key: &AuthKey, accept: &[MacAlgorithm]) -> Result<(), AuthError> {
    verify_covering(message, key, accept, Coverage::WholePayload)
}

/// As [`verify`], with a choice of how far the code reaches.
///
/// # Errors
/// As [`verify`].
pub fn verify_covering(
    message: &[u8],
    key: &AuthKey,
    accept: &[MacAlgorithm],
    coverage: Coverage,
) -> Result<(), AuthError> {
    let len = authentication_len(message)?;
    if message[KEY_ID] != key.key_id {
        return Err(AuthError::KeyId {
            expected: key.key_id,
            found: message[KEY_ID],
        });
    }
    let own = [key.algorithm];
    let accept = if accept.is_empty() { &own } else { accept };
    let id = message[ALGORITHM_ID];
    let mut candidates = accept
        .iter()
        .filter(|form| form.id() == id && form.data_len() == len)
        .peekable();
    if candidates.peek().is_none() {
        return Err(AuthError::Form {
            algorithm: id,
            length: len as u16,
        });
    }
    let covered = covered_len(message, coverage)?;
    let found = &message[DATA..DATA + len];
    let matches = |form: &MacAlgorithm| {
        let code = compute(&message[..covered], len, key, *form);
        equal(&code[..len], found)
    };
    match candidates.any(matches) {
        true => Ok(()),
        false => Err(AuthError::Mismatch),
    }
}

/// Signs a message that was emitted with [`AuthKey::blank`].
pub(crate) fn emit_signed(mut message: Vec<u8>, key: &AuthKey) -> Vec<u8> {
    sign(&mut message, key).expect("the authentication data has the length of the key's algorithm");
    message
}

fn authentication_len(message: &[u8]) -> Result<usize, AuthError> {
    let Some(first) = message.first() else {
        return Err(AuthError::Truncated("it is empty".into()));
    };
    if !matches!(first >> 4, 3..=5) {
        return Err(AuthError::Kind(first >> 4));
    }
    if message.len() < DATA {
        return Err(AuthError::Truncated(format!(
            "{} octets, expected {DATA}",
            message.len()
        )));
    }
    let len = usize::from(u16::from_be_bytes([message[LENGTH], message[LENGTH + 1]]));
    if message.len() < DATA + len {
        let there = message.len() - DATA;
        return Err(AuthError::Truncated(format!(
            "{there} octets, expected {len}"
        )));
    }
    Ok(len)
}

fn covered_len(message: &[u8], coverage: Coverage) -> Result<usize, AuthError> {
    match coverage {
        Coverage::WholePayload => Ok(message.len()),
        Coverage::ThroughLastRecord => {
            let mut reader = Reader::new("authenticated message", message);
            let read = |reader: &mut Reader<'_>| {
                reader.take("fixed part", KEY_ID)?;
                Authentication::read(reader)?;
                MapRecord::read_all(reader, message[3], RecordKind::Mapping)
            };
            match read(&mut reader) {
                Ok(_) => Ok(reader.offset()),
                Err(error) => Err(AuthError::Truncated(error.to_string())),
            }
        }
    }
}

/// The code of `message` with its `len` octets of authentication data taken as zeros; the first `data_len` octets count.
fn compute(message: &[u8], len: usize, key: &AuthKey, algorithm: MacAlgorithm) -> [u8; 32] {
    let parts = [&message[..DATA], &ZEROS[..len], &message[DATA + len..]];
    match algorithm {
        MacAlgorithm::HmacSha1_96 | MacAlgorithm::HmacSha1Full => {
            let mut code = [0; 32];
            code[..20].copy_from_slice(&mac(key.sha1.clone(), &parts));
            code
        }
        MacAlgorithm::HmacSha256_128 | MacAlgorithm::HmacSha256Full => {
            mac(key.sha256.clone(), &parts).into()
        }
        MacAlgorithm::HkdfSha256(reading) => {
            mac(per_message_key(message, &key.secret, reading), &parts).into()
        }
    }
}

fn mac<M: Mac>(mut state: M, parts: &[&[u8]]) -> hmac::digest::Output<M> {
    parts.iter().for_each(|part| state.update(part));
    state.finalize().into_bytes()
}

/// The key of algorithm 3 for one message (RFC 9301 5.6 step 4).
fn per_message_key(message: &[u8], secret: &[u8], reading: HkdfReading) -> Hmac<Sha256> {
    let salt: &[u8] = match message[0] >> 4 {
        3 => b"Map-Register Authentication",
        4 => b"Map-Notify Authentication",
        _ => b"Map-Notify-Ack Authentication",
    };
    let mut input = message[4..12].to_vec();
    input.extend_from_slice(secret);
    let mut key = [0; 32];
    let expand = |hkdf: Hkdf<Sha256>, info: &[u8], key: &mut [u8]| {
        hkdf.expand(info, key)
            .expect("HKDF-SHA256 yields up to 8160 octets");
    };
    let len = match reading {
        HkdfReading::Salt32 => {
            expand(Hkdf::new(Some(salt), &input), &[], &mut key);
            32
        }
        HkdfReading::Salt16 => {
            expand(Hkdf::new(Some(salt), &input), &[], &mut key[..16]);
            16
        }
        HkdfReading::Info32 => {
            expand(Hkdf::new(None, &input), salt, &mut key);
            32
        }
        HkdfReading::ExtractOnly => {
            key = Hkdf::<Sha256>::extract(Some(salt), &input).0.into();
            32
        }
    };
    Hmac::new_from_slice(&key[..len]).expect(ANY_LENGTH)
}

/// Equality in a time that does not depend on where the first difference is.
fn equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .fold(0, |difference, (l, r)| difference | (l ^ r))
            == 0
}
