//! Map-Requests, Map-Replies and the life of map-cache entries.

use super::*;
use crate::core::settings::{RemoteLocator, StaticEntry, StaticPath};
use lisp::Address;
use lisp::wire::Action as RecordAction;

fn seconds(requests: &[(Time, IpAddr, MapRequest)]) -> Vec<f64> {
    requests
        .iter()
        .map(|(at, _, _)| (at.since_origin().as_secs_f64() * 10.0).round() / 10.0)
        .collect()
}

#[test]
fn a_miss_asks_once_through_the_first_resolver() {
    let mut bench = Bench::new(settings());
    bench.miss("203.0.113.20");
    bench.miss("203.0.113.20");
    let sent = bench.sent();
    assert_eq!(
        sent.len(),
        1,
        "one miss is one Map-Request, not one a packet"
    );
    assert_eq!(sent[0].to, SocketAddr::new(ip(RESOLVERS[0]), CONTROL_PORT));
    let ControlMessage::Encapsulated(ecm) = &sent[0].message else {
        panic!("not encapsulated: {:?}", sent[0].message);
    };
    let inner = ecm.decode_inner().unwrap();
    assert_eq!(inner.destination, ip("203.0.113.20"));
    assert_eq!(inner.source, ip(OWN));
    assert_eq!(
        (inner.source_port, inner.destination_port),
        (CLIENT_PORT, 4342)
    );
    let ControlMessage::MapRequest(request) = *inner.message else {
        panic!("no Map-Request");
    };
    assert_eq!(request.source_eid, Address::from(ip(HOST)));
    assert_eq!(request.itr_rlocs, [Address::from(ip(OWN))]);
    assert_eq!(request.records[0].prefix(), Some(prefix("203.0.113.20/32")));
    assert!(!(request.smr_invoked || request.smr || request.pitr || request.authoritative));
    assert_ne!(request.nonce, 0);
}

#[test]
fn silence_means_back_off_then_the_next_resolver_then_a_pause() {
    let mut bench = Bench::new(settings());
    bench.miss("203.0.113.20");
    bench.at_s(200);
    let requests = bench.requests();
    assert_eq!(requests.len(), 11, "once and ten retransmissions");
    let at = seconds(&requests);
    for (found, expected) in at.iter().zip([0.0, 1.0, 3.0, 7.0, 8.0, 10.0, 14.0]) {
        assert!((found - expected).abs() < 0.3, "{at:?}");
    }
    let to: Vec<IpAddr> = requests.iter().map(|r| r.1).collect();
    assert!(to[..3].iter().all(|r| *r == ip(RESOLVERS[0])), "{to:?}");
    assert!(to[3..6].iter().all(|r| *r == ip(RESOLVERS[1])), "{to:?}");
    assert!(to[6..9].iter().all(|r| *r == ip(RESOLVERS[0])), "{to:?}");
    let mut nonces: Vec<u64> = requests.iter().map(|r| r.2.nonce).collect();
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), 11, "every Map-Request has a nonce of its own");
    assert_eq!(bench.count("map-request-unanswered"), 1);
}

#[test]
fn nothing_is_asked_in_the_pause_after_giving_up() {
    let mut bench = Bench::new(settings());
    bench.miss("203.0.113.20");
    let mut gave_up = 0;
    while bench.count("map-request-unanswered") == 0 {
        gave_up += 100;
        bench.at(gave_up);
    }
    bench.sent();
    bench.at(gave_up + 29_000);
    bench.miss("203.0.113.20");
    assert!(bench.requests().is_empty());
    bench.at(gave_up + 31_000);
    bench.miss("203.0.113.20");
    assert_eq!(bench.requests().len(), 1);
}

/// What is in use and nobody answers about is not asked for more often because an SMR comes in between.
#[test]
fn the_pause_holds_for_smrs_too_which_are_followed_after_it() {
    let mut bench = Bench::new(settings());
    bench.learn("203.0.113.20", to_peer("203.0.113.0/24", 1440));
    let smr = ControlMessage::MapRequest(MapRequest {
        smr: true,
        ..ask_for("203.0.113.0/24", 7, PEER)
    });
    bench.receive(PEER, &smr);
    let mut gave_up = 0;
    while bench.count("map-request-unanswered") == 0 {
        gave_up += 100;
        bench.at(gave_up);
    }
    bench.sent();
    bench.receive(PEER, &smr);
    bench.at(gave_up + 29_000);
    assert!(bench.requests().is_empty());
    bench.at(gave_up + 30_500);
    let requests = bench.requests();
    assert_eq!(requests.len(), 1, "the SMR is not forgotten");
    assert!(requests[0].2.smr_invoked);
}

