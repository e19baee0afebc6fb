//! Map-Replies.

use super::*;
use crate::core::settings::RequesterPolicy;
use lisp::Address;
use lisp::wire::{Ecm, EidQuery};

fn asked(bench: &mut Bench, request: MapRequest) -> Vec<(SocketAddr, MapReply)> {
    bench.receive("192.0.2.77", &ControlMessage::MapRequest(request));
    bench.replies()
}

fn prefixes(reply: &MapReply) -> Vec<String> {
    reply
        .records
        .iter()
        .map(|record| record.eid_prefix().unwrap().to_string())
        .collect()
}

#[test]
fn the_reply_goes_to_an_itr_rloc_and_the_inner_port() {
    let mut bench = Bench::new(settings());
    let mut request = ask_for("10.1.0.7/32", 42, PEER);
    request.itr_rlocs.insert(0, ip("2001:db8::1").into());
    let ecm = Ecm::wrap(
        ip("192.0.2.99"),
        ip("10.1.0.7"),
        5555,
        4342,
        64,
        &ControlMessage::MapRequest(request),
    );
    bench.receive(MAP_SERVER, &ControlMessage::Encapsulated(ecm));
    let replies = bench.replies();
    assert_eq!(replies.len(), 1);
    let (to, reply) = &replies[0];
    assert_eq!(
        *to,
        SocketAddr::new(ip(PEER), 5555),
        "an ITR-RLOC of our family, the port of the inner header"
    );
    assert_eq!(reply.nonce, 42);
    assert!(!reply.probe);
    assert_eq!(prefixes(reply), ["10.1.0.0/24"]);
    assert!(reply.records[0].authoritative);
}

#[test]
fn nobody_answers_for_foreign_eids() {
    let mut bench = Bench::new(settings());
    assert!(asked(&mut bench, ask_for("233.252.0.1/32", 1, PEER)).is_empty());
    assert!(asked(&mut bench, ask_for("[9]10.1.0.7/32", 2, PEER)).is_empty());
    let empty = MapRequest {
        records: Vec::new(),
        ..ask_for("10.1.0.7/32", 3, PEER)
    };
    assert!(asked(&mut bench, empty).is_empty());
    assert_eq!(bench.count("map-request-not-for-local-eid"), 3);
}

#[test]
fn without_an_itr_rloc_there_is_nobody_to_answer() {
    let mut bench = Bench::new(settings());
    for rloc in [
        Address::None,
        ip("2001:db8::1").into(),
        ip("224.0.0.1").into(),
        ip("0.0.0.0").into(),
    ] {
        let request = MapRequest {
            itr_rlocs: vec![rloc],
            ..ask_for("10.1.0.7/32", 4, PEER)
        };
        assert!(asked(&mut bench, request).is_empty());
    }
    assert_eq!(bench.count("map-request-without-itr-rloc"), 4);
}

fn overlapping() -> Settings {
    let mut overlapping = settings();
    overlapping.database = ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.2.0/24"]
        .iter()
        .map(|text| own_mapping(text))
        .collect();
    overlapping.database[2].ttl = 60;
    overlapping
}

#[test]
fn overlapping_prefixes_are_complete_and_never_less_specific() {
    let mut bench = Bench::new(overlapping());
    let replies = asked(&mut bench, ask_for("10.1.1.1/32", 1, PEER));
    assert_eq!(prefixes(&replies[0].1), ["10.1.1.0/24"]);
    let replies = asked(&mut bench, ask_for("10.1.5.5/32", 2, PEER));
    assert_eq!(
        prefixes(&replies[0].1),
        ["10.1.0.0/16", "10.1.1.0/24", "10.1.2.0/24"]
    );
    assert!(replies[0].1.records.iter().all(|record| record.ttl == 60));
}

#[test]
fn several_questions_get_one_reply() {
    let mut bench = Bench::new(overlapping());
    let mut request = ask_for("10.1.1.1/32", 1, PEER);
    request.records.push(EidQuery::new(prefix("10.1.2.1/32")));
    let replies = asked(&mut bench, request);
    assert_eq!(prefixes(&replies[0].1), ["10.1.1.0/24", "10.1.2.0/24"]);
}

