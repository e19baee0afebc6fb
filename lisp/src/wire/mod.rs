//! The wire codec: one file per message. Each message has a semantic form (`MapRequest`, ...) with `parse`,
//! `buffer_len`, `emit` and `to_vec`, and a zero-copy view (`MapRequestPacket<T>`, ...) with getters and setters, so that
//! a test can build wrong packets.
//!
//! `parse` never panics and never allocates from a length that it has not checked against the buffer. Reserved bits are
//! kept in the semantic form (`reserved` fields; zero in messages of our own) so that re-emission is byte for byte.

/// `to_vec`, the same for every message.
macro_rules! impl_to_vec {
    () => {
        /// The message as octets.
        ///
        /// # Panics
        /// As `emit`, when a count does not fit its field.
        pub fn to_vec(&self) -> Vec<u8> {
            let mut buffer = vec![0; self.buffer_len()];
            self.emit(&mut buffer);
            buffer
        }
    };
}

pub mod address;
pub(crate) mod bits;
pub(crate) mod cursor;
pub mod data;
pub mod ecm;
pub mod map_notify;
pub mod map_referral;
pub mod map_register;
pub mod map_reply;
pub mod map_request;
pub mod record;
mod signed;

pub use data::{DataHeader, DataPacket};
pub use ecm::{Ecm, EcmInner, EcmPacket};
pub use map_notify::{MapNotify, MapNotifyAck, MapNotifyPacket};
pub use map_referral::{MapReferral, MapReferralPacket};
pub use map_register::{MapRegister, MapRegisterPacket};
pub use map_reply::{MapReply, MapReplyPacket};
pub use map_request::{EidQuery, MapRequest, MapRequestPacket};
pub use record::{
    Action, Authentication, Locator, LocatorPacket, MapRecord, RecordPacket, XtrSiteId,
};

use crate::error::DecodeError;
use cursor::Reader;

/// Any control message, by its type field (RFC 6830 6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlMessage {
    /// Type 1.
    MapRequest(MapRequest),
    /// Type 2.
    MapReply(MapReply),
    /// Type 3.
    MapRegister(MapRegister),
    /// Type 4.
    MapNotify(MapNotify),
    /// Type 5 (RFC 9301 5.7).
    MapNotifyAck(MapNotifyAck),
    /// Type 6 (RFC 8111).
    MapReferral(MapReferral),
    /// Type 8.
    Encapsulated(Ecm),
}

impl ControlMessage {
    /// Decodes a whole UDP payload by its type field.
    ///
    /// # Errors
    /// When it is empty, of a type that is not ours to know, or not a whole message of its type.
    pub fn parse(buffer: &[u8]) -> Result<Self, DecodeError> {
        let wrong_type = |found: String| DecodeError {
            message: "control message",
            field: "type",
            offset: 0,
            expected: "1 to 6 or 8".into(),
            found,
        };
        let Some(first) = buffer.first() else {
            return Err(wrong_type("an empty message".into()));
        };
        Ok(match first >> 4 {
            1 => ControlMessage::MapRequest(MapRequest::parse(buffer)?),
            2 => ControlMessage::MapReply(MapReply::parse(buffer)?),
            3 => ControlMessage::MapRegister(MapRegister::parse(buffer)?),
            4 => ControlMessage::MapNotify(MapNotify::parse(buffer)?),
            5 => ControlMessage::MapNotifyAck(MapNotifyAck::parse(buffer)?),
            6 => ControlMessage::MapReferral(MapReferral::parse(buffer)?),
            8 => ControlMessage::Encapsulated(Ecm::parse(buffer)?),
            other => return Err(wrong_type(other.to_string())),
        })
    }

    /// The type field.
    pub fn kind(&self) -> u8 {
        match self {
            ControlMessage::MapRequest(_) => 1,
            ControlMessage::MapReply(_) => 2,
            ControlMessage::MapRegister(_) => 3,
            ControlMessage::MapNotify(_) => 4,
            ControlMessage::MapNotifyAck(_) => 5,
            ControlMessage::MapReferral(_) => 6,
            ControlMessage::Encapsulated(_) => 8,
        }
    }

    /// The RFCs' name of the type.
    pub fn name(&self) -> &'static str {
        match self {
            ControlMessage::MapRequest(_) => "Map-Request",
            ControlMessage::MapReply(_) => "Map-Reply",
            ControlMessage::MapRegister(_) => "Map-Register",
            ControlMessage::MapNotify(_) => "Map-Notify",
            ControlMessage::MapNotifyAck(_) => "Map-Notify-Ack",
            ControlMessage::MapReferral(_) => "Map-Referral",
            ControlMessage::Encapsulated(_) => "Encapsulated Control Message",
        }
    }

    /// Octets on the wire.
    pub fn buffer_len(&self) -> usize {
        match self {
            ControlMessage::MapRequest(message) => message.buffer_len(),
            ControlMessage::MapReply(message) => message.buffer_len(),
            ControlMessage::MapRegister(message) => message.buffer_len(),
            ControlMessage::MapNotify(message) => message.buffer_len(),
            ControlMessage::MapNotifyAck(message) => message.buffer_len(),
            ControlMessage::MapReferral(message) => message.buffer_len(),
            ControlMessage::Encapsulated(message) => message.buffer_len(),
        }
    }

    /// Writes the message into a buffer of exactly `buffer_len()` octets, whatever it held before.
    ///
    /// # Panics
    /// As the message's own `emit`.
    pub fn emit(&self, buffer: &mut [u8]) {
        match self {
            ControlMessage::MapRequest(message) => message.emit(buffer),
            ControlMessage::MapReply(message) => message.emit(buffer),
            ControlMessage::MapRegister(message) => message.emit(buffer),
            ControlMessage::MapNotify(message) => message.emit(buffer),
            ControlMessage::MapNotifyAck(message) => message.emit(buffer),
            ControlMessage::MapReferral(message) => message.emit(buffer),
            ControlMessage::Encapsulated(message) => message.emit(buffer),
        }
    }

    impl_to_vec!();
}

macro_rules! control_message_from {
    ($($message:ident => $variant:ident),*) => {$(
        impl From<$message> for ControlMessage {
            fn from(message: $message) -> Self {
                ControlMessage::$variant(message)
            }
        }
    )*};
}
control_message_from!(
    MapRequest => MapRequest,
    MapReply => MapReply,
    MapRegister => MapRegister,
    MapNotify => MapNotify,
    MapNotifyAck => MapNotifyAck,
    MapReferral => MapReferral,
    Ecm => Encapsulated
);

/// A reader of a message's variable part, `fixed_len` octets in.
fn message_reader<'a>(
    message: &'static str,
    buffer: &'a [u8],
    fixed_len: usize,
) -> Result<Reader<'a>, DecodeError> {
    let mut reader = Reader::new(message, buffer);
    reader.take("fixed part", fixed_len)?;
    Ok(reader)
}
