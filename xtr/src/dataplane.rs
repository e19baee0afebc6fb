//! The packet path: TUN on the site side, UDP 4341 on the locator side, blocking threads between them.
//!
//! [`DataPlane::start`] puts everything into place; the control plane then works through [`DataPlane::install`]
//! and its neighbours, which keep the packet threads' tables and the kernel's routes in step.

mod batch;
mod checksum;
mod coalesce;
mod decap;
mod encap;
mod fragment;
mod icmp;
mod inner;
mod limiter;
mod multicast;
mod route;
mod segment;
mod sockets;
mod sys;
#[cfg(test)]
mod tests;
mod traceroute;
mod vnet;
mod watch;

use std::fs::File;
use std::net::{IpAddr, Shutdown};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;
use lisp::EidPrefix;
use nix::sys::eventfd::{EfdFlags, EventFd};
use socket2::{Domain, Socket};

use crate::fastpath::{FastPath, Surroundings};
use crate::forwarding::{
    Decision, Entry, EventReceiver, Forwarding, HeldPacket, LocalEid, Policy, event_channel,
};
use crate::kernel::aggregates::AggregateRoutes;
use crate::kernel::data_probes::DataProbeRules;
use crate::kernel::offload::WireOffloads;
use crate::kernel::policy::{MAX_INSTANCES, PolicyRouting, Via};
use crate::kernel::site::{SiteMonitor, SiteView};
use crate::kernel::tun::{Tun, TunOffload};
use crate::kernel::{KernelError, read_sysctl};
use decap::Decapsulator;
use encap::{Encapsulator, Shared};
pub use multicast::MulticastSite;
use multicast::Multicaster;
use sockets::{IcmpSockets, PortPool, data_socket};
use sys::say_destinations;
use traceroute::Traceroutes;

#[cfg(test)]
pub(crate) use batch::{Outer, whole_packet};
pub(crate) use encap::inner_limit;
pub(crate) use inner::decapsulated_tos;
#[cfg(test)]
pub(crate) use inner::{Inner, decapsulated_ttl, rewrite};
#[cfg(test)]
pub(crate) use route::{Fate, fate, header};
pub(crate) use traceroute::PORTS as TRACEROUTE_PORTS;

/// Events that may wait for the control plane.
const EVENTS: usize = 4096;

/// How the locator side is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offload {
    /// Segmentation and receive offloads where the kernel has them, found out by trying.
    #[default]
    Auto,
    /// One packet a message, outer UDP checksum always zero.
    Off,
}

/// Who encapsulates and decapsulates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DataPath {
    /// The daemon, through its TUN device.
    Tun,
    /// eBPF programs in the kernel, for all packets that need nothing else; the daemon for the others. No start without
    /// them.
    Kernel,
    /// As `kernel` where the kernel lets it be, and while the box has no tables of netfilter and no policies of IPsec,
    /// which packets would pass by; otherwise as `tun`.
    #[default]
    Auto,
}

/// What a data plane needs to know before it starts.
#[derive(Debug, Clone)]
pub struct DataPlaneConfig {
    /// Who encapsulates and decapsulates.
    pub path: DataPath,
    /// Name of the TUN device, at most 15 octets.
    pub device: String,
    /// `/dev/net/tun`, or where that device node is.
    pub tun_node: PathBuf,
    /// First routing table; Instance IDs take this one and those after it, in the order in which they appear.
    pub first_table: u32,
    /// Priority of the policy rules; rules of this priority and of our protocol number are ours.
    pub rule_priority: u32,
    /// Our own locators: the outer source addresses.
    pub rlocs: Vec<IpAddr>,
    /// L of RFC 6830 5.4: what the core carries toward any locator, in octets. 1500 unless there is a reason.
    pub locator_mtu: u16,
    /// Source ports among which flows are spread, 1 to 1024.
    pub source_ports: u16,
    /// Packet thread pairs and TUN queues, 1 to 16.
    pub queues: u8,
    /// Offloads of the locator side.
    pub offload: Offload,
    /// Turn transmit offloads off on veths toward the locators, as on a real wire (see [`WireOffloads`]). False: they stay
    /// as they are, which is faster where both ends are known to cope.
    pub wire_offloads: bool,
    /// How long a thread looks for the next packet before it sleeps. Zero: it sleeps at once.
    pub spin: Duration,
    /// Learn smaller MTUs per locator from the core (RFC 6830 5.4.2).
    pub learn_mtu: bool,
    /// Multicast packets that leave the site (RFC 6830 11). None: none does.
    pub multicast: Option<MulticastSite>,
}

