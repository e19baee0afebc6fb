//! Mappings that Map-Requests bring along (M bit, RFC 6830 6.1.3): never believed, but, where configured, a reason to ask
//! the mapping system (RFC 9301 5.3).

use lisp::EidPrefix;
use lisp::wire::MapRequest;

use super::Core;
use super::locator_set::CachedLocator;
use super::map_cache::{Mapping, Origin};
use super::requests::Purpose;

impl Core {
    /// A requester says where its EID is. Whoever forges that, gains nothing but a Map-Request through the mapping
    /// system, whose answer is what counts.
    pub(super) fn verify_piggybacked(&mut self, request: &MapRequest) {
        let Some(record) = &request.map_reply else {
            return;
        };
        self.counters.count("map-request-with-mapping");
        let (Some((iid, source)), Some(prefix)) = (request.source_eid.eid(), record.eid_prefix())
        else {
            return self.counters.count("piggyback-without-source-eid");
        };
        if !self.settings.piggyback {
            return;
        }
        let local = self.database.owner(iid, source).is_some();
        if local || !prefix.contains(iid, source) {
            return self.counters.count("piggyback-for-other-eid");
        }
        let claimed: Vec<CachedLocator> = record
            .locators
            .iter()
            .map(CachedLocator::from_wire)
            .collect();
        let news = match self.cache.lookup(iid, source) {
            Some((_, entry)) if entry.origin == Origin::Static => false,
            Some((_, entry)) => {
                !matches!(&entry.mapping, Mapping::Locators(known) if *known == claimed)
            }
            None => true,
        };
        if news {
            self.ask(EidPrefix::host(iid, source), None, Purpose::Verify);
        }
    }
}
