//! Flows: one locator and one source port for each, different ones for different flows (RFC 6830 6.5; RFC 9300 12).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lisp::ip::IpHeader;

use super::flows_net::*;
use super::locators::{redirect, remote};
use crate::case::Case;
use crate::cases::common::{locator, turn};
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::trace::{Seen, Trace};
use crate::words;

const STABLE: Req = Req::new("rfc6830-6.5-hash-flow-stable");
const NON_L4: Req = Req::new("rfc6830-6.5-hash-non-l4");
const RANGE: Req = Req::new("rfc6830-6.5-sport-range");
const PER_FLOW: Req = Req::new("rfc6830-6.5-sport-flow");
const SAME_FLOW: Req = Req::new("rfc9300-12-sport-same-flow");
const FLOW_LABEL: Req = Req::new("rfc9300-12-flow-label");

/// The mapping of this subnet has two IPv4 locators of equal weight, that of the next one two IPv6 locators.
const OVER_V4: u8 = 30;
const OVER_V6: u8 = 31;
/// Flows of each mix of inner and outer family: twice the requirement's 500 in all.
const FLOWS: u16 = 250;
const EACH: usize = 4;
/// Source ports that 500 flows or more must have at least (the catalogue: more than 100). An ITR with 256 ports of a
/// fair hash has 200 of 500 flows on average; fewer than 101 come up less than once in 10^30 runs.
const FEWEST_PORTS: usize = 101;
/// What follows the addresses of packets that are neither TCP, UDP nor SCTP varies this often.
const OTHERS: u16 = 20;
const ESP: u8 = 50;
const GRE: u8 = 47;

inventory::submit! {
    Case {
        id: "rfc6830::s6_5::a_flow_keeps_its_locator_and_source_port",
        title: "Packets of a flow have one locator, source port and flow label; flows differ in source ports; without ports the addresses are the flow.",
        topology: TOPOLOGY,
        settings: ONE_BY_ONE,
        start: false,
        roles: &["itr"],
        requirements: &[STABLE, NON_L4, RANGE, PER_FLOW],
        drive,
        judges: &[ports, without_ports],
        sabotages: &[
            sabotage("spreads packets over the locators", &[STABLE], || data_out(|number, header, _| {
                if R[..2].contains(&header.destination()) {
                    redirect(header, R[turn(number)]);
                }
            })),
            sabotage("a source port for every packet", &[PER_FLOW, NON_L4], || data_out(|number, _, datagram| {
                let port = 10_000 + (number % 5_000) as u16;
                datagram[..2].copy_from_slice(&port.to_be_bytes());
            })),
            sabotage("one source port for all flows", &[PER_FLOW], || data_out(|_, _, datagram| {
                datagram[..2].copy_from_slice(&50_000u16.to_be_bytes());
            })),
            sabotage("source port 4341", &[RANGE], || data_out(|_, _, datagram| {
                datagram[..2].copy_from_slice(&4341u16.to_be_bytes());
            })),
            sabotage("source port 0 at times", &[RANGE], || data_out(|number, _, datagram| {
                if number % 7 == 0 {
                    datagram[..2].fill(0);
                }
            })),
        ],
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc9300::s12::a_flow_keeps_its_source_port_and_flow_label",
        title: "Packets of a flow have one outer source port, and over IPv6 one flow label or none.",
        topology: TOPOLOGY,
        settings: ONE_BY_ONE,
        editions: &[Edition::Rfc9300],
        start: false,
        roles: &["itr"],
        requirements: &[SAME_FLOW, FLOW_LABEL],
        drive,
        judges: &[same_port, labels],
        sabotages: &[
            sabotage("a source port for every packet", &[SAME_FLOW], || data_out(|number, _, datagram| {
                let port = 10_000 + (number % 5_000) as u16;
                datagram[..2].copy_from_slice(&port.to_be_bytes());
            })),
            sabotage("a flow label for every packet", &[FLOW_LABEL], || data_out(|number, header, _| {
                if let IpHeader::V6(header) = header {
                    header.flow_label = number as u32 & 0xfffff;
                }
            })),
        ],
        ..Case::BASE
    }
}

