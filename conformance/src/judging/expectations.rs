//! From what a scenario's expectations show to their verdicts.

use super::{NOISY, not_asked, row};
use crate::catalogue::{Judging, Req};
use crate::finding::{Findings, Outcome};
use crate::results::ExpectationResult;
use crate::scenario::{Expectation, Judged, Scenario};
use crate::trace::{Facts, Trace};
use crate::verdict::{Verdict, of_finding};

/// What the expectations say: for themselves, and about the requirements that they cite.
pub(super) struct OfScenario {
    pub(super) expectations: Vec<ExpectationResult>,
    pub(super) findings: Findings,
}

pub(super) fn judge(scenario: &Scenario, trace: &Trace, facts: &Facts) -> OfScenario {
    let mut all = OfScenario {
        expectations: Vec::new(),
        findings: Findings::new(),
    };
    let judged = scenario.judge(trace, &facts.observations);
    for (expectation, judged) in scenario.expectations.iter().zip(judged) {
        let verdict = verdict(expectation, &judged, trace, facts);
        if !judged.skipped {
            for requirement in &expectation.requirements {
                all.findings.push(judged.finding(*requirement));
            }
        }
        let finding = match judged.outcome {
            Outcome::Unseen if !judged.skipped => {
                format!("not to be seen: needed {}", judged.expected)
            }
            _ => judged.seen,
        };
        all.expectations.push(ExpectationResult {
            name: expectation.name.clone(),
            line: expectation.at.line,
            verdict,
            finding,
            expected: if verdict > Verdict::Pass && judged.outcome != Outcome::Unseen {
                judged.expected
            } else {
                String::new()
            },
            packets: judged.packets,
            requirements: expectation
                .requirements
                .iter()
                .map(|requirement| requirement.id().to_owned())
                .collect(),
        });
    }
    all
}

fn verdict(expectation: &Expectation, judged: &Judged, trace: &Trace, facts: &Facts) -> Verdict {
    if judged.skipped {
        return Verdict::Skipped;
    }
    let noisy = judged.in_time && trace.noise.longest_stall >= NOISY;
    let own = match judged.outcome {
        Outcome::Met | Outcome::Recorded => Verdict::Pass,
        Outcome::Unseen => Verdict::Untestable,
        // What came late on a host that stood still says nothing.
        Outcome::Broken if noisy => Verdict::Inconclusive,
        Outcome::Broken => Verdict::Fail,
    };
    if own == Verdict::Pass || expectation.requirements.is_empty() {
        return own;
    }
    // What it cites says how much it counts: a broken SHOULD is a warning, a feature that is not claimed is not asked for.
    let cited = |requirement: &Req| {
        let row = row(*requirement);
        if not_asked(row, facts).is_some() {
            Verdict::Skipped
        } else if own == Verdict::Fail && row.verdict != Judging::Record {
            of_finding(row, &judged.finding(*requirement), facts.strict)
        } else {
            own
        }
    };
    let worst = expectation.requirements.iter().map(cited).max();
    worst.unwrap_or(own)
}
