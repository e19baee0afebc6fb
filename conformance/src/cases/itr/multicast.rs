//! Multicast packets of the site: their group is EID and locator at once (RFC 6830 11).

use std::net::{IpAddr, Ipv4Addr};

use harness::inline::{PacketFate, Way};
use lisp::EidPrefix;
use lisp::ip::IpHeader;
use lisp::wire::EidQuery;
use lisp::wire::data::DATA_HEADER_LEN;

use crate::case::Case;
use crate::cases::common::{edit_outgoing, requests};
use crate::cases::one_xtr::*;
use crate::catalogue::Req;
use crate::finding::Findings;
use crate::trace::{Seen, Trace};
use crate::words;

const OUTER: Req = Req::new("rfc6830-11-mcast-outer");
const OWN_SOURCE: Req = Req::new("rfc6830-11-mcast-src-global");

const BEGIN: &str = "packets to groups";

/// A group that leaves the site, as `settings` say.
const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 1, 2, 3));
/// One that does not.
const INTERNAL: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 2, 2, 3));

/// An EID that nobody knows.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9));

/// Echo numbers.
const BEFORE: u16 = 10;
const TO_GROUP: u16 = 11;
const STAYS: u16 = 12;
const FENCE: u16 = 13;

inventory::submit! {
    Case {
        id: "rfc6830::s11::a_group_is_its_own_locator",
        title: "A multicast packet of the site leaves with its group as outer destination and the ITR's locator as outer source, and nobody is asked about it; a group that does not leave the site stays.",
        topology: TOPOLOGY,
        settings: &[(XTR, "multicast: {interfaces: [site], groups: [239.1.0.0/16]}")],
        roles: &["itr"],
        features: &["multicast"],
        requirements: &[OUTER, OWN_SOURCE],
        drive: |drive| {
            let net = Net::up(drive, vec![mapping(REMOTE_SITE, &[REMOTE])])?;
            let since = drive.mark(BEGIN);
            net.say(drive, REMOTE_HOST, BEFORE)?;
            net.offer(INTERNAL, STAYS)?;
            net.offer(GROUP, TO_GROUP)?;
            drive.wait_for(since, "the packet to the group in a tunnel", SOON, |packet| {
                left(packet) == Some(TO_GROUP)
            })?;
            net.say(drive, REMOTE_HOST, FENCE)?;
            // Whoever asks about groups has done so before this.
            let since = drive.now_ns();
            net.offer(UNKNOWN, FENCE + 1)?;
            drive.wait_for(since, "a Map-Request for a new EID", SOON, |packet| {
                packet.sender() == Some(XTR) && packet.map_request().is_some()
            })?;
            Ok(())
        },
        judges: &[groups_are_locators],
        sabotages: &[
            spoils("sends it to a locator", &[OUTER], || misdirect(REMOTE, |sequence| sequence == TO_GROUP)),
            spoils("sends it as it is", &[OUTER], || edit_outgoing(|frame| {
                /// Octets of Ethernet, outer IPv4 and UDP, and LISP headers.
                const ETHERNET: usize = 14;
                const HEADERS: usize = 20 + 8 + DATA_HEADER_LEN;
                if sequence_of(frame) == Some(TO_GROUP) {
                    frame.octets().drain(ETHERNET..ETHERNET + HEADERS);
                }
            })),
            spoils("keeps it", &[OUTER], || swallow(|frame| sequence_of(frame) == Some(TO_GROUP))),
            spoils("lets the other group out", &[OUTER], || edit_outgoing(|frame| {
                if sequence_of(frame) == Some(FENCE) {
                    frame.edit_data(|_, inner| {
                        let IpAddr::V4(group) = INTERNAL else { return false };
                        // The inner destination; that its checksum no longer holds is another matter.
                        inner[16..20].copy_from_slice(&group.octets());
                        true
                    });
                }
            })),
            spoils("asks for the group", &[OUTER], || requests(|request| {
                let host = |eid| vec![EidQuery::new(EidPrefix::host(0, eid))];
                if request.records == host(UNKNOWN) {
                    request.records = host(GROUP);
                }
            })),
            spoils("lets the host be the outer source", &[OWN_SOURCE], || Box::new(|way, frame| {
                if way == Way::FromVictim && sequence_of(frame) == Some(TO_GROUP) {
                    frame.edit_addresses(|header| match (header, HOST) {
                        (IpHeader::V4(header), IpAddr::V4(host)) => {
                            header.source = host;
                            true
                        }
                        _ => false,
                    });
                }
                PacketFate::Forward
            })),
        ],
        ..Case::BASE
    }
}

