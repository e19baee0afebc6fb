//! What this host can do, tried out rather than guessed, and what to change where it cannot.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::capture::{Capture, Interface, Tap};
use crate::host::check_tun;
use crate::lab::{Clock, Lab, LabError, LabOptions, on_own_thread};
use crate::sys::netlink::Netlink;
use crate::sys::netns::Namespace;
use crate::topology::Topology;

/// How much something is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// No lab without it.
    Required,
    /// Some topologies or programs need it.
    Useful,
    /// The harness does without it, or has a replacement; programs under test may want it.
    Optional,
}

/// Something that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What.
    pub name: String,
    /// How much it is needed.
    pub need: Need,
    /// Whether it works.
    pub works: bool,
    /// What was seen.
    pub detail: String,
    /// What to do if it does not work, or what is used instead.
    pub remedy: Option<String>,
}

/// Tries everything. Call it after [`crate::host::enter`]; what is made for it is gone when it returns.
pub fn examine() -> Vec<Finding> {
    let mut findings = vec![kernel(), processors(), open_files()];
    findings.push(lab());
    findings.push(tun());
    findings.push(ebpf());
    findings.push(ipv6());
    findings.push(captures());
    findings.push(program_in_namespace());
    findings.push(nftables());
    for (kind, instead) in [
        (
            "bridge",
            "needed by topologies with nodes of kind bridge: modprobe bridge",
        ),
        (
            "dummy",
            "addresses can be put on `lo` (`loopback:` in a topology)",
        ),
        (
            "vrf",
            "use one node per routing table, or `rules:` in a topology",
        ),
        ("gre", "the harness needs no tunnels of its own"),
        ("vxlan", "the harness needs no tunnels of its own"),
    ] {
        findings.push(interface_kind(kind, instead));
    }
    findings.push(netem());
    findings
}

/// Whether everything that is required works.
pub fn is_healthy(findings: &[Finding]) -> bool {
    findings
        .iter()
        .all(|finding| finding.works || finding.need != Need::Required)
}

fn finding(name: &str, need: Need, result: Result<String, String>, remedy: &str) -> Finding {
    let works = result.is_ok();
    Finding {
        name: name.to_owned(),
        need,
        works,
        detail: result.unwrap_or_else(|detail| detail),
        remedy: (!works && !remedy.is_empty()).then(|| remedy.to_owned()),
    }
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // pidfd_open came with 5.3, close_range with 5.9, CLOSE_RANGE_CLOEXEC with 5.11.
    let result = if version >= (5, 11) {
        Ok(format!("Linux {release}"))
    } else {
        Err(format!("Linux {release}, expected 5.11 or later"))
    };
    finding("kernel", Need::Required, result, "boot a newer kernel")
}

fn processors() -> Finding {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    finding("processors", Need::Useful, Ok(count.to_string()), "")
}

