//! A lab with a running packet path.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use harness::{Lab, LabOptions, Packet, Topology};
use lisp::EidPrefix;
use socket2::{Domain, Protocol, Socket, Type};
use xtr::dataplane::{DataPlane, DataPlaneConfig};
use xtr::forwarding::{
    Counter, Decision, Destination, EventReceiver, Forwarding, LocalEid, LocatorSet, Policy,
};

/// Long enough for every host; nothing waits for it to pass.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// The lab of `topology.yaml`, and the packet path of its router.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) plane: DataPlane,
    pub(crate) events: EventReceiver,
}

/// An EID-Prefix of the default instance.
pub(crate) fn eids(text: &str) -> EidPrefix {
    EidPrefix::new(0, text.parse().unwrap())
}

/// An address.
pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The lab without a packet path.
pub(crate) fn lab() -> Lab {
    lab_of(include_str!("topology.yaml"))
}

fn lab_of(text: &str) -> Lab {
    let topology = Topology::parse("topology.yaml", text).unwrap();
    Lab::up(
        &topology,
        LabOptions {
            // The programs that tests start, also where the checkout is below /tmp.
            visible: vec![PathBuf::from(env!("CARGO_BIN_EXE_xtr-bench"))],
            ..LabOptions::default()
        },
    )
    .unwrap()
}

/// Starts a packet path in the lab's router.
fn start(lab: &Lab, policy: Policy) -> (DataPlane, EventReceiver) {
    start_with(lab, policy, settings())
}

/// Settings for this lab.
pub(crate) fn settings() -> DataPlaneConfig {
    DataPlaneConfig {
        rlocs: vec![ip("192.0.2.2"), ip("2001:db8::2")],
        source_ports: 16,
        ..DataPlaneConfig::default()
    }
}

fn start_with(lab: &Lab, policy: Policy, config: DataPlaneConfig) -> (DataPlane, EventReceiver) {
    let forwarding = Arc::new(Forwarding::new(policy));
    for local in ["10.1.0.0/24", "fd01::/64"] {
        forwarding.add_local(LocalEid::new(eids(local)));
    }
    lab.run_in("xtr", || DataPlane::start(&config, forwarding))
        .unwrap()
        .unwrap()
}

impl Stage {
    /// Lab and packet path, no mapping yet.
    pub(crate) fn up() -> Self {
        Self::with(Policy::default())
    }

    /// The same under a policy.
    pub(crate) fn with(policy: Policy) -> Self {
        let lab = lab();
        let (plane, events) = start(&lab, policy);
        Self { lab, plane, events }
    }

    /// The same with other settings.
    pub(crate) fn set(config: DataPlaneConfig) -> Self {
        let lab = lab();
        let (plane, events) = start_with(&lab, Policy::default(), config);
        Self { lab, plane, events }
    }

    /// The same where the site's devices finish checksums.
    pub(crate) fn set_with_offloads(config: DataPlaneConfig) -> Self {
        let text = include_str!("topology.yaml");
        let lab = lab_of(&text.replace(
            "  site:\n    ends:",
            "  site:\n    offloads: true\n    ends:",
        ));
        let (plane, events) = start_with(&lab, Policy::default(), config);
        Self { lab, plane, events }
    }

    /// A mapping to one locator.
    pub(crate) fn map(&self, prefix: &str, rloc: &str) {
        let rloc = ip(rloc);
        let source = if rloc.is_ipv6() {
            "2001:db8::2"
        } else {
            "192.0.2.2"
        };
        let set = LocatorSet::new(vec![Destination {
            rloc,
            source: Some(ip(source)),
            priority: 1,
            weight: 100,
            usable: true,
            ordinal: 0,
            state: self.plane.forwarding().rlocs().get(rloc),
        }]);
        self.install(prefix, Decision::Encapsulate(Arc::new(set)));
    }

    /// A map-cache entry.
    pub(crate) fn install(&self, prefix: &str, decision: Decision) {
        self.plane.install(eids(prefix), decision, None).unwrap();
    }

    /// Sends a whole IP packet from a node, past its own stack's ideas.
    pub(crate) fn inject(&self, node: &str, packet: &[u8]) {
        self.inject_all(node, &[packet]);
    }

    /// Sends such packets to one destination, one right after the other.
    pub(crate) fn inject_all(&self, node: &str, packets: &[impl AsRef<[u8]> + Sync]) {
        let to = SocketAddr::new(destination(packets[0].as_ref()), 0);
        self.lab
            .run_in(node, || {
                let raw = Protocol::from(libc::IPPROTO_RAW);
                let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(raw)).unwrap();
                for packet in packets {
                    socket.send_to(packet.as_ref(), &to.into()).unwrap();
                }
            })
            .unwrap();
    }

    /// Sends a LISP data packet from the core to the router.
    pub(crate) fn data(&self, header: [u8; 8], inner: &[u8]) {
        let payload = [&header[..], inner].concat();
        let packet = lisp::ip::udp_packet(
            ip("192.0.2.1"),
            ip("192.0.2.2"),
            40_000,
            lisp::DATA_PORT,
            64,
            &payload,
        );
        self.inject("core", &packet);
    }

    /// How many packets were counted for a reason.
    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.plane.count();
        self.counted_by_daemon(counter)
    }

    /// The same without what the kernel path counted since the last look.
    pub(crate) fn counted_by_daemon(&self, counter: Counter) -> u64 {
        self.plane.forwarding().counters().get(counter)
    }

    /// The next packet on a link, sent by a node, whose octets from the IP header on satisfy `matches`.
    pub(crate) fn seen(
        &self,
        link: &str,
        from: &str,
        what: &str,
        matches: impl Fn(&[u8]) -> bool,
    ) -> Vec<u8> {
        let packet = self
            .lab
            .wait_for(what, SOON, |packet: &Packet| {
                packet.link() == link
                    && packet.from_node() == Some(from)
                    && matches(&packet.data[14..])
            })
            .unwrap();
        packet.data[14..].to_vec()
    }

    /// Every packet so far on a link, sent by a node, from the IP header on.
    pub(crate) fn all(&self, link: &str, from: &str) -> Vec<Vec<u8>> {
        self.lab.catch_up();
        let on_link = |packet: &Packet| packet.link() == link && packet.from_node() == Some(from);
        let packets = self.lab.packets();
        packets
            .iter()
            .filter(|p| on_link(p))
            .map(|p| p.data[14..].to_vec())
            .collect()
    }
}

fn destination(packet: &[u8]) -> IpAddr {
    if packet[0] >> 4 == 4 {
        <[u8; 4]>::try_from(&packet[16..20]).unwrap().into()
    } else {
        <[u8; 16]>::try_from(&packet[24..40]).unwrap().into()
    }
}

/// A UDP packet from the site's host with a recognisable payload.
pub(crate) fn from_host(destination: &str, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let source = if destination.contains(':') {
        "fd01::10"
    } else {
        "10.1.0.10"
    };
    lisp::ip::udp_packet(ip(source), ip(destination), 1111, 2222, ttl, payload)
}

/// Whether octets appear in a packet.
pub(crate) fn holds(packet: &[u8], payload: &[u8]) -> bool {
    packet.windows(payload.len()).any(|w| w == payload)
}