#[test]
fn a_silent_resolver_is_passed_over_and_tried_again_later() {
    let mut bench = Bench::new(settings());
    bench.miss("203.0.113.20");
    bench.at_s(8);
    let last = bench.requests().pop().unwrap();
    assert_eq!(last.1, ip(RESOLVERS[1]));
    bench.answer(&last.2, vec![to_peer("203.0.113.0/24", 1440)]);
    let neighbors = bench.core.show_neighbors(bench.now);
    let shown: Vec<_> = neighbors
        .iter()
        .filter(|row| row.role == "map-resolver")
        .map(|row| (row.state.as_str(), row.last_sent, row.last_received))
        .collect();
    assert_eq!(
        shown[..2],
        [("silent", Some(4), None), ("up", Some(0), Some(0))]
    );
    bench.miss("198.18.0.1");
    assert_eq!(
        bench.requests()[0].1,
        ip(RESOLVERS[1]),
        "the first one was silent"
    );
    bench.at_s(100);
    bench.sent();
    bench.miss("198.19.0.1");
    assert_eq!(bench.requests()[0].1, ip(RESOLVERS[0]), "back later");
}

#[test]
fn a_reply_installs_and_releases_what_was_held() {
    let mut bench = Bench::new(settings());
    bench.miss("203.0.113.20");
    bench.miss("203.0.113.20");
    let (_, _, request) = bench.requests().pop().unwrap();
    bench.answer(&request, vec![to_peer("203.0.113.0/24", 1440)]);
    let Some(Forward::Encapsulate(locators)) = bench.installed("203.0.113.0/24") else {
        panic!("not installed");
    };
    assert_eq!(locators[0].rloc, Some(ip(PEER)));
    assert!(locators[0].usable);
    let position = |wanted: fn(&Action) -> bool| {
        bench
            .done
            .iter()
            .position(|(_, action)| wanted(action))
            .unwrap()
    };
    let released = position(|a| matches!(a, Action::Release(packets) if packets.len() == 2));
    let installed = position(|a| matches!(a, Action::Install { .. }));
    assert!(installed < released);
    bench.at_s(30);
    assert!(bench.requests().is_empty(), "answered: no retransmission");
}

#[test]
fn wrong_nonces_and_strange_records_change_nothing() {
    let mut bench = Bench::new(settings());
    bench.miss("203.0.113.20");
    let (_, _, request) = bench.requests().pop().unwrap();
    let wrong = MapRequest {
        nonce: request.nonce ^ 1,
        ..request.clone()
    };
    bench.answer(&wrong, vec![to_peer("203.0.113.0/24", 1440)]);
    assert_eq!(bench.count("map-reply-unsolicited"), 1);
    bench.answer(&request, vec![to_peer("198.18.0.0/15", 1440)]);
    assert_eq!(bench.count("record-outside-question"), 1);
    assert_eq!(bench.installed("198.18.0.0/15"), None);
    assert_eq!(bench.installed("203.0.113.0/24"), None);
    bench.answer(&request, vec![to_peer("203.0.113.0/24", 1440)]);
    assert!(
        bench.installed("203.0.113.0/24").is_some(),
        "the right one still counts"
    );
    bench.answer(&request, vec![to_peer("203.0.113.0/24", 0)]);
    assert!(
        bench.installed("203.0.113.0/24").is_some(),
        "a replay is unsolicited"
    );
}

#[test]
fn a_reply_never_takes_over_a_local_prefix() {
    let mut bench = Bench::new(settings());
    bench.miss("203.0.113.20");
    let (_, _, request) = bench.requests().pop().unwrap();
    let records = vec![to_peer("0.0.0.0/0", 60), to_peer("10.1.0.0/25", 60)];
    bench.answer(&request, records);
    assert!(bench.installed("0.0.0.0/0").is_some());
    assert_eq!(bench.installed("10.1.0.0/25"), None);
    assert_eq!(bench.count("record-for-local-eid"), 1);
}

