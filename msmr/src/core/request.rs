//! Map-Requests: forwarded, answered from registrations, or answered negatively (RFC 6833 4.3, 4.4).

use std::net::{IpAddr, SocketAddr};

use daemon::Time;
use lisp::ip::{IpPacket, UdpDatagram};
use lisp::wire::{Action, Ecm, EcmPacket, MapRecord, MapReply, MapRequest};
use lisp::{CONTROL_PORT, EidPrefix};

use super::site::{Edition, SiteEvent};
use super::{
    Configured, Core, Datagram, Event, Known, SourcePort, Transmit, answer_from, is_foreign_vendor,
    same_family,
};

/// Record TTL in minutes of what is no LISP site (RFC 6833 4.3).
const NOT_LISP_TTL: u32 = 15;
/// Record TTL in minutes of a site that is not registered now (RFC 6833 4.3).
const UNREGISTERED_TTL: u32 = 1;
/// More-specific records that go along with a less-specific one in one Map-Reply.
const MAX_MORE_SPECIFICS: usize = 16;
/// ETRs that one request with several records is forwarded to.
const MAX_TARGETS: usize = 8;
/// ACT of RFC 9301 5.4: drop, denied by policy.
const POLICY_DENIED: Action = Action::Other(4);

/// A Map-Request and how it came.
struct Asked<'a> {
    request: MapRequest,
    /// UDP source port of the request itself: the inner one of an encapsulated request (RFC 6830 6.1.5).
    port: u16,
    /// Who sent the datagram.
    source: SocketAddr,
    /// Our address that it came to.
    asked: IpAddr,
    /// The inner IP packet, as it came; `None` when the request came bare.
    inner: Option<&'a [u8]>,
}

/// What to do about one record of a request.
#[derive(Debug)]
enum Decision {
    /// Answer with these records.
    Reply {
        records: Vec<MapRecord>,
        site: Option<u32>,
        negative: bool,
    },
    /// Send the request on.
    Forward { target: IpAddr, site: Option<u32> },
    /// Nothing can be done.
    Drop(Event),
}

impl Core {
    pub(super) fn encapsulated(
        &mut self,
        now: Time,
        datagram: Datagram<'_>,
        out: &mut Vec<Transmit>,
    ) {
        let payload = datagram.payload;
        let inner = match EcmPacket::new_checked(payload) {
            Ok(fixed) if !fixed.security() => &payload[EcmPacket::<&[u8]>::FIXED_LEN..],
            Ok(_) => match Ecm::parse(payload) {
                // LISP-SEC data is for a Map-Server that takes part in it; the request goes on without.
                Ok(ecm) => &payload[ecm.inner_offset()..],
                Err(_) => return self.refuse(now, Event::Malformed, datagram.source),
            },
            Err(_) => return self.refuse(now, Event::Malformed, datagram.source),
        };
        self.counters.count(Event::EncapsulatedMapRequests);
        if !self.within_rate(now, datagram.source) {
            return;
        }
        let Ok(packet) = IpPacket::parse(inner) else {
            return self.refuse(now, Event::Malformed, datagram.source);
        };
        let Ok(udp) = UdpDatagram::parse(&packet) else {
            return self.refuse(now, Event::Malformed, datagram.source);
        };
        let to_control = udp.destination_port == CONTROL_PORT || udp.source_port == CONTROL_PORT;
        if udp.payload.first().map(|octet| octet >> 4) != Some(1) || !to_control {
            return self.refuse(now, Event::EncapsulatedOther, datagram.source);
        }
        match MapRequest::parse(udp.payload) {
            Ok(request) => {
                let asked = Asked {
                    request,
                    port: udp.source_port,
                    source: datagram.source,
                    asked: datagram.destination,
                    inner: Some(inner),
                };
                self.answer(now, asked, out);
            }
            Err(_) => self.refuse(now, Event::Malformed, datagram.source),
        }
    }

    pub(super) fn bare_map_request(
        &mut self,
        now: Time,
        datagram: Datagram<'_>,
        out: &mut Vec<Transmit>,
    ) {
        self.counters.count(Event::BareMapRequests);
        if !self.within_rate(now, datagram.source) {
            return;
        }
        match MapRequest::parse(datagram.payload) {
            Ok(request) => {
                let asked = Asked {
                    request,
                    port: datagram.source.port(),
                    source: datagram.source,
                    asked: datagram.destination,
                    inner: None,
                };
                self.answer(now, asked, out);
            }
            Err(_) => self.refuse(now, Event::Malformed, datagram.source),
        }
    }

