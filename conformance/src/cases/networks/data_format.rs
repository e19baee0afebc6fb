//! The outer headers of data packets over many flows (RFC 6830 5.3, 6.5).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::case::Case;
use crate::cases::common::{edit_outgoing, ip, lengthen_data, seconds};
use crate::cases::fences::special_leaves;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};
use crate::words;

const PER_FLOW: Req = Req::new("rfc6830-6.5-sport-flow");
const DATA_PORT: Req = Req::new("rfc6830-5.3-dport");
const TTL: Req = Req::new("rfc6830-5.3-ttl-copy-encap");
const TOS: Req = Req::new("rfc6830-5.3-tos-copy-encap");
const ECN: Req = Req::new("rfc6830-5.3-ecn-encap");
const CHECKSUM: Req = Req::new("rfc6830-5.3-cksum-zero-tx");
const LENGTH: Req = Req::new("rfc6830-5.3-udplen-v4");

const HOST_B: &str = "10.2.0.10";
const FIRST_PORT: u16 = 20_000;
/// 64 flows that share 4 ports or fewer: for a hash over 2^14 ports or more, less than once in 10^100 runs; for one over
/// only 16 ports, once in 10^30.
const FLOWS: u16 = 64;
const FEWEST_PORTS: usize = 5;
const TTLS: [u8; 4] = [64, 33, 7, 255];

inventory::submit! {
    Case {
        id: "rfc6830::s5_3::outer_headers_follow_the_inner_ones",
        title: "Outer TTL, DSCP and ECN are the inner ones; the source port depends on the flow; lengths and checksums are right.",
        roles: &["itr"],
        requirements: &[PER_FLOW, DATA_PORT, TTL, TOS, ECN, CHECKSUM, LENGTH],
        drive,
        judges: &[per_flow, headers],
        sabotages: &[
            Sabotage {
                name: "one source port for all flows",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[PER_FLOW],
                tamper: || edit_outgoing(|frame| {
                    frame.edit_udp_ports(|ports, _| {
                        let data = ports.1 == 4341;
                        ports.0 = if data { 61_000 } else { ports.0 };
                        data
                    });
                }),
            },
            Sabotage {
                name: "outer TTL 64",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[TTL],
                tamper: || edit_outgoing(|frame| edit_outer(frame, |header| header.ttl = 64)),
            },
            Sabotage {
                name: "outer DSCP and ECN 0",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[TOS, ECN],
                tamper: || edit_outgoing(|frame| edit_outer(frame, |header| header.traffic_class = 0)),
            },
            Sabotage {
                name: "encapsulates to port 4343",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[DATA_PORT],
                tamper: || edit_outgoing(|frame| {
                    frame.edit_udp_ports(|ports, _| {
                        let data = ports.1 == 4341;
                        ports.1 = if data { 4343 } else { ports.1 };
                        data
                    });
                }),
            },
            Sabotage {
                name: "longer than what is inside",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[LENGTH],
                tamper: || edit_outgoing(lengthen_data),
            },
            Sabotage {
                name: "a UDP checksum",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[CHECKSUM],
                tamper: || edit_outgoing(|frame| {
                    frame.edit_ip(|_, payload| {
                        let data = payload.len() > 8 && payload[2..4] == 4341u16.to_be_bytes();
                        if data {
                            payload[6..8].copy_from_slice(&[0x12, 0x34]);
                        }
                        data
                    });
                }),
            },
        ],
        ..Case::BASE
    }
}

fn edit_outer(frame: &mut crate::sabotage::Frame<'_>, change: fn(&mut lisp::ip::Ipv4Header)) {
    frame.edit_ip(|header, payload| match header {
        lisp::ip::IpHeader::V4(header)
            if payload.len() > 8 && payload[2..4] == 4341u16.to_be_bytes() =>
        {
            change(header);
            true
        }
        _ => false,
    });
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-a", "xtr-b"], seconds(10))?;
    drive.ping("host-a", ip(HOST_B), 1, seconds(2))?;
    let host = drive.peer("host-a")?;
    let begin = drive.mark("many flows");
    let flow = |number: u16, ttl: u8, traffic_class: u8| {
        let payload = [0x55; 40];
        let mut packet = lisp::ip::udp_packet(
            host.address(),
            ip(HOST_B),
            FIRST_PORT + number,
            7_000,
            ttl,
            &payload,
        );
        packet[1] = traffic_class;
        packet
    };
    for number in 0..FLOWS {
        let traffic_class = (number as u8) << 2 | (number as u8 & 3);
        for ttl in TTLS {
            host.send(&flow(number, ttl, traffic_class))?;
        }
    }
    // Of packets that are all alike some may take another way than the last: the mapping was new when they came.
    drive.wait_for(begin, "the last flow on the core", seconds(5), |packet| {
        let last = |inner: &crate::decode::Ip| {
            inner
                .udp()
                .is_some_and(|udp| udp.source_port == FIRST_PORT + FLOWS - 1)
        };
        packet.sender() == Some("xtr-a")
            && packet
                .data()
                .is_some_and(|(_, inner)| last(inner) && inner.ttl == 254)
    })?;
    special_leaves(drive, &host, (host.address(), ip(HOST_B)), "xtr-a")
}

