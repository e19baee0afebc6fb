//! From a trace to a ladder diagram: which packets are one packet on its way over several links, what they are called,
//! and which of them judges spoke about.

use std::collections::{BTreeMap, BTreeSet};

use lisp::wire::{ControlMessage, DataHeader, MapRecord, MapRequest};

use super::graph::Graph;
use super::ladder::{Column, Event, Kind, Ladder, Mark, MarkKind, Row};
use crate::decode::{Icmp, Ip, Lisp, Transport};
use crate::report::model::sentence;
use crate::results::{CaseResult, RequirementResult};
use crate::trace::{Seen, Trace};
use crate::verdict::Verdict;

/// A packet that was passed on later than this is drawn as one of its own.
const ON_ITS_WAY_NS: u64 = 1_000_000_000;
/// Of the packets that a finding names, so many get its mark.
const MARKED: usize = 3;

impl Ladder {
    /// The diagram of a trace, with what was judged written beside the packets.
    pub fn of_case(trace: &Trace, result: &CaseResult) -> Ladder {
        let mut marks = marks(&result.rows());
        let mut rows: Vec<Row> = trace
            .marks
            .iter()
            // What begins is worth a line; that a step is over shows by the next one.
            .filter(|mark| {
                !(result.id.starts_with("scenario::") && mark.text.ends_with(" is over"))
            })
            .map(|mark| Row::Note {
                time_ns: mark.time_ns,
                text: mark.text.clone(),
            })
            .collect();
        rows.extend(events(trace, &mut marks).into_iter().map(Row::Packet));
        // A note comes before the packets of its moment.
        rows.sort_by_key(|row| (row.time_ns(), matches!(row, Row::Packet(_))));
        let named: BTreeSet<&str> = rows
            .iter()
            .filter_map(|row| match row {
                Row::Packet(event) => Some(event.path.iter().map(String::as_str)),
                Row::Note { .. } => None,
            })
            .flatten()
            .collect();
        let columns: Vec<Column> = trace
            .topology
            .iter()
            .flat_map(|topology| Graph::of(topology, &BTreeMap::new()).columns())
            .filter(|column| named.contains(column.name.as_str()))
            .collect();
        Ladder {
            title: result.id.clone(),
            columns,
            rows,
        }
    }
}

/// Marks by packet number. What is as required is said once, by the first packet that shows it.
fn marks(judged: &[RequirementResult]) -> BTreeMap<usize, Vec<Mark>> {
    let mut marks: BTreeMap<usize, Vec<Mark>> = BTreeMap::new();
    let mut passed: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for row in judged {
        let kind = match row.verdict {
            // Invariants hold on every trace: only the contrary is worth a mark.
            Verdict::Pass if row.invariant => continue,
            Verdict::Pass => {
                if let Some(first) = row.packets.first() {
                    passed.entry(*first).or_default().push(&row.id);
                }
                continue;
            }
            Verdict::Fail => MarkKind::Fail,
            Verdict::Warn => MarkKind::Warn,
            Verdict::Untestable | Verdict::Inconclusive => MarkKind::Info,
            Verdict::Skipped => continue,
        };
        for (index, number) in row.packets.iter().take(MARKED).enumerate() {
            let text = if index == 0 {
                format!("{}: {}", row.id, sentence(row))
            } else {
                row.id.clone()
            };
            marks.entry(*number).or_default().push(Mark { kind, text });
        }
    }
    for (number, ids) in passed {
        marks.entry(number).or_default().push(Mark {
            kind: MarkKind::Pass,
            text: ids.join(", "),
        });
    }
    marks
}

fn events(trace: &Trace, marks: &mut BTreeMap<usize, Vec<Mark>>) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    // The last event of each content, TTL aside: the packet may be on its way.
    let mut under_way: BTreeMap<Vec<u8>, (usize, u64)> = BTreeMap::new();
    for packet in trace.iter() {
        let number = packet.number();
        let marked = marks.remove(&number).unwrap_or_default();
        let Some(ip) = packet.ip() else { continue };
        if marked.is_empty() && is_neighbour_discovery(ip) {
            continue;
        }
        let (from, to) = match (packet.sender(), packet.receiver()) {
            (Some(from), Some(to)) => (from.to_owned(), to.to_owned()),
            _ => (ip.source.to_string(), ip.destination.to_string()),
        };
        let key = ip.without_ttl();
        if let Some((index, last)) = under_way.get_mut(&key) {
            let event = &mut events[*index];
            if event.path.last() == Some(&from)
                && packet.time_ns().saturating_sub(*last) <= ON_ITS_WAY_NS
            {
                event.path.push(to);
                event.links.push(packet.link().to_owned());
                event.numbers.push(number as u64);
                // A finding that names a packet on each of its links is said once.
                for mark in marked {
                    let said = |known: &Mark| {
                        known.kind == mark.kind && known.text.starts_with(&mark.text)
                    };
                    if !event.marks.iter().any(said) {
                        event.marks.push(mark);
                    }
                }
                *last = packet.time_ns();
                continue;
            }
        }
        under_way.insert(key, (events.len(), packet.time_ns()));
        let (kind, label, detail) = describe(packet, ip);
        events.push(Event {
            time_ns: packet.time_ns(),
            path: vec![from, to],
            links: vec![packet.link().to_owned()],
            numbers: vec![number as u64],
            kind,
            label,
            detail,
            marks: marked,
        });
    }
    events
}

