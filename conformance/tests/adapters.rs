//! Adapters, as somebody who writes one meets them: small programs of every temper, run by `lisplab test`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// One ETR under test; all else are scripted peers.
const ONE_BOX: &str = "rfc6830::s6_1_6::map_registers_to_several_map_servers";
/// Two sites with a program each.
const TWO_SITES: &str = "rfc6830::s5_3::pings_cross_the_tunnel";

/// An adapter `fake.yaml` whose xTR is a shell script, and what a run with it left.
struct Fake {
    folder: tempfile::TempDir,
}

impl Fake {
    /// `keys` are those of the program besides binary and arguments; `script` is what it does.
    fn new(script: &str, keys: &str) -> Fake {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("script.sh.j2"), script).unwrap();
        let adapter = format!(
            "format: 1\nname: fake\nfeatures: [auth, ms, mr]\nversion: [/bin/sh, -c, 'echo fake 7; echo second line']\n\
             programs:\n  xtr:\n    roles: [itr, etr]\n    binary: /bin/sh\n    arguments: [/run/node/script.sh]\n    \
             files: {{/run/node/script.sh: script.sh.j2}}\n{}\n",
            keys.lines()
                .map(|line| format!("    {}\n", line.trim()))
                .collect::<String>()
        );
        std::fs::write(folder.path().join("fake.yaml"), adapter).unwrap();
        Fake { folder }
    }

    fn adapter(&self) -> PathBuf {
        self.folder.path().join("fake.yaml")
    }

    fn run(&self, case: &str) -> Ran {
        // Ours where the topology has other roles.
        let output = lisplab(&[
            "test",
            "--implementation",
            &format!("xtr={}", self.adapter().display()),
            "--case",
            case,
            "--out",
            &self.folder.path().join("out").display().to_string(),
        ]);
        let results = std::fs::read_to_string(self.folder.path().join("out/results.json"));
        let results = results.unwrap_or_else(|_| panic!("no results: {}", text(&output)));
        let results: serde_json::Value = serde_json::from_str(&results).unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let evidence = results["cases"][0]["evidence"]
            .as_str()
            .map(|name| self.folder.path().join("out").join(name));
        Ran { results, evidence }
    }
}

struct Ran {
    results: serde_json::Value,
    evidence: Option<PathBuf>,
}

impl Ran {
    /// Asserts one `untestable`, for a reason with all these words, and not a string of failures.
    fn untestable(&self, words: &[&str]) {
        let case = &self.results["cases"][0];
        assert_eq!(case["verdict"], "untestable", "{case:#}");
        let reason = case["reason"].as_str().unwrap_or_default();
        for word in words {
            assert!(reason.contains(word), "{word:?} in {reason}");
        }
        let requirements = case["requirements"].as_array().unwrap();
        assert!(
            requirements.iter().all(|row| row["verdict"] != "fail"),
            "{case:#}"
        );
    }

    fn took_ms(&self) -> u64 {
        self.results["cases"][0]["duration_ms"].as_u64().unwrap()
    }

