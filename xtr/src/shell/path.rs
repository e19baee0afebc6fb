//! The packet path as the core's actions need it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::{Arc, Weak};

use daemon::{Clock, Failure, Time};
use lisp::EidPrefix;

use crate::core::{Action, Forward, ForwardLocator, Settings, Traffic};
use crate::dataplane::{DataPlane, DataPlaneConfig, DataPlaneError};
use crate::forwarding::{Decision, Destination, EventReceiver, Forwarding, LocatorSet, Policy};
use crate::kernel::nat::{Nat, Translation};

/// The running packet path.
pub(super) struct PacketPath {
    plane: Arc<DataPlane>,
    _nat: Nat,
}

/// When entries were last used, from the packet path's counters.
struct Usage {
    plane: Weak<DataPlane>,
    clock: Clock,
}

impl Traffic for Usage {
    fn last_used(&self, prefix: &EidPrefix) -> Option<Time> {
        let plane = self.plane.upgrade()?;
        plane.count_entry(prefix);
        let entry = plane.forwarding().get(prefix)?;
        Some(self.clock.now() - plane.forwarding().idle(&entry)?)
    }
}

/// Translations of private addresses: into EIDs, before the packet path sees them.
fn private(settings: &Settings) -> impl Iterator<Item = &Translation> {
    settings.translations.iter().filter(|t| !t.inside_is_eid)
}

fn policy(settings: &Settings) -> Policy {
    Policy {
        edition: settings.edition,
        role: settings.role,
        petr: None,
        petr_sources: settings.petr_sources.clone(),
        petr_locators: settings.petr_locators.clone(),
        public_internet: settings.public_internet,
        misses_to_petr: settings.misses_to_petr,
        translated: private(settings)
            .map(|t| EidPrefix::new(0, t.routable.into()))
            .collect(),
        map_versioning: settings.map_versioning,
        locator_status_bits: settings.locator_status_bits,
        data_probes: settings.data_probes,
        report_sources: settings.database.iter().any(|mapping| mapping.dynamic),
    }
}

/// The own locator that data to `rloc` comes from: the one that the route has, so that a multihomed site's packets
/// pass the reverse-path filters of its providers; otherwise the first of the family.
fn source_toward(rloc: IpAddr, settings: &Settings) -> Option<IpAddr> {
    let first = settings.source_for(rloc)?;
    let several = settings
        .rlocs_up()
        .any(|own| own != first && own.is_ipv4() == rloc.is_ipv4());
    if !several || rloc.is_unspecified() {
        return Some(first);
    }
    // Connecting a UDP socket sends nothing; it makes the kernel choose route and source.
    let routed = UdpSocket::bind((unspecified(rloc), 0)).and_then(|socket| {
        socket.connect((rloc, lisp::DATA_PORT))?;
        Ok(socket.local_addr()?.ip())
    });
    match routed {
        Ok(source) if settings.rlocs_up().any(|own| own == source) => Some(source),
        _ => Some(first),
    }
}

fn unspecified(family_of: IpAddr) -> IpAddr {
    if family_of.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}

impl PacketPath {
    pub(super) fn start(
        config: &DataPlaneConfig,
        settings: &Settings,
    ) -> Result<(Self, EventReceiver), Failure> {
        let forwarding = Arc::new(Forwarding::new(policy(settings)));
        let (plane, events) = DataPlane::start(config, forwarding)
            .map_err(|e| Failure::host("starting the packet path", e))?;
        plane
            .set_aggregates(&settings.aggregates)
            .map_err(|e| Failure::host("attracting the aggregates", e))?;
        let failed = |e| Failure::host("starting address translation", e);
        for translation in private(settings) {
            plane
                .attract_source(translation.inside.into())
                .map_err(|e| Failure::host("attracting private sources", e))?;
        }
        let nat = Nat::start(&config.device, &settings.translations).map_err(failed)?;
        let plane = Arc::new(plane);
        Ok((Self { plane, _nat: nat }, events))
    }

    pub(super) fn traffic(&self, clock: Clock) -> impl Traffic + 'static {
        Usage {
            plane: Arc::downgrade(&self.plane),
            clock,
        }
    }

    pub(super) fn forwarding(&self) -> &Forwarding {
        self.plane.forwarding()
    }

    /// The tables with all their counters up to date.
    pub(super) fn counted(&self) -> &Forwarding {
        self.plane.count();
        self.plane.forwarding()
    }

    /// Rules that a new configuration changes.
    pub(super) fn reload(&self, settings: &Settings) {
        let mut policy = policy(settings);
        policy.petr = self.forwarding().policy().petr;
        if let Err(error) = self.plane.set_policy(policy) {
            tracing::warn!("packet path: {error}");
        }
        if let Err(error) = self.plane.set_aggregates(&settings.aggregates) {
            tracing::warn!("packet path: {error}");
        }
    }

    /// Whether the site has a route to some part of a local EID-Prefix.
    pub(super) fn site_reaches(&self, prefix: &EidPrefix) -> bool {
        self.plane.site_reaches(prefix)
    }

    /// Does what concerns the packet path.
    pub(super) fn act(&self, action: Action, settings: &Settings) -> Result<(), DataPlaneError> {
        match action {
            Action::Install {
                prefix,
                forward,
                map_version,
            } => {
                let decision = self.decision(forward, settings);
                self.plane.install(prefix, decision, map_version).map(drop)
            }
            Action::Remove(prefix) => self.plane.withdraw(&prefix).map(drop),
            Action::Release(packets) => {
                self.plane.release(packets);
                Ok(())
            }
            Action::SetLocal(local) => self.plane.add_local(local),
            Action::RemoveLocal(prefix) => self.plane.remove_local(&prefix).map(drop),
            Action::SetPetrs(petrs) => {
                let usable = petrs.iter().any(|petr| petr.usable);
                let mut policy = self.forwarding().policy();
                policy.petr = usable.then(|| Arc::new(self.locator_set(petrs, settings)));
                self.plane.set_policy(policy)
            }
            Action::RequestEcho { rloc, nonce } => {
                self.plane.request_echo(rloc, nonce);
                Ok(())
            }
            Action::Send { .. } | Action::Log(_) | Action::Complain { .. } => Ok(()),
        }
    }

    fn decision(&self, forward: Forward, settings: &Settings) -> Decision {
        match forward {
            Forward::Encapsulate(locators) => {
                Decision::Encapsulate(Arc::new(self.locator_set(locators, settings)))
            }
            Forward::Natively => Decision::NativelyForward,
            Forward::Drop => Decision::Drop,
            Forward::SendMapRequest => Decision::SendMapRequest,
        }
    }

    fn locator_set(&self, locators: Vec<ForwardLocator>, settings: &Settings) -> LocatorSet {
        let destinations = (0u8..=254)
            .zip(locators)
            .map(|(ordinal, locator)| {
                let rloc = locator.rloc.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
                Destination {
                    rloc,
                    source: source_toward(rloc, settings),
                    priority: locator.priority,
                    weight: locator.weight,
                    usable: locator.usable && locator.rloc.is_some(),
                    ordinal,
                    state: self.forwarding().rlocs().get(rloc),
                }
            })
            .collect();
        LocatorSet::new(destinations)
    }
}
