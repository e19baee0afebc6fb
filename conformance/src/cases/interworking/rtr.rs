//! Re-encapsulating tunnel routers (RFC 6830 3, 5.3).

use lisp::wire::DataHeader;

use super::{Ping, way_text};
use crate::case::Case;
use crate::cases::common::{edit_outgoing, ip, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Stop, data_packet};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const TTL: Req = Req::new("rfc6830-5.3-reencap-ttl");
const ECN: Req = Req::new("rfc6830-5.3-ecn-reencap");

const HOST_A: &str = "10.1.0.10";
const HOST_B: &str = "10.2.0.10";
const CE: u8 = 3;

inventory::submit! {
    Case {
        id: "rfc6830::s5_3::three_rtrs_in_a_row",
        title: "Each of three re-encapsulating routers takes the packet out of one tunnel and into the next, with a TTL one less.",
        topology: "rtr-chain",
        roles: &["pitr"],
        requirements: &[TTL, ECN],
        drive: drive_chain,
        judges: &[chain],
        sabotages: &[
            Sabotage {
                name: "starts every tunnel with a TTL of 64",
                node: "rtr-2",
                links: &[],
                kills: &[TTL],
                tamper: || edit_outgoing(|frame| {
                    frame.edit_ip(|header, _| {
                        if let lisp::ip::IpHeader::V4(v4) = header {
                            v4.ttl = 64;
                        }
                        true
                    });
                }),
            },
            Sabotage {
                name: "forgets the congestion that it was told of",
                node: "rtr-2",
                links: &[],
                kills: &[ECN],
                tamper: || edit_outgoing(|frame| {
                    frame.edit_ip(|header, _| {
                        if let lisp::ip::IpHeader::V4(v4) = header {
                            v4.traffic_class &= !CE;
                        }
                        true
                    });
                }),
            },
        ],
        ..Case::BASE
    }
}

/// An ordinary ping along the chain; then one that met congestion before the first RTR, from a peer in the place of an
/// xTR of another site.
fn drive_chain(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.ping("host-a", ip(HOST_B), 1, seconds(2))?;
    let core = drive.peer("core")?;
    let mut echo = Echo::new(ip(HOST_A), ip(HOST_B), 2);
    echo.traffic_class = 2;
    let from = (ip("192.0.2.1"), 61_000);
    let mut congested = data_packet(
        from,
        ip("192.0.2.10"),
        &DataHeader::default(),
        &echo.request(),
        60,
    );
    congested[1] |= CE;
    core.send(&congested)?;
    drive.wait_for(0, "the congested ping at host-b", seconds(5), |packet| {
        packet.receiver() == Some("host-b") && Ping::Request(2).is_plain(packet)
    })?;
    Ok(())
}

fn chain(trace: &Trace, findings: &mut Findings) {
    for (sequence, what) in [(1, "the ping"), (2, "the congested ping")] {
        let way = Ping::Request(sequence).way(trace);
        for node in ["rtr-1", "rtr-2", "rtr-3"] {
            let within = |packet: &&&Seen| packet.is_data();
            let arrived = way
                .iter()
                .filter(within)
                .find(|p| p.receiver() == Some(node));
            let left = way.iter().filter(within).find(|p| p.sender() == Some(node));
            let (Some(arrived), Some(left)) = (arrived, left) else {
                findings.broken(
                    TTL,
                    &way,
                    format!("{what} into {node} and out of it, encapsulated"),
                    way_text(&way),
                );
                continue;
            };
            let (Some(before), Some(after)) = (arrived.ip(), left.ip()) else {
                continue;
            };
            findings.check(
                TTL,
                after.ttl + 1 == before.ttl,
                [*arrived, *left],
                format!("outer TTL {} after {node}", before.ttl.saturating_sub(1)),
                after.ttl.to_string(),
            );
            if sequence == 2 {
                findings.check(
                    ECN,
                    before.ecn() == CE && after.ecn() == CE,
                    [*arrived, *left],
                    format!("congestion experienced on the outer header after {node}"),
                    format!("ECN {:02b}", after.ecn()),
                );
            }
        }
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s5_3::a_loop_of_rtrs_dies_by_its_ttl",
        title: "Re-encapsulating routers that lead a packet in a circle lower its TTL each time, until it is gone.",
        topology: "rtr-chain",
        settings: &[("rtr-3", "{static-map-cache: [{prefix: 10.2.0.0/24, locators: [{address: 192.0.2.10}]}]}")],
        roles: &["pitr"],
        requirements: &[TTL],
        drive: drive_loop,
        judges: &[dies],
        sabotages: &[Sabotage {
            name: "does not count its own hop",
            node: "rtr-2",
            links: &[],
            kills: &[TTL],
            tamper: || edit_outgoing(|frame| {
                frame.edit_ip(|header, _| {
                    if let lisp::ip::IpHeader::V4(v4) = header {
                        v4.ttl = v4.ttl.saturating_add(1);
                    }
                    true
                });
            }),
        }],
        ..Case::BASE
    }
}

fn drive_loop(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.ping("host-a", ip(HOST_B), 1, seconds(1))?;
    // The loop is over when a router of the circle says so, or sends the packet with a last TTL.
    drive.wait_for(0, "the end of the loop", seconds(5), |packet| {
        let last =
            Ping::Request(1).is_tunnelled(packet) && packet.ip().is_some_and(|ip| ip.ttl <= 2);
        let exceeded = packet
            .ip()
            .and_then(|ip| ip.icmp())
            .is_some_and(|icmp| (icmp.v6, icmp.kind) == (false, 11));
        last || exceeded
    })?;
    Ok(())
}

fn dies(trace: &Trace, findings: &mut Findings) {
    let way = Ping::Request(1).way(trace);
    let turns: Vec<&Seen> = way
        .iter()
        .copied()
        .filter(|p| p.is_data() && p.sender().is_some_and(|node| node.starts_with("rtr")))
        .collect();
    if turns.len() < 3 {
        return findings.unseen(TTL, "the packet led around the circle once");
    }
    let ttl = |packet: &Seen| packet.ip().map_or(0, |ip| ip.ttl);
    for pair in turns.windows(2) {
        // Between two RTRs lies the core, which counts a hop too.
        findings.check(
            TTL,
            ttl(pair[1]) + 2 == ttl(pair[0]),
            [pair[0], pair[1]],
            format!("outer TTL {}", ttl(pair[0]).saturating_sub(2)),
            ttl(pair[1]).to_string(),
        );
    }
    let out = way.iter().find(|p| p.receiver() == Some("host-b"));
    if let Some(out) = out {
        findings.broken(TTL, *out, "never delivered", out.summary());
    }
}
