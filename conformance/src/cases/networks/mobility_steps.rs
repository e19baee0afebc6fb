//! What follows when an EID-Prefix or a host of it has moved, step by step: judged the same whatever made it move.

use super::mobility::{
    AWAY, AWAY_SMR, DELIVERS, ECM, FOLLOWS, FORWARDS, HOST_B, KEEP, MOBILE, MOVES, MS, NEW,
    NOTIFIES_OLD, OLD, REACT, REPLIES, RESOLVES, S_BIT, SENDER, SMR, host, is_told, registers_host,
};
use crate::cases::common::ip;
use crate::finding::Findings;
use crate::trace::{Seen, Trace};

/// A data packet from xTR B to the mobile host, by the locator that it goes to.
fn data_to<'t>(trace: &'t Trace, locator: &str) -> impl Iterator<Item = &'t Seen> {
    let locator = ip(locator);
    trace.since(MOVES).filter(move |packet| {
        packet.sender() == Some("xtr-b")
            && packet.destination() == Some(locator)
            && packet
                .data()
                .is_some_and(|(_, inner)| inner.destination == ip(MOBILE))
    })
}

fn solicitation(trace: &Trace) -> Option<&Seen> {
    trace.since(MOVES).find(|packet| {
        packet.sender() == Some("xtr-1")
            && packet.map_request().is_some_and(|request| {
                let mut asked = request.records.iter().filter_map(|q| q.prefix());
                request.smr && asked.any(|asked| asked.covers(&host()))
            })
    })
}

pub(super) fn solicits(trace: &Trace, findings: &mut Findings) {
    let Some(data) = data_to(trace, OLD).next() else {
        return findings.unseen(SMR, "data to the old xTR after the move");
    };
    match solicitation(trace) {
        None => findings.broken(SMR, data, format!("an SMR of xtr-1 to {SENDER}"), "none"),
        Some(smr) => findings.check(
            SMR,
            smr.ecm().is_none()
                && smr.destination() == Some(ip(SENDER))
                && smr
                    .map_request()
                    .is_some_and(|r| !r.probe && !r.smr_invoked),
            [data, smr],
            format!("S = 1, P = 0, s = 0, not encapsulated, to {SENDER}"),
            smr.summary(),
        ),
    }
}

/// The Map-Request that the SMR made xTR B send.
fn question<'t>(trace: &'t Trace, smr: &Seen) -> Option<&'t Seen> {
    trace.originated("xtr-b").find(|packet| {
        packet.time_ns() >= smr.time_ns()
            && packet.map_request().is_some_and(|request| {
                let mut asked = request.records.iter().filter_map(|q| q.prefix());
                !request.smr && !request.probe && asked.any(|asked| asked.covers(&host()))
            })
    })
}

pub(super) fn asks(trace: &Trace, findings: &mut Findings) {
    let Some(smr) = solicitation(trace) else {
        for requirement in [REACT, S_BIT, ECM, KEEP] {
            findings.unseen(requirement, "an SMR");
        }
        return;
    };
    let Some(question) = question(trace, smr) else {
        findings.broken(REACT, smr, "a Map-Request of xtr-b", "none");
        for requirement in [S_BIT, ECM, KEEP] {
            findings.unseen(requirement, "an SMR-invoked Map-Request");
        }
        return;
    };
    findings.met(REACT, [smr, question], question.summary());
    let invoked = question.map_request().is_some_and(|r| r.smr_invoked);
    findings.check(S_BIT, invoked, question, "s = 1", "s = 0");
    findings.check(
        ECM,
        question.ecm().is_some() && question.destination() == Some(ip(MS)),
        question,
        format!("encapsulated, to the Map-Resolver {MS}"),
        question.summary(),
    );
    let answered = answer(trace, question).map_or(u64::MAX, Seen::time_ns);
    let between = |packet: &&Seen| (smr.time_ns()..answered).contains(&packet.time_ns());
    let lost = trace.since(MOVES).filter(between).find(|packet| {
        packet.sender() == Some("xtr-b")
            && !packet.is_data()
            && packet
                .ip()
                .is_some_and(|ip| ip.destination == self::ip(MOBILE))
    });
    match lost {
        None => findings.met(KEEP, [smr, question], "nothing left but in the old tunnel"),
        Some(packet) => findings.broken(
            KEEP,
            packet,
            "the old mapping stays in use until the Map-Reply",
            packet.summary(),
        ),
    }
}

/// The Map-Reply to a Map-Request of xTR B.
fn answer<'t>(trace: &'t Trace, question: &Seen) -> Option<&'t Seen> {
    let nonce = question.map_request()?.nonce;
    trace.iter().find(|packet| {
        packet.receiver() == Some("xtr-b")
            && packet.map_reply().is_some_and(|reply| reply.nonce == nonce)
    })
}

