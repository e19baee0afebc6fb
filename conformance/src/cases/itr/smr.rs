//! Solicit-Map-Requests as an ITR takes them (RFC 6830 6.6.2, RFC 9301 6.1), and Map-Replies that nobody asked for.

use std::net::IpAddr;

use harness::inline::{PacketFate, Way};
use lisp::wire::ControlMessage;

use crate::case::Case;
use crate::cases::common::{ip, prefix, record, reply};
use crate::cases::one_xtr::*;
use crate::catalogue::Req;
use crate::decode::Lisp;
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Frame;
use crate::trace::{Seen, Trace};
use crate::words;

const NONCE: Req = Req::new("rfc6830-6.6.2-smr-nonce");
const ONLY_LOCATOR: Req = Req::new("rfc6830-6.6.2-smr-single-rloc");
const UNKNOWN: Req = Req::new("rfc6830-6.6.2-smr-unknown-src");
const VIA_MS: Req = Req::new("rfc9301-6.1-smr-via-ms");

/// An SMR: its nonce, what it is about, an EID there, who sends it, and what its source makes of the answer.
struct Solicited {
    nonce: u64,
    prefix: &'static str,
    eid: &'static str,
    from: IpAddr,
    rows: &'static [Req],
}

const SOLICITED: [Solicited; 3] = [
    Solicited {
        nonce: 0x57a1_0000_0001_0001,
        prefix: "10.2.1.0/24",
        eid: "10.2.1.10",
        from: REMOTE,
        rows: &[ONLY_LOCATOR, VIA_MS],
    },
    Solicited {
        nonce: 0x57a1_0000_0001_0002,
        prefix: "10.2.2.0/24",
        eid: "10.2.2.10",
        from: OTHER,
        rows: &[UNKNOWN, VIA_MS],
    },
    Solicited {
        nonce: 0x57a1_0000_0001_0003,
        prefix: "10.2.3.0/24",
        eid: "10.2.3.10",
        from: REMOTE,
        rows: &[VIA_MS],
    },
];

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_2::smr_is_answered_through_the_mapping_system",
        title: "An SMR from the only cached locator, from a stranger, or from one of two makes the ITR ask the mapping system for its EID-Prefix, with a nonce of its own.",
        topology: TOPOLOGY,
        roles: &["itr"],
        features: &["smr"],
        requirements: &[NONCE, ONLY_LOCATOR, UNKNOWN, VIA_MS],
        drive: solicit_three,
        judges: &[asked_through_the_mapping_system],
        sabotages: &[
            spoils("takes over the SMR's nonce", &[NONCE], || {
                let mut last = None;
                Box::new(move |way, frame| {
                    match way {
                        Way::ToVictim => if let Some(ControlMessage::MapRequest(request)) = frame.control() {
                            last = Some(request.nonce);
                        },
                        Way::FromVictim => {
                            frame.edit_control(|message| match (message, last) {
                                (ControlMessage::MapRequest(request), Some(nonce)) if request.smr_invoked => {
                                    request.nonce = nonce;
                                    true
                                }
                                _ => false,
                            });
                        }
                    }
                    PacketFate::Forward
                })
            }),
            spoils("asks for a host instead of the prefix", &[NONCE], || on_requests(|request| {
                request.records.iter_mut().for_each(|query| query.mask_len = 32);
                request.smr_invoked
            })),
            spoils("asks the SMR's source", &[ONLY_LOCATOR, UNKNOWN, VIA_MS], || Box::new(|way, frame| {
                let about = invoked(frame).filter(|_| way == Way::FromVictim);
                if let Some(solicited) = about {
                    redirect(frame, solicited.from);
                }
                PacketFate::Forward
            })),
            spoils("passes over a stranger's SMR", &[UNKNOWN], || swallow(|frame| {
                invoked(frame).is_some_and(|solicited| solicited.from == OTHER)
            })),
        ],
        ..Case::BASE
    }
}

