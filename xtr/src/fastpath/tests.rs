//! The programs, run by the kernel on single packets in a network namespace of their own, against what the TUN path
//! makes of the same packets.

mod router;

use std::net::IpAddr;
use std::time::Instant;

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{LinkFlags, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType},
};
use nix::sched::{CloneFlags, unshare};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::dataplane::{Fate, Inner, Outer, decapsulated_tos, decapsulated_ttl, rewrite};
use crate::dataplane::{fate, header, whole_packet};
use crate::forwarding::{Decision, Destination, Edition, LocalEid, LocatorSet, Policy};
use crate::kernel::netlink::Netlink;
use crate::kernel::policy::PolicyRouting;
use crate::kernel::site::SiteMonitor;
use crate::kernel::tun::Tun;
use crate::kernel::write_sysctl;
use maps::{total, usage};
use router::{Router, packet, run};

const NEXT: i32 = -1;
const REDIRECT: i32 = 7;
const PORTS: [u16; 3] = [40_001, 40_002, 40_003];

/// Runs a test on a thread with a network namespace of its own. Says why not where the kernel does not allow programs.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let done = std::thread::spawn(move || {
        let ready = unshare(CloneFlags::CLONE_NEWNET)
            .map_err(io::Error::from)
            .and_then(|()| load(maps::processors()).map(drop));
        match ready {
            Ok(()) => test(),
            Err(error) => eprintln!("skipped: this process may not load eBPF programs: {error}"),
        }
    })
    .join();
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn eids(iid: u32, text: &str) -> EidPrefix {
    EidPrefix::new(iid, text.parse().unwrap())
}

fn plain_router() -> Router {
    let mut router = Router::new(Policy::default());
    router.map(0, "10.2.0.0/16", &[("192.0.2.9", 100)]);
    router.map(0, "10.3.0.0/16", &[("2001:db8::9", 100)]);
    router.map(0, "fd02::/64", &[("192.0.2.9", 100)]);
    router.map(0, "fd03::/64", &[("2001:db8::9", 100)]);
    router.map(0, "10.4.0.0/16", &[("192.0.2.9", 75), ("192.0.2.10", 25)]);
    router.map(0, "fd04::/64", &[("192.0.2.9", 50), ("2001:db8::9", 50)]);
    router.map(7, "10.2.0.0/16", &[("192.0.2.11", 100)]);
    router
}

/// Same locator, source port, header and octets as by the TUN path, for all mixes of families.
#[test]
fn the_kernel_path_encapsulates_as_the_tun_path() {
    in_namespace(|| {
        let router = plain_router();
        let ways = prop_oneof![
            Just(("10.1.0.10", "10.2.9.9")),
            Just(("10.1.0.10", "10.3.9.9")),
            Just(("fd01::10", "fd02::9")),
            Just(("fd01::10", "fd03::9")),
            Just(("10.1.0.10", "10.4.9.9")),
            Just(("fd01::10", "fd04::9")),
            Just(("10.7.0.10", "10.2.9.9")),
        ];
        let protocols = prop_oneof![Just(6u8), Just(17), Just(132), Just(1)];
        let packets = (
            ways,
            protocols,
            any::<(u16, u16)>(),
            any::<u8>(),
            2..=255u8,
            0..0x10_0000u32,
            // What a path of 1500 octets carries over IPv6: 40 and 8 octets of headers inside, 56 outside.
            0..=1396usize,
        )
            .prop_map(
                |((from, to), protocol, (source, port), tos, ttl, label, payload)| {
                    // Traceroutes and LISP in LISP are the daemon's.
                    let port = if port == 4341 || (33_434..=33_534).contains(&port) {
                        80
                    } else {
                        port
                    };
                    let label = if label & 1 == 0 { 0 } else { label };
                    packet(
                        from,
                        to,
                        protocol,
                        (source, port),
                        (tos, ttl),
                        label,
                        payload,
                    )
                },
            );
        TestRunner::new(Config {
            failure_persistence: None,
            ..Config::default()
        })
        .run(&packets, |packet| {
            // The second time as one of a flow whose way is known.
            for _ in 0..2 {
                let (verdict, sent) = router.encap(&packet);
                prop_assert_eq!(verdict, REDIRECT);
                prop_assert_eq!(sent, router.expected(&packet));
            }
            Ok(())
        })
        .unwrap();
    });
}

