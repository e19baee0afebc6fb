//! What RFC 9301 asks of a Map-Server's answers beyond RFC 6833.

use lisp::wire::{Action, ControlMessage, MapRecord, MapRegister};

use super::common::*;
use crate::case::Case;
use crate::cases::common::{ip, key, locator, outgoing, prefix, record, register};
use crate::catalogue::Req;
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;
use crate::words;

const A_BIT: Req = Req::new("rfc9301-5.4-a-bit-only-etr");
const DENIED: Req = Req::new("rfc9301-8.3-policy-denied");

const SECRET: &str = "key-of-site-a";
const SITE: &str = "10.1.0.0/24";
const HOST: &str = "10.1.0.10/32";
const ETR_A: &str = "192.0.2.2";

const REGISTER: u64 = 0x6d72_0004_0000_00f1;
const PROXIED: u64 = 0x6d72_0004_0000_0001;
const REFUSED: u64 = 0x6d72_0004_0000_0002;

inventory::submit! {
    Case {
        id: "rfc9301::s5_4::only_an_etr_is_authoritative",
        title: "What a Map-Server answers for an ETR is not authoritative, though the ETR registered it so.",
        topology: "one-msmr",
        editions: &[Edition::Rfc9300],
        roles: &["ms"],
        features: &["proxy-reply"],
        requirements: &[A_BIT],
        drive: |drive| {
            let (itr, etr) = (drive.peer("itr")?, drive.peer("etr-a")?);
            register_and_wait(drive, &etr, SECRET, &registration(true))?;
            ask_and_wait(drive, &itr, &question(PROXIED, HOST))?;
            Ok(())
        },
        judges: &[not_authoritative],
        sabotages: &[Sabotage {
            name: "says what the ETR said",
            node: MSMR,
            links: &[],
            kills: &[A_BIT],
            tamper: || outgoing(|message| on_records(message, |record| record.authoritative = true)),
        }],
        ..Case::BASE
    }
}

fn on_records(message: &mut ControlMessage, change: fn(&mut MapRecord)) -> bool {
    match message {
        ControlMessage::MapReply(reply) => {
            reply.records.iter_mut().for_each(change);
            true
        }
        _ => false,
    }
}

fn registration(proxy_reply: bool) -> MapRegister {
    MapRegister {
        proxy_reply,
        ..register(
            &key(SECRET),
            REGISTER,
            vec![record(SITE, vec![locator(ETR_A, 1, 100)])],
        )
    }
}

fn not_authoritative(trace: &Trace, findings: &mut Findings) {
    let Some(asked) = asked(trace, PROXIED) else {
        return findings.unseen(A_BIT, "the Map-Request");
    };
    let (found, shown) = outcome(trace, PROXIED);
    let records = shown
        .and_then(|shown| shown.map_reply())
        .map(|reply| reply.records.as_slice())
        .unwrap_or_default();
    let right = found == Outcome::Mapping(prefix(SITE), vec![ip(ETR_A)])
        && records.iter().all(|record| !record.authoritative);
    let bits: Vec<u8> = records
        .iter()
        .map(|record| u8::from(record.authoritative))
        .collect();
    let packets = shown.map_or(vec![asked], |shown| vec![asked, shown]);
    findings.check(
        A_BIT,
        right,
        &packets,
        "the registered mapping, A = 0 in each record",
        format!("{found}, A = {}", words::listed(bits)),
    );
}

inventory::submit! {
    Case {
        id: "rfc9301::s8_3::policy_denies_with_its_own_action",
        title: "A prefix that policy denies is answered with ACT 4 (drop, denied by policy), registered or not.",
        topology: "one-msmr",
        editions: &[Edition::Rfc9300],
        settings: &[(
            MSMR,
            "sites: [{name: site-a, key: key-of-site-a, eid-prefixes: [{prefix: 10.1.0.0/24, deny: true}]}]",
        )],
        roles: &["ms"],
        requirements: &[DENIED],
        drive: |drive| {
            let (itr, etr) = (drive.peer("itr")?, drive.peer("etr-a")?);
            ask_and_wait(drive, &itr, &question(REFUSED, HOST))?;
            register_and_wait(drive, &etr, SECRET, &registration(false))?;
            ask_and_wait(drive, &itr, &question(REFUSED + 1, HOST))?;
            Ok(())
        },
        judges: &[denied],
        sabotages: &[
            Sabotage {
                name: "says natively-forward",
                node: MSMR,
                links: &[],
                kills: &[DENIED],
                tamper: || outgoing(|message| on_records(message, |record| record.action = Action::NativelyForward)),
            },
            Sabotage {
                name: "says drop without a reason",
                node: MSMR,
                links: &[],
                kills: &[DENIED],
                tamper: || outgoing(|message| on_records(message, |record| record.action = Action::Drop)),
            },
            Sabotage {
                name: "tells the locators of a denied prefix",
                node: MSMR,
                links: &[],
                kills: &[DENIED],
                tamper: || outgoing(|message| on_records(message, |record| {
                    record.locators.push(locator(ETR_A, 1, 100));
                })),
            },
        ],
        ..Case::BASE
    }
}

fn denied(trace: &Trace, findings: &mut Findings) {
    for (nonce, when) in [(REFUSED, "unregistered"), (REFUSED + 1, "registered")] {
        let Some(asked) = asked(trace, nonce) else {
            findings.unseen(DENIED, format!("the Map-Request while {when}"));
            continue;
        };
        let (found, shown) = outcome(trace, nonce);
        let right = matches!(&found, Outcome::Negative(eid, _, 4) if prefix(SITE).covers(eid));
        let packets = shown.map_or(vec![asked], |shown| vec![asked, shown]);
        findings.check(
            DENIED,
            right,
            &packets,
            format!("{when}: no locators, ACT 4, inside {SITE}"),
            found.to_string(),
        );
    }
}
