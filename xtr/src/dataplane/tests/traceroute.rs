use std::net::SocketAddr;
use std::sync::Arc;

use super::super::sys::QueuedError;
use super::super::traceroute::{Traceroutes, is_traceroute};
use super::*;
use crate::dataplane::inner::Inner;
use crate::forwarding::{Destination, LocatorSet};

const RLOC: &str = "192.0.2.6";
const ROUTER: &str = "203.0.113.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// 10.1.0.0/24 is here, 10.2.0.0/24 behind the locator.
fn forwarding() -> Forwarding {
    let forwarding = Forwarding::new(Policy::default());
    forwarding.add_local(LocalEid::new("10.1.0.0/24".parse().unwrap()));
    let set = LocatorSet::new(vec![Destination {
        rloc: ip(RLOC),
        source: Some(ip("192.0.2.2")),
        priority: 1,
        weight: 100,
        usable: true,
        ordinal: 0,
        state: forwarding.rlocs().get(ip(RLOC)),
    }]);
    forwarding.insert(
        "10.2.0.0/24".parse().unwrap(),
        Decision::Encapsulate(Arc::new(set)),
        None,
    );
    forwarding
}

fn probe(host: [u8; 4], port: u16) -> Vec<u8> {
    let mut packet = udp4(host, [10, 2, 0, 2], 32, true);
    packet[22..24].copy_from_slice(&port.to_be_bytes());
    packet
}

/// "Time exceeded" that quotes so much behind the UDP header.
fn exceeded(router: &str, quoted: Vec<u8>) -> QueuedError {
    QueuedError {
        destination: Some(SocketAddr::new(ip(RLOC), 4341)),
        errno: libc::EHOSTUNREACH,
        origin: 2,
        kind: 11,
        code: 0,
        info: 0,
        reporter: Some(ip(router)),
        quoted,
    }
}

#[test]
fn the_signature_is_a_destination_port() {
    let of = |packet: &[u8]| is_traceroute(packet, &Inner::parse(packet).unwrap());
    assert!(of(&probe([10, 1, 0, 2], 33_434)));
    assert!(!of(&probe([10, 1, 0, 2], 33_433)));
    let mut tcp = probe([10, 1, 0, 2], 33_434);
    tcp[9] = 6;
    assert!(!of(&tcp));
}

#[test]
fn what_is_quoted_is_passed_on() {
    let forwarding = forwarding();
    let packet = probe([10, 1, 0, 2], 33_434);
    let quoted = [&[0; 8][..], &packet[..28]].concat();
    let passed = Traceroutes::new(4)
        .pass_on(&exceeded(ROUTER, quoted), Some(0), &forwarding.snapshot())
        .unwrap();
    assert_eq!(passed[12..20], [203, 0, 113, 1, 10, 1, 0, 2]);
    assert_eq!(passed[20..22], [11, 0]);
    assert_eq!(passed[28..], packet[..28]);
    assert_eq!(lisp::ip::checksum(&passed[20..]), 0);
}

/// RFC 6830 9.2: the outer source port is the key.
#[test]
fn what_is_not_quoted_is_known_by_the_source_port() {
    let forwarding = forwarding();
    let kept = Traceroutes::new(2);
    let packets: Vec<Vec<u8>> = (0..3).map(|n| probe([10, 1, 0, 2], 33_434 + n)).collect();
    let keys: Vec<u16> = packets
        .iter()
        .map(|packet| kept.keep(ip(RLOC), packet, &Inner::parse(packet).unwrap()))
        .collect();
    assert_eq!(keys, [0, 1, 0], "a circular buffer");
    let passed = |key| {
        let error = exceeded(ROUTER, Vec::new());
        kept.pass_on(&error, Some(key), &forwarding.snapshot())
    };
    assert_eq!(passed(0).unwrap()[28..], packets[2][..28]);
    assert_eq!(passed(1).unwrap()[28..], packets[1][..28]);
    assert_eq!(passed(7), None);
}

#[test]
fn nobody_else_is_told() {
    let forwarding = forwarding();
    let kept = Traceroutes::new(2);
    let told = |error: &QueuedError| kept.pass_on(error, Some(0), &forwarding.snapshot());
    let quoted = |packet: &[u8]| [&[0; 8][..], &packet[..28]].concat();
    let foreign_host = probe([10, 9, 0, 2], 33_434);
    assert_eq!(told(&exceeded(ROUTER, quoted(&foreign_host))), None);
    let mut elsewhere = probe([10, 1, 0, 2], 33_434);
    elsewhere[17] = 7;
    assert_eq!(told(&exceeded(ROUTER, quoted(&elsewhere))), None);
    // A router of the other family has no name that the host could read (RFC 6830 9.3).
    let packet = probe([10, 1, 0, 2], 33_434);
    assert_eq!(told(&exceeded("2001:db8::1", quoted(&packet))), None);
    assert_eq!(told(&exceeded(ROUTER, vec![0; 20])), None);
}
