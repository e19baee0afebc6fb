//! Packets that a scenario sends, built from their description.

use std::net::IpAddr;

use lisp::auth::{AuthKey, MacAlgorithm};
use lisp::wire::{
    ControlMessage, DataHeader, Ecm, EidQuery, Locator, MapRecord, MapRegister, MapReply,
    MapRequest,
};
use lisp::{Address, CONTROL_PORT, EidPrefix};

use crate::drive::{Echo, data_packet};

/// A packet to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ttl: u8,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) content: Content,
    /// It goes in an Encapsulated Control Message.
    pub(super) encapsulated: Option<Inner>,
}

/// The inner header of an Encapsulated Control Message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Inner {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) source_port: u16,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// A whole IP packet.
    Packet(Vec<u8>),
    /// A UDP payload.
    Payload(Vec<u8>),
    /// An echo request.
    Echo {
        identifier: u16,
        sequence: u16,
        payload: usize,
    },
    MapRequest(Request),
    MapReply {
        nonce: u64,
        probe: bool,
        records: Vec<Mapping>,
    },
    MapRegister {
        nonce: u64,
        secret: String,
        key_id: u8,
        algorithm: MacAlgorithm,
        want_map_notify: bool,
        proxy_reply: bool,
        merge: bool,
        use_ttl: bool,
        records: Vec<Mapping>,
    },
    /// A LISP data packet.
    Data {
        nonce: Option<u32>,
        locator_status: Option<u32>,
        instance_id: Option<u32>,
        echo_nonce: bool,
        inner: Box<Message>,
    },
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Request {
    pub(super) nonce: u64,
    pub(super) source_eid: Option<IpAddr>,
    pub(super) itr_rlocs: Vec<IpAddr>,
    pub(super) eids: Vec<EidPrefix>,
    pub(super) authoritative: bool,
    pub(super) probe: bool,
    pub(super) smr: bool,
    pub(super) pitr: bool,
    pub(super) smr_invoked: bool,
}

/// An EID-to-RLOC mapping.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mapping {
    pub(super) eid: EidPrefix,
    pub(super) ttl: u32,
    pub(super) action: u8,
    pub(super) authoritative: bool,
    pub(super) locators: Vec<(IpAddr, u8, u8)>,
}

impl Mapping {
    fn record(&self) -> MapRecord {
        let action = lisp::wire::Action::from_code(self.action);
        let mut record = MapRecord::negative(self.eid, self.ttl, action);
        record.authoritative = self.authoritative;
        record.locators = self
            .locators
            .iter()
            .map(|(address, priority, weight)| Locator {
                priority: *priority,
                weight: *weight,
                mpriority: 255,
                mweight: 0,
                reserved: 0,
                local: true,
                probed: false,
                reachable: true,
                rloc: Address::from_eid(0, *address),
            })
            .collect();
        record
    }
}

fn records(mappings: &[Mapping]) -> Vec<MapRecord> {
    mappings.iter().map(Mapping::record).collect()
}

impl Request {
    fn message(&self) -> ControlMessage {
        ControlMessage::MapRequest(MapRequest {
            authoritative: self.authoritative,
            probe: self.probe,
            smr: self.smr,
            pitr: self.pitr,
            smr_invoked: self.smr_invoked,
            local_xtr: false,
            dont_reply: false,
            reserved: 0,
            nonce: self.nonce,
            source_eid: self
                .source_eid
                .map_or(Address::None, |eid| Address::from_eid(0, eid)),
            itr_rlocs: self
                .itr_rlocs
                .iter()
                .map(|rloc| Address::from_eid(0, *rloc))
                .collect(),
            records: self.eids.iter().map(|eid| EidQuery::new(*eid)).collect(),
            map_reply: None,
            xtr_site_id: None,
        })
    }
}

impl Message {
    /// Where it goes: the destination of its IP header.
    pub fn destination(&self) -> IpAddr {
        match &self.content {
            Content::Packet(octets) => {
                crate::decode::ip(octets).map_or(self.destination, |ip| ip.destination)
            }
            _ => self.destination,
        }
    }

    /// The IP packet.
    pub fn packet(&self) -> Vec<u8> {
        let control = |message: &ControlMessage| {
            let octets = match &self.encapsulated {
                None => message.to_vec(),
                Some(inner) => ControlMessage::Encapsulated(Ecm::wrap(
                    inner.source,
                    inner.destination,
                    inner.source_port,
                    CONTROL_PORT,
                    self.ttl,
                    message,
                ))
                .to_vec(),
            };
            self.udp(&octets)
        };
        match &self.content {
            Content::Packet(octets) => octets.clone(),
            Content::Payload(octets) => self.udp(octets),
            Content::Echo {
                identifier,
                sequence,
                payload,
            } => Echo {
                identifier: *identifier,
                ttl: self.ttl,
                payload: *payload,
                ..Echo::new(self.source, self.destination, *sequence)
            }
            .request(),
            Content::MapRequest(request) => control(&request.message()),
            Content::MapReply {
                nonce,
                probe,
                records,
            } => control(&ControlMessage::MapReply(MapReply {
                probe: *probe,
                echo_nonce: false,
                security: false,
                reserved: 0,
                nonce: *nonce,
                records: self::records(records),
                trailer: Vec::new(),
            })),
            Content::MapRegister {
                nonce,
                secret,
                key_id,
                algorithm,
                want_map_notify,
                proxy_reply,
                merge,
                use_ttl,
                records,
            } => {
                let key = AuthKey::new(*key_id, *algorithm, secret.as_bytes());
                let register = MapRegister {
                    proxy_reply: *proxy_reply,
                    security: false,
                    eid_notify: false,
                    use_ttl: *use_ttl,
                    merge: *merge,
                    rtr: false,
                    want_map_notify: *want_map_notify,
                    reserved: 0,
                    nonce: *nonce,
                    auth: key.blank(),
                    records: self::records(records),
                    xtr_site_id: None,
                };
                self.udp(&register.to_signed_vec(&key))
            }
            Content::Data {
                nonce,
                locator_status,
                instance_id,
                echo_nonce,
                inner,
            } => {
                let header = DataHeader {
                    nonce: *nonce,
                    locator_status: *locator_status,
                    instance_id: *instance_id,
                    echo_request: *echo_nonce,
                    ..DataHeader::default()
                };
                let from = (self.source, self.source_port);
                data_packet(from, self.destination, &header, &inner.packet(), self.ttl)
            }
        }
    }

    fn udp(&self, payload: &[u8]) -> Vec<u8> {
        lisp::ip::udp_packet(
            self.source,
            self.destination,
            self.source_port,
            self.destination_port,
            self.ttl,
            payload,
        )
    }
}
