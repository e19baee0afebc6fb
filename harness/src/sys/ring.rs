//! A TPACKET_V3 ring: packets of one interface, with the kernel's nanosecond timestamps, in memory shared with the kernel.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Milliseconds after which the kernel hands over a block that is not full.
const RETIRE_MS: u32 = 4;
const FRAME: usize = 2048;

/// A packet in the ring.
pub(crate) struct RingPacket<'a> {
    /// Nanoseconds since 1970 by the wall clock.
    pub(crate) wall_ns: u64,
    /// Whether this end sent it.
    pub(crate) outgoing: bool,
    /// Its length before the capture cut it.
    pub(crate) length: u32,
    /// Its octets.
    pub(crate) data: &'a [u8],
    /// An 802.1Q tag that the kernel took out (tag protocol, tag control information).
    pub(crate) vlan: Option<(u16, u16)>,
}

/// What the kernel counted since it was asked last.
#[derive(Clone, Copy, Default)]
pub(crate) struct RingStatistics {
    /// Packets that passed, those that were dropped included.
    pub(crate) packets: u64,
    /// Packets for which the ring had no room.
    pub(crate) drops: u64,
}

/// A packet socket and its ring.
pub(crate) struct Ring {
    socket: OwnedFd,
    memory: *mut u8,
    block: usize,
    size: usize,
    blocks: usize,
    next: usize,
}

// SAFETY: the memory belongs to the ring alone (and the kernel); moving it to another thread moves that ownership.
unsafe impl Send for Ring {}

impl Ring {
    /// Opens a ring of `blocks` blocks of `block` octets (a multiple of the page size, larger than any packet) on an
    /// interface of the calling thread's namespace. Takes some 12 ms, in which the kernel waits: open several in parallel.
    ///
    /// The kernel hands a block over after 4 ms however empty it is, so it is the number of blocks that says how long the
    /// reader may be held up before packets are lost.
    pub(crate) fn open(index: u32, block: usize, blocks: usize) -> io::Result<Ring> {
        // Protocol 0: nothing arrives before the ring is bound to its interface.
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            None,
        )?;
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        set_option(&socket, libc::PACKET_VERSION, &version)?;
        // SAFETY: the structure is plain integers, for which zero is a value.
        let mut request: libc::tpacket_req3 = unsafe { std::mem::zeroed() };
        request.tp_block_size = block as u32;
        request.tp_block_nr = blocks as u32;
        request.tp_frame_size = FRAME as u32;
        request.tp_frame_nr = (blocks * block / FRAME) as u32;
        request.tp_retire_blk_tov = RETIRE_MS;
        set_option(&socket, libc::PACKET_RX_RING, &request)?;
        let size = blocks * block;
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else is touched.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let ring = Ring {
            socket,
            memory: memory.cast(),
            block,
            size,
            blocks,
            next: 0,
        };
        // A forked child would keep ring, socket and namespace alive.
        // SAFETY: the range is the mapping that was just made.
        if unsafe { libc::madvise(memory, size, libc::MADV_DONTFORK) } < 0 {
            return Err(io::Error::last_os_error());
        }
        super::raw::bind(&ring.socket, index)?;
        Ok(ring)
    }

    /// Hands every packet of the blocks that are ready to `each`, and the blocks back to the kernel. Returns how many
    /// packets there were.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(RingPacket<'_>)) -> u64 {
        let mut count = 0;
        loop {
            let base = self.next * self.block;
            // SAFETY: `base` is the start of a block of the mapping, where the kernel puts a tpacket_block_desc; its header
            // is shared with the kernel through the status word alone, which is accessed atomically.
            let (header, status) = unsafe {
                let block = self.memory.add(base).cast::<libc::tpacket_block_desc>();
                let header = &raw mut (*block).hdr.bh1;
                (header, AtomicU32::from_ptr(&raw mut (*header).block_status))
            };
            if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                return count;
            }
            // SAFETY: the block is ours until its status is set back.
            let (packets, first) =
                unsafe { ((*header).num_pkts, (*header).offset_to_first_pkt as usize) };
            let mut at = base + first;
            for _ in 0..packets {
                let Some(header) = self.packet_header(at) else {
                    break;
                };
                let data_at = at + usize::from(header.tp_mac);
                let length = (header.tp_snaplen as usize).min(self.size.saturating_sub(data_at));
                // SAFETY: the range lies in the mapping, and the kernel does not write to a block that is ours.
                let data = unsafe { std::slice::from_raw_parts(self.memory.add(data_at), length) };
                let vlan = (header.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then(|| {
                    let protocol = match header.hv1.tp_vlan_tpid {
                        0 => 0x8100,
                        protocol => protocol,
                    };
                    (protocol, header.hv1.tp_vlan_tci as u16)
                });
                each(RingPacket {
                    wall_ns: u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec),
                    outgoing: self.packet_type(at) == libc::PACKET_OUTGOING,
                    length: header.tp_len,
                    data,
                    vlan,
                });
                count += 1;
                at += header.tp_next_offset as usize;
            }
            status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % self.blocks;
        }
    }

    fn packet_header(&self, at: usize) -> Option<libc::tpacket3_hdr> {
        if at + size_of::<libc::tpacket3_hdr>() > self.size {
            return None;
        }
        // SAFETY: the range lies in the mapping; the header is plain integers and is copied out.
        Some(unsafe { std::ptr::read_unaligned(self.memory.add(at).cast()) })
    }

    /// The packet type of the sockaddr_ll behind a packet's header.
    fn packet_type(&self, at: usize) -> u8 {
        let address =
            at + size_of::<libc::tpacket3_hdr>().next_multiple_of(libc::TPACKET_ALIGNMENT);
        if address + size_of::<libc::sockaddr_ll>() > self.size {
            return 0;
        }
        // SAFETY: as in `packet_header`.
        let address: libc::sockaddr_ll =
            unsafe { std::ptr::read_unaligned(self.memory.add(address).cast()) };
        address.sll_pkttype
    }

    /// What the kernel has counted since the last call.
    pub(crate) fn statistics(&self) -> RingStatistics {
        // SAFETY: plain integers.
        let mut counters: libc::tpacket_stats_v3 = unsafe { std::mem::zeroed() };
        let mut length = size_of_val(&counters) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` octets to the structure.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut counters).cast(),
                &raw mut length,
            )
        };
        if result < 0 {
            return RingStatistics::default();
        }
        RingStatistics {
            packets: u64::from(counters.tp_packets),
            drops: u64::from(counters.tp_drops),
        }
    }

    /// Takes the error of a socket whose interface went down, so that it stops showing up in poll.
    pub(crate) fn clear_error(&self) {
        let _ = nix::sys::socket::getsockopt(&self.socket, nix::sys::socket::sockopt::SocketError);
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Ring {
    /// Takes some 23 ms, in which the kernel waits.
    fn drop(&mut self) {
        // SAFETY: the mapping is the one that was made in `open`; no reference into it outlives `drain`.
        unsafe { libc::munmap(self.memory.cast(), self.size) };
    }
}

/// Sets an option of a packet socket.
pub(super) fn set_option<T: Copy>(
    socket: &OwnedFd,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` octets of the value.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
