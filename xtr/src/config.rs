//! The configuration file of `xtr`.
//!
//! Strict YAML: unknown keys and wrong values are errors that name the line. [`Config::settings`] checks what no single
//! value can show (duplicates, locators without priority among them) and fills in the defaults.

mod data_plane;
mod values;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::config::{Algorithm, ConfigError, Period, Prefix, Source, Spanned};
use daemon::log::Level;
use ipnet::IpNet;
use lisp::EidPrefix;
use lisp::auth::AuthKey;
use serde::Deserialize;
use serde::de::value::MapDeserializer;

use crate::core::settings::{
    HoldLimits, LocalLocator, LocalMapping, MapServer, RemoteLocator, RequesterPolicy, Settings,
    StaticEntry, StaticPath,
};
use crate::forwarding::Role;
use crate::shell::{Host, Setup};
pub use data_plane::DataPlaneEntry;
pub use values::{ConfigEdition, InstanceId, OnMiss, StaticAction};

/// The file as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Path of the admin socket; relative to the file's directory.
    #[serde(default = "default_admin_socket")]
    pub admin_socket: PathBuf,
    /// What is logged.
    #[serde(default)]
    pub log: Level,
    /// `6830` or `9300`: which edition rules where they differ.
    #[serde(default)]
    pub edition: ConfigEdition,
    /// Own locators. Default: the locators of `eid-prefixes` that are addresses of this box.
    #[serde(default)]
    pub rlocs: Vec<Spanned<IpAddr>>,
    /// The database.
    #[serde(default)]
    pub eid_prefixes: Vec<EidEntry>,
    /// Where it is registered.
    #[serde(default)]
    pub map_servers: Vec<MapServerEntry>,
    /// Where misses are asked, in order of preference.
    #[serde(default)]
    pub map_resolvers: Vec<IpAddr>,
    /// Time between Map-Registers: 60s if not given, 1s to 1h.
    #[serde(default)]
    pub register_interval: Option<Spanned<Period>>,
    /// Register every 20 s for five minutes after a start or a change.
    #[serde(default = "yes")]
    pub quick_registration: bool,
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
    /// Set and heed locator-status bits.
    #[serde(default)]
    pub locator_status_bits: bool,
    /// Use map-versions.
    #[serde(default)]
    pub map_versioning: bool,
    /// Offer and use echo-nonce.
    #[serde(default)]
    pub echo_nonce: bool,
    /// Glean mappings from data packets and Map-Requests, pending verification.
    #[serde(default)]
    pub glean: bool,
    /// Proxy ETRs for what would be forwarded natively.
    #[serde(default)]
    pub use_petr: Vec<RemoteEntry>,
    /// Send misses to the PETR too: a site without a mapping system.
    #[serde(default)]
    pub misses_to_petr: bool,
    /// The packet path.
    #[serde(default)]
    pub data_plane: DataPlaneEntry,
    /// 128-bit xTR-ID, as 32 hexadecimal digits.
    #[serde(default)]
    pub xtr_id: Option<values::XtrId>,
    /// 64-bit Site-ID.
    #[serde(default)]
    pub site_id: u64,
}

/// One EID-Prefix of the site.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EidEntry {
    /// The prefix.
    pub prefix: Spanned<Prefix>,
    /// Its Instance ID, 0 to 16777215.
    #[serde(default)]
    pub instance_id: InstanceId,
    /// Minutes that others may keep the mapping.
    #[serde(default = "default_ttl")]
    pub ttl: u32,
    /// The locator-set.
    pub locators: Vec<LocatorEntry>,
    /// Hosts of this prefix may live behind other xTRs.
    #[serde(default)]
    pub dynamic: bool,
    /// Other answers for some requesters.
    #[serde(default)]
    pub policies: Vec<PolicyEntry>,
}

/// One locator of the site.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LocatorEntry {
    /// The RLOC.
    pub address: Spanned<IpAddr>,
    /// Lower is preferred; 255 must not be used.
    #[serde(default = "default_priority")]
    pub priority: u8,
    /// Share among equal priorities.
    #[serde(default = "default_weight")]
    pub weight: u8,
    /// Multicast priority.
    #[serde(default = "no_multicast")]
    pub multicast_priority: u8,
    /// Multicast weight.
    #[serde(default)]
    pub multicast_weight: u8,
}

