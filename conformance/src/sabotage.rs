//! Tampering with what a box sends or gets, so that a case can be shown to turn red.
//!
//! Outgoing packets are broken; incoming bad packets are repaired on the way in, which looks from outside exactly like an
//! implementation that accepts bad input. Lengths, checksums and, with a key, authentication are made right again, so
//! that only what was meant is wrong.

use harness::inline::{PacketFate, Way};
use lisp::auth::AuthKey;
use lisp::ip::{IpHeader, IpPacket, PROTOCOL_UDP, UDP_HEADER_LEN, UdpDatagram, udp_checksum};
use lisp::wire::data::DATA_HEADER_LEN;
use lisp::wire::{ControlMessage, DataHeader, Ecm, EcmInner};
use lisp::{CONTROL_PORT, DATA_PORT};

use crate::catalogue::Req;

/// One way to tamper.
#[derive(Debug, Clone, Copy)]
pub struct Sabotage {
    /// What is done, in a few words: `clears the A bit`. Unique in its case.
    pub name: &'static str,
    /// The victim.
    pub node: &'static str,
    /// Its links that are tampered with; all if empty.
    pub links: &'static [&'static str],
    /// The requirements that it must make fail.
    pub kills: &'static [Req],
    /// Makes the function that every packet of the links passes.
    pub tamper: fn() -> Tamper,
}

/// A function that every packet passes; it may keep state.
pub type Tamper = Box<dyn FnMut(Way, &mut Frame<'_>) -> PacketFate + Send>;

/// A packet that is being tampered with, from the Ethernet header on.
#[derive(Debug)]
pub struct Frame<'a> {
    octets: &'a mut Vec<u8>,
    /// When it passes, in ns on the clock of the lab.
    pub time_ns: u64,
}

const ETHERNET: usize = 14;