/// What is not plain comes out as it went in.
#[test]
fn what_the_site_program_does_not_serve_is_left_as_it_was() {
    in_namespace(|| {
        let mut router = plain_router();
        router.install(0, "10.2.66.0/24", Decision::Drop, None);
        router.install(0, "10.2.67.0/24", Decision::NativelyForward, None);
        router.install(0, "10.2.68.0/24", Decision::SendMapRequest, None);
        router.map(0, "10.66.0.0/24", &[("192.0.2.9", 100)]);
        router.map(0, "fd66::/64", &[("192.0.2.9", 100)]);
        let plain = |to: &str| packet("10.1.0.10", to, 17, (1111, 2222), (0, 64), 0, 100);
        let plain6 = |to: &str| packet("fd01::10", to, 17, (1111, 2222), (0, 64), 0, 100);
        assert_eq!(router.encap(&plain("10.2.0.9")).0, REDIRECT);
        assert_eq!(router.encap(&plain6("fd02::9")).0, REDIRECT);
        let changed = |at: usize, value: u8| {
            let mut packet = plain("10.2.0.9");
            packet[at] = value;
            if at != 10 {
                packet[10..12].fill(0);
                let sum = lisp::ip::checksum(&packet[..20]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            packet
        };
        let longer = [plain("10.2.0.9"), vec![0; 6]].concat();
        let mut hop_by_hop = plain6("fd02::9");
        hop_by_hop[6] = 0;
        for (what, packet) in [
            ("no entry", plain("10.9.0.9")),
            ("no entry, IPv6", plain6("fd09::9")),
            ("a more specific drop", plain("10.2.66.9")),
            ("a more specific native", plain("10.2.67.9")),
            ("a more specific question", plain("10.2.68.9")),
            ("a route of its own", plain("10.66.0.9")),
            ("a route of its own, IPv6", plain6("fd66::9")),
            (
                "a foreign source",
                packet("10.99.0.1", "10.2.0.9", 17, (1, 2), (0, 64), 0, 9),
            ),
            ("TTL at its end", changed(8, 1)),
            ("a fragment", changed(6, 0x20)),
            ("a later fragment", changed(7, 5)),
            ("options", changed(0, 0x46)),
            ("another protocol", changed(9, 47)),
            ("a wrong header checksum", changed(10, 0xaa)),
            ("more octets than the header says", longer),
            (
                "less octets than the header says",
                plain("10.2.0.9")[..80].to_vec(),
            ),
            ("an extension header", hop_by_hop),
            (
                "a traceroute",
                packet("10.1.0.10", "10.2.0.9", 17, (1, 33_434), (0, 64), 0, 9),
            ),
            (
                "LISP",
                packet("10.1.0.10", "10.2.0.9", 17, (1, 4341), (0, 64), 0, 40),
            ),
            (
                "too long for the locator",
                packet("10.1.0.10", "10.2.0.9", 17, (1, 2), (0, 64), 0, 1437),
            ),
        ] {
            assert_eq!(router.encap(&packet), (NEXT, packet.clone()), "{what}");
        }
        // S of RFC 6830 5.4.1 to the octet.
        let largest = packet("10.1.0.10", "10.2.0.9", 17, (1, 2), (0, 64), 0, 1436);
        assert_eq!(router.encap(&largest).0, REDIRECT);
    });
}

/// Changes reach the program at once: a smaller path, a map-version, nonces, removal.
#[test]
fn changes_of_an_entry_take_effect() {
    in_namespace(|| {
        let mut router = plain_router();
        let packet = packet("10.1.0.10", "10.2.0.9", 17, (1, 2), (0, 64), 0, 1000);
        assert_eq!(router.encap(&packet).0, REDIRECT);
        let rloc = ip("192.0.2.9");
        let state = router.forwarding.rlocs().get(rloc);
        state.set_mtu(Some(1000));
        router.state.publisher.rloc(rloc).unwrap();
        assert_eq!(router.encap(&packet).0, NEXT, "a smaller path");
        state.set_mtu(None);
        state.request_echo(Some(7));
        router.state.publisher.rloc(rloc).unwrap();
        assert_eq!(router.encap(&packet).0, NEXT, "an echo is asked for");
        state.request_echo(None);
        router.state.publisher.rloc(rloc).unwrap();
        assert_eq!(router.encap(&packet).0, REDIRECT);
        router.state.publisher.keep_in_daemon(rloc).unwrap();
        assert_eq!(router.encap(&packet).0, NEXT, "an echo may be owed");
        let set = LocatorSet::new(Vec::new());
        router.install(0, "10.2.0.0/16", Decision::Encapsulate(Arc::new(set)), None);
        assert_eq!(router.encap(&packet).0, NEXT, "no usable locator");
        router.map(0, "10.2.0.0/16", &[("192.0.2.10", 100)]);
        assert_eq!(router.encap(&packet).0, REDIRECT);
        let prefix = eids(0, "10.2.0.0/16");
        let decision = router.forwarding.get(&prefix).unwrap().decision.clone();
        router.install(0, "10.2.0.0/16", decision, Some(3));
        assert_eq!(router.encap(&packet).0, NEXT, "a map-version");
        router.forwarding.remove(&prefix);
        router.state.publisher.entry(&prefix).unwrap();
        assert_eq!(router.encap(&packet).0, NEXT, "removed");
    });
}

/// The way of a flow is found out once a tick of the kernel's coarse clock; other flows and longer packets are asked
/// for by themselves.
#[test]
fn the_way_of_a_flow_is_known_after_its_first_packet() {
    in_namespace(|| {
        const PACKETS: u64 = 2000;
        let router = plain_router();
        let known = |place: u32| {
            let maps = &router.state.publisher.maps;
            let of = |p: u32| {
                let at = (p * total::COUNT + place) as usize * usage::WORDS;
                maps.totals_words.get(at + usage::KNOWN as usize / 8)
            };
            (0..maps.regions).map(of).sum::<u64>()
        };
        let out = packet("10.1.0.10", "10.2.0.9", 17, (1, 2), (0, 64), 0, 100);
        let inner = packet("10.2.0.9", "10.1.0.10", 17, (1, 2), (0, 64), 0, 100);
        let back = data(false, 0, 64, [0; 8], &inner);
        for _ in 0..PACKETS {
            assert_eq!(router.encap(&out).0, REDIRECT);
            assert_eq!(router.decap(&back).0, REDIRECT);
        }
        for place in [total::ENCAPSULATED, total::DECAPSULATED] {
            assert!((1..PACKETS).contains(&known(place)), "{}", known(place));
        }
        // Each packet is another flow, or a longer one of the first.
        let before = known(total::ENCAPSULATED);
        for n in 0..200 {
            let packet = packet("10.1.0.10", "10.2.0.9", 17, (n, 2), (0, 64), 0, 100);
            assert_eq!(router.encap(&packet).0, REDIRECT);
        }
        for n in 101..300 {
            let packet = packet("10.1.0.10", "10.2.0.9", 17, (1, 2), (0, 64), 0, n);
            assert_eq!(router.encap(&packet).0, REDIRECT);
        }
        // The first flow may be among the others, with a way that is still known.
        assert!(known(total::ENCAPSULATED) - before <= 1);
    });
}

/// Small datagrams in quick succession are the daemon's, and stay it; other flows go on.
#[test]
fn bursts_of_small_datagrams_are_left_to_the_daemon() {
    in_namespace(|| {
        const QUIET: std::time::Duration = std::time::Duration::from_nanos(bursts::QUIET as u64);
        let mut router = Router::with(Policy::default(), 3, maps::processors());
        router.map(0, "10.2.0.0/16", &[("192.0.2.9", 100)]);
        let flow = |protocol, port, payload| {
            packet(
                "10.1.0.10",
                "10.2.0.9",
                protocol,
                (port, 2),
                (0, 64),
                0,
                payload,
            )
        };
        let small = flow(17, 1, 64);
        let burst = (0..100_000)
            .map(|_| router.encap(&small).0)
            .position(|verdict| verdict == NEXT)
            .unwrap();
        assert!(burst >= 2, "the first ones leave at once");
        let mut last = Instant::now();
        for n in 0..100u16 {
            // Also a longer one of the flow: it must not overtake.
            let verdict = router.encap(&flow(17, 1, 64 + usize::from(n) * 10)).0;
            // A test that was stopped for so long learns nothing.
            if last.elapsed() < QUIET / 2 {
                assert_eq!(verdict, NEXT, "{n} behind the burst");
            }
            last = Instant::now();
            for other in [flow(6, 1, 64), flow(17, 7, 600), flow(17, 100 + n, 64)] {
                assert_eq!(router.encap(&other).0, REDIRECT);
            }
        }
        while last.elapsed() < QUIET * 2 {
            std::hint::spin_loop();
        }
        assert_eq!(router.encap(&small).0, REDIRECT, "after a pause");
    });
}

/// Routes change without a word to the programs: they are asked again when the clock has ticked.
#[test]
fn changes_of_routes_take_effect_within_a_tick() {
    in_namespace(|| {
        let router = plain_router();
        let out = packet("10.1.0.10", "10.2.0.9", 17, (1, 2), (0, 64), 0, 100);
        let inner = packet("10.2.0.9", "10.1.0.10", 17, (1, 2), (0, 64), 0, 100);
        let back = data(false, 0, 64, [0; 8], &inner);
        assert_eq!(router.encap(&out).0, REDIRECT);
        assert_eq!(router.decap(&back).0, REDIRECT);
        router.add_route("10.2.0.0/24");
        router.remove_route("10.1.0.0/24");
        wait_for_tick();
        assert_eq!(router.encap(&out), (NEXT, out), "a route of its own");
        assert_eq!(router.decap(&back).0, REDIRECT, "the default route");
        router.remove_route("0.0.0.0/0");
        wait_for_tick();
        assert_eq!(router.decap(&back), (NEXT, back), "no route");
    });
}

/// Returns when the kernel's coarse clock has gone on.
fn wait_for_tick() {
    let now = || {
        let clock = nix::time::ClockId::CLOCK_MONOTONIC_COARSE;
        nix::time::clock_gettime(clock).unwrap()
    };
    let before = now();
    while now() == before {
        std::hint::spin_loop();
    }
}

/// Packets, octets and time of use come back, also over a replaced entry.
#[test]
fn uses_are_counted() {
    count_uses(maps::processors());
}

/// As [`uses_are_counted`], where processors share places.
#[test]
fn uses_are_counted_on_a_large_machine() {
    count_uses(12);
}

fn count_uses(processors: u32) {
    in_namespace(move || {
        let mut router = Router::with(Policy::default(), 0, processors);
        router.map(0, "10.2.0.0/16", &[("192.0.2.9", 100)]);
        let packet = packet("10.1.0.10", "10.2.0.9", 17, (1, 2), (0, 64), 0, 100);
        for _ in 0..5 {
            router.encap(&packet);
        }
        router.map(0, "10.2.0.0/16", &[("192.0.2.9", 1)]);
        for _ in 0..2 {
            router.encap(&packet);
        }
        router.state.publisher.collect();
        let entry = router.forwarding.get(&eids(0, "10.2.0.0/16")).unwrap();
        let octets = 7 * packet.len() as u64;
        assert_eq!((entry.packets(), entry.bytes()), (7, octets));
        assert!(router.forwarding.idle(&entry).unwrap().as_secs() < 60);
        let state = router.forwarding.rlocs().get(ip("192.0.2.9"));
        assert_eq!((state.packets(), state.bytes()), (7, octets));
        let counters = router.forwarding.counters();
        assert_eq!(counters.get(crate::forwarding::Counter::Encapsulated), 7);
    });
}

/// A LISP data packet to one of the router's locators.
fn data(over_v6: bool, tos: u8, ttl: u8, lisp: [u8; 8], inner: &[u8]) -> Vec<u8> {
    let (source, rloc) = if over_v6 {
        ("2001:db8::9", "2001:db8::2")
    } else {
        ("192.0.2.9", "192.0.2.2")
    };
    let outer = Outer {
        source: ip(source),
        rloc: ip(rloc),
        tos,
        ttl,
        port_index: 0,
        port: 50_000,
    };
    whole_packet(&outer, &[&lisp, inner].concat())
}

/// TOS, TTL and ECN as by the TUN path, for all mixes of families and both editions.
#[test]
fn the_kernel_path_decapsulates_as_the_tun_path() {
    for edition in [Edition::Rfc6830, Edition::Rfc9300] {
        in_namespace(move || {
            let router = Router::new(Policy {
                edition,
                ..Policy::default()
            });
            let ways = prop_oneof![
                Just(("10.2.0.9", "10.1.0.10", 0)),
                Just(("fd02::9", "fd01::10", 0)),
                Just(("10.2.0.9", "10.7.0.10", 7)),
            ];
            let all = (
                ways,
                any::<bool>(),
                any::<[u8; 2]>(),
                (2..=255u8, 2..=255u8),
                0..1400usize,
            );
            TestRunner::new(Config {
                failure_persistence: None,
                ..Config::default()
            })
            .run(&all, |((from, to, iid), v6, tos, ttl, payload)| {
                let inner = packet(from, to, 17, (1, 2), (tos[0], ttl.0), 0, payload);
                let lisp = if iid == 0 {
                    [0; 8]
                } else {
                    [0x08, 0, 0, 0, 0, 0, iid, 0]
                };
                let arriving = data(v6, tos[1], ttl.1, lisp, &inner);
                router.decap(&arriving);
                // As one of a flow whose way is known.
                let (verdict, leaving) = router.decap(&arriving);
                let Some(tos) = decapsulated_tos(edition, tos[1], tos[0]) else {
                    prop_assert_eq!((verdict, leaving), (NEXT, arriving));
                    return Ok(());
                };
                let mut expected = inner.clone();
                let ttl = decapsulated_ttl(ttl.1, ttl.0) - 1;
                rewrite(&mut expected, inner[0] >> 4 == 6, tos, ttl);
                prop_assert_eq!(verdict, REDIRECT);
                prop_assert_eq!(leaving, expected);
                Ok(())
            })
            .unwrap();
        });
    }
}

/// What is not plain reaches the daemon's socket as it came.
#[test]
fn what_the_locator_program_does_not_serve_is_left_as_it_was() {
    in_namespace(|| {
        let router = plain_router();
        let inner = packet("10.2.0.9", "10.1.0.10", 17, (1, 2), (0, 64), 0, 100);
        let to = |eid: &str| packet("10.2.0.9", eid, 17, (1, 2), (0, 64), 0, 100);
        let with = |lisp: [u8; 8]| data(false, 0, 64, lisp, &inner);
        assert_eq!(router.decap(&with([0; 8])).0, REDIRECT);
        let checksum = |mut packet: Vec<u8>| {
            packet[27] = 1;
            packet
        };
        let mut bad_inner = inner.clone();
        bad_inner[10] ^= 0x55;
        let mut elsewhere = data(false, 0, 64, [0; 8], &inner);
        elsewhere[19] = 77;
        let inner6 = packet("fd02::9", "fd01::10", 17, (1, 2), (0, 64), 0, 100);
        assert_eq!(
            router.decap(&data(true, 0, 64, [0; 8], &inner6)).0,
            REDIRECT
        );
        for (what, packet) in [
            ("a nonce", with([0x80, 0, 0, 7, 0, 0, 0, 0])),
            ("a nonce to be echoed", with([0xa0, 0, 0, 7, 0, 0, 0, 0])),
            ("map-versions", with([0x10, 0, 0x10, 1, 0, 0, 0, 0])),
            ("an encrypted payload", with([0x01, 0, 0, 0, 0, 0, 0, 0])),
            ("another instance", with([0x08, 0, 0, 0, 0, 0, 9, 0])),
            ("a UDP checksum", checksum(with([0; 8]))),
            (
                "a foreign destination",
                data(false, 0, 64, [0; 8], &to("10.9.0.9")),
            ),
            ("TTL at its end", data(false, 0, 1, [0; 8], &inner)),
            (
                "a wrong inner checksum",
                data(false, 0, 64, [0; 8], &bad_inner),
            ),
            ("a locator of somebody else", elsewhere),
            (
                "no LISP",
                packet("10.2.0.9", "192.0.2.2", 17, (1, 4342), (0, 64), 0, 100),
            ),
        ] {
            assert_eq!(router.decap(&packet), (NEXT, packet.clone()), "{what}");
        }
    });
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]
    /// Whatever octets arrive, nothing is changed, taken or lost that is not plain.
    #[test]
    fn noise_passes(noise in proptest::collection::vec(any::<u8>(), 40..200), v6 in any::<bool>()) {
        thread_local! {
            static LOADED: Option<(Maps, Program)> = load(maps::processors()).ok();
        }
        LOADED.with(|loaded| {
            let Some((_, program)) = loaded else { return };
            let mut packet = noise.clone();
            packet[0] = if v6 { 0x60 } else { 0x45 };
            assert_eq!(run(program, &packet), (NEXT, packet.clone()));
        });
    }
}
