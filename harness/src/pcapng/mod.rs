//! Capture files: writing pcapng, reading pcapng and classic pcap strictly.

mod reader;
mod writer;

pub use reader::{CaptureFile, CaptureFileError, read};
pub use writer::{Writer, write};
