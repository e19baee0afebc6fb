//! Gleaned mappings: the source of a data packet or Map-Request may be reached where the packet came from, for a few
//! seconds, while the mapping system is asked (RFC 6830 4.1, 6.2; RFC 9300 9).

use std::net::IpAddr;
use std::time::Duration;

use lisp::EidPrefix;
use lisp::wire::MapRequest;

use super::Core;
use super::locator_set::{CachedLocator, is_locator};
use super::map_cache::{Cached, Mapping, Origin};
use super::requests::Purpose;

/// Life of an entry that is not verified.
const LIFE: Duration = Duration::from_secs(3);

impl Core {
    /// Gleans from a Map-Request: its Source-EID is behind its ITR-RLOCs.
    pub(super) fn glean_from_request(&mut self, request: &MapRequest) {
        let rlocs: Vec<IpAddr> = request.itr_rlocs.iter().filter_map(|r| r.ip()).collect();
        if let Some((iid, source)) = request.source_eid.eid()
            && !request.pitr
        {
            self.glean(iid, source, &rlocs);
        }
    }

    /// Gleans an EID's locators, all equal, weight 0 (RFC 6830 6.2). Nothing known is ever replaced by it.
    pub(super) fn glean(&mut self, iid: u32, eid: IpAddr, rlocs: &[IpAddr]) {
        let local = self.database.owner(iid, eid).is_some();
        if !self.settings.glean || local || self.cache.lookup(iid, eid).is_some() {
            return;
        }
        let locators: Vec<CachedLocator> = rlocs
            .iter()
            .filter(|rloc| is_locator(**rloc) && !self.settings.is_own(**rloc))
            .map(|rloc| CachedLocator {
                rloc: Some(*rloc),
                priority: 1,
                weight: 0,
                reachable: true,
            })
            .collect();
        if locators.is_empty() {
            return;
        }
        let host = EidPrefix::host(iid, eid);
        self.counters.count("gleaned");
        self.install(
            host,
            Cached {
                origin: Origin::Gleaned,
                mapping: Mapping::Locators(locators),
                since: self.now,
                confirmed: self.now,
                expires: Some(self.now + LIFE),
                version: 0,
                status: None,
            },
        );
        self.ask(host, None, Purpose::Verify);
    }
}
