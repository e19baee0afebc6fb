//! What an ITR does with packets to a negative map-cache entry (RFC 6830 6.1.4; RFC 9301 5.4).

use lisp::wire::Action;

use super::map_cache_net::{
    Became, CORE, ITR, Net, TOPOLOGY, became, not_encapsulated, nothing_asked, records_in, sent,
    something_asked,
};
use crate::case::Case;
use crate::cases::common::{locator, negative, record};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const NEGATIVE: Req = Req::new("rfc6830-6.1.4-negative");
const NO_ACTION: Req = Req::new("rfc6830-6.1.4-act0");
const SEND_MAP_REQUEST: Req = Req::new("rfc6830-6.1.4-act2-smr");
const DROP: Req = Req::new("rfc6830-6.1.4-act3-drop");
const UNREACHABLE: Req = Req::new("rfc6830-6.1.4-act3-icmp");
const UNASSIGNED: Req = Req::new("rfc6830-6.1.4-act-unassigned");
const NEWER_DROPS: Req = Req::new("rfc9301-5.4-act4-act5");

/// The prefix whose entry has an action: one prefix each, the action in the third octet.
fn prefix_of(action: u8) -> String {
    format!("10.2.{}.0/24", 10 + action)
}

/// A host in that prefix.
fn host(action: u8, number: u8) -> String {
    format!("10.2.{}.{number}", 10 + action)
}

/// The sequence number of the packet that meets the entry of an action.
const fn met(action: u8) -> u16 {
    100 + action as u16
}

/// Resolves a host of the prefix, with the action as the answer, then sends a packet to another one.
fn learn_and_use(net: &Net, drive: &Drive<'_>, action: u8) -> Result<(), Stop> {
    let prefix = prefix_of(action);
    net.answer(
        &prefix,
        vec![negative(&prefix, 15, Action::from_code(action))],
    );
    net.resolve(drive, &host(action, 1), u16::from(action) + 1)?;
    drive.mark(&format!("entry {action}"));
    net.send(&host(action, 2), met(action))?;
    net.fence(drive)
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_4::act_3_drops_and_tells_the_source",
        title: "Packets to a negative entry with ACT 3 are dropped without another Map-Request, and their source is told.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[NEGATIVE, DROP, UNREACHABLE],
        drive: |drive| learn_and_use(&Net::up(drive)?, drive, 3),
        judges: &[judge_drop],
        sabotages: &[
            Sabotage {
                name: "takes ACT 3 for natively-forward",
                node: ITR,
                links: CORE,
                kills: &[DROP, UNREACHABLE],
                tamper: || records_in("10.2.13.0/24", |record| record.action = Action::NativelyForward),
            },
            Sabotage {
                name: "encapsulates what has no locators",
                node: ITR,
                links: CORE,
                kills: &[NEGATIVE, DROP],
                tamper: || records_in("10.2.13.0/24", |found| {
                    found.locators = record("0.0.0.0/0", vec![locator(super::map_cache_net::REMOTE, 1, 100)]).locators;
                }),
            },
            Sabotage {
                name: "drops silently",
                node: ITR,
                links: &["site"],
                kills: &[UNREACHABLE],
                tamper: || crate::cases::common::lose_outgoing(|frame| {
                    frame.ip().is_some_and(|ip| ip.icmp().is_some_and(|icmp| icmp.kind == 3))
                }),
            },
        ],
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_4::unassigned_actions_drop",
        title: "Packets to a negative entry with an ACT that RFC 6830 does not assign are dropped without another Map-Request.",
        topology: TOPOLOGY,
        editions: &[crate::edition::Edition::Rfc6830],
        roles: &["itr"],
        requirements: &[UNASSIGNED],
        drive: |drive| {
            let net = Net::up(drive)?;
            (4..=7).try_for_each(|action| learn_and_use(&net, drive, action))
        },
        judges: &[|trace, findings| (4..=7).for_each(|action| dropped(trace, findings, UNASSIGNED, action))],
        sabotages: &[
            Sabotage {
                name: "takes ACT 7 for natively-forward",
                node: ITR,
                links: CORE,
                kills: &[UNASSIGNED],
                tamper: || records_in("10.2.17.0/24", |record| record.action = Action::NativelyForward),
            },
            Sabotage {
                name: "takes an unassigned ACT for send-map-request",
                node: ITR,
                links: CORE,
                kills: &[UNASSIGNED],
                tamper: || records_in("10.2.16.0/24", |record| record.action = Action::SendMapRequest),
            },
        ],
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc9301::s5_4::act_4_and_5_drop",
        title: "Packets to a negative entry with ACT 4 (policy denied) or 5 (authentication failure) are dropped.",
        topology: TOPOLOGY,
        editions: &[crate::edition::Edition::Rfc9300],
        roles: &["itr"],
        requirements: &[NEWER_DROPS],
        drive: |drive| {
            let net = Net::up(drive)?;
            (4..=5).try_for_each(|action| learn_and_use(&net, drive, action))
        },
        judges: &[judge_newer],
        sabotages: &[
            Sabotage {
                name: "takes ACT 4 for natively-forward",
                node: ITR,
                links: CORE,
                kills: &[NEWER_DROPS],
                tamper: || records_in("10.2.14.0/24", |record| record.action = Action::NativelyForward),
            },
            Sabotage {
                name: "takes ACT 5 for natively-forward",
                node: ITR,
                links: CORE,
                kills: &[NEWER_DROPS],
                tamper: || records_in("10.2.15.0/24", |record| record.action = Action::NativelyForward),
            },
        ],
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_4::act_0_keeps_the_entry_and_act_2_asks",
        title: "ACT 0 keeps its entry and encapsulates nothing; under ACT 2 packets cause Map-Requests and are not encapsulated.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[NEGATIVE, NO_ACTION, SEND_MAP_REQUEST],
        drive: |drive| {
            let net = Net::up(drive)?;
            learn_and_use(&net, drive, 0)?;
            learn_and_use(&net, drive, 2)
        },
        judges: &[judge_quiet],
        sabotages: &[
            Sabotage {
                name: "forgets an entry with ACT 0",
                node: ITR,
                links: CORE,
                kills: &[NO_ACTION],
                tamper: || records_in("10.2.10.0/24", |record| record.ttl = 0),
            },
            Sabotage {
                name: "takes ACT 2 for a drop",
                node: ITR,
                links: CORE,
                kills: &[SEND_MAP_REQUEST],
                tamper: || records_in("10.2.12.0/24", |record| record.action = Action::Drop),
            },
            Sabotage {
                name: "encapsulates under ACT 0",
                node: ITR,
                links: CORE,
                kills: &[NEGATIVE, NO_ACTION],
                tamper: || records_in("10.2.10.0/24", |found| {
                    found.locators = record("0.0.0.0/0", vec![locator(super::map_cache_net::REMOTE, 1, 100)]).locators;
                }),
            },
        ],
        ..Case::BASE
    }
}

