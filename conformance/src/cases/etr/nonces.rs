//! What the nonce field of data packets makes an ETR do: echoes and map-versions (RFC 6830 6.3.1, 6.6.3).

use harness::inline::{PacketFate, Way};
use lisp::wire::{ControlMessage, DataHeader};

use super::common::*;
use super::packets::{Outer, echo, inner_of, tunnelled, wait_delivered};
use crate::case::Case;
use crate::cases::common::{locator, mapping_system, record};
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Peer, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};
use crate::words;

const ECHO: Req = Req::new("rfc6830-6.3.1-en-echo");
const ASKED: Req = Req::new("rfc6830-5.3-e-request");
const NEEDS_N: Req = Req::new("rfc6830-5.3-e-needs-n");
const FORWARDED: Req = Req::new("rfc6830-6.3.1-en-forward");

const WITHOUT_N: u32 = 0x00ba_dbad;
const WANTED: u32 = 0x00ab_cdef;
const E_ALONE: u16 = 701;
const N_AND_E: u16 = 702;
/// Sequence numbers of what the site sends.
const TO_LEARN: u16 = 710;
const AFTER_E_ALONE: u16 = 711;
const AFTER_N_AND_E: u16 = 712;

inventory::submit! {
    Case {
        id: "rfc6830::s6_3_1::requested_nonce_is_echoed",
        title: "With echo-nonce in use, the next packet back to an ITR that set N and E carries its nonce with N and without E; E without N asks for nothing.",
        topology: TOPOLOGY,
        settings: &[(ETR, "echo-nonce: true")],
        start: false,
        roles: &["etr"],
        features: &["echo-nonce"],
        requirements: &[ECHO, ASKED, NEEDS_N, FORWARDED],
        drive: |drive| {
            let site = correspond(drive)?;
            let e_alone = DataHeader { echo_request: true, raw_nonce: WITHOUT_N, ..DataHeader::default() };
            site.to_site(drive, &e_alone, E_ALONE)?;
            site.send_from_site(drive, AFTER_E_ALONE)?;
            let both = DataHeader { echo_request: true, nonce: Some(WANTED), raw_nonce: WANTED, ..DataHeader::default() };
            site.to_site(drive, &both, N_AND_E)?;
            site.send_from_site(drive, AFTER_N_AND_E)
        },
        judges: &[echoed],
        sabotages: &[
            Sabotage {
                name: "does not echo",
                node: ETR,
                links: &["rloc"],
                kills: &[ECHO, ASKED],
                tamper: || on_data(|header| header.nonce = None),
            },
            Sabotage {
                name: "echoes without being asked",
                node: ETR,
                links: &["rloc"],
                kills: &[NEEDS_N],
                tamper: || on_data(|header| header.nonce = Some(WITHOUT_N)),
            },
            Sabotage {
                name: "keeps packets with E to itself",
                node: ETR,
                links: &["site"],
                kills: &[FORWARDED],
                tamper: || swallow(|frame| frame.ip().and_then(|ip| Some(ip.icmp()?.echo().1)) == Some(N_AND_E)),
            },
        ],
        ..Case::BASE
    }
}

fn on_data(change: fn(&mut DataHeader)) -> crate::sabotage::Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim {
            frame.edit_data(|header, _| {
                change(header);
                header.raw_nonce = header.nonce.unwrap_or(0);
                true
            });
        }
        PacketFate::Forward
    })
}

/// A site that has just sent data to a remote one.
struct Correspondents {
    net: Net,
    host: Peer,
}

fn correspond(drive: &mut Drive) -> Result<Correspondents, Stop> {
    let mut net = Net::peers(drive)?;
    mapping_system(&mut net.mapping, "key-of-site", |_| {
        vec![record("10.2.0.0/16", vec![locator("192.0.2.34", 1, 100)])]
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
    let site = Correspondents { net, host };
    site.send_from_site(drive, TO_LEARN)?;
    Ok(site)
}

impl Correspondents {
    fn to_site(&self, drive: &Drive, header: &DataHeader, sequence: u16) -> Result<(), Stop> {
        let packet = tunnelled(Outer::to(RLOC), header, &echo(HOST, sequence));
        self.net.itr.send(&packet)?;
        wait_delivered(drive, sequence)
    }

    fn send_from_site(&self, drive: &Drive, sequence: u16) -> Result<(), Stop> {
        self.host.send(&Echo::new(HOST, REMOTE, sequence).reply())?;
        let what = format!("data packet {sequence} of the site");
        drive.wait_for(0, &what, SOON, |packet| is_outgoing(packet, sequence))?;
        Ok(())
    }
}

fn is_outgoing(packet: &Seen, sequence: u16) -> bool {
    packet.sender() == Some(ETR)
        && packet
            .data()
            .and_then(|(_, inner)| inner.icmp())
            .is_some_and(|icmp| icmp.echo().1 == sequence)
}

/// The data packet of the ETR that answers a request of a nonce: the first with a nonce since that came, up to the answer
/// that the case waited for; or that answer. What the ETR held for its mapping may leave in between, and be the next one.
fn answer_to<'t>(trace: &'t Trace, request: &Seen, last: u16) -> Option<&'t Seen> {
    let last = trace.iter().find(|packet| is_outgoing(packet, last))?;
    let between = request.time_ns()..=last.time_ns();
    let with_nonce = trace.sent_by(ETR).find(|packet| {
        between.contains(&packet.time_ns())
            && packet
                .data()
                .is_some_and(|(header, _)| header.nonce.is_some())
    });
    with_nonce.or(Some(last))
}

