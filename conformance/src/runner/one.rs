//! One case from topology to result.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use harness::Lab;

use super::prepare::{changed_settings, claimed, not_applicable, prepared_topology};
use super::tamper::lab_options;
use super::{Options, evidence};
use crate::case::Case;
use crate::drive::{Drive, Programs, Stop};
use crate::judging::{self, NOISY};
use crate::results::CaseResult;
use crate::sabotage::Sabotage;
use crate::text::panic_message;
use crate::trace::{Facts, Stopped, TRACE_FORMAT, Trace};
use crate::verdict::Verdict;

/// One case to run.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The case.
    pub case: &'static Case,
    /// The sabotage to put in place.
    pub sabotage: Option<&'static Sabotage>,
    /// Its number where a case is repeated, from 0.
    pub repetition: u32,
    /// How.
    pub options: &'a Options,
}

impl Run<'_> {
    /// The name of its evidence folder.
    pub fn folder(&self) -> String {
        let mut name = self.case.id.replace("::", ".");
        if let Some(sabotage) = self.sabotage {
            let letters = sabotage.name.chars().map(|letter| {
                if letter.is_ascii_alphanumeric() {
                    letter
                } else {
                    '-'
                }
            });
            name.push_str("--");
            name.extend(letters);
        }
        if self.repetition > 0 {
            name.push_str(&format!("--{}", self.repetition + 1));
        }
        name
    }

    fn seed(&self) -> u64 {
        self.options.seed.wrapping_add(u64::from(self.repetition))
    }
}

/// Runs a case, judges it, and leaves its evidence. Never panics because of what is tested.
pub fn run_case(run: &Run<'_>, progress: &(dyn Fn(&str) + Sync)) -> CaseResult {
    let case = run.case;
    let began = Instant::now();
    if let Some(why) = not_applicable(run) {
        return without_trace(run, Verdict::Skipped, why, began.elapsed());
    }
    let mut topology = match prepared_topology(case, run.options) {
        Ok(topology) => topology,
        Err(stop) => {
            return without_trace(run, Verdict::Untestable, stop.to_string(), began.elapsed());
        }
    };
    let mut programs = match Programs::prepare(case, &run.options.implementation, &mut topology) {
        Ok(programs) => programs,
        Err(stop) => {
            return without_trace(run, Verdict::Untestable, stop.to_string(), began.elapsed());
        }
    };
    if programs.need_tun()
        && let Err(error) = harness::host::check_tun()
    {
        return without_trace(run, Verdict::Untestable, error.to_string(), began.elapsed());
    }
    let under_test: BTreeSet<String> = programs.nodes().map(str::to_owned).collect();
    let folder = run.options.out.join(run.folder());
    let mut files: Vec<(String, String)> = programs
        .files()
        .map(|(node, path, text)| {
            (
                format!("{node}{}", path.display()).replace('/', "_"),
                text.to_owned(),
            )
        })
        .collect();
    progress("the lab to be built");
    let (lab_options, mishap) = lab_options(run, &topology);
    let lab = match Lab::up(&topology, lab_options) {
        Ok(lab) => lab,
        Err(error) => {
            return without_trace(run, Verdict::Untestable, error.to_string(), began.elapsed());
        }
    };
    let (outcome, marks, observations) = {
        let mut drive = Drive::new(&lab, case, programs, run.seed(), progress);
        let started = if case.start {
            drive.start_all()
        } else {
            Ok(())
        };
        let outcome = started.and_then(|()| driven(case, &mut drive));
        let (marks, observations);
        (programs, marks, observations) = drive.end();
        let outcome = match (outcome, programs.died(&lab)) {
            (Ok(()) | Err(Stop::NotSeen(_)), Some(death)) => Err(Stop::Untestable(death)),
            (outcome, _) => outcome,
        };
        (outcome, marks, observations)
    };
    lab.mark("end of the drive");
    lab.catch_up();
    if run.options.keep {
        let recorded = (marks, observations.as_slice());
        keep(run, &lab, recorded, outcome.as_ref().err(), progress);
    }
    progress("the programs to stop");
    programs.stop_all();
    files.extend(programs.log_files(&lab));
    let mut recording = lab.finish();
    let logs = std::mem::take(&mut recording.processes);
    let outcome = match mishap.text() {
        Some(mishap) => Err(Stop::Untestable(mishap)),
        None => outcome,
    };
    let stopped = outcome.err().map(|stop| match stop {
        Stop::NotSeen(what) => Stopped::NotSeen(what),
        Stop::Untestable(what) => Stopped::Untestable(what),
        Stop::OutOfTime(what) if recording.noise.longest_stall >= NOISY => {
            Stopped::Inconclusive(format!(
                "{what}; the host stood still for {:?}",
                recording.noise.longest_stall
            ))
        }
        Stop::OutOfTime(what) => Stopped::NotSeen(what),
    });
    let facts = Facts {
        format: TRACE_FORMAT,
        case: case.id.to_owned(),
        implementation: run.options.implementation.name.clone(),
        edition: run.options.edition,
        strict: run.options.strict,
        seed: run.seed(),
        features: claimed(run, &topology),
        under_test: under_test.clone(),
        sabotage: run.sabotage.map(|sabotage| sabotage.name.to_owned()),
        stopped,
        duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        settings: changed_settings(case, &topology),
        observations,
        marks: recording.marks.clone(),
        processes: logs
            .iter()
            .map(|process| harness::ProcessReport {
                log: String::new(),
                ..process.clone()
            })
            .collect(),
        drops: recording.drops.clone(),
        noise: recording.noise,
    };
    let interfaces = recording.interfaces.clone();
    let trace = Trace::from_recording(recording, topology, under_test, run.options.edition);
    let mut result = judging::judge(case, &trace, &facts);
    result.evidence = Some(run.folder());
    let evidence = evidence::Evidence {
        folder: &folder,
        run,
        trace: &trace,
        facts: &facts,
        interfaces: &interfaces,
        logs: &logs,
        files: &files,
    };
    let _leaving = evidence::leave();
    if let Err(error) = evidence.write(&mut result) {
        result.verdict = Verdict::Untestable;
        result.reason = Some(format!(
            "the evidence cannot be written to {}: {error}",
            folder.display()
        ));
    } else if run.options.bundles && run.sabotage.is_none() && result.verdict.is_failure() {
        leave_bundle(run, &folder, &mut result);
    }
    result
}