    /// Asserts that the program counted as ready, and was then found to be no ETR.
    fn got_ready(&self) {
        let case = &self.results["cases"][0];
        let reason = case["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("not seen within"), "{case:#}");
    }

    fn evidence(&self, name: &str) -> String {
        let file = self
            .evidence
            .as_ref()
            .expect("there is evidence")
            .join(name);
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }
}

fn lisplab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lisplab"))
        .args(arguments)
        .output()
        .expect("lisplab can be started")
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Where namespaces are forbidden and that is accepted, nothing can be tested here.
fn no_labs_here() -> bool {
    std::env::var_os("LISPLAB_SKIP_WITHOUT_NETNS").is_some_and(|value| value == "1")
        && lisplab(&["test", "--case", ONE_BOX, "--out", "/dev/null/x"])
            .status
            .code()
            == Some(3)
}

const READY: &str = "ready: {log: ready, within: 10s}";

#[test]
fn a_program_that_is_not_there_is_untestable_at_once() {
    if no_labs_here() {
        return;
    }
    let fake = Fake::new("", READY);
    let adapter = std::fs::read_to_string(fake.adapter()).unwrap();
    std::fs::write(
        fake.adapter(),
        adapter.replace("binary: /bin/sh", "binary: /no/such/mine-xtr"),
    )
    .unwrap();
    let ran = fake.run(ONE_BOX);
    ran.untestable(&["/no/such/mine-xtr", "there is no program"]);
    assert!(ran.took_ms() < 5_000, "nothing is waited for");
}

#[test]
fn a_program_that_dies_shows_its_last_lines() {
    if no_labs_here() {
        return;
    }
    let before = Fake::new("echo cannot parse line 7 >&2; exit 3", READY);
    before.run(ONE_BOX).untestable(&[
        "did not get ready",
        "it ended: exit code 3",
        "cannot parse line 7",
    ]);
    let after = Fake::new(
        "echo ready; sleep 0.3; echo out of memory; kill -SEGV $$",
        READY,
    );
    after
        .run(ONE_BOX)
        .untestable(&["ended by itself", "out of memory"]);
}

#[test]
fn a_program_that_never_gets_ready_is_given_its_time_and_no_more() {
    if no_labs_here() {
        return;
    }
    let fake = Fake::new(
        "echo still loading; exec sleep 60",
        "ready: {log: ready, within: 700ms}",
    );
    let ran = fake.run(ONE_BOX);
    ran.untestable(&["no line with \"ready\" within 700ms", "still loading"]);
    assert!((700..10_000).contains(&ran.took_ms()));
}

#[test]
fn readiness_is_a_line_of_a_log_file_or_a_port_or_a_packet() {
    if no_labs_here() {
        return;
    }
    // Each gets past its readiness, and is then found to be no ETR.
    let logs = Fake::new(
        "exec >/var/run/fake.log 2>&1; echo loading; echo now ready; exec sleep 60",
        "ready: {log: now ready, within: 10s}\nlog-file: /var/run/fake.log",
    );
    let ran = logs.run(ONE_BOX);
    ran.got_ready();
    assert_eq!(ran.evidence("xtr_var_run_fake.log"), "loading\nnow ready\n");
    let late = Fake::new(
        "exec >/var/run/fake.log 2>&1; echo loading; exec sleep 60",
        "ready: {port: 4342, within: 1s}\nlog-file: /var/run/fake.log",
    );
    late.run(ONE_BOX).untestable(&[
        "did not get ready",
        "no socket on UDP or TCP port 4342",
        "/var/run/fake.log:\nloading",
    ]);
    let poor = env!("CARGO_BIN_EXE_lisplab");
    let opens = Fake::new(
        &format!("exec {poor} poor-program silent"),
        "ready: {port: 4342, within: 10s}",
    );
    opens.run(ONE_BOX).got_ready();
    let mute = Fake::new("exec sleep 60", "ready: {packet: true, within: 1s}");
    mute.run(ONE_BOX)
        .untestable(&["no control message within 1s"]);
}

#[test]
fn kernel_settings_private_folders_and_the_end_are_as_the_adapter_says() {
    if no_labs_here() {
        return;
    }
    // Both routers use the same fixed names, refuse to start where they exist, and do not hear SIGINT.
    let fake = Fake::new(
        "trap '' INT\nset -C\nfor name in /tmp/fake.pid /run/fake.pid /var/run/fake.sock /var/tmp/fake.db; do\n  \
         : >$name || { echo \"$name is there\"; exit 1; }\ndone\n\
         cat /proc/sys/net/ipv4/conf/all/rp_filter /proc/sys/net/ipv4/tcp_fin_timeout\n\
         echo $COLOUR of {{ node }}\necho ready\nwhile :; do sleep 1; done\n",
        "ready: {log: ready, within: 10s}\nstop: {signal: SIGINT, within: 300ms}\nenvironment: {COLOUR: 'blue {{ node }}'}\n\
         sysctls: {net.ipv4.conf.all.rp_filter: '2', net.ipv4.tcp_fin_timeout: '17'}",
    );
    // Fixed paths that the host has already do no harm either.
    let ran = fake.run(TWO_SITES);
    for node in ["xtr-a", "xtr-b"] {
        let log = ran.evidence(&format!("{node}.log"));
        let name = ran.evidence(&format!("{node}_run_node_script.sh"));
        assert_eq!(log, format!("2\n17\nblue {node} of {node}\nready\n"));
        assert!(
            name.contains(&format!("of {node}")),
            "rendered files are kept"
        );
    }
    assert!(!Path::new("/var/tmp/fake.db").exists());
    let trace: serde_json::Value = serde_json::from_str(&ran.evidence("trace.json")).unwrap();
    let ends: Vec<String> = trace["processes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|process| process["name"].as_str().unwrap().starts_with("xtr"))
        .map(|process| process["exit"].to_string())
        .collect();
    assert_eq!(ends.len(), 2, "{trace:#}");
    assert!(
        ends.iter().all(|end| end.contains('9')),
        "by SIGKILL: {ends:?}"
    );
}

#[test]
fn the_version_is_the_first_line_and_a_silent_command_is_not_waited_for() {
    if no_labs_here() {
        return;
    }
    let fake = Fake::new("exit 1", READY);
    let ran = fake.run(ONE_BOX);
    let version = ran.results["version"].as_str().unwrap();
    assert!(version.ends_with("fake 7"), "{version}");
    let adapter = std::fs::read_to_string(fake.adapter()).unwrap();
    std::fs::write(
        fake.adapter(),
        adapter.replace("'echo fake 7; echo second line'", "'sleep 60'"),
    )
    .unwrap();
    assert!(
        !fake.run(ONE_BOX).results["version"]
            .to_string()
            .contains("fake")
    );
}

#[test]
fn a_feature_that_is_not_claimed_is_skipped_by_its_name() {
    if no_labs_here() {
        return;
    }
    let fake = Fake::new("exec sleep 60", READY);
    let output = lisplab(&[
        "test",
        "--implementation",
        &format!("xtr={}", fake.adapter().display()),
        "--case",
        "rfc6830::s6_3_2::probe_reply_names_the_probed_locator",
        "--out",
        &fake.folder.path().join("out").display().to_string(),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(
        text(&output).contains("does not claim the feature rloc-probe"),
        "{}",
        text(&output)
    );
}
