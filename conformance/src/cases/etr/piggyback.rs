//! Mappings that Map-Requests bring along (M bit): how they are built, and that they are never believed unverified
//! (RFC 6830 6.1.2, 6.1.3; RFC 9301 5.3).

use std::net::{IpAddr, Ipv4Addr};

use lisp::Address;
use lisp::wire::{ControlMessage, MapRequest};

use crate::case::Case;
use crate::cases::common::{ip, is_reply, request};
use crate::cases::one_xtr::*;
use crate::catalogue::Req;
use crate::decode::Lisp;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Frame;
use crate::trace::{Seen, Trace};

const M_BIT: Req = Req::new("rfc6830-6.1.2-m-bit");
const INCLUDES: Req = Req::new("rfc6830-6.1.3-include-db");
const VERIFIES: Req = Req::new("rfc6830-6.1.3-verify-mr");
const THROUGH_SYSTEM: Req = Req::new("rfc6830-6.1.3-verify-via-ms");
const OFF: Req = Req::new("rfc6830-6.1.3-piggyback-off");
const MUST_VERIFY: Req = Req::new("rfc9301-5.3-piggyback-verify");

const CLAIMED: &str = "a Map-Request brings a mapping along";
const CLAIMED_AGAIN: &str = "another one contradicts what is cached";
/// Nonces of the remote site's Map-Requests.
const FIRST: u64 = 0x51c7_2ae0_9b14_6d83;
const SECOND: u64 = 0x0e94_b3d6_71f2_85ac;
/// Another host of the remote site: about the first one something was asked lately.
const NEIGHBOUR: &str = "10.2.0.20";
/// Numbers of packets to the remote site: before the second claim, and after it.
const BEFORE: u16 = 100;
const AFTER: u16 = 101;

/// Octets from the UDP payload of an Encapsulated Control Message over IPv4 to the checksum of its inner UDP header, and to
/// the message in it.
const INNER_CHECKSUM: usize = 4 + 20 + 6;
const INNER_MESSAGE: usize = 4 + 20 + 8;
/// The M bit in the first octet of a Map-Request.
const M: u8 = 0x04;

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_2::own_mapping_is_brought_along_well_formed",
        title: "Where piggybacking is on, a Map-Request has M = 1 and, after what it asks, one record that covers its source EID.",
        topology: TOPOLOGY,
        settings: &[(XTR, "piggyback-own: true")],
        roles: &["itr"],
        features: &["piggyback"],
        requirements: &[M_BIT, INCLUDES],
        drive: |drive| {
            let net = Net::up(drive, vec![mapping(REMOTE_SITE, &[REMOTE])])?;
            drive.mark(CLAIMED);
            net.say(drive, REMOTE_HOST, BEFORE)?;
            Ok(())
        },
        judges: &[brought_along],
        sabotages: &[
            spoils("clears M and leaves the record", &[M_BIT, INCLUDES], || crate::cases::common::edit_outgoing(|frame| {
                frame.edit_udp(|_, payload| {
                    let brings = payload.get(INNER_MESSAGE).is_some_and(|first| first & !0x0f == 0x10 && first & M != 0);
                    if brings && payload[0] >> 4 == 8 {
                        payload[INNER_CHECKSUM..INNER_MESSAGE].fill(0);
                        payload[INNER_MESSAGE] &= !M;
                        return true;
                    }
                    false
                });
            })),
            spoils("brings the mapping of another EID", &[M_BIT], || on_requests(|request| match &mut request.map_reply {
                Some(record) => {
                    record.eid = Address::from_eid(0, ip("10.9.0.0"));
                    true
                }
                None => false,
            })),
            spoils("brings a record without locators", &[INCLUDES], || on_requests(|request| match &mut request.map_reply {
                Some(record) => {
                    record.locators.clear();
                    true
                }
                None => false,
            })),
        ],
        ..Case::BASE
    }
}

/// The first word of a Map-Request that was sent, read without the codec.
fn first_octet(packet: &Seen) -> Option<u8> {
    let payload = &packet.udp()?.payload;
    let at = if packet.ecm().is_some() {
        INNER_MESSAGE
    } else {
        0
    };
    payload.get(at).copied()
}

/// Whether a control message, or what an Encapsulated Control Message carries, cannot be read.
fn is_malformed(packet: &Seen) -> bool {
    match packet.lisp() {
        Lisp::Malformed(_) => true,
        Lisp::Control {
            message,
            inner: None,
        } => matches!(**message, ControlMessage::Encapsulated(_)),
        _ => false,
    }
}

