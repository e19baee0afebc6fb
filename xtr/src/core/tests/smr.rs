//! Solicit-Map-Requests, sent and received; host mobility.

use super::*;
use crate::core::Change;

fn solicit(text: &str, nonce: u64) -> ControlMessage {
    ControlMessage::MapRequest(MapRequest {
        smr: true,
        ..ask_for(text, nonce, PEER)
    })
}

fn away_data(bench: &mut Bench, eid: &str) {
    bench.event(Event::Data(DataEvent::AwayEid {
        iid: 0,
        source: ip("203.0.113.20"),
        eid: ip(eid),
        encapsulator: ip(PEER),
        known: true,
    }));
}

#[test]
fn an_smr_is_followed_through_the_mapping_system_and_the_old_mapping_stays() {
    let mut bench = Bench::new(settings());
    bench.learn("203.0.113.20", to_peer("203.0.113.0/24", 1440));
    bench.at_s(10);
    bench.receive("192.0.2.99", &solicit("203.0.113.0/24", 5));
    bench.at_s(20);
    let requests = bench.requests();
    let at: Vec<u64> = requests
        .iter()
        .map(|r| r.0.since_origin().as_secs())
        .collect();
    assert_eq!(
        at,
        [10, 11, 13, 17, 18],
        "0, 1, 3 s, then the next resolver"
    );
    let to: Vec<IpAddr> = requests.iter().map(|r| r.1).collect();
    let [first, second] = RESOLVERS.map(ip);
    assert_eq!(to, [first, first, first, second, second]);
    for (_, _, request) in &requests {
        assert!(request.smr_invoked && !request.smr);
        assert_ne!(request.nonce, 5);
        assert_eq!(request.records[0].prefix(), Some(prefix("203.0.113.0/24")));
    }
    assert!(bench.replies().is_empty(), "an SMR is not answered");
    assert!(
        bench.installed("203.0.113.0/24").is_some(),
        "the old mapping stays"
    );
    let moved = positive("203.0.113.0/24", 1440, vec![locator("192.0.2.3", 1, 1)]);
    bench.answer(&requests.last().unwrap().2, vec![moved]);
    let Some(Forward::Encapsulate(locators)) = bench.installed("203.0.113.0/24") else {
        panic!("gone");
    };
    assert_eq!(locators[0].rloc, Some(ip("192.0.2.3")));
}

#[test]
fn a_host_smr_asks_for_the_host() {
    let mut bench = Bench::new(settings());
    bench.learn("203.0.113.20", to_peer("203.0.113.0/24", 1440));
    bench.receive(PEER, &solicit("203.0.113.20/32", 5));
    assert!(
        bench.requests().is_empty(),
        "the host was asked for within this second"
    );
    bench.at_s(1);
    let request = bench.requests().pop().unwrap().2;
    assert_eq!(request.records[0].prefix(), Some(prefix("203.0.113.20/32")));
    let moved = positive("203.0.113.20/32", 1440, vec![locator("192.0.2.3", 1, 1)]);
    bench.answer(&request, vec![moved]);
    assert!(bench.installed("203.0.113.20/32").is_some());
    assert!(bench.installed("203.0.113.0/24").is_some());
}

#[test]
fn smrs_for_nothing_and_floods_of_smrs_do_nothing() {
    let mut bench = Bench::new(settings());
    bench.receive(PEER, &solicit("203.0.113.0/24", 1));
    assert!(bench.requests().is_empty());
    assert_eq!(bench.count("smr-not-cached"), 1);
    bench.learn("203.0.113.20", to_peer("203.0.113.0/24", 1440));
    let mut asked = 0;
    for n in 0..100 {
        bench.at(1000 + n * 10);
        bench.receive(PEER, &solicit("203.0.113.0/24", n));
        for (_, _, request) in bench.requests() {
            asked += 1;
            bench.answer(&request, vec![to_peer("203.0.113.0/24", 1440)]);
        }
    }
    assert_eq!(asked, 1, "one for each three seconds");
}

#[test]
fn an_smr_for_an_own_prefix_is_not_answered() {
    let mut bench = Bench::new(settings());
    bench.receive(PEER, &solicit("10.1.0.0/24", 1));
    assert!(bench.sent().is_empty());
}

