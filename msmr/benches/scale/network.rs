//! Virtual time: one queue of what happens next, and the network between the sites.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use daemon::Time;
use msmr::core::{Core as Server, Datagram as ServerDatagram, Families, SourcePort};
use xtr::core::{Action, Datagram, Event, Port, Random, Seeded};
use xtr::forwarding::{DataEvent, HeldPacket};

use super::Options;
use super::sites::{CLIENT_PORT, SERVER, Site, eid, owner, rloc, server, settings};

/// Time between packets of a flow.
const PACKET_GAP: Duration = Duration::from_secs(10);
/// Exponent of the destinations' popularity is one: the weight of rank n is 1/n.
const HOUR: u64 = 3600;

/// What happens at a moment.
enum Happening {
    Start(u32),
    Tick(u32),
    ServerTick,
    Flow(u32),
    Packet { from: u32, to: u32, left: u8 },
    Arrive(Box<Message>),
    Data { from: u32, to: u32, outer: IpAddr },
    Move,
}

/// A happening and when; the number orders what happens at one moment: the same in every run.
struct Queued {
    time: Time,
    number: u64,
    happening: Happening,
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> Ordering {
        // The earliest is the greatest: it comes out of the heap first.
        (other.time, other.number).cmp(&(self.time, self.number))
    }
}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Queued {}

struct Message {
    from: SocketAddr,
    to: SocketAddr,
    payload: Vec<u8>,
}

/// What was counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    /// By the type field of control messages.
    pub(crate) types: [u64; 16],
    pub(crate) requests_by_hour: Vec<u64>,
    pub(crate) registers_by_hour: Vec<u64>,
    pub(crate) packets: u64,
    pub(crate) missed: u64,
    pub(crate) stale: u64,
    /// Digest of every message, its time and its receiver.
    pub(crate) digest: u64,
    /// Seconds from the move until a site's stale entry was replaced or removed.
    pub(crate) converged: Vec<f64>,
}

/// Everything.
pub(crate) struct Network {
    options: Options,
    pub(crate) sites: Vec<Site>,
    pub(crate) server: Server,
    queue: BinaryHeap<Queued>,
    number: u64,
    now: Time,
    server_tick: Time,
    random: Seeded,
    /// Cumulated popularity of ranks.
    popularity: Vec<f64>,
    /// Destinations whose entries are stale since the move, by holder.
    stale: BTreeMap<u32, Vec<u32>>,
    /// How many there were at first.
    pub(crate) stale_at_move: usize,
    pub(crate) tally: Tally,
}

impl Network {
    pub(crate) fn new(options: &Options) -> Self {
        let mut sum = 0.0;
        let popularity = (1..=options.sites)
            .map(|rank| {
                sum += 1.0 / f64::from(rank);
                sum
            })
            .collect();
        let hours = options.hours as usize + 1;
        let mut network = Self {
            sites: (0..options.sites).map(|n| Site::new(options, n)).collect(),
            server: Server::new(server(options), Families::BOTH, Time::ZERO, options.seed),
            options: options.clone(),
            queue: BinaryHeap::new(),
            number: 0,
            now: Time::ZERO,
            server_tick: Time::NEVER,
            random: Seeded(options.seed),
            popularity,
            stale: BTreeMap::new(),
            stale_at_move: 0,
            tally: Tally {
                requests_by_hour: vec![0; hours],
                registers_by_hour: vec![0; hours],
                ..Tally::default()
            },
        };
        for site in 0..options.sites {
            // Starts are spread, as they would be; the sites' own jitter keeps them so.
            let start = network.fraction() * options.register_interval as f64;
            network.at(
                Time::ZERO + Duration::from_secs_f64(start),
                Happening::Start(site),
            );
            network.next_flow(site);
        }
        if options.moving > 0 {
            network.at(Time::ZERO + options.move_at(), Happening::Move);
        }
        network
    }

