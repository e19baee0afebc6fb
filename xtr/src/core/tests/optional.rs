//! Optional features: map-versions, echo-nonce, gleaning; and senders that nobody's map-cache names.

use super::*;
use crate::core::Change;
use lisp::Address;

fn data_from(eid: &str, source: &str) -> Event {
    Event::Data(DataEvent::Sender {
        iid: 0,
        source: ip(source),
        eid: ip(eid),
        encapsulator: ip(PEER),
    })
}

fn reports_senders(bench: &Bench) -> bool {
    let last = bench
        .done
        .iter()
        .rev()
        .find_map(|(_, action)| match action {
            Action::SetLocal(local) => Some(local.report_senders),
            _ => None,
        });
    last.expect("the packet path was told")
}

#[test]
fn one_way_senders_are_solicited_after_a_change_until_they_ask() {
    let mut bench = Bench::new(settings());
    bench.event(data_from("10.1.0.10", "203.0.113.20"));
    assert!(bench.requests().is_empty(), "nothing changed");
    let mut mapping = own_mapping("10.1.0.0/24");
    mapping.locators.push(own_locator("192.0.2.8"));
    bench.event(Event::Change(Change::Add(mapping)));
    assert!(reports_senders(&bench));
    let mut sent = 0;
    for n in 0..10 {
        bench.at_s(n + 1);
        bench.event(data_from("10.1.0.10", "203.0.113.20"));
        sent += bench
            .requests()
            .iter()
            .filter(|r| r.2.smr && r.1 == ip(PEER))
            .count();
    }
    assert_eq!(sent, 4, "one for each three seconds");
    let asks = ControlMessage::MapRequest(ask_for("10.1.0.0/24", 9, PEER));
    bench.receive(MAP_SERVER, &asks);
    for n in 11..30 {
        bench.at_s(n);
        bench.event(data_from("10.1.0.10", "203.0.113.20"));
        assert!(!bench.requests().iter().any(|r| r.2.smr), "it has asked");
    }
    bench.at_s(61);
    assert!(!reports_senders(&bench), "after a minute it is over");
}

fn versions(source: u16, destination: u16) -> Event {
    Event::Data(DataEvent::MapVersion {
        iid: 0,
        source: ip("203.0.113.20"),
        destination: ip(HOST),
        encapsulator: ip(PEER),
        source_version: source,
        destination_version: destination,
    })
}

fn versioned() -> Bench {
    let mut with_versions = settings();
    with_versions.map_versioning = true;
    let mut bench = Bench::new(with_versions);
    let mut record = to_peer("203.0.113.0/24", 1440);
    record.map_version = 5;
    bench.learn("203.0.113.20", record);
    // The second version of the mapping.
    let mut mapping = own_mapping("10.1.0.0/24");
    mapping.ttl = 60;
    bench.event(Event::Change(Change::Add(mapping)));
    bench.at_s(100);
    bench.sent();
    bench
}

#[test]
fn an_old_destination_version_is_answered_with_an_smr() {
    let mut bench = versioned();
    bench.event(versions(5, 1));
    let requests = bench.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].2.smr);
    assert_eq!(requests[0].1, ip(PEER));
    assert_eq!(
        requests[0].2.records[0].prefix(),
        Some(prefix("10.1.0.0/24"))
    );
}

#[test]
fn a_new_source_version_is_asked_for() {
    let mut bench = versioned();
    bench.event(versions(6, 2));
    let requests = bench.requests();
    assert_eq!(requests.len(), 1);
    assert!(!requests[0].2.smr);
    assert_eq!(
        requests[0].2.records[0].prefix(),
        Some(prefix("203.0.113.0/24"))
    );
}

#[test]
fn equal_older_and_missing_versions_do_nothing() {
    let mut bench = versioned();
    for (source, destination) in [(5, 2), (0, 0), (4, 3)] {
        bench.event(versions(source, destination));
        assert!(bench.requests().is_empty(), "{source} {destination}");
    }
}

#[test]
fn records_carry_the_version_of_the_mapping() {
    let mut bench = versioned();
    let asks = ControlMessage::MapRequest(ask_for("10.1.0.10/32", 9, PEER));
    bench.receive(MAP_SERVER, &asks);
    assert_eq!(bench.replies()[0].1.records[0].map_version, 2);
}

fn echo_requests(bench: &Bench) -> Vec<(Time, Option<u32>)> {
    bench
        .done
        .iter()
        .filter_map(|(at, action)| match action {
            Action::RequestEcho { nonce, .. } => Some((*at, *nonce)),
            _ => None,
        })
        .collect()
}

fn echoing(capable: bool) -> Bench {
    let mut with_echo = settings();
    with_echo.echo_nonce = true;
    let mut bench = Bench::new(with_echo);
    bench.miss("203.0.113.20");
    let (_, _, request) = bench.requests().pop().unwrap();
    let reply = MapReply {
        nonce: request.nonce,
        echo_nonce: capable,
        records: vec![to_peer("203.0.113.0/24", 1440)],
        ..MapReply::default()
    };
    bench.receive_on(CLIENT_PORT, PEER, ControlMessage::MapReply(reply).to_vec());
    for second in 1..=11 {
        bench.at_s(second);
        bench.uses("203.0.113.0/24");
    }
    bench
}

