//! Keys and algorithms (RFC 6830 6.1.6, RFC 6833 6, RFC 9301 1.1 and 5.6).

use lisp::auth::{AuthKey, HkdfReading, MacAlgorithm};
use lisp::wire::{ControlMessage, MapRecord};

use super::common::*;
use super::script::{Step, ask, confirmation, judge, register, run, sent};
use crate::case::Case;
use crate::cases::common::{
    edit_incoming, edit_outgoing, key, locator, lose_outgoing, outgoing, record,
};
use crate::catalogue::Req;
use crate::edition::Edition;
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;
use crate::words;

const SHA1: Req = Req::new("rfc6833-6-sha1-must");
const SHA1_FIELD: Req = Req::new("rfc6830-6.1.6-sha1-must");
const SHA256: Req = Req::new("rfc6830-6.1.6-sha256-rec");
const LENGTH: Req = Req::new("rfc6830-6.1.6-auth-len");
const NOTIFY_MAC: Req = Req::new("rfc6830-6.1.7-mac");
const CONFIG: Req = Req::new("rfc6833-4.2-auth-config");
const UNKNOWN: Req = Req::new("rfc6830-6.1.6-unknown-keyid");
const BAD_AUTH: Req = Req::new("rfc6833-4.2-no-notify-bad-auth");
const DROP: Req = Req::new("rfc9301-5.7-auth-fail-drop");
const PUBLIC: Req = Req::new("rfc9301-1.1-alg-public");
const MUST: Req = Req::new("rfc9301-5.6-alg-sha256-must");
const HKDF: Req = Req::new("rfc9301-5.6-hkdf");
const COPY: Req = Req::new("rfc9301-5.7-notify-copy");

/// Site a with a key of each algorithm, and an old and a new one of the same.
const SEVERAL_KEYS: &str = "
sites:
  - name: site-a
    keys:
      - {key: key-of-site-a}
      - {key: next-key-of-site-a}
      - {key: sha-1-key, algorithm: hmac-sha-1-96}
      - {key: derived, key-id: 3, algorithm: hmac-sha-256-128+hkdf-sha-256}
    eid-prefixes: [{prefix: 10.1.0.0/24}]
";

fn sha1() -> AuthKey {
    AuthKey::new(0, MacAlgorithm::HmacSha1_96, b"sha-1-key")
}

fn sha256() -> AuthKey {
    key("key-of-site-a")
}

fn at(rloc: &str) -> Vec<MapRecord> {
    vec![record("10.1.0.0/24", vec![locator(rloc, 1, 100)])]
}

const fn loses_notifies(kills: &'static [Req]) -> Sabotage {
    Sabotage {
        name: "does not confirm",
        node: MS,
        links: &[],
        kills,
        tamper: || {
            lose_outgoing(|frame| matches!(frame.control(), Some(ControlMessage::MapNotify(_))))
        },
    }
}

inventory::submit! {
    Case {
        id: "rfc6833::s6::any_of_a_sites_keys_authenticates",
        title: "Each of several keys of a site authenticates, with HMAC-SHA-1-96 and with HMAC-SHA-256-128; the Map-Notify is signed under the key that the Map-Register used.",
        topology: TOPOLOGY,
        settings: &[(MS, SEVERAL_KEYS)],
        roles: &["ms"],
        requirements: &[SHA1, SHA1_FIELD, SHA256, LENGTH, CONFIG, NOTIFY_MAC],
        drive: |drive| run(drive, &several()),
        judges: &[|trace, findings| {
            judge(trace, findings, &several());
            for (at, key) in [(0, sha1()), (2, sha256()), (4, key("next-key-of-site-a"))] {
                signed(trace, findings, at, &key);
            }
        }],
        sabotages: &[
            loses_notifies(&[SHA1, SHA1_FIELD, SHA256, CONFIG]),
            Sabotage {
                name: "knows one key alone",
                node: MS,
                links: &[],
                kills: &[SHA1, SHA1_FIELD, CONFIG],
                tamper: || crate::cases::common::lose_incoming(|frame| {
                    frame.control().is_some_and(|message| match message {
                        ControlMessage::MapRegister(register) => register.auth.algorithm == 1,
                        _ => false,
                    })
                }),
            },
            Sabotage {
                name: "signs with one key for all",
                node: MS,
                links: &[],
                kills: &[NOTIFY_MAC],
                tamper: || edit_outgoing(|frame| {
                    frame.edit_signed(&sha256(), |message| match message {
                        ControlMessage::MapNotify(notify) => {
                            notify.auth = sha256().blank();
                            true
                        }
                        _ => false,
                    });
                }),
            },
            Sabotage {
                name: "sends untruncated codes",
                node: MS,
                links: &[],
                kills: &[LENGTH],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapNotify(notify) => {
                        notify.auth.data.resize(32, 0);
                        true
                    }
                    _ => false,
                }),
            },
        ],
        ..Case::BASE
    }
}