/// What some requesters are told instead.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PolicyEntry {
    /// Prefixes of ITR-RLOCs.
    pub requesters: Vec<Prefix>,
    /// Priorities and weights by locator.
    pub locators: Vec<RemoteEntry>,
}

/// A locator with priority and weight.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RemoteEntry {
    /// The RLOC.
    pub address: Spanned<IpAddr>,
    /// Lower is preferred; 255 must not be used.
    #[serde(default = "default_priority")]
    pub priority: u8,
    /// Share among equal priorities.
    #[serde(default = "default_weight")]
    pub weight: u8,
}

/// A Map-Server and its key.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MapServerEntry {
    /// Its address.
    pub address: Spanned<IpAddr>,
    /// The shared secret.
    pub key: String,
    /// Key ID of RFC 9301 5.6; 0 for RFC 6830.
    #[serde(default)]
    pub key_id: u8,
    /// How registrations are authenticated.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// M bit: ask for a Map-Notify.
    #[serde(default = "yes")]
    pub want_map_notify: bool,
    /// P bit: let the Map-Server answer Map-Requests.
    #[serde(default)]
    pub proxy_reply: bool,
}

/// Without the secret: this ends up in logs.
impl std::fmt::Debug for MapServerEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MapServerEntry")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A map-cache entry that never expires: either an action or locators.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StaticMapEntry {
    /// The prefix.
    pub prefix: Spanned<Prefix>,
    /// Its Instance ID.
    #[serde(default)]
    pub instance_id: InstanceId,
    /// What is done with packets to it.
    #[serde(default)]
    pub action: Option<StaticAction>,
    /// Or where they are encapsulated to.
    #[serde(default)]
    pub locators: Vec<RemoteEntry>,
}

/// Bounds of the hold queue.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct HoldEntry {
    /// Packets to one EID.
    pub per_eid: usize,
    /// Packets to all.
    pub total: usize,
}

impl Default for HoldEntry {
    fn default() -> Self {
        Self {
            per_eid: 16,
            total: 1024,
        }
    }
}

/// Reachability tests of remote locators.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProbingEntry {
    /// Mean time between probes of one locator, 1s to 1h.
    pub interval: Spanned<Period>,
}

/// Shortest prefixes that Map-Replies may bring.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct MinimumLength {
    /// For IPv4, 0 to 32.
    pub ipv4: u8,
    /// For IPv6, 0 to 128.
    pub ipv6: u8,
}

fn default_admin_socket() -> PathBuf {
    "/run/lisp/xtr.sock".into()
}
fn yes() -> bool {
    true
}
fn default_request_rate() -> u32 {
    200
}
fn default_cache_limit() -> usize {
    2_000_000
}
fn default_ttl() -> u32 {
    1440
}
fn default_priority() -> u8 {
    1
}
fn default_weight() -> u8 {
    100
}
fn no_multicast() -> u8 {
    255
}

/// A configuration together with its text, so that later findings can still point at a line.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the file says.
    pub config: Config,
    source: Source,
    proxy: Proxy,
}

/// What a proxy or a re-encapsulating router has instead of a database. The default is an xTR.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    /// What the box is to the packets that reach it.
    pub role: Role,
    /// EID aggregates whose traffic a PITR attracts (RFC 6832 5.2).
    pub aggregates: Vec<IpNet>,
    /// Inner sources that a PETR accepts; empty: all (RFC 6832 6.1).
    pub petr_sources: Vec<EidPrefix>,
}

/// The configuration of an empty file.
impl Default for Config {
    fn default() -> Self {
        let nothing = std::iter::empty::<(&str, &str)>();
        let nothing = MapDeserializer::<_, serde::de::value::Error>::new(nothing);
        Self::deserialize(nothing).expect("every key has a default")
    }
}

