//! Sabotages of registration and resolution between two sites.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::Address;
use lisp::wire::{ControlMessage, MapNotify};

use super::two_sites::{
    A_BIT, ECM_TO_MR, ETR_DIRECT, HOST_MASK, INNER_DST, MS, MS_FORWARDS, MS_ONCE, MS_UNALTERED,
    NONCE_ECHO, NOTIFY_CONTENT, NOTIFY_DST, NOTIFY_MAC, NOTIFY_PORT, ONE_MISS, REGISTER_MAC,
    REGISTER_PORTS, SOURCE_EID, USES_MR, WANT_NOTIFY,
};
use crate::cases::common::{
    edit_outgoing, inner_addresses, lose_outgoing, outgoing, replies, requests, without_ecm,
};
use crate::catalogue::Req;
use crate::sabotage::{Frame, Sabotage, Tamper};

/// Of an ETR that registers, and a Map-Server that confirms.
pub(super) const REGISTRATION: &[Sabotage] = &[
    of_server("spoils the MAC of the Map-Notify", &[NOTIFY_MAC], || {
        notifies(|notify| notify.auth.data[0] ^= 1)
    }),
    of_server("swallows the Map-Notify", &[WANT_NOTIFY], || {
        lose_outgoing(is_notify)
    }),
    of_server("notifies the port that registered", &[NOTIFY_PORT], || {
        edit_outgoing(|frame| {
            if is_notify(frame) {
                to_port(frame, 50_000);
            }
        })
    }),
    of_server("notifies somebody else", &[NOTIFY_DST], || {
        edit_outgoing(|frame| {
            if is_notify(frame) {
                to(frame, [192, 0, 2, 77]);
            }
        })
    }),
    of_server("notifies another TTL", &[NOTIFY_CONTENT], || {
        notifies(|notify| notify.records.iter_mut().for_each(|record| record.ttl += 1))
    }),
    of_asker("registers at port 4343", &[REGISTER_PORTS], || {
        edit_outgoing(|frame| {
            if is_register(frame) {
                to_port(frame, 4343);
            }
        })
    }),
    of_asker(
        "spoils the MAC of the Map-Register",
        &[REGISTER_MAC],
        || {
            outgoing(|message| match message {
                ControlMessage::MapRegister(register) => {
                    register.auth.data[0] ^= 1;
                    true
                }
                _ => false,
            })
        },
    ),
];

/// Of an ITR that asks, a Map-Server that hands on, and an ETR that answers.
pub(super) const RESOLUTION: &[Sabotage] = &[
    of_asker("asks with a mask of 24 bits", &[HOST_MASK], || {
        requests(|request| request.records[0].mask_len = 24)
    }),
    of_asker("drops the source EID", &[SOURCE_EID], || {
        requests(|request| request.source_eid = Address::None)
    }),
    of_asker("asks without encapsulation", &[ECM_TO_MR], without_ecm),
    of_asker("asks at the other site", &[USES_MR], || {
        edit_outgoing(|frame| {
            if is_ecm(frame) {
                to(frame, [192, 0, 2, 6]);
            }
        })
    }),
    of_asker("addresses the Map-Resolver inside", &[INNER_DST], || {
        inner_addresses(|_, destination| {
            *destination = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10));
        })
    }),
    of_asker("asks twice", &[ONE_MISS], twice),
    of_server("hands nothing on", &[MS_FORWARDS], || lose_outgoing(is_ecm)),
    of_server("hands on twice", &[MS_ONCE], twice),
    of_server(
        "alters the nonce on its way through the Map-Server",
        &[MS_UNALTERED],
        || requests(|request| request.nonce ^= 1),
    ),
    of_answerer("clears the A bit of the Map-Reply", &[A_BIT], || {
        replies(|reply| {
            reply
                .records
                .iter_mut()
                .for_each(|record| record.authoritative = false);
        })
    }),
    of_answerer("answers with a nonce of its own", &[NONCE_ECHO], || {
        replies(|reply| reply.nonce ^= 1)
    }),
    of_answerer("answers the Map-Server", &[ETR_DIRECT], || {
        edit_outgoing(|frame| {
            if matches!(frame.control(), Some(ControlMessage::MapReply(_))) {
                to(frame, [198, 51, 100, 10]);
            }
        })
    }),
];

const fn of_server(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: MS,
        links: &[],
        kills,
        tamper,
    }
}

const fn of_asker(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: "xtr-a",
        links: &["core-a"],
        kills,
        tamper,
    }
}

const fn of_answerer(
    name: &'static str,
    kills: &'static [Req],
    tamper: fn() -> Tamper,
) -> Sabotage {
    Sabotage {
        name,
        node: "xtr-b",
        links: &["core-b"],
        kills,
        tamper,
    }
}

fn is_notify(frame: &Frame<'_>) -> bool {
    matches!(frame.control(), Some(ControlMessage::MapNotify(_)))
}

fn is_register(frame: &Frame<'_>) -> bool {
    matches!(frame.control(), Some(ControlMessage::MapRegister(_)))
}

fn is_ecm(frame: &Frame<'_>) -> bool {
    matches!(frame.control(), Some(ControlMessage::Encapsulated(_)))
}

fn to(frame: &mut Frame<'_>, address: [u8; 4]) {
    frame.edit_addresses(|header| {
        if let lisp::ip::IpHeader::V4(v4) = header {
            v4.destination = address.into();
        }
        true
    });
}

fn to_port(frame: &mut Frame<'_>, port: u16) {
    frame.edit_udp_ports(|ports, _| {
        ports.1 = port;
        true
    });
}

fn notifies(change: fn(&mut MapNotify)) -> Tamper {
    outgoing(move |message| match message {
        ControlMessage::MapNotify(notify) => {
            change(notify);
            true
        }
        _ => false,
    })
}

/// Every Encapsulated Control Message goes out twice.
fn twice() -> Tamper {
    Box::new(|way, frame| {
        if way == Way::FromVictim && is_ecm(frame) {
            PacketFate::Duplicate(Duration::ZERO)
        } else {
            PacketFate::Forward
        }
    })
}
