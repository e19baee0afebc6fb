//! EIDs that move: the ETRs that they left hear of it (eid-mobility 4.2.3), until they acknowledge (RFC 9301 5.7).

use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::wire::{Authentication, ControlMessage, MapNotify, MapNotifyAck, MapRecord};

use super::allowed::MOBILE_SITES;
use super::common::*;
use super::script::{Step, ask, judge, register, run};
use crate::case::Case;
use crate::cases::common::{
    ip, key, locator, lose_incoming, lose_outgoing, outgoing, prefix, record, seconds,
};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::{Frame, Sabotage};
use crate::trace::{Seen, Trace};
use crate::words;

const OLD_PLACE: Req = Req::new("eidmob01-4.2.3-notify-old");
const AGAIN: Req = Req::new("rfc9301-5.7-notify-retransmit");
const FORWARD: Req = Req::new("rfc6833-4.3-ms-forward");

/// Where the EIDs were: both are etr-a's.
const OLD: [&str; 2] = ["192.0.2.2", "2001:db8:0:2::2"];
const NEW: &str = "192.0.2.34";
const EIDS: [&str; 2] = ["10.2.7.7/32", "[7]10.2.7.7/32"];

fn mapping(eid: &str, rlocs: &[&str]) -> Vec<MapRecord> {
    let locators = rlocs.iter().map(|rloc| locator(rloc, 1, 100)).collect();
    vec![record(eid, locators)]
}

/// A Map-Notify that confirms nothing: it tells etr-a of `eid` at its new place.
fn tells_of(packet: &Seen, eid: &str) -> bool {
    packet.map_notify().is_some_and(|notify| {
        notify
            .records
            .iter()
            .any(|record| record.eid_prefix() == Some(prefix(eid)) && rlocs(record) == [NEW])
    }) && packet.sender() == Some(MS)
        && packet.destination().is_some_and(|to| to != ip(NEW))
}

