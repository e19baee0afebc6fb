//! Building the networks of a lab: namespaces, cables, addresses, routes.
//!
//! One thread makes all namespaces: it unshares, opens the sockets that are needed, hands both over, and goes on to the next.
//! The sockets stay where they were opened, so that a second thread sends everything else from wherever it is, cables first.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc;

use super::error::LabError;
use super::sysctls::{default_sysctls, make_writable, set_sysctls, write_sysctl};
use crate::doctor::apply_nftables;
use crate::sys::ethtool::{Control, TransmitFeatures};
use crate::sys::netlink::{Netlink, VethEnd};
use crate::sys::netns::Namespace;
use crate::topology::{Link, Node, NodeKind, RouteAction, Topology};

/// Index of a node's bridge device, if it has one.
pub(super) const BRIDGE_INDEX: u32 = 2;
/// Index of the first interface of a node.
const FIRST_INDEX: u32 = 3;

/// The networks of a lab, up and running.
pub(crate) struct Networks {
    /// One namespace per node, in the order of the topology.
    pub(crate) nodes: Vec<Namespace>,
    /// Per link the interface indexes of its two ends.
    pub(crate) indexes: Vec<[u32; 2]>,
    /// The namespace in which inline links are relayed, if there are any, and per inline link (by its number) the
    /// interface indexes of the relay's two ends.
    pub(crate) wire: Option<(Namespace, HashMap<usize, [u32; 2]>)>,
}

/// A namespace under construction.
struct Site {
    namespace: Namespace,
    netlink: Netlink,
    /// For nodes with links whose offloads are switched off.
    control: Option<Control>,
}

impl Site {
    /// Makes a namespace and leaves the calling thread in it.
    fn make(name: &str, with_control: bool) -> Result<Site, LabError> {
        let failed = |what: &str, error: io::Error| {
            LabError::kernel(format!("node `{name}`: {what}"), error)
        };
        Ok(Site {
            namespace: Namespace::unshare()
                .map_err(|error| failed("making a network namespace", error))?,
            netlink: Netlink::open().map_err(|error| failed("opening a netlink socket", error))?,
            control: with_control
                .then(Control::open)
                .transpose()
                .map_err(|error| failed("opening a socket", error))?,
        })
    }
}

