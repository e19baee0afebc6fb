//! The command line. Exit codes: 0 as expected, 1 findings, 2 usage or input, 3 the host cannot do it, 130 interrupted.

mod bench;
mod bundle;
mod check;
mod completion;
mod coverage;
mod dissect;
mod doctor;
mod graph;
mod init;
mod interrupt;
mod judge;
mod lab;
mod live;
mod poor;
mod progress;
mod replay;
mod report;
mod run;
mod sabotage;
mod schema;
mod table;
mod test;

use std::fmt::Display;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A lab and a judge for LISP, the Locator/ID Separation Protocol.
#[derive(Debug, Parser)]
#[command(name = "lisplab", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How much of the requirement catalogue the suite judges.
    Coverage(coverage::Args),
    /// Show every field of packets with its offset, bits, value and section.
    Dissect(dissect::Args),
    /// Run the cases and judge them.
    Test(test::Args),
    /// Run each case with each of its sabotages: each must turn its case red.
    Sabotage(sabotage::Args),
    /// Run a scenario: a network, what is done in it and what is expected, in one file.
    Run(run::Args),
    /// Show, make or unpack a bundle: a failing case or scenario as one file.
    Bundle(bundle::Args),
    /// Run a bundle again here, and say whether the result is the same.
    Replay(replay::Args),
    /// Judge saved packets: a capture from anywhere, or the evidence of a run.
    Judge(judge::Args),
    /// Bring a network up that stays, with its programs.
    Up(lab::UpArgs),
    /// Run a command in a node of a lab that is up.
    Exec(lab::ExecArgs),
    /// Show a lab that is up.
    Status(lab::StatusArgs),
    /// Open a shell in a node of a lab that is up.
    Shell(live::ShellArgs),
    /// Show what the programs of a node said.
    Logs(live::LogsArgs),
    /// Show what passes the links of a lab, or write it to a file.
    Capture(live::CaptureArgs),
    /// Stop and start the programs of a node.
    Restart(live::RestartArgs),
    /// Send a signal to the programs of a node.
    Kill(live::KillArgs),
    /// Look at a link, pull its cable, damage it.
    Link(live::LinkArgs),
    /// Take a lab down, and remove what crashed ones left.
    Down(lab::DownArgs),
    /// Check topology files.
    Check(check::Args),
    /// Write a commented topology to begin with.
    Init(init::Args),
    /// Print the JSON Schema of a file format, for editors.
    Schema(schema::Args),
    /// Say what this host can do, and what to change.
    Doctor(doctor::Args),
    /// Print a completion script for a shell.
    Completion(completion::Args),
    /// Measure.
    Bench(bench::Args),
    /// Run the cases against programs that are no LISP routers: nothing may pass.
    Poor(poor::Args),
    /// One of those programs.
    #[command(hide = true)]
    PoorProgram(poor::ProgramArgs),
    /// Draw a topology: SVG, or Mermaid text.
    Graph(graph::Args),
    /// Merge runs into one report: table, JUnit, HTML.
    Report(report::Args),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// As expected.
    Fine = 0,
    /// Something was found: a failed case, an invalid packet.
    Findings = 1,
    /// Wrong usage or unreadable input.
    Input = 2,
    /// The host lacks a permission or a kernel feature.
    Host = 3,
}

/// Parses the arguments and runs the command.
pub(crate) fn run() -> ExitCode {
    let exit = match Cli::parse().command {
        Command::Coverage(args) => coverage::run(&args),
        Command::Dissect(args) => dissect::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Sabotage(args) => sabotage::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Bundle(args) => bundle::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Up(args) => lab::up(&args),
        // The exit code is the command's.
        Command::Exec(args) => return lab::exec(&args),
        Command::Status(args) => lab::status(&args),
        Command::Shell(args) => return live::shell(&args),
        Command::Logs(args) => live::logs(&args),
        Command::Capture(args) => live::capture(&args),
        Command::Restart(args) => live::restart(&args),
        Command::Kill(args) => live::kill(&args),
        Command::Link(args) => live::link(&args),
        Command::Down(args) => lab::down(&args),
        Command::Init(args) => init::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completion(args) => completion::run(&args),
        Command::Judge(args) => judge::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Bench(args) => return bench::run(&args),
        Command::Poor(args) => poor::run(&args),
        Command::PoorProgram(args) => poor::program(&args),
        Command::Graph(args) => graph::run(&args),
        Command::Report(args) => report::run(&args),
    };
    ExitCode::from(exit as u8)
}

/// Says what was wrong, on stderr, and returns the exit code that goes with it.
pub(crate) fn complain(error: impl Display, exit: Exit) -> Exit {
    say(&format!("Error: {error}\n"));
    exit
}

/// Writes to stderr; nobody who reads it is not an error.
pub(crate) fn say(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// A value as JSON for programs.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("strings and numbers serialize");
    text.push('\n');
    text
}

/// Writes to stdout; a closed pipe (`| head`) is not an error.
pub(crate) fn print(text: &str) {
    print_bytes(text.as_bytes());
}

/// As [`print`], for octets; false when nobody reads any more.
pub(crate) fn print_bytes(text: &[u8]) -> bool {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush()).is_ok()
}

/// Writes a value as a line of JSON; false when nobody reads any more.
pub(crate) fn print_line(value: &serde_json::Value) -> bool {
    print_bytes(format!("{value}\n").as_bytes())
}

/// Writes a value as indented JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) {
    let mut text = serde_json::to_string_pretty(value).expect("what is printed serializes");
    text.push('\n');
    print(&text);
}
