//! `lisplab bench scale`: a lab of many LISP sites on one machine.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use conformance::decode::{self, Lisp};

use harness::bench::{ShapeFigures, memory, shape};
use harness::topology::Topology;
use harness::{Lab, LabError, LabOptions, NotSeen, Packet, Ping};
use lisp::wire::ControlMessage;
use serde::Serialize;

use crate::cli::lab::{Problem, finish, of_lab, services, topology_path};
use crate::cli::{Exit, print, print_json};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// LISP sites, each with an xTR and a host, around a core with a Map-Server/Map-Resolver.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=2000))]
    sites: u32,
    /// Sites of the sample; all pairs of their hosts ping each other.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=100))]
    sample: u32,
    /// Sites of the network that the other tools build as well; 0 leaves them out.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=2000))]
    compared: u32,
    /// Rounds of that comparison; medians are printed.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// For programs; see docs/formats.md.
    #[arg(long)]
    json: bool,
}

/// Times are milliseconds, memory is octets.
#[derive(Debug, Serialize)]
struct Figures {
    format: u32,
    sites: u32,
    nodes: usize,
    links: usize,
    programs: usize,
    /// Namespaces, links, addresses, routes.
    network_ms: f64,
    /// Until every program is ready.
    ready_ms: f64,
    /// Until all pairs of the sample have reached each other.
    reached_ms: f64,
    pairs: usize,
    /// Pairs that did not reach each other.
    lost: Vec<[String; 2]>,
    /// By how much the host's memory in use grew, per node, programs included.
    bytes_per_node: u64,
    /// The same network without programs, built by others as well.
    comparison: Option<ShapeFigures>,
}

pub(crate) fn run(args: &Args) -> Exit {
    finish(measure(args).map(|figures| {
        if args.json {
            print_json(&figures);
        } else {
            print(&text(&figures));
        }
        if figures.lost.is_empty() {
            Exit::Fine
        } else {
            Exit::Findings
        }
    }))
}

fn sites(count: u32) -> Result<Topology, Problem> {
    let parameters = [("sites".to_owned(), count.to_string())];
    Topology::load_with(topology_path("n-sites"), &parameters)
        .map_err(|error| (error.to_string(), Exit::Input))
}

fn measure(args: &Args) -> Result<Figures, Problem> {
    let mut topology = sites(args.sites)?;
    let compared = (args.compared > 0)
        .then(|| sites(args.compared))
        .transpose()?;
    let (services, ready_timeout) = services("lisplab", &mut topology)?;
    harness::host::enter().map_err(|error| (error.to_string(), Exit::Host))?;
    let lab_of = |error: LabError| of_lab(error);

    let before = memory();
    let began = Instant::now();
    // Where the Map-Server's answers pass, and nowhere else.
    for link in &mut topology.links {
        link.capture = link.end("msmr").is_some();
    }
    let lab = Lab::up(&topology, LabOptions::default()).map_err(lab_of)?;
    let network_ms = milliseconds(began);
    let mut running = Vec::with_capacity(services.len());
    for service in &services {
        let program = lab
            .spawn(&service.node, service.program.clone())
            .map_err(lab_of)?;
        running.push((program, service.ready.as_deref()));
    }
    for (program, ready) in &running {
        if let Some(ready) = ready {
            program
                .wait_log(ready, ready_timeout.max(Duration::from_secs(60)))
                .map_err(|error| (error.to_string(), Exit::Host))?;
        }
    }
    let ready_ms = milliseconds(began);
    let xtrs = topology
        .nodes
        .iter()
        .filter(|node| node.role.as_deref() == Some("xtr"));
    // How long the sites take to be registered is part of what is measured. If one is not, its pairs are lost.
    let _ = all_registered(&lab, xtrs.count());
    let hosts = sample(&topology, args.sites, args.sample);
    let (mut pairs, mut lost) = (0, Vec::new());
    for (from, _) in &hosts {
        for (to, address) in hosts.iter().filter(|(to, _)| to != from) {
            pairs += 1;
            if !reaches(&lab, from, *address).map_err(|error| (error, Exit::Host))? {
                lost.push([from.clone(), to.clone()]);
            }
        }
    }
    let reached_ms = milliseconds(began);
    let bytes_per_node = memory().saturating_sub(before) / topology.nodes.len() as u64;
    let figures = Figures {
        format: 1,
        sites: args.sites,
        nodes: topology.nodes.len(),
        links: topology.links.len(),
        programs: running.len(),
        network_ms,
        ready_ms,
        reached_ms,
        pairs,
        lost,
        bytes_per_node,
        comparison: None,
    };
    drop(running);
    lab.finish();
    let comparison = compared
        .map(|topology| shape(&topology, usize::from(args.rounds)))
        .transpose()
        .map_err(lab_of)?;
    Ok(Figures {
        comparison,
        ..figures
    })
}

