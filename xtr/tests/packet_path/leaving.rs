//! From the site to the locators.

use std::net::{SocketAddr, UdpSocket};

use lisp::ip::{IpPacket, UdpDatagram};
use xtr::dataplane::{DataPlaneConfig, MulticastSite, Offload};
use xtr::forwarding::{Counter, DataEvent, Decision};

use crate::Test;
use crate::stage::{SOON, Stage, from_host, holds, ip, settings};

pub(crate) const TESTS: &[Test] = &[
    ("every_mix_of_families_is_encapsulated", every_mix),
    ("a_missed_packet_is_held_and_released", hold_and_release),
    (
        "a_released_packet_may_turn_out_to_be_native",
        release_native,
    ),
    ("a_large_packet_with_df_is_answered_with_the_size", too_big),
    (
        "several_queues_and_no_offloads_carry_the_same",
        settings_do_not_matter,
    ),
    ("a_drop_action_is_told_to_the_source", prohibited),
    ("a_large_packet_without_df_is_split_in_two", split),
    ("a_smaller_path_is_learned_from_icmp", learn_mtu),
    ("forged_icmp_changes_nothing", forged_icmp),
    ("groups_are_their_own_locators", groups),
];

/// RFC 6830 5.1 to 5.3: all four mixes, TTL and TOS copied, DF set, checksum zero, port 4341.
fn every_mix() {
    let stage = Stage::up();
    stage.map("10.2.0.0/16", "192.0.2.1");
    stage.map("10.3.0.0/16", "2001:db8::1");
    stage.map("fd02::/64", "192.0.2.1");
    stage.map("fd03::/64", "2001:db8::1");
    for (destination, outer) in [
        ("10.2.0.7", 4),
        ("10.3.0.7", 6),
        ("fd02::7", 4),
        ("fd03::7", 6),
    ] {
        let mark = format!("to {destination}");
        let mut packet = from_host(destination, 20, mark.as_bytes());
        set_tos(&mut packet, 0xb9);
        stage.inject("host", &packet);
        let seen = stage.seen("core", "xtr", destination, |p| holds(p, mark.as_bytes()));
        assert_eq!(seen[0] >> 4, outer, "{destination}");
        let (header, ttl, tos) = if outer == 4 {
            assert_eq!(seen[6] & 0xe0, 0x40, "DF and nothing else");
            assert_eq!(seen[9], 17);
            (20, seen[8], seen[1])
        } else {
            assert_eq!(seen[6], 17);
            (40, seen[7], seen[0] << 4 | seen[1] >> 4)
        };
        assert_eq!(
            (ttl, tos),
            (19, 0xb9),
            "{destination}: TTL as forwarded, TOS"
        );
        assert_eq!(seen[header + 2..header + 4], 4341u16.to_be_bytes());
        assert_eq!(seen[header + 6..header + 8], [0, 0], "checksum");
        assert_eq!(seen[header + 8..header + 16], [0; 8], "LISP header");
        let inner = &seen[header + 16..];
        assert_eq!(inner[0] >> 4, packet[0] >> 4);
        assert_eq!(inner.len(), packet.len());
    }
    assert_eq!(stage.count(Counter::Encapsulated), 4);
}

fn set_tos(packet: &mut [u8], tos: u8) {
    if packet[0] >> 4 == 4 {
        // The kernel computes the checksum of a raw packet.
        packet[1] = tos;
    } else {
        packet[0] = 0x60 | tos >> 4;
        packet[1] = tos << 4;
    }
}

