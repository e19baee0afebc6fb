//! `lisplab graph`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use conformance::draw::Graph;
use harness::topology::Topology;

use super::Exit;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topology file.
    topology: PathBuf,
    /// Mermaid text instead of SVG, for pages that render it.
    #[arg(long)]
    mermaid: bool,
    /// Write to this file instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Exit {
    let topology = match Topology::load(&args.topology) {
        Ok(topology) => topology,
        Err(error) => return super::complain(error, Exit::Input),
    };
    let graph = Graph::of(&topology, &BTreeMap::new());
    let text = if args.mermaid {
        graph.mermaid()
    } else {
        graph.svg()
    };
    match &args.output {
        None => super::print(&text),
        Some(file) => {
            if let Err(error) = std::fs::write(file, text) {
                return super::complain(
                    format!("cannot write the picture to {}: {error}", file.display()),
                    Exit::Input,
                );
            }
        }
    }
    Exit::Fine
}
