//! `lisplab sabotage`: the suite's own test.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use conformance::baseline::Baseline;
use conformance::results::CaseResult;
use conformance::runner::{Run, write_results};
use conformance::suite;
use conformance::verdict::Verdict;
use serde::Serialize;

use super::progress::Lines;
use super::test::{How, Which};
use super::{Exit, complain};

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

/// One line of the kill matrix.
#[derive(Debug, Serialize)]
struct Kill {
    case: String,
    sabotage: String,
    killed: bool,
    verdict: Verdict,
    /// Requirements that failed.
    by: Vec<String>,
    /// Requirements that the sabotage names and that did not fail.
    missed: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Matrix {
    format: u32,
    total: usize,
    killed: usize,
    survivors: Vec<Survivor>,
    sabotages: Vec<Kill>,
}

#[derive(Debug, Serialize)]
struct Survivor {
    case: String,
    sabotage: String,
    missed: Vec<String>,
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
    let progress = Lines::new(runs.len());
    let results = suite::run(&runs, &options, &Baseline::default(), &progress);
    progress.finish();
    let kills = runs
        .iter()
        .zip(&results.cases)
        .filter(|(_, result)| result.verdict != Verdict::Skipped);
    let matrix = matrix(kills.map(|(run, result)| kill(run, result)).collect());
    if let Err(error) = write_results(&options.out, &results) {
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

fn kill(run: &Run<'_>, result: &CaseResult) -> Kill {
    let verdicts: BTreeMap<&str, Verdict> = result
        .requirements
        .iter()
        .map(|found| (found.id.as_str(), found.verdict))
        .collect();
    let bad = |id: &str| {
        verdicts
            .get(id)
            .is_some_and(|verdict| matches!(verdict, Verdict::Fail | Verdict::Warn))
    };
    let named = run
        .sabotage
        .map(|sabotage| sabotage.kills)
        .unwrap_or_default();
    // A recorded requirement cannot fail; what it says is not worth a sabotage.
    let missed: Vec<String> = named
        .iter()
        .map(|req| req.id())
        .filter(|id| !bad(id))
        .map(str::to_owned)
        .collect();
    Kill {
        case: result.id.clone(),
        sabotage: result.sabotage.clone().unwrap_or_default(),
        killed: missed.is_empty() && verdicts.keys().any(|id| bad(id)),
        verdict: result.verdict,
        by: verdicts
            .keys()
            .filter(|id| bad(id))
            .map(|id| (*id).to_owned())
            .collect(),
        missed,
    }
}

fn matrix(kills: Vec<Kill>) -> Matrix {
    let survivors = kills
        .iter()
        .filter(|kill| !kill.killed)
        .map(|kill| Survivor {
            case: kill.case.clone(),
            sabotage: kill.sabotage.clone(),
            missed: kill.missed.clone(),
        });
    let survivors: Vec<Survivor> = survivors.collect();
    Matrix {
        format: 1,
        total: kills.len(),
        killed: kills.len() - survivors.len(),
        survivors,
        sabotages: kills,
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
    let _ = writeln!(
        text,
        "\n{} of {} sabotages killed",
        matrix.killed, matrix.total
    );
    text
}
