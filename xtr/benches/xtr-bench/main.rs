//! Measures the data path against plain routing and kernel VXLAN, and the map-cache against a hash map.

mod forward;

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
    /// Forward with a fixed map-cache, in the network namespace in which this runs, until killed.
    Forward(forward::Forward),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().what {
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
