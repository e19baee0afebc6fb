//! Counters by reason.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// How often each reason was met. `R` is usually an enum of a daemon's reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Counters<R: Ord>(BTreeMap<R, u64>);

impl<R: Ord> Default for Counters<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: Ord + Copy> Counters<R> {
    /// Counts one.
    pub fn count(&mut self, reason: R) {
        self.add(reason, 1);
    }

    /// Counts several.
    pub fn add(&mut self, reason: R, number: u64) {
        let counter = self.0.entry(reason).or_default();
        *counter = counter.saturating_add(number);
    }

    /// How often `reason` was counted.
    pub fn get(&self, reason: R) -> u64 {
        self.0.get(&reason).copied().unwrap_or(0)
    }

    /// Adds everything that another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (&reason, &number) in &other.0 {
            self.add(reason, number);
        }
    }

    /// All that were counted at least once, in the order of `R`.
    pub fn iter(&self) -> impl Iterator<Item = (R, u64)> + '_ {
        self.0.iter().map(|(&reason, &number)| (reason, number))
    }
}

impl<R: Ord + Copy + fmt::Display> fmt::Display for Counters<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (reason, number) in self.iter() {
            writeln!(f, "{number:>12}  {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_reason_in_order() {
        let mut counters = Counters::default();
        counters.count("b");
        counters.count("a");
        counters.count("b");
        assert_eq!(counters.iter().collect::<Vec<_>>(), [("a", 1), ("b", 2)]);
        assert_eq!(counters.get("c"), 0);
        let mut sum = counters.clone();
        sum.merge(&counters);
        assert_eq!(sum.get("b"), 4);
    }
}
