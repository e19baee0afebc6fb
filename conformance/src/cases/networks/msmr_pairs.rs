//! Two Map-Servers and two Map-Resolvers: one is killed and restarted under traffic, both Map-Servers fall silent for longer
//! than a registration lives, and come back (RFC 6833 4.2, 4.3, 4.4).

use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::wire::{ControlMessage, MapRequest};

use crate::case::{Case, Timer};
use crate::cases::common::{ip, lose_outgoing, outgoing, seconds};
use crate::cases::mr::{ask, is_request, question};
use crate::catalogue::Req;
use crate::drive::{Drive, Peer, Stop};
use crate::finding::Findings;
use crate::sabotage::{Frame, Sabotage};
use crate::trace::{Seen, Trace};

const MR_FORWARDS: Req = Req::new("rfc6833-4.4-mr-forward");
const NOT_CACHED: Req = Req::new("rfc6833-4.4-mr-noncaching");
const MS_FORWARDS: Req = Req::new("rfc6833-4.3-ms-forward");
const UNALTERED: Req = Req::new("rfc6833-4.3-ms-forward-unaltered");
const ETR_DIRECT: Req = Req::new("rfc6833-4.3-etr-replies-direct");
const NOTIFIED: Req = Req::new("rfc6833-4.2-want-notify");
const ENCAPSULATES: Req = Req::new("rfc6830-3-itr-encap");
const DECAPSULATES: Req = Req::new("rfc6830-3-etr-decap");

const HOST_B: &str = "10.2.0.10";
const EID: &str = "10.2.0.10/32";
const SERVERS: [&str; 2] = ["ms-1", "ms-2"];
const RESOLVERS: [&str; 2] = ["mr-1", "mr-2"];

const BOTH_UP: u64 = 0x6d72_000a_0000_0010;
const ONE_DEAD: u64 = 0x6d72_000a_0000_0020;
const RESTARTED: u64 = 0x6d72_000a_0000_0030;
const SILENT: u64 = 0x6d72_000a_0000_0040;
const RECOVERED: u64 = 0x6d72_000a_0000_0050;
/// A question and its repetitions have nonces that differ in the last four bits.
const SAME_QUESTION: u64 = 0xf;

const ALL_UP: &str = "all are up";
const KILLED: &str = "ms-1 is killed";
const STARTED: &str = "ms-1 starts again";
const PULLED: &str = "both Map-Servers fall silent";
const PLUGGED: &str = "both Map-Servers are back";

