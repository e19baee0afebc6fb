//! The commands of a lab that stays, as a user types them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn lisplab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lisplab"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("lisplab starts")
}

/// Standard output of a command that must end with this exit code.
#[track_caller]
fn expect(code: i32, arguments: &[&str]) -> String {
    let output = lisplab(arguments);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(code),
        "lisplab {arguments:?}: {words}"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command prints for programs.
#[track_caller]
fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&expect(0, arguments)).expect("JSON")
}

#[track_caller]
fn refused(arguments: &[&str], words: &str) {
    let output = lisplab(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(2),
        "lisplab {arguments:?}: {said}"
    );
    assert!(said.contains(words), "lisplab {arguments:?}: {said}");
}

/// A lab that is taken down whatever happens.
struct Lab(String);

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = lisplab(&["down", &self.0]);
    }
}

/// None where namespaces are forbidden and the caller of the tests accepts that.
fn up(topology: &str, name: &str, more: &[&str]) -> Option<Lab> {
    let name = format!("{name}-{}", std::process::id());
    let mut arguments = vec!["up", topology, "--name", &name];
    arguments.extend(more);
    let output = lisplab(&arguments);
    if output.status.code() == Some(3) && std::env::var_os("LISPLAB_SKIP_WITHOUT_NETNS").is_some() {
        return None;
    }
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(Lab(name))
}

