//! Map-Requests: the order of decision, forwarding, proxy replies, negative replies.

use lisp::wire::EidQuery;

use super::*;

const EID: &str = "203.0.113.0/24";
const HOST: &str = "203.0.113.20/32";

fn proxied(eid: &str, rlocs: &[&str]) -> MapRegister {
    MapRegister {
        proxy_reply: true,
        ..register(vec![record(eid, 1440, rlocs)])
    }
}

#[test]
fn configured_registered_proxied_forwarded_in_that_order() {
    let mut bench = Bench::new(config(vec![]));
    assert_eq!(bench.ask(HOST), negative("0.0.0.0/0", 15));
    bench.core.put_site(bench.now, site("a", &[EID]));
    assert_eq!(bench.ask(HOST), negative(EID, 1));
    bench.register(ETR, &proxied(EID, &[ETR]));
    assert_eq!(
        bench.ask(HOST),
        Answer::Mapping(EID.into(), vec![ETR.into()])
    );
    bench.simple(ETR, EID);
    assert_eq!(bench.ask(HOST), forwarded(ETR));
    bench.pass(180);
    assert_eq!(bench.ask(HOST), negative(EID, 1));
}

#[test]
fn the_request_goes_on_unaltered_in_a_new_outer_header() {
    let mut bench = Bench::new(config(vec![site("a", &[EID])]));
    bench.simple(ETR, EID);
    let asked = MapRequest {
        authoritative: true,
        pitr: true,
        smr_invoked: true,
        reserved: 0x55,
        source_eid: Address::from(ip("198.51.100.7")),
        itr_rlocs: vec![Address::from(ip(ITR)), Address::from(ip("2001:db8::1"))],
        ..request(HOST)
    };
    let message = ControlMessage::MapRequest(asked.clone());
    let mut ecm = Ecm::wrap(ip(ITR), ip("203.0.113.20"), 50000, 4342, 17, &message);
    ecm.reserved = 0x3ff_ffff & !0x0300_0000;
    let out = bench.datagram("192.0.2.1", 54321, &ecm.to_vec());
    assert_eq!(answer(&out), forwarded(ETR));
    assert_eq!(out[0].from, Some(ip(SERVER)));
    let sent = Ecm::parse(&out[0].payload).unwrap();
    assert_eq!(sent.inner, ecm.inner);
    assert_eq!((sent.security, sent.ddt, sent.reserved), (false, false, 0));
}

#[test]
fn a_proxy_reply_has_neither_a_nor_l_and_is_sorted() {
    let mut bench = Bench::new(config(vec![site("a", &[EID])]));
    let mut told = proxied(
        EID,
        &["192.0.2.10", "192.0.2.9", "2001:db8:0:2::2", "192.0.2.100"],
    );
    told.records[0].locators[1].reachable = false;
    told.records[0].locators[1].priority = 7;
    told.records[0].map_version = 9;
    bench.register(ETR, &told);
    let out = bench.ask_with(&request(HOST));
    let reply = reply(&out[0]);
    assert_eq!(out[0].to.to_string(), format!("{ITR}:50000"));
    assert_eq!(out[0].from, Some(ip(SERVER)));
    assert_eq!(reply.nonce, 0x0123_4567_89ab_cdef);
    assert_eq!((reply.probe, reply.reserved), (false, 0));
    let record = &reply.records[0];
    assert!(!record.authoritative);
    assert_eq!((record.ttl, record.map_version), (1440, 9));
    let shown: Vec<_> = record
        .locators
        .iter()
        .map(|l| (l.rloc.to_string(), l.local, l.reachable, l.priority))
        .collect();
    assert_eq!(
        shown,
        [
            ("192.0.2.9".into(), false, false, 7),
            ("192.0.2.10".into(), false, true, 1),
            ("192.0.2.100".into(), false, true, 1),
            ("2001:db8:0:2::2".into(), false, true, 1),
        ]
    );
}

#[test]
fn any_registered_etr_can_ask_for_proxy_replies() {
    let mut bench = Bench::new(config(vec![site("a", &[EID])]));
    bench.register(ETR, &proxied(EID, &[ETR, ETR2]));
    bench.register(ETR2, &register(vec![record(EID, 1440, &[ETR, ETR2])]));
    assert!(matches!(bench.ask(HOST), Answer::Mapping(..)));
}

#[test]
fn who_wants_an_authoritative_answer_gets_the_etr() {
    let mut bench = Bench::new(config(vec![site("a", &[EID])]));
    bench.register(ETR, &proxied(EID, &[ETR]));
    let asked = MapRequest {
        authoritative: true,
        ..request(HOST)
    };
    assert_eq!(answer(&bench.ask_with(&asked)), forwarded(ETR));
}

