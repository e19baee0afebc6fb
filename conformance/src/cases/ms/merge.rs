//! Several ETRs of one prefix: merged where they ask for it (RFC 9301 5.6), otherwise as the Map-Server likes (RFC 6833 is
//! silent); and the order of the locators of all.

use lisp::wire::{ControlMessage, Locator, MapRecord};
use lisp::{Address, Lcaf};

use super::common::*;
use super::script::{Step, ask, judge, nonce, register, run};
use crate::case::Case;
use crate::cases::common::{edit_incoming, ip, key, locator, outgoing, record};
use crate::catalogue::Req;
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;
use crate::words;

const MERGE: Req = Req::new("rfc9301-5.6-merge-bit");
const SILENT: Req = Req::new("rfc6833-4.2-merge");
const PROXY: Req = Req::new("rfc6833-4.3-ms-proxy");
const SORTED: Req = Req::new("rfc6830-6.1.5-loc-sorted");
const LCAF: Req = Req::new("rfc8060-3-lcaf-sort");

/// A register of one of the site's ETRs that asks for proxy replies.
fn site_b(from: &'static str, locators: Vec<Locator>) -> Step {
    let records: Vec<MapRecord> = vec![record("10.2.0.0/16", locators)];
    register(from, &key("key-of-site-b"), records).with(|register| register.proxy_reply = true)
}

inventory::submit! {
    Case {
        id: "rfc9301::s5_6::registrations_are_merged_where_etrs_ask_for_it",
        title: "With the merge bit the locators of several ETRs stand together, sorted; one of them withdraws and takes its own along.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc9300],
        roles: &["ms"],
        features: &["proxy-reply"],
        requirements: &[MERGE],
        drive: |drive| run(drive, &merged()),
        judges: &[|trace, findings| judge(trace, findings, &merged())],
        sabotages: &[
            Sabotage {
                name: "lets the latest win",
                node: MS,
                links: &[],
                kills: &[MERGE],
                tamper: || edit_incoming(|frame| {
                    frame.edit_signed(&key("key-of-site-b"), |message| match message {
                        ControlMessage::MapRegister(register) => {
                            register.merge = false;
                            true
                        }
                        _ => false,
                    });
                }),
            },
            Sabotage {
                name: "does not sort what it merged",
                node: MS,
                links: &[],
                kills: &[MERGE],
                tamper: || outgoing(|message| on_records(message, |record| record.locators.reverse())),
            },
        ],
        ..Case::BASE
    }
}

fn merged() -> Vec<Step> {
    let merging = |from, rlocs: &[&str]| {
        let locators = rlocs.iter().map(|rloc| locator(rloc, 1, 50)).collect();
        site_b(from, locators).with(|register| register.merge = true)
    };
    vec![
        merging("etr-b", &["192.0.2.34", "2001:db8:0:33::2"]).confirmed(),
        ask("10.2.0.7").mapping("10.2.0.0/16", &["192.0.2.34", "2001:db8:0:33::2"]),
        merging("etr-a", &["192.0.2.2"]).confirmed(),
        ask("10.2.0.7")
            .mapping(
                "10.2.0.0/16",
                &["192.0.2.2", "192.0.2.34", "2001:db8:0:33::2"],
            )
            .shows(&[MERGE]),
        // The first one again, with other locators.
        merging("etr-b", &["192.0.2.35"]).confirmed(),
        ask("10.2.0.7")
            .mapping("10.2.0.0/16", &["192.0.2.2", "192.0.2.35"])
            .shows(&[MERGE]),
        merging("etr-a", &[]).with(|register| register.records[0].ttl = 0),
        ask("10.2.0.7").records(&[MERGE]),
    ]
}

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::two_etrs_register_one_prefix",
        title: "Two ETRs register one prefix with different locators: which hold is written down. Where one asked for proxy replies, the Map-Server answers.",
        topology: TOPOLOGY,
        roles: &["ms"],
        features: &["proxy-reply"],
        requirements: &[SILENT, PROXY],
        drive: |drive| run(drive, &two()),
        judges: &[|trace, findings| {
            judge(trace, findings, &two());
            let outcome = Outcome::of(trace, nonce(3));
            let answered = matches!(outcome, Outcome::Reply(..)) && outcome.positive();
            findings.check(
                PROXY,
                answered,
                &outcome.packets(),
                "an answer of the Map-Server: one of the two ETRs asked for proxy replies",
                outcome.to_string(),
            );
        }],
        sabotages: &[Sabotage {
            name: "takes no notice of the P bit",
            node: MS,
            links: &[],
            kills: &[PROXY],
            tamper: || edit_incoming(|frame| {
                frame.edit_signed(&key("key-of-site-b"), |message| match message {
                    ControlMessage::MapRegister(register) => {
                        register.proxy_reply = false;
                        true
                    }
                    _ => false,
                });
            }),
        }],
        ..Case::BASE
    }
}

