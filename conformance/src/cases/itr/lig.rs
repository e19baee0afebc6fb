//! Map-Requests by hand: lig (RFC 6835).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::wire::ControlMessage;
use lisp::{Address, CONTROL_PORT};

use crate::case::Case;
use crate::cases::common::{incoming, lose_incoming, outgoing, seconds, udp};
use crate::cases::one_xtr::*;
use crate::catalogue::Req;
use crate::decode::Lisp;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::trace::{Seen, Trace};
use crate::words;

const ASKS: Req = Req::new("rfc6835-4.1-lig-request");
const ITSELF: Req = Req::new("rfc6835-4.1-lig-self");

const UNANSWERED: &str = "lig for an EID about which nobody answers";
const ANSWERED: &str = "lig for an EID of a mapping";
const OURSELVES: &str = "lig self";

/// Nobody answers for it.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 3, 0, 10));
/// The site's own prefix, host bits zero.
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 0));
const TIMES: usize = 3;
/// Two seconds, more or less: the host tool's default.
const GAP: std::ops::RangeInclusive<f64> = 1.0..=3.0;
/// Until lig gives up, whatever its patience.
const PATIENCE: Duration = Duration::from_secs(20);

inventory::submit! {
    Case {
        id: "rfc6835::s4_1::lig_asks_the_map_resolver_up_to_three_times",
        title: "lig sends an Encapsulated Map-Request to the Map-Resolver, three times two seconds apart while no answer comes, and none after an answer.",
        topology: TOPOLOGY,
        timeout: seconds(60),
        roles: &["itr"],
        features: &["lig"],
        requirements: &[ASKS],
        drive: |drive| {
            let _net = Net::up(drive, vec![mapping(REMOTE_SITE, &[REMOTE])])?;
            drive.mark(UNANSWERED);
            drive.lig(XTR, Some(UNKNOWN), PATIENCE)?;
            drive.mark(ANSWERED);
            drive.lig(XTR, Some(REMOTE_HOST), PATIENCE)
        },
        judges: &[three_times, once],
        sabotages: &[
            spoils("asks twice", &[ASKS], || {
                let mut asked = 0;
                swallow(move |frame| {
                    let request = matches!(frame.control(), Some(ControlMessage::Encapsulated(_)));
                    asked += u32::from(request);
                    request && asked == 2
                })
            }),
            spoils("asks twice at a time", &[ASKS], || Box::new(|way, frame| match frame.control() {
                Some(ControlMessage::Encapsulated(_)) if way == Way::FromVictim => PacketFate::Duplicate(Duration::from_millis(5)),
                _ => PacketFate::Forward,
            })),
            spoils("asks somebody else", &[ASKS], || crate::cases::common::edit_outgoing(|frame| {
                if matches!(frame.control(), Some(ControlMessage::Encapsulated(_))) {
                    redirect(frame, OTHER);
                }
            })),
            spoils("does not hear the answer", &[ASKS], || lose_incoming(|frame| {
                matches!(frame.control(), Some(ControlMessage::MapReply(_)))
            })),
        ],
        ..Case::BASE
    }
}

fn asked_between<'a>(trace: &'a Trace, from: &str, to: &str, eid: IpAddr) -> Vec<&'a Seen> {
    let about = lisp::EidPrefix::host(0, eid);
    let sent = trace.between(from, to);
    sent.filter(|packet| packet.sender() == Some(XTR) && question(packet) == Some(about))
        .collect()
}

fn three_times(trace: &Trace, findings: &mut Findings) {
    if trace.mark(UNANSWERED).is_none() {
        return findings.unseen(ASKS, "lig for an EID");
    }
    let asked = asked_between(trace, UNANSWERED, ANSWERED, UNKNOWN);
    let gaps: Vec<f64> = asked
        .windows(2)
        .map(|pair| Duration::from_nanos(pair[1].time_ns() - pair[0].time_ns()).as_secs_f64())
        .collect();
    let paced = gaps.iter().all(|gap| GAP.contains(gap));
    let sent = asked.iter().all(|packet| to_resolver(packet));
    findings.check(
        ASKS,
        asked.len() == TIMES && paced && sent,
        &asked,
        format!("{TIMES} Encapsulated Map-Requests for {UNKNOWN} to {MAPPING}, about 2 s apart"),
        format!("{} Map-Requests, {} apart", asked.len(), words::gaps(&gaps)),
    );
}

