//! Inline links: packet functions, seeded damage, cables pulled at run time.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use harness::topology::Impairment;
use harness::{Inline, Lab, LabOptions, PacketFate, Ping, PingError, Topology, Way};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "damage::the_same_seed_loses_the_same_packets",
        the_same_seed_loses_the_same_packets,
    ),
    (
        "damage::duplicates_and_corruption_are_counted",
        duplicates_and_corruption_are_counted,
    ),
    ("damage::delay_delays", delay_delays),
    (
        "damage::a_function_tampers_behind_the_capture",
        a_function_tampers_behind_the_capture,
    ),
    (
        "damage::cables_are_pulled_and_plugged",
        cables_are_pulled_and_plugged,
    ),
    ("damage::wrong_use_is_told", wrong_use_is_told),
];

const LONG: Duration = Duration::from_secs(10);

fn topology(impair: &str) -> Topology {
    let text = format!(
        "
format: 1
name: pair
nodes:
  # With ARP, the first packets wait for the answer and come out of that queue beside later ones.
  a: {{kind: host, neighbours: [{{address: 10.0.0.2, mac: '02:00:00:00:00:0b', interface: ab}}]}}
  b: {{kind: host, neighbours: [{{address: 10.0.0.1, mac: '02:00:00:00:00:0a', interface: ab}}]}}
links:
  ab: {{{impair} ends: {{
    a: {{mac: '02:00:00:00:00:0a', addresses: [10.0.0.1/24, 'fd00::1/64']}},
    b: {{mac: '02:00:00:00:00:0b', addresses: [10.0.0.2/24, 'fd00::2/64']}}}}}}
"
    );
    Topology::parse("pair.yaml", &text).unwrap_or_else(|error| panic!("{error}"))
}

fn up(topology: &Topology, options: LabOptions) -> Lab {
    Lab::up(topology, options).unwrap_or_else(|error| panic!("{error}"))
}

/// Sends numbered packets from a to b, a fence behind them, and says which arrived, in ascending order.
fn numbers_that_arrive(lab: &Lab, count: u32) -> Vec<u32> {
    // A thread that moves to another processor may overtake its own packets in the kernel: the link would then see
    // another sequence, and lose the right positions of it.
    let mut one = CpuSet::new();
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap());
    one.set(first.unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    let to = "10.0.0.2:9999";
    let receiver = lab.run_in("b", || UdpSocket::bind(to).unwrap()).unwrap();
    receiver.set_read_timeout(Some(LONG)).unwrap();
    let sender = lab
        .run_in("a", || UdpSocket::bind("0.0.0.0:0").unwrap())
        .unwrap();
    let mut arrived = Vec::new();
    let mut buffer = [0; 64];
    let mut take = |arrived: &mut Vec<u32>, until_fence: bool| {
        receiver.set_nonblocking(!until_fence).unwrap();
        while let Ok((length, _)) = receiver.recv_from(&mut buffer) {
            match buffer[..length].try_into() {
                Ok(number) => arrived.push(u32::from_be_bytes(number)),
                Err(_) => return,
            }
        }
    };
    let through = |count: u32| {
        let deadline = Instant::now() + LONG;
        loop {
            let s = lab.link_statistics("ab").unwrap();
            let payload = s.received - s.spared;
            if payload >= u64::from(count) {
                return;
            }
            assert!(Instant::now() < deadline, "the relay stopped: {s:?}");
            std::thread::yield_now();
        }
    };
    for n in 0..count {
        sender.send_to(&n.to_be_bytes(), to).unwrap();
        // Not more on the way than the receiver's socket has room for.
        if n % 32 == 0 {
            through(n);
            take(&mut arrived, false);
        }
    }
    through(count);
    lab.set_impairment("ab", Impairment::default()).unwrap();
    // Commands and packets come from different places: a reply tells that the healed link has seen the change.
    let deadline = Instant::now() + LONG;
    while lab
        .ping("a", "10.0.0.2".parse().unwrap(), &Ping::default())
        .is_err()
    {
        assert!(Instant::now() < deadline);
    }
    sender.send_to(b"fence", to).unwrap();
    take(&mut arrived, true);
    arrived.sort();
    arrived
}

fn the_same_seed_loses_the_same_packets() {
    const COUNT: u32 = 3000;
    let run = |seed: u32| {
        let lab = up(
            &topology(&format!("impair: {{loss: 10%, seed: {seed}}},")),
            LabOptions {
                capture: false,
                ..LabOptions::default()
            },
        );
        numbers_that_arrive(&lab, COUNT)
    };
    let (first, again, other) = (run(7), run(7), run(8));
    let (a, b): (BTreeSet<u32>, BTreeSet<u32>) = (
        first.iter().copied().collect(),
        again.iter().copied().collect(),
    );
    let differ: Vec<&u32> = a.symmetric_difference(&b).take(40).collect();
    assert!(
        first == again,
        "the same seed, other losses, first at {differ:?}"
    );
    assert!(first != other, "another seed, the same losses");
    let lost = COUNT as usize - first.len();
    assert!((200..400).contains(&lost), "{lost} of {COUNT} at 10%");
}

