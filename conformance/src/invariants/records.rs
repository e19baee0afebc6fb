//! EID records and their locators (RFC 6830 6.1.4), and to whom a Map-Reply goes (6.1.5).

use lisp::CONTROL_PORT;
use lisp::wire::{Action, ControlMessage, MapRecord};

use super::Invariant;
use super::every::{every, expect};
use super::nonces::requests_of;
use crate::catalogue::Req;
use crate::finding::Findings;
use crate::trace::{Seen, Trace};
use crate::words;

const ACT: Req = Req::new("rfc6830-6.1.4-act-tx0");
const FLAGS: Req = Req::new("rfc6830-6.1.4-loc-flags-reserved");
const NOT_PROBED: Req = Req::new("rfc6830-6.1.4-p-bit-never");
const SORTED: Req = Req::new("rfc6830-6.1.5-loc-sorted");
const SAME_TTL: Req = Req::new("rfc6830-6.1.5-same-ttl");
const COVERS: Req = Req::new("rfc6830-6.1.5-prefix-cover");
const TO_ITR_RLOC: Req = Req::new("rfc6830-6.1.5-dst-itr-rloc");
const REPLY_PORTS: Req = Req::new("rfc6830-6.1-mrep-ports");

pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "EID records and locators",
        requirements: &[ACT, FLAGS, NOT_PROBED, SORTED, SAME_TTL],
        judge: form,
    },
    Invariant {
        name: "Map-Replies answer what was asked, and go where they were asked to go",
        requirements: &[COVERS, TO_ITR_RLOC, REPLY_PORTS],
        judge: replies,
    },
];

/// The records of any message that has some.
pub(super) fn of(packet: &Seen) -> &[MapRecord] {
    match packet.message() {
        Some(ControlMessage::MapReply(message)) => &message.records,
        Some(ControlMessage::MapRegister(message)) => &message.records,
        Some(ControlMessage::MapNotify(message)) => &message.records,
        _ => &[],
    }
}

fn form(trace: &Trace, findings: &mut Findings) {
    let with_records = || trace.judged().filter(|packet| !of(packet).is_empty());
    // ACT in a Map-Notify repeats what was registered (ambiguities B8).
    let own = || with_records().filter(|packet| packet.map_notify().is_none());
    every(
        findings,
        ACT,
        "ACT 0 in registers and in records with locators",
        own(),
        |packet| {
            let register = packet.map_register().is_some();
            let wrong = of(packet).iter().find(|record| {
                record.action != Action::NoAction && (register || !record.locators.is_empty())
            });
            expect(wrong.is_none(), || {
                format!("ACT {}", wrong.map_or(0, |record| record.action.code()))
            })
        },
    );
    every(
        findings,
        FLAGS,
        "unused locator flag bits 0",
        own(),
        |packet| {
            let bits = of(packet)
                .iter()
                .flat_map(|record| &record.locators)
                .fold(0, |bits, locator| bits | locator.reserved);
            expect(bits == 0, || format!("bits {bits:#x}"))
        },
    );
    let registers = with_records().filter(|packet| packet.map_register().is_some());
    every(
        findings,
        NOT_PROBED,
        "p bit 0 in a Map-Register",
        registers,
        |packet| {
            let probed = of(packet)
                .iter()
                .flat_map(|record| &record.locators)
                .any(|locator| locator.probed);
            expect(!probed, || "p bit 1".to_owned())
        },
    );
    let several = own().filter(|packet| of(packet).iter().any(|record| record.locators.len() > 1));
    every(
        findings,
        SORTED,
        "locators in ascending order, IPv4 before IPv6",
        several,
        |packet| {
            let wrong = of(packet).iter().find_map(|record| {
                let rlocs: Vec<_> = record
                    .locators
                    .iter()
                    .filter_map(|locator| locator.rloc.ip())
                    .collect();
                (!rlocs.is_sorted()).then_some(rlocs)
            });
            expect(wrong.is_none(), || words::listed(wrong.unwrap_or_default()))
        },
    );
    // Records for several EIDs of one Map-Request have nothing to do with each other; overlapping ones time out together.
    let overlapping =
        |packet: &&Seen| packet.map_reply().is_some() && !overlaps(of(packet)).is_empty();
    every(
        findings,
        SAME_TTL,
        "one TTL in all overlapping records of a Map-Reply",
        with_records().filter(overlapping),
        |packet| {
            let differ = overlaps(of(packet))
                .into_iter()
                .find(|(one, other)| one.ttl != other.ttl);
            expect(differ.is_none(), || {
                differ.map_or(String::new(), |(one, other)| {
                    format!("TTLs {} and {}", one.ttl, other.ttl)
                })
            })
        },
    );
}

