//! Map-Registers: authentic, not replayed, allowed, then taken in and acknowledged (RFC 6833 4.2, RFC 9301 8.2).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::Time;
use lisp::auth::{AuthKey, Coverage, MacAlgorithm, verify_covering};
use lisp::wire::{Locator, MapNotify, MapRecord, MapRegister, XtrSiteId};
use lisp::{Address, CONTROL_PORT, EidPrefix, Lcaf};

use super::registration::{Etr, EtrId, Registration};
use super::site::{Edition, SiteEvent, SiteKey, accepted_forms};
use super::{Core, Datagram, Event, LocatorSet, SourcePort, Transmit, is_foreign_vendor};

/// The I bit of a Map-Register, in its first octet.
const I_BIT: u8 = 0b10;

/// A Map-Register that passed authentication.
struct Authentic {
    register: MapRegister,
    site: u32,
    /// Fingerprint of the site's key.
    key: u64,
    /// The key in the form that the register used: the Map-Notify uses the same.
    auth: Arc<AuthKey>,
    id: EtrId,
}

/// A prefix that a site may register.
struct Allowed {
    prefix: EidPrefix,
    /// A more-specific of what is configured.
    dynamic: bool,
}

impl Core {
    pub(super) fn map_register(
        &mut self,
        now: Time,
        datagram: Datagram<'_>,
        out: &mut Vec<Transmit>,
    ) {
        self.counters.count(Event::MapRegisters);
        let foreign = |record: &MapRecord| {
            let mut rlocs = record.locators.iter().map(|locator| &locator.rloc);
            is_foreign_vendor(&record.eid) || rlocs.any(is_foreign_vendor)
        };
        let register = self
            .parse_register(datagram.payload)
            .filter(|register| !register.records.iter().any(foreign));
        let Some(register) = register else {
            return self.refuse(now, Event::Malformed, datagram.source);
        };
        let Some(authentic) = self.authenticate(now, register, datagram) else {
            return;
        };
        let site = authentic.site;
        if !self.accept_nonce(&authentic) {
            self.sites.count(site, SiteEvent::Replays);
            return self.refuse(now, Event::Replay, datagram.source);
        }
        if self.is_outdated(&authentic.register, &authentic.id) {
            self.sites.count(site, SiteEvent::OldVersions);
            return self.refuse(now, Event::OldVersion, datagram.source);
        }
        self.sites.count(site, SiteEvent::MapRegisters);
        let mut accepted = Vec::with_capacity(authentic.register.records.len());
        let mut last_set: Option<LocatorSet> = None;
        for record in &authentic.register.records {
            match self.allowed(site, record) {
                Ok(prefix) => {
                    if self.take_in(
                        now,
                        datagram,
                        &authentic,
                        &prefix,
                        record,
                        &mut last_set,
                        out,
                    ) {
                        accepted.push(record.clone());
                    } else {
                        self.sites.count(site, SiteEvent::LimitRefusals);
                    }
                }
                Err(event) => self.sites.count(site, event),
            }
        }
        if accepted.is_empty() {
            return self.refuse(now, Event::NothingRegistered, datagram.source);
        }
        if let Some(site) = self.sites.get_mut(site) {
            site.first_registered.get_or_insert(now);
            site.last_registered = Some(now);
            site.last_registered_by = Some(datagram.source.ip());
        }
        if authentic.register.want_map_notify {
            self.acknowledge(datagram, &authentic, accepted, out);
        }
    }

    fn parse_register(&self, payload: &[u8]) -> Option<MapRegister> {
        if let Ok(register) = MapRegister::parse(payload) {
            return Some(register);
        }
        // RFC 6830 6.1.6 reserves the bit that RFC 9301 calls I: there it must be ignored and nothing follows.
        let announces_ids = payload.first().is_some_and(|octet| octet & I_BIT != 0);
        if self.config.edition == Edition::Rfc6830 && announces_ids {
            let mut plain = payload.to_vec();
            plain[0] &= !I_BIT;
            return MapRegister::parse(&plain).ok();
        }
        None
    }

