//! What belongs to the kernel stays the kernel's, and nothing is left behind.

use harness::{Lab, Program};
use nix::sys::signal::Signal;
use xtr::forwarding::{Counter, DataEvent, Decision, LocalEid, Policy};

use crate::Test;
use crate::stage::{SOON, Stage, eids, from_host, holds, ip, lab};

pub(crate) const TESTS: &[Test] = &[
    (
        "natively_forward_is_the_kernels_and_more_specifics_are_not",
        native,
    ),
    ("other_sources_never_reach_the_packet_path", other_sources),
    (
        "a_specific_route_needs_no_mapping_except_to_an_away_eid",
        specific_route,
    ),
    ("stopping_leaves_nothing_behind", stop),
    ("a_killed_run_is_cleared_by_the_next", killed),
    ("data_probes_end_here_while_they_are_wanted", data_probes),
];

fn is_native(packet: &[u8], mark: &[u8]) -> bool {
    holds(packet, mark) && packet[9] == 17 && packet[12..16] == [10, 1, 0, 10]
}

fn native() {
    let stage = Stage::up();
    stage.map("20.2.0.0/16", "192.0.2.1");
    stage.install("20.0.0.0/8", Decision::NativelyForward);
    stage.inject("host", &from_host("20.1.0.7", 64, b"native"));
    stage.seen("core", "xtr", "a native packet", |p| {
        is_native(p, b"native")
    });
    stage.inject("host", &from_host("20.2.0.7", 64, b"mapped"));
    let seen = stage.seen("core", "xtr", "an encapsulated packet", |p| {
        holds(p, b"mapped")
    });
    assert!(!is_native(&seen, b"mapped"));
    // Learned after the less specific negative entry, and forgotten again.
    stage.map("20.3.0.0/16", "192.0.2.1");
    stage.inject("host", &from_host("20.3.0.7", 64, b"later"));
    let seen = stage.seen("core", "xtr", "an encapsulated packet", |p| {
        holds(p, b"later")
    });
    assert!(!is_native(&seen, b"later"));
    stage.plane.withdraw(&eids("20.3.0.0/16")).unwrap();
    stage.inject("host", &from_host("20.3.0.7", 64, b"again"));
    stage.seen("core", "xtr", "a native packet", |p| is_native(p, b"again"));
    assert_eq!(
        stage.count(Counter::NativeInPath),
        0,
        "the kernel forwarded it itself"
    );
    // Without the negative entry it is a miss again.
    stage.plane.withdraw(&eids("20.0.0.0/8")).unwrap();
    stage.inject("host", &from_host("20.1.0.7", 64, b"missed"));
    assert!(stage.events.recv_timeout(SOON).is_some());
    assert_eq!(stage.count(Counter::Encapsulated), 2);
}

fn other_sources() {
    let stage = Stage::up();
    stage.map("10.2.0.0/16", "192.0.2.1");
    let before = stage.count(Counter::SourceNotEid);
    let packet = lisp::ip::udp_packet(ip("172.30.0.10"), ip("10.2.0.7"), 1, 2, 64, b"stranger");
    stage.inject("host", &packet);
    let seen = stage.seen("core", "xtr", "the stranger's packet", |p| {
        holds(p, b"stranger")
    });
    assert_eq!(seen[12..16], [172, 30, 0, 10], "no outer header");
    assert_eq!(stage.count(Counter::SourceNotEid), before);
    assert_eq!(stage.count(Counter::Encapsulated), 0);
}

/// RFC 6830 4.1: only what the default route covers is looked up. A host that moved away is, although the site's subnet
/// has a route.
fn specific_route() {
    let stage = Stage::up();
    let add = ["ip", "route", "add", "50.1.0.0/16", "via", "192.0.2.9"];
    let output = stage.lab.exec("xtr", add, SOON).unwrap();
    assert!(output.exit.success());
    stage.inject("host", &from_host("50.1.0.7", 64, b"routed"));
    stage.seen("core", "xtr", "a native packet", |p| {
        is_native(p, b"routed")
    });
    assert_eq!(stage.count(Counter::Misses), 0);
    let mut moved = LocalEid::new(eids("10.1.0.77/32"));
    moved.away = true;
    stage.plane.add_local(moved).unwrap();
    stage.map("10.1.0.77/32", "192.0.2.1");
    // The host would look for it on its own link: it is told to ask the router.
    let add = ["ip", "route", "add", "10.1.0.77/32", "via", "10.1.0.1"];
    assert!(stage.lab.exec("host", add, SOON).unwrap().exit.success());
    stage.inject("host", &from_host("10.1.0.77", 64, b"to one that moved"));
    let seen = stage.seen("core", "xtr", "an encapsulated packet", |p| {
        holds(p, b"to one that moved")
    });
    assert_eq!(seen[16..20], [192, 0, 2, 1]);
}

