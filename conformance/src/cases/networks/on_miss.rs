//! Two sites that have never talked: what the first packets of either direction cost (RFC 6830 4.1; RFC 9300 6).

use crate::case::Case;
use crate::cases::common::{ip, lose_incoming, lose_outgoing, seconds};
use crate::catalogue::Req;
use crate::decode::Ip;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::{Frame, Sabotage};
use crate::trace::{Seen, Trace};
use crate::words;

const BUFFER: Req = Req::new("rfc9300-6-miss-buffer");
const MISS: Req = Req::new("rfc6830-4.1-mreq-when");
const ENCAPSULATES: Req = Req::new("rfc6830-3-itr-encap");
const DECAPSULATES: Req = Req::new("rfc6830-3-etr-decap");

const HOST_A: &str = "10.1.0.10";
const HOST_B: &str = "10.2.0.10";
/// Echo requests of either host.
const PINGS: u16 = 8;
/// Where those of host-b begin.
const BACK: u16 = 100;

inventory::submit! {
    Case {
        id: "rfc9300::s6::held_packets_lose_no_ping",
        title: "With packets held at a miss, no ping between two sites is lost: not the first in either direction, and none later.",
        settings: &[("xtr-a", "on-miss: hold"), ("xtr-b", "on-miss: hold")],
        roles: &["itr", "etr"],
        requirements: &[BUFFER, MISS, ENCAPSULATES, DECAPSULATES],
        drive,
        judges: &[asks_in_both_directions, none_lost],
        sabotages: &[
            Sabotage {
                name: "loses what it holds",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[BUFFER],
                tamper: || lose_outgoing(|frame| carries(frame, 1)),
            },
            LATER_LOST, LATER_KEPT, NO_ANSWER,
        ],
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc9300::s6::dropping_loses_one_ping_in_each_direction",
        title: "With packets dropped at a miss, two first pings between two sites are lost, one for each direction, and none later.",
        settings: &[("xtr-a", "on-miss: drop"), ("xtr-b", "on-miss: drop")],
        roles: &["itr", "etr"],
        requirements: &[BUFFER, MISS, ENCAPSULATES, DECAPSULATES],
        drive,
        judges: &[asks_in_both_directions, two_lost],
        sabotages: &[
            LATER_LOST, LATER_KEPT, NO_ANSWER,
        ],
        ..Case::BASE
    }
}

const LATER_LOST: Sabotage = Sabotage {
    name: "loses a later packet",
    node: "xtr-a",
    links: &["core-a"],
    kills: &[ENCAPSULATES],
    tamper: || lose_outgoing(|frame| carries(frame, PINGS)),
};

const LATER_KEPT: Sabotage = Sabotage {
    name: "does not deliver a later packet",
    node: "xtr-b",
    links: &["site-b"],
    kills: &[DECAPSULATES],
    tamper: || lose_outgoing(|frame| frame.ip().as_ref().and_then(sequence) == Some(PINGS)),
};

const NO_ANSWER: Sabotage = Sabotage {
    name: "never hears the answer to its question",
    node: "xtr-b",
    links: &["core-b"],
    kills: &[MISS],
    tamper: || {
        lose_incoming(|frame| {
            matches!(
                frame.control(),
                Some(lisp::wire::ControlMessage::MapReply(_))
            )
        })
    },
};

/// The sequence number of an echo request.
fn sequence(ip: &Ip) -> Option<u16> {
    let icmp = ip.icmp()?;
    icmp.is_echo_request().then(|| icmp.echo().1)
}

fn carries(frame: &Frame<'_>, number: u16) -> bool {
    let inner = frame.ip().and_then(|ip| match crate::decode::lisp(&ip) {
        crate::decode::Lisp::Data { inner, .. } => inner,
        _ => None,
    });
    inner.is_some_and(|inner| sequence(&inner) == Some(number))
}

/// One after the other, each awaited: host-a's first, then host-b's.
fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-a", "xtr-b"], seconds(10))?;
    for (node, to, first, asker) in [
        ("host-a", HOST_B, 0, ["xtr-a", "xtr-b"]),
        ("host-b", HOST_A, BACK, ["xtr-b", "xtr-a"]),
    ] {
        for number in 1..=PINGS {
            drive.ping(node, ip(to), first + number, seconds(1))?;
            // A ping that was lost at a miss: the next one waits for the mapping, not for a moment.
            if first == 0 && number <= 2 {
                let asker = asker[usize::from(number) - 1];
                let what = format!("the Map-Reply at {asker}");
                drive.wait_for(0, &what, seconds(5), |packet| {
                    packet.receiver() == Some(asker) && packet.map_reply().is_some()
                })?;
            }
        }
    }
    Ok(())
}

