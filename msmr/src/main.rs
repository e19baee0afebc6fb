//! `msmr`: a LISP Map-Server and Map-Resolver.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use daemon::admin::{Request, ask};
use daemon::{Failure, exit};
use msmr::core::show::{RegistrationView, SiteView, StatisticsView};
use msmr::{config, show};
use serde::de::DeserializeOwned;
use serde_json::Value;

#[global_allocator]
static MEMORY: msmr::memory::LargePages = msmr::memory::LargePages;

/// LISP Map-Server and Map-Resolver (RFC 6833, RFC 9301).
///
/// Exit codes: 0 as expected, 2 wrong usage or input, 3 the host cannot do it.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Where the running daemon is.
#[derive(Debug, Args)]
struct Place {
    /// Without a command: serve with this configuration until SIGTERM; SIGHUP reads it again. Commands take the admin
    /// socket's path from it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Admin socket of the running daemon, instead of the configuration's.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Place {
    fn config(&self) -> Result<&Path, Failure> {
        self.config
            .as_deref()
            .ok_or_else(|| Failure::Usage("expected --config FILE, found none".into()))
    }

    fn ask(&self, request: &Request) -> Result<Value, Failure> {
        let socket = match (&self.socket, &self.config) {
            (Some(path), _) => path.clone(),
            (None, Some(config)) => config::load(config)?.admin_socket,
            (None, None) => config::DEFAULT_ADMIN_SOCKET.into(),
        };
        Ok(ask(&socket, request)?)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask the running daemon.
    #[command(subcommand)]
    Show(Show),
    /// Change sites of the running daemon, until its configuration is read again.
    #[command(subcommand)]
    Site(Site),
    /// Make the running daemon read its configuration again.
    Reload,
    /// Check a configuration and do nothing.
    Check,
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
}

#[derive(Debug, Args)]
struct Output {
    /// For programs.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Show {
    /// Sites, or one with everything about it.
    Sites {
        /// Its name.
        name: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Registered prefixes with their ETRs and locators.
    Registrations {
        /// Only those of this site.
        name: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 1000)]
        limit: u64,
        /// Start after this prefix, such as 10.0.0.0/8 or [7]10.0.0.0/8.
        #[arg(long, value_name = "PREFIX")]
        after: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// What became of Map-Requests.
    Requests {
        #[command(flatten)]
        output: Output,
    },
    /// Sizes and all counters.
    Statistics {
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
enum Site {
    /// Add a site, or change the one of that name.
    Put {
        /// A file with one site as the configuration writes it; - for standard input.
        file: PathBuf,
    },
    /// Remove a site with its registrations.
    Remove {
        /// Its name.
        name: String,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let place = &cli.place;
    exit::run("msmr", || match cli.command {
        Some(Command::Show(what)) => show(place, what),
        Some(Command::Site(change)) => change_site(place, change),
        Some(Command::Reload) => say(&place.ask(&Request::new("reload"))?),
        Some(Command::Check) => {
            let path = place.config()?;
            let read = config::load(path)?;
            print(&format!(
                "{}: {} sites\n",
                path.display(),
                read.core.sites.len()
            ))
        }
        Some(Command::Schema) => print(&format!("{}\n", config::schema())),
        None => msmr::run(place.config()?),
    })
}

fn show(place: &Place, what: Show) -> Result<(), Failure> {
    match what {
        Show::Sites { name, output } => {
            let request = named("sites", name.as_deref());
            answer(
                place,
                &output,
                &request,
                |sites: Vec<SiteView>| match name {
                    None => Ok(show::sites(&sites)),
                    Some(_) => Ok(sites.iter().map(show::site).collect()),
                },
            )
        }
        Show::Registrations {
            name,
            limit,
            after,
            output,
        } => {
            let mut request = named("registrations", name.as_deref()).with("limit", limit);
            if let Some(after) = after {
                request = request.with("after", after);
            }
            answer(place, &output, &request, |shown: Vec<RegistrationView>| {
                let mut text = show::registrations(&shown);
                let full = u64::try_from(shown.len()).is_ok_and(|count| count == limit);
                if let Some(last) = shown.last().filter(|_| full) {
                    text.push_str(&show::go_on(name.as_deref(), last));
                }
                Ok(text)
            })
        }
        Show::Requests { output } => answer(place, &output, &Request::new("requests"), |shown| {
            Ok(show::counters(&shown))
        }),
        Show::Statistics { output } => {
            let text = |shown: StatisticsView| Ok(show::statistics(&shown));
            answer(place, &output, &Request::new("statistics"), text)
        }
    }
}

fn change_site(place: &Place, change: Site) -> Result<(), Failure> {
    match change {
        Site::Put { file } => {
            let mut text = String::new();
            let result = if file.as_os_str() == "-" {
                std::io::stdin().read_to_string(&mut text).map(|_| ())
            } else {
                std::fs::read_to_string(&file).map(|read| text = read)
            };
            result.map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
            let request = Request::new("site-put")
                .with("site", text)
                .with("file", file.display().to_string());
            say(&place.ask(&request)?)
        }
        Site::Remove { name } => say(&place.ask(&named("site-remove", Some(&name)))?),
    }
}

fn named(command: &str, name: Option<&str>) -> Request {
    match name {
        Some(name) => Request::new(command).with("name", name),
        None => Request::new(command),
    }
}

fn answer<T: DeserializeOwned>(
    place: &Place,
    output: &Output,
    request: &Request,
    text: impl FnOnce(T) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let value = place.ask(request)?;
    if output.json {
        return print(&format!("{value:#}\n"));
    }
    print(&text(read(value)?)?)
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| {
        Failure::Host(format!(
            "the daemon's answer is of another version than this program: {error}"
        ))
    })
}

fn say(value: &Value) -> Result<(), Failure> {
    print(&format!("{}\n", value.as_str().unwrap_or_default()))
}

/// Prints; a reader that closes the pipe early is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::host("standard output", error))
        }
        _ => Ok(()),
    }
}
