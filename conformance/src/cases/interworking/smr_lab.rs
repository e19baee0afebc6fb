//! The generalized SMR lab: an EID-Prefix loses its interface while another site still sends to it (RFC 6830 6.6.2;
//! RFC 6833 4.1, 4.3).

use std::time::Duration;

use lisp::EidPrefix;
use lisp::wire::{Action, ControlMessage};

use super::Ping;
use crate::case::Case;
use crate::cases::common::{
    edit_incoming, edit_outgoing, ip, lose_outgoing, outgoing, prefix, seconds,
};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const SMR: Req = Req::new("rfc6830-6.6.2-smr-plain");
const NO_REPLY: Req = Req::new("rfc6830-6.6.2-smr-no-reply");
const REACT: Req = Req::new("rfc6830-6.6.2-smr-react");
const S_BIT: Req = Req::new("rfc6830-6.1.2-s-bit");
const KEEP: Req = Req::new("rfc6830-6.6.2-smr-keep-cache");
const UNREGISTERED: Req = Req::new("rfc6833-4.3-ms-unregistered");
const NATIVE: Req = Req::new("rfc6830-6.1.4-act1-native");

const AWAY: &str = "172.16.1.0/24";
const HOST_1A: &str = "172.16.1.10";
const OLD: &str = "198.51.100.10";
const NEW: &str = "198.51.100.130";
const DOWN: &str = "the interface of 172.16.1.0/24 goes down";

const BEFORE: u16 = 1;
const INTO_THE_VOID: u16 = 2;
const WHILE_ASKING: u16 = 3;
const AFTERWARDS: u16 = 4;

const STEPS: &[Req] = &[SMR, NO_REPLY, REACT, S_BIT, KEEP, UNREGISTERED, NATIVE];

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_2::a_prefix_without_an_interface_is_solicited_away",
        title: "Data without a route makes an SMR; the sender asks the old resolver at 0, 1 and 3 s, then the new one, learns that nobody is registered, and forwards natively.",
        topology: "smr-lab",
        roles: &["itr", "etr", "ms", "mr"],
        requirements: STEPS,
        timeout: seconds(45),
        drive,
        judges: &[solicits, asks_again, is_told, forwards_natively],
        sabotages: &[
            Sabotage {
                name: "swallows the SMR",
                node: "xtr-1",
                links: &["access-1"],
                kills: &[SMR],
                tamper: || lose_outgoing(|frame| matches!(
                    frame.control(),
                    Some(ControlMessage::MapRequest(request)) if request.smr
                )),
            },
            Sabotage {
                name: "asks without the s bit",
                node: "xtr-2",
                links: &["access-2"],
                kills: &[S_BIT],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapRequest(request) => {
                        request.smr_invoked = false;
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "asks a resolver once, and no other",
                node: "xtr-2",
                links: &["access-2"],
                kills: &[REACT],
                tamper: || {
                    let mut asked = false;
                    Box::new(move |way, frame| {
                        use harness::inline::{PacketFate, Way};
                        let invoked = way == Way::FromVictim && invoked(frame);
                        if invoked && std::mem::replace(&mut asked, true) {
                            return PacketFate::Drop;
                        }
                        PacketFate::Forward
                    })
                },
            },
            Sabotage {
                name: "keeps unregistered prefixes for a quarter of an hour",
                node: "msmr-new",
                links: &[],
                kills: &[UNREGISTERED],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapReply(reply) => {
                        reply.records.iter_mut().for_each(|record| record.ttl = 15);
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "drops what it should forward natively",
                node: "xtr-2",
                links: &["access-2"],
                kills: &[NATIVE],
                tamper: || edit_incoming(|frame| {
                    frame.edit_control(|message| match message {
                        ControlMessage::MapReply(reply) => {
                            reply.records.iter_mut().filter(|r| r.locators.is_empty()).for_each(|r| r.action = Action::Drop);
                            true
                        }
                        _ => false,
                    });
                }),
            },
            Sabotage {
                name: "forgets the mapping as soon as it is solicited",
                node: "xtr-2",
                links: &["access-2"],
                kills: &[KEEP],
                tamper: || edit_outgoing(|frame| {
                    let late = frame.ip().is_some_and(|ip| {
                        ip.udp().is_some_and(|udp| udp.destination_port == lisp::DATA_PORT)
                            && crate::decode::ip(&super::inner(frame).unwrap_or_default())
                                .and_then(|inner| Ping::of(&inner)) == Some(Ping::Request(WHILE_ASKING))
                    });
                    if late {
                        super::untunnel(frame);
                    }
                }),
            },
        ],
        ..Case::BASE
    }
}

