//! Limits: registrations are bounded, and a flood from one source does not take the service from others.

use std::time::Duration;

use lisp::wire::ControlMessage;

use super::common::*;
use super::script::{Step, ask as asks, judge, register, run};
use crate::case::Case;
use crate::cases::common::{ip, key, locator, lose_incoming, lose_outgoing, outgoing, record};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const NOTIFY: Req = Req::new("rfc6833-4.2-want-notify");
const FORWARD: Req = Req::new("rfc6833-4.3-ms-forward");
const UNREGISTERED: Req = Req::new("rfc6833-4.3-ms-unregistered");

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::registrations_are_bounded",
        title: "Registrations over the limit are neither kept nor confirmed; those within stay and can be repeated, and one that goes makes room.",
        topology: TOPOLOGY,
        settings: &[(MS, "limits: {registrations: 3}")],
        roles: &["ms"],
        requirements: &[NOTIFY, FORWARD, UNREGISTERED],
        drive: |drive| run(drive, &bounded()),
        judges: &[|trace, findings| judge(trace, findings, &bounded())],
        sabotages: &[
            Sabotage {
                name: "tells of registrations that it could not keep",
                node: MS,
                links: &[],
                kills: &[UNREGISTERED],
                tamper: || outgoing(|message| on_records(message, as_if_registered)),
            },
            Sabotage {
                name: "gives an older registration up",
                node: MS,
                links: &[],
                kills: &[FORWARD],
                tamper: || lose_outgoing(|frame| matches!(frame.control(), Some(ControlMessage::Encapsulated(_)))),
            },
            Sabotage {
                name: "takes no more when it was full once",
                node: MS,
                links: &[],
                kills: &[NOTIFY],
                tamper: || {
                    let mut count = 0;
                    Box::new(move |way, frame| {
                        let register = matches!(frame.control(), Some(ControlMessage::MapRegister(_)));
                        if way == harness::inline::Way::ToVictim && register {
                            count += 1;
                            if count > 4 {
                                return harness::inline::PacketFate::Drop;
                            }
                        }
                        harness::inline::PacketFate::Forward
                    })
                },
            },
        ],
        ..Case::BASE
    }
}

fn bounded() -> Vec<Step> {
    let of = |number: u8, minutes: u32| {
        let mut mapping = record(
            &format!("10.2.{number}.0/24"),
            vec![locator("192.0.2.34", 1, 100)],
        );
        mapping.ttl = minutes;
        register("etr-b", &key("key-of-site-b"), vec![mapping])
    };
    vec![
        of(1, 1440).confirmed().shows(&[NOTIFY]),
        of(2, 1440).confirmed().shows(&[NOTIFY]),
        of(3, 1440).confirmed().shows(&[NOTIFY]),
        of(4, 1440).unconfirmed().shows(&[UNREGISTERED]),
        asks("10.2.4.7")
            .negative("10.2.4.0/22", 1)
            .shows(&[UNREGISTERED]),
        asks("10.2.1.7")
            .forwarded(&["192.0.2.34"])
            .shows(&[FORWARD]),
        of(3, 1440).confirmed().shows(&[NOTIFY]),
        of(2, 0).confirmed(),
        of(4, 1440).confirmed().shows(&[NOTIFY]),
        asks("10.2.4.7")
            .forwarded(&["192.0.2.34"])
            .shows(&[FORWARD]),
    ]
}

/// Map-Requests of the flood.
const FLOOD: u64 = 1500;
/// Map-Requests a second that one source may send here.
const RATE: u64 = 50;
const FLOOD_NONCE: u64 = 0x6d73_f100_0000_0000;
const HONEST_NONCE: u64 = 0x6d73_f101_0000_0000;
/// Honest questions, spread over the flood.
const HONEST: u64 = 10;

inventory::submit! {
    Case {
        id: "rfc6833::s4_3::a_flood_starves_nobody",
        title: "While one source floods it with Map-Requests and Map-Registers, the Map-Server answers another's questions and ETRs' registrations.",
        topology: TOPOLOGY,
        settings: &[(MS, "limits: {map-requests-per-source: 50}")],
        roles: &["ms"],
        requirements: &[FORWARD, NOTIFY],
        drive: flood,
        judges: &[spared],
        sabotages: &[
            Sabotage {
                name: "has one limit for all",
                node: MS,
                links: &[],
                kills: &[FORWARD],
                tamper: || {
                    let mut count = 0;
                    Box::new(move |way, frame| {
                        let asks = matches!(frame.control(), Some(ControlMessage::Encapsulated(_)));
                        if way == harness::inline::Way::ToVictim && asks {
                            count += 1;
                            if count > RATE {
                                return harness::inline::PacketFate::Drop;
                            }
                        }
                        harness::inline::PacketFate::Forward
                    })
                },
            },
            Sabotage {
                name: "hears no Map-Register in a flood",
                node: MS,
                links: &[],
                kills: &[NOTIFY],
                tamper: || lose_incoming(|frame| matches!(
                    frame.control(), Some(ControlMessage::MapRegister(register)) if register.nonce > HONEST_NONCE + 256
                )),
            },
        ],
        ..Case::BASE
    }
}