fn brought_along(trace: &Trace, findings: &mut Findings) {
    let malformed = trace
        .since(CLAIMED)
        .find(|packet| packet.sender() == Some(XTR) && is_malformed(packet));
    if let Some(packet) = malformed {
        for row in [M_BIT, INCLUDES] {
            findings.broken(
                row,
                packet,
                "one record after the questions exactly when M = 1",
                packet.summary(),
            );
        }
        return;
    }
    let since = trace.mark(CLAIMED).unwrap_or(u64::MAX);
    let asked = questions(trace, since, REMOTE_SITE);
    if asked.is_empty() {
        for row in [M_BIT, INCLUDES] {
            findings.unseen(row, "a Map-Request for a packet of the site");
        }
        return;
    }
    for packet in asked {
        let Some(request) = packet.map_request() else {
            continue;
        };
        let flag = first_octet(packet).is_some_and(|octet| octet & M != 0);
        let Some(record) = &request.map_reply else {
            findings.check(
                INCLUDES,
                !flag,
                packet,
                "no record only with M = 0",
                "M = 1 without a record",
            );
            findings.broken(M_BIT, packet, "M = 1 where piggybacking is on", "M = 0");
            continue;
        };
        let brought = record.eid_prefix();
        let covers = match (brought, request.source_eid.eid()) {
            (Some(brought), Some((iid, source))) => brought.contains(iid, source),
            _ => false,
        };
        let seen = format!(
            "M = {}, a record for {} of source EID {}",
            u8::from(flag),
            brought.map_or_else(|| "nothing".to_owned(), |prefix| prefix.to_string()),
            request.source_eid
        );
        findings.check(
            M_BIT,
            flag && covers,
            packet,
            "M = 1 and a record that covers the source EID",
            seen.clone(),
        );
        let own = record.locators.iter().any(|l| l.rloc.ip() == Some(RLOC));
        findings.check(
            INCLUDES,
            own && record.ttl > 0,
            packet,
            format!("the mapping as it is registered, with the locator {RLOC}"),
            format!("{} locators, TTL {}", record.locators.len(), record.ttl),
        );
    }
}

/// A question of the remote site that says, truly or not, where it is.
fn claim(nonce: u64, eid: IpAddr, itr_rloc: IpAddr, locator: IpAddr) -> ControlMessage {
    ControlMessage::MapRequest(MapRequest {
        source_eid: Address::from_eid(0, eid),
        map_reply: Some(mapping(REMOTE_SITE, &[locator])),
        ..request(nonce, None, &[itr_rloc], &format!("{HOST}/32"))
    })
}

impl Net {
    /// Hands a claim on to the box as the Map-Server does, and waits until the box has answered what it asks.
    fn hand_on(&self, drive: &Drive, nonce: u64, claim: &ControlMessage) -> Result<(), Stop> {
        let from = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 35));
        self.mapping
            .encapsulated((MAPPING, 40_013), RLOC, (from, CONTROL_FROM), HOST, claim)?;
        drive.wait_for(0, "the Map-Reply to the remote site", SOON, |packet| {
            packet.sender() == Some(XTR) && is_reply(packet, nonce)
        })?;
        Ok(())
    }
}

/// Waits for the Map-Request that verifies a claim, and for its answer at the box.
fn verified(drive: &Drive, since: u64, eid: IpAddr) -> Result<(), Stop> {
    let about = lisp::EidPrefix::host(0, eid);
    let what = format!("the Map-Request that verifies the mapping of {eid}");
    let question = drive.wait_for(since, &what, SOON, |packet| {
        packet.sender() == Some(XTR) && asks(packet, &about)
    })?;
    let nonce = question.map_request().map(|request| request.nonce);
    drive.wait_for(since, "its answer at the box", SOON, |packet| {
        packet.receiver() == Some(XTR) && nonce.is_some_and(|nonce| is_reply(packet, nonce))
    })?;
    Ok(())
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_3::piggybacked_mapping_is_verified_through_the_mapping_system",
        title: "A mapping that a Map-Request brings along is asked for through the mapping system, never of its sender, and what that says is used.",
        topology: TOPOLOGY,
        settings: &[(XTR, "piggyback: true")],
        roles: &["etr"],
        features: &["piggyback"],
        requirements: &[VERIFIES, THROUGH_SYSTEM, MUST_VERIFY],
        drive: claimed_twice,
        judges: &[asked_for, not_of_its_sender],
        sabotages: &[
            spoils("does not verify", &[VERIFIES, MUST_VERIFY], || swallow(|frame| asked_about(frame) == Some(REMOTE_HOST))),
            spoils("believes what is brought along", &[MUST_VERIFY], || misdirect(OTHER, |sequence| sequence == BEFORE)),
            spoils("asks the sender of the contradiction", &[THROUGH_SYSTEM], || crate::cases::common::edit_outgoing(|frame| {
                if asked_about(frame) == Some(ip(NEIGHBOUR)) {
                    redirect(frame, OTHER);
                }
            })),
        ],
        ..Case::BASE
    }
}

/// What an encapsulated Map-Request that is being tampered with asks for.
fn asked_about(frame: &Frame<'_>) -> Option<IpAddr> {
    match crate::decode::lisp(&frame.ip()?) {
        Lisp::Control {
            inner: Some(inner), ..
        } => match &*inner.message {
            ControlMessage::MapRequest(request) => {
                Some(request.records.first()?.prefix()?.prefix.addr())
            }
            _ => None,
        },
        _ => None,
    }
}

