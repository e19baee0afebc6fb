//! The report as one HTML file that needs nothing else: no network, no other file, and for reading no script.

mod cases;
mod figures;
mod matrix;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use minijinja::Value;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::model::{Report, Run, symbol};
use crate::catalogue::Catalogue;
use crate::draw::template;
use crate::verdict::Verdict;

const STYLE: &str = include_str!("../templates/report.css");
const SCRIPT: &str = include_str!("../templates/report.js");

/// A verdict as a page shows it: class, symbol and word.
#[derive(Debug, Clone, Serialize)]
struct Chip {
    class: &'static str,
    symbol: char,
    word: &'static str,
}

impl From<Verdict> for Chip {
    fn from(verdict: Verdict) -> Chip {
        Chip {
            class: verdict.word(),
            symbol: symbol(verdict),
            word: verdict.word(),
        }
    }
}

#[derive(Serialize)]
struct Page {
    script_hash: String,
    date: String,
    runs: Vec<RunView>,
    conflicts: Vec<String>,
    unexpected: usize,
    cases_total: usize,
    verdicts: Vec<Chip>,
    matrix: matrix::Matrix,
    coverage: Vec<figures::CoverageTable>,
    kills: figures::Kills,
    cases: Vec<cases::RunCases>,
}

#[derive(Serialize)]
struct RunView {
    title: String,
    implementation: String,
    edition: String,
    lines: Vec<(String, String)>,
    total: usize,
    unexpected: usize,
    bar: Vec<Share>,
}

#[derive(Serialize)]
struct Share {
    chip: Chip,
    count: usize,
    /// Start and width in a bar that is 1000 wide.
    x: usize,
    width: usize,
}

/// Writes the page.
pub fn html(report: &Report, catalogue: &Catalogue) -> String {
    let mut environment = template::environment();
    for (name, source) in [
        ("report.html", include_str!("../templates/report.html")),
        ("matrix.html", include_str!("../templates/matrix.html")),
        ("figures.html", include_str!("../templates/figures.html")),
        ("cases.html", include_str!("../templates/cases.html")),
    ] {
        environment
            .add_template(name, source)
            .expect("the templates of the report are part of the program and compile");
    }
    environment.add_global("style", Value::from_safe_string(STYLE.to_owned()));
    environment.add_global("script", Value::from_safe_string(SCRIPT.to_owned()));
    let anchors = cases::anchors(report);
    let page = Page {
        script_hash: BASE64.encode(Sha256::digest(SCRIPT.as_bytes())),
        date: report.date.clone(),
        runs: report.runs.iter().map(run_view).collect(),
        conflicts: report.conflicts.iter().map(conflict).collect(),
        unexpected: report.unexpected(),
        cases_total: report.runs.iter().map(|run| run.cases.len()).sum(),
        verdicts: Verdict::ALL.into_iter().rev().map(Chip::from).collect(),
        matrix: matrix::matrix(report, catalogue, &anchors),
        coverage: figures::coverage(report),
        kills: figures::kills(report),
        cases: cases::cases(report, catalogue, &anchors),
    };
    template::render(&environment, "report.html", &page)
}

fn run_view(run: &Run) -> RunView {
    let total = run.cases.len();
    let mut bar = Vec::new();
    let mut done = 0;
    for (verdict, count) in run
        .tally()
        .into_iter()
        .rev()
        .filter(|(_, count)| *count > 0)
    {
        let x = done * 1000 / total.max(1);
        done += count;
        bar.push(Share {
            chip: verdict.into(),
            count,
            x,
            width: done * 1000 / total.max(1) - x,
        });
    }
    let lines = run.header.lines.iter().map(|(name, values)| {
        (
            name.clone(),
            values.iter().cloned().collect::<Vec<_>>().join(", "),
        )
    });
    RunView {
        title: run.title(),
        implementation: run.implementation.clone(),
        edition: run.edition.clone(),
        lines: lines.collect(),
        total,
        unexpected: run.cases.iter().filter(|case| !case.expected).count(),
        bar,
    }
}

fn conflict(conflict: &super::model::Conflict) -> String {
    let verdicts: Vec<&str> = conflict
        .verdicts
        .iter()
        .map(|verdict| verdict.word())
        .collect();
    format!(
        "{} of {}: {}",
        conflict.case,
        conflict.run,
        verdicts.join(" and ")
    )
}

/// A name that may stand in an `id` attribute and in a link to it.
fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == '_' || c == '.' {
            out.push(c);
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    out
}
