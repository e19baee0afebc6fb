//! How a daemon ends: exit codes that mean the same everywhere.
//!
//! 0 as expected, 1 findings, 2 wrong usage or wrong input, 3 the host cannot do it.

use std::fmt::Display;
use std::process::ExitCode;

use crate::config::ConfigError;

/// Why a program ends early. The text is complete: what was expected, what was found, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Exit code 1: the program ran and found something wrong.
    #[error("{0}")]
    Findings(String),
    /// Exit code 2: the command line or a file is wrong.
    #[error("{0}")]
    Usage(String),
    /// Exit code 3: this host or its state does not allow it.
    #[error("{0}")]
    Host(String),
}

impl Failure {
    /// A [`Failure::Host`] that says what was tried and why it did not work.
    pub fn host(tried: impl Display, error: impl Display) -> Self {
        Self::Host(format!("{tried}: {error}"))
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Findings(_) => 1,
            Self::Usage(_) => 2,
            Self::Host(_) => 3,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Runs a program's body: an error becomes one message on stderr and its exit code.
pub fn run(program: &str, body: impl FnOnce() -> Result<(), Failure>) -> ExitCode {
    match body() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{program}: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
