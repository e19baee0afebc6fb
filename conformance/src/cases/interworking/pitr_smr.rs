//! A PITR is solicited: it asks again as an ITR does, but as a PITR (RFC 6830 6.6.2; RFC 6832 5.2).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lisp::wire::{ControlMessage, MapRequest};
use lisp::{Address, EidPrefix};

use super::Ping;
use crate::case::Case;
use crate::cases::common::{
    edit_outgoing, ip, locator, lose_incoming, mapping_system, prefix, record, request, seconds,
};
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Stop};
use crate::finding::Findings;
use crate::sabotage::{Frame, Sabotage};
use crate::trace::{Seen, Trace};
use crate::words;

const REACT: Req = Req::new("rfc6830-6.6.2-smr-react");
const NONCE: Req = Req::new("rfc6830-6.6.2-smr-nonce");
const S_BIT: Req = Req::new("rfc6830-6.1.2-s-bit");
const SINGLE: Req = Req::new("rfc6830-6.6.2-smr-single-rloc");
const KEEP: Req = Req::new("rfc6830-6.6.2-smr-keep-cache");
const NO_REPLY: Req = Req::new("rfc6830-6.6.2-smr-no-reply");
const PITR_BIT: Req = Req::new("rfc6830-6.1.2-pitr-bit");
const LOOKUP: Req = Req::new("rfc6832-5.2-pitr-lookup");
const ENCAP: Req = Req::new("rfc6832-5.2-pitr-encap");

const HOST_A: &str = "10.1.0.10";
const PREFIX: &str = "10.1.0.0/24";
const SITE: &str = "192.0.2.2";
/// Where the site is after the change.
const MOVED: &str = "192.0.2.1";
const PROXY: &str = "192.0.2.14";
const SOLICITED: &str = "the site solicits";
const NONCE_OF_SMR: u64 = 0x5e7a_0000_0c0c_0001;

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_2::a_pitr_asks_again_when_it_is_solicited",
        title: "An SMR makes a PITR ask the mapping system again, with p and s set and no source EID; it uses the old mapping until the answer, and then the new one.",
        topology: "interworking",
        settings: &[("pxtr", "{roles: [pitr], petr-sources: []}")],
        roles: &["pitr"],
        features: &["pitr"],
        requirements: &[REACT, NONCE, S_BIT, SINGLE, KEEP, NO_REPLY, PITR_BIT, LOOKUP, ENCAP],
        start: false,
        drive,
        judges: &[asks_again, keeps, follows],
        sabotages: &[
            of_proxy("does not believe in SMRs", &[REACT], || lose_incoming(is_smr)),
            of_proxy("answers the SMR", &[NO_REPLY], super::smr_lab::sabotages::answers_smrs),
            of_proxy("asks as an ITR", &[PITR_BIT], || invoked(|request| request.pitr = false)),
            of_proxy("asks without the s bit", &[S_BIT], || invoked(|request| request.smr_invoked = false)),
            of_proxy("asks with the nonce of the SMR", &[NONCE], || invoked(|request| request.nonce = NONCE_OF_SMR)),
            of_proxy("names an EID of the site as its own", &[LOOKUP], || invoked(|request| {
                request.source_eid = Address::from_eid(0, ip("10.1.0.99"));
            })),
            of_proxy("asks the solicitor", &[SINGLE], || edit_outgoing(|frame| {
                let smr = matches!(frame.control(), Some(ControlMessage::Encapsulated(ecm))
                    if matches!(ecm.decode_inner().map(|inner| *inner.message),
                        Ok(ControlMessage::MapRequest(request)) if request.smr_invoked));
                if smr {
                    to(frame, [192, 0, 2, 2]);
                }
            })),
            of_proxy("forgets the mapping as soon as it is solicited", &[KEEP], || crate::cases::common::lose_outgoing(|frame| {
                carried(frame) == Some(Ping::Request(2))
            })),
            of_proxy("stays with the old locator", &[ENCAP], || edit_outgoing(|frame| {
                if carried(frame) == Some(Ping::Request(3)) {
                    to(frame, [192, 0, 2, 2]);
                }
            })),
        ],
        ..Case::BASE
    }
}

