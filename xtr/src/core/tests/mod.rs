//! The core in virtual time.

mod etr;
mod itr;
mod optional;
mod proxy;
mod reachability;
mod registration;
mod sequences;
mod smr;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::Time;
use lisp::auth::{AuthKey, MacAlgorithm};
use lisp::wire::{
    ControlMessage, Locator, MapNotify, MapRecord, MapRegister, MapReply, MapRequest,
};
use lisp::{CONTROL_PORT, EidPrefix};

use super::event::{Action, Datagram, Event, Forward, Traffic};
use super::settings::{HoldLimits, LocalLocator, LocalMapping, MapServer, Settings};
use super::{Core, Seeded};
use crate::forwarding::{DataEvent, Edition, HeldPacket, Role};

pub(super) const CLIENT_PORT: u16 = 40000;
pub(super) const OWN: &str = "192.0.2.1";
pub(super) const MAP_SERVER: &str = "198.51.100.10";
pub(super) const RESOLVERS: [&str; 2] = ["198.51.100.11", "198.51.100.12"];
pub(super) const PEER: &str = "192.0.2.2";
pub(super) const HOST: &str = "10.1.0.10";

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn prefix(text: &str) -> EidPrefix {
    text.parse().unwrap()
}

pub(super) fn key() -> AuthKey {
    AuthKey::new(0, MacAlgorithm::HmacSha256_128, b"secret")
}

pub(super) fn own_mapping(text: &str) -> LocalMapping {
    LocalMapping {
        prefix: prefix(text),
        ttl: 1440,
        locators: vec![own_locator(OWN)],
        dynamic: false,
        first_version: 1,
        policies: Vec::new(),
    }
}

pub(super) fn own_locator(address: &str) -> LocalLocator {
    LocalLocator {
        address: ip(address),
        priority: 1,
        weight: 100,
        mpriority: 255,
        mweight: 0,
        up: true,
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        edition: Edition::Rfc6830,
        role: Role::Xtr,
        rlocs: vec![ip(OWN)],
        held_down: BTreeSet::new(),
        database: vec![own_mapping("10.1.0.0/24")],
        map_servers: vec![MapServer {
            address: ip(MAP_SERVER),
            key: key(),
            want_map_notify: true,
            proxy_reply: false,
        }],
        map_resolvers: RESOLVERS.iter().map(|r| ip(r)).collect(),
        register_interval: Duration::from_secs(60),
        quick_registration: None,
        register_nonce: 1000,
        static_entries: Vec::new(),
        probe_interval: None,
        map_request_rate: 1000,
        map_cache_limit: 1000,
        minimum_prefix_length: (0, 0),
        hold: Some(HoldLimits {
            per_eid: 4,
            total: 16,
        }),
        locator_status_bits: false,
        map_versioning: false,
        use_lsb_timer: Duration::from_secs(300),
        echo_nonce: false,
        echo_nonce_interval: Duration::from_secs(10),
        piggyback: false,
        piggyback_own: false,
        data_probes: false,
        map_reply_interval: Duration::from_secs(1),
        dynamic_eid_timeout: Duration::from_secs(24 * 3600),
        glean: false,
        public_internet: false,
        petrs: Vec::new(),
        petr_sources: Vec::new(),
        petr_locators: Vec::new(),
        aggregates: Vec::new(),
        translations: Vec::new(),
        misses_to_petr: false,
        xtr_site_id: None,
    }
}

/// Traffic that a test declares.
#[derive(Debug, Clone, Default)]
pub(super) struct Used(Arc<Mutex<HashMap<EidPrefix, Time>>>);

impl Traffic for Used {
    fn last_used(&self, prefix: &EidPrefix) -> Option<Time> {
        self.0.lock().unwrap().get(prefix).copied()
    }
}

/// A core, its clock, and everything it did.
pub(super) struct Bench {
    pub(super) core: Core,
    pub(super) now: Time,
    pub(super) done: Vec<(Time, Action)>,
    pub(super) used: Used,
}

/// A control message that the core sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) at: Time,
    pub(super) to: SocketAddr,
    pub(super) message: ControlMessage,
    pub(super) payload: Vec<u8>,
}

impl Bench {
    /// A started core whose first registration is done and forgotten.
    pub(super) fn new(settings: Settings) -> Self {
        let mut bench = Self::fresh(settings);
        bench.at(0);
        bench.done.clear();
        bench
    }

    /// A started core.
    pub(super) fn fresh(settings: Settings) -> Self {
        let used = Used::default();
        let core = Core::new(
            settings,
            CLIENT_PORT,
            Box::new(Seeded(1)),
            Box::new(used.clone()),
        );
        let mut bench = Self {
            core,
            now: Time::ZERO,
            done: Vec::new(),
            used,
        };
        bench.event(Event::Start);
        bench
    }

    pub(super) fn event(&mut self, event: Event) {
        let now = self.now;
        let actions = self.core.handle(now, event);
        self.done
            .extend(actions.into_iter().map(|action| (now, action)));
    }

    /// Lets time pass up to a moment, with every tick at its time.
    pub(super) fn at(&mut self, millis: u64) {
        let until = Time::from_millis(millis);
        while let Some(deadline) = self.core.next_deadline() {
            if deadline > until {
                break;
            }
            self.now = self.now.max(deadline);
            self.event(Event::Tick);
        }
        self.now = until;
    }

    pub(super) fn at_s(&mut self, seconds: u64) {
        self.at(seconds * 1000);
    }

