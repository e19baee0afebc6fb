//! Measures the data path against plain routing and kernel VXLAN, and the map-cache against a hash map.
//!
//! Figures are ratios of medians over interleaved rounds of one run: the machine's other work hits all designs alike.

mod chain;
mod dataplane;
mod forward;
mod load;
mod mapcache;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "xtr-bench", version, about)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Plain routing, kernel VXLAN and our data path over the same chain of namespaces, in turns.
    Dataplane(dataplane::Options),
    /// The map-cache with many prefixes against a hash map.
    MapCache(mapcache::Options),
    /// Forward with a fixed map-cache, in the network namespace in which this runs, until killed.
    Forward(forward::Forward),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().what {
        What::Dataplane(options) => dataplane::run(&options),
        What::MapCache(options) => mapcache::run(&options),
        What::Forward(forward) => forward.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("Error: {message}");
            ExitCode::from(3)
        }
    }
}
