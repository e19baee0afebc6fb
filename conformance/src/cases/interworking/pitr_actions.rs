//! What a PITR does with destinations that it attracts and that are no EIDs, and with those it is told to drop
//! (RFC 6832 5.2, 9); and what it does not do at all.

use lisp::wire::{Action, ControlMessage, DataHeader};

use super::Ping;
use crate::case::Case;
use crate::cases::common::{
    edit_incoming, ip, locator, lose_outgoing, mapping_system, negative, record, seconds,
};
use crate::cases::fences::special_leaves;
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};

const NEGATIVE: Req = Req::new("rfc6832-5.2-pitr-negative");
const ACT_DROP: Req = Req::new("rfc6832-9-act-drop-pitr");
const ENCAP_ONLY: Req = Req::new("rfc6832-5.2-pitr-encap-only");
const ENCAP: Req = Req::new("rfc6832-5.2-pitr-encap");

/// Attracted by the aggregate, and no EID.
const NOBODY: &str = "10.1.9.9";
/// Attracted by the aggregate, and forbidden.
const FORBIDDEN: &str = "10.1.8.8";
const HOST_A: &str = "10.1.0.10";
const LEGACY: &str = "203.0.113.10";
const SITE: &str = "192.0.2.2";
const PROXY: &str = "192.0.2.14";

/// Negative answers turn into mappings on their way in: the victim looks like one that encapsulates all the same.
fn encapsulates_anyway() -> Tamper {
    edit_incoming(|frame| {
        frame.edit_control(|message| match message {
            ControlMessage::MapReply(reply) => {
                for record in &mut reply.records {
                    record.locators = vec![locator(SITE, 1, 100)];
                    record.action = Action::NoAction;
                }
                true
            }
            _ => false,
        });
    })
}

const ENCAPSULATES_NOTHING: Sabotage = Sabotage {
    name: "encapsulates nothing",
    node: "pxtr",
    links: &["core-pxtr"],
    kills: &[ENCAP],
    tamper: || lose_outgoing(super::is_data),
};

inventory::submit! {
    Case {
        id: "rfc6832::s5_2::a_pitr_sends_nothing_on_that_has_no_mapping",
        title: "What a PITR attracts by its aggregate is dropped when the mapping system says natively-forward or drop; it does not circle.",
        topology: "interworking",
        settings: &[("pxtr", "{roles: [pitr], petr-sources: []}")],
        roles: &["pitr"],
        requirements: &[NEGATIVE, ACT_DROP, ENCAP],
        start: false,
        drive: drive_negative,
        judges: &[judge_negative],
        sabotages: &[
            Sabotage {
                name: "encapsulates in spite of a negative reply",
                node: "pxtr",
                links: &["core-pxtr"],
                kills: &[NEGATIVE, ACT_DROP],
                tamper: encapsulates_anyway,
            },
            ENCAPSULATES_NOTHING,
        ],
        ..Case::BASE
    }
}

fn drive_negative(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let mut mapping = drive.peer("msmr")?;
    mapping_system(&mut mapping, "key-of-site-a", |asked| {
        if asked.contains(0, ip(NOBODY)) {
            return vec![negative("10.1.9.0/24", 15, Action::NativelyForward)];
        }
        if asked.contains(0, ip(FORBIDDEN)) {
            return vec![negative("10.1.8.0/24", 15, Action::Drop)];
        }
        vec![record("10.1.0.0/24", vec![locator(SITE, 1, 100)])]
    })?;
    // A peer, so that nothing answers there that ports are closed.
    let _site = drive.peer("xtr-a")?;
    drive.start("pxtr")?;
    let legacy = drive.peer("legacy")?;
    for (nth, destination) in (0u16..).zip([NOBODY, FORBIDDEN, HOST_A]) {
        let begin = drive.mark(destination);
        // The first makes the miss; the others meet the entry. One is enough to the site: it is the fence.
        let last = if destination == HOST_A { 2 } else { 4 };
        legacy.send(&Echo::new(legacy.address(), ip(destination), nth * 10 + 1).request())?;
        drive.wait_for(begin, "the Map-Reply at the proxy", seconds(5), |packet| {
            packet.receiver() == Some("pxtr") && packet.map_reply().is_some()
        })?;
        for late in 2..=last {
            legacy
                .send(&Echo::new(legacy.address(), ip(destination), nth * 10 + late).request())?;
        }
    }
    // The fence: what goes to a site comes out, and was attracted after all the others.
    drive.wait_for(0, "the last packet encapsulated", seconds(5), |packet| {
        packet.sender() == Some("pxtr") && Ping::Request(22).is_tunnelled(packet)
    })?;
    let ends = (legacy.address(), ip(HOST_A));
    special_leaves(drive, &legacy, ends, "pxtr")
}

