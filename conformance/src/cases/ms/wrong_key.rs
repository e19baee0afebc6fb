//! A registration with a wrong key changes nothing (RFC 6830 6.1.6; RFC 6833 4.2).

use lisp::wire::{ControlMessage, MapRegister};

use crate::case::Case;
use crate::cases::common::{
    edit_incoming, is_notify, key, locator, outgoing, record, register, seconds,
};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;

const NO_NOTIFY: Req = Req::new("rfc6833-4.2-no-notify-bad-auth");
const NOTIFY: Req = Req::new("rfc6833-4.2-want-notify");

const WRONG: u64 = 0x6261_6400_0000_0001;
const FENCE: u64 = 0x676f_6f64_0000_0002;

inventory::submit! {
    Case {
        id: "rfc6833::s4_2::wrong_key_is_not_notified",
        title: "A Map-Register with a wrong MAC is not confirmed; a right one after it is.",
        topology: "one-msmr",
        roles: &["ms"],
        requirements: &[NO_NOTIFY, NOTIFY],
        drive,
        judges: &[judge],
        sabotages: &[
            Sabotage {
                name: "accepts a wrong MAC",
                node: "msmr",
                links: &[],
                kills: &[NO_NOTIFY],
                // The bad message is made right on its way in.
                tamper: || edit_incoming(|frame| {
                    frame.edit_signed(&key("key-of-site-a"), |message| matches!(message, ControlMessage::MapRegister(_)));
                }),
            },
            Sabotage {
                name: "notifies with another nonce",
                node: "msmr",
                links: &[],
                kills: &[NOTIFY],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapNotify(notify) => {
                        notify.nonce ^= 1 << 40;
                        true
                    }
                    _ => false,
                }),
            },
        ],
        ..Case::BASE
    }
}

fn site_a(nonce: u64) -> MapRegister {
    register(
        &key("key-of-site-a"),
        nonce,
        vec![record("10.1.0.0/24", vec![locator("192.0.2.2", 1, 100)])],
    )
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let etr = drive.peer("etr-a")?;
    let ms = drive.address("msmr")?;
    let begin = drive.mark("the wrong register");
    etr.udp(
        (etr.address(), 51_001),
        (ms, 4342),
        &site_a(WRONG).to_signed_vec(&key("not-the-key")),
    )?;
    // The fence: when its answer is there, an answer to the first one would be there too.
    etr.udp(
        (etr.address(), 51_002),
        (ms, 4342),
        &site_a(FENCE).to_signed_vec(&key("key-of-site-a")),
    )?;
    drive.wait_for(
        begin,
        "the Map-Notify for the right register",
        seconds(5),
        |packet| is_notify(packet, FENCE),
    )?;
    Ok(())
}

fn judge(trace: &Trace, findings: &mut Findings) {
    let sent = |nonce| {
        let register = move |packet: &&crate::trace::Seen| {
            packet.map_register().is_some_and(|r| r.nonce == nonce)
        };
        trace.sent_by("etr-a").find(register)
    };
    let (Some(wrong), Some(fence)) = (sent(WRONG), sent(FENCE)) else {
        findings.unseen(NO_NOTIFY, "both Map-Registers on the wire");
        return;
    };
    match trace
        .originated("msmr")
        .find(|packet| is_notify(packet, FENCE))
    {
        Some(notify) => findings.met(NOTIFY, [fence, notify], "confirmed"),
        None => findings.broken(NOTIFY, fence, "a Map-Notify with its nonce", "none"),
    }
    match trace
        .originated("msmr")
        .find(|packet| is_notify(packet, WRONG))
    {
        Some(notify) => findings.broken(
            NO_NOTIFY,
            [wrong, notify],
            "no Map-Notify",
            notify.summary(),
        ),
        None => findings.met(
            NO_NOTIFY,
            [wrong, fence],
            "silence, though the register after it was confirmed",
        ),
    }
}
