//! Packets that wait for their mapping (RFC 9300 6), and the one question that they cause (RFC 6830 4.1).

use harness::inline::{PacketFate, Way};

use super::map_cache_net::{
    CORE, ITR, Net, OTHER, REMOTE, TOPOLOGY, inner_sequence, questions, wait_question,
};
use crate::case::Case;
use crate::cases::common::{locator, record};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::{Frame, Sabotage, Tamper};
use crate::trace::{Seen, Trace};
use crate::words;

const BUFFER: Req = Req::new("rfc9300-6-miss-buffer");
const ENCAPSULATED: Req = Req::new("rfc6830-3-itr-encap");
const ONE_QUESTION: Req = Req::new("rfc6830-4.1-mreq-when");

/// Packets that are held for one EID, and for all: as the settings below say.
const PER_EID: usize = 4;
const TOTAL: usize = 8;
/// Packets to the first EID, and to the second.
const FIRST: std::ops::Range<u16> = 1..8;
const SECOND: std::ops::Range<u16> = 11..15;
/// To the third, which stays unanswered.
const THIRD: u16 = 20;
/// Of the first EID's packets, four were held, and the oldest of these made room for the third EID's packet.
const OLDEST: u16 = 5;
const NEWEST: u16 = 7;

inventory::submit! {
    Case {
        id: "rfc9300::s6::held_packets_keep_their_order_and_bound",
        title: "More packets miss than are held, by EID and in total: the newest go when the mapping comes, in order; each EID is asked for once.",
        topology: TOPOLOGY,
        settings: &[(ITR, "{on-miss: hold, hold: {per-eid: 4, total: 8}, data-plane: {offload: false}}")],
        roles: &["itr"],
        requirements: &[BUFFER, ENCAPSULATED, ONE_QUESTION],
        drive,
        judges: &[judge_held, judge_after],
        sabotages: &[
            Sabotage {
                name: "asks for every packet",
                node: ITR,
                links: CORE,
                kills: &[ONE_QUESTION],
                tamper: || super::map_cache_net::requests_twice(std::time::Duration::from_millis(1)),
            },
            Sabotage {
                name: "does not use the mapping",
                node: ITR,
                links: CORE,
                kills: &[ENCAPSULATED],
                tamper: || super::map_cache_net::records_in("10.2.1.0/24", |record| record.ttl = 0),
            },
            OUT_OF_ORDER, A_PACKET_MORE,
        ],
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc9300::s6::what_is_held_is_bounded_and_in_order",
        title: "Packets that were held leave in the order in which they came, and no more than the ITR was told to hold.",
        topology: TOPOLOGY,
        editions: &[crate::edition::Edition::Rfc9300],
        settings: &[(ITR, "{on-miss: hold, hold: {per-eid: 4, total: 8}, data-plane: {offload: false}}")],
        roles: &["itr"],
        requirements: &[BUFFER],
        drive,
        judges: &[judge_held],
        sabotages: &[
            OUT_OF_ORDER, A_PACKET_MORE,
        ],
        ..Case::BASE
    }
}

const OUT_OF_ORDER: Sabotage = Sabotage {
    name: "sends held packets out of order",
    node: ITR,
    links: CORE,
    kills: &[BUFFER],
    tamper: out_of_order,
};

const A_PACKET_MORE: Sabotage = Sabotage {
    name: "holds more than it was told to",
    node: ITR,
    links: CORE,
    kills: &[BUFFER],
    tamper: a_packet_more,
};

/// The oldest held packet and the newest take each other's place.
fn out_of_order() -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim {
            match echo_of(frame) {
                Some(number) if number == OLDEST => renumber(frame, NEWEST),
                Some(number) if number == NEWEST => renumber(frame, OLDEST),
                _ => {}
            }
        }
        PacketFate::Forward
    })
}

/// The oldest packet of all leaves, in the place of the oldest held one.
fn a_packet_more() -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim && echo_of(frame) == Some(OLDEST) {
            renumber(frame, FIRST.start);
        }
        PacketFate::Forward
    })
}

fn echo_of(frame: &Frame<'_>) -> Option<u16> {
    let outer = frame.ip()?;
    let payload = &outer.udp()?.payload;
    let inner = crate::decode::ip(payload.get(lisp::wire::data::DATA_HEADER_LEN..)?)?;
    let icmp = inner.icmp()?;
    icmp.is_echo_request().then(|| icmp.echo().1)
}

