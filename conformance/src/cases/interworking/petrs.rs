//! A site with two PETRs: the better one is used, left when it does not answer probes, and taken again (RFC 6832 6.1).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lisp::wire::{Action, ControlMessage};

use super::Ping;
use super::probed::{answers_probes, is_probe, is_probe_answer};
use crate::case::Case;
use crate::cases::common::{edit_outgoing, ip, mapping_system, negative, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Peer, Stop};
use crate::finding::Findings;
use crate::sabotage::{Frame, Sabotage};
use crate::trace::{Seen, Trace};

const USES_PETR: Req = Req::new("rfc6832-6.1-itr-use-petr");
const LOWEST: Req = Req::new("rfc6830-6.1.4-priority-lowest");
const FALLBACK: Req = Req::new("rfc6830-6.2-fallback");
const RETESTED: Req = Req::new("rfc6830-6.3-probe-down");
const DIRECT: Req = Req::new("rfc6830-6.3.2-probe-direct");

const LEGACY: &str = "203.0.113.10";
const BETTER: &str = "192.0.2.34";
const WORSE: &str = "192.0.2.66";

const BOTH: &str = "both PETRs answer";
const SILENT: &str = "the better PETR falls silent";
const LEFT: &str = "the better PETR is left";
const AGAIN: &str = "the better PETR answers again";
const REJOINED: &str = "the better PETR is in use again";

/// Packets of each settled phase.
const PACKETS: u16 = 6;

inventory::submit! {
    Case {
        id: "rfc6832::s6_1::the_best_petr_that_answers_is_used",
        title: "Of two PETRs the one with the lower priority is used; when it does not answer probes the other is, until it answers again.",
        topology: "one-xtr",
        settings: &[(
            "xtr",
            "{use-petr: [{address: 192.0.2.34, priority: 1}, {address: 192.0.2.66, priority: 2}], rloc-probing: {interval: 1s}}",
        )],
        roles: &["itr"],
        features: &["petr"],
        requirements: &[USES_PETR, LOWEST, FALLBACK, RETESTED, DIRECT],
        timeout: seconds(90),
        start: false,
        drive,
        judges: &[best_one, leaves_and_returns, probes],
        sabotages: &[
            Sabotage {
                name: "takes the worse one",
                node: "xtr",
                links: &["rloc"],
                kills: &[LOWEST],
                tamper: || edit_outgoing(|frame| divert(frame, BETTER, [192, 0, 2, 66])),
            },
            Sabotage {
                name: "stays with the silent one",
                node: "xtr",
                links: &["rloc"],
                kills: &[FALLBACK],
                tamper: || edit_outgoing(|frame| divert(frame, WORSE, [192, 0, 2, 34])),
            },
            Sabotage {
                name: "never hears the one that returns",
                node: "xtr",
                links: &["rloc"],
                kills: &[RETESTED],
                tamper: || {
                    // From the first packet that goes to the worse one.
                    let mut left = false;
                    Box::new(move |way, frame| {
                        use harness::inline::{PacketFate, Way};
                        let ip = frame.ip();
                        left |= way == Way::FromVictim
                            && super::is_data(frame)
                            && ip.as_ref().is_some_and(|ip| ip.destination == self::ip(WORSE));
                        let from_better = ip.is_some_and(|ip| ip.source == self::ip(BETTER));
                        if left && way == Way::ToVictim && from_better { PacketFate::Drop } else { PacketFate::Forward }
                    })
                },
            },
            Sabotage {
                name: "forgets its PETRs",
                node: "xtr",
                links: &["rloc"],
                kills: &[USES_PETR],
                tamper: || edit_outgoing(super::untunnel),
            },
            Sabotage {
                name: "probes inside an Encapsulated Control Message",
                node: "xtr",
                links: &["rloc"],
                kills: &[DIRECT],
                tamper: || edit_outgoing(|frame| {
                    if let Some(message @ ControlMessage::MapRequest(_)) = frame.control() {
                        let (from, to) = (self::ip("192.0.2.2"), self::ip(BETTER));
                        let ecm = lisp::wire::Ecm::wrap(from, to, 4342, 4342, 64, &message);
                        let octets = ControlMessage::Encapsulated(ecm).to_vec();
                        frame.edit_udp(|_, payload| {
                            *payload = octets;
                            true
                        });
                    }
                }),
            },
        ],
        ..Case::BASE
    }
}

/// A data packet to one of them goes to the other.
fn divert(frame: &mut Frame<'_>, from: &str, to: [u8; 4]) {
    let concerned = super::is_data(frame)
        && frame
            .ip()
            .is_some_and(|packet| packet.destination == ip(from));
    if concerned {
        frame.edit_addresses(|header| {
            if let lisp::ip::IpHeader::V4(v4) = header {
                v4.destination = to.into();
            }
            true
        });
    }
}

/// Sends echo requests out of the site.
struct Sender {
    site: Peer,
    next: u16,
}

impl Sender {
    fn send(&mut self) -> Result<Ping, Stop> {
        self.next += 1;
        let echo = Echo::new(self.site.address(), ip(LEGACY), self.next);
        self.site.send(&echo.request())?;
        Ok(Ping::Request(self.next))
    }

    /// Sends until one of what is sent from now on arrives at a PETR.
    fn until(&mut self, drive: &Drive<'_>, petr: &str, within: Duration) -> Result<(), Stop> {
        let each = Duration::from_millis(250);
        let since = drive.now_ns();
        let first = self.next;
        let mut rounds = within.as_millis() / each.as_millis();
        loop {
            self.send()?;
            let what = format!("a packet through the PETR {petr}");
            let seen = drive.wait_for(since, &what, each, |packet| {
                packet.destination() == Some(ip(petr))
                    && (first + 1..=self.next).any(|n| Ping::Request(n).is_tunnelled(packet))
            });
            rounds = rounds.saturating_sub(1);
            match seen {
                Err(Stop::NotSeen(_)) if rounds > 0 => {}
                other => return other.map(drop),
            }
        }
    }

