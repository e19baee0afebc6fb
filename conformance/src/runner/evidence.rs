//! What a case leaves: a folder with everything that its verdict was made from.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use harness::capture::{Interface, Packet};
use harness::process::ProcessReport;

use super::one::Run;
use crate::results::{CaseResult, write_json};
use crate::text::shell_word;
use crate::trace::{Facts, Trace};
use crate::witness;

/// Held for reading while a case leaves its evidence and its bundle.
static LEAVING: RwLock<()> = RwLock::new(());

/// Waits for evidence that is being written, and lets none be begun as long as the guard lives: for a process that ends
/// while cases run.
pub fn hold() -> RwLockWriteGuard<'static, ()> {
    LEAVING.write().unwrap_or_else(PoisonError::into_inner)
}

/// Evidence is being written as long as the guard lives.
pub(super) fn leave() -> RwLockReadGuard<'static, ()> {
    LEAVING.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Evidence<'a> {
    pub(super) folder: &'a Path,
    pub(super) run: &'a Run<'a>,
    pub(super) trace: &'a Trace,
    pub(super) facts: &'a Facts,
    pub(super) interfaces: &'a [Arc<Interface>],
    pub(super) logs: &'a [ProcessReport],
    /// Rendered files: name in the folder, text.
    pub(super) files: &'a [(String, String)],
}

impl Evidence<'_> {
    /// Writes the folder; the second witness may make the verdict worse.
    pub(super) fn write(&self, result: &mut CaseResult) -> io::Result<()> {
        if self.folder.exists() {
            fs::remove_dir_all(self.folder)?;
        }
        fs::create_dir_all(self.folder)?;
        let text = self.topology_text()?;
        fs::write(self.folder.join("topology.yaml"), text)?;
        if let Some(scenario) = self.run.case.scenario {
            fs::write(self.folder.join("scenario.yaml"), &scenario.text)?;
        }
        let capture = self.folder.join("capture.pcapng");
        harness::pcapng::write(
            fs::File::create(&capture)?,
            self.interfaces,
            &self.commented(result),
        )?;
        write_json(&self.folder.join("trace.json"), self.facts)?;
        for process in self.logs {
            let mut log = process.log.clone();
            if process.log_dropped > 0 {
                log.push_str(&format!(
                    "\n[{} octets were left out]\n",
                    process.log_dropped
                ));
            }
            fs::write(
                self.folder
                    .join(format!("{}.log", process.name.replace('/', "_"))),
                log,
            )?;
        }
        for (name, text) in self.files {
            fs::write(self.folder.join(name), text)?;
        }
        fs::write(self.folder.join("command.txt"), self.command())?;
        fs::write(
            self.folder.join("ladder.svg"),
            crate::draw::Ladder::of_case(self.trace, result)
                .condensed(400)
                .svg(),
        )?;
        // A sabotaged box sends what no witness would find well formed, on purpose.
        if self.run.sabotage.is_none() {
            witness::weigh(
                &capture,
                self.trace,
                self.run.options.require_tshark,
                result,
            );
        }
        write_json(&self.folder.join("result.json"), result)
    }

    /// The topology with the case's settings, as the file says it, so that a saved trace knows the same.
    fn topology_text(&self) -> io::Result<String> {
        let mut text = match self.run.case.scenario {
            Some(scenario) => scenario.topology_text.clone(),
            None => fs::read_to_string(crate::home::topology_file(self.run.case.topology))?,
        };
        if !self.run.case.settings.is_empty() {
            text.push_str("\n# The case changed the settings of these nodes:\n");
            for (node, settings) in self.run.case.settings {
                text.push_str(&format!(
                    "#   {node}: {}\n",
                    settings.trim().replace('\n', "\n#     ")
                ));
            }
        }
        Ok(text)
    }

    fn commented(&self, result: &CaseResult) -> Vec<Packet> {
        let mut comments: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for found in &result.rows() {
            for number in &found.packets {
                let expected = if found.expected.is_empty() {
                    String::new()
                } else {
                    format!("expected {}; ", found.expected)
                };
                let text = format!(
                    "{} {}: {expected}{}",
                    found.verdict, found.id, found.finding
                );
                comments.entry(*number).or_default().push(text);
            }
        }
        let packets = self.trace.packets.iter().map(|packet| {
            let mut raw = packet.raw().clone();
            if let Some(texts) = comments.remove(&packet.number()) {
                raw.comments.extend(texts);
            }
            raw
        });
        packets.collect()
    }

    fn command(&self) -> String {
        let options = self.run.options;
        let mut command = match self.run.case.scenario {
            Some(scenario) => format!("cargo run --bin lisplab -- run {}", scenario.file()),
            None => format!(
                "cargo run --bin lisplab -- test --case '{}'",
                self.run.case.id
            ),
        };
        command.push_str(&format!(
            " --implementation {} --edition {}",
            shell_word(&options.implementation.asked),
            options.edition
        ));
        if options.strict {
            command.push_str(" --strict");
        }
        if (self.run.case.slow || options.slow) && self.run.case.scenario.is_none() {
            command.push_str(" --slow");
        }
        command.push_str(&format!(
            " --seed {}\n",
            options.seed.wrapping_add(u64::from(self.run.repetition))
        ));
        command
    }
}
