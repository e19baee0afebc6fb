//! The core in virtual time, driven with real messages.

mod holes;
mod hostile;
mod registers;
mod requests;
mod revoked;
mod state;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::Time;
use lisp::auth::{AuthKey, MacAlgorithm};
use lisp::wire::{
    ControlMessage, Ecm, EidQuery, Locator, MapNotify, MapRecord, MapRegister, MapReply, MapRequest,
};
use lisp::{Address, EidPrefix};

use super::site::*;
use super::*;

pub(super) const SERVER: &str = "198.51.100.10";
pub(super) const ETR: &str = "192.0.2.2";
pub(super) const ETR2: &str = "192.0.2.3";
pub(super) const ITR: &str = "192.0.2.77";

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn prefix(text: &str) -> EidPrefix {
    text.parse().unwrap()
}

pub(super) fn auth(secret: &str) -> AuthKey {
    AuthKey::new(0, MacAlgorithm::HmacSha256_128, secret.as_bytes())
}

pub(super) fn key(secret: &str) -> SiteKey {
    SiteKey {
        auth: Arc::new(auth(secret)),
        fingerprint: crate::core::request::fingerprint(&[secret.as_bytes()]),
    }
}

/// A site with the key "secret"; a prefix with a `+` accepts more-specifics.
pub(super) fn site(name: &str, prefixes: &[&str]) -> SiteConfig {
    SiteConfig {
        name: name.into(),
        keys: vec![key("secret")],
        prefixes: prefixes
            .iter()
            .map(|text| SitePrefix {
                prefix: prefix(text.trim_end_matches('+')),
                accept_more_specifics: text.ends_with('+'),
                deny: false,
            })
            .collect(),
        ..SiteConfig::default()
    }
}

pub(super) fn config(sites: Vec<SiteConfig>) -> Config {
    Config {
        sites,
        registration_timeout: Duration::from_secs(180),
        limits: Limits {
            map_reply_interval: Duration::ZERO,
            ..Limits::default()
        },
        ..Config::default()
    }
}

pub(super) fn locator(text: &str) -> Locator {
    Locator {
        priority: 1,
        weight: 100,
        mpriority: 255,
        local: true,
        reachable: true,
        rloc: Address::from(ip(text)),
        ..Locator::default()
    }
}

pub(super) fn record(eid: &str, ttl: u32, locators: &[&str]) -> MapRecord {
    MapRecord {
        authoritative: true,
        locators: locators.iter().map(|text| locator(text)).collect(),
        ..MapRecord::negative(prefix(eid), ttl, lisp::wire::Action::NoAction)
    }
}

pub(super) fn register(records: Vec<MapRecord>) -> MapRegister {
    MapRegister {
        want_map_notify: true,
        nonce: 0x42,
        records,
        ..MapRegister::default()
    }
}

pub(super) fn request(eid: &str) -> MapRequest {
    MapRequest {
        nonce: 0x0123_4567_89ab_cdef,
        itr_rlocs: vec![Address::from(ip(ITR))],
        records: vec![EidQuery::new(prefix(eid))],
        ..MapRequest::default()
    }
}

/// A core and its clock.
pub(super) struct Bench {
    pub(super) core: Core,
    pub(super) now: Time,
}

impl Bench {
    pub(super) fn new(config: Config) -> Self {
        let now = Time::from_secs(1_000_000);
        Self {
            core: Core::new(config, Families::BOTH, now, 7),
            now,
        }
    }

    pub(super) fn datagram(&mut self, source: &str, port: u16, payload: &[u8]) -> Vec<Transmit> {
        let mut out = Vec::new();
        let datagram = Datagram {
            source: SocketAddr::new(ip(source), port),
            destination: ip(SERVER),
            payload,
        };
        self.core.datagram(self.now, datagram, &mut out);
        out
    }