/// Router and neighbour discovery and multicast listeners: the noise of every IPv6 link.
fn is_neighbour_discovery(ip: &Ip) -> bool {
    let multicast_listener =
        ip.bytes.get(6) == Some(&0) && ip.source.is_ipv6() && ip.destination.is_multicast();
    multicast_listener
        || ip
            .icmp()
            .is_some_and(|icmp| icmp.v6 && matches!(icmp.kind, 130..=137 | 143))
}

fn describe(packet: &Seen, ip: &Ip) -> (Kind, String, String) {
    match packet.lisp() {
        Lisp::None => {
            let (label, detail) = plain(ip);
            (Kind::Plain, label, format!("{detail}, TTL {}", ip.ttl))
        }
        Lisp::Malformed(error) => (
            Kind::Control,
            "malformed LISP".to_owned(),
            format!("{} → {}: {error}", ip.source, ip.destination),
        ),
        Lisp::Data { header, inner } => {
            let inside = match inner {
                Some(inner) => {
                    let (label, detail) = plain(inner);
                    format!("{label} {detail}, TTL {}, outer TTL {}", inner.ttl, ip.ttl)
                }
                None => "no inner IP packet".to_owned(),
            };
            (
                Kind::Data,
                "LISP data".to_owned(),
                joined([flags_of(header), inside]),
            )
        }
        Lisp::Control { message, inner } => match inner {
            Some(inner) => {
                let (label, detail) = control(&inner.message);
                let ports = if inner.source_port == lisp::CONTROL_PORT {
                    String::new()
                } else {
                    format!("from port {}", inner.source_port)
                };
                (
                    Kind::Control,
                    format!("Encapsulated {label}"),
                    joined([detail, ports]),
                )
            }
            None => {
                let (label, detail) = control(message);
                (Kind::Control, label, detail)
            }
        },
    }
}

fn plain(ip: &Ip) -> (String, String) {
    let way = format!("{} → {}", ip.source, ip.destination);
    match &ip.transport {
        Transport::Udp(udp) => (
            "UDP".to_owned(),
            format!("{way}, port {} → {}", udp.source_port, udp.destination_port),
        ),
        Transport::Tcp {
            source_port,
            destination_port,
        } => (
            "TCP".to_owned(),
            format!("{way}, port {source_port} → {destination_port}"),
        ),
        Transport::Icmp(icmp) if icmp.is_echo_request() => (
            "echo request".to_owned(),
            format!("{way} sequence {}", icmp.echo().1),
        ),
        Transport::Icmp(icmp) if icmp.is_echo_reply() => (
            "echo reply".to_owned(),
            format!("{way} sequence {}", icmp.echo().1),
        ),
        Transport::Icmp(icmp) if icmp.is_too_big() => (
            "packet too big".to_owned(),
            format!("{way}, MTU {}", icmp.mtu()),
        ),
        Transport::Icmp(icmp) => (icmp_name(icmp), way),
        Transport::Other if ip.fragment => ("fragment".to_owned(), way),
        Transport::Other => (format!("protocol {}", ip.protocol), way),
    }
}

/// ICMP and ICMPv6 errors by their names, the rest by type and code.
fn icmp_name(icmp: &Icmp) -> String {
    match (icmp.v6, icmp.kind, icmp.code) {
        (false, 3, 0) | (true, 1, 0) => "no route to the network".to_owned(),
        (false, 3, 1) | (true, 1, 3) => "host unreachable".to_owned(),
        (false, 3, 3) | (true, 1, 4) => "port unreachable".to_owned(),
        (false, 3, 9 | 10 | 13) | (true, 1, 1) => "prohibited".to_owned(),
        (false, 11, 0) | (true, 3, 0) => "TTL exceeded".to_owned(),
        (v6, kind, code) => format!("ICMP{} {kind}/{code}", if v6 { "v6" } else { "" }),
    }
}