impl Loaded {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::from_source(Source::read(path)?)
    }

    /// Reads and checks a text; `name` stands where a file name would.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        Self::from_source(Source::from_text(name, text))
    }

    fn from_source(source: Source) -> Result<Self, ConfigError> {
        let config = source.parse()?;
        Self::assemble(source, config, Proxy::default())
    }

    /// Checks a configuration that was read from `source` by somebody else: a proxy has other keys, but what is the
    /// same means the same.
    ///
    /// # Errors
    /// What no single value can show.
    pub fn assemble(source: Source, config: Config, proxy: Proxy) -> Result<Self, ConfigError> {
        let loaded = Self {
            config,
            source,
            proxy,
        };
        loaded.check()?;
        Ok(loaded)
    }

    /// What the box is beyond an xTR of a site.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// The admin socket's path.
    pub fn admin_socket(&self) -> PathBuf {
        self.source.resolve(&self.config.admin_socket)
    }

    /// What the file comes to on a box.
    ///
    /// # Errors
    /// No own locator: the box could neither send nor be reached.
    pub fn setup(&self, host: &Host) -> Result<Setup, ConfigError> {
        Ok(Setup {
            settings: self.settings(host)?,
            dataplane: self.config.data_plane.to_config(),
            admin_socket: self.admin_socket(),
        })
    }

    fn settings(&self, host: &Host) -> Result<Settings, ConfigError> {
        let config = &self.config;
        let rlocs = self.own_rlocs(&host.addresses)?;
        let quick = Duration::from_secs(20);
        let interval = config
            .register_interval
            .as_ref()
            .map_or(Duration::from_secs(60), |period| period.value.0);
        Ok(Settings {
            edition: config.edition.into(),
            role: self.proxy.role,
            rlocs,
            database: config.eid_prefixes.iter().map(local_mapping).collect(),
            map_servers: config.map_servers.iter().map(map_server).collect(),
            map_resolvers: config.map_resolvers.clone(),
            register_interval: interval,
            quick_registration: (config.quick_registration && interval > quick)
                .then_some((quick, Duration::from_secs(300))),
            register_nonce: host.register_nonce,
            static_entries: config.static_map_cache.iter().map(static_entry).collect(),
            probe_interval: config
                .rloc_probing
                .as_ref()
                .map(|probing| probing.interval.value.0),
            map_request_rate: config.map_request_rate,
            map_cache_limit: config.map_cache_limit,
            minimum_prefix_length: (
                config.minimum_prefix_length.ipv4,
                config.minimum_prefix_length.ipv6,
            ),
            hold: (config.on_miss == OnMiss::Hold).then_some(HoldLimits {
                per_eid: config.hold.per_eid,
                total: config.hold.total,
            }),
            locator_status_bits: config.locator_status_bits,
            map_versioning: config.map_versioning,
            echo_nonce: config.echo_nonce,
            glean: config.glean,
            petrs: config.use_petr.iter().map(remote_locator).collect(),
            petr_sources: self.proxy.petr_sources.clone(),
            aggregates: self.proxy.aggregates.clone(),
            misses_to_petr: config.misses_to_petr,
            xtr_site_id: config.xtr_id.map(|id| lisp::wire::XtrSiteId {
                xtr_id: id.0,
                site_id: config.site_id,
            }),
        })
    }

    fn own_rlocs(&self, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, ConfigError> {
        let config = &self.config;
        for rloc in &config.rlocs {
            if !addresses.contains(&rloc.value) {
                return Err(self.source.error(
                    rloc,
                    "an address of this box",
                    format!("{}, which no interface has", rloc.value),
                ));
            }
        }
        let mut rlocs: Vec<IpAddr> = config.rlocs.iter().map(|rloc| rloc.value).collect();
        if rlocs.is_empty() {
            for locator in config.eid_prefixes.iter().flat_map(|entry| &entry.locators) {
                let address = locator.address.value;
                if addresses.contains(&address) && !rlocs.contains(&address) {
                    rlocs.push(address);
                }
            }
        }
        if rlocs.is_empty() {
            return Err(ConfigError {
                path: self.source.path.clone(),
                place: None,
                expected: "at least one locator that is an address of this box".into(),
                found: "none in `rlocs` and none among the locators of `eid-prefixes`".into(),
                hint: Some("name one in `rlocs`, and give an interface the address before the daemon starts".into()),
                snippet: None,
            });
        }
        Ok(rlocs)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let config = &self.config;
        let intervals = config
            .register_interval
            .iter()
            .chain(config.rloc_probing.iter().map(|probing| &probing.interval));
        for interval in intervals {
            if (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&interval.value.0) {
                continue;
            }
            return Err(self.source.error(
                interval,
                "an interval from 1s to 1h",
                interval.value.to_string(),
            ));
        }
        let mut seen: Vec<EidPrefix> = Vec::new();
        for entry in &config.eid_prefixes {
            let prefix = EidPrefix::new(entry.instance_id.0, entry.prefix.value.0);
            if seen.contains(&prefix) {
                return Err(self.source.error(
                    &entry.prefix,
                    "each EID-Prefix once",
                    format!("{prefix} a second time"),
                ));
            }
            seen.push(prefix);
            self.check_locators(entry, &seen)?;
        }
        let mut statics: Vec<EidPrefix> = Vec::new();
        for entry in &config.static_map_cache {
            let prefix = EidPrefix::new(entry.instance_id.0, entry.prefix.value.0);
            if statics.contains(&prefix) {
                return Err(self.source.error(
                    &entry.prefix,
                    "each static prefix once",
                    format!("{prefix} a second time"),
                ));
            }
            statics.push(prefix);
            if entry.action.is_some() != entry.locators.is_empty() {
                return Err(self.source.error(
                    &entry.prefix,
                    "either `action` or `locators` in a static entry",
                    if entry.action.is_some() {
                        "both"
                    } else {
                        "neither"
                    },
                ));
            }
        }
        Ok(())
    }

    fn check_locators(&self, entry: &EidEntry, eids: &[EidPrefix]) -> Result<(), ConfigError> {
        let mut seen = Vec::new();
        for locator in &entry.locators {
            let address = locator.address.value;
            let problem = if seen.contains(&address) {
                Some(("each locator once", format!("{address} a second time")))
            } else if address.is_multicast() || address.is_unspecified() || address.is_loopback() {
                // RFC 6830 6.1.4: locators are unicast addresses that others can reach.
                Some((
                    "a unicast address that other sites can reach",
                    address.to_string(),
                ))
            } else if eids.iter().any(|eid| eid.contains(0, address)) {
                // RFC 6830 3: addresses from EID-Prefixes are never used as locators.
                Some((
                    "a locator outside of all EID-Prefixes",
                    format!("{address}, which lies inside one"),
                ))
            } else {
                None
            };
            if let Some((expected, found)) = problem {
                return Err(self.source.error(&locator.address, expected, found));
            }
            seen.push(address);
        }
        Ok(())
    }
}

