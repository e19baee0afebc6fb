//! The state that outlives the process, as octets: registrations and the highest nonces.
//!
//! A file is the header and entries. An entry is its length (32 bits), a checksum (32 bits), a kind octet and a body, all
//! in network byte order. What follows an entry that is cut or does not check was never acknowledged and is left out.
//! Later entries replace earlier ones of the same prefix and ETR, so a file may hold a history.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use daemon::Time;
use ipnet::IpNet;
use lisp::EidPrefix;
use lisp::wire::{MapRecord, MapRegister};

use super::nonces::NonceKey;
use super::registration::{Etr, EtrId, Registration};
use super::request::fingerprint;
use super::{Core, LocatorSet};

/// What a state file starts with; the last octet is the format's version.
pub const HEADER: &[u8; 8] = b"MSMRSTA\x01";

const KIND_ETR: u8 = 1;
const KIND_GONE: u8 = 2;
const KIND_NONCE: u8 = 3;

/// Why stored state cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It is something else.
    #[error("expected a state file of msmr (format 1), found other content")]
    NotState,
}

/// Changes that are not on disk yet.
#[derive(Debug, Default)]
pub(super) struct Journal {
    octets: Vec<u8>,
}

impl Journal {
    fn entry(&mut self, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.octets.len();
        self.octets.extend_from_slice(&[0; 8]);
        self.octets.push(kind);
        body(&mut self.octets);
        let length = self.octets.len() - start - 8;
        let check = checksum(&self.octets[start + 8..]);
        self.octets[start..start + 4].copy_from_slice(&(length as u32).to_be_bytes());
        self.octets[start + 4..start + 8].copy_from_slice(&check.to_be_bytes());
    }

    pub(super) fn etr(&mut self, prefix: &EidPrefix, site: &str, etr: &Etr) {
        self.entry(KIND_ETR, |out| {
            put_prefix(out, prefix);
            put_id(out, &etr.id());
            put_ip(out, &etr.source);
            put_ip(out, &etr.asked);
            for time in [etr.first, etr.last, etr.expires] {
                out.extend_from_slice(&nanos(time).to_be_bytes());
            }
            out.extend_from_slice(&etr.key.to_be_bytes());
            put_text(out, site);
            put_register(out, prefix, etr);
        });
    }

    pub(super) fn gone(&mut self, prefix: &EidPrefix, id: &EtrId) {
        self.entry(KIND_GONE, |out| {
            put_prefix(out, prefix);
            put_id(out, id);
        });
    }

    pub(super) fn nonce(&mut self, (key, id, site_id): &NonceKey, nonce: u64) {
        self.entry(KIND_NONCE, |out| {
            out.extend_from_slice(&key.to_be_bytes());
            put_id(out, id);
            out.extend_from_slice(&site_id.to_be_bytes());
            out.extend_from_slice(&nonce.to_be_bytes());
        });
    }
}

impl Core {
    /// Starts keeping a journal. Times in it are distances from [`Time::ZERO`], so a clock whose state shall be read by a
    /// later process has the Unix epoch as its origin.
    pub fn keep_journal(&mut self) {
        self.journal = Some(Journal::default());
    }

    /// What must be on disk before anything that [`Core::datagram`] put out is sent. The caller clears it.
    pub fn journal(&mut self) -> Option<&mut Vec<u8>> {
        self.journal.as_mut().map(|journal| &mut journal.octets)
    }

    /// Appends the entries of up to `count` prefixes after `cursor` to the journal, and returns the cursor to go on from;
    /// `None` when everything was written. With `cursor` `None` it starts with the nonces.
    ///
    /// A new file that got all changes since this sweep began and the whole sweep holds the whole state.
    pub fn sweep(&mut self, cursor: Option<EidPrefix>, count: usize) -> Option<EidPrefix> {
        let journal = self.journal.as_mut()?;
        if cursor.is_none() {
            for (key, nonce) in self.nonces.oldest_first() {
                journal.nonce(&key, nonce);
            }
        }
        let mut last = None;
        let mut written = 0;
        for (prefix, known) in self.known.iter_after(cursor) {
            if written == count {
                return last;
            }
            last = Some(prefix);
            if let Some(registration) = &known.registration {
                written += 1;
                let name = self
                    .sites
                    .get(registration.site)
                    .map_or("", |site| site.config.name.as_str());
                for etr in &registration.etrs {
                    journal.etr(&prefix, name, etr);
                }
            }
        }
        None
    }

