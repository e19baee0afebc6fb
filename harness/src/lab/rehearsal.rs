//! What only a host can tell of a topology, before a lab is made of it: whether `nft` takes its rules, and whether its files
//! can be put where they are wanted.

use super::{Lab, LabError, LabOptions};
use crate::topology::{NodeKind, Position, Topology};

/// What came out for the nodes of a topology that have rules or files.
#[derive(Debug, Default)]
pub struct Rehearsal {
    /// What a lab would refuse, and where the node stands in the topology's files.
    pub problems: Vec<(Position, LabError)>,
    /// The first reason why something could not be tried out here.
    pub untried: Option<LabError>,
}

impl Topology {
    /// Whether there is something to try out: `nftables` or `files` of a node.
    pub fn needs_rehearsal(&self) -> bool {
        self.nodes
            .iter()
            .any(|node| node.nftables.is_some() || !node.files.is_empty())
    }

    /// Tries it out, in a namespace of its own for each node. Call it after [`crate::host::enter`].
    pub fn rehearse(&self) -> Rehearsal {
        let mut found = Rehearsal::default();
        let mut tried = Vec::new();
        for node in &self.nodes {
            let parts = (&node.nftables, &node.files);
            if (node.nftables.is_none() && node.files.is_empty()) || tried.contains(&parts) {
                continue;
            }
            tried.push(parts);
            match self.alone(&node.name) {
                Ok(()) => {}
                Err(error @ LabError::Usage { .. }) => found.problems.push((node.at, error)),
                Err(error) => drop(found.untried.get_or_insert(error)),
            }
        }
        found
    }

    /// A lab of one node with its interfaces and nothing else: with its rules, which may name them, and its files where its
    /// programs see them.
    fn alone(&self, name: &str) -> Result<(), LabError> {
        let mut alone = self.clone();
        alone.links.retain(|link| link.end(name).is_some());
        for link in &mut alone.links {
            link.impair = None;
            for end in &mut link.ends {
                end.addresses.clear();
            }
        }
        let links = &alone.links;
        alone.nodes.retain(|node| {
            node.name == name || links.iter().any(|link| link.end(&node.name).is_some())
        });
        for node in &mut alone.nodes {
            node.kind = NodeKind::Host;
            node.loopback.clear();
            node.routes.clear();
            node.rules.clear();
            node.neighbours.clear();
            node.sysctls.clear();
            if node.name != name {
                node.nftables = None;
                node.files.clear();
            }
        }
        let options = LabOptions {
            capture: false,
            ..LabOptions::default()
        };
        let lab = Lab::up(&alone, options)?;
        lab.run_in_view(name, || ())
    }
}
