//! Stepping over a packet and growing the tree. It is lenient: where the octets end, the tree ends.

use std::fmt::Write as _;

use super::{Field, Kind, Note};
use crate::error::DecodeError;
use crate::wire::bits::Bits;

/// The octets ended or make no sense from here on; the codec's own error says why.
pub(super) struct Stop;

pub(super) type Walked<T = ()> = Result<T, Stop>;

/// How a leaf's value is shown.
#[derive(Clone, Copy)]
pub(super) enum Show {
    Number,
    Hex,
    Flag,
    With(fn(u64) -> String),
}

/// A leaf of a fixed part.
pub(super) type Leaf = (Bits, Show);

/// Position in the packet, and the tree so far.
pub(super) struct Walk<'a> {
    pub(super) buffer: &'a [u8],
    pub(super) at: usize,
    pub(super) end: usize,
    pub(super) section: &'static str,
    pub(super) fields: Vec<Field>,
    pub(super) errors: Vec<DecodeError>,
    pub(super) notes: Vec<Note>,
    pub(super) kind: Kind,
}

impl<'a> Walk<'a> {
    pub(super) fn new(buffer: &'a [u8], section: &'static str) -> Self {
        Walk {
            buffer,
            at: 0,
            end: buffer.len(),
            section,
            fields: Vec::new(),
            errors: Vec::new(),
            notes: Vec::new(),
            kind: Kind::Other,
        }
    }

    /// What is left of the current structure.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.buffer[self.at..self.end]
    }

    /// A note on the octet at the current position plus `ahead`.
    pub(super) fn note(&mut self, ahead: usize, section: &'static str, text: impl Into<String>) {
        let offset = self.at + ahead;
        self.notes.push(Note {
            offset,
            text: text.into(),
            section,
        });
    }

    /// A fixed part whose leaves cover `len` octets; steps over it and returns it.
    pub(super) fn fixed(&mut self, len: usize, leaves: &[Leaf]) -> Walked<&'a [u8]> {
        let rest = self.rest();
        for (bits, show) in leaves {
            if bits.first + bits.width <= rest.len() * 8 {
                self.leaf(rest, *bits, *show);
            }
        }
        if rest.len() < len {
            // The leaves that fit stand; the remainder belongs to the one that was cut.
            let whole = leaves.iter().map(|(bits, _)| bits.first + bits.width);
            let covered = whole
                .filter(|end| *end <= rest.len() * 8)
                .max()
                .unwrap_or(0);
            let cut = Bits::new("cut off", covered, rest.len() * 8 - covered);
            if cut.width > 0 {
                self.leaf(rest, cut, Show::Hex);
            }
            self.at = self.end;
            return Err(Stop);
        }
        self.at += len;
        Ok(&rest[..len])
    }

    fn leaf(&mut self, octets: &[u8], bits: Bits, show: Show) {
        let aligned = bits.first.is_multiple_of(8) && bits.width.is_multiple_of(8);
        let number = if bits.width <= 64 {
            bits.get(octets)
        } else {
            0
        };
        let raw = match aligned || bits.width > 64 {
            true => hex(&octets[bits.first / 8..(bits.first + bits.width) / 8]),
            false => format!("{number:0digits$x}", digits = bits.width.div_ceil(4)),
        };
        let value = match show {
            Show::Number => number.to_string(),
            Show::Hex => format!("0x{raw}"),
            Show::Flag => if number == 0 { "not set" } else { "set" }.to_owned(),
            Show::With(text) => text(number),
        };
        self.fields.push(Field {
            name: bits.name.to_owned(),
            offset: self.at + bits.first / 8,
            bit: bits.first % 8,
            width: bits.width,
            raw,
            value,
            section: self.section,
            children: Vec::new(),
        });
    }

    /// These leaves, just shown, are defined in another section than the structure that they stand in.
    pub(super) fn cite(&mut self, leaves: &[Bits], section: &'static str) {
        for field in &mut self.fields {
            if leaves.iter().any(|bits| bits.name == field.name) {
                field.section = section;
            }
        }
    }

    /// A leaf of whole octets, if they are there.
    pub(super) fn octets(
        &mut self,
        name: &str,
        len: usize,
        value: impl FnOnce(&[u8]) -> String,
    ) -> Walked<&'a [u8]> {
        let rest = self.rest();
        if rest.len() < len {
            self.leftover("cut off");
            return Err(Stop);
        }
        let octets = &rest[..len];
        if len > 0 {
            self.fields.push(Field {
                name: name.to_owned(),
                offset: self.at,
                bit: 0,
                width: len * 8,
                raw: hex(octets),
                value: value(octets),
                section: self.section,
                children: Vec::new(),
            });
        }
        self.at += len;
        Ok(octets)
    }

    /// What is left, as one leaf; nothing if nothing is.
    pub(super) fn leftover(&mut self, name: &str) {
        let len = self.end - self.at;
        let shown = self.octets(name, len, count);
        debug_assert!(shown.is_ok(), "what is left is there");
    }

    /// A field with children; `value` is known afterwards. Empty ones are not added.
    pub(super) fn group<T>(
        &mut self,
        name: impl Into<String>,
        section: &'static str,
        body: impl FnOnce(&mut Self) -> Walked<T>,
        value: impl FnOnce(&T) -> String,
    ) -> Walked<T> {
        let offset = self.at;
        let outer_fields = std::mem::take(&mut self.fields);
        let outer_section = std::mem::replace(&mut self.section, section);
        let result = body(self);
        self.section = outer_section;
        let children = std::mem::replace(&mut self.fields, outer_fields);
        if !children.is_empty() {
            self.fields.push(Field {
                name: name.into(),
                offset,
                bit: 0,
                width: (self.at - offset) * 8,
                raw: String::new(),
                value: result
                    .as_ref()
                    .map_or_else(|Stop| "cut off or undecodable".into(), value),
                section,
                children,
            });
        }
        result
    }

    /// Runs `body` on the next `len` octets alone (fewer if there are fewer); what it leaves is one more leaf.
    pub(super) fn within<T>(&mut self, len: usize, body: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.end;
        self.end = self.end.min(self.at.saturating_add(len));
        let result = body(self);
        self.leftover("undecoded octets");
        self.end = outer;
        result
    }
}

/// How many octets there are, as the value of a leaf that is not looked into.
pub(super) fn count(octets: &[u8]) -> String {
    match octets.len() {
        1 => "1 octet".into(),
        many => format!("{many} octets"),
    }
}

/// Octets as lower-case hex without spaces.
pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().fold(
        String::with_capacity(octets.len() * 2),
        |mut text, octet| {
            let written = write!(text, "{octet:02x}");
            debug_assert!(written.is_ok(), "writing to a String does not fail");
            text
        },
    )
}
