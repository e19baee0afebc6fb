//! Map-Requests and worse that must not be answered, and must not hurt (RFC 6830 6.1, 6.1.2, 6.1.3, 4.1).

use harness::inline::{PacketFate, Way};
use lisp::Address;
use lisp::wire::{ControlMessage, MapRegister, MapReply, MapRequest};

use super::common::*;
use crate::case::Case;
use crate::cases::common::{locator, record};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};

const NO_ITR_RLOC: Req = Req::new("rfc6830-6.1.3-no-itr-rloc-drop");
const NO_RECORD: Req = Req::new("rfc6830-6.1.2-record-count-0");
const NOT_OURS: Req = Req::new("rfc6830-4.1-etr-nomatch-drop");
const TYPES: Req = Req::new("rfc6830-6.1.1-types");
const ONLY_REQUESTS: Req = Req::new("rfc6830-6.1.8-only-mreq");
const CHECKSUM: Req = Req::new("rfc6830-6.1-control-cksum-rx");
const INNER_CHECKSUM: Req = Req::new("rfc6830-6.1.8-inner-cksum-rx");
const UNKNOWN_AFI: Req = Req::new("rfc9301-5.1-unknown-afi");
const DONT_REPLY: Req = Req::new("rfc9301-5.2-d-bit");

const AFI_0_RLOC: u64 = 0x0e7a_0000_0005_0001;
const CUT_AFTER_SOURCE: u64 = 0x0e7a_0000_0005_0002;
const MULTICAST_RLOC: u64 = 0x0e7a_0000_0005_0003;
const RECORDS_0: u64 = 0x0e7a_0000_0005_0004;
const FOREIGN: u64 = 0x0e7a_0000_0005_0005;
const TYPE_0: u64 = 0x0e7a_0000_0005_0006;
const TYPE_7: u64 = 0x0e7a_0000_0005_0007;
const TYPE_9: u64 = 0x0e7a_0000_0005_0008;
const TYPE_14: u64 = 0x0e7a_0000_0005_0009;
const ECM_REGISTER: u64 = 0x0e7a_0000_0005_000a;
const ECM_REPLY: u64 = 0x0e7a_0000_0005_000b;
const BAD_CHECKSUM: u64 = 0x0e7a_0000_0005_000c;
const BAD_INNER_CHECKSUM: u64 = 0x0e7a_0000_0005_000d;
const AFI_30583: u64 = 0x0e7a_0000_0005_000e;
const D_BIT: u64 = 0x0e7a_0000_0005_000f;
const CUT_IN_RECORD: u64 = 0x0e7a_0000_0005_0010;
const RECORDS_255: u64 = 0x0e7a_0000_0005_0011;
const MASK_200: u64 = 0x0e7a_0000_0005_0012;
const ZERO_CHECKSUM: u64 = 0x0e7a_0000_0005_0020;
const BEFORE: u64 = 0x0e7a_0000_0005_00fe;
const FENCE: u64 = 0x0e7a_0000_0005_00ff;

/// What is dropped: what it shows, its nonce, and what is wrong with it.
const DROPPED: [(Req, u64, &str); 18] = [
    (
        NO_ITR_RLOC,
        AFI_0_RLOC,
        "a Map-Request whose only ITR-RLOC has AFI 0",
    ),
    (
        NO_ITR_RLOC,
        CUT_AFTER_SOURCE,
        "a Map-Request cut off after its Source-EID",
    ),
    (
        NO_ITR_RLOC,
        MULTICAST_RLOC,
        "a Map-Request whose only ITR-RLOC is multicast",
    ),
    (NO_RECORD, RECORDS_0, "a Map-Request with no record"),
    (
        NO_RECORD,
        RECORDS_255,
        "a Map-Request that says 255 records and has one",
    ),
    (
        NO_RECORD,
        CUT_IN_RECORD,
        "a Map-Request cut off inside its record",
    ),
    (
        NO_RECORD,
        MASK_200,
        "a Map-Request with mask-len 200 of an IPv4 EID",
    ),
    (NOT_OURS, FOREIGN, "a Map-Request for an EID of nobody here"),
    (TYPES, TYPE_0, "type 0"),
    (TYPES, TYPE_7, "type 7"),
    (TYPES, TYPE_9, "type 9"),
    (TYPES, TYPE_14, "type 14"),
    (
        ONLY_REQUESTS,
        ECM_REGISTER,
        "a Map-Register in an Encapsulated Control Message",
    ),
    (
        ONLY_REQUESTS,
        ECM_REPLY,
        "a Map-Reply in an Encapsulated Control Message",
    ),
    (
        CHECKSUM,
        BAD_CHECKSUM,
        "a Map-Request with a wrong UDP checksum",
    ),
    (
        INNER_CHECKSUM,
        BAD_INNER_CHECKSUM,
        "a Map-Request with a wrong inner UDP checksum",
    ),
    (
        UNKNOWN_AFI,
        AFI_30583,
        "a Map-Request for an EID of AFI 30583",
    ),
    (DONT_REPLY, D_BIT, "a Map-Request with D = 1"),
];

