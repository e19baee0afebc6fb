//! Map-Registers and Map-Notifies (RFC 6833 4.2; RFC 9301 5.6, 5.7).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use daemon::Time;
use lisp::EidPrefix;
use lisp::auth;
use lisp::wire::{MapNotify, MapNotifyAck, MapRecord, MapRegister};

use super::database::AwayReason;
use super::event::{Datagram, Port};
use super::settings::Settings;
use super::{Core, Timer, locator_set};
use crate::forwarding::Edition;

/// Octets of a Map-Register's records at most: more prefixes take several messages.
const RECORDS_ROOM: usize = 1300;
/// What stands around the records at most: UDP header, fixed part, the longest MAC, xTR-ID and Site-ID.
const AROUND_RECORDS: usize = 8 + 16 + 32 + 24;
/// Records of a message at most: the count has 8 bits.
const RECORD_LIMIT: usize = 255;
/// First wait for a Map-Notify; it doubles up to [`LAST_WAIT`] (RFC 9301 5.7).
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait for a Map-Notify.
const LAST_WAIT: Duration = Duration::from_secs(60);

/// How the site stands with its Map-Servers, in the order of the settings.
#[derive(Debug)]
pub struct Registrar {
    pub(super) servers: Vec<Server>,
    last_nonce: u64,
    quick_until: Time,
}

/// How the site stands with one Map-Server.
#[derive(Debug, Clone, Default)]
pub struct Server {
    /// Prefixes whose Map-Notify is missing.
    pub(super) unconfirmed: BTreeSet<EidPrefix>,
    nonces: Vec<u64>,
    wait: Duration,
    /// When the last Map-Register went.
    pub last_sent: Option<Time>,
    /// When the last authentic Map-Notify came.
    pub last_notify: Option<Time>,
}

impl Registrar {
    /// Nothing registered yet.
    pub fn new(servers: usize) -> Self {
        Self {
            servers: vec![Server::default(); servers],
            last_nonce: 0,
            quick_until: Time::ZERO,
        }
    }
}

impl Core {
    pub(super) fn start_registration(&mut self) {
        self.registrar.last_nonce = self.settings.register_nonce;
        self.register_changed();
    }

    /// Other Map-Servers after a new configuration.
    pub(super) fn restart_registration(&mut self, old_servers: usize) {
        for server in 0..old_servers {
            self.timers.cancel(&Timer::Register(server));
        }
        self.registrar.servers = vec![Server::default(); self.settings.map_servers.len()];
        self.register_changed();
    }

    /// Registers with everybody at once, and quickly for a while (RFC 6833 4.2).
    pub(super) fn register_changed(&mut self) {
        if let Some((_, duration)) = self.settings.quick_registration {
            self.registrar.quick_until = self.now + duration;
        }
        for server in 0..self.settings.map_servers.len() {
            if let Some(state) = self.registrar.servers.get_mut(server) {
                state.wait = FIRST_WAIT;
            }
            // Through the queue, so that several changes at one moment are one Map-Register.
            self.timers.set(Timer::Register(server), self.now);
        }
    }

    fn registration_interval(&self) -> Duration {
        match self.settings.quick_registration {
            Some((interval, _)) if self.now < self.registrar.quick_until => interval,
            _ => self.settings.register_interval,
        }
    }

    /// Sends everything that is here to one Map-Server. Until it confirms what it was asked to confirm, the next time
    /// comes sooner, with doubling waits.
    pub(super) fn register(&mut self, server: usize) {
        let here: Vec<EidPrefix> = self.database.here().collect();
        let interval = self.registration_interval();
        let Some(map_server) = self.settings.map_servers.get(server) else {
            return;
        };
        let want_map_notify = map_server.want_map_notify;
        let records: Vec<MapRecord> = here
            .iter()
            .filter_map(|prefix| Some(self.own_record(&self.database.locals.get(prefix)?.mapping)))
            .collect();
        let nonces = self.send_registers(server, records, want_map_notify);
        let now = self.now;
        let Some(state) = self.registrar.servers.get_mut(server) else {
            return;
        };
        state.last_sent = Some(now);
        if want_map_notify && !here.is_empty() {
            // The nonce of an earlier one still counts: its Map-Notify may only be late.
            state.nonces.extend(nonces);
            let excess = state.nonces.len().saturating_sub(64);
            state.nonces.drain(..excess);
            state.unconfirmed = here.into_iter().collect();
            let wait = state.wait.max(FIRST_WAIT);
            state.wait = (wait * 2).min(LAST_WAIT);
            self.timers.set(Timer::Register(server), now + wait);
        } else {
            self.timers.set(Timer::Register(server), now + interval);
        }
    }