    /// Finds the site and the key. Failures are counted where they belong and not answered (RFC 6833 4.2).
    fn authenticate(
        &mut self,
        now: Time,
        register: MapRegister,
        datagram: Datagram<'_>,
    ) -> Option<Authentic> {
        let is_known = |record: &MapRecord| self.permission_any(&record.eid_prefix()?);
        let Some(number) = register.records.iter().find_map(is_known) else {
            self.refuse(now, Event::UnknownSite, datagram.source);
            return None;
        };
        let site = self.sites.get(number)?;
        let accept = site.config.accept_mac.unwrap_or(self.config.accept_mac);
        let has_ids = register.xtr_site_id.is_some();
        let verified = site.config.keys.iter().find_map(|key| {
            verified_form(datagram.payload, key, &register, has_ids, accept)
                .map(|form| (key.fingerprint, in_form(key, form)))
        });
        let Some((key, auth)) = verified else {
            self.sites.count(number, SiteEvent::AuthenticationFailures);
            self.refuse(now, Event::AuthenticationFailure, datagram.source);
            return None;
        };
        let id = match &register.xtr_site_id {
            Some(ids) => EtrId::Xtr(ids.xtr_id),
            None => EtrId::Address(datagram.source.ip()),
        };
        Some(Authentic {
            register,
            site: number,
            key,
            auth,
            id,
        })
    }

    /// The site of the longest configured prefix around `prefix`, allowed or not.
    fn permission_any(&self, prefix: &EidPrefix) -> Option<u32> {
        let (_, permitted) = self.permitted.longest_match(prefix)?;
        Some(permitted.site)
    }

    /// RFC 9301 5.6: the nonce must be greater than the last of this xTR and key. RFC 6833 6 knows no such protection.
    fn accept_nonce(&mut self, authentic: &Authentic) -> bool {
        if self.config.edition == Edition::Rfc6830 {
            return true;
        }
        let site_id = authentic.register.xtr_site_id.map_or(0, |ids| ids.site_id);
        let key = (authentic.key, authentic.id, site_id);
        let nonce = authentic.register.nonce;
        let limit = self.config.limits.nonces_per_key;
        if !self.nonces.accept(key, nonce, limit) {
            return false;
        }
        if let Some(journal) = &mut self.journal {
            journal.nonce(&key, nonce);
        }
        true
    }

    /// RFC 9302 5: a message with an older map-version than what is registered is dropped. Version 0 says nothing.
    ///
    /// The ETRs of a configured prefix speak of one mapping, and so have one count. Those that are merged, and the places
    /// of a mobile EID, each have their own.
    fn is_outdated(&self, register: &MapRegister, id: &EtrId) -> bool {
        if self.config.edition == Edition::Rfc6830 {
            return false;
        }
        register.records.iter().any(|record| {
            let registered = record.eid_prefix().and_then(|prefix| {
                let registration = self.known.get(&prefix)?.registration.as_ref()?;
                let shared = !register.merge && self.known.get(&prefix)?.configured.is_some();
                let last = registration.etrs.last().filter(|etr| shared && !etr.merge);
                let own = registration.etrs.iter().find(|etr| etr.id() == *id);
                last.or(own).map(|etr| etr.map_version)
            });
            registered.is_some_and(|version| is_older(record.map_version, version))
        })
    }

    /// Whether a site may register this record; and whether its prefix is a more-specific of what is configured.
    fn allowed(&self, number: u32, record: &MapRecord) -> Result<Allowed, SiteEvent> {
        let prefix = record.eid_prefix().ok_or(SiteEvent::PrefixRefusals)?;
        let dynamic = match self.permission(&prefix) {
            Some((site, dynamic)) if site == number => dynamic,
            _ => return Err(SiteEvent::PrefixRefusals),
        };
        let Some(site) = self.sites.get(number) else {
            return Err(SiteEvent::PrefixRefusals);
        };
        if record.ttl != 0 && !site.config.allows_locators(&record.locators) {
            return Err(SiteEvent::LocatorMismatches);
        }
        Ok(Allowed { prefix, dynamic })
    }

