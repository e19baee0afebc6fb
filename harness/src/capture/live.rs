//! The capture of a running lab: one ring per link, one thread for all.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::packet::{Direction, Drops, Interface, Packet};
use crate::lab::Clock;
use crate::sys::netns::Namespace;
use crate::sys::ring::{Ring, RingPacket};
use crate::sys::sched;

/// Memory of all rings together, which bounds those of labs with many links.
const RING_MEMORY: usize = 96 << 20;
/// Blocks hold any packet of the usual MTUs; those of links with larger packets are larger.
const BLOCK: usize = 16 << 10;
const LARGE_BLOCK: usize = 128 << 10;
/// The wall clock has been stepped if it is this far off.
const STEP_NS: i64 = 5_000_000;

/// One end of a link that is to be captured.
pub(crate) struct Tap {
    pub(crate) interface: Arc<Interface>,
    pub(crate) namespace: Namespace,
    pub(crate) index: u32,
    /// Whether packets may be larger than 9000 octets.
    pub(crate) large: bool,
}

/// A running capture.
pub(crate) struct Capture {
    shared: Arc<Shared>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<Vec<Ring>>>,
    pub(crate) interfaces: Vec<Arc<Interface>>,
}

struct Shared {
    store: Mutex<Store>,
    changed: Condvar,
}

