//! A test of something that is not LISP: two routers with static routes between two hosts.
//!
//! Run it with `cargo run -p harness --example two_static_routers`, as root or as an ordinary user. It checks that a ping
//! crosses the middle link with its TTL lowered once, that the way back is the same, and that pulling the cable of the
//! middle link cuts the hosts off. It leaves `two-static-routers.pcapng` in the temporary directory.

use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

use harness::{Lab, LabOptions, Packet, Ping, Topology};

const TOPOLOGY: &str = "
format: 1
name: two-static-routers
nodes:
  left:   {kind: host, routes: [{to: default, via: 10.1.0.1}]}
  west:   {kind: router, routes: [{to: 10.2.0.0/24, via: 192.0.2.2}]}
  east:   {kind: router, routes: [{to: 10.1.0.0/24, via: 192.0.2.1}]}
  right:  {kind: host, routes: [{to: default, via: 10.2.0.1}]}
links:
  left-lan:  {ends: {left: {addresses: [10.1.0.10/24]}, west: {addresses: [10.1.0.1/24]}}}
  right-lan: {ends: {right: {addresses: [10.2.0.10/24]}, east: {addresses: [10.2.0.1/24]}}}
  # `impair: {}` does no damage, but lets the cable be pulled while the lab runs.
  middle:    {impair: {}, ends: {west: {addresses: [192.0.2.1/30]}, east: {addresses: [192.0.2.2/30]}}}
";

fn main() -> Result<(), Box<dyn Error>> {
    // First of all, before any thread exists.
    harness::host::enter()?;
    let topology = Topology::parse("two-static-routers", TOPOLOGY)?;
    let lab = Lab::up(&topology, LabOptions::default())?;
    let right: IpAddr = "10.2.0.10".parse()?;

    let time = lab.ping("left", right, &Ping::default())?;
    println!("left reaches right in {time:?}");

    // What was sent can be asked for at once; waiting is only for what is still to come.
    let middle = |kind: u8| move |p: &Packet| p.link() == "middle" && icmp(p) == Some(kind);
    let request = lab.wait_for(
        "an echo request on the middle link",
        Duration::from_secs(1),
        middle(8),
    )?;
    let reply = lab.wait_for(
        "an echo reply on the middle link",
        Duration::from_secs(1),
        middle(0),
    )?;
    assert_eq!(
        (request.from_node(), request.to_node()),
        (Some("west"), Some("east"))
    );
    assert_eq!(
        (reply.from_node(), reply.to_node()),
        (Some("east"), Some("west"))
    );
    assert_eq!(
        (request.data[22], reply.data[22]),
        (63, 63),
        "one router lowers the TTL once"
    );

    lab.mark("the cable of the middle link is pulled");
    lab.set_link_up("middle", false)?;
    let hurried = Ping {
        timeout: Duration::from_millis(300),
        ..Ping::default()
    };
    match lab.ping("left", right, &hurried) {
        Ok(_) => return Err("a ping crossed a cable that was pulled".into()),
        Err(error) => println!("as it should be: {error}"),
    }
    lab.set_link_up("middle", true)?;
    lab.ping("left", right, &Ping::default())?;
    println!("and again after it was plugged in");

    let recording = lab.finish();
    assert!(recording.drops.is_empty(), "the capture is complete");
    let file = std::env::temp_dir().join("two-static-routers.pcapng");
    recording.write_pcapng(std::fs::File::create(&file)?)?;
    println!(
        "{} packets are in {}",
        recording.packets.len(),
        file.display()
    );
    Ok(())
}

/// The ICMP type of an IPv4 packet, if it is one.
fn icmp(packet: &Packet) -> Option<u8> {
    let is_icmp = packet.data.get(12..14)? == [8, 0] && *packet.data.get(23)? == 1;
    is_icmp.then(|| packet.data.get(34).copied()).flatten()
}
