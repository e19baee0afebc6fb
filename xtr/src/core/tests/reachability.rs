//! RLOC-probes and the hints that packets give.

use super::*;

fn probing() -> Settings {
    let mut probing = settings();
    probing.probe_interval = Some(Duration::from_secs(10));
    probing
}

fn learned(settings: Settings) -> Bench {
    let mut bench = Bench::new(settings);
    let both = vec![locator(PEER, 1, 1), locator("192.0.2.3", 1, 1)];
    bench.learn("203.0.113.20", positive("203.0.113.0/24", 1440, both));
    bench
}

fn answer_probe(bench: &mut Bench, request: &MapRequest, marked: &[&str], authoritative: bool) {
    let mut locators = vec![locator(PEER, 1, 1), locator("192.0.2.3", 1, 1)];
    for locator in &mut locators {
        locator.probed = marked.iter().any(|m| locator.rloc.ip() == Some(ip(m)));
    }
    let mut record = positive("203.0.113.0/24", 1440, locators);
    record.authoritative = authoritative;
    let reply = MapReply {
        probe: true,
        nonce: request.nonce,
        records: vec![record],
        ..MapReply::default()
    };
    bench.receive_on(
        CLIENT_PORT,
        "198.51.100.77",
        ControlMessage::MapReply(reply).to_vec(),
    );
}

fn usable(bench: &Bench, address: &str) -> bool {
    let Some(Forward::Encapsulate(locators)) = bench.installed("203.0.113.0/24") else {
        panic!("not installed");
    };
    locators
        .iter()
        .any(|l| l.rloc == Some(ip(address)) && l.usable)
}

#[test]
fn every_locator_is_probed_directly_with_the_cached_prefix() {
    let mut bench = learned(probing());
    let mut asked: HashMap<IpAddr, Vec<Time>> = HashMap::new();
    for tenth in 1..=6000 {
        bench.at(tenth * 100);
        for sent in bench.sent() {
            let ControlMessage::MapRequest(request) = sent.message else {
                continue;
            };
            assert!(request.probe && !request.smr);
            assert_eq!(request.records[0].prefix(), Some(prefix("203.0.113.0/24")));
            assert_eq!(request.source_eid, lisp::Address::None);
            asked.entry(sent.to.ip()).or_default().push(sent.at);
            answer_probe(&mut bench, &request, &[&sent.to.ip().to_string()], true);
        }
    }
    for address in [PEER, "192.0.2.3"] {
        let at = &asked[&ip(address)];
        let gaps: Vec<f64> = at
            .windows(2)
            .map(|w| w[1].since(w[0]).as_secs_f64())
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((9.0..11.0).contains(&mean), "mean {mean}");
        assert!(gaps.iter().any(|g| (g - gaps[0]).abs() > 0.2), "no jitter");
        assert!(usable(&bench, address));
    }
    assert!(bench.core.show_rlocs(bench.now)[0].rtt_us.is_some());
}

#[test]
fn a_silent_locator_is_left_probed_less_often_and_rejoined() {
    let mut bench = learned(probing());
    let mut last = None;
    let mut rounds = Vec::new();
    for second in 1..=400 {
        bench.at_s(second);
        for (at, to, request) in bench.requests() {
            if to == ip(PEER) {
                answer_probe(&mut bench, &request, &[PEER], true);
            } else {
                rounds.push(at.since_origin().as_secs());
                last = Some(request);
            }
        }
    }
    assert!(usable(&bench, PEER));
    assert!(
        !usable(&bench, "192.0.2.3"),
        "three probes without an answer"
    );
    let starts: Vec<u64> = rounds.chunks(3).map(|round| round[0]).collect();
    let gaps: Vec<u64> = starts.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(
        gaps.last() > gaps.first(),
        "back-off for silent locators: {gaps:?}"
    );
    assert!(
        gaps.iter().all(|gap| *gap <= 110),
        "but never given up: {gaps:?}"
    );

    let mut second = 400;
    while !usable(&bench, "192.0.2.3") {
        second += 1;
        assert!(second < 600);
        bench.at_s(second);
        for (_, to, request) in bench.requests() {
            answer_probe(&mut bench, &request, &[&to.to_string()], true);
        }
    }
    assert!(last.is_some());
}

#[test]
fn the_p_bit_names_the_locator_not_the_source_of_the_reply() {
    let mut bench = learned(probing());
    let mut probed = 0;
    for second in 1..=60 {
        bench.at_s(second);
        for (_, to, request) in bench.requests() {
            if to == ip(PEER) {
                probed += 1;
                answer_probe(&mut bench, &request, &["192.0.2.3"], true);
            } else {
                answer_probe(&mut bench, &request, &[&to.to_string()], true);
            }
        }
    }
    assert!(probed >= 3);
    assert!(!usable(&bench, PEER), "nobody vouched for it");
    assert!(bench.count("probe-reply-for-other-locator") > 0);
}

#[test]
fn of_several_p_bits_the_first_counts_and_proxies_prove_nothing() {
    let mut bench = learned(probing());
    bench.at_s(13);
    let requests = bench.requests();
    let of = |address: &str| {
        let found = requests.iter().find(|r| r.1 == ip(address));
        found.map(|r| r.2.clone()).expect("probed within 12.5 s")
    };
    answer_probe(&mut bench, &of(PEER), &[PEER, "192.0.2.3"], true);
    assert_eq!(bench.count("probe-answered"), 1);
    answer_probe(&mut bench, &of("192.0.2.3"), &["192.0.2.3"], false);
    assert_eq!(bench.count("probe-answered"), 1);
    assert_eq!(bench.count("probe-reply-not-authoritative"), 1);
}

