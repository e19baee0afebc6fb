//! The map-cache: what is known about other sites' EID-Prefixes (RFC 6830 6.1.4, 6.1.5).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use daemon::Time;
use lisp::EidPrefix;
use lisp::wire::Action as RecordAction;

use super::eid_table::EidTable;
use super::event::{Action, Forward, ForwardLocator};
use super::locator_set::CachedLocator;
use super::requests::Purpose;
use super::settings::{StaticEntry, StaticPath};
use super::{Core, Timer};

/// Where an entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The configuration: never expires, never replaced by a Map-Reply.
    Static,
    /// A Map-Reply.
    Learned {
        /// Source address of the Map-Reply.
        replier: IpAddr,
        /// A bit of the record.
        authoritative: bool,
    },
    /// The outer source of a data packet, until verified (RFC 6830 6.2).
    Gleaned,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapping {
    /// A locator-set, in the order of the record.
    Locators(Vec<CachedLocator>),
    /// No locators: an action (RFC 6830 6.1.4).
    Negative(RecordAction),
}

/// A map-cache entry.
#[derive(Debug, Clone)]
pub struct Cached {
    /// Where it comes from.
    pub origin: Origin,
    /// What it says.
    pub mapping: Mapping,
    /// When the prefix came into the map-cache.
    pub since: Time,
    /// When its mapping was last confirmed.
    pub confirmed: Time,
    /// When it goes; none: never.
    pub expires: Option<Time>,
    /// Map-version of the record; 0: none (RFC 6834).
    pub version: u16,
    /// Locator-status bits last seen from the site, and how many of them count (RFC 6830 6.3).
    pub status: Option<(u32, u8)>,
}

/// The entries, and who uses which locator.
#[derive(Debug, Default)]
pub struct MapCache {
    pub(super) entries: EidTable<Cached>,
    pub(super) users: BTreeMap<IpAddr, BTreeSet<EidPrefix>>,
    learned: usize,
}

impl MapCache {
    /// The entry for an EID.
    pub fn lookup(&self, iid: u32, eid: IpAddr) -> Option<(EidPrefix, &Cached)> {
        self.entries.lookup(iid, eid)
    }

    /// Whether at most `limit` entries are learned when these prefixes are there too.
    /// Whether this very prefix is there, and was not configured.
    pub(super) fn is_learned(&self, prefix: &EidPrefix) -> bool {
        let entry = self.entries.get(prefix);
        entry.is_some_and(|entry| entry.origin != Origin::Static)
    }

    pub(super) fn has_room_for(
        &self,
        prefixes: impl Iterator<Item = EidPrefix>,
        limit: usize,
    ) -> bool {
        let new: BTreeSet<EidPrefix> = prefixes
            .filter(|prefix| self.entries.get(prefix).is_none())
            .collect();
        self.learned + new.len() <= limit
    }

    fn insert(&mut self, prefix: EidPrefix, entry: Cached) -> Option<Cached> {
        let rlocs = rlocs_of(&entry.mapping);
        self.learned += usize::from(entry.origin != Origin::Static);
        let old = self.take(&prefix);
        for rloc in rlocs {
            self.users.entry(rloc).or_default().insert(prefix);
        }
        self.entries.insert(prefix, entry);
        old
    }

    fn take(&mut self, prefix: &EidPrefix) -> Option<Cached> {
        let old = self.entries.remove(prefix)?;
        self.learned -= usize::from(old.origin != Origin::Static);
        for rloc in rlocs_of(&old.mapping) {
            if let Some(users) = self.users.get_mut(&rloc) {
                users.remove(prefix);
                if users.is_empty() {
                    self.users.remove(&rloc);
                }
            }
        }
        Some(old)
    }
}

/// Every RLOC of a mapping once.
pub fn rlocs_of(mapping: &Mapping) -> BTreeSet<IpAddr> {
    match mapping {
        Mapping::Locators(locators) => locators.iter().filter_map(|l| l.rloc).collect(),
        Mapping::Negative(_) => BTreeSet::new(),
    }
}

/// Which RLOC has which ordinal.
fn ordinals(mapping: &Mapping) -> Vec<Option<IpAddr>> {
    match mapping {
        Mapping::Locators(locators) => locators.iter().map(|locator| locator.rloc).collect(),
        Mapping::Negative(_) => Vec::new(),
    }
}

