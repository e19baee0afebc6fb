//! The configuration file of `msmr`, and how it becomes the core's configuration.
//!
//! ```yaml
//! admin-socket: /run/lisp/msmr.sock     # relative paths are relative to this file
//! log: info
//! edition: 6830                         # or 9300
//! roles: [map-server, map-resolver]
//! addresses: [198.51.100.10]            # default: every address of the host
//! registration-timeout: 180s
//! accept-mac: [truncated]               # full: also the deployed 20 and 32 octets
//! state-dir: /var/lib/lisp/msmr         # default: nothing is kept
//! sites:
//!   - name: site-a
//!     keys: [{key: secret, key-id: 0, algorithm: hmac-sha-256-128}]
//!     eid-prefixes: [{prefix: 10.1.0.0/24, instance-id: 0, accept-more-specifics: false}]
//!     allowed-locators: [192.0.2.0/24]  # default: any
//! aggregates: [{prefix: 10.0.0.0/8}]    # space that negative replies never reach beyond
//! map-servers:                          # for a Map-Resolver: who serves what
//!   - {address: 198.51.100.20, eid-prefixes: [{prefix: 10.2.0.0/16}]}
//! limits: {map-requests-per-source: 5000}
//! ```

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemon::config::{Address, ConfigError, Key, Period, Prefix, Source, Spanned};
use daemon::log::Level;
use lisp::EidPrefix;
use lisp::auth::AuthKey;
use lisp::wire::MapRegister;
use serde::Deserialize;

use crate::core::site::{
    AcceptMac, Config, Edition, Limits, RemoteServer, Roles, SiteConfig, SiteKey, SitePrefix,
};

/// The admin socket when the configuration names none.
pub const DEFAULT_ADMIN_SOCKET: &str = "/run/lisp/msmr.sock";
/// Largest Instance ID (RFC 8060 4.1: 24 bits).
const MAX_INSTANCE_ID: u32 = 0x00ff_ffff;

