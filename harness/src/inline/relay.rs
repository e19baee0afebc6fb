//! The thread that carries the packets of all inline links of a lab from one veth to the other.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::unistd::{read, write};

use super::damage::{Damage, Fate};
use super::{LinkStatistics, PacketFate, PacketFunction, Way};
use crate::lab::Clock;
use crate::sys::netns::Namespace;
use crate::sys::{raw, sched};
use crate::topology::Impairment;

/// A link that is to be relayed.
pub(crate) struct Cable {
    /// Its number in the topology.
    pub(crate) number: usize,
    /// The indexes of the relay's two interfaces; side 0 leads to the link's first end.
    pub(crate) indexes: [u32; 2],
    pub(crate) impairment: Impairment,
    /// A packet function, and the side at which its victim is.
    pub(crate) function: Option<(PacketFunction, usize)>,
}

/// A running relay.
pub(crate) struct Relay {
    commands: Arc<Mutex<Vec<Command>>>,
    wake: Arc<EventFd>,
    statistics: Arc<Mutex<HashMap<usize, LinkStatistics>>>,
    thread: Option<JoinHandle<Vec<[OwnedFd; 2]>>>,
}

enum Command {
    Impair(usize, Impairment),
    Flush(usize),
    End,
}

impl Relay {
    /// Opens the sockets in the relay's namespace and starts the thread.
    pub(crate) fn start(
        namespace: &Namespace,
        cables: Vec<Cable>,
        clock: Clock,
    ) -> io::Result<Relay> {
        let open = |index: u32| raw::open(index);
        let indexes: Vec<[u32; 2]> = cables.iter().map(|cable| cable.indexes).collect();
        let sockets = namespace.run(|| {
            indexes
                .iter()
                .map(|[a, b]| Ok([open(*a)?, open(*b)?]))
                .collect::<io::Result<Vec<[OwnedFd; 2]>>>()
        })??;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let commands = Arc::new(Mutex::new(Vec::new()));
        let statistics = Arc::new(Mutex::new(HashMap::new()));
        let carrier = Carrier {
            lines: cables
                .into_iter()
                .zip(sockets)
                .map(|(cable, sockets)| Line::new(cable, sockets))
                .collect(),
            queue: BinaryHeap::new(),
            sequence: 0,
            clock,
            wake: Arc::clone(&wake),
            commands: Arc::clone(&commands),
            statistics: Arc::clone(&statistics),
        };
        let thread = std::thread::Builder::new()
            .name("lab-relay".to_owned())
            .spawn(move || carrier.run())?;
        Ok(Relay {
            commands,
            wake,
            statistics,
            thread: Some(thread),
        })
    }

    fn command(&self, command: Command) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.push(command);
        drop(commands);
        let _ = self.wake.write(1);
    }

    /// Changes the damage of a link, from the next packet on. The seed starts anew.
    pub(crate) fn impair(&self, number: usize, impairment: Impairment) {
        self.command(Command::Impair(number, impairment));
    }

    /// Forgets packets of a link that wait to be sent.
    pub(crate) fn flush(&self, number: usize) {
        self.command(Command::Flush(number));
    }

    pub(crate) fn statistics(&self, number: usize) -> LinkStatistics {
        let statistics = self
            .statistics
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        statistics.get(&number).copied().unwrap_or_default()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.command(Command::End);
        let Some(thread) = self.thread.take() else {
            return;
        };
        // Closing a packet socket makes the kernel wait for a grace period: all at once, and nobody waits for it.
        for socket in thread.join().unwrap_or_default().into_iter().flatten() {
            let closer = std::thread::Builder::new().name("lab-close".to_owned());
            let _ = closer.spawn(move || drop(socket));
        }
    }
}

/// One relayed link.
struct Line {
    number: usize,
    sockets: [OwnedFd; 2],
    /// Per side from which packets come.
    damage: [Damage; 2],
    function: Option<(PacketFunction, usize)>,
    counts: LinkStatistics,
}

impl Line {
    fn new(cable: Cable, sockets: [OwnedFd; 2]) -> Line {
        Line {
            number: cable.number,
            sockets,
            damage: [0, 1].map(|side| Damage::new(&cable.impairment, side)),
            function: cable.function,
            counts: LinkStatistics::default(),
        }
    }

    fn send(&mut self, side: usize, packet: &[u8]) {
        match write(&self.sockets[side], packet) {
            Ok(_) => self.counts.sent += 1,
            // The link is down, or the packet has been made longer than the MTU.
            Err(_) => self.counts.unsendable += 1,
        }
    }
}

/// A packet that waits for its time: ordered by time, then by arrival.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    at: u64,
    sequence: u64,
    line: usize,
    side: usize,
    packet: Vec<u8>,
}

struct Carrier {
    lines: Vec<Line>,
    queue: BinaryHeap<Reverse<Waiting>>,
    sequence: u64,
    clock: Clock,
    wake: Arc<EventFd>,
    commands: Arc<Mutex<Vec<Command>>>,
    statistics: Arc<Mutex<HashMap<usize, LinkStatistics>>>,
}

