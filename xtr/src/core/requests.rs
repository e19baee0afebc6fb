//! Outstanding Map-Requests: nonces, retransmission, back-off, choice of the Map-Resolver (RFC 6830 6.1.3, RFC 6833 4.1).

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use daemon::Time;
use lisp::wire::{ControlMessage, Ecm, EidQuery, MapRecord, MapRequest};
use lisp::{Address, CONTROL_PORT, EidPrefix};

use super::event::Port;
use super::limits::{Bucket, PerKey};
use super::locator_set::is_locator;
use super::map_cache::{Mapping, Origin, rlocs_of};
use super::settings::Settings;
use super::{Core, Timer};
use crate::forwarding::{Edition, HeldPacket};

/// Times that one Map-Resolver is asked: at 0, 1 and 3 s. The next one's turn comes at 7 s.
const TRIES_PER_RESOLVER: u32 = 3;
/// Times that a question is asked in all: once, and 10 retransmissions (RFC 9301 5.3).
const TRIES: u32 = 11;
/// After that many tries nothing is asked about the EID-Prefix for this long (RFC 9301 5.3).
const PAUSE: Duration = Duration::from_secs(30);
/// How long a Map-Resolver that stayed silent is passed over.
const RESOLVER_REST: Duration = Duration::from_secs(60);
/// Questions at one time.
const OUTSTANDING: usize = 65_536;
/// Retransmissions are a little late by chance rather than a little early.
const JITTER_MS: u64 = 40;

/// Why something is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A packet met no map-cache entry.
    Miss,
    /// An entry in use is about to expire.
    Refresh,
    /// A Solicit-Map-Request came (s bit).
    SmrInvoked,
    /// A gleaned or piggybacked mapping, or a newer map-version, is verified.
    Verify,
}

#[derive(Debug)]
struct Outstanding {
    question: EidPrefix,
    source_eid: Option<IpAddr>,
    purpose: Purpose,
    nonces: Vec<u64>,
    /// Locators that are asked first (RFC 6830 6.1.3: refreshes go to a locator of the cached set).
    direct: Option<IpAddr>,
    resolver: usize,
    tries_here: u32,
    tries: u32,
}

/// The questions that are not answered yet.
#[derive(Debug)]
pub struct Requests {
    by_id: BTreeMap<u64, Outstanding>,
    by_question: HashMap<EidPrefix, u64>,
    by_nonce: HashMap<u64, u64>,
    next_id: u64,
    per_prefix: PerKey<EidPrefix>,
    paused: PerKey<EidPrefix>,
    all: Bucket,
    /// By their places in the settings.
    resolvers: Vec<Resolver>,
}

/// What is known of a Map-Resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resolver {
    /// Passed over until then because it stayed silent.
    silent_until: Time,
    /// When it was asked last.
    pub last_asked: Option<Time>,
    /// When a question that it was asked last was answered.
    pub last_answered: Option<Time>,
}

impl Requests {
    /// No questions yet.
    pub fn new(settings: &Settings) -> Self {
        Self {
            by_id: BTreeMap::new(),
            by_question: HashMap::new(),
            by_nonce: HashMap::new(),
            next_id: 0,
            per_prefix: PerKey::new(Duration::from_secs(1), OUTSTANDING),
            paused: PerKey::new(PAUSE, OUTSTANDING),
            all: Bucket::new(settings.map_request_rate, settings.map_request_rate),
            resolvers: vec![Resolver::default(); settings.map_resolvers.len()],
        }
    }

    /// Other Map-Resolvers, another rate. Outstanding questions go on.
    pub fn reconfigure(&mut self, settings: &Settings) {
        self.all = Bucket::new(settings.map_request_rate, settings.map_request_rate);
        self.resolvers = vec![Resolver::default(); settings.map_resolvers.len()];
    }

    /// What was asked with this nonce, and why.
    pub fn question_of(&self, nonce: u64) -> Option<(EidPrefix, Purpose)> {
        let outstanding = self.by_id.get(self.by_nonce.get(&nonce)?)?;
        Some((outstanding.question, outstanding.purpose))
    }

    /// How many questions are open.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// When a prefix may be asked for again, if that is not now (RFC 6830 6.1.3: one a second; RFC 9301 5.3: the pause
    /// after a question that nobody answered). A question that is open is not asked anew.
    pub fn free_at(&self, now: Time, question: &EidPrefix) -> Option<Time> {
        if self.by_question.contains_key(question) {
            return None;
        }
        let limited = self.per_prefix.free_at(now, question);
        limited.max(self.paused.free_at(now, question))
    }

    /// Whether a Map-Resolver, by its place in the settings, is passed over because it stayed silent.
    pub fn is_silent(&self, resolver: usize, now: Time) -> bool {
        self.resolver(resolver).silent_until > now
    }

    /// What is known of a Map-Resolver, by its place in the settings.
    pub fn resolver(&self, resolver: usize) -> Resolver {
        self.resolvers.get(resolver).copied().unwrap_or_default()
    }