fn judge_drop(trace: &Trace, findings: &mut Findings) {
    not_encapsulated(trace, findings, NEGATIVE, met(3));
    dropped(trace, findings, DROP, 3);
    unreachable(trace, findings);
}

fn judge_newer(trace: &Trace, findings: &mut Findings) {
    dropped(trace, findings, NEWER_DROPS, 4);
    dropped(trace, findings, NEWER_DROPS, 5);
}

/// Nothing leaves, and nothing is asked.
fn dropped(trace: &Trace, findings: &mut Findings, requirement: Req, action: u8) {
    let Some(packet) = sent(trace, met(action)) else {
        findings.unseen(
            requirement,
            format!("the packet to the entry with ACT {action}"),
        );
        return;
    };
    let became = became(trace, met(action));
    findings.check(
        requirement,
        matches!(became, Became::Nothing),
        became.with(packet),
        format!("ACT {action}: dropped"),
        became.text(),
    );
    let mark = format!("entry {action}");
    nothing_asked(trace, findings, requirement, &mark, &prefix_of(action));
}

/// ICMP destination unreachable about the packet, to its source.
fn unreachable(trace: &Trace, findings: &mut Findings) {
    let Some(packet) = sent(trace, met(3)) else {
        findings.unseen(UNREACHABLE, "the packet to the entry with ACT 3");
        return;
    };
    let about = |seen: &&Seen| {
        let icmp = seen.ip().and_then(|ip| ip.icmp());
        icmp.filter(|icmp| icmp.kind == 3)
            .and_then(|icmp| crate::decode::ip(&icmp.payload))
            .is_some_and(|inner| inner.destination.to_string() == host(3, 2))
    };
    match trace.received_by("site").find(about) {
        Some(error) => findings.met(UNREACHABLE, [packet, error], error.summary()),
        None => findings.broken(
            UNREACHABLE,
            packet,
            "ICMP destination unreachable to the source",
            "none",
        ),
    }
}

fn judge_quiet(trace: &Trace, findings: &mut Findings) {
    for action in [0, 2] {
        not_encapsulated(trace, findings, NEGATIVE, met(action));
    }
    not_encapsulated(trace, findings, NO_ACTION, met(0));
    nothing_asked(trace, findings, NO_ACTION, "entry 0", &prefix_of(0));
    if let Some(packet) = sent(trace, met(0)) {
        let became = became(trace, met(0));
        findings.recorded(NO_ACTION, became.with(packet), became.text());
    }
    not_encapsulated(trace, findings, SEND_MAP_REQUEST, met(2));
    something_asked(trace, findings, SEND_MAP_REQUEST, "entry 2", &prefix_of(2));
}
