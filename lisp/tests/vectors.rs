//! The independent byte vectors: parsed, emitted again, and compared field by field.

use std::collections::BTreeMap;

use lisp::ip::{IpPacket, UdpDatagram};
use lisp::wire::{ControlMessage, DataHeader};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    hex: String,
}

fn vectors() -> BTreeMap<String, Vector> {
    serde_json::from_str(include_str!("vectors/vectors.json")).unwrap()
}

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn every_vector_is_emitted_byte_for_byte() {
    for (id, vector) in vectors() {
        if id.starts_with('T') {
            continue;
        }
        let packet = octets(&vector.hex);
        let ip = IpPacket::parse(&packet).unwrap_or_else(|error| panic!("{id}: {error}"));
        let udp = UdpDatagram::parse(&ip).unwrap_or_else(|error| panic!("{id}: {error}"));
        let payload = if id.starts_with('D') {
            let header = DataHeader::parse(udp.payload).unwrap();
            let mut buffer = [0xaa; 8];
            header.emit(&mut buffer);
            [&buffer, &udp.payload[8..]].concat()
        } else {
            let message =
                ControlMessage::parse(udp.payload).unwrap_or_else(|error| panic!("{id}: {error}"));
            if let ControlMessage::Encapsulated(ecm) = &message {
                let inner = ecm
                    .decode_inner()
                    .unwrap_or_else(|error| panic!("{id}: {error}"));
                let mut again = lisp::wire::Ecm::wrap(
                    inner.source,
                    inner.destination,
                    inner.source_port,
                    inner.destination_port,
                    inner.ttl,
                    &inner.message,
                );
                // The vectors have identification 0x1234 where ours is 0.
                assert_eq!(again.inner.len(), ecm.inner.len());
                again.inner[4..6].copy_from_slice(&ecm.inner[4..6]);
                assert_eq!(again.inner[12..], ecm.inner[12..]);
            }
            message.to_vec()
        };
        assert_eq!(payload, udp.payload, "{id}");
        let udp = UdpDatagram {
            payload: &payload,
            ..udp
        };
        let again = ip
            .header
            .emit(&udp.emit(ip.header.source(), ip.header.destination()));
        assert_eq!(again, packet, "{id}");
    }
}
