//! Addresses, LCAFs, EID records, locators, signatures and authentication data.

use super::walk::{Leaf, Show, Stop, Walk, Walked, count, hex};
use crate::addr::{Address, EidPrefix};
use crate::wire::Action;
use crate::wire::address::{
    AFI_IPV4, AFI_IPV6, AFI_LCAF, AFI_MAC, AFI_NONE, LCAF_AFI_LIST, LCAF_INSTANCE_ID,
    MAX_LCAF_DEPTH, field as lcaf,
};
use crate::wire::bits::Bits;
use crate::wire::cursor::Reader;
use crate::wire::map_request::query_field;
use crate::wire::record::{
    Locator, MapRecord, RecordKind, locator_field, record_field, signature_field,
};

fn afi_name(afi: u64) -> String {
    let name = match u16::try_from(afi) {
        Ok(AFI_NONE) => "no address",
        Ok(AFI_IPV4) => "IPv4",
        Ok(AFI_IPV6) => "IPv6",
        Ok(AFI_MAC) => "MAC",
        Ok(AFI_LCAF) => "LCAF",
        _ => "unknown",
    };
    format!("{afi} ({name})")
}

/// The address that starts at the AFI, by the codec; for the values of groups.
fn peek(octets: &[u8]) -> Option<Address> {
    Address::read(&mut Reader::new("", octets), "", "").ok()
}

/// An AFI and its address as one group.
pub(super) fn address(
    walk: &mut Walk<'_>,
    name: impl Into<String>,
    afi_field: &'static str,
    field: &'static str,
    section: &'static str,
) -> Walked<Option<Address>> {
    let value = peek(walk.rest());
    walk.group(
        name,
        section,
        |walk| {
            let octets = walk.fixed(2, &[(Bits::new(afi_field, 0, 16), Show::With(afi_name))])?;
            let afi = u16::from_be_bytes([octets[0], octets[1]]);
            after_afi(walk, afi, field, 0)
        },
        |()| {
            value
                .as_ref()
                .map_or("undecodable".into(), Address::to_string)
        },
    )?;
    Ok(value)
}

/// The address behind an AFI that has been shown.
fn after_afi(walk: &mut Walk<'_>, afi: u16, field: &'static str, depth: usize) -> Walked {
    let show = |octets: &[u8]| {
        let mut encoded = afi.to_be_bytes().to_vec();
        encoded.extend_from_slice(octets);
        peek(&encoded).map_or_else(|| hex(octets), |address| address.to_string())
    };
    match afi {
        AFI_NONE => Ok(()),
        AFI_IPV4 => walk.octets(field, 4, show).map(drop),
        AFI_IPV6 => walk.octets(field, 16, show).map(drop),
        AFI_MAC => walk.octets(field, 6, show).map(drop),
        AFI_LCAF if depth < MAX_LCAF_DEPTH => walk
            .group(
                field,
                "RFC 8060 3",
                |walk| lcaf_body(walk, depth + 1),
                String::clone,
            )
            .map(drop),
        _ => Err(Stop),
    }
}

fn lcaf_kind(kind: u64) -> String {
    let name = match kind {
        1 => "AFI List",
        2 => "Instance ID",
        3 => "AS Number",
        5 => "Geo-Coordinates",
        7 => "NAT-Traversal",
        9 => "Multicast Info",
        10 => "Explicit Locator Path",
        11 => "Security Key",
        12 => "Source/Dest Key",
        13 => "Replication List",
        255 => "Vendor Specific",
        _ => "kept as it is",
    };
    format!("{kind} ({name})")
}

