//! Values that several configurations share, as people write them.

use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use lisp::auth::{AuthKey, MacAlgorithm};
use schemars::JsonSchema;
use serde::de::{self, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_saphyr::Location;

use super::Spanned;

/// A length of time with its unit: `500ms`, `60s`, `3m`, `2h`, `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(inline, extend("pattern" = "^[0-9]+ ?(ms|s|m|min|h|d)$"))]
pub struct Period(#[schemars(with = "String")] pub Duration);

impl Period {
    /// A period of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|sign: char| !sign.is_ascii_digit())?;
        let number: u64 = text[..digits].parse().ok()?;
        let millis = match text[digits..].trim_start() {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number
            .checked_mul(millis)
            .map(|millis| Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis.is_multiple_of(1000) {
            write!(f, "{}s", millis / 1000)
        } else {
            write!(f, "{millis}ms")
        }
    }
}

/// An IP prefix whose host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema)]
#[schemars(inline, extend("pattern" = "^[0-9a-fA-F.:]+/[0-9]{1,3}$"))]
pub struct Prefix(#[schemars(with = "String")] pub IpNet);

thread_local! {
    /// Where the scalar stands that was refused last. The YAML library gives a refused value the place of the mapping
    /// around it; this keeps the value's own. Serde offers no other way through a `Deserialize` implementation.
    static REFUSED_AT: Cell<Option<Location>> = const { Cell::new(None) };
}

/// Takes the place of the value that was refused since the last call.
pub(super) fn take_refused_place() -> Option<Location> {
    REFUSED_AT.take()
}

/// Reads a value from one scalar.
fn from_scalar<'de, D: Deserializer<'de>, S: Deserialize<'de> + fmt::Display, T>(
    deserializer: D,
    expected: &'static str,
    read: impl FnOnce(&S) -> Option<T>,
) -> Result<T, D::Error> {
    let scalar = Spanned::<S>::deserialize(deserializer)?;
    read(&scalar.value).ok_or_else(|| {
        REFUSED_AT.set(Some(scalar.place));
        de::Error::invalid_value(Unexpected::Str(&scalar.value.to_string()), &expected)
    })
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_scalar(
            deserializer,
            "a length of time with its unit, such as `500ms`, `60s`, `3m`, `2h` or `1d`",
            |text: &String| Self::parse(text),
        )
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_scalar(
            deserializer,
            "a prefix whose host bits are zero, such as `10.1.0.0/24` or `2001:db8:1::/48`",
            |text: &String| {
                let prefix: IpNet = text.parse().ok()?;
                (prefix == prefix.trunc()).then_some(Self(prefix))
            },
        )
    }
}

/// An IPv4 or IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema)]
#[schemars(inline, extend("anyOf" = [{"format": "ipv4"}, {"format": "ipv6"}]))]
pub struct Address(#[schemars(with = "String")] pub IpAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_scalar(
            deserializer,
            "an IPv4 or IPv6 address, such as `192.0.2.1` or `2001:db8::1`",
            |text: &String| text.parse().ok().map(Self),
        )
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// `6830` or `9300`: which edition rules where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema)]
#[schemars(inline, from = "u32", extend("enum" = [6830, 9300]))]
pub enum Edition {
    /// RFC 6830, 6832, 6833.
    #[default]
    Rfc6830,
    /// RFC 9300, 9301.
    Rfc9300,
}

impl<'de> Deserialize<'de> for Edition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_scalar(
            deserializer,
            "edition 6830 or 9300",
            |number| match number {
                6830_u32 => Some(Self::Rfc6830),
                9300 => Some(Self::Rfc9300),
                _ => None,
            },
        )
    }
}

/// Largest Instance ID (RFC 8060 4.1: 24 bits).
const MAX_INSTANCE_ID: u32 = 0x00ff_ffff;

/// A 24-bit Instance ID (RFC 8060 4.1); 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema)]
#[schemars(inline)]
pub struct InstanceId(#[schemars(range(max = MAX_INSTANCE_ID))] pub u32);

impl<'de> Deserialize<'de> for InstanceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_scalar(
            deserializer,
            "an Instance ID of 24 bits, from 0 to 16777215",
            |&number| (number <= MAX_INSTANCE_ID).then_some(Self(number)),
        )
    }
}

/// How a key authenticates: the codec's names, such as `hmac-sha-256-128`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(inline, extend("enum" = MacAlgorithm::names()))]
pub struct Algorithm(#[schemars(with = "String")] pub MacAlgorithm);

impl Default for Algorithm {
    fn default() -> Self {
        Self(MacAlgorithm::HmacSha256_128)
    }
}

impl<'de> Deserialize<'de> for Algorithm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_scalar(
            deserializer,
            "`hmac-sha-1-96`, `hmac-sha-256-128`, `hmac-sha-1-full`, `hmac-sha-256-full` or \
             `hmac-sha-256-128+hkdf-sha-256`",
            |text: &String| text.parse().ok().map(Self),
        )
    }
}

/// A shared secret of a Map-Server and an ETR.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Key {
    /// The secret's octets, as text.
    pub key: String,
    /// Key ID of RFC 9301 5.6; 0 for RFC 6830, which has none.
    #[serde(default)]
    pub key_id: u8,
    /// How it authenticates.
    #[serde(default)]
    pub algorithm: Algorithm,
}

impl Key {
    /// The key in the codec's form.
    pub fn to_auth_key(&self) -> AuthKey {
        AuthKey::new(self.key_id, self.algorithm.0, self.key.as_bytes())
    }
}

/// Without the secret: this ends up in logs.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("key_id", &self.key_id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
