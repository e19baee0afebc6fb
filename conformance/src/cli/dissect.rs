//! `lisplab dissect`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lisp::dissect::{Dissection, Field, Kind, Start, dissect};
use serde::Serialize;

use super::{Exit, complain};

/// Version of the JSON form.
const FORMAT: u32 = 1;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A pcapng or pcap file, or one packet in hex (spaces, colons and line breaks are skipped).
    #[arg(value_name = "FILE|HEX")]
    input: String,
    /// For programs; see docs/formats.md.
    #[arg(long, conflicts_with = "reencode")]
    json: bool,
    /// Print in hex what our codec emits for the decoded packet. Exit code 1 if the packet is not valid.
    #[arg(long)]
    reencode: bool,
    /// What the first octet of HEX belongs to.
    #[arg(long, value_enum, default_value = "ip")]
    start: StartAt,
    /// Of a file, also show packets that are not LISP.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum StartAt {
    /// The outer IP header.
    Ip,
    /// An Ethernet header.
    Ethernet,
    /// A LISP control message.
    Control,
    /// A LISP data header.
    Data,
}

/// A packet to look at.
struct Packet {
    number: u64,
    time_ns: Option<u64>,
    interface: Option<String>,
    start: Start,
    octets: Vec<u8>,
    comments: Vec<String>,
}

#[derive(Serialize)]
struct Output {
    format: u32,
    packets: Vec<PacketOutput>,
}

#[derive(Serialize)]
struct PacketOutput {
    number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    kind: &'static str,
    summary: String,
    fields: Vec<FieldOutput>,
    errors: Vec<ErrorOutput>,
    notes: Vec<NoteOutput>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    comments: Vec<String>,
}

#[derive(Serialize)]
struct FieldOutput {
    /// Names of the structures that it is part of, outermost first.
    path: Vec<String>,
    name: String,
    offset: usize,
    bit: usize,
    bits: usize,
    raw: String,
    value: String,
    section: &'static str,
}

#[derive(Serialize)]
struct ErrorOutput {
    message: &'static str,
    field: &'static str,
    offset: usize,
    expected: String,
    found: String,
}

#[derive(Serialize)]
struct NoteOutput {
    offset: usize,
    text: String,
    section: &'static str,
}

pub(crate) fn run(args: &Args) -> Exit {
    let packets = match read(args) {
        Ok(packets) => packets,
        Err(error) => return complain(error, Exit::Input),
    };
    if args.reencode {
        return reencode(&packets);
    }
    let from_file = packets.iter().any(|packet| packet.time_ns.is_some());
    let dissected: Vec<(Packet, Dissection)> = packets
        .into_iter()
        .map(|packet| {
            let dissection = dissect(packet.start, &packet.octets);
            (packet, dissection)
        })
        .filter(|(_, dissection)| !from_file || args.all || dissection.kind != Kind::Other)
        .collect();
    let invalid = dissected
        .iter()
        .any(|(_, dissection)| !dissection.errors.is_empty());
    if args.json {
        let packets = dissected
            .into_iter()
            .map(|(packet, dissection)| output(packet, &dissection))
            .collect();
        let mut text = serde_json::to_string_pretty(&Output {
            format: FORMAT,
            packets,
        })
        .expect("strings and numbers serialize");
        text.push('\n');
        super::print(&text);
    } else {
        for (packet, dissection) in &dissected {
            super::print(&for_people(packet, dissection));
        }
    }
    if invalid { Exit::Findings } else { Exit::Fine }
}

fn reencode(packets: &[Packet]) -> Exit {
    let mut exit = Exit::Fine;
    for packet in packets {
        match lisp::reencode(&packet.octets) {
            Ok(octets) => super::print(&(hex(&octets) + "\n")),
            Err(error) => {
                let which = if packets.len() > 1 {
                    format!("packet {}: ", packet.number)
                } else {
                    String::new()
                };
                exit = complain(format!("{which}{error}"), Exit::Findings);
            }
        }
    }
    exit
}

fn read(args: &Args) -> Result<Vec<Packet>, String> {
    let path = Path::new(&args.input);
    let octets = match parse_hex(&args.input) {
        Ok(octets) if !path.is_file() => octets,
        Err(problem) if !path.is_file() => {
            let looks_like_a_path = args.input.contains(['/', '.']);
            return Err(if looks_like_a_path {
                let found = if path.exists() {
                    "expected a file, found something else"
                } else {
                    "there is no such file"
                };
                format!(
                    "{}: {found}\n  hint: give a pcapng or pcap file, or one packet in hex",
                    args.input
                )
            } else {
                problem
            });
        }
        _ => return read_file(path, args.reencode),
    };
    let start = match args.start {
        StartAt::Ip => Start::Ip,
        StartAt::Ethernet => Start::Ethernet,
        StartAt::Control => Start::Control,
        StartAt::Data => Start::Data,
    };
    if args.reencode && start != Start::Ip {
        return Err(
            "--reencode takes packets from the outer IP header on: leave --start out".to_owned(),
        );
    }
    Ok(vec![Packet {
        number: 1,
        time_ns: None,
        interface: None,
        start,
        octets,
        comments: Vec::new(),
    }])
}

