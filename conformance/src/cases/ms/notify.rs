//! Map-Notifies: when, where to, and what is in them (RFC 6830 6.1.7, RFC 6833 4.2, RFC 9301 5.7).

use lisp::wire::{ControlMessage, MapRecord};

use super::common::*;
use super::script::{Step, ask, confirmation, judge, register, run, sent};
use crate::case::Case;
use crate::cases::common::{
    edit_incoming, edit_outgoing, key, locator, lose_incoming, lose_outgoing, record,
};
use crate::catalogue::Req;
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;
use crate::words;

const NO_NOTIFY: Req = Req::new("rfc6833-4.2-no-notify-without-m");
const M_BIT: Req = Req::new("rfc6830-6.1.6-m-bit");
const NOTIFY: Req = Req::new("rfc6833-4.2-want-notify");
const FORWARD: Req = Req::new("rfc6833-4.3-ms-forward");

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::without_the_m_bit_nothing_comes_back",
        title: "A Map-Register without the M bit registers and is not confirmed; with it, it is.",
        topology: TOPOLOGY,
        roles: &["ms"],
        requirements: &[NO_NOTIFY, M_BIT, FORWARD],
        drive: |drive| run(drive, &quiet()),
        judges: &[|trace, findings| judge(trace, findings, &quiet())],
        sabotages: &[
            Sabotage {
                name: "confirms without being asked",
                node: MS,
                links: &[],
                kills: &[NO_NOTIFY, M_BIT],
                tamper: || edit_incoming(|frame| {
                    frame.edit_signed(&key("key-of-site-a"), |message| match message {
                        ControlMessage::MapRegister(register) => {
                            register.want_map_notify = true;
                            true
                        }
                        _ => false,
                    });
                }),
            },
            Sabotage {
                name: "registers only what it may confirm",
                node: MS,
                links: &[],
                kills: &[FORWARD],
                tamper: || lose_incoming(|frame| matches!(
                    frame.control(), Some(ControlMessage::MapRegister(register)) if !register.want_map_notify
                )),
            },
        ],
        ..Case::BASE
    }
}

fn at(rloc: &str) -> Vec<MapRecord> {
    vec![record("10.1.0.0/24", vec![locator(rloc, 1, 100)])]
}

fn quiet() -> Vec<Step> {
    let site = key("key-of-site-a");
    vec![
        register("etr-a", &site, at("192.0.2.3"))
            .with(|register| register.want_map_notify = false)
            .unconfirmed()
            .shows(&[NO_NOTIFY, M_BIT]),
        ask("10.1.0.7").forwarded(&["192.0.2.3"]).shows(&[FORWARD]),
        register("etr-a", &site, at("192.0.2.4"))
            .confirmed()
            .shows(&[M_BIT]),
        ask("10.1.0.7").forwarded(&["192.0.2.4"]).shows(&[FORWARD]),
    ]
}