#[test]
fn ttl_counts_minutes() {
    let mut bench = Bench::new(settings());
    bench.learn("203.0.113.20", to_peer("203.0.113.0/24", 1));
    bench.at(59_900);
    assert!(bench.installed("203.0.113.0/24").is_some());
    bench.at(60_000);
    assert_eq!(bench.installed("203.0.113.0/24"), None);
    assert!(
        bench.requests().is_empty(),
        "an idle entry is not refreshed"
    );
}

#[test]
fn ttl_extremes() {
    let mut bench = Bench::new(settings());
    bench.learn("203.0.113.20", to_peer("203.0.113.0/24", u32::MAX));
    bench.learn("198.18.0.1", to_peer("198.18.0.0/16", u32::MAX - 1));
    bench.at_s(20 * 86_400);
    assert!(bench.installed("203.0.113.0/24").is_some());
    assert!(bench.installed("198.18.0.0/16").is_some());
    let mut bench = Bench::new(settings());
    bench.learn("203.0.113.20", to_peer("203.0.113.0/24", 0));
    assert_eq!(bench.installed("203.0.113.0/24"), None);
}

#[test]
fn an_entry_in_use_is_refreshed_with_its_own_mask() {
    let mut bench = Bench::new(settings());
    bench.learn("203.0.113.20", to_peer("203.0.113.0/24", 1));
    bench.at_s(47);
    bench.uses("203.0.113.0/24");
    bench.at_s(55);
    let requests = bench.requests();
    let (at, to, request) = &requests[0];
    assert!(*at >= Time::from_secs(48) && *at < Time::from_secs(55));
    assert_eq!(*to, ip(PEER), "RFC 6830 6.1.3: a locator of the cached set");
    assert_eq!(request.records[0].prefix(), Some(prefix("203.0.113.0/24")));
    assert_eq!(request.source_eid, Address::None);
    bench.answer(
        &requests.last().unwrap().2,
        vec![to_peer("203.0.113.0/24", 1)],
    );
    bench.at_s(80);
    assert!(bench.installed("203.0.113.0/24").is_some());
}

#[test]
fn a_refresh_that_the_locator_ignores_goes_to_the_mapping_system() {
    let mut bench = Bench::new(settings());
    bench.learn("203.0.113.20", to_peer("203.0.113.0/24", 10));
    bench.at_s(470);
    bench.uses("203.0.113.0/24");
    bench.at_s(560);
    let to: Vec<IpAddr> = bench.requests().iter().map(|r| r.1).collect();
    assert_eq!(to[..4], [ip(PEER), ip(PEER), ip(PEER), ip(RESOLVERS[0])]);
}

#[test]
fn negative_entries_cover_their_whole_prefix() {
    let mut bench = Bench::new(settings());
    let negative = |action| MapRecord::negative(prefix("203.0.112.0/20"), 15, action);
    for (action, forward) in [
        (RecordAction::NativelyForward, Forward::Natively),
        (RecordAction::NoAction, Forward::Drop),
        (RecordAction::SendMapRequest, Forward::SendMapRequest),
        (RecordAction::Drop, Forward::Drop),
        (RecordAction::Other(6), Forward::Drop),
    ] {
        let mut bench = Bench::new(settings());
        bench.learn("203.0.113.20", negative(action));
        assert_eq!(
            bench.installed("203.0.112.0/20"),
            Some(forward),
            "{action:?}"
        );
    }
    bench.learn("203.0.113.20", negative(RecordAction::NativelyForward));
    bench.miss("203.0.114.1");
    assert!(
        bench.requests().is_empty(),
        "no question while the entry lives"
    );
}

#[test]
fn act_means_nothing_when_there_are_locators() {
    let mut bench = Bench::new(settings());
    let mut record = to_peer("203.0.113.0/24", 1440);
    record.action = RecordAction::Drop;
    bench.learn("203.0.113.20", record);
    assert!(matches!(
        bench.installed("203.0.113.0/24"),
        Some(Forward::Encapsulate(_))
    ));
}

