//! Dual-stack sites over IPv4, IPv6 and mixed locators; every box is a program.

use std::collections::BTreeSet;
use std::net::IpAddr;

use harness::inline::{PacketFate, Way};

use crate::case::Case;
use crate::cases::common::{edit_outgoing, ip, lengthen_data, seconds};
use crate::cases::fences::special_leaves;
use crate::catalogue::Req;
use crate::decode::{Icmp, Ip, Lisp};
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};
use crate::words;

const ENCAPSULATES: Req = Req::new("rfc6830-5-encap-4-combos");
const DECAPSULATES: Req = Req::new("rfc6830-5-decap-4-combos");
const DATA_PORT: Req = Req::new("rfc6830-5.3-dport");
const LENGTH_V4: Req = Req::new("rfc6830-5.3-udplen-v4");
const LENGTH_V6: Req = Req::new("rfc6830-5.3-udplen-v6");

/// The tunnel router and the host's EIDs of each site.
const SITE_A: (&str, &str, [&str; 2]) = ("xtr-a", "host-a", ["10.1.0.10", "2001:db8:a::10"]);
const OTHERS: [(&str, &str, [&str; 2], bool); 2] = [
    ("xtr-4", "host-4", ["10.4.0.10", "2001:db8:4::10"], false),
    ("xtr-6", "host-6", ["10.6.0.10", "2001:db8:6::10"], true),
];
/// Flows from site s to the mixed locators of site a. If each is free to take either family, all take the same one less
/// than once in 10^18 runs.
const FLOWS: u16 = 64;
const FLOW_PORT: u16 = 61_007;
const FIRST_PORT: u16 = 40_000;

inventory::submit! {
    Case {
        id: "rfc6830::s5::dual_stack_sites_talk_over_all_locators",
        title: "Hosts with IPv4 and IPv6 EIDs ping each other over IPv4, IPv6 and mixed locators: all four mixes, both ways.",
        topology: "dual-stack",
        settings: &[
            ("xtr-a", "data-plane: {offload: false}"),
            ("xtr-s", "data-plane: {offload: false, locator-mtu: 1400}"),
        ],
        roles: &["itr", "etr"],
        requirements: &[ENCAPSULATES, DECAPSULATES, DATA_PORT, LENGTH_V4, LENGTH_V6],
        timeout: seconds(40),
        drive,
        judges: &[pings, mixed],
        sabotages: SABOTAGES,
        ..Case::BASE
    }
}

// Two ways through a box, where it has them: programs in the kernel, and the daemon. Here they face each other.
inventory::submit! {
    Case {
        id: "rfc6830::s5::two_data_paths_write_the_same_headers",
        title: "All four mixes, both ways, between a box whose daemon carries every packet and boxes that leave plain ones to the kernel where they can.",
        topology: "dual-stack",
        settings: &[
            ("xtr-a", "data-plane: {path: tun, offload: false}"),
            ("xtr-4", "data-plane: {path: auto}"),
            ("xtr-6", "data-plane: {path: auto}"),
            ("xtr-s", "data-plane: {path: auto, locator-mtu: 1400}"),
        ],
        roles: &["itr", "etr"],
        requirements: &[ENCAPSULATES, DECAPSULATES, DATA_PORT, LENGTH_V4, LENGTH_V6],
        timeout: seconds(40),
        drive,
        judges: &[pings, mixed],
        sabotages: SABOTAGES,
        ..Case::BASE
    }
}

const SABOTAGES: &[Sabotage] = &[
    lost(
        "loses IPv6 in IPv4",
        "xtr-a",
        "core-a",
        &[ENCAPSULATES],
        || {
            lose(Way::FromVictim, |outer, inner| {
                outer.is_ipv4() && inner.is_ipv6()
            })
        },
    ),
    lost(
        "loses IPv4 in IPv6",
        "xtr-6",
        "core-6",
        &[ENCAPSULATES],
        || {
            lose(Way::FromVictim, |outer, inner| {
                outer.is_ipv6() && inner.is_ipv4()
            })
        },
    ),
    lost(
        "does not see IPv6 in IPv6",
        "xtr-6",
        "core-6",
        &[DECAPSULATES],
        || {
            lose(Way::ToVictim, |outer, inner| {
                outer.is_ipv6() && inner.is_ipv6()
            })
        },
    ),
    lost(
        "decapsulates nothing that came over IPv6",
        "xtr-a",
        "site-a",
        &[DECAPSULATES],
        || {
            Box::new(|way, frame| {
                let from_6 = frame
                    .ip()
                    .is_some_and(|packet| packet.source == ip(OTHERS[1].2[0]));
                if way == Way::FromVictim && from_6 {
                    PacketFate::Drop
                } else {
                    PacketFate::Forward
                }
            })
        },
    ),
    lost(
        "knows only one of the mixed locators",
        "xtr-s",
        "core-s",
        &[ENCAPSULATES],
        || lose(Way::FromVictim, |outer, _| outer.is_ipv6()),
    ),
    lost(
        "longer than what is inside",
        "xtr-a",
        "core-a",
        &[LENGTH_V4, LENGTH_V6],
        || edit_outgoing(lengthen_data),
    ),
    lost("another data port", "xtr-a", "core-a", &[DATA_PORT], || {
        Box::new(|way, frame| {
            if way == Way::FromVictim {
                frame.edit_udp_ports(|ports, _| {
                    let data = ports.1 == 4341;
                    if data {
                        ports.1 = 4343
                    }
                    data
                });
            }
            PacketFate::Forward
        })
    }),
];

