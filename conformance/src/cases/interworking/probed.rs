//! Scripted locators that answer RLOC-probes, or do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lisp::CONTROL_PORT;
use lisp::wire::{ControlMessage, EidQuery, MapReply};

use crate::cases::common::{ip, locator, record, reply, udp};
use crate::decode::Lisp;
use crate::drive::{Peer, PeerError};
use crate::trace::Seen;

/// Makes a peer a locator that answers probes about any prefix while `silent` is not set. `set` is the locator-set of its
/// site, address and priority, in ascending order.
pub(super) fn answers_probes(
    peer: &mut Peer,
    set: &'static [(&'static str, u8)],
    silent: &Arc<AtomicBool>,
) -> Result<(), PeerError> {
    let silent = Arc::clone(silent);
    peer.respond(move |packet, lisp| {
        let Lisp::Control { message, .. } = lisp else {
            return Vec::new();
        };
        let ControlMessage::MapRequest(request) = &**message else {
            return Vec::new();
        };
        let asked = request.records.first().and_then(EidQuery::prefix);
        let Some(asked) = asked.filter(|_| request.probe && !silent.load(Ordering::Relaxed)) else {
            return Vec::new();
        };
        let own = packet.destination;
        let locators = set.iter().map(|(address, priority)| {
            let mut locator = locator(address, *priority, 100);
            locator.probed = ip(address) == own;
            locator.local = locator.probed;
            locator
        });
        let record = record(&asked.to_string(), locators.collect());
        let answer = MapReply {
            probe: true,
            ..reply(request.nonce, vec![record])
        };
        let port = packet.udp().map_or(CONTROL_PORT, |udp| udp.source_port);
        vec![udp(
            (own, CONTROL_PORT),
            (packet.source, port),
            &answer.to_vec(),
        )]
    })
}

/// Whether a packet is an RLOC-probe.
pub(super) fn is_probe(packet: &Seen) -> bool {
    packet
        .map_request()
        .is_some_and(|request| request.probe && !request.smr)
}

/// Whether a packet answers an RLOC-probe.
pub(super) fn is_probe_answer(packet: &Seen) -> bool {
    packet.map_reply().is_some_and(|reply| reply.probe)
}
