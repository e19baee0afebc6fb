//! The process that holds a named lab.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, fork, geteuid, pipe2, setsid};

use super::names::{give_names, names};
use super::protocol::{self, Answer, LinkChange, Request, TapPlace};
use super::state::{self, State, remove_directory};
use super::words::{impairment, words};
use super::{
    LinkStatus, NamedLab, NamedOptions, NodeStatus, Registry, Service, ServiceStatus, Status, wrong,
};
use crate::lab::{Lab, LabError, LabOptions};
use crate::process::ProcessHandle;
use crate::topology::Topology;

/// How long programs may take to end by themselves.
const STOP: Duration = Duration::from_secs(3);

/// Makes a named lab and returns when it is up and its programs are ready. What crashed labs left is removed first. If the
/// calling process dies before that, the lab is not made.
///
/// Call it while the process has one thread (it forks the holder), as root **without** [`crate::host::enter`], which would
/// hide the names under /run/netns from everybody else.
///
/// # Errors
/// A lab of that name is up; the lab could not be made; a program did not start or get ready. Nothing is left then.
pub fn up(
    registry: &Registry,
    topology: &Topology,
    options: NamedOptions,
) -> Result<NamedLab, LabError> {
    check(topology, &options)?;
    registry.clean()?;
    let (from_holder, to_parent) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map_err(|e| LabError::kernel("making a pipe", e.into()))?;
    // SAFETY: the process has one thread (checked above), so the child may do what any process may.
    match unsafe { fork() }
        .map_err(|errno| LabError::kernel("starting the holder", errno.into()))?
    {
        ForkResult::Child => {
            drop(from_holder);
            let code = hold(registry, topology, options, File::from(to_parent));
            std::process::exit(code)
        }
        ForkResult::Parent { .. } => {
            drop(to_parent);
            let mut report = String::new();
            let read = File::from(from_holder).read_to_string(&mut report);
            match (read, report.split_once(' ')) {
                (Ok(_), Some(("up", _))) => registry.open(&options.name),
                (_, Some((code, message))) => Err(LabError::Remote {
                    message: message.to_owned(),
                    exit_code: code.parse().unwrap_or(3),
                }),
                _ => {
                    registry.clean()?;
                    Err(LabError::Remote {
                        message: "the holder of the lab died while it made it".to_owned(),
                        exit_code: 3,
                    })
                }
            }
        }
    }
}

/// Gives a name back if the lab does not come up.
struct Reservation<'a>(&'a Path);

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if let Ok(state) = State::read(self.0) {
            state.remove_names();
        }
        remove_directory(self.0);
    }
}

fn check(topology: &Topology, options: &NamedOptions) -> Result<(), LabError> {
    let name = &options.name;
    let usable = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 63 || name.starts_with('.') || !name.chars().all(usable) {
        return Err(wrong(
            format!("`{name}` cannot be the name of a lab"),
            "take 1 to 63 letters, digits, `-`, `_` and `.`",
        ));
    }
    for service in &options.services {
        if topology.node(&service.node).is_none() {
            return Err(wrong(
                format!(
                    "there is no node `{}` for `{}`",
                    service.node,
                    service.program.display_name()
                ),
                "name a node of the topology",
            ));
        }
    }
    let threads = fs::read_dir("/proc/self/task").map(Iterator::count);
    if threads.is_ok_and(|count| count > 1) {
        return Err(wrong(
            "a named lab cannot be made by a process that has threads",
            "call named::up before any thread is started",
        ));
    }
    Ok(())
}

/// The life of the holder. Reports "up" or "CODE MESSAGE" to the parent once.
fn hold(registry: &Registry, topology: &Topology, options: NamedOptions, mut parent: File) -> i32 {
    let mut holder = match make(registry, topology, options) {
        Ok(holder) => holder,
        Err(error) => {
            let _ = registry.clean();
            let _ = write!(parent, "{} {error}", error.exit_code());
            return i32::from(error.exit_code());
        }
    };
    // Whoever was killed while it waited got no answer, and knows of no lab.
    if parent.write_all(b"up .").is_err() {
        holder.down();
        let _ = registry.clean();
        return 3;
    }
    drop(parent);
    let result = holder.serve();
    if let Err(error) = &result {
        eprintln!("the holder ends: {error}");
    }
    holder.down();
    // The directory of all labs goes with the last one.
    let _ = registry.clean();
    i32::from(result.is_err())
}

/// Takes the name and makes the lab; gives the name back if that fails.
fn make(
    registry: &Registry,
    topology: &Topology,
    options: NamedOptions,
) -> Result<Holder, LabError> {
    let state = registry.reserve(&options.name)?;
    let directory = registry.directory_of(&options.name);
    let reservation = Reservation(&directory);
    detach(&directory).map_err(|error| LabError::kernel("detaching the holder", error))?;
    let holder = Holder::make(topology, options, &directory, state)?;
    std::mem::forget(reservation);
    Ok(holder)
}

