//! The independent byte vectors: parsed, emitted again, compared field by field, their codes verified.
//!
//! They were typed by hand and dissected by tshark, so they are a witness that this codec did not write.

mod common;

use common::fields::fields;
use common::{hex, octets, vectors};
use lisp::auth::{self, AuthKey, Coverage, HkdfReading, MacAlgorithm};
use lisp::packet::Packet;
use lisp::reencode;

/// The vectors of the reliable transport over TCP, which this codec does not speak.
const NOT_OURS: [&str; 5] = ["T01", "T02", "T03", "T04", "T06"];
/// Where the outer UDP payload starts in a packet over IPv4 without options.
const PAYLOAD: usize = 28;
/// The key of every vector.
const KEY: &[u8] = b"lisp-conformance-key";

#[test]
fn every_vector_is_emitted_byte_for_byte() {
    let mut skipped = Vec::new();
    for (id, vector) in vectors() {
        if NOT_OURS.contains(&id.as_str()) {
            skipped.push(id);
            continue;
        }
        let again = reencode(&octets(&vector.hex)).unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(hex(&again), vector.hex, "{id}: {}", vector.title);
    }
    assert_eq!(skipped, NOT_OURS);
}

/// Whether a vector's packet was decoded to this value of this tshark field.
fn decoded_as(packet: &Packet, name: &str, value: &str) -> bool {
    fields(packet, name).join(",") == value
}

#[test]
fn every_annotated_field_is_what_was_decoded() {
    let mut compared = 0;
    for (id, vector) in vectors()
        .into_iter()
        .filter(|(id, _)| !NOT_OURS.contains(&id.as_str()))
    {
        let packet = Packet::parse(&octets(&vector.hex)).unwrap();
        for (name, expected) in &vector.expect {
            let found = fields(&packet, name);
            assert!(
                decoded_as(&packet, name, expected),
                "{id}: {name}: {expected}, not {found:?}"
            );
            // The comparison can fail: an altered value is noticed.
            let last = if expected.ends_with('0') { "1" } else { "0" };
            let altered = format!("{}{last}", &expected[..expected.len() - 1]);
            assert!(
                !decoded_as(&packet, name, &altered),
                "{id}: {name}: {altered}"
            );
            compared += 1;
        }
    }
    assert!(compared > 150, "only {compared} fields were compared");
}

/// A vector's control message and a key for it.
fn authenticated(id: &str, algorithm: MacAlgorithm) -> (Vec<u8>, AuthKey) {
    let message = octets(&vectors()[id].hex)[PAYLOAD..].to_vec();
    let key = AuthKey::new(message[12], algorithm, KEY);
    (message, key)
}

const SIGNED: [(&str, MacAlgorithm); 8] = [
    ("G01", MacAlgorithm::HmacSha1_96),
    ("N01", MacAlgorithm::HmacSha1_96),
    ("G03", MacAlgorithm::HmacSha1Full),
    ("G04", MacAlgorithm::HmacSha256Full),
    ("G05", MacAlgorithm::HmacSha1_96),
    ("G07", MacAlgorithm::HmacSha256_128),
    ("G08", MacAlgorithm::HkdfSha256(HkdfReading::Salt32)),
    ("N03", MacAlgorithm::HkdfSha256(HkdfReading::Salt32)),
];

#[test]
fn every_code_verifies_and_is_made_again() {
    for (id, algorithm) in SIGNED {
        let (message, key) = authenticated(id, algorithm);
        auth::verify(&message, &key, &[]).unwrap_or_else(|error| panic!("{id}: {error}"));
        let mut again = message.clone();
        let len = algorithm.data_len();
        again[12..14].fill(0xa5);
        again[16..16 + len].fill(0xa5);
        auth::sign(&mut again, &key).unwrap();
        assert_eq!(again, message, "{id}");
    }
}

#[test]
fn any_altered_octet_and_any_other_key_is_refused() {
    for (id, algorithm) in SIGNED {
        let (message, key) = authenticated(id, algorithm);
        for at in 0..message.len() {
            let mut altered = message.clone();
            altered[at] ^= 0x01;
            assert!(
                auth::verify(&altered, &key, &[]).is_err(),
                "{id}: octet {at}"
            );
        }
        let other = AuthKey::new(message[12], algorithm, b"lisp-conformance-kez");
        assert_eq!(
            auth::verify(&message, &other, &[]),
            Err(auth::AuthError::Mismatch),
            "{id}"
        );
        for len in 0..message.len() {
            assert!(
                auth::verify(&message[..len], &key, &[]).is_err(),
                "{id} cut to {len}"
            );
        }
    }
}

#[test]
fn the_untruncated_forms_are_taken_only_where_they_are_accepted() {
    for (id, algorithm, strict) in [
        ("G03", MacAlgorithm::HmacSha1Full, MacAlgorithm::HmacSha1_96),
        (
            "G04",
            MacAlgorithm::HmacSha256Full,
            MacAlgorithm::HmacSha256_128,
        ),
    ] {
        let (message, key) = authenticated(id, strict);
        assert!(matches!(
            auth::verify(&message, &key, &[]),
            Err(auth::AuthError::Form { .. })
        ));
        assert_eq!(
            auth::verify(&message, &key, &[strict, algorithm]),
            Ok(()),
            "{id}"
        );
    }
}

#[test]
fn both_readings_of_what_the_code_covers() {
    let (message, key) = authenticated("G07", MacAlgorithm::HmacSha256_128);
    let mut other = message.clone();
    auth::sign_covering(&mut other, &key, Coverage::ThroughLastRecord).unwrap();
    assert_eq!(
        hex(&other[16..32]),
        vectors()["G07"].alt["last-rloc-record reading"]
    );
    assert_eq!(
        auth::verify(&other, &key, &[]),
        Err(auth::AuthError::Mismatch)
    );
    assert_eq!(
        auth::verify_covering(&other, &key, &[], Coverage::ThroughLastRecord),
        Ok(())
    );
}

#[test]
fn every_reading_of_the_derived_key() {
    let alt = &vectors()["G08"].alt;
    let readings = [
        ("A:", HkdfReading::Salt32),
        ("A16:", HkdfReading::Salt16),
        ("B:", HkdfReading::Info32),
        ("E:", HkdfReading::ExtractOnly),
    ];
    assert_eq!(alt.len(), readings.len());
    for (label, reading) in readings {
        let (mut message, key) = authenticated("G08", MacAlgorithm::HkdfSha256(reading));
        auth::sign(&mut message, &key).unwrap();
        let expected = alt
            .iter()
            .find(|(text, _)| text.starts_with(label))
            .unwrap()
            .1;
        assert_eq!(&hex(&message[16..32]), expected, "{label}");
        let all = HkdfReading::ALL.map(MacAlgorithm::HkdfSha256);
        assert_eq!(auth::verify(&message, &key, &all), Ok(()), "{label}");
    }
}