fn asks_in_both_directions(trace: &Trace, findings: &mut Findings) {
    for (node, eid) in [("xtr-a", HOST_B), ("xtr-b", HOST_A)] {
        let questions: Vec<&Seen> = trace
            .originated(node)
            .filter(|packet| {
                packet.map_request().is_some_and(|request| {
                    let mut asked = request.records.iter().filter_map(|q| q.prefix());
                    asked.any(|asked| asked.contains(0, ip(eid)))
                })
            })
            .collect();
        findings.check(
            MISS,
            questions.len() == 1,
            &questions,
            format!("one Map-Request of {node} for {eid}"),
            questions.len().to_string(),
        );
    }
}

/// What became of a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    NotSent,
    LostOnTheWayThere,
    LostOnTheWayBack,
    Answered,
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fate::NotSent => "not sent",
            Fate::LostOnTheWayThere => "lost on its way there",
            Fate::LostOnTheWayBack => "lost on its way back",
            Fate::Answered => "answered",
        })
    }
}

fn fate(trace: &Trace, number: u16) -> Fate {
    let is = |packet: &Seen, request: bool| {
        let icmp = packet.ip().and_then(|ip| ip.icmp());
        icmp.is_some_and(|icmp| {
            icmp.echo().1 == number
                && if request {
                    icmp.is_echo_request()
                } else {
                    icmp.is_echo_reply()
                }
        })
    };
    let (from, to) = if number < BACK {
        ("host-a", "host-b")
    } else {
        ("host-b", "host-a")
    };
    let seen =
        |node: &str, request: bool| trace.received_by(node).any(|packet| is(packet, request));
    if !trace.sent_by(from).any(|packet| is(packet, true)) {
        Fate::NotSent
    } else if !seen(to, true) {
        Fate::LostOnTheWayThere
    } else if !seen(from, false) {
        Fate::LostOnTheWayBack
    } else {
        Fate::Answered
    }
}

fn numbers() -> impl Iterator<Item = u16> {
    (1..=PINGS).chain(BACK + 1..=BACK + PINGS)
}

fn none_lost(trace: &Trace, findings: &mut Findings) {
    let first = fate(trace, 1);
    let evidence: Vec<&Seen> = trace
        .sent_by("host-a")
        .filter(|p| p.ip().and_then(sequence) == Some(1))
        .collect();
    findings.check(
        BUFFER,
        first == Fate::Answered,
        &evidence,
        "the first ping answered, though neither xTR knew the way",
        first.to_string(),
    );
    later(trace, findings, numbers().skip(1));
}

fn two_lost(trace: &Trace, findings: &mut Findings) {
    let fates = [1, 2, 3].map(|number| fate(trace, number));
    let evidence: Vec<&Seen> = trace
        .sent_by("host-a")
        .filter(|packet| matches!(packet.ip().and_then(sequence), Some(1..=3)))
        .collect();
    let lost = [
        Fate::LostOnTheWayThere,
        Fate::LostOnTheWayBack,
        Fate::Answered,
    ];
    let seen = words::listed(fates);
    if fates == [Fate::Answered; 3] {
        // Nobody has to drop: told to, or not.
        findings.recorded(
            BUFFER,
            &evidence,
            "none lost: packets were held all the same",
        );
    } else {
        findings.check(
            BUFFER,
            fates == lost,
            &evidence,
            "the first ping lost on its way there, the second on its way back, the third answered",
            seen,
        );
    }
    later(trace, findings, numbers().skip(2));
}

/// Pings after the first ones: all answered.
fn later(trace: &Trace, findings: &mut Findings, numbers: impl Iterator<Item = u16>) {
    for number in numbers {
        let way: Vec<&Seen> = trace
            .iter()
            .filter(|packet| {
                let inner = packet.data().map(|(_, inner)| inner);
                let ip = inner.or(packet.ip());
                ip.and_then(|ip| ip.icmp())
                    .is_some_and(|icmp| icmp.echo().1 == number)
            })
            .collect();
        let (holds, requirement) = match fate(trace, number) {
            Fate::NotSent => {
                findings.unseen(ENCAPSULATES, format!("echo request {number}"));
                continue;
            }
            Fate::Answered => {
                findings.met(DECAPSULATES, &way, "later pings are all answered");
                (true, ENCAPSULATES)
            }
            _ => (false, lost_by(&way)),
        };
        findings.check(
            requirement,
            holds,
            &way,
            "later pings are all answered",
            format!("echo request {number}: {}", fate(trace, number)),
        );
    }
}

/// A packet that went into a tunnel router and did not come out was lost by it: by its ITR half if it came plainly.
fn lost_by(way: &[&Seen]) -> Req {
    match way.last() {
        Some(last) if last.is_data() => DECAPSULATES,
        _ => ENCAPSULATES,
    }
}
