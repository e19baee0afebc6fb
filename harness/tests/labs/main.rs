//! Tests that need labs. Run as root or as an ordinary user who may make user namespaces.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod capture;
mod damage;
mod doctor;
mod lab;
mod leaks;
mod moving;
mod named;

use std::process::ExitCode;

use harness::testing::{self, Needs, Test};

fn main() -> ExitCode {
    // Some tests start this program again in another part.
    if let Ok(part) = std::env::var("HARNESS_TEST_PART") {
        return leaks::play(&part);
    }
    let tests = [
        capture::TESTS,
        damage::TESTS,
        doctor::TESTS,
        lab::TESTS,
        leaks::TESTS,
        moving::TESTS,
        named::TESTS,
    ];
    testing::main(tests.into_iter().flatten(), Needs::Labs)
}
