//! The private view of a node: its own /tmp, /run, /var and /proc, in a mount namespace that is held by a descriptor.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{ForkResult, fork, pipe2};

use crate::sys::netns::Namespace;

/// Directories that every node has for itself. Of the rest of /var it has a copy on write, where the kernel makes one.
const PRIVATE: &[&str] = &["/tmp", "/run", "/var/run", "/var/tmp", "/var/log"];

/// The mount namespace of a node.
#[derive(Clone)]
pub(crate) struct View {
    mounts: Arc<OwnedFd>,
    /// Whether what is written to /var stays in the node.
    copies_var: bool,
}

impl AsFd for View {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mounts.as_fd()
    }
}

/// What of /var the host has, found before the fork.
struct Var {
    /// /var/run is a directory of its own, not a link to /run.
    run: bool,
    /// There is a /var/tmp that is no link.
    tmp: bool,
    /// Whether a copy on write shows all of it: not if something is mounted below, which the copy would hide.
    whole: bool,
    /// The directories in /var/log, with their modes: programs expect the one that their package made.
    logs: Option<Vec<(CString, libc::mode_t)>>,
}

impl Var {
    fn of_the_host() -> Var {
        let own = |path: &str| Path::new(path).is_dir() && !Path::new(path).is_symlink();
        Var {
            run: own("/var/run"),
            tmp: own("/var/tmp"),
            whole: own("/var") && !has_mounts_below_var(),
            logs: own("/var/log").then(|| directories_in(Path::new("/var/log"))),
        }
    }
}

/// Whether something is mounted in /var at a place that a node does not have for itself.
fn has_mounts_below_var() -> bool {
    // The fifth field is where it is mounted. A host that does not show its mounts is taken to have some.
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else {
        return true;
    };
    mounts.lines().any(|line| {
        let at = Path::new(line.split(' ').nth(4).unwrap_or("/var/"));
        at.starts_with("/var") && at != Path::new("/var") && !is_private(at)
    })
}

fn directories_in(path: &Path) -> Vec<(CString, libc::mode_t)> {
    use std::os::unix::fs::PermissionsExt as _;
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| {
            let mode = entry.metadata().ok()?.permissions().mode();
            Some((
                CString::new(entry.path().as_os_str().as_bytes()).ok()?,
                mode & 0o7777,
            ))
        })
        .collect()
}

fn is_private(path: &Path) -> bool {
    PRIVATE.iter().any(|directory| path.starts_with(directory))
}

/// A path of the host that stays visible although it lies in a directory that is private: made ready before the fork.
struct Visible {
    path: CString,
    /// The directories above it, outermost first.
    above: Vec<CString>,
    is_directory: bool,
}

/// What went wrong where, as the helper process reports it: a step number and an errno.
const STEPS: &[&str] = &[
    "ready",
    "making a mount namespace",
    "making the mounts private",
    "entering the node's network namespace",
    "mounting a private /tmp",
    "mounting a private /run",
    "mounting a private /var/run",
    "mounting a private /var/tmp",
    "making /run/node",
    "mounting a private /var/log",
];

impl View {
    /// Makes the view of a node. Call it on the thread whose children live in the lab's PID namespace: /proc shows the
    /// namespace of the process that mounts it, so a child of that thread has to do it.
    pub(crate) fn make(namespace: &Namespace, visible: &[PathBuf]) -> io::Result<View> {
        let visible: Vec<Visible> = visible
            .iter()
            .filter_map(|path| Visible::new(path))
            .collect();
        let var = Var::of_the_host();
        let (answer, answer_to) = pipe2(OFlag::O_CLOEXEC)?;
        let (hold, hold_to) = pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: the child makes system calls on data that was prepared before the fork, and never returns.
        match unsafe { fork() }? {
            ForkResult::Child => {
                let answer_to = answer_to.as_raw_fd();
                let result = prepare(namespace.as_fd().as_raw_fd(), &visible, &var);
                let report = match result {
                    Ok(copies_var) => [0, i32::from(copies_var)],
                    Err(step) => [step, errno()],
                };
                let octets = [report[0] as u8, report[1] as u8];
                let mut octet = 0u8;
                // SAFETY: writes and reads go to local buffers of the given lengths.
                unsafe {
                    libc::write(answer_to, octets.as_ptr().cast(), 2);
                    // The other end of our copy has to go, or the pipe would never end.
                    libc::close(hold_to.as_raw_fd());
                    libc::read(hold.as_raw_fd(), (&raw mut octet).cast(), 1);
                    libc::_exit(0)
                }
            }
            ForkResult::Parent { child } => {
                drop(answer_to);
                drop(hold);
                let mut report = [0u8; 2];
                let read = File::from(answer).read_exact(&mut report);
                let view = read.and_then(|()| {
                    if report[0] != 0 {
                        let step = STEPS.get(usize::from(report[0])).unwrap_or(&"?");
                        let error = io::Error::from_raw_os_error(i32::from(report[1]));
                        return Err(io::Error::new(error.kind(), format!("{step}: {error}")));
                    }
                    let file = File::open(format!("/proc/{child}/ns/mnt"))?;
                    Ok(View {
                        mounts: Arc::new(file.into()),
                        copies_var: report[1] != 0,
                    })
                });
                // A word, not only the end of the pipe: a helper that another lab forks at this moment has inherited our
                // end and, waiting for us in the same way, would keep it open for ever.
                File::from(hold_to).write_all(&[0])?;
                while nix::sys::wait::waitpid(child, None) == Err(nix::errno::Errno::EINTR) {}
                view
            }
        }
    }

