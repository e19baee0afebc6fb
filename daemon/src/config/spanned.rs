//! Values that know where they stand.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_saphyr::Location;

/// A value and where it stands in the file, so that an error can point at it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "serde_saphyr::Spanned<T>")]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    pub(super) place: Location,
}

impl<T> From<serde_saphyr::Spanned<T>> for Spanned<T> {
    fn from(read: serde_saphyr::Spanned<T>) -> Self {
        Self {
            value: read.value,
            place: read.referenced,
        }
    }
}

/// That of the value: the place is not written.
impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
