//! What the cases for an ETR share: the addresses of `one-etr`, its peers, questions and answers, tampering.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::auth::{AuthKey, MacAlgorithm};
use lisp::wire::{ControlMessage, EidQuery, MapRegister, MapReply, MapRequest};
use lisp::{Address, EidPrefix};

use crate::cases::common::{notify, prefix, udp};
use crate::drive::{Drive, Peer, Stop};
use crate::sabotage::{Frame, Tamper};
use crate::trace::{Seen, Trace};

/// The box under test.
pub(super) const ETR: &str = "xtr";
/// The topology of all these cases.
pub(super) const TOPOLOGY: &str = "one-etr";
/// Waits for something that a box does at once.
pub(super) const SOON: Duration = Duration::from_secs(3);

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// The ETR's own IPv4 locator.
pub(super) const RLOC: IpAddr = v4(192, 0, 2, 10);
/// The ETR's own IPv6 locator.
pub(super) const RLOC6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 2));
/// A host of the site.
pub(super) const HOST: IpAddr = v4(10, 1, 0, 10);
/// The same host's IPv6 EID.
pub(super) const HOST6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x10));
/// An EID of a remote site.
pub(super) const REMOTE: IpAddr = v4(10, 2, 0, 10);
/// An IPv6 EID of a remote site.
pub(super) const REMOTE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 0x10));
/// Where the scripted ITR's packets come from; never an ITR-RLOC.
pub(super) const ITR: IpAddr = v4(192, 0, 2, 34);
/// The same over IPv6.
pub(super) const ITR6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0x33, 0, 0, 0, 2));
/// The first Map-Server.
pub(super) const MS: IpAddr = v4(198, 51, 100, 10);
/// Outer source port of what the Map-Server hands on.
pub(super) const OUTER_PORT: u16 = 40_001;
/// Source port of Map-Requests: inner one inside an Encapsulated Control Message.
pub(super) const PORT: u16 = 50_123;

/// An ITR-RLOC that no other question uses.
pub(super) const fn itr_rloc(number: u8) -> IpAddr {
    v4(203, 0, 113, number)
}

/// An IPv6 ITR-RLOC that no other question uses.
pub(super) const fn itr_rloc6(number: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, number))
}

/// The key that the site shares with its Map-Server at `algorithm`.
pub(super) fn key(algorithm: MacAlgorithm) -> AuthKey {
    AuthKey::new(0, algorithm, b"key-of-site")
}

/// The peers around the ETR.
pub(super) struct Net {
    /// The Map-Server.
    pub(super) mapping: Peer,
    /// The remote ITR.
    pub(super) itr: Peer,
}

impl Net {
    /// Sets up the peers, with a Map-Server that confirms registrations, and starts the ETR.
    pub(super) fn up(drive: &mut Drive) -> Result<Net, Stop> {
        let mut net = Net::peers(drive)?;
        net.mapping.respond(|ip, lisp| confirm(ip, lisp, &[MS]))?;
        drive.start(ETR)?;
        Ok(net)
    }

    /// As [`up`](Net::up), and waits until the first registration is confirmed: the ETR then knows its sites' routes and
    /// rests.
    pub(super) fn registered(drive: &mut Drive) -> Result<Net, Stop> {
        let net = Net::up(drive)?;
        drive.wait_for(0, "the Map-Notify at the ETR", SOON, |packet| {
            packet.map_notify().is_some() && packet.receiver() == Some(ETR)
        })?;
        Ok(net)
    }

    /// Only the peers, and a Map-Server that says nothing.
    pub(super) fn peers(drive: &Drive) -> Result<Net, Stop> {
        Ok(Net {
            mapping: drive.peer("mapping")?,
            itr: drive.peer("itr")?,
        })
    }

    /// Sends a Map-Request as the Map-Server hands it on: inside an Encapsulated Control Message, with distinct ports, and
    /// from an address that is no ITR-RLOC.
    pub(super) fn hand_on(&self, request: &MapRequest) -> Result<(), Stop> {
        let to = request.records.first().and_then(|query| query.eid.ip());
        let to = to.unwrap_or(HOST);
        let from = if to.is_ipv4() { ITR } else { ITR6 };
        let message = ControlMessage::MapRequest(request.clone());
        self.mapping
            .encapsulated((MS, OUTER_PORT), RLOC, (from, PORT), to, &message)?;
        Ok(())
    }

    /// Sends a Map-Request plainly to a locator of the ETR.
    pub(super) fn ask_plainly(&self, to: IpAddr, request: &MapRequest) -> Result<(), Stop> {
        let from = if to.is_ipv4() { ITR } else { ITR6 };
        let message = ControlMessage::MapRequest(request.clone());
        self.itr.control((from, PORT), to, &message)?;
        Ok(())
    }

    /// Asks, and waits for the answer. `request` needs a nonce and an ITR-RLOC of its own.
    pub(super) fn question(&self, drive: &Drive, request: &MapRequest) -> Result<(), Stop> {
        self.hand_on(request)?;
        wait_reply(drive, request.nonce)
    }
}

/// Waits for the Map-Reply with a nonce to leave the ETR.
pub(super) fn wait_reply(drive: &Drive, nonce: u64) -> Result<(), Stop> {
    let what = format!("the Map-Reply with nonce {nonce:#x}");
    drive.wait_for(0, &what, SOON, |packet| {
        packet.sender() == Some(ETR) && has_reply(packet, nonce)
    })?;
    Ok(())
}