inventory::submit! {
    Case {
        id: "rfc6830::s6_1::what_cannot_be_answered_is_dropped",
        title: "No usable ITR-RLOC, no record, a foreign EID, unknown types, wrong checksums and cut-off messages get no answer, change nothing, and kill nothing.",
        topology: TOPOLOGY,
        start: false,
        roles: &["etr"],
        requirements: &[
            NO_ITR_RLOC, NO_RECORD, NOT_OURS, TYPES, ONLY_REQUESTS, CHECKSUM, INNER_CHECKSUM, UNKNOWN_AFI, DONT_REPLY,
        ],
        drive: send_them_all,
        judges: &[nothing_comes_back],
        sabotages: &[
            mended("answers without an ITR-RLOC", &[NO_ITR_RLOC], || mend(AFI_0_RLOC)),
            mended("answers what is cut off", &[NO_ITR_RLOC], || mend(CUT_AFTER_SOURCE)),
            mended("answers to a multicast address", &[NO_ITR_RLOC], || mend(MULTICAST_RLOC)),
            mended("answers without a record", &[NO_RECORD], || mend(RECORDS_0)),
            mended("answers for the one record of 255", &[NO_RECORD], || mend(RECORDS_255)),
            mended("answers an impossible mask-len", &[NO_RECORD], || mend(MASK_200)),
            mended("answers for the EIDs of others", &[NOT_OURS], || mend(FOREIGN)),
            mended("takes type 9 for a Map-Request", &[TYPES], || mend(TYPE_9)),
            mended("answers whatever an Encapsulated Control Message holds", &[ONLY_REQUESTS], || mend(ECM_REPLY)),
            mended("ignores the UDP checksum", &[CHECKSUM], || mend(BAD_CHECKSUM)),
            mended("ignores the inner UDP checksum", &[INNER_CHECKSUM], || mend(BAD_INNER_CHECKSUM)),
            mended("stops answering", &[CHECKSUM, TYPES], || swallow_reply(FENCE)),
            mended("changes its mind", &[NO_RECORD], || spoil_replies(|reply| {
                reply.records[0].locators[0].priority ^= 1;
                reply.nonce == FENCE
            })),
        ],
        ..Case::BASE
    }
}

const fn mended(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: ETR,
        links: &["rloc"],
        kills,
        tamper,
    }
}

/// Puts a sound Map-Request with the same nonce in the place of a bad message on its way in: the box then answers, as if it
/// accepted the bad one.
fn mend(nonce: u64) -> Tamper {
    Box::new(move |way, frame| {
        let hit = frame
            .ip()
            .and_then(|ip| Some(holds(&ip.udp()?.payload, nonce)));
        if way == Way::ToVictim && hit == Some(true) {
            let good = ControlMessage::MapRequest(request(nonce, itr_rloc(250), "10.1.0.10/32"));
            frame.edit_ip(|header, payload| {
                let ports = (
                    u16::from_be_bytes([payload[0], payload[1]]),
                    lisp::CONTROL_PORT,
                );
                let datagram = lisp::ip::UdpDatagram {
                    source_port: ports.0,
                    destination_port: ports.1,
                    zero_checksum: false,
                    payload: &good.to_vec(),
                };
                *payload = datagram.emit(header.source(), header.destination());
                true
            });
        }
        PacketFate::Forward
    })
}

/// Whether octets contain a nonce, wherever: the message around it may be broken.
fn holds(octets: &[u8], nonce: u64) -> bool {
    octets
        .windows(8)
        .any(|window| window == nonce.to_be_bytes())
}

