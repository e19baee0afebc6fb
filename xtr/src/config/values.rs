//! Values of the configuration that only tunnel routers have.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::forwarding::Edition;

/// `6830` or `9300`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "u32")]
pub enum ConfigEdition {
    /// RFC 6830, 6832, 6833.
    #[default]
    Rfc6830,
    /// RFC 9300, 9301.
    Rfc9300,
}

impl TryFrom<u32> for ConfigEdition {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        match number {
            6830 => Ok(Self::Rfc6830),
            9300 => Ok(Self::Rfc9300),
            other => Err(format!("expected edition 6830 or 9300, found {other}")),
        }
    }
}

impl From<ConfigEdition> for Edition {
    fn from(edition: ConfigEdition) -> Self {
        match edition {
            ConfigEdition::Rfc6830 => Self::Rfc6830,
            ConfigEdition::Rfc9300 => Self::Rfc9300,
        }
    }
}

/// A 24-bit Instance ID (RFC 8060 4.1); 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "u32")]
pub struct InstanceId(pub u32);

impl TryFrom<u32> for InstanceId {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        if number < 1 << 24 {
            Ok(Self(number))
        } else {
            Err(format!(
                "expected an Instance ID from 0 to 16777215, found {number}"
            ))
        }
    }
}

/// A map-version that a mapping can have (RFC 9302 6): 1 to 4095.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct MapVersion(pub u16);

impl Default for MapVersion {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<u32> for MapVersion {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        match u16::try_from(number) {
            Ok(version @ 1..=4095) => Ok(Self(version)),
            _ => Err(format!(
                "expected a map-version from 1 to 4095, found {number}"
            )),
        }
    }
}

/// What happens to packets whose mapping is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnMiss {
    /// Kept until the mapping arrives, a bounded number of them.
    #[default]
    Hold,
    /// Dropped.
    Drop,
}

/// What a static map-cache entry without locators does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StaticAction {
    /// Ask the mapping system for each destination.
    SendMapRequest,
    /// Forward natively.
    ForwardNative,
    /// Drop.
    Drop,
}

/// A 128-bit xTR-ID (RFC 9301 5.6), written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct XtrId(pub [u8; 16]);

impl TryFrom<String> for XtrId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("expected an xTR-ID of 32 hexadecimal digits, found `{text}`");
        if text.len() != 32 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        u128::from_str_radix(&text, 16)
            .map(|number| Self(number.to_be_bytes()))
            .map_err(|_| wrong())
    }
}
