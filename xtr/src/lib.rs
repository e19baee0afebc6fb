//! Crate xtr.

pub mod dataplane;
pub mod forwarding;
pub mod kernel;
