//! Which locator of a mapping an ITR uses: priority, weight, the R bit (RFC 6830 6.1.4, 6.2).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lisp::wire::Locator;

use super::flows_net::*;
use crate::case::Case;
use crate::cases::common::{locator, turn};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::trace::{Seen, Trace};
use crate::words;

const LOWEST: Req = Req::new("rfc6830-6.1.4-priority-lowest");
const PRIORITY_255: Req = Req::new("rfc6830-6.1.4-priority-255");
const ALL_255: Req = Req::new("rfc6830-6.1.4-all-255");
const WEIGHT_EQUAL: Req = Req::new("rfc6830-6.1.4-weight-equal");
const SINGLE: Req = Req::new("rfc6830-6.2-single-rloc");
const BEST_SUBSET: Req = Req::new("rfc6830-6.2-best-subset");
const WEIGHT0: Req = Req::new("rfc6830-6.2-weight0");
const WEIGHT0_MIXED: Req = Req::new("rfc6830-6.2-weight0-mixed");
const R0: Req = Req::new("rfc6830-6.2-r0-must-not");
const STABLE: Req = Req::new("rfc6830-6.5-hash-flow-stable");

/// A mapping, and where its flows may go.
struct Mapping {
    /// Number of the remote subnet.
    subnet: u8,
    /// Which of r1 to r4 (from 0), priority, weight, R bit.
    locators: &'static [(usize, u8, u8, bool)],
    /// Locators that may carry flows; none: nothing may be encapsulated.
    usable: &'static [usize],
    requirements: &'static [Req],
}

const LONELY_255: u8 = 2;
const LAST_LEFT: u8 = 11;

const MAPPINGS: &[Mapping] = &[
    Mapping {
        subnet: 0,
        locators: &[(0, 2, 100, true), (1, 1, 100, true)],
        usable: &[1],
        requirements: &[LOWEST],
    },
    Mapping {
        subnet: 1,
        locators: &[(0, 255, 100, true), (1, 254, 100, true)],
        usable: &[1],
        requirements: &[PRIORITY_255],
    },
    Mapping {
        subnet: LONELY_255,
        locators: &[(0, 255, 100, true)],
        usable: &[],
        requirements: &[PRIORITY_255],
    },
    Mapping {
        subnet: 3,
        locators: &[(0, 255, 100, true), (1, 255, 0, true)],
        usable: &[],
        requirements: &[ALL_255],
    },
    Mapping {
        subnet: 4,
        locators: &[(2, 7, 1, true)],
        usable: &[2],
        requirements: &[SINGLE],
    },
    Mapping {
        subnet: 5,
        locators: &[(0, 1, 50, true), (1, 1, 50, true), (2, 2, 100, true)],
        usable: &[0, 1],
        requirements: &[BEST_SUBSET],
    },
    Mapping {
        subnet: 6,
        locators: &[(0, 1, 100, true), (1, 1, 100, true)],
        usable: &[0, 1],
        requirements: &[WEIGHT_EQUAL, STABLE],
    },
    Mapping {
        subnet: 7,
        locators: &[(0, 1, 0, true), (3, 1, 0, true)],
        usable: &[0, 3],
        requirements: &[WEIGHT0],
    },
    Mapping {
        subnet: 8,
        locators: &[(0, 1, 0, true), (1, 1, 100, true)],
        usable: &[1],
        requirements: &[WEIGHT0_MIXED],
    },
    Mapping {
        subnet: 9,
        locators: &[(0, 1, 100, false), (1, 2, 100, true)],
        usable: &[1],
        requirements: &[R0],
    },
    Mapping {
        subnet: 10,
        locators: &[(0, 1, 100, false)],
        usable: &[],
        requirements: &[R0],
    },
    Mapping {
        subnet: LAST_LEFT,
        locators: &[(0, 1, 100, false), (1, 255, 100, true)],
        usable: &[],
        requirements: &[PRIORITY_255, R0],
    },
];

