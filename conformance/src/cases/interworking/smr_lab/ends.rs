//! Judges of the SMR lab: what becomes of traffic after the negative Map-Reply, and after the interface is back.

use super::{FAMILIES, Family, PROXY, Ping, TOLD, UP};
use crate::cases::common::ip;
use crate::catalogue::Req;
use crate::finding::Findings;
use crate::trace::{Seen, Trace};

pub(in crate::cases) const NATIVE: Req = Req::new("rfc6830-6.1.4-act1-native");
pub(in crate::cases) const USES_PETR: Req = Req::new("rfc6832-6.1-itr-use-petr");
pub(in crate::cases) const RECOVERS: Req = Req::new("rfc6830-3-itr-encap");
pub(in crate::cases) const REGISTERS: Req = Req::new("rfc6833-4.2-reg-on-change");

fn afterwards<'t>(
    trace: &'t Trace,
    family: Family,
    requirement: Req,
    findings: &mut Findings,
) -> Option<(&'t Seen, Option<&'t Seen>)> {
    let ping = Ping::Request(family.afterwards());
    let sent = trace
        .since(TOLD)
        .find(|packet| packet.sender() == Some("host-2") && ping.is_plain(packet));
    if sent.is_none() {
        findings.unseen(requirement, "a ping after the negative Map-Reply");
    }
    let out = trace.sent_by("xtr-2").find(|packet| ping.is_in(packet));
    sent.map(|sent| (sent, out))
}

/// Without a PETR what nobody registered leaves as it is.
pub(in crate::cases) fn forwards_natively(trace: &Trace, findings: &mut Findings) {
    for family in FAMILIES {
        let Some((sent, out)) = afterwards(trace, family, NATIVE, findings) else {
            continue;
        };
        findings.check(
            NATIVE,
            out.is_some_and(|packet| !packet.is_data()),
            out.unwrap_or(sent),
            "out of xtr-2 as it is",
            out.map_or("it did not leave".to_owned(), Seen::summary),
        );
    }
}

/// With a PETR it goes there.
pub(in crate::cases) fn forwards_to_the_petr(trace: &Trace, findings: &mut Findings) {
    for family in FAMILIES {
        let Some((sent, out)) = afterwards(trace, family, USES_PETR, findings) else {
            continue;
        };
        findings.check(
            USES_PETR,
            out.is_some_and(|packet| packet.is_data() && packet.destination() == Some(ip(PROXY))),
            out.unwrap_or(sent),
            format!("out of xtr-2 in a tunnel to the PETR {PROXY}"),
            out.map_or("it did not leave".to_owned(), Seen::summary),
        );
    }
}

/// With its interface back the prefix is registered again, and traffic for it takes the tunnel as before.
pub(in crate::cases) fn recovers(trace: &Trace, findings: &mut Findings) {
    let Some(up) = trace.mark(UP) else {
        findings.unseen(RECOVERS, "the prefixes coming back");
        findings.unseen(REGISTERS, "the prefixes coming back");
        return;
    };
    for family in FAMILIES {
        let registration = trace.since(UP).find(|packet| {
            packet.sender() == Some("xtr-1")
                && packet.map_register().is_some_and(|register| {
                    register.records.iter().any(|record| {
                        record.eid_prefix() == Some(family.prefix())
                            && record.ttl != 0
                            && !record.locators.is_empty()
                    })
                })
        });
        match registration {
            Some(packet) => findings.recorded(
                REGISTERS,
                packet,
                format!(
                    "{} registered again after {} ms",
                    family.prefix,
                    (packet.time_ns() - up) / 1_000_000
                ),
            ),
            None => findings.unseen(
                REGISTERS,
                format!("a Map-Register of xtr-1 with {}", family.prefix),
            ),
        }
        back_in_the_tunnel(trace, family, findings);
    }
}

fn back_in_the_tunnel(trace: &Trace, family: Family, findings: &mut Findings) {
    let answer = trace
        .since(UP)
        .find(|packet| family.is_answer(packet, true));
    let Some(answer) = answer else {
        return findings.broken(
            RECOVERS,
            Vec::new(),
            format!(
                "xtr-2 asks for {} again, at the latest when its negative entry is a minute old",
                family.prefix
            ),
            "no Map-Reply with locators",
        );
    };
    let tunnelled = trace.sent_by("xtr-2").find(|packet| {
        packet.time_ns() >= answer.time_ns()
            && packet
                .destination()
                .is_some_and(|to| trace.has_address("xtr-1", to))
            && family
                .recovery()
                .any(|sequence| Ping::Request(sequence).is_tunnelled(packet))
    });
    let delivered = trace.iter().find(|packet| {
        packet.time_ns() >= answer.time_ns()
            && packet.receiver() == Some("host-1b")
            && family
                .recovery()
                .any(|sequence| Ping::Request(sequence).is_plain(packet))
    });
    match (tunnelled, delivered) {
        (Some(tunnelled), Some(delivered)) => {
            findings.met(
                RECOVERS,
                [answer, tunnelled, delivered],
                format!("{} is reached through the tunnel again", family.host),
            );
        }
        _ => findings.broken(
            RECOVERS,
            answer,
            format!("{} is reached through the tunnel again", family.host),
            "no data packet to xtr-1, or nothing of it at host-1b",
        ),
    }
}
