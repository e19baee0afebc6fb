//! Source map-versions at an ETR: newer ones, older ones, and none (RFC 6830 6.6.3; RFC 6834 5; RFC 9302 7.2).

use std::time::Duration;

use lisp::wire::MapRecord;

use super::map_versions::*;
use crate::case::Case;
use crate::cases::common::{ip, prefix};
use crate::cases::one_xtr::*;
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Stop};
use crate::finding::Findings;
use crate::trace::{Seen, Trace};

const ASKS: Req = Req::new("rfc6830-6.6.3-mv-src-new");
const MUST_ASK: Req = Req::new("rfc9302-7.2-src-newer");
const OLDER: Req = Req::new("rfc9302-7.2-src-older");

const KNOWN: &str = "the remote site's mapping is known";
const NEWER: &str = "the remote site's mapping has changed";

fn of_version(eid: &str, rloc: std::net::IpAddr, version: u16) -> MapRecord {
    let mut record = mapping(eid, &[rloc]);
    record.map_version = version;
    record
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_3::a_newer_source_version_is_asked_for",
        title: "A packet whose source version is newer than the cached one makes the ETR ask for the source's mapping through the mapping system; the same version makes it ask nothing, and RFC 9302 drops an older one.",
        topology: TOPOLOGY,
        settings: &[(XTR, SETTINGS)],
        roles: &["etr"],
        features: &["mapver"],
        requirements: &[ASKS, MUST_ASK, OLDER],
        drive,
        judges: &[asks_for_newer, drops_older],
        sabotages: &[
            spoils("does not look at source versions", &[ASKS, MUST_ASK], || on_versions(|source, destination| {
                Some((if source == 6 { 5 } else { source }, destination))
            })),
            spoils("asks nobody", &[ASKS, MUST_ASK], || {
                let mut asked = 0;
                swallow(move |frame| {
                    let request = frame.ip().is_some_and(|ip| ip.destination == MAPPING)
                        && matches!(frame.control(), Some(lisp::wire::ControlMessage::Encapsulated(_)));
                    asked += u32::from(request);
                    request && asked > 1
                })
            }),
            spoils("asks when nothing is new", &[ASKS, MUST_ASK], || {
                let mut seen = 0;
                on_versions(move |source, destination| {
                    seen += 1;
                    Some((if seen == 2 { 6 } else { source }, destination))
                })
            }),
            spoils("takes older source versions", &[OLDER], || on_versions(|source, destination| {
                Some((if source == 4 { 5 } else { source }, destination))
            })),
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, vec![of_version(REMOTE_SITE, REMOTE, 5)])?;
    registered(drive, SITE)?;
    net.say(drive, REMOTE_HOST, 1)?;
    drive.mark(KNOWN);
    net.tunnel((&net.remote, REMOTE), &versions(4, OWN), REMOTE_HOST, 20)?;
    net.hear(drive, (&net.remote, REMOTE), &versions(5, OWN), 21)?;
    net.teach_all(Answers {
        records: vec![of_version(REMOTE_SITE, REMOTE, 6)],
        echo_nonce: false,
    });
    let newer = drive.mark(NEWER);
    net.hear(drive, (&net.remote, REMOTE), &versions(6, OWN), 22)?;
    drive.wait_for(newer, "the Map-Reply with version 6", SOON, |packet| {
        let of_six = |record: &MapRecord| record.map_version == 6;
        packet.receiver() == Some(XTR)
            && packet
                .map_reply()
                .is_some_and(|reply| reply.records.iter().any(of_six))
    })?;
    // The reply is on the wire; it is in use when packets to the site have the new version.
    let what = "a data packet with the new version";
    for sequence in 100..140 {
        net.offer(REMOTE_HOST, sequence)?;
        let each = Duration::from_millis(100);
        match drive.wait_for(newer, what, each, |packet| {
            left(packet).is_some()
                && packet
                    .data()
                    .is_some_and(|(header, _)| header.map_version == Some((OWN, 6)))
        }) {
            Err(Stop::NotSeen(_)) => {}
            seen => {
                seen?;
                break;
            }
        }
    }
    net.tunnel((&net.remote, REMOTE), &versions(5, OWN), REMOTE_HOST, 23)?;
    net.hear(drive, (&net.remote, REMOTE), &versions(6, OWN), 24)?;
    Ok(())
}

