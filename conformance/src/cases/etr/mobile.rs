//! Mobile hosts and mobile nodes at one tunnel router: what is registered for them, where their traffic goes, and how those
//! who stayed reach them (EID mobility, LISP-MN).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::wire::{Action, ControlMessage, MapRecord, MapRegister};
use lisp::{Address, CONTROL_PORT};

use crate::case::Case;
use crate::cases::common::{
    edit_outgoing, is_reply, key, negative, notify, outgoing, prefix, register, request, seconds,
};
use crate::cases::one_xtr::*;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop, data_packet};
use crate::finding::Findings;
use crate::sabotage::Tamper;
use crate::trace::{Seen, Trace};
use crate::words;

const AS_LCAF: Req = Req::new("eidmob01-4.2.2-lcaf-reg");
const LOCAL_MISS: Req = Req::new("eidmob01-4.1.2-local-miss");
const SHORT_TTL: Req = Req::new("mn01-7.5-mn-ttl");
const AT_ONCE: Req = Req::new("mn01-5.2-mn-register-now");
const TO_PETR: Req = Req::new("mn01-5-mn-petr");
const EXCEPT: Req = Req::new("mn01-5.3-mn-exceptions");

const KEY: &str = "key-of-site";
const BEGIN: &str = "a host sends";
/// Nonces of questions to the box, the second one a fence.
const ASKED: u64 = 0x7c15_4e0b_d392_a8f6;
const FENCE: u64 = 0x1f6a_c0d4_583b_e729;
const NOTIFIED: u64 = 0x42d8_9b7e_06c1_53fa;

/// The host as it is registered: of an Instance ID, for a minute or two.
const OF_INSTANCE: &str = "[7]10.1.0.10/32";
const MINUTES: std::ops::RangeInclusive<u32> = 1..=2;

inventory::submit! {
    Case {
        id: "eidmob01::s4_2_2::hosts_are_registered_in_their_instance_for_minutes",
        title: "A host of a dynamic EID-Prefix that sends is registered as an Instance-ID LCAF of full length, and its mapping has the configured TTL of a minute or two.",
        topology: TOPOLOGY,
        settings: &[(XTR, "eid-prefixes: [{prefix: 10.1.0.0/24, instance-id: 7, ttl: 1, dynamic: true, locators: [{address: 192.0.2.2, priority: 1, weight: 100}]}]")],
        roles: &["etr"],
        features: &["mobility"],
        requirements: &[AS_LCAF, SHORT_TTL],
        drive: seen_and_asked,
        judges: &[as_lcaf, short_ttl],
        sabotages: &[
            spoils("registers the host without its instance", &[AS_LCAF], || on_registered(|record| {
                if record.eid_prefix() == Some(prefix(OF_INSTANCE)) {
                    record.eid = Address::from(HOST);
                }
            })),
            spoils("registers the host's network", &[AS_LCAF], || on_registered(|record| {
                record.eid_mask_len = record.eid_mask_len.min(30);
            })),
            spoils("answers with a TTL of a day", &[SHORT_TTL], || outgoing(|message| match message {
                ControlMessage::MapReply(reply) => {
                    reply.records.iter_mut().for_each(|record| record.ttl = 1440);
                    true
                }
                _ => false,
            })),
        ],
        ..Case::BASE
    }
}

