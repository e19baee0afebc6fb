//! State on disk: an append-only file that is written before anything is acknowledged, and rewritten when it has grown.
//!
//! `STATE-DIR/state-N` are the generations. A new generation first gets every change from its start on and, bit by bit, the
//! whole table; only then are older ones removed. Reading all of them in order gives the state after a crash at any moment.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use daemon::{Failure, Time};
use lisp::EidPrefix;
use nix::fcntl::{Flock, FlockArg};

use crate::core::{Core, STATE_HEADER};

/// Prefixes written per turn while the table is rewritten: about a millisecond of work.
const SWEEP: usize = 2000;
/// A file is rewritten when it is twice as large as after the last time, and this much more.
const SLACK: u64 = 16 << 20;
/// Octets that wait for a full disk to have room again; with more, everything is written anew then.
const MAX_WAITING: usize = 64 << 20;

/// An open state directory.
#[derive(Debug)]
pub(crate) struct StateDir {
    directory: PathBuf,
    sync: bool,
    generation: u64,
    file: File,
    written: u64,
    /// Size after the last rewriting.
    base: u64,
    sweep: Sweep,
    /// The disk takes nothing.
    failing: bool,
    /// What waited became too much and was thrown away: the next generation writes everything anew.
    lost: bool,
    max_waiting: usize,
    /// A new generation is not tried again before the file has this size.
    postponed: u64,
    /// Holds others off while it lives.
    _lock: Flock<File>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sweep {
    Idle,
    Start,
    At(EidPrefix),
    /// The last part is in the journal and not yet in the file.
    Ending,
}

impl StateDir {
    /// Reads what is there into the core and starts a new generation. The core keeps a journal from here on.
    pub(crate) fn open(
        directory: &Path,
        sync: bool,
        core: &mut Core,
        now: Time,
    ) -> Result<Self, Failure> {
        let shown = directory.display();
        let fail = |doing: &str, error: io::Error| {
            Failure::Host(format!(
                "state directory {shown}: {doing}: {error}; expected a directory that this daemon may write"
            ))
        };
        fs::create_dir_all(directory).map_err(|error| fail("making it", error))?;
        let lock =
            File::create(directory.join("lock")).map_err(|error| fail("locking it", error))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|_| {
            Failure::Host(format!(
                "state directory {shown}: another running daemon uses it; stop it, or set another `state-dir`"
            ))
        })?;
        let generations = generations(directory).map_err(|error| fail("listing it", error))?;
        for &generation in &generations {
            let path = path_of(directory, generation);
            let state = fs::read(&path).map_err(|error| fail("reading it", error))?;
            // A crash can come before the header is written.
            if STATE_HEADER.starts_with(&state) && state.len() < STATE_HEADER.len() {
                continue;
            }
            let (entries, torn) = core.restore(now, &state).map_err(|error| {
                Failure::Usage(format!("{}: {error}; move the file away", path.display()))
            })?;
            tracing::info!(entries, torn_octets = torn, "read {}", path.display());
        }
        let generation = generations.last().map_or(1, |last| last + 1);
        let file = create(directory, generation).map_err(|error| fail("writing it", error))?;
        core.keep_journal();
        Ok(Self {
            directory: directory.to_path_buf(),
            sync,
            generation,
            file,
            written: STATE_HEADER.len() as u64,
            base: 0,
            sweep: Sweep::Start,
            failing: false,
            lost: false,
            max_waiting: MAX_WAITING,
            postponed: 0,
            _lock: lock,
        })
    }

    /// Whether there is work that should not wait for packets.
    pub(crate) fn compacting(&self) -> bool {
        self.sweep != Sweep::Idle && !self.failing
    }

    /// Writes the journal and clears it. After `Ok(true)`, a kill of this process at any moment loses none of it; with
    /// `state-sync` neither does a power failure. `Ok(false)`: the disk did not take it now, nothing of it may be acknowledged.
    ///
    /// # Errors
    /// When the file is in an unknown state.
    pub(crate) fn append(&mut self, journal: &mut Vec<u8>) -> io::Result<bool> {
        if self.lost {
            journal.clear();
            return Ok(false);
        }
        if journal.is_empty() {
            return Ok(true);
        }
        let result = self.file.write_all(journal).and_then(|()| match self.sync {
            true => self.file.sync_data(),
            false => Ok(()),
        });
        match result {
            Ok(()) => {
                self.written += journal.len() as u64;
                journal.clear();
                if std::mem::take(&mut self.failing) {
                    tracing::info!("state is kept again");
                }
                Ok(true)
            }
            Err(error) => {
                // What was written of it would stand in the way of all that follows.
                if self.file.metadata()?.len() != self.written {
                    self.file.set_len(self.written)?;
                }
                self.fails(&error);
                if journal.len() > self.max_waiting {
                    journal.clear();
                    self.lost = true;
                    self.sweep = Sweep::Idle;
                }
                Ok(false)
            }
        }
    }

