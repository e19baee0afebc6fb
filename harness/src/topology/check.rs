//! What must hold between the parts of a topology.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::error::{Position, Problem};
use super::section::nearest;
use super::{End, Node, NodeKind, RouteAction, Topology};

/// The nodes by name, and the ends of each.
struct Index<'a> {
    nodes: HashMap<&'a str, &'a Node>,
    ends: HashMap<&'a str, Vec<&'a End>>,
}

impl<'a> Index<'a> {
    fn of(topology: &'a Topology) -> Index<'a> {
        let mut ends: HashMap<&str, Vec<&End>> = HashMap::new();
        for end in topology.links.iter().flat_map(|link| &link.ends) {
            ends.entry(&end.node).or_default().push(end);
        }
        let nodes = topology.nodes.iter();
        Index {
            nodes: nodes.map(|node| (node.name.as_str(), node)).collect(),
            ends,
        }
    }
}

pub(super) fn check(topology: &Topology, problems: &mut Vec<Problem>) {
    let index = Index::of(topology);
    links_end_in_nodes(topology, &index, problems);
    interfaces_are_unique(topology, problems);
    addresses_are_unique(topology, problems);
    subnets_do_not_overlap(topology, problems);
    for node in &topology.nodes {
        let ends = index.ends.get(node.name.as_str());
        check_node(node, ends.map_or(&[], Vec::as_slice), problems);
    }
}

fn links_end_in_nodes(topology: &Topology, index: &Index<'_>, problems: &mut Vec<Problem>) {
    for link in &topology.links {
        for end in &link.ends {
            let Some(node) = index.nodes.get(end.node.as_str()) else {
                let problem = Problem::new(
                    end.at,
                    format!(
                        "link `{}`: expected the name of a node, found `{}`, which is not under `nodes`",
                        link.name, end.node
                    ),
                );
                let names = topology.nodes.iter().map(|node| node.name.as_str());
                problems.push(match nearest(&end.node, names) {
                    Some(name) => problem.hint(format!("did you mean `{name}`?")),
                    None => problem.hint(format!("add `{}` under `nodes`", end.node)),
                });
                continue;
            };
            if node.kind == NodeKind::Bridge && !end.addresses.is_empty() {
                problems.push(
                    Problem::new(
                        end.address_at.first().copied().unwrap_or(end.at),
                        format!(
                            "link `{}`: `{}` is a bridge, and ports of a bridge have no addresses",
                            link.name, node.name
                        ),
                    )
                    .hint("give the address to the node at the other end"),
                );
            }
        }
    }
}

fn interfaces_are_unique(topology: &Topology, problems: &mut Vec<Problem>) {
    let mut seen: HashMap<(&str, &str), Position> = HashMap::new();
    for end in topology.links.iter().flat_map(|link| &link.ends) {
        let interface = (end.node.as_str(), end.interface.as_str());
        if let Some(first) = seen.insert(interface, end.at) {
            problems.push(
                Problem::new(
                    end.at,
                    format!(
                        "node `{}` has two interfaces with the name `{}`",
                        end.node, end.interface
                    ),
                )
                .related(first, "the first one is here")
                .hint("give one of them another `interface:` name"),
            );
        }
    }
}

/// Every address with its place and the address space it belongs to.
fn all_addresses(topology: &Topology) -> Vec<(&str, IpNet, Position, &str)> {
    let mut all = Vec::new();
    for link in &topology.links {
        let space = link.space.as_deref().unwrap_or_default();
        for end in &link.ends {
            for (net, at) in end.addresses.iter().zip(&end.address_at) {
                all.push((space, *net, *at, end.node.as_str()));
            }
        }
    }
    for node in &topology.nodes {
        for net in &node.loopback {
            all.push(("", *net, node.at, node.name.as_str()));
        }
    }
    all
}

fn addresses_are_unique(topology: &Topology, problems: &mut Vec<Problem>) {
    let mut seen: HashMap<(&str, IpAddr), (Position, &str)> = HashMap::new();
    for (space, net, at, node) in all_addresses(topology) {
        if let Some((first, other)) = seen.insert((space, net.addr()), (at, node)) {
            problems.push(
                Problem::new(
                    at,
                    format!("the address {} of node `{node}` is given twice", net.addr()),
                )
                .related(first, format!("it is given to node `{other}` here"))
                .hint("if both are meant, put their links into different address spaces with `space: NAME`"),
            );
        }
    }
}

/// For each link the number of its Ethernet segment: links that meet in a bridge are one segment.
fn segments(topology: &Topology) -> Vec<usize> {
    let mut segment: Vec<usize> = (0..topology.links.len()).collect();
    for node in &topology.nodes {
        if node.kind != NodeKind::Bridge {
            continue;
        }
        let ports: Vec<usize> = (0..topology.links.len())
            .filter(|&i| topology.links[i].end(&node.name).is_some())
            .map(|i| segment[i])
            .collect();
        if let Some(&first) = ports.first() {
            for s in &mut segment {
                if ports.contains(s) {
                    *s = first;
                }
            }
        }
    }
    segment
}

fn subnets_do_not_overlap(topology: &Topology, problems: &mut Vec<Problem>) {
    let segment = segments(topology);
    // Sorted by first address, a subnet overlaps an earlier one exactly if it begins before the furthest end so far.
    let mut subnets = Vec::new();
    for (i, link) in topology.links.iter().enumerate() {
        for end in &link.ends {
            for (net, at) in end.addresses.iter().zip(&end.address_at) {
                let space = link.space.as_deref().unwrap_or_default();
                subnets.push((space, net.trunc(), segment[i], *at, &link.name));
            }
        }
    }
    subnets.sort_by_key(|(space, net, _, _, _)| (*space, net.network(), net.prefix_len()));
    let mut open: Vec<(&str, IpNet, usize, Position, &String)> = Vec::new();
    for (space, net, segment, at, link) in subnets {
        // Prefixes nest or are apart, so the enclosing ones form a stack.
        while open
            .last()
            .is_some_and(|(s, o, _, _, _)| *s != space || !o.contains(&net))
        {
            open.pop();
        }
        if let Some((_, other, _, first, name)) = open.iter().find(|o| o.2 != segment) {
            let (late, early) = if at > *first {
                (at, *first)
            } else {
                (*first, at)
            };
            problems.push(
                Problem::new(
                    late,
                    format!("the subnets {net} of link `{link}` and {other} of link `{name}` overlap"),
                )
                .related(early, "the other one is here")
                .hint("use different subnets, or link both to one bridge, or put them into different address spaces with `space: NAME`"),
            );
        }
        if !open.iter().any(|o| o.1 == net && o.2 == segment) {
            open.push((space, net, segment, at, link));
        }
    }
}

fn check_node(node: &Node, ends: &[&End], problems: &mut Vec<Problem>) {
    let interfaces: Vec<&str> = ends.iter().map(|end| end.interface.as_str()).collect();
    let known = |name: &str| name == "lo" || interfaces.contains(&name);
    let unknown = |name: &str, at: Position| {
        let problem = Problem::new(
            at,
            format!("node `{}` has no interface `{name}`", node.name),
        );
        match nearest(name, interfaces.iter().copied()) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint(format!("its interfaces are {}", interfaces.join(", "))),
        }
    };
    if node.kind == NodeKind::Bridge && !(node.routes.is_empty() && node.rules.is_empty()) {
        problems.push(
            Problem::new(
                node.at,
                format!(
                    "node `{}` is a bridge, and a bridge has no routes",
                    node.name
                ),
            )
            .hint("make it a router, or remove `routes` and `rules`"),
        );
        return;
    }
    for route in &node.routes {
        let RouteAction::Forward { via, dev, onlink } = &route.action else {
            continue;
        };
        if let Some(dev) = dev
            && !known(dev)
        {
            problems.push(unknown(dev, route.at));
            continue;
        }
        let Some(via) = via else { continue };
        if via.is_ipv4() != route.to.addr().is_ipv4() {
            problems.push(Problem::new(
                route.at,
                format!(
                    "node `{}`: the route to {} has a next hop of the other address family, {via}",
                    node.name, route.to
                ),
            ));
            continue;
        }
        if *onlink {
            continue;
        }
        let link_local = matches!(via, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if link_local {
            if dev.is_none() {
                problems.push(
                    Problem::new(
                        route.at,
                        format!(
                            "node `{}`: the link-local next hop {via} needs an interface",
                            node.name
                        ),
                    )
                    .hint("add `dev: NAME`"),
                );
            }
            continue;
        }
        let mut nets = ends
            .iter()
            .filter(|end| dev.as_ref().is_none_or(|dev| *dev == end.interface));
        if nets.any(|end| end.addresses.iter().any(|net| net.contains(via))) {
            if ends
                .iter()
                .flat_map(|end| &end.addresses)
                .chain(&node.loopback)
                .any(|net| net.addr() == *via)
            {
                problems.push(Problem::new(
                    route.at,
                    format!(
                        "node `{}`: the next hop {via} is an address of the node itself",
                        node.name
                    ),
                ));
            }
            continue;
        }
        let subnets: Vec<String> = ends
            .iter()
            .flat_map(|end| &end.addresses)
            .map(|net| net.trunc().to_string())
            .collect();
        problems.push(
            Problem::new(
                route.at,
                format!(
                    "node `{}`: the next hop {via} of the route to {} is in no connected subnet",
                    node.name, route.to
                ),
            )
            .hint(if subnets.is_empty() {
                "the node has no addresses: give its end of a link some".to_owned()
            } else {
                format!("connected subnets are {}", subnets.join(", "))
            }),
        );
    }
    for rule in &node.rules {
        if let Some(iif) = &rule.iif
            && !known(iif)
        {
            problems.push(unknown(iif, rule.at));
        }
        if rule.from.is_none() && rule.to.is_none() && rule.iif.is_none() && rule.mark.is_none() {
            problems.push(
                Problem::new(
                    rule.at,
                    format!("node `{}`: this rule matches every packet", node.name),
                )
                .hint("add `from`, `to`, `iif` or `mark`"),
            );
        }
        if let (Some(from), Some(to)) = (rule.from, rule.to)
            && from.addr().is_ipv4() != to.addr().is_ipv4()
        {
            problems.push(Problem::new(
                rule.at,
                format!(
                    "node `{}`: `from` and `to` of a rule are of different address families",
                    node.name
                ),
            ));
        }
    }
    for neighbour in &node.neighbours {
        if !known(&neighbour.interface) {
            problems.push(unknown(&neighbour.interface, neighbour.at));
        }
    }
}
