//! Map-Registers, Map-Notifies, deregistration.

use super::*;
use lisp::auth;

fn seconds(registers: &[(Time, MapRegister)]) -> Vec<u64> {
    registers
        .iter()
        .map(|(at, _)| at.since_origin().as_secs())
        .collect()
}

fn confirmed(settings: Settings) -> Bench {
    let mut bench = Bench::fresh(settings);
    bench.at(0);
    bench.notify_all();
    bench
}

#[test]
fn the_first_register_goes_at_once_and_is_authentic() {
    let mut bench = Bench::fresh(settings());
    bench.at(0);
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].to, SocketAddr::new(ip(MAP_SERVER), CONTROL_PORT));
    auth::verify(&sent[0].payload, &key(), &[]).unwrap();
    let ControlMessage::MapRegister(register) = &sent[0].message else {
        panic!("no Map-Register");
    };
    assert!(register.want_map_notify && !register.proxy_reply);
    assert_eq!(register.nonce, 0, "RFC 6830 6.1.6");
    let record = &register.records[0];
    assert_eq!(record.eid_prefix(), Some(prefix("10.1.0.0/24")));
    assert_eq!(record.ttl, 1440);
    assert!(record.authoritative);
    assert_eq!(record.action, lisp::wire::Action::NoAction);
    assert!(record.locators[0].local && record.locators[0].reachable);
    assert!(!record.locators[0].probed);
}

#[test]
fn confirmed_registrations_repeat_every_minute() {
    let mut bench = confirmed(settings());
    let mut at = Vec::new();
    for second in 1..=200 {
        bench.at_s(second);
        for sent in bench.sent() {
            if let ControlMessage::MapRegister(register) = sent.message {
                at.push(sent.at.since_origin().as_secs());
                bench.notify(register.nonce, register.records);
            }
        }
    }
    assert_eq!(at, [60, 120, 180]);
}

#[test]
fn without_map_notify_the_waits_double_up_to_a_minute() {
    let mut bench = Bench::fresh(settings());
    bench.at_s(190);
    assert_eq!(
        seconds(&bench.registers()),
        [0, 1, 3, 7, 15, 31, 63, 123, 183],
        "gaps 1, 2, 4, 8, 16, 32, 60 (RFC 9301 5.7)"
    );
}

#[test]
fn map_notify_not_wanted_means_no_retransmission() {
    let mut quiet = settings();
    quiet.map_servers[0].want_map_notify = false;
    let mut bench = Bench::fresh(quiet);
    bench.at_s(130);
    assert_eq!(seconds(&bench.registers()), [0, 60, 120]);
}

#[test]
fn quick_registration_ends_after_five_minutes() {
    let mut quick = settings();
    quick.map_servers[0].want_map_notify = false;
    quick.quick_registration = Some((Duration::from_secs(20), Duration::from_secs(300)));
    let mut bench = Bench::fresh(quick);
    bench.at_s(430);
    let at = seconds(&bench.registers());
    assert_eq!(at[..4], [0, 20, 40, 60]);
    assert_eq!(at[at.len() - 3..], [300, 360, 420]);
}

#[test]
fn forged_map_notifies_confirm_nothing() {
    let mut bench = Bench::fresh(settings());
    bench.at(0);
    let register = bench.registers().pop().unwrap().1;
    let notify = MapNotify {
        auth: key().blank(),
        records: register.records,
        ..MapNotify::default()
    };
    let wrong = AuthKey::new(0, MacAlgorithm::HmacSha256_128, b"other");
    bench.receive_on(CONTROL_PORT, MAP_SERVER, notify.to_signed_vec(&wrong));
    assert_eq!(bench.count("map-notify-not-authentic"), 1);
    bench.at_s(1);
    assert_eq!(bench.registers().len(), 1, "still unconfirmed");
}

