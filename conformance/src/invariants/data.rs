//! Data packets: what an ITR puts around a packet (RFC 6830 5.3), and what an ETR leaves of it.

use std::collections::HashMap;

use super::Invariant;
use super::every::{every, expect};
use crate::catalogue::Req;
use crate::decode::Ip;
use crate::edition::Edition;
use crate::finding::Findings;
use crate::trace::{Seen, Trace};

const CHECKSUM_ZERO: Req = Req::new("rfc6830-5.3-cksum-zero-tx");
const CHECKSUM_RIGHT: Req = Req::new("rfc6830-5.3-cksum-nonzero-tx");
const LENGTH_V4: Req = Req::new("rfc6830-5.3-udplen-v4");
const LENGTH_V6: Req = Req::new("rfc6830-5.3-udplen-v6");
const SECOND_WORD: Req = Req::new("rfc6830-5.3-l0-word-zero");
const FLAGS: Req = Req::new("rfc6830-5.3-flags-tx0");
const TTL_COPY: Req = Req::new("rfc6830-5.3-ttl-copy-encap");
const TOS_COPY: Req = Req::new("rfc6830-5.3-tos-copy-encap");
const ECN_COPY: Req = Req::new("rfc6830-5.3-ecn-encap");
const TTL_MIN: Req = Req::new("rfc6830-5.3-ttl-decap-min");
const TTL_RISES: Req = Req::new("rfc6830-5.3-ttl-decap-no-increase");
const CE_SURVIVES: Req = Req::new("rfc6830-5.3-ecn-decap-ce");

/// Longest time between the arrival of a data packet and its inner packet leaving, in ns, for them to be taken as one.
const FORWARDING_TIME: u64 = 1_000_000_000;

pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "the outer headers of data packets",
        requirements: &[CHECKSUM_ZERO, CHECKSUM_RIGHT, TTL_COPY, TOS_COPY, ECN_COPY],
        judge: outer,
    },
    Invariant {
        name: "the LISP header of data packets",
        requirements: &[LENGTH_V4, LENGTH_V6, SECOND_WORD, FLAGS],
        judge: header,
    },
    Invariant {
        name: "what leaves an ETR",
        requirements: &[TTL_MIN, TTL_RISES, CE_SURVIVES],
        judge: decapsulated,
    },
];

fn outer(trace: &Trace, findings: &mut Findings) {
    let data = || trace.judged().filter(|packet| packet.is_data());
    every(
        findings,
        CHECKSUM_ZERO,
        "outer UDP checksum 0x0000",
        data(),
        |packet| {
            let sum = packet.udp().map_or(0, |udp| udp.checksum);
            expect(sum == 0, || format!("checksum {sum:#06x}"))
        },
    );
    let summed = data().filter(|packet| packet.udp().is_some_and(|udp| udp.checksum != 0));
    every(
        findings,
        CHECKSUM_RIGHT,
        "a UDP checksum that is not zero is right",
        summed,
        |packet| {
            let udp = packet.udp();
            expect(udp.is_some_and(|udp| udp.checksum_ok), || {
                format!(
                    "checksum {:#06x} is wrong",
                    udp.map_or(0, |udp| udp.checksum)
                )
            })
        },
    );
    let both = || data().filter_map(|packet| Some((packet, packet.ip()?, packet.data()?.1)));
    let compare = |findings: &mut Findings, requirement, what: &str, field: fn(&Ip) -> u8| {
        let compared = both().filter(|(_, outer, inner)| {
            let across = requirement == TTL_COPY && is_traceroute_across(trace, outer, inner);
            !across && !may_be_of_the_way(trace, requirement, outer, inner)
        });
        every(
            findings,
            requirement,
            what,
            compared.map(|(packet, ..)| packet),
            |packet| {
                let (Some(outer), Some((_, inner))) = (packet.ip(), packet.data()) else {
                    return Ok(());
                };
                let (outer, inner) = (field(outer), field(inner));
                expect(outer == inner, || format!("outer {outer}, inner {inner}"))
            },
        );
    };
    compare(findings, TTL_COPY, "outer TTL as the inner TTL", |ip| {
        ip.ttl
    });
    compare(findings, TOS_COPY, "outer DSCP as the inner DSCP", Ip::dscp);
    compare(findings, ECN_COPY, "outer ECN as the inner ECN", Ip::ecn);
}