/// A life of `ttl` minutes from `now`; 0xffffffff is for ever (RFC 6830 6.1.4).
pub fn expiry(now: Time, ttl: u32) -> Option<Time> {
    (ttl != u32::MAX).then(|| now + Duration::from_secs(u64::from(ttl) * 60))
}

impl Core {
    /// What the packet path does with packets to an entry.
    fn forward(&self, entry: &Cached) -> Forward {
        match &entry.mapping {
            Mapping::Negative(RecordAction::NativelyForward) => Forward::Natively,
            Mapping::Negative(RecordAction::SendMapRequest) => Forward::SendMapRequest,
            // ACT 0 keeps the entry without encapsulation (ambiguities B7); unassigned values drop (RFC 6830 6.1.4).
            Mapping::Negative(
                RecordAction::NoAction | RecordAction::Drop | RecordAction::Other(_),
            ) => Forward::Drop,
            Mapping::Locators(locators) => Forward::Encapsulate(
                locators
                    .iter()
                    .enumerate()
                    .map(|(ordinal, locator)| ForwardLocator {
                        rloc: locator.rloc,
                        priority: locator.priority,
                        weight: locator.weight,
                        usable: self.is_usable(entry, ordinal, locator),
                    })
                    .collect(),
            ),
        }
    }

    fn is_usable(&self, entry: &Cached, ordinal: usize, locator: &CachedLocator) -> bool {
        let Some(rloc) = locator.rloc else {
            return false;
        };
        let status_up = entry
            .status
            .is_none_or(|(bits, width)| ordinal >= usize::from(width) || bits >> ordinal & 1 == 1);
        // An own locator would send the packet back to this box.
        locator.reachable && status_up && !self.prober.is_down(rloc) && !self.settings.is_own(rloc)
    }

    /// Puts the entry of a prefix as it stands now into the packet path.
    pub(super) fn show_entry(&mut self, prefix: &EidPrefix) {
        let Some(entry) = self.cache.entries.get(prefix) else {
            return;
        };
        let version = (self.settings.map_versioning && entry.version != 0).then_some(entry.version);
        let forward = self.forward(entry);
        self.actions.push(Action::Install {
            prefix: *prefix,
            forward,
            map_version: version,
        });
    }

    /// Adds or replaces an entry; false: the map-cache is full, or a static entry stands there.
    pub(super) fn install(&mut self, prefix: EidPrefix, mut entry: Cached) -> bool {
        match self.cache.entries.get(&prefix) {
            Some(old) if old.origin == Origin::Static && entry.origin != Origin::Static => {
                self.counters.count("record-for-static-entry");
                return false;
            }
            Some(old) => {
                entry.since = old.since;
                // The same locators in the same order: what their status bits said still holds (RFC 6830 6.3).
                if ordinals(&old.mapping) == ordinals(&entry.mapping) {
                    entry.status = entry.status.or(old.status);
                }
            }
            None => {
                if entry.origin != Origin::Static
                    && self.cache.learned >= self.settings.map_cache_limit
                {
                    self.complain(
                        "map-cache-full",
                        format!("map-cache full: no room for {prefix}; raise `map-cache-limit`"),
                    );
                    return false;
                }
            }
        }
        match entry.expires {
            Some(at) => {
                self.timers.set(Timer::Expire(prefix), at);
                self.plan_refresh(prefix, &entry, at);
            }
            None => self.cancel_life(&prefix),
        }
        let rlocs = rlocs_of(&entry.mapping);
        let old = self.cache.insert(prefix, entry);
        self.show_entry(&prefix);
        for rloc in rlocs {
            self.watch_locator(rloc);
        }
        self.unwatch_locators(old);
        true
    }

    /// A little before the end, at a random moment, so that entries learned together are not refreshed together.
    fn plan_refresh(&mut self, prefix: EidPrefix, entry: &Cached, expires: Time) {
        if entry.origin == Origin::Gleaned {
            return;
        }
        let life = expires.since(self.now);
        let tenth = u64::try_from(life.as_millis() / 10).unwrap_or(u64::MAX);
        let jitter = Duration::from_millis(self.random_below(tenth));
        self.timers
            .set(Timer::Refresh(prefix), self.now + life / 10 * 8 + jitter);
    }

