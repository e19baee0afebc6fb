//! The protocol, without sockets, clock or randomness of its own: events in, actions out.
//!
//! [`Core::handle`] takes an [`Event`] and the time and returns [`Action`]s; [`Core::next_deadline`] says when the next
//! [`Event::Tick`] is due. The same seed, events and times give the same actions. Each behaviour is a file that
//! extends [`Core`]; each keeps its own state in a struct of its own.

pub mod database;
mod echo;
pub mod eid_table;
pub mod etr;
pub mod event;
mod glean;
pub mod hold;
pub mod limits;
pub mod locator_set;
pub mod map_cache;
mod piggyback;
pub mod probing;
pub mod proxy;
pub mod random;
pub mod registration;
pub mod replies;
pub mod requests;
pub mod settings;
pub mod show;
pub mod smr;
pub mod timers;
mod versions;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use daemon::{Counters, Time};
use lisp::wire::{ControlMessage, Ecm, EcmInner, MapRequest};
use lisp::{CONTROL_PORT, EidPrefix};

pub use event::{Action, Change, Datagram, Event, Forward, ForwardLocator, Port, Traffic};
pub use random::{Random, Seeded};
pub use settings::Settings;
pub(crate) use versions::is_newer as is_newer_version;

use crate::forwarding::DataEvent;
use database::Database;
use etr::Answering;
use hold::HoldQueue;
use map_cache::MapCache;
use probing::Prober;
use registration::Registrar;
use requests::Requests;
use smr::Solicitor;
use timers::Timers;

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Timer {
    /// The next Map-Register to a Map-Server, by its place in the settings: periodic, or for want of a Map-Notify.
    Register(usize),
    /// Retransmission of an outstanding Map-Request.
    Request(u64),
    /// A map-cache entry's life ends.
    Expire(EidPrefix),
    /// A map-cache entry in use is asked for again before it expires.
    Refresh(EidPrefix),
    /// The next RLOC-probe of a locator.
    Probe(IpAddr),
    /// An RLOC-probe was not answered in time.
    ProbeTimeout(IpAddr),
    /// What an SMR asked for may be asked now: it came too soon after another Map-Request about the prefix.
    Solicited(EidPrefix),
    /// The next Solicit-Map-Request about a local EID-Prefix to a locator.
    Solicit(EidPrefix, IpAddr),
    /// A locator is asked for a nonce echo, or no longer.
    Echo(IpAddr),
    /// Locator-status bits of a local EID-Prefix are used again after a change.
    StatusBits(EidPrefix),
    /// A local EID-Prefix stops asking the packet path for its senders.
    SenderReports(EidPrefix),
    /// A host of a dynamic EID-Prefix was silent for too long.
    HostGone(EidPrefix),
}

/// An xTR (or a PITR, by its settings).
pub struct Core {
    settings: Settings,
    random: Box<dyn Random>,
    traffic: Box<dyn Traffic>,
    client_port: u16,
    now: Time,
    actions: Vec<Action>,
    timers: Timers<Timer>,
    counters: Counters<&'static str>,
    database: Database,
    cache: MapCache,
    requests: Requests,
    registrar: Registrar,
    answering: Answering,
    solicitor: Solicitor,
    prober: Prober,
    hold: HoldQueue,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// A core that waits for [`Event::Start`]. `client_port` is the UDP port of [`Port::Client`].
    pub fn new(
        settings: Settings,
        client_port: u16,
        random: Box<dyn Random>,
        traffic: Box<dyn Traffic>,
    ) -> Self {
        Self {
            requests: Requests::new(&settings),
            registrar: Registrar::new(settings.map_servers.len()),
            database: Database::new(&settings.database),
            answering: Answering::new(&settings),
            solicitor: Solicitor::default(),
            cache: MapCache::default(),
            prober: Prober::default(),
            hold: HoldQueue::default(),
            timers: Timers::default(),
            counters: Counters::default(),
            actions: Vec::new(),
            now: Time::ZERO,
            client_port,
            random,
            traffic,
            settings,
        }
    }

