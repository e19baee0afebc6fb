//! What a Map-Reply says: whole locator-sets, their order and flags, overlapping prefixes (RFC 6830 6.1.4, 6.1.5).

use std::net::IpAddr;

use lisp::wire::{Action, Locator, MapRecord};

use super::common::*;
use crate::case::Case;
use crate::cases::common::prefix;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};
use crate::words;

const SORTED: Req = Req::new("rfc6830-6.1.5-loc-sorted");
const SAME_ORDER: Req = Req::new("rfc6830-6.1.5-loc-order");
const L_BIT: Req = Req::new("rfc6830-6.1.4-l-bit");
const R_BIT: Req = Req::new("rfc6830-6.1.4-r-bit-tx");
const LOCATOR_FLAGS: Req = Req::new("rfc6830-6.1.4-loc-flags-reserved");
const RESERVED: Req = Req::new("rfc6830-6.1.4-reserved");
const ACT: Req = Req::new("rfc6830-6.1.4-act-tx0");
const DEFAULT_TTL: Req = Req::new("rfc6830-6.6.1-default-ttl");

const QUESTION: u64 = 0x0e7a_0000_0002_0001;
const QUESTION_6: u64 = 0x0e7a_0000_0002_0002;
const QUESTIONS: [u64; 2] = [QUESTION, QUESTION_6];

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_5::locators_are_sorted_and_complete",
        title: "Map-Replies and Map-Registers bring the whole locator-set in numeric order, IPv4 before IPv6; L marks the ETR's own locators; unused bits are zero.",
        topology: TOPOLOGY,
        start: false,
        roles: &["etr"],
        requirements: &[SORTED, SAME_ORDER, L_BIT, R_BIT, LOCATOR_FLAGS, RESERVED, ACT, DEFAULT_TTL],
        drive: |drive| {
            let net = Net::registered(drive)?;
            net.question(drive, &request(QUESTION, itr_rloc(1), "10.1.0.10/32"))?;
            net.question(drive, &request(QUESTION_6, itr_rloc(2), "2001:db8:a::10/128"))
        },
        judges: &[locator_sets],
        sabotages: &[
            Sabotage {
                name: "sorts locators as text",
                node: ETR,
                links: &["rloc"],
                kills: &[SORTED],
                tamper: || spoil_replies(|reply| {
                    reply.records.iter_mut().for_each(|record| {
                        record.locators.sort_by_key(|locator| locator.rloc.ip().map(|rloc| rloc.to_string()));
                    });
                    true
                }),
            },
            Sabotage {
                name: "leaves out the locators of other ETRs",
                node: ETR,
                links: &["rloc"],
                kills: &[SAME_ORDER],
                tamper: || spoil_replies(|reply| {
                    reply.records.iter_mut().for_each(|record| record.locators.retain(|locator| locator.local));
                    true
                }),
            },
            Sabotage {
                name: "marks all locators as local",
                node: ETR,
                links: &["rloc"],
                kills: &[L_BIT],
                tamper: || spoil_replies(|reply| {
                    for locator in reply.records.iter_mut().flat_map(|record| &mut record.locators) {
                        locator.local = true;
                    }
                    true
                }),
            },
            Sabotage {
                name: "sets unused locator flags",
                node: ETR,
                links: &["rloc"],
                kills: &[LOCATOR_FLAGS],
                tamper: || spoil_replies(|reply| {
                    for locator in reply.records.iter_mut().flat_map(|record| &mut record.locators) {
                        locator.reserved = 1;
                    }
                    true
                }),
            },
            Sabotage {
                name: "sets reserved bits of the Map-Reply",
                node: ETR,
                links: &["rloc"],
                kills: &[RESERVED],
                tamper: || spoil_replies(|reply| {
                    reply.reserved = 1;
                    true
                }),
            },
            Sabotage {
                name: "puts an action beside locators",
                node: ETR,
                links: &["rloc"],
                kills: &[ACT],
                tamper: || spoil_replies(|reply| {
                    reply.records.iter_mut().for_each(|record| record.action = Action::NativelyForward);
                    true
                }),
            },
            Sabotage {
                name: "gives the TTL in seconds",
                node: ETR,
                links: &["rloc"],
                kills: &[DEFAULT_TTL],
                tamper: || spoil_replies(|reply| {
                    reply.records.iter_mut().for_each(|record| record.ttl = 86_400);
                    true
                }),
            },
        ],
        ..Case::BASE
    }
}

