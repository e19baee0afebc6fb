//! A site with several uplinks: its locator-status bits, and the source of its Map-Replies (RFC 6830 5.3, 6.3, 6.1.5).

use std::net::IpAddr;

use harness::inline::{PacketFate, Way};
use lisp::wire::{ControlMessage, DataHeader};

use super::flows_net::{FIRST_PORT, FLOW_PORT, ITR, R, SOON, inner_udp, mapping, subnet_of};
use super::locators::remote;
use crate::case::Case;
use crate::cases::common::{ip, mapping_system, request, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Peer, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};
use crate::words;

const ORDINAL: Req = Req::new("rfc6830-5.3-lsb-ordinal");
const PER_PREFIX: Req = Req::new("rfc6830-5.3-lsb-per-prefix");
const SOURCE: Req = Req::new("rfc6830-6.1.5-src-urpf");

const TOPOLOGY: &str = "three-uplinks";
const CORE: &[&str] = &["rloc1", "rloc2"];
/// Host, and the bits of its prefix with all uplinks and without the third: both sets are sorted by address.
const HOSTS: [(&str, u32, u32); 2] = [("10.1.0.10", 0b111, 0b011), ("10.11.0.10", 0b11, 0b01)];
const THIRD: &str = "192.0.2.10";
const TO: &str = "10.2.80.10";
const PHASES: [&str; 2] = ["all uplinks", "without the third uplink"];
/// Locator of the second uplink, through which r2 is reached.
const SECOND: &str = "192.0.2.6";
const NONCES: [u64; 2] = [0x75f1, 0x75f2];

const fn at_core(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: ITR,
        links: CORE,
        kills,
        tamper,
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s5_3::status_bits_follow_the_locator_set_of_the_source",
        title: "Bit n stands for locator n of the source's own mapping; when an uplink fails its bit goes, in each prefix at its own place.",
        topology: TOPOLOGY,
        settings: &[(ITR, "locator-status-bits: true")],
        roles: &["itr"],
        features: &["lsb"],
        requirements: &[ORDINAL, PER_PREFIX],
        timeout: seconds(40),
        drive: status_drive,
        judges: &[status],
        sabotages: &[
            at_core("counts from the other end", &[ORDINAL], || bits_out(|bits| if bits == 0b011 { 0b110 } else { bits })),
            at_core("one pattern for all prefixes", &[PER_PREFIX], || bits_out(|bits| bits | 0b011)),
            at_core("keeps the bit of a dead uplink", &[ORDINAL, PER_PREFIX], || bits_out(|bits| match bits {
                0b011 => 0b111,
                0b01 => 0b11,
                bits => bits,
            })),
            at_core("no status bits", &[ORDINAL, PER_PREFIX], || Box::new(|way, frame| {
                if way == Way::FromVictim {
                    frame.edit_data(|header, _| header.locator_status.take().is_some());
                }
                PacketFate::Forward
            })),
        ],
        ..Case::BASE
    }
}

fn bits_out(change: fn(u32) -> u32) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim {
            frame.edit_data(|header: &mut DataHeader, _| {
                header.locator_status = header.locator_status.map(change);
                true
            });
        }
        PacketFate::Forward
    })
}

fn peers(drive: &Drive<'_>) -> Result<[Peer; 4], Stop> {
    let mut system = drive.peer("mapping")?;
    mapping_system(&mut system, "key-of-site", |asked| {
        match subnet_of(asked.prefix.addr()) {
            Some(_) => mapping(asked, vec![remote(0, 1, 100)]),
            None => Vec::new(),
        }
    })?;
    Ok([
        drive.peer("site")?,
        drive.peer("r1")?,
        drive.peer("r2")?,
        system,
    ])
}

fn status_drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let [site, ..] = &peers(drive)?;
    drive.registered(&[ITR], seconds(10))?;
    for phase in PHASES {
        if phase == PHASES[1] {
            let begin = drive.now_ns();
            drive.lab().set_link_up("rloc3", false)?;
            // The site tells the mapping system; its bits are to say the same by then.
            drive.wait_for(
                begin,
                "a Map-Register without the third locator",
                seconds(10),
                |packet| {
                    packet.map_register().is_some_and(|register| {
                        register.records.iter().all(|record| {
                            record.locators.iter().all(|locator| {
                                locator.rloc.ip() != Some(ip(THIRD)) || !locator.reachable
                            })
                        })
                    })
                },
            )?;
        }
        let begin = drive.mark(phase);
        for (host, ..) in HOSTS {
            site.send(&lisp::ip::udp_packet(
                ip(host),
                ip(TO),
                FIRST_PORT,
                FLOW_PORT,
                64,
                &[0x5a; 32],
            ))?;
            drive.wait_for(begin, "the packet on the core", SOON, |packet| {
                packet.sender() == Some(ITR)
                    && inner_udp(packet).is_some_and(|(inner, _)| inner.source == ip(host))
            })?;
        }
    }
    Ok(())
}

