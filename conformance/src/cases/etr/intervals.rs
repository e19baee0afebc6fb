//! When an ETR registers again (RFC 6833 4.2, RFC 9301 5.7).

use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::wire::ControlMessage;

use super::common::*;
use super::registration::{resigned, signed_again};
use crate::case::{Case, Timer};
use crate::catalogue::Req;
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};
use crate::words;

const INTERVAL: Req = Req::new("rfc6833-4.2-reg-60s");
const M_USAGE: Req = Req::new("rfc6833-4.2-m-usage");

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::registration_is_repeated",
        title: "A confirmed registration is repeated at the register interval.",
        topology: TOPOLOGY,
        timers: &[Timer {
            node: ETR,
            name: "register-interval",
            text: Duration::from_secs(60),
            short: Duration::from_secs(1),
        }],
        timeout: Duration::from_secs(600),
        start: false,
        roles: &["etr"],
        requirements: &[INTERVAL, M_USAGE],
        drive: |drive| {
            let _net = Net::registered(drive)?;
            let interval = drive.timer(ETR, "register-interval");
            let mut since = drive.mark("the first is confirmed");
            for count in 1..=4 {
                let what = format!("Map-Register {count} after the first");
                let next = drive.wait_for(since, &what, interval * 3, |packet| {
                    packet.sender() == Some(ETR) && packet.map_register().is_some()
                })?;
                since = next.time_ns() + 1;
            }
            Ok(())
        },
        judges: &[repeated],
        sabotages: &[
            Sabotage {
                name: "registers twice as often",
                node: ETR,
                links: &["rloc"],
                kills: &[INTERVAL],
                tamper: || Box::new(|way, frame| {
                    if way == Way::FromVictim && matches!(frame.control(), Some(ControlMessage::MapRegister(_))) {
                        return PacketFate::Duplicate(Duration::from_millis(500));
                    }
                    PacketFate::Forward
                }),
            },
            Sabotage {
                name: "registers half as often",
                node: ETR,
                links: &["rloc"],
                kills: &[INTERVAL],
                tamper: || {
                    let mut count = 0;
                    swallow(move |frame| {
                        let register = matches!(frame.control(), Some(ControlMessage::MapRegister(_)));
                        count += u32::from(register);
                        register && count % 2 == 0
                    })
                },
            },
        ],
        ..Case::BASE
    }
}

fn repeated(trace: &Trace, findings: &mut Findings) {
    let settings = trace
        .topology
        .as_ref()
        .and_then(|topology| topology.node(ETR))
        .map(|node| &node.settings);
    let short = settings
        .and_then(|settings| settings.get("register-interval"))
        .is_some();
    let sent: Vec<&Seen> = trace
        .between("the first is confirmed", "end of the drive")
        .filter(|packet| packet.sender() == Some(ETR) && packet.map_register().is_some())
        .collect();
    let (Some(first), Some(last)) = (sent.first(), sent.last()) else {
        findings.broken(
            INTERVAL,
            Vec::new(),
            "Map-Registers after the first",
            "none",
        );
        return;
    };
    let gaps = u64::try_from(sent.len() - 1).unwrap_or(0).max(1);
    let mean = Duration::from_nanos((last.time_ns() - first.time_ns()) / gaps);
    // In the first five minutes an ETR may register every 20 s (RFC 6833 4.2).
    let (least, most) = if short { (0.8, 1.2) } else { (19.0, 72.0) };
    findings.check(
        INTERVAL,
        (least..=most).contains(&mean.as_secs_f64()),
        &sent,
        format!("{least} to {most} s between Map-Registers"),
        format!("{:.2} s on average", mean.as_secs_f64()),
    );
    let with_m = sent
        .iter()
        .filter(|packet| {
            packet
                .map_register()
                .is_some_and(|register| register.want_map_notify)
        })
        .count();
    findings.recorded(
        M_USAGE,
        &sent,
        format!("M = 1 in {with_m} of {}", sent.len()),
    );
}

const AGAIN: Req = Req::new("rfc9301-5.7-reg-retransmit");
const INCREASES: Req = Req::new("rfc9301-5.6-nonce-increment");
const AFTER_RESTART: Req = Req::new("rfc9301-5.6-new-key-on-restart");
const SAME_NONCE: Req = Req::new("rfc9301-5.6-retransmission-same-nonce");

