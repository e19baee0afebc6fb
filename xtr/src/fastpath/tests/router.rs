//! A router for the programs, and packets for it.

use super::*;

/// One router: site 10.1.0.0/24 and fd01::/64 in instance 0, 10.7.0.0/24 in instance 7; the default route leads to the
/// locators.
pub(super) struct Router {
    pub(super) forwarding: Arc<Forwarding>,
    pub(super) state: State,
    devices: [Tun; 2],
    _routing: PolicyRouting,
}

impl Router {
    pub(super) fn new(policy: Policy) -> Self {
        Self::with(policy, 0, maps::processors())
    }

    /// With a daemon that joins flows of so many packets in quick succession, on a machine with so many processors.
    pub(super) fn with(policy: Policy, joined: u32, processors: u32) -> Self {
        let node = std::path::Path::new("/dev/net/tun");
        let tunnel = Tun::create("lisp0", node, 1).unwrap();
        let core = Tun::create("core0", node, 1).unwrap();
        write_sysctl("net/ipv4/ip_forward", "1").unwrap();
        write_sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
        let mut netlink = Netlink::open().unwrap();
        up(&mut netlink, 1);
        for route in [
            "0.0.0.0/0",
            "::/0",
            "10.1.0.0/24",
            "fd01::/64",
            "10.7.0.0/24",
            "10.66.0.0/24",
            "fd66::/64",
        ] {
            netlink
                .request(
                    RouteNetlinkMessage::NewRoute(route_to(route, core.index)),
                    NLM_F_CREATE,
                )
                .unwrap();
        }
        let forwarding = Arc::new(Forwarding::new(policy));
        let mut routing = PolicyRouting::new(tunnel.index, 4341, 4341).unwrap();
        let locals = [
            eids(0, "10.1.0.0/24"),
            eids(0, "fd01::/64"),
            eids(7, "10.7.0.0/24"),
        ];
        for local in locals {
            forwarding.add_local(LocalEid::new(local));
            routing.add_local(local, false).unwrap();
        }
        let (maps, program) = load(processors).unwrap();
        let site = SiteMonitor::new(tunnel.index).unwrap();
        let mut publisher = Publisher::new(
            maps,
            Arc::clone(&forwarding),
            1500,
            Constants {
                tunnel: tunnel.index,
                ports: [PORTS.to_vec(), PORTS.to_vec()],
                joined,
            },
        );
        publisher
            .rlocs(&[ip("192.0.2.2"), ip("2001:db8::2")])
            .unwrap();
        publisher.policy().unwrap();
        let routes = site.view().current();
        publisher.routes(&routes).unwrap();
        for local in locals {
            let table = routing.table_of(local.iid);
            publisher.local(&local, table, &routes).unwrap();
        }
        Self {
            forwarding,
            state: State {
                publisher,
                program,
                links: Links::new().unwrap(),
                yields: None,
                broken: false,
            },
            devices: [tunnel, core],
            _routing: routing,
        }
    }

    pub(super) fn map(&mut self, iid: u32, prefix: &str, rlocs: &[(&str, u8)]) {
        let destinations = rlocs
            .iter()
            .map(|(rloc, weight)| Destination {
                rloc: ip(rloc),
                source: Some(ip(if rloc.contains(':') {
                    "2001:db8::2"
                } else {
                    "192.0.2.2"
                })),
                priority: 1,
                weight: *weight,
                usable: true,
                ordinal: 0,
                state: self.forwarding.rlocs().get(ip(rloc)),
            })
            .collect();
        let set = Arc::new(LocatorSet::new(destinations));
        self.install(iid, prefix, Decision::Encapsulate(set), None);
    }

    pub(super) fn install(
        &mut self,
        iid: u32,
        prefix: &str,
        decision: Decision,
        version: Option<u16>,
    ) {
        let prefix = eids(iid, prefix);
        self.forwarding.insert(prefix, decision, version);
        self.state.publisher.entry(&prefix).unwrap();
    }

    /// A route toward the core.
    pub(super) fn add_route(&self, prefix: &str) {
        let route = route_to(prefix, self.devices[1].index);
        let request = RouteNetlinkMessage::NewRoute(route);
        Netlink::open()
            .unwrap()
            .request(request, NLM_F_CREATE)
            .unwrap();
    }

