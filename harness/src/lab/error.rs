//! What can go wrong when a lab is made or used.

use std::io;

use crate::host::HostError;
use crate::sys::netlink::NetlinkError;

/// A lab could not be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The host does not let us make namespaces.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The kernel refused something.
    #[error("{what}: {source}")]
    Kernel {
        /// What was being done.
        what: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The kernel lacks something that the topology needs.
    #[error("{what}\n  hint: {remedy}")]
    Unsupported {
        /// What is missing.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// Something was asked for that the lab does not have, or that makes no sense.
    #[error("{what}\n  hint: {hint}")]
    Usage {
        /// What was asked for.
        what: String,
        /// What would be right.
        hint: String,
    },
    /// The holder of a named lab refused something.
    #[error("{message}")]
    Remote {
        /// What it said.
        message: String,
        /// The exit code that belongs to it.
        exit_code: u8,
    },
    /// A program could not be started.
    #[error("node `{node}`: starting {program}: {reason}\n  hint: {hint}")]
    Start {
        /// The node.
        node: String,
        /// The program.
        program: String,
        /// Why not.
        reason: String,
        /// What to do.
        hint: String,
    },
}

impl LabError {
    pub(crate) fn kernel(what: impl Into<String>, source: io::Error) -> LabError {
        if matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES)) {
            return LabError::Host(HostError::forbidden(what.into(), &source));
        }
        LabError::Kernel {
            what: what.into(),
            source,
        }
    }

    pub(crate) fn usage(what: impl Into<String>, hint: impl Into<String>) -> LabError {
        LabError::Usage {
            what: what.into(),
            hint: hint.into(),
        }
    }

    /// The exit code of a command that ends with this error: 2 for a wrong request, 3 for a host that cannot do it.
    pub fn exit_code(&self) -> u8 {
        match self {
            LabError::Remote { exit_code, .. } => *exit_code,
            LabError::Usage { .. } | LabError::Start { .. } => 2,
            LabError::Host(_) | LabError::Kernel { .. } | LabError::Unsupported { .. } => 3,
        }
    }
}

impl From<NetlinkError> for LabError {
    fn from(error: NetlinkError) -> LabError {
        let what = match &error.detail {
            Some(detail) => format!("{} ({detail})", error.what),
            None => error.what,
        };
        LabError::kernel(what, error.source)
    }
}
