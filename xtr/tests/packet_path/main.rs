//! The packet path in a lab: what it puts on the wire, what it takes from it, and what it leaves behind.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod arriving;
mod kernel;
mod leaving;
mod stage;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test: its name and what it does.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // Listing needs no privilege.
    let host = if arguments.list {
        Ok(())
    } else {
        harness::host::enter()
            .and_then(|_| harness::host::check_tun())
            .map_err(|error| error.to_string())
    };
    let skip = host.is_err() && std::env::var("LISPLAB_SKIP_WITHOUT_NETNS").as_deref() == Ok("1");
    let trials = [arriving::TESTS, kernel::TESTS, leaving::TESTS]
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