fn lcaf_body(walk: &mut Walk<'_>, depth: usize) -> Walked<String> {
    // The second reserved octet is the IID mask-len of type 2.
    let is_iid = walk.rest().get(2) == Some(&LCAF_INSTANCE_ID);
    let rsvd2 = match is_iid {
        true => Bits {
            name: "IID mask-len",
            ..lcaf::RSVD2
        },
        false => lcaf::RSVD2,
    };
    let header = walk.fixed(
        lcaf::LEN,
        &[
            (lcaf::RSVD1, Show::Hex),
            (lcaf::FLAGS, Show::Hex),
            (lcaf::TYPE, Show::With(lcaf_kind)),
            (rsvd2, Show::Number),
            (lcaf::LENGTH, Show::Number),
        ],
    )?;
    let kind = lcaf::TYPE.get(header);
    let len = lcaf::LENGTH.get(header) as usize;
    if len > walk.rest().len() {
        return Err(Stop);
    }
    let name = lcaf_kind(kind);
    walk.within(len, |walk| match header[2] {
        LCAF_INSTANCE_ID => {
            walk.section = "RFC 8060 4.1";
            walk.fixed(4, &[(Bits::new("Instance ID", 0, 32), Show::Number)])?;
            lcaf_address(walk, depth)?;
            // Octets behind the address are an error of the codec.
            if walk.rest().is_empty() {
                Ok(name)
            } else {
                Err(Stop)
            }
        }
        LCAF_AFI_LIST => {
            walk.section = "RFC 8060 4.16";
            while !walk.rest().is_empty() {
                lcaf_address(walk, depth)?;
            }
            Ok(name)
        }
        _ => {
            walk.octets("LCAF data", len, count)?;
            Ok(name)
        }
    })
}

fn lcaf_address(walk: &mut Walk<'_>, depth: usize) -> Walked {
    let octets = walk.fixed(2, &[(Bits::new("AFI", 0, 16), Show::With(afi_name))])?;
    after_afi(
        walk,
        u16::from_be_bytes([octets[0], octets[1]]),
        "Address",
        depth,
    )
}

fn minutes(ttl: u64) -> String {
    match ttl {
        0 => "0 (remove)".into(),
        0xffff_ffff => "0xffffffff (never expires)".into(),
        1 => "1 minute".into(),
        minutes => format!("{minutes} minutes"),
    }
}

fn action(code: u64) -> String {
    let name = match Action::from_code(code as u8) {
        Action::NoAction => "no-action",
        Action::NativelyForward => "natively-forward",
        Action::SendMapRequest => "send-map-request",
        Action::Drop => "drop",
        Action::Other(4) => "RFC 9301: drop/policy-denied",
        Action::Other(5) => "RFC 9301: drop/auth-failure",
        Action::Other(_) => "unassigned",
    };
    format!("{code} ({name})")
}

fn referral_action(code: u64) -> String {
    let name = match code {
        0 => "NODE-REFERRAL",
        1 => "MS-REFERRAL",
        2 => "MS-ACK",
        3 => "MS-NOT-REGISTERED",
        4 => "DELEGATION-HOLE",
        5 => "NOT-AUTHORITATIVE",
        _ => "unassigned",
    };
    format!("{code} ({name})")
}

/// One EID record with its locators.
pub(super) fn record(walk: &mut Walk<'_>, number: usize, kind: RecordKind) -> Walked {
    let value = MapRecord::read(&mut Reader::new("", walk.rest()), kind).ok();
    let (name, section) = match kind {
        RecordKind::Mapping => (format!("EID record {number}"), "RFC 6830 6.1.4"),
        RecordKind::Referral => (format!("Referral record {number}"), "RFC 8111 6.4"),
    };
    walk.group(
        name,
        section,
        |walk| record_body(walk, kind, section),
        |()| value.as_ref().map_or("undecodable".into(), record_summary),
    )
}

/// A record in a few words.
pub(super) fn record_summary(record: &MapRecord) -> String {
    let prefix = EidPrefix::from_address(&record.eid, record.eid_mask_len)
        .map_or_else(|| record.eid.to_string(), |prefix| prefix.to_string());
    match record.locators.len() {
        0 => format!("{prefix}, no locators, ACT {}", record.action.code()),
        1 => format!("{prefix}, 1 locator"),
        many => format!("{prefix}, {many} locators"),
    }
}

