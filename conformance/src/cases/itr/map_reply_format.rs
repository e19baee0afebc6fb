//! Map-Replies that cannot be read, and control messages of no known kind (RFC 6830 4.1; RFC 9301 5.1; RFC 9306 3).

use std::net::IpAddr;

use lisp::wire::{ControlMessage, EidQuery, MapRequest};
use lisp::{Address, Lcaf};

use super::map_cache_net::{
    CORE, ITR, Net, OTHER, OWN, REMOTE, SOON, TOPOLOGY, goes_to, not_encapsulated, wait_question,
};
use crate::case::Case;
use crate::cases::common::{edit_incoming, ip, is_reply, locator, prefix, record, reply};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::Trace;

const FORMAT: Req = Req::new("rfc6830-4.1-mrep-format-check");
const UNKNOWN_AFI: Req = Req::new("rfc9301-5.1-unknown-afi");

/// Where fields of a Map-Reply with one IPv4 record and one IPv4 locator stand (RFC 6830 6.1.4), in octets.
const RECORD_COUNT: usize = 3;
const LOCATOR_COUNT: usize = 16;
const MASK_LEN: usize = 17;
const EID: usize = 24;
const LOCATOR_AFI: usize = 34;

/// Makes a right Map-Reply wrong.
type Spoil = fn(&mut Vec<u8>);

/// What is wrong with a Map-Reply, and how a right one becomes so. The third octet of the EID is 10 and its place here.
const WRONG: [(&str, Spoil); 5] = [
    ("a cut locator", |octets| octets.truncate(octets.len() - 3)),
    ("a locator count beyond its end", |octets| {
        octets[LOCATOR_COUNT] = 4
    }),
    ("mask-len 33 for IPv4", |octets| octets[MASK_LEN] = 33),
    ("a record count beyond its end", |octets| {
        octets[RECORD_COUNT] = 9
    }),
    ("nothing after its nonce", |octets| octets.truncate(12)),
];

inventory::submit! {
    Case {
        id: "rfc6830::s4_1::malformed_map_replies_are_not_cached",
        title: "Map-Replies with the right nonce that are cut or count wrongly change nothing; the right one after them is used.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[FORMAT],
        drive: |drive| {
            let net = Net::up(drive)?;
            for (at, (_, spoil)) in (0u16..).zip(WRONG) {
                wrong_then_right(drive, &net, at, spoil)?;
            }
            Ok(())
        },
        judges: &[|trace, findings| {
            for at in 0..WRONG.len() as u16 {
                wrong_unused_right_used(trace, findings, FORMAT, at);
            }
        }],
        sabotages: &[
            Sabotage {
                name: "accepts what it cannot read",
                node: ITR,
                links: CORE,
                kills: &[FORMAT],
                tamper: repaired,
            },
            Sabotage {
                name: "does not get over a malformed Map-Reply",
                node: ITR,
                links: CORE,
                kills: &[FORMAT],
                tamper: || super::map_cache_net::records_in("10.2.12.0/24", |record| record.ttl = 0),
            },
        ],
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc9301::s5_1::an_unknown_afi_drops_the_message",
        title: "A Map-Reply with a locator of an AFI that nobody knows is dropped whole, its other locator included.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc9300],
        roles: &["itr"],
        requirements: &[UNKNOWN_AFI],
        drive: |drive| {
            let net = Net::up(drive)?;
            wrong_then_right(drive, &net, 0, |octets| {
                // A second locator like the first, and the first one's AFI.
                let locator = octets[28..].to_vec();
                octets.extend(locator);
                octets[LOCATOR_COUNT] = 2;
                octets[LOCATOR_AFI..LOCATOR_AFI + 2].copy_from_slice(&0x7777_u16.to_be_bytes());
            })
        },
        judges: &[|trace, findings| wrong_unused_right_used(trace, findings, UNKNOWN_AFI, 0)],
        sabotages: &[Sabotage {
            name: "passes over a locator of an unknown AFI",
            node: ITR,
            links: CORE,
            kills: &[UNKNOWN_AFI],
            tamper: repaired,
        }],
        ..Case::BASE
    }
}

