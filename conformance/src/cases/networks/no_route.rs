//! EID-Prefixes that an xTR cannot reach any more, or is not configured for any more, while another site sends to them
//! (RFC 6830 6.6.2; RFC 6833 4.1, 4.3). The steps are those of the SMR lab.

use crate::case::Case;
use crate::cases::common::seconds;
use crate::cases::interworking::smr_lab::ends::{
    NATIVE, RECOVERS, REGISTERS, forwards_natively, recovers,
};
use crate::cases::interworking::smr_lab::sabotages::{
    A_QUARTER_OF_AN_HOUR, ANSWERS, ASKS_ONCE, ASKS_THE_SOLICITOR, DROPS_THE_NATIVE, FORGETS,
    NO_RETURN, SAME_NONCE, SENDS_ON, SWALLOWS_THE_SMR, WITHOUT_S,
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
    SENDS_ON,
    SWALLOWS_THE_SMR,
    ANSWERS,
    ASKS_ONCE,
    SAME_NONCE,
    ASKS_THE_SOLICITOR,
    WITHOUT_S,
    FORGETS,
    A_QUARTER_OF_AN_HOUR,
    DROPS_THE_NATIVE,
    NO_RETURN,
];