/// Packets read from one socket before the others have their turn.
const TURN: usize = 64;

impl Carrier {
    fn run(mut self) -> Vec<[OwnedFd; 2]> {
        sched::hurry();
        let mut buffer = vec![0u8; 1 << 17];
        while self.obey() {
            let Ok(ready) = self.wait() else { break };
            for (number, sides) in ready.into_iter().enumerate() {
                for side in (0..2).filter(|side| sides[*side]) {
                    for _ in 0..TURN {
                        match read(&self.lines[number].sockets[side], &mut buffer) {
                            Ok(length) => self.receive(number, side, buffer[..length].to_vec()),
                            Err(Errno::EINTR) => {}
                            // Nothing more, or the link is down.
                            Err(_) => break,
                        }
                    }
                }
            }
            self.deliver();
        }
        self.publish();
        self.lines.into_iter().map(|line| line.sockets).collect()
    }

    /// Does what was asked for; false if that was to end.
    fn obey(&mut self) -> bool {
        let _ = self.wake.read();
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let commands = std::mem::take(&mut *commands);
        for command in commands {
            match command {
                Command::End => return false,
                Command::Impair(number, impairment) => {
                    for line in self.lines.iter_mut().filter(|line| line.number == number) {
                        line.damage = [0, 1].map(|side| Damage::new(&impairment, side));
                    }
                }
                Command::Flush(number) => {
                    let line = self.lines.iter().position(|line| line.number == number);
                    self.queue
                        .retain(|Reverse(packet)| Some(packet.line) != line);
                }
            }
        }
        true
    }

    /// Waits for packets, for the time of one that waits, or for a command. Says which sockets can be read.
    fn wait(&self) -> io::Result<Vec<[bool; 2]>> {
        let timeout = self.queue.peek().map(|Reverse(next)| {
            let left = next.at.saturating_sub(self.clock.now());
            TimeSpec::from_duration(Duration::from_nanos(left))
        });
        let mut fds: Vec<PollFd<'_>> = self
            .lines
            .iter()
            .flat_map(|line| &line.sockets)
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        fds.push(PollFd::new(self.wake.as_fd(), PollFlags::POLLIN));
        match ppoll(&mut fds, timeout, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        Ok(ready
            .chunks_exact(2)
            .map(|pair| [pair[0], pair[1]])
            .collect())
    }

    fn receive(&mut self, number: usize, side: usize, mut packet: Vec<u8>) {
        let now = self.clock.now();
        let line = &mut self.lines[number];
        line.counts.received += 1;
        let mut later = Duration::ZERO;
        let mut again = None;
        if let Some((function, victim)) = &mut line.function {
            let way = if side == *victim {
                Way::FromVictim
            } else {
                Way::ToVictim
            };
            match function(way, &mut packet, now) {
                PacketFate::Forward => {}
                PacketFate::Drop => {
                    line.counts.dropped_by_function += 1;
                    return;
                }
                PacketFate::Delay(time) => later = time,
                PacketFate::Duplicate(after) => again = Some(after),
            }
        }
        let fate = line.damage[side].decide(&mut packet, now + later.as_nanos() as u64);
        let (at, twice) = match fate {
            Fate::Spared => {
                line.counts.spared += 1;
                (now + later.as_nanos() as u64, false)
            }
            Fate::Lost => {
                line.counts.lost += 1;
                return;
            }
            Fate::Overflow => {
                line.counts.overflowed += 1;
                return;
            }
            Fate::Goes {
                at,
                twice,
                overtakes,
                corrupted,
            } => {
                line.counts.duplicated += u64::from(twice);
                line.counts.reordered += u64::from(overtakes);
                line.counts.corrupted += u64::from(corrupted);
                (at, twice)
            }
        };
        if twice {
            self.queue(at, number, 1 - side, packet.clone());
        }
        if let Some(after) = again {
            let at = at + after.as_nanos() as u64;
            self.queue(at, number, 1 - side, packet.clone());
        }
        // Straight through if nothing has to wait: it then cannot overtake a packet of the same time in the queue.
        if at <= now && !twice && self.queue.is_empty() {
            self.lines[number].send(1 - side, &packet);
        } else {
            self.queue(at, number, 1 - side, packet);
        }
    }

    fn queue(&mut self, at: u64, line: usize, side: usize, packet: Vec<u8>) {
        self.sequence += 1;
        self.queue.push(Reverse(Waiting {
            at,
            sequence: self.sequence,
            line,
            side,
            packet,
        }));
    }

    /// Sends what is due.
    fn deliver(&mut self) {
        let now = self.clock.now();
        while let Some(Reverse(next)) = self.queue.peek()
            && next.at <= now
        {
            let Some(Reverse(due)) = self.queue.pop() else {
                break;
            };
            self.lines[due.line].send(due.side, &due.packet);
        }
        self.publish();
    }

    fn publish(&self) {
        let mut statistics = self
            .statistics
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for line in &self.lines {
            statistics.insert(line.number, line.counts);
        }
    }
}
