//! Topology files: which nodes there are, how they are linked, what is configured in them.
//!
//! [`Topology::load`] reads a YAML file strictly: an unknown key, a link to a node that does not exist, an address given
//! twice, two links with overlapping subnets, a next hop that no connected subnet contains... are all errors, all
//! reported at once, each with line, column and a hint. The form is described in `docs/harness.md`.

mod check;
mod emit;
mod error;
mod expand;
mod expression;
mod forms;
mod impairment;
mod reader;
mod section;
mod tree;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub use error::{Position, Problem, TopologyError};

/// Strict reading of YAML files with places: for other files that are written by hand beside topologies.
pub mod yaml {
    pub use super::error::{Position, Problem, TopologyError as FileError};
    pub use super::section::{Section, boolean, entries, items, nearest, number, parsed, text};
    pub use super::tree::{Key, Tree, Value};
}

/// The version of the form that is read here (`format: 1`).
pub const FORMAT: u64 = 1;

/// The JSON Schema of topology files, for editors. What needs more than one value (a link to a node that is not there, an
/// address given twice) only [`Topology::load`] finds.
pub const SCHEMA: &str = include_str!("schema.json");

/// A network: nodes and links between them.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Its name, a word of letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// One sentence about it.
    pub description: Option<String>,
    /// All nodes, in the order of the file.
    pub nodes: Vec<Node>,
    /// All links, in the order of the file.
    pub links: Vec<Link>,
    /// The file that it was read from.
    pub source: Option<PathBuf>,
    /// The whole topology as one text of the same form, with includes, parameters and repetitions carried out:
    /// [`Topology::parse`] reads it back.
    pub expanded: String,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// An end system: it forwards nothing.
    Host,
    /// It forwards IPv4 and IPv6.
    Router,
    /// One Ethernet segment: every link to it is a port of one Linux bridge. Its ends carry no addresses.
    Bridge,
}

/// A node: one network namespace.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Host, router or bridge.
    pub kind: NodeKind,
    /// What part it plays, for whoever starts programs in it. Not interpreted here.
    pub role: Option<String>,
    /// One sentence about it.
    pub description: Option<String>,
    /// Addresses of the loopback interface, besides 127.0.0.1 and ::1.
    pub loopback: Vec<IpNet>,
    /// Static routes.
    pub routes: Vec<Route>,
    /// Policy routing rules.
    pub rules: Vec<Rule>,
    /// `/proc/sys` settings, in the order of the file: (`net.ipv4.conf.all.rp_filter`, `0`).
    pub sysctls: Vec<(String, String)>,
    /// Static neighbour (ARP, ND) entries.
    pub neighbours: Vec<Neighbour>,
    /// Rules for `nft -f`, applied before the node's links come up.
    pub nftables: Option<String>,
    /// Environment of every program started in the node.
    pub env: BTreeMap<String, String>,
    /// Files in the node's private view: absolute path and content.
    pub files: BTreeMap<PathBuf, String>,
    /// Settings of the node's program. Not interpreted here.
    pub settings: serde_json::Value,
    /// Where the node stands in the file.
    pub at: Position,
}

/// A static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination; the default route has prefix length 0.
    pub to: IpNet,
    /// What happens to packets for it.
    pub action: RouteAction,
    /// The routing table; `None` is the main table (254).
    pub table: Option<u32>,
    /// The metric; `None` is the kernel's default.
    pub metric: Option<u32>,
    /// The preferred source address.
    pub source: Option<IpAddr>,
    /// Where the route stands in the file.
    pub at: Position,
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAction {
    /// Forward to a next hop, or onto a link.
    Forward {
        /// The next hop.
        via: Option<IpAddr>,
        /// The outgoing interface.
        dev: Option<String>,
        /// Take the next hop as reachable although no subnet of the interface contains it.
        onlink: bool,
    },
    /// Drop silently.
    Blackhole,
    /// Answer "destination unreachable".
    Unreachable,
}