fn read_file(path: &Path, only_ip: bool) -> Result<Vec<Packet>, String> {
    let in_file =
        |error: &dyn std::fmt::Display| format!("{}: {error}", PathBuf::from(path).display());
    let octets = std::fs::read(path).map_err(|error| in_file(&error))?;
    let capture = harness::pcapng::read(&octets).map_err(|error| in_file(&error))?;
    let mut packets = Vec::new();
    for packet in capture.packets {
        let (start, octets) = match packet.interface.link_type {
            1 if only_ip => match conformance::decode::ethernet(&packet.data) {
                Some(ip) => (Start::Ip, ip.bytes),
                None => continue,
            },
            1 => (Start::Ethernet, packet.data.to_vec()),
            101 | 228 | 229 => (Start::Ip, packet.data.to_vec()),
            other => {
                return Err(in_file(&format!(
                    "packet {}: expected link type 1 (Ethernet) or 101 (raw IP), found {other}",
                    packet.number
                )));
            }
        };
        packets.push(Packet {
            number: packet.number,
            time_ns: Some(packet.time_ns),
            interface: Some(packet.interface.name.clone()),
            start,
            octets,
            comments: packet.comments,
        });
    }
    if only_ip {
        packets.retain(|packet| {
            conformance::decode::ip(&packet.octets).is_some_and(|ip| {
                !matches!(
                    conformance::decode::lisp(&ip),
                    conformance::decode::Lisp::None
                )
            })
        });
    }
    Ok(packets)
}

/// Octets from hex digits; spaces, colons and line breaks may stand between any two digits.
fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let mut digits = Vec::new();
    for (at, letter) in text.strip_prefix("0x").unwrap_or(text).chars().enumerate() {
        match letter.to_digit(16) {
            Some(digit) => digits.push(digit as u8),
            None if letter.is_whitespace() || letter == ':' => {}
            None => {
                return Err(format!(
                    "hex, character {}: expected a hex digit, found {letter:?}",
                    at + 1
                ));
            }
        }
    }
    if digits.is_empty() || digits.len() % 2 == 1 {
        return Err(format!(
            "hex: expected two digits for each octet, found {} digits",
            digits.len()
        ));
    }
    Ok(digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect())
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn output(packet: Packet, dissection: &Dissection) -> PacketOutput {
    let mut fields = Vec::new();
    for field in &dissection.fields {
        flatten(field, &mut Vec::new(), &mut fields);
    }
    PacketOutput {
        number: packet.number,
        time_ns: packet.time_ns,
        interface: packet.interface,
        kind: match dissection.kind {
            Kind::Data => "data",
            Kind::Control => "control",
            Kind::Other => "other",
        },
        summary: dissection.summary.clone(),
        fields,
        errors: dissection
            .errors
            .iter()
            .map(|error| ErrorOutput {
                message: error.message,
                field: error.field,
                offset: error.offset,
                expected: error.expected.clone(),
                found: error.found.clone(),
            })
            .collect(),
        notes: dissection
            .notes
            .iter()
            .map(|note| NoteOutput {
                offset: note.offset,
                text: note.text.clone(),
                section: note.section,
            })
            .collect(),
        comments: packet.comments,
    }
}

fn flatten(field: &Field, path: &mut Vec<String>, fields: &mut Vec<FieldOutput>) {
    if field.children.is_empty() {
        fields.push(FieldOutput {
            path: path.clone(),
            name: field.name.clone(),
            offset: field.offset,
            bit: field.bit,
            bits: field.width,
            raw: field.raw.clone(),
            value: field.value.clone(),
            section: field.section,
        });
        return;
    }
    path.push(field.name.clone());
    for child in &field.children {
        flatten(child, path, fields);
    }
    path.pop();
}

fn for_people(packet: &Packet, dissection: &Dissection) -> String {
    let mut text = format!("packet {}", packet.number);
    if let Some(interface) = &packet.interface {
        let _ = write!(text, " on {interface}");
    }
    let _ = writeln!(text, ": {}", dissection.summary);
    for comment in &packet.comments {
        let _ = writeln!(text, "  comment: {comment}");
    }
    for field in &dissection.fields {
        line(&mut text, field, 1);
    }
    for note in &dissection.notes {
        let _ = writeln!(
            text,
            "  note: offset {}: {} ({})",
            note.offset, note.text, note.section
        );
    }
    for error in &dissection.errors {
        let _ = writeln!(text, "  error: {error}");
    }
    text.push('\n');
    text
}

fn line(text: &mut String, field: &Field, depth: usize) {
    let indent = "  ".repeat(depth);
    let bits = match (field.bit, field.width) {
        (0, width) if width % 8 == 0 => String::new(),
        (bit, 1) => format!(".{bit}"),
        (bit, width) => format!(".{bit}-{}", bit + width - 1),
    };
    let place = format!("{:04x}{bits}", field.offset);
    let value = if field.value.is_empty() {
        String::new()
    } else {
        format!(": {}", field.value)
    };
    let raw = if field.raw.is_empty() || field.raw.len() > 40 {
        String::new()
    } else {
        format!(" [{}]", field.raw)
    };
    let _ = writeln!(
        text,
        "{place:<10} {indent}{}{value}{raw}  ({})",
        field.name, field.section
    );
    for child in &field.children {
        line(text, child, depth + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_with_any_spacing_and_refused_with_a_place() {
        assert_eq!(parse_hex("0x4500:00 1c\n"), Ok(vec![0x45, 0, 0, 0x1c]));
        assert!(parse_hex("45x").unwrap_err().contains("character 3"));
        assert!(parse_hex("450").unwrap_err().contains("3 digits"));
        assert!(parse_hex("").is_err());
    }
}