#[test]
fn an_echo_proves_the_path() {
    let mut bench = echoing(true);
    let (_, nonce) = echo_requests(&bench)[0];
    let nonce = nonce.expect("asked");
    bench.event(Event::Data(DataEvent::EchoNonce {
        encapsulator: ip("192.0.2.77"),
        nonce: nonce ^ 1,
    }));
    assert_eq!(bench.count("nonce-echo-unasked"), 1);
    bench.event(Event::Data(DataEvent::EchoNonce {
        encapsulator: ip(PEER),
        nonce,
    }));
    assert_eq!(
        echo_requests(&bench).last().unwrap().1,
        None,
        "asked no more"
    );
    assert_eq!(bench.core.show_rlocs(bench.now)[0].state, "up");
}

#[test]
fn a_missing_echo_leads_to_a_probe() {
    let mut bench = echoing(true);
    bench.sent();
    bench.at_s(14);
    assert_eq!(echo_requests(&bench).last().unwrap().1, None);
    let requests = bench.requests();
    assert!(requests[0].2.probe);
    assert_eq!(requests[0].1, ip(PEER));
}

#[test]
fn echoes_are_only_asked_from_sites_that_offer_them() {
    assert!(echo_requests(&echoing(false)).is_empty());
}

#[test]
fn gleaned_entries_are_short_weightless_and_verified() {
    let mut gleaning = settings();
    gleaning.glean = true;
    let mut bench = Bench::new(gleaning);
    let mut request = ask_for("10.1.0.10/32", 9, PEER);
    request.source_eid = Address::from(ip("203.0.113.20"));
    bench.receive(MAP_SERVER, &ControlMessage::MapRequest(request));
    let Some(Forward::Encapsulate(locators)) = bench.installed("203.0.113.20/32") else {
        panic!("not gleaned");
    };
    assert_eq!((locators[0].rloc, locators[0].weight), (Some(ip(PEER)), 0));
    let verification = bench.requests().pop().unwrap();
    assert_eq!(
        verification.1,
        ip(RESOLVERS[0]),
        "through the mapping system"
    );
    bench.answer(&verification.2, vec![to_peer("203.0.113.0/24", 1440)]);
    assert_eq!(bench.installed("203.0.113.20/32"), None);
    assert!(bench.installed("203.0.113.0/24").is_some());
    bench.event(data_from("10.1.0.10", "203.0.113.99"));
    assert_eq!(
        bench.installed("203.0.113.99/32"),
        None,
        "known: gleaning stops"
    );

    bench.event(data_from("10.1.0.10", "198.18.0.1"));
    assert!(bench.installed("198.18.0.1/32").is_some(), "from data too");
    bench.at_s(4);
    assert_eq!(bench.installed("198.18.0.1/32"), None, "a few seconds");
}

#[test]
fn nothing_is_gleaned_unless_configured() {
    let mut bench = Bench::new(settings());
    let mut request = ask_for("10.1.0.10/32", 9, PEER);
    request.source_eid = Address::from(ip("203.0.113.20"));
    bench.receive(MAP_SERVER, &ControlMessage::MapRequest(request));
    assert_eq!(bench.installed("203.0.113.20/32"), None);
}

#[test]
fn status_bits_rest_after_the_set_changed() {
    let status = |bench: &Bench| {
        bench
            .done
            .iter()
            .rev()
            .find_map(|(_, action)| match action {
                Action::SetLocal(local) => Some(local.locator_status),
                _ => None,
            })
    };
    for edition in [Edition::Rfc6830, Edition::Rfc9300] {
        let mut with_bits = settings();
        with_bits.edition = edition;
        with_bits.locator_status_bits = true;
        let mut bench = Bench::fresh(with_bits);
        assert_eq!(status(&bench), Some(Some(1)));
        let mut mapping = own_mapping("10.1.0.0/24");
        mapping.locators.push(own_locator("192.0.2.8"));
        bench.event(Event::Change(Change::Add(mapping)));
        assert_eq!(status(&bench), Some(None));
        bench.at_s(299);
        assert_eq!(status(&bench), Some(None));
        bench.at_s(301);
        assert_eq!(status(&bench), Some(Some(0b11)));
    }
}

fn refused(bench: &Bench) -> Vec<IpAddr> {
    let last = bench
        .done
        .iter()
        .rev()
        .find_map(|(_, action)| match action {
            Action::SetLocal(local) => Some(local.stale_senders.clone()),
            _ => None,
        });
    last.unwrap_or_default()
}

