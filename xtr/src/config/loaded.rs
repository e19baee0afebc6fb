//! A configuration that was read: what no single value can show is checked, defaults are filled in.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::config::{Address, ConfigError, Period, Source, Spanned};
use ipnet::IpNet;
use lisp::EidPrefix;
use lisp::auth::AuthKey;

use super::{
    Config, EidEntry, MapServerEntry, MulticastEntry, OnMiss, RemoteEntry, StaticAction,
    StaticMapEntry,
};
use crate::core::eid_table::EidTable;
use crate::core::locator_set::is_locator;
use crate::core::settings::{
    HoldLimits, LocalLocator, LocalMapping, MapServer, RemoteLocator, RequesterPolicy, Settings,
    StaticEntry, StaticPath,
};
use crate::dataplane::DataPlaneConfig;
use crate::forwarding::Role;
use crate::kernel::nat::Translation;
use crate::shell::{Host, Setup};

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
    /// Outer sources that a PETR accepts; empty means all.
    pub petr_locators: Vec<IpNet>,
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
            dataplane: DataPlaneConfig {
                multicast: self
                    .config
                    .multicast
                    .as_ref()
                    .map(MulticastEntry::to_config),
                ..self.config.data_plane.to_config()
            },
            admin_socket: self.admin_socket(),
        })
    }

    pub(super) fn settings(&self, host: &Host) -> Result<Settings, ConfigError> {
        let config = &self.config;
        let rlocs = self.own_rlocs(&host.addresses)?;
        let quick = Duration::from_secs(20);
        let interval = period(&config.register_interval, Duration::from_secs(60));
        Ok(Settings {
            edition: config.edition.into(),
            role: self.proxy.role,
            rlocs,
            held_down: BTreeSet::new(),
            database: config.eid_prefixes.iter().map(local_mapping).collect(),
            map_servers: config.map_servers.iter().map(map_server).collect(),
            map_resolvers: config.map_resolvers.iter().map(|r| r.value.0).collect(),
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
            use_lsb_timer: period(&config.use_lsb_timer, Duration::from_secs(300)),
            echo_nonce: config.echo_nonce,
            echo_nonce_interval: period(&config.echo_nonce_interval, Duration::from_secs(10)),
            piggyback: config.piggyback,
            piggyback_own: config.piggyback_own,
            data_probes: config.data_probes,
            map_reply_interval: period(&config.map_reply_interval, Duration::from_secs(1)),
            dynamic_eid_timeout: period(
                &config.dynamic_eid_timeout,
                Duration::from_secs(24 * 3600),
            ),
            glean: config.glean,
            public_internet: config.public_internet,
            petrs: config.use_petr.iter().map(remote_locator).collect(),
            petr_sources: self.proxy.petr_sources.clone(),
            petr_locators: self.proxy.petr_locators.clone(),
            aggregates: self.proxy.aggregates.clone(),
            translations: self.translations()?,
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
            if !addresses.contains(&rloc.value.0) {
                return Err(self.source.error(
                    rloc,
                    "an address of this box",
                    format!("{}, which no interface has", rloc.value.0),
                ));
            }
        }
        let mut rlocs: Vec<IpAddr> = config.rlocs.iter().map(|rloc| rloc.value.0).collect();
        if rlocs.is_empty() {
            for locator in config.eid_prefixes.iter().flat_map(|entry| &entry.locators) {
                let address = locator.address.value.0;
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
        let intervals = [
            &config.register_interval,
            &config.use_lsb_timer,
            &config.echo_nonce_interval,
            &config.map_reply_interval,
        ];
        let probing = config.rloc_probing.iter().map(|probing| &probing.interval);
        self.check_periods(
            intervals.into_iter().flatten().chain(probing),
            Duration::from_secs(3600),
            "an interval from 1s to 1h",
        )?;
        self.check_periods(
            config.dynamic_eid_timeout.iter(),
            Duration::from_secs(30 * 24 * 3600),
            "a time from 1s to 30d",
        )?;
        self.check_public_internet()?;
        self.check_groups()?;
        let mut eids = EidTable::default();
        for entry in &config.eid_prefixes {
            let prefix = EidPrefix::new(entry.instance_id.0, entry.prefix.value.0);
            if eids.insert(prefix, ()).is_some() {
                return Err(self.source.error(
                    &entry.prefix,
                    "each EID-Prefix once",
                    format!("{prefix} a second time"),
                ));
            }
        }
        self.check_instances()?;
        for entry in &config.eid_prefixes {
            let addresses = entry.locators.iter().map(|locator| &locator.address);
            self.check_set(addresses.clone())?;
            self.check_reachable(addresses, &eids)?;
        }
        self.check_reachable(&config.rlocs, &eids)?;
        self.check_reachable(&config.map_resolvers, &eids)?;
        self.check_reachable(config.map_servers.iter().map(|s| &s.address), &eids)?;
        self.check_reachable(config.use_petr.iter().map(|petr| &petr.address), &eids)?;
        self.check_static()
    }

    /// Only multicast packets are read off the site's interfaces.
    fn check_groups(&self) -> Result<(), ConfigError> {
        let site = self.config.multicast.iter();
        for group in site.flat_map(|site| &site.groups) {
            let net = group.value.0;
            let (space, least) = match net {
                IpNet::V4(_) => ("224.0.0.0/4", 4),
                IpNet::V6(_) => ("ff00::/8", 8),
            };
            if !net.addr().is_multicast() || net.prefix_len() < least {
                let expected = format!("groups inside {space}");
                return Err(self.source.error(group, expected, net.to_string()));
            }
        }
        Ok(())
    }

    /// RFC 9300 4.1: what the public Internet could forge is not used there.
    fn check_public_internet(&self) -> Result<(), ConfigError> {
        let config = &self.config;
        let forgeable = [
            ("glean", config.glean),
            ("echo-nonce", config.echo_nonce),
            ("locator-status-bits", config.locator_status_bits),
            ("map-versioning", config.map_versioning),
        ];
        let on = forgeable.iter().find(|(_, on)| *on);
        match on.filter(|_| config.public_internet) {
            Some((name, _)) => Err(ConfigError {
                path: self.source.path.clone(),
                place: None,
                expected: "with `public-internet: true`, none of `glean`, `echo-nonce`, `locator-status-bits` and `map-versioning` (RFC 9300 4.1)".into(),
                found: format!("`{name}: true`"),
                hint: Some(format!("take out `{name}`, or `public-internet`").into()),
                snippet: None,
            }),
            None => Ok(()),
        }
    }

    /// The site's packets name no Instance ID, only a source: where two instances share addresses, nothing tells which of
    /// them a packet belongs to.
    fn check_instances(&self) -> Result<(), ConfigError> {
        let entries = &self.config.eid_prefixes;
        for (at, entry) in entries.iter().enumerate() {
            let eid = |entry: &EidEntry| EidPrefix::new(entry.instance_id.0, entry.prefix.value.0);
            let (this, net) = (eid(entry), entry.prefix.value.0);
            let other = entries[..at].iter().map(eid).find(|other| {
                other.iid != this.iid
                    && (other.prefix.contains(&net) || net.contains(&other.prefix))
            });
            if let Some(other) = other {
                return Err(self.source.error(
                    &entry.prefix,
                    "EID-Prefixes of different Instance IDs that do not overlap: a packet's source tells its instance \
                     (give each instance an xTR of its own)",
                    format!("{this}, which overlaps {other}"),
                ));
            }
        }
        Ok(())
    }

    fn check_periods<'a>(
        &self,
        periods: impl Iterator<Item = &'a Spanned<Period>>,
        longest: Duration,
        expected: &str,
    ) -> Result<(), ConfigError> {
        for period in periods {
            if !(Duration::from_secs(1)..=longest).contains(&period.value.0) {
                let found = period.value.to_string();
                return Err(self.source.error(period, expected, found));
            }
        }
        Ok(())
    }

    fn check_static(&self) -> Result<(), ConfigError> {
        let mut statics = EidTable::default();
        for entry in &self.config.static_map_cache {
            let prefix = EidPrefix::new(entry.instance_id.0, entry.prefix.value.0);
            if statics.insert(prefix, ()).is_some() {
                return Err(self.source.error(
                    &entry.prefix,
                    "each static prefix once",
                    format!("{prefix} a second time"),
                ));
            }
            if entry.action.is_some() != entry.locators.is_empty() {
                let found = if entry.action.is_some() {
                    "both"
                } else {
                    "neither"
                };
                return Err(self.source.error(
                    &entry.prefix,
                    "either `action` or `locators` in a static entry",
                    found,
                ));
            }
        }
        Ok(())
    }

    fn check_set<'a>(
        &self,
        addresses: impl Iterator<Item = &'a Spanned<Address>>,
    ) -> Result<(), ConfigError> {
        let mut seen = Vec::new();
        for address in addresses {
            if seen.contains(&address.value.0) {
                return Err(self.source.error(
                    address,
                    "each locator once",
                    format!("{} a second time", address.value.0),
                ));
            }
            seen.push(address.value.0);
        }
        Ok(())
    }

    /// Locators, Map-Servers, Map-Resolvers and proxies are unicast addresses (RFC 6830 6.1.4) that are reached without
    /// LISP: never from an EID-Prefix (RFC 6830 3, RFC 6833 4.1).
    fn check_reachable<'a>(
        &self,
        addresses: impl IntoIterator<Item = &'a Spanned<Address>>,
        eids: &EidTable<()>,
    ) -> Result<(), ConfigError> {
        for address in addresses {
            let (expected, found) = if !is_locator(address.value.0) {
                ("a unicast address that other sites can reach", "")
            } else if eids.lookup(0, address.value.0).is_some() {
                (
                    "a locator outside of all EID-Prefixes",
                    ", which lies inside one",
                )
            } else {
                continue;
            };
            let found = format!("{}{found}", address.value.0);
            return Err(self.source.error(address, expected, found));
        }
        Ok(())
    }
}

