//! Echo-nonce: whether a path works both ways, found out from data packets (RFC 6830 6.3.1).
//!
//! Now and then, while a locator of a capable site is in use, every packet to it carries a nonce with the E bit. The
//! echo proves the path. Silence proves nothing, since the site may have nothing to send: it leads to an RLOC-probe.

use std::net::IpAddr;
use std::time::Duration;

use lisp::wire::MapRecord;

use super::event::Action;
use super::{Core, Timer};

/// How long packets ask for the echo.
const PATIENCE: Duration = Duration::from_secs(3);

impl Core {
    /// A Map-Reply said whether its site echoes nonces.
    pub(super) fn note_echo_capability(&mut self, records: &[MapRecord], capable: bool) {
        let interval = self.settings.echo_nonce_interval;
        let rlocs = records
            .iter()
            .flat_map(|record| &record.locators)
            .filter_map(|locator| locator.rloc.ip());
        for rloc in rlocs {
            let Some(state) = self.prober.rlocs.get_mut(&rloc) else {
                continue;
            };
            state.echoes = capable;
            if capable && self.settings.echo_nonce {
                self.timers
                    .set_earlier(Timer::Echo(rloc), self.now + interval);
            }
        }
    }

    /// Time to ask for an echo, or to stop asking.
    pub(super) fn echo_timer(&mut self, rloc: IpAddr) {
        let interval = self.settings.echo_nonce_interval;
        let in_use = self.cache.users.get(&rloc).is_some_and(|users| {
            users.iter().any(|prefix| {
                self.traffic
                    .last_used(prefix)
                    .is_some_and(|used| self.now.since(used) <= interval)
            })
        });
        let nonce = u32::try_from(self.random_below(1 << 24)).unwrap_or_default();
        let enabled = self.settings.echo_nonce;
        let Some(state) = self.prober.rlocs.get_mut(&rloc) else {
            return;
        };
        if state.asked_echo.take().is_some() {
            self.actions.push(Action::RequestEcho { rloc, nonce: None });
            self.counters.count("nonce-not-echoed");
            self.timers.set(Timer::Echo(rloc), self.now + interval);
            return self.verify_locator(rloc);
        }
        if !(enabled && state.echoes) {
            return;
        }
        if in_use {
            state.asked_echo = Some(nonce);
            let nonce = Some(nonce);
            self.actions.push(Action::RequestEcho { rloc, nonce });
            self.timers.set(Timer::Echo(rloc), self.now + PATIENCE);
        } else {
            self.timers.set(Timer::Echo(rloc), self.now + interval);
        }
    }

    /// A nonce came back. It counts for the locator that it was sent to, from wherever the site sends.
    pub(super) fn on_echo(&mut self, nonce: u32) {
        let asked = self
            .prober
            .rlocs
            .iter()
            .find(|(_, state)| state.asked_echo == Some(nonce))
            .map(|(rloc, _)| *rloc);
        let Some(rloc) = asked else {
            return self.counters.count("nonce-echo-unasked");
        };
        if let Some(state) = self.prober.rlocs.get_mut(&rloc) {
            state.asked_echo = None;
        }
        self.counters.count("nonce-echoed");
        self.actions.push(Action::RequestEcho { rloc, nonce: None });
        let next = self.now + self.settings.echo_nonce_interval;
        self.timers.set(Timer::Echo(rloc), next);
        self.set_reachable(rloc, true);
    }
}
