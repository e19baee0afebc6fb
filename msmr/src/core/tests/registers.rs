//! Registrations: who may, how long, what comes back.

use lisp::auth::verify;
use lisp::wire::{MapNotifyAck, XtrSiteId};

use super::*;

const EID: &str = "10.1.0.0/24";
const HOST: &str = "10.1.0.5/32";

fn bench() -> Bench {
    Bench::new(config(vec![site("a", &[EID])]))
}

fn edition_9300(sites: Vec<SiteConfig>) -> Bench {
    Bench::new(Config {
        edition: Edition::Rfc9300,
        ..config(sites)
    })
}

#[test]
fn an_authentic_register_is_acknowledged_to_port_4342_under_the_same_key() {
    let mut bench = bench();
    let sent = register(vec![record(EID, 1440, &[ETR])]);
    let out = bench.register(ETR, &sent);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].to.to_string(), "192.0.2.2:4342");
    assert_eq!(out[0].from, Some(ip(SERVER)));
    verify(&out[0].payload, &auth("secret"), &[]).unwrap();
    let notify = notify(&out[0]);
    assert_eq!(notify.nonce, sent.nonce);
    assert_eq!(notify.records, sent.records);
    assert_eq!(notify.reserved, 0);
}

#[test]
fn without_the_m_bit_nothing_comes_back() {
    let mut bench = bench();
    let quiet = MapRegister {
        want_map_notify: false,
        ..register(vec![record(EID, 1440, &[ETR])])
    };
    assert!(bench.register(ETR, &quiet).is_empty());
    assert_eq!(bench.ask(HOST), forwarded(ETR));
}

#[test]
fn a_wrong_key_or_a_flipped_bit_changes_nothing_and_is_counted() {
    let mut bench = bench();
    let sent = register(vec![record(EID, 1440, &[ETR])]);
    assert!(bench.register_with(ETR, &sent, &auth("wrong")).is_empty());
    let mut altered = sent.to_signed_vec(&auth("secret"));
    let last = altered.len() - 1;
    altered[last] ^= 1;
    assert!(bench.datagram(ETR, 48879, &altered).is_empty());
    let other_id = AuthKey::new(9, MacAlgorithm::HmacSha256_128, b"secret");
    assert!(bench.register_with(ETR, &sent, &other_id).is_empty());
    assert_eq!(bench.counter("a", SiteEvent::AuthenticationFailures), 3);
    assert_eq!(bench.ask(HOST), negative(EID, 1));
}

#[test]
fn any_of_several_keys_is_taken_and_answered_under() {
    let mut with_two = site("a", &[EID]);
    with_two.keys.push(SiteKey {
        auth: Arc::new(AuthKey::new(3, MacAlgorithm::HmacSha1_96, b"second")),
        fingerprint: 2,
    });
    let mut bench = Bench::new(config(vec![with_two]));
    let second = AuthKey::new(3, MacAlgorithm::HmacSha1_96, b"second");
    let sent = register(vec![record(EID, 1440, &[ETR])]);
    let out = bench.register_with(ETR, &sent, &second);
    verify(&out[0].payload, &second, &[]).unwrap();
    assert_eq!(notify(&out[0]).auth.key_id, 3);
    assert_eq!(bench.simple(ETR, EID).len(), 1);
}

#[test]
fn full_codes_are_taken_only_where_configured() {
    let full = AuthKey::new(0, MacAlgorithm::HmacSha256Full, b"secret");
    let sent = register(vec![record(EID, 1440, &[ETR])]);
    let mut strict = bench();
    assert!(strict.register_with(ETR, &sent, &full).is_empty());
    let mut lenient = Bench::new(Config {
        accept_mac: AcceptMac {
            truncated: true,
            full: true,
        },
        ..config(vec![site("a", &[EID])])
    });
    let out = lenient.register_with(ETR, &sent, &full);
    verify(&out[0].payload, &full, &[MacAlgorithm::HmacSha256Full]).unwrap();
    assert_eq!(lenient.simple(ETR, EID).len(), 1);
}

#[test]
fn registrations_live_three_minutes_and_any_valid_register_restarts_them() {
    let mut bench = bench();
    bench.simple(ETR, EID);
    bench.pass(120);
    bench.simple(ETR, EID);
    bench.pass(120);
    bench.simple(ETR, EID);
    bench.pass(179);
    assert_eq!(bench.ask(HOST), forwarded(ETR));
    bench.pass(1);
    assert_eq!(bench.ask(HOST), negative(EID, 1));
    assert_eq!(bench.core.registration_count(), 0);
    assert_eq!(bench.counter("a", SiteEvent::Expirations), 1);
    assert_eq!(bench.core.next_timer(), None);
}

