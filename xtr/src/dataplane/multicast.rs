//! Multicast packets of the site (RFC 6830 11): the group is EID and locator at once, so there is nothing to look up.
//!
//! The kernel hands no multicast packet to a policy route, so they are read off the site's interfaces, by packet sockets
//! that speak the TUN device's language: a virtio-net header says what the sender's offloads left undone.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use ipnet::IpNet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;

use super::encap::{Encapsulator, Shared};
use super::sys::multicast_socket;
use super::vnet::{VNET_LEN, VnetHeader};
use crate::forwarding::Counter;

/// Octets of an Ethernet header, which a packet socket shows.
const ETHERNET: usize = 14;
/// Packets of one interface before the others have their turn.
const BATCH: usize = 64;

/// Which multicast packets leave the site, and how. Only an ITR's part: receivers' sites need RFC 6831.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MulticastSite {
    /// The site's interfaces, by name.
    pub interfaces: Vec<String>,
    /// Groups whose packets are encapsulated.
    pub groups: Vec<IpNet>,
}

/// Encapsulates what the site sends to its groups.
pub(crate) struct Multicaster {
    shared: Arc<Shared>,
    sockets: Vec<Socket>,
    groups: Vec<IpNet>,
    rlocs: Vec<IpAddr>,
    encapsulator: Encapsulator,
}

impl Multicaster {
    /// Opens the site's interfaces. `rlocs`: own locators, of which the first of a family is the outer source.
    ///
    /// # Errors
    /// An interface is not there, or packet sockets are not allowed. The first is the name of what failed.
    pub(crate) fn new(
        shared: Arc<Shared>,
        site: &MulticastSite,
        rlocs: &[IpAddr],
        encapsulator: Encapsulator,
    ) -> Result<Self, (String, io::Error)> {
        let open = |name: &String| {
            nix::net::if_::if_nametoindex(name.as_str())
                .map_err(io::Error::from)
                .and_then(multicast_socket)
                .map_err(|error| (name.clone(), error))
        };
        Ok(Self {
            shared,
            sockets: site.interfaces.iter().map(open).collect::<Result<_, _>>()?,
            groups: site.groups.clone(),
            rlocs: rlocs.to_vec(),
            encapsulator,
        })
    }

    /// Forwards until `stop` becomes readable.
    pub(crate) fn run(mut self, stop: &impl AsFd) {
        let mut buffer = vec![0; VNET_LEN + ETHERNET + 65_535];
        loop {
            let mut fds: Vec<PollFd<'_>> = self
                .sockets
                .iter()
                .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
                .collect();
            fds.push(PollFd::new(stop.as_fd(), PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "waiting for multicast packets failed: they are not forwarded any more");
                    return;
                }
            }
            if fds
                .last()
                .is_some_and(|fd| fd.revents().is_some_and(|r| !r.is_empty()))
            {
                return;
            }
            drop(fds);
            for at in 0..self.sockets.len() {
                self.batch(at, &mut buffer);
            }
            self.encapsulator.finish();
        }
    }

    fn batch(&mut self, at: usize, buffer: &mut [u8]) {
        use std::io::Read;
        for _ in 0..BATCH {
            // The socket does not block; an interface that went down says so once.
            let Ok(length) = (&self.sockets[at]).read(buffer) else {
                return;
            };
            if length > VNET_LEN + ETHERNET {
                self.packet(&buffer[..length]);
            }
        }
    }

    fn packet(&mut self, bytes: &[u8]) {
        let mut vnet = [0; VNET_LEN];
        vnet.copy_from_slice(&bytes[..VNET_LEN]);
        let Some(vnet) = VnetHeader::parse(vnet).map(|vnet| vnet.behind(ETHERNET)) else {
            return self.shared.count(Counter::SiteMalformed);
        };
        let packet = &bytes[VNET_LEN + ETHERNET..];
        let shared = Arc::clone(&self.shared);
        let tables = shared.forwarding.snapshot();
        let (groups, rlocs) = (&self.groups, &self.rlocs);
        self.encapsulator
            .group_packet(&tables, packet, vnet, |group| {
                let wanted = !is_local(group) && groups.iter().any(|net| net.contains(&group));
                rlocs
                    .iter()
                    .copied()
                    .find(|rloc| wanted && rloc.is_ipv4() == group.is_ipv4())
            });
    }
}

/// Groups that no router forwards: 224.0.0.0/24 (RFC 5771 4), and IPv6 scopes up to the link (RFC 4291 2.7).
fn is_local(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group.octets()[..3] == [224, 0, 0],
        IpAddr::V6(group) => group.octets()[1] & 0x0f <= 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_groups_stay() {
        for (group, local) in [
            ("224.0.0.5", true),
            ("224.0.1.1", false),
            ("239.1.2.3", false),
            ("ff02::1", true),
            ("ff01::1", true),
            ("ff05::2", false),
            ("ff3e::8000:1", false),
        ] {
            assert_eq!(is_local(group.parse().unwrap()), local, "{group}");
        }
    }
}
