//! The space between known EID-Prefixes: nested sites, configured prefixes that nobody registered, registered more-specifics,
//! both families and several Instance IDs. Each negative prefix is the largest one that is right (RFC 6833 4.3, 4.4), found
//! here by trying every length against every known prefix.

use lisp::EidPrefix;
use lisp::wire::{ControlMessage, MapRecord, MapReply};

use crate::case::Case;
use crate::cases::common::{is_reply, key, locator, prefix, record, register, seconds};
use crate::cases::mr::{Outcome, ask, is_request, question};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};

const COARSE: Req = Req::new("rfc6833-4.4-mr-coarse");
const KNOWN_TOO: Req = Req::new("rfc6833-4.4-mr-coarse-known");
const WORLDS: Req = Req::new("rfc6833-4.4-mr-coarse-family");
const HOLE: Req = Req::new("rfc6833-4.3-ms-hole-prefix");
const AGGREGATE: Req = Req::new("rfc6833-4.2-aggregate");
const NO_SITE: Req = Req::new("rfc6833-4.1-neg-15");
const UNREGISTERED: Req = Req::new("rfc6833-4.1-neg-1");

const MSMR: &str = "msmr";

/// The sites: the settings below in this case's words.
const CONFIGURED: &[&str] = &[
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.1.2.128/32",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001:db8:a::/48",
    "2001:db8:a:1::/64",
    "2001:db8:ffff::/48",
    "[7]10.1.0.0/16",
    "[7]2001:db8:a::/48",
    "[16777215]0.0.0.0/0",
];
/// What the ETR registers: two of them are more-specifics of a configured prefix.
const REGISTERED: &[&str] = &[
    "10.1.2.0/24",
    "10.77.0.0/16",
    "10.200.3.4/32",
    "[7]10.1.0.0/16",
];
/// Space that negative answers do not reach beyond.
const AGGREGATES: &[&str] = &["192.168.0.0/16", "203.0.0.0/16", "2001:db8::/32"];

/// EIDs of all kinds of neighbourhood; whole-space questions among them.
const QUESTIONS: &[&str] = &[
    // Outside of every site.
    "8.8.8.8/32",
    "128.0.0.1/32",
    "224.0.0.1/32",
    "11.0.0.1/32",
    "9.255.255.255/32",
    "198.51.98.1/32",
    "198.51.101.255/32",
    "192.168.1.1/32",
    "203.0.200.1/32",
    "203.0.112.1/32",
    "203.1.0.1/32",
    "255.255.255.255/32",
    // Inside 10.0.0.0/8, which nobody registered, around what is nested in it.
    "10.0.0.1/32",
    "10.1.0.1/32",
    "10.1.3.1/32",
    "10.1.2.128/32",
    "10.2.0.1/32",
    "10.76.255.255/32",
    "10.78.0.0/32",
    "10.128.0.1/32",
    "10.200.3.5/32",
    "10.200.3.0/32",
    "10.255.255.255/32",
    "198.51.100.7/32",
    // IPv6: another world, with nesting of its own.
    "2001:db8::1/128",
    "2001:db8:a::1/128",
    "2001:db8:a:1::1/128",
    "2001:db8:a:2::1/128",
    "2001:db8:b::1/128",
    "2001:db9::1/128",
    "::1/128",
    "ff02::1/128",
    // Instance IDs: worlds of their own, of which two know something.
    "[7]10.2.0.1/32",
    "[7]10.0.0.1/32",
    "[7]2001:db8:a::1/128",
    "[7]2001:db8:b::1/128",
    "[9]10.1.2.3/32",
    "[9]2001:db8:a::1/128",
    "[16777215]10.1.2.3/32",
    "[16777215]2001:db8:a::1/128",
    // Prefixes that hold known ones, up to everything: answered for their address.
    "0.0.0.0/0",
    "10.0.0.0/7",
    "10.64.0.0/10",
    "::/0",
    "2001:db8:a::/47",
    "[7]0.0.0.0/0",
];

const REGISTER: u64 = 0x6d72_000d_0000_00ff;
const FIRST: u64 = 0x6d72_000e_0000_0001;