#[test]
fn a_failed_register_does_not_refresh() {
    let mut bench = bench();
    bench.simple(ETR, EID);
    bench.pass(100);
    let sent = register(vec![record(EID, 1440, &[ETR])]);
    bench.register_with(ETR, &sent, &auth("wrong"));
    bench.pass(80);
    assert_eq!(bench.ask(HOST), negative(EID, 1));
}

#[test]
fn the_timeout_is_the_sites_own_where_it_has_one() {
    let mut short = site("a", &[EID]);
    short.registration_timeout = Some(Duration::from_secs(20));
    let mut bench = Bench::new(config(vec![short, site("b", &["10.2.0.0/24"])]));
    bench.simple(ETR, EID);
    bench.simple(ETR, "10.2.0.0/24");
    bench.pass(20);
    assert_eq!(bench.ask(HOST), negative(EID, 1));
    assert_eq!(bench.ask("10.2.0.1/32"), forwarded(ETR));
}

#[test]
fn the_t_bit_makes_the_record_ttl_the_timeout_in_the_newer_edition() {
    let timed = |ttl| MapRegister {
        use_ttl: true,
        ..register(vec![record(EID, ttl, &[ETR])])
    };
    let mut newer = edition_9300(vec![site("a", &[EID])]);
    newer.register(ETR, &timed(1));
    newer.pass(59);
    assert_eq!(newer.ask(HOST), forwarded(ETR));
    newer.pass(1);
    assert_eq!(newer.ask(HOST), negative(EID, 1));
    let forever = MapRegister {
        nonce: 0x43,
        ..timed(u32::MAX)
    };
    newer.register(ETR, &forever);
    newer.pass(100_000_000);
    assert_eq!(newer.ask(HOST), forwarded(ETR));
    let mut older = bench();
    older.register(ETR, &timed(1));
    older.pass(179);
    assert_eq!(older.ask(HOST), forwarded(ETR));
}

#[test]
fn only_configured_prefixes_and_only_permitted_more_specifics() {
    let mut bench = Bench::new(config(vec![
        site("a", &["10.1.0.0/16", "10.2.0.0/16+"]),
        site("b", &["10.2.9.0/24"]),
    ]));
    for refused in ["10.3.0.0/24", "10.0.0.0/8", "10.1.1.0/24", "[5]10.1.0.0/16"] {
        assert!(bench.simple(ETR, refused).is_empty(), "{refused}");
    }
    assert_eq!(bench.simple(ETR, "10.2.1.0/24").len(), 1);
    assert_eq!(bench.ask("10.2.1.1/32"), forwarded(ETR));
    // Site b's prefix lies inside what a may divide: it is b's all the same.
    bench.core.sites.get_mut(1).unwrap().config.keys = vec![key("of b")];
    assert!(bench.simple(ETR, "10.2.9.0/24").is_empty());
    assert!(bench.simple(ETR, "10.2.9.128/25").is_empty());
}

#[test]
fn of_mixed_records_the_allowed_ones_are_taken_and_acknowledged() {
    let mut bench = bench();
    let mixed = register(vec![
        record("10.9.0.0/24", 1440, &[ETR]),
        record(EID, 1440, &[ETR]),
    ]);
    let out = bench.register(ETR, &mixed);
    assert_eq!(notify(&out[0]).records, [record(EID, 1440, &[ETR])]);
    assert_eq!(bench.counter("a", SiteEvent::PrefixRefusals), 1);
}

#[test]
fn locators_outside_the_allowed_ones_are_refused_and_counted() {
    let mut careful = site("a", &[EID]);
    careful.allowed_locators = vec!["192.0.2.0/30".parse().unwrap()];
    let mut bench = Bench::new(config(vec![careful]));
    let sent = register(vec![record(EID, 1440, &[ETR, "203.0.113.9"])]);
    assert!(bench.register(ETR, &sent).is_empty());
    assert_eq!(bench.counter("a", SiteEvent::LocatorMismatches), 1);
    assert_eq!(bench.simple(ETR, EID).len(), 1);
}

