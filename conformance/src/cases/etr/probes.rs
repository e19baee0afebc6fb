//! RLOC-probes answered by an ETR (RFC 6830 6.3.2, RFC 9301 7.1).

use std::net::IpAddr;

use lisp::wire::MapRequest;

use super::common::*;
use crate::case::Case;
use crate::cases::common::prefix;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};
use crate::words;

const TREATED: Req = Req::new("rfc6830-6.1.2-probe-treat");
const MIRRORED: Req = Req::new("rfc9301-5.2-probe-must");
const NONCE: Req = Req::new("rfc6830-6.1.4-probe-nonce");
const TO_ITR_RLOC: Req = Req::new("rfc6830-6.3.2-probe-reply");
const MAPPING: Req = Req::new("rfc6830-6.3.2-probe-reply-data");
const P_BIT: Req = Req::new("rfc6830-6.1.4-p-bit-single");
const P_BIT_NEVER: Req = Req::new("rfc6830-6.1.4-p-bit-never");
const A_BIT: Req = Req::new("rfc9301-5.4-probe-a-bit");

const PROBE: u64 = 0x9e7a_0000_0006_0001;
const PROBE_6: u64 = 0x9e7a_0000_0006_0002;

inventory::submit! {
    Case {
        id: "rfc6830::s6_3_2::probe_reply_names_the_probed_locator",
        title: "An RLOC-probe to each locator is answered with P = 1, its nonce and the mapping, to an ITR-RLOC; p marks the probed locator alone.",
        topology: TOPOLOGY,
        start: false,
        roles: &["etr"],
        features: &["rloc-probe"],
        requirements: &[TREATED, MIRRORED, NONCE, TO_ITR_RLOC, MAPPING, P_BIT, P_BIT_NEVER, A_BIT],
        drive: |drive| {
            let net = Net::registered(drive)?;
            for (nonce, to, from) in [(PROBE, RLOC, itr_rloc(1)), (PROBE_6, RLOC6, itr_rloc6(2))] {
                net.ask_plainly(to, &probe(nonce, from))?;
                wait_reply(drive, nonce)?;
            }
            Ok(())
        },
        judges: &[probe_replies],
        sabotages: &[
            sabotage("clears P", &[TREATED], || spoil_replies(|reply| {
                reply.probe = false;
                true
            })),
            sabotage("answers with another nonce", &[NONCE], || spoil_replies(|reply| {
                reply.nonce ^= 1;
                true
            })),
            sabotage("answers without a record", &[MAPPING], || spoil_replies(|reply| {
                reply.records.clear();
                true
            })),
            sabotage("marks no locator", &[P_BIT], || spoil_replies(|reply| {
                for locator in reply.records.iter_mut().flat_map(|record| &mut record.locators) {
                    locator.probed = false;
                }
                true
            })),
            sabotage("marks its first locator whichever was probed", &[P_BIT], || spoil_replies(|reply| {
                for record in &mut reply.records {
                    for (at, locator) in record.locators.iter_mut().enumerate() {
                        locator.probed = at == 0;
                    }
                }
                true
            })),
            sabotage("marks a locator in a Map-Register", &[P_BIT_NEVER], || spoil_registers(|register| {
                let locator = register.records.iter_mut().find_map(|record| record.locators.first_mut());
                locator.map(|locator| locator.probed = true).is_some()
            })),
            sabotage("does not answer probes", &[TO_ITR_RLOC], || swallow_reply(PROBE)),
        ],
        ..Case::BASE
    }
}

const fn sabotage(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: ETR,
        links: &["rloc"],
        kills,
        tamper,
    }
}

fn probe(nonce: u64, from: IpAddr) -> MapRequest {
    MapRequest {
        probe: true,
        ..request(nonce, from, "10.1.0.0/24")
    }
}

fn probe_replies(trace: &Trace, findings: &mut Findings) {
    for (nonce, probed) in [(PROBE, RLOC), (PROBE_6, RLOC6)] {
        let Some(question) = asked(trace, nonce) else {
            findings.unseen(TREATED, format!("the probe of {probed}"));
            continue;
        };
        let answer = trace.originated(ETR).find(|packet| {
            packet.time_ns() >= question.time_ns()
                && packet.map_reply().is_some()
                && packet.destination()
                    == question
                        .map_request()
                        .and_then(|request| request.itr_rlocs[0].ip())
        });
        match answer {
            Some(answer) => probe_reply(question, answer, probed, findings),
            None => {
                for requirement in [TREATED, MIRRORED, TO_ITR_RLOC] {
                    findings.broken(requirement, question, "a Map-Reply to the ITR-RLOC", "none");
                }
            }
        }
    }
    for packet in registers(trace) {
        let marked = packet
            .map_register()
            .iter()
            .flat_map(|register| &register.records)
            .flat_map(|record| &record.locators)
            .any(|locator| locator.probed);
        findings.check(
            P_BIT_NEVER,
            !marked,
            packet,
            "p = 0 in a Map-Register",
            "p = 1",
        );
    }
}