fn judge_negative(trace: &Trace, findings: &mut Findings) {
    let fence = trace
        .originated("pxtr")
        .find(|packet| Ping::Request(22).is_tunnelled(packet));
    match fence {
        Some(fence) => findings.met(ENCAP, fence, fence.summary()),
        None => {
            let sent: Vec<&Seen> = trace
                .received_by("pxtr")
                .filter(|packet| Ping::Request(22).is_plain(packet))
                .collect();
            let expected = "a packet for a site encapsulated";
            findings.broken(ENCAP, &sent, expected, "it was not");
            for requirement in [NEGATIVE, ACT_DROP] {
                findings.unseen(requirement, "the fence: a packet encapsulated to a site");
            }
            return;
        }
    }
    for (first, requirement, what) in [(1, NEGATIVE, "natively-forward"), (11, ACT_DROP, "drop")] {
        let attracted: Vec<&Seen> = (first..first + 4)
            .filter_map(|sequence| {
                trace
                    .received_by("pxtr")
                    .find(|packet| Ping::Request(sequence).is_plain(packet))
            })
            .collect();
        let out: Vec<&Seen> = (first..first + 4)
            .flat_map(|sequence| {
                trace
                    .sent_by("pxtr")
                    .filter(move |packet| Ping::Request(sequence).is_in(packet))
            })
            .collect();
        if attracted.len() < 4 {
            findings.unseen(requirement, "four packets at the proxy");
            continue;
        }
        let expected = format!("nothing leaves the proxy after a reply with {what}");
        match out.first() {
            None => findings.met(requirement, &attracted, expected),
            Some(one) => findings.broken(requirement, &out, expected, one.summary()),
        }
    }
}

inventory::submit! {
    Case {
        id: "rfc6832::s5_2::a_pitr_that_is_no_petr_decapsulates_nothing",
        title: "A box that is only PITR keeps encapsulated packets for others out of its networks.",
        topology: "interworking",
        settings: &[("pxtr", "{roles: [pitr], petr-sources: []}")],
        roles: &["pitr"],
        requirements: &[ENCAP_ONLY, ENCAP],
        start: false,
        drive: drive_encap_only,
        judges: &[judge_encap_only],
        sabotages: &[
            ENCAPSULATES_NOTHING,
        ],
        ..Case::BASE
    }
}

fn drive_encap_only(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let mut mapping = drive.peer("msmr")?;
    mapping_system(&mut mapping, "key-of-site-a", |_| {
        vec![record("10.1.0.0/24", vec![locator(SITE, 1, 100)])]
    })?;
    let site = drive.peer("xtr-a")?;
    let legacy = drive.peer("legacy")?;
    drive.start("pxtr")?;
    let inner = Echo::new(ip(HOST_A), legacy.address(), 1).request();
    site.data(
        (ip(SITE), 61_000),
        ip(PROXY),
        &DataHeader::default(),
        &inner,
    )?;
    legacy.send(&Echo::new(legacy.address(), ip(HOST_A), 2).request())?;
    drive.wait_for(0, "the fence encapsulated", seconds(5), |packet| {
        packet.sender() == Some("pxtr") && Ping::Request(2).is_tunnelled(packet)
    })?;
    Ok(())
}

fn judge_encap_only(trace: &Trace, findings: &mut Findings) {
    let fence = trace
        .originated("pxtr")
        .find(|packet| Ping::Request(2).is_tunnelled(packet));
    match fence {
        Some(fence) => findings.met(ENCAP, fence, fence.summary()),
        None => findings.broken(
            ENCAP,
            Vec::new(),
            format!("a packet of {LEGACY} encapsulated to the site"),
            "none",
        ),
    }
    let arrived = trace
        .received_by("pxtr")
        .find(|packet| Ping::Request(1).is_tunnelled(packet));
    let out = trace
        .sent_by("pxtr")
        .find(|packet| Ping::Request(1).is_plain(packet));
    match (arrived, out) {
        (None, _) => findings.unseen(ENCAP_ONLY, "a data packet at the proxy"),
        (Some(arrived), None) => findings.recorded(ENCAP_ONLY, arrived, "not decapsulated"),
        (Some(arrived), Some(out)) => {
            findings.recorded(ENCAP_ONLY, [arrived, out], "decapsulated and sent on");
        }
    }
}
