//! Solicit-Map-Requests that an ETR sends when its database changes (RFC 6830 6.6.2).

use std::net::IpAddr;
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::Address;
use lisp::wire::{ControlMessage, MapRequest};

use super::common::*;
use crate::case::{Case, Timer};
use crate::cases::common::{locator, mapping_system, prefix, record};
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Peer, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};
use crate::words;

const WHO: Req = Req::new("rfc6830-6.6.2-smr-who");
const PLAIN: Req = Req::new("rfc6830-6.6.2-smr-plain");
const RATE: Req = Req::new("rfc6830-6.6.2-smr-rate");
const STOPS: Req = Req::new("rfc6830-6.6.2-smr-stop");
const REGISTERS: Req = Req::new("rfc6833-4.2-reg-on-change");
const NOT_OURS: Req = Req::new("rfc6830-4.1-etr-nomatch-drop");

/// The Map-Request that an SMR brings about, and later ones.
const INVOKED: u64 = 0x5e7a_0000_0011_0001;
const REMOVED: u64 = 0x5e7a_0000_0011_0002;
const KEPT: u64 = 0x5e7a_0000_0011_0003;

/// The locators of the remote site, all of which are told.
const TOLD: [IpAddr; 2] = [ITR, ITR6];
pub(super) const CHANGE: &str = "the change";
const CHANGED: &str = "10.1.0.0/24";

/// One locator less for one of the two EID-Prefixes.
const ONE_LESS: &str = "eid-prefixes: [
    {prefix: 10.1.0.0/24, locators: [{address: '2001:db8:0:2::2', priority: 2, weight: 50}, {address: 192.0.2.10, priority: 1, weight: 100}]},
    {prefix: '2001:db8:a::/48', locators: [
        {address: '2001:db8:0:2::2', priority: 2, weight: 50}, {address: 192.0.2.100, priority: 1, weight: 60},
        {address: 192.0.2.9, priority: 3, weight: 10}, {address: 192.0.2.10, priority: 1, weight: 40}]}]";
