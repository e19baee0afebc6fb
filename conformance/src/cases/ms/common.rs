//! Questions to one Map-Server as an ITR asks them, and what becomes of them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use lisp::wire::{Action, ControlMessage, EidQuery, MapRecord, MapReply, MapRequest};
use lisp::{Address, EidPrefix};

use crate::cases::common::{is_reply, request, seconds};
use crate::drive::{Drive, Peer, Stop};
use crate::trace::{Seen, Trace};

/// The box under test.
pub(super) const MS: &str = "msmr";
/// The topology of all these cases.
pub(super) const TOPOLOGY: &str = "one-msmr";
/// Its IPv6 address there.
pub(super) const MS6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0x51, 0, 0, 0, 0x10));
/// Inner source port of all questions, unlike every outer one: the reply goes there (ambiguities B4).
pub(super) const INNER_PORT: u16 = 52_077;
/// Waits for something that a box does at once.
pub(super) const SOON: Duration = seconds(5);

/// An ITR-RLOC for question `number`: the same answer may be held back from one requester (ambiguities B10), so each
/// question names another one.
pub(super) const fn itr_rloc(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, number))
}

/// Asks the box for `eid` inside an Encapsulated Control Message. The packet's source is the node's first address; the
/// ITR-RLOC is `rloc`, another one.
pub(super) fn ask(
    drive: &Drive<'_>,
    itr: &Peer,
    nonce: u64,
    rloc: IpAddr,
    eid: IpAddr,
) -> Result<(), Stop> {
    ask_for(drive, itr, rloc, &question_for(nonce, rloc, host(0, eid)))
}

/// The Map-Request for one EID-Prefix.
pub(super) fn question_for(nonce: u64, rloc: IpAddr, eid: EidPrefix) -> MapRequest {
    MapRequest {
        records: vec![EidQuery::new(eid)],
        ..request(nonce, None, &[rloc], "0.0.0.0/0")
    }
}

/// A single EID as a prefix.
pub(super) fn host(iid: u32, eid: IpAddr) -> EidPrefix {
    EidPrefix::host(iid, eid)
}

/// Sends a Map-Request inside an Encapsulated Control Message.
pub(super) fn ask_for(
    drive: &Drive<'_>,
    itr: &Peer,
    rloc: IpAddr,
    question: &MapRequest,
) -> Result<(), Stop> {
    let ms = drive.address(MS)?;
    let eid = question.records.first().and_then(|query| query.eid.eid());
    let eid = eid.map_or(rloc, |(_, eid)| eid);
    itr.encapsulated(
        (itr.address(), 53_000 + (question.nonce & 0xff) as u16),
        ms,
        // The headers inside are of the family of the EID.
        (inner_source(rloc, eid), INNER_PORT),
        eid,
        &ControlMessage::MapRequest(question.clone()),
    )?;
    Ok(())
}

fn inner_source(rloc: IpAddr, eid: IpAddr) -> IpAddr {
    match eid {
        IpAddr::V4(_) => rloc,
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0x65, 0, 0, 0, 2)),
    }
}

/// Waits for the Map-Reply to a question, wherever it goes.
pub(super) fn answered(drive: &Drive<'_>, since: u64, nonce: u64) -> Result<(), Stop> {
    drive.wait_for(
        since,
        &format!("the Map-Reply with nonce {nonce:#018x}"),
        SOON,
        |packet| is_reply(packet, nonce),
    )?;
    Ok(())
}

/// Waits until a question is answered or handed on to an ETR.
pub(super) fn resolved(drive: &Drive<'_>, since: u64, nonce: u64) -> Result<Seen, Stop> {
    let what = format!("an answer to the Map-Request with nonce {nonce:#018x}, or its way on");
    drive.wait_for(since, &what, SOON, |packet| {
        is_reply(packet, nonce) || packet.sender() == Some(MS) && asks(packet, nonce)
    })
}

fn asks(packet: &Seen, nonce: u64) -> bool {
    packet
        .map_request()
        .is_some_and(|asked| asked.nonce == nonce)
}

/// The question with a nonce as a peer asked it.
pub(super) fn question(trace: &Trace, nonce: u64) -> Option<&Seen> {
    trace.sent_by("itr").find(|packet| asks(packet, nonce))
}

/// The box's Map-Reply to a question.
pub(super) fn reply(trace: &Trace, nonce: u64) -> Option<(&Seen, &MapReply)> {
    trace
        .originated(MS)
        .find(|packet| is_reply(packet, nonce))
        .and_then(|packet| Some((packet, packet.map_reply()?)))
}

