//! Strict YAML configuration: unknown keys, duplicate keys and wrong values are errors with line, column, what was
//! expected, what was found and what to do.

mod error;
mod spanned;
mod values;

use std::fs;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

pub use error::ConfigError;
pub use spanned::Spanned;
pub use values::{Address, Algorithm, Edition, InstanceId, Key, Period, Prefix};

/// Largest configuration that is read, in octets.
const MAX_SIZE: u64 = 256 << 20;

/// A configuration text and where it came from, to point at a place in it later.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file, or a word for where the text came from.
    pub path: PathBuf,
    text: String,
}

impl Source {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |found: String| ConfigError {
            path: path.to_path_buf(),
            place: None,
            expected: "a readable YAML file".into(),
            found,
            hint: None,
            snippet: None,
        };
        let metadata = fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
        if metadata.len() > MAX_SIZE {
            return Err(unreadable(format!("{} octets", metadata.len())));
        }
        let text = fs::read(path).map_err(|error| unreadable(error.to_string()))?;
        let text = String::from_utf8(text).map_err(|error| {
            unreadable(format!(
                "an octet that is not UTF-8 at offset {}",
                error.utf8_error().valid_up_to()
            ))
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            text,
        })
    }

    /// A text that came from elsewhere; `name` stands where a file name would.
    pub fn from_text(name: &str, text: impl Into<String>) -> Self {
        Self {
            path: name.into(),
            text: text.into(),
        }
    }

    /// Reads the text as a `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let options = serde_saphyr::options! {
            with_snippet: false,
            strict_booleans: true,
            budget: budget(self.text.len()),
        };
        values::take_refused_place();
        serde_saphyr::from_str_with_options(&self.text, options)
            .map_err(|error| ConfigError::from_yaml(self, values::take_refused_place(), &error))
    }

    /// An error about a value that is well-formed but wrong in its context.
    ///
    /// `expected` and `found` are phrases without a verb ("an address of this site", "192.0.2.1").
    pub fn error<T>(
        &self,
        at: &Spanned<T>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> ConfigError {
        ConfigError::at(self, at.place, expected.into(), found.into())
    }

    /// A path of the configuration: relative ones are relative to the file.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        match self.path.parent() {
            Some(directory) if path.is_relative() => directory.join(path),
            _ => path.to_path_buf(),
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// Limits grow with the file: they are there against texts that expand, not against large ones.
fn budget(length: usize) -> Option<serde_saphyr::Budget> {
    let nodes = length.max(10_000);
    serde_saphyr::budget! {
        max_events: nodes.saturating_mul(2),
        max_nodes: nodes,
        max_total_scalar_bytes: length.max(10_000),
        max_depth: 64,
        max_aliases: 1000,
        max_anchors: 1000,
    }
}

/// Reads a configuration file.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    Source::read(path)?.parse()
}

/// Reads a configuration from a text; `name` stands where a file name would.
pub fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, ConfigError> {
    Source::from_text(name, text).parse()
}

/// The JSON Schema of a configuration as JSON text, for editors.
pub fn schema<T: JsonSchema>() -> String {
    format!("{:#}", schemars::schema_for!(T).to_value())
}
