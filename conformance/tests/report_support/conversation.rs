//! The packets of a first ping between two sites, made with the codec and written as a capture.

use harness::capture::{Direction, Interface, Packet};
use lisp::auth::{AuthKey, MacAlgorithm};
use lisp::ip::{IpHeader, udp_packet};
use lisp::wire::{
    ControlMessage, DataHeader, Ecm, EidQuery, Locator, MapNotify, MapRecord, MapRegister,
    MapReply, MapRequest,
};
use lisp::{Address, CONTROL_PORT, DATA_PORT, EidPrefix};
use std::net::IpAddr;
use std::sync::Arc;

const START_NS: u64 = 1_795_206_065_000_000_000;
const XTR_A: &str = "192.0.2.2";
const XTR_B: &str = "192.0.2.6";
const MSMR: &str = "198.51.100.10";
const HOST_A: &str = "10.1.0.10";
const HOST_B: &str = "10.2.0.10";

fn address(text: &str) -> IpAddr {
    text.parse()
        .expect("the addresses of the sample are well formed")
}

fn prefix(text: &str) -> EidPrefix {
    text.parse()
        .expect("the prefixes of the sample are well formed")
}

/// What is captured, link by link.
#[derive(Default)]
pub(super) struct Conversation {
    interfaces: Vec<Arc<Interface>>,
    packets: Vec<Packet>,
    now_us: u64,
}

impl Conversation {
    /// Two registrations, a first ping that is lost while the mapping is asked for, and a second one that arrives.
    pub(super) fn first_ping() -> Conversation {
        let mut talk = Conversation::default();
        talk.register("xtr-a", XTR_A, "10.1.0.0/24");
        talk.register("xtr-b", XTR_B, "10.2.0.0/24");
        talk.now_us += 1_870_000;
        talk.send(&[("site-a", "host-a", "xtr-a")], 64, |ttl| {
            echo(HOST_A, HOST_B, ttl, 1)
        });
        talk.resolve();
        talk.now_us += 998_000;
        talk.send(&[("site-a", "host-a", "xtr-a")], 64, |ttl| {
            echo(HOST_A, HOST_B, ttl, 2)
        });
        talk.tunnel("a", "b", HOST_A, HOST_B);
        talk.send(&[("site-b", "xtr-b", "host-b")], 63, |ttl| {
            echo(HOST_A, HOST_B, ttl, 2)
        });
        talk
    }

    /// Interfaces and packets as pcapng.
    pub(super) fn pcapng(&self) -> Vec<u8> {
        let mut file = Vec::new();
        harness::pcapng::write(&mut file, &self.interfaces, &self.packets)
            .expect("writing to memory works");
        file
    }

    /// When the host began to ping, on the clock of the capture.
    pub(super) fn ping_ns() -> u64 {
        START_NS + 1_873_500_000
    }

    fn register(&mut self, node: &str, rloc: &str, eid: &str) {
        let key = AuthKey::new(0, MacAlgorithm::HmacSha256_128, b"key");
        let mut record = MapRecord::negative(prefix(eid), 1440, Default::default());
        record.authoritative = true;
        record.locators.push(locator(rloc));
        let records = vec![record];
        let register = MapRegister {
            want_map_notify: true,
            auth: key.blank(),
            records: records.clone(),
            ..Default::default()
        };
        let notify = MapNotify {
            auth: key.blank(),
            records,
            ..Default::default()
        };
        let core = format!("core-{}", &node[4..]);
        let there = [(core.as_str(), node, "core"), ("core-msmr", "core", "msmr")];
        let back = [("core-msmr", "msmr", "core"), (core.as_str(), "core", node)];
        let signed = register.to_signed_vec(&key);
        self.send(&there, 64, |ttl| {
            udp_packet(
                address(rloc),
                address(MSMR),
                CONTROL_PORT,
                CONTROL_PORT,
                ttl,
                &signed,
            )
        });
        let signed = notify.to_signed_vec(&key);
        self.send(&back, 64, |ttl| {
            udp_packet(
                address(MSMR),
                address(rloc),
                CONTROL_PORT,
                CONTROL_PORT,
                ttl,
                &signed,
            )
        });
    }

