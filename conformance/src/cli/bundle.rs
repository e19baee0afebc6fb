//! `lisplab bundle`: a case or scenario as one file.

use std::path::{Path, PathBuf};

use conformance::bundle::{self, Bundle, Manifest};
use conformance::results::{CaseResult, Results};
use serde::Serialize;
use serde_json::json;

use super::{Exit, complain};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what is in a bundle.
    Show {
        /// The bundle.
        bundle: PathBuf,
        /// For programs; see docs/formats.md.
        #[arg(long)]
        json: bool,
    },
    /// Make a bundle of the evidence folder of a case. Failing cases have theirs already.
    Make {
        /// The folder.
        #[arg(value_name = "RUN_DIR")]
        folder: PathBuf,
        /// Where to; beside the folder if not given.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// For programs; see docs/formats.md.
        #[arg(long)]
        json: bool,
    },
    /// Unpack a bundle: what it holds is what an evidence folder holds.
    Unpack {
        /// The bundle.
        bundle: PathBuf,
        /// A folder that is not there yet.
        folder: PathBuf,
        /// For programs; see docs/formats.md.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Shown<'a> {
    format: u32,
    manifest: &'a Manifest,
    result: &'a CaseResult,
    files: Vec<File<'a>>,
}

#[derive(Serialize)]
struct File<'a> {
    name: &'a str,
    octets: usize,
}

pub(crate) fn run(args: &Args) -> Exit {
    let done = match &args.command {
        Command::Show { bundle, json } => show(bundle, *json),
        Command::Make {
            folder,
            output,
            json,
        } => make(folder, output.as_deref(), *json),
        Command::Unpack {
            bundle,
            folder,
            json,
        } => unpack(bundle, folder, *json),
    };
    done.map_or_else(|problem| complain(problem, Exit::Input), |()| Exit::Fine)
}

fn show(path: &Path, as_json: bool) -> Result<(), String> {
    let bundle = bundle::open(path).map_err(|error| error.to_string())?;
    let result = bundle
        .result()
        .map_err(|problem| format!("{}: {problem}", path.display()))?;
    let files = bundle.files.iter().map(|(name, octets)| File {
        name,
        octets: octets.len(),
    });
    if as_json {
        super::print(&super::json(&Shown {
            format: bundle::BUNDLE_FORMAT,
            manifest: &bundle.manifest,
            result: &result,
            files: files.collect(),
        }));
        return Ok(());
    }
    let manifest = &bundle.manifest;
    let mut text = super::run::said(
        &CaseResult {
            evidence: None,
            ..result
        },
        Path::new(""),
    );
    let version = manifest.version.as_deref().unwrap_or("version unknown");
    text.push_str(&format!(
        "\nrun with    {} ({version}), edition {}{}, seed {}\nby          lisplab {}, {}\n",
        manifest.implementation,
        manifest.edition,
        if manifest.strict { ", strict" } else { "" },
        manifest.seed,
        manifest.lisplab,
        manifest.kernel,
    ));
    if !manifest.masked_packets.is_empty() {
        text.push_str(&format!(
            "overwritten packets {:?}: they named the machine\n",
            manifest.masked_packets
        ));
    }
    text.push_str("files\n");
    for file in files {
        text.push_str(&format!("  {:>9}  {}\n", file.octets, file.name));
    }
    text.push_str(&format!(
        "\nlisplab replay {}    runs it again here\n",
        path.display()
    ));
    // A stranger's file must not steer the terminal.
    let plain = text
        .chars()
        .map(|c| if c.is_control() && c != '\n' { ' ' } else { c });
    super::print(&plain.collect::<String>());
    Ok(())
}

fn make(folder: &Path, output: Option<&Path>, json: bool) -> Result<(), String> {
    let folder = std::path::absolute(folder).map_err(|error| error.to_string())?;
    // What the implementation said of its version stands in the record of the run.
    let results = folder.parent().and_then(|out| Results::read(out).ok());
    let version = results.and_then(|all| all.into_iter().find_map(|results| results.version));
    let beside = bundle::name_of(&folder);
    let output = output.unwrap_or(&beside);
    bundle::make(&folder, output, version).map_err(|error| error.to_string())?;
    if json {
        super::print_json(&json!({"format": bundle::BUNDLE_FORMAT, "file": output}));
    } else {
        super::print(&format!("{}\n", output.display()));
    }
    Ok(())
}

fn unpack(path: &Path, folder: &Path, json: bool) -> Result<(), String> {
    let bundle: Bundle = bundle::open(path).map_err(|error| error.to_string())?;
    let wrong = |error: std::io::Error| {
        format!(
            "{}: {error}\n  hint: name a folder that is not there yet",
            folder.display()
        )
    };
    std::fs::create_dir(folder).map_err(wrong)?;
    bundle.unpack(folder).map_err(wrong)?;
    if json {
        let files: Vec<&String> = bundle.files.keys().collect();
        super::print_json(
            &json!({"format": bundle::BUNDLE_FORMAT, "folder": folder, "files": files}),
        );
    }
    Ok(())
}