/// The locators that the topology's settings give the site, in no order.
fn configured(trace: &Trace) -> Vec<IpAddr> {
    let node = trace
        .topology
        .as_ref()
        .and_then(|topology| topology.node(ETR));
    let entries = node.and_then(|node| node.settings.get("eid-prefixes")?.as_array());
    let locators = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.get("locators")?.as_array());
    let mut addresses: Vec<IpAddr> = locators
        .flatten()
        .filter_map(|locator| locator.get("address")?.as_str()?.parse().ok())
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

fn rlocs(record: &MapRecord) -> Vec<IpAddr> {
    record
        .locators
        .iter()
        .filter_map(|locator| locator.rloc.ip())
        .collect()
}

fn locator_sets(trace: &Trace, findings: &mut Findings) {
    // `IpAddr` orders IPv4 before IPv6 and each family as numbers.
    let expected = configured(trace);
    let mut said: Vec<(&Seen, &MapRecord)> = Vec::new();
    for nonce in QUESTIONS {
        match reply(trace, nonce) {
            Some(packet) => said.extend(
                packet
                    .map_reply()
                    .iter()
                    .flat_map(|reply| &reply.records)
                    .map(|record| (packet, record)),
            ),
            None => findings.broken(SAME_ORDER, asked(trace, nonce), "a Map-Reply", "none"),
        }
    }
    for (packet, record) in &said {
        reply_record(trace, packet, record, findings);
    }
    for packet in registers(trace) {
        said.extend(
            packet
                .map_register()
                .iter()
                .flat_map(|register| &register.records)
                .map(|record| (packet, record)),
        );
    }
    for (packet, record) in said.into_iter().filter(|(_, record)| record.ttl != 0) {
        let found = rlocs(record);
        findings.check(
            SORTED,
            found.is_sorted(),
            packet,
            "ascending, IPv4 first",
            words::listed(&found),
        );
        let mut complete = found.clone();
        complete.sort();
        findings.check(
            SAME_ORDER,
            complete == expected,
            packet,
            format!("all of {}", words::listed(&expected)),
            words::listed(&found),
        );
        findings.check(
            ACT,
            record.action.code() == 0,
            packet,
            "ACT = 0 beside locators",
            format!("ACT = {}", record.action.code()),
        );
    }
}

fn reply_record(trace: &Trace, packet: &Seen, record: &MapRecord, findings: &mut Findings) {
    let flags = |wanted: fn(&Locator) -> bool| -> Vec<IpAddr> {
        record
            .locators
            .iter()
            .filter(|locator| wanted(locator))
            .filter_map(|locator| locator.rloc.ip())
            .collect()
    };
    let local = flags(|locator| locator.local);
    let own: Vec<IpAddr> = rlocs(record)
        .into_iter()
        .filter(|rloc| trace.has_address(ETR, *rloc))
        .collect();
    findings.check(
        L_BIT,
        local == own && !own.is_empty(),
        packet,
        format!("L = 1 on {}", words::listed(&own)),
        format!("L = 1 on {}", words::listed(&local)),
    );
    let reachable = flags(|locator| locator.reachable);
    findings.recorded(
        R_BIT,
        packet,
        format!("R = 1 on {}", words::listed(reachable)),
    );
    let odd = flags(|locator| locator.reserved != 0);
    findings.check(
        LOCATOR_FLAGS,
        odd.is_empty(),
        packet,
        "unused flags 0",
        format!("unused flags set on {}", words::listed(odd)),
    );
    let header = packet.map_reply().map_or(0, |reply| reply.reserved);
    let zero = header == 0 && record.reserved == 0 && record.reserved_version == 0;
    findings.check(
        RESERVED,
        zero,
        packet,
        "reserved bits 0",
        format!("{header:#x}, {:#x}", record.reserved),
    );
    findings.check(
        DEFAULT_TTL,
        record.ttl == 1440,
        packet,
        "a TTL of 1440 minutes where none is configured",
        format!("{}", record.ttl),
    );
}

const ONE_REPLY: Req = Req::new("rfc6830-6.1.5-overlap-single-reply");
const NO_LESS: Req = Req::new("rfc6830-6.1.5-overlap-no-less");
const SAME_TTL: Req = Req::new("rfc6830-6.1.5-same-ttl");

const SPECIFIC: u64 = 0x0e7a_0000_0003_0001;
const MIDDLE: u64 = 0x0e7a_0000_0003_0002;
const TOP: u64 = 0x0e7a_0000_0003_0003;
const LESS_THAN_ALL: u64 = 0x0e7a_0000_0003_0004;

