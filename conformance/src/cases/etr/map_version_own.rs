//! An ETR's own map-version: none, and the one after 4095 (RFC 9302 6, 6.1).

use harness::inline::{PacketFate, Way};
use lisp::wire::ControlMessage;

use super::map_versions::*;
use crate::case::Case;
use crate::cases::common::{key, prefix};
use crate::cases::fences::special;
use crate::cases::one_xtr::{HOST, Net, REMOTE, SOON, TOPOLOGY, XTR, spoils};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Tamper;
use crate::trace::{Seen, Trace};
use crate::words;

const REFUSED: Req = Req::new("rfc9302-6.1-null-etr-drop");

/// Packets: number, versions; none: V = 0.
const PACKETS: [(u16, Option<(u16, u16)>); 4] = [
    (1, None),
    (2, Some((5, 69))),
    (3, Some((0, 1))),
    (4, Some((0, 0))),
];
/// The fence behind them, without versions.
const FENCE: u16 = 5;

inventory::submit! {
    Case {
        id: "rfc9302::s6_1::versions_are_refused_where_the_mapping_has_none",
        title: "An ETR whose mapping has no map-version drops every packet with V = 1, and delivers those without.",
        topology: TOPOLOGY,
        settings: &[(XTR, "map-versioning: false")],
        editions: &[Edition::Rfc9300],
        roles: &["etr"],
        features: &["mapver"],
        requirements: &[REFUSED],
        drive: drive_refused,
        judges: &[refuses],
        sabotages: &[
            spoils("takes any version", &[REFUSED], || on_versions(|_, _| None)),
            spoils("takes destination version 0", &[REFUSED], || on_versions(|source, destination| {
                (destination != 0).then_some((source, destination))
            })),
        ],
        ..Case::BASE
    }
}

fn drive_refused(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, Vec::new())?;
    registered(drive, SITE)?;
    for (number, map_version) in PACKETS {
        let header = lisp::wire::DataHeader {
            map_version,
            ..lisp::wire::DataHeader::default()
        };
        tunnel(&net, REMOTE, &header, HOST, number)?;
    }
    net.hear_last(drive, (&net.remote, REMOTE), FENCE)
}

fn refuses(trace: &Trace, findings: &mut Findings) {
    let versionless = trace
        .originated(XTR)
        .find(|packet| registered_version(packet, SITE) == Some(0));
    let fences = [1, FENCE, special(FENCE)].map(|number| at_the_site(trace, number));
    let (Some(_), [Some(_), Some(_), Some(fence)]) = (versionless, fences) else {
        return findings.unseen(
            REFUSED,
            format!("{SITE} registered without a version, and data without versions delivered"),
        );
    };
    for (number, versions) in PACKETS {
        let (Some(versions), Some(packet)) = (versions, sent(trace, number)) else {
            continue;
        };
        let delivered = at_the_site(trace, number);
        findings.check(
            REFUSED,
            delivered.is_none(),
            [packet, delivered.unwrap_or(fence)],
            format!(
                "V = 1 with source version {} and destination version {} dropped",
                versions.0, versions.1
            ),
            if delivered.is_some() {
                "delivered"
            } else {
                "not delivered"
            },
        );
    }
}

const NO_ZERO: Req = Req::new("rfc9302-6-no-zero");

const LAST: &str = "{map-versioning: true, eid-prefixes: [{prefix: 10.1.0.0/24, map-version: 4095, locators: [{address: 192.0.2.2, priority: 1, weight: 100}]}]}";
const CHANGED: &str = "eid-prefixes: [{prefix: 10.1.0.0/24, map-version: 4095, locators: [{address: 192.0.2.2, priority: 2, weight: 100}]}]";
const CHANGE: &str = "the mapping changes";

inventory::submit! {
    Case {
        id: "rfc9302::s6::version_4095_is_followed_by_1",
        title: "A mapping with map-version 4095 that changes gets version 1, not 0.",
        topology: TOPOLOGY,
        settings: &[(XTR, LAST)],
        editions: &[Edition::Rfc9300],
        roles: &["etr"],
        features: &["mapver"],
        requirements: &[NO_ZERO],
        drive: |drive| {
            let _net = Net::up(drive, Vec::new())?;
            registered(drive, SITE)?;
            let change = drive.mark(CHANGE);
            drive.reload(XTR, CHANGED)?;
            drive.wait_for(change, "a Map-Register of the changed mapping", SOON, is_changed)?;
            Ok(())
        },
        judges: &[wraps],
        sabotages: &[
            spoils("assigns 0", &[NO_ZERO], || of_changed(0)),
            spoils("goes on to 2", &[NO_ZERO], || of_changed(2)),
            spoils("keeps 4095", &[NO_ZERO], || of_changed(4095)),
        ],
        ..Case::BASE
    }
}

/// Whether a packet registers the site with the changed priority.
fn is_changed(packet: &Seen) -> bool {
    packet.sender() == Some(XTR)
        && packet.map_register().is_some_and(|register| {
            register.records.iter().any(|record| {
                record.eid_prefix() == Some(prefix(SITE))
                    && record.locators.iter().any(|locator| locator.priority == 2)
            })
        })
}

/// The changed mapping is registered with another version.
fn of_changed(version: u16) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim {
            frame.edit_signed(&key("key-of-site"), |message| match message {
                ControlMessage::MapRegister(register) => {
                    let changed = register
                        .records
                        .iter_mut()
                        .filter(|record| record.map_version == 1);
                    changed.map(|record| record.map_version = version).count() > 0
                }
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

fn wraps(trace: &Trace, findings: &mut Findings) {
    let before = trace
        .originated(XTR)
        .find(|packet| registered_version(packet, SITE) == Some(4095));
    let Some(before) = before else {
        return findings.unseen(NO_ZERO, format!("{SITE} registered with version 4095"));
    };
    let changed: Vec<&Seen> = trace
        .since(CHANGE)
        .filter(|packet| is_changed(packet))
        .collect();
    if changed.is_empty() {
        findings.unseen(NO_ZERO, "a Map-Register of the changed mapping");
    }
    for packet in changed {
        let version = registered_version(packet, SITE);
        findings.check(
            NO_ZERO,
            version == Some(1),
            [before, packet],
            "version 1 after 4095",
            format!("version {}", words::or_none(version)),
        );
    }
}
