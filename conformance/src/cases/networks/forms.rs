//! Dual-stack sites that register, ask, answer and talk, while one thing at a time is wrong with what a box sends: what
//! every trace is looked at for, whatever its case is about, does turn red.

use std::net::Ipv4Addr;

use lisp::wire::{Action, ControlMessage, Ecm, EcmInner, Locator, MapRecord};
use lisp::{Address, CONTROL_PORT, EidPrefix};

use crate::case::Case;
use crate::cases::common::{
    edit_outgoing, ip, key, lengthen_data, lose_outgoing, outgoing, replies, reply, requests,
    seconds,
};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::{Frame, Sabotage, Tamper};
use crate::trace::{Seen, Trace};

/// Rows of invariants.
macro_rules! rows {
    ($($id:literal),+) => {{
        const ROWS: &[Req] = &[$(Req::new($id)),+];
        ROWS
    }};
}

const DELIVERED: Req = Req::new("rfc6830-3-etr-decap");

const HOSTS: [(&str, &str); 2] = [
    ("10.1.0.10", "10.4.0.10"),
    ("2001:db8:a::10", "2001:db8:4::10"),
];
/// The core marks these as congested (ECT(0)).
const CAPABLE: u8 = 2;
const PORT: u16 = 61_009;

inventory::submit! {
    Case {
        id: "rfc6830::s6_1::sites_that_register_ask_and_talk_keep_to_the_forms",
        title: "Two dual-stack sites register, ask for each other and talk, over a core that marks congestion; all that they send is well formed.",
        topology: "dual-stack",
        settings: &[
            ("xtr-a", "data-plane: {offload: false}"),
            ("xtr-4", "data-plane: {offload: false}"),
        ],
        roles: &["itr", "etr", "ms", "mr"],
        requirements: &[DELIVERED],
        drive,
        judges: &[judge],
        sabotages: &[
            at_site("delivers nothing", &[DELIVERED], || lose_outgoing(is_marked)),
            // Addresses.
            by_a("registers an EID as locator", rows!["rfc6830-3-eid-not-rloc"], || {
                registers(|record| record.locators[0].rloc = Address::from(ip("10.1.0.10")))
            }),
            by_a("registers a broadcast address", rows!["rfc6830-6.1.4-loc-validity"], || {
                registers(|record| record.locators[0].rloc = Address::from(Ipv4Addr::BROADCAST))
            }),
            by_a("names somebody else's ITR-RLOC", rows!["rfc6830-6.1.2-itr-rloc-own"], || {
                requests(|request| request.itr_rlocs.push(Address::from(ip("192.0.2.77"))))
            }),
            // Control messages.
            by_a("sends control messages without a checksum", rows!["rfc6830-6.1-control-cksum-tx", "rfc6830-6.1.8-outer"], || {
                edit_outgoing(|frame| {
                    if frame.control().is_some() {
                        frame.edit_ip(|_, payload| {
                            payload[6..8].fill(0);
                            true
                        });
                    }
                })
            }),
            by_a("sends more than the message", rows!["rfc6830-6.1-control-len"], || payload(|octets| octets.extend([0; 4]))),
            by_a("sends an unknown type", rows!["rfc6830-6.1.1-types"], || payload(|octets| octets[0] |= 0xf0)),
            by_a("asks at another port", rows!["rfc6830-6.1-mreq-ports"], asks_at_4343),
            by_a("registers at another port", rows!["rfc6830-6.1.6-ports"], || {
                from_4342(|message| matches!(message, ControlMessage::MapRegister(_)))
            }),
            by_server("notifies at another port", rows!["rfc6830-6.1.7-ports"], || {
                from_4342(|message| matches!(message, ControlMessage::MapNotify(_)))
            }),
            by_4("answers at another port", rows!["rfc6830-6.1-mrep-ports"], || {
                from_4342(|message| matches!(message, ControlMessage::MapReply(_)))
            }),
            by_a("sets a reserved bit of Map-Requests", rows!["rfc6830-6.1.2-reserved"], || requests(|request| request.reserved = 1)),
            by_4("sets a reserved bit of Map-Replies", rows!["rfc6830-6.1.4-reserved"], || replies(|reply| reply.reserved = 1)),
            by_a("sets a reserved bit of Map-Registers", rows!["rfc6830-6.1.6-reserved"], || outgoing(|message| match message {
                ControlMessage::MapRegister(register) => {
                    register.reserved = 1;
                    true
                }
                _ => false,
            })),
            by_a("cuts the authentication data", rows!["rfc6830-6.1.6-auth-len"], || outgoing(|message| match message {
                ControlMessage::MapRegister(register) => {
                    register.auth.data.truncate(12);
                    true
                }
                _ => false,
            })),
            // Encapsulated Control Messages.
            by_a("sets a reserved bit of Encapsulated Control Messages", rows!["rfc6830-6.1.8-reserved"], || ecms(|ecm| ecm.reserved = 1)),
            by_a("asks at another port inside", rows!["rfc6830-6.1.8-inner-ports"], || inside(|inner| inner.destination_port = 4343)),
            by_a("asks from the data port inside", rows!["rfc6830-6.1.8-no-4341"], || inside(|inner| inner.source_port = lisp::DATA_PORT)),
            by_a("asks without a checksum inside", rows!["rfc6830-6.1.8-inner-cksum"], || ecms(|ecm| {
                let header = if ecm.inner[0] >> 4 == 4 { 20 } else { 40 };
                ecm.inner[header + 6..header + 8].fill(0);
            })),
            by_a("encapsulates a Map-Reply", rows!["rfc6830-6.1.8-only-mreq"], || inside(|inner| {
                *inner.message = ControlMessage::MapReply(reply(7, Vec::new()));
            })),
            by_a("encapsulates a probe", rows!["rfc6830-6.1.8-no-probe-in-ecm"], || requests(|request| request.probe = true)),
            // Nonces.
            by_a("asks with one nonce", rows!["rfc6830-6.1.2-nonce-random"], || requests(|request| request.nonce = 0x1234_5678_9abc_def0)),
            by_4("answers with another nonce", rows!["rfc6830-6.1.4-nonce-echo"], || replies(|reply| reply.nonce ^= 1)),
            // Records.
            by_4("sets ACT beside locators", rows!["rfc6830-6.1.4-act-tx0"], || records(|record| record.action = Action::Drop)),
            by_4("sets an unused flag of locators", rows!["rfc6830-6.1.4-loc-flags-reserved"], || locators(|locator| locator.reserved = 1)),
            by_a("registers a probed locator", rows!["rfc6830-6.1.4-p-bit-never"], || registers(|record| record.locators[0].probed = true)),
            by_a("registers locators in another order", rows!["rfc6830-6.1.5-loc-sorted"], || registers(|record| record.locators.reverse())),
            by_4("gives overlapping prefixes different times", rows!["rfc6830-6.1.5-same-ttl"], || replies(|reply| {
                if let Some(first) = reply.records.first().cloned() {
                    let inside = MapRecord { eid_mask_len: first.eid_mask_len + 1, ttl: first.ttl + 1, ..first };
                    reply.records.push(inside);
                }
            })),
            by_4("answers about something else", rows!["rfc6830-6.1.5-prefix-cover"], || records(|record| {
                let other = if record.eid_mask_len > 32 { "2001:db8:99::/48" } else { "10.99.0.0/24" };
                let other: EidPrefix = crate::cases::common::prefix(other);
                (record.eid, record.eid_mask_len) = (other.to_address(), other.prefix.prefix_len());
            })),
            by_4("answers the Map-Server", rows!["rfc6830-6.1.5-dst-itr-rloc"], || edit_outgoing(|frame| {
                if matches!(frame.control(), Some(ControlMessage::MapReply(_))) {
                    frame.edit_addresses(|header| {
                        if let lisp::ip::IpHeader::V4(v4) = header {
                            v4.destination = Ipv4Addr::new(198, 51, 100, 10);
                        }
                        true
                    });
                }
            })),
            // Data.
            by_a("puts a wrong checksum on data", rows!["rfc6830-5.3-cksum-zero-tx", "rfc6830-5.3-cksum-nonzero-tx"], || {
                outer(|_, udp| udp[6..8].copy_from_slice(&[0x12, 0x34]))
            }),
            by_a("puts a TTL of its own on data", rows!["rfc6830-5.3-ttl-copy-encap"], || outer(|header, _| header.ttl = 9)),
            by_a("puts a DSCP of its own on data", rows!["rfc6830-5.3-tos-copy-encap"], || outer(|header, _| header.traffic_class |= 0x40)),
            by_a("takes the ECN off data", rows!["rfc6830-5.3-ecn-encap"], || outer(|header, _| header.traffic_class &= !3)),
            by_a("makes data longer than it is", rows!["rfc6830-5.3-udplen-v4", "rfc6830-5.3-udplen-v6"], || edit_outgoing(lengthen_data)),
            by_a("leaves something in an unused word", rows!["rfc6830-5.3-l0-word-zero"], || outer(|_, udp| {
                udp[8] &= !0x48;
                udp[12..16].copy_from_slice(&[0, 0, 0, 1]);
            })),
            by_a("sets a reserved flag of data", rows!["rfc6830-5.3-flags-tx0"], || outer(|_, udp| udp[8] |= 1)),
            at_site("raises the TTL of what it decapsulates", rows!["rfc6830-5.3-ttl-decap-no-increase", "rfc6830-5.3-ttl-decap-min"], || {
                delivered(|header| match header {
                    lisp::ip::IpHeader::V4(v4) => v4.ttl = 200,
                    lisp::ip::IpHeader::V6(v6) => v6.hop_limit = 200,
                })
            }),
            at_site("forgets the congestion on the way", rows!["rfc6830-5.3-ecn-decap-ce"], || {
                delivered(|header| match header {
                    lisp::ip::IpHeader::V4(v4) => v4.traffic_class &= !1,
                    lisp::ip::IpHeader::V6(v6) => v6.traffic_class &= !1,
                })
            }),
        ],
        ..Case::BASE
    }
}

