//! Sequences of events, friendly and hostile: the core never panics, never loses configured state, never runs hot, and
//! what it told the packet path is what it believes.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::core::settings::{StaticEntry, StaticPath};
use crate::core::{Change, ForwardLocator};
use lisp::wire::{Action as RecordAction, Ecm, EidQuery};

const EIDS: [&str; 6] = [
    "10.1.0.0/24",
    "10.1.0.7/32",
    "203.0.113.0/24",
    "203.0.113.20/32",
    "203.0.0.0/16",
    "0.0.0.0/0",
];
const RLOCS: [&str; 6] = [
    PEER,
    "192.0.2.3",
    OWN,
    "224.0.0.1",
    "0.0.0.0",
    "2001:db8::1",
];

/// One step of a sequence.
#[derive(Debug, Clone)]
enum Step {
    /// Time passes.
    Wait(u64),
    /// Any octets on any port.
    Octets(bool, Vec<u8>),
    /// A well-formed Map-Request with any bits.
    Request(MapRequest, bool),
    /// A Map-Reply to an outstanding nonce (by its place), or to none.
    Reply(Option<prop::sample::Index>, bool, Vec<MapRecord>),
    /// A Map-Notify, authentic or not.
    Notify(bool, u64, Vec<MapRecord>),
    /// An earlier datagram once more, with one octet changed or as it was.
    Replay(prop::sample::Index, Option<(prop::sample::Index, u8)>),
    Data(DataEvent),
    Change(Change),
    Route(usize, bool),
    Use(usize),
    Reload,
}

fn eid() -> impl Strategy<Value = EidPrefix> {
    (0..EIDS.len()).prop_map(|n| prefix(EIDS[n]))
}

fn rloc() -> impl Strategy<Value = IpAddr> {
    (0..RLOCS.len()).prop_map(|n| ip(RLOCS[n]))
}

fn host() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        Just(ip("203.0.113.20")),
        Just(ip("10.1.0.7")),
        Just(ip("198.18.0.1")),
        Just(ip("2001:db8:5::1")),
    ]
}

fn record() -> impl Strategy<Value = MapRecord> {
    let locator = (rloc(), any::<u8>(), any::<u8>(), any::<[bool; 3]>()).prop_map(
        |(rloc, priority, weight, [reachable, probed, local])| Locator {
            rloc: rloc.into(),
            priority,
            weight,
            reachable,
            probed,
            local,
            ..Locator::default()
        },
    );
    let ttl = prop_oneof![Just(0), Just(1), Just(1440), Just(u32::MAX), any::<u32>()];
    (
        eid(),
        ttl,
        0u8..8,
        prop::collection::vec(locator, 0..4),
        any::<bool>(),
    )
        .prop_map(|(eid, ttl, action, locators, authoritative)| MapRecord {
            locators,
            authoritative,
            ..MapRecord::negative(eid, ttl, RecordAction::from_code(action))
        })
}

fn records() -> impl Strategy<Value = Vec<MapRecord>> {
    prop::collection::vec(record(), 0..4)
}

fn request() -> impl Strategy<Value = MapRequest> {
    (
        any::<[bool; 6]>(),
        any::<u64>(),
        prop::collection::vec(rloc(), 1..4),
        prop::collection::vec(eid(), 0..4),
    )
        .prop_map(
            |([probe, smr, pitr, smr_invoked, authoritative, dont_reply], nonce, rlocs, eids)| {
                MapRequest {
                    probe,
                    smr,
                    pitr,
                    smr_invoked,
                    authoritative,
                    dont_reply,
                    nonce,
                    itr_rlocs: rlocs.into_iter().map(Into::into).collect(),
                    records: eids.into_iter().map(EidQuery::new).collect(),
                    ..MapRequest::default()
                }
            },
        )
}

