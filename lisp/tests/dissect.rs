//! The field tree: every bit in exactly one leaf, errors exactly where the codec has them.

mod common;

use common::{octets, vectors};
use lisp::dissect::{Dissection, Kind, Start, dissect};
use lisp::reencode;
use proptest::prelude::*;

/// Every bit belongs to exactly one leaf, and children lie inside their parents.
fn assert_covered(packet: &[u8], dissection: &Dissection) {
    let mut next = 0;
    for leaf in dissection.leaves() {
        assert_eq!(leaf.first_bit(), next, "gap or overlap before {leaf:?}");
        assert!(leaf.width > 0, "{leaf:?}");
        next += leaf.width;
    }
    assert_eq!(next, packet.len() * 8, "the end is not covered");
}

fn assert_consistent(packet: &[u8]) -> Dissection {
    let dissection = dissect(Start::Ip, packet);
    assert_covered(packet, &dissection);
    match reencode(packet) {
        Ok(again) => {
            assert_eq!(again, packet);
            assert_eq!(dissection.errors, []);
        }
        Err(error) => assert!(
            dissection.errors.contains(&error),
            "{error} is not among {:?}",
            dissection.errors
        ),
    }
    dissection
}

#[test]
fn every_bit_of_every_vector_is_in_one_leaf() {
    for (id, vector) in vectors() {
        let packet = octets(&vector.hex);
        let dissection = assert_consistent(&packet);
        let kind = match id.as_bytes()[0] {
            b'D' => Kind::Data,
            // The reliable transport runs over TCP and is not ours.
            b'T' => Kind::Other,
            _ => Kind::Control,
        };
        assert_eq!(dissection.kind, kind, "{id}");
        assert_eq!(dissection.errors.is_empty(), kind != Kind::Other, "{id}");
        for leaf in dissection.leaves() {
            assert!(
                !leaf.section.is_empty() && !leaf.value.is_empty(),
                "{id}: {leaf:?}"
            );
        }
    }
}

#[test]
fn what_is_odd_is_noted_and_is_no_error() {
    let notes_of = |id: &str| {
        let dissection = dissect(Start::Ip, &octets(&vectors()[id].hex));
        dissection
            .notes
            .into_iter()
            .map(|note| (note.offset, note.text))
            .collect::<Vec<_>>()
    };
    assert!(matches!(&notes_of("D07")[..], [(28, text)] if text.contains("N and V")));
    assert!(matches!(&notes_of("D08")[..], [(28, text)] if text.contains("low three flags")));
    assert!(matches!(&notes_of("Q12")[..], [(42, text)] if text.contains("no ITR-RLOC")));
    assert_eq!(notes_of("R01"), []);
}

#[test]
fn a_zero_checksum_is_noted_on_control_messages_alone() {
    let mut packet = octets(&vectors()["R01"].hex);
    packet[26..28].fill(0);
    let dissection = assert_consistent(&packet);
    assert!(matches!(&dissection.notes[..], [note] if note.offset == 26));
    assert_eq!(dissect(Start::Ip, &octets(&vectors()["D01"].hex)).notes, []);
}

#[test]
fn each_truncation_and_each_extension_is_an_error() {
    for (id, vector) in vectors() {
        let packet = octets(&vector.hex);
        for len in 0..packet.len() {
            assert!(
                !assert_consistent(&packet[..len]).errors.is_empty(),
                "{id} cut to {len}"
            );
        }
        let longer = [&packet[..], &[0]].concat();
        assert!(
            !assert_consistent(&longer).errors.is_empty(),
            "{id} with an octet more"
        );
    }
}

/// Cut or extended inside, with outer lengths and checksums made right again: the control message alone is wrong.
#[test]
fn a_control_message_of_the_wrong_length_is_an_error() {
    for (id, vector) in vectors()
        .into_iter()
        .filter(|(id, _)| !id.starts_with(['D', 'T']))
    {
        let packet = octets(&vector.hex);
        let message = &packet[28..];
        let rewrap = |payload: &[u8]| {
            lisp::ip::udp_packet(
                "192.0.2.1".parse().unwrap(),
                "192.0.2.2".parse().unwrap(),
                4342,
                4342,
                64,
                payload,
            )
        };
        assert_eq!(assert_consistent(&rewrap(message)).errors, [], "{id}");
        for len in 0..message.len() {
            let cut = assert_consistent(&rewrap(&message[..len]));
            assert!(!cut.errors.is_empty(), "{id} cut to {len}");
            assert!(
                cut.errors[0].offset <= 28 + len,
                "{id} cut to {len}: {}",
                cut.errors[0]
            );
        }
        let longer = rewrap(&[message, &[0]].concat());
        assert!(
            !assert_consistent(&longer).errors.is_empty(),
            "{id} with an octet more"
        );
    }
}

#[test]
fn other_starts_see_the_same_fields() {
    let vector = octets(&vectors()["Q02"].hex);
    let ip = dissect(Start::Ip, &vector);
    let header = [0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00];
    let frame = [&header[..], &vector].concat();
    let framed = dissect(Start::Ethernet, &frame);
    assert_covered(&frame, &framed);
    assert_eq!((framed.errors, framed.summary), (vec![], ip.summary));
    assert_eq!(
        framed.fields.last().map(|field| &field.value),
        ip.fields.last().map(|field| &field.value)
    );

    let message = dissect(Start::Control, &vector[28..]);
    assert_covered(&vector[28..], &message);
    assert_eq!(message.errors, []);
    let data = octets(&vectors()["D02"].hex);
    let bare = dissect(Start::Data, &data[28..]);
    assert_covered(&data[28..], &bare);
    assert_eq!((bare.errors, bare.kind), (vec![], Kind::Data));
}

#[test]
fn a_short_frame_may_be_padded() {
    let packet = octets(&vectors()["Q12"].hex);
    let header = [0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00];
    let short = lisp::ip::udp_packet(
        "192.0.2.1".parse().unwrap(),
        "192.0.2.2".parse().unwrap(),
        1,
        2,
        64,
        &[],
    );
    let mut frame = [&header[..], &short].concat();
    frame.resize(60, 0);
    let dissection = dissect(Start::Ethernet, &frame);
    assert_covered(&frame, &dissection);
    assert!(matches!(&dissection.errors[..], [error] if error.field == "Destination Port"));
    let mut frame = [&header[..], &packet].concat();
    frame.resize(80, 0);
    assert!(!dissect(Start::Ethernet, &frame).errors.is_empty());
}

proptest! {
    #[test]
    fn arbitrary_octets_are_covered(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        assert_consistent(&octets);
        for start in [Start::Ethernet, Start::Data, Start::Control] {
            assert_covered(&octets, &dissect(start, &octets));
        }
    }

    #[test]
    fn mutated_vectors_are_covered(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let vectors = vectors();
        let vector = which.get(&vectors.values().map(|vector| octets(&vector.hex)).collect::<Vec<_>>()).clone();
        let mut packet = vector.clone();
        for (at, octet) in &changes {
            *at.get_mut(&mut packet) = *octet;
        }
        assert_consistent(&packet);
        // Past the checksums, where the message itself is decoded.
        let mut message = vector[28..].to_vec();
        for (at, octet) in &changes {
            *at.get_mut(&mut message) = *octet;
        }
        for start in [Start::Data, Start::Control] {
            assert_covered(&message, &dissect(start, &message));
        }
    }
}