const fn by_a(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    of("xtr-a", &["core-a"], name, kills, tamper)
}

const fn by_4(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    of("xtr-4", &["core-4"], name, kills, tamper)
}

const fn at_site(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    of("xtr-4", &["site-4"], name, kills, tamper)
}

const fn by_server(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    of("msmr", &[], name, kills, tamper)
}

const fn of(
    node: &'static str,
    links: &'static [&'static str],
    name: &'static str,
    kills: &'static [Req],
    tamper: fn() -> Tamper,
) -> Sabotage {
    Sabotage {
        name,
        node,
        links,
        kills,
        tamper,
    }
}

/// Changes each record of Map-Replies.
fn records(change: fn(&mut MapRecord)) -> Tamper {
    replies(move |reply| reply.records.iter_mut().for_each(change))
}

/// Changes each locator of Map-Replies.
fn locators(change: fn(&mut Locator)) -> Tamper {
    replies(move |reply| {
        let locators = reply.records.iter_mut().flat_map(|r| &mut r.locators);
        locators.for_each(change);
    })
}

/// Changes each record of Map-Registers, and signs them again.
fn registers(change: fn(&mut MapRecord)) -> Tamper {
    edit_outgoing(move |frame| {
        frame.edit_signed(&key("key-of-site-a"), |message| match message {
            ControlMessage::MapRegister(register) => {
                let records = register.records.iter_mut();
                // A withdrawal has none.
                let with_locators = records.filter(|record| !record.locators.is_empty());
                with_locators.for_each(change);
                true
            }
            _ => false,
        });
    })
}

