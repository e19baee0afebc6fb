//! Semantic form to octets and back, for arbitrary valid messages, and arbitrary octets into every decoder.

mod common;

use common::arbitrary as any_lisp;
use lisp::auth::{self, AuthError, AuthKey, HkdfReading, MacAlgorithm};
use lisp::dissect::{Start, dissect};
use lisp::packet::{Packet, reencode};
use lisp::wire::{
    ControlMessage, DataHeader, DataPacket, Ecm, EcmPacket, LocatorPacket, MapNotify, MapNotifyAck,
    MapNotifyPacket, MapReferral, MapReferralPacket, MapRegister, MapRegisterPacket, MapReply,
    MapReplyPacket, MapRequest, MapRequestPacket, RecordPacket,
};
use lisp::{DecodeError, EidPrefix};
use proptest::collection::vec;
use proptest::prelude::*;

/// Emits into a buffer full of garbage, decodes, and compares.
macro_rules! round_trip {
    ($($name:ident: $message:ident from $strategy:ident;)*) => {
        proptest! {$(
            #[test]
            fn $name(message in any_lisp::$strategy(), garbage: u8) {
                let mut buffer = vec![garbage; message.buffer_len()];
                message.emit(&mut buffer);
                prop_assert_eq!(&buffer, &message.to_vec());
                prop_assert_eq!($message::parse(&buffer), Ok(message));
            }
        )*}
    };
}

round_trip! {
    map_request: MapRequest from map_request;
    map_reply: MapReply from map_reply;
    map_register: MapRegister from map_register;
    map_notify: MapNotify from map_notify;
    map_referral: MapReferral from map_referral;
    encapsulated_control_message: Ecm from ecm;
    control_message: ControlMessage from message;
}

