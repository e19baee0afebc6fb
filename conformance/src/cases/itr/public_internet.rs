//! The profile for the public Internet: what LISP headers say is neither said nor heeded (RFC 9300 4.1).

use std::net::{IpAddr, Ipv4Addr};

use lisp::wire::DataHeader;

use crate::case::Case;
use crate::cases::one_xtr::*;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::trace::{Seen, Trace};
use crate::words;

const BITS: Req = Req::new("rfc9300-4.1-public-bits-zero");
const NOT_HEEDED: Req = Req::new("rfc9300-4.1-public-no-lsb-en");

const CLAIMS: &str = "headers that claim something arrive";
/// An EID that nobody knows, of a locator that may not be gleaned.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 3, 0, 10));
/// What the remote site asks to be echoed.
const THEIRS: u32 = 0x0013_579b;
/// N, L, E and V in the first octet of the LISP header.
const CLAIMING: u8 = 0xf0;
/// Numbers of the site's packets, before and after the claims.
const BEFORE: std::ops::Range<u16> = 100..103;
const AFTER: std::ops::Range<u16> = 110..114;

/// Headers of the remote site: its first locator is down, echo this, our mapping is old.
fn claims() -> [DataHeader; 3] {
    let none = DataHeader::default();
    [
        DataHeader {
            locator_status: Some(0b10),
            ..none
        },
        DataHeader {
            nonce: Some(THEIRS),
            echo_request: true,
            ..none
        },
        DataHeader {
            map_version: Some((9, 4)),
            ..none
        },
    ]
}

inventory::submit! {
    Case {
        id: "rfc9300::s4_1::public_internet_profile_says_and_heeds_nothing",
        title: "In the public-Internet profile N, L, E and V are zero in every data packet, and status bits, nonces, map-versions and unknown sources that arrive have no effect.",
        topology: TOPOLOGY,
        settings: &[(XTR, "public-internet: true")],
        editions: &[Edition::Rfc9300],
        roles: &["itr", "etr"],
        features: &["public-internet"],
        requirements: &[BITS, NOT_HEEDED],
        drive,
        judges: &[nothing_said, nothing_heeded],
        sabotages: &[
            spoils("sets L", &[BITS], || on_headers(|header| {
                header.locator_status = Some(1);
                true
            })),
            spoils("sets V", &[BITS], || on_headers(|header| {
                header.map_version = Some((0, 1));
                true
            })),
            spoils("echoes", &[BITS, NOT_HEEDED], || {
                let mut count = 0;
                on_headers(move |header| {
                    count += 1;
                    let hit = count == 1 + BEFORE.end - BEFORE.start;
                    if hit {
                        header.nonce = Some(THEIRS);
                    }
                    hit
                })
            }),
            spoils("leaves a locator for its status bit", &[NOT_HEEDED], || misdirect(OTHER, |sequence| AFTER.contains(&sequence))),
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let records = vec![mapping(REMOTE_SITE, &[REMOTE, OTHER])];
    let net = Net::answering(
        drive,
        Answers {
            records,
            echo_nonce: true,
        },
    )?;
    for sequence in BEFORE {
        net.say(drive, REMOTE_HOST, sequence)?;
    }
    drive.mark(CLAIMS);
    for (sequence, header) in (1..).zip(claims()) {
        net.tunnel((&net.remote, REMOTE), &header, REMOTE_HOST, sequence)?;
    }
    let plain = DataHeader::default();
    net.tunnel((&net.other, OTHER), &plain, UNKNOWN, 10)?;
    // The fence: what came before it has been looked at.
    net.hear_last(drive, (&net.remote, REMOTE), 20)?;
    for sequence in AFTER {
        net.say(drive, REMOTE_HOST, sequence)?;
    }
    Ok(())
}

fn nothing_said(trace: &Trace, findings: &mut Findings) {
    let sent: Vec<&Seen> = trace
        .originated(XTR)
        .filter(|packet| packet.is_data())
        .collect();
    if sent.is_empty() {
        return findings.unseen(BITS, "a data packet");
    }
    for packet in sent {
        // Read without the codec.
        let first = packet.udp().and_then(|udp| udp.payload.first().copied());
        let first = first.unwrap_or_default();
        findings.check(
            BITS,
            first & CLAIMING == 0,
            packet,
            "N, L, E and V all zero",
            format!("first octet {first:#04x}"),
        );
    }
}

fn nothing_heeded(trace: &Trace, findings: &mut Findings) {
    let heard = trace
        .since(CLAIMS)
        .find(|packet| packet.receiver() == Some(XTR) && packet.data().is_some());
    let after: Vec<&Seen> = data_since(trace, CLAIMS)
        .map(|(_, packet)| packet)
        .collect();
    let (Some(heard), Some(last)) = (heard, after.last()) else {
        return findings.unseen(NOT_HEEDED, "claims of the remote site, and data back");
    };
    for packet in &after {
        let nonce = packet.data().and_then(|(header, _)| header.nonce);
        findings.check(
            NOT_HEEDED,
            packet.destination() == Some(REMOTE) && nonce.is_none(),
            [heard, *packet],
            format!("data to {REMOTE} as before, no nonce"),
            format!("{}, nonce {}", destination(packet), words::nonce(nonce)),
        );
    }
    let asked = trace
        .since(CLAIMS)
        .find(|packet| packet.sender() == Some(XTR) && packet.map_request().is_some());
    match asked {
        Some(asked) => findings.broken(
            NOT_HEEDED,
            [heard, asked],
            "no Map-Request that a data packet causes",
            asked.summary(),
        ),
        None => findings.met(NOT_HEEDED, [heard, *last], "no Map-Request"),
    }
}
