//! Reading a bundle that somebody sent. Nothing is written before all of it is known to be sound.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use super::{
    BUNDLE_FORMAT, BundleError, LARGEST, MANIFEST, MOST_FILES, Manifest, digest, is_plain,
};
use crate::results::CaseResult;

const HINT: &str =
    "a bundle is what `lisplab bundle make` and failing runs write; ask for it again";

/// A bundle, whole and in memory.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its other files, by name.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Reads a bundle.
///
/// # Errors
/// It is no bundle, is cut off, changed or too large, or has names that lead elsewhere.
pub fn open(path: &Path) -> Result<Bundle, BundleError> {
    let wrong = |problem: String| BundleError::new(path, problem, HINT);
    let file = fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let length = file.metadata().map_err(|error| wrong(error.to_string()))?;
    if !length.is_file() || length.len() > LARGEST {
        return Err(wrong(format!(
            "expected a file of at most {LARGEST} octets"
        )));
    }
    read(file).map_err(wrong)
}

fn read(file: impl Read) -> Result<Bundle, String> {
    let cut = |error: io::Error| format!("not a whole gzipped tar archive: {error}");
    let left = Bounded {
        from: flate2::read::GzDecoder::new(file),
        left: LARGEST + (MOST_FILES as u64 + 2) * 1024,
    };
    let mut archive = tar::Archive::new(left);
    let mut files = BTreeMap::new();
    for entry in archive.entries().map_err(cut)? {
        let mut entry = entry.map_err(cut)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if kind != tar::EntryType::Regular {
            return Err(format!("{name:?} is no plain file"));
        }
        if !is_plain(&name) {
            return Err(format!(
                "the name {name:?} leads out of the bundle's folder"
            ));
        }
        if files.is_empty() && name != MANIFEST {
            return Err(format!("expected {MANIFEST} first, found {name:?}"));
        }
        if files.len() > MOST_FILES {
            return Err(format!("more than {MOST_FILES} files"));
        }
        // The size that the header gives is only believed as far as octets come.
        let mut octets = Vec::new();
        entry.read_to_end(&mut octets).map_err(cut)?;
        if files.insert(name.clone(), octets).is_some() {
            return Err(format!("{name} is there twice"));
        }
    }
    // The checksum of the packing stands behind the end of the archive.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(cut)?;
    let manifest = files
        .remove(MANIFEST)
        .ok_or("there is no manifest.json in it")?;
    let manifest: Manifest =
        serde_json::from_slice(&manifest).map_err(|error| format!("{MANIFEST}: {error}"))?;
    if manifest.format != BUNDLE_FORMAT {
        return Err(format!(
            "expected format {BUNDLE_FORMAT}, found {}",
            manifest.format
        ));
    }
    if !manifest.files.keys().eq(files.keys()) {
        return Err("its files are not those of its manifest".to_owned());
    }
    for (name, octets) in &files {
        if manifest.files[name] != digest(octets) {
            return Err(format!(
                "{name} is not what its manifest says: it was changed or damaged"
            ));
        }
    }
    for needed in [
        "result.json",
        "topology.yaml",
        "trace.json",
        "capture.pcapng",
    ] {
        if !files.contains_key(needed) {
            return Err(format!("there is no {needed} in it"));
        }
    }
    Ok(Bundle { manifest, files })
}

impl Bundle {
    /// The result that it reports.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn result(&self) -> Result<CaseResult, String> {
        serde_json::from_slice(&self.files["result.json"])
            .map_err(|error| format!("result.json: {error}"))
    }

    /// Whether it is of a scenario.
    pub fn is_scenario(&self) -> bool {
        self.files.contains_key("scenario.yaml")
    }

    /// Writes its files into a folder that is there.
    ///
    /// # Errors
    /// Those of writing.
    pub fn unpack(&self, folder: &Path) -> io::Result<()> {
        // Names were checked when it was read.
        self.files
            .iter()
            .try_for_each(|(name, octets)| fs::write(folder.join(name), octets))
    }
}

