//! RLOC-probes of an ITR (RFC 6830 6.3.2, RFC 9301 7.1): what they look like, whom they reach, and what their replies prove.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::wire::ControlMessage;

use crate::case::Case;
use crate::cases::common::{prefix, record};
use crate::cases::one_xtr::*;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Tamper;
use crate::trace::{Seen, Trace};
use crate::words;

const DIRECT: Req = Req::new("rfc6830-6.3.2-probe-direct");
const EID: Req = Req::new("rfc6830-6.3.2-probe-eid");
const JITTER: Req = Req::new("rfc6830-6.3.2-probe-jitter");
const ALL: Req = Req::new("rfc6830-6.3.2-probe-all");
const MAP_DATA: Req = Req::new("rfc6830-6.3.2-probe-mdata");

/// The locators of the remote site, one of which must not be used and need not be probed.
const LOCATORS: [IpAddr; 4] = [REMOTE, OTHER, REMOTE6, OTHER6];
/// The configured interval.
const INTERVAL: f64 = 1.0;
/// Probes of each locator that are awaited.
const ROUNDS: usize = 7;
/// Probing once a second, from locators of both families.
const BOTH_FAMILIES: &str = "{rloc-probing: {interval: 1s}, rlocs: [192.0.2.2, '2001:db8:0:2::2']}";
const PROBING: &str = "rloc-probing: {interval: 1s}";

inventory::submit! {
    Case {
        id: "rfc6830::s6_3_2::every_locator_is_probed_directly_with_jitter",
        title: "Each cached locator gets Map-Requests with the P bit from a locator of the ITR, unencapsulated, for the cached EID-Prefix, about once in the configured interval.",
        topology: TOPOLOGY,
        settings: &[(XTR, BOTH_FAMILIES)],
        roles: &["itr"],
        features: &["rloc-probe"],
        requirements: &[DIRECT, EID, JITTER, ALL, MAP_DATA],
        drive: probe_everybody,
        judges: &[probe_form, probe_times],
        sabotages: &[
            spoils("probes through the mapping system", &[DIRECT], || Box::new(|way, frame| {
                if way == Way::FromVictim && is_probe(frame.control().as_ref()) {
                    redirect(frame, MAPPING);
                }
                PacketFate::Forward
            })),
            spoils("probes for a host", &[EID], || on_requests(|request| {
                request.records.iter_mut().for_each(|query| query.mask_len = 32);
                request.probe
            })),
            spoils("probes with the beat of a clock", &[JITTER], || {
                let mut last: BTreeMap<IpAddr, u64> = BTreeMap::new();
                Box::new(move |way, frame| {
                    let Some(to) = frame.ip().map(|ip| ip.destination) else {
                        return PacketFate::Forward;
                    };
                    if way == Way::FromVictim && is_probe(frame.control().as_ref()) {
                        let due = last.get(&to).map_or(frame.time_ns, |last| last + 1_300_000_000);
                        let due = due.max(frame.time_ns);
                        last.insert(to, due);
                        return PacketFate::Delay(Duration::from_nanos(due - frame.time_ns));
                    }
                    PacketFate::Forward
                })
            }),
            spoils("probes the preferred locator alone", &[ALL], || swallow(|frame| {
                is_probe(frame.control().as_ref()) && frame.ip().is_some_and(|ip| ip.destination != REMOTE)
            })),
            spoils("brings an empty mapping along", &[MAP_DATA], || on_requests(|request| {
                request.map_reply = Some(record("10.9.0.0/16", Vec::new()));
                request.probe
            })),
        ],
        ..Case::BASE
    }
}

fn is_probe(message: Option<&ControlMessage>) -> bool {
    matches!(message, Some(ControlMessage::MapRequest(request)) if request.probe)
}

fn probe_to(packet: &Seen, to: IpAddr) -> bool {
    packet.sender() == Some(XTR)
        && packet.destination() == Some(to)
        && packet.map_request().is_some_and(|request| request.probe)
}

/// Both remote peers answer probes as they should.
fn answering_peers(net: &mut Net) -> Result<(), Stop> {
    for peer in [&mut net.remote, &mut net.other] {
        answer_probes(peer, |probed, _| {
            Some((probed, marked(mapping(REMOTE_SITE, &LOCATORS), &[probed])))
        })?;
    }
    Ok(())
}

