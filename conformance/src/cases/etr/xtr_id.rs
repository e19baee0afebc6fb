//! xTR-ID and Site-ID of Map-Registers (RFC 9301 5.6).

use super::common::*;
use super::registration::{resigned, signed_again};
use crate::case::Case;
use crate::catalogue::Req;
use crate::edition::Edition;
use crate::finding::Findings;
use crate::trace::{Seen, Trace};
use crate::words;

const IDS: Req = Req::new("rfc9301-5.6-xtrid");

/// Octets behind the last record: xTR-ID, then Site-ID.
const TRAILER: [u8; 24] = [
    0x5a, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f,
    0, 0, 0, 0, 0, 0x01, 0xe2, 0x40,
];
/// The I bit in the first octet of a Map-Register.
const I: u8 = 0x02;

inventory::submit! {
    Case {
        id: "rfc9301::s5_6::xtr_id_and_site_id_end_map_registers",
        title: "Where an xTR-ID and a Site-ID are configured, every Map-Register has I = 1 and both behind its last record.",
        topology: TOPOLOGY,
        settings: &[(ETR, "{xtr-id: 5a0102030405060708090a0b0c0d0e0f, site-id: 123456}")],
        editions: &[Edition::Rfc9300],
        start: false,
        roles: &["etr"],
        features: &["xtr-id"],
        requirements: &[IDS],
        drive: |drive| {
            let _net = Net::registered(drive)?;
            Ok(())
        },
        judges: &[ids],
        sabotages: &[
            resigned("leaves the IDs out", &[IDS], || signed_again(|register| register.xtr_site_id = None)),
            resigned("takes another Site-ID", &[IDS], || signed_again(|register| {
                if let Some(ids) = &mut register.xtr_site_id {
                    ids.site_id ^= 1;
                }
            })),
            resigned("writes the xTR-ID backwards", &[IDS], || signed_again(|register| {
                if let Some(ids) = &mut register.xtr_site_id {
                    ids.xtr_id.reverse();
                }
            })),
        ],
        ..Case::BASE
    }
}

fn ids(trace: &Trace, findings: &mut Findings) {
    let sent: Vec<&Seen> = registers(trace);
    if sent.is_empty() {
        return findings.unseen(IDS, "a Map-Register");
    }
    for packet in sent {
        // Read without the codec.
        let octets = packet.udp().map(|udp| udp.payload.as_slice());
        let octets = octets.unwrap_or_default();
        let flag = octets.first().is_some_and(|first| first & I != 0);
        let end = &octets[octets.len().saturating_sub(TRAILER.len())..];
        findings.check(
            IDS,
            flag && end == TRAILER,
            packet,
            format!("I = 1, and at its end {}", words::hex(&TRAILER)),
            format!("I = {}, and at its end {}", u8::from(flag), words::hex(end)),
        );
    }
}
