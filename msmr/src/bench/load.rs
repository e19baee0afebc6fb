//! What the measuring needs: a namespace, tables, floods, sinks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use daemon::{Clock, Failure, Time};
use lisp::auth::{AuthKey, MacAlgorithm};
use lisp::wire::{
    Action, ControlMessage, Ecm, EidQuery, Locator, MapRecord, MapRegister, MapRequest,
};
use lisp::{Address, CONTROL_PORT, EidPrefix};
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket, Type};

use crate::core::site::{Config, Limits, SiteConfig, SiteKey, SitePrefix};
use crate::core::{Core, Datagram, Families};
use crate::shell::batch::{self, Outgoing};
use crate::state::StateDir;

/// The ETR and the ITR: answers end there.
const SINK: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Inner source port of requests, where proxy replies go.
const REPLY_PORT: u16 = 50_000;
/// Different messages of a flood.
const MESSAGES: usize = 1 << 17;
const SECRET: &[u8] = b"benchmark-key";

/// Leaves the host's network for an empty one with a loopback interface.
pub(super) fn enter_namespace() -> Result<(), Failure> {
    let refused = |error: nix::errno::Errno| {
        Failure::Host(format!(
            "a network namespace: {error}; run as root, or allow user namespaces (sysctl user.max_user_namespaces, \
             kernel.apparmor_restrict_unprivileged_userns), or run it in a container that allows them"
        ))
    };
    unshare(CloneFlags::CLONE_NEWNET)
        .or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET))
        .map_err(refused)?;
    batch::loopback_up().map_err(|error| Failure::host("bringing lo up", error))
}

/// Sockets that answers are sent to and that nobody reads: once full, the system drops at little cost.
#[derive(Debug)]
pub(super) struct Sinks {
    _sockets: [Socket; 2],
}

impl Sinks {
    pub(super) fn open() -> Result<Self, Failure> {
        let open = |port| bound(SocketAddr::new(SINK.into(), port));
        match (open(CONTROL_PORT), open(REPLY_PORT)) {
            (Ok(control), Ok(reply)) => Ok(Self {
                _sockets: [control, reply],
            }),
            (Err(error), _) | (_, Err(error)) => Err(Failure::host("a UDP socket", error)),
        }
    }
}

fn bound(at: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&at.into())?;
    Ok(socket)
}

/// Messages to send again and again.
#[derive(Debug)]
pub(super) struct Load {
    messages: Vec<Vec<u8>>,
}

impl Load {
    /// Encapsulated Map-Requests for hosts all over a table.
    pub(super) fn requests(prefixes: usize) -> Self {
        let messages = scattered(prefixes).map(|eid| {
            let request = ControlMessage::MapRequest(MapRequest {
                nonce: u64::from(u32::from(eid)),
                source_eid: Address::from(Ipv4Addr::new(172, 16, 0, 1)),
                itr_rlocs: vec![Address::from(SINK)],
                records: vec![EidQuery::new(host(eid))],
                ..MapRequest::default()
            });
            let source = IpAddr::V4(SINK);
            Ecm::wrap(source, eid.into(), REPLY_PORT, CONTROL_PORT, 64, &request).to_vec()
        });
        Self {
            messages: messages.collect(),
        }
    }

    /// Map-Registers that refresh prefixes all over a table.
    pub(super) fn registers(prefixes: usize) -> Self {
        let key = key();
        Self {
            messages: scattered(prefixes)
                .map(|eid| register(eid, false).to_signed_vec(&key))
                .collect(),
        }
    }

