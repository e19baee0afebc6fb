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

use libtest_mimic::{Arguments, Failed, Trial};

/// A test: its name and what it does.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    // Some tests start this program again in another part.
    if let Ok(part) = std::env::var("HARNESS_TEST_PART") {
        return leaks::play(&part);
    }
    let arguments = Arguments::from_args();
    // Listing needs no privilege.
    let host = if arguments.list {
        Ok(())
    } else {
        harness::host::enter()
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let skip = host.is_err() && std::env::var("LISPLAB_SKIP_WITHOUT_NETNS").as_deref() == Ok("1");
    let tests = [
        capture::TESTS,
        damage::TESTS,
        doctor::TESTS,
        lab::TESTS,
        leaks::TESTS,
        moving::TESTS,
        named::TESTS,
    ];
    let trials = tests
        .into_iter()
        .flatten()
        .map(|&(name, test)| {
            let host = host.clone();
            let trial = Trial::test(name, move || {
                host.map_err(Failed::from)?;
                test();
                Ok(())
            });
            trial.with_ignored_flag(skip)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