fn data() -> impl Strategy<Value = DataEvent> {
    let iid = prop_oneof![4 => Just(0u32), 1 => Just(7u32)];
    (iid, host(), host(), rloc(), 0u8..8, any::<u32>()).prop_map(
        |(iid, source, eid, encapsulator, kind, number)| match kind {
            0 | 1 => DataEvent::Miss {
                iid,
                source,
                destination: eid,
                packet: HeldPacket {
                    iid,
                    bytes: vec![0; 20],
                },
            },
            2 => DataEvent::NoRoute {
                iid,
                source,
                eid,
                encapsulator,
            },
            3 => DataEvent::AwayEid {
                iid,
                source,
                eid,
                encapsulator,
                known: number & 1 == 0,
            },
            4 => DataEvent::LocatorStatus {
                iid,
                source,
                encapsulator,
                bits: number,
                width: if number & 1 == 0 { 32 } else { 8 },
            },
            5 => DataEvent::Unreachable {
                rloc: encapsulator,
                reporter: None,
                kind: 3,
                code: 1,
            },
            6 => DataEvent::MapVersion {
                iid,
                source,
                destination: eid,
                encapsulator,
                source_version: (number & 0xfff) as u16,
                destination_version: (number >> 12 & 0xfff) as u16,
            },
            _ => DataEvent::SourceSeen { iid, source },
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    use prop::sample::Index;
    let change = prop_oneof![
        Just(Change::Add(own_mapping("10.7.0.0/24"))),
        Just(Change::Remove(prefix("10.7.0.0/24"))),
        any::<bool>().prop_map(|up| Change::Locator {
            address: ip(OWN),
            up
        }),
        prop::option::of(eid()).prop_map(Change::ClearMapCache),
    ];
    prop_oneof![
        3 => (0u64..90_000).prop_map(Step::Wait),
        1 => (any::<bool>(), prop::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(control, octets)| Step::Octets(control, octets)),
        3 => (request(), any::<bool>()).prop_map(|(r, wrapped)| Step::Request(r, wrapped)),
        5 => (prop::option::weighted(0.8, any::<Index>()), any::<bool>(), records())
            .prop_map(|(index, probe, records)| Step::Reply(index, probe, records)),
        2 => (any::<bool>(), any::<u64>(), records())
            .prop_map(|(good, nonce, records)| Step::Notify(good, nonce % 3, records)),
        2 => (any::<Index>(), prop::option::of((any::<Index>(), any::<u8>())))
            .prop_map(|(which, flip)| Step::Replay(which, flip)),
        5 => data().prop_map(Step::Data),
        1 => change.prop_map(Step::Change),
        1 => (0..2usize, any::<bool>()).prop_map(|(n, up)| Step::Route(n, up)),
        2 => (0..EIDS.len()).prop_map(Step::Use),
        1 => Just(Step::Reload),
    ]
}

fn configuration(edition: Edition) -> Settings {
    let mut settings = settings();
    settings.edition = edition;
    settings.probe_interval = Some(Duration::from_secs(10));
    settings.locator_status_bits = true;
    settings.map_versioning = true;
    settings.echo_nonce = true;
    settings.glean = true;
    settings.database[0].dynamic = true;
    settings.map_cache_limit = 8;
    settings.static_entries = vec![StaticEntry {
        prefix: prefix("203.0.113.0/28"),
        path: StaticPath::Drop,
    }];
    settings
}

/// A run, and what the packet path was told.
struct Run {
    bench: Bench,
    settings: Settings,
    nonces: Vec<(u64, bool)>,
    datagrams: Vec<(u16, Vec<u8>)>,
    path: BTreeSet<EidPrefix>,
}

impl Run {
    fn new(edition: Edition) -> Self {
        let settings = configuration(edition);
        let mut run = Self {
            bench: Bench::fresh(settings.clone()),
            settings,
            nonces: Vec::new(),
            datagrams: Vec::new(),
            path: BTreeSet::new(),
        };
        run.bench.event(Event::Tick);
        run.check();
        run
    }

    fn receive(&mut self, port: u16, payload: Vec<u8>) {
        self.datagrams.push((port, payload.clone()));
        self.bench.receive_on(port, PEER, payload);
    }

    fn take(&mut self, step: Step) {
        let now = self.bench.now.since_origin().as_millis() as u64;
        match step {
            Step::Wait(millis) => self.bench.at(now + millis),
            Step::Octets(control, octets) => {
                self.receive(if control { CONTROL_PORT } else { CLIENT_PORT }, octets);
            }
            Step::Request(request, wrapped) => {
                let mut message = ControlMessage::MapRequest(request);
                if wrapped {
                    let (from, to) = (ip(PEER), ip("10.1.0.7"));
                    let ecm = Ecm::wrap(from, to, 5000, 4342, 64, &message);
                    message = ControlMessage::Encapsulated(ecm);
                }
                self.receive(CONTROL_PORT, message.to_vec());
            }
            Step::Reply(index, probe, records) => {
                let known = index
                    .filter(|_| !self.nonces.is_empty())
                    .map(|index| *index.get(&self.nonces));
                let (nonce, probe) = known.unwrap_or((12345, probe));
                let reply = MapReply {
                    nonce,
                    probe,
                    records,
                    ..MapReply::default()
                };
                self.receive(CLIENT_PORT, ControlMessage::MapReply(reply).to_vec());
            }
            Step::Notify(authentic, nonce, records) => {
                let notify = MapNotify {
                    nonce,
                    auth: key().blank(),
                    records,
                    ..MapNotify::default()
                };
                let wrong = AuthKey::new(0, MacAlgorithm::HmacSha256_128, b"x");
                let key = if authentic { key() } else { wrong };
                self.receive(CONTROL_PORT, notify.to_signed_vec(&key));
            }
            Step::Replay(which, flip) => {
                if self.datagrams.is_empty() {
                    return;
                }
                let (port, mut payload) = which.get(&self.datagrams).clone();
                if let Some((at, value)) = flip
                    && !payload.is_empty()
                {
                    let at = at.index(payload.len());
                    payload[at] ^= value;
                }
                self.receive(port, payload);
            }
            Step::Data(event) => self.bench.event(Event::Data(event)),
            Step::Change(change) => self.bench.event(Event::Change(change)),
            Step::Route(n, present) => self.bench.event(Event::SiteRoute {
                prefix: prefix(["10.1.0.0/24", "10.7.0.0/24"][n]),
                present,
            }),
            Step::Use(n) => self.bench.uses(EIDS[n]),
            Step::Reload => {
                let settings = Box::new(self.settings.clone());
                self.bench.event(Event::Reload(settings));
            }
        }
        self.bench.event(Event::Tick);
        self.check();
    }

    fn check(&mut self) {
        let now = self.bench.now;
        for (_, action) in std::mem::take(&mut self.bench.done) {
            match action {
                Action::Install {
                    prefix, forward, ..
                } => {
                    self.path.insert(prefix);
                    if let Forward::Encapsulate(locators) = forward {
                        assert!(!locators.iter().any(leads_nowhere), "{locators:?}");
                    }
                }
                Action::Remove(prefix) => assert!(self.path.remove(&prefix), "{prefix} twice"),
                Action::Send { to, payload, .. } => self.check_sent(to, &payload),
                _ => {}
            }
        }
        let core = &self.bench.core;
        let believed: BTreeSet<EidPrefix> = core.cache.entries.prefixes().into_iter().collect();
        assert_eq!(
            believed, self.path,
            "the packet path has what the core believes"
        );
        assert!(
            believed.contains(&prefix("203.0.113.0/28")),
            "static entries stay"
        );
        assert!(believed.len() <= 9, "the limit holds");
        let row = core.show_database(now);
        assert!(
            row.iter().any(|row| row.prefix == "10.1.0.0/24"),
            "the database stays"
        );
        assert!(core.hold.len() <= 16);
        if let Some(deadline) = core.next_deadline() {
            assert!(deadline > now, "a deadline in the past would run hot");
        }
        drop((core.show_map_cache(now), core.show_away(now)));
        drop((core.show_rlocs(now), core.show_neighbors(now)));
    }

    fn check_sent(&mut self, to: SocketAddr, payload: &[u8]) {
        let target = to.ip();
        assert!(
            !target.is_multicast() && !target.is_unspecified(),
            "sent to {to}"
        );
        let message = ControlMessage::parse(payload).expect("what we send can be read");
        let request = match message {
            ControlMessage::Encapsulated(ecm) => match *ecm.decode_inner().unwrap().message {
                ControlMessage::MapRequest(request) => {
                    assert!(!request.probe && !request.smr, "never encapsulated");
                    request
                }
                other => panic!("encapsulated {other:?}"),
            },
            ControlMessage::MapRequest(request) => request,
            _ => return,
        };
        assert_eq!(request.records.len(), 1);
        assert!(!request.itr_rlocs.is_empty());
        let fresh = !self.nonces.iter().any(|(nonce, _)| *nonce == request.nonce);
        assert!(fresh, "a nonce twice");
        if !request.smr {
            self.nonces.push((request.nonce, request.probe));
        }
    }
}

fn leads_nowhere(locator: &ForwardLocator) -> bool {
    locator.usable
        && locator
            .rloc
            .is_none_or(|rloc| rloc.is_multicast() || rloc.is_unspecified() || rloc == ip(OWN))
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn any_sequence_of_events(
        newer in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let edition = if newer { Edition::Rfc9300 } else { Edition::Rfc6830 };
        let mut run = Run::new(edition);
        for step in steps {
            run.take(step);
        }
    }
}
