//! Making a bundle of an evidence folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{
    BUNDLE_FORMAT, BundleError, ENDING, LARGEST, MANIFEST, MOST_FILES, Manifest, Scrubber, digest,
    is_plain,
};
use crate::results::CaseResult;
use crate::trace::Trace;

const FOLDER: &str =
    "give the folder of one case, as `lisplab test --out DIR` and `lisplab run --out DIR` leave it";

/// The name of the bundle of an evidence folder: beside it.
pub fn name_of(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_os_string();
    name.push(ENDING);
    folder.with_file_name(name)
}

/// Makes a bundle of an evidence folder, without what names this machine. `version` is what the implementation says of its
/// version.
///
/// # Errors
/// The folder is none of a case, is too large, or the bundle cannot be written.
pub fn make(folder: &Path, bundle: &Path, version: Option<String>) -> Result<(), BundleError> {
    let wrong = |problem: &dyn std::fmt::Display| BundleError::new(folder, problem, FOLDER);
    let (trace, facts) = Trace::read(folder).map_err(|error| wrong(&error.problem))?;
    let text = fs::read(folder.join("result.json")).map_err(|error| wrong(&error))?;
    let result: CaseResult = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
    let nodes = trace.topology.iter().flat_map(|topology| {
        let nodes = topology.nodes.iter().map(|node| node.name.as_str());
        let roles = topology
            .nodes
            .iter()
            .filter_map(|node| node.role.as_deref());
        let links = topology.links.iter().map(|link| link.name.as_str());
        nodes.chain(roles).chain(links)
    });
    let out = folder.parent().unwrap_or(folder);
    let scrubber = Scrubber::of_this_machine(nodes).and(out, "OUT");
    let scrubber = folders_of_programs(&trace)
        .into_iter()
        .fold(scrubber, |scrubber, folder| scrubber.and(folder, "BIN"));
    let mut files = BTreeMap::new();
    let mut masked_packets = Vec::new();
    let mut total = 0;
    for entry in fs::read_dir(folder).map_err(|error| wrong(&error))? {
        let entry = entry.map_err(|error| wrong(&error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_plain(&name) || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            return Err(wrong(&format!("{name:?} is no file of an evidence folder")));
        }
        let octets = fs::read(entry.path()).map_err(|error| wrong(&error))?;
        let octets = if name.ends_with(".pcapng") {
            capture(&octets, &scrubber, &mut masked_packets).map_err(|problem| wrong(&problem))?
        } else if name == "command.txt" {
            // Where the bundle is, nothing else is.
            let bundle = bundle.file_name().unwrap_or_default().to_string_lossy();
            scrubber
                .text(&format!("lisplab replay {bundle}\n"))
                .into_bytes()
        } else {
            // What is drawn and what is written is text.
            scrubber
                .text(&String::from_utf8_lossy(&octets))
                .into_bytes()
        };
        total += octets.len() as u64;
        files.insert(name, octets);
    }
    if total > LARGEST || files.len() > MOST_FILES {
        return Err(wrong(&format!(
            "{total} octets in {} files are more than a bundle may hold",
            files.len()
        )));
    }
    let kernel = nix::sys::utsname::uname().map_err(|error| wrong(&error))?;
    let word = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    let manifest = Manifest {
        format: BUNDLE_FORMAT,
        case: facts.case.clone(),
        title: scrubber.text(&result.title),
        verdict: result.verdict,
        implementation: scrubber.text(&facts.implementation),
        version: version.map(|version| scrubber.text(&version)),
        lisplab: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: scrubber.text(&format!(
            "{} {} {}",
            word(kernel.sysname()),
            word(kernel.release()),
            word(kernel.machine())
        )),
        edition: facts.edition,
        strict: facts.strict,
        seed: facts.seed,
        masked_packets,
        files: files
            .iter()
            .map(|(name, octets)| (name.clone(), digest(octets)))
            .collect(),
    };
    write(&manifest, &files, bundle)
        .map_err(|error| BundleError::new(bundle, error, "give another place with -o FILE"))
}

/// Where the programs that ran lie, as far as this tells something of the machine: folders of the system do not.
fn folders_of_programs(trace: &Trace) -> BTreeSet<&Path> {
    let programs = trace
        .processes
        .iter()
        .filter_map(|process| process.argv.first());
    programs
        .filter_map(|program| Path::new(program).parent())
        .filter(|folder| folder.is_absolute())
        .filter(|folder| {
            !["/usr", "/bin", "/sbin"]
                .iter()
                .any(|system| folder.starts_with(system))
        })
        .filter(|folder| folder.components().count() > 1)
        .collect()
}

/// A capture without what names the machine: comments are written anew, octets of packets are overwritten.
fn capture(file: &[u8], scrubber: &Scrubber, masked: &mut Vec<u64>) -> Result<Vec<u8>, String> {
    let mut capture = harness::pcapng::read(file).map_err(|error| error.to_string())?;
    for packet in &mut capture.packets {
        for comment in &mut packet.comments {
            *comment = scrubber.text(comment);
        }
        let mut octets = packet.data.to_vec();
        if scrubber.octets(&mut octets) {
            masked.push(packet.number);
            packet.data = octets.into();
        }
    }
    let mut out = Vec::new();
    harness::pcapng::write(&mut out, &capture.interfaces, &capture.packets)
        .map_err(|error| error.to_string())?;
    Ok(out)
}

/// Writes it whole or not at all.
fn write(
    manifest: &Manifest,
    files: &BTreeMap<String, Vec<u8>>,
    bundle: &Path,
) -> std::io::Result<()> {
    let mut part = bundle.as_os_str().to_os_string();
    part.push(format!(".{}", std::process::id()));
    let part = PathBuf::from(part);
    let written = || -> std::io::Result<()> {
        let packer =
            flate2::write::GzEncoder::new(fs::File::create(&part)?, flate2::Compression::default());
        let mut archive = tar::Builder::new(packer);
        let mut add = |name: &str, octets: &[u8]| {
            // Neither times nor owners: they are of the machine.
            let mut header = tar::Header::new_ustar();
            header.set_size(octets.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            archive.append_data(&mut header, name, octets)
        };
        let mut text = serde_json::to_vec_pretty(manifest).map_err(std::io::Error::other)?;
        text.push(b'\n');
        add(MANIFEST, &text)?;
        for (name, octets) in files {
            add(name, octets)?;
        }
        archive.into_inner()?.finish()?.flush()?;
        fs::rename(&part, bundle)
    };
    written().inspect_err(|_| {
        let _ = fs::remove_file(&part);
    })
}
