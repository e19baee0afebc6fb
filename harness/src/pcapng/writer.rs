//! pcapng: one section, one interface block per interface, one enhanced packet block per packet, nanoseconds.

use std::io::{self, Write};
use std::sync::Arc;

use crate::capture::{Direction, Interface, Packet};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const OPT_COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;

/// Writes interfaces and packets as one pcapng file.
///
/// # Errors
/// Those of `to`. A packet of an interface that is not in `interfaces` is an `InvalidInput` error.
pub fn write(to: impl Write, interfaces: &[Arc<Interface>], packets: &[Packet]) -> io::Result<()> {
    let mut writer = Writer::new(io::BufWriter::new(to), interfaces)?;
    for packet in packets {
        writer.packet(packet)?;
    }
    writer.flush()
}

/// A pcapng file that is being written, packet by packet.
#[derive(Debug)]
pub struct Writer<W: Write> {
    to: W,
    interfaces: Vec<Arc<Interface>>,
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a file with packets of these interfaces.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn new(to: W, interfaces: &[Arc<Interface>]) -> io::Result<Writer<W>> {
        let mut writer = Writer {
            to,
            interfaces: interfaces.to_vec(),
            block: Vec::new(),
        };
        let block = &mut writer.block;
        block.extend(BYTE_ORDER_MAGIC.to_le_bytes());
        block.extend([1, 0, 0, 0]);
        block.extend(u64::MAX.to_le_bytes());
        option(
            block,
            SHB_USERAPPL,
            concat!("harness ", env!("CARGO_PKG_VERSION")).as_bytes(),
        );
        option(block, 0, &[]);
        writer.finish_block(SECTION_HEADER)?;
        for interface in interfaces {
            let block = &mut writer.block;
            block.extend(interface.link_type.to_le_bytes());
            block.extend([0; 6]);
            option(block, IF_NAME, interface.name.as_bytes());
            if !interface.near.is_empty() {
                let description = format!(
                    "{}: {} -- {}",
                    interface.link, interface.near, interface.far
                );
                option(block, IF_DESCRIPTION, description.as_bytes());
            }
            option(block, IF_TSRESOL, &[9]);
            option(block, 0, &[]);
            writer.finish_block(INTERFACE_DESCRIPTION)?;
        }
        Ok(writer)
    }

    /// Appends a packet.
    ///
    /// # Errors
    /// Those of `to`. A packet of an interface that the file does not have is an `InvalidInput` error.
    pub fn packet(&mut self, packet: &Packet) -> io::Result<()> {
        let interface = self
            .interfaces
            .iter()
            .position(|interface| *interface == packet.interface)
            .ok_or_else(|| {
                let what = format!("packet {} is of an unlisted interface", packet.number);
                io::Error::new(io::ErrorKind::InvalidInput, what)
            })? as u32;
        let block = &mut self.block;
        block.extend(interface.to_le_bytes());
        block.extend(((packet.time_ns >> 32) as u32).to_le_bytes());
        block.extend((packet.time_ns as u32).to_le_bytes());
        block.extend((packet.data.len() as u32).to_le_bytes());
        block.extend(packet.original_len.to_le_bytes());
        block.extend_from_slice(&packet.data);
        pad(block);
        let direction = match packet.direction {
            Direction::In => 1u32,
            Direction::Out => 2,
            Direction::Unknown => 0,
        };
        if direction != 0 {
            option(block, EPB_FLAGS, &direction.to_le_bytes());
        }
        for comment in &packet.comments {
            option(block, OPT_COMMENT, comment.as_bytes());
        }
        if direction != 0 || !packet.comments.is_empty() {
            option(block, 0, &[]);
        }
        self.finish_block(ENHANCED_PACKET)
    }

    /// Hands on what was written so far.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    fn finish_block(&mut self, kind: u32) -> io::Result<()> {
        let length = (self.block.len() as u32 + 12).to_le_bytes();
        self.to.write_all(&kind.to_le_bytes())?;
        self.to.write_all(&length)?;
        self.to.write_all(&self.block)?;
        self.to.write_all(&length)?;
        self.block.clear();
        Ok(())
    }
}

fn pad(block: &mut Vec<u8>) {
    block.resize(block.len().next_multiple_of(4), 0);
}

fn option(block: &mut Vec<u8>, code: u16, value: &[u8]) {
    // An option's length has 16 bits; a longer comment is cut at a character.
    let mut length = value.len().min(65_532);
    while length < value.len() && value[length] & 0xc0 == 0x80 {
        length -= 1;
    }
    block.extend(code.to_le_bytes());
    block.extend((length as u16).to_le_bytes());
    block.extend_from_slice(&value[..length]);
    pad(block);
}