/// The flags of a data header by the letters of RFC 6830 5.3, with the fields that they announce.
fn flags_of(header: &DataHeader) -> String {
    let mut parts = Vec::new();
    parts.extend(header.nonce.map(|nonce| format!("N nonce {nonce:06x}")));
    parts.extend(
        header
            .locator_status
            .map(|bits| format!("L status {bits:b}")),
    );
    if header.echo_request {
        parts.push("E".to_owned());
    }
    parts.extend(
        header
            .map_version
            .map(|(from, to)| format!("V versions {from}, {to}")),
    );
    parts.extend(header.instance_id.map(|id| format!("I instance {id}")));
    parts.join(" ")
}

fn control(message: &ControlMessage) -> (String, String) {
    let name = message.name().to_owned();
    match message {
        ControlMessage::MapRequest(request) => {
            (request_name(request).to_owned(), request_detail(request))
        }
        ControlMessage::MapReply(reply) => {
            let name = if reply.probe {
                "Map-Reply to a probe".to_owned()
            } else {
                name
            };
            (name, joined([short(reply.nonce), records(&reply.records)]))
        }
        ControlMessage::MapRegister(register) => {
            let mut flags = Vec::new();
            if register.proxy_reply {
                flags.push("P");
            }
            if register.want_map_notify {
                flags.push("M");
            }
            let key = format!(
                "key {}, algorithm {}",
                register.auth.key_id, register.auth.algorithm
            );
            (
                name,
                joined([
                    short(register.nonce),
                    flags.join(" "),
                    records(&register.records),
                    key,
                ]),
            )
        }
        ControlMessage::MapNotify(notify) => (
            name,
            joined([short(notify.nonce), records(&notify.records)]),
        ),
        _ => (name, String::new()),
    }
}

fn request_name(request: &MapRequest) -> &'static str {
    match (request.probe, request.smr, request.smr_invoked) {
        (true, _, _) => "RLOC-probe",
        (_, true, _) => "Solicit-Map-Request",
        (_, _, true) => "SMR-invoked Map-Request",
        _ => "Map-Request",
    }
}

fn request_detail(request: &MapRequest) -> String {
    let letters = [
        (request.authoritative, "A"),
        (request.map_reply.is_some(), "M"),
        (request.probe, "P"),
        (request.smr, "S"),
        (request.pitr, "p"),
        (request.smr_invoked, "s"),
    ];
    let flags: Vec<&str> = letters
        .into_iter()
        .filter_map(|(set, letter)| set.then_some(letter))
        .collect();
    let asked: Vec<String> = request
        .records
        .iter()
        .map(|query| {
            query
                .prefix()
                .map_or_else(|| "?".to_owned(), |prefix| prefix.to_string())
        })
        .collect();
    let rlocs: Vec<String> = request.itr_rlocs.iter().map(ToString::to_string).collect();
    let source = request
        .source_eid
        .eid()
        .map_or_else(String::new, |(_, eid)| format!("source {eid}"));
    joined([
        short(request.nonce),
        flags.join(" "),
        format!("EID {}", asked.join(" ")),
        source,
        format!("ITR-RLOC {}", rlocs.join(" ")),
    ])
}

fn records(records: &[MapRecord]) -> String {
    let texts = records.iter().map(|record| {
        let prefix = record
            .eid_prefix()
            .map_or_else(|| record.eid.to_string(), |prefix| prefix.to_string());
        let authoritative = if record.authoritative { " A" } else { "" };
        let rest = if record.locators.is_empty() && record.ttl == 0 {
            "withdrawn".to_owned()
        } else if record.locators.is_empty() {
            format!("action {}", record.action.code())
        } else {
            let locators = record.locators.iter().map(|locator| {
                let flags: String = [
                    (locator.local, 'L'),
                    (locator.probed, 'p'),
                    (locator.reachable, 'R'),
                ]
                .into_iter()
                .filter_map(|(set, letter)| set.then_some(letter))
                .collect();
                format!(
                    "{} p{} w{} {flags}",
                    locator.rloc, locator.priority, locator.weight
                )
                .trim_end()
                .to_owned()
            });
            format!("→ {}", locators.collect::<Vec<_>>().join(" + "))
        };
        format!("EID {prefix} TTL {}{authoritative} {rest}", record.ttl)
    });
    texts.collect::<Vec<_>>().join("; ")
}

/// A nonce by its ends: enough to see which answer belongs to which question.
fn short(nonce: u64) -> String {
    if nonce == 0 {
        "nonce 0".to_owned()
    } else {
        format!("nonce {:04x}…{:04x}", nonce >> 48, nonce & 0xffff)
    }
}

fn joined<const N: usize>(parts: [String; N]) -> String {
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(", ")
}
