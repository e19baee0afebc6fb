//! A lab as its users see it: built, reached, programs started and ended, nothing left.

use std::path::Path;
use std::time::{Duration, Instant};

use harness::{Exit, Lab, LabOptions, Ping, Program, Topology};
use nix::sys::signal::Signal;

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "lab::nodes_reach_each_other_at_once",
        nodes_reach_each_other_at_once,
    ),
    ("lab::offloads_are_off", offloads_are_off),
    (
        "lab::an_unknown_setting_is_named_with_a_hint",
        an_unknown_setting_is_named_with_a_hint,
    ),
    (
        "lab::programs_live_in_their_node",
        programs_live_in_their_node,
    ),
    (
        "lab::what_a_program_leaves_in_var_stays_in_its_node",
        what_a_program_leaves_in_var_stays_in_its_node,
    ),
    (
        "lab::errors_of_programs_name_the_cause",
        errors_of_programs_name_the_cause,
    ),
    (
        "lab::children_that_run_away_end_with_the_lab",
        children_that_run_away_end_with_the_lab,
    ),
    (
        "lab::a_program_that_fills_its_log",
        a_program_that_fills_its_log,
    ),
    ("lab::a_full_disk_is_an_error", a_full_disk_is_an_error),
    (
        "lab::sockets_opened_inside_stay_inside",
        sockets_opened_inside_stay_inside,
    ),
];

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(10);

fn topology() -> Topology {
    let text = "
format: 1
name: t
nodes:
  a: {kind: host, routes: [{to: default, via: 10.0.1.1}, {to: 'fd00:2::/64', via: 'fd00:1::1'}]}
  r: {kind: router}
  b: {kind: host, loopback: [10.9.9.9/32], routes: [{to: default, via: 10.0.2.1}, {to: 'fd00:1::/64', via: 'fd00:2::1'}]}
  sw: {kind: bridge}
  c: {kind: host, files: {/run/x/y: hello}, env: {COLOUR: red}}
links:
  ar: {ends: {a: {interface: eth0, addresses: [10.0.1.2/24, 'fd00:1::2/64']}, r: {addresses: [10.0.1.1/24, 'fd00:1::1/64']}}}
  rs: {ends: {r: {addresses: [10.0.2.1/24, 'fd00:2::1/64']}, sw: {}}}
  bs: {ends: {b: {interface: eth0, addresses: [10.0.2.2/24, 'fd00:2::2/64']}, sw: {}}}
  cs: {ends: {c: {interface: eth0, addresses: [10.0.2.3/24]}, sw: {}}}
";
    Topology::parse("t.yaml", text).unwrap_or_else(|error| panic!("{error}"))
}

