//! Values as people read them, for what judges say they expected and saw.
//!
//! A finding is read by somebody who knows LISP, not Rust: a test of this module keeps debug output out of all judges.

use std::fmt::{Display, LowerHex};
use std::time::Duration;

use lisp::wire::{Authentication, MapRecord};

use crate::trace::Seen;

/// A value, or `none`.
pub(crate) fn or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

/// Values with commas between them, or `none`.
pub(crate) fn listed<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if texts.is_empty() {
        "none".to_owned()
    } else {
        texts.join(", ")
    }
}

/// `yes` or `no`.
pub(crate) fn yes(holds: bool) -> &'static str {
    if holds { "yes" } else { "no" }
}

/// Octets in hexadecimal, two digits each.
pub(crate) fn hex(octets: &[u8]) -> String {
    let texts: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    texts.join(" ")
}

/// A time in milliseconds; whole seconds as such.
pub(crate) fn time(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}

/// Gaps between moments, given in seconds.
pub(crate) fn gaps(seconds: &[f64]) -> String {
    listed(seconds.iter().map(|gap| format!("{gap:.1} s")))
}

/// A nonce in hexadecimal, or `none`.
pub(crate) fn nonce(nonce: Option<impl LowerHex>) -> String {
    or_none(nonce.map(|nonce| format!("{nonce:#x}")))
}

/// Nonces in hexadecimal.
pub(crate) fn nonces(nonces: &[u64]) -> String {
    listed(nonces.iter().map(|nonce| format!("{nonce:#x}")))
}

/// Where a packet comes from: `from 192.0.2.2`.
pub(crate) fn from(packet: &Seen) -> String {
    format!("from {}", or_none(packet.source()))
}

/// Where a packet goes: `to 192.0.2.2`.
pub(crate) fn to(packet: &Seen) -> String {
    format!("to {}", or_none(packet.destination()))
}

/// Source and destination port: `4342 > 61000`.
pub(crate) fn ports(ports: Option<(u16, u16)>) -> String {
    or_none(ports.map(|(source, destination)| format!("{source} > {destination}")))
}

/// What records say: EID-Prefix, TTL in minutes, locators with priority, weight and flags.
pub(crate) fn records<'a>(records: impl IntoIterator<Item = &'a MapRecord>) -> String {
    let texts: Vec<String> = records.into_iter().map(record).collect();
    if texts.is_empty() {
        "no record".to_owned()
    } else {
        texts.join("; ")
    }
}

fn record(record: &MapRecord) -> String {
    let eid = record.eid_prefix().map_or_else(
        || format!("{}/{}", record.eid, record.eid_mask_len),
        |prefix| prefix.to_string(),
    );
    let authoritative = u8::from(record.authoritative);
    let mut text = format!(
        "{eid} TTL {} ACT {} A = {authoritative}",
        record.ttl,
        record.action.code()
    );
    if record.map_version != 0 {
        text += &format!(" version {}", record.map_version);
    }
    text + " at " + &locators(record)
}

/// The locators of a record: `192.0.2.2 priority 1 weight 100 L p R`.
pub(crate) fn locators(record: &MapRecord) -> String {
    listed(record.locators.iter().map(|locator| {
        let mut text = format!(
            "{} priority {} weight {}",
            locator.rloc, locator.priority, locator.weight
        );
        for (set, flag) in [
            (locator.local, " L"),
            (locator.probed, " p"),
            (locator.reachable, " R"),
        ] {
            text.push_str(if set { flag } else { "" });
        }
        text
    }))
}

/// Key ID and Algorithm ID of an authenticated message.
pub(crate) fn key_ids(auth: &Authentication) -> String {
    format!("Key ID {}, Algorithm ID {}", auth.key_id, auth.algorithm)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lisp::Address;
    use lisp::wire::{Action, Locator};

    use super::*;

    #[test]
    fn what_is_missing_is_none_and_values_are_in_the_words_of_the_field() {
        assert_eq!(or_none(None::<u8>), "none");
        assert_eq!(or_none(Some(7)), "7");
        assert_eq!(listed([1, 2]), "1, 2");
        assert_eq!(listed([0u8; 0]), "none");
        assert_eq!(gaps(&[1.0, 2.04]), "1.0 s, 2.0 s");
        assert_eq!(
            (nonce(Some(254u64)), nonces(&[1, 255])),
            ("0xfe".into(), "0x1, 0xff".into())
        );
        assert_eq!((yes(true), yes(false)), ("yes", "no"));
        assert_eq!(hex(&[0, 255]), "00 ff");
        assert_eq!(time(Duration::from_millis(1500)), "1500 ms");
        assert_eq!(time(Duration::from_secs(60)), "60 s");
        assert_eq!(ports(Some((4342, 61_000))), "4342 > 61000");
        let mut record =
            MapRecord::negative("10.1.0.0/24".parse().unwrap(), 15, Action::NativelyForward);
        assert_eq!(records([&record]), "10.1.0.0/24 TTL 15 ACT 1 A = 0 at none");
        record.action = Action::NoAction;
        record.authoritative = true;
        record.map_version = 3;
        record.locators = vec![Locator {
            priority: 1,
            weight: 100,
            mpriority: 255,
            mweight: 0,
            reserved: 0,
            local: true,
            probed: false,
            reachable: true,
            rloc: Address::Ipv4([192, 0, 2, 2].into()),
        }];
        assert_eq!(
            records([&record]),
            "10.1.0.0/24 TTL 15 ACT 0 A = 1 version 3 at 192.0.2.2 priority 1 weight 100 L R"
        );
        assert_eq!(records([]), "no record");
    }

    /// `{:?}`, `{name:?}`, `{:.1?}` and the like, outside of tests.
    #[test]
    fn no_judge_prints_debug_text() {
        fn walk(folder: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let judges = text.split("#[cfg(test)]").next().unwrap_or_default();
                for (number, line) in judges.lines().enumerate() {
                    if line.contains("?}") {
                        found.push(format!("{}:{}", path.display(), number + 1));
                    }
                }
            }
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = Vec::new();
        for folder in ["cases", "invariants"] {
            walk(&source.join(folder), &mut found);
        }
        assert!(
            found.is_empty(),
            "expected findings in the field's words, found debug text; `words` has helpers:\n{}",
            found.join("\n")
        );
    }
}
