//! A second witness: tshark dissects what this codec emits, and has to see what was meant.
//!
//! Without tshark the test says so and passes, unless `LISPLAB_REQUIRE_TSHARK=1` makes that a failure.

mod common;

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;

use common::arbitrary;
use common::fields::fields;
use lisp::ip::IpHeader;
use lisp::packet::{Packet, Payload};
use lisp::wire::{ControlMessage, Ecm, MapNotify, MapNotifyAck, MapRecord};
use lisp::{Address, Lcaf};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Packets of each kind.
const EACH: usize = 40;
/// LINKTYPE_RAW: a packet starts with its IP header.
const LINKTYPE_RAW: u32 = 101;

/// Where tshark says that it could not make sense of something.
const COMPLAINTS: [&str; 4] = [
    "_ws.malformed",
    "lisp.expected_field",
    "lisp.unexpected_field",
    "lisp.invalid_field",
];

const RECORD: [&str; 18] = [
    "lisp.mapping.ttl",
    "lisp.mapping.loccnt",
    "lisp.mapping.eid.masklen",
    "lisp.mapping.act",
    "lisp.mapping.auth",
    "lisp.mapping.ver",
    "lisp.mapping.eid.afi",
    "lisp.mapping.eid.ipv4",
    "lisp.mapping.eid.ipv6",
    "lisp.loc.priority",
    "lisp.loc.weight",
    "lisp.loc.multicast_priority",
    "lisp.loc.multicast_weight",
    "lisp.loc.flags.local",
    "lisp.loc.flags.probe",
    "lisp.loc.flags.reach",
    "lisp.loc.afi",
    "lisp.lcaf.iid",
];
const REQUEST: [&str; 23] = [
    "lisp.nonce",
    "lisp.irc",
    "lisp.mreq.flags.auth",
    "lisp.mreq.flags.mrp",
    "lisp.mreq.flags.probe",
    "lisp.mreq.flags.smr",
    "lisp.mreq.flags.pitr",
    "lisp.mreq.flags.smri",
    "lisp.mreq.srceid.afi",
    "lisp.mreq.srceid.ipv4",
    "lisp.mreq.srceid_ipv6",
    "lisp.mreq.itr_rloc.afi",
    "lisp.mreq.itr_rloc_ipv4",
    "lisp.mreq.itr_rloc_ipv6",
    "lisp.mreq.record.prefix.length",
    "lisp.mreq.record.prefix.afi",
    "lisp.mreq.record.prefix.ipv4",
    "lisp.mreq.record.prefix.ipv6",
    "lisp.lcaf.iid",
    "lisp.lcaf.iid.ipv4",
    "lisp.lcaf.iid.ipv6",
    "lisp.mapping.ttl",
    "lisp.loc.priority",
];
const REPLY: [&str; 4] = [
    "lisp.nonce",
    "lisp.records",
    "lisp.mrep.flags.probe",
    "lisp.mrep.flags.enlr",
];
const AUTHENTICATED: [&str; 7] = [
    "lisp.nonce",
    "lisp.records",
    "lisp.keyid",
    "lisp.authlen",
    "lisp.auth",
    "lisp.xtrid",
    "lisp.siteid",
];
const REGISTER: [&str; 4] = [
    "lisp.mreg.flags.pmr",
    "lisp.mreg.flags.sec",
    "lisp.mreg.flags.xtrid",
    "lisp.mreg.flags.wmn",
];
const NOTIFY: [&str; 1] = ["lisp.mnot.flags.xtrid"];
const REFERRAL: [&str; 4] = [
    "lisp.nonce",
    "lisp.records",
    "lisp.referral.incomplete",
    "lisp.referral.sigcnt",
];
const ECM: [&str; 2] = ["lisp.ecm.flags.sec", "lisp.ecm.flags.ddt"];
const UDP: [&str; 4] = [
    "udp.srcport",
    "udp.dstport",
    "udp.checksum.status",
    "lisp.type",
];
const DATA: [&str; 6] = [
    "lisp-data.flags",
    "lisp-data.flags.nonce",
    "lisp-data.flags.lsb",
    "lisp-data.flags.enr",
    "lisp-data.flags.mv",
    "lisp-data.flags.iid",
];
const DATA_VALUES: [&str; 6] = [
    "lisp-data.nonce",
    "lisp-data.srcmapver",
    "lisp-data.dstmapver",
    "lisp-data.iid",
    "lisp-data.lsb",
    "lisp-data.lsb8",
];

