//! The kernel path: plain packets are encapsulated and decapsulated by an eBPF program, without a trip to the daemon.
//!
//! It runs at every Ethernet interface, before the kernel's own forwarding (TCX, Linux 6.6): one program with both halves,
//! because the kernel waits for all its processors each time one is attached. Its halves serve what
//! needs no state but the tables that [`FastPath`] writes, and leave everything else as it came: the TUN path behind
//! them is complete, and meets it. What the programs take goes past netfilter, IPsec and traffic control of the way in, as it
//! is with XDP. For a flow tables and routes are asked once a tick of the kernel's clock (`flows`); flows of small
//! datagrams in quick succession are left to the daemon, which joins them (`bursts`).
//!
//! The programs are assembled here, from the same constants as the tables. The kernel loads them only for processes
//! with CAP_BPF (or CAP_SYS_ADMIN) and CAP_NET_ADMIN in the first user namespace. They vanish with the process.

mod asm;
mod bursts;
mod code;
mod decap;
mod encap;
mod flows;
mod links;
mod maps;
mod rules;
mod slots;
mod sys;
mod tables;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lisp::EidPrefix;

use crate::forwarding::Forwarding;
use crate::kernel::bypassed::Bypassed;
use crate::kernel::site::SiteView;
use links::Links;
use maps::Maps;
use rules::Constants;
use sys::Program;
use tables::Publisher;

/// What the programs have to know beside the tables.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// Index of the TUN device: what the kernel would give to it is the tunnel's.
    pub(crate) tunnel: u32,
    /// L of RFC 6830 5.4, octets.
    pub(crate) locator_mtu: usize,
    /// Own locators.
    pub(crate) rlocs: Vec<IpAddr>,
    /// Outer source ports of IPv4 and IPv6, in the order in which flows choose among them.
    pub(crate) ports: [Vec<u16>; 2],
    /// The daemon joins packets of a flow.
    pub(crate) joins: bool,
    /// Routes of the site.
    pub(crate) site: SiteView,
    /// Leave all packets to the daemon as long as the kernel has something in store for them on the way that programs
    /// avoid.
    pub(crate) yields: bool,
}

/// The programs of one router and their tables. Every method that tells of a change leaves the decision to the daemon
/// for good where the kernel refuses the change: wrong tables would be worse than slow ones.
#[derive(Debug)]
pub(crate) struct FastPath {
    state: Mutex<State>,
    site: SiteView,
    bypassed: Option<Bypassed>,
}

#[derive(Debug)]
struct State {
    publisher: Publisher,
    program: Program,
    links: Links,
    /// What every packet has to pass, in words.
    yields: Option<&'static str>,
    broken: bool,
}

impl State {
    fn sync_links(&mut self) -> io::Result<()> {
        if self.yields.is_some() {
            return Ok(());
        }
        self.links
            .sync(&self.program, &self.publisher.maps.virtuals)
    }
}

/// Both halves, for each family: what arrives in no tunnel may be the site's.
fn program(maps: &Maps) -> Result<Vec<asm::Insn>, asm::AsmError> {
    let (mut code, families) = code::Code::begin();
    for (family, label) in families.into_iter().enumerate() {
        code.bind(label);
        let site = code.label();
        let next = std::mem::replace(&mut code.next, site);
        decap::from_locator(&mut code, maps, family);
        code.bind(site);
        code.next = next;
        encap::from_site(&mut code, maps, family);
    }
    code.end()
}

/// Maps and the program, verified by the kernel, for so many processors.
fn load(processors: u32) -> io::Result<(Maps, Program)> {
    let maps = Maps::new(processors)?;
    let program = Program::load("lisp", &program(&maps).map_err(io::Error::other)?)?;
    Ok((maps, program))
}

