//! Values of the configuration that only tunnel routers have.

use daemon::config;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::forwarding::Edition;

impl From<config::Edition> for Edition {
    fn from(edition: config::Edition) -> Self {
        match edition {
            config::Edition::Rfc6830 => Self::Rfc6830,
            config::Edition::Rfc9300 => Self::Rfc9300,
        }
    }
}

/// A map-version that a mapping can have (RFC 9302 6): 1 to 4095.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "u32")]
#[schemars(inline, extend("minimum" = 1, "maximum" = 4095))]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, extend("pattern" = "^[0-9a-fA-F]{32}$"))]
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