    /// Takes such a route away.
    pub(super) fn remove_route(&self, prefix: &str) {
        let route = route_to(prefix, self.devices[1].index);
        let request = RouteNetlinkMessage::DelRoute(route);
        Netlink::open().unwrap().request(request, 0).unwrap();
    }

    pub(super) fn encap(&self, packet: &[u8]) -> (i32, Vec<u8>) {
        run(&self.state.program, packet)
    }

    pub(super) fn decap(&self, packet: &[u8]) -> (i32, Vec<u8>) {
        run(&self.state.program, packet)
    }

    /// What the TUN path would send for a packet that the site sends with this TTL.
    pub(super) fn expected(&self, packet: &[u8]) -> Vec<u8> {
        let mut packet = packet.to_vec();
        let inner = Inner::parse(&packet).unwrap();
        rewrite(&mut packet, inner.v6, inner.tos, inner.ttl - 1);
        let inner = Inner::parse(&packet).unwrap();
        let hash = inner.flow_hash(&packet);
        let tables = self.forwarding.snapshot();
        let Fate::Encapsulate {
            iid,
            local,
            entry,
            destination,
        } = fate(&tables, &inner, None, hash)
        else {
            panic!("the TUN path does not encapsulate this")
        };
        let mut lisp = [0; 8];
        header(
            &tables,
            iid,
            local.map(AsRef::as_ref),
            entry.map(AsRef::as_ref),
            destination,
        )
        .emit(&mut lisp);
        let outer = Outer {
            source: destination.source.unwrap(),
            rloc: destination.rloc,
            tos: inner.tos,
            ttl: inner.ttl,
            port_index: 0,
            port: PORTS[(hash & 0x00ff_ffff) as usize % PORTS.len()],
        };
        whole_packet(&outer, &[&lisp, &packet[..]].concat())
    }
}

fn up(netlink: &mut Netlink, index: u32) {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    netlink
        .request(RouteNetlinkMessage::SetLink(message), 0)
        .unwrap();
}

fn route_to(prefix: &str, interface: u32) -> RouteMessage {
    let prefix: ipnet::IpNet = prefix.parse().unwrap();
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: if prefix.addr().is_ipv6() {
            AddressFamily::Inet6
        } else {
            AddressFamily::Inet
        },
        destination_prefix_length: prefix.prefix_len(),
        table: RouteHeader::RT_TABLE_MAIN,
        scope: RouteScope::Link,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![
        RouteAttribute::Destination(match prefix.addr() {
            IpAddr::V4(a) => RouteAddress::Inet(a),
            IpAddr::V6(a) => RouteAddress::Inet6(a),
        }),
        RouteAttribute::Oif(interface),
    ];
    message
}

/// Runs a program on an IP packet; what comes out, from the IP header on.
pub(super) fn run(program: &Program, packet: &[u8]) -> (i32, Vec<u8>) {
    let mut frame = vec![0; 12];
    frame.extend(if packet[0] >> 4 == 6 {
        [0x86, 0xdd]
    } else {
        [0x08, 0x00]
    });
    frame.extend_from_slice(packet);
    let (verdict, frame) = program.run(&frame).unwrap();
    (verdict, frame[14..].to_vec())
}

/// A packet of the site.
pub(super) fn packet(
    from: &str,
    to: &str,
    protocol: u8,
    ports: (u16, u16),
    (tos, ttl): (u8, u8),
    label: u32,
    payload: usize,
) -> Vec<u8> {
    let mut packet = lisp::ip::udp_packet(
        ip(from),
        ip(to),
        ports.0,
        ports.1,
        ttl,
        &vec![0x5a; payload],
    );
    if packet[0] >> 4 == 6 {
        packet[6] = match protocol {
            1 => 58,
            other => other,
        };
        packet[1] = (label >> 16) as u8 & 0x0f;
        packet[2..4].copy_from_slice(&(label as u16).to_be_bytes());
    } else {
        packet[9] = protocol;
        packet[10..12].fill(0);
        let sum = lisp::ip::checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let inner = Inner::parse(&packet).unwrap();
    rewrite(&mut packet, inner.v6, tos, ttl);
    packet
}
