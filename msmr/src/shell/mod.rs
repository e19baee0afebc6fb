//! The daemon around the core: sockets, clock, signals, admin socket, state on disk. One thread serves packets.

mod admin;
pub(crate) mod batch;
pub(crate) mod sockets;

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::signals::{Request, Signals};
use daemon::{Clock, Failure, Time};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::config::{self, DaemonConfig};
use crate::core::{Core, Datagram, Families, Transmit};
use crate::state::StateDir;
use batch::Received;
use sockets::Sockets;

/// Batches taken from one socket before timers, signals and the other sockets get their turn.
const BATCHES_PER_TURN: usize = 4;

/// The core and the clock that it lives by, shared by the packet thread and the admin socket.
pub(crate) struct Shared {
    core: Mutex<Core>,
    pub(crate) clock: Clock,
    config_path: PathBuf,
    fixed: Fixed,
    /// Held from reading the file until it counts, so that the one that was read last counts last.
    reloading: Mutex<()>,
}

/// What is only read at the start.
#[derive(Debug, PartialEq)]
struct Fixed {
    admin_socket: PathBuf,
    addresses: Vec<IpAddr>,
    port: u16,
    state_dir: Option<PathBuf>,
    state_sync: bool,
}

impl From<&DaemonConfig> for Fixed {
    fn from(config: &DaemonConfig) -> Self {
        Self {
            admin_socket: config.admin_socket.clone(),
            addresses: config.addresses.clone(),
            port: config.port,
            state_dir: config.state_dir.clone(),
            state_sync: config.state_sync,
        }
    }
}

impl Shared {
    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        // A panic of an admin client's thread leaves the core as it was between two events.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the configuration file again; a broken one changes nothing.
    pub(crate) fn reload(&self) -> Result<String, String> {
        let _one_after_the_other = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let config = config::load(&self.config_path).map_err(|error| error.to_string())?;
        let note = match Fixed::from(&config) == self.fixed {
            true => "",
            false => {
                "; `admin-socket`, `addresses`, `port`, `state-dir` and `state-sync` change at the next start"
            }
        };
        let now = self.clock.now();
        let mut core = self.core();
        core.configure(now, config.core);
        Ok(format!("{} sites configured{note}", core.site_count()))
    }

    fn reload_and_say(&self) {
        match self.reload() {
            Ok(done) => tracing::info!("configuration read again: {done}"),
            Err(error) => tracing::error!("the configuration stays as it was: {error}"),
        }
    }
}

