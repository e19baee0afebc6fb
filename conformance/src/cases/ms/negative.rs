//! Negative answers: their TTL, their prefix, their way back (RFC 6833 4.1, 4.3, 4.4).

use lisp::wire::{Action, ControlMessage};

use super::common::{INNER_PORT, answered, ask, question, reply};
use crate::case::Case;
use crate::cases::common::{edit_outgoing, incoming, ip, outgoing, prefix};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;
use crate::words;

const NO_SITE: Req = Req::new("rfc6833-4.3-ms-nomatch");
const FIFTEEN: Req = Req::new("rfc6833-4.4-mr-neg-15");
const NOT_REGISTERED: Req = Req::new("rfc6833-4.3-ms-unregistered");
const ONE: Req = Req::new("rfc6833-4.1-neg-1");
const COARSE: Req = Req::new("rfc6833-4.4-mr-coarse");
const KNOWN: Req = Req::new("rfc6833-4.4-mr-coarse-known");
const FAMILY: Req = Req::new("rfc6833-4.4-mr-coarse-family");
const ADDRESSING: Req = Req::new("rfc6833-4.3-ms-neg-addressing");
const TO_ITR_RLOC: Req = Req::new("rfc6830-6.1.5-dst-itr-rloc");
const PORTS: Req = Req::new("rfc6830-6.1-mrep-ports");
const COVERS: Req = Req::new("rfc6830-6.1.5-prefix-cover");

/// The ITR-RLOC of the questions: not the source of the packets.
const RLOC: &str = "192.0.2.67";

/// A question and what is known of its answer. Known EID-Prefixes: 10.1.0.0/24, 10.2.0.0/16, 10.3.0.0/24, 2001:db8:a::/48.
struct Question {
    nonce: u64,
    eid: &'static str,
    minutes: u32,
    prefix: &'static str,
    requirements: &'static [Req],
}

const QUESTIONS: &[Question] = &[
    // No known EID-Prefix starts with a one: half of the address space is free.
    Question {
        nonce: 0x6e65_0000_0000_0001,
        eid: "172.16.5.5",
        minutes: 15,
        prefix: "128.0.0.0/1",
        requirements: &[NO_SITE, FIFTEEN, COARSE],
    },
    // 13 bits in common with 10.2.0.0/16 and its neighbours.
    Question {
        nonce: 0x6e65_0000_0000_0002,
        eid: "10.4.0.9",
        minutes: 15,
        prefix: "10.4.0.0/14",
        requirements: &[NO_SITE, FIFTEEN, COARSE],
    },
    // Next to site c, which is configured and not registered: 10.3.0.0/24 is known all the same.
    Question {
        nonce: 0x6e65_0000_0000_0003,
        eid: "10.3.1.1",
        minutes: 15,
        prefix: "10.3.1.0/24",
        requirements: &[NO_SITE, KNOWN],
    },
    Question {
        nonce: 0x6e65_0000_0000_0004,
        eid: "10.3.0.7",
        minutes: 1,
        prefix: "10.3.0.0/24",
        requirements: &[NOT_REGISTERED, ONE],
    },
    Question {
        nonce: 0x6e65_0000_0000_0005,
        eid: "2001:db8:b::1",
        minutes: 15,
        prefix: "2001:db8:b::/48",
        requirements: &[NO_SITE, FAMILY],
    },
];

