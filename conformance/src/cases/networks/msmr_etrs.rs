//! Several ETRs of one site: any of them may be asked, none that has withdrawn is (RFC 6833 4.3), and where they ask for it
//! their locators are merged (RFC 9301 5.6).

use lisp::wire::{ControlMessage, MapRegister};

use harness::inline::{PacketFate, Way};

use crate::case::{Case, Timer};
use crate::cases::common::{
    ip, is_notify, is_reply, key, locator, lose_outgoing, outgoing, prefix, record, register,
    seconds,
};
use crate::cases::mr::{Outcome, ask, is_request, question};
use crate::catalogue::Req;
use crate::drive::{Drive, Peer, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const FORWARDS: Req = Req::new("rfc6833-4.3-ms-forward");
const ONCE: Req = Req::new("rfc6833-4.3-ms-forward-once");
const WHICH: Req = Req::new("rfc6833-4.3-ms-forward-rloc");
const ETR_DIRECT: Req = Req::new("rfc6833-4.3-etr-replies-direct");
const WITHDRAWS: Req = Req::new("rfc6833-4.2-dereg-ttl0");
const ENCAPSULATES: Req = Req::new("rfc6830-3-itr-encap");
const DECAPSULATES: Req = Req::new("rfc6830-3-etr-decap");
const MERGES: Req = Req::new("rfc9301-5.6-merge-bit");

const MSMR: &str = "msmr";
const EID: &str = "10.1.0.10/32";
const HOST_A: &str = "10.1.0.10";
const SITE: &str = "10.1.0.0/24";
const SECRET: &str = "key-of-site-a";
const ETRS: [&str; 3] = ["etr-1", "etr-2", "etr-3"];
const RLOCS: [&str; 3] = ["192.0.2.2", "192.0.2.6", "192.0.2.10"];

const WITH_THREE: u64 = 0x6d72_000b_0000_0010;
const WITH_TWO: u64 = 0x6d72_000b_0000_0030;
/// Questions while there are three ETRs: two turns.
const ASKED_OF_THREE: u64 = 6;
/// Questions while there are two: three turns.
const ASKED_OF_TWO: u64 = 6;
const GONE: &str = "etr-2 has withdrawn";

inventory::submit! {
    Case {
        id: "rfc6833::s4_3::several_etrs_of_a_site_share_the_requests",
        title: "Map-Requests for a site with three ETRs go to one each, which answers itself; after one has withdrawn, none goes there, and pings arrive all the time.",
        topology: "three-etrs",
        timers: &[
            quick("etr-1"),
            quick("etr-2"),
            quick("etr-3"),
        ],
        timeout: seconds(300),
        roles: &["itr", "etr", "ms", "mr"],
        requirements: &[FORWARDS, ONCE, WHICH, ETR_DIRECT, WITHDRAWS, ENCAPSULATES, DECAPSULATES],
        drive: share,
        judges: &[each_to_one, nothing_after_withdrawal, pings_arrive],
        sabotages: &[
            Sabotage {
                name: "asks all ETRs, or one twice",
                node: MSMR,
                links: &[],
                kills: &[ONCE],
                tamper: || Box::new(|way, frame| match frame.control() {
                    Some(ControlMessage::Encapsulated(_)) if way == Way::FromVictim => {
                        PacketFate::Duplicate(std::time::Duration::from_millis(2))
                    }
                    _ => PacketFate::Forward,
                }),
            },
            Sabotage {
                name: "goes on asking the ETR that has withdrawn",
                node: MSMR,
                links: &[],
                kills: &[FORWARDS],
                // The withdrawal never comes; the registration lives for three minutes.
                tamper: || Box::new(|way, frame| match frame.control() {
                    Some(ControlMessage::MapRegister(register))
                        if way == Way::ToVictim && register.records.iter().any(|record| record.ttl == 0) =>
                    {
                        PacketFate::Drop
                    }
                    _ => PacketFate::Forward,
                }),
            },
            Sabotage {
                name: "an ETR answers for others only",
                node: "etr-3",
                links: &["core-3"],
                kills: &[ETR_DIRECT],
                tamper: || lose_outgoing(|frame| matches!(frame.control(), Some(ControlMessage::MapReply(_)))),
            },
            Sabotage {
                name: "delivers nothing after the withdrawal",
                node: "xtr-b",
                links: &["site-b"],
                kills: &[DECAPSULATES],
                tamper: || lose_outgoing(|frame| frame.ip().and_then(|ip| {
                    ip.icmp().filter(|icmp| icmp.is_echo_request()).map(|icmp| icmp.echo().1)
                }) == Some(2)),
            },
            Sabotage {
                name: "loses the ping after the withdrawal",
                node: "xtr-b",
                links: &["core-b"],
                kills: &[ENCAPSULATES],
                tamper: || lose_outgoing(|frame| {
                    let inner = frame.ip().and_then(|ip| crate::decode::ip(ip.udp()?.payload.get(8..)?));
                    inner.and_then(|inner| inner.icmp().map(|icmp| icmp.echo().1)) == Some(2)
                }),
            },
        ],
        ..Case::BASE
    }
}

const fn quick(node: &'static str) -> Timer {
    Timer {
        node,
        name: "register-interval",
        text: seconds(60),
        short: seconds(1),
    }
}

fn share(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&ETRS, seconds(10))?;
    drive.registered(&["xtr-b"], seconds(10))?;
    let asker = drive.peer("asker")?;
    drive.ping("host-b", ip(HOST_A), 1, seconds(3))?;
    for number in 0..ASKED_OF_THREE {
        answered(drive, &asker, WITH_THREE + number)?;
        // Registrations are refreshed in the middle of a turn: the order of registering must not be that of asking.
        if number % 2 == 0 {
            let since = drive.now_ns();
            let within = drive.timer("etr-1", "register-interval") * 2 + seconds(5);
            drive.wait_for(since, "the next Map-Register of etr-1", within, |packet| {
                packet.receiver() == Some(MSMR)
                    && packet.map_register().is_some()
                    && packet.source() == Some(ip(RLOCS[0]))
            })?;
        }
    }
    let stopped = drive.mark("etr-2 stops");
    drive.stop("etr-2")?;
    drive.wait_for(stopped, "the withdrawal of etr-2", seconds(5), |packet| {
        packet.sender() == Some("etr-2") && withdraws(packet)
    })?;
    // The fence: a later Map-Register has been dealt with, so the withdrawal has.
    let since = drive.now_ns();
    let within = drive.timer("etr-1", "register-interval") * 2 + seconds(5);
    let next = drive.wait_for(since, "the next Map-Register of etr-1", within, |packet| {
        packet.receiver() == Some(MSMR)
            && packet.map_register().is_some()
            && packet.source() == Some(ip(RLOCS[0]))
    })?;
    drive.wait_for(next.time_ns(), "its Map-Notify", seconds(5), |packet| {
        packet.sender() == Some(MSMR) && packet.map_notify().is_some()
    })?;
    drive.mark(GONE);
    for number in 0..ASKED_OF_TWO {
        answered(drive, &asker, WITH_TWO + number)?;
    }
    // From the site: out through etr-1, back to its locator.
    drive.ping("host-a", ip("10.2.0.10"), 2, seconds(3))?;
    Ok(())
}