fn settings_do_not_matter() {
    let queues = DataPlaneConfig {
        queues: 3,
        ..settings()
    };
    let plain = DataPlaneConfig {
        offload: Offload::Off,
        spin: std::time::Duration::from_micros(200),
        ..settings()
    };
    for config in [queues, plain] {
        let stage = Stage::set(config);
        stage.map("10.2.0.0/16", "192.0.2.1");
        for flow in 0..20u8 {
            let payload = [b"flow ", &[flow, 0xaa][..]].concat();
            let packet = lisp::ip::udp_packet(
                ip("10.1.0.10"),
                ip("10.2.0.7"),
                1000 + u16::from(flow),
                2222,
                64,
                &payload,
            );
            stage.inject("host", &packet);
            let seen = stage.seen("core", "xtr", "the packet", |p| holds(p, &payload));
            assert_eq!(seen[16..20], [192, 0, 2, 1]);
        }
        let inner = lisp::ip::udp_packet(ip("10.2.0.7"), ip("10.1.0.10"), 1, 2, 64, b"back");
        stage.data([0; 8], &inner);
        stage.seen("site", "xtr", "the answer", |p| holds(p, b"back"));
    }
}

fn miss(stage: &Stage) -> xtr::forwarding::HeldPacket {
    loop {
        match stage.events.recv_timeout(SOON) {
            Some(DataEvent::Miss {
                destination,
                packet,
                ..
            }) if destination == ip("10.2.0.7") => return packet,
            Some(_) => {}
            None => panic!("no miss was reported"),
        }
    }
}

fn hold_and_release() {
    let stage = Stage::up();
    stage.inject("host", &from_host("10.2.0.7", 64, b"first packet"));
    let held = miss(&stage);
    stage.map("10.2.0.0/16", "192.0.2.1");
    stage.plane.release(vec![held]);
    stage.seen("core", "xtr", "the held packet", |p| {
        holds(p, b"first packet")
    });
    assert_eq!(stage.count(Counter::Misses), 1);
}

fn release_native() {
    let stage = Stage::up();
    stage.inject("host", &from_host("10.2.0.7", 64, b"first packet"));
    let held = miss(&stage);
    stage.install("10.0.0.0/9", Decision::NativelyForward);
    stage.plane.release(vec![held]);
    let seen = stage.seen("core", "xtr", "the held packet", |p| {
        holds(p, b"first packet")
    });
    assert_eq!(seen[16..20], [10, 2, 0, 7], "no outer header");
}

/// RFC 6830 5.4.1: S = L - H, for either family of locator.
fn too_big() {
    let stage = Stage::up();
    stage.map("10.2.0.0/16", "192.0.2.1");
    stage.map("fd03::/64", "2001:db8::1");
    stage.inject("host", &from_host("10.2.0.7", 64, &[1; 1465 - 28]));
    let icmp = stage.seen("site", "xtr", "fragmentation needed", |p| {
        p[9] == 1 && p[20..22] == [3, 4]
    });
    assert_eq!(icmp[26..28], 1464u16.to_be_bytes());
    assert_eq!(icmp[16..20], [10, 1, 0, 10]);
    stage.inject("host", &from_host("fd03::7", 64, &[1; 1445 - 48]));
    let icmp = stage.seen("site", "xtr", "packet too big", |p| {
        p[6] == 58 && p[40] == 2
    });
    assert_eq!(icmp[44..48], 1444u32.to_be_bytes());
    // What just fits, passes.
    stage.inject("host", &from_host("10.2.0.7", 64, &[2; 1464 - 28]));
    let seen = stage.seen("core", "xtr", "a full packet", |p| holds(p, &[2; 100]));
    assert_eq!(seen.len(), 1500);
    assert_eq!(stage.count(Counter::TooBig), 2);
}

/// RFC 6830 6.1.4, ACT 3; bounded however much is sent.
fn prohibited() {
    let stage = Stage::up();
    stage.install("10.2.0.0/16", Decision::Drop);
    stage.install("fd02::/64", Decision::Drop);
    for _ in 0..100 {
        stage.inject("host", &from_host("10.2.0.7", 64, b"unwanted"));
    }
    stage.seen("site", "xtr", "an ICMP error", |p| {
        p[9] == 1 && p[20..22] == [3, 13]
    });
    stage.inject("host", &from_host("fd02::7", 64, b"unwanted"));
    stage.seen("site", "xtr", "an ICMPv6 error", |p| {
        p[6] == 58 && p[40..42] == [1, 1]
    });
    let errors = stage.all("site", "xtr");
    let errors = errors.iter().filter(|p| p[9] == 1 && p[20] == 3).count();
    assert!(errors < 50, "{errors} errors for 100 packets");
}

