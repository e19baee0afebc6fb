//! What operators see: the core's state as values for `show` and `--json`.

use std::net::IpAddr;
use std::time::Duration;

use daemon::Time;
use lisp::wire::Action as RecordAction;
use serde::{Deserialize, Serialize};

use super::Core;
use super::database::AwayReason;
use super::locator_set::CachedLocator;
use super::map_cache::{Cached, Mapping, Origin};

/// A row of `show map-cache`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MapCacheRow {
    /// The EID-Prefix.
    pub prefix: String,
    /// Its Instance ID.
    pub instance_id: u32,
    /// Seconds since it came into the map-cache.
    pub uptime: u64,
    /// Seconds until it goes; none: never.
    pub expires: Option<u64>,
    /// `static`, `gleaned`, or who replied.
    pub via: String,
    /// Whether an ETR of the site answered, not a Map-Server for it.
    pub authoritative: bool,
    /// What is done with packets: `encapsulate`, `natively-forward`, `send-map-request`, `drop`, `no-action`.
    pub action: String,
    /// Map-version, when there is one.
    pub map_version: u16,
    /// The locator-set.
    pub locators: Vec<LocatorRow>,
    /// Packets that used it; filled in by the shell.
    pub packets: u64,
    /// Octets of those.
    pub bytes: u64,
}

/// A locator in `show map-cache`, `show database` and `show rlocs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LocatorRow {
    /// The RLOC; none: a placeholder.
    pub rloc: Option<IpAddr>,
    /// `up`, `down`, `unreachable` (R=0), `unknown` (never tested), `local`.
    pub state: String,
    /// Seconds since the state last changed.
    pub uptime: u64,
    /// Priority.
    pub priority: u8,
    /// Weight.
    pub weight: u8,
    /// Round trip of the last probe in microseconds.
    pub rtt_us: Option<u64>,
}

/// A row of `show database`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DatabaseRow {
    /// The EID-Prefix.
    pub prefix: String,
    /// Its Instance ID.
    pub instance_id: u32,
    /// Seconds since it came or changed.
    pub uptime: u64,
    /// Minutes that others keep it.
    pub ttl: u32,
    /// `registered`, `registering`, `no-route`, `away`, `not-registered` (no Map-Server).
    pub state: String,
    /// `configured`, or the dynamic prefix of which this host was seen.
    pub origin: String,
    /// The locator-set.
    pub locators: Vec<LocatorRow>,
}

/// A row of `show away`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AwayRow {
    /// The EID-Prefix.
    pub prefix: String,
    /// Its Instance ID.
    pub instance_id: u32,
    /// Seconds since it went.
    pub uptime: u64,
    /// `moved`, `de-configured`, `no-route`.
    pub reason: String,
    /// Who put it here: a Map-Server, `operator` or `kernel routes`.
    pub by: String,
}

/// A row of `show rlocs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RlocRow {
    /// The locator.
    pub rloc: IpAddr,
    /// `up`, `down`, `unknown`.
    pub state: String,
    /// Seconds since the state last changed.
    pub uptime: u64,
    /// Round trip of the last answered probe in microseconds.
    pub rtt_us: Option<u64>,
    /// Probes sent.
    pub probes_sent: u64,
    /// Probes answered.
    pub probes_answered: u64,
    /// Map-cache entries that use it.
    pub entries: usize,
}

/// A proxy ETR in `show petr`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PetrRow {
    /// Its locator, state, priority and weight.
    pub locator: LocatorRow,
    /// Whether it is among those that packets go to now.
    pub used: bool,
}

/// What `show petr` tells: the box as a proxy, and the proxies that it uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProxyView {
    /// The role, as in the configuration.
    pub role: String,
    /// EID aggregates whose traffic is attracted.
    pub aggregates: Vec<String>,
    /// EID-Prefixes whose packets are decapsulated for others; none: all.
    pub sources: Vec<String>,
    /// Whether map-cache misses go to the proxy ETRs too.
    pub misses_to_petr: bool,
    /// Proxy ETRs in use, in the order of the configuration.
    pub petrs: Vec<PetrRow>,
}

/// A row of `show neighbors`: Map-Servers and Map-Resolvers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NeighborRow {
    /// Its address.
    pub address: IpAddr,
    /// `map-server` or `map-resolver`.
    pub role: String,
    /// `up` (it confirmed a registration, or what it was asked was answered), `silent`, `unknown`.
    pub state: String,
    /// Seconds since the last Map-Register or Map-Request to it.
    pub last_sent: Option<u64>,
    /// Seconds since its last Map-Notify, or since the last answer to what it was asked, whoever sent that.
    pub last_received: Option<u64>,
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The name of an action in `show`.
pub fn action_name(action: RecordAction) -> String {
    match action {
        RecordAction::NoAction => "no-action".into(),
        RecordAction::NativelyForward => "natively-forward".into(),
        RecordAction::SendMapRequest => "send-map-request".into(),
        RecordAction::Drop => "drop".into(),
        RecordAction::Other(code) => format!("drop ({code})"),
    }
}

impl Core {
    /// `show map-cache`.
    pub fn show_map_cache(&self, now: Time) -> Vec<MapCacheRow> {
        self.cache
            .entries
            .iter()
            .map(|(prefix, entry)| MapCacheRow {
                prefix: prefix.prefix.to_string(),
                instance_id: prefix.iid,
                uptime: seconds(now.since(entry.since)),
                expires: entry.expires.map(|at| seconds(at.since(now))),
                via: match entry.origin {
                    Origin::Static => "static".into(),
                    Origin::Gleaned => "gleaned".into(),
                    Origin::Learned { replier, .. } => replier.to_string(),
                },
                authoritative: matches!(
                    entry.origin,
                    Origin::Learned {
                        authoritative: true,
                        ..
                    }
                ),
                action: match &entry.mapping {
                    Mapping::Locators(_) => "encapsulate".into(),
                    Mapping::Negative(action) => action_name(*action),
                },
                map_version: entry.version,
                locators: self.locator_rows(now, entry),
                packets: 0,
                bytes: 0,
            })
            .collect()
    }

