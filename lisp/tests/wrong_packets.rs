//! Packets that are wrong on purpose, built through the views: each error names the field, its offset, what was expected
//! and what was found.

mod common;

use common::{octets, vectors};
use lisp::auth::{self, AuthError, AuthKey, MacAlgorithm};
use lisp::dissect::{Start, dissect};
use lisp::packet::{MAX_ECM_DEPTH, reencode};
use lisp::wire::address::MAX_LCAF_DEPTH;
use lisp::wire::{
    ControlMessage, Ecm, LocatorPacket, MapNotifyPacket, MapRegister, MapRegisterPacket, MapReply,
    MapReplyPacket, MapRequest, MapRequestPacket, RecordPacket,
};
use lisp::{Address, DecodeError, EidPrefix, Lcaf};

/// Where the UDP payload starts in the vectors over IPv4.
const PAYLOAD: usize = 28;

fn message_of(id: &str) -> Vec<u8> {
    octets(&vectors()[id].hex)[PAYLOAD..].to_vec()
}

fn place(error: &DecodeError) -> (&'static str, &'static str, usize) {
    (error.message, error.field, error.offset)
}

#[test]
fn an_error_says_all_there_is_to_know() {
    let mut message = message_of("R01");
    let mut record = RecordPacket::new_checked(&mut message[12..]).unwrap();
    record.set_eid_mask_len(33);
    let error = MapReply::parse(&message).unwrap_err();
    assert_eq!(
        error.to_string(),
        "EID record: EID mask-len at offset 17: expected 0 to 32 for AFI 1, found 33"
    );
}

#[test]
fn counts_beyond_the_message_are_found_where_it_ends() {
    let mut message = message_of("R01");
    MapReplyPacket::new_checked(&mut message)
        .unwrap()
        .set_record_count(255);
    let error = MapReply::parse(&message).unwrap_err();
    assert_eq!(place(&error), ("EID record", "fixed part", message.len()));

    let mut message = message_of("R01");
    RecordPacket::new_checked(&mut message[12..])
        .unwrap()
        .set_locator_count(255);
    let error = MapReply::parse(&message).unwrap_err();
    assert_eq!(place(&error), ("locator", "fixed part", message.len()));

    let mut message = message_of("Q01");
    MapRequestPacket::new_checked(&mut message)
        .unwrap()
        .set_irc(31);
    assert!(MapRequest::parse(&message).is_err());
}

#[test]
fn counts_short_of_the_message_leave_octets_over() {
    let mut message = message_of("Q10");
    MapRequestPacket::new_checked(&mut message)
        .unwrap()
        .set_record_count(1);
    let error = MapRequest::parse(&message).unwrap_err();
    assert_eq!(
        place(&error),
        ("Map-Request", "end of message", message.len() - 8)
    );
    assert_eq!(error.found, "8 more octets");
}

#[test]
fn an_unknown_afi_is_named() {
    let mut message = message_of("R01");
    let mut record = RecordPacket::new_checked(&mut message[12..]).unwrap();
    record.set_eid_afi(0x7777);
    let error = MapReply::parse(&message).unwrap_err();
    assert_eq!(place(&error), ("EID record", "EID-Prefix-AFI", 22));
    assert_eq!(error.found, "AFI 30583");

    let mut message = message_of("R01");
    LocatorPacket::new_checked(&mut message[28..])
        .unwrap()
        .set_afi(0x7777);
    let error = MapReply::parse(&message).unwrap_err();
    assert_eq!(place(&error), ("locator", "Loc-AFI", 34));
}

#[test]
fn an_unknown_type_is_named() {
    for kind in [0u8, 7, 9, 15] {
        let error = ControlMessage::parse(&[kind << 4; 40]).unwrap_err();
        assert_eq!(
            (error.field, error.offset, error.found),
            ("type", 0, kind.to_string())
        );
    }
    assert!(ControlMessage::parse(&[]).is_err());
    assert!(MapRequestPacket::new_checked([0x20; 12]).is_err());
    assert!(MapRequestPacket::new_checked([0x10; 11]).is_err());
    assert!(MapNotifyPacket::new_checked([0x50; 16]).is_ok());
}

#[test]
fn authentication_data_longer_than_the_message() {
    let mut message = message_of("G01");
    MapRegisterPacket::new_checked(&mut message)
        .unwrap()
        .set_auth_length(0xffff);
    let error = MapRegister::parse(&message).unwrap_err();
    assert_eq!(place(&error), ("Map-Register", "Authentication Data", 16));
    let key = AuthKey::new(0, MacAlgorithm::HmacSha1_96, b"lisp-conformance-key");
    assert!(matches!(
        auth::verify(&message, &key, &[]),
        Err(AuthError::Truncated(_))
    ));
}

