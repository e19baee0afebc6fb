//! The configuration's JSON Schema, for editors: what the values look like as text.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident = $schema:tt;)+) => {
        $(
            $(#[$doc])*
            pub(super) struct $name;

            impl JsonSchema for $name {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!($schema)
                }
            }
        )+
    };
}

shapes! {
    /// An IPv4 or IPv6 address.
    AddressText = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]};
    /// An IP prefix.
    PrefixText = {"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$"};
    /// A length of time with its unit.
    PeriodText = {"type": "string", "pattern": "^[0-9]+ ?(ms|s|m|min|h|d)$"};
    /// An authentication algorithm.
    AlgorithmText = {"enum": [
        "hmac-sha-1-96", "hmac-sha-256-128", "hmac-sha-1-full", "hmac-sha-256-full",
        "hmac-sha-256-128+hkdf-sha-256"
    ]};
    /// A log level.
    LevelText = {"enum": ["error", "warn", "info", "debug", "trace"]};
    /// An edition.
    EditionNumber = {"enum": [6830, 9300]};
    /// An Instance ID.
    InstanceIdNumber = {"type": "integer", "minimum": 0, "maximum": 16_777_215};
    /// A map-version.
    MapVersionNumber = {"type": "integer", "minimum": 1, "maximum": 4095};
    /// An xTR-ID.
    XtrIdText = {"type": "string", "pattern": "^[0-9a-fA-F]{32}$"};
}

/// The schema as JSON text.
pub fn json() -> String {
    format!("{:#}", schemars::schema_for!(super::Config).to_value())
}
