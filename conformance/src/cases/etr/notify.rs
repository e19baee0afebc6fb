//! Map-Notifies that an ETR believes, and those that it does not (RFC 6830 6.1.7, RFC 9301 5.7).

use harness::inline::{PacketFate, Way};
use lisp::auth::{AuthKey, MacAlgorithm};
use lisp::wire::{ControlMessage, MapNotify};

use super::common::*;
use crate::case::Case;
use crate::cases::common::{ip, locator, record, udp};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};
use crate::words;

const MAC: Req = Req::new("rfc6830-6.1.7-mac");

/// A Map-Server that confirms, one that confirms with a wrong key, and one that says nothing.
const HONEST: &str = "198.51.100.10";
const WRONG: &str = "198.51.100.11";
const SILENT: &str = "198.51.100.12";

fn wrong_key() -> AuthKey {
    AuthKey::new(0, MacAlgorithm::HmacSha256_128, b"not-the-key-of-site")
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_7::map_notify_with_a_wrong_key_is_ignored",
        title: "A Map-Notify with a wrong MAC confirms nothing: its Map-Server is treated like one that is silent.",
        topology: TOPOLOGY,
        settings: &[(ETR, "map-servers: [
            {address: 198.51.100.10, key: key-of-site}, {address: 198.51.100.11, key: key-of-site}, {address: 198.51.100.12, key: key-of-site}]")],
        start: false,
        roles: &["etr"],
        requirements: &[MAC],
        drive: confirm_wrongly,
        judges: &[treated_like_silence],
        sabotages: &[Sabotage {
            name: "believes a wrong MAC",
            node: ETR,
            links: &["rloc"],
            kills: &[MAC],
            tamper: || Box::new(|way, frame| {
                if way == Way::ToVictim && frame.ip().is_some_and(|packet| packet.source == ip(WRONG)) {
                    frame.edit_signed(&key(MacAlgorithm::HmacSha256_128), |message| matches!(message, ControlMessage::MapNotify(_)));
                }
                PacketFate::Forward
            }),
        }],
        ..Case::BASE
    }
}

fn confirm_wrongly(drive: &mut Drive) -> Result<(), Stop> {
    let mut net = Net::peers(drive)?;
    net.mapping.respond(|packet, lisp| {
        let key = match packet.destination {
            to if to == ip(HONEST) => key(MacAlgorithm::HmacSha256_128),
            to if to == ip(WRONG) => wrong_key(),
            _ => return Vec::new(),
        };
        register_of(lisp)
            .map(|register| vec![notify_packet(packet, register, &key)])
            .unwrap_or_default()
    })?;
    drive.start(ETR)?;
    let again = |server: &'static str| {
        let count = std::cell::Cell::new(0);
        let what = format!("a second Map-Register at {server}");
        let second = drive.wait_for(0, &what, SOON, |packet| {
            let hit = packet.sender() == Some(ETR)
                && packet.destination() == Some(ip(server))
                && packet.map_register().is_some();
            count.set(count.get() + u32::from(hit));
            hit && count.get() == 2
        });
        second.is_ok()
    };
    // An ETR of RFC 6833 need not send again; what it does for a silent Map-Server is what it should do for a wrong one.
    if again(SILENT) {
        again(WRONG);
    }
    Ok(())
}

fn treated_like_silence(trace: &Trace, findings: &mut Findings) {
    let sent_to = |server: &str| -> Vec<&Seen> {
        let end = trace.mark("end of the drive").unwrap_or(u64::MAX);
        trace
            .iter()
            .filter(|packet| packet.time_ns() < end)
            .filter(|packet| {
                packet.sender() == Some(ETR)
                    && packet.destination() == Some(ip(server))
                    && packet.map_register().is_some()
            })
            .collect()
    };
    let (honest, wrong, silent) = (sent_to(HONEST), sent_to(WRONG), sent_to(SILENT));
    let told = trace
        .received_by(ETR)
        .find(|packet| packet.source() == Some(ip(WRONG)) && packet.map_notify().is_some());
    let Some(told) = told else {
        findings.unseen(MAC, "a Map-Notify with a wrong MAC");
        return;
    };
    if silent.len() < 2 {
        findings.recorded(MAC, told, "a registration that is not confirmed is not repeated early, so that belief cannot be seen");
        return;
    }
    if honest.len() > 1 {
        findings.broken(
            MAC,
            &honest,
            "a right Map-Notify to be believed",
            "the confirmed Map-Register was sent again like an unconfirmed one",
        );
    }
    let evidence: Vec<&Seen> = std::iter::once(told).chain(wrong.iter().copied()).collect();
    findings.check(
        MAC,
        wrong.len() > 1,
        &evidence,
        "the Map-Register to be sent again, as to the silent Map-Server",
        format!(
            "{} Map-Registers there, {} to the silent Map-Server, {} to the honest one",
            wrong.len(),
            silent.len(),
            honest.len()
        ),
    );
}

