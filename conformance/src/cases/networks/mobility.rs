//! A host moves from one xTR to another while a third one's site keeps sending to it (RFC 6830 6.6.2; EID mobility).

use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::EidPrefix;
use lisp::wire::ControlMessage;

use super::mobility_steps::{asks, away, follows, is_answered, notified, solicits};
use crate::case::{Case, Timer};
use crate::cases::common::{
    edit_outgoing, incoming, ip, key, lose_incoming, lose_outgoing, outgoing, seconds, without_ecm,
};
use crate::cases::interworking::smr_lab::sabotages::without_s;
use crate::cases::interworking::untunnel;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::sabotage::{Frame, Sabotage, Tamper};
use crate::trace::Seen;

pub(super) const SMR: Req = Req::new("rfc6830-6.6.2-smr-plain");
pub(super) const REACT: Req = Req::new("rfc6830-6.6.2-smr-react");
pub(super) const S_BIT: Req = Req::new("rfc6830-6.1.2-s-bit");
pub(super) const ECM: Req = Req::new("rfc6830-6.1.3-ecm-itr-mr");
pub(super) const FORWARDS: Req = Req::new("rfc6833-4.3-ms-forward");
pub(super) const REPLIES: Req = Req::new("rfc6833-4.3-etr-replies-direct");
pub(super) const KEEP: Req = Req::new("rfc6830-6.6.2-smr-keep-cache");
pub(super) const FOLLOWS: Req = Req::new("rfc6830-3-itr-encap");
pub(super) const DELIVERS: Req = Req::new("rfc6830-3-etr-decap");
pub(super) const NOTIFIES_OLD: Req = Req::new("eidmob01-4.2.3-notify-old");
pub(super) const AWAY: Req = Req::new("eidmob01-4.1.2-old-etr-away");
pub(super) const AWAY_SMR: Req = Req::new("eidmob01-4.2.4-away-smr");
pub(super) const RESOLVES: Req = Req::new("eidmob01-4.1.2-itr-resolve");

pub(super) const MOBILE: &str = "10.1.0.10";
pub(super) const HOST_B: &str = "10.2.0.10";
pub(super) const OLD: &str = "192.0.2.2";
pub(super) const NEW: &str = "192.0.2.6";
pub(super) const SENDER: &str = "192.0.2.10";
pub(super) const MS: &str = "198.51.100.10";
pub(super) const MOVES: &str = "the host moves";

/// What the sequence of RFC 6830 6.6.2 consists of, whatever made the host move.
const STEPS: &[Req] = &[
    SMR, REACT, S_BIT, ECM, FORWARDS, REPLIES, KEEP, FOLLOWS, DELIVERS,
];

