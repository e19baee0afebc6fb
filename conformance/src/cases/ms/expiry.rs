//! How long a registration lives (RFC 6833 4.2; RFC 9301 5.6, 8.2): three minutes from its last Map-Register, or what the
//! T bit asks for.

use std::time::Duration;

use lisp::wire::ControlMessage;

use super::common::*;
use super::script::{Step, register, run, sent};
use crate::case::{Case, Timer};
use crate::cases::common::{ip, key, locator, lose_incoming, outgoing, record, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::{Frame, Sabotage};
use crate::trace::{Seen, Trace};

const THREE_MINUTES: Req = Req::new("rfc6833-4.2-reg-timeout-180");
const REFRESH: Req = Req::new("rfc6833-4.2-reg-refresh");
const T_BIT: Req = Req::new("rfc9301-5.6-t-bit");
const DEFAULT: Req = Req::new("rfc9301-8.2-t-bit-default");

/// Questions of a registration that is watched have nonces from here on.
const WATCH: u64 = 0x6d73_3f3f_0000_0000;
/// ITR-RLOCs from here on: the scripts use lower ones.
const WATCH_RLOC: u8 = 100;

/// The life of registrations in the short form.
const LIFE: Timer = Timer {
    node: MS,
    name: "registration-timeout",
    text: seconds(180),
    short: seconds(2),
};

/// Lets `time` pass: what is stimulated here is the box's timer.
fn pass(drive: &Drive<'_>, time: Duration) -> Result<(), Stop> {
    let since = drive.now_ns();
    match drive.wait_for(since, "a timer of the box", time, |_| false) {
        Err(stop @ Stop::OutOfTime(_)) => Err(stop),
        _ => Ok(()),
    }
}

/// Asks for an EID again and again until it is answered negatively, for up to one and a half lives after `since`.
fn until_negative(drive: &Drive<'_>, since: u64, eid: &str, life: Duration) -> Result<(), Stop> {
    let until = since + u64::try_from((life * 3 / 2).as_nanos()).unwrap_or(u64::MAX);
    watch(drive, until, eid, life / 20, true)
}

/// Asks for an EID once every `gap` until a moment, or until a negative answer.
fn watch(drive: &Drive<'_>, until: u64, eid: &str, gap: Duration, ends: bool) -> Result<(), Stop> {
    let itr = drive.peer("itr")?;
    let mut count: u64 = drive
        .packets(0)
        .iter()
        .filter(|packet| packet.sender() == Some("itr") && watched(packet).is_some())
        .count() as u64;
    while drive.now_ns() < until {
        let since = drive.now_ns();
        let nonce = WATCH + count;
        let rloc = itr_rloc(WATCH_RLOC + (count % 150) as u8);
        count += 1;
        ask(drive, &itr, nonce, rloc, ip(eid))?;
        let answer = resolved(drive, since, nonce)?;
        let negative = answer.map_reply().is_some_and(|reply| {
            let mut records = reply.records.iter();
            records.all(|record| record.locators.is_empty())
        });
        if negative && ends {
            return Ok(());
        }
        pass(drive, gap)?;
    }
    Ok(())
}

/// The nonce of a question of a watched registration.
fn watched(packet: &Seen) -> Option<u64> {
    let nonce = packet.map_request()?.nonce;
    (WATCH..WATCH + (1 << 32)).contains(&nonce).then_some(nonce)
}

/// The watched questions for an EID and what became of them, in their order.
fn watch_of<'a>(trace: &'a Trace, eid: &str) -> Vec<(&'a Seen, Outcome<'a>)> {
    let eid = host(0, ip(eid));
    trace
        .sent_by("itr")
        .filter(|packet| {
            let asked = packet.map_request().and_then(|asked| asked.records.first());
            asked.and_then(|query| query.prefix()) == Some(eid)
        })
        .filter_map(|packet| Some((packet, Outcome::of(trace, watched(packet)?))))
        .collect()
}

