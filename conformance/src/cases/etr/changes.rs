//! What a site's change means for its sources, its locators' order, and those who ask afterwards (RFC 6830 6.6, RFC 9301 7.1).

use std::net::{IpAddr, Ipv4Addr};

use lisp::wire::{ControlMessage, MapRequest};

use super::common as etr;
use super::common::{itr_rloc, reply, swallow};
use super::smr::{CHANGE, change, is_smr};
use crate::case::Case;
use crate::cases::common::{mapping_system, request};
use crate::cases::one_xtr::{self, REMOTE, REMOTE_HOST, SOON, XTR, left, mapping};
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};
use crate::words;

const APPENDED: Req = Req::new("rfc6830-6.6-append-order");

/// One locator more, whose place is between others.
const IN_THE_MIDDLE: &str = "eid-prefixes: [
    {prefix: 10.1.0.0/24, locators: [
        {address: '2001:db8:0:2::2', priority: 2, weight: 50}, {address: 192.0.2.100, priority: 1, weight: 60},
        {address: 192.0.2.50, priority: 4, weight: 10},
        {address: 192.0.2.9, priority: 3, weight: 10}, {address: 192.0.2.10, priority: 1, weight: 40}]},
    {prefix: '2001:db8:a::/48', locators: [
        {address: '2001:db8:0:2::2', priority: 2, weight: 50}, {address: 192.0.2.100, priority: 1, weight: 60},
        {address: 192.0.2.9, priority: 3, weight: 10}, {address: 192.0.2.10, priority: 1, weight: 40}]}]";

inventory::submit! {
    Case {
        id: "rfc6830::s6_6::locator_in_the_middle_is_solicited",
        title: "A new locator that sorts between others changes their ordinals: the sites that use the mapping are told by SMR.",
        topology: etr::TOPOLOGY,
        // RFC 9300 has dropped the rule.
        editions: &[Edition::Rfc6830],
        start: false,
        roles: &["etr"],
        features: &["smr"],
        requirements: &[APPENDED],
        drive: |drive| {
            let _peers = change(drive, IN_THE_MIDDLE)?;
            drive.wait_for(0, "an SMR", SOON, |packet| {
                packet.sender() == Some(XTR) && is_smr(packet.control())
            })?;
            Ok(())
        },
        judges: &[solicited],
        sabotages: &[Sabotage {
            name: "says nothing",
            node: XTR,
            links: &["rloc"],
            kills: &[APPENDED],
            tamper: || swallow(|frame| is_smr(frame.control().as_ref())),
        }],
        ..Case::BASE
    }
}

fn solicited(trace: &Trace, findings: &mut Findings) {
    if trace.mark(CHANGE).is_none() {
        findings.unseen(APPENDED, "data for a remote site, and then a change");
        return;
    }
    let smr = trace.since(CHANGE).find(|packet| {
        packet.sender() == Some(XTR)
            && is_smr(packet.control())
            && one_xtr::question(packet) == Some(crate::cases::common::prefix("10.1.0.0/24"))
    });
    match smr {
        Some(smr) => findings.met(
            APPENDED,
            smr,
            "an SMR for the prefix whose ordinals changed",
        ),
        None => findings.broken(APPENDED, Vec::new(), "an SMR for 10.1.0.0/24", "none"),
    }
}

