//! The core's surroundings in a running daemon: sockets, packet path, clock, signals, admin socket.
//!
//! One thread drives the core. It sleeps in `poll` until a datagram, an event of the packet path, a signal, an
//! operator's request or the core's next deadline comes.

mod admin;
mod control_socket;
mod path;
mod random;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use daemon::log::Limiter;
use daemon::signals::{self, Signals};
use daemon::{Clock, Failure, Time};
use nix::ifaddrs::InterfaceAddress;
use nix::net::if_::InterfaceFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::core::{Action, Core, Event, Settings};
use crate::dataplane::DataPlaneConfig;
use crate::forwarding::{DataEvent, EventReceiver};
use admin::{Admin, Order};
use control_socket::ControlSockets;
use path::PacketPath;
pub(crate) use random::System;

/// Datagrams, events or orders that are taken in one go before the others get their turn.
const BATCH: usize = 256;
/// How often the kernel is asked what it does not tell.
const LOOK: Duration = Duration::from_secs(1);

/// What a program's configuration comes to on this box, at this time.
#[derive(Debug, Clone)]
pub struct Setup {
    /// For the core.
    pub settings: Settings,
    /// For the packet path. Only read at the start.
    pub dataplane: DataPlaneConfig,
    /// Where operators ask. Only read at the start.
    pub admin_socket: PathBuf,
}

/// What a configuration is to be read for.
#[derive(Debug, Clone)]
pub struct Host {
    /// Addresses of the box, without loopback.
    pub addresses: Vec<IpAddr>,
    /// Larger at every start as long as the wall clock does not go back (RFC 9301 5.6).
    pub register_nonce: u64,
}

/// A running tunnel router.
struct Shell<R> {
    read: R,
    clock: Clock,
    core: Core,
    sockets: ControlSockets,
    path: PacketPath,
    events: EventReceiver,
    complaints: Limiter<&'static str>,
    next_look: Time,
    links_down: BTreeSet<IpAddr>,
}

/// Addresses of interfaces that are up and have a carrier.
fn working_addresses() -> io::Result<BTreeSet<IpAddr>> {
    let works = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    Ok(nix::ifaddrs::getifaddrs()?
        .filter(|interface| interface.flags.contains(works))
        .filter_map(|interface| interface_address(&interface))
        .collect())
}

fn interface_address(interface: &InterfaceAddress) -> Option<IpAddr> {
    let address = interface.address?;
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
}

/// Runs until SIGTERM or SIGINT. `read` reads the configuration: at the start, and again on SIGHUP.
///
/// # Errors
/// The configuration does not fit the box, or the host refuses a socket, a device or a route.
pub fn run<R>(read: R) -> Result<(), Failure>
where
    R: Fn(&Host) -> Result<Setup, Failure>,
{
    let signals = Signals::install().map_err(|e| Failure::host("watching signals", e))?;
    let clock = Clock::start();
    let Setup {
        settings,
        mut dataplane,
        admin_socket,
    } = read(&Host::read()?)?;
    let sockets = ControlSockets::open()?;
    let (admin, orders) = Admin::start(&admin_socket)?;
    dataplane.rlocs.clone_from(&settings.rlocs);
    let (path, events) = PacketPath::start(&dataplane, &settings)?;
    let core = Core::new(
        settings,
        sockets.client_port(),
        Box::new(System::open()?),
        Box::new(path.traffic(clock)),
    );
    let mut shell = Shell {
        read,
        clock,
        core,
        sockets,
        path,
        events,
        complaints: Limiter::default(),
        next_look: Time::ZERO,
        links_down: BTreeSet::new(),
    };
    shell.feed(Event::Start);
    shell.feed(Event::Tick);
    daemon::ready::notify();
    shell.serve(&signals, &orders)?;
    shell.feed(Event::Stop);
    tracing::info!("stopped: everything deregistered");
    drop(admin);
    Ok(())
}

impl Host {
    /// Reads the box's addresses and clock.
    ///
    /// # Errors
    /// The system does not list its interfaces.
    #[allow(
        clippy::disallowed_methods,
        reason = "nonces go on growing over restarts"
    )]
    pub fn read() -> Result<Self, Failure> {
        let interfaces = nix::ifaddrs::getifaddrs()
            .map_err(|e| Failure::host("reading the addresses of the interfaces", e))?;
        let addresses = interfaces
            .filter_map(|interface| interface_address(&interface))
            .filter(|address| !address.is_loopback())
            .collect();
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Self {
            addresses,
            register_nonce: u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX),
        })
    }
}