/// The EID lives for `life` from the Map-Register `from` on, and not much longer. RFC 6833 4.2 is read as in the
/// catalogue: of 180 s, there at 170 and gone between 190 and 250.
fn lives(
    trace: &Trace,
    findings: &mut Findings,
    row: Req,
    from: Option<&Seen>,
    eid: &str,
    life: Duration,
) {
    let Some(from) = from else {
        findings.unseen(row, "the Map-Register");
        return;
    };
    let after = |packet: &Seen| {
        Duration::from_nanos(packet.time_ns().saturating_sub(from.time_ns())).as_secs_f64()
    };
    let (early, late) = (life.mul_f64(17.0 / 18.0), life.mul_f64(25.0 / 18.0));
    let (early, late) = (early.as_secs_f64(), late.as_secs_f64());
    let asked = watch_of(trace, eid);
    let asked: Vec<_> = asked
        .iter()
        .filter(|(asked, _)| asked.time_ns() > from.time_ns())
        .collect();
    let gone = asked.iter().find(|(_, outcome)| !outcome.positive());
    let kept = asked.iter().rfind(|(_, outcome)| outcome.positive());
    let at =
        gone.map(|(asked, outcome)| after(outcome.packets().first().copied().unwrap_or(asked)));
    let last = kept.map(|(asked, _)| after(asked));
    let right = last.is_some_and(|last| last < late)
        && at.is_some_and(|at| (early..late).contains(&at))
        && gone.is_some_and(|(_, outcome)| outcome.negative());
    let mut packets = vec![from];
    packets.extend(kept.into_iter().chain(gone).map(|(asked, _)| *asked));
    let text =
        |time: Option<f64>| time.map_or("never".to_owned(), |time| format!("after {time:.2} s"));
    findings.check(
        row,
        right,
        &packets,
        format!("{eid} registered until {early:.2} to {late:.2} s after its last Map-Register, then answered negatively"),
        format!("registered {}, not any more {}", text(last), text(at)),
    );
}

fn site_a(minutes: u32) -> Step {
    let mut mapping = record("10.1.0.0/24", vec![locator("192.0.2.2", 1, 100)]);
    mapping.ttl = minutes;
    register("etr-a", &key("key-of-site-a"), vec![mapping]).confirmed()
}

/// What a box that never forgets looks like.
const NEVER_FORGETS: fn() -> crate::sabotage::Tamper =
    || outgoing(|message| on_records(message, as_if_registered));

const fn never_forgets(kills: &'static [Req]) -> Sabotage {
    Sabotage {
        name: "never forgets a registration",
        node: MS,
        links: &[],
        kills,
        tamper: NEVER_FORGETS,
    }
}

fn expires(drive: &mut Drive<'_>) -> Result<(), Stop> {
    run(drive, &[site_a(1440)])?;
    let life = match drive.timer(MS, "registration-timeout") {
        Duration::ZERO => seconds(180),
        life => life,
    };
    until_negative(drive, drive.now_ns(), "10.1.0.7", life)
}

