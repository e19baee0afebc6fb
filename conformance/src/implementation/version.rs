//! Asking a program for its version.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::adapter::Adapter;
use super::binary::Found;

/// A program that does not say its version by then is killed.
const PATIENCE: Duration = Duration::from_secs(5);
/// More is not read.
const LONGEST: u64 = 4096;

/// The first line that the adapter's version command prints; `None` if it has none, or the program says nothing.
pub(super) fn of(adapter: &Adapter) -> Option<String> {
    let [program, arguments @ ..] = adapter.version.as_slice() else {
        return None;
    };
    let path = Found::named(program).ok()?.path;
    let mut child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let output = child.stdout.take()?;
    let (said, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut octets = Vec::new();
        let _ = output.take(LONGEST).read_to_end(&mut octets);
        let _ = said.send(octets);
    });
    let octets = told.recv_timeout(PATIENCE);
    // It has said what is wanted, or never will; one that has ended is not hurt.
    let _ = child.kill();
    let _ = child.wait();
    let text = String::from_utf8_lossy(&octets.ok()?).into_owned();
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}
