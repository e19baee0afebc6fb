//! Data packets that are odd: unusual LISP headers, which are decapsulated, and inner packets that are none (RFC 6830 5.3).

use lisp::wire::DataHeader;

use super::common::*;
use super::headers::{on_host, spoils};
use super::packets::{Outer, came_out, delivered, echo, fence, inner_of, tunnelled};
use crate::case::Case;
use crate::catalogue::Req;
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Tamper;
use crate::trace::{Seen, Trace};

const RESERVED: Req = Req::new("rfc6830-5.3-flags-rx-ignore");
const BOTH: Req = Req::new("rfc6830-5.3-nv-both-rx");
const STATUS: Req = Req::new("rfc6830-5.3-l-bit");
const ECHO_ASKED: Req = Req::new("rfc6830-6.3.1-en-forward");
const STRIPS: Req = Req::new("rfc6830-3-etr-decap");

/// Octets of the LISP header that are legal, or to be passed over: the packet behind each is delivered.
fn odd_headers(edition: Edition) -> Vec<(Req, u16, &'static str, [u8; 8])> {
    let reserved = match edition {
        // RFC 9300 gave the other two bits a meaning (ambiguities C6).
        Edition::Rfc9300 => 0x04,
        Edition::Rfc6830 => 0x07,
    };
    vec![
        (
            RESERVED,
            601,
            "reserved flag bits",
            [reserved, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            STRIPS,
            602,
            "N and a nonce",
            [0x80, 0xab, 0xcd, 0xef, 0, 0, 0, 0],
        ),
        (
            STATUS,
            603,
            "L and status bits of unknown locators",
            [0x40, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe],
        ),
        (
            ECHO_ASKED,
            604,
            "N and E",
            [0xa0, 0x12, 0x34, 0x56, 0, 0, 0, 0],
        ),
        (
            STRIPS,
            605,
            "E without N",
            [0x20, 0x12, 0x34, 0x56, 0, 0, 0, 0],
        ),
        (BOTH, 606, "N and V", [0x90, 0x12, 0x34, 0x56, 0, 0, 0, 0]),
        (
            STRIPS,
            607,
            "a nonce field and status bits without N and L",
            [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ),
    ]
}

inventory::submit! {
    Case {
        id: "rfc6830::s5_3::odd_lisp_headers_are_decapsulated",
        title: "Reserved flags, nonces, unknown status bits and N with V do not keep a packet from its host.",
        topology: TOPOLOGY,
        start: false,
        roles: &["etr"],
        requirements: &[RESERVED, BOTH, STATUS, ECHO_ASKED, STRIPS],
        drive: |drive| {
            let net = Net::registered(drive)?;
            for edition in Edition::ALL {
                for (_, sequence, _, header) in odd_headers(*edition) {
                    let mut packet = tunnelled(Outer::to(RLOC), &DataHeader::default(), &echo(HOST, sequence_in(*edition, sequence)));
                    // Behind 20 octets of IPv4 and 8 of UDP.
                    packet[28..36].copy_from_slice(&header);
                    net.itr.send(&packet)?;
                }
            }
            fence(drive, &net, (RLOC, HOST), &DataHeader::default(), 640)
        },
        judges: &[odd_ones_come_out],
        sabotages: &[
            spoils("drops reserved flags", &[RESERVED], || drop_out(601)),
            spoils("drops status bits", &[STATUS], || drop_out(603)),
            spoils("drops what asks for an echo", &[ECHO_ASKED], || drop_out(604)),
            spoils("drops N with V", &[BOTH], || drop_out(606)),
            spoils("drops nonces", &[STRIPS], || drop_out(602)),
        ],
        ..Case::BASE
    }
}

/// The packets of both editions are sent, so that the drive is the same; those of the edition at hand are judged.
fn sequence_in(edition: Edition, sequence: u16) -> u16 {
    match edition {
        Edition::Rfc6830 => sequence,
        Edition::Rfc9300 => sequence + 20,
    }
}

/// Swallows a decapsulated packet, as either edition numbers it.
fn drop_out(number: u16) -> Tamper {
    swallow(move |frame| {
        let sequence = frame.ip().and_then(|ip| Some(ip.icmp()?.echo().1));
        sequence == Some(number) || sequence == Some(number + 20)
    })
}

fn odd_ones_come_out(trace: &Trace, findings: &mut Findings) {
    for (requirement, sequence, what, _) in odd_headers(trace.edition) {
        let sequence = sequence_in(trace.edition, sequence);
        match (inner_of(trace, sequence), delivered(trace, sequence)) {
            (None, _) => findings.unseen(requirement, what),
            (Some(sent), None) => findings.broken(
                requirement,
                sent,
                format!("{what}: delivered"),
                "it did not come out",
            ),
            (Some(sent), Some(out)) => {
                findings.met(requirement, [sent, out], format!("{what}: delivered"))
            }
        }
    }
}

const TRUNCATED: [(&str, &[u8]); 6] = [
    ("nothing behind the UDP header", &[]),
    ("four octets of a LISP header", &[0, 0, 0, 0]),
    ("a LISP header alone", &[0, 0, 0, 0, 0, 0, 0, 0]),
    (
        "half an inner IPv4 header",
        &[0, 0, 0, 0, 0, 0, 0, 0, 0x45, 0, 0, 60, 0, 1],
    ),
    (
        "an inner packet of IP version 5",
        &[
            0, 0, 0, 0, 0, 0, 0, 0, 0x55, 0, 0, 60, 0, 1, 0, 0, 64, 1, 0, 0, 10, 2, 0, 10, 10, 1,
            0, 10,
        ],
    ),
    (
        "an inner header length of 8 octets",
        &[
            0, 0, 0, 0, 0, 0, 0, 0, 0x42, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0, 10, 2, 0, 10, 10, 1,
            0, 10,
        ],
    ),
];
const CUT_SHORT: u16 = 651;
const AFTER_CUTS: u16 = 652;

inventory::submit! {
    Case {
        id: "rfc6830::s3::truncated_inner_packets_are_dropped",
        title: "Cut-off and impossible inner packets come out in no form, bring no ICMP error, and do not keep the next packet from its host.",
        topology: TOPOLOGY,
        start: false,
        roles: &["etr"],
        requirements: &[STRIPS],
        drive: |drive| {
            let net = Net::registered(drive)?;
            for (_, payload) in TRUNCATED {
                net.itr.udp((ITR, 61_001), (RLOC, lisp::DATA_PORT), payload)?;
                net.itr.udp((ITR6, 61_001), (RLOC6, lisp::DATA_PORT), payload)?;
            }
            for (outer, host) in [(RLOC, HOST), (RLOC6, HOST6)] {
                let whole = echo(host, CUT_SHORT);
                net.itr.send(&tunnelled(Outer::to(outer), &DataHeader::default(), &whole[..whole.len() - 9]))?;
                fence(drive, &net, (outer, host), &DataHeader::default(), AFTER_CUTS)?;
            }
            Ok(())
        },
        judges: &[cuts_vanish],
        sabotages: &[
            spoils("hands on a packet that is cut short", &[STRIPS], || on_host(AFTER_CUTS, |ip| {
                // Sequence number behind 20 octets of IPv4 and 6 of ICMP.
                ip[26..28].copy_from_slice(&CUT_SHORT.to_be_bytes());
            })),
            spoils("stops decapsulating", &[STRIPS], || swallow(|frame| frame.ip().is_some_and(|ip| ip.icmp().is_some_and(|icmp| icmp.is_echo_reply())))),
        ],
        ..Case::BASE
    }
}

fn cuts_vanish(trace: &Trace, findings: &mut Findings) {
    let stimuli: Vec<&Seen> = trace
        .received_by(ETR)
        .filter(|packet| packet.is_data())
        .collect();
    if stimuli.len() < 2 * TRUNCATED.len() {
        findings.unseen(STRIPS, "the truncated data packets");
    }
    if let Some(out) = came_out(trace, CUT_SHORT) {
        findings.broken(
            STRIPS,
            out,
            "nothing of an inner packet that says more octets than there are",
            out.summary(),
        );
    }
    let error = trace.originated(ETR).find(|packet| {
        packet.link() == "rloc"
            && packet.ip().and_then(|ip| ip.icmp()).is_some_and(|icmp| {
                if icmp.v6 {
                    icmp.kind < 128
                } else {
                    icmp.kind == 3 || icmp.kind == 12
                }
            })
    });
    if let Some(error) = error {
        findings.broken(STRIPS, error, "no ICMP error", error.summary());
    }
    for host in [HOST, HOST6] {
        let whole = trace.sent_by(ETR).find(|packet| {
            packet.destination() == Some(host)
                && packet
                    .ip()
                    .and_then(|ip| ip.icmp())
                    .is_some_and(|icmp| icmp.echo().1 == AFTER_CUTS)
        });
        match whole {
            Some(whole) => findings.met(
                STRIPS,
                whole,
                "the whole packet after the truncated ones was delivered",
            ),
            None => findings.broken(
                STRIPS,
                Vec::new(),
                format!("the whole packet at {host} after the truncated ones"),
                "it did not come out",
            ),
        }
    }
}