    /// Runs to the end.
    pub(crate) fn run(&mut self) {
        let end = Time::ZERO + self.options.end();
        while let Some(Queued {
            time: at,
            happening,
            ..
        }) = self.queue.pop()
        {
            if at > end {
                return;
            }
            self.now = at;
            match happening {
                Happening::Start(site) => self.event(site, Event::Start),
                Happening::Tick(site) => {
                    if self.sites[site as usize].tick == at {
                        self.sites[site as usize].tick = Time::NEVER;
                        self.event(site, Event::Tick);
                    }
                }
                Happening::ServerTick => {
                    if self.server_tick == at {
                        self.server_tick = Time::NEVER;
                        let mut out = Vec::new();
                        self.server.timer(at, &mut out);
                        self.deliver(out);
                    }
                }
                Happening::Flow(from) => {
                    let to = self.destination(from);
                    let left = self.options.packets;
                    self.at(at, Happening::Packet { from, to, left });
                    self.next_flow(from);
                }
                Happening::Packet { from, to, left } => self.packet(from, to, left),
                Happening::Arrive(message) => self.arrive(*message),
                Happening::Data { from, to, outer } => self.data(from, to, outer),
                Happening::Move => self.move_sites(),
            }
        }
    }

    fn at(&mut self, time: Time, happening: Happening) {
        self.number += 1;
        self.queue.push(Queued {
            time,
            number: self.number,
            happening,
        });
    }