const INVOKED_RATE: Req = Req::new("rfc6830-6.6.2-smr-mrep-rate");
const NEWER_RATE: Req = Req::new("rfc9301-5.4-mrep-rate");
const BURST: u64 = 0x51e1_0000_0001_0000;
const AFTER: u64 = 0x51e1_0000_0002_0001;
const IN_BURST: u64 = 60;

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_2::replies_to_smr_invoked_requests_are_limited",
        title: "A burst of SMR-invoked Map-Requests from one ITR-RLOC gets one Map-Reply a second, in the newer edition as rarely as configured; another ITR is answered meanwhile.",
        topology: etr::TOPOLOGY,
        settings: &[(XTR, "map-reply-interval: 3s")],
        start: false,
        roles: &["etr"],
        features: &["smr"],
        requirements: &[INVOKED_RATE, NEWER_RATE],
        drive: |drive| {
            let net = etr::Net::registered(drive)?;
            for number in 0..IN_BURST {
                net.hand_on(&invoked(BURST + number, itr_rloc(1)))?;
            }
            net.question(drive, &invoked(AFTER, itr_rloc(2)))
        },
        judges: &[limited],
        sabotages: &[Sabotage {
            name: "answers twice",
            node: XTR,
            links: &["rloc"],
            kills: &[INVOKED_RATE, NEWER_RATE],
            tamper: || Box::new(|way, frame| {
                let reply = matches!(frame.control(), Some(ControlMessage::MapReply(_)));
                if reply && way == harness::inline::Way::FromVictim {
                    return harness::inline::PacketFate::Duplicate(std::time::Duration::from_millis(1));
                }
                harness::inline::PacketFate::Forward
            }),
        }],
        ..Case::BASE
    }
}

fn invoked(nonce: u64, from: IpAddr) -> MapRequest {
    MapRequest {
        smr_invoked: true,
        ..etr::request(nonce, from, "10.1.0.0/24")
    }
}

fn limited(trace: &Trace, findings: &mut Findings) {
    let of_burst: Vec<&Seen> = trace
        .originated(XTR)
        .filter(|packet| {
            packet
                .map_reply()
                .is_some_and(|reply| (BURST..BURST + IN_BURST).contains(&reply.nonce))
        })
        .collect();
    if reply(trace, AFTER).is_none() {
        findings.unseen(INVOKED_RATE, "the Map-Reply to another ITR after the burst");
    }
    let least = |edition| {
        if edition == Edition::Rfc9300 {
            2_850_000_000
        } else {
            950_000_000
        }
    };
    let close = of_burst
        .windows(2)
        .find(|pair| pair[1].time_ns() - pair[0].time_ns() < least(trace.edition));
    for row in [INVOKED_RATE, NEWER_RATE] {
        match (close, of_burst.first()) {
            (Some(pair), _) => findings.broken(
                row,
                [pair[0], pair[1]],
                format!(
                    "at least {} ms between two Map-Replies",
                    least(trace.edition) / 1_000_000
                ),
                format!("{} ms", (pair[1].time_ns() - pair[0].time_ns()) / 1_000_000),
            ),
            (None, Some(first)) => {
                findings.met(
                    row,
                    *first,
                    format!("{} Map-Replies to {IN_BURST} questions", of_burst.len()),
                );
            }
            (None, None) => findings.broken(
                row,
                Vec::new(),
                "a Map-Reply to the first of the burst",
                "none",
            ),
        }
    }
}

/// The two uplinks of `multihomed-xtr`.
const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2));

const PROBE_SOURCE: Req = Req::new("rfc9301-7.1-probe-src");
const PROBE: u64 = 0x51e1_0000_0003_0001;

inventory::submit! {
    Case {
        id: "rfc9301::s7_1::probe_reply_leaves_with_the_address_of_its_uplink",
        title: "The reply to a probe of one locator that leaves by another uplink has that uplink's address as source, and p on the probed locator.",
        topology: "multihomed-xtr",
        editions: &[Edition::Rfc9300],
        roles: &["etr"],
        features: &["rloc-probe"],
        requirements: &[PROBE_SOURCE],
        drive: |drive| {
            let mut system = drive.peer("mapping")?;
            mapping_system(&mut system, "key-of-site", |_| Vec::new())?;
            let remote = drive.peer("remote")?;
            let probe = MapRequest { probe: true, ..request(PROBE, None, &[REMOTE], "10.1.0.0/24") };
            remote.control((REMOTE, one_xtr::CONTROL_FROM), FIRST, &ControlMessage::MapRequest(probe))?;
            drive.wait_for(0, "the reply to the probe", SOON, |packet| {
                packet.sender() == Some(XTR) && packet.map_reply().is_some()
            })?;
            Ok(())
        },
        judges: &[from_the_uplink],
        sabotages: &[
            Sabotage {
                name: "answers from the probed address",
                node: XTR,
                links: &["rloc-b"],
                kills: &[PROBE_SOURCE],
                tamper: || crate::cases::common::edit_outgoing(|frame| {
                    if matches!(frame.control(), Some(ControlMessage::MapReply(_))) {
                        frame.edit_addresses(|header| match header {
                            lisp::ip::IpHeader::V4(header) => {
                                header.source = Ipv4Addr::new(192, 0, 2, 2);
                                true
                            }
                            lisp::ip::IpHeader::V6(_) => false,
                        });
                    }
                }),
            },
            Sabotage {
                name: "marks the locator that it answers from",
                node: XTR,
                links: &["rloc-b"],
                kills: &[PROBE_SOURCE],
                tamper: || crate::cases::common::outgoing(|message| match message {
                    ControlMessage::MapReply(reply) => {
                        for locator in reply.records.iter_mut().flat_map(|record| &mut record.locators) {
                            locator.probed = !locator.probed;
                        }
                        true
                    }
                    _ => false,
                }),
            },
        ],
        ..Case::BASE
    }
}

