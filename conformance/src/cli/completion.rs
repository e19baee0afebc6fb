//! `lisplab completion`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Exit, print_bytes};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "For example: lisplab completion bash > ~/.local/share/bash-completion/completions/lisplab"
)]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lisplab", &mut script);
    print_bytes(&script);
    Exit::Fine
}