    /// Between zero and one.
    fn fraction(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn next_flow(&mut self, site: u32) {
        if self.options.flows == 0 {
            return;
        }
        let mean = 86_400.0 / f64::from(self.options.flows);
        let wait = -mean * (1.0 - self.fraction()).ln();
        self.at(
            self.now + Duration::from_secs_f64(wait),
            Happening::Flow(site),
        );
    }

    /// Another site, by popularity; ranks are strewn over the numbers.
    fn destination(&mut self, from: u32) -> u32 {
        let total = self.popularity[self.popularity.len() - 1];
        let point = self.fraction() * total;
        let rank = self.popularity.partition_point(|sum| *sum < point) as u64;
        let sites = u64::from(self.options.sites);
        let to = ((rank * 2_654_435_761) % sites) as u32;
        if to == from {
            (to + 1) % self.options.sites
        } else {
            to
        }
    }

    /// One way between two addresses: 5 to 100 ms, always the same for a pair.
    fn delay(from: IpAddr, to: IpAddr) -> Duration {
        let number = |address| match address {
            IpAddr::V4(v4) => u64::from(u32::from(v4)),
            IpAddr::V6(_) => 0,
        };
        let mixed = Seeded(number(from) ^ number(to) << 32).next_u64();
        Duration::from_micros(5000 + mixed % 95_000)
    }

    fn event(&mut self, site: u32, event: Event) {
        let actions = self.sites[site as usize].core.handle(self.now, event);
        for action in actions {
            if let Some(action) = self.sites[site as usize].apply(action) {
                self.act(site, action);
            }
        }
        self.check_converged(site);
        if let Some(next) = self.sites[site as usize].core.next_deadline() {
            let next = next.max(self.now);
            if next < self.sites[site as usize].tick {
                self.sites[site as usize].tick = next;
                self.at(next, Happening::Tick(site));
            }
        }
    }

    fn act(&mut self, site: u32, action: Action) {
        if let Action::Send {
            from,
            source,
            to,
            payload,
        } = action
        {
            let moved = self.sites[site as usize].moved.is_some();
            let port = match from {
                Port::Control => 4342,
                Port::Client => CLIENT_PORT,
            };
            let from = SocketAddr::new(source.unwrap_or_else(|| rloc(site, moved)), port);
            self.send(from, to, payload);
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        let kind = payload[0] >> 4;
        let hour = (self.now.since_origin().as_secs() / HOUR) as usize;
        self.tally.messages += 1;
        self.tally.types[usize::from(kind)] += 1;
        match kind {
            3 => self.tally.registers_by_hour[hour] += 1,
            8 if from.ip() != SERVER => self.tally.requests_by_hour[hour] += 1,
            _ => {}
        }
        let time = self.now.since_origin().as_nanos().to_be_bytes();
        let receiver = to.to_string();
        for octet in time.iter().chain(receiver.as_bytes()).chain(&payload) {
            self.tally.digest =
                (self.tally.digest ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
        }
        let arrival = self.now + Self::delay(from.ip(), to.ip());
        self.at(
            arrival,
            Happening::Arrive(Box::new(Message { from, to, payload })),
        );
    }

    fn arrive(&mut self, message: Message) {
        let Message { from, to, payload } = message;
        if to.ip() == SERVER {
            let datagram = ServerDatagram {
                source: from,
                destination: SERVER,
                payload: &payload,
            };
            let mut out = Vec::new();
            self.server.datagram(self.now, datagram, &mut out);
            self.deliver(out);
        } else if let Some(site) = self.hears(to.ip()) {
            let datagram = Datagram {
                source: from,
                destination: to,
                payload,
            };
            self.event(site, Event::Received(datagram));
        }
    }

    fn deliver(&mut self, out: Vec<msmr::core::Transmit>) {
        for transmit in out {
            let port = match transmit.port {
                SourcePort::Control => 4342,
                SourcePort::Random => 40_000,
            };
            self.send(SocketAddr::new(SERVER, port), transmit.to, transmit.payload);
        }
        if let Some(next) = self.server.next_timer() {
            let next = next.max(self.now);
            if next < self.server_tick {
                self.server_tick = next;
                self.at(next, Happening::ServerTick);
            }
        }
    }

    /// The site that hears an address now.
    fn hears(&self, address: IpAddr) -> Option<u32> {
        let (site, new) = owner(address)?;
        let moved = self.sites.get(site as usize)?.moved;
        let grace = Duration::from_secs(self.options.grace);
        let heard = match (new, moved) {
            (false, None) | (true, Some(_)) => true,
            (false, Some(since)) => self.now.since(since) <= grace,
            (true, None) => false,
        };
        heard.then_some(site)
    }

    fn packet(&mut self, from: u32, to: u32, left: u8) {
        self.tally.packets += 1;
        match self.sites[from as usize].cache.get(&to) {
            Some(Some(outer)) => {
                let outer = *outer;
                let source = rloc(from, self.sites[from as usize].moved.is_some());
                let arrival = self.now + Self::delay(source, outer);
                self.at(arrival, Happening::Data { from, to, outer });
            }
            Some(None) | None => {
                self.tally.missed += 1;
                let miss = DataEvent::Miss {
                    iid: 0,
                    source: eid(from),
                    destination: eid(to),
                    packet: HeldPacket {
                        iid: 0,
                        bytes: Vec::new(),
                    },
                };
                self.event(from, Event::Data(miss));
            }
        }
        if left > 1 {
            let packet = Happening::Packet {
                from,
                to,
                left: left - 1,
            };
            self.at(self.now + PACKET_GAP, packet);
        }
    }

    fn data(&mut self, from: u32, to: u32, outer: IpAddr) {
        if self.hears(outer) != Some(to) {
            self.tally.stale += 1;
            return;
        }
        if self.sites[to as usize].report_senders {
            let encapsulator = rloc(from, self.sites[from as usize].moved.is_some());
            let sender = DataEvent::Sender {
                iid: 0,
                source: eid(from),
                eid: eid(to),
                encapsulator,
            };
            self.event(to, Event::Data(sender));
        }
    }

    /// The given part of the sites gets other locators, all in one moment.
    fn move_sites(&mut self) {
        let moving = u64::from(self.options.sites) * u64::from(self.options.moving) / 100;
        let moving: BTreeSet<u32> = (0..moving)
            .map(|n| ((n * 7_919) % u64::from(self.options.sites)) as u32)
            .collect();
        for (holder, site) in self.sites.iter().enumerate() {
            for (to, outer) in &site.cache {
                if moving.contains(to) && outer.is_some() {
                    self.stale.entry(holder as u32).or_default().push(*to);
                    self.stale_at_move += 1;
                }
            }
        }
        for site in moving {
            self.sites[site as usize].moved = Some(self.now);
            let new = settings(&self.options, site, true);
            self.event(site, Event::Reload(Box::new(new)));
        }
    }

    /// Which stale entries of a site are gone or right now.
    fn check_converged(&mut self, holder: u32) {
        let Some(stale) = self.stale.get_mut(&holder) else {
            return;
        };
        let since = self.now.since(Time::ZERO + self.options.move_at());
        let cache = &self.sites[holder as usize].cache;
        let before = stale.len();
        stale.retain(|to| cache.get(to) == Some(&Some(rloc(*to, false))));
        let converged = before - stale.len();
        let times = std::iter::repeat_n(since.as_secs_f64(), converged);
        self.tally.converged.extend(times);
    }
}
