//! A site with two ETRs behind two providers: shares, a link that is cut, and its return; every box is a program.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::ip::IpHeader;
use lisp::wire::ControlMessage;

use crate::case::Case;
use crate::cases::common::{ip, seconds, turn};
use crate::cases::fences::special_leaves;
use crate::catalogue::Req;
use crate::decode::{Ip, Udp};
use crate::drive::{Drive, Peer, Stop};
use crate::finding::Findings;
use crate::sabotage::{Frame, Sabotage, Tamper};
use crate::trace::{Seen, Trace};

const SHARE: Req = Req::new("rfc6830-6.1.4-weight-share");
const LOWEST: Req = Req::new("rfc6830-6.1.4-priority-lowest");
const BEST: Req = Req::new("rfc6830-6.2-best-subset");
const FALLBACK: Req = Req::new("rfc6830-6.2-fallback");
const STABLE: Req = Req::new("rfc6830-6.5-hash-flow-stable");

const ITR: &str = "xtr-a";
/// The locators of xtr-b1, whose link is cut, and of xtr-b2.
const FIRST: &str = "203.0.113.2";
const SECOND: &str = "203.0.113.130";
/// A host of the prefix whose traffic is shared 75 : 25, and one of the prefix that prefers the first locator.
const SHARED: &str = "10.2.0.10";
const PREFERRED: &str = "10.3.0.10";
/// Share of the first locator in tenths of a per cent. By Hoeffding's inequality [`FLOWS`] flows that each choose by
/// themselves miss it by more than [`TOLERANCE`] with a probability of at most 2 exp(-2 * 4000 * 0.05^2) = 4 * 10^-9.
const ASKED: u32 = 750;
const TOLERANCE: u32 = 50;
const FLOWS: u16 = 4_000;
/// Flows to the other prefix, and to either while the link is cut.
const FEW: u16 = 250;
const PHASES: [&str; 3] = ["both links", "one link cut", "both links again"];
const FLOW_PORT: u16 = 61_007;
const OTHER_PORT: u16 = 61_009;
const FIRST_PORT: u16 = 40_000;
/// How long the ITR may take to find out; it probes every second.
const DETECTION: Duration = Duration::from_secs(30);

inventory::submit! {
    Case {
        id: "rfc6830::s6_2::a_multihomed_site_survives_a_cut_link",
        title: "4000 flows are shared 75 : 25 between two ETRs and prefer priority 1; when a provider's link is cut all go to the other ETR, and they return with the link.",
        topology: "multihomed",
        settings: &[
            (ITR, "data-plane: {offload: false}"),
            ("xtr-b1", "data-plane: {offload: false}"),
            ("xtr-b2", "data-plane: {offload: false}"),
        ],
        roles: &["itr"],
        features: &["rloc-probe"],
        requirements: &[SHARE, LOWEST, BEST, FALLBACK, STABLE],
        timeout: seconds(90),
        drive,
        judges: &[judge],
        sabotages: &[
            sabotage("shares equally", &[SHARE], || replies(|locator| locator.weight = 50)),
            sabotage("takes no notice of priorities", &[LOWEST, BEST], || replies(|locator| locator.priority = 1)),
            sabotage("stays with the dead locator", &[FALLBACK], || data_out(|_, frame| redirect(frame, SECOND, FIRST))),
            sabotage("spreads packets, not flows", &[STABLE], || data_out(|number, frame| {
                if turn(number) == 0 { redirect(frame, FIRST, SECOND) }
            })),
            sabotage("does not return", &[FALLBACK], || {
                // Once the first locator's link has been silent for seconds, nothing goes there any more.
                let (mut last, mut left) = (0, false);
                Box::new(move |way, frame| {
                    if way == Way::FromVictim && is_data(frame) {
                        let to = frame.ip().map(|ip| ip.destination);
                        left |= last != 0 && frame.time_ns > last + 1_500_000_000;
                        if to == Some(ip(FIRST)) {
                            last = frame.time_ns;
                        }
                        if left {
                            redirect(frame, FIRST, SECOND);
                        }
                    }
                    PacketFate::Forward
                })
            }),
        ],
        ..Case::BASE
    }
}

const fn sabotage(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: ITR,
        links: &["core-a"],
        kills,
        tamper,
    }
}