inventory::submit! {
    Case {
        id: "rfc6833::s4_4::negative_prefixes_are_exact_among_nested_sites",
        title: "For 46 EIDs and prefixes around nested, unregistered and registered ones of both families and several Instance IDs, each negative answer has the largest prefix that is right, and the right TTL.",
        topology: "one-msmr",
        settings: &[(
            MSMR,
            "{aggregates: [{prefix: 192.168.0.0/16}, {prefix: 203.0.0.0/16}, {prefix: '2001:db8::/32'}], sites: [\
              {name: wide, key: key-of-holes, eid-prefixes: [{prefix: 10.0.0.0/8, accept-more-specifics: true}]}, \
              {name: nested, key: key-of-holes, eid-prefixes: [{prefix: 10.1.0.0/16}, {prefix: 10.1.2.0/24}, {prefix: 10.1.2.128/32}]}, \
              {name: small, key: key-of-holes, eid-prefixes: [{prefix: 198.51.100.0/24}, {prefix: 203.0.113.0/24}]}, \
              {name: newer, key: key-of-holes, eid-prefixes: [{prefix: '2001:db8:a::/48'}, {prefix: '2001:db8:a:1::/64'}, {prefix: '2001:db8:ffff::/48'}]}, \
              {name: seven, key: key-of-holes, eid-prefixes: [{prefix: 10.1.0.0/16, instance-id: 7}, {prefix: '2001:db8:a::/48', instance-id: 7}]}, \
              {name: all, key: key-of-holes, eid-prefixes: [{prefix: 0.0.0.0/0, instance-id: 16777215}]}]}",
        )],
        timeout: seconds(60),
        roles: &["ms", "mr"],
        features: &["instance-id"],
        requirements: &[COARSE, KNOWN_TOO, WORLDS, HOLE, AGGREGATE, NO_SITE, UNREGISTERED],
        drive,
        judges: &[exact],
        sabotages: &[
            shaped("one bit too long", &[COARSE, KNOWN_TOO, WORLDS], || on_negative(|record| {
                if record.eid_mask_len < width(record) {
                    record.eid_mask_len += 1;
                }
            })),
            shaped("one bit too short", &[COARSE, KNOWN_TOO, HOLE, WORLDS], || on_negative(|record| {
                let Some(eid) = record.eid_prefix() else { return };
                if let Some(wider) = eid.prefix.supernet() {
                    let wider = EidPrefix::new(eid.iid, wider);
                    (record.eid, record.eid_mask_len) = (wider.to_address(), wider.prefix.prefix_len());
                }
            })),
            shaped("answers for the host alone", &[COARSE], || on_negative(|record| {
                record.eid_mask_len = width(record);
            })),
            shaped("answers in Instance ID 0", &[WORLDS, HOLE], || on_negative(|record| {
                if let Some(eid) = record.eid_prefix() {
                    record.eid = EidPrefix::new(0, eid.prefix).to_address();
                }
            })),
            shaped("a quarter of an hour for everything", &[UNREGISTERED], || on_negative(|record| record.ttl = 15)),
            shaped("one minute for everything", &[NO_SITE, AGGREGATE], || on_negative(|record| record.ttl = 1)),
            shaped("knows no aggregate", &[AGGREGATE], || on_negative(|record| {
                if record.eid_prefix() == Some(prefix("192.168.0.0/16")) {
                    record.eid_mask_len = 6;
                    record.eid = prefix("192.0.0.0/6").to_address();
                }
            })),
        ],
        ..Case::BASE
    }
}

const fn shaped(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: MSMR,
        links: &[],
        kills,
        tamper,
    }
}

fn on_negative(change: fn(&mut MapRecord)) -> Tamper {
    Box::new(move |way, frame| {
        if way == harness::inline::Way::FromVictim {
            frame.edit_control(|message| match message {
                ControlMessage::MapReply(MapReply { records, .. }) => {
                    records.iter_mut().for_each(change);
                    true
                }
                _ => false,
            });
        }
        harness::inline::PacketFate::Forward
    })
}

fn width(record: &MapRecord) -> u8 {
    record
        .eid_prefix()
        .map_or(0, |eid| eid.prefix.max_prefix_len())
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let (itr, etr) = (drive.peer("itr")?, drive.peer("etr-a")?);
    let ms = drive.address(MSMR)?;
    let secret = key("key-of-holes");
    // One Map-Register for each site: a key may be shared, a message is of one site.
    for (number, eid) in REGISTERED.iter().enumerate() {
        let nonce = REGISTER + number as u64;
        let message = register(
            &secret,
            nonce,
            vec![record(eid, vec![locator("192.0.2.2", 1, 100)])],
        );
        let since = drive.now_ns();
        etr.udp(
            (etr.address(), 51_700),
            (ms, 4342),
            &message.to_signed_vec(&secret),
        )?;
        drive.wait_for(
            since,
            &format!("the Map-Notify for {eid}"),
            seconds(5),
            |packet| {
                packet
                    .map_notify()
                    .is_some_and(|notify| notify.nonce == nonce)
            },
        )?;
    }
    for (number, eid) in QUESTIONS.iter().enumerate() {
        let nonce = FIRST + number as u64;
        let since = drive.now_ns();
        ask(&itr, ms, &question(nonce, eid))?;
        drive.wait_for(
            since,
            &format!("what becomes of {eid}"),
            seconds(5),
            |packet| {
                packet.sender() == Some(MSMR)
                    && (is_reply(packet, nonce) || is_request(packet, nonce))
            },
        )?;
    }
    Ok(())
}