fn has_reply(packet: &Seen, nonce: u64) -> bool {
    packet.map_reply().is_some_and(|reply| reply.nonce == nonce)
}

/// A Map-Request for one EID or prefix.
pub(super) fn request(nonce: u64, itr_rloc: IpAddr, asked: &str) -> MapRequest {
    MapRequest {
        nonce,
        source_eid: Address::from(REMOTE),
        itr_rlocs: vec![Address::from(itr_rloc)],
        records: vec![EidQuery::new(prefix(asked))],
        ..MapRequest::default()
    }
}

/// The answer of a Map-Server at one of `servers`: the Map-Notify for a Map-Register with the M bit, its MAC made with the key
/// and algorithm that the Map-Register names.
pub(super) fn confirm(
    ip: &crate::decode::Ip,
    lisp: &crate::decode::Lisp,
    servers: &[IpAddr],
) -> Vec<Vec<u8>> {
    if !servers.contains(&ip.destination) {
        return Vec::new();
    }
    match register_of(lisp) {
        Some(register) if register.want_map_notify => {
            vec![notify_packet(ip, register, &key(algorithm_of(register)))]
        }
        _ => Vec::new(),
    }
}

/// The Map-Register in a packet.
pub(super) fn register_of(lisp: &crate::decode::Lisp) -> Option<&MapRegister> {
    match lisp {
        crate::decode::Lisp::Control { message, .. } => match &**message {
            ControlMessage::MapRegister(register) => Some(register),
            _ => None,
        },
        _ => None,
    }
}

fn algorithm_of(register: &MapRegister) -> MacAlgorithm {
    MacAlgorithm::from_wire(register.auth.algorithm, register.auth.data.len())
        .unwrap_or(MacAlgorithm::HmacSha256_128)
}

/// The Map-Notify that confirms a Map-Register, as an IP packet back to where that came from.
pub(super) fn notify_packet(
    ip: &crate::decode::Ip,
    register: &MapRegister,
    key: &AuthKey,
) -> Vec<u8> {
    udp(
        (ip.destination, lisp::CONTROL_PORT),
        (ip.source, lisp::CONTROL_PORT),
        &notify(register, key),
    )
}

/// The Map-Reply of the ETR with a nonce.
pub(super) fn reply(trace: &Trace, nonce: u64) -> Option<&Seen> {
    trace
        .originated(ETR)
        .find(|packet| has_reply(packet, nonce))
}

/// All Map-Replies of the ETR with a nonce.
pub(super) fn replies(trace: &Trace, nonce: u64) -> Vec<&Seen> {
    replies_among(trace, |seen| seen == nonce)
}

/// All Map-Replies of the ETR with a nonce that `which` picks.
pub(super) fn replies_among(trace: &Trace, which: impl Fn(u64) -> bool) -> Vec<&Seen> {
    trace
        .originated(ETR)
        .filter(|packet| packet.map_reply().is_some_and(|reply| which(reply.nonce)))
        .collect()
}

/// The Map-Request with a nonce as it reached the ETR.
pub(super) fn asked(trace: &Trace, nonce: u64) -> Option<&Seen> {
    trace.received_by(ETR).find(|packet| {
        packet
            .map_request()
            .is_some_and(|request| request.nonce == nonce)
    })
}

/// All Map-Registers of the ETR.
pub(super) fn registers(trace: &Trace) -> Vec<&Seen> {
    trace
        .originated(ETR)
        .filter(|packet| packet.map_register().is_some())
        .collect()
}

/// The EID-Prefixes of a Map-Reply, in its order.
pub(super) fn prefixes(packet: &Seen) -> Vec<EidPrefix> {
    let records = packet.map_reply().map(|reply| reply.records.as_slice());
    records
        .unwrap_or_default()
        .iter()
        .filter_map(|record| record.eid_prefix())
        .collect()
}

/// Changes Map-Replies that the victim sends.
pub(super) fn spoil_replies(
    mut change: impl FnMut(&mut MapReply) -> bool + Send + 'static,
) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim {
            frame.edit_control(|message| match message {
                ControlMessage::MapReply(reply) => change(reply),
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

/// Changes Map-Registers that the victim sends, and signs them again.
pub(super) fn spoil_registers(
    mut change: impl FnMut(&mut MapRegister) -> bool + Send + 'static,
) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim
            && let Some(ControlMessage::MapRegister(register)) = frame.control()
        {
            frame.edit_signed(&key(algorithm_of(&register)), |message| match message {
                ControlMessage::MapRegister(register) => change(register),
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

/// Changes Map-Requests on their way to the victim.
pub(super) fn mend_requests(
    mut change: impl FnMut(&mut MapRequest) -> bool + Send + 'static,
) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::ToVictim {
            frame.edit_control(|message| match message {
                ControlMessage::MapRequest(request) => change(request),
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

/// Swallows packets that the victim sends.
pub(super) fn swallow(mut which: impl FnMut(&Frame<'_>) -> bool + Send + 'static) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim && which(frame) {
            PacketFate::Drop
        } else {
            PacketFate::Forward
        }
    })
}

/// Swallows the Map-Reply with a nonce.
pub(super) fn swallow_reply(nonce: u64) -> Tamper {
    swallow(
        move |frame| matches!(frame.control(), Some(ControlMessage::MapReply(reply)) if reply.nonce == nonce),
    )
}
