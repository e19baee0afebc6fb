//! JUnit XML as GitHub and GitLab read it. It is a view: it cannot carry all verdicts, `results.json` is the record.

use std::time::Duration;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite, XmlString};

use super::model::{CaseReport, Report, Run, sentence};
use crate::catalogue::Catalogue;
use crate::verdict::Verdict;

/// Writes the report: one suite per run; `fail` and `untestable` are failures, `inconclusive` is an error, `warn` is a
/// success that says so in its output, `skipped` is skipped. A failure that a baseline expects is skipped, with a
/// message that says so: a pipeline must not be red for what is known. A listed failure that is none any more is a failure
/// of type `stale`.
///
/// # Errors
/// What the XML writer refuses.
pub fn junit(
    report: &Report,
    catalogue: &Catalogue,
) -> Result<String, quick_junit::SerializeError> {
    let mut xml = quick_junit::Report::new("lisplab");
    for run in &report.runs {
        xml.add_test_suite(suite(run, catalogue));
    }
    xml.to_string()
}

fn suite(run: &Run, catalogue: &Catalogue) -> TestSuite {
    let mut suite = TestSuite::new(format!("{} edition {}", run.implementation, run.edition));
    let total: u64 = run.cases.iter().map(|case| case.duration_ms).sum();
    suite.set_time(Duration::from_millis(total));
    for (name, values) in &run.header.lines {
        let value = values.iter().cloned().collect::<Vec<_>>().join(", ");
        suite.add_property((name.as_str(), value.as_str()));
    }
    suite.add_test_cases(run.cases.iter().map(|case| test_case(run, case, catalogue)));
    suite
}

fn test_case(run: &Run, case: &CaseReport, catalogue: &Catalogue) -> TestCase {
    let status = match case.verdict {
        // A baseline that lists a failure which is none any more is out of date, and the run ends with 1.
        Verdict::Pass | Verdict::Warn | Verdict::Skipped if !case.expected => stale(case),
        Verdict::Pass | Verdict::Warn => TestCaseStatus::success(),
        Verdict::Skipped => with_message(TestCaseStatus::skipped(), &why_skipped(case)),
        verdict if case.expected => {
            let because = case.expected_because.as_deref().unwrap_or_default();
            let message = format!(
                "expected {} ({because}): {}",
                verdict.word(),
                headline(case)
            );
            with_message(TestCaseStatus::skipped(), &message)
        }
        Verdict::Fail | Verdict::Untestable => failed(NonSuccessKind::Failure, case, catalogue),
        Verdict::Inconclusive => failed(NonSuccessKind::Error, case, catalogue),
    };
    let mut test = TestCase::new(case.id.as_str(), status);
    test.set_classname(run.title());
    test.set_time(Duration::from_millis(case.duration_ms));
    if matches!(case.verdict, Verdict::Warn) || !case.evidence.problems.is_empty() {
        test.set_system_out(XmlString::new(details(case, catalogue)));
    }
    test
}

fn failed(kind: NonSuccessKind, case: &CaseReport, catalogue: &Catalogue) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(case.verdict.word());
    status.set_message(headline(case));
    status.set_description(details(case, catalogue));
    status
}

fn stale(case: &CaseReport) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_type("stale");
    let (listed, found) = (case.result.expected.word(), case.verdict.word());
    status.set_message(format!(
        "the baseline lists {listed} and the verdict is {found}: remove the case from the baseline"
    ));
    status
}

fn why_skipped(case: &CaseReport) -> String {
    let first = || case.requirements.first().map(|row| row.finding.clone());
    case.reason.clone().or_else(first).unwrap_or_default()
}

fn with_message(mut status: TestCaseStatus, message: &str) -> TestCaseStatus {
    if !message.is_empty() {
        status.set_message(message);
    }
    status
}

/// The worst finding in one line.
fn headline(case: &CaseReport) -> String {
    let worst = case
        .rows()
        .into_iter()
        .rev()
        .max_by_key(|row| row.verdict)
        .filter(|row| row.verdict != Verdict::Pass);
    match worst {
        Some(row) => format!("{}: {}", row.id, sentence(&row)),
        None => case
            .reason
            .clone()
            .unwrap_or_else(|| case.verdict.word().to_owned()),
    }
}

/// Everything that a reader of a pipeline needs to go on.
fn details(case: &CaseReport, catalogue: &Catalogue) -> String {
    let mut lines = Vec::new();
    lines.extend(case.reason.clone());
    for row in case
        .rows()
        .iter()
        .filter(|row| row.verdict != Verdict::Pass && row.verdict != Verdict::Skipped)
    {
        let known = catalogue.get(&row.id);
        let cite = known.map(|row| row.cite()).unwrap_or_default();
        lines.push(format!("{} {} ({cite})", row.verdict.word(), row.id));
        lines.extend(known.map(|row| format!("  required: {}", row.statement)));
        if !row.expected.is_empty() {
            lines.push(format!("  expected: {}", row.expected));
        }
        lines.push(format!("  seen: {}", row.finding));
        for number in &row.packets {
            let packet = case
                .evidence
                .packets
                .get(number)
                .map(String::as_str)
                .unwrap_or_default();
            lines.push(format!("  packet #{number} {packet}").trim_end().to_owned());
        }
    }
    lines.extend(case.evidence.problems.iter().cloned());
    if !case.folder.is_empty() {
        lines.push(format!("evidence: {}", case.folder));
    }
    if !case.command.is_empty() {
        lines.push(format!("again: {}", case.command));
    }
    lines.join("\n")
}
