//! What the cases about map-versions of data packets at an ETR share: packets with versions, what became of them, and
//! tampering with them on their way in.

use std::net::{IpAddr, Ipv4Addr};

use harness::inline::{PacketFate, Way};
use lisp::wire::{DataHeader, MapRecord};

use crate::cases::common::prefix;
use crate::cases::one_xtr::*;
use crate::drive::{Drive, Echo, Stop};
use crate::sabotage::Tamper;
use crate::trace::{Seen, Trace};

/// The site with map-version 69, its IPv6 prefix with 2117.
pub(super) const SETTINGS: &str = "{map-versioning: true, eid-prefixes: [
    {prefix: 10.1.0.0/24, map-version: 69, locators: [{address: 192.0.2.2, priority: 1, weight: 100}]},
    {prefix: '2001:db8:a::/48', map-version: 2117, locators: [{address: 192.0.2.2, priority: 1, weight: 100}]}]}";
/// The site's prefix.
pub(super) const SITE: &str = "10.1.0.0/24";
/// Its map-version.
pub(super) const OWN: u16 = 69;
/// The site's IPv6 prefix.
pub(super) const SITE6: &str = "2001:db8:a::/48";
/// Its map-version.
pub(super) const OWN6: u16 = 2117;

/// A locator of the remote site from which no other packet comes. Packets to it are seen on their way.
pub(super) const fn encapsulator(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 34 + number))
}

/// V = 1 with these versions.
pub(super) fn versions(source: u16, destination: u16) -> DataHeader {
    DataHeader {
        map_version: Some((source, destination)),
        ..DataHeader::default()
    }
}

/// The version with which the box registers a prefix in this packet.
pub(super) fn registered_version(packet: &Seen, eid: &str) -> Option<u16> {
    if packet.sender() != Some(XTR) {
        return None;
    }
    let wanted = prefix(eid);
    let of_site = |record: &&MapRecord| record.eid_prefix() == Some(wanted);
    let register = packet.map_register()?;
    let record = register.records.iter().find(of_site)?;
    Some(record.map_version)
}

/// Waits until the box has registered a prefix: with this version, or whatever version it has.
pub(super) fn registered(drive: &Drive, eid: &str) -> Result<(), Stop> {
    let what = format!("a Map-Register with {eid}");
    drive.wait_for(0, &what, SOON, |packet| {
        registered_version(packet, eid).is_some()
    })?;
    Ok(())
}

/// Whether the box registers the site's prefixes with the versions of the cases.
pub(super) fn has_versions(trace: &Trace) -> bool {
    let version = |eid| {
        let mut all = trace
            .originated(XTR)
            .filter_map(|packet| registered_version(packet, eid));
        all.next()
    };
    version(SITE) == Some(OWN) && version(SITE6) == Some(OWN6)
}

/// A remote EID's echo reply with versions in a tunnel, in the family of the site's address.
pub(super) fn tunnel(
    net: &Net,
    from: IpAddr,
    header: &DataHeader,
    to: IpAddr,
    sequence: u16,
) -> Result<(), Stop> {
    let source = if to.is_ipv4() {
        REMOTE_HOST
    } else {
        crate::cases::common::ip("2001:db8:b::10")
    };
    let inner = Echo::new(source, to, sequence).reply();
    net.remote.data((from, 61_007), RLOC, header, &inner)?;
    Ok(())
}

/// The echo reply with a number as the peer sent it, in a tunnel.
pub(super) fn sent(trace: &Trace, sequence: u16) -> Option<&Seen> {
    trace.received_by(XTR).find(|packet| {
        packet
            .data()
            .and_then(|(_, inner)| inner.icmp())
            .is_some_and(|icmp| icmp.echo().1 == sequence)
    })
}

/// The echo reply with a number as the box delivers it to its site.
pub(super) fn at_the_site(trace: &Trace, sequence: u16) -> Option<&Seen> {
    trace.iter().find(|packet| is_at_the_site(packet, sequence))
}

/// Whether a packet is the echo reply with a number on its way into the site.
pub(super) fn is_at_the_site(packet: &Seen, sequence: u16) -> bool {
    packet.sender() == Some(XTR)
        && packet.link() == "site"
        && packet
            .ip()
            .and_then(|ip| ip.icmp())
            .is_some_and(|icmp| icmp.is_echo_reply() && icmp.echo().1 == sequence)
}

/// Whether a packet is an SMR of the box to a locator.
pub(super) fn is_smr(packet: &Seen, to: IpAddr) -> bool {
    packet.sender() == Some(XTR)
        && packet.destination() == Some(to)
        && packet.map_request().is_some_and(|request| request.smr)
}

/// Changes the versions of data packets on their way to the box; none: no V bit.
pub(super) fn on_versions(
    mut change: impl FnMut(u16, u16) -> Option<(u16, u16)> + Send + 'static,
) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::ToVictim {
            frame.edit_data(|header, _| match header.map_version {
                Some((source, destination)) => {
                    header.map_version = change(source, destination);
                    true
                }
                None => false,
            });
        }
        PacketFate::Forward
    })
}