#[test]
fn a_sender_that_keeps_an_old_version_is_refused_after_ten_smrs_until_it_asks() {
    let mut bench = versioned();
    bench.done.clear();
    let mut told = Vec::new();
    for tenth in 1000..2000u64 {
        bench.at(tenth * 100);
        bench.event(versions(5, 1));
        told.extend(
            bench
                .requests()
                .into_iter()
                .filter(|r| r.2.smr)
                .map(|r| r.0),
        );
        if told.len() < 10 {
            assert!(refused(&bench).is_empty(), "told {} times", told.len());
        }
    }
    let gaps: Vec<u64> = told
        .windows(2)
        .map(|w| w[1].since(w[0]).as_secs())
        .collect();
    assert!(gaps[..9].iter().all(|gap| *gap == 3), "{gaps:?}");
    assert!(gaps[9..].iter().all(|gap| *gap >= 30), "{gaps:?}");
    assert_eq!(bench.count("map-version-sender-refused"), 1);
    let asks = ControlMessage::MapRequest(ask_for("10.1.0.0/24", 9, PEER));
    bench.receive(MAP_SERVER, &asks);
    assert!(refused(&bench).is_empty(), "it has the new mapping now");
}

#[test]
fn versions_begin_as_configured_and_pass_by_zero() {
    let mut with_versions = settings();
    with_versions.map_versioning = true;
    with_versions.database[0].first_version = 4095;
    let mut bench = Bench::new(with_versions.clone());
    let version = |bench: &mut Bench, nonce| {
        let itr = format!("192.0.2.{nonce}");
        let asks = ControlMessage::MapRequest(ask_for("10.1.0.10/32", nonce, &itr));
        bench.receive(MAP_SERVER, &asks);
        bench.replies()[0].1.records[0].map_version
    };
    assert_eq!(version(&mut bench, 9), 4095);
    let mut mapping = with_versions.database[0].clone();
    mapping.ttl = 60;
    bench.event(Event::Change(Change::Add(mapping)));
    assert_eq!(version(&mut bench, 10), 1);
}

fn with_mapping(eid: &str, rloc: &str, claimed: &str) -> ControlMessage {
    let mut request = ask_for("10.1.0.10/32", 9, "192.0.2.40");
    request.source_eid = Address::from(ip(eid));
    request.map_reply = Some(positive(claimed, 1440, vec![locator(rloc, 1, 100)]));
    ControlMessage::MapRequest(request)
}

#[test]
fn a_piggybacked_mapping_is_asked_for_and_never_believed() {
    let mut trusting = settings();
    trusting.piggyback = true;
    let mut bench = Bench::new(trusting);
    bench.receive(
        MAP_SERVER,
        &with_mapping("203.0.113.20", PEER, "203.0.113.0/24"),
    );
    let asked = bench.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].1, ip(RESOLVERS[0]), "through the mapping system");
    assert_eq!(
        asked[0].2.records[0].prefix(),
        Some(prefix("203.0.113.20/32"))
    );
    assert_eq!(
        bench.installed("203.0.113.0/24"),
        None,
        "until it is verified"
    );
    bench.answer(&asked[0].2, vec![to_peer("203.0.113.0/24", 1440)]);
    assert!(bench.installed("203.0.113.0/24").is_some());

    bench.at_s(5);
    bench.receive(
        MAP_SERVER,
        &with_mapping("203.0.113.20", PEER, "203.0.113.0/24"),
    );
    bench.receive(
        MAP_SERVER,
        &with_mapping("203.0.113.20", "192.0.2.99", "198.51.100.0/24"),
    );
    bench.receive(MAP_SERVER, &with_mapping(HOST, "192.0.2.99", "10.1.0.0/24"));
    assert!(
        bench.requests().is_empty(),
        "known, not of its source, ours"
    );
    bench.receive(
        MAP_SERVER,
        &with_mapping("203.0.113.20", "192.0.2.99", "203.0.113.0/24"),
    );
    assert_eq!(bench.requests()[0].1, ip(RESOLVERS[0]), "not its sender");
}

#[test]
fn a_piggybacked_mapping_is_ignored_unless_configured() {
    let mut bench = Bench::new(settings());
    bench.receive(
        MAP_SERVER,
        &with_mapping("203.0.113.20", PEER, "203.0.113.0/24"),
    );
    assert!(bench.requests().is_empty());
    assert_eq!(bench.count("map-request-with-mapping"), 1);
}

#[test]
fn the_own_mapping_is_brought_along_where_configured() {
    let mut bringing = settings();
    bringing.piggyback_own = true;
    let mut bench = Bench::new(bringing);
    bench.miss("203.0.113.20");
    let request = bench.requests().remove(0).2;
    let brought = request.map_reply.expect("M = 1");
    assert_eq!(brought.eid_prefix(), Some(prefix("10.1.0.0/24")));
    assert_eq!(brought.locators[0].rloc.ip(), Some(ip(OWN)));
    let mut bench = Bench::new(settings());
    bench.miss("203.0.113.20");
    assert_eq!(bench.requests()[0].2.map_reply, None);
}

#[test]
fn nobody_asks_for_multicast_or_link_local_destinations() {
    let mut bench = Bench::new(settings());
    for destination in ["224.0.0.5", "255.255.255.255", "ff02::1", "fe80::1"] {
        bench.miss(destination);
    }
    assert!(bench.sent().is_empty());
}
