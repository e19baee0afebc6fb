//! A map-cache with an upper bound (RFC 6830 12).

use super::map_cache_net::{CORE, ITR, Net, OTHER, REMOTE, TOPOLOGY, became, sent, wait_question};
use crate::case::Case;
use crate::cases::common::{ip, locator, record, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;

const CAP: Req = Req::new("rfc6830-12-cache-cap");

/// A set whose parts live elsewhere than the rest.
const SET: [(&str, &str); 3] = [
    ("10.2.0.0/17", REMOTE),
    ("10.2.1.0/24", OTHER),
    ("10.2.2.0/24", OTHER),
];
/// Packets, and the locator of their longest match: of the prefixes that fill the map-cache, of the set, of what comes
/// when it is full.
const PACKETS: [(u16, &str, &str); 8] = [
    (21, "10.3.1.2", OTHER),
    (22, "10.3.2.2", OTHER),
    (23, "10.3.3.2", OTHER),
    (31, "10.2.5.5", REMOTE),
    (32, "10.2.1.1", OTHER),
    (33, "10.2.2.1", OTHER),
    (41, "10.4.1.1", OTHER),
    (42, "10.4.2.1", OTHER),
];

inventory::submit! {
    Case {
        id: "rfc6830::s12::a_full_map_cache_keeps_overlapping_prefixes_whole",
        title: "Mappings beyond the map-cache's bound: a packet follows its longest match or is not encapsulated, never a cover of it.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc6830],
        // Three prefixes and their three fences leave room for one.
        settings: &[(ITR, "map-cache-limit: 7")],
        roles: &["itr"],
        requirements: &[CAP],
        drive,
        judges: &[judge],
        sabotages: &[Sabotage {
            name: "takes of a set what there is room for",
            node: ITR,
            links: CORE,
            kills: &[CAP],
            tamper: || super::map_cache_net::replies_in(|reply| {
                let set = reply.records.len() > 1;
                reply.records.truncate(1);
                set
            }),
        }],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    for number in 1..=3u16 {
        net.map(&format!("10.3.{number}.0/24"), OTHER);
        net.resolve(drive, &format!("10.3.{number}.1"), number)?;
    }
    let set = SET.map(|(eid, rloc)| record(eid, vec![locator(rloc, 1, 100)]));
    net.answer("10.2.5.5/32", set.to_vec());
    let begin = drive.mark("one place is left");
    net.send("10.2.5.5", 4)?;
    let (_, question) = wait_question(drive, begin, "10.2.5.5/32")?;
    drive.wait_for(
        begin,
        "the Map-Reply with three records",
        seconds(5),
        |packet| {
            packet.receiver() == Some(ITR)
                && packet
                    .map_reply()
                    .is_some_and(|reply| reply.nonce == question.nonce)
        },
    )?;
    // What the parts of the set are asked for now stays unanswered: the fence takes the last place.
    for (number, to, _) in &PACKETS[..6] {
        net.send(to, *number)?;
    }
    net.fence(drive)?;
    for (number, to, rloc) in &PACKETS[6..] {
        let eid = format!("{to}/32");
        net.map(&eid, rloc);
        let begin = drive.mark(&format!("{to} is asked for"));
        net.send(to, *number)?;
        let (_, question) = wait_question(drive, begin, &eid)?;
        drive.wait_for(begin, "the Map-Reply", seconds(5), |packet| {
            packet.receiver() == Some(ITR)
                && packet
                    .map_reply()
                    .is_some_and(|reply| reply.nonce == question.nonce)
        })?;
    }
    // It lives, and still asks.
    let end = drive.mark("the map-cache is full");
    net.send("10.5.1.1", 50)?;
    wait_question(drive, end, "10.5.1.1/32")?;
    Ok(())
}

fn judge(trace: &Trace, findings: &mut Findings) {
    for (number, to, rloc) in PACKETS {
        let Some(packet) = sent(trace, number) else {
            findings.unseen(CAP, format!("the packet to {to}"));
            continue;
        };
        let became = became(trace, number);
        findings.check(
            CAP,
            became.rloc().is_none_or(|to| to == ip(rloc)),
            became.with(packet),
            format!("the packet to {to} encapsulated to {rloc}, or not at all"),
            became.text(),
        );
    }
    let survived = super::map_cache_net::questions(trace, "10.5.1.1/32");
    findings.check(
        CAP,
        !survived.is_empty(),
        &survived,
        "a Map-Request for the last miss",
        format!("{} Map-Requests", survived.len()),
    );
}
