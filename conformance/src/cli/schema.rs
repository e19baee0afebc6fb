//! `lisplab schema`.

use super::{Exit, print};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "In a file, for editors with the YAML language server: # yaml-language-server: $schema=topology.schema.json"
)]
pub(crate) struct Args {
    /// Of what.
    #[arg(value_enum, default_value_t = Of::Topology)]
    of: Of,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Of {
    /// A topology file.
    Topology,
    /// A scenario file.
    Scenario,
}

pub(crate) fn run(args: &Args) -> Exit {
    match args.of {
        Of::Topology => print(harness::topology::SCHEMA),
        Of::Scenario => print(&super::json(&conformance::scenario::schema())),
    }
    Exit::Fine
}
