//! `lisplab logs`: what the programs of a node said.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use harness::LabError;
use harness::named::NamedLab;
use serde_json::json;

use super::Which;
use crate::cli::lab::{find, finish, of_lab};
use crate::cli::{Exit, print_bytes, print_line};

/// How often a followed file is looked at.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    which: Which,
    /// The node.
    node: String,
    /// Go on with what comes, also after restarts, until the lab is taken down or this command is interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines of each program's output.
    #[arg(long, short = 'n', value_name = "COUNT")]
    lines: Option<usize>,
    /// For programs: an object for each line; see docs/formats.md.
    #[arg(long)]
    json: bool,
}

pub(crate) fn logs(args: &LogsArgs) -> Exit {
    finish(
        find(args.which.lab.as_deref())
            .and_then(|lab| read(&lab, args))
            .map_err(of_lab),
    )
}

fn read(lab: &NamedLab, args: &LogsArgs) -> Result<Exit, LabError> {
    let mut files: Vec<Followed> = Vec::new();
    let mut first = true;
    loop {
        let found = files_of(lab, &args.node)?;
        let several = found.len() > 1;
        for log in found {
            if files.iter().any(|file| file.log.path == log.path) {
                continue;
            }
            let Ok(file) = File::open(&log.path) else {
                continue;
            };
            let lines = if first { args.lines } else { None };
            let title = format!("==> {} <==\n", log.title());
            let mut followed = Followed {
                log,
                file,
                begun: Vec::new(),
            };
            if several && !args.json && !print_bytes(title.as_bytes()) {
                return Ok(Exit::Fine);
            }
            let text = followed.rest();
            if !followed.show(last_lines(&text, lines), args) {
                return Ok(Exit::Fine);
            }
            files.push(followed);
        }
        first = false;
        let ends = !args.follow || !lab.logs().is_dir();
        for file in &mut files {
            let text = file.rest();
            if !file.show(&text, args) || (ends && !file.end(args)) {
                return Ok(Exit::Fine);
            }
        }
        if ends {
            return Ok(Exit::Fine);
        }
        std::thread::sleep(LOOK);
    }
}

/// The output of one start of a program.
struct LogFile {
    path: PathBuf,
    program: String,
    /// From 1.
    start: u32,
}

impl LogFile {
    fn title(&self) -> String {
        match self.start {
            1 => self.program.clone(),
            start => format!("{}, start {start}", self.program),
        }
    }
}

struct Followed {
    log: LogFile,
    file: File,
    /// A line that has no end yet.
    begun: Vec<u8>,
}

impl Followed {
    /// What was written since the last look.
    fn rest(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        // A file that was cut begins again.
        if let (Ok(metadata), Ok(at)) = (self.file.metadata(), self.file.stream_position())
            && metadata.len() < at
        {
            let _ = self.file.seek(SeekFrom::Start(0));
        }
        let _ = self.file.read_to_end(&mut text);
        text
    }

    /// Prints what was read; false when nobody reads any more.
    fn show(&mut self, text: &[u8], args: &LogsArgs) -> bool {
        if !args.json {
            return print_bytes(text);
        }
        self.begun.extend(text);
        while let Some(end) = self.begun.iter().position(|octet| *octet == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).collect();
            if !self.record(&line[..end], &args.node) {
                return false;
            }
        }
        true
    }

    /// Prints a last line that has no end.
    fn end(&mut self, args: &LogsArgs) -> bool {
        let line = std::mem::take(&mut self.begun);
        line.is_empty() || self.record(&line, &args.node)
    }

    fn record(&self, line: &[u8], node: &str) -> bool {
        let line = String::from_utf8_lossy(line);
        print_line(&json!({
            "node": node, "program": self.log.program, "start": self.log.start, "line": line,
        }))
    }
}

/// The outputs of a node's programs in the order of their starts.
fn files_of(lab: &NamedLab, node: &str) -> Result<Vec<LogFile>, LabError> {
    let status = match lab.status() {
        Ok(status) => status,
        // Taken down meanwhile: nothing new can come.
        Err(_) if !lab.logs().is_dir() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let Some(found) = status.nodes.iter().find(|each| each.name == node) else {
        let names: Vec<&str> = status.nodes.iter().map(|node| node.name.as_str()).collect();
        return Err(usage(format!(
            "there is no node `{node}`; the nodes are {}",
            names.join(", ")
        )));
    };
    if found.services.is_empty() {
        let with: Vec<&str> = status
            .nodes
            .iter()
            .filter(|node| !node.services.is_empty())
            .map(|node| node.name.as_str())
            .collect();
        let hint = if with.is_empty() {
            "no node has one".to_owned()
        } else {
            format!("those that have: {}", with.join(", "))
        };
        return Err(usage(format!("node `{node}` has no program; {hint}")));
    }
    let mut files = Vec::new();
    for service in &found.services {
        for start in 1.. {
            let number = if start == 1 {
                String::new()
            } else {
                format!("-{start}")
            };
            let path = lab
                .logs()
                .join(format!("{node}.{}{number}.log", service.name));
            if !path.is_file() {
                break;
            }
            files.push(LogFile {
                path,
                program: service.name.clone(),
                start,
            });
        }
    }
    Ok(files)
}

fn usage(message: String) -> LabError {
    LabError::Remote {
        message,
        exit_code: 2,
    }
}

fn last_lines(text: &[u8], count: Option<usize>) -> &[u8] {
    let Some(count) = count else {
        return text;
    };
    let ends = text.iter().enumerate().rev().filter(|(at, octet)| {
        // The end of the last line begins no further line.
        **octet == b'\n' && at + 1 != text.len()
    });
    match ends.map(|(at, _)| at).nth(count.saturating_sub(1)) {
        Some(at) if count > 0 => &text[at + 1..],
        _ if count == 0 => &[],
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn the_last_lines_are_whole_lines() {
        let text = b"one\ntwo\nthree\n";
        assert_eq!(last_lines(text, None), text);
        assert_eq!(last_lines(text, Some(2)), b"two\nthree\n");
        assert_eq!(last_lines(text, Some(9)), text);
        assert_eq!(last_lines(text, Some(0)), b"");
        assert_eq!(last_lines(b"one\ntwo", Some(1)), b"two");
    }
}
