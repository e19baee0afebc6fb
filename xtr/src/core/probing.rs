//! Reachability of remote locators: RLOC-probes, and the hints that packets give (RFC 6830 6.3).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use daemon::Time;
use lisp::EidPrefix;
use lisp::wire::{ControlMessage, MapReply, MapRequest};

use super::event::{Datagram, Port};
use super::limits::PerKey;
use super::map_cache::{Mapping, Origin, rlocs_of};
use super::requests::Purpose;
use super::{Core, Timer};

/// Probes without an answer before a locator counts as down.
const TRIES: u32 = 3;
/// How long an answer to a probe is waited for; RFC 6830 6.3.2 wants no more than one probe a second.
const PATIENCE: Duration = Duration::from_secs(1);
/// A silent locator's interval doubles up to 2^3 times the configured one.
const BACK_OFF: u32 = 3;
/// Interval at which a locator is tested again that was found down although probing is off.
const RETEST: Duration = Duration::from_secs(60);

/// Least time between two changes of an entry by locator-status bits.
const STATUS_REST: Duration = Duration::from_secs(1);
/// Entries that may change by them in that time.
const STATUS_PREFIXES: usize = 65_536;

/// What is known about the reachability of a locator.
#[derive(Debug, Clone)]
pub struct Probed {
    /// None: not known yet, treated as up.
    pub up: Option<bool>,
    /// When `up` last changed.
    pub since: Time,
    /// Round trip of the last answered probe.
    pub rtt: Option<Duration>,
    /// Probes sent and answered.
    pub counts: (u64, u64),
    /// Nonces of this round: a late answer to an earlier try is an answer.
    outstanding: Vec<u64>,
    tries: u32,
    silent_rounds: u32,
    /// Whether the site said that it echoes nonces (E bit of its Map-Reply).
    pub(super) echoes: bool,
    /// The nonce that packets ask to be echoed now.
    pub(super) asked_echo: Option<u32>,
}

/// Every locator that an entry uses.
#[derive(Debug)]
pub struct Prober {
    pub(super) rlocs: BTreeMap<IpAddr, Probed>,
    by_nonce: BTreeMap<u64, Probe>,
    status_changes: PerKey<EidPrefix>,
}

impl Default for Prober {
    fn default() -> Self {
        Self {
            rlocs: BTreeMap::new(),
            by_nonce: BTreeMap::new(),
            status_changes: PerKey::new(STATUS_REST, STATUS_PREFIXES),
        }
    }
}

/// A probe on its way.
#[derive(Debug, Clone, Copy)]
struct Probe {
    rloc: IpAddr,
    prefix: EidPrefix,
    sent: Time,
}

impl Prober {
    /// Forgets the probes of a locator that are on their way.
    fn end_round(&mut self, rloc: IpAddr) {
        if let Some(state) = self.rlocs.get_mut(&rloc) {
            state.tries = 0;
            for nonce in state.outstanding.drain(..) {
                self.by_nonce.remove(&nonce);
            }
        }
    }

    /// Whether a locator is known to be down.
    pub fn is_down(&self, rloc: IpAddr) -> bool {
        self.rlocs
            .get(&rloc)
            .is_some_and(|state| state.up == Some(false))
    }
}

impl Core {
    /// An entry uses a locator.
    pub(super) fn watch_locator(&mut self, rloc: IpAddr) {
        if self.prober.rlocs.contains_key(&rloc) || self.settings.is_own(rloc) {
            return;
        }
        let state = Probed {
            up: None,
            since: self.now,
            rtt: None,
            counts: (0, 0),
            outstanding: Vec::new(),
            tries: 0,
            silent_rounds: 0,
            echoes: false,
            asked_echo: None,
        };
        self.prober.rlocs.insert(rloc, state);
        if let Some(interval) = self.settings.probe_interval {
            let at = self.now + self.jittered(interval);
            self.timers.set(Timer::Probe(rloc), at);
        }
    }