#[test]
fn ttl_0_withdraws_at_once_and_is_acknowledged() {
    let mut bench = bench();
    bench.simple(ETR, EID);
    let out = bench.register(ETR, &register(vec![record(EID, 0, &[ETR])]));
    assert_eq!(out.len(), 1);
    assert_eq!(bench.ask(HOST), negative(EID, 1));
    assert_eq!(bench.core.registration_count(), 0);
}

#[test]
fn one_of_several_etrs_withdraws_and_the_other_serves() {
    let mut bench = bench();
    let both = |ttl| register(vec![record(EID, ttl, &[ETR, ETR2])]);
    bench.register(ETR, &both(1440));
    bench.register(ETR2, &both(1440));
    let turns = [bench.ask(HOST), bench.ask(HOST), bench.ask(HOST)];
    assert_ne!(turns[0], turns[1]);
    assert_eq!(turns[0], turns[2]);
    bench.register(ETR2, &both(0));
    assert_eq!(bench.core.registration_count(), 1);
    assert!(matches!(bench.ask(HOST), Answer::Forwarded(_)));
}

#[test]
fn replays_are_for_the_newer_edition() {
    let numbered = |nonce| MapRegister {
        nonce,
        ..register(vec![record(EID, 1440, &[ETR])])
    };
    let mut newer = edition_9300(vec![site("a", &[EID])]);
    let accepted = [42, 42, 41, 43].map(|nonce| newer.register(ETR, &numbered(nonce)).len());
    assert_eq!(accepted, [1, 0, 0, 1]);
    assert_eq!(newer.counter("a", SiteEvent::Replays), 2);
    let mut older = bench();
    let accepted = [42, 42, 41, 43].map(|nonce| older.register(ETR, &numbered(nonce)).len());
    assert_eq!(accepted, [1, 1, 1, 1]);
}

#[test]
fn nonces_count_per_xtr_id_and_survive_the_registration() {
    let of_xtr = |xtr: u8, nonce| MapRegister {
        nonce,
        xtr_site_id: Some(XtrSiteId {
            xtr_id: [xtr; 16],
            site_id: 1,
        }),
        ..register(vec![record(EID, 1440, &[ETR])])
    };
    let mut bench = edition_9300(vec![site("a", &[EID])]);
    assert_eq!(bench.register(ETR, &of_xtr(1, 42)).len(), 1);
    assert_eq!(bench.register(ETR, &of_xtr(2, 42)).len(), 1);
    // The same message from elsewhere is a replay too.
    assert!(bench.register(ETR2, &of_xtr(1, 42)).is_empty());
    bench.pass(3600);
    assert!(bench.register(ETR, &of_xtr(1, 42)).is_empty());
    let out = bench.register(ETR, &of_xtr(1, 43));
    assert_eq!(notify(&out[0]).xtr_site_id, of_xtr(1, 43).xtr_site_id);
}

#[test]
fn an_older_map_version_is_dropped_in_the_newer_edition() {
    let mut bench = edition_9300(vec![site("a", &[EID, "10.2.0.0/16+"])]);
    let mut nonce = 0;
    let mut versioned = |bench: &mut Bench, source: &str, eid: &str, version: u16, merge: bool| {
        nonce += 1;
        let mut sent = register(vec![record(eid, 1440, &[source])]);
        (sent.nonce, sent.merge) = (nonce, merge);
        sent.records[0].map_version = version;
        bench.register(source, &sent).len()
    };
    // Taken or not, in the order of arrival; round the circle of 4096, and 0 for none.
    for (version, taken) in [
        (5, 1),
        (4, 0),
        (5, 1),
        (6, 1),
        (4095, 0),
        (2000, 1),
        (4000, 1),
        (3, 1),
        (4000, 0),
        (0, 1),
        (1, 1),
    ] {
        assert_eq!(
            versioned(&mut bench, ETR, EID, version, false),
            taken,
            "{version}"
        );
    }
    assert_eq!(bench.counter("a", SiteEvent::OldVersions), 3);
    // Another ETR of the site speaks of the same mapping; merged ones and the places of a mobile EID have their own count.
    versioned(&mut bench, ETR, EID, 9, false);
    assert_eq!(versioned(&mut bench, ETR2, EID, 8, false), 0);
    assert_eq!(versioned(&mut bench, ETR2, EID, 8, true), 1);
    assert_eq!(versioned(&mut bench, ETR2, EID, 7, true), 0);
    versioned(&mut bench, ETR, "10.2.0.7/32", 9, false);
    assert_ne!(versioned(&mut bench, ETR2, "10.2.0.7/32", 1, false), 0);
    // What is over has no version.
    bench.pass(181);
    assert_eq!(versioned(&mut bench, ETR, EID, 1, false), 1);
}

