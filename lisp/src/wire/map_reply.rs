//! Map-Reply (RFC 6830 6.1.4; RFC 9301 5.4).

use super::bits::{Bits, view};
use super::cursor::Writer;
use super::message_reader;
use super::record::{MapRecord, RecordKind, count_of};
use crate::error::DecodeError;

/// A Map-Reply, positive or negative, or the answer to an RLOC-probe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapReply {
    /// P bit: answers an RLOC-probe.
    pub probe: bool,
    /// E bit: the sender is echo-nonce capable.
    pub echo_nonce: bool,
    /// S bit: LISP-SEC data follows.
    pub security: bool,
    /// Bits 7 to 23 of the first word.
    pub reserved: u32,
    /// The nonce of the request.
    pub nonce: u64,
    /// The answers.
    pub records: Vec<MapRecord>,
    /// Octets after the records (LISP-SEC authentication data when S is set), verbatim.
    pub trailer: Vec<u8>,
}

/// Figure of RFC 6830 6.1.4.
pub(crate) mod field {
    use super::Bits;
    pub(crate) const LEN: usize = 12;
    pub(crate) const TYPE: Bits = Bits::new("Type", 0, 4);
    pub(crate) const PROBE: Bits = Bits::new("P (probe)", 4, 1);
    pub(crate) const ECHO_NONCE: Bits = Bits::new("E (echo-nonce capable)", 5, 1);
    pub(crate) const SECURITY: Bits = Bits::new("S (security)", 6, 1);
    pub(crate) const RESERVED: Bits = Bits::new("Reserved", 7, 17);
    pub(crate) const RECORD_COUNT: Bits = Bits::new("Record Count", 24, 8);
    pub(crate) const NONCE: Bits = Bits::new("Nonce", 32, 64);
}

view! {
    /// The fixed part of a Map-Reply; the records are its payload (RFC 6830 6.1.4).
    MapReplyPacket, "Map-Reply", field::LEN, &[2];
    /// Type, 2.
    kind, set_kind: u8 = field::TYPE;
    /// P bit.
    probe, set_probe: bool = field::PROBE;
    /// E bit.
    echo_nonce, set_echo_nonce: bool = field::ECHO_NONCE;
    /// S bit.
    security, set_security: bool = field::SECURITY;
    /// Bits 7 to 23.
    reserved, set_reserved: u32 = field::RESERVED;
    /// Number of records.
    record_count, set_record_count: u8 = field::RECORD_COUNT;
    /// 64-bit nonce.
    nonce, set_nonce: u64 = field::NONCE;
}

impl MapReply {
    /// Decodes a whole UDP payload.
    ///
    /// # Errors
    /// When it is cut short, has octets left over without the S bit, an unknown AFI or a mask-len longer than its EID.
    pub fn parse(buffer: &[u8]) -> Result<Self, DecodeError> {
        let fixed = MapReplyPacket::new_checked(buffer)?;
        let mut reader = message_reader("Map-Reply", buffer, field::LEN)?;
        let records = MapRecord::read_all(&mut reader, fixed.record_count(), RecordKind::Mapping)?;
        let trailer = match fixed.security() {
            true if reader.remaining() == 0 => {
                return Err(reader.error_here(
                    "Authentication Data",
                    "LISP-SEC authentication data, as the S bit says",
                    "the end of the message",
                ));
            }
            true => reader.rest().to_vec(),
            false => Vec::new(),
        };
        reader.finish("the last record")?;
        Ok(MapReply {
            probe: fixed.probe(),
            echo_nonce: fixed.echo_nonce(),
            security: fixed.security(),
            reserved: fixed.reserved(),
            nonce: fixed.nonce(),
            records,
            trailer,
        })
    }

    /// Octets on the wire.
    pub fn buffer_len(&self) -> usize {
        field::LEN
            + self
                .records
                .iter()
                .map(MapRecord::buffer_len)
                .sum::<usize>()
            + self.trailer.len()
    }

    /// Writes the message into a buffer of exactly `buffer_len()` octets, whatever it held before.
    ///
    /// # Panics
    /// When the buffer has another length, or a count does not fit its octet.
    pub fn emit(&self, buffer: &mut [u8]) {
        let mut writer = Writer::new(buffer);
        let mut fixed = MapReplyPacket(writer.fixed(field::LEN));
        fixed.set_kind(2);
        fixed.set_probe(self.probe);
        fixed.set_echo_nonce(self.echo_nonce);
        fixed.set_security(self.security);
        fixed.set_reserved(self.reserved);
        fixed.set_record_count(count_of(&self.records));
        fixed.set_nonce(self.nonce);
        self.records
            .iter()
            .for_each(|record| record.write(&mut writer));
        writer.put(&self.trailer);
        writer.finish();
    }

    impl_to_vec!();
}