    /// Octets of records that a message to `map_server` may carry. RFC 9301 5 keeps the whole IP packet within 576
    /// (IPv4) or 1280 (IPv6) octets where the path MTU is not known.
    fn records_room(&self, map_server: IpAddr) -> usize {
        match (self.settings.edition, map_server) {
            (Edition::Rfc6830, _) => RECORDS_ROOM,
            (Edition::Rfc9300, IpAddr::V4(_)) => 576 - 20 - AROUND_RECORDS,
            (Edition::Rfc9300, IpAddr::V6(_)) => 1280 - 40 - AROUND_RECORDS,
        }
    }

    /// Sends Map-Registers with these records; returns their nonces.
    fn send_registers(
        &mut self,
        server: usize,
        records: Vec<MapRecord>,
        want_map_notify: bool,
    ) -> Vec<u64> {
        let mut nonces = Vec::new();
        let Some(address) = self.settings.map_servers.get(server).map(|s| s.address) else {
            return nonces;
        };
        for records in batches(records, self.records_room(address)) {
            let Some(map_server) = self.settings.map_servers.get(server) else {
                break;
            };
            let nonce = match self.settings.edition {
                // RFC 6830 6.1.6: 0. RFC 9301 5.6: increasing, across restarts too.
                Edition::Rfc6830 => 0,
                Edition::Rfc9300 => {
                    self.registrar.last_nonce += 1;
                    self.registrar.last_nonce
                }
            };
            let register = MapRegister {
                proxy_reply: map_server.proxy_reply,
                want_map_notify,
                nonce,
                records,
                xtr_site_id: self.settings.xtr_site_id,
                ..MapRegister::default()
            };
            let payload = register.to_signed_vec(&map_server.key);
            let address = map_server.address;
            self.counters.count("map-register-sent");
            self.send_control(Port::Client, address, payload);
            nonces.push(nonce);
        }
        nonces
    }

    /// Withdraws prefixes from every Map-Server: TTL 0 (ambiguities A10).
    pub(super) fn deregister(&mut self, prefixes: &[EidPrefix]) {
        let records: Vec<MapRecord> = prefixes
            .iter()
            .map(|prefix| locator_set::negative(*prefix, 0))
            .collect();
        for server in 0..self.settings.map_servers.len() {
            self.send_registers(server, records.clone(), false);
            if let Some(state) = self.registrar.servers.get_mut(server) {
                for prefix in prefixes {
                    state.unconfirmed.remove(prefix);
                }
            }
        }
    }

    pub(super) fn deregister_all(&mut self) {
        for server in 0..self.settings.map_servers.len() {
            self.leave(server);
        }
    }

    /// Withdraws everything from the Map-Servers that a new configuration does not have.
    pub(super) fn leave_map_servers(&mut self, new: &Settings) {
        for server in 0..self.settings.map_servers.len() {
            let address = self.settings.map_servers[server].address;
            if !new.map_servers.iter().any(|kept| kept.address == address) {
                self.leave(server);
            }
        }
    }

    fn leave(&mut self, server: usize) {
        let records: Vec<MapRecord> = self
            .database
            .here()
            .map(|prefix| locator_set::negative(prefix, 0))
            .collect();
        if !records.is_empty() {
            self.send_registers(server, records, false);
        }
    }

