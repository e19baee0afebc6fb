//! The kill matrix: which sabotages turned their cases red.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::catalogue::catalogue;
use crate::edition::Edition;
use crate::results::CaseResult;
use crate::sabotage::Sabotage;
use crate::verdict::Verdict;

/// Version of `sabotage.json`.
pub const MATRIX_FORMAT: u32 = 1;

/// All sabotages of a run: `sabotage.json` (docs/formats.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// [`MATRIX_FORMAT`].
    pub format: u32,
    /// Which texts decided.
    #[serde(default)]
    pub edition: Edition,
    /// Sabotages of which the edition and the claimed features ask anything.
    pub total: usize,
    /// How many of these were killed.
    pub killed: usize,
    /// Those that were not.
    pub survivors: Vec<Survivor>,
    /// Sabotages of requirements that the edition does not ask for or the implementation does not claim.
    #[serde(default)]
    pub not_asked: Vec<NotAsked>,
    /// Every sabotage that counts.
    pub sabotages: Vec<Kill>,
    /// What cases judge and no sabotage of theirs turned red.
    #[serde(default)]
    pub unproved: Vec<Unproved>,
}

/// A requirement that a case judges, and that failed under none of the case's sabotages: nothing shows that it can fail there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unproved {
    /// The case.
    pub case: String,
    /// The requirement.
    pub requirement: String,
}

/// A sabotage that did not turn its case red.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivor {
    /// The case.
    pub case: String,
    /// The sabotage.
    pub sabotage: String,
    /// Requirements that should have failed.
    pub missed: Vec<String>,
    /// What was said of the case as a whole: why it could not be judged, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A sabotage that this run had no use for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotAsked {
    /// The case.
    pub case: String,
    /// The sabotage.
    pub sabotage: String,
}

/// One sabotage of one case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kill {
    /// The case.
    pub case: String,
    /// The sabotage.
    pub sabotage: String,
    /// Which texts decided.
    #[serde(default)]
    pub edition: Edition,
    /// Whether the case turned red, and every requirement that the sabotage names and the edition asks for with it.
    pub killed: bool,
    /// The verdict of the case.
    #[serde(default = "failed")]
    pub verdict: Verdict,
    /// Requirements that failed under it.
    #[serde(default)]
    pub by: Vec<String>,
    /// Requirements that should have failed under it and did not.
    #[serde(default)]
    pub missed: Vec<String>,
}

fn failed() -> Verdict {
    Verdict::Fail
}

/// What a sabotage did to its case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it counts.
    pub sabotage: Counted,
    /// What was asked for of what the case judges: neither another edition's, nor of a feature that is not claimed.
    pub judged: Vec<String>,
    /// What failed under it.
    pub failed: Vec<String>,
}

/// Whether a sabotage counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counted {
    /// Killed or not, and what was said of the case as a whole.
    Counts(Kill, Option<String>),
    /// Nothing that it breaks is asked for.
    NotAsked(NotAsked),
}

/// What a sabotage did, by the result of its case.
///
/// Of the requirements that it names, those count that the edition asks for and whose feature is claimed; the others cannot
/// fail. A sabotage without any that counts has nothing to be killed by.
pub fn outcome(sabotage: &Sabotage, result: &CaseResult, edition: Edition) -> Outcome {
    let verdict = |id: &str| {
        let found = result.requirements.iter().find(|found| found.id == id);
        found.map(|found| found.verdict)
    };
    let bad = |verdict: Verdict| matches!(verdict, Verdict::Fail | Verdict::Warn);
    let asked = |id: &str| {
        verdict(id) != Some(Verdict::Skipped)
            && catalogue().get(id).is_some_and(|row| edition.binds(row))
    };
    let mut by: Vec<String> = result
        .requirements
        .iter()
        .filter(|found| bad(found.verdict))
        .map(|found| found.id.clone())
        .collect();
    by.sort();
    let whole = result.verdict != Verdict::Skipped;
    let judged: Vec<String> = case_requirements(&result.id)
        .filter(|id| whole && verdict(id).is_some() && asked(id) && judgeable(id))
        .map(str::to_owned)
        .collect();
    let failed = by.clone();
    let named = sabotage.kills.iter().map(|requirement| requirement.id());
    let asked: Vec<&str> = named.filter(|id| asked(id)).collect();
    if !whole || asked.is_empty() && !sabotage.kills.is_empty() {
        let not_asked = NotAsked {
            case: result.id.clone(),
            sabotage: sabotage.name.to_owned(),
        };
        return Outcome {
            sabotage: Counted::NotAsked(not_asked),
            judged,
            failed,
        };
    }
    let missed: Vec<String> = asked
        .into_iter()
        .filter(|id| !verdict(id).is_some_and(bad))
        .map(str::to_owned)
        .collect();
    let kill = Kill {
        case: result.id.clone(),
        sabotage: sabotage.name.to_owned(),
        edition,
        killed: missed.is_empty() && !by.is_empty(),
        verdict: result.verdict,
        by,
        missed,
    };
    Outcome {
        sabotage: Counted::Counts(kill, result.reason.clone()),
        judged,
        failed,
    }
}

