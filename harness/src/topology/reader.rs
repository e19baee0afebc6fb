//! From the YAML tree to the types of a topology: every key, every value's form. What needs more than one value is in
//! [`super::check`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::error::{Position, Problem};
use super::forms::{address, check_word, ip, is_interface_name, mac, prefix, word};
use super::impairment::read_impairment;
use super::section::{Section, boolean, entries, items, nearest, number, parsed, text};
use super::tree::{Key, Tree, Value};
use super::{End, FORMAT, Link, Neighbour, Node, NodeKind, Route, RouteAction, Rule, Topology};

type Problems = Vec<Problem>;

pub(super) fn read(tree: &Tree, problems: &mut Problems) -> Topology {
    let mut topology = Topology {
        name: String::new(),
        description: None,
        nodes: Vec::new(),
        links: Vec::new(),
        source: None,
        expanded: String::new(),
    };
    let Some(mut top) = Section::open(tree, "topology", problems) else {
        return topology;
    };
    if let Some(format) = top.require("format", "`format: 1`", problems)
        && format.to_json().as_u64() != Some(FORMAT)
    {
        problems.push(
            Problem::new(
                format.at,
                format!("format: expected {FORMAT}, found {}", format.describe()),
            )
            .hint("this version reads format 1 only"),
        );
    }
    if let Some(name) = top.require("name", "a name for the topology", problems) {
        topology.name = word(name, "name", problems).unwrap_or_default();
    }
    topology.description = top
        .get("description")
        .and_then(|tree| text(tree, "description", problems));
    if let Some(nodes) = top.require("nodes", "a mapping of node names to nodes", problems) {
        topology.nodes = entries(nodes, "nodes", problems)
            .iter()
            .filter_map(|(key, tree)| read_node(key, tree, problems))
            .collect();
    }
    if let Some(links) = top.get("links") {
        topology.links = entries(links, "links", problems)
            .iter()
            .filter_map(|(key, tree)| read_link(key, tree, problems))
            .collect();
    }
    top.finish(problems);
    topology
}

fn read_node(key: &Key, tree: &Tree, problems: &mut Problems) -> Option<Node> {
    let what = format!("node `{}`", key.name);
    check_word(&key.name, key.at, &what, problems);
    let mut section = Section::open(tree, what.as_str(), problems)?;
    section.at = key.at;
    let kind = section
        .require("kind", "host, router or bridge", problems)
        .and_then(|tree| {
            let kind = parsed(tree, &what, "host, router or bridge", problems, kind);
            if let (None, Value::Text(word), Some(last)) = (kind, &tree.value, problems.last_mut())
                && let Some(name) = nearest(word, ["host", "router", "bridge"].into_iter())
            {
                last.hint = Some(format!("did you mean `{name}`?"));
            }
            kind
        })
        .unwrap_or(NodeKind::Host);
    let node = Node {
        name: key.name.clone(),
        kind,
        role: section
            .get("role")
            .and_then(|tree| word(tree, &format!("{what}: role"), problems)),
        description: section
            .get("description")
            .and_then(|tree| text(tree, &what, problems)),
        loopback: section
            .get("loopback")
            .map(|tree| {
                let what = format!("{what}: loopback");
                list(tree, &what, problems, |tree, problems| {
                    address(tree, &what, problems)
                })
            })
            .unwrap_or_default(),
        routes: section
            .get("routes")
            .map(|tree| {
                list(tree, &format!("{what}: routes"), problems, |t, p| {
                    read_route(t, &what, p)
                })
            })
            .unwrap_or_default(),
        rules: section
            .get("rules")
            .map(|tree| {
                list(tree, &format!("{what}: rules"), problems, |t, p| {
                    read_rule(t, &what, p)
                })
            })
            .unwrap_or_default(),
        sysctls: section
            .get("sysctls")
            .map(|tree| read_sysctls(tree, &what, problems))
            .unwrap_or_default(),
        neighbours: section
            .get("neighbours")
            .map(|tree| {
                list(tree, &format!("{what}: neighbours"), problems, |t, p| {
                    read_neighbour(t, &what, p)
                })
            })
            .unwrap_or_default(),
        nftables: section
            .get("nftables")
            .and_then(|tree| text(tree, &format!("{what}: nftables"), problems)),
        env: section
            .get("env")
            .map(|tree| read_texts(tree, &format!("{what}: env"), problems))
            .unwrap_or_default(),
        files: section
            .get("files")
            .map(|tree| read_files(tree, &what, problems))
            .unwrap_or_default(),
        settings: section
            .get("settings")
            .map_or(serde_json::Value::Null, Tree::to_json),
        at: key.at,
    };
    section.finish(problems);
    Some(node)
}

fn kind(word: &str) -> Option<NodeKind> {
    match word {
        "host" => Some(NodeKind::Host),
        "router" => Some(NodeKind::Router),
        "bridge" => Some(NodeKind::Bridge),
        _ => None,
    }
}