#[test]
fn tshark_sees_what_was_meant() {
    let packets = generated();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&pcap(&packets)).unwrap();
    let mut names: Vec<&str> = COMPLAINTS.to_vec();
    for list in [
        &UDP[..],
        &DATA,
        &DATA_VALUES,
        &REQUEST,
        &REPLY,
        &AUTHENTICATED,
        &REGISTER,
        &NOTIFY,
        &REFERRAL,
        &ECM,
        &RECORD,
    ] {
        names.extend(
            list.iter()
                .filter(|name| !names.contains(name))
                .collect::<Vec<_>>(),
        );
    }
    let output = tshark(file.path(), &names);
    let Some(output) = output else { return };
    let rows: Vec<&str> = output.lines().collect();
    assert_eq!(rows.len(), packets.len());
    let mut compared = 0;
    for (number, (packet, row)) in packets.iter().zip(rows).enumerate() {
        let columns: Vec<&str> = row.split('\t').collect();
        let column = |name: &str| columns[names.iter().position(|known| *known == name).unwrap()];
        let context = || format!("packet {}: {packet:#?}\n{row}", number + 1);
        for complaint in COMPLAINTS {
            assert_eq!(column(complaint), "", "{complaint} in {}", context());
        }
        for name in compared_fields(packet) {
            let meant = fields(packet, name).join(",");
            // tshark's word for a field of no octets.
            let seen = column(name).replace("<MISSING>", "");
            assert_eq!(seen, meant, "{name} of {}", context());
            compared += 1;
        }
    }
    println!("{compared} fields of {} packets compared", packets.len());
    assert!(compared > 20 * EACH);
}

/// The output of tshark with these columns, or nothing where it is not installed.
fn tshark(file: &Path, names: &[&str]) -> Option<String> {
    let mut command = Command::new("tshark");
    command
        .args(["-n", "-r"])
        .arg(file)
        .args(["-T", "fields", "-E", "occurrence=a"]);
    for preference in ["udp.check_checksum:TRUE", "ip.check_checksum:TRUE"] {
        command.args(["-o", preference]);
    }
    command.args(names.iter().flat_map(|name| ["-e", *name]));
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let required =
                std::env::var_os("LISPLAB_REQUIRE_TSHARK").is_some_and(|value| value == "1");
            assert!(
                !required,
                "tshark is not installed and LISPLAB_REQUIRE_TSHARK=1"
            );
            println!("tshark is not installed: nothing was compared");
            return None;
        }
        Err(error) => panic!("tshark does not start: {error}"),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tshark: {errors}");
    Some(String::from_utf8(output.stdout).expect("tshark writes UTF-8"))
}

