use super::super::inner::{
    Inner, decapsulated_tos, decapsulated_ttl, header_checksum_holds, lisp_headers, rewrite,
};
use super::*;
use crate::forwarding::Edition;

/// RFC 6040 4.2 figure 4: rows are the inner ECN field, columns the outer one (00, 01, 10, 11); None: drop.
const RFC_6040: [[Option<u8>; 4]; 4] = [
    [Some(0), Some(0), Some(0), None],
    [Some(1), Some(1), Some(1), Some(3)],
    [Some(2), Some(1), Some(2), Some(3)],
    [Some(3), Some(3), Some(3), Some(3)],
];

#[test]
fn ecn_follows_rfc_6040_in_the_newer_edition() {
    for inner in 0..4u8 {
        for outer in 0..4u8 {
            let expected = RFC_6040[usize::from(inner)][usize::from(outer)];
            let found = decapsulated_tos(Edition::Rfc9300, outer, inner);
            assert_eq!(found, expected, "inner {inner:02b} outer {outer:02b}");
        }
    }
}

#[test]
fn only_the_congestion_mark_passes_inward_in_rfc_6830() {
    for inner in 0..4u8 {
        for outer in 0..4u8 {
            let expected = if outer == 3 { 3 } else { inner };
            let found = decapsulated_tos(Edition::Rfc6830, outer, inner);
            assert_eq!(found, Some(expected), "inner {inner:02b} outer {outer:02b}");
        }
    }
}

#[test]
fn dscp_comes_from_outside() {
    for edition in [Edition::Rfc6830, Edition::Rfc9300] {
        assert_eq!(
            decapsulated_tos(edition, 10 << 2, 46 << 2 | 2),
            Some(10 << 2 | 2)
        );
    }
}

#[test]
fn ttl_never_rises() {
    assert_eq!(decapsulated_ttl(60, 63), 60);
    assert_eq!(decapsulated_ttl(255, 10), 10);
}

#[test]
fn rewritten_packets_keep_a_valid_checksum() {
    for tos in [0, 3, 0xb8, 0xff] {
        for ttl in [1, 62, 255] {
            let mut packet = udp4([10, 1, 0, 2], [10, 2, 0, 2], 32, true);
            rewrite(&mut packet, false, tos, ttl);
            let inner = Inner::parse(&packet).unwrap();
            assert_eq!((inner.tos, inner.ttl), (tos, ttl));
            assert!(
                header_checksum_holds(&packet, &inner),
                "tos {tos} ttl {ttl}"
            );
        }
    }
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    let mut packet = udp4([10, 1, 0, 2], [10, 2, 0, 2], 32, true);
    packet[10] ^= 0x40;
    rewrite(&mut packet, false, 0xb8, 9);
    let inner = Inner::parse(&packet).unwrap();
    assert!(!header_checksum_holds(&packet, &inner));
}

#[test]
fn traffic_class_of_ipv6_is_read_and_written_across_its_octets() {
    let mut packet = udp6(8);
    let label = [packet[1] & 0x0f, packet[2], packet[3]];
    rewrite(&mut packet, true, 0xb9, 7);
    let inner = Inner::parse(&packet).unwrap();
    assert_eq!((inner.tos, inner.ttl), (0xb9, 7));
    assert_eq!([packet[1] & 0x0f, packet[2], packet[3]], label);
}

#[test]
fn flows_hash_by_ports_and_fragments_by_addresses() {
    let packet = udp4([10, 1, 0, 2], [10, 2, 0, 2], 64, false);
    let hash = |p: &[u8]| Inner::parse(p).unwrap().flow_hash(p);
    let mut other_port = packet.clone();
    other_port[20] ^= 1;
    assert_ne!(hash(&packet), hash(&other_port));
    let mut longer = udp4([10, 1, 0, 2], [10, 2, 0, 2], 65, false);
    assert_eq!(hash(&packet), hash(&longer));
    // First and later fragment: their octets behind the header differ in meaning.
    let mut fragment = packet.clone();
    fragment[6] = 0x20;
    longer[6] = 0x00;
    longer[7] = 0x08;
    longer[20] ^= 0xff;
    assert_eq!(hash(&fragment), hash(&longer));
}

/// RFC 6830 6.5: "the source and destination addresses only".
#[test]
fn without_ports_the_addresses_are_the_flow() {
    let udp = udp4([10, 1, 0, 2], [10, 2, 0, 2], 64, false);
    let hash = |p: &[u8]| Inner::parse(p).unwrap().flow_hash(p);
    let mut echo = udp.clone();
    echo[9] = 1;
    let mut esp = udp.clone();
    esp[9] = 50;
    esp[20] ^= 0xff;
    assert_eq!(hash(&echo), hash(&esp));
    let mut elsewhere = esp.clone();
    elsewhere[19] ^= 1;
    assert_ne!(hash(&esp), hash(&elsewhere));
    let mut tcp = udp.clone();
    tcp[9] = 6;
    assert_ne!(hash(&udp), hash(&tcp));
}

#[test]
fn an_ipv6_flow_label_names_the_flow() {
    let mut one = udp6(64);
    let hash = |p: &[u8]| Inner::parse(p).unwrap().flow_hash(p);
    one[3] = 7;
    let mut same_label = one.clone();
    same_label[40] ^= 1;
    let mut other_label = one.clone();
    other_label[3] = 8;
    assert_eq!(hash(&one), hash(&same_label));
    assert_ne!(hash(&one), hash(&other_label));
}

/// A LISP data packet in an IPv4 packet to port 4341.
fn wrapped(packet: &[u8]) -> Vec<u8> {
    let mut wrapped = Vec::new();
    let body = [&[0; 8][..], packet].concat();
    PacketBuilder::ipv4([10, 1, 0, 9], [10, 2, 0, 9], 63)
        .udp(61_000, lisp::DATA_PORT)
        .write(&mut wrapped, &body)
        .unwrap();
    wrapped
}

#[test]
fn lisp_headers_are_counted_up_to_two() {
    let mut packet = udp4([172, 16, 0, 1], [172, 16, 1, 1], 32, true);
    for count in [0, 1, 2, 2] {
        let inner = Inner::parse(&packet).unwrap();
        assert_eq!(lisp_headers(&packet, &inner), count);
        packet = wrapped(&packet);
    }
    let over_v6 = wrapped(&udp6(8));
    assert_eq!(lisp_headers(&over_v6, &Inner::parse(&over_v6).unwrap()), 1);
    let nothing_inside = wrapped(&[]);
    assert_eq!(
        lisp_headers(&nothing_inside, &Inner::parse(&nothing_inside).unwrap()),
        1
    );
}
