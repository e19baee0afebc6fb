//! Crate xtr.

pub mod dataplane;
pub mod forwarding;
