//! Map-versions of what a PITR sends (RFC 6834 8.2.1, RFC 9302 A.2.1).

use super::Ping;
use super::pitr_questions::{HOST_A, of_proxy};
use crate::case::Case;
use crate::cases::common::{ip, locator, mapping_system, record, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Stop};
use crate::finding::Findings;
use crate::trace::{Seen, Trace};

const NO_SOURCE: Req = Req::new("rfc6834-8.2.1-pitr-null-src");

/// Map-version of the site's mapping.
const SITE_VERSION: u16 = 0x123;
const PACKETS: u16 = 4;

inventory::submit! {
    Case {
        id: "rfc6834::s8_2_1::a_pitr_has_no_source_map_version",
        title: "Data packets of a PITR to a site with a map-version name that version as the destination's, and none as the source's.",
        topology: "interworking",
        settings: &[("pxtr", "{roles: [pitr], petr-sources: [], map-versioning: true}")],
        roles: &["pitr"],
        features: &["pitr", "mapver"],
        requirements: &[NO_SOURCE],
        start: false,
        drive,
        judges: &[judge],
        sabotages: &[
            of_proxy("has a version of its own", &[NO_SOURCE], || with_versions(|_, destination| (7, destination))),
            of_proxy("swaps source and destination", &[NO_SOURCE], || with_versions(|source, destination| (destination, source))),
        ],
        ..Case::BASE
    }
}

fn with_versions(change: fn(u16, u16) -> (u16, u16)) -> crate::sabotage::Tamper {
    crate::cases::one_xtr::on_headers(move |header| {
        let changed = header
            .map_version
            .map(|(source, destination)| change(source, destination));
        header.map_version = changed;
        changed.is_some()
    })
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let mut mapping = drive.peer("msmr")?;
    mapping_system(&mut mapping, "key-of-site-a", |_| {
        let mut record = record("10.1.0.0/24", vec![locator("192.0.2.2", 1, 100)]);
        record.map_version = SITE_VERSION;
        vec![record]
    })?;
    let _site = drive.peer("xtr-a")?;
    let legacy = drive.peer("legacy")?;
    drive.start("pxtr")?;
    for sequence in 1..=PACKETS {
        let begin = drive.now_ns();
        let echo = Echo::new(legacy.address(), ip(HOST_A), sequence);
        legacy.send(&echo.request())?;
        drive.wait_for(begin, "the packet out of the proxy", seconds(5), |packet| {
            packet.sender() == Some("pxtr") && Ping::Request(sequence).is_tunnelled(packet)
        })?;
    }
    Ok(())
}

fn judge(trace: &Trace, findings: &mut Findings) {
    let with_versions: Vec<(&Seen, (u16, u16))> = trace
        .originated("pxtr")
        .filter_map(|packet| Some((packet, packet.data()?.0.map_version?)))
        .collect();
    if with_versions.is_empty() {
        findings.unseen(NO_SOURCE, "a data packet of the proxy with V = 1");
    }
    for (packet, (source, destination)) in with_versions {
        findings.check(
            NO_SOURCE,
            (source, destination) == (0, SITE_VERSION),
            packet,
            format!("source map-version 0, destination {SITE_VERSION}"),
            format!("{source} and {destination}"),
        );
    }
}
