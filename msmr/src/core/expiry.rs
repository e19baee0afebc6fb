//! Registrations that end by themselves (RFC 6833 4.2).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use daemon::Time;
use lisp::EidPrefix;

use super::Core;
use super::site::SiteEvent;

/// Appointments beside the live ones, before the others are cleared away.
const SLACK: usize = 1024;

/// When to look at which registration next.
///
/// Each registration has one appointment that counts, the one of its `scheduled`. What was scheduled before is left here
/// and means nothing when its time comes.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    heap: BinaryHeap<Reverse<(Time, EidPrefix)>>,
}

impl Expiries {
    /// The next appointment.
    pub(super) fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Makes one, unless it is for never.
    pub(super) fn add(&mut self, at: Time, prefix: EidPrefix) {
        if at < Time::NEVER {
            self.heap.push(Reverse((at, prefix)));
        }
    }

    /// Whether there is this one, or none is needed.
    #[cfg(test)]
    pub(super) fn has(&self, at: Time, prefix: &EidPrefix) -> bool {
        at == Time::NEVER || self.heap.iter().any(|entry| entry.0 == (at, *prefix))
    }

    fn take(&mut self, now: Time) -> Option<(Time, EidPrefix)> {
        self.next().filter(|at| *at <= now)?;
        self.heap.pop().map(|Reverse(appointment)| appointment)
    }
}

impl Core {
    /// Takes out what has timed out.
    pub(super) fn expire(&mut self, now: Time) {
        while let Some((at, prefix)) = self.expiries.take(now) {
            let known = self.known.get_mut(&prefix);
            let Some(registration) = known.and_then(|known| known.registration.as_mut()) else {
                continue;
            };
            if registration.scheduled != at {
                continue;
            }
            registration.scheduled = Time::NEVER;
            let gone = registration.expire(now);
            let site = registration.site;
            for etr in &gone {
                self.sites.count(site, SiteEvent::Expirations);
                self.tell(now, "registration expired", &prefix, etr.source);
            }
            self.after_removal(&prefix);
        }
    }

    /// Drops an empty registration, or schedules the timer of one that lives on.
    pub(super) fn after_removal(&mut self, prefix: &EidPrefix) {
        let Some(known) = self.known.get_mut(prefix) else {
            return;
        };
        let Some(registration) = &mut known.registration else {
            return;
        };
        match registration.etrs.iter().map(|etr| etr.expires).min() {
            // An earlier appointment is kept: the next one is made then.
            Some(next) if next < registration.scheduled => {
                registration.scheduled = next;
                self.expiries.add(next, *prefix);
            }
            Some(_) => {}
            None => {
                let site = registration.site;
                known.registration = None;
                if known.is_empty() {
                    self.known.remove(prefix);
                }
                self.registrations -= 1;
                if let Some(site) = self.sites.get_mut(site) {
                    site.registrations -= 1;
                }
                self.clear_appointments();
            }
        }
    }

    /// Appointments of registrations that are gone could be far ahead; they must not pile up.
    fn clear_appointments(&mut self) {
        if self.expiries.heap.len() <= 2 * self.registrations + SLACK {
            return;
        }
        let live = self.known.iter_after(None).filter_map(|(prefix, known)| {
            let at = known.registration.as_ref()?.scheduled;
            (at < Time::NEVER).then_some(Reverse((at, prefix)))
        });
        self.expiries.heap = live.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::site::Edition;
    use crate::core::tests::*;
    use lisp::wire::MapRegister;

    #[test]
    fn registering_and_withdrawing_again_and_again_piles_nothing_up() {
        let mut bench = Bench::new(crate::core::site::Config {
            edition: Edition::Rfc9300,
            ..config(vec![site("a", &["10.0.0.0/8+"])])
        });
        let mut nonce = 0;
        let mut send = |bench: &mut Bench, source: &str, eid: &str, minutes: u32| {
            nonce += 1;
            let message = MapRegister {
                nonce,
                use_ttl: true,
                merge: true,
                ..register(vec![record(eid, minutes, &[ETR])])
            };
            bench.register(source, &message);
        };
        send(&mut bench, ETR, "10.1.0.0/16", 1_000_000);
        for _ in 0..2000 {
            // One prefix has another ETR, which is refreshed, too; the other prefix comes and goes.
            send(&mut bench, ETR2, "10.1.0.0/16", 2_000_000);
            send(&mut bench, ETR2, "10.1.0.0/16", 0);
            send(&mut bench, ETR, "10.1.0.0/16", 1_000_000);
            send(&mut bench, ETR2, "10.2.0.0/16", 3_000_000);
            send(&mut bench, ETR2, "10.2.0.0/16", 0);
        }
        let piled = bench.core.expiries.heap.len();
        assert!(piled <= SLACK + 3, "{piled}");
        bench.pass(60 * 1_000_000 - 1);
        assert_eq!(bench.core.registration_count(), 1);
        bench.pass(1);
        assert_eq!(bench.core.registration_count(), 0);
    }
}
