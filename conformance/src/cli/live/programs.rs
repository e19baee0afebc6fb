//! `lisplab shell`, `restart` and `kill`.

use std::process::ExitCode;

use nix::sys::signal::Signal;

use super::Which;
use crate::cli::Exit;
use crate::cli::lab::{ended, find, finish, of_lab, own_programs_too};

#[derive(Debug, clap::Args)]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    which: Which,
    /// The node.
    node: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    which: Which,
    /// The node whose programs are stopped, started, and awaited until they are ready.
    node: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct KillArgs {
    #[command(flatten)]
    which: Which,
    /// The node whose programs get the signal.
    node: String,
    /// A signal by name or number: -9, -KILL, -HUP, -SIGSTOP; TERM if not given.
    #[arg(value_name = "-SIGNAL", allow_hyphen_values = true)]
    signal: Option<String>,
}

/// The user's shell in a node, with this terminal. The exit code is the shell's.
pub(crate) fn shell(args: &ShellArgs) -> ExitCode {
    let shell = std::env::var("SHELL").unwrap_or_default();
    let shell = if std::path::Path::new(&shell).is_file() {
        shell
    } else {
        "/bin/sh".to_owned()
    };
    ended(
        find(args.which.lab.as_deref())
            .and_then(|lab| lab.shell_with(&args.node, &[shell], &own_programs_too())),
    )
}

pub(crate) fn restart(args: &RestartArgs) -> Exit {
    finish(
        find(args.which.lab.as_deref())
            .and_then(|lab| lab.restart(&args.node))
            .map_err(of_lab)
            .map(|()| Exit::Fine),
    )
}

pub(crate) fn kill(args: &KillArgs) -> Exit {
    let signal = match args.signal.as_deref() {
        None => Signal::SIGTERM,
        Some(text) => match signal(text) {
            Some(signal) => signal,
            None => {
                return super::super::complain(
                    format!(
                        "expected a signal like -9, -KILL or -HUP, found `{text}`; `kill -l` in a shell lists them"
                    ),
                    Exit::Input,
                );
            }
        },
    };
    finish(
        find(args.which.lab.as_deref())
            .and_then(|lab| lab.kill(&args.node, signal))
            .map_err(of_lab)
            .map(|()| Exit::Fine),
    )
}

/// `-9`, `9`, `-KILL`, `kill`, `SIGKILL`.
fn signal(text: &str) -> Option<Signal> {
    let word = text.strip_prefix('-').unwrap_or(text).to_uppercase();
    if let Ok(number) = word.parse::<i32>() {
        return Signal::try_from(number).ok();
    }
    let word = word.strip_prefix("SIG").unwrap_or(&word);
    format!("SIG{word}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_kill_writes_them() {
        for text in ["-9", "9", "-KILL", "KILL", "kill", "-SIGKILL"] {
            assert_eq!(signal(text), Some(Signal::SIGKILL), "{text}");
        }
        assert_eq!(signal("-HUP"), Some(Signal::SIGHUP));
        for text in ["", "-", "0", "-99", "KILLL", "SIG"] {
            assert_eq!(signal(text), None, "{text}");
        }
    }
}
