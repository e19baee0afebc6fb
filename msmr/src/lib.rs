//! Crate msmr.
