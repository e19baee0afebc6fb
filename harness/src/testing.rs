//! The main function of a test program whose tests make labs.
//!
//! An ordinary user's labs need a user namespace, which a process can only enter before it has threads; the standard test
//! runner starts a thread per test. So such a program sets `harness = false` in `Cargo.toml` and has a `main` of its own:
//!
//! ```no_run
//! fn neighbours_appear() { /* Lab::up, spawn, wait_for, assert */ }
//!
//! const TESTS: &[harness::testing::Test] = &[("neighbours_appear", neighbours_appear)];
//!
//! fn main() -> std::process::ExitCode {
//!     harness::testing::main(TESTS, harness::testing::Needs::Labs)
//! }
//! ```

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test: its name and what it does. It fails by panicking.
pub type Test = (&'static str, fn());

/// What the tests need of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Namespaces.
    Labs,
    /// Namespaces, and a `/dev/net/tun` that can be opened.
    LabsWithTun,
}

/// Set to `1`: tests are listed as ignored on a host that forbids what they need, instead of failing.
pub const SKIP: &str = "LISPLAB_SKIP_WITHOUT_NETNS";

/// Enters the namespaces that labs need, and runs the tests with the arguments of `cargo test`. Listing them needs no
/// privilege. On a host that forbids what they need every test fails with the reason and the remedy, unless [`SKIP`] is set.
pub fn main<'a>(tests: impl IntoIterator<Item = &'a Test>, needs: Needs) -> ExitCode {
    let arguments = Arguments::from_args();
    let host = if arguments.list {
        Ok(())
    } else {
        crate::host::enter()
            .and_then(|_| match needs {
                Needs::Labs => Ok(()),
                Needs::LabsWithTun => crate::host::check_tun(),
            })
            .map_err(|error| error.to_string())
    };
    let skip = host.is_err() && std::env::var(SKIP).as_deref() == Ok("1");
    let trials = tests
        .into_iter()
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
