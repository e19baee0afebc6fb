//! Judges that look at every trace of every case: what must hold of any packet that an implementation sends. They need no
//! stimulus, and stay silent where there is nothing to see.

mod addresses;
mod control;
mod data;
mod every;
mod nonces;
mod records;

use crate::case::Judge;
use crate::catalogue::Req;
use crate::finding::Findings;
use crate::trace::Trace;

/// One invariant.
#[derive(Debug, Clone, Copy)]
pub struct Invariant {
    /// What holds, in a few words.
    pub name: &'static str,
    /// The requirements that it judges.
    pub requirements: &'static [Req],
    /// The judge.
    pub judge: Judge,
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Invariant> {
    [
        addresses::INVARIANTS,
        control::INVARIANTS,
        data::INVARIANTS,
        nonces::INVARIANTS,
        records::INVARIANTS,
    ]
    .into_iter()
    .flatten()
}

/// The requirements that the invariants judge.
pub fn ids() -> impl Iterator<Item = Req> {
    all().flat_map(|invariant| invariant.requirements.iter().copied())
}

/// What all invariants say about a trace.
pub fn judge(trace: &Trace) -> Findings {
    let mut findings = Findings::new();
    for invariant in all() {
        (invariant.judge)(trace, &mut findings);
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a case that does not judge the row itself: what turns red there is the invariant.
    #[test]
    fn every_invariant_is_turned_red_by_a_sabotage() {
        let killed = |id: &Req| {
            crate::case::all().iter().any(|case| {
                let mut sabotages = case.sabotages.iter();
                !case.requirements.contains(id) && sabotages.any(|s| s.kills.contains(id))
            })
        };
        let unproved: Vec<&str> = ids().filter(|id| !killed(id)).map(Req::id).collect();
        assert!(
            unproved.is_empty(),
            "no sabotage names these rows of invariants: {}",
            unproved.join(", ")
        );
    }
}
