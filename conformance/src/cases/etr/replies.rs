//! Where a Map-Reply goes, and what it copies from the question (RFC 6830 6.1.5, RFC 6833 4.3).

use std::net::IpAddr;

use lisp::Address;
use lisp::wire::{ControlMessage, MapRequest};

use super::common::*;
use crate::case::Case;
use crate::cases::common::prefix;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};
use crate::words;
use harness::inline::{PacketFate, Way};

const TO_ITR_RLOC: Req = Req::new("rfc6830-6.1.5-dst-itr-rloc");
const PORTS: Req = Req::new("rfc6830-6.1-mrep-ports");
const NONCE: Req = Req::new("rfc6830-6.1.4-nonce-echo");
const DIRECT: Req = Req::new("rfc6833-4.3-etr-replies-direct");
const A_BIT: Req = Req::new("rfc6830-6.1.4-a-bit-etr");
const COVERS: Req = Req::new("rfc6830-6.1.5-prefix-cover");
const LH: Req = Req::new("rfc6830-6.1.8-lh-next");

/// Questions inside Encapsulated Control Messages over each outer and inner family, and a plain one.
const ENCAPSULATED: u64 = 0x0e7a_0000_0001_0001;
const ENCAPSULATED_6: u64 = 0x0e7a_0000_0001_0002;
const MIXED: u64 = 0x0e7a_0000_0001_0003;
const PLAIN: u64 = 0x8e7a_ffff_0001_0004;
const ALL: [u64; 4] = [ENCAPSULATED, ENCAPSULATED_6, MIXED, PLAIN];

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_5::map_reply_goes_to_an_itr_rloc",
        title: "A Map-Reply goes from port 4342 to an ITR-RLOC of the Map-Request and to its source port (the inner one of an Encapsulated Control Message), with its nonce.",
        topology: TOPOLOGY,
        start: false,
        roles: &["etr"],
        requirements: &[TO_ITR_RLOC, PORTS, NONCE, DIRECT, A_BIT, COVERS, LH],
        drive: four_questions,
        judges: &[four_answers],
        sabotages: &[
            Sabotage {
                name: "answers the source of the packet",
                node: ETR,
                links: &["rloc"],
                kills: &[TO_ITR_RLOC, DIRECT],
                tamper: || to(MS, None),
            },
            Sabotage {
                name: "answers to the outer source port",
                node: ETR,
                links: &["rloc"],
                kills: &[PORTS],
                tamper: || to_port(OUTER_PORT),
            },
            Sabotage {
                name: "answers with the low half of the nonce",
                node: ETR,
                links: &["rloc"],
                kills: &[NONCE],
                tamper: || spoil_replies(|reply| {
                    reply.nonce &= 0xffff_ffff;
                    true
                }),
            },
            Sabotage {
                name: "clears the A bit",
                node: ETR,
                links: &["rloc"],
                kills: &[A_BIT],
                tamper: || spoil_replies(|reply| {
                    reply.records.iter_mut().for_each(|record| record.authoritative = false);
                    true
                }),
            },
            Sabotage {
                name: "answers for the neighbouring prefix",
                node: ETR,
                links: &["rloc"],
                kills: &[COVERS],
                tamper: || spoil_replies(|reply| {
                    let other = prefix("10.9.0.0/24").to_address();
                    reply.records.iter_mut().for_each(|record| record.eid = other.clone());
                    true
                }),
            },
            Sabotage {
                name: "never answers a question about an IPv6 EID",
                node: ETR,
                links: &["rloc"],
                kills: &[LH],
                tamper: || swallow_reply(ENCAPSULATED_6),
            },
        ],
        ..Case::BASE
    }
}

/// Sends Map-Replies elsewhere, and to another port where one is given.
fn to(address: IpAddr, port: Option<u16>) -> Tamper {
    Box::new(move |way, frame| {
        let reply = matches!(frame.control(), Some(ControlMessage::MapReply(_)));
        let ours = frame
            .ip()
            .is_some_and(|ip| ip.destination.is_ipv4() == address.is_ipv4());
        if way == Way::FromVictim && reply && ours {
            frame.edit_addresses(|header| {
                if let (lisp::ip::IpHeader::V4(header), IpAddr::V4(address)) = (header, address) {
                    header.destination = address;
                }
                true
            });
            if let Some(port) = port {
                frame.edit_udp_ports(|ports, _| {
                    ports.1 = port;
                    true
                });
            }
        }
        PacketFate::Forward
    })
}

fn to_port(port: u16) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim && matches!(frame.control(), Some(ControlMessage::MapReply(_))) {
            frame.edit_udp_ports(|ports, _| {
                ports.1 = port;
                true
            });
        }
        PacketFate::Forward
    })
}