fn expired(trace: &Trace, findings: &mut Findings) {
    let life = registration_timeout(trace);
    lives(
        trace,
        findings,
        THREE_MINUTES,
        sent(trace, 0),
        "10.1.0.7",
        life,
    );
}

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::a_registration_expires",
        title: "A registration that is not repeated is over after its time, whatever its Record TTL.",
        topology: TOPOLOGY,
        timers: &[LIFE],
        timeout: seconds(300),
        roles: &["ms"],
        requirements: &[THREE_MINUTES],
        drive: expires,
        judges: &[expired],
        sabotages: &[
            never_forgets(&[THREE_MINUTES]),
            Sabotage {
                name: "forgets after half the time",
                node: MS,
                links: &[],
                kills: &[THREE_MINUTES],
                tamper: || {
                    let mut first = None;
                    Box::new(move |way, frame: &mut Frame<'_>| {
                        let now = frame.time_ns;
                        let late = now > *first.get_or_insert(now) + 1_000_000_000;
                        if way == harness::inline::Way::ToVictim && late {
                            // Asked for what nobody registers, it answers as if nobody had.
                            frame.edit_control(|message| match message {
                                ControlMessage::MapRequest(request) => {
                                    request.records = vec![lisp::wire::EidQuery::new(host(0, ip("10.3.0.7")))];
                                    true
                                }
                                _ => false,
                            });
                        }
                        harness::inline::PacketFate::Forward
                    })
                },
            },
        ],
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::a_registration_lives_three_minutes",
        title: "As it is configured by default, a registration lives for three minutes.",
        topology: TOPOLOGY,
        timeout: seconds(300),
        slow: true,
        roles: &["ms"],
        requirements: &[THREE_MINUTES],
        drive: expires,
        judges: &[expired],
        sabotages: &[never_forgets(&[THREE_MINUTES])],
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::any_valid_register_restarts_the_time",
        title: "Map-Registers repeated in time keep a registration alive, also without the M bit; it is over its time after the last.",
        topology: TOPOLOGY,
        timers: &[LIFE],
        timeout: seconds(600),
        roles: &["ms"],
        requirements: &[REFRESH],
        drive: |drive| {
            let life = drive.timer(MS, "registration-timeout");
            let begin = drive.now_ns();
            let mut steps = vec![site_a(1440)];
            run(drive, &steps)?;
            for refresh in 1..=2u32 {
                let until = begin + u64::try_from((life * 2 * refresh / 3).as_nanos()).unwrap_or(u64::MAX);
                watch(drive, until, "10.1.0.7", life / 20, false)?;
                steps.push(refreshing());
                super::script::run_from(drive, &steps, steps.len() - 1)?;
            }
            until_negative(drive, drive.now_ns(), "10.1.0.7", life)
        },
        judges: &[|trace, findings| {
            let life = registration_timeout(trace);
            let (first, last) = (sent(trace, 0), sent(trace, 2));
            lives(trace, findings, REFRESH, last, "10.1.0.7", life);
            // Between the Map-Registers too.
            let (Some(first), Some(last)) = (first, last) else { return };
            let lost = watch_of(trace, "10.1.0.7").into_iter().find(|(asked, outcome)| {
                (first.time_ns()..last.time_ns()).contains(&asked.time_ns()) && !outcome.positive()
            });
            if let Some((asked, outcome)) = lost {
                findings.broken(REFRESH, asked, "registered until the last Map-Register at least", outcome.to_string());
            }
        }],
        sabotages: &[
            Sabotage {
                name: "counts only registers that want a Map-Notify",
                node: MS,
                links: &[],
                kills: &[REFRESH],
                tamper: || lose_incoming(|frame| matches!(
                    frame.control(), Some(ControlMessage::MapRegister(register)) if !register.want_map_notify
                )),
            },
            never_forgets(&[REFRESH]),
        ],
        ..Case::BASE
    }
}

fn refreshing() -> Step {
    let mapping = record("10.1.0.0/24", vec![locator("192.0.2.2", 1, 100)]);
    register("etr-a", &key("key-of-site-a"), vec![mapping])
        .with(|register| register.want_map_notify = false)
}

/// Three prefixes of site b and their EIDs: T with a minute; without T a minute and a day.
const T_EID: &str = "10.2.1.7";
const MINUTE_EID: &str = "10.2.2.7";
const DAY_EID: &str = "10.2.3.7";

fn three_ttls() -> Vec<Step> {
    let of = |eid: &str, minutes: u32| {
        let mut mapping = record(eid, vec![locator("192.0.2.34", 1, 100)]);
        mapping.ttl = minutes;
        register("etr-b", &key("key-of-site-b"), vec![mapping]).confirmed()
    };
    vec![
        of("10.2.1.0/24", 1).with(|register| register.use_ttl = true),
        of("10.2.2.0/24", 1),
        of("10.2.3.0/24", 1440),
    ]
}

