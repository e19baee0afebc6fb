//! What `lisplab test` and `lisplab run` survive, and what is left then: nothing. They are killed at any moment, interrupted
//! once and twice, and meet a full disk.
//!
//! Each of these tests starts this program again as a *warden*: in namespaces of its own, where everything that its
//! victims might leave can be counted by the kernel, whatever else runs on the host.

#![allow(
    clippy::unwrap_used,
    reason = "tests, though in a test binary with a main of its own"
)]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use conformance::implementation::Implementation;
use conformance::suite;
use harness::testing::{self, Needs, Test};
use libtest_mimic::Arguments;
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const TESTS: &[Test] = &[
    ("faults::killed_at_any_moment", || warded("killed")),
    ("faults::interrupted_once", || warded("interrupted")),
    ("faults::interrupted_twice", || warded("interrupted-twice")),
    ("faults::the_disk_is_full", || warded("full")),
];

const LONG: Duration = Duration::from_secs(30);
/// Which part of a test this program plays when it is started again.
const PART: &str = "LISPLAB_TEST_PART";
/// In the environment of everything that a victim starts.
const MARK: &str = "LISPLAB_TEST_MARK";

fn main() -> ExitCode {
    let Ok(part) = std::env::var(PART) else {
        if !Arguments::from_args().list {
            // Otherwise each victim would begin with cargo, which goes on when that is killed.
            let ours = Implementation::load("lisplab").unwrap_or_else(|error| panic!("{error}"));
            suite::build(&ours).unwrap_or_else(|problem| panic!("{problem}"));
        }
        return testing::main(TESTS, Needs::LabsWithTun);
    };
    let warden = Warden::enter();
    match part.as_str() {
        "killed" => killed(&warden),
        "interrupted" => interrupted(&warden),
        "interrupted-twice" => interrupted_twice(&warden),
        "full" => full(&warden),
        other => panic!("there is no part {other}"),
    }
    warden.leave();
    println!("nothing is left");
    ExitCode::SUCCESS
}

