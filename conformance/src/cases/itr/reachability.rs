//! What an ITR takes for evidence that a locator is unreachable, and what not (RFC 6830 6.3).

use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::ip::IpHeader;

use crate::case::Case;
use crate::cases::common::is_reply;
use crate::cases::one_xtr::*;
use crate::catalogue::Req;
use crate::decode::Icmp;
use crate::drive::{Drive, Echo, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const FORGED: Req = Req::new("rfc6830-6.3-icmp-forged");
const NO_RETURN: Req = Req::new("rfc6830-6.3-no-return-traffic");

const ICMP: u8 = 1;
const FROM_NOW_ON: &str = "from now on";
/// What the site says in one direction; numbers of packets.
const ONE_WAY: std::ops::Range<u16> = 20..27;

/// An ICMP destination unreachable for the box: `code`, and what it is about.
fn unreachable(from: std::net::IpAddr, code: u8, about: &[u8]) -> Vec<u8> {
    let mut message = vec![3, code, 0, 0, 0, 0, 0, 0];
    message.extend(&about[..about.len().min(548)]);
    let sum = lisp::ip::checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    IpHeader::new(from, RLOC, 64, ICMP).emit(&message)
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_3::forged_unreachable_is_no_black_hole",
        title: "ICMP unreachable messages about packets that the ITR never sent do not take a working locator out of use.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[FORGED],
        drive: forge,
        judges: &[|trace, findings| stays(trace, findings, FORGED, 3..9)],
        sabotages: &[spoils("believes any ICMP unreachable", &[FORGED], || {
            let mut fooled = false;
            Box::new(move |way, frame| {
                match way {
                    Way::ToVictim => {
                        fooled |= frame.ip().is_some_and(|ip| ip.icmp().is_some_and(|icmp| icmp.kind == 3));
                    }
                    Way::FromVictim if fooled && sequence_of(frame).is_some() => redirect(frame, OTHER),
                    Way::FromVictim => {}
                }
                PacketFate::Forward
            })
        })],
        ..Case::BASE
    }
}

fn forge(drive: &mut Drive) -> Result<(), Stop> {
    let mut net = Net::up(
        drive,
        vec![
            mapping(REMOTE_SITE, &[REMOTE, OTHER]),
            mapping("10.2.1.0/24", &[REMOTE]),
        ],
    )?;
    for peer in [&mut net.remote, &mut net.other] {
        answer_probes(peer, |probed, _| {
            Some((
                probed,
                marked(mapping(REMOTE_SITE, &[REMOTE, OTHER]), &[probed]),
            ))
        })?;
    }
    for sequence in 1..3 {
        net.say(drive, REMOTE_HOST, sequence)?;
    }
    // Never sent: source port 7, another payload; and one that is no LISP packet at all.
    let strange = lisp::ip::udp_packet(RLOC, REMOTE, 7, lisp::DATA_PORT, 60, &[0; 36]);
    let ping = Echo::new(RLOC, REMOTE, 77).request();
    for code in [0, 1, 3] {
        for about in [&strange, &ping] {
            net.other.send(&unreachable(OTHER, code, about))?;
        }
    }
    // The fence: what follows on the same way is answered, and so the others are through.
    let since = drive.now_ns();
    net.solicit((&net.other, OTHER), 0x3e5c_0000_0001_0001, REMOTE_SITE)?;
    let asked = drive.wait_for(since, "the SMR-invoked Map-Request", SOON, |packet| {
        let request = packet.map_request();
        packet.sender() == Some(XTR) && request.is_some_and(|request| request.smr_invoked)
    })?;
    let nonce = asked.map_request().map_or(0, |request| request.nonce);
    drive.wait_for(since, "the SMR-invoked Map-Reply", SOON, |packet| {
        packet.receiver() == Some(XTR) && is_reply(packet, nonce)
    })?;
    drive.mark(FROM_NOW_ON);
    for sequence in 3..9 {
        net.say(drive, REMOTE_HOST, sequence)?;
    }
    Ok(())
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_3::silence_of_the_site_is_no_failure",
        title: "A site that answers probes but sends no data back keeps its traffic on the preferred locator.",
        topology: TOPOLOGY,
        settings: &[(XTR, "{rloc-probing: {interval: 1s}, echo-nonce: true, echo-nonce-interval: 1s}")],
        roles: &["itr"],
        requirements: &[NO_RETURN],
        drive: one_way,
        judges: &[|trace, findings| stays(trace, findings, NO_RETURN, ONE_WAY)],
        sabotages: &[spoils("leaves a locator that says nothing", &[NO_RETURN], || {
            misdirect(OTHER, |sequence| sequence >= ONE_WAY.end - 2)
        })],
        ..Case::BASE
    }
}

fn one_way(drive: &mut Drive) -> Result<(), Stop> {
    const BOTH: [std::net::IpAddr; 2] = [REMOTE, OTHER];
    // The site says that it echoes nonces, and has nothing to send that could carry one.
    let mut net = Net::answering(
        drive,
        Answers {
            records: vec![mapping(REMOTE_SITE, &BOTH)],
            echo_nonce: true,
        },
    )?;
    for peer in [&mut net.remote, &mut net.other] {
        answer_probes(peer, |probed, _| {
            Some((probed, marked(mapping(REMOTE_SITE, &BOTH), &[probed])))
        })?;
    }
    net.say(drive, REMOTE_HOST, 1)?;
    let mut since = drive.mark(FROM_NOW_ON);
    for sequence in ONE_WAY {
        let reply = drive.wait_for(
            since,
            "the reply to a probe of the preferred locator",
            SOON,
            |packet| {
                packet.receiver() == Some(XTR)
                    && packet.source() == Some(REMOTE)
                    && packet.map_reply().is_some_and(|reply| reply.probe)
            },
        )?;
        since = reply.time_ns() + 1;
        net.say(drive, REMOTE_HOST, sequence)?;
    }
    Ok(())
}

