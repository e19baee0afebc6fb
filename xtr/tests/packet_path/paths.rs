//! Who carries a packet: the kernel path or the daemon.

use std::net::{Ipv6Addr, UdpSocket};
use std::process::Command;
use std::time::Instant;

use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use xtr::dataplane::{DataPath, DataPlaneConfig};
use xtr::forwarding::Counter;

use crate::Test;
use crate::stage::{SOON, Stage, from_host, holds, settings};

pub(crate) const TESTS: &[Test] = &[
    ("plain_packets_do_not_reach_the_daemon", kernel_carries),
    ("the_tun_path_carries_every_packet", daemon_carries),
    ("tables_of_netfilter_are_not_passed_by", yields),
    ("policies_of_ipsec_are_not_passed_by", yields_to_ipsec),
    ("a_flow_that_becomes_fast_stays_in_order", || {
        on_one_processor(stays_in_order);
    }),
];

/// Somebody listens in the core: an ICMP error would have the router look at its counters by itself.
fn stage(path: DataPath) -> (Stage, UdpSocket) {
    let stage = Stage::set(DataPlaneConfig { path, ..settings() });
    stage.map("10.2.0.0/16", "192.0.2.1");
    stage.map("fd02::/64", "2001:db8::1");
    let any = (Ipv6Addr::UNSPECIFIED, lisp::DATA_PORT);
    let ears = stage.lab.run_in("core", || UdpSocket::bind(any)).unwrap();
    (stage, ears.unwrap())
}

/// With `auto`; none where the kernel does not allow it.
fn in_kernel() -> Option<(Stage, UdpSocket)> {
    let stage = stage(DataPath::Auto);
    if stage.0.plane.is_in_kernel() {
        return Some(stage);
    }
    eprintln!("skipped: this process may not load eBPF programs, or has tables of netfilter");
    None
}

/// Sends a packet through the tunnel; whether the daemon carried it.
fn is_daemons(stage: &Stage, to: &str, mark: &str) -> bool {
    let before = stage.count(Counter::Encapsulated);
    stage.inject("host", &from_host(to, 64, mark.as_bytes()));
    stage.seen("core", "xtr", mark, |p| holds(p, mark.as_bytes()));
    let by_daemon = stage.counted_by_daemon(Counter::Encapsulated) > before;
    assert_eq!(
        stage.count(Counter::Encapsulated),
        before + 1,
        "counted once, whoever carried it"
    );
    by_daemon
}

fn kernel_carries() {
    let Some((stage, _ears)) = in_kernel() else {
        return;
    };
    for to in ["10.2.0.7", "fd02::7"] {
        assert!(!is_daemons(&stage, to, &format!("plain to {to}")), "{to}");
    }
    // Inward too.
    let inner = lisp::ip::udp_packet(
        "10.2.0.7".parse().unwrap(),
        "10.1.0.10".parse().unwrap(),
        1,
        2,
        64,
        b"inward",
    );
    stage.data([0; 8], &inner);
    stage.seen("site", "xtr", "the inner packet", |p| holds(p, b"inward"));
    assert_eq!(stage.count(Counter::Decapsulated), 1);
}

fn daemon_carries() {
    let (stage, _ears) = stage(DataPath::Tun);
    assert!(!stage.plane.is_in_kernel());
    for to in ["10.2.0.7", "fd02::7"] {
        assert!(is_daemons(&stage, to, &format!("plain to {to}")));
    }
}

/// Several processors carry packets past each other on any path: this test is about ours alone.
fn on_one_processor(test: fn()) {
    let pinned = move || {
        let mut one = CpuSet::new();
        one.set(sched_getcpu().unwrap()).unwrap();
        // Threads that are started from here on inherit it.
        sched_setaffinity(Pid::from_raw(0), &one).unwrap();
        test();
    };
    if let Err(panic) = std::thread::spawn(pinned).join() {
        std::panic::resume_unwind(panic);
    }
}

/// A flow of small datagrams is the kernel's first, and the daemon's from some packet on: none overtakes, none is lost.
fn stays_in_order() {
    const BURST: u32 = 2000;
    let Some((stage, _ears)) = in_kernel() else {
        return;
    };
    let mark = |number: u32| [&b"number "[..], &number.to_be_bytes()].concat();
    let mut sent = 0;
    let begin = Instant::now();
    // A busy machine may be too slow for it at first, or at all.
    loop {
        let burst: Vec<Vec<u8>> = (sent..sent + BURST)
            .map(|number| from_host("10.2.0.7", 64, &mark(number)))
            .collect();
        stage.inject_all("host", &burst);
        sent += BURST;
        let last = mark(sent - 1);
        stage.seen("core", "xtr", "the last packet", |p| holds(p, &last));
        if stage.counted_by_daemon(Counter::Encapsulated) > 0 {
            break;
        }
        if begin.elapsed() > SOON {
            eprintln!("this machine is too slow: the daemon never had the flow");
            break;
        }
    }
    let numbers: Vec<u32> = stage
        .all("core", "xtr")
        .iter()
        .flat_map(|packet| {
            let number = |window: &[u8]| {
                let number = window.strip_prefix(b"number ")?;
                Some(u32::from_be_bytes(number.try_into().ok()?))
            };
            packet.windows(11).filter_map(number).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
    assert_eq!(stage.count(Counter::Encapsulated), u64::from(sent));
}

/// Loaded after the start, and gone again.
fn yields() {
    let firewall = |what: &str| format!("nft {what} table inet firewall");
    appears_and_goes(&firewall("add"), &firewall("delete"));
}

fn yields_to_ipsec() {
    let policy =
        |what: &str| format!("ip xfrm policy {what} src 192.0.2.0/24 dst 192.0.2.0/24 dir out");
    appears_and_goes(&policy("add"), &policy("delete"));
}

/// Packets are the daemon's after the one command, and the kernel's again after the other.
fn appears_and_goes(add: &str, delete: &str) {
    let Some((stage, _ears)) = in_kernel() else {
        return;
    };
    let run = |command: &str| {
        let mut words = command.split(' ');
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        stage.lab.run_in("xtr", move || command.status()).unwrap()
    };
    if !run(add).is_ok_and(|status| status.success()) {
        return eprintln!("skipped: this machine cannot `{add}`");
    }
    let becomes = |daemons: bool, what: &str| {
        let begin = Instant::now();
        let mut number = 0;
        while is_daemons(&stage, "10.2.0.7", &format!("{what} {number} done")) != daemons {
            number += 1;
            assert!(
                begin.elapsed() < SOON,
                "`{what}` had no effect within {SOON:?}"
            );
        }
    };
    becomes(true, add);
    assert!(run(delete).unwrap().success());
    becomes(false, delete);
}
