//! When the best locator does not answer: the next priority, and back (RFC 6830 6.2, 6.3.2).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lisp::wire::{ControlMessage, Locator};
use lisp::{Address, CONTROL_PORT};

use super::flows_net::*;
use super::locators::{redirect, remote};
use crate::case::Case;
use crate::cases::common::{record, reply, seconds, udp};
use crate::catalogue::Req;
use crate::decode::{Ip, Lisp};
use crate::drive::{Drive, Peer, Stop};
use crate::finding::Findings;
use crate::trace::{Seen, Trace};
use crate::words;

const FALLBACK: Req = Req::new("rfc6830-6.2-fallback");
const PRIORITY_255: Req = Req::new("rfc6830-6.1.4-priority-255");

const SUBNET: u8 = 21;
const TO: IpAddr = eid(SUBNET, 10);
/// How long an ITR may take to find out: with probes every second, some failed ones in a row.
const DETECTION: Duration = Duration::from_secs(20);
const PHASES: [&str; 3] = ["r1 answers", "r1 is silent", "r1 answers again"];

inventory::submit! {
    Case {
        id: "rfc6830::s6_2::traffic_leaves_a_dead_locator_and_returns",
        title: "When the locator of priority 1 stops answering probes, traffic goes to priority 2, never to 255, and returns when it answers again.",
        topology: TOPOLOGY,
        settings: &[(ITR, "rloc-probing: {interval: 1s}")],
        start: false,
        timeout: Duration::from_secs(60),
        roles: &["itr"],
        features: &["rloc-probe"],
        requirements: &[FALLBACK, PRIORITY_255],
        drive,
        judges: &[judge],
        sabotages: &[
            sabotage("stays with the dead locator", &[FALLBACK], || data_out(|_, header, _| {
                if header.destination() == R[1] {
                    redirect(header, R[0]);
                }
            })),
            sabotage("falls back to priority 255", &[PRIORITY_255], || data_out(|_, header, _| {
                if header.destination() == R[1] {
                    redirect(header, R[2]);
                }
            })),
            sabotage("does not return", &[FALLBACK], || {
                let mut left = false;
                Box::new(move |way, frame| {
                    if way == harness::inline::Way::FromVictim && is_data(frame) {
                        frame.edit_ip(|header, _| {
                            left |= header.destination() == R[1];
                            if left && header.destination() == R[0] {
                                redirect(header, R[1]);
                            }
                            left
                        });
                    }
                    harness::inline::PacketFate::Forward
                })
            }),
        ],
        ..Case::BASE
    }
}

fn locators() -> Vec<Locator> {
    vec![remote(0, 1, 100), remote(1, 2, 100), remote(2, 255, 100)]
}

/// Makes a remote locator answer RLOC-probes as an ETR does, while `alive`.
fn answer_probes(peer: &mut Peer, alive: Arc<AtomicBool>) -> Result<(), Stop> {
    let own = peer.address();
    peer.respond(move |packet, lisp| {
        let Some((nonce, to)) = probe_in(packet, lisp).filter(|_| alive.load(Ordering::Relaxed))
        else {
            return Vec::new();
        };
        let mut set = locators();
        for locator in &mut set {
            locator.local = locator.rloc == Address::from_eid(0, own);
            locator.probed = locator.local;
        }
        let mut answer = reply(nonce, vec![record(&format!("{}/24", eid(SUBNET, 0)), set)]);
        answer.probe = true;
        vec![udp((own, CONTROL_PORT), to, &answer.to_vec())]
    })?;
    Ok(())
}

/// Nonce of an RLOC-probe, and where its answer goes.
fn probe_in(packet: &Ip, lisp: &Lisp) -> Option<(u64, (IpAddr, u16))> {
    let Lisp::Control { message, .. } = lisp else {
        return None;
    };
    match &**message {
        ControlMessage::MapRequest(request) if request.probe => {
            Some((request.nonce, (packet.source, packet.udp()?.source_port)))
        }
        _ => None,
    }
}

fn is_probe(packet: &Seen, of: IpAddr) -> bool {
    packet.sender() == Some(ITR)
        && packet.destination() == Some(of)
        && packet.map_request().is_some_and(|request| request.probe)
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let mut net = Net::up(drive, |_, subnet| match subnet {
        SUBNET => locators(),
        _ => Vec::new(),
    })?;
    let alive = Arc::new(AtomicBool::new(true));
    answer_probes(&mut net.remotes[0], Arc::clone(&alive))?;
    for peer in &mut net.remotes[1..] {
        answer_probes(peer, Arc::new(AtomicBool::new(true)))?;
    }
    net.resolve(drive, &[TO])?;
    for (phase, way) in PHASES.into_iter().zip([R[0], R[1], R[0]]) {
        alive.store(phase != PHASES[1], Ordering::Relaxed);
        let begin = drive.mark(phase);
        let mut since = begin;
        loop {
            // The ITR's own probes are the clock: what they tell it is known a probe later.
            let probe = drive.wait_for(since, "a probe of r1", seconds(15), |packet| {
                is_probe(packet, R[0])
            })?;
            since = probe.time_ns() + 1;
            net.send(&flow(TO, FIRST_PORT))?;
            let sent = drive.wait_for(since, "the packet on the core", SOON, |packet| {
                packet.sender() == Some(ITR)
                    && inner_udp(packet).is_some_and(|(inner, _)| inner.destination == TO)
            })?;
            let waited = Duration::from_nanos(sent.time_ns() - begin);
            if sent.destination() == Some(way) || waited > DETECTION {
                break;
            }
        }
    }
    Ok(())
}

fn judge(trace: &Trace, findings: &mut Findings) {
    let packets: Vec<&Seen> = flows(trace).collect();
    let unusable = packets.iter().copied().find(|packet| {
        packet
            .destination()
            .is_some_and(|to| ![R[0], R[1]].contains(&to))
    });
    match unusable {
        Some(packet) => findings.broken(PRIORITY_255, packet, "no packet to r3", packet.summary()),
        None => findings.met(PRIORITY_255, Vec::new(), "nothing went to r3"),
    }
    for (number, phase) in PHASES.into_iter().enumerate() {
        let end = PHASES.get(number + 1).and_then(|next| trace.mark(next));
        let (Some(begin), end) = (trace.mark(phase), end.unwrap_or(u64::MAX)) else {
            findings.unseen(FALLBACK, format!("the moment `{phase}`"));
            continue;
        };
        let sent: Vec<&Seen> = packets
            .iter()
            .copied()
            .filter(|packet| (begin..end).contains(&packet.time_ns()))
            .collect();
        let way = [R[0], R[1], R[0]][number];
        let Some(last) = sent.last().copied() else {
            findings.broken(
                FALLBACK,
                Vec::new(),
                format!("{phase}: data to {way}"),
                "no data",
            );
            continue;
        };
        let took = last.time_ns().saturating_sub(begin) / 1_000_000;
        findings.check(
            FALLBACK,
            last.destination() == Some(way),
            last,
            format!("{phase}: traffic to {way} within {} s", DETECTION.as_secs()),
            format!("{phase}: {} after {took} ms", words::to(last)),
        );
    }
}
