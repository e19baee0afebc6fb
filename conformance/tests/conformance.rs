//! Test entry.
fn main() {}