    fn resolve(&mut self) {
        let nonce = 0x3f2a_77d0_1c55_91c0;
        let request = ControlMessage::MapRequest(MapRequest {
            nonce,
            source_eid: Address::from_eid(0, address(HOST_A)),
            itr_rlocs: vec![Address::from_eid(0, address(XTR_A))],
            records: vec![EidQuery::new(prefix("10.2.0.10/32"))],
            ..Default::default()
        });
        let ecm = ControlMessage::Encapsulated(Ecm::wrap(
            address(HOST_A),
            address(HOST_B),
            51_234,
            CONTROL_PORT,
            64,
            &request,
        ))
        .to_vec();
        let to_server = [("core-a", "xtr-a", "core"), ("core-msmr", "core", "msmr")];
        self.send(&to_server, 64, |ttl| {
            udp_packet(
                address(XTR_A),
                address(MSMR),
                51_234,
                CONTROL_PORT,
                ttl,
                &ecm,
            )
        });
        let to_site = [("core-msmr", "msmr", "core"), ("core-b", "core", "xtr-b")];
        self.send(&to_site, 64, |ttl| {
            udp_packet(
                address(MSMR),
                address(XTR_B),
                CONTROL_PORT,
                CONTROL_PORT,
                ttl,
                &ecm,
            )
        });
        let mut record = MapRecord::negative(prefix("10.2.0.0/24"), 1440, Default::default());
        record.authoritative = true;
        record.locators.push(locator(XTR_B));
        let reply = MapReply {
            nonce,
            records: vec![record],
            ..Default::default()
        }
        .to_vec();
        let back = [("core-b", "xtr-b", "core"), ("core-a", "core", "xtr-a")];
        self.send(&back, 64, |ttl| {
            udp_packet(
                address(XTR_B),
                address(XTR_A),
                CONTROL_PORT,
                51_234,
                ttl,
                &reply,
            )
        });
    }

    fn tunnel(&mut self, from: &str, to: &str, source: &str, destination: &str) {
        let header = DataHeader {
            nonce: Some(0x8f_11aa),
            locator_status: Some(1),
            ..Default::default()
        };
        let mut payload = vec![0; 8];
        header.emit(payload.as_mut_slice().try_into().expect("8 octets"));
        payload.extend(echo(source, destination, 63, 2));
        let (there, here) = (format!("core-{to}"), format!("core-{from}"));
        let (near, far) = (format!("xtr-{from}"), format!("xtr-{to}"));
        let path = [
            (here.as_str(), near.as_str(), "core"),
            (there.as_str(), "core", far.as_str()),
        ];
        self.send(&path, 64, |ttl| {
            udp_packet(
                address(XTR_A),
                address(XTR_B),
                61_440,
                DATA_PORT,
                ttl,
                &payload,
            )
        });
    }

    /// One packet over several links, one TTL less on each.
    fn send(&mut self, path: &[(&str, &str, &str)], ttl: u8, packet: impl Fn(u8) -> Vec<u8>) {
        self.now_us += 700;
        for (hop, (link, from, to)) in path.iter().enumerate() {
            self.now_us += 40;
            let interface = self.interface(link, from, to);
            let direction = if interface.near == *from {
                Direction::Out
            } else {
                Direction::In
            };
            let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
            frame.extend(packet(ttl - hop as u8));
            self.packets.push(Packet {
                number: self.packets.len() as u64 + 1,
                time_ns: START_NS + self.now_us * 1000,
                interface,
                direction,
                original_len: frame.len() as u32,
                data: frame.into(),
                comments: Vec::new(),
            });
        }
    }

    fn interface(&mut self, link: &str, from: &str, to: &str) -> Arc<Interface> {
        if let Some(known) = self
            .interfaces
            .iter()
            .find(|interface| interface.link == link)
        {
            return Arc::clone(known);
        }
        let interface = Arc::new(Interface {
            name: format!("{link}@{from}"),
            link: link.to_owned(),
            near: from.to_owned(),
            far: to.to_owned(),
            link_type: 1,
        });
        self.interfaces.push(Arc::clone(&interface));
        interface
    }
}

fn locator(rloc: &str) -> Locator {
    Locator {
        priority: 1,
        weight: 100,
        mpriority: 255,
        local: true,
        reachable: true,
        rloc: Address::from_eid(0, address(rloc)),
        ..Default::default()
    }
}

fn echo(source: &str, destination: &str, ttl: u8, sequence: u8) -> Vec<u8> {
    let mut icmp = vec![8, 0, 0, 0, 0x12, 0x34, 0, sequence];
    icmp.extend([0x55; 48]);
    let sum = lisp::ip::checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    IpHeader::new(address(source), address(destination), ttl, 1).emit(&icmp)
}