fn withdraws(packet: &Seen) -> bool {
    packet
        .map_register()
        .is_some_and(|register| register.records.iter().any(|record| record.ttl == 0))
}

fn answered(drive: &Drive<'_>, asker: &Peer, nonce: u64) -> Result<(), Stop> {
    let since = drive.now_ns();
    ask(asker, drive.address(MSMR)?, &question(nonce, EID))?;
    drive.wait_for(since, "the answer of an ETR", seconds(2), |packet| {
        is_reply(packet, nonce) && packet.receiver() == Some("asker")
    })?;
    Ok(())
}

fn asked(trace: &Trace, nonce: u64) -> Option<&Seen> {
    trace
        .received_by(MSMR)
        .find(|packet| is_request(packet, nonce))
}

fn copies(trace: &Trace, nonce: u64) -> Vec<&Seen> {
    trace
        .originated(MSMR)
        .filter(|packet| is_request(packet, nonce))
        .collect()
}

/// Nonces of the questions that were asked, and which ETRs were registered then.
fn questions() -> impl Iterator<Item = (u64, &'static [&'static str])> {
    const LEFT: [&str; 2] = ["etr-1", "etr-3"];
    let three = (WITH_THREE..WITH_THREE + ASKED_OF_THREE).map(|nonce| (nonce, &ETRS[..]));
    let two = (WITH_TWO..WITH_TWO + ASKED_OF_TWO).map(|nonce| (nonce, &LEFT[..]));
    three.chain(two)
}

