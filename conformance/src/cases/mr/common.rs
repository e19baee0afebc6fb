//! Questions to a Map-Resolver and Map-Server as an ITR asks them, what becomes of them, and registrations of scripted ETRs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use lisp::wire::{ControlMessage, EidQuery, MapRecord, MapRegister, MapRequest};
use lisp::{Address, EidPrefix};

use crate::cases::common::{ip, is_notify, is_reply, key, prefix, seconds};
use crate::drive::{Drive, Peer, Stop};
use crate::trace::{Seen, Trace};

/// The box under test.
pub(in crate::cases) const MSMR: &str = "msmr";
/// Waits for something that a box does at once.
pub(in crate::cases) const SOON: Duration = seconds(5);
/// Inner source port of the questions, unlike every outer one: the reply goes there (ambiguities B4).
pub(in crate::cases) const INNER_PORT: u16 = 61_342;
/// TTL of the inner packet: a value that no box would choose.
pub(in crate::cases) const INNER_TTL: u8 = 77;

/// An ITR-RLOC that no other question uses; packets for it end at the node `itr`.
pub(in crate::cases) const fn itr_rloc(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, number))
}

/// The same over IPv6.
pub(in crate::cases) const fn itr_rloc6(number: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, number))
}

/// A Map-Request of an ITR for one EID or prefix; its ITR-RLOC follows from the last octet of the nonce.
pub(in crate::cases) fn question(nonce: u64, eid: &str) -> MapRequest {
    MapRequest {
        nonce,
        source_eid: Address::from(ip("10.9.0.9")),
        itr_rlocs: vec![Address::from(itr_rloc(nonce as u8))],
        records: vec![EidQuery::new(prefix(eid))],
        ..MapRequest::default()
    }
}

/// The inner packet of a question: from an ITR-RLOC of the EID's family to the EID (RFC 6830 6.1.8).
pub(in crate::cases) fn inner_packet(request: &MapRequest) -> Vec<u8> {
    let eid = request
        .records
        .first()
        .and_then(EidQuery::prefix)
        .map_or(ip("10.1.0.10"), |eid| eid.prefix.addr());
    let from = match eid {
        IpAddr::V4(_) => itr_rloc(request.nonce as u8),
        IpAddr::V6(_) => itr_rloc6(request.nonce as u16 & 0xff),
    };
    let message = ControlMessage::MapRequest(request.clone());
    lisp::ip::udp_packet(
        from,
        eid,
        INNER_PORT,
        lisp::CONTROL_PORT,
        INNER_TTL,
        &message.to_vec(),
    )
}

/// The UDP payload of an Encapsulated Control Message around an inner packet.
pub(in crate::cases) fn encapsulated(inner: &[u8]) -> Vec<u8> {
    [&[0x80, 0, 0, 0], inner].concat()
}

/// Outer source port of a question.
pub(in crate::cases) fn outer_port(nonce: u64) -> u16 {
    40_000 + u16::from(nonce as u8)
}

/// Asks a box inside an Encapsulated Control Message. The packet's source is the peer's own address, which is no ITR-RLOC.
pub(in crate::cases) fn ask(peer: &Peer, to: IpAddr, request: &MapRequest) -> Result<(), Stop> {
    let from = peer
        .addresses()
        .iter()
        .copied()
        .find(|address| address.is_ipv4() == to.is_ipv4());
    let from = from.unwrap_or_else(|| peer.address());
    let payload = encapsulated(&inner_packet(request));
    peer.udp((from, outer_port(request.nonce)), (to, 4342), &payload)?;
    Ok(())
}

/// Asks the box under test for one EID, and waits until the question is answered or handed on.
pub(in crate::cases) fn ask_and_wait(
    drive: &Drive<'_>,
    itr: &Peer,
    request: &MapRequest,
) -> Result<Seen, Stop> {
    let since = drive.now_ns();
    ask(itr, drive.address(MSMR)?, request)?;
    dealt_with(drive, since, request.nonce)
}

/// Waits until a box of the mapping system answers a question or hands it on.
pub(in crate::cases) fn dealt_with(
    drive: &Drive<'_>,
    since: u64,
    nonce: u64,
) -> Result<Seen, Stop> {
    let what = format!("the Map-Request with nonce {nonce:#018x} answered or handed on");
    drive.wait_for(since, &what, SOON, |packet| {
        packet.sender() == Some(MSMR) && (is_reply(packet, nonce) || is_request(packet, nonce))
    })
}