    /// Runs a closure on a helper thread that sees the node's files (and, if given, its network).
    pub(crate) fn run<T: Send>(
        &self,
        namespace: Option<&Namespace>,
        work: impl FnOnce() -> T + Send,
    ) -> io::Result<T> {
        std::thread::scope(|scope| {
            let helper = std::thread::Builder::new()
                .name("in-view".to_owned())
                .spawn_scoped(scope, || -> io::Result<T> {
                    // A thread that shares root and working directory with others cannot enter a mount namespace.
                    unshare(CloneFlags::CLONE_FS)?;
                    setns(self.as_fd(), CloneFlags::CLONE_NEWNS)?;
                    if let Some(namespace) = namespace {
                        namespace.enter()?;
                    }
                    Ok(work())
                })?;
            match helper.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Writes a file into the view. Under a private directory it is simply written; anywhere else it must exist, and a
    /// copy is mounted over it, for this node alone.
    pub(crate) fn write_file(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.run(None, || write_file(path, content, self.copies_var))?
    }
}

fn write_file(path: &Path, content: &[u8], copies_var: bool) -> io::Result<()> {
    if !path.is_absolute() || path.components().any(|part| part.as_os_str() == "..") {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "expected an absolute path without `..`",
        ));
    }
    if is_private(path) || (copies_var && path.starts_with("/var")) {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        return std::fs::write(path, content);
    }
    if !path.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "outside of /run, /tmp and /var only files that exist on the host can be replaced: put the file under /run",
        ));
    }
    let copies = Path::new("/run/node/.replaced");
    std::fs::create_dir_all(copies)?;
    let name: String = path
        .to_string_lossy()
        .chars()
        .map(|c| if c == '/' { '-' } else { c })
        .collect();
    let copy = copies.join(name);
    std::fs::write(&copy, content)?;
    nix::mount::mount(
        Some(&copy),
        path,
        None::<&str>,
        nix::mount::MsFlags::MS_BIND,
        None::<&str>,
    )?;
    Ok(())
}

impl Visible {
    /// Nothing has to be done for a path that does not lie in a private directory, or that is not there. A path in /var is
    /// the host's own one, not its copy: what a program writes there, the host sees.
    fn new(path: &Path) -> Option<Visible> {
        let path = path.canonicalize().ok()?;
        let mut replaced = PRIVATE.iter().chain(&["/var"]).map(Path::new);
        if !replaced
            .clone()
            .any(|directory| path.starts_with(directory))
            || replaced.any(|directory| path == directory)
        {
            return None;
        }
        let is_directory = path.is_dir();
        let mut above: Vec<CString> = path
            .ancestors()
            .skip(1)
            .filter_map(|path| CString::new(path.as_os_str().as_bytes()).ok())
            .collect();
        above.reverse();
        Some(Visible {
            path: CString::new(path.as_os_str().as_bytes()).ok()?,
            above,
            is_directory,
        })
    }
}

fn errno() -> i32 {
    // SAFETY: the location of errno is valid for the calling thread.
    unsafe { *libc::__errno_location() }
}

