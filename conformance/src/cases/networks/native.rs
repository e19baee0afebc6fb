//! What an ITR leaves alone: destinations without LISP, and sources that are not the site's (RFC 6833 4.1; RFC 6830 12).

use lisp::wire::{Action, ControlMessage};

use crate::case::Case;
use crate::cases::common::{incoming, ip, lose_outgoing, outgoing, seconds};
use crate::cases::fences::special_leaves;
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Stop};
use crate::finding::Findings;
use crate::sabotage::{Frame, Sabotage};
use crate::trace::{Seen, Trace};
use crate::words;

const NEGATIVE_15: Req = Req::new("rfc6833-4.1-neg-15");
const MR_IMMEDIATE: Req = Req::new("rfc6833-4.4-mr-neg-15");
const COARSE: Req = Req::new("rfc6833-4.4-mr-coarse");
const CACHED: Req = Req::new("rfc6833-4.1-itr-negative-cache");
const NATIVE: Req = Req::new("rfc6830-6.1.4-act1-native");
const SOURCE_CHECK: Req = Req::new("rfc6830-12-src-eid-check");

const LEGACY: &str = "203.0.113.10";
const HOST_B: &str = "10.2.0.10";
/// Neither an EID nor a locator of the network.
const STRANGER: &str = "10.9.0.9";

