//! A LISP proxy tunnel router: PITR and PETR (RFC 6832), or a re-encapsulating tunnel router.
//!
//! It is the tunnel router of [`xtr`] in another role. What is its own is here: the configuration, with roles and
//! aggregates instead of a database, and the command line.

pub mod cli;
pub mod config;