fn send_them_all(drive: &mut Drive) -> Result<(), Stop> {
    let net = Net::registered(drive)?;
    net.question(drive, &request(BEFORE, itr_rloc(1), "10.1.0.10/32"))?;
    let ask = |nonce: u64| request(nonce, itr_rloc((nonce & 0xff) as u8 + 10), "10.1.0.10/32");
    let octets = |request: MapRequest| ControlMessage::MapRequest(request).to_vec();
    let send = |payload: &[u8]| {
        net.itr
            .udp((ITR, PORT), (RLOC, lisp::CONTROL_PORT), payload)
    };

    for (nonce, rloc) in [
        (AFI_0_RLOC, Address::None),
        (
            MULTICAST_RLOC,
            Address::from(crate::cases::common::ip("224.0.0.1")),
        ),
    ] {
        net.hand_on(&MapRequest {
            itr_rlocs: vec![rloc],
            ..ask(nonce)
        })?;
    }
    // Twelve octets of header, then AFI and address of the Source-EID.
    send(&octets(ask(CUT_AFTER_SOURCE))[..12 + 6])?;
    let cut = octets(ask(CUT_IN_RECORD));
    send(&cut[..cut.len() - 3])?;
    net.hand_on(&MapRequest {
        records: Vec::new(),
        ..ask(RECORDS_0)
    })?;
    let mut many = octets(ask(RECORDS_255));
    many[3] = 255;
    send(&many)?;
    let mut long = octets(ask(MASK_200));
    let mask = long.len() - 7;
    long[mask] = 200;
    send(&long)?;
    net.hand_on(&request(FOREIGN, itr_rloc(30), "10.3.0.1/32"))?;
    for (nonce, kind) in [(TYPE_0, 0), (TYPE_7, 7), (TYPE_9, 9), (TYPE_14, 14)] {
        let mut other = octets(ask(nonce));
        other[0] = other[0] & 0x0f | kind << 4;
        send(&other)?;
    }
    let mapping = record("10.1.0.0/24", vec![locator("192.0.2.34", 1, 100)]);
    let register = MapRegister {
        want_map_notify: true,
        nonce: ECM_REGISTER,
        records: vec![mapping.clone()],
        auth: key(lisp::auth::MacAlgorithm::HmacSha256_128).blank(),
        ..MapRegister::default()
    };
    let reply = MapReply {
        nonce: ECM_REPLY,
        records: vec![mapping],
        ..MapReply::default()
    };
    for message in [
        ControlMessage::MapRegister(register),
        ControlMessage::MapReply(reply),
    ] {
        net.mapping
            .encapsulated((MS, OUTER_PORT), RLOC, (ITR, PORT), HOST, &message)?;
    }
    wrong_checksums(&net)?;
    let mut unknown = octets(ask(AFI_30583));
    let afi = unknown.len() - 6;
    unknown[afi..afi + 2].copy_from_slice(&0x7777_u16.to_be_bytes());
    send(&unknown)?;
    net.hand_on(&MapRequest {
        dont_reply: true,
        ..ask(D_BIT)
    })?;
    // No message at all, and less than a header.
    send(&[])?;
    send(&[0x10])?;
    send(&[0x80, 0, 0, 0, 0x45])?;
    net.question(drive, &request(FENCE, itr_rloc(2), "10.1.0.10/32"))
}

/// The UDP checksum of a packet: 26 octets from the start of an IPv4 header.
const CHECKSUM_AT: usize = 26;

fn wrong_checksums(net: &Net) -> Result<(), Stop> {
    let plain = |nonce: u64, number: u8| {
        let message = ControlMessage::MapRequest(request(nonce, itr_rloc(number), "10.1.0.10/32"));
        lisp::ip::udp_packet(ITR, RLOC, PORT, lisp::CONTROL_PORT, 64, &message.to_vec())
    };
    let mut bad = plain(BAD_CHECKSUM, 40);
    bad[CHECKSUM_AT] ^= 0x55;
    net.itr.send(&bad)?;
    let mut zero = plain(ZERO_CHECKSUM, 41);
    zero[CHECKSUM_AT..CHECKSUM_AT + 2].fill(0);
    net.itr.send(&zero)?;
    let message =
        ControlMessage::MapRequest(request(BAD_INNER_CHECKSUM, itr_rloc(42), "10.1.0.10/32"));
    let mut ecm = lisp::wire::Ecm::wrap(ITR, HOST, PORT, lisp::CONTROL_PORT, 64, &message);
    ecm.inner[CHECKSUM_AT] ^= 0x55;
    net.mapping
        .control((MS, OUTER_PORT), RLOC, &ControlMessage::Encapsulated(ecm))?;
    Ok(())
}

/// The packet with a nonce as it reached the ETR, decodable or not.
fn arrived(trace: &Trace, nonce: u64) -> Option<&Seen> {
    trace
        .received_by(ETR)
        .find(|packet| packet.udp().is_some_and(|udp| holds(&udp.payload, nonce)))
}

fn nothing_comes_back(trace: &Trace, findings: &mut Findings) {
    let fence = reply(trace, FENCE);
    let records = |packet: Option<&Seen>| {
        packet
            .and_then(Seen::map_reply)
            .map(|reply| reply.records.clone())
    };
    let unchanged = records(fence) == records(reply(trace, BEFORE));
    for (requirement, nonce, what) in DROPPED {
        let Some(stimulus) = arrived(trace, nonce) else {
            findings.unseen(requirement, what);
            continue;
        };
        // Whatever comes back with the nonce, a Map-Notify too.
        let back = trace
            .originated(ETR)
            .find(|packet| packet.udp().is_some_and(|udp| holds(&udp.payload, nonce)));
        match (back, fence) {
            (Some(back), _) => findings.broken(
                requirement,
                [stimulus, back],
                format!("no answer to {what}"),
                back.summary(),
            ),
            (None, Some(fence)) if unchanged => findings.met(
                requirement,
                [stimulus, fence],
                format!("{what}: silence, and the question after it was answered as before"),
            ),
            (None, Some(fence)) => findings.broken(
                requirement,
                [stimulus, fence],
                "the same mapping as before",
                "another mapping after the bad messages",
            ),
            (None, None) => findings.broken(
                requirement,
                stimulus,
                "an answer to the sound Map-Request after the bad ones",
                "none",
            ),
        }
    }
    // RFC 6830 says nothing about a zero checksum of a control message (ambiguities A11).
    let said = if reply(trace, ZERO_CHECKSUM).is_some() {
        "answered"
    } else {
        "not answered"
    };
    findings.recorded(
        CHECKSUM,
        arrived(trace, ZERO_CHECKSUM),
        format!("a Map-Request with a zero checksum over IPv4 was {said}"),
    );
}