fn groups_are_locators(trace: &Trace, findings: &mut Findings) {
    let offered = trace.received_by(XTR).find(|packet| {
        packet.link() == "site" && packet.destination() == Some(GROUP) && !packet.is_data()
    });
    let Some(offered) = offered else {
        findings.unseen(OUTER, format!("a packet of the site to {GROUP}"));
        return;
    };
    let to = |group: IpAddr| {
        move |packet: &&Seen| {
            packet
                .data()
                .is_some_and(|(_, inner)| inner.destination == group)
        }
    };
    let out: Vec<&Seen> = trace.sent_by(XTR).filter(to(GROUP)).collect();
    if out.is_empty() {
        findings.broken(
            OUTER,
            offered,
            "the packet in a tunnel",
            "it did not come out",
        );
    }
    for packet in out {
        findings.check(
            OUTER,
            packet.destination() == Some(GROUP),
            [offered, packet],
            format!("outer destination {GROUP}"),
            words::to(packet),
        );
        let own = packet
            .source()
            .is_some_and(|source| trace.has_address(XTR, source) && !trace.is_eid(source));
        findings.check(
            OWN_SOURCE,
            own,
            [offered, packet],
            "a locator of the ITR as outer source",
            words::from(packet),
        );
    }
    let native = trace.sent_by(XTR).find(|packet| {
        packet.link() == "rloc" && packet.destination() == Some(GROUP) && !packet.is_data()
    });
    if let Some(native) = native {
        findings.broken(OUTER, native, "a LISP header around it", native.summary());
    }
    if let Some(stray) = trace.sent_by(XTR).find(to(INTERNAL)) {
        findings.broken(
            OUTER,
            stray,
            format!("nothing to {INTERNAL}"),
            stray.summary(),
        );
    }
    let question = trace.originated(XTR).find(|packet| {
        packet.map_request().is_some_and(|request| {
            request
                .records
                .iter()
                .filter_map(|query| query.prefix())
                .any(|asked| asked.prefix.addr().is_multicast())
        })
    });
    if let Some(question) = question {
        findings.broken(
            OUTER,
            question,
            "no Map-Request for a group",
            question.summary(),
        );
    }
}

const EXCLUDED: Req = Req::new("rfc6830-6.1.4-m-priority");

/// Protocol numbers of IGMP and PIM.
const IGMP: u8 = 2;
const PIM: u8 = 103;
/// Number of the last data packet.
const AFTER_REPORT: u16 = 23;

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_4::nobody_joins_toward_multicast_priority_255",
        title: "When a host of the site joins a source of a remote site, no PIM or IGMP join goes to the remote locator whose multicast priority is 255.",
        topology: TOPOLOGY,
        settings: &[(XTR, "multicast: {interfaces: [site], groups: [239.1.0.0/16]}")],
        roles: &["etr"],
        features: &["multicast"],
        requirements: &[EXCLUDED],
        drive: |drive| {
            // The first locator, which unicast prefers, takes no joins; the second one does.
            let mut remote = mapping(REMOTE_SITE, &[REMOTE, OTHER]);
            for locator in remote.locators.iter_mut().skip(1) {
                locator.mpriority = 1;
            }
            let net = Net::up(drive, vec![remote])?;
            net.say(drive, REMOTE_HOST, BEFORE)?;
            let since = drive.mark(BEGIN);
            net.site.send(&report(REMOTE_HOST, GROUP))?;
            drive.wait_for(since, "the host's membership report", SOON, is_report)?;
            net.say_last(drive, REMOTE_HOST, AFTER_REPORT)
        },
        judges: &[no_join],
        sabotages: &[
            spoils("sends PIM to the locator", &[EXCLUDED], || edit_outgoing(|frame| {
                if sequence_of(frame) == Some(AFTER_REPORT) {
                    frame.edit_ip(|header, payload| match header {
                        IpHeader::V4(header) => {
                            header.protocol = PIM;
                            *payload = join(REMOTE);
                            true
                        }
                        IpHeader::V6(_) => false,
                    });
                }
            })),
            spoils("sends PIM in a tunnel to the locator", &[EXCLUDED], || edit_outgoing(|frame| {
                if sequence_of(frame) == Some(AFTER_REPORT) {
                    // The protocol of the inner header.
                    frame.edit_data(|_, inner| {
                        inner[9] = PIM;
                        true
                    });
                }
            })),
            spoils("names the locator as upstream neighbour", &[EXCLUDED], || edit_outgoing(|frame| {
                if sequence_of(frame) == Some(AFTER_REPORT) {
                    frame.edit_ip(|header, payload| match header {
                        IpHeader::V4(header) => {
                            header.protocol = PIM;
                            header.destination = Ipv4Addr::new(224, 0, 0, 13);
                            *payload = join(REMOTE);
                            true
                        }
                        IpHeader::V6(_) => false,
                    });
                }
            })),
        ],
        ..Case::BASE
    }
}

