//! Unsolicited Map-Notifies: the ETRs that an EID moved away from are told where it is now (eid-mobility 4.2.3), again until
//! they acknowledge (RFC 9301 5.7).

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

/// A Map-Notify that waits for its acknowledgement.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) next: Time,
    sent: u32,
    interval: Duration,
    nonce: u64,
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
        if self.config.edition == Edition::Rfc9300 && self.pending.len() < MAX_PENDING {
            self.pending.push(Pending {
                next: now + INTERVAL,
                sent: 1,
                interval: INTERVAL,
                nonce,
                key: KeyOf(key.clone()),
                transmit,
            });
        }
    }

    pub(super) fn retransmit_notifies(&mut self, now: Time, out: &mut Vec<Transmit>) {
        for pending in self
            .pending
            .iter_mut()
            .filter(|pending| pending.next <= now)
        {
            if pending.sent < TRANSMISSIONS {
                out.push(pending.transmit.clone());
                self.counters.count(Event::MapNotifies);
            }
            pending.sent += 1;
            if pending.sent >= STEADY {
                pending.interval *= 2;
            }
            pending.next += pending.interval;
        }
        self.pending.retain(|pending| pending.sent < TRANSMISSIONS);
    }

    pub(super) fn map_notify_ack(&mut self, now: Time, datagram: Datagram<'_>) {
        let acknowledged = MapNotifyAck::parse(datagram.payload).ok().and_then(|ack| {
            self.pending.iter().position(|pending| {
                pending.nonce == ack.0.nonce
                    && pending.transmit.to.ip() == datagram.source.ip()
                    && verify(datagram.payload, &pending.key.0, &[]).is_ok()
            })
        });
        match acknowledged {
            Some(index) => {
                self.pending.swap_remove(index);
                self.counters.count(Event::MapNotifyAcks);
            }
            None => self.refuse(now, Event::UnexpectedAck, datagram.source),
        }
    }
}