    /// Lets time pass, timer by timer.
    pub(super) fn pass(&mut self, seconds: u64) -> Vec<(Time, Transmit)> {
        let end = self.now + Duration::from_secs(seconds);
        let mut sent = Vec::new();
        while let Some(next) = self.core.next_timer().filter(|next| *next <= end) {
            assert!(next >= self.now || self.now <= end, "timers lie ahead");
            self.now = self.now.max(next);
            let mut out = Vec::new();
            self.core.timer(self.now, &mut out);
            assert!(
                self.core.next_timer().is_none_or(|after| after > self.now),
                "a timer that is done does not ask again for the same moment"
            );
            sent.extend(out.into_iter().map(|transmit| (self.now, transmit)));
        }
        self.now = end;
        sent
    }

    pub(super) fn register(&mut self, source: &str, register: &MapRegister) -> Vec<Transmit> {
        self.register_with(source, register, &auth("secret"))
    }

    pub(super) fn register_with(
        &mut self,
        source: &str,
        register: &MapRegister,
        key: &AuthKey,
    ) -> Vec<Transmit> {
        self.datagram(source, 48879, &register.to_signed_vec(key))
    }

    /// Registers one prefix of one ETR, whose locator is its source.
    pub(super) fn simple(&mut self, source: &str, eid: &str) -> Vec<Transmit> {
        self.register(source, &register(vec![record(eid, 1440, &[source])]))
    }

    /// Asks inside an Encapsulated Control Message, inner port 50000, outer port 54321.
    pub(super) fn ask_with(&mut self, request: &MapRequest) -> Vec<Transmit> {
        let message = ControlMessage::MapRequest(request.clone());
        let eid = request
            .records
            .first()
            .and_then(|query| query.eid.eid())
            .map_or(ip("203.0.113.1"), |(_, eid)| eid);
        let ecm = Ecm::wrap(ip(ITR), eid, 50000, 4342, 64, &message);
        self.datagram("192.0.2.1", 54321, &ecm.to_vec())
    }

    pub(super) fn ask(&mut self, eid: &str) -> Answer {
        answer(&self.ask_with(&request(eid)))
    }

    pub(super) fn counter(&self, site: &str, event: SiteEvent) -> u64 {
        let number = self.core.sites.number(site).unwrap();
        self.core.sites.get(number).unwrap().counters.get(event)
    }
}

/// What became of one question.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Nothing,
    /// Forwarded to this ETR or Map-Server.
    Forwarded(String),
    /// A negative record: prefix, TTL, ACT.
    Negative(String, u32, u8),
    /// A positive one: prefix, locators.
    Mapping(String, Vec<String>),
}

pub(super) fn answer(out: &[Transmit]) -> Answer {
    let Some(first) = out.first() else {
        return Answer::Nothing;
    };
    assert_eq!(out.len(), 1, "one question has one consequence: {out:?}");
    if first.payload[0] >> 4 == 8 {
        assert_eq!(first.port, SourcePort::Random);
        assert_eq!(first.to.port(), 4342);
        return Answer::Forwarded(first.to.ip().to_string());
    }
    let record = &reply(first).records[0];
    let prefix = record.eid_prefix().unwrap().to_string();
    if record.locators.is_empty() {
        Answer::Negative(prefix, record.ttl, record.action.code())
    } else {
        let rlocs = record
            .locators
            .iter()
            .map(|locator| locator.rloc.to_string());
        Answer::Mapping(prefix, rlocs.collect())
    }
}

pub(super) fn reply(transmit: &Transmit) -> MapReply {
    assert_eq!(transmit.port, SourcePort::Control);
    MapReply::parse(&transmit.payload).unwrap()
}

pub(super) fn notify(transmit: &Transmit) -> MapNotify {
    assert_eq!(transmit.port, SourcePort::Control);
    MapNotify::parse(&transmit.payload).unwrap()
}

pub(super) fn negative(prefix: &str, ttl: u32) -> Answer {
    Answer::Negative(prefix.into(), ttl, 1)
}

pub(super) fn forwarded(to: &str) -> Answer {
    Answer::Forwarded(to.into())
}