#[test]
fn overlapping_prefixes_are_answered_together() {
    let mut bench = Bench::new(config(vec![
        site("a", &["10.0.0.0/8+"]),
        site("b", &["10.9.0.0/16"]),
    ]));
    bench.register(ETR, &proxied("10.0.0.0/8", &[ETR]));
    bench.register(ETR, &proxied("10.1.0.0/16", &[ETR2]));
    bench.simple(ETR, "10.2.0.0/16");
    let out = bench.ask_with(&request("10.77.0.1/32"));
    let records: Vec<_> = reply(&out[0])
        .records
        .iter()
        .map(|r| {
            (
                r.eid_prefix().unwrap().to_string(),
                r.locators.len(),
                r.action.code(),
            )
        })
        .collect();
    assert_eq!(
        records,
        [
            ("10.0.0.0/8".into(), 1, 0),
            ("10.1.0.0/16".into(), 1, 0),
            ("10.2.0.0/16".into(), 0, 2),
            ("10.9.0.0/16".into(), 0, 1),
        ]
    );
    // Too many to tell: the answer narrows until it holds none of them.
    for n in 100..120 {
        bench.register(ETR, &proxied(&format!("10.{n}.0.0/16"), &[ETR2]));
    }
    let narrowed = Answer::Mapping("10.64.0.0/11".into(), vec![ETR.into()]);
    assert_eq!(bench.ask("10.77.0.1/32"), narrowed);
}

#[test]
fn negative_prefixes_are_exact_among_nested_sites_and_holes() {
    let mut nested = config(vec![
        site("a", &["10.0.0.0/8+"]),
        site("b", &["10.1.0.0/16"]),
        site("c", &["198.51.100.0/24"]),
    ]);
    nested.aggregates = vec![prefix("203.0.0.0/16"), prefix("2001:db8::/32")];
    nested.sites.push(site("d", &["203.0.113.0/24"]));
    let mut bench = Bench::new(nested);
    bench.simple(ETR, "10.2.3.0/24");
    for (question, expected) in [
        // In a site that is not registered, around what is in it.
        ("10.2.0.1/32", negative("10.2.0.0/23", 1)),
        ("10.128.0.1/32", negative("10.128.0.0/9", 1)),
        ("10.1.5.5/32", negative("10.1.0.0/16", 1)),
        ("10.2.3.4/32", forwarded(ETR)),
        // No site at all.
        ("11.0.0.1/32", negative("11.0.0.0/8", 15)),
        ("128.0.0.1/32", negative("128.0.0.0/2", 15)),
        // A hole of an aggregate; the aggregate bounds what has nothing inside.
        ("203.0.200.1/32", negative("203.0.128.0/17", 15)),
        ("2001:db8::1/128", negative("2001:db8::/32", 15)),
        ("2001:db9::1/128", negative("::/0", 15)),
        ("[9]10.1.1.1/32", negative("[9]0.0.0.0/0", 15)),
        // Questions that hold sites are answered for their address.
        ("0.0.0.0/0", negative("0.0.0.0/5", 15)),
        ("10.0.0.0/7", negative("10.0.0.0/16", 1)),
        ("10.2.2.0/23", negative("10.2.2.0/24", 1)),
    ] {
        assert_eq!(bench.ask(question), expected, "{question}");
    }
}

#[test]
fn instance_ids_are_worlds_of_their_own() {
    let mut bench = Bench::new(config(vec![site("a", &["[7]10.1.0.0/16"])]));
    bench.register(ETR, &proxied("[7]10.1.0.0/16", &[ETR]));
    assert_eq!(bench.ask("10.1.0.1/32"), negative("0.0.0.0/0", 15));
    assert_eq!(
        bench.ask("[7]10.1.0.1/32"),
        Answer::Mapping("[7]10.1.0.0/16".into(), vec![ETR.into()])
    );
}

#[test]
fn answers_go_to_an_itr_rloc_of_a_family_we_have() {
    let rlocs = |texts: &[&str]| MapRequest {
        itr_rlocs: texts.iter().map(|text| Address::from(ip(text))).collect(),
        ..request(HOST)
    };
    let mut bench = Bench::new(config(vec![]));
    let to = |bench: &mut Bench, texts: &[&str]| {
        let out = bench.ask_with(&rlocs(texts));
        out.first().map(|t| (t.to.ip().to_string(), t.from))
    };
    let asked = Some(ip(SERVER));
    assert_eq!(
        to(&mut bench, &["2001:db8::1", ITR]),
        Some((ITR.into(), asked))
    );
    assert_eq!(
        to(&mut bench, &["2001:db8::1"]),
        Some(("2001:db8::1".into(), None))
    );
    assert_eq!(to(&mut bench, &["0.0.0.0", "224.0.0.1"]), None);
    bench.core.families.ipv6 = false;
    assert_eq!(to(&mut bench, &["2001:db8::1"]), None);
    assert_eq!(bench.core.count_of(Event::NoItrRloc), 2);
    let none = MapRequest {
        itr_rlocs: vec![Address::None],
        ..request(HOST)
    };
    assert!(bench.ask_with(&none).is_empty());
}