fn probe_reply(question: &Seen, answer: &Seen, probed: IpAddr, findings: &mut Findings) {
    let both = [question, answer];
    let (Some(request), Some(reply)) = (question.map_request(), answer.map_reply()) else {
        return;
    };
    for requirement in [TREATED, MIRRORED] {
        findings.check(requirement, reply.probe, both, "P = 1", "P = 0");
    }
    findings.check(
        NONCE,
        reply.nonce == request.nonce,
        both,
        format!("nonce {:#018x}", request.nonce),
        format!("nonce {:#018x}", reply.nonce),
    );
    findings.met(TO_ITR_RLOC, both, answer.summary());
    let wanted = prefix("10.1.0.0/24");
    let found = prefixes(answer);
    findings.check(
        MAPPING,
        found.iter().any(|found| found.covers(&wanted)),
        answer,
        format!("the mapping of {wanted}"),
        words::listed(&found),
    );
    for record in &reply.records {
        let marked: Vec<IpAddr> = record
            .locators
            .iter()
            .filter(|locator| locator.probed)
            .filter_map(|locator| locator.rloc.ip())
            .collect();
        findings.check(
            P_BIT,
            marked == [probed],
            both,
            format!("p = 1 on {probed} alone"),
            format!("p = 1 on {}", words::listed(marked)),
        );
        findings.check(
            A_BIT,
            record.authoritative,
            answer,
            "A = 1 in each record",
            "A = 0",
        );
    }
    if reply.records.is_empty() {
        findings.broken(P_BIT, answer, format!("p = 1 on {probed}"), "no record");
        findings.broken(A_BIT, answer, "records with A = 1", "no record");
    }
}

const PROBE_RATE: Req = Req::new("rfc6830-6.3-probe-rate");
const REPLY_RATE: Req = Req::new("rfc6830-6.1.5-mrep-rate");
const NEWER_RATE: Req = Req::new("rfc9301-5.4-mrep-rate");

const BURST: u64 = 0x9e7a_0000_0007_0000;
const PROBE_BURST: u64 = 0x9e7a_0000_0008_0000;
const AFTER_BURST: u64 = 0x9e7a_0000_0009_0001;
/// Questions in a burst. The burst takes a few milliseconds.
const QUESTIONS: u64 = 100;

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_5::map_replies_are_rate_limited",
        title: "A burst of Map-Requests or probes from one ITR-RLOC for one EID-Prefix gets one Map-Reply a second; others are answered meanwhile.",
        topology: TOPOLOGY,
        start: false,
        roles: &["etr"],
        requirements: &[REPLY_RATE, NEWER_RATE, PROBE_RATE],
        drive: bursts,
        judges: &[bounded],
        sabotages: &[
            sabotage("answers twice", &[PROBE_RATE], || Box::new(|way, frame| {
                let reply = matches!(frame.control(), Some(lisp::wire::ControlMessage::MapReply(_)));
                if reply && way == harness::inline::Way::FromVictim {
                    return harness::inline::PacketFate::Duplicate(std::time::Duration::from_millis(1));
                }
                harness::inline::PacketFate::Forward
            })),
        ],
        ..Case::BASE
    }
}

fn bursts(drive: &mut Drive) -> Result<(), Stop> {
    let net = Net::registered(drive)?;
    for number in 0..QUESTIONS {
        net.hand_on(&request(BURST + number, itr_rloc(1), "10.1.0.10/32"))?;
        net.ask_plainly(RLOC, &probe(PROBE_BURST + number, itr_rloc(2)))?;
    }
    net.question(drive, &request(AFTER_BURST, itr_rloc(3), "10.1.0.10/32"))
}

fn bounded(trace: &Trace, findings: &mut Findings) {
    if reply(trace, AFTER_BURST).is_none() {
        findings.unseen(REPLY_RATE, "the Map-Reply to another ITR after the bursts");
    }
    for (requirements, first) in [
        (&[REPLY_RATE, NEWER_RATE][..], BURST),
        (&[PROBE_RATE][..], PROBE_BURST),
    ] {
        let sent = replies_among(trace, |nonce| (first..first + QUESTIONS).contains(&nonce));
        let close = sent
            .windows(2)
            .find(|pair| pair[1].time_ns() - pair[0].time_ns() < 950_000_000);
        for requirement in requirements {
            match (close, sent.first()) {
                (Some(pair), _) => findings.broken(
                    *requirement,
                    [pair[0], pair[1]],
                    "at least a second between two Map-Replies for one EID-Prefix to one ITR",
                    format!(
                        "{} Map-Replies to {QUESTIONS} questions, two of them {} ms apart",
                        sent.len(),
                        (pair[1].time_ns() - pair[0].time_ns()) / 1_000_000
                    ),
                ),
                (None, Some(first)) => findings.met(
                    *requirement,
                    *first,
                    format!("{} Map-Replies to {QUESTIONS} questions", sent.len()),
                ),
                (None, None) => findings.broken(
                    *requirement,
                    Vec::new(),
                    "a Map-Reply to the first of the burst",
                    "none",
                ),
            }
        }
    }
}
