//! Whether a program is ready, as its adapter says, and what it has logged.

use std::path::Path;
use std::time::{Duration, Instant};

use harness::Lab;
use harness::process::ProcessHandle;

use crate::implementation::Program;

/// Lines of a program's log that an error shows.
const LOG_LINES: usize = 12;
/// Octets of a log file that are kept: its end.
const LOG_FILE_LIMIT: usize = 4 << 20;
/// Between two looks at what nobody tells of: sockets and log files.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits until a program is ready, at most as long as its adapter says. `since_ns` is when it was started.
///
/// # Errors
/// What it lacked.
pub(super) fn wait(
    lab: &Lab,
    node: &str,
    program: &Program,
    running: &ProcessHandle,
    since_ns: u64,
) -> Result<(), String> {
    let ready = &program.ready;
    let deadline = Instant::now() + ready.within.0;
    let left = || deadline.saturating_duration_since(Instant::now());
    if let Some(text) = &ready.log {
        match &program.log_file {
            None => running.wait_log(text, left()).map(drop).map_err(|_| ()),
            Some(file) => until(deadline, running, || {
                running.log().contains(text.as_str())
                    || log_file(lab, node, file).is_some_and(|log| log.contains(text.as_str()))
            }),
        }
        .map_err(|()| format!("no line with {text:?} within {:?}", ready.within.0))?;
    }
    if let Some(port) = ready.port {
        until(deadline, running, || has_port(lab, node, port)).map_err(|()| {
            format!(
                "no socket on UDP or TCP port {port} within {:?}",
                ready.within.0
            )
        })?;
    }
    if ready.packet {
        lab.wait_for("a control message", left(), |packet| {
            packet.time_ns >= since_ns
                && packet.from_node() == Some(node)
                && crate::trace::Seen::from(packet.clone()).control().is_some()
        })
        .map_err(|_| format!("no control message within {:?}", ready.within.0))?;
    }
    Ok(())
}

/// Looks again and again, until the deadline or the end of the program.
fn until(
    deadline: Instant,
    running: &ProcessHandle,
    mut holds: impl FnMut() -> bool,
) -> Result<(), ()> {
    loop {
        // Asked before the look: what was done last is seen.
        let over = Instant::now() >= deadline || running.exit().is_some();
        if holds() {
            return Ok(());
        }
        if over {
            return Err(());
        }
        std::thread::sleep(LOOK_AGAIN.min(deadline.saturating_duration_since(Instant::now())));
    }
}

/// Whether a socket of the node is bound to a UDP port or listens on a TCP port.
fn has_port(lab: &Lab, node: &str, port: u16) -> bool {
    let tables = lab.run_in(node, || {
        ["udp", "udp6", "tcp", "tcp6"]
            .map(|name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")))
    });
    tables.is_ok_and(|tables| {
        tables
            .iter()
            .flatten()
            .any(|table| table_has_port(table, port))
    })
}

/// Looks into a table of sockets (proc_pid_net(5)): the second field is `ADDRESS:PORT` in hex, the fourth the state.
fn table_has_port(table: &str, port: u16) -> bool {
    const UNCONNECTED: &str = "07"; // UDP: bound and not connected
    const LISTENING: &str = "0A"; // TCP
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().and_then(|local| local.rsplit_once(':'));
        let state = fields.nth(1);
        local.is_some_and(|(_, text)| u16::from_str_radix(text, 16) == Ok(port))
            && matches!(state, Some(UNCONNECTED | LISTENING))
    })
}

/// The end of a log file of the node; `None` if there is none.
pub(super) fn log_file(lab: &Lab, node: &str, file: &Path) -> Option<String> {
    let octets = lab
        .run_in_view(node, || {
            use std::io::{Read as _, Seek as _, SeekFrom};
            use std::os::unix::fs::OpenOptionsExt as _;
            // A named pipe in its place must not hold us up.
            let mut handle = std::fs::File::options()
                .read(true)
                .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
                .open(file)?;
            let length = handle.metadata()?.len();
            handle.seek(SeekFrom::Start(
                length.saturating_sub(LOG_FILE_LIMIT as u64),
            ))?;
            let mut octets = Vec::new();
            handle
                .take(LOG_FILE_LIMIT as u64)
                .read_to_end(&mut octets)?;
            Ok::<_, std::io::Error>(octets)
        })
        .ok()?
        .ok()?;
    Some(String::from_utf8_lossy(&octets).into_owned())
}

/// The last lines that a program left: of its output, and of its log file where it has one.
pub(super) fn last_lines(
    lab: &Lab,
    node: &str,
    program: &Program,
    running: &ProcessHandle,
) -> String {
    let output = running.log_tail(LOG_LINES);
    let mut text = if output.trim().is_empty() {
        "(it has printed nothing)".to_owned()
    } else {
        output.trim_end().to_owned()
    };
    if let Some(file) = &program.log_file {
        match log_file(lab, node, file) {
            Some(log) => {
                let lines: Vec<&str> = log.lines().collect();
                let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
                text.push_str(&format!("\n{}:\n{}", file.display(), tail.join("\n")));
            }
            None => text.push_str(&format!("\n(there is no {})", file.display())),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_and_listening_sockets_are_found() {
        let udp = "  sl  local_address rem_address   st tx_queue\n  \
                   28: 00000000:10F6 00000000:0000 07 00000000:00000000 00:00000000\n";
        assert!(table_has_port(udp, 4342) && !table_has_port(udp, 4341));
        let tcp6 = "  sl  local_address\n   \
                    0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 0\n   \
                    1: 00000000000000000000000000000000:0017 00000000000000000000000000000000:0000 01 0\n";
        assert!(table_has_port(tcp6, 22) && !table_has_port(tcp6, 23));
        for rubbish in ["", "x", "h\n", "h\n 1:\n", "h\n 1: ::: 2 3 4\n"] {
            assert!(!table_has_port(rubbish, 1));
        }
    }
}
