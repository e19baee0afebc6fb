//! Reading capture files: pcapng in both byte orders with any timestamp resolution, and classic pcap.
//!
//! Strict: a length that does not fit, a packet of an unknown interface, a file that ends in the middle of a block are
//! errors with the offset. Nothing is allocated from a length that was not checked against the file.

use std::sync::Arc;

use crate::capture::{Direction, Interface, Packet};

/// The content of a capture file.
#[derive(Clone, Debug, Default)]
pub struct CaptureFile {
    /// The interfaces, in the order of the file.
    pub interfaces: Vec<Arc<Interface>>,
    /// The packets, in the order of the file, numbered from 1.
    pub packets: Vec<Packet>,
}

/// A capture file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("octet {offset}: {message}\n  hint: {hint}")]
pub struct CaptureFileError {
    /// Where, in octets from the start of the file.
    pub offset: usize,
    /// What was expected and what was found.
    pub message: String,
    /// What to do.
    pub hint: String,
}

const CUT: &str =
    "the file is cut off or damaged: copy it again, or repair it with Wireshark's editcap";
const FOREIGN: &str =
    "give a pcapng or pcap file, as Wireshark, tcpdump and this program write them";

fn error(offset: usize, message: impl Into<String>, hint: &str) -> CaptureFileError {
    CaptureFileError {
        offset,
        message: message.into(),
        hint: hint.to_owned(),
    }
}

/// Reads a pcapng or pcap file.
///
/// # Errors
/// The first thing that is wrong, with its offset.
pub fn read(file: &[u8]) -> Result<CaptureFile, CaptureFileError> {
    let magic = file.get(..4).ok_or_else(|| {
        let message = format!("expected a capture file, found {} octets", file.len());
        error(0, message, FOREIGN)
    })?;
    match magic {
        [0x0a, 0x0d, 0x0d, 0x0a] => Pcapng::read(file),
        [0xd4, 0xc3, 0xb2, 0xa1] => pcap(file, true, 1000),
        [0x4d, 0x3c, 0xb2, 0xa1] => pcap(file, true, 1),
        [0xa1, 0xb2, 0xc3, 0xd4] => pcap(file, false, 1000),
        [0xa1, 0xb2, 0x3c, 0x4d] => pcap(file, false, 1),
        _ => Err(error(
            0,
            format!(
                "expected a capture file, found one that begins with {:02x} {:02x} {:02x} {:02x}",
                magic[0], magic[1], magic[2], magic[3]
            ),
            FOREIGN,
        )),
    }
}

/// Reads numbers in the file's byte order.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    file: &'a [u8],
    little: bool,
}

impl<'a> Cursor<'a> {
    fn slice(&self, at: usize, length: usize, what: &str) -> Result<&'a [u8], CaptureFileError> {
        at.checked_add(length)
            .and_then(|end| self.file.get(at..end))
            .ok_or_else(|| {
                let left = self.file.len().saturating_sub(at);
                error(
                    at,
                    format!("expected {length} octets of {what}, found {left}"),
                    CUT,
                )
            })
    }

    fn u16(&self, at: usize, what: &str) -> Result<u16, CaptureFileError> {
        let octets = self.slice(at, 2, what)?;
        let octets = [octets[0], octets[1]];
        Ok(if self.little {
            u16::from_le_bytes(octets)
        } else {
            u16::from_be_bytes(octets)
        })
    }

    fn u32(&self, at: usize, what: &str) -> Result<u32, CaptureFileError> {
        let octets = self.slice(at, 4, what)?;
        let octets = [octets[0], octets[1], octets[2], octets[3]];
        Ok(if self.little {
            u32::from_le_bytes(octets)
        } else {
            u32::from_be_bytes(octets)
        })
    }
}

/// A pcapng interface while its packets are read.
struct Source {
    interface: Arc<Interface>,
    /// Ticks of its timestamps per second.
    ticks: u64,
    /// Seconds to add to its timestamps.
    offset: i64,
    snap_length: u32,
}

struct Pcapng {
    out: CaptureFile,
    /// Interfaces of the current section.
    sources: Vec<Source>,
}

