//! The ladder diagram of a case's trace: who sent what to whom when, with what the judges said.

use std::collections::HashMap;

use crate::draw::{Column, Event, Kind, Ladder, Mark, MarkKind, Row};
use crate::results::CaseResult;
use crate::trace::{Seen, Trace, label};
use crate::verdict::Verdict;

/// A packet on one link and the same packet on the next are one arrow if it took no longer than this, in ns.
const HOP: u64 = 50_000_000;

/// Draws a trace. Packets that routers pass on unchanged (but for their TTL) are one arrow across all links.
pub fn of(trace: &Trace, result: &CaseResult) -> Ladder {
    let mut marks: HashMap<usize, Vec<Mark>> = HashMap::new();
    for found in &result.requirements {
        let kind = match found.verdict {
            Verdict::Pass => MarkKind::Pass,
            Verdict::Skipped => MarkKind::Info,
            Verdict::Warn => MarkKind::Warn,
            Verdict::Inconclusive | Verdict::Untestable | Verdict::Fail => MarkKind::Fail,
        };
        for number in &found.packets {
            let text = format!("{} {}: {}", found.verdict, found.id, found.finding);
            marks.entry(*number).or_default().push(Mark { kind, text });
        }
    }
    let mut rows: Vec<(u64, Row)> = trace
        .marks
        .iter()
        .map(|mark| {
            (
                mark.time_ns,
                Row::Note {
                    time_ns: mark.time_ns,
                    text: mark.text.clone(),
                },
            )
        })
        .collect();
    let mut open: Vec<(Vec<u8>, Event)> = Vec::new();
    for packet in trace.iter() {
        let (Some(from), Some(to), Some(key)) = (packet.sender(), packet.receiver(), key(packet))
        else {
            continue;
        };
        let said = marks.remove(&packet.number()).unwrap_or_default();
        let before = open.iter_mut().rev().find(|(known, event)| {
            *known == key
                && event.path.last().map(String::as_str) == Some(from)
                && packet.time_ns() - event.time_ns <= HOP
        });
        match before {
            Some((_, event)) => {
                event.path.push(to.to_owned());
                event.links.push(packet.link().to_owned());
                event.numbers.push(packet.number() as u64);
                event.marks.extend(said);
            }
            None => {
                let text = label(packet);
                let (head, detail) = text.split_once(' ').unwrap_or((&text, ""));
                let event = Event {
                    time_ns: packet.time_ns(),
                    path: vec![from.to_owned(), to.to_owned()],
                    links: vec![packet.link().to_owned()],
                    numbers: vec![packet.number() as u64],
                    kind: match (packet.is_data(), packet.control().is_some()) {
                        (true, _) => Kind::Data,
                        (_, true) => Kind::Control,
                        _ => Kind::Plain,
                    },
                    label: head.to_owned(),
                    detail: detail.to_owned(),
                    marks: said,
                };
                open.push((key, event));
            }
        }
    }
    rows.extend(
        open.into_iter()
            .map(|(_, event)| (event.time_ns, Row::Packet(event))),
    );
    rows.sort_by_key(|(time, _)| *time);
    let columns = trace.topology.iter().flat_map(|topology| &topology.nodes);
    Ladder {
        title: result.id.clone(),
        columns: columns
            .map(|node| Column {
                name: node.name.clone(),
                role: node.role.clone().unwrap_or_default(),
            })
            .collect(),
        rows: rows.into_iter().map(|(_, row)| row).collect(),
    }
}

/// What stays the same while routers pass a packet on: all of it but TTL and header checksum.
fn key(packet: &Seen) -> Option<Vec<u8>> {
    let ip = packet.ip()?;
    let mut bytes = ip.bytes.clone();
    if ip.source.is_ipv4() {
        for at in [8, 10, 11] {
            *bytes.get_mut(at)? = 0;
        }
    } else {
        *bytes.get_mut(7)? = 0;
    }
    Some(bytes)
}
