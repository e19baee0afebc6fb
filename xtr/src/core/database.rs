//! The database: the site's own EID-Prefixes, their locator-sets, and where they have gone when they are not here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use daemon::Time;
use lisp::EidPrefix;

use super::eid_table::EidTable;
use super::locator_set::is_locator;
use super::settings::{LocalMapping, Settings};
use super::{Action, Change, Core, Timer};
use crate::forwarding::LocalEid;

/// How long after a change the packet path reports who still sends to the prefix (RFC 6830 6.6.2: sites that exchanged
/// data during the last minute).
const SENDER_REPORTS: Duration = Duration::from_secs(60);
/// How long a de-configured or moved prefix is remembered, so that senders can still be told.
const AWAY_MEMORY: Duration = Duration::from_secs(24 * 3600);
/// Hosts of dynamic prefixes that are registered by themselves, at most.
const DYNAMIC_LIMIT: usize = 65_536;

/// One prefix of the database.
#[derive(Debug, Clone)]
pub struct Local {
    /// Its mapping.
    pub mapping: LocalMapping,
    /// When it came, or when its mapping last changed.
    pub since: Time,
    /// Whether the site has a route to it. Without one it is not registered.
    pub routed: bool,
    /// Map-version of its mapping (RFC 6834); never 0.
    pub version: u16,
    /// Until when locator-status bits are left out, because the set that they number changed (RFC 9300 13.1).
    pub status_from: Time,
    /// A host that was seen here, of this dynamic prefix.
    pub of_dynamic: Option<EidPrefix>,
}

/// Why an EID-Prefix is not behind this xTR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwayReason {
    /// A Map-Server said that it is registered elsewhere.
    Moved {
        /// Which Map-Server.
        map_server: IpAddr,
    },
    /// An operator took it out of the database.
    Deconfigured,
    /// The site has no route to it.
    NoRoute,
}

/// An entry of the away table.
#[derive(Debug, Clone, Copy)]
pub struct Away {
    /// Why.
    pub reason: AwayReason,
    /// Since when.
    pub since: Time,
}

/// The local EID-Prefixes and the away table.
#[derive(Debug, Default)]
pub struct Database {
    pub(super) locals: EidTable<Local>,
    pub(super) away: EidTable<Away>,
    /// Prefixes that changed lately, and the locators whose sites know it already.
    pub(super) report_senders: BTreeMap<EidPrefix, BTreeSet<IpAddr>>,
    pub(super) dynamic_hosts: usize,
    /// Locators of the site that an operator holds down, and own ones whose interface is down.
    operator_down: BTreeSet<IpAddr>,
    link_down: BTreeSet<IpAddr>,
}

impl Database {
    /// The configured database.
    pub fn new(mappings: &[LocalMapping]) -> Self {
        let mut database = Self::default();
        for mapping in mappings {
            database.put(mapping.clone(), Time::ZERO);
        }
        database
    }

    fn put(&mut self, mapping: LocalMapping, now: Time) -> Option<Local> {
        let prefix = mapping.prefix;
        let old = self.locals.get(&prefix);
        let local = Local {
            since: now,
            routed: old.is_none_or(|old| old.routed),
            version: old.map_or(mapping.first_version, |old| next_version(old.version)),
            status_from: Time::ZERO,
            of_dynamic: None,
            mapping,
        };
        self.locals.insert(prefix, local)
    }

    fn is_held(&self, address: IpAddr) -> bool {
        self.operator_down.contains(&address) || self.link_down.contains(&address)
    }

    /// All prefixes.
    pub fn prefixes(&self) -> Vec<EidPrefix> {
        self.locals.prefixes()
    }

    /// The local prefix that an EID belongs to.
    pub fn owner(&self, iid: u32, eid: IpAddr) -> Option<(EidPrefix, &Local)> {
        self.locals.lookup(iid, eid)
    }

    /// The prefixes that are here, see [`Database::is_here`].
    pub fn here(&self) -> impl Iterator<Item = EidPrefix> + '_ {
        self.locals
            .prefixes()
            .into_iter()
            .filter(|prefix| self.is_here(prefix))
    }

    /// Whether the prefix is here: in the database, with a route, not away.
    pub fn is_here(&self, prefix: &EidPrefix) -> bool {
        self.locals.get(prefix).is_some_and(|local| local.routed)
            && self
                .away
                .longest_match(prefix)
                .is_none_or(|(away, _)| away != *prefix)
    }
}

/// RFC 9302 6: 0 is never assigned, 4095 is followed by 1.
fn next_version(version: u16) -> u16 {
    if version >= 4095 { 1 } else { version + 1 }
}

impl Core {
    /// The local EID-Prefix that an EID belongs to.
    pub fn local_prefix(&self, iid: u32, eid: IpAddr) -> Option<EidPrefix> {
        self.database.owner(iid, eid).map(|(prefix, _)| prefix)
    }