    /// Registers or withdraws one prefix; `false` when a limit stands against it.
    #[allow(clippy::too_many_arguments)]
    fn take_in(
        &mut self,
        now: Time,
        datagram: Datagram<'_>,
        authentic: &Authentic,
        &Allowed { prefix, dynamic }: &Allowed,
        record: &MapRecord,
        last_set: &mut Option<LocatorSet>,
        out: &mut Vec<Transmit>,
    ) -> bool {
        if record.ttl == 0 {
            self.withdraw(now, datagram, &prefix, authentic);
            return true;
        }
        let number = authentic.site;
        let known = self.known.get_or_default(&prefix);
        let fresh = known.registration.is_none();
        let Some(site) = self.sites.get_mut(number) else {
            return false;
        };
        let limits = &self.config.limits;
        let full = match &known.registration {
            None => {
                self.registrations >= limits.registrations
                    || site
                        .config
                        .max_registrations
                        .is_some_and(|max| site.registrations >= max)
            }
            Some(registration) => {
                registration.etrs.len() >= limits.etrs_per_prefix
                    && !registration.etrs.iter().any(|etr| etr.id() == authentic.id)
            }
        };
        if full {
            if known.is_empty() {
                self.known.remove(&prefix);
            }
            return false;
        }
        let timeout = site
            .config
            .registration_timeout
            .unwrap_or(self.config.registration_timeout);
        let etr = Etr {
            source: datagram.source.ip(),
            asked: datagram.destination,
            first: now,
            last: now,
            expires: expiry(
                now,
                timeout,
                &authentic.register,
                record,
                self.config.edition,
            ),
            nonce: authentic.register.nonce,
            key: authentic.key,
            ids: authentic.register.xtr_site_id.map(Box::new),
            ttl: record.ttl,
            proxy_reply: authentic.register.proxy_reply,
            merge: authentic.register.merge,
            want_map_notify: authentic.register.want_map_notify,
            use_ttl: authentic.register.use_ttl,
            restored: false,
            action: record.action,
            map_version: record.map_version,
            locators: shared_set(record, last_set),
        };
        if fresh {
            self.registrations += 1;
            site.registrations += 1;
        }
        let registration = known
            .registration
            .get_or_insert_with(|| Registration::new(number));
        if let Some(journal) = &mut self.journal {
            journal.etr(&prefix, &site.config.name, &etr);
        }
        let expires = etr.expires;
        let change = registration.register(etr, dynamic);
        if expires < registration.scheduled {
            registration.scheduled = expires;
            self.expiries.add(expires, prefix);
        }
        if fresh {
            self.tell(now, "registered", &prefix, datagram.source.ip());
        }
        if !change.moved_from.is_empty() {
            self.notify_moved(now, &prefix, &change.moved_from, dynamic, out);
        }
        true
    }

    /// TTL 0 takes the ETR's registration away (ambiguities A10).
    fn withdraw(
        &mut self,
        now: Time,
        datagram: Datagram<'_>,
        prefix: &EidPrefix,
        authentic: &Authentic,
    ) {
        let removed = self
            .known
            .get_mut(prefix)
            .and_then(|known| known.registration.as_mut())
            .and_then(|registration| registration.remove(&authentic.id));
        // Also of what is gone already: this withdrawal will be acknowledged, perhaps another one was not kept.
        if let Some(journal) = &mut self.journal {
            journal.gone(prefix, &authentic.id);
        }
        if removed.is_some() {
            self.sites.count(authentic.site, SiteEvent::Withdrawals);
            self.tell(now, "registration withdrawn", prefix, datagram.source.ip());
            self.after_removal(prefix);
        }
    }

