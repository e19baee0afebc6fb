//! Map-Registers that nobody should send: cut off, with impossible counts, with odd addresses, with wrong checksums. They
//! change nothing, and the next honest one is taken.

use harness::inline::{PacketFate, Way};
use lisp::auth::sign;
use lisp::wire::{ControlMessage, MapRecord};
use lisp::{Address, Lcaf};

use super::common::*;
use super::script::{Spoil, Step, act, ask, judge, register, run};
use crate::case::Case;
use crate::cases::common::{edit_incoming, ip, key, locator, lose_outgoing, record};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::sabotage::{Frame, Sabotage, Tamper};

const LENGTH: Req = Req::new("rfc6830-6.1-control-len");
const TYPES: Req = Req::new("rfc6830-6.1.1-types");
const NEWER_TYPES: Req = Req::new("rfc9301-5.1-type5-6-15");
const CHECKSUM: Req = Req::new("rfc6830-6.1-control-cksum-rx");
const UNKNOWN_AFI: Req = Req::new("rfc9301-5.1-unknown-afi");
const VENDOR: Req = Req::new("rfc9306-4-vendor-lcaf");
const UNKNOWN_LCAF: Req = Req::new("rfc9306-3-unknown-lcaf-rloc");
const DISCARD: Req = Req::new("rfc6833-4.3-ms-discard-mrep");

fn at(rloc: &str) -> Vec<MapRecord> {
    vec![record("10.1.0.0/24", vec![locator(rloc, 1, 100)])]
}

fn site_a(rloc: &str) -> Step {
    register("etr-a", &key("key-of-site-a"), at(rloc))
}

/// Makes the code right again where the message is long enough to have one.
fn resign(octets: &mut [u8]) {
    // What is too short to be signed is sent as it is.
    let _ = sign(octets, &key("key-of-site-a"));
}

/// Where things stand in a Map-Register with one record of one IPv4 locator under HMAC-SHA-256-128.
const RECORD: usize = 32;
const LOCATOR: usize = RECORD + 16;
const WHOLE: usize = LOCATOR + 12;

/// A sabotage that puts a whole Map-Register for 192.0.2.6 in the place of every one that is not as long as it says.
fn completes() -> Tamper {
    Box::new(|way, frame: &mut Frame<'_>| {
        if way == Way::ToVictim {
            frame.edit_udp(|_, payload| {
                let register = payload.first().is_some_and(|octet| octet >> 4 == 3);
                let broken = register && ControlMessage::parse(payload).is_err();
                if broken {
                    let site = key("key-of-site-a");
                    let whole = crate::cases::common::register(&site, u64::MAX, at("192.0.2.6"));
                    *payload = whole.to_signed_vec(&site);
                }
                broken
            });
        }
        PacketFate::Forward
    })
}

const fn dies(kills: &'static [Req]) -> Sabotage {
    Sabotage {
        name: "hands nothing on after that",
        node: MS,
        links: &[],
        kills,
        tamper: || {
            lose_outgoing(|frame| matches!(frame.control(), Some(ControlMessage::Encapsulated(_))))
        },
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1::a_map_register_cut_off_anywhere_changes_nothing",
        title: "A Map-Register that ends early, is longer than it may be, or counts what is not there changes nothing and is not confirmed, though its code is right.",
        topology: TOPOLOGY,
        roles: &["ms"],
        requirements: &[LENGTH],
        drive: |drive| run(drive, &cut()),
        judges: &[|trace, findings| judge(trace, findings, &cut())],
        sabotages: &[
            Sabotage {
                name: "fills up what is missing",
                node: MS,
                links: &[],
                kills: &[LENGTH],
                tamper: completes,
            },
            dies(&[LENGTH]),
        ],
        ..Case::BASE
    }
}

