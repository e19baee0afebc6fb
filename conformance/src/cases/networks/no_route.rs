//! EID-Prefixes that an xTR cannot reach any more, or is not configured for any more, while another site sends to them
//! (RFC 6830 6.6.2; RFC 6833 4.1, 4.3). The steps are those of the SMR lab.

use lisp::wire::ControlMessage;

use crate::case::Case;
use crate::cases::common::{lose_outgoing, outgoing, seconds};
use crate::cases::interworking::smr_lab::cases::sends_on;
use crate::cases::interworking::smr_lab::ends::{
    NATIVE, RECOVERS, REGISTERS, forwards_natively, recovers,
};
use crate::cases::interworking::smr_lab::steps::{
    AWAY, KEEP, NO_REPLY, NONCE, REACT, S_BIT, SINGLE, SMR, UNREGISTERED, asks_again, is_told,
    solicits,
};
use crate::cases::interworking::smr_lab::{Loss, story};
use crate::catalogue::Req;
use crate::sabotage::Sabotage;

const STEPS: &[Req] = &[
    SMR,
    AWAY,
    NO_REPLY,
    REACT,
    NONCE,
    SINGLE,
    S_BIT,
    KEEP,
    UNREGISTERED,
    NATIVE,
    REGISTERS,
    RECOVERS,
];

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_2::a_prefix_without_a_route_is_solicited_away",
        title: "The site's routes to an EID-Prefix go: SMR, Map-Requests at 0, 1 and 3 s and at the next resolver, a negative reply for a minute, and recovery when the routes are back.",
        topology: "smr-lab",
        roles: &["itr", "etr", "ms", "mr"],
        requirements: STEPS,
        timeout: seconds(120),
        drive: |drive| story(drive, Loss::Route),
        judges: &[solicits, asks_again, is_told, forwards_natively, recovers],
        sabotages: SABOTAGES,
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_2::a_deconfigured_prefix_is_solicited_away",
        title: "An EID-Prefix is taken out of an xTR's configuration: SMR, Map-Requests at 0, 1 and 3 s and at the next resolver, a negative reply for a minute, and recovery when it is configured again.",
        topology: "smr-lab",
        roles: &["itr", "etr", "ms", "mr"],
        requirements: STEPS,
        timeout: seconds(120),
        drive: |drive| story(drive, Loss::Configuration),
        judges: &[solicits, asks_again, is_told, forwards_natively, recovers],
        sabotages: SABOTAGES,
        ..Case::BASE
    }
}

const SABOTAGES: &[Sabotage] = &[
    Sabotage {
        name: "sends on what has no route",
        node: "xtr-1",
        links: &["access-1"],
        kills: &[AWAY],
        tamper: sends_on,
    },
    Sabotage {
        name: "swallows the SMR",
        node: "xtr-1",
        links: &["access-1"],
        kills: &[SMR],
        tamper: || lose_outgoing(is_smr),
    },
    Sabotage {
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
    },
    Sabotage {
        name: "asks without the s bit",
        node: "xtr-2",
        links: &["access-2"],
        kills: &[S_BIT],
        tamper: || {
            outgoing(|message| match message {
                ControlMessage::MapRequest(request) => {
                    request.smr_invoked = false;
                    true
                }
                _ => false,
            })
        },
    },
];

fn is_smr(frame: &crate::sabotage::Frame<'_>) -> bool {
    matches!(frame.control(), Some(ControlMessage::MapRequest(request)) if request.smr)
}
