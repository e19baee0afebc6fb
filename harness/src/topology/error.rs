//! What is wrong with a topology file, and where.

use std::fmt;

/// A place in a YAML file; both numbers count from 1. `0:0` means that the place is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
    /// Which file: 0 is the topology itself, others are included ones in the order in which they were read.
    pub file: u32,
}

/// The files that a topology is made of: names and lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(Vec<(String, Vec<String>)>);

impl Sources {
    /// Adds a file and returns its number.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> u32 {
        let lines = text.lines().map(str::to_owned).collect();
        self.0.push((name.to_owned(), lines));
        self.0.len() as u32 - 1
    }

    fn name(&self, at: Position) -> &str {
        self.0.get(at.file as usize).map_or("", |(name, _)| name)
    }

    fn line(&self, at: Position) -> Option<&str> {
        let (_, lines) = self.0.get(at.file as usize)?;
        let number = (at.line as usize).checked_sub(1)?;
        lines.get(number).map(String::as_str)
    }
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
    /// What was found and what was expected, and where.
    pub fn new(at: Position, message: impl Into<String>) -> Problem {
        Problem {
            at,
            message: message.into(),
            hint: None,
            related: None,
        }
    }

    /// The same with what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
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
    sources: Sources,
}

impl TopologyError {
    pub(crate) fn new(sources: Sources, mut problems: Vec<Problem>) -> TopologyError {
        problems.sort_by_key(|p| (p.at.file, p.at));
        problems.dedup();
        TopologyError {
            file: sources.name(Position::default()).to_owned(),
            problems,
            sources,
        }
    }

    /// A problem of the file as a whole (it cannot be read, say).
    pub fn of_file(file: &str, message: String, hint: &str) -> TopologyError {
        let problem = Problem::new(Position::default(), message).hint(hint);
        let mut sources = Sources::default();
        sources.add(file, "");
        TopologyError::new(sources, vec![problem])
    }

    /// Problems of one text.
    pub fn of_text(file: &str, text: &str, problems: Vec<Problem>) -> TopologyError {
        let mut sources = Sources::default();
        sources.add(file, text);
        TopologyError::new(sources, problems)
    }

    fn quote(&self, f: &mut fmt::Formatter<'_>, at: Position) -> fmt::Result {
        let Some(line) = self.sources.line(at) else {
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
                let file = self.sources.name(problem.at);
                writeln!(f, "{file}:{}: {}", problem.at, problem.message)?;
                self.quote(f, problem.at)?;
            }
            if let Some((at, what)) = &problem.related {
                writeln!(f, "  note: {}:{at}: {what}", self.sources.name(*at))?;
            }
            if let Some(hint) = &problem.hint {
                writeln!(f, "  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for TopologyError {}
