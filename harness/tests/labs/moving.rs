//! A host that moves from one LAN to another.

use std::time::Duration;

use harness::{Lab, LabOptions, Ping, Topology};

pub(crate) const TESTS: &[crate::Test] = &[
    ("moving::a_host_moves_and_comes_back", || {
        a_host_moves_and_comes_back(false);
    }),
    ("moving::a_host_moves_on_a_relayed_link", || {
        a_host_moves_and_comes_back(true);
    }),
    (
        "moving::what_cannot_be_moved_is_said",
        what_cannot_be_moved_is_said,
    ),
];

/// Two LANs with one gateway address, as sites that a host may move between have; the routers tell by their loopback which
/// of them answered.
fn topology() -> Topology {
    let text = "
format: 1
name: t
nodes:
  h: {kind: host, routes: [{to: default, via: 10.5.0.1}]}
  r1: {kind: router, loopback: [10.1.1.1/32]}
  r2: {kind: router, loopback: [10.2.2.2/32]}
  lan-1: {kind: bridge}
  lan-2: {kind: bridge}
links:
  h: {ends: {lan-1: {}, h: {interface: eth0, addresses: [10.5.0.9/24]}}}
  g1: {ends: {r1: {interface: lan, addresses: [10.5.0.1/24], mac: '02:00:5e:00:00:01'}, lan-1: {}}}
  g2: {space: second, ends: {r2: {interface: lan, addresses: [10.5.0.1/24], mac: '02:00:5e:00:00:01'}, lan-2: {}}}
";
    Topology::parse("t.yaml", text).unwrap_or_else(|error| panic!("{error}"))
}

fn reaches(lab: &Lab, to: &str, sequence: u16) -> bool {
    let ping = Ping {
        sequence,
        timeout: Duration::from_millis(if sequence.is_multiple_of(2) {
            5000
        } else {
            200
        }),
        ..Ping::default()
    };
    lab.ping("h", to.parse().unwrap(), &ping).is_ok()
}

/// Even sequence numbers are expected to be answered.
fn a_host_moves_and_comes_back(all_inline: bool) {
    let options = LabOptions {
        all_inline,
        ..LabOptions::default()
    };
    let lab = Lab::up(&topology(), options).unwrap_or_else(|error| panic!("{error}"));
    assert!(reaches(&lab, "10.1.1.1", 2) && !reaches(&lab, "10.2.2.2", 1));
    lab.move_host("h", "h", "lan-2").unwrap();
    assert!(reaches(&lab, "10.2.2.2", 4) && !reaches(&lab, "10.1.1.1", 3));
    lab.move_host("h", "h", "lan-1").unwrap();
    assert!(reaches(&lab, "10.1.1.1", 6) && !reaches(&lab, "10.2.2.2", 5));
    if all_inline {
        lab.set_link_up("h", false).unwrap();
        lab.set_link_up("h", true).unwrap();
        assert!(reaches(&lab, "10.1.1.1", 8));
    }
    let recording = lab.finish();
    assert_eq!(recording.drops, []);
    let places: Vec<&str> = recording
        .packets
        .iter()
        .filter(|packet| packet.link() == "h" && packet.from_node() == Some("h"))
        .map(|packet| packet.interface.name.as_str())
        .collect();
    let mut order = places.clone();
    order.dedup();
    assert_eq!(order, ["h@h", "h@h:lan-2", "h@h"]);
    let mut file = Vec::new();
    recording.write_pcapng(&mut file).unwrap();
    let read = harness::pcapng::read(&file).unwrap();
    assert_eq!(read.packets.len(), recording.packets.len());
}

fn what_cannot_be_moved_is_said() {
    let lab = Lab::up(&topology(), LabOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    for (host, link, to, said) in [
        ("x", "h", "lan-2", "at no end of link"),
        ("h", "x", "lan-2", "no link `x`"),
        ("h", "g1", "lan-2", "at no end of link"),
        ("h", "h", "r2", "is no bridge"),
        ("h", "h", "lan-1", "already"),
        ("h", "h", "lan-9", "no node `lan-9`"),
    ] {
        let error = lab.move_host(host, link, to).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(said), "{said} in {error}");
    }
}
