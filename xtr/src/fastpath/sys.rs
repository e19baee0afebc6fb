//! The `bpf` system call: maps, programs, links. All `unsafe` of the fast path stands here.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::asm::Insn;

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
const MAP_DELETE: libc::c_int = 3;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;

const SCHED_CLS: u32 = 3;
const TCX_INGRESS: u32 = 46;

/// A map as programs name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MapFd(pub(super) RawFd);

/// Kinds of maps that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum MapKind {
    Hash = 1,
    Array = 2,
    LpmTrie = 11,
}

/// Memory is taken entry by entry (tries know nothing else).
const NO_PREALLOC: u32 = 1;
/// The daemon may map the values into its memory.
const MMAPABLE: u32 = 1 << 10;

/// The name under which maps and programs stand in `bpftool`'s lists: at most 15 octets.
fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().take(15).zip(text.bytes()) {
        *to = from;
    }
    name
}

/// `bpf(2)` with one of the attribute structures below.
fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<RawFd> {
    // SAFETY: `attributes` is one of the `repr(C)` structures of this file, laid out as the start of `union bpf_attr`
    // for this command; its true size is given, and pointers in it lead to memory that the callers keep during the
    // call and that has the length that the command reads or writes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes).cast::<c_void>(),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as RawFd)
}

fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A map whose keys and values are plain octets.
#[derive(Debug)]
pub(super) struct Map {
    fd: OwnedFd,
    key: usize,
    value: usize,
    entries: u32,
    /// Counts writes.
    generation: Option<Arc<Words>>,
}

#[repr(C)]
#[derive(Default)]
struct CreateMap {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Map {
    /// # Errors
    /// Not allowed (no CAP_BPF in the first user namespace), or no memory.
    pub(super) fn new(
        kind: MapKind,
        title: &str,
        key: usize,
        value: usize,
        entries: u32,
    ) -> io::Result<Self> {
        let mut attributes = CreateMap {
            kind: kind as u32,
            key_size: key as u32,
            value_size: value as u32,
            max_entries: entries,
            flags: match kind {
                MapKind::LpmTrie => NO_PREALLOC,
                MapKind::Array => MMAPABLE,
                MapKind::Hash => 0,
            },
            name: name(title),
            ..CreateMap::default()
        };
        Ok(Self {
            fd: owned(bpf(MAP_CREATE, &mut attributes)?),
            key,
            value,
            entries,
            generation: None,
        })
    }

    /// Counts each later write in the first word of an array, once programs see it.
    pub(super) fn counted_in(mut self, generation: &Arc<Words>) -> Self {
        self.generation = Some(Arc::clone(generation));
        self
    }

    /// After a write.
    fn written(&self) {
        if let Some(generation) = &self.generation {
            generation.count_up();
        }
    }

    /// As programs name it.
    pub(super) fn fd(&self) -> MapFd {
        MapFd(self.fd.as_raw_fd())
    }

    fn element(&self, key: &[u8]) -> Element {
        assert_eq!(key.len(), self.key, "a key of this map");
        Element {
            map: self.fd.as_raw_fd() as u32,
            key: key.as_ptr() as u64,
            ..Element::default()
        }
    }

    /// Adds or replaces a value; programs see the old one or the new one (in arrays: octets of both).
    ///
    /// # Errors
    /// The map is full, or there is no memory.
    pub(super) fn set(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert_eq!(value.len(), self.value, "a value of this map");
        let mut element = self.element(key);
        element.value = value.as_ptr() as u64;
        bpf(MAP_UPDATE, &mut element)?;
        self.written();
        Ok(())
    }

    /// Takes a value out; it may be missing.
    ///
    /// # Errors
    /// No memory.
    pub(super) fn remove(&self, key: &[u8]) -> io::Result<()> {
        match bpf(MAP_DELETE, &mut self.element(key)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
            Ok(_) => {
                self.written();
                Ok(())
            }
        }
    }

