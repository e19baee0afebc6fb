//! Reading a run: `results.json` and the evidence folders that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::model::{Capture, CaseReport, Evidence, Header, Log, Run};
use crate::draw::ladder::seconds;
use crate::draw::{Graph, Ladder, Row};
use crate::kill::{Kill, MATRIX_FORMAT, Matrix};
use crate::results::{CaseResult, ReadError, Results};
use crate::text::shell_word;
use crate::trace::Trace;
use crate::verdict::Verdict;

/// Captures up to this size travel inside the report; bigger ones are linked.
const CAPTURE_LIMIT: u64 = 192 * 1024;
/// How much of a log is shown: its end.
const LOG_LIMIT: u64 = 48 * 1024;
/// What is shown in another way than as text.
const RECORDS: [&str; 6] = [
    "capture.pcapng",
    "command.txt",
    "ladder.svg",
    "result.json",
    "topology.yaml",
    "trace.json",
];
/// Reads the runs in a folder: those of `results.json` and `results.d`, and the kill matrix. Links to evidence are written
/// relative to `base`, the folder of the report.
///
/// # Errors
/// The results file that is missing or not what was expected. Evidence that cannot be read is no error: the report says
/// which.
pub fn load(folder: &Path, base: &Path) -> Result<Vec<Run>, ReadError> {
    let root = if folder.is_dir() {
        folder
    } else {
        folder.parent().unwrap_or(Path::new("."))
    };
    let mut runs: Vec<Run> = Results::read(folder)?
        .into_iter()
        .map(|results| run(results, root, base, Wanted::Everything))
        .collect();
    if let Some(first) = runs.first_mut() {
        first.kills = kills(&root.join("sabotage.json"))?;
    }
    Ok(runs)
}

/// Which evidence a report shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// That of every case.
    Everything,
    /// For a table: that of cases which are no pass.
    OfOpenCases,
}

/// The run that results in the folder `root` tell of; links are written relative to `base`.
pub fn run(results: Results, root: &Path, base: &Path, wanted: Wanted) -> Run {
    let header = header(&results);
    let genuine = results
        .cases
        .into_iter()
        .filter(|result| result.sabotage.is_none());
    let mut cases: Vec<CaseReport> = genuine
        .map(|result| case(result, &results.implementation, root, base, wanted))
        .collect();
    cases.sort_by(|a, b| a.id.cmp(&b.id));
    Run {
        implementation: results.implementation,
        edition: results.edition.to_string(),
        header,
        cases,
        kills: Vec::new(),
    }
}

/// The outcomes of sabotages, where `lisplab sabotage` wrote the folder.
fn kills(file: &Path) -> Result<Vec<Kill>, ReadError> {
    let wrong = |problem: String| ReadError {
        file: file.display().to_string(),
        problem,
    };
    if !file.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let matrix: Matrix = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("not a kill matrix: {error}")))?;
    if matrix.format != MATRIX_FORMAT {
        return Err(wrong(format!(
            "expected format {MATRIX_FORMAT}, found {}",
            matrix.format
        )));
    }
    Ok(matrix.sabotages)
}

fn header(results: &Results) -> Header {
    let mut header = Header::default();
    let mut line = |name: &str, value: String| {
        header
            .lines
            .entry(name.to_owned())
            .or_default()
            .insert(value)
    };
    if let Some(version) = &results.version {
        line("version", version.clone());
    }
    if let Some(kernel) = &results.kernel {
        line("kernel", kernel.clone());
    }
    line("seed", results.seed.to_string());
    if results.strict {
        line("strict", "a broken SHOULD fails".to_owned());
    }
    if results.started > 0 {
        line("started", utc(results.started));
    }
    if results.interrupted {
        line(
            "interrupted",
            "only what was judged before is here".to_owned(),
        );
    }
    header
}

fn case(
    result: CaseResult,
    implementation: &str,
    root: &Path,
    base: &Path,
    wanted: Wanted,
) -> CaseReport {
    let mut evidence = Evidence::default();
    let mut folder = String::new();
    let mut shown = PathBuf::new();
    let mut command = format!(
        "lisplab test --implementation {} --case {}",
        shell_word(implementation),
        shell_word(&result.id)
    );
    if let Some(name) = result.evidence.as_deref().filter(|name| !name.is_empty()) {
        match inside(root, name) {
            Some(path) => {
                folder = link(&path, base);
                shown = for_a_shell(&path);
                if wanted == Wanted::Everything || result.verdict > Verdict::Pass {
                    evidence = read_evidence(&result, &path, base);
                }
                if let Ok((text, 0)) = tail(&path.join("command.txt")) {
                    command = text.trim().to_owned();
                }
            }
            None => evidence.problems.push(format!(
                "evidence `{name}` is not a folder inside the run: not read"
            )),
        }
    }
    CaseReport {
        expected: result.is_expected(),
        result,
        command,
        folder,
        path: shown,
        evidence,
    }
}

