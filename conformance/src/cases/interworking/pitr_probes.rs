//! A PITR probes the locators of the sites that it sends to (RFC 6830 6.2, 6.3, 6.3.2).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lisp::Address;
use lisp::wire::{ControlMessage, MapRequest};

use super::Ping;
use super::probed::{answers_probes, is_probe, is_probe_answer};
use crate::case::Case;
use crate::cases::common::{edit_outgoing, ip, locator, mapping_system, prefix, record, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Peer, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};
use crate::words;

const DIRECT: Req = Req::new("rfc6830-6.3.2-probe-direct");
const ABOUT: Req = Req::new("rfc6830-6.3.2-probe-eid");
const ALL: Req = Req::new("rfc6830-6.3.2-probe-all");
const NO_SOURCE_EID: Req = Req::new("rfc6830-6.1.2-source-eid-afi0");
const TO_LOCATOR: Req = Req::new("rfc6830-6.1.3-dst-rloc");
const PITR_BIT: Req = Req::new("rfc6830-6.1.2-pitr-bit");
const FALLBACK: Req = Req::new("rfc6830-6.2-fallback");
const RETESTED: Req = Req::new("rfc6830-6.3-probe-down");

const HOST_A: &str = "10.1.0.10";
const PREFIX: &str = "10.1.0.0/24";
const BETTER: &str = "192.0.2.2";
const WORSE: &str = "192.0.2.1";
const LOCATORS: [&str; 2] = [BETTER, WORSE];
/// With their priorities, in ascending order.
const SET: &[(&str, u8)] = &[(WORSE, 2), (BETTER, 1)];

const SILENT: &str = "the better locator falls silent";
const LEFT: &str = "the better locator is left";
const AGAIN: &str = "the better locator answers again";
const REJOINED: &str = "the better locator is in use again";

/// Packets of each settled phase.
const PACKETS: u16 = 4;

inventory::submit! {
    Case {
        id: "rfc6830::s6_3_2::a_pitr_probes_the_locators_of_sites",
        title: "A PITR probes both locators of a site directly, without a source EID; it leaves the better one when it falls silent, and returns to it.",
        topology: "interworking",
        settings: &[("pxtr", "{roles: [pitr], petr-sources: [], rloc-probing: {interval: 1s}}")],
        roles: &["pitr"],
        features: &["pitr"],
        requirements: &[DIRECT, ABOUT, ALL, NO_SOURCE_EID, TO_LOCATOR, PITR_BIT, FALLBACK, RETESTED],
        timeout: seconds(90),
        start: false,
        drive,
        judges: &[probes, leaves_and_returns],
        sabotages: &[
            of_proxy("probes one locator only", &[ALL], || crate::cases::common::lose_outgoing(|frame| {
                matches!(frame.control(), Some(ControlMessage::MapRequest(request)) if request.probe)
                    && frame.ip().is_some_and(|packet| packet.destination == ip(WORSE))
            })),
            of_proxy("probes about a host", &[ABOUT], || on_probes(|request| {
                request.records[0] = lisp::wire::EidQuery::new(prefix("10.1.0.10/32"));
            })),
            of_proxy("names an EID as its own", &[NO_SOURCE_EID], || on_probes(|request| {
                request.source_eid = Address::from_eid(0, ip("10.1.0.99"));
            })),
            of_proxy("probes as an ITR", &[PITR_BIT], || on_probes(|request| request.pitr = false)),
            of_proxy("probes through the mapping system", &[DIRECT, TO_LOCATOR], || edit_outgoing(|frame| {
                if matches!(frame.control(), Some(ControlMessage::MapRequest(request)) if request.probe) {
                    to(frame, [198, 51, 100, 10]);
                }
            })),
            of_proxy("stays with the silent one", &[FALLBACK], || edit_outgoing(|frame| {
                if super::is_data(frame) {
                    to(frame, [192, 0, 2, 2]);
                }
            })),
            of_proxy("never returns", &[RETESTED], || {
                let mut left = false;
                Box::new(move |way, frame| {
                    if way == harness::inline::Way::FromVictim && super::is_data(frame) {
                        left |= frame.ip().is_some_and(|packet| packet.destination == ip(WORSE));
                        if left {
                            to(frame, [192, 0, 2, 1]);
                        }
                    }
                    harness::inline::PacketFate::Forward
                })
            }),
        ],
        ..Case::BASE
    }
}

const fn of_proxy(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: "pxtr",
        links: &["core-pxtr"],
        kills,
        tamper,
    }
}

fn on_probes(change: fn(&mut MapRequest)) -> Tamper {
    Box::new(move |way, frame| {
        if way == harness::inline::Way::FromVictim {
            frame.edit_control(|message| match message {
                ControlMessage::MapRequest(request) if request.probe => {
                    change(request);
                    true
                }
                _ => false,
            });
        }
        harness::inline::PacketFate::Forward
    })
}

fn to(frame: &mut crate::sabotage::Frame<'_>, address: [u8; 4]) {
    frame.edit_addresses(|header| {
        if let lisp::ip::IpHeader::V4(v4) = header {
            v4.destination = address.into();
        }
        true
    });
}

/// A legacy host that sends to the site.
struct Sender<'d, 'l> {
    drive: &'d Drive<'l>,
    legacy: Peer,
    next: u16,
}

impl Sender<'_, '_> {
    /// Sends one and waits until it has left the proxy.
    fn send(&mut self) -> Result<Seen, Stop> {
        self.next += 1;
        let ping = Ping::Request(self.next);
        let echo = Echo::new(self.legacy.address(), ip(HOST_A), self.next);
        self.legacy.send(&echo.request())?;
        let what = "the packet out of the proxy";
        self.drive.wait_for(0, what, seconds(5), move |packet| {
            packet.sender() == Some("pxtr") && ping.is_tunnelled(packet)
        })
    }

