//! Scripts: what scripted ETRs and ITRs do to a Map-Server one after the other, and what must come of each step.
//!
//! A case makes its steps in a function that drive and judge both call. Steps have nonces and ports of their own. A step
//! of which nothing must come is fenced by the question after it: when that is answered, the other would have been.

use std::net::IpAddr;

use lisp::EidPrefix;
use lisp::auth::AuthKey;
use lisp::wire::{MapRecord, MapRegister};

use super::common::*;
use crate::cases::common::{ip, is_notify, prefix, register as plain_register};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::trace::{Seen, Trace};

/// Nonces of steps start here and grow, as RFC 9301 5.6 wants them to.
const FIRST_NONCE: u64 = 0x6d73_5c72_0000_0000;
/// Source ports of Map-Registers start here.
const FIRST_PORT: u16 = 40_000;

/// One step of a script.
pub(super) struct Step {
    kind: Kind,
    rows: Vec<Req>,
    recorded: Vec<Req>,
}

enum Kind {
    Register(Box<Registering>),
    Ask(Asking),
    Act(Act),
}

/// Anything else that is done to the box.
type Act = fn(&mut Drive<'_>) -> Result<(), Stop>;

/// What is done to signed octets.
pub(super) type Spoil = Box<dyn Fn(&mut Vec<u8>)>;

struct Registering {
    from: &'static str,
    /// Another source than the node's first address.
    source: Option<IpAddr>,
    /// To the box's IPv6 address.
    ipv6: bool,
    message: MapRegister,
    own_nonce: bool,
    key: AuthKey,
    /// Changes the signed octets.
    spoil: Option<Spoil>,
    confirmed: Confirmed,
}

#[derive(Clone, Copy, PartialEq)]
enum Confirmed {
    Yes,
    No,
    Either,
}

struct Asking {
    eid: EidPrefix,
    expected: Expected,
}

enum Expected {
    Anything,
    Negative {
        prefix: EidPrefix,
        minutes: u32,
    },
    Mapping {
        prefix: EidPrefix,
        rlocs: Vec<&'static str>,
        minutes: Option<u32>,
    },
    Forwarded(Vec<&'static str>),
}

/// An ETR at `from` registers records under a key, and wants a Map-Notify.
pub(super) fn register(from: &'static str, key: &AuthKey, records: Vec<MapRecord>) -> Step {
    Step::of(Kind::Register(Box::new(Registering {
        from,
        source: None,
        ipv6: false,
        message: plain_register(key, 0, records),
        own_nonce: false,
        key: key.clone(),
        spoil: None,
        confirmed: Confirmed::Either,
    })))
}

/// The ITR asks for an EID (`10.1.0.7`), a prefix, or one of an Instance ID (`[7]10.1.0.7/32`).
pub(super) fn ask(eid: &str) -> Step {
    let eid = match eid.contains('/') {
        true => prefix(eid),
        false => host(0, ip(eid)),
    };
    Step::of(Kind::Ask(Asking {
        eid,
        expected: Expected::Anything,
    }))
}

/// Something else is done to the box.
pub(super) fn act(act: Act) -> Step {
    Step::of(Kind::Act(act))
}

impl Step {
    fn of(kind: Kind) -> Step {
        Step {
            kind,
            rows: Vec::new(),
            recorded: Vec::new(),
        }
    }

    fn registering(mut self, change: impl FnOnce(&mut Registering)) -> Step {
        if let Kind::Register(registering) = &mut self.kind {
            change(registering);
        }
        self
    }

    fn expecting(mut self, expected: Expected) -> Step {
        if let Kind::Ask(asking) = &mut self.kind {
            asking.expected = expected;
        }
        self
    }

    /// Requirements that this step decides.
    pub(super) fn shows(mut self, rows: &[Req]) -> Step {
        self.rows.extend(rows);
        self
    }

    /// Requirements for which what comes of this step is only written down.
    pub(super) fn records(mut self, rows: &[Req]) -> Step {
        self.recorded.extend(rows);
        self
    }

    /// Changes the Map-Register before it is signed.
    pub(super) fn with(self, change: impl FnOnce(&mut MapRegister)) -> Step {
        self.registering(|step| change(&mut step.message))
    }

    /// With this nonce instead of the step's own.
    pub(super) fn nonce(self, nonce: u64) -> Step {
        self.registering(|step| (step.message.nonce, step.own_nonce) = (nonce, true))
    }

    /// From another address of the node.
    pub(super) fn source(self, source: &str) -> Step {
        let source = ip(source);
        self.registering(|step| step.source = Some(source))
    }

    /// To the box's IPv6 address, from this one.
    pub(super) fn over_ipv6(self, source: &str) -> Step {
        self.source(source).registering(|step| step.ipv6 = true)
    }

    /// Changes the octets after they were signed.
    pub(super) fn spoiled(self, spoil: impl Fn(&mut Vec<u8>) + 'static) -> Step {
        self.registering(|step| step.spoil = Some(Box::new(spoil)))
    }

    /// A Map-Notify must confirm it.
    pub(super) fn confirmed(self) -> Step {
        self.registering(|step| step.confirmed = Confirmed::Yes)
    }

    /// No Map-Notify may confirm it.
    pub(super) fn unconfirmed(self) -> Step {
        self.registering(|step| step.confirmed = Confirmed::No)
    }

    /// Answered natively-forward, for this prefix and time.
    pub(super) fn negative(self, text: &str, minutes: u32) -> Step {
        self.expecting(Expected::Negative {
            prefix: prefix(text),
            minutes,
        })
    }

    /// Answered for this prefix with these locators in this order.
    pub(super) fn mapping(self, text: &str, rlocs: &[&'static str]) -> Step {
        self.expecting(Expected::Mapping {
            prefix: prefix(text),
            rlocs: rlocs.to_vec(),
            minutes: None,
        })
    }

    /// As [`mapping`](Step::mapping), for this time.
    pub(super) fn mapping_for(self, text: &str, rlocs: &[&'static str], minutes: u32) -> Step {
        self.expecting(Expected::Mapping {
            prefix: prefix(text),
            rlocs: rlocs.to_vec(),
            minutes: Some(minutes),
        })
    }

    /// Handed on once, to one of these.
    pub(super) fn forwarded(self, to: &[&'static str]) -> Step {
        self.expecting(Expected::Forwarded(to.to_vec()))
    }
}

/// The nonce of step `at` of a script, counted from 0.
pub(super) const fn nonce(at: usize) -> u64 {
    FIRST_NONCE + at as u64
}

fn port(at: usize) -> u16 {
    FIRST_PORT + at as u16
}

/// Does the steps. Where something does not come, the others are done all the same, so that they can be judged.
pub(super) fn run(drive: &mut Drive<'_>, steps: &[Step]) -> Result<(), Stop> {
    run_from(drive, steps, 0)
}

/// Does the steps from the one numbered `begin` on.
pub(super) fn run_from(drive: &mut Drive<'_>, steps: &[Step], begin: usize) -> Result<(), Stop> {
    let mut first = None;
    for (at, step) in steps.iter().enumerate().skip(begin) {
        match step.run(drive, at) {
            Err(stop @ Stop::NotSeen(_)) => first = first.or(Some(stop)),
            other => other?,
        }
    }
    first.map_or(Ok(()), Err)
}

impl Step {
    fn run(&self, drive: &mut Drive<'_>, at: usize) -> Result<(), Stop> {
        let since = drive.mark(&format!("step {at}"));
        match &self.kind {
            Kind::Register(step) => {
                let (octets, nonce) = step.octets(at);
                let etr = drive.peer(step.from)?;
                let ms = if step.ipv6 { MS6 } else { drive.address(MS)? };
                let source = step.source.unwrap_or_else(|| etr.address());
                etr.udp((source, port(at)), (ms, lisp::CONTROL_PORT), &octets)?;
                if step.confirmed == Confirmed::Yes {
                    let what = format!("the Map-Notify for step {at}");
                    drive.wait_for(since, &what, SOON, |packet| is_notify(packet, nonce))?;
                }
            }
            Kind::Ask(step) => {
                let itr = drive.peer("itr")?;
                let rloc = itr_rloc((at % 250) as u8 + 1);
                ask_for(drive, &itr, rloc, &question_for(nonce(at), rloc, step.eid))?;
                resolved(drive, since, nonce(at))?;
            }
            Kind::Act(act) => act(drive)?,
        }
        Ok(())
    }
}

impl Registering {
    fn octets(&self, at: usize) -> (Vec<u8>, u64) {
        let mut message = self.message.clone();
        if !self.own_nonce {
            message.nonce = nonce(at);
        }
        let mut octets = message.to_signed_vec(&self.key);
        if let Some(spoil) = &self.spoil {
            spoil(&mut octets);
        }
        (octets, message.nonce)
    }
}

/// Judges what came of the steps.
pub(super) fn judge(trace: &Trace, findings: &mut Findings, steps: &[Step]) {
    for (at, step) in steps.iter().enumerate() {
        let ended = trace.mark(&format!("step {at}")).is_none();
        if ended && !(step.rows.is_empty() && step.recorded.is_empty()) {
            for row in step.rows.iter().chain(&step.recorded) {
                findings.unseen(*row, format!("step {at} of the script"));
            }
            continue;
        }
        match &step.kind {
            Kind::Register(registering) => judge_register(trace, findings, at, step, registering),
            Kind::Ask(asking) => judge_question(trace, findings, at, step, asking),
            Kind::Act(_) => {}
        }
    }
}

/// The Map-Register of step `at` on its first link.
pub(super) fn sent(trace: &Trace, at: usize) -> Option<&Seen> {
    let of_step = |packet: &&Seen| packet.udp().is_some_and(|udp| udp.source_port == port(at));
    trace
        .since(&format!("step {at}"))
        .find(|packet| of_step(packet) && packet.sender() != Some("core"))
}

/// The Map-Notify that confirms the Map-Register of step `at`.
pub(super) fn confirmation(trace: &Trace, at: usize) -> Option<&Seen> {
    let sent = sent(trace, at)?;
    let nonce = nonce_of(sent)?;
    // The same nonce may be sent again later.
    let again = trace.iter().find(|packet| {
        packet.time_ns() > sent.time_ns()
            && packet.sender() == sent.sender()
            && nonce_of(packet) == Some(nonce)
            && packet.udp().map(|udp| udp.source_port) != sent.udp().map(|udp| udp.source_port)
    });
    let until = again.map_or(u64::MAX, Seen::time_ns);
    trace
        .originated(MS)
        .filter(|packet| (sent.time_ns()..until).contains(&packet.time_ns()))
        .find(|packet| is_notify(packet, nonce))
}

/// The nonce of a Map-Register, also of one that cannot be read as a whole.
fn nonce_of(packet: &Seen) -> Option<u64> {
    let payload = &packet.udp()?.payload;
    let is_register = payload.first()? >> 4 == 3;
    let octets: [u8; 8] = payload.get(4..12)?.try_into().ok()?;
    is_register.then_some(u64::from_be_bytes(octets))
}

fn judge_register(
    trace: &Trace,
    findings: &mut Findings,
    at: usize,
    step: &Step,
    registering: &Registering,
) {
    let Some(sent) = sent(trace, at) else {
        for row in step.rows.iter().chain(&step.recorded) {
            findings.unseen(*row, format!("the Map-Register of step {at}"));
        }
        return;
    };
    let notify = confirmation(trace, at);
    let packets: Vec<&Seen> = std::iter::once(sent).chain(notify).collect();
    let seen = notify.map_or("no Map-Notify".to_owned(), Seen::summary);
    let what = sent.summary();
    for row in &step.rows {
        let (holds, expected) = match registering.confirmed {
            Confirmed::Yes => (notify.is_some(), format!("a Map-Notify for {what}")),
            Confirmed::No => (notify.is_none(), format!("no Map-Notify for {what}")),
            Confirmed::Either => (true, String::new()),
        };
        findings.check(*row, holds, &packets, expected, seen.clone());
    }
    for row in &step.recorded {
        findings.recorded(*row, &packets, format!("{what}: {seen}"));
    }
}

fn judge_question(trace: &Trace, findings: &mut Findings, at: usize, step: &Step, asking: &Asking) {
    let Some(sent) = question(trace, nonce(at)) else {
        for row in step.rows.iter().chain(&step.recorded) {
            findings.unseen(*row, format!("the Map-Request of step {at}"));
        }
        return;
    };
    let outcome = Outcome::of(trace, nonce(at));
    let packets: Vec<&Seen> = std::iter::once(sent).chain(outcome.packets()).collect();
    let seen = format!("{}: {outcome}", asking.eid);
    for row in &step.rows {
        let expected = format!("{}: {}", asking.eid, asking.expected.text());
        let holds = asking.expected.holds(&outcome);
        findings.check(*row, holds, &packets, expected, seen.clone());
    }
    for row in &step.recorded {
        findings.recorded(*row, &packets, seen.clone());
    }
}

impl Expected {
    fn holds(&self, outcome: &Outcome<'_>) -> bool {
        match self {
            Expected::Anything => true,
            Expected::Negative { prefix, minutes } => outcome.record().is_some_and(|record| {
                record.locators.is_empty()
                    && record.eid_prefix() == Some(*prefix)
                    && record.ttl == *minutes
                    && record.action.code() == 1
            }),
            Expected::Mapping {
                prefix,
                rlocs: expected,
                minutes,
            } => outcome.record().is_some_and(|record| {
                record.eid_prefix() == Some(*prefix)
                    && rlocs(record) == *expected
                    && minutes.is_none_or(|minutes| record.ttl == minutes)
            }),
            Expected::Forwarded(to) => match outcome {
                Outcome::Forwarded(packets) if packets.len() == 1 => packets[0]
                    .destination()
                    .is_some_and(|found| to.iter().any(|to| ip(to) == found)),
                _ => false,
            },
        }
    }

    fn text(&self) -> String {
        match self {
            Expected::Anything => "an answer".to_owned(),
            Expected::Negative { prefix, minutes } => {
                format!("{prefix} for {minutes} minutes, negative, ACT 1")
            }
            Expected::Mapping {
                prefix,
                rlocs,
                minutes,
            } => {
                let time =
                    minutes.map_or(String::new(), |minutes| format!(" for {minutes} minutes"));
                format!("{prefix}{time} at {}", rlocs.join(", "))
            }
            Expected::Forwarded(to) => format!("forwarded once, to {}", to.join(" or ")),
        }
    }
}