    fn locator_rows(&self, now: Time, entry: &Cached) -> Vec<LocatorRow> {
        let Mapping::Locators(locators) = &entry.mapping else {
            return Vec::new();
        };
        locators
            .iter()
            .map(|locator| self.locator_row(now, locator, entry.since))
            .collect()
    }

    /// A remote locator, as probing and its mapping know it since `since`.
    pub(super) fn locator_row(
        &self,
        now: Time,
        locator: &CachedLocator,
        since: Time,
    ) -> LocatorRow {
        let probed = locator.rloc.and_then(|rloc| self.prober.rlocs.get(&rloc));
        let state = match (locator.reachable, probed.and_then(|state| state.up)) {
            (false, _) => "unreachable",
            (true, Some(false)) => "down",
            (true, Some(true)) => "up",
            (true, None) => "unknown",
        };
        LocatorRow {
            rloc: locator.rloc,
            state: state.into(),
            uptime: seconds(now.since(probed.map_or(since, |state| state.since))),
            priority: locator.priority,
            weight: locator.weight,
            rtt_us: probed.and_then(|state| state.rtt).map(micros),
        }
    }

    /// `show database`.
    pub fn show_database(&self, now: Time) -> Vec<DatabaseRow> {
        self.database
            .locals
            .iter()
            .map(|(prefix, local)| {
                let confirmed = |server: &super::registration::Server| {
                    server.last_sent.is_some() && !server.unconfirmed.contains(&prefix)
                };
                let state = if !local.routed {
                    "no-route"
                } else if !self.database.is_here(&prefix) {
                    "away"
                } else if self.registrar.servers.is_empty() {
                    "not-registered"
                } else if self.registrar.servers.iter().all(confirmed) {
                    "registered"
                } else {
                    "registering"
                };
                DatabaseRow {
                    prefix: prefix.prefix.to_string(),
                    instance_id: prefix.iid,
                    uptime: seconds(now.since(local.since)),
                    ttl: local.mapping.ttl,
                    state: state.into(),
                    origin: local
                        .of_dynamic
                        .map_or("configured".into(), |of| format!("seen, of {of}")),
                    locators: local
                        .mapping
                        .locators
                        .iter()
                        .map(|locator| LocatorRow {
                            rloc: Some(locator.address),
                            state: match (self.settings.is_own(locator.address), locator.up) {
                                (_, false) => "down",
                                (true, true) => "local",
                                (false, true) => "up",
                            }
                            .into(),
                            uptime: seconds(now.since(local.since)),
                            priority: locator.priority,
                            weight: locator.weight,
                            rtt_us: None,
                        })
                        .collect(),
                }
            })
            .collect()
    }

    /// `show away`.
    pub fn show_away(&self, now: Time) -> Vec<AwayRow> {
        self.database
            .away
            .iter()
            .map(|(prefix, away)| {
                let (reason, by) = match away.reason {
                    AwayReason::Moved { map_server } => {
                        ("moved", format!("Map-Server {map_server}"))
                    }
                    AwayReason::Deconfigured => ("de-configured", "operator".into()),
                    AwayReason::NoRoute => ("no-route", "kernel routes".into()),
                };
                AwayRow {
                    prefix: prefix.prefix.to_string(),
                    instance_id: prefix.iid,
                    uptime: seconds(now.since(away.since)),
                    reason: reason.into(),
                    by,
                }
            })
            .collect()
    }

    /// `show rlocs`.
    pub fn show_rlocs(&self, now: Time) -> Vec<RlocRow> {
        self.prober
            .rlocs
            .iter()
            .map(|(rloc, state)| RlocRow {
                rloc: *rloc,
                state: match state.up {
                    None => "unknown",
                    Some(true) => "up",
                    Some(false) => "down",
                }
                .into(),
                uptime: seconds(now.since(state.since)),
                rtt_us: state.rtt.map(micros),
                probes_sent: state.counts.0,
                probes_answered: state.counts.1,
                entries: self.cache.users.get(rloc).map_or(0, |users| users.len()),
            })
            .collect()
    }

    /// `show neighbors`.
    pub fn show_neighbors(&self, now: Time) -> Vec<NeighborRow> {
        let servers = self
            .settings
            .map_servers
            .iter()
            .zip(&self.registrar.servers)
            .map(|(settings, server)| NeighborRow {
                address: settings.address,
                role: "map-server".into(),
                state: match (settings.want_map_notify, server.last_notify) {
                    (false, _) | (true, None) if server.unconfirmed.is_empty() => "unknown",
                    _ if server.unconfirmed.is_empty() => "up",
                    _ => "silent",
                }
                .into(),
                last_sent: server.last_sent.map(|at| seconds(now.since(at))),
                last_received: server.last_notify.map(|at| seconds(now.since(at))),
            });
        let resolvers = self
            .settings
            .map_resolvers
            .iter()
            .enumerate()
            .map(|(index, address)| {
                let resolver = self.requests.resolver(index);
                let state = match resolver.last_answered {
                    _ if self.requests.is_silent(index, now) => "silent",
                    Some(_) => "up",
                    None => "unknown",
                };
                NeighborRow {
                    address: *address,
                    role: "map-resolver".into(),
                    state: state.into(),
                    last_sent: resolver.last_asked.map(|at| seconds(now.since(at))),
                    last_received: resolver.last_answered.map(|at| seconds(now.since(at))),
                }
            });
        servers.chain(resolvers).collect()
    }
}
