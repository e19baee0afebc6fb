//! The thread that starts programs: its children live in the lab's PID namespace.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use super::init::Init;
use super::program::Program;
use super::view::View;
use crate::sys::netns::Namespace;

type Job = Box<dyn FnOnce(&mut Workshop) + Send>;

/// How programs are started in a lab.
pub(crate) struct SpawnerOptions {
    /// Paths of the host that stay visible in the nodes.
    pub(crate) visible: Vec<PathBuf>,
}

/// Starts programs in nodes.
pub(crate) struct Spawner {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    init: Init,
    thread: Option<JoinHandle<()>>,
}

/// What the thread works with.
struct Workshop {
    visible: Vec<PathBuf>,
    views: HashMap<usize, View>,
}

impl Spawner {
    pub(crate) fn start(options: SpawnerOptions) -> io::Result<Spawner> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, started) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("lab-spawner".to_owned())
            .spawn(move || {
                let ok = match Init::start() {
                    Ok(init) => ready.send(Ok(init)).is_ok(),
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        false
                    }
                };
                let mut workshop = Workshop {
                    visible: options.visible,
                    views: HashMap::new(),
                };
                // Programs are killed when this thread ends (PR_SET_PDEATHSIG is about the parent thread), so it lives
                // as long as the lab.
                while ok && let Ok(job) = inbox.recv() {
                    job(&mut workshop);
                }
            })?;
        let init = started
            .recv()
            .map_err(|_| io::Error::other("the spawner thread died"))??;
        Ok(Spawner {
            jobs: Mutex::new(Some(jobs)),
            init,
            thread: Some(thread),
        })
    }

    fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Workshop) -> T + Send + 'static,
    ) -> io::Result<T> {
        let gone = || io::Error::other("the lab's spawner thread is gone");
        let (answer, result) = mpsc::channel();
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let job: Job = Box::new(move |workshop| {
            let _ = answer.send(job(workshop));
        });
        jobs.as_ref()
            .ok_or_else(gone)?
            .send(job)
            .map_err(|_| gone())?;
        drop(jobs);
        result.recv().map_err(|_| gone())
    }

    /// The private view of a node, made when it is first asked for.
    pub(crate) fn view(&self, node: usize, namespace: &Namespace) -> io::Result<View> {
        let namespace = namespace.clone();
        self.call(move |workshop| workshop.view(node, &namespace))?
    }

    /// Starts a program in a view that exists.
    pub(crate) fn spawn(
        &self,
        program: &Program,
        node: &str,
        namespace: &Namespace,
        view: &View,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> io::Result<Child> {
        let invalid = |_| io::Error::new(io::ErrorKind::InvalidInput, "a null octet in a name");
        let cwd = program.cwd.clone().unwrap_or_else(|| "/run/node".into());
        let cwd = CString::new(cwd.as_os_str().as_bytes()).map_err(invalid)?;
        let hostname = CString::new(node).map_err(invalid)?;
        let (namespace, view) = (namespace.clone(), view.clone());
        let program = program.clone();
        self.call(move |_| {
            let (name, arguments) = program
                .argv
                .split_first()
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an empty command"))?;
            let mut command = Command::new(name);
            command
                .args(arguments)
                .envs(&program.env)
                .stdin(Stdio::null())
                .stdout(stdout)
                .stderr(stderr);
            let network = namespace.as_fd().as_raw_fd();
            let mounts = view.as_fd().as_raw_fd();
            let enter = move || {
                let check = |result: i32| {
                    if result < 0 {
                        Err(io::Error::last_os_error())
                    } else {
                        Ok(())
                    }
                };
                // What the test has blocked for itself, the program must be able to receive.
                nix::sys::signal::SigSet::empty().thread_set_mask()?;
                // SAFETY: system calls on integers and on strings that the closure owns.
                unsafe {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    libc::setsid();
                    check(libc::setns(network, libc::CLONE_NEWNET))?;
                    check(libc::setns(mounts, libc::CLONE_NEWNS))?;
                    // The node's name as host name; a lab works without.
                    if libc::unshare(libc::CLONE_NEWUTS) == 0 {
                        libc::sethostname(hostname.as_ptr(), hostname.as_bytes().len());
                    }
                    check(libc::chdir(cwd.as_ptr()))?;
                    // Nothing that is open here is the program's business.
                    const CLOSE_RANGE_CLOEXEC: u32 = 4;
                    libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, CLOSE_RANGE_CLOEXEC);
                }
                Ok(())
            };
            // SAFETY: `enter` makes system calls only, allocates nothing and takes no locks.
            unsafe { command.pre_exec(enter) };
            let child = command.spawn();
            // The descriptors are needed until the child has entered.
            drop((namespace, view));
            child
        })?
    }

    /// The PID namespace of the lab.
    pub(crate) fn pid_namespace(&self) -> io::Result<OwnedFd> {
        let file = std::fs::File::open(format!("/proc/{}/ns/pid", self.init.pid()))?;
        Ok(file.into())
    }

    /// Kills every process of the lab.
    pub(crate) fn kill_all(&self) {
        self.init.kill();
    }
}

impl Drop for Spawner {
    /// All programs that were started must have been killed and reaped.
    fn drop(&mut self) {
        self.init.kill();
        self.init.reap();
        *self.jobs.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Workshop {
    fn view(&mut self, node: usize, namespace: &Namespace) -> io::Result<View> {
        if let Some(view) = self.views.get(&node) {
            return Ok(view.clone());
        }
        let view = View::make(namespace, &self.visible)?;
        self.views.insert(node, view.clone());
        Ok(view)
    }
}