fn status(trace: &Trace, findings: &mut Findings) {
    for (at, phase) in PHASES.into_iter().enumerate() {
        let mut seen = Vec::new();
        for (host, all, less) in HOSTS {
            let expected = [all, less][at];
            let packet = trace.since(phase).find(|packet| {
                packet.sender() == Some(ITR)
                    && inner_udp(packet).is_some_and(|(inner, _)| inner.source == ip(host))
            });
            let Some(packet) = packet else {
                findings.broken(
                    ORDINAL,
                    Vec::new(),
                    format!("{phase}: data of {host}"),
                    "none",
                );
                findings.broken(
                    PER_PREFIX,
                    Vec::new(),
                    format!("{phase}: data of {host}"),
                    "none",
                );
                continue;
            };
            let bits = packet.data().and_then(|(header, _)| header.locator_status);
            findings.check(
                ORDINAL,
                bits == Some(expected),
                packet,
                format!("{phase}, {host}: {expected:032b}"),
                pattern(bits),
            );
            seen.push((packet, bits, expected));
        }
        if let [(one, a, first), (other, b, second)] = seen[..] {
            findings.check(
                PER_PREFIX,
                (a, b) == (Some(first), Some(second)),
                [one, other],
                format!(
                    "{phase}: the bits of each source's own locator-set, {first:032b} and {second:032b}"
                ),
                format!("{} and {}", pattern(a), pattern(b)),
            );
        }
    }
}

fn pattern(bits: Option<u32>) -> String {
    bits.map_or("no status bits".to_owned(), |bits| format!("{bits:032b}"))
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_5::a_reply_leaves_with_the_address_of_its_uplink",
        title: "A Map-Reply leaves on the uplink that leads to the ITR-RLOC, from that uplink's own address, and so passes the provider's reverse-path filter.",
        topology: TOPOLOGY,
        roles: &["etr"],
        requirements: &[SOURCE],
        drive: |drive| {
            let [_, r1, r2, _system] = &peers(drive)?;
            drive.registered(&[ITR], seconds(10))?;
            for ((peer, at), nonce) in [(r1, R[0]), (r2, R[1])].into_iter().zip(NONCES) {
                let question = ControlMessage::MapRequest(request(nonce, None, &[at], "10.1.0.10/32"));
                let begin = drive.now_ns();
                peer.encapsulated((at, 40_001), ip("192.0.2.2"), (at, 50_123), ip("10.1.0.10"), &question)?;
                drive.wait_for(begin, "the Map-Reply", SOON, |packet| {
                    packet.sender() == Some(ITR) && packet.map_reply().is_some_and(|reply| reply.nonce == nonce)
                })?;
            }
            Ok(())
        },
        judges: &[source],
        sabotages: &[
            at_core("answers from the address that was asked", &[SOURCE], || replies_from("192.0.2.2")),
            at_core("answers from the site's side", &[SOURCE], || replies_from("10.1.0.1")),
        ],
        ..Case::BASE
    }
}

fn replies_from(address: &'static str) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim && matches!(frame.control(), Some(ControlMessage::MapReply(_))) {
            frame.edit_addresses(|header| {
                if let (lisp::ip::IpHeader::V4(header), IpAddr::V4(address)) = (header, ip(address))
                {
                    header.source = address;
                }
                true
            });
        }
        PacketFate::Forward
    })
}

fn source(trace: &Trace, findings: &mut Findings) {
    for (nonce, (link, address)) in NONCES
        .into_iter()
        .zip([("rloc1", "192.0.2.2"), ("rloc2", SECOND)])
    {
        let reply: Option<&Seen> = trace
            .sent_by(ITR)
            .find(|packet| packet.map_reply().is_some_and(|reply| reply.nonce == nonce));
        match reply {
            Some(reply) => findings.check(
                SOURCE,
                reply.link() == link && reply.source() == Some(ip(address)),
                reply,
                format!("from {address} on {link}"),
                format!("{} on {}", words::from(reply), reply.link()),
            ),
            None => findings.broken(SOURCE, Vec::new(), format!("a Map-Reply on {link}"), "none"),
        }
    }
}
