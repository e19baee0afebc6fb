//! Shares of traffic by weight (RFC 6830 6.1.4).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::flows_net::*;
use super::locators::remote;
use crate::case::Case;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::trace::{Seen, Trace};

const SHARE: Req = Req::new("rfc6830-6.1.4-weight-share");

const SUBNET: u8 = 20;
/// Weights of r1 to r4, and the shares that they ask for in tenths of a per cent.
const WEIGHTS: [(u8, u32); 4] = [(75, 375), (50, 250), (50, 250), (25, 125)];
/// Distinct flows, with random addresses and ports. By Hoeffding's inequality the share of one locator is further from
/// what was asked for than [`TOLERANCE`] with a probability of at most 2 exp(-2 * 4000 * 0.05^2) = 4 * 10^-9 if each flow
/// chooses by itself: less than 10^-7 for all four.
const FLOWS: usize = 4_000;
/// Tenths of a per cent.
const TOLERANCE: u32 = 50;

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_4::shares_follow_the_weights",
        title: "4000 flows are split 37.5 : 25 : 25 : 12.5 among locators of weights 75, 50, 50 and 25, to 5 points.",
        topology: TOPOLOGY,
        settings: ONE_BY_ONE,
        start: false,
        roles: &["itr"],
        requirements: &[SHARE],
        drive,
        judges: &[judge],
        sabotages: &[
            sabotage("takes the weights for equal", &[SHARE], || replies(|_, locators| {
                locators.iter_mut().for_each(|locator| locator.weight = 50);
                true
            })),
            sabotage("takes the remainder of the hash by the number of locators", &[SHARE], || replies(|_, locators| {
                locators.iter_mut().for_each(|locator| locator.weight = 0);
                true
            })),
            sabotage("gives it all to the heaviest", &[SHARE], || replies(|_, locators| {
                locators[1..].iter_mut().for_each(|locator| locator.weight = 0);
                true
            })),
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, |_, subnet| match subnet {
        SUBNET => (0..4)
            .map(|number| remote(number, 1, WEIGHTS[number].0))
            .collect(),
        _ => Vec::new(),
    })?;
    net.resolve(drive, &[eid(SUBNET, 10)])?;
    drive.mark("flows");
    let mut tuples = BTreeSet::new();
    while tuples.len() < FLOWS {
        let random = drive.random();
        let host = 1 + (random >> 32) as u8 % 254;
        tuples.insert((host, FIRST_PORT + random as u16 % PORTS));
    }
    let packets: Vec<Vec<u8>> = tuples
        .into_iter()
        .map(|(host, port)| flow(eid(SUBNET, host), port))
        .collect();
    net.bursts(drive, &packets)
}

fn judge(trace: &Trace, findings: &mut Findings) {
    let mut ways: BTreeMap<(IpAddr, u16), &Seen> = BTreeMap::new();
    for packet in flows(trace) {
        if let Some((inner, udp)) = inner_udp(packet) {
            ways.insert((inner.destination, udp.source_port), packet);
        }
    }
    let show: Vec<&Seen> = ways.values().copied().take(8).collect();
    if ways.len() < FLOWS {
        let seen = format!("{} flows of {FLOWS} were encapsulated", ways.len());
        findings.broken(SHARE, &show, format!("{FLOWS} flows"), seen);
        return;
    }
    let total = ways.len() as u32;
    let mut shares = Vec::new();
    for (at, (_, asked)) in WEIGHTS.iter().enumerate() {
        let to = |packet: &&&Seen| packet.destination() == Some(R[at]);
        let share = ways.values().filter(to).count() as u32 * 1_000 / total;
        shares.push((share, *asked));
    }
    let text = |shares: Vec<u32>| {
        let shares: Vec<String> = shares
            .iter()
            .map(|share| format!("{}.{}", share / 10, share % 10))
            .collect();
        shares.join(" : ")
    };
    findings.check(
        SHARE,
        shares
            .iter()
            .all(|(share, asked)| share.abs_diff(*asked) <= TOLERANCE),
        &show,
        format!(
            "{} per cent, to 5 points",
            text(shares.iter().map(|s| s.1).collect())
        ),
        format!(
            "{} per cent of {total} flows",
            text(shares.iter().map(|s| s.0).collect())
        ),
    );
}