#[test]
fn key_and_algorithm_zero_are_refused() {
    let key = AuthKey::new(0, MacAlgorithm::HmacSha1_96, b"lisp-conformance-key");
    let mut message = message_of("G01");
    MapRegisterPacket::new_checked(&mut message)
        .unwrap()
        .set_algorithm_id(0);
    let form = AuthError::Form {
        algorithm: 0,
        length: 12,
    };
    assert_eq!(auth::verify(&message, &key, &[]), Err(form));
    let mut message = message_of("G01");
    MapRegisterPacket::new_checked(&mut message)
        .unwrap()
        .set_key_id(9);
    let other = AuthError::KeyId {
        expected: 0,
        found: 9,
    };
    assert_eq!(auth::verify(&message, &key, &[]), Err(other));
    assert_eq!(
        auth::verify(&message_of("R01"), &key, &[]),
        Err(AuthError::Kind(2))
    );
}

#[test]
fn announced_ids_have_to_be_there() {
    let mut message = message_of("G01");
    MapRegisterPacket::new_checked(&mut message)
        .unwrap()
        .set_has_ids(true);
    let error = MapRegister::parse(&message).unwrap_err();
    assert_eq!(place(&error), ("Map-Register", "xTR-ID", message.len()));
    let mut message = message_of("R01");
    MapReplyPacket::new_checked(&mut message)
        .unwrap()
        .set_security(true);
    let error = MapReply::parse(&message).unwrap_err();
    assert_eq!(
        place(&error),
        ("Map-Reply", "Authentication Data", message.len())
    );
}

/// Octets after a Map-Notify are its ids only if a bit says so (ambiguities A9).
#[test]
fn ids_behind_a_notify_are_taken_with_a_bit_alone() {
    let mut message = [message_of("N01"), vec![7; 24]].concat();
    assert!(ControlMessage::parse(&message).is_err());
    for bit in [0x8_0000, 0x2_0000] {
        MapNotifyPacket::new_checked(&mut message)
            .unwrap()
            .set_reserved(bit);
        let Ok(ControlMessage::MapNotify(notify)) = ControlMessage::parse(&message) else {
            panic!("the ids are there")
        };
        assert_eq!(notify.xtr_site_id.unwrap().xtr_id, [7; 16]);
        assert_eq!(notify.to_vec(), message);
    }
}

fn nested_lcaf(depth: usize) -> Address {
    (0..depth).fold(Address::from_eid(0, [10, 0, 0, 1].into()), |address, _| {
        Address::Lcaf(Box::new(Lcaf::AfiList {
            addresses: vec![address],
            reserved: [0; 3],
        }))
    })
}

#[test]
fn nesting_is_bounded() {
    let request = |depth| MapRequest {
        itr_rlocs: vec![nested_lcaf(depth)],
        ..MapRequest::default()
    };
    let deep = request(MAX_LCAF_DEPTH);
    assert_eq!(MapRequest::parse(&deep.to_vec()), Ok(deep));
    let error = MapRequest::parse(&request(MAX_LCAF_DEPTH + 1).to_vec()).unwrap_err();
    // Source-EID-AFI, then AFI and header of each LCAF.
    assert_eq!(
        (error.message, error.offset),
        ("LCAF", 14 + 8 * MAX_LCAF_DEPTH)
    );
    // Deeper than a semantic form could be emitted: AFI and header around what is inside.
    let mut lcaf = vec![0, 0];
    for _ in 0..5000 {
        let len = u16::try_from(lcaf.len()).unwrap().to_be_bytes();
        lcaf = [&[0x40, 0x03, 0, 0, 1, 0][..], &len, &lcaf].concat();
    }
    let error = MapRequest::parse(&[&request(0).to_vec()[..14], &lcaf].concat()).unwrap_err();
    assert_eq!(error.offset, 14 + 8 * MAX_LCAF_DEPTH);

    let wrapped = |depth| {
        let inner = ControlMessage::parse(&message_of("Q01")).unwrap();
        let local = [192, 0, 2, 1].into();
        let wrap = |message, _| {
            ControlMessage::Encapsulated(Ecm::wrap(local, local, 4342, 4342, 9, &message))
        };
        let message: ControlMessage = (0..depth).fold(inner, wrap);
        lisp::ip::udp_packet(local, local, 4342, 4342, 9, &message.to_vec())
    };
    let deep = wrapped(MAX_ECM_DEPTH);
    assert_eq!(reencode(&deep), Ok(deep.clone()));
    let error = reencode(&wrapped(MAX_ECM_DEPTH + 1)).unwrap_err();
    assert_eq!(error.message, "Encapsulated Control Message");
    for depth in [MAX_ECM_DEPTH, MAX_ECM_DEPTH + 1, 500] {
        let dissection = dissect(Start::Ip, &wrapped(depth));
        assert_eq!(dissection.errors.is_empty(), depth <= MAX_ECM_DEPTH);
        assert!(!format!("{dissection:?}").is_empty());
    }
}

