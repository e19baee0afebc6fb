//! `lisplab check`.

use std::path::Path;

use harness::topology::Topology;
use serde_json::json;

use super::lab::{parameter, topology_path};
use super::{Exit, complain, print, print_json, say};

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
    let mut host = None;
    for topology in &args.topologies {
        let path = topology_path(topology);
        let file = path.display();
        let loaded =
            Topology::load_with(&path, &args.parameters).map_err(|error| error.to_string());
        let (problems, untried) = match &loaded {
            Err(problem) => (vec![problem.clone()], None),
            Ok(topology) => tried_out(&path, topology, &mut host),
        };
        let fine = problems.is_empty();
        if args.json {
            found.push(match &loaded {
                Ok(topology) if fine => json!({
                    "file": path,
                    "fine": true,
                    "name": topology.name,
                    "nodes": topology.nodes.len(),
                    "links": topology.links.len(),
                    "untried": untried,
                }),
                _ => json!({"file": path, "fine": false, "error": problems.join("\n")}),
            });
        } else if let (Ok(topology), true) = (&loaded, fine) {
            print(&format!(
                "{file}: fine: {}, {} nodes, {} links\n",
                topology.name,
                topology.nodes.len(),
                topology.links.len()
            ));
            if let Some(reason) = untried {
                say(&format!(
                    "{file}: nftables rules and files were not tried out: {reason}\n"
                ));
            }
        }
        if !fine {
            exit = Exit::Input;
        }
        if !args.json {
            for problem in problems {
                complain(problem, Exit::Input);
            }
        }
    }
    if args.json {
        print_json(&found);
    }
    exit
}

/// What this host would refuse of a right topology, and why it could not tell. `host` remembers whether it lets us try.
fn tried_out(
    path: &Path,
    topology: &Topology,
    host: &mut Option<Result<(), String>>,
) -> (Vec<String>, Option<String>) {
    if !topology.needs_rehearsal() {
        return (Vec::new(), None);
    }
    let host = host.get_or_insert_with(|| {
        harness::host::enter()
            .map(drop)
            .map_err(|error| error.to_string())
    });
    if let Err(reason) = host {
        return (Vec::new(), Some(reason.clone()));
    }
    let rehearsal = topology.rehearse();
    let file = path.display();
    let problems = rehearsal
        .problems
        .iter()
        .map(|(at, problem)| match (at.file, at.line) {
            (0, 1..) => format!("{file}:{at}: {problem}"),
            // In a file that it includes.
            _ => format!("{file}: {problem}"),
        });
    (
        problems.collect(),
        rehearsal.untried.map(|error| error.to_string()),
    )
}
