//! `lisplab check`.

use std::path::PathBuf;

use harness::topology::Topology;

use super::{Exit, complain};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Topology files.
    #[arg(required = true, value_name = "TOPOLOGY")]
    topologies: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Exit {
    let mut exit = Exit::Fine;
    for path in &args.topologies {
        match Topology::load(path) {
            Ok(topology) => super::print(&format!(
                "{}: fine: {}, {} nodes, {} links\n",
                path.display(),
                topology.name,
                topology.nodes.len(),
                topology.links.len()
            )),
            Err(error) => exit = complain(error, Exit::Input),
        }
    }
    exit
}
