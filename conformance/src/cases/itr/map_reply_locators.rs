//! What an ITR takes from the locators of a Map-Reply (RFC 6830 4.1, 6.1.4; RFC 9306 3).

use lisp::wire::{Action, Locator, MapRecord};
use lisp::{Address, Lcaf};

use super::map_cache_net::{
    CORE, ITR, Net, OTHER, REMOTE, TOPOLOGY, goes_to, nothing_asked, records_in,
};
use crate::case::Case;
use crate::cases::common::{locator, record};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;

const OTHER_ETR: Req = Req::new("rfc6830-4.1-other-etr");
const SINGLE: Req = Req::new("rfc6830-6.2-single-rloc");
const PLACEHOLDER: Req = Req::new("rfc6830-6.1.4-loc-afi0");
const ACT_ONLY_EMPTY: Req = Req::new("rfc6830-6.1.4-act-only-empty");

inventory::submit! {
    Case {
        id: "rfc6830::s4_1::data_goes_to_the_locators_of_the_record",
        title: "Data goes to the only locator of the record, though another ETR sent the Map-Reply.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[OTHER_ETR, SINGLE],
        drive: drive_other,
        judges: &[judge_other],
        sabotages: &[Sabotage {
            name: "takes the sender of the Map-Reply for the locator",
            node: ITR,
            links: CORE,
            kills: &[OTHER_ETR, SINGLE],
            tamper: || records_in("10.2.1.0/24", |record| {
                record.locators = vec![locator(REMOTE, 1, 100)];
            }),
        }],
        ..Case::BASE
    }
}

fn drive_other(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    let begin = drive.mark("the question");
    net.send("10.2.1.1", 1)?;
    let (_, question) = super::map_cache_net::wait_question(drive, begin, "10.2.1.0/24")?;
    // The Map-Server would pass it on to the remote site's ETR, which answers by itself.
    let mut mapping = record("10.2.1.0/24", vec![locator(OTHER, 1, 100)]);
    mapping.locators[0].local = false;
    let octets = crate::cases::common::reply(question.nonce, vec![mapping]).to_vec();
    net.remote.udp(
        (net.remote.address(), lisp::CONTROL_PORT),
        question.to,
        &octets,
    )?;
    drive.wait_for(
        begin,
        "the Map-Reply at the ITR",
        super::map_cache_net::SOON,
        |packet| {
            packet.receiver() == Some(ITR)
                && packet
                    .map_reply()
                    .is_some_and(|reply| reply.nonce == question.nonce)
        },
    )?;
    net.fence(drive)?;
    for number in 2..6 {
        net.send(&format!("10.2.1.{number}"), number)?;
    }
    net.fence(drive)
}

fn judge_other(trace: &Trace, findings: &mut Findings) {
    for number in 2..6 {
        goes_to(trace, findings, OTHER_ETR, number, OTHER);
        goes_to(trace, findings, SINGLE, number, OTHER);
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_4::placeholders_and_act_do_not_hinder_locators",
        title: "A locator with AFI 0 is passed over, and ACT means nothing in a record that has locators.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[PLACEHOLDER, ACT_ONLY_EMPTY],
        drive: |drive| {
            let net = Net::up(drive)?;
            let set = vec![locator(OTHER, 3, 100), placeholder(), locator(REMOTE, 2, 100)];
            net.answer("10.2.1.0/24", vec![record("10.2.1.0/24", set)]);
            net.resolve(drive, "10.2.1.1", 1)?;
            drive.mark("the placeholder");
            net.send("10.2.1.2", 2)?;
            for action in 1..=3u8 {
                let eid = format!("10.2.1{action}.0/24");
                let positive = MapRecord {
                    action: Action::from_code(action),
                    ..record(&eid, vec![locator(OTHER, 1, 100)])
                };
                net.answer(&eid, vec![positive]);
                net.resolve(drive, &format!("10.2.1{action}.1"), 10 + u16::from(action))?;
                drive.mark(&format!("action {action}"));
                net.send(&format!("10.2.1{action}.2"), 20 + u16::from(action))?;
            }
            net.fence(drive)
        },
        judges: &[judge_odd],
        sabotages: &[
            Sabotage {
                name: "stops reading at the placeholder",
                node: ITR,
                links: CORE,
                kills: &[PLACEHOLDER],
                tamper: || records_in("10.2.1.0/24", |record| record.locators.truncate(2)),
            },
            Sabotage {
                name: "takes ACT 3 for a drop in spite of locators",
                node: ITR,
                links: CORE,
                kills: &[ACT_ONLY_EMPTY],
                tamper: || records_in("10.2.13.0/24", |record| record.locators.clear()),
            },
            Sabotage {
                name: "takes ACT 1 for natively-forward in spite of locators",
                node: ITR,
                links: CORE,
                kills: &[ACT_ONLY_EMPTY],
                tamper: || records_in("10.2.11.0/24", |record| record.locators.clear()),
            },
            Sabotage {
                name: "takes ACT 2 for send-map-request in spite of locators",
                node: ITR,
                links: CORE,
                kills: &[ACT_ONLY_EMPTY],
                tamper: || records_in("10.2.12.0/24", |record| record.locators.clear()),
            },
        ],
        ..Case::BASE
    }
}