/// Only the other of the two.
const WITHOUT: &str = "eid-prefixes: [
    {prefix: '2001:db8:a::/48', locators: [
        {address: '2001:db8:0:2::2', priority: 2, weight: 50}, {address: 192.0.2.100, priority: 1, weight: 60},
        {address: 192.0.2.9, priority: 3, weight: 10}, {address: 192.0.2.10, priority: 1, weight: 40}]}]";

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_2::locator_change_is_solicited",
        title: "When a locator-set changes, every locator of a site that was just sent data gets a plain SMR for the changed EID-Prefix, at most once a second.",
        topology: TOPOLOGY,
        start: false,
        roles: &["etr"],
        features: &["smr"],
        requirements: &[WHO, PLAIN, RATE, REGISTERS],
        drive: |drive| {
            let _peers = change(drive, ONE_LESS)?;
            wait_smrs(drive)
        },
        judges: &[solicited],
        sabotages: &[
            spoils("tells one locator of two", &[WHO], || swallow(|frame| {
                is_smr(frame.control().as_ref()) && frame.ip().is_some_and(|ip| ip.destination == ITR6)
            })),
            spoils("forgets the S bit", &[WHO], || on_smrs(|request| request.smr = false)),
            spoils("solicits for a host", &[PLAIN], || on_smrs(|request| {
                request.records[0].mask_len = 32;
            })),
            spoils("solicits twice", &[RATE], || Box::new(|way, frame| {
                if way == Way::FromVictim && is_smr(frame.control().as_ref()) {
                    return PacketFate::Duplicate(Duration::from_millis(1));
                }
                PacketFate::Forward
            })),
        ],
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_2::removed_prefix_is_solicited_and_not_answered",
        title: "When an EID-Prefix is de-configured, its correspondents are solicited, Map-Requests for it are dropped, and the other prefix is answered as before.",
        topology: TOPOLOGY,
        start: false,
        roles: &["etr"],
        features: &["smr"],
        requirements: &[WHO, PLAIN, REGISTERS, NOT_OURS],
        drive: |drive| {
            let peers = change(drive, WITHOUT)?;
            wait_smrs(drive)?;
            peers.net.hand_on(&request(REMOVED, itr_rloc(1), "10.1.0.10/32"))?;
            peers.net.question(drive, &request(KEPT, itr_rloc(2), "2001:db8:a::10/128"))
        },
        judges: &[solicited, not_answered],
        sabotages: &[
            spoils("says nothing about the removal", &[WHO], || swallow(|frame| is_smr(frame.control().as_ref()))),
            spoils("still answers for it", &[NOT_OURS], || mend_requests(|request| {
                let hit = request.nonce == REMOVED;
                if hit {
                    request.records = vec![lisp::wire::EidQuery::new(prefix("2001:db8:a::10/128"))];
                }
                hit
            })),
        ],
        ..Case::BASE
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_2::solicitation_ends_with_the_map_request",
        title: "Once the SMR-invoked Map-Request of a site has come, it gets no further SMR for the change.",
        topology: TOPOLOGY,
        timers: &[Timer {
            node: ETR,
            name: "register-interval",
            text: Duration::from_secs(60),
            short: Duration::from_secs(8),
        }],
        timeout: Duration::from_secs(120),
        slow: true,
        start: false,
        roles: &["etr"],
        features: &["smr"],
        requirements: &[STOPS],
        drive: |drive| {
            let peers = change(drive, ONE_LESS)?;
            wait_smrs(drive)?;
            let mut invoked = request(INVOKED, ITR, "10.1.0.10/32");
            invoked.smr_invoked = true;
            invoked.itr_rlocs.push(Address::from(ITR6));
            peers.net.question(drive, &invoked)?;
            // The fence: a repeated registration comes later than a second or third SMR would.
            let since = drive.mark("answered") + 7_000_000_000;
            drive.wait_for(since, "the next periodic Map-Register", drive.timer(ETR, "register-interval") + SOON, |packet| {
                packet.sender() == Some(ETR) && packet.map_register().is_some()
            })?;
            Ok(())
        },
        judges: &[ends],
        sabotages: &[spoils("never hears the Map-Request", &[STOPS], || {
            // The question is answered in the lab's sight by the first copy; what the box gets says nothing of an SMR and
            // comes from somebody else.
            mend_requests(|request| {
                let hit = request.nonce == INVOKED;
                if hit {
                    request.smr_invoked = false;
                    request.itr_rlocs = vec![Address::from(itr_rloc(9))];
                }
                hit
            })
        })],
        ..Case::BASE
    }
}

const NEWER_RATE: Req = Req::new("rfc9301-6.1-smr-3s");

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_2::repeated_changes_are_solicited_at_a_bounded_rate",
        title: "Two changes in quick succession are both told to the remote site, with the SMRs to each locator spaced by the edition's interval.",
        topology: TOPOLOGY,
        start: false,
        roles: &["etr"],
        features: &["smr"],
        requirements: &[RATE, NEWER_RATE, WHO],
        drive: |drive| {
            let _peers = change(drive, ONE_LESS)?;
            wait_smrs(drive)?;
            let since = drive.mark(SECOND_CHANGE);
            drive.reload(ETR, ONE_MOVED)?;
            drive.wait_for(since, "an SMR after the second change", Duration::from_secs(6), |packet| {
                packet.sender() == Some(ETR) && is_smr(packet.control()) && packet.destination() == Some(ITR)
            })?;
            Ok(())
        },
        judges: &[spaced],
        sabotages: &[
            spoils("solicits twice in half a second", &[RATE], || Box::new(|way, frame| {
                if way == Way::FromVictim && is_smr(frame.control().as_ref()) {
                    return PacketFate::Duplicate(Duration::from_millis(500));
                }
                PacketFate::Forward
            })),
            spoils("forgets the second change", &[WHO], || {
                let mut count = 0;
                swallow(move |frame| {
                    let smr = is_smr(frame.control().as_ref());
                    count += u32::from(smr);
                    smr && count > 2
                })
            }),
        ],
        ..Case::BASE
    }
}

