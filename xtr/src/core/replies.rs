//! Map-Replies: which are believed, and what they change (RFC 6830 6.1.3 to 6.1.5).

use std::net::IpAddr;

use lisp::EidPrefix;
use lisp::wire::{MapRecord, MapReply};

use super::Core;
use super::event::{Action, Datagram};
use super::locator_set::CachedLocator;
use super::map_cache::{Cached, Mapping, Origin, expiry};
use super::requests::Purpose;

impl Core {
    pub(super) fn on_map_reply(&mut self, datagram: &Datagram, reply: MapReply) {
        if reply.probe {
            return self.on_probe_reply(datagram, &reply);
        }
        let Some((question, purpose)) = self.requests.question_of(reply.nonce) else {
            let text = format!("unsolicited Map-Reply from {}", datagram.source);
            return self.complain("map-reply-unsolicited", text);
        };
        let replier = datagram.source.ip();
        if self.accept(question, purpose, &reply.records, replier) {
            self.counters.count("map-reply-accepted");
            self.note_echo_capability(&reply.records, reply.echo_nonce);
            self.request_answered(reply.nonce);
        } else {
            let text = format!("Map-Reply from {replier} does not answer for {question}");
            self.complain("map-reply-without-answer", text);
        }
    }

    /// Takes over the records that answer the question; false: none did.
    pub(super) fn accept(
        &mut self,
        question: EidPrefix,
        purpose: Purpose,
        records: &[MapRecord],
        replier: IpAddr,
    ) -> bool {
        let answers: Vec<(EidPrefix, &MapRecord)> = records
            .iter()
            .filter_map(|record| Some((record.eid_prefix()?, record)))
            .collect();
        let covering: Vec<EidPrefix> = answers
            .iter()
            .map(|(prefix, _)| *prefix)
            .filter(|prefix| prefix.covers(&question))
            .collect();
        // More-specifics of a covering record come with it (RFC 6830 6.1.5).
        let belongs = |prefix: &EidPrefix| {
            question.covers(prefix) || covering.iter().any(|cover| cover.covers(prefix))
        };
        let (good, strange): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|(prefix, _)| belongs(prefix));
        for _ in strange.iter().take(records.len()) {
            self.counters.count("record-outside-question");
        }
        let good: Vec<_> = good
            .into_iter()
            .filter(|(prefix, _)| self.may_learn(prefix))
            .collect();
        if good.is_empty() {
            return false;
        }
        let named: Vec<EidPrefix> = good.iter().map(|(prefix, _)| *prefix).collect();
        if let Some(best) = covering
            .iter()
            .min_by_key(|prefix| prefix.prefix.prefix_len())
        {
            self.forget_replaced(*best, purpose, &named);
        }
        let lasting = good.iter().filter(|(_, record)| record.ttl != 0);
        let lasting = lasting.map(|(prefix, _)| *prefix);
        if self
            .cache
            .has_room_for(lasting, self.settings.map_cache_limit)
        {
            for (prefix, record) in &good {
                self.learn(*prefix, record, replier, &named);
            }
        } else {
            self.refuse(&named);
        }
        for prefix in named {
            self.settle_held(prefix);
        }
        true
    }

    /// Local policy about a prefix that a Map-Reply brings.
    fn may_learn(&mut self, prefix: &EidPrefix) -> bool {
        // What moved away out of an own prefix is somebody else's (EID mobility 4.1.2).
        let away = self.database.away.longest_match(prefix);
        let own = self
            .database
            .locals
            .longest_match(prefix)
            .is_some_and(|(own, _)| {
                self.database.is_here(&own) && !away.is_some_and(|(away, _)| own.covers(&away))
            });
        let (v4, v6) = self.settings.minimum_prefix_length;
        let minimum = if prefix.prefix.addr().is_ipv4() {
            v4
        } else {
            v6
        };
        if own {
            self.counters.count("record-for-local-eid");
        } else if prefix.prefix.prefix_len() < minimum {
            self.counters.count("record-too-coarse");
            return false;
        }
        !own
    }

    /// A reply to a refresh or after an SMR is complete: cached more-specifics that it does not name exist no longer
    /// (RFC 6830 6.1.5). A reply to a miss leaves them: they were asked for by themselves.
    fn forget_replaced(&mut self, cover: EidPrefix, purpose: Purpose, named: &[EidPrefix]) {
        if purpose == Purpose::Miss {
            return;
        }
        for inside in self.cache.entries.inside(&cover) {
            if !named.contains(&inside) {
                self.forget(&inside);
            }
        }
    }

    /// Overlapping prefixes that a full map-cache cannot hold together are not held in part: packets to a more-specific
    /// would follow its cover (RFC 6830 12).
    fn refuse(&mut self, named: &[EidPrefix]) {
        let first = named.first().map(EidPrefix::to_string).unwrap_or_default();
        self.complain(
            "map-cache-full",
            format!("map-cache full: no room for {first}; raise `map-cache-limit`"),
        );
        for prefix in named {
            self.forget(prefix);
        }
    }

    /// Takes out what was learned about exactly a prefix.
    fn forget(&mut self, prefix: &EidPrefix) {
        let learned = self
            .cache
            .entries
            .get(prefix)
            .is_some_and(|entry| entry.origin != Origin::Static);
        if learned {
            self.uninstall(prefix);
        }
    }

    fn learn(
        &mut self,
        prefix: EidPrefix,
        record: &MapRecord,
        replier: IpAddr,
        named: &[EidPrefix],
    ) {
        if record.ttl == 0 {
            self.counters.count("record-withdraws");
            return self.forget(&prefix);
        }
        let mapping = if record.locators.is_empty() {
            Mapping::Negative(record.action)
        } else {
            Mapping::Locators(
                record
                    .locators
                    .iter()
                    .map(CachedLocator::from_wire)
                    .collect(),
            )
        };
        // RFC 6830 6.1.5: a less-specific learned later goes together with its more-specifics.
        let earliest = self
            .cache
            .entries
            .inside(&prefix)
            .into_iter()
            .filter(|inside| *inside != prefix && !named.contains(inside))
            .filter_map(|inside| self.cache.entries.get(&inside)?.expires)
            .min();
        let own = expiry(self.now, record.ttl);
        let expires = match (own, earliest) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
        self.install(
            prefix,
            Cached {
                origin: Origin::Learned {
                    replier,
                    authoritative: record.authoritative,
                },
                mapping,
                since: self.now,
                confirmed: self.now,
                expires,
                version: record.map_version,
                status: None,
            },
        );
    }

    /// The packets that waited for a mapping go, or are dropped where it says so.
    fn settle_held(&mut self, prefix: EidPrefix) {
        let packets = self.hold.take_inside(&prefix);
        if packets.is_empty() {
            return;
        }
        let goes = self.cache.entries.get(&prefix).is_some_and(|entry| {
            matches!(
                entry.mapping,
                Mapping::Locators(_) | Mapping::Negative(lisp::wire::Action::NativelyForward)
            )
        });
        if goes {
            self.counters.add("held-released", packets.len() as u64);
            self.actions.push(Action::Release(packets));
        } else {
            self.counters.add("held-dropped", packets.len() as u64);
        }
    }
}