/// Changes the octets of control messages.
fn payload(change: fn(&mut Vec<u8>)) -> Tamper {
    edit_outgoing(move |frame| {
        if frame.control().is_some() {
            frame.edit_udp(|_, octets| {
                change(octets);
                true
            });
        }
    })
}

/// Sends some messages from port 4342 to a port where nobody waits for them.
fn from_4342(which: fn(&ControlMessage) -> bool) -> Tamper {
    edit_outgoing(move |frame| {
        if frame.control().as_ref().is_some_and(which) {
            frame.edit_udp_ports(|ports, _| {
                *ports = (CONTROL_PORT, 4343);
                true
            });
        }
    })
}

/// Takes Map-Requests out of their Encapsulated Control Messages, and sends them from port 4342 to another one.
fn asks_at_4343() -> Tamper {
    edit_outgoing(|frame| {
        frame.edit_udp_ports(|ports, octets| match ControlMessage::parse(octets) {
            Ok(ControlMessage::Encapsulated(ecm)) => {
                let bare = ecm.decode_inner().map(|inner| inner.message.to_vec());
                *ports = (CONTROL_PORT, 4343);
                bare.map(|bare| *octets = bare).is_ok()
            }
            _ => false,
        });
    })
}

fn ecms(change: fn(&mut Ecm)) -> Tamper {
    edit_outgoing(move |frame| {
        frame.edit_udp(|_, octets| match ControlMessage::parse(octets) {
            Ok(ControlMessage::Encapsulated(mut ecm)) => {
                change(&mut ecm);
                *octets = ControlMessage::Encapsulated(ecm).to_vec();
                true
            }
            _ => false,
        });
    })
}

