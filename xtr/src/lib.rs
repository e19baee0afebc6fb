//! A LISP tunnel router: ITR and ETR of a site (RFC 6830).
//!
//! [`core`] is the protocol without sockets and clocks. [`forwarding`] is what packets are looked up in; the data plane
//! works on it. [`config`] is the configuration file; [`shell`] runs it all.

pub mod cli;
pub mod config;
pub mod core;
pub mod dataplane;
mod fastpath;
pub mod forwarding;
pub mod kernel;
pub mod shell;
