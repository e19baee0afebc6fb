//! Interworking: PITR, PETR, RTR, and sites that use a PETR.

use lisp::Address;

use super::super::settings::RemoteLocator;
use super::*;

const PETR: &str = "192.0.2.40";
const SPARE: &str = "192.0.2.41";

fn proxy(role: Role) -> Settings {
    Settings {
        role,
        database: Vec::new(),
        map_servers: Vec::new(),
        ..settings()
    }
}

fn petr(address: &str, priority: u8) -> RemoteLocator {
    RemoteLocator {
        address: ip(address),
        priority,
        weight: 100,
    }
}

fn with_petrs(probe: Option<u64>) -> Settings {
    Settings {
        petrs: vec![petr(PETR, 1), petr(SPARE, 2)],
        probe_interval: probe.map(Duration::from_secs),
        ..settings()
    }
}

/// The proxy ETRs that the packet path may use now, in the order of the configuration.
fn usable(bench: &Bench) -> Vec<IpAddr> {
    let last = bench
        .done
        .iter()
        .rev()
        .find_map(|(_, action)| match action {
            Action::SetPetrs(petrs) => Some(petrs),
            _ => None,
        });
    let petrs = last.into_iter().flatten().filter(|petr| petr.usable);
    petrs.filter_map(|petr| petr.rloc).collect()
}

fn probes(bench: &mut Bench) -> Vec<(Time, IpAddr, MapRequest)> {
    let requests = bench.requests();
    requests.into_iter().filter(|(_, _, r)| r.probe).collect()
}

fn answer(bench: &mut Bench, from: &str, request: &MapRequest) {
    let asked = request.records[0].prefix().unwrap();
    let mut record = positive(&asked.to_string(), 1, vec![locator(from, 1, 100)]);
    record.locators[0].probed = true;
    let reply = MapReply {
        probe: true,
        nonce: request.nonce,
        records: vec![record],
        ..MapReply::default()
    };
    bench.receive_on(CLIENT_PORT, from, ControlMessage::MapReply(reply).to_vec());
}

#[test]
fn every_message_of_a_pitr_says_so() {
    let mut pitr = proxy(Role::Pitr);
    pitr.probe_interval = Some(Duration::from_secs(10));
    let mut bench = Bench::new(pitr);
    bench.learn(
        "203.0.113.20",
        positive("203.0.113.0/24", 1440, vec![locator(PEER, 1, 1)]),
    );
    bench.at_s(30);
    let requests = bench.requests();
    assert!(requests.iter().any(|(_, _, request)| request.probe));
    for (_, _, request) in requests {
        assert!(request.pitr);
        assert_eq!(request.source_eid, Address::None);
    }
}

#[test]
fn an_rtr_is_no_pitr_and_has_no_source_eid() {
    let mut bench = Bench::new(proxy(Role::Rtr));
    bench.miss("203.0.113.20");
    let (_, _, request) = bench.requests().pop().unwrap();
    assert!(!request.pitr);
    assert_eq!(request.source_eid, Address::None);
}

#[test]
fn a_pitr_heeds_an_smr_and_asks_the_mapping_system_until_it_answers() {
    let mut bench = Bench::new(proxy(Role::Pitr));
    bench.learn(
        "203.0.113.20",
        positive("203.0.113.0/24", 1440, vec![locator(PEER, 1, 1)]),
    );
    bench.at_s(10);
    let smr = MapRequest {
        smr: true,
        nonce: 7,
        source_eid: ip(HOST).into(),
        itr_rlocs: vec![ip(PEER).into()],
        records: vec![lisp::wire::EidQuery::new(prefix("203.0.113.0/24"))],
        ..MapRequest::default()
    };
    bench.receive(PEER, &ControlMessage::MapRequest(smr));
    bench.at_s(15);
    let asked: Vec<(u128, bool, bool)> = bench
        .requests()
        .iter()
        .map(|(at, to, request)| {
            assert_eq!(*to, ip(RESOLVERS[0]));
            let seconds = at.since(Time::from_millis(10_000)).as_millis() / 1000;
            (seconds, request.smr_invoked, request.pitr)
        })
        .collect();
    assert_eq!(asked, [(0, true, true), (1, true, true), (3, true, true)]);
}

#[test]
fn proxies_in_use_are_probed_from_the_start_about_everything() {
    let mut bench = Bench::fresh(with_petrs(Some(10)));
    bench.at(0);
    let sent = probes(&mut bench);
    let to: Vec<IpAddr> = sent.iter().map(|(_, to, _)| *to).collect();
    assert_eq!(to, [ip(PETR), ip(SPARE)]);
    for (_, _, request) in &sent {
        assert_eq!(request.records[0].prefix(), Some(prefix("0.0.0.0/0")));
    }
    assert_eq!(usable(&bench), [ip(PETR), ip(SPARE)]);
}

