//! "Of every packet of this kind, this holds."

use crate::catalogue::Req;
use crate::finding::Findings;
use crate::trace::Seen;

/// Judges each of `packets` by `holds`, which says what is wrong with a packet. Silent if there are none; met if all hold,
/// shown by the first of them; broken otherwise, shown by those that do not hold.
pub(super) fn every<'a>(
    findings: &mut Findings,
    requirement: Req,
    expected: &str,
    packets: impl IntoIterator<Item = &'a Seen>,
    holds: impl Fn(&'a Seen) -> Result<(), String>,
) {
    let (mut count, mut first, mut wrong, mut said) = (0usize, None, Vec::new(), None);
    for packet in packets {
        count += 1;
        first.get_or_insert(packet);
        if let Err(what) = holds(packet) {
            wrong.push(packet);
            said.get_or_insert_with(|| format!("{what} ({})", packet.summary()));
        }
    }
    match said {
        Some(said) => {
            let more = if wrong.len() > 1 {
                format!(", and {} more of {count}", wrong.len() - 1)
            } else {
                String::new()
            };
            wrong.truncate(10);
            findings.broken(requirement, &wrong, expected, format!("{said}{more}"));
        }
        None => {
            if let Some(first) = first {
                findings.met(
                    requirement,
                    first,
                    format!("all {count} packets: {expected}"),
                );
            }
        }
    }
}

/// `Ok` if a condition holds, else what was found.
pub(super) fn expect(holds: bool, found: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(found()) }
}
