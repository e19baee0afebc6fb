//! Programs in nodes: started in the node's network namespace, in the lab's PID namespace, with a private view of the
//! file system; gone with the lab, whatever they do.

mod handle;
mod init;
mod log;
mod program;
mod spawner;
mod view;

pub use handle::{ProcessHandle, Stopped};
pub(crate) use log::{Log, LogPump};
pub use program::{Exit, NotSeen, Output, ProcessReport, Program};
pub(crate) use spawner::{Spawner, SpawnerOptions};
pub(crate) use view::View;
