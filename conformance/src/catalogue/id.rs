//! Requirement ids that are checked while the suite compiles.

use std::fmt;

const IDS: &[&str] = include!(concat!(env!("OUT_DIR"), "/catalogue_ids.rs"));

/// The id of a row of the catalogue. `Req::new` in a `const` does not compile for an id that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Req(&'static str);

impl Req {
    /// Names a requirement.
    ///
    /// # Panics
    /// For an id that the catalogue does not have; in a constant that is a compile error.
    pub const fn new(id: &'static str) -> Req {
        let (mut low, mut high) = (0, IDS.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match order(IDS[middle].as_bytes(), id.as_bytes()) {
                0 => return Req(IDS[middle]),
                order if order < 0 => low = middle + 1,
                _ => high = middle,
            }
        }
        panic!("this requirement id is not in conformance/requirements/")
    }

    /// The id as text.
    pub const fn id(self) -> &'static str {
        self.0
    }

    /// Finds an id at run time (for ids that come from a file).
    pub fn find(id: &str) -> Option<Req> {
        IDS.binary_search(&id).ok().map(|at| Req(IDS[at]))
    }

    /// All ids, sorted.
    pub fn all() -> impl Iterator<Item = Req> {
        IDS.iter().copied().map(Req)
    }
}

impl fmt::Display for Req {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

const fn order(a: &[u8], b: &[u8]) -> i32 {
    let mut at = 0;
    while at < a.len() && at < b.len() {
        if a[at] != b[at] {
            return a[at] as i32 - b[at] as i32;
        }
        at += 1;
    }
    a.len() as i32 - b.len() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_and_unknown_ones_are_not() {
        const KNOWN: Req = Req::new("rfc6830-3-eid-not-rloc");
        assert_eq!(KNOWN.id(), "rfc6830-3-eid-not-rloc");
        for id in IDS {
            assert_eq!(Req::new(id).id(), *id);
        }
        assert_eq!(Req::find("rfc6830-3-no-such-row"), None);
        assert!(std::panic::catch_unwind(|| Req::new("rfc6830-3-no-such-row")).is_err());
    }
}
