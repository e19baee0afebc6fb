//! The words of LISP, the Locator/ID Separation Protocol: addresses and prefixes, the wire codec, authentication.
//!
//! Nothing here opens a socket, reads a clock or draws a random number: bytes in, values out, and back.
//! Editions covered: RFC 6830, 6832, 6833, and the bits that RFC 9300, 9301 and 8111 added.

pub mod addr;
pub mod auth;
pub mod dissect;
pub mod error;
pub mod ip;
pub mod packet;
pub mod wire;

pub use addr::{Address, EidPrefix, Lcaf};
pub use error::DecodeError;
pub use packet::reencode;

/// UDP port of LISP data packets (RFC 6830 5.3).
pub const DATA_PORT: u16 = 4341;
/// UDP port of LISP control messages (RFC 6830 6.1).
pub const CONTROL_PORT: u16 = 4342;
