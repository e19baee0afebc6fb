//! Control messages.

use super::headers;
use super::records::{address, authentication, ids, query, record, record_summary};
use super::walk::{Leaf, Show, Walk, Walked, count};
use crate::packet::MAX_ECM_DEPTH;
use crate::wire::map_register::field as register;
use crate::wire::map_reply::field as reply;
use crate::wire::map_request::field as request;
use crate::wire::record::RecordKind;
use crate::wire::{ControlMessage, ecm, map_notify, map_referral};

const REQUEST: &str = "RFC 6830 6.1.2";
const REPLY: &str = "RFC 6830 6.1.4";
const REGISTER: &str = "RFC 6830 6.1.6";
const NOTIFY: &str = "RFC 6830 6.1.7";
const NOTIFY_ACK: &str = "RFC 9301 5.7";
const REFERRAL: &str = "RFC 8111 6.4";
const ECM: &str = "RFC 6830 6.1.8";

fn type_name(kind: u64) -> String {
    let name = match kind {
        0 => "reserved",
        1 => "Map-Request",
        2 => "Map-Reply",
        3 => "Map-Register",
        4 => "Map-Notify",
        5 => "Map-Notify-Ack",
        6 => "Map-Referral",
        8 => "Encapsulated Control Message",
        _ => "unknown",
    };
    format!("{kind} ({name})")
}

/// Everything up to the end of the current structure is one control message; returns its summary.
pub(super) fn control(walk: &mut Walk<'_>, depth: usize) -> String {
    let octets = walk.rest();
    let at = walk.at;
    let parsed = ControlMessage::parse(octets);
    let (name, section) = match octets.first().map(|octet| octet >> 4) {
        Some(1) => ("Map-Request", REQUEST),
        Some(2) => ("Map-Reply", REPLY),
        Some(3) => ("Map-Register", REGISTER),
        Some(4) => ("Map-Notify", NOTIFY),
        Some(5) => ("Map-Notify-Ack", NOTIFY_ACK),
        Some(6) => ("Map-Referral", REFERRAL),
        Some(8) => ("Encapsulated Control Message", ECM),
        _ => ("LISP control message", "RFC 6830 6.1"),
    };
    let mut summary = parsed
        .as_ref()
        .map_or_else(|_| name.to_owned(), message_summary);
    // The group has the message's name already.
    let shown = summary
        .strip_prefix(name)
        .map_or(&*summary, |rest| rest.trim_start_matches([':', ' ']));
    let shown = shown.to_owned();
    let body = |walk: &mut Walk<'_>| {
        let walked = match octets.first().map(|octet| octet >> 4) {
            Some(1) => map_request(walk),
            Some(2) => map_reply(walk),
            Some(3) => map_register(walk),
            Some(4 | 5) => map_notify(walk, section),
            Some(6) => map_referral(walk),
            Some(8) => {
                let inner_at = parsed.as_ref().ok().and_then(inner_offset);
                encapsulated(walk, inner_at, depth).map(|inner| {
                    summary = format!("{name}: {inner}");
                })
            }
            _ => walk
                .octets("Type and what follows", octets.len(), |octets| {
                    octets
                        .first()
                        .map_or_else(String::new, |octet| type_name(u64::from(octet >> 4)))
                })
                .map(drop),
        };
        walk.leftover("undecoded octets");
        walked
    };
    // The codec's error says what a cut message lacks.
    let _walked = walk.group(name, section, body, |()| shown);
    if let Err(error) = parsed {
        walk.errors.push(error.shifted(at));
    }
    summary
}

fn inner_offset(message: &ControlMessage) -> Option<usize> {
    match message {
        ControlMessage::Encapsulated(ecm) => Some(ecm.inner_offset()),
        _ => None,
    }
}

