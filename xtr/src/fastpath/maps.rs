//! What programs and daemon share: the maps, and how their keys and values are laid out.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::sys::{Map, MapKind, Words};

/// Locators of map-cache entries that programs can serve at the same time.
pub(super) const DESTINATIONS: u32 = 8_192;
/// Entries with several locators in use that programs can serve at the same time.
pub(super) const SETS: u32 = 256;
/// Flows of each program whose way is kept: as many as this, among all processors, but no more than a part of it each.
const FLOWS: u32 = 8192;
const FLOWS_OF_ONE: u32 = 1024;
/// Regions of counters: processors beyond share them.
const REGIONS: u32 = 8;
/// Places for flows of small datagrams.
pub(super) const BURSTS: u32 = 4096;
/// Source ports of one family.
pub(super) const PORTS: usize = 1024;
/// Entries of each family and Instance ID together.
const CACHE: u32 = 16 << 20;
const LOCALS: u32 = 1 << 20;

/// Source ports in the order in which flows choose among them: IPv4, IPv6.
pub(super) type Ports = [Vec<u16>; 2];

/// The one value of the `settings` map.
pub(super) mod settings {
    /// u32: 0 where no packet may be encapsulated here.
    pub(crate) const ENCAPSULATE: i16 = 0;
    /// u32: 0 where no packet may be decapsulated here.
    pub(crate) const DECAPSULATE: i16 = 4;
    /// u32: index of the TUN device.
    pub(crate) const TUNNEL: i16 = 8;
    /// u32: 1 where traceroute packets are special (edition 6830).
    pub(crate) const TRACEROUTES: i16 = 12;
    /// u64: four bits for each pair of inner and outer ECN field: the field with which a packet leaves.
    pub(crate) const ECN: i16 = 16;
    /// u32: flags of LISP headers with which a packet is the daemon's.
    pub(crate) const FOREIGN_FLAGS: i16 = 24;
    /// u32: 0 where routes of IPv6 cannot be asked for.
    pub(crate) const ROUTES_V6: i16 = 36;
    /// u32: source ports of IPv4, of IPv6.
    pub(crate) const PORT_COUNTS: [i16; 2] = [28, 32];
    /// u32: packets in quick succession from which on the daemon joins a flow's; 0: never.
    pub(crate) const JOINED: i16 = 40;
    /// u16 each, in network order.
    pub(crate) const PORTS: [i16; 2] = [48, 48 + 2 * super::PORTS as i16];
    pub(crate) const LENGTH: usize = 48 + 4 * super::PORTS;
    /// Among the bits of ECN: the packet is the daemon's.
    pub(crate) const ECN_DAEMON: u8 = 8;
}

/// Values of the `source` tries: whom the site's packets may come from.
pub(super) mod source {
    /// u32: Instance ID, network order.
    pub(crate) const INSTANCE: i16 = 0;
    /// u32: routing table of the instance.
    pub(crate) const TABLE: i16 = 4;
    /// The LISP header of its packets.
    pub(crate) const HEADER: i16 = 8;
    pub(crate) const LENGTH: usize = 16;
}

/// Values of the `cache` tries: one for each map-cache entry, so that the longest match is the daemon's.
pub(super) mod entry {
    /// u32: whose packets these are.
    pub(crate) const KIND: i16 = 0;
    /// u32: index of a destination or of a set.
    pub(crate) const INDEX: i16 = 4;
    pub(crate) const LENGTH: usize = 8;
    pub(crate) const DAEMON: u32 = 0;
    pub(crate) const ONE: u32 = 1;
    pub(crate) const SET: u32 = 2;
}

/// Values of the `destinations` array: a locator of an entry.
pub(super) mod destination {
    /// u32: 4, 6, or 0: the daemon's.
    pub(crate) const FAMILY: i16 = 0;
    /// u32: largest inner packet.
    pub(crate) const LIMIT: i16 = 4;
    /// Outer source and destination, 16 octets each.
    pub(crate) const SOURCE: i16 = 8;
    pub(crate) const RLOC: i16 = 24;
    pub(crate) const LENGTH: usize = 40;
}

/// Values of the `use` and `totals` arrays, a region each for the first processors.
pub(super) mod usage {
    /// u64 each: packets, octets of inner packets, nanoseconds of the coarse monotonic clock, packets whose way was known.
    pub(crate) const PACKETS: i16 = 0;
    pub(crate) const OCTETS: i16 = 8;
    pub(crate) const LAST: i16 = 16;
    pub(crate) const KNOWN: i16 = 24;
    pub(crate) const LENGTH: usize = 32;
    pub(crate) const WORDS: usize = LENGTH / 8;
}