const fn of_proxy(
    name: &'static str,
    kills: &'static [Req],
    tamper: fn() -> crate::sabotage::Tamper,
) -> Sabotage {
    Sabotage {
        name,
        node: "pxtr",
        links: &["core-pxtr"],
        kills,
        tamper,
    }
}

fn is_smr(frame: &Frame<'_>) -> bool {
    matches!(frame.control(), Some(ControlMessage::MapRequest(request)) if request.smr)
}

fn to(frame: &mut Frame<'_>, address: [u8; 4]) {
    frame.edit_addresses(|header| {
        if let lisp::ip::IpHeader::V4(v4) = header {
            v4.destination = address.into();
        }
        true
    });
}

fn carried(frame: &Frame<'_>) -> Option<Ping> {
    let inner = super::is_data(frame)
        .then(|| super::inner(frame))
        .flatten()?;
    Ping::of(&crate::decode::ip(&inner)?)
}

/// A sabotage of SMR-invoked Map-Requests.
fn invoked(change: fn(&mut MapRequest)) -> crate::sabotage::Tamper {
    Box::new(move |way, frame| {
        if way == harness::inline::Way::FromVictim {
            frame.edit_control(|message| match message {
                ControlMessage::MapRequest(request) if request.smr_invoked => {
                    change(request);
                    true
                }
                _ => false,
            });
        }
        harness::inline::PacketFate::Forward
    })
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let mut mapping = drive.peer("msmr")?;
    let (answering, moved) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicBool::new(false)),
    );
    let (answers, has_moved) = (Arc::clone(&answering), Arc::clone(&moved));
    mapping_system(&mut mapping, "key-of-site-a", move |_| {
        let now = if has_moved.load(Ordering::Relaxed) {
            MOVED
        } else {
            SITE
        };
        match answers.load(Ordering::Relaxed) {
            true => vec![record(PREFIX, vec![locator(now, 1, 100)])],
            false => Vec::new(),
        }
    })?;
    // The places of the site, so that nothing answers there that ports are closed.
    let (site, _new_place) = (drive.peer("xtr-a")?, drive.peer("edge")?);
    let legacy = drive.peer("legacy")?;
    drive.start("pxtr")?;
    let send = |sequence| legacy.send(&Echo::new(legacy.address(), ip(HOST_A), sequence).request());
    let left = |sequence, since| {
        drive.wait_for(since, "the packet out of the proxy", seconds(5), |packet| {
            packet.sender() == Some("pxtr") && Ping::Request(sequence).is_tunnelled(packet)
        })
    };
    send(1)?;
    left(1, 0)?;

    answering.store(false, Ordering::Relaxed);
    moved.store(true, Ordering::Relaxed);
    let begin = drive.mark(SOLICITED);
    let mut smr = request(NONCE_OF_SMR, Some(ip(HOST_A)), &[ip(SITE)], PREFIX);
    smr.smr = true;
    site.control(
        (ip(SITE), 61_003),
        ip(PROXY),
        &ControlMessage::MapRequest(smr),
    )?;
    drive.wait_for(
        begin,
        "the Map-Request of the proxy",
        seconds(5),
        is_question,
    )?;
    send(2)?;
    left(2, begin)?;
    answering.store(true, Ordering::Relaxed);
    drive.wait_for(begin, "the Map-Reply at the proxy", seconds(5), |packet| {
        packet.receiver() == Some("pxtr") && packet.map_reply().is_some()
    })?;
    // The reply is on the wire; it is in use when a packet takes the new way, or never.
    for _ in 0..20 {
        let since = drive.now_ns();
        send(3)?;
        if left(3, since)?.destination() == Some(ip(MOVED)) {
            break;
        }
    }
    Ok(())
}