impl<R> Shell<R>
where
    R: Fn(&Host) -> Result<Setup, Failure>,
{
    fn serve(&mut self, signals: &Signals, orders: &admin::Orders) -> Result<(), Failure> {
        loop {
            self.wait(signals, orders)
                .map_err(|e| Failure::host("waiting for messages", e))?;
            match signals
                .try_next()
                .map_err(|e| Failure::host("reading signals", e))?
            {
                Some(signals::Request::Stop) => return Ok(()),
                Some(signals::Request::Reload) => self.reload(),
                None => {}
            }
            self.take_datagrams();
            for _ in 0..BATCH {
                let Some(event) = self.events.try_recv() else {
                    break;
                };
                self.feed_data(event);
            }
            for _ in 0..BATCH {
                let Some(order) = orders.try_next() else {
                    break;
                };
                self.obey(order);
            }
            self.feed(Event::Tick);
            self.look_around();
        }
    }

    fn wait(&self, signals: &Signals, orders: &admin::Orders) -> io::Result<()> {
        let mut deadline = self.core.next_deadline();
        if self.core.unrouted().next().is_some() || self.core.settings().rlocs.len() > 1 {
            deadline = Some(deadline.map_or(self.next_look, |at| at.min(self.next_look)));
        }
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(at) => {
                // Rounded up: waking early would only mean waking twice.
                let wait = at.since(self.clock.now()) + Duration::from_micros(999);
                PollTimeout::try_from(wait.as_millis()).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut sources: Vec<BorrowedFd<'_>> = self.sockets.descriptors().collect();
        sources.extend([signals.as_fd(), orders.as_fd(), self.events.as_fd()]);
        let mut fds: Vec<PollFd<'_>> = sources
            .into_iter()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn take_datagrams(&mut self) {
        for _ in 0..BATCH {
            match self.sockets.receive() {
                Ok(Some(datagram)) => self.feed(Event::Received(datagram)),
                Ok(None) => return,
                Err(error) => return tracing::debug!("control socket: {error}"),
            }
        }
    }

    /// Gives the core an event and does what it wants done.
    fn feed(&mut self, event: Event) {
        let now = self.clock.now();
        for action in self.core.handle(now, event) {
            self.act(action);
        }
    }

    /// An event of the packet path. A packet that found no route in the site may mean that its whole EID-Prefix has
    /// none: the kernel's routes tell.
    fn feed_data(&mut self, event: DataEvent) {
        if let DataEvent::NoRoute { iid, eid, .. } = &event
            && let Some(prefix) = self.core.local_prefix(*iid, *eid)
            && !self.path.site_reaches(&prefix)
        {
            self.feed(Event::SiteRoute {
                prefix,
                present: false,
            });
        }
        self.feed(Event::Data(event));
    }

    /// What no message tells: whether prefixes without a route have one again, and, where there are several own
    /// locators, whether their interfaces work.
    fn look_around(&mut self) {
        let now = self.clock.now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        for prefix in self.core.unrouted().collect::<Vec<_>>() {
            if self.path.site_reaches(&prefix) {
                self.feed(Event::SiteRoute {
                    prefix,
                    present: true,
                });
            }
        }
        if self.core.settings().rlocs.len() < 2 {
            return;
        }
        match working_addresses() {
            Ok(working) => {
                for address in self.core.settings().rlocs.clone() {
                    let up = working.contains(&address);
                    if self.links_down.contains(&address) == up {
                        if up {
                            self.links_down.remove(&address);
                        } else {
                            self.links_down.insert(address);
                        }
                        self.feed(Event::OwnLink { address, up });
                    }
                }
            }
            Err(error) => tracing::debug!("reading the interfaces: {error}"),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send {
                from,
                source,
                to,
                payload,
            } => {
                let source = source.or_else(|| self.only_locator(to.ip()));
                if let Err(error) = self.sockets.send(from, source, to, &payload) {
                    let text = format!("control message to {to} not sent: {error}");
                    self.complain("control-not-sent", &text);
                }
            }
            Action::Log(text) => tracing::info!("{text}"),
            Action::Complain { reason, text } => self.complain(reason, &text),
            other => {
                if let Err(error) = self.path.act(other, self.core.settings()) {
                    self.complain("packet-path-refused", &error.to_string());
                }
            }
        }
    }

    /// With one locator of a family, control messages come from it. With several, the route decides, so that strict
    /// reverse-path filters of providers let the message pass.
    fn only_locator(&self, peer: IpAddr) -> Option<IpAddr> {
        let mut own = self
            .core
            .settings()
            .rlocs_up()
            .filter(|rloc| rloc.is_ipv4() == peer.is_ipv4());
        let first = own.next();
        first.filter(|_| own.next().is_none())
    }

    fn complain(&mut self, reason: &'static str, text: &str) {
        match self.complaints.allow(self.clock.now(), reason) {
            Some(0) => tracing::warn!("{text}"),
            Some(more) => tracing::warn!("{text} ({more} more since the last such line)"),
            None => {}
        }
    }

    fn reload(&mut self) {
        match Host::read().and_then(|host| (self.read)(&host)) {
            Ok(Setup { settings, .. }) => {
                self.path.reload(&settings);
                self.feed(Event::Reload(Box::new(settings)));
            }
            Err(failure) => tracing::error!("the old configuration stays in force: {failure}"),
        }
    }

    fn obey(&mut self, order: Order) {
        let now = self.clock.now();
        let answer = match order.change() {
            Ok(Some(change)) => match self.core.refusal(&change) {
                Some(reason) => Err(reason),
                None => {
                    self.feed(Event::Change(change));
                    Ok(serde_json::Value::Null)
                }
            },
            Ok(None) => admin::show(order.request(), now, &self.core, &self.path),
            Err(text) => Err(text),
        };
        order.answer(answer);
    }
}