#[test]
fn a_change_solicits_every_locator_of_recent_correspondents() {
    let mut bench = Bench::new(settings());
    let both = vec![locator(PEER, 1, 1), locator("192.0.2.3", 2, 1)];
    bench.learn("203.0.113.20", positive("203.0.113.0/24", 1440, both));
    let idle = positive("198.18.0.0/16", 1440, vec![locator("192.0.2.4", 1, 1)]);
    bench.learn("198.18.0.1", idle);
    bench.at_s(100);
    bench.uses("203.0.113.0/24");
    let mut mapping = own_mapping("10.1.0.0/24");
    mapping.locators.push(own_locator("192.0.2.8"));
    bench.event(Event::Change(Change::Add(mapping)));
    let requests = bench.requests();
    let mut to: Vec<IpAddr> = requests.iter().map(|r| r.1).collect();
    to.sort();
    assert_eq!(to, [ip(PEER), ip("192.0.2.3")], "not to the idle site");
    for (_, _, request) in &requests {
        assert!(request.smr && !request.smr_invoked && !request.probe);
        assert_ne!(request.nonce, 0);
        assert_eq!(request.records[0].prefix(), Some(prefix("10.1.0.0/24")));
        assert_eq!(request.itr_rlocs, [lisp::Address::from(ip(OWN))]);
    }
    // One of them asks: it is left alone from now on; the other is reminded twice.
    bench.at_s(101);
    let asks = MapRequest {
        smr_invoked: true,
        ..ask_for("10.1.0.0/24", 8, PEER)
    };
    bench.receive(MAP_SERVER, &ControlMessage::MapRequest(asks));
    bench.at_s(200);
    let to: Vec<IpAddr> = bench
        .requests()
        .iter()
        .filter(|r| r.2.smr)
        .map(|r| r.1)
        .collect();
    assert_eq!(to, [ip("192.0.2.3"), ip("192.0.2.3")]);
}

/// RFC 6830 6.6.2: each change is told, also when the limit of SMRs does not let it be told at once.
#[test]
fn a_second_change_within_the_interval_is_told_after_it() {
    let mut bench = Bench::new(settings());
    bench.learn("203.0.113.20", to_peer("203.0.113.0/24", 1440));
    bench.uses("203.0.113.0/24");
    bench.at_s(10);
    bench.event(Event::Change(Change::Remove(prefix("10.1.0.0/24"))));
    bench.at_s(16);
    let smrs = |bench: &mut Bench| -> Vec<u64> {
        let requests = bench.requests();
        let smrs = requests.iter().filter(|r| r.2.smr);
        smrs.map(|r| r.0.since_origin().as_secs()).collect()
    };
    assert_eq!(smrs(&mut bench), [10, 13, 16], "the removal, and reminders");
    bench.at_s(17);
    bench.uses("203.0.113.0/24");
    bench.event(Event::Change(Change::Add(own_mapping("10.1.0.0/24"))));
    bench.at_s(60);
    assert_eq!(smrs(&mut bench), [19, 22, 25], "the return");
}

#[test]
fn data_for_a_removed_prefix_solicits_its_sender_at_a_bounded_rate() {
    let mut bench = Bench::new(settings());
    bench.event(Event::Change(Change::Remove(prefix("10.1.0.0/24"))));
    assert_eq!(bench.core.show_away(bench.now)[0].reason, "de-configured");
    bench.sent();
    let mut at = Vec::new();
    for n in 0..100 {
        bench.at(1000 + n * 100);
        away_data(&mut bench, "10.1.0.10");
        at.extend(bench.requests().iter().map(|r| (r.0, r.1, r.2.smr)));
    }
    assert_eq!(at.len(), 4, "one for each three seconds of data: {at:?}");
    assert!(at.iter().all(|(_, to, smr)| *to == ip(PEER) && *smr));
    assert!(
        at.windows(2)
            .all(|w| w[1].0.since(w[0].0) >= Duration::from_secs(3))
    );
}

#[test]
fn data_for_an_unknown_eid_solicits_nobody() {
    let mut bench = Bench::new(settings());
    away_data(&mut bench, "10.77.0.1");
    assert!(bench.sent().is_empty());
}

fn mobile() -> Settings {
    let mut mobile = settings();
    mobile.database[0].dynamic = true;
    mobile
}

