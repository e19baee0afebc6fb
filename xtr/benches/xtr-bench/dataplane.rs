//! The three designs in turns, and the ratios of their medians.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::chain::{Chain, Design};
use crate::load::{Hosts, echo, loss_free_rate, median, tcp};
use crate::usage::Usage;

/// Options of `xtr-bench dataplane`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds; every design is measured once in each.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of each TCP transfer.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// EIDs and locators of IPv6.
    #[arg(long)]
    ipv6: bool,
    /// EIDs of IPv6.
    #[arg(long)]
    ipv6_eids: bool,
    /// Locators of IPv6: the tunnels, of VXLAN too, run over it.
    #[arg(long)]
    ipv6_locators: bool,
}

impl Options {
    fn v6_inside(&self) -> bool {
        self.ipv6 || self.ipv6_eids
    }

    fn v6_outside(&self) -> bool {
        self.ipv6 || self.ipv6_locators
    }

    /// As RFC 6830 5 says it: `ipv6 in ipv4`.
    fn families(&self) -> String {
        let family = |v6| if v6 { "ipv6" } else { "ipv4" };
        let (inside, outside) = (family(self.v6_inside()), family(self.v6_outside()));
        format!("{inside} in {outside}")
    }
}

/// Figures of one design, one element a round.
#[derive(Debug, Default)]
struct Figures {
    tcp: Vec<f64>,
    cpu_per_gbit: Vec<f64>,
    rate: Vec<f64>,
    rate_64: Vec<f64>,
    rtt: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Everything,
    TcpOnly,
    RttOnly,
}

struct Contender {
    name: &'static str,
    chain: Chain,
    measure: Measure,
}

/// Echo requests for one RTT figure.
const ECHOES: u16 = 400;
/// Time of one step in the search for the loss-free rate.
const STEP: Duration = Duration::from_millis(300);

/// Builds the chains, measures, prints.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let ours = |spin| Design::Ours { spin, tun: false };
    let tun = |spin| Design::Ours { spin, tun: true };
    let mut contenders = Vec::new();
    for (name, design, wire, measure) in [
        ("plain", Design::Plain, false, Measure::Everything),
        ("vxlan", Design::Vxlan, false, Measure::Everything),
        ("ours", ours(0), false, Measure::Everything),
        ("tun", tun(0), false, Measure::Everything),
        ("plain-wire", Design::Plain, true, Measure::TcpOnly),
        ("vxlan-wire", Design::Vxlan, true, Measure::TcpOnly),
        ("ours-wire", ours(0), true, Measure::TcpOnly),
        ("tun-wire", tun(0), true, Measure::TcpOnly),
        ("ours-spin", ours(100), false, Measure::RttOnly),
        ("tun-spin", tun(100), false, Measure::RttOnly),
    ] {
        contenders.push(Contender {
            name,
            chain: Chain::up(name, design, wire, options.v6_outside())?,
            measure,
        });
    }
    let hosts = Hosts::new(options.v6_inside());
    let mut figures: BTreeMap<&str, Figures> = BTreeMap::new();
    for round in 0..options.rounds {
        // Every other round backwards: what drifts with time hits all alike.
        let mut order: Vec<&Contender> = contenders.iter().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for contender in order {
            let figures = figures.entry(contender.name).or_default();
            measure(contender, hosts, options.seconds, figures)
                .map_err(|e| format!("{}: {e}", contender.name))?;
        }
        eprintln!("round {} of {} done", round + 1, options.rounds);
    }
    let path = contenders
        .iter()
        .find(|contender| contender.name == "ours")
        .map_or("", |contender| contender.chain.path());
    report(options, path, &figures);
    Ok(())
}

fn measure(
    contender: &Contender,
    hosts: Hosts,
    seconds: u32,
    figures: &mut Figures,
) -> Result<(), String> {
    let chain = &contender.chain;
    let (from, to) = (chain.namespace("h1"), chain.namespace("h2"));
    figures.rtt.push(echo(&from, hosts, ECHOES)?);
    if contender.measure == Measure::RttOnly {
        return Ok(());
    }
    let before = Usage::now();
    let bulk = tcp(&from, &to, hosts, seconds)?;
    let busy = Usage::now().since(&before, &chain.routers());
    figures.tcp.push(bulk.gbits_per_second);
    figures.cpu_per_gbit.push(busy / bulk.gbits.max(1e-9));
    if contender.measure == Measure::Everything {
        figures
            .rate
            .push(loss_free_rate(&from, &to, hosts, 1, STEP)?);
        figures
            .rate_64
            .push(loss_free_rate(&from, &to, hosts, 64, STEP)?);
    }
    Ok(())
}