/// Changes records of Map-Registers, which are signed again.
fn on_registered(change: fn(&mut MapRecord)) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim {
            frame.edit_signed(&key(KEY), |message| match message {
                ControlMessage::MapRegister(register) => {
                    register.records.iter_mut().for_each(change);
                    true
                }
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

/// A remote site's question, handed on by the Map-Server; waits for its answer.
fn ask(drive: &Drive<'_>, net: &Net, nonce: u64, eid: &str) -> Result<(), Stop> {
    let itr_rloc = IpAddr::V4(Ipv4Addr::new(203, 0, 113, (nonce & 0x7f) as u8));
    let question = request(nonce, Some(REMOTE_HOST), &[itr_rloc], eid);
    let question = ControlMessage::MapRequest(question);
    net.mapping.encapsulated(
        (MAPPING, 40_017),
        RLOC,
        (REMOTE, CONTROL_FROM),
        HOST,
        &question,
    )?;
    drive.wait_for(0, "the Map-Reply of the box", SOON, |packet| {
        packet.sender() == Some(XTR) && is_reply(packet, nonce)
    })?;
    Ok(())
}

fn seen_and_asked(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, Vec::new())?;
    let since = drive.mark(BEGIN);
    net.offer(REMOTE_HOST, 1)?;
    let what = "a Map-Register with more than the EID-Prefix";
    drive.wait_for(since, what, SOON, |packet| {
        registered(packet).is_some_and(|register| register.records.len() > 1)
    })?;
    ask(drive, &net, ASKED, OF_INSTANCE)
}

/// The Map-Register that the box sends.
fn registered(packet: &Seen) -> Option<&MapRegister> {
    packet
        .map_register()
        .filter(|_| packet.sender() == Some(XTR))
}

fn as_lcaf(trace: &Trace, findings: &mut Findings) {
    let sent: Vec<&Seen> = trace
        .since(BEGIN)
        .filter(|packet| registered(packet).is_some())
        .collect();
    // AFI 16387, Type 2, length 10, Instance ID 7, AFI 1, 10.1.0.10; behind it the locator.
    let shape = [
        0x40, 0x03, 0, 0, 2, 0x20, 0, 10, 0, 0, 0, 7, 0, 1, 10, 1, 0, 10,
    ];
    let holds = |octets: &[u8]| {
        octets.windows(shape.len()).enumerate().any(|(at, window)| {
            // The IID mask-len counts only over an inner AFI of 0.
            let same = window[..5] == shape[..5] && window[6..] == shape[6..];
            // The record's mask length stands five octets before the EID's AFI (RFC 6830 6.1.4).
            same && at >= 5 && octets[at - 5] == 32
        })
    };
    let found = sent
        .iter()
        .find(|packet| packet.udp().is_some_and(|udp| holds(&udp.payload)));
    match found {
        Some(packet) => findings.met(AS_LCAF, *packet, packet.summary()),
        None if trace.mark(BEGIN).is_none() => findings.unseen(AS_LCAF, "a host that sends"),
        None => findings.broken(
            AS_LCAF,
            &sent,
            format!("a record {OF_INSTANCE} as LCAF Type 2"),
            sent.last()
                .map_or_else(|| "no Map-Register".to_owned(), |packet| packet.summary()),
        ),
    }
}

fn short_ttl(trace: &Trace, findings: &mut Findings) {
    let answer = trace.originated(XTR).find(|packet| is_reply(packet, ASKED));
    let records = answer.and_then(Seen::map_reply).map(|reply| &reply.records);
    let (Some(answer), Some(records)) = (answer, records) else {
        return findings.unseen(SHORT_TTL, "a Map-Reply for the host");
    };
    let ttls: Vec<u32> = records.iter().map(|record| record.ttl).collect();
    findings.check(
        SHORT_TTL,
        !ttls.is_empty() && ttls.iter().all(|ttl| MINUTES.contains(ttl)),
        answer,
        "a TTL of 1 or 2 minutes",
        format!("TTLs {} minutes", words::listed(ttls)),
    );
}

const MOVED: &str = "the Map-Server says that a host is elsewhere";
/// The host that moved.
const AWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 77));
const AWAY_PREFIX: &str = "10.1.0.77/32";

inventory::submit! {
    Case {
        id: "eidmob01::s4_1_2::those_who_stayed_look_up_who_moved",
        title: "After a Map-Notify says that a host of a dynamic EID-Prefix is registered elsewhere, a packet of the site to it causes a Map-Request and follows its answer.",
        topology: TOPOLOGY,
        settings: &[(XTR, "eid-prefixes: [{prefix: 10.1.0.0/24, dynamic: true, locators: [{address: 192.0.2.2, priority: 1, weight: 100}]}]")],
        roles: &["itr", "etr"],
        features: &["mobility"],
        requirements: &[LOCAL_MISS],
        drive: stayed,
        judges: &[local_miss],
        sabotages: &[
            spoils("takes it for a host of the site", &[LOCAL_MISS], || swallow(|frame| {
                matches!(frame.control(), Some(ControlMessage::Encapsulated(_)))
            })),
            spoils("sends it elsewhere", &[LOCAL_MISS], || misdirect(OTHER, |_| true)),
        ],
        ..Case::BASE
    }
}

