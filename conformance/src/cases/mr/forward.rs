//! A Map-Request that the ETR must answer goes on as it came, to one ETR (RFC 6833 4.3).

use harness::inline::{PacketFate, Way};
use lisp::Address;
use lisp::wire::{ControlMessage, Ecm, MapRequest};

use super::common::*;
use crate::case::Case;
use crate::cases::common::{ip, key, locator, record, register};
use crate::catalogue::Req;
use crate::drive::{Drive, Peer, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};
use crate::words;

const FORWARDS: Req = Req::new("rfc6833-4.3-ms-forward");
const ONCE: Req = Req::new("rfc6833-4.3-ms-forward-once");
const UNALTERED: Req = Req::new("rfc6833-4.3-ms-forward-unaltered");
const ECM_TO_ETR: Req = Req::new("rfc6830-6.1.3-ecm-ms-etr");
const FAMILIES: Req = Req::new("rfc6830-6.1.8-lh-next");
const WHICH: Req = Req::new("rfc6833-4.3-ms-forward-rloc");
const BARE: Req = Req::new("rfc6833-4.4-mr-bare-mreq");
const S_BIT: Req = Req::new("rfc6830-6.1.8-s-bit");

const SECRET: &str = "key-of-site-a";
const LOCATORS: [&str; 2] = ["192.0.2.2", "192.0.2.34"];

/// Questions over IPv4 for an IPv4 EID, one after the other.
const TURNS: [u64; 6] = [
    0x6d72_0002_0000_0001,
    0x6d72_0002_0000_0002,
    0x6d72_0002_0000_0003,
    0x6d72_0002_0000_0004,
    0x6d72_0002_0000_0005,
    0x6d72_0002_0000_0006,
];
/// IPv6 EID asked over IPv4, and the other way round.
const IPV6_INSIDE: u64 = 0x6d72_0002_0000_0011;
const IPV6_OUTSIDE: u64 = 0x6d72_0002_0000_0012;
const WITHOUT_ECM: u64 = 0x6d72_0002_0000_0013;
const WITH_S_BIT: u64 = 0x6d72_0002_0000_0014;
const FENCE: u64 = 0x6d72_0002_0000_0015;

