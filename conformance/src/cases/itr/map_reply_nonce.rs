//! Which Map-Replies an ITR believes: those with the nonce of a question that is open, and of them the records that are
//! about the question (RFC 6830 6.1.3, 6.1.5).

use harness::inline::{PacketFate, Way};
use lisp::wire::{ControlMessage, EidQuery, MapRecord};

use super::map_cache_net::{
    Became, CORE, ITR, Net, OTHER, REMOTE, TOPOLOGY, became, frame_request, goes_to, records_in,
    sent, wait_question,
};
use crate::case::Case;
use crate::cases::common::{ip, locator, prefix, record};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::Trace;

const NONCE: Req = Req::new("rfc6830-6.1.3-nonce-match");
const OUTSIDE: Req = Req::new("rfc6830-6.1.5-no-overlap-nothing");

/// Asked for, and answered with a wrong nonce first.
const ASKED: &str = "10.2.1.1";
/// Never asked for.
const UNASKED: &str = "10.2.2.1";

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_3::only_a_matching_nonce_counts",
        title: "A Map-Reply with a wrong nonce, an unsolicited one and a second one with a used nonce change nothing.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[NONCE],
        drive: drive_nonces,
        judges: &[judge_nonces],
        sabotages: &[
            Sabotage {
                name: "accepts any nonce",
                node: ITR,
                links: CORE,
                kills: &[NONCE],
                tamper: || right_nonces("10.2.1.0/24"),
            },
            Sabotage {
                name: "accepts an unsolicited Map-Reply",
                node: ITR,
                links: CORE,
                kills: &[NONCE],
                tamper: || records_in("10.2.2.0/24", |record| {
                    record.locators = vec![locator(OTHER, 1, 100)];
                }),
            },
            Sabotage {
                name: "a right Map-Reply after a wrong one is lost on it",
                node: ITR,
                links: CORE,
                kills: &[NONCE],
                tamper: || records_in("10.2.1.0/24", |record| record.ttl = 0),
            },
        ],
        ..Case::BASE
    }
}

/// Gives Map-Replies about `eid` the nonce of the last question about it.
fn right_nonces(eid: &'static str) -> Tamper {
    let eid = prefix(eid);
    let mut nonce = None;
    Box::new(move |way, frame| {
        if way == Way::FromVictim
            && let Some(request) = frame_request(frame)
            && let Some(asked) = request.records.first().and_then(EidQuery::prefix)
            && eid.covers(&asked)
        {
            nonce = Some(request.nonce);
        }
        if way == Way::ToVictim {
            frame.edit_control(|message| match (message, nonce) {
                (ControlMessage::MapReply(reply), Some(nonce)) => {
                    let about = reply.records.iter().filter_map(MapRecord::eid_prefix);
                    let about = about.into_iter().any(|found| eid.covers(&found));
                    if about {
                        reply.nonce = nonce;
                    }
                    about
                }
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

fn drive_nonces(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    let to = |rloc, eid| vec![record(eid, vec![locator(rloc, 1, 100)])];
    // An unsolicited one, while another question is open: for it the mapping system is silent.
    let begin = drive.mark("the question");
    net.send(ASKED, 1)?;
    let (_, question) = wait_question(drive, begin, "10.2.1.0/24")?;
    drive.mark("the unsolicited Map-Reply");
    net.reply(&question, drive.random(), to(OTHER, "10.2.2.0/24"))?;
    net.map("10.2.2.0/24", REMOTE);
    net.fence(drive)?;
    net.send(UNASKED, 2)?;
    net.fence(drive)?;
    drive.mark("the wrong nonce");
    net.reply(&question, question.nonce ^ 1, to(OTHER, "10.2.1.0/24"))?;
    net.fence(drive)?;
    net.send(ASKED, 3)?;
    net.fence(drive)?;
    drive.mark("the right nonce");
    net.reply(&question, question.nonce, to(REMOTE, "10.2.1.0/24"))?;
    net.fence(drive)?;
    net.send(ASKED, 4)?;
    net.fence(drive)?;
    drive.mark("the right nonce again");
    net.reply(&question, question.nonce, to(OTHER, "10.2.1.0/24"))?;
    net.fence(drive)?;
    net.send(ASKED, 5)?;
    net.fence(drive)
}

fn judge_nonces(trace: &Trace, findings: &mut Findings) {
    let poisoned = [
        (2, "an unsolicited Map-Reply"),
        (3, "a Map-Reply with a wrong nonce"),
    ];
    for (number, why) in poisoned {
        let Some(packet) = sent(trace, number) else {
            findings.unseen(NONCE, format!("packet {number} of the site"));
            continue;
        };
        let became = became(trace, number);
        findings.check(
            NONCE,
            became.rloc() != Some(ip(OTHER)),
            became.with(packet),
            format!("nothing sent to {OTHER} because of {why}"),
            became.text(),
        );
    }
    goes_to(trace, findings, NONCE, 4, REMOTE);
    goes_to(trace, findings, NONCE, 5, REMOTE);
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_5::records_outside_the_question_are_ignored",
        title: "A record that does not cover what was asked for redirects nothing, whether it comes alone or beside a right one.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[OUTSIDE],
        drive: drive_outside,
        judges: &[judge_outside],
        sabotages: &[
            Sabotage {
                name: "takes a record for what was asked for",
                node: ITR,
                links: CORE,
                kills: &[OUTSIDE],
                tamper: || records_in("10.4.0.0/16", |found| {
                    *found = record("10.2.1.0/24", found.locators.clone());
                }),
            },
            Sabotage {
                name: "a record outside the question spoils the right one",
                node: ITR,
                links: CORE,
                kills: &[OUTSIDE],
                tamper: || records_in("10.2.2.0/24", |record| record.ttl = 0),
            },
        ],
        ..Case::BASE
    }
}

/// Hosts in the prefixes that nobody asked for.
const STRANGERS: [(&str, u16); 2] = [("10.4.1.1", 11), ("10.5.1.1", 12)];

fn drive_outside(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    let stranger = |eid| record(eid, vec![locator(OTHER, 1, 100)]);
    net.answer("10.2.1.0/24", vec![stranger("10.4.0.0/16")]);
    net.answer(
        "10.2.2.0/24",
        vec![
            stranger("10.5.0.0/16"),
            record("10.2.2.0/24", vec![locator(REMOTE, 1, 100)]),
        ],
    );
    net.resolve(drive, "10.2.1.1", 1)?;
    net.send("10.2.1.1", 2)?;
    net.resolve(drive, "10.2.2.1", 3)?;
    net.send("10.2.2.1", 4)?;
    for (host, number) in STRANGERS {
        net.send(host, number)?;
    }
    net.fence(drive)
}

fn judge_outside(trace: &Trace, findings: &mut Findings) {
    let Some(packet) = sent(trace, 2) else {
        findings.unseen(OUTSIDE, "a packet after the strange Map-Reply");
        return;
    };
    let after = became(trace, 2);
    findings.check(
        OUTSIDE,
        matches!(after, Became::Nothing),
        after.with(packet),
        "packet 2 waits for a mapping, or is dropped",
        after.text(),
    );
    goes_to(trace, findings, OUTSIDE, 4, REMOTE);
    // What was not asked for: whether it is believed is not stated (RFC 6830 6.1.5.1 only warns).
    for (host, number) in STRANGERS {
        if let Some(packet) = sent(trace, number) {
            let became = became(trace, number);
            findings.recorded(
                OUTSIDE,
                became.with(packet),
                format!(
                    "{host}, in a record that nobody asked for: {}",
                    became.text()
                ),
            );
        }
    }
}
