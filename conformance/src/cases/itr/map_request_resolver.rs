//! The way to the Map-Resolver does not lead through LISP (RFC 6833 4.1).

use super::map_cache_net::{
    CORE, ITR, Net, OTHER, OWN, RESOLVER, TOPOLOGY, frame_request, goes_to, is_question, sent,
};
use crate::case::Case;
use crate::cases::common::{edit_outgoing, ip, prefix, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop, data_packet};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const ROUTABLE: Req = Req::new("rfc6833-4.1-mr-rloc-routable");

/// A mapping that covers the Map-Resolver's address, and a host in it.
const COVER: &str = "198.51.100.0/24";
const COVERED: &str = "198.51.100.77";

inventory::submit! {
    Case {
        id: "rfc6833::s4_1::map_requests_are_not_encapsulated_as_data",
        title: "A cached EID-Prefix covers the Map-Resolver's address; Map-Requests still go to it without LISP's help.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[ROUTABLE],
        drive,
        judges: &[judge],
        sabotages: &[Sabotage {
            name: "sends Map-Requests through the tunnel",
            node: ITR,
            links: CORE,
            kills: &[ROUTABLE],
            tamper: || edit_outgoing(|frame| {
                let about = |request: lisp::wire::MapRequest| {
                    let query = request.records.first().and_then(|query| query.prefix());
                    query.is_some_and(|asked| prefix("10.2.1.0/24").covers(&asked))
                };
                if !frame_request(frame).is_some_and(about) {
                    return;
                }
                let Some(inner) = frame.ip().map(|packet| packet.bytes) else {
                    return;
                };
                let header = lisp::wire::DataHeader::default();
                let outer = data_packet((ip(OWN), 50_001), ip(OTHER), &header, &inner, 64);
                let octets = frame.octets();
                octets.truncate(14);
                octets.extend(outer);
            }),
        }],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    net.map(COVER, OTHER);
    net.resolve(drive, COVERED, 1)?;
    net.send(COVERED, 2)?;
    net.fence(drive)?;
    let begin = drive.mark("a miss, with the Map-Resolver's prefix cached");
    net.send("10.2.1.1", 3)?;
    let asked = prefix("10.2.1.0/24");
    drive.wait_for(
        begin,
        "the Map-Request for 10.2.1.1",
        seconds(5),
        |packet| {
            packet.sender() == Some(ITR) && (is_question(packet, &asked) || in_a_tunnel(packet))
        },
    )?;
    Ok(())
}

/// A control message inside a data packet.
fn in_a_tunnel(packet: &Seen) -> bool {
    packet.data().is_some_and(|(_, inner)| {
        inner
            .udp()
            .is_some_and(|udp| udp.destination_port == lisp::CONTROL_PORT)
    })
}

fn judge(trace: &Trace, findings: &mut Findings) {
    // Without this the stimulus is missing: the mapping is cached and used.
    goes_to(trace, findings, ROUTABLE, 2, OTHER);
    let Some(miss) = sent(trace, 3) else {
        findings.unseen(ROUTABLE, "a miss");
        return;
    };
    let asked = prefix("10.2.1.0/24");
    let tunnelled = trace.sent_by(ITR).find(|packet| in_a_tunnel(packet));
    let plain = trace
        .originated(ITR)
        .find(|packet| is_question(packet, &asked) && packet.destination() == Some(ip(RESOLVER)));
    let expected = format!("a Map-Request to {RESOLVER}, in no LISP data packet");
    match (tunnelled, plain) {
        (Some(packet), _) => findings.broken(ROUTABLE, [miss, packet], expected, packet.summary()),
        (None, Some(packet)) => findings.met(ROUTABLE, [miss, packet], packet.summary()),
        (None, None) => findings.broken(ROUTABLE, miss, expected, "none"),
    }
}