fn open_files() -> Finding {
    use nix::sys::resource::{Resource, getrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
    let result = if hard >= 4096 {
        Ok(format!("{soft}, can be raised to {hard}"))
    } else {
        Err(format!("{soft} of at most {hard}"))
    };
    let remedy =
        "a lab of N nodes holds about 4 N descriptors: raise the limit (ulimit -Hn, LimitNOFILE=)";
    finding("open files", Need::Useful, result, remedy)
}

/// A whole lab of two nodes, with a program in it.
fn lab() -> Finding {
    let text = "format: 1\nname: doctor\nnodes: {a: {kind: host}, b: {kind: host}}\nlinks: {ab: {ends: {a: {addresses: [192.0.2.1/30]}, b: {addresses: [192.0.2.2/30]}}}}\n";
    let result = Topology::parse("doctor", text)
        .map_err(|error| error.to_string())
        .and_then(|topology| {
            let options = LabOptions {
                capture: false,
                ..LabOptions::default()
            };
            let lab = Lab::up(&topology, options).map_err(|error| error.to_string())?;
            let limit = std::time::Duration::from_secs(5);
            lab.exec("a", ["true"], limit)
                .map_err(|error| error.to_string())?;
            Ok("namespaces, links, a program in a node".to_owned())
        });
    finding("labs", Need::Required, result, "see the message")
}

fn tun() -> Finding {
    let result = check_tun().map(|()| "/dev/net/tun can be opened".to_owned());
    let result = result.map_err(|error| error.what);
    let remedy =
        "programs with TUN devices need it: as root, modprobe tun; chmod 0666 /dev/net/tun";
    finding("TUN", Need::Useful, result, remedy)
}

fn ebpf() -> Finding {
    let result = in_namespace(|| Ok(crate::sys::bpf::try_out())).and_then(|tried| {
        tried.map_err(|error| format!("programs cannot be loaded or attached (TCX): {error}"))
    });
    let result = result.map(|()| "programs can be loaded and attached (TCX)".to_owned());
    let remedy = "routers then forward by other means: fast paths in eBPF need root outside of user namespaces \
                  (CAP_BPF and CAP_NET_ADMIN in a container), and Linux 6.6";
    finding("eBPF", Need::Optional, result, remedy)
}

fn ipv6() -> Finding {
    let result = if crate::host::has_ipv6() {
        Ok("yes".to_owned())
    } else {
        Err("this kernel has none".to_owned())
    };
    let remedy =
        "topologies with IPv6 need it: boot without ipv6.disable=1; topologies with IPv4 only work";
    finding("IPv6", Need::Useful, result, remedy)
}

/// Runs something inside a new network namespace.
fn in_namespace<T: Send>(work: impl FnOnce() -> Result<T, LabError> + Send) -> Result<T, String> {
    on_own_thread("doctor", || {
        Namespace::unshare()
            .map_err(|error| LabError::kernel("making a network namespace", error))?;
        work()
    })
    .and_then(|result| result)
    .map_err(|error| error.to_string())
}

fn captures() -> Finding {
    let result = in_namespace(|| {
        let namespace =
            Namespace::current().map_err(|error| LabError::kernel("opening a namespace", error))?;
        let tap = Tap {
            interface: std::sync::Arc::new(Interface {
                name: "lo".to_owned(),
                link: "lo".to_owned(),
                near: String::new(),
                far: String::new(),
                link_type: 1,
            }),
            namespace,
            index: 1,
            large: true,
        };
        let mut capture = Capture::start(vec![tap], Clock::start(), 1 << 20)
            .map_err(|error| LabError::kernel("opening a TPACKET_V3 ring", error))?;
        capture.finish();
        Ok("TPACKET_V3 rings".to_owned())
    });
    finding(
        "captures",
        Need::Required,
        result,
        "the kernel needs CONFIG_PACKET: modprobe af_packet",
    )
}

fn program_in_namespace() -> Finding {
    let result = match Command::new("ip").arg("-V").stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok("ip".to_owned()),
        Ok(status) => Err(format!("`ip -V` ended with {status}")),
        Err(error) => Err(format!("`ip`: {error}")),
    };
    let remedy = "only the benchmark against `ip -batch` needs it: install iproute2";
    finding("iproute2", Need::Optional, result, remedy)
}

fn nftables() -> Finding {
    let rules = "table inet doctor { chain c { type filter hook input priority 0; }; }\n";
    let result =
        in_namespace(|| apply_nftables("doctor", rules)).map(|()| "nft, in a namespace".to_owned());
    let remedy =
        "topologies with `nftables:` need it: install nftables; the kernel needs CONFIG_NF_TABLES";
    finding("nftables", Need::Useful, result, remedy)
}

/// Gives a ruleset to `nft` in the calling thread's namespace.
pub(crate) fn apply_nftables(node: &str, rules: &str) -> Result<(), LabError> {
    let unsupported = |error: std::io::Error| LabError::Unsupported {
        what: format!("node `{node}` has nftables rules, and `nft` cannot be run: {error}"),
        remedy: "install nftables, or leave `nftables:` out".to_owned(),
    };
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(unsupported)?;
    if let Some(mut input) = child.stdin.take() {
        // An `nft` that ends early says why on its error output.
        let _ = input.write_all(rules.as_bytes());
    }
    let output = child.wait_with_output().map_err(unsupported)?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LabError::usage(
        format!("node `{node}`: nft refused its rules: {words}"),
        "correct `nftables:` in the topology (lines count from its first)",
    ))
}

fn interface_kind(kind: &'static str, instead: &str) -> Finding {
    let result = in_namespace(|| {
        let failed = |error| LabError::kernel("opening a netlink socket", error);
        let mut netlink = Netlink::open().map_err(failed)?;
        netlink.add_kind("probe", kind, format!("making an interface of kind {kind}"))?;
        netlink.flush()?;
        Ok("yes".to_owned())
    });
    let need = if kind == "bridge" {
        Need::Useful
    } else {
        Need::Optional
    };
    finding(kind, need, result, instead)
}

fn netem() -> Finding {
    let result = in_namespace(|| {
        let tc = Command::new("tc")
            .args(["qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"])
            .output()
            .map_err(|error| LabError::kernel("running `tc`", error))?;
        if tc.status.success() {
            return Ok("yes".to_owned());
        }
        let words = String::from_utf8_lossy(&tc.stderr).trim().to_owned();
        Err(LabError::usage(words, ""))
    });
    let result = result.map_err(|words| words.lines().next().unwrap_or_default().to_owned());
    finding(
        "netem",
        Need::Optional,
        result,
        "not needed: damaged links are relayed in userspace (`impair:`)",
    )
}