inventory::submit! {
    Case {
        id: "rfc6833::s4_4::two_map_servers_and_two_map_resolvers",
        title: "While one of two Map-Servers dies and returns, and while both are silent, no ping between sites that know each other is lost; questions find the Map-Server that lives, and all is as before afterwards.",
        topology: "mapping-pairs",
        timers: &[
            timer("xtr-a", "register-interval", 60, 1),
            timer("xtr-b", "register-interval", 60, 1),
            timer("ms-1", "registration-timeout", 180, 3),
            timer("ms-2", "registration-timeout", 180, 3),
        ],
        timeout: seconds(600),
        roles: &["itr", "etr", "ms", "mr"],
        requirements: &[
            MR_FORWARDS, NOT_CACHED, MS_FORWARDS, UNALTERED, ETR_DIRECT, NOTIFIED, ENCAPSULATES, DECAPSULATES,
        ],
        drive,
        judges: &[pings, questions_go_on, registrations_return],
        sabotages: &[
            Sabotage {
                name: "a resolver answers what it should pass on",
                node: "mr-1",
                links: &[],
                kills: &[MR_FORWARDS],
                tamper: || Box::new(|way, frame| {
                    if way == Way::FromVictim {
                        frame.edit_udp(|_, payload| negative_instead(payload));
                    }
                    PacketFate::Forward
                }),
            },
            Sabotage {
                name: "a resolver passes nothing on",
                node: "mr-2",
                links: &[],
                kills: &[MR_FORWARDS],
                tamper: || lose_outgoing(|frame| matches!(frame.control(), Some(ControlMessage::Encapsulated(_)))),
            },
            Sabotage {
                name: "a Map-Server asks with a nonce of its own",
                node: "ms-2",
                links: &[],
                kills: &[MS_FORWARDS],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapRequest(request) => {
                        request.nonce ^= 1 << 62;
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "a Map-Server forgets an ITR-RLOC",
                node: "ms-2",
                links: &[],
                kills: &[UNALTERED],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapRequest(request) => {
                        request.itr_rlocs.len() > 1 && request.itr_rlocs.pop().is_some()
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "the restarted Map-Server confirms nothing",
                node: "ms-1",
                links: &[],
                kills: &[NOTIFIED],
                tamper: || {
                    let mut confirmed = 0;
                    Box::new(move |way, frame| {
                        let notify = matches!(frame.control(), Some(ControlMessage::MapNotify(_)));
                        confirmed += u32::from(notify);
                        // Two sites registered before it was killed.
                        if way == Way::FromVictim && notify && confirmed > 2 {
                            return PacketFate::Drop;
                        }
                        PacketFate::Forward
                    })
                },
            },
            Sabotage {
                name: "forgets its map-cache while the Map-Servers are silent",
                node: "xtr-a",
                links: &["core-a"],
                kills: &[ENCAPSULATES],
                tamper: || lose_outgoing(|frame| carries(frame, 5)),
            },
            Sabotage {
                name: "keeps what it should decapsulate",
                node: "xtr-b",
                links: &["site-b"],
                kills: &[DECAPSULATES],
                tamper: || lose_outgoing(|frame| {
                    frame.ip().and_then(|ip| ip.icmp().map(|icmp| icmp.echo().1)) == Some(3)
                }),
            },
            Sabotage {
                name: "an answer after the recovery is lost",
                node: "xtr-b",
                links: &["core-b"],
                kills: &[NOT_CACHED, ETR_DIRECT],
                tamper: || lose_outgoing(|frame| {
                    matches!(frame.control(), Some(ControlMessage::MapReply(reply)) if reply.nonce & !SAME_QUESTION == RECOVERED)
                }),
            },
        ],
        ..Case::BASE
    }
}

const fn timer(node: &'static str, name: &'static str, text: u64, short: u64) -> Timer {
    Timer {
        node,
        name,
        text: seconds(text),
        short: seconds(short),
    }
}

/// A negative Map-Reply in the place of an Encapsulated Map-Request.
fn negative_instead(payload: &mut Vec<u8>) -> bool {
    let Ok(ControlMessage::Encapsulated(ecm)) = ControlMessage::parse(payload) else {
        return false;
    };
    let Ok(inner) = ecm.decode_inner() else {
        return false;
    };
    let ControlMessage::MapRequest(request) = *inner.message else {
        return false;
    };
    let record = crate::cases::common::negative(EID, 15, lisp::wire::Action::NativelyForward);
    *payload = crate::cases::common::reply(request.nonce, vec![record]).to_vec();
    true
}

/// Whether a data packet carries the echo with a number.
fn carries(frame: &Frame<'_>, sequence: u16) -> bool {
    let inner = frame
        .ip()
        .and_then(|ip| crate::decode::ip(ip.udp()?.payload.get(8..)?));
    inner.and_then(|inner| inner.icmp().map(|icmp| icmp.echo().1)) == Some(sequence)
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let asker = drive.peer("asker")?;
    for server in SERVERS {
        both_sites_registered(drive, 0, server, seconds(10))?;
    }
    drive.mark(ALL_UP);
    pinged(drive, 1)?;
    resolved(drive, &asker, BOTH_UP)?;

    drive.kill("ms-1")?;
    drive.mark(KILLED);
    pinged(drive, 2)?;
    resolved(drive, &asker, ONE_DEAD)?;
    pinged(drive, 3)?;

    let started = drive.mark(STARTED);
    drive.start("ms-1")?;
    pinged(drive, 4)?;
    let interval = drive.timer("xtr-a", "register-interval");
    both_sites_registered(drive, started, "ms-1", interval * 2 + seconds(5))?;
    resolved(drive, &asker, RESTARTED)?;

    let pulled = drive.mark(PULLED);
    drive.lab().set_link_up("core-ms-1", false)?;
    drive.lab().set_link_up("core-ms-2", false)?;
    pinged(drive, 5)?;
    // An ITR asks on meanwhile, in vain, until no registration can be left.
    let over = drive.timer("ms-1", "registration-timeout") + interval;
    let mut number = 0;
    while u128::from(drive.now_ns() - pulled) < over.as_nanos() {
        asks_in_vain(drive, &asker, SILENT + number % 16)?;
        number += 1;
    }
    pinged(drive, 6)?;

    let plugged = drive.mark(PLUGGED);
    drive.lab().set_link_up("core-ms-1", true)?;
    drive.lab().set_link_up("core-ms-2", true)?;
    for server in SERVERS {
        both_sites_registered(drive, plugged, server, interval * 2 + seconds(70))?;
    }
    resolved(drive, &asker, RECOVERED)?;
    pinged(drive, 7)
}

fn both_sites_registered(
    drive: &Drive<'_>,
    since: u64,
    server: &str,
    within: Duration,
) -> Result<(), Stop> {
    let address = drive.address(server)?;
    for xtr in ["xtr-a", "xtr-b"] {
        let what = format!("the Map-Notify of {server} for {xtr}");
        drive.wait_for(since, &what, within, |packet| {
            packet.map_notify().is_some()
                && packet.source() == Some(address)
                && packet.receiver() == Some(xtr)
        })?;
    }
    Ok(())
}

fn pinged(drive: &Drive<'_>, sequence: u16) -> Result<(), Stop> {
    drive.ping("host-a", ip(HOST_B), sequence, seconds(3))?;
    Ok(())
}

fn strange(nonce: u64) -> MapRequest {
    let mut request = question(nonce, EID);
    // A second ITR-RLOC, so that there is something to forget.
    request
        .itr_rlocs
        .push(lisp::Address::from(ip("192.0.2.66")));
    request
}

/// Asks each Map-Resolver until the ETR's answer comes: an ITR repeats its question after 1 and 3 s.
fn resolved(drive: &Drive<'_>, asker: &Peer, first: u64) -> Result<(), Stop> {
    for (number, resolver) in RESOLVERS.into_iter().enumerate() {
        let to = drive.address(resolver)?;
        for repetition in 0..4 {
            let nonce = first + 4 * number as u64 + repetition;
            let since = drive.now_ns();
            ask(asker, to, &strange(nonce))?;
            let what = format!("the answer of the ETR to a question at {resolver}");
            let answer = drive.wait_for(since, &what, seconds(1 << repetition), |packet| {
                packet.map_reply().is_some_and(|reply| reply.nonce == nonce)
                    && packet.receiver() == Some("asker")
            });
            match answer {
                Ok(_) => break,
                Err(Stop::NotSeen(_)) if repetition < 3 => {}
                Err(stop) => return Err(stop),
            }
        }
    }
    Ok(())
}

fn asks_in_vain(drive: &Drive<'_>, asker: &Peer, nonce: u64) -> Result<(), Stop> {
    let since = drive.now_ns();
    ask(asker, drive.address("mr-1")?, &strange(nonce))?;
    let answer = drive.wait_for(since, "an answer, in vain", seconds(1), |packet| {
        packet.map_reply().is_some_and(|reply| reply.nonce == nonce)
    });
    match answer {
        Ok(_) | Err(Stop::NotSeen(_)) => Ok(()),
        Err(stop) => Err(stop),
    }
}

fn echo(packet: &Seen) -> Option<(bool, u16)> {
    let inner = match packet.data() {
        Some((_, inner)) => inner,
        None => packet.ip()?,
    };
    let icmp = inner.icmp()?;
    let request = icmp.is_echo_request();
    (request || icmp.is_echo_reply()).then(|| (request, icmp.echo().1))
}

/// Who knows a mapping goes on using it, whatever becomes of the mapping system: no ping is lost.
fn pings(trace: &Trace, findings: &mut Findings) {
    for sequence in 1..=7 {
        let of = |request| {
            trace
                .iter()
                .filter(move |packet| echo(packet) == Some((request, sequence)))
        };
        let Some(sent) = of(true).find(|packet| packet.sender() == Some("host-a")) else {
            findings.unseen(ENCAPSULATES, format!("ping {sequence} of host-a"));
            continue;
        };
        let tunnelled = of(true).find(|packet| {
            packet.sender() == Some("xtr-a")
                && packet.is_data()
                && packet.destination() == Some(ip("192.0.2.6"))
        });
        findings.check(
            ENCAPSULATES,
            tunnelled.is_some(),
            tunnelled.unwrap_or(sent),
            format!("ping {sequence} to the locator of xtr-b"),
            tunnelled.map_or("it did not leave xtr-a".to_owned(), Seen::summary),
        );
        if let Some(tunnelled) = tunnelled {
            let out = of(true).find(|packet| packet.sender() == Some("xtr-b") && !packet.is_data());
            findings.check(
                DECAPSULATES,
                out.is_some(),
                out.unwrap_or(tunnelled),
                format!("ping {sequence} out of xtr-b"),
                out.map_or("it did not come out".to_owned(), Seen::summary),
            );
            let back = of(false).find(|packet| packet.receiver() == Some("host-a"));
            findings.check(
                ENCAPSULATES,
                back.is_some() || out.is_none(),
                back.unwrap_or(sent),
                format!("the answer to ping {sequence} at host-a"),
                back.map_or("lost".to_owned(), Seen::summary),
            );
        }
    }
}

/// Questions that reached a Map-Resolver, with the mark since which they were asked.
fn questions_go_on(trace: &Trace, findings: &mut Findings) {
    for (first, when) in [
        (BOTH_UP, ALL_UP),
        (ONE_DEAD, KILLED),
        (RESTARTED, STARTED),
        (RECOVERED, PLUGGED),
    ] {
        for (number, resolver) in RESOLVERS.into_iter().enumerate() {
            let nonces: Vec<u64> = (0..4).map(|n| first + 4 * number as u64 + n).collect();
            let asked: Vec<&Seen> = trace
                .received_by(resolver)
                .filter(|packet| nonces.iter().any(|nonce| is_request(packet, *nonce)))
                .collect();
            let Some(last) = asked.last().copied() else {
                findings.unseen(MR_FORWARDS, format!("{when}: a question at {resolver}"));
                continue;
            };
            asked
                .iter()
                .for_each(|asked| passed_on(trace, findings, resolver, asked, when));
            handed_on(trace, findings, last, when);
        }
    }
}

/// What a Map-Resolver did about one question: it goes to one Map-Server, and the resolver says nothing itself.
fn passed_on(trace: &Trace, findings: &mut Findings, resolver: &str, asked: &Seen, when: &str) {
    let nonce = asked.map_request().map_or(0, |request| request.nonce);
    let own = trace.originated(resolver);
    let said = own
        .clone()
        .find(|packet| packet.map_reply().is_some_and(|reply| reply.nonce == nonce));
    if let Some(said) = said {
        findings.broken(
            MR_FORWARDS,
            [asked, said],
            format!("{when}: the resolver sends nothing itself"),
            said.summary(),
        );
        return;
    }
    let copies: Vec<&Seen> = own.filter(|packet| is_request(packet, nonce)).collect();
    let to_server = |packet: &&Seen| {
        let to = packet.destination();
        packet.ecm().is_some()
            && SERVERS
                .iter()
                .any(|server| to.is_some_and(|to| trace.has_address(server, to)))
    };
    findings.check(
        MR_FORWARDS,
        copies.len() == 1 && copies.iter().all(to_server),
        &[asked]
            .into_iter()
            .chain(copies.clone())
            .collect::<Vec<_>>(),
        format!("{when}: {resolver} passes the question on to one Map-Server"),
        copies
            .first()
            .map_or("nothing".to_owned(), |copy| copy.summary()),
    );
}

/// What became of the question that was answered: over a Map-Server unaltered to the ETR, which answers itself.
fn handed_on(trace: &Trace, findings: &mut Findings, asked: &Seen, when: &str) {
    let nonce = asked.map_request().map_or(0, |request| request.nonce);
    let handed = SERVERS.into_iter().find_map(|server| {
        trace
            .originated(server)
            .find(|packet| is_request(packet, nonce))
    });
    let Some(handed) = handed else {
        return findings.broken(
            MS_FORWARDS,
            asked,
            format!("{when}: a Map-Server hands the question to xtr-b"),
            "none did",
        );
    };
    let to_etr = handed.ecm().is_some()
        && handed
            .destination()
            .is_some_and(|to| trace.has_address("xtr-b", to));
    findings.check(
        MS_FORWARDS,
        to_etr,
        [asked, handed],
        format!("{when}: an Encapsulated Map-Request to xtr-b"),
        handed.summary(),
    );
    findings.check(
        UNALTERED,
        asked.map_request() == handed.map_request(),
        [asked, handed],
        format!("{when}: the Map-Request as it was asked"),
        handed.summary(),
    );
    let reply = trace
        .originated("xtr-b")
        .find(|packet| packet.map_reply().is_some_and(|reply| reply.nonce == nonce));
    let right = reply.is_some_and(|reply| {
        let to = reply.destination();
        let record = reply.map_reply().and_then(|reply| reply.records.first());
        asked
            .map_request()
            .is_some_and(|asked| asked.itr_rlocs.iter().any(|rloc| rloc.ip() == to))
            && record.is_some_and(|record| record.authoritative)
    });
    for requirement in [ETR_DIRECT, NOT_CACHED] {
        findings.check(
            requirement,
            right,
            [handed, reply.unwrap_or(handed)],
            format!(
                "{when}: the ETR itself answers this question, authoritatively, to an ITR-RLOC"
            ),
            reply.map_or("no Map-Reply of xtr-b".to_owned(), Seen::summary),
        );
    }
}

/// After each outage, both sites are registered and confirmed again.
fn registrations_return(trace: &Trace, findings: &mut Findings) {
    for (server, when) in [("ms-1", STARTED), ("ms-1", PLUGGED), ("ms-2", PLUGGED)] {
        for xtr in ["xtr-a", "xtr-b"] {
            let register = trace
                .since(when)
                .filter(|packet| packet.receiver() == Some(server))
                .find(|packet| {
                    packet.map_register().is_some()
                        && packet
                            .source()
                            .is_some_and(|from| trace.has_address(xtr, from))
                });
            let Some(register) = register else {
                findings.unseen(
                    NOTIFIED,
                    format!("{when}: a Map-Register of {xtr} at {server}"),
                );
                continue;
            };
            let notify = trace.originated(server).find(|packet| {
                packet.time_ns() >= register.time_ns()
                    && packet.map_notify().is_some()
                    && packet.destination() == register.source()
            });
            findings.check(
                NOTIFIED,
                notify.is_some(),
                [register, notify.unwrap_or(register)],
                format!("{when}: a Map-Notify of {server} for {xtr}"),
                notify.map_or("none".to_owned(), Seen::summary),
            );
        }
    }
}