impl Default for DataPlaneConfig {
    fn default() -> Self {
        Self {
            path: DataPath::default(),
            device: "lisp0".to_owned(),
            tun_node: PathBuf::from("/dev/net/tun"),
            first_table: 4341,
            rule_priority: 4341,
            rlocs: Vec::new(),
            locator_mtu: 1500,
            source_ports: 256,
            queues: 1,
            offload: Offload::Auto,
            wire_offloads: true,
            spin: Duration::ZERO,
            learn_mtu: true,
            multicast: None,
        }
    }
}

impl DataPlaneConfig {
    fn check(&self) -> Result<(), DataPlaneError> {
        let range = |name: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(DataPlaneError::Config(format!(
                "{name}: expected {low} to {high}, found {value}"
            )))
        };
        range("source-ports", self.source_ports.into(), 1, 1024)?;
        range("queues", self.queues.into(), 1, 16)?;
        range("locator-mtu", self.locator_mtu.into(), 576, 65_535)?;
        range(
            "tun-device (length of the name)",
            self.device.len() as u64,
            1,
            15,
        )
    }
}

/// Why the data plane cannot run. The message says what was tried and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataPlaneError {
    /// A setting outside its range.
    #[error("{0}")]
    Config(String),
    /// The kernel refused something.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// A running packet path. Dropping it stops the threads and removes device, routes and rules.
#[derive(Debug)]
pub struct DataPlane {
    shared: Arc<Shared>,
    forwarding: Arc<Forwarding>,
    routing: Mutex<PolicyRouting>,
    aggregates: Mutex<AggregateRoutes>,
    probes: Mutex<DataProbeRules>,
    releaser: Mutex<Encapsulator>,
    site: SiteView,
    /// For the threads that wait in `poll`.
    stop: Arc<EventFd>,
    /// For the threads that wait for a datagram: looked at when their socket is shut down.
    stopping: Arc<AtomicBool>,
    sockets: Vec<Arc<Socket>>,
    threads: Vec<JoinHandle<()>>,
    /// Put back at the end.
    _offloads: Option<WireOffloads>,
}

