//! The programs of a lab: started, made ready, stopped and reloaded as their adapters say.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use harness::process::ProcessHandle;
use harness::topology::Topology;
use harness::{Lab, Program as Started};
use nix::sys::signal::Signal;

use super::{Stop, ready};
use crate::case::Case;
use crate::implementation::{Adapter, Found, Implementation, Program, Rendered, render};

pub(crate) struct Programs<'a> {
    case: &'a Case,
    topology: Topology,
    by_node: BTreeMap<String, Entry<'a>>,
}

struct Entry<'a> {
    adapter: &'a Adapter,
    program: &'a Program,
    rendered: Rendered,
    running: Option<ProcessHandle>,
}

impl<'a> Programs<'a> {
    /// Prepares the programs of all nodes whose role the implementation has a program for. Their adapters' kernel
    /// settings go into `topology`, which is what the lab has to be built from.
    pub(crate) fn prepare(
        case: &'a Case,
        implementation: &'a Implementation,
        topology: &mut Topology,
    ) -> Result<Programs<'a>, Stop> {
        let mut by_node = BTreeMap::new();
        for at in 0..topology.nodes.len() {
            let node = &topology.nodes[at];
            let Some((adapter, program)) = node
                .role
                .as_deref()
                .and_then(|role| implementation.program(role))
            else {
                continue;
            };
            let sysctls = program
                .sysctls
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()));
            let node = &mut topology.nodes[at];
            node.sysctls.extend(sysctls);
            let node = &topology.nodes[at];
            let rendered = render(adapter, program, topology, node)
                .map_err(|error| Stop::Untestable(error.to_string()))?;
            by_node.insert(
                node.name.clone(),
                Entry {
                    adapter,
                    program,
                    rendered,
                    running: None,
                },
            );
        }
        Ok(Programs {
            case,
            topology: topology.clone(),
            by_node,
        })
    }

    /// The nodes that run programs.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.by_node.keys().map(String::as_str)
    }

    /// Whether any of the programs opens `/dev/net/tun`.
    pub(crate) fn need_tun(&self) -> bool {
        self.by_node.values().any(|entry| entry.program.needs_tun)
    }

    /// The rendered files: node, path, text.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &std::path::Path, &str)> {
        self.by_node.iter().flat_map(|(node, entry)| {
            entry
                .rendered
                .files
                .iter()
                .map(move |(path, text)| (node.as_str(), path.as_path(), text.as_str()))
        })
    }

    pub(crate) fn timer(&self, node: &str, name: &str) -> Duration {
        let Some(timer) = self
            .case
            .timers
            .iter()
            .find(|timer| timer.node == node && timer.name == name)
        else {
            return Duration::ZERO;
        };
        let settable = self
            .by_node
            .get(node)
            .is_some_and(|entry| entry.program.timers.contains(name));
        if settable { timer.short } else { timer.text }
    }

    pub(crate) fn start(&mut self, lab: &Lab, node: &str) -> Result<(), Stop> {
        let since = lab.now_ns();
        self.spawn(lab, node)?;
        self.ready(lab, node, since)
    }

    /// The mapping system first; of the others all are started before the first is waited for, so that a slow one does not
    /// hold up the rest.
    pub(crate) fn start_all(&mut self, lab: &Lab) -> Result<(), Stop> {
        let since = lab.now_ns();
        for first in [true, false] {
            let of_phase = |entry: &Entry<'_>| entry.program.registers_others() == first;
            let nodes: Vec<String> = self
                .by_node
                .iter()
                .filter(|(_, entry)| of_phase(entry))
                .map(|(node, _)| node.clone())
                .collect();
            nodes.iter().try_for_each(|node| self.spawn(lab, node))?;
            nodes
                .iter()
                .try_for_each(|node| self.ready(lab, node, since))?;
        }
        Ok(())
    }

    fn spawn(&mut self, lab: &Lab, node: &str) -> Result<(), Stop> {
        let entry = self.entry(node)?;
        let found = Found::of(entry.program).map_err(|error| {
            Stop::Untestable(format!(
                "{node}: {} of {}: {error}",
                entry.program.binary, entry.adapter.name
            ))
        })?;
        let mut argv = vec![found.path.display().to_string()];
        argv.extend(entry.rendered.arguments.iter().cloned());
        let mut program = Started::new(argv).named(node);
        for (path, text) in &entry.rendered.files {
            program = program.file(path, text.as_bytes());
        }
        for (name, value) in &entry.rendered.environment {
            program = program.env(name, value);
        }
        entry.running = Some(lab.spawn(node, program)?);
        Ok(())
    }

    fn ready(&mut self, lab: &Lab, node: &str, since: u64) -> Result<(), Stop> {
        let entry = self.entry(node)?;
        let Some(running) = entry.running.clone() else {
            return Ok(());
        };
        let program = entry.program;
        ready::wait(lab, node, program, &running, since).map_err(|what| {
            let ended = running
                .exit()
                .map_or_else(String::new, |exit| format!(" (it ended: {exit})"));
            Stop::Untestable(format!(
                "{node}: {} did not get ready: {what}{ended}; its last lines:\n{}",
                program.binary,
                ready::last_lines(lab, node, program, &running)
            ))
        })
    }

    pub(crate) fn stop(&mut self, node: &str) -> Result<(), Stop> {
        let entry = self.entry(node)?;
        let (signal, within) = (entry.program.stop.signal.0, entry.program.stop.within.0);
        entry
            .running
            .take()
            .ok_or_else(|| Stop::Untestable(format!("{node}: nothing runs there")))?
            .stop(signal, within);
        Ok(())
    }

    pub(crate) fn kill(&mut self, node: &str) -> Result<(), Stop> {
        let running = self.entry(node)?.running.take();
        let running =
            running.ok_or_else(|| Stop::Untestable(format!("{node}: nothing runs there")))?;
        running.stop(Signal::SIGKILL, Duration::from_secs(2));
        Ok(())
    }

    pub(crate) fn reload(&mut self, lab: &Lab, node: &str, settings: &str) -> Result<(), Stop> {
        let at = self
            .topology
            .nodes
            .iter()
            .position(|candidate| candidate.name == node);
        let at = at.ok_or_else(|| Stop::Untestable(format!("there is no node {node}")))?;
        merge_settings(&mut self.topology, node, settings)?;
        let topology = self.topology.clone();
        let entry = self.entry(node)?;
        entry.rendered = render(entry.adapter, entry.program, &topology, &topology.nodes[at])
            .map_err(|error| Stop::Untestable(error.to_string()))?;
        let reload = entry.program.reload.clone();
        let reload = reload
            .ok_or_else(|| Stop::Untestable(format!("{node}: its adapter knows no reload")))?;
        let running = entry.running.clone();
        let running =
            running.ok_or_else(|| Stop::Untestable(format!("{node}: nothing runs there")))?;
        let files = entry.rendered.files.clone();
        lab.run_in_view(node, || {
            files
                .iter()
                .try_for_each(|(path, text)| std::fs::write(path, text))
        })?
        .map_err(|error| Stop::Untestable(format!("{node}: writing its files: {error}")))?;
        let before = running.log().lines().count();
        running.signal(reload.signal.0);
        if let Some(text) = &reload.log {
            let mut line = 0;
            running.wait_log_where(text, Duration::from_secs(5), |log| {
                line += 1;
                line > before && log.contains(text)
            })?;
        }
        Ok(())
    }

    pub(crate) fn show_command(&self, node: &str, what: &str) -> Result<Option<Vec<String>>, Stop> {
        let Some(entry) = self.by_node.get(node) else {
            return Ok(None);
        };
        let Some(arguments) = entry.program.show.get(what) else {
            return Ok(None);
        };
        let found = Found::of(entry.program)
            .map_err(|error| Stop::Untestable(format!("{node}: {error}")))?;
        let mut argv = vec![found.path.display().to_string()];
        argv.extend(arguments.iter().cloned());
        Ok(Some(argv))
    }

    /// The command with which a node's program asks the mapping system, for an EID or for its own prefix (RFC 6835).
    pub(crate) fn lig_command(&self, node: &str, eid: Option<IpAddr>) -> Result<Vec<String>, Stop> {
        let entry = self.by_node.get(node);
        let lig = entry.and_then(|entry| Some((entry, entry.program.lig.as_ref()?)));
        let (entry, lig) =
            lig.ok_or_else(|| Stop::Untestable(format!("{node}: its adapter knows no `lig`")))?;
        let found = Found::of(entry.program)
            .map_err(|error| Stop::Untestable(format!("{node}: {error}")))?;
        let arguments = if eid.is_some() { &lig.eid } else { &lig.own };
        let mut argv = vec![found.path.display().to_string()];
        argv.extend(arguments.iter().cloned());
        argv.extend(eid.map(|eid| eid.to_string()));
        Ok(argv)
    }

    pub(crate) fn runs(&self, node: &str) -> bool {
        let running = self
            .by_node
            .get(node)
            .and_then(|entry| entry.running.as_ref());
        running.is_some_and(|running| running.exit().is_none())
    }

    /// Stops all that still run, all at once, so that logs are complete and routes are gone.
    pub(crate) fn stop_all(&mut self) {
        std::thread::scope(|scope| {
            for entry in self.by_node.values_mut() {
                if let Some(running) = entry.running.take() {
                    let stop = &entry.program.stop;
                    scope.spawn(move || running.stop(stop.signal.0, stop.within.0));
                }
            }
        });
    }

    /// A program that ended without having been told to, with the end of its log.
    pub(crate) fn died(&self, lab: &Lab) -> Option<String> {
        self.by_node.iter().find_map(|(node, entry)| {
            let running = entry.running.as_ref()?;
            let exit = running.exit()?;
            Some(format!(
                "{node}: {} ended by itself: {exit}; its last lines:\n{}",
                entry.program.binary,
                ready::last_lines(lab, node, entry.program, running)
            ))
        })
    }

    /// The log files that adapters name: name in the evidence folder, content. Read them before the lab ends.
    pub(crate) fn log_files(&self, lab: &Lab) -> Vec<(String, String)> {
        let files = self.by_node.iter().filter_map(|(node, entry)| {
            let file = entry.program.log_file.as_ref()?;
            let log = ready::log_file(lab, node, file)?;
            let name = format!("{node}{}", file.display()).replace('/', "_");
            Some((format!("{}.log", name.trim_end_matches(".log")), log))
        });
        files.collect()
    }

    fn entry(&mut self, node: &str) -> Result<&mut Entry<'a>, Stop> {
        self.by_node.get_mut(node).ok_or_else(|| {
            Stop::Untestable(format!(
                "the implementation has no program for the node {node}"
            ))
        })
    }
}

/// Replaces settings of a node by the keys of a YAML mapping.
pub(crate) fn merge_settings(topology: &mut Topology, node: &str, yaml: &str) -> Result<(), Stop> {
    let wrong = |problem: String| Stop::Untestable(format!("settings of {node}: {problem}"));
    let changes: serde_json::Map<String, serde_json::Value> =
        serde_saphyr::from_str(yaml).map_err(|error| wrong(error.to_string()))?;
    let node = topology
        .nodes
        .iter_mut()
        .find(|candidate| candidate.name == node);
    let node = node.ok_or_else(|| wrong("the topology has no such node".to_owned()))?;
    if !node.settings.is_object() {
        node.settings = serde_json::Value::Object(serde_json::Map::new());
    }
    if let Some(settings) = node.settings.as_object_mut() {
        settings.extend(changes);
    }
    Ok(())
}
