//! Messages that a Map-Server and Map-Resolver drops without an answer: Map-Replies (RFC 6833 4.3), RLOC-probes (RFC 9301 5.2).

use harness::inline::{PacketFate, Way};
use lisp::wire::{ControlMessage, Ecm, MapReply, MapRequest};

use super::common::*;
use crate::case::Case;
use crate::cases::common::{incoming, ip, key, locator, record, register, reply};
use crate::catalogue::Req;
use crate::drive::{Drive, Peer, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};

const DISCARD: Req = Req::new("rfc6833-4.3-ms-discard-mrep");
const NOT_CACHED: Req = Req::new("rfc6833-4.4-mr-noncaching");
const ONLY_REQUESTS: Req = Req::new("rfc6830-6.1.8-only-mreq");
const PROBES: Req = Req::new("rfc9301-5.2-probe-mr-ms-drop");

const SECRET: &str = "key-of-site-a";
const HOST: &str = "10.1.0.10/32";
/// In no site: what a Map-Reply says of it must not be believed.
const FOREIGN: &str = "172.16.5.5/32";
const ETR_A: &str = "192.0.2.2";
const FALSE_RLOC: &str = "192.0.2.34";

const REGISTER: u64 = 0x6d72_0003_0000_00f1;
const OF_THE_SITE: u64 = 0x6d72_0003_0000_0001;
const OF_NOBODY: u64 = 0x6d72_0003_0000_0002;
const ENCAPSULATED: u64 = 0x6d72_0003_0000_0003;
const OF_A_QUESTION: u64 = 0x6d72_0003_0000_0004;
const AFTER_SITE: u64 = 0x6d72_0003_0000_0011;
const AFTER_FOREIGN: u64 = 0x6d72_0003_0000_0012;

/// The Map-Replies: nonce, and what is told.
const TOLD: [(u64, &str); 4] = [
    (
        OF_A_QUESTION,
        "with the nonce of a question that was handed on",
    ),
    (OF_THE_SITE, "for a registered prefix"),
    (OF_NOBODY, "for a prefix of no site"),
    (ENCAPSULATED, "in an Encapsulated Control Message"),
];

inventory::submit! {
    Case {
        id: "rfc6833::s4_3::map_replies_are_discarded",
        title: "Map-Replies that reach a Map-Server, solicited-looking or not, bare or encapsulated, get no answer and change no answer.",
        topology: "one-msmr",
        roles: &["ms", "mr"],
        requirements: &[DISCARD, NOT_CACHED, ONLY_REQUESTS],
        drive: tell,
        judges: &[silence, not_believed],
        sabotages: &[
            Sabotage {
                name: "answers Map-Replies as if they asked",
                node: MSMR,
                links: &[],
                kills: &[DISCARD],
                tamper: || into_questions(false),
            },
            Sabotage {
                name: "answers encapsulated Map-Replies as if they asked",
                node: MSMR,
                links: &[],
                kills: &[ONLY_REQUESTS],
                tamper: || into_questions(true),
            },
            Sabotage {
                name: "sends Map-Replies back",
                node: MSMR,
                links: &[],
                kills: &[DISCARD],
                // The register's Map-Notify is made a Map-Reply: the same as one that came, on its way out.
                tamper: || {
                    let mut last: Option<Vec<u8>> = None;
                    Box::new(move |way, frame| {
                        match (way, frame.control()) {
                            (Way::ToVictim, Some(ControlMessage::MapReply(reply))) => last = Some(reply.to_vec()),
                            (Way::FromVictim, Some(ControlMessage::MapReply(_) | ControlMessage::Encapsulated(_))) => {
                                if let Some(last) = &last {
                                    frame.edit_udp(|_, payload| {
                                        payload.clone_from(last);
                                        true
                                    });
                                }
                            }
                            _ => {}
                        }
                        PacketFate::Forward
                    })
                },
            },
            Sabotage {
                name: "believes what it is told",
                node: MSMR,
                links: &[],
                kills: &[NOT_CACHED, DISCARD],
                tamper: || {
                    let mut told = false;
                    Box::new(move |way, frame| {
                        told |= way == Way::ToVictim && matches!(frame.control(), Some(ControlMessage::MapReply(_)));
                        if way == Way::FromVictim && told {
                            frame.edit_control(|message| match message {
                                ControlMessage::MapReply(reply) => {
                                    reply.records = vec![record("172.16.0.0/12", vec![locator(FALSE_RLOC, 1, 1)])];
                                    true
                                }
                                _ => false,
                            });
                        }
                        PacketFate::Forward
                    })
                },
            },
            Sabotage {
                name: "stops at a Map-Reply",
                node: MSMR,
                links: &[],
                kills: &[DISCARD],
                tamper: || {
                    let mut told = false;
                    Box::new(move |way, frame| {
                        told |= way == Way::ToVictim && matches!(frame.control(), Some(ControlMessage::MapReply(_)));
                        if way == Way::FromVictim && told {
                            return PacketFate::Drop;
                        }
                        PacketFate::Forward
                    })
                },
            },
        ],
        ..Case::BASE
    }
}

