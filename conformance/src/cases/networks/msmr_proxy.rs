//! One site lets the Map-Server answer, the other answers itself, in one network (RFC 6833 4.3).

use harness::inline::{PacketFate, Way};
use lisp::wire::ControlMessage;

use crate::case::Case;
use crate::cases::common::{ip, key, lose_outgoing, outgoing, prefix, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};
use crate::words;

const PROXY: Req = Req::new("rfc6833-4.3-ms-proxy");
const CONTENT: Req = Req::new("rfc6833-4.2-proxy-reply-content");
const A_BIT: Req = Req::new("rfc6830-6.1.4-a-bit-proxy");
const L_BIT: Req = Req::new("rfc6830-6.1.4-l-bit-proxy");
const P_BIT: Req = Req::new("rfc6830-6.1.6-p-bit");
const FORWARDS: Req = Req::new("rfc6833-4.3-ms-forward");
const ETR_DIRECT: Req = Req::new("rfc6833-4.3-etr-replies-direct");
const ENCAPSULATES: Req = Req::new("rfc6830-3-itr-encap");

const MSMR: &str = "msmr";
const HOST_A: &str = "10.1.0.10";
const HOST_B: &str = "10.2.0.10";

inventory::submit! {
    Case {
        id: "rfc6833::s4_3::a_proxy_beside_an_etr_that_answers_itself",
        title: "For the site that registered with P the Map-Server answers, for the other its ETR; both ITRs use what they are told, and pings cross both ways.",
        settings: &[(
            "xtr-b",
            "map-servers: [{address: 198.51.100.10, key: key-of-site-b, proxy-reply: true}]",
        )],
        roles: &["itr", "etr", "ms", "mr"],
        features: &["proxy-reply"],
        requirements: &[PROXY, CONTENT, A_BIT, L_BIT, P_BIT, FORWARDS, ETR_DIRECT, ENCAPSULATES],
        drive,
        judges: &[by_the_server, by_the_etr, pings],
        sabotages: &[
            Sabotage {
                name: "proxies for nobody",
                node: MSMR,
                links: &[],
                kills: &[PROXY, P_BIT],
                tamper: || Box::new(|way, frame| {
                    if way == Way::ToVictim {
                        frame.edit_signed(&key("key-of-site-b"), |message| match message {
                            ControlMessage::MapRegister(register) => std::mem::take(&mut register.proxy_reply),
                            _ => false,
                        });
                    }
                    PacketFate::Forward
                }),
            },
            Sabotage {
                name: "proxies for everybody",
                node: MSMR,
                links: &[],
                kills: &[FORWARDS],
                tamper: || Box::new(|way, frame| {
                    if way == Way::ToVictim {
                        frame.edit_signed(&key("key-of-site-a"), |message| match message {
                            ControlMessage::MapRegister(register)
                                if register.records.iter().any(|r| r.eid_prefix() == Some(prefix("10.1.0.0/24"))) =>
                            {
                                register.proxy_reply = true;
                                true
                            }
                            _ => false,
                        });
                    }
                    PacketFate::Forward
                }),
            },
            Sabotage {
                name: "claims authority and the locators",
                node: MSMR,
                links: &[],
                kills: &[A_BIT, L_BIT],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapReply(reply) => {
                        for record in &mut reply.records {
                            record.authoritative = true;
                            record.locators.iter_mut().for_each(|locator| locator.local = true);
                        }
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "changes the weight",
                node: MSMR,
                links: &[],
                kills: &[CONTENT],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapReply(reply) => {
                        let records = reply.records.iter_mut();
                        records.for_each(|record| record.locators.iter_mut().for_each(|locator| locator.weight = 1));
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "the ETR leaves it to the Map-Server",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[ETR_DIRECT],
                tamper: || lose_outgoing(|frame| matches!(frame.control(), Some(ControlMessage::MapReply(_)))),
            },
            Sabotage {
                name: "does not believe a proxy",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[ENCAPSULATES],
                tamper: || lose_outgoing(|frame| {
                    frame.ip().is_some_and(|ip| ip.udp().is_some_and(|udp| udp.destination_port == lisp::DATA_PORT))
                }),
            },
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-a", "xtr-b"], seconds(10))?;
    drive.mark("host-a pings");
    drive.ping("host-a", ip(HOST_B), 1, seconds(3))?;
    // The answer to the first ping has asked for host-a already; these find everything known.
    drive.ping("host-b", ip(HOST_A), 2, seconds(3))?;
    drive.ping("host-a", ip(HOST_B), 3, seconds(3))?;
    Ok(())
}

/// The first question of an xTR for the other site's host.
fn asked<'t>(trace: &'t Trace, xtr: &'t str, host: &str) -> Option<&'t Seen> {
    trace.originated(xtr).find(|packet| {
        packet.map_request().is_some_and(|request| {
            !request.probe
                && !request.smr
                && request.records.iter().any(|query| {
                    query
                        .prefix()
                        .is_some_and(|asked| asked.contains(0, ip(host)))
                })
        })
    })
}

fn answers<'t>(trace: &'t Trace, node: &'t str, asked: &Seen) -> Vec<&'t Seen> {
    let nonce = asked.map_request().map(|request| request.nonce);
    trace
        .originated(node)
        .filter(|packet| packet.map_reply().map(|reply| reply.nonce) == nonce)
        .collect()
}

fn handed<'t>(trace: &'t Trace, asked: &Seen) -> Vec<&'t Seen> {
    let nonce = asked.map_request().map(|request| request.nonce);
    trace
        .originated(MSMR)
        .filter(|packet| packet.map_request().map(|request| request.nonce) == nonce)
        .collect()
}

fn by_the_server(trace: &Trace, findings: &mut Findings) {
    let registered = trace
        .originated("xtr-b")
        .find_map(|packet| Some((packet, packet.map_register()?)));
    let (Some(asked), Some((register, message))) = (asked(trace, "xtr-a", HOST_B), registered)
    else {
        return findings.unseen(PROXY, "a Map-Register of xtr-b and a Map-Request of xtr-a");
    };
    let wants = message.proxy_reply;
    let (answers, handed) = (answers(trace, MSMR, asked), handed(trace, asked));
    let right = wants && answers.len() == 1 && handed.is_empty();
    let said = format!(
        "P = {}, {} answers of the Map-Server, handed on {} times",
        u8::from(wants),
        answers.len(),
        handed.len()
    );
    for requirement in [PROXY, P_BIT] {
        findings.check(
            requirement,
            right,
            [register, asked],
            "P = 1: one Map-Reply of the Map-Server, and nothing handed on",
            said.clone(),
        );
    }
    let Some(reply) = answers.first().copied() else {
        for requirement in [CONTENT, A_BIT, L_BIT] {
            findings.broken(requirement, asked, "a Map-Reply of the Map-Server", "none");
        }
        return;
    };
    let records = reply.map_reply().map(|reply| reply.records.as_slice());
    let Some(record) = records.and_then(|records| records.first()) else {
        return findings.broken(CONTENT, reply, "a record", "none");
    };
    let set = |record: &lisp::wire::MapRecord| {
        let locators = record.locators.iter();
        let locators = locators.map(|l| (l.rloc.clone(), l.priority, l.weight, l.reachable));
        (
            record.eid_prefix(),
            record.ttl,
            locators.collect::<Vec<_>>(),
        )
    };
    let told = message.records.iter().map(set).collect::<Vec<_>>();
    findings.check(
        CONTENT,
        told.contains(&set(record)),
        [register, reply],
        format!("as registered: {}", words::records(&message.records)),
        words::records([record]),
    );
    let local = record.locators.iter().any(|locator| locator.local);
    findings.check(A_BIT, !record.authoritative, reply, "A = 0", "A = 1");
    findings.check(L_BIT, !local, reply, "L = 0 on every locator", "L = 1");
}

fn by_the_etr(trace: &Trace, findings: &mut Findings) {
    let Some(asked) = asked(trace, "xtr-b", HOST_A) else {
        return findings.unseen(FORWARDS, "a Map-Request of xtr-b");
    };
    let (handed, own) = (handed(trace, asked), answers(trace, MSMR, asked));
    let to_etr = handed.len() == 1
        && handed.iter().all(|copy| {
            copy.ecm().is_some()
                && copy
                    .destination()
                    .is_some_and(|to| trace.has_address("xtr-a", to))
        });
    findings.check(
        FORWARDS,
        to_etr && own.is_empty(),
        &[asked]
            .into_iter()
            .chain(handed.iter().copied())
            .collect::<Vec<_>>(),
        "P = 0: one Encapsulated Map-Request to xtr-a, and no answer of the Map-Server",
        format!(
            "handed on {} times, {} answers of its own",
            handed.len(),
            own.len()
        ),
    );
    let by_etr = answers(trace, "xtr-a", asked);
    let right = by_etr.first().is_some_and(|reply| {
        let record = reply.map_reply().and_then(|reply| reply.records.first());
        record.is_some_and(|record| record.authoritative)
            && reply
                .destination()
                .is_some_and(|to| trace.has_address("xtr-b", to))
    });
    findings.check(
        ETR_DIRECT,
        right,
        by_etr.first().copied().unwrap_or(asked),
        "an authoritative Map-Reply of xtr-a to an ITR-RLOC of xtr-b",
        by_etr
            .first()
            .map_or("none".to_owned(), |reply| reply.summary()),
    );
}

fn pings(trace: &Trace, findings: &mut Findings) {
    for (sequence, from) in [(1, "host-a"), (2, "host-b"), (3, "host-a")] {
        let of = |packet: &&Seen, request: bool| {
            let ip = packet.data().map(|(_, inner)| inner).or(packet.ip());
            ip.and_then(|ip| ip.icmp())
                .is_some_and(|icmp| icmp.is_echo_request() == request && icmp.echo().1 == sequence)
        };
        let Some(sent) = trace.sent_by(from).find(|packet| of(packet, true)) else {
            findings.unseen(ENCAPSULATES, format!("ping {sequence}"));
            continue;
        };
        let tunnelled = trace
            .iter()
            .any(|packet| of(&packet, true) && packet.is_data());
        let back = trace.received_by(from).find(|packet| of(packet, false));
        findings.check(
            ENCAPSULATES,
            tunnelled && back.is_some(),
            back.unwrap_or(sent),
            format!("ping {sequence} through the tunnel, and its answer back"),
            back.map_or("lost".to_owned(), Seen::summary),
        );
    }
}
