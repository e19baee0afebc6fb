//! Messages that are cut off at every length (RFC 6830 6.1).

use harness::inline::{PacketFate, Way};
use lisp::wire::{ControlMessage, Ecm};

use super::common::*;
use crate::case::Case;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};
use crate::words;

const LENGTH: Req = Req::new("rfc6830-6.1-control-len");

const CUT: u64 = 0x0e7a_0000_0012_0001;
const CUT_INSIDE: u64 = 0x0e7a_0000_0012_0002;
const AFTER: u64 = 0x0e7a_0000_0012_00ff;

inventory::submit! {
    Case {
        id: "rfc6830::s6_1::a_map_request_cut_off_anywhere_is_not_answered",
        title: "A Map-Request cut off after any of its octets, plain or inside an Encapsulated Control Message, is not answered; the whole one after it is.",
        topology: TOPOLOGY,
        start: false,
        roles: &["etr"],
        requirements: &[LENGTH],
        drive: cut_everywhere,
        judges: &[only_the_whole_one],
        sabotages: &[
            spoils("answers what is cut off", || complete(CUT)),
            spoils("answers what is cut off inside", || complete(CUT_INSIDE)),
            spoils("says nothing after all that", || swallow_reply(AFTER)),
        ],
        ..Case::BASE
    }
}

const fn spoils(name: &'static str, tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: ETR,
        links: &["rloc"],
        kills: &[LENGTH],
        tamper,
    }
}

/// Puts the whole message in the place of the one that lacks its last octet.
fn complete(nonce: u64) -> Tamper {
    Box::new(move |way, frame| {
        let whole = match nonce {
            CUT => plain(),
            _ => encapsulated(usize::MAX),
        };
        if way == Way::ToVictim {
            frame.edit_udp(|_, payload| {
                let hit = payload.len() + 1 == whole.len()
                    && payload
                        .windows(8)
                        .any(|window| window == nonce.to_be_bytes());
                if hit {
                    payload.clone_from(&whole);
                }
                hit
            });
        }
        PacketFate::Forward
    })
}

fn plain() -> Vec<u8> {
    ControlMessage::MapRequest(request(CUT, itr_rloc(1), "10.1.0.10/32")).to_vec()
}

/// An Encapsulated Control Message whose Map-Request ends after so many octets; lengths and checksums fit what is left.
fn encapsulated(length: usize) -> Vec<u8> {
    let message = ControlMessage::MapRequest(request(CUT_INSIDE, itr_rloc(2), "10.1.0.10/32"));
    let mut ecm = Ecm::wrap(ITR, HOST, PORT, lisp::CONTROL_PORT, 64, &message);
    let octets = message.to_vec();
    let left = &octets[..length.min(octets.len())];
    ecm.inner = lisp::ip::udp_packet(ITR, HOST, PORT, lisp::CONTROL_PORT, 64, left);
    ControlMessage::Encapsulated(ecm).to_vec()
}

fn cut_everywhere(drive: &mut Drive) -> Result<(), Stop> {
    let net = Net::registered(drive)?;
    let whole = plain();
    for length in 0..whole.len() {
        net.itr
            .udp((ITR, PORT), (RLOC, lisp::CONTROL_PORT), &whole[..length])?;
        let inside = encapsulated(length);
        net.mapping
            .udp((MS, OUTER_PORT), (RLOC, lisp::CONTROL_PORT), &inside)?;
    }
    net.question(drive, &request(AFTER, itr_rloc(3), "10.1.0.10/32"))
}