    /// Takes stored state in, marked as restored. Returns how many entries were read and how many octets of a torn tail were left.
    ///
    /// Registrations of sites, keys and prefixes that are not configured any more are left out, and what timed out.
    ///
    /// # Errors
    /// When the octets are not a state file.
    pub fn restore(&mut self, now: Time, state: &[u8]) -> Result<(usize, usize), StateError> {
        let mut rest = state.strip_prefix(HEADER).ok_or(StateError::NotState)?;
        let journal = self.journal.take();
        let mut entries = 0;
        let mut last_set = None;
        while let Some((body, after)) = next_entry(rest) {
            // An entry that checks but does not read is of a later version: skipped, like its whole kind.
            let _understood = self.restore_entry(now, body, &mut last_set);
            entries += 1;
            rest = after;
        }
        self.journal = journal;
        self.timer(now, &mut Vec::new());
        Ok((entries, rest.len()))
    }

    fn restore_entry(
        &mut self,
        now: Time,
        body: &[u8],
        last_set: &mut Option<LocatorSet>,
    ) -> Option<()> {
        let (&kind, body) = body.split_first()?;
        let mut reader = Reader(body);
        match kind {
            KIND_ETR => self.restore_etr(now, &mut reader, last_set),
            KIND_GONE => {
                let prefix = reader.prefix()?;
                let id = reader.id()?;
                let registration = self.known.get_mut(&prefix)?.registration.as_mut()?;
                registration.remove(&id)?;
                self.after_removal(&prefix);
                Some(())
            }
            KIND_NONCE => {
                let key = (reader.u64()?, reader.id()?, reader.u64()?);
                let nonce = reader.u64()?;
                // A history can hold what was said again later; the highest counts.
                self.nonces
                    .accept(key, nonce, self.config.limits.nonces_per_key);
                Some(())
            }
            _ => None,
        }
    }

    fn restore_etr(
        &mut self,
        now: Time,
        reader: &mut Reader<'_>,
        last_set: &mut Option<LocatorSet>,
    ) -> Option<()> {
        let prefix = reader.prefix()?;
        let id = reader.id()?;
        let source = reader.ip()?;
        let asked = reader.ip()?;
        let [first, last, expires] = [reader.u64()?, reader.u64()?, reader.u64()?];
        let key = reader.u64()?;
        let name = reader.text()?;
        let register = MapRegister::parse(reader.0).ok()?;
        let record = register.records.first()?;
        let (number, dynamic) = self.permission(&prefix)?;
        if self.sites.get(number)?.config.name != name {
            return None;
        }
        let expires = from_nanos(expires);
        let locators = match last_set {
            Some(set) if set[..] == record.locators[..] => set.clone(),
            _ => last_set
                .insert(LocatorSet::sorted(record.locators.clone()))
                .clone(),
        };
        let etr = Etr {
            source,
            asked,
            first: from_nanos(first),
            last: from_nanos(last),
            expires,
            nonce: register.nonce,
            key,
            ids: register.xtr_site_id.map(Box::new),
            ttl: record.ttl,
            proxy_reply: register.proxy_reply,
            merge: register.merge,
            want_map_notify: register.want_map_notify,
            use_ttl: register.use_ttl,
            restored: true,
            action: record.action,
            map_version: record.map_version,
            locators,
        };
        if etr.id() != id || !self.is_allowed(&prefix, number, &etr) {
            return None;
        }
        let site = self.sites.get_mut(number)?;
        site.first_registered = Some(
            site.first_registered
                .map_or(etr.first, |t| t.min(etr.first)),
        );
        if site.last_registered.is_none_or(|last| last <= etr.last) {
            site.last_registered = Some(etr.last);
            site.last_registered_by = Some(source);
        }
        let known = self.known.get_or_default(&prefix);
        if known.registration.is_none() {
            self.registrations += 1;
            site.registrations += 1;
        }
        let registration = known
            .registration
            .get_or_insert_with(|| Registration::new(number));
        registration.register(etr, dynamic);
        let due = expires.max(now);
        if due < registration.scheduled {
            registration.scheduled = due;
            self.expiries.add(due, prefix);
        }
        Some(())
    }
}