    fn within_rate(&mut self, now: Time, source: SocketAddr) -> bool {
        let unlimited = &self.config.unlimited_sources;
        let allowed = unlimited.iter().any(|net| net.contains(&source.ip()))
            || self.sources.allow(now, source.ip());
        if !allowed {
            self.refuse(now, Event::RateLimited, source);
        }
        allowed
    }

    fn answer(&mut self, now: Time, asked: Asked<'_>, out: &mut Vec<Transmit>) {
        let request = &asked.request;
        if request.probe {
            return self.refuse(now, Event::ProbeDropped, asked.source);
        }
        let eids = request.records.iter().map(|query| &query.eid);
        let mut addresses = request
            .itr_rlocs
            .iter()
            .chain(eids)
            .chain([&request.source_eid]);
        if addresses.any(is_foreign_vendor) {
            return self.refuse(now, Event::Malformed, asked.source);
        }
        if request.records.is_empty() {
            return self.refuse(now, Event::NoRecords, asked.source);
        }
        let Some(requester) = self.itr_rloc(&asked) else {
            return self.refuse(now, Event::NoItrRloc, asked.source);
        };
        let mut records = Vec::new();
        let mut targets: Vec<IpAddr> = Vec::new();
        let mut proxied = None;
        for query in &request.records {
            let Some(question) = query.prefix() else {
                self.refuse(now, Event::UnknownEid, asked.source);
                continue;
            };
            match self.decide(&question, request.authoritative, asked.source.ip()) {
                Decision::Reply {
                    records: answer,
                    site,
                    negative,
                } => {
                    if let Some(site) = site {
                        let event = if negative {
                            SiteEvent::NegativeReplies
                        } else {
                            SiteEvent::ProxyReplies
                        };
                        self.sites.count(site, event);
                    }
                    proxied = Some(proxied.unwrap_or(false) || !negative);
                    records.extend(answer);
                }
                Decision::Forward { target, site } => {
                    if targets.contains(&target) || targets.len() >= MAX_TARGETS {
                        continue;
                    }
                    targets.push(target);
                    match site {
                        Some(site) => {
                            self.sites.count(site, SiteEvent::Forwarded);
                            self.counters.count(Event::ForwardedToEtr);
                        }
                        None => self.counters.count(Event::ForwardedToMapServer),
                    }
                    self.forward(&asked, requester, &question, target, out);
                }
                Decision::Drop(event) => self.refuse(now, event, asked.source),
            }
        }
        if let Some(proxied) = proxied {
            if request.dont_reply && self.config.edition == Edition::Rfc9300 || request.smr {
                return self.refuse(now, Event::ReplySuppressed, asked.source);
            }
            self.reply(now, &asked, requester, records, proxied, out);
        }
    }

    /// The ITR-RLOC that answers go to: one of a family that we have, rather of the one that we were asked over.
    fn itr_rloc(&self, asked: &Asked<'_>) -> Option<IpAddr> {
        if asked.port == 0 {
            return None;
        }
        let usable = asked
            .request
            .itr_rlocs
            .iter()
            .filter_map(lisp::Address::ip)
            .filter(|rloc| self.families.has(rloc) && is_unicast(rloc));
        usable
            .clone()
            .find(|rloc| same_family(rloc, &asked.asked))
            .or_else(|| usable.into_iter().next())
    }

    /// RFC 6833 4.3: configured? registered? proxied? otherwise forwarded.
    fn decide(&mut self, question: &EidPrefix, authoritative: bool, from: IpAddr) -> Decision {
        let host = EidPrefix::host(question.iid, question.prefix.addr());
        // A question that nothing positive covers as a whole is answered for its address: it may hold sites.
        let positive = |known: &Known| {
            known.registration.is_some()
                || matches!(
                    known.configured,
                    Some(Configured::Remote | Configured::Site { deny: true, .. })
                )
        };
        let covering = self
            .known
            .longest_match(question)
            .filter(|(_, known)| positive(known))
            .or_else(|| self.known.longest_match(&host));
        let Some((prefix, known)) = covering else {
            return self.negative(&host, None, NOT_LISP_TTL, Action::NativelyForward);
        };
        let denied = self.any_denied && known.registration.is_some() && self.denied(&prefix);
        match (&known.configured, &known.registration) {
            (Some(Configured::Site { site, deny, .. }), _) if *deny || denied => {
                self.negative(&host, Some((prefix, *site)), NOT_LISP_TTL, self.denial())
            }
            (None, Some(registration)) if denied => {
                let site = registration.site;
                self.negative(&host, Some((prefix, site)), NOT_LISP_TTL, self.denial())
            }
            (_, Some(registration)) if registration.proxied() && !authoritative => {
                self.proxy_reply(&host, &prefix)
            }
            (_, Some(_)) => self.forward_to_etr(&prefix),
            (Some(Configured::Site { site, .. }), None) => self.negative(
                &host,
                Some((prefix, *site)),
                UNREGISTERED_TTL,
                Action::NativelyForward,
            ),
            (Some(Configured::Remote), None) => self.forward_to_server(&prefix, from),
            (None, None) => self.negative(&host, None, NOT_LISP_TTL, Action::NativelyForward),
        }
    }

