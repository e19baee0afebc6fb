//! The thread that watches what the packet threads do not wait for: route changes and ICMP errors.

use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::encap::Shared;
use super::limiter::Limiter;
use super::sys::{QueuedError, take_error};
use super::vnet::VNET_LEN;
use crate::fastpath::FastPath;
use crate::forwarding::{Counter, DataEvent};
use crate::kernel::site::SiteMonitor;

const STOP: u64 = u64::MAX;
const ROUTES: u64 = u64::MAX - 1;
const BYPASSED: u64 = u64::MAX - 2;

/// Smallest path MTUs that are believed: every host must take 576 and 1280 octets (RFC 791 3.1, RFC 8200 5), but an
/// IPv4 link may carry as little as 68; below 296 nothing useful remains after two headers.
const LEAST_MTU_V4: u32 = 296;
const LEAST_MTU_V6: u32 = 1280;

/// "Time exceeded" messages passed on to hosts within 100 ms: several traceroutes that send all their probes at once.
const TRACED_PER_WINDOW: u32 = 200;

/// How long a learned MTU is believed (RFC 1191 6.3, RFC 8201 4: ten minutes).
const MTU_LIFETIME: Duration = Duration::from_secs(600);

/// Watches until `stop` becomes readable.
pub(crate) fn run(
    shared: &Arc<Shared>,
    mut site: SiteMonitor,
    tun: &File,
    learn_mtu: bool,
    stop: BorrowedFd<'_>,
) {
    let sockets: Vec<BorrowedFd<'_>> = shared.pool.all().collect();
    let epoll = match Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC) {
        Ok(epoll) => epoll,
        Err(error) => {
            tracing::error!(%error, "no epoll: route changes and ICMP errors go unnoticed");
            return;
        }
    };
    let add = |fd: BorrowedFd<'_>, flags, token| epoll.add(fd, EpollEvent::new(flags, token));
    let mut added = add(stop, EpollFlags::EPOLLIN, STOP)
        .and_then(|()| add(site.announcements().as_fd(), EpollFlags::EPOLLIN, ROUTES));
    for bypassed in shared.fast.iter().flat_map(FastPath::bypassed) {
        added = added.and_then(|()| add(bypassed, EpollFlags::EPOLLIN, BYPASSED));
    }
    for (token, socket) in sockets.iter().enumerate() {
        // EPOLLERR comes unasked, and nothing else is of interest.
        added = added.and_then(|()| add(*socket, EpollFlags::EPOLLET, token as u64));
    }
    if let Err(error) = added {
        tracing::error!(%error, "cannot watch all sockets: some ICMP errors go unnoticed");
    }
    let mut limiter = Limiter::default();
    let mut learned: Vec<(Instant, IpAddr)> = Vec::new();
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let count = match epoll.wait(&mut events, until_next(&learned)) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => {
                tracing::error!(%error, "waiting for route changes and ICMP errors failed");
                return;
            }
        };
        forget_old(shared, &mut learned);
        for event in &events[..count] {
            match event.data() {
                STOP => return,
                ROUTES => {
                    if site.refresh() {
                        shared.tell(FastPath::surroundings_changed);
                    }
                }
                BYPASSED => shared.tell(FastPath::bypassed_changed),
                token => {
                    let socket = sockets[token as usize];
                    let port = Some(token as usize).filter(|at| *at < shared.pool.v4_count());
                    while let Some(error) = take_error(socket) {
                        if error.is_time_exceeded() {
                            pass_on(shared, &mut limiter, tun, &error, port);
                            continue;
                        }
                        if let Some(rloc) = note(shared, &mut limiter, &error, learn_mtu) {
                            learned.retain(|(_, known)| *known != rloc);
                            learned.push((Instant::now() + MTU_LIFETIME, rloc));
                        }
                    }
                }
            }
        }
    }
}

fn until_next(learned: &[(Instant, IpAddr)]) -> EpollTimeout {
    // The oldest stands first.
    learned.first().map_or(EpollTimeout::NONE, |(until, _)| {
        let wait = until.saturating_duration_since(Instant::now());
        EpollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(EpollTimeout::MAX)
    })
}

fn forget_old(shared: &Shared, learned: &mut Vec<(Instant, IpAddr)>) {
    let now = Instant::now();
    learned.retain(|(until, rloc)| {
        if *until > now {
            return true;
        }
        if let Some(state) = shared.forwarding.rlocs().find(*rloc) {
            state.set_mtu(None);
            shared.tell(|fast| fast.rloc_changed(*rloc));
        }
        false
    });
}

/// Gives a "time exceeded" of the core to the host that traces (RFC 6830 9), through the TUN device as if it had been
/// decapsulated. It says nothing about the locator.
fn pass_on(
    shared: &Shared,
    limiter: &mut Limiter,
    mut tun: &File,
    error: &QueuedError,
    port_index: Option<usize>,
) {
    let message = {
        let tables = shared.forwarding.snapshot();
        shared.traceroutes.pass_on(error, port_index, &tables)
    };
    let (Some(message), now) = (message, shared.forwarding.now_ms()) else {
        return;
    };
    if !limiter.allow("traceroute", TRACED_PER_WINDOW, 100, now) {
        return shared.count(Counter::EventsSuppressed);
    }
    match tun.write_all(&[&[0; VNET_LEN], &message[..]].concat()) {
        Ok(()) => shared.count(Counter::TracePassedOn),
        Err(error) => {
            shared.count(Counter::DeliveryErrors);
            tracing::debug!(%error, "the kernel did not take a time exceeded for a host");
        }
    }
}

/// Acts on an ICMP error; the locator whose MTU was learned from it.
fn note(
    shared: &Shared,
    limiter: &mut Limiter,
    error: &QueuedError,
    learn_mtu: bool,
) -> Option<IpAddr> {
    const FROM_ICMP: [u8; 2] = [2, 3];
    let rloc = error.destination?.ip();
    // The kernel matched the message to a source port of ours; that we did send to the locator is for us to check.
    let state = shared.forwarding.rlocs().find(rloc)?;
    if state.packets() == 0 {
        shared.tell(FastPath::collect);
    }
    if state.packets() == 0 || !FROM_ICMP.contains(&error.origin) {
        return None;
    }
    if error.errno == libc::EMSGSIZE {
        let least = if rloc.is_ipv6() {
            LEAST_MTU_V6
        } else {
            LEAST_MTU_V4
        };
        let mtu = u16::try_from(error.info).ok()?;
        let smaller = usize::from(mtu) < state.mtu().map_or(shared.locator_mtu, usize::from);
        if !learn_mtu || u32::from(mtu) < least || !smaller {
            return None;
        }
        state.set_mtu(Some(mtu));
        shared.tell(|fast| fast.rloc_changed(rloc));
        shared.report(DataEvent::TooBig { rloc, mtu });
        return Some(rloc);
    }
    let now = shared.forwarding.now_ms();
    if limiter.allow((rloc, error.kind, error.code), 1, 1_000, now) {
        shared.report(DataEvent::Unreachable {
            rloc,
            reporter: error.reporter,
            kind: error.kind,
            code: error.code,
        });
    }
    None
}