/// Nonce, what is asked, and the records that answer it: the example of RFC 6830 6.1.5.
const OVERLAPS: [(u64, &str, &[&str]); 4] = [
    (SPECIFIC, "10.1.1.1/32", &["10.1.1.0/24"]),
    (
        MIDDLE,
        "10.1.5.5/32",
        &["10.1.0.0/16", "10.1.1.0/24", "10.1.2.0/24"],
    ),
    (
        TOP,
        "10.200.0.1/32",
        &["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.2.0/24"],
    ),
    (LESS_THAN_ALL, "10.1.2.0/28", &["10.1.2.0/24"]),
];

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_5::overlapping_prefixes_answered_together",
        title: "One Map-Reply brings the best match and all more-specifics inside it, nothing less specific, with one TTL.",
        topology: TOPOLOGY,
        settings: &[(ETR, "eid-prefixes: [
            {prefix: 10.1.2.0/24, ttl: 60, locators: [{address: 192.0.2.10}]},
            {prefix: 10.0.0.0/8, ttl: 1440, locators: [{address: 192.0.2.10}]},
            {prefix: 10.1.1.0/24, ttl: 120, locators: [{address: 192.0.2.10}]},
            {prefix: 10.1.0.0/16, ttl: 720, locators: [{address: 192.0.2.10}]}]")],
        start: false,
        roles: &["etr"],
        requirements: &[ONE_REPLY, NO_LESS, SAME_TTL],
        drive: overlapping_questions,
        judges: &[overlapping],
        sabotages: &[
            Sabotage {
                name: "brings the best match alone",
                node: ETR,
                links: &["rloc"],
                kills: &[ONE_REPLY],
                tamper: || spoil_replies(|reply| {
                    reply.records.truncate(1);
                    true
                }),
            },
            Sabotage {
                name: "brings the covering prefix too",
                node: ETR,
                links: &["rloc"],
                kills: &[NO_LESS],
                tamper: || spoil_replies(|reply| {
                    let mut less = reply.records[0].clone();
                    less.eid_mask_len = 8;
                    less.eid = prefix("10.0.0.0/8").to_address();
                    reply.records.push(less);
                    true
                }),
            },
            Sabotage {
                name: "gives each record a TTL of its own",
                node: ETR,
                links: &["rloc"],
                kills: &[SAME_TTL],
                tamper: || spoil_replies(|reply| {
                    for (more, record) in (0..).zip(&mut reply.records) {
                        record.ttl += more;
                    }
                    true
                }),
            },
        ],
        ..Case::BASE
    }
}

fn overlapping_questions(drive: &mut Drive) -> Result<(), Stop> {
    let net = Net::registered(drive)?;
    for (number, (nonce, asked, _)) in (1..).zip(OVERLAPS) {
        net.question(drive, &request(nonce, itr_rloc(number), asked))?;
    }
    Ok(())
}

fn overlapping(trace: &Trace, findings: &mut Findings) {
    for (nonce, asked_for, expected) in OVERLAPS {
        let all = replies(trace, nonce);
        let [packet] = all[..] else {
            findings.broken(
                ONE_REPLY,
                &all,
                format!("one Map-Reply for {asked_for}"),
                format!("{}", all.len()),
            );
            continue;
        };
        let found = prefixes(packet);
        let expected: Vec<lisp::EidPrefix> = expected.iter().map(|text| prefix(text)).collect();
        let missing: Vec<_> = expected
            .iter()
            .filter(|prefix| !found.contains(prefix))
            .copied()
            .collect();
        findings.check(
            ONE_REPLY,
            missing.is_empty(),
            packet,
            format!("for {asked_for}: {}", words::listed(&expected)),
            format!("missing: {}", words::listed(&missing)),
        );
        let foreign: Vec<_> = found
            .iter()
            .filter(|prefix| !expected.contains(prefix))
            .copied()
            .collect();
        findings.check(
            NO_LESS,
            foreign.is_empty(),
            packet,
            format!("for {asked_for}: {} alone", words::listed(&expected)),
            format!("also {}", words::listed(&foreign)),
        );
        let mut ttls: Vec<u32> = packet
            .map_reply()
            .iter()
            .flat_map(|reply| &reply.records)
            .map(|record| record.ttl)
            .collect();
        let records = ttls.len();
        ttls.dedup();
        findings.check(
            SAME_TTL,
            ttls.len() == 1,
            packet,
            format!("one TTL in {records} records"),
            format!("TTLs {}", words::listed(ttls)),
        );
    }
}
