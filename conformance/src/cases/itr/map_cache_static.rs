//! Map-cache entries of the configuration: they are there from the start, and no Map-Reply changes them.

use super::map_cache_net::{
    Became, CORE, ITR, Net, OTHER, REMOTE, TOPOLOGY, became, goes_to, nothing_asked, records_in,
    sent, something_asked,
};
use crate::case::Case;
use crate::cases::common::{edit_incoming, locator, lose_outgoing};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;

const WHEN: Req = Req::new("rfc6830-4.1-mreq-when");
const ENCAPSULATES: Req = Req::new("rfc6830-3-itr-encap");

inventory::submit! {
    Case {
        id: "rfc6830::s4_1::static_entries_need_no_question",
        title: "Static entries encapsulate, forward natively, drop or ask as configured; only the last kind causes Map-Requests.",
        topology: TOPOLOGY,
        settings: &[(
            ITR,
            "static-map-cache: [{prefix: 10.5.0.0/16, locators: [{address: 192.0.2.66, priority: 1, weight: 100}]}, {prefix: 10.6.0.0/16, action: forward-native}, {prefix: 10.7.0.0/16, action: drop}, {prefix: 10.8.0.0/16, action: send-map-request}]",
        )],
        roles: &["itr"],
        requirements: &[WHEN, ENCAPSULATES],
        drive,
        judges: &[judge],
        sabotages: &[
            Sabotage {
                name: "asks in spite of a static entry",
                node: ITR,
                links: &["site", "rloc"],
                kills: &[WHEN],
                tamper: || edit_incoming(|frame| {
                    let asked = frame.ip().is_some_and(|packet| {
                        packet.destination == crate::cases::common::ip("10.7.1.1")
                    });
                    if asked {
                        frame.edit_ip(|header, _| {
                            if let lisp::ip::IpHeader::V4(header) = header {
                                header.destination = std::net::Ipv4Addr::new(10, 8, 7, 1);
                            }
                            true
                        });
                    }
                }),
            },
            Sabotage {
                name: "does not ask for what is to be asked for",
                node: ITR,
                links: CORE,
                kills: &[WHEN],
                tamper: || super::map_cache_net::requests_lost(|asked| {
                    crate::cases::common::prefix("10.8.0.0/16").covers(&asked)
                }),
            },
            Sabotage {
                name: "takes the Map-Reply's locator for another",
                node: ITR,
                links: CORE,
                kills: &[ENCAPSULATES],
                tamper: || records_in("10.8.0.0/16", |record| {
                    record.locators = vec![locator(OTHER, 1, 100)];
                }),
            },
            Sabotage {
                name: "drops by an entry with locators",
                node: ITR,
                links: CORE,
                kills: &[ENCAPSULATES],
                tamper: || lose_outgoing(|frame| {
                    frame.ip().is_some_and(|ip| ip.destination == crate::cases::common::ip(OTHER))
                }),
            },
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    drive.mark("packets to static entries");
    net.send("10.5.1.1", 1)?;
    net.send("10.6.1.1", 2)?;
    net.send("10.7.1.1", 3)?;
    net.fence(drive)?;
    net.map("10.8.1.0/24", REMOTE);
    net.resolve(drive, "10.8.1.1", 4)?;
    net.send("10.8.1.2", 5)?;
    net.fence(drive)
}

fn judge(trace: &Trace, findings: &mut Findings) {
    let begin = "packets to static entries";
    for eid in ["10.5.0.0/16", "10.6.0.0/16", "10.7.0.0/16"] {
        nothing_asked(trace, findings, WHEN, begin, eid);
    }
    // The mark of the sabotage that sends a packet elsewhere: 10.8.7.1 is asked for by nobody else.
    nothing_asked(trace, findings, WHEN, begin, "10.8.7.0/24");
    something_asked(trace, findings, WHEN, begin, "10.8.1.1/32");
    goes_to(trace, findings, ENCAPSULATES, 1, OTHER);
    goes_to(trace, findings, ENCAPSULATES, 5, REMOTE);
    for (number, what) in [(2, "forwarded natively"), (3, "dropped")] {
        let Some(packet) = sent(trace, number) else {
            findings.unseen(WHEN, format!("packet {number} of the site"));
            continue;
        };
        let became = became(trace, number);
        let right = match became {
            Became::Native(_) => number == 2,
            Became::Nothing => number == 3,
            Became::Encapsulated(_) => false,
        };
        findings.check(WHEN, right, became.with(packet), what, became.text());
    }
}
