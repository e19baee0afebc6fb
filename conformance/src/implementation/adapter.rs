//! The adapter file (docs/adapters.md).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// Version of the adapter file.
pub(crate) const ADAPTER_FORMAT: u32 = 1;

/// One implementation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Adapter {
    /// [`ADAPTER_FORMAT`].
    pub format: u32,
    /// Short name, as in reports.
    pub name: String,
    /// One sentence.
    #[serde(default)]
    pub description: String,
    /// How to ask for the version: program and arguments.
    #[serde(default)]
    pub version: Vec<String>,
    /// Features of the catalogue that it claims; `core` is always asked.
    #[serde(default)]
    pub features: BTreeSet<String>,
    /// Programs by the `role` of a topology's node.
    pub programs: BTreeMap<String, Program>,
    /// The folder of the file: templates are found beside it.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// One program of an implementation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Program {
    /// What it is in the catalogue's words: `itr`, `etr`, `ms`, `mr`, `pitr`, `petr`.
    pub roles: BTreeSet<String>,
    /// The executable: a path, or a name that is looked up beside our own executable and in PATH.
    pub binary: String,
    /// It is a binary target of this checkout, of the package of this name.
    #[serde(default)]
    pub cargo_package: Option<String>,
    /// Arguments; each is a template.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Files of the node: path and template file, beside the adapter.
    #[serde(default)]
    pub files: BTreeMap<PathBuf, PathBuf>,
    /// Environment; each value is a template.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// When it is ready.
    pub ready: Ready,
    /// How it is made to read its files again.
    #[serde(default)]
    pub reload: Option<Reload>,
    /// How it is stopped.
    #[serde(default)]
    pub stop: StopBy,
    /// Timers that its configuration can set, in the names of the settings.
    #[serde(default)]
    pub timers: BTreeSet<String>,
    /// Kernel settings that its nodes need.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// It opens `/dev/net/tun`.
    #[serde(default)]
    pub needs_tun: bool,
    /// Arguments with which it shows something of itself, by name: `map-cache`, `database`, `sites`.
    #[serde(default)]
    pub show: BTreeMap<String, Vec<String>>,
    /// Arguments with which it asks the mapping system by hand (RFC 6835).
    #[serde(default)]
    pub lig: Option<Lig>,
    /// A log file of the node that belongs to the evidence, besides its output. Where there is one, `ready: {log}` looks into
    /// it as well.
    #[serde(default)]
    pub log_file: Option<PathBuf>,
}

impl Program {
    /// Whether others register with it: such programs are started first, so that the first Map-Registers meet somebody.
    pub fn registers_others(&self) -> bool {
        self.roles.contains("ms")
    }
}

/// How one sees that a program is ready. Where several are given, all must hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ready {
    /// It has printed a line that contains this.
    #[serde(default)]
    pub log: Option<String>,
    /// A socket of its node is bound to this UDP port, or listens on this TCP port.
    #[serde(default)]
    pub port: Option<u16>,
    /// It has sent a control message: for programs that say nothing.
    #[serde(default)]
    pub packet: bool,
    /// At the latest after this time; else it is not ready.
    #[serde(default = "ten_seconds")]
    pub within: DurationText,
}

/// How a program is made to ask the mapping system by hand (RFC 6835).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lig {
    /// For an EID, which is added as the last argument.
    pub eid: Vec<String>,
    /// For the site's own first EID-Prefix (`lig self`).
    pub own: Vec<String>,
}

/// How a program is made to read its files again.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Reload {
    /// By a signal.
    pub signal: SignalName,
    /// It then prints a line that contains this.
    #[serde(default)]
    pub log: Option<String>,
}

/// How a program is stopped.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StopBy {
    /// The signal.
    #[serde(default = "sigterm")]
    pub signal: SignalName,
    /// It is killed after this time.
    #[serde(default = "five_seconds")]
    pub within: DurationText,
}

impl Default for StopBy {
    fn default() -> StopBy {
        StopBy {
            signal: sigterm(),
            within: five_seconds(),
        }
    }
}

/// A time as text: `500ms`, `10s`, `3m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DurationText(pub Duration);

impl TryFrom<String> for DurationText {
    type Error = String;

    fn try_from(text: String) -> Result<DurationText, String> {
        let wrong = || format!("expected a time such as 500ms, 10s or 3m, found {text:?}");
        let digits = text
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(text.len());
        let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
        let ms = match &text[digits..] {
            "ms" => Some(number),
            "s" => number.checked_mul(1000),
            "m" => number.checked_mul(60_000),
            _ => None,
        };
        ms.map(|ms| DurationText(Duration::from_millis(ms)))
            .ok_or_else(wrong)
    }
}