fn message_summary(message: &ControlMessage) -> String {
    let records = |records: &[crate::wire::MapRecord]| {
        let records: Vec<_> = records.iter().map(record_summary).collect();
        records.join("; ")
    };
    let name = message.name();
    match message {
        ControlMessage::MapRequest(request) => {
            let kinds = [
                (request.probe, "RLOC-probe "),
                (request.smr, "SMR "),
                (request.smr_invoked, "SMR-invoked "),
                (request.pitr, "PITR "),
            ];
            let kinds: String = kinds
                .iter()
                .filter(|(set, _)| *set)
                .map(|(_, kind)| *kind)
                .collect();
            let asked: Vec<_> = request
                .records
                .iter()
                .map(|query| format!("{}/{}", query.eid, query.mask_len))
                .collect();
            format!("{kinds}{name} for {}", asked.join(", "))
        }
        ControlMessage::MapReply(message) => format!("{name}: {}", records(&message.records)),
        ControlMessage::MapRegister(message) => format!("{name}: {}", records(&message.records)),
        ControlMessage::MapNotify(message) => format!("{name}: {}", records(&message.records)),
        ControlMessage::MapNotifyAck(message) => format!("{name}: {}", records(&message.0.records)),
        ControlMessage::MapReferral(message) => format!("{name}: {}", records(&message.records)),
        ControlMessage::Encapsulated(_) => name.to_owned(),
    }
}

fn note_reserved(walk: &mut Walk<'_>, bits: u64, section: &'static str) {
    if bits != 0 {
        walk.note(0, section, format!("reserved bits are set ({bits:#x}); a sender leaves them zero and a receiver ignores them"));
    }
}

fn irc(value: u64) -> String {
    format!("{value} ({} ITR-RLOCs)", value + 1)
}

fn map_request(walk: &mut Walk<'_>) -> Walked {
    use request as field;
    let octets = walk.rest();
    if octets.len() >= field::LEN {
        note_reserved(walk, field::RESERVED.get(octets), REQUEST);
    }
    let fixed = walk.fixed(
        field::LEN,
        &[
            (field::TYPE, Show::With(type_name)),
            (field::A, Show::Flag),
            (field::M, Show::Flag),
            (field::PROBE, Show::Flag),
            (field::SMR, Show::Flag),
            (field::PITR, Show::Flag),
            (field::SMR_INVOKED, Show::Flag),
            (field::RESERVED, Show::Hex),
            (field::LOCAL_XTR, Show::Flag),
            (field::DONT_REPLY, Show::Flag),
            (field::IRC, Show::With(irc)),
            (field::RECORD_COUNT, Show::Number),
            (field::NONCE, Show::Hex),
        ],
    )?;
    walk.cite(&[field::LOCAL_XTR, field::DONT_REPLY], "RFC 9301 5.2");
    let rlocs = field::IRC.get(fixed) + 1;
    let records = field::RECORD_COUNT.get(fixed) as usize;
    address(
        walk,
        "Source-EID",
        "Source-EID-AFI",
        "Source EID Address",
        REQUEST,
    )?;
    let rlocs_at = walk.at;
    let mut usable = false;
    for number in 1..=rlocs {
        let name = format!("ITR-RLOC {number}");
        let rloc = address(walk, name, "ITR-RLOC-AFI", "ITR-RLOC Address", REQUEST)?;
        usable |= rloc.is_some_and(|rloc| rloc.ip().is_some());
    }
    if !usable {
        walk.notes.push(super::Note {
            offset: rlocs_at,
            text: "no ITR-RLOC has an address to reply to: a replier drops this Map-Request".into(),
            section: "RFC 6830 6.1.3",
        });
    }
    for number in 1..=records {
        query(walk, number)?;
    }
    if field::M.get(fixed) != 0 {
        record(walk, 1, RecordKind::Mapping)?;
    }
    // Bit 11 of the first word (RFC 9437 4).
    match fixed[1] & 0x10 != 0 && !walk.rest().is_empty() {
        true => ids(walk),
        false => Ok(()),
    }
}

fn map_reply(walk: &mut Walk<'_>) -> Walked {
    use reply as field;
    let octets = walk.rest();
    if octets.len() >= field::LEN {
        note_reserved(walk, field::RESERVED.get(octets), REPLY);
    }
    let fixed = walk.fixed(
        field::LEN,
        &[
            (field::TYPE, Show::With(type_name)),
            (field::PROBE, Show::Flag),
            (field::ECHO_NONCE, Show::Flag),
            (field::SECURITY, Show::Flag),
            (field::RESERVED, Show::Hex),
            (field::RECORD_COUNT, Show::Number),
            (field::NONCE, Show::Hex),
        ],
    )?;
    for number in 1..=field::RECORD_COUNT.get(fixed) as usize {
        record(walk, number, RecordKind::Mapping)?;
    }
    if field::SECURITY.get(fixed) != 0 {
        walk.section = "RFC 9303 6.2";
        walk.leftover("Authentication Data");
    }
    Ok(())
}