inventory::submit! {
    Case {
        id: "rfc6833::s4_3::a_request_goes_on_unaltered_to_one_etr",
        title: "Each Map-Request goes on once, octet by octet as it came, inside an Encapsulated Control Message to one of two ETRs; in both families.",
        topology: "one-msmr",
        roles: &["ms", "mr"],
        requirements: &[FORWARDS, ONCE, UNALTERED, ECM_TO_ETR, FAMILIES, WHICH, BARE, S_BIT],
        drive,
        judges: &[each_goes_on, says_which, strange_forms],
        sabotages: &[
            Sabotage {
                name: "sends every request twice",
                node: MSMR,
                links: &[],
                kills: &[ONCE],
                tamper: || Box::new(|way, frame| {
                    if way == Way::FromVictim && matches!(frame.control(), Some(ControlMessage::Encapsulated(_))) {
                        return PacketFate::Duplicate(std::time::Duration::from_millis(1));
                    }
                    PacketFate::Forward
                }),
            },
            Sabotage {
                name: "forgets the p bit",
                node: MSMR,
                links: &[],
                kills: &[UNALTERED],
                tamper: || alter(|request| std::mem::take(&mut request.pitr)),
            },
            Sabotage {
                name: "forgets an ITR-RLOC",
                node: MSMR,
                links: &[],
                kills: &[UNALTERED],
                tamper: || alter(|request| {
                    request.itr_rlocs.len() > 1 && request.itr_rlocs.pop().is_some()
                }),
            },
            Sabotage {
                name: "clears reserved bits",
                node: MSMR,
                links: &[],
                kills: &[UNALTERED],
                tamper: || alter(|request| std::mem::take(&mut request.reserved) != 0),
            },
            Sabotage {
                name: "asks with a nonce of its own",
                node: MSMR,
                links: &[],
                kills: &[FORWARDS],
                tamper: || alter(|request| {
                    request.nonce ^= 1 << 60;
                    true
                }),
            },
            Sabotage {
                name: "alters what came with the S bit",
                node: MSMR,
                links: &[],
                kills: &[S_BIT],
                tamper: takes_and_alters,
            },
            Sabotage {
                name: "asks from its own port",
                node: MSMR,
                links: &[],
                kills: &[UNALTERED],
                tamper: || Box::new(|way, frame| {
                    if way == Way::FromVictim {
                        frame.edit_ecm(|inner| {
                            inner.source_port = 4342;
                            true
                        });
                    }
                    PacketFate::Forward
                }),
            },
            Sabotage {
                name: "forwards to port 4341",
                node: MSMR,
                links: &[],
                kills: &[FORWARDS, ECM_TO_ETR],
                tamper: || Box::new(|way, frame| {
                    if way == Way::FromVictim && matches!(frame.control(), Some(ControlMessage::Encapsulated(_))) {
                        frame.edit_udp_ports(|ports, _| {
                            ports.1 = 4341;
                            true
                        });
                    }
                    PacketFate::Forward
                }),
            },
            Sabotage {
                name: "sends the request to the ITR",
                node: MSMR,
                links: &[],
                kills: &[FORWARDS, ECM_TO_ETR],
                tamper: || Box::new(|way, frame| {
                    if way == Way::FromVictim && matches!(frame.control(), Some(ControlMessage::Encapsulated(_))) {
                        frame.edit_addresses(|header| match header {
                            lisp::ip::IpHeader::V4(header) => {
                                header.destination = std::net::Ipv4Addr::new(192, 0, 2, 66);
                                true
                            }
                            lisp::ip::IpHeader::V6(_) => false,
                        });
                    }
                    PacketFate::Forward
                }),
            },
            Sabotage {
                name: "knows IPv4 inside only",
                node: MSMR,
                links: &[],
                kills: &[FAMILIES],
                tamper: || Box::new(|way, frame| match frame.control() {
                    Some(ControlMessage::Encapsulated(ecm))
                        if way == Way::ToVictim && ecm.inner.first().is_some_and(|octet| octet >> 4 == 6) =>
                    {
                        PacketFate::Drop
                    }
                    _ => PacketFate::Forward,
                }),
            },
        ],
        ..Case::BASE
    }
}

