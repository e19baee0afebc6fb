//! Instance IDs in questions, answers and data (RFC 6830 5.5; RFC 8060 3, 4.1; RFC 9300 8).

use lisp::wire::{EidQuery, MapRecord};
use lisp::{Address, EidPrefix, Lcaf};

use super::map_cache_net::{
    CORE, ITR, Net, OTHER, REMOTE, SOON, TOPOLOGY, became, goes_to, inner_sequence, is_question,
    not_encapsulated, records_in, replies_in, requests_out, sent,
};
use crate::case::Case;
use crate::cases::common::{edit_outgoing, ip, locator, prefix, record};
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const ENCAPSULATED: Req = Req::new("rfc6830-5.5-iid-encap");
const SEGREGATED: Req = Req::new("rfc6830-5.5-segregation");
const SAME: Req = Req::new("rfc9300-8-same-iid");
const HEADER: Req = Req::new("rfc8060-3-lcaf-header");
const LCAF: Req = Req::new("rfc8060-4.1-iid");
const LOW_BITS: Req = Req::new("rfc8060-4.1-iid-24");

/// Two halves of the site, each an instance of its own.
const SETTINGS: &[(&str, &str)] = &[(
    ITR,
    "eid-prefixes: [{prefix: 10.1.0.0/25, instance-id: 1, locators: [{address: 192.0.2.2, priority: 1, weight: 100}]}, {prefix: 10.1.0.128/25, instance-id: 2748, locators: [{address: 192.0.2.2, priority: 1, weight: 100}]}]",
)];
/// The host of the second instance.
const SECOND: &str = "10.1.0.200";
const INSTANCES: [u32; 2] = [1, 2748];
/// The second one and a bit that a data packet has no room for.
const WIDE: u32 = 0x0100_0000 + 2748;
/// The EID that exists in both instances.
const SHARED: &str = "10.2.1.1";

inventory::submit! {
    Case {
        id: "rfc6830::s5_5::instances_are_asked_for_and_kept_apart",
        title: "Two instances send to one address: each is asked for by its own LCAF, follows its own mapping, and carries its own IID.",
        topology: TOPOLOGY,
        settings: SETTINGS,
        roles: &["itr"],
        features: &["instance-id", "lcaf"],
        requirements: &[ENCAPSULATED, SEGREGATED, HEADER, LCAF, LOW_BITS],
        drive: drive_apart,
        judges: &[judge_questions, judge_data],
        sabotages: &[
            Sabotage {
                name: "sends no Instance ID",
                node: ITR,
                links: CORE,
                kills: &[ENCAPSULATED],
                tamper: || edit_outgoing(|frame| {
                    frame.edit_data(|header, _| header.instance_id.take().is_some());
                }),
            },
            Sabotage {
                name: "sends the first instance's ID for all",
                node: ITR,
                links: CORE,
                kills: &[ENCAPSULATED, LOW_BITS],
                tamper: || edit_outgoing(|frame| {
                    frame.edit_data(|header, _| header.instance_id.replace(1) == Some(2748));
                }),
            },
            Sabotage {
                name: "uses one instance's mapping in the other",
                node: ITR,
                links: CORE,
                kills: &[SEGREGATED],
                tamper: || records_in("[2748]10.2.1.0/24", |record| {
                    record.locators = vec![locator(REMOTE, 1, 100)];
                }),
            },
            Sabotage {
                name: "asks without the Instance ID",
                node: ITR,
                links: CORE,
                kills: &[LCAF],
                tamper: || requests_out(|request| {
                    let Some(asked) = request.records.first().and_then(EidQuery::prefix) else {
                        return false;
                    };
                    request.records = vec![EidQuery::new(EidPrefix::new(0, asked.prefix))];
                    true
                }),
            },
            Sabotage {
                name: "sets reserved bits of its LCAFs",
                node: ITR,
                links: CORE,
                kills: &[HEADER],
                tamper: || requests_out(|request| match &mut request.records[0].eid {
                    Address::Lcaf(lcaf) => match &mut **lcaf {
                        Lcaf::InstanceId { reserved, .. } => {
                            *reserved = [0xff, 0xff];
                            true
                        }
                        _ => false,
                    },
                    _ => false,
                }),
            },
            Sabotage {
                name: "minds reserved bits of an LCAF",
                node: ITR,
                links: CORE,
                kills: &[HEADER],
                tamper: || records_in("[1]10.2.1.0/24", |record| record.ttl = 0),
            },
            Sabotage {
                name: "takes 24 of 32 bits for the whole Instance ID",
                node: ITR,
                links: CORE,
                kills: &[LOW_BITS],
                tamper: || replies_in(|reply| {
                    let wide = |record: &&mut MapRecord| {
                        record.eid.eid().is_some_and(|(instance, _)| instance == WIDE)
                    };
                    let found = reply.records.iter_mut().find(wide);
                    found.is_some_and(|found| {
                        found.eid = prefix("[2748]10.2.9.0/24").to_address();
                        true
                    })
                }),
            },
        ],
        ..Case::BASE
    }
}

/// Sets Rsvd1 and Flags of a record's LCAF: they mean nothing to a receiver.
fn with_reserved_bits(mut found: MapRecord) -> MapRecord {
    if let Address::Lcaf(lcaf) = &mut found.eid
        && let Lcaf::InstanceId { reserved, .. } = &mut **lcaf
    {
        *reserved = [0xa5, 0x5a];
    }
    found
}

/// The second instance's host sends.
fn second(net: &Net, to: &str, number: u16) -> Result<(), Stop> {
    Ok(net
        .site
        .send(&Echo::new(ip(SECOND), ip(to), number).request())?)
}

