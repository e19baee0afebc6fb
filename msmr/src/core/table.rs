//! Prefixes of all Instance IDs and both families, with longest match and the holes between them.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lisp::EidPrefix;
use prefix_trie::PrefixMap;

/// A map from EID-Prefixes to values.
#[derive(Debug, Clone)]
pub(crate) struct EidTable<V> {
    instances: BTreeMap<u32, Instance<V>>,
}

#[derive(Debug, Clone)]
struct Instance<V> {
    ipv4: PrefixMap<Ipv4Net, V>,
    ipv6: PrefixMap<Ipv6Net, V>,
}

impl<V> Default for EidTable<V> {
    fn default() -> Self {
        Self {
            instances: BTreeMap::new(),
        }
    }
}

impl<V> Default for Instance<V> {
    fn default() -> Self {
        Self {
            ipv4: PrefixMap::new(),
            ipv6: PrefixMap::new(),
        }
    }
}

/// Evaluates one expression for the map of a prefix's family.
macro_rules! in_family {
    ($instance:expr, $prefix:expr, |$map:ident, $key:ident| $body:expr) => {
        match $prefix {
            IpNet::V4($key) => {
                let $map = &$instance.ipv4;
                $body
            }
            IpNet::V6($key) => {
                let $map = &$instance.ipv6;
                $body
            }
        }
    };
}

impl<V> EidTable<V> {
    /// The value of exactly this prefix.
    pub(crate) fn get(&self, prefix: &EidPrefix) -> Option<&V> {
        in_family!(
            self.instances.get(&prefix.iid)?,
            prefix.prefix,
            |map, key| map.get(&key)
        )
    }

    /// The value of exactly this prefix.
    pub(crate) fn get_mut(&mut self, prefix: &EidPrefix) -> Option<&mut V> {
        let instance = self.instances.get_mut(&prefix.iid)?;
        match prefix.prefix {
            IpNet::V4(key) => instance.ipv4.get_mut(&key),
            IpNet::V6(key) => instance.ipv6.get_mut(&key),
        }
    }

    /// The value of exactly this prefix, made if it is not there.
    pub(crate) fn get_or_default(&mut self, prefix: &EidPrefix) -> &mut V
    where
        V: Default,
    {
        let instance = self.instances.entry(prefix.iid).or_default();
        match prefix.prefix {
            IpNet::V4(key) => instance.ipv4.entry(key).or_default(),
            IpNet::V6(key) => instance.ipv6.entry(key).or_default(),
        }
    }

    /// Sets the value of a prefix.
    pub(crate) fn insert(&mut self, prefix: &EidPrefix, value: V) -> Option<V> {
        let instance = self.instances.entry(prefix.iid).or_default();
        match prefix.prefix {
            IpNet::V4(key) => instance.ipv4.insert(key, value),
            IpNet::V6(key) => instance.ipv6.insert(key, value),
        }
    }

    /// Takes a prefix out.
    pub(crate) fn remove(&mut self, prefix: &EidPrefix) -> Option<V> {
        let instance = self.instances.get_mut(&prefix.iid)?;
        let removed = match prefix.prefix {
            IpNet::V4(key) => instance.ipv4.remove(&key),
            IpNet::V6(key) => instance.ipv6.remove(&key),
        };
        if instance.ipv4.is_empty() && instance.ipv6.is_empty() {
            self.instances.remove(&prefix.iid);
        }
        removed
    }

    /// The longest prefix here that is the question or covers it.
    pub(crate) fn longest_match(&self, question: &EidPrefix) -> Option<(EidPrefix, &V)> {
        let iid = question.iid;
        in_family!(self.instances.get(&iid)?, question.prefix, |map, key| map
            .get_lpm(&key)
            .map(|(found, value)| (at(iid, found), value)))
    }

    /// The longest prefix here that covers the question (or is it) and satisfies `wanted`.
    pub(crate) fn longest_match_where(
        &self,
        question: &EidPrefix,
        mut wanted: impl FnMut(&V) -> bool,
    ) -> Option<(EidPrefix, &V)> {
        let iid = question.iid;
        in_family!(self.instances.get(&iid)?, question.prefix, |map, key| map
            .cover(&key)
            .filter(|(_, value)| wanted(value))
            .last()
            .map(|(found, value)| (at(iid, found), value)))
    }

