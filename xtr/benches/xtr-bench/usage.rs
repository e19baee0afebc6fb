//! Processor time that a measurement took, on a machine that others use as well.

use std::collections::BTreeMap;
use std::fs;

/// Busy time of the machine and of every process, in ticks.
#[derive(Debug)]
pub(crate) struct Usage {
    busy: u64,
    processes: BTreeMap<u32, u64>,
}

impl Usage {
    /// Reads the counters as they stand.
    pub(crate) fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let first: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .map(|word| word.parse().unwrap_or(0))
            .collect();
        // user, nice, system, irq, softirq: all but idle, iowait and steal.
        let busy = [0, 1, 2, 5, 6].iter().filter_map(|&at| first.get(at)).sum();
        let processes = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid: u32| Some((pid, ticks(pid)?)))
            .collect();
        Self { busy, processes }
    }

    /// Seconds of processor time since `before`, without those that processes other than `ours` account for.
    pub(crate) fn since(&self, before: &Self, ours: &[u32]) -> f64 {
        let foreign: u64 = self
            .processes
            .iter()
            .filter(|(pid, _)| !ours.contains(pid))
            .filter_map(|(pid, now)| Some(now.saturating_sub(*before.processes.get(pid)?)))
            .sum();
        const TICKS_PER_SECOND: f64 = 100.0;
        (self.busy - before.busy).saturating_sub(foreign) as f64 / TICKS_PER_SECOND
    }
}

fn ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}
