//! The forwarding tables in the form that the programs read, and the counts that come back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use lisp::EidPrefix;
use lisp::wire::DataHeader;
use lisp::wire::data::DATA_HEADER_LEN;

use super::maps::{
    DESTINATIONS, Maps, SETS, destination, entry, instance_key, octets, prefix_key, put, settings,
    source, total, usage,
};
use super::rules::{Constants, settings_value};
use super::slots::Slots;
use super::sys::{Map, Words};
use crate::dataplane::inner_limit;
use crate::forwarding::{Counter, Decision, Destination, Forwarding, LocatorSet, Policy, Role};
use crate::kernel::site::SiteRoutes;

/// The main routing table.
const MAIN: u32 = 254;

/// A locator of an entry that programs serve.
#[derive(Debug)]
struct Served {
    destination: Destination,
    slot: u32,
    /// Packets and octets that were counted already.
    seen: (u64, u64),
}

/// What programs have of a map-cache entry.
#[derive(Debug, Default)]
struct Published {
    served: Vec<Served>,
    set: Option<u32>,
}

/// The writer of the maps.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) maps: Maps,
    forwarding: Arc<Forwarding>,
    locator_mtu: usize,
    constants: Constants,
    entries: HashMap<EidPrefix, Published>,
    slots: Slots,
    sets: Slots,
    /// Locators whose packets need the daemon: nonces.
    stateful: HashSet<IpAddr>,
    site: BTreeMap<IpNet, bool>,
    /// Routes of IPv6 that go before the tunnel's.
    specific: BTreeMap<IpNet, bool>,
    /// Routing tables by Instance ID.
    routing_tables: HashMap<u32, u32>,
    /// Whether nobody else's rules decide about IPv6.
    routes_v6: bool,
    totals: [u64; 2],
}

impl Publisher {
    pub(super) fn new(
        maps: Maps,
        forwarding: Arc<Forwarding>,
        locator_mtu: usize,
        constants: Constants,
    ) -> Self {
        Self {
            maps,
            forwarding,
            locator_mtu,
            constants,
            entries: HashMap::new(),
            slots: Slots::new(DESTINATIONS),
            sets: Slots::new(SETS),
            stateful: HashSet::new(),
            site: BTreeMap::new(),
            specific: BTreeMap::new(),
            routing_tables: HashMap::new(),
            routes_v6: false,
            totals: [0; 2],
        }
    }

    /// The own locators: to which packets are decapsulated.
    pub(super) fn rlocs(&self, rlocs: &[IpAddr]) -> io::Result<()> {
        rlocs
            .iter()
            .try_for_each(|rloc| self.maps.rlocs.set(&octets(*rloc), &1u32.to_ne_bytes()))
    }