    pub(super) fn receive_on(&mut self, port: u16, from: &str, payload: Vec<u8>) {
        self.event(Event::Received(Datagram {
            source: SocketAddr::new(ip(from), CONTROL_PORT),
            destination: SocketAddr::new(ip(OWN), port),
            payload,
        }));
    }

    pub(super) fn receive(&mut self, from: &str, message: &ControlMessage) {
        self.receive_on(CONTROL_PORT, from, message.to_vec());
    }

    pub(super) fn miss(&mut self, destination: &str) {
        self.event(Event::Data(DataEvent::Miss {
            iid: 0,
            source: ip(HOST),
            destination: ip(destination),
            packet: HeldPacket {
                iid: 0,
                bytes: vec![1],
            },
        }));
    }

    pub(super) fn uses(&mut self, text: &str) {
        let now = self.now;
        self.used.0.lock().unwrap().insert(prefix(text), now);
    }

    /// Everything sent since the last call; other actions stay.
    pub(super) fn sent(&mut self) -> Vec<Sent> {
        let (sent, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.done)
            .into_iter()
            .partition(|(_, action)| matches!(action, Action::Send { .. }));
        self.done = rest;
        sent.into_iter()
            .filter_map(|(at, action)| match action {
                Action::Send { to, payload, .. } => Some(Sent {
                    at,
                    to,
                    message: ControlMessage::parse(&payload).unwrap(),
                    payload,
                }),
                _ => None,
            })
            .collect()
    }

    /// Map-Requests sent since the last call, with the address they went to; encapsulated ones are unwrapped.
    pub(super) fn requests(&mut self) -> Vec<(Time, IpAddr, MapRequest)> {
        self.sent()
            .into_iter()
            .filter_map(|sent| match sent.message {
                ControlMessage::MapRequest(request) => Some((sent.at, sent.to.ip(), request)),
                ControlMessage::Encapsulated(ecm) => match *ecm.decode_inner().unwrap().message {
                    ControlMessage::MapRequest(request) => Some((sent.at, sent.to.ip(), request)),
                    _ => None,
                },
                _ => None,
            })
            .collect()
    }

    pub(super) fn registers(&mut self) -> Vec<(Time, MapRegister)> {
        self.sent()
            .into_iter()
            .filter_map(|sent| match sent.message {
                ControlMessage::MapRegister(register) => Some((sent.at, register)),
                _ => None,
            })
            .collect()
    }

    pub(super) fn replies(&mut self) -> Vec<(SocketAddr, MapReply)> {
        self.sent()
            .into_iter()
            .filter_map(|sent| match sent.message {
                ControlMessage::MapReply(reply) => Some((sent.to, reply)),
                _ => None,
            })
            .collect()
    }

    /// The last thing that the packet path was told about a map-cache entry; none: nothing, or removed.
    pub(super) fn installed(&self, text: &str) -> Option<Forward> {
        let wanted = prefix(text);
        self.done
            .iter()
            .rev()
            .find_map(|(_, action)| match action {
                Action::Install {
                    prefix, forward, ..
                } if *prefix == wanted => Some(Some(forward.clone())),
                Action::Remove(prefix) if *prefix == wanted => Some(None),
                _ => None,
            })?
    }

    pub(super) fn count(&self, reason: &'static str) -> u64 {
        self.core.counters().get(reason)
    }

    /// Asks for a destination and answers with this record.
    pub(super) fn learn(&mut self, destination: &str, record: MapRecord) {
        self.sent();
        self.miss(destination);
        let (_, _, request) = self.requests().pop().expect("a miss asks");
        self.answer(&request, vec![record]);
    }

    pub(super) fn answer(&mut self, request: &MapRequest, records: Vec<MapRecord>) {
        let reply = MapReply {
            nonce: request.nonce,
            records,
            ..MapReply::default()
        };
        let payload = ControlMessage::MapReply(reply).to_vec();
        self.receive_on(CLIENT_PORT, PEER, payload);
    }

    pub(super) fn notify_all(&mut self) {
        for sent in self.sent() {
            if let ControlMessage::MapRegister(register) = sent.message {
                self.notify(register.nonce, register.records);
            }
        }
    }

    pub(super) fn notify(&mut self, nonce: u64, records: Vec<MapRecord>) {
        let notify = MapNotify {
            nonce,
            auth: key().blank(),
            records,
            ..MapNotify::default()
        };
        let payload = notify.to_signed_vec(&key());
        self.receive_on(CONTROL_PORT, MAP_SERVER, payload);
    }
}

pub(super) fn locator(address: &str, priority: u8, weight: u8) -> Locator {
    Locator {
        priority,
        weight,
        reachable: true,
        rloc: ip(address).into(),
        ..Locator::default()
    }
}

pub(super) fn positive(text: &str, ttl: u32, locators: Vec<Locator>) -> MapRecord {
    MapRecord {
        locators,
        authoritative: true,
        ..MapRecord::negative(prefix(text), ttl, lisp::wire::Action::NoAction)
    }
}

pub(super) fn to_peer(text: &str, ttl: u32) -> MapRecord {
    positive(text, ttl, vec![locator(PEER, 1, 100)])
}

pub(super) fn ask_for(text: &str, nonce: u64, itr_rloc: &str) -> MapRequest {
    MapRequest {
        nonce,
        itr_rlocs: vec![ip(itr_rloc).into()],
        records: vec![lisp::wire::EidQuery::new(prefix(text))],
        ..MapRequest::default()
    }
}
