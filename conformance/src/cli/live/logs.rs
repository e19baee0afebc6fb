//! `lisplab logs`: what the programs of a node said.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use harness::LabError;
use harness::named::NamedLab;

use super::Which;
use crate::cli::lab::{find, finish, of_lab};
use crate::cli::{Exit, print_bytes};

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
        for (title, path) in found {
            if files.iter().any(|file| file.path == path) {
                continue;
            }
            let Ok(file) = File::open(&path) else {
                continue;
            };
            let lines = if first { args.lines } else { None };
            let mut followed = Followed { path, file };
            if several && !print_bytes(format!("==> {title} <==\n").as_bytes()) {
                return Ok(Exit::Fine);
            }
            let text = followed.rest();
            if !print_bytes(last_lines(&text, lines)) {
                return Ok(Exit::Fine);
            }
            files.push(followed);
        }
        first = false;
        if !args.follow {
            return Ok(Exit::Fine);
        }
        for file in &mut files {
            if !print_bytes(&file.rest()) {
                return Ok(Exit::Fine);
            }
        }
        if !lab.logs().is_dir() {
            return Ok(Exit::Fine);
        }
        std::thread::sleep(LOOK);
    }
}

struct Followed {
    path: PathBuf,
    file: File,
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
}

/// The outputs of a node's programs, with a title each, in the order of their starts.
fn files_of(lab: &NamedLab, node: &str) -> Result<Vec<(String, PathBuf)>, LabError> {
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
            let title = if start == 1 {
                service.name.clone()
            } else {
                format!("{}, start {start}", service.name)
            };
            files.push((title, path));
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
