//! The wire codec: one file per message. Each message has a semantic form (`MapRequest`, ...) with `parse`,
//! `buffer_len`, `emit` and `to_vec`, and a zero-copy view (`MapRequestPacket<T>`, ...) with getters and setters, so that
//! a test can build wrong packets.
//!
//! `parse` never panics and never allocates from a length that it has not checked against the buffer. Reserved bits are
//! kept in the semantic form (`reserved` fields; zero in messages of our own) so that re-emission is byte for byte.

pub mod data;
pub mod ecm;
pub mod map_notify;
pub mod map_referral;
pub mod map_register;
pub mod map_reply;
pub mod map_request;
pub mod record;

pub use data::DataHeader;
pub use ecm::Ecm;
pub use map_notify::{MapNotify, MapNotifyAck};
pub use map_referral::MapReferral;
pub use map_register::MapRegister;
pub use map_reply::MapReply;
pub use map_request::{EidQuery, MapRequest};
pub use record::{Action, Authentication, Locator, MapRecord, XtrSiteId};

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