#[test]
fn lcaf_lengths_have_to_agree() {
    let address = Address::from_eid(7, [10, 0, 0, 1].into());
    let request = MapRequest {
        itr_rlocs: vec![address],
        ..MapRequest::default()
    };
    let octets = request.to_vec();
    // Fixed part, Source-EID-AFI, AFI, LCAF header: its length is the last two octets.
    let length_at = 12 + 2 + 2 + 4;
    assert_eq!(octets[length_at + 1], 10);
    for (length, field) in [(0, "Instance ID"), (9, "address"), (11, "LCAF data")] {
        let mut wrong = octets.clone();
        wrong[length_at + 1] = length;
        let error = MapRequest::parse(&wrong).unwrap_err();
        assert_eq!(error.field, field, "length {length}: {error}");
    }
}

#[test]
fn inner_packets_are_checked() {
    let ecm = Ecm::parse(&message_of("Q02")).unwrap();
    assert!(ecm.decode_inner().is_ok());
    // Inner total length, IPv4 checksum, UDP length, UDP checksum: offsets from the ECM's type octet.
    for (at, message, field, offset) in [
        (3, "IPv4 header", "Total Length", 6),
        (10, "IPv4 header", "Header Checksum", 14),
        (25, "UDP header", "Length", 28),
        (27, "UDP header", "Checksum", 30),
    ] {
        let mut wrong = ecm.clone();
        wrong.inner[at] ^= 0x01;
        let error = wrong.decode_inner().unwrap_err();
        assert_eq!(
            (error.message, error.field),
            (message, field),
            "octet {at}: {error}"
        );
        if at > 10 {
            assert_eq!(error.offset, offset, "{error}");
        }
    }
    let mut zero = ecm.clone();
    zero.inner[26..28].fill(0);
    assert!(zero.decode_inner().unwrap().zero_checksum);
    assert!(Ecm::parse(&[0x80, 0, 0, 0]).is_err());
    assert!(Ecm::parse(&[0x80, 0, 0, 0, 0x50]).is_err());
    let error = Ecm::parse(&[&[0x88, 0, 0, 0][..], &ecm.inner].concat()).unwrap_err();
    assert_eq!(
        place(&error),
        ("Encapsulated Control Message", "Authentication Data", 4)
    );
}

#[test]
fn packets_that_are_no_lisp() {
    let packet = |source_port, destination_port| {
        let local = [192, 0, 2, 1].into();
        lisp::ip::udp_packet(local, local, source_port, destination_port, 64, &[1, 2, 3])
    };
    let error = reencode(&packet(53, 53)).unwrap_err();
    assert_eq!(place(&error), ("UDP header", "Destination Port", 22));
    assert!(error.expected.contains("4341") && error.expected.contains("4342"));
    assert_eq!(
        reencode(&octets(&vectors()["T01"].hex)).unwrap_err().found,
        "protocol 6"
    );
    assert_eq!(reencode(&[0x50; 40]).unwrap_err().field, "Version");
    let mut fragment = octets(&vectors()["Q01"].hex);
    fragment[6] = 0x20;
    assert_eq!(reencode(&fragment).unwrap_err().field, "Header Checksum");
}

#[test]
fn options_and_extension_headers_are_kept() {
    use lisp::ip::{IpHeader, UdpDatagram};
    let payload = message_of("Q01");
    let datagram = UdpDatagram {
        source_port: 50000,
        destination_port: 4342,
        zero_checksum: false,
        payload: &payload,
    };
    let local = [192, 0, 2, 1].into();
    let mut header = IpHeader::new(local, local, 64, 17);
    if let IpHeader::V4(header) = &mut header {
        header.options = vec![0x94, 0x04, 0, 0];
        header.fragment = 0x8000;
        header.traffic_class = 0xb9;
    }
    let packet = header.emit(&datagram.emit(local, local));
    assert_eq!(reencode(&packet), Ok(packet.clone()));
    assert_eq!(packet[0], 0x46);

    let local = [7; 16].into();
    let mut header = IpHeader::new(local, local, 64, 17);
    if let IpHeader::V6(header) = &mut header {
        // Destination options, hop-by-hop options, an atomic fragment.
        header.extensions = [
            [0, 0, 1, 4, 0, 0, 0, 0],
            [44, 0, 1, 4, 0, 0, 0, 0],
            [17, 0, 0, 0, 1, 2, 3, 4],
        ]
        .concat();
        header.next_header = 60;
        header.flow_label = 0xabcde;
        header.traffic_class = 0xb9;
    }
    let packet = header.emit(&datagram.emit(local, local));
    assert_eq!(reencode(&packet), Ok(packet.clone()));
    let mut fragment = packet.clone();
    fragment[40 + 16 + 3] = 1;
    assert_eq!(reencode(&fragment).unwrap_err().field, "fragment");
}

#[test]
fn prefixes_that_are_none() {
    for (text, reason) in [
        ("10.0.0.1/8", "10.0.0.0/8 would be right"),
        ("10.0.0.0", "a slash"),
        ("[7 10.0.0.0/8", "no ]"),
        ("[x]10.0.0.0/8", "not a number"),
        ("[16777216]10.0.0.0/8", "larger than 16777215"),
        ("10.0.0.0/33", "a slash and a length"),
    ] {
        let error = text.parse::<EidPrefix>().unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains(text), "{error}");
    }
}
