//! The packet path's part of the configuration.

use std::path::PathBuf;

use daemon::config::{Period, Prefix, Spanned};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::dataplane::{DataPath, DataPlaneConfig, MulticastSite, Offload};

/// How the packet path runs. Ranges are checked when it starts.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DataPlaneEntry {
    /// Who encapsulates and decapsulates: `tun` (the daemon), `kernel` (eBPF programs, and the daemon what is left),
    /// `auto` (`kernel` where it can be).
    pub path: DataPath,
    /// Name of the TUN device, at most 15 octets.
    #[schemars(length(min = 1, max = 15))]
    pub device: String,
    /// `/dev/net/tun`, or where that device node is.
    pub tun_node: PathBuf,
    /// First routing table; Instance IDs take this one and those after it.
    pub first_table: u32,
    /// First priority of the policy rules; they take three.
    pub rule_priority: u32,
    /// What the core carries toward any locator, in octets (L of RFC 6830 5.4.1), 576 to 65535.
    #[schemars(range(min = 576))]
    pub locator_mtu: u16,
    /// Source ports among which flows are spread, 1 to 1024.
    #[schemars(range(min = 1, max = 1024))]
    pub source_ports: u16,
    /// Packet thread pairs, 1 to 16.
    #[schemars(range(min = 1, max = 16))]
    pub queues: u8,
    /// Segmentation and receive offloads of the locator side, where the kernel has them.
    pub offload: bool,
    /// Turn transmit offloads off on veths toward the locators, as on a real wire.
    pub wire_offloads: bool,
    /// How long a thread looks for the next packet before it sleeps.
    pub spin: Period,
    /// Learn smaller MTUs per locator from the core (RFC 6830 5.4.2).
    pub learn_mtu: bool,
}

/// The ITR's part of multicast (RFC 6830 11): the group is the outer destination too.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MulticastEntry {
    /// The site's interfaces, by name.
    pub interfaces: Vec<String>,
    /// Groups that leave the site, IPv4 and IPv6.
    pub groups: Vec<Spanned<Prefix>>,
}

impl Default for DataPlaneEntry {
    fn default() -> Self {
        let DataPlaneConfig {
            path,
            device,
            tun_node,
            first_table,
            rule_priority,
            rlocs: _,
            locator_mtu,
            source_ports,
            queues,
            offload,
            wire_offloads,
            spin,
            learn_mtu,
            multicast: _,
        } = DataPlaneConfig::default();
        Self {
            path,
            device,
            tun_node,
            first_table,
            rule_priority,
            locator_mtu,
            source_ports,
            queues,
            offload: offload == Offload::Auto,
            wire_offloads,
            spin: Period(spin),
            learn_mtu,
        }
    }
}

impl DataPlaneEntry {
    /// The packet path's own form. The locators are filled in when it starts, multicast where the configuration has it.
    pub fn to_config(&self) -> DataPlaneConfig {
        DataPlaneConfig {
            path: self.path,
            device: self.device.clone(),
            tun_node: self.tun_node.clone(),
            first_table: self.first_table,
            rule_priority: self.rule_priority,
            rlocs: Vec::new(),
            locator_mtu: self.locator_mtu,
            source_ports: self.source_ports,
            queues: self.queues,
            offload: if self.offload {
                Offload::Auto
            } else {
                Offload::Off
            },
            wire_offloads: self.wire_offloads,
            spin: self.spin.0,
            learn_mtu: self.learn_mtu,
            multicast: None,
        }
    }
}

impl MulticastEntry {
    /// The packet path's own form.
    pub fn to_config(&self) -> MulticastSite {
        MulticastSite {
            interfaces: self.interfaces.clone(),
            groups: self.groups.iter().map(|group| group.value.0).collect(),
        }
    }
}
