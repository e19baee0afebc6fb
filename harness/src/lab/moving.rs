//! Moving a host to another LAN: its cable is pulled out of one bridge and plugged into another.

use std::sync::{Arc, PoisonError};

use super::build::BRIDGE_INDEX;
use super::{Lab, LabError};
use crate::capture::{Interface, Packet};
use crate::sys::netlink::Netlink;
use crate::topology::NodeKind;

/// A cable that was moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    /// When it was plugged in, on the clock of the packets.
    time_ns: u64,
    link: usize,
    side: usize,
    /// The bridge where it now ends, and the interface's index there.
    node: usize,
    index: u32,
}

impl Lab {
    /// Moves a host to another LAN: the far end of `link`, a port of one bridge, becomes a port of the bridge `to`. The host
    /// keeps its interface, Ethernet address, IP addresses and routes; its carrier goes and comes back, as with a cable.
    /// In the recording, later packets of the link are of an interface `LINK@HOST:TO`.
    ///
    /// # Errors
    /// There is no such host, link or bridge, or the link does not lead from the host to a bridge.
    pub fn move_host(&self, host: &str, link: &str, to: &str) -> Result<(), LabError> {
        let number = self.link_number(link)?;
        let target = self.number(to)?;
        let ends = &self.topology.links[number].ends;
        let Some(near) = ends.iter().position(|end| end.node == host) else {
            return Err(LabError::usage(
                format!("node `{host}` is at no end of link `{link}`"),
                format!("its ends are {} and {}", ends[0].node, ends[1].node),
            ));
        };
        let side = 1 - near;
        let (from, index) = self.place(number, side)?;
        for node in [from, target] {
            let node = &self.topology.nodes[node];
            if node.kind != NodeKind::Bridge {
                return Err(LabError::usage(
                    format!(
                        "node `{}` is no bridge: a host moves from LAN to LAN",
                        node.name
                    ),
                    "link the host to a node of kind bridge, and the routers of the LAN too",
                ));
            }
        }
        if from == target {
            return Err(LabError::usage(
                format!("node `{host}` is at `{to}` already"),
                "name another bridge",
            ));
        }
        let port = ends[side].interface.clone();
        let failed = |error| LabError::kernel(format!("moving `{host}` to `{to}`"), error);
        let there = self.networks.nodes[target].clone();
        self.networks.nodes[from]
            .run(|| -> Result<(), LabError> {
                let mut netlink = Netlink::open().map_err(failed)?;
                netlink.move_link(index, &there, format!("moving `{port}` to `{to}`"))?;
                Ok(netlink.flush()?)
            })
            .map_err(failed)??;
        let index = there
            .run(|| -> Result<u32, LabError> {
                // The kernel gives it another index where its own is taken.
                let index = nix::net::if_::if_nametoindex(port.as_str())
                    .map_err(|errno| failed(errno.into()))?;
                let mut netlink = Netlink::open().map_err(failed)?;
                let what = format!("plugging `{port}` in at `{to}`");
                netlink.set_link(index, true, Some(BRIDGE_INDEX), what.clone())?;
                netlink.flush()?;
                netlink.settle_link(index, what)?;
                netlink.flush()?;
                Ok(index)
            })
            .map_err(failed)??;
        let mut moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        moves.push(Move {
            time_ns: self.now_ns(),
            link: number,
            side,
            node: target,
            index,
        });
        drop(moves);
        let (host, index) = self.place(number, near)?;
        self.networks.nodes[host]
            .run(|| -> Result<(), LabError> {
                let mut netlink = Netlink::open().map_err(failed)?;
                netlink.settle_link(index, format!("link `{link}`: waiting for its end"))?;
                Ok(netlink.flush()?)
            })
            .map_err(failed)?
    }

    /// Where a link's end is now: the number of the node and the interface's index there.
    pub(super) fn place(&self, link: usize, side: usize) -> Result<(usize, u32), LabError> {
        let moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        let last = moves
            .iter()
            .rfind(|moved| (moved.link, moved.side) == (link, side));
        match last {
            Some(moved) => Ok((moved.node, moved.index)),
            None => Ok((
                self.number(&self.topology.links[link].ends[side].node)?,
                self.networks.indexes[link][side],
            )),
        }
    }

    /// Gives packets of moved links an interface that says where the link ended when they passed.
    pub(super) fn name_moves(&self, interfaces: &mut Vec<Arc<Interface>>, packets: &mut [Packet]) {
        let moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        for moved in moves.iter() {
            let link = &self.topology.links[moved.link];
            let far = &self.topology.nodes[moved.node].name;
            let near = &link.ends[1 - moved.side].node;
            let interface = Interface {
                name: if *far == link.ends[moved.side].node {
                    format!("{}@{near}", link.name)
                } else {
                    format!("{}@{near}:{far}", link.name)
                },
                link: link.name.clone(),
                near: near.clone(),
                far: far.clone(),
                link_type: 1,
            };
            let known = interfaces.iter().find(|known| ***known == interface);
            let interface = known.cloned().unwrap_or_else(|| {
                interfaces.push(Arc::new(interface));
                Arc::clone(&interfaces[interfaces.len() - 1])
            });
            for packet in packets.iter_mut() {
                if packet.time_ns >= moved.time_ns && packet.interface.link == link.name {
                    packet.interface = Arc::clone(&interface);
                }
            }
        }
    }
}
