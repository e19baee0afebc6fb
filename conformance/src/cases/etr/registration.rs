//! Map-Registers of an ETR: form, keys, several Map-Servers (RFC 6830 6.1.6, RFC 6833 4.2).

use harness::inline::{PacketFate, Way};
use lisp::EidPrefix;
use lisp::auth::{AuthKey, MacAlgorithm};
use lisp::wire::{ControlMessage, MapRegister};

use super::common::*;
use crate::case::Case;
use crate::cases::common::{ip, outgoing};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::{Sabotage, Tamper};
use crate::trace::{Seen, Trace};
use crate::words;

const PORTS: Req = Req::new("rfc6830-6.1.6-ports");
const M_BIT: Req = Req::new("rfc6830-6.1.6-m-bit");
const P_BIT: Req = Req::new("rfc6830-6.1.6-p-bit");
const PROXY_SET: Req = Req::new("rfc6833-4.2-proxy-set");
const RESERVED: Req = Req::new("rfc6830-6.1.6-reserved");
const NONCE_ZERO: Req = Req::new("rfc6830-6.1.6-nonce-zero");
const KEY_ID: Req = Req::new("rfc6830-6.1.6-keyid-field");
const LENGTH: Req = Req::new("rfc6830-6.1.6-auth-len");
const COVERAGE: Req = Req::new("rfc6830-6.1.6-mac-coverage");
const SHA_1: Req = Req::new("rfc6830-6.1.6-sha1-must");
const SHA_256: Req = Req::new("rfc6830-6.1.6-sha256-rec");
const SHA_256_MUST: Req = Req::new("rfc9301-5.6-alg-sha256-must");
const SHARED_KEY: Req = Req::new("rfc6833-4.2-auth-config");
const LEAVING: Req = Req::new("rfc6833-4.2-reg-on-change");

/// The Map-Servers of the settings below, and what each of them is to be told.
struct Server {
    address: &'static str,
    secret: &'static [u8],
    algorithm: MacAlgorithm,
    want_map_notify: bool,
    proxy_reply: bool,
}

const SERVERS: [Server; 3] = [
    Server {
        address: "198.51.100.10",
        secret: b"key-of-site",
        algorithm: MacAlgorithm::HmacSha256_128,
        want_map_notify: true,
        proxy_reply: false,
    },
    Server {
        address: "198.51.100.11",
        secret: b"another-key",
        algorithm: MacAlgorithm::HmacSha1_96,
        want_map_notify: false,
        proxy_reply: true,
    },
    Server {
        address: "198.51.100.12",
        secret:
            b"a third key, which is longer than the block of sixty-four octets that HMAC works on",
        algorithm: MacAlgorithm::HmacSha256_128,
        want_map_notify: false,
        proxy_reply: false,
    },
];

impl Server {
    fn key(&self) -> AuthKey {
        AuthKey::new(0, self.algorithm, self.secret)
    }
}

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_6::map_registers_to_several_map_servers",
        title: "Each Map-Server gets Map-Registers with all EID-Prefixes, made with its own key and algorithm, its own M and P bits, to port 4342, from a port that changes with a restart.",
        topology: TOPOLOGY,
        settings: &[(ETR, "map-servers: [
            {address: 198.51.100.10, key: key-of-site, want-map-notify: true},
            {address: 198.51.100.11, key: another-key, algorithm: hmac-sha-1-96, want-map-notify: false, proxy-reply: true},
            {address: 198.51.100.12, key: 'a third key, which is longer than the block of sixty-four octets that HMAC works on', want-map-notify: false}]")],
        start: false,
        roles: &["etr"],
        requirements: &[
            PORTS, M_BIT, P_BIT, PROXY_SET, RESERVED, NONCE_ZERO, KEY_ID, LENGTH, COVERAGE, SHA_1, SHA_256, SHA_256_MUST,
            SHARED_KEY, LEAVING,
        ],
        drive: start_three_times,
        judges: &[well_formed, from_other_ports],
        sabotages: &[
            Sabotage {
                name: "registers from port 4342",
                node: ETR,
                links: &["rloc"],
                kills: &[PORTS],
                tamper: || on_registers(|frame| {
                    frame.edit_udp_ports(|ports, _| {
                        ports.0 = lisp::CONTROL_PORT;
                        true
                    });
                }),
            },
            resigned("clears M", &[M_BIT], || signed_again(|register| register.want_map_notify = false)),
            resigned("sets P for everybody", &[P_BIT], || signed_again(|register| register.proxy_reply = true)),
            resigned("registers its own locators alone for a proxy", &[PROXY_SET], || signed_again(|register| {
                register.records.iter_mut().for_each(|record| record.locators.truncate(1));
            })),
            resigned("sets a reserved bit", &[RESERVED], || signed_again(|register| register.reserved = 1)),
            resigned("names another key", &[KEY_ID], || outgoing(|message| match message {
                ControlMessage::MapRegister(register) => {
                    register.auth.key_id = 7;
                    true
                }
                _ => false,
            })),
            resigned("registers with a nonce", &[NONCE_ZERO], || signed_again(|register| register.nonce = 77)),
            resigned("leaves out an EID-Prefix", &[SHARED_KEY], || signed_again(|register| register.records.truncate(1))),
            resigned("uses one key for all", &[SHARED_KEY], || on_registers(|frame| {
                frame.edit_signed(&SERVERS[0].key(), |_| true);
            })),
            resigned("spoils the MAC", &[COVERAGE], || on_registers(|frame| {
                frame.edit_control(|message| match message {
                    ControlMessage::MapRegister(register) => {
                        register.auth.data[3] ^= 4;
                        true
                    }
                    _ => false,
                });
            })),
            resigned("sends the whole SHA-1", &[LENGTH], || on_registers(|frame| {
                frame.edit_control(|message| match message {
                    ControlMessage::MapRegister(register) if register.auth.algorithm == 1 => {
                        register.auth.data.resize(20, 0);
                        true
                    }
                    _ => false,
                });
            })),
        ],
        ..Case::BASE
    }
}