    /// Whether policy refuses requests for a registered prefix: its own configured prefix decides, or the one it lies in.
    fn denied(&self, prefix: &EidPrefix) -> bool {
        let permitted = self.permitted.longest_match(prefix);
        permitted.is_some_and(|(_, permitted)| permitted.deny)
    }

    fn denial(&self) -> Action {
        match self.config.edition {
            Edition::Rfc6830 => Action::Drop,
            Edition::Rfc9300 => POLICY_DENIED,
        }
    }

    /// A negative record of the least-specific prefix that holds the address and nothing known (RFC 6833 4.4), inside
    /// `within` or else inside the aggregate around it.
    fn negative(
        &self,
        host: &EidPrefix,
        within: Option<(EidPrefix, u32)>,
        ttl: u32,
        action: Action,
    ) -> Decision {
        let floor = match within {
            Some((prefix, _)) => prefix.prefix.prefix_len(),
            None => self
                .aggregates
                .longest_match(host)
                .map_or(0, |(aggregate, ())| aggregate.prefix.prefix_len()),
        };
        let hole = self.known.hole(host, floor);
        Decision::Reply {
            records: vec![MapRecord::negative(hole, ttl, action)],
            site: within.map(|(_, site)| site),
            negative: true,
        }
    }

    fn proxy_reply(&self, host: &EidPrefix, prefix: &EidPrefix) -> Decision {
        let Some(registration) = self
            .known
            .get(prefix)
            .and_then(|known| known.registration.as_ref())
        else {
            return Decision::Drop(Event::NoUsableEtr);
        };
        let site = Some(registration.site);
        let mut records: Vec<MapRecord> = registration.proxy_record(prefix).into_iter().collect();
        // Overlapping prefixes go together, or the requester would cache over the more-specific ones (RFC 6830 6.1.5).
        let more: Vec<_> = self
            .known
            .inside(prefix)
            .filter(|(inside, _)| inside != prefix)
            .take(MAX_MORE_SPECIFICS + 1)
            .collect();
        if more.len() > MAX_MORE_SPECIFICS {
            let narrowed = self.known.hole(host, prefix.prefix.prefix_len());
            records.truncate(1);
            if let Some(record) = records.first_mut() {
                record.eid = narrowed.to_address();
                record.eid_mask_len = narrowed.prefix.prefix_len();
            }
        } else {
            records.extend(
                more.iter()
                    .map(|(inside, known)| more_specific(inside, known)),
            );
        }
        Decision::Reply {
            records,
            site,
            negative: false,
        }
    }

    fn forward_to_etr(&mut self, prefix: &EidPrefix) -> Decision {
        let families = self.families;
        let registration = self
            .known
            .get_mut(prefix)
            .and_then(|known| known.registration.as_mut());
        let Some(registration) = registration else {
            return Decision::Drop(Event::NoUsableEtr);
        };
        let site = Some(registration.site);
        match registration.next_target(|address| families.has(address)) {
            Some(target) => Decision::Forward { target, site },
            None => Decision::Drop(Event::NoUsableEtr),
        }
    }

    fn forward_to_server(&mut self, prefix: &EidPrefix, from: IpAddr) -> Decision {
        let families = self.families;
        let Some(remote) = self.remotes.get_mut(prefix) else {
            return Decision::Drop(Event::NoUsableEtr);
        };
        let usable: Vec<IpAddr> = remote
            .servers
            .iter()
            .copied()
            .filter(|server| families.has(server))
            .collect();
        // A server of the prefix that asks us about it would get its own question back.
        if usable.contains(&from) {
            return Decision::Drop(Event::Loop);
        }
        if usable.is_empty() {
            return Decision::Drop(Event::NoUsableEtr);
        }
        let target = usable[remote.turn % usable.len()];
        remote.turn = remote.turn.wrapping_add(1);
        Decision::Forward { target, site: None }
    }

