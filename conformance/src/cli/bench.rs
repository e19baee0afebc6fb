//! `lisplab bench`: figures, never verdicts.

use super::{Exit, complain};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    which: Which,
}

#[derive(Debug, clap::Subcommand)]
enum Which {
    /// Building a network, side by side with `ip -batch` doing the same.
    Build {
        /// Nodes around the core.
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=250))]
        nodes: u16,
        /// Rounds; medians are printed.
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
        rounds: u16,
        /// For programs; see docs/formats.md.
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: &Args) -> Exit {
    let Which::Build {
        nodes,
        rounds,
        json,
    } = &args.which;
    if let Err(error) = harness::host::enter() {
        return complain(error, Exit::Host);
    }
    let figures = match harness::bench::build(usize::from(*nodes), usize::from(*rounds)) {
        Ok(figures) => figures,
        Err(error) => {
            let exit = if error.exit_code() == 2 {
                Exit::Input
            } else {
                Exit::Host
            };
            return complain(error, exit);
        }
    };
    let mut text = if *json {
        serde_json::to_string_pretty(&figures).expect("figures serialize")
    } else {
        format!("{figures:#?}")
    };
    text.push('\n');
    super::print(&text);
    Exit::Fine
}