#[test]
fn an_icmp_hint_is_verified_before_it_counts() {
    let mut bench = learned(settings());
    let hint = || {
        Event::Data(DataEvent::Unreachable {
            rloc: ip(PEER),
            reporter: None,
            kind: 3,
            code: 1,
        })
    };
    bench.event(hint());
    bench.event(hint());
    let requests = bench.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].2.probe);
    assert!(usable(&bench, PEER), "anybody can say so");
    answer_probe(&mut bench, &requests[0].2, &[PEER], true);
    bench.at_s(30);
    assert!(usable(&bench, PEER));

    bench.event(hint());
    bench.at_s(40);
    assert!(!usable(&bench, PEER), "nobody answers: it is down");
    bench.sent();
    let retest = (41..120).find_map(|second| {
        bench.at_s(second);
        bench.requests().pop()
    });
    let (_, _, probe) = retest.expect("tested again although probing is off");
    answer_probe(&mut bench, &probe, &[PEER], true);
    assert!(usable(&bench, PEER));
}

#[test]
fn locator_status_bits_take_a_locator_out_until_they_return() {
    let mut heeding = settings();
    heeding.locator_status_bits = true;
    let mut bench = learned(heeding);
    let say = |bench: &mut Bench, bits| {
        bench.event(Event::Data(DataEvent::LocatorStatus {
            iid: 0,
            source: ip("203.0.113.20"),
            encapsulator: ip(PEER),
            bits,
            width: 32,
        }));
    };
    say(&mut bench, 0b11);
    assert!(usable(&bench, PEER) && usable(&bench, "192.0.2.3"));
    say(&mut bench, 0b01);
    assert!(usable(&bench, PEER) && !usable(&bench, "192.0.2.3"));
    assert_eq!(bench.requests().len(), 1, "and it is probed");
    bench.at_s(2);
    say(&mut bench, 0b11);
    assert!(usable(&bench, "192.0.2.3"));
}

#[test]
fn one_entry_of_the_map_cache_is_cleared_by_its_name() {
    use crate::core::Change;
    let mut bench = learned(probing());
    let entries = |bench: &Bench| bench.core.show_map_cache(bench.now).len();
    assert_eq!(entries(&bench), 1);
    let other = Change::ClearMapCache(Some(prefix("203.0.113.0/25")));
    assert!(
        bench
            .core
            .refusal(&other)
            .is_some_and(|text| text.contains("203.0.113.0/25"))
    );
    bench.event(Event::Change(other));
    assert_eq!(entries(&bench), 1);
    let this = Change::ClearMapCache(Some(prefix("203.0.113.0/24")));
    assert_eq!(bench.core.refusal(&this), None);
    bench.event(Event::Change(this));
    assert_eq!(entries(&bench), 0);
}

#[test]
fn locators_that_nobody_uses_are_not_probed() {
    let mut bench = learned(probing());
    bench.event(Event::Change(crate::core::Change::ClearMapCache(None)));
    bench.sent();
    bench.at_s(100);
    assert!(bench.requests().is_empty());
    assert!(bench.core.show_rlocs(bench.now).is_empty());
}

#[test]
fn locator_status_bits_count_from_the_site_itself_and_at_a_bounded_rate() {
    let mut heeding = settings();
    heeding.locator_status_bits = true;
    let mut bench = learned(heeding);
    let say = |bench: &mut Bench, from: &str, bits| {
        bench.event(Event::Data(DataEvent::LocatorStatus {
            iid: 0,
            source: ip("203.0.113.20"),
            encapsulator: ip(from),
            bits,
            width: 32,
        }));
    };
    let changes = |bench: &mut Bench| {
        let installed = |(_, action): &(Time, Action)| matches!(action, Action::Install { .. });
        bench.done.drain(..).filter(installed).count()
    };
    bench.done.clear();
    say(&mut bench, "192.0.2.99", 0b00);
    assert_eq!(changes(&mut bench), 0, "a stranger");
    assert_eq!(bench.count("locator-status-from-stranger"), 1);
    for turn in 0..3000u64 {
        bench.at(turn);
        say(&mut bench, PEER, if turn % 2 == 0 { 0b11 } else { 0b01 });
    }
    let seen = changes(&mut bench);
    assert!((2..=4).contains(&seen), "{seen} changes in three seconds");
    assert!(bench.count("locator-status-limited") > 1000);
    // What the site says for good is heard in the end.
    bench.at_s(5);
    say(&mut bench, PEER, 0b10);
    assert!(!usable(&bench, PEER));
}

#[test]
fn a_refreshed_mapping_keeps_what_its_status_bits_said_unless_the_set_changed() {
    let mut heeding = probing();
    heeding.locator_status_bits = true;
    let mut bench = learned(heeding);
    bench.event(Event::Data(DataEvent::LocatorStatus {
        iid: 0,
        source: ip("203.0.113.20"),
        encapsulator: ip("192.0.2.3"),
        bits: 0b10,
        width: 32,
    }));
    assert!(!usable(&bench, PEER));
    for (_, to, request) in bench.requests() {
        answer_probe(&mut bench, &request, &[&to.to_string()], true);
    }
    assert!(bench.count("probe-answered") > 0);
    assert!(
        !usable(&bench, PEER),
        "the reply to a probe is no status bit"
    );
    let another = vec![locator(PEER, 1, 1), locator("192.0.2.4", 1, 1)];
    let smr = ControlMessage::MapRequest(MapRequest {
        smr: true,
        ..ask_for("203.0.113.0/24", 5, "192.0.2.3")
    });
    bench.receive("192.0.2.3", &smr);
    let (_, _, request) = bench.requests().pop().expect("the SMR asks");
    bench.answer(&request, vec![positive("203.0.113.0/24", 1440, another)]);
    assert!(usable(&bench, PEER), "the bits numbered another set");
}
