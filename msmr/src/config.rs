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

use daemon::config::{
    self, Address, ConfigError, InstanceId, Key, Period, Prefix, Source, Spanned,
};
use daemon::log::Level;
use lisp::EidPrefix;
use lisp::auth::AuthKey;
use lisp::wire::MapRegister;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::core::site::{
    AcceptMac, Config, Edition, Limits, RemoteServer, Roles, SiteConfig, SiteKey, SitePrefix,
};

/// The admin socket when the configuration names none.
pub const DEFAULT_ADMIN_SOCKET: &str = "/run/lisp/msmr.sock";

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

/// The file as written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "Config")]
struct File {
    /// Path of the admin socket, relative to the file's directory: `/run/lisp/msmr.sock` if not given.
    admin_socket: Option<PathBuf>,
    /// What is logged.
    #[serde(default)]
    log: Level,
    /// `6830` or `9300`: which edition rules where they differ.
    #[serde(default)]
    edition: config::Edition,
    /// Which services run here: both if not given.
    roles: Option<Vec<Role>>,
    /// Addresses to serve: every address of the host if none is given.
    #[serde(default)]
    addresses: Vec<Address>,
    /// UDP port to serve; another one only for tests.
    #[serde(default = "control_port")]
    port: u16,
    /// Who may register what.
    #[serde(default)]
    sites: Vec<SiteFile>,
    /// Space that negative replies never reach beyond.
    #[serde(default)]
    aggregates: Vec<PrefixFile>,
    /// For a Map-Resolver: which other Map-Servers serve what.
    #[serde(default)]
    map_servers: Vec<ServerFile>,
    /// How long a registration lives: 180s if not given, longer than zero.
    registration_timeout: Option<Spanned<Period>>,
    /// Lengths of authentication data that are taken: `[truncated]` if not given.
    accept_mac: Option<Vec<MacForm>>,
    /// Folder where state is kept, relative to the file's directory: nothing is kept if not given.
    state_dir: Option<PathBuf>,
    /// Wait for the disk itself, so that a power failure loses nothing either.
    #[serde(default)]
    state_sync: bool,
    /// Bounds on what strangers can make the daemon hold or do.
    #[serde(default)]
    limits: LimitsFile,
    /// Sources without a limit of Map-Requests, such as Map-Resolvers.
    #[serde(default)]
    unlimited_sources: Vec<Prefix>,
}

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Role {
    /// Takes Map-Registers and answers for its sites.
    MapServer,
    /// Takes Encapsulated Map-Requests of ITRs and knows other Map-Servers.
    MapResolver,
}

/// A length of authentication data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum MacForm {
    /// The RFCs' 12 and 16 octets.
    Truncated,
    /// The deployed 20 and 32 octets.
    Full,
}

/// A site as written; also what `msmr site put` takes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SiteFile {
    /// Its name, which no other site has.
    #[schemars(length(min = 1))]
    name: Spanned<String>,
    /// Any of them authenticates its ETRs; a Map-Notify uses the register's.
    #[schemars(length(min = 1))]
    keys: Vec<Key>,
    /// What it may register.
    eid_prefixes: Vec<SitePrefixFile>,
    /// Where its locators may lie: anywhere if none is given.
    #[serde(default)]
    allowed_locators: Vec<Prefix>,
    /// Lengths of authentication data that are taken: the server's if not given.
    accept_mac: Option<Vec<MacForm>>,
    /// How long a registration lives, longer than zero: as long as the server says if not given.
    registration_timeout: Option<Spanned<Period>>,
    /// Registered prefixes at most: only the server's limit if not given.
    max_registrations: Option<usize>,
}

/// An EID-Prefix of a site.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SitePrefixFile {
    /// The prefix.
    prefix: Spanned<Prefix>,
    /// Its Instance ID, 0 to 16777215.
    #[serde(default)]
    instance_id: InstanceId,
    /// Prefixes inside it may be registered too.
    #[serde(default)]
    accept_more_specifics: bool,
    /// Map-Requests for it are refused by policy (RFC 9301 8.3).
    #[serde(default)]
    deny: bool,
}

