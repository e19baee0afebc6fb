//! Header rules of RFC 6830 5.3 and 5.4 on packets built by `etherparse`, and hostile input.

mod fate;
mod headers;
mod hostile;
mod offload;
mod sizes;
mod traceroute;

use super::*;
use etherparse::PacketBuilder;

/// An IPv4 packet with UDP inside: TTL 63, TOS 0, DF as asked.
fn udp4(source: [u8; 4], destination: [u8; 4], payload: usize, df: bool) -> Vec<u8> {
    let mut packet = Vec::new();
    let mut header =
        etherparse::Ipv4Header::new(0, 63, etherparse::IpNumber::UDP, source, destination)
            .expect("an empty payload fits");
    header.dont_fragment = df;
    header.identification = 0x4711;
    let body: Vec<u8> = (0..payload).map(|n| n as u8).collect();
    PacketBuilder::ip(etherparse::IpHeaders::Ipv4(
        header,
        etherparse::Ipv4Extensions::default(),
    ))
    .udp(1234, 5678)
    .write(&mut packet, &body)
    .unwrap();
    packet
}

/// An IPv6 packet with UDP inside: hop limit 63.
fn udp6(payload: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    let body: Vec<u8> = (0..payload).map(|n| n as u8).collect();
    let (a, b) = (
        std::net::Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 2),
        std::net::Ipv6Addr::new(0xfd02, 0, 0, 0, 0, 0, 0, 2),
    );
    PacketBuilder::ipv6(a.octets(), b.octets(), 63)
        .udp(1234, 5678)
        .write(&mut packet, &body)
        .unwrap();
    packet
}

#[test]
fn settings_out_of_range_say_what_is_expected() {
    let config = DataPlaneConfig {
        queues: 0,
        ..DataPlaneConfig::default()
    };
    let error = config.check().unwrap_err().to_string();
    assert_eq!(error, "queues: expected 1 to 16, found 0");
}
