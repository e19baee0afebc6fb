//! `lisplab run`: a scenario file.

use std::path::PathBuf;
use std::sync::Arc;

use conformance::edition::Edition;
use conformance::implementation::Implementation;
use conformance::results::{CaseResult, Results};
use conformance::runner::{Options, Run};
use conformance::scenario::Scenario;
use conformance::verdict::Verdict;
use conformance::{case::Case, suite, text};

use super::interrupt::run_cases;
use super::{Exit, complain};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A scenario file (docs/scenarios.md), or the name of one of scenarios/.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// What is tested: an adapter of conformance/implementations/, a path, or PROGRAM=ADAPTER,... The scenario's own, or
    /// lisplab, if not given.
    #[arg(long, value_name = "NAME")]
    implementation: Option<String>,
    #[command(flatten)]
    pub(crate) how: How,
    /// For programs; see docs/formats.md.
    #[arg(long)]
    json: bool,
}

/// How a scenario is run.
#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// Which texts decide.
    #[arg(long, value_enum, default_value = "6830")]
    pub(crate) edition: Edition,
    /// A broken SHOULD fails.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// After a failure leave the lab standing until Enter is pressed.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Where results and evidence go.
    #[arg(long, value_name = "DIR", default_value = "target/lisplab")]
    pub(crate) out: PathBuf,
}

pub(crate) fn run(args: &Args) -> Exit {
    let path = if args.scenario.exists() || args.scenario.components().count() > 1 {
        args.scenario.clone()
    } else {
        let name = args.scenario.with_extension("yaml");
        let shipped = conformance::home::scenarios().join(name);
        // A name that is no shipped one is a file that is not there.
        if shipped.is_file() {
            shipped
        } else {
            args.scenario.clone()
        }
    };
    let scenario = match Scenario::load(&path) {
        Ok(scenario) => scenario,
        Err(error) => return complain(error, Exit::Input),
    };
    let implementation = args
        .implementation
        .clone()
        .or_else(|| scenario.implementation.clone())
        .unwrap_or_else(|| "lisplab".to_owned());
    let options = match options(&implementation, &args.how) {
        Ok(options) => options,
        Err((problem, exit)) => return complain(problem, exit),
    };
    match run_case(scenario.into_case(), &options) {
        Ok(results) => {
            super::print(&if args.json {
                super::json(&results)
            } else {
                results
                    .cases
                    .iter()
                    .map(|case| said(case, &options.out))
                    .collect()
            });
            exit(&results)
        }
        Err((problem, exit)) => complain(problem, exit),
    }
}

/// Options for one case.
pub(crate) fn options(implementation: &str, how: &How) -> Result<Options, (String, Exit)> {
    let input = |problem: String| (problem, Exit::Input);
    let implementation =
        Implementation::load(implementation).map_err(|error| input(error.to_string()))?;
    let out = std::path::absolute(&how.out).map_err(|error| input(error.to_string()))?;
    std::fs::create_dir_all(&out).map_err(|error| {
        input(format!(
            "{}: {error}\n  hint: give another --out DIR",
            out.display()
        ))
    })?;
    Ok(Options {
        implementation,
        edition: how.edition,
        strict: how.strict,
        seed: how.seed,
        out,
        jobs: 1,
        keep: how.keep,
        bundles: true,
        require_tshark: std::env::var_os("LISPLAB_REQUIRE_TSHARK")
            .is_some_and(|value| value == "1"),
        // A case that is asked for by name may wait for its timers.
        slow: true,
    })
}

/// Builds what belongs to this checkout, enters the namespaces, runs one case and writes `results.json`.
pub(crate) fn run_case(case: &'static Case, options: &Options) -> Result<Results, (String, Exit)> {
    suite::prepare(options).map_err(|problem| (problem, Exit::Host))?;
    harness::host::enter().map_err(|error| (error.to_string(), Exit::Host))?;
    let run = Run {
        case,
        sabotage: None,
        repetition: 0,
        options,
    };
    let results = run_cases(&[run], options, &Arc::default(), drop)?;
    if let Err(error) = results.write(&options.out) {
        // What was found is said even so.
        let said: String = results
            .cases
            .iter()
            .map(|case| said(case, &options.out))
            .collect();
        let out = options.out.display();
        let problem = format!("the results are not written: {out}: {error}\n{said}");
        return Err((problem, Exit::Input));
    }
    Ok(results)
}

pub(crate) fn exit(results: &Results) -> Exit {
    if results.cases.iter().all(CaseResult::is_expected) {
        Exit::Fine
    } else {
        Exit::Findings
    }
}

/// What is said about a scenario: each expectation, and of the requirements and invariants what is no pass.
pub(crate) fn said(case: &CaseResult, out: &std::path::Path) -> String {
    let mut text = format!("{}: {}\n  {}\n", case.verdict, case.id, case.title);
    if let Some(reason) = &case.reason {
        text.push_str(&format!("  {}\n", reason.replace('\n', "\n    ")));
    }
    for found in &case.expectations {
        if matches!(
            found.verdict,
            Verdict::Fail | Verdict::Warn | Verdict::Inconclusive
        ) {
            text.push_str(&text::expectation(found));
            continue;
        }
        let finding = found.finding.lines().next().unwrap_or_default();
        text.push_str(&format!(
            "  {:<8} {}: {finding}\n",
            found.verdict, found.name
        ));
    }
    for found in &case.requirements {
        // What an expectation says of itself need not be said again.
        let said = case
            .expectations
            .iter()
            .any(|expectation| expectation.requirements.contains(&found.id));
        if found.verdict > Verdict::Pass && !(said && found.verdict == Verdict::Untestable) {
            text.push_str(&text::requirement(found));
        }
    }
    if let Some(evidence) = &case.evidence {
        let folder = out.join(evidence);
        text.push_str(&format!("  evidence: {}\n", folder.display()));
    }
    if let Some(bundle) = &case.bundle {
        text.push_str(&format!("  bundle:   {}\n", out.join(bundle).display()));
    }
    text
}