/// Builds the networks of a topology. `inline(n)` says whether link number `n` is relayed in userspace.
///
/// Must be called on a thread of its own: it ends in the namespace of the last node.
pub(crate) fn build(
    topology: &Topology,
    inline: &dyn Fn(usize) -> bool,
) -> Result<Networks, LabError> {
    make_writable()?;
    let ipv6_kernel = crate::host::has_ipv6();
    let numbers: HashMap<&str, usize> = topology
        .nodes
        .iter()
        .enumerate()
        .map(|(number, node)| (node.name.as_str(), number))
        .collect();
    // Per node its ends: the number of the link and the side.
    let mut ends = vec![Vec::new(); topology.nodes.len()];
    for (number, link) in topology.links.iter().enumerate() {
        for (side, end) in link.ends.iter().enumerate() {
            ends[numbers[end.node.as_str()]].push((number, side));
        }
    }
    let strips: Vec<bool> = (0..topology.links.len())
        .map(|number| !topology.links[number].offloads || inline(number))
        .collect();
    let mut next_index = vec![FIRST_INDEX; topology.nodes.len()];
    // Per link the numbers of its nodes and the interface indexes.
    let mut nodes = Vec::with_capacity(topology.links.len());
    let mut indexes = Vec::with_capacity(topology.links.len());
    // Per node the links that can be made when it is there.
    let mut completes = vec![Vec::new(); topology.nodes.len()];
    for (number, link) in topology.links.iter().enumerate() {
        let of_link = [0, 1].map(|side| numbers[link.ends[side].node.as_str()]);
        indexes.push(of_link.map(|node| {
            next_index[node] += 1;
            next_index[node] - 1
        }));
        nodes.push(of_link);
        completes[of_link[0].max(of_link[1])].push(number);
    }

    let mut sites: Vec<Site> = Vec::with_capacity(topology.nodes.len());
    let mut ipv6_nodes = Vec::with_capacity(topology.nodes.len());
    let mut late = Vec::new();
    let mut wire: Option<(Site, HashMap<usize, [u32; 2]>)> = None;
    // Namespaces on one thread, cables on the other: both are work of the kernel, and mostly under different locks.
    std::thread::scope(|scope| -> Result<(), LabError> {
        let (ready, made) = mpsc::channel();
        let (strips, ends) = (&strips, &ends);
        let relayed = (0..topology.links.len()).any(inline);
        std::thread::Builder::new()
            .name("lab-build-ns".to_owned())
            .spawn_scoped(scope, move || {
                make_sites(topology, ends, strips, relayed, ipv6_kernel, &ready);
            })
            .map_err(|error| LabError::kernel("starting a thread", error))?;
        for made in made {
            let (number, site) = match made? {
                Made::Relay(site) => {
                    wire = Some((site, HashMap::new()));
                    continue;
                }
                Made::Node {
                    site,
                    ipv6,
                    complete,
                } => {
                    let number = sites.len();
                    if !complete {
                        late.push(number);
                    }
                    ipv6_nodes.push(ipv6);
                    (number, site)
                }
            };
            sites.push(site);
            for &link in &completes[number] {
                let relay = if inline(link) { wire.as_mut() } else { None };
                add_cable(
                    topology,
                    link,
                    nodes[link],
                    indexes[link],
                    &mut sites,
                    relay,
                )?;
            }
        }
        Ok(())
    })?;
    for (site, node) in sites.iter_mut().zip(&topology.nodes) {
        if node.kind == NodeKind::Bridge {
            let what = format!("node `{}`: making a bridge", node.name);
            site.netlink.add_bridge("br0", BRIDGE_INDEX, what)?;
        }
        site.netlink.flush()?;
    }
    if let Some((relay, _)) = &mut wire {
        relay.netlink.flush()?;
    }

    // The wire format, before anything is sent.
    let mut features: Option<TransmitFeatures> = None;
    for (number, link) in topology.links.iter().enumerate() {
        if !strips[number] {
            continue;
        }
        for end in &link.ends {
            let Some(control) = &sites[numbers[end.node.as_str()]].control else {
                continue;
            };
            let failed = |error| {
                let what = format!(
                    "link `{}`: switching off the transmit offloads of `{}`",
                    link.name, end.interface
                );
                LabError::kernel(what, error)
            };
            let features = match &features {
                Some(features) => features,
                None => features.insert(control.transmit_features(&end.interface).map_err(failed)?),
            };
            control
                .clear_features(&end.interface, features)
                .map_err(failed)?;
        }
    }
    for number in late {
        let node = &topology.nodes[number];
        sites[number]
            .namespace
            .enter()
            .map_err(|error| LabError::kernel("entering a namespace again", error))?;
        set_sysctls(node, true)?;
    }

    for (number, node) in topology.nodes.iter().enumerate() {
        if let Some(rules) = &node.nftables {
            sites[number]
                .namespace
                .enter()
                .map_err(|error| LabError::kernel("entering a namespace again", error))?;
            apply_nftables(&node.name, rules)?;
        }
        let netlink = &mut sites[number].netlink;
        configure(
            topology,
            node,
            &ends[number],
            &indexes,
            ipv6_nodes[number],
            netlink,
        )?;
    }
    for (number, node) in topology.nodes.iter().enumerate() {
        let netlink = &mut sites[number].netlink;
        for &(link, side) in &ends[number] {
            let what = format!(
                "node `{}`: waiting for `{}`",
                node.name, topology.links[link].name
            );
            netlink.settle_link(indexes[link][side], what)?;
        }
        netlink.flush()?;
    }
    Ok(Networks {
        nodes: sites.into_iter().map(|site| site.namespace).collect(),
        indexes,
        wire: wire.map(|(site, relayed)| (site.namespace, relayed)),
    })
}