fn from_the_uplink(trace: &Trace, findings: &mut Findings) {
    let probe = trace.received_by(XTR).find(|packet| {
        packet
            .map_request()
            .is_some_and(|request| request.nonce == PROBE)
    });
    let Some(probe) = probe else {
        findings.unseen(PROBE_SOURCE, "a probe of the first locator");
        return;
    };
    let reply = trace
        .sent_by(XTR)
        .find(|packet| packet.map_reply().is_some_and(|reply| reply.nonce == PROBE));
    let Some(reply) = reply else {
        findings.broken(PROBE_SOURCE, probe, "a Map-Reply", "none");
        return;
    };
    let marked: Vec<IpAddr> = reply
        .map_reply()
        .iter()
        .flat_map(|reply| &reply.records)
        .flat_map(|record| &record.locators)
        .filter(|locator| locator.probed)
        .filter_map(|locator| locator.rloc.ip())
        .collect();
    findings.check(
        PROBE_SOURCE,
        reply.source() == Some(SECOND) && reply.link() == "rloc-b" && marked == [FIRST],
        [probe, reply],
        format!("from {SECOND} by its own link, p on {FIRST}"),
        format!(
            "{} by {}, p on {}",
            words::from(reply),
            reply.link(),
            words::listed(marked)
        ),
    );
}

const OWN_ITR_RLOC: Req = Req::new("rfc6830-6.1.2-itr-rloc-own");
const REGISTERED_AT_ONCE: Req = Req::new("rfc6833-4.2-reg-on-change");
const MOVED: &str = "the site has only the second locator";
const ONLY_FIRST: &str = "eid-prefixes: [{prefix: 10.1.0.0/24, locators: [{address: 192.0.2.2, priority: 1, weight: 100}]}]";
const ONLY_SECOND: &str = "eid-prefixes: [{prefix: 10.1.0.0/24, locators: [{address: 203.0.113.2, priority: 1, weight: 100}]}]";

inventory::submit! {
    Case {
        id: "rfc6830::s6_6::old_source_address_is_not_used_after_a_change",
        title: "After the site's locator changed, no packet of the tunnel router has the old one as source, ITR-RLOC or locator any more.",
        topology: "multihomed-xtr",
        settings: &[(XTR, ONLY_FIRST)],
        start: false,
        roles: &["itr", "etr"],
        requirements: &[OWN_ITR_RLOC, REGISTERED_AT_ONCE],
        drive: renumber,
        judges: &[only_the_new_one],
        sabotages: &[Sabotage {
            name: "goes on with the old source",
            node: XTR,
            links: &["rloc-b"],
            kills: &[OWN_ITR_RLOC],
            tamper: || crate::cases::common::edit_outgoing(|frame| {
                if one_xtr::sequence_of(frame).is_some_and(|sequence| sequence > 1) {
                    frame.edit_addresses(|header| match header {
                        lisp::ip::IpHeader::V4(header) => {
                            header.source = Ipv4Addr::new(192, 0, 2, 2);
                            true
                        }
                        lisp::ip::IpHeader::V6(_) => false,
                    });
                }
            }),
        }, Sabotage {
            name: "wants answers at the old locator",
            node: XTR,
            links: &["rloc-a", "rloc-b"],
            kills: &[OWN_ITR_RLOC],
            tamper: || one_xtr::on_requests(|request| {
                request.itr_rlocs = vec![lisp::Address::from(FIRST)];
                true
            }),
        }],
        ..Case::BASE
    }
}