/// Which SMR a Map-Request that is being tampered with answers.
fn invoked(frame: &Frame<'_>) -> Option<&'static Solicited> {
    let Lisp::Control {
        inner: Some(inner), ..
    } = crate::decode::lisp(&frame.ip()?)
    else {
        return None;
    };
    let ControlMessage::MapRequest(request) = &*inner.message else {
        return None;
    };
    let asked = request.records.first()?.prefix()?;
    SOLICITED
        .iter()
        .find(|one| request.smr_invoked && prefix(one.prefix).covers(&asked))
}

fn remote_sites() -> Vec<lisp::wire::MapRecord> {
    vec![
        mapping(SOLICITED[0].prefix, &[REMOTE]),
        mapping(SOLICITED[1].prefix, &[REMOTE]),
        mapping(SOLICITED[2].prefix, &[REMOTE, OTHER]),
    ]
}

fn solicit_three(drive: &mut Drive) -> Result<(), Stop> {
    let net = Net::up(drive, remote_sites())?;
    for (sequence, one) in (1..).zip(&SOLICITED) {
        net.say(drive, ip(one.eid), sequence)?;
    }
    let since = drive.mark("the SMRs");
    for one in &SOLICITED {
        let peer = if one.from == REMOTE {
            &net.remote
        } else {
            &net.other
        };
        net.solicit((peer, one.from), one.nonce, one.prefix)?;
    }
    for one in &SOLICITED {
        let what = format!("a Map-Request for {} after the SMR", one.prefix);
        drive.wait_for(since, &what, SOON, |packet| {
            packet.sender() == Some(XTR) && asks(packet, &prefix(one.prefix))
        })?;
    }
    // The fence: a request to a locator would leave before the box asks about what it does not know.
    let since = drive.now_ns();
    net.offer(ip(NOT_CACHED_EID), 9)?;
    drive.wait_for(since, "a Map-Request for a new EID", SOON, |packet| {
        packet.sender() == Some(XTR) && asks(packet, &prefix(NOT_CACHED))
    })?;
    Ok(())
}

fn asked_through_the_mapping_system(trace: &Trace, findings: &mut Findings) {
    let mut nonces: Vec<u64> = SOLICITED.iter().map(|one| one.nonce).collect();
    for one in &SOLICITED {
        let Some(smr) = trace.received_by(XTR).find(|packet| {
            packet
                .map_request()
                .is_some_and(|request| request.nonce == one.nonce)
        }) else {
            for row in one.rows.iter().chain(&[NONCE]) {
                findings.unseen(*row, format!("the SMR for {}", one.prefix));
            }
            continue;
        };
        let asked = questions(trace, smr.time_ns(), one.prefix);
        if asked.is_empty() {
            for row in one.rows.iter().chain(&[NONCE]) {
                findings.broken(
                    *row,
                    smr,
                    format!("a Map-Request for {}", one.prefix),
                    "none",
                );
            }
        }
        for packet in asked {
            let nonce = packet.map_request().map_or(0, |request| request.nonce);
            let fresh = !nonces.contains(&nonce);
            nonces.push(nonce);
            let same = question(packet) == Some(prefix(one.prefix));
            findings.check(
                NONCE,
                fresh && same,
                [smr, packet],
                format!("a nonce that no other message has, and {}", one.prefix),
                packet.summary(),
            );
            let inner = packet.ecm().map(|ecm| ecm.destination);
            let to_eid = inner.is_some_and(|to| prefix(one.prefix).contains(0, to));
            for row in one.rows {
                findings.check(
                    *row,
                    to_resolver(packet) && to_eid,
                    [smr, packet],
                    format!(
                        "encapsulated to {MAPPING}, inner destination in {}",
                        one.prefix
                    ),
                    format!(
                        "{}, inner destination {}",
                        destination(packet),
                        words::or_none(inner)
                    ),
                );
            }
        }
    }
}

const UNCACHED: Req = Req::new("rfc9301-6.1-smr-uncached");
const UNCACHED_6830: Req = Req::new("rfc6830-6.6.2-smr-uncached");

const NOT_CACHED: &str = "10.2.9.0/24";
const NOT_CACHED_EID: &str = "10.2.9.10";
const FENCE: usize = 0;
const HELPER: usize = 1;
const STRANGE_SMR: u64 = 0x57a1_0000_0002_0001;

inventory::submit! {
    Case {
        id: "rfc9301::s6_1::smr_for_what_is_not_cached_is_ignored",
        title: "An SMR for an EID-Prefix that is not in the map-cache brings about no Map-Request; the next one, for a cached prefix, does.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc9300],
        roles: &["itr"],
        features: &["smr"],
        requirements: &[UNCACHED, UNCACHED_6830],
        drive: |drive| {
            let net = Net::up(drive, remote_sites())?;
            for (sequence, one) in (1..).zip(&SOLICITED[..2]) {
                net.say(drive, ip(one.eid), sequence)?;
            }
            let since = drive.mark("the SMRs");
            net.solicit((&net.remote, REMOTE), STRANGE_SMR, NOT_CACHED)?;
            net.solicit((&net.remote, REMOTE), SOLICITED[FENCE].nonce, SOLICITED[FENCE].prefix)?;
            drive.wait_for(since, "a Map-Request after the second SMR", SOON, |packet| {
                packet.sender() == Some(XTR) && asks(packet, &prefix(SOLICITED[FENCE].prefix))
            })?;
            Ok(())
        },
        judges: &[ignored],
        sabotages: &[spoils("asks for what nobody uses", &[UNCACHED], || Box::new(|way, frame| {
            // It gets an SMR for another cached prefix, and its question is made one for the prefix that is not cached.
            let (found, made) = match way {
                Way::ToVictim => (NOT_CACHED, SOLICITED[HELPER].prefix),
                Way::FromVictim => (SOLICITED[HELPER].prefix, NOT_CACHED),
            };
            frame.edit_control(|message| match message {
                ControlMessage::MapRequest(request) if request.smr || request.smr_invoked => {
                    let hit = request.records.iter().any(|query| query.prefix() == Some(prefix(found)));
                    if hit {
                        request.records = vec![lisp::wire::EidQuery::new(prefix(made))];
                    }
                    hit
                }
                _ => false,
            });
            PacketFate::Forward
        }))],
        ..Case::BASE
    }
}

fn ignored(trace: &Trace, findings: &mut Findings) {
    let smr = trace.since("the SMRs").find(|packet| {
        packet.receiver() == Some(XTR) && packet.map_request().is_some_and(|request| request.smr)
    });
    let start = trace.mark("the SMRs").unwrap_or(u64::MAX);
    let fence = questions(trace, start, SOLICITED[FENCE].prefix);
    let (Some(smr), Some(fence)) = (smr, fence.first()) else {
        findings.unseen(UNCACHED, "an SMR for a cached prefix that is heeded");
        findings.unseen(UNCACHED_6830, "an SMR for a cached prefix that is heeded");
        return;
    };
    match questions(trace, start, NOT_CACHED).first() {
        Some(asked) => {
            findings.broken(UNCACHED, [smr, *asked], "no Map-Request", asked.summary());
            findings.recorded(UNCACHED_6830, [smr, *asked], "it asks");
        }
        None => {
            findings.met(
                UNCACHED,
                [smr, *fence],
                "silence, though the SMR after it was heeded",
            );
            findings.recorded(UNCACHED_6830, [smr, *fence], "it is ignored");
        }
    }
}

const UNSOLICITED: Req = Req::new("rfc6830-6.6.2-unsolicited-mrep");
const FORGED: u64 = 0x57a1_0000_0003_0001;

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_2::unsolicited_map_reply_changes_nothing",
        title: "A Map-Reply with a nonce that was never asked, to the port that answers come to and to 4342, does not move the traffic.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[UNSOLICITED],
        drive: forge_replies,
        judges: &[unmoved],
        sabotages: &[spoils("believes any Map-Reply", &[UNSOLICITED], || {
            let mut believed = false;
            Box::new(move |way, frame| {
                match way {
                    Way::ToVictim => {
                        believed |= matches!(frame.control(), Some(ControlMessage::MapReply(reply)) if reply.nonce == FORGED);
                    }
                    Way::FromVictim if believed && sequence_of(frame).is_some() => redirect(frame, OTHER),
                    Way::FromVictim => {}
                }
                PacketFate::Forward
            })
        })],
        ..Case::BASE
    }
}

