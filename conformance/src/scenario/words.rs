//! The words of the language that more than one file needs: the reader, the matcher, the schema.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Kinds of packets, and what each is.
pub(super) const KINDS: &[(&str, &str)] = &[
    ("any", "any IP packet"),
    ("data", "a LISP data packet"),
    (
        "map-request",
        "a Map-Request, plain or encapsulated: also an SMR or a probe",
    ),
    ("smr", "a Map-Request with the S bit"),
    ("smr-invoked", "a Map-Request with the s bit"),
    ("rloc-probe", "a Map-Request with the P bit"),
    ("map-reply", "a Map-Reply"),
    (
        "negative-map-reply",
        "a Map-Reply in which no record has a locator",
    ),
    ("probe-reply", "a Map-Reply with the P bit"),
    ("map-register", "a Map-Register"),
    ("map-notify", "a Map-Notify"),
    ("map-notify-ack", "a Map-Notify-Ack"),
    ("map-referral", "a Map-Referral"),
    (
        "malformed",
        "something at a LISP port that cannot be decoded",
    ),
    ("echo-request", "an ICMP or ICMPv6 echo request"),
    ("echo-reply", "an ICMP or ICMPv6 echo reply"),
    ("icmp-error", "any other ICMP, or an ICMPv6 error"),
    ("udp", "a UDP datagram that is not LISP"),
    ("tcp", "TCP"),
];

/// Flags of messages; `not-` in front asks for a clear one.
pub(super) const FLAGS: &[(&str, &str)] = &[
    ("authoritative", "A of a Map-Request"),
    ("probe", "P of a Map-Request or Map-Reply"),
    ("smr", "S of a Map-Request"),
    ("pitr", "p of a Map-Request"),
    ("smr-invoked", "s of a Map-Request"),
    ("echo-nonce", "E of a Map-Reply or a data packet"),
    ("security", "S of a Map-Reply or Map-Register"),
    ("proxy-reply", "P of a Map-Register"),
    ("want-map-notify", "M of a Map-Register"),
    ("merge", "a of a Map-Register"),
    ("use-ttl", "T of a Map-Register"),
    ("nonce-present", "N of a data packet"),
    ("locator-status", "L of a data packet"),
    ("map-version", "V of a data packet"),
    ("instance-id", "I of a data packet"),
];

/// Actions of negative records.
pub(super) const ACTIONS: &[(&str, u8)] = &[
    ("no-action", 0),
    ("natively-forward", 1),
    ("send-map-request", 2),
    ("drop", 3),
];

/// A time: `500ms`, `1.5s`, `2m`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let units = [("ms", 1e-3), ("us", 1e-6), ("s", 1.0), ("m", 60.0)];
    let (number, unit) = units
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))?;
    let seconds = number.trim().parse::<f64>().ok()? * unit;
    (0.0..=600.0)
        .contains(&seconds)
        .then(|| Duration::from_secs_f64(seconds))
}

/// What a time looks like, for messages.
pub(super) const DURATION: &str = "a time like 500ms, 1.5s or 2m (at most 10m)";

/// A number or a range: `5`, `1..3`, `3..`, `..3`; both ends belong to it.
pub(super) fn range(text: &str) -> Option<RangeInclusive<u64>> {
    let Some((low, high)) = text.split_once("..") else {
        return text.parse().ok().map(|number| number..=number);
    };
    let end = |text: &str, open: u64| match text.trim() {
        "" => Some(open),
        text => text.parse().ok(),
    };
    let (low, high) = (end(low, 0)?, end(high, u64::MAX)?);
    (low <= high).then_some(low..=high)
}

/// What a range looks like, for messages.
pub(super) const RANGE: &str = "a number, or a range like 1..3, 3.. or ..3";

/// A nonce: decimal, or hex with 0x.
pub(super) fn nonce(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Octets in hex; blanks, colons and line ends may stand between them.
pub(super) fn octets(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != ':')
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let octet = |pair: &[u32]| (pair[0] << 4 | pair[1]) as u8;
    Some(digits.chunks(2).map(octet).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        for wrong in ["", "5", "5h", "-1s", "11m", "NaNs"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        assert_eq!(range("1..3"), Some(1..=3));
        assert_eq!(range("3.."), Some(3..=u64::MAX));
        assert_eq!(range("7"), Some(7..=7));
        for wrong in ["", "3..1", "a", "1-3"] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
        assert_eq!(nonce("0xff"), Some(255));
        assert_eq!(octets("45 00\n0:0"), Some(vec![0x45, 0, 0]));
        assert_eq!(octets("450"), None);
        assert_eq!(octets("4g"), None);
    }
}
