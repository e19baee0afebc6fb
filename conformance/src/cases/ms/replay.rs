//! Replayed and reordered Map-Registers: taken by RFC 6833, which knows no such protection (6833 6), and dropped by
//! RFC 9301 5.6, also after a restart.

use harness::inline::{PacketFate, Way};
use lisp::wire::{ControlMessage, MapRecord, XtrSiteId};

use super::common::*;
use super::script::{Step, act, ask, judge, nonce, register, run};
use crate::case::Case;
use crate::cases::common::{key, locator, record};
use crate::catalogue::Req;
use crate::edition::Edition;
use crate::sabotage::{Frame, Sabotage, Tamper};

const NO_REPLAY: Req = Req::new("rfc6833-6-no-replay");
const REPLAY: Req = Req::new("rfc9301-5.6-nonce-replay");
const PERSIST: Req = Req::new("rfc9301-5.6-nonce-persist");

fn at(rloc: &str) -> Vec<MapRecord> {
    vec![record("10.1.0.0/24", vec![locator(rloc, 1, 100)])]
}

fn site_a(number: u64, rloc: &str) -> Step {
    register("etr-a", &key("key-of-site-a"), at(rloc)).nonce(number)
}

/// Loses Map-Registers whose nonce is not greater than all before.
fn loses_replays() -> Tamper {
    let mut highest = 0;
    Box::new(move |way, frame: &mut Frame<'_>| {
        if way == Way::ToVictim
            && let Some(ControlMessage::MapRegister(register)) = frame.control()
        {
            if register.nonce <= highest {
                return PacketFate::Drop;
            }
            highest = register.nonce;
        }
        PacketFate::Forward
    })
}

/// Gives each Map-Register a nonce above all before, so that a box seems to take replays.
fn renews_replays() -> Tamper {
    let mut highest = 0;
    Box::new(move |way, frame: &mut Frame<'_>| {
        if way == Way::ToVictim {
            frame.edit_signed(&key("key-of-site-a"), |message| match message {
                ControlMessage::MapRegister(register) => {
                    highest = register.nonce.max(highest + 1);
                    register.nonce = highest;
                    true
                }
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

inventory::submit! {
    Case {
        id: "rfc6833::s6::replays_are_taken",
        title: "RFC 6833 protects from no replay: a Map-Register that comes a second time, or after a later one, is taken and confirmed.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc6830],
        roles: &["ms"],
        requirements: &[NO_REPLAY],
        drive: |drive| run(drive, &replayed()),
        judges: &[|trace, findings| judge(trace, findings, &replayed())],
        sabotages: &[Sabotage {
            name: "drops replays",
            node: MS,
            links: &[],
            kills: &[NO_REPLAY],
            tamper: loses_replays,
        }],
        ..Case::BASE
    }
}

fn replayed() -> Vec<Step> {
    let rows = &[NO_REPLAY];
    vec![
        site_a(nonce(100), "192.0.2.3").confirmed(),
        site_a(nonce(200), "192.0.2.4").confirmed(),
        ask("10.1.0.7").forwarded(&["192.0.2.4"]),
        // Octet for octet what the first was.
        site_a(nonce(100), "192.0.2.3").confirmed().shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.3"]).shows(rows),
        // Older than anything so far, and a nonce of zero, as older ETRs send it always.
        site_a(nonce(50), "192.0.2.5").confirmed().shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.5"]).shows(rows),
        site_a(0, "192.0.2.6").confirmed().shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.6"]).shows(rows),
        site_a(0, "192.0.2.7").confirmed().shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.7"]).shows(rows),
    ]
}

inventory::submit! {
    Case {
        id: "rfc9301::s5_6::nonces_must_grow",
        title: "A Map-Register whose nonce is not greater than the last of its xTR and key is dropped; each xTR has a count of its own.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc9300],
        roles: &["ms"],
        requirements: &[REPLAY],
        drive: |drive| run(drive, &growing()),
        judges: &[|trace, findings| judge(trace, findings, &growing())],
        sabotages: &[
            Sabotage {
                name: "takes replays",
                node: MS,
                links: &[],
                kills: &[REPLAY],
                tamper: renews_replays,
            },
            Sabotage {
                name: "has one count for all xTRs",
                node: MS,
                links: &[],
                kills: &[REPLAY],
                tamper: loses_replays,
            },
        ],
        ..Case::BASE
    }
}

fn growing() -> Vec<Step> {
    let rows = &[REPLAY];
    let other_xtr = |register: &mut lisp::wire::MapRegister| {
        register.xtr_site_id = Some(XtrSiteId {
            xtr_id: *b"another xTR here",
            site_id: 7,
        });
    };
    vec![
        site_a(42, "192.0.2.3").confirmed().shows(rows),
        site_a(42, "192.0.2.3").unconfirmed().shows(rows),
        // Not only the very same one.
        site_a(42, "192.0.2.4").unconfirmed().shows(rows),
        site_a(41, "192.0.2.5").unconfirmed().shows(rows),
        site_a(0, "192.0.2.5").unconfirmed().shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.3"]).shows(rows),
        site_a(43, "192.0.2.6").confirmed().shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.6"]).shows(rows),
        site_a(7, "192.0.2.9")
            .with(other_xtr)
            .confirmed()
            .shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.9"]).shows(rows),
        site_a(7, "192.0.2.8")
            .with(other_xtr)
            .unconfirmed()
            .shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.9"]).shows(rows),
    ]
}

inventory::submit! {
    Case {
        id: "rfc9301::s5_6::nonces_survive_a_restart",
        title: "After kill -9 and a new start a Map-Register with an old nonce is still dropped, and one with a newer is taken.",
        topology: TOPOLOGY,
        settings: &[(MS, "state-dir: /run/node/state")],
        editions: &[Edition::Rfc9300],
        roles: &["ms"],
        requirements: &[PERSIST],
        drive: |drive| run(drive, &restarted()),
        judges: &[|trace, findings| judge(trace, findings, &restarted())],
        sabotages: &[Sabotage {
            name: "forgets nonces",
            node: MS,
            links: &[],
            kills: &[PERSIST],
            tamper: renews_replays,
        }],
        ..Case::BASE
    }
}

fn restarted() -> Vec<Step> {
    let rows = &[PERSIST];
    let again = || {
        act(|drive| {
            drive.kill(MS)?;
            drive.start(MS)
        })
    };
    vec![
        site_a(1000, "192.0.2.3").confirmed(),
        again(),
        site_a(1000, "192.0.2.4").unconfirmed().shows(rows),
        site_a(999, "192.0.2.5").unconfirmed().shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.3"]).shows(rows),
        site_a(1001, "192.0.2.6").confirmed().shows(rows),
        again(),
        site_a(1001, "192.0.2.7").unconfirmed().shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.6"]).shows(rows),
    ]
}
