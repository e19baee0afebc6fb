//! `lisplab sabotage`: the suite's own test.

use std::fmt::Write as _;
use std::sync::Arc;

use conformance::kill::{Matrix, matrix, outcome};
use conformance::runner::Run;
use conformance::suite;

use super::interrupt::run_cases;
use super::test::{How, Which};
use super::{Exit, complain, say};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: How,
    /// For programs; see docs/formats.md.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Exit {
    let cases = match args.which.cases() {
        Ok(cases) => cases,
        Err(problem) => return complain(problem, Exit::Input),
    };
    let options = match args.how.options(args.which.takes_slow()) {
        Ok(options) => options,
        Err((problem, exit)) => return complain(problem, exit),
    };
    if let Err(problem) = suite::prepare(&options) {
        return complain(problem, Exit::Host);
    }
    if let Err(error) = harness::host::enter() {
        return complain(error, Exit::Host);
    }
    let runs: Vec<Run<'_>> = cases
        .iter()
        .flat_map(|case| case.sabotages.iter().map(move |sabotage| (*case, sabotage)))
        .map(|(case, sabotage)| Run {
            case,
            sabotage: Some(sabotage),
            repetition: 0,
            options: &options,
        })
        .collect();
    let results = match run_cases(&runs, &options, &Arc::default(), |_| {
        say("the kill matrix is not written\n");
    }) {
        Ok(results) => results,
        Err((problem, exit)) => return complain(problem, exit),
    };
    let outcomes = runs
        .iter()
        .zip(&results.cases)
        .filter_map(|(run, result)| Some(outcome(run.sabotage?, result, options.edition)));
    let matrix = matrix(options.edition, outcomes);
    if let Err(error) = results.write(&options.out) {
        return complain(format!("{}: {error}", options.out.display()), Exit::Input);
    }
    let mut json = serde_json::to_string_pretty(&matrix).expect("strings and numbers serialize");
    json.push('\n');
    if let Err(error) = std::fs::write(options.out.join("sabotage.json"), &json) {
        return complain(format!("{}: {error}", options.out.display()), Exit::Input);
    }
    super::print(&if args.json { json } else { table(&matrix) });
    if matrix.survivors.is_empty() {
        Exit::Fine
    } else {
        Exit::Findings
    }
}

fn table(matrix: &Matrix) -> String {
    let mut text = String::new();
    for kill in &matrix.sabotages {
        let word = if kill.killed { "killed" } else { "SURVIVED" };
        let _ = writeln!(text, "{word:<9} {:<70} {}", kill.case, kill.sabotage);
        let _ = writeln!(text, "          failed: {}", kill.by.join(", "));
        if !kill.missed.is_empty() {
            let _ = writeln!(
                text,
                "          should have failed: {}",
                kill.missed.join(", ")
            );
        }
    }
    for survivor in &matrix.survivors {
        if let Some(reason) = &survivor.reason {
            let _ = writeln!(
                text,
                "\n{} [{}]: {reason}",
                survivor.case, survivor.sabotage
            );
        }
    }
    if !matrix.unproved.is_empty() {
        let _ = writeln!(text, "\njudged, and turned red by no sabotage of the case:");
        for unproved in &matrix.unproved {
            let _ = writeln!(text, "  {:<70} {}", unproved.case, unproved.requirement);
        }
    }
    let _ = writeln!(
        text,
        "\n{} of {} sabotages killed under edition {}{}",
        matrix.killed,
        matrix.total,
        matrix.edition,
        match matrix.not_asked.len() {
            0 => String::new(),
            count => format!("; {count} break nothing that is asked for"),
        }
    );
    text
}