pub(super) fn is_answered(trace: &Trace, findings: &mut Findings) {
    let question = solicitation(trace).and_then(|smr| question(trace, smr));
    let Some((question, request)) = question.and_then(|q| Some((q, q.map_request()?))) else {
        findings.unseen(FORWARDS, "an SMR-invoked Map-Request");
        findings.unseen(REPLIES, "an SMR-invoked Map-Request");
        return;
    };
    let forwarded = trace.originated("msmr").find(|packet| {
        packet
            .map_request()
            .is_some_and(|r| r.nonce == request.nonce)
    });
    findings.check(
        FORWARDS,
        forwarded.is_some_and(|p| p.ecm().is_some() && p.destination() == Some(ip(NEW))),
        forwarded.unwrap_or(question),
        format!("encapsulated, to the new xTR {NEW}"),
        forwarded.map_or("not forwarded".to_owned(), Seen::summary),
    );
    let Some(answer) = answer(trace, question) else {
        return findings.broken(REPLIES, question, "a Map-Reply of xtr-2 to xtr-b", "none");
    };
    let names_new = answer.map_reply().is_some_and(|reply| {
        let mut locators = reply.records.iter().flat_map(|record| &record.locators);
        locators.any(|locator| locator.rloc.ip() == Some(ip(NEW)))
    });
    findings.check(
        REPLIES,
        answer.source() == Some(ip(NEW)) && names_new,
        [question, answer],
        format!("a Map-Reply from {NEW} that names it"),
        answer.summary(),
    );
}

pub(super) fn follows(trace: &Trace, findings: &mut Findings) {
    let Some(first) = data_to(trace, NEW).next() else {
        findings.broken(
            FOLLOWS,
            &data_to(trace, OLD)
                .last()
                .map_or(Vec::new(), |last| vec![last]),
            format!("data to {NEW}"),
            "none",
        );
        return findings.unseen(DELIVERS, "data to the new xTR");
    };
    let back = data_to(trace, OLD).find(|packet| packet.time_ns() > first.time_ns());
    match back {
        None => findings.met(FOLLOWS, first, "from then on to the new xTR only"),
        Some(back) => findings.broken(
            FOLLOWS,
            [first, back],
            "to the new xTR only",
            back.summary(),
        ),
    }
    let delivered = trace.since(MOVES).find(|packet| {
        packet.time_ns() >= first.time_ns()
            && packet.link() == "place-2"
            && packet.receiver() == Some("mobile")
            && !packet.is_data()
            && packet.source() == Some(ip(HOST_B))
    });
    findings.check(
        DELIVERS,
        delivered.is_some(),
        delivered.unwrap_or(first),
        "decapsulated and delivered at the new place",
        "not delivered",
    );
    gap(trace, first, findings);
}

/// How much was lost is for people to compare.
fn gap(trace: &Trace, first: &Seen, findings: &mut Findings) {
    let Some(moved) = trace.mark(MOVES) else {
        return;
    };
    let lost: Vec<&Seen> = trace
        .since(MOVES)
        .filter(|packet| packet.sender() == Some("host-b") && packet.time_ns() < first.time_ns())
        .filter(|packet| {
            packet
                .ip()
                .and_then(|ip| ip.icmp())
                .is_some_and(|i| i.is_echo_request())
        })
        .collect();
    let text = format!(
        "the gap: {} packets lost, at most 10 a second; {} ms from the move to the first packet to the new xTR",
        lost.len(),
        (first.time_ns() - moved) / 1_000_000
    );
    findings.recorded(KEEP, first, text);
}

pub(super) fn notified(trace: &Trace, findings: &mut Findings) {
    let registered = trace
        .since(MOVES)
        .find(|packet| packet.sender() == Some("xtr-2") && registers_host(packet, NEW));
    let Some(registered) = registered else {
        return findings.unseen(NOTIFIES_OLD, "a Map-Register of xtr-2 with the host");
    };
    let told = trace.since(MOVES).find(|packet| is_told(packet));
    findings.check(
        NOTIFIES_OLD,
        told.is_some(),
        &told.map_or(vec![registered], |told| vec![registered, told]),
        format!("a Map-Notify to {OLD} with the new locator {NEW}"),
        told.map_or("none".to_owned(), Seen::summary),
    );
}

pub(super) fn away(trace: &Trace, findings: &mut Findings) {
    let Some(told) = trace.since(MOVES).find(|packet| is_told(packet)) else {
        for requirement in [AWAY, AWAY_SMR, RESOLVES] {
            findings.unseen(requirement, "a Map-Notify about the move");
        }
        return;
    };
    let later: Vec<&Seen> = trace
        .originated("xtr-1")
        .filter(|packet| packet.time_ns() > told.time_ns() && packet.map_register().is_some())
        .collect();
    match later.iter().find(|packet| registers_host(packet, OLD)) {
        Some(packet) => findings.broken(
            AWAY,
            [told, packet],
            "the old xTR does not register the host any more",
            packet.summary(),
        ),
        None if later.is_empty() => findings.unseen(AWAY, "a Map-Register after the Map-Notify"),
        None => findings.met(AWAY, &later, "registered without the host"),
    }
    let smr = solicitation(trace).filter(|smr| smr.time_ns() >= told.time_ns());
    let about = smr.and_then(|smr| smr.map_request()?.records.first()?.prefix());
    findings.check(
        AWAY_SMR,
        about == Some(host()),
        smr.unwrap_or(told),
        format!("an SMR about {}", host()),
        about.map_or("none".to_owned(), |about| about.to_string()),
    );
    let question = smr.and_then(|smr| question(trace, smr));
    findings.check(
        RESOLVES,
        question.is_some(),
        question.or(smr).unwrap_or(told),
        "the sender asks again",
        "no Map-Request",
    );
}