fn each_to_one(trace: &Trace, findings: &mut Findings) {
    let mut turns = Vec::new();
    let mut handed_on = Vec::new();
    for (nonce, registered) in questions() {
        let Some(asked) = asked(trace, nonce) else {
            findings.unseen(FORWARDS, "a Map-Request at the Map-Server");
            return;
        };
        let copies = copies(trace, nonce);
        let packets: Vec<&Seen> = [asked].into_iter().chain(copies.iter().copied()).collect();
        findings.check(
            ONCE,
            copies.len() == 1,
            &packets,
            "one copy",
            format!("{} copies", copies.len()),
        );
        let to = copies
            .first()
            .and_then(|copy| trace.node_of(copy.destination()?));
        let right = to.is_some_and(|to| registered.contains(&to))
            && copies.iter().all(|copy| copy.ecm().is_some());
        findings.check(
            FORWARDS,
            right,
            &packets,
            format!(
                "an Encapsulated Map-Request to one of {}",
                registered.join(", ")
            ),
            to.unwrap_or("nobody"),
        );
        let Some(to) = to else { continue };
        turns.push(to.to_owned());
        handed_on.extend(copies.first().copied());
        let reply = trace.originated(to).find(|packet| is_reply(packet, nonce));
        let answered = reply.is_some_and(|reply| {
            let record = reply.map_reply().and_then(|reply| reply.records.first());
            reply.destination()
                == asked
                    .map_request()
                    .and_then(|asked| asked.itr_rlocs[0].ip())
                && record.is_some_and(|record| record.locators.len() == RLOCS.len())
        });
        findings.check(
            ETR_DIRECT,
            answered,
            &packets,
            format!("{to} answers the ITR-RLOC with the three locators of the site"),
            reply.map_or("no Map-Reply".to_owned(), Seen::summary),
        );
    }
    // The texts leave open which ETR it is (RFC 6833 4.3).
    findings.recorded(
        WHICH,
        &handed_on,
        format!("asked in turn: {}", turns.join(", ")),
    );
}

fn nothing_after_withdrawal(trace: &Trace, findings: &mut Findings) {
    let withdrawal = trace
        .originated("etr-2")
        .find(|packet| withdraws(packet) && packet.destination() == Some(ip("198.51.100.10")));
    let Some(withdrawal) = withdrawal else {
        return findings.unseen(WITHDRAWS, "a Map-Register of etr-2 with TTL 0");
    };
    let after = trace.since(GONE).filter(|packet| {
        packet.sender() == Some(MSMR) && packet.destination() == Some(ip(RLOCS[1]))
    });
    let asked: Vec<&Seen> = after
        .filter(|packet| packet.map_request().is_some())
        .collect();
    findings.recorded(
        WITHDRAWS,
        withdrawal,
        format!("TTL 0, and {} Map-Requests to etr-2 after it", asked.len()),
    );
}

fn pings_arrive(trace: &Trace, findings: &mut Findings) {
    for (sequence, from, to) in [(1, "host-b", "host-a"), (2, "host-a", "host-b")] {
        let of = |packet: &&Seen, request: bool| {
            let ip = packet.data().map(|(_, inner)| inner).or(packet.ip());
            ip.and_then(|ip| ip.icmp())
                .is_some_and(|icmp| icmp.is_echo_request() == request && icmp.echo().1 == sequence)
        };
        let Some(sent) = trace.sent_by(from).find(|packet| of(packet, true)) else {
            findings.unseen(ENCAPSULATES, format!("ping {sequence}"));
            continue;
        };
        let tunnelled = trace
            .iter()
            .find(|packet| of(packet, true) && packet.is_data());
        let arrived = trace.received_by(to).find(|packet| of(packet, true));
        let back = trace.received_by(from).find(|packet| of(packet, false));
        findings.check(
            DECAPSULATES,
            tunnelled.is_none() || arrived.is_some(),
            arrived.unwrap_or(sent),
            format!("ping {sequence} at {to}"),
            arrived.map_or("lost".to_owned(), Seen::summary),
        );
        findings.check(
            ENCAPSULATES,
            tunnelled.is_some() && back.is_some(),
            back.unwrap_or(sent),
            format!("ping {sequence} through the tunnel, and its answer back at {from}"),
            back.map_or("lost".to_owned(), Seen::summary),
        );
    }
}

/// Nonces of the merging ETRs' Map-Registers, and of the questions after each.
const JOINS: u64 = 0x6d72_000c_0000_0001;
const LEAVES: u64 = 0x6d72_000c_0000_0009;
const AFTER_JOIN: u64 = 0x6d72_000c_0000_0011;
const AFTER_LEAVE: u64 = 0x6d72_000c_0000_0019;

