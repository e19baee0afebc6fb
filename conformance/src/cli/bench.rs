//! `lisplab bench`: figures, never verdicts.

mod scale;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use conformance::home;

use super::{Exit, complain};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    which: Which,
}

#[derive(Debug, clap::Subcommand)]
enum Which {
    /// Building a network, side by side with `ip -batch` doing the same.
    Build {
        /// Nodes around the core.
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=250))]
        nodes: u16,
        /// Rounds; medians are printed.
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
        rounds: u16,
        /// For programs; see docs/formats.md.
        #[arg(long)]
        json: bool,
    },
    /// Many LISP sites in one lab, with their routers; and the same network built by `ip -batch`, mininet and munet.
    Scale(scale::Args),
    /// The tunnel router's packet path next to plain routing and kernel VXLAN.
    Dataplane(Passed),
    /// The tunnel router's map-cache.
    MapCache(Passed),
    /// The Map-Server next to a bare UDP echo.
    Msmr(Passed),
}

/// Arguments of the benchmark program itself.
#[derive(Debug, clap::Args)]
struct Passed {
    /// For programs; see docs/formats.md.
    #[arg(long)]
    json: bool,
    /// What the benchmark itself takes, such as --rounds 3; `-- --help` lists it.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    match &args.which {
        Which::Build {
            nodes,
            rounds,
            json,
        } => ExitCode::from(build(*nodes, *rounds, *json) as u8),
        Which::Scale(args) => ExitCode::from(scale::run(args) as u8),
        Which::Dataplane(passed) => program("xtr-bench", Some("dataplane"), passed, true),
        Which::MapCache(passed) => program("xtr-bench", Some("map-cache"), passed, true),
        // It prints nothing but JSON.
        Which::Msmr(passed) => program("msmr-bench", None, passed, false),
    }
}

fn build(nodes: u16, rounds: u16, json: bool) -> Exit {
    if let Err(error) = harness::host::enter() {
        return complain(error, Exit::Host);
    }
    let figures = match harness::bench::build(usize::from(nodes), usize::from(rounds)) {
        Ok(figures) => figures,
        Err(error) => {
            let exit = if error.exit_code() == 2 {
                Exit::Input
            } else {
                Exit::Host
            };
            return complain(error, exit);
        }
    };
    if json {
        let mut text = serde_json::to_string_pretty(&figures).expect("figures serialize");
        text.push('\n');
        super::print(&text);
    } else {
        super::print(&format!(
            "{} nodes around a core, medians of {} rounds\n  built     {:>8.1} ms\n  ip -batch {:>8.1} ms\n  ratio     {:>8.2}\n  let go    {:>8.1} ms\n",
            figures.nodes,
            figures.rounds,
            figures.ours_ms,
            figures.ip_batch_ms,
            figures.ratio_to_ip_batch,
            figures.teardown_ms
        ));
    }
    Exit::Fine
}

/// Runs a benchmark program of another package, built with optimisation where this is a checkout.
fn program(name: &str, subcommand: Option<&str>, passed: &Passed, knows_json: bool) -> ExitCode {
    let path = match optimised(name) {
        Ok(path) => path,
        Err(problem) => return ExitCode::from(complain(problem, Exit::Host) as u8),
    };
    let mut command = Command::new(&path);
    command.args(subcommand);
    if passed.json && knows_json {
        command.arg("--json");
    }
    command.args(&passed.arguments);
    match command.status() {
        Ok(status) => ExitCode::from(
            status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1),
        ),
        Err(error) => {
            ExitCode::from(complain(format!("{}: {error}", path.display()), Exit::Host) as u8)
        }
    }
}

fn optimised(name: &str) -> Result<PathBuf, String> {
    let Some(checkout) = home::checkout() else {
        let beside = std::env::current_exe()
            .ok()
            .and_then(|executable| Some(executable.parent()?.join(name)));
        return beside.filter(|path| path.is_file()).ok_or_else(|| {
            format!(
                "the program {name} is not beside lisplab, and this is no checkout to build it from"
            )
        });
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--release",
            "--quiet",
            "--workspace",
            "--bin",
            name,
            "--manifest-path",
        ])
        .arg(checkout.join("Cargo.toml"));
    // Beside the checkout's other results, also when we run from elsewhere.
    let target = checkout.join("target");
    command.arg("--target-dir").arg(&target);
    let status = command
        .status()
        .map_err(|error| format!("cargo cannot be started to build {name}: {error}"))?;
    if !status.success() {
        return Err(format!("cargo could not build {name}"));
    }
    Ok(target.join("release").join(name))
}