fn alter(change: fn(&mut MapRequest) -> bool) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim {
            frame.edit_control(|message| match message {
                ControlMessage::MapRequest(request) => change(request),
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

/// What comes with the S bit comes without it and without its authentication data, and goes on with the p bit.
fn takes_and_alters() -> Tamper {
    Box::new(|way, frame| {
        match way {
            Way::ToVictim => frame.edit_udp(|_, payload| match ControlMessage::parse(payload) {
                Ok(ControlMessage::Encapsulated(ecm)) if ecm.security => {
                    let bare = Ecm {
                        security: false,
                        authentication: Default::default(),
                        ..ecm
                    };
                    *payload = ControlMessage::Encapsulated(bare).to_vec();
                    true
                }
                _ => false,
            }),
            Way::FromVictim => frame.edit_control(|message| match message {
                ControlMessage::MapRequest(request) => {
                    request.pitr |= request.nonce == WITH_S_BIT;
                    request.nonce == WITH_S_BIT
                }
                _ => false,
            }),
        };
        PacketFate::Forward
    })
}

/// A question with everything in it that a box could be tempted to tidy up.
fn strange(nonce: u64, eid: &str) -> MapRequest {
    let plain = question(nonce, eid);
    let mut itr_rlocs = plain.itr_rlocs.clone();
    itr_rlocs.extend([
        Address::from(itr_rloc6(nonce as u16 & 0xff)),
        Address::from(ip("192.0.2.67")),
    ]);
    MapRequest {
        authoritative: true,
        pitr: true,
        smr_invoked: true,
        reserved: 0x55,
        itr_rlocs,
        map_reply: Some(record("10.9.0.0/24", vec![locator("192.0.2.66", 1, 1)])),
        ..plain
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let itr = drive.peer("itr")?;
    let etrs = [drive.peer("etr-a")?, drive.peer("etr-b")?];
    for (number, etr) in etrs.iter().enumerate() {
        register_both_families(drive, etr, number as u64)?;
    }
    for nonce in TURNS {
        ask_and_wait(drive, &itr, &strange(nonce, "10.1.0.10/32"))?;
    }
    ask_and_wait(drive, &itr, &strange(IPV6_INSIDE, "2001:db8:a::10/128"))?;
    let since = drive.now_ns();
    let outside = strange(IPV6_OUTSIDE, "10.1.0.10/32");
    ask(&itr, ip("2001:db8:0:51::10"), &outside)?;
    dealt_with(drive, since, IPV6_OUTSIDE)?;

    let to = (drive.address(MSMR)?, lisp::CONTROL_PORT);
    let bare = ControlMessage::MapRequest(question(WITHOUT_ECM, "10.1.0.10/32"));
    itr.udp((itr.address(), outer_port(WITHOUT_ECM)), to, &bare.to_vec())?;
    // LISP-SEC authentication data stands before the inner packet (RFC 9303 6.1): AD type 1, no flags, nonce length 0.
    let secured = Ecm {
        security: true,
        authentication: authentication_data(),
        inner: inner_packet(&question(WITH_S_BIT, "10.1.0.10/32")),
        ..Ecm::default()
    };
    itr.udp(
        (itr.address(), outer_port(WITH_S_BIT)),
        to,
        &secured.to_vec(),
    )?;
    // The fence: whatever becomes of these two has happened when this one has gone on.
    ask_and_wait(drive, &itr, &strange(FENCE, "10.1.0.10/32"))?;
    Ok(())
}

fn register_both_families(drive: &Drive<'_>, etr: &Peer, number: u64) -> Result<(), Stop> {
    let own = etr.address().to_string();
    let records = ["10.1.0.0/24", "2001:db8:a::/48"].map(|eid| {
        let set = LOCATORS.map(|rloc| {
            let mut locator = locator(rloc, 1, 50);
            locator.local = rloc == own;
            locator
        });
        record(eid, set.to_vec())
    });
    let message = register(
        &key(SECRET),
        0x6d72_0002_0000_00f0 + number,
        records.to_vec(),
    );
    register_and_wait(drive, etr, SECRET, &message)
}

fn each_goes_on(trace: &Trace, findings: &mut Findings) {
    for nonce in TURNS.into_iter().chain([IPV6_INSIDE, IPV6_OUTSIDE, FENCE]) {
        let Some(asked) = asked(trace, nonce) else {
            findings.unseen(FORWARDS, format!("the Map-Request {nonce:#018x}"));
            continue;
        };
        let copies = copies(trace, nonce);
        let right = copies.first().is_some_and(|copy| is_right(trace, copy));
        let said = copies.first().map_or("nothing", |_| "").to_owned()
            + &copies.first().map_or(String::new(), |copy| copy.summary());
        let packets: Vec<&Seen> = [asked].into_iter().chain(copies.iter().copied()).collect();
        for requirement in [FORWARDS, ECM_TO_ETR] {
            findings.check(
                requirement,
                right,
                &packets,
                format!(
                    "an Encapsulated Map-Request to port 4342 of one of {}",
                    words::listed(LOCATORS)
                ),
                said.clone(),
            );
        }
        if [IPV6_INSIDE, IPV6_OUTSIDE].contains(&nonce) {
            let what = if nonce == IPV6_INSIDE {
                "IPv6 in IPv4"
            } else {
                "IPv4 in IPv6"
            };
            findings.check(
                FAMILIES,
                right,
                &packets,
                format!("{what}: understood and handed on"),
                said.clone(),
            );
        }
        findings.check(
            ONCE,
            copies.len() == 1,
            &packets,
            "exactly one copy",
            format!("{} copies", copies.len()),
        );
        if let Some(copy) = copies.first() {
            let (sent, got) = (inside(asked), inside(copy));
            findings.check(
                UNALTERED,
                sent.is_some() && sent == got,
                [asked, copy],
                "the same inner source port, and every octet of the Map-Request as it came",
                difference(sent, got),
            );
        }
    }
}

/// Encapsulated, from the box to port 4342 of an ETR.
fn is_right(trace: &Trace, copy: &Seen) -> bool {
    let to = copy.destination();
    copy.ecm().is_some()
        && to.is_some_and(|to| LOCATORS.map(ip).contains(&to))
        && copy
            .source()
            .is_some_and(|from| trace.has_address(MSMR, from))
        && copy
            .udp()
            .is_some_and(|udp| udp.destination_port == lisp::CONTROL_PORT)
}

/// Inner source port and the octets of the Map-Request.
fn inside(packet: &Seen) -> Option<(u16, Vec<u8>)> {
    let Some(ControlMessage::Encapsulated(ecm)) = packet.control() else {
        return None;
    };
    let inner = crate::decode::ip(&ecm.inner)?;
    let udp = inner.udp()?;
    Some((udp.source_port, udp.payload.clone()))
}

fn difference(sent: Option<(u16, Vec<u8>)>, got: Option<(u16, Vec<u8>)>) -> String {
    match (sent, got) {
        (Some((port, _)), Some((other, _))) if port != other => {
            format!("inner source port {other} instead of {port}")
        }
        (Some((_, sent)), Some((_, got))) => {
            let at = sent.iter().zip(&got).position(|(a, b)| a != b);
            match at {
                Some(at) => format!("octet {at}: {:#04x} instead of {:#04x}", got[at], sent[at]),
                None if sent.len() != got.len() => {
                    format!("{} octets instead of {}", got.len(), sent.len())
                }
                None => "the same".to_owned(),
            }
        }
        _ => "no Map-Request inside".to_owned(),
    }
}

/// The texts do not say which ETR it is, nor that they take turns (RFC 6833 4.3).
fn says_which(trace: &Trace, findings: &mut Findings) {
    let handed: Vec<&Seen> = TURNS
        .into_iter()
        .flat_map(|nonce| copies(trace, nonce))
        .collect();
    let turns: Vec<String> = handed
        .iter()
        .filter_map(|copy| Some(trace.node_of(copy.destination()?)?.to_owned()))
        .collect();
    findings.recorded(WHICH, &handed, format!("handed to {}", turns.join(", ")));
}

fn strange_forms(trace: &Trace, findings: &mut Findings) {
    let bare = copies(trace, WITHOUT_ECM);
    let replies = replies(trace, WITHOUT_ECM);
    let said = match (bare.first(), replies.first()) {
        (Some(copy), _) => copy.summary(),
        (None, Some(reply)) => reply.summary(),
        (None, None) => "dropped".to_owned(),
    };
    findings.recorded(BARE, &bare, format!("a bare Map-Request: {said}"));

    let (Some(asked), Some(fence)) = (
        asked_with_s_bit(trace),
        copies(trace, FENCE).first().copied(),
    ) else {
        return findings.unseen(S_BIT, "the message with S = 1, and the question after it");
    };
    let expected = "it is dropped or goes on as it came, and the next question is dealt with";
    match copies(trace, WITH_S_BIT).first() {
        None => findings.met(S_BIT, [asked, fence], "dropped; the next question went on"),
        Some(copy) => {
            let message = ControlMessage::MapRequest(question(WITH_S_BIT, "10.1.0.10/32"));
            let unaltered = inside(copy) == Some((INNER_PORT, message.to_vec()));
            findings.check(S_BIT, unaltered, [asked, *copy], expected, copy.summary());
        }
    }
}

fn asked_with_s_bit(trace: &Trace) -> Option<&Seen> {
    trace.received_by(MSMR).find(|packet| {
        matches!(packet.control(), Some(ControlMessage::Encapsulated(ecm)) if ecm.security)
    })
}

/// LISP-SEC authentication data (RFC 9303 6.1): AD Type 1, a wrapped key of 24 octets, an EID-AD of 8.
fn authentication_data() -> Vec<u8> {
    let mut data = vec![1, 0, 0, 1];
    data.extend([0, 24, 1, 1]);
    data.extend([0xa5; 24]);
    data.extend([0, 8, 0, 1, 0, 0, 0, 1]);
    data
}
