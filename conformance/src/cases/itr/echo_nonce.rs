//! Echo-nonce: asking for echoes in data packets, and echoing (RFC 6830 6.3.1, RFC 9300 10.1).

use std::net::IpAddr;

use harness::inline::{PacketFate, Way};
use lisp::wire::{ControlMessage, DataHeader};

use crate::case::Case;
use crate::cases::common::{ip, request};
use crate::cases::one_xtr::*;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::trace::{Seen, Trace};
use crate::words;

const EVERY: Req = Req::new("rfc6830-6.3.1-en-every-packet");
const ECHO: Req = Req::new("rfc6830-6.3.1-en-echo");
const BOTH_ASK: Req = Req::new("rfc6830-6.3.1-en-both");
const SWITCH: Req = Req::new("rfc6830-6.3.1-en-switch");
const N_BIT: Req = Req::new("rfc6830-5.3-n-bit");

pub(super) const SETTINGS: &str =
    "{echo-nonce: true, echo-nonce-interval: 1s, rloc-probing: {interval: 1s}}";
const BOTH: [IpAddr; 2] = [REMOTE, OTHER];
/// What the remote site asks to be echoed.
const THEIRS: u32 = 0x00ab_cdef;

const ASKING: &str = "the box asks for an echo";
const THEY_ASK: &str = "the remote site asks too";
const ECHOED: &str = "the echo has come";

/// Numbers of packets while the box asks, after the other site asked, and after the echo.
const WHILE_ASKING: std::ops::Range<u16> = 200..206;
const AFTER_THEIRS: std::ops::Range<u16> = 210..214;
const AFTER_ECHO: std::ops::Range<u16> = 220..224;

fn asks_for_echo(header: &DataHeader) -> Option<u32> {
    header.nonce.filter(|_| header.echo_request)
}

/// A remote site whose Map-Replies have E as given, and which answers probes.
fn remote_site(
    drive: &Drive,
    records: Vec<lisp::wire::MapRecord>,
    echo_nonce: bool,
) -> Result<Net, Stop> {
    let mut net = Net::answering(
        drive,
        Answers {
            records,
            echo_nonce,
        },
    )?;
    for peer in [&mut net.remote, &mut net.other] {
        answer_probes(peer, |probed, _| {
            Some((probed, marked(mapping(REMOTE_SITE, &BOTH), &[probed])))
        })?;
    }
    Ok(net)
}

/// Says something at each probe until a packet asks for an echo.
pub(super) fn until_asked(
    drive: &Drive,
    net: &Net,
    numbers: std::ops::Range<u16>,
) -> Result<Seen, Stop> {
    for sequence in numbers {
        let seen = net.say(drive, REMOTE_HOST, sequence)?;
        if seen.data().is_some_and(|(header, _)| header.echo_request) {
            return Ok(seen);
        }
        drive.wait_for(seen.time_ns(), "the next probe", SOON, |packet| {
            packet.sender() == Some(XTR)
                && packet.map_request().is_some_and(|request| request.probe)
        })?;
    }
    Err(Stop::NotSeen(
        "a data packet with N = 1 and E = 1".to_owned(),
    ))
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_3_1::echo_is_asked_for_in_every_packet",
        title: "While an ITR asks a capable site for an echo, every packet to that locator has its nonce with N and E; what the site asks itself is echoed in between; an echo keeps the traffic where it is.",
        topology: TOPOLOGY,
        settings: &[(XTR, SETTINGS)],
        timeout: std::time::Duration::from_secs(60),
        roles: &["itr", "etr"],
        features: &["echo-nonce", "rloc-probe"],
        requirements: &[EVERY, ECHO, BOTH_ASK, SWITCH, N_BIT],
        drive: both_ask,
        judges: &[every_packet_asks, echo_in_between, no_switch],
        sabotages: &[
            spoils("asks in the first packet alone", &[EVERY], || {
                let mut asked = 0;
                on_headers(move |header| {
                    asked += u32::from(header.echo_request);
                    let hit = header.echo_request && asked == 3;
                    if hit {
                        header.echo_request = false;
                        header.nonce = None;
                        header.raw_nonce = 0;
                    }
                    hit
                })
            }),
            spoils("takes another nonce each time", &[EVERY], || {
                let mut asked = 0;
                on_headers(move |header| {
                    asked += 1;
                    let hit = header.echo_request;
                    header.nonce = header.nonce.map(|nonce| if hit { nonce ^ (asked << 4) & 0xff_ffff } else { nonce });
                    hit
                })
            }),
            spoils("echoes another nonce", &[ECHO, BOTH_ASK, N_BIT], || on_headers(|header| {
                let hit = header.nonce == Some(THEIRS);
                if hit {
                    header.nonce = Some(THEIRS ^ 1);
                }
                hit
            })),
            spoils("echoes with E", &[ECHO], || on_headers(|header| {
                let hit = header.nonce == Some(THEIRS);
                header.echo_request |= hit;
                hit
            })),
            spoils("leaves although the echo came", &[SWITCH], || misdirect(OTHER, |sequence| sequence >= AFTER_ECHO.start)),
        ],
        ..Case::BASE
    }
}