fn two_rlocs(nonce: u64, number: u8, asked: &str) -> MapRequest {
    let mut request = request(nonce, itr_rloc(number), asked);
    request
        .itr_rlocs
        .push(Address::from(itr_rloc6(u16::from(number))));
    request
}

fn four_questions(drive: &mut Drive) -> Result<(), Stop> {
    let net = Net::registered(drive)?;
    net.question(drive, &two_rlocs(ENCAPSULATED, 1, "10.1.0.10/32"))?;
    let over_v6 = two_rlocs(ENCAPSULATED_6, 2, "2001:db8:a::10/128");
    net.hand_on(&over_v6)?;
    wait_reply(drive, ENCAPSULATED_6)?;
    // An IPv4 Map-Request inside an IPv6 Encapsulated Control Message.
    let mixed = ControlMessage::MapRequest(two_rlocs(MIXED, 3, "10.1.0.11/32"));
    let from = net.mapping.addresses().iter().find(|a| a.is_ipv6());
    let from = from.copied().unwrap_or(ITR6);
    net.mapping
        .encapsulated((from, OUTER_PORT), RLOC6, (ITR, PORT), HOST, &mixed)?;
    wait_reply(drive, MIXED)?;
    net.ask_plainly(RLOC, &two_rlocs(PLAIN, 4, "10.1.0.12/32"))?;
    wait_reply(drive, PLAIN)
}

/// The Map-Reply to a question: by its nonce, or, as the nonce itself may be wrong, by its place after the question.
fn answer<'a>(trace: &'a Trace, question: &Seen, nonce: u64) -> Option<&'a Seen> {
    reply(trace, nonce).or_else(|| {
        trace.originated(ETR).find(|packet| {
            packet.time_ns() >= question.time_ns()
                && packet
                    .map_reply()
                    .is_some_and(|reply| !ALL.contains(&reply.nonce))
        })
    })
}

fn four_answers(trace: &Trace, findings: &mut Findings) {
    for nonce in ALL {
        let Some(question) = asked(trace, nonce) else {
            findings.unseen(
                TO_ITR_RLOC,
                format!("the Map-Request {nonce:#x} at the ETR"),
            );
            continue;
        };
        let Some(answer) = answer(trace, question, nonce) else {
            let requirement = if nonce == ENCAPSULATED_6 || nonce == MIXED {
                LH
            } else {
                DIRECT
            };
            findings.broken(requirement, question, "a Map-Reply", "none");
            continue;
        };
        judge_answer(question, answer, findings);
    }
}

fn judge_answer(question: &Seen, answer: &Seen, findings: &mut Findings) {
    let both = [question, answer];
    let (Some(request), Some(reply)) = (question.map_request(), answer.map_reply()) else {
        return;
    };
    let rlocs: Vec<IpAddr> = request.itr_rlocs.iter().filter_map(Address::ip).collect();
    let to = answer.destination();
    let right = to.is_some_and(|to| rlocs.contains(&to));
    findings.check(
        TO_ITR_RLOC,
        right,
        both,
        format!("destination: one of {}", words::listed(rlocs)),
        format!("destination {}", words::or_none(to)),
    );
    let expected = question
        .ecm()
        .map(|inner| inner.source_port)
        .or(question.udp().map(|udp| udp.source_port));
    let ports = answer
        .udp()
        .map(|udp| (udp.source_port, udp.destination_port));
    findings.check(
        PORTS,
        ports == Some((4342, expected.unwrap_or_default())),
        both,
        format!("from port 4342 to port {}", words::or_none(expected)),
        format!("ports {}", words::ports(ports)),
    );
    findings.check(
        NONCE,
        reply.nonce == request.nonce,
        both,
        format!("nonce {:#018x}", request.nonce),
        format!("nonce {:#018x}", reply.nonce),
    );
    if question.ecm().is_some() {
        findings.met(LH, both, "the inner packet was read and answered");
        findings.check(
            DIRECT,
            right && answer.ecm().is_none(),
            both,
            "a plain Map-Reply to the ITR, not by way of the Map-Server",
            answer.summary(),
        );
    }
    findings.check(
        A_BIT,
        !reply.records.is_empty() && reply.records.iter().all(|record| record.authoritative),
        answer,
        "A = 1 in each record of an ETR",
        "A = 0",
    );
    let asked = request.records.first().and_then(|query| query.prefix());
    let covers =
        asked.is_some_and(|asked| prefixes(answer).iter().any(|prefix| prefix.covers(&asked)));
    findings.check(
        COVERS,
        covers,
        both,
        format!("a record that covers {}", words::or_none(asked)),
        words::listed(prefixes(answer)),
    );
}
