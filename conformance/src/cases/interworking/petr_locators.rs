//! A PETR is no open door: it serves the locators that it knows (LISP-MN 13.1).

use lisp::wire::DataHeader;

use super::{Ping, is_data, way_text};
use crate::case::Case;
use crate::cases::common::{edit_incoming, ip, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;

const KNOWN_ONLY: Req = Req::new("mn01-13.1-petr-registered-only");

const LEGACY: &str = "203.0.113.10";
/// An EID of the site that the PETR serves, which anybody can claim to have.
const HOST_A: &str = "10.1.0.10";
const SITE: &str = "192.0.2.2";
/// A locator of no site.
const STRANGER: &str = "192.0.2.77";
const PROXY: &str = "192.0.2.14";
/// Number of the stranger's packet; those before and after it are the site's.
const FORGED: u16 = 2;
const FENCE: u16 = 3;

inventory::submit! {
    Case {
        id: "mn01::s13_1::a_petr_serves_known_locators_only",
        title: "A PETR decapsulates what comes from the locators of its sites, and drops what comes from any other.",
        topology: "interworking",
        settings: &[("pxtr", "petr-locators: [192.0.2.2/32]")],
        roles: &["petr"],
        features: &["mobility"],
        requirements: &[KNOWN_ONLY],
        start: false,
        drive,
        judges: &[known_only],
        sabotages: &[Sabotage {
            name: "serves every locator",
            node: "pxtr",
            links: &["core-pxtr"],
            kills: &[KNOWN_ONLY],
            tamper: || edit_incoming(|frame| {
                if is_data(frame) {
                    frame.edit_addresses(|header| match header {
                        lisp::ip::IpHeader::V4(v4) => {
                            v4.source = std::net::Ipv4Addr::new(192, 0, 2, 2);
                            true
                        }
                        lisp::ip::IpHeader::V6(_) => false,
                    });
                }
            }),
        },
        Sabotage {
            name: "serves nobody",
            node: "pxtr",
            links: &["pxtr-internet"],
            kills: &[KNOWN_ONLY],
            tamper: || crate::cases::common::lose_outgoing(|frame| {
                frame.ip().and_then(|packet| Some(packet.icmp()?.echo().1)) == Some(1)
            }),
        }],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.start("pxtr")?;
    let site = drive.peer("xtr-a")?;
    for (sequence, rloc) in [(1, SITE), (FORGED, STRANGER), (FENCE, SITE)] {
        let packet = Echo::new(ip(HOST_A), ip(LEGACY), sequence).request();
        let from = (ip(rloc), 61_000);
        site.data(from, ip(PROXY), &DataHeader::default(), &packet)?;
    }
    drive.wait_for(0, "the fence at the legacy host", seconds(5), |packet| {
        packet.receiver() == Some("legacy") && Ping::Request(FENCE).is_plain(packet)
    })?;
    Ok(())
}

fn known_only(trace: &Trace, findings: &mut Findings) {
    for sequence in [1, FORGED, FENCE] {
        let way = Ping::Request(sequence).way(trace);
        let Some(arrived) = way.iter().find(|p| p.receiver() == Some("pxtr")) else {
            findings.unseen(KNOWN_ONLY, format!("data packet {sequence} at the PETR"));
            continue;
        };
        let out = way.iter().find(|packet| packet.sender() == Some("pxtr"));
        let served = sequence != FORGED;
        findings.check(
            KNOWN_ONLY,
            out.is_some() == served,
            out.unwrap_or(arrived).to_owned(),
            if served {
                format!("decapsulated: {SITE} is a locator of its site")
            } else {
                format!("dropped: {STRANGER} is no locator of its sites")
            },
            way_text(&way),
        );
    }
}