fn both_ask(drive: &mut Drive) -> Result<(), Stop> {
    let net = remote_site(drive, vec![mapping(REMOTE_SITE, &BOTH)], true)?;
    let asked = until_asked(drive, &net, 100..130)?;
    let Some(nonce) = asked.data().and_then(|(header, _)| asks_for_echo(header)) else {
        return Err(Stop::NotSeen("a nonce to echo".to_owned()));
    };
    drive.mark(ASKING);
    for sequence in WHILE_ASKING {
        net.say(drive, REMOTE_HOST, sequence)?;
    }
    drive.mark(THEY_ASK);
    let theirs = DataHeader {
        nonce: Some(THEIRS),
        echo_request: true,
        ..DataHeader::default()
    };
    net.hear(drive, (&net.remote, REMOTE), &theirs, 209)?;
    for sequence in AFTER_THEIRS {
        net.say(drive, REMOTE_HOST, sequence)?;
    }
    let echo = DataHeader {
        nonce: Some(nonce),
        ..DataHeader::default()
    };
    net.hear(drive, (&net.remote, REMOTE), &echo, 219)?;
    drive.mark(ECHOED);
    for sequence in AFTER_ECHO {
        net.say(drive, REMOTE_HOST, sequence)?;
    }
    Ok(())
}

fn every_packet_asks(trace: &Trace, findings: &mut Findings) {
    let all: Vec<&Seen> = data_since(trace, ASKING)
        .filter(|(sequence, _)| WHILE_ASKING.contains(sequence))
        .map(|(_, packet)| packet)
        .collect();
    let first = trace.iter().find(|packet| {
        left(packet).is_some() && packet.data().is_some_and(|(header, _)| header.echo_request)
    });
    let Some(first) = first else {
        for row in [EVERY, N_BIT] {
            findings.broken(
                row,
                Vec::new(),
                "data packets with N = 1 and E = 1 to a capable site",
                "none",
            );
        }
        return;
    };
    let wanted = first.data().and_then(|(header, _)| asks_for_echo(header));
    for packet in all {
        let said = packet.data().and_then(|(header, _)| asks_for_echo(header));
        findings.check(
            EVERY,
            said == wanted && said.is_some(),
            [first, packet],
            format!("N = 1, E = 1, nonce {:#08x}", wanted.unwrap_or_default()),
            said.map_or("no request for an echo".to_owned(), |nonce| {
                format!("N = 1, E = 1, nonce {nonce:#08x}")
            }),
        );
    }
    // Octets 1 to 3 of the LISP header, read without the codec.
    let octets = first
        .udp()
        .map(|udp| udp.payload[..4].to_vec())
        .unwrap_or_default();
    let right = octets.len() == 4
        && octets[0] & 0x80 != 0
        && u32::from_be_bytes([0, octets[1], octets[2], octets[3]]) == wanted.unwrap_or(u32::MAX);
    findings.check(
        N_BIT,
        right,
        first,
        "N = 1, and the nonce in octets 1 to 3",
        words::hex(&octets),
    );
}

