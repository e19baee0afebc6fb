//! Configuration at run time: sites, keys and prefixes come, change and go, and what is registered follows.

use daemon::Time;
use lisp::EidPrefix;

use super::limit::{ReplyLimit, SourceLimit};
use super::registration::{Etr, take_out};
use super::site::{Config, SiteConfig, SiteEvent, SitePrefix};
use super::table::EidTable;
use super::{Configured, Core, Permitted};

impl Core {
    /// Takes a new configuration: sites are added, changed and removed, registrations of what stays are kept.
    pub fn configure(&mut self, now: Time, mut config: Config) {
        let limits = config.limits;
        if limits.map_requests_per_source != self.config.limits.map_requests_per_source {
            self.sources = SourceLimit::new(limits.map_requests_per_source);
        }
        if limits.map_reply_interval != self.config.limits.map_reply_interval {
            self.replies = ReplyLimit::new(limits.map_reply_interval);
        }
        let sites = std::mem::take(&mut config.sites);
        self.set_remotes(&config);
        self.aggregates = EidTable::default();
        for aggregate in &config.aggregates {
            self.aggregates.insert(aggregate, ());
        }
        self.config = config;
        let names: std::collections::HashSet<&str> =
            sites.iter().map(|site| site.name.as_str()).collect();
        let gone: Vec<u32> = self
            .sites
            .iter()
            .filter(|(_, site)| !names.contains(site.config.name.as_str()))
            .map(|(number, _)| number)
            .collect();
        for number in gone {
            self.drop_site(now, number);
        }
        // Prefixes may move between sites: all old ones go before any new one comes.
        for site in &sites {
            self.unconfigure_changed(now, site);
        }
        self.any_denied = false;
        for site in sites {
            self.place_site(now, site);
        }
    }

    /// Adds a site, or changes the one of that name. Registrations that it no longer allows are dropped.
    ///
    /// That is for each ETR: the site must still have its key, its locators must be allowed, and the prefix must be the
    /// site's. A key that is taken away shall end what was registered with it, also what asked to live for ever.
    pub fn put_site(&mut self, now: Time, config: SiteConfig) {
        self.unconfigure_changed(now, &config);
        self.place_site(now, config);
    }

    /// Puts a site in from which what its configuration no longer has is taken already.
    fn place_site(&mut self, now: Time, config: SiteConfig) {
        let prefixes = config.prefixes.clone();
        self.any_denied |= prefixes.iter().any(|prefix| prefix.deny);
        let number = self.sites.put(config);
        for prefix in &prefixes {
            self.known.get_or_default(&prefix.prefix).configured = Some(Configured::Site {
                site: number,
                deny: prefix.deny,
            });
            let permitted = Permitted {
                site: number,
                accept_more_specifics: prefix.accept_more_specifics,
                deny: prefix.deny,
            };
            self.permitted.insert(&prefix.prefix, permitted);
        }
        for prefix in &prefixes {
            self.revoke(now, &prefix.prefix);
        }
    }

    /// Whether a site may be put in beside the others.
    ///
    /// # Errors
    /// When one of its prefixes is another's, or there are as many sites as the limit allows.
    pub fn check_site(&self, site: &SiteConfig) -> Result<(), String> {
        let own = self.sites.number(&site.name);
        if own.is_none() && self.sites.len() >= self.config.limits.sites {
            return Err(format!(
                "expected at most {} sites, found one more; raise `limits: {{sites: ...}}`",
                self.config.limits.sites
            ));
        }
        for SitePrefix { prefix, .. } in &site.prefixes {
            let owner = match self
                .known
                .get(prefix)
                .and_then(|known| known.configured.as_ref())
            {
                Some(Configured::Site { site, .. }) if Some(*site) == own => continue,
                Some(Configured::Site { site, .. }) => {
                    self.sites.get(*site).map_or("?", |site| &site.config.name)
                }
                Some(Configured::Remote) => "another Map-Server",
                None => continue,
            };
            return Err(format!(
                "expected an EID-Prefix that no other has, found {prefix}, which is of {owner}"
            ));
        }
        Ok(())
    }

    /// Removes a site with its registrations; `false` when there is none of that name.
    pub fn remove_site(&mut self, now: Time, name: &str) -> bool {
        let number = self.sites.number(name);
        if let Some(number) = number {
            self.drop_site(now, number);
        }
        number.is_some()
    }

    fn drop_site(&mut self, now: Time, number: u32) {
        let Some(site) = self.sites.get(number) else {
            return;
        };
        let prefixes: Vec<EidPrefix> = site.config.prefixes.iter().map(|p| p.prefix).collect();
        for prefix in &prefixes {
            self.unconfigure(now, number, prefix);
        }
        self.sites.remove(number);
    }

