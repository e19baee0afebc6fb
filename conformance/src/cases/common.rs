//! Words that most cases use: messages as a peer sends them, a scripted mapping system, sabotages of the usual kinds.

use std::net::IpAddr;
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::auth::{AuthKey, MacAlgorithm};
use lisp::wire::{
    Action, Authentication, ControlMessage, EidQuery, Locator, MapNotify, MapRecord, MapRegister,
    MapReply, MapRequest,
};
use lisp::{Address, CONTROL_PORT, EidPrefix};

use crate::decode::Lisp;
use crate::drive::{Peer, PeerError};
use crate::sabotage::{Frame, Tamper};
use crate::trace::Seen;

/// The mapping TTL that peers give, in minutes (RFC 6830 6.6.1: a day).
pub(crate) const TTL: u32 = 1440;

/// So many seconds.
pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// An address as text; for constants of a case.
///
/// # Panics
/// When it is none.
pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("a case names a sound address")
}

/// An EID-Prefix as text: `10.1.0.0/24`, `[7]10.1.0.0/24`.
///
/// # Panics
/// When it is none.
pub(crate) fn prefix(text: &str) -> EidPrefix {
    text.parse().expect("a case names a sound prefix")
}

/// A key of HMAC-SHA-256-128 with key ID 0, as the topologies configure them.
pub(crate) fn key(secret: &str) -> AuthKey {
    AuthKey::new(0, MacAlgorithm::HmacSha256_128, secret.as_bytes())
}

/// A locator: reachable, not used for multicast.
pub(crate) fn locator(address: &str, priority: u8, weight: u8) -> Locator {
    Locator {
        priority,
        weight,
        mpriority: 255,
        mweight: 0,
        reserved: 0,
        local: true,
        probed: false,
        reachable: true,
        rloc: Address::from_eid(0, ip(address)),
    }
}

/// A record of an ETR for its prefix.
pub(crate) fn record(eid: &str, locators: Vec<Locator>) -> MapRecord {
    let mut record = MapRecord::negative(prefix(eid), TTL, Action::NoAction);
    record.authoritative = true;
    record.locators = locators;
    record
}

/// A negative record of the mapping system.
pub(crate) fn negative(eid: &str, ttl: u32, action: Action) -> MapRecord {
    MapRecord::negative(prefix(eid), ttl, action)
}

/// A Map-Register that wants a Map-Notify; sign it with [`MapRegister::to_signed_vec`].
pub(crate) fn register(key: &AuthKey, nonce: u64, records: Vec<MapRecord>) -> MapRegister {
    MapRegister {
        proxy_reply: false,
        security: false,
        eid_notify: false,
        use_ttl: false,
        merge: false,
        rtr: false,
        want_map_notify: true,
        reserved: 0,
        nonce,
        auth: key.blank(),
        records,
        xtr_site_id: None,
    }
}

/// A Map-Request for an EID or a prefix.
pub(crate) fn request(
    nonce: u64,
    source_eid: Option<IpAddr>,
    itr_rlocs: &[IpAddr],
    eid: &str,
) -> MapRequest {
    MapRequest {
        authoritative: false,
        probe: false,
        smr: false,
        pitr: false,
        smr_invoked: false,
        local_xtr: false,
        dont_reply: false,
        reserved: 0,
        nonce,
        source_eid: source_eid.map_or(Address::None, |eid| Address::from_eid(0, eid)),
        itr_rlocs: itr_rlocs
            .iter()
            .map(|rloc| Address::from_eid(0, *rloc))
            .collect(),
        records: vec![EidQuery::new(prefix(eid))],
        map_reply: None,
        xtr_site_id: None,
    }
}

/// A Map-Reply.
pub(crate) fn reply(nonce: u64, records: Vec<MapRecord>) -> MapReply {
    MapReply {
        probe: false,
        echo_nonce: false,
        security: false,
        reserved: 0,
        nonce,
        records,
        trailer: Vec::new(),
    }
}

/// A Map-Notify for a Map-Register, signed with the same key.
pub(crate) fn notify(register: &MapRegister, key: &AuthKey) -> Vec<u8> {
    let notify = MapNotify {
        reserved: 0,
        nonce: register.nonce,
        auth: Authentication {
            data: Vec::new(),
            ..key.blank()
        },
        records: register.records.clone(),
        xtr_site_id: None,
    };
    notify.to_signed_vec(key)
}

/// Makes a peer a Map-Server and Map-Resolver: it confirms registrations (with `key`) that ask for it, and answers each
/// Encapsulated Map-Request with the records that `answer` gives for the prefix asked for; with none, it stays silent.
/// Replies come from `peer`'s own address.
pub(crate) fn mapping_system(
    peer: &mut Peer,
    key: &'static str,
    answer: impl FnMut(EidPrefix) -> Vec<MapRecord> + Send + 'static,
) -> Result<(), PeerError> {
    mapping_system_with(peer, key, answer, |_| {})
}