    /// Sends until `stop`; what the receiver has no room for is lost.
    pub(super) fn flood(&self, to: SocketAddr, stop: &AtomicBool) -> Result<(), Failure> {
        let socket = bound(SocketAddr::new(SINK.into(), 0))
            .map_err(|error| Failure::host("a UDP socket", error))?;
        while !stop.load(Ordering::Relaxed) {
            for chunk in self.messages.chunks(64) {
                let datagrams: Vec<Outgoing<'_>> = chunk
                    .iter()
                    .map(|payload| Outgoing {
                        from: None,
                        to,
                        payload,
                    })
                    .collect();
                batch::send(&socket, &datagrams);
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// The EID with a number: all inside 10.0.0.0/8.
fn eid(number: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 | (number as u32 & 0x00ff_ffff))
}

fn host(eid: Ipv4Addr) -> EidPrefix {
    EidPrefix::host(0, eid.into())
}

/// [`MESSAGES`] EIDs of a table in an order that no cache foresees.
fn scattered(prefixes: usize) -> impl Iterator<Item = Ipv4Addr> {
    let mut state = 0x1234_5678_9abc_def0_u64;
    (0..MESSAGES).map(move |_| {
        // xorshift64: the same sequence in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        eid((state % prefixes as u64) as usize)
    })
}

fn key() -> AuthKey {
    AuthKey::new(0, MacAlgorithm::HmacSha256_128, SECRET)
}

fn register(eid: Ipv4Addr, proxy_reply: bool) -> MapRegister {
    let locator = Locator {
        priority: 1,
        weight: 100,
        mpriority: 255,
        local: true,
        reachable: true,
        rloc: Address::from(SINK),
        ..Locator::default()
    };
    MapRegister {
        proxy_reply,
        want_map_notify: true,
        records: vec![MapRecord {
            authoritative: true,
            locators: vec![locator],
            ..MapRecord::negative(host(eid), 1440, Action::NoAction)
        }],
        ..MapRegister::default()
    }
}

fn config() -> Config {
    Config {
        sites: vec![SiteConfig {
            name: "benchmark".into(),
            keys: vec![SiteKey {
                auth: Arc::new(key()),
                fingerprint: 1,
            }],
            prefixes: vec![SitePrefix {
                prefix: EidPrefix::new(0, ipnet::Ipv4Net::new_assert(eid(0), 8).into()),
                accept_more_specifics: true,
                deny: false,
            }],
            ..SiteConfig::default()
        }],
        registration_timeout: Duration::from_secs(86_400),
        limits: Limits {
            registrations: usize::MAX,
            map_requests_per_source: 0,
            map_reply_interval: Duration::ZERO,
            ..Limits::default()
        },
        ..Config::default()
    }
}

fn empty_core(now: Time) -> Core {
    Core::new(config(), Families::BOTH, now, 1)
}

/// A core with so many registered host prefixes.
pub(super) fn core(prefixes: usize, proxy_reply: bool) -> Core {
    let now = Clock::since_epoch().now();
    let mut core = empty_core(now);
    fill(&mut core, now, 0..prefixes, proxy_reply);
    core
}

fn fill(core: &mut Core, now: Time, numbers: std::ops::Range<usize>, proxy_reply: bool) {
    let key = key();
    let mut out = Vec::new();
    for number in numbers {
        let payload = register(eid(number), proxy_reply).to_signed_vec(&key);
        let datagram = Datagram {
            source: SocketAddr::new(SINK.into(), CONTROL_PORT),
            destination: super::SERVER,
            payload: &payload,
        };
        core.datagram(now, datagram, &mut out);
        out.clear();
    }
}

/// Cost of `state-dir`.
pub(super) struct StateCost {
    pub(super) bytes_per_prefix: f64,
    pub(super) startup: Duration,
    pub(super) ratio: f64,
}

/// Registers a table with kept state, and reads it back.
pub(super) fn state(prefixes: usize) -> Result<StateCost, Failure> {
    let directory = std::env::temp_dir().join(format!("msmr-bench-{}", std::process::id()));
    let result = state_in(&directory, prefixes);
    let removed = std::fs::remove_dir_all(&directory);
    result.and_then(|cost| match removed {
        Ok(()) => Ok(cost),
        Err(error) => Err(Failure::host(directory.display(), error)),
    })
}

fn state_in(directory: &std::path::Path, prefixes: usize) -> Result<StateCost, Failure> {
    let failed = |error| Failure::host(directory.display(), error);
    let now = Clock::since_epoch().now();
    let mut plain = empty_core(now);
    let mut kept = empty_core(now);
    let mut state = StateDir::open(directory, false, &mut kept, now)?;
    let (mut without, mut with) = (Duration::ZERO, Duration::ZERO);
    for start in (0..prefixes).step_by(64) {
        let numbers = start..prefixes.min(start + 64);
        let begin = thread_time();
        fill(&mut plain, now, numbers.clone(), false);
        let middle = thread_time();
        fill(&mut kept, now, numbers, false);
        if let Some(journal) = kept.journal() {
            state.append(journal).map_err(failed)?;
        }
        without += middle - begin;
        with += thread_time() - middle;
    }
    drop((plain, kept, state));
    let mut octets = 0;
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        octets += entry
            .and_then(|entry| entry.metadata())
            .map_err(failed)?
            .len();
    }
    let mut again = empty_core(now);
    let begin = Instant::now();
    let opened = StateDir::open(directory, false, &mut again, now)?;
    let startup = begin.elapsed();
    drop(opened);
    if again.registration_count() != prefixes {
        return Err(Failure::Findings(format!(
            "expected {prefixes} registrations from the saved state, found {}",
            again.registration_count()
        )));
    }
    Ok(StateCost {
        bytes_per_prefix: octets as f64 / prefixes as f64,
        startup,
        ratio: without.as_secs_f64() / with.as_secs_f64(),
    })
}

/// Memory of this process in octets.
pub(super) fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    pages * 4096
}

/// Processor time of this thread.
pub(super) fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
