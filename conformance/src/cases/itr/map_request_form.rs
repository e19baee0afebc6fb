//! The form of a Map-Request for a packet without a map-cache entry (RFC 6830 6.1.2, 6.1.3, 6.1.8).

use std::net::IpAddr;

use lisp::wire::{ControlMessage, EidQuery, MapRequest};
use lisp::{Address, CONTROL_PORT, DATA_PORT};

use super::map_cache_net::{
    CORE, ITR, Net, REMOTE, RESOLVER, SOON, TOPOLOGY, is_question, questions, requests_out,
};
use crate::case::Case;
use crate::cases::common::{edit_outgoing, inner_addresses, ip, negative, prefix};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};
use crate::words;

const DESTINATION: Req = Req::new("rfc6830-6.1.3-dst-ecm-eid");
const SOURCE: Req = Req::new("rfc6830-6.1.3-src-rloc");
const ITR_RLOCS: Req = Req::new("rfc6830-6.1.3-itr-rloc-choice");
const ENCAPSULATED: Req = Req::new("rfc6830-6.1.3-ecm-itr-mr");
const ONE_RECORD: Req = Req::new("rfc6830-6.1.2-one-record-tx");
const A_BIT: Req = Req::new("rfc6830-6.1.2-a-bit");
const SOURCE_EID: Req = Req::new("rfc6830-6.1.2-source-eid");
const PORTS: Req = Req::new("rfc6830-14.3-ports");

/// Destinations in prefixes of their own, of both families.
const ASKED: [&str; 4] = ["10.2.1.1", "10.2.2.1", "10.3.0.1", "2001:db8:b:1::1"];
/// The ITR's locators.
const LOCATORS: [&str; 2] = ["192.0.2.2", "2001:db8:0:2::2"];
/// Everything that is asked for, and no fence.
const SPACE: [&str; 4] = [
    "10.2.0.0/22",
    "10.3.0.0/16",
    "2001:db8:b::/48",
    "10.2.8.0/24",
];

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_3::a_miss_asks_the_map_resolver_for_its_destination",
        title: "Several misses at once: each is one Map-Request with one record, for the destination, encapsulated to the Map-Resolver.",
        topology: TOPOLOGY,
        settings: &[(
            ITR,
            "eid-prefixes: [{prefix: 10.1.0.0/24, locators: [{address: 192.0.2.2, priority: 1, weight: 100}, {address: '2001:db8:0:2::2', priority: 1, weight: 100}]}, {prefix: '2001:db8:a::/48', locators: [{address: 192.0.2.2, priority: 1, weight: 100}, {address: '2001:db8:0:2::2', priority: 1, weight: 100}]}]",
        )],
        roles: &["itr"],
        requirements: &[DESTINATION, SOURCE, ITR_RLOCS, ENCAPSULATED, ONE_RECORD, A_BIT, SOURCE_EID, PORTS],
        drive,
        judges: &[judge, judge_ports],
        sabotages: &[
            Sabotage {
                name: "sends Map-Requests inside to its own locator",
                node: ITR,
                links: CORE,
                kills: &[DESTINATION],
                tamper: || inner_addresses(|_, destination| *destination = ip(LOCATORS[0])),
            },
            Sabotage {
                name: "names an EID as source inside",
                node: ITR,
                links: CORE,
                kills: &[SOURCE],
                tamper: || inner_addresses(|source, _| {
                    if source.is_ipv4() {
                        *source = ip("10.1.0.10");
                    }
                }),
            },
            Sabotage {
                name: "sends from another address",
                node: ITR,
                links: CORE,
                kills: &[SOURCE],
                tamper: || edit_outgoing(|frame| {
                    if super::map_cache_net::frame_request(frame).is_some() {
                        frame.edit_addresses(|header| {
                            if let lisp::ip::IpHeader::V4(header) = header {
                                header.source = std::net::Ipv4Addr::new(10, 1, 0, 1);
                            }
                            true
                        });
                    }
                }),
            },
            Sabotage {
                name: "names a locator that is not its own",
                node: ITR,
                links: CORE,
                kills: &[ITR_RLOCS],
                tamper: || requests_out(|request| {
                    request.itr_rlocs.push(Address::from(ip(REMOTE)));
                    true
                }),
            },
            Sabotage {
                name: "names no IPv4 locator to an IPv4 Map-Resolver",
                node: ITR,
                links: CORE,
                kills: &[ITR_RLOCS],
                tamper: || requests_out(|request| {
                    request.itr_rlocs = vec![Address::None];
                    true
                }),
            },
            Sabotage {
                name: "sends a plain Map-Request",
                node: ITR,
                links: CORE,
                kills: &[ENCAPSULATED],
                tamper: || edit_outgoing(|frame| {
                    if let Some(request) = super::map_cache_net::frame_request(frame) {
                        frame.edit_udp(|_, payload| {
                            *payload = ControlMessage::MapRequest(request).to_vec();
                            true
                        });
                    }
                }),
            },
            Sabotage {
                name: "asks for two EIDs at once",
                node: ITR,
                links: CORE,
                kills: &[ONE_RECORD],
                tamper: || requests_out(|request| {
                    request.records.push(EidQuery::new(prefix("10.9.0.1/32")));
                    true
                }),
            },
            Sabotage {
                name: "sets the A bit",
                node: ITR,
                links: CORE,
                kills: &[A_BIT],
                tamper: || requests_out(|request| {
                    request.authoritative = true;
                    true
                }),
            },
            Sabotage {
                name: "does not name the source EID",
                node: ITR,
                links: CORE,
                kills: &[SOURCE_EID],
                tamper: || requests_out(|request| {
                    request.source_eid = Address::None;
                    true
                }),
            },
            Sabotage {
                name: "sends data to another port",
                node: ITR,
                links: CORE,
                kills: &[PORTS],
                tamper: || edit_outgoing(|frame| {
                    frame.edit_udp_ports(|ports, _| {
                        let data = ports.1 == DATA_PORT;
                        if data {
                            ports.1 = 8472;
                        }
                        data
                    });
                }),
            },
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    let begin = drive.mark("the misses");
    for (to, number) in ASKED.iter().zip(1..) {
        net.send(to, number)?;
    }
    for to in ASKED {
        let asked = lisp::EidPrefix::host(0, ip(to));
        drive.wait_for(begin, &format!("a Map-Request for {to}"), SOON, |packet| {
            packet.sender() == Some(ITR) && is_question(packet, &asked)
        })?;
    }
    // Data, so that its port can be judged; and a negative answer, which no ACT makes into LISP traffic.
    net.answer(
        "10.2.8.0/24",
        vec![negative("10.2.8.0/24", 15, lisp::wire::Action::Drop)],
    );
    net.fence(drive)
}