fn probe_everybody(drive: &mut Drive) -> Result<(), Stop> {
    let mut net = Net::up(drive, vec![mapping(REMOTE_SITE, &LOCATORS)])?;
    answering_peers(&mut net)?;
    net.say(drive, REMOTE_HOST, 1)?;
    let mut since = drive.mark("the mapping is there");
    for round in 0..ROUNDS {
        for locator in LOCATORS {
            let what = format!("probe {round} of {locator}");
            let seen = drive.wait_for(since, &what, Duration::from_secs(10), |packet| {
                probe_to(packet, locator)
            })?;
            if locator == REMOTE {
                since = since.max(seen.time_ns() + 1);
            }
        }
    }
    Ok(())
}

fn probe_form(trace: &Trace, findings: &mut Findings) {
    let all = probes(trace);
    if all.is_empty() {
        for row in [DIRECT, EID, MAP_DATA] {
            findings.broken(row, Vec::new(), "RLOC-probes", "none");
        }
    }
    for packet in all {
        let from = packet.source();
        let own = from.is_some_and(|from| trace.has_address(XTR, from) && !trace.is_eid(from));
        let to = packet.destination();
        let port = packet.udp().map_or(0, |udp| udp.destination_port);
        findings.check(
            DIRECT,
            packet.ecm().is_none()
                && own
                && to.is_some_and(|to| LOCATORS.contains(&to))
                && port == lisp::CONTROL_PORT,
            packet,
            "a plain Map-Request from a locator of the ITR to the probed one, port 4342",
            packet.summary(),
        );
        findings.check(
            EID,
            question(packet) == Some(prefix(REMOTE_SITE)),
            packet,
            format!("the cached EID-Prefix {REMOTE_SITE}"),
            packet.summary(),
        );
        let brought = packet
            .map_request()
            .and_then(|request| request.map_reply.as_ref());
        match brought {
            None => findings.met(MAP_DATA, packet, "it brings no mapping"),
            Some(record) => {
                let own = record
                    .eid_prefix()
                    .is_some_and(|eid| trace.eid_prefixes_of(XTR).contains(&eid));
                findings.check(
                    MAP_DATA,
                    own && !record.locators.is_empty(),
                    packet,
                    "a record of an EID-Prefix of the site, with its locators",
                    words::records([record]),
                );
            }
        }
    }
}

fn probe_times(trace: &Trace, findings: &mut Findings) {
    let all = probes(trace);
    let mut gaps: Vec<f64> = Vec::new();
    for locator in LOCATORS {
        let here: Vec<&Seen> = all
            .iter()
            .filter(|packet| packet.destination() == Some(locator))
            .copied()
            .collect();
        findings.check(
            ALL,
            here.len() > 1,
            &here,
            format!("probes of {locator}"),
            format!("{}", here.len()),
        );
        gaps.extend(
            here.windows(2)
                .map(|pair| (pair[1].time_ns() - pair[0].time_ns()) as f64 / 1e9),
        );
    }
    if gaps.len() < 15 {
        findings.broken(
            JITTER,
            &all,
            "at least 15 intervals between probes",
            format!("{}", gaps.len()),
        );
        return;
    }
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let spread = gaps
        .iter()
        .fold(0.0, |most: f64, gap| most.max((gap - mean).abs()));
    let said = format!(
        "{} intervals, mean {mean:.3} s, up to {spread:.3} s off it",
        gaps.len()
    );
    findings.check(
        JITTER,
        (0.75 * INTERVAL..=1.25 * INTERVAL).contains(&mean) && spread > 0.005,
        &all,
        format!("a mean of {INTERVAL} s, and not the same each time"),
        said,
    );
}

const DOWN: Req = Req::new("rfc6830-6.3-probe-down");
const NO_DATA: Req = Req::new("rfc6830-6.3-no-data-test");

const SILENT: &str = "the first locator is silent";
const SPEAKS: &str = "it answers again";
/// Sequence numbers begin here; each packet has its own.
const FIRST: u16 = 100;

inventory::submit! {
    Case {
        id: "rfc6830::s6_3::silent_locator_is_left_and_rejoined",
        title: "A locator that answers no probe is left for the next one, gets no data but further probes at a bounded rate, and has the traffic back once it answers.",
        topology: TOPOLOGY,
        settings: &[(XTR, PROBING)],
        timeout: Duration::from_secs(60),
        roles: &["itr"],
        features: &["rloc-probe"],
        requirements: &[DOWN, NO_DATA],
        drive: silence_and_return,
        judges: &[left_and_rejoined],
        sabotages: &[
            spoils("tries the silent locator with data now and then", &[NO_DATA], || {
                let mut elsewhere = 0;
                Box::new(move |way, frame| {
                    if way == Way::FromVictim
                        && sequence_of(frame).is_some()
                        && frame.ip().is_some_and(|ip| ip.destination == OTHER)
                    {
                        elsewhere += 1;
                        if elsewhere % 3 == 0 {
                            redirect(frame, REMOTE);
                        }
                    }
                    PacketFate::Forward
                })
            }),
            spoils("never leaves a locator", &[DOWN], || misdirect(REMOTE, |_| true)),
            spoils("gives a silent locator up for good", &[DOWN], || {
                let mut left = false;
                swallow(move |frame| {
                    let to = frame.ip().map(|ip| ip.destination);
                    left |= sequence_of(frame).is_some() && to == Some(OTHER);
                    left && to == Some(REMOTE) && is_probe(frame.control().as_ref())
                })
            }),
        ],
        ..Case::BASE
    }
}