/// What became of a question.
#[derive(Debug)]
pub(super) enum Outcome<'a> {
    /// Neither answered nor handed on.
    Nothing,
    /// Answered.
    Reply(&'a Seen, &'a MapReply),
    /// Handed on, in these packets.
    Forwarded(Vec<&'a Seen>),
}

impl<'a> Outcome<'a> {
    /// Of the question with a nonce.
    pub(super) fn of(trace: &'a Trace, nonce: u64) -> Outcome<'a> {
        if let Some((packet, reply)) = reply(trace, nonce) {
            return Outcome::Reply(packet, reply);
        }
        let on = trace.originated(MS).filter(|packet| asks(packet, nonce));
        let on: Vec<&Seen> = on.collect();
        match on.is_empty() {
            true => Outcome::Nothing,
            false => Outcome::Forwarded(on),
        }
    }

    /// The packets that show it.
    pub(super) fn packets(&self) -> Vec<&'a Seen> {
        match self {
            Outcome::Nothing => Vec::new(),
            Outcome::Reply(packet, _) => vec![packet],
            Outcome::Forwarded(packets) => packets.clone(),
        }
    }

    /// The first record of the answer.
    pub(super) fn record(&self) -> Option<&'a MapRecord> {
        match self {
            Outcome::Reply(_, reply) => reply.records.first(),
            _ => None,
        }
    }

    /// Whether the EID is registered, as far as an ITR sees.
    pub(super) fn positive(&self) -> bool {
        match self {
            Outcome::Nothing => false,
            Outcome::Reply(_, reply) => reply
                .records
                .first()
                .is_some_and(|record| !record.locators.is_empty()),
            Outcome::Forwarded(_) => true,
        }
    }

    /// Whether the answer says that there is no such EID now.
    pub(super) fn negative(&self) -> bool {
        self.record()
            .is_some_and(|record| record.locators.is_empty())
    }
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Nothing => f.write_str("neither a Map-Reply nor a forwarded Map-Request"),
            Outcome::Reply(_, reply) if reply.records.is_empty() => {
                f.write_str("a Map-Reply without a record")
            }
            Outcome::Reply(_, reply) => {
                for (at, record) in reply.records.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { "; " })?;
                    write!(f, "{}", Told(record))?;
                }
                Ok(())
            }
            Outcome::Forwarded(packets) => {
                let to = packets.iter().filter_map(|packet| packet.destination());
                let to: Vec<String> = to.map(|to| to.to_string()).collect();
                write!(f, "forwarded to {}", to.join(" and "))
            }
        }
    }
}

/// A record as findings tell of it.
pub(super) struct Told<'a>(pub(super) &'a MapRecord);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.0;
        match record.eid_prefix() {
            Some(prefix) => write!(f, "{prefix}")?,
            None => write!(f, "{}/{}", record.eid, record.eid_mask_len)?,
        }
        write!(f, " for {} minutes", record.ttl)?;
        match record.locators.is_empty() {
            true => write!(f, ", negative, ACT {}", record.action.code()),
            false => write!(f, " at {}", rlocs(record).join(", ")),
        }
    }
}

/// The locators of a record in its order.
pub(super) fn rlocs(record: &MapRecord) -> Vec<String> {
    let rlocs = record.locators.iter();
    rlocs.map(|locator| locator.rloc.to_string()).collect()
}

/// What a sabotage does to all records of Map-Replies.
pub(super) fn on_records(message: &mut ControlMessage, change: fn(&mut MapRecord)) -> bool {
    match message {
        ControlMessage::MapReply(reply) => {
            reply.records.iter_mut().for_each(change);
            true
        }
        _ => false,
    }
}

/// Turns a negative record into one that looks registered.
pub(super) fn as_if_registered(record: &mut MapRecord) {
    if record.locators.is_empty() {
        record.action = Action::NoAction;
        record.locators = vec![crate::cases::common::locator("192.0.2.2", 1, 100)];
    }
}

/// The registration timeout of the box in a trace: the setting, else what RFC 6833 4.2 suggests.
pub(super) fn registration_timeout(trace: &Trace) -> Duration {
    let topology = trace.topology.as_ref();
    let settings = topology.and_then(|topology| topology.node(MS));
    let set = settings.and_then(|node| node.settings.get("registration-timeout"));
    let millis = set
        .and_then(|value| value.as_str())
        .and_then(|text| text.strip_suffix("ms"))
        .and_then(|count| count.parse().ok());
    millis.map_or(seconds(180), Duration::from_millis)
}

/// An address as a locator's.
pub(super) fn rloc(address: &str) -> Address {
    Address::from(crate::cases::common::ip(address))
}