    fn take(&mut self, id: u64) -> Option<Outstanding> {
        let outstanding = self.by_id.remove(&id)?;
        self.by_question.remove(&outstanding.question);
        for nonce in &outstanding.nonces {
            self.by_nonce.remove(nonce);
        }
        Some(outstanding)
    }

    /// The preferred Map-Resolver that answered lately, or the preferred one if none did.
    fn first_resolver(&self, now: Time) -> usize {
        self.resolvers
            .iter()
            .position(|resolver| resolver.silent_until <= now)
            .unwrap_or(0)
    }
}

impl Core {
    /// A packet met no entry.
    pub(super) fn on_miss(
        &mut self,
        iid: u32,
        source: IpAddr,
        destination: IpAddr,
        packet: HeldPacket,
    ) {
        self.counters.count("miss");
        if !is_locator(destination) {
            // Multicast, link-local and the like have no mapping of their own.
            return self.counters.count("miss-not-unicast");
        }
        if let Some((prefix, entry)) = self.cache.lookup(iid, destination) {
            let asks = entry.mapping == Mapping::Negative(lisp::wire::Action::SendMapRequest);
            if !asks {
                // The mapping came while the packet was on its way here.
                self.show_entry(&prefix);
                return self.actions.push(super::Action::Release(vec![packet]));
            }
            // ACT 2 drops what it asks for; a static entry of that kind behaves like an empty map-cache.
            if entry.origin == Origin::Static {
                self.hold_packet(iid, destination, packet);
            }
        } else {
            self.hold_packet(iid, destination, packet);
        }
        self.ask(
            EidPrefix::host(iid, destination),
            Some(source),
            Purpose::Miss,
        );
    }

    fn hold_packet(&mut self, iid: u32, destination: IpAddr, packet: HeldPacket) {
        match self.settings.hold {
            Some(limits) if !packet.bytes.is_empty() => {
                let dropped = self.hold.push(limits, iid, destination, packet);
                self.counters.add("hold-overflow", dropped);
            }
            _ => self.counters.count("miss-dropped"),
        }
    }

    /// Asks about a prefix, unless that is being done, was just done, or is too much.
    pub(super) fn ask(
        &mut self,
        question: EidPrefix,
        source_eid: Option<IpAddr>,
        purpose: Purpose,
    ) {
        if let Some(id) = self.requests.by_question.get(&question) {
            // What an SMR asks for goes out with the s bit from now on.
            if purpose == Purpose::SmrInvoked
                && let Some(outstanding) = self.requests.by_id.get_mut(id)
            {
                outstanding.purpose = purpose;
            }
            return;
        }
        // Whatever it is asked for: RFC 9301 5.3 knows one pause.
        if self.requests.paused.free_at(self.now, &question).is_some() {
            return self.counters.count("map-request-paused");
        }
        let direct = self.direct_target(question, purpose);
        if self.settings.map_resolvers.is_empty() && direct.is_none() {
            return self.counters.count("no-map-resolver");
        }
        if self.requests.len() >= OUTSTANDING
            || !self.requests.per_prefix.allow(self.now, question)
            || !self.requests.all.allow(self.now)
        {
            return self.counters.count("map-request-limited");
        }
        let id = self.requests.next_id;
        self.requests.next_id += 1;
        self.requests.by_question.insert(question, id);
        self.requests.by_id.insert(
            id,
            Outstanding {
                question,
                source_eid,
                purpose,
                nonces: Vec::new(),
                direct,
                resolver: self.requests.first_resolver(self.now),
                tries_here: 0,
                tries: 0,
            },
        );
        self.transmit(id);
    }

    /// RFC 6830 6.1.3 sends refreshes to a locator of the cached set; RFC 9301 8.1 through the mapping system.
    fn direct_target(&self, question: EidPrefix, purpose: Purpose) -> Option<IpAddr> {
        if purpose != Purpose::Refresh || self.settings.edition != Edition::Rfc6830 {
            return None;
        }
        let entry = self.cache.entries.get(&question)?;
        rlocs_of(&entry.mapping)
            .into_iter()
            .find(|rloc| !self.prober.is_down(*rloc) && self.settings.source_for(*rloc).is_some())
    }

    fn transmit(&mut self, id: u64) {
        let nonce = self.nonce();
        let jitter = Duration::from_millis(self.random_below(JITTER_MS));
        let Some(outstanding) = self.requests.by_id.get_mut(&id) else {
            return;
        };
        outstanding.nonces.push(nonce);
        outstanding.tries += 1;
        outstanding.tries_here += 1;
        let wait = Duration::from_secs(1 << (outstanding.tries_here - 1).min(5));
        let (question, source_eid, purpose) = (
            outstanding.question,
            outstanding.source_eid,
            outstanding.purpose,
        );
        let (direct, resolver) = (outstanding.direct, outstanding.resolver);
        self.requests.by_nonce.insert(nonce, id);
        self.timers
            .set(Timer::Request(id), self.now + wait + jitter);
        let request = self.map_request(question, source_eid, nonce, purpose);
        let message = ControlMessage::MapRequest(request);
        self.counters.count("map-request-sent");
        if let Some(rloc) = direct {
            return self.send_control(Port::Client, rloc, message.to_vec());
        }
        if let Some(asked) = self.requests.resolvers.get_mut(resolver) {
            asked.last_asked = Some(self.now);
        }
        let Some(resolver) = self.settings.map_resolvers.get(resolver).copied() else {
            return;
        };
        let eid = question.prefix.addr();
        let ecm = Ecm::wrap(
            self.inner_source(question, source_eid),
            eid,
            self.client_port,
            CONTROL_PORT,
            64,
            &message,
        );
        let payload = ControlMessage::Encapsulated(ecm).to_vec();
        self.send_control(Port::Client, resolver, payload);
    }

