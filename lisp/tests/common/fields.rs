//! tshark's field names and notation, mapped to what this codec decoded.

use std::net::IpAddr;

use lisp::ip::IpHeader;
use lisp::packet::{Packet, Payload};
use lisp::wire::{ControlMessage, DataHeader, EidQuery, Locator, MapRecord, XtrSiteId};
use lisp::{Address, Lcaf};

use super::hex;

/// The values of a tshark field in tshark's notation, outermost first.
pub(crate) fn fields(packet: &Packet, name: &str) -> Vec<String> {
    let layer = name.split_once('.').map_or(name, |(layer, _)| layer);
    match layer {
        "ip" | "ipv6" => layers(packet)
            .iter()
            .filter_map(|header| ip_field(header, name))
            .collect(),
        "udp" => datagrams(packet)
            .into_iter()
            .map(|packet| udp_field(packet, name))
            .collect(),
        "lisp-data" => match &packet.payload {
            Payload::Data { header, .. } => vec![data_field(header, name)],
            _ => panic!("{name} in a control message"),
        },
        "lisp" => control_fields(packet, name),
        _ => panic!("no mapping for the field {name}"),
    }
}

/// The IP headers of a packet, outermost first.
fn layers(packet: &Packet) -> Vec<&IpHeader> {
    let mut headers = vec![&packet.header];
    match &packet.payload {
        Payload::Data { inner, .. } => headers.push(inner),
        Payload::Encapsulated { packet, .. } => headers.extend(layers(packet)),
        Payload::Control(_) => {}
    }
    headers
}

/// The packets with a UDP header of ours, outermost first.
fn datagrams(packet: &Packet) -> Vec<&Packet> {
    let mut packets = vec![packet];
    if let Payload::Encapsulated { packet, .. } = &packet.payload {
        packets.extend(datagrams(packet));
    }
    packets
}

fn ip_field(header: &IpHeader, name: &str) -> Option<String> {
    let (layer, field) = name.split_once('.')?;
    if (layer == "ip") != matches!(header, IpHeader::V4(_)) {
        return None;
    }
    Some(match field {
        "dst" => header.destination().to_string(),
        "ttl" | "hlim" => header.ttl().to_string(),
        "dsfield.dscp" => (header.traffic_class() >> 2).to_string(),
        "dsfield.ecn" => (header.traffic_class() & 3).to_string(),
        _ => panic!("no mapping for the field {name}"),
    })
}

fn udp_field(packet: &Packet, name: &str) -> String {
    match name {
        "udp.srcport" => packet.source_port.to_string(),
        "udp.dstport" => packet.destination_port.to_string(),
        "udp.checksum" if packet.zero_checksum => "0x0000".into(),
        // 1 is tshark's "good": the codec verifies every checksum that is not zero.
        "udp.checksum.status" if !packet.zero_checksum => "1".into(),
        _ => panic!("no mapping for the field {name}"),
    }
}

fn flag(set: bool) -> String {
    u8::from(set).to_string()
}

fn data_field(header: &DataHeader, name: &str) -> String {
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    match name {
        "lisp-data.flags" => {
            let flags = bit(header.nonce.is_some(), 0x80)
                | bit(header.locator_status.is_some(), 0x40)
                | bit(header.echo_request, 0x20)
                | bit(header.map_version.is_some(), 0x10)
                | bit(header.instance_id.is_some(), 0x08);
            format!("{:#04x}", flags | header.flags)
        }
        "lisp-data.flags.nonce" => flag(header.nonce.is_some()),
        "lisp-data.flags.lsb" => flag(header.locator_status.is_some()),
        "lisp-data.flags.enr" => flag(header.echo_request),
        "lisp-data.flags.mv" => flag(header.map_version.is_some()),
        "lisp-data.flags.iid" => flag(header.instance_id.is_some()),
        "lisp-data.flags.res" => format!("{:#04x}", header.flags),
        "lisp-data.nonce" => header.nonce.expect("N").to_string(),
        "lisp-data.lsb" => format!("{:#010x}", header.locator_status.expect("L")),
        "lisp-data.lsb8" => format!("{:#04x}", header.locator_status.expect("L")),
        "lisp-data.iid" => header.instance_id.expect("I").to_string(),
        "lisp-data.srcmapver" => header.map_version.expect("V").0.to_string(),
        "lisp-data.dstmapver" => header.map_version.expect("V").1.to_string(),
        _ => panic!("no mapping for the field {name}"),
    }
}

/// The control message itself, inside the encapsulation if there is one.
fn innermost(packet: &Packet) -> &ControlMessage {
    match &packet.payload {
        Payload::Control(message) => message,
        Payload::Encapsulated { packet, .. } => innermost(packet),
        Payload::Data { .. } => panic!("a data packet"),
    }
}