/// What the thread that makes namespaces hands over.
enum Made {
    /// The namespace of the relay; comes first.
    Relay(Site),
    /// A node's, in the order of the topology.
    Node {
        site: Site,
        ipv6: bool,
        /// False when settings of interfaces, which do not exist yet, are left to be written.
        complete: bool,
    },
}

/// Makes the namespaces with their first settings and hands each over as soon as it is there; ends with the first error.
fn make_sites(
    topology: &Topology,
    ends: &[Vec<(usize, usize)>],
    strips: &[bool],
    relayed: bool,
    ipv6_kernel: bool,
    ready: &mpsc::Sender<Result<Made, LabError>>,
) {
    if let Err(error) = make_writable() {
        let _ = ready.send(Err(error));
        return;
    }
    if relayed {
        let relay = make_relay(ipv6_kernel);
        let failed = relay.is_err();
        if ready.send(relay).is_err() || failed {
            return;
        }
    }
    let mut inherited = HashMap::new();
    for (number, node) in topology.nodes.iter().enumerate() {
        let strips_offloads = ends[number].iter().any(|&(link, _)| strips[link]);
        let ipv6 = uses_ipv6(topology, node, &ends[number]);
        let made = make_node(node, strips_offloads, ipv6, ipv6_kernel, &mut inherited);
        let failed = made.is_err();
        if ready.send(made).is_err() || failed {
            return;
        }
    }
}

fn make_relay(ipv6_kernel: bool) -> Result<Made, LabError> {
    let site = Site::make("(relay)", false)?;
    if ipv6_kernel {
        for scope in ["all", "default"] {
            let path = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
            std::fs::write(path, "1")
                .map_err(|error| LabError::kernel("silencing the relay's namespace", error))?;
        }
    }
    Ok(Made::Relay(site))
}

/// `inherited` remembers what the settings of a new namespace are.
fn make_node(
    node: &Node,
    strips_offloads: bool,
    ipv6: bool,
    ipv6_kernel: bool,
    inherited: &mut HashMap<&'static str, String>,
) -> Result<Made, LabError> {
    let site = Site::make(&node.name, strips_offloads)?;
    if ipv6 && !ipv6_kernel {
        return Err(LabError::Unsupported {
            what: format!(
                "node `{}` has IPv6 addresses or routes, and this kernel has no IPv6",
                node.name
            ),
            remedy:
                "boot a kernel with IPv6 (without ipv6.disable=1), or use a topology with IPv4 only"
                    .to_owned(),
        });
    }
    for (path, value) in default_sysctls(node.kind, ipv6, ipv6_kernel) {
        // All new namespaces start with the same settings: what the first one has already, none needs.
        let found = inherited.entry(path).or_insert_with(|| {
            std::fs::read_to_string(format!("/proc/sys/{path}")).unwrap_or_default()
        });
        if found.trim_end() != value {
            write_sysctl(node, path, value)?;
        }
    }
    Ok(Made::Node {
        complete: set_sysctls(node, false)?,
        site,
        ipv6,
    })
}

/// Makes the veth pair of a link: between its nodes, or for an inline link one from the relay to each of them.
fn add_cable(
    topology: &Topology,
    number: usize,
    nodes: [usize; 2],
    index: [u32; 2],
    sites: &mut [Site],
    relay: Option<&mut (Site, HashMap<usize, [u32; 2]>)>,
) -> Result<(), LabError> {
    let link = &topology.links[number];
    let what = format!("link `{}`: making a veth pair", link.name);
    let end = |side: usize| VethEnd {
        name: &link.ends[side].interface,
        index: index[side],
        mac: mac(number, side, link),
        mtu: link.mtu,
    };
    let Some((relay, relayed)) = relay else {
        let peer = sites[nodes[1]].namespace.clone();
        let netlink = &mut sites[nodes[0]].netlink;
        netlink.add_veth(&end(0), &end(1), peer.as_fd(), what)?;
        return Ok(netlink.flush()?);
    };
    let mut relay_index = [0; 2];
    for side in 0..2 {
        relay_index[side] = FIRST_INDEX + 2 * relayed.len() as u32 + side as u32;
        let name = format!("w{number}{}", ["a", "b"][side]);
        let here = VethEnd {
            name: &name,
            index: relay_index[side],
            mac: [0x02, 0xff, 0, (number >> 8) as u8, number as u8, side as u8],
            mtu: link.mtu,
        };
        let peer = sites[nodes[side]].namespace.as_fd();
        relay
            .netlink
            .add_veth(&here, &end(side), peer, what.clone())?;
        relay
            .netlink
            .set_link(relay_index[side], true, None, what.clone())?;
    }
    relay.netlink.flush()?;
    relayed.insert(number, relay_index);
    Ok(())
}