fn period(given: &Option<Spanned<Period>>, otherwise: Duration) -> Duration {
    given.as_ref().map_or(otherwise, |period| period.value.0)
}

fn local_mapping(entry: &EidEntry) -> LocalMapping {
    LocalMapping {
        prefix: EidPrefix::new(entry.instance_id.0, entry.prefix.value.0),
        ttl: entry.ttl,
        locators: entry
            .locators
            .iter()
            .map(|locator| LocalLocator {
                address: locator.address.value.0,
                priority: locator.priority,
                weight: locator.weight,
                mpriority: locator.multicast_priority,
                mweight: locator.multicast_weight,
                up: true,
            })
            .collect(),
        dynamic: entry.dynamic,
        first_version: entry.map_version.0,
        policies: entry
            .policies
            .iter()
            .map(|policy| RequesterPolicy {
                requesters: policy.requesters.iter().map(|prefix| prefix.0).collect(),
                locators: policy
                    .locators
                    .iter()
                    .map(|l| (l.address.value.0, l.priority, l.weight))
                    .collect(),
            })
            .collect(),
    }
}

fn map_server(entry: &MapServerEntry) -> MapServer {
    MapServer {
        address: entry.address.value.0,
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
        address: entry.address.value.0,
        priority: entry.priority,
        weight: entry.weight,
    }
}

