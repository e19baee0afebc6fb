//! One block per case: findings, ladder diagram, network, logs, files, and how to repeat it.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use super::{Chip, slug};
use crate::catalogue::Catalogue;
use crate::report::model::{Capture, CaseReport, Log, Report};
use crate::report::table::cited;
use crate::results::RequirementResult;
use crate::verdict::Verdict;

/// Captures of all cases together that travel in the page, in octets; later ones are linked.
const CARRIED: usize = 12 * 1024 * 1024;
/// Rows of a ladder diagram in the page.
const LADDER_ROWS: usize = 90;

/// The `id` attribute of every case of every run.
pub(super) struct Anchors(Vec<Vec<String>>);

impl Anchors {
    pub(super) fn of(&self, run: usize, case: usize) -> String {
        self.0
            .get(run)
            .and_then(|cases| cases.get(case))
            .cloned()
            .unwrap_or_default()
    }
}

pub(super) fn anchors(report: &Report) -> Anchors {
    let mut taken = BTreeSet::new();
    let runs = report.runs.iter().map(|run| {
        let cases = run.cases.iter().map(|case| {
            let wished = format!("case-{}-{}", slug(&run.title()), slug(&case.id));
            let mut anchor = wished.clone();
            let mut number = 2;
            while !taken.insert(anchor.clone()) {
                anchor = format!("{wished}-{number}");
                number += 1;
            }
            anchor
        });
        cases.collect()
    });
    Anchors(runs.collect())
}

#[derive(Serialize)]
pub(super) struct RunCases {
    title: String,
    cases: Vec<CaseView>,
}

