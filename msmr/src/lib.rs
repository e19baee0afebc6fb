//! A LISP Map-Server and Map-Resolver (RFC 6833; RFC 9301 where the edition says so).
//!
//! [`core`] is the protocol as a state machine without input or output; [`run`] is the daemon around it.

pub mod bench;
pub mod config;
pub mod core;
pub mod memory;
mod shell;
pub mod show;
mod state;

pub use shell::run;
