//! `lisplab init`.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::{Exit, complain, print};

/// Two LISP sites and a mapping system, with a comment wherever a choice was made.
const EXAMPLE: &str = include_str!("init.yaml");

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to; an existing file is never overwritten. Standard output if not given.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Exit {
    let Some(file) = &args.file else {
        print(EXAMPLE);
        return Exit::Fine;
    };
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut to| to.write_all(EXAMPLE.as_bytes()));
    match written {
        Ok(()) => {
            let file = file.display();
            print(&format!(
                "{file} is written\n  lisplab check {file}\n  lisplab up {file}\n"
            ));
            Exit::Fine
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => complain(
            format!(
                "{} is there already, and is left as it is; name another file",
                file.display()
            ),
            Exit::Input,
        ),
        Err(error) => complain(
            format!("cannot write {}: {error}", file.display()),
            Exit::Input,
        ),
    }
}