const CONTENT: Req = Req::new("rfc6830-6.1.7-content");
const COPY: Req = Req::new("rfc9301-5.7-notify-copy");
const PORT: Req = Req::new("rfc6833-4.2-notify-port");
const PORTS: Req = Req::new("rfc6830-6.1.7-ports");
const TO: Req = Req::new("rfc6833-4.2-notify-dst");

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_7::the_map_notify_repeats_the_register",
        title: "A Map-Notify goes to the Map-Register's source, from and to port 4342, with its nonce and records, the flags zero.",
        topology: TOPOLOGY,
        roles: &["ms"],
        requirements: &[CONTENT, COPY, PORT, PORTS, TO, NOTIFY],
        drive: |drive| run(drive, &repeated()),
        judges: &[|trace, findings| {
            judge(trace, findings, &repeated());
            for at in 0..repeated().len() {
                addressed(trace, findings, at);
            }
        }],
        sabotages: &[
            Sabotage {
                name: "answers to the source port",
                node: MS,
                links: &[],
                kills: &[PORT, PORTS],
                tamper: || edit_outgoing(|frame| {
                    let notify = matches!(frame.control(), Some(ControlMessage::MapNotify(_)));
                    frame.edit_udp_ports(|ports, _| {
                        ports.1 = 40_000;
                        notify
                    });
                }),
            },
            Sabotage {
                name: "does not confirm",
                node: MS,
                links: &[],
                kills: &[NOTIFY],
                tamper: || lose_outgoing(|frame| matches!(frame.control(), Some(ControlMessage::MapNotify(_)))),
            },
            Sabotage {
                name: "answers to the first locator",
                node: MS,
                links: &[],
                kills: &[TO],
                tamper: || edit_outgoing(|frame| {
                    if matches!(frame.control(), Some(ControlMessage::MapNotify(_))) {
                        frame.edit_addresses(|header| {
                            if let lisp::ip::IpHeader::V4(header) = header {
                                header.destination = std::net::Ipv4Addr::new(192, 0, 2, 3);
                            }
                            true
                        });
                    }
                }),
            },
            Sabotage {
                name: "repeats one record",
                node: MS,
                links: &[],
                kills: &[CONTENT, COPY],
                tamper: || edit_outgoing(|frame| {
                    frame.edit_signed(&key("key-of-site-a"), |message| match message {
                        ControlMessage::MapNotify(notify) => {
                            notify.records.truncate(1);
                            true
                        }
                        _ => false,
                    });
                }),
            },
            Sabotage {
                name: "keeps flags in the reserved word",
                node: MS,
                links: &[],
                kills: &[CONTENT],
                tamper: || edit_outgoing(|frame| {
                    frame.edit_signed(&key("key-of-site-a"), |message| match message {
                        ControlMessage::MapNotify(notify) => {
                            notify.reserved = 1;
                            true
                        }
                        _ => false,
                    });
                }),
            },
        ],
        ..Case::BASE
    }
}

/// Two records with odd values, from IPv4 and from IPv6.
fn repeated() -> Vec<Step> {
    let site = key("key-of-site-a");
    let records = || {
        let mut down = locator("192.0.2.34", 254, 3);
        (down.local, down.reachable, down.mpriority, down.mweight) = (false, false, 7, 9);
        let mut first = record("10.1.0.0/24", vec![locator("192.0.2.3", 2, 60), down]);
        first.ttl = 77;
        vec![
            first,
            record("2001:db8:a::/48", vec![locator("2001:db8:0:2::2", 1, 1)]),
        ]
    };
    vec![
        register("etr-a", &site, records())
            .confirmed()
            .shows(&[NOTIFY]),
        register("etr-a", &site, records())
            .over_ipv6("2001:db8:0:2::2")
            .confirmed()
            .shows(&[NOTIFY]),
    ]
}

fn addressed(trace: &Trace, findings: &mut Findings, at: usize) {
    let rows = [CONTENT, COPY, PORT, PORTS, TO];
    let Some(sent) = sent(trace, at) else {
        rows.into_iter()
            .for_each(|row| findings.unseen(row, "the Map-Register"));
        return;
    };
    let Some(packet) = confirmation(trace, at) else {
        rows.into_iter()
            .for_each(|row| findings.broken(row, sent, "a Map-Notify", "none"));
        return;
    };
    let (Some(register), Some(notify), Some(udp)) =
        (sent.map_register(), packet.map_notify(), packet.udp())
    else {
        rows.into_iter().for_each(|row| {
            findings.unseen(row, "a Map-Register and a Map-Notify that can be read")
        });
        return;
    };
    let packets = [sent, packet];
    let ports = format!("{} > {}", udp.source_port, udp.destination_port);
    let right = udp.destination_port == lisp::CONTROL_PORT;
    findings.check(
        PORT,
        right,
        packets,
        "to port 4342, not to the Map-Register's",
        ports.clone(),
    );
    let both = right && udp.source_port == lisp::CONTROL_PORT;
    findings.check(PORTS, both, packets, "from and to port 4342", ports);
    findings.check(
        TO,
        packet.destination() == sent.source(),
        packets,
        format!(
            "to the Map-Register's source {}",
            words::or_none(sent.source())
        ),
        words::to(packet),
    );
    let same = notify.records == register.records && notify.nonce == register.nonce;
    let ids = |auth: &lisp::wire::Authentication| (auth.key_id, auth.algorithm);
    findings.check(
        CONTENT,
        same && notify.reserved == 0,
        packets,
        "the nonce and the records of the Map-Register, and zeros for flags",
        format!(
            "nonce {:#x}, {}, flags {:#x}",
            notify.nonce,
            words::records(&notify.records),
            notify.reserved
        ),
    );
    findings.check(
        COPY,
        same && ids(&notify.auth) == ids(&register.auth),
        packets,
        "nonce, Key ID, Algorithm ID and records of the Map-Register",
        format!(
            "nonce {:#x}, {}, {}",
            notify.nonce,
            words::key_ids(&notify.auth),
            words::records(&notify.records)
        ),
    );
}