/// Brings a node's interfaces up and gives it its addresses, routes, rules and neighbours.
fn configure(
    topology: &Topology,
    node: &Node,
    ends: &[(usize, usize)],
    indexes: &[[u32; 2]],
    ipv6: bool,
    netlink: &mut Netlink,
) -> Result<(), LabError> {
    let name = &node.name;
    let up = |interface: &str| format!("node `{name}`: bringing `{interface}` up");
    // Unless the topology asks for detection of duplicates.
    let at_once = !node
        .sysctls
        .iter()
        .any(|(name, _)| name.ends_with("accept_dad"));
    netlink.set_link(1, true, None, up("lo"))?;
    for net in &node.loopback {
        let what = format!("node `{name}`: giving `lo` {net}");
        netlink.add_address(1, *net, at_once, what)?;
    }
    let bridge = (node.kind == NodeKind::Bridge).then_some(BRIDGE_INDEX);
    if bridge.is_some() {
        netlink.set_link(BRIDGE_INDEX, true, None, up("br0"))?;
    }
    let mut by_name = HashMap::from([("lo", 1)]);
    for &(number, side) in ends {
        let end = &topology.links[number].ends[side];
        let index = indexes[number][side];
        by_name.insert(end.interface.as_str(), index);
        netlink.set_link(index, true, bridge, up(&end.interface))?;
        for net in &end.addresses {
            let what = format!("node `{name}`: giving `{}` {net}", end.interface);
            netlink.add_address(index, *net, at_once, what)?;
        }
    }
    for route in &node.routes {
        let device = match &route.action {
            RouteAction::Forward { dev: Some(dev), .. } => by_name.get(dev.as_str()).copied(),
            _ => None,
        };
        let what = format!("node `{name}`: adding the route to {}", route.to);
        netlink.add_route(route, device, what)?;
    }
    for rule in &node.rules {
        let what = format!(
            "node `{name}`: adding the rule of priority {}",
            rule.priority
        );
        let family = rule.from.or(rule.to).map(|net| net.addr().is_ipv6());
        for six in [false, true] {
            if family.unwrap_or(six) == six && (!six || ipv6) {
                netlink.add_rule(rule, six, what.clone())?;
            }
        }
    }
    for neighbour in &node.neighbours {
        let what = format!("node `{name}`: adding the neighbour {}", neighbour.address);
        if let Some(index) = by_name.get(neighbour.interface.as_str()) {
            netlink.add_neighbour(neighbour, *index, what)?;
        }
    }
    netlink.flush()?;
    Ok(())
}

/// The Ethernet address of a link's end: the given one, or one that is the same in each run.
pub(crate) fn mac(number: usize, side: usize, link: &Link) -> [u8; 6] {
    link.ends[side].mac.unwrap_or([
        0x02,
        0,
        (number >> 16) as u8,
        (number >> 8) as u8,
        number as u8,
        side as u8 + 1,
    ])
}

fn uses_ipv6(topology: &Topology, node: &Node, ends: &[(usize, usize)]) -> bool {
    let of_links = ends
        .iter()
        .flat_map(|&(number, side)| &topology.links[number].ends[side].addresses);
    node.kind != NodeKind::Bridge
        && (of_links
            .chain(&node.loopback)
            .any(|net| net.addr().is_ipv6())
            || node.routes.iter().any(|route| route.to.addr().is_ipv6()))
}