fn two() -> Vec<Step> {
    vec![
        site_b("etr-b", vec![locator("192.0.2.34", 1, 50)]).confirmed(),
        ask("10.2.0.7")
            .mapping("10.2.0.0/16", &["192.0.2.34"])
            .shows(&[PROXY]),
        site_b("etr-a", vec![locator("192.0.2.2", 1, 50)])
            .with(|register| register.proxy_reply = false)
            .confirmed(),
        ask("10.2.0.7").records(&[SILENT]),
    ]
}

inventory::submit! {
    Case {
        id: "rfc8060::s3::locators_are_sorted_by_family",
        title: "A set that was registered unsorted is answered sorted by number: IPv4, IPv6, LISP Canonical Addresses.",
        topology: TOPOLOGY,
        roles: &["ms"],
        features: &["proxy-reply"],
        requirements: &[LCAF, SORTED],
        drive: |drive| run(drive, &unsorted()),
        judges: &[sorted],
        sabotages: &[
            Sabotage {
                name: "keeps the order of the register",
                node: MS,
                links: &[],
                kills: &[SORTED, LCAF],
                tamper: || outgoing(|message| on_records(message, |record| {
                    record.locators.sort_by_key(|locator| locator.weight);
                })),
            },
            Sabotage {
                name: "sorts canonical addresses to the front",
                node: MS,
                links: &[],
                kills: &[LCAF],
                tamper: || outgoing(|message| on_records(message, |record| record.locators.rotate_right(1))),
            },
        ],
        ..Case::BASE
    }
}

/// Weights tell the order in which they were registered.
fn unsorted() -> Vec<Step> {
    let mut canonical = locator("192.0.2.1", 1, 1);
    canonical.rloc = Address::Lcaf(Box::new(Lcaf::AfiList {
        addresses: vec![Address::from(ip("192.0.2.1"))],
        reserved: [0; 3],
    }));
    let locators = vec![
        canonical,
        locator("2001:db8:0:33::2", 1, 2),
        locator("192.0.2.100", 1, 3),
        locator("192.0.2.34", 1, 4),
        locator("192.0.2.9", 1, 5),
    ];
    vec![site_b("etr-b", locators).confirmed(), ask("10.2.0.7")]
}

fn sorted(trace: &Trace, findings: &mut Findings) {
    let outcome = Outcome::of(trace, nonce(1));
    let Some(record) = outcome.record() else {
        for row in [LCAF, SORTED] {
            findings.broken(
                row,
                &outcome.packets(),
                "the registered locators",
                outcome.to_string(),
            );
        }
        return;
    };
    let afi = |locator: &Locator| match &locator.rloc {
        Address::Ipv4(_) => 1u16,
        Address::Ipv6(_) => 2,
        Address::Lcaf(_) => 16387,
        _ => 0,
    };
    let afis: Vec<u16> = record.locators.iter().map(afi).collect();
    findings.check(
        LCAF,
        afis == [1, 1, 1, 2, 16387],
        &outcome.packets(),
        "AFIs 1, 1, 1, 2, 16387",
        format!("AFIs {}", words::listed(afis)),
    );
    let plain: Vec<String> = record
        .locators
        .iter()
        .filter_map(|locator| Some(locator.rloc.ip()?.to_string()))
        .collect();
    findings.check(
        SORTED,
        plain == ["192.0.2.9", "192.0.2.34", "192.0.2.100", "2001:db8:0:33::2"],
        &outcome.packets(),
        "by number: 192.0.2.9, .34, .100, then IPv6",
        plain.join(", "),
    );
}