inventory::submit! {
    Case {
        id: "eidmob01::s4_2_3::the_old_place_is_told",
        title: "When a host EID is registered from another place, the whole locator-set that it had is told by Map-Notifies, and questions go to the new place; the same in an Instance ID.",
        topology: TOPOLOGY,
        settings: &[(MS, MOBILE_SITES)],
        roles: &["ms"],
        requirements: &[OLD_PLACE, FORWARD],
        drive: |drive| {
            run(drive, &moves())?;
            for eid in EIDS {
                for old in OLD {
                    let what = format!("the Map-Notify for {old} about {eid}");
                    drive.wait_for(0, &what, SOON, |packet| {
                        tells_of(packet, eid) && packet.destination() == Some(ip(old))
                    })?;
                }
            }
            Ok(())
        },
        judges: &[|trace, findings| {
            judge(trace, findings, &moves());
            for eid in EIDS {
                for old in OLD {
                    told(trace, findings, eid, old);
                }
            }
        }],
        sabotages: &[
            Sabotage {
                name: "tells nobody",
                node: MS,
                links: &[],
                kills: &[OLD_PLACE],
                tamper: || lose_outgoing(|frame| {
                    let to_old = frame.ip().is_some_and(|ip| ip.destination != crate::cases::common::ip(NEW));
                    to_old && matches!(frame.control(), Some(ControlMessage::MapNotify(notify)) if is_new(&notify))
                }),
            },
            Sabotage {
                name: "tells one locator alone",
                node: MS,
                links: &[],
                kills: &[OLD_PLACE],
                tamper: || lose_outgoing(|frame| {
                    frame.ip().is_some_and(|ip| ip.destination.is_ipv6())
                        && matches!(frame.control(), Some(ControlMessage::MapNotify(_)))
                }),
            },
            Sabotage {
                name: "tells the old locator-set",
                node: MS,
                links: &[],
                kills: &[OLD_PLACE],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapNotify(notify) if is_new(notify) => {
                        notify.records[0].locators[0].rloc = rloc("192.0.2.2");
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "keeps the old place",
                node: MS,
                links: &[],
                kills: &[FORWARD],
                tamper: || lose_incoming(|frame| frame.ip().is_some_and(|ip| ip.source == crate::cases::common::ip(NEW))),
            },
        ],
        ..Case::BASE
    }
}

fn is_new(notify: &MapNotify) -> bool {
    notify.records.iter().any(|record| rlocs(record) == [NEW])
}

fn moves() -> Vec<Step> {
    let site = key("key-of-site-b");
    let mut steps = Vec::new();
    for eid in EIDS {
        steps.push(register("etr-a", &site, mapping(eid, &OLD)).confirmed());
        steps.push(ask(eid).forwarded(&OLD));
        steps.push(register("etr-b", &site, mapping(eid, &[NEW])).confirmed());
        steps.push(ask(eid).forwarded(&[NEW]).shows(&[FORWARD]));
    }
    steps
}

fn told(trace: &Trace, findings: &mut Findings, eid: &str, old: &str) {
    let notify = trace
        .originated(MS)
        .find(|packet| tells_of(packet, eid) && packet.destination() == Some(ip(old)));
    let expected =
        format!("a Map-Notify to {old} that {eid} is at {NEW} now, authentic, to port 4342");
    let Some(notify) = notify else {
        findings.broken(OLD_PLACE, Vec::new(), expected, "none");
        return;
    };
    let udp = notify.udp();
    let payload = udp.map(|udp| udp.payload.clone()).unwrap_or_default();
    let authentic = lisp::auth::verify(&payload, &key("key-of-site-b"), &[]);
    let port = udp.map(|udp| udp.destination_port);
    findings.check(
        OLD_PLACE,
        authentic.is_ok() && port == Some(lisp::CONTROL_PORT),
        notify,
        expected,
        match authentic {
            Ok(()) => notify.summary(),
            Err(problem) => format!("{}: {problem}", notify.summary()),
        },
    );
}

/// Gaps of a Map-Notify that nobody acknowledges, in seconds: three more at the first interval, three with doubled ones.
const GAPS: [f64; 6] = [3.0, 3.0, 3.0, 6.0, 12.0, 24.0];

fn move_once() -> Vec<Step> {
    let site = key("key-of-site-b");
    vec![
        register("etr-a", &site, mapping(EIDS[0], &OLD[..1])).confirmed(),
        register("etr-b", &site, mapping(EIDS[0], &[NEW])).confirmed(),
    ]
}

/// The unsolicited Map-Notifies in their order.
fn notices(trace: &Trace) -> Vec<&Seen> {
    trace
        .originated(MS)
        .filter(|packet| tells_of(packet, EIDS[0]))
        .collect()
}

fn gaps(notices: &[&Seen]) -> Vec<f64> {
    notices
        .windows(2)
        .map(|pair| Duration::from_nanos(pair[1].time_ns() - pair[0].time_ns()).as_secs_f64())
        .collect()
}

/// Waits for the next unsolicited Map-Notify after a moment.
fn next(drive: &Drive<'_>, since: u64, within: Duration) -> Result<Seen, Stop> {
    drive.wait_for(since, "an unsolicited Map-Notify", within, |packet| {
        tells_of(packet, EIDS[0])
    })
}

inventory::submit! {
    Case {
        id: "rfc9301::s5_7::an_unsolicited_map_notify_is_repeated_until_acknowledged",
        title: "A Map-Notify that was not asked for is sent again after 3 s with the same nonce; an authentic Map-Notify-Ack ends that, a wrong one does not.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc9300],
        roles: &["ms"],
        requirements: &[AGAIN],
        drive: |drive| {
            run(drive, &move_once())?;
            let first = next(drive, 0, SOON)?;
            acknowledge(drive, &first, "no-key-of-site-b")?;
            let second = next(drive, first.time_ns() + 1, seconds(6))?;
            drive.mark("the acknowledgement");
            acknowledge(drive, &second, "key-of-site-b")?;
            // It would come after three seconds again; an ETR's move after that is the fence.
            let none = next(drive, second.time_ns() + 1, Duration::from_millis(4200));
            match none {
                Err(Stop::NotSeen(_)) => Ok(()),
                other => other.map(drop),
            }
        },
        judges: &[acknowledged],
        sabotages: &[
            Sabotage {
                name: "takes no acknowledgement",
                node: MS,
                links: &[],
                kills: &[AGAIN],
                tamper: || lose_incoming(|frame| matches!(frame.control(), Some(ControlMessage::MapNotifyAck(_)))),
            },
            Sabotage {
                name: "takes any acknowledgement",
                node: MS,
                links: &[],
                kills: &[AGAIN],
                tamper: || crate::cases::common::edit_incoming(|frame| {
                    frame.edit_signed(&key("key-of-site-b"), |message| matches!(message, ControlMessage::MapNotifyAck(_)));
                }),
            },
            Sabotage {
                name: "says it once",
                node: MS,
                links: &[],
                kills: &[AGAIN],
                tamper: once,
            },
        ],
        ..Case::BASE
    }
}

/// Loses all but the first unsolicited Map-Notify.
fn once() -> crate::sabotage::Tamper {
    let mut count = 0;
    Box::new(move |way, frame: &mut Frame<'_>| {
        if way == Way::FromVictim
            && frame
                .ip()
                .is_some_and(|ip| ip.destination == crate::cases::common::ip(OLD[0]))
            && matches!(frame.control(), Some(ControlMessage::MapNotify(notify)) if is_new(&notify))
        {
            count += 1;
            if count > 1 {
                return PacketFate::Drop;
            }
        }
        PacketFate::Forward
    })
}

