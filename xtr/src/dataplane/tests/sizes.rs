use super::super::fragment::fragment;
use super::super::icmp::{self, Complaint};
use super::super::inner::{Inner, header_checksum_holds};
use super::*;

fn pieces(packet: &[u8], limit: usize) -> Vec<Vec<u8>> {
    let inner = Inner::parse(packet).unwrap();
    fragment(packet, &inner, limit).unwrap()
}

/// Puts fragments back together the way a host does.
fn reassemble(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (at, bytes) in fragments.iter().enumerate() {
        let inner = Inner::parse(bytes).unwrap();
        assert!(header_checksum_holds(bytes, &inner));
        let word = u16::from_be_bytes([bytes[6], bytes[7]]);
        assert_eq!(usize::from(word & 0x1fff) * 8, payload.len());
        assert_eq!(word & 0x2000 != 0, at + 1 < fragments.len());
        assert_eq!(word & 0x4000, 0);
        payload.extend_from_slice(&bytes[inner.header_len..]);
    }
    payload
}

#[test]
fn a_1500_octet_packet_splits_into_744_and_736() {
    let packet = udp4([10, 1, 0, 2], [10, 2, 0, 2], 1500 - 28, false);
    let fragments = pieces(&packet, 1464);
    let payloads: Vec<usize> = fragments.iter().map(|f| f.len() - 20).collect();
    assert_eq!(payloads, [744, 736]);
    assert_eq!(reassemble(&fragments), packet[20..]);
    assert!(
        fragments.iter().all(|f| f[4..6] == packet[4..6]),
        "same identification"
    );
}

/// RFC 6830 5.4.1: two equal-sized fragments, as far as offsets in units of 8 octets allow.
#[test]
fn halves_are_as_equal_as_they_can_be() {
    for length in 1465..=2 * 1464 - 20 {
        let packet = udp4([10, 1, 0, 2], [10, 2, 0, 2], length - 28, false);
        let fragments = pieces(&packet, 1464);
        let sizes: Vec<usize> = fragments.iter().map(|f| f.len() - 20).collect();
        assert!(
            sizes.len() == 2 || length > 2 * 1440 + 20,
            "{length}: {sizes:?}"
        );
        assert!(
            fragments.iter().all(|f| f.len() <= 1464),
            "{length}: {sizes:?}"
        );
        if sizes.len() == 2 && length <= 2 * 1440 {
            assert!(sizes[0].abs_diff(sizes[1]) <= 8, "{length}: {sizes:?}");
        }
        assert_eq!(reassemble(&fragments), packet[20..]);
    }
}

#[test]
fn a_jumbo_packet_splits_into_as_many_as_are_needed() {
    let packet = udp4([10, 1, 0, 2], [10, 2, 0, 2], 4000 - 28, false);
    let fragments = pieces(&packet, 1464);
    assert_eq!(fragments.len(), 3);
    assert!(fragments.iter().all(|f| f.len() <= 1464));
    assert_eq!(reassemble(&fragments), packet[20..]);
}

#[test]
fn a_fragment_splits_further_and_keeps_its_place() {
    let mut packet = udp4([10, 1, 0, 2], [10, 2, 0, 2], 1500 - 28, false);
    packet[6..8].copy_from_slice(&(0x2000u16 | 185).to_be_bytes());
    let fragments = pieces(&packet, 1464);
    let words: Vec<u16> = fragments
        .iter()
        .map(|f| u16::from_be_bytes([f[6], f[7]]))
        .collect();
    assert_eq!(words, [0x2000 | 185, 0x2000 | (185 + 93)]);
}

#[test]
fn only_copied_options_go_into_later_fragments() {
    let plain = udp4([10, 1, 0, 2], [10, 2, 0, 2], 1500 - 28, false);
    // Record route (not copied, 7 octets), no-operation, loose source route (copied, 7 octets), end.
    let options = [7, 7, 4, 0, 0, 0, 0, 1, 131, 7, 4, 10, 0, 0, 1, 0];
    let mut packet = plain[..20].to_vec();
    packet[0] = 0x49;
    packet.extend_from_slice(&options);
    packet.extend_from_slice(&plain[20..]);
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    let fragments = pieces(&packet, 1464);
    assert_eq!(fragments[0][20..36], options);
    assert_eq!(fragments[1][0], 0x47);
    assert_eq!(fragments[1][20..28], [131, 7, 4, 10, 0, 0, 1, 0]);
}

#[test]
fn too_big_names_the_size_and_quotes_the_packet() {
    let packet = udp4([10, 1, 0, 2], [10, 2, 0, 2], 1500 - 28, true);
    let inner = Inner::parse(&packet).unwrap();
    let message = icmp::message(&packet, &inner, Complaint::TooBig(1464)).unwrap();
    assert_eq!(message[..2], [3, 4]);
    assert_eq!(u16::from_be_bytes([message[6], message[7]]), 1464);
    assert_eq!(message[8..], packet[..message.len() - 8]);
    assert!(message.len() + 20 <= 576);
    assert_eq!(
        etherparse::Icmpv4Slice::from_slice(&message)
            .unwrap()
            .checksum(),
        {
            let sliced = etherparse::Icmpv4Slice::from_slice(&message).unwrap();
            sliced.icmp_type().calc_checksum(sliced.payload())
        }
    );
}

#[test]
fn too_big_of_ipv6_stays_within_1280_octets() {
    let packet = udp6(1500 - 48);
    let inner = Inner::parse(&packet).unwrap();
    let message = icmp::message(&packet, &inner, Complaint::TooBig(1444)).unwrap();
    assert_eq!(message[..2], [2, 0]);
    assert_eq!(message[4..8], 1444u32.to_be_bytes());
    assert_eq!(message.len() + 40, 1280);
}

#[test]
fn errors_and_later_fragments_are_not_answered() {
    let mut error = udp4([10, 1, 0, 2], [10, 2, 0, 2], 64, true);
    error[9] = 1;
    error[20] = 3;
    let inner = Inner::parse(&error).unwrap();
    assert_eq!(icmp::message(&error, &inner, Complaint::TooBig(1464)), None);
    let mut later = udp4([10, 1, 0, 2], [10, 2, 0, 2], 64, true);
    later[7] = 1;
    let inner = Inner::parse(&later).unwrap();
    assert_eq!(icmp::message(&later, &inner, Complaint::Prohibited), None);
}

#[test]
fn a_drop_action_is_told_as_prohibited() {
    let four = udp4([10, 1, 0, 2], [10, 2, 0, 2], 64, true);
    let six = udp6(64);
    for (packet, expected) in [(four, [3, 13]), (six, [1, 1])] {
        let inner = Inner::parse(&packet).unwrap();
        let message = icmp::message(&packet, &inner, Complaint::Prohibited).unwrap();
        assert_eq!(message[..2], expected);
        assert_eq!(message[4..8], [0; 4]);
    }
}