fn once(trace: &Trace, findings: &mut Findings) {
    if trace.mark(ANSWERED).is_none() {
        return findings.unseen(ASKS, "lig for an EID of a mapping");
    }
    let asked = asked_between(trace, ANSWERED, "end of the drive", REMOTE_HOST);
    findings.check(
        ASKS,
        asked.len() == 1 && to_resolver(asked[0]),
        &asked,
        format!("one Encapsulated Map-Request for {REMOTE_HOST} to {MAPPING}, which is answered"),
        format!("{} Map-Requests", asked.len()),
    );
}

inventory::submit! {
    Case {
        id: "rfc6835::s4_1::lig_self_asks_for_the_own_prefix",
        title: "lig self asks for the first own EID-Prefix with its host bits zero, with the same source EID; the Map-Request comes back to the site, whose answer is heard.",
        topology: TOPOLOGY,
        timeout: seconds(60),
        roles: &["itr", "etr"],
        features: &["lig"],
        requirements: &[ITSELF],
        drive: turned_back,
        judges: &[itself],
        sabotages: &[
            spoils("asks for a host", &[ITSELF], || outgoing(|message| match message {
                ControlMessage::MapRequest(request) => {
                    request.records[0].eid = Address::from_eid(0, HOST);
                    true
                }
                _ => false,
            })),
            spoils("has no source EID", &[ITSELF], || outgoing(|message| match message {
                ControlMessage::MapRequest(request) => {
                    request.source_eid = Address::None;
                    true
                }
                _ => false,
            })),
            spoils("does not hear itself", &[ITSELF], || incoming(|message| match message {
                ControlMessage::MapRequest(request) => {
                    // Its answer goes to a nonce that nobody used.
                    request.nonce ^= 1;
                    true
                }
                _ => false,
            })),
        ],
        ..Case::BASE
    }
}

/// The mapping system hands the Map-Request back to the site that asks, as a Map-Server does.
fn turned_back(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let mut mapping = drive.peer("mapping")?;
    mapping.respond(|packet, lisp| {
        if let Some(notify) = confirmed(packet, lisp) {
            return vec![notify];
        }
        let Lisp::Control {
            message,
            inner: Some(inner),
        } = lisp
        else {
            return Vec::new();
        };
        match &*inner.message {
            ControlMessage::MapRequest(_) => vec![udp(
                (MAPPING, CONTROL_PORT),
                (RLOC, CONTROL_PORT),
                &message.to_vec(),
            )],
            _ => Vec::new(),
        }
    })?;
    drive.mark(OURSELVES);
    drive.lig(XTR, None, PATIENCE)
}

fn itself(trace: &Trace, findings: &mut Findings) {
    let asked: Vec<&Seen> = trace
        .since(OURSELVES)
        .filter(|packet| packet.sender() == Some(XTR) && to_resolver(packet))
        .filter(|packet| packet.map_request().is_some())
        .collect();
    let Some(first) = asked.first() else {
        return findings.broken(
            ITSELF,
            Vec::new(),
            "a Map-Request to the Map-Resolver",
            "none",
        );
    };
    let source = first
        .map_request()
        .and_then(|request| request.source_eid.ip());
    let eid = question(first).map(|asked| asked.prefix.addr());
    findings.check(
        ITSELF,
        eid == Some(OWN) && source == Some(OWN),
        *first,
        format!("EID {OWN}, source EID {OWN}"),
        format!(
            "EID {}, source EID {}",
            words::or_none(eid),
            words::or_none(source)
        ),
    );
    let back = trace
        .since(OURSELVES)
        .find(|packet| packet.receiver() == Some(XTR) && packet.map_request().is_some());
    match back {
        Some(back) => findings.check(
            ITSELF,
            asked.len() == 1,
            [*first, back],
            "the site's own answer ends the asking",
            format!("{} Map-Requests", asked.len()),
        ),
        None => findings.unseen(ITSELF, "the Map-Request handed back to the site"),
    }
}
