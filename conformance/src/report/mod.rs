//! Reports of one or many runs: terminal table, JUnit XML, one self-contained HTML file.
//!
//! ```text
//! results.json, evidence folders --load--> Run --merge--> Report --+--> table
//!                                                                  +--> junit
//!                                                                  +--> html
//! ```
//!
//! Nothing here reads a clock, and what is written depends on the content of the runs alone, not on the order in which
//! they were given.

pub mod html;
pub mod junit;
pub mod load;
pub mod merge;
pub mod model;
pub mod table;

pub use load::{LoadError, load};
pub use merge::merge;
pub use model::{CaseReport, Conflict, Evidence, Report, Run};
