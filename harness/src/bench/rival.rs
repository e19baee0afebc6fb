//! One network built by other tools: `ip -batch`, mininet, munet. Whatever they leave ends with the namespaces that they run in.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use super::memory;
use crate::topology::{NodeKind, RouteAction, Topology};

/// What building took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Built {
    pub(super) time: Duration,
    /// Octets of the host's memory while the network stood.
    pub(super) memory: u64,
}

/// A tool that builds networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rival {
    IpBatch,
    Mininet,
    Munet,
}

impl Rival {
    pub(super) const ALL: [Rival; 3] = [Rival::IpBatch, Rival::Mininet, Rival::Munet];

    pub(super) fn name(self) -> &'static str {
        match self {
            Rival::IpBatch => "ip -batch",
            Rival::Mininet => "mininet",
            Rival::Munet => "munet",
        }
    }

    /// Builds the topology's nodes, links, addresses and routes. Call it on a thread of its own: it stays in namespaces
    /// that are made for it, and all that was built ends with them.
    ///
    /// # Errors
    /// Why it cannot be measured here, with what to install.
    pub(super) fn build(self, topology: &Topology) -> Result<Built, String> {
        private().map_err(|error| format!("namespaces of its own: {error}"))?;
        match self {
            Rival::IpBatch => ip_batch(topology).map_err(|error| {
                format!("running `ip -batch`: {error}; Debian's package is iproute2")
            }),
            Rival::Mininet => script(
                include_str!("mininet.py"),
                topology,
                "apt-get install mininet",
            ),
            Rival::Munet => script(include_str!("munet.py"), topology, "pip install munet"),
        }
    }
}

/// A network namespace without links, as these tools make cables in the namespace that they run in, and a /run of its own.
fn private() -> io::Result<()> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    for folder in ["/run", "/tmp"] {
        mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), none)?;
    }
    std::fs::create_dir("/run/netns")
}

fn ip_batch(topology: &Topology) -> io::Result<Built> {
    let mut namespaces = String::new();
    let mut inside: Vec<String> = Vec::new();
    for node in &topology.nodes {
        let _ = writeln!(namespaces, "netns add {}", node.name);
        let mut batch = String::from("link set lo up\n");
        for link in topology
            .links
            .iter()
            .filter(|link| link.end(&node.name) == Some(0))
        {
            let [here, there] = &link.ends;
            let _ = writeln!(
                batch,
                "link add {} type veth peer name {} netns {}",
                here.interface, there.interface, there.node
            );
        }
        inside.push(batch);
    }
    let mut configured: Vec<String> = Vec::new();
    for node in &topology.nodes {
        let mut batch = String::new();
        for (_, end, _) in topology.interfaces(&node.name) {
            for address in &end.addresses {
                let _ = writeln!(batch, "addr add {address} dev {}", end.interface);
            }
            let _ = writeln!(batch, "link set {} up", end.interface);
        }
        for (to, via) in routes(topology, &node.name) {
            let _ = writeln!(batch, "route add {to} via {via}");
        }
        configured.push(batch);
    }
    let before = memory();
    let began = Instant::now();
    super::ip(&[], &namespaces)?;
    for batches in [&inside, &configured] {
        for (node, batch) in topology.nodes.iter().zip(batches) {
            super::ip(&["-n", &node.name], batch)?;
        }
    }
    let time = began.elapsed();
    Ok(Built {
        time,
        memory: memory().saturating_sub(before),
    })
}

/// Destination and next hop of a node's routes.
fn routes<'a>(
    topology: &'a Topology,
    node: &str,
) -> impl Iterator<Item = (String, String)> + use<'a> {
    let node = topology.node(node);
    node.into_iter()
        .flat_map(|node| &node.routes)
        .filter_map(|route| match route.action {
            RouteAction::Forward { via: Some(via), .. } => {
                Some((route.to.to_string(), via.to_string()))
            }
            _ => None,
        })
}

/// Runs a Python program that builds the network given as JSON, says `up MILLISECONDS`, and ends at the end of its input.
fn script(program: &str, topology: &Topology, install: &str) -> Result<Built, String> {
    let before = memory();
    let mut command = Command::new("python3");
    command
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Its shells and daemons end with its PID namespace, which ends with this thread's child.
    let prepare = || {
        let none = None::<&str>;
        mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?;
        Ok(())
    };
    // SAFETY: one system call, which allocates nothing that outlives it.
    unsafe { command.pre_exec(prepare) };
    unshare(CloneFlags::CLONE_NEWPID).map_err(|error| format!("a PID namespace: {error}"))?;
    let mut child = command.spawn().map_err(|error| {
        format!("python3 cannot be started: {error}; install Python 3, then: {install}")
    })?;
    let mut input = child.stdin.take();
    let mut said = String::new();
    let sent = input
        .as_mut()
        .map_or(Ok(()), |input| writeln!(input, "{}", describe(topology)));
    if sent.is_ok()
        && let Some(output) = child.stdout.take()
    {
        let _ = BufReader::new(output).read_line(&mut said);
    }
    let used = memory().saturating_sub(before);
    drop(input);
    // Its own tearing down would take long and proves nothing: the PID namespace takes everything along.
    let _ = child.kill();
    let output = child
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    let milliseconds: Option<f64> = said
        .strip_prefix("up ")
        .and_then(|text| text.trim().parse().ok());
    match milliseconds {
        Some(milliseconds) => Ok(Built {
            time: Duration::from_secs_f64(milliseconds / 1e3),
            memory: used,
        }),
        None => {
            let words = String::from_utf8_lossy(&output.stderr);
            let last = words.lines().last().unwrap_or("it said nothing").trim();
            Err(format!("{last}; if it is missing: {install}"))
        }
    }
}

fn describe(topology: &Topology) -> Value {
    let nodes: Vec<Value> = topology
        .nodes
        .iter()
        .map(|node| {
            json!({
                "name": node.name,
                "forwards": node.kind == NodeKind::Router,
                "routes": routes(topology, &node.name).collect::<Vec<_>>(),
            })
        })
        .collect();
    let links: Vec<Value> = topology
        .links
        .iter()
        .map(|link| {
            let end = |end: &crate::topology::End| {
                json!({
                    "node": end.node,
                    "interface": end.interface,
                    "addresses": end.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
                })
            };
            json!([end(&link.ends[0]), end(&link.ends[1])])
        })
        .collect();
    json!({"nodes": nodes, "links": links})
}
