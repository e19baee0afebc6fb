//! Broken, cut-off and hostile Map-Requests: no answer, no harm (RFC 6830 6.1, 6.1.2, 6.1.3, 6.1.8).

use harness::inline::{PacketFate, Way};
use lisp::Address;
use lisp::wire::{ControlMessage, Ecm, EidQuery, MapRegister, MapRequest};

use super::common::*;
use crate::case::Case;
use crate::cases::common::{ip, key, locator, outgoing, prefix, record, register, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Peer, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};

const NO_ITR_RLOC: Req = Req::new("rfc6830-6.1.3-no-itr-rloc-drop");
const NO_RECORD: Req = Req::new("rfc6830-6.1.2-record-count-0");
const TYPES: Req = Req::new("rfc6830-6.1.1-types");
const ONLY_REQUESTS: Req = Req::new("rfc6830-6.1.8-only-mreq");
const CHECKSUM: Req = Req::new("rfc6830-6.1-control-cksum-rx");
const INNER_CHECKSUM: Req = Req::new("rfc6830-6.1.8-inner-cksum-rx");
const UNKNOWN_AFI: Req = Req::new("rfc9301-5.1-unknown-afi");
const DECAP: Req = Req::new("rfc6833-4.4-mr-decap");

const SECRET: &str = "key-of-site-a";
const SITE: &str = "10.1.0.0/24";
const HOST: &str = "10.1.0.10/32";
const ETR_A: &str = "192.0.2.2";

const NONCES: u64 = 0x6d72_0008_0000_0000;
const REGISTER: u64 = NONCES + 0xf1;
const BEFORE: u64 = NONCES + 0xf2;
const BETWEEN: u64 = NONCES + 0xf3;
const AFTER: u64 = NONCES + 0xf4;
/// So unlike the others that a few corrupted octets do not make one of them out of it.
const STORM: u64 = 0x5afe_c0de_5afe_c0de;
/// The questions in the middle of the storm count up from here.
const MEANWHILE: u64 = 0x6d72_0009_0000_0080;

/// A bad message: what it shows, what is wrong with it, and its UDP payload; `nonce` is somewhere in it.
struct Bad {
    requirement: Req,
    what: &'static str,
    nonce: u64,
    payload: Vec<u8>,
    /// The outer UDP checksum is spoilt.
    wrong_checksum: bool,
}

inventory::submit! {
    Case {
        id: "rfc6833::s4_4::hostile_requests_do_no_harm",
        title: "Cut-off, impossible and misplaced messages, every shortening of a sound Map-Request and 300 corrupted ones: no answer to what is wrong, and sound questions are answered as before.",
        topology: "one-msmr",
        timeout: seconds(60),
        roles: &["ms", "mr"],
        features: &["proxy-reply"],
        requirements: &[
            NO_ITR_RLOC, NO_RECORD, TYPES, ONLY_REQUESTS, CHECKSUM, INNER_CHECKSUM, UNKNOWN_AFI, DECAP,
        ],
        drive,
        judges: &[nothing_comes_back, still_answers],
        sabotages: &[
            mended("answers without an ITR-RLOC", &[NO_ITR_RLOC], || mend(0)),
            mended("answers to a multicast ITR-RLOC", &[NO_ITR_RLOC], || mend(1)),
            mended("answers without a record", &[NO_RECORD], || mend(3)),
            mended("answers the one record of 255", &[NO_RECORD], || mend(4)),
            mended("answers an impossible mask-len", &[NO_RECORD], || mend(6)),
            mended("takes an unknown type for a Map-Request", &[TYPES], || mend(8)),
            mended("answers whatever an Encapsulated Control Message holds", &[ONLY_REQUESTS], || mend(11)),
            mended("ignores the UDP checksum", &[CHECKSUM], || mend(12)),
            mended("ignores the inner UDP checksum", &[INNER_CHECKSUM], || mend(13)),
            mended("takes an unknown AFI for IPv4", &[UNKNOWN_AFI], || mend(14)),
            Sabotage {
                name: "stops at the first bad message",
                node: MSMR,
                links: &[],
                kills: &[DECAP, NO_RECORD],
                tamper: || Box::new(|way, frame| match frame.control() {
                    Some(ControlMessage::MapReply(reply)) if way == Way::FromVictim && reply.nonce != BEFORE => {
                        PacketFate::Drop
                    }
                    _ => PacketFate::Forward,
                }),
            },
            Sabotage {
                name: "forgets a locator because of a bad message",
                node: MSMR,
                links: &[],
                kills: &[DECAP],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapReply(reply) if reply.nonce == AFTER => {
                        reply.records.iter_mut().for_each(|record| record.locators.clear());
                        true
                    }
                    _ => false,
                }),
            },
        ],
        ..Case::BASE
    }
}