const ACKNOWLEDGED: Req = Req::new("rfc9301-5.7-notify-ack");
const SOLICITED: Req = Req::new("rfc9301-5.7-notify-ack-solicited");
const DROPPED: Req = Req::new("rfc9301-5.7-auth-fail-drop");

const BAD: u64 = 0x7e7a_0000_0010_0001;
const GOOD: u64 = 0x7e7a_0000_0010_0002;

inventory::submit! {
    Case {
        id: "rfc9301::s5_7::unsolicited_map_notify_is_acknowledged",
        title: "An unsolicited Map-Notify is answered with a Map-Notify-Ack of the same nonce and a MAC of its own; one with a wrong MAC is not.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc9300],
        start: false,
        roles: &["etr"],
        requirements: &[ACKNOWLEDGED, SOLICITED, DROPPED],
        drive: |drive| {
            let net = Net::registered(drive)?;
            for (nonce, key) in [(BAD, wrong_key()), (GOOD, key(MacAlgorithm::HmacSha256_128))] {
                let notify = MapNotify {
                    nonce,
                    records: vec![record("10.1.0.0/24", vec![locator("192.0.2.10", 1, 100)])],
                    ..MapNotify::default()
                };
                let octets = notify.to_signed_vec(&key);
                net.mapping.send(&udp((MS, lisp::CONTROL_PORT), (RLOC, lisp::CONTROL_PORT), &octets))?;
            }
            drive.wait_for(0, "the Map-Notify-Ack", SOON, |packet| acknowledges(packet, GOOD))?;
            Ok(())
        },
        judges: &[acknowledgements],
        sabotages: &[
            Sabotage {
                name: "spoils the MAC of the Map-Notify-Ack",
                node: ETR,
                links: &["rloc"],
                kills: &[ACKNOWLEDGED],
                tamper: || Box::new(|way, frame| {
                    if way == Way::FromVictim {
                        frame.edit_control(|message| match message {
                            ControlMessage::MapNotifyAck(ack) => {
                                ack.0.auth.data[0] ^= 1;
                                true
                            }
                            _ => false,
                        });
                    }
                    PacketFate::Forward
                }),
            },
            Sabotage {
                name: "acknowledges whatever its MAC",
                node: ETR,
                links: &["rloc"],
                kills: &[DROPPED],
                tamper: || Box::new(|way, frame| {
                    if way == Way::ToVictim {
                        frame.edit_signed(&key(MacAlgorithm::HmacSha256_128), |message| matches!(message, ControlMessage::MapNotify(_)));
                    }
                    PacketFate::Forward
                }),
            },
        ],
        ..Case::BASE
    }
}

fn acknowledges(packet: &Seen, nonce: u64) -> bool {
    matches!(packet.control(), Some(ControlMessage::MapNotifyAck(ack)) if ack.0.nonce == nonce)
        && packet.sender() == Some(ETR)
}

fn acknowledgements(trace: &Trace, findings: &mut Findings) {
    let told = |nonce: u64| {
        trace.received_by(ETR).find(|packet| {
            packet
                .map_notify()
                .is_some_and(|notify| notify.nonce == nonce)
        })
    };
    let (Some(bad), Some(good)) = (told(BAD), told(GOOD)) else {
        findings.unseen(ACKNOWLEDGED, "both Map-Notifies at the ETR");
        return;
    };
    let ack = trace.iter().find(|packet| acknowledges(packet, GOOD));
    match ack {
        Some(ack) => {
            let octets = ack
                .udp()
                .map(|udp| udp.payload.as_slice())
                .unwrap_or_default();
            let right = lisp::auth::verify(octets, &key(MacAlgorithm::HmacSha256_128), &[]).is_ok();
            let to = (ack.destination(), ack.udp().map(|udp| udp.destination_port));
            findings.check(
                ACKNOWLEDGED,
                right && to == (Some(MS), Some(4342)),
                [good, ack],
                format!("a Map-Notify-Ack to {MS} port 4342 with a right MAC"),
                format!(
                    "{}, ports {}, the MAC {}",
                    words::to(ack),
                    words::ports(ack.udp().map(|udp| (udp.source_port, udp.destination_port))),
                    if right { "right" } else { "wrong" }
                ),
            );
        }
        None => findings.broken(ACKNOWLEDGED, good, "a Map-Notify-Ack", "none"),
    }
    match trace.iter().find(|packet| acknowledges(packet, BAD)) {
        Some(ack) => findings.broken(
            DROPPED,
            [bad, ack],
            "no answer to a wrong MAC",
            ack.summary(),
        ),
        None => findings.check(
            DROPPED,
            ack.is_some(),
            [bad, good],
            "silence, and an answer to the right one",
            "silence",
        ),
    }
    let solicited = trace.originated(ETR).filter(|packet| matches!(packet.control(), Some(ControlMessage::MapNotifyAck(ack)) if ![BAD, GOOD].contains(&ack.0.nonce)));
    findings.recorded(
        SOLICITED,
        good,
        format!("{} solicited Map-Notifies acknowledged", solicited.count()),
    );
}
