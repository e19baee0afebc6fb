//! The locator-set of a registration.

use std::ops::Deref;
use std::sync::Arc;

use lisp::wire::Locator;

/// Locators as they were registered, in an order that stays.
///
/// Most sets have one locator. That one stands in the registration itself: forwarding a Map-Request then needs no memory
/// beside the prefix's own. A longer set can be shared by registrations that follow each other.
#[derive(Debug, Clone)]
pub struct LocatorSet(Held);

#[derive(Debug, Clone)]
enum Held {
    One(Locator),
    Several(Arc<[Locator]>),
}

impl LocatorSet {
    /// Sorted as Map-Replies carry it: IPv4, IPv6, LCAF, each by value (RFC 6830 6.1.5, RFC 8060 3).
    pub(crate) fn sorted(mut locators: Vec<Locator>) -> Self {
        locators.sort_by(|a, b| a.rloc.cmp(&b.rloc));
        locators.into()
    }

    /// The locators that stand elsewhere in memory than the set itself.
    pub(crate) fn elsewhere(&self) -> &[Locator] {
        match &self.0 {
            Held::One(_) => &[],
            Held::Several(locators) => locators,
        }
    }
}

impl From<Vec<Locator>> for LocatorSet {
    fn from(mut locators: Vec<Locator>) -> Self {
        match locators.pop() {
            Some(only) if locators.is_empty() => Self(Held::One(only)),
            last => {
                locators.extend(last);
                Self(Held::Several(locators.into()))
            }
        }
    }
}

impl FromIterator<Locator> for LocatorSet {
    fn from_iter<I: IntoIterator<Item = Locator>>(locators: I) -> Self {
        Vec::from_iter(locators).into()
    }
}

impl Deref for LocatorSet {
    type Target = [Locator];

    fn deref(&self) -> &[Locator] {
        match &self.0 {
            Held::One(only) => std::slice::from_ref(only),
            Held::Several(locators) => locators,
        }
    }
}

impl PartialEq for LocatorSet {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lisp::Address;

    #[test]
    fn sets_of_all_lengths_hold_what_they_were_made_of() {
        let locator = |last: u8| Locator {
            weight: last,
            rloc: Address::from(std::net::Ipv4Addr::new(192, 0, 2, last)),
            ..Locator::default()
        };
        for length in 0..4 {
            let ordered: Vec<Locator> = (0..length).map(locator).collect();
            let reversed: Vec<Locator> = ordered.iter().rev().cloned().collect();
            let kept = LocatorSet::from(reversed.clone());
            assert_eq!(kept[..], reversed[..]);
            assert_eq!(
                kept.elsewhere().len(),
                if length == 1 { 0 } else { kept.len() }
            );
            let sorted = LocatorSet::sorted(reversed);
            assert_eq!(sorted[..], ordered[..]);
            assert_eq!(sorted == kept, length < 2);
            assert_eq!(sorted, ordered.into_iter().collect());
        }
    }
}