    /// Sends until one takes this locator, at most so long.
    fn until(&mut self, locator: &str, within: Duration) -> Result<(), Stop> {
        let end = self.drive.now_ns() + u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        while self.drive.now_ns() < end {
            if self.send()?.destination() == Some(ip(locator)) {
                return Ok(());
            }
            // What changes the proxy's mind is a probe, answered or not: the next packet waits for one.
            let now = self.drive.now_ns();
            let each = Duration::from_millis(250);
            match self.drive.wait_for(now, "a probe", each, |packet| {
                is_probe_answer(packet) || is_probe(packet)
            }) {
                Ok(_) | Err(Stop::NotSeen(_)) => {}
                Err(stop) => return Err(stop),
            }
        }
        Err(Stop::NotSeen(format!("not seen: a packet to {locator}")))
    }

    fn phase(&mut self, name: &str) -> Result<(), Stop> {
        self.drive.mark(name);
        for _ in 0..PACKETS {
            self.send()?;
        }
        Ok(())
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let mut mapping = drive.peer("msmr")?;
    mapping_system(&mut mapping, "key-of-site-a", |_| {
        vec![record(
            PREFIX,
            SET.iter()
                .map(|(address, priority)| locator(address, *priority, 100))
                .collect(),
        )]
    })?;
    let (mut better, mut worse) = (drive.peer("xtr-a")?, drive.peer("edge")?);
    let (silent, never) = (Arc::new(AtomicBool::new(false)), Arc::default());
    answers_probes(&mut better, SET, &silent)?;
    answers_probes(&mut worse, SET, &never)?;
    drive.start("pxtr")?;
    let mut sender = Sender {
        drive,
        legacy: drive.peer("legacy")?,
        next: 0,
    };
    sender.send()?;
    for locator in LOCATORS {
        let what = format!("the answer of {locator} to a probe");
        let answered = drive.wait_for(0, &what, seconds(6), |packet| {
            is_probe_answer(packet) && packet.source() == Some(ip(locator))
        });
        match answered {
            // One that is not probed is one that the judges miss.
            Ok(_) | Err(Stop::NotSeen(_)) => {}
            Err(stop) => return Err(stop),
        }
    }
    silent.store(true, Ordering::Relaxed);
    drive.mark(SILENT);
    sender.until(WORSE, seconds(20))?;
    sender.phase(LEFT)?;
    silent.store(false, Ordering::Relaxed);
    drive.mark(AGAIN);
    sender.until(BETTER, seconds(25))?;
    sender.phase(REJOINED)
}

fn probes(trace: &Trace, findings: &mut Findings) {
    let all: Vec<&Seen> = trace
        .originated("pxtr")
        .filter(|packet| is_probe(packet))
        .collect();
    if all.is_empty() {
        for requirement in [DIRECT, ABOUT, ALL, NO_SOURCE_EID, TO_LOCATOR, PITR_BIT] {
            findings.unseen(requirement, "a probe of the proxy");
        }
        return;
    }
    for locator in LOCATORS {
        let here = all.iter().any(|p| p.destination() == Some(ip(locator)));
        findings.check(
            ALL,
            here,
            &all,
            format!("probes to {locator}"),
            "none".to_owned(),
        );
    }
    for packet in all {
        let Some(request) = packet.map_request() else {
            continue;
        };
        let to_locator = LOCATORS
            .iter()
            .any(|locator| packet.destination() == Some(ip(locator)));
        let direct = packet.ecm().is_none() && to_locator;
        let expected = "to a locator of the site, not encapsulated";
        findings.check(DIRECT, direct, packet, expected, packet.summary());
        findings.check(TO_LOCATOR, to_locator, packet, expected, packet.summary());
        let about = request.records.first().and_then(|query| query.prefix());
        findings.check(
            ABOUT,
            about == Some(prefix(PREFIX)),
            packet,
            format!("about {PREFIX}, as it is cached"),
            words::or_none(about),
        );
        findings.check(
            NO_SOURCE_EID,
            request.source_eid == Address::None,
            packet,
            "source EID AFI 0",
            format!("source EID {}", request.source_eid),
        );
        findings.check(PITR_BIT, request.pitr, packet, "p = 1", "p = 0");
    }
}

fn leaves_and_returns(trace: &Trace, findings: &mut Findings) {
    for (cause, settled, end, locator, requirement) in [
        (SILENT, LEFT, Some(AGAIN), WORSE, FALLBACK),
        (AGAIN, REJOINED, None, BETTER, RETESTED),
    ] {
        if trace.mark(cause).is_none() {
            findings.unseen(requirement, cause);
            continue;
        }
        let end = end.and_then(|end| trace.mark(end)).unwrap_or(u64::MAX);
        let data = |since: &str| -> Vec<&Seen> {
            trace
                .since(since)
                .filter(|packet| packet.time_ns() < end)
                .filter(|packet| packet.sender() == Some("pxtr") && packet.is_data())
                .collect()
        };
        let after = data(settled);
        let wrong = after.iter().find(|p| p.destination() != Some(ip(locator)));
        let holds = after.len() >= usize::from(PACKETS) && wrong.is_none();
        let evidence = if after.is_empty() {
            data(cause)
        } else {
            after.clone()
        };
        findings.check(
            requirement,
            holds,
            &evidence,
            format!("everything to {locator} some time after: {cause}"),
            wrong.map_or("not within the time".to_owned(), |packet| packet.summary()),
        );
    }
}
