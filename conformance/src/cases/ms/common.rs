//! Questions to one Map-Server as an ITR asks them, and its answers.

use std::net::IpAddr;

use lisp::wire::{ControlMessage, EidQuery, MapReply};

use crate::cases::common::{is_reply, request, seconds};
use crate::drive::{Drive, Peer, Stop};
use crate::trace::{Seen, Trace};

/// The box under test.
pub(super) const MS: &str = "msmr";
/// Inner source port of all questions, unlike every outer one: the reply goes there (ambiguities B4).
pub(super) const INNER_PORT: u16 = 52_077;

/// Asks the box for `eid` inside an Encapsulated Control Message. The packet's source is the node's first address; the
/// ITR-RLOC is `rloc`, another one.
pub(super) fn ask(
    drive: &Drive<'_>,
    itr: &Peer,
    nonce: u64,
    rloc: IpAddr,
    eid: IpAddr,
) -> Result<(), Stop> {
    let ms = drive.address(MS)?;
    let prefix = format!("{eid}/{}", if eid.is_ipv4() { 32 } else { 128 });
    let mut question = request(nonce, None, &[rloc], &prefix);
    question.records = vec![EidQuery::new(crate::cases::common::prefix(&prefix))];
    itr.encapsulated(
        (itr.address(), 53_000 + (nonce & 0xff) as u16),
        ms,
        // The headers inside are of the family of the EID.
        (inner_source(rloc, eid), INNER_PORT),
        eid,
        &ControlMessage::MapRequest(question),
    )?;
    Ok(())
}

fn inner_source(rloc: IpAddr, eid: IpAddr) -> IpAddr {
    match eid {
        IpAddr::V4(_) => rloc,
        IpAddr::V6(_) => crate::cases::common::ip("2001:db8:0:65::2"),
    }
}

/// Waits for the Map-Reply to a question, wherever it goes.
pub(super) fn answered(drive: &Drive<'_>, since: u64, nonce: u64) -> Result<(), Stop> {
    drive.wait_for(
        since,
        &format!("the Map-Reply with nonce {nonce:#018x}"),
        seconds(5),
        |packet| is_reply(packet, nonce),
    )?;
    Ok(())
}

/// The question with a nonce as a peer asked it.
pub(super) fn question(trace: &Trace, nonce: u64) -> Option<&Seen> {
    trace.received_by(MS).find(|packet| {
        packet
            .map_request()
            .is_some_and(|asked| asked.nonce == nonce)
    })
}

/// The box's Map-Reply to a question.
pub(super) fn reply(trace: &Trace, nonce: u64) -> Option<(&Seen, &MapReply)> {
    trace
        .originated(MS)
        .find(|packet| is_reply(packet, nonce))
        .and_then(|packet| Some((packet, packet.map_reply()?)))
}
