//! Strict reading of mappings: every key is asked for by name, and what nobody asked for is an error with the nearest name.

use super::error::{Position, Problem};
use super::tree::{Key, Tree, Value};

/// A mapping that is being read.
#[derive(Debug)]
pub struct Section<'a> {
    what: String,
    /// Where it stands.
    pub at: Position,
    entries: &'a [(Key, Tree)],
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// `what` names the mapping in messages ("node `host-a`").
    pub fn open(
        tree: &'a Tree,
        what: impl Into<String>,
        problems: &mut Vec<Problem>,
    ) -> Option<Section<'a>> {
        let what = what.into();
        let entries = match &tree.value {
            Value::Map(entries) => entries.as_slice(),
            // `host-a:` with nothing behind it is a mapping without keys.
            Value::Null => &[],
            _ => {
                problems.push(Problem::new(
                    tree.at,
                    format!("{what}: expected a mapping, found {}", tree.describe()),
                ));
                return None;
            }
        };
        Some(Section {
            what,
            at: tree.at,
            entries,
            known: Vec::new(),
        })
    }

    /// The value of a key; `key: ` with nothing behind it counts as absent.
    pub fn get(&mut self, key: &'static str) -> Option<&'a Tree> {
        self.known.push(key);
        self.entries
            .iter()
            .find(|(k, _)| k.name == key)
            .map(|(_, value)| value)
            .filter(|value| !matches!(value.value, Value::Null))
    }

    /// The value of a key that must be there.
    pub fn require(
        &mut self,
        key: &'static str,
        expected: &str,
        problems: &mut Vec<Problem>,
    ) -> Option<&'a Tree> {
        let value = self.get(key);
        if value.is_none() {
            problems.push(Problem::new(
                self.at,
                format!(
                    "{}: the key `{key}` is missing: expected {expected}",
                    self.what
                ),
            ));
        }
        value
    }

    /// Whether a key stands there, even with nothing behind it.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(k, _)| k.name == key)
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self, problems: &mut Vec<Problem>) {
        for (key, _) in self.entries {
            if self.known.contains(&key.name.as_str()) {
                continue;
            }
            let problem =
                Problem::new(key.at, format!("{}: unknown key `{}`", self.what, key.name));
            problems.push(
                problem.hint(match nearest(&key.name, self.known.iter().copied()) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => format!("known keys are {}", self.known.join(", ")),
                }),
            );
        }
    }
}

/// The entries of a mapping with free keys (node names, link names).
pub fn entries<'a>(tree: &'a Tree, what: &str, problems: &mut Vec<Problem>) -> &'a [(Key, Tree)] {
    match &tree.value {
        Value::Map(entries) => entries,
        Value::Null => &[],
        _ => {
            problems.push(Problem::new(
                tree.at,
                format!("{what}: expected a mapping, found {}", tree.describe()),
            ));
            &[]
        }
    }
}

/// The items of a list.
pub fn items<'a>(tree: &'a Tree, what: &str, problems: &mut Vec<Problem>) -> &'a [Tree] {
    match &tree.value {
        Value::List(items) => items,
        _ => {
            problems.push(
                Problem::new(
                    tree.at,
                    format!("{what}: expected a list, found {}", tree.describe()),
                )
                .hint("write it as [first, second] or with one `- ` line each"),
            );
            &[]
        }
    }
}

/// Text; numbers and booleans count as their spelling.
pub fn text(tree: &Tree, what: &str, problems: &mut Vec<Problem>) -> Option<String> {
    match &tree.value {
        Value::Text(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => {
            problems.push(Problem::new(
                tree.at,
                format!("{what}: expected text, found {}", tree.describe()),
            ));
            None
        }
    }
}

/// Text that `parse` understands; `expected` says what that is.
pub fn parsed<T>(
    tree: &Tree,
    what: &str,
    expected: &str,
    problems: &mut Vec<Problem>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let found = match &tree.value {
        Value::Text(text) => parse(text),
        Value::Number(number) => parse(&number.to_string()),
        _ => None,
    };
    if found.is_none() {
        problems.push(Problem::new(
            tree.at,
            format!("{what}: expected {expected}, found {}", tree.describe()),
        ));
    }
    found
}

/// `true` or `false`.
pub fn boolean(tree: &Tree, what: &str, problems: &mut Vec<Problem>) -> Option<bool> {
    if let Value::Bool(value) = tree.value {
        return Some(value);
    }
    problems.push(Problem::new(
        tree.at,
        format!("{what}: expected true or false, found {}", tree.describe()),
    ));
    None
}

/// A whole number within a range.
pub fn number(
    tree: &Tree,
    what: &str,
    range: std::ops::RangeInclusive<u64>,
    problems: &mut Vec<Problem>,
) -> Option<u64> {
    if let Value::Number(number) = &tree.value
        && let Some(value) = number.as_u64()
        && range.contains(&value)
    {
        return Some(value);
    }
    problems.push(Problem::new(
        tree.at,
        format!(
            "{what}: expected a number from {} to {}, found {}",
            range.start(),
            range.end(),
            tree.describe()
        ),
    ));
    None
}

/// The candidate that is nearest to a mistyped word, if one is near enough to be meant.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count() / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edit distance in which swapping two neighbouring characters counts once (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1)
                .min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}
