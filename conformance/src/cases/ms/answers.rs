//! What a Map-Server answers in an ETR's place (RFC 6833 4.3).

use lisp::wire::{ControlMessage, MapRecord};

use super::common::*;
use super::script::{Step, ask, nonce, register, run};
use crate::case::Case;
use crate::cases::common::{ip, key, locator, lose_outgoing, outgoing, record};
use crate::catalogue::Req;
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};
use crate::words;

const PROXY: Req = Req::new("rfc6833-4.3-ms-proxy");
const PROXY_PREFIX: Req = Req::new("rfc6833-4.3-ms-proxy-prefix");
const PROXY_CONTENT: Req = Req::new("rfc6833-4.2-proxy-reply-content");
const PROXY_A: Req = Req::new("rfc6830-6.1.4-a-bit-proxy");
const PROXY_L: Req = Req::new("rfc6830-6.1.4-l-bit-proxy");
const ONLY_ETR: Req = Req::new("rfc9301-5.4-a-bit-only-etr");

inventory::submit! {
    Case {
        id: "rfc6833::s4_3::proxy_registration_is_answered_by_the_map_server",
        title: "For an ETR that registered with P the Map-Server answers itself: the registered set, A and L cleared.",
        topology: TOPOLOGY,
        roles: &["ms"],
        features: &["proxy-reply"],
        requirements: &[PROXY, PROXY_PREFIX, PROXY_CONTENT, PROXY_A, PROXY_L, ONLY_ETR],
        drive: |drive| run(drive, &proxy()),
        judges: &[proxied],
        sabotages: &[
            Sabotage {
                name: "claims authority",
                node: MS,
                links: &[],
                kills: &[PROXY_A],
                tamper: || outgoing(|message| on_records(message, |record| record.authoritative = true)),
            },
            Sabotage {
                name: "keeps the L bits",
                node: MS,
                links: &[],
                kills: &[PROXY_L],
                tamper: || outgoing(|message| on_records(message, |record| {
                    record.locators.iter_mut().for_each(|locator| locator.local = true);
                })),
            },
            Sabotage {
                name: "forgets a locator",
                node: MS,
                links: &[],
                kills: &[PROXY_CONTENT],
                tamper: || outgoing(|message| on_records(message, |record| record.locators.truncate(1))),
            },
            Sabotage {
                name: "answers for the host alone",
                node: MS,
                links: &[],
                kills: &[PROXY_PREFIX],
                tamper: || outgoing(|message| on_records(message, |record| {
                    record.eid_mask_len = 32;
                    record.eid = lisp::Address::from_eid(0, ip("10.1.0.10"));
                })),
            },
            Sabotage {
                name: "does not answer",
                node: MS,
                links: &[],
                kills: &[PROXY],
                tamper: || lose_outgoing(|frame| matches!(frame.control(), Some(ControlMessage::MapReply(_)))),
            },
        ],
        ..Case::BASE
    }
}

fn proxy_record() -> MapRecord {
    let mut down = locator("192.0.2.34", 2, 50);
    (down.local, down.reachable) = (false, false);
    record("10.1.0.0/24", vec![locator("192.0.2.2", 1, 100), down])
}

fn proxy() -> Vec<Step> {
    let site = key("key-of-site-a");
    vec![
        register("etr-a", &site, vec![proxy_record()])
            .with(|register| register.proxy_reply = true)
            .confirmed(),
        ask("10.1.0.10").mapping("10.1.0.0/24", &["192.0.2.2", "192.0.2.34"]),
    ]
}

fn proxied(trace: &Trace, findings: &mut Findings) {
    let Some(asked) = question(trace, nonce(1)) else {
        findings.unseen(PROXY, "the Map-Request");
        return;
    };
    let outcome = Outcome::of(trace, nonce(1));
    let on = trace
        .originated(MS)
        .find(|packet| packet.map_request().is_some());
    let Outcome::Reply(reply, message) = &outcome else {
        findings.broken(
            PROXY,
            asked,
            "a Map-Reply of the Map-Server",
            outcome.to_string(),
        );
        return;
    };
    let packets: Vec<&Seen> = [asked, reply].into_iter().chain(on).collect();
    findings.check(
        PROXY,
        on.is_none(),
        &packets,
        "an answer of the Map-Server, and nothing forwarded",
        on.map_or("answered".to_owned(), Seen::summary),
    );
    let Some(record) = message.records.first() else {
        findings.broken(PROXY_CONTENT, *reply, "the registered record", "no record");
        return;
    };
    let registered = proxy_record();
    findings.check(
        PROXY_PREFIX,
        record.eid_prefix() == registered.eid_prefix(),
        *reply,
        "the registered prefix 10.1.0.0/24",
        Told(record).to_string(),
    );
    for row in [PROXY_A, ONLY_ETR] {
        findings.check(row, !record.authoritative, *reply, "A = 0", "the A bit");
    }
    let local = record.locators.iter().any(|locator| locator.local);
    findings.check(
        PROXY_L,
        !local,
        *reply,
        "L = 0 on every locator",
        Told(record).to_string(),
    );
    let set = |record: &MapRecord| -> Vec<_> {
        let of = |l: &lisp::wire::Locator| (l.rloc.clone(), l.priority, l.weight, l.reachable);
        record.locators.iter().map(of).collect()
    };
    findings.check(
        PROXY_CONTENT,
        set(record) == set(&registered),
        *reply,
        format!(
            "the registered locators with priority, weight and R: {}",
            words::locators(&registered)
        ),
        words::locators(record),
    );
}