#[test]
fn locators_are_sorted_ipv4_first() {
    let mut many = settings();
    many.database[0].locators = ["2001:db8::1", "192.0.2.9", OWN, "10.9.9.9"]
        .iter()
        .map(|address| own_locator(address))
        .collect();
    let mut bench = Bench::new(many);
    let replies = asked(&mut bench, ask_for("10.1.0.7/32", 1, PEER));
    let locators = &replies[0].1.records[0].locators;
    let found: Vec<String> = locators.iter().map(|l| l.rloc.to_string()).collect();
    assert_eq!(found, ["10.9.9.9", OWN, "192.0.2.9", "2001:db8::1"]);
    let local: Vec<bool> = locators.iter().map(|l| l.local).collect();
    assert_eq!(local, [false, true, false, false], "L on our own only");
}

#[test]
fn a_probe_is_answered_for_the_probed_locator() {
    let mut two = settings();
    two.database[0].locators.push(own_locator("192.0.2.9"));
    let mut bench = Bench::new(two);
    let probe = MapRequest {
        probe: true,
        ..ask_for("10.1.0.0/24", 9, PEER)
    };
    let (to, reply) = asked(&mut bench, probe.clone()).pop().unwrap();
    assert_eq!(to, SocketAddr::new(ip(PEER), CONTROL_PORT));
    assert!(reply.probe);
    assert_eq!(reply.nonce, 9);
    let probed: Vec<bool> = reply.records[0].locators.iter().map(|l| l.probed).collect();
    assert_eq!(probed, [true, false]);

    let wrapped = Ecm::wrap(
        ip(PEER),
        ip("10.1.0.7"),
        4342,
        4342,
        64,
        &ControlMessage::MapRequest(probe),
    );
    bench.at_s(5);
    bench.receive(MAP_SERVER, &ControlMessage::Encapsulated(wrapped));
    assert!(bench.replies().is_empty(), "probes are never encapsulated");
}

#[test]
fn replies_are_limited_per_prefix_and_requester() {
    let mut bench = Bench::new(settings());
    let mut answered = 0;
    for n in 0..30 {
        bench.at(n * 100);
        answered += asked(&mut bench, ask_for("10.1.0.7/32", n, PEER)).len();
    }
    assert_eq!(answered, 3);
    assert_eq!(
        asked(&mut bench, ask_for("10.1.0.7/32", 99, "192.0.2.3")).len(),
        1
    );
}

#[test]
fn requesters_may_be_told_other_priorities() {
    let mut with_policy = settings();
    with_policy.database[0].policies = vec![RequesterPolicy {
        requesters: vec!["192.0.2.0/30".parse().unwrap()],
        locators: vec![(ip(OWN), 7, 30)],
    }];
    let mut bench = Bench::new(with_policy);
    let mut seen = |requester: &str| {
        let reply = asked(&mut bench, ask_for("10.1.0.7/32", 1, requester))
            .pop()
            .unwrap()
            .1;
        let locator = &reply.records[0].locators[0];
        (locator.priority, locator.weight)
    };
    assert_eq!(seen(PEER), (7, 30));
    assert_eq!(seen("192.0.2.77"), (1, 100));
}

#[test]
fn a_locator_held_down_is_announced_unreachable() {
    let mut bench = Bench::new(settings());
    bench.event(Event::Change(crate::core::Change::Locator {
        address: ip(OWN),
        up: false,
    }));
    let reply = asked(&mut bench, ask_for("10.1.0.7/32", 1, PEER))
        .pop()
        .unwrap()
        .1;
    assert!(!reply.records[0].locators[0].reachable);
}

#[test]
fn dont_map_reply_is_heeded() {
    let mut bench = Bench::new(settings());
    let request = MapRequest {
        dont_reply: true,
        ..ask_for("10.1.0.7/32", 1, PEER)
    };
    assert!(asked(&mut bench, request).is_empty());
}

#[test]
fn broken_messages_are_counted_by_reason() {
    let mut bench = Bench::new(settings());
    let good = ControlMessage::MapRequest(ask_for("10.1.0.7/32", 1, PEER)).to_vec();
    for end in 0..good.len() {
        bench.receive_on(CONTROL_PORT, PEER, good[..end].to_vec());
    }
    assert!(bench.replies().is_empty());
    assert!(bench.count("control-malformed") > 0);
}

