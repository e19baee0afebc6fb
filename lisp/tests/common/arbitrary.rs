//! Arbitrary valid messages.

use std::net::IpAddr;

use lisp::wire::{
    Action, Authentication, ControlMessage, DataHeader, Ecm, EidQuery, Locator, MapNotify,
    MapNotifyAck, MapRecord, MapReferral, MapRegister, MapReply, MapRequest, XtrSiteId,
};
use lisp::{Address, Lcaf};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Any address, LCAFs up to three deep.
pub(crate) fn address() -> impl Strategy<Value = Address> {
    let plain = prop_oneof![
        Just(Address::None),
        any::<[u8; 4]>().prop_map(|octets| Address::Ipv4(octets.into())),
        any::<[u8; 16]>().prop_map(|octets| Address::Ipv6(octets.into())),
        any::<[u8; 6]>().prop_map(Address::Mac),
        opaque_lcaf(),
    ];
    plain.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            (any::<u32>(), any::<u8>(), inner.clone(), any::<[u8; 2]>()).prop_map(
                |(iid, mask_len, address, reserved)| {
                    lcaf(Lcaf::InstanceId {
                        iid,
                        mask_len,
                        address,
                        reserved,
                    })
                }
            ),
            (vec(inner, 0..3), any::<[u8; 3]>()).prop_map(|(addresses, reserved)| lcaf(
                Lcaf::AfiList {
                    addresses,
                    reserved
                }
            )),
        ]
    })
}

fn lcaf(lcaf: Lcaf) -> Address {
    Address::Lcaf(Box::new(lcaf))
}

fn opaque_lcaf() -> impl Strategy<Value = Address> {
    (3u8.., any::<[u8; 3]>(), vec(any::<u8>(), 0..20)).prop_map(|(kind, reserved, data)| {
        lcaf(Lcaf::Opaque {
            kind,
            reserved,
            data,
        })
    })
}

/// An EID and a mask-len that it can have.
fn eid() -> impl Strategy<Value = (Address, u8)> {
    (address(), any::<u8>()).prop_map(|(eid, mask_len)| {
        let limit = mask_limit(&eid);
        (
            eid,
            u8::try_from(u16::from(mask_len) % (limit + 1)).expect("at most 255"),
        )
    })
}

fn mask_limit(eid: &Address) -> u16 {
    match eid {
        Address::None => 0,
        Address::Ipv4(_) => 32,
        Address::Ipv6(_) => 128,
        Address::Mac(_) => 48,
        Address::Lcaf(lcaf) => match &**lcaf {
            Lcaf::InstanceId { address, .. } if *address != Address::None => mask_limit(address),
            _ => 255,
        },
    }
}

fn locator() -> impl Strategy<Value = Locator> {
    let parts = (
        any::<[u8; 4]>(),
        0u16..0x2000,
        any::<[bool; 3]>(),
        address(),
    );
    parts.prop_map(
        |([priority, weight, mpriority, mweight], reserved, flags, rloc)| Locator {
            priority,
            weight,
            mpriority,
            mweight,
            reserved,
            local: flags[0],
            probed: flags[1],
            reachable: flags[2],
            rloc,
        },
    )
}

/// A record of any message but a Map-Referral.
pub(crate) fn record() -> impl Strategy<Value = MapRecord> {
    let parts = (
        any::<u32>(),
        eid(),
        0u8..8,
        any::<bool>(),
        0u16..0x1000,
        0u8..16,
        0u16..0x1000,
        vec(locator(), 0..4),
    );
    parts.prop_map(
        |(ttl, (eid, eid_mask_len), act, authoritative, reserved, rsvd, map_version, locators)| {
            MapRecord {
                ttl,
                eid_mask_len,
                action: Action::from_code(act),
                authoritative,
                reserved,
                reserved_version: rsvd,
                map_version,
                eid,
                locators,
                signatures: Vec::new(),
            }
        },
    )
}

