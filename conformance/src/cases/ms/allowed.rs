//! Who may register what: configured EID-Prefixes, more-specifics where they are accepted, locators that are allowed
//! (RFC 6833 4.2; RFC 9301 8.3, 9).

use lisp::wire::{ControlMessage, MapRecord};

use super::common::*;
use super::script::{Step, ask, judge, register, run};
use crate::case::Case;
use crate::cases::common::{key, locator, lose_outgoing, outgoing, prefix, record};
use crate::catalogue::Req;
use crate::sabotage::{Sabotage, Tamper};

const ONLY_CONFIGURED: Req = Req::new("rfc6833-4.2-only-configured-prefix");
const VERIFY: Req = Req::new("rfc9301-8.3-verify-prefix");
const MIXED: Req = Req::new("rfc6833-4.2-mixed-records");
const MORE_SPECIFIC: Req = Req::new("rfc6833-4.2-more-specific-reg");
const AGGREGATE: Req = Req::new("rfc6833-4.2-aggregate");
const HOLE: Req = Req::new("rfc6833-4.3-ms-hole-prefix");
const NOTIFY: Req = Req::new("rfc6833-4.2-want-notify");

fn at(eid: &str, rloc: &str) -> MapRecord {
    record(eid, vec![locator(rloc, 1, 100)])
}

/// A sabotage that makes a box look as if it took registers that it must refuse: on their way in, what `change` finds
/// becomes what it takes.
pub(super) fn repaired(secret: &'static str, change: fn(&mut MapRecord) -> bool) -> Tamper {
    Box::new(move |way, frame| {
        if way == harness::inline::Way::ToVictim {
            frame.edit_signed(&key(secret), |message| match message {
                ControlMessage::MapRegister(register) => {
                    let mut changed = false;
                    for record in &mut register.records {
                        changed |= change(record);
                    }
                    changed
                }
                _ => false,
            });
        }
        harness::inline::PacketFate::Forward
    })
}

/// Gives a record the EID-Prefix `to` where it has `from`.
pub(super) fn renamed(record: &mut MapRecord, from: &str, to: &str) -> bool {
    let found = record.eid_prefix() == Some(prefix(from));
    if found {
        let to = prefix(to);
        record.eid = to.to_address();
        record.eid_mask_len = to.prefix.prefix_len();
    }
    found
}

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::only_configured_prefixes_are_registered",
        title: "An authentic Map-Register for a foreign prefix, a shorter one, or another site's is refused without a Map-Notify; an honest one after it is taken.",
        topology: TOPOLOGY,
        roles: &["ms"],
        requirements: &[ONLY_CONFIGURED, VERIFY, NOTIFY],
        drive: |drive| run(drive, &foreign()),
        judges: &[|trace, findings| judge(trace, findings, &foreign())],
        sabotages: &[
            Sabotage {
                name: "takes a foreign prefix",
                node: MS,
                links: &[],
                kills: &[ONLY_CONFIGURED, VERIFY],
                tamper: || repaired("key-of-site-a", |record| renamed(record, "10.7.0.0/24", "10.1.0.0/24")),
            },
            Sabotage {
                name: "takes a shorter prefix",
                node: MS,
                links: &[],
                kills: &[ONLY_CONFIGURED, VERIFY],
                tamper: || repaired("key-of-site-a", |record| renamed(record, "10.1.0.0/23", "10.1.0.0/24")),
            },
            Sabotage {
                name: "takes another site's prefix",
                node: MS,
                links: &[],
                kills: &[ONLY_CONFIGURED, VERIFY],
                tamper: || repaired("key-of-site-a", |record| renamed(record, "10.3.0.0/24", "10.1.0.0/24")),
            },
            Sabotage {
                name: "confirms nothing",
                node: MS,
                links: &[],
                kills: &[NOTIFY],
                tamper: || lose_outgoing(|frame| matches!(frame.control(), Some(ControlMessage::MapNotify(_)))),
            },
            Sabotage {
                name: "tells what it should have refused",
                node: MS,
                links: &[],
                kills: &[ONLY_CONFIGURED],
                tamper: || outgoing(|message| on_records(message, as_if_registered)),
            },
        ],
        ..Case::BASE
    }
}

