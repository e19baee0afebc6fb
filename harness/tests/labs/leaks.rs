//! Nothing is left: not after an orderly end, not after kill -9 at any moment, not without root.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use harness::{Lab, LabOptions, Ping, Program, Topology};
use nix::sched::{CloneFlags, unshare};

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "leaks::kill_at_any_moment_leaves_nothing",
        kill_at_any_moment_leaves_nothing,
    ),
    (
        "leaks::an_orderly_end_leaves_nothing",
        an_orderly_end_leaves_nothing,
    ),
    ("leaks::ordinary_users_have_labs", ordinary_users_have_labs),
];

const LONG: Duration = Duration::from_secs(20);

/// The parts that this program plays when tests start it again.
pub(crate) fn play(part: &str) -> ExitCode {
    match part {
        "victim" => victim(),
        "warden" => warden(),
        "guest" => guest(),
        "container" => crate::doctor::play_container(),
        "named-up" => crate::named::play_up(),
        "named-exec" => crate::named::play_exec(),
        other => panic!("there is no part {other}"),
    }
}

/// This program again, in another part. Everything that it starts inherits the mark.
pub(crate) fn again(part: &str, mark: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .env("HARNESS_TEST_PART", part)
        .env("HARNESS_TEST_MARK", mark);
    command
}

pub(crate) fn topology() -> Topology {
    let text = "
format: 1
name: victim
nodes: {a: {kind: host}, r: {kind: router}, b: {kind: host}}
links:
  ar: {ends: {a: {addresses: [10.0.1.2/24]}, r: {addresses: [10.0.1.1/24]}}}
  rb: {impair: {delay: 1ms}, ends: {r: {addresses: [10.0.2.1/24]}, b: {addresses: [10.0.2.2/24]}}}
";
    Topology::parse("victim.yaml", text).unwrap_or_else(|error| panic!("{error}"))
}

/// Makes labs with programs that run away, over and over, until it is killed.
fn victim() -> ExitCode {
    harness::host::enter().unwrap();
    println!("started");
    loop {
        let lab = Lab::up(&topology(), LabOptions::default()).unwrap();
        let run_away = "setsid sh -c 'setsid sleep 1000 & setsid sleep 1000 &' & echo gone";
        let program = lab
            .spawn("a", Program::new(["sh", "-c", run_away]))
            .unwrap();
        program.wait_log("gone", LONG).unwrap();
        lab.ping("b", "10.0.2.1".parse().unwrap(), &Ping::default())
            .unwrap();
    }
}

/// Kills victims in a user namespace of its own, where the kernel counts the network namespaces for it alone.
fn warden() -> ExitCode {
    unshare(CloneFlags::CLONE_NEWUSER).unwrap();
    std::fs::write("/proc/self/setgroups", "deny").unwrap();
    std::fs::write("/proc/self/uid_map", "0 0 1").unwrap();
    std::fs::write("/proc/self/gid_map", "0 0 1").unwrap();
    let mark = std::env::var("HARNESS_TEST_MARK").unwrap();
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = seed;
    let mounts = mounts_here();
    for round in 0..50 {
        let moment = Duration::from_micros(next_random(&mut random) % 150_000);
        let victim_mark = format!("{mark}-{round}");
        let mut child = again("victim", &victim_mark)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        started(&mut child);
        std::thread::sleep(moment);
        child.kill().unwrap();
        child.wait().unwrap();
        until(
            &format!("the end of all processes of round {round}"),
            || marked(&victim_mark).is_empty(),
        );
    }
    // A new network namespace is only allowed when every other of this user namespace is gone.
    std::fs::write("/proc/sys/user/max_net_namespaces", "1").unwrap();
    until("the end of all network namespaces", || {
        std::thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET).is_ok())
            .join()
            .unwrap()
    });
    assert_eq!(mounts_here(), mounts);
    println!("clean");
    ExitCode::SUCCESS
}

pub(crate) fn next_random(random: &mut u64) -> u64 {
    *random = random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *random >> 33
}

fn kill_at_any_moment_leaves_nothing() {
    let mark = format!("kill-{}", std::process::id());
    let output = again("warden", &mark).output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success() && text.contains("clean"), "{text}");
}

/// The mounts that this process sees, without those of named labs: other tests make and remove them meanwhile.
fn mounts_here() -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let others = mounts.lines().filter(|line| !line.contains(" /run/netns"));
    others.map(str::to_owned).collect()
}

