//! `lisplab judge`: verdicts from saved packets.

use std::path::{Component, Path, PathBuf};

use conformance::baseline::Baseline;
use conformance::edition::Edition;
use conformance::judging;
use conformance::results::{CaseResult, RESULTS_FORMAT, RequirementResult, Results};
use conformance::text;
use conformance::trace::Trace;
use conformance::verdict::Verdict;
use serde::Serialize;

use super::{Exit, complain, json, table};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A pcapng or pcap file from anywhere: it gets the invariants.
    #[arg(
        value_name = "FILE",
        required_unless_present = "run",
        conflicts_with = "run"
    )]
    file: Option<PathBuf>,
    /// The folder of a run, or of one case: everything is judged again from the evidence.
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// For programs; see docs/formats.md.
    #[arg(long)]
    json: bool,
    /// Which texts decide about FILE; evidence says it itself.
    #[arg(long, value_enum, default_value = "6830")]
    edition: Edition,
    /// A broken SHOULD in FILE fails.
    #[arg(long)]
    strict: bool,
}

/// What is said about a capture from elsewhere.
#[derive(Serialize)]
struct Foreign<'a> {
    format: u32,
    file: String,
    edition: Edition,
    verdict: Verdict,
    requirements: &'a [RequirementResult],
}

pub(crate) fn run(args: &Args) -> Exit {
    let result = match (&args.run, &args.file) {
        (Some(folder), _) => judge_run(folder, args.json),
        (None, Some(file)) => judge_file(file, args),
        (None, None) => Err("give FILE or --run DIR".to_owned()),
    };
    result.unwrap_or_else(|problem| complain(problem, Exit::Input))
}

fn judge_file(file: &Path, args: &Args) -> Result<Exit, String> {
    let wrong = |problem: &dyn std::fmt::Display| format!("{}: {problem}", file.display());
    let octets = std::fs::read(file).map_err(|error| {
        wrong(&format_args!(
            "{error}\n  hint: give a pcapng or pcap file, or --run and the folder that `lisplab test --out DIR` wrote"
        ))
    })?;
    let capture = harness::pcapng::read(&octets).map_err(|error| wrong(&error))?;
    let trace = Trace::from_packets(capture.packets, args.edition);
    let mut found = judging::judge_foreign(&trace, args.strict);
    found.sort_by(|a, b| b.verdict.cmp(&a.verdict).then_with(|| a.id.cmp(&b.id)));
    let verdict = found
        .iter()
        .map(|found| found.verdict)
        .max()
        .unwrap_or(Verdict::Skipped);
    if args.json {
        let file = file.display().to_string();
        super::print(&json(&Foreign {
            format: RESULTS_FORMAT,
            file,
            edition: args.edition,
            verdict,
            requirements: &found,
        }));
    } else {
        let lisp = trace
            .iter()
            .filter(|packet| packet.is_data() || packet.control().is_some())
            .count();
        let mut out = format!(
            "{}: {} packets, {lisp} of LISP\n",
            file.display(),
            trace.packets.len()
        );
        for found in &found {
            out.push_str(&text::requirement(found));
        }
        super::print(&out);
    }
    Ok(if verdict.is_failure() {
        Exit::Findings
    } else {
        Exit::Fine
    })
}

fn judge_run(folder: &Path, as_json: bool) -> Result<Exit, String> {
    if folder.join("trace.json").is_file() {
        let case = judge_case(folder)?;
        super::print(&if as_json {
            json(&case)
        } else {
            text::failure(&case, folder)
        });
        return Ok(exit(case.is_expected()));
    }
    let runs = Results::read(folder).map_err(|error| error.to_string())?;
    let mut fine = true;
    let mut judged = Vec::new();
    for mut results in runs {
        let baseline = Baseline::of(&results.implementation)?;
        for case in &mut results.cases {
            // A case without evidence had no packets to judge: what stopped it stands.
            let Some(evidence) = &case.evidence else {
                continue;
            };
            let mut again = judge_case(&folder.join(inside(evidence)?))?;
            if again.sabotage.is_none() {
                baseline.apply(&mut again);
            }
            again.evidence = case.evidence.clone();
            *case = again;
        }
        fine &= results.cases.iter().all(CaseResult::is_expected);
        judged.push(results);
    }
    for results in judged {
        super::print(&if as_json {
            json(&results)
        } else {
            table::results(results, folder)
        });
    }
    Ok(exit(fine))
}

fn exit(fine: bool) -> Exit {
    if fine { Exit::Fine } else { Exit::Findings }
}

/// The name of an evidence folder: a results file from elsewhere must not lead out of its folder.
fn inside(evidence: &str) -> Result<&Path, String> {
    let path = Path::new(evidence);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if plain && !evidence.is_empty() {
        Ok(path)
    } else {
        Err(format!(
            "expected the name of a folder beside the results as `evidence`, found {evidence:?}"
        ))
    }
}

fn judge_case(folder: &Path) -> Result<CaseResult, String> {
    let (trace, facts) = Trace::read(folder).map_err(|error| error.to_string())?;
    let case = if folder.join("scenario.yaml").is_file() {
        let scenario = conformance::scenario::Scenario::load_beside(folder);
        scenario.map_err(|error| error.to_string())?.into_case()
    } else {
        conformance::case::find(&facts.case).ok_or_else(|| {
            format!(
                "{}: this suite has no case {}",
                folder.join("trace.json").display(),
                facts.case
            )
        })?
    };
    let mut result = judging::judge(case, &trace, &facts);
    if facts.sabotage.is_none() {
        conformance::witness::weigh(&folder.join("capture.pcapng"), &trace, false, &mut result);
    }
    Ok(result)
}
