//! Gleaning: what arrives shows, for a few seconds, where its source may be reached (RFC 6830 4.1, 6.2; RFC 9300 4.2, 9).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::wire::{ControlMessage, DataHeader};
use lisp::{Address, CONTROL_PORT};

use crate::case::Case;
use crate::cases::common::{ip, is_reply, reply, request, seconds};
use crate::cases::one_xtr::*;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::{Frame, Tamper};
use crate::trace::{Seen, Trace};

const GLEAN: Req = Req::new("rfc6830-4.1-glean");
const VERIFY: Req = Req::new("rfc6830-4.1-glean-verify");
const EQUAL: Req = Req::new("rfc6830-6.2-glean-prio");
const SHORT: Req = Req::new("rfc6830-6.2-glean-short");
const STOPS: Req = Req::new("rfc6830-6.2-glean-stop");
const FROM_REQUEST: Req = Req::new("rfc6830-6.2-glean-mreq");
const THREE_SECONDS: Req = Req::new("rfc9300-9-glean-must-verify");

const SETTINGS: &[(&str, &str)] = &[(XTR, "glean: true")];

const FIRST: &str = "data from an unknown EID";
const KNOWN: &str = "the mapping system has answered";
/// A locator that nobody gave for the remote EID.
const STRANGER: IpAddr = MAPPING;
/// An EID of no mapping, whose verification shows that everything before it was seen.
const FENCE: &str = "10.3.0.10";

/// The second locator's last packet.
const ONCE_MORE: u16 = 3;
/// Numbers of the return packets: at once, after the second locator, and until no one leaves any more.
const AT_ONCE: u16 = 100;
const AFTER_SECOND: std::ops::Range<u16> = 110..114;
const WHILE_IT_LIVES: std::ops::Range<u16> = 200..300;
const AFTER_ANSWER: std::ops::Range<u16> = 400..404;

/// A few seconds, as RFC 6830 has it.
const A_FEW: Duration = Duration::from_secs(10);
/// Three seconds, as RFC 9300 has it, and what a poll four times a second can tell.
const THREE: std::ops::RangeInclusive<f64> = 2.0..=4.0;

inventory::submit! {
    Case {
        id: "rfc6830::s6_2::gleaned_locators_serve_a_few_seconds",
        title: "A data packet from an unknown EID shows the way back for a few seconds, while a Map-Request verifies it; of two locators seen, either is used.",
        topology: TOPOLOGY,
        settings: SETTINGS,
        timeout: seconds(60),
        roles: &["etr"],
        features: &["glean"],
        requirements: &[GLEAN, VERIFY, EQUAL, SHORT, THREE_SECONDS],
        drive: a_few_seconds,
        judges: &[way_back, verified, either, short],
        sabotages: &[
            spoils("returns to a locator that was not seen", &[GLEAN], || misdirect(STRANGER, |sequence| sequence == AT_ONCE)),
            spoils("does not verify", &[VERIFY], || swallow(asks_for_remote)),
            spoils("prefers a third locator", &[EQUAL], || misdirect(STRANGER, |sequence| AFTER_SECOND.contains(&sequence))),
            spoils("keeps what it gleaned", &[SHORT, THREE_SECONDS], believe_for_ever),
        ],
        ..Case::BASE
    }
}

fn asks_for_remote(frame: &Frame<'_>) -> bool {
    asked_about(frame).is_some_and(|(asked, _, _)| asked == REMOTE_HOST)
}

/// The EID, the nonce and the port of an encapsulated Map-Request that is being tampered with.
fn asked_about(frame: &Frame<'_>) -> Option<(IpAddr, u64, u16)> {
    match crate::decode::lisp(&frame.ip()?) {
        crate::decode::Lisp::Control {
            inner: Some(inner), ..
        } => match &*inner.message {
            ControlMessage::MapRequest(request) => {
                let asked = request.records.first()?.prefix()?;
                Some((asked.prefix.addr(), request.nonce, inner.source_port))
            }
            _ => None,
        },
        _ => None,
    }
}