/// Plays a part in a process of its own.
fn warded(part: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .env(PART, part)
        .output()
        .unwrap();
    let text = said(&output);
    assert!(
        output.status.success() && text.contains("nothing is left"),
        "{text}"
    );
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A process in its own user, mount and network namespace, with an empty /run and an empty folder for what is temporary.
struct Warden {
    folder: tempfile::TempDir,
    mounts: String,
}

impl Warden {
    fn enter() -> Warden {
        let folder = tempfile::tempdir().unwrap();
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
            .unwrap();
        fs::write("/proc/self/setgroups", "deny").unwrap();
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
        tmpfs(Path::new("/run"), "mode=0755");
        for name in ["tmp", "out", "disk"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        Warden { folder, mounts }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command whose processes carry a mark.
    fn lisplab(&self, mark: &str, arguments: &[&str]) -> Command {
        // Whoever started the tests may have made them deaf to SIGHUP (nohup does), and lisplab stays deaf then.
        let mut command = Command::new("env");
        command
            .arg("--default-signal=HUP")
            .arg(env!("CARGO_BIN_EXE_lisplab"))
            .args(arguments)
            .env_remove(PART)
            .env(MARK, mark)
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null());
        command
    }

    /// Waits for the end of all processes with a mark.
    fn ended(&self, mark: &str) {
        let needle = format!("{MARK}={mark}\0");
        until(&format!("the end of all processes of {mark}"), || {
            !fs::read_dir("/proc").unwrap().flatten().any(|entry| {
                fs::read(entry.path().join("environ")).is_ok_and(|environment| {
                    let mut parts = environment.windows(needle.len());
                    parts.any(|part| part == needle.as_bytes())
                })
            })
        });
    }

    /// Nothing may be there that was not there before.
    fn leave(&self) {
        assert_eq!(
            fs::read_to_string("/proc/self/mounts").unwrap(),
            self.mounts
        );
        for folder in [self.path("tmp").as_path(), Path::new("/run")] {
            let left: Vec<_> = fs::read_dir(folder).unwrap().flatten().collect();
            assert!(left.is_empty(), "{left:?}");
        }
        let devices = fs::read_to_string("/proc/net/dev").unwrap();
        assert_eq!(devices.lines().count(), 3, "{devices}");
        // The kernel allows one more namespace only if every other of this user namespace is gone, but our own.
        for (kind, flag, limit) in [
            ("net", CloneFlags::CLONE_NEWNET, "2"),
            ("mnt", CloneFlags::CLONE_NEWNS, "2"),
            ("pid", CloneFlags::CLONE_NEWPID, "1"),
            ("uts", CloneFlags::CLONE_NEWUTS, "1"),
        ] {
            fs::write(format!("/proc/sys/user/max_{kind}_namespaces"), limit).unwrap();
            until(&format!("the end of all {kind} namespaces"), || {
                std::thread::spawn(move || unshare(flag).is_ok())
                    .join()
                    .unwrap()
            });
        }
    }
}

fn tmpfs(at: &Path, options: &str) {
    mount(
        Some("tmpfs"),
        at,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options),
    )
    .unwrap();
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A sequence of moments; the seed is printed.
struct Moments(u64);

impl Moments {
    fn new() -> Moments {
        let seed = u64::from(std::process::id());
        println!("seed {seed}");
        Moments(seed)
    }

    fn within(&mut self, longest: Duration) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let longest = u64::try_from(longest.as_micros()).unwrap();
        Duration::from_micros((self.0 >> 33) % longest)
    }
}

/// Whole runs with routers, several cases at a time, and a scenario.
const RUNS: [&[&str]; 2] = [
    &["test", "--case", "rfc6830::s5_3::*", "--jobs", "3"],
    &["run", "stale-map-cache"],
];

fn killed(warden: &Warden) {
    let mut moments = Moments::new();
    let out = warden.path("out");
    // Some at a time: most of a run's time is waiting.
    for batch in 0..10 {
        let mut victims: Vec<(Duration, Child)> = (0..6)
            .map(|number| {
                let mut victim = warden.lisplab("killed", RUNS[number % 2]);
                victim.arg("--out").arg(out.join(number.to_string()));
                victim.stdout(Stdio::null()).stderr(Stdio::null());
                let moment = moments.within(Duration::from_millis(1800));
                (moment, victim.spawn().unwrap())
            })
            .collect();
        victims.sort_by_key(|(moment, _)| *moment);
        let began = Instant::now();
        for (moment, victim) in &mut victims {
            std::thread::sleep((began + *moment).saturating_duration_since(Instant::now()));
            victim.kill().unwrap();
            victim.wait().unwrap();
        }
        println!("batch {batch}");
        warden.ended("killed");
    }
}

/// Whether a process waits for an interrupt by itself: a thread of it does nothing else.
fn awaits_interrupts(child: &Child) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    threads.flatten().any(|thread| {
        let name = fs::read_to_string(thread.path().join("comm"));
        name.is_ok_and(|name| name == "interrupt\n")
    })
}

fn interrupt(child: &Child) {
    // It may have ended meanwhile; it has not been reaped, so the number is still its own.
    kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
}

/// What a command said that was interrupted before it had an end.
fn end(child: Child) -> (ExitStatus, String) {
    let output = child.wait_with_output().unwrap();
    (output.status, said(&output))
}

const WAITS: &str = "format: 1
name: waits
title: Two hosts, and nothing happens for long.
topology:
  format: 1
  name: tiny
  nodes: {h1: {kind: host}, h2: {kind: host}}
  links:
    l: {ends: {h1: {addresses: [10.0.0.1/24]}, h2: {addresses: [10.0.0.2/24]}}}
steps:
  - ping: {from: h1, to: h2, answered: true}
  - sleep: 60s
";