impl Pcapng {
    fn read(file: &[u8]) -> Result<CaptureFile, CaptureFileError> {
        let mut state = Pcapng {
            out: CaptureFile::default(),
            sources: Vec::new(),
        };
        let mut cursor = Cursor { file, little: true };
        let mut at = 0;
        while at < file.len() {
            let octets = cursor.slice(at, 12, "block header")?;
            if octets[..4] == [0x0a, 0x0d, 0x0d, 0x0a] {
                cursor.little = match &octets[8..12] {
                    [0x4d, 0x3c, 0x2b, 0x1a] => true,
                    [0x1a, 0x2b, 0x3c, 0x4d] => false,
                    other => {
                        let message =
                            format!("expected the byte-order magic 1a2b3c4d, found {other:02x?}");
                        return Err(error(at + 8, message, CUT));
                    }
                };
                state.sources.clear();
            }
            let kind = cursor.u32(at, "block type")?;
            let length = cursor.u32(at + 4, "block length")? as usize;
            if length < 12 || !length.is_multiple_of(4) {
                let message = format!(
                    "expected a block length of at least 12 and divisible by 4, found {length}"
                );
                return Err(error(at + 4, message, CUT));
            }
            cursor.slice(at, length, "block")?;
            let trailer = cursor.u32(at + length - 4, "block trailer")? as usize;
            if trailer != length {
                let message =
                    format!("expected the block length {length} again at its end, found {trailer}");
                return Err(error(at + length - 4, message, CUT));
            }
            let end = at + length - 4;
            match kind {
                0x0a0d_0d0a => {
                    let major = cursor.u16(at + 12, "major version")?;
                    if major != 1 || end < at + 24 {
                        let message = format!(
                            "expected a section header of version 1, found version {major}"
                        );
                        return Err(error(at + 12, message, FOREIGN));
                    }
                }
                1 => state.interface(&cursor, at + 8, end)?,
                3 => state.simple_packet(&cursor, at + 8, end)?,
                6 => state.enhanced_packet(&cursor, at + 8, end)?,
                // Statistics, name resolution, custom blocks: readers skip what they do not know (pcapng 3.1).
                _ => {}
            }
            at += length;
        }
        Ok(state.out)
    }

    fn interface(
        &mut self,
        cursor: &Cursor<'_>,
        at: usize,
        end: usize,
    ) -> Result<(), CaptureFileError> {
        if end < at + 8 {
            return Err(error(at, "expected 8 octets of interface description", CUT));
        }
        let link_type = cursor.u16(at, "link type")?;
        let snap_length = cursor.u32(at + 4, "snap length")?;
        let mut name = None;
        let mut description = None;
        let mut ticks = 1_000_000;
        let mut offset = 0;
        for option in options(cursor, at + 8, end)? {
            match (option.code, option.value) {
                (2, value) => name = Some(String::from_utf8_lossy(value).into_owned()),
                (3, value) => description = Some(String::from_utf8_lossy(value).into_owned()),
                (9, [resolution]) => {
                    let exponent = u32::from(resolution & 0x7f);
                    let base: u64 = if resolution & 0x80 != 0 { 2 } else { 10 };
                    ticks = base.checked_pow(exponent).ok_or_else(|| {
                        let message = format!("expected a timestamp resolution of at most 10^-19 or 2^-63, found {resolution:#04x}");
                        error(option.at, message, CUT)
                    })?;
                }
                (14, value) if value.len() == 8 => {
                    let octets: [u8; 8] = value.try_into().unwrap_or_default();
                    offset = if cursor.little {
                        i64::from_le_bytes(octets)
                    } else {
                        i64::from_be_bytes(octets)
                    };
                }
                _ => {}
            }
        }
        let name = name.unwrap_or_else(|| format!("interface {}", self.out.interfaces.len()));
        let interface = Arc::new(ends(name, description.as_deref(), link_type));
        self.out.interfaces.push(Arc::clone(&interface));
        self.sources.push(Source {
            interface,
            ticks,
            offset,
            snap_length,
        });
        Ok(())
    }

    fn source(&self, number: u32, at: usize) -> Result<&Source, CaptureFileError> {
        self.sources.get(number as usize).ok_or_else(|| {
            let message = format!(
                "expected the number of one of the {} interfaces of this section, found {number}",
                self.sources.len()
            );
            error(at, message, CUT)
        })
    }

    fn enhanced_packet(
        &mut self,
        cursor: &Cursor<'_>,
        at: usize,
        end: usize,
    ) -> Result<(), CaptureFileError> {
        if end < at + 20 {
            return Err(error(at, "expected 20 octets of packet header", CUT));
        }
        let source = self.source(cursor.u32(at, "interface number")?, at)?;
        let high = cursor.u32(at + 4, "timestamp")?;
        let low = cursor.u32(at + 8, "timestamp")?;
        let captured = cursor.u32(at + 12, "captured length")? as usize;
        let original_len = cursor.u32(at + 16, "original length")?;
        let data_end = packet_end(at + 20, captured, end, at + 12)?;
        let data = cursor.slice(at + 20, captured, "packet")?;
        let time = u128::from(u64::from(high) << 32 | u64::from(low));
        let time = time * 1_000_000_000 / u128::from(source.ticks);
        let time = time as i128 + i128::from(source.offset) * 1_000_000_000;
        let time_ns = u64::try_from(time).map_err(|_| {
            error(
                at + 4,
                format!("expected a time between 1970 and 2554, found {time} ns"),
                CUT,
            )
        })?;
        let mut packet = Packet {
            number: self.out.packets.len() as u64 + 1,
            time_ns,
            interface: Arc::clone(&source.interface),
            direction: Direction::Unknown,
            data: data.into(),
            original_len,
            comments: Vec::new(),
        };
        for option in options(cursor, data_end, end)? {
            match (option.code, option.value) {
                (1, value) => packet
                    .comments
                    .push(String::from_utf8_lossy(value).into_owned()),
                (2, value) if value.len() == 4 => {
                    packet.direction = match cursor.u32(option.at + 4, "packet flags")? & 3 {
                        1 => Direction::In,
                        2 => Direction::Out,
                        _ => Direction::Unknown,
                    }
                }
                _ => {}
            }
        }
        self.out.packets.push(packet);
        Ok(())
    }