fn read_route(tree: &Tree, node: &str, problems: &mut Problems) -> Option<Route> {
    let what = format!("{node}: route");
    let mut section = Section::open(tree, what.as_str(), problems)?;
    let to = section.require("to", "a prefix like 10.0.0.0/8, or default", problems);
    let via = section
        .get("via")
        .and_then(|tree| ip(tree, &format!("{what}: via"), problems));
    let dev = section
        .get("dev")
        .and_then(|tree| text(tree, &what, problems));
    let onlink = section
        .get("onlink")
        .and_then(|tree| boolean(tree, &what, problems));
    let drop = section.get("action").and_then(|tree| {
        let what = format!("{what}: action");
        parsed(
            tree,
            &what,
            "blackhole or unreachable",
            problems,
            |word| match word {
                "blackhole" => Some(RouteAction::Blackhole),
                "unreachable" => Some(RouteAction::Unreachable),
                _ => None,
            },
        )
    });
    let table = section
        .get("table")
        .and_then(|tree| number(tree, &what, 1..=u64::from(u32::MAX), problems));
    let metric = section
        .get("metric")
        .and_then(|tree| number(tree, &what, 0..=u64::from(u32::MAX), problems));
    let source = section
        .get("source")
        .and_then(|tree| ip(tree, &format!("{what}: source"), problems));
    let at = section.at;
    section.finish(problems);

    let to = to?;
    let is_default = matches!(&to.value, Value::Text(text) if text == "default");
    let to = match (is_default, via.or(source)) {
        (true, Some(IpAddr::V4(_))) => IpNet::V4(Default::default()),
        (true, Some(IpAddr::V6(_))) => IpNet::V6(Default::default()),
        (true, None) => {
            problems.push(
                Problem::new(
                    to.at,
                    format!("{what}: `default` alone does not say which address family"),
                )
                .hint("give a next hop (`via`), or write 0.0.0.0/0 or ::/0"),
            );
            return None;
        }
        (false, _) => prefix(to, &format!("{what}: to"), problems)?,
    };
    let action = match drop {
        Some(_) if via.is_some() || dev.is_some() => {
            problems.push(
                Problem::new(
                    at,
                    format!("{what}: `action` and a next hop exclude each other"),
                )
                .hint("remove `via` and `dev`, or remove `action`"),
            );
            return None;
        }
        Some(action) => action,
        None if via.is_none() && dev.is_none() => {
            problems.push(Problem::new(
                at,
                format!("{what} to {to}: expected `via`, `dev` or `action`, found none of them"),
            ));
            return None;
        }
        None => RouteAction::Forward {
            via,
            dev,
            onlink: onlink.unwrap_or(false),
        },
    };
    Some(Route {
        to,
        action,
        table: table.map(|n| n as u32),
        metric: metric.map(|n| n as u32),
        source,
        at,
    })
}

fn read_rule(tree: &Tree, node: &str, problems: &mut Problems) -> Option<Rule> {
    let what = format!("{node}: rule");
    let mut section = Section::open(tree, what.as_str(), problems)?;
    let from = section
        .get("from")
        .and_then(|tree| prefix(tree, &what, problems));
    let to = section
        .get("to")
        .and_then(|tree| prefix(tree, &what, problems));
    let iif = section
        .get("iif")
        .and_then(|tree| text(tree, &what, problems));
    let mark = section
        .get("mark")
        .and_then(|tree| number(tree, &what, 0..=u64::from(u32::MAX), problems));
    let table = section
        .require("table", "a routing table number", problems)
        .and_then(|tree| number(tree, &what, 1..=u64::from(u32::MAX), problems));
    let priority = section
        .require("priority", "a priority from 1 to 32765", problems)
        .and_then(|tree| number(tree, &what, 1..=32765, problems));
    let at = section.at;
    section.finish(problems);
    Some(Rule {
        from,
        to,
        iif,
        mark: mark.map(|n| n as u32),
        table: table? as u32,
        priority: priority? as u32,
        at,
    })
}

fn read_neighbour(tree: &Tree, node: &str, problems: &mut Problems) -> Option<Neighbour> {
    let what = format!("{node}: neighbour");
    let mut section = Section::open(tree, what.as_str(), problems)?;
    let address = section
        .require("address", "an IP address", problems)
        .and_then(|tree| ip(tree, &what, problems));
    let mac = section
        .require("mac", "an Ethernet address", problems)
        .and_then(|tree| mac(tree, &what, problems));
    let interface = section
        .require("interface", "an interface name", problems)
        .and_then(|tree| text(tree, &what, problems));
    let at = section.at;
    section.finish(problems);
    Some(Neighbour {
        address: address?,
        mac: mac?,
        interface: interface?,
        at,
    })
}

fn read_sysctls(tree: &Tree, node: &str, problems: &mut Problems) -> Vec<(String, String)> {
    let what = format!("{node}: sysctls");
    let mut sysctls = Vec::new();
    for (key, value) in entries(tree, &what, problems) {
        let usable = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        if !key.name.starts_with("net.") || key.name.contains("..") || !key.name.chars().all(usable)
        {
            problems.push(
                Problem::new(
                    key.at,
                    format!(
                        "{what}: expected a name like net.ipv4.ip_forward, found `{}`",
                        key.name
                    ),
                )
                .hint("only settings under `net.` belong to a network namespace"),
            );
        } else if let Some(value) = text(value, &what, problems) {
            sysctls.push((key.name.clone(), value));
        }
    }
    sysctls
}

