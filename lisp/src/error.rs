//! What can be wrong with bytes that claim to be LISP.

/// Why a message could not be decoded: where, which field, what was found and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {field} at offset {offset}: expected {expected}, found {found}")]
pub struct DecodeError {
    /// The message or structure being read, in the RFC's words ("Map-Reply", "EID record").
    pub message: &'static str,
    /// The field that was wrong ("locator count").
    pub field: &'static str,
    /// Octet offset of the field from the start of the buffer that was given to the outermost `parse`.
    pub offset: usize,
    /// What would have been right.
    pub expected: String,
    /// What was there.
    pub found: String,
}

impl DecodeError {
    /// The same error for a caller whose buffer starts `octets` earlier.
    #[must_use]
    pub fn shifted(mut self, octets: usize) -> Self {
        self.offset += octets;
        self
    }
}
