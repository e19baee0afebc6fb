//! The ladder diagram: who sent what to whom when. One column per node, one row per packet, time downwards.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a ladder diagram shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ladder {
    /// Heading, such as the id of a case.
    pub title: String,
    /// Nodes from left to right. A node that only a packet names gets a column after these.
    pub columns: Vec<Column>,
    /// Packets and notes in the order of time.
    pub rows: Vec<Row>,
}

/// A node of the diagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name of the node, as packets name it.
    pub name: String,
    /// What the node is, shown below the name; may be empty.
    pub role: String,
}

/// One line of the diagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A packet on its way.
    Packet(Event),
    /// Something that the test did, written across all columns.
    Note {
        /// Nanoseconds on the clock of the packets.
        time_ns: u64,
        /// What was done.
        text: String,
    },
}

/// One packet, with all the links that it crossed unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds on any clock that all rows share; the diagram counts from its first row.
    pub time_ns: u64,
    /// Nodes in order: the sender, those that passed the packet on, the receiver. At least two.
    pub path: Vec<String>,
    /// Names of the links between them.
    pub links: Vec<String>,
    /// Numbers of the packet in the capture, one per link.
    pub numbers: Vec<u64>,
    /// Which of the looks it gets.
    pub kind: Kind,
    /// Message type, such as `Map-Request`.
    pub label: String,
    /// Key fields, such as `nonce 3f2a… EID 10.2.0.0/24`.
    pub detail: String,
    /// What judges said about this packet.
    pub marks: Vec<Mark>,
}

/// The look of an arrow: colour and dash pattern say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A LISP control message.
    Control,
    /// A packet inside a LISP data header.
    Data,
    /// Anything else: traffic as hosts send it, ICMP errors.
    Plain,
}

/// What one requirement says about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Good or bad.
    pub kind: MarkKind,
    /// The requirement and what was found.
    pub text: String,
}

/// Good or bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkKind {
    /// As required.
    Pass,
    /// Against a requirement.
    Fail,
    /// Against a recommendation.
    Warn,
    /// Worth a look.
    Info,
}

impl MarkKind {
    /// One character that says it without colour.
    pub fn symbol(self) -> char {
        match self {
            MarkKind::Pass => '✓',
            MarkKind::Fail => '✗',
            MarkKind::Warn => '!',
            MarkKind::Info => 'i',
        }
    }

    pub(crate) fn class(self) -> &'static str {
        match self {
            MarkKind::Pass => "pass",
            MarkKind::Fail => "fail",
            MarkKind::Warn => "warn",
            MarkKind::Info => "info",
        }
    }
}

impl Kind {
    pub(crate) fn class(self) -> &'static str {
        match self {
            Kind::Control => "control",
            Kind::Data => "data",
            Kind::Plain => "plain",
        }
    }
}

impl Row {
    /// When it was, in nanoseconds.
    pub fn time_ns(&self) -> u64 {
        match self {
            Row::Packet(event) => event.time_ns,
            Row::Note { time_ns, .. } => *time_ns,
        }
    }
}

impl Ladder {
    /// The diagram as an SVG document that follows the reader's choice of light or dark.
    pub fn svg(&self) -> String {
        super::ladder_layout::svg(self, true)
    }

    /// The same for a page that brings the style once for all its diagrams.
    pub(crate) fn svg_for_page(&self) -> String {
        super::ladder_layout::svg(self, false)
    }

    /// The diagram as lines of text, for terminals and for readers who cannot see the picture.
    pub fn text(&self) -> String {
        let start = self.start_ns();
        let mut out = String::new();
        for row in &self.rows {
            let time = seconds(row.time_ns().saturating_sub(start));
            // Writing into a String cannot fail.
            let _ = match row {
                Row::Note { text, .. } => writeln!(out, "{time}  -- {text}"),
                Row::Packet(event) => {
                    let written = writeln!(
                        out,
                        "{time}  {} {}: {}{}{}",
                        numbers(&event.numbers),
                        event.path.join(" > "),
                        event.label,
                        if event.detail.is_empty() { "" } else { " " },
                        event.detail
                    );
                    for mark in &event.marks {
                        let _ = writeln!(out, "          {} {}", mark.kind.symbol(), mark.text);
                    }
                    written
                }
            };
        }
        out
    }

    /// The same diagram with at most about `limit` rows: of packets that look alike (same path and message type, no
    /// mark) only the first ones stay, and a note says how many were left out.
    pub fn condensed(&self, limit: usize) -> Ladder {
        if self.rows.len() <= limit {
            return self.clone();
        }
        let mut keep = 8;
        loop {
            let shorter = self.keeping(keep);
            if shorter.rows.len() <= limit || keep == 1 {
                return shorter;
            }
            keep /= 2;
        }
    }

    fn keeping(&self, each: usize) -> Ladder {
        let mut seen: BTreeMap<(&[String], &str), usize> = BTreeMap::new();
        let mut rows = Vec::new();
        let mut left_out = 0;
        for row in &self.rows {
            let shown = match row {
                Row::Packet(event) if event.marks.is_empty() => {
                    let count = seen.entry((&event.path, &event.label)).or_default();
                    *count += 1;
                    *count <= each
                }
                _ => true,
            };
            if !shown {
                left_out += 1;
                continue;
            }
            push_left_out(&mut rows, &mut left_out, row.time_ns());
            rows.push(row.clone());
        }
        push_left_out(
            &mut rows,
            &mut left_out,
            self.rows.last().map_or(0, Row::time_ns),
        );
        Ladder {
            title: self.title.clone(),
            columns: self.columns.clone(),
            rows,
        }
    }

    pub(crate) fn start_ns(&self) -> u64 {
        self.rows.iter().map(Row::time_ns).min().unwrap_or(0)
    }

    /// Columns as given, then those that only packets name.
    pub(crate) fn all_columns(&self) -> Vec<Column> {
        let mut columns = self.columns.clone();
        for row in &self.rows {
            let Row::Packet(event) = row else { continue };
            for name in &event.path {
                if !columns.iter().any(|column| column.name == *name) {
                    columns.push(Column {
                        name: name.clone(),
                        role: String::new(),
                    });
                }
            }
        }
        columns
    }
}

fn push_left_out(rows: &mut Vec<Row>, left_out: &mut usize, time_ns: u64) {
    if *left_out > 0 {
        let text = format!("{left_out} more packets like those above, not drawn");
        rows.push(Row::Note { time_ns, text });
        *left_out = 0;
    }
}

/// `#12 #15`, or a range for long runs.
pub(crate) fn numbers(numbers: &[u64]) -> String {
    match numbers {
        [] => String::new(),
        [first, .., last] if numbers.len() > 3 => format!("#{first}…#{last}"),
        _ => numbers
            .iter()
            .map(|number| format!("#{number}"))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

/// Seconds with microseconds, as Wireshark writes them.
pub(crate) fn seconds(ns: u64) -> String {
    format!("{}.{:06}", ns / 1_000_000_000, ns / 1000 % 1_000_000)
}