    /// No entry uses a locator any more.
    pub(super) fn unwatch_locator(&mut self, rloc: IpAddr) {
        if self.is_petr(rloc) {
            return;
        }
        self.prober.end_round(rloc);
        self.prober.rlocs.remove(&rloc);
        self.timers.cancel(&Timer::Probe(rloc));
        self.timers.cancel(&Timer::ProbeTimeout(rloc));
        self.timers.cancel(&Timer::Echo(rloc));
    }

    pub(super) fn reload_probing(&mut self) {
        let rlocs: Vec<IpAddr> = self.prober.rlocs.keys().copied().collect();
        for rloc in rlocs {
            match self.settings.probe_interval {
                Some(interval) => {
                    let at = self.now + self.jittered(interval);
                    self.timers.set_earlier(Timer::Probe(rloc), at);
                }
                None if !self.prober.is_down(rloc) => self.timers.cancel(&Timer::Probe(rloc)),
                None => {}
            }
        }
    }

    /// Three quarters to five quarters of an interval: its mean is the interval (RFC 6830 6.3.2).
    fn jittered(&mut self, interval: Duration) -> Duration {
        let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        let half = self.random_below(millis / 2 + 1);
        interval * 3 / 4 + Duration::from_millis(half)
    }

    /// Sends an RLOC-probe: a Map-Request with the P bit for a cached prefix, straight to the locator.
    pub(super) fn probe(&mut self, rloc: IpAddr) {
        let prefix = self
            .cache
            .users
            .get(&rloc)
            .and_then(|users| users.iter().next().copied())
            .or_else(|| self.petr_question(rloc));
        let Some(prefix) = prefix.filter(|_| self.settings.source_for(rloc).is_some()) else {
            return;
        };
        let nonce = self.nonce();
        let now = self.now;
        let Some(state) = self.prober.rlocs.get_mut(&rloc) else {
            return;
        };
        state.outstanding.push(nonce);
        state.tries += 1;
        state.counts.0 += 1;
        let probe = Probe {
            rloc,
            prefix,
            sent: now,
        };
        self.prober.by_nonce.insert(nonce, probe);
        self.timers.set(Timer::ProbeTimeout(rloc), now + PATIENCE);
        let request = MapRequest {
            probe: true,
            pitr: self.settings.is_pitr(),
            ..self.plain_request(prefix, nonce)
        };
        self.counters.count("probe-sent");
        let payload = ControlMessage::MapRequest(request).to_vec();
        self.send_control(Port::Client, rloc, payload);
    }

    pub(super) fn probe_timeout(&mut self, rloc: IpAddr) {
        let interval = self.settings.probe_interval.unwrap_or(RETEST);
        let Some(state) = self.prober.rlocs.get_mut(&rloc) else {
            return;
        };
        if state.tries < TRIES {
            return self.probe(rloc);
        }
        let back_off = 1 << state.silent_rounds.min(BACK_OFF);
        state.silent_rounds += 1;
        self.prober.end_round(rloc);
        self.set_reachable(rloc, false);
        let next = self.jittered(interval * back_off);
        self.timers.set(Timer::Probe(rloc), self.now + next);
    }

    pub(super) fn on_probe_reply(&mut self, datagram: &Datagram, reply: &MapReply) {
        let Some(probe) = self.prober.by_nonce.get(&reply.nonce).copied() else {
            let text = format!("unsolicited RLOC-probe reply from {}", datagram.source);
            return self.complain("probe-reply-unsolicited", text);
        };
        let (probed, prefix) = (probe.rloc, probe.prefix);
        // RFC 9301 5.4: answered by somebody else than an ETR of the site, it proves nothing.
        if reply.records.iter().any(|record| !record.authoritative) {
            return self.counters.count("probe-reply-not-authoritative");
        }
        // RFC 6830 6.1.4: the first locator with the p bit was probed, whatever the reply's source.
        let marked = reply
            .records
            .iter()
            .flat_map(|record| &record.locators)
            .find(|locator| locator.probed)
            .and_then(|locator| locator.rloc.ip());
        if marked != Some(probed) {
            let text = format!("RLOC-probe reply for {probed} does not name it");
            return self.complain("probe-reply-for-other-locator", text);
        }
        self.prober.end_round(probed);
        self.timers.cancel(&Timer::ProbeTimeout(probed));
        let now = self.now;
        if let Some(state) = self.prober.rlocs.get_mut(&probed) {
            state.rtt = Some(now.since(probe.sent));
            state.silent_rounds = 0;
            state.counts.1 += 1;
        }
        self.counters.count("probe-answered");
        self.set_reachable(probed, true);
        if let Some(interval) = self.settings.probe_interval {
            let at = now + self.jittered(interval);
            self.timers.set(Timer::Probe(probed), at);
        }
        // The reply is as good as one to a refresh (RFC 6830 6.3.2). Static entries stay as they are, and so does what
        // does not use the locator: a proxy ETR is nobody's mapping.
        let learned = self.cache.entries.get(&prefix).is_some_and(|entry| {
            entry.origin != Origin::Static && rlocs_of(&entry.mapping).contains(&probed)
        });
        if learned {
            self.accept(
                prefix,
                Purpose::Refresh,
                &reply.records,
                datagram.source.ip(),
            );
        }
    }

