//! Longest match over EID-Prefixes, per Instance ID.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lisp::EidPrefix;
use prefix_trie::PrefixMap;

use super::{Entry, Policy};

/// A local EID-Prefix, as far as packets are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalEid {
    /// The EID-Prefix.
    pub prefix: EidPrefix,
    /// Locator-status bits of the site's own locator-set, ordinal 0 least significant (RFC 6830 5.3). None: L=0.
    pub locator_status: Option<u32>,
    /// Source map-version for data packets (RFC 6834). None: V=0.
    pub map_version: Option<u16>,
    /// The hosts of this prefix are behind another xTR now (or the prefix was de-configured): packets to it are no
    /// longer delivered here, but reported with [`super::DataEvent::AwayEid`].
    pub away: bool,
    /// Report who sends to it ([`super::DataEvent::Sender`]): after a change of its locator-set, so that those who are in
    /// nobody's map-cache hear of it as well (RFC 6830 6.6.2).
    pub report_senders: bool,
    /// Who was told often enough that it has an old mapping: its packets with an old destination map-version are dropped
    /// (RFC 9302 7.1).
    pub stale_senders: Vec<IpAddr>,
}

impl LocalEid {
    /// A prefix that is present, without locator-status bits or map-version.
    pub fn new(prefix: EidPrefix) -> Self {
        Self {
            prefix,
            locator_status: None,
            map_version: None,
            away: false,
            report_senders: false,
            stale_senders: Vec::new(),
        }
    }
}

/// Longest match over both families.
#[derive(Debug, Clone)]
pub(crate) struct Prefixes<T> {
    v4: PrefixMap<Ipv4Net, T>,
    v6: PrefixMap<Ipv6Net, T>,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self {
            v4: PrefixMap::new(),
            v6: PrefixMap::new(),
        }
    }
}

impl<T> Prefixes<T> {
    pub(crate) fn insert(&mut self, prefix: IpNet, value: T) -> Option<T> {
        match prefix {
            IpNet::V4(net) => self.v4.insert(net, value),
            IpNet::V6(net) => self.v6.insert(net, value),
        }
    }

    pub(crate) fn remove(&mut self, prefix: &IpNet) -> Option<T> {
        match prefix {
            IpNet::V4(net) => self.v4.remove(net),
            IpNet::V6(net) => self.v6.remove(net),
        }
    }

    pub(crate) fn get(&self, prefix: &IpNet) -> Option<&T> {
        match prefix {
            IpNet::V4(net) => self.v4.get(net),
            IpNet::V6(net) => self.v6.get(net),
        }
    }

    pub(crate) fn longest_match(&self, address: IpAddr) -> Option<&T> {
        match address {
            IpAddr::V4(a) => self.v4.get_lpm(&a.into()).map(|(_, value)| value),
            IpAddr::V6(a) => self.v6.get_lpm(&a.into()).map(|(_, value)| value),
        }
    }

    /// Values of the prefixes that contain `prefix` (itself included), shortest first.
    pub(crate) fn covering(&self, prefix: &IpNet) -> Vec<&T> {
        match prefix {
            IpNet::V4(net) => self.v4.cover(net).map(|(_, value)| value).collect(),
            IpNet::V6(net) => self.v6.cover(net).map(|(_, value)| value).collect(),
        }
    }

    /// Values of the prefixes inside `prefix` (itself included).
    pub(crate) fn inside(&self, prefix: &IpNet) -> Vec<&T> {
        match prefix {
            IpNet::V4(net) => self.v4.children(net).map(|(_, value)| value).collect(),
            IpNet::V6(net) => self.v6.children(net).map(|(_, value)| value).collect(),
        }
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.v4.values().chain(self.v6.values())
    }

