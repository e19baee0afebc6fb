//! Before a topology is read: included files are brought in, parameters filled in, `repeat`ed entries multiplied.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::error::{Position, Problem, Sources};
use super::expression::{Names, fill, number};
use super::section::nearest;
use super::tree::{Key, Tree, Value};

/// Files that may be included within each other, and entries that all `repeat`s together may make.
const DEEPEST: usize = 8;
const MOST: usize = 50_000;

/// Whether a file has anything to expand.
pub(super) fn has_work(tree: &Tree) -> bool {
    match &tree.value {
        Value::Map(entries) => entries.iter().any(|(key, value)| {
            ["include", "parameters", "repeat"].contains(&key.name.as_str())
                || key.name.contains("$(")
                || has_work(value)
        }),
        Value::List(items) => items.iter().any(has_work),
        Value::Text(text) => text.contains("$("),
        _ => false,
    }
}

/// Expands a file's tree. `given` are values for its parameters.
pub(super) fn expand(
    mut tree: Tree,
    file: &Path,
    given: &Names,
    sources: &mut Sources,
    problems: &mut Vec<Problem>,
) -> Tree {
    let mut expander = Expander {
        sources,
        problems,
        made: 0,
        open: vec![file.to_owned()],
    };
    expander.file(&mut tree, file, given, None);
    tree
}

struct Expander<'a> {
    sources: &'a mut Sources,
    problems: &'a mut Vec<Problem>,
    made: usize,
    /// The files that are being read, outermost first.
    open: Vec<PathBuf>,
}

