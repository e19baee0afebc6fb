//! Judges of the SMR lab: from the data without a route to the negative Map-Reply.

use lisp::wire::Action;

use super::{DOWN, FAMILIES, Family, NEW, OLD, Ping};
use crate::cases::common::ip;
use crate::catalogue::Req;
use crate::finding::Findings;
use crate::trace::{Seen, Trace};
use crate::words;

pub(in crate::cases) const SMR: Req = Req::new("rfc6830-6.6.2-smr-plain");
pub(in crate::cases) const NO_REPLY: Req = Req::new("rfc6830-6.6.2-smr-no-reply");
pub(in crate::cases) const REACT: Req = Req::new("rfc6830-6.6.2-smr-react");
pub(in crate::cases) const NONCE: Req = Req::new("rfc6830-6.6.2-smr-nonce");
pub(in crate::cases) const SINGLE: Req = Req::new("rfc6830-6.6.2-smr-single-rloc");
pub(in crate::cases) const S_BIT: Req = Req::new("rfc6830-6.1.2-s-bit");
pub(in crate::cases) const KEEP: Req = Req::new("rfc6830-6.6.2-smr-keep-cache");
pub(in crate::cases) const AWAY: Req = Req::new("eidmob01-4.2.4-away-smr");
pub(in crate::cases) const UNREGISTERED: Req = Req::new("rfc6833-4.3-ms-unregistered");

/// Data that finds no route at xTR 1 makes it solicit a Map-Request from the sender; the SMR itself is not answered.
pub(in crate::cases) fn solicits(trace: &Trace, findings: &mut Findings) {
    for family in FAMILIES {
        let void = trace.since(DOWN).find(|packet| {
            let number = family.into_the_void();
            packet.receiver() == Some("xtr-1")
                && (Ping::Request(number).is_tunnelled(packet)
                    || Ping::Reply(number).is_tunnelled(packet))
        });
        let Some(void) = void else {
            for requirement in [SMR, AWAY] {
                findings.unseen(requirement, format!("data for {} at xtr-1", family.prefix));
            }
            continue;
        };
        let smr = family.solicitation(trace);
        is_away(trace, family, smr, findings);
        let Some((smr, request)) = smr.and_then(|smr| Some((smr, smr.map_request()?))) else {
            findings.broken(SMR, void, "an SMR to the sender", "none");
            findings.unseen(NO_REPLY, "an SMR");
            continue;
        };
        let asked = request.records.first().and_then(|query| query.prefix());
        findings.check(
            SMR,
            smr.destination() == void.source()
                && smr.ecm().is_none()
                && !request.probe
                && !request.smr_invoked
                && asked == Some(family.prefix()),
            [void, smr],
            format!(
                "S = 1, P = 0, s = 0, not encapsulated, to the sender's locator, about {}",
                family.prefix
            ),
            format!(
                "{}, P = {}, s = {}, about {}",
                smr.summary(),
                u8::from(request.probe),
                u8::from(request.smr_invoked),
                asked.map_or("nothing".to_owned(), |asked| asked.to_string())
            ),
        );
        let nonce = request.nonce;
        let answer = trace
            .sent_by("xtr-2")
            .find(|packet| packet.map_reply().is_some_and(|reply| reply.nonce == nonce));
        match answer {
            None => findings.met(NO_REPLY, smr, "no Map-Reply to the SMR"),
            Some(reply) => findings.broken(
                NO_REPLY,
                [smr, reply],
                "no Map-Reply to an SMR",
                reply.summary(),
            ),
        }
    }
}

/// The prefix is away: data for it leaves xTR 1 by no other way, and makes it solicit the sender.
fn is_away(trace: &Trace, family: Family, smr: Option<&Seen>, findings: &mut Findings) {
    let ping = Ping::Request(family.while_asking());
    let arrived = trace
        .received_by("xtr-1")
        .find(|packet| ping.is_tunnelled(packet));
    let Some(arrived) = arrived else {
        return match smr {
            Some(_) => findings.unseen(AWAY, "data at xtr-1 once it has solicited"),
            None => findings.broken(AWAY, Vec::new(), "an SMR to the sender", "none"),
        };
    };
    let out = trace.sent_by("xtr-1").find(|packet| ping.is_in(packet));
    let to_sender = smr.is_some_and(|smr| smr.destination() == arrived.source());
    let evidence: Vec<&Seen> = [smr, Some(arrived), out].into_iter().flatten().collect();
    findings.check(
        AWAY,
        out.is_none() && to_sender,
        &evidence,
        format!(
            "an SMR to the sender of data for {}, and none of that data sent on",
            family.prefix
        ),
        out.map_or("not sent on".to_owned(), Seen::summary),
    );
}

