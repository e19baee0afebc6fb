//! YAML as a tree of values that know where they stand in the file.
//!
//! Reading into a tree first, and only then into the types, lets one pass report every problem of a file with line and
//! column, and lets parameters be filled in before anything is interpreted.

use std::fmt::{self, Write as _};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::error::{Position, Problem};

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Where it begins.
    pub at: Position,
    /// What it is.
    pub value: Value,
}

/// What a YAML file may hold.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// A mapping, in the order of the file.
    Map(Vec<(Key, Tree)>),
}

/// The key of a mapping and its place.
#[derive(Clone, Debug)]
pub struct Key {
    /// Where it stands.
    pub at: Position,
    /// What it is called.
    pub name: String,
}

impl Tree {
    /// Reads one YAML document. Sizes are bounded, so that a hostile file costs neither time nor memory.
    ///
    /// # Errors
    /// It is no YAML, or larger than any file that somebody wrote.
    pub fn parse(source: &str) -> Result<Tree, Problem> {
        Tree::parse_as(source, 0)
    }

    /// The same for an included file: its number stands in all places.
    pub(crate) fn parse_as(source: &str, file: u32) -> Result<Tree, Problem> {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_depth: 64,
                max_nodes: 1_000_000,
                max_total_scalar_bytes: 32 << 20,
            },
            // Anchors are for a few repeated lines; `repeat` is for more.
            alias_limits: serde_saphyr::alias_limits! {
                max_total_replayed_events: 10_000,
            },
            strict_booleans: true,
        };
        serde_saphyr::from_str_with_options::<Spanned<Raw>>(source, options)
            .map(|raw| Tree::placed(raw, file))
            .map_err(|error| {
                let at = error.location().map(|at| position(at, file));
                let at = at.unwrap_or_default();
                let text = error.without_snippet().to_string();
                // The library appends the place in words; the place is printed in front here.
                let text = text.split(" at line ").next().unwrap_or(&text).to_owned();
                let problem = Problem::new(at, format!("this is not usable YAML: {text}"));
                if text.contains("duplicate") {
                    problem.hint("each key may stand only once in its mapping: rename or remove one of the two")
                } else if text.contains("tab") {
                    problem.hint("YAML indents with spaces only")
                } else {
                    problem
                        .hint("check indentation, quotes and brackets on this line and the one before")
                }
            })
    }

    /// The tree as YAML again, one line for each entry of its two outer levels.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        match &self.value {
            Value::Map(entries) => {
                for (key, tree) in entries {
                    match &tree.value {
                        Value::Map(inner) if !inner.is_empty() => {
                            let _ = writeln!(text, "{}:", quoted(&key.name));
                            for (key, tree) in inner {
                                let _ = write!(text, "  {}: ", quoted(&key.name));
                                tree.flow(&mut text);
                                text.push('\n');
                            }
                        }
                        _ => {
                            let _ = write!(text, "{}: ", quoted(&key.name));
                            tree.flow(&mut text);
                            text.push('\n');
                        }
                    }
                }
            }
            _ => self.flow(&mut text),
        }
        text
    }

    /// Appends the value in flow style, which is JSON.
    fn flow(&self, text: &mut String) {
        match &self.value {
            Value::Null => text.push_str("null"),
            Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Value::Number(number) => {
                let _ = write!(text, "{number}");
            }
            Value::Text(value) => text.push_str(&quoted(value)),
            Value::List(items) => {
                text.push('[');
                for (number, item) in items.iter().enumerate() {
                    text.push_str(if number > 0 { ", " } else { "" });
                    item.flow(text);
                }
                text.push(']');
            }
            Value::Map(entries) => {
                text.push('{');
                for (number, (key, tree)) in entries.iter().enumerate() {
                    text.push_str(if number > 0 { ", " } else { "" });
                    let _ = write!(text, "{}: ", quoted(&key.name));
                    tree.flow(text);
                }
                text.push('}');
            }
        }
    }

    /// What kind of value this is, for "expected ..., found ...".
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(b) => format!("the boolean {b}"),
            Value::Number(n) => format!("the number {n}"),
            Value::Text(t) if t.chars().count() > 60 => {
                format!("the text {:?}...", t.chars().take(60).collect::<String>())
            }
            Value::Text(t) => format!("the text {t:?}"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }

    /// The value without its places.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Number(n) => Json::Number(n.clone()),
            Value::Text(t) => Json::String(t.clone()),
            Value::List(items) => Json::Array(items.iter().map(Tree::to_json).collect()),
            Value::Map(entries) => Json::Object(
                entries
                    .iter()
                    .map(|(key, value)| (key.name.clone(), value.to_json()))
                    .collect(),
            ),
        }
    }
}

fn position(location: serde_saphyr::Location, file: u32) -> Position {
    Position {
        file,
        line: location.line(),
        column: location.column(),
    }
}

enum Raw {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl Tree {
    fn placed(spanned: Spanned<Raw>, file: u32) -> Tree {
        let value = match spanned.value {
            Raw::Null => Value::Null,
            Raw::Bool(b) => Value::Bool(b),
            Raw::Number(n) => Value::Number(n),
            Raw::Text(t) => Value::Text(t),
            Raw::List(items) => Value::List(
                items
                    .into_iter()
                    .map(|item| Tree::placed(item, file))
                    .collect(),
            ),
            Raw::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        let at = position(key.referenced, file);
                        (
                            Key {
                                at,
                                name: key.value,
                            },
                            Tree::placed(value, file),
                        )
                    })
                    .collect(),
            ),
        };
        Tree {
            at: position(spanned.referenced, file),
            value,
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(match serde_json::Number::from_f64(value) {
            Some(number) => Raw::Number(number),
            None => Raw::Text(value.to_string()),
        })
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

/// In double quotes, whose escapes YAML shares with JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
