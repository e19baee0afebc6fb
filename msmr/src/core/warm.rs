//! Getting the table's memory near before it is needed.
//!
//! A large table does not fit into the processor's caches, and one message after the other would wait for a dozen memory
//! accesses in a row. Fetching what a whole batch will need, step by step for all of it, lets these accesses overlap.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lisp::EidPrefix;
use lisp::ip::{IPV6_HEADER_LEN, UDP_HEADER_LEN};
use lisp::wire::{EcmPacket, MapRegisterPacket, MapRequestPacket};

use super::Core;
use super::table::WARM;
use crate::memory::fetch;

/// Instance ID and address.
type Eid = (u32, IpAddr);

/// Fewer registered prefixes than these stay near by themselves.
const SMALL: usize = 2000;

impl Core {
    /// Fetches what the handling of these payloads will read. It changes nothing but time.
    pub fn warm<'a>(&self, payloads: impl Iterator<Item = &'a [u8]>) {
        if self.registrations < SMALL {
            return;
        }
        let mut hosts = [EidPrefix::host(0, IpAddr::V4(Ipv4Addr::UNSPECIFIED)); WARM];
        let mut count = 0;
        let eids = payloads.filter_map(first_eid).take(WARM);
        for (host, (iid, eid)) in hosts.iter_mut().zip(eids) {
            *host = EidPrefix::host(iid, eid);
            count += 1;
        }
        let hosts = &hosts[..count];
        self.known.warm(hosts, |known| {
            let registration = known.registration.as_ref();
            if let Some(etr) = registration.and_then(|registration| registration.etrs.last()) {
                let locators = etr.locators.elsewhere();
                fetch(&locators[..locators.len().min(2)]);
            }
        });
        if self.sites.len() >= SMALL {
            self.permitted.warm(hosts, |_| {});
        }
    }
}

/// The first EID that a message asks for or registers. It is a guess at where to look: nothing is verified.
fn first_eid(payload: &[u8]) -> Option<Eid> {
    let request = match payload.first()? >> 4 {
        1 => payload,
        8 => {
            let inner = payload.get(EcmPacket::<&[u8]>::FIXED_LEN..)?;
            let header = match inner.first()? >> 4 {
                4 => usize::from(inner[0] & 0xf) * 4,
                _ => IPV6_HEADER_LEN,
            };
            inner.get(header + UDP_HEADER_LEN..)?
        }
        3 => {
            let fixed = MapRegisterPacket::new_checked(payload).ok()?;
            let records = MapRegisterPacket::<&[u8]>::FIXED_LEN + usize::from(fixed.auth_length());
            return address(payload.get(records + BEFORE_RECORD_EID..)?)?.0;
        }
        _ => return None,
    };
    let fixed = MapRequestPacket::new_checked(request).ok()?;
    let mut rest = request.get(MapRequestPacket::<&[u8]>::FIXED_LEN..)?;
    // Source-EID, then one ITR-RLOC more than their count says.
    for _ in 0..usize::from(fixed.irc()) + 2 {
        rest = address(rest)?.1;
    }
    address(rest.get(BEFORE_QUERY_EID..)?)?.0
}

/// Octets of a record before its EID-AFI (RFC 6830 6.1.4).
const BEFORE_RECORD_EID: usize = 10;
/// Octets of a query before its EID-AFI (RFC 6830 6.1.2).
const BEFORE_QUERY_EID: usize = 2;
/// AFI of LCAF, and its type of Instance IDs (RFC 8060 4.1).
const LCAF: u16 = 16_387;
const INSTANCE_ID: u8 = 2;

