//! The long form of the SMR lab: nobody tells the sender that the prefix is back, so that its negative entry has to end
//! by itself.

use std::time::Duration;

use super::sabotages::{A_QUARTER_OF_AN_HOUR, ANSWERS, SOLICITS_WITH_A_PROBE};
use super::steps::{NO_REPLY, SMR, UNREGISTERED, is_told, solicits};
use super::{DOWN, FAMILIES, Family, Loss, Ping, TOLD, UP, registered_at_both, send_until};
use crate::case::Case;
use crate::cases::common::{incoming, ip, lose_outgoing, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Peer, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};
use lisp::wire::ControlMessage;

const NEGATIVE_CACHE: Req = Req::new("rfc6833-4.1-itr-negative-cache");
const MINUTES: Req = Req::new("rfc6830-6.1.4-ttl-minutes");
const AGAIN: Req = Req::new("rfc6830-3-itr-encap");

/// No Map-Request for so long after the negative Map-Reply. A refresh may come before the minute is over.
const CACHED_NS: u64 = 30_000_000_000;
/// Nothing that the negative entry says is done after so long: a minute, and what a lab may be late.
const OVER_NS: u64 = 61_000_000_000;

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_2::a_negative_entry_of_one_minute_ends_by_itself",
        title: "A site that only gets data solicits nobody when its prefix is back; the sender asks again when its negative entry is a minute old, and not before.",
        topology: "smr-lab",
        // What is held goes out in one batch, with checksums where a kernel segments it.
        settings: &[("xtr-2", "on-miss: drop")],
        roles: &["itr", "etr", "ms"],
        requirements: &[SMR, NO_REPLY, UNREGISTERED, NEGATIVE_CACHE, MINUTES, AGAIN],
        timeout: seconds(140),
        slow: true,
        drive,
        judges: &[solicits, is_told, lives_a_minute],
        sabotages: &[
            SOLICITS_WITH_A_PROBE,
            ANSWERS,
            A_QUARTER_OF_AN_HOUR,
            Sabotage {
                name: "takes minutes for quarters of an hour",
                node: "xtr-2",
                links: &["access-2"],
                kills: &[MINUTES],
                tamper: || incoming(|message| match message {
                    ControlMessage::MapReply(reply) => {
                        reply.records.iter_mut().for_each(|record| record.ttl *= 15);
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "does not keep negative answers",
                node: "xtr-2",
                links: &["access-2"],
                kills: &[NEGATIVE_CACHE],
                tamper: || incoming(|message| match message {
                    ControlMessage::MapReply(reply) => {
                        let negative = reply.records.iter_mut().filter(|record| record.locators.is_empty());
                        negative.for_each(|record| record.ttl = 0);
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "encapsulates nothing any more",
                node: "xtr-2",
                links: &["access-2"],
                kills: &[AGAIN],
                tamper: || lose_outgoing(|frame| {
                    let late = |ping: Ping| FAMILIES.iter().any(|f| f.recovery().any(|s| Ping::Reply(s) == ping));
                    super::sabotages::carried(frame).is_some_and(late)
                }),
            },
        ],
        ..Case::BASE
    }
}

/// Data that wants no answer: echo replies that nobody asked for. So xTR 1 has no correspondent to tell anything.
fn send(sender: &Peer, family: Family, sequence: u16) -> Result<(), Stop> {
    let destination = ip(family.host);
    let own = sender.addresses().iter().copied();
    let own = own.filter(|own| own.is_ipv4() == destination.is_ipv4());
    for source in own {
        sender.send(&Echo::new(source, destination, sequence).reply())?;
    }
    Ok(())
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    registered_at_both(drive)?;
    let sender = drive.peer("host-2")?;
    let short = Duration::from_millis(200);
    for family in FAMILIES {
        let what = format!("data for {} at host-1b", family.host);
        let delivered = |packet: &Seen| {
            packet.receiver() == Some("host-1b") && Ping::Reply(family.before()).is_plain(packet)
        };
        let send = || send(&sender, family, family.before());
        send_until(drive, (0, &what), 20, short, send, delivered)?;
    }
    drive.stop("msmr-old")?;
    let down = drive.mark(DOWN);
    Loss::Interface.begins(drive)?;
    for family in FAMILIES {
        let what = format!("an SMR for {}", family.prefix);
        let send = || send(&sender, family, family.into_the_void());
        send_until(drive, (down, &what), 50, short, send, |packet| {
            family.is_smr(packet)
        })?;
    }
    for family in FAMILIES {
        let what = format!("the negative Map-Reply for {} at xtr-2", family.prefix);
        drive.wait_for(down, &what, seconds(20), |packet| {
            family.is_answer(packet, false)
        })?;
    }
    drive.mark(TOLD);
    let up = drive.mark(UP);
    Loss::Interface.ends(drive)?;
    let mut sequence = 0u16;
    let mut all = || {
        sequence += 1;
        FAMILIES.iter().try_for_each(|family| {
            let sequences = &mut family.recovery();
            let number = sequences.nth(usize::from(sequence)).unwrap_or(family.first);
            send(&sender, *family, number)
        })
    };
    for family in FAMILIES {
        let what = format!("a mapping of {} at xtr-2 again", family.prefix);
        send_until(
            drive,
            (up, &what),
            140,
            seconds(1) / 2,
            &mut all,
            |packet| family.is_answer(packet, true),
        )?;
    }
    for family in FAMILIES {
        let since = drive.mark("the mapping is there");
        let what = format!("data for {} through the tunnel", family.host);
        send_until(drive, (since, &what), 20, short, &mut all, |packet| {
            is_delivered(family, packet)
        })?;
    }
    Ok(())
}

fn is_delivered(family: Family, packet: &Seen) -> bool {
    packet.receiver() == Some("host-1b") && is_late(family, packet)
}

/// What was sent after the interface came back.
fn is_late(family: Family, packet: &Seen) -> bool {
    let ping = match packet.data() {
        Some((_, inner)) => Ping::of(inner),
        None => packet.ip().and_then(Ping::of),
    };
    matches!(ping, Some(Ping::Reply(sequence)) if family.recovery().contains(&sequence))
}

fn lives_a_minute(trace: &Trace, findings: &mut Findings) {
    for family in FAMILIES {
        let Some(told) = family.refusal(trace) else {
            for requirement in [NEGATIVE_CACHE, MINUTES, AGAIN] {
                findings.unseen(requirement, "a negative Map-Reply");
            }
            continue;
        };
        let after = |packet: &&Seen| packet.time_ns() > told.time_ns();
        let solicited = trace
            .since(UP)
            .filter(after)
            .find(|packet| family.is_smr(packet));
        let question = trace
            .originated("xtr-2")
            .filter(after)
            .find(|packet| family.is_question(packet));
        let age = |packet: &Seen| packet.time_ns() - told.time_ns();
        let (expected, seen) = (
            "no Map-Request while the entry lives, unless an SMR asks for one",
            question.map_or("none".to_owned(), |packet| {
                format!("after {} ms", age(packet) / 1_000_000)
            }),
        );
        let allowed = question.is_none_or(|question| {
            age(question) >= CACHED_NS
                || solicited.is_some_and(|smr| smr.time_ns() <= question.time_ns())
        });
        let evidence = [Some(told), question]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        findings.check(NEGATIVE_CACHE, allowed, &evidence, expected, seen);
        let stale = trace
            .sent_by("xtr-2")
            .filter(after)
            .find(|packet| age(packet) > OVER_NS && !packet.is_data() && is_late(family, packet));
        match (question, stale) {
            (Some(question), None) => findings.met(
                MINUTES,
                [told, question],
                format!("asked again after {} ms", age(question) / 1_000_000),
            ),
            (question, stale) => findings.broken(
                MINUTES,
                stale.or(question).unwrap_or(told),
                "the entry ends after one minute, and the prefix is asked for again",
                stale.map_or("no Map-Request".to_owned(), |packet| {
                    format!("used after {} ms", age(packet) / 1_000_000)
                }),
            ),
        }
        tunnelled_again(trace, family, findings);
    }
}

fn tunnelled_again(trace: &Trace, family: Family, findings: &mut Findings) {
    let answer = trace
        .since(UP)
        .find(|packet| family.is_answer(packet, true));
    let Some(answer) = answer else {
        return findings.unseen(AGAIN, "a Map-Reply with locators");
    };
    let later = |packet: &&Seen| packet.time_ns() >= answer.time_ns();
    let data = trace
        .sent_by("xtr-2")
        .filter(later)
        .find(|packet| packet.is_data() && is_late(family, packet));
    let out = trace
        .iter()
        .filter(later)
        .find(|packet| is_delivered(family, packet));
    match (data, out) {
        (Some(data), Some(out)) => {
            findings.met(AGAIN, [answer, data, out], "through the tunnel again");
        }
        _ => findings.broken(
            AGAIN,
            answer,
            "data through the tunnel again",
            "none at xtr-2, or nothing of it at host-1b",
        ),
    }
}