#[test]
fn a_host_seen_here_is_registered_and_leaves_when_the_map_server_says_so() {
    let mut bench = Bench::fresh(mobile());
    bench.at(0);
    bench.notify_all();
    bench.event(Event::Data(DataEvent::SourceSeen {
        iid: 0,
        source: ip(HOST),
    }));
    bench.at(1);
    let register = bench.registers().pop().unwrap().1;
    let registered: Vec<String> = register
        .records
        .iter()
        .map(|record| record.eid_prefix().unwrap().to_string())
        .collect();
    assert_eq!(registered, ["10.1.0.0/24", "10.1.0.10/32"]);
    bench.notify(register.nonce, register.records.clone());

    bench.at_s(10);
    bench.notify(register.nonce, vec![to_peer("10.1.0.10/32", 1440)]);
    let away = bench.core.show_away(bench.now);
    assert_eq!(away[0].prefix, "10.1.0.10/32");
    assert_eq!(away[0].reason, "moved");
    assert!(away[0].by.contains(MAP_SERVER));
    assert!(
        bench.registers().is_empty(),
        "the new xTR's registration is not withdrawn"
    );
    away_data(&mut bench, HOST);
    let (_, to, request) = bench.requests().pop().unwrap();
    assert_eq!(to, ip(PEER));
    assert_eq!(request.records[0].prefix(), Some(prefix("10.1.0.10/32")));
    bench.receive(
        "192.0.2.77",
        &ControlMessage::MapRequest(ask_for("10.1.0.10/32", 3, PEER)),
    );
    assert!(bench.replies().is_empty(), "not ours to answer for");
    bench.at_s(70);
    for (_, register) in bench.registers() {
        assert_eq!(register.records.len(), 1);
    }

    bench.event(Event::Data(DataEvent::SourceSeen {
        iid: 0,
        source: ip(HOST),
    }));
    assert!(bench.core.show_away(bench.now).is_empty(), "it came back");
    bench.event(Event::Tick);
    assert_eq!(bench.registers().pop().unwrap().1.records.len(), 2);
}

#[test]
fn a_silent_host_of_a_dynamic_range_is_forgotten() {
    let mut patient = mobile();
    patient.dynamic_eid_timeout = Duration::from_secs(300);
    let mut bench = Bench::fresh(patient);
    bench.at(0);
    bench.notify_all();
    let seen = |bench: &mut Bench| {
        bench.event(Event::Data(DataEvent::SourceSeen {
            iid: 0,
            source: ip(HOST),
        }));
    };
    let hosts = |bench: &Bench| bench.core.show_database(bench.now).len() - 1;
    seen(&mut bench);
    bench.at_s(200);
    seen(&mut bench);
    bench.at_s(499);
    assert_eq!(hosts(&bench), 1, "it sent 299 s ago");
    bench.sent();
    bench.at_s(501);
    assert_eq!(hosts(&bench), 0);
    let withdrawn = bench.registers().into_iter().find(|(_, register)| {
        register
            .records
            .iter()
            .any(|record| record.ttl == 0 && record.eid_prefix() == Some(prefix("10.1.0.10/32")))
    });
    assert!(withdrawn.is_some(), "the Map-Server is told");
    assert!(
        bench.core.show_away(bench.now).is_empty(),
        "it may still be here: packets to it are delivered as to the others"
    );
    seen(&mut bench);
    assert_eq!(hosts(&bench), 1, "its next packet brings it back");
    // Moved away meanwhile, nothing is left for the timer to do.
    bench.at_s(510);
    bench.notify(0, vec![to_peer("10.1.0.10/32", 1440)]);
    bench.sent();
    bench.at_s(900);
    assert!(
        bench
            .registers()
            .iter()
            .all(|(_, r)| r.records.iter().all(|record| record.ttl != 0))
    );
}

#[test]
fn a_dynamic_range_is_shared_and_never_moves_as_a_whole() {
    let mut bench = Bench::fresh(mobile());
    bench.at(0);
    bench.notify_all();
    bench.notify(0, vec![to_peer("10.1.0.0/24", 1440)]);
    assert!(bench.core.show_away(bench.now).is_empty());
}

#[test]
fn a_whole_prefix_moves_when_the_map_server_says_so() {
    let mut bench = Bench::fresh(settings());
    bench.at(0);
    bench.notify_all();
    bench.notify(0, vec![to_peer("10.1.0.0/24", 1440)]);
    assert_eq!(bench.core.show_database(bench.now)[0].state, "away");
    bench.at_s(200);
    assert!(bench.registers().is_empty());
}