#[test]
fn a_network_is_looked_into_and_broken() {
    let Some(lab) = up("two-sites", "live", &[]) else {
        return;
    };
    let name = lab.0.as_str();
    let status = |program: &str| -> Value {
        let status: Value =
            serde_json::from_str(&expect(0, &["status", name, "--json"])).expect("JSON");
        let nodes = status["nodes"].as_array().expect("nodes").clone();
        nodes
            .into_iter()
            .find(|node| node["name"] == program)
            .expect("the node")["services"][0]
            .clone()
    };
    assert!(status("xtr-a")["exit"].is_null(), "it runs");

    // A capture of a link while a host reaches the other site.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("core.pcapng");
    let file = file.to_str().expect("a path");
    let captures: Vec<Child> = [
        &["core-a", "--count", "6"][..],
        &["core-a", "--count", "6", "--json"],
        &["--count", "12", "-w", file],
    ]
    .into_iter()
    .map(|arguments| {
        Command::new(env!("CARGO_BIN_EXE_lisplab"))
            .args([&["capture", "--lab", name], arguments].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("lisplab starts")
    })
    .collect();
    let seen = pings_until_they_end(name, captures);
    let (seen, records) = (&seen[0], &seen[1]);
    assert!(seen.contains("core-a: xtr-a -> core"), "{seen}");
    assert!(seen.contains("data [10.1.0.10 > 10.2.0.10"), "{seen}");
    let records: Vec<Value> = records
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    assert_eq!(records.len(), 6);
    let is_data = |record: &&Value| {
        let summary = record["summary"].as_str();
        summary.is_some_and(|text| text.contains("data [10.1.0.10 > 10.2.0.10"))
    };
    let data = records.iter().find(is_data).expect("a data packet");
    assert_eq!(
        [&data["link"], &data["from"], &data["to"]],
        ["core-a", "xtr-a", "core"]
    );
    assert!(data["octets"].as_u64() > Some(100) && data["time_ns"].is_u64());
    let fields = expect(0, &["dissect", file]);
    assert!(fields.contains("core-a@"), "{fields}");

    // The picture has what the routers know.
    let picture = expect(0, &["graph", name, "--mermaid"]);
    assert!(picture.contains("10.2.0.0/24 via 192.0.2.6"), "{picture}");
    assert!(
        picture.contains("registered 10.1.0.0/24 at 192.0.2.2"),
        "{picture}"
    );
    assert!(expect(0, &["graph", name]).starts_with("<svg"));
    let drawn = json(&["graph", name, "--json"]);
    let nodes = drawn["nodes"].as_array().expect("nodes");
    let router = nodes.iter().find(|node| node["name"] == "xtr-a");
    assert_eq!(router.expect("the node")["role"], "xTR");
    assert_eq!(
        router.expect("the node")["state"][0],
        "cached 10.2.0.0/24 via 192.0.2.6"
    );
    assert_eq!(drawn["links"][0]["ends"][0]["node"], "host-a");

    // A shell on a terminal, as it is used: with job control, and its exit code is the command's.
    let shell = format!(
        "SHELL=/bin/sh {} shell --lab {name} host-a",
        env!("CARGO_BIN_EXE_lisplab")
    );
    let mut terminal = Command::new("script")
        .args(["-qec", &shell, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script (util-linux) starts");
    let mut keys = terminal.stdin.take().expect("a pipe");
    keys.write_all(b"sleep 100 & kill %1; hostname; exit 5\n")
        .expect("it reads");
    let output = terminal.wait_with_output().expect("its end");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(5), "{shown}");
    assert!(
        shown
            .lines()
            .any(|line| line.trim_end().ends_with("host-a")),
        "{shown}"
    );

    // The routers' own commands are found inside.
    let cache = expect(
        0,
        &[
            "exec",
            "--lab",
            name,
            "xtr-a",
            "--",
            "xtr",
            "show",
            "map-cache",
            "--json",
        ],
    );
    assert!(cache.contains("10.2.0.0/24"), "{cache}");

    // Links.
    expect(
        0,
        &[
            "link",
            "--lab",
            name,
            "core-a",
            "set",
            "loss=100%",
            "dup=1%",
            "seed=7",
        ],
    );
    let link = expect(0, &["link", "--lab", name, "core-a"]);
    assert!(link.contains("loss=100% duplicate=1% seed=7"), "{link}");
    expect(1, &ping_b(name, "-W1"));
    expect(0, &["link", "--lab", name, "core-a", "set", "loss=none"]);
    expect(0, &ping_b(name, "-W2"));
    expect(0, &["link", "--lab", name, "site-b", "down"]);
    expect(1, &ping_b(name, "-W1"));
    expect(0, &["link", "--lab", name, "site-b", "up"]);
    refused(
        &["link", "--lab", name, "core-a", "set", "frob=1"],
        "unknown key `frob`",
    );
    refused(
        &["link", "--lab", name, "core-a", "set", "loss"],
        "WHAT=VALUE",
    );
    refused(
        &["link", "--lab", name, "nowhere", "down"],
        "site-a, site-b, core-a",
    );
    refused(
        &["capture", "--lab", name, "nowhere"],
        "site-a, site-b, core-a",
    );

    // Programs.
    expect(0, &["kill", "--lab", name, "xtr-a", "-9"]);
    assert!(!status("xtr-a")["exit"].is_null(), "it was killed");
    expect(0, &["restart", "--lab", name, "xtr-a"]);
    assert!(status("xtr-a")["exit"].is_null(), "it runs again");
    expect(0, &["kill", "xtr-a", "-HUP", "--lab", name]);
    let logs = expect(0, &["logs", "--lab", name, "xtr-a"]);
    assert!(logs.contains("==> xtr, start 2 <=="), "{logs}");
    let last = expect(0, &["logs", "--lab", name, "msmr", "-n", "1"]);
    assert_eq!(last.lines().count(), 1, "{last}");
    let lines = expect(0, &["logs", "--lab", name, "xtr-a", "--json"]);
    // It may have said more meanwhile.
    let last = logs.lines().last().expect("a line");
    let read = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
    let same = lines.lines().map(read).find(|line| line["line"] == last);
    let same = same.unwrap_or_else(|| panic!("{last} in {lines}"));
    assert_eq!(
        [&same["node"], &same["program"], &same["start"]],
        [&Value::from("xtr-a"), &Value::from("xtr"), &Value::from(2)]
    );
    refused(
        &["kill", "--lab", name, "xtr-a", "-WURST"],
        "expected a signal",
    );
    refused(&["restart", "--lab", name, "core"], "has no program");
    refused(
        &["logs", "--lab", name, "host-a"],
        "those that have: xtr-a, xtr-b, msmr",
    );
    refused(&["logs", "--lab", name, "nobody"], "the nodes are host-a");
    refused(&["exec", "--lab", name, "nobody", "--", "true"], "nobody");
    refused(&["up", "two-sites", "--name", name], "is up");

    let down = json(&["down", name, "--json"]);
    assert_eq!(down["down"], Value::from(vec![name]));
    refused(&["status", name], "no lab with the name");
}

/// The command that pings from one site to the other once; `patience` is the option that says how long.
fn ping_b<'a>(name: &'a str, patience: &'a str) -> [&'a str; 9] {
    [
        "exec",
        "--lab",
        name,
        "host-a",
        "--",
        "ping",
        "-c1",
        patience,
        "10.2.0.10",
    ]
}

/// Pings from one site to the other until all captures have what they wait for; what they print.
fn pings_until_they_end(name: &str, captures: Vec<Child>) -> Vec<String> {
    let reached = ping_b(name, "-W2");
    let mut captures = captures;
    let mut all_ended = false;
    for _ in 0..200 {
        expect(0, &reached);
        let mut ended = captures.iter_mut().map(Child::try_wait);
        all_ended = ended.all(|state| state.expect("a state").is_some());
        if all_ended {
            break;
        }
    }
    for child in &mut captures {
        let _ = child.kill();
    }
    assert!(all_ended, "a capture did not see 200 pings");
    let outputs = captures
        .into_iter()
        .map(|child| child.wait_with_output().expect("its output"));
    outputs
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .collect()
}

#[test]
fn what_a_crash_left_is_removed_by_name() {
    let Some(lab) = up("n-sites", "crash", &["--bare", "--set", "sites=1"]) else {
        return;
    };
    let name = lab.0.as_str();
    let status: Value =
        serde_json::from_str(&expect(0, &["status", name, "--json"])).expect("JSON");
    assert_eq!(
        status["nodes"].as_array().map(Vec::len),
        Some(4),
        "one site"
    );
    let holder = status["holder"].as_i64().expect("a process id");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(holder).expect("a process id"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("the holder dies");
    while nix::sys::signal::kill(pid, None).is_ok() && is_running(holder) {
        std::thread::yield_now();
    }
    // Another command may have cleaned up first; asking twice is the mistake.
    let first = lisplab(&["down", name]);
    assert!(matches!(first.status.code(), Some(0 | 2)));
    refused(&["down", name], "no lab with the name");
}

/// Whether a process is there and not only waits to be reaped.
fn is_running(pid: i64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z"))
    })
}