    fn map_request(
        &self,
        question: EidPrefix,
        source_eid: Option<IpAddr>,
        nonce: u64,
        purpose: Purpose,
    ) -> MapRequest {
        MapRequest {
            pitr: self.settings.is_pitr(),
            smr_invoked: purpose == Purpose::SmrInvoked,
            source_eid: match source_eid {
                Some(source) if !self.settings.has_foreign_sources() => {
                    Address::from_eid(question.iid, source)
                }
                _ => Address::None,
            },
            map_reply: source_eid
                .filter(|_| self.settings.piggyback_own && !self.settings.has_foreign_sources())
                .and_then(|source| self.record_of(question.iid, source)),
            ..self.plain_request(question, nonce)
        }
    }

    /// The mapping of an own EID, to be brought along (RFC 6830 6.1.3).
    fn record_of(&self, iid: u32, eid: IpAddr) -> Option<MapRecord> {
        let (_, local) = self.database.owner(iid, eid)?;
        Some(self.own_record(&local.mapping))
    }

    /// A Map-Request with our ITR-RLOCs and one question, all bits clear.
    pub(super) fn plain_request(&self, question: EidPrefix, nonce: u64) -> MapRequest {
        let mut rlocs: Vec<IpAddr> = self.settings.rlocs_up().take(32).collect();
        if rlocs.is_empty() {
            rlocs = self.settings.rlocs.iter().copied().take(32).collect();
        }
        MapRequest {
            nonce,
            itr_rlocs: rlocs.into_iter().map(Address::from).collect(),
            records: vec![EidQuery::new(question)],
            ..MapRequest::default()
        }
    }

    /// The inner source of an Encapsulated Map-Request has the family of the EID: an own locator where there is one,
    /// otherwise the source EID, otherwise an own EID (RFC 6830 6.1.8).
    fn inner_source(&self, question: EidPrefix, source_eid: Option<IpAddr>) -> IpAddr {
        let eid = question.prefix.addr();
        let own_eid = || {
            self.database
                .locals
                .iter()
                .map(|(prefix, _)| prefix.prefix.addr())
                .find(|address| address.is_ipv4() == eid.is_ipv4())
        };
        self.settings
            .source_for(eid)
            .or(source_eid)
            .or_else(own_eid)
            .unwrap_or(if eid.is_ipv4() {
                std::net::Ipv4Addr::UNSPECIFIED.into()
            } else {
                std::net::Ipv6Addr::UNSPECIFIED.into()
            })
    }

    pub(super) fn request_timeout(&mut self, id: u64) {
        let Some(outstanding) = self.requests.by_id.get_mut(&id) else {
            return;
        };
        if outstanding.tries_here >= TRIES_PER_RESOLVER {
            outstanding.tries_here = 0;
            if outstanding.direct.take().is_none() {
                let silent = outstanding.resolver;
                if let Some(resolver) = self.requests.resolvers.get_mut(silent) {
                    resolver.silent_until = self.now + RESOLVER_REST;
                }
                outstanding.resolver = (silent + 1) % self.requests.resolvers.len().max(1);
                self.counters.count("map-resolver-silent");
            }
        }
        if outstanding.tries < TRIES && !self.settings.map_resolvers.is_empty() {
            return self.transmit(id);
        }
        if let Some(given_up) = self.requests.take(id) {
            self.give_up(&given_up);
        }
    }

    fn give_up(&mut self, given_up: &Outstanding) {
        let question = given_up.question;
        self.complain(
            "map-request-unanswered",
            format!(
                "no Map-Reply for {question} after {} Map-Requests",
                given_up.tries
            ),
        );
        self.requests.paused.allow(self.now, question);
        let held = self.hold.take_inside(&question).len();
        self.counters.add("held-dropped", held as u64);
    }

    /// A question is answered; its Map-Resolver lives.
    pub(super) fn request_answered(&mut self, nonce: u64) {
        let Some(id) = self.requests.by_nonce.get(&nonce).copied() else {
            return;
        };
        self.timers.cancel(&Timer::Request(id));
        if let Some(answered) = self.requests.take(id)
            && answered.direct.is_none()
            && let Some(resolver) = self.requests.resolvers.get_mut(answered.resolver)
        {
            resolver.silent_until = Time::ZERO;
            resolver.last_answered = Some(self.now);
        }
    }
}
