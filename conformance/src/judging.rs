//! From a trace to the result of a case: a pure function, so that it can be done again on saved evidence.

mod expectations;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::case::Case;
use crate::catalogue::{Req, Requirement, catalogue};
use crate::finding::{Finding, Findings, Outcome};
use crate::results::{CaseResult, RequirementResult};
use crate::text::panic_message;
use crate::trace::{Facts, Stopped, Trace};
use crate::verdict::{Verdict, of_finding};

/// A stall of the host that is long enough to miss a deadline because of it.
pub const NOISY: Duration = Duration::from_millis(500);

/// Judges the trace of a case.
pub fn judge(case: &Case, trace: &Trace, facts: &Facts) -> CaseResult {
    let mut result = CaseResult {
        id: case.id.to_owned(),
        title: case.title.to_owned(),
        verdict: Verdict::Skipped,
        expected: Verdict::Pass,
        expected_because: None,
        reason: facts
            .stopped
            .as_ref()
            .map(|stopped| stopped.text().to_owned()),
        requirements: Vec::new(),
        expectations: Vec::new(),
        duration_ms: facts.duration_ms,
        evidence: None,
        bundle: None,
        roles: case.roles.iter().map(|role| (*role).to_owned()).collect(),
        sabotage: facts.sabotage.clone(),
    };
    let (mut own, panicked) = judged(case, trace);
    if let Some(scenario) = case.scenario {
        let judged = expectations::judge(scenario, trace, facts);
        own.extend(judged.findings);
        result.expectations = judged.expectations;
    }
    let own = by_requirement(own);
    for requirement in case.requirements {
        let row = row(*requirement);
        let findings = own.get(requirement).map(Vec::as_slice).unwrap_or_default();
        result
            .requirements
            .push(of_requirement(row, findings, facts));
    }
    for (requirement, findings) in by_requirement(crate::invariants::judge(trace)) {
        if case.requirements.contains(&requirement) {
            continue;
        }
        let mut found = of_requirement(row(requirement), &findings, facts);
        found.invariant = true;
        result.requirements.push(found);
    }
    result
        .requirements
        .sort_by(|a, b| b.verdict.cmp(&a.verdict).then_with(|| a.id.cmp(&b.id)));
    let expectations = result.expectations.iter().map(|found| found.verdict);
    let worst = result
        .requirements
        .iter()
        .map(|found| found.verdict)
        .chain(expectations)
        .max()
        .unwrap_or(Verdict::Untestable);
    result.verdict = whole(worst, trace, facts);
    if let Some(panicked) = panicked {
        result.verdict = result.verdict.max(Verdict::Untestable);
        result.reason = Some(panicked);
    }
    if let Some(lost) = trace.drops.iter().find(|drops| drops.packets > 0)
        && result.verdict != Verdict::Skipped
    {
        result.verdict = Verdict::Inconclusive;
        result.reason = Some(format!(
            "the capture on {} lost {} packets: {}",
            lost.interface, lost.packets, lost.reason
        ));
    }
    result
}

/// What the case's own judges say. One that panics is a defect of the case: what it said until then counts, and the case is no
/// pass.
fn judged(case: &Case, trace: &Trace) -> (Findings, Option<String>) {
    let mut findings = Findings::new();
    let mut panicked = None;
    for (number, judge) in case.judges.iter().enumerate() {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| judge(trace, &mut findings))) {
            panicked.get_or_insert_with(|| {
                format!(
                    "judge {} of the case panicked: {}",
                    number + 1,
                    panic_message(&*panic)
                )
            });
        }
    }
    (findings, panicked)
}

/// What the invariants say about a capture from elsewhere.
pub fn judge_foreign(trace: &Trace, strict: bool) -> Vec<RequirementResult> {
    let facts = Facts::foreign(trace.edition, strict);
    by_requirement(crate::invariants::judge(trace))
        .into_iter()
        .map(|(requirement, findings)| {
            let mut found = of_requirement(row(requirement), &findings, &facts);
            found.invariant = true;
            found
        })
        .collect()
}

fn whole(worst: Verdict, trace: &Trace, facts: &Facts) -> Verdict {
    match &facts.stopped {
        Some(Stopped::Untestable(_)) => Verdict::Untestable,
        Some(Stopped::Inconclusive(_)) => Verdict::Inconclusive,
        Some(Stopped::NotSeen(_)) if trace.noise.longest_stall >= NOISY => Verdict::Inconclusive,
        // What did not come was awaited for a reason: a drive that ended early is no pass.
        Some(Stopped::NotSeen(_)) => worst.max(Verdict::Untestable),
        None => worst,
    }
}