pub(super) const fn resigned(
    name: &'static str,
    kills: &'static [Req],
    tamper: fn() -> Tamper,
) -> Sabotage {
    Sabotage {
        name,
        node: ETR,
        links: &["rloc"],
        kills,
        tamper,
    }
}

fn on_registers(change: fn(&mut crate::sabotage::Frame<'_>)) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim && matches!(frame.control(), Some(ControlMessage::MapRegister(_)))
        {
            change(frame);
        }
        PacketFate::Forward
    })
}

/// Changes Map-Registers, and makes their MACs again with the key of the Map-Server that they go to.
pub(super) fn signed_again(change: fn(&mut MapRegister)) -> Tamper {
    Box::new(move |way, frame| {
        let to = frame.ip().map(|ip| ip.destination);
        let server = SERVERS.iter().find(|server| Some(ip(server.address)) == to);
        if let Some(server) = server.filter(|_| way == Way::FromVictim) {
            frame.edit_signed(&server.key(), |message| match message {
                ControlMessage::MapRegister(register) => {
                    change(register);
                    true
                }
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

fn start_three_times(drive: &mut Drive) -> Result<(), Stop> {
    let mut net = Net::peers(drive)?;
    net.mapping.respond(|ip, lisp| confirm(ip, lisp, &[MS]))?;
    for run in 1..=3 {
        let begin = drive.mark(&format!("start {run}"));
        drive.start(ETR)?;
        for server in &SERVERS {
            let what = format!("a Map-Register at {}", server.address);
            drive.wait_for(begin, &what, SOON, |packet| {
                packet.receiver() == Some("mapping")
                    && packet.destination() == Some(ip(server.address))
                    && packet
                        .udp()
                        .is_some_and(|udp| udp.payload.first().is_some_and(|first| first >> 4 == 3))
            })?;
        }
        if run < 3 {
            drive.mark(&format!("stop {run}"));
            drive.stop(ETR)?;
        }
    }
    Ok(())
}

fn registers_at<'a>(trace: &'a Trace, server: &Server) -> Vec<&'a Seen> {
    registers(trace)
        .into_iter()
        .filter(|packet| packet.destination() == Some(ip(server.address)))
        .collect()
}

fn well_formed(trace: &Trace, findings: &mut Findings) {
    let expected: Vec<EidPrefix> = trace.eid_prefixes_of(ETR);
    for server in &SERVERS {
        let all = registers_at(trace, server);
        if all.is_empty() {
            findings.broken(
                PORTS,
                Vec::new(),
                format!("Map-Registers to {}", server.address),
                "none",
            );
        }
        let living = all.iter().filter(|packet| {
            packet
                .map_register()
                .is_some_and(|register| register.records.iter().any(|record| record.ttl != 0))
        });
        for packet in living {
            let Some(register) = packet.map_register() else {
                continue;
            };
            register_form(packet, register, server, findings);
            let said: Vec<EidPrefix> = register
                .records
                .iter()
                .filter_map(|record| record.eid_prefix())
                .collect();
            findings.check(
                SHARED_KEY,
                expected.iter().all(|prefix| said.contains(prefix)),
                *packet,
                format!("a record for each of {}", words::listed(&expected)),
                words::listed(&said),
            );
        }
        let withdrawn = trace.between("stop 1", "start 2").any(|packet| {
            packet.sender() == Some(ETR)
                && packet.destination() == Some(ip(server.address))
                && packet.map_register().is_some_and(|register| {
                    !register.records.is_empty()
                        && register.records.iter().all(|record| record.ttl == 0)
                })
        });
        // TTL 0 over UDP is everybody's practice and nobody's text (ambiguities A10).
        let said = if withdrawn {
            "withdrawn with TTL 0"
        } else {
            "not withdrawn"
        };
        findings.recorded(
            LEAVING,
            all.last().copied(),
            format!("{}: the registration was {said} on exit", server.address),
        );
    }
}

fn register_form(packet: &Seen, register: &MapRegister, server: &Server, findings: &mut Findings) {
    let port = packet.udp().map_or(0, |udp| udp.destination_port);
    findings.check(
        PORTS,
        port == 4342,
        packet,
        "destination port 4342",
        port.to_string(),
    );
    let bit = |set: bool| u8::from(set);
    findings.check(
        M_BIT,
        register.want_map_notify == server.want_map_notify,
        packet,
        format!(
            "M = {} as configured for {}",
            bit(server.want_map_notify),
            server.address
        ),
        format!("M = {}", bit(register.want_map_notify)),
    );
    findings.check(
        P_BIT,
        register.proxy_reply == server.proxy_reply,
        packet,
        format!(
            "P = {} as configured for {}",
            bit(server.proxy_reply),
            server.address
        ),
        format!("P = {}", bit(register.proxy_reply)),
    );
    if server.proxy_reply {
        let fewest = register
            .records
            .iter()
            .map(|record| record.locators.len())
            .min()
            .unwrap_or(0);
        findings.check(
            PROXY_SET,
            fewest == 4,
            packet,
            "all 4 locators of the site",
            format!("{fewest} locators"),
        );
    }
    let newer = register.security
        || register.eid_notify
        || register.use_ttl
        || register.merge
        || register.rtr;
    findings.check(
        RESERVED,
        register.reserved == 0 && !newer,
        packet,
        "reserved bits 0",
        format!("{:#x}", register.reserved),
    );
    findings.check(
        NONCE_ZERO,
        register.nonce == 0,
        packet,
        "nonce 0",
        format!("nonce {:#x}", register.nonce),
    );
    let id = u16::from_be_bytes([register.auth.key_id, register.auth.algorithm]);
    let (name, number, length) = match server.algorithm {
        MacAlgorithm::HmacSha1_96 => ("HMAC-SHA-1-96", 1, 12),
        _ => ("HMAC-SHA-256-128", 2, 16),
    };
    findings.check(
        KEY_ID,
        id == number,
        packet,
        format!("Key ID {number} for {name}"),
        format!("Key ID {id}"),
    );
    findings.check(
        LENGTH,
        register.auth.data.len() == length,
        packet,
        format!("{length} octets for {name}"),
        format!("{} octets", register.auth.data.len()),
    );
    let octets = packet
        .udp()
        .map(|udp| udp.payload.as_slice())
        .unwrap_or_default();
    let right = lisp::auth::verify(octets, &server.key(), &[server.algorithm]);
    let said = right
        .as_ref()
        .map_or_else(ToString::to_string, |()| "a right MAC".to_owned());
    let of_algorithm: &[Req] = match server.algorithm {
        MacAlgorithm::HmacSha1_96 => &[SHA_1],
        _ => &[SHA_256, SHA_256_MUST],
    };
    for requirement in [COVERAGE, SHARED_KEY].iter().chain(of_algorithm) {
        findings.check(
            *requirement,
            right.is_ok(),
            packet,
            format!(
                "a {name} over the whole message with the key of {}",
                server.address
            ),
            said.clone(),
        );
    }
}

/// Three starts from one random port each are all the same less than once in 10^8.
fn from_other_ports(trace: &Trace, findings: &mut Findings) {
    let first: Vec<&Seen> = (1..=3)
        .filter_map(|run| {
            trace
                .since(&format!("start {run}"))
                .find(|packet| packet.sender() == Some(ETR) && packet.map_register().is_some())
        })
        .collect();
    let ports: Vec<u16> = first
        .iter()
        .filter_map(|packet| Some(packet.udp()?.source_port))
        .collect();
    let same = ports.windows(2).all(|pair| pair[0] == pair[1]);
    findings.check(
        PORTS,
        ports.len() == 3 && !same,
        &first,
        "source ports that vary from start to start",
        format!("source ports {}", words::listed(ports)),
    );
}