    pub(super) fn set_reachable(&mut self, rloc: IpAddr, up: bool) {
        let now = self.now;
        let Some(state) = self.prober.rlocs.get_mut(&rloc) else {
            return;
        };
        let was = state.up.replace(up);
        if was == Some(up) || (was.is_none() && up) {
            return;
        }
        state.since = now;
        let word = if up { "up" } else { "down" };
        self.log(format!("locator {rloc} is {word}"));
        self.show_users(rloc);
        self.show_petrs();
    }

    /// ICMP says that a locator is unreachable. Anybody can say so: a probe decides (RFC 6830 6.3).
    pub(super) fn on_unreachable(&mut self, rloc: IpAddr) {
        self.counters.count("locator-unreachable-hint");
        self.verify_locator(rloc);
    }

    pub(super) fn verify_locator(&mut self, rloc: IpAddr) {
        let idle = self
            .prober
            .rlocs
            .get(&rloc)
            .is_some_and(|state| state.outstanding.is_empty() && state.up != Some(false));
        if idle {
            self.probe(rloc);
        }
    }

    /// Locator-status bits of a site (RFC 6830 6.3): a locator whose bit went from 1 to 0 is left until it returns,
    /// and probed, since the bits are a hint.
    ///
    /// Only the site itself is believed: a locator of the mapping (RFC 6830 6.3: LSBs can be spoofed), and not more
    /// often than once a second (RFC 9300 10).
    pub(super) fn on_locator_status(
        &mut self,
        iid: u32,
        source: IpAddr,
        encapsulator: IpAddr,
        (bits, width): (u32, u8),
    ) {
        if !self.settings.locator_status_bits {
            return;
        }
        let Some((prefix, entry)) = self.cache.lookup(iid, source) else {
            return self.counters.count("locator-status-not-cached");
        };
        let Mapping::Locators(locators) = &entry.mapping else {
            return;
        };
        if entry.origin == Origin::Static || entry.status == Some((bits, width)) {
            return;
        }
        if !locators.iter().any(|l| l.rloc == Some(encapsulator)) {
            return self.counters.count("locator-status-from-stranger");
        }
        // Bits beyond the locator-set mean nothing (RFC 6830 6.6).
        let counted = locators.len().min(usize::from(width));
        let meant = u32::MAX.checked_shr(32 - counted as u32).unwrap_or(0);
        let was = entry.status.map_or(u32::MAX, |(bits, _)| bits);
        if (was ^ bits) & meant != 0 && !self.prober.status_changes.allow(self.now, prefix) {
            return self.counters.count("locator-status-limited");
        }
        let fallen: Vec<IpAddr> = locators
            .iter()
            .take(usize::from(width))
            .enumerate()
            .filter(|(ordinal, _)| was >> ordinal & 1 == 1 && bits >> ordinal & 1 == 0)
            .filter_map(|(_, locator)| locator.rloc)
            .collect();
        if let Some(entry) = self.cache.entries.get_mut(&prefix) {
            entry.status = Some((bits, width));
        }
        self.counters.count("locator-status-changed");
        self.show_entry(&prefix);
        for rloc in fallen {
            self.verify_locator(rloc);
        }
    }
}
