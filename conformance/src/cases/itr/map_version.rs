//! Map-versions in data packets that an ITR sends (RFC 6830 5.3, 6.1.4; RFC 6834 4.1, 6; RFC 9302 4, 6.1).

use std::time::Duration;

use lisp::wire::MapRecord;

use super::echo_nonce::until_asked;
use crate::case::Case;
use crate::cases::common::{ip, prefix};
use crate::cases::one_xtr::*;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::trace::{Seen, Trace};
use crate::words;

const ENCODING: Req = Req::new("rfc6830-5.3-v-encoding");
const NO_VERSION: Req = Req::new("rfc6830-6.1.4-mapver-zero");
const NO_V_BIT: Req = Req::new("rfc9302-6.1-null-record");
const EXCLUSIVE: Req = Req::new("rfc6830-5.3-nv-exclusive");

/// Version of the remote site's mapping.
const THEIRS: u16 = 0xabc;
/// A host of a site whose mapping has no version.
const PLAIN_HOST: &str = "10.2.1.10";
const VERSIONED: std::ops::Range<u16> = 1..5;
const PLAIN: std::ops::Range<u16> = 11..15;

fn with_version(version: u16) -> MapRecord {
    let mut record = mapping(REMOTE_SITE, &[REMOTE]);
    record.map_version = version;
    record
}

