//! The shipped scenarios as tests, and proofs that each of them can fail.
//!
//! `scenario::NAME` runs one, and then turns each of its expectations around and judges the same evidence again: every one
//! must fail. `sabotaged::NAME` runs it with one step spoilt.

#[path = "scenarios/bundles.rs"]
mod bundles;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use conformance::case::Case;
use conformance::implementation::Implementation;
use conformance::results::CaseResult;
use conformance::runner::{Options, Run, run_case};
use conformance::scenario::{Expected, Fence, Question, Scenario, shipped};
use conformance::trace::Trace;
use conformance::verdict::Verdict;
use conformance::{home, judging, suite};
use libtest_mimic::{Arguments, Failed, Trial};

/// A scenario, what is replaced in its text, and the expectations or steps of which one at least must then be no pass.
const SABOTAGES: &[(&str, &str, &str, &str)] = &[
    (
        "stale-map-cache",
        "move-host: {host: host-m, to: lan-b}",
        "sleep: 1ms",
        "stale",
    ),
    (
        "lost-route",
        "exec: {node: xtr-1, command: [ip, link, set, dev, site-a, down]}",
        "sleep: 1ms",
        "void",
    ),
    (
        "coarse-negative-entry",
        "ping: {from: host-a, to: 203.0.113.1, answered: true}",
        "ping: {from: host-a, to: 10.1.0.77, answered: true}",
        "neighbour",
    ),
    (
        "petr-defeats-urpf",
        "reload: {node: xtr-a, settings: {use-petr: [{address: 192.0.2.14}]}}",
        "exec: {node: edge, command: [sh, -c, 'echo 0 > /proc/sys/net/ipv4/conf/access/rp_filter']}",
        "the tunnel has a source that the edge knows",
    ),
    (
        "resolver-dies",
        "kill: msmr-old",
        "sleep: 1ms",
        "then the other",
    ),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let scenarios = shipped().unwrap_or_else(|error| panic!("{error}"));
    let skip = std::env::var_os("LISPLAB_SKIP_WITHOUT_NETNS").is_some_and(|value| value == "1");
    // Listing needs no privilege and writes nothing.
    let lab = if arguments.list {
        Err("only listing".to_owned())
    } else {
        Lab::new().map(Arc::new)
    };
    let ignored = skip && lab.is_err() && !arguments.list;
    let mut trials = Vec::new();
    for case in &scenarios {
        let (case, lab) = (*case, lab.clone());
        trials.push(Trial::test(case.name(), move || {
            lab?.passes_and_can_fail(case)
        }));
    }
    for sabotage in SABOTAGES {
        let lab = lab.clone();
        let name = format!("sabotaged::{}", sabotage.0);
        trials.push(Trial::test(name, move || lab?.is_red(sabotage)));
    }
    let cable = lab.clone();
    trials.push(Trial::test(
        "language::what_can_be_done_to_a_cable",
        move || {
            let scenario =
                Scenario::parse("cable.yaml", CABLE).map_err(|error| error.to_string())?;
            cable?.passes_and_can_fail(scenario.into_case())
        },
    ));
    for (name, test) in bundles::TESTS {
        let lab = lab.clone();
        trials.push(Trial::test(*name, move || {
            lab?;
            test();
            Ok(())
        }));
    }
    trials.push(Trial::test(
        "every_shipped_scenario_is_sabotaged",
        move || {
            for case in &scenarios {
                let name = case.id.trim_start_matches("scenario::");
                if !SABOTAGES.iter().any(|sabotage| sabotage.0 == name) {
                    return Err(format!("{name} has no sabotage").into());
                }
            }
            Ok(())
        },
    ));
    let trials = trials
        .into_iter()
        .map(|trial| trial.with_ignored_flag(ignored))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Where the evidence goes.
fn out() -> Result<PathBuf, String> {
    let out = match (std::env::var_os("LISPLAB_OUT"), home::checkout()) {
        (Some(out), _) => PathBuf::from(out),
        (None, Some(checkout)) => checkout.join("target").join("lisplab-scenarios"),
        (None, None) => return Err("there is no checkout; set LISPLAB_OUT".to_owned()),
    };
    std::path::absolute(out).map_err(|error| error.to_string())
}

/// A network in the file itself, and what can be done to a cable.
const CABLE: &str = "format: 1
name: cable
title: Two hosts on a cable that is damaged, healed, pulled out and plugged in.
topology:
  format: 1
  name: tiny
  nodes: {h1: {kind: host}, h2: {kind: host}}
  links:
    l: {ends: {h1: {addresses: [10.0.0.1/24]}, h2: {addresses: [10.0.0.2/24]}}}
steps:
  - ping: {from: h1, to: h2, answered: true}
  - link: {link: l, set: {loss: 100%}}
  - ping: {from: h1, to: h2, within: 200ms, answered: false}
  - link: {link: l, set: {}}
  - name: three
    ping: {from: h1, to: h2, count: 3, answered: true}
  - link: {link: l, state: down}
  - ping: {from: h1, to: h2, within: 200ms, answered: false}
  - link: {link: l, state: up}
  - name: end
    ping: {from: h1, to: h2, answered: true}
expectations:
  - since: three
    count: {packet: {type: echo-request, of-ping: three}, exactly: 3, fence: end}
";

struct Lab {
    options: Options,
}

impl Lab {
    fn new() -> Result<Lab, String> {
        let options = Options {
            implementation: Implementation::load("lisplab").map_err(|error| error.to_string())?,
            edition: conformance::edition::Edition::default(),
            strict: false,
            seed: 1,
            out: out()?,
            jobs: 1,
            keep: false,
            bundles: true,
            require_tshark: std::env::var_os("LISPLAB_REQUIRE_TSHARK").is_some_and(|v| v == "1"),
            slow: false,
        };
        static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
        // Before the user namespace: cargo is the user's.
        BUILT.get_or_init(|| suite::prepare(&options)).clone()?;
        harness::host::enter().map_err(|error| error.to_string())?;
        Ok(Lab { options })
    }

    fn run(&self, case: &'static Case) -> CaseResult {
        let run = Run {
            case,
            sabotage: None,
            repetition: 0,
            options: &self.options,
        };
        run_case(&run, &|_| {})
    }

    fn passes_and_can_fail(&self, case: &'static Case) -> Result<(), Failed> {
        let result = self.run(case);
        if result.verdict != Verdict::Pass {
            return Err(conformance::text::failure(&result, &self.options.out).into());
        }
        let folder = self.options.out.join(result.evidence.ok_or("no evidence")?);
        let scenario = Scenario::load_beside(&folder).map_err(|error| error.to_string())?;
        for number in 0..scenario.expectations.len() {
            turned_around(&folder, number)?;
        }
        Ok(())
    }

    fn is_red(&self, (name, from, to, hit): &(&str, &str, &str, &str)) -> Result<(), Failed> {
        let path: PathBuf = home::scenarios().join(format!("{name}.yaml"));
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
        if !text.contains(from) {
            return Err(format!("{name} has no text {from}").into());
        }
        let text = text
            .replace(from, to)
            .replace(&format!("name: {name}"), &format!("name: {name}-sabotaged"));
        let scenario = Scenario::parse(&path.display().to_string(), &text)
            .map_err(|error| error.to_string())?;
        let result = self.run(scenario.into_case());
        let hit = result.expectations.iter().find(|found| found.name == *hit);
        match hit.map(|found| found.verdict) {
            Some(verdict) if verdict.is_failure() && result.verdict.is_failure() => Ok(()),
            verdict => Err(format!(
                "expected a failure, found {verdict:?} and {}",
                result.verdict
            )
            .into()),
        }
    }
}

/// Judges saved evidence with the opposite of one expectation: it must fail, and by itself.
fn turned_around(folder: &Path, number: usize) -> Result<(), Failed> {
    let mut scenario = Scenario::load_beside(folder).map_err(|error| error.to_string())?;
    let expectation = &mut scenario.expectations[number];
    let name = expectation.name.clone();
    // What it counts for is not the matter here.
    expectation.requirements.clear();
    let mut opposite = match &expectation.what {
        Expected::Packet(matcher, within) => {
            Expected::Count(matcher.clone(), 0, Some(0), Fence::Within(*within))
        }
        Expected::Never(matcher, _) => {
            Expected::Packet(matcher.clone(), std::time::Duration::from_secs(60))
        }
        Expected::Count(matcher, least, Some(most), fence) => {
            // Both bounds are turned around.
            let fewer = Expected::Count(matcher.clone(), 0, least.checked_sub(1), fence.clone());
            fails(folder, number, fewer, &name)?;
            Expected::Count(matcher.clone(), most + 1, None, fence.clone())
        }
        Expected::Count(matcher, least, None, fence) => {
            Expected::Count(matcher.clone(), 0, least.checked_sub(1), fence.clone())
        }
        Expected::Answered(step, answered) => Expected::Answered(*step, !answered),
        Expected::Output(question, within) => Expected::Output(question.clone(), *within),
    };
    if let Expected::Output(Question::Exec { wanted, .. } | Question::Show { wanted, .. }, _) =
        &mut opposite
    {
        wanted.contains.push("what nobody prints".to_owned());
    }
    fails(folder, number, opposite, &name)
}

fn fails(folder: &Path, number: usize, what: Expected, name: &str) -> Result<(), Failed> {
    let mut scenario = Scenario::load_beside(folder).map_err(|error| error.to_string())?;
    scenario.expectations[number].what = what;
    scenario.expectations[number].requirements.clear();
    let (trace, facts) = Trace::read(folder).map_err(|error| error.to_string())?;
    let result = judging::judge(scenario.into_case(), &trace, &facts);
    let found = &result.expectations[number];
    if found.verdict.is_failure() && found.verdict != Verdict::Untestable {
        return Ok(());
    }
    Err(format!(
        "the opposite of `{name}` is {}: {}",
        found.verdict, found.finding
    )
    .into())
}