const fn mended(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: MSMR,
        links: &[],
        kills,
        tamper,
    }
}

/// Puts a sound question with the same nonce in the place of a bad message on its way in: the box then answers, as if it
/// accepted the bad one.
fn mend(number: u64) -> Tamper {
    let nonce = NONCES + number;
    Box::new(move |way, frame| {
        let hit = frame
            .ip()
            .and_then(|ip| Some(holds(&ip.udp()?.payload, nonce)));
        if way == Way::ToVictim && hit == Some(true) {
            let good = encapsulated(&inner_packet(&question(nonce, HOST)));
            frame.edit_ip(|header, payload| {
                let datagram = lisp::ip::UdpDatagram {
                    source_port: u16::from_be_bytes([payload[0], payload[1]]),
                    destination_port: lisp::CONTROL_PORT,
                    zero_checksum: false,
                    payload: &good,
                };
                *payload = datagram.emit(header.source(), header.destination());
                true
            });
        }
        PacketFate::Forward
    })
}

/// Whether octets contain a nonce, wherever: the message around it may be broken.
fn holds(octets: &[u8], nonce: u64) -> bool {
    octets
        .windows(8)
        .any(|window| window == nonce.to_be_bytes())
}

/// The bad messages; the number of each is the end of its nonce.
fn bad_messages() -> Vec<Bad> {
    let mut all: Vec<Bad> = Vec::new();
    let mut add = |requirement, what, make: &dyn Fn(u64) -> Vec<u8>| {
        let nonce = NONCES + all.len() as u64;
        all.push(Bad {
            requirement,
            what,
            nonce,
            payload: make(nonce),
            wrong_checksum: requirement == CHECKSUM,
        });
    };
    let ecm = |request: &MapRequest| encapsulated(&inner_packet(request));
    let with_rloc = |nonce, rloc| MapRequest {
        itr_rlocs: vec![rloc],
        ..question(nonce, HOST)
    };
    // The octets of a Map-Request inside an Encapsulated Control Message, changed; both inner lengths and checksums are right.
    let changed = |nonce, change: &dyn Fn(&mut Vec<u8>)| {
        let mut octets = ControlMessage::MapRequest(question(nonce, HOST)).to_vec();
        change(&mut octets);
        encapsulated(&wrapped(nonce, &octets))
    };
    add(
        NO_ITR_RLOC,
        "a Map-Request whose only ITR-RLOC has AFI 0",
        &|nonce| ecm(&with_rloc(nonce, Address::None)),
    );
    add(
        NO_ITR_RLOC,
        "a Map-Request whose only ITR-RLOC is multicast",
        &|nonce| ecm(&with_rloc(nonce, Address::from(ip("224.0.0.1")))),
    );
    add(
        NO_ITR_RLOC,
        "a Map-Request cut off after its Source-EID",
        &|nonce| {
            // Twelve octets of header, then AFI and address of the Source-EID.
            changed(nonce, &|octets| octets.truncate(12 + 6))
        },
    );
    add(NO_RECORD, "a Map-Request with no record", &|nonce| {
        changed(nonce, &|octets| {
            octets[3] = 0;
            octets.truncate(octets.len() - 8);
        })
    });
    add(
        NO_RECORD,
        "a Map-Request that says 255 records and has one",
        &|nonce| changed(nonce, &|octets| octets[3] = 255),
    );
    add(
        NO_RECORD,
        "a Map-Request cut off inside its record",
        &|nonce| changed(nonce, &|octets| octets.truncate(octets.len() - 3)),
    );
    add(
        NO_RECORD,
        "a Map-Request with mask-len 200 of an IPv4 EID",
        &|nonce| {
            changed(nonce, &|octets| {
                let mask = octets.len() - 7;
                octets[mask] = 200;
            })
        },
    );
    for (what, kind) in [
        ("type 0", 0u8),
        ("type 7", 7),
        ("type 9", 9),
        ("type 14", 14),
    ] {
        add(TYPES, what, &|nonce| {
            let mut octets = ControlMessage::MapRequest(question(nonce, HOST)).to_vec();
            octets[0] = kind << 4 | octets[0] & 0x0f;
            octets
        });
    }
    add(
        ONLY_REQUESTS,
        "a Map-Register in an Encapsulated Control Message",
        &|nonce| {
            encapsulated(&wrapped(
                nonce,
                &registration(nonce).to_signed_vec(&key(SECRET)),
            ))
        },
    );
    add(
        CHECKSUM,
        "a Map-Request with a wrong UDP checksum",
        &|nonce| ecm(&question(nonce, HOST)),
    );
    add(
        INNER_CHECKSUM,
        "a Map-Request with a wrong inner UDP checksum",
        &|nonce| {
            let mut inner = inner_packet(&question(nonce, HOST));
            inner[20 + 6] ^= 0x55;
            encapsulated(&inner)
        },
    );
    add(
        UNKNOWN_AFI,
        "a Map-Request for an EID of AFI 30583",
        &|nonce| {
            changed(nonce, &|octets| {
                let afi = octets.len() - 6;
                octets[afi..afi + 2].copy_from_slice(&30_583u16.to_be_bytes());
            })
        },
    );
    add(
        ONLY_REQUESTS,
        "an Encapsulated Control Message in another one",
        &|nonce| encapsulated(&wrapped(nonce, &ecm(&question(nonce, HOST)))),
    );
    all
}