fn renumber(drive: &mut Drive) -> Result<(), Stop> {
    let mut system = drive.peer("mapping")?;
    mapping_system(&mut system, "key-of-site", |asked| {
        let wide = if asked.prefix.to_string().starts_with("10.2.0.") {
            one_xtr::REMOTE_SITE
        } else {
            "10.2.1.0/24"
        };
        vec![mapping(wide, &[REMOTE])]
    })?;
    let site = drive.peer("site")?;
    let _remote = drive.peer("remote")?;
    drive.start(XTR)?;
    let say = |drive: &Drive, to: IpAddr, sequence: u16| -> Result<Seen, Stop> {
        let since = drive.now_ns();
        site.send(&Echo::new(one_xtr::HOST, to, sequence).reply())?;
        drive.wait_for(since, "data in a tunnel", SOON, |packet| {
            left(packet) == Some(sequence)
        })
    };
    say(drive, REMOTE_HOST, 1)?;
    let since = drive.mark("the change");
    drive.reload(XTR, ONLY_SECOND)?;
    let told = drive.wait_for(
        since,
        "the Map-Register with the new locator",
        SOON,
        |packet| {
            packet.sender() == Some(XTR)
                && packet.map_register().is_some_and(|register| {
                    register
                        .records
                        .iter()
                        .flat_map(|record| &record.locators)
                        .any(|locator| locator.rloc.ip() == Some(SECOND))
                })
        },
    )?;
    drive.wait_for(told.time_ns(), "its Map-Notify", SOON, |packet| {
        packet.receiver() == Some(XTR) && packet.map_notify().is_some()
    })?;
    drive.mark(MOVED);
    for sequence in 2..5 {
        say(drive, REMOTE_HOST, sequence)?;
    }
    // Another prefix: a Map-Request with its ITR-RLOCs.
    say(drive, crate::cases::common::ip("10.2.1.10"), 5)?;
    Ok(())
}

fn only_the_new_one(trace: &Trace, findings: &mut Findings) {
    if trace.mark(MOVED).is_none() {
        findings.unseen(OWN_ITR_RLOC, "a registered change of the site's locator");
        findings.recorded(
            REGISTERED_AT_ONCE,
            Vec::new(),
            "no Map-Register with the new locator",
        );
        return;
    }
    let register = trace
        .since("the change")
        .find(|packet| packet.sender() == Some(XTR) && packet.map_register().is_some());
    findings.recorded(
        REGISTERED_AT_ONCE,
        register,
        "a Map-Register follows the change",
    );
    let after: Vec<&Seen> = trace
        .since(MOVED)
        .filter(|packet| packet.sender() == Some(XTR) && packet.link() != "site")
        .filter(|packet| packet.is_data() || packet.control().is_some())
        .collect();
    let asked = after.iter().any(|packet| packet.map_request().is_some());
    if !asked || !after.iter().any(|packet| packet.is_data()) {
        findings.unseen(OWN_ITR_RLOC, "data and a Map-Request after the change");
    }
    for packet in after {
        let itr_rlocs = packet
            .map_request()
            .map(|request| request.itr_rlocs.as_slice())
            .unwrap_or_default();
        let named = itr_rlocs.iter().any(|rloc| rloc.ip() == Some(FIRST));
        findings.check(
            OWN_ITR_RLOC,
            packet.source() != Some(FIRST) && !named,
            packet,
            format!("{SECOND}, the only locator now, and nowhere {FIRST}"),
            format!(
                "{}, ITR-RLOCs {}",
                words::from(packet),
                words::listed(itr_rlocs)
            ),
        );
    }
}