    pub(crate) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One copy of everything that a packet is looked up in.
#[derive(Debug, Clone)]
pub struct Tables {
    /// Rules that hold for every packet.
    pub policy: Policy,
    caches: BTreeMap<u32, Prefixes<Arc<Entry>>>,
    locals: BTreeMap<u32, Prefixes<Arc<LocalEid>>>,
    /// The same over all Instance IDs: the source EID of a packet says which instance it belongs to.
    sources: Prefixes<Vec<Arc<LocalEid>>>,
}

impl Tables {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            caches: BTreeMap::new(),
            locals: BTreeMap::new(),
            sources: Prefixes::default(),
        }
    }

    /// The map-cache entry for a destination.
    pub fn longest_match(&self, iid: u32, eid: IpAddr) -> Option<&Arc<Entry>> {
        self.caches.get(&iid)?.longest_match(eid)
    }

    /// The map-cache entry of exactly this prefix.
    pub fn get(&self, prefix: &EidPrefix) -> Option<&Arc<Entry>> {
        self.caches.get(&prefix.iid)?.get(&prefix.prefix)
    }

    /// The local EID-Prefix of exactly this prefix.
    pub fn local(&self, prefix: &EidPrefix) -> Option<&Arc<LocalEid>> {
        self.locals.get(&prefix.iid)?.get(&prefix.prefix)
    }

    /// The local EID-Prefix that an inner destination of Instance ID `iid` belongs to.
    pub fn local_destination(&self, iid: u32, eid: IpAddr) -> Option<&Arc<LocalEid>> {
        self.locals.get(&iid)?.longest_match(eid)
    }

    /// The local EID-Prefix that a packet's source belongs to. Where instances overlap, the lowest Instance ID.
    pub fn local_source(&self, source: IpAddr) -> Option<&Arc<LocalEid>> {
        self.sources.longest_match(source)?.first()
    }

    /// To whom packets belong whose source lies in exactly this prefix and no longer one.
    pub(crate) fn owner(&self, prefix: IpNet) -> Option<&Arc<LocalEid>> {
        self.sources.get(&prefix)?.first()
    }

    /// Number of map-cache entries.
    pub fn len(&self) -> usize {
        self.caches.values().map(Prefixes::len).sum()
    }

    /// Whether the map-cache is empty.
    pub fn is_empty(&self) -> bool {
        self.caches.values().all(Prefixes::is_empty)
    }

    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        self.caches
            .values()
            .flat_map(Prefixes::values)
            .cloned()
            .collect()
    }

    pub(super) fn locals(&self) -> Vec<Arc<LocalEid>> {
        self.locals
            .values()
            .flat_map(Prefixes::values)
            .cloned()
            .collect()
    }

    /// Entries that contain `prefix`, itself included, shortest first.
    pub fn covering(&self, prefix: &EidPrefix) -> Vec<&Arc<Entry>> {
        self.caches
            .get(&prefix.iid)
            .map(|cache| cache.covering(&prefix.prefix))
            .unwrap_or_default()
    }

    /// Entries inside `prefix`, itself included.
    pub fn inside(&self, prefix: &EidPrefix) -> Vec<&Arc<Entry>> {
        self.caches
            .get(&prefix.iid)
            .map(|cache| cache.inside(&prefix.prefix))
            .unwrap_or_default()
    }

    pub(super) fn insert(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let prefix = entry.prefix;
        self.caches
            .entry(prefix.iid)
            .or_default()
            .insert(prefix.prefix, entry)
    }

    pub(super) fn remove(&mut self, prefix: &EidPrefix) -> Option<Arc<Entry>> {
        self.caches.get_mut(&prefix.iid)?.remove(&prefix.prefix)
    }

    pub(super) fn clear(&mut self) {
        self.caches.clear();
    }

    pub(super) fn add_local(&mut self, local: Arc<LocalEid>) {
        let prefix = local.prefix;
        self.locals
            .entry(prefix.iid)
            .or_default()
            .insert(prefix.prefix, local);
        self.index_source(prefix.prefix);
    }

    pub(super) fn remove_local(&mut self, prefix: &EidPrefix) -> bool {
        let removed = self
            .locals
            .get_mut(&prefix.iid)
            .and_then(|locals| locals.remove(&prefix.prefix))
            .is_some();
        if removed {
            self.index_source(prefix.prefix);
        }
        removed
    }

    fn index_source(&mut self, prefix: IpNet) {
        let owners: Vec<_> = self
            .locals
            .values()
            .filter_map(|locals| locals.get(&prefix).cloned())
            .collect();
        if owners.is_empty() {
            self.sources.remove(&prefix);
        } else {
            self.sources.insert(prefix, owners);
        }
    }
}