fn control_fields(packet: &Packet, name: &str) -> Vec<String> {
    let field = name.strip_prefix("lisp.").expect("the layer is lisp");
    if let Some(flags) = field.strip_prefix("ecm.flags.") {
        let Payload::Encapsulated { ecm, .. } = &packet.payload else {
            panic!("no ECM")
        };
        return vec![flag(match flags {
            "ddt" => ecm.ddt,
            "sec" => ecm.security,
            _ => panic!("no mapping for the field {name}"),
        })];
    }
    let message = innermost(packet);
    if field == "type" {
        let outer = matches!(packet.payload, Payload::Encapsulated { .. }).then(|| "8".to_owned());
        return outer
            .into_iter()
            .chain([message.kind().to_string()])
            .collect();
    }
    if let Some(field) = field.strip_prefix("mapping.") {
        return records(message)
            .iter()
            .filter_map(|record| record_field(record, field))
            .collect();
    }
    if let Some(field) = field.strip_prefix("loc.") {
        let locators = records(message).iter().flat_map(|record| &record.locators);
        return locators
            .map(|locator| locator_field(locator, field))
            .collect();
    }
    let ids = xtr_site_id(message);
    match field {
        "xtrid" => return ids.iter().map(|ids| hex(&ids.xtr_id)).collect(),
        "siteid" => {
            return ids
                .iter()
                .map(|ids| format!("{:016x}", ids.site_id))
                .collect();
        }
        _ => {}
    }
    if let Some(field) = field.strip_prefix("mreq.") {
        return request_fields(message, field);
    }
    if let Some(field) = field.strip_prefix("referral.") {
        return records(message)
            .iter()
            .map(|record| referral_field(record, field))
            .collect();
    }
    if let Some(field) = field.strip_prefix("lcaf.") {
        return lcaf_fields(message, field);
    }
    vec![message_field(message, field)]
}

fn records(message: &ControlMessage) -> &[MapRecord] {
    match message {
        ControlMessage::MapRequest(message) => message.map_reply.as_slice(),
        ControlMessage::MapReply(message) => &message.records,
        ControlMessage::MapRegister(message) => &message.records,
        ControlMessage::MapNotify(message) => &message.records,
        ControlMessage::MapNotifyAck(message) => &message.0.records,
        ControlMessage::MapReferral(message) => &message.records,
        ControlMessage::Encapsulated(_) => &[],
    }
}

/// Every address of a message in the order of the wire.
fn addresses(message: &ControlMessage) -> Vec<&Address> {
    let mut addresses = Vec::new();
    if let ControlMessage::MapRequest(request) = message {
        addresses.push(&request.source_eid);
        addresses.extend(&request.itr_rlocs);
        addresses.extend(request.records.iter().map(|query| &query.eid));
    }
    for record in records(message) {
        addresses.push(&record.eid);
        addresses.extend(record.locators.iter().map(|locator| &locator.rloc));
    }
    addresses
}

fn lcaf_fields(message: &ControlMessage, field: &str) -> Vec<String> {
    let instances = addresses(message)
        .into_iter()
        .filter_map(|address| match address {
            Address::Lcaf(lcaf) => match &**lcaf {
                Lcaf::InstanceId { iid, address, .. } => Some((iid, address)),
                _ => None,
            },
            _ => None,
        });
    match field {
        "iid" => instances.map(|(iid, _)| iid.to_string()).collect(),
        "iid.ipv4" => instances.filter_map(|(_, address)| ipv4(address)).collect(),
        "iid.ipv6" => instances.filter_map(|(_, address)| ipv6(address)).collect(),
        _ => panic!("no mapping for the field lisp.lcaf.{field}"),
    }
}

fn ipv4(address: &Address) -> Option<String> {
    matches!(address, Address::Ipv4(_)).then(|| address.to_string())
}

fn ipv6(address: &Address) -> Option<String> {
    matches!(address, Address::Ipv6(_)).then(|| address.to_string())
}

fn record_field(record: &MapRecord, field: &str) -> Option<String> {
    Some(match field {
        "ttl" => record.ttl.to_string(),
        "loccnt" => record.locators.len().to_string(),
        "act" => record.action.code().to_string(),
        "auth" => flag(record.authoritative),
        "ver" => record.map_version.to_string(),
        "eid.masklen" => record.eid_mask_len.to_string(),
        "eid.afi" => record.eid.afi().to_string(),
        "eid.ipv4" => return ipv4(&record.eid),
        "eid.ipv6" => return ipv6(&record.eid),
        _ => panic!("no mapping for the field lisp.mapping.{field}"),
    })
}

fn referral_field(record: &MapRecord, field: &str) -> String {
    match field {
        // The first of the bits that RFC 6830 leaves reserved.
        "incomplete" => flag(record.reserved & 0x800 != 0),
        "sigcnt" => record.reserved_version.to_string(),
        _ => panic!("no mapping for the field lisp.referral.{field}"),
    }
}

