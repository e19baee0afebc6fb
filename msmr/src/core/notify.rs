//! Unsolicited Map-Notifies: the ETRs that an EID moved away from are told where it is now (eid-mobility 4.2.3), again until
//! they acknowledge (RFC 9301 5.7).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use daemon::Time;
use lisp::auth::{AuthKey, verify};
use lisp::wire::{MapNotify, MapNotifyAck, MapRecord};
use lisp::{CONTROL_PORT, EidPrefix};

use super::registration::Etr;
use super::site::{Edition, SiteEvent};
use super::{Core, Datagram, Event, SourcePort, Transmit, answer_from};

/// First interval between transmissions (RFC 9301 5.7).
const INTERVAL: Duration = Duration::from_secs(3);
/// Transmissions at the first interval, the first one included.
const STEADY: u32 = 4;
/// Transmissions altogether: three more with doubled intervals.
const TRANSMISSIONS: u32 = 7;
/// Map-Notifies that wait for their acknowledgement at once; more are sent once and forgotten.
const MAX_PENDING: usize = 10_000;

/// Map-Notifies that wait for their acknowledgement, by nonce, so that thousands of them (a mass move) make neither an
/// acknowledgement nor an invented one dear.
#[derive(Debug, Default)]
pub(super) struct Pendings {
    by_nonce: HashMap<u64, Pending>,
    /// When to look at which; those that were acknowledged meanwhile are passed over.
    due: BinaryHeap<Reverse<(Time, u64)>>,
}

impl Pendings {
    /// When the next one is to be sent again, or was before it was acknowledged.
    pub(super) fn next(&self) -> Option<Time> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    fn has_room(&self) -> bool {
        // Those that were acknowledged are passed over within half a minute.
        self.by_nonce.len() < MAX_PENDING && self.due.len() < 8 * MAX_PENDING
    }

    fn add(&mut self, at: Time, nonce: u64, pending: Pending) {
        self.by_nonce.insert(nonce, pending);
        self.due.push(Reverse((at, nonce)));
    }

    /// The next one that is due: when it was to be sent, and its nonce.
    fn take(&mut self, now: Time) -> Option<(Time, u64)> {
        self.next().filter(|at| *at <= now)?;
        self.due.pop().map(|Reverse(due)| due)
    }
}

/// A Map-Notify that waits for its acknowledgement.
#[derive(Debug)]
struct Pending {
    sent: u32,
    interval: Duration,
    key: KeyOf,
    transmit: Transmit,
}

#[derive(Clone)]
struct KeyOf(Arc<AuthKey>);

impl std::fmt::Debug for KeyOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {}", self.0.key_id)
    }
}

impl Core {
    /// Tells each of `previous` the new mapping. A mobile EID's notice goes to the whole previous locator-set.
    pub(super) fn notify_moved(
        &mut self,
        now: Time,
        prefix: &EidPrefix,
        previous: &[Etr],
        mobile: bool,
        out: &mut Vec<Transmit>,
    ) {
        let Some((site, record)) = self.moved_record(prefix) else {
            return;
        };
        for etr in previous {
            let Some(key) = self.key_of(site, etr.key) else {
                continue;
            };
            let mut receivers = vec![etr.source];
            if mobile {
                receivers.extend(etr.locators.iter().filter_map(|locator| locator.rloc.ip()));
            }
            receivers.sort();
            receivers.dedup();
            for receiver in receivers {
                if self.families.has(&receiver) {
                    self.sites.count(site, SiteEvent::MoveNotifies);
                    self.notify(now, etr.asked, receiver, &key, record.clone(), out);
                }
            }
        }
    }

    fn moved_record(&self, prefix: &EidPrefix) -> Option<(u32, MapRecord)> {
        let registration = self.known.get(prefix)?.registration.as_ref()?;
        Some((registration.site, registration.proxy_record(prefix)?))
    }

    fn key_of(&self, site: u32, fingerprint: u64) -> Option<Arc<AuthKey>> {
        let keys = &self.sites.get(site)?.config.keys;
        let key = keys.iter().find(|key| key.fingerprint == fingerprint)?;
        Some(key.auth.clone())
    }

    fn notify(
        &mut self,
        now: Time,
        asked: IpAddr,
        receiver: IpAddr,
        key: &Arc<AuthKey>,
        record: MapRecord,
        out: &mut Vec<Transmit>,
    ) {
        let nonce = self.next_random();
        let notify = MapNotify {
            nonce,
            records: vec![record],
            ..MapNotify::default()
        };
        let transmit = Transmit {
            from: answer_from(asked, &receiver),
            port: SourcePort::Control,
            to: SocketAddr::new(receiver, CONTROL_PORT),
            payload: notify.to_signed_vec(key),
        };
        self.counters.count(Event::MapNotifies);
        out.push(transmit.clone());
        // RFC 6830 has no acknowledgement to wait for.
        if self.config.edition == Edition::Rfc9300 && self.pending.has_room() {
            let pending = Pending {
                sent: 1,
                interval: INTERVAL,
                key: KeyOf(key.clone()),
                transmit,
            };
            self.pending.add(now + INTERVAL, nonce, pending);
        }
    }

    pub(super) fn retransmit_notifies(&mut self, now: Time, out: &mut Vec<Transmit>) {
        while let Some((at, nonce)) = self.pending.take(now) {
            let Some(pending) = self.pending.by_nonce.get_mut(&nonce) else {
                continue;
            };
            out.push(pending.transmit.clone());
            self.counters.count(Event::MapNotifies);
            pending.sent += 1;
            if pending.sent >= TRANSMISSIONS {
                self.pending.by_nonce.remove(&nonce);
                continue;
            }
            if pending.sent >= STEADY {
                pending.interval *= 2;
            }
            let next = at + pending.interval;
            self.pending.due.push(Reverse((next, nonce)));
        }
    }

    pub(super) fn map_notify_ack(&mut self, now: Time, datagram: Datagram<'_>) {
        let nonce = MapNotifyAck::parse(datagram.payload).map(|ack| ack.0.nonce);
        let acknowledged = nonce.ok().filter(|nonce| {
            self.pending.by_nonce.get(nonce).is_some_and(|pending| {
                pending.transmit.to.ip() == datagram.source.ip()
                    && verify(datagram.payload, &pending.key.0, &[]).is_ok()
            })
        });
        match acknowledged {
            Some(nonce) => {
                self.pending.by_nonce.remove(&nonce);
                self.counters.count(Event::MapNotifyAcks);
            }
            None => self.refuse(now, Event::UnexpectedAck, datagram.source),
        }
    }
}
