//! Map-Requests that are unusual and legal: they are answered (RFC 6830 6.1.2).

use lisp::wire::{ControlMessage, Ecm, EidQuery, MapRecord, MapRequest};
use lisp::{Address, EidPrefix};

use super::common::*;
use crate::case::Case;
use crate::cases::common::{locator, prefix, record};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::Trace;
use crate::words;

const AFI_0: Req = Req::new("rfc6830-6.1.2-afi0-len");
const COUNT: Req = Req::new("rfc6830-6.1.2-irc");
const HOST_BITS: Req = Req::new("rfc6830-6.1.2-prefix-host-bits");
const SEVERAL: Req = Req::new("rfc6830-6.1.2-multi-record-rx");
const RESERVED: Req = Req::new("rfc6830-6.1.2-reserved");
const ECM_RESERVED: Req = Req::new("rfc6830-6.1.8-reserved");
const EITHER_PORT: Req = Req::new("rfc6830-6.1-nat-ports");
const TO_ITR_RLOC: Req = Req::new("rfc6830-6.1.5-dst-itr-rloc");

const NO_SOURCE_EID: u64 = 0x0e7a_0000_0004_0001;
const THIRTY_TWO: u64 = 0x0e7a_0000_0004_0002;
const WITH_HOST_BITS: u64 = 0x0e7a_0000_0004_0003;
const TWO_RECORDS: u64 = 0x0e7a_0000_0004_0004;
const RESERVED_BITS: u64 = 0x0e7a_0000_0004_0005;
const ECM_BITS: u64 = 0x0e7a_0000_0004_0006;
const FROM_4342: u64 = 0x0e7a_0000_0004_0007;
const MAP_DATA: u64 = 0x0e7a_0000_0004_0008;
const USABLE_LAST: u64 = 0x0e7a_0000_0004_0009;

/// Each question: what it shows, its nonce, what is unusual, and the prefixes that its answer brings.
const QUESTIONS: [(Req, u64, &str, &[&str]); 9] = [
    (AFI_0, NO_SOURCE_EID, "Source-EID AFI 0", &["10.1.0.0/24"]),
    (
        COUNT,
        THIRTY_TWO,
        "32 ITR-RLOCs (count field 31)",
        &["10.1.0.0/24"],
    ),
    (
        HOST_BITS,
        WITH_HOST_BITS,
        "10.1.0.77 with mask-len 24",
        &["10.1.0.0/24"],
    ),
    (
        SEVERAL,
        TWO_RECORDS,
        "two records",
        &["10.1.0.0/24", "2001:db8:a::/48"],
    ),
    (
        RESERVED,
        RESERVED_BITS,
        "reserved bits 10 and 12 to 16 set",
        &["10.1.0.0/24"],
    ),
    (
        ECM_RESERVED,
        ECM_BITS,
        "reserved bits of the Encapsulated Control Message set",
        &["10.1.0.0/24"],
    ),
    (
        EITHER_PORT,
        FROM_4342,
        "from port 4342 to port 4342",
        &["10.1.0.0/24"],
    ),
    (
        SEVERAL,
        MAP_DATA,
        "M bit and a record of the asker",
        &["10.1.0.0/24"],
    ),
    (
        TO_ITR_RLOC,
        USABLE_LAST,
        "the only usable ITR-RLOC behind one of AFI 0",
        &["10.1.0.0/24"],
    ),
];

inventory::submit! {
    Case {
        id: "rfc6830::s6_1_2::unusual_map_requests_are_answered",
        title: "Source-EID AFI 0, 32 ITR-RLOCs, host bits, several records, reserved bits, either port and map-data are no reason for silence.",
        topology: TOPOLOGY,
        start: false,
        roles: &["etr"],
        requirements: &[AFI_0, COUNT, HOST_BITS, SEVERAL, RESERVED, ECM_RESERVED, EITHER_PORT, TO_ITR_RLOC],
        drive: ask_unusually,
        judges: &[answered],
        sabotages: &[
            silence("is silent without a Source-EID", &[AFI_0], || swallow_reply(NO_SOURCE_EID)),
            silence("is silent to 32 ITR-RLOCs", &[COUNT], || swallow_reply(THIRTY_TWO)),
            silence("is silent to host bits", &[HOST_BITS], || swallow_reply(WITH_HOST_BITS)),
            silence("is silent to reserved bits", &[RESERVED], || swallow_reply(RESERVED_BITS)),
            silence("is silent to reserved bits of the outer message", &[ECM_RESERVED], || swallow_reply(ECM_BITS)),
            silence("is silent to port 4342", &[EITHER_PORT], || swallow_reply(FROM_4342)),
            silence("is silent to an asker with map-data", &[SEVERAL], || swallow_reply(MAP_DATA)),
            silence("looks at the first ITR-RLOC alone", &[TO_ITR_RLOC], || swallow_reply(USABLE_LAST)),
            silence("answers the first record alone", &[SEVERAL], || spoil_replies(|reply| {
                reply.records.truncate(1);
                reply.nonce == TWO_RECORDS
            })),
        ],
        ..Case::BASE
    }
}

