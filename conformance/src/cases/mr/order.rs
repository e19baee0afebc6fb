//! What is decided about a question, in this order: configured? registered? proxied? otherwise forwarded (RFC 6833 4.3, 4.4).

use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::wire::{ControlMessage, MapRecord, MapRegister};

use super::common::*;
use crate::case::{Case, Timer};
use crate::cases::common::{
    incoming, ip, is_reply, key, locator, outgoing, prefix, record, register, seconds, without_ecm,
};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;

const ORDER: Req = Req::new("rfc6833-4.3-ms-order");
const NO_EID: Req = Req::new("rfc6833-2-mr-negative-def");
const DECAP: Req = Req::new("rfc6833-4.4-mr-decap");
const ECM_TO_ETR: Req = Req::new("rfc6830-6.1.3-ecm-ms-etr");
const NOT_CACHED: Req = Req::new("rfc6833-4.4-mr-noncaching");
const PROXY: Req = Req::new("rfc6833-4.3-ms-proxy");
const A_BIT: Req = Req::new("rfc9301-5.4-a-bit-only-etr");
const L_BIT: Req = Req::new("rfc6830-6.1.4-l-bit-proxy");

const SITE: &str = "10.1.0.0/24";
const HOST: &str = "10.1.0.10/32";
const SECRET: &str = "key-of-site-a";
const ETR_A: &str = "192.0.2.2";
const ETR_B: &str = "192.0.2.34";

const NO_SITE: u64 = 0x6d72_0001_0000_0001;
const NOT_REGISTERED: u64 = 0x6d72_0001_0000_0002;
const PROXIED: u64 = 0x6d72_0001_0000_0003;
const CHANGED: u64 = 0x6d72_0001_0000_0004;
const FORWARDED: u64 = 0x6d72_0001_0000_0005;
/// The questions until the registration is over count up from here.
const UNTIL_EXPIRED: u64 = 0x6d72_0001_0000_0010;
const MOST_QUESTIONS: u64 = 0xe0;

const FIRST: u64 = 0x6d72_0001_0000_00f1;
const SECOND: u64 = 0x6d72_0001_0000_00f2;
const THIRD: u64 = 0x6d72_0001_0000_00f3;

