//! How often an ITR asks (RFC 6830 4.1, 6.1.3; RFC 9301 5.3).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::ip::IpHeader;
use lisp::wire::{ControlMessage, EidQuery};

use super::map_cache_net::{
    CORE, ITR, Net, OTHER, RESOLVER, TOPOLOGY, is_question, questions, requests_twice,
};
use crate::case::Case;
use crate::cases::common::{ip, prefix, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};

const SHOULD: Req = Req::new("rfc6830-4.1-mreq-rate-should");
const MUST: Req = Req::new("rfc6830-6.1.3-rate-must");
const ONE_A_SECOND: Req = Req::new("rfc6830-6.1.3-rate-1s");

/// Nobody answers about it.
const SILENT: &str = "10.2.1.1";
/// Packets to it in a row, before each of its first Map-Requests is seen.
const BURST: u16 = 150;
/// Destinations of the range.
const RANGE: u8 = 200;
/// Packets to each of them.
const EACH: u16 = 5;
/// Least time between two Map-Requests for one EID: a second less 5 %.
const GAP_NS: u64 = 950_000_000;

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_3::map_requests_are_rate_limited",
        title: "Hundreds of packets to one unanswered destination, then to 200: no EID is asked for more than once a second.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[SHOULD, MUST, ONE_A_SECOND],
        drive: drive_rate,
        judges: &[judge_rate],
        sabotages: &[
            Sabotage {
                name: "asks twice within a second",
                node: ITR,
                links: CORE,
                kills: &[MUST, ONE_A_SECOND],
                tamper: || requests_twice(Duration::from_millis(300)),
            },
            Sabotage {
                name: "asks for every packet",
                node: ITR,
                links: &["site", "rloc"],
                kills: &[SHOULD, MUST, ONE_A_SECOND],
                tamper: for_every_packet,
            },
        ],
        ..Case::BASE
    }
}

/// Gives each packet to the silent destination one of its own, and puts the Map-Requests for these under its name.
fn for_every_packet() -> Tamper {
    let aliases = prefix("10.2.64.0/18");
    Box::new(move |way, frame| {
        match way {
            Way::ToVictim => {
                let number = frame.ip().and_then(|packet| {
                    let echo = packet.icmp().filter(|icmp| icmp.is_echo_request())?;
                    (packet.destination == ip(SILENT)).then(|| echo.echo().1)
                });
                if let Some(number) = number {
                    let [high, low] = number.to_be_bytes();
                    frame.edit_ip(|header, _| {
                        if let IpHeader::V4(header) = header {
                            header.destination = Ipv4Addr::new(10, 2, 64 + high, low);
                        }
                        true
                    });
                }
            }
            Way::FromVictim => {
                frame.edit_control(|message| match message {
                    ControlMessage::MapRequest(request) => {
                        let asked = request.records.first().and_then(EidQuery::prefix);
                        let alias = asked.is_some_and(|asked| aliases.covers(&asked));
                        if alias {
                            request.records = vec![EidQuery::new(prefix("10.2.1.1/32"))];
                        }
                        alias
                    }
                    _ => false,
                });
            }
        }
        PacketFate::Forward
    })
}

fn drive_rate(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    let asked = prefix("10.2.1.1/32");
    let mut since = drive.mark("packets to one destination");
    let mut number = 1;
    for count in 1..=3 {
        for _ in 0..BURST {
            net.send(SILENT, number)?;
            number += 1;
        }
        let what = format!("Map-Request {count} for {SILENT}");
        let seen = drive.wait_for(since, &what, seconds(8), |packet| {
            packet.sender() == Some(ITR) && is_question(packet, &asked)
        })?;
        since = seen.time_ns() + 1;
    }
    drive.mark("packets to many destinations");
    for round in 0..EACH {
        for host in 1..=RANGE {
            net.send(&format!("10.2.2.{host}"), 1000 + round)?;
        }
    }
    net.fence(drive)
}

