//! What the daemon can do next to a bare UDP echo with the same batching: the measuring behind `msmr-bench`.
//!
//! A flood comes from one thread; another serves it. Rates are per second of processor time of the serving thread, which
//! other programs on the host disturb little; answers go to sockets that nobody reads.

mod load;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use daemon::{Clock, Failure};
use serde::Serialize;

use crate::core::{Core, Transmit};
use crate::shell::batch::Received;
use crate::shell::sockets::Sockets;
use crate::shell::take_in;
use load::{Load, Sinks};

/// Where the server listens.
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How to measure.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Length of one measurement.
    pub slice: Duration,
    /// Rounds; the median counts.
    pub rounds: usize,
    /// Largest table.
    pub prefixes: usize,
}

/// Rates with a table of one size, in messages per second of processor time.
#[derive(Debug, Clone, Serialize)]
pub struct Rates {
    /// Registered prefixes.
    pub prefixes: usize,
    /// Bare echo of the requests.
    pub request_echo: f64,
    /// Map-Requests forwarded to an ETR.
    pub forward: f64,
    /// Map-Requests answered from registrations.
    pub proxy_reply: f64,
    /// Bare echo of the registers.
    pub register_echo: f64,
    /// HMAC-SHA-256 Map-Registers verified and acknowledged by a Map-Notify.
    pub register: f64,
}

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Forwarded requests against the echo; the worst table size.
    pub forward_ratio_to_echo: f64,
    /// Proxy replies against the echo; the worst table size.
    pub proxy_ratio_to_echo: f64,
    /// Registers against the echo; the worst table size.
    pub register_ratio_to_echo: f64,
    /// The largest table against 100 prefixes; the worst of forwarding, proxy replies and registers.
    pub rate_1m_to_100: f64,
    /// Memory per registered prefix in octets, with the largest table.
    pub bytes_per_prefix: f64,
    /// Octets on disk per registered prefix.
    pub state_bytes_per_prefix: f64,
    /// Seconds to read the saved state of the largest table.
    pub startup_seconds: f64,
    /// Registers with `state-dir` against those without, in memory and on disk alike.
    pub state_dir_ratio: f64,
    /// Each table size.
    pub rates: Vec<Rates>,
}

/// Measures everything. Call it in a process of its own: it enters a network namespace.
///
/// # Errors
/// When the host gives no network namespace, sockets or room in the temporary directory.
pub fn run(options: Options) -> Result<Report, Failure> {
    load::enter_namespace()?;
    let _sinks = Sinks::open()?;
    let mut sizes = vec![100, 10_000, options.prefixes];
    sizes.sort_unstable();
    sizes.dedup();
    let mut rates = Vec::new();
    let mut bytes_per_prefix = 0.0;
    for &prefixes in &sizes {
        let before = load::resident();
        let mut forwarding = load::core(prefixes, false);
        bytes_per_prefix = load::resident().saturating_sub(before) as f64 / prefixes as f64;
        let mut proxying = load::core(prefixes, true);
        rates.push(rates_of(options, prefixes, &mut forwarding, &mut proxying)?);
    }
    let state = load::state(options.prefixes)?;
    let worst = |ratio: fn(&Rates) -> f64| rates.iter().map(ratio).fold(f64::INFINITY, f64::min);
    let (first, last) = (&rates[0], &rates[rates.len() - 1]);
    Ok(Report {
        forward_ratio_to_echo: worst(|rates| rates.forward / rates.request_echo),
        proxy_ratio_to_echo: worst(|rates| rates.proxy_reply / rates.request_echo),
        register_ratio_to_echo: worst(|rates| rates.register / rates.register_echo),
        rate_1m_to_100: (last.forward / first.forward)
            .min(last.proxy_reply / first.proxy_reply)
            .min(last.register / first.register),
        bytes_per_prefix,
        state_bytes_per_prefix: state.bytes_per_prefix,
        startup_seconds: state.startup.as_secs_f64(),
        state_dir_ratio: state.ratio,
        rates,
    })
}

/// Interleaved rounds, so that a disturbance of the host meets all of them; medians.
fn rates_of(
    options: Options,
    prefixes: usize,
    forwarding: &mut Core,
    proxying: &mut Core,
) -> Result<Rates, Failure> {
    let requests = Load::requests(prefixes);
    let registers = Load::registers(prefixes);
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        rounds.push([
            measure(options, &requests, None)?,
            measure(options, &requests, Some(forwarding))?,
            measure(options, &requests, Some(proxying))?,
            measure(options, &registers, None)?,
            measure(options, &registers, Some(forwarding))?,
        ]);
    }
    let median = |index: usize| {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[index]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Ok(Rates {
        prefixes,
        request_echo: median(0),
        forward: median(1),
        proxy_reply: median(2),
        register_echo: median(3),
        register: median(4),
    })
}

/// Messages per second of the serving thread's processor time: of a core, or of the bare echo without one.
fn measure(options: Options, load: &Load, core: Option<&mut Core>) -> Result<f64, Failure> {
    let stop = AtomicBool::new(false);
    let mut sockets = Sockets::open(&[SERVER], lisp::CONTROL_PORT)?;
    let to = SocketAddr::new(SERVER, lisp::CONTROL_PORT);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| load.flood(to, &stop));
        let measured = serve(options.slice, core, &mut sockets);
        stop.store(true, Ordering::Relaxed);
        match flood.join() {
            Ok(sent) => sent.map(|()| measured),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn serve(slice: Duration, mut core: Option<&mut Core>, sockets: &mut Sockets) -> f64 {
    let clock = Clock::since_epoch();
    let mut received = Received::new();
    let mut out: Vec<Transmit> = Vec::new();
    let (mut served, mut used) = (0, Duration::ZERO);
    let start = Instant::now();
    while start.elapsed() < slice {
        let before = load::thread_time();
        let count = sockets.receive(0, &mut received);
        if count == 0 {
            // The flood has not come yet, or was not scheduled: no work, no time.
            std::thread::yield_now();
            continue;
        }
        match &mut core {
            Some(core) => {
                take_in(core, clock.now(), sockets, 0, &received, &mut out);
                sockets.send(&out);
                out.clear();
            }
            None => sockets.echo(0, &received),
        }
        served += count;
        used += load::thread_time() - before;
    }
    served as f64 / used.as_secs_f64()
}