/// Makes the bundle of a failure, beside its evidence.
fn leave_bundle(run: &Run<'_>, folder: &std::path::Path, result: &mut CaseResult) {
    let bundle = crate::bundle::name_of(folder);
    match crate::bundle::make(folder, &bundle, run.options.implementation.version()) {
        Ok(()) => {
            let name = bundle.file_name().map(|name| name.to_string_lossy());
            result.bundle = name.map(std::borrow::Cow::into_owned);
        }
        Err(error) => {
            let reason = result.reason.get_or_insert_default();
            if !reason.is_empty() {
                reason.push('\n');
            }
            reason.push_str(&format!("no bundle: {error}"));
        }
    }
}

/// Drives the case. A panic in it is a defect of the case: it is said, and the other cases run on.
fn driven(case: &Case, drive: &mut Drive<'_>) -> Result<(), Stop> {
    catch_unwind(AssertUnwindSafe(|| match case.scenario {
        Some(scenario) => scenario.drive(drive),
        None => (case.drive)(drive),
    }))
    .unwrap_or_else(|panic| {
        Err(Stop::Untestable(format!(
            "the drive of the case panicked: {}",
            panic_message(&*panic)
        )))
    })
}

/// Leaves the lab of a failed case standing until a line comes on standard input.
fn keep(
    run: &Run<'_>,
    lab: &Lab,
    (marks, observations): (Vec<harness::Mark>, &[crate::scenario::Observation]),
    stopped: Option<&Stop>,
    progress: &(dyn Fn(&str) + Sync),
) {
    let mut findings = crate::finding::Findings::new();
    let recording = harness::Recording {
        packets: lab.packets(),
        marks,
        ..harness::Recording::default()
    };
    let under_test = lab
        .topology()
        .nodes
        .iter()
        .filter(|node| node.role.is_some());
    let under_test = under_test.map(|node| node.name.clone()).collect();
    let trace = Trace::from_recording(
        recording,
        lab.topology().clone(),
        under_test,
        run.options.edition,
    );
    for judge in run.case.judges {
        judge(&trace, &mut findings);
    }
    let met = |outcome| outcome == crate::finding::Outcome::Met;
    let unmet = run.case.scenario.is_some_and(|scenario| {
        let mut judged = scenario.judge(&trace, observations).into_iter();
        judged.any(|judged| !met(judged.outcome))
    });
    let broken = unmet || findings.iter().any(|finding| !met(finding.outcome));
    if stopped.is_none() && !broken {
        return;
    }
    progress("Enter on standard input (--keep)");
    eprintln!("{}: the lab stands; enter its nodes with", run.case.id);
    for node in &lab.topology().nodes {
        if let Ok(namespace) = lab.namespace(&node.name) {
            use std::os::fd::{AsFd as _, AsRawFd as _};
            let descriptor = namespace.as_fd().as_raw_fd();
            eprintln!(
                "  nsenter --net=/proc/{}/fd/{descriptor}    # {}",
                std::process::id(),
                node.name
            );
        }
    }
    eprintln!("and press Enter here when done.");
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// The result of a case that had no trace.
fn without_trace(run: &Run<'_>, verdict: Verdict, reason: String, took: Duration) -> CaseResult {
    let case = run.case;
    let requirements =
        case.requirements
            .iter()
            .map(|requirement| crate::results::RequirementResult {
                id: requirement.id().to_owned(),
                verdict,
                finding: reason.clone(),
                expected: String::new(),
                packets: Vec::new(),
                invariant: false,
            });
    CaseResult {
        id: case.id.to_owned(),
        title: case.title.to_owned(),
        verdict,
        expected: Verdict::Pass,
        expected_because: None,
        requirements: requirements.collect(),
        expectations: Vec::new(),
        reason: Some(reason),
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        evidence: None,
        bundle: None,
        roles: case.roles.iter().map(|role| (*role).to_owned()).collect(),
        sabotage: run.sabotage.map(|sabotage| sabotage.name.to_owned()),
    }
}