inventory::submit! {
    Case {
        id: "rfc6833::s4_3::configured_registered_proxied_forwarded",
        title: "Negative for 15 minutes where no site is, for 1 where nobody is registered; then the ETR's proxy, then the ETR itself, and 1 minute again when it is silent.",
        topology: "one-msmr",
        timers: &[Timer {
            node: MSMR,
            name: "registration-timeout",
            text: Duration::from_secs(180),
            short: Duration::from_secs(2),
        }],
        timeout: Duration::from_secs(300),
        roles: &["ms", "mr"],
        features: &["proxy-reply"],
        requirements: &[ORDER, NO_EID, DECAP, ECM_TO_ETR, NOT_CACHED, PROXY, A_BIT, L_BIT],
        drive,
        judges: &[decisions, proxied, forwarded],
        sabotages: &[
            Sabotage {
                name: "natively-forward for a quarter of an hour, always",
                node: MSMR,
                links: &[],
                kills: &[ORDER],
                tamper: || outgoing(|message| on_negative(message, |record| record.ttl = 15)),
            },
            Sabotage {
                name: "knows a locator for everything",
                node: MSMR,
                links: &[],
                kills: &[ORDER, NO_EID],
                tamper: || outgoing(|message| on_negative(message, |record| {
                    record.locators.push(locator("192.0.2.2", 1, 1));
                })),
            },
            Sabotage {
                name: "answers from what it told before",
                node: MSMR,
                links: &[],
                kills: &[NOT_CACHED],
                tamper: || {
                    let mut told: Option<Vec<MapRecord>> = None;
                    Box::new(move |way, frame| {
                        if way == Way::FromVictim {
                            frame.edit_control(|message| match message {
                                ControlMessage::MapReply(reply) if !reply.records.iter().all(|r| r.locators.is_empty()) => {
                                    let first = told.get_or_insert_with(|| reply.records.clone());
                                    reply.records.clone_from(first);
                                    true
                                }
                                _ => false,
                            });
                        }
                        PacketFate::Forward
                    })
                },
            },
            Sabotage {
                name: "forwards without encapsulation",
                node: MSMR,
                links: &[],
                kills: &[ECM_TO_ETR],
                tamper: without_ecm,
            },
            Sabotage {
                name: "never looks whether an ETR wants a proxy",
                node: MSMR,
                links: &[],
                kills: &[ORDER, DECAP, PROXY],
                // Every Map-Register arrives without the P bit.
                tamper: || Box::new(|way, frame| {
                    if way == Way::ToVictim {
                        frame.edit_signed(&key(SECRET), |message| match message {
                            ControlMessage::MapRegister(register) => std::mem::take(&mut register.proxy_reply),
                            _ => false,
                        });
                    }
                    PacketFate::Forward
                }),
            },
            Sabotage {
                name: "proxies with the bits that the ETR registered",
                node: MSMR,
                links: &[],
                kills: &[L_BIT],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapReply(reply) => {
                        for record in &mut reply.records {
                            record.authoritative = true;
                            record.locators.iter_mut().for_each(|locator| locator.local = true);
                        }
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "keeps registrations for ever",
                node: MSMR,
                links: &[],
                kills: &[ORDER],
                // What is negative again after the registration is asked about something registered... by nobody: no answer.
                tamper: || {
                    let mut registered = false;
                    Box::new(move |way, frame| {
                        let control = frame.control();
                        registered |= matches!(control, Some(ControlMessage::MapRegister(_)));
                        let negative = matches!(&control, Some(ControlMessage::MapReply(reply))
                            if reply.records.iter().all(|record| record.locators.is_empty()));
                        if way == Way::FromVictim && registered && negative {
                            return PacketFate::Drop;
                        }
                        PacketFate::Forward
                    })
                },
            },
            Sabotage {
                name: "answers a question of its own choice",
                node: MSMR,
                links: &[],
                kills: &[NO_EID],
                tamper: || incoming(|message| match message {
                    ControlMessage::MapRequest(request) if request.nonce == NO_SITE => {
                        request.records[0] = lisp::wire::EidQuery::new(prefix(HOST));
                        true
                    }
                    _ => false,
                }),
            },
        ],
        ..Case::BASE
    }
}

fn on_negative(message: &mut ControlMessage, change: fn(&mut MapRecord)) -> bool {
    match message {
        ControlMessage::MapReply(reply) => {
            let negative = reply.records.iter_mut();
            let mut negative = negative
                .filter(|record| record.locators.is_empty())
                .peekable();
            let any = negative.peek().is_some();
            negative.for_each(change);
            any
        }
        _ => false,
    }
}

fn registration(nonce: u64, locators: &[&str], proxy_reply: bool) -> MapRegister {
    let locators = locators.iter().map(|rloc| {
        let mut locator = locator(rloc, 1, 50);
        locator.local = *rloc == ETR_A;
        locator
    });
    MapRegister {
        proxy_reply,
        ..register(&key(SECRET), nonce, vec![record(SITE, locators.collect())])
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let (itr, etr) = (drive.peer("itr")?, drive.peer("etr-a")?);
    ask_and_wait(drive, &itr, &question(NO_SITE, "172.16.5.5/32"))?;
    ask_and_wait(drive, &itr, &question(NOT_REGISTERED, HOST))?;
    for (register, asked) in [
        (registration(FIRST, &[ETR_A], true), PROXIED),
        (registration(SECOND, &[ETR_A, ETR_B], true), CHANGED),
        (registration(THIRD, &[ETR_A], false), FORWARDED),
    ] {
        register_and_wait(drive, &etr, SECRET, &register)?;
        ask_and_wait(drive, &itr, &question(asked, HOST))?;
    }
    let registered = drive.mark("the last registration");
    let timeout = drive.timer(MSMR, "registration-timeout");
    let patience = timeout.mul_f64(1.3) + seconds(2);
    let pace = (patience / 100).max(Duration::from_millis(50));
    for nonce in UNTIL_EXPIRED..UNTIL_EXPIRED + MOST_QUESTIONS {
        let since = drive.now_ns();
        ask(&itr, drive.address(MSMR)?, &question(nonce, HOST))?;
        let negative = drive.wait_for(since, "the registration to be over", pace, |packet| {
            is_reply(packet, nonce)
        });
        match negative {
            Ok(_) => return Ok(()),
            Err(Stop::NotSeen(_)) if since - registered < patience.as_nanos() as u64 => {}
            Err(stop) => return Err(stop),
        }
    }
    Ok(())
}

/// The last of the questions until the registration was over.
fn last_question(trace: &Trace) -> Option<u64> {
    trace
        .received_by(MSMR)
        .filter_map(|packet| packet.map_request())
        .map(|request| request.nonce)
        .rfind(|nonce| (UNTIL_EXPIRED..UNTIL_EXPIRED + MOST_QUESTIONS).contains(nonce))
}

fn decisions(trace: &Trace, findings: &mut Findings) {
    let steps = [
        (
            NO_SITE,
            "where no site is",
            Outcome::native("128.0.0.0/1", 15),
        ),
        (
            NOT_REGISTERED,
            "in an unregistered site",
            Outcome::native(SITE, 1),
        ),
        (
            PROXIED,
            "with P = 1",
            Outcome::Mapping(prefix(SITE), vec![ip(ETR_A)]),
        ),
        (FORWARDED, "with P = 0", Outcome::HandedTo(ip(ETR_A))),
        (
            last_question(trace).unwrap_or(UNTIL_EXPIRED),
            "when the registration is over",
            Outcome::native(SITE, 1),
        ),
    ];
    for (nonce, when, expected) in steps {
        let Some(asked) = asked(trace, nonce) else {
            findings.unseen(ORDER, format!("the Map-Request {when}"));
            continue;
        };
        let (found, shown) = outcome(trace, nonce);
        let right = match (&found, &expected) {
            // How large the prefix is, is the business of other cases.
            (Outcome::Negative(eid, ttl, act), Outcome::Negative(_, minutes, action)) => {
                let covers = asked
                    .map_request()
                    .and_then(|asked| asked.records[0].prefix());
                (ttl, act) == (minutes, action) && covers.is_some_and(|host| eid.covers(&host))
            }
            (found, expected) => found == expected,
        };
        let packets = shown.map_or(vec![asked], |shown| vec![asked, shown]);
        for requirement in [ORDER, NO_EID] {
            if requirement == ORDER || nonce == NO_SITE {
                findings.check(
                    requirement,
                    right,
                    &packets,
                    format!("{when}: {expected}"),
                    format!("{when}: {found}"),
                );
            }
        }
    }
}

fn proxied(trace: &Trace, findings: &mut Findings) {
    for (nonce, locators) in [
        (PROXIED, vec![ip(ETR_A)]),
        (CHANGED, vec![ip(ETR_A), ip(ETR_B)]),
    ] {
        let Some(asked) = asked(trace, nonce) else {
            findings.unseen(DECAP, "the Map-Request while P = 1");
            continue;
        };
        let expected = Outcome::Mapping(prefix(SITE), locators);
        let (found, shown) = outcome(trace, nonce);
        let packets = shown.map_or(vec![asked], |shown| vec![asked, shown]);
        if nonce == PROXIED {
            let there = matches!(found, Outcome::Mapping(..));
            findings.check(
                DECAP,
                there,
                &packets,
                "the Map-Request is taken out of the Encapsulated Control Message and answered",
                found.to_string(),
            );
            let silent = copies(trace, nonce).is_empty();
            findings.check(
                PROXY,
                there && silent,
                &packets,
                format!("{expected}, and nothing handed on"),
                found.to_string(),
            );
        } else {
            findings.check(
                NOT_CACHED,
                found == expected,
                &packets,
                format!("the mapping as it is now, {expected}"),
                found.to_string(),
            );
        }
        let record = shown
            .and_then(|reply| reply.map_reply())
            .and_then(|reply| reply.records.first());
        if let (Some(record), Some(reply)) = (record, shown) {
            let local = record.locators.iter().any(|locator| locator.local);
            findings.check(A_BIT, !record.authoritative, reply, "A = 0", "A = 1");
            findings.check(L_BIT, !local, reply, "L = 0 on every locator", "L = 1");
        }
    }
}

fn forwarded(trace: &Trace, findings: &mut Findings) {
    let (found, shown) = outcome(trace, FORWARDED);
    let Some(asked) = asked(trace, FORWARDED) else {
        findings.unseen(ECM_TO_ETR, "the Map-Request while P = 0");
        return findings.unseen(NOT_CACHED, "the Map-Request while P = 0");
    };
    let packets = shown.map_or(vec![asked], |shown| vec![asked, shown]);
    let encapsulated = shown.is_some_and(|packet| packet.ecm().is_some());
    findings.check(
        ECM_TO_ETR,
        encapsulated && found == Outcome::HandedTo(ip(ETR_A)),
        &packets,
        format!("an Encapsulated Map-Request to the ETR's locator {ETR_A}"),
        shown.map_or("nothing".to_owned(), |packet| packet.summary()),
    );
    // What was told for a proxy is no answer any more.
    let answered = !replies(trace, FORWARDED).is_empty();
    findings.check(
        NOT_CACHED,
        !answered,
        &packets,
        "no answer from an earlier mapping",
        found.to_string(),
    );
}