fn foreign() -> Vec<Step> {
    let rows = &[ONLY_CONFIGURED, VERIFY];
    let site = key("key-of-site-a");
    let of = |eid: &str| register("etr-a", &site, vec![at(eid, "192.0.2.2")]);
    vec![
        of("10.7.0.0/24").unconfirmed().shows(rows),
        ask("10.7.0.7").negative("10.4.0.0/14", 15).shows(rows),
        of("10.1.0.0/23").unconfirmed().shows(rows),
        ask("10.1.1.7").negative("10.1.1.0/24", 15).shows(rows),
        of("10.3.0.0/24").unconfirmed().shows(rows),
        ask("10.3.0.7").negative("10.3.0.0/24", 1).shows(rows),
        ask("10.1.0.7").negative("10.1.0.0/24", 1).shows(rows),
        of("10.1.0.0/24").confirmed().shows(&[NOTIFY]),
        ask("10.1.0.7").forwarded(&["192.0.2.2"]).shows(&[NOTIFY]),
    ]
}

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::of_mixed_records_only_the_allowed_are_registered",
        title: "Of a Map-Register with an allowed and a foreign record the foreign one is not registered; what becomes of the other is written down.",
        topology: TOPOLOGY,
        roles: &["ms"],
        requirements: &[MIXED, ONLY_CONFIGURED],
        drive: |drive| run(drive, &mixed()),
        judges: &[|trace, findings| judge(trace, findings, &mixed())],
        sabotages: &[Sabotage {
            name: "takes the foreign record too",
            node: MS,
            links: &[],
            kills: &[MIXED, ONLY_CONFIGURED],
            tamper: || outgoing(|message| on_records(message, |record| {
                if record.eid_prefix().is_some_and(|eid| eid.prefix.addr().is_ipv6()) {
                    as_if_registered(record);
                }
            })),
        }],
        ..Case::BASE
    }
}

fn mixed() -> Vec<Step> {
    let records = vec![
        at("10.1.0.0/24", "192.0.2.2"),
        at("2001:db8:b::/48", "192.0.2.2"),
    ];
    vec![
        register("etr-a", &key("key-of-site-a"), records).records(&[MIXED]),
        ask("2001:db8:b::7")
            .negative("2001:db8:b::/48", 15)
            .shows(&[MIXED, ONLY_CONFIGURED]),
        ask("10.1.0.7").records(&[MIXED]),
    ]
}

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::more_specifics_only_where_they_are_accepted",
        title: "A more-specific prefix is registered only where the site accepts more-specifics; Instance IDs are worlds of their own.",
        topology: TOPOLOGY,
        settings: &[(MS, MOBILE_SITES)],
        roles: &["ms"],
        requirements: &[MORE_SPECIFIC, ONLY_CONFIGURED],
        drive: |drive| run(drive, &more_specific()),
        judges: &[|trace, findings| judge(trace, findings, &more_specific())],
        sabotages: &[
            Sabotage {
                name: "takes more-specifics everywhere",
                node: MS,
                links: &[],
                kills: &[MORE_SPECIFIC],
                tamper: || repaired("key-of-site-a", |record| renamed(record, "10.1.0.128/25", "10.1.0.0/24")),
            },
            Sabotage {
                name: "takes more-specifics nowhere",
                node: MS,
                links: &[],
                kills: &[MORE_SPECIFIC],
                tamper: || repaired("key-of-site-b", |record| renamed(record, "10.2.7.7/32", "10.9.7.7/32")),
            },
            Sabotage {
                name: "takes no notice of Instance IDs",
                node: MS,
                links: &[],
                kills: &[MORE_SPECIFIC, ONLY_CONFIGURED],
                tamper: || repaired("key-of-site-b", |record| renamed(record, "[8]10.2.7.7/32", "[7]10.2.7.7/32")),
            },
        ],
        ..Case::BASE
    }
}

/// Site b has its prefix in Instance IDs 0 and 7.
pub(super) const MOBILE_SITES: &str = "
sites:
  - {name: site-a, key: key-of-site-a, eid-prefixes: [{prefix: 10.1.0.0/24}]}
  - name: site-b
    key: key-of-site-b
    eid-prefixes:
      - {prefix: 10.2.0.0/16, accept-more-specifics: true}
      - {prefix: 10.2.0.0/16, instance-id: 7, accept-more-specifics: true}
";

