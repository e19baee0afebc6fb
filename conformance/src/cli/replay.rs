//! `lisplab replay`: a bundle, run again here.

use std::path::PathBuf;

use conformance::bundle::{self, Bundle};
use conformance::case::{self, Case};
use conformance::results::CaseResult;
use conformance::scenario::Scenario;
use conformance::verdict::Verdict;
use serde::Serialize;

use super::run::How;
use super::{Exit, complain};

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 0: the same result. 1: another one.")]
pub(crate) struct Args {
    /// The bundle.
    bundle: PathBuf,
    /// What is tested; what the bundle names if not given.
    #[arg(long, value_name = "NAME")]
    implementation: Option<String>,
    /// Let the bundle run commands of its own, as this user. Look at them first.
    #[arg(long)]
    allow_exec: bool,
    /// Where results and evidence go.
    #[arg(long, value_name = "DIR", default_value = "target/lisplab-replay")]
    out: PathBuf,
    /// For programs; see docs/formats.md.
    #[arg(long)]
    json: bool,
}

/// What a replay says.
#[derive(Serialize)]
struct Replayed {
    format: u32,
    case: String,
    same: bool,
    differences: Vec<String>,
    kernel: String,
    version: Option<String>,
    before: CaseResult,
    after: CaseResult,
}

pub(crate) fn run(args: &Args) -> Exit {
    match replay(args) {
        Ok(exit) => exit,
        Err((problem, exit)) => complain(problem, exit),
    }
}

fn replay(args: &Args) -> Result<Exit, (String, Exit)> {
    let input = |problem: String| (problem, Exit::Input);
    let bundle = bundle::open(&args.bundle).map_err(|error| input(error.to_string()))?;
    let file = args.bundle.display();
    let before = bundle
        .result()
        .map_err(|problem| input(format!("{file}: {problem}")))?;
    let case = case_of(&bundle, args).map_err(|problem| input(format!("{file}: {problem}")))?;
    let manifest = &bundle.manifest;
    let implementation = match &args.implementation {
        Some(given) => given.clone(),
        // A path in it would be the sender's choice of what runs here.
        None if manifest.implementation.contains('/')
            || manifest.implementation.contains(".yaml") =>
        {
            return Err(input(format!(
                "{file}: it was run with the adapter {}, which is not in it\n  hint: say what to test with --implementation NAME",
                manifest.implementation
            )));
        }
        None => manifest.implementation.clone(),
    };
    let how = How {
        edition: manifest.edition,
        strict: manifest.strict,
        seed: manifest.seed,
        keep: false,
        out: args.out.clone(),
    };
    let options = super::run::options(&implementation, &how).map_err(|(problem, exit)| {
        let hint = match &args.implementation {
            Some(_) => "",
            None => "\n  hint: the bundle was made with that adapter, which is not in it: say what to test with --implementation",
        };
        (format!("{problem}{hint}"), exit)
    })?;
    let results = super::run::run_case(case, &options)?;
    let Some(after) = results.cases.into_iter().next() else {
        return Err(input(format!("{file}: nothing was run")));
    };
    let differences = differences(&before, &after);
    let same = differences.is_empty();
    if args.json {
        super::print(&super::json(&Replayed {
            format: bundle::BUNDLE_FORMAT,
            case: manifest.case.clone(),
            same,
            differences,
            kernel: manifest.kernel.clone(),
            version: manifest.version.clone(),
            before,
            after,
        }));
    } else {
        let mut text = super::run::said(&after, &options.out);
        if manifest.version != results.version {
            let name =
                |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".to_owned());
            text.push_str(&format!(
                "version: {} then, {} now\n",
                name(&manifest.version),
                name(&results.version)
            ));
        }
        text.push_str(if same {
            "the same result as in the bundle\n"
        } else {
            "another result than in the bundle:\n"
        });
        for difference in &differences {
            text.push_str(&format!("  {difference}\n"));
        }
        super::print(&text);
    }
    Ok(if same { Exit::Fine } else { Exit::Findings })
}

fn case_of(bundle: &Bundle, args: &Args) -> Result<&'static Case, String> {
    let manifest = &bundle.manifest;
    if !bundle.is_scenario() {
        return case::find(&manifest.case).ok_or_else(|| {
            format!(
                "this suite has no case {}\n  hint: it was run with lisplab {}",
                manifest.case, manifest.lisplab
            )
        });
    }
    let part = |name: &str| {
        let octets = bundle
            .files
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        std::str::from_utf8(octets).map_err(|error| format!("{name}: {error}"))
    };
    let scenario = Scenario::parse_with(
        "scenario.yaml",
        part("scenario.yaml")?,
        "topology.yaml",
        part("topology.yaml")?,
    )
    .map_err(|error| error.to_string())?;
    if scenario.id() != manifest.case {
        return Err(format!(
            "its scenario is {}, and not {} as its manifest says",
            scenario.id(),
            manifest.case
        ));
    }
    let foreign = scenario.foreign_code();
    if !foreign.is_empty() && !args.allow_exec {
        return Err(format!(
            "it runs commands of its own on this machine:\n    {}\n  hint: look at them; --allow-exec runs them",
            foreign.join("\n    ")
        ));
    }
    Ok(scenario.into_case())
}

/// What came out otherwise: the verdict of the whole, of an expectation, of a requirement. Where one run had nothing to say
/// and the other saw nothing wrong (an invariant that met none of its packets), that is no difference.
fn differences(before: &CaseResult, after: &CaseResult) -> Vec<String> {
    let verdicts = |result: &CaseResult| {
        let mut all = vec![("the whole".to_owned(), result.verdict)];
        all.extend(result.rows().into_iter().map(|row| (row.id, row.verdict)));
        all
    };
    let (then, now) = (verdicts(before), verdicts(after));
    let mut found = Vec::new();
    for (name, verdict) in &then {
        match now.iter().find(|(other, _)| other == name) {
            Some((_, same)) if same == verdict => {}
            Some((_, other)) => found.push(format!("{name}: {verdict} then, {other} now")),
            None if *verdict <= Verdict::Pass => {}
            None => found.push(format!("{name}: {verdict} then, not judged now")),
        }
    }
    for (name, verdict) in &now {
        if *verdict > Verdict::Pass && !then.iter().any(|(other, _)| other == name) {
            found.push(format!("{name}: not judged then, {verdict} now"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(rows: &[(&str, Verdict)]) -> CaseResult {
        let rows: Vec<serde_json::Value> = rows
            .iter()
            .map(|(id, verdict)| {
                serde_json::json!({"id": id, "verdict": verdict, "finding": "", "packets": []})
            })
            .collect();
        serde_json::from_value(serde_json::json!({
            "id": "x", "verdict": "pass", "expected": "pass", "requirements": rows, "duration_ms": 0, "evidence": null,
        }))
        .unwrap()
    }

    #[test]
    fn only_what_matters_differs() {
        use Verdict::{Fail, Pass, Warn};
        let then = result(&[("a", Pass), ("b", Fail), ("gone", Pass)]);
        assert_eq!(
            differences(&then, &result(&[("a", Pass), ("b", Fail), ("new", Pass)])),
            Vec::<String>::new()
        );
        let found = differences(&then, &result(&[("a", Fail), ("new", Warn)]));
        assert_eq!(
            found,
            [
                "a: pass then, fail now",
                "b: fail then, not judged now",
                "new: not judged then, warn now"
            ]
        );
    }
}