    /// The local EID-Prefixes that have no route in the site.
    pub fn unrouted(&self) -> impl Iterator<Item = EidPrefix> + '_ {
        self.database
            .locals
            .iter()
            .filter(|(_, local)| !local.routed)
            .map(|(prefix, _)| prefix)
    }

    /// Tells the packet path how a local prefix stands.
    pub(super) fn show_local(&mut self, prefix: &EidPrefix) {
        let Some(local) = self.database.locals.get(prefix) else {
            return;
        };
        let use_status = self.settings.locator_status_bits && local.status_from <= self.now;
        let status = use_status.then(|| {
            let mut sorted = local.mapping.locators.clone();
            sorted.sort_by_key(|locator| locator.address);
            sorted
                .iter()
                .take(32)
                .enumerate()
                .filter(|(_, locator)| locator.up)
                .fold(0u32, |bits, (ordinal, _)| bits | 1 << ordinal)
        });
        let away = self.database.away.get(prefix).is_some();
        let version = self.settings.map_versioning.then_some(local.version);
        let mut eid = LocalEid::new(*prefix);
        eid.locator_status = status;
        eid.map_version = version;
        eid.away = away;
        eid.report_senders =
            self.settings.glean || self.database.report_senders.contains_key(prefix);
        eid.stale_senders = self.solicitor.ignorant(prefix);
        self.actions.push(Action::SetLocal(eid));
    }

    /// Why a change cannot be made: what was expected and what was found. None: it can.
    pub fn refusal(&self, change: &Change) -> Option<String> {
        let known = |prefix: &EidPrefix| {
            let missing = self.database.locals.get(prefix).is_none();
            missing.then(|| format!("expected an EID-Prefix of the database, found {prefix}"))
        };
        let reachable = |address: IpAddr| {
            let inside = self.database.owner(0, address).map(|(prefix, _)| prefix);
            if !is_locator(address) {
                Some(format!("expected a unicast locator, found {address}"))
            } else {
                // RFC 6830 3: addresses from EID-Prefixes are never used as locators.
                inside.map(|prefix| format!("expected a locator, found {address} of {prefix}"))
            }
        };
        // A packet's source is all that tells its instance.
        let shared = |new: &EidPrefix| {
            let others = self.database.locals.prefixes();
            let other = others.into_iter().find(|other| {
                other.iid != new.iid
                    && (other.prefix.contains(&new.prefix) || new.prefix.contains(&other.prefix))
            });
            other.map(|other| {
                format!("expected an EID-Prefix that no other Instance ID has, found {new}, which overlaps {other}")
            })
        };
        match change {
            Change::Add(mapping) => mapping
                .locators
                .iter()
                .find_map(|locator| reachable(locator.address))
                .or_else(|| shared(&mapping.prefix)),
            Change::Remove(prefix) => known(prefix),
            Change::Move { from, to } => known(from).or_else(|| {
                let taken = self.database.locals.get(to).is_some();
                taken
                    .then(|| {
                        format!("expected a new EID-Prefix, found {to}, which is there already")
                    })
                    .or_else(|| shared(to))
            }),
            Change::Locator { address, .. } => {
                let mappings = || self.database.locals.iter().map(|(_, local)| &local.mapping);
                let named = mappings().any(|m| m.locators.iter().any(|l| l.address == *address));
                let missing = !named && !self.settings.is_own(*address);
                missing.then(|| format!("expected a locator of the site, found {address}"))
            }
            Change::ClearMapCache(None) => None,
            Change::ClearMapCache(Some(prefix)) => {
                let learned = self.cache.is_learned(prefix);
                (!learned).then(|| {
                    format!("expected a learned entry of the map-cache, found {prefix}: show map-cache lists them")
                })
            }
        }
    }

    pub(super) fn on_change(&mut self, change: Change) {
        match change {
            Change::Add(mapping) => {
                let prefix = mapping.prefix;
                let text = format!("database: {prefix} added");
                if self.put_local(mapping) {
                    self.log(text);
                    self.database_changed(&[prefix]);
                }
            }
            Change::Remove(prefix) => self.remove_local(prefix, AwayReason::Deconfigured),
            Change::Move { from, to } => {
                if let Some(local) = self.database.locals.get(&from) {
                    let mut mapping = local.mapping.clone();
                    mapping.prefix = to;
                    self.remove_local(from, AwayReason::Deconfigured);
                    self.on_change(Change::Add(mapping));
                }
            }
            Change::Locator { address, up } => self.hold_locator(address, up),
            Change::ClearMapCache(prefix) => self.clear_map_cache(prefix),
        }
    }

    /// Adds or replaces a mapping; false: nothing changed.
    fn put_local(&mut self, mut mapping: LocalMapping) -> bool {
        for locator in &mut mapping.locators {
            locator.up = !self.database.is_held(locator.address);
        }
        let prefix = mapping.prefix;
        let same =
            self.database.locals.get(&prefix).is_some_and(|old| {
                old.mapping == mapping && self.database.away.get(&prefix).is_none()
            });
        if same {
            return false;
        }
        self.database.away.remove(&prefix);
        let old = self.database.put(mapping, self.now);
        self.renumber_status(&prefix, old.as_ref());
        self.solicitor.forget_stale(&prefix);
        self.drop_cached(&prefix);
        self.show_local(&prefix);
        true
    }

    /// RFC 9300 13.1: after a change of the set, no locator-status bits for a while. RFC 6830 6.6.2 wants each site to get
    /// bits of the set that it knows; none at all are wrong for nobody.
    fn renumber_status(&mut self, prefix: &EidPrefix, old: Option<&Local>) {
        let Some(local) = self.database.locals.get_mut(prefix) else {
            return;
        };
        let addresses = |local: &Local| -> BTreeSet<IpAddr> {
            local.mapping.locators.iter().map(|l| l.address).collect()
        };
        let renumbered = old.is_some_and(|old| addresses(old) != addresses(local));
        if renumbered {
            local.status_from = self.now + self.settings.use_lsb_timer;
            self.timers
                .set(Timer::StatusBits(*prefix), local.status_from);
        }
    }

    fn remove_local(&mut self, prefix: EidPrefix, reason: AwayReason) {
        let Some(local) = self.database.locals.remove(&prefix) else {
            return;
        };
        if local.of_dynamic.is_some() {
            self.database.dynamic_hosts -= 1;
        }
        self.log(format!("database: {prefix} removed"));
        self.deregister(&[prefix]);
        self.actions.push(Action::RemoveLocal(prefix));
        self.put_away(prefix, reason);
        self.solicit_correspondents(prefix);
    }

    /// The kernel says whether an own locator's interface works. An operator's word counts besides.
    pub(super) fn on_own_link(&mut self, address: IpAddr, up: bool) {
        if up {
            self.database.link_down.remove(&address);
        } else {
            self.database.link_down.insert(address);
        }
        self.settle_locator(address);
    }

    fn hold_locator(&mut self, address: IpAddr, up: bool) {
        if up {
            self.database.operator_down.remove(&address);
        } else {
            self.database.operator_down.insert(address);
        }
        self.settle_locator(address);
    }

    /// Brings every mapping in line with whether a locator of the site is held down.
    fn settle_locator(&mut self, address: IpAddr) {
        let up = !self.database.is_held(address);
        if self.settings.is_own(address) && self.settings.held_down.contains(&address) == up {
            if up {
                self.settings.held_down.remove(&address);
            } else {
                self.settings.held_down.insert(address);
            }
            self.show_all_entries();
        }
        let mut changed = Vec::new();
        for prefix in self.database.prefixes() {
            let Some(local) = self.database.locals.get_mut(&prefix) else {
                continue;
            };
            let mut touched = false;
            for locator in &mut local.mapping.locators {
                touched |= locator.address == address && locator.up != up;
                if locator.address == address {
                    locator.up = up;
                }
            }
            if touched {
                local.version = next_version(local.version);
                local.since = self.now;
                changed.push(prefix);
            }
        }
        if !changed.is_empty() {
            let word = if up { "up" } else { "down" };
            self.log(format!("locator {address} of the site is {word}"));
            for prefix in &changed {
                self.solicitor.forget_stale(prefix);
                self.show_local(prefix);
            }
            self.database_changed(&changed);
        }
    }

    /// Registers changed prefixes at once and tells those who use them (RFC 6830 6.6.2, RFC 6833 4.2).
    pub(super) fn database_changed(&mut self, prefixes: &[EidPrefix]) {
        // Data that leaves after the news of a change already says nothing of the old locator-set (RFC 9300 13.1).
        for prefix in prefixes {
            self.database
                .report_senders
                .insert(*prefix, BTreeSet::new());
            self.show_local(prefix);
        }
        self.register_changed();
        for prefix in prefixes {
            self.solicit_correspondents(*prefix);
            self.timers
                .set(Timer::SenderReports(*prefix), self.now + SENDER_REPORTS);
        }
    }

    pub(super) fn end_sender_reports(&mut self, prefix: EidPrefix) {
        self.database.report_senders.remove(&prefix);
        if self.database.is_here(&prefix) {
            self.show_local(&prefix);
        }
    }

    /// Puts a prefix into the away table: packets that still arrive for it cause Solicit-Map-Requests.
    pub(super) fn put_away(&mut self, prefix: EidPrefix, reason: AwayReason) {
        let away = Away {
            reason,
            since: self.now,
        };
        self.database.away.insert(prefix, away);
        let mut eid = LocalEid::new(prefix);
        eid.away = true;
        self.actions.push(Action::SetLocal(eid));
        self.forget_old_away();
    }

    fn forget_old_away(&mut self) {
        let old: Vec<EidPrefix> = self
            .database
            .away
            .iter()
            .filter(|(prefix, away)| {
                self.now.since(away.since) > AWAY_MEMORY
                    && self.database.locals.get(prefix).is_none()
            })
            .map(|(prefix, _)| prefix)
            .collect();
        for prefix in old {
            self.database.away.remove(&prefix);
            self.actions.push(Action::RemoveLocal(prefix));
        }
    }

    /// The kernel's routes into the site changed (a prefix without a route is not registered any more).
    pub(super) fn on_site_route(&mut self, prefix: EidPrefix, present: bool) {
        let Some(local) = self.database.locals.get_mut(&prefix) else {
            return;
        };
        if local.routed == present {
            return;
        }
        local.routed = present;
        local.since = self.now;
        if present {
            self.log(format!("database: {prefix} has a route again"));
            self.database.away.remove(&prefix);
            self.drop_cached(&prefix);
            self.show_local(&prefix);
            self.database_changed(&[prefix]);
        } else {
            self.log(format!("database: {prefix} has no route"));
            self.deregister(&[prefix]);
            self.put_away(prefix, AwayReason::NoRoute);
        }
    }

    /// A host of a dynamic prefix sends here: it lives behind this xTR now.
    pub(super) fn on_source_seen(&mut self, iid: u32, source: IpAddr) {
        let host = EidPrefix::host(iid, source);
        let Some((owner, local)) = self.database.owner(iid, source) else {
            return;
        };
        let gone = self.now + self.settings.dynamic_eid_timeout;
        if owner == host && local.of_dynamic.is_some() {
            return self.timers.set(Timer::HostGone(host), gone);
        }
        if !local.mapping.dynamic || owner == host {
            return;
        }
        if self.database.dynamic_hosts >= DYNAMIC_LIMIT {
            return self.counters.count("dynamic-hosts-full");
        }
        let mut mapping = local.mapping.clone();
        mapping.prefix = host;
        mapping.dynamic = false;
        self.database.dynamic_hosts += 1;
        self.put_local(mapping);
        if let Some(local) = self.database.locals.get_mut(&host) {
            local.of_dynamic = Some(owner);
        }
        self.timers.set(Timer::HostGone(host), gone);
        self.log(format!("database: {host} seen here, of {owner}"));
        self.database_changed(&[host]);
    }

    /// A host of a dynamic prefix has sent nothing for so long that it is not taken to be here any more. Packets to it are
    /// delivered as to the other hosts of the prefix; the first one from it brings it back.
    pub(super) fn host_gone(&mut self, host: EidPrefix) {
        let of_dynamic = |local: &Local| local.of_dynamic.is_some();
        if !self.database.locals.get(&host).is_some_and(of_dynamic) {
            return;
        }
        self.database.locals.remove(&host);
        self.database.report_senders.remove(&host);
        self.database.dynamic_hosts -= 1;
        self.log(format!(
            "database: {host} has been silent for long, forgotten"
        ));
        self.deregister(&[host]);
        self.actions.push(Action::RemoveLocal(host));
        self.solicit_correspondents(host);
    }

    /// A new configuration: only differences act, the map-cache stays.
    pub(super) fn reload(&mut self, settings: Settings) {
        let configured: Vec<EidPrefix> = settings.database.iter().map(|m| m.prefix).collect();
        let removed: Vec<EidPrefix> = self
            .settings
            .database
            .iter()
            .map(|mapping| mapping.prefix)
            .filter(|prefix| !configured.contains(prefix))
            .collect();
        // Deregistration still goes to the old Map-Servers.
        for prefix in removed {
            self.remove_local(prefix, AwayReason::Deconfigured);
        }
        self.leave_map_servers(&settings);
        let old = std::mem::replace(&mut self.settings, settings);
        self.settings.held_down.clone_from(&old.held_down);
        if self.settings.rlocs != old.rlocs {
            self.show_all_entries();
        }
        self.requests.reconfigure(&self.settings);
        let mut changed = Vec::new();
        for mapping in self.settings.database.clone() {
            let prefix = mapping.prefix;
            let was = old.database.iter().find(|m| m.prefix == prefix);
            if was != Some(&mapping) && self.put_local(mapping) {
                changed.push(prefix);
            }
        }
        self.reload_static(&old.static_entries);
        self.watch_petrs();
        self.forget_petrs(&old.petrs);
        self.reload_probing();
        self.restart_registration(old.map_servers.len());
        if !changed.is_empty() {
            self.database_changed(&changed);
        }
        self.log("configuration read again");
    }
}
