//! Sabotages of the SMR lab, for every case that goes its way.

use harness::inline::{PacketFate, Way};
use lisp::wire::{Action, ControlMessage};

use super::ends::{NATIVE, RECOVERS};
use super::steps::{AWAY, KEEP, NO_REPLY, NONCE, REACT, S_BIT, SINGLE, SMR, UNREGISTERED};
use super::{FAMILIES, OLD, Ping};
use crate::cases::common::{edit_incoming, edit_outgoing, ip, lose_outgoing, outgoing, reply, udp};
use crate::cases::interworking::{inner, is_data, untunnel};
use crate::sabotage::{Frame, Sabotage, Tamper};

/// Of the site that is solicited.
pub(in crate::cases) const ANSWERS: Sabotage =
    of_sender("answers the SMR", &[NO_REPLY], answers_smrs);
pub(in crate::cases) const SAME_NONCE: Sabotage =
    of_sender("asks with the nonce of the SMR", &[NONCE], nonce_of_the_smr);
pub(in crate::cases) const ASKS_THE_SOLICITOR: Sabotage =
    of_sender("asks the solicitor", &[SINGLE], asks_the_solicitor);
pub(in crate::cases) const WITHOUT_S: Sabotage =
    of_sender("asks without the s bit", &[S_BIT], without_s);
pub(in crate::cases) const ASKS_ONCE: Sabotage =
    of_sender("asks a silent resolver once", &[REACT], || {
        let mut asked = 0;
        Box::new(move |way, frame| {
            let silent = frame
                .ip()
                .is_some_and(|packet| packet.destination == ip(OLD));
            let again = way == Way::FromVictim && silent && invoked(frame);
            asked += u32::from(again);
            // One for each family.
            if again && asked > 2 {
                PacketFate::Drop
            } else {
                PacketFate::Forward
            }
        })
    });
pub(in crate::cases) const STAYS_WITH_THE_RESOLVER: Sabotage =
    of_sender("stays with the silent resolver", &[REACT], || {
        invoked_to([198, 51, 100, 130], [198, 51, 100, 10])
    });
pub(in crate::cases) const FORGETS: Sabotage = of_sender(
    "forgets the mapping as soon as it is solicited",
    &[KEEP],
    || {
        edit_outgoing(|frame| {
            let mut asking = FAMILIES.iter().map(|family| family.while_asking());
            if asking.any(|sequence| carried(frame) == Some(Ping::Request(sequence))) {
                untunnel(frame);
            }
        })
    },
);
pub(in crate::cases) const DROPS_THE_NATIVE: Sabotage =
    of_sender("drops what it should forward natively", &[NATIVE], || {
        edit_incoming(|frame| {
            frame.edit_control(|message| match message {
                ControlMessage::MapReply(reply) => {
                    let negative = reply.records.iter_mut().filter(|r| r.locators.is_empty());
                    negative.for_each(|record| record.action = Action::Drop);
                    true
                }
                _ => false,
            });
        })
    });
pub(in crate::cases) const NO_RETURN: Sabotage =
    of_sender("does not return into the tunnel", &[RECOVERS], || {
        edit_outgoing(|frame| {
            if carried(frame).is_some_and(is_recovery) {
                untunnel(frame);
            }
        })
    });
/// Of the site whose prefixes are gone.
pub(in crate::cases) const SENDS_ON: Sabotage = Sabotage {
    name: "sends on what has no route",
    node: "xtr-1",
    links: &["access-1"],
    kills: &[AWAY],
    tamper: sends_on,
};
pub(in crate::cases) const SWALLOWS_THE_SMR: Sabotage = Sabotage {
    name: "swallows the SMR",
    node: "xtr-1",
    links: &["access-1"],
    kills: &[SMR],
    tamper: || {
        lose_outgoing(
            |frame| matches!(frame.control(), Some(ControlMessage::MapRequest(request)) if request.smr),
        )
    },
};
pub(in crate::cases) const SOLICITS_WITH_A_PROBE: Sabotage = Sabotage {
    name: "solicits with a probe",
    node: "xtr-1",
    links: &["access-1"],
    kills: &[SMR],
    tamper: || {
        outgoing(|message| match message {
            ControlMessage::MapRequest(request) if request.smr => {
                request.probe = true;
                true
            }
            _ => false,
        })
    },
};
/// Of the Map-Server.
pub(in crate::cases) const A_QUARTER_OF_AN_HOUR: Sabotage = Sabotage {
    name: "keeps unregistered prefixes for a quarter of an hour",
    node: "msmr-new",
    links: &[],
    kills: &[UNREGISTERED],
    tamper: || {
        outgoing(|message| match message {
            ControlMessage::MapReply(reply) => {
                reply.records.iter_mut().for_each(|record| record.ttl = 15);
                true
            }
            _ => false,
        })
    },
};

/// What was sent after the prefixes came back.
pub(super) fn is_recovery(ping: Ping) -> bool {
    let mut families = FAMILIES.iter();
    families.any(|family| {
        family
            .recovery()
            .any(|sequence| Ping::Request(sequence) == ping)
    })
}

/// A sabotage of xTR 2, the site that sends.
pub(super) const fn of_sender(
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
fn sends_on() -> Tamper {
    let mut arrived: Option<Vec<u8>> = None;
    Box::new(move |way, frame| {
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
pub(in crate::cases) fn answers_smrs() -> Tamper {
    let mut solicited: Option<(lisp::wire::MapRequest, std::net::IpAddr)> = None;
    Box::new(move |way, frame| {
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
    invoked_to([198, 51, 100, 10], [192, 0, 2, 2])
}

/// SMR-invoked Map-Requests to one address go to another one.
fn invoked_to(from: [u8; 4], to: [u8; 4]) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim && invoked(frame) {
            frame.edit_addresses(|header| {
                if let lisp::ip::IpHeader::V4(v4) = header
                    && v4.destination.octets() == from
                {
                    v4.destination = to.into();
                }
                true
            });
        }
        PacketFate::Forward
    })
}

/// Map-Requests do not say that an SMR invoked them.
pub(in crate::cases) fn without_s() -> Tamper {
    outgoing(|message| match message {
        ControlMessage::MapRequest(request) => {
            request.smr_invoked = false;
            true
        }
        _ => false,
    })
}