    /// The Map-Notify repeats the register's records under the same key, to port 4342 (RFC 6830 6.1.7).
    fn acknowledge(
        &mut self,
        datagram: Datagram<'_>,
        authentic: &Authentic,
        records: Vec<MapRecord>,
        out: &mut Vec<Transmit>,
    ) {
        let notify = MapNotify {
            nonce: authentic.register.nonce,
            records,
            xtr_site_id: notified_ids(self.config.edition, &authentic.register),
            ..MapNotify::default()
        };
        out.push(Transmit {
            from: super::answer_from(datagram.destination, &datagram.source.ip()),
            port: SourcePort::Control,
            to: SocketAddr::new(datagram.source.ip(), CONTROL_PORT),
            payload: notify.to_signed_vec(&authentic.auth),
        });
        self.counters.count(Event::MapNotifies);
        self.sites.count(authentic.site, SiteEvent::MapNotifies);
    }
}

/// Whether map-version `one` is older than `other` on the circle of 4096 (RFC 9302 6); 0 is no version.
fn is_older(one: u16, other: u16) -> bool {
    one != 0
        && other != 0
        && (other > one && other - one <= 2048 || one > other && one - other > 2048)
}

/// The reserved flags of RFC 6830's Map-Notify stay zero; RFC 9301 copies the fields (ambiguities A9).
fn notified_ids(edition: Edition, register: &MapRegister) -> Option<XtrSiteId> {
    match edition {
        Edition::Rfc6830 => None,
        Edition::Rfc9300 => register.xtr_site_id,
    }
}

/// The form in which a message is authentic under a key, if it is.
fn verified_form(
    message: &[u8],
    key: &SiteKey,
    register: &MapRegister,
    has_ids: bool,
    accept: super::site::AcceptMac,
) -> Option<MacAlgorithm> {
    let (id, length) = (register.auth.algorithm, register.auth.data.len());
    let coverages: &[Coverage] = if has_ids {
        // Whether the code reaches over xTR-ID and Site-ID is open (ambiguities A4).
        &[Coverage::WholePayload, Coverage::ThroughLastRecord]
    } else {
        &[Coverage::WholePayload]
    };
    accepted_forms(key.auth.algorithm, accept)
        .into_iter()
        .filter(|form| form.id() == id && form.data_len() == length)
        .find(|form| {
            coverages
                .iter()
                .any(|&coverage| verify_covering(message, &key.auth, &[*form], coverage).is_ok())
        })
}

/// The key, making codes in `form`.
fn in_form(key: &SiteKey, form: MacAlgorithm) -> Arc<AuthKey> {
    if key.auth.algorithm == form {
        return key.auth.clone();
    }
    let mut auth = AuthKey::clone(&key.auth);
    auth.algorithm = form;
    Arc::new(auth)
}

/// When a registration goes: after the timeout, or the record TTL where the T bit asks for it (RFC 9301 5.6).
fn expiry(
    now: Time,
    timeout: Duration,
    register: &MapRegister,
    record: &MapRecord,
    edition: Edition,
) -> Time {
    if edition == Edition::Rfc9300 && register.use_ttl {
        return match record.ttl {
            u32::MAX => Time::NEVER,
            minutes => now + Duration::from_secs(u64::from(minutes) * 60),
        };
    }
    now + timeout
}

/// The record's locator-set, sorted, without locators of an unknown LCAF type (RFC 9306 3). Equal sets of one message
/// share their memory.
fn shared_set(record: &MapRecord, last: &mut Option<LocatorSet>) -> LocatorSet {
    let usable = |locator: &&Locator| match &locator.rloc {
        Address::Lcaf(lcaf) => !matches!(**lcaf, Lcaf::Opaque { .. }),
        Address::None => false,
        _ => true,
    };
    let set = LocatorSet::sorted(record.locators.iter().filter(usable).cloned().collect());
    match last {
        Some(last) if *last == set => last.clone(),
        _ => {
            *last = Some(set.clone());
            set
        }
    }
}
