//! The judge of a LISP network: what the RFCs require (the catalogue), cases that drive real programs in a lab of
//! network namespaces, and judges that decide from the captured packets alone.
//!
//! The way of a test: a [`case::Case`] names a topology and drives it, and the [`trace::Trace`] of all its packets goes to
//! judges, which are pure functions from a trace to [`finding::Findings`].

pub mod baseline;
pub mod bundle;
pub mod case;
mod cases;
pub mod catalogue;
pub mod decode;
pub mod draw;
pub mod drive;
pub mod edition;
pub mod finding;
pub mod home;
pub mod implementation;
pub mod invariants;
pub mod judging;
pub mod kill;
pub mod report;
pub mod results;
pub mod runner;
pub mod sabotage;
pub mod scenario;
pub mod suite;
pub mod text;
pub mod trace;
pub mod verdict;
pub mod witness;
mod words;
mod yaml;
