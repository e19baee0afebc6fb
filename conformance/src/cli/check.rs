//! `lisplab check`.

use harness::topology::Topology;
use serde_json::json;

use super::lab::{parameter, topology_path};
use super::{Exit, complain, print, print_json};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Topology files, or names of topologies/.
    #[arg(required = true, value_name = "TOPOLOGY")]
    topologies: Vec<String>,
    /// Values for the topologies' parameters: sites=50.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Exit {
    let mut exit = Exit::Fine;
    let mut found = Vec::new();
    for topology in &args.topologies {
        let path = topology_path(topology);
        match Topology::load_with(&path, &args.parameters) {
            Ok(topology) if args.json => found.push(json!({
                "file": path,
                "fine": true,
                "name": topology.name,
                "nodes": topology.nodes.len(),
                "links": topology.links.len(),
            })),
            Ok(topology) => print(&format!(
                "{}: fine: {}, {} nodes, {} links\n",
                path.display(),
                topology.name,
                topology.nodes.len(),
                topology.links.len()
            )),
            Err(error) => {
                if args.json {
                    let error = error.to_string();
                    found.push(json!({"file": path, "fine": false, "error": error}));
                    exit = Exit::Input;
                } else {
                    exit = complain(error, Exit::Input);
                }
            }
        }
    }
    if args.json {
        print_json(&found);
    }
    exit
}