/// As [`mapping_system`], with a last hand on each Map-Reply.
pub(crate) fn mapping_system_with(
    peer: &mut Peer,
    key: &'static str,
    mut answer: impl FnMut(EidPrefix) -> Vec<MapRecord> + Send + 'static,
    finish: fn(&mut MapReply),
) -> Result<(), PeerError> {
    let own = peer.address();
    peer.respond(move |packet, lisp| {
        let Lisp::Control { message, inner } = lisp else {
            return Vec::new();
        };
        if let ControlMessage::MapRegister(register) = &**message
            && register.want_map_notify
        {
            let octets = notify(register, &self::key(key));
            return vec![udp(
                (own, CONTROL_PORT),
                (packet.source, CONTROL_PORT),
                &octets,
            )];
        }
        let Some(inner) = inner else {
            return Vec::new();
        };
        let ControlMessage::MapRequest(request) = &*inner.message else {
            return Vec::new();
        };
        let Some(asked) = request.records.first().and_then(EidQuery::prefix) else {
            return Vec::new();
        };
        let records = answer(asked);
        let to = request
            .itr_rlocs
            .iter()
            .filter_map(Address::ip)
            .find(|rloc| rloc.is_ipv4() == own.is_ipv4());
        match to {
            Some(to) if !records.is_empty() => {
                let mut reply = reply(request.nonce, records);
                finish(&mut reply);
                let to = (to, inner.source_port);
                vec![udp((own, CONTROL_PORT), to, &reply.to_vec())]
            }
            _ => Vec::new(),
        }
    })
}

/// A UDP packet with TTL 64 and a right checksum.
pub(crate) fn udp(from: (IpAddr, u16), to: (IpAddr, u16), payload: &[u8]) -> Vec<u8> {
    lisp::ip::udp_packet(from.0, to.0, from.1, to.1, 64, payload)
}

/// A sabotage of control messages that the victim sends. `change` says whether it changed anything.
pub(crate) fn outgoing(change: impl Fn(&mut ControlMessage) -> bool + Send + 'static) -> Tamper {
    on_control(Way::FromVictim, change)
}

/// A sabotage of control messages that the victim gets.
pub(crate) fn incoming(change: impl Fn(&mut ControlMessage) -> bool + Send + 'static) -> Tamper {
    on_control(Way::ToVictim, change)
}

fn on_control(
    tampered: Way,
    change: impl Fn(&mut ControlMessage) -> bool + Send + 'static,
) -> Tamper {
    Box::new(move |way, frame| {
        if way == tampered {
            frame.edit_control(&change);
        }
        PacketFate::Forward
    })
}

/// A sabotage that loses packets that the victim sends.
pub(crate) fn lose_outgoing(which: fn(&Frame<'_>) -> bool) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim && which(frame) {
            PacketFate::Drop
        } else {
            PacketFate::Forward
        }
    })
}

/// A sabotage that loses packets that the victim should get.
pub(crate) fn lose_incoming(which: fn(&Frame<'_>) -> bool) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::ToVictim && which(frame) {
            PacketFate::Drop
        } else {
            PacketFate::Forward
        }
    })
}

/// A sabotage that changes anything that the victim sends.
pub(crate) fn edit_outgoing(change: impl Fn(&mut Frame<'_>) + Send + 'static) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim {
            change(frame);
        }
        PacketFate::Forward
    })
}

/// A sabotage that changes anything that the victim gets.
pub(crate) fn edit_incoming(change: fn(&mut Frame<'_>)) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::ToVictim {
            change(frame);
        }
        PacketFate::Forward
    })
}

/// A sabotage that changes the Map-Requests that the victim sends.
pub(crate) fn requests(change: fn(&mut MapRequest)) -> Tamper {
    outgoing(move |message| match message {
        ControlMessage::MapRequest(request) => {
            change(request);
            true
        }
        _ => false,
    })
}

/// A sabotage that changes the Map-Replies that the victim sends.
pub(crate) fn replies(change: impl Fn(&mut MapReply) + Send + 'static) -> Tamper {
    outgoing(move |message| match message {
        ControlMessage::MapReply(reply) => {
            change(reply);
            true
        }
        _ => false,
    })
}

/// A sabotage that takes what the victim sends out of its Encapsulated Control Messages.
pub(crate) fn without_ecm() -> Tamper {
    edit_outgoing(|frame| {
        frame.edit_udp(|_, payload| match ControlMessage::parse(payload) {
            Ok(ControlMessage::Encapsulated(ecm)) => {
                let bare = ecm.decode_inner().map(|inner| inner.message.to_vec());
                bare.map(|bare| *payload = bare).is_ok()
            }
            _ => false,
        });
    })
}

/// Changes source and destination inside the Encapsulated Control Messages that the victim sends.
pub(crate) fn inner_addresses(change: fn(&mut IpAddr, &mut IpAddr)) -> Tamper {
    edit_outgoing(move |frame| {
        frame.edit_ecm(|inner| {
            let family = inner.source.is_ipv4();
            change(&mut inner.source, &mut inner.destination);
            inner.source.is_ipv4() == family && inner.destination.is_ipv4() == family
        });
    })
}

/// Zero or one by the number of a packet, for a sabotage of every other one: in step with no rounds in which flows take
/// turns, however long they are (the sequence of Thue and Morse).
pub(crate) const fn turn(number: u64) -> usize {
    number.count_ones() as usize % 2
}

/// Makes a LISP data packet four octets longer than its header and the packet inside, for a sabotage.
pub(crate) fn lengthen_data(frame: &mut Frame<'_>) {
    frame.edit_udp(|ports, payload| {
        let data = ports.1 == lisp::DATA_PORT;
        if data {
            payload.extend([0; 4]);
        }
        data
    });
}

/// Whether a packet is a Map-Notify with a nonce.
pub(crate) fn is_notify(packet: &Seen, nonce: u64) -> bool {
    packet
        .map_notify()
        .is_some_and(|notify| notify.nonce == nonce)
}

/// Whether a packet is a Map-Reply with a nonce.
pub(crate) fn is_reply(packet: &Seen, nonce: u64) -> bool {
    packet.map_reply().is_some_and(|reply| reply.nonce == nonce)
}