inventory::submit! {
    Case {
        id: "rfc9301::s5_6::without_t_the_record_ttl_does_not_count",
        title: "Without the T bit registrations are over after the default time, whatever their Record TTL; with it the Record TTL counts and not the default.",
        topology: TOPOLOGY,
        timers: &[LIFE],
        timeout: seconds(600),
        editions: &[Edition::Rfc9300],
        roles: &["ms"],
        requirements: &[DEFAULT, T_BIT],
        drive: |drive| {
            let life = drive.timer(MS, "registration-timeout");
            run(drive, &three_ttls())?;
            let since = drive.now_ns();
            until_negative(drive, since, MINUTE_EID, life)?;
            until_negative(drive, since, DAY_EID, life)?;
            let itr = drive.peer("itr")?;
            let begin = drive.mark("both are over");
            ask(drive, &itr, WATCH + (1 << 31), itr_rloc(99), ip(T_EID))?;
            resolved(drive, begin, WATCH + (1 << 31))?;
            Ok(())
        },
        judges: &[|trace, findings| {
            let life = registration_timeout(trace);
            lives(trace, findings, DEFAULT, sent(trace, 1), MINUTE_EID, life);
            over(trace, findings, DEFAULT, DAY_EID);
            let asked = watch_of(trace, T_EID);
            let Some((asked, outcome)) = asked.last() else {
                findings.unseen(T_BIT, "the question for the EID that was registered with T");
                return;
            };
            // Where the default cannot be shortened, a minute is over before three.
            let expected = life < seconds(50);
            findings.check(
                T_BIT,
                outcome.positive() == expected,
                *asked,
                format!("registered for its minute, while {} s are the default", life.as_secs()),
                outcome.to_string(),
            );
        }],
        sabotages: &[
            Sabotage {
                name: "takes no notice of the T bit",
                node: MS,
                links: &[],
                kills: &[T_BIT],
                tamper: || t_bit(false),
            },
            Sabotage {
                name: "takes the T bit for set",
                node: MS,
                links: &[],
                kills: &[DEFAULT],
                tamper: || t_bit(true),
            },
        ],
        ..Case::BASE
    }
}

fn t_bit(set: bool) -> crate::sabotage::Tamper {
    Box::new(move |way, frame| {
        if way == harness::inline::Way::ToVictim {
            frame.edit_signed(&key("key-of-site-b"), |message| match message {
                ControlMessage::MapRegister(register) => {
                    register.use_ttl = set;
                    true
                }
                _ => false,
            });
        }
        harness::inline::PacketFate::Forward
    })
}

/// The last watched question for an EID is answered negatively.
fn over(trace: &Trace, findings: &mut Findings, row: Req, eid: &str) {
    match watch_of(trace, eid).last() {
        Some((asked, outcome)) => findings.check(
            row,
            outcome.negative(),
            *asked,
            format!("{eid}: over after the default time"),
            outcome.to_string(),
        ),
        None => findings.unseen(row, format!("questions for {eid}")),
    }
}

inventory::submit! {
    Case {
        id: "rfc9301::s5_6::t_makes_the_record_ttl_the_time_of_the_registration",
        title: "Registered with T and a Record TTL of one minute, an EID is over after a minute.",
        topology: TOPOLOGY,
        timeout: seconds(150),
        slow: true,
        editions: &[Edition::Rfc9300],
        roles: &["ms"],
        requirements: &[T_BIT],
        drive: |drive| {
            run(drive, &three_ttls()[..1])?;
            until_negative(drive, drive.now_ns(), T_EID, seconds(60))
        },
        judges: &[|trace, findings| lives(trace, findings, T_BIT, sent(trace, 0), T_EID, seconds(60))],
        sabotages: &[Sabotage {
            name: "takes no notice of the T bit",
            node: MS,
            links: &[],
            kills: &[T_BIT],
            tamper: || t_bit(false),
        }],
        ..Case::BASE
    }
}