/// A signal by its name: `SIGTERM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SignalName(pub nix::sys::signal::Signal);

impl TryFrom<String> for SignalName {
    type Error = String;

    fn try_from(text: String) -> Result<SignalName, String> {
        text.parse()
            .map(SignalName)
            .map_err(|_| format!("expected a signal such as SIGTERM, found {text:?}"))
    }
}

fn sigterm() -> SignalName {
    SignalName(nix::sys::signal::Signal::SIGTERM)
}

fn five_seconds() -> DurationText {
    DurationText(Duration::from_secs(5))
}

fn ten_seconds() -> DurationText {
    DurationText(Duration::from_secs(10))
}

/// An adapter that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}\n  hint: docs/adapters.md shows the form")]
pub struct AdapterError(
    /// Which file, what is wrong, and in which line and column where it is in the text.
    pub String,
);

impl Adapter {
    /// Loads an adapter by the name of a file of `conformance/implementations/`, or by a path.
    ///
    /// # Errors
    /// There is no such file, or what is wrong in it.
    pub fn load(name: &str) -> Result<Adapter, AdapterError> {
        let path = if name.contains('/') || name.ends_with(".yaml") {
            PathBuf::from(name)
        } else {
            crate::home::crate_folder()
                .join("implementations")
                .join(format!("{name}.yaml"))
        };
        let wrong = |problem: String| AdapterError(format!("{}: {problem}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        let mut adapter = Adapter::parse(&path, &text)?;
        adapter.folder = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        for program in adapter.programs.values() {
            for template in program.files.values() {
                let template = adapter.folder.join(template);
                if !template.is_file() {
                    return Err(wrong(format!(
                        "there is no template {}",
                        template.display()
                    )));
                }
            }
        }
        Ok(adapter)
    }

    fn parse(path: &Path, text: &str) -> Result<Adapter, AdapterError> {
        let adapter: Adapter = crate::yaml::read(path, text).map_err(AdapterError)?;
        adapter
            .check()
            .map_err(|problem| AdapterError(format!("{}: {problem}", path.display())))?;
        Ok(adapter)
    }

    /// What the form alone does not say.
    fn check(&self) -> Result<(), String> {
        let adapter = self;
        if adapter.format != ADAPTER_FORMAT {
            return Err(format!(
                "expected format: {ADAPTER_FORMAT}, found {}",
                adapter.format
            ));
        }
        let catalogue = crate::catalogue::catalogue();
        for feature in &adapter.features {
            if !catalogue.features().contains_key(feature) {
                return Err(format!("the catalogue knows no feature {feature}"));
            }
        }
        for (name, program) in &adapter.programs {
            let ready = &program.ready;
            if ready.log.is_none() && ready.port.is_none() && !ready.packet {
                return Err(format!(
                    "program {name}: `ready` wants `log: TEXT`, `port: NUMBER` or `packet: true`"
                ));
            }
            if let Some(file) = &program.log_file
                && !file.is_absolute()
            {
                return Err(format!(
                    "program {name}: expected an absolute path as `log-file`, found {}",
                    file.display()
                ));
            }
            for role in &program.roles {
                if !catalogue.roles().contains_key(role) {
                    return Err(format!(
                        "program {name}: the catalogue knows no role {role}"
                    ));
                }
            }
        }
        // It stands in results, in bundles and in the names of baselines.
        let harmless = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if adapter.name.is_empty() || !adapter.name.chars().all(harmless) {
            return Err(format!(
                "expected a name of letters, digits, `-`, `_` and `.`, found {:?}",
                adapter.name
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_sound() {
        let adapter = Adapter::load("lisplab").unwrap();
        assert!(adapter.programs.contains_key("xtr") && adapter.programs.contains_key("msmr"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let parse = |text: &str| {
            Adapter::parse(Path::new("x.yaml"), text).map_err(|error| error.to_string())
        };
        let good =
            "format: 1\nname: x\nprograms:\n  xtr: {roles: [itr], binary: x, ready: {log: up}}\n";
        assert!(parse(good).is_ok());
        for (from, to, said) in [
            ("format: 1", "format: 2", "format: 1"),
            ("name: x", "name: a/b", "name"),
            ("[itr]", "[cook]", "role cook"),
            ("binary: x", "binary: x, colour: red", "colour"),
            ("{log: up}", "{log: up, within: soon}", "500ms"),
            ("{log: up}", "{}", "ready"),
            ("{log: up}", "{port: 70000}", "70000"),
            ("binary: x", "binary: x, log-file: x.log", "absolute"),
        ] {
            let problem = parse(&good.replace(from, to)).unwrap_err();
            assert!(problem.contains(said), "{said} in {problem}");
        }
    }
}
