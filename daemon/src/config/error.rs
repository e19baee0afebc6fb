//! One shape for everything that can be wrong with a configuration.

use std::fmt;
use std::path::PathBuf;

use serde_saphyr::{Error, Location};

use super::Source;

/// What is wrong with a configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// Line and column, both from 1.
    pub place: Option<(u32, u32)>,
    /// What would have been right.
    pub expected: String,
    /// What was there.
    pub found: String,
    /// What to do.
    pub hint: Option<Box<str>>,
    /// The line with a mark under the place.
    pub snippet: Option<Box<str>>,
}

impl ConfigError {
    /// The same error with advice.
    pub fn with_hint(mut self, hint: impl Into<Box<str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn at(source: &Source, at: Location, expected: String, found: String) -> Self {
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let place = (at.line() > 0).then(|| (number(at.line()), number(at.column())));
        Self {
            path: source.path.clone(),
            place,
            expected,
            found,
            hint: None,
            snippet: place.and_then(|(line, column)| snippet(source.text(), line, column)),
        }
    }

    /// `refused_at`: the place of the value that one of our own types refused, which is more exact than the library's.
    pub(super) fn from_yaml(source: &Source, refused_at: Option<Location>, error: &Error) -> Self {
        let location = refused_at
            .or_else(|| error.location())
            .unwrap_or(Location::UNKNOWN);
        let here = token(source.text(), location);
        let at = |expected: &str, found: &str| {
            Self::at(source, location, expected.to_owned(), found.to_owned())
        };
        match error.without_snippet() {
            Error::SerdeUnknownField {
                field, expected, ..
            } => {
                let error = at(&one_of(expected, "key"), &format!("`{field}`"));
                match nearest(field, expected) {
                    Some(name) => error.with_hint(format!("did you mean `{name}`?")),
                    None => error.with_hint("remove the key, or correct its name"),
                }
            }
            Error::SerdeUnknownVariant {
                variant, expected, ..
            } => {
                let error = at(&one_of(expected, "value"), &format!("`{variant}`"));
                match nearest(variant, expected) {
                    Some(name) => error.with_hint(format!("did you mean `{name}`?")),
                    None => error,
                }
            }
            Error::SerdeMissingField { field, .. } => {
                at(&format!("the key `{field}`"), "a mapping without it")
                    .with_hint(format!("add `{field}: ...` to this mapping"))
            }
            Error::SerdeInvalidType {
                unexpected,
                expected,
                ..
            }
            | Error::SerdeInvalidValue {
                unexpected,
                expected,
                ..
            } => at(
                expected,
                if refused_at.is_some() {
                    &here
                } else {
                    unexpected
                },
            ),
            Error::SerdeInvalidLength { len, expected, .. } => {
                at(expected, &format!("{len} elements"))
            }
            Error::DuplicateMappingKey { key, .. } => {
                let key = key.as_deref().unwrap_or("?");
                at("each key once", &format!("`{key}` a second time"))
                    .with_hint("remove one of the two")
            }
            Error::Unexpected { expected, .. } => at(in_words(expected), &here),
            Error::InvalidScalar { ty, .. } => at(in_words(ty), &here),
            Error::InvalidBooleanStrict { .. } => at("`true` or `false`", &here),
            Error::MultipleDocuments { .. } => at("one YAML document", "a second one"),
            Error::Eof { .. } => at("a configuration", "the end of the file"),
            other => {
                let text = other.to_string();
                let text = text.split(" at line ").next().unwrap_or(&text);
                at(
                    "well-formed YAML of the documented form",
                    text.lines().next().unwrap_or(text),
                )
            }
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": expected {}, found {}", self.expected, self.found)?;
        if let Some(snippet) = &self.snippet {
            write!(f, "\n{snippet}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// The library's words for a kind of value, as people say them.
fn in_words(kind: &str) -> &str {
    match kind {
        "sequence start" => "a list, such as `[a, b]`",
        "mapping start" => "a mapping, such as `{key: value}`",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, not negative",
        "string scalar" => "a text",
        other => other,
    }
}

/// The line and a mark under the column.
fn snippet(text: &str, line: u32, column: u32) -> Option<Box<str>> {
    let index = usize::try_from(line).ok()?.checked_sub(1)?;
    let content = text.lines().nth(index)?;
    let before = usize::try_from(column).ok()?.saturating_sub(1);
    // Very long lines are cut so that the mark stays visible.
    let start = before.saturating_sub(100);
    let shown: String = content.chars().skip(start).take(200).collect();
    let gutter = line.to_string();
    let (pad, space) = (" ".repeat(gutter.len()), " ".repeat(before - start));
    Some(format!("{gutter} | {shown}\n{pad} | {space}^").into())
}

/// What stands at a place: the scalar or the first sign of the structure there.
fn token(text: &str, location: Location) -> String {
    let line = usize::try_from(location.line()).unwrap_or(0);
    let column = usize::try_from(location.column()).unwrap_or(0);
    let rest: String = text
        .lines()
        .nth(line.saturating_sub(1))
        .unwrap_or_default()
        .chars()
        .skip(column.saturating_sub(1))
        .collect();
    let end = rest
        .char_indices()
        .find(|&(at, sign)| {
            matches!(sign, ',' | '}' | ']' | '#')
                || (sign == ':' && rest[at + 1..].starts_with([' ']))
        })
        .map_or(rest.len(), |(at, _)| at);
    match rest[..end].trim() {
        "" => "nothing".into(),
        found => format!("`{}`", found.chars().take(80).collect::<String>()),
    }
}

fn one_of(names: &[&str], kind: &str) -> String {
    match names {
        [] => format!("no {kind}"),
        [name] => format!("`{name}`"),
        names => {
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("one of {}", names.join(", "))
        }
    }
}

fn nearest<'a>(found: &str, names: &[&'a str]) -> Option<&'a str> {
    let found = found.replace('_', "-").to_lowercase();
    names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&found, name), *name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().max(found.len()) / 3)
        .map(|(_, name)| name)
}
