//! How long a map-cache entry lives (RFC 6830 6.1.4; RFC 9300 6; RFC 9301 5.4).

use super::map_cache_net::{
    CORE, ITR, Net, OTHER, REMOTE, TOPOLOGY, goes_to, nothing_asked, questions_since, records_in,
    something_asked, wait_question,
};
use crate::case::Case;
use crate::cases::common::{locator, record, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;

const WITHDRAWN: Req = Req::new("rfc6830-6.1.4-ttl0");
const WITHDRAWN_MUST: Req = Req::new("rfc9301-5.4-ttl0-must");
const INFINITE: Req = Req::new("rfc6830-6.1.4-ttl-infinite");
const LARGE: Req = Req::new("rfc6830-6.1.4-ttl-large");

/// A record for `eid` with a TTL in minutes.
pub(super) fn with_ttl(eid: &str, rloc: &str, ttl: u32) -> lisp::wire::MapRecord {
    let mut found = record(eid, vec![locator(rloc, 1, 100)]);
    found.ttl = ttl;
    found
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_4::ttl_0_removes_the_entry",
        title: "A record with TTL 0 removes the entry: the next packet is not encapsulated, and is asked for.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[WITHDRAWN, WITHDRAWN_MUST],
        drive: drive_withdrawn,
        judges: &[judge_withdrawn],
        sabotages: &[Sabotage {
            name: "keeps an entry that TTL 0 withdraws",
            node: ITR,
            links: CORE,
            kills: &[WITHDRAWN],
            tamper: || records_in("10.2.1.0/24", |record| record.ttl = 1440),
        }],
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc9301::s5_4::ttl_0_removes_the_entry",
        title: "A record with TTL 0 removes the entry at once.",
        topology: TOPOLOGY,
        editions: &[crate::edition::Edition::Rfc9300],
        roles: &["itr"],
        requirements: &[WITHDRAWN_MUST],
        drive: drive_withdrawn,
        judges: &[judge_withdrawn],
        sabotages: &[Sabotage {
            name: "keeps an entry that TTL 0 withdraws",
            node: ITR,
            links: CORE,
            kills: &[WITHDRAWN_MUST],
            tamper: || records_in("10.2.1.0/24", |record| record.ttl = 1440),
        }],
        ..Case::BASE
    }
}

fn drive_withdrawn(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    net.map("10.2.1.0/24", REMOTE);
    net.resolve(drive, "10.2.1.1", 1)?;
    net.send("10.2.1.1", 2)?;
    net.fence(drive)?;
    // A Solicit-Map-Request makes the ITR ask for what it has cached (RFC 6830 6.6.2).
    net.answer("10.2.1.0/24", vec![with_ttl("10.2.1.0/24", REMOTE, 0)]);
    let begin = drive.mark("the Solicit-Map-Request");
    net.solicit(drive, "10.2.1.0/24")?;
    let (_, question) = wait_question(drive, begin, "10.2.1.0/24")?;
    drive.wait_for(begin, "the Map-Reply with TTL 0", seconds(5), |packet| {
        packet.receiver() == Some(ITR)
            && packet
                .map_reply()
                .is_some_and(|reply| reply.nonce == question.nonce)
    })?;
    net.fence(drive)?;
    net.answer("10.2.1.0/24", Vec::new());
    drive.mark("the entry is gone");
    // Another host: about the first one something was asked lately.
    net.send("10.2.1.2", 3)?;
    net.fence(drive)
}

fn judge_withdrawn(trace: &Trace, findings: &mut Findings) {
    for requirement in [WITHDRAWN, WITHDRAWN_MUST] {
        if super::map_cache_net::became(trace, 2).rloc().is_none() {
            findings.unseen(requirement, "an entry that is used");
            continue;
        }
        super::map_cache_net::not_encapsulated(trace, findings, requirement, 3);
        something_asked(
            trace,
            findings,
            requirement,
            "the entry is gone",
            "10.2.1.0/24",
        );
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_4::large_ttls_do_not_overflow",
        title: "Entries with TTL 0xffffffff, 0x80000000, 0x7fffffff and such that overflow 32 bits as seconds are used and stay.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[INFINITE, LARGE],
        drive: drive_large,
        judges: &[judge_large],
        sabotages: &[
            Sabotage {
                name: "0xffffffff minutes overflow",
                node: ITR,
                links: CORE,
                kills: &[INFINITE],
                tamper: || records_in("10.2.10.0/24", |record| record.ttl = record.ttl.wrapping_add(1)),
            },
            Sabotage {
                name: "a TTL with its first bit set is negative",
                node: ITR,
                links: CORE,
                kills: &[LARGE],
                tamper: || records_in("10.2.11.0/24", |record| record.ttl &= 0x7fff_ffff),
            },
            Sabotage {
                name: "seconds overflow",
                node: ITR,
                links: CORE,
                kills: &[LARGE],
                tamper: || records_in("10.2.13.0/24", |record| record.ttl = record.ttl.wrapping_mul(60) / 60),
            },
        ],
        ..Case::BASE
    }
}

