//! What becomes of packets whose mapping is not known yet, and of those after them (RFC 6830 4.1).

use crate::case::Case;
use crate::cases::common::{ip, lose_outgoing, seconds};
use crate::cases::fences::Special;
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const MISS: Req = Req::new("rfc6830-4.1-mreq-when");
const ENCAPSULATES: Req = Req::new("rfc6830-3-itr-encap");
const DECAPSULATES: Req = Req::new("rfc6830-3-etr-decap");
const ONE_REQUEST: Req = Req::new("rfc6830-6.1.3-rate-1s");

const HOST_B: &str = "10.2.0.10";
/// Sent at once, before any mapping can be known.
const EARLY: u16 = 5;
/// Sent one by one when the mapping is known.
const WARM: u16 = 20;

inventory::submit! {
    Case {
        id: "rfc6830::s4_1::a_miss_asks_once_and_nothing_is_lost_after_the_reply",
        title: "Packets at a miss cause one Map-Request; from the Map-Reply on none is lost.",
        // The warm packets and their answers go out in batches, with checksums where a kernel segments them.
        settings: &[("xtr-a", "{on-miss: drop, data-plane: {offload: false}}"), ("xtr-b", "data-plane: {offload: false}")],
        roles: &["itr", "etr"],
        requirements: &[MISS, ONE_REQUEST, ENCAPSULATES, DECAPSULATES],
        drive,
        judges: &[asks_once, none_lost],
        sabotages: SABOTAGES,
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s4_1::a_miss_asks_once_also_when_packets_are_held",
        title: "An ITR that is told to hold packets at a miss asks once as well; from the Map-Reply on none is lost.",
        // The warm packets and their answers go out in batches, with checksums where a kernel segments them.
        settings: &[("xtr-a", "{on-miss: hold, data-plane: {offload: false}}"), ("xtr-b", "data-plane: {offload: false}")],
        roles: &["itr", "etr"],
        requirements: &[MISS, ONE_REQUEST, ENCAPSULATES, DECAPSULATES],
        drive,
        judges: &[asks_once, none_lost],
        sabotages: SABOTAGES,
        ..Case::BASE
    }
}

const SABOTAGES: &[Sabotage] = &[
    Sabotage {
        name: "does not ask",
        node: "xtr-a",
        links: &["core-a"],
        kills: &[MISS],
        tamper: || {
            lose_outgoing(|frame| {
                matches!(
                    frame.control(),
                    Some(lisp::wire::ControlMessage::Encapsulated(_))
                )
            })
        },
    },
    Sabotage {
        name: "does not pass on one warm packet",
        node: "xtr-b",
        links: &["site-b"],
        kills: &[DECAPSULATES],
        tamper: || {
            lose_outgoing(|frame| {
                let ip = frame.ip();
                let icmp = ip.as_ref().and_then(|ip| ip.icmp());
                icmp.is_some_and(|icmp| icmp.echo().1 == 100 + WARM / 2)
            })
        },
    },
    Sabotage {
        name: "loses one warm packet",
        node: "xtr-a",
        links: &["core-a"],
        kills: &[ENCAPSULATES],
        tamper: || {
            lose_outgoing(|frame| inner_sequence(frame.ip().as_ref()) == Some(100 + WARM / 2))
        },
    },
    Sabotage {
        name: "asks for each packet",
        node: "xtr-a",
        links: &["core-a"],
        kills: &[ONE_REQUEST],
        tamper: || {
            Box::new(|way, frame| match frame.control() {
                Some(lisp::wire::ControlMessage::Encapsulated(_))
                    if way == harness::inline::Way::FromVictim =>
                {
                    harness::inline::PacketFate::Duplicate(std::time::Duration::ZERO)
                }
                _ => harness::inline::PacketFate::Forward,
            })
        },
    },
];