/// The second locator's last packet becomes the answer that verifies the first one: a box that keeps what it gleaned looks
/// the same from outside.
fn believe_for_ever() -> Tamper {
    let mut question = None;
    Box::new(move |way, frame| {
        if way == Way::FromVictim {
            question = question.or_else(|| {
                let asked = asked_about(frame)?;
                (asked.0 == REMOTE_HOST).then_some(asked)
            });
            return PacketFate::Forward;
        }
        let from = frame.ip().map(|ip| ip.source);
        if let Some((_, nonce, port)) = question
            && from == Some(OTHER)
            && sequence_of(frame) == Some(ONCE_MORE)
        {
            let answer = reply(nonce, vec![mapping(REMOTE_SITE, &[REMOTE])]);
            frame.edit_udp_ports(|ports, payload| {
                *ports = (CONTROL_PORT, port);
                *payload = answer.to_vec();
                true
            });
        }
        PacketFate::Forward
    })
}

/// Waits for a Map-Request through the mapping system about an EID.
fn wait_verification(drive: &Drive, since: u64, eid: IpAddr) -> Result<Seen, Stop> {
    let about = lisp::EidPrefix::host(0, eid);
    let what = format!("a Map-Request for {eid}, from which something was gleaned");
    drive.wait_for(since, &what, SOON, |packet| {
        packet.sender() == Some(XTR) && asks(packet, &about)
    })
}

fn a_few_seconds(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, Vec::new())?;
    let plain = DataHeader::default();
    let since = drive.mark(FIRST);
    let gleaned = net.hear(drive, (&net.remote, REMOTE), &plain, 1)?;
    wait_verification(drive, since, REMOTE_HOST)?;
    net.say(drive, REMOTE_HOST, AT_ONCE)?;
    net.hear(drive, (&net.other, OTHER), &plain, 2)?;
    for sequence in AFTER_SECOND {
        net.say(drive, REMOTE_HOST, sequence)?;
    }
    net.tunnel((&net.other, OTHER), &plain, REMOTE_HOST, ONCE_MORE)?;
    // Until three in a row do not leave: the entry is gone.
    let each = Duration::from_millis(200);
    let end = gleaned.time_ns() + nanos(A_FEW + seconds(1));
    let mut silent = 0;
    for sequence in WHILE_IT_LIVES {
        if silent == 3 || drive.now_ns() > end {
            break;
        }
        match net.say_within(drive, REMOTE_HOST, sequence, each) {
            Ok(_) => {
                silent = 0;
                // The pace: nobody answers there.
                drive.ping("other", ip("198.51.100.99"), sequence, each)?;
            }
            Err(_) => silent += 1,
        }
    }
    Ok(())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The packet with which all began, as it arrived.
fn heard(trace: &Trace) -> Option<&Seen> {
    trace
        .since(FIRST)
        .find(|packet| packet.receiver() == Some(XTR) && packet.data().is_some())
}

fn way_back(trace: &Trace, findings: &mut Findings) {
    let Some(heard) = heard(trace) else {
        return findings.unseen(GLEAN, "a data packet from an unknown EID");
    };
    match data(trace, AT_ONCE) {
        Some(back) => findings.check(
            GLEAN,
            back.destination() == Some(REMOTE),
            [heard, back],
            format!("the return packet goes to {REMOTE}, from which the EID was heard"),
            destination(back),
        ),
        None => findings.unseen(GLEAN, "a return packet in a tunnel"),
    }
}

fn verified(trace: &Trace, findings: &mut Findings) {
    let Some(heard) = heard(trace) else {
        return findings.unseen(VERIFY, "a data packet from an unknown EID");
    };
    let host = format!("{REMOTE_HOST}/32");
    let asked = questions(trace, heard.time_ns(), &host);
    // Before anything was sent back: nothing but the packet itself asked for it.
    let by_itself = asked.iter().find(|packet| {
        to_resolver(packet) && data(trace, AT_ONCE).is_none_or(|b| b.time_ns() > packet.time_ns())
    });
    match by_itself {
        Some(question) => findings.met(VERIFY, [heard, *question], question.summary()),
        None => findings.broken(
            VERIFY,
            heard,
            format!("a Map-Request to the mapping system for {REMOTE_HOST}"),
            format!("{} Map-Requests after a packet back", asked.len()),
        ),
    }
}

