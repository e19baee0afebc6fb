//! The map-cache with many prefixes: memory, look-up, change.

use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use ipnet::IpNet;
use lisp::EidPrefix;
use serde_json::{Value, json};
use xtr::forwarding::{Decision, Destination, Forwarding, LocatorSet};

use crate::load::median;

/// Options of `xtr-bench map-cache`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Prefixes.
    #[arg(long, default_value_t = 1_000_000)]
    prefixes: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Seed of prefixes and look-ups.
    #[arg(long, default_value_t = 0x4c49_5350)]
    seed: u64,
}

const LOOKUPS: usize = 1_000_000;
const ROUNDS: usize = 7;

/// A small generator (splitmix64): the same prefixes in every run of one seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// A prefix of a length that routing tables have, in about their shares.
fn prefix(random: &mut Random, v6: bool) -> IpNet {
    let share = random.next() % 100;
    if v6 {
        let length = match share {
            0..=47 => 48,
            48..=60 => 32,
            61..=70 => 44,
            71..=80 => 40,
            81..=90 => 64,
            91..=95 => 36,
            96..=98 => 56,
            _ => 128,
        };
        let bits =
            0x2000 << 112 | (u128::from(random.next()) << 64 | u128::from(random.next())) >> 3;
        IpNet::new_assert(Ipv6Addr::from(bits).into(), length).trunc()
    } else {
        let length = match share {
            0..=58 => 24,
            59..=69 => 22,
            70..=79 => 23,
            80..=87 => 21,
            88..=92 => 20,
            93..=95 => 19,
            96..=97 => 16,
            98 => 32,
            _ => 28,
        };
        IpNet::new_assert(Ipv4Addr::from(random.next() as u32).into(), length).trunc()
    }
}

/// An address inside a prefix.
fn host(random: &mut Random, net: &IpNet) -> IpAddr {
    match net {
        IpNet::V4(net) => {
            let noise = random.next() as u32 & !u32::from(net.netmask());
            Ipv4Addr::from(u32::from(net.addr()) | noise).into()
        }
        IpNet::V6(net) => {
            let noise = u128::from(random.next()) << 64 | u128::from(random.next());
            Ipv6Addr::from(u128::from(net.addr()) | noise & !u128::from(net.netmask())).into()
        }
    }
}

/// Resident octets of this process.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

/// Builds, measures, prints.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let families: Vec<(&str, Value)> = [("ipv4", false), ("ipv6", true)]
        .into_iter()
        .map(|(name, v6)| (name, family(options, v6)))
        .collect();
    let worst = families
        .iter()
        .filter_map(|(_, f)| f["ratio_to_hash_map_hit"].as_f64())
        .fold(0.0, f64::max);
    if options.json {
        let mut result = json!({"format": 1, "prefixes": options.prefixes, "seed": options.seed, "ratio_to_hash_map_hit": worst});
        for (name, figures) in families {
            result[name] = figures;
        }
        println!("{result:#}");
        return Ok(());
    }
    println!("{} prefixes, seed {}", options.prefixes, options.seed);
    for (name, figures) in families {
        println!("{name}: {figures}");
    }
    println!("longest match / hash-map hit, worse of the two: {worst}");
    Ok(())
}

fn family(options: &Options, v6: bool) -> Value {
    let mut random = Random(options.seed);
    let mut seen = HashSet::with_capacity(options.prefixes);
    let mut prefixes = Vec::with_capacity(options.prefixes);
    while prefixes.len() < options.prefixes {
        let net = prefix(&mut random, v6);
        if seen.insert(net) {
            prefixes.push(net);
        }
    }
    drop(seen);
    let addresses: Vec<IpAddr> = (0..LOOKUPS)
        .map(|_| {
            let at = random.below(prefixes.len());
            host(&mut random, &prefixes[at])
        })
        .collect();
    let forwarding = Forwarding::default();
    let rloc: IpAddr = Ipv4Addr::new(192, 0, 2, 1).into();
    let set = Arc::new(LocatorSet::new(vec![Destination {
        rloc,
        source: Some(rloc),
        priority: 1,
        weight: 100,
        usable: true,
        ordinal: 0,
        state: forwarding.rlocs().get(rloc),
    }]));
    let before = resident();
    let start = Instant::now();
    for net in &prefixes {
        let decision = Decision::Encapsulate(Arc::clone(&set));
        forwarding.insert(EidPrefix::new(0, *net), decision, None);
    }
    let insert = start.elapsed().as_nanos() as f64 / prefixes.len() as f64;
    let octets = resident().saturating_sub(before) as f64 / prefixes.len() as f64;
    // The same entries by full address, and every look-up a hit.
    let hashed: HashMap<IpAddr, _> = addresses
        .iter()
        .filter_map(|a| Some((*a, forwarding.longest_match(0, *a)?)))
        .collect();
    let mut hash_times = Vec::new();
    let mut match_times = Vec::new();
    for _ in 0..ROUNDS {
        hash_times.push(time(&addresses, |a| {
            hashed.get(&a).map(|e| e.prefix.prefix.prefix_len())
        }));
        let tables = forwarding.snapshot();
        match_times.push(time(&addresses, |a| {
            tables
                .longest_match(0, a)
                .map(|e| e.prefix.prefix.prefix_len())
        }));
    }
    let start = Instant::now();
    let changes = 100_000.min(prefixes.len());
    for net in &prefixes[..changes] {
        forwarding.insert(EidPrefix::new(0, *net), Decision::Drop, None);
    }
    let change = start.elapsed().as_nanos() as f64 / changes as f64;
    let (hash, lookup) = (median(hash_times), median(match_times));
    let round = |v: f64| (v * 10.0).round() / 10.0;
    json!({
        "bytes_per_prefix": round(octets),
        "lookup_ns": round(lookup),
        "hash_map_hit_ns": round(hash),
        "ratio_to_hash_map_hit": (lookup / hash * 100.0).round() / 100.0,
        "insert_ns": round(insert),
        "change_ns": round(change),
    })
}

/// Nanoseconds a look-up.
fn time(addresses: &[IpAddr], lookup: impl Fn(IpAddr) -> Option<u8>) -> f64 {
    let start = Instant::now();
    for address in addresses {
        black_box(lookup(black_box(*address)));
    }
    start.elapsed().as_nanos() as f64 / addresses.len() as f64
}