fn local_mapping(entry: &EidEntry) -> LocalMapping {
    LocalMapping {
        prefix: EidPrefix::new(entry.instance_id.0, entry.prefix.value.0),
        ttl: entry.ttl,
        locators: entry
            .locators
            .iter()
            .map(|locator| LocalLocator {
                address: locator.address.value,
                priority: locator.priority,
                weight: locator.weight,
                mpriority: locator.multicast_priority,
                mweight: locator.multicast_weight,
                up: true,
            })
            .collect(),
        dynamic: entry.dynamic,
        policies: entry
            .policies
            .iter()
            .map(|policy| RequesterPolicy {
                requesters: policy.requesters.iter().map(|prefix| prefix.0).collect(),
                locators: policy
                    .locators
                    .iter()
                    .map(|l| (l.address.value, l.priority, l.weight))
                    .collect(),
            })
            .collect(),
    }
}

fn map_server(entry: &MapServerEntry) -> MapServer {
    MapServer {
        address: entry.address.value,
        key: AuthKey::new(entry.key_id, entry.algorithm.0, entry.key.as_bytes()),
        want_map_notify: entry.want_map_notify,
        proxy_reply: entry.proxy_reply,
    }
}

fn static_entry(entry: &StaticMapEntry) -> StaticEntry {
    StaticEntry {
        prefix: EidPrefix::new(entry.instance_id.0, entry.prefix.value.0),
        path: match entry.action {
            Some(StaticAction::SendMapRequest) => StaticPath::SendMapRequest,
            Some(StaticAction::ForwardNative) => StaticPath::ForwardNative,
            Some(StaticAction::Drop) => StaticPath::Drop,
            None => StaticPath::Locators(entry.locators.iter().map(remote_locator).collect()),
        },
    }
}

fn remote_locator(entry: &RemoteEntry) -> RemoteLocator {
    RemoteLocator {
        address: entry.address.value,
        priority: entry.priority,
        weight: entry.weight,
    }
}

#[cfg(test)]
mod tests;
