//! `lisplab graph`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use conformance::draw::Graph;
use harness::named::NamedLab;
use harness::topology::Topology;

use super::lab::{find, of_lab, parameter, topology_path};
use super::{Exit, complain, live};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A topology file, the name of a lab that is up (drawn with its map-caches and registrations), or the name of one of
    /// topologies/.
    #[arg(value_name = "TOPOLOGY|LAB")]
    topology: String,
    /// Values for the topology's parameters: sites=50.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// Mermaid text instead of SVG, for pages that render it.
    #[arg(long)]
    mermaid: bool,
    /// For programs: what the picture shows; see docs/formats.md.
    #[arg(long, conflicts_with = "mermaid")]
    json: bool,
    /// Write to this file instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Exit {
    let is_file = Path::new(&args.topology).is_file() || args.topology.contains(['/', '.']);
    let lab = if is_file {
        None
    } else {
        find(Some(&args.topology)).ok()
    };
    let graph = match lab {
        Some(lab) => match of_live(&lab) {
            Ok(graph) => graph,
            Err(error) => {
                let (problem, exit) = of_lab(error);
                return complain(problem, exit);
            }
        },
        None => {
            let path = topology_path(&args.topology);
            match Topology::load_with(&path, &args.parameters) {
                Ok(topology) => Graph::of(&topology, &BTreeMap::new()),
                Err(error) => return complain(error, Exit::Input),
            }
        }
    };
    let text = if args.mermaid {
        graph.mermaid()
    } else if args.json {
        super::json(&graph.record())
    } else {
        graph.svg()
    };
    match &args.output {
        None => {
            super::print(&text);
        }
        Some(file) => {
            if let Err(error) = std::fs::write(file, text) {
                return complain(
                    format!("cannot write the picture to {}: {error}", file.display()),
                    Exit::Input,
                );
            }
        }
    }
    Exit::Fine
}

fn of_live(lab: &NamedLab) -> Result<Graph, harness::LabError> {
    let topology = lab.topology()?;
    let status = lab.status()?;
    let mut facts = live::facts(lab, &status);
    for node in &status.nodes {
        for service in &node.services {
            if let Some(exit) = service.exit {
                let facts = facts.entry(node.name.clone()).or_default();
                facts.push(format!("{} ended: {exit}", service.name));
            }
        }
    }
    let mut graph = Graph::of(&topology, &facts);
    for (drawn, link) in graph.links.iter_mut().zip(&status.links) {
        let mut notes: Vec<String> = link
            .impair
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        // A seed alone damages nothing.
        if link.impair.iter().all(|(key, _)| key == "seed") {
            notes.clear();
        }
        drawn.impaired = !link.up || !notes.is_empty();
        if !link.up {
            notes.insert(0, "down".to_owned());
        }
        if !notes.is_empty() {
            drawn.note = notes.join(" ");
        }
    }
    Ok(graph)
}