#[derive(Serialize)]
struct CaseView {
    anchor: String,
    id: String,
    chip: Chip,
    expected: bool,
    title: String,
    because: String,
    reason: String,
    cited: String,
    duration: String,
    command: String,
    folder: String,
    /// For the filters.
    documents: String,
    roles: String,
    levels: String,
    verdicts: String,
    findings: Vec<FindingView>,
    /// What invariants found to be met: folded away.
    held: Vec<FindingView>,
    ladder: String,
    ladder_shortened: bool,
    network: String,
    logs: Vec<LogView>,
    configurations: Vec<LogView>,
    capture: Option<CaptureView>,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct FindingView {
    chip: Chip,
    id: String,
    anchor: String,
    cite: String,
    level: String,
    statement: String,
    finding: String,
    expected: String,
    invariant: bool,
    packets: Vec<PacketView>,
}

#[derive(Serialize)]
struct PacketView {
    number: usize,
    line: String,
}

#[derive(Serialize)]
struct LogView {
    name: String,
    text: String,
    left_out: u64,
}

#[derive(Serialize)]
struct CaptureView {
    /// `data:` where the capture travels in the page.
    href: String,
    file: String,
    size: String,
    carried: bool,
}

pub(super) fn cases(report: &Report, catalogue: &Catalogue, anchors: &Anchors) -> Vec<RunCases> {
    let mut carried = 0;
    let runs = report
        .runs
        .iter()
        .enumerate()
        .map(|(run, results)| RunCases {
            title: results.title(),
            cases: results
                .cases
                .iter()
                .enumerate()
                .map(|(index, case)| {
                    case_view(case, catalogue, anchors.of(run, index), &mut carried)
                })
                .collect(),
        });
    runs.collect()
}

fn case_view(
    case: &CaseReport,
    catalogue: &Catalogue,
    anchor: String,
    carried: &mut usize,
) -> CaseView {
    let known: Vec<_> = case
        .requirements
        .iter()
        .filter_map(|row| catalogue.get(&row.id))
        .collect();
    let words = |words: BTreeSet<String>| words.into_iter().collect::<Vec<_>>().join(" ");
    let ladder = case.evidence.ladder.as_ref();
    let shorter = ladder.map(|ladder| ladder.condensed(LADDER_ROWS));
    let mut verdicts: BTreeSet<String> = case
        .requirements
        .iter()
        .map(|row| row.verdict.to_string())
        .collect();
    verdicts.insert(case.verdict.to_string());
    CaseView {
        anchor,
        id: case.id.clone(),
        chip: case.verdict.into(),
        expected: case.expected,
        title: case.title.clone(),
        because: case.expected_because.clone().unwrap_or_default(),
        reason: case.reason.clone().unwrap_or_default(),
        cited: cited(case, catalogue),
        duration: format!("{:.2} s", case.duration_ms as f64 / 1000.0),
        command: case.command.clone(),
        folder: case.folder.clone(),
        documents: known
            .iter()
            .map(|row| row.rfc.to_string())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join("|"),
        roles: words(known.iter().flat_map(|row| row.role.clone()).collect()),
        levels: words(known.iter().map(|row| row.level.to_string()).collect()),
        verdicts: words(verdicts),
        findings: findings(case, catalogue, false),
        held: findings(case, catalogue, true),
        ladder_shortened: match (ladder, &shorter) {
            (Some(whole), Some(shorter)) => shorter.rows.len() < whole.rows.len(),
            _ => false,
        },
        ladder: shorter
            .map(|ladder| ladder.svg_for_page())
            .unwrap_or_default(),
        network: case
            .evidence
            .network
            .as_ref()
            .map(|network| network.svg_for_page())
            .unwrap_or_default(),
        logs: log_views(&case.evidence.logs),
        configurations: log_views(&case.evidence.configurations),
        capture: case
            .evidence
            .capture
            .as_ref()
            .map(|capture| capture_view(capture, &case.id, carried)),
        problems: case.evidence.problems.clone(),
    }
}

fn log_views(logs: &[Log]) -> Vec<LogView> {
    logs.iter()
        .map(|log| LogView {
            name: log.name.clone(),
            text: log.text.clone(),
            left_out: log.left_out,
        })
        .collect()
}

/// The findings that are folded away, or the others.
fn findings(case: &CaseReport, catalogue: &Catalogue, held: bool) -> Vec<FindingView> {
    let rows = case.rows().into_iter();
    rows.filter(|row| (row.invariant && row.verdict <= Verdict::Pass) == held)
        .map(|row| finding(&row, case, catalogue))
        .collect()
}

fn finding(row: &RequirementResult, case: &CaseReport, catalogue: &Catalogue) -> FindingView {
    let known = catalogue.get(&row.id);
    let packets = row.packets.iter().take(12).map(|number| PacketView {
        number: *number,
        line: case
            .evidence
            .packets
            .get(number)
            .cloned()
            .unwrap_or_default(),
    });
    FindingView {
        chip: row.verdict.into(),
        id: row.id.clone(),
        anchor: format!("req-{}", slug(&row.id)),
        cite: known
            .map(|row| row.cite())
            .unwrap_or_else(|| "not in the catalogue".to_owned()),
        level: known.map(|row| row.level.to_string()).unwrap_or_default(),
        statement: known.map(|row| row.statement.clone()).unwrap_or_default(),
        finding: row.finding.clone(),
        expected: row.expected.clone(),
        invariant: row.invariant,
        packets: packets.collect(),
    }
}

fn capture_view(capture: &Capture, case: &str, carried: &mut usize) -> CaptureView {
    let bytes = capture
        .bytes
        .as_deref()
        .filter(|bytes| *carried + bytes.len() <= CARRIED);
    *carried += bytes.map_or(0, <[u8]>::len);
    CaptureView {
        href: match bytes {
            Some(bytes) => format!(
                "data:application/vnd.tcpdump.pcap;base64,{}",
                BASE64.encode(bytes)
            ),
            None => capture.link.clone(),
        },
        file: format!("{}.pcapng", slug(case)),
        size: match capture.size {
            0..10_000 => format!("{} octets", capture.size),
            10_000..10_000_000 => format!("{} kB", capture.size / 1000),
            _ => format!("{} MB", capture.size / 1_000_000),
        },
        carried: bytes.is_some(),
    }
}