fn mixes() -> [IpAddr; 4] {
    [
        eid(OVER_V4, 10),
        eid(OVER_V6, 10),
        eid6(OVER_V4, 10),
        eid6(OVER_V6, 10),
    ]
}

/// Where packets without ports go: hosts that get nothing else.
fn lonely(mix: IpAddr) -> IpAddr {
    match mix {
        IpAddr::V4(_) => eid(subnet_of(mix).unwrap_or_default(), 77),
        IpAddr::V6(_) => eid6(subnet_of(mix).unwrap_or_default(), 77),
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, |_, subnet| match subnet {
        OVER_V4 => vec![remote(0, 1, 50), remote(1, 1, 50)],
        OVER_V6 => vec![
            locator(&R6[0].to_string(), 1, 50),
            locator(&R6[1].to_string(), 1, 50),
        ],
        _ => Vec::new(),
    })?;
    net.resolve(drive, &mixes())?;
    drive.mark("flows");
    let mut packets = Vec::new();
    for _ in 0..EACH {
        for mix in mixes() {
            packets.extend((0..FLOWS).map(|number| flow(mix, FIRST_PORT + number)));
        }
    }
    net.bursts(drive, &packets)?;
    drive.mark("without ports");
    let others: Vec<Vec<u8>> = mixes()
        .into_iter()
        .flat_map(|mix| (0..OTHERS).flat_map(move |number| portless(lonely(mix), number)))
        .collect();
    net.bursts(drive, &others)
}

/// An echo request, an ESP packet and a GRE packet whose first octets differ from those of every other one.
fn portless(to: IpAddr, number: u16) -> [Vec<u8>; 3] {
    let from = if to.is_ipv4() { HOST } else { HOST6 };
    let echo = Echo {
        identifier: 100 + number,
        payload: 8 + usize::from(number),
        ..Echo::new(from, to, 1 + number)
    };
    let esp = [
        number.to_be_bytes(),
        [0x11; 2],
        [0x22; 2],
        [number as u8; 2],
    ]
    .concat();
    let gre = [[0; 2], [0x08, 0], number.to_be_bytes(), [0x33; 2]].concat();
    [
        echo.request(),
        IpHeader::new(from, to, 64, ESP).emit(&esp),
        IpHeader::new(from, to, 64, GRE).emit(&gre),
    ]
}

/// A value of each packet of a flow, by inner addresses and inner source port.
type PerFlow<'t, T> = BTreeMap<(IpAddr, u16), Vec<(T, &'t Seen)>>;

fn per_flow<'t, T>(trace: &'t Trace, value: impl Fn(&Seen) -> Option<T>) -> PerFlow<'t, T> {
    let mut by_flow: PerFlow<'t, T> = BTreeMap::new();
    for packet in flows(trace) {
        if let (Some((inner, udp)), Some(value)) = (inner_udp(packet), value(packet)) {
            let flow = (inner.destination, udp.source_port);
            by_flow.entry(flow).or_default().push((value, packet));
        }
    }
    by_flow
}

/// Judges that each flow has one value.
fn one_each<T: PartialEq + std::fmt::Display>(
    findings: &mut Findings,
    requirement: Req,
    what: &str,
    flows: &PerFlow<'_, T>,
) {
    let changed = flows.iter().find_map(|(flow, values)| {
        let (first, packet) = values.first()?;
        let (other, later) = values.iter().find(|(value, _)| value != first)?;
        Some((flow, first, other, [*packet, *later]))
    });
    match changed {
        Some((flow, first, other, packets)) => findings.broken(
            requirement,
            packets,
            format!("one {what} for all packets of a flow"),
            format!(
                "{first} and {other} for the flow to {} from port {}",
                flow.0, flow.1
            ),
        ),
        None => {
            let show: Vec<&Seen> = flows.values().flatten().map(|(_, p)| *p).take(4).collect();
            findings.met(
                requirement,
                &show,
                format!("one {what} in {} flows", flows.len()),
            );
        }
    }
}

