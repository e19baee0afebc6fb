//! What the cases about an ITR's data packets share: the addresses of `one-itr`, its peers, flows of a scripted host, and
//! tampering with Map-Replies on their way in and with data packets on their way out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::ip::IpHeader;
use lisp::wire::{ControlMessage, Locator, MapRecord, MapReply};
use lisp::{DATA_PORT, EidPrefix};

use crate::cases::common::{locator, mapping_system_with, record};
use crate::cases::fences::special_leaves;
use crate::decode::Ip;
use crate::drive::{Drive, Peer, Stop};
use crate::sabotage::{Frame, Sabotage, Tamper};
use crate::trace::{Seen, Trace};

/// The box under test.
pub(super) const ITR: &str = "xtr";
/// The topology of these cases.
pub(super) const TOPOLOGY: &str = "one-itr";
/// The link between the ITR and the core.
pub(super) const CORE: &str = "rloc";
/// Settings under which every packet leaves by itself: bursts that the kernel cuts into datagrams have a UDP checksum, which
/// is another question (rfc6830-5.3-cksum-zero-tx) than those of these cases.
pub(super) const ONE_BY_ONE: &[(&str, &str)] = &[(ITR, "data-plane: {offload: false}")];
/// Waits for something that a box does at once.
pub(super) const SOON: Duration = Duration::from_secs(5);
/// Destination port of what the site's host sends in flows.
pub(super) const FLOW_PORT: u16 = 61_007;
/// Destination port of packets that only make the ITR resolve, or that only follow others.
const OTHER_PORT: u16 = 61_009;

/// Source ports that no dissector takes for a protocol: [`PORTS`] of them from here on.
pub(super) const FIRST_PORT: u16 = 40_000;
/// How many.
pub(super) const PORTS: u16 = 20_000;

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(site: u16, subnet: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, site, subnet, 0, 0, 0, host))
}

/// The ITR's IPv4 locator.
pub(super) const RLOC: IpAddr = v4(192, 0, 2, 2);
/// The ITR's IPv6 locator.
pub(super) const RLOC6: IpAddr = v6(0, 2, 2);
/// The host of the site.
pub(super) const HOST: IpAddr = v4(10, 1, 0, 10);
/// The same host's IPv6 EID.
pub(super) const HOST6: IpAddr = v6(0xa, 0, 0x10);
/// Remote locators r1 to r4.
pub(super) const R: [IpAddr; 4] = [
    v4(192, 0, 2, 34),
    v4(192, 0, 2, 50),
    v4(192, 0, 2, 66),
    v4(192, 0, 2, 82),
];
/// The IPv6 locators of r1 to r4.
pub(super) const R6: [IpAddr; 4] = [
    v6(0, 0x31, 2),
    v6(0, 0x32, 2),
    v6(0, 0x33, 2),
    v6(0, 0x34, 2),
];

/// A host of the remote subnet 10.2.`subnet`.0/24.
pub(super) const fn eid(subnet: u8, host: u8) -> IpAddr {
    v4(10, 2, subnet, host)
}

/// A host of the remote subnet 2001:db8:b:`subnet`::/64.
pub(super) const fn eid6(subnet: u8, host: u8) -> IpAddr {
    v6(0xb, subnet as u16, host as u16)
}

/// The number of the remote subnet that an EID is in: 3 for 10.2.3.7 and for 2001:db8:b:3::7.
pub(super) fn subnet_of(eid: IpAddr) -> Option<u8> {
    match eid {
        IpAddr::V4(eid) => match eid.octets() {
            [10, 2, subnet, _] => Some(subnet),
            _ => None,
        },
        IpAddr::V6(eid) => match eid.segments() {
            [0x2001, 0xdb8, 0xb, subnet, ..] => u8::try_from(subnet).ok(),
            _ => None,
        },
    }
}