fn inner_sequence(ip: Option<&crate::decode::Ip>) -> Option<u16> {
    match crate::decode::lisp(ip?) {
        crate::decode::Lisp::Data {
            inner: Some(inner), ..
        } => inner.icmp().map(|icmp| icmp.echo().1),
        _ => None,
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-a", "xtr-b"], seconds(10))?;
    let host = drive.peer("host-a")?;
    let echo = |sequence| Echo::new(host.address(), ip(HOST_B), sequence).request();
    let begin = drive.mark("packets at the miss");
    for sequence in 1..=EARLY {
        host.send(&echo(sequence))?;
    }
    drive.wait_for(begin, "the Map-Reply at xtr-a", seconds(5), |packet| {
        packet.receiver() == Some("xtr-a") && packet.map_reply().is_some()
    })?;
    // The reply was on the wire; the cache has it when a packet gets through. That packet belongs to neither group.
    for sequence in 50..70 {
        let since = drive.mark("a packet to see whether the mapping is used");
        host.send(&echo(sequence))?;
        let through = drive.wait_for(
            since,
            "a packet through the tunnel",
            std::time::Duration::from_millis(250),
            |packet| packet.receiver() == Some("host-b") && sequence_of(packet) == Some(sequence),
        );
        if through.is_ok() {
            break;
        }
    }
    let warm = drive.mark("warm packets");
    for sequence in 1..=WARM {
        host.send(&echo(100 + sequence))?;
    }
    // The fence: packets that are alike may take different ways while a mapping is new, so one of each kind.
    let special = Special::new(drive);
    host.send(&special.packet(host.address(), ip(HOST_B)))?;
    drive.wait_for(
        warm,
        "the last warm packet at host-b",
        seconds(5),
        |packet| packet.receiver() == Some("host-b") && sequence_of(packet) == Some(100 + WARM),
    )?;
    drive.wait_for(
        warm,
        "the packet of an unknown protocol at host-b",
        seconds(5),
        |packet| packet.receiver() == Some("host-b") && special.is_plain(packet),
    )?;
    Ok(())
}

fn sequence_of(packet: &Seen) -> Option<u16> {
    let icmp = packet.ip()?.icmp()?;
    icmp.is_echo_request().then(|| icmp.echo().1)
}

fn asks_once(trace: &Trace, findings: &mut Findings) {
    let asked = lisp::EidPrefix::host(0, ip(HOST_B));
    let requests: Vec<&Seen> = trace
        .originated("xtr-a")
        .filter(|packet| {
            packet
                .map_request()
                .is_some_and(|request| request.records.iter().any(|q| q.prefix() == Some(asked)))
        })
        .collect();
    let Some(first) = requests.first().copied() else {
        findings.broken(MISS, Vec::new(), "a Map-Request at the miss", "none");
        return;
    };
    findings.met(MISS, first, "the miss caused a Map-Request");
    let close: Vec<&Seen> = requests
        .iter()
        .copied()
        .filter(|packet| packet.time_ns() - first.time_ns() < 900_000_000)
        .collect();
    findings.check(
        ONE_REQUEST,
        close.len() == 1,
        &close,
        format!("one Map-Request within a second, though {EARLY} packets missed"),
        close.len().to_string(),
    );
}

fn none_lost(trace: &Trace, findings: &mut Findings) {
    let since = || trace.since("warm packets");
    for sequence in 101..=100 + WARM {
        let Some(sent) = since().find(|packet| {
            packet.sender() == Some("host-a") && sequence_of(packet) == Some(sequence)
        }) else {
            findings.unseen(
                ENCAPSULATES,
                format!("warm packet {sequence} on the site's link"),
            );
            continue;
        };
        let tunnel = since().find(|packet| {
            packet.sender() == Some("xtr-a") && inner_sequence(packet.ip()) == Some(sequence)
        });
        let Some(tunnel) = tunnel else {
            findings.broken(
                ENCAPSULATES,
                sent,
                "every packet encapsulated once the mapping is known",
                "it was lost",
            );
            continue;
        };
        findings.met(
            ENCAPSULATES,
            [sent, tunnel],
            "all warm packets encapsulated",
        );
        let out = since().find(|packet| {
            packet.receiver() == Some("host-b") && sequence_of(packet) == Some(sequence)
        });
        match out {
            Some(out) => findings.met(DECAPSULATES, [tunnel, out], "all warm packets decapsulated"),
            None => findings.broken(
                DECAPSULATES,
                tunnel,
                "the packet at host-b",
                "it did not come out",
            ),
        }
    }
}