/// In a capture from elsewhere nobody knows how many routers a packet has passed: each takes one from the outer TTL, and a
/// congested one marks the outer header (RFC 3168 5). What they may have done is not laid at the ITR's door.
fn may_be_of_the_way(trace: &Trace, requirement: Req, outer: &Ip, inner: &Ip) -> bool {
    const CONGESTED: u8 = 3;
    trace.topology.is_none()
        && ((requirement == TTL_COPY && outer.ttl < inner.ttl)
            || (requirement == ECN_COPY && outer.ecn() == CONGESTED && inner.ecn() != 0))
}

/// A traceroute packet over a core of the other family, to which the inner TTL is not copied (RFC 6830 9.3).
fn is_traceroute_across(trace: &Trace, outer: &Ip, inner: &Ip) -> bool {
    let traces = |udp: &crate::decode::Udp| (33_434..=33_534).contains(&udp.destination_port);
    trace.edition == Edition::Rfc6830
        && outer.source.is_ipv4() != inner.source.is_ipv4()
        && inner.udp().is_some_and(traces)
}

fn header(trace: &Trace, findings: &mut Findings) {
    let data = || trace.judged().filter(|packet| packet.data().is_some());
    let of_version = |version: u8| {
        data().filter(move |packet| {
            packet
                .data()
                .is_some_and(|(_, inner)| inner.bytes[0] >> 4 == version)
        })
    };
    for (requirement, version) in [(LENGTH_V4, 4), (LENGTH_V6, 6)] {
        let expected = "UDP length = length of the inner packet + 16";
        every(
            findings,
            requirement,
            expected,
            of_version(version),
            |packet| {
                let (Some(udp), Some((_, inner))) = (packet.udp(), packet.data()) else {
                    return Ok(());
                };
                let inner = lisp::ip::total_len(&inner.bytes).unwrap_or(0);
                expect(usize::from(udp.length) == inner + 16, || {
                    format!("UDP length {}, inner packet of {inner} octets", udp.length)
                })
            },
        );
    }
    let plain = data().filter(|packet| {
        packet.data().is_some_and(|(header, _)| {
            header.locator_status.is_none() && header.instance_id.is_none()
        })
    });
    every(
        findings,
        SECOND_WORD,
        "second word 0 where neither L nor I is set",
        plain,
        |packet| {
            let word = packet.data().map_or(0, |(header, _)| header.raw_lsb);
            expect(word == 0, || format!("second word {word:#010x}"))
        },
    );
    every(
        findings,
        FLAGS,
        "the three reserved flag bits 0",
        data(),
        |packet| {
            let flags = packet.data().map_or(0, |(header, _)| header.flags);
            expect(flags == 0, || format!("flags {flags:#05b}"))
        },
    );
}

fn decapsulated(trace: &Trace, findings: &mut Findings) {
    let mut pairs: Vec<(&Seen, &Seen)> = Vec::new();
    for node in &trace.under_test {
        let mut leaving: Vec<&Seen> = trace
            .sent_by(node)
            .filter(|packet| !packet.is_data())
            .collect();
        for arriving in trace
            .received_by(node)
            .filter(|packet| packet.data().is_some())
        {
            let same = leaving
                .iter()
                .position(|packet| is_inner_of(packet, arriving));
            if let Some(at) = same {
                pairs.push((arriving, leaving.remove(at)));
            }
        }
    }
    let arrived: HashMap<usize, &Seen> = pairs
        .iter()
        .map(|(arriving, leaving)| (leaving.number(), *arriving))
        .collect();
    let arriving_of = |leaving: &Seen| {
        let arriving = arrived.get(&leaving.number())?;
        Some((arriving.ip()?, arriving.data()?.1))
    };
    let leaving = || pairs.iter().map(|(_, leaving)| *leaving);
    every(
        findings,
        TTL_RISES,
        "the TTL of a decapsulated packet does not rise",
        leaving(),
        |packet| {
            let (Some(out), Some((_, inner))) = (packet.ip(), arriving_of(packet)) else {
                return Ok(());
            };
            expect(out.ttl <= inner.ttl, || {
                format!("TTL {} left, {} arrived inside", out.ttl, inner.ttl)
            })
        },
    );
    // Whether the box also counts itself as a hop is not clear from the text (ambiguities C2).
    let expected = "TTL = the lower of outer and inner, or one less";
    every(findings, TTL_MIN, expected, leaving(), |packet| {
        let (Some(out), Some((outer, inner))) = (packet.ip(), arriving_of(packet)) else {
            return Ok(());
        };
        let low = outer.ttl.min(inner.ttl);
        expect(
            out.ttl == low || out.ttl.checked_add(1) == Some(low),
            || {
                format!(
                    "TTL {} left; outer {} and inner {} arrived",
                    out.ttl, outer.ttl, inner.ttl
                )
            },
        )
    });
    let congested = leaving().filter(|packet| {
        arriving_of(packet).is_some_and(|(outer, inner)| outer.ecn() == 3 && inner.ecn() != 0)
    });
    every(
        findings,
        CE_SURVIVES,
        "the congestion mark of the outer header survives",
        congested,
        |packet| {
            let Some(out) = packet.ip() else {
                return Ok(());
            };
            expect(out.ecn() == 3 && out.header_checksum_ok, || {
                format!(
                    "ECN {:#04b}, header checksum {}",
                    out.ecn(),
                    if out.header_checksum_ok {
                        "right"
                    } else {
                        "wrong"
                    }
                )
            })
        },
    );
}