fn claimed_twice(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, vec![mapping(REMOTE_SITE, &[REMOTE])])?;
    let since = drive.mark(CLAIMED);
    net.hand_on(drive, FIRST, &claim(FIRST, REMOTE_HOST, REMOTE, OTHER))?;
    verified(drive, since, REMOTE_HOST)?;
    net.say(drive, REMOTE_HOST, BEFORE)?;
    let since = drive.mark(CLAIMED_AGAIN);
    let second = claim(SECOND, ip(NEIGHBOUR), OTHER, OTHER);
    net.hand_on(drive, SECOND, &second)?;
    verified(drive, since, ip(NEIGHBOUR))?;
    net.say(drive, ip(NEIGHBOUR), AFTER)?;
    Ok(())
}

/// The Map-Request with a nonce as it reached the box.
fn brought(trace: &Trace, nonce: u64) -> Option<&Seen> {
    trace.received_by(XTR).find(|packet| {
        packet
            .map_request()
            .is_some_and(|request| request.nonce == nonce && request.map_reply.is_some())
    })
}

fn asked_for(trace: &Trace, findings: &mut Findings) {
    let Some(claim) = brought(trace, FIRST) else {
        for row in [VERIFIES, MUST_VERIFY] {
            findings.unseen(row, "a Map-Request that brings a mapping along");
        }
        return;
    };
    let asked = questions(trace, claim.time_ns(), &format!("{REMOTE_HOST}/32"));
    let back = data(trace, BEFORE);
    let verification = asked
        .iter()
        .find(|asked| to_resolver(asked) && back.is_none_or(|b| b.time_ns() > asked.time_ns()));
    let Some(verification) = verification else {
        for row in [VERIFIES, MUST_VERIFY] {
            findings.broken(
                row,
                claim,
                format!("a Map-Request to the mapping system for {REMOTE_HOST}"),
                "none before a packet to it",
            );
        }
        return;
    };
    findings.met(VERIFIES, [claim, *verification], verification.summary());
    match back {
        Some(back) => findings.check(
            MUST_VERIFY,
            back.destination() == Some(REMOTE),
            [claim, *verification, back],
            format!("data to {REMOTE}, which the mapping system names"),
            destination(back),
        ),
        None => findings.unseen(MUST_VERIFY, "data to the remote site"),
    }
}

fn not_of_its_sender(trace: &Trace, findings: &mut Findings) {
    let (Some(claim), Some(since)) = (brought(trace, SECOND), trace.mark(CLAIMED_AGAIN)) else {
        return findings.unseen(
            THROUGH_SYSTEM,
            "a Map-Request whose mapping contradicts the cached one",
        );
    };
    let asked = questions(trace, since, REMOTE_SITE);
    let astray = asked.iter().find(|asked| !to_resolver(asked));
    match (astray, asked.first()) {
        (Some(astray), _) => findings.broken(
            THROUGH_SYSTEM,
            [claim, *astray],
            "Map-Requests to the mapping system alone",
            astray.summary(),
        ),
        (None, Some(first)) => findings.met(THROUGH_SYSTEM, [claim, *first], first.summary()),
        (None, None) => findings.broken(
            THROUGH_SYSTEM,
            claim,
            "a Map-Request to the mapping system",
            "none",
        ),
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_3::piggybacked_mapping_is_not_believed_by_default",
        title: "Without configuration a mapping that a Map-Request brings along changes nothing: return traffic is looked up and goes where the mapping system says.",
        topology: TOPOLOGY,
        roles: &["etr"],
        features: &["piggyback"],
        requirements: &[OFF],
        drive: |drive| {
            let net = Net::up(drive, vec![mapping(REMOTE_SITE, &[REMOTE])])?;
            drive.mark(CLAIMED);
            net.hand_on(drive, FIRST, &claim(FIRST, REMOTE_HOST, REMOTE, OTHER))?;
            net.say(drive, REMOTE_HOST, BEFORE)?;
            Ok(())
        },
        judges: &[looked_up],
        sabotages: &[spoils("believes what is brought along", &[OFF], || misdirect(OTHER, |_| true))],
        ..Case::BASE
    }
}

fn looked_up(trace: &Trace, findings: &mut Findings) {
    let (Some(claim), Some(back)) = (brought(trace, FIRST), data(trace, BEFORE)) else {
        return findings.unseen(OFF, "a mapping brought along, and data to its EID");
    };
    let asked = questions(trace, claim.time_ns(), REMOTE_SITE);
    let before = asked.first().filter(|a| a.time_ns() < back.time_ns());
    findings.check(
        OFF,
        back.destination() == Some(REMOTE) && before.is_some(),
        [claim, back],
        format!("a Map-Request, then data to {REMOTE}"),
        format!("{} Map-Requests, data {}", asked.len(), destination(back)),
    );
}
