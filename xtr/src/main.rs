//! The `xtr` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    xtr::cli::main()
}