#[test]
fn many_prefixes_take_several_messages() {
    let mut many = settings();
    many.database = (0..200)
        .map(|n| own_mapping(&format!("10.1.{n}.0/24")))
        .collect();
    let mut bench = Bench::fresh(many);
    bench.at(0);
    let sent = bench.sent();
    assert!(sent.len() > 1);
    assert!(sent.iter().all(|sent| sent.payload.len() <= 1400));
    let records: usize = sent
        .iter()
        .map(|sent| match &sent.message {
            ControlMessage::MapRegister(register) => register.records.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(records, 200);
}

#[test]
fn nonces_increase_in_the_newer_edition() {
    let mut newer = settings();
    newer.edition = Edition::Rfc9300;
    let mut bench = Bench::fresh(newer);
    bench.at_s(10);
    let nonces: Vec<u64> = bench.registers().iter().map(|(_, r)| r.nonce).collect();
    assert!(nonces[0] > 1000);
    assert!(
        nonces.windows(2).all(|pair| pair[0] < pair[1]),
        "{nonces:?}"
    );
}

#[test]
fn an_unsolicited_map_notify_is_acknowledged_in_the_newer_edition() {
    let mut newer = settings();
    newer.edition = Edition::Rfc9300;
    let mut bench = confirmed(newer);
    bench.sent();
    bench.notify(77, vec![to_peer("10.9.0.0/24", 60)]);
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    let ControlMessage::MapNotifyAck(ack) = &sent[0].message else {
        panic!("no Map-Notify-Ack");
    };
    assert_eq!(ack.0.nonce, 77);
    auth::verify(&sent[0].payload, &key(), &[]).unwrap();
}

#[test]
fn stopping_withdraws_everything() {
    let mut bench = confirmed(settings());
    bench.event(Event::Stop);
    let register = bench.registers().pop().unwrap().1;
    assert!(!register.want_map_notify);
    assert_eq!(register.records[0].ttl, 0);
    assert!(register.records[0].locators.is_empty());
    assert_eq!(
        register.records[0].eid_prefix(),
        Some(prefix("10.1.0.0/24"))
    );
}

#[test]
fn changes_are_registered_at_once() {
    use crate::core::Change;
    let mut bench = confirmed(settings());
    bench.at_s(30);
    bench.event(Event::Change(Change::Add(own_mapping("10.2.0.0/24"))));
    bench.at(30_001);
    let registers = bench.registers();
    assert_eq!(registers.len(), 1);
    assert_eq!(registers[0].1.records.len(), 2);
    bench.event(Event::Change(Change::Remove(prefix("10.1.0.0/24"))));
    let registers = bench.registers();
    assert_eq!(registers[0].1.records[0].ttl, 0, "withdrawn");
    bench.at_s(120);
    for (_, register) in bench.registers() {
        assert_eq!(register.records.len(), 1, "and not registered any more");
    }
}

#[test]
fn a_prefix_without_a_route_is_withdrawn_and_comes_back() {
    let mut bench = confirmed(settings());
    let eid = prefix("10.1.0.0/24");
    bench.event(Event::SiteRoute {
        prefix: eid,
        present: false,
    });
    assert_eq!(bench.registers()[0].1.records[0].ttl, 0);
    assert_eq!(bench.core.show_away(bench.now)[0].reason, "no-route");
    assert_eq!(bench.core.show_database(bench.now)[0].state, "no-route");
    bench.at_s(120);
    assert!(bench.registers().is_empty(), "nothing left to register");
    bench.event(Event::SiteRoute {
        prefix: eid,
        present: true,
    });
    bench.at(120_001);
    assert_eq!(bench.registers()[0].1.records[0].ttl, 1440);
    assert!(bench.core.show_away(bench.now).is_empty());
}

#[test]
fn a_reload_acts_on_the_differences_and_keeps_the_map_cache() {
    let mut bench = confirmed(settings());
    bench.learn("203.0.113.20", to_peer("203.0.113.0/24", 1440));
    let mut changed = settings();
    changed.database = vec![own_mapping("10.5.0.0/24")];
    bench.event(Event::Reload(Box::new(changed)));
    bench.event(Event::Tick);
    let registers = bench.registers();
    assert_eq!(registers[0].1.records[0].ttl, 0);
    let last = &registers.last().unwrap().1;
    assert_eq!(last.records[0].eid_prefix(), Some(prefix("10.5.0.0/24")));
    assert!(bench.installed("203.0.113.0/24").is_some());
}

#[test]
fn a_map_server_that_is_given_up_is_told() {
    let mut bench = confirmed(settings());
    let mut without = settings();
    without.map_servers.clear();
    bench.event(Event::Reload(Box::new(without)));
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].to.ip(), ip(MAP_SERVER));
    let ControlMessage::MapRegister(register) = &sent[0].message else {
        panic!("no Map-Register");
    };
    assert_eq!(register.records[0].ttl, 0);
}