    fn cancel_life(&mut self, prefix: &EidPrefix) {
        self.timers.cancel(&Timer::Expire(*prefix));
        self.timers.cancel(&Timer::Refresh(*prefix));
    }

    /// Takes an entry out.
    pub(super) fn uninstall(&mut self, prefix: &EidPrefix) -> bool {
        self.cancel_life(prefix);
        let old = self.cache.take(prefix);
        let was_there = old.is_some();
        if was_there {
            self.actions.push(Action::Remove(*prefix));
        }
        self.unwatch_locators(old);
        was_there
    }

    fn unwatch_locators(&mut self, old: Option<Cached>) {
        for rloc in old.iter().flat_map(|entry| rlocs_of(&entry.mapping)) {
            if !self.cache.users.contains_key(&rloc) {
                self.unwatch_locator(rloc);
            }
        }
    }

    pub(super) fn expire(&mut self, prefix: EidPrefix) {
        self.counters.count("map-cache-expired");
        self.uninstall(&prefix);
    }

    /// Asks again for an entry that is in use; an idle one is looked at again later, and left to expire.
    pub(super) fn refresh(&mut self, prefix: EidPrefix) {
        let Some(entry) = self.cache.entries.get(&prefix) else {
            return;
        };
        let Some(expires) = entry.expires else {
            return;
        };
        let left = expires.since(self.now);
        let window = (expires.since(entry.confirmed) / 2).min(Duration::from_secs(600));
        let in_use = self
            .traffic
            .last_used(&prefix)
            .is_some_and(|used| self.now.since(used) <= window);
        if in_use {
            self.counters.count("map-cache-refresh");
            self.ask(prefix, None, Purpose::Refresh);
        } else if left > Duration::from_secs(2) {
            self.timers.set(Timer::Refresh(prefix), self.now + left / 2);
        }
    }

    pub(super) fn install_static(&mut self, entry: StaticEntry) {
        let mapping = match entry.path {
            StaticPath::SendMapRequest => Mapping::Negative(RecordAction::SendMapRequest),
            StaticPath::ForwardNative => Mapping::Negative(RecordAction::NativelyForward),
            StaticPath::Drop => Mapping::Negative(RecordAction::Drop),
            StaticPath::Locators(locators) => {
                Mapping::Locators(locators.into_iter().map(CachedLocator::from).collect())
            }
        };
        self.install(
            entry.prefix,
            Cached {
                origin: Origin::Static,
                mapping,
                since: self.now,
                confirmed: self.now,
                expires: None,
                version: 0,
                status: None,
            },
        );
    }

    pub(super) fn reload_static(&mut self, old: &[StaticEntry]) {
        let new = self.settings.static_entries.clone();
        for entry in old.iter().filter(|entry| !new.contains(entry)) {
            self.uninstall(&entry.prefix);
        }
        for entry in new.into_iter().filter(|entry| !old.contains(entry)) {
            self.install_static(entry);
        }
    }

    pub(super) fn clear_map_cache(&mut self, only: Option<EidPrefix>) {
        let all = self.cache.entries.iter().map(|(prefix, _)| prefix);
        let learned: Vec<EidPrefix> = all
            .filter(|prefix| only.is_none_or(|only| only == *prefix))
            .filter(|prefix| self.cache.is_learned(prefix))
            .collect();
        self.log(format!("map-cache cleared: {} entries", learned.len()));
        for prefix in learned {
            self.uninstall(&prefix);
        }
    }

    /// A prefix became local: what was learned about exactly it, or about its parts, is history.
    pub(super) fn drop_cached(&mut self, prefix: &EidPrefix) {
        for inside in self.cache.entries.inside(prefix) {
            if self.cache.is_learned(&inside) {
                self.uninstall(&inside);
            }
        }
    }

    /// Puts every entry into the packet path again: our own locators changed.
    pub(super) fn show_all_entries(&mut self) {
        for prefix in self.cache.entries.prefixes() {
            self.show_entry(&prefix);
        }
        self.show_petrs();
    }

    /// Puts every entry that uses a locator into the packet path again: its state changed.
    pub(super) fn show_users(&mut self, rloc: IpAddr) {
        let users: Vec<EidPrefix> = self
            .cache
            .users
            .get(&rloc)
            .map(|users| users.iter().copied().collect())
            .unwrap_or_default();
        for prefix in users {
            self.show_entry(&prefix);
        }
    }
}