fn case_requirements(case: &str) -> impl Iterator<Item = &'static str> {
    let requirements = crate::case::find(case).map_or(&[][..], |case| case.requirements);
    requirements.iter().map(|requirement| requirement.id())
}

/// Whether the catalogue judges a requirement, and does not only record it.
fn judgeable(id: &str) -> bool {
    catalogue().get(id).is_some_and(|row| row.is_judgeable())
}

/// The matrix of all outcomes.
pub fn matrix(edition: Edition, outcomes: impl IntoIterator<Item = Outcome>) -> Matrix {
    let mut matrix = Matrix {
        format: MATRIX_FORMAT,
        edition,
        total: 0,
        killed: 0,
        survivors: Vec::new(),
        not_asked: Vec::new(),
        sabotages: Vec::new(),
        unproved: Vec::new(),
    };
    let mut judged = BTreeSet::new();
    let mut failed = BTreeSet::new();
    for outcome in outcomes {
        let case = match &outcome.sabotage {
            Counted::Counts(kill, _) => kill.case.clone(),
            Counted::NotAsked(not_asked) => not_asked.case.clone(),
        };
        let of_case = |ids: Vec<String>| ids.into_iter().map(|id| (case.clone(), id)).collect();
        judged.append(&mut of_case(outcome.judged));
        failed.append(&mut of_case(outcome.failed));
        match outcome.sabotage {
            Counted::NotAsked(sabotage) => matrix.not_asked.push(sabotage),
            Counted::Counts(kill, reason) => {
                matrix.total += 1;
                if kill.killed {
                    matrix.killed += 1;
                } else {
                    matrix.survivors.push(Survivor {
                        case: kill.case.clone(),
                        sabotage: kill.sabotage.clone(),
                        missed: kill.missed.clone(),
                        reason,
                    });
                }
                matrix.sabotages.push(kill);
            }
        }
    }
    let unproved = judged.difference(&failed).cloned();
    matrix.unproved = unproved
        .map(|(case, requirement)| Unproved { case, requirement })
        .collect();
    matrix
}

#[cfg(test)]
mod tests {
    use harness::inline::PacketFate;

    use super::*;
    use crate::catalogue::Req;
    use crate::results::RequirementResult;

    /// Binds under both editions.
    const BOTH: Req = Req::new("rfc6830-5.3-dport");
    /// Was turned around by the newer edition.
    const OLDER: Req = Req::new("rfc6830-3-eid-not-rloc");

    fn sabotage(kills: &'static [Req]) -> Sabotage {
        Sabotage {
            name: "breaks it",
            node: "etr",
            links: &[],
            kills,
            tamper: || Box::new(|_, _| PacketFate::Forward),
        }
    }

    fn result(found: &[(Req, Verdict)]) -> CaseResult {
        let requirements = found
            .iter()
            .map(|(requirement, verdict)| RequirementResult {
                id: requirement.id().to_owned(),
                verdict: *verdict,
                finding: String::new(),
                expected: String::new(),
                packets: Vec::new(),
                invariant: false,
            });
        CaseResult {
            id: "rfc0::s0::test".to_owned(),
            title: String::new(),
            verdict: found.iter().map(|(_, verdict)| *verdict).max().unwrap(),
            expected: Verdict::Pass,
            expected_because: None,
            reason: Some("why".to_owned()),
            expectations: Vec::new(),
            requirements: requirements.collect(),
            duration_ms: 0,
            evidence: None,
            bundle: None,
            roles: Vec::new(),
            sabotage: Some("breaks it".to_owned()),
        }
    }