/// Data of these numbers goes to the preferred locator.
fn stays(trace: &Trace, findings: &mut Findings, row: Req, numbers: std::ops::Range<u16>) {
    let expected = usize::from(numbers.end - numbers.start);
    let all: Vec<&Seen> = data_since(trace, FROM_NOW_ON)
        .filter(|(sequence, _)| numbers.contains(sequence))
        .map(|(_, packet)| packet)
        .collect();
    if trace.mark(FROM_NOW_ON).is_none() {
        findings.unseen(row, "data of the site to a locator that works");
        return;
    }
    let stray = all
        .iter()
        .find(|packet| packet.destination() != Some(REMOTE));
    match stray {
        Some(packet) => findings.broken(
            row,
            *packet,
            format!("data to {REMOTE} throughout"),
            destination(packet),
        ),
        None if all.len() < expected => findings.broken(
            row,
            &all,
            format!("{expected} data packets to {REMOTE}"),
            format!("{}", all.len()),
        ),
        None => findings.met(row, &all, format!("all {expected} packets to {REMOTE}")),
    }
}

const TO_HOST: Req = Req::new("rfc6830-6.3-icmp-to-host");

inventory::submit! {
    Case {
        id: "rfc6830::s6_3::host_of_an_unreachable_site_may_be_told",
        title: "When the only locator of a site is reported unreachable, an ITR that tells its hosts quotes their own packets.",
        topology: TOPOLOGY,
        settings: &[(XTR, "rloc-probing: {interval: 1s}")],
        roles: &["itr"],
        requirements: &[TO_HOST],
        drive: only_locator_dies,
        judges: &[told],
        sabotages: &[Sabotage {
            name: "quotes the packet of another host",
            node: XTR,
            links: &["site"],
            kills: &[TO_HOST],
            tamper: || Box::new(|way, frame| {
                if way == Way::FromVictim {
                    frame.edit_ip(|header, message| {
                        let hit = header.destination() == HOST && message.first() == Some(&3) && message.len() > 24;
                        if hit {
                            // The quoted source's last octet.
                            message[8 + 15] ^= 1;
                            message[2..4].fill(0);
                            let sum = lisp::ip::checksum(message);
                            message[2..4].copy_from_slice(&sum.to_be_bytes());
                        }
                        hit
                    });
                }
                PacketFate::Forward
            }),
        }],
        ..Case::BASE
    }
}

fn only_locator_dies(drive: &mut Drive) -> Result<(), Stop> {
    let net = Net::up(drive, vec![mapping(REMOTE_SITE, &[REMOTE])])?;
    let sent = net.say(drive, REMOTE_HOST, 1)?;
    let about = sent.ip().map(|ip| ip.bytes.clone()).unwrap_or_default();
    drive.mark(FROM_NOW_ON);
    net.other.send(&unreachable(OTHER, 1, &about))?;
    // Nobody answers probes either. Each wait is for the ICMP message that may come.
    for sequence in 2..16 {
        let since = drive.now_ns();
        net.offer(REMOTE_HOST, sequence)?;
        let told = drive.wait_for(
            since,
            "an ICMP error at the host",
            Duration::from_millis(500),
            |packet| error_to_host(packet).is_some(),
        );
        if told.is_ok() {
            return Ok(());
        }
    }
    Ok(())
}

fn error_to_host(packet: &Seen) -> Option<&Icmp> {
    if packet.sender() != Some(XTR) || packet.link() != "site" || packet.destination() != Some(HOST)
    {
        return None;
    }
    packet
        .ip()?
        .icmp()
        .filter(|icmp| !icmp.v6 && icmp.kind == 3)
}

fn told(trace: &Trace, findings: &mut Findings) {
    if trace.mark(FROM_NOW_ON).is_none() {
        findings.unseen(
            TO_HOST,
            "data for a site, and then an ICMP unreachable for its locator",
        );
        return;
    }
    let errors: Vec<(&Seen, &Icmp)> = trace
        .since(FROM_NOW_ON)
        .filter_map(|packet| Some((packet, error_to_host(packet)?)))
        .collect();
    if errors.is_empty() {
        findings.met(
            TO_HOST,
            Vec::new(),
            "the host is told nothing, as it may be",
        );
    }
    for (packet, icmp) in errors {
        let quoted = crate::decode::ip(&icmp.payload);
        let own = quoted
            .as_ref()
            .is_some_and(|ip| ip.source == HOST && ip.destination == REMOTE_HOST);
        findings.check(
            TO_HOST,
            own && icmp.code <= 13
                && icmp.code != 4
                && packet
                    .source()
                    .is_some_and(|from| trace.has_address(XTR, from)),
            packet,
            format!("destination unreachable about a packet from {HOST} to {REMOTE_HOST}"),
            format!(
                "code {}, about {}",
                icmp.code,
                quoted.map_or_else(
                    || "no packet".to_owned(),
                    |ip| format!("a packet from {} to {}", ip.source, ip.destination)
                )
            ),
        );
    }
}
