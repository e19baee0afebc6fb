use std::io::{self, IoSlice, Write};

use super::super::coalesce::Coalescer;
use super::super::inner::{Inner, TCP, UDP};
use super::super::segment::{Plan, complete_checksum, transport_checksum_holds};
use super::super::vnet::{Super, VNET_LEN, VnetHeader};
use super::*;

/// Stands for the TUN device: one element a packet.
#[derive(Default)]
struct Device(Vec<Vec<u8>>);

impl Write for Device {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
        self.write(&bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tcp(v6: bool, sequence: u32, payload: &[u8], push: bool) -> Vec<u8> {
    let builder = if v6 {
        PacketBuilder::ipv6([0xfd; 16], [0xfc; 16], 62)
    } else {
        PacketBuilder::ipv4([10, 1, 0, 2], [10, 2, 0, 2], 62)
    };
    let mut tcp = builder.tcp(80, 40_000, sequence, 1000).ack(77);
    if push {
        tcp = tcp.psh();
    }
    let mut packet = Vec::new();
    tcp.options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])
        .unwrap()
        .write(&mut packet, payload)
        .unwrap();
    packet
}

/// What the kernel would do with what was written: complete, or take apart.
fn delivered(written: &[u8]) -> Vec<Vec<u8>> {
    let mut vnet = [0; VNET_LEN];
    vnet.copy_from_slice(&written[..VNET_LEN]);
    let vnet = VnetHeader::parse(vnet).unwrap();
    let mut packet = written[VNET_LEN..].to_vec();
    let inner = Inner::parse(&packet).unwrap();
    let Some((kind, size)) = vnet.segments else {
        return vec![packet];
    };
    let (start, field) = vnet.checksum.unwrap();
    assert_eq!(start, inner.header_len);
    assert!(complete_checksum(
        &mut packet,
        start,
        field,
        inner.protocol == UDP
    ));
    assert!(transport_checksum_holds(
        &packet,
        inner.v6,
        inner.protocol,
        start
    ));
    let plan = Plan::new(&packet, inner.v6, start, kind, size).unwrap();
    (0..plan.count())
        .map(|n| {
            let mut whole = vec![0; plan.header_len];
            plan.write_header(&packet, n, &mut whole);
            whole.extend_from_slice(&packet[plan.payload(n)]);
            whole
        })
        .collect()
}

fn coalesce(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut device = Device::default();
    let mut coalescer = Coalescer::new(true, true);
    let mut arena = Vec::new();
    let mut ranges = Vec::new();
    for packet in packets {
        ranges.push(arena.len()..arena.len() + packet.len());
        arena.extend_from_slice(packet);
    }
    for range in ranges {
        let inner = Inner::parse(&arena[range.clone()]).unwrap();
        coalescer.add(&arena, range, inner, &mut device).unwrap();
    }
    coalescer.flush(&arena, &mut device).unwrap();
    device.0
}

/// Identification and IPv4 checksum aside, which segmentation numbers anew.
fn comparable(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

fn same_packets(a: &[Vec<u8>], b: &[Vec<u8>]) {
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(b) {
        assert_eq!(comparable(x), comparable(y));
    }
}

#[test]
fn a_tcp_stream_is_joined_and_comes_apart_the_same() {
    for v6 in [false, true] {
        let packets: Vec<_> = (0..5u8)
            .map(|n| {
                tcp(
                    v6,
                    (u32::MAX - 2000).wrapping_add(u32::from(n) * 1000),
                    &[n; 1000],
                    n == 4,
                )
            })
            .collect();
        let written = coalesce(&packets);
        assert_eq!(written.len(), 1, "IPv6: {v6}");
        same_packets(&delivered(&written[0]), &packets);
    }
}

#[test]
fn a_gap_in_the_stream_is_not_papered_over() {
    let packets = vec![
        tcp(false, 0, &[1; 500], false),
        tcp(false, 1000, &[2; 500], false),
    ];
    assert_eq!(coalesce(&packets).len(), 2);
}

#[test]
fn damaged_segments_stay_alone_and_stay_damaged() {
    let mut packets: Vec<_> = (0..3u8)
        .map(|n| tcp(false, u32::from(n) * 500, &[n; 500], false))
        .collect();
    let last = packets[1].len() - 1;
    packets[1][last] ^= 1;
    let written = coalesce(&packets);
    let all: Vec<Vec<u8>> = written.iter().flat_map(|w| delivered(w)).collect();
    same_packets(&all, &packets);
    let holds = |p: &Vec<u8>| transport_checksum_holds(p, false, TCP, 20);
    assert_eq!(
        all.iter().map(holds).collect::<Vec<_>>(),
        [true, false, true]
    );
}

#[test]
fn interleaved_datagram_flows_are_joined_each_for_itself_in_order() {
    let datagram = |flow: u8, n: u8| {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 1, 0, 2], [10, 2, 0, flow], 62)
            .udp(1000, 2000)
            .write(&mut packet, &[n; 64])
            .unwrap();
        packet
    };
    let packets: Vec<_> = (0..8u8)
        .flat_map(|n| [datagram(1, n), datagram(2, n)])
        .collect();
    let written = coalesce(&packets);
    assert!(written.len() < packets.len());
    let all: Vec<Vec<u8>> = written.iter().flat_map(|w| delivered(w)).collect();
    for flow in [1, 2] {
        let of_flow = |p: &&Vec<u8>| p[19] == flow;
        let got: Vec<_> = all.iter().filter(of_flow).cloned().collect();
        let sent: Vec<_> = packets.iter().filter(of_flow).cloned().collect();
        same_packets(&got, &sent);
    }
}

#[test]
fn segments_clear_flags_that_only_the_first_or_last_may_have() {
    let mut packet = tcp(false, 9, &[7; 2500], true);
    packet[33] |= 0x80 | 0x01;
    let plan = Plan::new(&packet, false, 20, Super::Tcp, 1000).unwrap();
    let flags: Vec<u8> = (0..plan.count())
        .map(|n| {
            let mut header = vec![0; plan.header_len];
            plan.write_header(&packet, n, &mut header);
            header[33]
        })
        .collect();
    assert_eq!(flags, [0x90, 0x10, 0x19]);
}
