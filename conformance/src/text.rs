//! Failures in words.

use std::fmt::Write as _;
use std::path::Path;

use crate::catalogue::catalogue;
use crate::results::{CaseResult, ExpectationResult, RequirementResult};
use crate::verdict::Verdict;

/// A case that is no pass, with everything that one needs to look into it.
pub fn failure(case: &CaseResult, out: &Path) -> String {
    let mut text = format!("{}: {}\n  {}\n", case.verdict, case.id, case.title);
    if let Some(reason) = &case.reason {
        let _ = writeln!(text, "  {}", reason.replace('\n', "\n    "));
    }
    for found in case
        .requirements
        .iter()
        .filter(|found| found.verdict > Verdict::Pass)
    {
        text.push_str(&requirement(found));
    }
    for found in case
        .expectations
        .iter()
        .filter(|found| found.verdict > Verdict::Pass)
    {
        text.push_str(&expectation(found));
    }
    if let Some(evidence) = &case.evidence {
        let _ = writeln!(text, "  evidence: {}", out.join(evidence).display());
    }
    if let Some(bundle) = &case.bundle {
        let _ = writeln!(text, "  bundle:   {}", out.join(bundle).display());
    }
    // How a scenario is repeated, its evidence says: that takes its file.
    if !case.id.starts_with("scenario::") {
        let _ = writeln!(
            text,
            "  repeat:   cargo run --bin lisplab -- test --case '{}'\n",
            case.id
        );
    }
    text
}

/// One expectation of a scenario.
pub fn expectation(found: &ExpectationResult) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "  {} {} (line {})",
        found.verdict, found.name, found.line
    );
    if !found.expected.is_empty() {
        let _ = writeln!(text, "    expected: {}", found.expected);
    }
    let _ = writeln!(
        text,
        "    seen:     {}",
        found.finding.replace('\n', "\n              ")
    );
    if !found.packets.is_empty() {
        let numbers: Vec<String> = found.packets.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "    packets:  {}", numbers.join(", "));
    }
    if !found.requirements.is_empty() {
        let _ = writeln!(text, "    cites:    {}", found.requirements.join(", "));
    }
    text
}

/// What a panic said.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a word")
}

/// One requirement of a failure.
pub fn requirement(found: &RequirementResult) -> String {
    let mut text = String::new();
    let row = catalogue().get(&found.id);
    let cite = row.map_or_else(String::new, |row| {
        format!(" ({}, {})", row.cite(), row.level)
    });
    let _ = writeln!(text, "  {} {}{cite}", found.verdict, found.id);
    if let Some(row) = row {
        let _ = writeln!(text, "    requires: {}", row.statement);
    }
    if !found.expected.is_empty() {
        let _ = writeln!(text, "    expected: {}", found.expected);
    }
    let _ = writeln!(text, "    seen:     {}", found.finding);
    if !found.packets.is_empty() {
        let numbers: Vec<String> = found.packets.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "    packets:  {}", numbers.join(", "));
    }
    text
}

/// Quoted for a shell where it needs to be: a command of a report is made to be pasted.
pub(crate) fn shell_word(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(harmless) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_safe_to_paste() {
        assert_eq!(shell_word("rfc6830::s5_3::ttl"), "rfc6830::s5_3::ttl");
        assert_eq!(shell_word("$(reboot)"), "'$(reboot)'");
        assert_eq!(shell_word("it's"), "'it'\\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
