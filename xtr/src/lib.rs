//! Crate xtr.