impl DataPlane {
    /// Removes what an earlier run left, then creates device, rules, routes, sockets and threads in the calling
    /// thread's network namespace. Returns when packets flow.
    ///
    /// # Errors
    /// A setting out of range, or the kernel's refusal; nothing is left behind then.
    pub fn start(
        config: &DataPlaneConfig,
        forwarding: Arc<Forwarding>,
    ) -> Result<(Self, EventReceiver), DataPlaneError> {
        config.check()?;
        let refused = |what: &str| {
            let what = what.to_owned();
            move |e| KernelError::new(what, e)
        };
        let tun = Tun::create(&config.device, &config.tun_node, config.queues)?;
        let routing = PolicyRouting::new(tun.index, config.first_table, config.rule_priority)?;
        let aggregates = AggregateRoutes::new(tun.index)?;
        let probes = DataProbeRules::new(config.first_table + MAX_INSTANCES, config.rule_priority)?;
        let site = SiteMonitor::new(tun.index)?;
        let (events, receiver) =
            event_channel(EVENTS).map_err(refused("creating the event channel"))?;
        let pool = PortPool::new(config.source_ports)
            .map_err(refused("opening the sockets of the source ports"))?;
        for rloc in &config.rlocs {
            // An address that is not there yet is tried again with the first packet.
            if let Err(error) = pool.raw(*rloc) {
                tracing::warn!(%rloc, %error, "cannot send from this locator now");
            }
        }
        let offloads = config
            .wire_offloads
            .then(|| WireOffloads::apply(&config.rlocs))
            .transpose()
            .map_err(refused("opening a socket to set offloads"))?;
        let icmp = IcmpSockets::new().map_err(refused("opening an ICMP socket"))?;
        let join = config.offload == Offload::Auto;
        let fast = start_fast(config, &forwarding, tun.index, &pool, site.view())?;
        let shared = Arc::new(Shared {
            forwarding: Arc::clone(&forwarding),
            events,
            pool,
            icmp,
            traceroutes: Traceroutes::new(config.source_ports),
            locator_mtu: usize::from(config.locator_mtu),
            source_ports: config.source_ports,
            join,
            spin: config.spin,
            fast,
        });
        let stop = Arc::new(
            EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
                .map_err(|e| KernelError::new("creating the stop signal", e.into()))?,
        );
        let offload = if join {
            tun.offload
        } else {
            TunOffload::default()
        };
        let clone = |queue: &File| {
            queue
                .try_clone()
                .map_err(|e| KernelError::new("duplicating the TUN descriptor", e))
        };
        let mut encapsulators = Vec::new();
        let mut decapsulators = Vec::new();
        let mut sockets = Vec::new();
        for queue in &tun.queues {
            encapsulators.push(Encapsulator::new(Arc::clone(&shared), clone(queue)?));
            for v6 in [false, true] {
                let socket = match data_socket(v6, config.queues > 1, join) {
                    Ok(socket) => Arc::new(socket),
                    // A kernel without IPv6 still serves IPv4 locators.
                    Err(e) if v6 && e.raw_os_error() == Some(libc::EAFNOSUPPORT) => continue,
                    Err(e) => return Err(KernelError::new("listening on UDP port 4341", e).into()),
                };
                sockets.push(Arc::clone(&socket));
                decapsulators.push(Decapsulator::new(
                    Arc::clone(&shared),
                    socket,
                    clone(queue)?,
                    site.view(),
                    offload,
                    Encapsulator::new(Arc::clone(&shared), clone(queue)?),
                ));
            }
        }
        let multicaster = config
            .multicast
            .as_ref()
            .zip(tun.queues.first())
            .map(|(site, queue)| {
                let encapsulator = Encapsulator::new(Arc::clone(&shared), clone(queue)?);
                Multicaster::new(Arc::clone(&shared), site, &config.rlocs, encapsulator).map_err(
                    |(name, e)| {
                        let what = format!("reading multicast packets of the interface {name}");
                        KernelError::new(what, e)
                    },
                )
            })
            .transpose()?;
        let first = tun.queues.first().ok_or_else(|| {
            DataPlaneError::Config("queues: expected 1 to 16, found 0".to_owned())
        })?;
        let releaser = Encapsulator::new(Arc::clone(&shared), clone(first)?);
        let mut plane = Self {
            shared: Arc::clone(&shared),
            forwarding,
            routing: Mutex::new(routing),
            aggregates: Mutex::new(aggregates),
            probes: Mutex::new(probes),
            releaser: Mutex::new(releaser),
            site: site.view(),
            stop,
            stopping: Arc::default(),
            sockets,
            threads: Vec::new(),
            _offloads: offloads,
        };
        for (n, encapsulator) in encapsulators.into_iter().enumerate() {
            plane.thread(format!("encap-{n}"), move |stop| encapsulator.run(stop))?;
        }
        for (n, decapsulator) in decapsulators.into_iter().enumerate() {
            let stopping = Arc::clone(&plane.stopping);
            plane.thread(format!("decap-{n}"), move |_| decapsulator.run(&stopping))?;
        }
        if let Some(multicaster) = multicaster {
            plane.thread("multicast".to_owned(), move |stop| multicaster.run(stop))?;
        }
        let learn = config.learn_mtu;
        let tun = clone(first)?;
        plane.thread("watch".to_owned(), move |stop| {
            watch::run(&shared, site, &tun, learn, stop.as_fd());
        })?;
        plane.sync_routes()?;
        Ok((plane, receiver))
    }

    fn thread(
        &mut self,
        name: String,
        body: impl FnOnce(&Arc<EventFd>) + Send + 'static,
    ) -> Result<(), DataPlaneError> {
        let stop = Arc::clone(&self.stop);
        let handle = std::thread::Builder::new()
            .name(name)
            .spawn(move || body(&stop))
            .map_err(|e| KernelError::new("starting a packet thread", e))?;
        self.threads.push(handle);
        Ok(())
    }

    /// Rules and routes for what the tables held before the start.
    fn sync_routes(&self) -> Result<(), DataPlaneError> {
        for local in self.forwarding.locals() {
            let mut routing = self.routing();
            routing.add_local(local.prefix, local.away)?;
            let table = routing.table_of(local.prefix.iid);
            self.shared
                .tell(|fast| fast.local_changed(&local.prefix, table));
        }
        for entry in self.forwarding.entries() {
            self.sync_entry(&entry.prefix, &entry.decision)?;
        }
        if self.forwarding.policy().data_probes {
            self.hear_probes(true)?;
        }
        self.sync_probes()
    }