/// Whether a record answers a question. A negative one covers no EID-Prefix that exists (RFC 6833 4.4), so it cannot cover a
/// question that holds some: it is about the address then.
fn covers(record: &MapRecord, asked: &lisp::EidPrefix) -> bool {
    record.eid_prefix().is_some_and(|prefix| {
        let host = lisp::EidPrefix::host(asked.iid, asked.prefix.addr());
        prefix.covers(asked)
            || record.locators.is_empty() && asked.covers(&prefix) && prefix.covers(&host)
    })
}

/// Pairs of records of which one EID-Prefix lies in the other.
fn overlaps(records: &[MapRecord]) -> Vec<(&MapRecord, &MapRecord)> {
    let mut pairs = Vec::new();
    for (at, one) in records.iter().enumerate() {
        for other in &records[at + 1..] {
            if let (Some(a), Some(b)) = (one.eid_prefix(), other.eid_prefix())
                && (a.covers(&b) || b.covers(&a))
            {
                pairs.push((one, other));
            }
        }
    }
    pairs
}

fn replies(trace: &Trace, findings: &mut Findings) {
    if trace.topology.is_none() {
        return;
    }
    // A reply that answers no request at all is the business of the nonce invariant.
    let answers = || {
        trace
            .judged()
            .filter(|packet| packet.map_reply().is_some() && !requests_of(trace, packet).is_empty())
    };
    every(
        findings,
        COVERS,
        "a record whose prefix covers the EID that was asked for",
        answers(),
        |packet| {
            let asked: Vec<_> = requests_of(trace, packet)
                .iter()
                .filter_map(|request| request.map_request())
                .flat_map(|request| &request.records)
                .filter_map(|query| query.prefix())
                .collect();
            let answered: Vec<_> = of(packet)
                .iter()
                .filter_map(MapRecord::eid_prefix)
                .collect();
            let covered = asked
                .iter()
                .any(|asked| of(packet).iter().any(|record| covers(record, asked)));
            expect(covered || asked.is_empty(), || {
                let list = |prefixes: &[lisp::EidPrefix]| {
                    prefixes
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join(" ")
                };
                format!("asked for {}, answered {}", list(&asked), list(&answered))
            })
        },
    );
    every(
        findings,
        TO_ITR_RLOC,
        "destination: an ITR-RLOC of the Map-Request",
        answers(),
        |packet| {
            let rlocs: Vec<_> = requests_of(trace, packet)
                .iter()
                .filter_map(|request| request.map_request())
                .flat_map(|request| &request.itr_rlocs)
                .filter_map(lisp::Address::ip)
                .collect();
            let to = packet.destination();
            expect(to.is_some_and(|to| rlocs.contains(&to)), || {
                format!("{}, ITR-RLOCs {}", words::to(packet), words::listed(rlocs))
            })
        },
    );
    // Inside an Encapsulated Control Message the port to copy is the inner one (ambiguities B4).
    let expected = "source port 4342, destination port: the source port of the (inner) Map-Request";
    every(findings, REPLY_PORTS, expected, answers(), |packet| {
        let Some(udp) = packet.udp() else {
            return Ok(());
        };
        let asked: Vec<u16> = requests_of(trace, packet)
            .iter()
            .filter_map(|request| {
                request
                    .ecm()
                    .map(|inner| inner.source_port)
                    .or_else(|| request.udp().map(|udp| udp.source_port))
            })
            .collect();
        expect(
            udp.source_port == CONTROL_PORT && asked.contains(&udp.destination_port),
            || {
                format!(
                    "ports {} > {}, asked from {}",
                    udp.source_port,
                    udp.destination_port,
                    words::listed(asked)
                )
            },
        )
    });
}
