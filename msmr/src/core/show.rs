//! What `show` tells: plain values that serialise to the documented JSON and read back from it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use daemon::Time;
use lisp::EidPrefix;
use lisp::wire::Locator;
use serde::{Deserialize, Serialize};

use super::registration::{Etr, Registration};
use super::site::{Site, SiteEvent};
use super::{Configured, Core, Event};

/// A site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SiteView {
    /// Its name.
    pub name: String,
    /// Registered prefixes.
    pub registered: usize,
    /// Seconds since the first registration.
    pub first_registered: Option<u64>,
    /// Seconds since the last Map-Register that was taken.
    pub last_registered: Option<u64>,
    /// Its source.
    pub last_registered_by: Option<String>,
    /// Configured EID-Prefixes.
    pub eid_prefixes: Vec<SitePrefixView>,
    /// Keys, without their secrets.
    pub keys: Vec<KeyView>,
    /// Where locators may lie; anywhere when empty.
    pub allowed_locators: Vec<String>,
    /// What was counted, by reason, also what never happened.
    pub counters: BTreeMap<String, u64>,
    /// Its registrations, up to the first thousand, where one site alone is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registrations: Option<Vec<RegistrationView>>,
}

/// A configured EID-Prefix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SitePrefixView {
    /// As `[IID]prefix`.
    pub eid_prefix: String,
    /// Whether more-specifics may be registered.
    pub accept_more_specifics: bool,
    /// Whether policy refuses requests for it.
    pub deny: bool,
    /// Whether it is registered now.
    pub registered: bool,
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct KeyView {
    /// Key ID.
    pub key_id: u8,
    /// Its algorithm's name.
    pub algorithm: String,
}

/// A registered prefix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RegistrationView {
    /// As `[IID]prefix`.
    pub eid_prefix: String,
    /// Its site.
    pub site: String,
    /// Record TTL in minutes of the latest register.
    pub ttl: u32,
    /// Whether this server answers for it.
    pub proxy_reply: bool,
    /// The locator-set that holds.
    pub locators: Vec<LocatorView>,
    /// Who registered it, the latest last.
    pub etrs: Vec<EtrView>,
}

/// One ETR's registration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EtrView {
    /// Source of its Map-Registers.
    pub source: String,
    /// xTR-ID in hexadecimal.
    pub xtr_id: Option<String>,
    /// Site-ID.
    pub site_id: Option<u64>,
    /// Seconds since it registered first.
    pub first_registered: u64,
    /// Seconds since it registered last.
    pub last_registered: u64,
    /// Seconds until it goes; none when never.
    pub expires: Option<u64>,
    /// Record TTL in minutes.
    pub ttl: u32,
    /// P bit.
    pub proxy_reply: bool,
    /// a bit.
    pub merge: bool,
    /// M bit.
    pub want_map_notify: bool,
    /// T bit.
    pub use_ttl: bool,
    /// Nonce of the last Map-Register, in hexadecimal.
    pub nonce: String,
    /// Key that it is authenticated with.
    pub key: Option<KeyView>,
    /// Read from disk and not registered again since.
    pub restored: bool,
    /// Whether it counts in the mapping now.
    pub active: bool,
    /// Its locator-set.
    pub locators: Vec<LocatorView>,
}

/// A locator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LocatorView {
    /// The RLOC.
    pub address: String,
    /// R bit.
    pub reachable: bool,
    /// L bit as registered.
    pub local: bool,
    /// Priority.
    pub priority: u8,
    /// Weight.
    pub weight: u8,
}

/// Counters and sizes of the whole server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StatisticsView {
    /// Seconds since the start.
    pub uptime: u64,
    /// Configured sites.
    pub sites: usize,
    /// Registered prefixes.
    pub registrations: usize,
    /// xTRs whose last nonce is remembered (edition 9300).
    pub remembered_nonces: usize,
    /// What was counted, by reason.
    pub counters: BTreeMap<String, u64>,
}

/// What became of Map-Requests: they stand together in the order of events.
const REQUEST_EVENTS: RangeInclusive<Event> =
    Event::EncapsulatedMapRequests..=Event::MapReplyDropped;

impl Core {
    /// Sites in the order of their names: all, or the one of a name.
    pub fn show_sites(&self, now: Time, name: Option<&str>) -> Vec<SiteView> {
        match name {
            Some(name) => self
                .sites
                .number(name)
                .and_then(|number| self.sites.get(number))
                .map(|site| self.site_view(now, site))
                .into_iter()
                .collect(),
            None => self
                .sites
                .iter()
                .map(|(_, site)| self.site_view(now, site))
                .collect(),
        }
    }