fn acknowledge(drive: &Drive<'_>, notify: &Seen, secret: &str) -> Result<(), Stop> {
    let etr = drive.peer("etr-a")?;
    let (Some(notify), key) = (notify.map_notify(), key(secret)) else {
        return Ok(());
    };
    let ack = MapNotifyAck(MapNotify {
        auth: Authentication {
            data: Vec::new(),
            ..key.blank()
        },
        ..notify.clone()
    });
    let octets = ack.to_signed_vec(&key);
    let from = (etr.address(), lisp::CONTROL_PORT);
    etr.udp(from, (drive.address(MS)?, lisp::CONTROL_PORT), &octets)?;
    Ok(())
}

fn acknowledged(trace: &Trace, findings: &mut Findings) {
    let notices = notices(trace);
    let gaps = gaps(&notices);
    let nonces: Vec<u64> = notices
        .iter()
        .filter_map(|packet| Some(packet.map_notify()?.nonce))
        .collect();
    let same = nonces.windows(2).all(|pair| pair[0] == pair[1]);
    let right = gaps.len() == 1 && (2.5..4.0).contains(&gaps[0]) && same;
    findings.check(
        AGAIN,
        right,
        &notices,
        "twice, 3 s apart, with one nonce: not after the acknowledgement, and in spite of the wrong one",
        format!(
            "{} times, {} apart, nonces {}",
            notices.len(),
            words::gaps(&gaps),
            words::nonces(&nonces)
        ),
    );
}

inventory::submit! {
    Case {
        id: "rfc9301::s5_7::an_unsolicited_map_notify_is_given_up",
        title: "Without an acknowledgement a Map-Notify is repeated three times after 3 s each and three times with doubled intervals, and then no more.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc9300],
        timeout: seconds(180),
        slow: true,
        roles: &["ms"],
        requirements: &[AGAIN],
        drive: |drive| {
            run(drive, &move_once())?;
            let mut since = 0;
            for gap in [3.0].iter().chain(&GAPS) {
                let packet = next(drive, since, Duration::from_secs_f64(gap * 1.3 + 2.0))?;
                since = packet.time_ns() + 1;
            }
            match next(drive, since, seconds(60)) {
                Err(Stop::NotSeen(_)) => Ok(()),
                other => other.map(drop),
            }
        },
        judges: &[|trace, findings| {
            let notices = notices(trace);
            let gaps = gaps(&notices);
            // Whether the last of the three is followed by 3 or by 6 seconds can be read either way.
            let steady = gaps.iter().take(2).all(|gap| (2.5..4.0).contains(gap));
            let growing = gaps.windows(2).skip(1).all(|pair| pair[1] >= pair[0] * 0.9);
            findings.check(
                AGAIN,
                (5..=6).contains(&gaps.len()) && steady && growing && gaps.last().is_some_and(|last| *last > 10.0),
                &notices,
                "up to seven, 3 s apart at first, then at doubled intervals",
                format!("{} times, {} apart", notices.len(), words::gaps(&gaps)),
            );
        }],
        sabotages: &[Sabotage {
            name: "says it once",
            node: MS,
            links: &[],
            kills: &[AGAIN],
            tamper: once,
        }],
        ..Case::BASE
    }
}