fn map_register(walk: &mut Walk<'_>) -> Walked {
    use register as field;
    let octets = walk.rest();
    if octets.len() >= 4 {
        note_reserved(walk, field::RESERVED.get(octets), REGISTER);
    }
    let fixed = walk.fixed(
        field::LEN - 4,
        &[
            (field::TYPE, Show::With(type_name)),
            (field::PROXY_REPLY, Show::Flag),
            (field::SECURITY, Show::Flag),
            (field::IDS, Show::Flag),
            (field::RESERVED, Show::Hex),
            (field::EID_NOTIFY, Show::Flag),
            (field::USE_TTL, Show::Flag),
            (field::MERGE, Show::Flag),
            (field::RTR, Show::Flag),
            (field::WANT_NOTIFY, Show::Flag),
            (field::RECORD_COUNT, Show::Number),
            (field::NONCE, Show::Hex),
        ],
    )?;
    let newer = [
        field::SECURITY,
        field::IDS,
        field::EID_NOTIFY,
        field::USE_TTL,
        field::MERGE,
        field::RTR,
    ];
    walk.cite(&newer, "RFC 9301 5.6");
    authentication(walk, REGISTER)?;
    for number in 1..=field::RECORD_COUNT.get(fixed) as usize {
        record(walk, number, RecordKind::Mapping)?;
    }
    match field::IDS.get(fixed) != 0 {
        true => ids(walk),
        false => Ok(()),
    }
}

fn map_notify(walk: &mut Walk<'_>, section: &'static str) -> Walked {
    use map_notify::field;
    let octets = walk.rest();
    if octets.len() >= 4 {
        note_reserved(walk, field::RESERVED.get(octets), section);
    }
    let fixed = walk.fixed(field::LEN - 4, &plain_header(field::TYPE, field::RESERVED))?;
    authentication(walk, section)?;
    for number in 1..=field::RECORD_COUNT.get(fixed) as usize {
        record(walk, number, RecordKind::Mapping)?;
    }
    let announced = field::RESERVED.get(fixed) as u32 & map_notify::I_BITS != 0;
    match announced && !walk.rest().is_empty() {
        true => ids(walk),
        false => Ok(()),
    }
}

/// Type, reserved bits, record count and nonce: the header of Map-Notify, Map-Notify-Ack and Map-Referral.
fn plain_header(kind: crate::wire::bits::Bits, reserved: crate::wire::bits::Bits) -> [Leaf; 4] {
    use map_referral::field;
    [
        (kind, Show::With(type_name)),
        (reserved, Show::Hex),
        (field::RECORD_COUNT, Show::Number),
        (field::NONCE, Show::Hex),
    ]
}

fn map_referral(walk: &mut Walk<'_>) -> Walked {
    use map_referral::field;
    let octets = walk.rest();
    if octets.len() >= 4 {
        note_reserved(walk, field::RESERVED.get(octets), REFERRAL);
    }
    let fixed = walk.fixed(field::LEN, &plain_header(field::TYPE, field::RESERVED))?;
    for number in 1..=field::RECORD_COUNT.get(fixed) as usize {
        record(walk, number, RecordKind::Referral)?;
    }
    Ok(())
}

/// An Encapsulated Control Message whose inner packet starts `inner_at` octets in, if that is known.
fn encapsulated(walk: &mut Walk<'_>, inner_at: Option<usize>, depth: usize) -> Walked<String> {
    use ecm::field;
    let octets = walk.rest();
    if octets.len() >= 4 {
        note_reserved(walk, field::RESERVED.get(octets), ECM);
    }
    walk.fixed(
        field::LEN,
        &[
            (field::TYPE, Show::With(type_name)),
            (field::SECURITY, Show::Flag),
            (field::DDT, Show::Flag),
            (field::RESERVED, Show::Hex),
        ],
    )?;
    walk.cite(&[field::DDT], "RFC 8111 5");
    let Some(inner_at) = inner_at else {
        return Ok(String::new());
    };
    let authentication = inner_at - field::LEN;
    walk.within(authentication, |walk| {
        walk.section = "RFC 9303 6.1";
        walk.octets("Authentication Data", authentication, count)
            .map(drop)
    })?;
    if depth == MAX_ECM_DEPTH {
        walk.errors.push(crate::packet::too_deep(walk.at));
        return Ok("too deep".into());
    }
    Ok(headers::encapsulated_packet(walk, depth + 1))
}