fn echo_in_between(trace: &Trace, findings: &mut Findings) {
    let heard = trace.iter().find(|packet| delivered(packet) == Some(209));
    let after: Vec<&Seen> = data_since(trace, THEY_ASK)
        .filter(|(sequence, _)| AFTER_THEIRS.contains(sequence))
        .map(|(_, packet)| packet)
        .collect();
    let (Some(heard), Some(first)) = (heard, after.first()) else {
        for row in [ECHO, BOTH_ASK] {
            findings.unseen(
                row,
                "a request of the remote site for an echo, and data back",
            );
        }
        return;
    };
    let header = |packet: &Seen| packet.data().map(|(header, _)| *header).unwrap_or_default();
    let echo = after
        .iter()
        .find(|packet| header(packet).nonce == Some(THEIRS));
    let seen = format!(
        "nonce {}, E = {}",
        words::nonce(header(first).nonce),
        u8::from(header(first).echo_request)
    );
    let right = header(first).nonce == Some(THEIRS) && !header(first).echo_request;
    findings.check(
        ECHO,
        right,
        [heard, *first],
        format!("N = 1, E = 0, nonce {THEIRS:#08x} in the next packet back"),
        seen.clone(),
    );
    findings.check(
        N_BIT,
        echo.is_some(),
        [heard, *first],
        format!("the nonce {THEIRS:#08x} as it was asked"),
        seen,
    );
    let again = after.iter().any(|packet| header(packet).echo_request);
    match echo {
        // Whether its own requests go on at once is the edition's matter; that the echo comes is not.
        Some(echo) => findings.met(
            BOTH_ASK,
            [heard, *echo],
            format!("the echo comes; its own requests go on: {again}"),
        ),
        None => findings.broken(
            BOTH_ASK,
            [heard, *first],
            "an echo although it asks itself",
            "none",
        ),
    }
}

fn no_switch(trace: &Trace, findings: &mut Findings) {
    let after: Vec<&Seen> = data_since(trace, ECHOED)
        .filter(|(sequence, _)| AFTER_ECHO.contains(sequence))
        .map(|(_, packet)| packet)
        .collect();
    if after.is_empty() {
        findings.unseen(SWITCH, "data after an echo");
    }
    for packet in after {
        findings.check(
            SWITCH,
            packet.destination() == Some(REMOTE),
            packet,
            format!("data to {REMOTE}, whose echo came"),
            destination(packet),
        );
    }
}

const CAPABLE: Req = Req::new("rfc6830-6.3.1-en-capability");

/// A site whose Map-Reply had E = 0.
const SIMPLE_HOST: &str = "10.2.1.10";

inventory::submit! {
    Case {
        id: "rfc6830::s6_3_1::sites_that_do_not_echo_are_not_asked",
        title: "No data packet asks a site for an echo whose Map-Reply had E = 0, while one that offered it is asked.",
        topology: TOPOLOGY,
        settings: &[(XTR, SETTINGS)],
        timeout: std::time::Duration::from_secs(60),
        roles: &["itr"],
        features: &["echo-nonce", "rloc-probe"],
        requirements: &[CAPABLE],
        drive: |drive| {
            let net = remote_site(drive, vec![mapping("10.2.1.0/24", &[OTHER])], false)?;
            net.say(drive, ip(SIMPLE_HOST), 1)?;
            // The fence: a site that offers it is asked, and is asked about later.
            net.teach_all(Answers { records: vec![mapping(REMOTE_SITE, &[REMOTE])], echo_nonce: true });
            for round in 0..3u16 {
                let asked = until_asked(drive, &net, 100 + round * 40..130 + round * 40)?;
                for sequence in 0..3 {
                    net.say(drive, ip(SIMPLE_HOST), 20 + round * 4 + sequence)?;
                }
                let nonce = asked.data().and_then(|(header, _)| header.nonce);
                let echo = DataHeader { nonce, ..DataHeader::default() };
                net.hear(drive, (&net.remote, REMOTE), &echo, 15 + round)?;
            }
            Ok(())
        },
        judges: &[only_the_capable],
        sabotages: &[spoils("asks everybody", &[CAPABLE], || Box::new(|way, frame| {
            let simple = frame.ip().is_some_and(|ip| ip.destination == OTHER);
            if way == Way::FromVictim && simple {
                frame.edit_data(|header, _| {
                    header.nonce = Some(0x1234);
                    header.echo_request = true;
                    true
                });
            }
            PacketFate::Forward
        }))],
        ..Case::BASE
    }
}

