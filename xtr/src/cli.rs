//! The command line of `xtr`.

mod lig;
mod output;
mod place;

use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use daemon::admin::Request;
use daemon::{Failure, exit};
pub use output::{print, say};
pub use place::{Place, Program};
use serde_json::{Value, json};

use crate::config::{Config, Loaded};

const PROGRAM: Program = Program {
    read: Loaded::read,
    socket: crate::config::SOCKET,
};

/// A LISP tunnel router: ITR and ETR of a site.
///
/// Without a command it runs as a daemon in the foreground with the given configuration.
#[derive(Debug, Parser)]
#[command(name = "xtr", version, arg_required_else_help = true)]
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
    /// Change the database of the running daemon.
    #[command(visible_alias = "eid", subcommand)]
    Database(DatabaseCommand),
    /// Hold one of the site's locators up or down.
    #[command(subcommand)]
    Rloc(RlocCommand),
    /// Forget what was learned.
    #[command(subcommand)]
    Clear(ClearCommand),
    /// Ask the mapping system for an EID and show the answer (RFC 6835); the daemon need not run.
    Lig(lig::Lig),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shown {
    MapCache,
    Database,
    Away,
    Rlocs,
    Neighbors,
    Petr,
    Statistics,
}

impl Shown {
    fn command(self) -> &'static str {
        match self {
            Self::MapCache => "map-cache",
            Self::Database => "database",
            Self::Away => "away",
            Self::Rlocs => "rlocs",
            Self::Neighbors => "neighbors",
            Self::Petr => "petr",
            Self::Statistics => "statistics",
        }
    }
}

#[derive(Debug, Subcommand)]
enum DatabaseCommand {
    /// Add an EID-Prefix, or replace its locator-set.
    Add(AddArguments),
    /// Take an EID-Prefix out: it is deregistered, and its users are told.
    Remove {
        /// Such as 10.1.0.0/24 or [7]10.1.0.0/24.
        prefix: String,
    },
    /// Replace an EID-Prefix by another one with the same locator-set.
    Move {
        /// The EID-Prefix that goes.
        from: String,
        /// The one that comes.
        to: String,
    },
    /// Hold one of the site's locators up or down.
    #[command(subcommand)]
    Locator(RlocCommand),
}

#[derive(Debug, Args)]
struct AddArguments {
    /// Such as 10.1.0.0/24 or [7]10.1.0.0/24.
    prefix: String,
    /// ADDRESS, ADDRESS,PRIORITY or ADDRESS,PRIORITY,WEIGHT; once for each locator.
    #[arg(long = "locator", required = true, value_name = "ADDRESS[,P[,W]]")]
    locators: Vec<String>,
    /// Minutes that others may keep the mapping.
    #[arg(long, default_value_t = 1440)]
    ttl: u32,
}

#[derive(Debug, Subcommand)]
enum RlocCommand {
    /// Reachable: R=1.
    Up {
        /// The locator.
        address: IpAddr,
    },
    /// Not reachable: R=0.
    Down {
        /// The locator.
        address: IpAddr,
    },
}

/// What `clear` forgets.
#[derive(Debug, Subcommand)]
pub enum ClearCommand {
    /// Learned map-cache entries; static ones stay.
    MapCache {
        /// Only this one, such as 10.2.0.0/24 or [7]10.2.0.0/24; all if not given.
        prefix: Option<String>,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    exit::run("xtr", || cli.run())
}

impl Cli {
    fn run(self) -> Result<(), Failure> {
        let request = match &self.command {
            None => return self.place.serve(PROGRAM),
            Some(Command::Check) => return self.check(),
            Some(Command::Schema) => {
                return output::say(&format!("{}\n", daemon::config::schema::<Config>()));
            }
            Some(Command::Show { what, json }) => {
                let value = self.ask(&Request::new(what.command()))?;
                return output::print(what.command(), value, *json);
            }
            Some(Command::Lig(lig)) => return lig.run(&Loaded::read(self.place.config()?)?),
            Some(Command::Database(command)) => command.request()?,
            Some(Command::Rloc(command)) => command.request(),
            Some(Command::Clear(command)) => command.request(),
        };
        self.ask(&request)?;
        Ok(())
    }

    fn ask(&self, request: &Request) -> Result<Value, Failure> {
        self.place.ask(PROGRAM, request)
    }

    fn check(&self) -> Result<(), Failure> {
        let path = self.place.config()?;
        let loaded = Loaded::read(path)?;
        output::say(&format!(
            "{}: good: {} EID-Prefixes, {} Map-Servers, {} Map-Resolvers\n",
            path.display(),
            loaded.config.eid_prefixes.len(),
            loaded.config.map_servers.len(),
            loaded.config.map_resolvers.len()
        ))
    }
}

impl ClearCommand {
    /// What the daemon is asked.
    pub fn request(&self) -> Request {
        let Self::MapCache { prefix } = self;
        let request = Request::new("clear-map-cache");
        match prefix {
            Some(prefix) => request.with("prefix", prefix.as_str()),
            None => request,
        }
    }
}

impl RlocCommand {
    fn request(&self) -> Request {
        let (address, state) = match self {
            Self::Up { address } => (address, "up"),
            Self::Down { address } => (address, "down"),
        };
        Request::new("locator")
            .with("address", address.to_string())
            .with("state", state)
    }
}

impl DatabaseCommand {
    fn request(&self) -> Result<Request, Failure> {
        Ok(match self {
            Self::Add(arguments) => arguments.request()?,
            Self::Remove { prefix } => {
                Request::new("database-remove").with("prefix", prefix.as_str())
            }
            Self::Move { from, to } => Request::new("database-move")
                .with("from", from.as_str())
                .with("to", to.as_str()),
            Self::Locator(command) => command.request(),
        })
    }
}

impl AddArguments {
    fn request(&self) -> Result<Request, Failure> {
        let mut locators = Vec::new();
        for text in &self.locators {
            let mut parts = text.split(',');
            let wrong = || {
                Failure::Usage(format!(
                    "expected a locator as ADDRESS[,PRIORITY[,WEIGHT]], found `{text}`"
                ))
            };
            let address = parts.next().unwrap_or_default();
            let mut number = |default: u8| match parts.next() {
                None => Ok(default),
                Some(part) => part.parse::<u8>().map_err(|_| wrong()),
            };
            let (priority, weight) = (number(1)?, number(100)?);
            if parts.next().is_some() || address.parse::<IpAddr>().is_err() {
                return Err(wrong());
            }
            locators.push(json!({"address": address, "priority": priority, "weight": weight}));
        }
        Ok(Request::new("database-add")
            .with("prefix", self.prefix.as_str())
            .with("ttl", self.ttl)
            .with("locators", locators))
    }
}