impl<'a> Frame<'a> {
    /// Wraps a frame.
    pub fn new(octets: &'a mut Vec<u8>, time_ns: u64) -> Frame<'a> {
        Frame { octets, time_ns }
    }

    /// What it says.
    pub fn ip(&self) -> Option<crate::decode::Ip> {
        crate::decode::ethernet(self.octets)
    }

    /// The control message, not looking into an Encapsulated Control Message.
    pub fn control(&self) -> Option<ControlMessage> {
        match crate::decode::lisp(&self.ip()?) {
            crate::decode::Lisp::Control { message, .. } => Some(*message),
            _ => None,
        }
    }

    /// Changes the control message, inside an Encapsulated Control Message where there is one. `change` says whether it
    /// changed anything. Returns whether anything was changed.
    pub fn edit_control(&mut self, change: impl FnOnce(&mut ControlMessage) -> bool) -> bool {
        self.edit_udp(|ports, payload| {
            if ports.0 != CONTROL_PORT && ports.1 != CONTROL_PORT {
                return false;
            }
            let Ok(mut message) = ControlMessage::parse(payload) else {
                return false;
            };
            let changed = match &mut message {
                ControlMessage::Encapsulated(ecm) => {
                    rewrap(ecm, |inner| change(&mut inner.message))
                }
                plain => change(plain),
            };
            if changed {
                *payload = message.to_vec();
            }
            changed
        })
    }

    /// Changes what an Encapsulated Control Message holds: inner addresses, ports, TTL and message. `change` says whether
    /// it changed anything. Returns whether anything was changed.
    pub fn edit_ecm(&mut self, change: impl FnOnce(&mut EcmInner) -> bool) -> bool {
        self.edit_udp(|_, payload| {
            let Ok(ControlMessage::Encapsulated(mut ecm)) = ControlMessage::parse(payload) else {
                return false;
            };
            let changed = rewrap(&mut ecm, change);
            if changed {
                *payload = ControlMessage::Encapsulated(ecm).to_vec();
            }
            changed
        })
    }

    /// As [`edit_control`](Self::edit_control), and signs the Map-Register or Map-Notify again.
    pub fn edit_signed(
        &mut self,
        key: &AuthKey,
        change: impl FnOnce(&mut ControlMessage) -> bool,
    ) -> bool {
        self.edit_control(change)
            && self.edit_udp(|_, payload| lisp::auth::sign(payload, key).is_ok())
    }

    /// Changes the LISP header and the inner packet of a data packet.
    pub fn edit_data(
        &mut self,
        change: impl FnOnce(&mut DataHeader, &mut Vec<u8>) -> bool,
    ) -> bool {
        self.edit_udp(|ports, payload| {
            if ports.1 != DATA_PORT || payload.len() < DATA_HEADER_LEN {
                return false;
            }
            let Ok(mut header) = DataHeader::parse(payload) else {
                return false;
            };
            let mut inner = payload[DATA_HEADER_LEN..].to_vec();
            if !change(&mut header, &mut inner) {
                return false;
            }
            let mut octets = [0; DATA_HEADER_LEN];
            header.emit(&mut octets);
            *payload = [&octets[..], &inner].concat();
            true
        })
    }

    /// Changes a UDP payload, given with its source and destination port; lengths and checksums follow. A checksum that was
    /// zero stays zero, and one that was wrong stays wrong: only what is meant changes.
    pub fn edit_udp(&mut self, change: impl FnOnce((u16, u16), &mut Vec<u8>) -> bool) -> bool {
        self.edit_udp_ports(|ports, payload| change(*ports, payload))
    }

    /// Changes ports and payload of a UDP datagram, as [`edit_udp`](Self::edit_udp) does.
    pub fn edit_udp_ports(
        &mut self,
        change: impl FnOnce(&mut (u16, u16), &mut Vec<u8>) -> bool,
    ) -> bool {
        self.edit_ip(|header, payload| {
            let Some(mut udp) = Datagram::of(header, payload) else {
                return false;
            };
            let changed = change(&mut udp.ports, &mut udp.content);
            if changed {
                *payload = udp.emit(header);
            }
            changed
        })
    }

    /// Changes the IP header and what follows it; length and header checksum follow, a UDP checksum does not.
    pub fn edit_ip(&mut self, change: impl FnOnce(&mut IpHeader, &mut Vec<u8>) -> bool) -> bool {
        let Some(ip) = self.ip() else { return false };
        let Ok(packet) = IpPacket::parse(&ip.bytes) else {
            return false;
        };
        let (mut header, mut payload) = (packet.header, packet.payload.to_vec());
        if !change(&mut header, &mut payload) {
            return false;
        }
        self.octets.truncate(ETHERNET);
        self.octets.extend(header.emit(&payload));
        true
    }

    /// Changes an IP header whose addresses are part of a UDP checksum: it follows, as in [`edit_udp`](Self::edit_udp).
    pub fn edit_addresses(&mut self, change: impl FnOnce(&mut IpHeader) -> bool) -> bool {
        self.edit_ip(|header, payload| {
            let udp = Datagram::of(header, payload);
            let changed = change(header);
            if let (true, Some(udp)) = (changed, udp) {
                *payload = udp.emit(header);
            }
            changed
        })
    }

    /// The octets, to change them without any repair.
    pub fn octets(&mut self) -> &mut Vec<u8> {
        self.octets
    }
}

fn rewrap(ecm: &mut Ecm, change: impl FnOnce(&mut EcmInner) -> bool) -> bool {
    let Ok(mut inner) = ecm.decode_inner() else {
        return false;
    };
    if !change(&mut inner) {
        return false;
    }
    let wrapped = Ecm::wrap(
        inner.source,
        inner.destination,
        inner.source_port,
        inner.destination_port,
        inner.ttl,
        &inner.message,
    );
    ecm.inner = wrapped.inner;
    true
}

/// A UDP datagram that is being changed. It is read leniently: a case may have sent it wrong on purpose.
struct Datagram {
    ports: (u16, u16),
    content: Vec<u8>,
    checksum: Checksum,
}

/// What a checksum was before a change, and is after it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Checksum {
    Zero,
    Right,
    Wrong,
}

impl Datagram {
    /// Reads the payload of an IP packet; `None` for a fragment and for what is not UDP.
    fn of(header: &IpHeader, payload: &[u8]) -> Option<Datagram> {
        let packet = IpPacket {
            header: header.clone(),
            payload,
        };
        if header.protocol() != PROTOCOL_UDP || packet.is_fragment() {
            return None;
        }
        let (fixed, content) = payload.split_at_checked(UDP_HEADER_LEN)?;
        let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let checksum = match word(6) {
            0 => Checksum::Zero,
            _ if udp_checksum(header.source(), header.destination(), payload) == 0 => {
                Checksum::Right
            }
            _ => Checksum::Wrong,
        };
        Some(Datagram {
            ports: (word(0), word(2)),
            content: content.to_vec(),
            checksum,
        })
    }

