//! `lisplab`: the command of the lab and the judge.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
