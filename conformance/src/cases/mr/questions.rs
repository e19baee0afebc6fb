//! Map-Requests that are unusual and legal: the mapping system deals with them (RFC 6830 6.1.2).

use harness::inline::{PacketFate, Way};
use lisp::Address;
use lisp::wire::{ControlMessage, EidQuery, MapRegister, MapRequest};

use super::common::*;
use crate::case::Case;
use crate::cases::common::{ip, key, locator, outgoing, prefix, record, register};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};
use crate::words;

const SEVERAL: Req = Req::new("rfc6830-6.1.2-multi-record-rx");
const AFI_0: Req = Req::new("rfc6830-6.1.2-afi0-len");
const COUNT: Req = Req::new("rfc6830-6.1.2-irc");
const HOST_BITS: Req = Req::new("rfc6830-6.1.2-prefix-host-bits");
const TO_ITR_RLOC: Req = Req::new("rfc6830-6.1.5-dst-itr-rloc");
const NONCE: Req = Req::new("rfc6830-6.1.4-nonce-echo");

const PROXIED_SITE: &str = "10.1.0.0/24";
const FORWARDED_SITE: &str = "10.2.0.0/16";
const ETR_A: &str = "192.0.2.2";
const ETR_B: &str = "192.0.2.34";

const THREE_ANSWERS: u64 = 0x6d72_0007_0000_0001;
const ANSWERED_AND_HANDED_ON: u64 = 0x6d72_0007_0000_0002;
const THE_SAME_TWICE: u64 = 0x6d72_0007_0000_0003;
const NO_SOURCE_EID: u64 = 0x6d72_0007_0000_0004;
const THIRTY_TWO: u64 = 0x6d72_0007_0000_0005;
const WITH_HOST_BITS: u64 = 0x6d72_0007_0000_0006;
const USABLE_LAST: u64 = 0x6d72_0007_0000_0007;
const SITE_A: u64 = 0x6d72_0007_0000_00f1;
const SITE_B: u64 = 0x6d72_0007_0000_00f2;

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_2::unusual_map_requests_are_dealt_with",
        title: "Several records, Source-EID AFI 0, 32 ITR-RLOCs, host bits, an ITR-RLOC that is usable only behind others: each EID is answered or handed on.",
        topology: "one-msmr",
        roles: &["ms", "mr"],
        features: &["proxy-reply"],
        requirements: &[SEVERAL, AFI_0, COUNT, HOST_BITS, TO_ITR_RLOC, NONCE],
        drive,
        judges: &[each_eid, to_the_itr],
        sabotages: &[
            Sabotage {
                name: "answers the first record only",
                node: MSMR,
                links: &[],
                kills: &[SEVERAL],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapReply(reply) => {
                        let more = reply.records.len() > 1;
                        reply.records.truncate(1);
                        more
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "hands nothing on where it answers",
                node: MSMR,
                links: &[],
                kills: &[SEVERAL],
                tamper: || Box::new(|way, frame| match frame.control() {
                    Some(ControlMessage::Encapsulated(_)) if way == Way::FromVictim => PacketFate::Drop,
                    _ => PacketFate::Forward,
                }),
            },
            deaf("does not know Source-EID AFI 0", &[AFI_0], || deaf_to(NO_SOURCE_EID)),
            deaf("reads at most 31 ITR-RLOCs", &[COUNT], || deaf_to(THIRTY_TWO)),
            deaf("does not like host bits", &[HOST_BITS], || deaf_to(WITH_HOST_BITS)),
            deaf("looks at the first ITR-RLOC only", &[TO_ITR_RLOC], || deaf_to(USABLE_LAST)),
            Sabotage {
                name: "answers with half of the nonce",
                node: MSMR,
                links: &[],
                kills: &[NONCE],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapReply(reply) => {
                        reply.nonce &= 0xffff_ffff;
                        true
                    }
                    _ => false,
                }),
            },
        ],
        ..Case::BASE
    }
}

const fn deaf(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: MSMR,
        links: &[],
        kills,
        tamper,
    }
}

/// Loses the question with a nonce on its way in.
fn deaf_to(nonce: u64) -> Tamper {
    Box::new(move |way, frame| {
        let mut hit = false;
        if way == Way::ToVictim {
            frame.edit_control(|message| {
                hit = matches!(message, ControlMessage::MapRequest(request) if request.nonce == nonce);
                false
            });
        }
        if hit {
            PacketFate::Drop
        } else {
            PacketFate::Forward
        }
    })
}

fn queries(eids: &[&str]) -> Vec<EidQuery> {
    eids.iter().map(|eid| EidQuery::new(prefix(eid))).collect()
}

