//! `msmr`: a LISP Map-Server and Map-Resolver.

use std::io::{Read, Write};
use std::path::PathBuf;
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
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    /// Serve with this configuration until SIGTERM; SIGHUP reads it again.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
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
    Reload(Socket),
    /// Check a configuration and do nothing.
    Check {
        /// The file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Socket {
    /// The daemon's admin socket.
    #[arg(long, value_name = "PATH", default_value = config::DEFAULT_ADMIN_SOCKET)]
    socket: PathBuf,
}

#[derive(Debug, Args)]
struct Output {
    #[command(flatten)]
    socket: Socket,
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
        #[command(flatten)]
        socket: Socket,
    },
    /// Remove a site with its registrations.
    Remove {
        /// Its name.
        name: String,
        #[command(flatten)]
        socket: Socket,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    exit::run("msmr", || match (cli.config, cli.command) {
        (_, Some(Command::Show(what))) => show(what),
        (_, Some(Command::Site(change))) => change_site(change),
        (_, Some(Command::Reload(socket))) => say(&ask(&socket.socket, &Request::new("reload"))?),
        (_, Some(Command::Check { config })) => {
            let read = config::load(&config)?;
            print(&format!(
                "{}: {} sites\n",
                config.display(),
                read.core.sites.len()
            ))
        }
        (Some(config), None) => msmr::run(&config),
        (None, None) => Err(Failure::Usage("expected --config FILE or a command".into())),
    })
}

fn show(what: Show) -> Result<(), Failure> {
    match what {
        Show::Sites { name, output } => {
            let request = named("sites", name.as_deref());
            answer(&output, &request, |sites: Vec<SiteView>| match name {
                None => Ok(show::sites(&sites)),
                Some(name) => {
                    let request = named("registrations", Some(&name));
                    let registered: Vec<RegistrationView> =
                        read(ask(&output.socket.socket, &request)?)?;
                    let shown = sites.iter().map(|site| show::site(site, &registered));
                    Ok(shown.collect())
                }
            })
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
            answer(&output, &request, |shown: Vec<RegistrationView>| {
                Ok(show::registrations(&shown))
            })
        }
        Show::Requests { output } => answer(&output, &Request::new("requests"), |shown| {
            Ok(show::counters(&shown))
        }),
        Show::Statistics { output } => {
            let text = |shown: StatisticsView| Ok(show::statistics(&shown));
            answer(&output, &Request::new("statistics"), text)
        }
    }
}

fn change_site(change: Site) -> Result<(), Failure> {
    match change {
        Site::Put { file, socket } => {
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
            say(&ask(&socket.socket, &request)?)
        }
        Site::Remove { name, socket } => {
            say(&ask(&socket.socket, &named("site-remove", Some(&name)))?)
        }
    }
}

fn named(command: &str, name: Option<&str>) -> Request {
    match name {
        Some(name) => Request::new(command).with("name", name),
        None => Request::new(command),
    }
}

fn answer<T: DeserializeOwned>(
    output: &Output,
    request: &Request,
    text: impl FnOnce(T) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let value = ask(&output.socket.socket, request)?;
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