fn drive_apart(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let mut net = Net::up(drive)?;
    net.instance = INSTANCES[0];
    let one = record("[1]10.2.1.0/24", vec![locator(REMOTE, 1, 100)]);
    net.answer("[1]10.2.1.0/24", vec![with_reserved_bits(one)]);
    net.map("[2748]10.2.1.0/24", OTHER);
    let mut wide = record("10.2.9.0/24", vec![locator(OTHER, 1, 100)]);
    wide.eid = EidPrefix::new(WIDE, prefix("10.2.9.0/24").prefix).to_address();
    net.answer("[2748]10.2.9.0/24", vec![wide]);
    net.resolve(drive, SHARED, 1)?;
    for (to, number) in [(SHARED, 11), ("10.2.9.1", 12)] {
        let begin = drive.now_ns();
        second(&net, to, number)?;
        let asked = EidPrefix::host(INSTANCES[1], ip(to));
        let what = format!("a Map-Request of the second instance for {to}");
        let question = drive.wait_for(begin, &what, SOON, |packet| {
            packet.receiver() == Some("mapping") && is_question(packet, &asked)
        })?;
        let nonce = question.map_request().map_or(0, |request| request.nonce);
        drive.wait_for(begin, "its Map-Reply", SOON, |packet| {
            packet.receiver() == Some(ITR)
                && packet.map_reply().is_some_and(|reply| reply.nonce == nonce)
        })?;
        net.fence(drive)?;
    }
    net.send(SHARED, 2)?;
    second(&net, SHARED, 13)?;
    second(&net, "10.2.9.1", 14)?;
    net.fence(drive)
}

fn judge_questions(trace: &Trace, findings: &mut Findings) {
    let asked: Vec<&Seen> = trace
        .originated(ITR)
        .filter(|packet| {
            packet.map_request().is_some_and(|request| {
                let address = request.records.first().map(|query| &query.eid);
                address
                    .and_then(Address::eid)
                    .is_some_and(|(_, eid)| eid == ip(SHARED))
            })
        })
        .collect();
    for instance in INSTANCES {
        let found = asked
            .iter()
            .find(|packet| is_question(packet, &EidPrefix::host(instance, ip(SHARED))));
        match found {
            Some(packet) => findings.met(LCAF, *packet, format!("[{instance}]{SHARED}/32")),
            None => findings.broken(
                LCAF,
                &asked,
                format!("a Map-Request for [{instance}]{SHARED}/32"),
                "none",
            ),
        }
    }
    for packet in asked {
        let Some(Address::Lcaf(lcaf)) = packet
            .map_request()
            .and_then(|request| request.records.first())
            .map(|query| &query.eid)
        else {
            continue;
        };
        if let Lcaf::InstanceId { reserved, .. } = &**lcaf {
            findings.check(
                HEADER,
                *reserved == [0, 0],
                packet,
                "Rsvd1 and Flags 0",
                format!("Rsvd1 {:#04x}, Flags {:#04x}", reserved[0], reserved[1]),
            );
        }
    }
    // The answer in instance 1 came with reserved bits.
    goes_to(trace, findings, HEADER, 2, REMOTE);
}

fn judge_data(trace: &Trace, findings: &mut Findings) {
    goes_to(trace, findings, SEGREGATED, 2, REMOTE);
    goes_to(trace, findings, SEGREGATED, 13, OTHER);
    for (number, instance) in [(2, INSTANCES[0]), (13, INSTANCES[1])] {
        let data = trace
            .sent_by(ITR)
            .find(|packet| inner_sequence(packet) == Some(number));
        let Some(packet) = data else {
            findings.broken(
                ENCAPSULATED,
                sent(trace, number),
                format!("packet {number} in a LISP data packet"),
                became(trace, number).text(),
            );
            continue;
        };
        let carried = packet.data().and_then(|(header, _)| header.instance_id);
        for requirement in [ENCAPSULATED, LOW_BITS] {
            findings.check(
                requirement,
                carried == Some(instance),
                packet,
                format!("I=1, Instance ID {instance}"),
                carried.map_or_else(
                    || "I=0".to_owned(),
                    |instance| format!("I=1, Instance ID {instance}"),
                ),
            );
        }
    }
    not_encapsulated(trace, findings, LOW_BITS, 14);
}

inventory::submit! {
    Case {
        id: "rfc9300::s8::source_and_destination_are_of_one_instance",
        title: "A mapping of Instance ID 0 is not used for packets of another instance.",
        topology: TOPOLOGY,
        settings: SETTINGS,
        editions: &[Edition::Rfc9300],
        roles: &["itr"],
        features: &["instance-id"],
        requirements: &[SAME],
        drive: |drive| {
            let mut net = Net::up(drive)?;
            net.instance = INSTANCES[0];
            net.answer("[1]10.2.3.0/24", vec![record("10.2.3.0/24", vec![locator(REMOTE, 1, 100)])]);
            net.map("[1]10.2.1.0/24", REMOTE);
            net.resolve(drive, SHARED, 1)?;
            net.send(SHARED, 2)?;
            net.resolve(drive, "10.2.3.1", 3)?;
            net.send("10.2.3.1", 4)?;
            net.fence(drive)
        },
        judges: &[|trace, findings| {
            goes_to(trace, findings, SAME, 2, REMOTE);
            not_encapsulated(trace, findings, SAME, 4);
        }],
        sabotages: &[Sabotage {
            name: "uses mappings of all instances",
            node: ITR,
            links: CORE,
            kills: &[SAME],
            tamper: || records_in("10.2.3.0/24", |found| {
                found.eid = prefix("[1]10.2.3.0/24").to_address();
            }),
        }],
        ..Case::BASE
    }
}