fn judge_rate(trace: &Trace, findings: &mut Findings) {
    let mut by_eid: BTreeMap<String, Vec<&Seen>> = BTreeMap::new();
    for packet in questions(trace, "10.2.0.0/22") {
        let query = packet
            .map_request()
            .and_then(|request| request.records.first());
        if let Some(eid) = query.and_then(EidQuery::prefix) {
            by_eid.entry(eid.to_string()).or_default().push(packet);
        }
    }
    let count = |eid: &str| by_eid.get(eid).map_or(0, Vec::len);
    let packets = trace
        .sent_by("site")
        .filter(|packet| packet.destination() == Some(ip(SILENT)))
        .count();
    let asked = count("10.2.1.1/32");
    if asked == 0 || packets < usize::from(BURST) {
        for requirement in [SHOULD, MUST, ONE_A_SECOND] {
            findings.unseen(
                requirement,
                "packets to an unanswered destination and a Map-Request for it",
            );
        }
        return;
    }
    let first: Vec<&Seen> = by_eid["10.2.1.1/32"].clone();
    let seen = format!("{asked} Map-Requests for {packets} packets");
    for requirement in [SHOULD, MUST] {
        findings.check(
            requirement,
            asked * 20 <= packets,
            &first,
            "far fewer Map-Requests than packets",
            seen.clone(),
        );
    }
    let many: usize = by_eid.values().map(Vec::len).sum::<usize>() - asked;
    let sent = usize::from(RANGE) * usize::from(EACH);
    findings.check(
        MUST,
        many <= usize::from(RANGE) * 2,
        Vec::new(),
        format!("far fewer Map-Requests than {sent} packets to {RANGE} destinations"),
        format!("{many} Map-Requests"),
    );
    let mut close = by_eid.iter().flat_map(|(eid, packets)| {
        packets
            .windows(2)
            .map(move |pair| (eid, pair[0], pair[1]))
            .filter(|(_, one, two)| two.time_ns() - one.time_ns() < GAP_NS)
    });
    match close.next() {
        Some((eid, one, two)) => {
            let gap = (two.time_ns() - one.time_ns()) / 1_000_000;
            for requirement in [MUST, ONE_A_SECOND] {
                findings.broken(
                    requirement,
                    [one, two],
                    "a second between two Map-Requests for one EID",
                    format!("{gap} ms between two for {eid}"),
                );
            }
        }
        None => {
            for requirement in [MUST, ONE_A_SECOND] {
                findings.met(
                    requirement,
                    &first,
                    "a second or more between two Map-Requests for one EID",
                );
            }
        }
    }
}

const FAILOVER: Req = Req::new("rfc6833-4.1-mr-failover");

inventory::submit! {
    Case {
        id: "rfc6833::s4_1::a_silent_map_resolver_is_followed_by_the_next",
        title: "Unanswered Map-Requests are repeated with back-off; which Map-Resolver is asked then is recorded.",
        topology: TOPOLOGY,
        settings: &[(ITR, "map-resolvers: [192.0.2.66, 198.51.100.10]")],
        roles: &["itr"],
        requirements: &[ONE_A_SECOND, FAILOVER],
        timeout: seconds(45),
        drive: drive_failover,
        judges: &[judge_failover],
        sabotages: &[Sabotage {
            name: "repeats too soon",
            node: ITR,
            links: CORE,
            kills: &[ONE_A_SECOND],
            tamper: || requests_twice(Duration::from_millis(400)),
        }],
        ..Case::BASE
    }
}

fn drive_failover(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    // The first Map-Resolver is there, and says nothing.
    net.map("10.2.1.0/24", super::map_cache_net::REMOTE);
    net.map("10.2.2.0/24", super::map_cache_net::REMOTE);
    let begin = drive.mark("the first miss");
    net.send("10.2.1.1", 1)?;
    let answered = |packet: &Seen, eid: &str| {
        packet.receiver() == Some(ITR)
            && packet.map_reply().is_some_and(|reply| {
                reply
                    .records
                    .iter()
                    .any(|record| record.eid_prefix() == Some(prefix(eid)))
            })
    };
    // Whether an implementation has a second Map-Resolver at all is recorded, so this may not come.
    let _ = drive.wait_for(
        begin,
        "the second Map-Resolver's answer",
        seconds(15),
        |packet| answered(packet, "10.2.1.0/24"),
    );
    let again = drive.mark("the second miss");
    net.send("10.2.2.1", 2)?;
    let asked = prefix("10.2.2.0/24");
    drive.wait_for(
        again,
        "a Map-Request for the second miss",
        seconds(5),
        |packet| packet.sender() == Some(ITR) && is_question(packet, &asked),
    )?;
    Ok(())
}

fn judge_failover(trace: &Trace, findings: &mut Findings) {
    let asked = questions(trace, "10.2.1.0/24");
    let gaps: Vec<f64> = asked
        .windows(2)
        .map(|pair| (pair[1].time_ns() - pair[0].time_ns()) as f64 / 1e9)
        .collect();
    let listed: Vec<String> = gaps.iter().map(|gap| format!("{gap:.2} s")).collect();
    findings.check(
        ONE_A_SECOND,
        !asked.is_empty() && gaps.iter().all(|gap| *gap * 1e9 >= GAP_NS as f64),
        &asked,
        "a second or more between two Map-Requests for one EID",
        listed.join(", "),
    );
    let to = |packets: &[&Seen], resolver: &str| {
        packets
            .iter()
            .filter(|packet| packet.destination() == Some(ip(resolver)))
            .count()
    };
    let later = questions(trace, "10.2.2.0/24");
    findings.recorded(
        FAILOVER,
        &asked,
        format!(
            "{} Map-Requests to the first, silent Map-Resolver and {} to the second, after {}; the next miss goes to the {}",
            to(&asked, OTHER),
            to(&asked, RESOLVER),
            listed.join(", "),
            if to(&later, OTHER) > 0 { "first" } else { "second" },
        ),
    );
}