    #[test]
    fn every_requirement_that_is_named_and_asked_for_must_fail() {
        let both = sabotage(&[BOTH, OLDER]);
        let of = |found: &[(Req, Verdict)], edition| {
            let outcome = outcome(&both, &result(found), edition);
            matrix(edition, [outcome])
        };
        let red = of(
            &[(BOTH, Verdict::Fail), (OLDER, Verdict::Warn)],
            Edition::Rfc6830,
        );
        assert_eq!((red.total, red.killed, red.survivors.len()), (1, 1, 0));
        let half = of(
            &[(BOTH, Verdict::Fail), (OLDER, Verdict::Pass)],
            Edition::Rfc6830,
        );
        assert_eq!(half.survivors[0].missed, [OLDER.id()]);
        assert_eq!(half.survivors[0].reason.as_deref(), Some("why"));
        let newer = of(
            &[(BOTH, Verdict::Fail), (OLDER, Verdict::Skipped)],
            Edition::Rfc9300,
        );
        assert_eq!((newer.total, newer.killed), (1, 1));
        let survived = of(
            &[(BOTH, Verdict::Untestable), (OLDER, Verdict::Skipped)],
            Edition::Rfc9300,
        );
        assert_eq!(survived.survivors[0].missed, [BOTH.id()]);
    }

    #[test]
    fn a_sabotage_of_what_is_not_asked_for_does_not_count() {
        let older = sabotage(&[OLDER]);
        let newer = outcome(&older, &result(&[(BOTH, Verdict::Pass)]), Edition::Rfc9300);
        let matrix = matrix(Edition::Rfc9300, [newer]);
        assert_eq!((matrix.total, matrix.not_asked.len()), (0, 1));
        // Of an invariant that says nothing about this trace one can tell that it missed.
        let silent = outcome(&older, &result(&[(BOTH, Verdict::Fail)]), Edition::Rfc6830);
        assert!(matches!(silent.sabotage, Counted::Counts(kill, _) if !kill.killed));
        let unclaimed = outcome(
            &sabotage(&[BOTH]),
            &result(&[(BOTH, Verdict::Skipped)]),
            Edition::Rfc6830,
        );
        assert!(matches!(unclaimed.sabotage, Counted::NotAsked(_)));
    }

    #[test]
    fn one_that_names_nothing_must_turn_the_case_red() {
        let any = sabotage(&[]);
        let of = |verdict| {
            let result = result(&[(BOTH, verdict)]);
            match outcome(&any, &result, Edition::Rfc6830).sabotage {
                Counted::Counts(kill, _) => kill.killed,
                Counted::NotAsked(_) => unreachable!("it names nothing"),
            }
        };
        assert!(of(Verdict::Fail) && !of(Verdict::Pass) && !of(Verdict::Untestable));
    }

    /// Also where the only sabotage of a case breaks what the edition does not ask for.
    #[test]
    fn what_is_judged_and_never_failed_is_unproved_but_not_what_is_not_asked_for() {
        let case = crate::case::find("rfc6830::s5_3::pings_cross_the_tunnel").unwrap();
        let [first, second, third] = case.requirements else {
            unreachable!("the case has other requirements now")
        };
        let breaks = |kills: &'static [Req], found: &[(Req, Verdict)]| {
            let mut result = result(found);
            result.id = case.id.to_owned();
            outcome(&sabotage(kills), &result, Edition::Rfc9300)
        };
        let found = [
            (*first, Verdict::Fail),
            (*second, Verdict::Pass),
            (*third, Verdict::Skipped),
        ];
        let of = |outcomes: Vec<Outcome>| matrix(Edition::Rfc9300, outcomes).unproved;
        let unproved = |requirement: &Req| Unproved {
            case: case.id.to_owned(),
            requirement: requirement.id().to_owned(),
        };
        assert_eq!(of(vec![breaks(&[BOTH], &found)]), [unproved(second)]);
        let other = [(*first, Verdict::Pass), (*second, Verdict::Pass)];
        let not_asked = breaks(&[OLDER], &other);
        assert!(matches!(not_asked.sabotage, Counted::NotAsked(_)));
        assert_eq!(of(vec![not_asked.clone()]).len(), 2);
        assert_eq!(
            of(vec![not_asked, breaks(&[BOTH], &found)]),
            [unproved(second)]
        );
    }
}
