//! The sites: addresses, settings, and as much of a packet path as the control plane notices.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use daemon::Time;
use lisp::EidPrefix;
use lisp::auth::{AuthKey, MacAlgorithm};
use msmr::core::site::{Config, Limits, SiteConfig, SiteKey, SitePrefix};
use xtr::config::Loaded;
use xtr::core::event::NoTraffic;
use xtr::core::{Action, Core, Forward, Seeded, Settings};
use xtr::shell::Host;

use super::Options;

/// Map-Server and Map-Resolver.
pub(crate) const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10));
/// UDP port of the xTRs' own questions.
pub(crate) const CLIENT_PORT: u16 = 50_000;
const SECRET: &str = "simulated";
const FIRST_EID: u32 = 0x2000_0000;
const FIRST_RLOC: u32 = 0x6440_0000;
const FIRST_NEW_RLOC: u32 = 0x6640_0000;

/// One site.
pub(crate) struct Site {
    pub(crate) core: Core,
    /// When its next tick is scheduled.
    pub(crate) tick: Time,
    /// The packet path's map-cache: where packets to a site go, if anywhere.
    pub(crate) cache: HashMap<u32, Option<IpAddr>>,
    /// Whether the control plane wants to know who sends here.
    pub(crate) report_senders: bool,
    /// Since when it has been at its new locator.
    pub(crate) moved: Option<Time>,
}

pub(crate) fn eid(site: u32) -> IpAddr {
    Ipv4Addr::from(FIRST_EID + (site << 8) + 1).into()
}

fn prefix(site: u32) -> EidPrefix {
    let net = ipnet::Ipv4Net::new_assert(Ipv4Addr::from(FIRST_EID + (site << 8)), 24);
    EidPrefix::new(0, net.into())
}

/// The site of an EID-Prefix, where it is exactly one site's.
pub(crate) fn site_of(eid: &EidPrefix) -> Option<u32> {
    match eid.prefix {
        ipnet::IpNet::V4(net) if net.prefix_len() == 24 => {
            Some(u32::from(net.addr()).checked_sub(FIRST_EID)? >> 8)
        }
        _ => None,
    }
}

pub(crate) fn rloc(site: u32, moved: bool) -> IpAddr {
    let first = if moved { FIRST_NEW_RLOC } else { FIRST_RLOC };
    Ipv4Addr::from(first + site).into()
}

/// Whose address this is, and whether it is the one after the move.
pub(crate) fn owner(address: IpAddr) -> Option<(u32, bool)> {
    let IpAddr::V4(address) = address else {
        return None;
    };
    match u32::from(address) {
        new if new >= FIRST_NEW_RLOC => Some((new - FIRST_NEW_RLOC, true)),
        old if old >= FIRST_RLOC => Some((old - FIRST_RLOC, false)),
        _ => None,
    }
}

fn key() -> AuthKey {
    AuthKey::new(0, MacAlgorithm::HmacSha256_128, SECRET.as_bytes())
}

/// An xTR's settings, before or after the move, by way of the configuration that a person would write.
pub(crate) fn settings(options: &Options, site: u32, moved: bool) -> Settings {
    let address = rloc(site, moved);
    let prefix = prefix(site);
    let (ttl, interval) = (options.ttl, options.register_interval);
    let probing = match options.probe_interval {
        0 => String::new(),
        seconds => format!("rloc-probing: {{interval: {seconds}s}}\n"),
    };
    let text = format!(
        "rlocs: [{address}]\n\
         eid-prefixes: [{{prefix: {prefix}, ttl: {ttl}, locators: [{{address: {address}, priority: 1, weight: 100}}]}}]\n\
         map-servers: [{{address: {SERVER}, key: {SECRET}, want-map-notify: true}}]\n\
         map-resolvers: [{SERVER}]\n\
         register-interval: {interval}s\n\
         quick-registration: false\n\
         map-request-rate: 1000\n\
         on-miss: drop\n{probing}"
    );
    let host = Host {
        addresses: vec![address],
        register_nonce: 0,
    };
    Loaded::parse("a simulated site", &text)
        .and_then(|loaded| loaded.setup(&host))
        .unwrap_or_else(|error| panic!("options that no xTR takes: {error}"))
        .settings
}

/// The Map-Server's configuration: every site with its prefix.
pub(crate) fn server(options: &Options) -> Config {
    let key = SiteKey {
        auth: Arc::new(key()),
        fingerprint: 1,
    };
    let site = |number| SiteConfig {
        name: format!("site-{number}"),
        keys: vec![key.clone()],
        prefixes: vec![SitePrefix {
            prefix: prefix(number),
            accept_more_specifics: false,
            deny: false,
        }],
        ..SiteConfig::default()
    };
    Config {
        sites: (0..options.sites).map(site).collect(),
        registration_timeout: Duration::from_secs(3 * options.register_interval),
        limits: Limits {
            map_requests_per_source: 0,
            ..Limits::default()
        },
        ..Config::default()
    }
}

impl Site {
    pub(crate) fn new(options: &Options, number: u32) -> Self {
        let seed = options
            .seed
            .wrapping_mul(0x1000_0000)
            .wrapping_add(number.into());
        Self {
            core: Core::new(
                settings(options, number, false),
                CLIENT_PORT,
                Box::new(Seeded(seed)),
                Box::new(NoTraffic),
            ),
            tick: Time::NEVER,
            cache: HashMap::new(),
            report_senders: false,
            moved: None,
        }
    }

    /// Does what the packet path is told; what is not for it comes back.
    pub(crate) fn apply(&mut self, action: Action) -> Option<Action> {
        match action {
            Action::Install {
                prefix, forward, ..
            } => {
                if let Some(site) = site_of(&prefix) {
                    let usable = match forward {
                        Forward::Encapsulate(locators) => locators
                            .iter()
                            .filter(|locator| locator.usable)
                            .min_by_key(|locator| locator.priority)
                            .and_then(|locator| locator.rloc),
                        Forward::Natively | Forward::Drop | Forward::SendMapRequest => None,
                    };
                    self.cache.insert(site, usable);
                }
                None
            }
            Action::Remove(prefix) => {
                if let Some(site) = site_of(&prefix) {
                    self.cache.remove(&site);
                }
                None
            }
            Action::SetLocal(local) => {
                self.report_senders = local.report_senders;
                None
            }
            other => Some(other),
        }
    }
}
