//! A flood of Map-Requests denies the service to nobody else (RFC 6830 12).

use harness::inline::{PacketFate, Way};
use lisp::wire::ControlMessage;

use super::common::*;
use crate::case::Case;
use crate::cases::common::{ip, key, locator, record, register, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const RATE: Req = Req::new("rfc6830-12-rate-control");
const NOT_STARVED: Req = Req::new("rfc6833-4.4-mr-neg-15");

/// Where the flood comes from.
const FLOODER: &str = "192.0.2.67";
/// Who asks quietly meanwhile.
const QUIET: &str = "192.0.2.66";
/// Steps of the case: in each, part of the flood and one quiet question.
const STEPS: u64 = 12;
/// Map-Requests of the flood in one step: what fits into any socket's buffer.
const BURST: u64 = 100;

const FLOOD: u64 = 0x6d72_0005_0000_0000;
const QUIETLY: u64 = 0x6d72_0006_0000_0001;
const REGISTER: u64 = 0x6d72_0005_ffff_0001;

inventory::submit! {
    Case {
        id: "rfc6830::s12::a_flood_starves_nobody_else",
        title: "Of 1200 Map-Requests of one source only a part is handed on, and each of another source in between is answered.",
        topology: "one-msmr",
        // Far below what one core can do, so that a small flood is one.
        settings: &[(MSMR, "limits: {map-requests-per-source: 20}")],
        timeout: seconds(60),
        roles: &["ms", "mr"],
        requirements: &[RATE, NOT_STARVED],
        drive,
        judges: &[flood_is_limited, others_are_served],
        sabotages: &[
            Sabotage {
                name: "takes every request of the flood for one of a new source",
                node: MSMR,
                links: &[],
                kills: &[RATE],
                tamper: || {
                    let mut count = 0u16;
                    Box::new(move |way, frame| {
                        let flood = frame.ip().is_some_and(|packet| packet.source == ip(FLOODER));
                        if way == Way::ToVictim && flood {
                            count = count.wrapping_add(1);
                            let [high, low] = count.to_be_bytes();
                            frame.edit_addresses(|header| match header {
                                lisp::ip::IpHeader::V4(header) => {
                                    header.source = std::net::Ipv4Addr::new(100, 64, high, low);
                                    true
                                }
                                lisp::ip::IpHeader::V6(_) => false,
                            });
                        }
                        PacketFate::Forward
                    })
                },
            },
            Sabotage {
                name: "one limit for all sources",
                node: MSMR,
                links: &[],
                kills: &[NOT_STARVED],
                // Everybody's requests seem to come from the flooding source.
                tamper: || Box::new(|way, frame| {
                    let request = matches!(frame.control(), Some(ControlMessage::Encapsulated(_)));
                    if way == Way::ToVictim && request {
                        frame.edit_addresses(|header| match header {
                            lisp::ip::IpHeader::V4(header) => {
                                header.source = std::net::Ipv4Addr::new(192, 0, 2, 67);
                                true
                            }
                            lisp::ip::IpHeader::V6(_) => false,
                        });
                    }
                    PacketFate::Forward
                }),
            },
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let (itr, etr) = (drive.peer("itr")?, drive.peer("etr-a")?);
    let ms = drive.address(MSMR)?;
    let secret = "key-of-site-a";
    let records = vec![record("10.1.0.0/24", vec![locator("192.0.2.2", 1, 100)])];
    register_and_wait(
        drive,
        &etr,
        secret,
        &register(&key(secret), REGISTER, records),
    )?;
    drive.mark("the flood");
    for step in 0..STEPS {
        for number in 0..BURST {
            let nonce = FLOOD + step * BURST + number;
            let payload = encapsulated(&inner_packet(&question(nonce, "10.1.0.10/32")));
            itr.udp((ip(FLOODER), 41_000), (ms, lisp::CONTROL_PORT), &payload)?;
        }
        let nonce = QUIETLY + step;
        let asked = drive.now_ns();
        ask(&itr, ms, &question(nonce, "172.16.5.5/32"))?;
        // The answer is a fence too: what of the flood was to be handed on has been.
        dealt_with(drive, asked, nonce)?;
    }
    Ok(())
}

fn flood_is_limited(trace: &Trace, findings: &mut Findings) {
    let of_flood = |packet: &&Seen| {
        packet
            .map_request()
            .is_some_and(|request| request.nonce >> 24 == FLOOD >> 24)
    };
    let came: Vec<&Seen> = trace.received_by(MSMR).filter(of_flood).collect();
    let (Some(first), Some(last)) = (came.first(), came.last()) else {
        return findings.unseen(RATE, "the flood");
    };
    let handed = trace.originated(MSMR).filter(of_flood).count();
    findings.check(
        RATE,
        handed * 2 < came.len(),
        [*first, *last],
        format!(
            "fewer than half of the {} Map-Requests handed on",
            came.len()
        ),
        format!("{handed} handed on"),
    );
}

fn others_are_served(trace: &Trace, findings: &mut Findings) {
    for step in 0..STEPS {
        let nonce = QUIETLY + step;
        let Some(asked) = asked(trace, nonce).filter(|asked| asked.source() == Some(ip(QUIET)))
        else {
            // Where an earlier one went unanswered, the drive ended.
            if step == 0 {
                findings.unseen(NOT_STARVED, "a quiet question");
            }
            break;
        };
        let (found, shown) = outcome(trace, nonce);
        let right = matches!(found, Outcome::Negative(_, 15, 1));
        let packets = shown.map_or(vec![asked], |shown| vec![asked, shown]);
        findings.check(
            NOT_STARVED,
            right,
            &packets,
            format!(
                "question {} beside the flood: negative, 15 minutes, ACT 1",
                step + 1
            ),
            found.to_string(),
        );
    }
}
