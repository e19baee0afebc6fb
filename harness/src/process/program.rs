//! Programs to start and what became of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A program to start in a node.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// What it is called in reports and log files; by default the file name of the program.
    pub name: Option<String>,
    /// The program and its arguments. A program without a slash is looked up in PATH.
    pub argv: Vec<String>,
    /// Environment, on top of the lab's own and the node's.
    pub env: BTreeMap<String, String>,
    /// Files in the node's private view, written before the start: absolute path and content.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// The working directory inside the node's view; by default `/run/node`.
    pub cwd: Option<PathBuf>,
}

impl Program {
    /// A program with arguments.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Program {
        Program {
            argv: argv.into_iter().map(Into::into).collect(),
            ..Program::default()
        }
    }

    /// Names it for reports and log files.
    pub fn named(mut self, name: impl Into<String>) -> Program {
        self.name = Some(name.into());
        self
    }

    /// Adds a file to the node's private view.
    pub fn file(mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Program {
        self.files.insert(path.into(), content.into());
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Program {
        self.env.insert(name.into(), value.into());
        self
    }

    pub(crate) fn display_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let program = self.argv.first().map(String::as_str).unwrap_or_default();
            program.rsplit('/').next().unwrap_or(program).to_owned()
        })
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// Whether it returned 0.
    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {number}"),
            },
        }
    }
}

/// What became of a process.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct ProcessReport {
    /// The node it ran in.
    pub node: String,
    /// Its name.
    pub name: String,
    /// What was started.
    pub argv: Vec<String>,
    /// When, on the clock of the packets.
    pub started_ns: u64,
    /// How it ended by itself or by `stop`; `None` if it was still running when the lab was finished.
    pub exit: Option<Exit>,
    /// Its output, both streams together; the middle is left out if it was too long.
    pub log: String,
    /// Octets of output that were left out.
    pub log_dropped: u64,
}

/// What a command printed and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// Something did not happen in time.
#[derive(Clone, Debug, thiserror::Error)]
#[error("not seen within {waited:?}: {what}{context}")]
pub struct NotSeen {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub waited: Duration,
    /// What was there instead, for the reader of the message.
    pub context: String,
}