/// A prefix of an instance.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PrefixFile {
    /// The prefix.
    prefix: Spanned<Prefix>,
    /// Its Instance ID, 0 to 16777215.
    #[serde(default)]
    instance_id: InstanceId,
}

/// Another Map-Server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ServerFile {
    /// Its address.
    address: Address,
    /// What it serves.
    eid_prefixes: Vec<PrefixFile>,
}

/// Bounds on what strangers can make the daemon hold or do.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct LimitsFile {
    /// Registered prefixes of all sites.
    #[schemars(extend("default" = Limits::default().registrations))]
    registrations: Option<usize>,
    /// Configured sites.
    #[schemars(extend("default" = Limits::default().sites))]
    sites: Option<usize>,
    /// ETRs of one prefix.
    #[schemars(extend("default" = Limits::default().etrs_per_prefix))]
    etrs_per_prefix: Option<usize>,
    /// xTRs whose last nonce is remembered for each key (edition 9300), 1 or more.
    #[schemars(range(min = 1), extend("default" = Limits::default().nonces_per_key))]
    nonces_per_key: Option<Spanned<usize>>,
    /// Map-Requests a second of one source; 0 for no limit.
    #[schemars(extend("default" = Limits::default().map_requests_per_source))]
    map_requests_per_source: Option<u32>,
    /// The same answer to the same requester at most once in this time; 0s for no limit.
    #[schemars(extend("default" = Period(Limits::default().map_reply_interval)))]
    map_reply_interval: Option<Period>,
}

impl PrefixFile {
    fn eid_prefix(&self) -> EidPrefix {
        EidPrefix::new(self.instance_id.0, self.prefix.value.0)
    }
}

fn prefixes(written: &[PrefixFile]) -> Vec<EidPrefix> {
    written.iter().map(PrefixFile::eid_prefix).collect()
}

fn control_port() -> u16 {
    lisp::CONTROL_PORT
}

/// The JSON Schema of the file as JSON text, for editors.
pub fn schema() -> String {
    config::schema::<File>()
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
    let aggregates = prefixes(&file.aggregates);
    let mut map_servers = Vec::new();
    for server in &file.map_servers {
        map_servers.push(RemoteServer {
            address: server.address.0,
            prefixes: prefixes(&server.eid_prefixes),
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
                config::Edition::Rfc6830 => Edition::Rfc6830,
                config::Edition::Rfc9300 => Edition::Rfc9300,
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
            let prefix = EidPrefix::new(written.instance_id.0, written.prefix.value.0);
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

    fn not_of_a_site(&self, written: &[PrefixFile]) -> Result<(), ConfigError> {
        for written in written {
            let prefix = written.eid_prefix();
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
    fn the_schema_takes_the_example_and_no_other_keys() {
        let schema = serde_json::from_str(&schema()).unwrap();
        let example: serde_json::Value = config::parse("msmr.md", example()).unwrap();
        jsonschema::validate(&schema, &example).unwrap();
        for place in [
            "",
            "/limits",
            "/aggregates/0",
            "/map-servers/0",
            "/map-servers/0/eid-prefixes/0",
            "/sites/0",
            "/sites/0/keys/0",
            "/sites/0/eid-prefixes/0",
        ] {
            let mut other = example.clone();
            other.pointer_mut(place).unwrap()["nothing"] = 1.into();
            assert!(!jsonschema::is_valid(&schema, &other), "{place}");
        }
        for (place, wrong) in [
            ("/limits/nonces-per-key", 0.into()),
            ("/sites/0/keys", serde_json::json!([])),
            ("/sites/0/name", "".into()),
            ("/sites/0/eid-prefixes/0/instance-id", (1 << 24).into()),
            ("/edition", 9999.into()),
            ("/port", 65536.into()),
            ("/registration-timeout", "3 minutes".into()),
        ] {
            let mut other = example.clone();
            *other.pointer_mut(place).unwrap() = wrong;
            assert!(!jsonschema::is_valid(&schema, &other), "{place}");
        }
        assert_eq!(
            schema["$defs"]["LimitsFile"]["properties"]["map-reply-interval"]["default"],
            "1s"
        );
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
