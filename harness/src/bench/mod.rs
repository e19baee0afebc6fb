//! How fast labs are built, next to `ip -batch` and other tools doing the same in the same run.

mod rival;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::lab::{LabError, build, on_own_thread};
use crate::topology::Topology;
use rival::{Built, Rival};

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

/// What one topology took to build, ours and others. Times are milliseconds, memory is octets.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ShapeFigures {
    /// The topology's name.
    pub topology: String,
    /// Its nodes.
    pub nodes: usize,
    /// Its links.
    pub links: usize,
    /// Rounds, all tools taking turns; medians below.
    pub rounds: usize,
    /// Ours first.
    pub tools: Vec<ToolFigures>,
}

/// What a tool took.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ToolFigures {
    /// Its name.
    pub tool: String,
    /// Median; `None` if it cannot be measured here.
    pub build_ms: Option<f64>,
    /// Ours divided by it.
    pub ratio: Option<f64>,
    /// By how much the host's memory in use ([`memory`]) grew while the network stood, per node. What other processes took
    /// meanwhile is part of it.
    pub bytes_per_node: Option<u64>,
    /// Why a round of it was not measured, and what to install.
    pub missing: Option<String>,
    /// All rounds.
    pub rounds_ms: Vec<f64>,
}

/// Builds the nodes, links, addresses and routes of a topology, without programs, `rounds` times, and lets other tools do
/// the same in turn.
///
/// # Errors
/// The host forbids it.
pub fn shape(topology: &Topology, rounds: usize) -> Result<ShapeFigures, LabError> {
    let mut ours = Vec::new();
    let mut rivals: Vec<(Vec<Built>, Option<String>)> =
        Rival::ALL.iter().map(|_| (Vec::new(), None)).collect();
    for _ in 0..rounds.max(1) {
        settle(topology.nodes.len());
        let before = memory();
        let began = Instant::now();
        let networks = on_own_thread("bench", || build::build(topology, &|_| false))??;
        ours.push(Built {
            time: began.elapsed(),
            memory: memory().saturating_sub(before),
        });
        drop(networks);
        for (rival, (measured, missing)) in Rival::ALL.into_iter().zip(&mut rivals) {
            settle(topology.nodes.len());
            match on_own_thread("bench", || rival.build(topology))? {
                Ok(built) => measured.push(built),
                Err(problem) => *missing = Some(problem),
            }
        }
    }
    let of = |rounds: &[Built]| {
        let times: Vec<f64> = rounds
            .iter()
            .map(|built| milliseconds(built.time))
            .collect();
        let mut memory: Vec<u64> = rounds.iter().map(|built| built.memory).collect();
        memory.sort_unstable();
        let nodes = topology.nodes.len().max(1) as u64;
        (median(&times), memory[memory.len() / 2] / nodes, times)
    };
    let (ours_ms, ours_bytes, ours_rounds) = of(&ours);
    let mut tools = vec![ToolFigures {
        tool: "ours".to_owned(),
        build_ms: Some(ours_ms),
        ratio: Some(1.0),
        bytes_per_node: Some(ours_bytes),
        missing: None,
        rounds_ms: ours_rounds,
    }];
    for (rival, (measured, missing)) in Rival::ALL.into_iter().zip(rivals) {
        let figures = (!measured.is_empty()).then(|| of(&measured));
        tools.push(ToolFigures {
            tool: rival.name().to_owned(),
            build_ms: figures.as_ref().map(|(ms, _, _)| *ms),
            ratio: figures.as_ref().map(|(ms, _, _)| ours_ms / ms),
            bytes_per_node: figures.as_ref().map(|(_, bytes, _)| *bytes),
            missing,
            rounds_ms: figures.map(|(_, _, rounds)| rounds).unwrap_or_default(),
        });
    }
    Ok(ShapeFigures {
        topology: topology.name.clone(),
        nodes: topology.nodes.len(),
        links: topology.links.len(),
        rounds: rounds.max(1),
        tools,
    })
}

/// Octets of the host's memory that programs and the kernel hold and cannot give back: anonymous and shared pages, slabs,
/// per-processor areas, stacks, page tables. Caches are not part of it. 0 if it cannot be read.
pub fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let held = |line: &str| {
        let (name, amount) = line.split_once(':')?;
        let kinds = [
            "AnonPages",
            "Shmem",
            "SUnreclaim",
            "Percpu",
            "KernelStack",
            "PageTables",
        ];
        let kibibytes = amount.trim().strip_suffix(" kB")?.parse::<u64>().ok()?;
        kinds.contains(&name).then_some(kibibytes)
    };
    text.lines().filter_map(held).sum::<u64>() * 1024
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