fn cut() -> Vec<Step> {
    let rows = &[LENGTH];
    let bad = |spoil: Spoil| site_a("192.0.2.6").spoiled(spoil).unconfirmed().shows(rows);
    let mut steps = vec![site_a("192.0.2.2").confirmed()];
    for length in 1..WHOLE {
        steps.push(bad(Box::new(move |octets| {
            octets.truncate(length);
            resign(octets);
        })));
    }
    // Counts and lengths that promise more than there is: records, locators, octets of the code, bits of the mask.
    let values: [(usize, u8); 7] = [
        (3, 2),
        (3, 255),
        (RECORD + 4, 2),
        (RECORD + 4, 255),
        (RECORD + 5, 33),
        (RECORD + 5, 255),
        (14, 0xff),
    ];
    for (place, value) in values {
        steps.push(bad(Box::new(move |octets| {
            octets[place] = value;
            resign(octets);
        })));
    }
    steps.push(ask("10.1.0.7").forwarded(&["192.0.2.2"]).shows(rows));
    steps.push(site_a("192.0.2.3").confirmed().shows(rows));
    steps.push(ask("10.1.0.7").forwarded(&["192.0.2.3"]).shows(rows));
    steps
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1::noise_changes_nothing",
        title: "Octets of every kind, messages of types that a Map-Server has no use for, and Map-Registers with a wrong UDP checksum are met with silence, and change nothing.",
        topology: TOPOLOGY,
        roles: &["ms"],
        requirements: &[TYPES, NEWER_TYPES, CHECKSUM, DISCARD],
        drive: |drive| run(drive, &noise()),
        judges: &[|trace, findings| {
            judge(trace, findings, &noise());
            silent(trace, findings);
        }],
        sabotages: &[
            Sabotage {
                name: "takes packets with a wrong checksum",
                node: MS,
                links: &[],
                kills: &[CHECKSUM],
                tamper: || edit_incoming(|frame| {
                    frame.edit_ip(|header, datagram| {
                        datagram[6..8].fill(0);
                        let sum = lisp::ip::udp_checksum(header.source(), header.destination(), datagram);
                        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
                        true
                    });
                }),
            },
            Sabotage {
                name: "answers a Map-Reply",
                node: MS,
                links: &[],
                kills: &[DISCARD, TYPES, NEWER_TYPES],
                // To a box a Map-Request from the same port comes in its place.
                tamper: || edit_incoming(|frame| {
                    frame.edit_udp(|ports, payload| {
                        let noise = ports.0 == NOISE_PORT;
                        if noise {
                            let question = question_for(1, itr_rloc(250), host(0, ip("10.3.0.7")));
                            *payload = ControlMessage::MapRequest(question).to_vec();
                        }
                        noise
                    });
                }),
            },
            dies(&[TYPES, CHECKSUM]),
        ],
        ..Case::BASE
    }
}

/// Source port of what is noise.
const NOISE_PORT: u16 = 47_474;

fn noise() -> Vec<Step> {
    vec![
        site_a("192.0.2.2").confirmed(),
        act(make_noise),
        // A wrong checksum is the only thing that is wrong.
        act(wrong_checksum),
        ask("10.1.0.7")
            .forwarded(&["192.0.2.2"])
            .shows(&[TYPES, NEWER_TYPES, CHECKSUM, DISCARD]),
        site_a("192.0.2.3").confirmed().shows(&[TYPES, CHECKSUM]),
        ask("10.1.0.7").forwarded(&["192.0.2.3"]).shows(&[TYPES]),
    ]
}

/// Messages of each type that is not for a Map-Server, sound and unsound, and octets at random.
fn make_noise(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let (enemy, ms) = (drive.peer("etr-b")?, drive.address(MS)?);
    let send = |payload: &[u8]| {
        enemy.udp(
            (enemy.address(), NOISE_PORT),
            (ms, lisp::CONTROL_PORT),
            payload,
        )
    };
    let positive = crate::cases::common::reply(7, at("192.0.2.6"));
    send(&ControlMessage::MapReply(positive).to_vec())?;
    let site = key("key-of-site-a");
    let stolen = crate::cases::common::register(&site, u64::MAX, at("192.0.2.6"));
    send(&crate::cases::common::notify(&stolen, &site))?;
    for kind in [0u8, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15] {
        // What would be a whole Map-Register but for its type.
        let mut octets = stolen.to_signed_vec(&site);
        octets[0] = kind << 4 | octets[0] & 0xf;
        send(&octets)?;
    }
    send(&[])?;
    for round in 0..200 {
        let length = (drive.random() % 120) as usize;
        let mut octets: Vec<u8> = (0..length).map(|_| drive.random() as u8).collect();
        if let Some(first) = octets.first_mut() {
            // No Map-Request among them: a box may answer one that is sound by chance.
            let kinds = [0u8, 2, 3, 4, 5, 6, 7, 9, 15];
            *first = kinds[round % kinds.len()] << 4 | *first & 0xf;
        }
        send(&octets)?;
    }
    Ok(())
}

fn wrong_checksum(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let (etr, ms) = (drive.peer("etr-a")?, drive.address(MS)?);
    let site = key("key-of-site-a");
    let message = crate::cases::common::register(&site, super::script::nonce(2), at("192.0.2.6"));
    let octets = message.to_signed_vec(&site);
    let mut packet =
        crate::cases::common::udp((etr.address(), 46_000), (ms, lisp::CONTROL_PORT), &octets);
    // The low octet of the UDP checksum behind an IPv4 header.
    packet[27] ^= 0x55;
    etr.send(&packet)?;
    Ok(())
}