/// The mapping of a remote subnet, for the EID-Prefix that was asked for.
pub(super) fn mapping(asked: EidPrefix, locators: Vec<Locator>) -> Vec<MapRecord> {
    let Some(subnet) = subnet_of(asked.prefix.addr()) else {
        return Vec::new();
    };
    let prefix = if asked.prefix.addr().is_ipv4() {
        format!("[{}]{}/24", asked.iid, eid(subnet, 0))
    } else {
        format!("[{}]{}/64", asked.iid, eid6(subnet, 0))
    };
    vec![record(&prefix, locators)]
}

/// The subnet of the fence: always at r1, by one locator.
const FENCE: u8 = 250;

/// The peers around the ITR.
pub(super) struct Net {
    /// The host of the site.
    pub(super) site: Peer,
    /// Who has the locators r1 to r4; silent but for what a case lets them answer.
    pub(super) remotes: Vec<Peer>,
    _mapping: Peer,
}

impl Net {
    /// Sets up the peers, with a mapping system that knows the locators of each remote subnet, and starts the ITR.
    /// A subnet without an entry (an empty list) is not answered for.
    pub(super) fn up(
        drive: &mut Drive<'_>,
        locators: impl FnMut(EidPrefix, u8) -> Vec<Locator> + Send + 'static,
    ) -> Result<Net, Stop> {
        Net::up_with(drive, locators, |_| {})
    }

    /// As [`up`](Net::up), with a last hand on each Map-Reply.
    pub(super) fn up_with(
        drive: &mut Drive<'_>,
        mut locators: impl FnMut(EidPrefix, u8) -> Vec<Locator> + Send + 'static,
        finish: fn(&mut MapReply),
    ) -> Result<Net, Stop> {
        let mut system = drive.peer("mapping")?;
        let answer = move |asked: EidPrefix| {
            let subnet = subnet_of(asked.prefix.addr());
            let found = match subnet {
                Some(FENCE) => vec![locator(&R[0].to_string(), 1, 100)],
                Some(subnet) => locators(asked, subnet),
                None => Vec::new(),
            };
            if found.is_empty() {
                return Vec::new();
            }
            mapping(asked, found)
        };
        mapping_system_with(&mut system, "key-of-site", answer, finish)?;
        let net = Net {
            site: drive.peer("site")?,
            remotes: ["r1", "r2", "r3", "r4"]
                .iter()
                .map(|node| drive.peer(node))
                .collect::<Result<_, _>>()?,
            _mapping: system,
        };
        drive.start(ITR)?;
        Ok(net)
    }

    /// Lets the ITR resolve these EIDs one after the other, and waits until all mappings are in place: the fence, which
    /// is resolved last, is encapsulated.
    pub(super) fn resolve(&self, drive: &Drive<'_>, eids: &[IpAddr]) -> Result<(), Stop> {
        for &eid in eids {
            let begin = drive.now_ns();
            self.send(&udp_from_host(eid, 9, OTHER_PORT, 64, 32))?;
            let what = format!("the Map-Reply for {eid}");
            drive.wait_for(begin, &what, SOON, |packet| {
                packet.receiver() == Some(ITR)
                    && packet.map_reply().is_some_and(|reply| {
                        reply.records.iter().any(|record| {
                            record.eid_prefix().is_some_and(|p| p.contains(p.iid, eid))
                        })
                    })
            })?;
        }
        self.fence(drive)
    }

    /// Sends a packet of the site's host.
    pub(super) fn send(&self, packet: &[u8]) -> Result<(), Stop> {
        Ok(self.site.send(packet)?)
    }