fn invoked(frame: &crate::sabotage::Frame<'_>) -> bool {
    let request = match frame.control() {
        Some(ControlMessage::Encapsulated(ecm)) => {
            ecm.decode_inner().ok().map(|inner| *inner.message)
        }
        other => other,
    };
    matches!(request, Some(ControlMessage::MapRequest(request)) if request.smr_invoked)
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-1", "xtr-2"], seconds(10))?;
    drive.wait_for(
        0,
        "the registration of xtr-1 at the new Map-Server",
        seconds(5),
        |packet| {
            packet.map_notify().is_some()
                && packet.source() == Some(ip(NEW))
                && packet.receiver() == Some("xtr-1")
        },
    )?;
    drive.ping("host-2", ip(HOST_1A), BEFORE, seconds(2))?;
    drive.stop("msmr-old")?;
    drive.mark(DOWN);
    let argv = ["ip", "link", "set", "dev", "site-a", "down"];
    drive.lab().exec("xtr-1", argv, seconds(5))?;
    let pinged = drive.mark("host-2 pings into the void");
    drive.ping(
        "host-2",
        ip(HOST_1A),
        INTO_THE_VOID,
        Duration::from_millis(300),
    )?;
    drive.wait_for(
        pinged,
        "the SMR-invoked Map-Request",
        seconds(5),
        |packet| {
            packet.sender() == Some("xtr-2")
                && packet
                    .map_request()
                    .is_some_and(|request| request.smr_invoked || !request.smr)
        },
    )?;
    drive.ping(
        "host-2",
        ip(HOST_1A),
        WHILE_ASKING,
        Duration::from_millis(300),
    )?;
    drive.wait_for(
        pinged,
        "the negative Map-Reply at xtr-2",
        seconds(15),
        |packet| packet.receiver() == Some("xtr-2") && packet.map_reply().is_some(),
    )?;
    drive.mark("told");
    drive.ping(
        "host-2",
        ip(HOST_1A),
        AFTERWARDS,
        Duration::from_millis(500),
    )?;
    Ok(())
}

fn solicitation(trace: &Trace) -> Option<&Seen> {
    trace
        .since(DOWN)
        .filter(|packet| packet.sender() == Some("xtr-1"))
        .find(|packet| packet.map_request().is_some_and(|request| request.smr))
}

fn solicits(trace: &Trace, findings: &mut Findings) {
    let void = trace.since(DOWN).find(|packet| {
        packet.receiver() == Some("xtr-1") && Ping::Request(INTO_THE_VOID).is_tunnelled(packet)
    });
    let Some(void) = void else {
        return findings.unseen(
            SMR,
            "a data packet to xtr-1 for the prefix without an interface",
        );
    };
    let Some(smr) = solicitation(trace) else {
        findings.broken(SMR, void, "an SMR to the sender", "none");
        return;
    };
    let Some(request) = smr.map_request() else {
        return;
    };
    let asked = request.records.first().and_then(|query| query.prefix());
    let to_sender = smr.destination() == void.source();
    findings.check(
        SMR,
        to_sender
            && smr.ecm().is_none()
            && !request.probe
            && !request.smr_invoked
            && asked == Some(prefix(AWAY)),
        [void, smr],
        format!("S = 1, P = 0, s = 0, not encapsulated, to the sender's locator, about {AWAY}"),
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

/// Map-Requests of xtr-2 to the mapping system after the SMR, about the solicited prefix.
fn questions<'t>(trace: &'t Trace, smr: &Seen) -> Vec<&'t Seen> {
    let about = |query: Option<EidPrefix>| query.is_some_and(|query| prefix(AWAY).covers(&query));
    trace
        .originated("xtr-2")
        .filter(|packet| {
            packet.time_ns() >= smr.time_ns()
                && packet.map_request().is_some_and(|request| {
                    !request.probe && request.records.iter().any(|q| about(q.prefix()))
                })
        })
        .collect()
}

