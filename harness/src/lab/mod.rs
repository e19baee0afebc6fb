//! A lab: a topology, built, captured, and with programs running in it.

pub(crate) mod build;
mod clock;
mod error;
mod gauge;
mod links;
mod moving;
mod ping;
mod processes;
mod rehearsal;
mod sysctls;
mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::capture::{Capture, Interface, Mark, Noise, Recording, Tap};
use crate::inline::{Cable, Inline, Relay};
use crate::sys::netns::Namespace;
use crate::topology::{NodeKind, Topology};
use build::Networks;
pub(crate) use clock::Clock;
pub use error::LabError;
use gauge::Gauge;
pub use ping::{Ping, PingError};
use processes::Processes;
pub use rehearsal::Rehearsal;
pub use watch::Watch;

/// How a lab is made.
#[derive(Debug)]
pub struct LabOptions {
    /// Whether links are captured (those that the topology does not exempt).
    pub capture: bool,
    /// Octets of packets that are kept; what comes after is counted as dropped.
    pub capture_limit: u64,
    /// Packet functions put into links.
    pub inline: Vec<Inline>,
    /// Whether all links are relayed in userspace, so that damage can be set at run time.
    pub all_inline: bool,
    /// Where the programs' outputs are also written to, one file each. The directory must exist.
    pub log_directory: Option<PathBuf>,
    /// Octets per log file.
    pub log_limit: u64,
    /// Files and directories of the host that stay visible in the nodes although they lie under /tmp or /run. Always
    /// visible are the directory of the running executable and the working directory.
    pub visible: Vec<PathBuf>,
}

impl Default for LabOptions {
    fn default() -> LabOptions {
        LabOptions {
            capture: true,
            capture_limit: 512 << 20,
            inline: Vec::new(),
            all_inline: false,
            log_directory: None,
            log_limit: 16 << 20,
            visible: Vec::new(),
        }
    }
}

/// A running lab. It may be used from several threads. Dropping it takes everything down.
pub struct Lab {
    topology: Topology,
    clock: Clock,
    marks: Mutex<Vec<Mark>>,
    moves: Mutex<Vec<moving::Move>>,
    // Dropped in this order: programs go first, the networks last.
    processes: Processes,
    relay: Option<Relay>,
    capture: Option<Capture>,
    gauge: Gauge,
    networks: Networks,
}

impl Lab {
    /// Builds a topology. When it returns, every interface is up and every link is being captured.
    ///
    /// # Errors
    /// The host forbids it, lacks something, or the options do not fit the topology. Nothing is left behind.
    pub fn up(topology: &Topology, options: LabOptions) -> Result<Lab, LabError> {
        for (number, inline) in options.inline.iter().enumerate() {
            check_inline(topology, inline)?;
            if options.inline[..number]
                .iter()
                .any(|other| other.link == inline.link)
            {
                return Err(LabError::usage(
                    format!("link `{}` was given two packet functions", inline.link),
                    "put both into one function",
                ));
            }
        }
        let relayed: Vec<bool> = topology
            .links
            .iter()
            .map(|link| {
                options.all_inline
                    || link.impair.is_some()
                    || options.inline.iter().any(|inline| inline.link == link.name)
            })
            .collect();
        allow_descriptors(topology)?;
        let networks = on_own_thread("lab-build", || build::build(topology, &|n| relayed[n]))??;
        let clock = Clock::start();
        let capture = if options.capture {
            let taps = taps(topology, &networks, &options.inline);
            let capture = Capture::start(taps, clock, options.capture_limit)
                .map_err(|error| LabError::kernel("opening the captures", error))?;
            Some(capture)
        } else {
            None
        };
        let processes = Processes::new(&options);
        let relay = relay(topology, &networks, options.inline, clock)
            .map_err(|error| LabError::kernel("starting the relay of the inline links", error))?;
        Ok(Lab {
            topology: topology.clone(),
            clock,
            marks: Mutex::new(Vec::new()),
            moves: Mutex::new(Vec::new()),
            processes,
            relay,
            capture,
            gauge: Gauge::start(clock)
                .map_err(|error| LabError::kernel("starting a thread", error))?,
            networks,
        })
    }

    /// The topology that it was built from.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The network namespace of a node.
    ///
    /// # Errors
    /// There is no such node.
    pub fn namespace(&self, node: &str) -> Result<&Namespace, LabError> {
        Ok(&self.networks.nodes[self.number(node)?])
    }

    fn number(&self, node: &str) -> Result<usize, LabError> {
        let mut nodes = self.topology.nodes.iter();
        nodes.position(|n| n.name == node).ok_or_else(|| {
            let names: Vec<&str> = self
                .topology
                .nodes
                .iter()
                .map(|n| n.name.as_str())
                .collect();
            LabError::usage(
                format!(
                    "there is no node `{node}` in the topology `{}`",
                    self.topology.name
                ),
                format!("its nodes are {}", names.join(", ")),
            )
        })
    }