inventory::submit! {
    Case {
        id: "rfc9301::s5_6::merged_etrs_come_and_go",
        title: "The locators of ETRs that register with the merge bit add up as they come, and go when one withdraws; an ITR gets the set as it is.",
        topology: "three-etrs",
        editions: &[Edition::Rfc9300],
        start: false,
        roles: &["ms"],
        features: &["proxy-reply"],
        requirements: &[MERGES],
        drive: merge,
        judges: &[union],
        sabotages: &[
            Sabotage {
                name: "the latest wins",
                node: MSMR,
                links: &[],
                kills: &[MERGES],
                tamper: || Box::new(|way, frame| {
                    if way == Way::ToVictim {
                        frame.edit_signed(&key(SECRET), |message| match message {
                            ControlMessage::MapRegister(register) => std::mem::take(&mut register.merge),
                            _ => false,
                        });
                    }
                    PacketFate::Forward
                }),
            },
            Sabotage {
                name: "tells the locators in the order of coming",
                node: MSMR,
                links: &[],
                kills: &[MERGES],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapReply(reply) => {
                        reply.records.iter_mut().for_each(|record| record.locators.reverse());
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "keeps the locator of who has left",
                node: MSMR,
                links: &[],
                kills: &[MERGES],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapReply(reply) if reply.nonce == AFTER_LEAVE => {
                        let gone = locator(RLOCS[1], 1, 10);
                        reply.records.iter_mut().for_each(|record| record.locators.insert(1, gone.clone()));
                        true
                    }
                    _ => false,
                }),
            },
        ],
        ..Case::BASE
    }
}

fn joining(nonce: u64, etr: usize, ttl: u32) -> MapRegister {
    let mut record = record(SITE, vec![locator(RLOCS[etr], 1, 10)]);
    record.ttl = ttl;
    MapRegister {
        merge: true,
        proxy_reply: true,
        ..register(&key(SECRET), nonce, vec![record])
    }
}

fn merge(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let asker = drive.peer("asker")?;
    let etrs = ETRS.map(|etr| drive.peer(etr));
    drive.start(MSMR)?;
    let ms = drive.address(MSMR)?;
    let tell = |etr: usize, message: MapRegister| -> Result<(), Stop> {
        let Ok(peer) = &etrs[etr] else {
            return Err(Stop::Untestable(format!(
                "no scripted peer at {}",
                ETRS[etr]
            )));
        };
        let (since, nonce) = (drive.now_ns(), message.nonce);
        let octets = message.to_signed_vec(&key(SECRET));
        peer.udp((ip(RLOCS[etr]), 51_400 + etr as u16), (ms, 4342), &octets)?;
        drive.wait_for(since, "the Map-Notify", seconds(5), |packet| {
            is_notify(packet, nonce)
        })?;
        Ok(())
    };
    // Not in the order of their addresses.
    for (number, etr) in [2, 0, 1].into_iter().enumerate() {
        tell(etr, joining(JOINS + number as u64, etr, 1440))?;
        answered(drive, &asker, AFTER_JOIN + number as u64)?;
    }
    tell(1, joining(LEAVES, 1, 0))?;
    answered(drive, &asker, AFTER_LEAVE)
}

fn union(trace: &Trace, findings: &mut Findings) {
    let steps: [(u64, &[usize]); 4] = [
        (AFTER_JOIN, &[2]),
        (AFTER_JOIN + 1, &[0, 2]),
        (AFTER_JOIN + 2, &[0, 1, 2]),
        (AFTER_LEAVE, &[0, 2]),
    ];
    for (nonce, etrs) in steps {
        let rlocs = etrs.iter().map(|etr| ip(RLOCS[*etr])).collect();
        let expected = Outcome::Mapping(prefix(SITE), rlocs);
        let Some(asked) = asked(trace, nonce) else {
            findings.unseen(MERGES, "a question");
            continue;
        };
        let reply = trace
            .originated(MSMR)
            .find(|packet| is_reply(packet, nonce));
        let found = reply
            .and_then(|reply| reply.map_reply()?.records.first())
            .map_or(Outcome::Nothing, Outcome::of_record);
        findings.check(
            MERGES,
            found == expected,
            [asked, reply.unwrap_or(asked)],
            format!("{expected}, sorted"),
            found.to_string(),
        );
    }
}