/// Hosts spread over the sites, with their addresses.
fn sample(topology: &Topology, sites: u32, count: u32) -> Vec<(String, IpAddr)> {
    let count = count.min(sites);
    (0..count)
        .filter_map(|n| {
            let name = format!(
                "host-{}",
                1 + u64::from(n) * u64::from(sites) / u64::from(count)
            );
            let address = topology.addresses(&name).next()?.addr();
            Some((name, address))
        })
        .collect()
}

/// Waits until the Map-Server has confirmed a registration to each of the xTRs.
fn all_registered(lab: &Lab, xtrs: usize) -> Result<(), NotSeen> {
    let mut confirmed = BTreeSet::new();
    let last = |packet: &Packet| {
        let ip = decode::ethernet(&packet.data);
        let Some((ip, Lisp::Control { message, .. })) =
            ip.map(|ip| (ip.destination, decode::lisp(&ip)))
        else {
            return false;
        };
        if matches!(*message, ControlMessage::MapNotify(_)) {
            confirmed.insert(ip);
        }
        confirmed.len() == xtrs
    };
    let what = format!("Map-Notifies to {xtrs} xTRs");
    lab.wait_for(&what, Duration::from_secs(60), last).map(drop)
}

/// Whether one ping is answered: the xTR holds it until it knows where to.
fn reaches(lab: &Lab, from: &str, to: IpAddr) -> Result<bool, String> {
    let ping = Ping {
        timeout: Duration::from_secs(10),
        ..Ping::default()
    };
    match lab.ping(from, to, &ping) {
        Ok(_) => Ok(true),
        Err(harness::PingError::Lab(error)) => Err(error.to_string()),
        Err(_) => Ok(false),
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn text(figures: &Figures) -> String {
    let mut text = format!(
        "{} LISP sites: {} nodes, {} links, {} programs\n  network built     {:>8.0} ms\n  programs ready    {:>8.0} ms\n  sample reached    {:>8.0} ms ({} of {} pairs)\n  memory per node   {:>8.0} KiB, programs included\n",
        figures.sites,
        figures.nodes,
        figures.links,
        figures.programs,
        figures.network_ms,
        figures.ready_ms,
        figures.reached_ms,
        figures.pairs - figures.lost.len(),
        figures.pairs,
        figures.bytes_per_node as f64 / 1024.0,
    );
    for [from, to] in &figures.lost {
        text.push_str(&format!("  {from} did not reach {to}\n"));
    }
    let Some(comparison) = &figures.comparison else {
        return text;
    };
    text.push_str(&format!(
        "the same shape without programs, {} nodes, medians of {} rounds\n  {:<12} {:>10} {:>10} {:>14}\n",
        comparison.nodes, comparison.rounds, "", "build ms", "ours/it", "KiB per node"
    ));
    for tool in &comparison.tools {
        match (tool.build_ms, tool.ratio, tool.bytes_per_node) {
            (Some(build), Some(ratio), Some(bytes)) => text.push_str(&format!(
                "  {:<12} {build:>10.1} {ratio:>10.3} {:>14.0}\n",
                tool.tool,
                bytes as f64 / 1024.0
            )),
            _ => text.push_str(&format!(
                "  {:<12} not measured: {}\n",
                tool.tool,
                tool.missing.as_deref().unwrap_or("it does not run here")
            )),
        }
    }
    text
}