proptest! {
    #[test]
    fn data_header(header in any_lisp::data_header(), garbage: [u8; 8]) {
        let mut buffer = garbage;
        header.emit(&mut buffer);
        prop_assert_eq!(DataHeader::parse(&buffer), Ok(header));
    }

    #[test]
    fn whole_packets(message in any_lisp::message(), source: [u8; 16], ports: [u16; 2], v6: bool) {
        let (source, destination) = match v6 {
            true => (source.into(), [7; 16].into()),
            false => ([source[0]; 4].into(), [7; 4].into()),
        };
        let octets = lisp::ip::udp_packet(source, destination, ports[0], 4342, 64, &message.to_vec());
        prop_assert_eq!(&reencode(&octets), &Ok(octets.clone()));
        prop_assert_eq!(Packet::parse(&octets).map(|packet| packet.to_vec()), Ok(octets.clone()));
        let dissection = dissect(Start::Ip, &octets);
        prop_assert_eq!(dissection.errors, vec![]);
    }

    #[test]
    fn what_was_wrapped_is_found_inside(
        message in any_lisp::map_request(),
        source: [u8; 4],
        ports: [u16; 2],
        ttl: u8,
    ) {
        let message = ControlMessage::MapRequest(message);
        let ecm = Ecm::wrap(source.into(), [7; 4].into(), ports[0], ports[1], ttl, &message);
        let inner = ecm.decode_inner()?;
        prop_assert_eq!((inner.source_port, inner.destination_port), (ports[0], ports[1]));
        prop_assert_eq!((inner.source, inner.destination), (source.into(), [7; 4].into()));
        prop_assert_eq!((inner.ttl, inner.zero_checksum), (ttl, false));
        prop_assert_eq!(*inner.message, message);
    }

    #[test]
    fn what_was_signed_verifies(
        register in any_lisp::map_register(),
        notify in any_lisp::map_notify(),
        key_id: u8,
        secret in vec(any::<u8>(), 0..100),
        which in 0usize..5,
    ) {
        let algorithm = [
            MacAlgorithm::HmacSha1_96,
            MacAlgorithm::HmacSha256_128,
            MacAlgorithm::HmacSha1Full,
            MacAlgorithm::HmacSha256Full,
            MacAlgorithm::HkdfSha256(HkdfReading::Salt32),
        ][which];
        let key = AuthKey::new(key_id, algorithm, &secret);
        let ack = MapNotifyAck(notify.clone());
        for signed in [register.to_signed_vec(&key), notify.to_signed_vec(&key), ack.to_signed_vec(&key)] {
            prop_assert_eq!(auth::verify(&signed, &key, &[]), Ok(()));
            // A zero appended to the secret is no other key for HMAC.
            let other = AuthKey::new(key_id, algorithm, &[&secret[..], b"x"].concat());
            prop_assert_eq!(auth::verify(&signed, &other, &[]), Err(AuthError::Mismatch));
        }
        let parsed = MapRegister::parse(&register.to_signed_vec(&key))?;
        prop_assert_eq!((parsed.auth.key_id, parsed.auth.algorithm), (key_id, algorithm.id()));
        prop_assert_eq!(MapRegister { auth: register.auth.clone(), ..parsed }, register);
    }

    #[test]
    fn views_read_what_was_emitted(
        request in any_lisp::map_request(),
        register in any_lisp::map_register(),
        header in any_lisp::data_header(),
    ) {
        let octets = request.to_vec();
        let view = MapRequestPacket::new_checked(&octets)?;
        prop_assert_eq!((view.nonce(), view.probe(), view.smr()), (request.nonce, request.probe, request.smr));
        prop_assert_eq!(usize::from(view.irc()) + 1, request.itr_rlocs.len());
        prop_assert_eq!(usize::from(view.record_count()), request.records.len());
        prop_assert_eq!(view.payload().len(), octets.len() - 12);
        let octets = register.to_vec();
        let view = MapRegisterPacket::new_checked(&octets)?;
        prop_assert_eq!(view.want_map_notify(), register.want_map_notify);
        prop_assert_eq!((view.key_id(), view.algorithm_id()), (register.auth.key_id, register.auth.algorithm));
        prop_assert_eq!(usize::from(view.auth_length()), register.auth.data.len());
        let mut octets = [0; 8];
        header.emit(&mut octets);
        let view = DataPacket::new_checked(octets)?;
        prop_assert_eq!(view.has_nonce().then(|| view.nonce()), header.nonce);
        prop_assert_eq!(view.has_instance_id().then(|| view.instance_id()), header.instance_id);
    }

    /// Whatever decodes is emitted byte for byte, and what does not says where within the buffer.
    #[test]
    fn arbitrary_octets_never_panic(mut octets in vec(any::<u8>(), 0..200), kind in 0u8..9) {
        if let Some(first) = octets.first_mut() {
            *first = kind << 4 | *first & 0x0f;
        }
        match ControlMessage::parse(&octets) {
            Ok(message) => prop_assert_eq!(message.to_vec(), octets.clone()),
            Err(error) => prop_assert!(error.offset <= octets.len(), "{}", error),
        }
        let key = AuthKey::new(0, MacAlgorithm::HmacSha1_96, b"secret");
        prop_assert!(auth::verify(&octets, &key, &[]).is_err());
        let _may_fail = auth::sign(&mut octets.clone(), &key);
        let _may_fail = DataHeader::parse(&octets);
        let _may_fail = EcmPacket::new_checked(&octets);
        let _may_fail = MapReplyPacket::new_checked(&octets);
        let _may_fail = MapNotifyPacket::new_checked(&octets);
        let _may_fail = MapReferralPacket::new_checked(&octets);
        let _may_fail = RecordPacket::new_checked(&octets);
        let _may_fail = LocatorPacket::new_checked(&octets);
    }

    /// A valid message with a few octets changed: past the fixed parts, into every variable one.
    #[test]
    fn damaged_messages_never_panic(
        message in any_lisp::message(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut: prop::sample::Index,
    ) {
        let mut octets = message.to_vec();
        for (at, octet) in changes {
            *at.get_mut(&mut octets) = octet;
        }
        for octets in [&octets[..], &octets[..cut.index(octets.len())]] {
            match ControlMessage::parse(octets) {
                Ok(ControlMessage::Encapsulated(ecm)) => {
                    let _may_fail: Result<_, DecodeError> = ecm.decode_inner();
                    prop_assert_eq!(ecm.to_vec(), octets);
                }
                Ok(message) => prop_assert_eq!(message.to_vec(), octets),
                Err(error) => prop_assert!(error.offset <= octets.len(), "{}", error),
            }
            let leaves = dissect(Start::Control, octets);
            let bits: usize = leaves.leaves().iter().map(|leaf| leaf.width).sum();
            prop_assert_eq!(bits, octets.len() * 8);
        }
    }

    #[test]
    fn prefixes_as_text(iid in 0u32..=lisp::addr::MAX_IID, address: [u8; 16], len in 0u8..=128, v6: bool) {
        let prefix = match v6 {
            true => ipnet::Ipv6Net::new(address.into(), len)?.into(),
            false => ipnet::Ipv4Net::new([address[0], address[1], 0, 0].into(), len % 33)?.into(),
        };
        let prefix = EidPrefix::new(iid, prefix);
        prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
        prop_assert_eq!(EidPrefix::from_address(&prefix.to_address(), prefix.prefix.prefix_len()), Some(prefix));
    }
}