fn honest_register(number: u64) -> (u64, Vec<u8>) {
    let nonce = HONEST_NONCE + 256 + number;
    let site = key("key-of-site-a");
    let mapping = record("10.1.0.0/24", vec![locator("192.0.2.2", 1, 100)]);
    let message = crate::cases::common::register(&site, nonce, vec![mapping]);
    (nonce, message.to_signed_vec(&site))
}

fn flood(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let ms = drive.address(MS)?;
    let (etr, enemy, itr) = (
        drive.peer("etr-a")?,
        drive.peer("etr-b")?,
        drive.peer("itr")?,
    );
    let (nonce, octets) = honest_register(0);
    let begin = drive.mark("the first Map-Register");
    etr.udp((etr.address(), 41_000), (ms, lisp::CONTROL_PORT), &octets)?;
    drive.wait_for(begin, "the Map-Notify", SOON, |packet| {
        packet
            .map_notify()
            .is_some_and(|notify| notify.nonce == nonce)
    })?;
    drive.mark("the flood");
    let wrong = key("no-key-of-site-a");
    for number in 0..FLOOD {
        let question = question_for(FLOOD_NONCE + number, itr_rloc(1), host(0, ip("10.1.0.66")));
        let ecm = lisp::wire::Ecm::wrap(
            itr_rloc(1),
            ip("10.1.0.66"),
            INNER_PORT,
            lisp::CONTROL_PORT,
            64,
            &ControlMessage::MapRequest(question),
        );
        enemy.control(
            (enemy.address(), 42_000),
            ms,
            &ControlMessage::Encapsulated(ecm),
        )?;
        if number % 3 == 0 {
            let mapping = record("10.1.0.0/24", vec![locator("192.0.2.34", 1, 100)]);
            let forged =
                crate::cases::common::register(&wrong, FLOOD_NONCE + number, vec![mapping]);
            enemy.udp(
                (enemy.address(), 42_001),
                (ms, lisp::CONTROL_PORT),
                &forged.to_signed_vec(&wrong),
            )?;
        }
        if number % (FLOOD / HONEST) == 0 {
            let count = number / (FLOOD / HONEST);
            let since = drive.now_ns();
            ask(
                drive,
                &itr,
                HONEST_NONCE + count,
                itr_rloc(2 + count as u8),
                ip("10.1.0.7"),
            )?;
            let asked = resolved(drive, since, HONEST_NONCE + count);
            let (nonce, octets) = honest_register(1 + count);
            etr.udp(
                (etr.address(), 41_001 + count as u16),
                (ms, lisp::CONTROL_PORT),
                &octets,
            )?;
            let registered = drive.wait_for(
                since,
                "the Map-Notify in the flood",
                Duration::from_secs(2),
                |packet| {
                    packet
                        .map_notify()
                        .is_some_and(|notify| notify.nonce == nonce)
                },
            );
            asked.and(registered)?;
        }
    }
    Ok(())
}

fn spared(trace: &Trace, findings: &mut Findings) {
    let passed = trace
        .originated(MS)
        .filter_map(|packet| packet.map_request())
        .filter(|request| (FLOOD_NONCE..FLOOD_NONCE + FLOOD).contains(&request.nonce))
        .count();
    for count in 0..HONEST {
        let Some(asked) = question(trace, HONEST_NONCE + count) else {
            findings.unseen(FORWARD, format!("honest question {count}"));
            continue;
        };
        let outcome = Outcome::of(trace, HONEST_NONCE + count);
        findings.check(
            FORWARD,
            outcome.positive(),
            asked,
            "the honest question handed on to the ETR",
            format!("{outcome}; {passed} of {FLOOD} questions of the flood were"),
        );
        let (nonce, _) = honest_register(1 + count);
        let notify = trace.originated(MS).find(|packet| {
            packet
                .map_notify()
                .is_some_and(|notify| notify.nonce == nonce)
        });
        findings.check(
            NOTIFY,
            notify.is_some(),
            &notify.into_iter().collect::<Vec<&Seen>>(),
            format!("a Map-Notify for the honest Map-Register {count} in the flood"),
            notify.map_or("none".to_owned(), Seen::summary),
        );
    }
}