/// The questions, and what must become of each: prefixes that answers cover, and ETRs that the question is handed to.
fn questions() -> Vec<(Req, MapRequest, &'static str, Vec<Outcome>)> {
    let proxied = || Outcome::Mapping(prefix(PROXIED_SITE), vec![ip(ETR_A)]);
    let host = "10.1.0.10/32";
    vec![
        (
            SEVERAL,
            MapRequest {
                records: queries(&[host, "172.16.5.5/32", "2001:db8:a::1/128"]),
                ..question(THREE_ANSWERS, host)
            },
            "three records that the box answers itself",
            vec![
                proxied(),
                Outcome::native("128.0.0.0/1", 15),
                Outcome::native("2001:db8:a::/48", 1),
            ],
        ),
        (
            SEVERAL,
            MapRequest {
                records: queries(&[host, "10.2.3.4/32"]),
                ..question(ANSWERED_AND_HANDED_ON, host)
            },
            "a record that it answers and one for an ETR",
            vec![proxied(), Outcome::HandedTo(ip(ETR_B))],
        ),
        (
            SEVERAL,
            MapRequest {
                records: queries(&["10.2.3.4/32", "10.2.3.5/32"]),
                ..question(THE_SAME_TWICE, "10.2.3.4/32")
            },
            "two records for one ETR",
            vec![Outcome::HandedTo(ip(ETR_B))],
        ),
        (
            AFI_0,
            MapRequest {
                source_eid: Address::None,
                ..question(NO_SOURCE_EID, host)
            },
            "Source-EID AFI 0",
            vec![proxied()],
        ),
        (
            COUNT,
            MapRequest {
                itr_rlocs: (0..32).map(|n| Address::from(itr_rloc(100 + n))).collect(),
                ..question(THIRTY_TWO, host)
            },
            "32 ITR-RLOCs",
            vec![proxied()],
        ),
        (
            HOST_BITS,
            MapRequest {
                records: vec![EidQuery {
                    mask_len: 24,
                    eid: Address::from(ip("10.1.0.77")),
                    ..EidQuery::new(prefix(host))
                }],
                ..question(WITH_HOST_BITS, host)
            },
            "10.1.0.77 with mask-len 24",
            vec![proxied()],
        ),
        (
            TO_ITR_RLOC,
            MapRequest {
                itr_rlocs: vec![Address::None, Address::from(itr_rloc(7))],
                ..question(USABLE_LAST, host)
            },
            "a usable ITR-RLOC behind one of AFI 0",
            vec![proxied()],
        ),
    ]
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let itr = drive.peer("itr")?;
    let (etr_a, etr_b) = (drive.peer("etr-a")?, drive.peer("etr-b")?);
    let of_site = |secret: &str, nonce, eid, rloc| {
        let records = vec![record(eid, vec![locator(rloc, 1, 100)])];
        register(&key(secret), nonce, records)
    };
    let proxied = MapRegister {
        proxy_reply: true,
        ..of_site("key-of-site-a", SITE_A, PROXIED_SITE, ETR_A)
    };
    register_and_wait(drive, &etr_a, "key-of-site-a", &proxied)?;
    let forwarded = of_site("key-of-site-b", SITE_B, FORWARDED_SITE, ETR_B);
    register_and_wait(drive, &etr_b, "key-of-site-b", &forwarded)?;
    let ms = drive.address(MSMR)?;
    for (_, request, _, _) in questions() {
        ask(&itr, ms, &request)?;
    }
    // The fence: the box deals with questions in their order.
    ask_and_wait(drive, &itr, &question(SITE_B + 1, "10.2.9.9/32"))?;
    Ok(())
}

/// Everything that became of a question.
fn outcomes(trace: &Trace, nonce: u64) -> (Vec<Outcome>, Vec<&Seen>) {
    let (mut outcomes, mut packets) = (Vec::new(), Vec::new());
    for reply in replies(trace, nonce) {
        let records = reply.map_reply().map(|reply| reply.records.as_slice());
        outcomes.extend(records.unwrap_or_default().iter().map(Outcome::of_record));
        packets.push(reply);
    }
    for copy in copies(trace, nonce) {
        outcomes.extend(copy.destination().map(Outcome::HandedTo));
        packets.push(copy);
    }
    (outcomes, packets)
}

fn each_eid(trace: &Trace, findings: &mut Findings) {
    for (requirement, request, what, expected) in questions() {
        let Some(asked) = asked(trace, request.nonce) else {
            findings.unseen(requirement, format!("the Map-Request with {what}"));
            continue;
        };
        let (found, shown) = outcomes(trace, request.nonce);
        let packets: Vec<&Seen> = [asked].into_iter().chain(shown).collect();
        let listed = |outcomes: &[Outcome]| {
            let texts: Vec<String> = outcomes.iter().map(Outcome::to_string).collect();
            match texts.is_empty() {
                true => "nothing".to_owned(),
                false => texts.join("; "),
            }
        };
        let right =
            expected.iter().all(|wanted| found.contains(wanted)) && found.len() == expected.len();
        findings.check(
            requirement,
            right,
            &packets,
            format!("{what}: {}", listed(&expected)),
            listed(&found),
        );
    }
}

fn to_the_itr(trace: &Trace, findings: &mut Findings) {
    for (_, request, what, _) in questions() {
        for reply in replies(trace, request.nonce) {
            let to = reply.destination();
            let named = request
                .itr_rlocs
                .iter()
                .any(|rloc| rloc.ip() == to && to.is_some());
            findings.check(
                TO_ITR_RLOC,
                named,
                reply,
                format!("{what}: to an ITR-RLOC of the question"),
                words::to(reply),
            );
        }
    }
    // By destination alone: an answer that lost its nonce is still one.
    for (_, request, what, _) in questions() {
        let rlocs: Vec<_> = request.itr_rlocs.iter().filter_map(Address::ip).collect();
        let answers = trace.originated(MSMR).filter(|packet| {
            packet.map_reply().is_some()
                && packet.destination().is_some_and(|to| rlocs.contains(&to))
        });
        for answer in answers {
            let nonce = answer.map_reply().map_or(0, |reply| reply.nonce);
            findings.check(
                NONCE,
                nonce == request.nonce,
                answer,
                format!("{what}: the nonce {:#018x}", request.nonce),
                format!("{nonce:#018x}"),
            );
        }
    }
}