fn next_entry(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = rest.split_at_checked(8)?;
    let length = u32::from_be_bytes(head[..4].try_into().ok()?) as usize;
    let check = u32::from_be_bytes(head[4..].try_into().ok()?);
    let (body, after) = rest.split_at_checked(length)?;
    (checksum(body) == check).then_some((body, after))
}

fn checksum(octets: &[u8]) -> u32 {
    let wide = fingerprint(&[octets]);
    (wide >> 32) as u32 ^ wide as u32
}

/// [`Time::NEVER`] is the largest number.
fn nanos(time: Time) -> u64 {
    u64::try_from(time.since_origin().as_nanos()).unwrap_or(u64::MAX)
}

fn from_nanos(nanos: u64) -> Time {
    Time::from_origin(Duration::from_nanos(nanos))
}

fn put_ip(out: &mut Vec<u8>, address: &IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            out.push(4);
            out.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            out.push(6);
            out.extend_from_slice(&v6.octets());
        }
    }
}

fn put_prefix(out: &mut Vec<u8>, prefix: &EidPrefix) {
    out.extend_from_slice(&prefix.iid.to_be_bytes());
    out.push(prefix.prefix.prefix_len());
    put_ip(out, &prefix.prefix.addr());
}

fn put_id(out: &mut Vec<u8>, id: &EtrId) {
    match id {
        EtrId::Address(address) => put_ip(out, address),
        EtrId::Xtr(id) => {
            out.push(0);
            out.extend_from_slice(id);
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let octets = text.as_bytes();
    let length = octets.len().min(usize::from(u16::MAX));
    out.extend_from_slice(&(length as u16).to_be_bytes());
    out.extend_from_slice(&octets[..length]);
}

/// The registration in the form in which the ETR said it: a Map-Register with one record, unsigned.
fn put_register(out: &mut Vec<u8>, prefix: &EidPrefix, etr: &Etr) {
    let register = MapRegister {
        proxy_reply: etr.proxy_reply,
        merge: etr.merge,
        use_ttl: etr.use_ttl,
        want_map_notify: etr.want_map_notify,
        nonce: etr.nonce,
        records: vec![MapRecord {
            map_version: etr.map_version,
            locators: etr.locators.to_vec(),
            ..MapRecord::negative(*prefix, etr.ttl, etr.action)
        }],
        xtr_site_id: etr.ids.as_deref().copied(),
        ..MapRegister::default()
    };
    let start = out.len();
    out.resize(start + register.buffer_len(), 0);
    register.emit(&mut out[start..]);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.array()?))
    }

    fn ip(&mut self) -> Option<IpAddr> {
        match self.array()? {
            [4] => Some(IpAddr::from(self.array::<4>()?)),
            [6] => Some(IpAddr::V6(Ipv6Addr::from(self.array::<16>()?))),
            _ => None,
        }
    }

    fn id(&mut self) -> Option<EtrId> {
        match self.0.first()? {
            0 => {
                self.take(1)?;
                Some(EtrId::Xtr(self.array()?))
            }
            _ => self.ip().map(EtrId::Address),
        }
    }

    fn prefix(&mut self) -> Option<EidPrefix> {
        let iid = u32::from_be_bytes(self.array()?);
        let [length] = self.array()?;
        let prefix = IpNet::new(self.ip()?, length).ok()?;
        Some(EidPrefix::new(iid, prefix))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u16::from_be_bytes(self.array()?);
        std::str::from_utf8(self.take(usize::from(length))?).ok()
    }
}