/// Map-Replies on their way in that cannot be read become what they were before they were spoilt.
fn repaired() -> Tamper {
    edit_incoming(|frame| {
        frame.edit_udp(|ports, payload| {
            let is_reply = payload.first().is_some_and(|first| first >> 4 == 2);
            if ports.0 != lisp::CONTROL_PORT
                || !is_reply
                || ControlMessage::parse(payload).is_ok()
                || payload.len() < EID + 4
            {
                return false;
            }
            let nonce = payload[4..12].try_into().map_or(0, u64::from_be_bytes);
            *payload = sound(nonce, payload[EID + 2]);
            true
        });
    })
}

/// A right Map-Reply, with a locator that right ones do not have otherwise.
fn sound(nonce: u64, subnet: u8) -> Vec<u8> {
    let eid = format!("10.2.{subnet}.0/24");
    reply(nonce, vec![record(&eid, vec![locator(OTHER, 1, 100)])]).to_vec()
}

fn wrong_then_right(drive: &Drive<'_>, net: &Net, at: u16, spoil: Spoil) -> Result<(), Stop> {
    let subnet = 10 + at as u8;
    let eid = format!("10.2.{subnet}.0/24");
    let begin = drive.mark(&format!("the miss for {eid}"));
    net.send(&format!("10.2.{subnet}.1"), 10 * at + 1)?;
    let (_, question) = wait_question(drive, begin, &eid)?;
    let mut octets = sound(question.nonce, subnet);
    spoil(&mut octets);
    net.reply_octets(&question, &octets)?;
    net.fence(drive)?;
    net.send(&format!("10.2.{subnet}.1"), 10 * at + 2)?;
    net.fence(drive)?;
    net.reply(
        &question,
        question.nonce,
        vec![record(&eid, vec![locator(REMOTE, 1, 100)])],
    )?;
    net.fence(drive)?;
    net.send(&format!("10.2.{subnet}.1"), 10 * at + 3)?;
    net.fence(drive)
}

fn wrong_unused_right_used(trace: &Trace, findings: &mut Findings, requirement: Req, at: u16) {
    // Held until the right one came, the packet may go by that.
    let after = super::map_cache_net::became(trace, 10 * at + 2);
    if after.rloc() != Some(ip(REMOTE)) {
        not_encapsulated(trace, findings, requirement, 10 * at + 2);
    }
    goes_to(trace, findings, requirement, 10 * at + 3, REMOTE);
}

const TYPES: Req = Req::new("rfc9301-5.1-type5-6-15");
const UNKNOWN_LCAF: Req = Req::new("rfc9306-3-unknown-lcaf-eid");

/// Types without a handler that answers: unassigned, DDT's Map-Referral, the acknowledgement, the shared extension.
const STRANGE: [u8; 10] = [5, 6, 7, 9, 10, 11, 12, 13, 14, 15];
/// Nonce of the message of type 0; the others count from there.
const NONCES: u64 = 0x5157_0000_0000_0000;
/// Nonce of the Map-Request that is answered, and of the one about an EID that is an unknown LCAF.
const ANSWERED: u64 = NONCES + 100;
const LCAF: u64 = NONCES + 101;

inventory::submit! {
    Case {
        id: "rfc9301::s5_1::types_without_a_handler_are_met_with_silence",
        title: "What would be a Map-Request, were its type not 5, 6, 7 or 9 to 15 or its EID an unknown LCAF, is met with silence.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc9300],
        roles: &["itr", "etr"],
        requirements: &[TYPES, UNKNOWN_LCAF],
        drive: drive_types,
        judges: &[judge_types],
        sabotages: &[
            Sabotage {
                name: "answers type 7",
                node: ITR,
                links: CORE,
                kills: &[TYPES],
                tamper: || as_request(7),
            },
            Sabotage {
                name: "answers type 15",
                node: ITR,
                links: CORE,
                kills: &[TYPES],
                tamper: || as_request(15),
            },
            Sabotage {
                name: "reads an EID out of an unknown LCAF",
                node: ITR,
                links: CORE,
                kills: &[UNKNOWN_LCAF],
                tamper: || crate::cases::common::incoming(|message| match message {
                    ControlMessage::MapRequest(request) if request.nonce == LCAF => {
                        request.records = vec![EidQuery::new(prefix("10.1.0.10/32"))];
                        true
                    }
                    _ => false,
                }),
            },
        ],
        ..Case::BASE
    }
}