#[test]
fn an_example_is_written_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mine.yaml");
    let file = file.to_str().expect("a path");
    expect(0, &["init", file]);
    expect(0, &["check", file]);
    let found: Value = serde_json::from_str(&expect(0, &["check", "--json", file])).expect("JSON");
    assert_eq!(found[0]["nodes"], 6);
    refused(&["init", file], "is there already");
    assert!(Path::new(file).is_file());
    assert_eq!(
        expect(0, &["init"]),
        std::fs::read_to_string(file).expect("readable")
    );
}

#[test]
fn what_only_a_host_can_tell_is_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("host.yaml");
    let write = |priority: &str, path: &str| {
        let text = format!(
            "format: 1\nname: host\nnodes:\n  a: {{kind: host, files: {{{path}: text}}}}\n  b:\n    kind: host\n    nftables: |\n      table inet t {{ chain c {{ type filter hook input priority {priority}; iif \"ab\" accept; }}; }}\nlinks:\n  ab: {{ends: {{a: {{}}, b: {{}}}}}}\n"
        );
        std::fs::write(&file, text).expect("written");
    };
    let path = file.to_str().expect("a path");
    write("0", "/run/note");
    let found = json(&["check", "--json", path]);
    assert_eq!(found[0]["fine"], true);
    if found[0]["untried"].is_string() {
        return;
    }
    write("nonsense", "/etc/there-is-no-such-file");
    let output = lisplab(&["check", path]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("host.yaml:4:3: node `a`: writing /etc/there-is-no-such-file")
            && said.contains("host.yaml:5:3: node `b`: nft refused its rules"),
        "{said}"
    );
}

#[test]
fn schemas_and_completions_are_printed() {
    let schema: Value = serde_json::from_str(&expect(0, &["schema"])).expect("JSON");
    assert_eq!(schema["title"], "Topology");
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            expect(0, &["completion", shell]).contains("lisplab"),
            "{shell}"
        );
    }
    refused(&["graph", "topologies/none.yaml"], "cannot be read");
    refused(&["up", "no-such-topology"], "cannot be read");
    refused(&["up", "n-sites", "--set", "sites"], "NAME=VALUE");
    refused(
        &["check", "n-sites", "--set", "sits=2"],
        "did you mean `sites`?",
    );
}

#[test]
fn cases_are_listed_for_programs() {
    let listed = json(&[
        "test",
        "--list",
        "--case",
        "rfc6830::s5_3::pings*",
        "--json",
    ]);
    let cases = listed["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 1);
    assert_eq!(cases[0]["id"], "rfc6830::s5_3::pings_cross_the_tunnel");
    assert!(cases[0]["requirements"][0].is_string() && cases[0]["roles"][0] == "itr");
}

#[test]
fn poor_programs_are_counted_for_programs() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = lisplab(&[
        "poor",
        "--kind",
        "silent",
        "--case",
        "rfc6833::s4_2::wrong_key_is_not_notified",
        "--json",
        "--out",
        folder.path().to_str().expect("a path"),
    ]);
    if output.status.code() == Some(3) && std::env::var_os("LISPLAB_SKIP_WITHOUT_NETNS").is_some() {
        return;
    }
    let record: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let program = &record["programs"][0];
    assert_eq!(program["program"], "silent");
    assert_eq!(
        (&program["cases"], &program["refused"]),
        (&1.into(), &1.into())
    );
    assert_eq!(program["passed"], Value::Array(Vec::new()));
}

#[test]
fn the_doctor_says_whether_labs_run() {
    let output = lisplab(&["doctor", "--json"]);
    match output.status.code() {
        Some(0) => {
            let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!(found["healthy"], true);
        }
        Some(3) => {}
        other => panic!("{other:?}"),
    }
}