/// A Map-Request of the proxy, by whatever way.
fn is_question(packet: &Seen) -> bool {
    packet.sender() == Some("pxtr")
        && packet
            .map_request()
            .is_some_and(|request| !request.smr && !request.probe)
}

fn asks_again(trace: &Trace, findings: &mut Findings) {
    let smr = trace.since(SOLICITED).find(|packet| {
        packet.receiver() == Some("pxtr") && packet.map_request().is_some_and(|request| request.smr)
    });
    let Some(smr) = smr else {
        for requirement in [REACT, NONCE, S_BIT, SINGLE, NO_REPLY, PITR_BIT, LOOKUP] {
            findings.unseen(requirement, "an SMR at the proxy");
        }
        return;
    };
    let answer = trace.sent_by("pxtr").find(|packet| {
        packet
            .map_reply()
            .is_some_and(|reply| reply.nonce == NONCE_OF_SMR)
    });
    findings.check(
        NO_REPLY,
        answer.is_none(),
        answer.unwrap_or(smr),
        "no Map-Reply to the SMR",
        answer.map_or("none".to_owned(), Seen::summary),
    );
    let question = trace.since(SOLICITED).find(|packet| is_question(packet));
    let Some((packet, request)) = question.and_then(|packet| Some((packet, packet.map_request()?)))
    else {
        findings.broken(REACT, smr, "a Map-Request of the proxy", "none");
        for requirement in [NONCE, S_BIT, SINGLE, PITR_BIT, LOOKUP] {
            findings.unseen(requirement, "a Map-Request of the proxy");
        }
        return;
    };
    let evidence = [smr, packet];
    findings.met(REACT, evidence, packet.summary());
    findings.check(S_BIT, request.smr_invoked, evidence, "s = 1", "s = 0");
    findings.check(PITR_BIT, request.pitr, evidence, "p = 1", "p = 0");
    let about: Option<EidPrefix> = request.records.first().and_then(|query| query.prefix());
    findings.check(
        NONCE,
        request.nonce != NONCE_OF_SMR && about == Some(prefix(PREFIX)),
        evidence,
        format!("another nonce than the SMR's, about {PREFIX}"),
        format!(
            "nonce {:#018x}, about {}",
            request.nonce,
            words::or_none(about)
        ),
    );
    findings.check(
        SINGLE,
        packet.ecm().is_some() && packet.destination() != Some(ip(SITE)),
        evidence,
        "encapsulated to the Map-Resolver: the solicitor is the only locator that is known",
        packet.summary(),
    );
    let source = request.source_eid.ip();
    findings.check(
        LOOKUP,
        source.is_none_or(|source| !trace.is_eid(source)),
        evidence,
        "no source EID (AFI 0), or no EID of a site",
        format!("source EID {}", request.source_eid),
    );
}

fn keeps(trace: &Trace, findings: &mut Findings) {
    let sent = trace
        .since(SOLICITED)
        .find(|packet| packet.receiver() == Some("pxtr") && Ping::Request(2).is_plain(packet));
    let Some(sent) = sent else {
        return findings.unseen(KEEP, "a packet while the question is open");
    };
    let out = trace
        .originated("pxtr")
        .find(|packet| Ping::Request(2).is_tunnelled(packet));
    findings.check(
        KEEP,
        out.is_some_and(|packet| packet.destination() == Some(ip(SITE))),
        out.unwrap_or(sent),
        format!("encapsulated to {SITE} until the Map-Reply"),
        out.map_or("it did not leave".to_owned(), Seen::summary),
    );
}

fn follows(trace: &Trace, findings: &mut Findings) {
    let late: Vec<&Seen> = trace
        .originated("pxtr")
        .filter(|packet| Ping::Request(3).is_tunnelled(packet))
        .collect();
    let Some(last) = late.last() else {
        return findings.unseen(ENCAP, "a packet after the Map-Reply");
    };
    findings.check(
        ENCAP,
        last.destination() == Some(ip(MOVED)),
        &late,
        format!("encapsulated to {MOVED} after the Map-Reply"),
        last.summary(),
    );
}
