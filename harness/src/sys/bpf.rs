//! Whether this process may load eBPF programs, and the kernel runs them where packets arrive (TCX).

use std::ffi::{CStr, c_long};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const PROG_LOAD: c_long = 5;
const LINK_CREATE: c_long = 28;
const SCHED_CLS: u32 = 3;
const TCX_INGRESS: u32 = 46;
const LICENSE: &CStr = c"GPL";

/// The start of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    insns: *const u64,
    license: *const std::ffi::c_char,
}

/// The same for BPF_LINK_CREATE.
#[repr(C)]
struct Attach {
    program: i32,
    interface: u32,
    kind: u32,
    flags: u32,
}

/// Loads a program that leaves every packet alone, attaches it to the loopback interface of the calling thread's network
/// namespace, and takes it away again.
///
/// # Errors
/// What the kernel says.
pub(crate) fn try_out() -> io::Result<()> {
    // `r0 = -1` (the next one has the packet), `exit`.
    let mut insns = [0u64; 2];
    for (insn, (code, immediate)) in insns.iter_mut().zip([(0xb7u8, -1i32), (0x95, 0)]) {
        let mut octets = [0; 8];
        octets[0] = code;
        octets[4..].copy_from_slice(&immediate.to_ne_bytes());
        *insn = u64::from_ne_bytes(octets);
    }
    let program = bpf(
        PROG_LOAD,
        &Load {
            kind: SCHED_CLS,
            count: insns.len() as u32,
            insns: insns.as_ptr(),
            license: LICENSE.as_ptr(),
        },
    )?;
    bpf(
        LINK_CREATE,
        &Attach {
            program: program.as_raw_fd(),
            interface: 1,
            kind: TCX_INGRESS,
            flags: 0,
        },
    )
    .map(drop)
}

fn bpf<T>(command: c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attributes` is one of the structures above, laid out as the kernel reads them for this command, with its
    // true size; its pointers lead to memory that the caller keeps during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both commands make a descriptor, which nobody else knows yet.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}