#[test]
fn send_map_request_asks_at_the_limited_rate() {
    let mut bench = Bench::new(settings());
    let record = MapRecord::negative(prefix("203.0.113.0/24"), 60, RecordAction::SendMapRequest);
    bench.learn("203.0.113.20", record.clone());
    let mut asked = 0;
    for tenth in 1..=50 {
        bench.at(tenth * 100);
        bench.miss("203.0.113.20");
        for (_, _, request) in bench.requests() {
            asked += 1;
            bench.answer(&request, vec![record.clone()]);
        }
    }
    assert!((4..=5).contains(&asked), "{asked} Map-Requests in 5 s");
}

#[test]
fn unusable_locators_keep_their_place() {
    let mut bench = Bench::new(settings());
    let mut down = locator("192.0.2.3", 1, 100);
    down.reachable = false;
    let nothing = Locator {
        rloc: Address::None,
        ..locator(PEER, 1, 100)
    };
    let locators = vec![
        nothing,
        down,
        locator("224.0.0.1", 1, 100),
        locator("255.255.255.255", 1, 100),
        locator(PEER, 255, 100),
        locator(OWN, 1, 100),
    ];
    bench.learn("203.0.113.20", positive("203.0.113.0/24", 1440, locators));
    let Some(Forward::Encapsulate(found)) = bench.installed("203.0.113.0/24") else {
        panic!("not installed");
    };
    let usable: Vec<bool> = found.iter().map(|l| l.usable).collect();
    assert_eq!(usable, [false, false, false, false, true, false]);
    assert_eq!(
        found[4].priority, 255,
        "left to the choice, which never takes it"
    );
}

#[test]
fn a_less_specific_learned_later_goes_with_its_more_specifics() {
    let mut bench = Bench::new(settings());
    bench.learn("203.0.113.20", to_peer("203.0.113.0/24", 1));
    bench.at_s(1);
    bench.learn("203.0.200.1", to_peer("203.0.0.0/16", 10));
    bench.at(59_000);
    assert!(bench.installed("203.0.0.0/16").is_some());
    bench.at(60_000);
    assert_eq!(bench.installed("203.0.113.0/24"), None);
    assert_eq!(bench.installed("203.0.0.0/16"), None);
}

#[test]
fn a_refresh_answered_less_specifically_replaces_the_parts() {
    let mut bench = Bench::new(settings());
    bench.learn("203.0.113.20", to_peer("203.0.113.0/25", 1));
    bench.learn("203.0.113.130", to_peer("203.0.113.128/25", 1));
    bench.at_s(47);
    bench.uses("203.0.113.0/25");
    bench.at_s(55);
    let (_, _, request) = bench.requests().pop().unwrap();
    let other = positive("203.0.113.0/24", 10, vec![locator("192.0.2.9", 1, 100)]);
    bench.answer(&request, vec![other]);
    assert_eq!(bench.installed("203.0.113.0/25"), None);
    assert_eq!(bench.installed("203.0.113.128/25"), None);
    assert!(bench.installed("203.0.113.0/24").is_some());
}

#[test]
fn overlapping_records_come_together() {
    let mut bench = Bench::new(settings());
    bench.miss("203.0.113.20");
    let (_, _, request) = bench.requests().pop().unwrap();
    bench.answer(
        &request,
        vec![
            to_peer("203.0.0.0/16", 60),
            to_peer("203.0.1.0/24", 60),
            to_peer("198.18.0.0/15", 60),
        ],
    );
    assert!(bench.installed("203.0.0.0/16").is_some());
    assert!(bench.installed("203.0.1.0/24").is_some());
    assert_eq!(bench.installed("198.18.0.0/15"), None);
}

#[test]
fn static_entries_never_expire_and_are_never_replaced() {
    let mut with_static = settings();
    with_static.static_entries = vec![
        StaticEntry {
            prefix: prefix("203.0.113.0/24"),
            path: StaticPath::Locators(vec![RemoteLocator {
                address: ip(PEER),
                priority: 1,
                weight: 1,
            }]),
        },
        StaticEntry {
            prefix: prefix("0.0.0.0/0"),
            path: StaticPath::SendMapRequest,
        },
    ];
    let mut bench = Bench::fresh(with_static);
    assert!(matches!(
        bench.installed("203.0.113.0/24"),
        Some(Forward::Encapsulate(_))
    ));
    assert_eq!(bench.installed("0.0.0.0/0"), Some(Forward::SendMapRequest));
    bench.at(0);
    bench.learn("198.18.0.1", to_peer("198.18.0.0/16", 1));
    assert!(
        bench
            .done
            .iter()
            .any(|(_, action)| matches!(action, Action::Release(_)))
    );
    bench.at_s(86_400);
    assert_eq!(bench.installed("198.18.0.0/16"), None);
    assert!(bench.installed("203.0.113.0/24").is_some());
}

