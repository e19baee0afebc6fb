//! Nonces: new and random in each request, echoed in each reply (RFC 6830 6.1.2, 6.1.4).

use std::collections::{BTreeMap, HashMap};

use super::Invariant;
use super::control::own_request;
use super::every::{every, expect};
use crate::catalogue::Req;
use crate::finding::Findings;
use crate::trace::{Seen, Trace};

const RANDOM: Req = Req::new("rfc6830-6.1.2-nonce-random");
const ECHOED: Req = Req::new("rfc6830-6.1.4-nonce-echo");

pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "nonces of Map-Requests",
        requirements: &[RANDOM],
        judge: random,
    },
    Invariant {
        name: "nonces of Map-Replies",
        requirements: &[ECHOED],
        judge: echoed,
    },
];

fn random(trace: &Trace, findings: &mut Findings) {
    let mut by_sender: BTreeMap<_, Vec<&Seen>> = BTreeMap::new();
    for packet in trace
        .judged()
        .filter(|packet| packet.map_request().is_some() && own_request(trace, packet))
    {
        by_sender.entry(packet.source()).or_default().push(packet);
    }
    if trace.topology.is_none() {
        by_sender.values_mut().for_each(once_each);
    }
    for packets in by_sender.values() {
        let nonces: Vec<u64> = packets
            .iter()
            .filter_map(|packet| packet.map_request())
            .map(|r| r.nonce)
            .collect();
        let mut seen: HashMap<u64, &Seen> = HashMap::new();
        let expected = "a new random 64-bit nonce in each Map-Request";
        let again = packets.iter().zip(&nonces).find_map(|(packet, nonce)| {
            seen.insert(*nonce, packet)
                .map(|before| (before, *packet, *nonce))
        });
        // Two random nonces differ by less than 2^32 once in 2^31; two such pairs do not happen.
        let near = nonces
            .windows(2)
            .filter(|pair| pair[0].abs_diff(pair[1]) < 1 << 32)
            .count();
        // A high half of zeros: once in 2^32 for a random nonce.
        let short = nonces.iter().filter(|nonce| **nonce >> 32 == 0).count();
        if let Some((before, packet, nonce)) = again {
            findings.broken(
                RANDOM,
                [before, packet],
                expected,
                format!("nonce {nonce:#018x} is used twice"),
            );
        } else if near >= 2 {
            findings.broken(
                RANDOM,
                packets,
                expected,
                format!("{near} nonces differ by less than 2^32 from the one before"),
            );
        } else if short >= 2 {
            findings.broken(
                RANDOM,
                packets,
                expected,
                format!("{short} nonces fit 32 bits"),
            );
        } else if let Some(first) = packets.first() {
            findings.met(
                RANDOM,
                *first,
                format!("{} Map-Requests with nonces of their own", packets.len()),
            );
        }
    }
}

/// A capture from elsewhere may show one packet several times, where it was taken at several places: the same message again
/// is taken for the same packet.
fn once_each(packets: &mut Vec<&Seen>) {
    let mut by_nonce: HashMap<u64, Vec<&Seen>> = HashMap::new();
    packets.retain(|packet| {
        let Some(request) = packet.map_request() else {
            return true;
        };
        let before = by_nonce.entry(request.nonce).or_default();
        let again = before
            .iter()
            .any(|before| before.map_request() == Some(request));
        if !again {
            before.push(packet);
        }
        !again
    });
}

fn echoed(trace: &Trace, findings: &mut Findings) {
    if trace.topology.is_none() {
        return;
    }
    let replies = trace.judged().filter(|packet| packet.map_reply().is_some());
    every(
        findings,
        ECHOED,
        "the nonce of a Map-Request or Data-Probe that came before",
        replies,
        |packet| {
            let Some(reply) = packet.map_reply() else {
                return Ok(());
            };
            let asked =
                !requests_of(trace, packet).is_empty() || probed(trace, packet, reply.nonce);
            expect(asked, || {
                format!("nonce {:#018x} was never asked with", reply.nonce)
            })
        },
    );
}

/// Whether a Data-Probe (RFC 6830 3) with the low-order 24 bits of a Map-Reply's nonce reached its sender before.
fn probed(trace: &Trace, reply: &Seen, nonce: u64) -> bool {
    let mut before = trace.iter().filter(|packet| {
        packet.receiver() == reply.sender() && packet.time_ns() <= reply.time_ns()
    });
    before.any(|packet| {
        packet.data().is_some_and(|(header, inner)| {
            packet.destination() == Some(inner.destination)
                && u64::from(header.nonce.unwrap_or(0)) == nonce & 0x00ff_ffff
        })
    })
}

/// The Map-Requests that reached the sender of a Map-Reply before it and have its nonce.
pub(super) fn requests_of<'a>(trace: &'a Trace, reply: &Seen) -> Vec<&'a Seen> {
    let (Some(node), Some(nonce)) = (reply.sender(), reply.map_reply().map(|reply| reply.nonce))
    else {
        return Vec::new();
    };
    trace
        .iter()
        .filter(|packet| packet.receiver() == Some(node) && packet.time_ns() <= reply.time_ns())
        .filter(|packet| {
            packet
                .map_request()
                .is_some_and(|request| request.nonce == nonce)
        })
        .collect()
}