/// A record of a Map-Referral: the four bits before the map-version count its signature sections.
fn referral() -> impl Strategy<Value = MapRecord> {
    let signature = (any::<[u8; 14]>(), any::<[u8; 4]>(), vec(any::<u8>(), 0..20)).prop_map(
        |(before, after, signature)| {
            let len = u16::try_from(signature.len()).expect("short").to_be_bytes();
            [&before[..], &len, &after, &signature].concat()
        },
    );
    (record(), vec(signature, 0..3)).prop_map(|(record, signatures)| MapRecord {
        reserved_version: u8::try_from(signatures.len()).expect("few"),
        signatures: signatures.concat(),
        ..record
    })
}

fn ids() -> impl Strategy<Value = Option<XtrSiteId>> {
    let ids = (any::<[u8; 16]>(), any::<u64>());
    option::of(ids.prop_map(|(xtr_id, site_id)| XtrSiteId { xtr_id, site_id }))
}

fn authentication() -> impl Strategy<Value = Authentication> {
    let parts = (any::<u8>(), any::<u8>(), vec(any::<u8>(), 0..40));
    parts.prop_map(|(key_id, algorithm, data)| Authentication {
        key_id,
        algorithm,
        data,
    })
}

/// Any Map-Request.
pub(crate) fn map_request() -> impl Strategy<Value = MapRequest> {
    let query = (any::<u8>(), eid()).prop_map(|(reserved, (eid, mask_len))| EidQuery {
        reserved,
        mask_len,
        eid,
    });
    let parts = (
        any::<[bool; 7]>(),
        0u8..0x80,
        any::<u64>(),
        address(),
        prop_oneof![vec(address(), 1..4), vec(address(), 32)],
        vec(query, 0..4),
        option::of(record()),
        ids(),
    );
    parts.prop_map(
        |(flags, reserved, nonce, source_eid, itr_rlocs, records, map_reply, xtr_site_id)| {
            MapRequest {
                authoritative: flags[0],
                probe: flags[1],
                smr: flags[2],
                pitr: flags[3],
                smr_invoked: flags[4],
                local_xtr: flags[5],
                dont_reply: flags[6],
                // The I bit says whether ids follow.
                reserved: reserved | if xtr_site_id.is_some() { 0x20 } else { 0 },
                nonce,
                source_eid,
                itr_rlocs,
                records,
                map_reply,
                xtr_site_id,
            }
        },
    )
}

/// Any Map-Reply.
pub(crate) fn map_reply() -> impl Strategy<Value = MapReply> {
    let trailer = prop_oneof![Just(Vec::new()), vec(any::<u8>(), 1..40)];
    let parts = (
        any::<[bool; 2]>(),
        0u32..0x2_0000,
        any::<u64>(),
        vec(record(), 0..4),
        trailer,
    );
    parts.prop_map(|(flags, reserved, nonce, records, trailer)| MapReply {
        probe: flags[0],
        echo_nonce: flags[1],
        security: !trailer.is_empty(),
        reserved,
        nonce,
        records,
        trailer,
    })
}

/// Any Map-Register; its code is arbitrary.
pub(crate) fn map_register() -> impl Strategy<Value = MapRegister> {
    let parts = (
        any::<[bool; 7]>(),
        0u16..0x1000,
        any::<u64>(),
        authentication(),
        vec(record(), 0..4),
        ids(),
    );
    parts.prop_map(
        |(flags, reserved, nonce, auth, records, xtr_site_id)| MapRegister {
            proxy_reply: flags[0],
            security: flags[1],
            eid_notify: flags[2],
            use_ttl: flags[3],
            merge: flags[4],
            rtr: flags[5],
            want_map_notify: flags[6],
            reserved,
            nonce,
            auth,
            records,
            xtr_site_id,
        },
    )
}

