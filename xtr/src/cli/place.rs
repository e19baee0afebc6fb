//! What the programs of this family share on their command lines: where the configuration and the admin socket are, and
//! running as a daemon.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use clap::Args;
use daemon::admin::{self, Request};
use daemon::config::ConfigError;
use daemon::{Failure, log};
use serde_json::Value;

use crate::config::Loaded;
use crate::shell;

/// The options that every command has, and how the program reads its configuration.
#[derive(Debug, Args)]
pub struct Place {
    /// Configuration file. Commands take the admin socket's path from it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Admin socket of the running daemon, instead of the configuration's.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// What differs between the programs.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Reads and checks a configuration file.
    pub read: fn(&Path) -> Result<Loaded, ConfigError>,
    /// Where the admin socket is when nothing says otherwise.
    pub socket: &'static str,
}

impl Place {
    /// The configuration file.
    ///
    /// # Errors
    /// None was named.
    pub fn config(&self) -> Result<&Path, Failure> {
        self.config
            .as_deref()
            .ok_or_else(|| Failure::Usage("expected --config FILE, found none".into()))
    }

    /// Asks the running daemon.
    ///
    /// # Errors
    /// The configuration that names the socket is wrong, nobody answers, or the daemon refuses.
    pub fn ask(&self, program: Program, request: &Request) -> Result<Value, Failure> {
        let socket = match (&self.socket, &self.config) {
            (Some(path), _) => path.clone(),
            (None, Some(config)) => (program.read)(config)?.admin_socket(),
            (None, None) => program.socket.into(),
        };
        Ok(admin::ask(&socket, request)?)
    }

    /// Runs as a daemon until it is told to stop.
    ///
    /// # Errors
    /// The configuration is wrong, or the host cannot do it.
    pub fn serve(&self, program: Program) -> Result<(), Failure> {
        let path = self.config()?;
        let loaded = (program.read)(path)?;
        log::init(loaded.config.log);
        // What was read to learn how to log is what the daemon starts with; after that it is read again on SIGHUP.
        let first = Cell::new(Some(loaded));
        shell::run(move |host| {
            let loaded = match first.take() {
                Some(loaded) => loaded,
                None => (program.read)(path)?,
            };
            Ok(loaded.setup(host)?)
        })
    }
}