fn tunnelled(trace: &Trace) -> Vec<&Seen> {
    trace
        .since("many flows")
        .filter(|packet| packet.sender() == Some("xtr-a"))
        .filter(|packet| {
            packet.data().is_some_and(|(_, inner)| {
                inner.udp().is_some_and(|udp| udp.destination_port == 7_000)
            })
        })
        .collect()
}

fn per_flow(trace: &Trace, findings: &mut Findings) {
    let packets = tunnelled(trace);
    let mut ports: BTreeMap<(IpAddr, u16), BTreeSet<u16>> = BTreeMap::new();
    for packet in &packets {
        if let (Some(udp), Some((_, inner))) = (packet.udp(), packet.data()) {
            let flow = (inner.source, inner.udp().map_or(0, |udp| udp.source_port));
            ports.entry(flow).or_default().insert(udp.source_port);
        }
    }
    if ports.len() < usize::from(FLOWS) {
        findings.unseen(
            PER_FLOW,
            format!(
                "{FLOWS} flows through the tunnel; {} were seen",
                ports.len()
            ),
        );
        return;
    }
    let show: Vec<&Seen> = packets.iter().copied().take(8).collect();
    if let Some((flow, several)) = ports.iter().find(|(_, ports)| ports.len() > 1) {
        let expected = "one source port for all packets of a flow";
        findings.broken(
            PER_FLOW,
            &show,
            expected,
            format!(
                "the flow from {} port {} has the source ports {}",
                flow.0,
                flow.1,
                words::listed(several)
            ),
        );
        return;
    }
    let different: BTreeSet<u16> = ports.values().flatten().copied().collect();
    findings.check(
        PER_FLOW,
        different.len() >= FEWEST_PORTS,
        &show,
        format!("at least {FEWEST_PORTS} source ports for {FLOWS} flows"),
        format!("{} source ports", different.len()),
    );
}

/// The invariants judge each packet; here it is judged that there were such packets.
fn headers(trace: &Trace, findings: &mut Findings) {
    let astray = trace.since("many flows").find(|packet| {
        let to_7000 = |inner: Option<crate::decode::Ip>| {
            let port = inner.and_then(|inner| Some(inner.udp()?.destination_port));
            port == Some(7_000)
        };
        packet.sender() == Some("xtr-a")
            && !packet.is_data()
            && packet
                .udp()
                .and_then(|udp| udp.payload.get(lisp::wire::data::DATA_HEADER_LEN..))
                .is_some_and(|inner| to_7000(crate::decode::ip(inner)))
    });
    if let Some(astray) = astray {
        let port = astray.udp().map_or(0, |udp| udp.destination_port);
        findings.broken(
            DATA_PORT,
            astray,
            "destination port 4341",
            format!("port {port}"),
        );
    }
    let packets = tunnelled(trace);
    let expected = usize::from(FLOWS) * TTLS.len();
    if packets.len() < expected {
        for requirement in [DATA_PORT, TTL, TOS, ECN, CHECKSUM, LENGTH] {
            findings.unseen(
                requirement,
                format!(
                    "{expected} packets through the tunnel; {} were seen",
                    packets.len()
                ),
            );
        }
        return;
    }
    let show: Vec<&Seen> = packets.iter().copied().take(4).collect();
    findings.met(DATA_PORT, &show, "all to port 4341");
    let mut field = |requirement, name: &str, holds: &dyn Fn(&Seen) -> bool| {
        let wrong: Vec<&Seen> = packets
            .iter()
            .copied()
            .filter(|packet| !holds(packet))
            .take(5)
            .collect();
        match wrong.first() {
            Some(first) => findings.broken(
                requirement,
                &wrong,
                format!("{name} as inside"),
                first.summary(),
            ),
            None => findings.met(
                requirement,
                &show,
                format!("{name} as inside in {expected} packets"),
            ),
        }
    };
    let both = |packet: &Seen, compare: fn(&crate::decode::Ip, &crate::decode::Ip) -> bool| matches!((packet.ip(), packet.data()), (Some(outer), Some((_, inner))) if compare(outer, inner));
    field(TTL, "TTL", &|packet| {
        both(packet, |outer, inner| outer.ttl == inner.ttl)
    });
    field(TOS, "DSCP", &|packet| {
        both(packet, |outer, inner| outer.dscp() == inner.dscp())
    });
    field(ECN, "ECN", &|packet| {
        both(packet, |outer, inner| outer.ecn() == inner.ecn())
    });
    field(CHECKSUM, "UDP checksum 0", &|packet| {
        packet.udp().is_some_and(|udp| udp.checksum == 0)
    });
    field(LENGTH, "UDP length", &|packet| {
        packet
            .udp()
            .zip(packet.data())
            .is_some_and(|(udp, (_, inner))| usize::from(udp.length) == inner.bytes.len() + 16)
    });
}
