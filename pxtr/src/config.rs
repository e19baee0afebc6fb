//! The configuration file of `pxtr`: `xtr`'s keys without a database, and those of a proxy.

use std::path::{Path, PathBuf};

use daemon::config::{Address, ConfigError, Edition, InstanceId, Prefix, Source, Spanned};
use daemon::log::Level;
use lisp::EidPrefix;
use schemars::JsonSchema;
use serde::Deserialize;
use xtr::config::{
    Config as Common, DataPlaneEntry, HoldEntry, Loaded, MinimumLength, OnMiss, ProbingEntry,
    Proxy, RemoteEntry, StaticMapEntry, TranslationEntry,
};
use xtr::forwarding::Role;

/// Where the admin socket is when nothing says otherwise.
pub const SOCKET: &str = "/run/lisp/pxtr.sock";

/// The file as written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// What the box does: `[pitr]`, `[petr]`, `[pitr, petr]` or `[rtr]`.
    #[schemars(length(min = 1, max = 2), extend("uniqueItems" = true))]
    pub roles: Spanned<Vec<ConfigRole>>,
    /// EID aggregates whose traffic a PITR attracts (RFC 6832 5.2): kernel routes of protocol 77.
    #[serde(default)]
    pub aggregates: Vec<Spanned<Prefix>>,
    /// EID-Prefixes of the sites that a PETR serves; from others nothing is decapsulated (RFC 6832 6.1). Default: all.
    #[serde(default)]
    pub petr_sources: Vec<SourceEntry>,
    /// Locators of the sites that a PETR serves; from others nothing is decapsulated. Default: all.
    #[serde(default)]
    pub petr_locators: Vec<Spanned<Prefix>>,
    /// Path of the admin socket; relative to the file's directory.
    #[serde(default = "default_admin_socket")]
    pub admin_socket: PathBuf,
    /// What is logged.
    #[serde(default)]
    pub log: Level,
    /// `6830` or `9300`: which edition rules where they differ.
    #[serde(default)]
    pub edition: Edition,
    /// Own locators.
    #[schemars(length(min = 1))]
    pub rlocs: Spanned<Vec<Spanned<Address>>>,
    /// Where misses are asked, in order of preference.
    #[serde(default)]
    pub map_resolvers: Vec<Spanned<Address>>,
    /// What happens to packets whose mapping is not known yet.
    #[serde(default)]
    pub on_miss: OnMiss,
    /// Packets held per EID and in total.
    #[serde(default)]
    pub hold: HoldEntry,
    /// Map-cache entries that never expire.
    #[serde(default)]
    pub static_map_cache: Vec<StaticMapEntry>,
    /// Reachability tests of remote locators; not done if not given.
    #[serde(default)]
    pub rloc_probing: Option<ProbingEntry>,
    /// Map-Requests per second over all destinations.
    #[serde(default = "default_request_rate")]
    pub map_request_rate: u32,
    /// Learned map-cache entries at most.
    #[serde(default = "default_cache_limit")]
    pub map_cache_limit: usize,
    /// Shortest prefixes that Map-Replies may bring.
    #[serde(default)]
    pub minimum_prefix_length: MinimumLength,
    /// Put the map-versions of sites into packets to them (RFC 6834 8.2.1); a proxy has none of its own.
    #[serde(default)]
    pub map_versioning: bool,
    /// Proxy ETRs for what a PITR or RTR would forward natively.
    #[serde(default)]
    pub use_petr: Vec<RemoteEntry>,
    /// LISP-NAT (RFC 6832 7) where packets leave for networks without LISP, and where they enter tunnels from a network
    /// with private addresses.
    #[serde(default)]
    pub lisp_nat: Vec<TranslationEntry>,
    /// The packet path.
    #[serde(default)]
    pub data_plane: DataPlaneEntry,
}

/// An EID-Prefix that a PETR serves.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SourceEntry {
    /// The prefix.
    pub prefix: Spanned<Prefix>,
    /// Its Instance ID.
    #[serde(default)]
    pub instance_id: InstanceId,
}

/// What the box does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigRole {
    /// Proxy ITR: encapsulates for networks without LISP.
    Pitr,
    /// Proxy ETR: decapsulates toward networks without LISP.
    Petr,
    /// Re-encapsulating tunnel router.
    Rtr,
}

fn default_admin_socket() -> PathBuf {
    SOCKET.into()
}
fn default_request_rate() -> u32 {
    Common::default().map_request_rate
}
fn default_cache_limit() -> usize {
    Common::default().map_cache_limit
}

