//! The Internet checksum (RFC 1071), and its change when one word changes (RFC 1624).

/// Unfolded sum of a byte string, as native-endian 16-bit words: byte order does not matter to the folded result
/// as long as it is stored natively again.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    // Eight independent accumulators, so that the compiler can use vectors.
    let mut lanes = [0u64; 8];
    let mut chunks = bytes.chunks_exact(32);
    for chunk in &mut chunks {
        for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(4)) {
            *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
    let mut total: u64 = lanes.iter().sum();
    let mut pairs = chunks.remainder().chunks_exact(2);
    for pair in &mut pairs {
        total += u64::from(u16::from_ne_bytes([pair[0], pair[1]]));
    }
    if let [last] = pairs.remainder() {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    total
}

/// Folds a sum to 16 bits, not complemented.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The two octets to store as the checksum over `sum`.
pub(crate) fn finish(sum: u64) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

/// Sum of the pseudo-header of an IPv4 or IPv6 packet (RFC 793 3.1, RFC 8200 8.1). `packet` starts at the IP header.
pub(crate) fn pseudo(packet: &[u8], v6: bool, protocol: u8, upper_length: usize) -> u64 {
    let addresses = if v6 { &packet[8..40] } else { &packet[12..20] };
    let length = (upper_length as u32).to_be_bytes();
    sum(addresses) + sum(&length) + u64::from(u16::from_ne_bytes([0, protocol]))
}

/// Changes one 16-bit word of a packet and the checksum that covers it (RFC 1624 3).
pub(crate) fn replace_word(packet: &mut [u8], at: usize, word: [u8; 2], checksum_at: usize) {
    let old = u16::from_ne_bytes([packet[at], packet[at + 1]]);
    let new = u16::from_ne_bytes(word);
    let before = u16::from_ne_bytes([packet[checksum_at], packet[checksum_at + 1]]);
    let after = !fold(u64::from(!before) + u64::from(!old) + u64::from(new));
    packet[at..at + 2].copy_from_slice(&word);
    packet[checksum_at..checksum_at + 2].copy_from_slice(&after.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_the_book(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while total >> 16 != 0 {
            total = (total & 0xffff) + (total >> 16);
        }
        !(total as u16)
    }

    #[test]
    fn example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(finish(sum(&bytes)), (!0xddf2u16).to_be_bytes());
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(finish(sum(&bytes)), by_the_book(&bytes).to_be_bytes());
        }

        #[test]
        fn incremental_change_equals_a_new_sum(mut header in proptest::array::uniform20(any::<u8>()), ttl in any::<[u8; 2]>()) {
            header[10..12].fill(0);
            let valid = finish(sum(&header));
            header[10..12].copy_from_slice(&valid);
            replace_word(&mut header, 8, ttl, 10);
            // All-zero and all-one checksums mean the same: compare by verification.
            prop_assert_eq!(fold(sum(&header)), 0xffff);
        }
    }
}
