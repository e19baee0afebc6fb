//! Who registered a prefix, and what the prefix maps to because of that.

use std::net::IpAddr;
use std::num::NonZeroU32;

use daemon::Time;
use lisp::wire::{Action, Locator, MapRecord, XtrSiteId};
use lisp::{Address, EidPrefix};
use smallvec::SmallVec;

use super::LocatorSet;

/// What tells ETRs of one prefix apart: the xTR-ID where one is sent, otherwise the source address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EtrId {
    /// Source address of its Map-Registers.
    Address(IpAddr),
    /// xTR-ID (RFC 9301 5.6).
    Xtr([u8; 16]),
}

/// One ETR's registration of one prefix.
#[derive(Debug, Clone, PartialEq)]
pub struct Etr {
    /// Where its last Map-Register came from.
    pub source: IpAddr,
    /// Our address that it was sent to.
    pub asked: IpAddr,
    /// First Map-Register of this lifetime.
    pub first: Time,
    /// Last one.
    pub last: Time,
    /// When it goes unless it is refreshed.
    pub expires: Time,
    /// Nonce of the last Map-Register.
    pub nonce: u64,
    /// Fingerprint of the key that it is authenticated with.
    pub key: u64,
    /// xTR-ID and Site-ID, where they were sent.
    pub ids: Option<Box<XtrSiteId>>,
    /// Record TTL in minutes.
    pub ttl: u32,
    /// P bit.
    pub proxy_reply: bool,
    /// a bit.
    pub merge: bool,
    /// M bit.
    pub want_map_notify: bool,
    /// T bit: the record TTL bounds the registration.
    pub use_ttl: bool,
    /// Read from disk and not registered again since.
    pub restored: bool,
    /// What an ITR does when there are no locators.
    pub action: Action,
    /// Map-version number.
    pub map_version: u16,
    /// The locator-set as registered, sorted.
    pub locators: LocatorSet,
}

/// ETRs of one prefix. Most prefixes have one, which takes no memory of its own.
pub(crate) type Etrs = SmallVec<[Etr; 1]>;

/// Turns taken, and one: never 0, so that a prefix without registration is told apart without an octet more.
type Turn = NonZeroU32;

impl Etr {
    /// Who.
    pub fn id(&self) -> EtrId {
        match &self.ids {
            Some(ids) => EtrId::Xtr(ids.xtr_id),
            None => EtrId::Address(self.source),
        }
    }
}

/// All registrations of one prefix.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// Number of the site.
    pub(crate) site: u32,
    /// Whose turn it is to get a Map-Request.
    pub(crate) turn: Turn,
    /// When the expiry timer looks at it next.
    pub(crate) scheduled: Time,
    /// In the order of their last Map-Register: the latest is last.
    pub(crate) etrs: Etrs,
}

/// What a new registration did to those before it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Change {
    /// ETRs that no longer hold the prefix: it moved away from them.
    pub(crate) moved_from: Vec<Etr>,
}

impl Registration {
    pub(crate) fn new(site: u32) -> Self {
        Self {
            site,
            turn: Turn::MIN,
            scheduled: Time::NEVER,
            etrs: Etrs::new(),
        }
    }

    /// Takes in a registration. `dynamic`: the prefix is not configured itself (a mobile EID), so that it has one place.
    pub(crate) fn register(&mut self, mut etr: Etr, dynamic: bool) -> Change {
        let before = self.etrs.iter().position(|known| known.id() == etr.id());
        let latest = self.etrs.last().map(Etr::id);
        if let Some(index) = before {
            let old = self.etrs.remove(index);
            etr.first = old.first;
            if old.locators == etr.locators {
                etr.locators = old.locators;
            }
        }
        let mut moved_from = Vec::new();
        if !etr.merge {
            // RFC 6833 is silent on two ETRs with different sets: the latest wins. An ETR that stands in the latest set
            // serves the site together with it and stays; another one has lost the EID.
            let leaves = |known: &Etr| !known.merge && !shares_locator(known, &etr);
            if dynamic {
                moved_from = take_out(&mut self.etrs, leaves);
            } else {
                let previous = self.etrs.last().filter(|known| latest == Some(known.id()));
                moved_from.extend(previous.filter(|known| leaves(known)).cloned());
            }
        }
        self.etrs.push(etr);
        Change { moved_from }
    }

    /// Takes one ETR's registration out.
    pub(crate) fn remove(&mut self, id: &EtrId) -> Option<Etr> {
        let index = self.etrs.iter().position(|etr| etr.id() == *id)?;
        Some(self.etrs.remove(index))
    }