/// Sends a packet at each probe of either locator until one goes to `to`; probes are the clock.
fn until_data_goes_to(
    drive: &Drive,
    net: &Net,
    to: IpAddr,
    first: &mut u16,
    more: usize,
) -> Result<(), Stop> {
    let mut arrived = 0;
    let end = *first + 25;
    while *first < end {
        *first += 1;
        let seen = net.say(drive, REMOTE_HOST, *first)?;
        arrived += usize::from(seen.destination() == Some(to));
        if arrived > more {
            return Ok(());
        }
        drive.wait_for(seen.time_ns(), "the next probe", SOON, |packet| {
            probe_to(packet, REMOTE) || probe_to(packet, OTHER)
        })?;
    }
    Err(Stop::NotSeen(format!("data to {to}")))
}

fn silence_and_return(drive: &mut Drive) -> Result<(), Stop> {
    const BOTH: [IpAddr; 2] = [REMOTE, OTHER];
    let mut net = Net::up(drive, vec![mapping(REMOTE_SITE, &BOTH)])?;
    let silent = Arc::new(AtomicBool::new(false));
    let still = Arc::clone(&silent);
    answer_probes(&mut net.remote, move |probed, _| {
        (!still.load(Ordering::SeqCst))
            .then(|| (probed, marked(mapping(REMOTE_SITE, &BOTH), &[probed])))
    })?;
    answer_probes(&mut net.other, |probed, _| {
        Some((probed, marked(mapping(REMOTE_SITE, &BOTH), &[probed])))
    })?;
    let mut sequence = FIRST;
    net.say(drive, REMOTE_HOST, sequence)?;
    drive.wait_for(
        0,
        "the reply to a probe of the first locator",
        SOON,
        |packet| {
            packet.receiver() == Some(XTR)
                && is_probe_reply(packet)
                && packet.source() == Some(REMOTE)
        },
    )?;
    sequence += 1;
    net.say(drive, REMOTE_HOST, sequence)?;
    silent.store(true, Ordering::SeqCst);
    drive.mark(SILENT);
    until_data_goes_to(drive, &net, OTHER, &mut sequence, 4)?;
    silent.store(false, Ordering::SeqCst);
    drive.mark(SPEAKS);
    until_data_goes_to(drive, &net, REMOTE, &mut sequence, 0)
}

fn is_probe_reply(packet: &Seen) -> bool {
    packet.map_reply().is_some_and(|reply| reply.probe)
}

fn left_and_rejoined(trace: &Trace, findings: &mut Findings) {
    let Some(silent) = trace.mark(SILENT) else {
        for row in [DOWN, NO_DATA] {
            findings.unseen(row, "a locator that answered probes, and then no more");
        }
        return;
    };
    let to = |wanted: IpAddr| {
        data_since(trace, SILENT)
            .map(|(_, packet)| packet)
            .filter(move |packet| packet.destination() == Some(wanted))
    };
    let Some(away) = to(OTHER).next() else {
        let tried: Vec<&Seen> = probes(trace);
        findings.broken(
            DOWN,
            &tried,
            format!("data to {OTHER} while {REMOTE} is silent"),
            "none",
        );
        findings.unseen(NO_DATA, "a locator that is given up");
        return;
    };
    let back = trace.since(SPEAKS).find(|packet| {
        packet.receiver() == Some(XTR) && is_probe_reply(packet) && packet.source() == Some(REMOTE)
    });
    let until = back.map_or(u64::MAX, Seen::time_ns);
    let stray =
        to(REMOTE).find(|packet| packet.time_ns() > away.time_ns() && packet.time_ns() < until);
    match stray {
        Some(stray) => findings.broken(
            NO_DATA,
            [away, stray],
            format!("no data to {REMOTE} until it answers a probe"),
            stray.summary(),
        ),
        None => findings.met(NO_DATA, away, format!("{REMOTE} got probes and no data")),
    }
    let tried: Vec<&Seen> = probes(trace)
        .into_iter()
        .filter(|packet| packet.time_ns() > silent && packet.destination() == Some(REMOTE))
        .collect();
    let close = tried
        .windows(2)
        .find(|pair| pair[1].time_ns() - pair[0].time_ns() < 200_000_000);
    let rejoined =
        back.and_then(|back| to(REMOTE).find(|packet| packet.time_ns() >= back.time_ns()));
    match (close, back, rejoined) {
        (Some(pair), _, _) => findings.broken(
            DOWN,
            [pair[0], pair[1]],
            "probes of a silent locator at a bounded rate",
            format!(
                "{} ms apart",
                (pair[1].time_ns() - pair[0].time_ns()) / 1_000_000
            ),
        ),
        (None, Some(back), Some(data)) => findings.met(
            DOWN,
            [away, back, data],
            format!("left, {} probes, and rejoined", tried.len()),
        ),
        (None, None, _) => findings.broken(
            DOWN,
            &tried,
            format!("another probe of {REMOTE}"),
            "none was answered",
        ),
        (None, Some(back), None) => findings.broken(
            DOWN,
            [away, back],
            format!("data to {REMOTE} again"),
            "none",
        ),
    }
}

