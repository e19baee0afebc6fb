//! The packet path in a lab: what it puts on the wire, what it takes from it, and what it leaves behind.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod arriving;
mod kernel;
mod leaving;
mod paths;
mod stage;

use std::process::ExitCode;

use harness::testing::{self, Needs, Test};

fn main() -> ExitCode {
    let tests = [arriving::TESTS, kernel::TESTS, leaving::TESTS, paths::TESTS];
    testing::main(tests.into_iter().flatten(), Needs::LabsWithTun)
}