impl FastPath {
    /// Loads the program, tells it what the tables hold already, and attaches it to the interfaces of the calling
    /// thread's network namespace. Local EID-Prefixes follow by [`FastPath::local_changed`], with their routing tables.
    ///
    /// # Errors
    /// The kernel does not allow it, or is too old.
    pub(crate) fn start(
        forwarding: Arc<Forwarding>,
        surroundings: Surroundings,
    ) -> io::Result<Self> {
        let (maps, program) = load(maps::processors())?;
        let Surroundings {
            tunnel,
            locator_mtu,
            rlocs,
            ports,
            joins,
            site,
            yields,
        } = surroundings;
        let bypassed = yields.then(Bypassed::listen);
        let constants = Constants {
            tunnel,
            ports,
            joined: if joins { bursts::MANY } else { 0 },
        };
        let mut publisher = Publisher::new(maps, Arc::clone(&forwarding), locator_mtu, constants);
        publisher.rlocs(&rlocs)?;
        publisher.policy()?;
        publisher.routes(&site.current())?;
        for entry in forwarding.entries() {
            publisher.entry(&entry.prefix)?;
        }
        let mut state = State {
            publisher,
            program,
            links: Links::new()?,
            yields: bypassed.as_ref().and_then(Bypassed::found),
            broken: false,
        };
        state.sync_links()?;
        Ok(Self {
            state: Mutex::new(state),
            site,
            bypassed,
        })
    }

    /// What becomes readable when [`FastPath::bypassed_changed`] has to be called.
    pub(crate) fn bypassed(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.bypassed.iter().flat_map(Bypassed::announcements)
    }

    /// Why all packets are left to the daemon, if they are: what they would pass by.
    pub(crate) fn yields(&self) -> Option<&'static str> {
        self.state().yields
    }

    /// Somebody changed what the programs pass by: from now on, or no longer, every packet has to meet it.
    pub(crate) fn bypassed_changed(&self) {
        let Some(bypassed) = &self.bypassed else {
            return;
        };
        bypassed.drain();
        let found = bypassed.found();
        self.change("netfilter and IPsec", |state| {
            let before = std::mem::replace(&mut state.yields, found);
            match (before, found) {
                (None, Some(found)) => {
                    state.links.detach();
                    tracing::info!("there are {found} now: packets take the TUN device");
                    Ok(())
                }
                (Some(before), None) => {
                    tracing::info!(
                        "there are no {before} any more: plain packets take the kernel path"
                    );
                    state.sync_links()
                }
                _ => Ok(()),
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, what: &str, change: impl FnOnce(&mut State) -> io::Result<()>) {
        let mut state = self.state();
        if state.broken {
            return;
        }
        if let Err(error) = change(&mut state) {
            tracing::warn!(
                what,
                %error,
                "the kernel path ends: the daemon forwards every packet itself from now on"
            );
            state.broken = true;
            state.publisher.collect();
            state.links.detach();
            // The programs are at no interface any more; this is for those that still run.
            let _ = state.publisher.stop();
        }
    }

    /// A map-cache entry came, changed or went.
    pub(crate) fn entry_changed(&self, prefix: &EidPrefix) {
        self.change("map-cache", |state| state.publisher.entry(prefix));
    }

    /// A local EID-Prefix came, changed or went. Packets of its instance are led by this routing table.
    pub(crate) fn local_changed(&self, prefix: &EidPrefix, table: Option<u32>) {
        let routes = self.site.current();
        self.change("local EID-Prefix", |state| {
            state.publisher.local(prefix, table, &routes)
        });
    }

    /// The rules that hold for every packet changed.
    pub(crate) fn policy_changed(&self) {
        self.change("policy", |state| state.publisher.policy());
    }

    /// The kernel announced changes of interfaces, addresses or routes.
    pub(crate) fn surroundings_changed(&self) {
        let routes = self.site.current();
        self.change("interfaces and routes", |state| {
            state.publisher.routes(&routes)?;
            state.sync_links()
        });
    }

    /// The path MTU of a locator changed, or whether echoes are asked of it.
    pub(crate) fn rloc_changed(&self, rloc: IpAddr) {
        self.change("locator", |state| state.publisher.rloc(rloc));
    }

    /// From now on the daemon itself sends to this locator: its packets have to carry what changes from one to the next.
    pub(crate) fn keep_in_daemon(&self, rloc: IpAddr) {
        self.change("locator", |state| state.publisher.keep_in_daemon(rloc));
    }

    /// Brings the counters of the tables up to date.
    pub(crate) fn collect(&self) {
        let mut state = self.state();
        if !state.broken {
            state.publisher.collect();
        }
    }

    /// Brings the counters of one entry up to date.
    pub(crate) fn collect_entry(&self, prefix: &EidPrefix) {
        let mut state = self.state();
        if !state.broken {
            state.publisher.collect_entry(prefix);
        }
    }
}