/// The model: the shortest prefix around the question's address, no shorter than `floor`, that holds no known prefix which
/// does not hold the address itself.
fn hole(known: &[EidPrefix], host: &EidPrefix, floor: u8) -> EidPrefix {
    let width = host.prefix.max_prefix_len();
    (floor..=width)
        .map(|length| cut(host, length))
        .find(|hole| {
            known
                .iter()
                .all(|known| known.covers(host) || !hole.covers(known))
        })
        .unwrap_or(*host)
}

fn cut(host: &EidPrefix, length: u8) -> EidPrefix {
    let net = ipnet::IpNet::new(host.prefix.addr(), length).unwrap_or(host.prefix);
    EidPrefix::new(host.iid, net.trunc())
}

fn longest(prefixes: &[EidPrefix], host: &EidPrefix) -> Option<EidPrefix> {
    let covering = prefixes.iter().filter(|prefix| prefix.covers(host));
    covering
        .max_by_key(|prefix| prefix.prefix.prefix_len())
        .copied()
}

/// What must become of a question; `None` where its ETR is asked.
fn expected(asked: &EidPrefix) -> Option<Outcome> {
    let all = |texts: &[&str]| texts.iter().map(|text| prefix(text)).collect::<Vec<_>>();
    let (configured, registered) = (all(CONFIGURED), all(REGISTERED));
    let known = [configured.clone(), registered.clone()].concat();
    let host = EidPrefix::host(asked.iid, asked.prefix.addr());
    let site = longest(&known, &host);
    if site.is_some_and(|site| registered.contains(&site)) {
        return None;
    }
    let (floor, minutes) = match site {
        Some(site) => (site.prefix.prefix_len(), 1),
        None => {
            let aggregate = longest(&all(AGGREGATES), &host);
            (
                aggregate.map_or(0, |aggregate| aggregate.prefix.prefix_len()),
                15,
            )
        }
    };
    Some(Outcome::Negative(hole(&known, &host, floor), minutes, 1))
}

fn exact(trace: &Trace, findings: &mut Findings) {
    for (number, text) in QUESTIONS.iter().enumerate() {
        let (nonce, eid) = (FIRST + number as u64, prefix(text));
        let asked = trace
            .received_by(MSMR)
            .find(|packet| is_request(packet, nonce));
        let Some(asked) = asked else {
            findings.unseen(COARSE, format!("the question for {text}"));
            continue;
        };
        let reply = trace
            .originated(MSMR)
            .find(|packet| is_reply(packet, nonce));
        let found = reply
            .and_then(|reply| reply.map_reply()?.records.first())
            .map_or(Outcome::Nothing, Outcome::of_record);
        let Some(expected) = expected(&eid) else {
            findings.check(
                HOLE,
                reply.is_none(),
                [asked, reply.unwrap_or(asked)],
                format!("{text} is registered: its ETR is asked"),
                found.to_string(),
            );
            continue;
        };
        judge_one(
            findings,
            [asked, reply.unwrap_or(asked)],
            &eid,
            &expected,
            &found,
        );
    }
}

fn judge_one(
    findings: &mut Findings,
    packets: [&Seen; 2],
    asked: &EidPrefix,
    expected: &Outcome,
    found: &Outcome,
) {
    let Outcome::Negative(right, minutes, _) = expected else {
        return;
    };
    let host = EidPrefix::host(asked.iid, asked.prefix.addr());
    let known: Vec<EidPrefix> = CONFIGURED
        .iter()
        .chain(REGISTERED)
        .map(|text| prefix(text))
        .collect();
    let (told, form) = match found {
        Outcome::Negative(told, ttl, 1) => (Some(*told), *ttl == *minutes),
        Outcome::Negative(told, ..) => (Some(*told), false),
        _ => (None, false),
    };
    let exact = told == Some(*right);
    let (wanted, seen) = (format!("{asked}: {expected}"), found.to_string());
    let mut check = |requirement, holds| {
        findings.check(requirement, holds, packets, wanted.clone(), seen.clone());
    };
    // Legal is what covers the question and no EID-Prefix beside it; how large it is, only 4.4 says.
    check(
        HOLE,
        told.is_some_and(|told| {
            told.covers(&host)
                && !known
                    .iter()
                    .any(|known| !known.covers(&host) && told.covers(known))
        }),
    );
    check(
        if *minutes == 15 {
            NO_SITE
        } else {
            UNREGISTERED
        },
        form,
    );
    let in_aggregate = AGGREGATES
        .iter()
        .any(|aggregate| prefix(aggregate).covers(&host));
    if in_aggregate && *minutes == 15 {
        // Where the answers for the rest of the space begin is the configuration's business; these are the aggregate's.
        check(AGGREGATE, exact && form);
    }
    let world = asked.iid != 0 || asked.prefix.addr().is_ipv6();
    check(if world { WORLDS } else { COARSE }, exact);
    let beside_unregistered = CONFIGURED
        .iter()
        .filter(|text| !REGISTERED.contains(text))
        .any(|text| cut(right, right.prefix.prefix_len().saturating_sub(1)).covers(&prefix(text)));
    if beside_unregistered {
        check(KNOWN_TOO, exact);
    }
}
