//! Solicit-Map-Requests, sent and received (RFC 6830 6.6.2; RFC 9301 6.1).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use daemon::Time;
use lisp::wire::{ControlMessage, MapRequest};
use lisp::{Address, EidPrefix};

use super::event::Port;
use super::limits::PerKey;
use super::locator_set::is_locator;
use super::map_cache::{Origin, rlocs_of};
use super::requests::Purpose;
use super::versions::STALE_TIMES;
use super::{Arrival, Core, Timer};
use crate::forwarding::Edition;

/// Least time between two SMRs about a prefix to a locator (RFC 9301 6.1: 3 s).
const INTERVAL: Duration = Duration::from_secs(3);
/// SMRs that go to a locator about one change when no Map-Request comes back.
const TRIES: u32 = 3;
/// Sites that were sent data within this time are told of a change (RFC 6830 6.6.2).
const CORRESPONDENT: Duration = Duration::from_secs(60);
/// Senders with an old map-version that are remembered.
const STALE_SENDERS: usize = 4096;
/// Locators that are solicited at one time.
const SESSIONS: usize = 16_384;

/// Who is being solicited, and what was solicited from us.
#[derive(Debug)]
pub struct Solicitor {
    sessions: BTreeMap<(EidPrefix, IpAddr), Session>,
    sent: PerKey<(EidPrefix, IpAddr)>,
    received: PerKey<EidPrefix>,
    /// Who sends data with an old map-version.
    stale: BTreeMap<(EidPrefix, IpAddr), Told>,
}

/// How often a sender was told that its mapping is old.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    pub(super) times: u32,
    pub(super) last: Option<Time>,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    left: u32,
    source_eid: Option<IpAddr>,
}

impl Default for Solicitor {
    fn default() -> Self {
        Self {
            sessions: BTreeMap::new(),
            sent: PerKey::new(INTERVAL, SESSIONS),
            received: PerKey::new(INTERVAL, SESSIONS),
            stale: BTreeMap::new(),
        }
    }
}

impl Solicitor {
    /// What a sender with an old map-version was told; none: too many are remembered already.
    pub(super) fn stale_sender(&mut self, prefix: EidPrefix, sender: IpAddr) -> Option<&mut Told> {
        let room = self.stale.len() < STALE_SENDERS;
        let key = (prefix, sender);
        if !room && !self.stale.contains_key(&key) {
            return None;
        }
        Some(self.stale.entry(key).or_default())
    }

    /// Who was told often enough and did not ask.
    pub(super) fn ignorant(&self, prefix: &EidPrefix) -> Vec<IpAddr> {
        let of_prefix = self.stale.iter().filter(|((of, _), _)| of == prefix);
        of_prefix
            .filter(|(_, told)| told.times >= STALE_TIMES)
            .map(|((_, sender), _)| *sender)
            .collect()
    }

    /// Nobody has an old mapping of a prefix that just changed, or everybody: counting begins anew.
    pub(super) fn forget_stale(&mut self, prefix: &EidPrefix) {
        self.stale.retain(|(of, _), _| of != prefix);
    }
}

impl Core {
    /// An SMR: what is cached about the prefix is asked for again, through the mapping system, and stays in use until
    /// the answer is there. The SMR itself is never answered.
    pub(super) fn on_smr(&mut self, arrival: &Arrival, request: &MapRequest) {
        self.counters.count("smr-received");
        if arrival.encapsulated {
            return self.counters.count("smr-encapsulated");
        }
        for query in &request.records {
            let Some(prefix) = query.prefix() else {
                self.counters.count("smr-without-prefix");
                continue;
            };
            if !self.is_cached(&prefix) {
                self.counters.count("smr-not-cached");
            } else if !self.solicitor.received.allow(self.now, prefix) {
                self.counters.count("smr-limited");
            } else if let Some(at) = self.requests.free_at(self.now, &prefix) {
                self.timers.set(Timer::Solicited(prefix), at);
            } else {
                self.ask(prefix, None, Purpose::SmrInvoked);
            }
        }
    }