fn several() -> Vec<Step> {
    vec![
        register("etr-a", &sha1(), at("192.0.2.3"))
            .confirmed()
            .shows(&[SHA1, SHA1_FIELD, CONFIG]),
        ask("10.1.0.7")
            .forwarded(&["192.0.2.3"])
            .shows(&[SHA1, SHA1_FIELD, CONFIG]),
        register("etr-a", &sha256(), at("192.0.2.4"))
            .confirmed()
            .shows(&[SHA256, CONFIG]),
        ask("10.1.0.7")
            .forwarded(&["192.0.2.4"])
            .shows(&[SHA256, CONFIG]),
        register("etr-a", &key("next-key-of-site-a"), at("192.0.2.5"))
            .confirmed()
            .shows(&[CONFIG]),
        ask("10.1.0.7").forwarded(&["192.0.2.5"]).shows(&[CONFIG]),
        register("etr-a", &key("no-key-of-site-a"), at("192.0.2.6"))
            .unconfirmed()
            .shows(&[CONFIG]),
        ask("10.1.0.7").forwarded(&["192.0.2.5"]).shows(&[CONFIG]),
    ]
}

/// The Map-Notify of step `at` verifies under `key` and has its form.
fn signed(trace: &Trace, findings: &mut Findings, at: usize, key: &AuthKey) {
    let Some(packet) = confirmation(trace, at) else {
        for row in [LENGTH, NOTIFY_MAC] {
            findings.unseen(row, format!("the Map-Notify for step {at}"));
        }
        return;
    };
    let payload = packet
        .udp()
        .map(|udp| udp.payload.clone())
        .unwrap_or_default();
    let length = packet
        .map_notify()
        .map_or(0, |notify| notify.auth.data.len());
    let expected = key.algorithm.data_len();
    findings.check(
        LENGTH,
        length == expected,
        packet,
        format!("{expected} octets of {}", key.algorithm),
        format!("{length} octets"),
    );
    let verified = lisp::auth::verify(&payload, key, &[]);
    findings.check(
        NOTIFY_MAC,
        verified.is_ok(),
        packet,
        format!("a code under the Map-Register's key, {}", key.algorithm),
        verified.map_or_else(|error| error.to_string(), |()| "it verifies".to_owned()),
    );
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_6::what_cannot_be_authenticated_changes_nothing",
        title: "Key ID 99, algorithm 0 and 77, an empty code, no key, a flipped bit: no Map-Notify and no change; the next honest Map-Register is taken.",
        topology: TOPOLOGY,
        roles: &["ms"],
        requirements: &[UNKNOWN, BAD_AUTH, DROP],
        drive: |drive| run(drive, &unknown()),
        judges: &[|trace, findings| judge(trace, findings, &unknown())],
        sabotages: &[
            Sabotage {
                name: "takes any algorithm and key",
                node: MS,
                links: &[],
                kills: &[UNKNOWN, BAD_AUTH, DROP],
                // Whatever the authentication field says, it becomes right on the way in.
                tamper: || edit_incoming(|frame| {
                    frame.edit_signed(&sha256(), |message| match message {
                        ControlMessage::MapRegister(register) => {
                            register.auth = sha256().blank();
                            true
                        }
                        _ => false,
                    });
                }),
            },
        ],
        ..Case::BASE
    }
}

