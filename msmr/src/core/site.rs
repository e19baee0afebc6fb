//! What an operator configures: sites, their keys and prefixes, and how the core behaves.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::Time;
use ipnet::IpNet;
use lisp::EidPrefix;
use lisp::auth::{AuthKey, HkdfReading, MacAlgorithm};
use lisp::wire::Locator;

/// The RFCs whose answer counts where editions differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Edition {
    /// RFC 6830 and 6833.
    #[default]
    Rfc6830,
    /// RFC 9300 and 9301.
    Rfc9300,
}

/// Which of the two services run here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Takes Map-Registers and answers for its sites.
    pub map_server: bool,
    /// Takes Encapsulated Map-Requests of ITRs and knows other Map-Servers.
    pub map_resolver: bool,
}

impl Default for Roles {
    fn default() -> Self {
        Self {
            map_server: true,
            map_resolver: true,
        }
    }
}

/// Which lengths of authentication data are taken (ambiguities A2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptMac {
    /// The RFCs' 12 and 16 octets.
    pub truncated: bool,
    /// The deployed 20 and 32 octets.
    pub full: bool,
}

impl Default for AcceptMac {
    fn default() -> Self {
        Self {
            truncated: true,
            full: false,
        }
    }
}

/// A configured EID-Prefix of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SitePrefix {
    /// The prefix.
    pub prefix: EidPrefix,
    /// Whether more-specific prefixes may be registered (host prefixes of LISP-MN, for example).
    pub accept_more_specifics: bool,
    /// Whether requests for it are refused by policy (RFC 9301 8.3).
    pub deny: bool,
}

/// A site as configured.
#[derive(Debug, Clone, Default)]
pub struct SiteConfig {
    /// Its name, unique.
    pub name: String,
    /// Keys that may authenticate its ETRs, tried in order.
    pub keys: Vec<SiteKey>,
    /// What it may register.
    pub prefixes: Vec<SitePrefix>,
    /// Where its locators may lie; anywhere when empty.
    pub allowed_locators: Vec<IpNet>,
    /// Lengths of authentication data; `None` takes the server's.
    pub accept_mac: Option<AcceptMac>,
    /// How long a registration lives; `None` takes the server's.
    pub registration_timeout: Option<Duration>,
    /// At most so many registered prefixes; `None` only leaves the server's limit.
    pub max_registrations: Option<usize>,
}

impl SiteConfig {
    /// Whether all of these may be locators of the site.
    pub(crate) fn allows_locators(&self, locators: &[Locator]) -> bool {
        let inside = |locator: &Locator| {
            let rloc = locator.rloc.ip();
            rloc.is_some_and(|rloc| self.allowed_locators.iter().any(|net| net.contains(&rloc)))
        };
        self.allowed_locators.is_empty() || locators.iter().all(inside)
    }
}

/// A key of a site.
#[derive(Clone)]
pub struct SiteKey {
    /// The key itself.
    pub auth: Arc<AuthKey>,
    /// A fingerprint that tells keys apart in stored state without storing them.
    pub fingerprint: u64,
}

impl std::fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {} {}", self.auth.key_id, self.auth.algorithm)
    }
}

/// A Map-Server that this Map-Resolver sends requests to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteServer {
    /// Its address.
    pub address: IpAddr,
    /// What it serves.
    pub prefixes: Vec<EidPrefix>,
}

/// Bounds on what strangers can make this daemon hold or do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Registered prefixes of all sites.
    pub registrations: usize,
    /// Configured sites.
    pub sites: usize,
    /// ETRs of one prefix.
    pub etrs_per_prefix: usize,
    /// xTRs whose last nonce is remembered for each key (RFC 9301 5.6); beyond it the one that was silent for longest is
    /// forgotten. At least 1.
    pub nonces_per_key: usize,
    /// Map-Requests a second of one source; 0 for no limit.
    pub map_requests_per_source: u32,
    /// The same answer to the same requester at most once in this time (RFC 6830 6.1.5); zero for no limit.
    pub map_reply_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            registrations: 4_000_000,
            sites: 2_000_000,
            etrs_per_prefix: 32,
            nonces_per_key: 100_000,
            map_requests_per_source: 5000,
            map_reply_interval: Duration::from_secs(1),
        }
    }
}

/// Everything that the core is told by its operator.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Which RFCs.
    pub edition: Edition,
    /// Which services.
    pub roles: Roles,
    /// The sites.
    pub sites: Vec<SiteConfig>,
    /// Space that this Map-Server answers for; the prefix of a negative reply inside never reaches beyond it.
    pub aggregates: Vec<EidPrefix>,
    /// Other Map-Servers, for a Map-Resolver.
    pub map_servers: Vec<RemoteServer>,
    /// How long a registration lives (RFC 6833 4.2: 3 minutes).
    pub registration_timeout: Duration,
    /// Lengths of authentication data.
    pub accept_mac: AcceptMac,
    /// Bounds.
    pub limits: Limits,
    /// Sources that the request limit does not hold for, such as Map-Resolvers.
    pub unlimited_sources: Vec<IpNet>,
}

