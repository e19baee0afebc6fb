//! Tables for people.

use std::fmt::Write as _;
use std::path::Path;

use conformance::case::Case;
use conformance::catalogue::catalogue;
use conformance::results::{CaseResult, Results};
use conformance::text::failure;
use conformance::verdict::Verdict;

/// The list of cases.
pub(crate) fn list(cases: &[&Case]) -> String {
    let mut text = String::new();
    for case in cases {
        let slow = if case.slow { " (slow)" } else { "" };
        let _ = writeln!(text, "{:<72} {}{slow}", case.id, case.roles.join(","));
    }
    text
}

/// All results: failures in full, then one line a case, then the sum.
pub(crate) fn results(results: &Results, out: &Path) -> String {
    let mut text = String::new();
    for case in &results.cases {
        if case.verdict.is_failure() || !case.is_expected() {
            text.push_str(&failure(case, out));
        }
    }
    let _ = writeln!(
        text,
        "{:<12} {:<70} {:<44} {:>7}",
        "verdict", "case", "sections", "seconds"
    );
    for case in &results.cases {
        let _ = writeln!(
            text,
            "{:<12} {:<70} {:<44} {:>7.1}{}",
            case.verdict,
            case.id,
            sections(case),
            case.duration_ms as f64 / 1000.0,
            remark(case)
        );
    }
    let count = |verdict: Verdict| {
        results
            .cases
            .iter()
            .filter(|case| case.verdict == verdict)
            .count()
    };
    let sums: Vec<String> = Verdict::ALL
        .iter()
        .map(|verdict| (verdict, count(*verdict)))
        .filter(|(_, count)| *count > 0)
        .map(|(verdict, count)| format!("{count} {verdict}"))
        .collect();
    let unexpected = results
        .cases
        .iter()
        .filter(|case| !case.is_expected())
        .count();
    let _ = writeln!(
        text,
        "\n{} cases: {}; {unexpected} not as expected. Edition {}, implementation {}. Evidence: {}",
        results.cases.len(),
        sums.join(", "),
        results.edition,
        results.implementation,
        out.display()
    );
    text
}

fn remark(case: &CaseResult) -> String {
    match (case.is_expected(), &case.expected_because, case.verdict) {
        (true, Some(because), _) => format!("  expected: {because}"),
        (false, Some(_), _) => format!("  the baseline expects {}: it is stale", case.expected),
        (_, None, Verdict::Skipped) => case
            .reason
            .as_ref()
            .map_or_else(String::new, |reason| format!("  {reason}")),
        _ => String::new(),
    }
}

fn sections(case: &CaseResult) -> String {
    let mut cites: Vec<String> = case
        .requirements
        .iter()
        .filter(|found| !found.invariant)
        .filter_map(|found| catalogue().get(&found.id))
        .map(|row| row.cite().replace("RFC ", ""))
        .collect();
    cites.sort();
    cites.dedup();
    let mut text = String::new();
    for (at, cite) in cites.iter().enumerate() {
        if text.len() + cite.len() > 36 {
            let _ = write!(text, " +{}", cites.len() - at);
            break;
        }
        if at > 0 {
            text.push_str(", ");
        }
        text.push_str(cite);
    }
    text
}