fn only_the_capable(trace: &Trace, findings: &mut Findings) {
    let all = |to: IpAddr| {
        trace
            .iter()
            .filter(move |packet| left(packet).is_some() && packet.destination() == Some(to))
    };
    let asks = |packet: &&Seen| packet.data().is_some_and(|(header, _)| header.echo_request);
    let Some(fence) = all(REMOTE).find(asks) else {
        findings.unseen(CAPABLE, "a request for an echo to the site that offers it");
        return;
    };
    match all(OTHER).find(asks) {
        Some(packet) => findings.broken(
            CAPABLE,
            packet,
            "E = 0 toward a site whose Map-Reply had E = 0",
            "E = 1",
        ),
        None => findings.met(
            CAPABLE,
            fence,
            format!(
                "{} packets to the other site ask nothing",
                all(OTHER).count()
            ),
        ),
    }
}

const OFFERED: Req = Req::new("rfc6830-6.1.4-e-bit");
const WITH: u64 = 0xe400_0000_0001_0001;
const WITHOUT: u64 = 0xe400_0000_0001_0002;

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_4::e_bit_of_map_replies_follows_the_feature",
        title: "A Map-Reply has E = 1 while the site echoes nonces, which it then does, and E = 0 once the feature is off.",
        topology: TOPOLOGY,
        settings: &[(XTR, "echo-nonce: true")],
        roles: &["etr"],
        features: &["echo-nonce"],
        requirements: &[OFFERED],
        drive: |drive| {
            let net = remote_site(drive, vec![mapping(REMOTE_SITE, &[REMOTE])], false)?;
            net.say(drive, REMOTE_HOST, 1)?;
            ask(drive, &net, WITH, REMOTE)?;
            let theirs = DataHeader { nonce: Some(THEIRS), echo_request: true, ..DataHeader::default() };
            net.hear(drive, (&net.remote, REMOTE), &theirs, 2)?;
            net.say(drive, REMOTE_HOST, 3)?;
            let since = drive.mark("the feature is off");
            drive.reload(XTR, "echo-nonce: false")?;
            // A reload registers anew: the settings are in force then.
            drive.wait_for(since, "a Map-Register", SOON, |packet| {
                packet.sender() == Some(XTR) && packet.map_register().is_some()
            })?;
            ask(drive, &net, WITHOUT, OTHER)
        },
        judges: &[follows],
        sabotages: &[
            spoils("always says that it echoes", &[OFFERED], || crate::cases::common::outgoing(|message| match message {
                ControlMessage::MapReply(reply) => {
                    reply.echo_nonce = true;
                    true
                }
                _ => false,
            })),
            spoils("says it and does not echo", &[OFFERED], || on_headers(|header| {
                let hit = header.nonce.is_some();
                header.nonce = None;
                header.raw_nonce = 0;
                hit
            })),
        ],
        ..Case::BASE
    }
}

fn ask(drive: &Drive, net: &Net, nonce: u64, from: IpAddr) -> Result<(), Stop> {
    let peer = if from == REMOTE {
        &net.remote
    } else {
        &net.other
    };
    let message =
        ControlMessage::MapRequest(request(nonce, Some(REMOTE_HOST), &[from], "10.1.0.10/32"));
    peer.control((from, CONTROL_FROM), RLOC, &message)?;
    drive.wait_for(0, "the Map-Reply", SOON, |packet| {
        packet.sender() == Some(XTR) && packet.map_reply().is_some_and(|reply| reply.nonce == nonce)
    })?;
    Ok(())
}

fn follows(trace: &Trace, findings: &mut Findings) {
    let reply = |nonce: u64| {
        trace
            .originated(XTR)
            .find(|packet| packet.map_reply().is_some_and(|reply| reply.nonce == nonce))
    };
    for (nonce, wanted) in [(WITH, true), (WITHOUT, false)] {
        let Some(packet) = reply(nonce) else {
            findings.unseen(
                OFFERED,
                format!(
                    "a Map-Reply with the feature {}",
                    if wanted { "on" } else { "off" }
                ),
            );
            continue;
        };
        let said = packet.map_reply().is_some_and(|reply| reply.echo_nonce);
        findings.check(
            OFFERED,
            said == wanted,
            packet,
            format!("E = {}", u8::from(wanted)),
            format!("E = {}", u8::from(said)),
        );
    }
    if let Some(back) = data(trace, 3) {
        let nonce = back.data().and_then(|(header, _)| header.nonce);
        findings.check(
            OFFERED,
            nonce == Some(THEIRS),
            back,
            "the echo that E = 1 promises",
            format!("nonce {}", words::nonce(nonce)),
        );
    }
}
