//! Measures `msmr` next to a bare UDP echo and prints JSON.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use daemon::{Failure, exit};
use msmr::bench::{Options, run};

#[global_allocator]
static MEMORY: msmr::memory::LargePages = msmr::memory::LargePages;

/// Measures the Map-Server next to a bare UDP echo of the same size and batching, in a network namespace of its own, and
/// prints the result as JSON.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Registered prefixes of the largest table.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(100..=16_000_000))]
    prefixes: u32,
    /// Milliseconds of one measurement.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    slice: u64,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=99))]
    rounds: u8,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    exit::run("msmr-bench", || {
        let report = run(Options {
            slice: Duration::from_millis(cli.slice),
            rounds: usize::from(cli.rounds),
            prefixes: cli.prefixes as usize,
        })?;
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::host("writing the report", error))?;
        println!("{text}");
        Ok(())
    })
}