/// Minutes; the last one is, in seconds, 44 more than 32 bits hold.
const LONG: [u32; 4] = [u32::MAX, 0x8000_0000, 0x7fff_ffff, 71_582_789];

fn drive_large(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    for (ttl, at) in LONG.into_iter().zip(10..) {
        let eid = format!("10.2.{at}.0/24");
        net.answer(&eid, vec![with_ttl(&eid, OTHER, ttl)]);
        net.resolve(drive, &format!("10.2.{at}.1"), at)?;
    }
    drive.mark("all are cached");
    for at in 10..14 {
        net.send(&format!("10.2.{at}.2"), 10 + at)?;
    }
    net.fence(drive)
}

fn judge_large(trace: &Trace, findings: &mut Findings) {
    for (ttl, at) in LONG.into_iter().zip(10..) {
        let requirement = if ttl == u32::MAX { INFINITE } else { LARGE };
        goes_to(trace, findings, requirement, 10 + at, OTHER);
        let eid = format!("10.2.{at}.0/24");
        nothing_asked(trace, findings, requirement, "all are cached", &eid);
    }
}

const MINUTES: Req = Req::new("rfc6830-6.1.4-ttl-minutes");
const EXPIRES: Req = Req::new("rfc9300-6-cache-expire");

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_4::one_minute_is_sixty_seconds",
        title: "An entry with TTL 1 is used for most of a minute, and not after sixty seconds unless it was asked for again.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[MINUTES, EXPIRES],
        timeout: seconds(100),
        slow: true,
        drive: drive_minute,
        judges: &[judge_minute],
        sabotages: &[
            Sabotage {
                name: "takes minutes for hours",
                node: ITR,
                links: CORE,
                kills: &[MINUTES],
                tamper: || records_in("10.2.1.0/24", |record| record.ttl = 60),
            },
            Sabotage {
                name: "takes minutes for nothing",
                node: ITR,
                links: CORE,
                kills: &[MINUTES],
                tamper: || records_in("10.2.1.0/24", |record| record.ttl = 0),
            },
        ],
        ..Case::BASE
    }
}

/// Time that a packet may take from the ITR's clock to the capture, and back.
const SLACK_NS: u64 = 1_000_000_000;
const MINUTE_NS: u64 = 60_000_000_000;

/// Keeps traffic flowing for 62 s; the mapping system is silent after the first answer.
fn drive_minute(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    net.answer("10.2.1.0/24", vec![with_ttl("10.2.1.0/24", OTHER, 1)]);
    net.resolve(drive, "10.2.1.1", 1)?;
    net.answer("10.2.1.0/24", Vec::new());
    let begin = drive.mark("the entry is cached");
    for number in 10.. {
        if drive.now_ns() > begin + MINUTE_NS + 2 * SLACK_NS {
            break;
        }
        net.send("10.2.1.1", number)?;
        let next = drive.now_ns();
        // Paced by waiting for what never comes: an answer of the silent remote host.
        let _ = drive.wait_for(next, "traffic for a minute", seconds(1) / 2, |packet| {
            packet.sender() == Some("other") && packet.is_data()
        });
    }
    net.fence(drive)
}

fn judge_minute(trace: &Trace, findings: &mut Findings) {
    let Some(cached) = trace.mark("the entry is cached") else {
        findings.unseen(MINUTES, "a cached entry");
        return;
    };
    let used: Vec<_> = trace
        .sent_by(ITR)
        .filter(|packet| {
            super::map_cache_net::inner_sequence(packet).is_some_and(|number| number < 60_000)
                && packet.destination() == Some(crate::cases::common::ip(OTHER))
                && packet.time_ns() >= cached
        })
        .collect();
    let replied = trace.received_by(ITR).rfind(|packet| {
        packet.map_reply().is_some_and(|reply| {
            reply.records.iter().any(|record| {
                record.eid_prefix() == Some(crate::cases::common::prefix("10.2.1.0/24"))
            })
        })
    });
    let (Some(last), Some(replied)) = (used.last(), replied) else {
        for requirement in [MINUTES, EXPIRES] {
            findings.broken(
                requirement,
                Vec::new(),
                "the entry is used",
                "no packet was encapsulated by it",
            );
        }
        return;
    };
    let life = last.time_ns().saturating_sub(replied.time_ns());
    let seen = format!("last used {:.1} s after its Map-Reply", life as f64 / 1e9);
    for requirement in [MINUTES, EXPIRES] {
        findings.check(
            requirement,
            (MINUTE_NS / 2..=MINUTE_NS + SLACK_NS).contains(&life),
            [replied, *last],
            "used until about 60 s after its Map-Reply",
            seen.clone(),
        );
    }
    let asked = questions_since(trace, "the entry is cached", "10.2.1.0/24");
    findings.recorded(
        MINUTES,
        &asked,
        format!("{} Map-Requests to refresh it, unanswered", asked.len()),
    );
}
