//! Programs of a lab: what [`Lab`] offers to start and run them.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::unistd::pipe2;

use super::links::copy;
use super::{Lab, LabError, LabOptions};
use crate::process::{
    Log, LogPump, Output, ProcessHandle, ProcessReport, Program, Spawner, SpawnerOptions, View,
};

/// Everything about programs. Started when the first one is: a lab without programs pays nothing.
pub(crate) struct Processes {
    engine: OnceLock<Engine>,
    starting: Mutex<()>,
    visible: Vec<PathBuf>,
    log_directory: Option<PathBuf>,
    log_limit: u64,
}

struct Engine {
    spawner: Spawner,
    pump: LogPump,
    started: Mutex<Vec<ProcessHandle>>,
    /// Nodes into whose view the topology's files have been written.
    furnished: Mutex<HashSet<usize>>,
}

impl Processes {
    pub(crate) fn new(options: &LabOptions) -> Processes {
        let mut visible = options.visible.clone();
        let executable = std::env::current_exe().ok();
        visible.extend(executable.and_then(|path| Some(path.parent()?.to_owned())));
        visible.extend(std::env::current_dir().ok());
        Processes {
            engine: OnceLock::new(),
            starting: Mutex::new(()),
            visible,
            log_directory: options.log_directory.clone(),
            log_limit: options.log_limit,
        }
    }

    fn engine(&self) -> Result<&Engine, LabError> {
        let _one_at_a_time = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let failed = |error| LabError::kernel("making a PID namespace for the lab", error);
        let options = SpawnerOptions {
            visible: self.visible.clone(),
        };
        let engine = Engine {
            spawner: Spawner::start(options).map_err(failed)?,
            pump: LogPump::start().map_err(failed)?,
            started: Mutex::new(Vec::new()),
            furnished: Mutex::new(HashSet::new()),
        };
        Ok(self.engine.get_or_init(|| engine))
    }

    /// Kills everything and reports on all programs, in the order of their start.
    pub(crate) fn finish(mut self) -> Vec<ProcessReport> {
        self.engine.take().map(Engine::finish).unwrap_or_default()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.finish();
        }
    }
}

impl Engine {
    fn finish(self) -> Vec<ProcessReport> {
        let started = self
            .started
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        // Those that ended by themselves are told apart from those that the end of the lab kills.
        let exits: Vec<_> = started.iter().map(ProcessHandle::exit).collect();
        self.spawner.kill_all();
        for process in &started {
            process.reap();
        }
        drop(self.spawner);
        // Everything that held a pipe is dead: the pump reads what is left and ends.
        drop(self.pump);
        started
            .iter()
            .zip(exits)
            .map(|(process, exit)| process.report(exit))
            .collect()
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe2(OFlag::O_CLOEXEC)?)
}

impl Lab {
    /// Starts a program in a node: in its network namespace, in the lab's PID namespace, with the node's private /tmp and
    /// /run. It has started when this returns; whether it is ready is for its output to say ([`ProcessHandle::wait_log`]).
    ///
    /// # Errors
    /// There is no such node or no such program, or a file could not be written.
    pub fn spawn(&self, node: &str, program: Program) -> Result<ProcessHandle, LabError> {
        let (reader, writer) = pipe().map_err(|error| LabError::kernel("making a pipe", error))?;
        let second = writer
            .try_clone()
            .map_err(|error| LabError::kernel("copying a descriptor", error))?;
        let engine = self.processes.engine()?;
        let name = program.display_name();
        let log = {
            let started = engine
                .started
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let earlier = started
                .iter()
                .filter(|p| p.node() == node && p.name() == name)
                .count();
            let suffix = if earlier == 0 {
                String::new()
            } else {
                format!("-{}", earlier + 1)
            };
            let path = self
                .processes
                .log_directory
                .as_ref()
                .map(|directory| directory.join(format!("{node}.{name}{suffix}.log")));
            Log::to_file(path.as_deref(), self.processes.log_limit).map_err(|error| {
                LabError::kernel(format!("making the log file of {name}"), error)
            })?
        };
        let log = Arc::new(log);
        let handle = self.start(engine, node, program, writer, second, &log)?;
        engine.pump.add(reader, log);
        let mut started = engine
            .started
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        started.push(handle.clone());
        Ok(handle)
    }