fn stayed(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive, vec![mapping(AWAY_PREFIX, &[REMOTE])])?;
    // Those who stayed reach the subnet's other hosts through their gateway, or they would ask for the hardware address.
    let command = ["ip", "route", "add", AWAY_PREFIX, "via", "10.1.0.1"];
    let output = drive.lab().exec("site", command, seconds(5))?;
    if !output.exit.success() {
        let why = output.stderr_text();
        return Err(Stop::Untestable(format!("no route for the host: {why}")));
    }
    let elsewhere = register(&key(KEY), NOTIFIED, vec![mapping(AWAY_PREFIX, &[REMOTE])]);
    drive.mark(MOVED);
    net.mapping.udp(
        (MAPPING, CONTROL_PORT),
        (RLOC, CONTROL_PORT),
        &notify(&elsewhere, &key(KEY)),
    )?;
    // The fence: what came before it has been read.
    ask(drive, &net, FENCE, "10.1.0.10/32")?;
    net.say(drive, AWAY, 1)?;
    Ok(())
}

fn local_miss(trace: &Trace, findings: &mut Findings) {
    let told = trace
        .since(MOVED)
        .find(|packet| packet.receiver() == Some(XTR) && packet.map_notify().is_some());
    let Some(told) = told else {
        return findings.unseen(LOCAL_MISS, "a Map-Notify about a host that moved");
    };
    let asked = questions(trace, told.time_ns(), AWAY_PREFIX);
    let asked = asked.iter().find(|asked| to_resolver(asked));
    let (Some(asked), out) = (asked, data(trace, 1)) else {
        return findings.broken(
            LOCAL_MISS,
            told,
            format!("a Map-Request for {AWAY}"),
            "none",
        );
    };
    match out {
        Some(out) => findings.check(
            LOCAL_MISS,
            out.destination() == Some(REMOTE),
            [told, *asked, out],
            format!("a Map-Request for {AWAY}, and data to {REMOTE}, its answer"),
            destination(out),
        ),
        None => findings.broken(
            LOCAL_MISS,
            [told, *asked],
            format!("data to {REMOTE}, as the answer says"),
            "none",
        ),
    }
}

const ROAMS: &str = "the node has a new locator";
/// The new locator, which the box gets while it runs.
const NEW_RLOC: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 7, 2));
/// At once: a second or so, on a machine that has other things to do.
const A_SECOND_OR_SO: Duration = Duration::from_secs(2);

inventory::submit! {
    Case {
        id: "mn01::s5_2::new_locator_is_registered_at_once",
        title: "A node that roams and is told its new locator registers it within a second or so, whatever the register interval.",
        topology: TOPOLOGY,
        roles: &["etr"],
        features: &["mobility"],
        requirements: &[AT_ONCE],
        drive: roams,
        judges: &[at_once],
        sabotages: &[spoils("waits for the register interval", &[AT_ONCE], || Box::new(|way, frame| {
            match frame.control() {
                Some(ControlMessage::MapRegister(register)) if way == Way::FromVictim && names(&register, NEW_RLOC) => {
                    PacketFate::Delay(seconds(3))
                }
                _ => PacketFate::Forward,
            }
        }))],
        ..Case::BASE
    }
}

fn names(register: &MapRegister, rloc: IpAddr) -> bool {
    let mut locators = register.records.iter().flat_map(|record| &record.locators);
    locators.any(|locator| locator.rloc.ip() == Some(rloc))
}

fn roams(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let _net = Net::up(drive, Vec::new())?;
    drive.registered(&[XTR], seconds(10))?;
    let command = ["ip", "address", "add", "198.18.7.2/32", "dev", "rloc"];
    let output = drive.lab().exec(XTR, command, seconds(5))?;
    if !output.exit.success() {
        let why = output.stderr_text();
        return Err(Stop::Untestable(format!("no second address: {why}")));
    }
    let since = drive.mark(ROAMS);
    drive.reload(
        XTR,
        "eid-prefixes: [{prefix: 10.1.0.0/24, locators: [{address: 198.18.7.2, priority: 1, weight: 100}]}]",
    )?;
    drive.wait_for(
        since,
        "a Map-Register with the new locator",
        seconds(10),
        |packet| registered(packet).is_some_and(|register| names(register, NEW_RLOC)),
    )?;
    Ok(())
}