/// Values of the `flows` arrays, one region a processor (see `flows`).
pub(super) mod flow {
    /// Which flow, and of which state of the tables.
    pub(crate) const KEY: i16 = 0;
    /// u64: time of the answer on the coarse clock.
    pub(crate) const TIME: i16 = 64;
    /// u64: length of the packet that the answer was given for.
    pub(crate) const WIRE: i16 = 72;
    /// Way out.
    pub(crate) const INTERFACE: i16 = 80;
    pub(crate) const NEIGHBOUR: i16 = 88;
    /// LISP header.
    pub(crate) const LISP: i16 = 112;
    /// u64: the program's own.
    pub(crate) const NOTE: i16 = 120;
    pub(crate) const LENGTH: usize = 128;
}

/// Values of the `bursts` array, for all processors (see `bursts`). Two that write at the same time may lose a count.
pub(super) mod burst {
    /// u64: hash of the flow.
    pub(crate) const FLOW: i16 = 0;
    /// u64: coarse clock at the first packet that is counted.
    pub(crate) const SINCE: i16 = 8;
    /// u64
    pub(crate) const PACKETS: i16 = 16;
    /// u64: the daemon has the flow until then.
    pub(crate) const UNTIL: i16 = 24;
    pub(crate) const LENGTH: usize = 32;
}

/// Places in a region of the `totals` array.
pub(super) mod total {
    pub(crate) const ENCAPSULATED: u32 = 0;
    pub(crate) const DECAPSULATED: u32 = 1;
    pub(crate) const COUNT: u32 = 2;
}

/// What the two families have each.
#[derive(Debug)]
pub(super) struct PerFamily {
    /// Local EID-Prefixes, by address alone.
    pub(super) sources: Map,
    /// The map-cache, by Instance ID and address.
    pub(super) cache: Map,
    /// Local EID-Prefixes by Instance ID and address; u32: 1 where packets to it may be decapsulated here.
    pub(super) locals: Map,
    /// Routes of the site; u32: 1 where they lead into it.
    pub(super) site: Map,
}

/// Flows of one program.
#[derive(Debug)]
pub(super) struct Flows {
    pub(super) map: Map,
    /// Places of each processor, a power of two.
    pub(super) places: u32,
}

impl Flows {
    fn new(name: &'static str, processors: u32) -> io::Result<Self> {
        let places = places(processors);
        let entries = places * processors;
        Ok(Self {
            map: Map::new(MapKind::Array, name, 4, flow::LENGTH, entries)?,
            places,
        })
    }
}

/// Flows of one processor: a machine with many of them has not many times the memory.
fn places(processors: u32) -> u32 {
    let share = FLOWS / processors.next_power_of_two();
    share.clamp(32, FLOWS_OF_ONE)
}

/// All maps of one router.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) settings: Map,
    /// IPv4, IPv6.
    pub(super) families: [PerFamily; 2],
    pub(super) destinations: Map,
    /// 256 indexes of destinations: for each value of the highest octet of a flow's hash.
    pub(super) sets: Map,
    /// Routes of IPv6 that packets of the site follow before they are the tunnel's; u32: 1 where they lead elsewhere.
    pub(super) specific: Map,
    /// Own locators, 16 octets (see [`octets`]).
    pub(super) rlocs: Map,
    /// Interfaces that pass on joined packets with whatever tunnel marks.
    pub(super) virtuals: Map,
    pub(super) used: Map,
    pub(super) used_words: Words,
    pub(super) totals: Map,
    pub(super) totals_words: Words,
    /// Regions of `used` and `totals`, a power of two.
    pub(super) regions: u32,
    /// Processors share regions.
    pub(super) shared: bool,
    /// u64: writes of the tables above, those of counters aside.
    pub(super) generation: Map,
    /// Flows of the site's and of the locators' side; none where programs interrupt each other.
    flows: Option<[Flows; 2]>,
    /// Flows of small datagrams.
    pub(super) bursts: Map,
}