fn as_request(kind: u8) -> Tamper {
    Box::new(move |way, frame| {
        if way == harness::inline::Way::ToVictim {
            frame.edit_udp(|_, payload| {
                let hit = payload.get(4..12) == Some(&(NONCES + u64::from(kind)).to_be_bytes()[..]);
                if hit {
                    payload[0] = payload[0] & 0x0f | 1 << 4;
                }
                hit
            });
        }
        harness::inline::PacketFate::Forward
    })
}

/// A Map-Request about the site with an ITR-RLOC of its own, so that no rate limit is met.
fn about_the_site(nonce: u64) -> MapRequest {
    let rloc = IpAddr::from([203, 0, 113, (nonce - NONCES) as u8 + 1]);
    crate::cases::common::request(nonce, None, &[rloc], "10.1.0.10/32")
}

fn drive_types(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    let from = (net.remote.address(), 50_555);
    let begin = drive.mark("the strange messages");
    for kind in STRANGE {
        let request = about_the_site(NONCES + u64::from(kind));
        let mut octets = ControlMessage::MapRequest(request).to_vec();
        octets[0] = octets[0] & 0x0f | kind << 4;
        net.remote
            .udp(from, (ip(OWN), lisp::CONTROL_PORT), &octets)?;
    }
    let mut unknown = about_the_site(LCAF);
    unknown.records[0].eid = Address::Lcaf(Box::new(Lcaf::Opaque {
        kind: 200,
        reserved: [0; 3],
        data: vec![0, 1, 10, 1, 0, 10],
    }));
    let send = |request| {
        net.remote
            .control(from, ip(OWN), &ControlMessage::MapRequest(request))
    };
    send(unknown)?;
    send(about_the_site(ANSWERED))?;
    drive.wait_for(
        begin,
        "the Map-Reply to the Map-Request after them",
        SOON,
        |packet| packet.sender() == Some(ITR) && is_reply(packet, ANSWERED),
    )?;
    Ok(())
}

fn judge_types(trace: &Trace, findings: &mut Findings) {
    let to_remote = |packet: &&crate::trace::Seen| {
        packet
            .udp()
            .is_some_and(|udp| udp.source_port == lisp::CONTROL_PORT)
            && packet.link() == CORE[0]
    };
    let answers: Vec<_> = trace
        .originated(ITR)
        .filter(to_remote)
        .filter(|packet| packet.map_register().is_none())
        .collect();
    let fence = answers.iter().find(|packet| is_reply(packet, ANSWERED));
    let Some(fence) = fence else {
        for requirement in [TYPES, UNKNOWN_LCAF] {
            findings.unseen(requirement, "the Map-Reply to the Map-Request after them");
        }
        return;
    };
    let lcaf = answers.iter().find(|packet| is_reply(packet, LCAF));
    match lcaf {
        Some(answer) => findings.broken(UNKNOWN_LCAF, *answer, "silence", answer.summary()),
        None => findings.met(
            UNKNOWN_LCAF,
            *fence,
            "silence, though the Map-Request after it was answered",
        ),
    }
    let other = answers
        .iter()
        .find(|packet| !is_reply(packet, ANSWERED) && !is_reply(packet, LCAF));
    match other {
        Some(answer) => findings.broken(TYPES, *answer, "silence", answer.summary()),
        None => findings.met(
            TYPES,
            *fence,
            "silence, though the Map-Request after them was answered",
        ),
    }
}