fn row(requirement: Req) -> &'static Requirement {
    catalogue()
        .get(requirement.id())
        .expect("a Req is made of an id of the catalogue")
}

fn by_requirement(findings: Findings) -> BTreeMap<Req, Vec<Finding>> {
    let mut map: BTreeMap<Req, Vec<Finding>> = BTreeMap::new();
    for finding in findings {
        map.entry(finding.requirement).or_default().push(finding);
    }
    map
}

/// The worst of the findings decides; without any, the case did not come to show it.
fn of_requirement(row: &Requirement, findings: &[Finding], facts: &Facts) -> RequirementResult {
    let base = |verdict, finding: String| RequirementResult {
        id: row.id.clone(),
        verdict,
        finding,
        expected: String::new(),
        packets: Vec::new(),
        invariant: false,
    };
    if let Some(why) = not_asked(row, facts) {
        return base(Verdict::Skipped, why);
    }
    let worst = findings.iter().max_by_key(|finding| {
        (
            of_finding(row, finding, facts.strict),
            finding.outcome == Outcome::Broken,
        )
    });
    let Some(worst) = worst else {
        let why = facts
            .stopped
            .as_ref()
            .map_or("no judge said anything about it", Stopped::text);
        return base(Verdict::Untestable, why.to_owned());
    };
    let verdict = match of_finding(row, worst, facts.strict) {
        // What a program did not do that is missing, died or never got ready says nothing about LISP.
        Verdict::Fail | Verdict::Warn if matches!(facts.stopped, Some(Stopped::Untestable(_))) => {
            Verdict::Untestable
        }
        verdict => verdict,
    };
    let finding = match worst.outcome {
        Outcome::Unseen => format!("not to be seen in this trace: needed {}", worst.expected),
        Outcome::Recorded => format!("recorded: {}", worst.seen),
        Outcome::Broken if verdict == Verdict::Pass => format!("recorded: {}", worst.seen),
        _ => worst.seen.clone(),
    };
    let expected = if verdict > Verdict::Pass {
        worst.expected.clone()
    } else {
        String::new()
    };
    RequirementResult {
        expected,
        packets: worst.packets.clone(),
        ..base(verdict, finding)
    }
}

/// Why a row is not asked for, if so.
fn not_asked(row: &Requirement, facts: &Facts) -> Option<String> {
    if !facts.edition.binds(row) {
        return Some(format!("edition {} does not ask for it", facts.edition));
    }
    if row.feature != "core" && !facts.features.contains(&row.feature) {
        return Some(format!(
            "the implementation does not claim the feature {}",
            row.feature
        ));
    }
    None
}

