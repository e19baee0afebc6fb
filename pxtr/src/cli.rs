//! The command line of `pxtr`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use daemon::admin::{self, Request};
use daemon::{Failure, exit};

use crate::config;

/// A LISP proxy tunnel router: PITR and PETR, or a re-encapsulating tunnel router.
///
/// Without a command it runs as a daemon in the foreground with the given configuration.
#[derive(Debug, Parser)]
#[command(name = "pxtr", version, arg_required_else_help = true)]
struct Cli {
    /// Configuration file. Commands take the admin socket's path from it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Admin socket of the running daemon, instead of the configuration's.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the configuration and say whether it is good.
    Check,
    /// Show the state of the running daemon.
    Show {
        /// What to show.
        what: Shown,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Forget what was learned.
    #[command(subcommand)]
    Clear(ClearCommand),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shown {
    /// Mappings of the sites.
    MapCache,
    /// Messages and packets by what became of them.
    Statistics,
    /// The proxy: role, aggregates, accepted sources, proxy ETRs in use.
    Petr,
    /// Locators of the sites, and their reachability.
    Rlocs,
    /// Map-Resolvers.
    Neighbors,
}

impl Shown {
    fn command(self) -> &'static str {
        match self {
            Self::MapCache => "map-cache",
            Self::Statistics => "statistics",
            Self::Petr => "petr",
            Self::Rlocs => "rlocs",
            Self::Neighbors => "neighbors",
        }
    }
}

#[derive(Debug, Subcommand)]
enum ClearCommand {
    /// Every learned map-cache entry; static ones stay.
    MapCache,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    exit::run("pxtr", || cli.run())
}

impl Cli {
    fn run(self) -> Result<(), Failure> {
        match &self.command {
            None => self.serve(),
            Some(Command::Check) => self.check(),
            Some(Command::Show { what, json }) => {
                let value = admin::ask(&self.admin_socket()?, &Request::new(what.command()))?;
                xtr::cli::print(what.command(), value, *json)
            }
            Some(Command::Clear(ClearCommand::MapCache)) => {
                admin::ask(&self.admin_socket()?, &Request::new("clear-map-cache"))?;
                Ok(())
            }
        }
    }

    fn config(&self) -> Result<&Path, Failure> {
        self.config
            .as_deref()
            .ok_or_else(|| Failure::Usage("expected --config FILE, found none".into()))
    }

    fn admin_socket(&self) -> Result<PathBuf, Failure> {
        match (&self.socket, &self.config) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(config)) => Ok(config::read(config)?.admin_socket()),
            (None, None) => Ok("/run/lisp/pxtr.sock".into()),
        }
    }

    fn serve(&self) -> Result<(), Failure> {
        let path = self.config()?;
        let loaded = config::read(path)?;
        daemon::log::init(loaded.config.log);
        drop(loaded);
        xtr::shell::run(|host| Ok(config::read(path)?.setup(host)?))
    }

    fn check(&self) -> Result<(), Failure> {
        let path = self.config()?;
        let loaded = config::read(path)?;
        println!(
            "{}: good: role {}, {} aggregates, {} Map-Resolvers",
            path.display(),
            loaded.proxy().role.name(),
            loaded.proxy().aggregates.len(),
            loaded.config.map_resolvers.len()
        );
        Ok(())
    }
}