fn more_specific() -> Vec<Step> {
    let (a, b) = (key("key-of-site-a"), key("key-of-site-b"));
    let host = |eid: &str| register("etr-b", &b, vec![at(eid, "192.0.2.34")]);
    vec![
        register("etr-a", &a, vec![at("10.1.0.128/25", "192.0.2.2")])
            .unconfirmed()
            .shows(&[MORE_SPECIFIC]),
        ask("10.1.0.130")
            .negative("10.1.0.0/24", 1)
            .shows(&[MORE_SPECIFIC]),
        host("10.2.7.7/32").confirmed().shows(&[MORE_SPECIFIC]),
        ask("10.2.7.7")
            .forwarded(&["192.0.2.34"])
            .shows(&[MORE_SPECIFIC]),
        // The rest of the prefix is not registered by that.
        ask("10.2.128.1")
            .negative("10.2.128.0/17", 1)
            .shows(&[MORE_SPECIFIC]),
        ask("[7]10.2.7.7/32").negative("[7]10.2.0.0/16", 1),
        host("[8]10.2.7.7/32")
            .unconfirmed()
            .shows(&[MORE_SPECIFIC, ONLY_CONFIGURED]),
        host("[7]10.2.7.7/32").confirmed().shows(&[MORE_SPECIFIC]),
        ask("[7]10.2.7.7/32")
            .forwarded(&["192.0.2.34"])
            .shows(&[MORE_SPECIFIC]),
        ask("[8]10.2.7.7/32")
            .negative("[8]0.0.0.0/0", 15)
            .shows(&[ONLY_CONFIGURED]),
    ]
}

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::holes_of_an_aggregate",
        title: "A question inside an aggregate and outside its sites is answered natively-forward for 15 minutes, for a prefix that holds no site and stays in the aggregate.",
        topology: TOPOLOGY,
        settings: &[(MS, "aggregates: [{prefix: 172.16.0.0/12}, {prefix: 10.0.0.0/8}]")],
        roles: &["ms"],
        requirements: &[AGGREGATE, HOLE],
        drive: |drive| run(drive, &holes()),
        judges: &[|trace, findings| judge(trace, findings, &holes())],
        sabotages: &[
            Sabotage {
                name: "answers beyond the aggregate",
                node: MS,
                links: &[],
                kills: &[HOLE],
                tamper: || outgoing(|message| on_records(message, |record| {
                    renamed(record, "172.16.0.0/12", "128.0.0.0/1");
                })),
            },
            Sabotage {
                name: "answers for a minute",
                node: MS,
                links: &[],
                kills: &[AGGREGATE, HOLE],
                tamper: || outgoing(|message| on_records(message, |record| record.ttl = 1)),
            },
        ],
        ..Case::BASE
    }
}

fn holes() -> Vec<Step> {
    vec![
        ask("172.20.5.5")
            .negative("172.16.0.0/12", 15)
            .shows(&[AGGREGATE, HOLE]),
        ask("10.200.0.1")
            .negative("10.128.0.0/9", 15)
            .shows(&[AGGREGATE, HOLE]),
        ask("10.3.1.1")
            .negative("10.3.1.0/24", 15)
            .shows(&[AGGREGATE, HOLE]),
        ask("10.1.0.7").negative("10.1.0.0/24", 1),
        ask("192.0.2.200").negative("192.0.0.0/2", 15),
    ]
}

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::locators_outside_the_allowed_change_nothing",
        title: "Where a site's locators are limited, a Map-Register with another one changes nothing; the next one with allowed ones is taken.",
        topology: TOPOLOGY,
        settings: &[(MS, "
sites:
  - name: site-a
    key: key-of-site-a
    eid-prefixes: [{prefix: 10.1.0.0/24}]
    allowed-locators: [192.0.2.0/27, '2001:db8:0:2::/64']
")],
        roles: &["ms"],
        requirements: &[ONLY_CONFIGURED, NOTIFY],
        drive: |drive| run(drive, &mismatch()),
        judges: &[|trace, findings| judge(trace, findings, &mismatch())],
        sabotages: &[Sabotage {
            name: "takes any locator",
            node: MS,
            links: &[],
            kills: &[ONLY_CONFIGURED],
            tamper: || repaired("key-of-site-a", |record| {
                record.locators.truncate(1);
                record.locators[0].rloc = rloc("192.0.2.3");
                true
            }),
        }],
        ..Case::BASE
    }
}

fn mismatch() -> Vec<Step> {
    let site = key("key-of-site-a");
    let of = |rlocs: &[&str]| {
        let locators = rlocs.iter().map(|rloc| locator(rloc, 1, 100)).collect();
        register("etr-a", &site, vec![record("10.1.0.0/24", locators)])
            .with(|register| register.proxy_reply = true)
    };
    vec![
        of(&["198.51.100.77"])
            .unconfirmed()
            .shows(&[ONLY_CONFIGURED]),
        ask("10.1.0.7")
            .negative("10.1.0.0/24", 1)
            .shows(&[ONLY_CONFIGURED]),
        of(&["192.0.2.2", "2001:db8:0:2::2"])
            .confirmed()
            .shows(&[NOTIFY]),
        ask("10.1.0.7")
            .mapping("10.1.0.0/24", &["192.0.2.2", "2001:db8:0:2::2"])
            .shows(&[NOTIFY]),
        // One right locator does not help the other.
        of(&["192.0.2.2", "198.51.100.77"])
            .unconfirmed()
            .shows(&[ONLY_CONFIGURED]),
        ask("10.1.0.7")
            .mapping("10.1.0.0/24", &["192.0.2.2", "2001:db8:0:2::2"])
            .shows(&[ONLY_CONFIGURED]),
    ]
}