#[test]
fn a_full_map_cache_refuses_and_says_so() {
    let mut small = settings();
    small.map_cache_limit = 1;
    let mut bench = Bench::new(small);
    bench.learn("203.0.113.20", to_peer("203.0.113.0/24", 1440));
    bench.learn("198.18.0.1", to_peer("198.18.0.0/16", 1440));
    assert_eq!(bench.installed("198.18.0.0/16"), None);
    assert_eq!(bench.count("map-cache-full"), 1);
}

/// RFC 6830 12: the less-specific alone would draw the packets of its more-specifics.
#[test]
fn overlapping_records_that_do_not_fit_together_are_all_refused() {
    let mut small = settings();
    small.map_cache_limit = 3;
    let mut bench = Bench::new(small);
    bench.learn("198.18.0.1", to_peer("198.18.0.0/16", 1440));
    let set = ["203.0.0.0/16", "203.0.1.0/24", "203.0.2.0/24"];
    bench.miss("203.0.113.20");
    let (_, _, request) = bench.requests().pop().unwrap();
    bench.answer(&request, set.map(|eid| to_peer(eid, 60)).to_vec());
    for eid in set {
        assert_eq!(bench.installed(eid), None, "{eid}");
    }
    assert_eq!(bench.count("map-cache-full"), 1);
    bench.at_s(5);
    bench.miss("203.0.113.20");
    let (_, _, request) = bench.requests().pop().unwrap();
    bench.answer(
        &request,
        set[..2].iter().map(|eid| to_peer(eid, 60)).collect(),
    );
    assert!(bench.installed(set[0]).is_some() && bench.installed(set[1]).is_some());
}

#[test]
fn instances_are_kept_apart() {
    let mut two = settings();
    two.database.push(own_mapping("[7]10.1.0.0/24"));
    let mut bench = Bench::new(two);
    bench.event(Event::Data(DataEvent::Miss {
        iid: 7,
        source: ip(HOST),
        destination: ip("203.0.113.20"),
        packet: HeldPacket {
            iid: 0,
            bytes: vec![1],
        },
    }));
    let (_, _, request) = bench.requests().pop().unwrap();
    assert_eq!(
        request.records[0].prefix(),
        Some(prefix("[7]203.0.113.20/32"))
    );
    bench.answer(&request, vec![to_peer("203.0.113.0/24", 1440)]);
    assert_eq!(
        bench.installed("203.0.113.0/24"),
        None,
        "another instance's record"
    );
    bench.answer(&request, vec![to_peer("[7]203.0.113.0/24", 1440)]);
    assert!(bench.installed("[7]203.0.113.0/24").is_some());
    assert_eq!(bench.installed("203.0.113.0/24"), None);
}

#[test]
fn on_miss_drop_holds_nothing() {
    let mut drop = settings();
    drop.hold = None;
    let mut bench = Bench::new(drop);
    bench.learn("203.0.113.20", to_peer("203.0.113.0/24", 1440));
    assert!(
        !bench
            .done
            .iter()
            .any(|(_, action)| matches!(action, Action::Release(_)))
    );
    assert_eq!(bench.count("miss-dropped"), 1);
}

#[test]
fn a_pitr_names_itself_and_no_source_eid() {
    let mut pitr = settings();
    pitr.role = Role::Pitr;
    let mut bench = Bench::new(pitr);
    bench.miss("203.0.113.20");
    let (_, _, request) = bench.requests().pop().unwrap();
    assert!(request.pitr);
    assert_eq!(request.source_eid, Address::None);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut bench = Bench::fresh(settings());
        for n in 0..20 {
            bench.miss(&format!("203.0.113.{n}"));
            bench.at_s(n + 1);
        }
        bench.done
    };
    assert_eq!(run(), run());
}