const KEY: Req = Req::new("rfc6830-6.1.4-p-bit-key");
const FIRST_BIT: Req = Req::new("rfc6830-6.1.4-p-bit-first");

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_4::p_bit_names_the_probed_locator",
        title: "A probe reply counts for the locator with the p bit, whatever address it comes from: the silent one whose address it has is left.",
        topology: TOPOLOGY,
        settings: &[(XTR, PROBING)],
        timeout: Duration::from_secs(60),
        roles: &["itr"],
        features: &["rloc-probe"],
        requirements: &[KEY],
        drive: |drive| vouch(drive, OTHER, &[REMOTE]),
        judges: &[|trace, findings| credited(trace, findings, KEY)],
        sabotages: &[spoils("books the reply under its source", &[KEY], || booked_under_the_source())],
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_4::first_p_bit_counts",
        title: "Of several p bits in a probe reply the first counts: the other locator, silent itself, is left.",
        topology: TOPOLOGY,
        settings: &[(XTR, PROBING)],
        timeout: Duration::from_secs(60),
        roles: &["itr"],
        features: &["rloc-probe"],
        requirements: &[FIRST_BIT],
        drive: |drive| vouch(drive, REMOTE, &[REMOTE, OTHER]),
        judges: &[|trace, findings| credited(trace, findings, FIRST_BIT)],
        sabotages: &[spoils("credits every locator with a p bit", &[FIRST_BIT], || booked_under_the_source())],
        ..Case::BASE
    }
}

/// The silent locator stays in use.
fn booked_under_the_source() -> Tamper {
    misdirect(OTHER, |_| true)
}

/// The preferred locator is silent; the other one's probes are answered from `source` with these p bits.
fn vouch(drive: &mut Drive, source: IpAddr, with: &'static [IpAddr]) -> Result<(), Stop> {
    let set = || {
        let mut record = mapping(REMOTE_SITE, &[REMOTE, OTHER]);
        record.locators[0].priority = 2;
        record.locators[1].priority = 1;
        record
    };
    let mut net = Net::up(drive, vec![set()])?;
    answer_probes(&mut net.remote, move |_, _| {
        Some((source, marked(set(), with)))
    })?;
    let mut sequence = FIRST;
    net.say(drive, REMOTE_HOST, sequence)?;
    drive.mark(SILENT);
    until_data_goes_to(drive, &net, REMOTE, &mut sequence, 5)
}

fn credited(trace: &Trace, findings: &mut Findings, row: Req) {
    let reply = trace.received_by(XTR).find(|packet| is_probe_reply(packet));
    let Some(reply) = reply else {
        findings.unseen(row, "a probe and its reply");
        return;
    };
    let all: Vec<&Seen> = data_since(trace, SILENT)
        .map(|(_, packet)| packet)
        .collect();
    let moved = all
        .iter()
        .position(|packet| packet.destination() == Some(REMOTE));
    let Some(moved) = moved else {
        findings.broken(
            row,
            &all,
            format!("data to {REMOTE}, which is vouched for, once {OTHER} is silent"),
            "none",
        );
        return;
    };
    match all[moved..]
        .iter()
        .find(|packet| packet.destination() != Some(REMOTE))
    {
        Some(packet) => findings.broken(
            row,
            [reply, *packet],
            format!("{REMOTE} counted as reachable, {OTHER} not"),
            destination(packet),
        ),
        None => findings.met(
            row,
            [reply, all[moved]],
            format!("{OTHER} is left, {REMOTE} stays in use"),
        ),
    }
}