    /// Sends the request on in a new outer header; the inner packet is not touched (RFC 6833 4.3).
    fn forward(
        &self,
        asked: &Asked<'_>,
        requester: IpAddr,
        question: &EidPrefix,
        target: IpAddr,
        out: &mut Vec<Transmit>,
    ) {
        let payload = match asked.inner {
            Some(inner) => {
                let header = EcmPacket::<&[u8]>::FIXED_LEN;
                let mut payload = vec![0; header + inner.len()];
                payload[0] = 8 << 4;
                payload[header..].copy_from_slice(inner);
                payload
            }
            None => Ecm::wrap(
                requester,
                question.prefix.addr(),
                asked.port,
                CONTROL_PORT,
                64,
                &lisp::wire::ControlMessage::MapRequest(asked.request.clone()),
            )
            .to_vec(),
        };
        out.push(Transmit {
            from: answer_from(asked.asked, &target),
            port: SourcePort::Random,
            to: SocketAddr::new(target, CONTROL_PORT),
            payload,
        });
    }

    /// Answers to the requester, in as many Map-Replies as the records need.
    fn reply(
        &mut self,
        now: Time,
        asked: &Asked<'_>,
        requester: IpAddr,
        records: Vec<MapRecord>,
        proxied: bool,
        out: &mut Vec<Transmit>,
    ) {
        let room = self.reply_room(&requester);
        let mut rest = records.into_iter().peekable();
        while rest.peek().is_some() {
            let mut reply = MapReply {
                nonce: asked.request.nonce,
                ..MapReply::default()
            };
            let mut used = reply.buffer_len();
            while let Some(record) = rest.next_if(|record| {
                reply.records.is_empty()
                    || used + record.buffer_len() <= room && reply.records.len() < 255
            }) {
                used += record.buffer_len();
                reply.records.push(record);
            }
            let first = reply.records.first().and_then(MapRecord::eid_prefix);
            let payload = reply.to_vec();
            let allowed = first.is_none_or(|prefix| {
                let content = fingerprint(&[&payload[..4], &payload[12..]]);
                self.replies.allow(now, (requester, prefix), content)
            });
            if !allowed {
                self.counters.count(Event::RepliesHeldBack);
                continue;
            }
            self.counters.count(if proxied {
                Event::ProxyReplies
            } else {
                Event::NegativeReplies
            });
            out.push(Transmit {
                from: answer_from(asked.asked, &requester),
                port: SourcePort::Control,
                to: SocketAddr::new(requester, asked.port),
                payload,
            });
        }
    }

    /// Octets of a Map-Reply (RFC 9301 5: 576 or 1280 octets of IP packet when the path is not known).
    fn reply_room(&self, requester: &IpAddr) -> usize {
        match (self.config.edition, requester) {
            (Edition::Rfc6830, _) => 1400,
            (Edition::Rfc9300, IpAddr::V4(_)) => 576 - 20 - 8,
            (Edition::Rfc9300, IpAddr::V6(_)) => 1280 - 40 - 8,
        }
    }
}

/// What goes along about a prefix inside the one that was answered.
fn more_specific(prefix: &EidPrefix, known: &Known) -> MapRecord {
    match (&known.registration, &known.configured) {
        (Some(registration), _) if registration.proxied() => registration
            .proxy_record(prefix)
            .unwrap_or_else(|| ask_again(prefix)),
        (None, Some(Configured::Site { .. })) => {
            MapRecord::negative(*prefix, UNREGISTERED_TTL, Action::NativelyForward)
        }
        // Only its ETR may answer, or another Map-Server knows: the requester asks when it needs to.
        _ => ask_again(prefix),
    }
}

fn ask_again(prefix: &EidPrefix) -> MapRecord {
    MapRecord::negative(*prefix, UNREGISTERED_TTL, Action::SendMapRequest)
}

fn is_unicast(address: &IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !broadcast
}

/// FNV-1a of octets.
pub(super) fn fingerprint(parts: &[&[u8]]) -> u64 {
    parts
        .iter()
        .copied()
        .flatten()
        .fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
            (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
        })
}
