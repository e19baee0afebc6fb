//! One case from topology to result.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use harness::inline::Inline;
use harness::topology::Topology;
use harness::{Lab, LabOptions};

use super::{Options, evidence};
use crate::case::Case;
use crate::drive::{Drive, Programs, Stop};
use crate::judging::{self, NOISY};
use crate::results::CaseResult;
use crate::sabotage::{Frame, Sabotage};
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
    let files: Vec<(String, String)> = programs
        .files()
        .map(|(node, path, text)| {
            (
                format!("{node}{}", path.display()).replace('/', "_"),
                text.to_owned(),
            )
        })
        .collect();
    progress("the lab to be built");
    let lab = match Lab::up(&topology, lab_options(run, &topology)) {
        Ok(lab) => lab,
        Err(error) => {
            return without_trace(run, Verdict::Untestable, error.to_string(), began.elapsed());
        }
    };
    let (outcome, marks) = {
        let mut drive = Drive::new(&lab, case, programs, run.seed(), progress);
        let started = if case.start {
            drive.start_all()
        } else {
            Ok(())
        };
        let outcome = started.and_then(|()| (case.drive)(&mut drive));
        let marks;
        (programs, marks) = drive.end();
        let outcome = match (outcome, programs.died()) {
            (Ok(()) | Err(Stop::NotSeen(_)), Some(death)) => Err(Stop::Untestable(death)),
            (outcome, _) => outcome,
        };
        (outcome, marks)
    };
    lab.mark("end of the drive");
    lab.catch_up();
    if run.options.keep {
        keep(run, &lab, marks, outcome.as_ref().err(), progress);
    }
    progress("the programs to stop");
    programs.stop_all();
    let mut recording = lab.finish();
    let logs = std::mem::take(&mut recording.processes);
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
        features: claimed(run, &topology),
        under_test: under_test.clone(),
        sabotage: run.sabotage.map(|sabotage| sabotage.name.to_owned()),
        stopped,
        duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        settings: changed_settings(case, &topology),
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
    if let Err(error) = evidence.write(&mut result) {
        result.verdict = Verdict::Untestable;
        result.reason = Some(format!(
            "the evidence cannot be written to {}: {error}",
            folder.display()
        ));
    }
    result
}

/// Leaves the lab of a failed case standing until a line comes on standard input.
fn keep(
    run: &Run<'_>,
    lab: &Lab,
    marks: Vec<harness::Mark>,
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
    let broken = findings
        .iter()
        .any(|finding| finding.outcome != crate::finding::Outcome::Met);
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

fn changed_settings(case: &Case, topology: &Topology) -> BTreeMap<String, serde_json::Value> {
    let changed = case
        .settings
        .iter()
        .map(|(node, _)| *node)
        .chain(case.timers.iter().map(|timer| timer.node));
    changed
        .filter_map(|node| Some((node.to_owned(), topology.node(node)?.settings.clone())))
        .collect()
}

/// Why a case does not apply to this implementation and edition, if so.
fn not_applicable(run: &Run<'_>) -> Option<String> {
    let (case, options) = (run.case, run.options);
    if !case.editions.contains(&options.edition) {
        return Some(format!("it cannot judge edition {}", options.edition));
    }
    let features = match Topology::load(crate::home::topology_file(case.topology)) {
        Ok(topology) => claimed(run, &topology),
        Err(_) => return None,
    };
    if let Some(feature) = case
        .features
        .iter()
        .find(|feature| !features.contains(**feature))
    {
        return Some(format!(
            "the implementation does not claim the feature {feature}"
        ));
    }
    let unsettable = case
        .timers
        .iter()
        .find(|timer| !timer_is_settable(run, timer));
    unsettable.filter(|_| !options.slow).map(|timer| {
        format!(
            "the timer {} cannot be set; --slow waits for its {:?}",
            timer.name, timer.text
        )
    })
}

fn timer_is_settable(run: &Run<'_>, timer: &crate::case::Timer) -> bool {
    let Ok(topology) = Topology::load(crate::home::topology_file(run.case.topology)) else {
        return false;
    };
    let role = topology
        .node(timer.node)
        .and_then(|node| node.role.as_deref());
    role.and_then(|role| run.options.implementation.program(role))
        .is_some_and(|(_, program)| program.timers.contains(timer.name))
}

fn claimed(run: &Run<'_>, topology: &Topology) -> BTreeSet<String> {
    run.options.implementation.features(
        topology
            .nodes
            .iter()
            .filter_map(|node| node.role.as_deref()),
    )
}

fn prepared_topology(case: &Case, options: &Options) -> Result<Topology, Stop> {
    let path = crate::home::topology_file(case.topology);
    let mut topology =
        Topology::load(&path).map_err(|error| Stop::Untestable(error.to_string()))?;
    // Which texts a program follows is for its template to say; settings of the topology or the case come first.
    for node in topology.nodes.clone() {
        let program = node
            .role
            .as_deref()
            .and_then(|role| options.implementation.program(role));
        if program.is_some() && node.settings.get("edition").is_none() {
            let setting = format!("edition: {}", options.edition);
            crate::drive::merge_settings(&mut topology, &node.name, &setting)?;
        }
    }
    for (node, settings) in case.settings {
        crate::drive::merge_settings(&mut topology, node, settings)?;
    }
    for timer in case.timers {
        let role = topology
            .node(timer.node)
            .and_then(|node| node.role.clone())
            .unwrap_or_default();
        let settable = options
            .implementation
            .program(&role)
            .is_some_and(|(_, program)| program.timers.contains(timer.name));
        if settable {
            let setting = format!("{}: {}ms", timer.name, timer.short.as_millis());
            crate::drive::merge_settings(&mut topology, timer.node, &setting)?;
        }
    }
    Ok(topology)
}

fn lab_options(run: &Run<'_>, topology: &Topology) -> LabOptions {
    let mut options = LabOptions::default();
    for program in run.options.implementation.programs() {
        if let Ok(found) = crate::implementation::Found::of(program) {
            options.visible.push(found.path);
        }
    }
    if let Some(sabotage) = run.sabotage {
        let links = topology.links.iter().filter(|link| {
            link.end(sabotage.node).is_some()
                && (sabotage.links.is_empty() || sabotage.links.contains(&link.name.as_str()))
        });
        options.inline = links
            .map(|link| {
                let mut tamper = (sabotage.tamper)();
                Inline::new(&link.name, sabotage.node, move |way, octets, time_ns| {
                    tamper(way, &mut Frame::new(octets, time_ns))
                })
            })
            .collect();
    }
    options
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
        reason: Some(reason),
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        evidence: None,
        roles: case.roles.iter().map(|role| (*role).to_owned()).collect(),
        sabotage: run.sabotage.map(|sabotage| sabotage.name.to_owned()),
    }
}