/// Which fields tshark shows of a packet. It knows nothing of the body of a Map-Notify-Ack.
fn compared_fields(packet: &Packet) -> Vec<&'static str> {
    let mut names = Vec::new();
    let message = match &packet.payload {
        Payload::Data { header, .. } => {
            names.extend(DATA);
            names.extend(["udp.dstport", "udp.checksum"]);
            let known = [
                header.nonce.is_some() && header.map_version.is_none(),
                header.map_version.is_some() && header.nonce.is_none(),
                header.map_version.is_some() && header.nonce.is_none(),
                header.instance_id.is_some(),
                header.locator_status.is_some() && header.instance_id.is_none(),
                header.locator_status.is_some() && header.instance_id.is_some(),
            ];
            names.extend(
                DATA_VALUES
                    .iter()
                    .zip(known)
                    .filter(|(_, known)| *known)
                    .map(|(name, _)| *name),
            );
            return names
                .into_iter()
                .filter(|name| *name != "udp.checksum")
                .collect();
        }
        Payload::Control(message) => message,
        Payload::Encapsulated { packet, .. } => {
            names.extend(ECM);
            match &packet.payload {
                Payload::Control(message) => message,
                _ => panic!("one encapsulation at most is generated"),
            }
        }
    };
    names.extend(UDP);
    match message {
        ControlMessage::MapRequest(_) => names.extend(REQUEST),
        ControlMessage::MapReply(_) => names.extend(REPLY.iter().chain(&RECORD)),
        ControlMessage::MapRegister(_) => {
            names.extend(AUTHENTICATED.iter().chain(&REGISTER).chain(&RECORD));
        }
        ControlMessage::MapNotify(_) => {
            names.extend(AUTHENTICATED.iter().chain(&NOTIFY).chain(&RECORD));
        }
        ControlMessage::MapReferral(_) => names.extend(REFERRAL.iter().chain(&RECORD)),
        ControlMessage::MapNotifyAck(_) => {}
        ControlMessage::Encapsulated(_) => panic!("no ECM stands in a Payload::Control"),
    }
    names
}

/// A classic pcap file.
fn pcap(packets: &[Packet]) -> Vec<u8> {
    let words = |words: &[u32]| {
        words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect::<Vec<_>>()
    };
    // Magic, version 2.4, time zone, accuracy, snap length, link type.
    let mut file = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 0x4_0000, LINKTYPE_RAW]);
    for (number, packet) in (0u32..).zip(packets) {
        let octets = packet.to_vec();
        let len = u32::try_from(octets.len()).expect("a packet is short");
        file.extend(words(&[number, 0, len, len]));
        file.extend(octets);
    }
    file
}

/// Packets of every type, the same in every run.
fn generated() -> Vec<Packet> {
    let mut runner = TestRunner::deterministic();
    let mut packets = Vec::new();
    let mut add = |strategy: BoxedStrategy<Payload>, port| {
        for number in 0..EACH {
            let payload = strategy
                .new_tree(&mut runner)
                .expect("nothing is filtered")
                .current();
            packets.push(packet(payload, port, number % 2 == 0));
        }
    };
    let control =
        |strategy: BoxedStrategy<ControlMessage>| strategy.prop_map(Payload::Control).boxed();
    let requests = || {
        arbitrary::map_request()
            .prop_map(|request| tame(request.into()))
            .boxed()
    };
    add(control(requests()), 4342);
    add(
        control(
            arbitrary::map_reply()
                .prop_map(|reply| tame(reply.into()))
                .boxed(),
        ),
        4342,
    );
    add(
        control(
            arbitrary::map_register()
                .prop_map(|register| tame(register.into()))
                .boxed(),
        ),
        4342,
    );
    add(
        control(
            arbitrary::map_notify()
                .prop_map(|notify| tame(notify.into()))
                .boxed(),
        ),
        4342,
    );
    let acks = arbitrary::map_notify().prop_map(|notify| tame(MapNotifyAck(notify).into()));
    add(control(acks.boxed()), 4342);
    add(
        control(
            arbitrary::map_referral()
                .prop_map(|referral| tame(referral.into()))
                .boxed(),
        ),
        4342,
    );
    let encapsulated = (requests(), any::<bool>(), any::<bool>()).prop_map(|(request, ddt, v4)| {
        Payload::Encapsulated {
            ecm: Ecm {
                ddt,
                ..Ecm::default()
            },
            packet: Box::new(packet(Payload::Control(request), 4342, v4)),
        }
    });
    add(encapsulated.boxed(), 4342);
    let data = (arbitrary::data_header(), any::<bool>()).prop_map(|(header, v4)| Payload::Data {
        header,
        // 253: for experiments (RFC 3692), which no dissector looks into.
        inner: addressed(v4, 253),
        inner_payload: vec![1, 2, 3],
    });
    add(data.boxed(), 4341);
    packets
}

