//! Commands to a named lab.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::Pid;

use super::holder::connect;
use super::protocol::{self, Answer, LinkChange, Request};
use super::state::State;
use super::{Registry, Status, wrong};
use crate::capture::{Capture, Drops, Interface, Packet, Tap};
use crate::lab::{Clock, LabError};
use crate::process::Exit;
use crate::sys::netns::Namespace;
use crate::sys::pidfd::PidFd;
use crate::topology::Topology;

/// A named lab that is up.
#[derive(Debug)]
pub struct NamedLab {
    name: String,
    registry: Registry,
    directory: PathBuf,
    state: State,
}

impl Registry {
    /// Finds a lab by its name.
    ///
    /// # Errors
    /// No lab of that name is up.
    pub fn open(&self, name: &str) -> Result<NamedLab, LabError> {
        let directory = self.directory_of(name);
        match State::read(&directory) {
            Ok(state) if state.is_alive() => Ok(NamedLab {
                name: name.to_owned(),
                registry: self.clone(),
                directory,
                state,
            }),
            _ => {
                let names = self.names()?;
                Err(wrong(
                    format!("no lab with the name `{name}` is up"),
                    match names.as_slice() {
                        [] => "none is: make one with `up`".to_owned(),
                        names => format!("those that are: {}", names.join(", ")),
                    },
                ))
            }
        }
    }

    /// The only lab that is up, for commands that were given no name.
    ///
    /// # Errors
    /// None is up, or several are.
    pub fn only(&self) -> Result<NamedLab, LabError> {
        match self.names()?.as_slice() {
            [name] => self.open(name),
            [] => Err(wrong("no lab is up", "make one with `up`")),
            names => Err(wrong(
                format!("several labs are up: {}", names.join(", ")),
                "say which one",
            )),
        }
    }
}

impl NamedLab {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory with the outputs of its programs, one file each: `NODE.PROGRAM.log`, `NODE.PROGRAM-2.log` after a
    /// restart.
    pub fn logs(&self) -> PathBuf {
        self.directory.join("logs")
    }

    /// The network that it was made from.
    ///
    /// # Errors
    /// The lab's own copy of it cannot be read.
    pub fn topology(&self) -> Result<Topology, LabError> {
        Topology::load(self.directory.join("topology.yaml")).map_err(|error| {
            wrong(
                format!("the lab's copy of its topology: {error}"),
                "take the lab down and make it again",
            )
        })
    }

    /// Whether its holder lives. Unlike [`Registry::open`], which looks for the lab of the calling user, this also works
    /// for a process that has entered the lab's user namespace.
    pub fn is_up(&self) -> bool {
        self.state.is_alive()
    }

    fn ask(&self, request: &Request) -> Result<(Answer, Vec<OwnedFd>), LabError> {
        let ask = || -> io::Result<(Answer, Vec<OwnedFd>)> {
            let socket = connect(&self.directory)?;
            protocol::send(&socket, request, &[])?;
            protocol::receive(&socket)
        };
        match ask() {
            Ok((Answer::Failed { message, exit_code }, _)) => {
                Err(LabError::Remote { message, exit_code })
            }
            Ok(answer) => Ok(answer),
            Err(error) => Err(LabError::kernel(
                format!("talking to the holder of the lab `{}`", self.name),
                error,
            )),
        }
    }

    /// How it is.
    ///
    /// # Errors
    /// The holder does not answer.
    pub fn status(&self) -> Result<Status, LabError> {
        match self.ask(&Request::Status)? {
            (Answer::Status(status), _) => Ok(*status),
            other => Err(unexpected(&other.0)),
        }
    }

    /// Changes a link.
    ///
    /// # Errors
    /// There is no such link, it is a plain cable, or the change cannot be understood.
    pub fn change_link(&self, link: &str, change: LinkChange) -> Result<(), LabError> {
        let link = link.to_owned();
        self.ask(&Request::Link { link, change }).map(drop)
    }

    /// Sends a signal to the programs of a node.
    ///
    /// # Errors
    /// There is no such node, or it has no program.
    pub fn kill(&self, node: &str, signal: Signal) -> Result<(), LabError> {
        let node = node.to_owned();
        let signal = signal as i32;
        self.ask(&Request::Kill { node, signal }).map(drop)
    }

    /// Stops and starts the programs of a node, and waits until they are ready.
    ///
    /// # Errors
    /// There is no such node, it has no program, or that does not get ready.
    pub fn restart(&self, node: &str) -> Result<(), LabError> {
        let node = node.to_owned();
        self.ask(&Request::Restart { node }).map(drop)
    }

