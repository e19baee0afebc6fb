//! Named labs: they outlive the command, others find them, and what a crash leaves is found and removed.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use harness::named::{LinkChange, NamedOptions, Registry, Service, up};
use harness::{Exit, Program};
use nix::sys::signal::Signal;

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "named::a_lab_lives_and_is_commanded",
        a_lab_lives_and_is_commanded,
    ),
    ("named::a_name_is_given_once", a_name_is_given_once),
    (
        "named::what_a_crash_leaves_is_removed",
        what_a_crash_leaves_is_removed,
    ),
    (
        "named::an_interrupt_takes_a_lab_down_also_twice",
        an_interrupt_takes_a_lab_down_also_twice,
    ),
    (
        "named::up_killed_at_any_moment_leaves_nothing",
        up_killed_at_any_moment_leaves_nothing,
    ),
    ("named::names_of_others_stay", names_of_others_stay),
    (
        "named::a_lab_that_does_not_come_up_leaves_nothing",
        a_lab_that_does_not_come_up_leaves_nothing,
    ),
];

const LONG: Duration = Duration::from_secs(20);

/// A registry of its own for a test, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("harness-{test}-{}", std::process::id()));
        Scratch(path)
    }

    fn registry(&self) -> Registry {
        Registry::at(&self.0).unwrap()
    }

    /// Runs `up` in a process of its own, as a command would.
    fn up(&self, name: &str, shell: &str) -> (bool, String) {
        let mut command = crate::leaks::again("named-up", &format!("named-{}", std::process::id()));
        run(command.args([self.0.to_str().unwrap(), name, shell]))
    }

    fn exec(&self, name: &str, node: &str, shell: &str) -> (bool, String) {
        let mut command = crate::leaks::again("named-exec", "named");
        run(command.args([self.0.to_str().unwrap(), name, node, shell]))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let registry = self.registry();
        for name in registry.names().unwrap() {
            registry.open(&name).unwrap().down().unwrap();
        }
        let _ = registry.clean();
        assert!(!self.0.exists() || std::thread::panicking());
    }
}

fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// The part of the command `up`.
pub(crate) fn play_up() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let topology = crate::leaks::topology();
    let options = NamedOptions {
        name: arguments[2].clone(),
        services: vec![Service {
            node: "a".to_owned(),
            program: Program::new(["sh", "-c", &arguments[3]]).named("service"),
            ready: Some("ready".to_owned()),
        }],
        ready_timeout: Duration::from_secs(5),
        ..NamedOptions::new(&topology)
    };
    match up(&Registry::at(&arguments[1]).unwrap(), &topology, options) {
        Ok(lab) => {
            println!("{} is up", lab.name());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// The part of the command `exec`.
pub(crate) fn play_exec() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let lab = Registry::at(&arguments[1])
        .unwrap()
        .open(&arguments[2])
        .unwrap();
    let argv = ["bash", "-c", &arguments[4]].map(str::to_owned);
    match lab.exec(&arguments[3], &argv) {
        Ok(Exit::Code(code)) => ExitCode::from(code as u8),
        other => panic!("{other:?}"),
    }
}

const SERVICE: &str = "echo $$ > /run/service.pid; echo ready; exec sleep 1000";

/// The name of a lab for this run alone: names under /run/netns are the host's, and others may run these tests too.
fn own(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

fn a_lab_lives_and_is_commanded() {
    let scratch = Scratch::new("life");
    let (ok, text) = scratch.up(&own("one"), SERVICE);
    assert!(ok, "{text}");
    let registry = scratch.registry();
    assert_eq!(registry.names().unwrap(), [own("one")]);
    let lab = registry.only().unwrap();
    let status = lab.status().unwrap();
    assert_eq!(status.topology, "victim");
    let nodes: Vec<&str> = status.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(nodes, ["a", "r", "b"]);
    let service = &status.nodes[0].services[0];
    assert_eq!((service.name.as_str(), service.exit), ("service", None));
    assert_eq!(
        status.links[1].impair,
        [("delay".to_owned(), "1000us".to_owned())]
    );

    // exec sees the node's network, files and processes, and gives its exit code back.
    let (ok, text) = scratch.exec(
        &own("one"),
        "a",
        "hostname; ip -br a; cat /run/service.pid; ls /proc/$(cat /run/service.pid)/exe",
    );
    assert!(
        ok && text.starts_with("a\n") && text.contains("10.0.1.2/24"),
        "{text}"
    );
    let (ok, _) = scratch.exec(&own("one"), "a", "exit 7");
    assert!(!ok);

    // A capture of the running lab.
    let mut capture = lab.capture(&["ar".to_owned()]).unwrap();
    let (ok, text) = scratch.exec(&own("one"), "a", "echo hello > /dev/udp/10.0.1.1/9");
    assert!(ok, "{text}");
    let hello = |p: &harness::Packet| p.data.ends_with(b"hello\n") && p.from_node() == Some("a");
    let deadline = Instant::now() + LONG;
    while !capture.next(Duration::from_millis(100)).iter().any(hello) {
        assert!(Instant::now() < deadline, "the packet was not captured");
    }
    let (_, drops) = capture.finish();
    assert_eq!(drops, []);

    // Links.
    let pull = LinkChange {
        up: Some(false),
        ..LinkChange::default()
    };
    lab.change_link("ar", pull).unwrap();
    assert!(!lab.status().unwrap().links[0].up);
    let (_, text) = scratch.exec(&own("one"), "a", "cat /sys/class/net/ar/carrier");
    assert_eq!(text.trim(), "0");
    let change = |key: &str, value: &str| LinkChange {
        set: vec![(key.to_owned(), value.to_owned())],
        ..LinkChange::default()
    };
    lab.change_link("rb", change("loss", "5%")).unwrap();
    let set = &lab.status().unwrap().links[1].impair;
    assert_eq!(set.len(), 2, "{set:?}");
    lab.change_link("rb", change("delay", "none")).unwrap();
    assert_eq!(
        lab.status().unwrap().links[1].impair,
        [("loss".to_owned(), "5%".to_owned())]
    );
    for (key, value) in [("loss", "five"), ("los", "5%"), ("delay", "1\n  x: y")] {
        let error = lab.change_link("rb", change(key, value)).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
    }
    let error = lab
        .change_link("nope", LinkChange::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("its links are ar, rb"), "{error}");

    // Programs.
    let pid = |lab: &harness::named::NamedLab| lab.status().unwrap().nodes[0].services[0].pid;
    let before = pid(&lab);
    lab.restart("a").unwrap();
    assert_ne!(pid(&lab), before);
    for (signal, stopped) in [(Signal::SIGSTOP, true), (Signal::SIGCONT, false)] {
        lab.kill("a", signal).unwrap();
        crate::leaks::until("the signal to do what it does", || {
            lab.status().unwrap().nodes[0].services[0].stopped == stopped
        });
    }
    lab.kill("a", Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + LONG;
    while lab.status().unwrap().nodes[0].services[0].exit != Some(Exit::Signal(9)) {
        assert!(Instant::now() < deadline);
    }
    assert!(
        std::fs::read_to_string(lab.logs().join("a.service-2.log"))
            .unwrap()
            .contains("ready")
    );
    let error = lab.restart("b").unwrap_err().to_string();
    assert!(error.contains("has no program"), "{error}");

    let holder = lab.status().unwrap().holder;
    lab.down().unwrap();
    assert!(!Path::new(&format!("/proc/{holder}/ns")).exists() || is_dead(holder));
    assert_eq!(registry.names().unwrap(), Vec::<String>::new());
    assert!(names_of(&own("one")).is_empty());
    assert!(registry.open(&own("one")).is_err());
}

fn is_dead(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

/// What is under /run/netns because of a lab.
fn names_of(lab: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(&format!("{lab}-")))
        .collect()
}

fn a_name_is_given_once() {
    let scratch = Scratch::new("twice");
    assert!(scratch.up(&own("same"), SERVICE).0);
    let (ok, text) = scratch.up(&own("same"), SERVICE);
    assert!(
        !ok && text.contains(&format!("`{}` is up", own("same"))),
        "{text}"
    );
    let (ok, text) = scratch.up(&own("other"), SERVICE);
    assert!(ok, "labs of different names live side by side: {text}");
    let registry = scratch.registry();
    assert_eq!(registry.names().unwrap(), [own("other"), own("same")]);
    let error = registry.only().unwrap_err().to_string();
    assert!(
        error.contains(&format!(
            "several labs are up: {}, {}",
            own("other"),
            own("same")
        )),
        "{error}"
    );
    assert!(
        registry.open(&own("same")).unwrap().status().is_ok(),
        "the first one is not disturbed"
    );
    let (ok, text) = scratch.up("bad/name", SERVICE);
    assert!(!ok && text.contains("cannot be the name"), "{text}");
}

fn what_a_crash_leaves_is_removed() {
    let scratch = Scratch::new("crash");
    assert!(scratch.up(&own("crashed"), SERVICE).0);
    assert!(scratch.up(&own("alive"), SERVICE).0);
    let registry = scratch.registry();
    let status = registry.open(&own("crashed")).unwrap().status().unwrap();
    let service = status.nodes[0].services[0].pid;
    let holder = nix::unistd::Pid::from_raw(status.holder as i32);
    nix::sys::signal::kill(holder, Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + LONG;
    while !(is_dead(status.holder) && is_dead(service)) {
        assert!(Instant::now() < deadline, "holder or program survived");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(registry.names().unwrap(), [own("alive")]);
    // A file with a name like ours that is not ours stays.
    let foreign = PathBuf::from(format!("/run/netns/{}-foreign", own("crashed")));
    let has_foreign = std::fs::write(&foreign, "").is_ok();
    assert_eq!(registry.clean().unwrap(), [own("crashed")]);
    if has_foreign {
        assert_eq!(
            names_of(&own("crashed")),
            [format!("{}-foreign", own("crashed"))]
        );
        std::fs::remove_file(&foreign).unwrap();
    }
    assert!(!scratch.0.join(own("crashed")).exists());
    assert!(registry.open(&own("alive")).unwrap().status().is_ok());
    // The next `up` does the same by itself.
    assert!(scratch.up(&own("crashed"), SERVICE).0);
}

fn an_interrupt_takes_a_lab_down_also_twice() {
    let scratch = Scratch::new("interrupt");
    let stubborn = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    assert!(scratch.up(&own("twice"), stubborn).0);
    let holder = scratch
        .registry()
        .open(&own("twice"))
        .unwrap()
        .status()
        .unwrap()
        .holder;
    let pid = nix::unistd::Pid::from_raw(holder as i32);
    nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
    let deadline = Instant::now() + LONG;
    while !is_dead(holder) {
        // As often as somebody may press it: it goes on ending.
        let _ = nix::sys::signal::kill(pid, Signal::SIGINT);
        assert!(Instant::now() < deadline, "the holder survived");
        std::thread::sleep(Duration::from_millis(5));
    }
    let left: Vec<_> = std::fs::read_dir(scratch.0.join(own("twice")))
        .into_iter()
        .flatten()
        .collect();
    let log = std::fs::read_to_string(scratch.0.join(own("twice")).join("holder.log"));
    assert!(!scratch.0.join(own("twice")).exists(), "{left:?} {log:?}");
    assert!(names_of(&own("twice")).is_empty());
}

fn a_lab_that_does_not_come_up_leaves_nothing() {
    let scratch = Scratch::new("fails");
    let (ok, text) = scratch.up(&own("fails"), "echo oh no; exit 3");
    assert!(
        !ok && text.contains("oh no") && text.contains("exit code 3"),
        "{text}"
    );
    assert!(!scratch.0.join(own("fails")).exists());
    assert!(names_of(&own("fails")).is_empty());
}

/// `up` alone is killed (the holder takes down what it has made), or its holder too (the next command removes what is left).
fn up_killed_at_any_moment_leaves_nothing() {
    let scratch = Scratch::new("up-killed");
    let registry = scratch.registry();
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = seed;
    // Moments are spread over the time that it takes here and now.
    let began = std::time::Instant::now();
    let (came_up, text) = scratch.up(&own("whole"), SERVICE);
    assert!(came_up, "{text}");
    let mut whole = began.elapsed();
    registry.open(&own("whole")).unwrap().down().unwrap();
    let mut interrupted = 0;
    let mut rounds = 0..1000;
    while interrupted < 50 {
        let round = rounds.next().expect("50 of 1000 are interrupted");
        let name = own(&format!("killed{round}"));
        let mark = format!("up-killed-{}-{round}", std::process::id());
        let mut up = crate::leaks::again("named-up", &mark);
        up.args([scratch.0.to_str().unwrap(), &name, SERVICE]);
        let null = std::process::Stdio::null;
        let mut up = up.stdout(null()).stderr(null()).spawn().unwrap();
        let within = u64::try_from(whole.as_micros()).unwrap().max(1);
        let moment = Duration::from_micros(crate::leaks::next_random(&mut random) % within);
        std::thread::sleep(moment);
        if up.try_wait().unwrap().is_some() {
            // It was faster: this lab is one that stays, and the next moments are earlier.
            whole = whole.min(moment);
            registry.open(&name).unwrap().down().unwrap();
            continue;
        }
        interrupted += 1;
        up.kill().unwrap();
        if round % 2 == 1 {
            for pid in crate::leaks::marked(&mark) {
                let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
                let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            }
        }
        up.wait().unwrap();
        let told = registry.open(&name);
        if round % 2 == 0
            && let Ok(lab) = told
            && lab.status().is_ok()
        {
            // The answer was on its way already.
            lab.down().unwrap();
        }
        crate::leaks::until(&format!("the end of round {round}"), || {
            crate::leaks::marked(&mark).is_empty()
        });
    }
    // The last holder may still be ending: until it has, its lab is not one that a crash has left.
    crate::leaks::until("a clean-up that leaves nothing", || {
        registry.clean().unwrap();
        !scratch.0.exists()
    });
    for round in 0..rounds.start {
        assert_eq!(
            names_of(&own(&format!("killed{round}"))),
            Vec::<String>::new()
        );
    }
}

/// A name under /run/netns that somebody else has made is no part of the lab, and stays when the lab is refused.
fn names_of_others_stay() {
    let scratch = Scratch::new("others");
    let foreign = PathBuf::from(format!("/run/netns/{}-b", own("others")));
    if std::fs::create_dir_all("/run/netns").is_err() || std::fs::write(&foreign, "").is_err() {
        return; // An ordinary user's names are in the holder's own mount namespace: nobody else's are there.
    }
    let (ok, text) = scratch.up(&own("others"), SERVICE);
    let stays = foreign.exists();
    std::fs::remove_file(&foreign).unwrap();
    assert!(!ok && text.contains("that name is taken"), "{text}");
    assert!(stays);
}