/// Leaves session and terminal.
fn detach(directory: &Path) -> io::Result<()> {
    setsid()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let log = File::create(directory.join("holder.log"))?;
    for (from, to) in [(&null, 0), (&null, 1), (&log, 2)] {
        // SAFETY: replaces a standard descriptor of this process, which no object owns.
        if unsafe { libc::dup2(from.as_raw_fd(), to) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

struct Holder {
    lab: Option<Lab>,
    state: State,
    directory: PathBuf,
    listener: UnixListener,
    signals: SignalFd,
    services: Vec<(Service, ProcessHandle)>,
    ready_timeout: Duration,
    /// Per link: whether it is plugged in, and its damage in words.
    links: Vec<(bool, Vec<(String, String)>)>,
    since: Instant,
    names_are_visible: bool,
}

impl Holder {
    fn make(
        topology: &Topology,
        options: NamedOptions,
        directory: &Path,
        mut state: State,
    ) -> Result<Holder, LabError> {
        let failed = |what: &str, error: io::Error| LabError::kernel(what.to_owned(), error);
        // Before any thread: the threads inherit it, and the signals come to the descriptor alone.
        let mut wanted = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            wanted.add(signal);
        }
        wanted
            .thread_block()
            .map_err(|errno| failed("blocking signals", errno.into()))?;
        let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC)
            .map_err(|errno| failed("waiting for signals", errno.into()))?;
        let names_are_visible = is_root_of_the_host();
        if !names_are_visible {
            // Also as root of somebody's user namespace: what is mounted for the names is the holder's own.
            crate::host::enter()?;
        }
        let logs = directory.join("logs");
        fs::create_dir(&logs).map_err(|error| failed("making the directory of the logs", error))?;
        fs::write(directory.join("topology.yaml"), &topology.expanded)
            .map_err(|error| failed("writing the topology of the lab", error))?;
        let lab_options = LabOptions {
            capture: false,
            all_inline: !options.plain_cables,
            log_directory: Some(logs),
            ..LabOptions::default()
        };
        let lab = Lab::up(topology, lab_options)?;
        state.names = names(&lab, &options.name, names_are_visible)?;
        state
            .write(directory)
            .map_err(|error| failed("writing the state of the lab", error))?;
        if !give_names(&lab, &state, names_are_visible)? {
            state.names.clear();
        }
        let listener = UnixListener::bind(directory.join("admin.sock"))
            .map_err(|error| failed("opening the admin socket", error))?;
        let links = topology
            .links
            .iter()
            .map(|link| (true, link.impair.as_ref().map(words).unwrap_or_default()))
            .collect();
        let mut holder = Holder {
            lab: Some(lab),
            state,
            directory: directory.to_owned(),
            listener,
            signals,
            services: Vec::new(),
            ready_timeout: options.ready_timeout,
            links,
            since: Instant::now(),
            names_are_visible,
        };
        for service in options.services {
            let handle = holder.start(&service)?;
            holder.services.push((service, handle));
        }
        Ok(holder)
    }

    fn lab(&self) -> Result<&Lab, LabError> {
        self.lab
            .as_ref()
            .ok_or_else(|| wrong("the lab is going down", "make it again"))
    }

    fn start(&self, service: &Service) -> Result<ProcessHandle, LabError> {
        let handle = self.lab()?.spawn(&service.node, service.program.clone())?;
        if let Some(ready) = &service.ready {
            handle
                .wait_log(ready, self.ready_timeout)
                .map_err(|error| wrong(error.to_string(), "look at the output above"))?;
        }
        Ok(handle)
    }

    /// Answers requests until it is told to end.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let mut fds = [
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            if fds[1].any() == Some(true) {
                return Ok(());
            }
            if fds[0].any() != Some(true) {
                continue;
            }
            let Ok((socket, _)) = self.listener.accept() else {
                continue;
            };
            // A client that says nothing must not stop the others.
            let patience = Some(Duration::from_secs(5));
            let _ = socket.set_read_timeout(patience);
            let _ = socket.set_write_timeout(patience);
            let Ok((request, _)) = protocol::receive::<Request>(&socket) else {
                continue;
            };
            let end = matches!(request, Request::Down);
            if end {
                self.down();
            }
            let (answer, descriptors) = self.answer(request);
            let _ = protocol::send(&socket, &answer, &descriptors);
            if end {
                return Ok(());
            }
        }
    }

    fn answer(&mut self, request: Request) -> (Answer, Vec<OwnedFd>) {
        let result = match request {
            Request::Down => Ok((Answer::Done, Vec::new())),
            Request::Status => self
                .status()
                .map(|status| (Answer::Status(Box::new(status)), Vec::new())),
            Request::Enter { node } => self
                .lab()
                .and_then(|lab| lab.doors(&node))
                .map(|doors| (Answer::Doors, doors)),
            Request::Tap { links } => self.taps(&links),
            Request::Link { link, change } => self
                .change(&link, &change)
                .map(|()| (Answer::Done, Vec::new())),
            Request::Kill { node, signal } => self
                .kill(&node, signal)
                .map(|()| (Answer::Done, Vec::new())),
            Request::Restart { node } => self.restart(&node).map(|()| (Answer::Done, Vec::new())),
        };
        result.unwrap_or_else(|error| {
            let answer = Answer::Failed {
                message: error.to_string(),
                exit_code: error.exit_code(),
            };
            (answer, Vec::new())
        })
    }

    fn status(&self) -> Result<Status, LabError> {
        let lab = self.lab()?;
        let topology = lab.topology();
        let nodes = topology.nodes.iter().enumerate().map(|(number, node)| {
            let services = self.services.iter().filter(|(s, _)| s.node == node.name);
            let name = self
                .state
                .names
                .get(number)
                .filter(|_| self.names_are_visible);
            NodeStatus {
                name: node.name.clone(),
                role: node.role.clone(),
                netns: name
                    .and_then(|name| name.path.file_name())
                    .map(|name| name.to_string_lossy().into_owned()),
                services: services
                    .map(|(_, handle)| ServiceStatus {
                        name: handle.name().to_owned(),
                        pid: handle.pid(),
                        exit: handle.exit(),
                        stopped: state::is_stopped(handle.pid()),
                    })
                    .collect(),
            }
        });
        let links = topology
            .links
            .iter()
            .zip(&self.links)
            .map(|(link, (up, impair))| LinkStatus {
                name: link.name.clone(),
                ends: [link.ends[0].node.clone(), link.ends[1].node.clone()],
                up: *up,
                impair: impair.clone(),
                statistics: lab.link_statistics(&link.name).ok(),
            });
        Ok(Status {
            name: self.state.name.clone(),
            topology: topology.name.clone(),
            holder: self.state.holder,
            uptime: self.since.elapsed().as_secs(),
            nodes: nodes.collect(),
            links: links.collect(),
        })
    }

    fn taps(&self, wanted: &[String]) -> Result<(Answer, Vec<OwnedFd>), LabError> {
        let lab = self.lab()?;
        let mut places = Vec::new();
        let mut descriptors = vec![lab.user_namespace()?];
        for name in wanted {
            lab.link_number(name)?;
        }
        for (number, link) in lab.topology().links.iter().enumerate() {
            if !wanted.is_empty() && !wanted.contains(&link.name) {
                continue;
            }
            let (namespace, index) = lab.end(number, 0)?;
            places.push(TapPlace {
                link: link.name.clone(),
                near: link.ends[0].node.clone(),
                far: link.ends[1].node.clone(),
                index,
                large: link.offloads || link.mtu.is_some_and(|mtu| mtu > 9000),
            });
            descriptors.push(namespace);
        }
        Ok((Answer::Taps(places), descriptors))
    }

    fn change(&mut self, link: &str, change: &LinkChange) -> Result<(), LabError> {
        let lab = self.lab()?;
        let number = lab.link_number(link)?;
        let (mut up, mut set) = self.links[number].clone();
        if !change.set.is_empty() {
            for (key, value) in &change.set {
                set.retain(|(known, _)| known != key);
                if value != "none" {
                    set.push((key.clone(), value.clone()));
                }
            }
            lab.set_impairment(link, impairment(&set)?)?;
        }
        if let Some(wanted) = change.up {
            lab.set_link_up(link, wanted)?;
            up = wanted;
        }
        self.links[number] = (up, set);
        Ok(())
    }

    fn of_node(&self, node: &str) -> Result<Vec<usize>, LabError> {
        self.lab()?.namespace(node)?;
        let found: Vec<usize> = (0..self.services.len())
            .filter(|&number| self.services[number].0.node == node)
            .collect();
        if found.is_empty() {
            return Err(wrong(
                format!("node `{node}` has no program"),
                "name a node that has one: `status` shows them",
            ));
        }
        Ok(found)
    }

    fn kill(&self, node: &str, signal: i32) -> Result<(), LabError> {
        let signal = Signal::try_from(signal)
            .map_err(|_| wrong(format!("{signal} is no signal"), "give one like TERM or 9"))?;
        for number in self.of_node(node)? {
            let handle = &self.services[number].1;
            handle.signal(signal);
            if signal == Signal::SIGKILL {
                // Nothing can refuse it: whoever looks next finds it ended.
                let _ = handle.wait(STOP);
            }
        }
        Ok(())
    }

    fn restart(&mut self, node: &str) -> Result<(), LabError> {
        for number in self.of_node(node)? {
            let (service, handle) = self.services[number].clone();
            handle.stop(Signal::SIGTERM, STOP);
            self.services[number].1 = self.start(&service)?;
        }
        Ok(())
    }

    /// Takes the lab down and removes what is on the host because of it.
    fn down(&mut self) {
        for (_, handle) in self.services.iter().rev() {
            handle.signal(Signal::SIGTERM);
        }
        let deadline = Instant::now() + STOP;
        for (_, handle) in &self.services {
            let _ = handle.wait(deadline.saturating_duration_since(Instant::now()));
        }
        if let Some(lab) = self.lab.take() {
            lab.finish();
        }
        self.state.remove_names();
        remove_directory(&self.directory);
    }
}

/// Whether this is root, and not the root of a user namespace.
fn is_root_of_the_host() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Used by clients as well: the socket of a lab.
pub(super) fn connect(directory: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(directory.join("admin.sock"))
}