/// A policy routing rule: packets that match all given selectors use `table`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Source prefix.
    pub from: Option<IpNet>,
    /// Destination prefix.
    pub to: Option<IpNet>,
    /// Incoming interface.
    pub iif: Option<String>,
    /// Firewall mark.
    pub mark: Option<u32>,
    /// The routing table to use.
    pub table: u32,
    /// The rule's priority, 1 to 32765; lower is asked first.
    pub priority: u32,
    /// Where the rule stands in the file.
    pub at: Position,
}

/// A static neighbour entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// The interface it is behind.
    pub interface: String,
    /// Where the entry stands in the file.
    pub at: Position,
}

/// A link between two nodes: an Ethernet cable.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its two ends, in the order of the file.
    pub ends: [End; 2],
    /// MTU of both ends in octets (68 to 65535); `None` is the kernel's 1500.
    pub mtu: Option<u32>,
    /// Whether it is captured.
    pub capture: bool,
    /// Whether its ends keep their transmit offloads. Off by default: with them a capture shows datagrams of 64 KiB and
    /// checksums that nobody has finished.
    pub offloads: bool,
    /// Damage done to packets on it.
    pub impair: Option<Impairment>,
    /// Links of different address spaces may use the same addresses (two customers with the same private prefix).
    pub space: Option<String>,
    /// Where the link stands in the file.
    pub at: Position,
}

/// One end of a link.
#[derive(Clone, Debug)]
pub struct End {
    /// The node it is in.
    pub node: String,
    /// The name of the interface there; by default the link's name.
    pub interface: String,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Its Ethernet address; by default derived from the place of the link in the file, so that it is the same in each run.
    pub mac: Option<[u8; 6]>,
    /// Where the end stands in the file.
    pub at: Position,
    address_at: Vec<Position>,
}

/// Damage done to the packets of a link, decided per packet from a seed: the same seed gives the same losses.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Impairment {
    /// Share of packets dropped, 0 to 1.
    pub loss: f64,
    /// Time added to every packet.
    pub delay: Duration,
    /// Up to this much more, uniformly distributed.
    pub jitter: Duration,
    /// Share of packets delivered twice, 0 to 1.
    pub duplicate: f64,
    /// Share of packets that overtake those before them (they are not delayed), 0 to 1.
    pub reorder: f64,
    /// Share of packets with one bit flipped behind the Ethernet header, 0 to 1.
    pub corrupt: f64,
    /// Bits per second in each direction; `None` is unlimited.
    pub rate: Option<u64>,
    /// The seed.
    pub seed: u64,
}

impl Topology {
    /// Reads and checks a file.
    pub fn load(path: impl AsRef<Path>) -> Result<Topology, TopologyError> {
        Topology::load_with(path, &[])
    }