fn either(trace: &Trace, findings: &mut Findings) {
    let back: Vec<&Seen> = data_since(trace, FIRST)
        .filter(|(sequence, _)| AFTER_SECOND.contains(sequence))
        .map(|(_, packet)| packet)
        .collect();
    if back.is_empty() {
        return findings.unseen(EQUAL, "return packets after a second locator was heard");
    }
    for packet in back {
        findings.check(
            EQUAL,
            [Some(REMOTE), Some(OTHER)].contains(&packet.destination()),
            packet,
            format!("to {REMOTE} or {OTHER}: both are as good"),
            destination(packet),
        );
    }
}

/// How long return packets left in a tunnel, though nobody verified anything.
fn short(trace: &Trace, findings: &mut Findings) {
    let back: Vec<&Seen> = data_since(trace, FIRST).map(|(_, packet)| packet).collect();
    let (Some(heard), Some(last)) = (heard(trace), back.last()) else {
        for row in [SHORT, THREE_SECONDS] {
            findings.unseen(row, "return packets while the gleaned entry lives");
        }
        return;
    };
    let offered = trace.since(FIRST).filter(|packet| {
        packet.receiver() == Some(XTR) && packet.link() == "site" && packet.number() > last.number()
    });
    let in_vain: Vec<&Seen> = offered.collect();
    let life = Duration::from_nanos(last.time_ns() - heard.time_ns());
    let seen = format!(
        "the last one left {:.1} s after the EID was heard; {} later ones did not",
        life.as_secs_f64(),
        in_vain.len()
    );
    findings.check(
        SHORT,
        life <= A_FEW && !in_vain.is_empty(),
        [heard, *last],
        "an entry that is not verified is gone after 10 s at the latest",
        seen.clone(),
    );
    findings.check(
        THREE_SECONDS,
        THREE.contains(&life.as_secs_f64()) && !in_vain.is_empty(),
        [heard, *last],
        "an entry that is not verified lives 3 s, a second more or less",
        seen,
    );
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_2::what_was_verified_is_not_gleaned_again",
        title: "When the mapping system has answered for a gleaned EID, data from another locator does not change the way back.",
        topology: TOPOLOGY,
        settings: SETTINGS,
        roles: &["etr"],
        features: &["glean"],
        requirements: &[VERIFY, STOPS],
        drive: verified_stays,
        judges: &[verified, stops],
        sabotages: &[
            spoils("does not verify", &[VERIFY], || swallow(asks_for_remote)),
            spoils("follows whoever spoke last", &[STOPS], || misdirect(OTHER, |sequence| AFTER_ANSWER.contains(&sequence))),
        ],
        ..Case::BASE
    }
}

fn verified_stays(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, vec![mapping(REMOTE_SITE, &[REMOTE])])?;
    let plain = DataHeader::default();
    let since = drive.mark(FIRST);
    net.hear(drive, (&net.remote, REMOTE), &plain, 1)?;
    let question = wait_verification(drive, since, REMOTE_HOST)?;
    let nonce = question.map_request().map(|request| request.nonce);
    drive.wait_for(since, "the answer at the box", SOON, |packet| {
        packet.receiver() == Some(XTR) && nonce.is_some_and(|nonce| is_reply(packet, nonce))
    })?;
    net.say(drive, REMOTE_HOST, AT_ONCE)?;
    let answered = drive.mark(KNOWN);
    net.hear(drive, (&net.other, OTHER), &plain, 2)?;
    // The fence: an unknown EID of a third locator, which is heard after the other one.
    net.tunnel((&net.mapping, STRANGER), &plain, ip(FENCE), 3)?;
    wait_verification(drive, answered, ip(FENCE))?;
    for sequence in AFTER_ANSWER {
        net.say(drive, REMOTE_HOST, sequence)?;
    }
    Ok(())
}