const SECOND_CHANGE: &str = "the second change";
/// Other weights, shortly after [`ONE_LESS`].
const ONE_MOVED: &str = "eid-prefixes: [
    {prefix: 10.1.0.0/24, locators: [{address: '2001:db8:0:2::2', priority: 1, weight: 50}, {address: 192.0.2.10, priority: 1, weight: 50}]},
    {prefix: '2001:db8:a::/48', locators: [
        {address: '2001:db8:0:2::2', priority: 2, weight: 50}, {address: 192.0.2.100, priority: 1, weight: 60},
        {address: 192.0.2.9, priority: 3, weight: 10}, {address: 192.0.2.10, priority: 1, weight: 40}]}]";

fn spaced(trace: &Trace, findings: &mut Findings) {
    if trace.mark(SECOND_CHANGE).is_none() {
        findings.unseen(RATE, "a second change");
        return;
    }
    let all = smrs(trace);
    let to = |locator: IpAddr| -> Vec<&Seen> {
        all.iter()
            .filter(|packet| packet.destination() == Some(locator))
            .copied()
            .collect()
    };
    let after = trace.since(SECOND_CHANGE).find(|packet| {
        packet.sender() == Some(ETR)
            && is_smr(packet.message())
            && packet.destination() == Some(ITR)
    });
    match after {
        Some(after) => findings.met(WHO, after, "the second change was told too"),
        None => findings.broken(
            WHO,
            &all,
            format!("an SMR to {ITR} after the second change"),
            "none",
        ),
    }
    for (requirement, least) in [(RATE, 950_000_000), (NEWER_RATE, 2_850_000_000)] {
        for locator in TOLD {
            let here = to(locator);
            let close = here
                .windows(2)
                .find(|pair| pair[1].time_ns() - pair[0].time_ns() < least);
            match close {
                Some(pair) => findings.broken(
                    requirement,
                    [pair[0], pair[1]],
                    format!(
                        "at least {} ms between two SMRs to {locator}",
                        least / 1_000_000
                    ),
                    format!("{} ms", (pair[1].time_ns() - pair[0].time_ns()) / 1_000_000),
                ),
                None => findings.met(
                    requirement,
                    &here,
                    format!("{} SMRs to {locator}", here.len()),
                ),
            }
        }
    }
}

const fn spoils(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: ETR,
        links: &["rloc"],
        kills,
        tamper,
    }
}

pub(super) fn is_smr(message: Option<&ControlMessage>) -> bool {
    matches!(message, Some(ControlMessage::MapRequest(request)) if request.smr)
}