fn locator_field(locator: &Locator, field: &str) -> String {
    match field {
        "priority" => locator.priority.to_string(),
        "weight" => locator.weight.to_string(),
        "multicast_priority" => locator.mpriority.to_string(),
        "multicast_weight" => locator.mweight.to_string(),
        "afi" => locator.rloc.afi().to_string(),
        "flags.local" => flag(locator.local),
        "flags.probe" => flag(locator.probed),
        "flags.reach" => flag(locator.reachable),
        "locator" => locator.rloc.to_string(),
        _ => panic!("no mapping for the field lisp.loc.{field}"),
    }
}

fn request_fields(message: &ControlMessage, field: &str) -> Vec<String> {
    let ControlMessage::MapRequest(request) = message else {
        panic!("no Map-Request")
    };
    let rlocs = |wanted: fn(&IpAddr) -> bool| {
        let addresses = request.itr_rlocs.iter().filter_map(Address::ip);
        addresses
            .filter(wanted)
            .map(|address| address.to_string())
            .collect()
    };
    let queries =
        |show: fn(&EidQuery) -> Option<String>| request.records.iter().filter_map(show).collect();
    match field {
        "flags.auth" => vec![flag(request.authoritative)],
        "flags.probe" => vec![flag(request.probe)],
        "flags.smr" => vec![flag(request.smr)],
        "flags.pitr" => vec![flag(request.pitr)],
        "flags.smri" => vec![flag(request.smr_invoked)],
        "srceid.afi" => vec![request.source_eid.afi().to_string()],
        "srceid.ipv4" => ipv4(&request.source_eid).into_iter().collect(),
        "srceid_ipv6" => ipv6(&request.source_eid).into_iter().collect(),
        "flags.mrp" => vec![flag(request.map_reply.is_some())],
        "itr_rloc.afi" => request
            .itr_rlocs
            .iter()
            .map(|rloc| rloc.afi().to_string())
            .collect(),
        "itr_rloc_ipv4" => rlocs(IpAddr::is_ipv4),
        "itr_rloc_ipv6" => rlocs(IpAddr::is_ipv6),
        "record.prefix.length" => queries(|query| Some(query.mask_len.to_string())),
        "record.prefix.afi" => queries(|query| Some(query.eid.afi().to_string())),
        "record.prefix.ipv4" => queries(|query| ipv4(&query.eid)),
        "record.prefix.ipv6" => queries(|query| ipv6(&query.eid)),
        _ => panic!("no mapping for the field lisp.mreq.{field}"),
    }
}

fn xtr_site_id(message: &ControlMessage) -> Option<XtrSiteId> {
    match message {
        ControlMessage::MapRequest(message) => message.xtr_site_id,
        ControlMessage::MapRegister(message) => message.xtr_site_id,
        ControlMessage::MapNotify(message) => message.xtr_site_id,
        ControlMessage::MapNotifyAck(message) => message.0.xtr_site_id,
        _ => None,
    }
}

fn message_field(message: &ControlMessage, field: &str) -> String {
    use ControlMessage as M;
    let (auth, nonce) = match message {
        M::MapRequest(message) => (None, message.nonce),
        M::MapReply(message) => (None, message.nonce),
        M::MapRegister(message) => (Some(&message.auth), message.nonce),
        M::MapNotify(message) => (Some(&message.auth), message.nonce),
        M::MapNotifyAck(message) => (Some(&message.0.auth), message.0.nonce),
        M::MapReferral(message) => (None, message.nonce),
        M::Encapsulated(_) => panic!("an ECM has no field {field}"),
    };
    match (field, message) {
        ("nonce", _) => format!("{nonce:#018x}"),
        ("records", M::MapRequest(message)) => message.records.len().to_string(),
        ("records", _) => records(message).len().to_string(),
        ("irc", M::MapRequest(message)) => (message.itr_rlocs.len() - 1).to_string(),
        // tshark reads Key ID and Algorithm ID as one.
        ("keyid", _) => {
            let auth = auth.expect("an authentication field");
            format!("0x{:02x}{:02x}", auth.key_id, auth.algorithm)
        }
        ("authlen", _) => auth
            .expect("an authentication field")
            .data
            .len()
            .to_string(),
        ("auth", _) => hex(&auth.expect("an authentication field").data),
        ("mreg.flags.pmr", M::MapRegister(message)) => flag(message.proxy_reply),
        ("mreg.flags.sec", M::MapRegister(message)) => flag(message.security),
        ("mreg.flags.xtrid", M::MapRegister(message)) => flag(message.xtr_site_id.is_some()),
        ("mreg.flags.wmn", M::MapRegister(message)) => flag(message.want_map_notify),
        ("mrep.flags.probe", M::MapReply(message)) => flag(message.probe),
        ("mrep.flags.sec", M::MapReply(message)) => flag(message.security),
        ("mnot.flags.xtrid", M::MapNotify(message)) => flag(message.xtr_site_id.is_some()),
        ("mrep.flags.enlr", M::MapReply(message)) => flag(message.echo_nonce),
        _ => panic!("no mapping for the field lisp.{field}"),
    }
}
