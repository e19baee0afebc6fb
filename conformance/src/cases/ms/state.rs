//! State on disk: what was confirmed before a kill is known after the next start.

use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::wire::ControlMessage;

use super::common::*;
use crate::case::Case;
use crate::cases::common::{ip, key, locator, lose_outgoing, record, register};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const FORWARD: Req = Req::new("rfc6833-4.3-ms-forward");
const ONCE: Req = Req::new("rfc6833-4.3-ms-forward-once");

/// Kills, and Map-Registers on the way to each.
const ROUNDS: u64 = 6;
const BURST: u64 = 40;
const FIRST_NONCE: u64 = 0x6d73_da7a_0000_0000;
const QUESTION_NONCE: u64 = 0x6d73_da7b_0000_0000;

inventory::submit! {
    Case {
        id: "rfc6833::s4_3::what_was_confirmed_outlives_a_kill",
        title: "Killed at any moment while ETRs register, the Map-Server knows after its next start all that it had confirmed, and answers at once.",
        topology: TOPOLOGY,
        settings: &[(MS, "state-dir: /run/node/state")],
        roles: &["ms"],
        requirements: &[FORWARD, ONCE],
        timeout: Duration::from_secs(60),
        drive: killed_often,
        judges: &[judge],
        sabotages: &[
            Sabotage {
                name: "forgets one registration",
                node: MS,
                links: &[],
                kills: &[FORWARD],
                tamper: || lose_outgoing(|frame| match frame.control() {
                    Some(ControlMessage::Encapsulated(ecm)) => ecm.decode_inner().is_ok_and(|inner| {
                        inner.destination == ip("10.2.0.3")
                    }),
                    _ => false,
                }),
            },
            Sabotage {
                name: "hands on twice what it read from its disk",
                node: MS,
                links: &[],
                kills: &[ONCE],
                tamper: || Box::new(|way, frame| match frame.control() {
                    Some(ControlMessage::Encapsulated(_)) if way == Way::FromVictim => {
                        PacketFate::Duplicate(Duration::ZERO)
                    }
                    _ => PacketFate::Forward,
                }),
            },
        ],
        ..Case::BASE
    }
}

/// The host EID of a Map-Register: `10.2.<round>.<number>`.
fn eid(round: u64, number: u64) -> std::net::IpAddr {
    std::net::IpAddr::from([10, 2, round as u8, number as u8])
}

fn killed_often(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let ms = drive.address(MS)?;
    let site = key("key-of-site-b");
    let mut asked = 0;
    for round in 0..ROUNDS {
        let etr = drive.peer("etr-b")?;
        let since = drive.mark(&format!("burst {round}"));
        // The kill comes when so many are confirmed, and others are on their way.
        let confirmed = drive.random() % (BURST - 5) + 4;
        for number in 0..BURST {
            let nonce = FIRST_NONCE + round * 256 + number;
            let mapping = record(
                &format!("{}/32", eid(round, number)),
                vec![locator("192.0.2.34", 1, 100)],
            );
            let message = register(&site, nonce, vec![mapping]);
            etr.udp(
                (etr.address(), 41_000 + number as u16),
                (ms, lisp::CONTROL_PORT),
                &message.to_signed_vec(&site),
            )?;
            if number == confirmed {
                let nonce = nonce - 2;
                drive.wait_for(since, "a Map-Notify of the burst", SOON, |packet| {
                    packet
                        .map_notify()
                        .is_some_and(|notify| notify.nonce == nonce)
                })?;
                drive.kill(MS)?;
            }
        }
        drop(etr);
        drive.start(MS)?;
        drive.mark(&format!("start {round}"));
        let itr = drive.peer("itr")?;
        for number in confirmed_in(&drive.packets(since), round) {
            let begin = drive.now_ns();
            let nonce = QUESTION_NONCE + round * 256 + number;
            asked += 1;
            ask(
                drive,
                &itr,
                nonce,
                itr_rloc((asked % 250) as u8 + 1),
                eid(round, number),
            )?;
            match resolved(drive, begin, nonce) {
                Err(Stop::NotSeen(_)) => {}
                other => drop(other?),
            }
        }
    }
    Ok(())
}

/// The numbers of the Map-Registers of a burst that were confirmed.
fn confirmed_in(packets: &[Seen], round: u64) -> Vec<u64> {
    let first = FIRST_NONCE + round * 256;
    let mut numbers: Vec<u64> = packets
        .iter()
        .filter(|packet| packet.sender() == Some(MS))
        .filter_map(|packet| packet.map_notify()?.nonce.checked_sub(first))
        .filter(|number| *number < BURST)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn judge(trace: &Trace, findings: &mut Findings) {
    let mut known = 0;
    for round in 0..ROUNDS {
        let (Some(burst), Some(start)) = (
            trace.mark(&format!("burst {round}")),
            trace.mark(&format!("start {round}")),
        ) else {
            findings.unseen(FORWARD, format!("kill and start number {round}"));
            continue;
        };
        let until_start: Vec<Seen> = trace
            .iter()
            .filter(|packet| (burst..start).contains(&packet.time_ns()))
            .cloned()
            .collect();
        let confirmed = confirmed_in(&until_start, round);
        if confirmed.is_empty() {
            findings.unseen(FORWARD, format!("a Map-Notify before kill number {round}"));
        }
        for number in confirmed {
            let nonce = QUESTION_NONCE + round * 256 + number;
            let Some(asked) = question(trace, nonce) else {
                findings.unseen(FORWARD, format!("a question for {}", eid(round, number)));
                continue;
            };
            let outcome = Outcome::of(trace, nonce);
            match &outcome {
                Outcome::Forwarded(packets) if packets.len() == 1 => known += 1,
                Outcome::Forwarded(packets) => {
                    findings.broken(ONCE, packets, "forwarded once", outcome.to_string());
                }
                _ => findings.broken(
                    FORWARD,
                    asked,
                    format!(
                        "{} handed on: it was confirmed before the kill",
                        eid(round, number)
                    ),
                    outcome.to_string(),
                ),
            }
        }
    }
    findings.check(
        FORWARD,
        known > 0,
        Vec::new(),
        "registrations that outlive a kill",
        format!("{known} confirmed registrations outlived {ROUNDS} kills"),
    );
    if known > 0 {
        findings.met(ONCE, Vec::new(), "each question went to one ETR");
    }
}