/// Puts a question with the same nonce in the place of a Map-Reply.
fn into_questions(encapsulated: bool) -> Tamper {
    Box::new(move |way, frame| {
        let is_ecm = matches!(frame.control(), Some(ControlMessage::Encapsulated(_)));
        if way == Way::ToVictim && is_ecm == encapsulated {
            frame.edit_control(|message| match message {
                ControlMessage::MapReply(reply) => {
                    *message = ControlMessage::MapRequest(question(reply.nonce, HOST));
                    true
                }
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

fn lie(nonce: u64) -> MapReply {
    let eid = if nonce == OF_NOBODY {
        "172.16.0.0/12"
    } else {
        "10.1.0.0/24"
    };
    reply(nonce, vec![record(eid, vec![locator(FALSE_RLOC, 1, 100)])])
}

fn registered(drive: &Drive<'_>) -> Result<Peer, Stop> {
    let etr = drive.peer("etr-a")?;
    let records = vec![record("10.1.0.0/24", vec![locator(ETR_A, 1, 100)])];
    register_and_wait(
        drive,
        &etr,
        SECRET,
        &register(&key(SECRET), REGISTER, records),
    )?;
    Ok(etr)
}

fn tell(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let (itr, etr) = (drive.peer("itr")?, registered(drive)?);
    let ms = drive.address(MSMR)?;
    ask_and_wait(drive, &itr, &question(OF_A_QUESTION, HOST))?;
    drive.mark("the Map-Replies");
    for (nonce, _) in TOLD {
        let message = ControlMessage::MapReply(lie(nonce));
        if nonce == ENCAPSULATED {
            let ecm = Ecm::wrap(itr_rloc(9), ip("10.1.0.10"), INNER_PORT, 4342, 64, &message);
            etr.control(
                (etr.address(), 40_300),
                ms,
                &ControlMessage::Encapsulated(ecm),
            )?;
        } else {
            etr.control((etr.address(), 4342), ms, &message)?;
        }
    }
    // The fences: questions about what the Map-Replies told.
    ask_and_wait(drive, &itr, &question(AFTER_SITE, HOST))?;
    ask_and_wait(drive, &itr, &question(AFTER_FOREIGN, FOREIGN))?;
    Ok(())
}

/// A Map-Reply as it reached the box.
fn told(trace: &Trace, nonce: u64) -> Option<&Seen> {
    trace
        .received_by(MSMR)
        .find(|packet| packet.map_reply().is_some_and(|reply| reply.nonce == nonce))
}

fn silence(trace: &Trace, findings: &mut Findings) {
    let fence = outcome(trace, AFTER_FOREIGN).1;
    for (nonce, what) in TOLD {
        let requirement = if nonce == ENCAPSULATED {
            ONLY_REQUESTS
        } else {
            DISCARD
        };
        let Some(told) = told(trace, nonce) else {
            findings.unseen(requirement, format!("the Map-Reply {what}"));
            continue;
        };
        let back = trace
            .since("the Map-Replies")
            .filter(|packet| packet.sender() == Some(MSMR))
            .find(|packet| packet.udp().is_some_and(|udp| holds(&udp.payload, nonce)));
        match (back, fence) {
            (Some(back), _) => findings.broken(
                requirement,
                [told, back],
                format!("no answer to a Map-Reply {what}"),
                back.summary(),
            ),
            (None, Some(fence)) => findings.met(
                requirement,
                [told, fence],
                format!("a Map-Reply {what}: silence, and the questions after it were dealt with"),
            ),
            (None, None) => findings.broken(
                requirement,
                told,
                "the question after it answered",
                "silence to that too",
            ),
        }
    }
}

fn not_believed(trace: &Trace, findings: &mut Findings) {
    for (nonce, expected) in [
        (AFTER_SITE, Outcome::HandedTo(ip(ETR_A))),
        (AFTER_FOREIGN, Outcome::native("128.0.0.0/1", 15)),
    ] {
        let Some(asked) = asked(trace, nonce) else {
            findings.unseen(NOT_CACHED, "the question after the Map-Replies");
            continue;
        };
        let (found, shown) = outcome(trace, nonce);
        let right = match &found {
            Outcome::Negative(_, 15, 1) => nonce == AFTER_FOREIGN,
            found => *found == expected,
        };
        let packets = shown.map_or(vec![asked], |shown| vec![asked, shown]);
        for requirement in [NOT_CACHED, DISCARD] {
            findings.check(
                requirement,
                right,
                &packets,
                format!("as without the Map-Replies: {expected}"),
                found.to_string(),
            );
        }
    }
}

/// Whether octets contain a nonce, wherever.
fn holds(octets: &[u8], nonce: u64) -> bool {
    octets
        .windows(8)
        .any(|window| window == nonce.to_be_bytes())
}

/// RLOC-probes: bare and encapsulated, for what is proxied, what is forwarded, what is nobody's.
const PROBED: [(u64, &str, bool); 6] = [
    (0x6d72_0003_0000_0021, HOST, false),
    (0x6d72_0003_0000_0022, HOST, true),
    (0x6d72_0003_0000_0023, "10.2.0.10/32", false),
    (0x6d72_0003_0000_0024, "10.2.0.10/32", true),
    (0x6d72_0003_0000_0025, FOREIGN, false),
    (0x6d72_0003_0000_0026, FOREIGN, true),
];

inventory::submit! {
    Case {
        id: "rfc9301::s5_2::rloc_probes_are_dropped_by_the_mapping_system",
        title: "A Map-Server and Map-Resolver neither answers nor hands on Map-Requests with P = 1, whatever they ask for.",
        topology: "one-msmr",
        editions: &[Edition::Rfc9300],
        roles: &["ms", "mr"],
        requirements: &[PROBES],
        drive: probe,
        judges: &[no_probe_answered],
        sabotages: &[
            Sabotage {
                name: "takes a probe for a question",
                node: MSMR,
                links: &[],
                kills: &[PROBES],
                tamper: || incoming(|message| match message {
                    ControlMessage::MapRequest(request) => std::mem::take(&mut request.probe),
                    _ => false,
                }),
            },
            Sabotage {
                name: "stops at a probe",
                node: MSMR,
                links: &[],
                kills: &[PROBES],
                tamper: || Box::new(|way, frame| match frame.control() {
                    Some(ControlMessage::MapReply(_)) if way == Way::FromVictim => PacketFate::Drop,
                    _ => PacketFate::Forward,
                }),
            },
        ],
        ..Case::BASE
    }
}

fn probe(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let (itr, etr) = (drive.peer("itr")?, drive.peer("etr-b")?);
    let _etr_a = registered(drive)?;
    // Site b asks for proxy replies.
    let mut proxied = register(
        &key("key-of-site-b"),
        REGISTER + 1,
        vec![record("10.2.0.0/16", vec![locator("192.0.2.34", 1, 100)])],
    );
    proxied.proxy_reply = true;
    register_and_wait(drive, &etr, "key-of-site-b", &proxied)?;
    let ms = drive.address(MSMR)?;
    for (nonce, eid, encapsulated) in PROBED {
        let request = MapRequest {
            probe: true,
            ..question(nonce, eid)
        };
        if encapsulated {
            ask(&itr, ms, &request)?;
        } else {
            let from = (itr.address(), outer_port(nonce));
            itr.control(from, ms, &ControlMessage::MapRequest(request))?;
        }
    }
    ask_and_wait(drive, &itr, &question(AFTER_FOREIGN, FOREIGN))?;
    Ok(())
}

fn no_probe_answered(trace: &Trace, findings: &mut Findings) {
    let fence = replies(trace, AFTER_FOREIGN).first().copied();
    for (nonce, eid, encapsulated) in PROBED {
        let form = if encapsulated { "encapsulated" } else { "bare" };
        let Some(asked) = asked(trace, nonce) else {
            findings.unseen(PROBES, format!("the {form} probe for {eid}"));
            continue;
        };
        let back = trace
            .originated(MSMR)
            .find(|packet| packet.udp().is_some_and(|udp| holds(&udp.payload, nonce)));
        match (back, fence) {
            (Some(back), _) => findings.broken(
                PROBES,
                [asked, back],
                format!("a {form} probe for {eid} is dropped"),
                back.summary(),
            ),
            (None, Some(fence)) => findings.met(
                PROBES,
                [asked, fence],
                format!(
                    "a {form} probe for {eid}: silence, and the question after it was answered"
                ),
            ),
            (None, None) => findings.broken(
                PROBES,
                asked,
                "the question after the probes answered",
                "silence to that too",
            ),
        }
    }
}