fn report(options: &Options, path: &str, figures: &BTreeMap<&str, Figures>) {
    let of = |name: &str, pick: fn(&Figures) -> &Vec<f64>| {
        figures.get(name).map_or(0.0, |f| median(pick(f).clone()))
    };
    let ratio = |a: f64, b: f64| {
        if b > 0.0 {
            (a / b * 1000.0).round() / 1000.0
        } else {
            0.0
        }
    };
    let tcp = |name: &str| of(name, |f| &f.tcp);
    let rate = |name: &str| of(name, |f| &f.rate);
    let rate_64 = |name: &str| of(name, |f| &f.rate_64);
    let cpu = |name: &str| of(name, |f| &f.cpu_per_gbit);
    let rtt = |name: &str| (of(name, |f| &f.rtt) * 10.0).round() / 10.0;
    let medians: BTreeMap<&str, Value> = figures
        .iter()
        .map(|(name, f)| {
            let one = |values: &Vec<f64>| {
                if values.is_empty() {
                    Value::Null
                } else {
                    json!(median(values.clone()))
                }
            };
            let value = json!({
                "tcp_gbits_per_second": one(&f.tcp),
                "cpu_seconds_per_gbit": one(&f.cpu_per_gbit),
                "loss_free_packets_per_second": one(&f.rate),
                "loss_free_packets_per_second_64_flows": one(&f.rate_64),
                "rtt_us": one(&f.rtt),
            });
            (*name, value)
        })
        .collect();
    let mut result = json!({
        "format": 1,
        "family": options.families(),
        "rounds": options.rounds,
        "path": path,
        "load": "iperf3 for TCP; own generator (64-octet UDP payload) for packet rates; ICMP echo for RTT",
        "medians": medians,
    });
    // `ours` as it runs by itself; `tun`: the same without the kernel path.
    for (of, prefix) in [("ours", ""), ("tun", "tun_")] {
        let wire = format!("{of}-wire");
        for (key, value) in [
            ("tcp_ratio_to_vxlan", ratio(tcp(of), tcp("vxlan"))),
            ("tcp_ratio_to_plain", ratio(tcp(of), tcp("plain"))),
            (
                "tcp_wire_ratio_to_plain",
                ratio(tcp(&wire), tcp("plain-wire")),
            ),
            (
                "tcp_wire_ratio_to_vxlan",
                ratio(tcp(&wire), tcp("vxlan-wire")),
            ),
            ("packet_rate_ratio_to_plain", ratio(rate(of), rate("plain"))),
            (
                "packet_rate_64_flows_ratio_to_vxlan",
                ratio(rate_64(of), rate_64("vxlan")),
            ),
            ("cpu_per_gbit_ratio_to_plain", ratio(cpu(of), cpu("plain"))),
            ("rtt_us", rtt(of)),
            ("rtt_spin_us", rtt(&format!("{of}-spin"))),
        ] {
            result[format!("{prefix}{key}")] = value.into();
        }
    }
    if options.json {
        println!("{result:#}");
        return;
    }
    println!(
        "medians of {} interleaved rounds, {}; plain packets of `ours` take the {path} path",
        options.rounds,
        options.families()
    );
    println!(
        "{:12} {:>10} {:>12} {:>14} {:>14} {:>9}",
        "", "TCP Gbit/s", "CPU s/Gbit", "packets/s", "64 flows", "RTT us"
    );
    for (name, f) in figures {
        println!(
            "{name:12} {:10.2} {:12.4} {:14.0} {:14.0} {:9.1}",
            median(f.tcp.clone()),
            median(f.cpu_per_gbit.clone()),
            median(f.rate.clone()),
            median(f.rate_64.clone()),
            median(f.rtt.clone())
        );
    }
    for key in [
        "tcp_ratio_to_vxlan",
        "tcp_wire_ratio_to_plain",
        "packet_rate_ratio_to_plain",
        "packet_rate_64_flows_ratio_to_vxlan",
        "cpu_per_gbit_ratio_to_plain",
        "rtt_us",
        "rtt_spin_us",
    ] {
        println!(
            "{key}: {}; through the TUN device {}",
            result[key],
            result[format!("tun_{key}")]
        );
    }
}
