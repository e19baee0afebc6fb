//! What a Map-Server answers itself (RFC 6833 4.3): negatively where nobody is registered, in the ETR's place where it asked for
//! that.

use lisp::wire::{Action, ControlMessage, MapRecord};

use crate::case::Case;
use crate::cases::common::{
    edit_outgoing, incoming, ip, is_notify, is_reply, key, locator, outgoing, record, register,
    request, seconds,
};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const UNREGISTERED: Req = Req::new("rfc6833-4.3-ms-unregistered");
const ONE_MINUTE: Req = Req::new("rfc6833-4.1-neg-1");
const NO_MATCH: Req = Req::new("rfc6833-4.3-ms-nomatch");
const FIFTEEN: Req = Req::new("rfc6833-4.1-neg-15");
const TO_ITR_RLOC: Req = Req::new("rfc6830-6.1.5-dst-itr-rloc");
const PORTS: Req = Req::new("rfc6830-6.1-mrep-ports");
const PROXY: Req = Req::new("rfc6833-4.3-ms-proxy");
const PROXY_PREFIX: Req = Req::new("rfc6833-4.3-ms-proxy-prefix");
const PROXY_CONTENT: Req = Req::new("rfc6833-4.2-proxy-reply-content");
const PROXY_A: Req = Req::new("rfc6830-6.1.4-a-bit-proxy");
const PROXY_L: Req = Req::new("rfc6830-6.1.4-l-bit-proxy");

/// Configured for site c, registered by nobody.
const HOLE: &str = "10.3.0.10/32";
/// In no configured prefix.
const FOREIGN: &str = "172.16.0.1/32";
const HOLE_NONCE: u64 = 0x4d53_0001_a5a5_0001;
const FOREIGN_NONCE: u64 = 0x4d53_0002_5a5a_0002;
const PROXY_NONCE: u64 = 0x4d53_0003_c3c3_0003;
const REGISTER_NONCE: u64 = 0x4d53_0004_3c3c_0004;
/// Inner source port of the questions; the outer one differs (ambiguities B4).
const INNER_PORT: u16 = 61_101;
const OUTER_PORT: u16 = 52_202;
/// The ITR-RLOC of the questions; the packets come from the ITR's other address.
const ITR_RLOC: &str = "192.0.2.67";

