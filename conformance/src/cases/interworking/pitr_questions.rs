//! How a PITR asks and what it keeps: limits, nonces, positive and negative entries (RFC 6830 6.1.3, 6.6.2; RFC 6833 4.1).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lisp::EidPrefix;
use lisp::wire::{Action, ControlMessage};

use super::Ping;
use crate::case::Case;
use crate::cases::common::{
    incoming, ip, locator, lose_outgoing, mapping_system, negative, outgoing, record, reply,
    seconds,
};
use crate::cases::fences::special_leaves;
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Stop};
use crate::finding::Findings;
use crate::sabotage::{Frame, Sabotage, Tamper};
use crate::trace::{Seen, Trace};
use crate::words;

const RATE: Req = Req::new("rfc6830-6.1.3-rate-must");
const ONE_A_SECOND: Req = Req::new("rfc6830-6.1.3-rate-1s");
const HOST_MASK: Req = Req::new("rfc6830-6.1.2-eid-hostmask");
const PITR_BIT: Req = Req::new("rfc6830-6.1.2-pitr-bit");
const NONCE: Req = Req::new("rfc6830-6.1.3-nonce-match");
const UNSOLICITED: Req = Req::new("rfc6830-6.6.2-unsolicited-mrep");
const NEGATIVE_CACHE: Req = Req::new("rfc6833-4.1-itr-negative-cache");
const NEGATIVE: Req = Req::new("rfc6832-5.2-pitr-negative");
const ENCAP: Req = Req::new("rfc6832-5.2-pitr-encap");

pub(super) const HOST_A: &str = "10.1.0.10";
/// Another host of the same EID-Prefix.
const HOST_A2: &str = "10.1.0.77";
/// Hosts that are none, of one negative prefix.
const NOBODY: [&str; 2] = ["10.1.9.9", "10.1.9.10"];
const SITE: &str = "192.0.2.2";
const PROXY: &str = "192.0.2.14";
/// Where a forged Map-Reply wants the traffic to go.
const FORGED: &str = "192.0.2.1";
const UNANSWERED: &str = "packets without an answer";
const KNOWN: &str = "the mapping is known";

/// Packets to one EID, sent at once.
const BURST: u16 = 40;

inventory::submit! {
    Case {
        id: "rfc6832::s5_2::a_pitr_asks_rarely_and_keeps_what_it_learns",
        title: "A PITR asks for an EID at most once a second whatever arrives, believes only answers to its questions, and keeps positive and negative ones.",
        topology: "interworking",
        settings: &[("pxtr", "{roles: [pitr], petr-sources: [], on-miss: drop}")],
        roles: &["pitr"],
        features: &["pitr"],
        requirements: &[RATE, ONE_A_SECOND, HOST_MASK, PITR_BIT, NONCE, UNSOLICITED, NEGATIVE_CACHE, NEGATIVE, ENCAP],
        start: false,
        drive,
        judges: &[asks_rarely, believes_answers, keeps],
        sabotages: &[
            of_proxy("asks for every packet", &[RATE, ONE_A_SECOND], || Box::new(|way, frame| {
                use harness::inline::{PacketFate, Way};
                match frame.control() {
                    Some(ControlMessage::Encapsulated(_)) if way == Way::FromVictim => {
                        PacketFate::Duplicate(std::time::Duration::from_millis(50))
                    }
                    _ => PacketFate::Forward,
                }
            })),
            of_proxy("asks for the subnet", &[HOST_MASK], || outgoing(|message| match message {
                ControlMessage::MapRequest(request) => {
                    request.records[0].mask_len = 24;
                    true
                }
                _ => false,
            })),
            of_proxy("asks as an ITR", &[PITR_BIT], || outgoing(|message| match message {
                ControlMessage::MapRequest(request) => {
                    request.pitr = false;
                    true
                }
                _ => false,
            })),
            of_proxy("believes any Map-Reply", &[NONCE, UNSOLICITED], believes_all),
            of_proxy("does not keep negative answers", &[NEGATIVE_CACHE], || incoming(|message| match message {
                ControlMessage::MapReply(reply) => {
                    let negative = reply.records.iter_mut().filter(|record| record.locators.is_empty());
                    negative.for_each(|record| record.ttl = 0);
                    true
                }
                _ => false,
            })),
            of_proxy("encapsulates in spite of a negative answer", &[NEGATIVE], || incoming(|message| match message {
                ControlMessage::MapReply(reply) => {
                    for record in reply.records.iter_mut().filter(|record| record.locators.is_empty()) {
                        record.locators = vec![locator(SITE, 1, 100)];
                        record.action = Action::NoAction;
                    }
                    true
                }
                _ => false,
            })),
            of_proxy("encapsulates for one host only", &[ENCAP], || lose_outgoing(|frame| {
                let inner = super::is_data(frame).then(|| super::inner(frame)).flatten();
                inner.and_then(|inner| crate::decode::ip(&inner)).is_some_and(|inner| inner.destination == ip(HOST_A2))
            })),
        ],
        ..Case::BASE
    }
}