fn forge_replies(drive: &mut Drive) -> Result<(), Stop> {
    let net = Net::up(drive, remote_sites())?;
    let eid = ip(SOLICITED[0].eid);
    net.say(drive, eid, 1)?;
    let asked = drive.wait_for(0, "the Map-Request", SOON, |packet| {
        packet.sender() == Some(XTR) && asks(packet, &prefix(SOLICITED[0].prefix))
    })?;
    let port = asked
        .ecm()
        .map_or(lisp::CONTROL_PORT, |inner| inner.source_port);
    drive.mark("the forged Map-Replies");
    let forged = record(
        SOLICITED[0].prefix,
        vec![crate::cases::common::locator(&OTHER.to_string(), 1, 100)],
    );
    let octets = reply(FORGED, vec![forged]).to_vec();
    for (from, to) in [(MAPPING, port), (OTHER, port), (OTHER, lisp::CONTROL_PORT)] {
        let peer = if from == MAPPING {
            &net.mapping
        } else {
            &net.other
        };
        peer.udp((from, lisp::CONTROL_PORT), (RLOC, to), &octets)?;
    }
    // The fences: answers on both ports come after the forged ones.
    net.say(drive, ip(SOLICITED[1].eid), 2)?;
    let since = drive.mark("the fence");
    net.solicit(
        (&net.remote, REMOTE),
        SOLICITED[1].nonce,
        SOLICITED[1].prefix,
    )?;
    drive.wait_for(since, "the Map-Request for the fence", SOON, |packet| {
        packet.sender() == Some(XTR)
            && asks(packet, &prefix(SOLICITED[1].prefix))
            && packet
                .map_request()
                .is_some_and(|request| request.smr_invoked)
    })?;
    for sequence in 3..6 {
        net.say(drive, eid, sequence)?;
    }
    Ok(())
}

fn unmoved(trace: &Trace, findings: &mut Findings) {
    let forged = trace.received_by(XTR).find(|packet| {
        packet
            .map_reply()
            .is_some_and(|reply| reply.nonce == FORGED)
    });
    let Some(forged) = forged else {
        findings.unseen(UNSOLICITED, "a Map-Reply with a nonce that was never asked");
        return;
    };
    let after: Vec<&Seen> = data_since(trace, "the fence")
        .filter(|(sequence, _)| *sequence >= 3)
        .map(|(_, packet)| packet)
        .collect();
    if after.is_empty() {
        findings.unseen(UNSOLICITED, "data from the site after it");
    }
    for packet in after {
        findings.check(
            UNSOLICITED,
            packet.destination() == Some(REMOTE),
            [forged, packet],
            format!("data to {REMOTE}, as before"),
            destination(packet),
        );
    }
}