    /// Sends packets whose way is known, one of each kind ([`fences`](crate::cases::fences)), and waits for them: whatever
    /// was sent before them has left the ITR by then.
    pub(super) fn fence(&self, drive: &Drive<'_>) -> Result<(), Stop> {
        let port = FIRST_PORT + drive.random() as u16 % PORTS;
        let begin = drive.now_ns();
        self.send(&udp_from_host(eid(FENCE, 1), port, OTHER_PORT, 64, 32))?;
        drive.wait_for(
            begin,
            "the packet of the fence on the core",
            SOON,
            |packet| {
                packet.sender() == Some(ITR)
                    && inner_udp(packet).is_some_and(|(inner, udp)| {
                        inner.destination == eid(FENCE, 1) && udp.source_port == port
                    })
            },
        )?;
        special_leaves(drive, &self.site, (HOST, eid(FENCE, 1)), ITR)
    }

    /// Sends packets in bursts that no queue on the way loses: after each, the fence.
    pub(super) fn bursts(&self, drive: &Drive<'_>, packets: &[Vec<u8>]) -> Result<(), Stop> {
        for burst in packets.chunks(250) {
            for packet in burst {
                self.send(packet)?;
            }
            self.fence(drive)?;
        }
        Ok(())
    }
}

/// A UDP packet of the site's host, of the destination's family, with so many octets of payload.
pub(super) fn udp_from_host(
    to: IpAddr,
    source_port: u16,
    port: u16,
    ttl: u8,
    payload: usize,
) -> Vec<u8> {
    let from = if to.is_ipv4() { HOST } else { HOST6 };
    lisp::ip::udp_packet(from, to, source_port, port, ttl, &vec![0x5a; payload])
}

/// A packet of a flow of the site's host.
pub(super) fn flow(to: IpAddr, source_port: u16) -> Vec<u8> {
    udp_from_host(to, source_port, FLOW_PORT, 64, 32)
}

/// The inner packet of a data packet, and the UDP datagram in it.
pub(super) fn inner_udp(packet: &Seen) -> Option<(&Ip, &crate::decode::Udp)> {
    let (_, inner) = packet.data()?;
    Some((inner, inner.udp()?))
}

/// Data packets of the ITR with packets of flows inside.
pub(super) fn flows(trace: &Trace) -> impl Iterator<Item = &Seen> + Clone {
    trace.originated(ITR).filter(|packet| {
        inner_udp(packet).is_some_and(|(_, udp)| udp.destination_port == FLOW_PORT)
    })
}

/// A sabotage at the ITR's link to the core.
pub(super) const fn sabotage(
    name: &'static str,
    kills: &'static [crate::catalogue::Req],
    tamper: fn() -> Tamper,
) -> Sabotage {
    Sabotage {
        name,
        node: ITR,
        links: &[CORE],
        kills,
        tamper,
    }
}

/// Changes the locators of Map-Replies on their way to the ITR, given with the number of the remote subnet.
pub(super) fn replies(change: fn(u8, &mut Vec<Locator>) -> bool) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::ToVictim {
            frame.edit_control(|message| match message {
                ControlMessage::MapReply(reply) => {
                    let mut changed = false;
                    for record in &mut reply.records {
                        let subnet = record
                            .eid_prefix()
                            .and_then(|prefix| subnet_of(prefix.prefix.addr()));
                        if let Some(subnet) = subnet {
                            changed |= change(subnet, &mut record.locators);
                        }
                    }
                    changed
                }
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

/// Changes the outer IP header and the UDP datagram of data packets on their way out, given with the number of the packet.
pub(super) fn data_out(change: fn(u64, &mut IpHeader, &mut Vec<u8>)) -> Tamper {
    let mut number = 0;
    Box::new(move |way, frame| {
        if way == Way::FromVictim && is_data(frame) {
            number += 1;
            frame.edit_ip(|header, datagram| {
                change(number, header, datagram);
                true
            });
        }
        PacketFate::Forward
    })
}

/// Whether a frame is a LISP data packet.
pub(super) fn is_data(frame: &Frame<'_>) -> bool {
    frame.ip().is_some_and(|ip| {
        ip.udp()
            .is_some_and(|udp| udp.destination_port == DATA_PORT)
    })
}
