//! The picture of a topology: what is drawn, taken from a topology file.

use harness::topology::{Impairment, NodeKind, Topology};
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::ladder::Column;

/// What a picture of a network shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// Name of the topology.
    pub name: String,
    /// One sentence about it; may be empty.
    pub description: String,
    /// The boxes.
    pub nodes: Vec<GraphNode>,
    /// The lines between them.
    pub links: Vec<GraphLink>,
}

/// A box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphNode {
    /// Unique name.
    pub name: String,
    /// Decides the shape.
    pub shape: Shape,
    /// What the node is, in words, such as `xTR` or `host`.
    pub role: String,
    /// Whether it speaks LISP: drawn with a strong border.
    pub lisp: bool,
    /// Facts below the name: EID prefixes, locators, whom it asks.
    pub facts: Vec<String>,
    /// What is in it now, in a live lab: its map-cache or its registrations.
    pub state: Vec<String>,
}

/// Facts of a box that are drawn; the tooltip has all.
const MOST_FACTS: usize = 12;
/// The same of its state.
const MOST_STATE: usize = 8;

impl GraphNode {
    /// The lines of its box. Where there are very many, the last one counts those that are left out.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (all, most) in [(&self.facts, MOST_FACTS), (&self.state, MOST_STATE)] {
            if all.len() <= most {
                lines.extend(all.iter().cloned());
            } else {
                lines.extend(all[..most - 1].iter().cloned());
                lines.push(format!("and {} more", all.len() - (most - 1)));
            }
        }
        lines
    }

    /// Everything that is known of it.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.facts.iter().chain(&self.state).map(String::as_str)
    }
}

/// Shape of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Rounded.
    Host,
    /// With corners.
    Router,
    /// Flat and dashed.
    Bridge,
}

/// A line between two boxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphLink {
    /// Name of the link.
    pub name: String,
    /// Its two ends.
    pub ends: [GraphEnd; 2],
    /// MTU or damage, where there is something to say.
    pub note: String,
    /// Whether it is damaged on purpose: drawn dashed.
    pub impaired: bool,
}

/// Where a line meets a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphEnd {
    /// Index into [`Graph::nodes`].
    pub node: usize,
    /// Interface name and addresses, one line each.
    pub labels: Vec<String>,
}

impl Graph {
    /// The graph of a topology. `state` adds lines to nodes by name: the map-cache or the registrations of a live lab.
    pub fn of(topology: &Topology, state: &BTreeMap<String, Vec<String>>) -> Graph {
        let nodes = topology
            .nodes
            .iter()
            .map(|node| {
                let mut facts: Vec<String> = node
                    .loopback
                    .iter()
                    .map(|address| format!("lo {address}"))
                    .collect();
                facts.extend(facts_of(&node.settings));
                let role = node.role.as_deref().unwrap_or_default();
                GraphNode {
                    name: node.name.clone(),
                    shape: match node.kind {
                        NodeKind::Host => Shape::Host,
                        NodeKind::Router => Shape::Router,
                        NodeKind::Bridge => Shape::Bridge,
                    },
                    role: if role.is_empty() {
                        kind_word(node.kind).to_owned()
                    } else {
                        role_word(role)
                    },
                    lisp: is_lisp(role),
                    facts,
                    state: state.get(&node.name).cloned().unwrap_or_default(),
                }
            })
            .collect();
        let index: BTreeMap<&str, usize> = topology
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (node.name.as_str(), index))
            .collect();
        let links = topology
            .links
            .iter()
            .filter_map(|link| {
                let [a, b] = &link.ends;
                let end = |end: &harness::topology::End| {
                    let node = *index.get(end.node.as_str())?;
                    let mut labels: Vec<String> =
                        end.addresses.iter().map(ToString::to_string).collect();
                    // An interface that has the name of its link says nothing new.
                    if end.interface != link.name {
                        match labels.first_mut() {
                            Some(first) => *first = format!("{} {first}", end.interface),
                            None => labels.push(end.interface.clone()),
                        }
                    }
                    Some(GraphEnd { node, labels })
                };
                let mut notes = Vec::new();
                notes.extend(link.mtu.map(|mtu| format!("MTU {mtu}")));
                notes.extend(link.impair.as_ref().map(damage));
                Some(GraphLink {
                    name: link.name.clone(),
                    ends: [end(a)?, end(b)?],
                    note: notes.join(", "),
                    impaired: link.impair.is_some(),
                })
            })
            .collect();
        Graph {
            name: topology.name.clone(),
            description: topology.description.clone().unwrap_or_default(),
            nodes,
            links,
        }
    }

    /// The picture as an SVG document that follows the reader's choice of light or dark.
    pub fn svg(&self) -> String {
        super::graph_svg::svg(self, true)
    }

    /// The same for a page that brings the style once for all its pictures.
    pub(crate) fn svg_for_page(&self) -> String {
        super::graph_svg::svg(self, false)
    }

    /// What the picture shows, for programs (docs/formats.md).
    pub fn record(&self) -> Value {
        let node = |node: &GraphNode| {
            let kind = match node.shape {
                Shape::Host => "host",
                Shape::Router => "router",
                Shape::Bridge => "bridge",
            };
            json!({
                "name": node.name, "kind": kind, "role": node.role, "lisp": node.lisp,
                "facts": node.facts, "state": node.state,
            })
        };
        let end = |end: &GraphEnd| {
            let node = self.nodes.get(end.node).map(|node| &node.name);
            json!({"node": node, "labels": end.labels})
        };
        let link = |link: &GraphLink| {
            json!({
                "name": link.name, "ends": link.ends.iter().map(end).collect::<Vec<_>>(),
                "note": link.note, "impaired": link.impaired,
            })
        };
        json!({
            "format": 1,
            "name": self.name,
            "description": self.description,
            "nodes": self.nodes.iter().map(node).collect::<Vec<_>>(),
            "links": self.links.iter().map(link).collect::<Vec<_>>(),
        })
    }

    /// The picture as a Mermaid flowchart.
    pub fn mermaid(&self) -> String {
        super::mermaid::flowchart(self)
    }

    /// The nodes from left to right as the picture has them: the columns of a ladder diagram of this network.
    pub fn columns(&self) -> Vec<Column> {
        let places = super::graph_layout::place(self);
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.sort_by(|a, b| {
            let key = |index: usize| (places.boxes[index].center_x(), places.boxes[index].y);
            let ((ax, ay), (bx, by)) = (key(*a), key(*b));
            ax.total_cmp(&bx).then(ay.total_cmp(&by)).then(a.cmp(b))
        });
        order
            .into_iter()
            .map(|index| Column {
                name: self.nodes[index].name.clone(),
                role: self.nodes[index].role.clone(),
            })
            .collect()
    }
}