/// Reads so many octets, and more is an error: a small archive can be packed from an endless file.
struct Bounded<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.left = self
            .left
            .checked_sub(length as u64)
            .ok_or_else(|| io::Error::other("it unpacks to more than a bundle may hold"))?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    type Entry<'a> = (&'a str, tar::EntryType, Vec<u8>);

    fn packed(entries: &[Entry<'_>]) -> Vec<u8> {
        let packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut archive = tar::Builder::new(packer);
        for (name, kind, octets) in entries {
            let mut header = tar::Header::new_ustar();
            // The writer's own check would refuse what a hostile one writes.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(octets.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            archive.append(&header, octets.as_slice()).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap()
    }

    fn sound() -> Vec<Entry<'static>> {
        let names = [
            "capture.pcapng",
            "result.json",
            "topology.yaml",
            "trace.json",
        ];
        let files: BTreeMap<&str, String> = names
            .iter()
            .map(|name| (*name, digest(name.as_bytes())))
            .collect();
        let manifest = serde_json::json!({
            "format": 1, "case": "x", "title": "x", "verdict": "fail", "implementation": "x", "lisplab": "0", "kernel": "x",
            "edition": "6830", "strict": false, "seed": 1, "files": files,
        });
        let mut entries = vec![(
            MANIFEST,
            tar::EntryType::Regular,
            manifest.to_string().into_bytes(),
        )];
        entries.extend(names.map(|name| (name, tar::EntryType::Regular, name.as_bytes().to_vec())));
        entries
    }

    #[test]
    fn what_is_sound_is_read_and_every_cut_is_refused() {
        let file = packed(&sound());
        assert_eq!(read(file.as_slice()).unwrap().files.len(), 4);
        for length in 0..file.len() {
            assert!(read(&file[..length]).is_err(), "cut at {length}");
        }
        for at in 10..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 0x10;
            // Either it is refused, or nothing in it has changed.
            if let Ok(bundle) = read(changed.as_slice()) {
                assert_eq!(
                    bundle.files,
                    read(file.as_slice()).unwrap().files,
                    "octet {at}"
                );
            }
        }
    }

    #[test]
    fn hostile_archives_are_refused() {
        let file = tar::EntryType::Regular;
        for (name, kind, said) in [
            ("../x", file, "leads out"),
            ("/etc/x", file, "leads out"),
            ("a/b", file, "leads out"),
            (".bashrc", file, "leads out"),
            ("a\u{1b}[2J", file, "leads out"),
            ("link", tar::EntryType::Symlink, "no plain file"),
            ("hard", tar::EntryType::Link, "no plain file"),
            ("device", tar::EntryType::Char, "no plain file"),
            ("folder", tar::EntryType::Directory, "no plain file"),
            ("trace.json", file, "twice"),
            ("more", file, "not those of its manifest"),
        ] {
            let mut entries = sound();
            entries.push((name, kind, Vec::new()));
            let problem = read(packed(&entries).as_slice()).unwrap_err();
            assert!(problem.contains(said), "{name:?}: {problem}");
        }
        let mut late = sound();
        late.swap(0, 1);
        assert!(
            read(packed(&late).as_slice())
                .unwrap_err()
                .contains("first")
        );
        let mut other = sound();
        other[2].2 = b"else".to_vec();
        assert!(
            read(packed(&other).as_slice())
                .unwrap_err()
                .contains("changed or damaged")
        );
    }

    #[test]
    fn an_endless_file_ends_the_reading() {
        // A header that promises more than any bundle holds, and zeros without end behind it.
        let mut header = tar::Header::new_ustar();
        header.set_path(MANIFEST).unwrap();
        header.set_size(8 << 30);
        header.set_cksum();
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(header.as_bytes()).unwrap();
        packer.write_all(&vec![0; 64 << 20]).unwrap();
        let file = packer.finish().unwrap();
        let small = Bounded {
            from: flate2::read::GzDecoder::new(file.as_slice()),
            left: 1 << 20,
        };
        let mut sink = Vec::new();
        let error = { small }.read_to_end(&mut sink).unwrap_err();
        assert!(error.to_string().contains("more than a bundle may hold") && sink.len() <= 1 << 20);
        assert!(read(file.as_slice()).is_err());
    }
}
