//! What is wrong with a topology file, and where.

use std::fmt;

/// A place in a YAML file; both numbers count from 1. `0:0` means that the place is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One finding about a topology file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub at: Position,
    /// What was found and what was expected.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// A second place that takes part, with what is there (the first of two duplicates).
    pub related: Option<(Position, String)>,
}

impl Problem {
    pub(crate) fn new(at: Position, message: impl Into<String>) -> Problem {
        Problem {
            at,
            message: message.into(),
            hint: None,
            related: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn related(mut self, at: Position, what: impl Into<String>) -> Problem {
        self.related = Some((at, what.into()));
        self
    }
}

/// A topology file that cannot be used: every problem that was found in it, in the order of the file.
///
/// `Display` prints, per problem, `FILE:LINE:COLUMN: message`, the line with a mark under the column, and the hint.
#[derive(Clone, Debug)]
pub struct TopologyError {
    /// The file, as it was named.
    pub file: String,
    /// What is wrong; never empty.
    pub problems: Vec<Problem>,
    lines: Vec<String>,
}

impl TopologyError {
    pub(crate) fn new(file: &str, source: &str, mut problems: Vec<Problem>) -> TopologyError {
        problems.sort_by_key(|p| p.at);
        problems.dedup();
        TopologyError {
            file: file.to_owned(),
            problems,
            lines: source.lines().map(str::to_owned).collect(),
        }
    }

    /// A problem of the file as a whole (it cannot be read, say).
    pub(crate) fn of_file(file: &str, message: String, hint: &str) -> TopologyError {
        let problem = Problem::new(Position::default(), message).hint(hint);
        TopologyError::new(file, "", vec![problem])
    }

    fn quote(&self, f: &mut fmt::Formatter<'_>, at: Position) -> fmt::Result {
        let Some(line) = (at.line as usize)
            .checked_sub(1)
            .and_then(|n| self.lines.get(n))
        else {
            return Ok(());
        };
        // A hostile file may have a line of megabytes: show the part around the place.
        let column = (at.column as usize).max(1) - 1;
        let from = column.saturating_sub(60);
        let part: String = line
            .chars()
            .skip(from)
            .take(120)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let number = at.line.to_string();
        writeln!(f, "  {number} | {part}")?;
        let pad = " ".repeat(number.len());
        writeln!(f, "  {pad} | {}^", " ".repeat(column - from))
    }
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            if problem.at.line == 0 {
                writeln!(f, "{}: {}", self.file, problem.message)?;
            } else {
                writeln!(f, "{}:{}: {}", self.file, problem.at, problem.message)?;
                self.quote(f, problem.at)?;
            }
            if let Some((at, what)) = &problem.related {
                writeln!(f, "  note: {}:{at}: {what}", self.file)?;
            }
            if let Some(hint) = &problem.hint {
                writeln!(f, "  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for TopologyError {}
