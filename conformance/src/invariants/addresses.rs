//! EIDs are never locators, and locators are the sender's own (RFC 6830 3, 6.1.2).

use std::net::IpAddr;

use lisp::Address;
use lisp::wire::MapRecord;

use super::Invariant;
use super::control::own_request;
use super::every::{every, expect};
use crate::catalogue::Req;
use crate::finding::Findings;
use crate::trace::{Seen, Trace};

const NOT_RLOC: Req = Req::new("rfc6830-3-eid-not-rloc");
const OWN_ITR_RLOC: Req = Req::new("rfc6830-6.1.2-itr-rloc-own");
const VALID: Req = Req::new("rfc6830-6.1.4-loc-validity");

pub(super) const INVARIANTS: &[Invariant] = &[Invariant {
    name: "addresses used as locators",
    requirements: &[NOT_RLOC, OWN_ITR_RLOC, VALID],
    judge,
}];

fn judge(trace: &Trace, findings: &mut Findings) {
    if !trace.eid_prefixes().is_empty() {
        let lisp = trace
            .judged()
            .filter(|packet| packet.is_data() || packet.control().is_some());
        every(
            findings,
            NOT_RLOC,
            "no EID as outer source, ITR-RLOC or locator",
            lisp,
            |packet| {
                let wrong = locators(trace, packet)
                    .into_iter()
                    .find(|address| trace.is_eid(*address));
                expect(wrong.is_none(), || {
                    format!(
                        "{} is an EID",
                        wrong.map_or_else(String::new, |ip| ip.to_string())
                    )
                })
            },
        );
    }
    if trace.topology.is_some() {
        let requests = trace
            .judged()
            .filter(|packet| packet.map_request().is_some() && own_request(trace, packet));
        every(
            findings,
            OWN_ITR_RLOC,
            "every ITR-RLOC is an address of the sender",
            requests,
            |packet| {
                let (Some(node), Some(request)) = (packet.sender(), packet.map_request()) else {
                    return Ok(());
                };
                let foreign = request
                    .itr_rlocs
                    .iter()
                    .filter_map(Address::ip)
                    .find(|address| !trace.has_address(node, *address));
                expect(foreign.is_none(), || {
                    format!(
                        "ITR-RLOC {}",
                        foreign.map_or_else(String::new, |ip| ip.to_string())
                    )
                })
            },
        );
    }
    let with_records = trace.judged().filter(|packet| !records(packet).is_empty());
    let expected = "no locator is a broadcast, multicast or unspecified address";
    every(findings, VALID, expected, with_records, |packet| {
        let rlocs = records(packet)
            .iter()
            .flat_map(|record| &record.locators)
            .filter_map(|locator| locator.rloc.ip());
        let wrong = rlocs.into_iter().find(|address| match address {
            IpAddr::V4(ip) => {
                ip.is_broadcast()
                    || ip.is_unspecified()
                    || (ip.is_multicast() && ip.octets()[..3] == [224, 0, 0])
            }
            IpAddr::V6(ip) => {
                ip.is_unspecified() || (ip.is_multicast() && ip.segments()[0] & 0xf == 2)
            }
        });
        expect(wrong.is_none(), || {
            format!(
                "locator {}",
                wrong.map_or_else(String::new, |ip| ip.to_string())
            )
        })
    });
}

/// All addresses that a packet uses as locators.
fn locators(trace: &Trace, packet: &Seen) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = packet.source().into_iter().collect();
    if let Some(request) = packet.map_request()
        && own_request(trace, packet)
    {
        addresses.extend(request.itr_rlocs.iter().filter_map(Address::ip));
    }
    let locators = records(packet).iter().flat_map(|record| &record.locators);
    addresses.extend(locators.filter_map(|locator| locator.rloc.ip()));
    addresses
}

fn records(packet: &Seen) -> &[MapRecord] {
    super::records::of(packet)
}
