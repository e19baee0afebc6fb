//! Crate conformance.