pub(super) const fn of_proxy(
    name: &'static str,
    kills: &'static [Req],
    tamper: fn() -> Tamper,
) -> Sabotage {
    Sabotage {
        name,
        node: "pxtr",
        links: &["core-pxtr"],
        kills,
        tamper,
    }
}

/// Every Map-Reply gets the nonce of the last Map-Request on its way in.
fn believes_all() -> Tamper {
    let mut asked = None;
    Box::new(move |way, frame: &mut Frame<'_>| {
        use harness::inline::{PacketFate, Way};
        if way == Way::FromVictim {
            if let Some(ControlMessage::Encapsulated(ecm)) = frame.control()
                && let Ok(inner) = ecm.decode_inner()
                && let ControlMessage::MapRequest(request) = &*inner.message
            {
                asked = Some(request.nonce);
            }
        } else if let Some(nonce) = asked {
            frame.edit_control(|message| match message {
                ControlMessage::MapReply(reply) => {
                    reply.nonce = nonce;
                    true
                }
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

/// A Map-Request of the proxy for a host.
pub(super) fn is_question(packet: &Seen, eid: &str) -> bool {
    packet.sender() == Some("pxtr")
        && packet.map_request().is_some_and(|request| {
            let mut asked = request.records.iter().filter_map(|query| query.prefix());
            asked.any(|asked| asked.contains(0, ip(eid)))
        })
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let mut mapping = drive.peer("msmr")?;
    let answering = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&answering);
    mapping_system(&mut mapping, "key-of-site-a", move |asked| {
        if !answers.load(Ordering::Relaxed) {
            return Vec::new();
        }
        if NOBODY.iter().any(|host| asked.contains(0, ip(host))) {
            return vec![negative("10.1.9.0/24", 15, Action::NativelyForward)];
        }
        vec![record("10.1.0.0/24", vec![locator(SITE, 1, 100)])]
    })?;
    // Peers, so that nothing answers there that ports are closed.
    let (_site, forger) = (drive.peer("xtr-a")?, drive.peer("edge")?);
    let legacy = drive.peer("legacy")?;
    drive.start("pxtr")?;
    let send =
        |to: &str, sequence| legacy.send(&Echo::new(legacy.address(), ip(to), sequence).request());
    let begin = drive.mark(UNANSWERED);
    for sequence in 1..=BURST {
        send(HOST_A, sequence)?;
    }
    let question = drive.wait_for(begin, "a Map-Request", seconds(5), |packet| {
        is_question(packet, HOST_A)
    })?;
    // Answers to questions that were never asked: one to the port of the question, one out of nowhere.
    let nonce = question.map_request().map_or(0, |request| request.nonce);
    let port = question.ecm().map_or(4342, |inner| inner.source_port);
    let forged = vec![record("10.1.0.0/24", vec![locator(FORGED, 1, 100)])];
    let own = (mapping.address(), 4342);
    for (nonce, port) in [(nonce ^ 1, port), (drive.random(), 4342)] {
        let octets = reply(nonce, forged.clone()).to_vec();
        forger.udp(own, (ip(PROXY), port), &octets)?;
    }
    let again = question.time_ns() + 1;
    for sequence in 1..=BURST * 2 {
        send(HOST_A, BURST + sequence)?;
        let each = std::time::Duration::from_millis(40);
        let next = drive.wait_for(again, "the second Map-Request", each, |packet| {
            is_question(packet, HOST_A) || is_tunnelled(packet)
        });
        match next {
            Err(Stop::NotSeen(_)) => {}
            seen => {
                seen?;
                break;
            }
        }
    }
    answering.store(true, Ordering::Relaxed);
    drive.wait_for(again, "the Map-Reply", seconds(5), |packet| {
        packet.receiver() == Some("pxtr")
            && packet.source() == Some(own.0)
            && packet.map_reply().is_some_and(|reply| {
                let mut locators = reply.records.iter().flat_map(|record| &record.locators);
                locators.all(|locator| locator.rloc.ip() == Some(ip(SITE)))
            })
    })?;
    // The reply is on the wire; it is in use when a packet gets through.
    for number in 0..40 {
        send(HOST_A, 300 + number)?;
        let each = std::time::Duration::from_millis(100);
        match drive.wait_for(begin, "a packet to the site", each, is_tunnelled) {
            Err(Stop::NotSeen(_)) => {}
            seen => {
                seen?;
                break;
            }
        }
    }
    let known = drive.mark(KNOWN);
    send(NOBODY[0], 501)?;
    drive.wait_for(known, "the negative Map-Reply", seconds(5), |packet| {
        packet.receiver() == Some("pxtr")
            && packet.map_reply().is_some_and(|reply| {
                reply
                    .records
                    .iter()
                    .any(|record| record.locators.is_empty())
            })
    })?;
    for number in 0..BURST {
        send(NOBODY[usize::from(number % 2)], 510 + number)?;
    }
    // The fence: another host of the known prefix, behind all the others.
    send(HOST_A2, 600)?;
    drive.wait_for(known, "the fence encapsulated", seconds(5), |packet| {
        packet.sender() == Some("pxtr") && Ping::Request(600).is_tunnelled(packet)
    })?;
    let ends = (legacy.address(), ip(HOST_A2));
    special_leaves(drive, &legacy, ends, "pxtr")
}

fn is_tunnelled(packet: &Seen) -> bool {
    packet.sender() == Some("pxtr") && packet.is_data()
}

fn asks_rarely(trace: &Trace, findings: &mut Findings) {
    let asked: Vec<&Seen> = trace
        .originated("pxtr")
        .filter(|packet| is_question(packet, HOST_A))
        .collect();
    if asked.len() < 2 {
        for requirement in [RATE, ONE_A_SECOND, HOST_MASK, PITR_BIT] {
            findings.unseen(requirement, "two Map-Requests of the proxy");
        }
        return;
    }
    let first_to_last = asked[asked.len() - 1].time_ns() - asked[0].time_ns();
    // A second, less 5 %.
    let allowed = 1 + usize::try_from(first_to_last / 950_000_000).unwrap_or(usize::MAX);
    findings.check(
        RATE,
        asked.len() <= allowed,
        &asked,
        "one Map-Request and one more for each second, for dozens of packets",
        format!("{} within {} ms", asked.len(), first_to_last / 1_000_000),
    );
    let close = asked
        .windows(2)
        .find(|pair| pair[1].time_ns() - pair[0].time_ns() < 950_000_000);
    match close {
        None => findings.met(ONE_A_SECOND, &asked, "a second or more between two"),
        Some(pair) => findings.broken(
            ONE_A_SECOND,
            [pair[0], pair[1]],
            "a second between two Map-Requests for one EID",
            format!("{} ms", (pair[1].time_ns() - pair[0].time_ns()) / 1_000_000),
        ),
    }
    let host = EidPrefix::host(0, ip(HOST_A));
    for packet in asked {
        let request = packet.map_request();
        let about = request.and_then(|request| request.records.first()?.prefix());
        findings.check(
            HOST_MASK,
            about == Some(host),
            packet,
            host.to_string(),
            words::or_none(about),
        );
        let bit = request.is_some_and(|request| request.pitr);
        findings.check(PITR_BIT, bit, packet, "p = 1", "p = 0");
    }
}

fn believes_answers(trace: &Trace, findings: &mut Findings) {
    let forged: Vec<&Seen> = trace
        .received_by("pxtr")
        .filter(|packet| {
            packet.map_reply().is_some_and(|reply| {
                let mut locators = reply.records.iter().flat_map(|record| &record.locators);
                locators.any(|locator| locator.rloc.ip() == Some(ip(FORGED)))
            })
        })
        .collect();
    let data: Vec<&Seen> = trace
        .originated("pxtr")
        .filter(|packet| packet.is_data())
        .collect();
    let astray = data.iter().find(|p| p.destination() == Some(ip(FORGED)));
    for requirement in [NONCE, UNSOLICITED] {
        if forged.len() < 2 || data.is_empty() {
            findings.unseen(requirement, "two forged Map-Replies, and data afterwards");
            continue;
        }
        findings.check(
            requirement,
            astray.is_none(),
            astray.map_or(&forged, |_| &data),
            format!("nothing to {FORGED}"),
            astray.map_or(String::new(), |packet| packet.summary()),
        );
    }
}

fn keeps(trace: &Trace, findings: &mut Findings) {
    let fence = trace
        .originated("pxtr")
        .find(|packet| Ping::Request(600).is_tunnelled(packet));
    let asked = trace
        .since(KNOWN)
        .find(|packet| is_question(packet, HOST_A2));
    match (fence, asked) {
        (Some(fence), None) => findings.met(ENCAP, fence, "another host of the prefix, unasked"),
        (fence, asked) => findings.broken(
            ENCAP,
            fence
                .or(asked)
                .map_or(Vec::new(), |packet| vec![packet.number()]),
            format!("{HOST_A2} encapsulated without another Map-Request"),
            asked.map_or("not encapsulated".to_owned(), Seen::summary),
        ),
    }
    if trace.mark(KNOWN).is_none() || fence.is_none() {
        findings.unseen(NEGATIVE_CACHE, "the fence");
        findings.unseen(NEGATIVE, "the fence");
        return;
    }
    let questions: Vec<&Seen> = trace
        .since(KNOWN)
        .filter(|packet| NOBODY.iter().any(|host| is_question(packet, host)))
        .collect();
    findings.check(
        NEGATIVE_CACHE,
        questions.len() == 1,
        &questions,
        format!("one Map-Request for {BURST} packets to the hosts of a negative prefix"),
        questions.len().to_string(),
    );
    let out: Vec<&Seen> = trace
        .sent_by("pxtr")
        .filter(|packet| (501..600).any(|number| Ping::Request(number).is_in(packet)))
        .collect();
    match out.first() {
        None => findings.met(NEGATIVE, &questions, "nothing of it left the proxy"),
        Some(packet) => findings.broken(
            NEGATIVE,
            &out,
            "nothing to what is no EID leaves the proxy",
            packet.summary(),
        ),
    }
}