#[test]
fn several_records_are_answered_together_and_forwarded_apart() {
    let mut bench = Bench::new(config(vec![site("a", &[EID]), site("b", &["10.0.0.0/8"])]));
    bench.simple(ETR, "10.0.0.0/8");
    bench.register(ETR, &proxied(EID, &[ETR]));
    let asked = MapRequest {
        records: [HOST, "10.1.1.1/32", "10.2.2.2/32", "1.1.1.1/32"]
            .map(|text| EidQuery::new(prefix(text)))
            .to_vec(),
        ..request(HOST)
    };
    let out = bench.ask_with(&asked);
    assert_eq!(out.len(), 2);
    assert_eq!(answer(&out[..1]), forwarded(ETR));
    assert_eq!(reply(&out[1]).records.len(), 2);
}

#[test]
fn probes_empty_questions_and_map_replies_are_dropped_and_counted() {
    let mut bench = Bench::new(config(vec![site("a", &[EID])]));
    bench.register(ETR, &proxied(EID, &[ETR]));
    let probe = MapRequest {
        probe: true,
        ..request(HOST)
    };
    assert!(bench.ask_with(&probe).is_empty());
    assert!(bench.datagram(ITR, 50000, &probe.to_vec()).is_empty());
    let empty = MapRequest {
        records: vec![],
        ..request(HOST)
    };
    assert!(bench.ask_with(&empty).is_empty());
    let reply = MapReply {
        nonce: 1,
        records: vec![record(EID, 1, &[ETR])],
        ..MapReply::default()
    };
    assert!(bench.datagram(ITR, 4342, &reply.to_vec()).is_empty());
    assert_eq!(bench.core.count_of(Event::ProbeDropped), 2);
    assert_eq!(bench.core.count_of(Event::NoRecords), 1);
    assert_eq!(bench.core.count_of(Event::MapReplyDropped), 1);
}

#[test]
fn the_d_bit_suppresses_replies_in_the_newer_edition() {
    let quiet = MapRequest {
        dont_reply: true,
        ..request(HOST)
    };
    let mut newer = Bench::new(Config {
        edition: Edition::Rfc9300,
        ..config(vec![])
    });
    assert!(newer.ask_with(&quiet).is_empty());
    let mut older = Bench::new(config(vec![]));
    assert_eq!(older.ask_with(&quiet).len(), 1);
}

#[test]
fn a_bare_request_is_answered_and_forwarded_encapsulated() {
    let mut bench = Bench::new(config(vec![site("a", &[EID])]));
    let out = bench.datagram(ITR, 50001, &request(HOST).to_vec());
    assert_eq!(out[0].to.to_string(), format!("{ITR}:50001"));
    bench.simple(ETR, EID);
    let out = bench.datagram(ITR, 50001, &request(HOST).to_vec());
    assert_eq!(answer(&out), forwarded(ETR));
    let inner = Ecm::parse(&out[0].payload).unwrap().decode_inner().unwrap();
    assert_eq!((inner.source, inner.source_port), (ip(ITR), 50001));
    assert_eq!(*inner.message, ControlMessage::MapRequest(request(HOST)));
}

#[test]
fn a_resolver_sends_questions_to_the_servers_in_turn() {
    let remote = |address: &str, prefixes: &[&str]| RemoteServer {
        address: ip(address),
        prefixes: prefixes.iter().map(|text| prefix(text)).collect(),
    };
    let mut bench = Bench::new(Config {
        roles: Roles {
            map_server: false,
            map_resolver: true,
        },
        map_servers: vec![
            remote("198.51.100.20", &["10.0.0.0/8", "10.1.0.0/16"]),
            remote("198.51.100.21", &["10.0.0.0/8"]),
        ],
        ..config(vec![])
    });
    let turns = [bench.ask("10.5.0.1/32"), bench.ask("10.5.0.1/32")];
    assert_eq!(
        turns,
        [forwarded("198.51.100.20"), forwarded("198.51.100.21")]
    );
    assert_eq!(bench.ask("10.1.0.1/32"), forwarded("198.51.100.20"));
    assert_eq!(bench.ask("11.0.0.1/32"), negative("11.0.0.0/8", 15));
    // It takes no registrations, and gives no server its own question back.
    assert!(bench.simple(ETR, "10.0.0.0/8").is_empty());
    assert_eq!(bench.core.count_of(Event::Unexpected), 1);
    let message = ControlMessage::MapRequest(request("10.5.0.1/32"));
    let ecm = Ecm::wrap(ip(ITR), ip("10.5.0.1"), 50000, 4342, 64, &message).to_vec();
    assert!(bench.datagram("198.51.100.21", 4342, &ecm).is_empty());
    assert_eq!(bench.core.count_of(Event::Loop), 1);
}

