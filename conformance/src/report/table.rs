//! The table for terminals: one line per case with the sections it judges, then totals.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::model::{CaseReport, Report, Run, symbol};
use crate::catalogue::Catalogue;
use crate::results::RequirementResult;
use crate::verdict::Verdict;

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal; `None` if it is not one: then lines are not cut.
    pub width: Option<usize>,
    /// Whether to use ANSI colours.
    pub colour: bool,
}

impl Style {
    /// For files and pipes.
    pub const PLAIN: Style = Style {
        width: None,
        colour: false,
    };
}

const VERDICT: usize = 16;
const TIME: usize = 9;
/// Packets of a finding that are shown.
const PACKETS: usize = 6;

/// Writes the table.
pub fn table(report: &Report, catalogue: &Catalogue, style: Style) -> String {
    let mut out = String::new();
    for (index, run) in report.runs.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        run_table(&mut out, run, catalogue, style);
    }
    for conflict in &report.conflicts {
        let verdicts: Vec<&str> = conflict
            .verdicts
            .iter()
            .map(|verdict| verdict.word())
            .collect();
        // Writing into a String cannot fail.
        let _ = writeln!(
            out,
            "conflict: {} of {}: {}; the worst counts",
            conflict.case,
            conflict.run,
            verdicts.join(", ")
        );
    }
    out
}

fn run_table(out: &mut String, run: &Run, catalogue: &Catalogue, style: Style) {
    let sections: Vec<String> = run
        .cases
        .iter()
        .map(|case| cited(case, catalogue))
        .collect();
    let longest = run
        .cases
        .iter()
        .map(|case| count(&case.id))
        .chain([4])
        .max()
        .unwrap_or(4);
    let section_width = sections
        .iter()
        .map(|text| count(text))
        .chain([8])
        .max()
        .unwrap_or(8);
    let (id_width, section_width) = match style.width {
        Some(width) => {
            let room = width.saturating_sub(VERDICT + TIME + 2).max(24);
            let sections = section_width.min(room / 3).max(8);
            (longest.min(room - sections).max(12), sections)
        }
        None => (longest, section_width),
    };
    let _ = writeln!(
        out,
        "{}",
        bold(
            &format!(
                "{}, edition {}",
                plain(&run.implementation),
                plain(&run.edition)
            ),
            style
        )
    );
    for (case, cited) in run.cases.iter().zip(sections) {
        let verdict = format!("{} {}", symbol(case.verdict), case.verdict.word());
        let verdict = if case.expected {
            verdict
        } else {
            format!("{verdict} *")
        };
        let time = format!("{:.2} s", case.duration_ms as f64 / 1000.0);
        let line = format!(
            "{} {} {} {time:>8}",
            painted(&pad(&verdict, VERDICT), case.verdict, style),
            pad(&shortened(&plain(&case.id), id_width), id_width),
            pad(&shortened(&cited, section_width), section_width),
        );
        let _ = writeln!(out, "{}", line.trim_end());
        if case.verdict != Verdict::Pass || !case.expected {
            notes(out, case, catalogue, style);
        }
    }
    let totals: Vec<String> = run
        .tally()
        .into_iter()
        .rev()
        .filter(|(_, number)| *number > 0)
        .map(|(verdict, number)| painted(&format!("{number} {}", verdict.word()), verdict, style))
        .collect();
    let _ = writeln!(
        out,
        "{}: {}",
        match run.cases.len() {
            1 => "1 case".to_owned(),
            number => format!("{number} cases"),
        },
        if totals.is_empty() {
            "none".to_owned()
        } else {
            totals.join(", ")
        }
    );
    let unexpected = run.cases.iter().filter(|case| !case.expected).count();
    if unexpected > 0 {
        let _ = writeln!(out, "* {unexpected} not as expected");
    }
}

