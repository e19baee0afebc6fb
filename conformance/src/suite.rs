//! Running the suite: what `lisplab test`, `lisplab sabotage` and `cargo test` have in common.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::baseline::Baseline;
use crate::catalogue::Coverage;
use crate::implementation::{Build, Implementation, build_from_checkout};
use crate::results::{CaseResult, RESULTS_FORMAT, Results};
use crate::runner::{Options, Progress, Run, run_all};

/// Brings our own programs up to date, where this is a checkout with cargo.
///
/// # Errors
/// What cargo says when it fails.
pub fn prepare(options: &Options) -> Result<(), String> {
    build(&options.implementation)
}

/// Brings those programs of an implementation up to date that are of this checkout.
///
/// # Errors
/// What cargo says when it fails.
pub fn build(implementation: &Implementation) -> Result<(), String> {
    match build_from_checkout(implementation.programs()) {
        Build::Done | Build::NotHere => Ok(()),
        Build::Failed(said) => Err(format!(
            "the routers of this checkout do not build:\n{said}"
        )),
    }
}

/// Runs cases and gathers their results, with what the baseline expects.
pub fn run(
    runs: &[Run<'_>],
    options: &Options,
    baseline: &Baseline,
    progress: &dyn Progress,
) -> Results {
    let head = results(options);
    gather(head, run_all(runs, options.jobs, progress), baseline)
}

/// The results of cases, with what the baseline expects.
pub fn gather(mut head: Results, cases: Vec<CaseResult>, baseline: &Baseline) -> Results {
    head.cases = cases;
    for case in &mut head.cases {
        baseline.apply(case);
    }
    head
}

/// The results of a run that begins now.
#[allow(clippy::disallowed_methods, reason = "a date for people")]
pub fn results(options: &Options) -> Results {
    Results {
        format: RESULTS_FORMAT,
        implementation: options.implementation.name.clone(),
        version: options.implementation.version(),
        kernel: kernel(),
        edition: options.edition,
        strict: options.strict,
        seed: options.seed,
        started: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        interrupted: false,
        cases: Vec::new(),
    }
}

/// "Linux 6.18.0": what differs between machines that run parts of one suite. Nothing that names the machine.
fn kernel() -> Option<String> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
    let (name, release) = (read("ostype")?, read("osrelease")?);
    Some(format!("{} {}", name.trim(), release.trim()))
}

/// How much of the catalogue this suite judges.
pub fn coverage() -> Coverage {
    let pairs = crate::case::all().iter().flat_map(|case| {
        case.requirements
            .iter()
            .map(|requirement| (requirement.id(), case.id))
    });
    crate::catalogue::coverage(
        crate::catalogue::catalogue(),
        pairs,
        crate::invariants::ids().map(crate::catalogue::Req::id),
    )
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    /// The table of the README, as the suite counts.
    fn table() -> String {
        let mut table = String::from(
            "| tier | judgeable | judged by a case | by an invariant alone | excluded, with the reason | not yet |\n\
             |---|--:|--:|--:|--:|--:|\n",
        );
        for (tier, figures) in super::coverage().tiers {
            let open = figures.judgeable - figures.covered - figures.excluded;
            let _ = writeln!(
                table,
                "| {tier} | {} | {} | {} | {} | {open} |",
                figures.judgeable, figures.by_case, figures.by_invariant, figures.excluded
            );
        }
        let cases = crate::case::all();
        let sabotages: usize = cases.iter().map(|case| case.sabotages.len()).sum();
        let _ = writeln!(table, "\n{} cases, {sabotages} sabotages.", cases.len());
        table
    }

    #[test]
    fn the_readme_shows_the_figures_of_the_suite() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let readme = std::fs::read_to_string(readme).unwrap();
        let table = table();
        assert!(
            readme.contains(&table),
            "README.md, section \"What is judged\": expected this text:\n\n{table}"
        );
    }
}