#[test]
fn old_map_versions_are_nothing_to_the_older_edition() {
    let mut bench = bench();
    for version in [5, 4] {
        let mut sent = register(vec![record(EID, 1440, &[ETR])]);
        sent.records[0].map_version = version;
        assert_eq!(bench.register(ETR, &sent).len(), 1);
    }
}

#[test]
fn reserved_bits_are_ignored_in_the_older_edition() {
    for bit in (5..24).filter(|bit| *bit != 23) {
        let mut bench = bench();
        let mut message = register(vec![record(EID, 1440, &[ETR])]).to_signed_vec(&auth("secret"));
        message[bit / 8] |= 0x80 >> (bit % 8);
        lisp::auth::sign(&mut message, &auth("secret")).unwrap();
        assert_eq!(bench.datagram(ETR, 48879, &message).len(), 1, "bit {bit}");
    }
}

#[test]
fn merging_joins_the_sets_and_an_owner_speaks_for_its_locator() {
    let mut bench = bench();
    let merging = |source: &str| MapRegister {
        merge: true,
        proxy_reply: true,
        ..register(vec![record(EID, 1440, &[source])])
    };
    bench.register(ETR2, &merging(ETR2));
    bench.register(ETR, &merging(ETR));
    let union = Answer::Mapping(EID.into(), vec![ETR.into(), ETR2.into()]);
    assert_eq!(bench.ask(HOST), union);
    bench.pass(100);
    bench.register(ETR, &merging(ETR));
    bench.pass(80);
    assert_eq!(
        bench.ask(HOST),
        Answer::Mapping(EID.into(), vec![ETR.into()])
    );
}

#[test]
fn without_merging_the_latest_set_wins_and_the_previous_etr_is_told() {
    let mut bench = bench();
    bench.simple(ETR, EID);
    let out = bench.simple(ETR2, EID);
    assert_eq!(bench.ask(HOST), forwarded(ETR2));
    assert_eq!(bench.ask(HOST), forwarded(ETR2));
    let to_previous: Vec<_> = out.iter().filter(|t| t.to.ip() == ip(ETR)).collect();
    assert_eq!(to_previous.len(), 1);
    assert_eq!(to_previous[0].to.port(), 4342);
    verify(&to_previous[0].payload, &auth("secret"), &[]).unwrap();
    let told = notify(to_previous[0]);
    assert_eq!(told.records[0].locators[0].rloc.to_string(), ETR2);
    assert!(told.nonce != 0 && told.nonce != 0x42);
}

#[test]
fn a_mobile_host_has_one_place_and_its_old_etr_hears_of_the_move() {
    let mut bench = edition_9300(vec![site("a", &["10.1.0.0/16+", "[7]10.1.0.0/16+"])]);
    for host in ["10.1.0.5/32", "[7]10.1.0.5/32"] {
        let at = |source: &str, nonce| MapRegister {
            nonce,
            ..register(vec![record(host, 1440, &[source])])
        };
        bench.core.nonces = Nonces::default();
        bench.register(ETR, &at(ETR, 1));
        let out = bench.register(ETR2, &at(ETR2, 2));
        assert_eq!(bench.ask(host), forwarded(ETR2));
        let told = out.iter().find(|t| t.to.ip() == ip(ETR)).unwrap();
        assert_eq!(notify(told).records[0].eid_prefix(), Some(prefix(host)));
        // Told again until it acknowledges: 3 s apart, then doubled (RFC 9301 5.7).
        let start = bench.now;
        let again = bench.pass(170);
        let at: Vec<_> = again
            .iter()
            .map(|(at, _)| at.since(start).as_secs())
            .collect();
        assert_eq!(at, [3, 6, 9, 15, 27, 51]);
        assert!(again.iter().all(|(_, t)| t.payload == told.payload));
        bench.pass(600);
    }
}

