//! Waiting for packets while the lab runs.

use std::time::{Duration, Instant};

use super::Lab;
use crate::capture::Packet;
use crate::process::NotSeen;

/// A view of the packets from a moment on: what [`Lab::watch`] returns. Make it before the stimulus.
pub struct Watch<'a> {
    lab: &'a Lab,
    since_ns: u64,
    read: usize,
}

impl Lab {
    /// Waits for a packet for which `matches` is true, among all packets since the start of the lab. `what` names it in
    /// the error.
    ///
    /// # Errors
    /// No such packet within `timeout`.
    pub fn wait_for(
        &self,
        what: &str,
        timeout: Duration,
        matches: impl FnMut(&Packet) -> bool,
    ) -> Result<Packet, NotSeen> {
        let mut watch = Watch {
            lab: self,
            since_ns: 0,
            read: 0,
        };
        watch.wait_for(what, timeout, matches)
    }

    /// Packets from now on.
    pub fn watch(&self) -> Watch<'_> {
        Watch {
            lab: self,
            since_ns: self.now_ns(),
            read: 0,
        }
    }

    /// All packets so far, in the order of time. Those of the last milliseconds may be missing: [`Lab::catch_up`] first.
    pub fn packets(&self) -> Vec<Packet> {
        let mut packets = self
            .capture
            .as_ref()
            .map(|capture| capture.packets(0))
            .unwrap_or_default();
        packets.sort_by_key(|packet| packet.time_ns);
        packets
    }

    /// Waits until every packet that passed a link before the call is in the recording. So what is not there then did not
    /// happen.
    pub fn catch_up(&self) {
        if let Some(capture) = &self.capture {
            capture.catch_up();
        }
    }
}

impl Watch<'_> {
    /// Waits for the next packet for which `matches` is true. What came before it is passed over: a second call goes on
    /// behind it.
    ///
    /// # Errors
    /// No such packet within `timeout`; the message counts what was seen instead.
    pub fn wait_for(
        &mut self,
        what: &str,
        timeout: Duration,
        mut matches: impl FnMut(&Packet) -> bool,
    ) -> Result<Packet, NotSeen> {
        let deadline = Instant::now() + timeout;
        let mut others = 0;
        let Some(capture) = &self.lab.capture else {
            return Err(NotSeen {
                what: what.to_owned(),
                waited: Duration::ZERO,
                context: "; this lab captures nothing (LabOptions::capture is false)".to_owned(),
            });
        };
        loop {
            // Read before the look: what arrives in between is looked at once more.
            let late = Instant::now() >= deadline;
            for packet in capture.packets(self.read) {
                self.read += 1;
                if packet.time_ns < self.since_ns {
                    continue;
                }
                if matches(&packet) {
                    return Ok(packet);
                }
                others += 1;
            }
            if late {
                return Err(NotSeen {
                    what: what.to_owned(),
                    waited: timeout,
                    context: format!("; {others} other packets were seen"),
                });
            }
            capture.wait_more(self.read, deadline);
        }
    }

    /// All packets since the watch was made or last read, in the order of time.
    pub fn packets(&mut self) -> Vec<Packet> {
        let Some(capture) = &self.lab.capture else {
            return Vec::new();
        };
        capture.catch_up();
        let mut packets = capture.packets(self.read);
        self.read += packets.len();
        packets.retain(|packet| packet.time_ns >= self.since_ns);
        packets.sort_by_key(|packet| packet.time_ns);
        packets
    }
}