/// An IGMPv3 report that asks for a group from one source (RFC 3376 4.2).
fn report(source: IpAddr, group: IpAddr) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(group), IpAddr::V4(host)) = (source, group, HOST) else {
        return Vec::new();
    };
    let mut message = vec![0x22, 0, 0, 0, 0, 0, 0, 1];
    // "Allow new sources", one of them.
    message.extend([5, 0, 0, 1]);
    message.extend(group.octets());
    message.extend(source.octets());
    let sum = lisp::ip::checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let all_routers = Ipv4Addr::new(224, 0, 0, 22);
    let header = IpHeader::new(host.into(), all_routers.into(), 1, IGMP);
    header.emit(&message)
}

fn is_report(packet: &Seen) -> bool {
    packet.receiver() == Some(XTR) && packet.ip().is_some_and(|ip| ip.protocol == IGMP)
}

/// A PIM Join/Prune up to its upstream neighbour (RFC 7761 4.9.5).
fn join(upstream: IpAddr) -> Vec<u8> {
    let mut message = vec![0x23, 0, 0, 0, 1, 0];
    if let IpAddr::V4(upstream) = upstream {
        message.extend(upstream.octets());
    }
    // No group, hold time 210 s.
    message.extend([0, 0, 0, 210]);
    let sum = lisp::ip::checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Whether a packet asks this locator for a tree: PIM or IGMP to it, plainly or in a tunnel, or PIM that names it.
fn asks(packet: &Seen, locator: IpAddr) -> bool {
    let is_join = |protocol: u8| protocol == PIM || protocol == IGMP;
    let tunnelled = packet
        .data()
        .is_some_and(|(_, inner)| is_join(inner.protocol));
    let Some(ip) = packet.ip() else { return false };
    let IpAddr::V4(address) = locator else {
        return false;
    };
    /// Octets of an IPv4 header, and of a PIM header and the family and type of an address.
    const UPSTREAM: usize = 20 + 4 + 2;
    let named = ip.protocol == PIM
        && ip.bytes.get(20).is_some_and(|first| first & 0x0f == 3)
        && ip.bytes.get(UPSTREAM..UPSTREAM + 4) == Some(&address.octets());
    named || (is_join(ip.protocol) || tunnelled) && ip.destination == locator
}

fn no_join(trace: &Trace, findings: &mut Findings) {
    let Some(report) = trace.since(BEGIN).find(|packet| is_report(packet)) else {
        findings.unseen(EXCLUDED, "a membership report of the site's host");
        return;
    };
    let mut sent = trace.sent_by(XTR).filter(|packet| packet.link() == "rloc");
    match sent.find(|packet| asks(packet, REMOTE)) {
        Some(packet) => findings.broken(
            EXCLUDED,
            [report, packet],
            format!("no join toward {REMOTE}, whose multicast priority is 255"),
            packet.summary(),
        ),
        None => findings.met(EXCLUDED, report, format!("no join toward {REMOTE}")),
    }
}