    /// Takes out what has timed out.
    pub(crate) fn expire(&mut self, now: Time) -> Vec<Etr> {
        take_out(&mut self.etrs, |etr| etr.expires <= now)
    }

    /// The ETRs whose registrations make the mapping: those that asked for merging when the latest did, otherwise the
    /// latest and those that stand in its locator-set.
    pub(crate) fn active(&self) -> impl Iterator<Item = &Etr> {
        let latest = self.etrs.last();
        self.etrs.iter().filter(move |etr| match latest {
            Some(latest) if latest.merge => etr.merge,
            Some(latest) => etr.id() == latest.id() || shares_locator(etr, latest),
            None => false,
        })
    }

    /// Whether any registered ETR asked for proxy replies (RFC 6833 4.3).
    pub(crate) fn proxied(&self) -> bool {
        self.etrs.iter().any(|etr| etr.proxy_reply)
    }

    /// The mapping as a Map-Server tells it: authoritative and local bits cleared (RFC 6830 6.1.4).
    pub(crate) fn proxy_record(&self, prefix: &EidPrefix) -> Option<MapRecord> {
        let latest = self.etrs.last()?;
        Some(MapRecord {
            ttl: latest.ttl,
            map_version: latest.map_version,
            locators: self.locator_set().into_iter().map(not_local).collect(),
            ..MapRecord::negative(*prefix, latest.ttl, latest.action)
        })
    }

    /// The locator-set that holds, sorted (RFC 6830 6.1.5).
    pub(crate) fn locator_set(&self) -> Vec<Locator> {
        let Some(latest) = self.etrs.last() else {
            return Vec::new();
        };
        if !latest.merge {
            return latest.locators.to_vec();
        }
        let mut set: Vec<Locator> = Vec::new();
        // The latest first: of two statements about one locator the owner's counts, then the newer one.
        for etr in self.etrs.iter().rev().filter(|etr| etr.merge) {
            for locator in etr.locators.iter() {
                match set.iter_mut().find(|known| known.rloc == locator.rloc) {
                    None => set.push(locator.clone()),
                    Some(known) if locator.local && !known.local => *known = locator.clone(),
                    Some(_) => {}
                }
            }
        }
        set.sort_by(|a, b| a.rloc.cmp(&b.rloc));
        set
    }

