//! What commands print, and what is asked of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::runner::glob_matches;

/// A command in a node, and what it has to print.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// Any command.
    Exec {
        /// The node.
        node: String,
        /// The command and its arguments.
        argv: Vec<String>,
        /// It is killed after this time.
        timeout: Duration,
        /// What it has to print.
        wanted: Output,
    },
    /// What the node's program shows of itself, by a name of its adapter's `show`.
    Show {
        /// The node.
        node: String,
        /// What: `map-cache`, `database`, `sites`.
        what: String,
        /// What it has to print.
        wanted: Output,
    },
}

impl Question {
    /// What it has to print.
    pub fn wanted(&self) -> &Output {
        match self {
            Question::Exec { wanted, .. } | Question::Show { wanted, .. } => wanted,
        }
    }

    /// In a few words.
    pub fn text(&self) -> String {
        match self {
            Question::Exec { node, argv, .. } => format!("{node}: {}", argv.join(" ")),
            Question::Show { node, what, .. } => format!("{node}: show {what}"),
        }
    }
}

/// What a command has to print. All that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// Its exit code; `None` takes any.
    pub exit: Option<i32>,
    /// Texts that stand in it.
    pub contains: Vec<String>,
    /// Texts that do not.
    pub lacks: Vec<String>,
    /// Globs, each of which some line matches as a whole, blanks around it aside.
    pub lines: Vec<String>,
}

/// What a command printed, as it is kept in `trace.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// The step or the expectation that asked.
    pub name: String,
    /// When the answer was there, on the clock of the packets.
    pub time_ns: u64,
    /// What was asked.
    pub command: String,
    /// The exit code; `None` where a signal ended it, or it was not run.
    pub exit: Option<i32>,
    /// What it printed, both streams, the first 64 KiB.
    pub output: String,
    /// How often it was asked.
    pub asked: u64,
    /// Why nobody could be asked: the adapter knows no such `show`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsupported: Option<String>,
}

impl Output {
    /// What does not hold, if anything.
    pub fn missing(&self, exit: Option<i32>, output: &str) -> Option<String> {
        if let Some(wanted) = self.exit
            && exit != Some(wanted)
        {
            let found = exit.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
            return Some(format!("exit code {wanted}, found {found}"));
        }
        if let Some(text) = self.contains.iter().find(|text| !output.contains(*text)) {
            return Some(format!("{text:?} in the output"));
        }
        if let Some(text) = self.lacks.iter().find(|text| output.contains(*text)) {
            return Some(format!("no {text:?} in the output"));
        }
        let unmatched = self
            .lines
            .iter()
            .find(|glob| !output.lines().any(|line| glob_matches(glob, line.trim())));
        unmatched.map(|glob| format!("a line like {glob:?}"))
    }

    /// All of it in words.
    pub fn text(&self) -> String {
        let mut parts = Vec::new();
        if let Some(code) = self.exit {
            parts.push(format!("exit code {code}"));
        }
        parts.extend(self.contains.iter().map(|text| format!("{text:?}")));
        parts.extend(self.lacks.iter().map(|text| format!("no {text:?}")));
        parts.extend(
            self.lines
                .iter()
                .map(|glob| format!("a line like {glob:?}")),
        );
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wish_counts() {
        let wanted = Output {
            exit: Some(0),
            contains: vec!["b".to_owned()],
            lacks: vec!["x".to_owned()],
            lines: vec!["a*c".to_owned()],
        };
        assert_eq!(wanted.missing(Some(0), "  a b c  \n"), None);
        for (exit, output) in [
            (Some(1), "a b c"),
            (None, "a b c"),
            (Some(0), "a c"),
            (Some(0), "a b c\nx"),
            (Some(0), "a b c d"),
        ] {
            assert!(wanted.missing(exit, output).is_some(), "{exit:?} {output}");
        }
    }
}
