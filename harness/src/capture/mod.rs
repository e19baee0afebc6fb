//! Capturing every link of a lab.

mod packet;

pub use packet::{Direction, Drops, Interface, Mark, Noise, Packet, Recording};