/// The Map-Requests of xTR 2 from the SMR to the negative Map-Reply.
fn questions<'t>(trace: &'t Trace, family: Family, smr: &Seen) -> Vec<&'t Seen> {
    let end = family.refusal(trace).map_or(u64::MAX, Seen::time_ns);
    trace
        .originated("xtr-2")
        .filter(|packet| (smr.time_ns()..end).contains(&packet.time_ns()))
        .filter(|packet| family.is_question(packet))
        .collect()
}

/// Milliseconds that a packet may be late in a lab, and early by the grain of timers.
fn near(time: u64, expected: u64) -> bool {
    time >= expected.saturating_sub(50) && time <= expected + 500
}

/// Invoked by the SMR the sender asks the mapping system: the old resolver at 0, 1 and about 3 s, then the new one. The
/// old mapping stays in use meanwhile.
pub(in crate::cases) fn asks_again(trace: &Trace, findings: &mut Findings) {
    for family in FAMILIES {
        let smr = family.solicitation(trace);
        let Some((smr, solicited)) = smr.and_then(|smr| Some((smr, smr.map_request()?))) else {
            for requirement in [REACT, NONCE, SINGLE, S_BIT, KEEP] {
                findings.unseen(requirement, format!("an SMR about {}", family.prefix));
            }
            continue;
        };
        let asked = questions(trace, family, smr);
        let times = |to: &str| -> Vec<u64> {
            asked
                .iter()
                .filter(|packet| packet.destination() == Some(ip(to)))
                .map(|packet| (packet.time_ns() - smr.time_ns()) / 1_000_000)
                .collect()
        };
        let (old, new) = (times(OLD), times(NEW));
        let rhythm =
            matches!(old.as_slice(), [a, b, c] if near(*a, 0) && near(*b, 1000) && near(*c, 3000));
        let switched = new
            .first()
            .is_some_and(|first| old.last().is_some_and(|last| first > last));
        findings.check(
            REACT,
            rhythm && switched,
            &asked,
            format!(
                "Map-Requests about {} to the old Map-Resolver 0, 1 and about 3 s after the SMR, then to the new one",
                family.prefix
            ),
            format!("old at {} ms, new at {} ms", words::listed(old), words::listed(new)),
        );
        how_it_asks(family, smr.source(), solicited.nonce, &asked, findings);
        keeps(trace, family, findings);
    }
}

fn how_it_asks(
    family: Family,
    solicitor: Option<std::net::IpAddr>,
    solicited: u64,
    asked: &Vec<&Seen>,
    findings: &mut Findings,
) {
    let all = |holds: fn(&lisp::wire::MapRequest, (u64, lisp::EidPrefix)) -> bool| {
        !asked.is_empty()
            && asked.iter().all(|packet| {
                packet
                    .map_request()
                    .is_some_and(|request| holds(request, (solicited, family.prefix())))
            })
    };
    findings.check(
        S_BIT,
        all(|request, _| request.smr_invoked),
        asked,
        "s = 1 in each Map-Request that the SMR invokes",
        "s = 0, or no Map-Request",
    );
    findings.check(
        NONCE,
        all(|request, (nonce, prefix)| {
            let about = request.records.first().and_then(|query| query.prefix());
            request.nonce != nonce && about == Some(prefix)
        }),
        asked,
        format!("another nonce than the SMR's, about {}", family.prefix),
        "the SMR's nonce, or another prefix",
    );
    let through = asked
        .iter()
        .all(|packet| packet.ecm().is_some() && packet.destination() != solicitor);
    findings.check(
        SINGLE,
        through && !asked.is_empty(),
        asked,
        "encapsulated to a Map-Resolver: the solicitor is the only locator that is known",
        "something else",
    );
}

fn keeps(trace: &Trace, family: Family, findings: &mut Findings) {
    let kept = trace
        .sent_by("xtr-2")
        .find(|packet| Ping::Request(family.while_asking()).is_in(packet));
    match kept {
        None => findings.unseen(KEEP, "a packet while the question is open"),
        Some(packet) => findings.check(
            KEEP,
            packet.is_data(),
            packet,
            "the old mapping stays in use until the Map-Reply",
            packet.summary(),
        ),
    }
}

/// The new Map-Server knows the prefix and nobody who registered it: natively, for a minute.
pub(in crate::cases) fn is_told(trace: &Trace, findings: &mut Findings) {
    for family in FAMILIES {
        let packet = family.refusal(trace);
        let Some((packet, reply)) = packet.and_then(|packet| Some((packet, packet.map_reply()?)))
        else {
            findings.unseen(UNREGISTERED, "a negative Map-Reply to xtr-2");
            continue;
        };
        let record = reply.records.first();
        let right = record.is_some_and(|record| {
            record.action == Action::NativelyForward
                && record.ttl == 1
                && record
                    .eid_prefix()
                    .is_some_and(|eid| eid.contains(0, ip(family.host)))
        });
        findings.check(
            UNREGISTERED,
            right && packet.source() == Some(ip(NEW)),
            packet,
            "from the new Map-Server: negative, natively-forward, TTL 1 minute",
            packet.summary(),
        );
    }
}