/// Any Map-Notify; its code is arbitrary.
pub(crate) fn map_notify() -> impl Strategy<Value = MapNotify> {
    let parts = (
        0u32..0x10_0000,
        any::<u64>(),
        authentication(),
        vec(record(), 0..4),
        ids(),
    );
    parts.prop_map(|(reserved, nonce, auth, records, xtr_site_id)| MapNotify {
        // Bit 4 says whether ids follow.
        reserved: reserved | if xtr_site_id.is_some() { 0x8_0000 } else { 0 },
        nonce,
        auth,
        records,
        xtr_site_id,
    })
}

/// Any Map-Referral.
pub(crate) fn map_referral() -> impl Strategy<Value = MapReferral> {
    (0u32..0x10_0000, any::<u64>(), vec(referral(), 0..4)).prop_map(|(reserved, nonce, records)| {
        MapReferral {
            reserved,
            nonce,
            records,
        }
    })
}

/// Any control message but an encapsulated one.
fn plain_message() -> impl Strategy<Value = ControlMessage> {
    prop_oneof![
        map_request().prop_map(ControlMessage::MapRequest),
        map_reply().prop_map(ControlMessage::MapReply),
        map_register().prop_map(ControlMessage::MapRegister),
        map_notify().prop_map(ControlMessage::MapNotify),
        map_notify().prop_map(|notify| ControlMessage::MapNotifyAck(MapNotifyAck(notify))),
        map_referral().prop_map(ControlMessage::MapReferral),
    ]
}

/// Two addresses of one family.
fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<[[u8; 4]; 2]>().prop_map(|[source, destination]| (source.into(), destination.into())),
        any::<[[u8; 16]; 2]>()
            .prop_map(|[source, destination]| (source.into(), destination.into())),
    ]
}

/// LISP-SEC authentication data of an ECM (RFC 9303 6.1), the OTK length counted in either reading.
fn ecm_authentication() -> impl Strategy<Value = Vec<u8>> {
    (vec(any::<u8>(), 24..40), any::<bool>()).prop_map(|(otk, with_header)| {
        let counted = otk.len() + if with_header { 4 } else { 0 };
        let len = u16::try_from(counted).expect("short").to_be_bytes();
        [&[1, 0, 0, 1][..], &len, &[7, 1], &otk, &[0, 4, 0, 1]].concat()
    })
}

/// Any Encapsulated Control Message.
pub(crate) fn ecm() -> impl Strategy<Value = Ecm> {
    let parts = (
        plain_message(),
        addresses(),
        any::<[u16; 2]>(),
        any::<u8>(),
        any::<bool>(),
        0u32..0x400_0000,
        prop_oneof![Just(Vec::new()), ecm_authentication()],
    );
    parts.prop_map(
        |(message, (source, destination), ports, ttl, ddt, reserved, authentication)| Ecm {
            security: !authentication.is_empty(),
            ddt,
            reserved,
            authentication,
            ..Ecm::wrap(source, destination, ports[0], ports[1], ttl, &message)
        },
    )
}

/// Any control message.
pub(crate) fn message() -> impl Strategy<Value = ControlMessage> {
    prop_oneof![6 => plain_message(), 1 => ecm().prop_map(ControlMessage::Encapsulated)]
}

/// Any LISP data header.
pub(crate) fn data_header() -> impl Strategy<Value = DataHeader> {
    (any::<[bool; 5]>(), 0u8..8, 0u32..0x100_0000, any::<u32>()).prop_map(
        |([n, l, e, v, i], flags, word, second)| {
            let status = if i { second & 0xff } else { second };
            DataHeader {
                nonce: n.then_some(word),
                locator_status: l.then_some(status),
                echo_request: e,
                map_version: v.then_some(((word >> 12) as u16, (word & 0xfff) as u16)),
                instance_id: i.then_some(second >> 8),
                flags,
                raw_nonce: if n == v { word } else { 0 },
                raw_lsb: if l { 0 } else { status },
            }
        },
    )
}