/// Findings below a case that did not pass. Paths and commands stay whole, so that they can be copied.
fn notes(out: &mut String, case: &CaseReport, catalogue: &Catalogue, style: Style) {
    let mut say = |depth: usize, text: &str| {
        let room = style
            .width
            .map_or(usize::MAX, |width| width.saturating_sub(depth + 2).max(20));
        let mut indent = depth;
        for line in text.lines().flat_map(|line| wrapped(&plain(line), room)) {
            let _ = writeln!(out, "{:indent$}{line}", "");
            indent = depth + 2;
        }
    };
    if let Some(reason) = &case.reason {
        say(4, reason);
    }
    if let Some(because) = &case.expected_because {
        let listed = case.result.expected;
        if case.expected {
            say(4, &format!("expected by the baseline: {because}"));
        } else {
            say(
                4,
                &format!("the baseline expects {listed} and is stale: {because}"),
            );
        }
    }
    // What could not be judged because the case stopped is named once; why is the reason above.
    let unseen = |row: &RequirementResult| {
        row.verdict == Verdict::Untestable && row.packets.is_empty() && case.reason.is_some()
    };
    let named: Vec<&str> = case
        .requirements
        .iter()
        .filter(|row| unseen(row))
        .map(|row| &*row.id)
        .collect();
    if !named.is_empty() {
        say(4, &format!("not judged: {}", named.join(", ")));
    }
    for row in &case.requirements {
        if row.verdict == Verdict::Pass || row.verdict == Verdict::Skipped || unseen(row) {
            continue;
        }
        let known = catalogue.get(&row.id);
        let cite = known.map(|row| format!(" ({}, {})", row.cite(), row.level));
        let cite = cite.unwrap_or_default();
        say(4, &format!("{} {}{cite}", row.verdict.word(), row.id));
        if let Some(known) = known {
            say(6, &format!("requires: {}", known.statement));
        }
        if !row.expected.is_empty() {
            say(6, &format!("expected: {}", row.expected));
        }
        say(6, &format!("seen:     {}", row.finding));
        for number in row.packets.iter().take(PACKETS) {
            let packet = case.evidence.packets.get(number);
            let what = packet.map(String::as_str).unwrap_or_default();
            say(6, format!("packet #{number} {what}").trim_end());
        }
        if row.packets.len() > PACKETS {
            say(
                6,
                &format!("and {} packets more", row.packets.len() - PACKETS),
            );
        }
    }
    if case.verdict == Verdict::Skipped {
        return;
    }
    // It lies beside the evidence.
    let bundle = case.bundle.as_ref();
    let evidence = case.path.display().to_string();
    let bundle = bundle.map_or_else(String::new, |_| {
        format!("{evidence}{}", crate::bundle::ENDING)
    });
    for (name, value) in [
        ("evidence", &evidence),
        ("bundle", &bundle),
        ("again", &case.command),
    ] {
        if !value.is_empty() {
            let _ = writeln!(out, "    {name}: {}", plain(value));
        }
    }
}

/// Breaks at spaces; a word that is longer than a line stays whole.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && count(line) + 1 + count(word) > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// The sections that a case judges, in the order of the documents: `RFC 6830 5.3, 6.1.5`. What invariants judge on every
/// trace counts only where it is not met.
pub(super) fn cited(case: &CaseReport, catalogue: &Catalogue) -> String {
    let sections: BTreeSet<(String, Vec<u64>, String)> = case
        .requirements
        .iter()
        .filter(|row| !row.invariant || row.verdict > Verdict::Pass)
        .filter_map(|row| catalogue.get(&row.id))
        .map(|row| {
            let numbers = row
                .section
                .split('.')
                .map(|part| part.parse().unwrap_or(u64::MAX))
                .collect();
            (row.rfc.to_string(), numbers, row.section.clone())
        })
        .collect();
    let mut text = String::new();
    let mut before = None;
    for (document, _, section) in &sections {
        if !text.is_empty() {
            text.push_str(", ");
        }
        if before != Some(document) {
            text.push_str(document);
            text.push(' ');
            before = Some(document);
        }
        text.push_str(section);
    }
    text
}

fn count(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, width: usize) -> String {
    format!("{text:<width$}")
}

fn shortened(text: &str, width: usize) -> String {
    if count(text) <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Control characters of a hostile program do not reach the terminal; lines stay lines.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn painted(text: &str, verdict: Verdict, style: Style) -> String {
    let colour = match verdict {
        Verdict::Pass => "32",
        Verdict::Fail | Verdict::Untestable => "1;31",
        Verdict::Warn | Verdict::Inconclusive => "33",
        Verdict::Skipped => "2",
    };
    if style.colour {
        format!("\u{1b}[{colour}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

fn bold(text: &str, style: Style) -> String {
    if style.colour {
        format!("\u{1b}[1m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}