fn replies(change: fn(&mut lisp::wire::Locator)) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::ToVictim {
            frame.edit_control(|message| match message {
                ControlMessage::MapReply(reply) => {
                    let locators = reply.records.iter_mut().flat_map(|r| &mut r.locators);
                    locators.for_each(change);
                    true
                }
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

fn data_out(change: fn(u64, &mut Frame<'_>)) -> Tamper {
    let mut number = 0;
    Box::new(move |way, frame| {
        if way == Way::FromVictim && is_data(frame) {
            number += 1;
            change(number, frame);
        }
        PacketFate::Forward
    })
}

fn is_data(frame: &Frame<'_>) -> bool {
    frame.ip().is_some_and(|ip| {
        ip.udp()
            .is_some_and(|udp| udp.destination_port == lisp::DATA_PORT)
    })
}

fn redirect(frame: &mut Frame<'_>, from: &str, to: &str) {
    frame.edit_ip(|header, _| match (header, ip(to)) {
        (IpHeader::V4(header), IpAddr::V4(to)) if IpAddr::from(header.destination) == ip(from) => {
            header.destination = to;
            true
        }
        _ => false,
    });
}

fn packet(to: &str, number: u16, port: u16) -> Vec<u8> {
    let from = ip("10.1.0.10");
    lisp::ip::udp_packet(from, ip(to), FIRST_PORT + number, port, 64, &[0x5a; 32])
}

fn inner(seen: &Seen) -> Option<(&Ip, &Udp)> {
    let (_, inner) = seen.data()?;
    Some((inner, inner.udp()?))
}

/// Sends a packet and waits until the ITR has encapsulated it; where it went.
fn follow(drive: &Drive<'_>, host: &Peer, to: &str, number: u16) -> Result<Option<IpAddr>, Stop> {
    let begin = drive.now_ns();
    host.send(&packet(to, number, OTHER_PORT))?;
    let sent = drive.wait_for(begin, "the packet on the core", seconds(5), |seen| {
        seen.sender() == Some(ITR)
            && inner(seen).is_some_and(|(inner, udp)| {
                inner.destination == ip(to)
                    && (udp.source_port, udp.destination_port) == (FIRST_PORT + number, OTHER_PORT)
            })
    })?;
    Ok(sent.destination())
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-a", "xtr-b1", "xtr-b2"], seconds(10))?;
    let host = drive.peer("host-a")?;
    for eid in [SHARED, PREFERRED] {
        follow(drive, &host, eid, 0)?;
    }
    for phase in PHASES {
        if phase != PHASES[0] {
            let begin = drive.mark(&format!("{phase}: the cable"));
            drive.lab().set_link_up("access-1", phase == PHASES[2])?;
            let way = ip(if phase == PHASES[2] { FIRST } else { SECOND });
            let mut since = begin;
            // The ITR's own probes are the clock: what one tells it is known a probe later.
            loop {
                let probe =
                    drive.wait_for(since, "a probe of the first locator", seconds(20), |seen| {
                        seen.sender() == Some(ITR)
                            && seen.destination() == Some(ip(FIRST))
                            && seen.map_request().is_some_and(|request| request.probe)
                    })?;
                since = probe.time_ns() + 1;
                let to = follow(drive, &host, PREFERRED, 1)?;
                if to == Some(way) || probe.time_ns() > begin + DETECTION.as_nanos() as u64 {
                    break;
                }
            }
        }
        drive.mark(phase);
        let cut = phase == PHASES[1];
        let mut packets: Vec<Vec<u8>> = Vec::new();
        for _ in 0..2 {
            packets.extend((0..FEW).map(|number| packet(PREFERRED, number, FLOW_PORT)));
            let flows = if cut { FEW } else { FLOWS };
            packets.extend((0..flows).map(|number| packet(SHARED, number, FLOW_PORT)));
        }
        for burst in packets.chunks(250) {
            for packet in burst {
                host.send(packet)?;
            }
            // A fence behind each burst; packets that are alike may take different ways when a way has just changed.
            follow(drive, &host, PREFERRED, (drive.random() % 20_000) as u16)?;
            special_leaves(drive, &host, (host.address(), ip(PREFERRED)), ITR)?;
        }
    }
    Ok(())
}

/// Locators by flow, of the packets to one prefix.
type Ways<'t> = BTreeMap<u16, Vec<&'t Seen>>;

fn ways<'t>(trace: &'t Trace, phase: usize, to: &str) -> Ways<'t> {
    let end = PHASES
        .get(phase + 1)
        .map(|next| format!("{next}: the cable"));
    let mut ways: Ways<'t> = BTreeMap::new();
    for seen in trace.between(PHASES[phase], end.as_deref().unwrap_or("")) {
        let flow = inner(seen).filter(|(inner, udp)| {
            inner.destination == ip(to) && udp.destination_port == FLOW_PORT
        });
        if let (Some(ITR), Some((_, udp))) = (seen.sender(), flow) {
            ways.entry(udp.source_port).or_default().push(seen);
        }
    }
    ways
}

fn judge(trace: &Trace, findings: &mut Findings) {
    for (phase, name) in PHASES.into_iter().enumerate() {
        let (shared, preferred) = (ways(trace, phase, SHARED), ways(trace, phase, PREFERRED));
        let cut = phase == 1;
        let expected = usize::from(if cut { FEW } else { FLOWS });
        if shared.len() < expected || preferred.len() < usize::from(FEW) {
            for requirement in [SHARE, LOWEST, BEST, FALLBACK, STABLE] {
                let found = format!("{} and {}", shared.len(), preferred.len());
                let wanted = format!("{name}: {expected} flows to {SHARED}, {FEW} to {PREFERRED}");
                findings.broken(requirement, Vec::new(), wanted, found);
            }
            continue;
        }
        stable(findings, name, &shared);
        let to = |seen: &&Seen, address: &str| seen.destination() == Some(ip(address));
        let firsts = || shared.values().filter_map(|seen| seen.first().copied());
        let show: Vec<&Seen> = firsts().take(6).collect();
        let share =
            firsts().filter(|seen| to(seen, FIRST)).count() as u32 * 1_000 / shared.len() as u32;
        let way = if cut { SECOND } else { FIRST };
        let stray: Vec<&Seen> = preferred
            .values()
            .flatten()
            .copied()
            .filter(|seen| !to(seen, way))
            .take(4)
            .collect();
        if cut {
            let dead: Vec<&Seen> = shared
                .values()
                .flatten()
                .copied()
                .filter(|seen| to(seen, FIRST))
                .take(4)
                .collect();
            let wrong: Vec<&Seen> = stray.iter().chain(&dead).copied().collect();
            let evidence = if wrong.is_empty() { &show } else { &wrong };
            let seen = format!("{} to elsewhere", wrong.len());
            findings.check(
                FALLBACK,
                wrong.is_empty(),
                evidence,
                format!("{name}: all flows to {SECOND}"),
                seen,
            );
            continue;
        }
        findings.check(
            SHARE,
            share.abs_diff(ASKED) <= TOLERANCE,
            &show,
            format!("{name}: 75 per cent of {FLOWS} flows to {FIRST}, to 5 points"),
            format!("{}.{}", share / 10, share % 10),
        );
        let evidence = if stray.is_empty() { &show } else { &stray };
        for requirement in [LOWEST, BEST] {
            let expected = format!("{name}: all flows to {PREFERRED} go to {FIRST}");
            findings.check(
                requirement,
                stray.is_empty(),
                evidence,
                expected,
                format!("{} do not", stray.len()),
            );
        }
        if phase == 2 {
            let seen = format!(
                "{}.{} per cent of {SHARED}, {} of {PREFERRED} elsewhere",
                share / 10,
                share % 10,
                stray.len()
            );
            findings.check(
                FALLBACK,
                share > 0 && stray.is_empty(),
                evidence,
                format!("{name}: {FIRST} is used again"),
                seen,
            );
        }
    }
}

fn stable(findings: &mut Findings, phase: &str, shared: &Ways<'_>) {
    let changed = shared.values().find_map(|seen| {
        let first = seen.first()?;
        let other = seen
            .iter()
            .find(|seen| seen.destination() != first.destination())?;
        Some([*first, *other])
    });
    match changed {
        Some(pair) => findings.broken(
            STABLE,
            pair,
            format!("{phase}: one locator for a flow"),
            "two",
        ),
        None => findings.met(
            STABLE,
            Vec::new(),
            format!("{phase}: one locator for each of {} flows", shared.len()),
        ),
    }
}
