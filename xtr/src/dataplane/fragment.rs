//! Splitting before encapsulation: the stateless scheme of RFC 6830 5.4.1.

use super::checksum::{finish, sum};
use super::inner::Inner;

/// Splits an IPv4 packet into fragments of at most `limit` octets, as equal as the 8-octet rule allows: two for
/// everything up to twice the limit, as the section says, more for what is larger still. None: `limit` leaves no
/// room for a header and 8 octets.
pub(crate) fn fragment(packet: &[u8], inner: &Inner, limit: usize) -> Option<Vec<Vec<u8>>> {
    let packet = &packet[..inner.len];
    let (header, payload) = packet.split_at(inner.header_len);
    let room = limit.checked_sub(header.len())? / 8 * 8;
    if room == 0 {
        return None;
    }
    let count = payload.len().div_ceil(room).max(1);
    let share = share(payload.len(), count, room);
    let word = u16::from_be_bytes([header[6], header[7]]);
    let (base, more_after) = (usize::from(word & 0x1fff), word & 0x2000 != 0);
    let later_header = without_uncopied_options(header);
    let mut fragments = Vec::with_capacity(count);
    let mut offset = 0;
    while offset < payload.len() {
        let last = fragments.len() + 1 == count;
        let end = if last { payload.len() } else { offset + share };
        let more = more_after || end < payload.len();
        let header = if offset == 0 { header } else { &later_header };
        let mut bytes = Vec::with_capacity(header.len() + end - offset);
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(&payload[offset..end]);
        let length = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let position = (base + offset / 8) as u16 & 0x1fff;
        let word = position | if more { 0x2000 } else { 0 };
        bytes[6..8].copy_from_slice(&word.to_be_bytes());
        bytes[10..12].fill(0);
        let checksum = finish(sum(&bytes[..header.len()]));
        bytes[10..12].copy_from_slice(&checksum);
        fragments.push(bytes);
        offset = end;
    }
    Some(fragments)
}

/// Octets of every fragment but the last: the multiple of 8 that is nearest to equal parts and leaves no more than `room`
/// for the last.
fn share(payload: usize, count: usize, room: usize) -> usize {
    let equal = payload.div_ceil(count);
    let up = equal.next_multiple_of(8).min(room);
    let down = up.saturating_sub(8);
    let last = payload - down * (count - 1);
    let unequal = |share: usize| (share * count).abs_diff(payload);
    if down > 0 && last <= room && unequal(down) < unequal(up) {
        down
    } else {
        up
    }
}

/// The header of a fragment that is not the first: only options with the copied flag stay (RFC 791 3.1).
fn without_uncopied_options(header: &[u8]) -> Vec<u8> {
    let mut kept = header[..20].to_vec();
    let mut rest = &header[20..];
    while let Some(&kind) = rest.first() {
        let length = match kind {
            0 => break,
            1 => 1,
            _ => usize::from(*rest.get(1).unwrap_or(&0)),
        };
        if length == 0 || length > rest.len() {
            break;
        }
        if kind & 0x80 != 0 {
            kept.extend_from_slice(&rest[..length]);
        }
        rest = &rest[length..];
    }
    kept.resize(kept.len().next_multiple_of(4), 0);
    kept[0] = 0x40 | (kept.len() / 4) as u8;
    kept
}
