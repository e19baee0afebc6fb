//! Map-versions of data packets (RFC 6834, RFC 9302): who has an old mapping finds out from a packet.

use std::net::IpAddr;
use std::time::Duration;

use lisp::EidPrefix;

use super::Core;
use super::map_cache::Origin;
use super::requests::Purpose;

/// So often a sender is told that its mapping is old before its packets are dropped (RFC 9302 7.1).
pub(super) const STALE_TIMES: u32 = 10;
/// From then on it is told once in this time.
const STALE_REST: Duration = Duration::from_secs(30);

/// Whether map-version `a` is newer than `b` on the circle of 4096. At a distance of 2048 the larger number is newer,
/// seen from either side (RFC 9302 6).
pub(crate) fn is_newer(a: u16, b: u16) -> bool {
    (a > b && a - b <= 2048) || (b > a && b - a > 2048)
}

impl Core {
    /// A data packet from `encapsulator` had versions that differ from ours: (EID, version) of source and destination.
    /// Version 0 says nothing.
    pub(super) fn on_versions(
        &mut self,
        iid: u32,
        source: (IpAddr, u16),
        destination: (IpAddr, u16),
        encapsulator: IpAddr,
    ) {
        if !self.settings.map_versioning {
            return;
        }
        let own = self
            .database
            .owner(iid, destination.0)
            .map(|(prefix, local)| (prefix, local.version));
        if let Some((prefix, version)) = own
            && destination.1 != 0
            && version != destination.1
        {
            if is_newer(version, destination.1) {
                self.counters.count("map-version-of-sender-old");
                self.inform_stale(prefix, encapsulator, source.0);
            } else {
                self.counters.count("map-version-of-sender-from-the-future");
            }
        }
        let cached = self
            .cache
            .lookup(iid, source.0)
            .filter(|(_, entry)| entry.version != 0 && entry.origin != Origin::Static)
            .map(|(prefix, entry)| (prefix, entry.version));
        if let Some((prefix, version)) = cached
            && source.1 != 0
            && is_newer(source.1, version)
        {
            self.counters.count("map-version-cached-old");
            self.ask(prefix, None, Purpose::Verify);
        }
    }
}

impl Core {
    /// Tells a sender of its old mapping. When it was told often enough and still sends with the old version, its packets
    /// are dropped, and it is told less often (RFC 9302 7.1, RFC 9301 5.3).
    fn inform_stale(&mut self, prefix: EidPrefix, encapsulator: IpAddr, source: IpAddr) {
        let now = self.now;
        let Some(told) = self.solicitor.stale_sender(prefix, encapsulator) else {
            return self.counters.count("map-version-too-many-senders");
        };
        if told.times >= STALE_TIMES && told.last.is_some_and(|at| now.since(at) < STALE_REST) {
            return;
        }
        if !self.solicit(prefix, encapsulator, Some(source), 1) {
            return;
        }
        if let Some(told) = self.solicitor.stale_sender(prefix, encapsulator) {
            told.times += 1;
            told.last = Some(now);
            if told.times == STALE_TIMES {
                self.counters.count("map-version-sender-refused");
                self.show_local(&prefix);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_newer;

    #[test]
    fn versions_compare_on_a_circle() {
        assert!(is_newer(2, 1) && !is_newer(1, 2));
        assert!(is_newer(1, 4095) && !is_newer(4095, 1));
        assert!(!is_newer(7, 7));
        assert!(is_newer(2049, 1) && !is_newer(1, 2049), "distance 2048");
        assert!(is_newer(1, 2050) && !is_newer(2050, 1), "distance 2049");
    }
}