const MAC: Req = Req::new("rfc6830-6.1.6-mac-coverage");
const RESERVED: Req = Req::new("rfc6830-6.1.6-reserved");

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_6::reserved_bits_are_ignored",
        title: "A Map-Register with reserved bits set is taken as if they were not; its code covers them.",
        topology: TOPOLOGY,
        roles: &["ms"],
        requirements: &[RESERVED, MAC],
        editions: &[crate::edition::Edition::Rfc6830],
        drive: |drive| run(drive, &reserved()),
        judges: &[|trace, findings| judge(trace, findings, &reserved())],
        sabotages: &[
            Sabotage {
                name: "drops reserved bits",
                node: MS,
                links: &[],
                kills: &[RESERVED],
                tamper: || lose_incoming(|frame| frame.ip().is_some_and(|ip| {
                    let first = ip.udp().and_then(|udp| udp.payload.first().copied());
                    first.is_some_and(|octet| octet >> 4 == 3 && octet & 7 != 0)
                })),
            },
            Sabotage {
                name: "takes a code that does not cover the flags",
                node: MS,
                links: &[],
                kills: &[MAC],
                tamper: || edit_incoming(|frame| {
                    frame.edit_signed(&key("key-of-site-a"), |message| matches!(message, ControlMessage::MapRegister(_)));
                }),
            },
        ],
        ..Case::BASE
    }
}

/// Sets reserved bits of the first word and signs again.
fn flagged(octets: &mut [u8], first: u8, second: u8, third: u8) {
    octets[0] |= first;
    octets[1] |= second;
    octets[2] |= third;
    let signed = lisp::auth::sign(octets, &key("key-of-site-a"));
    debug_assert!(signed.is_ok());
}

fn reserved() -> Vec<Step> {
    let site = key("key-of-site-a");
    let rows = &[RESERVED, MAC];
    let of =
        |rloc: &str, spoil: fn(&mut Vec<u8>)| register("etr-a", &site, at(rloc)).spoiled(spoil);
    vec![
        of("192.0.2.3", |octets| flagged(octets, 0b0101, 0, 0))
            .confirmed()
            .shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.3"]).shows(rows),
        // The bit that RFC 9301 calls I, with nothing after the records.
        of("192.0.2.4", |octets| flagged(octets, 0b0010, 0, 0))
            .confirmed()
            .shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.4"]).shows(rows),
        of("192.0.2.5", |octets| flagged(octets, 0b0111, 0xff, 0xfe))
            .confirmed()
            .shows(rows),
        ask("10.1.0.7").forwarded(&["192.0.2.5"]).shows(rows),
        // A bit that the code does not know of.
        of("192.0.2.6", |octets| octets[1] ^= 0x10)
            .unconfirmed()
            .shows(&[MAC]),
        ask("10.1.0.7").forwarded(&["192.0.2.5"]).shows(&[MAC]),
    ]
}
