//! `lisplab report`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use conformance::case;
use conformance::catalogue::catalogue;
use conformance::report::table::table;
use conformance::report::{Report, html, json, junit, load, merge};
use conformance::suite;

use super::Exit;
use super::table::style;

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
    /// Write the merged record for programs; see docs/formats.md.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print a table (what is done when no other form is asked for).
    #[arg(long)]
    table: bool,
    /// Each run must have every case of this suite, long ones aside: a shard that was lost is no pass.
    #[arg(long)]
    complete: bool,
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
    let page = args
        .html
        .as_deref()
        .or(args.junit.as_deref())
        .or(args.json.as_deref());
    let base = page
        .and_then(Path::parent)
        .filter(|base| !base.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let runs: Vec<Vec<_>> = args
        .runs
        .iter()
        .map(|folder| load(folder, base))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let mut report = merge(runs.into_iter().flatten());
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
    if let Some(file) = &args.json {
        write(file, &json::json(&report))?;
    }
    if args.table || page.is_none() {
        super::print(&table(&report, catalogue(), style()));
    }
    let missing = if args.complete {
        missing(&report)
    } else {
        Vec::new()
    };
    for (run, case) in &missing {
        eprintln!("missing: {case} of {run}");
    }
    let fine = report.unexpected() == 0 && report.conflicts.is_empty() && missing.is_empty();
    Ok(if fine { Exit::Fine } else { Exit::Findings })
}

/// Cases of the suite that a run's edition asks for and that it has no result of, with the run.
fn missing(report: &Report) -> Vec<(String, &'static str)> {
    let mut missing = Vec::new();
    for run in &report.runs {
        let there: BTreeSet<&str> = run.cases.iter().map(|case| case.id.as_str()).collect();
        let asked = |case: &case::Case| {
            let mut editions = case.editions.iter();
            editions.any(|edition| edition.to_string() == run.edition)
        };
        let wanted = case::all()
            .iter()
            .filter(|case| !case.slow && asked(case) && !there.contains(case.id));
        missing.extend(wanted.map(|case| (run.title(), case.id)));
    }
    missing
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text)
        .map_err(|error| format!("{} cannot be written: {error}", file.display()))
}