    /// Takes one event. `now` never goes back.
    pub fn handle(&mut self, now: Time, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        match event {
            Event::Start => self.start(),
            Event::Received(datagram) => self.on_datagram(&datagram),
            Event::Data(event) => self.on_data(event),
            Event::Tick => self.on_tick(),
            Event::Reload(settings) => self.reload(*settings),
            Event::Change(change) => self.on_change(change),
            Event::SiteRoute { prefix, present } => self.on_site_route(prefix, present),
            Event::OwnLink { address, up } => self.on_own_link(address, up),
            Event::Stop => self.deregister_all(),
        }
        std::mem::take(&mut self.actions)
    }

    /// When the next [`Event::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// What was counted, by reason.
    pub fn counters(&self) -> &Counters<&'static str> {
        &self.counters
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn start(&mut self) {
        for prefix in self.database.prefixes() {
            self.show_local(&prefix);
        }
        for entry in self.settings.static_entries.clone() {
            self.install_static(entry);
        }
        self.watch_petrs();
        self.start_registration();
    }

    fn on_tick(&mut self) {
        while let Some(timer) = self.timers.pop_due(self.now) {
            match timer {
                Timer::Register(server) => self.register(server),
                Timer::Request(id) => self.request_timeout(id),
                Timer::Expire(prefix) => self.expire(prefix),
                Timer::Refresh(prefix) => self.refresh(prefix),
                Timer::Probe(rloc) => self.probe(rloc),
                Timer::ProbeTimeout(rloc) => self.probe_timeout(rloc),
                Timer::Solicited(prefix) => self.ask(prefix, None, requests::Purpose::SmrInvoked),
                Timer::Solicit(prefix, rloc) => self.solicit_again(prefix, rloc),
                Timer::Echo(rloc) => self.echo_timer(rloc),
                Timer::StatusBits(prefix) => self.show_local(&prefix),
                Timer::SenderReports(prefix) => self.end_sender_reports(prefix),
                Timer::HostGone(prefix) => self.host_gone(prefix),
            }
        }
    }

    fn on_datagram(&mut self, datagram: &Datagram) {
        self.counters.count("control-received");
        let message = match ControlMessage::parse(&datagram.payload) {
            Ok(message) => message,
            Err(error) => {
                let text = format!("control message from {}: {error}", datagram.source);
                return self.complain("control-malformed", text);
            }
        };
        match message {
            ControlMessage::MapRequest(request) => {
                let arrival = Arrival {
                    outer_source: datagram.source.ip(),
                    reply_port: datagram.source.port(),
                    addressed: datagram.destination.ip(),
                    encapsulated: false,
                };
                self.on_map_request(arrival, &request);
            }
            ControlMessage::Encapsulated(ecm) => self.on_encapsulated(datagram, &ecm),
            ControlMessage::MapReply(reply) => self.on_map_reply(datagram, reply),
            ControlMessage::MapNotify(notify) => self.on_map_notify(datagram, &notify),
            ControlMessage::MapRegister(_)
            | ControlMessage::MapNotifyAck(_)
            | ControlMessage::MapReferral(_) => {
                self.counters.count("control-not-for-a-tunnel-router");
            }
        }
    }

    /// An Encapsulated Control Message: the Map-Server passes a Map-Request on (RFC 6833 4.3).
    fn on_encapsulated(&mut self, datagram: &Datagram, ecm: &Ecm) {
        let inner: EcmInner = match ecm.decode_inner() {
            Ok(inner) => inner,
            Err(error) => {
                let text = format!("encapsulated message from {}: {error}", datagram.source);
                return self.complain("ecm-malformed", text);
            }
        };
        match *inner.message {
            // RFC 6830 6.1.8: probes are never encapsulated, nor are SMRs.
            ControlMessage::MapRequest(request) if request.probe => {
                self.counters.count("ecm-with-probe");
            }
            ControlMessage::MapRequest(request) => {
                let arrival = Arrival {
                    outer_source: datagram.source.ip(),
                    reply_port: inner.source_port,
                    addressed: datagram.destination.ip(),
                    encapsulated: true,
                };
                self.on_map_request(arrival, &request);
            }
            _ => self.counters.count("ecm-without-map-request"),
        }
    }