    /// The values of an array, as programs write them.
    ///
    /// # Errors
    /// Not an array; no memory.
    pub(super) fn words(&self) -> io::Result<Words> {
        let length = self.value.next_multiple_of(8) * self.entries as usize;
        // SAFETY: a new mapping at an address of the kernel's choice; the descriptor is a map of MMAPABLE kind.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                self.fd.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(at) {
            Some(at) if at.as_ptr() != libc::MAP_FAILED => Ok(Words { at, length }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// An array's values in memory that is shared with the kernel.
#[derive(Debug)]
pub(super) struct Words {
    at: NonNull<c_void>,
    length: usize,
}

// SAFETY: the mapping is read and written through atomics alone.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// The word of 64 bits at an index; 0 behind the end.
    pub(super) fn get(&self, index: usize) -> u64 {
        if (index + 1) * 8 > self.length {
            return 0;
        }
        self.word(index).load(Ordering::Relaxed)
    }

    /// Adds one to the first word, behind everything that this thread wrote before.
    pub(super) fn count_up(&self) {
        self.word(0).fetch_add(1, Ordering::Release);
    }

    /// A word before the end.
    fn word(&self, index: usize) -> &AtomicU64 {
        assert!((index + 1) * 8 <= self.length, "a word of this array");
        // SAFETY: within the mapping, which is aligned to pages and lives as long as `self`; programs read and write
        // these words whole, as atomics do.
        unsafe { self.at.cast::<AtomicU64>().add(index).as_ref() }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the mapping that `Map::words` made; nothing refers to it any more.
        unsafe {
            libc::munmap(self.at.as_ptr(), self.length);
        }
    }
}

/// A program that the kernel has verified and compiled.
#[derive(Debug)]
pub(super) struct Program(OwnedFd);

#[repr(C)]
#[derive(Default)]
struct LoadProgram {
    kind: u32,
    count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct CreateLink {
    program: u32,
    interface: u32,
    kind: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    expected_revision: u64,
}

impl Program {
    /// # Errors
    /// Not allowed, or the verifier refuses the program: its words are in the error then.
    pub(super) fn load(title: &str, insns: &[Insn]) -> io::Result<Self> {
        let mut attributes = LoadProgram {
            kind: SCHED_CLS,
            count: insns.len() as u32,
            insns: insns.as_ptr() as u64,
            // The functions that rewrite and redirect packets are for programs under the GPL (a licence word of the
            // kernel's interface, not of this file).
            license: c"Dual MIT/GPL".as_ptr() as u64,
            name: name(title),
            ..LoadProgram::default()
        };
        match bpf(PROG_LOAD, &mut attributes) {
            Ok(fd) => Ok(Self(owned(fd))),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EACCES | libc::EINVAL)) => {
                Err(Self::refusal(attributes, e))
            }
            Err(e) => Err(e),
        }
    }

    /// Once more, for the verifier's reason.
    fn refusal(mut attributes: LoadProgram, error: io::Error) -> io::Error {
        let mut log = vec![0u8; 1 << 20];
        attributes.log_level = 1;
        attributes.log_size = log.len() as u32;
        attributes.log = log.as_mut_ptr() as u64;
        if let Ok(fd) = bpf(PROG_LOAD, &mut attributes) {
            drop(owned(fd));
        }
        let length = log.iter().position(|b| *b == 0).unwrap_or(log.len());
        let text = String::from_utf8_lossy(&log[..length]);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(12)..].join("\n");
        io::Error::new(error.kind(), format!("{error}; the verifier says:\n{last}"))
    }

    /// Runs the program for every packet that an interface receives, until the link is dropped, also by the end of
    /// this process.
    ///
    /// # Errors
    /// No such interface, or a kernel before 6.6.
    pub(super) fn attach(&self, interface: u32) -> io::Result<Link> {
        let mut attributes = CreateLink {
            program: self.0.as_raw_fd() as u32,
            interface,
            kind: TCX_INGRESS,
            ..CreateLink::default()
        };
        Ok(Link {
            _fd: owned(bpf(LINK_CREATE, &mut attributes)?),
        })
    }
}

#[cfg(test)]
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: i32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_sizes: [u32; 2],
    contexts: [u64; 2],
    flags: u32,
    processor: u32,
    batch: u32,
    padding: u32,
}

#[cfg(test)]
impl Program {
    /// What the program makes of an Ethernet frame that the loopback interface receives: its verdict, and the frame
    /// afterwards.
    pub(super) fn run(&self, frame: &[u8]) -> io::Result<(i32, Vec<u8>)> {
        const TEST_RUN: libc::c_int = 10;
        let mut out = vec![0u8; frame.len() + 256];
        let mut attributes = TestRun {
            program: self.0.as_raw_fd() as u32,
            size_in: frame.len() as u32,
            size_out: out.len() as u32,
            data_in: frame.as_ptr() as u64,
            data_out: out.as_mut_ptr() as u64,
            repeat: 1,
            ..TestRun::default()
        };
        bpf(TEST_RUN, &mut attributes)?;
        out.truncate(attributes.size_out as usize);
        Ok((attributes.result, out))
    }
}

/// A program at an interface.
#[derive(Debug)]
pub(super) struct Link {
    _fd: OwnedFd,
}