fn judge(trace: &Trace, findings: &mut Findings) {
    // What comes from a foreign address is nobody's by its source: take all that the ITR sends.
    let asked: Vec<&Seen> = trace
        .sent_by(ITR)
        .filter(|packet| {
            SPACE
                .iter()
                .any(|space| is_question(packet, &prefix(space)))
        })
        .collect();
    if asked.len() < ASKED.len() {
        for requirement in [
            DESTINATION,
            SOURCE,
            ITR_RLOCS,
            ENCAPSULATED,
            ONE_RECORD,
            A_BIT,
            SOURCE_EID,
        ] {
            findings.broken(
                requirement,
                &asked,
                format!("a Map-Request for each of {}", ASKED.join(", ")),
                format!("{} Map-Requests", asked.len()),
            );
        }
    }
    for packet in asked {
        if let Some(request) = packet.map_request() {
            headers(packet, request, findings);
            content(packet, request, findings);
        }
    }
}

fn headers(packet: &Seen, request: &MapRequest, findings: &mut Findings) {
    let locators = LOCATORS.map(ip);
    let (Some(from), Some(to)) = (packet.source(), packet.destination()) else {
        return;
    };
    let eid = request.records.first().and_then(|query| query.eid.ip());
    let inner = packet.ecm();
    findings.check(
        ENCAPSULATED,
        inner.is_some()
            && packet
                .udp()
                .is_some_and(|udp| udp.destination_port == CONTROL_PORT),
        packet,
        "an Encapsulated Control Message to port 4342",
        packet.summary(),
    );
    let inside = inner.map_or((from, to), |inner| (inner.source, inner.destination));
    findings.check(
        DESTINATION,
        to == ip(RESOLVER) && Some(inside.1) == eid,
        packet,
        format!("to {RESOLVER}, inside to the EID"),
        format!("to {to}, inside to {}", inside.1),
    );
    findings.check(
        SOURCE,
        locators.contains(&from) && locators.contains(&inside.0),
        packet,
        format!("from {}, inside too", LOCATORS.join(" or ")),
        format!("from {from}, inside from {}", inside.0),
    );
}

fn content(packet: &Seen, request: &MapRequest, findings: &mut Findings) {
    let locators = LOCATORS.map(ip);
    let named: Vec<Option<IpAddr>> = request.itr_rlocs.iter().map(Address::ip).collect();
    let own = named
        .iter()
        .all(|rloc| rloc.is_some_and(|rloc| locators.contains(&rloc)));
    findings.check(
        ITR_RLOCS,
        own && named.contains(&Some(locators[0])),
        packet,
        format!(
            "own locators, {} among them: the Map-Resolver has only IPv4",
            LOCATORS[0]
        ),
        words::listed(&request.itr_rlocs),
    );
    findings.check(
        ONE_RECORD,
        request.records.len() == 1,
        packet,
        "one record",
        format!("{} records", request.records.len()),
    );
    findings.check(
        A_BIT,
        !request.authoritative,
        packet,
        "A=0",
        format!("A={}", u8::from(request.authoritative)),
    );
    let v4 = request
        .records
        .first()
        .and_then(|query| query.eid.ip())
        .is_none_or(|eid| eid.is_ipv4());
    let source = if v4 { "10.1.0.10" } else { "2001:db8:a::10" };
    findings.check(
        SOURCE_EID,
        request.source_eid == Address::from(ip(source)),
        packet,
        format!("Source-EID {source}"),
        format!("Source-EID {}", request.source_eid),
    );
}

/// Data to port 4341, control to or from port 4342, nothing else that carries the site's packets (RFC 6830 14.3).
fn judge_ports(trace: &Trace, findings: &mut Findings) {
    let strange: Vec<&Seen> = trace
        .originated(ITR)
        .filter(|packet| packet.link() == CORE[0])
        .filter(|packet| {
            packet.udp().is_some_and(|udp| {
                udp.destination_port != DATA_PORT
                    && udp.destination_port != CONTROL_PORT
                    && udp.source_port != CONTROL_PORT
            })
        })
        .collect();
    let data = trace.originated(ITR).find(|packet| packet.is_data());
    let control = questions(trace, "0.0.0.0/0").into_iter().next();
    match (strange.first(), data, control) {
        (Some(first), _, _) => findings.broken(
            PORTS,
            &strange,
            "data to port 4341, control to or from port 4342",
            first.summary(),
        ),
        (None, Some(data), Some(control)) => {
            findings.met(PORTS, [control, data], "data to 4341, control to 4342");
        }
        (None, _, _) => findings.unseen(PORTS, "a data packet and a Map-Request"),
    }
}