/// A site at run time.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) config: SiteConfig,
    pub(crate) first_registered: Option<Time>,
    pub(crate) last_registered: Option<Time>,
    pub(crate) last_registered_by: Option<IpAddr>,
    pub(crate) registrations: usize,
    pub(crate) counters: daemon::Counters<SiteEvent>,
}

impl Site {
    pub(crate) fn new(config: SiteConfig) -> Self {
        Self {
            config,
            first_registered: None,
            last_registered: None,
            last_registered_by: None,
            registrations: 0,
            counters: daemon::Counters::default(),
        }
    }
}

/// What is counted per site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SiteEvent {
    /// Authentic Map-Registers.
    MapRegisters,
    /// Map-Registers whose code, key or algorithm was wrong.
    AuthenticationFailures,
    /// Map-Registers with a nonce that is not greater than the last (RFC 9301 5.6).
    Replays,
    /// Map-Registers with an older map-version than the registered one (RFC 9302 5).
    OldVersions,
    /// Records with a locator outside the allowed ones.
    LocatorMismatches,
    /// Records of a prefix that the site may not register.
    PrefixRefusals,
    /// Records over a limit.
    LimitRefusals,
    /// Map-Notifies that acknowledge.
    MapNotifies,
    /// Map-Notifies to previous ETRs of moved EIDs.
    MoveNotifies,
    /// Registrations that timed out.
    Expirations,
    /// Registrations withdrawn with TTL 0.
    Withdrawals,
    /// Registrations that a change of configuration took away.
    Revocations,
    /// Map-Requests forwarded to an ETR.
    Forwarded,
    /// Map-Requests answered from registrations.
    ProxyReplies,
    /// Map-Requests answered negatively.
    NegativeReplies,
}

impl SiteEvent {
    /// Every reason, in the order above.
    pub const ALL: [SiteEvent; 15] = [
        SiteEvent::MapRegisters,
        SiteEvent::AuthenticationFailures,
        SiteEvent::Replays,
        SiteEvent::OldVersions,
        SiteEvent::LocatorMismatches,
        SiteEvent::PrefixRefusals,
        SiteEvent::LimitRefusals,
        SiteEvent::MapNotifies,
        SiteEvent::MoveNotifies,
        SiteEvent::Expirations,
        SiteEvent::Withdrawals,
        SiteEvent::Revocations,
        SiteEvent::Forwarded,
        SiteEvent::ProxyReplies,
        SiteEvent::NegativeReplies,
    ];
}

impl std::fmt::Display for SiteEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        serde::Serialize::serialize(self, f)
    }
}

/// All sites, by number and by name.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    slots: Vec<Option<Site>>,
    free: Vec<u32>,
    names: BTreeMap<String, u32>,
}

impl Sites {
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Site> {
        self.slots.get(number as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Site> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    /// In the order of names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Site)> + '_ {
        self.names
            .values()
            .filter_map(|&number| Some((number, self.get(number)?)))
    }

    /// Puts a site in, or replaces the configuration of the one of that name.
    pub(crate) fn put(&mut self, config: SiteConfig) -> u32 {
        if let Some(number) = self.number(&config.name) {
            if let Some(site) = self.get_mut(number) {
                site.config = config;
            }
            return number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1)
                .expect("fewer sites than numbers: sites are limited")
        });
        self.names.insert(config.name.clone(), number);
        self.slots[number as usize] = Some(Site::new(config));
        number
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<Site> {
        let site = self.slots.get_mut(number as usize)?.take()?;
        self.names.remove(&site.config.name);
        self.free.push(number);
        Some(site)
    }

    pub(crate) fn count(&mut self, number: u32, event: SiteEvent) {
        if let Some(site) = self.get_mut(number) {
            site.counters.count(event);
        }
    }
}

/// The forms in which a key's code may come.
pub(crate) fn accepted_forms(algorithm: MacAlgorithm, accept: AcceptMac) -> Vec<MacAlgorithm> {
    let (truncated, full) = match algorithm {
        MacAlgorithm::HmacSha1_96 | MacAlgorithm::HmacSha1Full => {
            (MacAlgorithm::HmacSha1_96, MacAlgorithm::HmacSha1Full)
        }
        MacAlgorithm::HmacSha256_128 | MacAlgorithm::HmacSha256Full => {
            (MacAlgorithm::HmacSha256_128, MacAlgorithm::HmacSha256Full)
        }
        MacAlgorithm::HkdfSha256(_) => {
            return HkdfReading::ALL.map(MacAlgorithm::HkdfSha256).to_vec();
        }
    };
    // A key that is configured in the full form asks for that form itself.
    let full_asked = accept.full || algorithm == full;
    let truncated_asked = accept.truncated && (accept.full || algorithm != full);
    [(truncated_asked, truncated), (full_asked, full)]
        .into_iter()
        .filter_map(|(asked, form)| asked.then_some(form))
        .collect()
}
