//! What the host can do is tried out; rulesets of nodes are applied.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use harness::doctor::{examine, is_healthy};
use harness::{Lab, LabOptions, Ping, Topology};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

pub(crate) const TESTS: &[crate::Test] = &[
    ("doctor::the_host_is_examined", the_host_is_examined),
    ("doctor::rulesets_are_applied", rulesets_are_applied),
    (
        "doctor::containers_and_kernels_without_ipv6",
        containers_and_kernels_without_ipv6,
    ),
];

fn the_host_is_examined() {
    let findings = examine();
    for finding in &findings {
        println!("{finding:?}");
        assert!(!finding.detail.is_empty(), "{finding:?}");
    }
    // This test has a lab, so the doctor must find that labs work.
    assert!(is_healthy(&findings));
}

fn rulesets_are_applied() {
    if !examine()
        .iter()
        .any(|finding| finding.name == "nftables" && finding.works)
    {
        return;
    }
    let with = |rules: &str| {
        let text = format!(
            "format: 1\nname: t\nnodes:\n  a: {{kind: host}}\n  b:\n    kind: host\n    nftables: |\n      {rules}\nlinks:\n  ab: {{ends: {{a: {{addresses: [10.0.0.1/24]}}, b: {{addresses: [10.0.0.2/24]}}}}}}\n"
        );
        let topology = Topology::parse("t.yaml", &text).unwrap_or_else(|error| panic!("{error}"));
        Lab::up(&topology, LabOptions::default())
    };
    let lab = with("table inet t { chain c { type filter hook input priority 0; icmp type echo-request drop; }; }").unwrap();
    let ping = Ping {
        timeout: Duration::from_millis(200),
        ..Ping::default()
    };
    assert!(lab.ping("a", "10.0.0.2".parse().unwrap(), &ping).is_err());
    lab.ping("b", "10.0.0.1".parse().unwrap(), &Ping::default())
        .unwrap();
    let error = with("nonsense").err().unwrap();
    assert!(
        error.exit_code() == 2 && error.to_string().contains("node `b`: nft refused"),
        "{error}"
    );
}

fn containers_and_kernels_without_ipv6() {
    let output = crate::leaks::again("container", "container")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(
        output.status.success() && text.contains("all seen"),
        "{text}"
    );
}

/// A process that sees what one in a container does: settings of the kernel that are read-only; and then what one on a kernel
/// without IPv6 does.
pub(crate) fn play_container() -> ExitCode {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).unwrap();
    std::fs::write("/proc/self/setgroups", "deny").unwrap();
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
    let none = None::<&str>;
    let settings = "/proc/sys";
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(settings), settings, none, bind, none).unwrap();
    let hardened = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | hardened;
    mount(none, settings, none, read_only, none).unwrap();
    assert!(std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").is_err());

    let lab = Lab::up(&crate::leaks::topology(), LabOptions::default()).unwrap();
    let far = "10.0.1.2".parse().unwrap();
    lab.ping("r", far, &Ping::default()).unwrap();
    let writes = ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"];
    let written = lab.exec("a", writes, Duration::from_secs(10)).unwrap();
    assert!(written.exit.success(), "{}", written.stderr_text());
    drop(lab);
    assert!(
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").is_err(),
        "outside of the lab they stay read-only"
    );

    mount(
        Some("tmpfs"),
        "/proc/sys/net/ipv6",
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )
    .unwrap();
    assert!(!Path::new("/proc/sys/net/ipv6/conf").exists());
    let findings = examine();
    let of = |name: &str| {
        findings
            .iter()
            .find(|finding| finding.name == name)
            .unwrap()
    };
    assert!(is_healthy(&findings) && !of("IPv6").works, "{findings:?}");
    let lab = Lab::up(&crate::leaks::topology(), LabOptions::default()).unwrap();
    lab.ping("r", far, &Ping::default()).unwrap();
    drop(lab);
    let six = "format: 1\nname: six\nnodes: {a: {kind: host}}\nlinks: {}\n";
    let six = six.replace("host}", "host, loopback: ['fd00::1/128']}");
    let six = Topology::parse("six.yaml", &six).unwrap_or_else(|error| panic!("{error}"));
    let error = Lab::up(&six, LabOptions::default()).err().unwrap();
    assert!(
        error.exit_code() == 3 && error.to_string().contains("this kernel has no IPv6"),
        "{error}"
    );
    println!("all seen");
    ExitCode::SUCCESS
}
