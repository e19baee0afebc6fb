//! Reports of one or many runs: terminal table, JUnit XML, JSON, one self-contained HTML file.
//!
//! ```text
//! results.json, evidence folders --load--> Run --merge--> Report --+--> table
//!                                                                  +--> junit
//!                                                                  +--> json
//!                                                                  +--> html
//! ```
//!
//! Nothing here reads a clock, and what is written depends on the content of the runs alone, not on the order in which
//! they were given.

pub mod html;
pub mod json;
pub mod junit;
pub mod load;
pub mod merge;
pub mod model;
pub mod table;

pub use load::{Wanted, load, run};
pub use merge::merge;
pub use model::{CaseReport, Conflict, Evidence, Report, Run};
