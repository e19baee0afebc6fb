//! Negative Map-Replies and the packets that they are about (RFC 6830 6.1.4; RFC 6833 4.1).

use lisp::wire::Action;

use crate::case::Case;
use crate::cases::common::{edit_incoming, ip, mapping_system, negative, outgoing, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const NATIVE: Req = Req::new("rfc6830-6.1.4-act1-native");
const CACHED: Req = Req::new("rfc6833-4.1-itr-negative-cache");
const HOST_MASK: Req = Req::new("rfc6830-6.1.2-eid-hostmask");

/// Not an EID: a host of the remote node's network.
const REMOTE: &str = "192.0.2.34";

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_4::natively_forward_is_forwarded_natively",
        title: "After a negative Map-Reply with ACT 1, packets to that prefix leave unencapsulated, without another request.",
        topology: "one-xtr",
        roles: &["itr"],
        requirements: &[NATIVE, CACHED, HOST_MASK],
        drive,
        judges: &[judge],
        sabotages: &[
            Sabotage {
                name: "takes ACT 1 for a drop",
                node: "xtr",
                links: &["rloc"],
                kills: &[NATIVE],
                tamper: || edit_incoming(|frame| {
                    frame.edit_control(|message| match message {
                        lisp::wire::ControlMessage::MapReply(reply) => {
                            reply.records.iter_mut().for_each(|record| record.action = Action::Drop);
                            true
                        }
                        _ => false,
                    });
                }),
            },
            Sabotage {
                name: "caches nothing for the second packet",
                node: "xtr",
                links: &["rloc"],
                kills: &[CACHED],
                tamper: || edit_incoming(|frame| {
                    frame.edit_control(|message| match message {
                        lisp::wire::ControlMessage::MapReply(reply) => {
                            reply.records = vec![negative("192.0.2.40/32", 15, Action::NativelyForward)];
                            true
                        }
                        _ => false,
                    });
                }),
            },
            Sabotage {
                name: "asks for a prefix",
                node: "xtr",
                links: &["rloc"],
                kills: &[HOST_MASK],
                tamper: || outgoing(|message| match message {
                    lisp::wire::ControlMessage::MapRequest(request) => {
                        request.records.iter_mut().for_each(|query| query.mask_len = 24);
                        true
                    }
                    _ => false,
                }),
            },
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let mut mapping = drive.peer("mapping")?;
    mapping_system(&mut mapping, "key-of-site", |_| {
        vec![negative("192.0.2.32/27", 15, Action::NativelyForward)]
    })?;
    let site = drive.peer("site")?;
    let begin = drive.mark("the first packet");
    site.send(&Echo::new(site.address(), ip(REMOTE), 1).request())?;
    drive.wait_for(begin, "the negative Map-Reply", seconds(5), |packet| {
        packet.receiver() == Some("xtr") && packet.map_reply().is_some()
    })?;
    let warm = drive.mark("the second packet");
    site.send(&Echo::new(site.address(), ip(REMOTE), 2).request())?;
    drive.wait_for(
        warm,
        "the second packet at the remote host",
        seconds(5),
        |packet| packet.receiver() == Some("remote") && sequence(packet) == Some(2),
    )?;
    Ok(())
}

fn sequence(packet: &Seen) -> Option<u16> {
    let icmp = packet.ip()?.icmp()?;
    icmp.is_echo_request().then(|| icmp.echo().1)
}

fn judge(trace: &Trace, findings: &mut Findings) {
    let Some(request) = trace
        .originated("xtr")
        .find(|packet| packet.map_request().is_some())
    else {
        findings.broken(
            HOST_MASK,
            Vec::new(),
            format!("a Map-Request for {REMOTE}/32"),
            "none",
        );
        return;
    };
    let mask = request
        .map_request()
        .and_then(|request| request.records.first())
        .map_or(0, |query| query.mask_len);
    findings.check(
        HOST_MASK,
        mask == 32,
        request,
        "mask-len 32",
        mask.to_string(),
    );
    let Some(sent) = trace
        .since("the second packet")
        .find(|packet| sequence(packet) == Some(2))
    else {
        findings.unseen(NATIVE, "the second packet of the site");
        return;
    };
    let later = || {
        trace
            .sent_by("xtr")
            .filter(|packet| packet.time_ns() >= sent.time_ns())
    };
    let out = later().find(|packet| sequence(packet) == Some(2) && packet.link() == "rloc");
    match (out, later().find(|packet| packet.is_data())) {
        (_, Some(data)) => {
            findings.broken(NATIVE, [sent, data], "no encapsulation", data.summary())
        }
        (Some(out), None) => findings.met(NATIVE, [sent, out], "forwarded as it was"),
        (None, None) => findings.broken(
            NATIVE,
            sent,
            "the packet as it was on the core link",
            "it did not leave",
        ),
    }
    match later().find(|packet| packet.map_request().is_some_and(|request| !request.probe)) {
        Some(again) => findings.broken(
            CACHED,
            [sent, again],
            "no other Map-Request",
            again.summary(),
        ),
        None => findings.met(CACHED, sent, "no other Map-Request"),
    }
}