    /// Sends what the judges look at, and waits until all of it has left the xTR.
    fn phase(&mut self, drive: &Drive<'_>, name: &str) -> Result<(), Stop> {
        let begin = drive.mark(name);
        for _ in 0..PACKETS {
            let ping = self.send()?;
            drive.wait_for(
                begin,
                "the packet out of the xTR",
                seconds(2),
                move |packet| packet.sender() == Some("xtr") && ping.is_in(packet),
            )?;
        }
        Ok(())
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let mut mapping = drive.peer("mapping")?;
    mapping_system(&mut mapping, "key-of-site", |_| {
        vec![negative("192.0.0.0/4", 15, Action::NativelyForward)]
    })?;
    let (mut better, mut worse) = (drive.peer("remote")?, drive.peer("other")?);
    let (silent, never) = (Arc::new(AtomicBool::new(false)), Arc::default());
    answers_probes(&mut better, &[(BETTER, 1)], &silent)?;
    answers_probes(&mut worse, &[(WORSE, 1)], &never)?;
    drive.start("xtr")?;
    for petr in [BETTER, WORSE] {
        let what = format!("the answer of {petr} to a probe");
        drive.wait_for(0, &what, seconds(10), |packet| {
            is_probe_answer(packet)
                && packet.receiver() == Some("xtr")
                && packet.source() == Some(ip(petr))
        })?;
    }
    let mut sender = Sender {
        site: drive.peer("site")?,
        next: 0,
    };
    sender.send()?;
    drive.wait_for(0, "the negative Map-Reply", seconds(5), |packet| {
        packet.receiver() == Some("xtr") && packet.map_reply().is_some_and(|reply| !reply.probe)
    })?;
    sender.phase(drive, BOTH)?;
    silent.store(true, Ordering::Relaxed);
    drive.mark(SILENT);
    sender.until(drive, WORSE, seconds(20))?;
    sender.phase(drive, LEFT)?;
    silent.store(false, Ordering::Relaxed);
    drive.mark(AGAIN);
    sender.until(drive, BETTER, seconds(30))?;
    sender.phase(drive, REJOINED)
}

/// What of the site's traffic left the xTR between two marks.
fn sent<'t>(trace: &'t Trace, from: &str, to: Option<&str>) -> Vec<&'t Seen> {
    let end = to.and_then(|to| trace.mark(to)).unwrap_or(u64::MAX);
    trace
        .since(from)
        .filter(|packet| packet.time_ns() < end && packet.sender() == Some("xtr"))
        .filter(|packet| {
            let inner = packet.data().map(|(_, inner)| inner);
            let ip = inner.or(packet.ip());
            ip.is_some_and(|ip| ip.destination == self::ip(LEGACY))
        })
        .collect()
}

fn best_one(trace: &Trace, findings: &mut Findings) {
    let all = sent(trace, BOTH, Some(SILENT));
    if all.len() < usize::from(PACKETS) {
        findings.unseen(USES_PETR, format!("{PACKETS} packets out of the site"));
        findings.unseen(LOWEST, format!("{PACKETS} packets out of the site"));
        return;
    }
    let native = all.iter().find(|packet| !packet.is_data());
    findings.check(
        USES_PETR,
        native.is_none(),
        &all,
        "what is no EID encapsulated to a PETR",
        native.map_or(String::new(), |packet| packet.summary()),
    );
    let elsewhere = all.iter().find(|p| p.destination() != Some(ip(BETTER)));
    findings.check(
        LOWEST,
        elsewhere.is_none(),
        &all,
        format!("all to {BETTER}, whose priority is lower"),
        elsewhere.map_or(String::new(), |packet| packet.summary()),
    );
}

fn leaves_and_returns(trace: &Trace, findings: &mut Findings) {
    for (begin, end, petr, requirement) in [
        (LEFT, Some(AGAIN), WORSE, FALLBACK),
        (REJOINED, None, BETTER, RETESTED),
    ] {
        let (since, what) = if requirement == FALLBACK {
            (SILENT, "fell silent")
        } else {
            (AGAIN, "answered again")
        };
        if trace.mark(since).is_none() {
            findings.unseen(requirement, format!("the moment when {BETTER} {what}"));
            continue;
        }
        let all = if trace.mark(begin).is_some() {
            sent(trace, begin, end)
        } else {
            Vec::new()
        };
        let wrong = all.iter().find(|p| p.destination() != Some(ip(petr)));
        let holds = all.len() >= usize::from(PACKETS) && wrong.is_none();
        let evidence = if all.is_empty() {
            sent(trace, since, None)
        } else {
            all.clone()
        };
        findings.check(
            requirement,
            holds,
            &evidence,
            format!("all traffic to {petr} some time after {BETTER} {what}"),
            wrong.map_or("not within the time".to_owned(), |packet| packet.summary()),
        );
    }
}

fn probes(trace: &Trace, findings: &mut Findings) {
    for petr in [BETTER, WORSE] {
        let probes: Vec<&Seen> = trace
            .originated("xtr")
            .filter(|packet| is_probe(packet) && packet.destination() == Some(ip(petr)))
            .collect();
        let encapsulated = probes.iter().find(|packet| packet.ecm().is_some());
        findings.check(
            DIRECT,
            !probes.is_empty() && encapsulated.is_none(),
            &probes,
            format!("probes to {petr} itself, not encapsulated"),
            encapsulated.map_or("none".to_owned(), |packet| packet.summary()),
        );
    }
}
