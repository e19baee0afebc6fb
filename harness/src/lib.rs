//! Crate harness.
