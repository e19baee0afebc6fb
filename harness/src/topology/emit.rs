//! A tree written as YAML again, in its own order: the order of links decides Ethernet addresses.

use std::fmt::Write as _;

use super::tree::{Tree, Value};

/// The tree as a YAML file.
pub(super) fn emit(tree: &Tree) -> String {
    let mut out = String::new();
    block(tree, 0, &mut out);
    out
}

/// Writes what stands behind a key or a dash, and ends the line.
fn block(tree: &Tree, depth: usize, out: &mut String) {
    match &tree.value {
        Value::Map(entries) if !entries.is_empty() => {
            if depth > 0 {
                out.push('\n');
            }
            for (key, value) in entries {
                let _ = write!(
                    out,
                    "{:width$}{}:",
                    "",
                    quoted(&key.name),
                    width = 2 * depth
                );
                block(value, depth + 1, out);
            }
        }
        Value::List(items) if !items.is_empty() => {
            out.push('\n');
            for item in items {
                let _ = write!(out, "{:width$}-", "", width = 2 * depth);
                block(item, depth + 1, out);
            }
        }
        scalar => {
            let text = match scalar {
                Value::Null => "null".to_owned(),
                Value::Bool(value) => value.to_string(),
                Value::Number(number) => number.to_string(),
                Value::Text(text) => quoted(text),
                Value::List(_) => "[]".to_owned(),
                Value::Map(_) => "{}".to_owned(),
            };
            let _ = writeln!(out, " {text}");
        }
    }
}

/// Plain words stay as they are; everything else becomes a JSON string, which YAML reads as it is.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && ![
            "true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "nan",
        ]
        .contains(&text.to_ascii_lowercase().as_str());
    if plain {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let text = "a: 1\nb: [x, 'yes', \"1\", true, null, 1.5, \"#\\n\\tx: y\"]\n'10.1.0.0/24': {c: [], d: {}, e: [[1], {f: g}]}\nz: {y: -1, x: ~}\n";
        let tree = Tree::parse(text).unwrap();
        let written = emit(&tree);
        let again =
            Tree::parse(&written).unwrap_or_else(|problem| panic!("{problem:?}\n{written}"));
        assert_eq!(tree.to_json(), again.to_json(), "{written}");
        let keys = |tree: &Tree| match &tree.value {
            Value::Map(entries) => entries.iter().map(|(key, _)| key.name.clone()).collect(),
            _ => Vec::new(),
        };
        assert_eq!(keys(&tree), keys(&again));
    }
}