/// Flows per mapping. Where the ITR may choose, it may also choose one locator for all: nothing is judged by chance.
const FLOWS: u16 = 24;
/// Packets of each flow.
const EACH: usize = 4;

inventory::submit! {
    Case {
        id: "rfc6830::s6_2::only_the_best_usable_locators_are_used",
        title: "Flows go to reachable locators of the lowest priority; never to R=0 or priority 255, not even as the last one left; weight 0 is no share beside others.",
        topology: TOPOLOGY,
        settings: ONE_BY_ONE,
        start: false,
        roles: &["itr"],
        requirements: &[
            LOWEST, PRIORITY_255, ALL_255, WEIGHT_EQUAL, SINGLE, BEST_SUBSET, WEIGHT0, WEIGHT0_MIXED, R0, STABLE,
        ],
        drive,
        judges: &[judge],
        sabotages: &[
            sabotage("takes the highest priority", &[LOWEST], || replies(|subnet, locators| {
                swap(subnet == 0, locators)
            })),
            sabotage("takes 255 for a last resort", &[PRIORITY_255, ALL_255], || replies(|_, locators| {
                every(locators, |locator| if locator.priority == 255 { locator.priority = 254 })
            })),
            sabotage("uses the second-best locators too", &[BEST_SUBSET], || replies(|_, locators| {
                every(locators, |locator| if locator.priority == 2 { locator.priority = 1 })
            })),
            sabotage("uses a locator that nobody named", &[SINGLE], || data_out(|number, header, _| {
                if number % 3 == 0 && header.destination() == R[2] {
                    redirect(header, R[3]);
                }
            })),
            sabotage("drops where all weights are 0", &[WEIGHT0], || replies(|subnet, locators| {
                if subnet != 7 {
                    return false;
                }
                every(locators, |locator| locator.reachable = false)
            })),
            sabotage("gives weight 0 a share", &[WEIGHT0_MIXED], || replies(|_, locators| {
                every(locators, |locator| locator.weight = 100)
            })),
            sabotage("takes no notice of the R bit", &[R0], || replies(|_, locators| {
                every(locators, |locator| locator.reachable = true)
            })),
            sabotage("spreads packets, not flows", &[STABLE, WEIGHT_EQUAL], || data_out(|number, header, _| {
                if R[..2].contains(&header.destination()) {
                    redirect(header, R[turn(number)]);
                }
            })),
        ],
        ..Case::BASE
    }
}

fn swap(wanted: bool, locators: &mut [Locator]) -> bool {
    if let (true, [first, second]) = (wanted, locators) {
        std::mem::swap(&mut first.priority, &mut second.priority);
    }
    wanted
}

fn every(locators: &mut [Locator], change: impl FnMut(&mut Locator)) -> bool {
    locators.iter_mut().for_each(change);
    true
}

/// Another outer destination of the same family.
pub(super) fn redirect(header: &mut lisp::ip::IpHeader, to: IpAddr) {
    if let (lisp::ip::IpHeader::V4(header), IpAddr::V4(to)) = (header, to) {
        header.destination = to;
    }
}

/// A locator of r1 to r4 (from 0).
pub(super) fn remote(number: usize, priority: u8, weight: u8) -> Locator {
    locator(&R[number].to_string(), priority, weight)
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, |_, subnet| {
        let mapping = MAPPINGS.iter().find(|mapping| mapping.subnet == subnet);
        let locators = mapping.map_or(&[][..], |mapping| mapping.locators);
        locators
            .iter()
            .map(|&(number, priority, weight, reachable)| Locator {
                reachable,
                ..remote(number, priority, weight)
            })
            .collect()
    })?;
    let eids: Vec<IpAddr> = MAPPINGS
        .iter()
        .map(|mapping| eid(mapping.subnet, 10))
        .collect();
    net.resolve(drive, &eids)?;
    drive.mark("flows");
    let mut packets = Vec::new();
    for _ in 0..EACH {
        for eid in &eids {
            packets.extend((0..FLOWS).map(|number| flow(*eid, FIRST_PORT + number)));
        }
    }
    net.bursts(drive, &packets)
}