inventory::submit! {
    Case {
        id: "rfc9301::s5_7::unanswered_map_register_is_sent_again",
        title: "A Map-Register whose Map-Notify does not come is sent again after 1 and 2 seconds; its nonce grows, over a restart too.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc9300],
        start: false,
        roles: &["etr"],
        requirements: &[AGAIN, INCREASES, AFTER_RESTART, SAME_NONCE],
        drive: |drive| {
            let _net = Net::peers(drive)?;
            let mut since = drive.mark("the first start");
            drive.start(ETR)?;
            for count in 1..=3 {
                let what = format!("Map-Register {count}, all unanswered");
                let next = drive.wait_for(since, &what, Duration::from_secs(5), |packet| {
                    packet.sender() == Some(ETR) && packet.map_register().is_some()
                })?;
                since = next.time_ns() + 1;
            }
            drive.mark("the stop");
            drive.stop(ETR)?;
            let again = drive.mark("the second start");
            drive.start(ETR)?;
            drive.wait_for(again, "a Map-Register after the restart", SOON, |packet| {
                packet.sender() == Some(ETR) && packet.map_register().is_some()
            })?;
            Ok(())
        },
        judges: &[sent_again],
        sabotages: &[
            Sabotage {
                name: "waits three seconds before it tries again",
                node: ETR,
                links: &["rloc"],
                kills: &[AGAIN],
                tamper: || {
                    let mut count = 0;
                    swallow(move |frame| {
                        let register = matches!(frame.control(), Some(ControlMessage::MapRegister(_)));
                        count += u32::from(register);
                        register && count == 2
                    })
                },
            },
            resigned("registers with one nonce for ever", &[INCREASES, AFTER_RESTART], || signed_again(|register| register.nonce = 7)),
        ],
        ..Case::BASE
    }
}

fn sent_again(trace: &Trace, findings: &mut Findings) {
    let of = |from: &str, to: &str| -> Vec<&Seen> {
        trace
            .between(from, to)
            .filter(|packet| packet.sender() == Some(ETR) && packet.map_register().is_some())
            .collect()
    };
    let first = of("the first start", "the stop");
    let nonces: Vec<u64> = first
        .iter()
        .filter_map(|packet| Some(packet.map_register()?.nonce))
        .collect();
    let gaps: Vec<f64> = first
        .windows(2)
        .map(|pair| Duration::from_nanos(pair[1].time_ns() - pair[0].time_ns()).as_secs_f64())
        .collect();
    let right = gaps.len() >= 2 && (0.9..1.5).contains(&gaps[0]) && (1.8..2.6).contains(&gaps[1]);
    findings.check(
        AGAIN,
        right,
        &first,
        "sent again after 1 s and after 2 s more",
        words::gaps(&gaps),
    );
    findings.check(
        INCREASES,
        nonces.len() > 1 && nonces.windows(2).all(|pair| pair[0] < pair[1]),
        &first,
        "nonces that grow with each Map-Register",
        format!("nonces {}", words::nonces(&nonces)),
    );
    findings.recorded(
        SAME_NONCE,
        &first,
        format!(
            "nonces of a Map-Register and its retransmissions: {}",
            words::nonces(&nonces)
        ),
    );
    let second = of("the second start", "end of the drive");
    let after = second
        .first()
        .and_then(|packet| Some(packet.map_register()?.nonce));
    findings.check(
        AFTER_RESTART,
        after > nonces.last().copied(),
        &second,
        format!("a nonce above {}", words::nonce(nonces.last())),
        format!("nonce {}", words::nonce(after)),
    );
}

const QUICK: Req = Req::new("rfc6833-4.2-quick-reg");

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::quick_registration_keeps_20_seconds",
        title: "After its start an ETR registers again within 60 s, and not before 20 s have passed.",
        topology: TOPOLOGY,
        timeout: Duration::from_secs(150),
        slow: true,
        start: false,
        roles: &["etr"],
        requirements: &[QUICK],
        drive: |drive| {
            let _net = Net::registered(drive)?;
            let mut since = drive.mark("the first is confirmed");
            for count in 1..=2 {
                let what = format!("Map-Register {count} after the first");
                let next = drive.wait_for(since, &what, Duration::from_secs(66), |packet| {
                    packet.sender() == Some(ETR) && packet.map_register().is_some()
                })?;
                since = next.time_ns() + 1;
            }
            Ok(())
        },
        judges: &[quick],
        sabotages: &[Sabotage {
            name: "registers again after ten seconds",
            node: ETR,
            links: &["rloc"],
            kills: &[QUICK],
            tamper: || Box::new(|way, frame| {
                if way == Way::FromVictim && matches!(frame.control(), Some(ControlMessage::MapRegister(_))) {
                    return PacketFate::Duplicate(Duration::from_secs(10));
                }
                PacketFate::Forward
            }),
        }],
        ..Case::BASE
    }
}

fn quick(trace: &Trace, findings: &mut Findings) {
    let end = trace.mark("end of the drive").unwrap_or(u64::MAX);
    let sent: Vec<&Seen> = registers(trace)
        .into_iter()
        .filter(|packet| packet.time_ns() < end)
        .collect();
    let gaps: Vec<f64> = sent
        .windows(2)
        .map(|pair| Duration::from_nanos(pair[1].time_ns() - pair[0].time_ns()).as_secs_f64())
        .collect();
    findings.check(
        QUICK,
        !gaps.is_empty() && gaps.iter().all(|gap| (19.0..=72.0).contains(gap)),
        &sent,
        "19 to 72 s between Map-Registers that are confirmed",
        words::gaps(&gaps),
    );
}