/// A locator that is none, with the best priority.
fn placeholder() -> Locator {
    Locator {
        rloc: Address::None,
        ..locator(REMOTE, 1, 100)
    }
}

fn judge_odd(trace: &Trace, findings: &mut Findings) {
    goes_to(trace, findings, PLACEHOLDER, 2, REMOTE);
    nothing_asked(
        trace,
        findings,
        PLACEHOLDER,
        "the placeholder",
        "10.2.1.0/24",
    );
    for action in 1..=3u16 {
        goes_to(trace, findings, ACT_ONLY_EMPTY, 20 + action, OTHER);
        let (mark, eid) = (format!("action {action}"), format!("10.2.1{action}.0/24"));
        nothing_asked(trace, findings, ACT_ONLY_EMPTY, &mark, &eid);
    }
}

const UNKNOWN_LCAF: Req = Req::new("rfc9306-3-unknown-lcaf-rloc");

inventory::submit! {
    Case {
        id: "rfc9306::s3::unknown_lcaf_locators_are_ignored",
        title: "A locator that is an LCAF of an unknown type is ignored, and the others are used; a record with no other has none.",
        topology: TOPOLOGY,
        roles: &["itr"],
        features: &["lcaf"],
        requirements: &[UNKNOWN_LCAF],
        drive: |drive| {
            let net = Net::up(drive)?;
            let beside = vec![unknown_lcaf(), locator(OTHER, 2, 100)];
            net.answer("10.2.1.0/24", vec![record("10.2.1.0/24", beside)]);
            net.answer("10.2.2.0/24", vec![record("10.2.2.0/24", vec![unknown_lcaf()])]);
            net.resolve(drive, "10.2.1.1", 1)?;
            net.send("10.2.1.2", 2)?;
            net.resolve(drive, "10.2.2.1", 3)?;
            net.send("10.2.2.2", 4)?;
            net.fence(drive)
        },
        judges: &[|trace, findings| {
            goes_to(trace, findings, UNKNOWN_LCAF, 2, OTHER);
            super::map_cache_net::not_encapsulated(trace, findings, UNKNOWN_LCAF, 4);
        }],
        sabotages: &[
            Sabotage {
                name: "refuses a record with an unknown LCAF",
                node: ITR,
                links: CORE,
                kills: &[UNKNOWN_LCAF],
                tamper: || records_in("10.2.1.0/24", |record| record.locators.clear()),
            },
            Sabotage {
                name: "reads an address out of an unknown LCAF",
                node: ITR,
                links: CORE,
                kills: &[UNKNOWN_LCAF],
                tamper: || records_in("10.2.2.0/24", |record| {
                    record.locators = vec![locator(REMOTE, 1, 100)];
                }),
            },
        ],
        ..Case::BASE
    }
}

/// An LCAF of type 200, which nobody assigned, that looks as if it held an IPv4 address.
fn unknown_lcaf() -> Locator {
    let data = vec![0, 1, 192, 0, 2, 34];
    Locator {
        rloc: Address::Lcaf(Box::new(Lcaf::Opaque {
            kind: 200,
            reserved: [0; 3],
            data,
        })),
        ..locator(REMOTE, 1, 100)
    }
}