/// An inner packet around any octets.
fn wrapped(nonce: u64, payload: &[u8]) -> Vec<u8> {
    lisp::ip::udp_packet(
        itr_rloc(nonce as u8),
        ip("10.1.0.10"),
        INNER_PORT,
        lisp::CONTROL_PORT,
        INNER_TTL,
        payload,
    )
}

fn registration(nonce: u64) -> MapRegister {
    MapRegister {
        proxy_reply: true,
        ..register(
            &key(SECRET),
            nonce,
            vec![record(SITE, vec![locator(ETR_A, 1, 100)])],
        )
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let (itr, etr) = (drive.peer("itr")?, drive.peer("etr-a")?);
    let ms = drive.address(MSMR)?;
    register_and_wait(drive, &etr, SECRET, &registration(REGISTER))?;
    ask_and_wait(drive, &itr, &question(BEFORE, HOST))?;
    drive.mark("the bad messages");
    for bad in bad_messages() {
        let mut packet = lisp::ip::udp_packet(
            itr.address(),
            ms,
            outer_port(bad.nonce),
            lisp::CONTROL_PORT,
            64,
            &bad.payload,
        );
        if bad.wrong_checksum {
            packet[20 + 6] ^= 0x55;
        }
        itr.send(&packet)?;
    }
    ask_and_wait(drive, &itr, &question(BETWEEN, HOST))?;
    drive.mark("shortened and corrupted");
    storm(drive, &itr)?;
    ask_and_wait(drive, &itr, &question(AFTER, HOST))?;
    Ok(())
}

/// Every shortening of a sound question with several records, and 300 copies with a few octets changed.
fn storm(drive: &Drive<'_>, itr: &Peer) -> Result<(), Stop> {
    let ms = drive.address(MSMR)?;
    let from = (itr.address(), 43_000);
    let mut asked = question(STORM, HOST);
    asked.records = [
        "10.1.0.10/32",
        "[7]10.1.0.10/32",
        "2001:db8:a::1/128",
        "0.0.0.0/0",
    ]
    .map(|eid| EidQuery::new(prefix(eid)))
    .to_vec();
    let sound = encapsulated(&inner_packet(&asked));
    let mut sent = 0;
    for length in 0..sound.len() {
        itr.udp(from, (ms, lisp::CONTROL_PORT), &sound[..length])?;
        // Cut inside, with lengths and checksums that agree with the cut.
        let message = ControlMessage::MapRequest(asked.clone()).to_vec();
        if let Some(cut) = message.get(..length) {
            let payload = encapsulated(&wrapped(asked.nonce, cut));
            itr.udp(from, (ms, lisp::CONTROL_PORT), &payload)?;
        }
        fence_now_and_then(drive, itr, &mut sent)?;
    }
    let message = ControlMessage::MapRequest(asked.clone()).to_vec();
    for _ in 0..300 {
        let mut octets = message.clone();
        for _ in 0..=drive.random() % 4 {
            let at = (drive.random() % octets.len() as u64) as usize;
            octets[at] = drive.random() as u8;
        }
        // The type stays: the other types have been.
        octets[0] = octets[0] & 0x0f | 0x10;
        let payload = Ecm {
            inner: wrapped(asked.nonce, &octets),
            ..Ecm::default()
        };
        itr.udp(from, (ms, lisp::CONTROL_PORT), &payload.to_vec())?;
        fence_now_and_then(drive, itr, &mut sent)?;
    }
    Ok(())
}

/// A socket's buffer holds some hundred messages: what is sent shall be read, too. Each question has an ITR-RLOC of its own.
fn fence_now_and_then(drive: &Drive<'_>, itr: &Peer, sent: &mut u64) -> Result<(), Stop> {
    *sent += 1;
    if sent.is_multiple_of(50) {
        let nonce = MEANWHILE + *sent / 50;
        ask_and_wait(drive, itr, &question(nonce, "172.16.5.5/32"))?;
    }
    Ok(())
}

fn nothing_comes_back(trace: &Trace, findings: &mut Findings) {
    let fence = replies(trace, BETWEEN).first().copied();
    for bad in bad_messages() {
        let stimulus = trace
            .since("the bad messages")
            .filter(|packet| packet.receiver() == Some(MSMR))
            .find(|packet| {
                packet
                    .udp()
                    .is_some_and(|udp| holds(&udp.payload, bad.nonce))
            });
        let Some(stimulus) = stimulus else {
            findings.unseen(bad.requirement, bad.what);
            continue;
        };
        let back = trace.originated(MSMR).find(|packet| {
            packet
                .udp()
                .is_some_and(|udp| holds(&udp.payload, bad.nonce))
        });
        match (back, fence) {
            (Some(back), _) => findings.broken(
                bad.requirement,
                [stimulus, back],
                format!("no answer to {}", bad.what),
                back.summary(),
            ),
            (None, Some(fence)) => findings.met(
                bad.requirement,
                [stimulus, fence],
                format!(
                    "{}: silence, and the question after it was answered",
                    bad.what
                ),
            ),
            (None, None) => findings.broken(
                bad.requirement,
                stimulus,
                "an answer to the sound Map-Request after the bad ones",
                "none",
            ),
        }
    }
}

fn still_answers(trace: &Trace, findings: &mut Findings) {
    let expected = Outcome::Mapping(prefix(SITE), vec![ip(ETR_A)]);
    for (nonce, when) in [
        (BEFORE, "before the bad messages"),
        (BETWEEN, "after the bad messages"),
        (AFTER, "after the shortened and corrupted ones"),
    ] {
        let Some(asked) = asked(trace, nonce) else {
            findings.unseen(DECAP, format!("the question {when}"));
            continue;
        };
        let (found, shown) = outcome(trace, nonce);
        let packets: Vec<&Seen> = [asked].into_iter().chain(shown).collect();
        findings.check(
            DECAP,
            found == expected,
            &packets,
            format!("{when}: {expected}"),
            found.to_string(),
        );
    }
}