/// Whether `packet` is what an ETR makes of `data`: the same packet but for TTL, traffic class and header checksum.
fn is_inner_of(packet: &Seen, data: &Seen) -> bool {
    let (Some(out), Some((_, inner))) = (packet.ip(), data.data()) else {
        return false;
    };
    (data.time_ns()..=data.time_ns() + FORWARDING_TIME).contains(&packet.time_ns())
        && (out.source, out.destination, out.protocol)
            == (inner.source, inner.destination, inner.protocol)
        && out.bytes.len() == inner.bytes.len()
        && out.transport == inner.transport
        && tail(out) == tail(inner)
}

fn tail(ip: &Ip) -> &[u8] {
    let header = if ip.source.is_ipv4() { 20 } else { 40 };
    ip.bytes.get(header..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use harness::capture::{Direction, Interface, Packet};

    use super::*;
    use crate::verdict::Verdict;

    /// An IPv4 data packet that is captured somewhere on its way.
    fn verdict(requirement: Req, outer: (u8, u8), inner: (u8, u8)) -> Option<Verdict> {
        let (outer_ttl, outer_tos) = outer;
        let (inner_ttl, inner_tos) = inner;
        let header = |tos: u8, ttl: u8, length: u8, protocol: u8| {
            let addresses = [192, 0, 2, 1, 192, 0, 2, 2];
            let mut header = vec![0x45, tos, 0, length, 0, 0, 0, 0, ttl, protocol, 0, 0];
            header.extend(addresses);
            let sum = header
                .chunks(2)
                .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
                .sum::<u32>();
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        };
        let mut octets = header(outer_tos, outer_ttl, 56, 17);
        octets.extend([0xf0, 0xb1, 0x10, 0xf5, 0, 36, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        octets.extend(header(inner_tos, inner_ttl, 20, 59));
        let packet = Packet {
            number: 1,
            time_ns: 0,
            interface: Arc::new(Interface {
                name: "elsewhere".to_owned(),
                link: "elsewhere".to_owned(),
                near: String::new(),
                far: String::new(),
                link_type: 101,
            }),
            direction: Direction::Unknown,
            original_len: octets.len() as u32,
            data: octets.into(),
            comments: Vec::new(),
        };
        let trace = Trace::from_packets(vec![packet], Edition::Rfc6830);
        let found = crate::judging::judge_foreign(&trace, false);
        let found = found.iter().find(|found| found.id == requirement.id());
        found.map(|found| found.verdict)
    }

    #[test]
    fn what_routers_may_have_done_is_not_judged_in_a_capture_from_elsewhere() {
        assert_eq!(verdict(TTL_COPY, (63, 0), (63, 0)), Some(Verdict::Pass));
        assert_eq!(verdict(TTL_COPY, (61, 0), (63, 0)), None);
        assert_eq!(verdict(TTL_COPY, (64, 0), (63, 0)), Some(Verdict::Warn));
        assert_eq!(verdict(ECN_COPY, (63, 2), (63, 2)), Some(Verdict::Pass));
        assert_eq!(verdict(ECN_COPY, (63, 3), (63, 2)), None);
        assert_eq!(verdict(ECN_COPY, (63, 3), (63, 0)), Some(Verdict::Fail));
        assert_eq!(verdict(ECN_COPY, (63, 0), (63, 2)), Some(Verdict::Fail));
    }
}