    fn is_cached(&self, prefix: &EidPrefix) -> bool {
        let learned = |found: &EidPrefix| {
            self.cache
                .entries
                .get(found)
                .is_some_and(|entry| entry.origin != Origin::Static)
        };
        let covering = self.cache.entries.longest_match(prefix);
        covering.is_some_and(|(found, _)| learned(&found))
            || self.cache.entries.inside(prefix).iter().any(learned)
    }

    /// Tells every site that was sent data lately that a local prefix changed: all locators of its map-cache entries.
    pub(super) fn solicit_correspondents(&mut self, prefix: EidPrefix) {
        let correspondents: Vec<(IpAddr, IpAddr)> = self
            .cache
            .entries
            .iter()
            .filter(|(eid, entry)| {
                entry.origin != Origin::Static
                    && eid.iid == prefix.iid
                    && self
                        .traffic
                        .last_used(eid)
                        .is_some_and(|used| self.now.since(used) <= CORRESPONDENT)
            })
            .flat_map(|(eid, entry)| {
                rlocs_of(&entry.mapping)
                    .into_iter()
                    .map(move |rloc| (rloc, eid.prefix.addr()))
            })
            .collect();
        for (rloc, eid) in correspondents {
            self.solicit(prefix, rloc, Some(eid), TRIES);
        }
    }

    /// Sends an SMR about a local prefix to a locator, and `times - 1` more unless a Map-Request comes back. With one
    /// try there is data that brings the next; a change is told later when it cannot be told yet. False: none went now.
    pub(super) fn solicit(
        &mut self,
        prefix: EidPrefix,
        rloc: IpAddr,
        source_eid: Option<IpAddr>,
        times: u32,
    ) -> bool {
        let key = (prefix, rloc);
        let usable = is_locator(rloc)
            && !self.settings.is_own(rloc)
            && self.settings.source_for(rloc).is_some();
        if !usable {
            return false;
        }
        if let Some(session) = self.solicitor.sessions.get_mut(&key) {
            // About an earlier change; what comes next tells of this one too.
            session.left = session.left.max(times);
            return false;
        }
        let free_at = self.solicitor.sent.free_at(self.now, &key);
        if self.solicitor.sent.allow(self.now, key) {
            self.send_smr(prefix, rloc, source_eid);
            self.solicit_later(key, source_eid, times - 1, self.now + INTERVAL);
            true
        } else {
            self.counters.count("smr-not-sent-yet");
            if let Some(at) = free_at
                && times > 1
            {
                self.solicit_later(key, source_eid, times, at);
            }
            false
        }
    }

    fn solicit_later(
        &mut self,
        (prefix, rloc): (EidPrefix, IpAddr),
        source_eid: Option<IpAddr>,
        left: u32,
        at: Time,
    ) {
        if left > 0 && self.solicitor.sessions.len() < SESSIONS {
            let session = Session { left, source_eid };
            self.solicitor.sessions.insert((prefix, rloc), session);
            self.timers.set(Timer::Solicit(prefix, rloc), at);
        }
    }

    pub(super) fn solicit_again(&mut self, prefix: EidPrefix, rloc: IpAddr) {
        let key = (prefix, rloc);
        let Some(session) = self.solicitor.sessions.remove(&key) else {
            return;
        };
        self.solicitor.sent.allow(self.now, key);
        self.send_smr(prefix, rloc, session.source_eid);
        self.solicit_later(
            key,
            session.source_eid,
            session.left - 1,
            self.now + INTERVAL,
        );
    }