#[test]
fn a_part_that_is_registered_elsewhere_goes_into_the_away_table() {
    let mut bench = confirmed(settings());
    bench.notify(0, vec![to_peer("10.1.0.128/25", 1440)]);
    assert_eq!(bench.core.show_away(bench.now)[0].prefix, "10.1.0.128/25");
    assert_eq!(bench.core.show_database(bench.now)[0].state, "registered");
    bench.event(Event::Data(DataEvent::AwayEid {
        iid: 0,
        source: ip("203.0.113.20"),
        eid: ip("10.1.0.200"),
        encapsulator: ip(PEER),
        known: true,
    }));
    let (_, to, request) = bench.requests().pop().unwrap();
    assert!(request.smr);
    assert_eq!(to, ip(PEER));
    assert_eq!(request.records[0].prefix(), Some(prefix("10.1.0.128/25")));

    // Those who stayed reach it as they reach other sites; what did not move stays ours.
    bench.miss("10.1.0.200");
    let asked = bench.requests().pop().expect("a miss").2;
    bench.answer(&asked, vec![to_peer("10.1.0.0/24", 1440)]);
    assert_eq!(bench.installed("10.1.0.0/24"), None);
    bench.answer(&asked, vec![to_peer("10.1.0.200/32", 1440)]);
    assert!(bench.installed("10.1.0.200/32").is_some());
}

#[test]
fn changes_that_make_no_sense_are_refused_with_a_reason() {
    use crate::core::Change;
    let bench = confirmed(settings());
    let refused = |change: Change| bench.core.refusal(&change).expect("refused");
    let unknown = refused(Change::Remove(prefix("10.9.0.0/24")));
    assert!(unknown.contains("10.9.0.0/24"), "{unknown}");
    let mut inside = own_mapping("10.2.0.0/24");
    inside.locators = vec![own_locator("10.1.0.5")];
    assert!(refused(Change::Add(inside)).contains("10.1.0.0/24"));
    refused(Change::Move {
        from: prefix("10.1.0.0/24"),
        to: prefix("10.1.0.0/24"),
    });
    refused(Change::Locator {
        address: ip("192.0.2.250"),
        up: false,
    });
    assert_eq!(
        bench.core.refusal(&Change::Remove(prefix("10.1.0.0/24"))),
        None
    );
}

/// Many prefixes fill several Map-Registers: none is larger than the edition allows on a path of unknown MTU, none has
/// more records than its count field can say, and together they hold every prefix once.
#[test]
fn many_prefixes_take_several_messages_of_a_bounded_size() {
    for (edition, map_server, largest) in [
        (Edition::Rfc6830, MAP_SERVER, 1500 - 20 - 8),
        (Edition::Rfc9300, MAP_SERVER, 576 - 20 - 8),
        (Edition::Rfc9300, "2001:db8:51::10", 1280 - 40 - 8),
    ] {
        let mut large = settings();
        large.edition = edition;
        large.map_servers[0].address = ip(map_server);
        large.map_servers[0].key = AuthKey::new(0, MacAlgorithm::HmacSha256Full, b"secret");
        large.xtr_site_id = Some(lisp::wire::XtrSiteId {
            xtr_id: [7; 16],
            site_id: 1,
        });
        large.rlocs = vec![ip(OWN), ip("2001:db8::1")];
        let locators = vec![own_locator(OWN), own_locator("2001:db8::1")];
        large.database = (0..600u32)
            .map(|n| {
                let mut mapping = own_mapping(&format!("10.{}.{}.0/24", n / 256, n % 256));
                mapping.locators.clone_from(&locators);
                mapping
            })
            .collect();
        let mut bench = Bench::fresh(large);
        bench.at(0);
        let sent = bench.sent();
        let mut registered = Vec::new();
        for message in &sent {
            assert!(
                message.payload.len() <= largest,
                "{} octets to {map_server}, at most {largest}",
                message.payload.len()
            );
            let ControlMessage::MapRegister(register) = &message.message else {
                panic!("no Map-Register");
            };
            assert!(!register.records.is_empty() && register.records.len() <= 255);
            registered.extend(register.records.iter().filter_map(MapRecord::eid_prefix));
        }
        assert_eq!(registered.len(), 600);
        registered.sort();
        registered.dedup();
        assert_eq!(registered.len(), 600, "each once");
        // Room is used: no message could have taken the next one's first record.
        let room: Vec<usize> = sent.iter().map(|message| message.payload.len()).collect();
        let record = 12 + 4 + 12 + 4 + 12 + 16;
        let full = room[..room.len() - 1]
            .iter()
            .all(|len| len + 2 * record > largest);
        assert!(full, "{room:?}");
    }
}