fn interrupted(warden: &Warden) {
    let out = warden.path("out");
    let out = out.to_str().unwrap();
    // What was judged is written.
    let arguments = [RUNS[0], &["--out", out, "--json"]].concat();
    let mut child = warden
        .lisplab("interrupted", &arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("[1/") {
        line.clear();
        assert!(errors.read_line(&mut line).unwrap() > 0, "no case ended");
    }
    interrupt(&child);
    let rest: Vec<String> = errors.lines().map(Result::unwrap).collect();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{rest:?}");
    assert!(
        rest.iter().any(|line| line.starts_with("interrupted: ")),
        "{rest:?}"
    );
    let written = fs::read(warden.path("out").join("results.json")).unwrap();
    assert_eq!(output.stdout, written);
    let results: serde_json::Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(results["interrupted"], true);
    assert_eq!(results["cases"][0]["verdict"], "pass");
    warden.ended("interrupted");

    // Where nothing was judged, that is said.
    let file = warden.path("waits.yaml");
    fs::write(&file, WAITS).unwrap();
    let out = warden.path("out").join("run");
    let arguments = [
        "run",
        file.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ];
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let child = warden
            .lisplab("interrupted", &arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        until("the scenario to run", || awaits_interrupts(&child));
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let (status, text) = end(child);
        assert_eq!(
            status.code(),
            Some(128 + signal as i32),
            "{status:?} {text}"
        );
        assert!(text.contains("no case was judged"), "{text}");
        assert!(!out.join("results.json").exists());
        warden.ended("interrupted");
    }
}

fn interrupted_twice(warden: &Warden) {
    let mut moments = Moments::new();
    let out = warden.path("out");
    for round in 0..20 {
        let out = out.join(round.to_string());
        let mut victim = warden.lisplab("twice", RUNS[round % 2]);
        victim.arg("--out").arg(&out);
        let child = victim
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(moments.within(Duration::from_millis(800)));
        interrupt(&child);
        std::thread::sleep(moments.within(Duration::from_millis(3)));
        interrupt(&child);
        let (status, _) = end(child);
        let at_once = status.signal() == Some(Signal::SIGINT as i32);
        // Or it came too late for a quick run, which then says all that it was asked.
        let ended_before = status.code() == Some(0) && {
            let written = fs::read(out.join("results.json")).unwrap();
            let results: serde_json::Value = serde_json::from_slice(&written).unwrap();
            results["interrupted"] != true && results["cases"][0]["verdict"] == "pass"
        };
        assert!(
            at_once || ended_before || status.code() == Some(130),
            "round {round}: {status:?}"
        );
        warden.ended("twice");
    }
}

/// A whole run whose results do not fit on the disk, whatever it is that does not: a clear error, and no pass.
fn full(warden: &Warden) {
    let file = warden.path("ping.yaml");
    fs::write(&file, WAITS.replace("  - sleep: 60s\n", "")).unwrap();
    let disk = warden.path("disk");
    let runs: [&[&str]; 2] = [
        &["test", "--case", "rfc6830::s5_3::pings_cross_the_tunnel"],
        &["run", file.to_str().unwrap()],
    ];
    for run in runs {
        let (mut refused, mut size) = (0, 4_u32);
        loop {
            tmpfs(&disk, &format!("size={size}k"));
            let output = warden
                .lisplab("full", run)
                .arg("--out")
                .arg(disk.join("out"))
                .output()
                .unwrap();
            let text = said(&output);
            let whole = disk.join("out/results.json");
            let readable = File::open(&whole)
                .is_ok_and(|file| serde_json::from_reader::<_, serde_json::Value>(file).is_ok());
            assert_eq!(whole.exists(), readable, "half a record was left: {text}");
            umount(&disk).unwrap();
            warden.ended("full");
            if output.status.success() {
                break;
            }
            refused += 1;
            assert!(matches!(output.status.code(), Some(1..=3)), "{text}");
            assert!(text.contains("No space left on device"), "{text}");
            assert!(!text.contains("panicked"), "{text}");
            size += size.div_ceil(8) * 4;
            assert!(size < 4096, "{text}");
        }
        assert!(refused > 2, "it met no full disk");
    }
}