fn at_once(trace: &Trace, findings: &mut Findings) {
    let Some(since) = trace.mark(ROAMS) else {
        return findings.unseen(AT_ONCE, "a new locator");
    };
    let found = trace
        .since(ROAMS)
        .find(|packet| registered(packet).is_some_and(|register| names(register, NEW_RLOC)));
    let after = found.map(|packet| Duration::from_nanos(packet.time_ns() - since));
    findings.check(
        AT_ONCE,
        after.is_some_and(|after| after <= A_SECOND_OR_SO),
        found,
        format!(
            "a Map-Register with {NEW_RLOC} within {}",
            words::time(A_SECOND_OR_SO)
        ),
        after.map_or_else(
            || "none".to_owned(),
            |after| format!("after {}", words::time(after)),
        ),
    );
}

/// A place of no LISP site.
const LEGACY: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
/// The PETR of the case.
const PETR: IpAddr = OTHER;
/// The neighbour on the network that the node is attached to.
const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

inventory::submit! {
    Case {
        id: "mn01::s5::what_is_not_local_goes_to_the_petr",
        title: "With a PETR, what goes to no LISP site is encapsulated to it; control messages and packets to the attached network leave as they are.",
        topology: TOPOLOGY,
        settings: &[(XTR, "use-petr: [{address: 192.0.2.66}]")],
        roles: &["itr"],
        features: &["mobility", "petr"],
        requirements: &[TO_PETR, EXCEPT],
        drive: |drive| {
            let net = Net::up(drive, vec![negative("203.0.113.0/24", 15, Action::NativelyForward)])?;
            drive.registered(&[XTR], seconds(10))?;
            let since = drive.mark(BEGIN);
            net.say(drive, LEGACY, 1)?;
            net.offer(NEIGHBOUR, 2)?;
            drive.wait_for(since, "the packet to the neighbour", SOON, |packet| out(packet) == Some(2))?;
            Ok(())
        },
        judges: &[to_petr, except],
        sabotages: &[
            spoils("sends it to somebody else", &[TO_PETR], || misdirect(REMOTE, |sequence| sequence == 1)),
            spoils("tunnels to its neighbour", &[EXCEPT], || edit_outgoing(|frame| {
                let Some(packet) = frame.ip().filter(|packet| packet.destination == NEIGHBOUR && packet.icmp().is_some()) else {
                    return;
                };
                let header = lisp::wire::DataHeader::default();
                let tunnel = data_packet((RLOC, 61_000), PETR, &header, &packet.bytes, 60);
                frame.octets().truncate(14);
                frame.octets().extend(tunnel);
            })),
        ],
        ..Case::BASE
    }
}

/// The number of a packet of the site on its way into the core, in a tunnel or not.
fn out(packet: &Seen) -> Option<u16> {
    if packet.sender() != Some(XTR) || packet.link() != "rloc" {
        return None;
    }
    let plain = packet.ip()?;
    let inner = packet.data().map_or(plain, |(_, inner)| inner);
    Some(inner.icmp()?.echo().1)
}

fn to_petr(trace: &Trace, findings: &mut Findings) {
    match trace.since(BEGIN).find(|packet| out(packet) == Some(1)) {
        Some(sent) => findings.check(
            TO_PETR,
            sent.data().is_some() && sent.destination() == Some(PETR),
            sent,
            format!("encapsulated to the PETR {PETR}"),
            sent.summary(),
        ),
        None => findings.unseen(TO_PETR, "a packet to a place of no LISP site"),
    }
}

fn except(trace: &Trace, findings: &mut Findings) {
    match trace.since(BEGIN).find(|packet| out(packet) == Some(2)) {
        Some(sent) => findings.check(
            EXCEPT,
            sent.data().is_none() && sent.destination() == Some(NEIGHBOUR),
            sent,
            format!("natively to the neighbour {NEIGHBOUR}"),
            sent.summary(),
        ),
        None => findings.unseen(EXCEPT, "a packet to the attached network"),
    }
    let tunnelled = trace.originated(XTR).find(|packet| {
        let inner = packet.data().and_then(|(_, inner)| inner.udp());
        inner.is_some_and(|udp| udp.destination_port == CONTROL_PORT)
    });
    let control = trace
        .originated(XTR)
        .find(|packet| packet.control().is_some());
    match (tunnelled, control) {
        (Some(packet), _) => findings.broken(
            EXCEPT,
            packet,
            "control messages outside of tunnels",
            packet.summary(),
        ),
        (None, Some(packet)) => findings.met(EXCEPT, packet, packet.summary()),
        (None, None) => findings.unseen(EXCEPT, "a control message"),
    }
}
