//! What a named lab leaves on the host, written down exactly: so that after a crash all of it is found and removed, and
//! nothing else.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, umount2};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::wrong;
use crate::lab::LabError;

/// The version of `state.json`.
const FORMAT: u32 = 1;

/// The state file until it is whole.
const STATE_TO_BE: &str = "state.json.new";

/// Who holds a lab, and what is on the host because of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct State {
    pub(crate) format: u32,
    pub(crate) name: String,
    /// The holder's process id and its start time, which together are used once per boot.
    pub(crate) holder: u32,
    pub(crate) started: u64,
    pub(crate) boot: String,
    /// Names of namespaces under /run/netns.
    pub(crate) names: Vec<Name>,
}

/// A file under /run/netns on which a namespace is mounted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Name {
    pub(crate) path: PathBuf,
    /// Device and inode of the namespace.
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl State {
    /// A state with the calling process as holder.
    pub(crate) fn of_this_process(name: &str) -> io::Result<State> {
        Ok(State {
            format: FORMAT,
            name: name.to_owned(),
            holder: std::process::id(),
            started: start_time(std::process::id())?,
            boot: boot_id()?,
            names: Vec::new(),
        })
    }

    pub(crate) fn read(directory: &Path) -> io::Result<State> {
        let text = fs::read(directory.join("state.json"))?;
        serde_json::from_slice(&text).map_err(io::Error::from)
    }

    /// Written whole or not at all.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        let new = directory.join(STATE_TO_BE);
        fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        fs::rename(new, directory.join("state.json"))
    }

    /// Whether the holder still lives: the same process of the same boot.
    pub(crate) fn is_alive(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot)
            && start_time(self.holder).is_ok_and(|started| started == self.started)
    }

    fn is_of_same_holder(&self, other: &State) -> bool {
        let holder = |state: &State| (state.holder, state.started, state.boot.clone());
        holder(self) == holder(other)
    }

    /// Removes the names from /run/netns: those that are still exactly what was written down.
    pub(crate) fn remove_names(&self) {
        for name in &self.names {
            let Ok(found) = fs::symlink_metadata(&name.path) else {
                continue;
            };
            let ours = found.dev() == name.device && found.ino() == name.inode;
            if ours {
                let _ = umount2(&name.path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
            }
            // What the mount covered, or what was made ready for it: an empty file.
            let rest = fs::symlink_metadata(&name.path);
            if rest.is_ok_and(|file| file.is_file() && file.len() == 0 && file.dev() != name.device)
            {
                let _ = fs::remove_file(&name.path);
            }
        }
    }
}

/// What stands in /proc/PID/stat from the third field on (proc(5)).
fn stat(pid: u32) -> io::Result<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in brackets, in which anything may stand.
    Ok(stat
        .rsplit_once(')')
        .map_or_else(String::new, |(_, rest)| rest.to_owned()))
}

/// Whether a signal has stopped a process, and it waits for SIGCONT.
pub(super) fn is_stopped(pid: u32) -> bool {
    stat(pid).is_ok_and(|stat| stat.split_whitespace().next() == Some("T"))
}

/// The start time of a process in clock ticks since boot: field 22 of /proc/PID/stat.
fn start_time(pid: u32) -> io::Result<u64> {
    let stat = stat(pid)?;
    let mut fields = stat.split_whitespace();
    if fields.next() == Some("Z") {
        return Err(io::ErrorKind::NotFound.into());
    }
    fields
        .nth(18)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn boot_id() -> io::Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(id.trim().to_owned())
}

/// The directory of a registry while it is locked. It goes with its last lab.
struct Locked<'a> {
    directory: &'a Path,
    _lock: Flock<fs::File>,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Only if it is empty.
        let _ = fs::remove_dir(self.directory);
    }
}

/// Where the states of a program's named labs are.
#[derive(Clone, Debug)]
pub struct Registry {
    directory: PathBuf,
}