inventory::submit! {
    Case {
        id: "rfc6833::s4_4::what_is_no_eid_is_answered_negatively_and_forwarded_natively",
        title: "The Map-Resolver answers at once that a destination is no EID, with the least specific prefix; its packets leave natively.",
        roles: &["itr", "mr"],
        requirements: &[NEGATIVE_15, MR_IMMEDIATE, COARSE, CACHED, NATIVE],
        drive: |drive| {
            drive.registered(&["xtr-a", "xtr-b"], seconds(10))?;
            let begin = drive.mark("the first ping");
            drive.ping("host-a", ip(LEGACY), 1, seconds(1))?;
            drive.wait_for(begin, "the negative Map-Reply at xtr-a", seconds(5), |packet| {
                packet.receiver() == Some("xtr-a") && packet.map_reply().is_some()
            })?;
            let warm = drive.mark("the second ping");
            let host = drive.peer("host-a")?;
            host.send(&Echo::new(host.address(), ip(LEGACY), 2).request())?;
            drive.wait_for(warm, "the second ping at the legacy host", seconds(5), |packet| {
                packet.receiver() == Some("legacy") && echo(packet) == Some(2)
            })?;
            Ok(())
        },
        judges: &[negative],
        sabotages: &[
            Sabotage {
                name: "answers with a TTL of 16 minutes",
                node: "msmr",
                links: &[],
                kills: &[NEGATIVE_15, MR_IMMEDIATE],
                tamper: || outgoing(|message| on_reply(message, |record| record.ttl = 16)),
            },
            Sabotage {
                name: "answers for the host alone",
                node: "msmr",
                links: &[],
                kills: &[COARSE],
                tamper: || outgoing(|message| on_reply(message, |record| {
                    record.eid_mask_len = 32;
                    record.eid = lisp::Address::from_eid(0, ip(LEGACY));
                })),
            },
            Sabotage {
                name: "caches nothing for the second packet",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[CACHED],
                tamper: || incoming(|message| on_reply(message, |record| {
                    record.eid_mask_len = 32;
                    record.eid = lisp::Address::from_eid(0, ip("203.0.113.99"));
                })),
            },
            Sabotage {
                name: "swallows what it should forward natively",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[NATIVE],
                tamper: || lose_outgoing(|frame: &Frame<'_>| frame.ip().is_some_and(|ip| ip.icmp().is_some())),
            },
        ],
        ..Case::BASE
    }
}

fn on_reply(message: &mut ControlMessage, change: fn(&mut lisp::wire::MapRecord)) -> bool {
    match message {
        ControlMessage::MapReply(reply) => {
            reply.records.iter_mut().for_each(change);
            true
        }
        _ => false,
    }
}

fn echo(packet: &Seen) -> Option<u16> {
    let icmp = packet.ip()?.icmp()?;
    icmp.is_echo_request().then(|| icmp.echo().1)
}

fn negative(trace: &Trace, findings: &mut Findings) {
    let request = trace
        .originated("xtr-a")
        .find(|packet| packet.map_request().is_some());
    let reply = trace
        .originated("msmr")
        .find(|packet| packet.map_reply().is_some());
    let (Some(request), Some(reply)) = (request, reply) else {
        findings.broken(
            MR_IMMEDIATE,
            request,
            "a Map-Request of xtr-a, and a negative Map-Reply of the Map-Resolver",
            "no such pair",
        );
        return;
    };
    let Some(record) = reply.map_reply().and_then(|reply| reply.records.first()) else {
        findings.broken(NEGATIVE_15, reply, "a record", "none");
        return;
    };
    let right =
        record.locators.is_empty() && record.action == Action::NativelyForward && record.ttl == 15;
    let said = format!(
        "{} locators, ACT {}, TTL {}",
        record.locators.len(),
        record.action.code(),
        record.ttl
    );
    let expected = "no locators, ACT 1 (natively-forward), TTL 15 minutes";
    findings.check(NEGATIVE_15, right, reply, expected, said.clone());
    findings.check(MR_IMMEDIATE, right, [request, reply], expected, said);
    // Both known EID-Prefixes begin with the bit 0, the address asked for with 1: one bit more than what they share.
    let prefix = record.eid_prefix();
    let expected: lisp::EidPrefix = least_specific(trace, ip(LEGACY));
    findings.check(
        COARSE,
        prefix == Some(expected),
        reply,
        format!("{expected}, the least specific prefix that covers {LEGACY} and no EID-Prefix"),
        words::or_none(prefix),
    );
    let Some(sent) = trace
        .since("the second ping")
        .find(|packet| echo(packet) == Some(2))
    else {
        findings.unseen(NATIVE, "the second ping");
        return;
    };
    let later = || {
        trace
            .sent_by("xtr-a")
            .filter(|packet| packet.time_ns() >= sent.time_ns() && packet.link() == "core-a")
    };
    match (
        later().find(|packet| echo(packet) == Some(2)),
        later().find(|packet| packet.is_data()),
    ) {
        (_, Some(data)) => {
            findings.broken(NATIVE, [sent, data], "no encapsulation", data.summary())
        }
        (Some(out), None) => findings.met(NATIVE, [sent, out], "forwarded as it was"),
        (None, None) => findings.broken(
            NATIVE,
            sent,
            "the ping as it was on the core",
            "it did not leave",
        ),
    }
    match later().find(|packet| packet.map_request().is_some()) {
        Some(again) => findings.broken(
            CACHED,
            [reply, again],
            "no other Map-Request",
            again.summary(),
        ),
        None => findings.met(CACHED, [reply, sent], "no other Map-Request"),
    }
}

/// The shortest prefix that covers an address and overlaps no EID-Prefix of the network.
fn least_specific(trace: &Trace, address: std::net::IpAddr) -> lisp::EidPrefix {
    let known = trace.eid_prefixes();
    let bits = if address.is_ipv4() { 32 } else { 128 };
    (0..=bits)
        .filter_map(|length| ipnet::IpNet::new(address, length).ok())
        .map(|net| lisp::EidPrefix::new(0, net))
        .find(|prefix| {
            !known
                .iter()
                .any(|eid| prefix.covers(eid) || eid.covers(prefix))
        })
        .unwrap_or_else(|| lisp::EidPrefix::host(0, address))
}

inventory::submit! {
    Case {
        id: "rfc6830::s12::foreign_sources_are_not_encapsulated",
        title: "A packet whose source is not of the site is not encapsulated and asks for nothing, also when the mapping is known.",
        // RFC 9300 drops the check (ambiguities C7).
        editions: &[crate::edition::Edition::Rfc6830],
        roles: &["itr"],
        requirements: &[SOURCE_CHECK],
        drive: foreign,
        judges: &[not_encapsulated],
        sabotages: &[Sabotage {
            name: "takes foreign sources for its own",
            node: "xtr-a",
            links: &["site-a"],
            kills: &[SOURCE_CHECK],
            // On the way in the foreign source becomes an EID of the site that nobody else uses.
            tamper: || crate::cases::common::edit_incoming(|frame| {
                frame.edit_ip(|header, _| match header {
                    lisp::ip::IpHeader::V4(header) if header.source.to_string() == STRANGER => {
                        header.source = std::net::Ipv4Addr::new(10, 1, 0, 99);
                        true
                    }
                    _ => false,
                });
            }),
        }],
        ..Case::BASE
    }
}

fn foreign(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-a", "xtr-b"], seconds(10))?;
    // Warm: the mapping of site b is known.
    drive.ping("host-a", ip(HOST_B), 1, seconds(2))?;
    let host = drive.peer("host-a")?;
    let begin = drive.mark("packets from a foreign source");
    host.send(&Echo::new(ip(STRANGER), ip(HOST_B), 71).request())?;
    host.send(&Echo::new(ip(STRANGER), ip(LEGACY), 72).request())?;
    // The fence: packets of the site after them, to the known destination one of each kind.
    drive.wait_for(
        begin,
        "the foreign packet at the legacy host",
        seconds(5),
        |packet| packet.receiver() == Some("legacy") && echo(packet) == Some(72),
    )?;
    host.send(&Echo::new(host.address(), ip(HOST_B), 73).request())?;
    drive.wait_for(begin, "the site's packet at host-b", seconds(5), |packet| {
        packet.receiver() == Some("host-b") && echo(packet) == Some(73)
    })?;
    special_leaves(drive, &host, (host.address(), ip(HOST_B)), "xtr-a")
}

fn not_encapsulated(trace: &Trace, findings: &mut Findings) {
    let begin = "packets from a foreign source";
    let Some(sent) = trace
        .since(begin)
        .find(|packet| packet.sender() == Some("host-a") && echo(packet) == Some(71))
    else {
        findings.unseen(SOURCE_CHECK, "the packet from the foreign source");
        return;
    };
    let after = || {
        trace
            .since(begin)
            .filter(|packet| packet.sender() == Some("xtr-a"))
    };
    let inner = |packet: &Seen| {
        packet
            .data()
            .and_then(|(_, inner)| inner.icmp())
            .map(|icmp| icmp.echo().1)
    };
    if let Some(data) = after().find(|packet| matches!(inner(packet), Some(71 | 72))) {
        findings.broken(
            SOURCE_CHECK,
            [sent, data],
            "a packet from no EID of the site is not encapsulated",
            data.summary(),
        );
        return;
    }
    let legacy = lisp::EidPrefix::host(0, ip(LEGACY));
    let asked = after().find(|packet| {
        let request = packet.map_request();
        request.is_some_and(|request| {
            request
                .records
                .iter()
                .any(|query| query.prefix() == Some(legacy))
        })
    });
    if let Some(asked) = asked {
        findings.broken(
            SOURCE_CHECK,
            [sent, asked],
            "no Map-Request for it",
            asked.summary(),
        );
        return;
    }
    let native = after().find(|packet| echo(packet) == Some(72));
    match (native, after().find(|packet| inner(packet) == Some(73))) {
        (Some(native), Some(own)) => {
            findings.met(
                SOURCE_CHECK,
                [sent, native, own],
                "forwarded natively, and the site's own packet after it encapsulated",
            );
        }
        _ => findings.unseen(
            SOURCE_CHECK,
            "the packets after it, natively and encapsulated",
        ),
    }
}