#[derive(Default)]
struct Store {
    packets: Vec<Packet>,
    octets: u64,
    /// Number of the last request to catch up, and of the last one that was met.
    asked: u64,
    met: u64,
    ending: bool,
    /// Per interface: what the ring lost, and what the limit kept out.
    lost: HashMap<usize, u64>,
    over_limit: HashMap<usize, u64>,
    failure: Option<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Capture {
    /// Opens all rings in parallel and starts reading them.
    pub(crate) fn start(taps: Vec<Tap>, clock: Clock, limit: u64) -> io::Result<Capture> {
        let memory = (RING_MEMORY / taps.len().max(1)).clamp(256 << 10, 4 << 20);
        let interfaces = taps.iter().map(|tap| Arc::clone(&tap.interface)).collect();
        let rings = open_all(&taps, memory)?;
        let shared = Arc::new(Shared {
            store: Mutex::default(),
            changed: Condvar::new(),
        });
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let reader = Reader {
            sources: rings
                .into_iter()
                .zip(taps)
                .map(|(ring, tap)| Source {
                    ring,
                    interface: tap.interface,
                    read: 0,
                    passed: 0,
                })
                .collect(),
            shared: Arc::clone(&shared),
            wake: Arc::clone(&wake),
            clock,
            offset: clock.offset(),
            limit,
        };
        let thread = std::thread::Builder::new()
            .name("lab-capture".to_owned())
            .spawn(move || reader.run())?;
        Ok(Capture {
            shared,
            wake,
            thread: Some(thread),
            interfaces,
        })
    }

    /// Waits until everything that passed before the call has been read.
    pub(crate) fn catch_up(&self) {
        let mut store = self.shared.lock();
        store.asked += 1;
        let number = store.asked;
        let _ = self.wake.write(1);
        while store.met < number && store.failure.is_none() {
            store = self
                .shared
                .changed
                .wait(store)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// All packets from number `from` on, in the order in which they were read.
    pub(crate) fn packets(&self, from: usize) -> Vec<Packet> {
        let store = self.shared.lock();
        store.packets.get(from..).unwrap_or_default().to_vec()
    }

    /// Takes out the packets that were read since the last call, in the order of time.
    pub(crate) fn take(&self) -> Vec<Packet> {
        let mut store = self.shared.lock();
        store.octets = 0;
        let mut packets = std::mem::take(&mut store.packets);
        packets.sort_by_key(|packet| packet.time_ns);
        packets
    }

    /// Waits until there are more than `seen` packets, or the deadline.
    pub(crate) fn wait_more(&self, seen: usize, deadline: Instant) {
        let mut store = self.shared.lock();
        while store.packets.len() <= seen {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            store = self
                .shared
                .changed
                .wait_timeout(store, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Ends the capture: everything that passed before the call is in the result, in the order of time.
    pub(crate) fn finish(&mut self) -> (Vec<Packet>, Vec<Drops>) {
        self.catch_up();
        self.end();
        let mut store = self.shared.lock();
        let mut packets = std::mem::take(&mut store.packets);
        packets.sort_by_key(|packet| packet.time_ns);
        for (number, packet) in packets.iter_mut().enumerate() {
            packet.number = number as u64 + 1;
        }
        let mut drops = Vec::new();
        let name = |number: usize| self.interfaces[number].name.clone();
        for (counts, reason) in [
            (&store.lost, "the ring was full: the host was too slow"),
            (&store.over_limit, "the capture limit was reached"),
        ] {
            drops.extend(counts.iter().map(|(&number, &packets)| Drops {
                interface: name(number),
                packets,
                reason: reason.to_owned(),
            }));
        }
        if let Some(failure) = store.failure.take() {
            drops.push(Drops {
                interface: String::new(),
                packets: 0,
                reason: failure,
            });
        }
        drops.sort_by(|a, b| a.interface.cmp(&b.interface));
        (packets, drops)
    }

    fn end(&mut self) {
        self.shared.lock().ending = true;
        let _ = self.wake.write(1);
        let Some(thread) = self.thread.take() else {
            return;
        };
        // Closing a ring makes the kernel wait for a grace period: all at once, and nobody waits for it.
        for ring in thread.join().unwrap_or_default() {
            let closer = std::thread::Builder::new().name("lab-close".to_owned());
            let _ = closer.spawn(move || drop(ring));
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

/// Opens rings in parallel: each makes the kernel wait for a grace period.
fn open_all(taps: &[Tap], memory: usize) -> io::Result<Vec<Ring>> {
    let share = taps.len().div_ceil(32).max(1);
    std::thread::scope(|scope| {
        let helpers: Vec<_> = taps
            .chunks(share)
            .map(|taps| {
                std::thread::Builder::new().spawn_scoped(scope, move || {
                    taps.iter()
                        .map(|tap| {
                            tap.namespace.enter()?;
                            let block = if tap.large { LARGE_BLOCK } else { BLOCK };
                            Ring::open(tap.index, block, memory / block)
                        })
                        .collect::<io::Result<Vec<Ring>>>()
                })
            })
            .collect();
        let mut rings = Vec::new();
        for helper in helpers {
            match helper?.join() {
                Ok(opened) => rings.extend(opened?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(rings)
    })
}

struct Source {
    ring: Ring,
    interface: Arc<Interface>,
    /// Packets read from the ring.
    read: u64,
    /// Packets that the kernel has put or will put into it.
    passed: u64,
}

/// The thread that reads the rings.
struct Reader {
    sources: Vec<Source>,
    shared: Arc<Shared>,
    wake: Arc<EventFd>,
    clock: Clock,
    /// Wall clock minus monotonic clock.
    offset: i64,
    limit: u64,
}

impl Reader {
    fn run(mut self) -> Vec<Ring> {
        sched::hurry();
        let mut goal = None;
        loop {
            // While somebody waits for us to catch up, look again soon: the kernel closes open blocks by a timer.
            let timeout = match goal {
                Some(_) => PollTimeout::from(1u8),
                None => PollTimeout::NONE,
            };
            if let Err(error) = self.wait(timeout) {
                let mut store = self.shared.lock();
                store.failure = Some(format!("reading the rings: {error}"));
                self.shared.changed.notify_all();
                break;
            }
            let before = self.offset;
            self.watch_clock();
            self.drain(before);
            let (asked, met, ending) = {
                let store = self.shared.lock();
                (store.asked, store.met, store.ending)
            };
            if goal.is_none() && asked > met {
                self.count();
                let passed: Vec<u64> = self.sources.iter().map(|source| source.passed).collect();
                goal = Some((asked, passed, Instant::now()));
            }
            if let Some((number, passed, since)) = &goal {
                let done = self
                    .sources
                    .iter()
                    .zip(passed)
                    .all(|(source, passed)| source.read >= *passed);
                // An interface that was deleted takes its unread packets with it: do not wait for them for ever.
                if done || since.elapsed() > Duration::from_secs(1) {
                    self.shared.lock().met = *number;
                    self.shared.changed.notify_all();
                    goal = None;
                }
            }
            if ending {
                break;
            }
        }
        self.count();
        self.sources.into_iter().map(|source| source.ring).collect()
    }

    fn wait(&self, timeout: PollTimeout) -> io::Result<()> {
        let mut fds: Vec<PollFd<'_>> = self
            .sources
            .iter()
            .map(|source| PollFd::new(source.ring.as_fd(), PollFlags::POLLIN))
            .collect();
        fds.push(PollFd::new(self.wake.as_fd(), PollFlags::POLLIN));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for (fd, source) in fds.iter().zip(&self.sources) {
            if fd.revents().is_some_and(|e| e.contains(PollFlags::POLLERR)) {
                source.ring.clear_error();
            }
        }
        let _ = self.wake.read();
        Ok(())
    }

    /// Notices that the wall clock was stepped.
    fn watch_clock(&mut self) {
        let offset = Clock::wall_offset();
        if (offset - self.offset).abs() > STEP_NS {
            self.offset = offset;
        }
    }

    /// Reads what is there. `before` is the offset of the wall clock when it was read last: packets from before a step
    /// carry the old time.
    fn drain(&mut self, before: i64) {
        let now = self.clock.now();
        let mut fresh: Vec<(usize, Packet)> = Vec::new();
        for (number, source) in self.sources.iter_mut().enumerate() {
            let interface = &source.interface;
            source.read += source.ring.drain(|packet| {
                let time_ns = self
                    .clock
                    .of_packet(packet.wall_ns, before, self.offset, now);
                fresh.push((number, keep(packet, time_ns, interface)));
            });
        }
        if fresh.is_empty() {
            return;
        }
        fresh.sort_by_key(|(_, packet)| packet.time_ns);
        let mut store = self.shared.lock();
        for (number, packet) in fresh {
            let size = packet.data.len() as u64 + 64;
            if store.octets + size > self.limit {
                *store.over_limit.entry(number).or_default() += 1;
            } else {
                store.octets += size;
                store.packets.push(packet);
            }
        }
        self.shared.changed.notify_all();
    }

    /// Asks the kernel what passed so far.
    fn count(&mut self) {
        for (number, source) in self.sources.iter_mut().enumerate() {
            let counted = source.ring.statistics();
            source.passed += counted.packets - counted.drops.min(counted.packets);
            if counted.drops > 0 {
                *self.shared.lock().lost.entry(number).or_default() += counted.drops;
            }
        }
    }
}

fn keep(packet: RingPacket<'_>, time_ns: u64, interface: &Arc<Interface>) -> Packet {
    let (data, original_len) = match packet.vlan {
        // The kernel has taken the tag out: put it back behind the two addresses, where it was on the wire.
        Some((protocol, control)) if packet.data.len() >= 12 => {
            let mut data = packet.data[..12].to_vec();
            data.extend(protocol.to_be_bytes());
            data.extend(control.to_be_bytes());
            data.extend(&packet.data[12..]);
            (Arc::from(data), packet.length + 4)
        }
        _ => (Arc::from(packet.data), packet.length),
    };
    Packet {
        number: 0,
        time_ns,
        interface: Arc::clone(interface),
        direction: if packet.outgoing {
            Direction::Out
        } else {
            Direction::In
        },
        data,
        original_len,
        comments: Vec::new(),
    }
}