/// Everything that the daemon is configured with.
#[derive(Debug, Clone)]
pub struct DaemonConfig {
    /// The admin socket.
    pub admin_socket: PathBuf,
    /// How much is logged.
    pub log: Level,
    /// Addresses to serve; all of the host when empty.
    pub addresses: Vec<IpAddr>,
    /// UDP port to serve, 4342 unless a test wants another.
    pub port: u16,
    /// Where state is kept.
    pub state_dir: Option<PathBuf>,
    /// Whether state is flushed to the disk itself, so that a power failure loses nothing either.
    pub state_sync: bool,
    /// The core's part.
    pub core: Config,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    admin_socket: Option<PathBuf>,
    #[serde(default)]
    log: Level,
    #[serde(default)]
    edition: EditionName,
    roles: Option<Vec<Role>>,
    #[serde(default)]
    addresses: Vec<Address>,
    #[serde(default = "control_port")]
    port: u16,
    #[serde(default)]
    sites: Vec<SiteFile>,
    #[serde(default)]
    aggregates: Vec<PrefixFile>,
    #[serde(default)]
    map_servers: Vec<ServerFile>,
    registration_timeout: Option<Spanned<Period>>,
    accept_mac: Option<Vec<MacForm>>,
    state_dir: Option<PathBuf>,
    #[serde(default)]
    state_sync: bool,
    #[serde(default)]
    limits: LimitsFile,
    #[serde(default)]
    unlimited_sources: Vec<Prefix>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
enum EditionName {
    #[default]
    #[serde(rename = "6830")]
    Rfc6830,
    #[serde(rename = "9300")]
    Rfc9300,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Role {
    MapServer,
    MapResolver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum MacForm {
    Truncated,
    Full,
}

/// A site as written; also what `msmr site put` takes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SiteFile {
    name: Spanned<String>,
    keys: Vec<Key>,
    eid_prefixes: Vec<SitePrefixFile>,
    #[serde(default)]
    allowed_locators: Vec<Prefix>,
    accept_mac: Option<Vec<MacForm>>,
    registration_timeout: Option<Spanned<Period>>,
    max_registrations: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SitePrefixFile {
    prefix: Spanned<Prefix>,
    #[serde(default)]
    instance_id: Option<Spanned<u32>>,
    #[serde(default)]
    accept_more_specifics: bool,
    #[serde(default)]
    deny: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PrefixFile {
    prefix: Spanned<Prefix>,
    #[serde(default)]
    instance_id: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ServerFile {
    address: Address,
    eid_prefixes: Vec<PrefixFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct LimitsFile {
    registrations: Option<usize>,
    sites: Option<usize>,
    etrs_per_prefix: Option<usize>,
    nonces_per_key: Option<Spanned<usize>>,
    map_requests_per_source: Option<u32>,
    map_reply_interval: Option<Period>,
}

fn control_port() -> u16 {
    lisp::CONTROL_PORT
}

/// Reads and checks a configuration file.
///
/// # Errors
/// With line and column when anything in it is wrong, also what only shows across values: a prefix of two sites, a
/// name given twice.
pub fn load(path: &Path) -> Result<DaemonConfig, ConfigError> {
    from_source(&Source::read(path)?)
}

/// The same from a text.
///
/// # Errors
/// As [`load`].
pub fn from_source(source: &Source) -> Result<DaemonConfig, ConfigError> {
    let file: File = source.parse()?;
    let limits = limits(source, &file.limits)?;
    let mut checker = Checker::new(source);
    let mut sites = Vec::with_capacity(file.sites.len());
    for site in &file.sites {
        sites.push(checker.site(site)?);
        if sites.len() > limits.sites {
            return Err(source
                .error(
                    &site.name,
                    format!("at most {} sites", limits.sites),
                    "one more",
                )
                .with_hint("raise `limits: {sites: ...}`"));
        }
    }
    let aggregates = checker.prefixes(&file.aggregates)?;
    let mut map_servers = Vec::new();
    for server in &file.map_servers {
        map_servers.push(RemoteServer {
            address: server.address.0,
            prefixes: checker.prefixes(&server.eid_prefixes)?,
        });
        checker.not_of_a_site(&server.eid_prefixes)?;
    }
    let roles = file
        .roles
        .as_ref()
        .map_or_else(Roles::default, |roles| Roles {
            map_server: roles.contains(&Role::MapServer),
            map_resolver: roles.contains(&Role::MapResolver),
        });
    Ok(DaemonConfig {
        admin_socket: source.resolve(
            file.admin_socket
                .as_deref()
                .unwrap_or(Path::new(DEFAULT_ADMIN_SOCKET)),
        ),
        log: file.log,
        addresses: file.addresses.iter().map(|address| address.0).collect(),
        port: file.port,
        state_dir: file.state_dir.as_deref().map(|path| source.resolve(path)),
        state_sync: file.state_sync,
        core: Config {
            edition: match file.edition {
                EditionName::Rfc6830 => Edition::Rfc6830,
                EditionName::Rfc9300 => Edition::Rfc9300,
            },
            roles,
            sites,
            aggregates,
            map_servers,
            registration_timeout: timeout(source, file.registration_timeout.as_ref())?
                .unwrap_or(std::time::Duration::from_secs(180)),
            accept_mac: file
                .accept_mac
                .as_deref()
                .map_or_else(AcceptMac::default, accept_mac),
            limits,
            unlimited_sources: file.unlimited_sources.iter().map(|net| net.0).collect(),
        },
    })
}

/// Reads one site, as `msmr site put` sends it.
///
/// # Errors
/// As [`load`]; whether the prefixes are another site's is for the caller.
pub fn site_from_source(source: &Source) -> Result<SiteConfig, ConfigError> {
    Checker::new(source).site(&source.parse::<SiteFile>()?)
}

/// A fingerprint that tells keys apart in stored state: part of the code that the key makes of an empty Map-Register, so
/// that it says no more about the secret than every Map-Register does.
fn key_fingerprint(key: &AuthKey) -> u64 {
    let signed = MapRegister::default().to_signed_vec(key);
    let start = signed.len() - key.algorithm.data_len();
    let code = signed[start..].iter().take(8);
    code.fold(0, |number, octet| number << 8 | u64::from(*octet))
}

fn accept_mac(forms: &[MacForm]) -> AcceptMac {
    AcceptMac {
        truncated: forms.contains(&MacForm::Truncated),
        full: forms.contains(&MacForm::Full),
    }
}

fn timeout(
    source: &Source,
    period: Option<&Spanned<Period>>,
) -> Result<Option<std::time::Duration>, ConfigError> {
    match period {
        Some(period) if period.value.0.is_zero() => {
            Err(source.error(period, "a time longer than zero", period.value.to_string()))
        }
        period => Ok(period.map(|period| period.value.0)),
    }
}

fn limits(source: &Source, file: &LimitsFile) -> Result<Limits, ConfigError> {
    let default = Limits::default();
    if let Some(nonces) = file
        .nonces_per_key
        .as_ref()
        .filter(|nonces| nonces.value == 0)
    {
        return Err(source.error(nonces, "a number of 1 or more", "0"));
    }
    Ok(Limits {
        registrations: file.registrations.unwrap_or(default.registrations),
        sites: file.sites.unwrap_or(default.sites),
        etrs_per_prefix: file.etrs_per_prefix.unwrap_or(default.etrs_per_prefix),
        nonces_per_key: file
            .nonces_per_key
            .as_ref()
            .map_or(default.nonces_per_key, |nonces| nonces.value),
        map_requests_per_source: file
            .map_requests_per_source
            .unwrap_or(default.map_requests_per_source),
        map_reply_interval: file
            .map_reply_interval
            .map_or(default.map_reply_interval, |period| period.0),
    })
}

/// Checks what only shows across values.
struct Checker<'a> {
    source: &'a Source,
    names: HashMap<String, ()>,
    owners: HashMap<EidPrefix, String>,
    /// Equal keys share their prepared state.
    keys: HashMap<(String, u8, lisp::auth::MacAlgorithm), SiteKey>,
}

impl<'a> Checker<'a> {
    fn new(source: &'a Source) -> Self {
        Self {
            source,
            names: HashMap::new(),
            owners: HashMap::new(),
            keys: HashMap::new(),
        }
    }

    fn site(&mut self, site: &SiteFile) -> Result<SiteConfig, ConfigError> {
        let name = &site.name.value;
        if name.is_empty() {
            return Err(self.source.error(&site.name, "a name", "an empty text"));
        }
        if self.names.insert(name.clone(), ()).is_some() {
            return Err(self
                .source
                .error(
                    &site.name,
                    "a name of its own for each site",
                    format!("`{name}` a second time"),
                )
                .with_hint("rename one of the two sites, or join them"));
        }
        if site.keys.is_empty() {
            return Err(self
                .source
                .error(&site.name, "at least one key for the site", "none")
                .with_hint("add `keys: [{key: ...}]`: without one, nothing can register"));
        }
        let mut prefixes = Vec::with_capacity(site.eid_prefixes.len());
        for written in &site.eid_prefixes {
            let prefix = self.prefix(&written.prefix, written.instance_id.as_ref())?;
            if let Some(owner) = self.owners.insert(prefix, name.clone()) {
                return Err(self
                    .source
                    .error(
                        &written.prefix,
                        "an EID-Prefix that no site has yet",
                        format!("{prefix}, which is site `{owner}`'s"),
                    )
                    .with_hint(
                        "an EID-Prefix belongs to one site; nested prefixes may belong to others",
                    ));
            }
            prefixes.push(SitePrefix {
                prefix,
                accept_more_specifics: written.accept_more_specifics,
                deny: written.deny,
            });
        }
        Ok(SiteConfig {
            name: name.clone(),
            keys: site.keys.iter().map(|key| self.key(key)).collect(),
            prefixes,
            allowed_locators: site.allowed_locators.iter().map(|net| net.0).collect(),
            accept_mac: site.accept_mac.as_deref().map(accept_mac),
            registration_timeout: timeout(self.source, site.registration_timeout.as_ref())?,
            max_registrations: site.max_registrations,
        })
    }

    fn key(&mut self, key: &Key) -> SiteKey {
        self.keys
            .entry((key.key.clone(), key.key_id, key.algorithm.0))
            .or_insert_with(|| {
                let auth = key.to_auth_key();
                SiteKey {
                    fingerprint: key_fingerprint(&auth),
                    auth: Arc::new(auth),
                }
            })
            .clone()
    }

    fn prefix(
        &self,
        prefix: &Spanned<Prefix>,
        iid: Option<&Spanned<u32>>,
    ) -> Result<EidPrefix, ConfigError> {
        if let Some(iid) = iid.filter(|iid| iid.value > MAX_INSTANCE_ID) {
            return Err(self.source.error(
                iid,
                format!("an Instance ID of 24 bits, at most {MAX_INSTANCE_ID}"),
                iid.value.to_string(),
            ));
        }
        Ok(EidPrefix::new(
            iid.map_or(0, |iid| iid.value),
            prefix.value.0,
        ))
    }

    fn prefixes(&self, written: &[PrefixFile]) -> Result<Vec<EidPrefix>, ConfigError> {
        written
            .iter()
            .map(|written| self.prefix(&written.prefix, written.instance_id.as_ref()))
            .collect()
    }

    fn not_of_a_site(&self, written: &[PrefixFile]) -> Result<(), ConfigError> {
        for written in written {
            let prefix = self.prefix(&written.prefix, written.instance_id.as_ref())?;
            if let Some(owner) = self.owners.get(&prefix) {
                return Err(self
                    .source
                    .error(
                        &written.prefix,
                        "a prefix that another Map-Server serves",
                        format!("{prefix}, which is site `{owner}`'s here"),
                    )
                    .with_hint("a prefix is either registered here or asked for elsewhere"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../docs/msmr.md");

    /// The configuration of the page.
    fn example() -> &'static str {
        let start = PAGE.find("```yaml\n").unwrap() + "```yaml\n".len();
        &PAGE[start..start + PAGE[start..].find("```").unwrap()]
    }

    fn read(text: &str) -> Result<DaemonConfig, String> {
        from_source(&Source::from_text("msmr.yaml", text)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_of_the_page_is_a_configuration() {
        let read = read(example()).unwrap();
        assert_eq!(read.core.sites.len(), 1);
        assert_eq!(read.core.map_servers.len(), 1);
        assert_eq!(read.core.sites[0].max_registrations, Some(1000));
        // What it calls defaults are these.
        let limits = format!("{:?}", read.core.limits);
        assert_eq!(limits, format!("{:?}", Limits::default()));
    }

    #[test]
    fn the_example_shows_every_key() {
        let site = |inside: &str| format!("sites: [{{name: a, {inside}}}]");
        for unknown in [
            "nothing: 1".to_owned(),
            "limits: {nothing: 1}".to_owned(),
            "aggregates: [{nothing: 1}]".to_owned(),
            "map-servers: [{nothing: 1}]".to_owned(),
            site("nothing: 1"),
            site("keys: [{nothing: 1}]"),
            site("keys: [{key: x}], eid-prefixes: [{nothing: 1}]"),
        ] {
            let error = read(&unknown).unwrap_err();
            let expected = error.split(", found").next().unwrap();
            let keys: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
            assert!(keys.len() > 1, "{error}");
            for key in keys {
                let shown = example().contains(&format!("{key}:"));
                assert!(shown, "`{key}` of {unknown:?} is not in docs/msmr.md");
            }
        }
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, expected) in [
            (
                "limits: {nonces-per-key: 0}",
                ":1:26: expected a number of 1 or more, found 0",
            ),
            (
                "limits: {sites: 0}\nsites: [{name: a, keys: [{key: x}], eid-prefixes: []}]",
                "at most 0 sites",
            ),
            ("edition: 9999", "6830"),
            ("accept-mac: [short]", "truncated"),
            (
                "sites: [{name: '', keys: [], eid-prefixes: []}]",
                "expected a name",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
