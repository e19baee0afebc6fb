//! The judge of a LISP network: what the RFCs require (the catalogue), cases that drive real programs in a lab of
//! network namespaces, and judges that decide from the captured packets alone.
//!
//! The way of a test: a case names a topology and drives it, and the [`trace::Trace`] of all its packets goes to
//! judges, which are pure functions from a trace to [`finding::Findings`].

pub mod catalogue;
pub mod decode;
pub mod draw;
pub mod edition;
pub mod finding;
pub mod report;
pub mod trace;
pub mod verdict;
