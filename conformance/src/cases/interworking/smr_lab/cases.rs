//! The SMR lab without and with a PETR.

use lisp::wire::{Action, ControlMessage};

use super::ends::{
    NATIVE, RECOVERS, REGISTERS, USES_PETR, forwards_natively, forwards_to_the_petr, recovers,
};
use super::steps::{
    AWAY, KEEP, NO_REPLY, NONCE, REACT, S_BIT, SINGLE, SMR, UNREGISTERED, asks_again, is_told,
    solicits,
};
use super::{FAMILIES, Loss, OLD, PROXY, Ping, story};
use crate::case::Case;
use crate::cases::common::{
    edit_incoming, edit_outgoing, ip, lose_outgoing, outgoing, reply, seconds, udp,
};
use crate::cases::interworking::{inner, is_data, untunnel};
use crate::sabotage::{Frame, Sabotage, Tamper};

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_2::a_prefix_without_an_interface_is_solicited_away",
        title: "Data without a route makes an SMR; the sender asks the old resolver at 0, 1 and 3 s, then the new one, learns that nobody is registered, forwards natively, and uses the tunnel again when the interface is back.",
        topology: "smr-lab",
        roles: &["itr", "etr", "ms", "mr"],
        requirements: &[
            SMR, AWAY, NO_REPLY, REACT, NONCE, SINGLE, S_BIT, KEEP, UNREGISTERED, NATIVE, REGISTERS, RECOVERS,
        ],
        timeout: seconds(120),
        drive: |drive| story(drive, Loss::Interface),
        judges: &[solicits, asks_again, is_told, forwards_natively, recovers],
        sabotages: &[
            Sabotage {
                name: "answers the SMR",
                node: "xtr-2",
                links: &["access-2"],
                kills: &[NO_REPLY],
                tamper: answers_smrs,
            },
            of_sender("asks with the nonce of the SMR", &[NONCE], nonce_of_the_smr),
            of_sender("asks the solicitor", &[SINGLE], asks_the_solicitor),
            of_sender("asks without the s bit", &[S_BIT], || outgoing(|message| match message {
                ControlMessage::MapRequest(request) => {
                    request.smr_invoked = false;
                    true
                }
                _ => false,
            })),
            of_sender("asks a silent resolver once", &[REACT], || {
                let mut asked = 0;
                Box::new(move |way, frame| {
                    use harness::inline::{PacketFate, Way};
                    let silent = frame.ip().is_some_and(|ip| ip.destination == self::ip(OLD));
                    let again = way == Way::FromVictim && silent && invoked(frame);
                    asked += u32::from(again);
                    // One for each family.
                    if again && asked > 2 { PacketFate::Drop } else { PacketFate::Forward }
                })
            }),
            of_sender("stays with the silent resolver", &[REACT], || Box::new(|way, frame| {
                if way == harness::inline::Way::FromVictim && invoked(frame) {
                    frame.edit_addresses(|header| {
                        if let lisp::ip::IpHeader::V4(v4) = header
                            && v4.destination == std::net::Ipv4Addr::new(198, 51, 100, 130)
                        {
                            v4.destination = std::net::Ipv4Addr::new(198, 51, 100, 10);
                        }
                        true
                    });
                }
                harness::inline::PacketFate::Forward
            })),
            Sabotage {
                name: "sends on what has no route",
                node: "xtr-1",
                links: &["access-1"],
                kills: &[AWAY],
                tamper: sends_on,
            },
            of_sender("drops what it should forward natively", &[NATIVE], || edit_incoming(|frame| {
                frame.edit_control(|message| match message {
                    ControlMessage::MapReply(reply) => {
                        reply.records.iter_mut().filter(|r| r.locators.is_empty()).for_each(|r| r.action = Action::Drop);
                        true
                    }
                    _ => false,
                });
            })),
            of_sender("forgets the mapping as soon as it is solicited", &[KEEP], || edit_outgoing(|frame| {
                if FAMILIES.iter().any(|family| carried(frame) == Some(Ping::Request(family.while_asking()))) {
                    untunnel(frame);
                }
            })),
            of_sender("does not return into the tunnel", &[RECOVERS], || edit_outgoing(|frame| {
                let late = |ping: Ping| FAMILIES.iter().any(|f| f.recovery().any(|s| Ping::Request(s) == ping));
                if carried(frame).is_some_and(late) {
                    untunnel(frame);
                }
            })),
            Sabotage {
                name: "keeps unregistered prefixes for a quarter of an hour",
                node: "msmr-new",
                links: &[],
                kills: &[UNREGISTERED],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapReply(reply) => {
                        reply.records.iter_mut().for_each(|record| record.ttl = 15);
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "solicits with a probe",
                node: "xtr-1",
                links: &["access-1"],
                kills: &[SMR],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapRequest(request) if request.smr => {
                        request.probe = true;
                        true
                    }
                    _ => false,
                }),
            },
        ],
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_2::a_prefix_without_an_interface_is_left_to_the_petr",
        title: "As without a PETR; after the negative Map-Reply the sender's packets go to its PETR, in both families, and into the tunnel again when the interface is back.",
        topology: "smr-lab",
        // What is held goes out in one batch, with checksums where a kernel segments it.
        settings: &[("xtr-2", "{use-petr: [{address: 192.0.2.14}]}"), ("pxtr", "on-miss: drop")],
        roles: &["itr", "etr", "ms", "mr"],
        features: &["petr"],
        requirements: &[SMR, AWAY, NO_REPLY, REACT, NONCE, SINGLE, S_BIT, KEEP, UNREGISTERED, USES_PETR, REGISTERS, RECOVERS],
        timeout: seconds(120),
        drive: |drive| story(drive, Loss::Interface),
        judges: &[solicits, asks_again, is_told, forwards_to_the_petr, recovers],
        sabotages: &[
            of_sender("forgets the PETR", &[USES_PETR], || edit_outgoing(|frame| {
                if frame.ip().is_some_and(|ip| ip.destination == self::ip(PROXY)) {
                    untunnel(frame);
                }
            })),
            Sabotage {
                name: "swallows the SMR",
                node: "xtr-1",
                links: &["access-1"],
                kills: &[SMR],
                tamper: || lose_outgoing(|frame| matches!(
                    frame.control(),
                    Some(ControlMessage::MapRequest(request)) if request.smr
                )),
            },
            of_sender("stays with the PETR", &[RECOVERS], || edit_outgoing(|frame| {
                let late = |ping: Ping| FAMILIES.iter().any(|f| f.recovery().any(|s| Ping::Request(s) == ping));
                if carried(frame).is_some_and(late) {
                    frame.edit_addresses(|header| {
                        if let lisp::ip::IpHeader::V4(v4) = header {
                            v4.destination = std::net::Ipv4Addr::new(192, 0, 2, 14);
                        }
                        true
                    });
                }
            })),
        ],
        ..Case::BASE
    }
}