/// The work of the helper process: async-signal-safe calls only. Tells whether the node has a copy of /var; the error is the
/// number of the step.
fn prepare(namespace: RawFd, visible: &[Visible], var: &Var) -> Result<bool, i32> {
    let step = |number: i32, result: i32| if result < 0 { Err(number) } else { Ok(()) };
    // SAFETY: all strings are null-terminated and live to the end; the calls take no other pointers.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        step(1, libc::unshare(libc::CLONE_NEWNS))?;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        step(2, mount(None, c"/", None, private, None))?;
        step(3, libc::setns(namespace, libc::CLONE_NEWNET))?;
        // Opened while they can still be seen. At most 64: enough for what a test binary needs.
        let mut handles = [-1; 64];
        for (handle, item) in handles.iter_mut().zip(visible) {
            *handle = libc::open(item.path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
        }
        // A container may mask parts of /proc, and the kernel then forbids a fresh one; the old one also shows the
        // reader's own network settings, so a node can do without.
        if mount(Some(c"proc"), c"/proc", Some(c"proc"), 0, None) < 0 {
            let hardened = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
            let again = libc::MS_REMOUNT | libc::MS_BIND | hardened;
            mount(None, c"/proc/sys", None, again, None);
        }
        mount(Some(c"sysfs"), c"/sys", Some(c"sysfs"), 0, None);
        let nodev = libc::MS_NOSUID | libc::MS_NODEV;
        let tmpfs =
            |at: &CStr, mode: &CStr| mount(Some(c"tmpfs"), at, Some(c"tmpfs"), nodev, Some(mode));
        step(4, tmpfs(c"/tmp", c"mode=1777"))?;
        step(5, tmpfs(c"/run", c"mode=0755"))?;
        let copies_var = var.whole && copy_var();
        if var.run {
            step(
                6,
                mount(Some(c"/run"), c"/var/run", None, libc::MS_BIND, None),
            )?;
        }
        if var.tmp {
            step(
                7,
                mount(Some(c"/tmp"), c"/var/tmp", None, libc::MS_BIND, None),
            )?;
        }
        if let Some(directories) = &var.logs {
            step(9, tmpfs(c"/var/log", c"mode=0755"))?;
            for (directory, mode) in directories {
                libc::mkdir(directory.as_ptr(), 0o755);
                libc::chmod(directory.as_ptr(), *mode);
            }
        }
        step(8, libc::mkdir(c"/run/node".as_ptr(), 0o755))?;
        libc::mkdir(c"/run/lock".as_ptr(), 0o1777);
        for (handle, item) in handles.iter().zip(visible) {
            for directory in &item.above {
                libc::mkdir(directory.as_ptr(), 0o755);
            }
            if item.is_directory {
                libc::mkdir(item.path.as_ptr(), 0o755);
            } else {
                let fd = libc::open(item.path.as_ptr(), libc::O_CREAT | libc::O_WRONLY, 0o644);
                libc::close(fd);
            }
            let mut source = [0u8; 32];
            write_fd_path(&mut source, *handle);
            if let Ok(source) = CStr::from_bytes_until_nul(&source) {
                mount(
                    Some(source),
                    &item.path,
                    None,
                    libc::MS_BIND | libc::MS_REC,
                    None,
                );
            }
        }
        Ok(copies_var)
    }
}

/// Lays a copy on write over /var, kept in the node's /run. Tells whether the kernel can (containers often may not).
///
/// # Safety
/// None beyond that of the system calls: all strings are literals. The node's own /run has to be mounted.
unsafe fn copy_var() -> bool {
    // SAFETY: see above.
    unsafe {
        libc::mkdir(c"/run/.var".as_ptr(), 0o700);
        libc::mkdir(c"/run/.var/upper".as_ptr(), 0o755);
        libc::mkdir(c"/run/.var/work".as_ptr(), 0o755);
        let layers = c"lowerdir=/var,upperdir=/run/.var/upper,workdir=/run/.var/work,userxattr";
        let nodev = libc::MS_NOSUID | libc::MS_NODEV;
        mount(
            Some(c"overlay"),
            c"/var",
            Some(c"overlay"),
            nodev,
            Some(layers),
        ) == 0
    }
}

/// Writes `/proc/self/fd/N` and a null, without allocating.
fn write_fd_path(to: &mut [u8; 32], fd: RawFd) {
    let prefix = b"/proc/self/fd/";
    to[..prefix.len()].copy_from_slice(prefix);
    let mut digits = [0u8; 10];
    let mut count = 0;
    let mut rest = fd.max(0);
    loop {
        digits[count] = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
        if rest == 0 {
            break;
        }
    }
    for i in 0..count {
        to[prefix.len() + i] = digits[count - 1 - i];
    }
}

/// mount(2).
///
/// # Safety
/// None beyond that of a system call: strings are references, so they are valid.
unsafe fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    data: Option<&CStr>,
) -> i32 {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: see above.
    unsafe {
        libc::mount(
            pointer(source),
            target.as_ptr(),
            pointer(kind),
            flags,
            pointer(data).cast(),
        )
    }
}
