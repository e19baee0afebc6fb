//! Switching the transmit offloads of an interface off.
//!
//! With them, veth passes packets on whose checksums nobody has finished and whose payloads are far longer than the MTU:
//! not what a wire carries, and a userspace relay would forward them broken.

use std::ffi::c_char;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
const NAME: usize = 32;

/// Whether a feature makes packets on a veth differ from packets on a wire: unfinished checksums, payloads longer than the
/// MTU. Kernels add new ones (`tx-tcp-accecn-segmentation` in 6.18), so they are known by the form of their names.
fn alters_wire_format(name: &str) -> bool {
    name.starts_with("tx-")
        && (name.contains("checksum") || name.contains("segmentation") || name.contains("-gso-"))
}

/// A socket of a namespace through which its interfaces are asked.
pub(crate) struct Control(OwnedFd);

/// Which feature bits to clear, as the running kernel numbers them.
#[derive(Clone)]
pub(crate) struct TransmitFeatures {
    words: Vec<u32>,
}

/// `struct ifreq` as SIOCETHTOOL uses it: a name and a pointer.
#[repr(C)]
struct Request {
    name: [c_char; libc::IFNAMSIZ],
    data: *mut u32,
    // The kernel copies a whole `struct ifreq`, 40 octets on 64-bit machines.
    padding: [u64; 2],
}

impl Control {
    /// Opens a socket in the calling thread's namespace, for good.
    pub(crate) fn open() -> io::Result<Control> {
        let fd = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        Ok(Control(fd))
    }

    /// Calls ethtool with a command block that starts at `block[0]`.
    fn call(&self, interface: &str, block: &mut [u32]) -> io::Result<()> {
        let mut request = Request {
            name: [0; libc::IFNAMSIZ],
            data: block.as_mut_ptr(),
            padding: [0; 2],
        };
        for (to, from) in request
            .name
            .iter_mut()
            .zip(interface.bytes().take(libc::IFNAMSIZ - 1))
        {
            *to = from as c_char;
        }
        // SAFETY: `request` is at least as long as the kernel's `struct ifreq` and outlives the call; `data` points to
        // `block`, which the callers size for what the command reads and writes.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), SIOCETHTOOL as _, &mut request) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Looks up the numbers of the transmit features at any interface.
    pub(crate) fn transmit_features(&self, interface: &str) -> io::Result<TransmitFeatures> {
        // struct ethtool_sset_info: cmd, reserved, mask (64 bits), one length per bit of the mask.
        let mut info = [ETHTOOL_GSSET_INFO, 0, 0, 0, 0];
        let mask = (1u64 << ETH_SS_FEATURES).to_ne_bytes();
        info[2] = u32::from_ne_bytes([mask[0], mask[1], mask[2], mask[3]]);
        info[3] = u32::from_ne_bytes([mask[4], mask[5], mask[6], mask[7]]);
        self.call(interface, &mut info)?;
        let count = info[4] as usize;
        if !(1..=4096).contains(&count) {
            return Err(io::Error::other("the kernel names no interface features"));
        }
        // struct ethtool_gstrings: cmd, string set, length, then the names.
        let mut strings = vec![0u32; 3 + count * NAME / 4];
        strings[0] = ETHTOOL_GSTRINGS;
        strings[1] = ETH_SS_FEATURES;
        strings[2] = count as u32;
        self.call(interface, &mut strings)?;
        let octets: Vec<u8> = strings[3..]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        let mut words = vec![0u32; count.div_ceil(32)];
        for (bit, name) in octets.chunks(NAME).enumerate() {
            let length = name.iter().position(|&octet| octet == 0).unwrap_or(NAME);
            let name = std::str::from_utf8(&name[..length]).unwrap_or_default();
            if alters_wire_format(name) {
                words[bit / 32] |= 1 << (bit % 32);
            }
        }
        Ok(TransmitFeatures { words })
    }

    /// Switches the transmit offloads of an interface off.
    pub(crate) fn clear_features(
        &self,
        interface: &str,
        features: &TransmitFeatures,
    ) -> io::Result<()> {
        // struct ethtool_sfeatures: cmd, number of words, then (which bits, to what) per word.
        let mut block = vec![ETHTOOL_SFEATURES, features.words.len() as u32];
        for word in &features.words {
            block.extend([*word, 0]);
        }
        self.call(interface, &mut block)
    }
}
