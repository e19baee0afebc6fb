//! A table keyed by EID-Prefix with longest match, one trie per Instance ID and family.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lisp::EidPrefix;
use prefix_trie::PrefixMap;

/// Values by EID-Prefix.
#[derive(Debug, Clone)]
pub struct EidTable<V> {
    instances: BTreeMap<u32, Instance<V>>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Instance<V> {
    v4: PrefixMap<Ipv4Net, V>,
    v6: PrefixMap<Ipv6Net, V>,
}

impl<V> Default for EidTable<V> {
    fn default() -> Self {
        Self {
            instances: BTreeMap::new(),
            len: 0,
        }
    }
}

impl<V> EidTable<V> {
    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds or replaces; returns what was there.
    pub fn insert(&mut self, key: EidPrefix, value: V) -> Option<V> {
        let instance = self.instances.entry(key.iid).or_insert_with(|| Instance {
            v4: PrefixMap::new(),
            v6: PrefixMap::new(),
        });
        let old = match key.prefix {
            IpNet::V4(net) => instance.v4.insert(net, value),
            IpNet::V6(net) => instance.v6.insert(net, value),
        };
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes exactly this prefix out.
    pub fn remove(&mut self, key: &EidPrefix) -> Option<V> {
        let instance = self.instances.get_mut(&key.iid)?;
        let old = match key.prefix {
            IpNet::V4(net) => instance.v4.remove(&net),
            IpNet::V6(net) => instance.v6.remove(&net),
        };
        self.len -= usize::from(old.is_some());
        old
    }

    /// The value of exactly this prefix.
    pub fn get(&self, key: &EidPrefix) -> Option<&V> {
        let instance = self.instances.get(&key.iid)?;
        match key.prefix {
            IpNet::V4(net) => instance.v4.get(&net),
            IpNet::V6(net) => instance.v6.get(&net),
        }
    }

    /// The value of exactly this prefix, to be changed.
    pub fn get_mut(&mut self, key: &EidPrefix) -> Option<&mut V> {
        let instance = self.instances.get_mut(&key.iid)?;
        match key.prefix {
            IpNet::V4(net) => instance.v4.get_mut(&net),
            IpNet::V6(net) => instance.v6.get_mut(&net),
        }
    }

    /// The most specific prefix that covers `key` (which may be `key` itself).
    pub fn longest_match(&self, key: &EidPrefix) -> Option<(EidPrefix, &V)> {
        let instance = self.instances.get(&key.iid)?;
        match key.prefix {
            IpNet::V4(net) => instance
                .v4
                .get_lpm(&net)
                .map(|(found, value)| (EidPrefix::new(key.iid, IpNet::V4(found)), value)),
            IpNet::V6(net) => instance
                .v6
                .get_lpm(&net)
                .map(|(found, value)| (EidPrefix::new(key.iid, IpNet::V6(found)), value)),
        }
    }

    /// The most specific prefix that contains the address.
    pub fn lookup(&self, iid: u32, address: IpAddr) -> Option<(EidPrefix, &V)> {
        self.longest_match(&EidPrefix::new(iid, IpNet::from(address)))
    }

    /// Every prefix inside `key`, `key` itself included, in order.
    pub fn inside(&self, key: &EidPrefix) -> Vec<EidPrefix> {
        let Some(instance) = self.instances.get(&key.iid) else {
            return Vec::new();
        };
        let mut found: Vec<EidPrefix> = match key.prefix {
            IpNet::V4(net) => instance
                .v4
                .children(&net)
                .map(|(p, _)| EidPrefix::new(key.iid, IpNet::V4(p)))
                .collect(),
            IpNet::V6(net) => instance
                .v6
                .children(&net)
                .map(|(p, _)| EidPrefix::new(key.iid, IpNet::V6(p)))
                .collect(),
        };
        found.sort();
        found
    }

    /// All prefixes with their values, ordered by Instance ID, family, address, length.
    pub fn iter(&self) -> impl Iterator<Item = (EidPrefix, &V)> {
        self.instances.iter().flat_map(|(iid, instance)| {
            instance
                .v4
                .iter()
                .map(|(p, v)| (EidPrefix::new(*iid, IpNet::V4(p)), v))
                .chain(
                    instance
                        .v6
                        .iter()
                        .map(|(p, v)| (EidPrefix::new(*iid, IpNet::V6(p)), v)),
                )
        })
    }

    /// All prefixes.
    pub fn prefixes(&self) -> Vec<EidPrefix> {
        self.iter().map(|(prefix, _)| prefix).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(iid: u32, net: &str) -> EidPrefix {
        EidPrefix::new(iid, net.parse().unwrap())
    }

    #[test]
    fn longest_match_stays_in_the_instance() {
        let mut table = EidTable::default();
        table.insert(p(0, "10.0.0.0/8"), 1);
        table.insert(p(0, "10.1.0.0/16"), 2);
        table.insert(p(7, "10.1.1.0/24"), 3);
        table.insert(p(0, "2001:db8::/32"), 4);
        let at = |iid, a: &str| table.lookup(iid, a.parse().unwrap()).map(|(_, v)| *v);
        assert_eq!(at(0, "10.1.1.1"), Some(2));
        assert_eq!(at(0, "10.2.1.1"), Some(1));
        assert_eq!(at(7, "10.1.1.1"), Some(3));
        assert_eq!(at(7, "10.1.2.1"), None);
        assert_eq!(at(0, "2001:db8::1"), Some(4));
        assert_eq!(table.len(), 4);
    }

    #[test]
    fn inside_lists_itself_and_the_more_specifics() {
        let mut table = EidTable::default();
        for net in ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.2.0/24"] {
            table.insert(p(0, net), ());
        }
        assert_eq!(
            table.inside(&p(0, "10.1.0.0/16")),
            [
                p(0, "10.1.0.0/16"),
                p(0, "10.1.1.0/24"),
                p(0, "10.1.2.0/24")
            ]
        );
        assert_eq!(table.inside(&p(0, "10.1.0.0/17")).len(), 2);
        table.remove(&p(0, "10.1.1.0/24"));
        assert_eq!(table.len(), 3);
    }
}