fn echoed(trace: &Trace, findings: &mut Findings) {
    for (requirements, request, answer) in [
        (&[NEEDS_N][..], E_ALONE, AFTER_E_ALONE),
        (&[ECHO, ASKED][..], N_AND_E, AFTER_N_AND_E),
    ] {
        let sent = inner_of(trace, request);
        let back = sent.and_then(|sent| answer_to(trace, sent, answer));
        let (Some(sent), Some(back)) = (sent, back) else {
            for requirement in requirements {
                findings.unseen(*requirement, "a packet with E and one back");
            }
            continue;
        };
        let Some((header, _)) = back.data() else {
            continue;
        };
        let (right, expected) = if request == N_AND_E {
            (
                header.nonce == Some(WANTED) && !header.echo_request,
                format!("N = 1, E = 0, nonce {WANTED:#x}"),
            )
        } else {
            (
                header.nonce != Some(WITHOUT_N),
                "no echo of what stood there without N".to_owned(),
            )
        };
        let seen = format!(
            "nonce {}, E = {}",
            words::nonce(header.nonce),
            u8::from(header.echo_request)
        );
        for requirement in requirements {
            findings.check(
                *requirement,
                right,
                [sent, back],
                expected.clone(),
                seen.clone(),
            );
        }
    }
    match (
        inner_of(trace, N_AND_E),
        super::packets::delivered(trace, N_AND_E),
    ) {
        (None, _) => findings.unseen(FORWARDED, "a packet with N and E"),
        (Some(sent), None) => findings.broken(
            FORWARDED,
            sent,
            "delivered like any other",
            "it did not come out",
        ),
        (Some(sent), Some(out)) => findings.met(FORWARDED, [sent, out], "delivered"),
    }
}

const OLD_VERSION: Req = Req::new("rfc6830-6.6.3-mv-dst-old");
const REGISTERED_VERSION: Req = Req::new("rfc6830-6.6.3-mv-register");
const OLD: u16 = 721;

inventory::submit! {
    Case {
        id: "rfc6830::s6_6_3::old_destination_version_is_told",
        title: "A data packet whose destination map-version is behind the ETR's own makes it send an SMR (or a Map-Request with its mapping) to the encapsulating ITR.",
        topology: TOPOLOGY,
        settings: &[(ETR, "map-versioning: true")],
        start: false,
        roles: &["etr"],
        features: &["mapver"],
        requirements: &[OLD_VERSION, REGISTERED_VERSION],
        drive: |drive| {
            let site = correspond(drive)?;
            let own = drive.packets(0).iter().find_map(registered_version).unwrap_or(1);
            let header = DataHeader { map_version: Some((0, before(own))), ..DataHeader::default() };
            site.to_site(drive, &header, OLD)?;
            drive.wait_for(0, "a Map-Request to the ITR", SOON, tells)?;
            Ok(())
        },
        judges: &[told],
        sabotages: &[
            Sabotage {
                name: "does not mind old versions",
                node: ETR,
                links: &["rloc"],
                kills: &[OLD_VERSION],
                tamper: || swallow(|frame| matches!(frame.control(), Some(ControlMessage::MapRequest(_)))
                    && frame.ip().is_some_and(|ip| ip.destination == ITR)),
            },
            Sabotage {
                name: "registers without a version",
                node: ETR,
                links: &["rloc"],
                kills: &[REGISTERED_VERSION],
                tamper: || spoil_registers(|register| {
                    register.records.iter_mut().for_each(|record| record.map_version = 0);
                    true
                }),
            },
        ],
        ..Case::BASE
    }
}

/// The version before another on the circle that leaves out 0 (RFC 6834 4.1).
fn before(version: u16) -> u16 {
    if version > 1 { version - 1 } else { 4095 }
}

fn registered_version(packet: &Seen) -> Option<u16> {
    packet
        .map_register()?
        .records
        .first()
        .map(|record| record.map_version)
}

fn tells(packet: &Seen) -> bool {
    packet.sender() == Some(ETR)
        && packet.destination() == Some(ITR)
        && packet.ecm().is_none()
        && packet
            .map_request()
            .is_some_and(|request| request.smr || request.map_reply.is_some())
}

fn told(trace: &Trace, findings: &mut Findings) {
    let all = registers(trace);
    let version = all.iter().find_map(|packet| registered_version(packet));
    findings.check(
        REGISTERED_VERSION,
        version.is_some_and(|version| version != 0),
        all.first().copied(),
        "a map-version in the records",
        format!("version {}", words::or_none(version)),
    );
    let Some(stimulus) = inner_of(trace, OLD) else {
        findings.unseen(OLD_VERSION, "a data packet with an old destination version");
        return;
    };
    match trace
        .iter()
        .find(|packet| packet.time_ns() >= stimulus.time_ns() && tells(packet))
    {
        Some(packet) => findings.met(OLD_VERSION, [stimulus, packet], packet.summary()),
        None => findings.broken(
            OLD_VERSION,
            stimulus,
            format!("an SMR, or a Map-Request with the mapping, to {ITR}"),
            "none",
        ),
    }
}