#[test]
fn a_silent_proxy_is_left_after_three_seconds_and_returns_when_it_answers() {
    let mut bench = Bench::fresh(with_petrs(Some(10)));
    bench.at(0);
    let spare = |bench: &mut Bench| {
        for (_, to, request) in probes(bench) {
            if to == ip(SPARE) {
                answer(bench, SPARE, &request);
            }
        }
    };
    spare(&mut bench);
    bench.at(2_999);
    spare(&mut bench);
    assert_eq!(usable(&bench), [ip(PETR), ip(SPARE)]);
    bench.at(3_000);
    spare(&mut bench);
    assert_eq!(usable(&bench), [ip(SPARE)]);
    probes(&mut bench);
    let again = (31..300).find_map(|tenth| {
        bench.at(tenth * 100);
        let asked = probes(&mut bench).into_iter();
        asked
            .map(|(_, to, request)| (to, request))
            .find(|(to, _)| *to == ip(PETR))
    });
    let (_, again) = again.unwrap();
    answer(&mut bench, PETR, &again);
    assert!(usable(&bench).contains(&ip(PETR)));
}

#[test]
fn without_probing_a_proxy_is_trusted() {
    let mut bench = Bench::fresh(with_petrs(None));
    bench.at_s(600);
    assert!(probes(&mut bench).is_empty());
    assert_eq!(usable(&bench), [ip(PETR), ip(SPARE)]);
}

#[test]
fn the_answer_of_a_proxy_is_no_mapping() {
    let mut bench = Bench::fresh(with_petrs(Some(10)));
    bench.at(0);
    let whole = positive("0.0.0.0/0", 1440, Vec::new());
    bench.learn("203.0.113.20", whole);
    let before = bench.installed("0.0.0.0/0");
    bench.at_s(30);
    for (_, to, request) in probes(&mut bench) {
        if to == ip(PETR) {
            answer(&mut bench, PETR, &request);
        }
    }
    assert_eq!(bench.installed("0.0.0.0/0"), before);
}

#[test]
fn a_proxy_that_leaves_the_configuration_is_probed_no_more() {
    let mut bench = Bench::fresh(with_petrs(Some(10)));
    bench.at(0);
    let mut without = with_petrs(Some(10));
    without.petrs.remove(0);
    bench.event(Event::Reload(Box::new(without)));
    bench.sent();
    bench.at_s(60);
    assert!(probes(&mut bench).iter().all(|(_, to, _)| *to == ip(SPARE)));
}

fn probed(bench: &mut Bench) -> Option<MapReply> {
    let probe = MapRequest {
        probe: true,
        nonce: 9,
        itr_rlocs: vec![ip(PEER).into()],
        records: vec![lisp::wire::EidQuery::new(prefix("10.2.0.0/24"))],
        ..MapRequest::default()
    };
    bench.receive(PEER, &ControlMessage::MapRequest(probe));
    bench.replies().pop().map(|(_, reply)| reply)
}

#[test]
fn what_decapsulates_for_others_answers_probes() {
    for role in [Role::Petr, Role::Pxtr, Role::Rtr] {
        let mut bench = Bench::new(proxy(role));
        let reply = probed(&mut bench).unwrap();
        assert!(reply.probe);
        assert_eq!(reply.nonce, 9);
        assert_eq!(reply.records[0].eid_prefix(), Some(prefix("10.2.0.0/24")));
        let locator = &reply.records[0].locators[0];
        assert!(locator.probed && locator.reachable && locator.local);
        assert_eq!(locator.rloc.ip(), Some(ip(OWN)));
        assert!(probed(&mut bench).is_none(), "at most one a second");
    }
    for role in [Role::Pitr, Role::Xtr] {
        assert!(probed(&mut Bench::new(proxy(role))).is_none());
    }
}

#[test]
fn a_proxy_answers_no_question_about_a_mapping() {
    let mut bench = Bench::new(proxy(Role::Pxtr));
    let question = MapRequest {
        nonce: 9,
        itr_rlocs: vec![ip(PEER).into()],
        records: vec![lisp::wire::EidQuery::new(prefix("10.2.0.0/24"))],
        ..MapRequest::default()
    };
    bench.receive(PEER, &ControlMessage::MapRequest(question));
    assert!(bench.replies().is_empty());
}