#[test]
fn a_locator_held_down_is_not_used_any_more() {
    let mut two = settings();
    two.rlocs.push(ip("192.0.2.9"));
    two.database[0].locators.push(own_locator("192.0.2.9"));
    let mut bench = Bench::new(two);
    bench.miss("203.0.113.20");
    assert_eq!(bench.requests()[0].2.itr_rlocs.len(), 2);
    bench.event(Event::Change(crate::core::Change::Locator {
        address: ip(OWN),
        up: false,
    }));
    bench.sent();
    bench.miss("203.0.113.21");
    let request = bench.requests().pop().unwrap().2;
    assert_eq!(request.itr_rlocs, [Address::from(ip("192.0.2.9"))]);
    let source = bench.core.settings().source_for(ip(PEER));
    assert_eq!(source, Some(ip("192.0.2.9")));
}

#[test]
fn an_own_link_that_fails_is_told_to_others_beside_the_operators_word() {
    let mut two = settings();
    two.rlocs.push(ip("192.0.2.9"));
    two.database[0].locators.push(own_locator("192.0.2.9"));
    let mut bench = Bench::new(two.clone());
    let link = |up| Event::OwnLink {
        address: ip("192.0.2.9"),
        up,
    };
    let operator = |up| {
        Event::Change(crate::core::Change::Locator {
            address: ip("192.0.2.9"),
            up,
        })
    };
    let mut second = 0;
    let mut reachable = |bench: &mut Bench| {
        second += 2;
        bench.at_s(second);
        let reply = asked(bench, ask_for("10.1.0.7/32", 1, PEER))
            .pop()
            .unwrap()
            .1;
        reply.records[0].locators[1].reachable
    };
    bench.event(link(false));
    bench.event(Event::Tick);
    let registered = bench.registers().pop().expect("registered at once").1;
    assert!(!registered.records[0].locators[1].reachable);
    assert!(!reachable(&mut bench));
    bench.event(operator(false));
    bench.event(link(true));
    assert!(!reachable(&mut bench), "the operator holds it down");
    two.database[0].ttl = 60;
    bench.event(Event::Reload(Box::new(two)));
    assert!(
        !reachable(&mut bench),
        "a new configuration does not lift that"
    );
    bench.event(operator(true));
    assert!(reachable(&mut bench));
}

fn data_probe(bench: &mut Bench, eid: &str, from: &str, nonce: u32) -> Vec<(SocketAddr, MapReply)> {
    bench.event(Event::Data(DataEvent::DataProbe {
        iid: 0,
        eid: ip(eid),
        prober: SocketAddr::new(ip(from), 61_001),
        nonce,
    }));
    bench.replies()
}

#[test]
fn a_data_probe_is_answered_at_the_port_that_it_came_from() {
    let mut bench = Bench::new(settings());
    let replies = data_probe(&mut bench, "10.1.0.7", PEER, 0x00ab_cdef);
    let [(to, reply)] = &replies[..] else {
        panic!("one Map-Reply, found {replies:?}");
    };
    assert_eq!(*to, SocketAddr::new(ip(PEER), 61_001));
    assert_eq!(reply.nonce, 0x00ab_cdef, "in the low-order 24 bits");
    assert!(!reply.probe);
    assert_eq!(prefixes(reply), ["10.1.0.0/24"]);
}

#[test]
fn data_probes_are_answered_once_a_second() {
    let mut bench = Bench::new(settings());
    assert_eq!(data_probe(&mut bench, "10.1.0.7", PEER, 1).len(), 1);
    bench.at(999);
    assert!(data_probe(&mut bench, "10.1.0.8", PEER, 2).is_empty());
    assert_eq!(
        data_probe(&mut bench, "10.1.0.8", "192.0.2.78", 3).len(),
        1,
        "somebody else"
    );
    bench.at(1000);
    assert_eq!(data_probe(&mut bench, "10.1.0.8", PEER, 4).len(), 1);
    assert_eq!(bench.count("map-reply-limited"), 1);
}

#[test]
fn data_probes_for_nobody_here_or_from_nowhere_are_not_answered() {
    let mut bench = Bench::new(settings());
    assert!(data_probe(&mut bench, "233.252.0.1", PEER, 1).is_empty());
    assert_eq!(bench.count("data-probe-not-for-local-eid"), 1);
    assert!(data_probe(&mut bench, "10.1.0.7", "224.0.0.1", 2).is_empty());
    assert!(data_probe(&mut bench, "10.1.0.7", "2001:db8::9", 3).is_empty());
    assert_eq!(bench.count("data-probe-without-requester"), 2);
}