/// What an AFI-encoded address says, if it is an EID, and what follows it.
fn address(octets: &[u8]) -> Option<(Option<Eid>, &[u8])> {
    let (afi, rest) = octets.split_first_chunk::<2>()?;
    match u16::from_be_bytes(*afi) {
        0 => Some((None, rest)),
        1 => {
            let (eid, rest) = rest.split_first_chunk::<4>()?;
            Some((Some((0, Ipv4Addr::from(*eid).into())), rest))
        }
        2 => {
            let (eid, rest) = rest.split_first_chunk::<16>()?;
            Some((Some((0, Ipv6Addr::from(*eid).into())), rest))
        }
        LCAF => {
            let (head, rest) = rest.split_first_chunk::<6>()?;
            let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
            let (body, rest) = rest.split_at_checked(length)?;
            let eid = match (head[2], body.split_first_chunk::<4>()) {
                (INSTANCE_ID, Some((iid, [0, family @ (1 | 2), ..]))) => {
                    let inner = &body[4..];
                    debug_assert_eq!(inner[1], *family);
                    address(inner)?
                        .0
                        .map(|(_, eid)| (u32::from_be_bytes(*iid), eid))
                }
                _ => None,
            };
            Some((eid, rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tests::*;
    use lisp::wire::{ControlMessage, Ecm};

    #[test]
    fn the_first_eid_is_found_in_every_message_that_needs_the_table() {
        for text in [
            "10.1.2.3/32",
            "[7]10.1.2.3/32",
            "2001:db8::7/128",
            "[9]2001:db8::7/128",
        ] {
            let wanted = prefix(text);
            let expected = Some((wanted.iid, wanted.prefix.addr()));
            let mut asked = request(text);
            asked.itr_rlocs.push(lisp::Address::from(ip("2001:db8::1")));
            let message = ControlMessage::MapRequest(asked);
            assert_eq!(first_eid(&message.to_vec()), expected, "bare, {text}");
            for itr in [ITR, "2001:db8::2"] {
                let itr = ip(itr);
                let eid = match (itr, wanted.prefix.addr()) {
                    (IpAddr::V4(_), eid @ IpAddr::V4(_)) | (IpAddr::V6(_), eid @ IpAddr::V6(_)) => {
                        eid
                    }
                    (IpAddr::V4(_), _) => ip("192.0.2.9"),
                    (IpAddr::V6(_), _) => ip("2001:db8::9"),
                };
                let ecm = Ecm::wrap(itr, eid, 50_000, 4342, 64, &message).to_vec();
                assert_eq!(first_eid(&ecm), expected, "encapsulated by {itr}, {text}");
            }
            let registered =
                register(vec![record(text, 1440, &[ETR])]).to_signed_vec(&auth("secret"));
            assert_eq!(first_eid(&registered), expected, "registered, {text}");
            for length in 0..registered.len() {
                let _survived = first_eid(&registered[..length]);
            }
        }
    }

    #[test]
    fn it_changes_nothing() {
        let mut bench = Bench::new(config(vec![site("a", &["10.0.0.0/8+"])]));
        let eid = |number: usize| format!("10.2.{}.{}/32", number / 250, number % 250);
        for number in 0..SMALL + 10 {
            bench.simple(ETR, &eid(number));
        }
        let ask = |text: &str| {
            let message = ControlMessage::MapRequest(request(text));
            Ecm::wrap(ip(ITR), ip("10.0.0.1"), 50_000, 4342, 64, &message).to_vec()
        };
        let mut batch: Vec<Vec<u8>> = (0..2 * WARM).map(|number| ask(&eid(number * 7))).collect();
        batch.extend([
            vec![],
            vec![8 << 4],
            ask("2001:db8::1/128"),
            ask("[3]10.2.0.1/32"),
        ]);
        for some in batch.chunks(WARM + 1) {
            bench.core.warm(some.iter().map(Vec::as_slice));
        }
        assert_eq!(bench.core.registration_count(), SMALL + 10);
        assert_eq!(bench.ask("10.2.1.1/32"), forwarded(ETR));
        assert_eq!(bench.ask("10.3.0.1/32"), negative("10.3.0.0/16", 1));
    }
}
