//! Senders with an old destination map-version are told, and in the end refused (RFC 9302 7.1; RFC 9301 5.3).

use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::wire::ControlMessage;

use super::map_versions::*;
use crate::case::Case;
use crate::cases::common::{prefix, request, seconds};
use crate::cases::one_xtr::{
    CONTROL_FROM, HOST, Net, REMOTE, REMOTE_HOST, RLOC, SOON, TOPOLOGY, XTR, spoils, swallow,
};
use crate::cases::paces::{MOST, Pace, SECOND_NS, until_paused};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Frame;
use crate::trace::{Seen, Trace};

const TOLD: Req = Req::new("rfc9302-7.1-dst-older-inform");

const OLD: u16 = OWN - 1;
const UPDATED: &str = "the sender has asked";
/// Encapsulators with the current version have numbers above this one.
const CURRENT: u8 = 10;
/// Packets with the current version.
const NEW: std::ops::Range<u16> = 1000..1004;

fn is_smr_frame(frame: &Frame<'_>) -> bool {
    matches!(frame.control(), Some(ControlMessage::MapRequest(request)) if request.smr)
}

inventory::submit! {
    Case {
        id: "rfc9302::s7_1::a_sender_with_an_old_mapping_is_told",
        title: "An ETR solicits a sender whose packets have an old destination version, at most once a second, and no sender whose packets have the current one.",
        topology: TOPOLOGY,
        settings: &[(XTR, SETTINGS)],
        editions: &[Edition::Rfc9300],
        roles: &["etr"],
        features: &["mapver", "smr"],
        requirements: &[TOLD],
        drive,
        judges: &[tells],
        sabotages: &[
            spoils("tells nobody", &[TOLD], || swallow(is_smr_frame)),
            spoils("tells twice within a second", &[TOLD], || Box::new(|way, frame| {
                if way == Way::FromVictim && is_smr_frame(frame) {
                    PacketFate::Duplicate(Duration::from_millis(300))
                } else {
                    PacketFate::Forward
                }
            })),
            spoils("solicits for another prefix", &[TOLD], || crate::cases::one_xtr::on_requests(|request| {
                let hit = request.smr;
                if hit {
                    request.records = vec![lisp::wire::EidQuery::new(prefix("10.1.1.0/24"))];
                }
                hit
            })),
            spoils("asks instead of soliciting", &[TOLD], || crate::cases::one_xtr::on_requests(|request| {
                std::mem::take(&mut request.smr)
            })),
            spoils("tells those who know", &[TOLD], || on_versions(|source, destination| {
                Some((source, if destination == OWN { OLD } else { destination }))
            })),
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, Vec::new())?;
    registered(drive, SITE)?;
    let begin = drive.now_ns();
    let mut since = begin;
    let mut number = 0;
    for told in 1..=3 {
        let what = format!("SMR {told} to the sender with an old version");
        let mut last = Err(Stop::NotSeen(what.clone()));
        // A packet every quarter of a second, for as long as an SMR may take.
        for _ in 0..40 {
            number += 1;
            tunnel(&net, REMOTE, &versions(0, OLD), HOST, number)?;
            last = drive.wait_for(since, &what, Duration::from_millis(250), |packet| {
                is_smr(packet, REMOTE)
            });
            match &last {
                Ok(seen) => {
                    since = seen.time_ns() + 1;
                    break;
                }
                Err(Stop::NotSeen(_)) => {}
                Err(_) => break,
            }
        }
        last?;
    }
    let question = request(drive.random(), Some(REMOTE_HOST), &[REMOTE], "10.1.0.10/32");
    let nonce = question.nonce;
    let message = ControlMessage::MapRequest(question);
    net.remote.control((REMOTE, CONTROL_FROM), RLOC, &message)?;
    drive.wait_for(begin, "the Map-Reply", SOON, |packet| {
        packet.sender() == Some(XTR) && packet.map_reply().is_some_and(|reply| reply.nonce == nonce)
    })?;
    drive.mark(UPDATED);
    for (number, sequence) in (1..).zip(NEW) {
        let since = drive.now_ns();
        let current = encapsulator(CURRENT + number);
        tunnel(&net, current, &versions(0, OWN), HOST, sequence)?;
        let what = format!("data packet {sequence} at the site");
        drive.wait_for(since, &what, SOON, |packet| {
            is_at_the_site(packet, sequence)
        })?;
        // The fence: who is told later for a reason.
        let stale = encapsulator(number);
        tunnel(&net, stale, &versions(0, OLD), HOST, 1000 + sequence)?;
        drive.wait_for(since, "the fence's SMR", SOON, |packet| {
            is_smr(packet, stale)
        })?;
    }
    Ok(())
}

fn smrs(trace: &Trace) -> Vec<&Seen> {
    trace
        .originated(XTR)
        .filter(|packet| is_smr(packet, REMOTE))
        .collect()
}

fn tells(trace: &Trace, findings: &mut Findings) {
    let stale = trace
        .received_by(XTR)
        .filter(|packet| has_version(packet, OLD) && packet.source() == Some(REMOTE))
        .collect::<Vec<&Seen>>();
    if !has_versions(trace) || stale.is_empty() {
        return findings.unseen(
            TOLD,
            format!("{SITE} registered with version {OWN}, and data with version {OLD}"),
        );
    }
    let smrs = smrs(trace);
    let about = |packet: &Seen| {
        let request = packet.map_request();
        request.is_some_and(|request| {
            let mut asked = request.records.iter().filter_map(|query| query.prefix());
            packet.ecm().is_none() && asked.any(|asked| asked.covers(&prefix("10.1.0.10/32")))
        })
    };
    let right = smrs.iter().find(|packet| about(packet));
    findings.check(
        TOLD,
        right.is_some(),
        right.map_or(&stale, |_| &smrs),
        format!("an SMR for {SITE} to {REMOTE}"),
        smrs.first()
            .map_or("none".to_owned(), |packet| packet.summary()),
    );
    if let Some(pair) = smrs
        .windows(2)
        .find(|pair| pair[1].time_ns() - pair[0].time_ns() < SECOND_NS)
    {
        findings.broken(
            TOLD,
            [pair[0], pair[1]],
            "at most one SMR a second to one sender",
            format!("{} ms", (pair[1].time_ns() - pair[0].time_ns()) / 1_000_000),
        );
    }
    let needless = (1..).zip(NEW).find_map(|(number, _)| {
        let current = encapsulator(CURRENT + number);
        trace.iter().find(|packet| is_smr(packet, current))
    });
    if let Some(smr) = needless {
        findings.broken(
            TOLD,
            smr,
            "no SMR to a sender with the current version",
            smr.summary(),
        );
    }
}

fn has_version(packet: &Seen, version: u16) -> bool {
    packet.data().is_some_and(|(header, _)| {
        header
            .map_version
            .is_some_and(|(_, destination)| destination == version)
    })
}

inventory::submit! {
    Case {
        id: "rfc9302::s7_1::a_sender_that_keeps_an_old_mapping_is_refused",
        title: "A sender that does not heed ten SMRs is told less often, and its packets with the old version are dropped; those with the current one are delivered.",
        topology: TOPOLOGY,
        settings: &[(XTR, SETTINGS)],
        editions: &[Edition::Rfc9300],
        roles: &["etr"],
        features: &["mapver", "smr"],
        requirements: &[TOLD],
        timeout: seconds(240),
        slow: true,
        drive: |drive| {
            let net = Net::up(drive, Vec::new())?;
            registered(drive, SITE)?;
            let mut current = 0;
            until_paused(drive, "an SMR to the sender that does not heed it", |number| {
                tunnel(&net, REMOTE, &versions(0, OLD), HOST, number)?;
                // Now and then one as it should be, behind the others: what is not delivered before it was dropped.
                if number % 8 == 0 {
                    current += 1;
                    tunnel(&net, encapsulator(1), &versions(0, OWN), HOST, 10_000 + current)?;
                }
                Ok(())
            }, |packet| is_smr(packet, REMOTE))
        },
        judges: &[refuses],
        sabotages: &[
            spoils("takes old versions for ever", &[TOLD], || {
                let mut told = 0;
                Box::new(move |way, frame| {
                    told += usize::from(way == Way::FromVictim && is_smr_frame(frame));
                    if way == Way::ToVictim && told > 8 {
                        frame.edit_data(|header, _| {
                            let stale = header.map_version == Some((0, OLD));
                            if stale {
                                header.map_version = None;
                            }
                            stale
                        });
                    }
                    PacketFate::Forward
                })
            }),
            spoils("goes on telling", &[TOLD], || {
                let mut told = 0;
                Box::new(move |way, frame| {
                    if way == Way::FromVictim && is_smr_frame(frame) {
                        told += 1;
                        if told > 1 && told < MOST {
                            return PacketFate::Duplicate(Duration::from_millis(1500));
                        }
                    }
                    PacketFate::Forward
                })
            }),
        ],
        ..Case::BASE
    }
}

fn refuses(trace: &Trace, findings: &mut Findings) {
    let smrs = smrs(trace);
    let pace = Pace::of(&smrs);
    let stale: Vec<(u16, &Seen)> = trace
        .received_by(XTR)
        .filter(|packet| has_version(packet, OLD) && pace.rests_at(packet.time_ns()))
        .filter_map(|packet| Some((packet.data()?.1.icmp()?.echo().1, packet)))
        .collect();
    let fence = trace.iter().find(|packet| {
        pace.rests_at(packet.time_ns())
            && (10_001..10_500).any(|sequence| is_at_the_site(packet, sequence))
    });
    let rested = !stale.is_empty() && fence.is_some();
    if !has_versions(trace) || smrs.is_empty() || (pace.run.len() <= MOST && !rested) {
        return findings.unseen(
            TOLD,
            "SMRs to a sender with an old version, and its data after the last of them",
        );
    }
    if let Some([one, two]) = pace.too_close() {
        findings.broken(
            TOLD,
            [one, two],
            "a second between two SMRs to one sender",
            format!("{} ms", (two.time_ns() - one.time_ns()) / 1_000_000),
        );
    }
    findings.check(
        TOLD,
        pace.run.len() <= MOST,
        &pace.run,
        "ten SMRs, perhaps one more, before a pause of 30 s",
        pace.text(),
    );
    let delivered = stale
        .iter()
        .find_map(|(sequence, _)| at_the_site(trace, *sequence));
    if pace.run.len() <= MOST {
        findings.check(
            TOLD,
            delivered.is_none(),
            &delivered.map_or(pace.run.clone(), |packet| vec![packet]),
            "data with an old version dropped once the sender was told ten times",
            delivered.map_or(format!("{} packets dropped", stale.len()), Seen::summary),
        );
    }
}
