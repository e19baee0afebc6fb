//! Answering Map-Requests as ETR (RFC 6830 6.1.5, 6.3.2; RFC 6833 4.3).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lisp::EidPrefix;
use lisp::wire::{ControlMessage, MapRecord, MapReply, MapRequest};

use super::event::Port;
use super::limits::{Bucket, PerKey};
use super::locator_set::{self, is_locator};
use super::settings::{LocalMapping, Settings};
use super::{Arrival, Core};
use crate::forwarding::Edition;

/// Requesters that are remembered for the rate limits.
const REQUESTERS: usize = 65_536;

/// Rate limits of Map-Replies.
#[derive(Debug)]
pub struct Answering {
    /// One a second for an EID-Prefix and requester (RFC 6830 6.1.5); probes apart from questions.
    per_prefix: PerKey<(EidPrefix, IpAddr, bool)>,
    /// RFC 9301 5.4: per destination RLOC.
    per_requester: Option<PerKey<(IpAddr, bool)>>,
    all: Bucket,
}

impl Answering {
    /// Limits of an edition and a configuration.
    pub fn new(settings: &Settings) -> Self {
        let second = Duration::from_secs(1);
        let newer = settings.edition == Edition::Rfc9300;
        Self {
            per_prefix: PerKey::new(second, REQUESTERS),
            per_requester: newer.then(|| PerKey::new(settings.map_reply_interval, REQUESTERS)),
            all: Bucket::new(1000, 1000),
        }
    }
}

impl Core {
    /// A record of ours for Map-Register and Map-Reply.
    pub(super) fn own_record(&self, mapping: &LocalMapping) -> MapRecord {
        let version = if self.settings.map_versioning {
            self.database
                .locals
                .get(&mapping.prefix)
                .map_or(0, |local| local.version)
        } else {
            0
        };
        locator_set::record(mapping, &self.settings, version)
    }

    pub(super) fn answer(&mut self, arrival: &Arrival, request: &MapRequest) {
        self.counters.count("map-request-received");
        self.note_requester(arrival, request);
        self.verify_piggybacked(request);
        if request.dont_reply {
            return self.counters.count("map-request-wants-no-reply");
        }
        // The first ITR-RLOC of a family that we have: never the packet's source (RFC 6830 6.1.5).
        let requester = request
            .itr_rlocs
            .iter()
            .filter_map(|rloc| rloc.ip())
            .find(|rloc| is_locator(*rloc) && self.settings.source_for(*rloc).is_some());
        let Some(requester) = requester else {
            let text = format!(
                "Map-Request from {} without an ITR-RLOC that can be answered",
                arrival.outer_source
            );
            return self.complain("map-request-without-itr-rloc", text);
        };
        let mut prefixes: Vec<EidPrefix> = Vec::new();
        for query in &request.records {
            for prefix in query
                .prefix()
                .map(|asked| self.prefixes_for(&asked))
                .unwrap_or_default()
            {
                if !prefixes.contains(&prefix) {
                    prefixes.push(prefix);
                }
            }
        }
        let Some(first) = prefixes.first().copied() else {
            if self.answer_probe_as_proxy(arrival, request, requester) {
                return;
            }
            return self.counters.count("map-request-not-for-local-eid");
        };
        if !self.may_answer(first, requester, request.probe) {
            return self.counters.count("map-reply-limited");
        }
        let mut records = self.records_for(&prefixes, requester);
        for record in &mut records {
            for locator in &mut record.locators {
                locator.probed = request.probe && locator.rloc.ip() == Some(arrival.addressed);
            }
        }
        let reply = MapReply {
            probe: request.probe,
            echo_nonce: self.settings.echo_nonce,
            nonce: request.nonce,
            records,
            ..MapReply::default()
        };
        self.counters.count("map-reply-sent");
        if !request.probe {
            self.glean_from_request(request);
        }
        let to = SocketAddr::new(requester, arrival.reply_port);
        self.send(Port::Control, to, ControlMessage::MapReply(reply).to_vec());
    }

    /// A Data-Probe asks what a Map-Request for its destination would (RFC 6830 3). The Map-Reply goes to who sent it, at
    /// the port that it came from, with its 24 bits of nonce (6.1.4).
    pub(super) fn on_data_probe(&mut self, iid: u32, eid: IpAddr, prober: SocketAddr, nonce: u32) {
        self.counters.count("data-probe-received");
        let requester = prober.ip();
        if !is_locator(requester) || self.settings.source_for(requester).is_none() {
            let text = format!("Data-Probe from {requester}, which cannot be answered");
            return self.complain("data-probe-without-requester", text);
        }
        let prefixes = self.prefixes_for(&EidPrefix::host(iid, eid));
        let Some(first) = prefixes.first().copied() else {
            return self.counters.count("data-probe-not-for-local-eid");
        };
        if !self.may_answer(first, requester, false) {
            return self.counters.count("map-reply-limited");
        }
        let reply = MapReply {
            echo_nonce: self.settings.echo_nonce,
            nonce: nonce.into(),
            records: self.records_for(&prefixes, requester),
            ..MapReply::default()
        };
        self.counters.count("map-reply-sent");
        let payload = ControlMessage::MapReply(reply).to_vec();
        self.send(Port::Control, prober, payload);
    }

    /// The records of a Map-Reply to this requester.
    fn records_for(&self, prefixes: &[EidPrefix], requester: IpAddr) -> Vec<MapRecord> {
        let mut records: Vec<MapRecord> = prefixes
            .iter()
            .filter_map(|prefix| Some(&self.database.locals.get(prefix)?.mapping))
            .map(|mapping| self.own_record(&for_requester(mapping, requester)))
            .collect();
        // RFC 6830 6.1.5: overlapping prefixes of one reply live equally long.
        let ttl = records
            .iter()
            .map(|record| record.ttl)
            .min()
            .unwrap_or_default();
        for record in &mut records {
            record.ttl = ttl;
        }
        records
    }

    /// The best match of a question and the more-specific prefixes inside it, as far as they are here; nothing less
    /// specific (RFC 6830 6.1.5).
    fn prefixes_for(&self, asked: &EidPrefix) -> Vec<EidPrefix> {
        let Some((best, _)) = self.database.locals.longest_match(asked) else {
            return Vec::new();
        };
        // A host of ours that moved away is not ours to answer for.
        let away = self
            .database
            .away
            .longest_match(asked)
            .is_some_and(|(away, _)| best.covers(&away));
        if away {
            return Vec::new();
        }
        self.database
            .locals
            .inside(&best)
            .into_iter()
            .filter(|prefix| self.database.is_here(prefix))
            .collect()
    }

    pub(super) fn may_answer(&mut self, prefix: EidPrefix, requester: IpAddr, probe: bool) -> bool {
        let now = self.now;
        let limits = &mut self.answering;
        limits.per_prefix.allow(now, (prefix, requester, probe))
            && limits
                .per_requester
                .as_mut()
                .is_none_or(|limit| limit.allow(now, (requester, probe)))
            && limits.all.allow(now)
    }
}

/// The mapping with the priorities and weights that this requester is to see.
fn for_requester(mapping: &LocalMapping, requester: IpAddr) -> LocalMapping {
    let mut mapping = mapping.clone();
    let policy = mapping
        .policies
        .iter()
        .find(|policy| policy.requesters.iter().any(|net| net.contains(&requester)));
    for (address, priority, weight) in policy.map(|p| p.locators.clone()).unwrap_or_default() {
        for locator in &mut mapping.locators {
            if locator.address == address {
                locator.priority = priority;
                locator.weight = weight;
            }
        }
    }
    mapping
}