fn read_texts(tree: &Tree, what: &str, problems: &mut Problems) -> BTreeMap<String, String> {
    entries(tree, what, problems)
        .iter()
        .filter_map(|(key, value)| {
            text(value, &format!("{what} `{}`", key.name), problems)
                .map(|value| (key.name.clone(), value))
        })
        .collect()
}

fn read_files(tree: &Tree, node: &str, problems: &mut Problems) -> BTreeMap<PathBuf, String> {
    let what = format!("{node}: files");
    for (key, _) in entries(tree, &what, problems) {
        if !key.name.starts_with('/') || key.name.split('/').any(|part| part == "..") {
            problems.push(Problem::new(
                key.at,
                format!(
                    "{what}: expected an absolute path without `..`, found `{}`",
                    key.name
                ),
            ));
        }
    }
    read_texts(tree, &what, problems)
        .into_iter()
        .map(|(path, content)| (PathBuf::from(path), content))
        .collect()
}

fn read_link(key: &Key, tree: &Tree, problems: &mut Problems) -> Option<Link> {
    let what = format!("link `{}`", key.name);
    check_word(&key.name, key.at, &what, problems);
    let mut section = Section::open(tree, what.as_str(), problems)?;
    section.at = key.at;
    let ends: Vec<End> = section
        .require("ends", "a mapping with two node names", problems)
        .map(|tree| entries(tree, &format!("{what}: ends"), problems))
        .unwrap_or_default()
        .iter()
        .filter_map(|(end, tree)| read_end(&key.name, end, tree, problems))
        .collect();
    let link_key = key;
    let mut link = Link {
        name: key.name.clone(),
        // Replaced below; a link without two ends is not a link.
        ends: [missing_end(key.at), missing_end(key.at)],
        mtu: section
            .get("mtu")
            .and_then(|tree| number(tree, &format!("{what}: mtu"), 68..=65535, problems))
            .map(|n| n as u32),
        capture: section
            .get("capture")
            .and_then(|tree| boolean(tree, &format!("{what}: capture"), problems))
            .unwrap_or(true),
        offloads: section
            .get("offloads")
            .and_then(|tree| boolean(tree, &format!("{what}: offloads"), problems))
            .unwrap_or(false),
        impair: section
            .get("impair")
            .and_then(|tree| read_impairment(tree, &what, problems)),
        space: section
            .get("space")
            .and_then(|tree| word(tree, &format!("{what}: space"), problems)),
        at: link_key.at,
    };
    section.finish(problems);
    let found = ends.len();
    match <[End; 2]>::try_from(ends) {
        Ok(ends) => link.ends = ends,
        Err(_) => {
            problems.push(
                Problem::new(
                    key.at,
                    format!("{what}: expected two ends in two nodes, found {found}"),
                )
                .hint("write `ends: {a: {}, b: {}}`; for more than two boxes on one LAN, link each to a node of kind bridge"),
            );
            return None;
        }
    }
    Some(link)
}

fn missing_end(at: Position) -> End {
    End {
        node: String::new(),
        interface: String::new(),
        addresses: Vec::new(),
        mac: None,
        at,
        address_at: Vec::new(),
    }
}

fn read_end(link: &str, key: &Key, tree: &Tree, problems: &mut Problems) -> Option<End> {
    let what = format!("link `{link}`: end `{}`", key.name);
    let mut section = Section::open(tree, what.as_str(), problems)?;
    let interface = section.get("interface");
    let interface_at = interface.map_or(key.at, |tree| tree.at);
    let interface = interface
        .and_then(|tree| text(tree, &format!("{what}: interface"), problems))
        .unwrap_or_else(|| link.to_owned());
    if !is_interface_name(&interface) {
        problems.push(
            Problem::new(
                interface_at,
                format!("{what}: expected an interface name of 1 to 15 octets without spaces and slashes, found `{interface}`"),
            )
            .hint("add `interface: NAME`; without it the interface has the link's name"),
        );
    }
    let mut end = End {
        node: key.name.clone(),
        interface,
        mac: section
            .get("mac")
            .and_then(|tree| mac(tree, &what, problems)),
        ..missing_end(key.at)
    };
    if let Some(tree) = section.get("addresses") {
        for tree in items(tree, &format!("{what}: addresses"), problems) {
            if let Some(address) = address(tree, &what, problems) {
                end.addresses.push(address);
                end.address_at.push(tree.at);
            }
        }
    }
    section.finish(problems);
    Some(end)
}

fn list<T>(
    tree: &Tree,
    what: &str,
    problems: &mut Problems,
    mut read: impl FnMut(&Tree, &mut Problems) -> Option<T>,
) -> Vec<T> {
    items(tree, what, problems)
        .iter()
        .filter_map(|tree| read(tree, problems))
        .collect()
}