fn judge(trace: &Trace, findings: &mut Findings) {
    for mapping in MAPPINGS {
        let into = |ip: &crate::decode::Ip| subnet_of(ip.destination) == Some(mapping.subnet);
        let sent: Vec<&Seen> = trace
            .since("flows")
            .filter(|packet| packet.receiver() == Some(ITR) && packet.ip().is_some_and(into))
            .collect();
        let expected = usize::from(FLOWS) * EACH;
        if sent.len() < expected {
            for requirement in mapping.requirements {
                let needed = format!("{expected} packets to 10.2.{}.0/24", mapping.subnet);
                findings.unseen(*requirement, needed);
            }
            continue;
        }
        let packets: Vec<&Seen> = flows(trace)
            .filter(|packet| packet.data().is_some_and(|(_, inner)| into(inner)))
            .collect();
        let (rule, said) = (rule(mapping), problem(mapping, &packets, expected));
        for requirement in mapping.requirements {
            let evidence: Vec<&Seen> = match &said {
                Some((_, wrong)) => wrong.clone(),
                None => sent.iter().chain(&packets).copied().take(4).collect(),
            };
            findings.check(
                *requirement,
                said.is_none(),
                &evidence,
                &rule,
                said.as_ref().map_or("as expected", |(text, _)| text),
            );
        }
    }
}

fn rule(mapping: &Mapping) -> String {
    let set: Vec<String> = mapping
        .locators
        .iter()
        .map(|(number, priority, weight, reachable)| {
            let r = u8::from(*reachable);
            format!("r{} {priority}/{weight} R={r}", number + 1)
        })
        .collect();
    let where_to: Vec<String> = mapping
        .usable
        .iter()
        .map(|number| format!("r{}", number + 1))
        .collect();
    let where_to = if where_to.is_empty() {
        "nothing encapsulated".to_owned()
    } else {
        format!("all of each flow to one of {}", where_to.join(", "))
    };
    format!("locators {}: {where_to}", set.join(", "))
}

/// What is wrong with the packets of a mapping, and which ones show it.
fn problem<'t>(
    mapping: &Mapping,
    packets: &[&'t Seen],
    expected: usize,
) -> Option<(String, Vec<&'t Seen>)> {
    let usable: Vec<IpAddr> = mapping.usable.iter().map(|number| R[*number]).collect();
    let elsewhere: Vec<&Seen> = packets
        .iter()
        .copied()
        .filter(|packet| packet.destination().is_none_or(|to| !usable.contains(&to)))
        .collect();
    if let Some(first) = elsewhere.first() {
        let to = first.destination().map(|to| to.to_string());
        let text = format!("{} packets to {}", elsewhere.len(), to.unwrap_or_default());
        return Some((text, elsewhere.into_iter().take(4).collect()));
    }
    if !usable.is_empty() && packets.len() < expected {
        let text = format!("{} of {expected} packets were encapsulated", packets.len());
        return Some((text, packets.iter().copied().take(4).collect()));
    }
    let mut ways: BTreeMap<u16, BTreeSet<Option<IpAddr>>> = BTreeMap::new();
    for packet in packets {
        let port = inner_udp(packet).map_or(0, |(_, udp)| udp.source_port);
        ways.entry(port).or_default().insert(packet.destination());
    }
    let (port, several) = ways.iter().find(|(_, ways)| ways.len() > 1)?;
    let of_flow = |packet: &&&Seen| inner_udp(packet).is_some_and(|(_, u)| u.source_port == *port);
    Some((
        format!(
            "the flow from port {port} went to {}",
            words::listed(several.iter().flatten())
        ),
        packets.iter().filter(of_flow).copied().take(4).collect(),
    ))
}