impl Loaded {
    /// Whether all addresses of a prefix are EIDs of the sites that this box serves: its own, or those for which it is a
    /// proxy.
    fn is_eid(&self, net: &IpNet) -> bool {
        let own = self.config.eid_prefixes.iter().map(|e| e.prefix.value.0);
        let sources = self.proxy.petr_sources.iter().map(|e| e.prefix);
        own.chain(self.proxy.aggregates.iter().copied())
            .chain(sources)
            .any(|eid| eid.contains(net))
    }

    /// LISP-NAT, checked: both sides IPv4 and equally long, at a site private addresses turned into EIDs.
    fn translations(&self) -> Result<Vec<Translation>, ConfigError> {
        let mut translations = Vec::new();
        for entry in &self.config.lisp_nat {
            let (inside, routable) = (entry.inside.value.0, entry.routable.value.0);
            let (IpNet::V4(inside4), IpNet::V4(routable4)) = (inside, routable) else {
                let found = format!("{inside} and {routable}");
                return Err(self.source.error(&entry.inside, "two IPv4 prefixes", found));
            };
            if inside4.prefix_len() != routable4.prefix_len() {
                return Err(self.source.error(
                    &entry.routable,
                    "a prefix as long as `inside`: one address for one",
                    format!("{routable} for {inside}"),
                ));
            }
            let inside_is_eid = self.is_eid(&inside);
            // What a site encapsulates has an EID as source; what a PITR does need not (RFC 6832 5.2).
            let to_eid = self.proxy.role == Role::Xtr;
            if to_eid && !inside_is_eid && !self.is_eid(&routable) {
                return Err(self.source.error(
                    &entry.routable,
                    "an EID-Prefix of `eid-prefixes`, because `inside` is none",
                    routable.to_string(),
                ));
            }
            translations.push(Translation {
                inside: inside4,
                routable: routable4,
                inside_is_eid,
            });
        }
        Ok(translations)
    }
}