fn asks_for_newer(trace: &Trace, findings: &mut Findings) {
    let (Some(known), Some(newer), Some(packet)) =
        (trace.mark(KNOWN), trace.mark(NEWER), sent(trace, 22))
    else {
        for row in [ASKS, MUST_ASK] {
            findings.unseen(row, "data with a newer source version than the cached one");
        }
        return;
    };
    let asked = questions(trace, known, REMOTE_SITE);
    let needless = asked.iter().find(|question| question.time_ns() < newer);
    let wanted = asked
        .iter()
        .find(|question| question.time_ns() >= packet.time_ns());
    for row in [ASKS, MUST_ASK] {
        match (needless, wanted) {
            (Some(question), _) => findings.broken(
                row,
                *question,
                "no Map-Request while the source version is the cached one, or older",
                question.summary(),
            ),
            (None, Some(question)) => findings.check(
                row,
                to_resolver(question),
                [packet, *question],
                format!("a Map-Request for {REMOTE_SITE} to the Map-Resolver"),
                question.summary(),
            ),
            (None, None) => findings.broken(
                row,
                packet,
                format!("a Map-Request for {REMOTE_SITE}, whose mapping has a newer version"),
                "none",
            ),
        }
    }
}

fn drops_older(trace: &Trace, findings: &mut Findings) {
    for (old, fence) in [(20, 21), (23, 24)] {
        let (Some(packet), Some(fence)) = (sent(trace, old), at_the_site(trace, fence)) else {
            findings.unseen(
                OLDER,
                "data with an older source version, and a fence behind it",
            );
            continue;
        };
        let delivered = at_the_site(trace, old);
        findings.check(
            OLDER,
            delivered.is_none(),
            [packet, delivered.unwrap_or(fence)],
            "data with an older source version than the cached one dropped",
            if delivered.is_some() {
                "delivered"
            } else {
                "not delivered"
            },
        );
    }
}

const NOTHING: Req = Req::new("rfc6830-6.6.3-mv-zero");
const NO_DESTINATION: Req = Req::new("rfc6834-5.1-null-dst-ignore");
const NO_SOURCE: Req = Req::new("rfc6834-5.2-null-src-ignore");

/// A second remote site: as numbers go, 0 is newer than the version of the first and older than that of the second.
const SECOND_SITE: &str = "10.2.1.0/24";
const SECOND_HOST: &str = "10.2.1.10";
const FIRST_VERSION: u16 = 4000;
const SECOND_VERSION: u16 = 5;
/// The fences' site: what is asked about it has a reason.
const FENCE_SITE: &str = "10.2.2.0/24";
const FENCE_HOST: &str = "10.2.2.10";
const FENCE_VERSION: u16 = 7;

/// Packets with a version 0: number, EID, versions.
const NULLS: [(u8, &str, u16, u16); 5] = [
    (1, "10.2.0.10", 0, OWN),
    (2, SECOND_HOST, 0, OWN),
    (3, "10.2.0.10", FIRST_VERSION, 0),
    (4, "10.2.0.10", 0, 0),
    (5, SECOND_HOST, 0, 0),
];

const NULL: &str = "versions 0";
const FENCE: &str = "a newer source version";

inventory::submit! {
    Case {
        id: "rfc6834::s5::version_0_says_nothing",
        title: "A source or destination version 0 is compared with nothing: the packet is delivered, nobody is told and nobody asked.",
        topology: TOPOLOGY,
        settings: &[(XTR, SETTINGS)],
        roles: &["etr"],
        features: &["mapver", "smr"],
        requirements: &[NOTHING, NO_DESTINATION, NO_SOURCE],
        drive: drive_nulls,
        judges: &[ignores],
        sabotages: &[
            spoils("takes source version 0 for a newer one", &[NOTHING, NO_SOURCE], || on_versions(|source, destination| {
                Some((if source == 0 { FIRST_VERSION + 1 } else { source }, destination))
            })),
            spoils("takes destination version 0 for an old one", &[NOTHING, NO_DESTINATION], || on_versions(|source, destination| {
                Some((source, if destination == 0 { OWN - 1 } else { destination }))
            })),
            spoils("takes destination version 0 for a newer one", &[NOTHING, NO_DESTINATION], || on_versions(|source, destination| {
                Some((source, if destination == 0 { OWN + 1 } else { destination }))
            })),
            spoils("drops what has no source version", &[NOTHING, NO_SOURCE], || on_versions(|source, destination| {
                Some((source, if source == 0 { OWN + 1 } else { destination }))
            })),
        ],
        ..Case::BASE
    }
}