/// A path as somebody would type it here: short where it is below the working directory, absolute elsewhere.
fn for_a_shell(path: &Path) -> PathBuf {
    let path = absolute(path);
    let here = std::env::current_dir().ok();
    let below = here.and_then(|here| Some(path.strip_prefix(absolute(&here)).ok()?.to_owned()));
    below.unwrap_or(path)
}

/// A path below `root`. A results file from elsewhere must not make the report show other files of this machine.
fn inside(root: &Path, name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let relative = path.strip_prefix(root).unwrap_or(path);
    let plain = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let path = root.join(relative);
    (plain
        && path
            .canonicalize()
            .ok()?
            .starts_with(root.canonicalize().ok()?))
    .then_some(path)
}

fn read_evidence(result: &CaseResult, folder: &Path, base: &Path) -> Evidence {
    let mut evidence = Evidence::default();
    texts(folder, &mut evidence);
    let capture = folder.join("capture.pcapng");
    if let Ok(metadata) = std::fs::metadata(&capture) {
        let bytes = if metadata.len() <= CAPTURE_LIMIT {
            std::fs::read(&capture).ok()
        } else {
            None
        };
        evidence.capture = Some(Capture {
            link: link(&capture, base),
            size: metadata.len(),
            bytes,
        });
    }
    match Trace::read(folder) {
        Ok((trace, _)) => picture(&trace, result, &mut evidence),
        Err(error) => evidence.problems.push(error.to_string()),
    }
    evidence
}

/// What the trace shows: the network, the packets as a ladder, and in one line each those that findings name.
fn picture(trace: &Trace, result: &CaseResult, evidence: &mut Evidence) {
    evidence.network = trace
        .topology
        .as_ref()
        .map(|topology| Graph::of(topology, &BTreeMap::new()));
    let ladder = Ladder::of_case(trace, result);
    let start = ladder.start_ns();
    let named: BTreeSet<usize> = result
        .requirements
        .iter()
        .flat_map(|row| row.packets.iter().copied())
        .collect();
    for packet in trace
        .iter()
        .filter(|packet| named.contains(&packet.number()))
    {
        let way = match (packet.sender(), packet.receiver()) {
            (Some(from), Some(to)) => format!("{from} → {to}"),
            _ => packet.link().to_owned(),
        };
        let time = seconds(packet.time_ns().saturating_sub(start));
        evidence.packets.insert(
            packet.number(),
            format!("{time} s, {way}: {}", packet.summary()),
        );
    }
    if ladder.rows.iter().any(|row| matches!(row, Row::Packet(_))) {
        evidence.ladder = Some(ladder);
    }
}

/// Logs, and the configurations that were rendered for the programs.
fn texts(folder: &Path, evidence: &mut Evidence) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    for file in files {
        let name = file
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if RECORDS.contains(&name.as_str()) {
            continue;
        }
        match tail(&file) {
            Ok((text, left_out)) => {
                let log = Log {
                    name,
                    text,
                    left_out,
                };
                if log.name.ends_with(".log") {
                    evidence.logs.push(log)
                } else {
                    evidence.configurations.push(log)
                }
            }
            Err(error) => evidence
                .problems
                .push(format!("{name} cannot be read: {error}")),
        }
    }
}

fn tail(file: &Path) -> std::io::Result<(String, u64)> {
    let mut handle = std::fs::File::open(file)?;
    let left_out = handle.metadata()?.len().saturating_sub(LOG_LIMIT);
    handle.seek(SeekFrom::Start(left_out))?;
    let mut bytes = Vec::new();
    handle.take(LOG_LIMIT).read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), left_out))
}

/// `path` as seen from `base`, with forward slashes and escaped for a URL.
fn link(path: &Path, base: &Path) -> String {
    let (path, base) = (absolute(path), absolute(base));
    let shared = path
        .components()
        .zip(base.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = base.components().count() - shared;
    let parts = std::iter::repeat_n("..".to_owned(), up).chain(
        path.components()
            .skip(shared)
            .map(|part| url_part(&part.as_os_str().to_string_lossy())),
    );
    parts.collect::<Vec<_>>().join("/")
}

fn absolute(path: &Path) -> PathBuf {
    path.canonicalize()
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_owned())
}

fn url_part(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(byte as char)
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Seconds since 1970 as `2026-11-20 20:41:05 UTC`.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of year 0, in eras of 400 years, each year beginning in March: leap days come last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_206_065), "2026-11-20 20:21:05 UTC");
    }

    #[test]
    fn links_lead_from_the_report_to_the_evidence() {
        assert_eq!(
            link(
                Path::new("/no/such/out/a b/x"),
                Path::new("/no/such/report")
            ),
            "../out/a%20b/x"
        );
        assert_eq!(
            link(Path::new("/no/such/out/x"), Path::new("/no/such/out")),
            "x"
        );
    }
}