inventory::submit! {
    Case {
        id: "rfc6833::s4_3::nobody_registered_is_answered_negatively",
        title: "An unregistered prefix of a site is answered natively-forward for 1 minute, an EID of no site for 15.",
        topology: "one-msmr",
        roles: &["ms"],
        requirements: &[UNREGISTERED, ONE_MINUTE, NO_MATCH, FIFTEEN, TO_ITR_RLOC, PORTS],
        drive: ask_for_both,
        judges: &[negative],
        sabotages: &[
            Sabotage {
                name: "always 15 minutes",
                node: "msmr",
                links: &[],
                kills: &[UNREGISTERED, ONE_MINUTE],
                tamper: || outgoing(|message| on_records(message, |record| record.ttl = 15)),
            },
            Sabotage {
                name: "always drop",
                node: "msmr",
                links: &[],
                kills: &[NO_MATCH, FIFTEEN],
                tamper: || outgoing(|message| on_records(message, |record| record.action = Action::Drop)),
            },
            Sabotage {
                name: "answers the packet's source",
                node: "msmr",
                links: &[],
                kills: &[TO_ITR_RLOC],
                tamper: || incoming(|message| match message {
                    ControlMessage::MapRequest(request) => {
                        request.itr_rlocs = vec![lisp::Address::from_eid(0, ip("192.0.2.66"))];
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "answers the outer source port",
                node: "msmr",
                links: &[],
                kills: &[PORTS],
                tamper: || edit_outgoing(|frame| {
                    frame.edit_udp_ports(|ports, _| {
                        let reply = ports.1 == INNER_PORT;
                        ports.1 = if reply { OUTER_PORT } else { ports.1 };
                        reply
                    });
                }),
            },
        ],
        ..Case::BASE
    }
}

fn on_records(message: &mut ControlMessage, change: fn(&mut MapRecord)) -> bool {
    match message {
        ControlMessage::MapReply(reply) => {
            reply.records.iter_mut().for_each(change);
            true
        }
        _ => false,
    }
}

fn ask(drive: &Drive<'_>, nonce: u64, eid: &str) -> Result<(), Stop> {
    let itr = drive.peer("itr")?;
    let question =
        ControlMessage::MapRequest(request(nonce, Some(ip("10.9.0.9")), &[ip(ITR_RLOC)], eid));
    let inner_to = eid.split('/').next().map_or_else(|| ip("0.0.0.0"), ip);
    itr.encapsulated(
        (ip("192.0.2.66"), OUTER_PORT),
        drive.address("msmr")?,
        (ip("192.0.2.66"), INNER_PORT),
        inner_to,
        &question,
    )?;
    Ok(())
}

fn ask_for_both(drive: &mut Drive<'_>) -> Result<(), Stop> {
    for (nonce, eid) in [(HOLE_NONCE, HOLE), (FOREIGN_NONCE, FOREIGN)] {
        let begin = drive.mark(eid);
        ask(drive, nonce, eid)?;
        drive.wait_for(
            begin,
            &format!("the Map-Reply for {eid}"),
            seconds(5),
            |packet| is_reply(packet, nonce),
        )?;
    }
    Ok(())
}

fn negative(trace: &Trace, findings: &mut Findings) {
    for (nonce, eid, ttl, requirements) in [
        (HOLE_NONCE, HOLE, 1, [UNREGISTERED, ONE_MINUTE]),
        (FOREIGN_NONCE, FOREIGN, 15, [NO_MATCH, FIFTEEN]),
    ] {
        let asked = trace.sent_by("itr").find(|packet| {
            packet
                .map_request()
                .is_some_and(|request| request.nonce == nonce)
        });
        let Some(asked) = asked else {
            requirements
                .iter()
                .for_each(|requirement| findings.unseen(*requirement, "the Map-Request"));
            continue;
        };
        let Some(reply) = trace
            .originated("msmr")
            .find(|packet| is_reply(packet, nonce))
        else {
            for requirement in requirements {
                findings.broken(
                    requirement,
                    asked,
                    format!("a negative Map-Reply for {eid}"),
                    "none",
                );
            }
            continue;
        };
        let record = reply.map_reply().and_then(|reply| reply.records.first());
        let right = record.is_some_and(|record| {
            record.locators.is_empty()
                && record.action == Action::NativelyForward
                && record.ttl == ttl
                && record
                    .eid_prefix()
                    .is_some_and(|prefix| prefix.covers(&crate::cases::common::prefix(eid)))
        });
        for requirement in requirements {
            let expected = format!("no locators, ACT 1, TTL {ttl}, a prefix that covers {eid}");
            findings.check(
                requirement,
                right,
                [asked, reply],
                expected,
                reply.summary(),
            );
        }
        addressed(findings, asked, reply);
    }
}

fn addressed(findings: &mut Findings, asked: &Seen, reply: &Seen) {
    let to = reply.destination();
    findings.check(
        TO_ITR_RLOC,
        to == Some(ip(ITR_RLOC)),
        [asked, reply],
        format!("to the ITR-RLOC {ITR_RLOC}"),
        format!("{to:?}"),
    );
    let ports = reply
        .udp()
        .map(|udp| (udp.source_port, udp.destination_port));
    findings.check(
        PORTS,
        ports == Some((4342, INNER_PORT)),
        [asked, reply],
        format!("ports 4342 > {INNER_PORT}, the inner source port"),
        format!("{ports:?}"),
    );
}

inventory::submit! {
    Case {
        id: "rfc6833::s4_3::proxy_registration_is_answered_by_the_map_server",
        title: "For an ETR that registered with P the Map-Server answers itself: the registered set, A and L cleared.",
        topology: "one-msmr",
        roles: &["ms"],
        features: &["proxy-reply"],
        requirements: &[PROXY, PROXY_PREFIX, PROXY_CONTENT, PROXY_A, PROXY_L],
        drive: proxy,
        judges: &[proxied],
        sabotages: &[
            Sabotage {
                name: "claims authority",
                node: "msmr",
                links: &[],
                kills: &[PROXY_A],
                tamper: || outgoing(|message| on_records(message, |record| record.authoritative = true)),
            },
            Sabotage {
                name: "keeps the L bits",
                node: "msmr",
                links: &[],
                kills: &[PROXY_L],
                tamper: || outgoing(|message| on_records(message, |record| {
                    record.locators.iter_mut().for_each(|locator| locator.local = true);
                })),
            },
            Sabotage {
                name: "forgets a locator",
                node: "msmr",
                links: &[],
                kills: &[PROXY_CONTENT],
                tamper: || outgoing(|message| on_records(message, |record| record.locators.truncate(1))),
            },
            Sabotage {
                name: "answers for the host alone",
                node: "msmr",
                links: &[],
                kills: &[PROXY_PREFIX],
                tamper: || outgoing(|message| on_records(message, |record| {
                    record.eid_mask_len = 32;
                    record.eid = lisp::Address::from_eid(0, ip("10.1.0.10"));
                })),
            },
        ],
        ..Case::BASE
    }
}

fn proxy_record() -> MapRecord {
    let mut down = locator("192.0.2.34", 2, 50);
    (down.local, down.reachable) = (false, false);
    record("10.1.0.0/24", vec![locator("192.0.2.2", 1, 100), down])
}

fn proxy(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let etr = drive.peer("etr-a")?;
    let begin = drive.mark("the register");
    let mut message = register(&key("key-of-site-a"), REGISTER_NONCE, vec![proxy_record()]);
    message.proxy_reply = true;
    etr.udp(
        (etr.address(), 51_301),
        (drive.address("msmr")?, 4342),
        &message.to_signed_vec(&key("key-of-site-a")),
    )?;
    drive.wait_for(begin, "the Map-Notify", seconds(5), |packet| {
        is_notify(packet, REGISTER_NONCE)
    })?;
    let asked = drive.mark("the question");
    ask(drive, PROXY_NONCE, "10.1.0.10/32")?;
    drive.wait_for(asked, "the Map-Reply", seconds(5), |packet| {
        is_reply(packet, PROXY_NONCE)
    })?;
    Ok(())
}

fn proxied(trace: &Trace, findings: &mut Findings) {
    let asked = trace.sent_by("itr").find(|packet| {
        packet
            .map_request()
            .is_some_and(|request| request.nonce == PROXY_NONCE)
    });
    let Some(asked) = asked else {
        findings.unseen(PROXY, "the Map-Request");
        return;
    };
    let Some(reply) = trace
        .originated("msmr")
        .find(|packet| is_reply(packet, PROXY_NONCE))
    else {
        findings.broken(PROXY, asked, "a Map-Reply of the Map-Server", "none");
        return;
    };
    let forwarded = trace
        .originated("msmr")
        .find(|packet| packet.map_request().is_some());
    match forwarded {
        Some(forwarded) => findings.broken(
            PROXY,
            [asked, forwarded],
            "an answer instead of forwarding",
            forwarded.summary(),
        ),
        None => findings.met(PROXY, [asked, reply], "answered by the Map-Server"),
    }
    let Some(record) = reply.map_reply().and_then(|reply| reply.records.first()) else {
        findings.broken(PROXY_CONTENT, reply, "the registered record", "no record");
        return;
    };
    let registered = proxy_record();
    findings.check(
        PROXY_PREFIX,
        record.eid_prefix() == registered.eid_prefix(),
        reply,
        "the registered prefix 10.1.0.0/24",
        format!("{:?}", record.eid_prefix()),
    );
    findings.check(PROXY_A, !record.authoritative, reply, "A = 0", "A = 1");
    let local = record.locators.iter().any(|locator| locator.local);
    findings.check(PROXY_L, !local, reply, "L = 0 on every locator", "L = 1");
    let set = |record: &MapRecord| -> Vec<_> {
        record
            .locators
            .iter()
            .map(|l| (l.rloc.clone(), l.priority, l.weight, l.reachable))
            .collect()
    };
    findings.check(
        PROXY_CONTENT,
        set(record) == set(&registered),
        reply,
        format!(
            "the registered locators with priority, weight and R: {:?}",
            set(&registered)
        ),
        format!("{:?}", set(record)),
    );
}
