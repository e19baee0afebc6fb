//! The SMR lab without and with a PETR.

use super::ends::{
    NATIVE, RECOVERS, REGISTERS, USES_PETR, forwards_natively, forwards_to_the_petr, recovers,
};
use super::sabotages::{
    A_QUARTER_OF_AN_HOUR, ANSWERS, ASKS_ONCE, ASKS_THE_SOLICITOR, DROPS_THE_NATIVE, FORGETS,
    NO_RETURN, SAME_NONCE, SENDS_ON, SOLICITS_WITH_A_PROBE, STAYS_WITH_THE_RESOLVER,
    SWALLOWS_THE_SMR, WITHOUT_S, carried, is_recovery, of_sender,
};
use super::steps::{
    AWAY, KEEP, NO_REPLY, NONCE, REACT, S_BIT, SINGLE, SMR, UNREGISTERED, asks_again, is_told,
    solicits,
};
use super::{Loss, PROXY, story};
use crate::case::Case;
use crate::cases::common::{edit_outgoing, seconds};
use crate::cases::interworking::untunnel;

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
            ANSWERS, SAME_NONCE, ASKS_THE_SOLICITOR, WITHOUT_S, ASKS_ONCE, STAYS_WITH_THE_RESOLVER, SENDS_ON,
            DROPS_THE_NATIVE, FORGETS, NO_RETURN, A_QUARTER_OF_AN_HOUR, SOLICITS_WITH_A_PROBE,
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
                if frame.ip().is_some_and(|ip| ip.destination == crate::cases::common::ip(PROXY)) {
                    untunnel(frame);
                }
            })),
            ANSWERS, SAME_NONCE, ASKS_THE_SOLICITOR, WITHOUT_S, ASKS_ONCE, SENDS_ON, FORGETS, A_QUARTER_OF_AN_HOUR,
            SWALLOWS_THE_SMR,
            of_sender("stays with the PETR", &[RECOVERS], || edit_outgoing(|frame| {
                if carried(frame).is_some_and(is_recovery) {
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
