use proptest::prelude::*;

use super::super::decap::open;
use super::super::fragment::fragment;
use super::super::icmp::{self, Complaint};
use super::super::inner::{Inner, rewrite};
use super::super::route;
use super::super::segment::{Plan, complete_checksum};
use super::super::vnet::{Super, VNET_LEN, VnetHeader};
use super::*;
use crate::forwarding::{Counter, Edition};

fn data(inner: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; 8];
    datagram.extend_from_slice(inner);
    datagram
}

fn refused(datagram: &[u8]) -> Option<Counter> {
    open(datagram, 64, 0, Edition::Rfc6830).err()
}

#[test]
fn each_kind_of_bad_packet_has_its_counter() {
    let good = udp4([10, 1, 0, 2], [10, 2, 0, 2], 32, true);
    assert_eq!(refused(&data(&good)), None);
    assert_eq!(refused(&[0; 7]), Some(Counter::Truncated));
    assert_eq!(refused(&[0; 8]), Some(Counter::Truncated));
    assert_eq!(refused(&data(&good[..19])), Some(Counter::Truncated));
    assert_eq!(refused(&data(&good[..40])), Some(Counter::InnerLength));
    let with = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        refused(&data(&packet))
    };
    assert_eq!(with(0, 0x55), Some(Counter::InnerVersion));
    assert_eq!(with(0, 0x44), Some(Counter::InnerLength));
    assert_eq!(with(2, 0xff), Some(Counter::InnerLength));
    assert_eq!(with(11, good[11] ^ 1), Some(Counter::InnerChecksum));
    let looped = udp4([127, 0, 0, 1], [10, 2, 0, 2], 32, true);
    assert_eq!(refused(&data(&looped)), Some(Counter::InnerAddress));
}

#[test]
fn low_flag_bits_are_ignored_by_the_old_edition_and_mean_encryption_in_the_new() {
    let mut datagram = data(&udp4([10, 1, 0, 2], [10, 2, 0, 2], 32, true));
    datagram[0] = 0x07;
    assert!(open(&datagram, 64, 0, Edition::Rfc6830).is_ok());
    assert_eq!(
        open(&datagram, 64, 0, Edition::Rfc9300).err(),
        Some(Counter::Encrypted)
    );
}

#[test]
fn octets_behind_the_inner_packet_are_not_part_of_it() {
    let good = udp4([10, 1, 0, 2], [10, 2, 0, 2], 32, true);
    let mut padded = data(&good);
    padded.extend_from_slice(&[0xee; 9]);
    let opened = open(&padded, 64, 0, Edition::Rfc6830).unwrap();
    assert_eq!(opened.inner.len, good.len());
}

/// Octets that are often almost a packet.
fn almost_packet() -> impl Strategy<Value = Vec<u8>> {
    let damage = proptest::collection::vec((0usize..80, any::<u8>()), 0..6);
    (any::<bool>(), 0usize..1600, damage, 0usize..1700).prop_map(|(v6, payload, damage, keep)| {
        let mut packet = if v6 {
            udp6(payload)
        } else {
            udp4([10, 1, 0, 2], [10, 2, 0, 2], payload, false)
        };
        for (at, value) in damage {
            if let Some(octet) = packet.get_mut(at) {
                *octet = value;
            }
        }
        packet.truncate(keep);
        packet
    })
}

proptest! {
    #[test]
    fn nothing_that_arrives_can_panic_or_grow(bytes in almost_packet(), ttl: u8, tos: u8, newer: bool) {
        let edition = if newer { Edition::Rfc9300 } else { Edition::Rfc6830 };
        if let Ok(opened) = open(&data(&bytes), ttl, tos, edition) {
            prop_assert!(opened.inner.len <= bytes.len());
            prop_assert!(opened.ttl <= ttl && opened.ttl <= opened.inner.ttl);
            let mut packet = bytes.clone();
            rewrite(&mut packet, opened.inner.v6, opened.tos, opened.ttl);
            let _ = opened.inner.flow_hash(&packet[..opened.inner.len]);
        }
    }

    #[test]
    fn random_octets_are_no_packets(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = open(&bytes, 64, 0, Edition::Rfc9300);
    }

    #[test]
    fn nothing_from_the_site_can_panic(
        bytes in almost_packet(),
        vnet in any::<[u8; VNET_LEN]>(),
        limit in 0usize..2000,
    ) {
        if let (Ok(inner), Some(vnet)) = (Inner::parse(&bytes), VnetHeader::parse(vnet)) {
            let packet = &bytes[..inner.len];
            let _ = route::fate(&Forwarding::default().snapshot(), &inner, None, inner.flow_hash(packet));
            let _ = icmp::message(packet, &inner, Complaint::TooBig(1464));
            if let Some((start, field)) = vnet.checksum {
                let _ = complete_checksum(&mut packet.to_vec(), start, field, true);
            }
            if let Some((kind, size)) = vnet.segments
                && let Some(plan) = Plan::new(packet, inner.v6, inner.header_len, kind, size)
            {
                let total: usize = (0..plan.count()).map(|n| plan.payload(n).len()).sum();
                prop_assert_eq!(total + plan.header_len, packet.len());
                let mut header = vec![0; plan.header_len];
                plan.write_header(packet, plan.count() - 1, &mut header);
            }
            if !inner.v6 && let Some(pieces) = fragment(packet, &inner, limit) {
                prop_assert!(pieces.iter().all(|p| p.len() <= limit));
                let total: usize = pieces.iter().map(|p| p.len() - usize::from(p[0] & 15) * 4).sum();
                prop_assert_eq!(total, packet.len() - inner.header_len);
            }
        }
    }

    #[test]
    fn a_plan_of_wrong_headers_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120), l4 in 0usize..130, size in 0usize..70_000, v6: bool, tcp: bool) {
        let kind = if tcp { Super::Tcp } else { Super::Udp };
        if let Some(plan) = Plan::new(&bytes, v6, l4, kind, size) {
            prop_assert!(plan.header_len <= bytes.len());
        }
    }
}