/// Reads the configuration file again while packets are served: a large one takes seconds.
fn reload_aside(shared: &Arc<Shared>) {
    let of_thread = shared.clone();
    let started = std::thread::Builder::new()
        .name("reload".into())
        .spawn(move || of_thread.reload_and_say());
    if started.is_err() {
        shared.reload_and_say();
    }
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// When the configuration is wrong or the host lacks something; nothing was served then.
pub fn run(config_path: &Path) -> Result<(), Failure> {
    let config = config::load(config_path)?;
    daemon::log::init(config.log);
    let signals =
        Signals::install().map_err(|error| Failure::host("taking over signals", error))?;
    let mut sockets = Sockets::open(&config.addresses, config.port)?;
    let fixed = Fixed::from(&config);
    let DaemonConfig {
        admin_socket,
        state_dir,
        state_sync,
        core: core_config,
        ..
    } = config;
    let clock = Clock::since_epoch();
    let mut core = Core::new(core_config, sockets.families(), clock.now(), random_seed()?);
    let mut state = match state_dir {
        Some(path) => Some(StateDir::open(&path, state_sync, &mut core, clock.now())?),
        None => None,
    };
    let shared = Arc::new(Shared {
        core: Mutex::new(core),
        clock,
        config_path: config_path.to_path_buf(),
        fixed,
        reloading: Mutex::new(()),
    });
    let of_admin = shared.clone();
    let server = daemon::admin::Server::start(&admin_socket, move |request| {
        admin::answer(&of_admin, &request)
    })?;
    daemon::ready::notify();
    let ended = serve(&shared, &mut sockets, &signals, state.as_mut());
    drop(server);
    tracing::info!("stopped");
    ended
}

fn serve(
    shared: &Arc<Shared>,
    sockets: &mut Sockets,
    signals: &Signals,
    mut state: Option<&mut StateDir>,
) -> Result<(), Failure> {
    let mut received = Received::new();
    let mut out: Vec<Transmit> = Vec::new();
    loop {
        wait(shared, sockets, signals, state.as_deref())?;
        match signals.try_next() {
            Ok(Some(Request::Stop)) => return Ok(()),
            Ok(Some(Request::Reload)) => reload_aside(shared),
            Ok(None) => {}
            Err(error) => return Err(Failure::host("reading signals", error)),
        }
        for index in 0..sockets.len() {
            for _ in 0..BATCHES_PER_TURN {
                if sockets.receive(index, &mut received) == 0 {
                    break;
                }
                let mut core = shared.core();
                let now = shared.clock.now();
                take_in(&mut core, now, sockets, index, &received, &mut out);
                keep_and_send(&mut core, state.as_deref_mut(), sockets, &mut out)?;
            }
        }
        let mut core = shared.core();
        core.timer(shared.clock.now(), &mut out);
        if let Some(state) = state.as_deref_mut() {
            state.compact(&mut core).map_err(state_failure)?;
        }
        keep_and_send(&mut core, state.as_deref_mut(), sockets, &mut out)?;
    }
}

/// Gives one batch of a control socket to the core.
pub(crate) fn take_in(
    core: &mut Core,
    now: Time,
    sockets: &Sockets,
    index: usize,
    received: &Received,
    out: &mut Vec<Transmit>,
) {
    core.warm(received.iter().map(|(_, _, payload)| payload));
    for (source, destination, payload) in received.iter() {
        let datagram = Datagram {
            source,
            destination: destination.unwrap_or_else(|| sockets.address(index)),
            payload,
        };
        core.datagram(now, datagram, out);
    }
}

/// State first, then the packets that acknowledge it.
fn keep_and_send(
    core: &mut Core,
    state: Option<&mut StateDir>,
    sockets: &mut Sockets,
    out: &mut Vec<Transmit>,
) -> Result<(), Failure> {
    if let (Some(state), Some(journal)) = (state, core.journal())
        && !state.append(journal).map_err(state_failure)?
    {
        // What is not kept is not acknowledged; the ETRs will ask again.
        out.retain(|transmit| transmit.payload.first().map(|octet| octet >> 4) != Some(4));
    }
    sockets.send(out);
    out.clear();
    Ok(())
}

fn state_failure(error: std::io::Error) -> Failure {
    Failure::host(
        "keeping state (stopping, because nothing more could be acknowledged)",
        error,
    )
}

fn wait(
    shared: &Shared,
    sockets: &Sockets,
    signals: &Signals,
    state: Option<&StateDir>,
) -> Result<(), Failure> {
    let timeout = if state.is_some_and(StateDir::compacting) {
        PollTimeout::ZERO
    } else {
        // An admin change can bring a timer nearer; a second bounds how late that is seen.
        let next = shared.core().next_timer();
        let longest = Duration::from_secs(1);
        let until = next.map_or(longest, |at| at.since(shared.clock.now()).min(longest));
        PollTimeout::from(u16::try_from(until.as_micros().div_ceil(1000)).unwrap_or(1000))
    };
    let mut fds: Vec<PollFd<'_>> = sockets
        .fds()
        .chain([signals.as_fd()])
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    match poll(&mut fds, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(Failure::host("waiting for packets", error)),
    }
}

fn random_seed() -> Result<u64, Failure> {
    use std::io::Read;
    let mut seed = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut seed))
        .map_err(|error| Failure::host("/dev/urandom", error))?;
    Ok(u64::from_be_bytes(seed))
}

/// Families of a list of addresses; both when it is empty.
fn families_of(addresses: &[IpAddr]) -> Families {
    if addresses.is_empty() {
        return Families::BOTH;
    }
    Families {
        ipv4: addresses.iter().any(IpAddr::is_ipv4),
        ipv6: addresses.iter().any(IpAddr::is_ipv6),
    }
}