    /// Rules for Data-Probes to the local EID-Prefixes (RFC 6830 3), where they are wanted.
    fn sync_probes(&self) -> Result<(), DataPlaneError> {
        let locals = if self.forwarding.policy().data_probes {
            self.forwarding.locals()
        } else {
            Vec::new()
        };
        let here = locals.iter().filter(|local| !local.away);
        self.probes()
            .set(&here.map(|local| local.prefix.prefix).collect())?;
        Ok(())
    }

    /// Has packets say to which address they were sent: what makes a Data-Probe.
    fn hear_probes(&self, wanted: bool) -> Result<(), DataPlaneError> {
        for socket in &self.sockets {
            let v6 = socket.domain().is_ok_and(|d| d == Domain::IPV6);
            say_destinations(socket.as_fd(), v6, wanted)
                .map_err(|e| KernelError::new("asking for the destinations of packets", e))?;
        }
        Ok(())
    }

    fn probes(&self) -> MutexGuard<'_, DataProbeRules> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn routing(&self) -> MutexGuard<'_, PolicyRouting> {
        self.routing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tables, for reading. Change them through the methods here, so that the kernel's routes follow.
    pub fn forwarding(&self) -> &Arc<Forwarding> {
        &self.forwarding
    }

    /// Adds or replaces a map-cache entry.
    ///
    /// # Errors
    /// The kernel refused a route; the packet threads use the entry all the same.
    pub fn install(
        &self,
        prefix: EidPrefix,
        decision: Decision,
        map_version: Option<u16>,
    ) -> Result<Arc<Entry>, DataPlaneError> {
        // The route first: a packet given back to the kernel must find it.
        let routed = self.sync_entry(&prefix, &decision);
        let entry = self.forwarding.insert(prefix, decision, map_version);
        self.shared.tell(|fast| fast.entry_changed(&prefix));
        routed.map(|()| entry)
    }

    /// Removes a map-cache entry.
    ///
    /// # Errors
    /// As [`DataPlane::install`].
    pub fn withdraw(&self, prefix: &EidPrefix) -> Result<Option<Arc<Entry>>, DataPlaneError> {
        let removed = self.forwarding.remove(prefix);
        if removed.is_some() {
            self.shared.tell(|fast| fast.entry_changed(prefix));
            self.unroute(prefix)?;
        }
        Ok(removed)
    }

    /// Empties the map-cache.
    ///
    /// # Errors
    /// As [`DataPlane::install`].
    pub fn clear(&self) -> Result<(), DataPlaneError> {
        let entries = self.forwarding.entries();
        self.forwarding.clear();
        for entry in &entries {
            self.shared.tell(|fast| fast.entry_changed(&entry.prefix));
        }
        let mut routing = self.routing();
        for entry in entries {
            if !self.forwarding.is_local(&entry.prefix) {
                routing.unset(entry.prefix)?;
            }
        }
        Ok(())
    }

    fn is_native(&self, decision: &Decision) -> bool {
        matches!(decision, Decision::NativelyForward)
            && self.forwarding.snapshot().policy.petr.is_none()
    }

    /// Makes the kernel's routes agree with an entry that is about to be installed.
    fn sync_entry(&self, prefix: &EidPrefix, decision: &Decision) -> Result<(), DataPlaneError> {
        if self.forwarding.is_local(prefix) {
            // The route of the local EID-Prefix stays.
            return Ok(());
        }
        let mut routing = self.routing();
        if self.is_native(decision) {
            // Whatever is more specific and not native still belongs to the packet path.
            for inside in self.inside(prefix) {
                if routing.get(&inside).is_none() {
                    routing.set(inside, Via::Tunnel)?;
                }
            }
            routing.set(*prefix, Via::Throw)?;
        } else if self.has_native_above(prefix) {
            routing.set(*prefix, Via::Tunnel)?;
        } else if routing.get(prefix).is_some() {
            let was_native = routing.get(prefix) == Some(Via::Throw);
            routing.unset(*prefix)?;
            if was_native {
                self.tidy_inside(&mut routing, prefix)?;
            }
        }
        Ok(())
    }

    fn unroute(&self, prefix: &EidPrefix) -> Result<(), DataPlaneError> {
        if self.forwarding.is_local(prefix) {
            return Ok(());
        }
        let mut routing = self.routing();
        let was_native = routing.get(prefix) == Some(Via::Throw);
        routing.unset(*prefix)?;
        if was_native {
            self.tidy_inside(&mut routing, prefix)?;
        }
        Ok(())
    }

    /// Takes out routes into the tunnel that no throw above makes necessary any more.
    fn tidy_inside(
        &self,
        routing: &mut PolicyRouting,
        prefix: &EidPrefix,
    ) -> Result<(), DataPlaneError> {
        for inside in self.inside(prefix) {
            if routing.get(&inside) == Some(Via::Tunnel)
                && !self.forwarding.is_local(&inside)
                && !self.has_native_above_except(&inside, prefix)
            {
                routing.unset(inside)?;
            }
        }
        Ok(())
    }

    fn inside(&self, prefix: &EidPrefix) -> Vec<EidPrefix> {
        let tables = self.forwarding.snapshot();
        let inside = tables.inside(prefix);
        inside
            .into_iter()
            .map(|e| e.prefix)
            .filter(|p| p != prefix)
            .collect()
    }

    fn has_native_above(&self, prefix: &EidPrefix) -> bool {
        self.has_native_above_except(prefix, prefix)
    }

    fn has_native_above_except(&self, prefix: &EidPrefix, except: &EidPrefix) -> bool {
        let tables = self.forwarding.snapshot();
        tables.policy.petr.is_none()
            && tables.covering(prefix).into_iter().any(|e| {
                e.prefix != *prefix
                    && e.prefix != *except
                    && matches!(e.decision, Decision::NativelyForward)
            })
    }

    /// Adds or replaces a local EID-Prefix: from now on packets with such a source are LISP packets.
    ///
    /// # Errors
    /// As [`DataPlane::install`].
    pub fn add_local(&self, local: LocalEid) -> Result<(), DataPlaneError> {
        let (prefix, away) = (local.prefix, local.away);
        if self.forwarding.snapshot().local(&prefix).is_none() {
            warn_if_not_forwarding(&prefix);
        }
        self.forwarding.add_local(local);
        let mut routing = self.routing();
        let routed = routing.add_local(prefix, away);
        let table = routing.table_of(prefix.iid);
        self.shared.tell(|fast| fast.local_changed(&prefix, table));
        drop(routing);
        routed?;
        self.sync_probes()
    }

    /// Leads packets of a source that is no EID yet into the packet path: the kernel translates it on the way
    /// (RFC 6832 7.3).
    ///
    /// # Errors
    /// As [`DataPlane::install`].
    pub fn attract_source(&self, prefix: IpNet) -> Result<(), DataPlaneError> {
        self.routing().add_local(EidPrefix::new(0, prefix), false)?;
        Ok(())
    }

    /// Removes a local EID-Prefix: packets with such a source are the kernel's again.
    ///
    /// # Errors
    /// As [`DataPlane::install`].
    pub fn remove_local(&self, prefix: &EidPrefix) -> Result<bool, DataPlaneError> {
        if !self.forwarding.remove_local(prefix) {
            return Ok(false);
        }
        self.shared.tell(|fast| fast.local_changed(prefix, None));
        self.routing().remove_local(*prefix)?;
        if let Some(entry) = self.forwarding.get(prefix) {
            self.sync_entry(prefix, &entry.decision)?;
        }
        self.sync_probes()?;
        Ok(true)
    }

    /// Replaces the rules that hold for every packet.
    ///
    /// # Errors
    /// As [`DataPlane::install`].
    pub fn set_policy(&self, policy: Policy) -> Result<(), DataPlaneError> {
        let before = self.forwarding.policy();
        let petr_changes = before.petr.is_some() != policy.petr.is_some();
        let probes = policy.data_probes;
        self.forwarding.set_policy(policy);
        self.shared.tell(FastPath::policy_changed);
        if petr_changes {
            for entry in self.forwarding.entries() {
                self.sync_entry(&entry.prefix, &entry.decision)?;
            }
        }
        if before.data_probes != probes {
            self.hear_probes(probes)?;
            self.sync_probes()?;
        }
        Ok(())
    }

    /// Sends held packets the normal way, now that there is a mapping. Those for which there still is none are
    /// dropped, not reported again.
    pub fn release(&self, packets: Vec<HeldPacket>) {
        self.releaser
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .release(&packets);
    }

    /// Attracts the traffic to these EID aggregates, and to no others (RFC 6832 5.2): routes of
    /// [`AGGREGATE_PROTOCOL`](crate::kernel::AGGREGATE_PROTOCOL) in the main table.
    ///
    /// # Errors
    /// As [`DataPlane::install`].
    pub fn set_aggregates(&self, aggregates: &[IpNet]) -> Result<(), DataPlaneError> {
        self.aggregates().set(aggregates)?;
        Ok(())
    }

    fn aggregates(&self) -> MutexGuard<'_, AggregateRoutes> {
        self.aggregates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts (24-bit nonce) or ends the state in which every packet to a locator asks for an echo (RFC 6830 6.3.1).
    pub fn request_echo(&self, rloc: IpAddr, nonce: Option<u32>) {
        if let Some(state) = self.forwarding.rlocs().find(rloc) {
            state.request_echo(nonce);
            self.shared.tell(|fast| fast.rloc_changed(rloc));
        }
    }

    /// Whether plain packets take the kernel path now.
    pub fn is_in_kernel(&self) -> bool {
        self.shared
            .fast
            .as_ref()
            .is_some_and(|fast| fast.yields().is_none())
    }

    /// Brings all counters of [`DataPlane::forwarding`] up to date, which the packet threads do by themselves and the
    /// kernel path does not.
    pub fn count(&self) {
        self.shared.tell(FastPath::collect);
    }

    /// Brings the counters of one map-cache entry up to date.
    pub fn count_entry(&self, prefix: &EidPrefix) {
        self.shared.tell(|fast| fast.collect_entry(prefix));
    }

    /// Whether the site has a route to an EID, other than by default or into the tunnel.
    pub fn site_route(&self, eid: IpAddr) -> bool {
        self.site.current().has_route(eid)
    }

    /// Whether the site has a route to some part of an EID-Prefix, other than by default or into the tunnel.
    pub fn site_reaches(&self, prefix: &EidPrefix) -> bool {
        self.site.current().reaches(&prefix.prefix)
    }
}

/// The kernel path, where it is wanted and possible; says once which path packets take, and why not the other.
fn start_fast(
    config: &DataPlaneConfig,
    forwarding: &Arc<Forwarding>,
    tunnel: u32,
    pool: &PortPool,
    site: SiteView,
) -> Result<Option<FastPath>, KernelError> {
    if config.path == DataPath::Tun {
        return Ok(None);
    }
    let surroundings = Surroundings {
        tunnel,
        locator_mtu: usize::from(config.locator_mtu),
        rlocs: config.rlocs.clone(),
        ports: pool.ports(),
        joins: config.offload == Offload::Auto,
        site,
        yields: config.path == DataPath::Auto,
    };
    match FastPath::start(Arc::clone(forwarding), surroundings) {
        Ok(fast) => {
            match fast.yields() {
                Some(found) => tracing::info!(
                    "packets take the TUN device: the kernel path would pass by the {found} of this box"
                ),
                None => tracing::info!(
                    "plain packets take the kernel path (eBPF), the others the TUN device"
                ),
            }
            Ok(Some(fast))
        }
        Err(error) if config.path == DataPath::Auto => {
            tracing::info!(
                %error,
                "packets take the TUN device; the kernel path needs CAP_BPF and CAP_NET_ADMIN outside of user \
                 namespaces, and Linux 6.6"
            );
            Ok(None)
        }
        Err(error) => Err(KernelError {
            what: "loading the programs of `path: kernel`".to_owned(),
            source: error,
            hint: "They need CAP_BPF and CAP_NET_ADMIN outside of user namespaces, and Linux 6.6; or choose `path: auto`",
        }),
    }
}

/// Hosts behind a box that does not forward reach nobody, and nothing else would say why.
fn warn_if_not_forwarding(prefix: &EidPrefix) {
    let (sysctl, name) = match prefix.prefix {
        IpNet::V4(_) => ("net/ipv4/ip_forward", "net.ipv4.ip_forward"),
        IpNet::V6(_) => (
            "net/ipv6/conf/all/forwarding",
            "net.ipv6.conf.all.forwarding",
        ),
    };
    if read_sysctl(sysctl) == Some(0) {
        tracing::warn!(%prefix, "this box does not forward packets of that family: set {name}=1");
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        // Rules first: no packet is led into a device that nobody reads.
        self.aggregates().remove_all();
        self.routing().remove_all();
        self.probes().remove_all();
        if let Err(error) = self.stop.write(1) {
            tracing::error!(%error, "could not stop the packet threads");
            return;
        }
        self.stopping.store(true, Ordering::Relaxed);
        for socket in &self.sockets {
            // Says that it was not connected, and wakes who waits there all the same.
            let _ = socket.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a packet thread had panicked");
            }
        }
    }
}
