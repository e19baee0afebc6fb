//! From the locators to the site.

use xtr::forwarding::{Counter, DataEvent, Edition, LocalEid, Policy};

use crate::Test;
use crate::stage::{SOON, Stage, eids, holds, ip};

pub(crate) const TESTS: &[Test] = &[
    ("hostile_packets_are_counted_and_change_nothing", hostile),
    ("a_zero_checksum_is_accepted_over_ipv6", zero_checksum),
    ("ttl_and_ecn_come_inside", ttl_and_ecn),
    ("an_eid_that_is_not_here_is_reported", away),
    ("an_eid_without_a_route_in_the_site_is_reported", no_route),
];

fn to_host(payload: &[u8]) -> Vec<u8> {
    lisp::ip::udp_packet(ip("10.2.0.7"), ip("10.1.0.10"), 1111, 2222, 64, payload)
}

/// Each kind of bad packet, then a good one: only that arrives, and each was counted for its reason.
fn hostile() {
    let stage = Stage::up();
    let good = to_host(b"the good one");
    let bad = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = to_host(b"a bad one");
        change(&mut packet);
        packet
    };
    let elsewhere = lisp::ip::udp_packet(ip("10.2.0.7"), ip("192.0.2.1"), 1, 2, 64, b"a bad one");
    let loopback = lisp::ip::udp_packet(ip("127.0.0.1"), ip("10.1.0.10"), 1, 2, 64, b"a bad one");
    let multicast = lisp::ip::udp_packet(ip("10.2.0.7"), ip("224.0.0.5"), 1, 2, 64, b"a bad one");
    stage.data([0; 8], &[]);
    stage.data([0; 8], &bad(&|p| p.truncate(12)));
    stage.data([0; 8], &bad(&|p| p.truncate(30)));
    stage.data([0; 8], &bad(&|p| p[0] = 0x95));
    stage.data([0; 8], &bad(&|p| p[0] = 0x41));
    stage.data([0; 8], &bad(&|p| p[8] ^= 0x10));
    stage.data([0; 8], &elsewhere);
    stage.data([0; 8], &loopback);
    stage.data([0; 8], &multicast);
    // Instance ID 7, in which the site has no EID-Prefix.
    stage.data([0x08, 0, 0, 0, 0, 0, 7, 0], &to_host(b"a bad one"));
    stage.data([0; 8], &good);
    stage.seen("site", "xtr", "the good packet", |p| {
        holds(p, b"the good one")
    });
    let delivered = stage.all("site", "xtr");
    assert!(!delivered.iter().any(|p| holds(p, b"a bad one")));
    for (counter, expected) in [
        (Counter::Truncated, 2),
        (Counter::InnerLength, 2),
        (Counter::InnerVersion, 1),
        (Counter::InnerChecksum, 1),
        (Counter::InnerAddress, 2),
        (Counter::DestinationNotEid, 2),
        (Counter::Decapsulated, 1),
    ] {
        assert_eq!(stage.count(counter), expected, "{}", counter.name());
    }
}

/// RFC 6830 5.3: kernels drop it unless asked not to.
fn zero_checksum() {
    let stage = Stage::up();
    let payload = [&[0u8; 8][..], &to_host(b"no checksum")].concat();
    let mut packet = lisp::ip::udp_packet(
        ip("2001:db8::1"),
        ip("2001:db8::2"),
        40_000,
        4341,
        64,
        &payload,
    );
    packet[46..48].fill(0);
    stage.inject("core", &packet);
    stage.seen("site", "xtr", "the packet", |p| holds(p, b"no checksum"));
}

fn outer(ttl: u8, tos: u8, inner: &[u8]) -> Vec<u8> {
    let payload = [&[0u8; 8][..], inner].concat();
    let mut packet = lisp::ip::udp_packet(
        ip("192.0.2.1"),
        ip("192.0.2.2"),
        40_000,
        4341,
        ttl,
        &payload,
    );
    packet[1] = tos;
    packet
}

fn ttl_and_ecn() {
    for (edition, not_capable) in [(Edition::Rfc6830, Some(0x2b)), (Edition::Rfc9300, None)] {
        let stage = Stage::with(Policy {
            edition,
            ..Policy::default()
        });
        // Congestion experienced over ECT(0): the mark and the outer DSCP arrive, the smaller TTL as well.
        let mut capable = to_host(b"capable");
        capable[1] = 0xb8 | 2;
        fix_checksum(&mut capable);
        // Over a packet that knows no ECN: marked by the old edition, dropped by the new one.
        let deaf = to_host(b"deaf");
        stage.inject("core", &outer(40, 0x28 | 3, &deaf));
        stage.inject("core", &outer(40, 0x28 | 3, &capable));
        let seen = stage.seen("site", "xtr", "the capable packet", |p| {
            holds(p, b"capable")
        });
        assert_eq!((seen[1], seen[8]), (0x28 | 3, 39));
        assert_eq!(lisp::ip::checksum(&seen[..20]), 0);
        let found = stage
            .all("site", "xtr")
            .into_iter()
            .find(|p| holds(p, b"deaf"))
            .map(|p| p[1]);
        assert_eq!(found, not_capable, "{edition:?}");
        // A larger outer TTL does not raise the inner one.
        stage.inject("core", &outer(255, 0, &to_host(b"high")));
        let seen = stage.seen("site", "xtr", "the high packet", |p| holds(p, b"high"));
        assert_eq!(seen[8], 63);
    }
}

fn fix_checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let checksum = lisp::ip::checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

fn away() {
    let stage = Stage::up();
    stage
        .plane
        .add_local(LocalEid {
            away: true,
            ..LocalEid::new(eids("10.1.0.10/32"))
        })
        .unwrap();
    stage.data([0; 8], &to_host(b"moved"));
    assert_eq!(
        stage.events.recv_timeout(SOON),
        Some(DataEvent::AwayEid {
            iid: 0,
            source: ip("10.2.0.7"),
            eid: ip("10.1.0.10"),
            encapsulator: ip("192.0.2.1"),
            known: true,
        })
    );
    // Back again: what is sent now arrives, and what was sent before has been counted by then.
    stage.plane.remove_local(&eids("10.1.0.10/32")).unwrap();
    stage.data([0; 8], &to_host(b"returned"));
    stage.seen("site", "xtr", "the packet", |p| holds(p, b"returned"));
    assert_eq!(stage.count(Counter::DestinationAway), 1);
}

fn no_route() {
    let stage = Stage::up();
    stage
        .plane
        .add_local(LocalEid::new(eids("10.9.0.0/24")))
        .unwrap();
    let inner = lisp::ip::udp_packet(ip("10.2.0.7"), ip("10.9.0.1"), 1, 2, 64, b"lost");
    stage.data([0; 8], &inner);
    assert_eq!(
        stage.events.recv_timeout(SOON),
        Some(DataEvent::NoRoute {
            iid: 0,
            source: ip("10.2.0.7"),
            eid: ip("10.9.0.1"),
            encapsulator: ip("192.0.2.1"),
        })
    );
    assert!(!stage.plane.site_route(ip("10.9.0.1")));
    assert!(stage.plane.site_route(ip("10.1.0.10")));
}
