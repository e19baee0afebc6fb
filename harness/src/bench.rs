//! How fast labs are built, next to `ip -batch` doing the same in the same run.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::lab::{LabError, build, on_own_thread};
use crate::topology::Topology;

/// What building a network took. Times are milliseconds.
#[derive(Clone, Debug, serde::Serialize)]
pub struct BuildFigures {
    /// Nodes around the core.
    pub nodes: usize,
    /// Rounds, ours and `ip -batch` taking turns.
    pub rounds: usize,
    /// Ours, median: namespaces, links, addresses, routes, as below, and the settings that every node of a lab gets.
    /// (Switching transmit offloads off, which labs do, is not part of it, because `ip` cannot do it.)
    pub ours_ms: f64,
    /// `ip -batch`, median: namespaces, links made directly across them, addresses, routes.
    pub ip_batch_ms: f64,
    /// Ours divided by `ip -batch`.
    pub ratio_to_ip_batch: f64,
    /// Letting go of everything, ours, median. The kernel cleans up afterwards; nobody waits for it.
    pub teardown_ms: f64,
    /// All rounds of ours.
    pub ours_rounds_ms: Vec<f64>,
    /// All rounds of `ip -batch`.
    pub ip_batch_rounds_ms: Vec<f64>,
}

/// Builds `nodes` nodes around a core, `rounds` times, and lets `ip -batch` do the same in turn.
///
/// # Errors
/// The host forbids it, or has no `ip`.
pub fn build(nodes: usize, rounds: usize) -> Result<BuildFigures, LabError> {
    if !(1..=60_000).contains(&nodes) || rounds == 0 {
        return Err(LabError::usage(
            format!("{nodes} nodes in {rounds} rounds cannot be measured"),
            "give 1 to 60000 nodes and at least one round",
        ));
    }
    let topology = star(nodes)?;
    let (mut ours, mut theirs, mut teardown) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        settle(nodes);
        let began = Instant::now();
        let networks = on_own_thread("bench", || build::build(&topology, &|_| false))??;
        ours.push(milliseconds(began.elapsed()));
        let began = Instant::now();
        drop(networks);
        teardown.push(milliseconds(began.elapsed()));
        settle(nodes);
        let took = on_own_thread("bench", || ip_batch(nodes))?
            .map_err(|error| LabError::kernel("running `ip -batch`", error))?;
        theirs.push(milliseconds(took));
    }
    let (ours_ms, ip_batch_ms) = (median(&ours), median(&theirs));
    Ok(BuildFigures {
        nodes,
        rounds,
        ours_ms,
        ip_batch_ms,
        ratio_to_ip_batch: ours_ms / ip_batch_ms,
        teardown_ms: median(&teardown),
        ours_rounds_ms: ours,
        ip_batch_rounds_ms: theirs,
    })
}

/// The kernel frees namespaces in the background, one lock for all of them: lets it finish, so that neither of the two is
/// measured against the other's remains. Some 4 ms per namespace were seen.
fn settle(nodes: usize) {
    std::thread::sleep(Duration::from_millis(150 + 5 * nodes as u64));
}

fn subnet(node: usize) -> String {
    format!("10.{}.{}", node >> 8, node & 255)
}

/// The network that is built: hosts around a core, each with an address and a default route.
fn star(nodes: usize) -> Result<Topology, LabError> {
    let mut text = String::from("format: 1\nname: star\nnodes:\n  core: {kind: router}\n");
    let mut links = String::from("links:\n");
    for i in 0..nodes {
        let net = subnet(i);
        let _ = writeln!(
            text,
            "  n{i}: {{kind: host, routes: [{{to: default, via: {net}.1}}]}}"
        );
        let _ = writeln!(
            links,
            "  v{i}: {{offloads: true, ends: {{core: {{addresses: [{net}.1/24]}}, n{i}: {{interface: eth0, addresses: [{net}.2/24]}}}}}}"
        );
    }
    text.push_str(&links);
    Topology::parse("star", &text)
        .map_err(|error| LabError::usage(error.to_string(), "this is a mistake in the benchmark"))
}

/// The same with `ip -batch`. The calling thread gets a mount namespace of its own, which takes everything along when the
/// thread ends.
fn ip_batch(nodes: usize) -> io::Result<Duration> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none)?;
    std::fs::create_dir("/run/netns")?;
    let mut namespaces = String::from("netns add core\n");
    let mut core = String::from("link set lo up\n");
    for i in 0..nodes {
        let net = subnet(i);
        let _ = writeln!(namespaces, "netns add n{i}");
        let _ = writeln!(core, "link add v{i} type veth peer name eth0 netns n{i}");
        let _ = writeln!(core, "addr add {net}.1/24 dev v{i}\nlink set v{i} up");
    }
    let began = Instant::now();
    ip(&[], &namespaces)?;
    ip(&["-n", "core"], &core)?;
    for i in 0..nodes {
        let net = subnet(i);
        let node = format!(
            "link set lo up\naddr add {net}.2/24 dev eth0\nlink set eth0 up\nroute add default via {net}.1\n"
        );
        ip(&["-n", &format!("n{i}")], &node)?;
    }
    Ok(began.elapsed())
}

fn ip(arguments: &[&str], batch: &str) -> io::Result<()> {
    let mut child = Command::new("ip")
        .args(arguments)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(batch.as_bytes())?;
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("ip ended with {status}")));
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
