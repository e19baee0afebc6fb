//! `lisplab report`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use conformance::catalogue::{catalogue, coverage};
use conformance::report::model::Report;
use conformance::report::table::{Style, table};
use conformance::report::{html, junit, load, merge};

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
    count_coverage(&mut report);
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

/// What the runs cover of the catalogue.
fn count_coverage(report: &mut Report) {
    let (mut by_case, mut by_invariant) = (Vec::new(), Vec::new());
    for case in report.runs.iter().flat_map(|run| &run.cases) {
        for row in &case.requirements {
            if row.invariant {
                by_invariant.push(row.id.clone());
            } else {
                by_case.push((row.id.clone(), case.id.clone()));
            }
        }
    }
    let cases = by_case
        .iter()
        .map(|(requirement, case)| (requirement.as_str(), case.as_str()));
    report.coverage = Some(coverage(
        catalogue(),
        cases,
        by_invariant.iter().map(String::as_str),
    ));
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
