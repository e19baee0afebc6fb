//! The `pxtr` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    pxtr::cli::main()
}