impl Expander<'_> {
    /// Expands one file: its parameters, its includes, its repeats.
    fn file(&mut self, tree: &mut Tree, path: &Path, given: &Names, asked_at: Option<Position>) {
        let Value::Map(entries) = &mut tree.value else {
            return;
        };
        let names = self.parameters(
            take(entries, "parameters"),
            given,
            asked_at.unwrap_or(tree.at),
        );
        let include = take(entries, "include");
        for (_, value) in entries.iter_mut() {
            self.fill(value, &names);
        }
        if let Some((_, include)) = include {
            self.include(entries, include, path, &names);
        }
    }

    /// The parameters of a file, with the values that were given.
    fn parameters(
        &mut self,
        tree: Option<(Key, Tree)>,
        given: &Names,
        asked_at: Position,
    ) -> Names {
        let mut names = Names::new();
        match tree.map(|(_, tree)| (tree.at, tree.value)) {
            None | Some((_, Value::Null)) => {}
            Some((_, Value::Map(entries))) => {
                for (key, value) in entries {
                    let usable = key.name.starts_with(|c: char| c.is_ascii_alphabetic())
                        && key
                            .name
                            .chars()
                            .all(|c| c.is_ascii_alphanumeric() || c == '_');
                    if !usable {
                        let message = format!(
                            "parameters: expected a name of letters, digits and `_`, found `{}`",
                            key.name
                        );
                        self.problems.push(Problem::new(key.at, message));
                    } else if !matches!(
                        value.value,
                        Value::Number(_) | Value::Text(_) | Value::Bool(_)
                    ) {
                        let message = format!(
                            "parameter `{}`: expected a number or text, found {}",
                            key.name,
                            value.describe()
                        );
                        self.problems.push(Problem::new(value.at, message));
                    } else {
                        names.insert(key.name, value.value);
                    }
                }
            }
            Some((at, _)) => self.problems.push(Problem::new(
                at,
                "parameters: expected a mapping of names to values",
            )),
        }
        for (name, value) in given {
            if names.contains_key(name) {
                names.insert(name.clone(), value.clone());
                continue;
            }
            let problem = Problem::new(
                asked_at,
                format!("there is no parameter `{name}` to be given a value"),
            );
            let known: Vec<&str> = names.keys().map(String::as_str).collect();
            self.problems
                .push(match nearest(name, known.iter().copied()) {
                    Some(near) => problem.hint(format!("did you mean `{near}`?")),
                    None if known.is_empty() => problem.hint("the file has no `parameters`"),
                    None => problem.hint(format!("its parameters are {}", known.join(", "))),
                });
        }
        names
    }

    /// Fills in everything below a value.
    fn fill(&mut self, tree: &mut Tree, names: &Names) {
        match &mut tree.value {
            Value::Text(text) if text.contains("$(") => match fill(text, names) {
                Ok(value) => tree.value = value,
                Err(message) => self.problems.push(Problem::new(tree.at, message)),
            },
            Value::List(items) => {
                for item in std::mem::take(items) {
                    for (mut item, names) in self.repeated(item, names) {
                        self.fill(&mut item, &names);
                        items.push(item);
                    }
                }
            }
            Value::Map(entries) => {
                let mut places: HashMap<String, Position> = HashMap::new();
                for (key, value) in std::mem::take(entries) {
                    for (mut value, names) in self.repeated(value, names) {
                        let mut key = key.clone();
                        if key.name.contains("$(") {
                            match fill(&key.name, &names) {
                                Ok(Value::Text(name)) => key.name = name,
                                Ok(Value::Number(number)) => key.name = number.to_string(),
                                Ok(_) => {}
                                Err(message) => self.problems.push(Problem::new(key.at, message)),
                            }
                        }
                        self.fill(&mut value, &names);
                        if let Some(first) = places.insert(key.name.clone(), key.at) {
                            let message = format!("`{}` is there twice", key.name);
                            let problem = Problem::new(key.at, message)
                                .related(first, "the first one is here");
                            self.problems.push(problem.hint(
                                "a repeated entry needs its variable in its name: `xtr-$(n)`",
                            ));
                            return;
                        }
                        entries.push((key, value));
                    }
                }
            }
            _ => {}
        }
    }

    /// A value and its names, once for each value of the variables of its `repeat`.
    fn repeated(&mut self, mut tree: Tree, names: &Names) -> Vec<(Tree, Names)> {
        let repeat = match &mut tree.value {
            Value::Map(entries) => take(entries, "repeat"),
            _ => None,
        };
        let Some((key, repeat)) = repeat else {
            return vec![(tree, names.clone())];
        };
        let Value::Map(variables) = &repeat.value else {
            let message = format!(
                "repeat: expected variables with ranges like {{n: 1..3}}, found {}",
                repeat.describe()
            );
            self.problems.push(Problem::new(key.at, message));
            return Vec::new();
        };
        let mut all = vec![names.clone()];
        for (variable, range) in variables {
            let mut next = Vec::new();
            for names in all {
                match self.range(range, &names) {
                    Ok((from, to)) => {
                        self.made += usize::try_from((to - from).saturating_add(1)).unwrap_or(0);
                        if self.made > MOST {
                            let message = format!("repeat: expected at most {MOST} entries in all");
                            self.problems.push(Problem::new(range.at, message));
                            return Vec::new();
                        }
                        next.extend((from..=to).map(|value| {
                            let mut names = names.clone();
                            names.insert(variable.name.clone(), Value::Number(value.into()));
                            names
                        }));
                    }
                    Err(message) => {
                        self.problems
                            .push(Problem::new(range.at, format!("repeat: {message}")));
                        return Vec::new();
                    }
                }
            }
            all = next;
        }
        all.into_iter().map(|names| (tree.clone(), names)).collect()
    }

    /// The bounds of a range `FROM..TO`; an upper bound below the lower one is an empty range.
    fn range(&self, tree: &Tree, names: &Names) -> Result<(i64, i64), String> {
        let expected = || {
            format!(
                "expected a range like 1..3 or 1..sites, found {}",
                tree.describe()
            )
        };
        let Value::Text(text) = &tree.value else {
            return Err(expected());
        };
        let (from, to) = text.split_once("..").ok_or_else(expected)?;
        let (from, to) = (number(from, names)?, number(to, names)?);
        if to.saturating_sub(from) >= MOST as i64 {
            return Err(format!(
                "expected at most {MOST} entries in all, found {from}..{to}"
            ));
        }
        Ok((from, to.max(from - 1)))
    }

    /// Brings in the nodes and links of other files.
    fn include(
        &mut self,
        entries: &mut Vec<(Key, Tree)>,
        include: Tree,
        path: &Path,
        names: &Names,
    ) {
        let files = match include.value {
            Value::List(files) => files,
            _ => vec![include],
        };
        for mut file in files {
            self.fill(&mut file, names);
            let at = file.at;
            let (name, given) = match file.value {
                Value::Text(name) => (name, Names::new()),
                Value::Map(mut keys) => {
                    let name = take(&mut keys, "file");
                    let with = take(&mut keys, "with");
                    let given = match with.map(|(_, tree)| tree.value) {
                        Some(Value::Map(given)) => given
                            .into_iter()
                            .map(|(key, tree)| (key.name, tree.value))
                            .collect(),
                        _ => Names::new(),
                    };
                    match (name.map(|(_, tree)| tree.value), keys.first()) {
                        (Some(Value::Text(name)), None) => (name, given),
                        (_, Some((key, _))) => {
                            let message = format!("include: unknown key `{}`", key.name);
                            let problem = Problem::new(key.at, message);
                            self.problems
                                .push(problem.hint("known keys are file, with"));
                            continue;
                        }
                        _ => {
                            let message =
                                "include: the key `file` is missing: expected the path of a file";
                            self.problems.push(Problem::new(at, message));
                            continue;
                        }
                    }
                }
                _ => {
                    let message = "include: expected the path of a file, or {file: PATH, with: {PARAMETER: VALUE}}";
                    self.problems.push(Problem::new(at, message));
                    continue;
                }
            };
            // Relative to the file that includes it.
            let target = path.parent().unwrap_or(Path::new("")).join(name);
            self.included(entries, &target, &given, at);
        }
    }

    fn included(
        &mut self,
        entries: &mut Vec<(Key, Tree)>,
        target: &Path,
        given: &Names,
        at: Position,
    ) {
        if self.open.iter().any(|open| open == target) || self.open.len() >= DEEPEST {
            let message = format!("include: {} includes itself", target.display());
            self.problems.push(Problem::new(at, message));
            return;
        }
        let text = match std::fs::read_to_string(target) {
            Ok(text) => text,
            Err(error) => {
                let message = format!("include: {} cannot be read: {error}", target.display());
                let problem = Problem::new(at, message);
                self.problems
                    .push(problem.hint("paths are relative to the file that includes"));
                return;
            }
        };
        let number = self.sources.add(&target.display().to_string(), &text);
        let mut tree = match Tree::parse_as(&text, number) {
            Ok(tree) => tree,
            Err(problem) => {
                self.problems.push(problem);
                return;
            }
        };
        self.open.push(target.to_owned());
        self.file(&mut tree, target, given, Some(at));
        self.open.pop();
        let Value::Map(theirs) = tree.value else {
            let message = "an included topology: expected a mapping";
            self.problems.push(Problem::new(tree.at, message));
            return;
        };
        for (key, value) in theirs {
            match key.name.as_str() {
                // What it says about itself.
                "format" | "name" | "description" => {}
                "nodes" | "links" => self.merge(entries, key, value),
                _ => {
                    let message = format!("topology: unknown key `{}`", key.name);
                    let problem = Problem::new(key.at, message);
                    self.problems.push(problem.hint("known keys are format, name, description, parameters, include, nodes, links"));
                }
            }
        }
    }

    /// Adds the nodes or links of an included file to those of the including one.
    fn merge(&mut self, entries: &mut Vec<(Key, Tree)>, key: Key, value: Tree) {
        let Some((_, ours)) = entries.iter_mut().find(|(ours, _)| ours.name == key.name) else {
            entries.push((key, value));
            return;
        };
        match (&mut ours.value, value.value) {
            (Value::Map(ours), Value::Map(theirs)) => {
                for (key, value) in theirs {
                    if let Some((first, _)) = ours.iter().find(|(ours, _)| ours.name == key.name) {
                        let message = format!("`{}` is there twice", key.name);
                        let problem = Problem::new(key.at, message)
                            .related(first.at, "the other one is here");
                        self.problems.push(problem.hint("rename one of the two"));
                    } else {
                        ours.push((key, value));
                    }
                }
            }
            (ours @ Value::Null, theirs) => *ours = theirs,
            // Of the wrong kind: the reader says so.
            _ => {}
        }
    }
}

/// Takes an entry out of a mapping.
fn take(entries: &mut Vec<(Key, Tree)>, name: &str) -> Option<(Key, Tree)> {
    let found = entries.iter().position(|(key, _)| key.name == name)?;
    Some(entries.remove(found))
}
