//! Registrations that change: another locator-set or TTL replaces, TTL 0 withdraws (ambiguities A10), an old
//! map-version is dropped (RFC 9302 5).

use lisp::wire::{ControlMessage, MapRecord};

use super::common::*;
use super::script::{Step, ask, judge, nonce, register, run};
use crate::case::Case;
use crate::cases::common::{edit_incoming, key, locator, lose_incoming, outgoing, record};
use crate::catalogue::Req;
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;

const CONTENT: Req = Req::new("rfc6833-4.2-proxy-reply-content");
const WITHDRAWN: Req = Req::new("rfc6833-4.2-dereg-ttl0");
const UNREGISTERED: Req = Req::new("rfc6833-4.3-ms-unregistered");
const NOTIFY: Req = Req::new("rfc6833-4.2-want-notify");

fn mapping(minutes: u32, rlocs: &[&str]) -> Vec<MapRecord> {
    let locators = rlocs.iter().map(|rloc| locator(rloc, 1, 100)).collect();
    let mut mapping = record("10.1.0.0/24", locators);
    mapping.ttl = minutes;
    vec![mapping]
}

fn site_a(minutes: u32, rlocs: &[&str]) -> Step {
    register("etr-a", &key("key-of-site-a"), mapping(minutes, rlocs))
        .with(|register| register.proxy_reply = true)
        .confirmed()
}

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::a_changed_register_replaces",
        title: "Another Record TTL or locator-set of an ETR replaces what it registered before, longer or shorter.",
        topology: TOPOLOGY,
        roles: &["ms"],
        features: &["proxy-reply"],
        requirements: &[CONTENT],
        drive: |drive| run(drive, &replaced()),
        judges: &[|trace, findings| judge(trace, findings, &replaced())],
        sabotages: &[
            Sabotage {
                name: "keeps the first set",
                node: MS,
                links: &[],
                kills: &[CONTENT],
                tamper: || {
                    let mut first = None;
                    Box::new(move |way, frame| {
                        if way == harness::inline::Way::ToVictim {
                            frame.edit_signed(&key("key-of-site-a"), |message| match message {
                                ControlMessage::MapRegister(register) => {
                                    register.records = first.get_or_insert(register.records.clone()).clone();
                                    true
                                }
                                _ => false,
                            });
                        }
                        harness::inline::PacketFate::Forward
                    })
                },
            },
            Sabotage {
                name: "keeps the first TTL",
                node: MS,
                links: &[],
                kills: &[CONTENT],
                tamper: || outgoing(|message| on_records(message, |record| record.ttl = 1440)),
            },
        ],
        ..Case::BASE
    }
}

fn replaced() -> Vec<Step> {
    vec![
        site_a(1440, &["192.0.2.2"]),
        ask("10.1.0.7")
            .mapping_for("10.1.0.0/24", &["192.0.2.2"], 1440)
            .shows(&[CONTENT]),
        site_a(10, &["192.0.2.2"]),
        ask("10.1.0.7")
            .mapping_for("10.1.0.0/24", &["192.0.2.2"], 10)
            .shows(&[CONTENT]),
        site_a(10, &["192.0.2.3", "192.0.2.2"]),
        ask("10.1.0.7")
            .mapping_for("10.1.0.0/24", &["192.0.2.2", "192.0.2.3"], 10)
            .shows(&[CONTENT]),
        site_a(0xffff_ffff, &["192.0.2.3"]),
        ask("10.1.0.7")
            .mapping_for("10.1.0.0/24", &["192.0.2.3"], 0xffff_ffff)
            .shows(&[CONTENT]),
    ]
}

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::ttl_0_withdraws",
        title: "What a Map-Register with TTL 0 does is written down; where it withdraws, the prefix is answered like any that is not registered, and can be registered again.",
        topology: TOPOLOGY,
        roles: &["ms"],
        features: &["proxy-reply"],
        requirements: &[WITHDRAWN, UNREGISTERED, NOTIFY],
        drive: |drive| run(drive, &withdrawn()),
        judges: &[|trace, findings| {
            judge(trace, findings, &withdrawn());
            after_withdrawal(trace, findings);
        }],
        sabotages: &[
            Sabotage {
                name: "calls what was withdrawn no LISP site",
                node: MS,
                links: &[],
                kills: &[UNREGISTERED],
                tamper: || outgoing(|message| on_records(message, |record| {
                    if record.locators.is_empty() {
                        record.ttl = 15;
                    }
                })),
            },
            Sabotage {
                name: "takes no register after a withdrawal",
                node: MS,
                links: &[],
                kills: &[NOTIFY],
                tamper: || {
                    let mut withdrawn = false;
                    Box::new(move |way, frame| {
                        if let (harness::inline::Way::ToVictim, Some(ControlMessage::MapRegister(register))) = (way, frame.control()) {
                            if withdrawn {
                                return harness::inline::PacketFate::Drop;
                            }
                            withdrawn = register.records.iter().any(|record| record.ttl == 0);
                        }
                        harness::inline::PacketFate::Forward
                    })
                },
            },
        ],
        ..Case::BASE
    }
}