    /// Up to `limit` registrations after `cursor` in the order of prefixes, of one site or of all.
    pub fn show_registrations(
        &self,
        now: Time,
        site: Option<&str>,
        cursor: Option<EidPrefix>,
        limit: usize,
    ) -> Vec<RegistrationView> {
        let wanted = site.map(|name| self.sites.number(name));
        self.known
            .iter_after(cursor)
            .filter_map(|(prefix, known)| Some((prefix, known.registration.as_ref()?)))
            .filter(|(_, registration)| {
                wanted.is_none_or(|number| number == Some(registration.site))
            })
            .take(limit)
            .map(|(prefix, registration)| self.registration_view(now, &prefix, registration))
            .collect()
    }

    /// Counters and sizes.
    pub fn show_statistics(&self, now: Time) -> StatisticsView {
        StatisticsView {
            uptime: now.since(self.started).as_secs(),
            sites: self.sites.len(),
            registrations: self.registrations,
            remembered_nonces: self.nonces.len(),
            counters: Event::ALL
                .iter()
                .map(|&event| (event.to_string(), self.counters.get(event)))
                .collect(),
        }
    }

    /// What became of Map-Requests, also what never happened.
    pub fn show_requests(&self) -> BTreeMap<String, u64> {
        Event::ALL
            .iter()
            .filter(|event| REQUEST_EVENTS.contains(event))
            .map(|&event| (event.to_string(), self.counters.get(event)))
            .collect()
    }

    fn site_view(&self, now: Time, site: &Site) -> SiteView {
        let ago = |time: Option<Time>| time.map(|time| now.since(time).as_secs());
        SiteView {
            name: site.config.name.clone(),
            registered: site.registrations,
            first_registered: ago(site.first_registered),
            last_registered: ago(site.last_registered),
            last_registered_by: site.last_registered_by.map(|address| address.to_string()),
            eid_prefixes: site
                .config
                .prefixes
                .iter()
                .map(|configured| SitePrefixView {
                    eid_prefix: configured.prefix.to_string(),
                    accept_more_specifics: configured.accept_more_specifics,
                    deny: configured.deny,
                    registered: self.known.get(&configured.prefix).is_some_and(|known| {
                        matches!(known.configured, Some(Configured::Site { .. }))
                            && known.registration.is_some()
                    }),
                })
                .collect(),
            keys: site
                .config
                .keys
                .iter()
                .map(|key| KeyView {
                    key_id: key.auth.key_id,
                    algorithm: key.auth.algorithm.to_string(),
                })
                .collect(),
            allowed_locators: site
                .config
                .allowed_locators
                .iter()
                .map(ToString::to_string)
                .collect(),
            counters: SiteEvent::ALL
                .iter()
                .map(|&event| (event.to_string(), site.counters.get(event)))
                .collect(),
            registrations: None,
        }
    }

    fn registration_view(
        &self,
        now: Time,
        prefix: &EidPrefix,
        registration: &Registration,
    ) -> RegistrationView {
        let site = self.sites.get(registration.site);
        let active: Vec<_> = registration.active().map(Etr::id).collect();
        RegistrationView {
            eid_prefix: prefix.to_string(),
            site: site
                .map(|site| site.config.name.clone())
                .unwrap_or_default(),
            ttl: registration.etrs.last().map_or(0, |etr| etr.ttl),
            proxy_reply: registration.proxied(),
            locators: registration
                .locator_set()
                .iter()
                .map(locator_view)
                .collect(),
            etrs: registration
                .etrs
                .iter()
                .map(|etr| etr_view(now, etr, site, active.contains(&etr.id())))
                .collect(),
        }
    }
}

fn etr_view(now: Time, etr: &Etr, site: Option<&Site>, active: bool) -> EtrView {
    let key = site.and_then(|site| {
        let mut keys = site.config.keys.iter();
        keys.find(|key| key.fingerprint == etr.key)
    });
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect();
    EtrView {
        source: etr.source.to_string(),
        xtr_id: etr.ids.as_ref().map(|ids| hex(&ids.xtr_id)),
        site_id: etr.ids.as_ref().map(|ids| ids.site_id),
        first_registered: now.since(etr.first).as_secs(),
        last_registered: now.since(etr.last).as_secs(),
        expires: (etr.expires != Time::NEVER).then(|| etr.expires.since(now).as_secs()),
        ttl: etr.ttl,
        proxy_reply: etr.proxy_reply,
        merge: etr.merge,
        want_map_notify: etr.want_map_notify,
        use_ttl: etr.use_ttl,
        nonce: format!("{:#018x}", etr.nonce),
        key: key.map(|key| KeyView {
            key_id: key.auth.key_id,
            algorithm: key.auth.algorithm.to_string(),
        }),
        restored: etr.restored,
        active,
        locators: etr.locators.iter().map(locator_view).collect(),
    }
}

fn locator_view(locator: &Locator) -> LocatorView {
    LocatorView {
        address: locator.rloc.to_string(),
        reachable: locator.reachable,
        local: locator.local,
        priority: locator.priority,
        weight: locator.weight,
    }
}