    fn fails(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!("state is not kept, nothing is acknowledged: {error}");
        }
    }

    /// Goes on with rewriting, or starts it when the file has grown enough. What it puts into the core's journal must be
    /// appended before the next call. A disk that is full makes it wait.
    ///
    /// # Errors
    /// When old files cannot be removed.
    pub(crate) fn compact(&mut self, core: &mut Core) -> io::Result<()> {
        self.sweep = match self.sweep {
            Sweep::Idle if self.lost || self.has_grown() => self.begin(),
            Sweep::Idle => Sweep::Idle,
            waiting if self.failing => waiting,
            Sweep::Start => core.sweep(None, SWEEP).map_or(Sweep::Ending, Sweep::At),
            Sweep::At(cursor) => core
                .sweep(Some(cursor), SWEEP)
                .map_or(Sweep::Ending, Sweep::At),
            Sweep::Ending => {
                if self.sync {
                    self.file.sync_data()?;
                }
                for old in generations(&self.directory)? {
                    if old < self.generation {
                        fs::remove_file(path_of(&self.directory, old))?;
                    }
                }
                self.base = self.written;
                Sweep::Idle
            }
        };
        Ok(())
    }

    fn has_grown(&self) -> bool {
        self.written > (2 * self.base + SLACK).max(self.postponed)
    }

    /// Starts a new generation, where the disk has room for one.
    fn begin(&mut self) -> Sweep {
        match create(&self.directory, self.generation + 1) {
            Ok(file) => {
                self.file = file;
                self.generation += 1;
                self.written = STATE_HEADER.len() as u64;
                self.postponed = 0;
                if std::mem::take(&mut self.lost) {
                    self.failing = false;
                    tracing::info!("state is kept again, all of it is written anew");
                }
                Sweep::Start
            }
            Err(error) if self.lost => {
                self.fails(&error);
                Sweep::Idle
            }
            Err(error) => {
                tracing::warn!("state is not rewritten, its file goes on growing: {error}");
                self.postponed = self.written + SLACK;
                Sweep::Idle
            }
        }
    }
}

fn path_of(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("state-{generation}"))
}

/// A new file with its header, or none.
fn create(directory: &Path, generation: u64) -> io::Result<File> {
    let path = path_of(directory, generation);
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let written = file
        .set_len(0)
        .and_then(|()| file.write_all(STATE_HEADER))
        .map(|()| file);
    if written.is_err() {
        // A file without a whole header holds nothing: if it stays, it does no harm.
        drop(fs::remove_file(&path));
    }
    written
}

fn generations(directory: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("state-"));
        found.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::site::Config;
    use crate::core::{Core, Families};

    fn core() -> Core {
        Core::new(Config::default(), Families::BOTH, Time::ZERO, 0)
    }

    #[test]
    fn a_directory_has_one_user() {
        let directory = tempfile::tempdir().unwrap();
        let first = StateDir::open(directory.path(), false, &mut core(), Time::ZERO).unwrap();
        let second = StateDir::open(directory.path(), false, &mut core(), Time::ZERO);
        assert_eq!(second.unwrap_err().code(), 3);
        drop(first);
        StateDir::open(directory.path(), false, &mut core(), Time::ZERO).unwrap();
    }

    #[test]
    fn older_generations_go_only_after_the_new_one_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        drop(StateDir::open(directory.path(), false, &mut core(), Time::ZERO).unwrap());
        let mut core = core();
        let mut state = StateDir::open(directory.path(), false, &mut core, Time::ZERO).unwrap();
        assert_eq!(generations(directory.path()).unwrap(), [1, 2]);
        state.compact(&mut core).unwrap();
        assert_eq!(generations(directory.path()).unwrap(), [1, 2]);
        state.compact(&mut core).unwrap();
        assert_eq!(generations(directory.path()).unwrap(), [2]);
        assert!(!state.compacting());
    }

    #[test]
    fn what_the_disk_refuses_is_kept_for_later_and_not_acknowledged() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = StateDir::open(directory.path(), false, &mut core(), Time::ZERO).unwrap();
        let good = std::mem::replace(
            &mut state.file,
            File::options().append(true).open("/dev/full").unwrap(),
        );
        // A device has no length.
        let written = std::mem::take(&mut state.written);
        let mut journal = vec![7; 10];
        assert!(!state.append(&mut journal).unwrap());
        assert!(!state.compacting(), "it waits, and does not spin");
        assert_eq!(journal.len(), 10);
        (state.file, state.written) = (good, written);
        assert!(state.append(&mut journal).unwrap());
        assert!(journal.is_empty());
    }

    #[test]
    fn what_becomes_too_much_to_wait_is_written_anew_with_everything() {
        let directory = tempfile::tempdir().unwrap();
        let mut core = core();
        let mut state = StateDir::open(directory.path(), false, &mut core, Time::ZERO).unwrap();
        state.compact(&mut core).unwrap();
        state.compact(&mut core).unwrap();
        assert_eq!(generations(directory.path()).unwrap(), [1]);
        state.file = File::options().append(true).open("/dev/full").unwrap();
        (state.written, state.max_waiting) = (0, 15);
        let mut journal = vec![7; 10];
        for waiting in [10, 0, 0] {
            assert!(!state.append(&mut journal).unwrap());
            assert_eq!(journal.len(), waiting);
            journal.extend([7; 10]);
        }
        // Not even a file can be made.
        let in_the_way = directory.path().join("state-2");
        fs::create_dir(&in_the_way).unwrap();
        state.compact(&mut core).unwrap();
        assert!(!state.append(&mut journal).unwrap());
        fs::remove_dir(&in_the_way).unwrap();
        state.compact(&mut core).unwrap();
        assert!(state.compacting());
        assert!(state.append(&mut journal).unwrap());
        state.compact(&mut core).unwrap();
        state.compact(&mut core).unwrap();
        assert_eq!(generations(directory.path()).unwrap(), [2]);
    }

    #[test]
    fn other_content_is_refused_with_the_files_name() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("state-1"), "something else").unwrap();
        let error = StateDir::open(directory.path(), false, &mut core(), Time::ZERO).unwrap_err();
        assert_eq!(error.code(), 2);
        assert!(error.to_string().contains("state-1"));
    }
}