fn withdrawn() -> Vec<Step> {
    let gone = register("etr-a", &key("key-of-site-a"), mapping(0, &["192.0.2.2"]));
    vec![
        site_a(1440, &["192.0.2.2"]).shows(&[NOTIFY]),
        ask("10.1.0.7").mapping("10.1.0.0/24", &["192.0.2.2"]),
        gone.records(&[WITHDRAWN]),
        ask("10.1.0.7").records(&[WITHDRAWN]),
        site_a(1440, &["192.0.2.3"]).shows(&[NOTIFY]),
        ask("10.1.0.7")
            .mapping("10.1.0.0/24", &["192.0.2.3"])
            .shows(&[NOTIFY]),
    ]
}

fn after_withdrawal(trace: &Trace, findings: &mut Findings) {
    let Some(asked) = question(trace, nonce(3)) else {
        findings.unseen(UNREGISTERED, "the question after the withdrawal");
        return;
    };
    let outcome = Outcome::of(trace, nonce(3));
    let seen = outcome.to_string();
    if outcome.positive() {
        // RFC 6833 does not say that TTL 0 withdraws.
        findings.recorded(
            UNREGISTERED,
            asked,
            format!("TTL 0 did not withdraw: {seen}"),
        );
        return;
    }
    let right = outcome
        .record()
        .is_some_and(|record| record.ttl == 1 && record.action.code() == 1);
    findings.check(
        UNREGISTERED,
        right,
        asked,
        "negative, ACT 1, for a minute",
        seen,
    );
}

const OLD_VERSION: Req = Req::new("rfc9302-5-ms-unexpected");

inventory::submit! {
    Case {
        id: "rfc9302::s5::an_old_map_version_is_dropped",
        title: "A Map-Register with an older map-version than the registered one is dropped in silence; the same, a newer one, and none are taken.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc9300],
        roles: &["ms"],
        requirements: &[OLD_VERSION],
        drive: |drive| run(drive, &versions()),
        judges: &[|trace, findings| judge(trace, findings, &versions())],
        sabotages: &[
            Sabotage {
                name: "takes old versions",
                node: MS,
                links: &[],
                kills: &[OLD_VERSION],
                tamper: || edit_incoming(|frame| {
                    frame.edit_signed(&key("key-of-site-a"), |message| match message {
                        ControlMessage::MapRegister(register) => {
                            register.records.iter_mut().for_each(|record| record.map_version = 0);
                            true
                        }
                        _ => false,
                    });
                }),
            },
            Sabotage {
                name: "does not count round the circle",
                node: MS,
                links: &[],
                kills: &[OLD_VERSION],
                tamper: || lose_incoming(|frame| matches!(
                    frame.control(),
                    Some(ControlMessage::MapRegister(register)) if register.records.iter().any(|record| record.map_version == 3)
                )),
            },
        ],
        ..Case::BASE
    }
}

fn versions() -> Vec<Step> {
    let rows = &[OLD_VERSION];
    let of = |version: u16, rloc: &str| {
        register("etr-a", &key("key-of-site-a"), mapping(1440, &[rloc]))
            .with(|register| register.records[0].map_version = version)
    };
    vec![
        of(5, "192.0.2.3").confirmed(),
        of(4, "192.0.2.4").unconfirmed().shows(rows),
        of(4095, "192.0.2.4").unconfirmed().shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.3"]).shows(rows),
        of(5, "192.0.2.3").confirmed().shows(rows),
        of(6, "192.0.2.5").confirmed().shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.5"]).shows(rows),
        // Round the circle of 4096.
        of(2000, "192.0.2.6").confirmed(),
        of(4000, "192.0.2.6").confirmed(),
        of(3, "192.0.2.7").confirmed().shows(rows),
        of(4000, "192.0.2.8").unconfirmed().shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.7"]).shows(rows),
        // Without a version there is nothing to compare.
        of(0, "192.0.2.9").confirmed().shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.9"]).shows(rows),
    ]
}