/// Whether a packet is a Map-Request with a nonce, encapsulated or not.
pub(in crate::cases) fn is_request(packet: &Seen, nonce: u64) -> bool {
    packet
        .map_request()
        .is_some_and(|request| request.nonce == nonce)
}

/// Registers at the box under test, and waits for the Map-Notify.
pub(in crate::cases) fn register_and_wait(
    drive: &Drive<'_>,
    etr: &Peer,
    secret: &str,
    message: &MapRegister,
) -> Result<(), Stop> {
    let since = drive.now_ns();
    let nonce = message.nonce;
    etr.udp(
        (etr.address(), 51_000 + u16::from(nonce as u8)),
        (drive.address(MSMR)?, 4342),
        &message.to_signed_vec(&key(secret)),
    )?;
    let what = format!("the Map-Notify with nonce {nonce:#018x}");
    drive.wait_for(since, &what, SOON, |packet| is_notify(packet, nonce))?;
    Ok(())
}

/// A question as it reached the box under test.
pub(in crate::cases) fn asked(trace: &Trace, nonce: u64) -> Option<&Seen> {
    trace
        .received_by(MSMR)
        .find(|packet| is_request(packet, nonce))
}

/// The Map-Replies of the box under test with a nonce.
pub(in crate::cases) fn replies(trace: &Trace, nonce: u64) -> Vec<&Seen> {
    trace
        .originated(MSMR)
        .filter(|packet| is_reply(packet, nonce))
        .collect()
}

/// The copies of a question that the box under test handed on.
pub(in crate::cases) fn copies(trace: &Trace, nonce: u64) -> Vec<&Seen> {
    trace
        .originated(MSMR)
        .filter(|packet| is_request(packet, nonce))
        .collect()
}

/// What a box did about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cases) enum Outcome {
    /// Said that there is no mapping: the prefix, minutes, and the action's code.
    Negative(EidPrefix, u32, u8),
    /// Told the locators of a prefix.
    Mapping(EidPrefix, Vec<IpAddr>),
    /// Handed it to this address.
    HandedTo(IpAddr),
    /// Neither, or something else.
    Nothing,
}

impl Outcome {
    /// A negative answer with ACT 1.
    pub(in crate::cases) fn native(eid: &str, minutes: u32) -> Outcome {
        Outcome::Negative(prefix(eid), minutes, 1)
    }

    /// Of a record of a Map-Reply.
    pub(in crate::cases) fn of_record(record: &MapRecord) -> Outcome {
        let locators = record
            .locators
            .iter()
            .filter_map(|locator| locator.rloc.ip());
        match record.eid_prefix() {
            Some(eid) if record.locators.is_empty() => {
                Outcome::Negative(eid, record.ttl, record.action.code())
            }
            Some(eid) => Outcome::Mapping(eid, locators.collect()),
            None => Outcome::Nothing,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Negative(eid, minutes, act) => {
                write!(f, "negative: {eid}, {minutes} minutes, ACT {act}")
            }
            Outcome::Mapping(eid, locators) => {
                let texts: Vec<String> = locators.iter().map(IpAddr::to_string).collect();
                write!(f, "a mapping: {eid} to {}", texts.join(", "))
            }
            Outcome::HandedTo(to) => write!(f, "handed to {to}"),
            Outcome::Nothing => f.write_str("nothing"),
        }
    }
}

/// What the box under test did about a question, and the packet that shows it.
pub(in crate::cases) fn outcome(trace: &Trace, nonce: u64) -> (Outcome, Option<&Seen>) {
    if let Some(reply) = replies(trace, nonce).first().copied() {
        let record = reply.map_reply().and_then(|reply| reply.records.first());
        return (
            record.map_or(Outcome::Nothing, Outcome::of_record),
            Some(reply),
        );
    }
    match copies(trace, nonce).first().copied() {
        Some(copy) => (
            copy.destination()
                .map_or(Outcome::Nothing, Outcome::HandedTo),
            Some(copy),
        ),
        None => (Outcome::Nothing, None),
    }
}
