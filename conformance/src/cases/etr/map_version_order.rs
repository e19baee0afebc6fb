//! Destination map-versions: which are newer, and that those are refused (RFC 9302 6, 7.1).

use std::net::IpAddr;

use super::map_versions::*;
use crate::case::Case;
use crate::cases::common::ip;
use crate::cases::one_xtr::{HOST, Net, SOON, TOPOLOGY, XTR, spoils};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::trace::{Seen, Trace};

const ORDER: Req = Req::new("rfc9302-6-order");
const NEWER_DROPPED: Req = Req::new("rfc9302-7.1-dst-newer-drop");

const HOST6: &str = "2001:db8:a::10";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Newer,
    Older,
    Same,
}

/// A packet with a destination version: its echo's number is that of its encapsulator.
#[derive(Debug, Clone, Copy)]
struct Try {
    number: u8,
    v6: bool,
    version: u16,
    is: Is,
}

const fn v4(number: u8, version: u16, is: Is) -> Try {
    Try {
        number,
        v6: false,
        version,
        is,
    }
}

const fn v6(number: u8, version: u16, is: Is) -> Try {
    Try {
        v6: true,
        ..v4(number, version, is)
    }
}

/// The newer ones first: what comes after them shows that nothing follows from them.
const TRIES: [Try; 10] = [
    v4(1, 70, Is::Newer),
    v4(2, 2117, Is::Newer),
    v6(3, 2118, Is::Newer),
    v6(4, 5, Is::Newer),
    v4(5, 2118, Is::Older),
    v4(6, 4095, Is::Older),
    v4(7, 68, Is::Older),
    // At a distance of 2048 the larger number is newer seen from either side.
    v6(8, 69, Is::Older),
    v4(9, OWN, Is::Same),
    v6(10, OWN6, Is::Same),
];

impl Try {
    fn host(self) -> IpAddr {
        if self.v6 { ip(HOST6) } else { HOST }
    }

    fn own(self) -> u16 {
        if self.v6 { OWN6 } else { OWN }
    }

    fn smr(self, trace: &Trace) -> Option<&Seen> {
        trace
            .iter()
            .find(|packet| is_smr(packet, encapsulator(self.number)))
    }
}

inventory::submit! {
    Case {
        id: "rfc9302::s6::destination_map_versions_compare_on_a_circle",
        title: "At an ETR with versions 69 and 2117: packets with a newer destination version are dropped in silence, the senders of older ones are told, and the same one is delivered; newer is what is up to 2048 ahead on a circle of 4096.",
        topology: TOPOLOGY,
        settings: &[(XTR, SETTINGS)],
        editions: &[Edition::Rfc9300],
        roles: &["etr"],
        features: &["mapver", "smr"],
        requirements: &[ORDER, NEWER_DROPPED],
        drive,
        judges: &[judge],
        sabotages: &[
            spoils("takes newer versions", &[ORDER, NEWER_DROPPED], || on_versions(|source, destination| {
                Some((source, if destination == 70 { OWN } else { destination }))
            })),
            spoils("tells senders of newer versions", &[ORDER, NEWER_DROPPED], || on_versions(|source, destination| {
                Some((source, if destination == 70 { 67 } else { destination }))
            })),
            spoils("compares numbers, not places on a circle", &[ORDER], || on_versions(|source, destination| {
                Some((source, if destination == 4095 { 70 } else { destination }))
            })),
            spoils("takes a distance of 2048 the other way", &[ORDER], || on_versions(|source, destination| {
                Some((source, if destination == 2117 { 2118 } else { destination }))
            })),
            spoils("drops what has its own version", &[ORDER], || on_versions(|source, destination| {
                Some((source, if destination == OWN6 { 2118 } else { destination }))
            })),
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, Vec::new())?;
    registered(drive, SITE)?;
    for attempt in TRIES {
        let begin = drive.now_ns();
        let from = encapsulator(attempt.number);
        let sequence = u16::from(attempt.number);
        let header = versions(0, attempt.version);
        tunnel(&net, from, &header, attempt.host(), sequence)?;
        match attempt.is {
            Is::Newer => {}
            Is::Older => {
                let what = format!("an SMR to {from}, whose version is {}", attempt.version);
                drive.wait_for(begin, &what, SOON, |packet| is_smr(packet, from))?;
            }
            Is::Same => {
                let what = format!("data packet {sequence} at the site");
                drive.wait_for(begin, &what, SOON, |packet| {
                    is_at_the_site(packet, sequence)
                })?;
            }
        }
    }
    Ok(())
}

fn judge(trace: &Trace, findings: &mut Findings) {
    if !has_versions(trace) {
        for row in [ORDER, NEWER_DROPPED] {
            findings.unseen(
                row,
                format!("{SITE} registered with version {OWN}, {SITE6} with {OWN6}"),
            );
        }
        return;
    }
    for attempt in TRIES {
        let sequence = u16::from(attempt.number);
        let Some(packet) = sent(trace, sequence) else {
            findings.unseen(
                ORDER,
                format!("the packet with version {}", attempt.version),
            );
            continue;
        };
        let (delivered, smr) = (at_the_site(trace, sequence), attempt.smr(trace));
        let holds = match attempt.is {
            Is::Newer => delivered.is_none() && smr.is_none(),
            // RFC 9302 7.1: whether it is delivered as well is the ETR's choice.
            Is::Older => smr.is_some(),
            Is::Same => delivered.is_some() && smr.is_none(),
        };
        let expected = match attempt.is {
            Is::Newer => "newer: dropped in silence",
            Is::Older => "older: its sender is told",
            Is::Same => "the same: delivered, and nothing else",
        };
        let seen = format!(
            "version {} at an ETR with {}: {}, {}",
            attempt.version,
            attempt.own(),
            if delivered.is_some() {
                "delivered"
            } else {
                "not delivered"
            },
            if smr.is_some() { "an SMR" } else { "no SMR" },
        );
        let evidence: Vec<&Seen> = [Some(packet), delivered, smr]
            .into_iter()
            .flatten()
            .collect();
        findings.check(ORDER, holds, &evidence, expected, seen.clone());
        if attempt.is == Is::Newer {
            findings.check(NEWER_DROPPED, holds, &evidence, expected, seen);
        }
    }
}