/// Changes what Encapsulated Control Messages hold.
fn inside(change: fn(&mut EcmInner)) -> Tamper {
    edit_outgoing(move |frame| {
        frame.edit_ecm(|inner| {
            change(inner);
            true
        });
    })
}

/// Changes the outer IPv4 header of data packets, and what follows it from the UDP header on.
fn outer(change: fn(&mut lisp::ip::Ipv4Header, &mut Vec<u8>)) -> Tamper {
    edit_outgoing(move |frame| {
        frame.edit_ip(|header, udp| match header {
            lisp::ip::IpHeader::V4(header)
                if udp.len() > 16 && udp[2..4] == lisp::DATA_PORT.to_be_bytes() =>
            {
                change(header, udp);
                true
            }
            _ => false,
        });
    })
}

/// Changes the headers of the marked packets.
fn delivered(change: fn(&mut lisp::ip::IpHeader)) -> Tamper {
    edit_outgoing(move |frame| {
        if is_marked(frame) {
            frame.edit_ip(|header, _| {
                change(header);
                true
            });
        }
    })
}

fn is_marked(frame: &Frame<'_>) -> bool {
    let ip = frame.ip();
    let udp = ip.as_ref().and_then(|ip| ip.udp());
    udp.is_some_and(|udp| udp.destination_port == PORT)
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-a", "xtr-4"], seconds(5))?;
    for (sequence, (_, to)) in (1..).zip(HOSTS) {
        drive.ping("host-a", ip(to), sequence, seconds(1))?;
    }
    let host = drive.peer("host-a")?;
    let begin = drive.mark("packets that can be marked");
    for (from, to) in HOSTS {
        let packet = lisp::ip::udp_packet(ip(from), ip(to), PORT, PORT, 64, &[0x5a; 32]);
        host.send(&capable(packet))?;
        let what = format!("a packet to {to} at host-4");
        drive.wait_for(begin, &what, seconds(5), |packet| {
            packet.receiver() == Some("host-4") && packet.destination() == Some(ip(to))
        })?;
    }
    Ok(())
}

/// A packet that a router may mark instead of dropping it.
fn capable(packet: Vec<u8>) -> Vec<u8> {
    let Ok(parsed) = lisp::ip::IpPacket::parse(&packet) else {
        return packet;
    };
    let mut header = parsed.header;
    match &mut header {
        lisp::ip::IpHeader::V4(v4) => v4.traffic_class = CAPABLE,
        lisp::ip::IpHeader::V6(v6) => v6.traffic_class = CAPABLE,
    }
    header.emit(parsed.payload)
}

fn judge(trace: &Trace, findings: &mut Findings) {
    for (_, to) in HOSTS {
        let marked = |ip: &crate::decode::Ip| {
            ip.destination == self::ip(to)
                && ip.udp().is_some_and(|udp| udp.destination_port == PORT)
        };
        let sent: Option<&Seen> = trace
            .received_by("xtr-4")
            .find(|packet| packet.data().is_some_and(|(_, inner)| marked(inner)));
        let Some(sent) = sent else {
            findings.unseen(DELIVERED, format!("a data packet for {to} at xtr-4"));
            continue;
        };
        let out = trace
            .received_by("host-4")
            .find(|packet| packet.ip().is_some_and(marked));
        findings.check(
            DELIVERED,
            out.is_some(),
            out.unwrap_or(sent),
            format!("delivered to {to}"),
            out.map_or("not delivered".to_owned(), Seen::summary),
        );
    }
}