    fn on_map_request(&mut self, arrival: Arrival, request: &MapRequest) {
        if request.smr {
            self.on_smr(&arrival, request);
        } else {
            self.answer(&arrival, request);
        }
    }

    fn on_data(&mut self, event: DataEvent) {
        match event {
            DataEvent::Miss {
                iid,
                source,
                destination,
                packet,
            } => self.on_miss(iid, source, destination, packet),
            DataEvent::NoRoute {
                iid,
                source,
                eid,
                encapsulator,
            } => self.on_no_route(iid, source, eid, encapsulator),
            DataEvent::AwayEid {
                iid,
                source,
                eid,
                encapsulator,
                ..
            } => self.on_away_eid(iid, source, eid, encapsulator),
            DataEvent::Sender {
                iid,
                source,
                eid,
                encapsulator,
            } => self.on_sender(iid, source, eid, encapsulator),
            DataEvent::DataProbe {
                iid,
                eid,
                prober,
                nonce,
            } => self.on_data_probe(iid, eid, prober, nonce),
            DataEvent::LocatorStatus {
                iid,
                source,
                bits,
                width,
                encapsulator,
            } => self.on_locator_status(iid, source, encapsulator, (bits, width)),
            DataEvent::EchoNonce { nonce, .. } => self.on_echo(nonce),
            DataEvent::MapVersion {
                iid,
                source,
                destination,
                encapsulator,
                source_version,
                destination_version,
            } => self.on_versions(
                iid,
                (source, source_version),
                (destination, destination_version),
                encapsulator,
            ),
            DataEvent::Unreachable { rloc, .. } => self.on_unreachable(rloc),
            DataEvent::SourceSeen { iid, source } => self.on_source_seen(iid, source),
            // The packet path applies it by itself (RFC 6830 5.4.2).
            DataEvent::TooBig { .. } => self.counters.count("path-mtu-lowered"),
        }
    }

    /// A nonce that nobody can guess; 0 is left to Map-Registers of RFC 6830.
    fn nonce(&mut self) -> u64 {
        loop {
            let nonce = self.random.next_u64();
            if nonce != 0 {
                return nonce;
            }
        }
    }

    /// A number from 0 to `below` - 1.
    fn random_below(&mut self, below: u64) -> u64 {
        if below == 0 {
            0
        } else {
            self.random.next_u64() % below
        }
    }

    fn send(&mut self, from: Port, to: SocketAddr, payload: Vec<u8>) {
        self.actions.push(Action::Send {
            from,
            source: None,
            to,
            payload,
        });
    }

    fn send_control(&mut self, from: Port, to: IpAddr, payload: Vec<u8>) {
        self.send(from, SocketAddr::new(to, CONTROL_PORT), payload);
    }

    fn log(&mut self, text: impl Into<String>) {
        self.actions.push(Action::Log(text.into()));
    }

    fn complain(&mut self, reason: &'static str, text: impl Into<String>) {
        self.counters.count(reason);
        self.actions.push(Action::Complain {
            reason,
            text: text.into(),
        });
    }
}

/// How a Map-Request came.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    /// Source address of the packet: the requester, or the Map-Server that passed it on.
    outer_source: IpAddr,
    /// Where a Map-Reply goes: the UDP source port of the Map-Request itself (RFC 6830 6.1.5, ambiguities B4).
    reply_port: u16,
    /// Which of our addresses it was sent to.
    addressed: IpAddr,
    /// Whether it came in an Encapsulated Control Message.
    encapsulated: bool,
}