fn record_body(walk: &mut Walk<'_>, kind: RecordKind, section: &'static str) -> Walked {
    use record_field as field;
    let before: [Leaf; 3] = [
        (field::TTL, Show::With(minutes)),
        (field::LOCATOR_COUNT, Show::Number),
        (field::MASK_LEN, Show::Number),
    ];
    let middle: Vec<Leaf> = match kind {
        RecordKind::Mapping => vec![
            (field::ACT, Show::With(action)),
            (field::A, Show::Flag),
            (field::RESERVED, Show::Hex),
            (field::RSVD, Show::Hex),
        ],
        RecordKind::Referral => vec![
            (field::ACT, Show::With(referral_action)),
            (field::A, Show::Flag),
            (Bits::new("I (incomplete)", 52, 1), Show::Flag),
            (Bits::new("Reserved", 53, 11), Show::Hex),
            (
                Bits {
                    name: "SigCnt",
                    ..field::RSVD
                },
                Show::Number,
            ),
        ],
    };
    let after: [Leaf; 2] = [
        (field::MAP_VERSION, Show::Number),
        (field::EID_AFI, Show::With(afi_name)),
    ];
    let leaves = [&before[..], &middle, &after].concat();
    let start = walk.at;
    let fixed = walk.fixed(field::LEN, &leaves)?;
    if kind == RecordKind::Mapping && (field::RESERVED.get(fixed), field::RSVD.get(fixed)) != (0, 0)
    {
        walk.notes.push(super::Note {
            offset: start + 6,
            text: "reserved bits of the EID record are set; a sender leaves them zero".into(),
            section,
        });
    }
    let afi = field::EID_AFI.get(fixed) as u16;
    let mask_at = start + 5;
    let eid_at = walk.at - 2;
    after_afi(walk, afi, "EID-Prefix", 0)?;
    let mask_len = field::MASK_LEN.get(fixed) as u8;
    let eid = peek(&walk.buffer[eid_at..walk.at]).ok_or(Stop)?;
    check_prefix(walk, mask_at, &eid, mask_len)?;
    for number in 1..=field::LOCATOR_COUNT.get(fixed) {
        let start = walk.at;
        let value = Locator::read(&mut Reader::new("", walk.rest())).ok();
        let shown = value.as_ref().map(locator_summary);
        walk.group(format!("Locator {number}"), section, locator_body, |()| {
            shown.unwrap_or_else(|| "undecodable".into())
        })?;
        note_locator(walk, start, value.as_ref());
    }
    if kind == RecordKind::Referral {
        for number in 1..=field::RSVD.get(fixed) {
            let name = format!("Signature section {number}");
            walk.group(name, "RFC 8111 6.4.1", signature_body, |()| String::new())?;
        }
    }
    Ok(())
}

/// A mask-len that is too long ends the decoding, as in the codec; host bits are only odd.
fn check_prefix(walk: &mut Walk<'_>, offset: usize, eid: &Address, mask_len: u8) -> Walked {
    if eid.mask_limit().is_some_and(|limit| mask_len > limit) {
        return Err(Stop);
    }
    let prefix = EidPrefix::from_address(eid, mask_len);
    if let (Some(prefix), Some((_, address))) = (prefix, eid.eid())
        && prefix.prefix.addr() != address
    {
        walk.notes.push(super::Note {
            offset,
            text: format!("the EID has bits set behind its mask-len: the prefix is {prefix}"),
            section: "RFC 6830 6.1.4",
        });
    }
    Ok(())
}

fn locator_summary(locator: &Locator) -> String {
    let flags = [
        (locator.local, "L"),
        (locator.probed, "p"),
        (locator.reachable, "R"),
    ];
    let flags: Vec<_> = flags
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, name)| *name)
        .collect();
    format!(
        "{} {}/{} {}",
        locator.rloc,
        locator.priority,
        locator.weight,
        flags.join(" ")
    )
    .trim_end()
    .to_owned()
}

fn note_locator(walk: &mut Walk<'_>, start: usize, locator: Option<&Locator>) {
    if locator.is_some_and(|locator| locator.reserved != 0) {
        walk.notes.push(super::Note {
            offset: start + 4,
            text: "unused flags of the locator are set; a sender leaves them zero".into(),
            section: "RFC 6830 6.1.4",
        });
    }
}

fn priority(value: u64) -> String {
    match value {
        255 => "255 (not to be used)".into(),
        value => value.to_string(),
    }
}