fn stops(trace: &Trace, findings: &mut Findings) {
    let heard = trace.since(KNOWN).find(|packet| {
        packet.receiver() == Some(XTR) && packet.source() == Some(OTHER) && packet.data().is_some()
    });
    let back: Vec<&Seen> = data_since(trace, KNOWN)
        .filter(|(sequence, _)| AFTER_ANSWER.contains(sequence))
        .map(|(_, packet)| packet)
        .collect();
    let (Some(heard), false) = (heard, back.is_empty()) else {
        return findings.unseen(
            STOPS,
            "data from another locator after the answer, and return packets",
        );
    };
    for packet in back {
        findings.check(
            STOPS,
            packet.destination() == Some(REMOTE),
            [heard, packet],
            format!("to {REMOTE}, as the mapping system says"),
            destination(packet),
        );
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_2::map_requests_are_gleaned_or_looked_up",
        title: "After a Map-Request from an unknown source EID, return traffic goes to its ITR-RLOC for a short time, or waits for a lookup.",
        topology: TOPOLOGY,
        settings: SETTINGS,
        roles: &["etr"],
        features: &["glean"],
        requirements: &[FROM_REQUEST, VERIFY],
        drive: asked_first,
        judges: &[from_request],
        sabotages: &[
            spoils("returns to who handed the Map-Request on", &[FROM_REQUEST], || misdirect(STRANGER, |sequence| sequence == AT_ONCE)),
            spoils("does not verify", &[VERIFY], || swallow(asks_for_remote)),
        ],
        ..Case::BASE
    }
}

/// Nonce of the remote site's question.
const THEIRS: u64 = 0x2b5d_0c71_9a3e_4f68;

fn asked_first(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, Vec::new())?;
    let since = drive.mark(FIRST);
    let question = ControlMessage::MapRequest(lisp::wire::MapRequest {
        source_eid: Address::from_eid(0, REMOTE_HOST),
        ..request(THEIRS, None, &[REMOTE], &format!("{HOST}/32"))
    });
    // From an address that is no ITR-RLOC.
    let from = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 35));
    net.mapping.encapsulated(
        (MAPPING, 40_011),
        RLOC,
        (from, CONTROL_FROM),
        HOST,
        &question,
    )?;
    drive.wait_for(since, "the Map-Reply to the remote site", SOON, |packet| {
        packet.sender() == Some(XTR) && is_reply(packet, THEIRS)
    })?;
    wait_verification(drive, since, REMOTE_HOST)?;
    net.say(drive, REMOTE_HOST, AT_ONCE)?;
    Ok(())
}

fn from_request(trace: &Trace, findings: &mut Findings) {
    let asked = trace.received_by(XTR).find(|packet| {
        packet
            .map_request()
            .is_some_and(|request| request.nonce == THEIRS)
    });
    let Some(asked) = asked else {
        for row in [FROM_REQUEST, VERIFY] {
            findings.unseen(row, "a Map-Request from an unknown EID");
        }
        return;
    };
    let host = format!("{REMOTE_HOST}/32");
    let lookups = questions(trace, asked.time_ns(), &host);
    match (data(trace, AT_ONCE), lookups.first()) {
        (Some(back), _) => findings.check(
            FROM_REQUEST,
            back.destination() == Some(REMOTE),
            [asked, back],
            format!("to the ITR-RLOC {REMOTE}"),
            destination(back),
        ),
        (None, Some(lookup)) => findings.met(
            FROM_REQUEST,
            [asked, *lookup],
            "nothing is sent before a lookup is answered",
        ),
        (None, None) => findings.broken(
            FROM_REQUEST,
            asked,
            format!("return traffic to {REMOTE}, or a Map-Request for {REMOTE_HOST}"),
            "neither",
        ),
    }
    findings.check(
        VERIFY,
        lookups.iter().any(|lookup| to_resolver(lookup)),
        &lookups,
        format!("a Map-Request to the mapping system for {REMOTE_HOST}"),
        format!("{} Map-Requests", lookups.len()),
    );
}