/// RFC 6830 5.4.1: two fragments, each encapsulated on its own, neither outer packet a fragment.
fn split() {
    let stage = Stage::up();
    stage.map("10.2.0.0/16", "192.0.2.1");
    let mut packet = from_host("10.2.0.7", 64, &[7; 1500 - 28]);
    packet[6] = 0;
    packet[4..6].copy_from_slice(&[0x12, 0x34]);
    stage.inject("host", &packet);
    let second = stage.seen("core", "xtr", "the second fragment", |p| {
        p.len() > 56 && p[42..44] == 93u16.to_be_bytes()
    });
    let pieces: Vec<Vec<u8>> = stage
        .all("core", "xtr")
        .into_iter()
        .filter(|p| p.len() > 56 && p[36] == 0x45)
        .collect();
    assert_eq!(pieces.len(), 2);
    assert_eq!(pieces[1], second);
    let inner: Vec<usize> = pieces.iter().map(|p| p.len() - 36 - 20).collect();
    assert_eq!(inner, [744, 736]);
    assert_eq!(pieces[0][42..44], 0x2000u16.to_be_bytes());
    assert!(pieces.iter().all(|p| p[40..42] == [0x12, 0x34]));
    assert!(
        pieces.iter().all(|p| p[6..8] == [0x40, 0]),
        "outer packets whole"
    );
}

/// A core router's "fragmentation needed" for a packet of ours.
fn needs_fragmentation(quoted: &[u8], mtu: u16) -> Vec<u8> {
    let mut icmp = vec![3, 4, 0, 0, 0, 0];
    icmp.extend_from_slice(&mtu.to_be_bytes());
    icmp.extend_from_slice(&quoted[..28.min(quoted.len())]);
    let checksum = lisp::ip::checksum(&icmp);
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    lisp::ip::IpHeader::new(ip("192.0.2.9"), ip("192.0.2.2"), 64, 1).emit(&icmp)
}

/// The next path MTU that is reported. The core, which listens on no port, also says "port unreachable".
fn learned(stage: &Stage) -> (std::net::IpAddr, u16) {
    loop {
        match stage.events.recv_timeout(SOON) {
            Some(DataEvent::TooBig { rloc, mtu }) => return (rloc, mtu),
            Some(_) => {}
            None => panic!("no path MTU was reported"),
        }
    }
}

/// RFC 6830 5.4.2: the path to a locator carries 1400 octets, and the sources hear of 1364.
fn learn_mtu() {
    let stage = Stage::up();
    stage.map("10.2.0.0/16", "192.0.2.1");
    stage.map("10.4.0.0/16", "192.0.2.9");
    stage.inject("host", &from_host("10.2.0.7", 64, b"to be quoted"));
    let sent = stage.seen("core", "xtr", "a data packet", |p| {
        holds(p, b"to be quoted")
    });
    // Somebody fills the source port's queue, which must leave the error queue alone.
    let port = u16::from_be_bytes([sent[20], sent[21]]);
    for _ in 0..200 {
        let flood = [0x55; 1000];
        let packet = lisp::ip::udp_packet(ip("192.0.2.1"), ip("192.0.2.2"), 4341, port, 64, &flood);
        stage.inject("core", &packet);
    }
    stage.inject("core", &needs_fragmentation(&sent, 1400));
    assert_eq!(learned(&stage), (ip("192.0.2.1"), 1400));
    stage.inject("host", &from_host("10.2.0.7", 64, &[3; 1450 - 28]));
    let icmp = stage.seen("site", "xtr", "fragmentation needed", |p| {
        p[9] == 1 && p[20..22] == [3, 4]
    });
    assert_eq!(icmp[26..28], 1364u16.to_be_bytes());
    // Another locator is not concerned.
    stage.inject("host", &from_host("10.4.0.7", 64, &[4; 1450 - 28]));
    stage.seen("core", "xtr", "a packet to the other locator", |p| {
        holds(p, &[4; 100])
    });
}