fn on_smrs(change: fn(&mut MapRequest)) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim {
            frame.edit_control(|message| match message {
                ControlMessage::MapRequest(request) if request.smr => {
                    change(request);
                    true
                }
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

/// The peers that stay until the end of the drive.
pub(super) struct Peers {
    net: Net,
    _host: Peer,
}

/// Lets the site send data to a remote one, and then changes its database.
pub(super) fn change(drive: &mut Drive, settings: &str) -> Result<Peers, Stop> {
    let mut net = Net::peers(drive)?;
    mapping_system(&mut net.mapping, "key-of-site", |_| {
        let locators = vec![
            locator("192.0.2.34", 1, 100),
            locator("2001:db8:0:33::2", 2, 100),
        ];
        vec![record("10.2.0.0/16", locators)]
    })?;
    let host = drive.peer("host")?;
    drive.start(ETR)?;
    drive.wait_for(0, "the Map-Notify at the ETR", SOON, |packet| {
        packet.map_notify().is_some() && packet.receiver() == Some(ETR)
    })?;
    host.send(&Echo::new(HOST, REMOTE, 1).reply())?;
    drive.wait_for(0, "the mapping of the remote site", SOON, |packet| {
        packet.map_reply().is_some() && packet.receiver() == Some(ETR)
    })?;
    host.send(&Echo::new(HOST, REMOTE, 2).reply())?;
    drive.wait_for(0, "data for the remote site", SOON, |packet| {
        packet.sender() == Some(ETR)
            && packet.is_data()
            && packet
                .data()
                .and_then(|(_, inner)| inner.icmp())
                .is_some_and(|icmp| icmp.echo().1 == 2)
    })?;
    drive.mark(CHANGE);
    drive.reload(ETR, settings)?;
    Ok(Peers { net, _host: host })
}

fn wait_smrs(drive: &Drive) -> Result<(), Stop> {
    for to in TOLD {
        let what = format!("an SMR to {to}");
        drive.wait_for(0, &what, SOON, |packet| {
            packet.sender() == Some(ETR)
                && is_smr(packet.control())
                && packet.destination() == Some(to)
        })?;
    }
    Ok(())
}

fn smrs(trace: &Trace) -> Vec<&Seen> {
    trace
        .since(CHANGE)
        .filter(|packet| packet.sender() == Some(ETR) && is_smr(packet.message()))
        .collect()
}

fn solicited(trace: &Trace, findings: &mut Findings) {
    if trace.mark(CHANGE).is_none() {
        findings.unseen(WHO, "data for a remote site, and then a change");
        return;
    }
    let all = smrs(trace);
    for to in TOLD {
        let here: Vec<&Seen> = all
            .iter()
            .filter(|packet| packet.destination() == Some(to))
            .copied()
            .collect();
        findings.check(
            WHO,
            !here.is_empty(),
            &here,
            format!("an SMR to {to}, a locator of the remote site's map-cache entry"),
            "none",
        );
        let close = here.windows(2).find(|pair| {
            pair[1].time_ns() - pair[0].time_ns() < 950_000_000
                && pair[0].map_request().map(|request| &request.records)
                    == pair[1].map_request().map(|request| &request.records)
        });
        match close {
            Some(pair) => findings.broken(
                RATE,
                [pair[0], pair[1]],
                "at most one SMR a second to one locator",
                "two",
            ),
            None => findings.met(RATE, &here, format!("{} SMRs to {to}", here.len())),
        }
    }
    let wanted = prefix(CHANGED);
    for packet in &all {
        let asked: Vec<_> = packet
            .map_request()
            .iter()
            .flat_map(|request| &request.records)
            .filter_map(|query| query.prefix())
            .collect();
        findings.check(
            PLAIN,
            packet.ecm().is_none() && asked == [wanted],
            *packet,
            format!("a plain Map-Request with S = 1 for {wanted}"),
            format!("{} for {}", packet.summary(), words::listed(&asked)),
        );
    }
    if all.is_empty() {
        findings.broken(PLAIN, Vec::new(), format!("SMRs for {wanted}"), "none");
    }
    let register = trace
        .since(CHANGE)
        .find(|packet| packet.sender() == Some(ETR) && packet.map_register().is_some());
    let said = register.map_or(
        "no Map-Register before the end of the case".to_owned(),
        Seen::summary,
    );
    findings.recorded(REGISTERS, register, said);
}

fn not_answered(trace: &Trace, findings: &mut Findings) {
    let Some(question) = asked(trace, REMOVED) else {
        findings.unseen(NOT_OURS, "a Map-Request for the removed prefix");
        return;
    };
    match (reply(trace, REMOVED), reply(trace, KEPT)) {
        (Some(answer), _) => findings.broken(
            NOT_OURS,
            [question, answer],
            "no Map-Reply for a removed EID-Prefix",
            answer.summary(),
        ),
        (None, Some(kept)) => findings.met(
            NOT_OURS,
            [question, kept],
            "silence, and an answer for the prefix that stayed",
        ),
        (None, None) => findings.broken(
            NOT_OURS,
            question,
            "an answer for the prefix that stayed",
            "none",
        ),
    }
}

fn ends(trace: &Trace, findings: &mut Findings) {
    let Some(question) = asked(trace, INVOKED) else {
        findings.unseen(STOPS, "the SMR-invoked Map-Request at the ETR");
        return;
    };
    let later: Vec<&Seen> = smrs(trace)
        .into_iter()
        .filter(|packet| packet.time_ns() > question.time_ns() + 100_000_000)
        .collect();
    findings.check(
        STOPS,
        later.is_empty(),
        &later,
        "no further SMR",
        format!("{} more", later.len()),
    );
    if later.is_empty() {
        findings.met(STOPS, question, "no SMR came after it");
    }
}
