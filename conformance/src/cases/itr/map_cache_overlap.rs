//! Overlapping EID-Prefixes in the map-cache (RFC 6830 6.1.5).

use super::map_cache_net::{
    CORE, ITR, Net, OTHER, REMOTE, RESOLVER, TOPOLOGY, goes_to, nothing_asked, records_in,
    something_asked, wait_question,
};
use super::map_cache_ttl::with_ttl;
use crate::case::Case;
use crate::cases::common::{locator, record, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;

const ADDED: Req = Req::new("rfc6830-6.1.5-more-specific-add");
const REPLACED: Req = Req::new("rfc6830-6.1.5-less-specific-replace");
const EARLIEST: Req = Req::new("rfc6830-6.1.5-min-expiry");

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_5::more_specifics_are_cached_beside_their_cover",
        title: "All records of one Map-Reply are cached, and each packet follows the longest match.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[ADDED],
        drive: drive_added,
        judges: &[judge_added],
        sabotages: &[
            Sabotage {
                name: "caches only the first record",
                node: ITR,
                links: CORE,
                kills: &[ADDED],
                tamper: || super::map_cache_net::replies_in(|reply| {
                    let several = reply.records.len() > 1;
                    reply.records.truncate(1);
                    several
                }),
            },
            Sabotage {
                name: "loses a more-specific",
                node: ITR,
                links: CORE,
                kills: &[ADDED],
                tamper: || records_in("10.2.2.0/24", |record| record.ttl = 0),
            },
        ],
        ..Case::BASE
    }
}

fn drive_added(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    // The set of RFC 6830 6.1.5's example, one locator each.
    let set = [
        ("10.2.0.0/17", REMOTE),
        ("10.2.1.0/24", OTHER),
        ("10.2.2.0/24", RESOLVER),
    ];
    let records = set
        .into_iter()
        .map(|(eid, rloc)| record(eid, vec![locator(rloc, 1, 100)]));
    net.answer("10.2.0.0/17", records.collect());
    net.resolve(drive, "10.2.5.5", 1)?;
    drive.mark("all three are cached");
    net.send("10.2.5.5", 2)?;
    net.send("10.2.1.1", 3)?;
    net.send("10.2.2.1", 4)?;
    net.send("10.2.127.255", 5)?;
    net.fence(drive)
}

fn judge_added(trace: &Trace, findings: &mut Findings) {
    goes_to(trace, findings, ADDED, 2, REMOTE);
    goes_to(trace, findings, ADDED, 3, OTHER);
    goes_to(trace, findings, ADDED, 4, RESOLVER);
    goes_to(trace, findings, ADDED, 5, REMOTE);
    nothing_asked(
        trace,
        findings,
        ADDED,
        "all three are cached",
        "10.2.0.0/17",
    );
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_5::a_covering_record_replaces_what_it_was_asked_for",
        title: "Two halves are cached; a question about one is answered with the whole: both follow the new mapping.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[REPLACED],
        drive: drive_replaced,
        judges: &[judge_replaced],
        sabotages: &[
            Sabotage {
                name: "keeps the old half",
                node: ITR,
                links: CORE,
                kills: &[REPLACED],
                tamper: || records_in("10.2.4.0/24", |found| {
                    if found.eid_mask_len == 24 {
                        found.eid_mask_len = 25;
                    }
                }),
            },
            Sabotage {
                name: "ignores a less-specific record",
                node: ITR,
                links: CORE,
                kills: &[REPLACED],
                tamper: || super::map_cache_net::replies_in(|reply| {
                    let before = reply.records.len();
                    reply.records.retain(|record| record.eid_mask_len != 24);
                    reply.records.len() != before
                }),
            },
        ],
        ..Case::BASE
    }
}

fn drive_replaced(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    net.map("10.2.4.0/25", REMOTE);
    net.map("10.2.4.128/25", REMOTE);
    net.resolve(drive, "10.2.4.1", 1)?;
    net.resolve(drive, "10.2.4.129", 2)?;
    net.send("10.2.4.1", 3)?;
    net.send("10.2.4.129", 4)?;
    net.fence(drive)?;
    net.answer(
        "10.2.4.0/24",
        vec![record("10.2.4.0/24", vec![locator(OTHER, 1, 100)])],
    );
    let begin = drive.mark("the Solicit-Map-Request");
    net.solicit(drive, "10.2.4.0/25")?;
    let (_, question) = wait_question(drive, begin, "10.2.4.0/24")?;
    drive.wait_for(
        begin,
        "the Map-Reply for both halves",
        seconds(5),
        |packet| {
            packet.receiver() == Some(ITR)
                && packet
                    .map_reply()
                    .is_some_and(|reply| reply.nonce == question.nonce)
        },
    )?;
    net.fence(drive)?;
    net.send("10.2.4.1", 5)?;
    net.send("10.2.4.129", 6)?;
    net.fence(drive)
}

fn judge_replaced(trace: &Trace, findings: &mut Findings) {
    for number in [3, 4] {
        goes_to(trace, findings, REPLACED, number, REMOTE);
    }
    for number in [5, 6] {
        goes_to(trace, findings, REPLACED, number, OTHER);
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_5::a_later_cover_expires_with_its_more_specific",
        title: "A less-specific with a long TTL that is learned after a more-specific with TTL 1 is asked for again with it.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[EARLIEST],
        timeout: seconds(100),
        slow: true,
        drive: drive_earliest,
        judges: &[judge_earliest],
        sabotages: &[Sabotage {
            name: "keeps the less-specific for its own TTL",
            node: ITR,
            links: CORE,
            kills: &[EARLIEST],
            tamper: || records_in("10.2.1.0/24", |record| record.ttl = 10),
        }],
        ..Case::BASE
    }
}

fn drive_earliest(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    net.answer("10.2.1.0/24", vec![with_ttl("10.2.1.0/24", OTHER, 1)]);
    net.resolve(drive, "10.2.1.1", 1)?;
    let begin = drive.mark("the more-specific is cached");
    net.answer("10.2.0.0/17", vec![with_ttl("10.2.0.0/17", REMOTE, 10)]);
    net.resolve(drive, "10.2.5.5", 2)?;
    drive.mark("the less-specific is cached");
    net.send("10.2.5.6", 3)?;
    net.fence(drive)?;
    net.answer("10.2.0.0/17", Vec::new());
    // Nobody uses either until their minute is over: there is nothing to refresh.
    let over = begin + 61_000_000_000;
    while drive.now_ns() < over {
        let left = std::time::Duration::from_nanos(over.saturating_sub(drive.now_ns()));
        let _ = drive.wait_for(
            u64::MAX,
            "the minute of the more-specific to be over",
            left,
            |_| false,
        );
    }
    drive.mark("the minute is over");
    net.send("10.2.5.7", 4)?;
    net.fence(drive)
}

fn judge_earliest(trace: &Trace, findings: &mut Findings) {
    goes_to(trace, findings, EARLIEST, 3, REMOTE);
    something_asked(
        trace,
        findings,
        EARLIEST,
        "the minute is over",
        "10.2.5.7/32",
    );
    super::map_cache_net::not_encapsulated(trace, findings, EARLIEST, 4);
}
