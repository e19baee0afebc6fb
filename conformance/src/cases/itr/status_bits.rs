//! Locator-status bits: what a tunnel router makes of those of others, and when it sends none (RFC 6830 6.3, 6.6,
//! RFC 9300 10, 13.1).

use std::net::IpAddr;
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::EidPrefix;
use lisp::wire::{ControlMessage, DataHeader, MapRequest};

use crate::case::{Case, Timer};
use crate::cases::common::{ip, request};
use crate::cases::one_xtr::*;
use crate::catalogue::Req;
use crate::drive::{Drive, Peer, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::trace::{Seen, Trace};

const LEAVES: Req = Req::new("rfc6830-6.3-lsb-1to0");
const BEYOND: Req = Req::new("rfc6830-6.6-lsb-beyond");
const SPOOFED: Req = Req::new("rfc6830-6.3-lsb-spoof");
const RATE: Req = Req::new("rfc9300-10-lsb-rate");

const BITS: &str = "{locator-status-bits: true, rloc-probing: {interval: 1s}}";
const BOTH: [IpAddr; 2] = [REMOTE, OTHER];
/// An address that is no locator of the remote site.
const STRANGER: &str = "192.0.2.77";

fn with_bits(bits: u32) -> DataHeader {
    DataHeader {
        locator_status: Some(bits),
        ..DataHeader::default()
    }
}

/// A remote site with two locators that answer probes, and something said.
fn remote_site(drive: &Drive) -> Result<Net, Stop> {
    let mut net = Net::up(drive, vec![mapping(REMOTE_SITE, &BOTH)])?;
    for peer in [&mut net.remote, &mut net.other] {
        answer_probes(peer, |probed, _| {
            Some((probed, marked(mapping(REMOTE_SITE, &BOTH), &[probed])))
        })?;
    }
    net.say(drive, REMOTE_HOST, 1)?;
    Ok(net)
}

/// Says something until it goes to `to`, with probes as the clock: bits are heeded at a bounded
/// rate, so they come again and again.
fn until_it_goes_to(
    drive: &Drive,
    net: &Net,
    bits: u32,
    to: IpAddr,
    numbers: std::ops::Range<u16>,
) -> Result<(), Stop> {
    for sequence in numbers {
        net.hear(drive, (&net.other, OTHER), &with_bits(bits), sequence)?;
        let seen = net.say(drive, REMOTE_HOST, sequence)?;
        if seen.destination() == Some(to) {
            return Ok(());
        }
        next_probe(drive, &seen)?;
    }
    Err(Stop::NotSeen(format!("data to {to} after bits {bits:#b}")))
}

const DOWN: &str = "ordinal 0 is down";
const UP: &str = "ordinal 0 is up";

inventory::submit! {
    Case {
        id: "rfc6830::s6_3::status_bit_that_falls_moves_the_traffic",
        title: "When a site's status bit goes from 1 to 0 its locator gets no more data until the bit is 1 again; bits beyond the locator-set mean nothing.",
        topology: TOPOLOGY,
        settings: &[(XTR, BITS)],
        roles: &["itr", "etr"],
        features: &["lsb"],
        requirements: &[LEAVES, BEYOND],
        drive: |drive| {
            let net = remote_site(drive)?;
            net.hear(drive, (&net.other, OTHER), &with_bits(0b11), 2)?;
            // Beyond the two locators: neither change means anything.
            for (sequence, bits) in [(3, 0b111), (4, 0b011)] {
                net.hear(drive, (&net.other, OTHER), &with_bits(bits), sequence)?;
                net.say(drive, REMOTE_HOST, sequence)?;
            }
            drive.mark(DOWN);
            until_it_goes_to(drive, &net, 0b10, OTHER, 20..50)?;
            for sequence in 50..53 {
                net.say(drive, REMOTE_HOST, sequence)?;
            }
            drive.mark(UP);
            until_it_goes_to(drive, &net, 0b11, REMOTE, 60..90)
        },
        judges: &[moved],
        sabotages: &[
            spoils("does not look at status bits", &[LEAVES], || misdirect(REMOTE, |_| true)),
            spoils("takes them for the last word", &[LEAVES], || misdirect(OTHER, |sequence| sequence >= 50)),
            spoils("counts bits that no locator has", &[BEYOND], || misdirect(OTHER, |sequence| sequence == 4)),
        ],
        ..Case::BASE
    }
}

fn moved(trace: &Trace, findings: &mut Findings) {
    for sequence in [3, 4] {
        match data(trace, sequence) {
            Some(packet) => findings.check(
                BEYOND,
                packet.destination() == Some(REMOTE),
                packet,
                format!("data to {REMOTE}, as before"),
                destination(packet),
            ),
            None => findings.unseen(BEYOND, "data after bits beyond the locator-set"),
        }
    }
    if trace.mark(DOWN).is_none() {
        findings.unseen(LEAVES, "a status bit that falls");
        return;
    }
    let to = |from: &str, wanted: IpAddr| -> Option<&Seen> {
        data_since(trace, from)
            .map(|(_, packet)| packet)
            .find(|packet| packet.destination() == Some(wanted))
    };
    let Some(away) = to(DOWN, OTHER) else {
        let all: Vec<&Seen> = data_since(trace, DOWN).map(|(_, packet)| packet).collect();
        findings.broken(
            LEAVES,
            &all,
            format!("data to {OTHER} when the bit of {REMOTE} is 0"),
            "none",
        );
        return;
    };
    let early = trace.between(DOWN, UP).find(|packet| {
        left(packet).is_some()
            && packet.time_ns() > away.time_ns()
            && packet.destination() == Some(REMOTE)
    });
    match (early, to(UP, REMOTE)) {
        (Some(early), _) => findings.broken(
            LEAVES,
            [away, early],
            format!("no data to {REMOTE} while its bit is 0"),
            early.summary(),
        ),
        (None, Some(back)) => findings.met(
            LEAVES,
            [away, back],
            "left when the bit fell, back when it rose",
        ),
        (None, None) => findings.broken(
            LEAVES,
            away,
            format!("data to {REMOTE} when its bit is 1 again"),
            "none",
        ),
    }
}

const SPOOFS: &str = "bits of a stranger";

inventory::submit! {
    Case {
        id: "rfc6830::s6_3::status_bits_of_a_stranger_are_no_black_hole",
        title: "Status bits that say that every locator is down, from an address that is no locator of the site, do not stop the traffic.",
        topology: TOPOLOGY,
        settings: &[(XTR, BITS)],
        roles: &["itr", "etr"],
        features: &["lsb"],
        requirements: &[SPOOFED],
        drive: |drive| {
            let net = remote_site(drive)?;
            net.hear(drive, (&net.other, OTHER), &with_bits(0b11), 2)?;
            drive.mark(SPOOFS);
            for sequence in 3..7 {
                net.hear(drive, (&net.other, ip(STRANGER)), &with_bits(0), sequence)?;
                net.say(drive, REMOTE_HOST, sequence)?;
            }
            Ok(())
        },
        judges: &[unimpressed],
        sabotages: &[
            spoils("believes a stranger", &[SPOOFED], || swallow(|frame| {
                sequence_of(frame).is_some_and(|sequence| sequence >= 3)
            })),
        ],
        ..Case::BASE
    }
}

fn unimpressed(trace: &Trace, findings: &mut Findings) {
    if trace.mark(SPOOFS).is_none() {
        findings.unseen(SPOOFED, "data of the site before the stranger speaks");
        return;
    }
    for sequence in 3..7u16 {
        let heard = trace
            .iter()
            .find(|packet| delivered(packet) == Some(sequence));
        match (heard, data(trace, sequence)) {
            (None, _) => {}
            (Some(_), Some(packet)) => findings.met(SPOOFED, packet, "data goes on"),
            (Some(heard), None) => {
                findings.broken(SPOOFED, heard, "data for the site as before", "none")
            }
        }
    }
    if !trace.iter().any(|packet| delivered(packet) == Some(3)) {
        findings.unseen(
            SPOOFED,
            "a data packet with a stranger's bits that is delivered",
        );
    }
}

const FLAPPING: &str = "bits flap";
/// Data packets with alternating bits, each with one of the site between them.
const FLAPS: std::ops::Range<u16> = 1000..1120;

inventory::submit! {
    Case {
        id: "rfc9300::s10::reactions_to_flapping_bits_are_limited",
        title: "Status bits that change with every data packet make neither the traffic nor Map-Requests change as often.",
        topology: TOPOLOGY,
        settings: &[(XTR, BITS)],
        editions: &[Edition::Rfc9300],
        roles: &["itr", "etr"],
        features: &["lsb"],
        requirements: &[RATE],
        drive: |drive| {
            let net = remote_site(drive)?;
            drive.mark(FLAPPING);
            for sequence in FLAPS {
                let bits = if sequence % 2 == 0 { 0b10 } else { 0b11 };
                net.tunnel((&net.other, OTHER), &with_bits(bits), REMOTE_HOST, sequence)?;
                net.say(drive, REMOTE_HOST, sequence)?;
            }
            Ok(())
        },
        judges: &[calm],
        sabotages: &[spoils("follows every change", &[RATE], || Box::new(|way, frame| {
            if let Some(sequence) = sequence_of(frame).filter(|_| way == Way::FromVictim) {
                redirect(frame, BOTH[usize::from(sequence % 2)]);
            }
            PacketFate::Forward
        }))],
        ..Case::BASE
    }
}

fn calm(trace: &Trace, findings: &mut Findings) {
    let all: Vec<&Seen> = data_since(trace, FLAPPING)
        .filter(|(sequence, _)| FLAPS.contains(sequence))
        .map(|(_, packet)| packet)
        .collect();
    let (Some(first), Some(last)) = (all.first(), all.last()) else {
        findings.unseen(RATE, "data of the site while the bits flap");
        return;
    };
    let seconds = (last.time_ns() - first.time_ns()) / 1_000_000_000;
    let bound = 4 + 2 * usize::try_from(seconds).unwrap_or(usize::MAX);
    let switches = all
        .windows(2)
        .filter(|pair| pair[0].destination() != pair[1].destination())
        .count();
    let asked = trace
        .since(FLAPPING)
        .filter(|packet| packet.sender() == Some(XTR) && packet.map_request().is_some())
        .count();
    findings.check(
        RATE,
        switches <= bound && asked <= bound,
        [*first, *last],
        format!("at most {bound} switches and as many Map-Requests"),
        format!(
            "{switches} switches and {asked} Map-Requests in {} packets",
            all.len()
        ),
    );
}

const REST: Req = Req::new("rfc9300-13.1-use-lsb-timer");
const LAYOUT: Req = Req::new("rfc6830-6.6.2-smr-lsb-switch");

const CHANGED: &str = "a locator is inserted before the others";
const FETCHED: &str = "the remote site asks";
/// One more locator, of another router, that sorts first; the site's own becomes ordinal 1.
const ONE_MORE: &str = "eid-prefixes: [{prefix: 10.1.0.0/24, locators: [{address: 192.0.2.1, priority: 255, weight: 1}, {address: 192.0.2.2, priority: 1, weight: 100}]}]";

inventory::submit! {
    Case {
        id: "rfc9300::s13_1::status_bits_rest_after_a_change",
        title: "After a change of the locator-set no data packet numbers locators in a way that its receiver does not know: L is 0 for the use-LSB timer, or until the new set was fetched.",
        topology: TOPOLOGY,
        settings: &[(XTR, BITS)],
        timers: &[Timer {
            node: XTR,
            name: "use-lsb-timer",
            text: Duration::from_secs(300),
            short: Duration::from_secs(3),
        }],
        timeout: Duration::from_secs(400),
        roles: &["itr", "etr"],
        features: &["lsb"],
        requirements: &[REST, LAYOUT],
        drive: change_the_set,
        judges: &[rests],
        sabotages: &[
            spoils("goes on with the bits at once", &[LAYOUT, REST], || on_headers(|header| {
                let silent = header.locator_status.is_none();
                header.locator_status.get_or_insert(0b11);
                silent
            })),
            spoils("never uses them again", &[LAYOUT], || {
                let mut rests = false;
                on_headers(move |header| {
                    rests |= header.locator_status.is_none();
                    if rests {
                        header.locator_status = None;
                        header.raw_lsb = 0;
                    }
                    rests
                })
            }),
        ],
        ..Case::BASE
    }
}

/// The SMR about the changed set. The site's IPv6 prefix goes with the same change, and its SMR may come before.
fn tells_of_the_change(packet: &Seen) -> bool {
    packet.sender() == Some(XTR)
        && packet.map_request().is_some_and(|request| {
            let of_ipv4 = |prefix: EidPrefix| prefix.prefix.addr().is_ipv4();
            let mut records = request.records.iter();
            request.smr && records.any(|record| record.prefix().is_some_and(of_ipv4))
        })
}

fn change_the_set(drive: &mut Drive) -> Result<(), Stop> {
    let net = remote_site(drive)?;
    let timer = drive.timer(XTR, "use-lsb-timer");
    let since = drive.mark(CHANGED);
    drive.reload(
        XTR,
        &format!("{{{ONE_MORE}, locator-status-bits: true, rloc-probing: {{interval: 1s}}, use-lsb-timer: {}s}}", timer.as_secs()),
    )?;
    drive.wait_for(since, "the SMR about the change", SOON, tells_of_the_change)?;
    for sequence in 10..13 {
        net.say(drive, REMOTE_HOST, sequence)?;
    }
    drive.mark(FETCHED);
    ask_for_the_set(drive, &net.remote)?;
    net.say(drive, REMOTE_HOST, 13)?;
    // Until bits are used again, with the probes as the clock.
    let end = drive.now_ns() + u64::try_from((timer + SOON).as_nanos()).unwrap_or(u64::MAX);
    for sequence in 20.. {
        let seen = net.say(drive, REMOTE_HOST, sequence)?;
        let used = seen
            .data()
            .is_some_and(|(header, _)| header.locator_status.is_some());
        if used || seen.time_ns() > end {
            break;
        }
        next_probe(drive, &seen)?;
    }
    Ok(())
}

/// Time passes: the box probes once a second.
fn next_probe(drive: &Drive, after: &Seen) -> Result<(), Stop> {
    drive.wait_for(after.time_ns(), "the next probe", SOON, |packet| {
        packet.sender() == Some(XTR) && packet.map_request().is_some_and(|request| request.probe)
    })?;
    Ok(())
}

fn ask_for_the_set(drive: &Drive, remote: &Peer) -> Result<(), Stop> {
    let since = drive.now_ns();
    let invoked = MapRequest {
        smr_invoked: true,
        ..request(
            0x1b5b_0000_0001_0001,
            Some(REMOTE_HOST),
            &[REMOTE],
            "10.1.0.0/24",
        )
    };
    remote.control(
        (REMOTE, CONTROL_FROM),
        RLOC,
        &ControlMessage::MapRequest(invoked),
    )?;
    drive.wait_for(
        since,
        "the new locator-set for the remote site",
        SOON,
        |packet| packet.sender() == Some(XTR) && packet.map_reply().is_some(),
    )?;
    Ok(())
}

fn rests(trace: &Trace, findings: &mut Findings) {
    let bits = |packet: &Seen| packet.data().and_then(|(header, _)| header.locator_status);
    let Some(before) = data(trace, 1).filter(|packet| bits(packet).is_some()) else {
        findings.unseen(REST, "data with L = 1 before the change");
        findings.unseen(LAYOUT, "data with L = 1 before the change");
        return;
    };
    let told = trace
        .since(CHANGED)
        .find(|packet| tells_of_the_change(packet));
    let Some(told) = told else {
        findings.unseen(REST, "an SMR about the change");
        findings.unseen(LAYOUT, "an SMR about the change");
        return;
    };
    let fetched = trace.mark(FETCHED).unwrap_or(u64::MAX);
    let mut fine = Vec::new();
    for (_, packet) in data_since(trace, CHANGED).filter(|(sequence, _)| *sequence >= 10) {
        let early = packet.time_ns() < fetched;
        match bits(packet) {
            Some(bits) if early => {
                findings.broken(
                    REST,
                    [told, packet],
                    "L = 0 after the change",
                    format!("L = 1, {bits:#b}"),
                );
                let old = bits & 0b11 == 0b01;
                findings.check(
                    LAYOUT,
                    old,
                    [told, packet],
                    "the old numbering, or no bits",
                    format!("{bits:#b}"),
                );
            }
            Some(bits) => findings.check(
                LAYOUT,
                // The own locator is ordinal 1 now.
                bits >> 1 & 1 == 1,
                [told, packet],
                "the new numbering once it was fetched: bit 1 set",
                format!("{bits:#b}"),
            ),
            None => fine.push(packet),
        }
    }
    let later = data_since(trace, CHANGED)
        .any(|(sequence, packet)| sequence >= 13 && bits(packet).is_some());
    findings.check(
        LAYOUT,
        later,
        before,
        "bits in the new numbering after the set was fetched",
        if later { "there are" } else { "none" },
    );
    if !fine.is_empty() {
        findings.met(REST, &fine, format!("L = 0 in {} packets", fine.len()));
    }
}