    /// Runs a command in a node, with this process's terminal, and waits for its end.
    ///
    /// The calling process enters the lab's namespaces and does not come back: call it last, while there is one thread.
    ///
    /// # Errors
    /// There is no such node, or the command cannot be started.
    pub fn exec(&self, node: &str, argv: &[String]) -> Result<Exit, LabError> {
        self.exec_with(node, argv, &[])
    }

    /// As [`NamedLab::exec`], with additions to the environment; a `PATH` among them is where the program is looked for.
    ///
    /// # Errors
    /// As [`NamedLab::exec`].
    pub fn exec_with(
        &self,
        node: &str,
        argv: &[String],
        environment: &[(String, OsString)],
    ) -> Result<Exit, LabError> {
        self.run(node, argv, environment, false)
    }

    /// As [`NamedLab::exec_with`], for a shell with job control: on a terminal it is a foreground process group of its own,
    /// because it cannot see the one of its caller from within the lab's PID namespace.
    ///
    /// # Errors
    /// As [`NamedLab::exec`].
    pub fn shell_with(
        &self,
        node: &str,
        argv: &[String],
        environment: &[(String, OsString)],
    ) -> Result<Exit, LabError> {
        self.run(node, argv, environment, io::stdin().is_terminal())
    }

    fn run(
        &self,
        node: &str,
        argv: &[String],
        environment: &[(String, OsString)],
        foreground: bool,
    ) -> Result<Exit, LabError> {
        let (program, arguments) = argv
            .split_first()
            .ok_or_else(|| wrong("no command was given", "name a program to run"))?;
        let (_, doors) = self.ask(&Request::Enter {
            node: node.to_owned(),
        })?;
        let failed = |error: io::Error| LabError::kernel(format!("entering node `{node}`"), error);
        let [user, network, mounts, processes] =
            <[OwnedFd; 4]>::try_from(doors).map_err(|_| unexpected(&Answer::Doors))?;
        enter_user_namespace(user).map_err(failed)?;
        for (door, kind) in [
            (processes, CloneFlags::CLONE_NEWPID),
            (network, CloneFlags::CLONE_NEWNET),
            (mounts, CloneFlags::CLONE_NEWNS),
        ] {
            setns(door, kind).map_err(|errno| failed(errno.into()))?;
        }
        let hostname = node.to_owned();
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/run/node");
        let prepare = move || {
            // SAFETY: default actions touch no handler.
            unsafe {
                signal(Signal::SIGINT, SigHandler::SigDfl)?;
                signal(Signal::SIGQUIT, SigHandler::SigDfl)?;
            }
            if foreground {
                nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
                take_terminal(nix::unistd::getpid());
                // SAFETY: default actions touch no handler.
                unsafe { signal(Signal::SIGTTOU, SigHandler::SigDfl)? };
            }
            if nix::sched::unshare(CloneFlags::CLONE_NEWUTS).is_ok() {
                let _ = nix::unistd::sethostname(&hostname);
            }
            Ok(())
        };
        // SAFETY: system calls only, and the process has one thread.
        unsafe { command.pre_exec(prepare) };
        // The terminal's signals are for the command; this process waits for it, as a shell does.
        // SAFETY: ignoring touches no handler.
        unsafe {
            let _ = signal(Signal::SIGINT, SigHandler::SigIgn);
            let _ = signal(Signal::SIGQUIT, SigHandler::SigIgn);
        }
        let status = command.status();
        if foreground {
            take_terminal(nix::unistd::getpgrp());
        }
        let status = status.map_err(|error| LabError::Start {
            node: node.to_owned(),
            program: program.clone(),
            reason: error.to_string(),
            hint: "the node sees the host's files, but has its own /tmp and /run".to_owned(),
        })?;
        Ok(match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        })
    }

    /// Captures links (all if none is named) until the result is dropped. As an ordinary user the calling process enters
    /// the lab's user namespace: call it while there is one thread.
    ///
    /// # Errors
    /// There is no such link, or the capture could not be opened.
    pub fn capture(&self, links: &[String]) -> Result<NamedCapture, LabError> {
        let links = links.to_vec();
        let (answer, descriptors) = self.ask(&Request::Tap { links })?;
        let Answer::Taps(places) = answer else {
            return Err(unexpected(&answer));
        };
        let failed = |error| LabError::kernel("opening the capture", error);
        let mut descriptors = descriptors.into_iter();
        if let Some(user) = descriptors.next() {
            enter_user_namespace(user).map_err(failed)?;
        }
        let taps = places
            .into_iter()
            .zip(descriptors)
            .map(|(place, namespace)| Tap {
                interface: Arc::new(Interface {
                    name: format!("{}@{}", place.link, place.near),
                    link: place.link,
                    near: place.near,
                    far: place.far,
                    link_type: 1,
                }),
                namespace: Namespace::from(namespace),
                index: place.index,
                large: place.large,
            })
            .collect();
        let clock = Clock::start();
        let capture = Capture::start(taps, clock, 256 << 20).map_err(failed)?;
        Ok(NamedCapture {
            capture,
            clock,
            early: Vec::new(),
            number: 0,
        })
    }

    /// Takes the lab down: programs, namespaces, names. A holder that does not answer is killed, and what it leaves removed.
    ///
    /// # Errors
    /// The holder cannot be killed.
    pub fn down(self) -> Result<(), LabError> {
        // Opened and looked at again before anything is sent: then it is this holder and no other process.
        let holder = PidFd::open(self.state.holder).ok();
        if !self.state.is_alive() {
            return self.registry.remove(&self.state);
        }
        let asked = self.ask(&Request::Down);
        if let Some(holder) = holder {
            let patience = if asked.is_ok() { 10 } else { 0 };
            let deadline = Instant::now() + Duration::from_secs(patience);
            if !holder.wait(deadline).unwrap_or(false) {
                holder
                    .kill()
                    .map_err(|error| LabError::kernel("killing the holder", error))?;
                let _ = holder.wait(Instant::now() + Duration::from_secs(10));
            }
        }
        self.registry.remove(&self.state)
    }
}