const fn silence(
    name: &'static str,
    kills: &'static [Req],
    tamper: fn() -> crate::sabotage::Tamper,
) -> Sabotage {
    Sabotage {
        name,
        node: ETR,
        links: &["rloc"],
        kills,
        tamper,
    }
}

fn ask_unusually(drive: &mut Drive) -> Result<(), Stop> {
    let net = Net::registered(drive)?;
    let ask = |nonce: u64, number: u8| request(nonce, itr_rloc(number), "10.1.0.10/32");

    net.hand_on(&MapRequest {
        source_eid: Address::None,
        ..ask(NO_SOURCE_EID, 1)
    })?;
    net.hand_on(&MapRequest {
        itr_rlocs: (100..132).map(itr_rloc).map(Address::from).collect(),
        ..ask(THIRTY_TWO, 2)
    })?;
    let mut host_bits = ask(WITH_HOST_BITS, 3);
    host_bits.records = vec![EidQuery {
        reserved: 0,
        mask_len: 24,
        eid: Address::from(crate::cases::common::ip("10.1.0.77")),
    }];
    net.hand_on(&host_bits)?;
    let mut two = ask(TWO_RECORDS, 4);
    two.records
        .push(EidQuery::new(prefix("2001:db8:a::10/128")));
    net.hand_on(&two)?;
    net.hand_on(&MapRequest {
        reserved: 0b101_1111,
        ..ask(RESERVED_BITS, 5)
    })?;
    let message = ControlMessage::MapRequest(ask(ECM_BITS, 6));
    let mut ecm = Ecm::wrap(ITR, HOST, PORT, lisp::CONTROL_PORT, 64, &message);
    // Bits 6 and 7 got meanings elsewhere (ambiguities A13).
    ecm.reserved = 0x00ff_ffff;
    net.mapping
        .control((MS, OUTER_PORT), RLOC, &ControlMessage::Encapsulated(ecm))?;
    let plain = ControlMessage::MapRequest(ask(FROM_4342, 7));
    net.itr.control((ITR, lisp::CONTROL_PORT), RLOC, &plain)?;
    net.hand_on(&MapRequest {
        map_reply: Some(mapping_of_the_asker()),
        ..ask(MAP_DATA, 8)
    })?;
    let mut last = ask(USABLE_LAST, 9);
    last.itr_rlocs.insert(0, Address::None);
    net.hand_on(&last)?;
    for (_, nonce, _, _) in QUESTIONS {
        wait_reply(drive, nonce)?;
    }
    Ok(())
}

fn mapping_of_the_asker() -> MapRecord {
    record("10.2.0.0/16", vec![locator("192.0.2.34", 1, 100)])
}

fn answered(trace: &Trace, findings: &mut Findings) {
    for (requirement, nonce, what, expected) in QUESTIONS {
        let Some(question) = asked(trace, nonce) else {
            findings.unseen(requirement, format!("the Map-Request with {what}"));
            continue;
        };
        // Several records may come in one Map-Reply or in several (ambiguities B5).
        let answers = replies(trace, nonce);
        let brought: Vec<EidPrefix> = answers.iter().flat_map(|packet| prefixes(packet)).collect();
        let expected: Vec<EidPrefix> = expected.iter().map(|text| prefix(text)).collect();
        let evidence: Vec<_> = std::iter::once(question).chain(answers).collect();
        findings.check(
            requirement,
            expected.iter().all(|prefix| brought.contains(prefix)),
            &evidence,
            format!("{what}: a Map-Reply for {}", words::listed(&expected)),
            format!("{what}: answered with {}", words::listed(&brought)),
        );
    }
}