fn addressed(v4: bool, protocol: u8) -> IpHeader {
    let (source, destination) = match v4 {
        true => ([192, 0, 2, 1].into(), [192, 0, 2, 2].into()),
        false => ([0x20; 16].into(), [0x21; 16].into()),
    };
    IpHeader::new(source, destination, 63, protocol)
}

fn packet(payload: Payload, destination_port: u16, v4: bool) -> Packet {
    Packet {
        header: addressed(v4, 17),
        source_port: 50_000,
        destination_port,
        zero_checksum: v4 && destination_port == 4341,
        payload,
    }
}

/// What tshark 4.0 can follow: no bits that it calls reserved, no LISP-SEC data, no address families that it has no field
/// for, an address in every ITR-RLOC.
fn tame(message: ControlMessage) -> ControlMessage {
    use ControlMessage as M;
    match message {
        M::MapRequest(mut request) => {
            request.reserved = 0;
            request.xtr_site_id = None;
            tame_address(&mut request.source_eid);
            for rloc in &mut request.itr_rlocs {
                tame_address(rloc);
                if !matches!(rloc, Address::Ipv4(_) | Address::Ipv6(_)) {
                    *rloc = Address::Ipv4([192, 0, 2, 9].into());
                }
            }
            for query in &mut request.records {
                query.reserved = 0;
                tame_eid(&mut query.eid, &mut query.mask_len);
            }
            request.map_reply.iter_mut().for_each(tame_record);
            M::MapRequest(request)
        }
        M::MapReply(mut reply) => {
            reply.reserved = 0;
            reply.security = false;
            reply.trailer.clear();
            reply.records.iter_mut().for_each(tame_record);
            M::MapReply(reply)
        }
        M::MapRegister(mut register) => {
            register.reserved = 0;
            // With the R bit tshark looks for authentication data of an RTR.
            register.rtr = false;
            register.records.iter_mut().for_each(tame_record);
            M::MapRegister(register)
        }
        M::MapNotify(notify) => M::MapNotify(tame_notify(notify)),
        M::MapNotifyAck(MapNotifyAck(notify)) => M::MapNotifyAck(MapNotifyAck(tame_notify(notify))),
        M::MapReferral(mut referral) => {
            referral.reserved = 0;
            for record in &mut referral.records {
                let incomplete = record.reserved & 0x800;
                // It does not step over signature sections.
                record.signatures.clear();
                record.reserved_version = 0;
                tame_record(record);
                record.reserved = incomplete;
            }
            M::MapReferral(referral)
        }
        M::Encapsulated(ecm) => M::Encapsulated(ecm),
    }
}

fn tame_notify(mut notify: MapNotify) -> MapNotify {
    // The I bit stays where ids follow: emission sets it.
    notify.reserved = 0;
    notify.records.iter_mut().for_each(tame_record);
    notify
}

fn tame_record(record: &mut MapRecord) {
    record.reserved = 0;
    record.reserved_version = 0;
    tame_eid(&mut record.eid, &mut record.eid_mask_len);
    for locator in &mut record.locators {
        locator.reserved = 0;
        tame_address(&mut locator.rloc);
    }
}

fn tame_eid(eid: &mut Address, mask_len: &mut u8) {
    tame_address(eid);
    *mask_len = (*mask_len).min(match eid.eid() {
        Some((_, address)) if address.is_ipv6() => 128,
        Some(_) => 32,
        None => 0,
    });
}

fn tame_address(address: &mut Address) {
    let plain = |address: &Address| match address {
        Address::Ipv4(_) | Address::Ipv6(_) => address.clone(),
        _ => Address::Ipv4([192, 0, 2, 8].into()),
    };
    *address = match &*address {
        Address::None => Address::None,
        Address::Lcaf(lcaf) => match &**lcaf {
            Lcaf::InstanceId { iid, address, .. } => Address::Lcaf(Box::new(Lcaf::InstanceId {
                iid: *iid,
                mask_len: 0,
                address: plain(address),
                reserved: [0; 2],
            })),
            _ => plain(address),
        },
        address => plain(address),
    };
}