fn lab() -> Lab {
    Lab::up(&topology(), LabOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn nodes_reach_each_other_at_once() {
    let lab = lab();
    for target in ["10.0.1.1", "10.0.2.2", "fd00:2::2"] {
        lab.ping("a", target.parse().unwrap(), &Ping::default())
            .unwrap();
    }
    lab.ping("c", "10.0.2.2".parse().unwrap(), &Ping::default())
        .unwrap();
    let error = lab
        .ping("c", "10.0.1.2".parse().unwrap(), &Ping::default())
        .unwrap_err();
    assert!(error.to_string().contains("unreachable"), "{error}");
    let routes = lab.exec("b", ["ip", "-br", "address"], LONG).unwrap();
    assert!(routes.stdout_text().contains("10.9.9.9/32"));
}

fn offloads_are_off() {
    let lab = lab();
    let features = lab.exec("a", ["ethtool", "-k", "eth0"], LONG);
    let Ok(features) = features else { return };
    let text = features.stdout_text();
    for name in [
        "tx-checksumming",
        "tcp-segmentation-offload",
        "generic-segmentation-offload",
        "tx-udp-segmentation",
    ] {
        assert!(text.contains(&format!("{name}: off")), "{text}");
    }
}

fn an_unknown_setting_is_named_with_a_hint() {
    let text =
        "format: 1\nname: t\nnodes: {a: {kind: host, sysctls: {net.ipv4.no_such_thing: '1'}}}\n";
    let topology = Topology::parse("t.yaml", text).unwrap_or_else(|error| panic!("{error}"));
    let error = match Lab::up(&topology, LabOptions::default()) {
        Ok(_) => panic!("a lab with an unknown setting"),
        Err(error) => error.to_string(),
    };
    for part in ["node `a`", "net.ipv4.no_such_thing", "hint:", "sysctl -a"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

fn programs_live_in_their_node() {
    let lab = lab();
    let script = "echo $COLOUR; cat /run/x/y; echo; hostname; echo ready; echo oops >&2; cat /proc/1/comm; sleep 1000";
    let program = Program::new(["sh", "-c", script]);
    let handle = lab.spawn("c", program).unwrap();
    let line = handle.wait_log("lab-init", LONG).unwrap();
    assert_eq!(line, "lab-init");
    let log = handle.log();
    for word in ["red", "hello", "ready", "oops", "\nc\n"] {
        assert!(log.contains(word), "{word:?} in {log:?}");
    }
    assert!(handle.exit().is_none());
    let stopped = handle.stop(Signal::SIGTERM, LONG);
    assert_eq!(stopped.exit, Exit::Signal(15));
    assert!(!stopped.forced);

    let stubborn = lab
        .spawn(
            "c",
            Program::new([
                "sh",
                "-c",
                "trap '' TERM; echo up; while :; do sleep 1; done",
            ]),
        )
        .unwrap();
    stubborn.wait_log("up", LONG).unwrap();
    let stopped = stubborn.stop(Signal::SIGTERM, Duration::from_millis(100));
    assert!(stopped.forced);

    // Two nodes do not see each other's /run.
    let other = lab.exec("a", ["cat", "/run/x/y"], LONG).unwrap();
    assert!(!other.exit.success());

    let recording = lab.finish();
    assert_eq!(recording.processes.len(), 2);
    assert_eq!(recording.processes[0].exit, Some(Exit::Signal(15)));
}

fn what_a_program_leaves_in_var_stays_in_its_node() {
    let lab = lab();
    let mark = format!("lisplab-test-{}", std::process::id());
    for directory in ["/var/log", "/var/tmp", "/var/run"] {
        let file = format!("{directory}/{mark}");
        let script = format!("echo here > {file} && cat {file}");
        let written = lab.exec("c", ["sh", "-c", &script], LONG).unwrap();
        assert_eq!(
            written.stdout_text(),
            "here\n",
            "{file}: {}",
            written.stderr_text()
        );
        assert!(!Path::new(&file).exists(), "{file} is on the host");
        let elsewhere = lab.exec("a", ["ls", &file], LONG).unwrap();
        assert!(!elsewhere.exit.success(), "{file} is in another node");
    }
    // Folders that packages made for their logs are there; what the host logged is not.
    let hosts = std::fs::read_dir("/var/log").unwrap().flatten();
    let mut folders: Vec<_> = hosts
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let shown = lab
        .exec("a", ["sh", "-c", "LC_ALL=C ls -A /var/log"], LONG)
        .unwrap();
    assert_eq!(shown.stdout_text().lines().collect::<Vec<_>>(), folders);
    // The rest of /var is a copy on write where the kernel makes one; only root may write there, as on the host.
    let mounts = lab.exec("a", ["cat", "/proc/mounts"], LONG).unwrap();
    let copied = mounts
        .stdout_text()
        .lines()
        .any(|line| line.contains(" /var overlay "));
    let writable = nix::unistd::access("/var/lib", nix::unistd::AccessFlags::W_OK).is_ok();
    if copied && writable {
        let file = format!("/var/lib/{mark}");
        let written = lab.exec("c", ["touch", &file], LONG).unwrap();
        assert!(written.exit.success(), "{}", written.stderr_text());
        assert!(!Path::new(&file).exists(), "{file} is on the host");
    }
}

fn errors_of_programs_name_the_cause() {
    let lab = lab();
    let error = lab
        .spawn("c", Program::new(["/no/such/thing"]))
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("/no/such/thing is not there"),
        "{error}"
    );
    let error = lab.spawn("nobody", Program::new(["true"])).err().unwrap();
    assert!(
        error.to_string().contains("its nodes are a, r, b, sw, c"),
        "{error}"
    );
    let handle = lab
        .spawn("c", Program::new(["sh", "-c", "echo before; exit 7"]))
        .unwrap();
    let error = handle.wait_log("never", LONG).unwrap_err().to_string();
    assert!(
        error.contains("exit code 7") && error.contains("before"),
        "{error}"
    );
    let error = lab.exec("c", ["sleep", "100"], SECOND / 10).err().unwrap();
    assert!(error.to_string().contains("still ran"), "{error}");
}

fn children_that_run_away_end_with_the_lab() {
    let lab = lab();
    // A time that no other run of this test sleeps for.
    let time = (4_000_000 + std::process::id()).to_string();
    let script = format!("setsid sh -c 'setsid sleep {time} & echo $!' & wait; echo started");
    let handle = lab
        .spawn("a", Program::new(["sh", "-c", script.as_str()]))
        .unwrap();
    handle.wait_log("started", LONG).unwrap();
    let deadline = Instant::now() + LONG;
    while sleepers(&time) == 0 {
        assert!(Instant::now() < deadline, "it never ran");
        std::thread::yield_now();
    }
    lab.finish();
    assert_eq!(sleepers(&time), 0);
}

fn sleepers(argument: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|entry| {
            std::fs::read(entry.path().join("cmdline"))
                .is_ok_and(|line| line == format!("sleep\0{argument}\0").as_bytes())
        })
        .count()
}

fn sockets_opened_inside_stay_inside() {
    let lab = lab();
    let server = lab
        .run_in("b", || std::net::UdpSocket::bind("0.0.0.0:4342").unwrap())
        .unwrap();
    let client = lab
        .run_in("a", || std::net::UdpSocket::bind("0.0.0.0:0").unwrap())
        .unwrap();
    client.send_to(b"hello", "10.0.2.2:4342").unwrap();
    server.set_read_timeout(Some(LONG)).unwrap();
    let mut buffer = [0; 16];
    let (count, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"hello");
    assert_eq!(from.ip().to_string(), "10.0.1.2");
}

fn a_program_that_fills_its_log() {
    let directory = std::env::temp_dir().join(format!("harness-logs-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let options = LabOptions {
        log_directory: Some(directory.clone()),
        log_limit: 1 << 20,
        ..LabOptions::default()
    };
    let lab = Lab::up(&topology(), options).unwrap();
    let script = "echo first; head -c 20000000 /dev/zero | tr '\\0' 'x'; echo; echo last";
    let flood = lab
        .spawn("a", Program::new(["sh", "-c", script]).named("flood"))
        .unwrap();
    flood.wait_log("last", LONG).unwrap();
    let recording = lab.finish();
    let report = &recording.processes[0];
    assert!(report.log.starts_with("first\n") && report.log.ends_with("last\n"));
    assert!(
        report.log.len() < 2 << 20 && report.log_dropped > 18_000_000,
        "{}",
        report.log_dropped
    );
    let file = std::fs::read(directory.join("a.flood.log")).unwrap();
    assert!(file.len() < (1 << 20) + 100, "{}", file.len());
    assert!(file.ends_with(b"[log limit reached: the rest is not kept]\n"));
    std::fs::remove_dir_all(directory).unwrap();
}

fn a_full_disk_is_an_error() {
    let lab = lab();
    lab.ping("a", "10.0.1.1".parse().unwrap(), &Ping::default())
        .unwrap();
    let recording = lab.finish();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let error = recording.write_pcapng(full).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}