impl Maps {
    /// For a machine with so many processors (see [`processors`]).
    ///
    /// # Errors
    /// The kernel does not allow maps here, or has no memory for them.
    pub(super) fn new(processors: u32) -> io::Result<Self> {
        let regions = processors.next_power_of_two().min(REGIONS);
        let used = Map::new(
            MapKind::Array,
            "lisp_use",
            4,
            usage::LENGTH,
            DESTINATIONS * regions,
        )?;
        let totals = Map::new(
            MapKind::Array,
            "lisp_totals",
            4,
            usage::LENGTH,
            total::COUNT * regions,
        )?;
        let array = |name, value, entries| Map::new(MapKind::Array, name, 4, value, entries);
        let generation = array("lisp_generation", 8, 1)?;
        let writes = Arc::new(generation.words()?);
        let counted = |map: io::Result<Map>| map.map(|map| map.counted_in(&writes));
        let flows = |name| Flows::new(name, processors);
        let flows = if is_realtime() {
            None
        } else {
            Some([flows("lisp_flows_out")?, flows("lisp_flows_in")?])
        };
        Ok(Self {
            settings: counted(array("lisp_settings", settings::LENGTH, 1))?,
            families: [PerFamily::new(4, &writes)?, PerFamily::new(16, &writes)?],
            destinations: counted(array("lisp_rlocs", destination::LENGTH, DESTINATIONS))?,
            sets: counted(array("lisp_sets", 4 * 256, SETS))?,
            specific: counted(Map::new(
                MapKind::LpmTrie,
                "lisp_specific",
                4 + 16,
                4,
                CACHE,
            ))?,
            rlocs: counted(Map::new(MapKind::Hash, "lisp_own", 16, 4, 1024))?,
            virtuals: counted(Map::new(MapKind::Hash, "lisp_veths", 4, 4, 4096))?,
            used_words: used.words()?,
            used,
            totals_words: totals.words()?,
            totals,
            regions,
            shared: processors > regions,
            generation,
            flows,
            bursts: array("lisp_bursts", burst::LENGTH, BURSTS)?,
        })
    }

    /// Flows of one side: 0 the site's, 1 the locators'.
    pub(super) fn flows(&self, side: usize) -> Option<&Flows> {
        self.flows.as_ref().map(|flows| &flows[side])
    }

    pub(super) fn family(&self, address: IpAddr) -> &PerFamily {
        &self.families[usize::from(address.is_ipv6())]
    }
}

impl PerFamily {
    fn new(address: usize, writes: &Arc<Words>) -> io::Result<Self> {
        let trie = |name, key: usize, value, entries| {
            Map::new(MapKind::LpmTrie, name, 4 + key, value, entries)
                .map(|map| map.counted_in(writes))
        };
        Ok(Self {
            sources: trie("lisp_sources", address, source::LENGTH, LOCALS)?,
            cache: trie("lisp_cache", 4 + address, entry::LENGTH, CACHE)?,
            locals: trie("lisp_locals", 4 + address, 4, LOCALS)?,
            site: trie("lisp_site", address, 4, LOCALS)?,
        })
    }
}

/// Whether the kernel is one of PREEMPT_RT.
fn is_realtime() -> bool {
    std::fs::read_to_string("/sys/kernel/realtime").is_ok_and(|text| text.trim() == "1")
}

/// Processors that there may ever be: highest number plus one.
pub(super) fn processors() -> u32 {
    std::fs::read_to_string("/sys/devices/system/cpu/possible")
        .ok()
        .and_then(|text| text.trim().rsplit(['-', ',']).next()?.parse::<u32>().ok())
        .map_or(1, |last| last + 1)
}

/// An address as 16 octets; IPv4 in the last four (RFC 4291 2.5.5.2).
pub(super) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    }
}

fn push_address(key: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(a) => key.extend(a.octets()),
        IpAddr::V6(a) => key.extend(a.octets()),
    }
}

/// Key of the tries without Instance ID.
pub(super) fn prefix_key(prefix: IpNet) -> Vec<u8> {
    let mut key = u32::from(prefix.prefix_len()).to_ne_bytes().to_vec();
    push_address(&mut key, prefix.addr());
    key
}

/// Key of the tries with Instance ID.
pub(super) fn instance_key(iid: u32, prefix: IpNet) -> Vec<u8> {
    let mut key = (32 + u32::from(prefix.prefix_len())).to_ne_bytes().to_vec();
    key.extend(iid.to_be_bytes());
    push_address(&mut key, prefix.addr());
    key
}

/// Writes a field of a value.
pub(super) fn put(value: &mut [u8], at: i16, octets: &[u8]) {
    let at = at as usize;
    value[at..at + octets.len()].copy_from_slice(octets);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_of_all_processors_are_bounded() {
        for (processors, expected) in [
            (1, 1024),
            (2, 1024),
            (8, 1024),
            (12, 512),
            (256, 32),
            (1000, 32),
        ] {
            assert_eq!(places(processors), expected, "{processors}");
            assert!(expected.is_power_of_two());
        }
    }
}