/// Waits for the line that says that the victim is at work.
fn started(child: &mut Child) {
    let mut line = String::new();
    let output = child.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
}

pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Living processes that carry a mark in their environment.
pub(crate) fn marked(mark: &str) -> Vec<String> {
    let needle = format!("HARNESS_TEST_MARK={mark}\0");
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            std::fs::read(entry.path().join("environ")).is_ok_and(|environment| {
                environment
                    .windows(needle.len())
                    .any(|part| part == needle.as_bytes())
            })
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn an_orderly_end_leaves_nothing() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mounts = mounts_here();
    let before = descriptors();
    let inodes: Vec<String> = {
        let lab = Lab::up(&topology(), LabOptions::default()).unwrap();
        lab.exec("a", ["true"], LONG).unwrap();
        let own = |node: &str| {
            lab.run_in(node, || {
                std::fs::read_link("/proc/thread-self/ns/net").unwrap()
            })
            .unwrap()
        };
        let inodes = ["a", "r", "b"].map(|node| own(node).to_string_lossy().into_owned());
        lab.finish();
        inodes.to_vec()
    };
    // Packet sockets are closed by threads that nobody waits for, and other tests run beside this one: what counts is
    // that nobody holds the namespaces any more.
    until("the namespaces to be let go", || {
        let held = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        !held
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .any(|target| {
                inodes
                    .iter()
                    .any(|inode| target.as_os_str() == inode.as_str())
            })
    });
    assert_eq!(mounts_here(), mounts);
    println!("descriptors before {before}, after {}", descriptors());
}

/// What an ordinary user does: a lab with everything.
fn guest() -> ExitCode {
    assert!(!nix::unistd::geteuid().is_root());
    match harness::host::enter() {
        Ok(privilege) => println!("{privilege:?}"),
        Err(error) => {
            println!("{error}");
            return ExitCode::from(harness::HostError::EXIT_CODE);
        }
    }
    match harness::host::check_tun() {
        Ok(()) => println!("TUN: yes"),
        Err(error) => println!("TUN: {error}"),
    }
    let lab = Lab::up(&topology(), LabOptions::default()).unwrap();
    lab.ping("b", "10.0.2.1".parse().unwrap(), &Ping::default())
        .unwrap();
    let ids = lab
        .exec(
            "a",
            [
                "sh",
                "-c",
                "id -u; ls /proc | grep -c '^[0-9]'; cat /proc/net/route | wc -l",
            ],
            LONG,
        )
        .unwrap();
    println!("{}", ids.stdout_text());
    let recording = lab.finish();
    println!("{} packets", recording.packets.len());
    ExitCode::SUCCESS
}

fn ordinary_users_have_labs() {
    let mut command = again("guest", "guest");
    if nix::unistd::geteuid().is_root() && nobody_exists() {
        // The program may lie where that user cannot go: it is opened before.
        let program = File::open("/proc/self/exe").unwrap();
        let environment = [
            c"HARNESS_TEST_PART=guest",
            c"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        ];
        let become_nobody = move || {
            std::env::set_current_dir("/")?;
            nix::unistd::setgroups(&[])?;
            nix::unistd::setgid(nix::unistd::Gid::from_raw(65534))?;
            nix::unistd::setuid(nix::unistd::Uid::from_raw(65534))?;
            let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
            let _ = program.as_raw_fd();
            nix::unistd::execveat(&program, c"", &[c"guest"], &environment, flags)?;
            unreachable!()
        };
        // SAFETY: this is a test, and the parent's other threads hold no lock that the calls above need.
        unsafe { command.pre_exec(become_nobody) };
    } else if nix::unistd::geteuid().is_root() {
        return; // We are that ordinary user already, in our own user namespace, as are all other tests of this run.
    }
    let output = command.output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if output.status.code() == Some(3) {
        // A host that forbids it must at least say how to get it.
        assert!(text.contains("  1. ") && text.contains("  3. "), "{text}");
        return;
    }
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("UserNamespace") && text.contains("packets"),
        "{text}"
    );
    if let Some(tun) = text.lines().find(|line| line.starts_with("TUN: ")) {
        assert!(tun == "TUN: yes" || tun.contains("/dev/net/tun"), "{tun}");
    }
}

/// Whether another user than root can be taken on here: not in a user namespace with one user.
fn nobody_exists() -> bool {
    std::fs::read_to_string("/proc/self/uid_map")
        .unwrap()
        .split_whitespace()
        .nth(2)
        != Some("1")
}