    /// Where the next Map-Request goes: the usable locators of the active ETRs take turns.
    ///
    /// `reachable` says whether this host has a socket of an address's family.
    pub(crate) fn next_target(&mut self, reachable: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
        let mut targets: Vec<IpAddr> = Vec::with_capacity(4);
        for etr in self.active() {
            let own = etr.locators.iter().any(|locator| locator.local);
            let of_etr = etr.locators.iter().filter(|locator| {
                (locator.local || !own) && locator.reachable && locator.priority != 255
            });
            for target in of_etr.filter_map(|locator| locator.rloc.ip()) {
                if reachable(&target) && !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        if targets.is_empty() {
            // A locator that must carry no data can still answer questions; failing that, the register's source.
            for etr in self.active() {
                let registered = etr.locators.iter().filter_map(|locator| locator.rloc.ip());
                let fallback = registered
                    .clone()
                    .find(|target| *target == etr.source)
                    .or_else(|| registered.into_iter().find(&reachable))
                    .unwrap_or(etr.source);
                if reachable(&fallback) {
                    targets.push(fallback);
                }
            }
        }
        if targets.is_empty() {
            return None;
        }
        // The order of registering changes with each Map-Register; turns need one that stays.
        targets.sort_unstable();
        let target = targets[(self.turn.get() - 1) as usize % targets.len()];
        self.turn = self.turn.checked_add(1).unwrap_or(Turn::MIN);
        Some(target)
    }
}

/// Takes out the ETRs for which `leaves` holds; the others keep their order.
pub(crate) fn take_out(etrs: &mut Etrs, leaves: impl Fn(&Etr) -> bool) -> Vec<Etr> {
    let mut taken = Vec::new();
    let mut index = 0;
    while index < etrs.len() {
        if leaves(&etrs[index]) {
            taken.push(etrs.remove(index));
        } else {
            index += 1;
        }
    }
    taken
}

/// Whether an ETR stands in another's locator-set, by its source or by a locator of its own.
fn shares_locator(etr: &Etr, set: &Etr) -> bool {
    let in_set = |address: &Address| set.locators.iter().any(|locator| locator.rloc == *address);
    in_set(&Address::from(etr.source)) || etr.locators.iter().any(|locator| in_set(&locator.rloc))
}

fn not_local(locator: Locator) -> Locator {
    Locator {
        local: false,
        probed: false,
        reserved: 0,
        ..locator
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn etr(source: &str, locators: &[&str]) -> Etr {
        let source: IpAddr = source.parse().unwrap();
        let locator = |text: &&str| Locator {
            priority: 1,
            weight: 100,
            reachable: true,
            rloc: Address::from(text.parse::<IpAddr>().unwrap()),
            ..Locator::default()
        };
        Etr {
            source,
            asked: source,
            first: Time::ZERO,
            last: Time::ZERO,
            expires: Time::from_secs(180),
            nonce: 0,
            key: 0,
            ids: None,
            ttl: 1440,
            proxy_reply: false,
            merge: false,
            want_map_notify: false,
            use_ttl: false,
            restored: false,
            action: Action::NoAction,
            map_version: 0,
            locators: LocatorSet::sorted(locators.iter().map(locator).collect()),
        }
    }

    fn set(registration: &Registration) -> Vec<String> {
        let set = registration.locator_set();
        set.iter().map(|locator| locator.rloc.to_string()).collect()
    }

    #[test]
    fn the_latest_wins_unless_merging_is_asked() {
        let mut registration = Registration::new(0);
        let change = registration.register(etr("192.0.2.2", &["192.0.2.2"]), false);
        assert!(change.moved_from.is_empty());
        let change = registration.register(etr("192.0.2.3", &["192.0.2.3"]), false);
        assert_eq!(change.moved_from.len(), 1);
        assert_eq!(set(&registration), ["192.0.2.3"]);
        // The latest withdraws: the other one still holds.
        registration.remove(&EtrId::Address("192.0.2.3".parse().unwrap()));
        assert_eq!(set(&registration), ["192.0.2.2"]);
        let merging = |source: &str| Etr {
            merge: true,
            ..etr(source, &[source])
        };
        registration.register(merging("192.0.2.10"), false);
        registration.register(merging("192.0.2.9"), false);
        registration.register(merging("2001:db8::1"), false);
        assert_eq!(
            set(&registration),
            ["192.0.2.9", "192.0.2.10", "2001:db8::1"]
        );
    }

    #[test]
    fn turns_go_over_the_etrs_that_hold_the_set() {
        let both = ["192.0.2.2", "192.0.2.3"];
        let own = |mine: &str| {
            let mut etr = etr(mine, &both);
            let locators = etr.locators.iter().cloned().map(|locator| Locator {
                local: locator.rloc.to_string() == mine,
                ..locator
            });
            etr.locators = locators.collect();
            etr
        };
        let mut registration = Registration::new(0);
        registration.register(own("192.0.2.2"), false);
        registration.register(own("192.0.2.3"), false);
        let mut next = || registration.next_target(|_| true).unwrap().to_string();
        let turns: Vec<_> = (0..4).map(|_| next()).collect();
        assert_eq!(turns, ["192.0.2.2", "192.0.2.3", "192.0.2.2", "192.0.2.3"]);
    }

    #[test]
    fn turns_are_taken_however_registrations_are_refreshed_in_between() {
        let sources = ["192.0.2.2", "192.0.2.3", "192.0.2.4"];
        let mut registration = Registration::new(0);
        for source in sources {
            registration.register(etr(source, &sources), false);
        }
        let mut counts = std::collections::BTreeMap::new();
        for round in 0..9 {
            let target = registration.next_target(|_| true).unwrap();
            *counts.entry(target).or_insert(0) += 1;
            registration.register(etr(sources[round % 3], &sources), false);
        }
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [3, 3, 3]);
    }

    #[test]
    fn unusable_locators_get_no_requests_while_there_are_others() {
        let mut etr = etr("192.0.2.2", &["192.0.2.2", "192.0.2.3", "2001:db8::3"]);
        let mut locators = etr.locators.to_vec();
        locators[0].priority = 255;
        etr.locators = locators.into();
        let mut registration = Registration::new(0);
        registration.register(etr, false);
        for _ in 0..3 {
            let target = registration.next_target(IpAddr::is_ipv4).unwrap();
            assert_eq!(target.to_string(), "192.0.2.3");
        }
    }

    #[test]
    fn a_mobile_eid_leaves_its_old_place() {
        let mut registration = Registration::new(0);
        registration.register(etr("192.0.2.2", &["192.0.2.2"]), true);
        let change = registration.register(etr("192.0.2.3", &["192.0.2.3"]), true);
        assert_eq!(change.moved_from.len(), 1);
        assert_eq!(registration.etrs.len(), 1);
    }
}