const fn lost(
    name: &'static str,
    node: &'static str,
    link: &'static str,
    kills: &'static [Req],
    tamper: fn() -> Tamper,
) -> Sabotage {
    // One link each, by name: a constant cannot hold a slice of its argument.
    let links: &'static [&'static str] = match link.as_bytes() {
        b"core-a" => &["core-a"],
        b"core-6" => &["core-6"],
        b"core-s" => &["core-s"],
        _ => &["site-a"],
    };
    Sabotage {
        name,
        node,
        links,
        kills,
        tamper,
    }
}

fn lose(tampered: Way, which: fn(&IpAddr, &IpAddr) -> bool) -> Tamper {
    Box::new(move |way, frame| {
        let ends = frame.ip().and_then(|ip| match crate::decode::lisp(&ip) {
            Lisp::Data { inner, .. } => Some((ip.destination, inner?.destination)),
            _ => None,
        });
        match ends {
            Some((outer, inner)) if way == tampered && which(&outer, &inner) => PacketFate::Drop,
            _ => PacketFate::Forward,
        }
    })
}

/// Sequence number of the ping between two EIDs: one for each site and family.
fn sequence(site: usize, family: usize) -> u16 {
    (100 + 10 * site + family) as u16
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-a", "xtr-4", "xtr-6", "xtr-s"], seconds(10))?;
    for (site, (_, _, eids, _)) in OTHERS.iter().enumerate() {
        for (family, eid) in eids.iter().enumerate() {
            drive.ping(SITE_A.1, ip(eid), sequence(site, family), seconds(2))?;
        }
    }
    // The mapping is known before the flows begin.
    drive.ping("host-s", ip(SITE_A.2[0]), 99, seconds(2))?;
    let host = drive.peer("host-s")?;
    let from = ip("10.8.0.10");
    let begin = drive.mark("flows");
    for number in 0..FLOWS {
        host.send(&lisp::ip::udp_packet(
            from,
            ip(SITE_A.2[0]),
            FIRST_PORT + number,
            FLOW_PORT,
            64,
            &[0x5a; 32],
        ))?;
    }
    // Of packets that are all alike some may take another way than the last: the mapping was new when they came.
    drive.wait_for(begin, "the last flow at host-a", seconds(5), |packet| {
        packet.receiver() == Some(SITE_A.1)
            && packet.ip().is_some_and(|ip| {
                ip.udp()
                    .is_some_and(|udp| udp.source_port == FIRST_PORT + FLOWS - 1)
            })
    })?;
    special_leaves(drive, &host, (from, ip(SITE_A.2[0])), "xtr-s")
}

fn is_echo(ip: &Ip, number: u16, reply: bool) -> bool {
    let kind = if reply {
        Icmp::is_echo_reply
    } else {
        Icmp::is_echo_request
    };
    ip.icmp()
        .is_some_and(|icmp| kind(icmp) && icmp.echo().1 == number)
}

