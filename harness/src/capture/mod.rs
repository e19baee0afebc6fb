//! Capturing every link of a lab.

mod live;
mod packet;

pub(crate) use live::{Capture, Tap};
pub use packet::{Direction, Drops, Interface, Mark, Noise, Packet, Recording};
