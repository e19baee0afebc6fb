//! `lisplab report`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use conformance::catalogue::catalogue;
use conformance::report::table::{Style, table};
use conformance::report::{html, junit, load, merge};
use conformance::suite;

use super::Exit;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folders that `lisplab test --out` or `lisplab sabotage --out` wrote: shards, machines, implementations.
    #[arg(required = true, value_name = "DIR")]
    runs: Vec<PathBuf>,
    /// Write one self-contained HTML file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write JUnit XML, for GitHub and GitLab.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print a table (what is done when no other form is asked for).
    #[arg(long)]
    table: bool,
    /// The date to print in the HTML file; none is printed otherwise, so that the same runs give the same file.
    #[arg(long, value_name = "TEXT", default_value = "")]
    date: String,
}

/// Ends with 1 where a result is not as expected or runs disagree.
pub(crate) fn run(args: &Args) -> Exit {
    match report(args) {
        Ok(exit) => exit,
        Err(problem) => super::complain(problem, Exit::Input),
    }
}

fn report(args: &Args) -> Result<Exit, String> {
    let page = args.html.as_deref().or(args.junit.as_deref());
    let base = page
        .and_then(Path::parent)
        .filter(|base| !base.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let runs: Vec<_> = args
        .runs
        .iter()
        .map(|folder| load(folder, base))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let mut report = merge(runs);
    report.date.clone_from(&args.date);
    report.coverage = Some(suite::coverage());
    if let Some(file) = &args.html {
        write(file, &html::html(&report, catalogue()))?;
    }
    if let Some(file) = &args.junit {
        let xml = junit::junit(&report, catalogue())
            .map_err(|error| format!("the JUnit file cannot be made: {error}"))?;
        write(file, &xml)?;
    }
    if args.table || page.is_none() {
        super::print(&table(&report, catalogue(), style()));
    }
    let fine = report.unexpected() == 0 && report.conflicts.is_empty();
    Ok(if fine { Exit::Fine } else { Exit::Findings })
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text)
        .map_err(|error| format!("{} cannot be written: {error}", file.display()))
}

fn style() -> Style {
    let terminal = std::io::stdout().is_terminal();
    let width = terminal
        .then(|| terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)))
        .flatten();
    Style {
        width,
        colour: terminal && std::env::var_os("NO_COLOR").is_none(),
    }
}