/// Makes a process group the one that reads from the terminal, and leaves SIGTTOU ignored: whoever takes the terminal does
/// not have it. Async-signal-safe.
fn take_terminal(group: Pid) {
    // SAFETY: ignoring touches no handler; the other call takes numbers. Where the terminal has gone away there is nothing
    // to take.
    unsafe {
        let _ = signal(Signal::SIGTTOU, SigHandler::SigIgn);
        libc::tcsetpgrp(libc::STDIN_FILENO, group.as_raw());
    }
}

fn unexpected(answer: &Answer) -> LabError {
    LabError::Remote {
        message: format!("the holder gave an answer that was not asked for: {answer:?}"),
        exit_code: 3,
    }
}

/// Enters a user namespace unless it is the process's own.
fn enter_user_namespace(namespace: OwnedFd) -> io::Result<()> {
    let theirs = File::from(namespace);
    let own = std::fs::metadata("/proc/self/ns/user")?;
    if theirs.metadata()?.ino() != own.ino() {
        setns(theirs.as_fd(), CloneFlags::CLONE_NEWUSER)?;
    }
    Ok(())
}

/// A running capture of a named lab.
pub struct NamedCapture {
    capture: Capture,
    clock: Clock,
    /// Read already, but later than what other rings may still hold.
    early: Vec<Packet>,
    number: u64,
}

impl NamedCapture {
    /// Where packets are captured.
    pub fn interfaces(&self) -> &[Arc<Interface>] {
        &self.capture.interfaces
    }

    /// The packets since the last call in the order of time, over all calls, numbered on. Waits for the first one, at most
    /// as long as given.
    pub fn next(&mut self, timeout: Duration) -> Vec<Packet> {
        if self.early.is_empty() {
            self.capture.wait_more(0, Instant::now() + timeout);
        }
        // The kernel hands the rings over at different times. What passed until now is complete after catching up; of what
        // passes meanwhile, some rings have been read and some have not.
        let until = self.clock.now();
        self.capture.catch_up();
        let mut packets = std::mem::take(&mut self.early);
        packets.extend(self.capture.take());
        packets.sort_by_key(|packet| packet.time_ns);
        self.early = packets.split_off(packets.partition_point(|packet| packet.time_ns <= until));
        self.numbered(packets)
    }

    /// Ends the capture: the last packets, and what was lost.
    pub fn finish(mut self) -> (Vec<Packet>, Vec<Drops>) {
        let (packets, drops) = self.capture.finish();
        let mut all = std::mem::take(&mut self.early);
        all.extend(packets);
        all.sort_by_key(|packet| packet.time_ns);
        (self.numbered(all), drops)
    }

    fn numbered(&mut self, mut packets: Vec<Packet>) -> Vec<Packet> {
        for packet in &mut packets {
            self.number += 1;
            packet.number = self.number;
        }
        packets
    }
}