/// Reads and checks a file.
///
/// # Errors
/// Unreadable, not of the form, or contradicting itself: with line, column and what was expected.
pub fn read(path: &Path) -> Result<Loaded, ConfigError> {
    load(Source::read(path)?)
}

/// Reads and checks a text; `name` stands where a file name would.
///
/// # Errors
/// As [`read`].
pub fn parse(name: &str, text: &str) -> Result<Loaded, ConfigError> {
    load(Source::from_text(name, text))
}

fn load(source: Source) -> Result<Loaded, ConfigError> {
    let config: Config = source.parse()?;
    let proxy = proxy(&source, &config)?;
    let common = Common {
        admin_socket: config.admin_socket,
        log: config.log,
        edition: config.edition,
        rlocs: config.rlocs.value,
        map_resolvers: config.map_resolvers,
        on_miss: config.on_miss,
        hold: config.hold,
        static_map_cache: config.static_map_cache,
        rloc_probing: config.rloc_probing,
        map_request_rate: config.map_request_rate,
        map_cache_limit: config.map_cache_limit,
        minimum_prefix_length: config.minimum_prefix_length,
        map_versioning: config.map_versioning,
        use_petr: config.use_petr,
        lisp_nat: config.lisp_nat,
        data_plane: config.data_plane,
        ..Common::default()
    };
    Loaded::assemble(source, common, proxy)
}

fn proxy(source: &Source, config: &Config) -> Result<Proxy, ConfigError> {
    let role = role(source, &config.roles)?;
    if config.rlocs.value.is_empty() {
        return Err(source.error(
            &config.rlocs,
            "at least one address of this box in `rlocs`",
            "an empty list",
        ));
    }
    let pitr = matches!(role, Role::Pitr | Role::Pxtr);
    for (nth, aggregate) in config.aggregates.iter().enumerate() {
        let prefix = aggregate.value.0;
        let own = config.rlocs.value.iter();
        let mut own = own.filter(|rloc| prefix.contains(&rloc.value.0));
        let problem = if !pitr {
            Some((
                "`aggregates` only with the role `pitr`",
                format!("{prefix} without it"),
            ))
        } else if config.aggregates[..nth].iter().any(|a| a.value.0 == prefix) {
            Some(("each aggregate once", format!("{prefix} a second time")))
        } else {
            // RFC 6830 3: addresses from EID-Prefixes are never used as locators.
            own.next().map(|rloc| {
                (
                    "aggregates that contain no locator of this box",
                    format!("{prefix}, which contains {}", rloc.value.0),
                )
            })
        };
        if let Some((expected, found)) = problem {
            return Err(source.error(aggregate, expected, found));
        }
    }
    let petr = matches!(role, Role::Petr | Role::Pxtr);
    if let Some(entry) = config.petr_sources.first().filter(|_| !petr) {
        let found = format!("{} without it", entry.prefix.value.0);
        let expected = "`petr-sources` only with the role `petr`";
        return Err(source.error(&entry.prefix, expected, found));
    }
    if let Some(entry) = config.petr_locators.first().filter(|_| !petr) {
        let found = format!("{} without it", entry.value.0);
        let expected = "`petr-locators` only with the role `petr`";
        return Err(source.error(entry, expected, found));
    }
    Ok(Proxy {
        role,
        aggregates: config.aggregates.iter().map(|a| a.value.0).collect(),
        petr_sources: config
            .petr_sources
            .iter()
            .map(|entry| EidPrefix::new(entry.instance_id.0, entry.prefix.value.0))
            .collect(),
        petr_locators: config.petr_locators.iter().map(|l| l.value.0).collect(),
    })
}

fn role(source: &Source, roles: &Spanned<Vec<ConfigRole>>) -> Result<Role, ConfigError> {
    let expected = "[pitr], [petr], [pitr, petr] or [rtr]";
    let has = |role| roles.value.contains(&role);
    let twice = roles.value.len() > 2 || roles.value.first() == roles.value.get(1);
    match (
        has(ConfigRole::Pitr),
        has(ConfigRole::Petr),
        has(ConfigRole::Rtr),
    ) {
        _ if twice && !roles.value.is_empty() => {
            Err(source.error(roles, expected, "the same role twice"))
        }
        (true, false, false) => Ok(Role::Pitr),
        (false, true, false) => Ok(Role::Petr),
        (true, true, false) => Ok(Role::Pxtr),
        (false, false, true) => Ok(Role::Rtr),
        (false, false, false) => Err(source.error(roles, expected, "no role")),
        (_, _, true) => Err(source.error(roles, expected, "`rtr` together with another role")),
    }
}

#[cfg(test)]
mod tests;