/// ICMP for packets that were never sent: another port, another locator.
fn forged_icmp() {
    let stage = Stage::up();
    stage.map("10.2.0.0/16", "192.0.2.1");
    stage.map("10.4.0.0/16", "192.0.2.9");
    stage.inject("host", &from_host("10.2.0.7", 64, b"to be quoted"));
    let sent = stage.seen("core", "xtr", "a data packet", |p| {
        holds(p, b"to be quoted")
    });
    let mut other_port = sent.clone();
    other_port[20] ^= 0x7f;
    stage.inject("core", &needs_fragmentation(&other_port, 1000));
    let mut other_locator = sent.clone();
    other_locator[19] = 9;
    stage.inject("core", &needs_fragmentation(&other_locator, 1000));
    // The fence: a true one, after which the others have been looked at.
    stage.inject("core", &needs_fragmentation(&sent, 1400));
    assert_eq!(learned(&stage), (ip("192.0.2.1"), 1400));
    let rlocs = stage.plane.forwarding().rlocs();
    assert_eq!(rlocs.get(ip("192.0.2.9")).mtu(), None);
}

/// RFC 6830 11, in both families, with checksums that the host left to its device, and what stays at home.
fn groups() {
    let stage = Stage::set_with_offloads(DataPlaneConfig {
        multicast: Some(MulticastSite {
            interfaces: vec!["site".to_owned()],
            groups: ["239.1.0.0/16", "ff3e::/16"]
                .map(|net| net.parse().unwrap())
                .to_vec(),
        }),
        ..settings()
    });
    for (group, host, rloc) in [
        ("239.1.2.3", "10.1.0.10", "192.0.2.2"),
        ("ff3e::8000:1", "fd01::10", "2001:db8::2"),
    ] {
        let mark = format!("to {group}");
        let (group, host) = (ip(group), ip(host));
        let say = || {
            let socket = socket2::Socket::from(UdpSocket::bind((host, 0)).unwrap());
            if group.is_ipv4() {
                socket.set_multicast_ttl_v4(20).unwrap();
            } else {
                socket.set_multicast_hops_v6(20).unwrap();
            }
            let to = SocketAddr::new(group, 2222);
            socket.send_to(mark.as_bytes(), &to.into()).unwrap();
        };
        stage.lab.run_in("host", say).unwrap();
        let offered = stage.seen("site", "host", &mark, |p| holds(p, mark.as_bytes()));
        let offered = IpPacket::parse(&offered).unwrap();
        assert!(
            UdpDatagram::parse(&offered).is_err(),
            "an unfinished checksum"
        );
        let seen = stage.seen("core", "xtr", &mark, |p| holds(p, mark.as_bytes()));
        let outer = IpPacket::parse(&seen).unwrap();
        let lisp = UdpDatagram::parse(&outer).unwrap();
        let inner = IpPacket::parse(&lisp.payload[8..]).unwrap();
        for (header, source) in [(&outer.header, ip(rloc)), (&inner.header, host)] {
            let found = (header.source(), header.destination(), header.ttl());
            assert_eq!(found, (source, group, 19));
        }
        let datagram = UdpDatagram::parse(&inner).unwrap();
        assert!(!datagram.zero_checksum, "a checksum, and a right one");
    }
    let before = stage.count(Counter::Encapsulated);
    for (group, ttl) in [("239.2.0.1", 20), ("224.0.0.9", 20), ("239.1.2.3", 1)] {
        stage.inject("host", &from_host(group, ttl, b"stays"));
    }
    stage.inject("host", &from_host("239.1.2.4", 20, b"goes"));
    stage.seen("core", "xtr", "the last one", |p| holds(p, b"goes"));
    assert!(!stage.all("core", "xtr").iter().any(|p| holds(p, b"stays")));
    assert_eq!(stage.count(Counter::Encapsulated), before + 1);
}
