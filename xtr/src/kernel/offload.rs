//! Transmit offloads of the interfaces toward the locators.
//!
//! A veth never meets a wire: with offloads on it hands 64 KB "packets" and unfinished checksums to the other side.
//! Captures show them, and a tunnel end that does not expect them stalls on bulk TCP while pings pass. So on veths
//! checksums are completed before they leave, which turns segmentation offloads off as well; real devices do that
//! themselves and are left alone. The settings return with [`WireOffloads`]' end.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// `struct ethtool_drvinfo` is the largest that we use: 196 octets, the driver's name at 4.
const BUFFER: usize = 256;

/// `struct ifreq` with a pointer in its union.
#[repr(C)]
struct Request {
    name: [u8; 16],
    data: *mut u8,
    padding: [u8; 16],
}

mod request {
    // SIOCETHTOOL
    nix::ioctl_readwrite_bad!(ethtool, 0x8946, super::Request);
}

/// Interfaces whose transmit checksum offload was on before.
#[derive(Debug)]
pub struct WireOffloads {
    changed: Vec<String>,
    /// Of the network namespace in which the interfaces are.
    socket: UdpSocket,
}

impl WireOffloads {
    /// Turns transmit offloads off on the veths that carry one of these addresses. What cannot be changed is left, and
    /// said so in the log: packets flow all the same.
    ///
    /// # Errors
    /// No socket to ask by.
    pub fn apply(rlocs: &[IpAddr]) -> io::Result<Self> {
        let mut offloads = Self {
            changed: Vec::new(),
            socket: UdpSocket::bind("0.0.0.0:0")?,
        };
        for interface in interfaces(rlocs) {
            match offloads.turn_off(&interface) {
                Ok(true) => offloads.changed.push(interface),
                Ok(false) => {}
                Err(error) => {
                    tracing::info!(%interface, %error, "left transmit offloads as they were")
                }
            }
        }
        Ok(offloads)
    }

    fn turn_off(&self, interface: &str) -> io::Result<bool> {
        let info = self.ask(interface, ETHTOOL_GDRVINFO, 0)?;
        let name = &info[4..36];
        if !name.starts_with(b"veth\0") {
            return Ok(false);
        }
        let state = self.ask(interface, ETHTOOL_GTXCSUM, 0)?;
        if state[4..8] == [0; 4] {
            return Ok(false);
        }
        self.ask(interface, ETHTOOL_STXCSUM, 0)?;
        Ok(true)
    }

    fn ask(&self, interface: &str, command: u32, value: u32) -> io::Result<[u8; BUFFER]> {
        let mut buffer = [0u8; BUFFER];
        buffer[..4].copy_from_slice(&command.to_ne_bytes());
        buffer[4..8].copy_from_slice(&value.to_ne_bytes());
        let mut ask = Request {
            name: [0; 16],
            data: buffer.as_mut_ptr(),
            padding: [0; 16],
        };
        let name = interface.as_bytes();
        if name.len() > 15 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        ask.name[..name.len()].copy_from_slice(name);
        // SAFETY: `ask` is laid out as `struct ifreq`; its pointer leads to a buffer larger than any structure of
        // the three commands, and both outlive the call.
        unsafe { request::ethtool(self.socket.as_raw_fd(), &raw mut ask) }?;
        Ok(buffer)
    }
}

impl Drop for WireOffloads {
    fn drop(&mut self) {
        for interface in &self.changed {
            if let Err(error) = self.ask(interface, ETHTOOL_STXCSUM, 1) {
                tracing::debug!(%interface, %error, "could not turn transmit offloads on again");
            }
        }
    }
}

/// The interfaces that carry one of the addresses.
fn interfaces(addresses: &[IpAddr]) -> Vec<String> {
    let mut found: Vec<String> = getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let storage = entry.address?;
            let v4 = storage.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            let v6 = storage.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
            let address = v4.or(v6)?;
            addresses.contains(&address).then_some(entry.interface_name)
        })
        .collect();
    found.sort();
    found.dedup();
    found
}