fn unknown() -> Vec<Step> {
    let rows = &[UNKNOWN, BAD_AUTH, DROP];
    let bad = |spoil: fn(&mut Vec<u8>)| {
        register("etr-a", &sha256(), at("192.0.2.6"))
            .spoiled(spoil)
            .unconfirmed()
            .shows(rows)
    };
    let mut steps = vec![
        register("etr-a", &sha256(), at("192.0.2.2")).confirmed(),
        // Key ID and algorithm stand in octets 12 and 13, the length of the code in 14 and 15, the code from 16 on.
        bad(|octets| octets[13] = 99),
        bad(|octets| octets[13] = 0),
        bad(|octets| octets[12] = 99),
        bad(|octets| octets[13] = 1),
        bad(|octets| (octets[12], octets[13]) = (0, 0)),
        bad(|octets| octets[16] ^= 0x80),
        bad(|octets| octets[31] ^= 1),
        bad(|octets| octets[16..32].fill(0)),
        bad(|octets| {
            // No code at all.
            octets.drain(16..32);
            (octets[13], octets[14], octets[15]) = (0, 0, 0);
        }),
        bad(|octets| {
            octets.drain(16..32);
            (octets[14], octets[15]) = (0, 0);
        }),
        bad(|octets| {
            let last = octets.len() - 1;
            octets[last] ^= 1;
        }),
    ];
    steps.push(ask("10.1.0.7").forwarded(&["192.0.2.2"]).shows(rows));
    steps.push(register("etr-a", &sha256(), at("192.0.2.7")).confirmed());
    steps.push(ask("10.1.0.7").forwarded(&["192.0.2.7"]));
    steps
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_6::untruncated_codes_only_where_they_are_accepted",
        title: "Codes of 20 and 32 octets, as deployed implementations send them, are taken where the site accepts them, and not where it does not.",
        topology: TOPOLOGY,
        settings: &[(MS, "
sites:
  - {name: site-a, keys: [{key: key-of-site-a}, {key: sha-1-key, algorithm: hmac-sha-1-96}], eid-prefixes: [{prefix: 10.1.0.0/24}]}
  - {name: site-b, keys: [{key: key-of-site-b}, {key: sha-1-key, algorithm: hmac-sha-1-96}], eid-prefixes: [{prefix: 10.2.0.0/16}], accept-mac: [truncated, full]}
")],
        roles: &["ms"],
        requirements: &[LENGTH, BAD_AUTH],
        drive: |drive| run(drive, &full()),
        judges: &[|trace, findings| judge(trace, findings, &full())],
        sabotages: &[
            Sabotage {
                name: "takes untruncated codes everywhere",
                node: MS,
                links: &[],
                kills: &[BAD_AUTH],
                tamper: || edit_incoming(|frame| {
                    frame.edit_signed(&sha256(), |message| match message {
                        ControlMessage::MapRegister(register) if register.auth.data.len() == 32 => {
                            let ours = register.records.first().and_then(MapRecord::eid_prefix);
                            register.auth = sha256().blank();
                            ours == Some(crate::cases::common::prefix("10.1.0.0/24"))
                        }
                        _ => false,
                    });
                }),
            },
            loses_notifies(&[LENGTH]),
        ],
        ..Case::BASE
    }
}

fn full() -> Vec<Step> {
    let form = |algorithm, secret: &str| AuthKey::new(0, algorithm, secret.as_bytes());
    let b = |rloc: &str| vec![record("10.2.0.0/16", vec![locator(rloc, 1, 100)])];
    let (sha1, sha256) = (MacAlgorithm::HmacSha1Full, MacAlgorithm::HmacSha256Full);
    vec![
        register("etr-a", &form(sha256, "key-of-site-a"), at("192.0.2.3"))
            .unconfirmed()
            .shows(&[BAD_AUTH]),
        register("etr-a", &form(sha1, "sha-1-key"), at("192.0.2.3"))
            .unconfirmed()
            .shows(&[BAD_AUTH]),
        ask("10.1.0.7")
            .negative("10.1.0.0/24", 1)
            .shows(&[BAD_AUTH]),
        register("etr-b", &form(sha256, "key-of-site-b"), b("192.0.2.35"))
            .confirmed()
            .shows(&[LENGTH]),
        ask("10.2.0.7").forwarded(&["192.0.2.35"]).shows(&[LENGTH]),
        register("etr-b", &form(sha1, "sha-1-key"), b("192.0.2.36"))
            .confirmed()
            .shows(&[LENGTH]),
        ask("10.2.0.7").forwarded(&["192.0.2.36"]).shows(&[LENGTH]),
        register("etr-b", &key("key-of-site-b"), b("192.0.2.37"))
            .confirmed()
            .shows(&[LENGTH]),
        ask("10.2.0.7").forwarded(&["192.0.2.37"]).shows(&[LENGTH]),
    ]
}

inventory::submit! {
    Case {
        id: "rfc9301::s1_1::weak_algorithms_are_refused",
        title: "A Map-Server whose keys are of HMAC-SHA-256-128 takes neither HMAC-SHA-1-96 nor no authentication under the same secret.",
        topology: TOPOLOGY,
        editions: &[Edition::Rfc9300],
        roles: &["ms"],
        requirements: &[PUBLIC, MUST],
        drive: |drive| run(drive, &weak()),
        judges: &[|trace, findings| judge(trace, findings, &weak())],
        sabotages: &[
            Sabotage {
                name: "takes a weaker code of the same secret",
                node: MS,
                links: &[],
                kills: &[PUBLIC],
                tamper: || edit_incoming(|frame| {
                    frame.edit_signed(&sha256(), |message| match message {
                        ControlMessage::MapRegister(register) => {
                            register.auth = sha256().blank();
                            true
                        }
                        _ => false,
                    });
                }),
            },
            loses_notifies(&[MUST]),
        ],
        ..Case::BASE
    }
}

fn weak() -> Vec<Step> {
    let same_secret = AuthKey::new(0, MacAlgorithm::HmacSha1_96, b"key-of-site-a");
    vec![
        register("etr-a", &same_secret, at("192.0.2.3"))
            .unconfirmed()
            .shows(&[PUBLIC]),
        register("etr-a", &sha256(), at("192.0.2.3"))
            .spoiled(|octets| {
                octets.drain(16..32);
                (octets[13], octets[14], octets[15]) = (0, 0, 0);
            })
            .unconfirmed()
            .shows(&[PUBLIC]),
        ask("10.1.0.7").negative("10.1.0.0/24", 1).shows(&[PUBLIC]),
        register("etr-a", &sha256(), at("192.0.2.2"))
            .confirmed()
            .shows(&[MUST]),
        ask("10.1.0.7").forwarded(&["192.0.2.2"]).shows(&[MUST]),
    ]
}

fn derived() -> AuthKey {
    AuthKey::new(3, MacAlgorithm::HkdfSha256(HkdfReading::Salt32), b"derived")
}

inventory::submit! {
    Case {
        id: "rfc9301::s5_6::a_key_derived_for_each_message",
        title: "A Map-Register under a key derived for the message is taken; its Map-Notify copies nonce, Key ID, Algorithm ID and records, and has a code of its own salt.",
        topology: TOPOLOGY,
        settings: &[(MS, SEVERAL_KEYS)],
        editions: &[Edition::Rfc9300],
        roles: &["ms"],
        requirements: &[HKDF, COPY],
        drive: |drive| run(drive, &hkdf()),
        judges: &[|trace, findings| {
            judge(trace, findings, &hkdf());
            copied(trace, findings);
        }],
        sabotages: &[
            loses_notifies(&[HKDF, COPY]),
            Sabotage {
                name: "confirms under another Key ID",
                node: MS,
                links: &[],
                kills: &[COPY],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapNotify(notify) => {
                        notify.auth.key_id = 1;
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "confirms with a code without a salt of its own",
                node: MS,
                links: &[],
                kills: &[COPY],
                tamper: || edit_outgoing(|frame| {
                    let other = AuthKey::new(3, MacAlgorithm::HmacSha256_128, b"derived");
                    let confirms = matches!(frame.control(), Some(ControlMessage::MapNotify(_)));
                    if confirms && frame.edit_signed(&other, |_| true) {
                        frame.edit_control(|message| match message {
                            ControlMessage::MapNotify(notify) => {
                                notify.auth.algorithm = 3;
                                true
                            }
                            _ => false,
                        });
                    }
                }),
            },
            Sabotage {
                name: "changes a locator that it confirms",
                node: MS,
                links: &[],
                kills: &[COPY],
                tamper: || edit_outgoing(|frame| {
                    frame.edit_signed(&derived(), |message| match message {
                        ControlMessage::MapNotify(notify) => {
                            notify.records[0].locators[0].weight ^= 1;
                            true
                        }
                        _ => false,
                    });
                }),
            },
        ],
        ..Case::BASE
    }
}

fn hkdf() -> Vec<Step> {
    vec![
        register("etr-a", &derived(), at("192.0.2.3"))
            .confirmed()
            .shows(&[HKDF]),
        ask("10.1.0.7").forwarded(&["192.0.2.3"]).shows(&[HKDF]),
    ]
}

fn copied(trace: &Trace, findings: &mut Findings) {
    let (Some(sent), Some(packet)) = (sent(trace, 0), confirmation(trace, 0)) else {
        findings.broken(COPY, Vec::new(), "a Map-Notify", "none");
        return;
    };
    let (Some(register), Some(notify)) = (sent.map_register(), packet.map_notify()) else {
        findings.unseen(COPY, "a Map-Register and a Map-Notify that can be read");
        return;
    };
    let ids = |auth: &lisp::wire::Authentication| (auth.key_id, auth.algorithm);
    findings.check(
        COPY,
        ids(&register.auth) == ids(&notify.auth) && register.records == notify.records,
        [sent, packet],
        format!(
            "{}, and the records of the Map-Register",
            words::key_ids(&register.auth)
        ),
        format!(
            "{}, {}",
            words::key_ids(&notify.auth),
            words::records(&notify.records)
        ),
    );
    let payload = packet
        .udp()
        .map(|udp| udp.payload.clone())
        .unwrap_or_default();
    // What the derivation is exactly is open (ambiguities A3): any reading counts.
    let reading = HkdfReading::ALL.into_iter().find(|reading| {
        let key = AuthKey::new(3, MacAlgorithm::HkdfSha256(*reading), b"derived");
        lisp::auth::verify(&payload, &key, &[]).is_ok()
    });
    findings.check(
        COPY,
        reading.is_some(),
        packet,
        "a code under the key derived with the Map-Notify's salt",
        reading.map_or("no such code".to_owned(), |reading| reading.to_string()),
    );
}