impl Registry {
    /// The registry of a program: `/run/PROGRAM` for root, `$XDG_RUNTIME_DIR/PROGRAM` or `/tmp/PROGRAM-UID` for others.
    ///
    /// # Errors
    /// The directory cannot be made, or is somebody else's.
    pub fn of(program: &str) -> Result<Registry, LabError> {
        let uid = geteuid();
        let directory = if uid.is_root() {
            PathBuf::from("/run").join(program)
        } else {
            match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
                Some(own) if own.is_absolute() && own.is_dir() => own.join(program),
                _ => PathBuf::from(format!("/tmp/{program}-{uid}")),
            }
        };
        Registry::at(directory)
    }

    /// A registry in a directory of choice. It is there while labs are.
    ///
    /// # Errors
    /// The directory is somebody else's.
    pub fn at(directory: impl Into<PathBuf>) -> Result<Registry, LabError> {
        let registry = Registry {
            directory: directory.into(),
        };
        registry.check()?;
        Ok(registry)
    }

    fn failed(&self, what: &str) -> impl Fn(io::Error) -> LabError {
        let what = format!("{what} {}", self.directory.display());
        move |error| LabError::kernel(what.clone(), error)
    }

    fn check(&self) -> Result<(), LabError> {
        let found = match fs::symlink_metadata(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found.map_err(self.failed("looking at"))?,
        };
        if !found.is_dir() || found.uid() != geteuid().as_raw() {
            return Err(wrong(
                format!(
                    "{} is not a directory of this user",
                    self.directory.display()
                ),
                "remove it, or set XDG_RUNTIME_DIR to a directory of your own",
            ));
        }
        Ok(())
    }

    /// The entries of the directory, if it is there.
    fn entries(&self) -> Result<Vec<fs::DirEntry>, LabError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.and_then(Iterator::collect),
        };
        entries.map_err(self.failed("reading"))
    }

    pub(crate) fn directory_of(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The names of all labs that are up, sorted.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names(&self) -> Result<Vec<String>, LabError> {
        let mut names = Vec::new();
        for entry in self.entries()? {
            if State::read(&entry.path()).is_ok_and(|state| state.is_alive()) {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The directory itself, locked: names are taken, and what crashed is removed, by one process at a time. `None` if it is
    /// not there.
    fn lock(&self) -> Result<Option<Locked<'_>>, LabError> {
        let failed = self.failed("locking");
        loop {
            let directory = match fs::File::open(&self.directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                directory => directory.map_err(&failed)?,
            };
            let lock = Flock::lock(directory, FlockArg::LockExclusive)
                .map_err(|(_, errno)| failed(errno.into()))?;
            let locked = lock.metadata().map_err(&failed)?;
            // Whoever had it before may have removed it.
            if fs::symlink_metadata(&self.directory).is_ok_and(|now| now.ino() == locked.ino()) {
                return Ok(Some(Locked {
                    directory: &self.directory,
                    _lock: lock,
                }));
            }
        }
    }

    /// The same, made if it is not there.
    fn make(&self) -> Result<Locked<'_>, LabError> {
        loop {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.directory)
                .map_err(self.failed("making"))?;
            self.check()?;
            if let Some(locked) = self.lock()? {
                return Ok(locked);
            }
        }
    }

    /// Takes a name for the calling process, which becomes the holder of that lab.
    pub(crate) fn reserve(&self, name: &str) -> Result<State, LabError> {
        let _locked = self.make()?;
        let directory = self.directory_of(name);
        let failed = |error| LabError::kernel(format!("making {}", directory.display()), error);
        let state = State::of_this_process(name).map_err(failed)?;
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(wrong(
                    format!("a lab with the name `{name}` is up, or is being made"),
                    "choose another name, or take it down first",
                ));
            }
            Err(error) => return Err(failed(error)),
        }
        if let Err(error) = state.write(&directory) {
            remove_directory(&directory);
            return Err(failed(error));
        }
        Ok(state)
    }

    /// Removes what a holder left, unless the name is another holder's by now.
    pub(crate) fn remove(&self, state: &State) -> Result<(), LabError> {
        let Some(_locked) = self.lock()? else {
            return Ok(());
        };
        let directory = self.directory_of(&state.name);
        if State::read(&directory).is_ok_and(|found| found.is_of_same_holder(state)) {
            state.remove_names();
            remove_directory(&directory);
        }
        Ok(())
    }

    /// Removes what labs left whose holder has died, and says which those were. Only what is written down in a state, and
    /// still is what was written down, is touched.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn clean(&self) -> Result<Vec<String>, LabError> {
        let Some(_locked) = self.lock()? else {
            return Ok(Vec::new());
        };
        let mut cleaned = Vec::new();
        for entry in self.entries()? {
            let path = entry.path();
            let Ok(state) = State::read(&path) else {
                // Names are taken under the lock: who made this directory died before it had written its state.
                let _ = fs::remove_file(path.join(STATE_TO_BE));
                let _ = fs::remove_dir(&path);
                continue;
            };
            if !state.is_alive() {
                state.remove_names();
                remove_directory(&path);
                cleaned.push(state.name);
            }
        }
        Ok(cleaned)
    }
}

/// Removes the directory of a lab: the files that a holder makes, and no others.
pub(crate) fn remove_directory(directory: &Path) {
    let logs = directory.join("logs");
    for entry in fs::read_dir(&logs).into_iter().flatten().flatten() {
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "log")
        {
            let _ = fs::remove_file(entry.path());
        }
    }
    let _ = fs::remove_dir(logs);
    let socket = directory.join("admin.sock");
    if fs::symlink_metadata(&socket).is_ok_and(|file| file.file_type().is_socket()) {
        let _ = fs::remove_file(socket);
    }
    for file in ["holder.log", "topology.yaml", STATE_TO_BE, "state.json"] {
        let _ = fs::remove_file(directory.join(file));
    }
    let _ = fs::remove_dir(directory);
}