fn duplicates_and_corruption_are_counted() {
    let lab = up(
        &topology("impair: {duplicate: 20%, seed: 1},"),
        LabOptions::default(),
    );
    let arrived = numbers_that_arrive(&lab, 500);
    let distinct: BTreeSet<u32> = arrived.iter().copied().collect();
    assert_eq!(distinct.len(), 500);
    let statistics = lab.link_statistics("ab").unwrap();
    assert!((50..150).contains(&statistics.duplicated), "{statistics:?}");
    assert_eq!(statistics.sent, statistics.received + statistics.duplicated);
    assert_eq!(arrived.len() as u64, 500 + statistics.duplicated);
}

fn delay_delays() {
    let lab = up(&topology("impair: {delay: 30ms},"), LabOptions::default());
    for to in ["10.0.0.2", "fd00::2"] {
        let time = lab
            .ping("a", to.parse().unwrap(), &Ping::default())
            .unwrap();
        assert!(time >= Duration::from_millis(60), "{time:?}");
        assert!(time < Duration::from_millis(500), "{time:?}");
    }
}

fn a_function_tampers_behind_the_capture() {
    // What b sends gets another TTL (and its header checksum is made right again).
    let tamper = |way: Way, packet: &mut Vec<u8>, _now: u64| {
        if way == Way::FromVictim && packet[12..14] == [8, 0] {
            packet[22] = 33;
            packet[24..26].fill(0);
            let sum: u32 = packet[14..34]
                .chunks(2)
                .map(|p| u32::from(p[0]) << 8 | u32::from(p[1]))
                .sum();
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
            packet[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        PacketFate::Forward
    };
    for victim in ["a", "b"] {
        let options = LabOptions {
            inline: vec![Inline::new("ab", victim, tamper)],
            ..LabOptions::default()
        };
        let lab = up(&topology(""), options);
        lab.ping("a", "10.0.0.2".parse().unwrap(), &Ping::default())
            .unwrap();
        let recording = lab.finish();
        let pings: Vec<(Option<&str>, u8)> = recording
            .packets
            .iter()
            .filter(|p| p.data.get(23) == Some(&1))
            .map(|p| (p.from_node(), p.data[22]))
            .collect();
        let ttl = |node: &str| if node == victim { 33 } else { 64 };
        assert_eq!(pings, [(Some("a"), ttl("a")), (Some("b"), ttl("b"))]);
        assert_ne!(recording.interfaces[0].near, victim);
    }
}

fn cables_are_pulled_and_plugged() {
    let options = LabOptions {
        all_inline: true,
        ..LabOptions::default()
    };
    let lab = up(&topology(""), options);
    let b = "10.0.0.2".parse().unwrap();
    let short = Ping {
        timeout: Duration::from_millis(200),
        ..Ping::default()
    };
    lab.ping("a", b, &Ping::default()).unwrap();
    lab.set_link_up("ab", false).unwrap();
    let carrier = || {
        let show = lab
            .exec("a", ["cat", "/sys/class/net/ab/carrier"], LONG)
            .unwrap();
        show.stdout_text().trim().to_owned()
    };
    assert_eq!(carrier(), "0");
    assert!(matches!(
        lab.ping("a", b, &short),
        Err(PingError::Timeout { .. } | PingError::Unreachable { .. })
    ));
    lab.set_link_up("ab", true).unwrap();
    assert_eq!(carrier(), "1");
    lab.ping("a", b, &Ping::default()).unwrap();
    lab.ping("a", "fd00::2".parse().unwrap(), &Ping::default())
        .unwrap();
}

fn wrong_use_is_told() {
    let lab = up(&topology(""), LabOptions::default());
    let error = lab.set_link_up("ab", false).unwrap_err();
    assert!(error.to_string().contains("plain cable"), "{error}");
    let error = lab.set_link_up("ac", false).unwrap_err();
    assert!(error.to_string().contains("its links are ab"), "{error}");
    let forward = |_: Way, _: &mut Vec<u8>, _: u64| PacketFate::Forward;
    let options = LabOptions {
        inline: vec![Inline::new("ab", "c", forward)],
        ..LabOptions::default()
    };
    let error = Lab::up(&topology(""), options).err().unwrap();
    assert!(
        error.to_string().contains("at no end of link `ab`"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 2);
}