fn ports(trace: &Trace, findings: &mut Findings) {
    let ports = per_flow(trace, |packet| packet.udp().map(|udp| udp.source_port));
    let expected = usize::from(FLOWS) * mixes().len();
    let packets: usize = ports.values().map(Vec::len).sum();
    let show: Vec<&Seen> = ports.values().flatten().map(|(_, p)| *p).take(4).collect();
    if ports.len() < expected || packets < expected * EACH {
        for requirement in [STABLE, RANGE, PER_FLOW] {
            findings.broken(
                requirement,
                &show,
                format!("{expected} flows of {EACH} packets encapsulated"),
                format!("{packets} packets of {} flows", ports.len()),
            );
        }
        return;
    }
    one_each(findings, PER_FLOW, "source port", &ports);
    let locators = per_flow(trace, |packet| packet.destination());
    one_each(findings, STABLE, "locator", &locators);
    let all: BTreeSet<u16> = ports.values().flatten().map(|(port, _)| *port).collect();
    findings.check(
        PER_FLOW,
        all.len() >= FEWEST_PORTS,
        &show,
        format!("at least {FEWEST_PORTS} source ports for {expected} flows"),
        format!("{} source ports", all.len()),
    );
    let zero = ports.values().flatten().find(|(port, _)| *port == 0);
    let only_data_port = all.len() == 1 && all.contains(&lisp::DATA_PORT);
    match zero {
        Some((_, packet)) => findings.broken(RANGE, *packet, "a source port", "source port 0"),
        None => findings.check(
            RANGE,
            !only_data_port,
            &show,
            "source ports that are not fixed at 4341",
            format!("{} source ports, none of them 0", all.len()),
        ),
    }
}

fn same_port(trace: &Trace, findings: &mut Findings) {
    let ports = per_flow(trace, |packet| packet.udp().map(|udp| udp.source_port));
    let expected = usize::from(FLOWS) * mixes().len();
    if ports.len() < expected {
        findings.unseen(SAME_FLOW, format!("{expected} flows through the tunnel"));
        return;
    }
    one_each(findings, SAME_FLOW, "source port", &ports);
}

fn labels(trace: &Trace, findings: &mut Findings) {
    let labels = per_flow(trace, |packet| {
        let outer = packet.ip().filter(|ip| ip.source.is_ipv6())?;
        let word = outer.bytes.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*word) & 0x000f_ffff)
    });
    if labels.len() < 2 * usize::from(FLOWS) {
        let needed = format!("{} flows over IPv6", 2 * FLOWS);
        findings.unseen(FLOW_LABEL, needed);
        return;
    }
    one_each(findings, FLOW_LABEL, "outer flow label", &labels);
}

/// RFC 6830 6.5: for other protocols the addresses alone are hashed.
fn without_ports(trace: &Trace, findings: &mut Findings) {
    for mix in mixes() {
        let to = lonely(mix);
        let packets: Vec<&Seen> = trace
            .originated(ITR)
            .filter(|packet| {
                packet
                    .data()
                    .is_some_and(|(_, inner)| inner.destination == to)
            })
            .collect();
        let expected = usize::from(OTHERS) * 3;
        let ways: BTreeSet<(Option<IpAddr>, u16)> = packets
            .iter()
            .map(|packet| {
                (
                    packet.destination(),
                    packet.udp().map_or(0, |udp| udp.source_port),
                )
            })
            .collect();
        let show: Vec<&Seen> = packets.iter().copied().take(6).collect();
        findings.check(
            NON_L4,
            ways.len() == 1 && packets.len() >= expected,
            &show,
            format!("{expected} packets to {to} without ports: one locator and source port"),
            format!(
                "{} packets to {}",
                packets.len(),
                words::listed(
                    ways.iter()
                        .map(|(to, port)| format!("{} from port {port}", words::or_none(*to)))
                )
            ),
        );
    }
}