    /// Runs a command in a node and waits for its end. What it prints is returned, not logged.
    ///
    /// # Errors
    /// As [`Lab::spawn`]; or it still runs after `timeout` and is killed.
    pub fn exec<S: Into<String>>(
        &self,
        node: &str,
        argv: impl IntoIterator<Item = S>,
        timeout: Duration,
    ) -> Result<Output, LabError> {
        let deadline = Instant::now() + timeout;
        let program = Program::new(argv);
        let engine = self.processes.engine()?;
        let pipes = |_| -> io::Result<_> { pipe() };
        let [out, err] = [pipes(1), pipes(2)]
            .map(|pipe| pipe.map_err(|error| LabError::kernel("making a pipe", error)));
        let ((out, out_to), (err, err_to)) = (out?, err?);
        let (stdout, stderr) = (Arc::new(Log::default()), Arc::new(Log::default()));
        let command = program.argv.join(" ");
        let handle = self.start(engine, node, program, out_to, err_to, &stdout)?;
        engine.pump.add(out, Arc::clone(&stdout));
        engine.pump.add(err, Arc::clone(&stderr));
        let stopped = match handle.wait(timeout) {
            Ok(exit) => exit,
            Err(_) => {
                handle.stop(Signal::SIGKILL, Duration::from_secs(1));
                return Err(LabError::usage(
                    format!(
                        "node `{node}`: `{command}` still ran after {timeout:?} and was killed"
                    ),
                    format!(
                        "give it more time; it printed: {}{}",
                        stdout.tail(5),
                        stderr.tail(5)
                    ),
                ));
            }
        };
        // Its children may hold the pipes open: wait for them no longer than was asked for.
        let grace = deadline.max(Instant::now() + Duration::from_millis(100));
        stdout.wait_closed(grace);
        stderr.wait_closed(grace);
        Ok(Output {
            exit: stopped,
            stdout: stdout.octets(),
            stderr: stderr.octets(),
        })
    }

    /// Runs a closure on a helper thread that is inside a node's network namespace and sees its private /tmp and /run: to
    /// talk to a program through its Unix socket, say.
    ///
    /// # Errors
    /// As [`Lab::run_in`].
    pub fn run_in_view<T: Send>(
        &self,
        node: &str,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, LabError> {
        let number = self.number(node)?;
        let view = self.view(self.processes.engine()?, number)?;
        view.run(Some(&self.networks.nodes[number]), work)
            .map_err(|error| LabError::kernel(format!("node `{node}`: entering its view"), error))
    }

    /// Everything that is needed to enter a node from another process: its user, network, mount and PID namespaces.
    pub(crate) fn doors(&self, node: &str) -> Result<Vec<OwnedFd>, LabError> {
        let number = self.number(node)?;
        let engine = self.processes.engine()?;
        let view = self.view(engine, number)?;
        let processes = engine
            .spawner
            .pid_namespace()
            .map_err(|error| LabError::kernel("opening the PID namespace", error))?;
        Ok(vec![
            self.user_namespace()?,
            copy(&self.networks.nodes[number])?,
            copy(&view)?,
            processes,
        ])
    }

    /// The private view of a node, with the topology's files in it.
    fn view(&self, engine: &Engine, number: usize) -> Result<View, LabError> {
        let node = &self.topology.nodes[number];
        let namespace = &self.networks.nodes[number];
        let view = engine.spawner.view(number, namespace).map_err(|error| {
            LabError::kernel(
                format!("node `{}`: making its private view", node.name),
                error,
            )
        })?;
        let mut furnished = engine
            .furnished
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !furnished.contains(&number) {
            for (path, content) in &node.files {
                view.write_file(path, content.as_bytes()).map_err(|error| {
                    let what = format!("node `{}`: writing {}: {error}", node.name, path.display());
                    LabError::usage(what, "put files under /run/node or /tmp")
                })?;
            }
            furnished.insert(number);
        }
        Ok(view)
    }

    fn start(
        &self,
        engine: &Engine,
        node: &str,
        mut program: Program,
        stdout: OwnedFd,
        stderr: OwnedFd,
        log: &Arc<Log>,
    ) -> Result<ProcessHandle, LabError> {
        let number = self.number(node)?;
        let description = &self.topology.nodes[number];
        let namespace = &self.networks.nodes[number];
        let name = program.display_name();
        let refused = |reason: String, hint: &str| LabError::Start {
            node: node.to_owned(),
            program: name.clone(),
            reason,
            hint: hint.to_owned(),
        };
        let view = self.view(engine, number)?;
        for (path, content) in &program.files {
            view.write_file(path, content).map_err(|error| {
                let reason = format!("writing {}: {error}", path.display());
                refused(reason, "put files under /run/node or /tmp")
            })?;
        }
        for (name, value) in &description.env {
            let entry = program.env.entry(name.clone());
            entry.or_insert_with(|| value.clone());
        }
        let started_ns = self.now_ns();
        let child = engine
            .spawner
            .spawn(&program, node, namespace, &view, stdout, stderr)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => refused(
                    format!("{} is not there (or its interpreter, or the working directory)", program.argv.first().map_or("", String::as_str)),
                    "give an absolute path; what lies under /tmp or /run must be listed in LabOptions::visible",
                ),
                _ => refused(error.to_string(), "check that the program can be executed"),
            })?;
        ProcessHandle::new(node, name, program.argv, started_ns, child, Arc::clone(log))
            .map_err(|error| LabError::kernel("watching a process", error))
    }
}