    fn emit(&self, header: &IpHeader) -> Vec<u8> {
        let datagram = UdpDatagram {
            source_port: self.ports.0,
            destination_port: self.ports.1,
            zero_checksum: self.checksum == Checksum::Zero,
            payload: &self.content,
        };
        let mut octets = datagram.emit(header.source(), header.destination());
        if self.checksum == Checksum::Wrong {
            // Neither right nor the zero that says "not computed".
            octets[7] ^= if octets[6..8] == [0, 1] { 2 } else { 1 };
        }
        octets
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use lisp::auth::MacAlgorithm;
    use lisp::wire::{Action, MapRecord, MapRegister};

    use super::*;

    fn frame(packet: &[u8]) -> Vec<u8> {
        let mut octets = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        octets.extend(packet);
        octets
    }

    fn register(key: &AuthKey) -> Vec<u8> {
        let register = MapRegister {
            proxy_reply: false,
            security: false,
            eid_notify: false,
            use_ttl: false,
            merge: false,
            rtr: false,
            want_map_notify: true,
            reserved: 0,
            nonce: 7,
            auth: key.blank(),
            records: vec![MapRecord::negative(
                "10.1.0.0/24".parse().unwrap(),
                1440,
                Action::NoAction,
            )],
            xtr_site_id: None,
        };
        register.to_signed_vec(key)
    }

    #[test]
    fn what_is_edited_stays_a_sound_packet_with_the_right_mac() {
        let key = AuthKey::new(0, MacAlgorithm::HmacSha256_128, b"k");
        let (from, to) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let packet = lisp::ip::udp_packet(from, to, 50_000, 4342, 64, &register(&key));
        let mut octets = frame(&packet);
        let mut frame = Frame::new(&mut octets, 0);
        let changed = frame.edit_signed(&key, |message| match message {
            ControlMessage::MapRegister(register) => {
                register.records.push(register.records[0].clone());
                register.nonce = 8;
                true
            }
            _ => false,
        });
        assert!(changed);
        let ip = frame.ip().unwrap();
        let udp = ip.udp().unwrap();
        assert!(ip.header_checksum_ok && udp.checksum_ok && udp.checksum != 0);
        assert_eq!(usize::from(udp.length), 8 + udp.payload.len());
        lisp::auth::verify(&udp.payload, &key, &[MacAlgorithm::HmacSha256_128]).unwrap();
        assert!(
            matches!(frame.control(), Some(ControlMessage::MapRegister(r)) if r.nonce == 8 && r.records.len() == 2)
        );
    }

    #[test]
    fn what_is_not_of_the_kind_is_left_alone() {
        let packet = lisp::ip::udp_packet(
            "192.0.2.1".parse().unwrap(),
            "192.0.2.2".parse().unwrap(),
            1,
            2,
            64,
            &[0; 20],
        );
        let before = frame(&packet);
        let mut octets = before.clone();
        let mut frame = Frame::new(&mut octets, 0);
        assert!(!frame.edit_control(|_| true) && !frame.edit_data(|_, _| true));
        assert_eq!(octets, before);
        let mut rubbish = vec![0xff; 9];
        let mut frame = Frame::new(&mut rubbish, 0);
        assert!(!frame.edit_ip(|_, _| true) && frame.ip().is_none());
    }

    /// All families; a checksum that is right, zero or wrong on purpose.
    #[test]
    fn checksums_follow_addresses_and_payload_and_stay_what_they_were() {
        for (from, to, other) in [
            ("192.0.2.1", "192.0.2.2", "198.51.100.9"),
            ("2001:db8::1", "2001:db8::2", "2001:db8:9::9"),
        ] {
            let [from, to, other] = [from, to, other].map(|text| text.parse().unwrap());
            for checksum in [Checksum::Right, Checksum::Zero, Checksum::Wrong] {
                let packet = lisp::ip::udp_packet(from, to, 50_000, 4342, 64, b"a payload");
                let mut octets = frame(&packet);
                if from.is_ipv6() {
                    octets[12..14].copy_from_slice(&[0x86, 0xdd]);
                }
                let at = octets.len() - b"a payload".len() - 2;
                match checksum {
                    Checksum::Right => {}
                    Checksum::Zero => octets[at..at + 2].fill(0),
                    Checksum::Wrong => octets[at] ^= 0x5a,
                }
                let mut frame = Frame::new(&mut octets, 0);
                assert!(frame.edit_addresses(|header| {
                    match (header, other) {
                        (IpHeader::V4(header), IpAddr::V4(other)) => header.destination = other,
                        (IpHeader::V6(header), IpAddr::V6(other)) => header.destination = other,
                        _ => unreachable!("the family stays"),
                    }
                    true
                }));
                assert!(frame.edit_udp(|ports, payload| {
                    payload.push(b'!');
                    ports == (50_000, 4342)
                }));
                let ip = frame.ip().unwrap();
                let udp = ip.udp().unwrap();
                assert_eq!(
                    (ip.destination, udp.payload.as_slice()),
                    (other, &b"a payload!"[..])
                );
                assert_eq!(usize::from(udp.length), 8 + udp.payload.len());
                let found = match (udp.checksum, udp.checksum_ok) {
                    (0, _) => Checksum::Zero,
                    (_, true) => Checksum::Right,
                    (_, false) => Checksum::Wrong,
                };
                assert!(ip.header_checksum_ok && found == checksum);
            }
        }
    }
}