    /// Everything inside `prefix` (it included), in order.
    pub(crate) fn inside(
        &self,
        prefix: &EidPrefix,
    ) -> Box<dyn Iterator<Item = (EidPrefix, &V)> + '_> {
        let iid = prefix.iid;
        match self.instances.get(&iid) {
            None => Box::new(std::iter::empty()),
            Some(instance) => in_family!(instance, prefix.prefix, |map, key| Box::new(
                map.children(&key)
                    .map(move |(found, value)| (at(iid, found), value))
            )),
        }
    }

    /// Everything, in order: by Instance ID, IPv4 first, by address, shorter first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (EidPrefix, &V)> + '_ {
        self.instances.iter().flat_map(|(&iid, instance)| {
            let ipv4 = instance.ipv4.iter().map(move |(key, v)| (at(iid, key), v));
            let ipv6 = instance.ipv6.iter().map(move |(key, v)| (at(iid, key), v));
            ipv4.chain(ipv6)
        })
    }

    /// What follows `cursor` in the order of [`EidTable::iter`]; from the start without one.
    pub(crate) fn iter_after(
        &self,
        cursor: Option<EidPrefix>,
    ) -> Box<dyn Iterator<Item = (EidPrefix, &V)> + '_> {
        let Some(cursor) = cursor else {
            return Box::new(self.iter());
        };
        let first = cursor.iid;
        let here = self
            .instances
            .get(&first)
            .into_iter()
            .flat_map(move |instance| {
                let rest_of_ipv4 = match cursor.prefix {
                    IpNet::V4(key) => Some(instance.ipv4.iter_from(&key, false)),
                    IpNet::V6(_) => None,
                };
                let rest_of_ipv6 = match cursor.prefix {
                    IpNet::V4(_) => instance.ipv6.iter(),
                    IpNet::V6(key) => instance.ipv6.iter_from(&key, false),
                };
                let ipv4 = rest_of_ipv4
                    .into_iter()
                    .flatten()
                    .map(move |(key, v)| (at(first, key), v));
                ipv4.chain(rest_of_ipv6.map(move |(key, v)| (at(first, key), v)))
            });
        let later = self
            .instances
            .range((std::ops::Bound::Excluded(first), std::ops::Bound::Unbounded))
            .flat_map(|(&iid, instance)| {
                let ipv4 = instance.ipv4.iter().map(move |(key, v)| (at(iid, key), v));
                let ipv6 = instance.ipv6.iter().map(move |(key, v)| (at(iid, key), v));
                ipv4.chain(ipv6)
            });
        Box::new(here.chain(later))
    }

    /// The least-specific prefix that holds the question's address, is at least `floor` long and has nothing of this
    /// table inside (RFC 6833 4.4); what covers the address does not count.
    ///
    /// `floor` must be at least the length of the longest prefix here that covers the address. The question's own length
    /// plays no part: a question that holds known prefixes is answered for its address.
    pub(crate) fn hole(&self, question: &EidPrefix, floor: u8) -> EidPrefix {
        let host = EidPrefix::host(question.iid, question.prefix.addr());
        let width = host.prefix.max_prefix_len();
        let (mut low, mut high) = (floor.min(width), width);
        // The shorter the prefix, the more it holds: the border is found by halving.
        while low < high {
            let middle = low + (high - low) / 2;
            if self.holds_longer(&shortened(&host, middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        shortened(&host, low)
    }

    /// Whether a prefix longer than `prefix` lies inside it.
    fn holds_longer(&self, prefix: &EidPrefix) -> bool {
        let Some(instance) = self.instances.get(&prefix.iid) else {
            return false;
        };
        let length = prefix.prefix.prefix_len();
        in_family!(instance, prefix.prefix, |map, key| map
            .children(&key)
            .any(|(found, _)| found.prefix_len() > length))
    }
}

fn at<P: Into<IpNet>>(iid: u32, prefix: P) -> EidPrefix {
    EidPrefix {
        iid,
        prefix: prefix.into(),
    }
}

/// `host` cut to `length` bits.
fn shortened(host: &EidPrefix, length: u8) -> EidPrefix {
    let length = length.min(host.prefix.max_prefix_len());
    let prefix = IpNet::new(host.prefix.addr(), length).unwrap_or(host.prefix);
    EidPrefix::new(host.iid, prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(text: &str) -> EidPrefix {
        text.parse().unwrap()
    }

    fn table(prefixes: &[&str]) -> EidTable<()> {
        let mut table = EidTable::default();
        for text in prefixes {
            table.insert(&prefix(text), ());
        }
        table
    }

    fn floor(table: &EidTable<()>, question: &EidPrefix) -> u8 {
        let host = EidPrefix::host(question.iid, question.prefix.addr());
        table
            .longest_match(&host)
            .map_or(0, |(cover, ())| cover.prefix.prefix_len())
    }

    #[test]
    fn holes_of_the_catalogue() {
        let known = table(&["198.51.100.0/24", "203.0.113.0/24"]);
        for (question, hole) in [
            ("8.8.8.8/32", "0.0.0.0/1"),
            ("198.51.98.1/32", "198.51.96.0/22"),
            ("198.51.101.1/32", "198.51.101.0/24"),
            ("203.0.112.1/32", "203.0.112.0/24"),
            ("2001:db8::1/128", "::/0"),
            ("[7]8.8.8.8/32", "[7]0.0.0.0/0"),
            ("0.0.0.0/0", "0.0.0.0/1"),
        ] {
            assert_eq!(known.hole(&prefix(question), 0), prefix(hole), "{question}");
        }
        assert_eq!(
            table(&[]).hole(&prefix("1.2.3.4/32"), 0),
            prefix("0.0.0.0/0")
        );
    }

    #[test]
    fn a_hole_inside_what_covers_it_is_no_larger_than_that() {
        let known = table(&["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24"]);
        for (question, hole) in [
            ("10.128.0.1/32", "10.128.0.0/9"),
            ("10.1.3.1/32", "10.1.3.0/24"),
            ("10.1.2.9/32", "10.1.2.0/24"),
        ] {
            let question = prefix(question);
            assert_eq!(
                known.hole(&question, floor(&known, &question)),
                prefix(hole)
            );
        }
    }

    #[test]
    fn pages_continue_where_they_ended() {
        let texts = [
            "10.0.0.0/8",
            "10.1.0.0/16",
            "::/0",
            "[5]1.0.0.0/8",
            "[5]2001:db8::/32",
        ];
        let table = table(&texts);
        let mut cursor = None;
        for text in texts {
            let (next, ()) = table.iter_after(cursor).next().unwrap();
            assert_eq!(next, prefix(text));
            cursor = Some(next);
        }
        assert!(table.iter_after(cursor).next().is_none());
        // A cursor need not be there any more.
        let (next, ()) = table
            .iter_after(Some(prefix("[4]0.0.0.0/0")))
            .next()
            .unwrap();
        assert_eq!(next, prefix("[5]1.0.0.0/8"));
    }

    /// Prefixes of few leading bits, so that nesting and neighbourhood happen often; the tail makes long ones too.
    fn any_prefix() -> impl Strategy<Value = EidPrefix> {
        (
            0u32..2,
            any::<bool>(),
            any::<u8>(),
            0u8..=8,
            prop_oneof![Just(0u8), 0u8..=24],
        )
            .prop_map(|(iid, ipv6, bits, short, more)| {
                let length = if short == 8 { 8 + more } else { short };
                let prefix = if ipv6 {
                    let address = std::net::Ipv6Addr::from(u128::from(bits) << 120 | 1 << 97);
                    IpNet::new(address.into(), length)
                } else {
                    let address = std::net::Ipv4Addr::from(u32::from(bits) << 24 | 0x1234);
                    IpNet::new(address.into(), length)
                };
                EidPrefix::new(iid, prefix.unwrap())
            })
    }

    proptest! {
        /// The model: try every length from the shortest on, against every known prefix.
        #[test]
        fn holes_equal_the_brute_force_model(
            known in proptest::collection::btree_set(any_prefix(), 0..20),
            question in any_prefix(),
        ) {
            let mut table = EidTable::default();
            for prefix in &known {
                table.insert(prefix, ());
            }
            let host = EidPrefix::host(question.iid, question.prefix.addr());
            let covers = |prefix: &&EidPrefix| prefix.covers(&host);
            let longest = known.iter().filter(covers).map(|p| p.prefix.prefix_len()).max();
            let candidate = |length| shortened(&host, length);
            let expected = (longest.unwrap_or(0)..=host.prefix.max_prefix_len())
                .map(candidate)
                .find(|hole| known.iter().all(|p| p.covers(&host) || !hole.covers(p)))
                .unwrap();
            prop_assert_eq!(table.hole(&question, longest.unwrap_or(0)), expected);
            prop_assert_eq!(
                table.longest_match(&host).map(|(found, _)| found.prefix.prefix_len()),
                longest
            );
        }
    }
}
