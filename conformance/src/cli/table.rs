//! Tables for people.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;

use conformance::case::Case;
use conformance::catalogue::catalogue;
use conformance::report::table::{Style, table};
use conformance::report::{self, Report, Wanted};
use conformance::results::Results;

/// The list of cases.
pub(crate) fn list(cases: &[&Case]) -> String {
    let mut text = String::new();
    for case in cases {
        let slow = if case.slow { " (slow)" } else { "" };
        let _ = writeln!(text, "{:<72} {}{slow}", case.id, case.roles.join(","));
    }
    text
}

/// The same for programs.
pub(crate) fn list_for_programs(cases: &[&Case]) -> serde_json::Value {
    let one = |case: &&Case| {
        let requirements: Vec<&str> = case.requirements.iter().map(|row| row.id()).collect();
        serde_json::json!({
            "id": case.id,
            "title": case.title,
            "roles": case.roles,
            "requirements": requirements,
            "slow": case.slow,
        })
    };
    serde_json::json!({"format": 1, "cases": cases.iter().map(one).collect::<Vec<_>>()})
}

/// The results of a run whose evidence is in `folder`.
pub(crate) fn results(results: Results, folder: &Path) -> String {
    let run = report::run(results, folder, Path::new("."), Wanted::OfOpenCases);
    let report = Report {
        runs: vec![run],
        ..Report::default()
    };
    format!(
        "{}evidence: {}\n",
        table(&report, catalogue(), style()),
        folder.display()
    )
}

/// As wide and as colourful as standard output is.
pub(crate) fn style() -> Style {
    let terminal = std::io::stdout().is_terminal();
    let width = terminal
        .then(|| terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)))
        .flatten();
    Style {
        width,
        colour: terminal && std::env::var_os("NO_COLOR").is_none(),
    }
}