/// Rules, routes of our protocol number, and TUN devices of the router, as `ip` shows them. What the kernel adds by
/// itself (carrier, link-local routes) comes in its own time and is no concern of ours.
fn state(lab: &Lab) -> String {
    let mut text = String::new();
    for command in [
        "rule",
        "-6 rule",
        "route show table all proto 76",
        "-6 route show table all proto 76",
        "-br link show type tun",
    ] {
        let argv = ["ip"].into_iter().chain(command.split(' '));
        let output = lab.exec("xtr", argv, SOON).unwrap();
        assert!(output.exit.success(), "ip {command}");
        text.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    text
}

/// Options of a packet path in a process of its own: descriptors of this one may live on for a moment in what another
/// test starts, and the TUN device with them.
fn forwarder<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let common = [
        env!("CARGO_BIN_EXE_xtr-bench"),
        "forward",
        "--quiet",
        "--rloc",
        "192.0.2.2",
        "--local",
        "10.1.0.0/24",
        "--map",
        "20.0.0.0/8=native",
    ];
    [&common, more].concat()
}

fn stop() {
    let lab = lab();
    let before = state(&lab);
    let output = lab.exec("xtr", forwarder(&["--end"]), SOON).unwrap();
    assert!(output.exit.success(), "{}", output.stderr_text());
    assert_eq!(state(&lab), before);
}

fn killed() {
    let lab = lab();
    let before = state(&lab);
    let handle = lab.spawn("xtr", Program::new(forwarder(&[]))).unwrap();
    handle.wait_log("ready", SOON).unwrap();
    handle.stop(Signal::SIGKILL, SOON);
    let left = state(&lab);
    assert_ne!(
        left, before,
        "a killed run leaves its rule: this is what the next one has to find"
    );
    let output = lab.exec("xtr", forwarder(&["--end"]), SOON).unwrap();
    assert!(output.exit.success(), "{}", output.stderr_text());
    assert_eq!(state(&lab), before);
}

/// UDP port 4341 to an EID ends here only where Data-Probes are wanted; what has the same inner destination is reported.
fn data_probes() {
    let stage = Stage::up();
    let idle = state(&stage.lab);
    let wanted = |data_probes| Policy {
        data_probes,
        ..Policy::default()
    };
    let outer = |mark: &[u8], port| {
        let inner = lisp::ip::udp_packet(ip("10.2.0.7"), ip("10.1.0.10"), 1, 2, 64, mark);
        // N and a nonce.
        let payload = [&[0x80, 0, 0, 7, 0, 0, 0, 0][..], &inner].concat();
        let (from, to) = (ip("192.0.2.1"), ip("10.1.0.10"));
        lisp::ip::udp_packet(from, to, port, lisp::DATA_PORT, 64, &payload)
    };
    let add = ["ip", "route", "add", "10.1.0.0/24", "via", "192.0.2.2"];
    assert!(stage.lab.exec("core", add, SOON).unwrap().exit.success());
    for port in [40_000, 40_001] {
        let outer = |mark: &[u8]| outer(mark, port);
        let (probe, stranger) = (format!("probe {port}"), format!("stranger {port}"));
        stage.plane.set_policy(wanted(true)).unwrap();
        assert_ne!(state(&stage.lab), idle);
        stage.inject("core", &outer(probe.as_bytes()));
        let seen = stage.seen("site", "xtr", "the inner packet", |p| {
            holds(p, probe.as_bytes())
        });
        assert_eq!(seen[12..16], [10, 2, 0, 7], "decapsulated");
        // Its nonce may be an echo as well.
        let (eid, prober, nonce) = std::iter::from_fn(|| stage.events.recv_timeout(SOON))
            .find_map(|event| match event {
                DataEvent::DataProbe {
                    eid, prober, nonce, ..
                } => Some((eid, prober, nonce)),
                _ => None,
            })
            .unwrap();
        assert_eq!((eid, nonce), (ip("10.1.0.10"), 7));
        assert_eq!(prober, (ip("192.0.2.1"), port).into());
        stage.plane.set_policy(wanted(false)).unwrap();
        assert_eq!(state(&stage.lab), idle, "no rule is left");
        stage.inject("core", &outer(stranger.as_bytes()));
        let seen = stage.seen("site", "xtr", "the packet", |p| {
            holds(p, stranger.as_bytes())
        });
        assert_eq!(seen[12..16], [192, 0, 2, 1], "forwarded as it is");
        // The host refuses it, and what it says is a miss.
        let probes = std::iter::from_fn(|| stage.events.try_recv())
            .filter(|event| matches!(event, DataEvent::DataProbe { .. }));
        assert_eq!(probes.count(), 0);
    }
}