/// Nothing went to where the noise came from.
fn silent(trace: &crate::trace::Trace, findings: &mut crate::finding::Findings) {
    let answer = trace.originated(MS).find(|packet| {
        let to_noise = packet
            .udp()
            .is_some_and(|udp| udp.destination_port == NOISE_PORT);
        to_noise || packet.destination() == Some(ip("192.0.2.34"))
    });
    for row in [TYPES, NEWER_TYPES, DISCARD] {
        match answer {
            Some(answer) => findings.broken(row, answer, "silence", answer.summary()),
            None => findings.met(row, Vec::new(), "silence"),
        }
    }
}

inventory::submit! {
    Case {
        id: "rfc9306::s4::odd_addresses_in_a_map_register",
        title: "A Map-Register with a vendor's canonical address or an unknown AFI is dropped whole; a locator of an unknown canonical type is left out.",
        topology: TOPOLOGY,
        roles: &["ms"],
        requirements: &[VENDOR, UNKNOWN_LCAF],
        features: &["proxy-reply"],
        drive: |drive| run(drive, &odd()),
        judges: &[|trace, findings| judge(trace, findings, &odd())],
        sabotages: &[
            Sabotage {
                name: "takes a vendor's address for a locator that it may leave out",
                node: MS,
                links: &[],
                kills: &[VENDOR],
                tamper: || edit_incoming(|frame| {
                    frame.edit_signed(&key("key-of-site-a"), |message| match message {
                        ControlMessage::MapRegister(register) => {
                            for record in &mut register.records {
                                record.locators.retain(|locator| locator.rloc.ip().is_some());
                            }
                            true
                        }
                        _ => false,
                    });
                }),
            },
            Sabotage {
                name: "drops what has an unknown address",
                node: MS,
                links: &[],
                kills: &[UNKNOWN_LCAF],
                tamper: || crate::cases::common::lose_incoming(|frame| match frame.control() {
                    Some(ControlMessage::MapRegister(register)) => register.records.iter().any(|record| {
                        record.locators.iter().any(|locator| locator.rloc.ip().is_none())
                    }),
                    _ => false,
                }),
            },
        ],
        ..Case::BASE
    }
}

fn odd() -> Vec<Step> {
    let canonical = |kind: u8| {
        let mut odd = locator("192.0.2.1", 1, 100);
        odd.rloc = Address::Lcaf(Box::new(Lcaf::Opaque {
            kind,
            reserved: [0; 3],
            data: vec![0, 0, 0x42, 1, 2, 3, 4, 5],
        }));
        odd
    };
    let of = |rloc: &str, kind: u8| {
        let locators = vec![locator(rloc, 1, 100), canonical(kind)];
        register(
            "etr-a",
            &key("key-of-site-a"),
            vec![record("10.1.0.0/24", locators)],
        )
        .with(|register| register.proxy_reply = true)
    };
    vec![
        of("192.0.2.3", 200).confirmed().shows(&[UNKNOWN_LCAF]),
        ask("10.1.0.7")
            .mapping("10.1.0.0/24", &["192.0.2.3"])
            .shows(&[UNKNOWN_LCAF]),
        of("192.0.2.4", 255).unconfirmed().shows(&[VENDOR]),
        ask("10.1.0.7")
            .mapping("10.1.0.0/24", &["192.0.2.3"])
            .shows(&[VENDOR]),
    ]
}

inventory::submit! {
    Case {
        id: "rfc9301::s5_1::a_map_register_with_an_unknown_afi_is_dropped",
        title: "A Map-Register with an EID or a locator of an unknown address family is dropped whole.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc9300],
        roles: &["ms"],
        requirements: &[UNKNOWN_AFI],
        drive: |drive| run(drive, &unknown_afi()),
        judges: &[|trace, findings| judge(trace, findings, &unknown_afi())],
        sabotages: &[Sabotage {
            name: "takes any AFI for IPv4",
            node: MS,
            links: &[],
            kills: &[UNKNOWN_AFI],
            tamper: completes,
        }],
        ..Case::BASE
    }
}

fn unknown_afi() -> Vec<Step> {
    let rows = &[UNKNOWN_AFI];
    let of = |place: usize| {
        site_a("192.0.2.6")
            .spoiled(move |octets| {
                (octets[place], octets[place + 1]) = (0x77, 0x77);
                resign(octets);
            })
            .unconfirmed()
            .shows(rows)
    };
    vec![
        site_a("192.0.2.2").confirmed(),
        of(RECORD + 10),
        of(LOCATOR + 6),
        ask("10.1.0.7").forwarded(&["192.0.2.2"]).shows(rows),
        site_a("192.0.2.3").confirmed().shows(rows),
    ]
}
