//! The command line of `pxtr`.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use daemon::admin::Request;
use daemon::{Failure, exit};
use xtr::cli::{ClearCommand, Place, Program, print, say};

use crate::config::{self, Config};

const PROGRAM: Program = Program {
    read: config::read,
    socket: config::SOCKET,
};

/// A LISP proxy tunnel router: PITR and PETR, or a re-encapsulating tunnel router.
///
/// Without a command it runs as a daemon in the foreground with the given configuration.
#[derive(Debug, Parser)]
#[command(name = "pxtr", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the configuration and say whether it is good.
    Check,
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
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

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    exit::run("pxtr", || cli.run())
}

impl Cli {
    fn run(self) -> Result<(), Failure> {
        match &self.command {
            None => self.place.serve(PROGRAM),
            Some(Command::Check) => self.check(),
            Some(Command::Schema) => say(&format!("{}\n", daemon::config::schema::<Config>())),
            Some(Command::Show { what, json }) => {
                let value = self.place.ask(PROGRAM, &Request::new(what.command()))?;
                print(what.command(), value, *json)
            }
            Some(Command::Clear(command)) => {
                self.place.ask(PROGRAM, &command.request())?;
                Ok(())
            }
        }
    }

    fn check(&self) -> Result<(), Failure> {
        let path = self.place.config()?;
        let loaded = config::read(path)?;
        say(&format!(
            "{}: good: role {}, {} aggregates, {} Map-Resolvers\n",
            path.display(),
            loaded.proxy().role.name(),
            loaded.proxy().aggregates.len(),
            loaded.config.map_resolvers.len()
        ))
    }
}
