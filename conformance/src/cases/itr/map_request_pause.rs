//! What an ITR does when nobody answers (RFC 9301 5.3).

use super::map_cache_net::{
    CORE, ITR, Net, TOPOLOGY, frame_request, is_question, questions, requests_twice,
};
use crate::case::Case;
use crate::cases::common::{prefix, seconds};
use crate::cases::paces::{once_more, pauses, until_paused};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const RETRANSMIT: Req = Req::new("rfc9301-5.3-retransmit");

/// Nobody answers about it.
const SILENT: &str = "10.2.1.1";
const ASKED: &str = "10.2.1.1/32";

inventory::submit! {
    Case {
        id: "rfc9301::s5_3::unanswered_map_requests_pause_after_ten_repetitions",
        title: "An ITR with traffic for an EID that nobody answers about asks once and at most ten times more, a second or more apart, and then not for 30 seconds.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc9300],
        roles: &["itr"],
        requirements: &[RETRANSMIT],
        timeout: seconds(180),
        slow: true,
        drive,
        judges: &[judge],
        sabotages: &[
            Sabotage {
                name: "asks once more in the pause",
                node: ITR,
                links: CORE,
                kills: &[RETRANSMIT],
                tamper: || once_more(frame_asks),
            },
            Sabotage {
                name: "repeats within a second",
                node: ITR,
                links: CORE,
                kills: &[RETRANSMIT],
                tamper: || requests_twice(std::time::Duration::from_millis(300)),
            },
        ],
        ..Case::BASE
    }
}

fn frame_asks(frame: &crate::sabotage::Frame<'_>) -> bool {
    let asked = prefix(ASKED);
    frame_request(frame).is_some_and(|request| {
        let first = request.records.first();
        first.is_some_and(|query| query.prefix() == Some(asked))
    })
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    let asked = prefix(ASKED);
    until_paused(
        drive,
        "a Map-Request that nobody answers",
        |number| net.send(SILENT, number),
        |packet| packet.sender() == Some(ITR) && is_question(packet, &asked),
    )
}

fn judge(trace: &Trace, findings: &mut Findings) {
    let asked = questions(trace, ASKED);
    let sent = trace
        .sent_by("site")
        .filter(|packet| super::map_cache_net::sequence(packet).is_some())
        .map(Seen::time_ns)
        .collect::<Vec<u64>>();
    pauses(RETRANSMIT, &asked, &sent, findings);
}