    /// A packet without a time: it belongs to the section's first interface (pcapng 4.4).
    fn simple_packet(
        &mut self,
        cursor: &Cursor<'_>,
        at: usize,
        end: usize,
    ) -> Result<(), CaptureFileError> {
        if end < at + 4 {
            return Err(error(at, "expected 4 octets of packet length", CUT));
        }
        let original_len = cursor.u32(at, "packet length")?;
        let source = self.source(0, at)?;
        let captured = match source.snap_length {
            0 => original_len,
            limit => original_len.min(limit),
        } as usize;
        packet_end(at + 4, captured, end, at)?;
        let packet = Packet {
            number: self.out.packets.len() as u64 + 1,
            time_ns: 0,
            interface: Arc::clone(&source.interface),
            direction: Direction::Unknown,
            data: cursor.slice(at + 4, captured, "packet")?.into(),
            original_len,
            comments: Vec::new(),
        };
        self.out.packets.push(packet);
        Ok(())
    }
}

/// Where a packet's padding ends; `length_at` is where its length stands.
fn packet_end(
    at: usize,
    captured: usize,
    end: usize,
    length_at: usize,
) -> Result<usize, CaptureFileError> {
    let room = end.saturating_sub(at);
    if captured > room || captured.next_multiple_of(4) > room {
        let message = format!(
            "expected a packet of at most {room} octets (the rest of its block), found {captured}"
        );
        return Err(error(length_at, message, CUT));
    }
    Ok(at + captured.next_multiple_of(4))
}

struct Opt<'a> {
    at: usize,
    code: u16,
    value: &'a [u8],
}

fn options<'a>(
    cursor: &Cursor<'a>,
    mut at: usize,
    end: usize,
) -> Result<Vec<Opt<'a>>, CaptureFileError> {
    let mut options = Vec::new();
    while at < end {
        if end - at < 4 {
            let message = format!("expected 4 octets of option header, found {}", end - at);
            return Err(error(at, message, CUT));
        }
        let code = cursor.u16(at, "option code")?;
        let length = usize::from(cursor.u16(at + 2, "option length")?);
        if code == 0 {
            break;
        }
        if length.next_multiple_of(4) > end - at - 4 {
            let message = format!(
                "expected an option of at most {} octets (the rest of its block), found {length}",
                end - at - 4
            );
            return Err(error(at + 2, message, CUT));
        }
        let value = cursor.slice(at + 4, length, "option")?;
        options.push(Opt { at, code, value });
        at += 4 + length.next_multiple_of(4);
    }
    Ok(options)
}

/// Reads back what the writer put into name and description; a foreign name stays whole.
fn ends(name: String, description: Option<&str>, link_type: u16) -> Interface {
    let ours = || {
        let (link, near) = name.rsplit_once('@')?;
        let (described, nodes) = description?.split_once(": ")?;
        let (from, far) = nodes.split_once(" -- ")?;
        (described == link && from == near)
            .then(|| (link.to_owned(), near.to_owned(), far.to_owned()))
    };
    let (link, near, far) = ours().unwrap_or_else(|| (name.clone(), String::new(), String::new()));
    Interface {
        name,
        link,
        near,
        far,
        link_type,
    }
}

/// Classic pcap; `tick` is the unit of the fraction in nanoseconds.
fn pcap(file: &[u8], little: bool, tick: u64) -> Result<CaptureFile, CaptureFileError> {
    let cursor = Cursor { file, little };
    cursor.slice(0, 24, "pcap file header")?;
    let major = cursor.u16(4, "major version")?;
    if major != 2 {
        let message = format!("expected pcap version 2, found {major}");
        return Err(error(4, message, FOREIGN));
    }
    // The upper bits say whether frame check sequences were captured.
    let link_type = (cursor.u32(20, "link type")? & 0xffff) as u16;
    let interface = Arc::new(ends("pcap".to_owned(), None, link_type));
    let mut out = CaptureFile {
        interfaces: vec![Arc::clone(&interface)],
        packets: Vec::new(),
    };
    let mut at = 24;
    while at < file.len() {
        cursor.slice(at, 16, "packet header")?;
        let seconds = u64::from(cursor.u32(at, "seconds")?);
        let fraction = u64::from(cursor.u32(at + 4, "fraction")?);
        let captured = cursor.u32(at + 8, "captured length")? as usize;
        out.packets.push(Packet {
            number: out.packets.len() as u64 + 1,
            time_ns: seconds * 1_000_000_000 + fraction * tick,
            interface: Arc::clone(&interface),
            direction: Direction::Unknown,
            data: cursor.slice(at + 16, captured, "packet")?.into(),
            original_len: cursor.u32(at + 12, "original length")?,
            comments: Vec::new(),
        });
        at += 16 + captured;
    }
    Ok(out)
}