#[test]
fn policy_denies_with_the_action_of_the_edition() {
    for (edition, act) in [(Edition::Rfc6830, 3), (Edition::Rfc9300, 4)] {
        let mut denied = site("a", &[EID]);
        denied.prefixes[0].deny = true;
        let mut bench = Bench::new(Config {
            edition,
            ..config(vec![denied])
        });
        bench.simple(ETR, EID);
        assert_eq!(bench.ask(HOST), Answer::Negative(EID.into(), 15, act));
    }
}

#[test]
fn one_source_cannot_take_the_service_from_others() {
    let mut limited = config(vec![]);
    limited.limits.map_requests_per_source = 10;
    limited.unlimited_sources = vec!["192.0.2.200/32".parse().unwrap()];
    let mut bench = Bench::new(limited);
    let bare = request(HOST).to_vec();
    let mut answered = |source: &str| {
        (0..100)
            .filter(|_| !bench.datagram(source, 4342, &bare).is_empty())
            .count()
    };
    assert_eq!(answered("192.0.2.1"), 10);
    assert_eq!(answered("192.0.2.5"), 10);
    assert_eq!(answered("192.0.2.200"), 100);
    assert_eq!(bench.core.count_of(Event::RateLimited), 180);
}

#[test]
fn the_same_reply_goes_out_once_a_second() {
    let mut slow = config(vec![site("a", &[EID])]);
    slow.limits.map_reply_interval = Duration::from_secs(1);
    let mut bench = Bench::new(slow);
    assert_eq!(bench.ask(HOST), negative(EID, 1));
    assert_eq!(bench.ask(HOST), Answer::Nothing);
    bench.register(ETR, &proxied(EID, &[ETR]));
    assert!(
        matches!(bench.ask(HOST), Answer::Mapping(..)),
        "news go out at once"
    );
    assert_eq!(bench.ask(HOST), Answer::Nothing);
    bench.pass(1);
    assert!(matches!(bench.ask(HOST), Answer::Mapping(..)));
}

#[test]
fn large_answers_are_split_for_unknown_paths() {
    let mut many = config(vec![]);
    many.edition = Edition::Rfc9300;
    let mut bench = Bench::new(many);
    let asked = MapRequest {
        records: (0..60)
            .map(|n| EidQuery::new(prefix(&format!("{n}.0.0.1/32"))))
            .collect(),
        ..request(HOST)
    };
    let out = bench.ask_with(&asked);
    assert!(out.len() > 1);
    assert!(out.iter().all(|t| t.payload.len() <= 548));
    let records: usize = out.iter().map(|t| reply(t).records.len()).sum();
    assert_eq!(records, 60);
}

#[test]
fn a_vendor_lcaf_drops_the_message_and_other_unknown_ones_their_locator() {
    let lcaf = |kind| {
        Address::Lcaf(Box::new(lisp::Lcaf::Opaque {
            kind,
            reserved: Default::default(),
            data: vec![0; 6],
        }))
    };
    let mut bench = Bench::new(config(vec![site("a", &[EID])]));
    let with = |kind| {
        let mut sent = proxied(EID, &[ETR, ETR2]);
        sent.records[0].locators[1].rloc = lcaf(kind);
        sent
    };
    assert!(bench.register(ETR, &with(255)).is_empty());
    assert_eq!(bench.core.count_of(Event::Malformed), 1);
    assert_eq!(bench.register(ETR, &with(99)).len(), 1);
    assert_eq!(
        bench.ask(HOST),
        Answer::Mapping(EID.into(), vec![ETR.into()])
    );
    for (kind, reason) in [(255, Event::Malformed), (99, Event::UnknownEid)] {
        let mut asked = request(HOST);
        asked.records[0].eid = lcaf(kind);
        asked.records[0].mask_len = 0;
        let before = bench.core.count_of(reason);
        assert!(bench.ask_with(&asked).is_empty());
        assert_eq!(bench.core.count_of(reason), before + 1);
    }
}