inventory::submit! {
    Case {
        id: "rfc6830::s5_3::data_packets_carry_the_map_versions",
        title: "Data packets to a site with a map-version have V = 1, N = 0 and both versions in 24 bits, the source's as it is registered; those to a site without one say nothing about versions.",
        topology: TOPOLOGY,
        settings: &[(XTR, "{map-versioning: true, eid-prefixes: [{prefix: 10.1.0.0/24, map-version: 69, locators: [{address: 192.0.2.2, priority: 1, weight: 100}]}]}")],
        roles: &["itr"],
        features: &["mapver"],
        requirements: &[ENCODING, NO_VERSION, NO_V_BIT],
        drive,
        judges: &[encodes, says_nothing],
        sabotages: &[
            spoils("swaps the versions", &[ENCODING], || on_headers(|header| {
                header.map_version = header.map_version.map(|(source, destination)| (destination, source));
                header.map_version.is_some()
            })),
            spoils("writes them from the wrong end", &[ENCODING], || on_headers(|header| {
                let shifted = |(source, destination): (u16, u16)| (source << 4 | destination >> 8, destination << 4 | source >> 8);
                header.map_version = header.map_version.map(shifted);
                header.map_version.is_some()
            })),
            spoils("sets N too", &[ENCODING], || on_headers(|header| {
                if let Some((source, destination)) = header.map_version {
                    header.nonce = Some(0);
                    header.raw_nonce = u32::from(source) << 12 | u32::from(destination);
                }
                header.map_version.is_some()
            })),
            spoils("invents a version", &[NO_VERSION, NO_V_BIT], || on_headers(|header| {
                let hit = header.map_version.is_none();
                header.map_version = Some((69, 1));
                hit
            })),
            spoils("says that there is none", &[NO_V_BIT], || on_headers(|header| {
                let hit = header.map_version.is_none();
                header.map_version = Some((69, 0));
                hit
            })),
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let records = vec![with_version(THEIRS), mapping("10.2.1.0/24", &[OTHER])];
    let net = Net::up(drive, records)?;
    drive.wait_for(0, "the Map-Register of the site", SOON, |packet| {
        registered_version(packet).is_some()
    })?;
    for sequence in VERSIONED {
        net.say(drive, REMOTE_HOST, sequence)?;
    }
    for sequence in PLAIN {
        net.say(drive, ip(PLAIN_HOST), sequence)?;
    }
    Ok(())
}

/// The version with which the box registers its site's prefix.
fn registered_version(packet: &Seen) -> Option<u16> {
    let register = packet.map_register()?;
    let of_site = |record: &&MapRecord| record.eid_prefix() == Some(prefix("10.1.0.0/24"));
    (packet.sender() == Some(XTR))
        .then(|| register.records.iter().find(of_site))
        .flatten()
        .map(|record| record.map_version)
}

fn encodes(trace: &Trace, findings: &mut Findings) {
    let registration = trace
        .iter()
        .find_map(|packet| Some((packet, registered_version(packet)?)));
    let all = VERSIONED.filter_map(|sequence| data(trace, sequence));
    let with_v: Vec<(&Seen, &[u8])> = all
        .filter_map(|packet| Some((packet, packet.udp()?.payload.get(..4)?)))
        .filter(|(_, octets)| octets[0] & 0x10 != 0)
        .collect();
    let Some((registration, own)) = registration.filter(|_| !with_v.is_empty()) else {
        return findings.unseen(
            ENCODING,
            "a Map-Register of the site's prefix and a data packet with V = 1",
        );
    };
    // The first word of the LISP header, read without the codec.
    let expected = u32::from(own) << 12 | u32::from(THEIRS);
    for (packet, octets) in with_v {
        let found = u32::from_be_bytes([0, octets[1], octets[2], octets[3]]);
        findings.check(
            ENCODING,
            octets[0] & 0x80 == 0 && found == expected,
            [registration, packet],
            format!("V = 1, N = 0, octets 1 to 3 {expected:06x}: {own} as registered, {THEIRS} as in the Map-Reply"),
            words::hex(octets),
        );
    }
}

fn says_nothing(trace: &Trace, findings: &mut Findings) {
    let packets: Vec<&Seen> = PLAIN.filter_map(|sequence| data(trace, sequence)).collect();
    if packets.is_empty() {
        for row in [NO_VERSION, NO_V_BIT] {
            findings.unseen(row, "data packets to the site without a version");
        }
    }
    for packet in packets {
        let versions = packet.data().and_then(|(header, _)| header.map_version);
        let seen = versions.map_or_else(
            || "V = 0".to_owned(),
            |(source, destination)| {
                format!("V = 1, source version {source}, destination version {destination}")
            },
        );
        // RFC 6834 4.1 leaves V = 1 with destination version 0 as another way to say the same.
        let nothing = versions.is_none_or(|(_, destination)| destination == 0);
        findings.check(
            NO_VERSION,
            nothing,
            packet,
            "no destination version to a site without one",
            seen.clone(),
        );
        findings.check(
            NO_V_BIT,
            versions.is_none(),
            packet,
            "V = 0 to a site without a version",
            seen,
        );
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s5_3::nonce_and_map_version_exclude_each_other",
        title: "An ITR with echo-nonce and map-versions uses both toward one site, and no packet has N and V.",
        topology: TOPOLOGY,
        settings: &[
            (XTR, super::echo_nonce::SETTINGS),
            (XTR, "map-versioning: true"),
        ],
        timeout: Duration::from_secs(60),
        roles: &["itr"],
        features: &["echo-nonce", "mapver", "rloc-probe"],
        requirements: &[EXCLUSIVE],
        drive: drive_both,
        judges: &[excludes],
        sabotages: &[
            spoils("sets V beside N", &[EXCLUSIVE], || on_headers(|header| {
                if let Some(nonce) = header.nonce {
                    header.map_version = Some((1, THEIRS));
                    header.raw_nonce = nonce;
                }
                header.nonce.is_some()
            })),
            spoils("sets N beside V", &[EXCLUSIVE], || {
                let mut asked = false;
                on_headers(move |header| {
                    asked |= header.nonce.is_some();
                    let hit = asked && header.map_version.is_some();
                    if hit {
                        header.nonce = Some(0);
                    }
                    hit
                })
            }),
        ],
        ..Case::BASE
    }
}

fn drive_both(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let mut net = Net::answering(
        drive,
        Answers {
            records: vec![with_version(THEIRS)],
            echo_nonce: true,
        },
    )?;
    answer_probes(&mut net.remote, |probed, _| {
        Some((probed, marked(with_version(THEIRS), &[probed])))
    })?;
    let asked = until_asked(drive, &net, 100..130)?;
    let nonce = asked.data().and_then(|(header, _)| header.nonce);
    for sequence in 200..204 {
        net.say(drive, REMOTE_HOST, sequence)?;
    }
    // Once it is answered, packets need no nonce any more.
    let echo = lisp::wire::DataHeader {
        nonce,
        ..lisp::wire::DataHeader::default()
    };
    net.hear(drive, (&net.remote, REMOTE), &echo, 210)?;
    let begin = drive.now_ns();
    for sequence in 220..260 {
        let seen = net.say(drive, REMOTE_HOST, sequence)?;
        let versions = seen
            .data()
            .is_some_and(|(header, _)| header.map_version.is_some());
        if versions || drive.now_ns() - begin > 10_000_000_000 {
            break;
        }
    }
    net.say(drive, REMOTE_HOST, 270)?;
    Ok(())
}

fn excludes(trace: &Trace, findings: &mut Findings) {
    let headers: Vec<(&Seen, bool, bool)> = trace
        .originated(XTR)
        .filter_map(|packet| {
            let (header, _) = packet.data()?;
            Some((packet, header.nonce.is_some(), header.map_version.is_some()))
        })
        .collect();
    if let Some((packet, ..)) = headers.iter().find(|(_, n, v)| *n && *v) {
        return findings.broken(EXCLUSIVE, *packet, "N or V, not both", "N = 1 and V = 1");
    }
    let with_n = headers.iter().find(|(_, n, _)| *n);
    let with_v = headers.iter().find(|(_, _, v)| *v);
    match (with_n, with_v) {
        (Some((n, ..)), Some((v, ..))) => findings.met(
            EXCLUSIVE,
            [*n, *v],
            format!("{} data packets, none with both", headers.len()),
        ),
        _ => findings.unseen(EXCLUSIVE, "data packets with N = 1, and others with V = 1"),
    }
}
