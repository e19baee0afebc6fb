//! Map-Requests about what is cached: probes and refreshes (RFC 6830 6.1.2, 6.1.3; RFC 9301 5.2, 5.3).

use lisp::Address;
use lisp::wire::{EidQuery, MapRequest};

use super::map_cache_net::{
    CORE, ITR, Net, OTHER, REMOTE, RESOLVER, TOPOLOGY, goes_to, inner_sequence, questions_since,
    records_in, requests_out,
};
use super::map_cache_ttl::with_ttl;
use crate::case::Case;
use crate::cases::common::{edit_outgoing, ip, prefix, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const MASK: Req = Req::new("rfc6830-6.1.2-eid-refresh-mask");
const NO_SOURCE_EID: Req = Req::new("rfc6830-6.1.2-source-eid-afi0");
const TO_LOCATOR: Req = Req::new("rfc6830-6.1.3-dst-rloc");

/// The cached EID-Prefix.
const CACHED: &str = "10.2.1.0/24";

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_2::probes_ask_for_the_cached_prefix",
        title: "RLOC-probes name the cached EID-Prefix with its mask-len, no Source-EID, and go to a locator of its set.",
        topology: TOPOLOGY,
        settings: &[(ITR, "rloc-probing: {interval: 1s}")],
        roles: &["itr"],
        features: &["rloc-probe"],
        requirements: &[MASK, NO_SOURCE_EID, TO_LOCATOR],
        timeout: seconds(90),
        drive: drive_probes,
        judges: &[judge_probes],
        sabotages: &[
            Sabotage {
                name: "probes with the mask of a host",
                node: ITR,
                links: CORE,
                kills: &[MASK],
                tamper: || requests_out(|request| {
                    let probe = request.probe;
                    if probe {
                        request.records = vec![EidQuery::new(prefix("10.2.1.1/32"))];
                    }
                    probe
                }),
            },
            Sabotage {
                name: "names a Source-EID in probes",
                node: ITR,
                links: CORE,
                kills: &[NO_SOURCE_EID],
                tamper: || requests_out(|request| {
                    let probe = request.probe;
                    if probe {
                        request.source_eid = Address::from(ip("10.1.0.10"));
                    }
                    probe
                }),
            },
            Sabotage {
                name: "probes another address",
                node: ITR,
                links: CORE,
                kills: &[TO_LOCATOR],
                tamper: || edit_outgoing(|frame| {
                    if super::map_cache_net::frame_request(frame).is_some_and(|request| request.probe) {
                        frame.edit_addresses(|header| {
                            if let lisp::ip::IpHeader::V4(header) = header {
                                header.destination = std::net::Ipv4Addr::new(198, 51, 100, 10);
                            }
                            true
                        });
                    }
                }),
            },
        ],
        ..Case::BASE
    }
}

fn is_probe(packet: &Seen) -> bool {
    packet.map_request().is_some_and(|request| request.probe)
}

fn drive_probes(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    net.map(CACHED, REMOTE);
    net.resolve(drive, "10.2.1.1", 1)?;
    let begin = drive.mark("the mapping is cached");
    let wait = drive.timer(ITR, "rloc-probing").max(seconds(60));
    drive.wait_for(begin, "an RLOC-probe about it", wait, |packet| {
        packet.sender() == Some(ITR)
            && is_probe(packet)
            && packet
                .map_request()
                .is_some_and(|request| !is_about_fences(request))
    })?;
    Ok(())
}

/// The fences' mappings have the same locator: a probe of it may name one of them.
fn is_about_fences(request: &MapRequest) -> bool {
    let fences = prefix("10.2.250.0/24");
    let asked = request.records.iter().filter_map(EidQuery::prefix);
    asked.into_iter().all(|asked| fences.covers(&asked))
}

fn judge_probes(trace: &Trace, findings: &mut Findings) {
    let probes: Vec<&Seen> = trace
        .sent_by(ITR)
        .filter(|packet| is_probe(packet))
        .filter(|packet| !packet.map_request().is_some_and(is_about_fences))
        .collect();
    if probes.is_empty() {
        for requirement in [MASK, NO_SOURCE_EID, TO_LOCATOR] {
            findings.unseen(requirement, "an RLOC-probe");
        }
    }
    for probe in probes {
        about_cached(probe, findings);
        let to = probe.destination();
        findings.check(
            TO_LOCATOR,
            to == Some(ip(REMOTE)),
            probe,
            format!("to {REMOTE}, the locator of the cached set"),
            probe.summary(),
        );
    }
}

/// The cached prefix and no Source-EID.
fn about_cached(packet: &Seen, findings: &mut Findings) {
    let Some(request) = packet.map_request() else {
        return;
    };
    let asked = request.records.first().and_then(EidQuery::prefix);
    findings.check(
        MASK,
        asked == Some(prefix(CACHED)),
        packet,
        CACHED,
        asked.map_or("no prefix".to_owned(), |asked| asked.to_string()),
    );
    findings.check(
        NO_SOURCE_EID,
        request.source_eid == Address::None,
        packet,
        "Source-EID-AFI 0",
        format!("Source-EID {}", request.source_eid),
    );
}