    fn send_smr(&mut self, prefix: EidPrefix, rloc: IpAddr, source_eid: Option<IpAddr>) {
        let nonce = self.nonce();
        let request = MapRequest {
            smr: true,
            pitr: self.settings.is_pitr(),
            // RFC 9301 5.2: an SMR wants no Map-Reply.
            dont_reply: self.settings.edition == Edition::Rfc9300,
            source_eid: source_eid.map_or(Address::None, |eid| Address::from_eid(prefix.iid, eid)),
            ..self.plain_request(prefix, nonce)
        };
        self.counters.count("smr-sent");
        let payload = ControlMessage::MapRequest(request).to_vec();
        self.send_control(Port::Client, rloc, payload);
    }

    /// A Map-Request about a local prefix: its sender knows, or will know, of the change (RFC 6830 6.6.2).
    pub(super) fn note_requester(&mut self, arrival: &Arrival, request: &MapRequest) {
        let nobody_waits = self.solicitor.sessions.is_empty()
            && self.solicitor.stale.is_empty()
            && self.database.report_senders.is_empty();
        if request.probe || nobody_waits {
            return;
        }
        let mut rlocs: Vec<IpAddr> = request.itr_rlocs.iter().filter_map(|r| r.ip()).collect();
        if !arrival.encapsulated {
            rlocs.push(arrival.outer_source);
        }
        let asked: Vec<EidPrefix> = request.records.iter().filter_map(|q| q.prefix()).collect();
        for (prefix, informed) in &mut self.database.report_senders {
            let concerned = asked.iter().any(|q| q.covers(prefix) || prefix.covers(q));
            if concerned && informed.len() < SESSIONS {
                informed.extend(rlocs.iter().copied());
            }
        }
        let concerns = |(prefix, rloc): &&(EidPrefix, IpAddr)| {
            rlocs.contains(rloc) && asked.iter().any(|q| q.covers(prefix) || prefix.covers(q))
        };
        let learning: Vec<_> = self
            .solicitor
            .stale
            .keys()
            .filter(concerns)
            .copied()
            .collect();
        for key in learning {
            self.solicitor.stale.remove(&key);
            self.show_local(&key.0);
        }
        let done: Vec<(EidPrefix, IpAddr)> = self
            .solicitor
            .sessions
            .keys()
            .filter(concerns)
            .copied()
            .collect();
        for (prefix, rloc) in done {
            self.solicitor.sessions.remove(&(prefix, rloc));
            self.timers.cancel(&Timer::Solicit(prefix, rloc));
        }
    }

    /// Data for a prefix whose mapping changed lately: its sender is told, unless it asked since.
    pub(super) fn on_sender(
        &mut self,
        iid: u32,
        source: IpAddr,
        eid: IpAddr,
        encapsulator: IpAddr,
    ) {
        self.glean(iid, source, &[encapsulator]);
        let Some((prefix, _)) = self.database.owner(iid, eid) else {
            return;
        };
        let uninformed = self
            .database
            .report_senders
            .get(&prefix)
            .is_some_and(|informed| !informed.contains(&encapsulator));
        if uninformed {
            self.solicit(prefix, encapsulator, Some(source), 1);
        }
    }

    /// Data for an EID that has no route in the site: its sender is told.
    pub(super) fn on_no_route(
        &mut self,
        iid: u32,
        source: IpAddr,
        eid: IpAddr,
        encapsulator: IpAddr,
    ) {
        self.counters.count("data-without-site-route");
        // Where only this host has no route, asking again would bring the same mapping.
        if let Some((prefix, local)) = self.database.owner(iid, eid)
            && !local.routed
        {
            self.solicit(prefix, encapsulator, Some(source), 1);
        }
    }

    /// Data for an EID that is not here any more: its sender is told.
    pub(super) fn on_away_eid(
        &mut self,
        iid: u32,
        source: IpAddr,
        eid: IpAddr,
        encapsulator: IpAddr,
    ) {
        self.counters.count("data-for-away-eid");
        if let Some((prefix, _)) = self.database.away.lookup(iid, eid) {
            self.solicit(prefix, encapsulator, Some(source), 1);
        }
    }
}
