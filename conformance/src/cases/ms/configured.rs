//! What an operator changes while the Map-Server runs: a site's key, a site that goes, a site that comes.

use lisp::wire::{ControlMessage, MapRecord};

use super::common::*;
use super::script::{Step, act, ask, judge, nonce, register, run};
use crate::case::Case;
use crate::cases::common::{edit_incoming, ip, key, locator, lose_outgoing, outgoing, record};
use crate::catalogue::Req;
use crate::sabotage::Sabotage;

const NO_NOTIFY: Req = Req::new("rfc6833-4.2-no-notify-bad-auth");
const NOTIFY: Req = Req::new("rfc6833-4.2-want-notify");
const FORWARD: Req = Req::new("rfc6833-4.3-ms-forward");
const NOMATCH: Req = Req::new("rfc6833-4.3-ms-nomatch");

const NEW_KEY: &str = "new-key-of-site-a";

/// Site a has another key.
const CHANGED: &str =
    "sites: [{name: site-a, key: new-key-of-site-a, eid-prefixes: [{prefix: 10.1.0.0/24}]},
  {name: site-b, key: key-of-site-b, eid-prefixes: [{prefix: 10.2.0.0/16}]}]";
/// Site a is gone, site d is new.
const OTHERS: &str =
    "sites: [{name: site-b, key: key-of-site-b, eid-prefixes: [{prefix: 10.2.0.0/16}]},
  {name: site-d, key: key-of-site-d, eid-prefixes: [{prefix: 10.4.0.0/24}]}]";

/// Steps that the sabotages aim at.
const OLD_KEY: usize = 4;
const NEW_SITE: usize = 9;

inventory::submit! {
    Case {
        id: "rfc6833::s4_3::configuration_changes_while_it_runs",
        title: "A changed key, a site that goes and a site that comes count from the moment that the configuration is read again.",
        topology: TOPOLOGY,
        roles: &["ms"],
        requirements: &[NO_NOTIFY, NOTIFY, FORWARD, NOMATCH],
        drive: |drive| run(drive, &changes()),
        judges: &[|trace, findings| judge(trace, findings, &changes())],
        sabotages: &[
            Sabotage {
                name: "goes on with the key that was taken away",
                node: MS,
                links: &[],
                kills: &[NO_NOTIFY],
                tamper: || edit_incoming(|frame| {
                    frame.edit_signed(&key(NEW_KEY), |message| {
                        matches!(message, ControlMessage::MapRegister(register) if register.nonce == nonce(OLD_KEY))
                    });
                }),
            },
            Sabotage {
                name: "does not confirm the new site",
                node: MS,
                links: &[],
                kills: &[NOTIFY],
                tamper: || lose_outgoing(|frame| matches!(
                    frame.control(), Some(ControlMessage::MapNotify(notify)) if notify.nonce == nonce(NEW_SITE)
                )),
            },
            Sabotage {
                name: "hands nothing on to the new site",
                node: MS,
                links: &[],
                kills: &[FORWARD],
                tamper: || lose_outgoing(|frame| match frame.control() {
                    Some(ControlMessage::Encapsulated(ecm)) => {
                        ecm.decode_inner().is_ok_and(|inner| inner.destination == ip("10.4.0.7"))
                    }
                    _ => false,
                }),
            },
            Sabotage {
                name: "takes the site that went for one that is silent",
                node: MS,
                links: &[],
                kills: &[NOMATCH],
                tamper: || outgoing(|message| on_records(message, |record| {
                    if record.locators.is_empty() {
                        record.ttl = 1;
                    }
                })),
            },
        ],
        ..Case::BASE
    }
}

fn mapping(prefix: &str, rloc: &str) -> Vec<MapRecord> {
    vec![record(prefix, vec![locator(rloc, 1, 100)])]
}

fn changes() -> Vec<Step> {
    let site_a =
        |secret: &str| register("etr-a", &key(secret), mapping("10.1.0.0/24", "192.0.2.2"));
    vec![
        site_a("key-of-site-a").confirmed(),
        ask("10.1.0.7").forwarded(&["192.0.2.2"]).shows(&[FORWARD]),
        act(|drive| drive.reload(MS, CHANGED)),
        // Whether what the old key registered lasts until it expires is open.
        ask("10.1.0.7").records(&[FORWARD]),
        site_a("key-of-site-a").unconfirmed().shows(&[NO_NOTIFY]),
        site_a(NEW_KEY).confirmed().shows(&[NOTIFY]),
        ask("10.1.0.7").forwarded(&["192.0.2.2"]).shows(&[FORWARD]),
        act(|drive| drive.reload(MS, OTHERS)),
        ask("10.1.0.7")
            .negative("10.0.0.0/15", 15)
            .shows(&[NOMATCH]),
        register(
            "etr-b",
            &key("key-of-site-d"),
            mapping("10.4.0.0/24", "192.0.2.34"),
        )
        .confirmed()
        .shows(&[NOTIFY]),
        ask("10.4.0.7").forwarded(&["192.0.2.34"]).shows(&[FORWARD]),
    ]
}