inventory::submit! {
    Case {
        id: "rfc6833::s4_4::negative_answers_are_exact",
        title: "Questions for no EID get the largest prefix without a known EID-Prefix for 15 minutes; for an EID-Prefix without a registration, it for 1 minute.",
        topology: "one-msmr",
        roles: &["ms", "mr"],
        requirements: &[
            NO_SITE, FIFTEEN, NOT_REGISTERED, ONE, COARSE, KNOWN, FAMILY, ADDRESSING, TO_ITR_RLOC, PORTS, COVERS,
        ],
        drive,
        judges: &[judge],
        sabotages: &[
            Sabotage {
                name: "answers with a TTL of two minutes",
                node: "msmr",
                links: &[],
                kills: &[NO_SITE, FIFTEEN, NOT_REGISTERED, ONE],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapReply(reply) => {
                        reply.records.iter_mut().for_each(|record| record.ttl = 2);
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "answers for the host alone",
                node: "msmr",
                links: &[],
                kills: &[COARSE, KNOWN, FAMILY],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapReply(reply) => {
                        for record in &mut reply.records {
                            record.eid_mask_len = if record.eid.ip().is_some_and(|eid| eid.is_ipv4()) { 32 } else { 128 };
                        }
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "answers for another prefix",
                node: "msmr",
                links: &[],
                kills: &[COVERS],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapReply(reply) => {
                        for record in &mut reply.records {
                            record.eid = lisp::Address::from_eid(0, ip("11.0.0.0"));
                            record.eid_mask_len = 8;
                        }
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "answers to the source of the packet",
                node: "msmr",
                links: &[],
                kills: &[TO_ITR_RLOC, ADDRESSING],
                tamper: || edit_outgoing(|frame| {
                    if matches!(frame.control(), Some(ControlMessage::MapReply(_))) {
                        frame.edit_addresses(|header| {
                            if let lisp::ip::IpHeader::V4(header) = header {
                                header.destination = std::net::Ipv4Addr::new(192, 0, 2, 66);
                            }
                            true
                        });
                    }
                }),
            },
            Sabotage {
                name: "takes the source of the packet for the ITR-RLOC",
                node: "msmr",
                links: &[],
                kills: &[TO_ITR_RLOC, ADDRESSING],
                tamper: || incoming(|message| match message {
                    ControlMessage::MapRequest(request) => {
                        request.itr_rlocs = vec![lisp::Address::from_eid(0, ip("192.0.2.66"))];
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "answers to the outer source port",
                node: "msmr",
                links: &[],
                kills: &[PORTS, ADDRESSING],
                tamper: || edit_outgoing(|frame| {
                    if matches!(frame.control(), Some(ControlMessage::MapReply(_))) {
                        frame.edit_udp_ports(|ports, _| {
                            ports.1 = 53_001;
                            true
                        });
                    }
                }),
            },
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let itr = drive.peer("itr")?;
    let begin = drive.mark("the questions");
    for question in QUESTIONS {
        ask(drive, &itr, question.nonce, ip(RLOC), ip(question.eid))?;
        answered(drive, begin, question.nonce)?;
    }
    Ok(())
}

fn judge(trace: &Trace, findings: &mut Findings) {
    for asked in QUESTIONS {
        let Some(sent) = question(trace, asked.nonce) else {
            findings.unseen(NO_SITE, format!("the question for {}", asked.eid));
            continue;
        };
        let expected = format!(
            "one record {}, {} minutes, natively-forward, no locators",
            asked.prefix, asked.minutes
        );
        let Some((packet, reply)) = reply(trace, asked.nonce) else {
            for requirement in asked.requirements {
                findings.broken(*requirement, sent, expected.clone(), "no Map-Reply");
            }
            continue;
        };
        let [record] = &reply.records[..] else {
            findings.broken(
                NO_SITE,
                [sent, packet],
                expected,
                format!("{} records", reply.records.len()),
            );
            continue;
        };
        let form = record.ttl == asked.minutes
            && record.action == Action::NativelyForward
            && record.locators.is_empty();
        let exact = record.eid_prefix() == Some(prefix(asked.prefix));
        let seen = format!(
            "{}, {} minutes, ACT {}, {} locators",
            record
                .eid_prefix()
                .map_or("no prefix".to_owned(), |prefix| prefix.to_string()),
            record.ttl,
            record.action.code(),
            record.locators.len()
        );
        for requirement in asked.requirements {
            // Rows about the form do not ask for the prefix, and the other way round.
            let holds = if [COARSE, KNOWN, FAMILY].contains(requirement) {
                exact
            } else {
                form
            };
            findings.check(
                *requirement,
                holds,
                [sent, packet],
                expected.clone(),
                seen.clone(),
            );
        }
        findings.check(
            COVERS,
            record
                .eid_prefix()
                .is_some_and(|prefix| prefix.contains(0, ip(asked.eid))),
            [sent, packet],
            format!("a prefix that covers {}", asked.eid),
            seen,
        );
        let to_rloc = packet.destination() == Some(ip(RLOC));
        let to = words::to(packet);
        findings.check(
            TO_ITR_RLOC,
            to_rloc,
            [sent, packet],
            format!("to the ITR-RLOC {RLOC}"),
            to.clone(),
        );
        let ports = packet
            .udp()
            .map(|udp| (udp.source_port, udp.destination_port));
        let right = ports == Some((4342, INNER_PORT));
        findings.check(
            PORTS,
            right,
            [sent, packet],
            format!("from port 4342 to the inner source port {INNER_PORT}"),
            words::ports(ports),
        );
        findings.check(
            ADDRESSING,
            right && to_rloc,
            [sent, packet],
            format!("to {RLOC}, port {INNER_PORT}, from port 4342"),
            format!("{to}, ports {}", words::ports(ports)),
        );
    }
}
