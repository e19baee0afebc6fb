//! The configuration file of `xtr`.
//!
//! Strict YAML: unknown keys and wrong values are errors that name the line. [`Config`] is the file as written;
//! [`Loaded`] checks what no single value can show and turns it into what the daemon runs with.

mod data_plane;
mod loaded;
mod values;

use std::path::PathBuf;

use daemon::config::{Address, Algorithm, Edition, InstanceId, Period, Prefix, Spanned};
use daemon::log::Level;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapDeserializer;

pub use data_plane::{DataPlaneEntry, MulticastEntry};
pub use loaded::{Loaded, Proxy};
pub use values::{OnMiss, StaticAction};

/// Where the admin socket is when nothing says otherwise.
pub const SOCKET: &str = "/run/lisp/xtr.sock";

/// The file as written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
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
    pub edition: Edition,
    /// Own locators. Default: the locators of `eid-prefixes` that are addresses of this box.
    #[serde(default)]
    pub rlocs: Vec<Spanned<Address>>,
    /// The database.
    #[serde(default)]
    pub eid_prefixes: Vec<EidEntry>,
    /// Where it is registered.
    #[serde(default)]
    pub map_servers: Vec<MapServerEntry>,
    /// Where misses are asked, in order of preference.
    #[serde(default)]
    pub map_resolvers: Vec<Spanned<Address>>,
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
    /// After a change of a locator-set, no locator-status bits for it for so long: 5m if not given, 1s to 1h.
    #[serde(default)]
    pub use_lsb_timer: Option<Spanned<Period>>,
    /// Offer and use echo-nonce.
    #[serde(default)]
    pub echo_nonce: bool,
    /// Time between two requests for an echo from one locator: 10s if not given, 1s to 1h.
    #[serde(default)]
    pub echo_nonce_interval: Option<Spanned<Period>>,
    /// Verify and use the mapping that a Map-Request brings along.
    #[serde(default)]
    pub piggyback: bool,
    /// Bring the mapping of the Source-EID along with Map-Requests.
    #[serde(default)]
    pub piggyback_own: bool,
    /// Answer Data-Probes.
    #[serde(default)]
    pub data_probes: bool,
    /// Time between two Map-Replies to one requester in edition 9300: 1s if not given, 1s to 1h.
    #[serde(default)]
    pub map_reply_interval: Option<Spanned<Period>>,
    /// A host of a dynamic EID-Prefix that sends nothing for so long is gone: 1d if not given, 1s to 30d.
    #[serde(default)]
    pub dynamic_eid_timeout: Option<Spanned<Period>>,
    /// Glean mappings from data packets and Map-Requests, pending verification.
    #[serde(default)]
    pub glean: bool,
    /// The public-Internet profile of RFC 9300 4.1: N, L, E and V are never set, and never acted on.
    #[serde(default)]
    pub public_internet: bool,
    /// Proxy ETRs for what would be forwarded natively.
    #[serde(default)]
    pub use_petr: Vec<RemoteEntry>,
    /// Send misses to the PETR too: a site without a mapping system.
    #[serde(default)]
    pub misses_to_petr: bool,
    /// LISP-NAT (RFC 6832 7).
    #[serde(default)]
    pub lisp_nat: Vec<TranslationEntry>,
    /// Multicast packets of the site that are encapsulated.
    #[serde(default)]
    pub multicast: Option<MulticastEntry>,
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

/// Addresses that are translated where the Internet could not route them back (RFC 6832 7): one for one, IPv4.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TranslationEntry {
    /// What the hosts have: an EID-Prefix that is not routable, or a private prefix.
    pub inside: Spanned<Prefix>,
    /// What the Internet sees: a routable prefix of the same length. For private ones it must be an EID-Prefix.
    pub routable: Spanned<Prefix>,
}

/// One EID-Prefix of the site.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
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
    /// Map-version with which the mapping begins, 1 to 4095.
    #[serde(default)]
    pub map_version: values::MapVersion,
    /// Other answers for some requesters.
    #[serde(default)]
    pub policies: Vec<PolicyEntry>,
}

/// One locator of the site.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LocatorEntry {
    /// The RLOC.
    pub address: Spanned<Address>,
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
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PolicyEntry {
    /// Prefixes of ITR-RLOCs.
    pub requesters: Vec<Prefix>,
    /// Priorities and weights by locator.
    pub locators: Vec<RemoteEntry>,
}

/// A locator with priority and weight.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RemoteEntry {
    /// The RLOC.
    pub address: Spanned<Address>,
    /// Lower is preferred; 255 must not be used.
    #[serde(default = "default_priority")]
    pub priority: u8,
    /// Share among equal priorities.
    #[serde(default = "default_weight")]
    pub weight: u8,
}

/// A Map-Server and its key.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MapServerEntry {
    /// Its address.
    pub address: Spanned<Address>,
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
#[derive(Debug, Clone, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProbingEntry {
    /// Mean time between probes of one locator, 1s to 1h.
    pub interval: Spanned<Period>,
}

/// Shortest prefixes that Map-Replies may bring.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct MinimumLength {
    /// For IPv4, 0 to 32.
    #[schemars(range(max = 32))]
    pub ipv4: u8,
    /// For IPv6, 0 to 128.
    #[schemars(range(max = 128))]
    pub ipv6: u8,
}

fn default_admin_socket() -> PathBuf {
    SOCKET.into()
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

/// The configuration of an empty file.
impl Default for Config {
    fn default() -> Self {
        let nothing = std::iter::empty::<(&str, &str)>();
        let nothing = MapDeserializer::<_, serde::de::value::Error>::new(nothing);
        Self::deserialize(nothing).expect("every key has a default")
    }
}

#[cfg(test)]
mod tests;