    /// Runs a closure on a helper thread inside a node's network namespace, and waits for it. Sockets that it opens stay
    /// in that namespace for good, so they can be returned and used from anywhere. A panic is passed on.
    ///
    /// # Errors
    /// There is no such node, or the helper thread could not be started.
    pub fn run_in<T: Send>(
        &self,
        node: &str,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, LabError> {
        let namespace = self.namespace(node)?;
        namespace
            .run(work)
            .map_err(|error| LabError::kernel(format!("entering node `{node}`"), error))
    }

    /// Names a moment for the recording, and returns its time.
    pub fn mark(&self, text: impl Into<String>) -> u64 {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let time_ns = self.now_ns();
        marks.push(Mark {
            time_ns,
            text: text.into(),
        });
        time_ns
    }

    /// Now, in nanoseconds on the clock of the packets.
    pub fn now_ns(&self) -> u64 {
        self.clock.now()
    }

    /// How much the host has held the lab up so far.
    pub fn noise(&self) -> Noise {
        self.gauge.read()
    }

    /// Ends everything and hands over what was recorded: every packet that passed a link before the call.
    pub fn finish(mut self) -> Recording {
        let (mut packets, drops) = match &mut self.capture {
            Some(capture) => capture.finish(),
            None => Default::default(),
        };
        let noise = self.gauge.read();
        let interfaces = self
            .capture
            .as_ref()
            .map(|capture| capture.interfaces.clone());
        let mut interfaces = interfaces.unwrap_or_default();
        self.name_moves(&mut interfaces, &mut packets);
        let processes = self.processes.finish();
        Recording {
            interfaces,
            packets,
            drops,
            noise,
            marks: self
                .marks
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            processes,
        }
    }
}

/// Starts the relay of the inline links, if there are any.
fn relay(
    topology: &Topology,
    networks: &Networks,
    mut inline: Vec<Inline>,
    clock: Clock,
) -> io::Result<Option<Relay>> {
    let Some((namespace, relayed)) = &networks.wire else {
        return Ok(None);
    };
    let cables = relayed
        .iter()
        .map(|(&number, &indexes)| {
            let link = &topology.links[number];
            let found = inline.iter().position(|inline| inline.link == link.name);
            let function = found.map(|found| {
                let inline = inline.swap_remove(found);
                let victim = link.end(&inline.victim).unwrap_or_default();
                (inline.function, victim)
            });
            Cable {
                number,
                indexes,
                impairment: link.impair.clone().unwrap_or_default(),
                function,
            }
        })
        .collect();
    Relay::start(namespace, cables, clock).map(Some)
}

/// Where the links are captured: at the first end (of a link to a bridge at the other: that one stays where it is when the
/// link is moved), or at the end away from a victim.
fn taps(topology: &Topology, networks: &Networks, inline: &[Inline]) -> Vec<Tap> {
    let mut taps = Vec::new();
    for (number, link) in topology.links.iter().enumerate() {
        if !link.capture {
            continue;
        }
        let victim = inline.iter().find(|inline| inline.link == link.name);
        let is_bridge = |side: usize| {
            let node = topology.node(&link.ends[side].node);
            node.is_some_and(|node| node.kind == NodeKind::Bridge)
        };
        let side = usize::from(match victim {
            Some(inline) => link.end(&inline.victim) == Some(0),
            None => is_bridge(0) && !is_bridge(1),
        });
        let (near, far) = (&link.ends[side].node, &link.ends[1 - side].node);
        let Some(node) = topology.nodes.iter().position(|node| node.name == *near) else {
            continue;
        };
        taps.push(Tap {
            interface: Arc::new(Interface {
                name: format!("{}@{near}", link.name),
                link: link.name.clone(),
                near: near.clone(),
                far: far.clone(),
                link_type: 1,
            }),
            namespace: networks.nodes[node].clone(),
            index: networks.indexes[number][side],
            large: link.offloads || link.mtu.is_some_and(|mtu| mtu > 9000),
        });
    }
    taps
}

/// Raises the limit of open files if a large lab needs more: per node a namespace and, while it is built, two sockets; per
/// link a ring or two sockets of the relay.
fn allow_descriptors(topology: &Topology) -> Result<(), LabError> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let needed = (256 + 4 * topology.nodes.len() + 3 * topology.links.len()) as u64;
    let failed = |errno: nix::errno::Errno| {
        LabError::kernel("asking for the limit of open files", errno.into())
    };
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        return Err(LabError::Unsupported {
            what: format!("a lab of this size needs {needed} open files, and the limit is {hard}"),
            remedy:
                "raise it: ulimit -Hn, LimitNOFILE= of a service, --ulimit nofile= of a container"
                    .to_owned(),
        });
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard).map_err(failed)
}

fn check_inline(topology: &Topology, inline: &Inline) -> Result<(), LabError> {
    let Some(link) = topology.link(&inline.link) else {
        let names: Vec<&str> = topology.links.iter().map(|l| l.name.as_str()).collect();
        return Err(LabError::usage(
            format!(
                "there is no link `{}` in the topology `{}`",
                inline.link, topology.name
            ),
            format!("its links are {}", names.join(", ")),
        ));
    };
    if link.end(&inline.victim).is_none() {
        return Err(LabError::usage(
            format!(
                "node `{}` is at no end of link `{}`",
                inline.victim, link.name
            ),
            format!(
                "its ends are {} and {}",
                link.ends[0].node, link.ends[1].node
            ),
        ));
    }
    Ok(())
}

/// Runs work on a thread of its own: one that may change namespaces, and ends.
pub(crate) fn on_own_thread<T: Send>(
    name: &str,
    work: impl FnOnce() -> T + Send,
) -> Result<T, LabError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, work)
            .map_err(|error: io::Error| LabError::kernel("starting a thread", error))?;
        match thread.join() {
            Ok(result) => Ok(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
