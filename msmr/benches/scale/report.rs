//! What a run prints.

use std::fmt::Write;
use std::time::Duration;

use daemon::table::Table;

use super::Options;
use super::network::Network;

/// The whole report; everything but the last line is the same for the same options.
pub(crate) fn text(options: &Options, network: &Network, took: Duration) -> String {
    let tally = &network.tally;
    let mut facts = Table::new(["what", "value"]);
    let mut row = |what: &str, value: String| {
        facts.row([what.to_owned(), value]);
    };
    row("seed", options.seed.to_string());
    row("sites", options.sites.to_string());
    row("hours", options.hours.to_string());
    row(
        "registered at the end",
        network.server.registration_count().to_string(),
    );
    row("messages", tally.messages.to_string());
    row("digest of all messages", format!("{:016x}", tally.digest));
    let steady = &tally.registers_by_hour[1..options.hours as usize];
    row("Map-Registers/s", per_second(steady));
    row(
        "Map-Requests",
        tally.requests_by_hour.iter().sum::<u64>().to_string(),
    );
    row(
        "Map-Requests/s, busiest hour",
        per_second(&busiest(&tally.requests_by_hour)),
    );
    row("Map-Replies", tally.types[2].to_string());
    row(
        "SMRs and other bare Map-Requests",
        tally.types[1].to_string(),
    );
    row("packets", tally.packets.to_string());
    row(
        "packets without a mapping",
        share(tally.missed, tally.packets),
    );
    row(
        "packets to a stale locator, lost",
        share(tally.stale, tally.packets),
    );
    let mut caches: Vec<usize> = network.sites.iter().map(|site| site.cache.len()).collect();
    caches.sort_unstable();
    let entries: usize = caches.iter().sum();
    row(
        "map-cache entries, mean",
        format!("{:.1}", entries as f64 / caches.len() as f64),
    );
    for (name, part) in [("median", 50), ("99th percentile", 99), ("largest", 100)] {
        row(
            &format!("map-cache entries, {name}"),
            at(&caches, part).to_string(),
        );
    }
    if options.moving > 0 {
        let mut times = tally.converged.clone();
        times.sort_by(f64::total_cmp);
        row(
            "stale entries after the move",
            network.stale_at_move.to_string(),
        );
        row(
            "of these right or gone at the end",
            share(times.len() as u64, network.stale_at_move as u64),
        );
        if !times.is_empty() {
            for part in [50, 90, 99, 100] {
                row(
                    &format!("converged, {part} % of these, s"),
                    format!("{:.1}", at(&times, part)),
                );
            }
        }
    }
    let mut text = facts.to_string();
    let mut hours = Table::new(["hour", "Map-Requests"]);
    for (hour, requests) in tally.requests_by_hour[..options.hours as usize]
        .iter()
        .enumerate()
    {
        hours.row([hour.to_string(), requests.to_string()]);
    }
    let speed = options.end().as_secs_f64() / took.as_secs_f64();
    write!(
        text,
        "\n{hours}\nran in {:.1} s: {speed:.0} times as fast as the clock, {:.0} messages/s\n",
        took.as_secs_f64(),
        tally.messages as f64 / took.as_secs_f64()
    )
    .expect("writing to a String cannot fail");
    text
}

fn busiest(hours: &[u64]) -> Vec<u64> {
    hours.iter().max().into_iter().copied().collect()
}

fn per_second(hours: &[u64]) -> String {
    let sum: u64 = hours.iter().sum();
    format!("{:.2}", sum as f64 / (3600.0 * hours.len().max(1) as f64))
}

fn share(part: u64, whole: u64) -> String {
    format!(
        "{part} ({:.2} %)",
        100.0 * part as f64 / whole.max(1) as f64
    )
}

fn at<T: Copy>(sorted: &[T], percent: usize) -> T {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}