fn locator_body(walk: &mut Walk<'_>) -> Walked {
    use locator_field as field;
    let fixed = walk.fixed(
        field::LEN,
        &[
            (field::PRIORITY, Show::With(priority)),
            (field::WEIGHT, Show::Number),
            (field::M_PRIORITY, Show::With(priority)),
            (field::M_WEIGHT, Show::Number),
            (field::UNUSED, Show::Hex),
            (field::L, Show::Flag),
            (field::PROBED, Show::Flag),
            (field::R, Show::Flag),
            (field::AFI, Show::With(afi_name)),
        ],
    )?;
    after_afi(walk, field::AFI.get(fixed) as u16, "Locator", 0)
}

fn signature_body(walk: &mut Walk<'_>) -> Walked {
    use signature_field as field;
    let fixed = walk.fixed(
        field::LEN,
        &[
            (field::ORIGINAL_TTL, Show::With(minutes)),
            (field::EXPIRATION, Show::Number),
            (field::INCEPTION, Show::Number),
            (field::KEY_TAG, Show::Number),
            (field::SIG_LENGTH, Show::Number),
            (field::ALGORITHM, Show::Number),
            (field::RESERVED, Show::Hex),
        ],
    )?;
    walk.octets("Signature", field::SIG_LENGTH.get(fixed) as usize, hex)
        .map(drop)
}

/// One question of a Map-Request.
pub(super) fn query(walk: &mut Walk<'_>, number: usize) -> Walked {
    use query_field as field;
    let section = "RFC 6830 6.1.2";
    let start = walk.at;
    walk.group(
        format!("Record {number}"),
        section,
        |walk| {
            let fixed = walk.fixed(
                field::LEN,
                &[
                    (field::RESERVED, Show::Hex),
                    (field::MASK_LEN, Show::Number),
                    (field::AFI, Show::With(afi_name)),
                ],
            )?;
            let eid_at = walk.at - 2;
            after_afi(walk, field::AFI.get(fixed) as u16, "EID-Prefix", 0)?;
            let eid = peek(&walk.buffer[eid_at..walk.at]).ok_or(Stop)?;
            let mask_len = field::MASK_LEN.get(fixed) as u8;
            check_prefix(walk, start + 1, &eid, mask_len)?;
            Ok(format!("{eid}/{mask_len}"))
        },
        String::clone,
    )
    .map(drop)
}

/// Key ID, Algorithm ID, length and authentication data.
pub(super) fn authentication(walk: &mut Walk<'_>, section: &'static str) -> Walked {
    let summary = |fixed: &&[u8]| {
        format!(
            "key ID {}, algorithm {}, {} octets",
            fixed[0],
            fixed[1],
            usize::from(fixed[2]) << 8 | usize::from(fixed[3])
        )
    };
    walk.group(
        "Authentication",
        section,
        |walk| {
            let fixed = walk.fixed(
                4,
                &[
                    (Bits::new("Key ID (6830: high octet)", 0, 8), Show::Number),
                    (
                        Bits::new("Algorithm ID (6830: Key ID, low octet)", 8, 8),
                        Show::With(algorithm),
                    ),
                    (
                        Bits::new("Authentication Data Length", 16, 16),
                        Show::Number,
                    ),
                ],
            )?;
            let len = u16::from_be_bytes([fixed[2], fixed[3]]);
            walk.octets("Authentication Data", len.into(), hex)?;
            Ok(fixed)
        },
        summary,
    )
    .map(drop)
}

fn algorithm(id: u64) -> String {
    let name = match id {
        0 => "none",
        1 => "HMAC-SHA-1-96",
        2 => "HMAC-SHA-256-128",
        3 => "HMAC-SHA-256-128+HKDF-SHA-256",
        _ => "unassigned",
    };
    format!("{id} ({name})")
}

/// xTR-ID and Site-ID.
pub(super) fn ids(walk: &mut Walk<'_>) -> Walked {
    walk.section = "RFC 9301 5.6";
    walk.octets("xTR-ID", 16, hex)?;
    walk.octets("Site-ID", 8, hex).map(drop)
}
