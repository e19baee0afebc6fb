//! Many sites in virtual time: the cores of `xtr` and `msmr` in one process, with real messages between them.
//!
//! `cargo bench -p msmr --bench scale -- --sites 100000 --hours 24`; the same seed gives the same run, message by message.

mod network;
mod report;
mod sites;

use std::time::Duration;

use clap::Parser;

/// Simulates LISP sites around one Map-Server in virtual time.
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub(crate) struct Options {
    /// Sites, each with one xTR and one /24.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    sites: u32,
    /// Length in hours.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(2..=10_000))]
    hours: u64,
    /// Flows that each site starts a day, to destinations of Zipf popularity.
    #[arg(long, default_value_t = 50)]
    flows: u32,
    /// Packets of a flow, ten seconds apart.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..))]
    packets: u8,
    /// Seconds between Map-Registers; registrations live three times as long.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    register_interval: u64,
    /// Seconds between RLOC-probes of a locator; 0 for none.
    #[arg(long, default_value_t = 0)]
    probe_interval: u64,
    /// Minutes that others keep a mapping.
    #[arg(long, default_value_t = 1440)]
    ttl: u32,
    /// Percent of the sites that change their locator two hours before the end.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100))]
    moving: u32,
    /// Seconds for which a moved site still hears its old locator.
    #[arg(long, default_value_t = 600)]
    grace: u64,
    /// Determines everything.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn end(&self) -> Duration {
        Duration::from_secs(self.hours * 3600)
    }

    fn move_at(&self) -> Duration {
        self.end() - Duration::from_secs(7200)
    }
}

fn main() {
    let options = Options::parse();
    let started = std::time::Instant::now();
    let mut network = network::Network::new(&options);
    network.run();
    print!("{}", report::text(&options, &network, started.elapsed()));
}
