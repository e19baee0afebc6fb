//! A lab of Linux network namespaces, from a YAML file to a recording of every packet.
//!
//! A [`Topology`] says which nodes there are, how they are linked and configured. [`Lab::up`] builds it: one network
//! namespace per node, veth pairs between them, a capture on every link. Programs run in it with [`Lab::spawn`] and
//! [`Lab::exec`], closures with [`Lab::run_in`]. [`Lab::finish`] takes everything down and hands over a [`Recording`].
//!
//! ```no_run
//! use std::time::Duration;
//! use harness::{Lab, LabOptions, Topology};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     harness::host::enter()?; // first, before any thread exists
//!     let lab = Lab::up(&Topology::load("topologies/two-sites.yaml")?, LabOptions::default())?;
//!     let ping = lab.exec("xtr-a", ["ping", "-c1", "-W1", "192.0.2.1"], Duration::from_secs(5))?;
//!     assert!(ping.exit.success());
//!     let recording = lab.finish();
//!     recording.write_pcapng(std::fs::File::create("ping.pcapng")?)?;
//!     Ok(())
//! }
//! ```
//!
//! It knows nothing of what it tests: any routing daemon can be put into it.

pub mod bench;
pub mod capture;
pub mod doctor;
pub mod host;
pub mod inline;
mod lab;
pub mod named;
pub mod pcapng;
pub mod process;
mod sys;
pub mod testing;
pub mod topology;

pub use capture::{Direction, Drops, Interface, Mark, Noise, Packet, Recording};
pub use host::HostError;
pub use inline::{Inline, LinkStatistics, PacketFate, Way};
pub use lab::{Lab, LabError, LabOptions, Ping, PingError, Rehearsal, Watch};
pub use process::{Exit, NotSeen, Output, ProcessHandle, ProcessReport, Program};
pub use sys::netns::Namespace;
pub use topology::{Topology, TopologyError};