    pub(super) fn on_map_notify(&mut self, datagram: &Datagram, notify: &MapNotify) {
        let Some(server) = self.authentic(datagram) else {
            let text = format!("Map-Notify from {} is not authentic", datagram.source);
            return self.complain("map-notify-not-authentic", text);
        };
        self.counters.count("map-notify-received");
        let now = self.now;
        let expected = self
            .registrar
            .servers
            .get(server)
            .is_some_and(|state| state.nonces.contains(&notify.nonce));
        let mut moved = Vec::new();
        for record in &notify.records {
            match record.eid_prefix() {
                Some(prefix) if self.lives_elsewhere(&prefix, record) => moved.push(prefix),
                Some(prefix) if expected => {
                    if let Some(state) = self.registrar.servers.get_mut(server) {
                        state.unconfirmed.remove(&prefix);
                    }
                }
                Some(_) => {}
                None => self.counters.count("map-notify-strange-record"),
            }
        }
        let interval = self.registration_interval();
        if let Some(state) = self.registrar.servers.get_mut(server)
            && expected
        {
            state.last_notify = Some(now);
            if state.unconfirmed.is_empty() && state.wait != Duration::ZERO {
                state.wait = Duration::ZERO;
                state.nonces.clear();
                state.nonces.push(notify.nonce);
                let next = state.last_sent.unwrap_or(now) + interval;
                self.timers.set(Timer::Register(server), next.max(now));
            }
        }
        if !expected && self.settings.edition == Edition::Rfc9300 {
            self.acknowledge(server, notify);
        }
        let Some(address) = self.settings.map_servers.get(server).map(|s| s.address) else {
            return;
        };
        for prefix in moved {
            self.on_moved(prefix, address);
        }
    }

    /// Which Map-Server's key a Map-Notify was made with: the sender's own, or any if the sender is unknown (a
    /// Map-Server may have several addresses).
    fn authentic(&self, datagram: &Datagram) -> Option<usize> {
        let source = datagram.source.ip();
        let servers = &self.settings.map_servers;
        let known = servers.iter().any(|server| server.address == source);
        servers.iter().position(|server| {
            (server.address == source || !known)
                && auth::verify(&datagram.payload, &server.key, &[]).is_ok()
        })
    }

    /// Whether a Map-Notify says that an EID-Prefix of ours, or a part of it, is registered with none of our locators.
    fn lives_elsewhere(&self, prefix: &EidPrefix, record: &MapRecord) -> bool {
        let Some((owner, local)) = self.database.locals.longest_match(prefix) else {
            return false;
        };
        let mine = local
            .mapping
            .locators
            .iter()
            .any(|locator| self.settings.is_own(locator.address));
        let still_ours = record
            .locators
            .iter()
            .filter_map(|locator| locator.rloc.ip())
            .any(|rloc| self.settings.is_own(rloc));
        // Several xTRs share a dynamic range: only its hosts move.
        let shared = local.mapping.dynamic && owner == *prefix;
        record.ttl != 0 && !record.locators.is_empty() && !shared && mine && !still_ours
    }

    /// Another xTR registered the prefix: it has moved there (host mobility).
    fn on_moved(&mut self, prefix: EidPrefix, map_server: IpAddr) {
        self.log(format!("{prefix} moved away, says Map-Server {map_server}"));
        let dynamic = self
            .database
            .locals
            .get(&prefix)
            .is_some_and(|local| local.of_dynamic.is_some());
        if dynamic {
            self.database.locals.remove(&prefix);
            self.database.dynamic_hosts -= 1;
        }
        for state in &mut self.registrar.servers {
            state.unconfirmed.remove(&prefix);
        }
        self.put_away(prefix, AwayReason::Moved { map_server });
        self.solicit_correspondents(prefix);
    }

    /// RFC 9301 5.7: an unsolicited Map-Notify is acknowledged with the same contents.
    fn acknowledge(&mut self, server: usize, notify: &MapNotify) {
        let Some(map_server) = self.settings.map_servers.get(server) else {
            return;
        };
        let ack = MapNotifyAck(notify.clone());
        let payload = ack.to_signed_vec(&map_server.key);
        let address = map_server.address;
        self.send_control(Port::Control, address, payload);
    }
}

fn batches(records: Vec<MapRecord>, limit: usize) -> Vec<Vec<MapRecord>> {
    let mut batches: Vec<Vec<MapRecord>> = Vec::new();
    let mut room = 0;
    for record in records {
        let len = record.buffer_len();
        match batches.last_mut() {
            Some(batch) if len <= room && batch.len() < RECORD_LIMIT => {
                room -= len;
                batch.push(record);
            }
            _ => {
                room = limit.saturating_sub(len);
                batches.push(vec![record]);
            }
        }
    }
    batches
}
