//! Commands for a lab that is up: look into it, and break it.

mod capture;
mod facts;
mod link;
mod logs;
mod programs;

pub(crate) use capture::{CaptureArgs, capture};
pub(crate) use facts::facts;
pub(crate) use link::{LinkArgs, link};
pub(crate) use logs::{LogsArgs, logs};
pub(crate) use programs::{KillArgs, RestartArgs, ShellArgs, kill, restart, shell};

/// Which lab is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// The lab; the only one that is up if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) lab: Option<String>,
}