/// A sabotage of xTR 2, the site that sends.
const fn of_sender(
    name: &'static str,
    kills: &'static [crate::catalogue::Req],
    tamper: fn() -> Tamper,
) -> Sabotage {
    Sabotage {
        name,
        node: "xtr-2",
        links: &["access-2"],
        kills,
        tamper,
    }
}

/// The echo that a data packet carries.
pub(super) fn carried(frame: &Frame<'_>) -> Option<Ping> {
    is_data(frame)
        .then(|| inner(frame))
        .flatten()
        .and_then(|inner| crate::decode::ip(&inner))
        .and_then(|inner| Ping::of(&inner))
}

fn map_request(frame: &Frame<'_>) -> Option<lisp::wire::MapRequest> {
    let message = match frame.control()? {
        ControlMessage::Encapsulated(ecm) => *ecm.decode_inner().ok()?.message,
        other => other,
    };
    match message {
        ControlMessage::MapRequest(request) => Some(request),
        _ => None,
    }
}

fn invoked(frame: &Frame<'_>) -> bool {
    map_request(frame).is_some_and(|request| request.smr_invoked)
}

/// The data that arrives while the sender asks goes out again, without its tunnel, in the place of what is sent next.
pub(in crate::cases) fn sends_on() -> Tamper {
    let mut arrived: Option<Vec<u8>> = None;
    Box::new(move |way, frame| {
        use harness::inline::{PacketFate, Way};
        let asking = |ping| {
            let families = FAMILIES.iter();
            families
                .map(|f| Ping::Request(f.while_asking()))
                .any(|p| p == ping)
        };
        match way {
            Way::ToVictim => {
                if carried(frame).is_some_and(asking) {
                    let v4 = |inner: &Vec<u8>| inner.first().is_some_and(|octet| octet >> 4 == 4);
                    arrived = inner(frame).filter(v4).or(arrived.take());
                }
            }
            Way::FromVictim => {
                if frame
                    .ip()
                    .is_some_and(|packet| packet.destination.is_ipv4())
                    && let Some(inner) = arrived.take()
                {
                    frame.octets().truncate(14);
                    frame.octets().extend(inner);
                }
            }
        }
        PacketFate::Forward
    })
}

/// Each SMR that comes in goes out again as a Map-Reply, in the place of a Map-Request.
fn answers_smrs() -> Tamper {
    let mut solicited: Option<(lisp::wire::MapRequest, std::net::IpAddr)> = None;
    Box::new(move |way, frame| {
        use harness::inline::{PacketFate, Way};
        let request = map_request(frame);
        match way {
            Way::ToVictim => {
                if let (Some(request), Some(packet)) = (request, frame.ip())
                    && request.smr
                {
                    solicited = Some((request, packet.source));
                }
            }
            Way::FromVictim => {
                if request.is_some_and(|request| request.smr_invoked)
                    && let (Some((smr, solicitor)), Some(packet)) = (solicited.take(), frame.ip())
                {
                    let records = smr.records.iter().filter_map(|query| query.prefix());
                    let records = records
                        .map(|eid| lisp::wire::MapRecord::negative(eid, 1, Action::NoAction))
                        .collect();
                    let octets = reply(smr.nonce, records).to_vec();
                    let answer = udp((packet.source, 4342), (solicitor, 4342), &octets);
                    frame.octets().truncate(14);
                    frame.octets().extend(answer);
                }
            }
        }
        PacketFate::Forward
    })
}

/// What the SMR asked with is what the Map-Request asks with.
fn nonce_of_the_smr() -> Tamper {
    let mut nonce = None;
    Box::new(move |way, frame| {
        use harness::inline::{PacketFate, Way};
        if way == Way::ToVictim {
            if let Some(request) = map_request(frame)
                && request.smr
            {
                nonce = Some(request.nonce);
            }
        } else if let Some(nonce) = nonce {
            frame.edit_control(|message| match message {
                ControlMessage::MapRequest(request) if request.smr_invoked => {
                    request.nonce = nonce;
                    true
                }
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

/// The first Map-Request goes to the solicitor instead of the Map-Resolver.
fn asks_the_solicitor() -> Tamper {
    Box::new(move |way, frame| {
        if way == harness::inline::Way::FromVictim && invoked(frame) {
            frame.edit_addresses(|header| {
                if let lisp::ip::IpHeader::V4(v4) = header
                    && v4.destination == std::net::Ipv4Addr::new(198, 51, 100, 10)
                {
                    v4.destination = std::net::Ipv4Addr::new(192, 0, 2, 2);
                }
                true
            });
        }
        harness::inline::PacketFate::Forward
    })
}
