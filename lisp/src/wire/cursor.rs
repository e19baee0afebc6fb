//! Reading and writing octets in order, with errors that know where they are.

use crate::error::DecodeError;

/// Reads a buffer front to back. Every length is checked against the buffer before it is used.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    message: &'static str,
    buffer: &'a [u8],
    position: usize,
    /// Offset of `buffer[0]` in what the outermost caller gave.
    base: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'static str, buffer: &'a [u8]) -> Self {
        Self {
            message,
            buffer,
            position: 0,
            base: 0,
        }
    }

    /// Offset of the next octet, from the start of the outermost buffer.
    pub(crate) fn offset(&self) -> usize {
        self.base + self.position
    }

    pub(crate) fn remaining(&self) -> usize {
        self.buffer.len() - self.position
    }

    /// Errors from here on name another structure; returns the name that was in force.
    pub(crate) fn enter(&mut self, message: &'static str) -> &'static str {
        std::mem::replace(&mut self.message, message)
    }

    pub(crate) fn take(
        &mut self,
        field: &'static str,
        len: usize,
    ) -> Result<&'a [u8], DecodeError> {
        if len > self.remaining() {
            return Err(self.error_here(
                field,
                format!("{len} octets"),
                format!("{} octets before the end", self.remaining()),
            ));
        }
        let octets = &self.buffer[self.position..self.position + len];
        self.position += len;
        Ok(octets)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(field, N)?);
        Ok(array)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// A reader of exactly the next `len` octets.
    pub(crate) fn limited(
        &mut self,
        message: &'static str,
        field: &'static str,
        len: usize,
    ) -> Result<Reader<'a>, DecodeError> {
        let base = self.offset();
        let buffer = self.take(field, len)?;
        Ok(Reader {
            message,
            buffer,
            position: 0,
            base,
        })
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let rest = &self.buffer[self.position..];
        self.position = self.buffer.len();
        rest
    }

    /// Nothing may be left over.
    pub(crate) fn finish(&self, after: &'static str) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(self.error_here(
                "end of message",
                format!("nothing after {after}"),
                format!("{left} more octets"),
            )),
        }
    }

    /// An error at the next octet.
    pub(crate) fn error_here(
        &self,
        field: &'static str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> DecodeError {
        self.error_at(self.offset(), field, expected, found)
    }

    /// An error at an offset from the start of the outermost buffer.
    pub(crate) fn error_at(
        &self,
        offset: usize,
        field: &'static str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> DecodeError {
        DecodeError {
            message: self.message,
            field,
            offset,
            expected: expected.into(),
            found: found.to_string(),
        }
    }
}

/// Fills a buffer front to back; the buffer's length is `buffer_len()` of what is written.
pub(crate) struct Writer<'a> {
    buffer: &'a mut [u8],
    position: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        Self {
            buffer,
            position: 0,
        }
    }

    /// The next `len` octets, zeroed, to be filled through a view.
    pub(crate) fn fixed(&mut self, len: usize) -> &mut [u8] {
        let octets = &mut self.buffer[self.position..self.position + len];
        octets.fill(0);
        self.position += len;
        octets
    }

    pub(crate) fn put(&mut self, octets: &[u8]) {
        self.buffer[self.position..self.position + octets.len()].copy_from_slice(octets);
        self.position += octets.len();
    }

    /// The contract of every `emit`: the buffer was exactly `buffer_len()` long.
    pub(crate) fn finish(self) {
        assert_eq!(
            self.position,
            self.buffer.len(),
            "emit needs a buffer of exactly buffer_len() octets"
        );
    }
}