fn asks_again(trace: &Trace, findings: &mut Findings) {
    let Some(smr) = solicitation(trace) else {
        for requirement in [REACT, S_BIT, KEEP] {
            findings.unseen(requirement, "an SMR of xtr-1");
        }
        return;
    };
    let asked = questions(trace, smr);
    let times = |to: &str| -> Vec<u64> {
        asked
            .iter()
            .filter(|packet| packet.destination() == Some(ip(to)))
            .map(|packet| (packet.time_ns() - smr.time_ns()) / 1_000_000)
            .collect()
    };
    let (old, new) = (times(OLD), times(NEW));
    let near =
        |time: u64, expected: u64| time >= expected.saturating_sub(50) && time <= expected + 500;
    let rhythm =
        matches!(old.as_slice(), [a, b, c] if near(*a, 0) && near(*b, 1000) && near(*c, 3000));
    let switched = new
        .first()
        .is_some_and(|first| old.last().is_some_and(|last| first > last));
    findings.check(
        REACT,
        rhythm && switched,
        &asked,
        "Map-Requests to the old Map-Resolver 0, 1 and about 3 s after the SMR, then to the new one",
        format!("old at {old:?} ms, new at {new:?} ms"),
    );
    let all = asked.iter().all(|packet| {
        packet
            .map_request()
            .is_some_and(|request| request.smr_invoked)
    });
    findings.check(
        S_BIT,
        all && !asked.is_empty(),
        &asked,
        "s = 1 in each",
        "s = 0",
    );
    let kept = trace
        .sent_by("xtr-2")
        .find(|packet| Ping::Request(WHILE_ASKING).is_in(packet));
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

fn is_told(trace: &Trace, findings: &mut Findings) {
    let reply = trace
        .since(DOWN)
        .find(|packet| packet.receiver() == Some("xtr-2") && packet.map_reply().is_some());
    let Some((packet, reply)) = reply.and_then(|packet| Some((packet, packet.map_reply()?))) else {
        return findings.unseen(UNREGISTERED, "a Map-Reply to xtr-2");
    };
    let record = reply.records.first();
    let right = record.is_some_and(|record| {
        record.locators.is_empty()
            && record.action == Action::NativelyForward
            && record.ttl == 1
            && record
                .eid_prefix()
                .is_some_and(|eid| eid.contains(0, ip(HOST_1A)))
    });
    findings.check(
        UNREGISTERED,
        right && packet.source() == Some(ip(NEW)),
        packet,
        "from the new Map-Server: negative, natively-forward, TTL 1 minute",
        format!("{}, {record:?}", packet.summary()),
    );
}

fn forwards_natively(trace: &Trace, findings: &mut Findings) {
    let ping = Ping::Request(AFTERWARDS);
    let sent = trace
        .since("told")
        .find(|packet| packet.sender() == Some("host-2") && ping.is_plain(packet));
    let Some(sent) = sent else {
        return findings.unseen(NATIVE, "a ping after the negative Map-Reply");
    };
    let out = trace.sent_by("xtr-2").find(|packet| ping.is_in(packet));
    findings.check(
        NATIVE,
        out.is_some_and(|packet| !packet.is_data()),
        out.unwrap_or(sent),
        "out of xtr-2 as it is",
        out.map_or("it did not leave".to_owned(), Seen::summary),
    );
}