fn kind_word(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Host => "host",
        NodeKind::Router => "router",
        NodeKind::Bridge => "bridge",
    }
}

fn is_lisp(role: &str) -> bool {
    let role = role.to_ascii_lowercase();
    ["xtr", "itr", "etr", "ms", "mr", "ddt", "rtr"]
        .iter()
        .any(|word| {
            role.split(['-', '/', '+', ',', ' ', '_'])
                .any(|part| part.trim_start_matches('p') == *word || part == "msmr")
        })
}

/// Roles as the RFCs write them; other words stay as they are.
fn role_word(role: &str) -> String {
    match role.to_ascii_lowercase().as_str() {
        "xtr" => "xTR".to_owned(),
        "pxtr" => "PxTR".to_owned(),
        "msmr" | "ms-mr" | "ms/mr" => "MS/MR".to_owned(),
        "itr" | "etr" | "pitr" | "petr" | "ms" | "mr" | "ddt" | "rtr" => role.to_ascii_uppercase(),
        _ => role.to_owned(),
    }
}

/// The lines that the settings of a LISP node give: prefixes with their locators, sites, whom it asks.
fn facts_of(settings: &Value) -> Vec<String> {
    let mut facts = Vec::new();
    for prefix in list(settings, "eid-prefixes") {
        let Some(text) = word(prefix, "prefix").or_else(|| prefix.as_str().map(str::to_owned))
        else {
            continue;
        };
        let instance = match word(prefix, "instance-id") {
            Some(id) if id != "0" => format!("[{id}]"),
            _ => String::new(),
        };
        facts.push(format!("EID {instance}{text}"));
        for locator in list(prefix, "locators") {
            let Some(address) =
                word(locator, "address").or_else(|| locator.as_str().map(str::to_owned))
            else {
                continue;
            };
            let part = |key, letter: &str| {
                word(locator, key).map_or_else(String::new, |value| format!(" {letter}{value}"))
            };
            facts.push(format!(
                "  RLOC {address}{}{}",
                part("priority", "p"),
                part("weight", "w")
            ));
        }
    }
    for site in list(settings, "sites") {
        let prefixes: Vec<String> = list(site, "eid-prefixes")
            .iter()
            .filter_map(|prefix| word(prefix, "prefix"))
            .collect();
        if let Some(name) = word(site, "name") {
            facts.push(format!("{name}: {}", prefixes.join(", ")));
        }
    }
    for (key, words) in [("map-servers", "MS"), ("map-resolvers", "MR")] {
        let addresses: Vec<String> = list(settings, key)
            .iter()
            .filter_map(|entry| {
                word(entry, "address").or_else(|| entry.as_str().map(str::to_owned))
            })
            .collect();
        if !addresses.is_empty() {
            facts.push(format!("{words} {}", addresses.join(", ")));
        }
    }
    facts
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn word(value: &Value, key: &str) -> Option<String> {
    match value.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn damage(impair: &Impairment) -> String {
    let mut parts = Vec::new();
    for (share, name) in [
        (impair.loss, "loss"),
        (impair.duplicate, "duplicated"),
        (impair.reorder, "reordered"),
        (impair.corrupt, "corrupted"),
    ] {
        if share > 0.0 {
            parts.push(
                format!("{name} {:.3}", share * 100.0)
                    .trim_end_matches('0')
                    .trim_end_matches('.')
                    .to_owned()
                    + " %",
            );
        }
    }
    for (time, name) in [(impair.delay, "delay"), (impair.jitter, "jitter")] {
        if !time.is_zero() {
            parts.push(format!("{name} {time:?}"));
        }
    }
    if let Some(rate) = impair.rate {
        parts.push(format!("rate {rate} bit/s"));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lisp_roles_are_known_by_their_words() {
        for role in [
            "xtr", "pxtr", "msmr", "ms", "mr", "pitr", "petr", "itr", "etr", "ms-mr",
        ] {
            assert!(is_lisp(role), "{role}");
        }
        for role in ["", "host", "core", "provider", "peer", "firmware"] {
            assert!(!is_lisp(role), "{role}");
        }
    }
}