fn drive_nulls(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let records = vec![
        of_version(REMOTE_SITE, REMOTE, FIRST_VERSION),
        of_version(SECOND_SITE, REMOTE, SECOND_VERSION),
        of_version(FENCE_SITE, REMOTE, FENCE_VERSION),
    ];
    let net = Net::up(drive, records)?;
    registered(drive, SITE)?;
    net.say(drive, REMOTE_HOST, 101)?;
    net.say(drive, ip(SECOND_HOST), 102)?;
    net.say(drive, ip(FENCE_HOST), 103)?;
    drive.mark(NULL);
    for (number, eid, source, destination) in NULLS {
        let inner = Echo::new(ip(eid), HOST, u16::from(number)).reply();
        let from = (encapsulator(number), 61_007);
        net.remote
            .data(from, RLOC, &versions(source, destination), &inner)?;
    }
    // The fences: what is told, asked and delivered for other reasons, behind them.
    let fence = drive.mark(FENCE);
    let newer = versions(FENCE_VERSION + 1, OWN - 1);
    let from = (&net.remote, encapsulator(10));
    net.tunnel(from, &newer, ip(FENCE_HOST), 10)?;
    drive.wait_for(fence, "the fence's SMR", SOON, |packet| {
        is_smr(packet, encapsulator(10))
    })?;
    drive.wait_for(fence, "the fence's Map-Request", SOON, |packet| {
        packet.sender() == Some(XTR) && asks(packet, &prefix(FENCE_SITE))
    })?;
    let same = versions(FIRST_VERSION, OWN);
    net.hear(drive, (&net.remote, REMOTE), &same, 11)?;
    Ok(())
}

fn ignores(trace: &Trace, findings: &mut Findings) {
    let rows = [NOTHING, NO_DESTINATION, NO_SOURCE];
    let (Some(begin), Some(fence)) = (trace.mark(NULL), at_the_site(trace, 11)) else {
        for row in rows {
            findings.unseen(row, "data with versions 0, and a fence behind it");
        }
        return;
    };
    let needless = [REMOTE_SITE, SECOND_SITE]
        .iter()
        .find_map(|site| questions(trace, begin, site).first().copied());
    for (number, _, source, destination) in NULLS {
        let Some(packet) = sent(trace, u16::from(number)) else {
            for row in rows {
                findings.unseen(
                    row,
                    format!("the packet with versions {source} and {destination}"),
                );
            }
            continue;
        };
        let delivered = at_the_site(trace, u16::from(number));
        let smr = trace
            .iter()
            .find(|packet| is_smr(packet, encapsulator(number)));
        let holds = delivered.is_some() && smr.is_none() && needless.is_none();
        let seen = format!(
            "source version {source}, destination version {destination}: {}, {}, {}",
            if delivered.is_some() {
                "delivered"
            } else {
                "not delivered"
            },
            if smr.is_some() { "an SMR" } else { "no SMR" },
            needless.map_or("nothing asked".to_owned(), |packet| packet.summary()),
        );
        let all = [Some(packet), delivered, smr, needless, Some(fence)];
        let evidence: Vec<&Seen> = all.into_iter().flatten().collect();
        let expected = "delivered, no SMR, no Map-Request";
        findings.check(NOTHING, holds, &evidence, expected, seen.clone());
        if destination == 0 {
            findings.check(NO_DESTINATION, holds, &evidence, expected, seen);
        } else {
            // RFC 9302 7.1 makes a violation of destination version 0: what has one tells nothing about the source's.
            findings.check(NO_SOURCE, holds, &evidence, expected, seen);
        }
    }
}