fn pings(trace: &Trace, findings: &mut Findings) {
    for (site, (xtr, host, eids, over_v6)) in OTHERS.into_iter().enumerate() {
        for (family, eid) in eids.into_iter().enumerate() {
            let number = sequence(site, family);
            // There: xtr-a, its tunnel, the other one. Back: the other way round.
            for (itr, etr, end, reply) in [
                (SITE_A.0, xtr, host, false),
                (xtr, SITE_A.0, SITE_A.1, true),
            ] {
                let what = format!(
                    "echo {} of {eid} through {itr}",
                    if reply { "reply" } else { "request" }
                );
                let at_itr = trace.received_by(itr).find(|packet| {
                    packet.sender().is_some_and(|from| from.starts_with("host"))
                        && packet.ip().is_some_and(|ip| is_echo(ip, number, reply))
                });
                let Some(at_itr) = at_itr else {
                    findings.unseen(ENCAPSULATES, what.clone());
                    findings.unseen(DECAPSULATES, what);
                    continue;
                };
                let tunnelled = trace.originated(itr).find(|packet| {
                    packet
                        .data()
                        .is_some_and(|(_, inner)| is_echo(inner, number, reply))
                });
                let Some(tunnelled) = tunnelled else {
                    findings.broken(
                        ENCAPSULATES,
                        at_itr,
                        format!("{what}: encapsulated"),
                        "it was not",
                    );
                    findings.unseen(DECAPSULATES, what);
                    continue;
                };
                let outer = tunnelled.ip().map(|ip| (ip.source, ip.destination));
                let right = outer.is_some_and(|(from, to)| {
                    from.is_ipv6() == over_v6
                        && trace.has_address(itr, from)
                        && trace.has_address(etr, to)
                });
                let family = if over_v6 { "IPv6" } else { "IPv4" };
                findings.check(
                    ENCAPSULATES,
                    right,
                    [at_itr, tunnelled],
                    format!("{what}: over {family}, from a locator of {itr} to one of {etr}"),
                    tunnelled.summary(),
                );
                let came = trace
                    .received_by(end)
                    .find(|packet| packet.ip().is_some_and(|ip| is_echo(ip, number, reply)));
                match came {
                    Some(came) => findings.met(
                        DECAPSULATES,
                        [tunnelled, came],
                        format!("{what}: delivered"),
                    ),
                    None => findings.broken(
                        DECAPSULATES,
                        tunnelled,
                        format!("{what}: delivered by {etr}"),
                        "it was not",
                    ),
                }
            }
        }
    }
    header_fields(trace, findings);
}

/// The invariants judge these fields of each packet; here it is judged that there were packets of each kind.
fn header_fields(trace: &Trace, findings: &mut Findings) {
    let of = |v6: bool| -> Vec<&Seen> {
        let data = trace.judged().filter(|packet| {
            packet
                .data()
                .is_some_and(|(_, inner)| inner.source.is_ipv6() == v6)
        });
        data.collect()
    };
    for (requirement, v6) in [(LENGTH_V4, false), (LENGTH_V6, true)] {
        let packets = of(v6);
        let wrong = packets.iter().find(|packet| {
            let (Some(udp), Some((_, inner))) = (packet.udp(), packet.data()) else {
                return true;
            };
            usize::from(udp.length) != inner.bytes.len() + 16
        });
        let expected = "UDP length = length of the inner packet + 16";
        match wrong {
            Some(packet) => findings.broken(requirement, *packet, expected, packet.summary()),
            None if packets.is_empty() => findings.unseen(requirement, "such data packets"),
            None => findings.met(
                requirement,
                packets[0],
                format!("in {} packets", packets.len()),
            ),
        }
    }
    let tunnelled = trace.judged().filter(|packet| {
        // A LISP header of nothing but zeros, and an IP packet of a host in it.
        packet.udp().is_some_and(|udp| {
            udp.payload.len() > 28
                && udp.payload[..8] == [0; 8]
                && matches!(udp.payload[8] >> 4, 4 | 6)
        })
    });
    let tunnelled: Vec<&Seen> = tunnelled.collect();
    let other = tunnelled.iter().find(|packet| {
        packet
            .udp()
            .is_none_or(|udp| udp.destination_port != lisp::DATA_PORT)
    });
    match (other, tunnelled.first()) {
        (Some(packet), _) => findings.broken(DATA_PORT, *packet, "port 4341", packet.summary()),
        (None, Some(first)) => findings.met(
            DATA_PORT,
            *first,
            format!("4341 in {} packets", tunnelled.len()),
        ),
        (None, None) => findings.broken(DATA_PORT, Vec::new(), "data to port 4341", "none"),
    }
}

/// Flows to a locator-set of both families use both of them.
fn mixed(trace: &Trace, findings: &mut Findings) {
    let flows: Vec<&Seen> = trace
        .since("flows")
        .filter(|packet| packet.sender() == Some("xtr-s"))
        .filter(|packet| {
            packet.data().is_some_and(|(_, inner)| {
                inner
                    .udp()
                    .is_some_and(|udp| udp.destination_port == FLOW_PORT)
            })
        })
        .collect();
    let ways: BTreeSet<IpAddr> = flows
        .iter()
        .filter_map(|packet| packet.destination())
        .collect();
    let both = [ip("192.0.2.2"), ip("2001:db8:0:2::2")];
    let show: Vec<&Seen> = flows.iter().copied().take(6).collect();
    findings.check(
        ENCAPSULATES,
        flows.len() == usize::from(FLOWS) && ways == both.into_iter().collect(),
        &show,
        format!("{FLOWS} flows to both of {}", words::listed(both)),
        format!("{} flows to {}", flows.len(), words::listed(&ways)),
    );
}