fn renumber(frame: &mut Frame<'_>, number: u16) {
    frame.edit_data(|_, inner| {
        let Some(packet) = crate::decode::ip(inner) else {
            return false;
        };
        let mut echo = crate::drive::Echo::new(packet.source, packet.destination, number);
        echo.ttl = packet.ttl;
        *inner = echo.request();
        true
    });
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    let begin = drive.mark("the misses");
    for number in FIRST {
        net.send("10.2.1.1", number)?;
    }
    let (_, first) = wait_question(drive, begin, "10.2.1.1/32")?;
    for number in SECOND {
        net.send("10.2.2.1", number)?;
    }
    let (_, second) = wait_question(drive, begin, "10.2.2.1/32")?;
    // A question more: when it is seen, the ITR has all packets before it. Its packet is held too, as the last one.
    net.send("10.2.3.1", THIRD)?;
    wait_question(drive, begin, "10.2.3.1/32")?;
    let to = |eid, rloc| vec![record(eid, vec![locator(rloc, 1, 100)])];
    net.reply(&first, first.nonce, to("10.2.1.0/24", REMOTE))?;
    net.reply(&second, second.nonce, to("10.2.2.0/24", OTHER))?;
    net.fence(drive)?;
    drive.mark("the mappings are there");
    net.send("10.2.1.1", 30)?;
    net.send("10.2.2.1", 31)?;
    net.fence(drive)
}

/// Sequence numbers in the order in which they left, of packets that were held.
fn left(trace: &Trace) -> (Vec<&Seen>, Vec<u16>) {
    let end = trace.mark("the mappings are there").unwrap_or(u64::MAX);
    trace
        .sent_by(ITR)
        .filter(|packet| packet.time_ns() < end)
        .filter_map(|packet| Some((packet, inner_sequence(packet)?)))
        .filter(|(_, number)| *number < 30)
        .unzip()
}

/// Of each EID the newest as many as are held for it, in order; in total as many as are held. An ITR that holds none has
/// dropped them, which is as good (RFC 9300 6).
fn judge_held(trace: &Trace, findings: &mut Findings) {
    if trace.mark("the mappings are there").is_none() {
        findings.unseen(BUFFER, "packets and, later, their mappings");
        return;
    }
    let (packets, numbers) = left(trace);
    findings.check(
        BUFFER,
        numbers.len() <= TOTAL,
        &packets,
        format!("at most {TOTAL} held packets"),
        format!("packets {}", words::listed(&numbers)),
    );
    for sent in [FIRST, SECOND] {
        let of_eid: Vec<u16> = numbers
            .iter()
            .copied()
            .filter(|number| sent.contains(number))
            .collect();
        let newest: Vec<u16> = sent
            .clone()
            .skip(sent.len() - of_eid.len().min(sent.len()))
            .collect();
        findings.check(
            BUFFER,
            of_eid.len() <= PER_EID && of_eid == newest,
            &packets,
            format!(
                "at most {PER_EID} of packets {} to {}, the newest, in their order",
                sent.start,
                sent.end - 1
            ),
            format!("packets {}", words::listed(&of_eid)),
        );
    }
}

fn judge_after(trace: &Trace, findings: &mut Findings) {
    super::map_cache_net::goes_to(trace, findings, ENCAPSULATED, 30, REMOTE);
    super::map_cache_net::goes_to(trace, findings, ENCAPSULATED, 31, OTHER);
    let (packets, numbers) = left(trace);
    findings.recorded(
        ENCAPSULATED,
        &packets,
        format!(
            "of those that missed, these left later: {}",
            words::listed(numbers)
        ),
    );
    for eid in ["10.2.1.1/32", "10.2.2.1/32"] {
        let asked = questions(trace, eid);
        // One more a second later is a retransmission: the judge of a slow host is fair.
        let soon = asked
            .iter()
            .filter(|packet| packet.time_ns() < asked[0].time_ns() + 900_000_000)
            .count();
        findings.check(
            ONE_QUESTION,
            soon == 1,
            &asked,
            format!("one Map-Request for {eid}, whatever the number of packets"),
            format!("{soon} Map-Requests"),
        );
    }
}
