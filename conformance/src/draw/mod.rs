//! Pictures for people: the ladder diagram of a trace and the picture of a topology.
//!
//! Everything here is a pure function from values to text, so the same input always gives the same bytes. What is drawn
//! (node names, log lines, packet fields) may come from hostile input; [`template`] is the one place that escapes it.

pub mod graph;
mod graph_layout;
mod graph_measure;
mod graph_ports;
mod graph_svg;
pub mod ladder;
mod ladder_layout;
mod ladder_parts;
mod ladder_shapes;
mod mermaid;
mod packets;
pub(crate) mod template;
pub(crate) mod text;

pub use graph::Graph;
pub use ladder::{Column, Event, Kind, Ladder, Mark, MarkKind, Row};