const LIVES: Req = Req::new("rfc6830-6.1.4-ttl-minutes");

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_3::entries_in_use_are_refreshed_idle_ones_are_not",
        title: "Before a minute is over the entry in use is asked for, to a locator of it, and its new mapping used; the idle one goes.",
        topology: TOPOLOGY,
        roles: &["itr"],
        features: &["rloc-probe"],
        editions: &[Edition::Rfc6830],
        requirements: &[MASK, NO_SOURCE_EID, TO_LOCATOR, LIVES],
        timeout: seconds(100),
        slow: true,
        drive: drive_refresh,
        judges: &[judge_refresh],
        sabotages: &[
            Sabotage {
                name: "refreshes with the mask of a host",
                node: ITR,
                links: CORE,
                kills: &[MASK],
                tamper: || requests_out(|request| {
                    let cached = request.records.first().is_some_and(|query| query.mask_len == 24);
                    if cached {
                        request.records = vec![EidQuery::new(prefix("10.2.1.1/32"))];
                    }
                    cached
                }),
            },
            Sabotage {
                name: "asks the Map-Resolver about the entry in use",
                node: ITR,
                links: CORE,
                kills: &[TO_LOCATOR],
                tamper: || edit_outgoing(|frame| {
                    let asked = super::map_cache_net::frame_request(frame);
                    let query = asked.and_then(|request| request.records.first().and_then(EidQuery::prefix));
                    if query == Some(prefix(CACHED)) {
                        frame.edit_addresses(|header| {
                            if let lisp::ip::IpHeader::V4(header) = header {
                                header.destination = std::net::Ipv4Addr::new(198, 51, 100, 10);
                            }
                            true
                        });
                    }
                }),
            },
            Sabotage {
                name: "names a Source-EID when it refreshes",
                node: ITR,
                links: CORE,
                kills: &[NO_SOURCE_EID],
                tamper: || requests_out(|request| {
                    let cached = request.records.first().is_some_and(|query| query.mask_len == 24);
                    if cached {
                        request.source_eid = Address::from(ip("10.1.0.10"));
                    }
                    cached
                }),
            },
            Sabotage {
                name: "keeps the idle entry for a day",
                node: ITR,
                links: CORE,
                kills: &[LIVES],
                tamper: || records_in("10.2.2.0/24", |record| record.ttl = 1440),
            },
        ],
        ..Case::BASE
    }
}

const MINUTE_NS: u64 = 60_000_000_000;

/// Traffic to one prefix for a minute; at its locator somebody answers with another locator. The other prefix is idle.
fn drive_refresh(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let mut net = Net::up(drive)?;
    net.answer(CACHED, vec![with_ttl(CACHED, REMOTE, 1)]);
    net.answer("10.2.2.0/24", vec![with_ttl("10.2.2.0/24", REMOTE, 1)]);
    net.resolve(drive, "10.2.2.1", 1)?;
    net.resolve(drive, "10.2.1.1", 2)?;
    net.answer(CACHED, vec![with_ttl(CACHED, OTHER, 1)]);
    let own = net.remote.address();
    net.remote.respond(move |packet, message| {
        let crate::decode::Lisp::Control { message, .. } = message else {
            return Vec::new();
        };
        let lisp::wire::ControlMessage::MapRequest(request) = &**message else {
            return Vec::new();
        };
        let asked = request.records.first().and_then(EidQuery::prefix);
        if asked != Some(prefix(CACHED)) {
            return Vec::new();
        }
        let reply = crate::cases::common::reply(request.nonce, vec![with_ttl(CACHED, OTHER, 1)]);
        let port = packet.udp().map_or(0, |udp| udp.source_port);
        let to = (packet.source, port);
        vec![crate::cases::common::udp(
            (own, lisp::CONTROL_PORT),
            to,
            &reply.to_vec(),
        )]
    })?;
    let begin = drive.mark("both are cached");
    for number in 10.. {
        if drive.now_ns() > begin + MINUTE_NS + 2_000_000_000 {
            break;
        }
        net.send("10.2.1.1", number)?;
        // Paced by waiting for what never comes.
        let _ = drive.wait_for(u64::MAX, "traffic for a minute", seconds(1) / 2, |_| false);
    }
    drive.mark("a minute is over");
    net.send("10.2.1.2", 5000)?;
    net.send("10.2.2.2", 5001)?;
    net.fence(drive)
}

fn judge_refresh(trace: &Trace, findings: &mut Findings) {
    let asked = questions_since(trace, "both are cached", CACHED);
    let refresh: Vec<&Seen> = asked
        .into_iter()
        .filter(|packet| {
            packet
                .map_request()
                .is_some_and(|request| !request.smr_invoked)
        })
        .collect();
    if refresh.is_empty() {
        for requirement in [MASK, NO_SOURCE_EID, TO_LOCATOR] {
            findings.unseen(requirement, "a Map-Request for the entry in use");
        }
    }
    for packet in &refresh {
        about_cached(packet, findings);
    }
    if let Some(first) = refresh.first() {
        let to = first.destination();
        findings.check(
            TO_LOCATOR,
            to == Some(ip(REMOTE)) && to != Some(ip(RESOLVER)),
            *first,
            format!("to {REMOTE}, the locator of the cached set"),
            first.summary(),
        );
    }
    let over = trace.mark("a minute is over").unwrap_or(u64::MAX);
    let late = trace
        .sent_by(ITR)
        .filter(|packet| packet.time_ns() >= over)
        .find(|packet| inner_sequence(packet) == Some(5000));
    match late {
        Some(_) => goes_to(trace, findings, LIVES, 5000, OTHER),
        None => findings.broken(
            LIVES,
            Vec::new(),
            "the refreshed entry is used",
            "it is not",
        ),
    }
    let between = |packet: &&Seen| packet.time_ns() < over;
    let idle: Vec<&Seen> = questions_since(trace, "both are cached", "10.2.2.0/24")
        .into_iter()
        .filter(between)
        .collect();
    findings.recorded(
        LIVES,
        &idle,
        format!("{} Map-Requests for the entry that nobody used", idle.len()),
    );
    super::map_cache_net::something_asked(
        trace,
        findings,
        LIVES,
        "a minute is over",
        "10.2.2.0/24",
    );
}