#[test]
fn an_authentic_acknowledgement_ends_the_telling() {
    let mut bench = edition_9300(vec![site("a", &["10.1.0.0/16+"])]);
    bench.simple(ETR, HOST);
    let out = bench.simple(ETR2, HOST);
    let told = out.iter().find(|t| t.to.ip() == ip(ETR)).unwrap();
    let ack = MapNotifyAck(notify(told));
    bench.datagram(ETR, 4342, &ack.to_signed_vec(&auth("wrong")));
    assert_eq!(bench.core.count_of(Event::UnexpectedAck), 1);
    bench.datagram(ETR, 4342, &ack.to_signed_vec(&auth("secret")));
    assert_eq!(bench.core.count_of(Event::MapNotifyAcks), 1);
    assert!(bench.pass(100).is_empty());
}

#[test]
fn limits_bound_what_strangers_can_make_us_hold() {
    let mut small = config(vec![
        site("a", &["10.0.0.0/8+"]),
        site("b", &["11.0.0.0/8+"]),
    ]);
    small.limits.registrations = 5;
    small.limits.etrs_per_prefix = 2;
    small.sites[0].max_registrations = Some(3);
    let mut bench = Bench::new(small);
    let accepted = |bench: &mut Bench, net: u8| {
        (0..10)
            .filter(|n| !bench.simple(ETR, &format!("{net}.0.{n}.0/24")).is_empty())
            .count()
    };
    assert_eq!(accepted(&mut bench, 10), 3);
    assert_eq!(accepted(&mut bench, 11), 2);
    assert_eq!(bench.counter("a", SiteEvent::LimitRefusals), 7);
    assert_eq!(
        bench.core.known.iter().count(),
        5 + 2,
        "nothing is left of refusals"
    );
    let merging = |source: &str| MapRegister {
        merge: true,
        ..register(vec![record("10.0.0.0/24", 1440, &[source])])
    };
    for n in 20..30 {
        let source = format!("192.0.2.{n}");
        bench.register(&source, &merging(&source));
    }
    let known = bench.core.known.get(&prefix("10.0.0.0/24")).unwrap();
    assert_eq!(known.registration.as_ref().unwrap().etrs.len(), 2);
}

#[test]
fn sites_and_keys_come_change_and_go_live() {
    let mut bench = Bench::new(config(vec![site("a", &[EID])]));
    bench.simple(ETR, EID);
    // A second key: the old one still works, the registration stays.
    let mut changed = site("a", &[EID, "10.5.0.0/24"]);
    changed.keys.insert(0, key("new"));
    bench
        .core
        .configure(bench.now, config(vec![changed.clone()]));
    assert_eq!(bench.ask(HOST), forwarded(ETR));
    let sent = register(vec![record("10.5.0.0/24", 1440, &[ETR])]);
    assert_eq!(bench.register_with(ETR, &sent, &auth("new")).len(), 1);
    // The old key goes, with what was registered under it alone.
    changed.keys.pop();
    bench.core.put_site(bench.now, changed);
    assert_eq!(bench.ask(HOST), negative(EID, 1));
    assert!(bench.simple(ETR, EID).is_empty());
    assert_eq!(bench.ask("10.5.0.1/32"), forwarded(ETR));
    let sent = register(vec![record(EID, 1440, &[ETR])]);
    assert_eq!(bench.register_with(ETR, &sent, &auth("new")).len(), 1);
    // A prefix goes with what is registered of it.
    let mut fewer = site("a", &[EID]);
    fewer.keys = vec![key("new")];
    bench.core.configure(bench.now, config(vec![fewer]));
    assert_eq!(bench.ask("10.5.0.1/32"), negative("10.4.0.0/14", 15));
    assert_eq!(bench.ask(HOST), forwarded(ETR));
    // The site goes.
    assert!(bench.core.remove_site(bench.now, "a"));
    assert!(!bench.core.remove_site(bench.now, "a"));
    assert_eq!(bench.ask(HOST), negative("0.0.0.0/0", 15));
    assert_eq!(bench.core.registration_count(), 0);
    bench.pass(1000);
}

#[test]
fn more_specifics_go_when_they_are_no_longer_accepted() {
    let mut bench = Bench::new(config(vec![site("a", &["10.1.0.0/16+"])]));
    bench.simple(ETR, "10.1.7.0/24");
    bench
        .core
        .configure(bench.now, config(vec![site("a", &["10.1.0.0/16"])]));
    assert_eq!(bench.core.registration_count(), 0);
    assert_eq!(bench.ask("10.1.7.1/32"), negative("10.1.0.0/16", 1));
}