impl Facts {
    /// Of a capture from elsewhere: all features are taken as claimed.
    fn foreign(edition: crate::edition::Edition, strict: bool) -> Facts {
        Facts {
            format: crate::trace::TRACE_FORMAT,
            case: String::new(),
            implementation: "unknown".to_owned(),
            edition,
            strict,
            seed: 0,
            features: catalogue()
                .features()
                .keys()
                .cloned()
                .collect::<BTreeSet<_>>(),
            under_test: BTreeSet::new(),
            sabotage: None,
            stopped: None,
            duration_ms: 0,
            settings: BTreeMap::new(),
            observations: Vec::new(),
            marks: Vec::new(),
            processes: Vec::new(),
            drops: Vec::new(),
            noise: harness::capture::Noise::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edition::Edition;

    const MUST: Req = Req::new("rfc6830-5.3-dport");
    const SHOULD: Req = Req::new("rfc6830-5.3-cksum-zero-tx");
    const CHANGED: Req = Req::new("rfc6830-3-eid-not-rloc");

    fn case(judges: &'static [crate::case::Judge], requirements: &'static [Req]) -> Case {
        Case {
            id: "rfc0::s0::test",
            title: "t",
            judges,
            requirements,
            ..Case::BASE
        }
    }

    fn trace() -> Trace {
        Trace::from_packets(Vec::new(), Edition::Rfc6830)
    }

    fn facts() -> Facts {
        Facts::foreign(Edition::Rfc6830, false)
    }

    #[test]
    fn the_worst_finding_decides() {
        let case = case(
            &[|_, findings| {
                findings.met(MUST, 1, "fine");
                findings.broken(MUST, 2, "4341", "4342");
                findings.met(MUST, 3, "fine");
            }],
            &[MUST],
        );
        let result = judge(&case, &trace(), &facts());
        assert_eq!(result.verdict, Verdict::Fail);
        assert_eq!(
            (
                result.requirements[0].finding.as_str(),
                &result.requirements[0].packets
            ),
            ("4342", &vec![2])
        );
    }

    #[test]
    fn a_requirement_that_no_judge_speaks_of_is_untestable() {
        let case = case(
            &[|_, findings| findings.met(MUST, 1, "fine")],
            &[MUST, SHOULD],
        );
        assert_eq!(
            judge(&case, &trace(), &facts()).verdict,
            Verdict::Untestable
        );
    }

    #[test]
    fn a_broken_should_warns_and_fails_when_strict() {
        let case = case(
            &[|_, findings| findings.broken(SHOULD, 1, "0", "1")],
            &[SHOULD],
        );
        assert_eq!(judge(&case, &trace(), &facts()).verdict, Verdict::Warn);
        let strict = Facts {
            strict: true,
            ..facts()
        };
        assert_eq!(judge(&case, &trace(), &strict).verdict, Verdict::Fail);
    }

    #[test]
    fn what_the_edition_does_not_ask_and_what_is_not_claimed_is_skipped() {
        let case = case(
            &[|_, findings| findings.broken(CHANGED, 1, "no EID", "an EID")],
            &[CHANGED],
        );
        assert_eq!(judge(&case, &trace(), &facts()).verdict, Verdict::Fail);
        let newer = Facts {
            edition: Edition::Rfc9300,
            ..facts()
        };
        assert_eq!(judge(&case, &trace(), &newer).verdict, Verdict::Skipped);

        const PROBING: Req = Req::new("rfc6830-6.3.2-probe-reply");
        let case = self::case(
            &[|_, findings| findings.broken(PROBING, 1, "a reply", "none")],
            &[PROBING],
        );
        let plain = Facts {
            features: BTreeSet::new(),
            ..facts()
        };
        assert_eq!(judge(&case, &trace(), &plain).verdict, Verdict::Skipped);
    }

    #[test]
    fn a_drive_that_ended_early_is_no_pass_and_a_stalled_host_makes_it_inconclusive() {
        let case = case(&[|_, findings| findings.met(MUST, 1, "fine")], &[MUST]);
        let late = Facts {
            stopped: Some(Stopped::NotSeen("a reply".to_owned())),
            ..facts()
        };
        assert_eq!(judge(&case, &trace(), &late).verdict, Verdict::Untestable);
        let mut stalled = trace();
        stalled.noise.longest_stall = NOISY;
        assert_eq!(judge(&case, &stalled, &late).verdict, Verdict::Inconclusive);
        let dead = Facts {
            stopped: Some(Stopped::Untestable("it died".to_owned())),
            ..facts()
        };
        assert_eq!(judge(&case, &stalled, &dead).verdict, Verdict::Untestable);
    }

    #[test]
    fn what_a_dead_program_did_not_do_is_no_string_of_failures() {
        let case = case(
            &[|_, findings| findings.broken(MUST, 1, "a reply", "none")],
            &[MUST],
        );
        let dead = Facts {
            stopped: Some(Stopped::Untestable("it died".to_owned())),
            ..facts()
        };
        let result = judge(&case, &trace(), &dead);
        assert_eq!(result.requirements[0].verdict, Verdict::Untestable);
        assert_eq!(result.reason.as_deref(), Some("it died"));
    }

    #[test]
    fn a_judge_that_panics_makes_no_pass_and_keeps_what_it_found() {
        let case = case(
            &[|trace, findings| {
                findings.met(MUST, 1, "fine");
                let _ = &trace.packets[0];
            }],
            &[MUST],
        );
        let result = judge(&case, &trace(), &facts());
        assert_eq!(result.verdict, Verdict::Untestable);
        assert_eq!(result.requirements[0].verdict, Verdict::Pass);
        assert!(
            result
                .reason
                .unwrap()
                .starts_with("judge 1 of the case panicked: index")
        );
    }

    #[test]
    fn lost_packets_make_a_case_inconclusive() {
        let case = case(&[|_, findings| findings.met(MUST, 1, "fine")], &[MUST]);
        let mut lossy = trace();
        lossy.drops.push(harness::capture::Drops {
            interface: "a@b".to_owned(),
            packets: 1,
            reason: "full".to_owned(),
        });
        assert_eq!(
            judge(&case, &lossy, &facts()).verdict,
            Verdict::Inconclusive
        );
    }
}