    /// Reads and checks a file, with values for its parameters: (`sites`, `50`).
    pub fn load_with(
        path: impl AsRef<Path>,
        parameters: &[(String, String)],
    ) -> Result<Topology, TopologyError> {
        let path = path.as_ref();
        let file = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| {
            TopologyError::of_file(
                &file,
                format!("cannot be read: {error}"),
                "give the path of a topology YAML file",
            )
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let offset = error.utf8_error().valid_up_to();
            TopologyError::of_file(
                &file,
                format!("octet {offset} is not UTF-8 text"),
                "a topology is a YAML text file",
            )
        })?;
        let mut topology = Topology::parse_with(&file, &text, parameters)?;
        topology.source = Some(path.to_owned());
        Ok(topology)
    }

    /// Reads and checks text; `file` is the name that errors carry.
    pub fn parse(file: &str, text: &str) -> Result<Topology, TopologyError> {
        Topology::parse_with(file, text, &[])
    }

    /// Reads and checks text, with values for its parameters.
    pub fn parse_with(
        file: &str,
        text: &str,
        parameters: &[(String, String)],
    ) -> Result<Topology, TopologyError> {
        let tree = tree::Tree::parse(text)
            .map_err(|problem| TopologyError::of_text(file, text, vec![problem]))?;
        Topology::of_tree(file, text, tree, parameters).map(|(topology, _)| topology)
    }

    /// Reads and checks a topology that stands in a larger file: `tree` is a part of `text`, and problems point into that.
    /// Returns with it the same topology as a file of its own, which needs no other: parameters filled in, included files
    /// in it, repeated entries written out.
    ///
    /// # Errors
    /// All problems.
    pub fn of_tree(
        file: &str,
        text: &str,
        tree: yaml::Tree,
        parameters: &[(String, String)],
    ) -> Result<(Topology, String), TopologyError> {
        let mut sources = error::Sources::default();
        sources.add(file, text);
        let given = parameters
            .iter()
            .map(|(name, value)| {
                let value = match value.parse::<i64>() {
                    Ok(number) => tree::Value::Number(number.into()),
                    Err(_) => tree::Value::Text(value.clone()),
                };
                (name.clone(), value)
            })
            .collect();
        let mut problems = Vec::new();
        let tree = expand::expand(tree, Path::new(file), &given, &mut sources, &mut problems);
        if !problems.is_empty() {
            // What was not filled in would only be reported once more.
            return Err(TopologyError::new(sources, problems));
        }
        let mut topology = reader::read(&tree, &mut problems);
        topology.expanded = tree.to_text();
        check::check(&topology, &mut problems);
        if problems.is_empty() {
            let flat = emit::emit(&tree);
            Ok((topology, flat))
        } else {
            Err(TopologyError::new(sources, problems))
        }
    }

    /// Reads and checks a file, and returns with it a text that needs no other file and no parameters: the file itself where
    /// it is one.
    ///
    /// # Errors
    /// As [`Topology::load_with`].
    pub fn load_whole(
        path: impl AsRef<Path>,
        parameters: &[(String, String)],
    ) -> Result<(Topology, String), TopologyError> {
        let path = path.as_ref();
        // For the errors of files that cannot be read.
        let loaded = Topology::load_with(path, parameters)?;
        let file = path.display().to_string();
        let again = |error: std::io::Error| {
            TopologyError::of_file(&file, error.to_string(), "it changed while it was read")
        };
        let text = std::fs::read_to_string(path).map_err(again)?;
        let tree = tree::Tree::parse(&text)
            .map_err(|problem| TopologyError::of_text(&file, &text, vec![problem]))?;
        if parameters.is_empty() && !expand::has_work(&tree) {
            return Ok((loaded, text));
        }
        let (mut topology, flat) = Topology::of_tree(&file, &text, tree, parameters)?;
        topology.source = Some(path.to_owned());
        Ok((topology, flat))
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The link of that name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// All interfaces of a node, in the order of the links: the link, the node's end, the other end.
    pub fn interfaces<'a>(
        &'a self,
        node: &'a str,
    ) -> impl Iterator<Item = (&'a Link, &'a End, &'a End)> {
        self.links
            .iter()
            .filter_map(move |link| match link.end(node) {
                Some(0) => Some((link, &link.ends[0], &link.ends[1])),
                Some(_) => Some((link, &link.ends[1], &link.ends[0])),
                None => None,
            })
    }

    /// All addresses of a node: those of its links' ends, then those of its loopback interface.
    pub fn addresses<'a>(&'a self, node: &'a str) -> impl Iterator<Item = IpNet> + 'a {
        let loopback = self.node(node).map(|n| n.loopback.as_slice());
        self.interfaces(node)
            .flat_map(|(_, end, _)| end.addresses.iter())
            .chain(loopback.unwrap_or_default())
            .copied()
    }
}

impl Link {
    /// Which end (0 or 1) is in that node.
    pub fn end(&self, node: &str) -> Option<usize> {
        self.ends.iter().position(|end| end.node == node)
    }
}