    /// Takes a prefix from a site, with everything that is registered in its name inside.
    fn unconfigure(&mut self, now: Time, number: u32, prefix: &EidPrefix) {
        if let Some(known) = self.known.get_mut(prefix) {
            let of_site =
                |c: &Configured| matches!(c, Configured::Site { site, .. } if *site == number);
            if known.configured.as_ref().is_some_and(of_site) {
                known.configured = None;
                if known.is_empty() {
                    self.known.remove(prefix);
                }
                self.permitted.remove(prefix);
            }
        }
        self.revoke(now, prefix);
    }

    /// Unconfigures the prefixes that a site's new configuration no longer has.
    fn unconfigure_changed(&mut self, now: Time, new: &SiteConfig) {
        let Some(number) = self.sites.number(&new.name) else {
            return;
        };
        let Some(old) = self.sites.get(number) else {
            return;
        };
        let kept: std::collections::HashSet<EidPrefix> =
            new.prefixes.iter().map(|p| p.prefix).collect();
        let gone: Vec<EidPrefix> = old.config.prefixes.iter().map(|p| p.prefix).collect();
        for prefix in gone.iter().filter(|prefix| !kept.contains(prefix)) {
            self.unconfigure(now, number, prefix);
        }
    }

    /// Drops what is registered inside `prefix` and would not be accepted any more. Who wants it back registers again.
    fn revoke(&mut self, now: Time, prefix: &EidPrefix) {
        let unallowed: Vec<EidPrefix> = self
            .known
            .inside(prefix)
            .filter(|(registered, known)| {
                known.registration.as_ref().is_some_and(|registration| {
                    let mut etrs = registration.etrs.iter();
                    etrs.any(|etr| !self.is_allowed(registered, registration.site, etr))
                })
            })
            .map(|(registered, _)| registered)
            .collect();
        for registered in &unallowed {
            self.revoke_of(now, registered);
        }
    }

    fn revoke_of(&mut self, now: Time, prefix: &EidPrefix) {
        let registration = |core: &mut Self| core.known.get_mut(prefix)?.registration.take();
        let Some(mut registration) = registration(self) else {
            return;
        };
        let site = registration.site;
        let gone = take_out(&mut registration.etrs, |etr| {
            !self.is_allowed(prefix, site, etr)
        });
        if let Some(known) = self.known.get_mut(prefix) {
            known.registration = Some(registration);
        }
        for etr in &gone {
            if let Some(journal) = &mut self.journal {
                journal.gone(prefix, &etr.id());
            }
            self.sites.count(site, SiteEvent::Revocations);
            self.tell(
                now,
                "registration revoked by a change of configuration",
                prefix,
                etr.source,
            );
        }
        self.after_removal(prefix);
    }

    /// Whether a site's registration of a prefix by an ETR is what the configuration allows.
    pub(super) fn is_allowed(&self, prefix: &EidPrefix, site: u32, etr: &Etr) -> bool {
        let permitted = self.permission(prefix).map(|(site, _)| site) == Some(site);
        permitted
            && self.sites.get(site).is_some_and(|site| {
                let mut keys = site.config.keys.iter();
                keys.any(|key| key.fingerprint == etr.key)
                    && site.config.allows_locators(&etr.locators)
            })
    }

    /// The site that may register `prefix`, and whether it is a more-specific of what is configured.
    pub(super) fn permission(&self, prefix: &EidPrefix) -> Option<(u32, bool)> {
        if !self.config.roles.map_server {
            return None;
        }
        let (configured, permitted) = self.permitted.longest_match(prefix)?;
        let exact = configured == *prefix;
        (exact || permitted.accept_more_specifics).then_some((permitted.site, !exact))
    }

    fn set_remotes(&mut self, config: &Config) {
        for server in &self.config.map_servers {
            for prefix in &server.prefixes {
                if let Some(known) = self.known.get_mut(prefix) {
                    if matches!(known.configured, Some(Configured::Remote)) {
                        known.configured = None;
                    }
                    if known.is_empty() {
                        self.known.remove(prefix);
                    }
                }
            }
        }
        self.remotes = EidTable::default();
        if !config.roles.map_resolver {
            return;
        }
        for server in &config.map_servers {
            for prefix in &server.prefixes {
                let known = self.known.get_or_default(prefix);
                if !matches!(known.configured, Some(Configured::Site { .. })) {
                    known.configured = Some(Configured::Remote);
                    let remote = self.remotes.get_or_default(prefix);
                    remote.servers.push(server.address);
                }
            }
        }
    }
}
