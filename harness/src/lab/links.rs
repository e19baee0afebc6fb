//! Changing links while the lab runs.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use super::{Lab, LabError};
use crate::inline::LinkStatistics;
use crate::sys::netlink::Netlink;
use crate::topology::Impairment;

impl Lab {
    /// Pulls the cable of a link (`up` false): both ends lose their carrier and keep their addresses and routes. Packets
    /// on their way are lost. Or plugs it in again.
    ///
    /// # Errors
    /// There is no such link, or it is not inline.
    pub fn set_link_up(&self, link: &str, up: bool) -> Result<(), LabError> {
        let number = self.inline_link(link)?;
        let Some((namespace, relayed)) = &self.networks.wire else {
            return Ok(());
        };
        let indexes = relayed[&number];
        if let (false, Some(relay)) = (up, &self.relay) {
            relay.flush(number);
        }
        let failed = |error| LabError::kernel(format!("changing link `{link}`"), error);
        namespace
            .run(|| -> Result<(), LabError> {
                let mut netlink = Netlink::open().map_err(failed)?;
                for index in indexes {
                    let what = format!(
                        "link `{link}`: setting it {}",
                        if up { "up" } else { "down" }
                    );
                    netlink.set_link(index, up, None, what)?;
                }
                Ok(netlink.flush()?)
            })
            .map_err(failed)??;
        for side in 0..2 {
            let (node, index) = self.place(number, side)?;
            self.networks.nodes[node]
                .run(|| -> Result<(), LabError> {
                    let mut netlink = Netlink::open().map_err(failed)?;
                    netlink.settle_link(index, format!("link `{link}`: waiting for its end"))?;
                    Ok(netlink.flush()?)
                })
                .map_err(failed)??;
        }
        Ok(())
    }

    /// Sets the damage of a link, from the next packet on. `Impairment::default()` heals it.
    ///
    /// # Errors
    /// There is no such link, or it is not inline.
    pub fn set_impairment(&self, link: &str, impairment: Impairment) -> Result<(), LabError> {
        let number = self.inline_link(link)?;
        if let Some(relay) = &self.relay {
            relay.impair(number, impairment);
        }
        Ok(())
    }

    /// What happened on an inline link so far.
    ///
    /// # Errors
    /// There is no such link, or it is not inline.
    pub fn link_statistics(&self, link: &str) -> Result<LinkStatistics, LabError> {
        let number = self.inline_link(link)?;
        let relay = self.relay.as_ref();
        Ok(relay
            .map(|relay| relay.statistics(number))
            .unwrap_or_default())
    }

    /// The number of a link in the topology.
    pub(crate) fn link_number(&self, link: &str) -> Result<usize, LabError> {
        let mut links = self.topology.links.iter();
        links.position(|l| l.name == link).ok_or_else(|| {
            let names: Vec<&str> = self
                .topology
                .links
                .iter()
                .map(|l| l.name.as_str())
                .collect();
            LabError::usage(
                format!(
                    "there is no link `{link}` in the topology `{}`",
                    self.topology.name
                ),
                format!("its links are {}", names.join(", ")),
            )
        })
    }

    /// The network namespace and the interface index of a link's end.
    pub(crate) fn end(&self, link: usize, side: usize) -> Result<(OwnedFd, u32), LabError> {
        let (node, index) = self.place(link, side)?;
        Ok((copy(&self.networks.nodes[node])?, index))
    }

    /// The user namespace that the lab lives in.
    pub(crate) fn user_namespace(&self) -> Result<OwnedFd, LabError> {
        File::open("/proc/self/ns/user")
            .map(OwnedFd::from)
            .map_err(|error| LabError::kernel("opening the user namespace", error))
    }

    fn inline_link(&self, link: &str) -> Result<usize, LabError> {
        let number = self.link_number(link)?;
        match &self.networks.wire {
            Some((_, relayed)) if relayed.contains_key(&number) => Ok(number),
            _ => Err(LabError::usage(
                format!("link `{link}` is a plain cable, which cannot be changed at run time"),
                "give it `impair: {}` in the topology, or set LabOptions::all_inline",
            )),
        }
    }
}

/// Another descriptor of the same thing, to give away.
pub(super) fn copy(descriptor: &impl AsFd) -> Result<OwnedFd, LabError> {
    descriptor
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| LabError::kernel("copying a descriptor", error))
}
