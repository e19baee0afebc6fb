//! A negative entry counts for its whole prefix as long as it lives (RFC 6833 4.1).

use lisp::wire::Action;

use super::map_cache_net::{
    Became, CORE, ITR, Net, TOPOLOGY, became, nothing_asked, records_in, sent,
};
use crate::case::Case;
use crate::cases::common::negative;
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;

const CACHED: Req = Req::new("rfc6833-4.1-itr-negative-cache");
const NATIVE: Req = Req::new("rfc6830-6.1.4-act1-native");

/// What the mapping system answers: much more than was asked for, as a Map-Resolver does (RFC 6833 4.4).
const COARSE: &str = "10.128.0.0/9";
/// The host that is asked for.
const FIRST: &str = "10.200.1.1";
/// Hosts all over the prefix, its ends included.
const OTHERS: [&str; 6] = [
    "10.128.0.1",
    "10.200.1.2",
    "10.200.2.1",
    "10.201.0.1",
    "10.223.255.1",
    "10.255.255.254",
];
/// Sequence number of the first packet to them.
const FROM: u16 = 10;

inventory::submit! {
    Case {
        id: "rfc6833::s4_1::coarse_negative_prefix_stops_requests",
        title: "After a negative Map-Reply for a coarse prefix nothing is asked for any address in it, and packets leave natively.",
        topology: TOPOLOGY,
        roles: &["itr"],
        requirements: &[CACHED, NATIVE],
        drive,
        judges: &[judge],
        sabotages: &[
            Sabotage {
                name: "caches only the host that was asked for",
                node: ITR,
                links: CORE,
                kills: &[CACHED],
                tamper: || records_in(COARSE, |record| {
                    *record = negative("10.200.1.1/32", record.ttl, record.action);
                }),
            },
            Sabotage {
                name: "does not cache negative replies",
                node: ITR,
                links: CORE,
                kills: &[CACHED],
                tamper: || records_in(COARSE, |record| record.ttl = 0),
            },
            Sabotage {
                name: "drops what should leave natively",
                node: ITR,
                links: CORE,
                kills: &[NATIVE],
                tamper: || records_in(COARSE, |record| record.action = Action::Drop),
            },
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let net = Net::up(drive)?;
    net.answer(COARSE, vec![negative(COARSE, 15, Action::NativelyForward)]);
    net.resolve(drive, FIRST, 1)?;
    drive.mark("the negative entry is there");
    for (host, number) in OTHERS.iter().zip(FROM..) {
        net.send(host, number)?;
    }
    net.fence(drive)
}

fn judge(trace: &Trace, findings: &mut Findings) {
    nothing_asked(
        trace,
        findings,
        CACHED,
        "the negative entry is there",
        COARSE,
    );
    for (host, number) in OTHERS.iter().zip(FROM..) {
        let Some(packet) = sent(trace, number) else {
            findings.unseen(NATIVE, format!("the packet to {host}"));
            continue;
        };
        let became = became(trace, number);
        findings.check(
            NATIVE,
            matches!(became, Became::Native(_)),
            became.with(packet),
            format!("the packet to {host} as it was on the core link"),
            became.text(),
        );
    }
}
