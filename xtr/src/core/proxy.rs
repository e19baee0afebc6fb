//! Interworking (RFC 6832): the proxy ETRs that a site uses, and what a proxy says when it is probed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use daemon::Time;
use ipnet::IpNet;
use lisp::EidPrefix;
use lisp::wire::{
    Action as RecordAction, ControlMessage, Locator, MapRecord, MapReply, MapRequest,
};

use super::event::{Action, ForwardLocator, Port};
use super::locator_set::CachedLocator;
use super::settings::RemoteLocator;
use super::show::{PetrRow, ProxyView};
use super::{Arrival, Core, Timer};
use crate::forwarding::Role;

/// Minutes that the answer to a probe of a proxy lives for who takes it for a mapping: the mapping system knows better.
const PROBE_ANSWER_TTL: u32 = 1;

impl Core {
    /// Proxy ETRs are locators that are used without a map-cache entry: they are probed like those, the first time at
    /// once, so that a dead one is noticed before traffic has gone to it for long.
    pub(super) fn watch_petrs(&mut self) {
        for petr in self.settings.petrs.clone() {
            let known = self.prober.rlocs.contains_key(&petr.address);
            self.watch_locator(petr.address);
            if !known && self.settings.probe_interval.is_some() {
                self.timers.set(Timer::Probe(petr.address), self.now);
            }
        }
        self.show_petrs();
    }

    /// Proxy ETRs of an earlier configuration that nothing uses any more.
    pub(super) fn forget_petrs(&mut self, old: &[RemoteLocator]) {
        for petr in old {
            if !self.cache.users.contains_key(&petr.address) {
                self.unwatch_locator(petr.address);
            }
        }
    }

    /// Whether a locator is a proxy ETR of ours.
    pub(super) fn is_petr(&self, rloc: IpAddr) -> bool {
        self.settings.petrs.iter().any(|petr| petr.address == rloc)
    }

    /// A proxy ETR has no EID-Prefix of its own: it is probed about everything of its family.
    pub(super) fn petr_question(&self, rloc: IpAddr) -> Option<EidPrefix> {
        let any = match rloc {
            IpAddr::V4(_) => IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0),
            IpAddr::V6(_) => IpNet::new_assert(Ipv6Addr::UNSPECIFIED.into(), 0),
        };
        self.is_petr(rloc).then(|| EidPrefix::new(0, any))
    }

    /// The proxy ETRs for the packet path (RFC 6832 6.1).
    pub(super) fn show_petrs(&mut self) {
        let petrs: Vec<ForwardLocator> = self
            .settings
            .petrs
            .iter()
            .map(|petr| ForwardLocator {
                rloc: Some(petr.address),
                priority: petr.priority,
                weight: petr.weight,
                usable: !self.prober.is_down(petr.address),
            })
            .collect();
        self.actions.push(Action::SetPetrs(petrs));
    }

    /// An RLOC-probe about a prefix that is nobody's here. Who probes a PETR or an RTR uses it as a locator of that
    /// prefix: it is told that it can, and nothing else about the prefix. False: not for us to answer.
    pub(super) fn answer_probe_as_proxy(
        &mut self,
        arrival: &Arrival,
        request: &MapRequest,
        requester: IpAddr,
    ) -> bool {
        let decapsulates = matches!(self.settings.role, Role::Petr | Role::Pxtr | Role::Rtr);
        let asked = request.records.first().and_then(|query| query.prefix());
        let Some(asked) = asked else {
            return false;
        };
        if !request.probe || !decapsulates || arrival.encapsulated {
            return false;
        }
        if !self.may_answer(asked, requester, true) {
            self.counters.count("map-reply-limited");
            return true;
        }
        let mut record = MapRecord::negative(asked, PROBE_ANSWER_TTL, RecordAction::NoAction);
        record.authoritative = true;
        record.locators = vec![Locator {
            priority: 1,
            weight: 100,
            mpriority: 255,
            mweight: 0,
            reserved: 0,
            local: true,
            probed: true,
            reachable: true,
            rloc: arrival.addressed.into(),
        }];
        let reply = MapReply {
            probe: true,
            nonce: request.nonce,
            records: vec![record],
            ..MapReply::default()
        };
        self.counters.count("proxy-probe-answered");
        let to = SocketAddr::new(requester, arrival.reply_port);
        self.send(Port::Control, to, ControlMessage::MapReply(reply).to_vec());
        true
    }

    /// `show petr`.
    pub fn show_proxy(&self, now: Time) -> ProxyView {
        let usable = |rloc: IpAddr| !self.prober.is_down(rloc);
        let best = self
            .settings
            .petrs
            .iter()
            .filter(|petr| usable(petr.address) && petr.priority != 255)
            .map(|petr| petr.priority)
            .min();
        let rows = self.settings.petrs.iter().map(|petr| PetrRow {
            locator: self.locator_row(now, &CachedLocator::from(*petr), Time::ZERO),
            used: usable(petr.address) && Some(petr.priority) == best,
        });
        ProxyView {
            role: self.settings.role.name().into(),
            aggregates: self
                .settings
                .aggregates
                .iter()
                .map(ToString::to_string)
                .collect(),
            sources: self
                .settings
                .petr_sources
                .iter()
                .map(ToString::to_string)
                .collect(),
            misses_to_petr: self.settings.misses_to_petr,
            petrs: rows.collect(),
        }
    }
}