const REGISTERS: &[Timer] = &[Timer {
    node: "xtr-1",
    name: "register-interval",
    text: Duration::from_secs(60),
    short: Duration::from_secs(2),
}];

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_2::traffic_follows_a_prefix_to_another_xtr",
        title: "An EID-Prefix is configured at another xTR: data still goes to the old one, which solicits a Map-Request; it reaches the new one, and traffic follows its answer.",
        topology: "mobility",
        settings: &[
            ("xtr-1", HERE_1),
            ("xtr-2", "eid-prefixes: [{prefix: 10.3.0.0/24, locators: [{address: 192.0.2.6, priority: 1, weight: 100}]}]"),
        ],
        roles: &["itr", "etr", "ms"],
        requirements: STEPS,
        timeout: seconds(60),
        drive: drive_prefix,
        judges: &[solicits, asks, is_answered, follows],
        sabotages: &[
            Sabotage {
                name: "swallows the SMR",
                node: "xtr-1",
                links: &["core-1"],
                kills: &[SMR],
                tamper: || lose_outgoing(is_smr),
            },
            WITHOUT_S, WITHOUT_ECM, FORGETS, DISBELIEVES, FORWARDS_BACK, SILENT, DELIVERS_NOTHING,
            Sabotage {
                name: "stays with the old locator",
                node: "xtr-b",
                links: &["core-b"],
                kills: &[FOLLOWS],
                tamper: || incoming(|message| match message {
                    ControlMessage::MapReply(reply) => {
                        for locator in reply.records.iter_mut().flat_map(|record| &mut record.locators) {
                            locator.rloc = lisp::Address::from_eid(0, ip(OLD));
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

const HERE_1: &str = "eid-prefixes: [{prefix: 10.1.0.0/24, locators: [{address: 192.0.2.2, priority: 1, weight: 100}]}]";
const GONE_1: &str = "eid-prefixes: [{prefix: 10.3.0.0/24, locators: [{address: 192.0.2.2, priority: 1, weight: 100}]}]";
const HERE_2: &str = "eid-prefixes: [{prefix: 10.1.0.0/24, locators: [{address: 192.0.2.6, priority: 1, weight: 100}]}]";

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_2::traffic_follows_a_host_of_a_dynamic_prefix",
        title: "A host of an EID-Prefix that two xTRs share is seen behind the other one and registered there; the Map-Server tells the old one, which solicits the senders.",
        topology: "mobility",
        timers: REGISTERS,
        roles: &["itr", "etr", "ms"],
        features: &["mobility"],
        requirements: &[
            SMR, REACT, S_BIT, ECM, FORWARDS, REPLIES, KEEP, FOLLOWS, DELIVERS, NOTIFIES_OLD, AWAY, AWAY_SMR, RESOLVES,
        ],
        timeout: seconds(150),
        drive: drive_host,
        judges: &[solicits, asks, is_answered, follows, notified, away],
        sabotages: &[
            Sabotage {
                name: "tells the old place nothing",
                node: "msmr",
                links: &[],
                kills: &[NOTIFIES_OLD],
                tamper: || lose_outgoing(|frame| {
                    frame.ip().is_some_and(|packet| packet.destination == ip(OLD))
                        && matches!(frame.control(), Some(ControlMessage::MapNotify(notify))
                            if notify.records.iter().any(|record| record.eid_prefix() == Some(host())))
                }),
            },
            Sabotage {
                name: "goes on registering the host",
                node: "xtr-1",
                links: &["core-1"],
                kills: &[AWAY],
                tamper: || edit_outgoing(|frame| {
                    frame.edit_signed(&key("key-of-mobile"), |message| match message {
                        ControlMessage::MapRegister(register) if register.records.len() == 1 => {
                            let mut record = register.records[0].clone();
                            let address = lisp::Address::from_eid(0, ip(MOBILE));
                            (record.eid_mask_len, record.eid) = (32, address);
                            register.records.push(record);
                            true
                        }
                        _ => false,
                    });
                }),
            },
            Sabotage {
                name: "solicits for the whole prefix of others",
                node: "xtr-1",
                links: &["core-1"],
                kills: &[AWAY_SMR],
                tamper: || outgoing(|message| match message {
                    ControlMessage::MapRequest(request) if request.smr => {
                        request.records[0] = lisp::wire::EidQuery::new(crate::cases::common::prefix("10.1.0.0/24"));
                        true
                    }
                    _ => false,
                }),
            },
            Sabotage {
                kills: &[REACT, RESOLVES],
                ..DISBELIEVES
            },
            WITHOUT_S, WITHOUT_ECM, FORGETS, FORWARDS_BACK, SILENT, DELIVERS_NOTHING,
        ],
        ..Case::BASE
    }
}

/// Of the site that sends.
const WITHOUT_S: Sabotage = of_sender("asks without the s bit", &[S_BIT], without_s);
const WITHOUT_ECM: Sabotage = of_sender("asks without encapsulation", &[ECM], without_ecm);
const DISBELIEVES: Sabotage = of_sender("does not believe in SMRs", &[REACT], || {
    lose_incoming(is_smr)
});
const FORGETS: Sabotage = of_sender(
    "forgets the mapping as soon as it is solicited",
    &[KEEP],
    forgets,
);
/// Of the mapping system.
const FORWARDS_BACK: Sabotage = Sabotage {
    name: "forwards Map-Requests to where the host was",
    node: "msmr",
    links: &[],
    kills: &[FORWARDS],
    tamper: || {
        edit_outgoing(|frame| {
            if asks_for_host(frame) {
                frame.edit_addresses(|header| {
                    if let lisp::ip::IpHeader::V4(v4) = header {
                        v4.destination = std::net::Ipv4Addr::new(192, 0, 2, 2);
                    }
                    true
                });
            }
        })
    },
};
/// Of the site to which the host comes.
const SILENT: Sabotage = Sabotage {
    name: "does not answer",
    node: "xtr-2",
    links: &["core-2"],
    kills: &[REPLIES],
    tamper: || lose_outgoing(|frame| matches!(frame.control(), Some(ControlMessage::MapReply(_)))),
};
const DELIVERS_NOTHING: Sabotage = Sabotage {
    name: "does not decapsulate for the newcomer",
    node: "xtr-2",
    links: &["place-2"],
    kills: &[DELIVERS],
    tamper: || {
        lose_outgoing(|frame| {
            let ip = frame.ip();
            let icmp = ip.as_ref().and_then(|ip| ip.icmp());
            icmp.is_some_and(|icmp| icmp.is_echo_request() || icmp.is_echo_reply())
        })
    },
};

const fn of_sender(name: &'static str, kills: &'static [Req], tamper: fn() -> Tamper) -> Sabotage {
    Sabotage {
        name,
        node: "xtr-b",
        links: &["core-b"],
        kills,
        tamper,
    }
}

/// From an SMR to the Map-Reply, which is asked for half a second later than it was, data leaves without a tunnel.
fn forgets() -> Tamper {
    let mut asking = false;
    Box::new(move |way, frame| {
        if way == Way::ToVictim {
            let answer = matches!(frame.control(), Some(ControlMessage::MapReply(_)));
            asking = (asking || is_smr(frame)) && !answer;
            return PacketFate::Forward;
        }
        if asking {
            untunnel(frame);
            if asks_for_host(frame) {
                return PacketFate::Delay(Duration::from_millis(500));
            }
        }
        PacketFate::Forward
    })
}

/// Whether a packet is an Encapsulated Map-Request about the mobile host.
fn asks_for_host(frame: &Frame<'_>) -> bool {
    let Some(ControlMessage::Encapsulated(ecm)) = frame.control() else {
        return false;
    };
    let message = ecm.decode_inner().map(|inner| *inner.message);
    let Ok(ControlMessage::MapRequest(request)) = message else {
        return false;
    };
    let mut asked = request.records.iter().filter_map(|query| query.prefix());
    asked.any(|asked| asked.covers(&host()))
}

pub(super) fn host() -> EidPrefix {
    EidPrefix::host(0, ip(MOBILE))
}

fn is_smr(frame: &Frame<'_>) -> bool {
    matches!(frame.control(), Some(ControlMessage::MapRequest(request)) if request.smr)
}

/// The host loses its place behind xTR 1 and gets one behind xTR 2.
fn moves(drive: &Drive<'_>) -> Result<u64, Stop> {
    let moved = drive.mark(MOVES);
    let commands = "ip link set first down && ip address del 10.1.0.10/24 dev first && \
                    ip address add 10.1.0.10/24 dev second && ip route replace default via 10.1.0.1 dev second";
    let output = drive
        .lab()
        .exec("mobile", ["sh", "-c", commands], seconds(5))?;
    if !output.exit.success() {
        return Err(Stop::Untestable(format!(
            "the host cannot move: {}",
            output.stderr_text().trim()
        )));
    }
    // Nobody knows yet: what is sent now goes to the old place.
    drive.ping("host-b", ip(MOBILE), 1000, Duration::from_millis(100))?;
    Ok(moved)
}

/// host-b pings the mobile host, ten times a second while no answer comes, until one does.
fn pings(drive: &Drive<'_>, first: u16, within: Duration) -> Result<(), Stop> {
    let each = Duration::from_millis(100);
    let times = u16::try_from(within.as_millis() / each.as_millis()).unwrap_or(u16::MAX);
    for sequence in first..first.saturating_add(times) {
        if drive.ping("host-b", ip(MOBILE), sequence, each)? {
            break;
        }
    }
    Ok(())
}

fn drive_prefix(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-1", "xtr-b"], seconds(10))?;
    pings(drive, 1, seconds(5))?;
    let moved = moves(drive)?;
    // Made there before it is broken here: the mapping system always knows one place.
    drive.reload("xtr-2", HERE_2)?;
    let what = "the registration of the prefix at its new place";
    drive.wait_for(moved, what, seconds(10), |packet| {
        packet.receiver() == Some("msmr")
            && packet.source() == Some(ip(NEW))
            && packet.map_register().is_some_and(|register| {
                let mut prefixes = register.records.iter().filter_map(|r| r.eid_prefix());
                prefixes.any(|prefix| prefix.covers(&host()))
            })
    })?;
    drive.reload("xtr-1", GONE_1)?;
    pings(drive, 1001, seconds(20))
}

fn drive_host(drive: &mut Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-1", "xtr-2", "xtr-b"], seconds(10))?;
    // A host is known where it sends.
    for sequence in 1..=20 {
        if drive.ping("mobile", ip(HOST_B), sequence, Duration::from_millis(500))? {
            break;
        }
    }
    drive.wait_for(0, "the host registered by xtr-1", seconds(5), |packet| {
        packet.receiver() == Some("msmr") && registers_host(packet, OLD)
    })?;
    pings(drive, 101, seconds(5))?;
    let moved = moves(drive)?;
    drive.ping("mobile", ip(HOST_B), 501, Duration::from_millis(100))?;
    pings(drive, 1001, seconds(20))?;
    // The fence: what xTR 1 still registers shows in its next periodic Map-Register.
    let notified = drive
        .packets(moved)
        .iter()
        .find(|packet| is_told(packet))
        .map_or(moved, Seen::time_ns);
    let interval = drive.timer("xtr-1", "register-interval");
    let what = "the next Map-Register of xtr-1";
    drive.wait_for(notified + 1, what, interval * 2 + seconds(5), |packet| {
        packet.sender() == Some("xtr-1") && packet.map_register().is_some()
    })?;
    Ok(())
}

pub(super) fn registers_host(packet: &Seen, from: &str) -> bool {
    packet.source() == Some(ip(from))
        && packet.map_register().is_some_and(|register| {
            let mut records = register.records.iter();
            records.any(|r| r.eid_prefix() == Some(host()) && r.ttl != 0 && !r.locators.is_empty())
        })
}

/// The Map-Server tells xTR 1 that the host is elsewhere.
pub(super) fn is_told(packet: &Seen) -> bool {
    packet.receiver() == Some("xtr-1")
        && packet.map_notify().is_some_and(|notify| {
            notify.records.iter().any(|record| {
                record.eid_prefix() == Some(host())
                    && record.locators.iter().any(|l| l.rloc.ip() == Some(ip(NEW)))
            })
        })
}