fn only_the_whole_one(trace: &Trace, findings: &mut Findings) {
    let cuts = trace
        .received_by(ETR)
        .filter(|packet| {
            matches!(packet.source(), Some(ITR | MS))
                && packet.map_request().is_none()
                && packet
                    .udp()
                    .is_some_and(|udp| udp.destination_port == lisp::CONTROL_PORT)
        })
        .count();
    if cuts < 2 * plain().len() {
        findings.unseen(LENGTH, "all the cut-off messages at the ETR");
    }
    let fence = reply(trace, AFTER);
    for nonce in [CUT, CUT_INSIDE] {
        match (reply(trace, nonce), fence) {
            (Some(answer), _) => findings.broken(
                LENGTH,
                answer,
                "no answer to a Map-Request that is not whole",
                answer.summary(),
            ),
            (None, Some(fence)) => findings.met(
                LENGTH,
                fence,
                format!(
                    "{cuts} cut-off messages: silence, and an answer to the whole one after them"
                ),
            ),
            (None, None) => findings.broken(
                LENGTH,
                Vec::new(),
                "an answer to the whole Map-Request after the others",
                "none",
            ),
        }
    }
}

const SIZE: Req = Req::new("rfc9301-5-msg-size");

inventory::submit! {
    Case {
        id: "rfc9301::s5::registrations_fit_unknown_paths",
        title: "An ETR that does not know the path MTU registers many EID-Prefixes in packets of at most 576 octets (IPv4), all of them.",
        topology: TOPOLOGY,
        settings: &[(ETR, "eid-prefixes: [
            {prefix: 10.1.0.0/24, locators: &all [
                {address: '2001:db8:0:2::2', priority: 2, weight: 50}, {address: 192.0.2.100, priority: 1, weight: 60},
                {address: 192.0.2.9, priority: 3, weight: 10}, {address: 192.0.2.10, priority: 1, weight: 40}]},
            {prefix: 10.1.1.0/24, locators: *all}, {prefix: 10.1.2.0/24, locators: *all}, {prefix: 10.1.3.0/24, locators: *all},
            {prefix: 10.1.4.0/24, locators: *all}, {prefix: 10.1.5.0/24, locators: *all}, {prefix: 10.1.6.0/24, locators: *all},
            {prefix: 10.1.7.0/24, locators: *all}, {prefix: 10.1.8.0/24, locators: *all}, {prefix: 10.1.9.0/24, locators: *all},
            {prefix: 10.1.10.0/24, locators: *all}, {prefix: 10.1.11.0/24, locators: *all}]")],
        editions: &[Edition::Rfc9300],
        start: false,
        roles: &["etr"],
        requirements: &[SIZE],
        drive: |drive| {
            let net = Net::registered(drive)?;
            net.question(drive, &request(AFTER, itr_rloc(3), "10.1.11.10/32"))
        },
        judges: &[small_and_complete],
        sabotages: &[
            Sabotage {
                name: "leaves out what does not fit",
                node: ETR,
                links: &["rloc"],
                kills: &[SIZE],
                tamper: || spoil_registers(|register| {
                    register.records.retain(|record| record.eid_prefix() != Some(crate::cases::common::prefix("10.1.11.0/24")));
                    true
                }),
            },
            Sabotage {
                name: "registers everything twice in one message",
                node: ETR,
                links: &["rloc"],
                kills: &[SIZE],
                tamper: || spoil_registers(|register| {
                    let again = register.records.clone();
                    register.records.extend(again);
                    true
                }),
            },
        ],
        ..Case::BASE
    }
}

fn small_and_complete(trace: &Trace, findings: &mut Findings) {
    let all = registers(trace);
    let mut said: Vec<lisp::EidPrefix> = Vec::new();
    for packet in &all {
        if let Some(register) = packet.map_register() {
            said.extend(
                register
                    .records
                    .iter()
                    .filter_map(|record| record.eid_prefix()),
            );
        }
        let length = packet.ip().map_or(0, |ip| ip.bytes.len());
        findings.check(
            SIZE,
            length <= 576,
            *packet,
            "at most 576 octets of IPv4 packet",
            format!("{length} octets"),
        );
    }
    let missing: Vec<_> = trace
        .eid_prefixes_of(ETR)
        .into_iter()
        .filter(|prefix| !said.contains(prefix))
        .collect();
    let evidence: Vec<&Seen> = all.iter().take(8).copied().collect();
    findings.check(
        SIZE,
        missing.is_empty(),
        &evidence,
        "all EID-Prefixes registered",
        format!("missing: {}", words::listed(&missing)),
    );
}