    /// Rules that hold for every packet.
    pub(super) fn policy(&self) -> io::Result<()> {
        let policy = self.forwarding.policy();
        let mut value = settings_value(&policy, &self.constants);
        put(
            &mut value,
            settings::ROUTES_V6,
            &u32::from(self.routes_v6).to_ne_bytes(),
        );
        self.maps.settings.set(&0u32.to_ne_bytes(), &value)?;
        for any in [
            IpNet::new_assert(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            IpNet::new_assert(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
        ] {
            self.source(any)?;
        }
        for local in self.forwarding.locals() {
            self.source(local.prefix.prefix)?;
        }
        Ok(())
    }

    /// A local EID-Prefix came, changed or went.
    /// Packets of its instance are led by `table`.
    pub(super) fn local(
        &mut self,
        prefix: &EidPrefix,
        table: Option<u32>,
        routes: &SiteRoutes,
    ) -> io::Result<()> {
        if let Some(table) = table {
            self.routing_tables.insert(prefix.iid, table);
        }
        let local = self.forwarding.snapshot().local(prefix).cloned();
        let map = &self.maps.family(prefix.prefix.addr()).locals;
        let key = instance_key(prefix.iid, prefix.prefix);
        self.source(prefix.prefix)?;
        let Some(local) = local else {
            map.remove(&key)?;
            return self.site(routes);
        };
        let served = u32::from(!local.away && !local.report_senders);
        map.set(&key, &served.to_ne_bytes())?;
        // Those of the others are known.
        for (route, stays) in routes.about(&prefix.prefix) {
            if self.site.insert(route, stays) != Some(stays) {
                let site = &self.maps.family(route.addr()).site;
                site.set(&prefix_key(route), &u32::from(stays).to_ne_bytes())?;
            }
        }
        Ok(())
    }

    /// Whose packets come from a prefix, and with which LISP header they leave.
    fn source(&self, prefix: IpNet) -> io::Result<()> {
        let tables = self.forwarding.snapshot();
        let map = &self.maps.family(prefix.addr()).sources;
        let key = prefix_key(prefix);
        let owner = tables.owner(prefix);
        if owner.is_none() && !(prefix.prefix_len() == 0 && serves_foreign(&tables.policy)) {
            return map.remove(&key);
        }
        let iid = owner.map_or(0, |local| local.prefix.iid);
        let header = DataHeader {
            instance_id: (iid != 0).then_some(iid),
            locator_status: owner
                .filter(|_| tables.policy.locator_status_bits)
                .and_then(|local| local.locator_status),
            ..DataHeader::default()
        };
        let mut octets = [0; DATA_HEADER_LEN];
        if header != DataHeader::default() {
            header.emit(&mut octets);
        }
        let mut value = [0; source::LENGTH];
        put(&mut value, source::INSTANCE, &iid.to_be_bytes());
        // What a PITR attracts, it attracts by routes of the main table.
        let table = owner.map_or(Some(MAIN), |_| self.routing_tables.get(&iid).copied());
        put(
            &mut value,
            source::TABLE,
            &table.unwrap_or(MAIN).to_ne_bytes(),
        );
        put(&mut value, source::HEADER, &octets);
        map.set(&key, &value)
    }

    /// The kernel's routes changed, and perhaps its rules.
    pub(super) fn routes(&mut self, routes: &SiteRoutes) -> io::Result<()> {
        self.site(routes)?;
        let wanted: BTreeMap<IpNet, bool> = routes.before_tunnel().collect();
        sync_trie(&self.maps.specific, &self.specific, &wanted)?;
        self.specific = wanted;
        if routes.rules_are_plain_v6() != self.routes_v6 {
            self.routes_v6 = !self.routes_v6;
            self.policy()?;
        }
        Ok(())
    }

    /// Routes of the site, as far as local EIDs are concerned.
    fn site(&mut self, routes: &SiteRoutes) -> io::Result<()> {
        let mut wanted = BTreeMap::new();
        for local in self.forwarding.locals() {
            wanted.extend(routes.about(&local.prefix.prefix));
        }
        for (family, v6) in [(0, false), (1, true)] {
            let of_family = |routes: &BTreeMap<IpNet, bool>| -> BTreeMap<IpNet, bool> {
                let this = |(prefix, _): &(&IpNet, &bool)| prefix.addr().is_ipv6() == v6;
                routes.iter().filter(this).map(|(p, l)| (*p, *l)).collect()
            };
            let map = &self.maps.families[family].site;
            sync_trie(map, &of_family(&self.site), &of_family(&wanted))?;
        }
        self.site = wanted;
        Ok(())
    }

    /// A map-cache entry came, changed or went.
    pub(super) fn entry(&mut self, prefix: &EidPrefix) -> io::Result<()> {
        self.collect_entry(prefix);
        let now = Instant::now();
        let mut old = self.entries.remove(prefix).unwrap_or_default();
        let current = self.forwarding.get(prefix);
        let mut new = Published::default();
        let value = match current.as_deref() {
            None => None,
            Some(entry) => match &entry.decision {
                Decision::Encapsulate(set) if entry.map_version.is_none() => {
                    Some(self.serve(set, &mut old, &mut new, now)?)
                }
                _ => Some((entry::DAEMON, 0)),
            },
        };
        if value.is_none_or(|(kind, _)| kind == entry::DAEMON) {
            // Places that were found before one was missing.
            old.served.append(&mut new.served);
        }
        let key = instance_key(prefix.iid, prefix.prefix);
        let cache = &self.maps.family(prefix.prefix.addr()).cache;
        match value {
            None => cache.remove(&key)?,
            Some((kind, index)) => {
                let mut value = [0; entry::LENGTH];
                put(&mut value, entry::KIND, &kind.to_ne_bytes());
                put(&mut value, entry::INDEX, &index.to_ne_bytes());
                cache.set(&key, &value)?;
            }
        }
        // Only now does nothing lead there any more.
        for served in old.served {
            self.slots.free(served.slot, now);
        }
        if let Some(set) = old.set {
            self.sets.free(set, now);
        }
        if !new.served.is_empty() {
            self.entries.insert(*prefix, new);
        }
        Ok(())
    }

    /// Writes what programs need to choose among an entry's locators; kind and index of its value. What can stay of
    /// the old one moves to the new one.
    fn serve(
        &mut self,
        set: &LocatorSet,
        old: &mut Published,
        new: &mut Published,
        now: Instant,
    ) -> io::Result<(u32, u32)> {
        let Some(choices) = set.choices() else {
            return Ok((entry::DAEMON, 0));
        };
        let mut places: BTreeMap<u8, u32> = BTreeMap::new();
        for &index in choices.iter() {
            if places.contains_key(&index) {
                continue;
            }
            let Some(destination) = set.destinations().get(usize::from(index)) else {
                return Ok((entry::DAEMON, 0));
            };
            let Some(served) = self.place(destination, old, now) else {
                return Ok((entry::DAEMON, 0));
            };
            self.write_destination(&served)?;
            places.insert(index, served.slot);
            new.served.push(served);
        }
        if let [one] = new.served.as_slice() {
            return Ok((entry::ONE, one.slot));
        }
        let Some(place) = self.sets.take(now) else {
            return Ok((entry::DAEMON, 0));
        };
        new.set = Some(place);
        let slots: Vec<u8> = choices
            .iter()
            .filter_map(|index| places.get(index))
            .flat_map(|slot| slot.to_ne_bytes())
            .collect();
        self.maps.sets.set(&place.to_ne_bytes(), &slots)?;
        Ok((entry::SET, place))
    }

    /// A place for a locator: the one that it has in the old entry, or a new one.
    fn place(
        &mut self,
        destination: &Destination,
        old: &mut Published,
        now: Instant,
    ) -> Option<Served> {
        let same = |served: &Served| {
            (served.destination.rloc, served.destination.source)
                == (destination.rloc, destination.source)
        };
        if let Some(at) = old.served.iter().position(same) {
            let mut served = old.served.swap_remove(at);
            served.destination = destination.clone();
            return Some(served);
        }
        let slot = self.slots.take(now)?;
        Some(Served {
            destination: destination.clone(),
            slot,
            seen: used(&self.maps, slot).0,
        })
    }

    fn write_destination(&self, served: &Served) -> io::Result<()> {
        let Destination {
            rloc,
            source,
            ref state,
            ..
        } = served.destination;
        let daemon = self.stateful.contains(&rloc) || state.requested_echo().is_some();
        let family: u32 = match (source, rloc) {
            _ if daemon => 0,
            (Some(IpAddr::V4(_)), IpAddr::V4(_)) => 4,
            (Some(IpAddr::V6(_)), IpAddr::V6(_)) => 6,
            _ => 0,
        };
        let limit = inner_limit(self.locator_mtu, &served.destination) as u32;
        let mut value = [0; destination::LENGTH];
        put(&mut value, destination::FAMILY, &family.to_ne_bytes());
        put(&mut value, destination::LIMIT, &limit.to_ne_bytes());
        put(
            &mut value,
            destination::SOURCE,
            &octets(source.unwrap_or(rloc)),
        );
        put(&mut value, destination::RLOC, &octets(rloc));
        // A place in use changes only in its family and its limit, each a whole word.
        self.maps
            .destinations
            .set(&served.slot.to_ne_bytes(), &value)
    }

    /// What is known about a locator changed.
    pub(super) fn rloc(&self, rloc: IpAddr) -> io::Result<()> {
        self.entries
            .values()
            .flat_map(|published| &published.served)
            .filter(|served| served.destination.rloc == rloc)
            .try_for_each(|served| self.write_destination(served))
    }

    /// From now on packets to this locator are the daemon's.
    pub(super) fn keep_in_daemon(&mut self, rloc: IpAddr) -> io::Result<()> {
        if self.stateful.insert(rloc) {
            self.rloc(rloc)?;
        }
        Ok(())
    }

    /// Takes over what programs counted for an entry.
    pub(super) fn collect_entry(&mut self, prefix: &EidPrefix) {
        if let Some(published) = self.entries.get_mut(prefix) {
            take_over(&self.maps, &self.forwarding, prefix, published);
        }
    }

    /// Takes over everything that programs counted.
    pub(super) fn collect(&mut self) {
        for (prefix, published) in &mut self.entries {
            take_over(&self.maps, &self.forwarding, prefix, published);
        }
        for (index, counter) in [
            (total::ENCAPSULATED, Counter::Encapsulated),
            (total::DECAPSULATED, Counter::Decapsulated),
        ] {
            let words = &self.maps.totals_words;
            let ((packets, _), _) = sum(words, total::COUNT, self.maps.regions, index);
            let seen = std::mem::replace(&mut self.totals[index as usize], packets);
            let counters = self.forwarding.counters();
            counters.add(counter, packets.wrapping_sub(seen));
        }
    }

    /// No packet is the programs' any more.
    pub(super) fn stop(&self) -> io::Result<()> {
        let value = [0; settings::LENGTH];
        self.maps.settings.set(&0u32.to_ne_bytes(), &value)
    }
}

/// Makes a trie of routes hold what is wanted, where it held something else before.
fn sync_trie(
    map: &Map,
    before: &BTreeMap<IpNet, bool>,
    wanted: &BTreeMap<IpNet, bool>,
) -> io::Result<()> {
    for (prefix, value) in wanted {
        if before.get(prefix) != Some(value) {
            map.set(&prefix_key(*prefix), &u32::from(*value).to_ne_bytes())?;
        }
    }
    before
        .keys()
        .filter(|prefix| !wanted.contains_key(prefix))
        .try_for_each(|prefix| map.remove(&prefix_key(*prefix)))
}

/// Counts for an entry what programs did for its locators since the last time.
fn take_over(maps: &Maps, forwarding: &Forwarding, prefix: &EidPrefix, published: &mut Published) {
    let entry = forwarding.get(prefix);
    for served in &mut published.served {
        let (counted, last) = used(maps, served.slot);
        let packets = counted.0.wrapping_sub(served.seen.0);
        let octets = counted.1.wrapping_sub(served.seen.1);
        if packets == 0 {
            continue;
        }
        served.seen = counted;
        served.destination.state.sent(packets, octets);
        if let Some(entry) = &entry {
            entry.was_used(packets, octets, milliseconds(forwarding, last));
        }
    }
}

/// The monotonic clock's nanoseconds as milliseconds of the tables' epoch.
fn milliseconds(forwarding: &Forwarding, nanoseconds: u64) -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(0, |t| {
        t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64
    });
    let ago = now.saturating_sub(nanoseconds) / 1_000_000;
    forwarding.now_ms().saturating_sub(ago)
}

/// Packets and octets of a locator's place since the start, and the last use in nanoseconds of the monotonic clock.
fn used(maps: &Maps, slot: u32) -> ((u64, u64), u64) {
    sum(&maps.used_words, DESTINATIONS, maps.regions, slot)
}

/// Adds up a place over all regions of `entries` places each; the last use is the latest one.
fn sum(words: &Words, entries: u32, regions: u32, place: u32) -> ((u64, u64), u64) {
    let word = |region: u32, field: i16| {
        let at = (region * entries + place) as usize * usage::WORDS;
        words.get(at + field as usize / 8)
    };
    let total = |field| {
        (0..regions)
            .map(|r| word(r, field))
            .fold(0, u64::wrapping_add)
    };
    let last = (0..regions).map(|r| word(r, usage::LAST)).max();
    (
        (total(usage::PACKETS), total(usage::OCTETS)),
        last.unwrap_or(0),
    )
}

/// Whether packets may be encapsulated although their source is no local EID (RFC 6832 5.2). What an RTR decapsulates
/// never comes by an interface.
fn serves_foreign(policy: &Policy) -> bool {
    policy.role.encapsulates_foreign_sources() && policy.role != Role::Rtr
}
